"""Who asks, and whether they want to be left alone, as LiteLLM's authentication and proxy say it.

Reads LiteLLM's objects by attribute and imports nothing of it.
"""

import re
from collections.abc import Iterable
from typing import Any

from nearhit.directives import OFF

# Headers that name one request and change no answer.
_VOLATILE = re.compile(r"(?i)trace|x-(request|correlation|amzn-trace|b3|stainless|litellm|nearhit)")


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


def is_allowed(callers: Iterable[str], key: Any) -> bool:
    """Tell whether a list of `all`, `key:HASH`, `team:ID`, `org:ID`, `user:ID` names a caller."""
    named = {"all"}
    for kind, field in (("key", "api_key"), ("team", "team_id"), ("org", "org_id")):
        if getattr(key, field, None):
            named.add(f"{kind}:{getattr(key, field)}")
    if getattr(key, "user_id", None):
        named.add(f"user:{key.user_id}")
    return not named.isdisjoint(callers)


def metadata_of(key: Any) -> dict[str, Any]:
    """Return what the operator wrote into a key's metadata."""
    metadata = getattr(key, "metadata", None)
    return metadata if isinstance(metadata, dict) else {}


def is_off(key: Any) -> bool:
    """Tell whether the settings of a key keep it out of the cache."""
    return str(metadata_of(key).get("nearhit", "")).lower() in OFF
