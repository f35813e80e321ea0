r"""What the cache would have served of a stream of questions: hits, wrong hits, money.

    nearhit-eval replay stream.jsonl --arrivals AzureLLMInferenceTrace_conv.csv
    nearhit-eval replay stream.jsonl --rate 0.2 --ttl 3600 86400 --threshold 0.9904 0.9994
    nearhit-eval replay stream.jsonl --limit 5000 --zipf 1.0 --rate 1 --model gpt-4o --json r.json

A stream is JSON lines {"query", optional "cluster", optional "time_s"}: one answer serves all of a
cluster. Times come from the rows, from --arrivals (CSV: TIMESTAMP, ContextTokens, GeneratedTokens;
its sizes are used as well), or from --rate. The questions go through the cache that serves, over
the real store with verifier and guards, in virtual time; every combination of --threshold and
--ttl starts empty. An answer is stored --answer-s after its question.

--zipf draws the questions anew so that they repeat; without it they are asked as they stand.

Printed for each combination: the share served by tier, wrong hits among the labelled with a 95 %
interval, tokens and money that the model did not cost, entries at the end, and the share served
in each fifth of the time.
"""

import argparse
import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

import nearhit
from nearhit.cache import threshold_of
from nearhit.config import Settings, load_file
from nearhit.encoder.serving import find_artefact, load_encoder, load_verifier
from nearhit.errors import ConfigError
from nearhit_eval import metrics
from nearhit_eval.files import scratch_folder, sha256_of, write_json
from nearhit_eval.replaying import (
    TIERS,
    Pace,
    RememberedEncoder,
    RememberedVerifier,
    Replayed,
    replay,
)
from nearhit_eval.traffic import (
    CHARACTERS_A_TOKEN,
    Asked,
    at_rate,
    prices_of,
    read_arrivals,
    read_stream,
    repeated,
    timed,
)

_SLICES: Final = 20
_WORST: Final = 20


