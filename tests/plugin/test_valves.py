"""Safety valves on made-up traffic and a clock that is moved by hand."""

import logging
from functools import cache
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles import NOW, Clock
from nearhit import valves as module
from nearhit.config import ValveSettings
from nearhit.decision import Candidate, Hit, Miss, decide
from nearhit.evidence.journal import Judged
from nearhit.metrics import VALVE_TRIPS, VALVES_SHUT
from nearhit.request import Policy, Question, read
from nearhit.store import Entry
from nearhit.valves import Valves

POLICY = Policy(max_turns=4, max_temperature=1.0, freshness=None)
NONE = {"hit_ratio": None, "questions_per_entry": None, "wrong_share": None}


def ask(text: str = "how do I undo a commit", tenant: str = "alice") -> Question:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    question = read(body, ("key", tenant), POLICY, b"a secret of this installation")
    assert isinstance(question, Question)
    return question


@cache  # an entry equals itself alone
def entry(number: int = 1) -> Entry:
    return Entry(UUID(int=number), "s", "f", "undo a commit", "{}", "m", 1, 2, 0, "")


def hit(number: int = 1) -> Hit:
    return Hit(entry(number), "semantic", 0.97, 0.99)


ALICE, BOB = ask().tenant, ask(tenant="bob").tenant
MISS = Miss("nothing_near")
EXACT = Hit(entry(), "exact", 1.0, 1.0)


def made(clock: Clock, **bounds: float | None) -> Valves:
    values = {**NONE, "min_requests": 10, "min_wrong": 2, "trial_hits": 4, **bounds}
    return Valves(ValveSettings.model_validate(values), clock)


def weigh(valves: Valves, judged: dict[str, Judged]) -> None:
    valves.weigh(judged, valves.label_starts())


@pytest.fixture
def clock() -> Clock:
    return Clock()


def served(valves: Valves, question: Question, outcome: Hit | Miss) -> bool:
    return isinstance(valves.admit(question, outcome), Hit)


# ---- hit_ratio -------------------------------------------------------------------------------


def shut_by_ratio(clock: Clock) -> Valves:
    valves = made(clock, hit_ratio=0.5)
    for _ in range(5):
        valves.admit(ask(), MISS)
    assert sum(served(valves, ask(), hit()) for _ in range(20)) == 5
    return valves


def test_hit_ratio_beyond_its_bound_stops_hits_in_other_words_of_that_tenant_alone(
    clock: Clock,
) -> None:
    valves = shut_by_ratio(clock)
    assert valves.admit(ask(), hit()) == Miss("valve_hit_ratio", 0.97, 0.99)
    assert valves.admit(ask(), EXACT) is EXACT
    assert valves.admit(ask(), MISS) is MISS
    assert served(valves, ask(tenant="bob"), hit())
    assert valves.check(ask(), hit()) == Miss("valve_hit_ratio", 0.97, 0.99)
    (one,) = valves.shut()
    assert (one.valve, one.of, one.since, one.trial_at) == ("hit_ratio", ALICE, NOW, None)
    assert one.why == "of 11 requests 55 % (bound 50 %) were hits"


def test_hit_ratio_of_few_requests_shuts_nothing(clock: Clock) -> None:
    valves = made(clock, hit_ratio=0.5)
    assert all(served(valves, ask(), hit()) for _ in range(9))


def test_hit_ratio_is_counted_anew_after_a_window(clock: Clock) -> None:
    valves = made(clock, hit_ratio=0.5, window_s=60)
    for _ in range(30):
        assert all(served(valves, ask(), hit()) for _ in range(9))
        clock.now += 60


def test_trial_that_finds_the_ratio_as_usual_opens(clock: Clock) -> None:
    valves = shut_by_ratio(clock)
    clock.now += 299
    assert not served(valves, ask(), hit())
    clock.now += 1
    assert valves.check(ask(), hit()) == hit()
    for _ in range(4):
        valves.admit(ask(), MISS)
        assert valves.admit(ask(), MISS) is MISS
        assert served(valves, ask(), hit())
    assert not valves.shut()


def test_trial_that_finds_the_ratio_too_high_shuts_again_after_so_many_hits(clock: Clock) -> None:
    valves = shut_by_ratio(clock)
    for _ in range(3):
        clock.now += 300
        assert sum(served(valves, ask(), hit()) for _ in range(20)) == 4
    (one,) = valves.shut()
    assert (one.since, one.at, one.trial_at) == (NOW, NOW + 900, None)


def test_clock_that_is_set_back_does_not_keep_a_valve_shut(clock: Clock) -> None:
    valves = shut_by_ratio(clock)
    clock.now -= 86_400
    assert served(valves, ask(), hit())


# ---- questions_per_entry ---------------------------------------------------------------------


