"""Build the verifier's graph of an artefact, and say how far it is from float32 weights."""

import shutil
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from nearhit.encoder.blocks import Architecture, Precision
from nearhit.encoder.recipe import TOKENIZER_FILE, VERIFIER_FILE
from nearhit.encoder.session import open_session
from nearhit.encoder.tokens import open_tokenizer
from nearhit.encoder.weights import Tensors
from nearhit.errors import EncoderError
from nearhit.verifier.graph import build_graph
from nearhit.verifier.runtime import logits
from nearhit.verifier.weights import CONFIG_FILE, grow

# Measured on the shipped verifier: fp16 moves a logit by .0011, int8 by .074.
_MAX_ERROR: Final = {"fp16": 0.05, "int8": 1.0}
_PAIRS: Final = (
    ("How do I enable two-factor authentication?", "How do I disable two-factor authentication?"),
    ("How do I enable two-factor authentication?", "Where can I turn 2FA on?"),
    ("Is it safe to take ibuprofen with alcohol?", "ibuprofen and alcohol safe together"),
    ("git undo last commit", "What is the capital of Australia?"),
    (
        "My landlord kept the deposit and sent no list of damages. How long do I have to sue?",
        "how long do i have to sue my landlord who kept the deposit without a list of damages",
    ),
)
_SIMILARITY: Final = 0.8


def build_verifier(
    base: Tensors, shape: Architecture, folder: Path, precision: Precision, into: Path
) -> float:
    """Write graph and config beside the encoder's; return the largest error of a logit.

    Args:
        base: weights of the encoder's base, without its adapter.
        shape: the base's numbers.
        folder: the verifier's.
        precision: how large weights are stored.
        into: the artefact's folder, in which the tokenizer is already.

    Raises:
        EncoderError: it does not fit the base, or loses too much by its number format.
    """
    weights = grow(base, folder)
    tokenizer = open_tokenizer(into / TOKENIZER_FILE)
    separator = tokenizer.token_to_id("[SEP]")
    if separator is None:
        raise EncoderError("encoder.base tokenizer must have a token [SEP], got none; choose BERT")
    onnx.save(build_graph(weights, shape, separator, precision), into / VERIFIER_FILE)
    shutil.copyfile(folder / CONFIG_FILE, into / CONFIG_FILE)
    rows = [tokenizer.encode_batch([pair])[0] for pair in _PAIRS]
    with tempfile.TemporaryDirectory(prefix="nearhit-") as unserved:
        reference = Path(unserved) / VERIFIER_FILE
        onnx.save(build_graph(weights, shape, separator, "fp32"), reference)
        exact = [logits(open_session(reference, 1), [row], [_SIMILARITY])[0] for row in rows]
    session = open_session(into / VERIFIER_FILE, 1)
    alone = [logits(session, [row], [_SIMILARITY])[0] for row in rows]
    together = logits(session, rows, [_SIMILARITY] * len(rows))
    if not np.abs(np.array(alone) - together).max() < 1e-3:
        raise EncoderError("encoder.verifier must not depend on the batch; check the verifier")
    error = float(np.abs(np.array(alone) - exact).max())
    if not error < _MAX_ERROR[precision]:
        raise EncoderError(
            f"encoder.precision {precision} must keep each logit within {_MAX_ERROR[precision]} of "
            f"float32, got {error:.3f} with this verifier; set `encoder.precision: fp16`"
        )
    return error
