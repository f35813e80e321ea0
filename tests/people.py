"""The proxy's authentication in these tests: six keys, of two teams and two organisations."""

from typing import Any

from fastapi import HTTPException, Request
from litellm.proxy._types import UserAPIKeyAuth

PEOPLE: dict[str, dict[str, Any]] = {
    "sk-alice": {"team_id": "red", "org_id": "north"},
    "sk-bob": {"team_id": "red", "org_id": "north"},
    "sk-carol": {"team_id": "blue", "org_id": "north"},
    "sk-dave": {},
    "sk-erin": {},
    # Single sign-on: users without a key. And one of whom nothing is known.
    "sso-frank": {"api_key": None, "user_id": "frank"},
    "sso-grace": {"api_key": None, "user_id": "grace"},
    "nobody": {"api_key": None},
    "sk-admin": {"user_role": "proxy_admin"},
    "sk-off": {"metadata": {"nearhit": "off"}},
}


async def authenticate(request: Request, api_key: str) -> UserAPIKeyAuth:
    if api_key not in PEOPLE:
        raise HTTPException(status_code=401, detail="unknown key")
    return UserAPIKeyAuth(**{"api_key": f"hash-of-{api_key}", **PEOPLE[api_key]})
