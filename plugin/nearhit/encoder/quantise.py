"""Weights as 8-bit integers, in the two forms that ONNX Runtime computes with.

Both are chosen so that a text's vector does not depend on what else is in its batch: the scales
belong to the weights and to single rows of activations, never to a whole tensor. (Dynamic int8
is twice as fast and moved a text's vector by .06 with its neighbours.) Written here in numpy,
bit for bit what onnxruntime's own quantizer writes, which would need one more package.

Source: MatMulNBits, the ONNX Runtime contrib operator documentation (ContribOperators.md).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

# 32 weights share a scale. 128 would be 0.87 of the time, but depends on the batch by .009.
BLOCK: Final = 32
_ZERO: Final = 128  # the stored value of a weight that is 0

Floats = NDArray[np.float32]


def quantise_blocks(matrix: Floats) -> tuple[NDArray[np.uint8], Floats]:
    """Quantise a matrix of a product.

    Args:
        matrix: float32 (out, in).

    Returns:
        uint8 (out, blocks, `BLOCK`), 128 standing for 0, and float32 (out, blocks), by which
        each block is multiplied; `in` is filled up with zeros to whole blocks.
    """
    out, into = matrix.shape
    blocks = -(-into // BLOCK)
    padded = np.zeros((out, blocks * BLOCK), np.float32)
    padded[:, :into] = matrix
    padded = padded.reshape(out, blocks, BLOCK)
    # The value of the largest magnitude, with its sign, becomes -128: all of the range is used.
    index = np.abs(padded).argmax(-1, keepdims=True)
    scale = np.take_along_axis(padded, index, -1) / np.float32(-_ZERO)
    with np.errstate(divide="ignore"):
        inverse = np.where(scale == 0, np.float32(0), np.float32(1) / scale)
    rounded = np.floor(padded * inverse + np.float32(_ZERO + 0.5))
    return rounded.clip(0, 255).astype(np.uint8), scale[..., 0].astype(np.float32)


def quantise_rows(table: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Quantise a table that rows are looked up in.

    Args:
        table: float32 (rows, width).

    Returns:
        int8 (rows, width), and float32 (rows, 1), by which each row is multiplied.
    """
    scale = np.abs(table).max(-1, keepdims=True) / np.float32(127)
    divisor = np.where(scale == 0, np.float32(1), scale)
    return np.rint(table / divisor).astype(np.int8), scale.astype(np.float32)
