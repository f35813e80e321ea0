"""Routes that show the state of things; for proxy admins.

GET /nearhit/stats       requests, tokens, savings, latency, entries, evidence
GET /nearhit/decisions   the newest hits in other words, would-be hits or near misses
GET /nearhit/report      what each threshold would serve, and what was wrong
GET /nearhit/config      the settings in force, secrets masked
GET /nearhit/valves      which are shut, why and since when
GET /nearhit/metrics     ours in Prometheus' text format; LiteLLM's `/metrics` has them too
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, HTTPException, Query, Response

from nearhit import __version__
from nearhit.access import Key, Reader, admins_only, available
from nearhit.cache import Cache
from nearhit.evidence.journal import Decision, Kind
from nearhit.evidence.ledger import Row, Sums, savings
from nearhit.evidence.report import Report
from nearhit.evidence.witness import Witness
from nearhit.intake import Route
from nearhit.metrics import HELD, exposition

_SECRET: Final = re.compile(r"(?i)secret|password|token|api_?key|credential|auth")
_USERINFO: Final = re.compile(r"(?<=://)[^/@\s]*(?=@)")
MASK: Final = "********"
_LISTED: Final = 20  # valves in the stats
Days = Annotated[int, Query(ge=1, le=400, description="how many days back")]
_KINDS: Final[dict[str, tuple[Kind, ...]]] = {
    "hits": ("served", "shadow", "complaint"),
    "near": ("near",),
}


def router(cache: Cache, witness: Witness, reader: Reader) -> APIRouter:
    """Return the routes.

    Args:
        cache: of this worker.
        witness: of this worker.
        reader: of requests and keys.
    """
    router = APIRouter(prefix="/nearhit", tags=["nearhit"], route_class=Route)

    @router.get("/stats")
    async def stats(key: Key, days: Days = 30) -> dict[str, Any]:
        """Sum up the last days: requests, savings by key and team, latency, evidence."""
        admins_only(key)
        rows, belief = await available(witness.ledger, days), cache.watch.belief
        held = await available(cache.held)
        return {
            "version": __version__,
            "mode": reader.settings.mode,
            "days": days,
            "tally": _tally(rows),
            "savings": asdict(savings(rows)),
            "lookup_ms": _percentiles(cache.lookups_s),
            "entries": await available(cache.count),
            "store": {name: held[name] for name in HELD if name in held},
            "decider": cache.decider,
            "quarantined": sum(map(len, belief.quarantine.values())),
            "live_wrong_share": asdict(belief.live),
            "tightened": belief.tightened,
            "calibrated": belief.calibrated,
            "valves": [asdict(one) for one in cache.valves.shut()[:_LISTED]],
        }

    @router.get("/valves")
    async def valves(key: Key) -> dict[str, Any]:
        """Return which valves of this worker are shut or on trial, and the bounds."""
        admins_only(key)
        return {
            "shut": [asdict(one) for one in cache.valves.shut()],
            "bounds": reader.settings.valves.model_dump(mode="json"),
        }

    @router.get("/decisions")
    async def decisions(
        key: Key,
        kind: Literal["hits", "near"] = "hits",
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> dict[str, list[dict[str, Any]]]:
        """Return the newest decisions with both questions, both answers and what is said of them.

        `hits`: served in other words, or would have been; `near`: misses that came near.
        """
        admins_only(key)
        return {
            "decisions": [
                _shown(one) for one in await available(witness.recent, _KINDS[kind], limit)
            ]
        }

    @router.get("/report")
    async def report(key: Key, days: Days = 30) -> dict[str, Any]:
        """Return what `nearhit report --json` prints."""
        admins_only(key)
        found: Report = await available(witness.report, days)
        return found.as_json()

    @router.get("/config")
    async def config(key: Key) -> dict[str, Any]:
        """Return the settings in force; what is secret is masked."""
        admins_only(key)
        return masked(reader.settings.model_dump(mode="json"))

    @router.get("/metrics", response_class=Response)
    async def metrics(key: Key) -> Response:
        """Return nearhit's metrics in Prometheus' text format."""
        admins_only(key)
        found = await asyncio.to_thread(exposition)
        if found is None:
            raise HTTPException(501, "prometheus-client must be installed to count, it is not")
        return Response(found[0], media_type=found[1])

    return router


def masked(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings without what only their owner may know: secrets, and users in URLs."""
    return {name: _masked(name, value) for name, value in values.items()}


def _masked(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return masked(value)
    if isinstance(value, str):
        return MASK if _SECRET.search(name) else _USERINFO.sub(MASK, value)
    return value


def _tally(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Sum the accounts of each day, model and outcome up."""
    found: dict[tuple[int, str, str], Sums] = {}
    for row in rows:
        name = row.day, row.model, row.outcome
        found[name] = found.get(name, Sums()) + row.sums
    return [
        {"day": day, "model": model, "outcome": outcome, **asdict(sums)}
        for (day, model, outcome), sums in found.items()
    ]


def _percentiles(seconds: Sequence[float]) -> dict[str, float | int]:
    """Describe this worker's newest look-ups, in milliseconds."""
    ranked = sorted(seconds)
    found: dict[str, float | int] = {"count": len(ranked)}
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        if ranked:
            found[name] = 1000 * ranked[min(len(ranked) - 1, int(share * len(ranked)))]
    return found


def _shown(one: Decision) -> dict[str, Any]:
    return {n: v for n, v in asdict(replace(one, vector=b"")).items() if n != "vector"}
