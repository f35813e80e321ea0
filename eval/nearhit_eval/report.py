r"""One page of what was measured: a file that works offline, and its numbers as JSON.

    nearhit-eval report --decisions decisions.json --out report.html
    nearhit-eval report --decisions decisions.json --margins margins.json --replay replay.json \
        --out report.html --json report.json

The inputs are what `decisions`, `margins` and `replay` write with --json. The page has a slider
that moves the threshold, precision over the share served, a reliability diagram, the worst
mistakes with the guards that speak over them, margins before and after an adapter, a map of one
set, and hits over time. Beside it stand the same numbers as JSON (--json, by default report.json).
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import nearhit
from nearhit.errors import ConfigError
from nearhit_eval import plots
from nearhit_eval.files import sha256_of, write_json, write_text
from nearhit_eval.markup import escaped, gain, interval, table, told

_POOLED: Final = "pooled"
_SETS_DRAWN: Final = 7
_PANELS: Final = 3  # baseline and two adapters side by side
_SHOWN_TEXT: Final = 600  # characters of a question in a table


def add_command(commands: Any) -> None:
    """Add the command to the parser's subparsers."""
    parser = commands.add_parser(
        "report",
        help="one page of what the other commands measured",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--decisions", type=Path, required=True, metavar="D.json")
    parser.add_argument("--margins", type=Path, metavar="M.json")
    parser.add_argument("--replay", type=Path, metavar="R.json")
    parser.add_argument("--out", type=Path, required=True, metavar="report.html")
    parser.add_argument("--json", type=Path, help="the numbers; by default beside --out")
    parser.add_argument("--map", metavar="NAME", help="set or domain of the map; else the first")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read what was measured, write page and numbers."""
    inputs = {
        name: path
        for name in ("decisions", "margins", "replay")
        if (path := getattr(options, name)) is not None
    }
    numbers_path = options.json or options.out.with_suffix(".json")
    taken = {path.resolve() for path in inputs.values()}
    if {options.out.resolve(), numbers_path.resolve()} & taken or numbers_path == options.out:
        raise ConfigError(
            f"--out and --json must be files of their own, got {options.out} and {numbers_path}; "
            f"choose other names"
        )
    measured = {name: _read(path, name) for name, path in inputs.items()}
    numbers: dict[str, Any] = {"nearhit": nearhit.__version__, "sha256": sha256_of(inputs.values())}
    try:
        numbers |= {name: _NUMBERS[name](found) for name, found in measured.items()}
        if "margins" in measured:
            numbers["map"] = _mapped(measured["margins"]["sets"], options.map)
        written = page(numbers)
    except (KeyError, TypeError, AttributeError, IndexError, ZeroDivisionError) as error:
        given = ", ".join(map(str, inputs.values()))
        raise ConfigError(
            f"--decisions, --margins and --replay must be what `nearhit-eval` of this version "
            f"wrote with --json, got {given} ({type(error).__name__}: {error}); run them again"
        ) from error
    write_json(numbers_path, numbers)
    write_text(options.out, written)
    size = options.out.stat().st_size / 1000
    print(f"{options.out}: {size:.0f} kB, works offline; its numbers are in {numbers_path}")
    return 0


def page(numbers: Mapping[str, Any]) -> str:
    """Return the page of the numbers; every text of theirs is escaped."""
    sets = numbers["decisions"]["sets"]
    sections = [_decisions(numbers["decisions"])]
    if "margins" in numbers:
        sections.append(_margins(numbers["margins"], numbers["map"]))
    if "replay" in numbers:
        sections.append(_replay(numbers["replay"]))
    data = json.dumps(sets, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    hashes = ", ".join(f"{name} {digest[:12]}" for name, digest in numbers["sha256"].items())
    about = f"nearhit {numbers['nearhit']}, encoder {numbers['decisions']['encoder'][:16]}"
    parts = {
        "css": _asset("page.css"),
        "js": _asset("page.js"),
        "about": escaped(f"{about}, made from {hashes}"),
        "options": "".join(f"<option>{escaped(name)}</option>" for name in sets),
        "sections": "\n".join(sections),
        "data": data.replace("<", "\\u003c"),  # no text can end the element
    }
    # One pass: a text that looks like a place of the page stays a text.
    first, *rest = _asset("page.html").split("@")
    return first + "".join(parts.get(part, part) for part in rest)


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"--{name} must be a readable file, got {path}; check the path"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path} must be JSON, got {error}; run it again") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must be a JSON object; give what `nearhit-eval {name}` wrote")
    return document


def _of_decisions(measured: Mapping[str, Any]) -> dict[str, Any]:
    sets = {_POOLED: measured["pooled"], **measured["sets"]}
    pooled = [pair for one in measured["sets"].values() for pair in one["values"]]
    pooled.sort(key=lambda pair: -pair[0])
    return {
        "encoder": str(measured["encoder"]),
        "sets": {
            name: {
                "probes": found["probes"],
                "must_hit": found["n_must_hit"],
                "threshold": float(found["at_default"]["threshold"]),
                "values": pooled if name == _POOLED else found["values"],
            }
            for name, found in sets.items()
        },
        "at_default": {name: found["at_default"] for name, found in sets.items()},
        "curves": {
            name: [
                [point["served"] / found["probes"], point["precision"]] for point in found["curve"]
            ]
            for name, found in list(sets.items())[: 1 + _SETS_DRAWN]
        },
        "calibration": measured["pooled"]["calibration"],
        "worst": measured["pooled"]["worst"],
        "vetoed": measured["pooled"]["vetoed"],
    }


def _of_margins(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    kept = ("positive", "negative", "margin", "separation", "auc", "gain", "histogram")
    return [
        {name: one[name] for name in ("name", "domain", "kind", "positives", "negatives", "winner")}
        | {"encoders": {n: {k: e[k] for k in kept} for n, e in one["encoders"].items()}}
        for one in measured["sets"]
    ]


def _of_replay(measured: Mapping[str, Any]) -> dict[str, Any]:
    return {name: measured[name] for name in ("stream", "prices", "combinations")}


_NUMBERS: Final = {"decisions": _of_decisions, "margins": _of_margins, "replay": _of_replay}


def _mapped(sets: Sequence[Mapping[str, Any]], wanted: str | None) -> dict[str, Any]:
    found = [one for one in sets if wanted in (None, one["name"], one["domain"])]
    if not found:
        known = ", ".join(sorted({one["domain"] for one in sets}))
        raise ConfigError(f"--map must be a set or domain of --margins: {known}; got {wanted}")
    one = found[0]
    encoders = {name: {"map": encoder["map"]} for name, encoder in one["encoders"].items()}
    return {"name": one["name"], "domain": one["domain"], "encoders": encoders}


def _decisions(numbers: Mapping[str, Any]) -> str:
    rows = [
        (name, at["threshold"], at["served"], at["wrong"], interval(at["wilson"]), at["recall"])
        for name, at in numbers["at_default"].items()
    ]
    heads = ("set", "threshold", "served", "wrong", "wrong share, 95 %", "recall")
    error = numbers["calibration"]["ece"]
    return "\n".join(
        [
            "<h2>At the threshold in force</h2>",
            table(heads, rows),
            "<h2>Precision over the share served</h2>",
            f"<figure>{plots.precision_curves(numbers['curves'])}</figure>",
            "<h2>Does a confidence mean what it says?</h2>",
            f"<figure>{plots.reliability(numbers['calibration']['bins'])}<figcaption>Large points "
            f"hold many probes. Mean distance {told(error)}.</figcaption></figure>",
            "<h2>Worst mistakes</h2><p>The surest wrong candidates that no guard in force forbids. "
            "Read them: labels are wrong too.</p>",
            _mistakes(numbers["worst"]),
            "<h2>What the guards forbade</h2><p>The surest candidates that a guard forbade.</p>",
            _mistakes(numbers["vetoed"]),
        ]
    )


def _mistakes(rows: Sequence[Mapping[str, Any]]) -> str:
    heads = ("confidence", "cosine", "stored", "asked", "same?", "guards")
    return table(
        heads,
        [
            (
                one["confidence"],
                one["similarity"],
                str(one["stored"])[:_SHOWN_TEXT],
                str(one["asked"])[:_SHOWN_TEXT],
                "yes" if one["is_right"] else "no",
                ", ".join(one["guards"]) or "none",
            )
            for one in rows
        ],
    )


def _margins(sets: Sequence[Mapping[str, Any]], mapped: Mapping[str, Any]) -> str:
    rows = [
        (
            one["domain"],
            name,
            *(e[key] for key in ("positive", "negative", "margin")),
            gain(e["gain"]),
            e["separation"],
            "winner" if name == one["winner"] else "",
        )
        for one in sets
        for name, e in one["encoders"].items()
    ]
    heads = ("domain", "encoder", "positive", "negative", "margin", "gain, 95 %", "d'", "")
    drawn = "".join(
        f"<figure>{plots.histograms(_panels(one['encoders']))}<figcaption>"
        f"{escaped(one['domain'])}, {escaped(one['name'])}</figcaption></figure>"
        for one in sets[:_SETS_DRAWN]
    )
    return (
        f"<h2>Margins</h2>{table(heads, rows)}{drawn}<h2>Map of {escaped(mapped['domain'])}</h2>"
        f"<figure>{plots.maps(_panels(mapped['encoders']))}<figcaption>Anchors with their texts on "
        f"two principal axes: a small part of what tells them apart.</figcaption></figure>"
    )


def _replay(numbers: Mapping[str, Any]) -> str:
    stream, heads = numbers["stream"], ("threshold", "ttl s", "hits", "exact", "semantic")
    rows = [
        (
            one["threshold"],
            one["ttl_s"],
            f"{sum(one['hits'].values()) / one['asked']:.1%}",
            *(f"{one['hits'][tier] / one['asked']:.1%}" for tier in ("exact", "semantic")),
            f"{one['wrong']['semantic']} of {one['labelled']['semantic']}",
            interval(one["wilson"]["semantic"]),
            *(one[f"saved_{kind}"] for kind in ("input_tokens", "output_tokens", "usd")),
            one["entries"],
        )
        for one in numbers["combinations"]
    ]
    more = ("wrong of labelled semantic", "95 %", "input tokens", "output tokens", "USD", "entries")
    about = (
        f"{stream['name']}: {stream['questions']} questions, repeats {stream['repeats']}; times "
        f"{stream['times']}; sizes {stream['sizes']}; price of {numbers['prices']['model']}"
    )
    return (
        f"<h2>Replay</h2><p>{escaped(about)}</p>{table(heads + more, rows)}"
        f"<figure>{plots.hits_over_time(numbers['combinations'])}</figure>"
    )


def _panels(encoders: Mapping[str, Any]) -> dict[str, Any]:
    return dict(list(encoders.items())[:_PANELS])


def _asset(name: str) -> str:
    return (files("nearhit_eval") / "page" / name).read_text("utf-8")
