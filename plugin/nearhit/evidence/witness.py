"""Writes decisions down, off the request path, and has a sample of them verified.

Verified is a hit (or in shadow mode a would-be hit) whose question the model answers too; a judge
then compares the two answers. Nothing here raises into a request, and nothing waits for it: all
work on the journal is done by one thread of its own, so that a disk that hangs takes no thread from
anything else.
"""

import asyncio
import atexit
import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np

from nearhit.cache import Cache, Lookup, decider_of, threshold_of
from nearhit.config import Settings
from nearhit.decision import Candidate, Hit, Miss
from nearhit.encoder import Encoder
from nearhit.errors import ConfigError, NearhitError, StoreError
from nearhit.evidence import ledger
from nearhit.evidence.flushes import AHEAD_S, OPENINGS, drop_flushes, note_flush, read_flushes
from nearhit.evidence.journal import (
    MAX_TEXT,
    By,
    DamagedJournalError,
    Decision,
    Journal,
    Kind,
    Label,
    new_id,
)
from nearhit.evidence.judge import Ask, answer_text, judge
from nearhit.evidence.mending import open_mended
from nearhit.evidence.report import Report, summarise
from nearhit.evidence.watch import errors_of
from nearhit.matching import Verifier
from nearhit.metrics import VERIFIED, FaultLog

_log = logging.getLogger("nearhit")

LOOK_EVERY_S: Final = 1.0  # between looks at what other workers, and people, have written
_COUNT_EVERY_S: Final = 10.0  # between counts of the answers held, for a metric
_HOUR_S: Final = 3600.0
_MAX_PENDING: Final = 64  # writes that wait; one more is dropped
_MAX_VERIFYING: Final = 2  # verifications at once
_VERIFY_TIMEOUT_S: Final = 120.0
_WRITES: Final = 10  # tries to write a decision down

