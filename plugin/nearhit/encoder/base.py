"""What an encoder is, whatever runs it.

A text that an encoder cannot tell apart from another is not given a vector at all: a vector
that looks right and is not would be a wrong answer served.
"""

from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float32]
"""float32 (dimension,), unit length: the dot product of two is their similarity."""

DIMENSION: Final = 384
"""Of every vector in the store that the proxy uses: that of the MiniLM family."""

Reason: TypeAlias = Literal["too_long", "unknown_tokens", "empty", "other_language"]


@dataclass(frozen=True, slots=True)
class Unencodable:
    """A text that has no trustworthy vector and may be matched exactly only.

    Attributes:
        reason: ``too_long``: more tokens than the encoder sees, so two texts that differ only
            in their end would be equal. ``unknown_tokens``: a word outside the vocabulary (a
            hash, a long URL, another script), and any two such words would be equal.
            ``empty``: no token at all. ``other_language``: the encoder was trained for English,
            and in other languages it takes a question for its opposite.
    """

    reason: Reason


Encoding: TypeAlias = Vector | Unencodable


class Encoder(Protocol):
    """Gives each text its vector; called on the event loop, never works on it."""

    @property
    def fingerprint(self) -> str:
        """Id of weights, number format, tokenizer and limits: 64 hexadecimal digits.

        Vectors of two fingerprints must never be compared.
        """
        ...

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        ...

    async def encode(self, text: str, owner: str = "") -> Encoding:
        """Encode one text.

        Args:
            text: what is encoded.
            owner: whose it is; what is remembered of one owner's texts shortens no other's answer,
                since its time would tell that the text was asked before.

        Returns:
            float32 (dimension,) of unit length, or why there is none.

        Raises:
            EncoderBusy: too many texts wait already.
            EncoderError: the encoder is closed or failed.
        """
        ...

    async def close(self) -> None:
        """Free what the encoder holds; texts that still wait get an EncoderError."""
        ...
