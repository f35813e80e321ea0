r"""How far duplicates and near misses stand apart by cosine, before and after a LoRA adapter.

    nearhit-eval margins --sets triplets.jsonl groups.jsonl
    nearhit-eval margins --sets groups.jsonl --adapters multi=build/multi medical=build/medical \
        --json margins.json
    nearhit-eval margins --sets triplets.jsonl --base sentence-transformers/all-MiniLM-L12-v2 \
        --adapters multi=llm-semantic-router/multi-domain-cache-lora-L12

A set is JSON lines of groups, triplets, pairs or clusters (docs/evaluation.md); its domains are
what its rows name as `domain`, else the file's name. An adapter whose name is a domain is a
specialist and stands in the column of its domain; every other name is a column of its own.

The margin is the mean cosine of anchors with their positives less that with their negatives; the
gain is relative to the baseline, the base without an adapter, with a 95 % interval by bootstrap
over anchors. Where the baseline's margin is below 0.1 a relative gain means nothing, and the
difference is printed. d' is the margin in standard deviations: it does not rise when an adapter
only stretches the scale. The winner has the largest margin; "?" where the interval of its lead
over the next one holds 0.
"""

import argparse
import asyncio
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

import nearhit
from nearhit.config import Settings, load_file
from nearhit.encoder import Encoder, Unencodable, Vector
from nearhit.encoder.serving import find_artefact, load_encoder
from nearhit.errors import ConfigError
from nearhit_eval import metrics
from nearhit_eval.comparing import (
    ComparedSet,
    Cosines,
    cosines_of,
    map_of,
    read_compared,
    resampled_margins,
)
from nearhit_eval.files import sha256_of, write_json

BASELINE: Final = "baseline"
_SMALL_MARGIN: Final = 0.1
_TOGETHER: Final = 32  # texts in flight
_BINS: Final = 40  # of a histogram from -1 to 1

Vectors = dict[str, Vector | None]