def add_command(commands: Any) -> None:
    """Add the command to the parser's subparsers."""
    parser = commands.add_parser(
        "replay",
        help="what the cache would have served of a stream of questions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stream", type=Path, metavar="STREAM.jsonl")
    parser.add_argument("--arrivals", type=Path, metavar="TRACE.csv")
    parser.add_argument("--rate", type=float, help="questions a second, instead of --arrivals")
    parser.add_argument("--zipf", type=float, metavar="S", help="repeat: weight 1 / rank ** S")
    parser.add_argument("--limit", type=int, help="the first so many; with --zipf so many draws")
    parser.add_argument("--ttl", type=int, nargs="+", help="seconds; without it ttl_s")
    parser.add_argument("--threshold", type=float, nargs="+", help="without it the one in force")
    parser.add_argument("--answer-s", type=float, default=2.0, help="that the model takes")
    parser.add_argument("--answer-tokens", type=int, default=200, help="where no trace says it")
    parser.add_argument("--model", default="gpt-4o-mini", help="whose price LiteLLM knows")
    parser.add_argument("--config", type=Path, help="the proxy's YAML; without it the defaults")
    parser.add_argument("--json", type=Path, help="file to write everything into")
    parser.add_argument("--seed", type=int, default=7)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Replay every combination, print and write."""
    stream = _stream(options)
    prices = prices_of(options.model)
    settings = load_file(options.config)
    artefact = find_artefact(settings.encoder, settings.data_dir)
    verifier = load_verifier(settings, artefact)
    combinations = _combinations(options, settings, verifier is not None)
    thresholds = [threshold_of(one, verifier) for one in combinations]
    encoder = load_encoder(settings, artefact)
    remembered = RememberedEncoder(encoder)
    reading = None if verifier is None else RememberedVerifier(verifier)
    pace = Pace(options.answer_s, _SLICES)

    async def replay_all() -> list[Replayed]:
        found = []
        with tqdm(
            total=len(combinations) * len(stream), unit="question", leave=False, disable=None
        ) as bar:
            for one in combinations:
                with scratch_folder() as folder:
                    found.append(
                        await replay(stream, one, remembered, reading, folder, pace, bar.update)
                    )
        for part in (encoder, verifier):
            if part is not None:
                await part.close()
        return found

    replayed = asyncio.run(replay_all())
    files = [path for path in (options.stream, options.arrivals) if path is not None]
    report: dict[str, Any] = {
        "nearhit": nearhit.__version__,
        "encoder": encoder.fingerprint,
        "verifier": dict(artefact.manifest.verifier),
        "settings": settings.model_dump(mode="json", exclude={"data_dir", "secret"}),
        "seed": options.seed,
        "sha256": sha256_of(files),
        "stream": _described(options, stream),
        "prices": prices,
        "combinations": [
            _measured(one, threshold, done, prices)
            for one, threshold, done in zip(combinations, thresholds, replayed, strict=True)
        ],
    }
    _print(report)
    if options.json:
        write_json(options.json, report)
    return 0


def _stream(options: argparse.Namespace) -> list[Asked]:
    _check(options)
    rows = read_stream(options.stream, options.answer_tokens)
    if options.zipf is not None:
        rows = repeated(rows, options.limit or len(rows), options.zipf, options.seed)
    rows = rows[: options.limit]
    if options.arrivals is not None:
        return timed(rows, read_arrivals(options.arrivals))
    if options.rate is not None:
        return at_rate(rows, options.rate, options.seed)
    if rows[0].time_s is None:
        raise ConfigError(
            "--arrivals or --rate must say when the questions come, got neither and no time_s in "
            f"{options.stream}; add --rate 1"
        )
    return rows


def _check(options: argparse.Namespace) -> None:
    if options.arrivals is not None and options.rate is not None:
        raise ConfigError("--arrivals and --rate must not both be given; leave one out")
    least = {"limit": 1, "answer_tokens": 0, "answer_s": 0, "zipf": 0}
    for name, lowest in least.items():
        value = getattr(options, name)
        if value is not None and not lowest <= value < math.inf:
            shown = name.replace("_", "-")
            raise ConfigError(f"--{shown} must be at least {lowest}, got {value}; correct it")
    if options.rate is not None and not 0 < options.rate < math.inf:
        raise ConfigError(f"--rate must be above 0 a second, got {options.rate}; correct it")


def _combinations(
    options: argparse.Namespace, settings: Settings, has_verifier: bool
) -> list[Settings]:
    """Settings of each combination, checked as those of a file are."""
    name = "confidence_threshold" if has_verifier else "similarity_threshold"
    thresholds: Sequence[float | None] = options.threshold or [None]
    made = []
    for threshold, ttl_s in product(thresholds, options.ttl or [settings.ttl_s]):
        if not 1 <= ttl_s <= 31_536_000:
            raise ConfigError(f"--ttl must be seconds from 1 to 31536000, got {ttl_s}; correct it")
        if threshold is not None and not 0 < threshold <= 1:
            raise ConfigError(f"--threshold must be in (0, 1], got {threshold}; correct it")
        changed = {"ttl_s": ttl_s} | ({} if threshold is None else {name: threshold})
        made.append(settings.model_copy(update=changed))
    return made


def _described(options: argparse.Namespace, stream: Sequence[Asked]) -> dict[str, Any]:
    """What was asked, and where its times, sizes and repeats come from."""
    times = "time_s of the rows"
    if options.arrivals is not None:
        times = options.arrivals.name
    elif options.rate is not None:
        times = f"{options.rate:g} a second, independent of each other"
    sizes = f"estimated: {CHARACTERS_A_TOKEN} characters a token, {options.answer_tokens} an answer"
    if options.arrivals is not None:
        sizes = options.arrivals.name
    return {
        "name": options.stream.stem,
        "questions": len(stream),
        "distinct": len({one.text for one in stream}),
        "labelled": sum(one.cluster is not None for one in stream),
        "seconds": stream[-1].time_s,
        "times": times,
        "sizes": sizes,
        "repeats": "as they stand" if options.zipf is None else f"drawn, Zipf {options.zipf:g}",
        "answer_s": options.answer_s,
        "input_tokens": sum(one.input_tokens for one in stream),
        "output_tokens": sum(one.output_tokens for one in stream),
    }


def _measured(
    settings: Settings, threshold: float, done: Replayed, prices: Mapping[str, Any]
) -> dict[str, Any]:
    parts = done.slices
    labelled = {tier: sum(part.labelled[tier] for part in parts) for tier in TIERS}
    wrong = {tier: sum(part.wrong[tier] for part in parts) for tier in TIERS}
    tokens = [sum(part.input_tokens for part in parts), sum(part.output_tokens for part in parts)]
    by_surety = sorted(done.wrong, key=lambda one: -one.confidence)
    return {
        "threshold": threshold,
        "ttl_s": settings.ttl_s,
        "asked": sum(part.asked for part in parts),
        "hits": {tier: sum(part.hits[tier] for part in parts) for tier in TIERS},
        "labelled": labelled,
        "wrong": wrong,
        "wilson": {tier: list(metrics.wilson(wrong[tier], labelled[tier])) for tier in TIERS},
        "saved_input_tokens": tokens[0],
        "saved_output_tokens": tokens[1],
        "saved_usd": tokens[0] * prices["input_cost_per_token"]
        + tokens[1] * prices["output_cost_per_token"],
        "entries": parts[-1].live,
        "held": done.held,
        "reasons": dict(sorted(done.reasons.items(), key=lambda item: -item[1])),
        "slices": [asdict(part) for part in parts],
        "worst": [asdict(one) for one in by_surety[:_WORST]],
    }


def _print(report: Mapping[str, Any]) -> None:
    stream, prices = report["stream"], report["prices"]
    print(
        f"{stream['name']}: {stream['questions']} questions ({stream['distinct']} distinct, "
        f"repeats {stream['repeats']}) in {stream['seconds']:.0f} s\n"
        f"times: {stream['times']}; sizes: {stream['sizes']}; an answer takes "
        f"{stream['answer_s']:g} s; price of {prices['model']} in LiteLLM {prices['litellm']}"
    )
    print(
        f"{'threshold':>9} {'ttl s':>7} {'hits':>6} {'exact':>6} {'semant':>6} {'coalesc':>7} "
        f"{'wrong of labelled semantic (95 %)':>34} {'tokens saved':>13} {'USD':>8} {'live':>6}  "
        f"hits by fifths of the time"
    )
    for one in report["combinations"]:
        asked, hits = one["asked"], one["hits"]
        low, high = one["wilson"]["semantic"]
        wrong = (
            f"{one['wrong']['semantic']} of {one['labelled']['semantic']} ({low:.3f}-{high:.3f})"
        )
        shares = " ".join(f"{hits[tier] / asked:{6 + (tier == 'coalesced')}.1%}" for tier in TIERS)
        print(
            f"{one['threshold']:9.4f} {one['ttl_s']:7} {sum(hits.values()) / asked:6.1%} {shares} "
            f"{wrong:>34} {one['saved_input_tokens'] + one['saved_output_tokens']:13,} "
            f"{one['saved_usd']:8.4f} {one['entries']:6}  {_fifths(one['slices'])}"
        )


def _fifths(slices: Sequence[Mapping[str, Any]]) -> str:
    step = len(slices) // 5
    shares = []
    for start in range(0, len(slices), step):
        some = slices[start : start + step]
        asked = sum(part["asked"] for part in some)
        hits = sum(sum(part["hits"].values()) for part in some)
        shares.append(f"{hits / asked:.0%}" if asked else "-")
    return " ".join(shares)
