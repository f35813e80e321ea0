import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nearhit.encoder.lora import ADAPTER_FILES, LoraConfig, count_parameters, merge_adapter
from nearhit.encoder.weights import Tensors
from nearhit.errors import EncoderError

QUERY, VALUE = (f"encoder.layer.0.attention.self.{part}" for part in ("query", "value"))


@pytest.fixture
def base() -> Tensors:
    random = np.random.default_rng(3)
    return {f"{m}.weight": random.standard_normal((6, 6), np.float32) for m in (QUERY, VALUE)}


def write_adapter(folder: Path, drop: str = "", **changes: Any) -> Path:
    """An adapter of rank 2 on query and value, as peft writes it."""
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"}
    config |= {"target_modules": ["query", "value"], **changes}
    (folder / ADAPTER_FILES[0]).write_text(json.dumps(config))
    random = np.random.default_rng(5)
    tensors = {}
    for module in (QUERY, VALUE):
        prefix = f"base_model.model.{module}"
        tensors[f"{prefix}.lora_A.weight"] = random.standard_normal((2, 6), np.float32)
        tensors[f"{prefix}.lora_B.weight"] = random.standard_normal((6, 2), np.float32)
    save_file({n: t for n, t in tensors.items() if n != drop}, folder / ADAPTER_FILES[1])
    return folder


@pytest.mark.parametrize(("rslora", "scale"), [(False, 2.0), (True, 4 / 2**0.5)])
def test_merge_adds_the_scaled_product(
    tmp_path: Path, base: Tensors, rslora: bool, scale: float
) -> None:
    adapter = write_adapter(tmp_path / "a", use_rslora=rslora)
    tensors = load_file(adapter / ADAPTER_FILES[1])
    before = {name: tensor.copy() for name, tensor in base.items()}
    merged = merge_adapter(base, adapter)
    for module in (QUERY, VALUE):
        down = tensors[f"base_model.model.{module}.lora_A.weight"]
        up = tensors[f"base_model.model.{module}.lora_B.weight"]
        expected = before[f"{module}.weight"] + scale * up @ down
        np.testing.assert_allclose(merged[f"{module}.weight"], expected, atol=1e-5)
        np.testing.assert_array_equal(base[f"{module}.weight"], before[f"{module}.weight"])


def test_missing_key_is_named(tmp_path: Path, base: Tensors) -> None:
    adapter = write_adapter(tmp_path / "a", drop=f"base_model.model.{VALUE}.lora_B.weight")
    with pytest.raises(EncoderError, match=rf"1 keys missing \['{VALUE}.lora_B.weight'\] and 0"):
        merge_adapter(base, adapter)


def test_unexpected_keys_are_named(tmp_path: Path, base: Tensors) -> None:
    adapter = write_adapter(tmp_path / "a", target_modules=["query"])
    with pytest.raises(EncoderError, match=rf"2 unexpected \['{VALUE}.lora_A.weight', "):
        merge_adapter(base, adapter)


def test_adapter_of_another_width_is_refused(tmp_path: Path) -> None:
    wider = {f"{m}.weight": np.zeros((8, 8), np.float32) for m in (QUERY, VALUE)}
    with pytest.raises(EncoderError, match=r"must fit .*query \(8, 8\) at rank 2, got A \(2, 6\)"):
        merge_adapter(wider, write_adapter(tmp_path / "a"))


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "LOHA"},
        {"bias": "all"},
        {"use_dora": True},
        {"fan_in_fan_out": True},
        {"modules_to_save": ["pooler"]},
        {"init_lora_weights": "pissa"},
        {"layers_to_transform": [0]},
    ],
)
def test_more_than_plain_lora_is_refused(
    tmp_path: Path, base: Tensors, changes: dict[str, Any]
) -> None:
    (name,) = changes
    with pytest.raises(EncoderError, match=f"plain LoRA, got {name}="):
        merge_adapter(base, write_adapter(tmp_path / "a", **changes))


def test_config_that_cannot_be_read_is_refused(tmp_path: Path, base: Tensors) -> None:
    adapter = write_adapter(tmp_path / "a")
    (adapter / ADAPTER_FILES[0]).write_text("{}")
    with pytest.raises(EncoderError, match="config of a LoRA adapter"):
        merge_adapter(base, adapter)


@pytest.mark.filterwarnings("ignore")  # torch's and peft's own
@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": ["query", "value"]},
        {"target_modules": ["query", "key", "value", "dense"], "use_rslora": True},
        {
            "target_modules": ["query", "dense"],
            "rank_pattern": {"layer.1.attention.self.query": 3},
            "alpha_pattern": {"output.dense": 5},
        },
        {"target_modules": r"encoder\.layer\.1\..*\.(query|value)"},
    ],
    ids=["query-value", "all-rslora", "patterns", "regex"],
)
def test_merge_equals_peft(tmp_path: Path, changes: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason="compares with peft, which needs torch")
    peft = pytest.importorskip("peft", reason="compares with peft")
    transformers = pytest.importorskip("transformers", reason="compares with peft")
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
    )
    model = transformers.BertModel(config)
    base = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(r=4, lora_alpha=6, init_lora_weights=False, **changes)
    )
    adapted.save_pretrained(tmp_path)
    expected = adapted.merge_and_unload().state_dict()
    merged = merge_adapter(base, tmp_path)
    assert merged.keys() == expected.keys()
    assert any((merged[name] != base[name]).any() for name in base)
    for name, tensor in expected.items():
        np.testing.assert_allclose(merged[name], tensor.numpy(), atol=1e-6)


@pytest.mark.skipif(
    "NEARHIT_TEST_ADAPTERS" not in os.environ,
    reason="NEARHIT_TEST_ADAPTERS names no folder of published L12 adapters",
)
def test_published_adapters_fit_their_base() -> None:
    adapters = sorted(
        path.parent
        for path in Path(os.environ["NEARHIT_TEST_ADAPTERS"]).glob("*/adapter_config.json")
    )
    assert adapters
    square, up, down = ((384, 384), (1536, 384), (384, 1536))
    parts = {f"attention.self.{part}": square for part in ("query", "key", "value")}
    parts |= {"attention.output.dense": square, "intermediate.dense": up, "output.dense": down}
    base = {
        f"encoder.layer.{index}.{part}.weight": np.zeros(shape, np.float32)
        for index in range(12)
        for part, shape in parts.items()
    }
    for adapter in adapters:
        merged = merge_adapter(base, adapter)
        changed = {name for name, weight in merged.items() if weight.any()}
        assert changed == {n for n in base if n.endswith(("query.weight", "value.weight"))}
        parameters = count_parameters(adapter)
        # The whole model, embeddings and pooler included, has 33,360,000 besides.
        share = 100 * parameters / (parameters + 33_360_000)
        alpha = LoraConfig.read(adapter / ADAPTER_FILES[0]).alpha
        print(f"{adapter.name}: {parameters:,} parameters, {share:.2f} %, alpha {alpha:g}")
        assert (parameters, f"{share:.2f}") == (147_456, "0.44")
        assert alpha == 32  # the published card says 16; the file is what was trained


def test_copy_of_an_adapter_that_lost_bytes_is_refused(tmp_path: Path, base: Tensors) -> None:
    adapter = write_adapter(tmp_path / "a")
    damaged = tmp_path / "b"
    shutil.copytree(adapter, damaged)
    content = (adapter / ADAPTER_FILES[1]).read_bytes()
    (damaged / ADAPTER_FILES[1]).write_bytes(content[:-1])
    with pytest.raises(EncoderError, match="cannot be read"):
        merge_adapter(base, damaged)