def add_command(commands: Any) -> None:
    """Add the command to the parser's subparsers."""
    parser = commands.add_parser(
        "margins",
        help="how far duplicates and near misses stand apart, before and after an adapter",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sets", type=Path, nargs="+", required=True, metavar="FILE.jsonl")
    parser.add_argument("--adapters", nargs="+", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--base", help="overrides encoder.base: a folder or a hub name")
    parser.add_argument("--config", type=Path, help="the proxy's YAML; without it the defaults")
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap")
    parser.add_argument("--json", type=Path, help="file to write everything into")
    parser.add_argument("--seed", type=int, default=7)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Encode everything with every encoder, compare, print and write."""
    adapters = _adapters(options.adapters)
    if options.resamples < 100:
        raise ConfigError(f"--resamples must be at least 100, got {options.resamples}")
    sets = [one for path in options.sets for one in read_compared(path, options.seed)]
    keys = [(one.name, one.domain) for one in sets]
    if len(set(keys)) < len(keys):
        raise ConfigError(f"--sets must have names of their own, got {keys}; rename a file")
    settings = load_file(options.config)
    texts = list(dict.fromkeys(text for one in sets for text in one.texts))
    vectors, described = {}, {}
    for name, adapter in {BASELINE: None, **adapters}.items():
        encoder, described[name] = _load(settings, options.base, adapter)
        vectors[name] = asyncio.run(_encode(encoder, texts, name))
    specialists = {one.domain for one in sets} & adapters.keys()
    report: dict[str, Any] = {
        "nearhit": nearhit.__version__,
        "seed": options.seed,
        "resamples": options.resamples,
        "encoders": described,
        "sha256": sha256_of(options.sets),
        "sets": [
            compare(one, vectors, specialists, options.resamples, options.seed)
            for one in tqdm(sets, desc="bootstrap", unit="set", leave=False, disable=None)
        ],
    }
    _print(report)
    if options.json:
        write_json(options.json, report)
    return 0


def compare(
    one: ComparedSet,
    vectors: Mapping[str, Vectors],
    specialists: Collection[str],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Compare the encoders on one set; specialists of other domains cannot win."""
    cosines = {name: cosines_of(one, known) for name, known in vectors.items()}
    drawn = {name: resampled_margins(found, resamples, seed) for name, found in cosines.items()}
    competing = [name for name in vectors if name == one.domain or name not in specialists]
    best, *others = sorted(competing, key=lambda name: -cosines[name].margin)
    texts = sum(len(anchor.positives) + len(anchor.negatives) for anchor in one.anchors)
    base = cosines[BASELINE]
    return {
        "name": one.name,
        "domain": one.domain,
        "kind": one.kind,
        "anchors": len(one.anchors),
        "positives": len(base.positive),
        "negatives": len(base.negative),
        "left_out": texts - len(base.positive) - len(base.negative),
        "encoders": {
            name: _described(found)
            | {"gain": _gain(name, cosines, drawn), "map": map_of(one, vectors[name], seed)}
            for name, found in cosines.items()
        },
        "specialist": one.domain if one.domain in specialists else None,
        "winner": best if others else None,
        "is_sure": bool(others) and _interval(drawn[best] - drawn[others[0]])[0] > 0,
    }


def _described(found: Cosines) -> dict[str, Any]:
    values = np.concatenate([found.positive, found.negative])
    right = np.arange(len(values)) < len(found.positive)
    edges = np.linspace(-1, 1, _BINS + 1)
    return {
        "positive": float(found.positive.mean()),
        "negative": float(found.negative.mean()),
        "margin": found.margin,
        "separation": found.separation,
        "auc": metrics.auc(values, right),
        "histogram": {
            name: np.histogram(np.clip(kind, -1, 1), edges)[0].tolist()
            for name, kind in (("positive", found.positive), ("negative", found.negative))
        },
    }


def _gain(
    name: str, cosines: Mapping[str, Cosines], drawn: Mapping[str, metrics.Values]
) -> dict[str, Any] | None:
    """The gain over the baseline with its interval; relative only where that means something."""
    if name == BASELINE:
        return None
    before, after = cosines[BASELINE].margin, cosines[name].margin
    is_relative = before >= _SMALL_MARGIN
    draws = drawn[name] - drawn[BASELINE]
    draws = draws / drawn[BASELINE] if is_relative else draws
    low, high = _interval(draws)
    value = (after - before) / before if is_relative else after - before
    return {"relative": is_relative, "value": value, "low": low, "high": high}


def _interval(draws: metrics.Values) -> tuple[float, float]:
    known = draws[np.isfinite(draws)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)


def _adapters(given: Sequence[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for one in given:
        name, _, folder = one.partition("=")
        if not name or not folder:
            raise ConfigError(f"--adapters must be NAME=FOLDER, got {one!r}; name each adapter")
        if name in named or name == BASELINE:
            raise ConfigError(f"--adapters must have names of their own, got {name} again; rename")
        named[name] = folder
    return named


def _load(
    settings: Settings, base: str | None, adapter: str | None
) -> tuple[Encoder, dict[str, Any]]:
    """Load the encoder that would serve, without a verifier."""
    wanted = {"adapter": adapter, "artefact": None, "verifier": None}
    wanted |= {} if base is None else {"base": base}
    settings = settings.model_copy(update={"encoder": settings.encoder.model_copy(update=wanted)})
    artefact = find_artefact(settings.encoder, settings.data_dir)
    manifest = artefact.manifest
    described = {
        "base": manifest.base,
        "adapter": None if adapter is None else Path(adapter).name,
        "precision": manifest.precision,
        "fingerprint": manifest.fingerprint,
        "sha256": dict(manifest.inputs),
        "parameters": dict(manifest.parameters),
    }
    return load_encoder(settings, artefact), described


async def _encode(encoder: Encoder, texts: Sequence[str], name: str) -> Vectors:
    vectors: Vectors = {}
    with tqdm(
        total=len(texts), desc=f"{name}: encode", unit="text", leave=False, disable=None
    ) as b:
        for start in range(0, len(texts), _TOGETHER):
            some = texts[start : start + _TOGETHER]
            found = await asyncio.gather(*map(encoder.encode, some))
            for text, encoded in zip(some, found, strict=True):
                vectors[text] = None if isinstance(encoded, Unencodable) else encoded
            b.update(len(some))
    await encoder.close()
    return vectors


def _print(report: Mapping[str, Any]) -> None:
    sets = report["sets"]
    specialists = {one["specialist"] for one in sets}
    general = [name for name in report["encoders"] if name not in {BASELINE, *specialists}]
    titles = {"multi": "Multi-domain"}
    header = ["Domain", "Test triplets", "Baseline", "Domain-specific"]
    header += [titles.get(name, name) for name in general] + ["Winner"]
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for one in sets:
        cells = [_named(one, sets), _counted(one), f"{one['encoders'][BASELINE]['margin']:.4f}"]
        cells += [_cell(one, one["specialist"]), *(_cell(one, name) for name in general)]
        print("| " + " | ".join([*cells, _winner(one)]) + " |")
    print()
    print(
        f"{'':<28}{'encoder':<16}{'positive':>9}{'negative':>9}{'margin':>8}{'d-prime':>9}{'AUC':>7}"
    )
    for one in sets:
        for name, found in one["encoders"].items():
            print(
                f"{_named(one, sets)[:27]:<28}{name[:15]:<16}{found['positive']:9.4f}"
                f"{found['negative']:9.4f}{found['margin']:8.4f}{found['separation']:9.2f}"
                f"{found['auc']:7.3f}"
            )
    for one in sets:
        if one["left_out"]:
            print(f"{_named(one, sets)}: {one['left_out']} pairs left out, no vector for a text")
        if one["encoders"][BASELINE]["margin"] < _SMALL_MARGIN:
            print(
                f"{_named(one, sets)}: the baseline's margin is below {_SMALL_MARGIN}, so that a "
                f"relative gain would mean nothing; gains are differences"
            )


def _named(one: Mapping[str, Any], sets: Sequence[Mapping[str, Any]]) -> str:
    """The domain, with the file where two files have it."""
    is_alone = sum(other["domain"] == one["domain"] for other in sets) == 1
    return str(one["domain"]) if is_alone else f"{one['domain']} ({one['name']})"


def _counted(one: Mapping[str, Any]) -> str:
    if one["kind"] == "triplets":
        return str(one["positives"])
    return f"{one['positives']}+ {one['negatives']}- of {one['anchors']} {one['kind']}"


def _winner(one: Mapping[str, Any]) -> str:
    return "-" if one["winner"] is None else one["winner"] + ("" if one["is_sure"] else "?")


def _cell(one: Mapping[str, Any], name: str | None) -> str:
    if name is None:
        return "-"
    found, gain = one["encoders"][name], one["encoders"][name]["gain"]
    if gain["relative"]:
        told = f"{gain['value']:+.1%}, {gain['low']:+.1%} to {gain['high']:+.1%}"
    else:
        told = f"{gain['value']:+.4f}, {gain['low']:+.4f} to {gain['high']:+.4f}"
    return f"{found['margin']:.4f} ({told})"
