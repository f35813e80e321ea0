"""What a real proxy leaves on disk of what was asked and answered, by `store.prompts`."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import qdrant_standin
import stack
from gateway import MODEL, Gateway, Upstream, config_of, running
from nearhit.cli import main

QUESTION = "How do I descale a kettle with vinegar?"
SAME = "What is the way to descale a kettle with vinegar?"
ANSWER = "Boil it, let it stand for an hour, and rinse the limescale off."
FRESH = "Wait for some minutes and wipe the residue away."
FIRST = "Where is the station?"
MARKS = (b"kettle", b"vinegar", b"limescale", b"residue")


@pytest.fixture
def qdrant(tmp_path: Path) -> Iterator[str]:
    folder, port = tmp_path / "qdrant", stack.free_port()
    folder.mkdir()
    command = [sys.executable, qdrant_standin.__file__, f"--port={port}", f"--folder={folder}"]
    with stack.server(command, folder / "log", port, "/control/calls") as server:
        yield server.url


def leaks(*folders: Path) -> list[str]:
    """The files of these folders in which something of question or answer can be read."""
    found = []
    walked = (part for folder in folders for part in os.walk(folder))
    for parent, _, names in walked:  # follows no link: the artefacts' vocabulary is public
        for name in names:
            path = Path(parent, name)
            if path.is_file():
                content = path.read_bytes().lower()
                found += [f"{name}: {mark!r}" for mark in MARKS if mark in content]
    return found


def shown(gateway: Gateway, path: str, key: str = "sk-admin", **query: Any) -> Any:
    headers = {"authorization": f"Bearer {key}"}
    response = gateway.client.get(f"/nearhit/{path}", params=query, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def until(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + 20
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return value


def exported(gateway: Gateway, out: Path, *options: str) -> list[dict[str, Any]]:
    path = str(gateway.folder / "config.yaml")
    words = ["export", path, "--out", str(out), "--proxy", gateway.url, *options]
    assert main(words) == 0
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


@pytest.mark.timeout(420)
@pytest.mark.parametrize("backend", ["embedded", "server"])
@pytest.mark.parametrize("prompts", ["full", "encrypted"])
def test_encrypted_prompts_are_served_and_shown_and_are_in_no_file(
    tmp_path: Path,
    upstream: Upstream,
    real_artefacts: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    prompts: str,
    backend: str,
) -> None:
    nearhit: dict[str, Any] = {
        "similarity_threshold": 0.9,
        "deadline_ms": 5000,
        "verify_sample": 1.0,
        "secret": "of-this-installation-0123456789",
        "store": {"prompts": prompts, "timeout_ms": 5000},
    }
    if backend == "server":
        nearhit["store"]["url"] = request.getfixturevalue("qdrant")
    upstream.script(texts={MODEL: ANSWER})
    with running(tmp_path / "one", config_of(upstream.url, nearhit=nearhit), real_artefacts) as one:
        data = one.folder / "data"
        monkeypatch.setenv("NEARHIT_DATA_DIR", str(data))
        monkeypatch.setenv("NEARHIT_PROXY_KEY", "sk-admin")
        one.learn(QUESTION)
        upstream.script(texts={MODEL: FRESH})
        reply = one.ask(SAME, stream=True)
        assert (reply.outcome, reply.kind, reply.text) == ("hit", "semantic", ANSWER)

        for query in ({"text": "KETTLE"}, {"meaning": SAME}):
            (entry,) = shown(one, "entries", **query, answers=True, limit=1)["entries"]
            assert (entry["question"], entry["answer"]) == (QUESTION, ANSWER)
        assert shown(one, f"entries/{entry['id']}", "sk-alice")["question"] == QUESTION
        assert shown(one, "entries", text="teapot")["entries"] == []
        body = {"model": MODEL, "messages": one.messages(SAME)}
        explained = one.client.post(
            "/nearhit/explain", json=body, headers={"authorization": "Bearer sk-alice"}
        ).json()
        assert explained["candidates"][0]["stored_question"] == QUESTION
        (line,) = until(lambda: exported(one, tmp_path / "decisions.jsonl"))
        assert (line["question"], line["stored_question"]) == (SAME, QUESTION)
        asked = [row["question"] for row in exported(one, tmp_path / "all.jsonl", "--entries")]
        assert QUESTION in asked

        blamed = one.ask(SAME, headers={"x-nearhit-feedback": "wrong"})
        assert blamed.text == FRESH
        until(lambda: len(exported(one, tmp_path / "decisions.jsonl")) == 2)
        folders = [data] if backend == "embedded" else [data, tmp_path / "qdrant"]
        found = leaks(*folders)
        assert bool(found) == (prompts == "full"), found
    found = leaks(*folders)
    assert bool(found) == (prompts == "full"), found


@pytest.mark.timeout(420)
def test_hashed_prompts_are_served_to_the_letter_alone_and_are_in_no_file(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path
) -> None:
    config = config_of(upstream.url, nearhit={"deadline_ms": 5000, "store": {"prompts": "hashed"}})
    upstream.script(texts={MODEL: ANSWER})
    with running(tmp_path / "one", config, real_artefacts) as one:
        one.learn(QUESTION)
        hit, other = one.ask(QUESTION), one.ask(SAME)
        assert (hit.outcome, hit.kind, hit.text) == ("hit", "exact", ANSWER)
        assert (other.outcome, other.reason) == ("miss", "prompts_hashed")
        entries = shown(one, "entries", answers=True)["entries"]
        ours = [entry for entry in entries if entry["answer"] == ANSWER]
        assert all(entry["question"].startswith("hmac:") for entry in ours)
        assert shown(one, "entries", text="kettle")["entries"] == []
        assert leaks(one.folder / "data") == []
        flushed = one.client.post(
            "/nearhit/flush", json={"text": QUESTION}, headers={"authorization": "Bearer sk-admin"}
        )
        assert flushed.status_code == 200, flushed.text
        assert one.ask(QUESTION).outcome == "miss"
    assert leaks(one.folder / "data") == []


@pytest.mark.timeout(420)
def test_proxy_with_another_secret_misses_what_is_there_and_answers(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path
) -> None:
    for number, secret in enumerate(("the-first-secret-0123456789", "the-second-secret-012345")):
        nearhit = {"deadline_ms": 5000, "secret": secret, "store": {"prompts": "encrypted"}}
        config = config_of(upstream.url, nearhit=nearhit)
        with running(tmp_path / "one", config, real_artefacts) as one:
            reply = one.ask(QUESTION)
            assert (reply.status, reply.outcome) == (200, "miss")
            assert reply.reason == "nothing_near"
            rows = shown(one, "entries", limit=100)["entries"]
            assert FIRST not in [row["question"] for row in rows]
            if not number:
                one.learn(FIRST)
            assert "Traceback" not in one.server.printed()
