"""Who may call the routes, and what they need of hook and LiteLLM."""

from collections.abc import Callable
from typing import Annotated, Any, Protocol

from fastapi import Depends, HTTPException, Query
from litellm.proxy._types import LitellmUserRoles
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth

from nearhit.config import Settings
from nearhit.decision import Bypass
from nearhit.errors import NearhitError
from nearhit.request import Question

Key = Annotated[Any, Depends(user_api_key_auth)]
Tenant = Annotated[
    list[str] | None,
    Query(max_length=4, description="kind and id, as `scope` divides: `tenant=team&tenant=red`"),
]


class Reader(Protocol):
    """Reads requests as the hook does."""

    @property
    def settings(self) -> Settings:
        """What is in force."""

    @property
    def is_believed(self) -> bool:
        """Whether a client's word about an answer holds: it then has that answer to itself."""

    def question_of(self, key: Any, body: dict[str, Any]) -> Question | Bypass:
        """Return the question that a chat request of this key asks."""

    def question_by(self, tenant: list[str], body: dict[str, Any]) -> Question | Bypass:
        """Return the question that a chat request of a named tenant asks."""

    def digest_of(self, key: Any) -> str | None:
        """Return the digest of the tenant that a key belongs to; None: of none."""

    def tenant_digest(self, tenant: list[str]) -> str:
        """Return the digest of a tenant that is named, such as ``["team", "red"]``."""

    def text_digest(self, text: str) -> str:
        """Return the digest of a question's text."""


def check_tenant(tenant: list[str], settings: Settings) -> list[str]:
    """Return a named tenant if there can be one of that kind.

    Raises:
        HTTPException: there cannot: 422.
    """
    kinds = ("global",) if settings.scope == "global" else (settings.scope, "key", "user")
    if tenant[0] not in kinds or (len(tenant) == 1) != (tenant == ["global"]):
        raise HTTPException(
            422,
            f"tenant must begin with one of {', '.join(kinds)} and name one, as `scope` divides",
        )
    return tenant


async def available(call: Callable[..., Any], *arguments: Any) -> Any:
    """Wait for a part that may be down.

    Raises:
        HTTPException: it is: 503.
    """
    try:
        return await call(*arguments)
    except NearhitError as error:
        raise HTTPException(503, f"nearhit cannot tell now: {error}") from None


def admins_only(key: Any) -> None:
    """Refuse whoever is no proxy admin.

    Raises:
        HTTPException: 403.
    """
    if not is_admin(key):
        raise HTTPException(403, "this route is for proxy admins")


def is_admin(key: Any) -> bool:
    """Whether LiteLLM says that a key is a proxy admin's."""
    return bool(getattr(key, "user_role", None) == LitellmUserRoles.PROXY_ADMIN)
