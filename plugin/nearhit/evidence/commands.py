"""The commands about evidence: report, calibrate and export."""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from nearhit import config, entry_commands
from nearhit.config import Settings
from nearhit.errors import ConfigError, StoreError
from nearhit.evidence.calibration import find_threshold, write_calibration
from nearhit.evidence.journal import FILE, Decision, Journal
from nearhit.evidence.judge import judge, verdict_request
from nearhit.evidence.report import Report, as_text, labels_of, printable, sample_of, summarise
from nearhit.evidence.watch import errors_of
from nearhit.remote import KEY

_CHARS_A_TOKEN: Final = 4  # of English, roughly: for an estimate of what judging costs
_TIMEOUT_S: Final = 120.0
_AT_ONCE: Final = 4  # requests to the judge


def add_commands(commands: Any) -> None:
    """Add the commands to the parser's subparsers."""
    report = commands.add_parser(
        "report", help="what was served, or would have been in shadow mode, and what was wrong"
    )
    _add_common(report)
    report.add_argument("--json", action="store_true", help="print JSON")
    report.set_defaults(run=_report)
    calibrate = commands.add_parser(
        "calibrate", help="label decisions and find the threshold that keeps target_precision"
    )
    _add_common(calibrate)
    who = calibrate.add_mutually_exclusive_group()
    who.add_argument("--judge", help="a model group of the proxy that labels what has no label")
    who.add_argument("--by-hand", action="store_true", help="ask you, in this terminal")
    calibrate.add_argument("--proxy", default="http://127.0.0.1:4000", help="where it listens")
    calibrate.add_argument("--limit", type=int, default=1000, help="newest decisions that count")
    calibrate.add_argument("--yes", action="store_true", help="do not ask before the judge is paid")
    calibrate.add_argument("--write", action="store_true", help="let the proxy use the threshold")
    calibrate.add_argument(
        "--measured", action="store_true", help="write it where labels are too few to prove it too"
    )
    calibrate.set_defaults(run=_calibrate)
    export = commands.add_parser(
        "export", help="write decisions as lines for `nearhit-train mine`, or stored answers"
    )
    _add_common(export)
    export.add_argument(
        "--entries", action="store_true", help="all stored answers of a running proxy instead"
    )
    export.add_argument("--proxy", default="http://127.0.0.1:4000", help="where it listens")
    export.add_argument("--out", type=Path, required=True, help="a JSON lines file; - prints")
    export.set_defaults(run=_export)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", type=Path, nargs="?", help="the YAML file; without it defaults and environment"
    )
    parser.add_argument("--days", type=float, default=30, help="how far back, 30 by default")


def _open(options: argparse.Namespace) -> tuple[Settings, Journal, int]:
    """Return settings, journal, and the time from which on it counts."""
    settings = config.load_file(options.config)
    if not (settings.data_dir / FILE).is_file():
        raise StoreError(
            f"data_dir must hold {FILE}, got none in {settings.data_dir}; run the proxy with "
            f"mode `shadow` or `on` and evidence.decisions above 0"
        )
    since = int(time.time() - 86_400 * options.days)
    # Here, for the commands are known to every run of `nearhit`, and this imports a cipher.
    from nearhit.sealing import Seal
    from nearhit.signing import read_secret

    configured = settings.secret.get_secret_value() if settings.secret else None
    seal = Seal(settings.store.prompts, read_secret(configured, settings.data_dir))
    return settings, Journal(settings.data_dir, settings.evidence.decisions, seal), since


# ---- report --------------------------------------------------------------------------------


def _report(options: argparse.Namespace) -> int:
    settings, journal, since = _open(options)
    decisions = journal.recent(settings.evidence.decisions, since=since)
    found: Report = summarise(decisions, journal.ledger(since=since), errors_of(settings))
    if options.json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        print(as_text(found))
    return 0


# ---- calibrate -----------------------------------------------------------------------------


def _calibrate(options: argparse.Namespace) -> int:
    settings, journal, since = _open(options)
    newest = journal.recent(1, since=since)
    if not newest:
        raise StoreError(
            f"{journal.path} must hold decisions of the last {options.days:g} days, got none; "
            f"let traffic through the proxy first"
        )
    decider = newest[0].decider
    decisions = sample_of(journal.recent(options.limit, since=since, decider=decider))
    missing = [one for one in decisions if not one.label]
    if missing and options.judge:
        _judge_all(options, journal, missing)
    elif missing and options.by_hand:
        _ask_person(journal, missing)
    errors = errors_of(settings)
    now = [one for one in (journal.get(d.id) for d in decisions) if one]
    labelled, wrong = labels_of(now, errors)
    if len(labelled) < len(decisions):
        print(
            f"{len(decisions) - len(labelled)} of {len(decisions)} decisions have no label; "
            f"--judge MODEL or --by-hand gives them one",
            file=sys.stderr,
        )
    target = settings.target_precision
    found = find_threshold(
        [one.confidence for one in labelled],
        [not is_wrong for is_wrong in wrong],
        target,
        errors,
    )
    print(found.as_text())
    if found.threshold is None:
        return 1
    if not options.write:
        return 0
    if not (found.is_proven or options.measured):
        print("not written: it is not proven; --measured writes it all the same")
        return 1
    path = write_calibration(settings.data_dir, decider, found)
    print(f"written to {path}; a running proxy takes it up within seconds")
    return 0


