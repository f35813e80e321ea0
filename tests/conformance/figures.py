"""What passed and failed, by group: the table at the end of a run, and its JSON."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import pytest

HEADER = ("group", "cases", "passed", "failed")


@dataclass(eq=False)  # a plugin is told by its identity
class Figures:
    """One run's outcomes."""

    groups: dict[str, Counter[str]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    rates: dict[str, str] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test once: as its call ended, or as its setup ended when it had no call.

        A failure that is known counts as one; it only does not make the run red.
        """
        is_expected = hasattr(report, "wasxfail")
        is_ours = "conformance/" in report.nodeid
        if not is_ours or (report.when != "call" and (report.passed or report.when == "teardown")):
            return
        self.rates.update({str(name): str(value) for name, value in report.user_properties})
        outcome = "failed" if report.skipped and is_expected else report.outcome
        self.groups.setdefault(group_of(report.nodeid), Counter())[outcome] += 1
        if outcome == "failed":
            self.failed.append(report.nodeid.rsplit("/", 1)[-1])

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table, the total last."""
        total = sum(self.groups.values(), Counter[str]())
        named = [*sorted(self.groups.items()), ("all", total)]
        return [
            (name, *map(str, (found["passed"] + found["failed"], found["passed"], found["failed"])))
            for name, found in named
        ]

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        groups = {
            name: {outcome: found[outcome] for outcome in ("passed", "failed", "skipped")}
            for name, found in sorted(self.groups.items())
        }
        return {"groups": groups, "rates": self.rates, "failed": self.failed}


def group_of(nodeid: str) -> str:
    """Return the name of a group: that of its file, in words."""
    return PurePath(nodeid.split("::")[0]).stem.removeprefix("test_").replace("_", " ")


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Lay rows out as a Markdown table; the first one is its header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
