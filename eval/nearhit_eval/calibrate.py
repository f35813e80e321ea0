"""`nearhit-eval calibrate`: the threshold that keeps a precision, from labelled pairs of questions.

A file holds JSON lines: pairs {"a": stored, "b": asked, "label": 1 or 0}, or what `nearhit export`
writes: {"question", "stored_question", "label": "right" or "wrong"}. Each pair goes to the encoder,
the verifier and the guards that serve; what a guard forbids is no matter for a threshold. Lines
without a label are counted and left out: `nearhit calibrate --judge` labels a proxy's own
decisions, `nearhit-train mine --feedback` any other. The pairs must be a sample of what the cache
is asked: the threshold holds for such questions.
"""

import argparse
import asyncio
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nearhit import config
from nearhit.cache import decider_of
from nearhit.encoder import Encoder, Unencodable
from nearhit.encoder.serving import load_parts
from nearhit.errors import ConfigError
from nearhit.evidence.bounds import Errors
from nearhit.evidence.calibration import find_threshold, write_calibration
from nearhit.matching import Verifier, judge, weigh
from nearhit.store import Entry, Neighbour
from nearhit_eval.files import sha256_of, write_json
from nearhit_eval.rows import read_rows

_EXAMPLES = """examples:
  nearhit-eval calibrate labelled.jsonl --target-precision 0.99
  nearhit-eval calibrate decisions.jsonl --config router_config.yaml --write
  nearhit-eval calibrate judged.jsonl --wrong-called-right 0.1 --right-called-wrong 0.01
"""
_LABELS = {1: True, 0: False, "right": True, "wrong": False}


@dataclass(frozen=True, slots=True)
class Labelled:
    """A stored question, one that was asked, and whether the stored answer serves it."""

    stored: str
    asked: str
    is_right: bool


def add_command(commands: Any) -> None:
    """Add the command to the parser's subparsers."""
    parser = commands.add_parser(
        "calibrate",
        help="the threshold that keeps a precision, from labelled pairs",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.jsonl")
    parser.add_argument("--config", type=Path, help="a proxy config; else defaults, environment")
    parser.add_argument("--target-precision", type=float, help="else the config's")
    parser.add_argument("--wrong-called-right", type=float, default=0.0, help="errors of the judge")
    parser.add_argument("--right-called-wrong", type=float, default=0.0, help="errors of the judge")
    parser.add_argument("--write", action="store_true", help="let the proxy use the threshold")
    parser.add_argument("--measured", action="store_true", help="write it where it is not proven")
    parser.add_argument("--json", type=Path, help="file to write everything into")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Score, find the threshold, print and write."""
    settings = config.load_file(options.config)
    target = options.target_precision or settings.target_precision
    for name in ("target_precision", "wrong_called_right", "right_called_wrong"):
        value = getattr(options, name)
        low = 0.5 if name == "target_precision" else 0.0
        if value is not None and not low <= value < (1 if low else 0.5):
            raise ConfigError(
                f"--{name.replace('_', '-')} must be from {low:g} to below {1 if low else 0.5:g}, "
                f"got {value:g}; correct it"
            )
    pairs, unlabelled = read_labelled(options.files)
    encoder, verifier = load_parts(settings)
    confidences = asyncio.run(_confidences(pairs, encoder, verifier, settings.guards))
    kept = [(c, p.is_right) for c, p in zip(confidences, pairs, strict=True) if c is not None]
    errors = Errors(options.wrong_called_right, options.right_called_wrong)
    found = find_threshold([c for c, _ in kept], [right for _, right in kept], target, errors)
    decider = decider_of(encoder, verifier)
    print(
        f"{len(pairs)} labelled pairs, {len(pairs) - len(kept)} of them forbidden or not encodable"
    )
    if unlabelled:
        print(f"{unlabelled} lines have no label and were left out")
    print(found.as_text())
    if options.json:
        digests = sha256_of(options.files)
        document = {"decider": decider, **asdict(found), "errors": asdict(errors)}
        document |= {"sha256": digests, "unlabelled": unlabelled, "pairs": len(pairs)}
        write_json(options.json, document)
    if found.threshold is None:
        return 1
    if options.write and (found.is_proven or options.measured):
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        print(f"written to {write_calibration(settings.data_dir, decider, found)}")
    elif options.write:
        print("not written: it is not proven; --measured writes it all the same")
        return 1
    return 0


def read_labelled(paths: Sequence[Path]) -> tuple[list[Labelled], int]:
    """Read labelled pairs, and count the lines without a label.

    Raises:
        ConfigError: naming file, line and remedy.
    """
    pairs: list[Labelled] = []
    unlabelled = 0
    for place, row in _lines(paths):
        stored = row.get("a", row.get("stored_question"))
        asked = row.get("b", row.get("question"))
        label = row.get("label")
        for name, text in (("a or stored_question", stored), ("b or question", asked)):
            if not isinstance(text, str) or not text.strip():
                raise ConfigError(f"{place} {name} must be a text, got {text!r}; mend the line")
        if label is None:
            unlabelled += 1
        elif not isinstance(label, int | str) or label not in _LABELS:
            raise ConfigError(
                f"{place} label must be 1, 0, right, wrong or null, got {label!r}; mend the line"
            )
        else:
            pairs.append(Labelled(str(stored), str(asked), _LABELS[label]))
    if len({pair.is_right for pair in pairs}) < 2:
        raise ConfigError(
            f"{', '.join(map(str, paths))} must hold labels of both kinds, got "
            f"{len(pairs)} of one; a threshold found on one kind says nothing"
        )
    return pairs, unlabelled


def _lines(paths: Sequence[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in paths:
        for number, row in read_rows(path):
            yield f"{path}:{number}", row


async def _confidences(
    pairs: Sequence[Labelled],
    encoder: Encoder,
    verifier: Verifier | None,
    guards: Sequence[str],
) -> list[float | None]:
    """Ask what serves of each pair; None: it would never be decided by a threshold."""
    told: list[float | None] = []
    for pair in tqdm(pairs, unit="pair", desc="verify", disable=None):
        one, two = await encoder.encode(pair.stored), await encoder.encode(pair.asked)
        if isinstance(one, Unencodable) or isinstance(two, Unencodable):
            told.append(None)
            continue
        near = Neighbour(_entry(pair.stored), float(one @ two))
        weighed = weigh(pair.asked, [near], guards, verifier)
        (candidate,) = await judge(pair.asked, weighed, verifier)
        told.append(None if candidate.veto else candidate.confidence)
    await encoder.close()
    if verifier is not None:
        await verifier.close()
    return told


def _entry(text: str) -> Entry:
    """A stored question of which only the text matters."""
    return Entry(uuid.UUID(int=0), "", "", text, "", "", 0, 0, 0, "")
