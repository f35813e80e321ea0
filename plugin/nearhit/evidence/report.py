"""What the journal says of some days: hits, savings, and what was wrong. Pure.

At each threshold: the decisions that would be served, how many of them were labelled wrong, and the
interval of the wrong share. A complaint counts among the worst, not for a share: nobody complains
of right answers.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from nearhit.evidence.bounds import Errors, Share, wrong_share
from nearhit.evidence.journal import Decision
from nearhit.evidence.ledger import Row as Booked
from nearhit.evidence.ledger import Sums

_THRESHOLDS: Final = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_WORST: Final = 10
_WIDTH: Final = 100


@dataclass(frozen=True, slots=True)
class Row:
    """What a threshold would serve in other words."""

    threshold: float
    served: int
    labelled: int
    wrong: int
    share: Share


@dataclass(frozen=True, slots=True)
class Report:
    """The whole of it.

    Attributes:
        requests: by outcome: ``hit_exact``, ``hit_semantic``, ``shadow_semantic``, ``miss``, ...
        tokens: prompt and completion tokens of the answers that were, or in shadow mode would have
            been, served, by model.
        money: what they would have cost, US dollars, by model; None: LiteLLM knows no price.
        rows: by threshold.
        worst: decisions labelled wrong, surest first.
    """

    requests: dict[str, int]
    tokens: dict[str, tuple[int, int]]
    money: dict[str, float | None]
    rows: tuple[Row, ...]
    worst: tuple[Decision, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON, without vectors."""
        return {
            "requests": self.requests,
            "tokens": self.tokens,
            "money": self.money,
            "thresholds": [asdict(row) for row in self.rows],
            "worst": [
                {name: value for name, value in asdict(one).items() if name != "vector"}
                for one in self.worst
            ],
        }


def summarise(decisions: Sequence[Decision], booked: Sequence[Booked], errors: Errors) -> Report:
    """Sum up.

    Args:
        decisions: of the days, any order.
        booked: of the same days.
        errors: of the judge.
    """
    requests: dict[str, int] = {}
    served: dict[str, Sums] = {}
    for one in booked:
        requests[one.outcome] = requests.get(one.outcome, 0) + one.sums.requests
        if one.outcome.startswith(("hit_", "shadow_")):
            served[one.model] = served.get(one.model, Sums()) + one.sums
    wrong = sorted(
        (one for one in decisions if "wrong" in (one.label, one.client)),
        key=lambda one: -one.confidence,
    )
    return Report(
        requests,
        {name: (sums.prompt_tokens, sums.completion_tokens) for name, sums in served.items()},
        {name: sums.saved_usd or None for name, sums in served.items()},
        tuple(_row(threshold, sample_of(decisions), errors) for threshold in _THRESHOLDS),
        tuple(wrong[:_WORST]),
    )


def sample_of(decisions: Sequence[Decision]) -> list[Decision]:
    """Return those that a threshold decides, each pair of questions once, complaints left out.

    Of repeats the newest labelled one stands for all: they are no evidence of their own.
    """
    kept: dict[tuple[str, str], Decision] = {}
    for one in sorted(decisions, key=lambda one: (bool(one.label), one.at)):
        if not one.veto and one.kind != "complaint":
            kept[one.entry, one.question] = one
    return sorted(kept.values(), key=lambda one: -one.at)


def labels_of(decisions: Sequence[Decision], errors: Errors) -> tuple[list[Decision], list[bool]]:
    """Return the labelled decisions, and which of them are wrong.

    Where the judge's errors are to be allowed for, its words alone count: nobody else makes them.
    """
    if errors == Errors():
        labelled = [one for one in decisions if one.label]
        return labelled, [one.label == "wrong" for one in labelled]
    labelled = [one for one in decisions if one.judge]
    return labelled, [one.judge == "wrong" for one in labelled]


def printable(text: str) -> str:
    """Return a text on one line, without what steers a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def as_text(report: Report) -> str:
    """Lay it out for a terminal."""
    asked = sum(report.requests.values())
    lines = [f"{asked} chat requests"]
    lines += [
        f"  {name:<18} {count:>8}  {100 * count / asked:5.1f} %"
        for name, count in sorted(report.requests.items())
    ]
    for model, (prompt, completed) in report.tokens.items():
        cost = report.money[model]
        price = "price unknown" if cost is None else f"${cost:.4f}"
        lines.append(f"answers of {printable(model)}: {prompt:,} + {completed:,} tokens, {price}")
    lines += ["", "in other words, at confidence  served  labelled  wrong  wrong share (95 %)"]
    for row in report.rows:
        value, low, high = (100 * x for x in (row.share.value, row.share.low, row.share.high))
        share = f"{value:.1f} % ({low:.1f} to {high:.1f})" if row.labelled else "-"
        lines.append(
            f"{row.threshold:>29.3f} {row.served:>7} {row.labelled:>9} {row.wrong:>6}  {share}"
        )
    for one in report.worst:
        lines += [
            "",
            f"wrong at {one.confidence:.4f} ({one.kind})",
            f"  new     {printable(one.question)[:_WIDTH]}",
            f"  stored  {printable(one.stored_question)[:_WIDTH]}",
            f"  answer  {printable(one.stored_answer)[:_WIDTH]}",
        ]
        if one.fresh_answer:
            lines.append(f"  model's {printable(one.fresh_answer)[:_WIDTH]}")
    return "\n".join(lines)


def _row(threshold: float, decisions: Sequence[Decision], errors: Errors) -> Row:
    served = [one for one in decisions if one.confidence >= threshold]
    _, wrong = labels_of(served, errors)
    return Row(threshold, len(served), len(wrong), sum(wrong), wrong_share(wrong, errors=errors))
