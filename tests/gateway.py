"""The scripted upstream and the proxy as a test sees them: over HTTP and nothing else."""

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

import stack

HERE = Path(__file__).resolve().parent
MODEL = "gpt-4o-mini"
JSON = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What a client received: a body, or the chunks of a stream."""

    status: int
    headers: httpx.Headers
    body: Any = None
    chunks: list[JSON] = field(default_factory=list)
    ended: bool = False

    @property
    def outcome(self) -> str:
        return str(self.headers.get("x-nearhit", "none"))

    @property
    def reason(self) -> str:
        return str(self.headers.get("x-nearhit-reason"))

    @property
    def kind(self) -> str:
        return str(self.headers.get("x-nearhit-kind"))

    @property
    def text(self) -> str:
        if self.body is not None:
            return str(self.body["choices"][0]["message"]["content"])
        deltas = [part["delta"] for chunk in self.chunks for part in chunk["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas)


def streamed(got: httpx.Response) -> Reply:
    """Read a stream of server-sent events to its end."""
    chunks, ended = [], False
    for line in got.iter_lines():
        data = line.removeprefix("data: ")
        ended = ended or data == "[DONE]"
        if line.startswith("data: ") and not ended:
            chunks.append(json.loads(data))
    return Reply(got.status_code, got.headers, None, chunks, ended)


class Upstream:
    """The model: what it is told to do, and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url

    def script(self, **plan: Any) -> None:
        httpx.post(f"{self.url}/control/script", json=plan).raise_for_status()

    def reset(self) -> None:
        httpx.post(f"{self.url}/control/reset").raise_for_status()

    @property
    def count(self) -> int:
        return int(httpx.get(f"{self.url}/control/calls").json()["count"])


@dataclass
class Gateway:
    """A running proxy and its folder."""

    server: stack.Server
    folder: Path
    client: httpx.Client
    # A system prompt of each test's own keeps its questions in a scope of their own.
    system: str = "You are helpful."

    @property
    def url(self) -> str:
        return self.server.url

    def messages(self, content: Any) -> list[JSON]:
        return [{"role": "system", "content": self.system}, {"role": "user", "content": content}]

    def post(self, body: Any, key: str = "sk-alice", **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(
            "/v1/chat/completions",
            content=content,
            headers={"authorization": f"Bearer {key}", "content-type": "application/json", **named},
        )

    def ask(self, text: Any, key: str = "sk-alice", headers: Any = None, **fields: Any) -> Reply:
        """Ask one question; `messages` among `fields` replaces it."""
        body = {"model": MODEL, "messages": self.messages(text), **fields}
        if fields.get("stream"):
            return self._stream(body, key, headers or {})
        response = self.post(body, key, **(headers or {}))
        return Reply(response.status_code, response.headers, response.json())

    def _stream(self, body: JSON, key: str, headers: JSON) -> Reply:
        sent = {"authorization": f"Bearer {key}", **headers}
        with self.client.stream("POST", "/v1/chat/completions", json=body, headers=sent) as got:
            return streamed(got)

    def learn(self, text: Any, key: str = "sk-alice", **fields: Any) -> Reply:
        """Ask a new question, wait until its answer is stored, return the model's answer."""
        first = self.ask(text, key, **fields)
        assert (first.status, first.outcome) == (200, "miss"), (first.body, first.headers)
        end = time.monotonic() + 10
        while self.ask(text, key, **fields).outcome != "hit":
            assert time.monotonic() < end, "the answer was not stored"
            time.sleep(0.05)
        return first

    def records(self, at_least: int, about: str) -> list[JSON]:
        """Return what LiteLLM logged of the calls whose answer contains `about`."""
        path = self.folder / "record.jsonl"
        end = time.monotonic() + 10
        while time.monotonic() < end:
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            found = [json.loads(line) for line in lines]
            found = [line for line in found if about in str(line["content"])]
            if len(found) >= at_least:
                return found
            time.sleep(0.1)
        raise AssertionError(f"LiteLLM logged {len(found)} calls about {about!r}: {found}")


def config_of(upstream: str, *, nearhit: JSON | None, **sections: Any) -> JSON:
    """A proxy config; `nearhit` None leaves the callback out."""

    def deployment(name: str, url: str) -> JSON:
        params = {"model": f"openai/{name}", "api_base": f"{url}/v1", "api_key": "sk-upstream"}
        return {"model_name": name, "litellm_params": {**params, "max_retries": 0}}

    callbacks = ["recorder.recorder"] + (["nearhit.hook.proxy_hook"] if nearhit is not None else [])
    config: JSON = {
        "model_list": [
            deployment(MODEL, upstream),
            deployment("gpt-4o", upstream),
            deployment("judge", upstream),
        ],
        "litellm_settings": {"callbacks": callbacks, "num_retries": 0},
        "general_settings": {
            "custom_auth": "people.authenticate",
            "master_key": "sk-master-of-these-tests-0123456789",
        },
        "callback_settings": {"nearhit": nearhit} if nearhit else {},
        "router_settings": {"disable_cooldowns": True},
    }
    for name, section in sections.items():
        if isinstance(section, dict):
            config[name] = {**config.get(name, {}), **section}
        else:
            config[name] = section
    return config


@contextlib.contextmanager
def running(
    folder: Path, config: JSON, artefacts: Path, *, workers: int = 1, is_warm: bool = True
) -> Iterator[Gateway]:
    """Run a proxy with this config in this folder; its data folder is `folder/data`.

    `is_warm` waits for the encoder first.
    """
    folder.mkdir(exist_ok=True)
    for name in ("people.py", "recorder.py", "guards.py"):
        shutil.copyfile(HERE / name, folder / name)
    data = folder / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    if not (data / "artefacts").exists():
        (data / "artefacts").symlink_to(artefacts)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    settings = {
        "NEARHIT_DATA_DIR": str(data),
        "RECORD": str(folder / "record.jsonl"),
    }
    with (
        stack.proxy(path, folder, settings, workers=workers) as server,
        httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client,
    ):
        gateway = Gateway(server, folder, client)
        if is_warm:
            wait_until_warm(gateway)
        yield gateway


def wait_until_warm(gateway: Gateway) -> None:
    """Wait for the encoder: the first questions meet a proxy that is still loading it."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        reply = gateway.ask(f"Is it warm at {time.monotonic_ns()}?", key="sk-dave")
        assert reply.status == 200, reply.body
        if reply.reason not in ("no_encoder", "deadline", "store_failed", "starting"):
            return
        time.sleep(0.1)
    raise AssertionError(f"the encoder never came up:\n{gateway.server.printed()[-3000:]}")


def store_process(gateway: Gateway) -> int:
    """The pid of the proxy's store process."""
    found = subprocess.run(
        ["pgrep", "-f", f"nearhit.store.daemon {gateway.folder / 'data'}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(found.stdout.split()[0])
