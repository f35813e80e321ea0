"""Send a load of questions to LiteLLM with nearhit and to LiteLLM alone, in one run.

    python examples/load.py                                    # `make bench`
    python examples/load.py --requests 2000 --callers 16 --json load.json QUESTIONS.jsonl ...

A share of the requests repeats an earlier one, half of them to the letter and half with a light
change of wording. Each request goes to both proxies, one after the other and in alternating
order, so that both meet the same machine. QUESTIONS are text files with a question a line, or
JSON lines with a field "query". Exit status 1 if any request fails. A hit that carries another
question's answer is counted and shown: the scripted model's answers name their question.

The model thinks --thinks-s seconds and then answers with the question. Callers, model and both
proxies share the machine's cores: with --thinks-s 0 they saturate it, and what is measured then
is the queue. Compare the columns, not the numbers.
"""

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

import stack

ROOT = Path(__file__).resolve().parent.parent
MODEL = "gpt-4o-mini"
ECHO = "You asked: "
KEY = "sk-load-0123456789abcdef"
DEFAULT_QUESTIONS = ROOT / "tests" / "data" / "encoder" / "questions.txt"


@dataclass(frozen=True, slots=True)
class Request:
    """One question: is it new, a repeat, or a repeat in other words? Of which one?"""

    number: int
    text: str
    kind: str
    original: int


def read_questions(files: Sequence[Path]) -> list[str]:
    """Return the distinct questions of the files, in their order."""
    questions: dict[str, None] = {}
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            text = json.loads(line)["query"] if path.suffix == ".jsonl" else line
            if text.strip():
                questions[text.strip()] = None
    if not questions:
        raise SystemExit("no question in the files given; each needs one a line")
    return list(questions)


def plan(questions: list[str], count: int, repeats: float, seed: int) -> list[Request]:
    """Draw `count` requests; the share `repeats` of them repeats an earlier one."""
    rng = random.Random(seed)
    fresh = rng.sample(questions, len(questions))
    requests: list[Request] = []
    for number in range(count):
        # Not one of the last few: its answer may still be on its way.
        settled = [request for request in requests[:-64] if request.kind == "new"]
        if settled and (rng.random() < repeats or not fresh):
            original = rng.choice(settled)
            exact = rng.random() < 0.5
            text = original.text if exact else reword(original.text, rng)
            kind = "repeat" if exact else "reworded"
            requests.append(Request(number, text, kind, original.number))
        else:
            requests.append(Request(number, fresh.pop(), "new", number))
    return requests


def reword(text: str, rng: random.Random) -> str:
    """Change how a question is said, lightly, and not what it asks."""
    bare = text.rstrip("?. ")
    return rng.choice(
        [
            text.lower() if text != text.lower() else f"{text} ",
            f"{bare}??",
            f"Please: {text}",
            f"{text} Thanks!",
            f"Hi, {text}",
        ]
    )


@contextlib.contextmanager
def both(folder: Path, thinks_s: float) -> Iterator[tuple[str, str]]:
    """Run a model, a proxy with nearhit and one without; yield the proxies' addresses."""
    config = yaml.safe_load((ROOT / "router_config.yaml").read_text(encoding="utf-8"))
    plain = {**config, "litellm_settings": {}, "callback_settings": {}}
    for name, content in (("nearhit", config), ("plain", plain)):
        (folder / name).mkdir()
        (folder / name / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    data_dir = Path(os.environ.get("NEARHIT_DATA_DIR") or ROOT / ".nearhit")
    with stack.upstream(folder) as model:
        plan = {"delay_s": thinks_s}
        httpx.post(f"{model.url}/control/script", json=plan).raise_for_status()
        environ = {
            "OPENAI_BASE_URL": f"{model.url}/v1",
            "OPENAI_API_KEY": "sk-scripted",
            "LITELLM_MASTER_KEY": KEY,
            "NEARHIT_DATA_DIR": str(folder / "data"),
        }
        # A store of its own; the artefact is taken from where the demo keeps it.
        (folder / "data").mkdir(mode=0o700)
        for part in ("artefacts", "base"):
            (data_dir / part).mkdir(parents=True, exist_ok=True)
            (folder / "data" / part).symlink_to(data_dir / part)
        with (
            stack.proxy(folder / "nearhit" / "config.yaml", folder / "nearhit", environ) as ours,
            stack.proxy(folder / "plain" / "config.yaml", folder / "plain", environ) as alone,
        ):
            yield ours.url, alone.url


class Load:
    """Sends requests to both proxies and keeps what came of each."""

    def __init__(self, ours: str, alone: str, requests: Sequence[Request]) -> None:
        # What may be answered alike: a question, its repeats and its rewordings.
        self.alike: dict[int, set[str]] = defaultdict(set)
        for request in requests:
            self.alike[request.original].add(request.text[:200])
        self.urls = {"nearhit": ours, "plain": alone}
        self.client = httpx.Client(timeout=60, trust_env=False)
        self.took_ms: dict[str, list[float]] = defaultdict(list)
        self.answers: dict[int, str] = {}
        self.errors: list[str] = []
        self.wrong: list[str] = []
        self.lock = threading.Lock()

    def send(self, request: Request) -> None:
        """Ask both, the one or the other first."""
        order = ("nearhit", "plain") if request.number % 2 else ("plain", "nearhit")
        for name in order:
            self._ask(name, request)

    def _ask(self, name: str, request: Request) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": request.text}]}
        start = time.perf_counter()
        response = self.client.post(
            f"{self.urls[name]}/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {KEY}"},
        )
        took_ms = 1000 * (time.perf_counter() - start)
        with self.lock:
            if response.status_code != 200:
                self.errors.append(f"{name}: {response.status_code} {response.text[:200]}")
                return
            if name == "plain":
                self.took_ms["LiteLLM alone"].append(took_ms)
                return
            outcome = response.headers["x-nearhit"]
            kind = response.headers.get("x-nearhit-kind") or response.headers["x-nearhit-reason"]
            self.took_ms[f"{outcome}, {kind}"].append(took_ms)
            self._check(request, response.json()["choices"][0]["message"]["content"], outcome)

    def _check(self, request: Request, text: str, outcome: str) -> None:
        """Note the outcome; a hit must name a question that may be answered alike."""
        if not text:
            self.errors.append(f"request {request.number} got no text")
        self.answers[request.number] = outcome
        asked = text.removeprefix(ECHO).rsplit(" (answer ", 1)[0]
        if outcome == "hit" and text.startswith(ECHO) and asked not in self.alike[request.original]:
            self.wrong.append(f"{request.text!r} was answered with {text[:120]!r}")