def _judge_all(options: argparse.Namespace, journal: Journal, missing: Sequence[Decision]) -> None:
    """Label what has no label; each label is kept at once, so a run that is cut goes on."""
    characters = sum(
        len(message["content"])
        for one in missing
        for message in verdict_request(options.judge, one)["messages"]
    )
    print(
        f"{len(missing)} decisions to be judged by {options.judge}: about "
        f"{characters // _CHARS_A_TOKEN:,} tokens in, {2 * len(missing):,} out"
    )
    if not options.yes and input("go on? [y/N] ").strip().lower() not in ("y", "yes"):
        return
    key = os.environ.get(KEY, "")
    if not key:
        raise ConfigError(
            f"{KEY} must be a key of the proxy, got nothing; export one that may use "
            "the judge's model"
        )
    asyncio.run(_judge_missing(options, key, journal, missing))


async def _judge_missing(
    options: argparse.Namespace, key: str, journal: Journal, missing: Sequence[Decision]
) -> None:
    from tqdm import tqdm

    headers = {"authorization": f"Bearer {key}", "x-nearhit": "off"}
    places = asyncio.Semaphore(_AT_ONCE)
    async with httpx.AsyncClient(
        base_url=options.proxy, headers=headers, timeout=_TIMEOUT_S, trust_env=False
    ) as client:

        async def ask(request: Mapping[str, Any]) -> str | None:
            response = await client.post("/v1/chat/completions", json=dict(request))
            response.raise_for_status()
            return str(response.json()["choices"][0]["message"]["content"])

        async def label(one: Decision) -> None:
            async with places:
                verdict = await judge(ask, options.judge, one)
            if verdict is not None:
                await asyncio.to_thread(journal.label, one.id, verdict, "judge")
            bar.update()

        with tqdm(total=len(missing), unit="decision", desc="judge", file=sys.stderr) as bar:
            try:
                await asyncio.gather(*map(label, missing))
            except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
                raise StoreError(
                    f"--proxy must answer as {options.judge}, got {type(error).__name__} from "
                    f"{options.proxy}; labels given so far are kept, run it again"
                ) from error


def _ask_person(journal: Journal, missing: Sequence[Decision]) -> None:
    """Show pairs until the person has had enough; in random order, so that any part is a sample."""
    print("r: the stored answer serves the new question; w: it does not; s: skip; q: enough")
    for one in sorted(missing, key=lambda one: one.id):
        print(f"\nnew      {printable(one.question)}\nstored   {printable(one.stored_question)}")
        print(f"answer   {printable(one.stored_answer)[:600]}")
        if one.fresh_answer:
            print(f"model's  {printable(one.fresh_answer)[:600]}")
        said = input(f"confidence {one.confidence:.4f}  [r/w/s/q] ").strip().lower()
        if said == "q":
            return
        if said in ("r", "w"):
            journal.label(one.id, "right" if said == "r" else "wrong", "person")


# ---- export --------------------------------------------------------------------------------


def _export(options: argparse.Namespace) -> int:
    rows, what = (
        (entry_commands.export(options), "entries")
        if options.entries
        else (_decisions(options), "decisions")
    )
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if str(options.out) == "-":
        sys.stdout.writelines(lines)
        return 0
    count = 0
    try:
        with options.out.open("w", encoding="utf-8") as file:
            for line in lines:
                count += file.write(line) > 0
    except OSError as error:
        raise ConfigError(
            f"--out must be a file that can be written, got {options.out} "
            f"({type(error).__name__}); choose another"
        ) from None
    print(f"{count} {what} in {options.out}")
    return 0


def _decisions(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the decisions as `nearhit-train mine` reads them."""
    settings, journal, since = _open(options)
    return [
        {
            "question": one.question,
            "stored_question": one.stored_question,
            "similarity": one.similarity,
            "confidence": one.confidence,
            "label": one.label or None,
            "kind": one.kind,
        }
        for one in journal.recent(settings.evidence.decisions, since=since)
    ]
