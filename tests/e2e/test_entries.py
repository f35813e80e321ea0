"""Stored answers as people look at them, and answers from elsewhere, on a real proxy."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway import MODEL, Gateway, Upstream, config_of, running
from nearhit.cli import main

QUESTION = "How do I descale a kettle with vinegar?"
SAME = "What is the way to descale a kettle with vinegar?"
ADMIN = "sk-admin"

Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def storing(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: str, real_artefacts: Path
) -> Iterator[Gateway]:
    config = config_of(upstream_server, nearhit={"deadline_ms": 5000})
    with running(tmp_path_factory.mktemp("entries"), config, real_artefacts) as gateway:
        yield gateway


@pytest.fixture
def proxy(storing: Gateway, upstream: Upstream, request: pytest.FixtureRequest) -> Gateway:
    storing.system = f"You serve {request.node.name}."
    call(storing, "POST", "flush", ADMIN, {"all": True})
    return storing


@pytest.fixture
def command(
    storing: Gateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    def run(*words: str, key: str = ADMIN) -> tuple[int, str]:
        monkeypatch.setenv("NEARHIT_PROXY_KEY", key)
        capsys.readouterr()
        status = main([*words, "--proxy", storing.url])
        shown = capsys.readouterr()
        return status, shown.out + shown.err

    return run


def call(
    gateway: Gateway, method: str, path: str, key: str, body: Any = None, **query: Any
) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return gateway.client.request(
        method, f"/nearhit/{path}", json=body, params=query, headers=headers
    )


def questions(gateway: Gateway, key: str, **query: Any) -> list[str]:
    """All that a key is shown, page by page."""
    seen: list[str] = []
    while True:
        response = call(gateway, "GET", "entries", key, **query)
        assert response.status_code == 200, response.text
        page = response.json()
        seen += [entry["question"] for entry in page["entries"]]
        if page["next"] is None:
            return seen
        query["after"] = page["next"]


def warm(gateway: Gateway, pairs: list[Any], **changes: Any) -> httpx.Response:
    body = {"tenant": ["key", "hash-of-sk-alice"], "model": MODEL, "pairs": pairs, **changes}
    return call(gateway, "POST", "warm", ADMIN, body)


def test_admins_see_all_entries_and_a_key_its_own_alone(proxy: Gateway) -> None:
    mine = [f"How do I tie knot number {n}?" for n in range(3)]
    for text in mine:
        proxy.learn(text)
    proxy.learn(QUESTION, key="sk-bob")
    for limit in (1, 2, 100):
        assert sorted(questions(proxy, ADMIN, limit=limit)) == sorted([*mine, QUESTION])
        assert sorted(questions(proxy, "sk-alice", limit=limit)) == sorted(mine)
    assert questions(proxy, "sk-bob") == [QUESTION]
    assert questions(proxy, "sk-carol") == []
    assert questions(proxy, ADMIN, tenant=["key", "hash-of-sk-bob"]) == [QUESTION]
    assert questions(proxy, ADMIN, text="KNOT number 2") == [mine[2]]
    assert questions(proxy, "sk-bob", text="knot") == []
    assert questions(proxy, ADMIN, meaning=SAME, limit=1) == [QUESTION]
    assert QUESTION not in questions(proxy, "sk-alice", meaning=SAME)


def test_key_learns_nothing_of_another_tenants_entry(proxy: Gateway) -> None:
    proxy.learn(QUESTION, key="sk-bob")
    entry = proxy.ask(QUESTION, key="sk-bob").headers["x-nearhit-entry"]
    own = call(proxy, "GET", f"entries/{entry}", "sk-bob")
    assert own.json()["question"] == QUESTION
    assert own.json()["completion"]["choices"][0]["message"]["content"] == own.json()["answer"]
    refused = call(proxy, "GET", f"entries/{entry}", "sk-alice")
    missing = call(proxy, "GET", f"entries/{uuid4()}", "sk-alice")
    assert (refused.status_code, refused.text) == (missing.status_code, missing.text)
    assert refused.status_code == 404
    asked = {"tenant": ["key", "hash-of-sk-bob"]}
    assert call(proxy, "GET", "entries", "sk-alice", **asked).status_code == 403
    assert call(proxy, "GET", "entries", "sk-unknown").status_code == 401
    assert call(proxy, "DELETE", f"entries/{entry}", "sk-bob").status_code == 403
    assert call(proxy, "GET", f"entries/{entry}", ADMIN).json()["hits"] >= 1


@pytest.mark.parametrize(
    "query",
    [{"limit": 0}, {"limit": 101}, {"after": "x"}, {"tenant": ["team", "red"]}, {"tenant": "key"}],
)
def test_listing_of_what_cannot_be_is_refused(proxy: Gateway, query: Any) -> None:
    assert call(proxy, "GET", "entries", ADMIN, **query).status_code == 422


def test_flushed_and_deleted_entries_are_not_shown(proxy: Gateway) -> None:
    proxy.learn(QUESTION)
    proxy.learn(QUESTION, key="sk-bob")
    time.sleep(1.1)  # a flush counts in whole seconds
    call(proxy, "POST", "flush", ADMIN, {"tenant": ["key", "hash-of-sk-bob"]})
    (entry,) = call(proxy, "GET", "entries", ADMIN).json()["entries"]
    call(proxy, "DELETE", f"entries/{entry['id']}", ADMIN)
    assert questions(proxy, ADMIN) == []


def test_explain_by_an_admin_is_among_a_named_tenants_answers(proxy: Gateway) -> None:
    proxy.learn(QUESTION)
    body = {"model": MODEL, "messages": proxy.messages(QUESTION)}
    named = {"tenant": ["key", "hash-of-sk-alice"]}
    assert call(proxy, "POST", "explain", ADMIN, body).json()["outcome"] == "miss"
    assert call(proxy, "POST", "explain", ADMIN, body, **named).json()["outcome"] == "hit"
    assert call(proxy, "POST", "explain", "sk-bob", body, **named).status_code == 403


def test_warmed_answer_is_served_to_its_tenant_alone(proxy: Gateway, upstream: Upstream) -> None:
    pair = {"question": QUESTION, "answer": "With vinegar.", "system": proxy.system}
    assert warm(proxy, [pair, {**pair, "question": "What is the weather?"}]).json() == {
        "results": ["stored", "bypass_freshness"]
    }
    assert warm(proxy, [{**pair, "answer": "Otherwise."}]).json() == {"results": ["present"]}
    exact, other = proxy.ask(QUESTION), proxy.ask(SAME, stream=True)
    assert (exact.kind, exact.text) == ("exact", "With vinegar.")
    assert (other.kind, other.text) == ("semantic", "With vinegar.")
    assert exact.body["usage"]["completion_tokens"] == 3
    assert upstream.count == 0
    assert proxy.ask(QUESTION, key="sk-bob").outcome == "miss"
    assert warm(proxy, [pair], fields={"temperature": 0.5}).json()["results"] == ["stored"]
    assert proxy.ask(QUESTION, temperature=0.5).outcome == "hit"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"pairs": []}, 422),
        ({"pairs": [{"question": "q", "answer": "a"}] * 101}, 422),
        ({"pairs": [{"question": "q" * 1_000_001, "answer": "a"}]}, 422),
        ({"pairs": [{"question": "q", "answer": "a" * 900_000}] * 10}, 413),
        ({"tenant": ["team", "red"]}, 422),
        ({"tenant": ["key"]}, 422),
        ({"what": 1}, 422),
    ],
)
def test_warming_with_too_much_or_with_nonsense_is_refused(
    proxy: Gateway, changes: Any, status: int
) -> None:
    pairs = changes.pop("pairs", [{"question": "q", "answer": "a"}])
    assert warm(proxy, pairs, **changes).status_code == status
    body = {"tenant": ["key", "k"], "model": MODEL, "pairs": pairs}
    assert call(proxy, "POST", "warm", "sk-alice", body).status_code in (403, 413, 422)
    assert questions(proxy, ADMIN) == []


def test_file_is_warmed_once_however_often_it_is_sent(
    proxy: Gateway, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "faq.jsonl"
    lines = [
        {"question": f"How do I fold paper bird number {n}?", "answer": f"Fold {n}.", "id": n}
        for n in range(120)
    ]
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    words = ("warm", str(file), "--model", MODEL, "--tenant", "key", "hash-of-sk-alice")
    status, shown = command(*words)
    assert (status, "120 answers stored, 0 were there already" in shown) == (0, True), shown
    status, shown = command(*words)
    assert "0 answers stored, 120 were there already" in shown
    messages = [{"role": "user", "content": lines[7]["question"]}]
    assert proxy.ask("", messages=messages).text == "Fold 7."
    with file.open("a", encoding="utf-8") as more:
        more.write('\n{"question": "What is the weather?", "answer": "Fine."}\n')
    status, shown = command(*words)
    assert (status, "1 not stored, bypass_freshness: line 121" in shown) == (1, True), shown
    out = tmp_path / "entries.jsonl"
    assert command("export", "--entries", "--out", str(out))[0] == 0
    exported = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert {one["question"]: one["answer"] for one in exported} == {
        one["question"]: one["answer"] for one in lines
    }
    words = ("warm", str(out), "--model", MODEL, "--tenant", "key", "hash-of-sk-bob")
    assert "120 answers stored" in command(*words)[1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 must be"),
        ('{"question": "q"}', "line 2 must be"),
        ('{"question": "q", "answer": 3}', "line 2 must be"),
        ('{"question": "q", "answer": "' + "a" * 2**22 + '"}', "line 2 must be at most"),
    ],
)
def test_file_with_a_bad_line_says_which(
    proxy: Gateway, command: Command, tmp_path: Path, line: str, message: str
) -> None:
    file = tmp_path / "faq.jsonl"
    file.write_text('{"question": "q", "answer": "a"}\n' + line)
    words = ("warm", str(file), "--model", MODEL, "--tenant", "key", "k")
    status, shown = command(*words)
    assert (status, message in shown) == (1, True), shown[-500:]


def test_entries_command_lists_searches_and_shows(proxy: Gateway, command: Command) -> None:
    proxy.learn(QUESTION)
    proxy.learn("How do I paint a fence?")
    assert command("entries")[1].count(" hits ") == 2
    found = command("entries", "--meaning", SAME, "--limit", "1")[1]
    assert QUESTION in found
    status, shown = command("entries", found.split()[0])
    assert (status, "answer      You asked: " in shown) == (0, True), shown
    assert "fence" in command("entries", "--text", "fence", "--json")[1]
    assert "more: --after" in command("entries", "--limit", "1")[1]
    assert command("entries", "--text", "fence", key="sk-bob") == (0, "")


def test_routes_are_described_in_the_proxys_own_api(proxy: Gateway) -> None:
    described = proxy.client.get("/openapi.json").json()["paths"]
    ours = {path for path in described if path.startswith("/nearhit/")}
    assert ours >= {
        f"/nearhit/{path}"
        for path in ("stats", "entries", "entries/{entry}", "warm", "config", "metrics", "explain")
    }
    warmed = described["/nearhit/warm"]["post"]
    assert "Take in answers" in warmed["description"]
    assert warmed["requestBody"]["content"]["application/json"]["schema"]
