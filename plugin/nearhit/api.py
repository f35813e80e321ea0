"""What nearhit adds to the proxy's own HTTP routes, behind LiteLLM's authentication.

    POST   /nearhit/feedback   {"decision": "<x-nearhit-decision of an answer>", "label": "wrong"}
    POST   /nearhit/explain    a chat request: what would become of it, and why; nothing is served
    POST   /nearhit/flush      {"all": true}, {"model": "..."}, {"tenant": [..]} or {"text": "..."},
                               each perhaps with {"before": a time}              admins only
    POST   /nearhit/valves     {"open": "hit_ratio" or "all", "of": a tenant or entry} admins only
    DELETE /nearhit/entries/ID                                                   admins only

`overview`, `entries` and `page` add theirs. A key labels what its own tenant was served, and
explains among its own tenant's answers; a proxy admin labels anything. Which keys may call a route
at all is LiteLLM's to decide; the request header `x-nearhit-feedback: wrong` needs no route.
"""

import math
import time
from functools import partial
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, HTTPException
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from nearhit import entries, overview, page
from nearhit.access import (
    Key,
    Reader,
    Tenant,
    admins_only,
    available,
    check_tenant,
    is_admin,
)
from nearhit.cache import Cache, Lookup
from nearhit.decision import Bypass, Hit
from nearhit.evidence.flushes import EVERYTHING
from nearhit.evidence.witness import Witness
from nearhit.intake import Route
from nearhit.valves import Name

_Name = Annotated[str, Field(max_length=1000)]  # each flush is kept, and read every second


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


class Opening(BaseModel):
    """Which valve is to be opened: everywhere, or for one tenant or entry."""

    model_config = ConfigDict(extra="forbid")
    open: Name | Literal["all"]
    of: str | None = Field(
        default=None, pattern=r"^[0-9a-f-]{1,128}$", description="as `GET /nearhit/valves` names it"
    )

    @property
    def mark(self) -> str:
        """What is noted."""
        if self.open == "all":
            return EVERYTHING
        return self.open if self.of is None else f"{self.open}:{self.of}"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.open == "all" and self.of is not None:
            raise ValueError("of must go with the name of one valve, got all; name the valve")
        return self


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
    app.include_router(overview.router(cache, witness, reader))
    app.include_router(entries.router(cache, reader))
    app.include_router(page.router())
    app.openapi_schema = None  # made anew, with these


def _is_ours(route: Any) -> bool:
    return str(getattr(route, "path", "")).startswith("/nearhit/")


def _router(cache: Cache, witness: Witness, reader: Reader) -> APIRouter:
    router = APIRouter(prefix="/nearhit", tags=["nearhit"], route_class=Route)

    @router.post("/feedback")
    async def feedback(given: Feedback, key: Key) -> dict[str, str]:
        """Say of an answer that it was wrong, or right after all."""
        decision = await available(witness.get, given.decision)
        is_own = decision is not None and decision.tenant == reader.digest_of(key)
        if decision is None or not (is_own or is_admin(key)):
            # The same for both: nobody learns which decisions there are.
            raise HTTPException(404, "decision must be one that this key was served")
        if is_admin(key):
            await available(witness.label, given.decision, given.label, "person")
        else:
            believed = reader.is_believed
            label = partial(witness.label, is_believed=believed)
            await available(label, given.decision, given.label, "client")
        return {"decision": given.decision, "label": given.label}

    @router.post("/explain")
    async def explain(body: dict[str, Any], key: Key, tenant: Tenant = None) -> dict[str, Any]:
        """Tell what would become of a chat request of this key, and why.

        A proxy admin may name another tenant.
        """
        if tenant is not None:
            admins_only(key)
            check_tenant(tenant, reader.settings)
        try:
            found = (
                reader.question_of(key, body)
                if tenant is None
                else reader.question_by(tenant, body)
            )
        except Exception:  # noqa: BLE001 - a body may hold anything
            raise HTTPException(400, "body must be a chat request") from None
        if isinstance(found, Bypass):
            return {"outcome": "bypass", "reason": found.reason}
        return _explained(await available(cache.explain, found))

    @router.post("/flush")
    async def flush(given: Flush, key: Key) -> dict[str, Any]:
        """Forget answers, durably; other workers obey within a second or two."""
        admins_only(key)
        if given.all:
            await available(cache.flush, given.before_s)
        else:
            what = f"model:{given.model}"
            if given.tenant is not None:
                what = f"tenant:{reader.tenant_digest(given.tenant)}"
            elif given.text is not None:
                what = f"text:{reader.text_digest(given.text)}"
            await available(witness.flush, what, given.before_s)
        shown = given.model_dump(mode="json", exclude_none=True)
        return {"flushed": shown, "at": int(time.time())}

    @router.post("/valves")
    async def open_valve(given: Opening, key: Key) -> dict[str, Any]:
        """Open a valve by hand; other workers obey within a second or two."""
        admins_only(key)
        await available(witness.open_valve, given.mark)
        return {"opened": given.model_dump(mode="json", exclude_none=True), "at": int(time.time())}

    @router.delete("/entries/{entry}")
    async def delete(entry: UUID, key: Key) -> dict[str, str]:
        """Forget one answer, named by `x-nearhit-entry`."""
        admins_only(key)
        await available(cache.delete, entry)
        return {"deleted": str(entry)}

    return router


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
