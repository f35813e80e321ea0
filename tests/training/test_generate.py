import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nearhit_training.generate import main
from scripted_model import (
    Cut,
    Fault,
    Say,
    ScriptedModel,
    Silence,
    Status,
    WordEncoder,
    draft_of,
    prompt_of,
    read_lines,
    write_lines,
)

SEEDS = [
    "how do lamps glow",
    "why are violins expensive",
    "where can penguins swim",
    "when should tomatoes ripen",
]


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "seeds.txt", *SEEDS)


def groups_of(tmp_path: Path) -> list[dict[str, Any]]:
    return read_lines(tmp_path / "out.jsonl")


def record_of(tmp_path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((tmp_path / "out.run.json").read_text())
    return record


def test_generate_from_good_answers_writes_groups_and_record(
    model: ScriptedModel,
    seeds: Path,
    run_options: list[str],
    tmp_path: Path,
    word_encoder: WordEncoder,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(seeds), *run_options, "--domain", "law", "--yes"], word_encoder) == 0
    groups = groups_of(tmp_path)
    assert [group["query"] for group in groups] == SEEDS
    for group in groups:
        assert group["domain"] == "law"
        assert group["topic"] == "lamps"
        assert group["paraphrases"] == draft_of(group["query"])["paraphrases"]
        assert group["near_misses"] == draft_of(group["query"])["near_misses"]
    assert model.purposes == {"generate": 4, "judge": 32}
    record = record_of(tmp_path)
    assert record["groups"] == 4
    assert record["calls"] == {"paid_now": 36, "from_journal": 0}
    assert record["encoder"] == word_encoder.fingerprint
    assert len(record["sha256"][str(seeds)]) == 64
    printed = capsys.readouterr().out
    assert "estimate: about 36 calls" in printed
    assert "4 groups with 16 paraphrases and 16 near misses" in printed
    assert "word overlap" in printed


def test_generate_run_again_pays_nothing(
    model: ScriptedModel, seeds: Path, run_options: list[str], tmp_path: Path
) -> None:
    arguments = [str(seeds), *run_options, "--no-encoder", "--yes"]
    assert main(arguments) == 0
    first, calls = (tmp_path / "out.jsonl").read_bytes(), len(model.requests)
    assert main(arguments) == 0
    assert len(model.requests) == calls
    assert (tmp_path / "out.jsonl").read_bytes() == first
    assert record_of(tmp_path)["calls"] == {"paid_now": 0, "from_journal": calls}