def test_entry_that_answers_too_many_questions_is_held_alone(clock: Clock) -> None:
    valves = made(clock, questions_per_entry=5)
    answered = [served(valves, ask(f"question {number}"), hit()) for number in range(8)]
    assert answered == [True] * 5 + [False] * 3
    assert served(valves, ask("question 9"), hit(2))
    assert valves.admit(ask(), EXACT) is EXACT
    hub, other = Candidate(entry(), 0.99, 0.99), Candidate(entry(2), 0.97, 0.97)
    held = valves.forbid([hub, other])
    assert [one.veto for one in held] == ["valve_questions_per_entry", None]
    assert decide(held, 0.9) == Hit(entry(2), "semantic", 0.97, 0.97)
    assert decide(held[:1], 0.9) == Miss("valve_questions_per_entry", 0.99, 0.99)
    guarded = Candidate(entry(), 0.99, 0.99, veto="numbers")
    assert valves.forbid([guarded]) == (guarded,)


def test_same_question_in_another_case_is_no_other_question(clock: Clock) -> None:
    valves = made(clock, questions_per_entry=2)
    texts = ("Undo it?", "undo it", "UNDO  it.", "undo it ?")
    assert all(served(valves, ask(text), hit()) for text in texts * 5)


def test_entry_that_is_asked_slowly_is_not_held(clock: Clock) -> None:
    valves = made(clock, questions_per_entry=5, window_s=60)
    for number in range(40):
        assert served(valves, ask(f"question {number}"), hit())
        clock.now += 13


def test_trial_of_an_entry_opens_or_holds_it_by_its_pace(clock: Clock) -> None:
    valves = made(clock, questions_per_entry=6, window_s=600, trial_hits=3)
    assert sum(served(valves, ask(f"question {n}"), hit()) for n in range(9)) == 6
    clock.now += 300
    assert not any(one.veto for one in valves.forbid([Candidate(entry(), 0.99, 0.99)]))
    for number in range(3):  # 3 in 100 s: 18 in a window
        clock.now += 50
        assert served(valves, ask(f"fast {number}"), hit())
    assert not served(valves, ask("fast 4"), hit())
    clock.now += 300
    for number in range(3):  # 3 in 400 s: fewer than 6 in a window
        assert served(valves, ask(f"slow {number}"), hit())
        clock.now += 200
    assert not valves.shut()


# ---- wrong_share -----------------------------------------------------------------------------


