"""The operator's own thresholds: found from labels, kept in one file beside the store.

DATA_DIR/calibration.json holds, for one decider (encoder and verifier), a threshold for each target
precision with the evidence for it. The proxy reads it every few seconds.
"""

import json
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from nearhit.evidence.bounds import Errors, choose_threshold, fewest_labels, labels_needed

_log = logging.getLogger("nearhit")

CALIBRATION_FILE: Final = "calibration.json"


@dataclass(frozen=True, slots=True)
class Found:
    """What labels say of a target precision.

    Attributes:
        target: share of the served that must be right.
        threshold: lowest confidence that keeps it; None: none does, as far as is known.
        is_proven: whether the labels prove it, with 95 % confidence.
        served: labelled decisions at or above it.
        wrong: those of them that are labelled wrong.
        labels: of all decisions.
        missing: about how many more labels would prove a threshold; None: it is proven, or more
            labels would not help, as too many are wrong everywhere.
    """

    target: float
    threshold: float | None
    is_proven: bool
    served: int
    wrong: int
    labels: int
    missing: int | None

    def as_text(self) -> str:
        """Say it in a sentence or two."""
        if self.threshold is None:
            more = f"; about {self.missing} more may prove one" if self.missing else ""
            return (
                f"no threshold keeps a precision of {self.target:g} on {self.labels} labels; at "
                f"least {fewest_labels(self.target)} served without a wrong one prove it{more}"
            )
        more = f"; about {self.missing} more labels may prove it" if self.missing else ""
        return (
            f"precision {self.target:g}: confidence {self.threshold:.4f} "
            f"({'proven' if self.is_proven else 'measured, not proven'}); {self.served} of "
            f"{self.labels} labelled decisions would be served, {self.wrong} of them wrong{more}"
        )


def find_threshold(
    confidence: Sequence[float], right: Sequence[bool], target: float, errors: Errors | None = None
) -> Found:
    """Find the lowest threshold that keeps a precision.

    Args:
        confidence: of each labelled decision.
        right: what it is labelled.
        target: share of the served that must be right.
        errors: of the judge: one who errs must call fewer wrong than really are.
    """
    values, is_right = np.array(confidence, np.float64), np.array(right, bool)
    asked = 1 - (errors or Errors()).said(1 - target)
    point = choose_threshold(values, is_right, asked) if len(values) else None
    threshold, is_proven = point or (None, False)
    served = values >= (threshold if threshold is not None else np.inf)
    return Found(
        target,
        threshold,
        is_proven,
        int(served.sum()),
        int((served & ~is_right).sum()),
        len(values),
        None if is_proven else labels_needed(values, is_right, asked),
    )


def write_calibration(data_dir: Path, decider: str, found: Found) -> Path:
    """Put a threshold in force, in one step; those of other targets stay."""
    path = data_dir / CALIBRATION_FILE
    document = _read(path)
    if document.get("decider") != decider:
        document = {"decider": decider, "thresholds": {}}
    entry = {**asdict(found), "made_at": int(time.time())}
    document["thresholds"][f"{found.target:g}"] = entry
    with tempfile.NamedTemporaryFile(
        "w", dir=data_dir, suffix=".unfinished", delete=False, encoding="utf-8"
    ) as draft:
        json.dump(document, draft, indent=1)
    Path(draft.name).replace(path)
    return path


def read_calibration(data_dir: Path, decider: str) -> dict[str, float]:
    """Return the operator's own thresholds for a decider, by target precision."""
    document = _read(data_dir / CALIBRATION_FILE)
    if document.get("decider") != decider:
        return {}
    return {target: float(found["threshold"]) for target, found in document["thresholds"].items()}


def _read(path: Path) -> dict[str, Any]:
    """Return the document; an empty one where there is none that can be used."""
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
        for found in document["thresholds"].values():
            float(found["threshold"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        _log.warning("%s cannot be read; the shipped thresholds hold", path)
        return {}
    return document
