"""Questions and answers at rest: what lies there, who can read it, and what becomes of the rest."""

import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, get_args
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest

from doubles import NOW, Clock, FakeEncoder, InProcessStore, decision, vector_at
from nearhit.cache import Cache
from nearhit.config import Settings, load
from nearhit.decision import Hit, Miss
from nearhit.errors import ConfigError
from nearhit.evidence.flushes import note_flush
from nearhit.evidence.journal import Decision, Journal
from nearhit.metrics import FAULTS
from nearhit.request import Policy, Question, read, text_digest
from nearhit.sealing import HASHED, SEALED, Prompts, Seal
from nearhit.signing import is_authentic, sign
from nearhit.store import Entry
from nearhit.store.base import Browse
from nearhit.store.sealed import SealedStore

SECRET = b"a secret of this installation"
OTHER_SECRET = b"a secret of another installation"
QUESTION = "undo commit"
ANSWER = '{"choices":[{"message":{"content":"Use git reset, \\u00fcber all."}}]}'


def entry_of(text: str = QUESTION, **fields: Any) -> Entry:
    values: dict[str, Any] = {
        "id": uuid5(NAMESPACE_URL, text),
        "scope": "ab" * 32,
        "fingerprint": "encoder",
        "text": text,
        "completion": ANSWER,
        "model": "m",
        "created_at": 1,
        "expires_at": NOW + 10,
        "epoch": 0,
        "signature": "",
        "vector": vector_at(0),
        "tenant": "alice",
    }
    entry = Entry(**(values | fields))
    return dataclasses.replace(entry, signature=sign(entry, SECRET))


def same(one: Entry, other: Entry) -> bool:
    names = [field.name for field in dataclasses.fields(Entry) if field.name != "vector"]
    return all(getattr(one, name) == getattr(other, name) for name in names)


# ---- the seal ------------------------------------------------------------------------------


def test_sealed_entry_shows_neither_question_nor_answer_and_opens_as_it_was() -> None:
    seal, entry = Seal("encrypted", SECRET), entry_of("What about naïve \U0001f600?")
    sealed = seal.seal(entry)
    assert sealed.text.startswith(SEALED)
    assert "naïve" not in sealed.text
    assert "git" not in sealed.completion
    assert same(seal.open(sealed), entry)
    assert is_authentic(seal.open(sealed), SECRET)
    again = seal.seal(entry)
    assert (again.text, again.completion) != (sealed.text, sealed.completion)


@pytest.mark.parametrize("prompts", ["full", "encrypted", "hashed"])
def test_what_was_sealed_is_opened_in_every_mode(prompts: Prompts) -> None:
    entry = entry_of()
    sealed = Seal("encrypted", SECRET).seal(entry)
    assert same(Seal(prompts, SECRET).open(sealed), entry)
    assert same(Seal(prompts, SECRET).open(entry), entry)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", UUID(int=7)),
        ("scope", "cd" * 32),
        ("tenant", "bob"),
        ("completion", "AAAA"),
        ("completion", "no base64 at all \U0001f600"),
        ("completion", ""),
        ("text", SEALED),
        ("text", SEALED + "A" * 100),
    ],
)
def test_sealed_entry_that_was_changed_or_moved_is_not_opened(field: str, value: Any) -> None:
    seal = Seal("encrypted", SECRET)
    moved = dataclasses.replace(seal.seal(entry_of()), **{field: value})
    opened = seal.open(moved)
    assert same(opened, moved)
    assert not is_authentic(opened, SECRET)


def test_answer_cannot_stand_for_the_question_of_the_same_entry() -> None:
    seal = Seal("encrypted", SECRET)
    sealed = seal.seal(entry_of())
    swapped = dataclasses.replace(sealed, text=SEALED + sealed.completion)
    assert same(seal.open(swapped), swapped)


def test_another_secret_opens_nothing_and_raises_nothing() -> None:
    sealed = Seal("encrypted", SECRET).seal(entry_of())
    assert same(Seal("encrypted", OTHER_SECRET).open(sealed), sealed)


