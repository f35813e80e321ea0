"""Questions to a gateway, and whether its model was called: all that the suite can see.

A `Target` is the gateway under test with the scripted model behind it. A `Case` asks about a
subject of its own, so no answer of another case fits, whatever a cache compares. A hit is an
answer that came without a call of the model; no header of the gateway is read.
"""

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from gateway import JSON, Reply, streamed

# How long, and how many times at least, a request is sent again before it counts as not kept.
_PATIENCE_S = 1
_TRIES = 5
_THINGS = """accordion anvil aquarium backpack bagpipe balcony barometer bathtub bicycle birdcage
blender bonsai bookcase candle canoe carpet chainsaw chandelier chessboard clarinet compass cradle
curtain doorbell drum dumbbell fireplace flagpole fountain greenhouse guitar hammock harmonica
helmet hinge jacket kayak kettle ladder lantern lawnmower mattress microscope mirror mosaic oven
paintbrush piano pillow raincoat rug saddle sandpit scarf sculpture skateboard sofa stapler
sundial surfboard teapot telescope tent toaster trampoline trumpet typewriter umbrella vase violin
wagon wardrobe wheelbarrow windmill wok xylophone zipper""".split()  # noqa: SIM905 - reads as words
_MANNERS = (
    "wooden",
    "folding",
    "antique",
    "painted",
    "rusty",
    "miniature",
    "portable",
    "striped",
    "heavy",
    "borrowed",
)


def subjects() -> Iterator[str]:
    """Yield things to ask about, neighbours far from each other."""
    for manner, thing in itertools.product(_MANNERS, _THINGS):
        yield f"{manner} {thing}"


@dataclass(frozen=True)
class Target:
    """The gateway under test: its keys and models, and the control of the model behind it."""

    gateway: httpx.Client
    control: httpx.Client
    key: str
    other_key: str | None
    model: str
    other_model: str
    run: str
    subjects: Iterator[str] = field(default_factory=subjects)
    answers: dict[str, bool] = field(default_factory=dict)

    def plan(self, about: str, **plan: Any) -> None:
        """Tell the model what to do with questions about this."""
        self.control.post("/control/script", params={"about": about}, json=plan).raise_for_status()

    def calls(self, about: str) -> int:
        """Return how often the model was asked about this."""
        return int(self.control.get("/control/calls", params={"about": about}).json()["count"])

    @property
    def is_caching(self) -> bool:
        """Whether the gateway answers any repeat by itself; without, nothing is waited for."""
        if "repeat" not in self.answers:
            case = Case(self, next(self.subjects))
            self.answers["repeat"] = case.is_repeated(case.body())
        return self.answers["repeat"]

    def case(self) -> "Case":
        """Return a case with a subject that none had before."""
        return Case(self, next(self.subjects))


@dataclass(frozen=True)
class Seen:
    """What a client received for one request, and how many calls of the model it took."""

    reply: Reply
    calls: int

    @property
    def is_hit(self) -> bool:
        return self.reply.status == 200 and self.calls == 0


@dataclass(frozen=True)
class Case:
    """Questions about one subject."""

    target: Target
    subject: str

    @property
    def question(self) -> str:
        return f"How do I repair a {self.subject}?"

    @property
    def system(self) -> JSON:
        """A system prompt of this run, so that a second run meets nothing that the first left."""
        text = f"You know all about a {self.subject}. Run {self.target.run}."
        return {"role": "system", "content": text}

    def body(self, content: Any = None, **fields: Any) -> JSON:
        """Return a request that asks `content`, by default the case's question."""
        asked = {"role": "user", "content": self.question if content is None else content}
        return {"model": self.target.model, "messages": [self.system, asked], **fields}

    def plan(self, **plan: Any) -> None:
        """Tell the model what to do with this case's questions."""
        self.target.plan(self.subject, **plan)

    @property
    def calls(self) -> int:
        return self.target.calls(self.subject)

    def send(
        self,
        body: JSON | bytes,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        about: str | None = None,
    ) -> Seen:
        """Send one request and count the calls of the model about this subject, or `about`."""
        about = about or self.subject
        before = self.target.calls(about)
        reply = self._reply(body, key or self.target.key, headers or {})
        return Seen(reply, self.target.calls(about) - before)

    def _reply(self, body: JSON | bytes, key: str, headers: dict[str, str]) -> Reply:
        sent = {"authorization": f"Bearer {key}", "content-type": "application/json", **headers}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        is_stream = isinstance(body, dict) and body.get("stream")
        path = "/v1/chat/completions"
        try:
            if not is_stream:
                got = self.target.gateway.post(path, content=content, headers=sent)
                return Reply(got.status_code, got.headers, _json(got.text))
            with self.target.gateway.stream("POST", path, content=content, headers=sent) as got:
                if got.status_code != 200:
                    return Reply(got.status_code, got.headers)
                return streamed(got)
        except (httpx.RemoteProtocolError, httpx.ReadTimeout):
            return Reply(0, httpx.Headers())  # broken off

    def learn(self, body: JSON | bytes, **options: Any) -> Seen:
        """Send a new request, and again until a cache that keeps its answer has it."""
        first = self.send(body, **options)
        if first.reply.status == 200 and self.target.is_caching:
            self._await_hit(body, **options)
        return first

    def is_repeated(self, body: JSON | bytes, **options: Any) -> bool:
        """Whether the same request, sent again, is answered without the model."""
        first = self.send(body, **options)
        assert first.reply.status == 200, first.reply.body
        return self._await_hit(body, **options)

    def _await_hit(self, body: JSON | bytes, **options: Any) -> bool:
        end = time.monotonic() + _PATIENCE_S
        for tries in itertools.count(1):
            if self.send(body, **options).is_hit:
                return True
            if tries >= _TRIES and time.monotonic() > end:
                break
            time.sleep(0.02)
        return False

    def is_never_repeated(self, body: JSON | bytes, **options: Any) -> bool:
        """Whether the same request, sent twice more, calls the model each time."""
        first = self.send(body, **options)
        self.settle()
        again = [self.send(body, **options) for _ in range(2)]
        return not any(seen.is_hit for seen in (first, *again))

    def settle(self) -> None:
        """Wait until what was to be stored before is stored: until a later answer is."""
        if self.target.is_caching:
            later = self.target.case()
            later.learn(later.body())


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None
