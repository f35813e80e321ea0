"""Curves and histograms as SVG that stands inside a page: text as text, in the page's colours."""

import io
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

# Drawn in a colour of its own, then left to the page, so that dark mode reads it.
_INK: Final = "#010203"
_COLOURS: Final = (
    "#3b82f6", "#f97316", "#10b981", "#d946ef", "#eab308", "#14b8a6", "#ef4444", "#8b5cf6",
)  # fmt: skip
_KINDS: Final = ("anchor", "positive", "negative")


def precision_curves(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw precision over the share served, one line a set."""
    figure, axes = _figure(1)
    for number, (name, points) in enumerate(curves.items()):
        if points:
            axes[0].plot(
                *zip(*points, strict=True),
                color=_COLOURS[number % len(_COLOURS)],
                label=name,
                marker="o",
                markersize=2,
                linewidth=1.2,
            )
    axes[0].set(xlabel="share served", ylabel="right among the served", ylim=(0, 1.02))
    _legend(axes[0])
    return _svg(figure, "precision over the share served")


def reliability(bins: Sequence[tuple[float, float, int]]) -> str:
    """Draw what happened over what was stated, points sized by their count."""
    figure, axes = _figure(1)
    axes[0].plot([0, 1], [0, 1], color=_INK, linewidth=0.6, linestyle=":")
    largest = max((count for _, _, count in bins), default=1)
    axes[0].scatter(
        [stated for stated, _, _ in bins],
        [happened for _, happened, _ in bins],
        s=[10 + 150 * count / largest for _, _, count in bins],
        color=_COLOURS[0],
    )
    axes[0].set(
        xlabel="stated confidence", ylabel="share right", xlim=(0, 1.03), ylim=(-0.03, 1.03)
    )
    return _svg(figure, "stated confidence and the share that was right")


def histograms(encoders: Mapping[str, Any]) -> str:
    """Draw the cosines of positives and negatives, one panel an encoder."""
    figure, axes = _figure(len(encoders))
    for one, (name, found) in zip(axes, encoders.items(), strict=True):
        for number, (kind, counts) in enumerate(found["histogram"].items()):
            width = 2 / len(counts)
            one.stairs(
                counts,
                [-1 + width * i for i in range(len(counts) + 1)],
                fill=True,
                alpha=0.55,
                color=_COLOURS[2 - number],
                label=kind,
            )
        one.set(title=f"{name}: margin {found['margin']:.3f}", xlabel="cosine", xlim=(-0.25, 1))
    _legend(axes[0])
    return _svg(figure, "cosines of positives and negatives")


def maps(encoders: Mapping[str, Any]) -> str:
    """Draw some anchors with their texts on two principal axes, one panel an encoder."""
    figure, axes = _figure(len(encoders))
    for one, (name, found) in zip(axes, encoders.items(), strict=True):
        centres = {row[3]: row[:2] for row in found["map"] if row[2] == 0}
        ties = [
            (centres[owner], (x, y), (math.nan, math.nan))  # one line with gaps: a third the size
            for x, y, kind, owner in found["map"]
            if kind and owner in centres
        ]
        if ties:
            one.plot(*zip(*chain(*ties), strict=True), color=_INK, linewidth=0.15)
        for kind, label in enumerate(_KINDS):
            points = [row for row in found["map"] if row[2] == kind]
            one.scatter(
                [row[0] for row in points],
                [row[1] for row in points],
                s=(14, 6, 6)[kind],
                color=(_INK, _COLOURS[2], _COLOURS[1])[kind],
                label=label,
            )
        one.set(title=name, xticks=[], yticks=[])
    _legend(axes[0])
    return _svg(figure, "anchors, positives and negatives on two principal axes")


def hits_over_time(combinations: Sequence[Mapping[str, Any]]) -> str:
    """Draw the share served in each slice of the time, one line a combination."""
    figure, axes = _figure(1)
    for number, one in enumerate(combinations):
        parts = [part for part in one["slices"] if part["asked"]]
        axes[0].plot(
            [part["end_s"] for part in parts],
            [sum(part["hits"].values()) / part["asked"] for part in parts],
            color=_COLOURS[number % len(_COLOURS)],
            label=f"threshold {one['threshold']:.4f}, ttl {one['ttl_s']} s",
            linewidth=1.2,
        )
    axes[0].set(xlabel="seconds", ylabel="share served", ylim=(0, None))
    _legend(axes[0])
    return _svg(figure, "share served over time")


def _figure(panels: int) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "nearhit",
            "text.parse_math": False,
            "font.size": 9,
            "axes.titlesize": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
        | {f"{name}.color": _INK for name in ("text", "xtick", "ytick")}
        | {"axes.edgecolor": _INK, "axes.labelcolor": _INK}
    )
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, panels, figsize=(5.6 if panels == 1 else 3.6 * panels, 3.4), squeeze=False
    )
    return figure, axes[0]


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False)


def _svg(figure: Any, label: str) -> str:
    """Return the drawing alone, which scales to its place; the same input gives the same text."""
    from matplotlib import pyplot as plt

    figure.tight_layout()
    written = io.StringIO()
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    drawn = written.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace(_INK, "currentColor")
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
