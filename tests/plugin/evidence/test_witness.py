"""Writing decisions down and verifying a sample of them, over the real cache and journal."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from doubles import NOW, Clock, FakeEncoder, FakeVerifier, InProcessStore
from nearhit.cache import Cache, Lookup
from nearhit.config import Settings
from nearhit.decision import Hit, Miss
from nearhit.errors import StoreError
from nearhit.evidence.journal import FILE, MAX_TEXT, Decision, Journal
from nearhit.evidence.ledger import Sums
from nearhit.evidence.witness import Witness
from nearhit.metrics import FAULTS, VERIFIED
from nearhit.request import Policy, Question, read

SECRET = b"a secret of this installation"
STORED = (
    '{"choices":[{"message":{"content":"Use git reset."},"finish_reason":"stop"}],'
    '"usage":{"prompt_tokens":11,"completion_tokens":7}}'
)
FRESH = STORED.replace("reset", "revert")
POLICY = Policy(max_turns=4, max_temperature=1.0, freshness=None)
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "revert commit"}]}


def ask(text: str) -> Question:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    question = read(body, ("key", "alice"), POLICY, SECRET)
    assert isinstance(question, Question)
    return question


class Models:
    """The proxy's models: one that answers, one that judges."""

    def __init__(self) -> None:
        self.verdict: str | None = "RIGHT"
        self.answer: str | None = "Use git revert."
        self.error: Exception | None = None
        self.asked: list[Mapping[str, Any]] = []
        self.called = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, request: Mapping[str, Any]) -> str | None:
        self.asked.append(request)
        self.called.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.verdict if request["model"] == "the-judge" else self.answer


class Stand:
    """Cache, witness and models together, as a worker has them."""

    def __init__(self, folder: Path, clock: Clock, **settings: Any) -> None:
        values = {
            "similarity_threshold": None,
            "confidence_threshold": 0.9,
            "coalesce_wait_s": 0,
            "deadline_ms": 5000,
            "verify_sample": 1.0,
            "evidence": {"judge": "the-judge"},
            **settings,
        }
        self.settings = Settings(data_dir=folder, **values)
        self.store = InProcessStore(folder / "store")
        self.models = Models()
        self.verifier = FakeVerifier({"undo commit": 0.95})
        self.encoder = FakeEncoder({"undo commit": 0, "revert commit": 10, "drop commit": 12})
        self.cache = Cache(self.settings, SECRET, self.store, self.encoder, self.verifier, clock)
        self.witness = Witness(self.settings, self.cache, self.models, clock)

    async def opened(self) -> None:
        """Open the journal, and store the answer to one question."""
        await self.witness.look()
        await self.hit_after_learning()

    async def hit_after_learning(self) -> Lookup:
        lookup = await self.cache.answer(ask("undo commit"))
        self.cache.keep(lookup, STORED)
        await self.cache.settle()
        return await self.hit()

    async def hit(self) -> Lookup:
        lookup = await self.cache.answer(ask("revert commit"))
        assert isinstance(lookup.outcome, Hit), lookup.outcome
        return lookup

    async def decisions(self) -> list[Decision]:
        """Close the witness; read what it wrote."""
        await self.witness.close()
        journal = Journal(self.settings.data_dir)
        found = journal.recent(100)
        journal.close()
        return found


