"""Safety valves: where a figure jumps beyond its bound, serving in other words stops for a while.

    hit_ratio            share of a tenant's requests that were answered in other words
    questions_per_entry  different questions that one entry answered in other words
    wrong_share          share of a tenant's hits in other words that were found wrong

The first and the last shut for one tenant, the second for one entry of one tenant: what a caller
does to make a valve shut costs nobody that it shares no answers with. Repeats to the letter go on.

A valve that shut tries again by itself after `retry_after_s`: so many more hits are served as
`trial_hits` says, and what came of them opens or shuts it. One that nobody came to for a window is
open. A person may open it at once.

Each worker counts for itself, in bounded memory, with a fixed amount of work a request; the counts
start anew when a window ends. Not for threads: all methods belong on the event loop.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeGuard, get_args

from nearhit.config import ValveSettings
from nearhit.decision import VALVE, Candidate, Hit, Miss
from nearhit.evidence.flushes import AHEAD_S, EVERYTHING
from nearhit.evidence.journal import Judged
from nearhit.matching import words_of
from nearhit.metrics import VALVE_TRIPS, VALVES_SHUT
from nearhit.request import Question

_log = logging.getLogger("nearhit")

Name = Literal["hit_ratio", "questions_per_entry", "wrong_share"]
NAMES: Final[tuple[Name, ...]] = get_args(Name)
_SETTLE_S: Final = 60.0  # after the last hit of a trial: until then a judge has said something
_MAX_TENANTS: Final = 10_000  # that are counted; those heard of longest ago are forgotten
_MAX_QUESTIONS: Final = 20_000  # that are remembered of all entries together, likewise
_MAX_SHUT: Final = 10_000
_Key = tuple[Name, str]


@dataclass(slots=True)
class Shut:
    """One valve that is shut, or on trial.

    Attributes:
        valve: which.
        of: digest of the tenant, or id of the entry.
        why: the figure and its bound.
        since: Unix seconds; when it shut first.
        at: when it shut last: the next trial waits for `retry_after_s` from then.
        trial_at: when its trial began; None: none is on.
        left: hits that the trial may still serve.
        served_at: when it served the last one.
    """

    valve: Name
    of: str
    why: str
    since: float
    at: float
    trial_at: float | None = None
    left: int = 0
    served_at: float = 0.0


@dataclass(slots=True)
class _Requests:
    since: float
    requests: int = 0
    hits: int = 0


@dataclass(slots=True)
class _Questions:
    since: float
    seen: set[int] = field(default_factory=set)


class Valves:
    """The valves of one worker."""

    def __init__(self, bounds: ValveSettings, clock: Callable[[], float] = time.time) -> None:
        self._bounds = bounds
        self._clock = clock
        self._shut: dict[_Key, Shut] = {}
        self._tenants: OrderedDict[str, _Requests] = OrderedDict()
        self._entries: OrderedDict[str, _Questions] = OrderedDict()
        self._remembered = 0  # questions of all entries
        # By hand, as the file has it; and when a trial of `wrong_share` ended well, by tenant.
        self._openings: Mapping[str, int] = {}
        self._cleared: dict[str, float] = {}
        for name in NAMES:
            VALVES_SHUT.labels(name).inc(0)
            VALVE_TRIPS.labels(name).inc(0)

    # ---- the request path --------------------------------------------------------------------

    def forbid(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Put a veto on the entries that a valve holds; others may serve in their place."""
        if not self._shut:
            return tuple(candidates)
        now = self._clock()
        return tuple(
            replace(one, veto=VALVE + "questions_per_entry")
            if one.veto is None and self._holds(("questions_per_entry", str(one.entry.id)), now)
            else one
            for one in candidates
        )

    def check(self, question: Question, outcome: Hit | Miss) -> Hit | Miss:
        """Say what would become of a question; nothing is counted."""
        if _is_in_other_words(outcome):
            now = self._clock()
            for name in ("hit_ratio", "wrong_share"):
                if self._holds((name, question.tenant), now):
                    return _withheld(name, outcome)
        return outcome

    def admit(self, question: Question, outcome: Hit | Miss) -> Hit | Miss:
        """Count one decided question; a hit in other words becomes a miss where a valve shuts."""
        now = self._clock()
        tenant = question.tenant
        requests = self._requests_of(tenant, now)
        requests.requests += 1
        if not _is_in_other_words(outcome):
            return outcome
        entry = str(outcome.entry.id)
        keys: tuple[_Key, ...] = (
            ("hit_ratio", tenant),
            ("wrong_share", tenant),
            ("questions_per_entry", entry),
        )
        for key in keys:
            self._try_again(key, now)
            if self._holds(key, now):
                return _withheld(key[0], outcome)
        self._requests_of(tenant, now).hits += 1
        self._remember(entry, question.text, now)
        for key in keys:
            shut = self._shut.get(key)
            if shut is None:
                why = self._excess(key, now)
                if why:
                    self._close(key, why, now)
                    return _withheld(key[0], outcome)
            else:
                self._serve_on_trial(key, shut, now)
        return outcome

    def is_on_trial(self, tenant: str) -> bool:
        """Whether this tenant's hits are the trial of `wrong_share`."""
        return ("wrong_share", tenant) in self._shut

    # ---- now and then ------------------------------------------------------------------------

    def obey(self, openings: Mapping[str, int]) -> None:
        """Open what people opened, and what nobody came to for a window.

        Args:
            openings: Unix seconds by name: `everything`, a valve's, or that with `:` and of what.
        """
        now, bounds = self._clock(), self._bounds
        # By one that is ahead of the clock all that shuts meanwhile would open at once.
        self._openings = {name: at for name, at in openings.items() if at <= now + AHEAD_S}
        for key, shut in list(self._shut.items()):
            shut.at = min(shut.at, now)  # the clock may have been set back
            touched_at = max(shut.at + bounds.retry_after_s, shut.trial_at or 0.0, shut.served_at)
            if self._opened_at(key) >= shut.at:
                self._open(key, "by hand")
            elif now - touched_at >= bounds.window_s:
                self._open(key, "after a window without a hit")

    def label_starts(self) -> tuple[float, dict[str, float]]:
        """Return from when on labels count for `wrong_share`, and for tenants who differ."""
        since = self._clock() - self._bounds.window_s
        self._cleared = {tenant: at for tenant, at in self._cleared.items() if at > since}
        own = dict(self._cleared)
        prefix = "wrong_share:"
        for name, at in self._openings.items():
            if name.startswith(prefix) and at > since:
                tenant = name.removeprefix(prefix)
                own[tenant] = max(own.get(tenant, 0.0), at)
        for (valve, tenant), shut in self._shut.items():
            if valve == "wrong_share" and shut.trial_at is not None:
                own[tenant] = shut.trial_at
        opened = max(self._openings.get(EVERYTHING, 0), self._openings.get("wrong_share", 0))
        since = max(since, opened)
        return since, {tenant: max(at, since) for tenant, at in own.items()}

    def weigh(
        self, judged: Mapping[str, Judged], starts: tuple[float, Mapping[str, float]]
    ) -> None:
        """Judge `wrong_share` by what was said of each tenant's hits.

        Args:
            judged: what was said since `starts`.
            starts: what `label_starts` said when the counting began; a tenant whose count began
                anew meanwhile is left for the next time.
        """
        bound, now = self._bounds.wrong_share, self._clock()
        if bound is None:
            return
        since, begun = self.label_starts()
        for tenant, one in judged.items():
            if begun.get(tenant, since) > max(since, starts[1].get(tenant, starts[0])):
                continue
            key: _Key = ("wrong_share", tenant)
            shut = self._shut.get(key)
            if shut is not None and shut.trial_at is None:
                continue
            fewest = 1 if shut is not None and _is_settled(shut, now) else self._bounds.min_wrong
            if one.wrong >= fewest and one.share > bound:
                why = f"{one.wrong} hits were found wrong, {_percent(one.share, bound)}"
                self._close(key, why, now)
        for key, shut in list(self._shut.items()):
            if key[0] == "wrong_share" and _is_settled(shut, now):
                self._open(key, "after a trial")
                self._cleared[key[1]] = now

    def shut(self) -> list[Shut]:
        """Return what is shut or on trial, the newest first."""
        return sorted(self._shut.values(), key=lambda one: -one.since)

    # ---- the work ----------------------------------------------------------------------------

    def _holds(self, key: _Key, now: float) -> bool:
        shut = self._shut.get(key)
        if shut is None:
            return False
        return not self._is_due(shut, now) if shut.trial_at is None else shut.left <= 0

    def _is_due(self, shut: Shut, now: float) -> bool:
        # A clock that was set back must not keep it shut.
        return not 0 <= now - shut.at < self._bounds.retry_after_s

    def _try_again(self, key: _Key, now: float) -> None:
        shut = self._shut.get(key)
        if shut is not None and shut.trial_at is None and self._is_due(shut, now):
            shut.trial_at, shut.left = now, self._bounds.trial_hits
            self._forget(key)

    def _serve_on_trial(self, key: _Key, shut: Shut, now: float) -> None:
        shut.left -= 1
        shut.served_at = now
        if shut.left > 0 or key[0] == "wrong_share":  # whose labels are still to come: see `weigh`
            return
        why = self._excess(key, now, shut.trial_at)
        if why:
            self._close(key, why, now)
        else:
            self._open(key, "after a trial")

    def _excess(self, key: _Key, now: float, trial_at: float | None = None) -> str:
        """Return what is beyond its bound, with the bound; "": nothing is."""
        name, of = key
        bounds = self._bounds
        if name == "hit_ratio" and bounds.hit_ratio is not None:
            seen = self._requests_of(of, now)
            ratio = seen.hits / max(1, seen.requests)
            is_enough = trial_at is not None or seen.requests >= bounds.min_requests
            if is_enough and ratio > bounds.hit_ratio:
                return f"of {seen.requests} requests {_percent(ratio, bounds.hit_ratio)} were hits"
        most = bounds.questions_per_entry
        if name == "questions_per_entry" and most is not None and of in self._entries:
            count = len(self._entries[of].seen)
            # Of a trial: as many in its time as the bound allows in a window.
            elapsed_s = bounds.window_s if trial_at is None else max(0.0, now - trial_at)
            if count * bounds.window_s > most * elapsed_s:
                return f"one entry answered {count} different questions within {elapsed_s:.0f} s"
        return ""

    def _requests_of(self, tenant: str, now: float) -> _Requests:
        found = self._tenants.get(tenant)
        is_kept = ("hit_ratio", tenant) in self._shut  # a trial may take longer than a window
        if found is None or not (is_kept or self._is_within(found.since, now)):
            found = self._tenants[tenant] = _Requests(now)
        self._tenants.move_to_end(tenant)
        while len(self._tenants) > _MAX_TENANTS:
            self._tenants.popitem(last=False)
        return found

    def _remember(self, entry: str, text: str, now: float) -> None:
        if self._bounds.questions_per_entry is None:
            return
        found = self._entries.get(entry)
        is_kept = ("questions_per_entry", entry) in self._shut
        if found is None or not (is_kept or self._is_within(found.since, now)):
            self._forget(("questions_per_entry", entry))
            found = self._entries[entry] = _Questions(now)
        self._entries.move_to_end(entry)
        before = len(found.seen)
        found.seen.add(hash(words_of(text)))
        self._remembered += len(found.seen) - before
        while self._remembered > _MAX_QUESTIONS:
            self._remembered -= len(self._entries.popitem(last=False)[1].seen)

    def _forget(self, key: _Key) -> None:
        name, of = key
        if name == "hit_ratio":
            # The request that begins the new count is in it.
            self._tenants[of] = _Requests(self._clock(), requests=1)
        elif name == "questions_per_entry" and of in self._entries:
            self._remembered -= len(self._entries.pop(of).seen)

    def _is_within(self, since: float, now: float) -> bool:
        return 0 <= now - since < self._bounds.window_s

    def _close(self, key: _Key, why: str, now: float) -> None:
        name, of = key
        known = self._shut.pop(key, None)
        self._shut[key] = Shut(name, of, why, now if known is None else known.since, now)
        VALVE_TRIPS.labels(name).inc()
        if known is not None:
            return  # said when it shut first
        VALVES_SHUT.labels(name).inc()
        what = "entry" if name == "questions_per_entry" else "tenant"
        _log.warning(
            "valve %s is shut for %s %s: %s; only repeats to the letter are served there, a trial "
            "follows in %d s, or `nearhit valves --open %s`",
            *(name, what, of, why, self._bounds.retry_after_s, name),
        )
        if len(self._shut) > _MAX_SHUT:
            self._open(next(iter(self._shut)), "too many are shut")

    def _open(self, key: _Key, how: str) -> None:
        del self._shut[key]
        self._forget(key)
        VALVES_SHUT.labels(key[0]).inc(-1)
        _log.warning("valve %s is open again for %s: %s", *key, how)

    def _opened_at(self, key: _Key) -> int:
        names = (EVERYTHING, key[0], ":".join(key))
        return max(self._openings.get(name, 0) for name in names)


def _is_in_other_words(outcome: Hit | Miss) -> TypeGuard[Hit]:
    return isinstance(outcome, Hit) and outcome.kind == "semantic"


def _is_settled(shut: Shut, now: float) -> bool:
    """Whether a trial of `wrong_share` has served its hits, and had time to hear of them."""
    is_over = shut.trial_at is not None and shut.left <= 0
    return is_over and not 0 <= now - shut.served_at < _SETTLE_S


def _withheld(name: Name, hit: Hit) -> Miss:
    return Miss(VALVE + name, hit.similarity, hit.confidence)


def _percent(share: float, bound: float) -> str:
    return f"{100 * share:.0f} % (bound {100 * bound:.0f} %)"
