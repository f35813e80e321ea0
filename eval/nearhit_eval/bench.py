r"""Latency and throughput beside other caches, in one run, and how the store grows.

    nearhit-eval bench --json bench.json
    nearhit-eval bench --requests 32 --callers 1 8 --sides litellm nearhit
    nearhit-eval bench --no-peers --sizes 10000 100000 1000000

The sides, each a LiteLLM proxy asked over HTTP: `litellm` without a cache, `litellm-semantic` with
LiteLLM's own qdrant-semantic cache, `gptcache` with GPTCache as the model behind it, `nearhit`. All
have the same encoder and the same scripted model, which answers at once. Each turn sends the same
questions to every side, one side after the other in an order drawn anew. What is added is a side's
median less that of LiteLLM without a cache. Needs a checkout and the extra `proxy`.
"""

import argparse
import hashlib
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import nearhit
from nearhit import config
from nearhit.encoder.artefact import Artefact
from nearhit.encoder.serving import find_artefact
from nearhit.encoder.weights import DEFAULT_BASE, base_folder
from nearhit.errors import ConfigError
from nearhit_eval import growth, peers
from nearhit_eval.asking import QUESTIONS, Cells, measure
from nearhit_eval.bench_figures import describe, ratios
from nearhit_eval.growth import Grown

SIZES: Final = (1000, 10_000, 100_000)
ENCODES: Final = 200

# Each in a process of its own; argv: artefact or base, questions. Prints resident MB at the end.
_OURS: Final = """
import asyncio, sys
from pathlib import Path
from nearhit.encoder.artefact import load_artefact
from nearhit.encoder.runtime import OnnxEncoder
encoder = OnnxEncoder.load(load_artefact(Path(sys.argv[1])), repeats_bytes=0)
encode = lambda text: asyncio.run(encoder.encode(text))
"""
_LIBRARY: Final = """
import sys
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
encode = model.encode
"""
_MEASURED: Final = f"""
for text in open(sys.argv[2], encoding="utf-8").read().splitlines()[:{ENCODES}]:
    encode(text)
lines = open("/proc/self/status").read().splitlines()
print(next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")))
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser's subparsers."""
    parser = commands.add_parser(
        "bench",
        help="latency and throughput beside other caches, and how the store grows",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--requests", type=int, default=64, help="a side, kind and --callers")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 32], metavar="N")
    parser.add_argument("--sides", nargs="+", default=list(peers.SIDES), metavar="SIDE")
    parser.add_argument("--qdrant-url", help="a real server for LiteLLM's cache; no stand-in")
    parser.add_argument("--gptcache-python", type=Path, help="interpreter that has GPTCache")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES), metavar="N")
    parser.add_argument("--no-peers", action="store_true", help="growth alone")
    parser.add_argument("--no-memory", action="store_true", help="no sentence-transformers")
    parser.add_argument("--json", type=Path, help="file to write everything into")
    parser.add_argument("--seed", type=int, default=7)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, print the ratios first, write."""
    _check(options)
    settings = config.load(None)
    artefact = find_artefact(settings.encoder, settings.data_dir)
    cells: Cells = {}
    notes: dict[str, str] = {}
    if not options.no_peers:
        with (
            tempfile.TemporaryDirectory(prefix="nearhit-bench-") as scratch,
            peers.running(Path(scratch), artefact, _plan(options)) as stack,
        ):
            cells = measure(stack, settings, artefact, options)
            notes = dict(stack.notes)
    grown = growth.measure(options.sizes, options.seed) if options.sizes else []
    memory = {} if options.no_memory else _memory(artefact, settings.data_dir)
    found, reasons = ratios(cells, grown, memory)
    report = {
        "ratios": found,
        "not_measured": reasons,
        "nearhit": nearhit.__version__,
        "machine": f"{platform.processor() or platform.machine()}, {platform.python_version()}",
        "encoder": artefact.manifest.fingerprint,
        "settings": {name: str(value) for name, value in vars(options).items() if name != "run"}
        | {"nearhit": peers.NEARHIT, "peers": peers.SETTINGS},
        "sha256": {QUESTIONS.name: hashlib.sha256(QUESTIONS.read_bytes()).hexdigest()},
        "sides": notes,
        "peers": describe(cells),
        "growth": growth.rows(grown),
        "resident_mb": memory,
    }
    _print(report, cells, grown)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuse arguments that cannot be measured before anything is started."""
    if options.requests < 1:
        raise ConfigError(f"`--requests` must be at least 1, got {options.requests}; try 64")
    if min(options.callers) < 1:
        raise ConfigError(f"`--callers` must be at least 1 each, got {options.callers}; try 1 8")
    for side in options.sides:
        if side not in peers.SIDES:
            known = ", ".join(peers.SIDES)
            raise ConfigError(f"`--sides` must be of {known}, got {side!r}; leave it out")
    if "litellm" not in options.sides:
        raise ConfigError("`--sides` must have litellm, which the others are compared with; add it")
    growth.check_sizes(options.sizes)


def _plan(options: argparse.Namespace) -> peers.Plan:
    return peers.Plan(tuple(options.sides), options.qdrant_url, options.gptcache_python)


def _memory(artefact: Artefact, data_dir: Path) -> dict[str, float]:
    """Resident MB of a process that encodes, with nearhit's encoder and with the library's."""
    code = {
        "nearhit": (_OURS, artefact.path),
        "sentence-transformers": (_LIBRARY, base_folder(DEFAULT_BASE, data_dir)),
    }
    found = {}
    for name, (source, folder) in code.items():
        command = [sys.executable, "-c", source + _MEASURED, str(folder), str(QUESTIONS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
        if done.returncode == 0:
            found[name] = float(done.stdout.split()[-1])
    return found


def _print(report: Mapping[str, Any], cells: Cells, grown: Sequence[Grown]) -> None:
    print("ratios (what nearhit adds or takes, by what it is compared with)")
    for name, value in report["ratios"].items():
        shown = report["not_measured"][name] if value is None else f"{value:.2f}"
        print(f"  {name:<42}{shown}")
    for name, note in report["sides"].items():
        print(f"{name}: {note}")
    if cells:
        print(
            f"\n{'side':<18}{'kind':<17}{'callers':>7}{'first ms':>9}{'ms':>8}{'added':>8}"
            f"{'a second':>9}{'hit':>6}{'CPU ms':>8}{'MB':>7}"
        )
    for row in report["peers"]:
        first = "" if row["first_ms"] is None else f"{row['first_ms']:.1f}"
        print(
            f"{row['side']:<18}{row['kind']:<17}{row['callers']:>7}{first:>9}{row['ms']:>8.1f}"
            f"{row['added_ms']:>+8.1f}{row['per_s']:>9.1f}{row['hit_share']:>6.2f}"
            f"{row['cpu_ms']:>8.1f}{row['resident_mb']:>7.0f}"
        )
    if grown:
        print(f"\n{'entries':>9}{'tenants':>9}{'look-up ms':>12}{'p99':>8}{'recall':>8}", end="")
        print(f"{'MB':>8}{'disk MB':>9}{'load s':>8}")
    for one in grown:
        print(
            f"{one.entries:>9}{one.tenants:>9}{one.lookup_ms:>12.2f}{one.lookup_p99_ms:>8.2f}"
            f"{one.recall:>8.2f}{one.resident_mb:>8.0f}{one.disk_mb:>9.0f}{one.load_s:>8.0f}"
        )
