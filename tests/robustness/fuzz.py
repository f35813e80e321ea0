"""Send hostile requests through the request path in process, and through a real proxy.

    python tests/robustness/fuzz.py                              # `make fuzz`: 10 minutes
    python tests/robustness/fuzz.py --minutes 2 --seed 7 --json fuzz.json

A third of the time is shared by the targets in process (reading a request, guards and decision,
replay of a stored answer, the store's frames, the journal), half of it led by coverage where
atheris is installed, see `guided`. A third goes to two proxies over sockets, nearhit and LiteLLM
alone: each body goes to both, twice, and must get the same status, and no 5xx that LiteLLM alone
does not give. A third goes to nearhit's own routes, see `routes`. Checked are also: the time of
each answer, what the proxy wrote (no text of a prompt, no exception of nearhit), the headers of
answers, and the resident memory at the first and last tenth. A failing example is printed with what
reproduces it.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

import stack
from doubles import decision
from gateway import Gateway, config_of, running
from nearhit import completion, headers
from nearhit.config import DEFAULT_FRESHNESS
from nearhit.decision import Candidate, Hit, decide
from nearhit.directives import read_directives
from nearhit.errors import StoreError
from nearhit.evidence.journal import Journal
from nearhit.guards import DEFAULT, first_veto
from nearhit.request import Policy, Question, freshness_pattern, read
from nearhit.store import Entry, wire
from nearhit_eval.processes import family, resident_mb
from robustness import guided
from robustness.finding import Found, ends_of, look_at_log, try_examples
from robustness.hostile import HEADERS, JSON_VALUES, RAW, TEXTS, bodies
from robustness.routes import fuzz_routes
from robustness.stand import MARK, artefacts, workplace

POLICY: Final = Policy(10, 1.0, freshness_pattern(DEFAULT_FRESHNESS))
SECRET: Final = b"a secret of the fuzzer, of no use to anybody"
DEADLINE_S: Final = 30.0  # of one answer over sockets, on a machine that is busy


# ---- in process ----------------------------------------------------------------------------


def reading(data: st.DataObject) -> None:
    """Any body is a question or a bypass; equal bodies are equal questions."""
    body = data.draw(bodies())
    found = read(body, ("key", "a"), POLICY, SECRET)
    again = read(dict(reversed(body.items())), ("key", "a"), POLICY, SECRET)
    assert found == again
    if isinstance(found, Question):
        other = read(body, ("key", "b"), POLICY, SECRET)
        assert isinstance(other, Question)
        assert (other.scope, other.id) != (found.scope, found.id)
    given_headers = data.draw(HEADERS)
    directives = read_directives(given_headers, body, lambda name: True)
    assert directives.ttl_s is None or directives.ttl_s >= 0
    headers.says_wrong(given_headers)


def judging(data: st.DataObject) -> None:
    """Guards answer, also for texts that are equal; a hit is never one that is forbidden."""
    stored, asked = data.draw(TEXTS), data.draw(TEXTS)
    veto = first_veto(stored, asked, DEFAULT)
    assert first_veto(asked, asked, DEFAULT) is None
    entry = Entry(uuid.uuid4(), "s", "f", stored, "{}", "m", 1, 2, 0, "")
    outcome = decide([Candidate(entry, 0.99, 0.999, veto)], 0.9)
    assert isinstance(outcome, Hit) == (veto is None)
    for name, value in headers.describe(outcome, 5.0).items():
        assert "\n" not in name + value
        assert "\r" not in name + value
        assert value.isascii()


def replaying(data: st.DataObject) -> None:
    """What can be packed comes back; what a client gets of it has the same text."""
    message = data.draw(st.dictionaries(st.sampled_from(["content", "refusal", "x"]), JSON_VALUES))
    body = {
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": data.draw(JSON_VALUES),
    }
    packed = completion.pack(body)
    if not isinstance(packed, str):
        return
    kept = completion.unpack(packed)
    assert kept["choices"][0]["message"] == json.loads(json.dumps(message))
    if isinstance(message.get("content"), str) and set(message) == {"content"}:
        chunks = list(completion.as_chunks(kept, "i", 1, include_usage=True))
        assembled = completion.assemble(chunks)
        assert assembled["choices"][0]["message"]["content"] == (message["content"] or None)
        from nearhit import replay  # imports LiteLLM

        try:
            replay.replay_body(kept)
        except Exception:  # noqa: BLE001 - the hook catches it: a miss
            return


def framing(data: st.DataObject) -> None:
    """Bytes are a frame with entries, or a StoreError."""
    raw = data.draw(st.binary(max_size=80))
    header = json.dumps(data.draw(JSON_VALUES)).encode()
    for some in (raw, len(header).to_bytes(4, "big") + b"\0" * 8 + header):
        with contextlib.suppress(StoreError):
            wire.unpack_entries(wire.decode(some))


class Journalling:
    """Any text is written down and read back as it was."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder, 50)

    def __call__(self, data: st.DataObject) -> None:
        """Write and read one decision."""
        texts = [data.draw(TEXTS.filter(lambda text: text.isprintable())) for _ in range(3)]
        one = decision(question=texts[0], stored_question=texts[1], stored_answer=texts[2])
        self.journal.add(one)
        assert self.journal.get(one.id) in (one, None)
        self.journal.label(one.id, "wrong", "client")


