"""What ships of a verifier: 4 bits a number."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nearhit.encoder.weights import Tensors
from nearhit.errors import EncoderError
from nearhit.verifier.graph import HEAD
from nearhit.verifier.weights import BLOCK, WEIGHTS_FILE, grow, pack, unpack

CHANGES = arrays(np.int64, (3, 2 * BLOCK), elements=st.integers(-4000, 4000))


@given(CHANGES)
def test_packed_change_is_within_half_a_step(drawn: np.ndarray) -> None:
    change = (drawn / 1000).astype(np.float32)
    codes, scales = pack(change)
    steps = np.repeat(scales.astype(np.float32), BLOCK, axis=1)
    assert (np.abs(unpack(codes, scales) - change) <= 0.51 * steps + 4e-3 * np.abs(change)).all()


def test_change_of_zero_stays_zero() -> None:
    zero = np.zeros((2, BLOCK), np.float32)
    assert (unpack(*pack(zero)) == 0).all()


def test_bell_shaped_change_loses_less_than_one_part_in_a_hundred() -> None:
    change = np.random.default_rng(3).standard_normal((64, 4 * BLOCK)).astype(np.float32)
    error = ((unpack(*pack(change)) - change) ** 2).sum() / (change**2).sum()
    assert error < 0.01


def test_grown_weights_are_the_base_with_every_layer_changed(
    tiny_weights: Tensors, tiny_verifier: Path
) -> None:
    grown = grow(tiny_weights, tiny_verifier)
    assert set(grown) == set(tiny_weights) | set(HEAD)
    for name, value in tiny_weights.items():
        is_changed = bool((grown[name] != value).any())
        assert is_changed is name.startswith("encoder."), name
        assert np.abs(grown[name] - value).max() < 0.3


def test_file_that_was_cut_is_refused(
    tmp_path: Path, tiny_weights: Tensors, write_verifier: Any
) -> None:
    folder = write_verifier(tmp_path / "v")
    content = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(content[:-1])
    with pytest.raises(EncoderError, match="must be a safetensors file"):
        grow(tiny_weights, folder)
