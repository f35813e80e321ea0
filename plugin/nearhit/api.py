"""What nearhit adds to the proxy's own HTTP routes, behind LiteLLM's authentication.

    POST /nearhit/feedback  {"decision": "<x-nearhit-decision of the answer>", "label": "wrong"}

A key labels what its own tenant was served; a proxy admin labels anything. Which keys may call
the route at all is LiteLLM's to decide; the request header `x-nearhit-feedback: wrong` needs no
route.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException
from litellm.proxy._types import LitellmUserRoles
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth
from pydantic import BaseModel, ConfigDict, Field

from nearhit.evidence.witness import Witness

Key = Annotated[Any, Depends(user_api_key_auth)]


class Feedback(BaseModel):
    """What is said of one decision."""

    model_config = ConfigDict(extra="forbid")
    decision: str = Field(pattern=r"^[0-9a-f]{32}$")
    label: Literal["right", "wrong"]


def add_routes(witness: Witness, digest_of: Callable[[Any], str | None]) -> None:
    """Add the routes to the running proxy.

    Args:
        witness: of this worker.
        digest_of: the digest of the tenant that a key object belongs to; None: of none.
    """
    from litellm.proxy.proxy_server import app

    router = APIRouter(prefix="/nearhit", tags=["nearhit"])

    @router.post("/feedback")
    async def feedback(given: Feedback, key: Key) -> dict[str, str]:
        """Say of an answer that it was wrong, or right after all."""
        decision = await witness.get(given.decision)
        is_own = decision is not None and decision.tenant == digest_of(key)
        if decision is None or not (is_own or _is_admin(key)):
            # The same for both: nobody learns which decisions there are.
            raise HTTPException(404, "decision must be one that this key was served")
        await witness.label(given.decision, given.label, "person")
        return {"decision": given.decision, "label": given.label}

    app.include_router(router)


def _is_admin(key: Any) -> bool:
    return bool(getattr(key, "user_role", None) == LitellmUserRoles.PROXY_ADMIN)
