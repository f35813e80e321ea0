"""The scripted model behind a loopback socket, and the options of a run against it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripted_model import Handler, ScriptedModel, Server, WordEncoder


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    scripted = ScriptedModel()
    handler = type("Handler", (Handler,), {"model": scripted})
    server = Server(("127.0.0.1", 0), handler)
    scripted.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield scripted
    scripted.ended.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def word_encoder() -> WordEncoder:
    return WordEncoder()


@pytest.fixture
def run_options(model: ScriptedModel, tmp_path: Path) -> list[str]:
    """Endpoint, model, output and no real waiting."""
    return [
        *("--endpoint", model.url, "--model", "scripted", "--out", str(tmp_path / "out.jsonl")),
        *("--backoff", "0.001", "--deadline", "10", "--concurrency", "4"),
    ]