def test_hashed_entry_keeps_a_digest_no_vector_and_an_encrypted_answer() -> None:
    seal, entry = Seal("hashed", SECRET), entry_of()
    kept = seal.conform(entry)
    assert kept.text == HASHED + text_digest(QUESTION, SECRET)
    assert kept.vector is None
    assert is_authentic(kept, SECRET)
    sealed = seal.seal(kept)
    assert sealed.text == kept.text
    assert "git" not in sealed.completion
    assert same(Seal("full", SECRET).open(sealed), kept)
    assert seal.conform(kept) is kept
    assert Seal("encrypted", SECRET).conform(entry) is entry


def test_hashed_entry_stays_encrypted_where_it_is_stored_again_in_full_mode() -> None:
    kept = Seal("hashed", SECRET).conform(entry_of())
    assert "git" not in Seal("full", SECRET).seal(kept).completion


# ---- the cache, with a store that seals ----------------------------------------------------

STREETS = [f"Which {'STRASSE' if number % 3 else 'road'} is {number}?" for number in range(30)]
DEGREES: dict[str, float | None] = {"undo commit": 0, "revert commit": 10, "bake bread": 80}
DEGREES |= {"bread of bakers": 82, **dict.fromkeys(STREETS)}
Make = Callable[..., Cache]


def ask(text: str, tenant: str = "alice", secret: bytes = SECRET, prompts: str = "") -> Question:
    exact_only = "prompts_hashed" if prompts == "hashed" else None
    policy = Policy(max_turns=4, max_temperature=1.0, freshness=None, exact_only=exact_only)
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    question = read(body, ("key", tenant), policy, secret)
    assert isinstance(question, Question)
    return question


class Backend(InProcessStore):
    async def start(self) -> None: ...


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    store = Backend(tmp_path / "data")
    yield store
    await store.close()


@pytest.fixture
async def make(tmp_path: Path, backend: Backend) -> AsyncIterator[Make]:
    """Make caches of one store, as after restarts with other settings."""
    made: list[Cache] = []

    def make_(prompts: Prompts = "encrypted", secret: bytes = SECRET) -> Cache:
        fields: dict[str, Any] = {"deadline_ms": 5000, "coalesce_wait_s": 0}
        if prompts != "hashed":
            fields["similarity_threshold"] = 0.9
        settings = Settings.model_validate(
            {"data_dir": tmp_path, "store": {"prompts": prompts}, **fields}
        )
        store = SealedStore(backend, Seal(prompts, secret), 8)
        encoder = FakeEncoder(DEGREES)
        made.append(Cache(settings, secret, store, encoder, None, Clock()))
        return made[-1]

    yield make_
    for cache in made:
        await cache.settle()


async def learn(cache: Cache, question: Question) -> None:
    lookup = await cache.answer(question)
    assert isinstance(lookup.outcome, Miss)
    cache.keep(lookup, ANSWER)
    await cache.settle()


async def outcome(cache: Cache, question: Question) -> Hit | Miss:
    lookup = await cache.answer(question)
    cache.drop(lookup, "test")
    return lookup.outcome


def lying(backend: Backend, question: Question) -> Entry:
    entry = backend.engine.get(question.id, 0)
    assert entry is not None
    return entry


async def test_encrypted_entry_is_served_to_the_letter_and_in_other_words(
    make: Make, backend: Backend
) -> None:
    cache = make()
    await learn(cache, ask(QUESTION))
    entry = lying(backend, ask(QUESTION))
    assert entry.text.startswith(SEALED)
    assert "git" not in entry.completion
    for text, kind in ((QUESTION, "exact"), ("revert commit", "semantic")):
        hit = await outcome(cache, ask(text))
        assert isinstance(hit, Hit)
        assert (hit.kind, hit.entry.text, hit.entry.completion) == (kind, QUESTION, ANSWER)


