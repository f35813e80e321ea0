"""What the evidence means for the next question."""

import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from doubles import NOW, Clock, decision, vector_at
from nearhit.config import Settings
from nearhit.decision import Candidate, Hit, Miss
from nearhit.evidence.calibration import CALIBRATION_FILE
from nearhit.evidence.journal import Journal
from nearhit.evidence.watch import HALF_LIFE_S, Watch
from nearhit.store import Entry

ENTRY = UUID(int=1)
SHIPPED = 0.9


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


def watching(tmp_path: Path, clock: Clock, **settings: Any) -> Watch:
    return Watch(Settings(data_dir=tmp_path, **settings), clock)


def candidate(confidence: float = 0.99, similarity: float = 0.9, entry: UUID = ENTRY) -> Candidate:
    stored = Entry(
        id=entry,
        scope="s",
        fingerprint="f",
        text="undo commit",
        completion="{}",
        model="m",
        created_at=0,
        expires_at=1,
        epoch=0,
        signature="",
    )
    return Candidate(stored, similarity, confidence)


def decided(watch: Watch, candidates: list[Candidate]) -> Hit | Miss:
    return watch.decide(candidates, SHIPPED, watch.settings)


def labelled(journal: Journal, outcomes: list[tuple[float, bool]], **changes: Any) -> None:
    for confidence, is_right in outcomes:
        one = decision(confidence, sampled=True, **changes)
        journal.add(one)
        journal.label(one.id, "right" if is_right else "wrong", "judge")


def test_question_is_kept_from_an_entry_that_served_it_or_a_nearer_one_wrongly(
    tmp_path: Path, journal: Journal, clock: Clock
) -> None:
    # The entry stands at 0 degrees; a question at 10 was served wrongly.
    one = decision(entry=str(ENTRY))
    journal.add(one)
    journal.label(one.id, "wrong", "person")
    watch = watching(tmp_path, clock)
    watch.look(journal, "d", SHIPPED)

    def veto(degrees: float, entry: UUID = ENTRY) -> str | None:
        similarity = float(vector_at(0) @ vector_at(degrees))
        (found,) = watch.forbid([candidate(0.99, similarity, entry)], vector_at(degrees))
        return found.veto

    assert veto(10) == veto(9) == veto(14) == "quarantine"
    assert veto(2) is None  # nearer to the entry's own question
    assert veto(10, UUID(int=2)) is None
    (found,) = watch.forbid([candidate()], vector_at(10))
    assert decided(watch, [found]) == Miss("quarantine", 0.9, 0.99)


def test_threshold_rises_to_where_the_sample_is_right_again_and_says_so(
    tmp_path: Path, journal: Journal, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    labelled(journal, [(0.92, n % 3 > 0) for n in range(30)] + [(0.97, True)] * 100)
    watch = watching(tmp_path, clock)
    assert isinstance(decided(watch, [candidate(0.95)]), Hit)
    with caplog.at_level(logging.WARNING, "nearhit"):
        watch.look(journal, "d", SHIPPED)
        watch.look(journal, "d", SHIPPED)
    assert decided(watch, [candidate(0.95)]) == Miss("tightened", 0.9, 0.95)
    assert isinstance(decided(watch, [candidate(0.97)]), Hit)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "of 130 verified hits 7.7 % were wrong" in line
    assert "commit" not in line


def test_nothing_is_served_by_meaning_where_no_threshold_is_right_until_labels_fade(
    tmp_path: Path, journal: Journal, clock: Clock
) -> None:
    labelled(journal, [(0.95, False)] * 8)
    watch = watching(tmp_path, clock)
    watch.look(journal, "d", SHIPPED)
    assert decided(watch, [candidate(1.0)]) == Miss("tightened", 0.9, 1.0)
    clock.now += 40 * HALF_LIFE_S
    watch.look(journal, "d", SHIPPED)
    assert isinstance(decided(watch, [candidate(0.95)]), Hit)


@pytest.mark.parametrize(
    "changes",
    [
        {"sampled": False},
        {"kind": "near"},
        {"kind": "complaint"},
        {"veto": "numbers"},
        {"decider": "another"},
        {"confidence": 0.5},
    ],
)
def test_labels_that_are_no_sample_of_what_is_served_do_not_tighten(
    tmp_path: Path, journal: Journal, clock: Clock, changes: dict[str, Any]
) -> None:
    for _ in range(50):
        one = decision(**{"sampled": True, **changes})
        journal.add(one)
        journal.label(one.id, "wrong", "judge")
    watch = watching(tmp_path, clock)
    watch.look(journal, "d", SHIPPED)
    assert isinstance(decided(watch, [candidate()]), Hit)


@pytest.mark.parametrize(("wrong", "of"), [(1, 1), (1, 100), (2, 3), (3, 150)])
def test_few_wrong_answers_that_may_be_chance_do_not_tighten(
    tmp_path: Path, journal: Journal, clock: Clock, wrong: int, of: int
) -> None:
    labelled(journal, [(0.95, n >= wrong) for n in range(of)])
    watch = watching(tmp_path, clock)
    watch.look(journal, "d", SHIPPED)
    assert watch.belief.tightened == 0
    assert watch.belief.live.value == pytest.approx(wrong / of)


def test_operators_calibration_takes_the_place_of_the_shipped_threshold(
    tmp_path: Path, journal: Journal, clock: Clock
) -> None:
    document = {"decider": "d", "thresholds": {"0.99": {"threshold": 0.7}}}
    (tmp_path / CALIBRATION_FILE).write_text(json.dumps(document))
    asked = [candidate(0.8)]
    for watch, decider, hits in (
        (watching(tmp_path, clock), "d", True),
        (watching(tmp_path, clock), "another encoder", False),
        (watching(tmp_path, clock, target_precision=0.98), "d", False),
        (watching(tmp_path, clock, confidence_threshold=0.9), "d", False),
    ):
        watch.look(journal, decider, SHIPPED)
        assert isinstance(decided(watch, asked), Hit) == hits


@pytest.mark.parametrize("text", ["", "[]", '{"decider": "d"}', '{"decider":"d","thresholds":3}'])
def test_calibration_that_cannot_be_read_leaves_the_shipped_threshold(
    tmp_path: Path, journal: Journal, clock: Clock, text: str
) -> None:
    (tmp_path / CALIBRATION_FILE).write_text(text)
    watch = watching(tmp_path, clock)
    watch.look(journal, "d", SHIPPED)
    assert decided(watch, [candidate(0.8)]) == Miss("below_threshold", 0.9, 0.8)


def test_live_interval_holds_the_true_share_in_at_least_93_of_100_runs_of_a_judge_who_errs(
    tmp_path: Path, clock: Clock
) -> None:
    wrong, passed, blamed = 0.04, 0.25, 0.03
    errors = {"wrong_called_right": passed, "right_called_wrong": blamed}
    held = 0
    for seed in range(100):
        rng = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        journal = Journal(folder)
        for _ in range(200):
            is_wrong = rng.random() < wrong
            errs = rng.random() < (passed if is_wrong else blamed)
            one = decision(0.95, at=NOW - rng.randrange(14 * 86_400), sampled=True)
            journal.add(one)
            journal.label(one.id, "wrong" if is_wrong != errs else "right", "judge")
        watch = watching(folder, clock, evidence=errors)
        watch.look(journal, "d", SHIPPED)
        journal.close()
        held += watch.belief.live.low <= wrong <= watch.belief.live.high
    assert held >= 93
