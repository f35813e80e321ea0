"""What chat requests cost and hits saved, by key and team, as LiteLLM prices them. Pure.

LiteLLM logs a hit with cost 0 and with what it would have cost: the one is spent, the other saved.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

OTHER: Final = "other"  # stands for what is beyond a bound
MAX_ROWS_A_DAY: Final = 10_000
_MOST: Final = 2**40  # tokens or dollars of one request that are believed
_LISTED: Final = 100  # keys and teams in a summary
_MAX_NAME: Final = 256

Account = tuple[str, str, str, str]  # key digest, team id, model group, outcome


@dataclass(frozen=True, slots=True)
class Sums:
    """What is added up.

    Attributes:
        requests: answered ones.
        prompt_tokens: of their answers, as the model counted them.
        completion_tokens: likewise.
        spent_usd: what LiteLLM noted as their cost.
        saved_usd: what hits would have cost, and in shadow mode what would have been saved.
        seconds: from request to answer, as LiteLLM noted it.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    spent_usd: float = 0.0
    saved_usd: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.spent_usd + other.spent_usd,
            self.saved_usd + other.saved_usd,
            self.seconds + other.seconds,
        )

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Row:
    """The sums of one day and account."""

    day: int
    key: str
    team: str
    model: str
    outcome: str
    sums: Sums


@dataclass(frozen=True, slots=True)
class Saved:
    """What one key or team, or all, spent and saved.

    Attributes:
        name: digest of the key, id of the team, or "".
        requests: that the cache looked at.
        hits: of these.
        tokens: of the hits.
        spent_usd: of all chat requests.
        saved_usd: by hits.
        seconds: that hits saved: their number times the model's mean time less theirs.
    """

    name: str
    requests: int = 0
    hits: int = 0
    tokens: int = 0
    spent_usd: float = 0.0
    saved_usd: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Savings:
    """The whole of it, and the accounts that saved most."""

    total: Saved
    keys: list[Saved] = field(default_factory=list)
    teams: list[Saved] = field(default_factory=list)


def sums_of(payload: Mapping[str, Any], outcome: str) -> Sums:
    """Return what LiteLLM's log of one request says of it; what makes no sense counts 0.

    Args:
        payload: its `standard_logging_object`.
        outcome: of the request, such as ``hit_exact``.
    """
    spent = _amount(payload.get("response_cost"))
    saved = 0.0
    if outcome.startswith("hit_"):
        saved = _amount(payload.get("saved_cache_cost"))
    elif outcome.startswith("shadow_"):
        saved = spent
    return Sums(
        1,
        int(_amount(payload.get("prompt_tokens"))),
        int(_amount(payload.get("completion_tokens"))),
        spent,
        saved,
        max(0.0, _amount(payload.get("endTime")) - _amount(payload.get("startTime"))),
    )


def name_of(value: object) -> str:
    """Return what LiteLLM calls a team or model group as a name that can be stored; "": none."""
    return str(value or "")[:_MAX_NAME].encode("utf-8", "replace").decode()


def add(pending: dict[Account, Sums], account: Account, sums: Sums) -> None:
    """Add to what is not written yet; past the bound to an account of all others."""
    if account not in pending and len(pending) >= MAX_ROWS_A_DAY:
        account = others(account)
    pending[account] = pending.get(account, Sums()) + sums


def others(account: Account) -> Account:
    """Return the account that stands for all beyond the bound."""
    return (OTHER, OTHER, OTHER, account[3])


def saved_seconds(rows: Iterable[Row]) -> float:
    """Estimate the time that hits saved: of each model, against the mean of its own misses."""
    answered: dict[str, Sums] = {}
    served: dict[str, Sums] = {}
    for row in rows:
        if row.outcome.startswith("hit_"):
            served[row.model] = served.get(row.model, Sums()) + row.sums
        else:
            answered[row.model] = answered.get(row.model, Sums()) + row.sums
    total = 0.0
    for model, hits in served.items():
        by_model = answered.get(model, Sums())
        if by_model.requests:
            mean = by_model.seconds / by_model.requests
            total += max(0.0, hits.requests * mean - hits.seconds)
    return total


def savings(rows: Iterable[Row]) -> Savings:
    """Sum up by key and team."""
    listed = list(rows)
    return Savings(
        _saved("", listed),
        _ranked(listed, lambda row: row.key),
        _ranked(listed, lambda row: row.team),
    )


def _ranked(rows: list[Row], name: Any) -> list[Saved]:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(name(row), []).append(row)
    found = [_saved(one, own) for one, own in grouped.items() if one]
    return sorted(found, key=lambda one: (-one.saved_usd, -one.hits, one.name))[:_LISTED]


def _saved(name: str, rows: list[Row]) -> Saved:
    hits = [row.sums for row in rows if row.outcome.startswith("hit_")]
    return Saved(
        name,
        sum(row.sums.requests for row in rows if row.outcome != "bypass"),
        sum(one.requests for one in hits),
        sum(one.tokens for one in hits),
        sum(row.sums.spent_usd for row in rows),
        sum(one.saved_usd for one in hits),
        saved_seconds(rows),
    )


def _amount(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if 0 <= value < _MOST else 0.0
