"""What of a verifier ships: changes to the encoder's base, and a head.

A folder with ``verifier.json`` and ``verifier.safetensors``. Of each linear layer of the
transformer the file holds what training changed, in 4 bits: ``<name>.codes``, uint8
(out, in / 2), and ``<name>.scales``, float16 (out, in / 32); see `pack`. Every other tensor takes
the place of the base's of that name, or belongs to the head. The word table is the base's.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from nearhit.encoder.weights import Tensors
from nearhit.errors import EncoderError
from nearhit.verifier.calibration import Calibration

CONFIG_FILE: Final = "verifier.json"
WEIGHTS_FILE: Final = "verifier.safetensors"
VERIFIER_FILES: Final = (CONFIG_FILE, WEIGHTS_FILE)
CODES: Final = ".codes"
SCALES: Final = ".scales"
BLOCK: Final = 32  # numbers that share a scale
_ZERO: Final = 8  # the code of a change of 0


@dataclass(frozen=True, slots=True)
class Description:
    """What a verifier's config says.

    Attributes:
        base: sha256 of the base's ``model.safetensors`` that it was grown from.
        encoder: sha256 of each file of the encoder whose cosine it expects.
        max_tokens: longest pair that it was trained on and is asked about, in tokens.
        calibration: see `Calibration`.
    """

    base: str
    encoder: Mapping[str, str]
    max_tokens: int
    calibration: Calibration


def read_description(folder: Path) -> Description:
    """Read a verifier's config.

    Raises:
        EncoderError: there is none, or something is missing in it.
    """
    path = folder / CONFIG_FILE
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return Description(
            base=str(document["base"]),
            encoder=dict(document["encoder"]),
            max_tokens=int(document["max_tokens"]),
            calibration=Calibration.read(document["calibration"], str(path)),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(
            f"encoder.verifier must be a folder with {CONFIG_FILE}, got {folder} "
            f"({type(error).__name__}: {error}); train one with `nearhit-train verifier`"
        ) from error


def grow(base: Tensors, folder: Path) -> Tensors:
    """Return the base's weights with the verifier's changes, and its head's.

    Raises:
        EncoderError: a tensor does not belong to the base.
    """
    grown = dict(base)
    try:
        changes = load_file(folder / WEIGHTS_FILE)
    except (SafetensorError, OSError) as error:
        raise EncoderError(
            f"{folder / WEIGHTS_FILE} must be a safetensors file, got one that cannot be read "
            f"({error}); copy it again"
        ) from error
    for name, value in changes.items():
        if name.endswith(SCALES):
            continue
        if not name.endswith(CODES):
            grown[name] = value.astype(np.float32)
            continue
        target = name.removesuffix(CODES)
        scales = changes.get(target + SCALES)
        fits = target in base and base[target].shape == (len(value), 2 * value.shape[1])
        if scales is None or not fits:
            raise EncoderError(
                f"{folder / WEIGHTS_FILE} {name} must fit the base, got shape {value.shape}; "
                f"use the base that the verifier was grown from"
            )
        grown[target] = base[target].astype(np.float32) + unpack(value, scales)
    return grown


def pack(change: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Write a change of weights in 4 bits a number.

    Of the shipped verifier's changes the error is 0.9 % of their squared size. A product of rank
    64, which takes as much room, lost 26 % of them after 400 steps of training.

    Args:
        change: float32 (out, in), `in` a multiple of `BLOCK`.

    Returns:
        Codes, uint8 (out, in / 2), two numbers a byte, the first in the low half; and scales,
        float16 (out, in / BLOCK). A number is (code - 8) * scale.
    """
    out, into = change.shape
    blocks = change.reshape(out, into // BLOCK, BLOCK)
    scales = (np.abs(blocks).max(-1) / (_ZERO - 1)).astype(np.float16)
    divisor = np.where(scales > 0, scales, 1).astype(np.float32)[..., None]
    whole = np.rint(blocks / divisor).clip(1 - _ZERO, _ZERO - 1).astype(np.int64) + _ZERO
    codes = whole.reshape(out, into).astype(np.uint8)
    return codes[:, 0::2] | (codes[:, 1::2] << 4), scales


def unpack(codes: NDArray[np.uint8], scales: NDArray[np.float16]) -> NDArray[np.float32]:
    """Read what `pack` wrote: float32 (out, in)."""
    out, half = codes.shape
    whole = np.stack([codes & 15, codes >> 4], -1).reshape(out, 2 * half).astype(np.float32)
    return (whole - _ZERO) * np.repeat(scales.astype(np.float32), BLOCK, axis=1)
