"""What a hostile client sends: bodies, headers and texts. Strategies of hypothesis."""

from typing import Any, Final

from hypothesis import strategies as st

from gateway import MODEL
from nearhit.request import HARMLESS

_PIECES: Final = (
    "how do xylophonists reset a password",  # `stand.MARK`: a log must not hold it
    "enable 2FA for 3 users",
    "translate: where is the station",
    "ibuprofen 200 mg",
    "today",
    "\r\n",
    "\n",
    "\x00",
    "\u0301\u0323" * 30,
    "\u202e",
    "\u200b",
    "\ufeff",
    "\u4f60\u597d",
    "\U0001f600",
    "%s %d {0} {x} ${jndi:x} \x1b[31m",
    "../../etc/passwd",
    "x-nearhit: hit\r\nset-cookie: a=b",
    "[CLS] [SEP] [UNK] [PAD] [MASK]",
    "`",
    '"',
    "'",
    "``` ```",
    "1,000,000.00",
    "9" * 60,
    "one hundred million",
    "a.b.c_d-e/f",
    "to from to from",
    "and or and or",
    "C Rust Go",
    "amoxicillin lisinopril",
    "(" * 30,
)
_TEXTS: Final = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(_PIECES), min_size=1, max_size=6).map(" ".join),
    st.builds(lambda piece, n: piece * n, st.sampled_from(_PIECES), st.sampled_from([1, 50, 2000])),
)
# Not what a JSON parser can never return: lone surrogates come as escapes, see `RAW`.
_JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | _TEXTS
    | st.sampled_from(["0", "true", "user", "assistant", MODEL]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=12,
)
_PART: Final = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": _TEXTS | _JSON}),
    st.fixed_dictionaries({"type": st.just("image_url"), "image_url": _JSON}),
    _JSON,
)
_CONTENT: Final = st.one_of(_TEXTS, _TEXTS, st.lists(_PART, max_size=3), _JSON)
_MESSAGE: Final = st.one_of(
    st.fixed_dictionaries({"role": st.just("user"), "content": _CONTENT}),
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool", "developer", "x"])},
        optional={"content": _CONTENT, "tool_calls": _JSON, "name": _JSON, "tool_call_id": _JSON},
    ),
    _JSON,
)
_FIELDS: Final = (
    *("temperature", "top_p", "n", "stop", "seed", "tools", "tool_choice", "functions", "logprobs"),
    *("response_format", "logit_bias", "max_tokens", "presence_penalty", "reasoning_effort"),
    *("modalities", "audio", "prediction", "web_search_options", "api_key", "api_base", "tags"),
    *("mock_response", "guardrails", "fallbacks", "litellm_logging_obj", "proxy_server_request"),
    *("secret_fields", "x-nearhit", "nearhit", "scope", "tenant", "data_dir"),
)


def bodies() -> st.SearchStrategy[Any]:
    """Chat requests, most of them nearly right."""
    plain = st.fixed_dictionaries({"role": st.just("user"), "content": _TEXTS})
    messages = st.one_of(
        st.lists(_MESSAGE, max_size=3).flatmap(lambda m: plain.map(lambda last: [*m, last])),
        st.lists(_MESSAGE, max_size=4),
        _JSON,
    )
    base = st.fixed_dictionaries(
        {"model": st.sampled_from([MODEL] * 9) | _JSON, "messages": messages}
    )
    more = st.dictionaries(st.sampled_from([*_FIELDS, *sorted(HARMLESS)]), _JSON, max_size=3)
    return st.builds(lambda one, other: {**one, **other}, base, more)


HEADERS: Final = st.dictionaries(
    st.sampled_from(
        [
            "x-nearhit",
            "x-nearhit-feedback",
            "cache-control",
            "x-nearhit-tenant",
            "x-litellm-call-id",
            "x-litellm-tags",
            "x-litellm-timeout",
            "x-forwarded-for",
            "accept",
        ]
    ),
    st.one_of(
        st.sampled_from(["off", "wrong", "no-cache", "max-age=0", "no-store, ,=", "1", "hit"]),
        # What a client library lets through: no outer blanks, no line ends.
        st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
    ),
    max_size=3,
)
TEXTS: Final = _TEXTS
JSON_VALUES: Final = _JSON
# Bytes that are no request, or one that no serializer writes.
RAW: Final[tuple[bytes, ...]] = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'{"model":"%s","messages":[{"role":"user","content":"\\ud800"}]}' % MODEL.encode(),
    b'{"model":"%s","temperature":NaN,"messages":[{"role":"user","content":"x"}]}' % MODEL.encode(),
    b'{"model":"%s","seed":1%s,"messages":[{"role":"user","content":"x"}]}'
    % (MODEL.encode(), b"0" * 5000),
    b'{"messages":' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"messages":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
    b'{"model":"%s","messages":[{"role":"user","content":"%s"}]}'
    % (MODEL.encode(), b"word " * 200_000),
    b'{"model":"%s","messages":[{"role":"user","content":"a%sb"}]}'
    % (MODEL.encode(), b" " * 1_000_000),
)
