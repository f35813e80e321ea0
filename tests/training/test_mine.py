import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit_training.mine import main, read_ranks
from nearhit_training.pairs import Pair, spread
from scripted_model import Say, ScriptedModel, WordEncoder, read_lines, write_lines

QUESTIONS = [
    "how do lamps glow at night",
    "how do lamps glow at night please",
    "never how do lamps glow at night",
    "where can penguins swim",
]


def pairs_of(tmp_path: Path) -> list[dict[str, Any]]:
    return read_lines(tmp_path / "out.jsonl")


def record_of(tmp_path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((tmp_path / "out.run.json").read_text())
    return record


def test_mine_from_questions_labels_neighbours_in_both_orders(
    model: ScriptedModel, run_options: list[str], tmp_path: Path, word_encoder: WordEncoder
) -> None:
    questions = write_lines(tmp_path / "q.txt", *QUESTIONS)
    assert main([str(questions), *run_options, "--yes"], word_encoder) == 0
    pairs = pairs_of(tmp_path)
    assert sorted(pair["label"] for pair in pairs) == [0, 0, 1]
    assert all(pair["source"] == "mined" and pair["similarity"] > 0.55 for pair in pairs)
    same = next(pair for pair in pairs if pair["label"] == 1)
    assert {same["a"], same["b"]} == set(QUESTIONS[:2])
    assert model.purposes == {"judge": 6}
    calls = len(model.requests)
    assert main([str(questions), *run_options, "--yes"], word_encoder) == 0
    assert len(model.requests) == calls
    assert pairs_of(tmp_path) == pairs


def test_mine_drops_what_the_judge_contradicts(
    model: ScriptedModel, run_options: list[str], tmp_path: Path, word_encoder: WordEncoder
) -> None:
    questions = write_lines(tmp_path / "q.txt", *QUESTIONS[:2])
    same = '{"difference": "none", "one_answer_serves_both": true}'
    model.faults = [Say(same), Say(same.replace("true", "false"))]
    assert main([str(questions), *run_options, "--yes"], word_encoder) == 0
    assert pairs_of(tmp_path) == []
    assert record_of(tmp_path)["filtered"]["unjudged"] == 1


def test_mine_counts_questions_that_it_leaves_out(
    model: ScriptedModel, run_options: list[str], tmp_path: Path, word_encoder: WordEncoder
) -> None:
    extra = ["How do lamps glow at night?", "hash qzx here", "where can penguins swim now"]
    questions = write_lines(tmp_path / "q.txt", *QUESTIONS, *extra)
    held_out = write_lines(tmp_path / "h.txt", "where can penguins swim now")
    arguments = [str(questions), *run_options, "--held-out", str(held_out), "--yes"]
    assert main(arguments, word_encoder) == 0
    filtered = record_of(tmp_path)["filtered"]
    assert {key: filtered[key] for key in ("duplicate", "unencodable", "leakage")} == {
        "duplicate": 1,
        "unencodable": 1,
        "leakage": 1,
    }


def test_mine_from_feedback_trusts_labels_and_judges_the_rest(
    model: ScriptedModel, run_options: list[str], tmp_path: Path, word_encoder: WordEncoder
) -> None:
    def line(a: str, b: str, label: str | None) -> dict[str, Any]:
        return {"question": a, "stored_question": b, "similarity": 0.9, "label": label, "at": 1}

    feedback = write_lines(
        tmp_path / "f.jsonl",
        line("turn it on", "never turn it on", "right"),  # people know better than the judge
        line("turn it on", "turn it off", "wrong"),
        line("open the door", "never open the door", None),
        line("never open the door", "open the door", None),  # the same pair
        line("paint it", "paint it red", "right"),
        line("paint it red", "paint it", "wrong"),  # contradicts the line above
    )
    assert main(["--feedback", str(feedback), *run_options, "--yes"], word_encoder) == 0
    found = {(p["a"], p["b"]): (p["label"], p["source"]) for p in pairs_of(tmp_path)}
    assert found == {
        ("turn it on", "never turn it on"): (1, "feedback"),
        ("turn it on", "turn it off"): (0, "feedback"),
        ("open the door", "never open the door"): (0, "shadow"),
    }
    assert model.purposes == {"judge": 2}
    filtered = record_of(tmp_path)["filtered"]
    assert (filtered["contradictory"], filtered["duplicate"]) == (2, 1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"question": "x"}, "f.jsonl:1: stored_question must fit (rule: Field required)"),
        ({"question": "x", "stored_question": "y", "label": "maybe"}, "f.jsonl:1: label must fit"),
        ({"question": " ", "stored_question": "y"}, "f.jsonl:1: question must fit"),
        ({"question": "x", "stored_question": "y", "similarity": 7}, "f.jsonl:1: similarity"),
    ],
)
def test_mine_from_bad_feedback_names_file_line_and_rule(
    model: ScriptedModel,
    run_options: list[str],
    tmp_path: Path,
    word_encoder: WordEncoder,
    line: dict[str, Any],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    feedback = write_lines(tmp_path / "f.jsonl", line)
    assert main(["--feedback", str(feedback), *run_options, "--yes"], word_encoder) == 1
    assert said in capsys.readouterr().err


def test_mine_without_questions_or_feedback_says_what_to_give(
    run_options: list[str], word_encoder: WordEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*run_options, "--yes"], word_encoder) == 1
    assert "mine must be given question files or --feedback" in capsys.readouterr().err


def test_ranks_are_read_as_single_ones_and_spans() -> None:
    assert read_ranks("1-3, 7,20-21") == (1, 2, 3, 7, 20, 21)


@pytest.mark.parametrize("text", ["0", "3-1", "", "a", "1,,2", "-4"])
def test_ranks_that_are_none_are_refused(
    text: str, run_options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*run_options, f"--ranks={text}"])
    assert "must be ranks from 1 upwards" in capsys.readouterr().err


@given(st.lists(st.floats(-1, 1), max_size=60), st.integers(0, 40), st.integers(0, 5))
def test_spread_draws_each_pair_once_and_no_more_than_asked(
    similarities: list[float], most: int, seed: int
) -> None:
    pairs = [Pair(str(i), "", None, s, "", "") for i, s in enumerate(similarities)]
    drawn = spread(pairs, most, seed)
    assert len(drawn) == min(most, len(pairs))
    assert len({pair.a for pair in drawn}) == len(drawn)
    assert drawn == spread(pairs, most, seed)


def test_spread_over_two_bands_takes_as_many_of_each() -> None:
    pairs = [Pair(str(i), "", None, 0.62 if i < 90 else 0.91, "", "") for i in range(100)]
    drawn = spread(pairs, 10, 0)
    assert sum(pair.similarity > 0.9 for pair in drawn) == 5