def wait_for_encoder(url: str) -> None:
    """Ask until the proxy has its encoder."""
    for number in range(3000):
        body = {"model": MODEL, "messages": [{"role": "user", "content": f"Warm {number}?"}]}
        response = httpx.post(
            f"{url}/v1/chat/completions",
            json={**body, "seed": 1},
            headers={"authorization": f"Bearer {KEY}"},
            timeout=60,
        )
        if response.headers.get("x-nearhit-reason") not in (
            "no_encoder",
            "store_failed",
            "starting",
        ):
            return
        time.sleep(0.2)


def report(load: Load, requests: list[Request], console: Console) -> dict[str, Any]:
    """Print the tables; return them."""
    alone = np.median(load.took_ms["LiteLLM alone"])
    table = Table("served", "requests", "p50 ms", "p99 ms", "p50 less LiteLLM alone")
    rows = {}
    for name, took in sorted(load.took_ms.items(), key=lambda item: -len(item[1])):
        p50, p99 = np.percentile(took, [50, 99])
        rows[name] = {"count": len(took), "p50_ms": p50, "p99_ms": p99, "added_ms": p50 - alone}
        table.add_row(name, str(len(took)), f"{p50:.1f}", f"{p99:.1f}", f"{p50 - alone:+.1f}")
    console.print(table)
    kinds: dict[str, dict[str, int]] = {}
    for request in requests:
        kind = kinds.setdefault(request.kind, {"asked": 0, "hit": 0})
        kind["asked"] += 1
        kind["hit"] += load.answers.get(request.number) == "hit"
    for name, counted in kinds.items():
        console.print(f"{name}: {counted['hit']} of {counted['asked']} from the cache")
    console.print(f"errors: {len(load.errors)}; hits with another question's answer: ", end="")
    console.print(f"{len(load.wrong)}")
    for line in [*load.errors[:5], *load.wrong[:10]]:
        console.print(f"  {line}", soft_wrap=True)
    return {"served": rows, "kinds": kinds, "errors": load.errors, "wrong": load.wrong}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the load; return the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", nargs="*", type=Path, default=[DEFAULT_QUESTIONS])
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--repeats", type=float, default=1 / 3, help="share, 0 to 1")
    parser.add_argument("--thinks-s", type=float, default=0.3, help="time of the model, seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 130)
    questions = read_questions(options.questions or [DEFAULT_QUESTIONS])
    requests = plan(questions, options.requests, options.repeats, options.seed)
    with (
        tempfile.TemporaryDirectory(prefix="nearhit-") as folder,
        both(Path(folder), options.thinks_s) as (ours, alone),
        ThreadPoolExecutor(options.callers) as pool,
    ):
        wait_for_encoder(ours)
        load = Load(ours, alone, requests)
        for request in requests[: 2 * options.callers]:  # both clients warm, then start again
            load._ask("plain", request)
        load = Load(ours, alone, requests)
        sent = [pool.submit(load.send, request) for request in requests]
        for future in track(sent, "asking", console=console):
            future.result()
    figures = report(load, requests, console)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    return 1 if load.errors else 0


if __name__ == "__main__":
    sys.exit(main())
