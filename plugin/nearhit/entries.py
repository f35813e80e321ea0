"""Routes that show stored answers, and take in answers that were given elsewhere.

    GET  /nearhit/entries      page through, by text or by meaning
    GET  /nearhit/entries/ID   one, with its answer
    POST /nearhit/warm         question and answer pairs for one tenant and model    admins only

A proxy admin sees the entries of all tenants, every other key those of its own tenant alone.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field

from nearhit import completion
from nearhit.access import Key, Reader, Tenant, admins_only, available, check_tenant, is_admin
from nearhit.cache import Cache
from nearhit.decision import Bypass
from nearhit.encoder import Unencodable
from nearhit.evidence.judge import answer_text
from nearhit.intake import Route
from nearhit.store import Entry
from nearhit.store.base import Browse, Listing, cosine

MAX_PAIRS: Final = 100
_MAX_TEXT: Final = 1_000_000
_SEARCH_S: Final = 2.0  # that an admin's search by text may take; it then says where to go on
_AT_ONCE: Final = 8  # pairs of one request


class Pair(BaseModel):
    """A question and the answer that it is to get."""

    model_config = ConfigDict(extra="forbid")
    question: str = Field(min_length=1, max_length=_MAX_TEXT)
    answer: str = Field(min_length=1, max_length=_MAX_TEXT)
    system: str | None = Field(
        default=None, max_length=_MAX_TEXT, description="the system message that goes before it"
    )


class Warm(BaseModel):
    """Answers that were given elsewhere, and who is to be served them."""

    model_config = ConfigDict(extra="forbid")
    tenant: list[str] = Field(
        min_length=1,
        max_length=4,
        description='`["key", hash]`, `["team", id]`, `["org", id]`, `["global"]`, by `scope`',
    )
    model: str = Field(min_length=1, max_length=256, description="the model group that is asked")
    fields: dict[str, Any] = Field(
        default={}, description="what else those requests say, such as `temperature`"
    )
    pairs: list[Pair] = Field(min_length=1, max_length=MAX_PAIRS)


class Warmed(BaseModel):
    """What became of each pair: `stored`, `present`, or why neither."""

    results: list[str]


class Shown(BaseModel):
    """A stored answer, as its looker-on sees it; `tenant` and `scope` are keyed digests."""

    id: UUID
    question: str
    answer: str | None
    model: str
    tenant: str
    scope: str
    created_at: int
    expires_at: int
    hits: int
    is_exact_only: bool
    similarity: float | None = None
    completion: Any = None


class Entries(BaseModel):
    """Some entries; `next` is the `after` of the following ones, None at the end."""

    entries: list[Shown]
    next: UUID | None


def router(cache: Cache, reader: Reader) -> APIRouter:
    """Return the routes.

    Args:
        cache: of this worker.
        reader: of requests and keys.
    """
    router = APIRouter(prefix="/nearhit", tags=["nearhit"], route_class=Route)

    def whose(key: Any, tenant: list[str] | None) -> str | None:
        """Return the digest of the one tenant that a key may look at; None: at all."""
        if is_admin(key):
            if tenant is None:
                return None
            return reader.tenant_digest(check_tenant(tenant, reader.settings))
        own = reader.digest_of(key)
        if own is None or tenant is not None:
            raise HTTPException(403, "only proxy admins see entries of other tenants")
        return own

    @router.get("/entries")
    async def entries(
        key: Key,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: UUID | None = None,
        text: Annotated[str, Query(max_length=1000)] = "",
        meaning: Annotated[str, Query(max_length=8000)] = "",
        answers: bool = False,
        tenant: Tenant = None,
    ) -> Entries:
        """Page through stored answers.

        `text`: whose question contains it; `meaning`: nearest to it, most similar first; with
        `answers` each comes with its answer. A page may be short, even empty, and have a `next`.
        """
        digest, now = whose(key, tenant), int(time.time())
        vector, fingerprint = None, ""
        if meaning:
            vector, fingerprint = await available(_encode, cache, meaning)
        wanted = Browse(limit, now, after, digest, text, vector, fingerprint)
        found = await available(_search, cache, wanted, _SEARCH_S if is_admin(key) else 0.0)
        shown = [_shown(one, vector, with_answer=answers) for one in found.entries]
        return Entries(entries=shown, next=found.next)

    @router.get("/entries/{entry}")
    async def show(entry: UUID, key: Key) -> Shown:
        """Show one stored answer, named by `x-nearhit-entry`."""
        digest = whose(key, None)
        found: Entry | None = await available(cache.show, entry)
        if found is None or (digest is not None and found.tenant != digest):
            # The same for both: nobody learns which entries there are.
            raise HTTPException(404, "entry must be one that is stored for this key")
        shown = _shown(found, None, with_answer=True)
        shown.completion = completion.unpack(found.completion)
        return shown

    @router.post("/warm")
    async def warm(given: Warm, key: Key) -> Warmed:
        """Take in answers that were given elsewhere; those that are there already stay.

        They live as long as any answer, and are served by the same rules.
        """
        admins_only(key)
        check_tenant(given.tenant, reader.settings)
        places = asyncio.Semaphore(_AT_ONCE)

        async def take(pair: Pair) -> str:
            async with places:
                return await _take(cache, reader, given, pair)

        return Warmed(results=await asyncio.gather(*(take(pair) for pair in given.pairs)))

    return router


async def _encode(cache: Cache, text: str) -> tuple[Any, str]:
    """Return the vector of a text with the encoder's fingerprint."""
    if cache.encoder is None:
        raise HTTPException(503, "the encoder is not loaded yet")
    encoded = await cache.encoder.encode(text)
    if isinstance(encoded, Unencodable):
        raise HTTPException(422, f"meaning must be one that has a vector: {encoded.reason}")
    return encoded, cache.encoder.fingerprint


