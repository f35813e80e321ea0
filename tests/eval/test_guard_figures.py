"""The script that tells what each guard saves and costs."""

import json
from pathlib import Path

import pytest

from nearhit.errors import ConfigError
from nearhit_eval import guards

ROWS: list[dict[str, object]] = [
    {
        "query": "enable 2FA",
        "paraphrases": ["turn on 2FA"],
        "near_misses": [{"text": "disable 2FA"}, "enable SSO"],
    },
    {"a": "take 5 mg", "b": "take 6 mg", "label": 1},
    {"query": "open a file", "cluster": 1},
    {"query": "opening a file", "cluster": 1},
    {"anchor": "dogs", "positive": "puppies", "negative": "cats"},
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


def test_read_pairs_of_each_kind_of_row_sorts_them(tmp_path: Path) -> None:
    kinds = guards.read_pairs(write(tmp_path / "rows.jsonl", ROWS)).kinds
    assert kinds["duplicates"] == [
        ("enable 2FA", "turn on 2FA"),
        ("take 5 mg", "take 6 mg"),
        ("open a file", "opening a file"),
        ("dogs", "puppies"),
    ]
    assert ("enable 2FA", "disable 2FA") in kinds["near misses"]
    assert ("turn on 2FA", "enable SSO") in kinds["further"]


def test_main_prints_a_row_for_each_guard_and_the_lost_duplicates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guards.main([str(write(tmp_path / "rows.jsonl", ROWS)), "--show"]) == 0
    printed = capsys.readouterr().out
    assert "numbers" in printed
    assert "default" in printed
    assert "- take 5 mg" in printed


def test_read_pairs_of_an_unknown_row_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rows\.jsonl:1 must be a group"):
        guards.read_pairs(write(tmp_path / "rows.jsonl", [{"text": "?"}]))
