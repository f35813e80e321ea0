"""What nearhit adds to the proxy's own HTTP routes, behind LiteLLM's authentication.

    POST   /nearhit/feedback   {"decision": "<x-nearhit-decision of an answer>", "label": "wrong"}
    POST   /nearhit/explain    a chat request: what would become of it, and why; nothing is served
    GET    /nearhit/stats      requests, tokens, entries, evidence               proxy admins only
    POST   /nearhit/flush      {"all": true}, {"model": "..."}, {"tenant": [..]} or {"text": "..."},
                               each perhaps with {"before": a time}              admins only
    DELETE /nearhit/entries/ID                                                   admins only

A key labels what its own tenant was served, and explains among its own tenant's answers; a proxy
admin labels anything. Which keys may call a route at all is LiteLLM's to decide; the request header
`x-nearhit-feedback: wrong` needs no route.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, Literal, Protocol, Self
from uuid import UUID

from fastapi import APIRouter, Depends, HTTPException
from litellm.proxy._types import LitellmUserRoles
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from nearhit.cache import Cache, Lookup
from nearhit.decision import Bypass, Hit
from nearhit.errors import NearhitError
from nearhit.evidence.witness import Witness
from nearhit.metrics import HELD
from nearhit.request import Question

_DAYS = 30
_Name = Annotated[str, Field(max_length=1000)]  # each flush is kept, and read every second
Key = Annotated[Any, Depends(user_api_key_auth)]


class Reader(Protocol):
    """Reads requests as the hook does."""

    @property
    def is_believed(self) -> bool:
        """Whether a client's word about an answer holds: it then has that answer to itself."""

    def question_of(self, key: Any, body: dict[str, Any]) -> Question | Bypass:
        """Return the question that a chat request of this key asks."""

    def digest_of(self, key: Any) -> str | None:
        """Return the digest of the tenant that a key belongs to; None: of none."""

    def tenant_digest(self, tenant: list[str]) -> str:
        """Return the digest of a tenant that is named, such as ``["team", "red"]``."""

    def text_digest(self, text: str) -> str:
        """Return the digest of a question's text."""


class Feedback(BaseModel):
    """What is said of one decision."""

    model_config = ConfigDict(extra="forbid")
    decision: str = Field(pattern=r"^[0-9a-f]{32}$")
    label: Literal["right", "wrong"]


