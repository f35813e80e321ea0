"""The `nearhit-train` command."""

from pathlib import Path

import pytest

from nearhit_training.cli import main


def test_train_without_a_verb_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert "generate" in capsys.readouterr().out


def test_train_with_a_misspelt_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["genrate"]) == 2
    assert "did you mean generate?" in capsys.readouterr().err


def test_train_hands_the_options_to_the_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = ["--endpoint", "http://127.0.0.1:9/v1", "--model", "m"]
    missing = str(tmp_path / "none.jsonl")
    out = ["--out", str(tmp_path / "out.jsonl")]
    assert main(["generate", missing, *endpoint, *out, "--dry-run"]) == 1
    assert "must be a file of UTF-8 text" in capsys.readouterr().err