@pytest.fixture
async def stand(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    made = Stand(tmp_path, Clock(NOW), **getattr(request, "param", {}))
    await made.opened()
    yield made
    await made.witness.close()
    await made.cache.settle()
    await made.store.close()


async def reason(stand: Stand, text: str) -> str:
    """What becomes of a question: why it misses, or that it hits."""
    outcome = (await stand.cache.answer(ask(text))).outcome
    return outcome.reason if isinstance(outcome, Miss) else "hit"


def wait(stand: Stand, seconds: float) -> None:
    """Let time pass, as the witness reads it."""
    clock = stand.witness._clock
    assert isinstance(clock, Clock)
    clock.now += seconds


def given(**settings: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("stand", [settings], indirect=True)


async def test_hit_is_written_down_answered_by_the_model_and_judged(stand: Stand) -> None:
    name = stand.witness.served(await stand.hit(), REQUEST)
    (found,) = await stand.decisions()
    assert (found.id, found.kind, found.tenant) == (name, "served", ask("any").tenant)
    assert (found.question, found.stored_question) == ("revert commit", "undo commit")
    assert (found.stored_answer, found.fresh_answer) == ("Use git reset.", "Use git revert.")
    assert (found.sampled, found.judge, found.confidence) == (True, "right", 0.95)
    asked, judged = stand.models.asked
    assert asked == REQUEST
    shown = judged["messages"][1]["content"]
    assert all(text in shown for text in ("revert commit", "undo commit", "Use git reset."))


async def test_answer_that_is_judged_wrong_is_not_served_to_that_question_again(
    stand: Stand,
) -> None:
    stand.models.verdict = "wrong."
    stand.witness.served(await stand.hit(), REQUEST)
    await stand.witness.close()
    assert await reason(stand, "revert commit") == "quarantine"


@given(verify_sample=0.0)
async def test_without_a_sample_a_hit_is_written_down_and_nobody_is_asked(stand: Stand) -> None:
    stand.witness.served(await stand.hit(), REQUEST)
    (found,) = await stand.decisions()
    assert (found.sampled, found.label) == (False, "")
    assert stand.models.asked == []


@given(evidence={"judge": "the-judge", "verify_per_hour": 3})
async def test_budget_bounds_what_is_verified_in_an_hour(stand: Stand) -> None:
    over = VERIFIED.labels("over_budget")._value.get()
    for _ in range(8):
        stand.witness.served(await stand.hit(), REQUEST)
        await asyncio.sleep(0.1)  # one at a time: no more than two are verified at once
    assert sum(one.sampled for one in await stand.decisions()) == 3
    assert VERIFIED.labels("over_budget")._value.get() == over + 5


@pytest.mark.parametrize("verdict", ["maybe", "", None, "RIGHT or WRONG", "right, I think"])
async def test_reply_that_is_no_verdict_labels_nothing(stand: Stand, verdict: str | None) -> None:
    stand.models.verdict = verdict
    stand.witness.served(await stand.hit(), REQUEST)
    (found,) = await stand.decisions()
    assert (found.sampled, found.label) == (True, "")


async def test_model_that_fails_costs_the_verification_and_nothing_else(stand: Stand) -> None:
    failed = FAULTS.labels("evidence", "failed")._value.get()
    stand.models.error = ConnectionError("down")
    stand.witness.served(await stand.hit(), REQUEST)
    (found,) = await stand.decisions()
    assert (found.sampled, found.label, found.fresh_answer) == (True, "", "")
    assert FAULTS.labels("evidence", "failed")._value.get() == failed + 1


@given(evidence={"judge": None})
async def test_without_a_judge_both_answers_are_kept_for_a_person(stand: Stand) -> None:
    stand.witness.served(await stand.hit(), REQUEST)
    (found,) = await stand.decisions()
    assert (found.fresh_answer, found.label) == ("Use git revert.", "")


@given(mode="shadow")
async def test_would_be_hit_is_compared_with_the_answer_that_the_model_gave_anyway(
    stand: Stand,
) -> None:
    stand.witness.answered(await stand.hit(), "shadow", FRESH)
    (found,) = await stand.decisions()
    assert (found.kind, found.fresh_answer, found.judge) == ("shadow", "Use git revert.", "right")
    assert len(stand.models.asked) == 1


@pytest.mark.parametrize(("confidence", "kept"), [(0.7, True), (0.3, False)])
async def test_miss_is_written_down_where_it_came_near(
    stand: Stand, confidence: float, kept: bool
) -> None:
    stand.verifier.told["undo commit"] = confidence
    lookup = await stand.cache.answer(ask("revert commit"))
    assert isinstance(lookup.outcome, Miss)
    stand.witness.answered(lookup, "near", FRESH)
    found = await stand.decisions()
    assert [one.kind for one in found] == (["near"] if kept else [])
    assert stand.models.asked == []


async def test_complaint_quarantines_and_is_no_sample(stand: Stand) -> None:
    stand.witness.blamed(await stand.hit(), is_believed=True)
    (found,) = await stand.decisions()
    assert (found.kind, found.client, found.label) == ("complaint", "wrong", "")
    assert await reason(stand, "drop commit") == "quarantine"


async def test_exact_repeat_is_no_decision(stand: Stand) -> None:
    lookup = await stand.cache.answer(ask("undo commit"))
    assert stand.witness.served(lookup, REQUEST) is None
    assert await stand.decisions() == []


async def test_another_worker_learns_what_this_one_found(stand: Stand, tmp_path: Path) -> None:
    other = Journal(tmp_path)
    stand.witness.served(await stand.hit(), REQUEST)
    await stand.witness.close()
    (served,) = other.recent(10)
    other.label(served.id, "wrong", "person")
    other.close()
    again = Witness(stand.settings, stand.cache, None)
    assert await reason(stand, "revert commit") == "hit"
    await again.look()
    assert await reason(stand, "revert commit") == "quarantine"
    await again.close()


async def test_requests_are_booked_with_what_they_cost_and_saved(
    stand: Stand, tmp_path: Path
) -> None:
    for _ in range(2):
        stand.witness.book(("k", "red", "m", "hit_exact"), Sums(1, 11, 7, 0.0, 0.5, 0.01))
    stand.witness.book(("k", "red", "m", "miss"), Sums(1, 11, 7, 0.5, 0.0, 2.0))
    await stand.decisions()
    journal = Journal(tmp_path)
    hit, miss = journal.ledger()
    journal.close()
    assert hit.sums == Sums(2, 22, 14, 0.0, 1.0, 0.02)
    assert (miss.outcome, miss.sums.requests) == ("miss", 1)


async def test_what_could_not_be_booked_is_booked_later(stand: Stand, tmp_path: Path) -> None:
    await stand.witness.look()
    stand.witness.book(("k", "", "m", "miss"), Sums(1, spent_usd=0.5))
    with sqlite3.connect(tmp_path / FILE, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="SQLITE_BUSY"):
            await stand.witness.look()
        other.execute("ROLLBACK")
    other.close()
    stand.witness.book(("k", "", "m", "miss"), Sums(1, spent_usd=0.25))
    await stand.witness.look()
    assert [row.sums for row in await stand.witness.ledger(365_000)] == [Sums(2, spent_usd=0.75)]


async def test_look_that_is_cancelled_while_it_waits_loses_no_count(stand: Stand) -> None:
    await stand.witness.look()
    is_free = threading.Event()
    held = stand.witness._worker.submit(is_free.wait, 10)
    stand.witness.book(("k", "", "m", "miss"), Sums(1))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stand.witness.look(), 0.05)
    stand.witness.book(("k", "", "m", "miss"), Sums(1))
    is_free.set()
    assert await asyncio.wrap_future(held)
    await stand.witness.look()
    assert [row.sums.requests for row in await stand.witness.ledger(365_000)] == [2]


@given(evidence={"decisions": 0})
async def test_with_no_decisions_to_keep_an_opening_by_hand_disturbs_no_look(stand: Stand) -> None:
    await stand.witness.open_valve(f"wrong_share:{ask('any').tenant}")
    await stand.witness.look()
    assert await reason(stand, "revert commit") == "hit"


@given(evidence={"decisions": 0})
async def test_with_no_decisions_to_keep_requests_are_booked_and_no_text_is_written(
    stand: Stand, tmp_path: Path
) -> None:
    assert stand.witness.served(await stand.hit(), REQUEST) is None
    stand.witness.book(("k", "", "m", "miss"), Sums(1))
    assert await stand.decisions() == []
    assert b"commit" not in (tmp_path / FILE).read_bytes()
    journal = Journal(tmp_path)
    assert [one.sums.requests for one in journal.ledger()] == [1]
    journal.close()


async def test_complaint_that_is_not_believed_is_kept_for_the_operator_and_changes_nothing(
    stand: Stand,
) -> None:
    stand.witness.blamed(await stand.hit(), is_believed=False)
    (found,) = await stand.decisions()
    assert found.client == "wrong"
    assert await reason(stand, "revert commit") == "hit"


async def test_question_as_long_as_a_book_is_cut_before_it_is_kept(stand: Stand) -> None:
    long = "revert commit" + " " * 50_000 + "x"
    stand.encoder.degrees[long] = 10
    lookup = await stand.cache.answer(ask(long))
    stand.witness.served(lookup, REQUEST)
    (found,) = await stand.decisions()
    assert len(found.question) == MAX_TEXT


async def test_no_more_than_two_are_verified_at_once_and_places_are_given_back(
    stand: Stand,
) -> None:
    stand.models.gate.clear()
    for _ in range(6):
        stand.witness.served(await stand.hit(), REQUEST)
    await asyncio.sleep(0.3)
    assert len(stand.models.asked) == 2
    stand.models.gate.set()
    assert sum(one.sampled for one in await stand.decisions()) == 2


async def test_label_that_a_person_gives_meanwhile_outlives_the_verification(
    stand: Stand, tmp_path: Path
) -> None:
    stand.models.gate.clear()
    name = stand.witness.served(await stand.hit(), REQUEST)
    assert name is not None
    await stand.models.called.wait()
    await stand.witness.label(name, "wrong", "person")
    stand.models.gate.set()
    (found,) = await stand.decisions()
    assert (found.person, found.judge, found.label) == ("wrong", "right", "wrong")
    assert await reason(stand, "revert commit") == "quarantine"


async def test_journal_that_cannot_be_opened_costs_no_answer(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    stand = Stand(tmp_path, Clock(NOW))
    with pytest.raises(StoreError, match="must be a SQLite file"):
        await stand.witness.look()
    assert stand.witness.served(await stand.hit_after_learning(), REQUEST) is None
    await stand.witness.close()
    await stand.store.close()


async def test_damaged_journal_is_moved_aside_and_its_quarantine_holds(
    stand: Stand, tmp_path: Path
) -> None:
    stand.models.verdict = "WRONG"
    stand.witness.served(await stand.hit(), REQUEST)
    await stand.decisions()
    with (tmp_path / FILE).open("r+b") as file:
        file.seek(2 * 4096 + 8)  # past the header and the list of tables: a page of some table
        file.write(b"\xff" * 200)
    other = Witness(stand.settings, stand.cache, stand.models)
    await other.look()
    assert (tmp_path / f"{FILE}.damaged.bak").exists()
    assert await reason(stand, "revert commit") == "quarantine"
    assert await other.get("0" * 32) is None
    await other.close()


async def test_journal_that_is_moved_away_under_a_worker_is_begun_anew(
    stand: Stand, tmp_path: Path
) -> None:
    (tmp_path / FILE).rename(tmp_path / "kept")
    stand.witness.book(("k", "", "m", "miss"), Sums(1))
    await stand.witness.look()
    assert [row.outcome for row in await stand.witness.ledger(1)] == ["miss"]


async def test_locked_journal_loses_no_count_and_no_decision(stand: Stand, tmp_path: Path) -> None:
    await stand.witness.look()
    with contextlib.closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        stand.witness.book(("k", "", "m", "miss"), Sums(1))
        served = stand.witness.served(await stand.hit(), REQUEST)
        with pytest.raises(StoreError, match="SQLITE_BUSY"):
            await stand.witness.look()
        await stand.witness.flush("model:other")  # is known whether or not the journal is
        assert stand.cache.watch.flushed_at("t", "other") == NOW
        other.execute("ROLLBACK")
    await stand.witness.look()
    assert [row.sums.requests for row in await stand.witness.ledger(1)] == [1]
    assert served in [one.id for one in await stand.decisions()]


async def test_clock_that_is_set_back_behind_a_flush_does_not_stop_the_cache(stand: Stand) -> None:
    clock = stand.witness._clock
    assert isinstance(clock, Clock)
    clock.now = NOW + 10_000_000
    await stand.witness.flush("model:m")
    assert await reason(stand, "undo commit") == "nothing_near"
    clock.now = NOW + 20
    await stand.witness.look()
    assert await reason(stand, "undo commit") == "nothing_near"
    await stand.hit_after_learning()


VALVES = {"min_wrong": 2, "wrong_share": 0.25, "trial_hits": 2, "retry_after_s": 10}


async def written(stand: Stand) -> None:
    """Wait for all that the witness has begun."""
    while stand.witness._tasks:
        await asyncio.gather(*stand.witness._tasks)


async def wrong_hits(stand: Stand) -> None:
    """Have two hits of alice's said to be wrong."""
    for text in ("revert commit", "drop commit"):
        lookup = await stand.cache.answer(ask(text))
        stand.witness.blamed(lookup, is_believed=True)
    await written(stand)


@given(valves=VALVES, verify_sample=0.0)
async def test_tenant_who_found_answers_wrong_gets_none_in_other_words_until_they_are_opened(
    stand: Stand,
) -> None:
    stand.encoder.degrees["redo commit"] = 350
    assert await reason(stand, "redo commit") == "hit"
    await wrong_hits(stand)
    assert await reason(stand, "redo commit") == "valve_wrong_share"
    assert await reason(stand, "undo commit") == "hit"
    shown = (await stand.cache.explain(ask("redo commit"))).outcome
    assert (type(shown), shown.confidence) == (Miss, 0.95)
    (one,) = stand.cache.valves.shut()
    other = Witness(stand.settings, stand.cache, clock=stand.witness._clock)  # another worker's
    wait(stand, 1)
    await other.open_valve(f"wrong_share:{one.of}")
    assert await reason(stand, "redo commit") == "hit"
    await stand.witness.look()
    assert await reason(stand, "redo commit") == "hit"
    await other.close()


@given(valves=VALVES, scope="team", verify_sample=0.0)
async def test_word_of_a_client_who_shares_answers_shuts_no_valve(stand: Stand) -> None:
    await wrong_hits(stand)
    assert stand.cache.valves.shut() == []


@given(valves=VALVES, verify_sample=0.000001)
async def test_trial_has_all_its_hits_judged_but_takes_them_for_no_sample(stand: Stand) -> None:
    stand.encoder.degrees["redo commit"] = 350
    await wrong_hits(stand)
    wait(stand, 10)
    asked = [await stand.cache.answer(ask("redo commit")) for _ in range(3)]
    assert [type(one.outcome) for one in asked] == [Hit, Hit, Miss]
    stand.models.verdict = "WRONG"
    name = stand.witness.served(asked[0], REQUEST)
    await written(stand)
    found = next(one for one in await stand.decisions() if one.id == name)
    assert (found.judge, found.sampled) == ("wrong", False)
    assert stand.cache.valves.shut()[0].trial_at is not None


@given(
    valves=VALVES,
    verify_sample=0.000001,
    evidence={"judge": "the-judge", "verify_per_hour": 2},
)
async def test_trial_leaves_half_of_the_verifications_to_the_sample_of_all(stand: Stand) -> None:
    stand.encoder.degrees["redo commit"] = 350
    await wrong_hits(stand)
    wait(stand, 10)
    for _ in range(2):
        stand.witness.served(await stand.cache.answer(ask("redo commit")), REQUEST)
        await written(stand)
    assert [one["model"] for one in stand.models.asked] == ["m", "the-judge"]


async def test_openings_that_cannot_be_read_or_written_stop_nothing_else(stand: Stand) -> None:
    file = stand.settings.data_dir / "openings.json"
    file.mkdir()
    await stand.witness.look()
    with pytest.raises(StoreError, match="an opening must be written"):
        await stand.witness.open_valve("hit_ratio")
    assert await reason(stand, "revert commit") == "hit"
