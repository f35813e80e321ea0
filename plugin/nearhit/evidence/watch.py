"""What the evidence means for the next question.

Quarantine: an entry that served a question wrongly does not serve it again, nor any question that
is nearer to that one than to the entry's own.

Tightening: where a random sample of served answers proves that more are wrong than
`target_precision` allows, the threshold rises to where the sample no longer says so; where there is
no such place, nothing is served by meaning. Old labels fade, so that after a while some are served,
and sampled, again.

The operator's own calibration (`nearhit calibrate`) takes the place of the shipped thresholds.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nearhit.config import Settings
from nearhit.decision import QUARANTINE, Candidate, Hit, Miss, decide
from nearhit.evidence.bounds import Errors, Share, wrong_share
from nearhit.evidence.calibration import read_calibration
from nearhit.evidence.flushes import EVERYTHING, read_flushes
from nearhit.evidence.journal import Journal, Verified
from nearhit.metrics import LIVE_WRONG_SHARE, QUARANTINED, TIGHTENED
from nearhit.store.base import Vector

_log = logging.getLogger("nearhit")

HALF_LIFE_S: Final = 7 * 86_400  # of a label: traffic drifts
NEVER: Final = 2.0  # no confidence is that high
_LABELS: Final = 2_000  # newest ones that are looked at
_FADE_S: Final = 60.0  # between looks at an unchanged sample, whose labels fade
_FEWEST_WRONG: Final = 3  # below that, looking again and again would find chance sooner or later
_NONE: Final = Share(0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed until the next look.

    Attributes:
        quarantine: vectors of questions, float32 (n, d), by the entry that must not serve them.
        calibrated: the operator's own thresholds, by target precision as the file has it.
        tightened: threshold that the live sample asks for; 0: it asks for none.
        live: share of wrong answers among the served, by the live sample.
        flushes: Unix seconds up to which answers do not count, as `flushes.read_flushes` has them.
    """

    quarantine: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    calibrated: dict[str, float] = field(default_factory=dict)
    tightened: float = 0.0
    live: Share = _NONE
    flushes: dict[str, int] = field(default_factory=dict)


