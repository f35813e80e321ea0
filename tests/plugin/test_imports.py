"""Importing nearhit is free of charge."""

import subprocess
import sys
from types import ModuleType

import pytest

import nearhit

HEAVY = ("torch", "litellm", "onnx", "onnxruntime", "tokenizers", "qdrant_edge", "qdrant_client")
MODULES = [
    "config",
    "request",
    "decision",
    "completion",
    "store",
    "encoder",
    "cache",
    "migrate",
    "cli",
]
PROBE = """
import sys
def refuse(event, args):
    if event == "socket.__new__":
        raise AssertionError("a socket was opened")
sys.addaudithook(refuse)
{statement}
print(",".join(sorted(name for name in {heavy!r} if name in sys.modules)))
"""


def loaded_by(statement: str, heavy: tuple[str, ...] = HEAVY) -> str:
    code = PROBE.format(statement=statement, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["nearhit", *(f"nearhit.{name}" for name in MODULES)])
def test_import_loads_no_model_runtime_no_engine_and_opens_no_socket(module: str) -> None:
    assert loaded_by(f"import {module}") == ""


def test_import_of_the_hook_loads_no_torch() -> None:
    code = "import nearhit.hook, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_package_exports_its_version_and_nothing_else() -> None:
    public = {name for name, value in vars(nearhit).items() if not isinstance(value, ModuleType)}
    assert {name for name in public if not name.startswith("__")} == set()
    assert nearhit.__version__
