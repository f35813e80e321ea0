"""What a hostile client sends to the routes under /nearhit/, and what must hold meanwhile.

`fuzz.py` runs it. Two tenants, one of which has an answer stored; their keys, an admin's, one that
belongs to nobody, a wrong one and none at all ask in turn. Of each answer must hold: no 5xx,
`DEADLINE_S` at most, to whom it is not allowed 401, 403 or 404 and nothing of the other tenant's
answer. Of all together: the stored answer is served to its tenant all the while, nothing changes by
the hand of who is no admin, no log holds what was sent or a key, memory stays within `GROWTH_MB`.
"""

import contextlib
import gzip
import io
import json
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx
from hypothesis import strategies as st

from gateway import MODEL, Gateway
from nearhit.intake import MAX_BODY_BYTES
from nearhit_eval.processes import family, resident_mb
from robustness.finding import Found, ends_of, look_at_log, try_examples
from robustness.hostile import JSON_VALUES, TEXTS, bodies
from robustness.stand import MARK

OWNER: Final = "sk-alice"
ADMIN: Final = "sk-admin"
OTHERS: Final = ("sk-carol", "sk-bob", "nobody", f"sk-{MARK}", None)
_KNOWN: Final = (ADMIN, OWNER, *OTHERS[:3])
DEADLINE_S: Final = 30.0  # of one answer, on a machine that is busy
GROWTH_MB: Final = 400.0  # of the proxy, from the first tenth of the requests to the last
QUESTION: Final = f"Which {MARK} keep the spare key of the warehouse?"

