"""A threshold from labelled pairs, by the encoder, verifier and guards that serve."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nearhit.evidence.calibration import read_calibration
from nearhit_eval.cli import main

WORDS = ["rename", "delete", "create", "merge", "rebase", "push", "fetch", "list", "clone", "tag"]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs(count: int) -> list[dict[str, Any]]:
    """As many right pairs as wrong ones, no text twice."""
    rows: list[dict[str, Any]] = []
    for n in range(count):
        word = f"{WORDS[n % len(WORDS)]} number {n // len(WORDS)} of"
        rows.append({"a": f"How do I {word} it?", "b": f"How can I {word} it?", "label": 1})
        rows.append({"a": f"How do I {word} it?", "b": f"Who invented the {word}?", "label": 0})
    return rows


@pytest.fixture
def config(tmp_path: Path, real_artefacts: Path) -> list[str]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "artefacts").symlink_to(real_artefacts)
    path = tmp_path / "config.yaml"
    path.write_text(f"nearhit: {{data_dir: {tmp_path / 'data'}}}\n")
    return ["--config", str(path)]


def test_calibrate_finds_a_threshold_and_writes_it_only_when_proven_or_told(
    tmp_path: Path, config: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "pairs.jsonl", pairs(60))
    out = tmp_path / "found.json"
    command = ["calibrate", str(file), *config, "--json", str(out), "--write"]
    assert main([*command, "--target-precision", "0.97"]) == 1
    shown = capsys.readouterr().out
    assert "120 labelled pairs" in shown
    assert "measured, not proven" in shown
    assert "more labels may prove it" in shown
    found = json.loads(out.read_text())
    assert (found["is_proven"], found["wrong"]) == (False, 0)
    assert list(found["sha256"]) == ["pairs.jsonl"]
    assert read_calibration(tmp_path / "data", found["decider"]) == {}
    assert main([*command, "--target-precision", "0.97", "--measured"]) == 0
    written = read_calibration(tmp_path / "data", found["decider"])
    assert written == {"0.97": found["threshold"]}
    assert main([*command, "--target-precision", "0.9"]) == 0
    assert "(proven)" in capsys.readouterr().out


def test_calibrate_reads_what_a_proxy_exports_and_leaves_out_lines_without_a_label(
    tmp_path: Path, config: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = {1: "right", 0: "wrong"}
    rows = [
        {"question": row["b"], "stored_question": row["a"], "label": words[row["label"]]}
        for row in pairs(3)
    ]
    rows.append({"question": "x", "stored_question": "y", "label": None})
    assert main(["calibrate", str(write(tmp_path / "d.jsonl", rows)), *config]) == 1
    shown = capsys.readouterr().out
    assert "1 lines have no label and were left out" in shown
    assert "no threshold keeps a precision of 0.99 on 6 labels" in shown


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"a": "x", "b": 3, "label": 1}], r"rows\.jsonl:1 b or question must be a text, got 3"),
        ([{"a": "", "b": "x", "label": 1}], r"rows\.jsonl:1 a or stored_question must be a text"),
        ([{"a": "x", "b": "y", "label": 2}], r":1 label must be 1, 0, right, wrong or null, got 2"),
        ([{"a": "x", "b": "y", "label": [1]}], r":1 label must be 1, 0, right, wrong or null"),
        ([{"a": "x", "b": "y", "label": 1}], r"must hold labels of both kinds, got 1 of one"),
        ([], r"must hold labels of both kinds, got 0"),
    ],
)
def test_calibrate_refuses_bad_input_with_file_line_and_remedy(
    tmp_path: Path,
    config: list[str],
    capsys: pytest.CaptureFixture[str],
    rows: list[dict[str, Any]],
    message: str,
) -> None:
    file = write(tmp_path / "rows.jsonl", rows)
    assert main(["calibrate", str(file), *config]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_calibrate_refuses_a_target_that_is_none(
    tmp_path: Path, config: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "pairs.jsonl", pairs(1))
    assert main(["calibrate", str(file), *config, "--target-precision", "99"]) == 2
    assert "--target-precision must be from 0.5 to below 1, got 99" in capsys.readouterr().err
