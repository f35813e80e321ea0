"""A scripted model on a real socket, and an encoder whose vectors can be computed by eye."""

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from nearhit.encoder.base import Encoding, Unencodable

WAYS = ["please", "kindly", "thanks", "friend"]
KINDS = ["entity", "attribute", "polarity", "quantity", "scope", "direction", "actor", "intent"]


@dataclass(frozen=True)
class Status:
    """An answer with an HTTP status other than 200."""

    code: int
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "scripted failure"


@dataclass(frozen=True)
class Cut:
    """A connection that ends in the middle of the body."""


@dataclass(frozen=True)
class Body:
    """Status 200 with a body that is no chat completion."""

    text: str


@dataclass(frozen=True)
class Say:
    """A completion with this content."""

    content: str | None
    finish_reason: str = "stop"
    refusal: str | None = None


@dataclass(frozen=True)
class Silence:
    """No answer until the test ends."""


Fault = Status | Cut | Body | Say | Silence


class ScriptedModel:
    """Answers generate and judge prompts by rule; `faults` are used up first, in order.

    A text that contains `never` needs another answer than one that does not.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.fault_if: Callable[[str], Fault | None] = lambda _: None
        self.hold_after: int | None = None
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answered: Counter[str] = Counter()
        self.ended = threading.Event()
        self.released = threading.Event()
        self.lock = threading.Lock()
        self.url = ""

    @property
    def purposes(self) -> Counter[str]:
        return Counter(purpose_of(request) for request in self.requests)

    def take(self, request: dict[str, Any]) -> Fault | None:
        """Record a request; return what goes wrong with it, or None."""
        with self.lock:
            self.requests.append(request)
            fault = self.fault_if(prompt_of(request))
            if fault is None and self.faults:
                fault = self.faults.pop(0)
            held = self.hold_after is not None and sum(self.answered.values()) >= self.hold_after
            if fault is None and held:
                return Silence()
            if fault is None or isinstance(fault, Say):
                self.answered[json.dumps(request["messages"])] += 1
            return fault

    def say(self, request: dict[str, Any]) -> Say:
        prompt = prompt_of(request)
        texts = re.findall(r"<<<\n(.*?)\n>>>", prompt, re.DOTALL)
        if purpose_of(request) == "judge":
            same = ("never" in texts[0]) == ("never" in texts[1])
            return Say(json.dumps({"difference": "none", "one_answer_serves_both": same}))
        return Say(json.dumps(draft_of(texts[0])))


def draft_of(question: str, count: int = 4) -> dict[str, Any]:
    ways = [WAYS[i % 4] * (1 + i // 4) for i in range(count)]
    misses = [f"never {question} {way}" for way in ways]
    return {
        "topic": "lamps",
        "paraphrases": [f"{question} {way}" for way in ways],
        "near_misses": [{"text": text, "kind": KINDS[i % 8]} for i, text in enumerate(misses)],
    }


def prompt_of(request: dict[str, Any]) -> str:
    return str(request["messages"][0]["content"])


def purpose_of(request: dict[str, Any]) -> str:
    if len(request["messages"]) > 1:
        return "repair"
    return "judge" if prompt_of(request).startswith("Two people") else "generate"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: ScriptedModel

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.model.keys.append(self.headers.get("Authorization"))
        fault = self.model.take(request)
        match fault:
            case Silence():
                while not (self.model.ended.is_set() or self.model.released.is_set()):
                    self.model.released.wait(0.05)
                self.close_connection = True
            case Cut():
                self._send(200, '{"choices": [', extra_length=100)
                self.close_connection = True
            case Status(code, headers, message):
                error = json.dumps({"error": {"message": message}})
                self._send(code, error, headers=headers)
            case Body(text):
                self._send(200, text)
            case _:
                say = fault or self.model.say(request)
                said = {"role": "assistant", "content": say.content, "refusal": say.refusal}
                choice = {"index": 0, "message": said, "finish_reason": say.finish_reason}
                usage = {"prompt_tokens": 100, "completion_tokens": 50}
                self._send(200, json.dumps({"choices": [choice], "usage": usage}))

    def _send(
        self,
        status: int,
        body: str,
        *,
        headers: dict[str, str] | None = None,
        extra_length: int = 0,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body.encode()) + extra_length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that was killed


class WordEncoder:
    """Similarity is the cosine of the words that two texts have in common."""

    fingerprint = "f" * 64
    dimension = 512

    async def encode(self, text: str, owner: str = "") -> Encoding:
        words = re.findall(r"[a-z0-9]+", text.lower())
        if not words or "qzx" in words:
            return Unencodable("unknown_tokens")
        vector = np.zeros(self.dimension, np.float32)
        for word in words:
            digest = hashlib.sha256(word.encode()).digest()
            vector[int.from_bytes(digest[:2], "big") % self.dimension] += 1
        return vector / np.float32(np.linalg.norm(vector))

    async def close(self) -> None:
        pass


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path: Path, *rows: dict[str, Any] | str) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
