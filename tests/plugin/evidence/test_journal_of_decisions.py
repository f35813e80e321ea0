"""The journal: what was written is read back, by every worker, and by nobody else."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from doubles import NOW, decision
from nearhit.errors import ConfigError, StoreError
from nearhit.evidence.journal import FILE, Journal


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


def test_tally_adds_up_by_day_model_and_outcome(journal: Journal) -> None:
    journal.count({("m", "hit_exact"): (1, 10, 20), ("m", "miss"): (2, 0, 0)}, NOW)
    journal.count({("m", "hit_exact"): (2, 1, 2)}, NOW)
    rows = {row.outcome: row for row in journal.tally()}
    assert (rows["hit_exact"].requests, rows["hit_exact"].prompt_tokens) == (3, 11)
    assert rows["hit_exact"].completion_tokens == 22
    assert rows["miss"].requests == 2
    assert journal.tally(since=NOW + 86_400) == []


def test_file_can_be_read_by_its_owner_alone(journal: Journal) -> None:
    assert journal.path.stat().st_mode & 0o777 == 0o600


def test_file_of_another_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError, match="schema 1, got 99; move the file away"):
        Journal(tmp_path)


def test_file_that_is_no_database_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database at all, but long enough to be read as one" * 9)
    with pytest.raises(StoreError, match=r"evidence\.sqlite3 must be a SQLite file"):
        Journal(tmp_path)


def test_threads_and_processes_write_at_once_and_lose_nothing(
    journal: Journal, tmp_path: Path
) -> None:
    script = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\n"
        "from doubles import decision\n"
        "from nearhit.evidence.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for n in range(100): journal.add(decision(question=f'process {n}'))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), *sys.path]
    processes = [subprocess.Popen(command) for _ in range(2)]

    def write(name: str) -> None:
        for n in range(100):
            one = decision(question=f"{name} {n}")
            journal.add(one)
            journal.label(one.id, "wrong", "judge")

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len(journal.recent(1000)) == 400
    assert len(journal.quarantined("d")) == 200


def test_decision_that_is_written_again_keeps_its_labels(journal: Journal) -> None:
    one = decision()
    journal.add(one)
    journal.label(one.id, "wrong", "person")
    journal.add(replace(one, fresh_answer="Use git reset.", sampled=True))
    (found,) = journal.recent(10)
    assert (found.fresh_answer, found.sampled, found.person) == ("Use git reset.", True, "wrong")
