"""Replay: a stream goes through the cache that serves, in virtual time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearhit_eval.cli import main
from nearhit_eval.replaying import RememberedEncoder, RememberedVerifier
from nearhit_eval.traffic import (
    Asked,
    at_rate,
    prices_of,
    read_arrivals,
    read_stream,
    repeated,
)

STREAM = [
    {"query": "How do I enable two-factor authentication?", "cluster": "2fa", "time_s": 0},
    {"query": "How do I enable two-factor authentication?", "cluster": "2fa", "time_s": 1},
    {"query": "How do I enable two-factor authentication?", "cluster": "2fa", "time_s": 60},
    {"query": "How can I enable two factor authentication?", "cluster": "other", "time_s": 61},
    {"query": "How do I bake bread?", "cluster": "bread", "time_s": 62},
    {"query": "What is the weather today?", "time_s": 63},
    {"query": "How do I enable two-factor authentication?", "cluster": "2fa", "time_s": 900},
]
TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(
    f"2023-11-16 18:15:{46 + i}.6805900,{100 + i},{10 + i}" for i in range(3)
)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return path


@pytest.fixture
def by_cosine(eval_config: Path) -> Path:
    eval_config.write_text(eval_config.read_text() + "  similarity_threshold: 0.9\n")
    return eval_config


def test_replay_serves_repeats_and_rewordings_until_their_life_ends(
    tmp_path: Path, by_cosine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream, out = write(tmp_path / "mine.jsonl", *STREAM), tmp_path / "r.json"
    argv = ["replay", str(stream), "--config", str(by_cosine), "--json", str(out)]
    assert main([*argv, "--ttl", "300", "86400", "--threshold", "0.9", "1.0"]) == 0
    printed = capsys.readouterr().out
    assert "mine: 7 questions (4 distinct, repeats as they stand)" in printed
    assert "estimated: 4 characters a token" in printed
    report = json.loads(out.read_text())
    found = {(one["threshold"], one["ttl_s"]): one for one in report["combinations"]}
    assert len(found) == 4
    short, long, strict = found[0.9, 300], found[0.9, 86400], found[1.0, 86400]
    assert short["hits"] == {"exact": 1, "semantic": 1, "coalesced": 1}
    assert long["hits"] == {"exact": 2, "semantic": 1, "coalesced": 1}
    assert strict["hits"]["semantic"] == 0
    assert short["wrong"] == {"exact": 0, "semantic": 1, "coalesced": 0}
    assert short["worst"][0]["asked"] == "How can I enable two factor authentication?"
    assert long["reasons"] == {"nothing_near": 1, "below_threshold": 1, "freshness": 1}
    assert (short["entries"], long["entries"], strict["entries"]) == (0, 2, 3)
    assert long["saved_output_tokens"] == 4 * 200
    assert long["saved_usd"] > 0
    assert sum(part["asked"] for part in long["slices"]) == 7


def test_replay_takes_times_and_sizes_of_a_trace_and_says_that_repeats_were_drawn(
    tmp_path: Path, by_cosine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = write(tmp_path / "s.jsonl", {"query": "How do I bake bread?"})
    trace, out = tmp_path / "trace.csv", tmp_path / "r.json"
    trace.write_text(TRACE)
    argv = ["replay", str(stream), "--arrivals", str(trace), "--zipf", "1", "--limit", "3"]
    argv += ["--config", str(by_cosine), "--answer-s", "0.5", "--json", str(out)]
    assert main(argv) == 0
    assert "repeats drawn, Zipf 1" in capsys.readouterr().out
    report = json.loads(out.read_text())
    (one,) = report["combinations"]
    assert one["hits"]["exact"] == 2
    assert (one["saved_input_tokens"], one["saved_output_tokens"]) == (203, 23)
    assert report["stream"]["sizes"] == "trace.csv"
    assert set(report["sha256"]) == {"s.jsonl", "trace.csv"}


async def test_text_is_encoded_and_a_pair_verified_once() -> None:
    class Counting:
        fingerprint, dimension = "f", 2
        asked = 0

        async def encode(self, text: str, owner: str = "") -> Any:
            self.asked += 1
            return np.array([1, 0], np.float32)

        def floor(self, confidence: float) -> float:
            return 0.0

        def threshold(self, target_precision: float) -> float:
            return target_precision

        async def confidences(self, asked: str, stored: Any, similarities: Any) -> list[float]:
            self.asked += len(stored)
            return [len(text) / 10 for text in stored]

        async def close(self) -> None:
            raise AssertionError("its owner closes it")

    behind = Counting()
    encoder, verifier = RememberedEncoder(behind), RememberedVerifier(behind)
    for _ in range(2):
        await encoder.encode("x")
    assert behind.asked == 1
    assert await verifier.confidences("x", ["a", "bb"], [0.5, 0.5]) == [0.1, 0.2]
    assert await verifier.confidences("x", ["bb", "ccc"], [0.5, 0.5]) == [0.2, 0.3]
    assert behind.asked == 4
    await encoder.close()
    await verifier.close()


def test_drawn_questions_repeat_the_more_the_steeper_and_the_same_for_a_seed() -> None:
    rows = [Asked(str(i), None, None, 1, 1) for i in range(100)]
    flat, steep = (len({one.text for one in repeated(rows, 500, s, 7)}) for s in (0.0, 2.0))
    assert steep < flat
    assert repeated(rows, 50, 1.0, 7) == repeated(rows, 50, 1.0, 7)
    times = [one.time_s or 0.0 for one in at_rate(rows, 10, 7)]
    assert times == sorted(times)
    assert 5 < times[-1] < 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must hold at least one question, got none"),
        ('{"q": "x"}', "bad.jsonl:1 query must be a text, got none; mend the line"),
        ('{"query": ["x"]}', "bad.jsonl:1 query must be a text, got a list"),
        ('{"query": "x", "time_s": -1}', "bad.jsonl:1 time_s must be seconds from 0 up"),
        ('{"query": "x", "time_s": 2}\n{"query": "y"}', "bad.jsonl:2 time_s must stand in all"),
        ('{"query": "x", "time_s": 2}\n{"query": "y", "time_s": 1}', "bad.jsonl:2 time_s must not"),
        ('{"query": "x"}', "--arrivals or --rate must say when"),
    ],
)
def test_stream_with_a_fault_names_file_line_and_remedy(
    tmp_path: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content, "utf-8")
    assert main(["replay", str(path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "trace.csv:1 must be the header TIMESTAMP,ContextTokens,GeneratedTokens"),
        (TRACE + "\n2023-11-16 18:16:00,1,many", "trace.csv:5 must be a time and two token counts"),
        (TRACE, "--arrivals must hold a request for each of 7 questions, got 3; add --limit 3"),
    ],
)
def test_trace_with_a_fault_names_file_line_and_remedy(
    tmp_path: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stream, trace = write(tmp_path / "s.jsonl", *STREAM), tmp_path / "trace.csv"
    trace.write_text(content, "utf-8")
    assert main(["replay", str(stream), "--arrivals", str(trace)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--rate", "0"], "--rate must be above 0 a second"),
        (["--rate", "1", "--arrivals", "x"], "must not both be given"),
        (["--limit", "0"], "--limit must be at least 1, got 0"),
        (["--model", "gpt-4o-minj"], "did you mean gpt-4o-mini?"),
    ],
)
def test_wrong_usage_of_replay_says_what_to_do(
    tmp_path: Path, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = write(tmp_path / "s.jsonl", *STREAM)
    assert main(["replay", str(stream), *given]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--ttl", "0"], ["--threshold", "1.5"]])
def test_combination_out_of_range_is_refused(
    tmp_path: Path, by_cosine: Path, given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    stream = write(tmp_path / "s.jsonl", *STREAM)
    assert main(["replay", str(stream), "--config", str(by_cosine), *given]) == 2
    assert f"{given[0]} must be" in capsys.readouterr().err


def test_arrivals_and_stream_are_read_as_they_stand(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text(TRACE)
    assert [one.time_s for one in read_arrivals(trace)] == [0.0, 1.0, 2.0]
    (one,) = read_stream(write(tmp_path / "s.jsonl", {"query": "12345", "cluster": 3}), 50)
    assert one == Asked("12345", "3", None, 2, 50)
    assert prices_of("gpt-4o-mini")["output_cost_per_token"] > 0
