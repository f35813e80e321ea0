import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nearhit.encoder.artefact import (
    MANIFEST_FILE,
    Artefact,
    build_artefact,
    ensure_artefact,
    load_artefact,
)
from nearhit.encoder.files import sha256_file
from nearhit.encoder.recipe import GRAPH_FILE, TOKENIZER_FILE, Recipe
from nearhit.errors import EncoderError

WriteBase = Callable[..., Path]
QUERY = "encoder.layer.0.attention.self.query"


def write_adapter(folder: Path, seed: int) -> Path:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    config |= {"target_modules": [QUERY]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    random = np.random.default_rng(seed)
    tensors = {
        f"base_model.model.{QUERY}.lora_{side}.weight": random.standard_normal(shape, np.float32)
        for side, shape in (("A", (2, 32)), ("B", (32, 2)))
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_artefact_says_what_it_is_made_of(tiny_artefact: Artefact, tiny_base: Path) -> None:
    manifest = tiny_artefact.manifest
    assert tiny_artefact.path.name == manifest.fingerprint[:16]
    assert names_in(tiny_artefact.path) == [GRAPH_FILE, MANIFEST_FILE, TOKENIZER_FILE]
    assert manifest.inputs == {
        name: sha256_file(tiny_base / name)
        for name in ("config.json", "tokenizer.json", "model.safetensors")
    }
    assert manifest.outputs == {
        name: sha256_file(tiny_artefact.path / name) for name in (GRAPH_FILE, TOKENIZER_FILE)
    }
    assert (manifest.dimension, manifest.max_tokens) == (32, 256)
    assert (manifest.precision, manifest.multilingual) == ("fp16", False)
    assert manifest.parameters["adapter"] == 0
    assert 0.9999 <= manifest.fidelity["cosine_min"] <= manifest.fidelity["cosine_mean"] <= 1.0001
    assert manifest.fidelity["batch_difference"] < 1e-5


def test_second_call_returns_what_the_first_built(tmp_path: Path, tiny_base: Path) -> None:
    first = ensure_artefact(tmp_path, base=str(tiny_base))
    built = (first.path / GRAPH_FILE).stat()
    second = ensure_artefact(tmp_path, base=str(tiny_base))
    assert second == first
    assert (second.path / GRAPH_FILE).stat() == built


def test_base_adapter_and_tokenizer_each_change_the_fingerprint(
    tmp_path: Path, tiny_base: Path, write_base: WriteBase
) -> None:
    other = write_base(tmp_path / "other", seed=1)
    retokenized = tmp_path / "retokenized"
    shutil.copytree(tiny_base, retokenized)
    tokenizer = json.loads((retokenized / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (retokenized / "tokenizer.json").write_text(json.dumps(tokenizer))
    one, two = (write_adapter(tmp_path / f"adapter{seed}", seed) for seed in (1, 2))
    artefacts = [
        ensure_artefact(tmp_path / "data", base=str(base), adapter=adapter)
        for base, adapter in [
            (tiny_base, None),
            (other, None),
            (retokenized, None),
            (tiny_base, one),
            (tiny_base, two),
        ]
    ]
    assert len({artefact.manifest.fingerprint for artefact in artefacts}) == 5
    graphs = [sha256_file(artefact.path / GRAPH_FILE) for artefact in artefacts]
    assert len(set(graphs)) == 4  # the third differs in its tokenizer only


def test_precision_and_languages_each_change_the_fingerprint(
    tmp_path: Path, tiny_base: Path, tiny_artefact: Artefact
) -> None:
    small = ensure_artefact(tmp_path, base=str(tiny_base), precision="int8")
    wide = ensure_artefact(tmp_path, base=str(tiny_base), multilingual=True)
    assert (small.manifest.precision, wide.manifest.multilingual) == ("int8", True)
    artefacts = (tiny_artefact, small, wide)
    assert len({artefact.manifest.fingerprint for artefact in artefacts}) == 3
    assert wide.manifest.outputs == tiny_artefact.manifest.outputs


def test_adapters_parameters_are_counted(tmp_path: Path, tiny_base: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", seed=1)
    artefact = ensure_artefact(tmp_path / "data", base=str(tiny_base), adapter=adapter)
    weights = load_file(tiny_base / "model.safetensors")
    assert artefact.manifest.parameters == {
        "base": sum(tensor.size for tensor in weights.values()),
        "adapter": 2 * 2 * 32,
    }


def test_artefact_of_its_own_folder_can_be_moved_and_loaded(
    tmp_path: Path, tiny_base: Path, tiny_artefact: Artefact
) -> None:
    out = tmp_path / "out"
    built = build_artefact(Recipe(base=str(tiny_base)), tmp_path / "data", out)
    assert built.manifest.fingerprint == tiny_artefact.manifest.fingerprint
    assert names_in(tmp_path) == ["out"]
    out.rename(tmp_path / "moved")
    assert load_artefact(tmp_path / "moved").manifest == built.manifest


def test_building_again_replaces_an_artefact_and_nothing_else(
    tmp_path: Path, tiny_base: Path
) -> None:
    recipe = Recipe(base=str(tiny_base))
    first = build_artefact(recipe, tmp_path / "data", tmp_path / "out")
    assert build_artefact(recipe, tmp_path / "data", tmp_path / "out") == first
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(EncoderError, match="--out must be a new folder or an earlier artefact"):
        build_artefact(recipe, tmp_path / "data", tmp_path / "letters")
    assert names_in(tmp_path / "letters") == ["a.txt"]


@pytest.mark.parametrize("file", [GRAPH_FILE, TOKENIZER_FILE, MANIFEST_FILE])
def test_copy_of_an_artefact_that_is_damaged_is_refused(
    tmp_path: Path, tiny_artefact: Artefact, file: str
) -> None:
    shutil.copytree(tiny_artefact.path, tmp_path / "copy")
    (tmp_path / "copy" / file).write_bytes(b"{}")
    with pytest.raises(EncoderError, match=r"encoder.artefact must be a folder"):
        load_artefact(tmp_path / "copy")


def test_precision_that_loses_too_much_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    weights = load_file(tiny_base / "model.safetensors")
    for name, tensor in weights.items():
        if name.endswith("dense.weight"):  # one outlier a block leaves the others no digits
            tensor[:, ::32] *= 3000.0
    save_file(weights, base / "model.safetensors")
    with pytest.raises(EncoderError, match=r"set `encoder.precision: fp16`"):
        ensure_artefact(tmp_path / "data", base=str(base), precision="int8")


def test_same_files_in_another_folder_have_the_same_fingerprint(
    tmp_path: Path, tiny_base: Path, tiny_artefact: Artefact
) -> None:
    shutil.copytree(tiny_base, tmp_path / "copy")
    artefact = ensure_artefact(tmp_path / "data", base=str(tmp_path / "copy"))
    assert artefact.manifest.fingerprint == tiny_artefact.manifest.fingerprint


@pytest.mark.parametrize("file", [GRAPH_FILE, TOKENIZER_FILE, MANIFEST_FILE])
@pytest.mark.parametrize("damage", ["truncated", "altered", "gone"])
def test_damaged_artefact_is_built_again(
    tmp_path: Path, tiny_artefact: Artefact, tiny_base: Path, file: str, damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    folder = tmp_path / "artefacts" / tiny_artefact.path.name
    shutil.copytree(tiny_artefact.path, folder)
    content = (folder / file).read_bytes()
    if damage == "gone":
        (folder / file).unlink()
    else:
        half = content[: len(content) // 2]
        (folder / file).write_bytes(half if damage == "truncated" else b"{" + content[1:-1] + b"!")
    with caplog.at_level(logging.WARNING):
        artefact = ensure_artefact(tmp_path, base=str(tiny_base))
    assert "damaged and will be built again" in caplog.text
    assert artefact.manifest.outputs == tiny_artefact.manifest.outputs
    assert sha256_file(folder / GRAPH_FILE) == artefact.manifest.outputs[GRAPH_FILE]
    assert names_in(folder.parent) == [".lock", folder.name]


def test_what_a_dead_builder_left_is_cleared(tmp_path: Path, tiny_base: Path) -> None:
    leftover = tmp_path / "artefacts" / ".unfinished-abc"
    leftover.mkdir(parents=True)
    (leftover / GRAPH_FILE).write_bytes(b"half")
    artefact = ensure_artefact(tmp_path, base=str(tiny_base))
    assert names_in(tmp_path / "artefacts") == [".lock", artefact.path.name]


def test_build_that_fails_leaves_nothing_behind(tmp_path: Path, tiny_base: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_base, broken)
    weights = load_file(tiny_base / "model.safetensors")
    del weights["encoder.layer.1.output.dense.bias"]
    save_file(weights, broken / "model.safetensors")
    with pytest.raises(EncoderError, match=r"encoder.layer.1.output.dense.bias must have shape"):
        ensure_artefact(tmp_path / "data", base=str(broken))
    assert names_in(tmp_path / "data" / "artefacts") == [".lock"]


def test_weights_under_a_bert_prefix_give_the_same_graph(
    tmp_path: Path, tiny_base: Path, tiny_artefact: Artefact
) -> None:
    prefixed = tmp_path / "prefixed"
    shutil.copytree(tiny_base, prefixed)
    weights = load_file(tiny_base / "model.safetensors")
    save_file({f"bert.{n}": w for n, w in weights.items()}, prefixed / "model.safetensors")
    artefact = ensure_artefact(tmp_path / "data", base=str(prefixed))
    assert artefact.manifest.outputs == tiny_artefact.manifest.outputs


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", lambda c: c | {"model_type": "gpt2"}, "must be 'bert', got 'gpt2'"),
        ("config.json", lambda c: c | {"max_position_embeddings": 128}, "must take 256 tokens"),
        ("config.json", lambda c: [c], "must be a JSON object"),
        (
            "tokenizer.json",
            lambda t: t | {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}},
            "must be a WordPiece tokenizer, got WordLevel",
        ),
        ("tokenizer.json", lambda t: {}, "must be a tokenizer"),
    ],
)
def test_base_that_is_no_bert_is_refused(
    tmp_path: Path, tiny_base: Path, file: str, change: Callable[[Any], Any], message: str
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    (base / file).write_text(json.dumps(change(json.loads((base / file).read_text()))))
    with pytest.raises(EncoderError, match=message):
        ensure_artefact(tmp_path / "data", base=str(base))


def test_weights_that_give_no_unit_vectors_are_refused(tmp_path: Path, tiny_base: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    weights = load_file(tiny_base / "model.safetensors")
    last = "encoder.layer.1.output.LayerNorm.weight"
    weights[last] = np.full_like(weights[last], np.nan)
    save_file(weights, base / "model.safetensors")
    with pytest.raises(EncoderError, match="must give unit vectors"):
        ensure_artefact(tmp_path / "data", base=str(base))


def test_four_processes_at_once_get_one_artefact(tmp_path: Path, tiny_base: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from nearhit.encoder.artefact import *; "
        "from nearhit.encoder.runtime import OnnxEncoder; "
        "a = ensure_artefact(Path(sys.argv[1]), base=sys.argv[2]); OnnxEncoder.load(a); "
        "print(a.manifest.fingerprint, a.manifest.outputs)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "data"), str(tiny_base)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    printed = {process.communicate(timeout=60)[0] for process in started}
    assert [process.returncode for process in started] == [0] * 4
    assert len(printed) == 1
    assert len(names_in(tmp_path / "data" / "artefacts")) == 2  # the lock and the artefact


def test_default_artefact_needs_no_base_once_it_is_built(
    tmp_path: Path, real_artefact: Artefact
) -> None:
    (tmp_path / "artefacts").mkdir()
    (tmp_path / "artefacts" / real_artefact.path.name).symlink_to(real_artefact.path)
    assert ensure_artefact(tmp_path).manifest == real_artefact.manifest
    assert names_in(tmp_path) == ["artefacts"]
