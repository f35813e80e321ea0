"""From samples to figures: medians, what a side adds, and the ratios that are reported."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from nearhit_eval.asking import Cell, Cells
from nearhit_eval.growth import Grown

_PLAIN, _OURS, _LIBRARY = "litellm", "nearhit", "sentence-transformers"


def ratios(
    cells: Cells, grown: Sequence[Grown], memory: Mapping[str, float]
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Return the ratios, None where not measured, and the reason of each None.

    Latencies are those of one caller, as a body: what nearhit adds by what the other side adds.
    """
    found: dict[str, float | None] = {}
    reasons: dict[str, str] = {}

    def note(name: str, above: float | str, below: float | str) -> None:
        found[name] = None
        if isinstance(above, str):
            reasons[name] = above
        elif isinstance(below, str):
            reasons[name] = below
        elif below <= 0:
            reasons[name] = f"null: the other side adds {below:.2f} ms, which is not above 0"
        else:
            found[name] = above / below

    for kind, side in (
        ("semantic_hit", "litellm-semantic"),
        ("exact_hit", "litellm-semantic"),
        ("miss", "litellm-semantic"),
        ("semantic_hit", "gptcache"),
        ("miss", "gptcache"),
    ):
        name = f"{kind}_added_vs_{side.replace('-', '_')}"
        note(name, added(cells, _OURS, kind, 1), added(cells, side, kind, 1))
    for name, tenants, large in (
        ("lookup_1m_vs_10k_1000_tenants", 1000, 1_000_000),
        ("lookup_100k_vs_10k_one_tenant", 1, 100_000),
    ):
        note(name, _lookup(grown, tenants, large), _lookup(grown, tenants, 10_000))
    taken = [memory.get(who, f"null: {who} was not run, or failed") for who in (_OURS, _LIBRARY)]
    note("rss_vs_sentence_transformers", *taken)
    return found, reasons


def added(cells: Cells, side: str, kind: str, callers: int) -> float | str:
    """Return the ms that a side adds to LiteLLM without a cache, or why they are not known."""
    ours, plain = cells.get((side, kind, callers)), cells.get((_PLAIN, kind, callers))
    if ours is None or plain is None:
        return f"null: {side} was not measured with {callers} caller"
    if kind.endswith("hit") and ours.hit_share < 0.5:
        return f"null: {side} hit {ours.hit_share:.0%} alone"
    return statistics.median(ours.took_ms) - statistics.median(plain.took_ms)


def describe(cells: Cells) -> list[dict[str, Any]]:
    """Return a row for each side, kind and number of callers."""
    return [_row(cells, side, kind, callers, cell) for (side, kind, callers), cell in cells.items()]


def _row(cells: Cells, side: str, kind: str, callers: int, cell: Cell) -> dict[str, Any]:
    plain = cells[(_PLAIN, kind, callers)]
    ms = statistics.median(cell.took_ms)
    return {
        "side": side,
        "kind": kind,
        "callers": callers,
        "requests": cell.asked,
        "first_ms": statistics.median(cell.first_ms) if cell.first_ms else None,
        "ms": ms,
        "added_ms": ms - statistics.median(plain.took_ms),
        "first_added_ms": statistics.median(cell.first_ms) - statistics.median(plain.first_ms)
        if cell.first_ms
        else None,
        "per_s": statistics.median(cell.rates),
        "hit_share": cell.hit_share,
        "cpu_s": cell.cpu_s,
        "cpu_ms": 1000 * cell.cpu_s / cell.asked,
        "resident_mb": cell.resident_mb,
    }


def _lookup(grown: Sequence[Grown], tenants: int, entries: int) -> float | str:
    for one in grown:
        if (one.tenants, one.entries) == (tenants, entries):
            return one.lookup_ms
    return f"null: --sizes must have {entries} for {tenants} tenants"