async def test_hashed_entry_is_served_to_the_letter_alone(make: Make, backend: Backend) -> None:
    cache = make("hashed")
    question = ask(QUESTION, prompts="hashed")
    await learn(cache, question)
    entry = lying(backend, question)
    assert (entry.text, entry.vector) == (HASHED + text_digest(QUESTION, SECRET), None)
    hit = await outcome(cache, question)
    assert isinstance(hit, Hit)
    assert (hit.kind, hit.entry.completion) == ("exact", ANSWER)
    assert await outcome(cache, ask("revert commit", prompts="hashed")) == Miss("prompts_hashed")
    assert await outcome(cache, ask(QUESTION, "bob", prompts="hashed")) == Miss("prompts_hashed")


async def test_hashed_entry_is_flushed_by_its_question(make: Make, tmp_path: Path) -> None:
    cache = make("hashed")
    question = ask(QUESTION, prompts="hashed")
    await learn(cache, question)
    note_flush(tmp_path, f"text:{text_digest(QUESTION, SECRET)}", NOW + 5)
    cache.watch.obey_flushes()
    assert isinstance(await outcome(cache, question), Miss)
    assert (await cache.browse(Browse(10, NOW))).entries == []


@pytest.mark.parametrize("before", ["full", "encrypted"])
@pytest.mark.parametrize("after", ["full", "encrypted"])
async def test_entries_of_another_setting_are_served_as_before(
    make: Make, before: Prompts, after: Prompts
) -> None:
    await learn(make(before), ask(QUESTION))
    cache = make(after)
    for text, kind in ((QUESTION, "exact"), ("revert commit", "semantic")):
        hit = await outcome(cache, ask(text))
        assert isinstance(hit, Hit)
        assert (hit.kind, hit.entry.completion) == (kind, ANSWER)


@pytest.mark.parametrize("other", ["full", "encrypted"])
async def test_to_hashed_and_from_it_exact_repeats_hit_and_other_words_miss(
    make: Make, other: Prompts
) -> None:
    await learn(make(other), ask(QUESTION))
    hashed = make("hashed")
    assert isinstance(await outcome(hashed, ask(QUESTION, prompts="hashed")), Hit)
    assert isinstance(await outcome(hashed, ask("revert commit", prompts="hashed")), Miss)
    await learn(hashed, ask("bake bread", prompts="hashed"))
    assert isinstance(await outcome(make(other), ask("bake bread")), Hit)
    assert isinstance(await outcome(make(other), ask("bread of bakers")), Miss)


async def test_changed_secret_misses_and_shows_nothing(make: Make) -> None:
    await learn(make(), ask(QUESTION))
    cache = make(secret=OTHER_SECRET)
    asked = ask(QUESTION, secret=OTHER_SECRET)
    assert await outcome(cache, asked) == Miss("nothing_near")
    assert (await cache.browse(Browse(10, NOW))).entries == []
    assert (await cache.browse(Browse(10, NOW, contains="commit"))).entries == []


async def test_entry_that_was_changed_in_the_store_is_a_miss_that_is_counted(
    make: Make, backend: Backend
) -> None:
    cache = make()
    await learn(cache, ask(QUESTION))
    entry = lying(backend, ask(QUESTION))
    other = Seal("encrypted", OTHER_SECRET).seal(dataclasses.replace(entry, text="x"))
    backend.engine.put(other)
    before = FAULTS.labels("store", "forged")._value.get()
    assert await outcome(cache, ask(QUESTION)) == Miss("nothing_near")
    assert FAULTS.labels("store", "forged")._value.get() > before


async def test_text_search_reads_what_is_encrypted(make: Make) -> None:
    cache = make()
    for text in STREETS:
        await learn(cache, ask(text))
    seen: list[str] = []
    after = None
    while True:
        found = await cache.browse(Browse(4, NOW, after, contains="straße"))
        seen += [one.text for one in found.entries]
        after = found.next
        if after is None:
            break
    assert len(seen) == len(set(seen)) == 20
    assert all("STRASSE" in text for text in seen)