def start(seeds: Path, options: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nearhit_training.generate", str(seeds), *options]
    return subprocess.Popen(
        [*command, "--no-encoder", "--yes"], stderr=subprocess.PIPE, text=True, env=os.environ
    )


def wait_for_lines(path: Path, count: int) -> None:
    until = time.monotonic() + 30
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert time.monotonic() < until, "the journal did not grow"
        time.sleep(0.02)


@pytest.mark.parametrize("answered", [2, 11])
def test_generate_killed_in_the_middle_resumes_and_pays_nothing_twice(
    model: ScriptedModel, seeds: Path, run_options: list[str], tmp_path: Path, answered: int
) -> None:
    model.hold_after = answered
    process = start(seeds, run_options)
    try:
        wait_for_lines(tmp_path / "out.journal.jsonl", answered)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (tmp_path / "out.jsonl").exists()
    model.hold_after = None
    model.released.set()
    assert main([str(seeds), *run_options, "--no-encoder", "--yes"]) == 0
    assert [group["query"] for group in groups_of(tmp_path)] == SEEDS
    assert set(model.answered.values()) == {1}
    assert len(model.answered) == 36
    assert record_of(tmp_path)["calls"] == {"paid_now": 36 - answered, "from_journal": answered}


def test_generate_interrupted_finishes_calls_under_way_and_says_how_to_go_on(
    model: ScriptedModel, seeds: Path, run_options: list[str], tmp_path: Path
) -> None:
    model.hold_after = 11
    process = start(seeds, run_options)
    wait_for_lines(tmp_path / "out.journal.jsonl", 11)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "finishing the calls" not in process.stderr.readline():
        assert process.poll() is None
    model.hold_after = None
    model.released.set()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on from there" in said
    assert main([str(seeds), *run_options, "--no-encoder", "--yes"]) == 0
    assert set(model.answered.values()) == {1}


def test_generate_through_faults_of_the_endpoint_gives_the_same_groups(
    model: ScriptedModel, seeds: Path, run_options: list[str], tmp_path: Path
) -> None:
    model.faults = [Status(500), Cut(), Status(429, {"Retry-After": "0"}), Status(502), Cut()]
    assert main([str(seeds), *run_options, "--no-encoder", "--yes"]) == 0
    assert len(groups_of(tmp_path)) == 4


@pytest.mark.parametrize(
    "bad",
    [
        "I would rather talk",
        '{"topic": "x", "paraphrases": "one", "near_misses": []}',
        '{"topic": "x", "paraphrases": ["one"], "near_misses": []}',
        json.dumps(draft_of("how do lamps glow"))[:-20],
        json.dumps(draft_of("how do lamps glow")).replace("polarity", "mood"),
    ],
)
def test_generate_from_an_unusable_draft_repairs_it_once(
    model: ScriptedModel, run_options: list[str], tmp_path: Path, bad: str
) -> None:
    seeds = write_lines(tmp_path / "seeds.txt", SEEDS[0])
    model.faults = [Say(bad)]
    assert main([str(seeds), *run_options, "--no-encoder", "--yes"]) == 0
    assert model.purposes == {"generate": 1, "repair": 1, "judge": 8}
    assert model.requests[1]["messages"][1]["content"] == bad
    assert len(groups_of(tmp_path)) == 1


def test_generate_reads_json_between_thoughts_and_fences(
    model: ScriptedModel, run_options: list[str], tmp_path: Path
) -> None:
    seeds = write_lines(tmp_path / "seeds.txt", SEEDS[0])
    draft = json.dumps(draft_of(SEEDS[0]))
    model.faults = [Say(f"<think>{{a plan}}</think>Sure {{ok}}:\n```json\n{draft}\n```")]
    assert main([str(seeds), *run_options, "--no-encoder", "--yes"]) == 0
    assert model.purposes["repair"] == 0


def test_generate_counts_what_each_filter_takes(
    model: ScriptedModel,
    run_options: list[str],
    tmp_path: Path,
    word_encoder: WordEncoder,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seeds = write_lines(
        tmp_path / "seeds.jsonl",
        {"query": "how do lamps glow", "id": "a", "topic": "light"},
        {"query": "How do lamps glow?!"},
        {"query": "do how lamps glow"},
        {"query": "held question number nobody"},
        {"query": "question held number nobody"},
        {"query": "please refuse"},
        {"query": "please mumble"},
        {"query": "all twins"},
    )
    held_out = write_lines(
        tmp_path / "held.jsonl",
        {"a": "held question number nobody", "b": "x"},
        {"query": "y", "near_misses": [{"text": "how do lamps glow secretly", "kind": "scope"}]},
    )
    draft = draft_of("how do lamps glow")
    draft["paraphrases"] = [
        "how do lamps glow",  # duplicate
        "wie leuchten die lampen und was ist das für ein licht",
        "how do lamps glow in 2024",  # constraint
        "how do lamps glow thanks",
    ]
    draft["near_misses"][0]["text"] = "how do lamps glow secretly"  # leakage
    draft["near_misses"][1]["text"] = "word " * 60  # length
    draft["near_misses"][2]["text"] = "how do lamps glow friend"  # the judge calls it the same

    def fault_if(prompt: str) -> Fault | None:
        if "please refuse" in prompt:
            return Say(None, refusal="no")
        if "please mumble" in prompt:
            return Say("mumble")
        if prompt.startswith("You write") and "<<<\nhow do lamps glow\n" in prompt:
            return Say(json.dumps(draft))
        if prompt.startswith("Two people") and "all twins kindly" in prompt:
            return Say('{"one_answer_serves_both": "perhaps"}')
        if prompt.startswith("Two people") and "never all twins" in prompt:
            return Say('{"difference": "none", "one_answer_serves_both": true}')
        return None

    model.fault_if = fault_if
    arguments = [str(seeds), *run_options, "--held-out", str(held_out), "--yes"]
    assert main(arguments, word_encoder) == 0
    (group,) = groups_of(tmp_path)
    assert (group["id"], group["topic"]) == ("a", "light")
    assert group["paraphrases"] == ["how do lamps glow thanks"]
    assert [miss["text"] for miss in group["near_misses"]] == ["never how do lamps glow friend"]
    filtered = record_of(tmp_path)["filtered"]
    assert {rule: count for rule, count in filtered.items() if count} == {
        "duplicate": 2,
        "leakage": 3,
        "near_duplicate": 1,
        "refused": 1,
        "malformed": 1,
        "language": 1,
        "constraint": 1,
        "length": 1,
        "unjudged": 2,
        "judge": 4,
        "emptied": 1,
    }
    assert "in a held-out file, word for word or nearly" in capsys.readouterr().out


def test_generate_with_calls_unanswered_says_so_and_completes_when_run_again(
    model: ScriptedModel, seeds: Path, run_options: list[str], tmp_path: Path
) -> None:
    model.fault_if = lambda prompt: Status(500) if "<<<\nhow do lamps glow\n" in prompt else None
    arguments = [str(seeds), *run_options, "--attempts", "2", "--no-encoder", "--yes"]
    assert main(arguments) == 1
    assert len(groups_of(tmp_path)) == 3
    model.fault_if = lambda _: None
    assert main(arguments) == 0
    assert len(groups_of(tmp_path)) == 4
    assert set(model.answered.values()) == {1}


def test_generate_against_a_dead_endpoint_stops(
    model: ScriptedModel, run_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = write_lines(tmp_path / "seeds.txt", *(f"question about {n}" for n in range(60)))
    model.fault_if = lambda _: Status(503)
    assert main([str(seeds), *run_options, "--attempts", "1", "--no-encoder", "--yes"]) == 1
    assert "run the same command again later" in capsys.readouterr().err
    assert len(model.requests) < 20


def test_generate_with_slow_answers_gives_up_at_the_deadline(
    model: ScriptedModel, seeds: Path, run_options: list[str], tmp_path: Path
) -> None:
    model.fault_if = lambda prompt: Silence() if "penguins" in prompt else None
    arguments = [str(seeds), *run_options, "--deadline", "0.3", "--no-encoder", "--yes"]
    assert main(arguments) == 1
    assert record_of(tmp_path)["filtered"]["unanswered"] == 1


def test_generate_dry_run_shows_the_estimate_and_calls_nothing(
    model: ScriptedModel,
    seeds: Path,
    run_options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [str(seeds), *run_options, "--no-encoder", "--dry-run"]
    assert main([*arguments, "--price-in", "1000", "--price-out", "1000"]) == 0
    assert "36 calls" in (printed := capsys.readouterr().out)
    assert "cost about $" in printed
    assert not model.requests
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--max-cost", "1"], "--max-cost must come with --price-in and --price-out"),
        (["--max-cost", "0.01", "--price-in", "9", "--price-out", "9"], "cover the estimate"),
        ([], "--yes must be given where nobody can be asked"),
    ],
)
def test_generate_that_may_not_start_says_why(
    model: ScriptedModel,
    seeds: Path,
    run_options: list[str],
    extra: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(seeds), *run_options, "--no-encoder", *extra]) == 1
    assert said in capsys.readouterr().err
    assert not model.requests


def test_generate_that_reaches_its_limit_stops_and_goes_on_with_a_higher_one(
    model: ScriptedModel,
    seeds: Path,
    run_options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # 36 replies of 50 tokens at 0.001 USD a token: 1.80. What a call may cost at most is reserved
    # before it, 0.2 for a verdict, so that 2.0 is not enough.
    prices = ["--price-in", "0", "--price-out", "1000", "--no-encoder", "--yes"]
    assert main([str(seeds), *run_options, *prices, "--max-cost", "2.0"]) == 1
    assert "--max-cost must cover the next call" in capsys.readouterr().err
    assert main([str(seeds), *run_options, *prices, "--max-cost", "10"]) == 0
    assert set(model.answered.values()) == {1}


def test_generate_sends_the_key_and_writes_it_nowhere(
    model: ScriptedModel,
    seeds: Path,
    run_options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SCRIPTED_KEY", "sk-very-secret")
    arguments = [str(seeds), *run_options, "--api-key-env", "SCRIPTED_KEY"]
    assert main([*arguments, "--no-encoder", "--yes"]) == 0
    assert set(model.keys) == {"Bearer sk-very-secret"}
    captured = capsys.readouterr()
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    assert "sk-very-secret" not in captured.out + captured.err + written


def test_generate_over_its_own_input_is_refused(
    seeds: Path, run_options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(seeds), *run_options, "--out", str(seeds), "--no-encoder", "--yes"]) == 1
    assert "--out must be a file of its own" in capsys.readouterr().err
    assert seeds.read_text().splitlines() == SEEDS


def test_generate_asks_for_all_kinds_equally_often(
    model: ScriptedModel, run_options: list[str], tmp_path: Path
) -> None:
    seeds = write_lines(tmp_path / "seeds.txt", *SEEDS)
    assert main([str(seeds), *run_options, "--no-encoder", "--yes"]) == 0
    asked = [prompt_of(r) for r in model.requests if prompt_of(r).startswith("You write")]
    plan = "".join(prompt.split("The kinds:")[0] for prompt in asked)
    assert {plan.count(f". {kind};") for kind in ("entity", "scope", "actor", "intent")} == {2}


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("s.jsonl", "{broken", r"s.jsonl:1 must be one JSON object, got '{broken'"),
        ("s.jsonl", "[1]", r"s.jsonl:1 must be one JSON object, got '[1]'"),
        ("s.jsonl", '{"q": "x"}', "s.jsonl:1 must hold a text under one of query, question"),
        ("s.jsonl", '{"query": 7}', "s.jsonl:1 must hold a text under one of query, question"),
        ("s.jsonl", '{"query": "x", "topic": 3}', "s.jsonl:1: topic must be a text, got '3'"),
        ("s.txt", "", "must hold questions, got none"),
    ],
)
def test_generate_from_bad_seeds_names_file_line_rule_and_value(
    model: ScriptedModel,
    run_options: list[str],
    tmp_path: Path,
    name: str,
    line: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seeds = write_lines(tmp_path / name, line)
    assert main([str(seeds), *run_options, "--no-encoder", "--yes"]) == 1
    assert said in capsys.readouterr().err


def test_generate_with_a_held_out_line_of_unknown_shape_refuses_to_start(
    model: ScriptedModel,
    seeds: Path,
    run_options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    held_out = write_lines(tmp_path / "held.jsonl", {"prompt": "x"})
    arguments = [str(seeds), *run_options, "--held-out", str(held_out), "--no-encoder", "--yes"]
    assert main(arguments) == 1
    assert "held.jsonl:1 must hold a text" in capsys.readouterr().err
    assert not model.requests