def test_wrong_share_beyond_its_bound_stops_that_tenant(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    valves = made(clock, wrong_share=0.25)
    weigh(valves, {ALICE: Judged(4, 1, 1, 1)})  # one alone is too few
    weigh(valves, {ALICE: Judged(8, 2, 2, 0)})  # at the bound
    assert served(valves, ask(), hit())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            weigh(valves, {ALICE: Judged(7, 2, 0, 0), BOB: Judged(100, 3, 20, 3)})
    assert len(caplog.messages) == 1
    assert "2 hits were found wrong, 29 % (bound 25 %)" in caplog.text
    assert valves.admit(ask(), hit()) == Miss("valve_wrong_share", 0.97, 0.99)
    assert served(valves, ask(tenant="bob"), hit())
    weigh(valves, {BOB: Judged(1000, 6, 20, 6)})  # of those that were verified
    assert valves.check(ask(tenant="bob"), hit()) == Miss("valve_wrong_share", 0.97, 0.99)


@pytest.mark.parametrize("wrong", [0, 1])
def test_trial_of_wrong_share_waits_for_labels_before_it_opens_or_shuts(
    clock: Clock, wrong: int
) -> None:
    valves = made(clock, wrong_share=0.25)
    weigh(valves, {ALICE: Judged(4, 2, 0, 0)})
    clock.now += 300
    assert sum(served(valves, ask(), hit()) for _ in range(9)) == 4
    assert valves.is_on_trial(ALICE)
    since, own = valves.label_starts()
    assert (since, own) == (clock.now - 3600, {ALICE: clock.now})
    weigh(valves, {ALICE: Judged(3, wrong, 0, 0)})
    assert not served(valves, ask(), hit())
    clock.now += 60
    weigh(valves, {ALICE: Judged(3, wrong, 0, 0)} if wrong else {})
    assert served(valves, ask(), hit()) is (wrong == 0)
    if not wrong:  # what was said before is not held against it again
        assert valves.label_starts()[1] == {ALICE: clock.now}


# ---- by hand ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["everything", "hit_ratio", f"hit_ratio:{ALICE}"])
def test_valve_that_a_person_opened_is_open_and_may_shut_again(clock: Clock, name: str) -> None:
    valves = shut_by_ratio(clock)
    valves.obey({name: NOW - 1, "wrong_share": NOW + 5, f"hit_ratio:{BOB}": NOW + 5})
    assert not served(valves, ask(), hit())
    clock.now += 5
    valves.obey({name: NOW + 5})
    assert served(valves, ask(), hit())
    assert not valves.shut()
    for _ in range(20):
        valves.admit(ask(), hit())
    valves.obey({name: NOW + 4})
    assert len(valves.shut()) == 1


@pytest.mark.parametrize("name", ["everything", "wrong_share", f"wrong_share:{ALICE}"])
def test_labels_of_before_a_person_opened_do_not_count(clock: Clock, name: str) -> None:
    valves = made(clock, wrong_share=0.25)
    valves.obey({name: NOW - 100})
    since, own = valves.label_starts()
    assert own.get(ALICE, since) == NOW - 100


def test_opening_that_is_ahead_of_the_clock_does_not_hold_a_valve_open(clock: Clock) -> None:
    valves = shut_by_ratio(clock)
    for _ in range(3):  # noted before the clock was set back
        valves.obey({"everything": NOW + 4000})
        assert not served(valves, ask(), hit())
    assert valves.label_starts()[0] == NOW - 3600


def test_labels_of_before_a_trial_that_began_while_they_were_counted_do_not_end_it(
    clock: Clock,
) -> None:
    valves = made(clock, wrong_share=0.25)
    weigh(valves, {ALICE: Judged(4, 2, 0, 0)})
    clock.now += 300
    starts = valves.label_starts()
    clock.now += 0.04
    assert served(valves, ask(), hit())
    valves.weigh({ALICE: Judged(4, 2, 0, 0)}, starts)
    assert served(valves, ask(), hit())


@pytest.mark.parametrize("hits", [0, 2, 4])  # before the trial, in it, and while it is judged
def test_valve_that_nobody_came_to_for_a_window_is_open(clock: Clock, hits: int) -> None:
    valves = made(clock, wrong_share=0.25)
    weigh(valves, {ALICE: Judged(4, 2, 0, 0)})
    clock.now += 300
    assert all(served(valves, ask(), hit()) for _ in range(hits))
    clock.now += 3599
    valves.obey({})
    assert valves.shut()
    clock.now += 1
    valves.obey({})
    assert not valves.shut()
    assert served(valves, ask(), hit())


# ---- what is counted and kept ----------------------------------------------------------------


def test_shut_valves_and_trips_are_counted(clock: Clock) -> None:
    shut, trips = (one.labels("hit_ratio") for one in (VALVES_SHUT, VALVE_TRIPS))
    before = shut._value.get(), trips._value.get()
    valves = shut_by_ratio(clock)
    clock.now += 300
    assert sum(served(valves, ask(), hit()) for _ in range(20)) == 4  # shut again
    assert (shut._value.get(), trips._value.get()) == (before[0] + 1, before[1] + 2)
    valves.obey({"everything": int(clock.now)})
    assert shut._value.get() == before[0]


def test_memory_is_bounded_whoever_asks(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_MAX_TENANTS", "_MAX_QUESTIONS", "_MAX_SHUT"):
        monkeypatch.setattr(module, name, 20)
    valves = made(clock, hit_ratio=0.01, questions_per_entry=2, min_requests=10)
    for number in range(60):
        for again in range(11):
            valves.admit(ask(f"{number} {again}", tenant=f"t{number}"), hit(100 * number + again))
        for again in range(5):
            valves.admit(ask(f"{number} {again}", tenant="bob"), hit(number))
    assert len(valves.shut()) == 20
    assert len(valves._tenants) <= 20
    assert valves._remembered == sum(len(one.seen) for one in valves._entries.values()) <= 20


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["hit", "exact", "miss", "wrong", "right", "open", "wait", "back"]),
        st.integers(0, 3),
    ),
    max_size=200,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_whatever_happens_repeats_are_served_others_untouched_and_all_opens_by_hand(
    steps: list[tuple[str, int]],
) -> None:
    clock = Clock()
    valves = made(clock, hit_ratio=0.5, questions_per_entry=3, wrong_share=0.2, trial_hits=2)
    for number, (step, which) in enumerate(steps):
        if step == "hit":
            outcome = valves.admit(ask(f"q {number}"), hit(which))
            assert isinstance(outcome, Hit) or outcome.reason.startswith("valve_")
        elif step == "exact":
            assert valves.admit(ask(), EXACT) is EXACT
        elif step == "miss":
            assert valves.admit(ask(), MISS) is MISS
        elif step in ("wrong", "right"):
            weigh(valves, {ALICE: Judged(4, which * (step == "wrong"), 0, 0)})
        elif step == "open":
            valves.obey({"everything": int(clock.now) + 60})
            assert not valves.shut()
        else:
            clock.now += 100 * which if step == "wait" else -50 * which
        assert all(one.left >= 0 for one in valves.shut())
        assert valves.check(ask(tenant="bob"), hit(9)) == hit(9)
        assert valves._remembered == sum(len(one.seen) for one in valves._entries.values())
    assert served(valves, ask(tenant="bob"), hit(9))
    valves.obey({"everything": int(clock.now) + 1})  # whatever the clock did
    assert not valves.shut()
