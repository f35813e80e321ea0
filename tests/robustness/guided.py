"""Fuzz what a client reaches, led by coverage: the pure parts, in process. Needs atheris.

    pip install atheris                                # 3.0.0 or later; no requirement of nearhit
    python tests/robustness/guided.py --seconds 300 --corpus /tmp/corpus

atheris follows which branches of nearhit an input takes and changes those that reach new ones.
`fuzz.py` runs this for a share of its time where atheris is installed. The first input on which
something breaks is left beside the corpus as `crash-...`; `--again` with its path shows it.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve()
_SECRET: Final = b"a secret of the fuzzer, of no use to anybody"
_MAX_BYTES: Final = 4096
# Inputs to begin with: target, then what it reads.
SEEDS: Final[tuple[bytes, ...]] = (
    b'\x00{"model":"m","temperature":0,"messages":[{"role":"user","content":"what is it?"}]}',
    b'\x00{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}',
    b'\x00{"model":"m","cache":{"ttl":1,"s-maxage":2},"tools":[],"messages":[{"role":"user"}]}',
    b"\x01enable 2FA for 3 users\x00disable it from 5 mg to `a_b` and C++",
    b"\x01is it not one hundred and two?\x00x = 1,000.5 == v1.2.3",
    b"\x02max-age=1, no-store\x00off\x0012",
    b'\x03{"choices":[{"message":{"content":"a b"},"finish_reason":"stop"}],"usage":{}}',
    b'\x03{"choices":[{"message":{"tool_calls":[{"function":{"arguments":"{}"}}]},'
    b'"finish_reason":"tool_calls","logprobs":{"content":[{"token":"a"}]}}]}',
    b'\x04\x00\x00\x00\x0e\x00\x00\x00\x00\x00\x00\x00\x00{"entries":[]}',
    b"\x05(today|now) [a-z]{0,9}",
)


def is_there() -> bool:
    """Whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def run(seconds: float, corpus: Path, output: Path) -> tuple[int, str]:
    """Fuzz in a process of its own; return how many inputs were tried, and what broke, if any."""
    command = [sys.executable, str(HERE), "--seconds", str(max(1, int(seconds)))]
    with output.open("wb") as log:
        ended = subprocess.run(
            [*command, "--corpus", str(corpus)], stdout=log, stderr=log, check=False
        )
    printed = output.read_text("utf-8", "replace")
    counts = [
        line.split()[-1] for line in printed.splitlines() if "number_of_executed_units" in line
    ]
    return int(counts[-1]) if counts else 0, printed[-2000:] if ended.returncode else ""


