"""Who asks, and whether they want to be left alone, as LiteLLM's authentication and proxy say it.

Reads LiteLLM's objects by attribute and imports nothing of it.
"""

import re
from collections.abc import Mapping
from typing import Any

# Headers that name one request and change no answer.
_VOLATILE = re.compile(r"(?i)trace|x-(request|correlation|amzn-trace|b3|stainless|litellm|nearhit)")
_OPT_OUT = frozenset({"off", "bypass", "false", "0", "no"})


def tenant_of(key: Any, scope: str) -> tuple[str, ...] | None:
    """Name who shares answers, from the key object that LiteLLM's authentication made.

    Who has no team (or organisation) shares with nobody in `scope: team` (or `org`). Single
    sign-on knows users and no keys; None: there is nothing to tell this caller by.
    """
    own = _identity(key)
    if scope == "global":
        return ("global",)
    if scope == "team" and getattr(key, "team_id", None):
        return ("team", str(key.team_id))
    if scope == "org" and getattr(key, "org_id", None):
        return ("org", str(key.org_id))
    if own is None:
        return None
    if scope == "end_user":
        return ("end_user", *own, str(getattr(key, "end_user_id", None) or ""))
    return own


def _identity(key: Any) -> tuple[str, ...] | None:
    token = getattr(key, "api_key", None) or getattr(key, "token", None)
    if token:
        return ("key", str(token))
    user = getattr(key, "user_id", None)
    if user:
        team, org = getattr(key, "team_id", None), getattr(key, "org_id", None)
        return ("user", str(user), str(team), str(org))
    return None


def forwarded(headers: Any) -> dict[str, str] | None:
    """Return the client's headers that LiteLLM forwards to the model, where it is told to."""
    if not isinstance(headers, dict):
        return None
    kept = {str(k).lower(): str(v) for k, v in headers.items() if not _VOLATILE.match(str(k))}
    return kept or None


def opt_out(headers: Mapping[str, Any], data: Mapping[str, Any], key: Any) -> str | None:
    """Say who asked to be left alone: the client by header or field, or the key's settings."""
    lower = {str(name).lower(): str(value).lower() for name, value in headers.items()}
    if lower.get("x-nearhit", "").strip() in _OPT_OUT:
        return "header"
    directives = {part.strip() for part in lower.get("cache-control", "").split(",")}
    if directives & {"no-cache", "no-store", "max-age=0"}:
        return "cache_control"
    if data.get("caching") is False or data.get("cache") is not None:
        return "cache_field"  # LiteLLM's own cache controls: `{"cache": {"no-cache": true}}`
    metadata = getattr(key, "metadata", None)
    if isinstance(metadata, dict) and str(metadata.get("nearhit", "")).lower() in _OPT_OUT:
        return "key"
    return None
