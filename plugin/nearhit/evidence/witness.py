"""Writes decisions down, off the request path, and has a sample of them verified.

Verified is a hit (or in shadow mode a would-be hit) whose question the model answers too; a judge
then compares the two answers. Nothing here raises into a request, and nothing waits for it.
"""

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from nearhit.cache import Cache, Lookup, threshold_of
from nearhit.config import Settings
from nearhit.decision import Candidate, Hit, Miss
from nearhit.errors import ConfigError
from nearhit.evidence.journal import MAX_TEXT, By, Decision, Journal, Kind, Label, Tally, new_id
from nearhit.evidence.judge import Ask, answer_text, judge
from nearhit.metrics import VERIFIED, FaultLog

LOOK_EVERY_S: Final = 1.0  # between looks at what other workers, and people, have written
_HOUR_S: Final = 3600.0
_MAX_PENDING: Final = 64  # writes that wait; one more is dropped
_MAX_VERIFYING: Final = 2  # verifications at once
_VERIFY_TIMEOUT_S: Final = 120.0

Counts = tuple[int, int, int]


class Witness:
    """One a worker."""

    def __init__(
        self,
        settings: Settings,
        cache: Cache,
        ask: Ask | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open nothing yet.

        Args:
            settings: of the installation.
            cache: whose decisions these are; its watch learns what the journal says.
            ask: sends a chat request to this proxy's models; None: nothing is verified.
            clock: Unix seconds.
        """
        self._settings = settings
        self._cache = cache
        self._ask = ask
        self._clock = clock
        self._journal: Journal | None = None
        self._faults = FaultLog()
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts: dict[tuple[str, str], Counts] = {}
        self._verified_at: deque[float] = deque()
        self._verifying = 0
        self._random = random.Random()  # noqa: S311 - draws a sample, keeps no secret

    async def run(self) -> None:
        """Keep journal and watch in step until cancelled."""
        if not self._settings.evidence.decisions:
            return
        while True:
            await self._guarded(self.look())
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Open the journal if need be, write the tally, and learn what others have written.

        Raises:
            StoreError: it cannot be opened; another look tries again.
        """
        if self._journal is None:
            limit = self._settings.evidence.decisions
            self._journal = await asyncio.to_thread(Journal, self._settings.data_dir, limit)
        counts, self._counts = self._counts, {}
        await asyncio.to_thread(self._write_and_look, self._journal, counts)

    def _write_and_look(self, journal: Journal, counts: Mapping[tuple[str, str], Counts]) -> None:
        if counts:
            journal.count(counts, self._clock())
        if self._cache.encoder is None:
            return
        try:
            shipped = threshold_of(self._settings, self._cache.verifier)
        except ConfigError:
            return
        self._cache.watch.look(journal, self._cache.decider, shipped)

    # ---- what the hook tells ---------------------------------------------------------------

    def count(self, model: str, outcome: str, completion: str | None = None) -> None:
        """Count a request, with the tokens of the answer that was not asked of the model."""
        prompt, completed = _tokens(completion) if completion is not None else (0, 0)
        before = self._counts.get((model, outcome), (0, 0, 0))
        self._counts[model, outcome] = (
            before[0] + 1,
            before[1] + prompt,
            before[2] + completed,
        )

    def served(self, lookup: Lookup, request: Mapping[str, Any]) -> str | None:
        """Write down a hit in other words, and perhaps verify it; return the decision's id."""
        decision = self._decision(lookup, "served")
        if decision is None:
            return None
        ask = self._draw()
        self._spawn(self._verify(ask, decision, request) if ask else self._add(decision))
        return decision.id

    def answered(self, lookup: Lookup, kind: Kind, packed: str) -> None:
        """Write down what was not served, with the model's own answer."""
        decision = self._decision(lookup, kind)
        if decision is None:
            return
        decision = replace(decision, fresh_answer=answer_text(packed)[:MAX_TEXT])
        ask = self._draw() if kind == "shadow" else None
        self._spawn(self._compare(ask, decision) if ask else self._add(decision))

    def blamed(self, lookup: Lookup) -> None:
        """Write down that a client says of this hit that it is wrong."""
        decision = self._decision(lookup, "complaint")
        if decision is not None:
            self._spawn(self._blame(decision))

    async def label(self, decision_id: str, label: Label, by: By) -> Decision | None:
        """Label a decision, and know it at once in this worker; None: there is none."""
        if self._journal is None:
            return None
        found = await asyncio.to_thread(self._journal.label, decision_id, label, by)
        await self.look()
        return found

    async def flush(self, what: str) -> bool:
        """Let answers of ``tenant:<digest>`` or ``model:<name>`` given so far no longer count.

        Known to this worker when it returns, to others at their next look. False: the journal is
        not open.
        """
        if self._journal is None:
            return False
        await asyncio.to_thread(self._journal.flush, what, int(self._clock()))
        await self.look()
        return True

    async def tally(self, days: int) -> list[Tally]:
        """Return requests and tokens of the last days."""
        if self._journal is None:
            return []
        since = int(self._clock()) - 86_400 * days
        return await asyncio.to_thread(self._journal.tally, since=since)

    async def get(self, decision_id: str) -> Decision | None:
        """Return a decision."""
        if self._journal is None:
            return None
        return await asyncio.to_thread(self._journal.get, decision_id)

    async def close(self) -> None:
        """Finish what was begun, and let go of the journal."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._journal is not None:
            await self._guarded(self.look())
            self._journal.close()

    # ---- the work --------------------------------------------------------------------------

    def _decision(self, lookup: Lookup, kind: Kind) -> Decision | None:
        """Describe the candidate that was served, or came nearest to it; None: not worth it."""
        if self._journal is None or lookup.vector is None:
            return None
        outcome = lookup.outcome
        chosen = _chosen(lookup)
        if chosen is None or (isinstance(outcome, Hit) and outcome.kind != "semantic"):
            return None
        if isinstance(outcome, Miss) and chosen.confidence < self._settings.evidence.near:
            return None
        return Decision(
            id=new_id(),
            at=int(self._clock()),
            kind=kind,
            tenant=lookup.question.tenant,
            decider=self._cache.decider,
            entry=str(chosen.entry.id),
            question=lookup.question.text,
            stored_question=chosen.entry.text,
            similarity=chosen.similarity,
            confidence=chosen.confidence,
            veto=chosen.veto or "",
            stored_answer=answer_text(chosen.entry.completion)[:MAX_TEXT],
            fresh_answer="",
            vector=lookup.vector.astype(np.float16).tobytes(),
        )

    def _draw(self) -> Ask | None:
        """Draw whether this one is verified, within the budget; return whom to ask."""
        if self._ask is None or self._random.random() >= self._settings.verify_sample:
            return None
        now = self._clock()
        while self._verified_at and self._verified_at[0] <= now - _HOUR_S:
            self._verified_at.popleft()
        is_over = len(self._verified_at) >= self._settings.evidence.verify_per_hour
        if is_over or self._verifying >= _MAX_VERIFYING:
            VERIFIED.labels("over_budget").inc()
            return None
        self._verified_at.append(now)
        return self._ask

    async def _add(self, decision: Decision) -> None:
        if self._journal is not None:
            await asyncio.to_thread(self._journal.add, decision)

    async def _blame(self, decision: Decision) -> None:
        await self._add(decision)
        await self.label(decision.id, "wrong", "person")

    async def _verify(self, ask: Ask, decision: Decision, request: Mapping[str, Any]) -> None:
        """Let the model answer too. The decision is written first: it stands whatever follows."""
        await self._add(decision)
        self._verifying += 1
        try:
            async with asyncio.timeout(_VERIFY_TIMEOUT_S):
                fresh = await ask(request)
        finally:
            self._verifying -= 1
        if not fresh:
            VERIFIED.labels("no_answer").inc()
            return
        await self._compare(ask, replace(decision, fresh_answer=fresh[:MAX_TEXT]))

    async def _compare(self, ask: Ask, decision: Decision) -> None:
        """Let the judge compare; without one, keep both answers for a person."""
        await self._add(replace(decision, sampled=True))
        model = self._settings.evidence.judge
        if model is None:
            VERIFIED.labels("unjudged").inc()
            return
        self._verifying += 1
        try:
            async with asyncio.timeout(_VERIFY_TIMEOUT_S):
                verdict = await judge(ask, model, decision)
        finally:
            self._verifying -= 1
        VERIFIED.labels(verdict or "no_verdict").inc()
        if verdict is not None:
            await self.label(decision.id, verdict, "judge")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._tasks) >= _MAX_PENDING:
            work.close()
            self._faults.record("evidence", "busy")
            return
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - evidence that is lost must not cost an answer
            self._faults.record("evidence", "failed", error)


def _chosen(lookup: Lookup) -> Candidate | None:
    """Return the candidate that was served, or the surest one that no guard forbids."""
    outcome = lookup.outcome
    if isinstance(outcome, Hit):
        return next((one for one in lookup.candidates if one.entry is outcome.entry), None)
    return max(
        lookup.candidates,
        key=lambda one: (one.veto is None, one.confidence, one.similarity),
        default=None,
    )


def _tokens(completion: str) -> tuple[int, int]:
    """Return prompt and completion tokens that a stored answer says it took."""
    try:
        usage = json.loads(completion)["usage"]
        return int(usage["prompt_tokens"]), int(usage["completion_tokens"])
    except (ValueError, KeyError, TypeError):
        return 0, 0