_FILES: Final = ("", "page.css", "page.js")
_ADMINS: Final = frozenset(
    {("GET", name) for name in ("stats", "valves", "decisions", "report", "config", "metrics")}
    | {("POST", name) for name in ("flush", "valves", "warm")}
    | {("DELETE", "entries/ID")}
)
_MARKER_ID: Final = "00000000-0000-0000-0000-000000000000"
_IDS: Final = (
    *(_MARKER_ID, "ffffffff-ffff-ffff-ffff-ffffffffffff", "%7B" + _MARKER_ID + "%7D", "0" * 32),
    *("urn:uuid:" + _MARKER_ID, _MARKER_ID + "%0a", "%00", "..", "%2e%2e", "..%2f..%2fconfig"),
    *("..%5c..%5cconfig", "%ff%fe", "%ed%a0%80", "%F0%9F%98%80", "a" * 10_000, "*", "%25s%25n"),
    *("'%20or%201=1--", ".%2f..;/config", "-1", "1e400", "%22", "%3Cscript%3E"),
)
_PATHS: Final = (
    *(
        "../v1/models",
        "..%2f..%2fetc%2fpasswd",
        "page.js%00.html",
        "page.js/../../config",
        "/config",
    ),
    *("%2e%2e/config", "PAGE.JS", "page.css;a=b", "..%c0%af..%c0%afsecret", "./config", "config/"),
    *(
        "%00",
        "entries/",
        "entries//",
        "secret",
        "data/secret",
        "flushes.json",
        "config?" + "a=" * 9,
    ),
)
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Sent:
    """One request to a route; `query` and `path` are escaped already."""

    method: str
    path: str
    query: str = ""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Show what is needed to send it again, cut."""
        query, body = self.query[:300], self.body[:500]
        return (
            f"{self.method} {self.path[:200]} ?{query} {self.headers} {body!r} {len(self.body)} B"
        )


# ---- what is sent --------------------------------------------------------------------------

_ODD: Final = st.one_of(
    JSON_VALUES, TEXTS, st.sampled_from(["\ud800", "a\x00b", 10**30, -1, 1e308])
)
_TENANTS: Final = st.one_of(
    st.sampled_from([["key", "hash-of-sk-alice"], ["team", "red"], ["global"], ["key"], []]),
    st.lists(TEXTS, max_size=9),
    _ODD,
)
_LONG: Final = st.builds(
    lambda piece, n: piece * n,
    st.sampled_from(["a", "a ", "\u0301", "<|endoftext|>", "\U0001f600", "9"]),
    st.sampled_from([1, 1000, 100_000]),
)
_TEXT: Final = st.one_of(TEXTS, _LONG)
_PAIR: Final = st.one_of(
    st.fixed_dictionaries({"question": _TEXT, "answer": _TEXT}, optional={"system": _TEXT}),
    _ODD,
)
_TIMES: Final = st.one_of(
    st.datetimes(timezones=st.timezones()).map(str),
    st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "x", 1e12]),
)
_HEX: Final = st.text("0123456789abcdef", min_size=32, max_size=32)


def _near(right: dict[str, st.SearchStrategy[Any]], **more: Any) -> st.SearchStrategy[Any]:
    """Objects that are right, or have one wrong field or more, or are none at all."""
    odd = {name: st.one_of(value, _ODD) for name, value in {**right, **more}.items()}
    return st.one_of(
        st.fixed_dictionaries(right, optional=more),
        st.fixed_dictionaries({}, optional={**odd, "x": _ODD, "\ud800": _ODD}),
        _ODD,
    )


_BODIES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "feedback": _near({"decision": _HEX, "label": st.sampled_from(["right", "wrong"])}),
    "explain": st.one_of(
        bodies(), _near({"model": st.just(MODEL), "messages": _ODD}, proxy_server_request=_ODD)
    ),
    "flush": st.one_of(
        _near(
            {"text": _TEXT}, before=st.one_of(st.floats(), st.integers(), st.datetimes().map(str))
        ),
        _near(
            {"tenant": _TENANTS}, before=st.sampled_from(["0001-01-01T00:00:00+14:00", "x", 1e12])
        ),
        _near({"model": st.sampled_from([MODEL, "a", "\x00"])}),
    ),
    "valves": _near(
        {"open": st.sampled_from(["hit_ratio", "wrong_share", "questions_per_entry", "all"])},
        of=st.one_of(_HEX, TEXTS),
    ),
    "warm": _near(
        {
            "tenant": _TENANTS,
            "model": st.sampled_from([MODEL, "a,b", "claude-3-opus", "command-r", "llama-3", "\n"]),
            "pairs": st.one_of(st.lists(_PAIR, max_size=4), _ODD),
        },
        fields=st.one_of(st.dictionaries(st.text(max_size=8), _ODD, max_size=3), _ODD),
    ),
}
_NUMBERS: Final = st.sampled_from(["0", "1", "100", "-1", "1e3", "9" * 5000, "NaN", "", "\u0661"])
_QUERIES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "days": _NUMBERS,
    "limit": _NUMBERS,
    "kind": st.sampled_from(["hits", "near", "x", "\x00"]),
    "after": st.sampled_from([_MARKER_ID, "x", "\x00", "f" * 32]),
    "text": TEXTS,
    "meaning": TEXTS,
    "answers": st.sampled_from(["true", "1", "x", ""]),
    "tenant": st.one_of(
        st.lists(st.sampled_from(["key", "hash-of-sk-alice", ""]), max_size=5), TEXTS
    ),
    MARK: TEXTS,
}


def _query(values: dict[str, Any]) -> str:
    return urlencode(values, doseq=True, errors="surrogatepass")[:20_000]


def requests() -> st.SearchStrategy[Sent]:
    """Requests to all routes, most of them nearly right."""
    query = st.fixed_dictionaries({}, optional=_QUERIES).map(_query)
    get = ("stats", "valves", "decisions", "report", "config", "metrics", "entries", *_FILES)
    read = st.builds(Sent, st.just("GET"), st.sampled_from(get), query)
    # Without a query: the server logs that of a path which no route takes.
    one = st.builds(
        lambda method, name: Sent(method, f"entries/{name}"),
        st.sampled_from(["GET", "DELETE"]),
        st.one_of(st.sampled_from(_IDS), st.uuids().map(str), st.text(max_size=40).map(quote_all)),
    )
    kind = st.sampled_from(["application/json", "application/x-ndjson", "text/plain", ""])
    write = st.sampled_from(sorted(_BODIES)).flatmap(
        lambda name: st.builds(
            lambda body, asked, kind: Sent(
                "POST", name, asked, encode(body), {"content-type": kind}
            ),
            _BODIES[name],
            st.one_of(st.just(""), query),
            st.one_of(st.just("application/json"), kind),
        )
    )
    odd = st.builds(Sent, st.sampled_from(_METHODS), st.sampled_from([*_PATHS, *_BODIES]))
    return st.one_of(write, write, write, read, one, odd)


def quote_all(text: str) -> str:
    """Escape a text as one segment of a path."""
    return quote(text.encode("utf-8", "surrogatepass"), safe="")[:5000]


def encode(body: Any) -> bytes:
    """Write JSON as a hostile client may: NaN, and lone surrogates as escapes."""
    return json.dumps(body).encode("ascii")


def bombs() -> Iterator[Sent]:
    """Large, nested, packed and broken bodies for each route that reads one."""
    deep = 100_000
    pair = b'{"question": "what is it?", "answer": "it is"}\n'
    plain = b" " * (MAX_BODY_BYTES + 1)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pairs.jsonl", plain)
    warm = {"tenant": ["key", "x"], "model": MODEL, "pairs": [json.loads(pair)]}
    many = json.dumps({**warm, "pairs": [json.loads(pair)] * 101}).encode()
    large = json.dumps({**warm, "pairs": [{"question": "q", "answer": "a " * 450_000}] * 10})
    of_json: tuple[bytes, ...] = (
        *(
            b"[" * deep,
            b"[" * 900 + b"]" * 900,
            b'{"a":' * deep,
            b'{"a":' * 900 + b"1" + b"}" * 900,
        ),
        *(b'{"x":' + b"[" * 900 + b"]" * 900 + b"}", b"9" * 10_000, b'{"days": 1e999}', b"NaN"),
        *(b'{"decision": NaN}', b'{"all": Infinity}', b'{"open": -Infinity}', b'"\\ud800"'),
        b'{"decision": "\\ud800", "label": "\\ud800", "text": "\\ud800", "model": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"model": "\\ud800", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b"{" + b",".join(b'"%d":%d' % (n, n) for n in range(50_000)) + b"}",
        b'{"all": true, ' + b'"all": true, ' * 10_000 + b'"all": true}',
        *(b"\xff\xfe{}", b"\xef\xbb\xbf{}", '{"all": true}'.encode("utf-16"), b"\x00" * 1000),
        *(pair * 1000, pair[:-5], plain, many, large.encode()),
    )
    for name in _BODIES:
        for body in of_json:
            yield Sent("POST", name, "", body, {"content-type": "application/json"})
        for coding, packed in (("gzip", gzip.compress(b"0" * 50_000_000)), ("deflate", b"x\x9c")):
            headers = {"content-type": "application/json", "content-encoding": coding}
            yield Sent("POST", name, "", packed, headers)
        yield Sent("POST", name, "", zipped.getvalue(), {"content-type": "application/zip"})
        for kind in ("multipart/form-data; boundary=a", "application/x-www-form-urlencoded", "a/b"):
            yield Sent("POST", name, "", b"a=" * 2000, {"content-type": kind})
    for path in _PATHS:
        yield Sent("GET", path)
    for one in _IDS:
        yield Sent("GET", f"entries/{one}")
        yield Sent("DELETE", f"entries/{one}")
    for query in (
        "a=" * 9000,
        "tenant=" + "&tenant=" * 1000,
        "text=%ed%a0%80",
        "limit=%00",
        "text=%ff",
    ):
        yield Sent("GET", "entries", query)


# ---- what must hold ------------------------------------------------------------------------


class Owner:
    """Asks for its stored answer again and again, in a thread, while others do what they do."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.answer = gateway.learn(QUESTION, OWNER).text
        self.asked = 0
        self.slowest_s = 0.0
        self.wrong: list[str] = []
        self.is_flushed = threading.Event()  # an admin may do that

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Ask until this ends."""
        end = threading.Event()
        thread = threading.Thread(target=self._ask, args=(end,))
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def _ask(self, end: threading.Event) -> None:
        body = {"model": MODEL, "messages": self.gateway.messages(QUESTION)}
        headers = {"authorization": f"Bearer {OWNER}", "connection": "close"}
        wait_s = 2 * DEADLINE_S
        with httpx.Client(base_url=self.gateway.url, timeout=wait_s, trust_env=False) as own:
            while not end.wait(0.2) and len(self.wrong) < 3:
                began = time.monotonic()
                got = own.post("/v1/chat/completions", json=body, headers=headers)
                self.asked += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                is_hit = got.headers.get("x-nearhit") == "hit" and self.answer in got.text
                reason = got.headers.get("x-nearhit-reason")
                is_fine = is_hit or reason == "deadline" or self.is_flushed.is_set()
                if got.status_code != 200 or not is_fine:
                    self.wrong.append(f"its owner got {got.status_code}, {reason}")


def send(gateway: Gateway, sent: Sent, key: str | None) -> tuple[httpx.Response, float]:
    """Send a request as it is, its path not made simpler; return the answer and its seconds."""
    raw = f"/nearhit/{sent.path}" + (f"?{sent.query}" if sent.query else "")
    headers = {"connection": "close", **{n: v for n, v in sent.headers.items() if v}}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    url = httpx.URL(gateway.url).copy_with(raw_path=raw.encode("ascii"))
    began = time.monotonic()
    got = gateway.client.request(
        sent.method, url, content=sent.body, headers=headers, timeout=2 * DEADLINE_S
    )
    return got, time.monotonic() - began


def wrong_of(
    sent: Sent, key: str | None, got: httpx.Response, took_s: float, answer: str
) -> str | None:
    """Say what is wrong with one answer, or None."""
    if got.status_code >= 500:
        return f"{got.status_code} {got.text[:200]!r}"
    if took_s > DEADLINE_S:
        return f"{took_s:.0f} s"
    if key not in (ADMIN, OWNER) and (answer in got.text or QUESTION in got.text):
        return "another tenant's question or answer"
    if got.status_code == 200 and sent.method != "OPTIONS":
        name = "entries/ID" if sent.path.startswith("entries/") else sent.path
        if key != ADMIN and (sent.method, name) in _ADMINS:
            return "200 to a key that is no admin's"
        if key not in _KNOWN and name in (*_BODIES, "entries", "entries/ID"):
            return "200 without a key that is known"
    return None


def state_of(gateway: Gateway) -> dict[str, Any]:
    """Return what nobody but an admin may change."""
    found = {}
    for name in ("entries?limit=100&answers=true", "valves", "config", "decisions"):
        got = gateway.client.get(f"/nearhit/{name}", headers={"authorization": f"Bearer {ADMIN}"})
        assert got.status_code == 200, (name, got.text)
        found[name] = got.json()
    for one in found["entries?limit=100&answers=true"]["entries"]:
        del one["hits"]  # to be served changes them
    return found


def fuzz_routes(gateway: Gateway, seconds: float, first_seed: int) -> Found:
    """Send hostile requests to a proxy's routes, at first as anybody but an admin."""
    found = Found("routes, over sockets")
    memory: list[float] = []
    statuses: Counter[int] = Counter()
    printed = len(gateway.server.printed())
    owner = Owner(gateway)
    keys = cycle((*OTHERS, OWNER))

    def judge(sent: Sent, key: str | None) -> None:
        try:
            got, took_s = send(gateway, sent, key)
        except httpx.TransportError as error:
            found.wrong.append(f"{type(error).__name__}: as {key}: {sent}")
            return
        found.examples += 1
        found.slowest_ms = max(found.slowest_ms, 1000 * took_s)
        statuses[got.status_code] += 1
        wrong = wrong_of(sent, key, got, took_s, owner.answer)
        if wrong is not None:
            found.wrong.append(f"{wrong}: as {key}: {sent}")
        memory.append(resident_mb(family([gateway.server.process.pid])))

    before = state_of(gateway)
    with owner.asking():
        for sent in bombs():
            judge(sent, next(keys))
        try_examples(
            requests(), lambda sent: judge(sent, next(keys)), seconds / 2, first_seed, found
        )
        if state_of(gateway) != before:
            found.wrong.append("a key that is no admin's changed what it may not")
        owner.is_flushed.set()
        for sent in bombs():
            judge(sent, ADMIN)
        try_examples(requests(), lambda sent: judge(sent, ADMIN), seconds / 2, first_seed, found)
    found.wrong += owner.wrong
    look_at_log(gateway, printed, found)
    first, last = ends_of(memory)
    if last - first > GROWTH_MB:
        found.wrong.append(f"memory grew from {first:.0f} to {last:.0f} MB")
    counts = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    found.note = (
        f"{counts}; the owner asked {owner.asked} times, {1000 * owner.slowest_s:.0f} ms at most; "
        f"memory {first:.0f} MB at first, {last:.0f} at last"
    )
    return found
