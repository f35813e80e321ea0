"""How near an artefact is to the weights it was made of, measured while it is built.

The reference is the same graph with float32 weights, which equals sentence-transformers to
1e-6 (the tests hold it to that). It is run, compared with and thrown away: no torch is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nearhit.encoder.session import embed, open_session
from nearhit.errors import EncoderError

# The lowest cosine that is let through. Measured on L6: fp16 .999999, int8 .9994; an artefact
# below has lost more than its number format costs.
FLOORS: Final = {"fp16": 0.9999, "int8": 0.995}
# Of one coordinate, between a text alone and the same text padded in a batch: measured 1e-7.
_MAX_BATCH_DIFFERENCE: Final = 1e-5
_MAX_LENGTH_ERROR: Final = 1e-4

# Of every length that is served, from two tokens up to what the encoder sees.
PROBES: Final = (
    "hi",
    "python sort list of dicts by key",
    "How do I reset the password of my account?",
    "amoxicillin 500 mg three times a day, missed one dose",
    "What is the difference between a will and a trust?",
    "Is it safe to drink alcohol while taking metformin 500 mg twice a day?",
    "git undo last commit but keep the changes in the working tree",
    "My landlord kept the whole deposit and sent no list of damages. How long do I have to sue?",
    "I wake up at 3 am every night with my heart racing and cannot fall asleep again. Is that "
    "anxiety, and what can I do about it without medication?",
    "Write a polite email to my manager that asks to move our meeting from Tuesday at 10:00 to "
    "Thursday at 14:30, because the auditors will be here on Tuesday. Keep it under 80 words.",
    "TypeError: unsupported operand type(s) for +: 'int' and 'str' in line 12 of main.py",
    "Explain the bystander effect as if I were ten years old.",
)


@dataclass(frozen=True, slots=True)
class Fidelity:
    """What was measured, on how many texts.

    Attributes:
        texts: how many texts were compared.
        cosine_min: lowest cosine of a vector to the one with float32 weights.
        cosine_mean: the mean of it.
        batch_difference: largest change of a coordinate between a text alone and in a batch.
    """

    texts: int
    cosine_min: float
    cosine_mean: float
    batch_difference: float


def measure(
    served: Path, reference: Path, rows: Sequence[Sequence[int]], precision: str
) -> Fidelity:
    """Compare a graph with its reference, and each text alone with itself in a padded batch.

    Args:
        served: the graph that will be served.
        reference: the same with float32 weights.
        rows: token ids of the texts to compare.
        precision: number format of `served`.

    Raises:
        EncoderError: the vectors are not of unit length, depend on the batch, or are too far
            from the reference.
    """
    session = open_session(served, threads=1)
    alone = _one_by_one(session, rows)
    together = embed(session, rows)
    exact = _one_by_one(open_session(reference, threads=1), rows)
    lengths = np.linalg.norm(together, axis=1)
    apart = float(np.abs(together - alone).max())
    is_unit = np.abs(lengths - 1.0).max() < _MAX_LENGTH_ERROR  # false for NaN
    if not (is_unit and apart < _MAX_BATCH_DIFFERENCE):
        raise EncoderError(
            f"encoder.base must give unit vectors that do not depend on the batch, got lengths "
            f"{lengths} and a difference of {apart}; check the base and the adapter"
        )
    cosines = (alone * exact).sum(axis=1, dtype=np.float64)
    lowest = float(cosines.min())
    if not lowest >= FLOORS[precision]:
        raise EncoderError(
            f"encoder.precision {precision} must keep each vector within a cosine of "
            f"{FLOORS[precision]} of float32, got {lowest:.5f} with this base and adapter; "
            f"set `encoder.precision: fp16`"
        )
    return Fidelity(len(rows), lowest, float(cosines.mean()), apart)


def _one_by_one(session: Any, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    return np.concatenate([embed(session, [row]) for row in rows])