class Flush(BaseModel):
    """What is to be forgotten: exactly one of the first four, or of them what is older."""

    model_config = ConfigDict(extra="forbid")
    all: Literal[True] | None = None
    model: _Name | None = Field(default=None, min_length=1)
    tenant: list[_Name] | None = Field(
        default=None,
        min_length=2,
        max_length=8,
        description='`["key", hash]`, `["team", id]`, `["org", id]`, as `scope` divides them',
    )
    text: str | None = Field(
        default=None,
        min_length=1,
        max_length=100_000,
        description="a question, to the letter, whoever asked it",
    )
    before: AwareDatetime | None = Field(
        default=None,
        description="only answers that were given before; Unix seconds, or ISO 8601 with its zone",
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        named = (self.all, self.model, self.tenant, self.text)
        if sum(value is not None for value in named) != 1:
            raise ValueError("exactly one of all, model, tenant and text must be given")
        if self.before is not None and not 0 <= self.before.timestamp() <= time.time():
            raise ValueError("before must be a time that is past")
        return self

    @property
    def before_s(self) -> int | None:
        """`before` in Unix seconds."""
        return None if self.before is None else math.ceil(self.before.timestamp())


def add_routes(cache: Cache, witness: Witness, reader: Reader) -> None:
    """Add the routes to the running proxy; once, whatever is loaded again.

    Args:
        cache: of this worker.
        witness: of this worker.
        reader: of requests and keys.
    """
    from litellm.proxy.proxy_server import app

    kept = [route for route in app.router.routes if not _is_ours(route)]
    app.router.routes[:] = kept
    app.include_router(_router(cache, witness, reader))


def _is_ours(route: Any) -> bool:
    return str(getattr(route, "path", "")).startswith("/nearhit/")


def _router(cache: Cache, witness: Witness, reader: Reader) -> APIRouter:
    router = APIRouter(prefix="/nearhit", tags=["nearhit"])

    @router.post("/feedback")
    async def feedback(given: Feedback, key: Key) -> dict[str, str]:
        """Say of an answer that it was wrong, or right after all."""
        decision = await _available(witness.get, given.decision)
        is_own = decision is not None and decision.tenant == reader.digest_of(key)
        if decision is None or not (is_own or _is_admin(key)):
            # The same for both: nobody learns which decisions there are.
            raise HTTPException(404, "decision must be one that this key was served")
        if _is_admin(key):
            await _available(witness.label, given.decision, given.label, "person")
        else:
            believed = reader.is_believed
            label = partial(witness.label, is_believed=believed)
            await _available(label, given.decision, given.label, "client")
        return {"decision": given.decision, "label": given.label}

    @router.post("/explain")
    async def explain(body: dict[str, Any], key: Key) -> dict[str, Any]:
        """Tell what would become of a chat request of this key, and why."""
        try:
            found = reader.question_of(key, body)
        except Exception:  # noqa: BLE001 - a body may hold anything
            raise HTTPException(400, "body must be a chat request") from None
        if isinstance(found, Bypass):
            return {"outcome": "bypass", "reason": found.reason}
        return _explained(await _available(cache.explain, found))

    @router.get("/stats")
    async def stats(key: Key) -> dict[str, Any]:
        """Sum up the last 30 days and the state of things."""
        _admins_only(key)
        belief = cache.watch.belief
        held = await _available(cache.held)
        return {
            "days": _DAYS,
            "tally": [asdict(one) for one in await _available(witness.tally, _DAYS)],
            "entries": await _available(cache.count),
            "store": {name: held[name] for name in HELD if name in held},
            "decider": cache.decider,
            "quarantined": sum(map(len, belief.quarantine.values())),
            "live_wrong_share": asdict(belief.live),
            "tightened": belief.tightened,
            "calibrated": belief.calibrated,
        }

    @router.post("/flush")
    async def flush(given: Flush, key: Key) -> dict[str, Any]:
        """Forget answers, durably; other workers obey within a second or two."""
        _admins_only(key)
        if given.all:
            await _available(cache.flush, given.before_s)
        else:
            what = f"model:{given.model}"
            if given.tenant is not None:
                what = f"tenant:{reader.tenant_digest(given.tenant)}"
            elif given.text is not None:
                what = f"text:{reader.text_digest(given.text)}"
            await _available(witness.flush, what, given.before_s)
        shown = given.model_dump(mode="json", exclude_none=True)
        return {"flushed": shown, "at": int(time.time())}

    @router.delete("/entries/{entry}")
    async def delete(entry: UUID, key: Key) -> dict[str, str]:
        """Forget one answer, named by `x-nearhit-entry`."""
        _admins_only(key)
        await _available(cache.delete, entry)
        return {"deleted": str(entry)}

    return router


async def _available(call: Callable[..., Any], *arguments: Any) -> Any:
    """Wait for a part that may be down."""
    try:
        return await call(*arguments)
    except NearhitError as error:
        raise HTTPException(503, f"nearhit cannot tell now: {error}") from None


def _explained(lookup: Lookup) -> dict[str, Any]:
    outcome = lookup.outcome
    found: dict[str, Any] = {"outcome": "hit" if isinstance(outcome, Hit) else "miss"}
    if isinstance(outcome, Hit):
        found |= {"kind": outcome.kind, "entry": str(outcome.entry.id)}
    else:
        found |= {"reason": outcome.reason}
    found["candidates"] = [
        {
            "entry": str(one.entry.id),
            "stored_question": one.entry.text,
            "similarity": one.similarity,
            "confidence": one.confidence,
            "veto": one.veto,
        }
        for one in lookup.candidates
    ]
    return found


def _admins_only(key: Any) -> None:
    if not _is_admin(key):
        raise HTTPException(403, "this route is for proxy admins")


def _is_admin(key: Any) -> bool:
    return bool(getattr(key, "user_role", None) == LitellmUserRoles.PROXY_ADMIN)