# ---- the journal ---------------------------------------------------------------------------

MARK = "xyzzy"
TEXTS: dict[str, Any] = {
    "question": f"new {MARK}",
    "stored_question": f"old {MARK}",
    "stored_answer": f"one {MARK}",
    "fresh_answer": f"two {MARK}",
}


def journal_of(folder: Path, prompts: Prompts = "encrypted", secret: bytes = SECRET) -> Journal:
    return Journal(folder, seal=Seal(prompts, secret))


@pytest.mark.parametrize("prompts", ["encrypted", "hashed"])
def test_journal_holds_no_text_in_the_clear_and_reads_it_back(
    tmp_path: Path, prompts: Prompts
) -> None:
    journal = journal_of(tmp_path, prompts)
    written = decision(**TEXTS)
    journal.add(written)
    assert journal.get(written.id) == written
    assert len(list(tmp_path.iterdir())) > 1  # its write-ahead log too
    assert all(MARK.encode() not in path.read_bytes() for path in tmp_path.iterdir())
    journal.close()
    assert MARK.encode() not in (tmp_path / "evidence.sqlite3").read_bytes()


def test_journal_counts_the_same_question_once_though_each_is_encrypted_anew(
    tmp_path: Path,
) -> None:
    journal = journal_of(tmp_path)
    for number in range(3):
        one = decision(**TEXTS, id=f"{number:032x}", sampled=True)
        journal.add(one)
        journal.label(one.id, "wrong", "judge")
    other = decision(**(TEXTS | {"question": "another"}), id="f" * 32, sampled=True)
    journal.add(other)
    journal.label(other.id, "right", "judge")
    assert sorted(one.is_wrong for one in journal.verified("d", 10)) == [False, True]
    journal.close()


def test_journal_reads_what_another_setting_wrote_and_passes_over_another_secret(
    tmp_path: Path,
) -> None:
    plain, sealed = decision(**TEXTS, id="1" * 32), decision(**TEXTS, id="2" * 32)
    written: list[tuple[Prompts, Decision]] = [("full", plain), ("encrypted", sealed)]
    for prompts, one in written:
        journal = journal_of(tmp_path, prompts)
        journal.add(one)
        journal.close()
    for prompts in get_args(Prompts):
        journal = journal_of(tmp_path, prompts)
        assert journal.get(plain.id) == plain
        assert journal.get(sealed.id) == sealed
        journal.close()
    for other in (journal_of(tmp_path, secret=OTHER_SECRET), Journal(tmp_path)):
        assert other.recent(10) == [plain]
        other.close()


def test_decision_that_is_moved_to_another_place_is_passed_over(tmp_path: Path) -> None:
    journal = journal_of(tmp_path)
    journal.add(decision(**TEXTS))
    journal._db.execute("UPDATE decisions SET fresh_answer = stored_answer")
    assert journal.recent(10) == []
    journal.close()


# ---- the settings --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "match"),
    [
        ({"similarity_threshold": 0.9}, "without similarity_threshold where store.prompts"),
        ({"confidence_threshold": 0.9}, "without confidence_threshold where store.prompts"),
        ({"verify_sample": 0.1}, "without verify_sample where store.prompts"),
        ({"models": {"m": {"confidence_threshold": 0.9}}}, "without models.m.confidence_threshold"),
    ],
)
def test_setting_for_other_words_is_refused_where_questions_are_hashed(
    section: dict[str, Any], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        load({**section, "store": {"prompts": "hashed"}}, {})
    assert load({**section, "store": {"prompts": "encrypted"}}, {}).store.prompts == "encrypted"


def test_answers_too_large_to_be_sealed_are_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="max_entry_bytes of at most 6000000"):
        load({"store": {"prompts": "encrypted", "max_entry_bytes": 6_000_001}}, {})


def test_unknown_way_to_keep_prompts_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"store.prompts must be .*encrypted.*, got 'plain'"):
        load({"store": {"prompts": "plain"}}, {})