def targets() -> list[Any]:
    """Return the functions that take bytes, in the order that the first byte chooses by."""
    from nearhit import completion, headers
    from nearhit.config import DEFAULT_FRESHNESS
    from nearhit.decision import Candidate, Hit, decide
    from nearhit.directives import NAMES, read_directives
    from nearhit.errors import StoreError
    from nearhit.freshness import check_pattern
    from nearhit.guards import DEFAULT, first_veto
    from nearhit.request import Policy, Question, canonical, freshness_pattern, read, text_digest
    from nearhit.store import Entry, wire

    policy = Policy(10, 1.0, freshness_pattern(DEFAULT_FRESHNESS))

    def read_request(data: bytes) -> None:
        body = _json(data)
        if not isinstance(body, dict):
            return
        found = read(body, ("key", "a"), policy, _SECRET)
        assert read(dict(reversed(body.items())), ("key", "a"), policy, _SECRET) == found
        if isinstance(found, Question):
            other = read(body, ("key", "b"), policy, _SECRET)
            assert isinstance(other, Question)
            assert other.scope != found.scope
            assert other.id != found.id
            assert json.loads(canonical(body)) == body
            text_digest(found.text, _SECRET)
        read_directives({}, body, lambda name: True)

    def judge(data: bytes) -> None:
        stored, _, asked = data.decode("utf-8", "replace").partition("\0")
        assert first_veto(asked, asked, DEFAULT) is None
        veto = first_veto(stored, asked, DEFAULT)
        entry = Entry(uuid.UUID(int=1), "s", "f", stored, "{}", "m", 1, 2, 0, "")
        outcome = decide([Candidate(entry, 0.99, 0.999, veto)], 0.9)
        assert isinstance(outcome, Hit) == (veto is None)
        for name, value in headers.describe(outcome, 5.0).items():
            assert (name + value).isascii()
            assert (name + value).isprintable()

    def direct(data: bytes) -> None:
        parts = data.decode("latin-1").split("\0")
        names = ("cache-control", "x-nearhit", "x-nearhit-ttl", headers.FEEDBACK)
        given = dict(zip(names, parts, strict=False))
        for allowed in (NAMES, ()):
            found = read_directives(given, {}, allowed.__contains__)
            assert found.ttl_s is None or found.ttl_s >= 0
            assert found.max_age_s is None or found.max_age_s >= 0
        assert found.refusal is None
        assert found.ttl_s is None
        assert found.max_age_s is None
        headers.says_wrong(given)

    def replay(data: bytes) -> None:
        """Only what is of an answer's types: LiteLLM makes it so."""
        body = _json(data)
        choices = body.get("choices") if isinstance(body, dict) else None
        if not isinstance(choices, list) or not all(map(_is_choice, choices)):
            return
        packed = completion.pack(body)
        if not isinstance(packed, str):
            return
        kept = completion.unpack(packed)
        assert completion.pack(kept) == packed
        contents = [choice["message"].get("content") for choice in choices]
        assembled = completion.assemble(completion.as_chunks(kept, "i", 1, include_usage=True))
        if len(choices) == 1 and isinstance(contents[0], str):
            assert assembled["choices"][0]["message"]["content"] == (contents[0] or None)

    def unframe(data: bytes) -> None:
        with suppress(StoreError):
            frame = wire.decode(data)
            found = wire.unpack_entries(frame)
            assert len(found) == len(frame.header["entries"])

    def look_for_change(data: bytes) -> None:
        with suppress(ValueError):
            check_pattern(data.decode("utf-8", "replace"))

    return [read_request, judge, direct, replay, unframe, look_for_change]


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _is_choice(choice: Any) -> bool:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict) or not isinstance(choice.get("index", 0), int):
        return False
    texts = [message.get(name) for name in ("content", "reasoning_content", "refusal")]
    calls = message.get("tool_calls") or []
    is_text = all(text is None or isinstance(text, str) for text in texts)
    logprobs = choice.get("logprobs")
    return (
        is_text
        and isinstance(calls, list)
        and all(isinstance(call, dict) for call in calls)
        and (logprobs is None or isinstance(logprobs, dict))
        and isinstance(choice.get("finish_reason"), str)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz until the time is over; the process ends with the first break."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="folder where inputs are kept between runs")
    parser.add_argument("--again", type=Path, help="try this input alone")
    options = parser.parse_args(argv)
    if options.again is not None:
        data = options.again.read_bytes()
        _try(targets(), data)
        return 0
    import atheris

    with atheris.instrument_imports(include=["nearhit"]):
        tried = targets()
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix="nearhit-corpus-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = [
        f"-max_total_time={options.seconds}",
        f"-max_len={_MAX_BYTES}",
        "-timeout=10",
        "-len_control=0",
    ]
    shown = ["-print_final_stats=1", f"-artifact_prefix={corpus.parent}/"]
    atheris.Setup(
        [sys.argv[0], *limits, *shown, "-rss_limit_mb=2048", str(corpus)],
        lambda data: _try(tried, data),
    )
    atheris.Fuzz()
    return 0


def _try(tried: Sequence[Any], data: bytes) -> None:
    if data:
        tried[data[0] % len(tried)](data[1:])


if __name__ == "__main__":
    sys.exit(main())