_Result = TypeVar("_Result")


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
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="nearhit-evidence")
        self._journal: Journal | None = None
        self._faults = FaultLog(consequence="no answer is affected")
        self._has_said = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._booked: dict[ledger.Account, ledger.Sums] = {}  # of the event loop
        # Handed over; a look that is cancelled leaves it for the thread's next.
        self._handed: deque[dict[ledger.Account, ledger.Sums]] = deque()
        self._unwritten: dict[ledger.Account, ledger.Sums] = {}  # of the journal's thread
        atexit.register(self._write_what_is_left)
        self._verified_at: deque[float] = deque()
        self._verifying = 0
        self._count_at = 0.0
        self._random = random.Random()  # noqa: S311 - draws a sample, keeps no secret

    async def run(self) -> None:
        """Keep journal and watch in step until cancelled."""
        while True:
            await self._guarded(self.look())
            if self._clock() >= self._count_at:
                self._count_at = self._clock() + _COUNT_EVERY_S
                with suppress(NearhitError):  # said where it is needed
                    await self._cache.count()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self, encoder: Encoder | None = None, verifier: Verifier | None = None) -> None:
        """Open the journal if need be, write the ledger, and learn what others have written.

        Args:
            encoder: one that is about to be in force; None: the cache's, with its verifier.
            verifier: to go with it.

        Raises:
            StoreError: it cannot be opened; another look tries again.
        """
        if encoder is None:
            encoder, verifier = self._cache.encoder, self._cache.verifier
        await self._obey_flushes()
        await self._obey_openings()
        self._hand_over()
        await self._in_thread(self._write_and_look, encoder, verifier)
        await self._judge_hits()

    async def _obey_openings(self) -> None:
        """Learn which valves were opened by hand, here or at another worker."""
        try:
            opened = await self._in_thread(read_flushes, self._settings.data_dir, OPENINGS)
        except OSError as error:
            self._faults.record("evidence", "openings", error)
        else:
            self._cache.valves.obey(opened)

    async def _judge_hits(self) -> None:
        """Let the valves know which share of each tenant's hits was found wrong."""
        if self._journal is None or self._settings.valves.wrong_share is None:
            return
        valves, fewest = self._cache.valves, self._settings.valves.min_wrong
        judged = partial(self._journal.judged, is_client_believed=self._settings.is_alone)
        starts = valves.label_starts()
        valves.weigh(await self._in_thread(judged, *starts, fewest), starts)

    async def open_valve(self, what: str) -> None:
        """Open a valve by hand, or all: ``hit_ratio``, ``wrong_share:<tenant>``, ``everything``.

        Done in this worker when it returns, in others at their next look.

        Raises:
            StoreError: it cannot be written down; nothing has changed.
        """
        now = math.ceil(self._clock())
        try:
            await self._in_thread(note_flush, self._settings.data_dir, what, now, OPENINGS)
        except OSError as error:
            raise StoreError(f"an opening must be written to data_dir: {error.strerror}") from error
        await self._obey_openings()

    async def _obey_flushes(self) -> None:
        """Learn of other workers' flushes; where the clock was set back behind one, flush all.

        By time alone, answers from before such a flush cannot be told from later ones, and none
        would be kept until the clock has caught up.
        """
        await self._in_thread(self._cache.watch.obey_flushes)
        now = int(self._clock())
        ahead = [n for n, at in self._cache.watch.belief.flushes.items() if at > now + AHEAD_S]
        if ahead:
            await self._cache.flush()
            await self._in_thread(drop_flushes, self._settings.data_dir, ahead, now)
            await self._in_thread(self._cache.watch.obey_flushes)
            _log.warning("the clock was set back behind a flush; all stored answers are flushed")

    def _hand_over(self) -> None:
        if self._booked:
            self._handed.append(self._booked)
            self._booked = {}

    def _write_and_look(self, encoder: Encoder | None, verifier: Verifier | None) -> None:
        self._take_over()
        try:
            self._write_ledger_and_look(encoder, verifier)
        except DamagedJournalError:
            self._let_go()  # the next look begins a new one
            raise

    def _write_ledger_and_look(self, encoder: Encoder | None, verifier: Verifier | None) -> None:
        if self._journal is not None and not self._journal.is_there:
            self._let_go()
        journal = self._journal
        if journal is None:
            journal = self._journal = self._open()
        self._write_ledger()
        if encoder is None:
            return
        try:
            shipped = threshold_of(self._settings, verifier)
        except ConfigError:
            return
        self._cache.watch.look(journal, decider_of(encoder, verifier), shipped)

    def _take_over(self) -> None:
        while self._handed:
            for account, sums in self._handed.popleft().items():
                ledger.add(self._unwritten, account, sums)

    def _let_go(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    def _write_ledger(self) -> None:
        """Write what is not written yet; where that fails it stays for the next time."""
        if self._journal is not None and self._unwritten:
            self._journal.book(self._unwritten, self._clock())
            self._unwritten = {}

    def _write_what_is_left(self) -> None:
        """Of a process that ends without `close`: by then loop and thread have ended."""
        self._hand_over()
        self._take_over()
        self._write_ledger()

    def _open(self) -> Journal:
        try:
            settings = self._settings
            journal, aside = open_mended(
                settings.data_dir, settings.evidence.decisions, self._cache.seal
            )
        except StoreError as error:
            if not self._has_said:
                _log.error("no decision is written down: %s", error)
            self._has_said = True
            raise
        if aside is not None:
            self._faults.record("evidence", "damaged")
            _log.error("the journal was damaged and is now %s; a new one was begun", aside)
        self._has_said = False
        return journal

    # ---- what the hook tells ---------------------------------------------------------------

    def book(self, account: ledger.Account, sums: ledger.Sums) -> None:
        """Note what one request cost and saved; on disk within a second or so."""
        ledger.add(self._booked, account, sums)

    def served(self, lookup: Lookup, request: Mapping[str, Any]) -> str | None:
        """Write down a hit in other words, and perhaps verify it; return the decision's id."""
        decision = self._decision(lookup, "served")
        if decision is None:
            return None
        # Of a valve's trial all are drawn. They are no sample of what is served.
        is_trial = self._cache.valves.is_on_trial(decision.tenant)
        ask = self._draw(is_sure=is_trial)
        if ask is None:
            self._spawn(self._add(decision))
        else:
            work = self._verify(ask, replace(decision, sampled=not is_trial), request)
            self._spawn(work, is_drawn=True)
        return decision.id

    def answered(self, lookup: Lookup, kind: Kind, packed: str) -> None:
        """Write down what was not served, with the model's own answer."""
        decision = self._decision(lookup, kind)
        if decision is None:
            return
        decision = replace(decision, fresh_answer=packed)
        ask = self._draw() if kind == "shadow" else None
        if ask is None:
            self._spawn(self._add(decision))
        else:
            self._spawn(self._compare(ask, replace(decision, sampled=True)), is_drawn=True)

    def blamed(self, lookup: Lookup, *, is_believed: bool) -> None:
        """Write down that a client says of this hit that it is wrong; believed, it holds."""
        decision = self._decision(lookup, "complaint")
        if decision is not None:
            self._spawn(self._blame(decision, is_believed=is_believed))

    async def label(
        self, decision_id: str, label: Label, by: By, *, is_believed: bool = True
    ) -> Decision | None:
        """Label a decision, and know it at once in this worker; None: there is none."""
        if self._journal is None:
            return None
        write = partial(self._journal.label, is_believed=is_believed)
        found: Decision | None = await self._in_thread(write, decision_id, label, by)
        await self.look()
        return found

    async def flush(self, what: str, before: int | None = None) -> None:
        """Let answers of ``tenant:<digest>``, ``model:<name>`` or ``text:<digest>`` not count.

        Known to this worker when it returns, to others at their next look.

        Args:
            what: whose answers.
            before: Unix seconds; only answers of an earlier second. None: all that are given.

        Raises:
            StoreError: it cannot be written down, and is not obeyed.
        """
        try:
            last = int(self._clock()) if before is None else before - 1
            await self._in_thread(note_flush, self._settings.data_dir, what, last)
            await self._in_thread(self._cache.watch.obey_flushes)
        except OSError as error:
            raise StoreError(f"a flush must be written to data_dir: {error.strerror}") from error

    async def ledger(self, days: int) -> list[ledger.Row]:
        """Return the ledger of the last days."""
        if self._journal is None:
            return []
        since = int(self._clock()) - 86_400 * days
        return await self._in_thread(partial(self._journal.ledger, since=since))

    async def recent(self, kinds: Collection[Kind], limit: int) -> list[Decision]:
        """Return the newest decisions of these kinds, newest first."""
        if self._journal is None:
            return []
        return await self._in_thread(self._journal.recent_of, tuple(kinds), limit)

    async def report(self, days: int) -> Report:
        """Sum up decisions and ledger of the last days."""
        journal = self._journal
        if journal is None:
            return summarise([], [], errors_of(self._settings))
        since = int(self._clock()) - 86_400 * days
        return await self._in_thread(_report, journal, self._settings, since)

    async def get(self, decision_id: str) -> Decision | None:
        """Return a decision."""
        if self._journal is None:
            return None
        return await self._in_thread(self._journal.get, decision_id)

    async def close(self) -> None:
        """Finish what was begun, and let go of the journal."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._journal is not None:
            await self._guarded(self.look())
            await self._in_thread(self._let_go)
        atexit.unregister(self._write_what_is_left)
        self._worker.shutdown(wait=False)

    # ---- the work --------------------------------------------------------------------------

    def _decision(self, lookup: Lookup, kind: Kind) -> Decision | None:
        """Describe the candidate that was served, or came nearest to it; None: not worth it.

        Its answers are still whole completions: `_readable` makes texts of them, in the thread.
        """
        outcome = lookup.outcome
        if self._journal is None or not self._settings.evidence.decisions or lookup.vector is None:
            return None
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
            question=lookup.question.text[:MAX_TEXT],
            stored_question=chosen.entry.text[:MAX_TEXT],
            similarity=chosen.similarity,
            confidence=chosen.confidence,
            veto=chosen.veto or "",
            stored_answer=chosen.entry.completion,
            fresh_answer="",
            vector=lookup.vector.astype(np.float16).tobytes(),
        )

    def _draw(self, *, is_sure: bool = False) -> Ask | None:
        """Draw whether this one is verified, within the budget; take its place, return whom to ask.

        `_spawn` gives the place back.

        Args:
            is_sure: draw it, where verification is on at all.
        """
        share = self._settings.verify_sample
        if self._ask is None or self._random.random() >= (float(share > 0) if is_sure else share):
            return None
        now = self._clock()
        while self._verified_at and not now - _HOUR_S < self._verified_at[0] <= now:
            self._verified_at.popleft()
        # Trials of one tenant are to leave something for the sample of all.
        most = self._settings.evidence.verify_per_hour // (2 if is_sure else 1)
        is_over = len(self._verified_at) >= most
        if is_over or self._verifying >= _MAX_VERIFYING:
            VERIFIED.labels("over_budget").inc()
            return None
        self._verified_at.append(now)
        self._verifying += 1
        return self._ask

    async def _add(self, decision: Decision) -> Decision:
        """Write a decision down; return it with texts for answers."""

        def add(journal: Journal) -> Decision:
            readable = _readable(decision)
            journal.add(readable)
            return readable

        for _ in range(_WRITES):
            try:
                if self._journal is not None:
                    return await self._in_thread(add, self._journal)
            except StoreError as error:  # locked by somebody, full, or just being replaced
                self._faults.record("evidence", "retried", error)
            await asyncio.sleep(LOOK_EVERY_S)
        self._faults.record("evidence", "unwritten")
        return _readable(decision)

    async def _blame(self, decision: Decision, *, is_believed: bool) -> None:
        await self._add(decision)
        await self.label(decision.id, "wrong", "client", is_believed=is_believed)

    async def _verify(self, ask: Ask, decision: Decision, request: Mapping[str, Any]) -> None:
        """Let the model answer too. The decision is written first: it stands whatever follows."""
        written = await self._add(decision)
        async with asyncio.timeout(_VERIFY_TIMEOUT_S):
            fresh = await ask(request)
        if not fresh:
            VERIFIED.labels("no_answer").inc()
            return
        await self._compare(ask, replace(written, fresh_answer=fresh[:MAX_TEXT]))

    async def _compare(self, ask: Ask, decision: Decision) -> None:
        """Let the judge compare; without one, keep both answers for a person."""
        written = await self._add(decision)
        model = self._settings.evidence.judge
        if model is None:
            VERIFIED.labels("unjudged").inc()
            return
        async with asyncio.timeout(_VERIFY_TIMEOUT_S):
            verdict = await judge(ask, model, written)
        VERIFIED.labels(verdict or "no_verdict").inc()
        if verdict is not None:
            await self.label(written.id, verdict, "judge")

    async def _in_thread(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, work, *arguments)

    def _spawn(self, work: Coroutine[Any, Any, Any], *, is_drawn: bool = False) -> None:
        if len(self._tasks) >= _MAX_PENDING:
            work.close()
            self._verifying -= is_drawn
            self._faults.record("evidence", "busy")
            return
        task = asyncio.create_task(self._guarded(work, is_drawn=is_drawn))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, Any], *, is_drawn: bool = False) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - evidence that is lost must not cost an answer
            self._faults.record("evidence", "failed", error)
        finally:
            self._verifying -= is_drawn


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


def _readable(decision: Decision) -> Decision:
    """Turn whole completions into texts; texts stay."""
    stored, fresh = (
        answer_text(text) or text for text in (decision.stored_answer, decision.fresh_answer)
    )
    return replace(decision, stored_answer=stored[:MAX_TEXT], fresh_answer=fresh[:MAX_TEXT])


def _report(journal: Journal, settings: Settings, since: int) -> Report:
    decisions = journal.recent(settings.evidence.decisions, since=since)
    return summarise(decisions, journal.ledger(since=since), errors_of(settings))