class Watch:
    """Reads the journal now and then; answers at once from what it read last."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._clock = clock
        self.belief = Belief()
        self._sample: list[Verified] = []
        self._looked_at = 0.0

    def flushed_at(self, tenant: str, model: str, text: str = "") -> int:
        """Return the Unix second up to which answers do not count.

        Args:
            tenant: digest of who asks.
            model: the model group that is asked.
            text: digest of the stored question.
        """
        flushes = self.belief.flushes
        names = (f"tenant:{tenant}", f"model:{model}", f"text:{text}", EVERYTHING)
        return max(flushes.get(name, 0) for name in names)

    def obey_flushes(self) -> None:
        """Read the marks: before the first answer, and now and then.

        Raises:
            OSError: they cannot be read.
        """
        self.belief = replace(self.belief, flushes=read_flushes(self.settings.data_dir))

    def decide(
        self, candidates: Sequence[Candidate], shipped: float, settings: Settings
    ) -> Hit | Miss:
        """Choose among candidates by the threshold in force; ``tightened``: it alone forbade it.

        Args:
            candidates: as for `decision.decide`.
            shipped: the threshold that settings and artefact ask for.
            settings: of the model group that is asked.
        """
        outcome = decide(candidates, self._untightened(shipped, settings))
        if isinstance(outcome, Hit) and outcome.confidence < self.threshold(shipped, settings):
            return Miss("tightened", outcome.similarity, outcome.confidence)
        return outcome

    def threshold(self, shipped: float, settings: Settings) -> float:
        """Return the confidence from which a candidate is served; arguments as in `decide`."""
        is_own = settings.confidence_threshold != self.settings.confidence_threshold
        is_own |= settings.target_precision != self.settings.target_precision
        # A model group with a target or threshold of its own is not held to that of the others.
        tightened = 0.0 if is_own else self.belief.tightened
        return max(self._untightened(shipped, settings), tightened)

    def _untightened(self, shipped: float, settings: Settings) -> float:
        if settings.confidence_threshold is not None or settings.similarity_threshold is not None:
            return shipped
        return self.belief.calibrated.get(f"{settings.target_precision:g}", shipped)

    def forbid(self, candidates: Sequence[Candidate], asked: Vector) -> tuple[Candidate, ...]:
        """Put a veto on what is quarantined for this question.

        Args:
            candidates: of one question.
            asked: its vector.
        """
        if not self.belief.quarantine:
            return tuple(candidates)
        return tuple(
            replace(one, veto=QUARANTINE) if self._is_quarantined(one, asked) else one
            for one in candidates
        )

    def _is_quarantined(self, candidate: Candidate, asked: Vector) -> bool:
        near = self.belief.quarantine.get(str(candidate.entry.id))
        if near is None:
            return False
        # Stored in half precision: the very question may come out a little below 1.
        return bool((near @ asked).max() >= min(candidate.similarity, 0.999))

    def look(self, journal: Journal, decider: str, shipped: float) -> None:
        """Read the journal and the calibration. Blocks: call it in a thread.

        Args:
            journal: the decisions.
            decider: encoder and verifier in force; what others decided says nothing here.
            shipped: as in `decide`.
        """
        grouped: dict[str, list[Vector]] = {}
        for one in journal.quarantined(decider):
            grouped.setdefault(one.entry, []).append(one.vector)
        quarantine = {entry: np.stack(vectors) for entry, vectors in grouped.items()}
        calibrated = read_calibration(self.settings.data_dir, decider)
        self.belief = replace(self.belief, quarantine=quarantine, calibrated=calibrated)
        QUARANTINED.set(sum(map(len, grouped.values())))
        errs = errors_of(self.settings) != Errors()
        sample, now = journal.verified(decider, _LABELS, by_judge=errs), self._clock()
        # Either way: a clock that is set back must not stop the fading.
        if sample != self._sample or abs(now - self._looked_at) > _FADE_S:
            self._sample, self._looked_at = sample, now
            self._tighten(sample, self._untightened(shipped, self.settings))

    def _tighten(self, sample: Sequence[Verified], base: float) -> None:
        threshold, live = tightened(
            sample, base, self.settings.target_precision, errors_of(self.settings), self._clock()
        )
        if threshold != self.belief.tightened:
            if threshold:
                _log.warning(
                    "of %.0f verified hits %.1f %% were wrong, more than target_precision %g "
                    "allows; another wording now hits from confidence %.4f",
                    live.labels,
                    100 * live.value,
                    self.settings.target_precision,
                    threshold,
                )
            else:
                _log.warning("verified hits no longer ask for a higher threshold than set")
        self.belief = replace(self.belief, tightened=threshold, live=live)
        TIGHTENED.set(threshold)
        if live.labels:
            for name in ("value", "low", "high"):
                LIVE_WRONG_SHARE.labels(name).set(getattr(live, name))


def tightened(
    sample: Sequence[Verified], base: float, target: float, errors: Errors, now: float
) -> tuple[float, Share]:
    """Return the threshold that a live sample asks for, and the wrong share at the one in force.

    Args:
        sample: verified decisions, drawn at random among what was served, or would have been.
        base: the threshold in force without them.
        target: share of the served that must be right.
        errors: of the judge.
        now: Unix seconds, from which labels have their age.

    Returns:
        0 where the sample does not prove that the target is missed; `NEVER` where it does and no
        higher threshold is any better; the share at `base`.
    """
    ranked = sorted(
        (one for one in sample if one.confidence >= base), key=lambda one: -one.confidence
    )
    weights = [0.5 ** (max(0.0, now - one.at) / HALF_LIFE_S) for one in ranked]
    live = wrong_share([one.is_wrong for one in ranked], weights, errors)
    if live.low <= 1 - target or sum(one.is_wrong for one in ranked) < _FEWEST_WRONG:
        return 0.0, live
    threshold, total, wrong = NEVER, 0.0, 0.0
    for one, weight, below in zip(ranked, weights, [*ranked[1:], None], strict=True):
        total, wrong = total + weight, wrong + weight * one.is_wrong
        is_last = below is None or below.confidence < one.confidence
        if is_last and errors.true(wrong / total) <= 1 - target:
            threshold = one.confidence
    return threshold, live


def errors_of(settings: Settings) -> Errors:
    """Return how often the judge is said to err."""
    return Errors(settings.evidence.wrong_called_right, settings.evidence.right_called_wrong)
