"""What a client may ask of the cache for one request, where the operator allows it. Pure.

    Cache-Control: no-cache         the model answers; what is stored stays
    Cache-Control: no-store         likewise, and nothing is stored of it
    Cache-Control: max-age=N        no stored answer that is older than N seconds
    Cache-Control: only-if-cached   a stored answer or 504, never the model
    x-nearhit-ttl: N                its answer, when stored, lives N seconds at most
    x-nearhit: off                  as no-store

LiteLLM's own controls in the body mean the same: `cache: {"no-cache": true, "no-store": true,
"s-maxage": N, "ttl": N}`, `caching: false`. Of one that is not known here, or not allowed, the
request is left alone, where no-store is allowed; else it is ignored. What cannot be read is taken
for the strictest. Nothing here lengthens a life, chooses a scope or lowers a threshold.

Source: RFC 9111 section 5.2.1. max-stale and min-fresh are ignored: nothing stale is ever served.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

NAMES: Final = ("no_cache", "no_store", "max_age", "only_if_cached", "ttl")
OFF: Final = frozenset({"off", "bypass", "false", "0", "no"})
_MOST: Final = 2**31  # seconds; RFC 9111 section 1.2.2: what overflows is this
_BODY_AGES: Final = ("s-maxage", "s-max-age")
_BODY: Final = frozenset({"no-cache", "no-store", "ttl", *_BODY_AGES})

May = Callable[[str], bool]
"""Whether the caller may use the directive of one of `NAMES`."""


@dataclass(frozen=True, slots=True)
class Directives:
    """What holds for one request.

    Attributes:
        refusal: why the cache keeps out of it, or None.
        max_age_s: age above which no stored answer is served.
        ttl_s: most that the stored answer may live.
        only_if_cached: whether the model must not be asked.
    """

    refusal: str | None = None
    max_age_s: int | None = None
    ttl_s: int | None = None
    only_if_cached: bool = False


def read_directives(
    headers: Mapping[str, Any], data: Mapping[str, Any], may: May, *, is_operators: bool = False
) -> Directives:
    """Read what a request asks of the cache.

    Args:
        headers: of the request.
        data: its body, as LiteLLM passes it on.
        may: what its caller is allowed.
        is_operators: whether the body's `cache` is not the client's but its key's settings.
    """
    lower = {str(name).lower(): str(value).lower() for name, value in headers.items()}
    asked = _cache_control(lower.get("cache-control", ""))
    age = _seconds(asked["max-age"]) if "max-age" in asked else None
    if age == 0:
        asked["no-cache"] = ""  # as every answer would be too old
    of_body = _body(data.get("cache"), (lambda name: True) if is_operators else may)
    refusal, ttl_s = of_body.refusal, of_body.ttl_s
    if data.get("caching") is False and may("no_store"):
        refusal = "cache_field"
    if ("no-cache" in asked and (may("no_cache") or (age == 0 and may("max_age")))) or (
        "no-store" in asked and may("no_store")
    ):
        refusal = "cache_control"
    if "x-nearhit-ttl" in lower and may("ttl"):
        own = _seconds(lower["x-nearhit-ttl"].strip())
        refusal = refusal if own else "header"
        ttl_s = _least(ttl_s, own)
    if lower.get("x-nearhit", "").strip() in OFF and may("no_store"):
        refusal = "header"
    return Directives(
        refusal=refusal,
        max_age_s=_least(of_body.max_age_s, age if may("max_age") else None),
        ttl_s=ttl_s,
        only_if_cached="only-if-cached" in asked and may("only_if_cached"),
    )


def _body(cache: Any, may: May) -> Directives:
    """Read LiteLLM's `cache` field."""
    if cache is None:
        return Directives()
    out = Directives(refusal="cache_field" if may("no_store") else None)
    if not isinstance(cache, dict) or not cache or not set(cache) <= _BODY:
        return out
    for name in ("no-cache", "no-store"):
        if cache.get(name) and may(name.replace("-", "_")):
            return Directives(refusal="cache_field")
    ages = [cache[name] for name in _BODY_AGES if cache.get(name) is not None]
    ttl = cache.get("ttl")
    is_refused = cache.get("no-cache") or cache.get("no-store")
    if is_refused or (ages and not may("max_age")) or (ttl is not None and not may("ttl")):
        return out
    max_age_s = min(map(_seconds, ages), default=None)
    ttl_s = None if ttl is None else _seconds(ttl)
    return Directives(
        refusal="cache_field" if 0 in (max_age_s, ttl_s) else None,
        max_age_s=max_age_s,
        ttl_s=ttl_s,
    )


def _cache_control(header: str) -> dict[str, str]:
    """Directives of a header by name, without quotes; of one that comes twice the least."""
    found: dict[str, str] = {}
    for part in header.split(","):
        name, _, value = part.partition("=")
        name, value = name.strip(), value.strip().strip('"')
        found[name] = min(value, found.get(name, value), key=_seconds)
    return found


def _seconds(value: Any) -> int:
    """Whole seconds that a client wrote; 0, the strictest, for what is none."""
    if isinstance(value, str):
        is_digits = value.isascii() and value.isdigit()
        return min(_MOST, int(value[:12])) if is_digits else 0
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return 0
    return int(min(_MOST, max(0, value)))


def _least(*seconds: int | None) -> int | None:
    return min((one for one in seconds if one is not None), default=None)
