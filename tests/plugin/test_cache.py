"""Look-up and storing, on the real engine and an encoder whose vectors can be computed by eye."""

import asyncio
import dataclasses
import logging
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from doubles import Clock, FakeEncoder, FakeVerifier, InProcessStore
from nearhit.cache import Cache, Lookup
from nearhit.config import Settings
from nearhit.decision import Hit, Miss
from nearhit.directives import Directives
from nearhit.errors import EncoderBusy, EncoderError, StoreBusy, StoreError
from nearhit.evidence.flushes import note_flush
from nearhit.metrics import FAULTS, UNSTORED
from nearhit.request import Policy, Question, read, text_digest
from nearhit.store import Entry, Store

SECRET = b"a secret of this installation"
POLICY = Policy(max_turns=4, max_temperature=1.0, freshness=None)
ANSWER = '{"choices":[{"message":{"content":"Use git reset."}}]}'
COS_10 = math.cos(math.radians(10))


def ask(text: str, tenant: str = "alice", **fields: Any) -> Question:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
    question = read(body, ("key", tenant), POLICY, SECRET)
    assert isinstance(question, Question)
    return question


class Broken:
    """A store of which every method fails, or hangs for ever when there is no error."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def _fail(self, *args: Any) -> Any:
        if self._error is None:
            await asyncio.Event().wait()
        assert self._error is not None
        raise self._error

    get = search = put = touch = delete = flush = epoch = count = _fail

    async def close(self) -> None:
        pass


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder({"undo commit": 0, "revert commit": 10, "bake bread": 80, "0xdead": None})


@pytest.fixture
def store(tmp_path: Path) -> InProcessStore:
    return InProcessStore(tmp_path / "data")


Make = Callable[..., Cache]


@pytest.fixture
async def make(
    tmp_path: Path, store: InProcessStore, encoder: FakeEncoder, clock: Clock
) -> AsyncIterator[Make]:
    made: list[Cache] = []

    def make_(
        into: Store = store, encoder: Any = encoder, verifier: Any = None, **fields: Any
    ) -> Cache:
        values: dict[str, Any] = {
            "similarity_threshold": 0.9,
            "deadline_ms": 5000,
            "coalesce_wait_s": 0,
            **fields,
        }
        settings = Settings(data_dir=tmp_path, **values)
        made.append(Cache(settings, SECRET, into, encoder, verifier, clock))
        return made[-1]

    yield make_
    for cache in made:
        await cache.settle()
    await store.close()


async def learn(cache: Cache, question: Question, answer: str = ANSWER) -> Lookup:
    lookup = await cache.answer(question)
    assert isinstance(lookup.outcome, Miss)
    cache.keep(lookup, answer)
    await cache.settle()
    return lookup


async def outcome(cache: Cache, question: Question) -> Hit | Miss:
    lookup = await cache.answer(question)
    cache.drop(lookup, "test")
    return lookup.outcome


async def test_question_asked_again_is_an_exact_hit_without_encoding(
    make: Make, encoder: FakeEncoder
) -> None:
    cache = make()
    await learn(cache, ask("undo commit"))
    encoder.encoded.clear()
    hit = await outcome(cache, ask("undo commit"))
    assert isinstance(hit, Hit)
    assert (hit.kind, hit.similarity, hit.entry.completion) == ("exact", 1.0, ANSWER)
    assert encoder.encoded == []


async def test_question_in_other_words_is_a_semantic_hit(make: Make) -> None:
    cache = make()
    await learn(cache, ask("undo commit"))
    hit = await outcome(cache, ask("revert commit"))
    assert isinstance(hit, Hit)
    assert (hit.kind, hit.entry.text) == ("semantic", "undo commit")
    assert hit.similarity == pytest.approx(COS_10, abs=1e-3)


async def test_question_far_from_all_is_a_miss_that_says_how_far(make: Make) -> None:
    cache = make()
    await learn(cache, ask("undo commit"))
    miss = await outcome(cache, ask("bake bread"))
    assert isinstance(miss, Miss)
    assert miss.reason == "below_threshold"
    assert miss.similarity == pytest.approx(math.cos(math.radians(80)), abs=1e-3)


async def test_question_is_encoded_once_for_look_up_and_storing(
    make: Make, encoder: FakeEncoder
) -> None:
    await learn(make(), ask("undo commit"))
    assert encoder.encoded == ["undo commit"]


@pytest.mark.parametrize("other", [{"tenant": "bob"}, {"temperature": 0.5}, {"model": "n"}])
async def test_question_of_another_scope_is_never_answered(
    make: Make, other: dict[str, Any]
) -> None:
    cache = make()
    await learn(cache, ask("undo commit"))
    assert await outcome(cache, ask("undo commit", **other)) == Miss("nothing_near")
    assert await outcome(cache, ask("revert commit", **other)) == Miss("nothing_near")


async def test_question_with_tools_is_answered_to_the_letter_only(make: Make) -> None:
    cache = make()
    await learn(cache, ask("undo commit", tools=[{}]))
    assert isinstance(await outcome(cache, ask("undo commit", tools=[{}])), Hit)
    assert await outcome(cache, ask("revert commit", tools=[{}])) == Miss("tools")


async def test_text_that_the_encoder_cannot_tell_apart_is_exact_only(make: Make) -> None:
    cache = make()
    lookup = await learn(cache, ask("0xdead"))
    assert lookup.outcome == Miss("unknown_tokens")
    assert isinstance(await outcome(cache, ask("0xdead")), Hit)


async def test_answer_past_its_time_is_gone_however_often_it_was_served(
    make: Make, clock: Clock
) -> None:
    cache = make(ttl_s=100)
    await learn(cache, ask("undo commit"))
    for _ in range(3):
        clock.now += 30
        assert isinstance(await outcome(cache, ask("undo commit")), Hit)
    clock.now += 10
    assert await outcome(cache, ask("undo commit")) == Miss("nothing_near")
    assert await outcome(cache, ask("revert commit")) == Miss("nothing_near")


async def test_hits_are_counted(make: Make, store: InProcessStore, clock: Clock) -> None:
    cache = make()
    await learn(cache, ask("undo commit"))
    for text in ("undo commit", "revert commit"):
        await outcome(cache, ask(text))
    await cache.settle()
    entry = await store.get(ask("undo commit").id, int(clock.now))
    assert entry is not None
    assert entry.hits == 2


async def test_answer_to_a_question_from_before_a_flush_is_not_stored(
    make: Make, store: InProcessStore
) -> None:
    cache = make()
    lookup = await cache.answer(ask("undo commit"))
    await store.flush()
    cache.keep(lookup, ANSWER)
    await cache.settle()
    assert await outcome(cache, ask("undo commit")) == Miss("nothing_near")


async def test_answer_that_is_too_large_is_not_stored(make: Make) -> None:
    cache = make(store={"max_entry_bytes": 1000})
    await learn(cache, ask("undo commit"), answer="x" * 1000)
    assert await outcome(cache, ask("undo commit")) == Miss("nothing_near")


@pytest.mark.parametrize("field", ["completion", "text", "model", "signature"])
async def test_entry_that_somebody_else_wrote_is_never_served(
    make: Make, store: InProcessStore, clock: Clock, field: str
) -> None:
    cache = make()
    await learn(cache, ask("undo commit"))
    entry = await store.get(ask("undo commit").id, int(clock.now))
    assert entry is not None
    forged: dict[str, Any] = {field: "forged"}
    await store.put(dataclasses.replace(entry, **forged))
    before = FAULTS.labels("store", "forged")._value.get()
    assert await outcome(cache, ask("undo commit")) == Miss("nothing_near")
    assert FAULTS.labels("store", "forged")._value.get() > before


async def test_entry_that_was_moved_under_another_id_is_never_served(
    make: Make, store: InProcessStore, clock: Clock
) -> None:
    cache = make()
    await learn(cache, ask("undo commit"))
    entry = await store.get(ask("undo commit").id, int(clock.now))
    assert entry is not None
    await store.put(dataclasses.replace(entry, id=ask("bake bread").id))
    miss = await outcome(cache, ask("bake bread"))
    assert isinstance(miss, Miss)


async def test_vectors_of_another_encoder_are_never_compared(
    make: Make, encoder: FakeEncoder
) -> None:
    await learn(make(), ask("undo commit"))
    other = FakeEncoder(encoder.degrees)
    other.fingerprint = "other"
    assert await outcome(make(encoder=other), ask("revert commit")) == Miss("nothing_near")
    assert isinstance(await outcome(make(encoder=other), ask("undo commit")), Hit)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StoreError("down"), "store_failed"),
        (StoreBusy("full"), "store_busy"),
        (RuntimeError("a bug"), "error"),
    ],
)
async def test_store_that_fails_is_a_miss_with_the_reason(
    make: Make, error: Exception, reason: str
) -> None:
    cache = make(into=Broken(error))
    lookup = await cache.answer(ask("undo commit"))
    assert lookup.outcome == Miss(reason)
    cache.keep(lookup, ANSWER)
    await cache.settle()


async def test_store_that_hangs_is_a_miss_at_the_deadline(make: Make) -> None:
    cache = make(into=Broken(None), deadline_ms=10)
    assert await outcome(cache, ask("undo commit")) == Miss("deadline")


@pytest.mark.parametrize(
    ("error", "reason"),
    [(EncoderError("broken"), "encoder_failed"), (EncoderBusy("full"), "encoder_busy")],
)
async def test_encoder_that_fails_is_a_miss_and_exact_repeats_go_on(
    make: Make, encoder: FakeEncoder, error: EncoderError, reason: str
) -> None:
    cache = make()
    encoder.error = error
    lookup = await learn(cache, ask("undo commit"))
    assert lookup.outcome == Miss(reason)
    assert isinstance(await outcome(cache, ask("undo commit")), Hit)


async def test_question_without_an_encoder_is_a_miss_and_exact_repeats_go_on(make: Make) -> None:
    cache = make(encoder=None)
    lookup = await learn(cache, ask("undo commit"))
    assert lookup.outcome == Miss("no_encoder")
    assert isinstance(await outcome(cache, ask("undo commit")), Hit)


async def test_question_stored_before_the_encoder_was_ready_is_found_by_meaning_later(
    make: Make, encoder: FakeEncoder
) -> None:
    cache = make(encoder=None)
    lookup = await cache.answer(ask("undo commit"))
    cache.encoder = encoder
    cache.keep(lookup, ANSWER)
    await cache.settle()
    assert isinstance(await outcome(cache, ask("revert commit")), Hit)


async def test_faults_are_logged_without_the_prompt_and_not_once_a_request(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    cache = make(into=Broken(StoreError("undo commit is in this message")))
    with caplog.at_level(logging.DEBUG):
        for _ in range(50):
            await outcome(cache, ask("undo commit"))
    lines = [record.getMessage() for record in caplog.records if record.name == "nearhit"]
    assert lines == ["store failed (store_failed, StoreError); requests go to the model"]
    assert "undo" not in caplog.text


async def test_identical_questions_in_flight_wait_for_the_first_ones_answer(make: Make) -> None:
    cache = make(coalesce_wait_s=60)
    first = await cache.answer(ask("undo commit"))
    others = [asyncio.create_task(cache.answer(ask("undo commit"))) for _ in range(3)]
    other_tenant = await cache.answer(ask("undo commit", tenant="bob"))
    assert isinstance(other_tenant.outcome, Miss)
    cache.keep(first, ANSWER)
    for lookup in await asyncio.gather(*others):
        assert isinstance(lookup.outcome, Hit)
        assert (lookup.outcome.kind, lookup.outcome.entry.completion) == ("coalesced", ANSWER)


async def test_identical_question_that_comes_when_the_answer_is_not_stored_yet_gets_it(
    make: Make, store: InProcessStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()
    put = store.put

    async def slow_put(entry: Entry) -> None:
        await released.wait()
        await put(entry)

    monkeypatch.setattr(store, "put", slow_put)
    cache = make(coalesce_wait_s=60)
    cache.keep(await cache.answer(ask("undo commit")), ANSWER)
    late = await cache.answer(ask("undo commit"))
    assert isinstance(late.outcome, Hit)
    assert late.outcome.kind == "coalesced"
    await store.flush()
    assert isinstance((await cache.answer(ask("undo commit"))).outcome, Miss)
    released.set()


async def test_identical_question_goes_to_the_model_when_the_first_one_fails(make: Make) -> None:
    cache = make(coalesce_wait_s=60)
    first = await cache.answer(ask("undo commit"))
    other = asyncio.create_task(cache.answer(ask("undo commit")))
    await asyncio.sleep(0.05)
    cache.drop(first, "model_failed")
    assert (await other).outcome == Miss("nothing_near")


async def test_identical_question_goes_to_the_model_when_the_first_one_is_slow(make: Make) -> None:
    cache = make(coalesce_wait_s=0.01)
    first = await cache.answer(ask("undo commit"))
    assert (await cache.answer(ask("undo commit"))).outcome == Miss("nothing_near")
    cache.drop(first, "test")


async def test_identical_question_does_not_wait_when_that_is_switched_off(make: Make) -> None:
    cache = make(coalesce_wait_s=0)
    lookups = [await cache.answer(ask("undo commit")) for _ in range(2)]
    assert [lookup.flight for lookup in lookups] == [None, None]


async def test_drop_counts_the_reason(make: Make) -> None:
    before = UNSTORED.labels("finish_length")._value.get()
    cache = make()
    cache.drop(await cache.answer(ask("undo commit")), "finish_length")
    assert UNSTORED.labels("finish_length")._value.get() == before + 1


@pytest.mark.parametrize(("sure", "is_hit"), [(0.98, False), (0.995, True)])
async def test_verifier_decides_where_there_is_one(make: Make, sure: float, is_hit: bool) -> None:
    verifier = FakeVerifier({"undo commit": sure})
    cache = make(verifier=verifier, similarity_threshold=None, target_precision=0.99)
    await learn(cache, ask("undo commit"))
    lookup = await cache.answer(ask("revert commit"))
    assert isinstance(lookup.outcome, Hit) is is_hit
    assert lookup.outcome.confidence == sure
    assert lookup.outcome.similarity == pytest.approx(COS_10, abs=1e-3)
    assert [candidate.entry.text for candidate in lookup.candidates] == ["undo commit"]


async def test_explicit_confidence_threshold_wins_over_the_target(make: Make) -> None:
    verifier = FakeVerifier({"undo commit": 0.6})
    cache = make(verifier=verifier, similarity_threshold=None, confidence_threshold=0.5)
    await learn(cache, ask("undo commit"))
    assert isinstance((await cache.answer(ask("revert commit"))).outcome, Hit)


async def test_verifier_that_fails_is_a_miss_with_its_reason(make: Make) -> None:
    class Failing(FakeVerifier):
        async def confidences(self, *args: Any) -> list[float]:
            raise EncoderError("failed")

    cache = make(verifier=Failing({}), similarity_threshold=None)
    await learn(cache, ask("undo commit"))
    outcome = (await cache.answer(ask("revert commit"))).outcome
    assert outcome == Miss("encoder_failed")


async def test_model_group_of_its_own_has_its_own_threshold_and_life(
    make: Make, clock: Clock
) -> None:
    verifier = FakeVerifier({"undo commit": 0.95})
    own = {"careful": {"confidence_threshold": 0.99}, "brief": {"ttl_s": 10}}
    cache = make(verifier=verifier, similarity_threshold=None, confidence_threshold=0.9, models=own)
    for model, hits in (("m", True), ("careful", False), ("brief", True)):
        await learn(cache, ask("undo commit", model=model))
        found = await outcome(cache, ask("revert commit", model=model))
        assert isinstance(found, Hit) == hits, model
    clock.now += 11
    assert isinstance(await outcome(cache, ask("undo commit", model="m")), Hit)
    assert isinstance(await outcome(cache, ask("undo commit", model="brief")), Miss)


async def test_answer_that_is_older_than_its_client_wants_is_not_served(
    make: Make, clock: Clock
) -> None:
    cache = make()
    await learn(cache, ask("undo commit"))
    clock.now += 60
    for text in ("undo commit", "revert commit"):
        young = await cache.answer(ask(text), Directives(max_age_s=60))
        assert isinstance(young.outcome, Hit), text
        assert (await cache.answer(ask(text), Directives(max_age_s=59))).outcome == Miss("too_old")


async def test_answer_in_flight_that_is_too_old_or_flushed_is_not_shared(
    make: Make, clock: Clock
) -> None:
    cache = make(coalesce_wait_s=60)
    question = ask("undo commit")
    await learn(cache, question)
    clock.now += 10
    assert (await cache.answer(question, Directives(max_age_s=5))).outcome == Miss("too_old")
    note_flush(cache.watch.settings.data_dir, f"model:{question.model}", int(clock.now) - 5)
    cache.watch.obey_flushes()
    lookup = await cache.answer(question)
    assert isinstance(lookup.outcome, Miss)


@pytest.mark.parametrize(
    ("asked", "life"),
    [((None, None), 100), ((10, None), 10), ((None, 20), 20), ((30, 20), 20), ((999, 999), 100)],
)
async def test_life_is_the_shortest_of_settings_kind_of_question_and_client(
    make: Make, store: InProcessStore, clock: Clock, asked: tuple[int | None, ...], life: int
) -> None:
    cache = make(ttl_s=100)
    question = dataclasses.replace(ask("undo commit"), ttl_s=asked[0])
    cache.keep(await cache.answer(question, Directives(ttl_s=asked[1])), ANSWER)
    await cache.settle()
    entry = await store.get(question.id, int(clock.now))
    assert entry is not None
    assert entry.expires_at == entry.created_at + life


async def test_question_of_a_brief_kind_is_not_served_an_older_answer_of_another_kind(
    make: Make, clock: Clock
) -> None:
    cache = make()
    await learn(cache, ask("undo commit"))
    clock.now += 60
    brief = dataclasses.replace(ask("revert commit"), ttl_s=30)
    assert await outcome(cache, brief) == Miss("too_old")
    assert isinstance(await outcome(cache, ask("revert commit")), Hit)


async def test_only_if_cached_waits_for_nobody_and_nobody_waits_for_it(make: Make) -> None:
    cache = make(coalesce_wait_s=60)
    first = await cache.answer(ask("undo commit"))
    only = Directives(only_if_cached=True)
    lookup = await cache.answer(ask("undo commit"), only)
    assert (lookup.outcome, lookup.flight) == (Miss("nothing_near"), None)
    assert (await cache.answer(ask("bake bread"), only)).flight is None
    cache.drop(first, "test")


async def test_flush_of_a_text_forgets_its_answers_to_other_words_too(
    make: Make, clock: Clock
) -> None:
    cache = make()
    for text in ("undo commit", "bake bread"):
        await learn(cache, ask(text))
    clock.now += 1
    digest = text_digest("undo commit\r\n", SECRET)
    note_flush(cache.watch.settings.data_dir, f"text:{digest}", int(clock.now))
    cache.watch.obey_flushes()
    for text in ("undo commit", "revert commit"):
        assert isinstance(await outcome(cache, ask(text)), Miss)
    assert isinstance(await outcome(cache, ask("bake bread")), Hit)
    clock.now += 1
    await learn(cache, ask("undo commit"))
    assert isinstance(await outcome(cache, ask("revert commit")), Hit)
    note_flush(cache.watch.settings.data_dir, f"text:{digest}", int(clock.now) - 1)
    cache.watch.obey_flushes()
    assert isinstance(await outcome(cache, ask("revert commit")), Hit)
