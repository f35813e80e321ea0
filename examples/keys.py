"""Keys without a database: LiteLLM's custom authentication, from an environment variable.

    export NEARHIT_DEMO_KEYS="sk-alice-0123456789 sk-bob-0123456789"
    general_settings: {custom_auth: keys.authenticate}      # in a config beside this file

LiteLLM's own virtual keys need a database. This is enough to see that two keys never share an
answer; it is no key management.
"""

import hashlib
import os
import secrets

from fastapi import HTTPException, Request
from litellm.proxy._types import UserAPIKeyAuth


async def authenticate(request: Request, api_key: str) -> UserAPIKeyAuth:
    """Return the caller's identity, or refuse."""
    for known in os.environ.get("NEARHIT_DEMO_KEYS", "").split():
        if secrets.compare_digest(known.encode(), api_key.encode()):
            return UserAPIKeyAuth(api_key=hashlib.sha256(known.encode()).hexdigest())
    raise HTTPException(status_code=401, detail="unknown key")