def fuzz_in_process(
    name: str, target: Callable[[st.DataObject], None], seconds: float, first_seed: int
) -> Found:
    """Try examples until the time is over; the failing ones are kept."""
    found, end, round_ = Found(name), time.monotonic() + seconds, 0
    while time.monotonic() < end and len(found.wrong) < 3:
        round_ += 1

        @seed(first_seed * 1000 + round_)
        @settings(
            max_examples=20,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        @given(st.data())
        def once(data: st.DataObject) -> None:
            began = time.perf_counter()
            target(data)
            took_s = time.perf_counter() - began
            found.examples += 1
            found.slowest_ms = max(found.slowest_ms, 1000 * took_s)

        try:
            once()
        except Exception as error:  # noqa: BLE001 - what fuzzing is for
            notes = "; ".join(getattr(error, "__notes__", []))
            found.wrong.append(f"{type(error).__name__}: {error}; {notes}"[:2000])
    found.note = "its slowest with the drawing of it"
    return found


# ---- over sockets --------------------------------------------------------------------------


@contextlib.contextmanager
def proxies(folder: Path, built: Path) -> Iterator[tuple[Gateway, Gateway]]:
    """Run a model, a proxy with nearhit and one without."""
    with stack.upstream(folder) as model:
        ours = config_of(model.url, nearhit={"deadline_ms": 2000})
        alone = config_of(model.url, nearhit=None)
        with (
            running(folder / "ours", ours, built) as nearhit,
            running(folder / "alone", alone, built) as plain,
        ):
            yield nearhit, plain


def fuzz_proxies(
    ours: Gateway, alone: Gateway, seconds: float, first_seed: int, raw: Sequence[bytes] = RAW
) -> Found:
    """Send the same to both until the time is over."""
    found = Found("proxy, over sockets")
    memory: list[float] = []
    differing: Counter[str] = Counter()
    started = len(ours.server.printed())

    def compare(body: bytes, sent: dict[str, str]) -> None:
        told = [_told(ours, body, sent) for _ in range(2)]
        expected = _told(alone, body, sent)
        found.examples += 1
        for status, took_s, answer_headers in told:
            found.slowest_ms = max(found.slowest_ms, 1000 * took_s)
            if took_s > DEADLINE_S:
                found.wrong.append(f"{took_s:.0f} s for {body[:500]!r} {sent}")
            if status != expected[0] and (status >= 500 or expected[0] < 400):
                differing[f"{expected[0]} became {status}"] += 1
                found.wrong.append(f"{expected[0]} became {status}: {body[:500]!r} {sent}")
            for name, value in answer_headers.items():
                if name.startswith("x-nearhit") and not value.isascii():
                    found.wrong.append(f"header {name}: {value!r}")
        memory.append(resident_mb(family([ours.server.process.pid])))

    for body in raw:
        compare(body, {})

    def once(given: tuple[Any, dict[str, str]]) -> None:
        body, sent = given
        marked = {**body, "user": MARK} if "user" not in body else body
        compare(json.dumps(marked).encode(), sent)

    try_examples(st.tuples(bodies(), HEADERS), once, seconds, first_seed, found)
    look_at_log(ours, started, found)
    first, last = ends_of(memory)
    found.note = f"memory {first:.0f} MB at first, {last:.0f} at last"
    return found


def _told(gateway: Gateway, body: bytes, sent: dict[str, str]) -> tuple[int, float, httpx.Headers]:
    began = time.monotonic()
    response = gateway.client.post(
        "/v1/chat/completions",
        content=body,
        headers={
            "authorization": "Bearer sk-alice",
            "content-type": "application/json",
            "connection": "close",  # an idle one may be closed by the server just as it is used
            **sent,
        },
        timeout=2 * DEADLINE_S,
    )
    return response.status_code, time.monotonic() - began, response.headers


# ---- the table -----------------------------------------------------------------------------


def run_in_process(seconds: float, first_seed: int) -> list[Found]:
    """Fuzz each target in process for its share of the time."""
    with tempfile.TemporaryDirectory(prefix="nearhit-") as folder:
        journalling = Journalling(Path(folder))
        targets: dict[str, Callable[[st.DataObject], None]] = {
            "request, scope, opt-out": reading,
            "guards, decision, headers": judging,
            "pack, replay": replaying,
            "frames of the store": framing,
            "journal": journalling,
        }
        share = seconds / len(targets)
        found = [fuzz_in_process(name, one, share, first_seed) for name, one in targets.items()]
        journalling.journal.close()
    return found


def run_guided(seconds: float) -> Found:
    """Fuzz the same parts led by coverage, in a process of its own, where atheris is installed."""
    found = Found("led by coverage")
    if not guided.is_there():
        found.note = "left out: atheris is not installed"
        return found
    folder = Path(tempfile.mkdtemp(prefix="nearhit-guided-"))
    found.examples, broken = guided.run(seconds, folder / "corpus", folder / "log")
    if broken:
        found.wrong.append(f"{broken}; its input is in {folder}")
    else:
        shutil.rmtree(folder)
    return found


def show(rows: Sequence[Found], console: Console) -> None:
    """Print the table, and what is wrong."""
    table = Table("target", "examples", "slowest ms", "wrong", "note")
    for row in rows:
        wrong, slowest = str(len(row.wrong)), f"{row.slowest_ms:.0f}"
        table.add_row(row.target, str(row.examples), slowest, wrong, row.note)
    console.print(table)
    for row in rows:
        for line in row.wrong:
            console.print(f"{row.target}: {line}", markup=False, soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if anything is wrong."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--json", type=Path, help="write the table there too")
    options = parser.parse_args(argv)
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else its import fetches one
    print(f"seed {options.seed}", file=sys.stderr)
    third = 20 * options.minutes
    rows = run_in_process(third / 2, options.seed)
    rows.append(run_guided(third / 2))
    with workplace() as folder, proxies(folder, artefacts()) as (ours, alone):
        rows.append(fuzz_proxies(ours, alone, third, options.seed))
        rows.append(fuzz_routes(ours, third, options.seed))
    show(rows, Console(width=None if sys.stdout.isatty() else 130))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2), "utf-8")
    return int(any(row.wrong for row in rows))


if __name__ == "__main__":
    sys.exit(main())
