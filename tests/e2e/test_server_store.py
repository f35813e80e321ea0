"""Proxies that keep their answers in a Qdrant server, here a stand-in that Qdrant Edge answers."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import qdrant_standin
import stack
from gateway import Gateway, Upstream, config_of, running

QUESTION = "How do I bake bread?"
NEARHIT = {
    "similarity_threshold": 0.95,
    "deadline_ms": 2000,
    "secret": "of-all-proxies-0123456789",
}


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[str]:
    folder, port = tmp_path / "qdrant", stack.free_port()
    folder.mkdir()
    command = [sys.executable, qdrant_standin.__file__, f"--port={port}", f"--folder={folder}"]
    command += ["--api-key=the-key-of-the-server"]
    with stack.server(command, folder / "log", port, "/control/calls") as server:
        yield server.url


def until(gateway: Gateway, question: str, outcome: str) -> None:
    end = time.monotonic() + 20
    while (reply := gateway.ask(question)).outcome != outcome or reply.kind == "coalesced":
        assert time.monotonic() < end, reply.headers
        time.sleep(0.1)


@pytest.mark.timeout(420)  # two proxies start, on a busy machine in a minute each
def test_proxies_share_what_a_server_keeps_obey_a_flush_and_outlive_the_server(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path, standin: str
) -> None:
    store = {"url": standin, "api_key": "the-key-of-the-server", "timeout_ms": 1000}
    config = config_of(upstream.url, nearhit={**NEARHIT, "store": store})
    with (
        running(tmp_path / "one", config, real_artefacts) as one,
        running(tmp_path / "two", config, real_artefacts) as two,
    ):
        one.learn(QUESTION)
        asked = upstream.count
        reply = two.ask("How does one bake bread?")
        assert (reply.outcome, reply.kind) == ("hit", "semantic")
        assert upstream.count == asked
        assert not (tmp_path / "one" / "data" / "store").exists()

        flushed = one.client.post(
            "/nearhit/flush", json={"all": True}, headers={"authorization": "Bearer sk-admin"}
        )
        assert flushed.status_code == 200, flushed.text
        assert two.ask(QUESTION).outcome == "miss"
        until(one, QUESTION, "hit")

        httpx.post(f"{standin}/control/fault", json={"kind": "hang"})
        for _ in range(8):
            assert two.ask(QUESTION).status == 200
        end = time.monotonic() + 30
        while two.ask(QUESTION).reason != "store_failed":  # the breaker is open
            assert time.monotonic() < end
        httpx.post(f"{standin}/control/fault", json={})
        until(two, QUESTION, "hit")
        printed = one.server.printed() + two.server.printed()
        assert "the Qdrant server fails" in printed
        assert "the-key-of-the-server" not in printed
        assert "bread" not in printed
