"""Tables and figures of a page, as HTML in which every text stays a text."""

import html
from collections.abc import Mapping, Sequence
from typing import Any


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table; every cell is escaped."""
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{escaped(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _cell(value: Any) -> str:
    mark = ' class="text"' if isinstance(value, str) and len(value) > 24 else ""
    return f"<td{mark}>{escaped(told(value))}</td>"


def told(value: Any) -> str:
    """Return a value as people read it."""
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def interval(bounds: Sequence[float]) -> str:
    """Return the bounds of a share."""
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def gain(found: Mapping[str, Any] | None) -> str:
    """Return a gain over the baseline with its interval."""
    if found is None:
        return "-"
    form = "{:+.1%}" if found["relative"] else "{:+.4f}"
    value, low, high = (form.format(found[name]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def escaped(text: str) -> str:
    """Return a text that stays a text."""
    return html.escape(str(text))
