"""A tiny verifier that was never trained: right in form, and its forward can be compared."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from nearhit.encoder.blocks import Architecture
from nearhit.encoder.files import sha256_file
from nearhit.encoder.recipe import Recipe, find_sources
from nearhit.encoder.weights import Tensors, read_tensors
from nearhit.verifier.graph import FEATURES
from nearhit.verifier.weights import CODES, CONFIG_FILE, SCALES, WEIGHTS_FILE, pack

WIDE = 5


@pytest.fixture(scope="session")
def tiny_shape(tiny_base: Path) -> Architecture:
    return Architecture.from_config(json.loads((tiny_base / "config.json").read_text()))


@pytest.fixture(scope="session")
def tiny_weights(tiny_base: Path) -> Tensors:
    return read_tensors(tiny_base / "model.safetensors")


WriteVerifier = Callable[..., Path]


@pytest.fixture(scope="session")
def write_verifier(
    tiny_base: Path, tiny_weights: Tensors, tiny_shape: Architecture
) -> WriteVerifier:
    """Return a function that writes a verifier grown from the tiny base into a folder."""

    def write(folder: Path, strength: float = 0.05, **document: object) -> Path:
        rng = np.random.default_rng(5)

        def drawn(*size: int) -> np.ndarray:
            return (strength * rng.standard_normal(size)).astype(np.float16)

        tensors: dict[str, np.ndarray] = {}
        for name, value in tiny_weights.items():
            if name.startswith("encoder.") and name.endswith("weight") and value.ndim == 2:
                change = drawn(*value.shape).astype(np.float32)
                tensors[name + CODES], tensors[name + SCALES] = pack(change)
            elif name.startswith("encoder."):
                tensors[name] = (value + drawn(*value.shape)).astype(np.float16)
        tensors |= {
            "wide.weight": drawn(WIDE, 3 * tiny_shape.hidden),
            "wide.bias": drawn(WIDE),
            "match.weight": drawn(WIDE, FEATURES),
            "match.bias": drawn(WIDE),
            "out.weight": 20 * drawn(1, 2 * WIDE),
            "out.bias": drawn(1),
            "scale": np.array(8, np.float16),
            "shift": np.array(-5, np.float16),
            "tokens": np.abs(drawn(tiny_shape.vocabulary, 3)) * 20,
            "centre": drawn(FEATURES),
            "spread": 1 + np.abs(drawn(FEATURES)),
        }
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / WEIGHTS_FILE)
        sources = find_sources(Recipe(base=str(tiny_base)), folder)
        described = {
            "base": sha256_file(tiny_base / "model.safetensors"),
            "encoder": dict(sources.digests),
            "max_tokens": 64,
            "calibration": {
                "logit": 1.0,
                "similarity": 0.0,
                "shift": 0.0,
                "floor": 0.3,
                "thresholds": {"0.9": 0.6, "0.99": 0.9},
            },
        }
        (folder / CONFIG_FILE).write_text(json.dumps(described | document))
        return folder

    return write


@pytest.fixture(scope="session")
def tiny_verifier(tmp_path_factory: pytest.TempPathFactory, write_verifier: WriteVerifier) -> Path:
    return write_verifier(tmp_path_factory.mktemp("verifier") / "v")
