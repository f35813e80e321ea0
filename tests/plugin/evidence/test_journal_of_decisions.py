"""The journal: what was written is read back, by every worker, and by nobody else."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doubles import NOW, decision
from nearhit.errors import ConfigError
from nearhit.evidence.journal import Journal, Judged
from nearhit.evidence.ledger import MAX_ROWS_A_DAY, OTHER, Sums


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path)
    yield opened
    opened.close()


def test_decision_is_read_back_as_it_was_written(journal: Journal) -> None:
    written = decision(question="quote ' and ünïcödé \U0001f600", sampled=True)
    journal.add(written)
    assert journal.get(written.id) == written
    assert journal.get("0" * 32) is None


def test_recent_decisions_come_newest_first_and_of_the_decider_that_is_asked_for(
    journal: Journal,
) -> None:
    for at, decider in ((1, "a"), (3, "b"), (2, "a"), (9, "a")):
        journal.add(decision(at=at, decider=decider))
    assert [one.at for one in journal.recent(10)] == [9, 3, 2, 1]
    assert [one.at for one in journal.recent(2, decider="a")] == [9, 2]
    assert [one.at for one in journal.recent(10, since=3)] == [9, 3]


def test_oldest_decisions_beyond_the_bound_are_dropped(tmp_path: Path) -> None:
    journal = Journal(tmp_path, max_decisions=50)
    for at in range(300):
        journal.add(decision(at=at, id=f"{at % 256:02x}{at:030x}"))
    kept = journal.recent(1000)
    assert kept[0].at == 299
    assert len(kept) < 300
    journal.add(decision(at=300, id=f"00{300:030x}"))
    assert [one.at for one in journal.recent(1000)] == list(range(300, 250, -1))
    journal.close()


def test_labelled_decisions_are_not_crowded_out_by_those_that_have_none(tmp_path: Path) -> None:
    journal = Journal(tmp_path, max_decisions=10)
    labelled = decision(at=0, sampled=True)
    journal.add(labelled)
    journal.label(labelled.id, "wrong", "judge")
    for at in range(1, 100):
        journal.add(decision(at=at, id=f"00{at:030x}", kind="near"))
    assert journal.get(labelled.id) is not None
    assert len(journal.recent(1000)) == 11
    assert [one.is_wrong for one in journal.verified("d", 100)] == [True]
    journal.close()


def test_sample_has_each_pair_of_questions_once_with_its_newest_label(journal: Journal) -> None:
    for at, label in ((1, "wrong"), (2, "wrong"), (3, "right")):
        one = decision(at=at, sampled=True, question="the same")
        journal.add(one)
        journal.label(one.id, label, "judge")  # type: ignore[arg-type]
    other = decision(at=4, sampled=True, question="another")
    journal.add(other)
    journal.label(other.id, "wrong", "judge")
    assert [(one.at, one.is_wrong) for one in journal.verified("d", 10)] == [(4, True), (3, False)]


def test_word_of_a_client_quarantines_and_is_no_label(journal: Journal) -> None:
    one = decision(sampled=True)
    journal.add(one)
    journal.label(one.id, "right", "judge")
    labelled = journal.label(one.id, "wrong", "client")
    assert labelled is not None
    assert labelled.label == "right"
    assert len(journal.quarantined("d")) == 1
    assert [found.is_wrong for found in journal.verified("d", 10)] == [False]
    journal.label(one.id, "right", "person")
    assert journal.quarantined("d") == []


def test_client_who_is_not_believed_changes_no_quarantine(journal: Journal) -> None:
    one = decision()
    journal.add(one)
    journal.label(one.id, "wrong", "client", is_believed=False)
    assert journal.quarantined("d") == []


def test_quarantine_of_a_decision_that_is_gone_can_be_lifted(tmp_path: Path) -> None:
    journal = Journal(tmp_path, max_decisions=1)
    one = decision(at=0)
    journal.add(one)
    journal.label(one.id, "wrong", "client")
    for at in range(1, 4):
        journal.add(decision(at=at, id=f"00{at:030x}"))
    assert journal.get(one.id) is None
    assert journal.label(one.id, "right", "person") is None
    assert journal.quarantined("d") == []
    journal.close()


def test_wrong_quarantines_and_right_lifts_it(journal: Journal) -> None:
    served = decision()
    journal.add(served)
    labelled = journal.label(served.id, "wrong", "judge")
    assert labelled is not None
    assert labelled.label == "wrong"
    (found,) = journal.quarantined("d")
    assert found.entry == "e"
    assert journal.quarantined("another encoder") == []
    journal.label(served.id, "right", "person")
    assert journal.quarantined("d") == []


def test_word_of_a_person_stands_whatever_a_judge_says_later(journal: Journal) -> None:
    served = decision()
    journal.add(served)
    journal.label(served.id, "wrong", "person")
    labelled = journal.label(served.id, "right", "judge")
    assert labelled is not None
    assert labelled.label == "wrong"
    assert len(journal.quarantined("d")) == 1


def test_label_of_an_unknown_decision_or_of_another_word_does_nothing(journal: Journal) -> None:
    assert journal.label("0" * 32, "wrong", "person") is None
    assert journal.quarantined("d") == []
    with pytest.raises(ConfigError, match="right or wrong, got 'bad'"):
        journal.label("0" * 32, "bad", "person")  # type: ignore[arg-type]


def test_ledger_adds_up_by_day_key_team_model_and_outcome(journal: Journal) -> None:
    hit, miss = ("k", "red", "m", "hit_exact"), ("k", "red", "m", "miss")
    journal.book({hit: Sums(1, 10, 20, 0.0, 0.5, 0.1), miss: Sums(2, 5, 5, 0.25)}, NOW)
    journal.book({hit: Sums(2, 1, 2, 0.0, 0.25, 0.1)}, NOW)
    rows = {row.outcome: row for row in journal.ledger()}
    assert rows["hit_exact"].sums == Sums(3, 11, 22, 0.0, 0.75, 0.2)
    assert (rows["miss"].key, rows["miss"].team, rows["miss"].sums.spent_usd) == ("k", "red", 0.25)
    assert journal.ledger(since=NOW + 86_400) == []


def test_ledger_of_a_day_is_bounded_and_its_sums_are_not_lost(journal: Journal) -> None:
    one = Sums(1, 1, 1, 0.5)
    journal.book({(f"k{n}", "", "m", "miss"): one for n in range(MAX_ROWS_A_DAY + 5)}, NOW)
    journal.book({("k0", "", "m", "miss"): one, ("new", "", "m", "miss"): one}, NOW)
    rows = journal.ledger()
    assert len(rows) == MAX_ROWS_A_DAY + 1
    assert sum(row.sums.requests for row in rows) == MAX_ROWS_A_DAY + 7
    assert next(row.sums.requests for row in rows if row.key == OTHER) == 6


def test_file_of_before_there_was_a_ledger_gets_one(journal: Journal) -> None:
    with sqlite3.connect(journal.path) as old:
        old.execute("DROP TABLE ledger")
    old.close()
    journal.close()
    again = Journal(journal.path.parent)
    again.book({("k", "", "m", "miss"): Sums(1)}, NOW)
    assert again.ledger()[0].sums == Sums(1)
    again.close()


def test_share_of_wrong_hits_is_counted_by_tenant_since_a_time(journal: Journal) -> None:
    said: tuple[dict[str, Any], ...] = (
        {"tenant": "a"},
        {"tenant": "a", "client": "wrong"},
        {"tenant": "a", "judge": "wrong"},
        {"tenant": "a", "judge": "wrong", "person": "right"},
        {"tenant": "a", "judge": "right", "kind": "shadow"},
        {"tenant": "a", "kind": "complaint", "client": "wrong"},
        {"tenant": "a", "kind": "near", "judge": "wrong"},
        {"tenant": "b", "judge": "right"},
        {"tenant": "c", "judge": "wrong", "at": 200},
    )
    for one in said:
        journal.add(decision(**{"at": 100, **one}))
    believed = journal.judged(99, {}, 2, is_client_believed=True)
    assert believed == {"a": Judged(5, 3, 3, 1), "c": Judged(1, 1, 1, 1)}
    assert [believed[name].share for name in "ac"] == [0.6, 1.0]
    assert journal.judged(99, {}, 2, is_client_believed=False)["a"] == Judged(5, 1, 3, 1)
    assert set(journal.judged(99, {"a": 100.5}, 9, is_client_believed=True)) == {"c"}
    assert set(journal.judged(99, {"c": 200}, 9, is_client_believed=True)) == {"a"}
    assert journal.judged(99, {}, 9, is_client_believed=True) == {}
    assert journal.judged(200, {}, 1, is_client_believed=True) == {}


def test_hits_that_are_no_longer_kept_do_not_make_the_wrong_share_look_higher(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path, max_decisions=50)
    for at in range(200):  # one in ten is wrong; labelled ones are kept for longer
        label = "wrong" if at % 10 == 0 else ""
        journal.add(decision(at=at, id=f"{at % 256:02x}{at:030x}", client=label))
    journal.add(decision(at=200, id=f"00{200:030x}"))
    found = journal.judged(0, {}, 2, is_client_believed=True)["alice"]
    assert found.share == pytest.approx(0.1, abs=0.03)
    journal.close()
