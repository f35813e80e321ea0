"""The commands about stored answers: entries and warm; `nearhit export --entries` ends here too.

    nearhit entries                              the first ones
    nearhit entries --text kettle                whose question contains it
    nearhit entries --meaning "clean a kettle"   nearest to it
    nearhit entries f210ce80-...                 one, with its answer
    nearhit warm faq.jsonl --model gpt-4o-mini --tenant team red

`warm` may be cut and run again: what is stored is not stored anew.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from nearhit.errors import ConfigError
from nearhit.evidence.report import printable
from nearhit.remote import add_proxy, call

MAX_LINE_BYTES: Final = 4 * 2**20
_BATCH_PAIRS: Final = 50
_BATCH_BYTES: Final = 2 * 2**20
_PAGE: Final = 100
_WIDTH: Final = 90
_SHOWN: Final = ("id", "model", "tenant", "hits", "created_at", "expires_at")
_FINE: Final = ("stored", "present")
_SHOWN_LINES: Final = 10  # line numbers of a fault

Line = tuple[int, dict[str, str]]


def add_commands(commands: Any) -> None:
    """Add the commands to the parser's subparsers."""
    entries = commands.add_parser("entries", help="look at stored answers of a running proxy")
    entries.add_argument("entry", nargs="?", help="show this one, named by x-nearhit-entry")
    entries.add_argument("--text", default="", help="only whose question contains it")
    entries.add_argument("--meaning", default="", help="nearest to it, most similar first")
    entries.add_argument("--limit", type=int, default=20, help="how many, 100 at most")
    entries.add_argument("--after", help="where the page before ended")
    _add_tenant(entries, is_required=False)
    entries.add_argument("--json", action="store_true", help="print JSON")
    add_proxy(entries)
    entries.set_defaults(run=_entries)
    warm = commands.add_parser("warm", help="store answers that were given elsewhere")
    warm.add_argument(
        "file", type=Path, help='JSON lines: {"question": .., "answer": .., "system": ..}'
    )
    warm.add_argument("--model", required=True, help="the model group that will be asked")
    _add_tenant(warm, is_required=True)
    warm.add_argument(
        "--fields", default="{}", help="what else those requests say, as JSON: temperature, ..."
    )
    add_proxy(warm)
    warm.set_defaults(run=_warm)


def export(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield all stored answers of a running proxy.

    Args:
        options: with `proxy`.
    """
    query: dict[str, Any] = {"limit": _PAGE, "answers": True}
    while True:
        found = call(options, "GET", "entries", query=query)
        yield from found["entries"]
        if found["next"] is None:
            return
        query["after"] = found["next"]


def _add_tenant(parser: argparse.ArgumentParser, *, is_required: bool) -> None:
    parser.add_argument(
        "--tenant",
        nargs="+",
        required=is_required,
        metavar="KIND ID",
        help="key, team, org and its id, or global, as `scope` divides",
    )


def _entries(options: argparse.Namespace) -> int:
    if options.entry:
        one = call(options, "GET", f"entries/{options.entry}")
        if options.json:
            print(json.dumps(one, indent=2, ensure_ascii=False))
        else:
            for name in (*_SHOWN, "question", "answer"):
                print(f"{name:<10}  {printable(str(one[name]))}")
            print(
                f"question    {printable(one['question'])}\nanswer      {printable(one['answer'])}"
            )
        return 0
    query = {
        "limit": options.limit,
        "text": options.text,
        "meaning": options.meaning,
        "after": options.after,
        "tenant": options.tenant,
    }
    given = {name: value for name, value in query.items() if value}
    found = call(options, "GET", "entries", query=given)
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    for one in found["entries"]:
        near = "" if one["similarity"] is None else f"{one['similarity']:.4f}  "
        question = printable(one["question"])[:_WIDTH]
        print(f"{one['id']}  {one['hits']:>5} hits  {near}{question}")
    if found["next"]:
        print(f"more: --after {found['next']}")
    return 0


def _warm(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    try:
        fields = json.loads(options.fields)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise ConfigError(f"--fields must be a JSON object, got {options.fields}; correct it")
    counts: Counter[str] = Counter()
    places: dict[str, list[int]] = {}
    try:
        size = options.file.stat().st_size
        with (
            options.file.open("rb") as file,
            tqdm(total=size, unit="B", unit_scale=True, desc="warm", file=sys.stderr) as bar,
        ):
            for batch in _batches(file, options.file):
                body = {
                    "tenant": options.tenant,
                    "model": options.model,
                    "fields": fields,
                    "pairs": [pair for _, pair in batch],
                }
                results = call(options, "POST", "warm", body)["results"]
                for (number, _), result in zip(batch, results, strict=True):
                    counts[result] += 1
                    if result not in _FINE:
                        places.setdefault(result, []).append(number)
                bar.update(file.tell() - bar.n)
    except OSError as error:
        raise ConfigError(
            f"FILE must be a readable file, got {options.file} ({type(error).__name__}); check it"
        ) from None
    print(f"{counts['stored']} answers stored, {counts['present']} were there already")
    for result, numbers in sorted(places.items()):
        shown = ", ".join(map(str, numbers[:_SHOWN_LINES]))
        more = ", ..." if len(numbers) > _SHOWN_LINES else ""
        print(f"{len(numbers)} not stored, {result}: line {shown}{more}")
    return 1 if places else 0


def _batches(file: Any, path: Path) -> Iterator[list[Line]]:
    """Yield the pairs of a file with their line numbers, so many that a request is not large."""
    batch: list[Line] = []
    size = number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise ConfigError(
                f"{path}, line {number} must be at most {MAX_LINE_BYTES} bytes, got more; cut it"
            )
        if not line.strip():
            continue
        if batch and (len(batch) == _BATCH_PAIRS or size + len(line) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((number, _pair(line, f"{path}, line {number}")))
        size += len(line)
    if batch:
        yield batch


def _pair(line: bytes, place: str) -> dict[str, str]:
    """Read one line; what else it has, such as what `export --entries` writes, is left out."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    pair = {}
    if isinstance(found, dict):
        names = ("question", "answer", "system")
        pair = {name: found[name] for name in names if found.get(name) is not None}
    is_text = all(isinstance(value, str) and value for value in pair.values())
    if not (is_text and "question" in pair and "answer" in pair):
        raise ConfigError(f'{place} must be {{"question": text, "answer": text}}; correct it')
    return pair
