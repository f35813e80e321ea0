import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit.encoder.quantise import BLOCK, quantise_blocks, quantise_rows


def matrix(seed: int, out: int, into: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((out, into)).astype(np.float32)


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 100))
def test_blocks_keep_each_weight_to_one_step(seed: int, out: int, into: int) -> None:
    weights = matrix(seed, out, into)
    whole, scale = quantise_blocks(weights)
    assert whole.shape == (out, -(-into // BLOCK), BLOCK)
    assert scale.dtype == np.float32
    back = (whole.astype(np.float32) - 128) * scale[..., None]
    back = back.reshape(out, -1)
    # One step at the far end of the range (+128 does not exist), half a step elsewhere.
    steps = np.repeat(np.abs(scale), BLOCK, axis=1)[:, :into]
    assert (np.abs(back[:, :into] - weights) <= 1.001 * steps).all()
    assert (back[:, into:] == 0).all()


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 100))
def test_rows_keep_each_value_to_half_a_step(seed: int, rows: int, width: int) -> None:
    table = matrix(seed, rows, width)
    whole, scale = quantise_rows(table)
    assert whole.dtype == np.int8
    assert (np.abs(whole * scale - table) <= 0.501 * scale).all()


def test_zeros_stay_zeros() -> None:
    zeros = np.zeros((3, 70), np.float32)
    whole, scale = quantise_blocks(zeros)
    assert ((whole.astype(np.float32) - 128) * scale[..., None] == 0).all()
    whole_rows, row_scale = quantise_rows(zeros)
    assert (whole_rows * row_scale == 0).all()


def test_blocks_equal_those_of_the_runtimes_own_quantizer() -> None:
    state = pytest.importorskip("onnxruntime.capi._pybind_state")
    weights = matrix(7, 48, 96)
    packed = np.zeros((48, 3, BLOCK), np.uint8)
    scales = np.zeros(48 * 3, np.float32)
    zero_points = np.zeros((48, 3), np.uint8)
    columns = np.ascontiguousarray(weights.T)  # it takes (in, out)
    state.quantize_matmul_8bits(packed, columns, scales, zero_points, BLOCK, 48, 96, True)
    whole, scale = quantise_blocks(weights)
    np.testing.assert_array_equal(whole, packed)
    np.testing.assert_allclose(scale.reshape(-1), scales, rtol=1e-6)
