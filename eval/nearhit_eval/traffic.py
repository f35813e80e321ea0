"""A stream of questions in virtual time: what is asked when, and how large it is.

Rows are {"query", optional "cluster", optional "time_s"}. Times come from an arrivals file, a
rate, or the rows themselves; sizes from the arrivals file or an estimate.
"""

import csv
import difflib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from nearhit.errors import ConfigError
from nearhit_eval.rows import read_rows, text_in

CHARACTERS_A_TOKEN: Final = 4  # of English, for what no trace gives the size of
_COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_PRICES: Final = "model_prices_and_context_window_backup.json"


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of the stream.

    Attributes:
        text: the question.
        cluster: one answer serves all of a cluster; None: not labelled.
        time_s: seconds since the stream's begin; None: not known yet.
        input_tokens: size of the prompt.
        output_tokens: size of the answer.
    """

    text: str
    cluster: str | None
    time_s: float | None
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a request came and how large it was."""

    time_s: float
    input_tokens: int
    output_tokens: int


def read_stream(path: Path, answer_tokens: int) -> list[Asked]:
    """Read a stream; sizes are estimated.

    Raises:
        ConfigError: naming file, line and remedy.
    """
    found: list[Asked] = []
    for number, row in read_rows(path):
        place = f"{path}:{number}"
        text, cluster = text_in(row, "query", place), row.get("cluster")
        time_s = _seconds(row["time_s"], place) if row.get("time_s") is not None else None
        if found and (time_s is None) != (found[-1].time_s is None):
            raise ConfigError(f"{place} time_s must stand in all lines or in none; mend the line")
        if found and time_s is not None and time_s < (found[-1].time_s or 0):
            raise ConfigError(
                f"{place} time_s must not be before that of the line above, got {time_s:g}; sort "
                f"the lines"
            )
        size = math.ceil(len(text) / CHARACTERS_A_TOKEN)
        name = None if cluster is None else str(cluster)
        found.append(Asked(text, name, time_s, size, answer_tokens))
    if not found:
        raise ConfigError(f"{path} must hold at least one question, got none; check the path")
    return found


def _seconds(value: object, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigError(f"{place} time_s must be seconds from 0 up, got {value!r}; mend the line")
    return float(value)


def read_arrivals(path: Path) -> list[Arrival]:
    """Read a trace in the format of Azure's: TIMESTAMP, ContextTokens, GeneratedTokens.

    Source: github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.

    Raises:
        ConfigError: naming file, line and remedy.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = tuple(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} must be a readable CSV file; check the path") from error
    if columns != _COLUMNS or not rows:
        raise ConfigError(
            f"{path}:1 must be the header {','.join(_COLUMNS)} above a line for each request, got "
            f"{len(rows)} lines below {list(columns)}; see docs/evaluation.md"
        )
    found: list[Arrival] = []
    begin: datetime | None = None
    for number, row in enumerate(rows, 2):
        try:
            moment = datetime.fromisoformat(row["TIMESTAMP"][:26])  # seven decimals are too many
            begin = begin or moment
            sizes = int(row["ContextTokens"]), int(row["GeneratedTokens"])
            found.append(Arrival((moment - begin).total_seconds(), *sizes))
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{path}:{number} must be a time and two token counts, got {list(row.values())}; "
                f"mend the line"
            ) from error
    return sorted(found, key=lambda one: one.time_s)


def repeated(rows: Sequence[Asked], count: int, exponent: float, seed: int) -> list[Asked]:
    """Draw questions so that the one of rank r comes with a weight of 1 / r ** exponent.

    Ranks are given by lot. Real streams repeat; most public sets of questions do not.
    """
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(rows) + 1) ** exponent
    ranked = rng.permutation(len(rows))
    drawn = rng.choice(len(rows), size=count, p=weights / weights.sum())
    return [replace(rows[ranked[rank]], time_s=None) for rank in drawn]


def timed(rows: Sequence[Asked], arrivals: Sequence[Arrival]) -> list[Asked]:
    """Give each question the time and the sizes of a request of the trace."""
    if len(arrivals) < len(rows):
        raise ConfigError(
            f"--arrivals must hold a request for each of {len(rows)} questions, got "
            f"{len(arrivals)}; add --limit {len(arrivals)}"
        )
    return [
        replace(
            row,
            time_s=arrival.time_s,
            input_tokens=arrival.input_tokens,
            output_tokens=arrival.output_tokens,
        )
        for row, arrival in zip(rows, arrivals, strict=False)
    ]


def at_rate(rows: Sequence[Asked], a_second: float, seed: int) -> list[Asked]:
    """Let questions come independently of each other, so many a second in the mean."""
    gaps = np.random.default_rng(seed).exponential(1 / a_second, len(rows))
    times = np.cumsum(gaps) - gaps[0]
    return [replace(row, time_s=float(t)) for row, t in zip(rows, times, strict=True)]


def prices_of(model: str) -> dict[str, Any]:
    """Return what a model's tokens cost in USD, of the cost map that LiteLLM brings.

    Read from its file: importing LiteLLM takes ten seconds and may fetch a newer map.

    Raises:
        ConfigError: LiteLLM is absent or knows no price of the model.
    """
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "--model must be priced by LiteLLM, which is absent; install nearhit[proxy]"
        )
    known = json.loads((Path(spec.origin).parent / _PRICES).read_text("utf-8"))
    found = known.get(model, {})
    if "input_cost_per_token" not in found or "output_cost_per_token" not in found:
        nearest = difflib.get_close_matches(model, known, 1, 0.0)[0]
        raise ConfigError(
            f"--model must be a model with a price a token in LiteLLM's cost map, got {model!r}; "
            f"did you mean {nearest}?"
        )
    return {
        "model": model,
        "input_cost_per_token": float(found["input_cost_per_token"]),
        "output_cost_per_token": float(found["output_cost_per_token"]),
        "litellm": version("litellm"),
    }
