r"""Decision quality: how many true duplicates are served while few of the served are wrong.

    nearhit-eval decisions set.json other.json
    nearhit-eval decisions set.json --config router_config.yaml --ablate --json decisions.json
    nearhit-eval decisions --convert groups.jsonl pairs.jsonl --out set.json

A set is {"store": [[key, text], ...], "probes": [[key or null, text], ...]}: a probe with a key
must be answered by that entry, one with null by nothing. --convert makes one of JSON lines of
groups (query, paraphrases, near_misses), clusters (query, cluster), pairs (a, b, label) or triplets
(anchor, positive, negative).

Printed for each set and for all of them pooled under ONE threshold: recall at 1, 2 and 5 % wrong
among the served, the AUC of the best candidate, how many are retrievable at all, and what is served
and wrong at the threshold in force with a 95 % interval.
"""

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

import nearhit
from nearhit.cache import threshold_of
from nearhit.config import Settings, load_file
from nearhit.encoder.serving import find_artefact, load_encoder, load_verifier
from nearhit.errors import ConfigError
from nearhit.guards import GUARDS, first_veto
from nearhit_eval import metrics
from nearhit_eval.files import scratch_folder, sha256_of, write_json
from nearhit_eval.mistakes import probe_values, vetoed, worst
from nearhit_eval.observing import Observation, Run, Seen, observe
from nearhit_eval.sets import QuestionSet, convert, read_set

Choice = tuple[float, str | None]
"""Value and key of the candidate that would be served; -inf and None if there is none."""

_POOLED: Final = "pooled"


