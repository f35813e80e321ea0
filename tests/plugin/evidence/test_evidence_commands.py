"""report, calibrate and export at a terminal, over a journal that is there."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from doubles import decision
from nearhit.cli import main
from nearhit.evidence.bounds import fewest_labels
from nearhit.evidence.calibration import read_calibration
from nearhit.evidence.journal import Journal
from nearhit.evidence.ledger import Sums

NOW = 1_800_000_000

Fill = Callable[..., None]


@pytest.fixture
def fill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fill]:
    monkeypatch.setenv("NEARHIT_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("time.time", lambda: float(NOW))
    journal = Journal(tmp_path)

    def fill_(
        count: int,
        label: str = "",
        confidence: float = 0.97,
        by: str = "person",
        **changes: Any,
    ) -> None:
        for n in range(count):
            one = decision(confidence, at=NOW - n, **changes)
            journal.add(one)
            if label:
                journal.label(one.id, label, by)  # type: ignore[arg-type]

    yield fill_
    journal.close()


def test_calibrate_writes_a_threshold_that_labels_prove(
    fill: Fill, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(fewest_labels(0.99), "right", 0.97)
    fill(20, "wrong", 0.8)
    assert main(["calibrate", "--write"]) == 0
    shown = capsys.readouterr().out
    assert "precision 0.99: confidence 0.9700 (proven); 408 of 428 labelled decisions" in shown
    assert read_calibration(tmp_path, "d") == {"0.99": 0.97}
    assert read_calibration(tmp_path, "another") == {}
    assert list(tmp_path.glob("*.unfinished")) == []


def test_calibrate_keeps_the_thresholds_of_other_targets(
    fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(fewest_labels(0.99), "right", 0.97)
    fill(60, "wrong", 0.5)
    assert main(["calibrate", "--write"]) == 0
    monkeypatch.setenv("NEARHIT_TARGET_PRECISION", "0.9")
    assert main(["calibrate", "--write"]) == 0
    assert read_calibration(tmp_path, "d") == {"0.99": 0.97, "0.9": 0.97}


def test_calibrate_writes_what_is_not_proven_only_when_told_to(
    fill: Fill, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(120, "right")
    assert main(["calibrate", "--write"]) == 1
    assert "--measured writes it all the same" in capsys.readouterr().out
    assert read_calibration(tmp_path, "d") == {}
    assert main(["calibrate", "--write", "--measured"]) == 0
    assert read_calibration(tmp_path, "d") == {"0.99": 0.97}


def test_calibrate_with_too_few_labels_says_how_many_are_wanted(
    fill: Fill, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(10, "right")
    fill(5)
    assert main(["calibrate"]) == 1
    shown = capsys.readouterr()
    assert "on 10 labels; at least 408 served without a wrong one prove it" in shown.out
    assert "5 of 15 decisions have no label; --judge MODEL or --by-hand" in shown.err


def test_calibrate_counts_neither_complaints_nor_what_a_guard_forbade(
    fill: Fill, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(60, "right", 0.97)
    fill(3, "wrong", 0.99, kind="complaint")
    fill(3, "wrong", 0.99, veto="numbers")
    main(["calibrate"])
    assert "on 60 labels" in capsys.readouterr().out


def test_calibrate_allows_for_the_errors_that_the_judge_is_said_to_make(
    fill: Fill, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The judge lets half of the wrong answers pass: twice as many labels are needed.
    monkeypatch.setenv("NEARHIT_EVIDENCE__WRONG_CALLED_RIGHT", "0.49")
    fill(fewest_labels(0.99), "right", 0.97, by="judge")
    main(["calibrate"])
    assert "(proven)" not in capsys.readouterr().out
    monkeypatch.setenv("NEARHIT_EVIDENCE__WRONG_CALLED_RIGHT", "0")
    assert main(["calibrate"]) == 0
    assert "(proven)" in capsys.readouterr().out


def test_calibrate_counts_repeats_of_one_pair_once(
    fill: Fill, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(500, "right", 0.97, question="the same")
    assert main(["calibrate"]) == 1
    assert "on 1 labels" in capsys.readouterr().out


def test_calibrate_by_hand_asks_until_told_that_it_is_enough(
    fill: Fill,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(5, fresh_answer="Use git reset.")
    said = iter(["r", "w", "s", "q"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(said))
    assert main(["calibrate", "--by-hand"]) == 1
    shown = capsys.readouterr().out
    assert "new      how to revert a commit" in shown
    assert "\nstored   how to undo a commit\n" in shown
    assert "model's  Use git reset." in shown
    journal = Journal(tmp_path)
    assert sorted(one.person for one in journal.recent(10)) == ["", "", "", "right", "wrong"]
    journal.close()


def test_calibrate_without_a_key_for_the_judge_names_the_variable(
    fill: Fill, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEARHIT_PROXY_KEY", raising=False)
    fill(1)
    assert main(["calibrate", "--judge", "gpt-4o", "--yes"]) == 1
    assert "NEARHIT_PROXY_KEY must be a key of the proxy" in capsys.readouterr().err


def test_calibrate_with_no_proxy_there_says_that_labels_are_kept(
    fill: Fill, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARHIT_PROXY_KEY", "sk-test")
    fill(2)
    command = ["calibrate", "--judge", "gpt-4o", "--yes", "--proxy", "http://127.0.0.1:9"]
    assert main(command) == 1
    assert (
        "got ConnectError from http://127.0.0.1:9; labels given so far" in capsys.readouterr().err
    )


def test_report_counts_requests_and_what_thresholds_would_serve(
    fill: Fill, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(3, "right", 0.97)
    fill(1, "wrong", 0.91)
    fill(2, "", 0.6, kind="near")
    fill(1, "wrong", 0.99, kind="complaint")
    journal = Journal(tmp_path)
    would_hit, miss = (("k", "", "gpt-4o-mini", name) for name in ("shadow_semantic", "miss"))
    journal.book({would_hit: Sums(4, 1000, 2000, 0.5, 0.5), miss: Sums(6, 10, 10, 0.5)}, NOW)
    journal.close()
    assert main(["report", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["requests"] == {"miss": 6, "shadow_semantic": 4}
    assert report["tokens"] == {"gpt-4o-mini": [1000, 2000]}
    assert report["money"]["gpt-4o-mini"] == 0.5
    rows = {row["threshold"]: row for row in report["thresholds"]}
    assert (rows[0.5]["served"], rows[0.5]["labelled"], rows[0.5]["wrong"]) == (6, 4, 1)
    assert (rows[0.95]["served"], rows[0.95]["wrong"]) == (3, 0)
    assert [one["kind"] for one in report["worst"]] == ["complaint", "served"]
    assert main(["report"]) == 0
    assert "shadow_semantic           4   40.0 %" in capsys.readouterr().out


def test_report_of_an_empty_journal_says_so(fill: Fill, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report"]) == 0
    assert "0 chat requests" in capsys.readouterr().out


def test_commands_without_a_journal_say_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARHIT_DATA_DIR", str(tmp_path))
    for command in (["report"], ["calibrate"], ["export", "--out", "-"]):
        assert main(command) == 1
        assert "got none in" in capsys.readouterr().err


def test_export_is_what_the_trainer_reads(
    fill: Fill, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    feedback = pytest.importorskip("nearhit_training.feedback")
    fill(2, "wrong")
    fill(1, "", kind="near")
    out = tmp_path / "decisions.jsonl"
    assert main(["export", "--out", str(out)]) == 0
    lines = feedback.read_feedback([out])
    assert sorted(str(line.label) for line in lines) == ["None", "wrong", "wrong"]
    assert lines[0].stored_question == "how to undo a commit"
    assert main(["export", "--out", str(tmp_path / "no" / "such")]) == 1
    assert "--out must be a file that can be written" in capsys.readouterr().err
