import subprocess
import sys

import pytest

HEAVY = {"torch", "onnx", "onnxruntime", "tokenizers", "safetensors", "huggingface_hub"}


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_seam_imports_nothing_heavy() -> None:
    assert not loaded_by("import nearhit.encoder") & HEAVY


@pytest.mark.parametrize("module", ["artefact", "runtime"])
def test_serving_imports_neither_torch_nor_the_graph_builder(module: str) -> None:
    loaded = loaded_by(f"import nearhit.encoder.{module}")
    assert not loaded & {"torch", "onnx", "transformers", "sentence_transformers"}