def add_command(commands: Any) -> None:
    """Add the command to the parser's subparsers."""
    parser = commands.add_parser(
        "decisions",
        help="how many true duplicates are served while few of the served are wrong",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sets", type=Path, nargs="*", metavar="SET.json")
    parser.add_argument("--config", type=Path, help="the proxy's YAML; without it the defaults")
    parser.add_argument("--ablate", action="store_true", help="what each stage costs and saves")
    parser.add_argument("--limit", type=int, help="at most so many probes a set, drawn by --seed")
    parser.add_argument("--timed", type=int, default=200, help="probes timed one at a time")
    parser.add_argument("--json", type=Path, help="file to write everything into")
    parser.add_argument("--convert", type=Path, nargs="+", metavar="FILE.jsonl")
    parser.add_argument("--out", type=Path, help="the set that --convert writes")
    parser.add_argument("--seed", type=int, default=7)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Convert, or measure, print and write."""
    if options.convert:
        return _convert(options)
    if not options.sets:
        raise ConfigError("SET.json must be given at least once, got none; or use --convert")
    sets = [_limited(read_set(path), options.limit, options.seed) for path in options.sets]
    names = [one.name for one in sets]
    if len(set(names)) < len(names) or _POOLED in names:
        raise ConfigError(f"SET.json must have names of their own, got {names}; rename a file")
    settings = load_file(options.config)
    artefact = find_artefact(settings.encoder, settings.data_dir)
    verifier = load_verifier(settings, artefact)
    threshold = threshold_of(settings, verifier)
    encoder = load_encoder(settings, artefact)
    with scratch_folder() as folder:
        observed = asyncio.run(observe(sets, settings, encoder, verifier, folder, options.timed))
    report: dict[str, Any] = {
        "nearhit": nearhit.__version__,
        "encoder": encoder.fingerprint,
        "verifier": dict(artefact.manifest.verifier),
        "settings": settings.model_dump(mode="json", exclude={"data_dir", "secret"}),
        "seed": options.seed,
        "sha256": sha256_of(options.sets),
    }
    report |= measure(sets, observed, threshold)
    if options.ablate:
        report["ablation"] = ablate(sets, observed, settings)
    _print(report)
    if options.json:
        write_json(options.json, report)
    return 0


def measure(sets: Sequence[QuestionSet], observed: Run, threshold: float) -> dict[str, Any]:
    """Measure each set and all of them under one threshold."""
    measured = {
        one.name: _measure(observed.observations[one.name], one.must_hit, threshold) for one in sets
    }
    for one in sets:
        measured[one.name]["values"] = probe_values(
            *_values(observed.observations[one.name], guarded_by_all)
        )
    everything = [seen for one in sets for seen in observed.observations[one.name]]
    pooled = _measure(everything, sum(one.must_hit for one in sets), threshold)
    seconds = observed.seconds
    latency = {
        f"p{share}": 1000 * float(np.percentile(seconds, share)) if seconds else math.nan
        for share in (50, 99)
    }
    stages = {
        name: {
            f"p{share}": 1000 * float(np.percentile(found, share)) if found else math.nan
            for share in (50, 99)
        }
        for name, found in observed.stages.items()
    }
    latency_ms = latency | {"timed": len(seconds), "stages": stages}
    return {_POOLED: pooled, "sets": measured, "latency_ms": latency_ms}


def _measure(
    observations: Sequence[Observation], must_hit: int, threshold: float
) -> dict[str, Any]:
    values, right = _values(observations, guarded_by_all)
    found = metrics.summary(values, right, must_hit, sum(map(_is_retrieved, observations)))
    served = np.array([1.0 if one.served is not None else -math.inf for one in observations])
    truly = np.array([one.served is not None and one.served == one.key for one in observations])
    at_default = metrics.at_threshold(served, truly, must_hit, 1.0)
    found["at_default"] = at_default | {"threshold": threshold}
    confidences = np.where(np.isfinite(values), np.clip(values, 0, 1), -math.inf)
    found["calibration"] = asdict(metrics.calibration(confidences, right))
    found["worst"] = worst(observations)
    found["vetoed"] = vetoed(observations)
    reasons: dict[str, int] = {}
    for one in observations:
        if one.reason:
            reasons[one.reason] = reasons.get(one.reason, 0) + 1
    found["reasons"] = dict(sorted(reasons.items(), key=lambda item: -item[1]))
    return found


def ablate(sets: Sequence[QuestionSet], observed: Run, settings: Settings) -> dict[str, Any]:
    """Measure stage after stage on the same candidates, all sets pooled."""
    everything = [seen for one in sets for seen in observed.observations[one.name]]
    must_hit = sum(one.must_hit for one in sets)
    has_verifier = any(
        abs(seen.confidence - min(1, max(0, seen.similarity))) > 1e-9
        for one in everything
        for seen in one.candidates
    )
    stages: dict[str, Callable[[Observation], Choice]] = {"encoder": by_similarity}
    if has_verifier:
        stages["+ verifier"] = by_confidence
    for name in GUARDS:
        stages[f"+ guard {name} alone"] = _guarded_by((name,))
    stages["+ guards in force"] = _guarded_by(settings.guards)
    found: dict[str, Any] = {}
    for stage, choose in stages.items():
        values, right = _values(everything, choose)
        measured = metrics.summary(values, right, must_hit, 0)
        found[stage] = {name: measured[name] for name in ("recall_at_wrong", "auc")}
        if stage.startswith("+ guard"):
            names = settings.guards if stage == "+ guards in force" else (stage.split()[2],)
            found[stage] |= _vetoes(everything, names)
    return found


def _vetoes(observations: Sequence[Observation], names: Sequence[str]) -> dict[str, Any]:
    """How many nearest candidates a guard forbids: wrong ones, and right ones that it costs."""
    counts = {"wrong_vetoed": 0, "wrong": 0, "right_vetoed": 0, "right": 0}
    for one in observations:
        if not one.candidates:
            continue
        best = max(one.candidates, key=lambda seen: (seen.confidence, seen.similarity))
        kind = "right" if best.key == one.key else "wrong"
        counts[kind] += 1
        counts[f"{kind}_vetoed"] += first_veto(best.text, one.text, names) is not None
    return counts


def _values(
    observations: Sequence[Observation], choose: Callable[[Observation], Choice]
) -> tuple[metrics.Values, metrics.Flags]:
    chosen = [(1.0, one.served) if one.is_exact else choose(one) for one in observations]
    right = [
        key is not None and key == one.key
        for (_, key), one in zip(chosen, observations, strict=True)
    ]
    return np.array([value for value, _ in chosen], np.float64), np.array(right, bool)


def by_similarity(one: Observation) -> Choice:
    """Choose the nearest."""
    return _best(one.candidates, lambda seen: seen.similarity)


def by_confidence(one: Observation) -> Choice:
    """Choose the surest."""
    return _best(one.candidates, lambda seen: seen.confidence)


def guarded_by_all(one: Observation) -> Choice:
    """Choose the surest that no guard in force forbids: what serves."""
    return _best([s for s in one.candidates if s.veto is None], lambda seen: seen.confidence)


def _guarded_by(names: Sequence[str]) -> Callable[[Observation], Choice]:
    def choose(one: Observation) -> Choice:
        left = [s for s in one.candidates if first_veto(s.text, one.text, names) is None]
        return _best(left, lambda seen: seen.confidence)

    return choose


def _best(candidates: Sequence[Seen], value: Callable[[Seen], float]) -> Choice:
    if not candidates:
        return -math.inf, None
    best = max(candidates, key=value)
    return value(best), best.key


def _is_retrieved(one: Observation) -> bool:
    if one.key is None:
        return False
    return one.served == one.key or any(seen.key == one.key for seen in one.candidates)


def _limited(one: QuestionSet, limit: int | None, seed: int) -> QuestionSet:
    if limit is None or len(one.probes) <= limit:
        return one
    if limit < 2:
        raise ConfigError(f"--limit must be at least 2, got {limit}")
    chosen = np.random.default_rng(seed).permutation(len(one.probes))[:limit]
    return QuestionSet(one.name, one.store, tuple(one.probes[i] for i in sorted(chosen)))


def _convert(options: argparse.Namespace) -> int:
    if options.out is None:
        raise ConfigError("--out must name the file that --convert writes, got none")
    made = convert(options.convert, options.out.stem, options.seed)
    document = {"store": made.store, "probes": made.probes}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, ensure_ascii=False) + "\n", "utf-8")
    print(
        f"{options.out}: {len(made.store)} stored, {len(made.probes)} probes, "
        f"{made.must_hit} of them must hit"
    )
    return 0


def _print(report: Mapping[str, Any]) -> None:
    print(f"{'':<26} recall at <= 1 / 2 / 5 % wrong    AUC  retrievable   served  wrong (95 %)")
    for name, found in {**report["sets"], _POOLED: report[_POOLED]}.items():
        recall = " ".join(f"{value:8.3f}" for value in found["recall_at_wrong"].values())
        default = found["at_default"]
        low, high = default["wilson"]
        print(
            f"{name[:26]:<26} {recall} {found['auc']:11.3f} {found['retrievable']:12.3f} "
            f"{default['served']:8} {default['wrong']:6} ({low:.3f}-{high:.3f}) "
            f"recall {default['recall']:.3f}"
        )
    latency = report["latency_ms"]
    print(
        f"threshold {report[_POOLED]['at_default']['threshold']:.4f}, calibration error "
        f"{report[_POOLED]['calibration']['ece']:.3f}, a decision takes {latency['p50']:.1f} ms "
        f"(p99 {latency['p99']:.1f}, {latency['timed']} timed), of that "
        + ", ".join(f"{name} {found['p50']:.1f}" for name, found in latency["stages"].items())
    )
    for stage, found in report.get("ablation", {}).items():
        recall = " ".join(f"{value:8.3f}" for value in found["recall_at_wrong"].values())
        vetoed = ""
        if "wrong" in found:
            vetoed = (
                f"  vetoes {found['wrong_vetoed']} of {found['wrong']} wrong, "
                f"{found['right_vetoed']} of {found['right']} right"
            )
        print(f"{stage[:34]:<34} {recall}   auc {found['auc']:.3f}{vetoed}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a script."""
    from nearhit_eval.cli import main as command

    return command(["decisions", *(sys.argv[1:] if argv is None else argv)])
