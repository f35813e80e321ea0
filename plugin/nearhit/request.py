"""What a chat request asks, and what must be equal for another answer to serve it.

The *text* is the last user message alone. Everything else that can change the answer goes,
exactly, into the *scope*: tenant, model, earlier turns, system messages, tools, sampling, and
every field that is not known to be harmless. Pure: no I/O, no clock, no model.
"""

import hashlib
import hmac
import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nearhit.decision import Bypass
from nearhit.freshness import Rule, matching

# Bump when the digest's recipe changes: entries of another recipe are then never found.
_SCOPE_VERSION = 1
_ID_NAMESPACE = uuid.UUID("5f0c5f63-0d0a-5a0e-9d55-6e6561726869")

# Fields that change how an answer is delivered or billed, never what it says.
HARMLESS = frozenset(
    {
        "stream",
        "stream_options",
        "user",
        "metadata",
        "litellm_metadata",
        "timeout",
        "request_timeout",
        "stream_timeout",
        "client_side_timeout",  # LiteLLM's own note of `timeout`
        "num_retries",
        "max_retries",
        "store",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "caching",
        "cache",
        "cache_key",
        "no-log",
        "litellm_call_id",
        "litellm_trace_id",
        "litellm_session_id",
    }
)
# A caller who brings an endpoint or a key of its own gets that endpoint's answers only.
_CREDENTIALS = frozenset(
    {"api_key", "api_base", "base_url", "user_config", "organization", "provider_specific_header"}
)
_TOOL_FIELDS = frozenset({"tools", "tool_choice", "functions", "function_call"})
_MEDIA_FIELDS = frozenset({"audio", "modalities"})
# JSON has one kind of number: `0` of one client library is `0.0` of another.
_FLOATS = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty"})


@dataclass(frozen=True, slots=True)
class Policy:
    """The part of the settings that classifies requests.

    `freshness` matches a question whose answer changes by the hour; None matches nothing.
    `classes` are further kinds of such questions, each bypassed or with a life of its own.
    `exact_only` says why no question at all is matched by meaning; None: it may be.
    """

    max_turns: int
    max_temperature: float
    freshness: re.Pattern[str] | None
    classes: tuple[Rule, ...] = ()
    exact_only: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A request that may be answered from the cache.

    `id` names this text in this scope, so an exact repeat is one retrieve. `scope` is 64 hex
    digits, `tenant` a keyed digest of 32. `exact_only` says why other wordings are not
    considered; None: they are. `ttl_s` is how old an answer may be, by the classes of questions
    that it falls under; None: it is of none.
    """

    id: uuid.UUID
    scope: str
    text: str
    model: str
    tenant: str
    exact_only: str | None
    ttl_s: int | None = None


def freshness_pattern(words: Iterable[str]) -> re.Pattern[str] | None:
    """Compile words and phrases into one pattern that matches them whole, in any case."""
    phrases = [word.split() for word in words if word.split()]
    if not phrases:
        return None
    # The first letter first: a million spaces then take 35 ms and not 600, on the event loop.
    letters = "".join(sorted({re.escape(phrase[0][0]) for phrase in phrases}))
    escaped = "|".join(r"\s+".join(map(re.escape, phrase)) for phrase in phrases)
    return re.compile(rf"(?=[{letters}])(?<!\w)(?:{escaped})(?!\w)", re.IGNORECASE)


def freshness_rule(words: Iterable[str], patterns: Iterable[str], ttl_s: int | None) -> Rule:
    """Compile one class of questions; `ttl_s` is None where such a question is not cached."""
    whole = freshness_pattern(words)
    compiled = tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)
    return Rule(compiled if whole is None else (whole, *compiled), ttl_s)


def read(
    body: Mapping[str, Any], tenant: Sequence[str], policy: Policy, secret: bytes
) -> Question | Bypass:
    """Classify a chat-completion request.

    Args:
        body: the fields of the request, as the client sent them or the proxy set them.
        tenant: who shares answers; from the proxy's authentication, never from the request.
        policy: limits of what may be matched by meaning.
        secret: keys the scope digest, so that it tells nothing to whoever reads the store.
    """
    refusal = _refuse(body)
    if refusal is not None:
        return Bypass(refusal)
    *earlier, last = body["messages"]
    raw, plain = _text_of(last.get("content"))
    text = normalise(raw)
    if not text:
        return Bypass("empty_text")
    if not (_is_unicode(text) and _is_unicode(body["model"])):
        return Bypass("not_unicode")
    if policy.freshness is not None and policy.freshness.search(text):
        return Bypass("freshness")
    lives = [rule.ttl_s for rule in matching(text, policy.classes)]
    if None in lives:
        return Bypass("freshness")
    document = {
        "version": _SCOPE_VERSION,
        "tenant": list(tenant),
        "fields": _answer_fields(body),
        "earlier": earlier,
        # A plain text is named by the id; every other form of the message is part of the scope.
        "last": {key: value for key, value in last.items() if not (plain and key == "content")},
    }
    try:
        scope = hmac.new(secret, canonical(document), hashlib.sha256).hexdigest()
    except (RecursionError, TypeError, ValueError):
        return Bypass("not_json")
    return Question(
        id=entry_id(scope, text, secret),
        scope=scope,
        text=text,
        model=body["model"],
        tenant=tenant_digest(tenant, secret),
        exact_only=_exact_only(body, earlier, policy) if plain else "not_plain_text",
        ttl_s=min((life for life in lives if life is not None), default=None),
    )


def entry_id(scope: str, text: str, secret: bytes) -> uuid.UUID:
    """Return the id of a text in a scope; keyed, so that a guessed text cannot be tried on it."""
    name = hmac.new(secret, f"{scope} {text}".encode(), hashlib.sha256)
    return uuid.uuid5(_ID_NAMESPACE, name.hexdigest())


def tenant_digest(tenant: Sequence[str], secret: bytes) -> str:
    """Return the name under which a tenant stands in evidence and flushes: 32 hex digits."""
    return hmac.new(secret, canonical(["tenant", *tenant]), hashlib.sha256).hexdigest()[:32]


def text_digest(text: str, secret: bytes) -> str:
    """Return the name under which a question's text stands in flushes: 32 hex digits."""
    named = canonical(["text", normalise(text)])
    return hmac.new(secret, named, hashlib.sha256).hexdigest()[:32]


