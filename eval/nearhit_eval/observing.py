"""Put a set's questions to the cache that serves: same store process, encoder, verifier, guards.

Each set is a tenant of its own in one store in a temporary folder. Nothing is simulated: a stored
question goes the way of an answer that the proxy keeps, a probe the way of a request.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from nearhit.cache import Cache, Lookup
from nearhit.config import Settings
from nearhit.decision import Hit, Miss
from nearhit.encoder import Encoder
from nearhit.matching import Verifier
from nearhit.request import Policy, Question, freshness_pattern, freshness_rule, read
from nearhit.store.embedded import EmbeddedStore
from nearhit_eval.sets import QuestionSet

SECRET: Final = b"an evaluation has no secrets to keep"
_TOGETHER: Final = 16  # questions in flight; a latency is measured with one


@dataclass(frozen=True, slots=True)
class Seen:
    """A stored question that was looked at, and what was thought of it."""

    key: str
    text: str
    similarity: float
    confidence: float
    veto: str | None


@dataclass(frozen=True, slots=True)
class Observation:
    """What became of one probe.

    Attributes:
        key: the entry that answers it, None if none does.
        text: the probe.
        served: the entry that was served, None if none was.
        is_exact: whether that was a repeat to the letter.
        reason: of the miss or bypass; "" for a hit.
        candidates: what was looked at; empty for repeats.
    """

    key: str | None
    text: str
    served: str | None
    is_exact: bool
    reason: str
    candidates: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """All observations by set, seconds of single decisions, and of their stages by name."""

    observations: dict[str, list[Observation]]
    seconds: tuple[float, ...]
    stages: dict[str, tuple[float, ...]] = field(default_factory=dict)


class _Timed:
    """Passes everything through to a part, and notes the seconds that one method takes."""

    def __init__(self, part: Any, method: str) -> None:
        self._part = part
        self._method = method
        self.seconds: list[float] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if name != self._method:
            return found

        async def timed(*arguments: Any) -> Any:
            begun = time.perf_counter()
            try:
                return await found(*arguments)
            finally:
                self.seconds.append(time.perf_counter() - begun)

        return timed


async def observe(
    sets: Sequence[QuestionSet],
    settings: Settings,
    encoder: Encoder,
    verifier: Verifier | None,
    folder: Path,
    timed: int,
) -> Run:
    """Store and ask everything.

    Args:
        sets: what to ask, names unique.
        settings: in force, but for deadline and coalescing.
        encoder: ready; it is closed at the end.
        verifier: ready, or None; it is closed at the end.
        folder: empty, for the store.
        timed: how many probes are asked once more, one at a time, for their latency.
    """
    calm = {"deadline_ms": 10_000, "coalesce_wait_s": 0.0, "data_dir": folder}
    settings = settings.model_copy(update=calm)
    store = EmbeddedStore(folder, dimension=encoder.dimension)
    parts: dict[str, Any] = {
        "encode": _Timed(encoder, "encode"),
        "search": _Timed(store, "search"),
        "verify": _Timed(verifier, "confidences") if verifier is not None else None,
    }
    cache = Cache(settings, SECRET, parts["search"], parts["encode"], parts["verify"])
    try:
        epoch = await store.epoch()
        for one in sets:
            await _fill(cache, one, settings, epoch)
        observations = {one.name: await _ask_all(cache, one, settings) for one in sets}
        measured = {name: part.seconds for name, part in parts.items() if part is not None}
        for seconds_so_far in measured.values():
            seconds_so_far.clear()
        seconds = await _time(cache, sets, settings, timed)
        stages = {name: tuple(found) for name, found in measured.items()}
    finally:
        await cache.close()
    return Run(observations, seconds, stages)


async def _fill(cache: Cache, one: QuestionSet, settings: Settings, epoch: int) -> None:
    with tqdm(one.store, desc=f"{one.name}: store", unit="entry", leave=False, disable=None) as bar:
        for count, (key, text) in enumerate(bar, 1):
            question = question_of(text, one.name, settings)
            if isinstance(question, Question):
                cache.keep(Lookup(question, Miss("nothing_near"), epoch=epoch), key)
            if count % _TOGETHER == 0:
                await cache.settle()
        await cache.settle()


async def _ask_all(cache: Cache, one: QuestionSet, settings: Settings) -> list[Observation]:
    found: list[Observation] = []
    with tqdm(
        total=len(one.probes), desc=f"{one.name}: probes", unit="probe", leave=False, disable=None
    ) as bar:
        for start in range(0, len(one.probes), _TOGETHER):
            some = one.probes[start : start + _TOGETHER]
            found += await asyncio.gather(
                *(_ask(cache, key, text, one.name, settings) for key, text in some)
            )
            bar.update(len(some))
    return found


async def _ask(
    cache: Cache, key: str | None, text: str, name: str, settings: Settings
) -> Observation:
    question = question_of(text, name, settings)
    if isinstance(question, str):
        return Observation(key, text, None, False, question, ())
    lookup = await cache.answer(question)
    looked_at = lookup.candidates
    if looked_at:  # serving may do without the others, or the far ones
        looked_at = (await cache.explain(question)).candidates
    candidates = tuple(
        Seen(one.entry.completion, one.entry.text, one.similarity, one.confidence, one.veto)
        for one in looked_at
    )
    match lookup.outcome:
        case Hit(entry=entry, kind=kind):
            is_exact = kind == "exact"
            return Observation(key, text, entry.completion, is_exact, "", candidates)
        case Miss(reason=reason):
            return Observation(key, text, None, False, reason, candidates)


async def _time(
    cache: Cache, sets: Sequence[QuestionSet], settings: Settings, count: int
) -> tuple[float, ...]:
    """Ask some probes one at a time, each with a word more, so that no vector is remembered."""
    everything = [(text, one.name) for one in sets for _, text in one.probes]
    step = max(1, len(everything) // max(1, count))
    seconds = []
    for text, name in everything[::step][:count]:
        question = question_of(f"Well, {text}", name, settings)
        if isinstance(question, Question):
            begun = time.perf_counter()
            await cache.answer(question)
            seconds.append(time.perf_counter() - begun)
    return tuple(seconds)


def question_of(text: str, tenant: str, settings: Settings) -> Question | str:
    """Read a question as the proxy would read it, or say why it is bypassed."""
    policy = Policy(
        max_turns=settings.max_turns,
        max_temperature=settings.max_temperature,
        freshness=freshness_pattern(settings.freshness),
        classes=tuple(
            freshness_rule(one.words, one.patterns, one.ttl_s) for one in settings.freshness_classes
        ),
    )
    body = {"model": "evaluated", "messages": [{"role": "user", "content": text}]}
    read_as = read(body, ("evaluation", tenant), policy, SECRET)
    return read_as if isinstance(read_as, Question) else read_as.reason