async def _search(cache: Cache, wanted: Browse, seconds: float) -> Listing:
    """Look on until enough is found, all is seen or the time is up."""
    end = time.monotonic() + seconds
    found = await cache.browse(wanted)
    kept = list(found.entries)
    while found.next is not None and len(kept) < wanted.limit and time.monotonic() < end:
        rest = Browse(
            wanted.limit - len(kept), wanted.now, found.next, wanted.tenant, wanted.contains
        )
        found = await cache.browse(rest)
        kept += found.entries
    return Listing(kept, found.next)


def _shown(entry: Entry, vector: Any, *, with_answer: bool) -> Shown:
    similarity = None
    if vector is not None and entry.vector is not None:
        similarity = cosine(vector, entry.vector)
    return Shown(
        id=entry.id,
        question=entry.text.strip(),  # of one that is not kept its digest, see `sealing`
        answer=answer_text(entry.completion) if with_answer else None,
        model=entry.model,
        tenant=entry.tenant,
        scope=entry.scope,
        created_at=entry.created_at,
        expires_at=entry.expires_at,
        hits=entry.hits,
        is_exact_only=not entry.fingerprint,
        similarity=similarity,
    )


async def _take(cache: Cache, reader: Reader, given: Warm, pair: Pair) -> str:
    """Store one pair; return what became of it."""
    messages = [{"role": "user", "content": pair.question}]
    if pair.system is not None:
        messages.insert(0, {"role": "system", "content": pair.system})
    body = {**given.fields, "model": given.model, "messages": messages}
    try:
        question = reader.question_by(given.tenant, body)
    except Exception:  # noqa: BLE001 - fields may hold anything
        return "not_a_request"
    if isinstance(question, Bypass):
        return f"bypass_{question.reason}"
    usage = await asyncio.to_thread(_usage, given.model, messages, pair.answer)
    packed = completion.pack(
        {
            "model": given.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": pair.answer},
                    "finish_reason": "stop",
                }
            ],
            "usage": usage,
        }
    )
    if not isinstance(packed, str):
        return packed.reason
    return str(await available(cache.warm, question, packed))


def _usage(model: str, messages: Sequence[dict[str, str]], answer: str) -> dict[str, int]:
    """Count what the model would have, so that a hit saves what it would have cost."""
    from litellm import token_counter

    prompt = token_counter(model=model, messages=list(messages))
    completed = token_counter(model=model, text=answer)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completed,
        "total_tokens": prompt + completed,
    }