def normalise(text: str) -> str:
    """Fold line ends and outer white space; all else counts, to the letter.

    No Unicode normalization: it makes two code points one, which a question may be about, and a
    run of 80,000 combining marks takes it two seconds. The encoder folds them for meaning.
    """
    return text.replace("\r\n", "\n").strip()


def canonical(value: object) -> bytes:
    """Encode JSON so that equal values, and only equal values, give equal bytes.

    Lone surrogates are escaped, so every string that a JSON parser can return has an encoding.

    Raises:
        TypeError: the value is not JSON.
        ValueError: it holds a number that is not finite, or refers to itself.
        RecursionError: it is nested too deeply.
    """
    encoded = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return encoded.encode("ascii")


def _refuse(body: Mapping[str, Any]) -> str | None:
    """Say why this request is none of the cache's business, or None."""
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str) or not model or "," in model:
        return "model"  # LiteLLM answers `a,b` with one answer of each model
    if not isinstance(messages, list) or not messages:
        return "messages"
    if not all(isinstance(message, dict) for message in messages):
        return "messages"
    if messages[-1].get("role") != "user":
        return "last_role"
    if body.get("n") not in (None, 1):
        return "several_choices"
    if any(body.get(field) for field in _CREDENTIALS):
        return "client_credentials"
    if body.get("mock_response") is not None:
        return "mocked"  # another callback's answer, or a test's: not the model's
    if body.get("web_search_options") is not None:
        return "web_search"  # the answer is of today
    return None


def _text_of(content: object) -> tuple[str, bool]:
    """Return the text of a message and whether that text is all there is."""
    if isinstance(content, str):
        return content, True
    if not isinstance(content, list):
        return "", False
    texts = [
        part["text"]
        for part in content
        if isinstance(part, dict)
        and part.get("type") == "text"
        and isinstance(part.get("text"), str)
    ]
    plain = len(content) == len(texts) == 1 and set(content[0]) == {"type", "text"}
    return "\n".join(texts), plain


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _answer_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what can change the answer beside the messages; None and `n: 1` are the default."""
    fields = {}
    for name, value in body.items():
        if name in HARMLESS or name in ("messages", "n") or value is None:
            continue
        if name in _FLOATS and type(value) is int and abs(value) < 2**53:
            value = float(value)
        fields[name] = value
    return fields


def _exact_only(
    body: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]], policy: Policy
) -> str | None:
    """Say why only a repeat to the letter may be served, or None."""
    if policy.exact_only is not None:
        return policy.exact_only
    if any(body.get(field) for field in _TOOL_FIELDS):
        return "tools"
    if any(body.get(field) is not None for field in _MEDIA_FIELDS):
        return "media"
    turns = 0
    for message in earlier:
        if message.get("role") in ("tool", "function") or message.get("tool_calls"):
            return "tool_calls"
        if not isinstance(message.get("content"), str | None):
            parts = message["content"]
            if not isinstance(parts, list) or any(
                not isinstance(part, dict) or part.get("type") != "text" for part in parts
            ):
                return "media"
        turns += message.get("role") in ("user", "assistant")
    if turns > policy.max_turns:
        return "many_turns"
    temperature = body.get("temperature")
    if temperature is not None and (
        not isinstance(temperature, int | float) or temperature > policy.max_temperature
    ):
        return "temperature"
    return None
