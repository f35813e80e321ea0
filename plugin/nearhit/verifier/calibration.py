"""From a verifier's logit to a probability, and to the threshold of a promised precision. Pure.

Both are fitted on held-out questions and belong to one verifier on one encoder.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from nearhit.errors import ConfigError, EncoderError
from nearhit.verifier.signals import NAMES, signals


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted mapping.

    Attributes:
        logit: weight of the verifier's logit.
        similarity: weight of the cosine between the two questions.
        shift: added to all; confidence = sigmoid(logit * l + similarity * s + signals . w + shift).
        floor: similarity below which nothing reaches any of the thresholds.
        thresholds: confidence from which the share of right answers is at least the key, by key.
        floors: similarity below which nothing reaches the threshold of the same key.
        signals: weights of what the words say, in the order of `signals.NAMES`; or none.
    """

    logit: float
    similarity: float
    shift: float
    floor: float
    thresholds: Mapping[float, float]
    floors: Mapping[float, float] = field(default_factory=dict)
    signals: tuple[float, ...] = ()

    @classmethod
    def read(cls, document: Mapping[str, Any], source: str) -> Self:
        """Read it from a manifest.

        Raises:
            EncoderError: a number is missing or is none.
        """
        try:
            thresholds = {float(k): float(v) for k, v in document["thresholds"].items()}
            floors = {float(k): float(v) for k, v in document.get("floors", {}).items()}
            weights = document.get("signals") or {}
            weighed = tuple(float(weights[name]) for name in NAMES) if weights else ()
            names = ("logit", "similarity", "shift", "floor")
            logit, similarity, shift, floor = (float(document[name]) for name in names)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EncoderError(
                f"{source} calibration must hold logit, similarity, shift, floor and thresholds, "
                f"got a fault at {error}; calibrate the verifier again"
            ) from error
        return cls(logit, similarity, shift, floor, thresholds, floors, weighed)

    def confidence(self, logit: float, similarity: float, stored: str, asked: str) -> float:
        """Return the probability that one answer serves both questions.

        Args:
            logit: of the verifier.
            similarity: cosine of the two.
            stored: the question that was answered.
            asked: the new one.
        """
        x = self.logit * logit + self.similarity * similarity + self.shift
        if self.signals:
            told = signals(stored, asked)
            x += sum(weight * value for weight, value in zip(self.signals, told, strict=True))
        if x >= 0:
            return 1 / (1 + math.exp(-x))
        grown = math.exp(x)
        return grown / (1 + grown)

    def floor_at(self, confidence: float) -> float:
        """Return the similarity below which a confidence is not worth asking for."""
        reached = [p for p, threshold in self.thresholds.items() if threshold <= confidence]
        return max((self.floors.get(p, self.floor) for p in reached), default=self.floor)

    def threshold(self, target_precision: float) -> float:
        """Return the lowest known threshold that keeps the target.

        Raises:
            ConfigError: no threshold is known to keep it.
        """
        kept = [t for precision, t in self.thresholds.items() if precision >= target_precision]
        if not kept:
            most = max(self.thresholds, default=0.0)
            raise ConfigError(
                f"target_precision must be at most {most:g} with this verifier, got "
                f"{target_precision:g}; lower it, or set confidence_threshold"
            )
        return min(kept)
