"""What the commands that call an endpoint share: options, the question before, the record after."""

import argparse
import asyncio
import os
import platform
import sys
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from nearhit.encoder.artefact import ensure_artefact
from nearhit.encoder.base import Encoder
from nearhit.encoder.files import sha256_file
from nearhit.encoder.runtime import OnnxEncoder
from nearhit.encoder.weights import DEFAULT_BASE
from nearhit.errors import ConfigError, NearhitError
from nearhit_training import templates
from nearhit_training.asking import Asker, Estimate, Prices
from nearhit_training.endpoint import Policy, check_url
from nearhit_training.files import write_json
from nearhit_training.filters import MEANING, Rule

_VERSIONED: Final = ("nearhit", "httpx", "numpy", "onnxruntime", "pydantic", "tokenizers")
_INTERRUPTED: Final = 130  # what a shell says of a command that Ctrl-C ended


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of endpoint, purse, encoder and held-out files."""
    to = parser.add_argument_group("endpoint")
    to.add_argument("--endpoint", required=True, metavar="URL", help="OpenAI-compatible, with /v1")
    to.add_argument("--model", required=True, help="its name there")
    to.add_argument("--judge-model", metavar="NAME", help="the same model when left out")
    to.add_argument(
        "--api-key-env",
        default="OPENAI_API_KEY",
        metavar="NAME",
        help="variable that holds the key (default %(default)s; unset: no key is sent)",
    )
    to.add_argument("--concurrency", type=positive, default=8, help="default %(default)s")
    to.add_argument(
        "--deadline",
        type=_above_zero,
        default=120.0,
        metavar="SECONDS",
        help="for one call with all its attempts (default %(default)s)",
    )
    to.add_argument("--attempts", type=positive, default=8, help="default %(default)s")
    to.add_argument(
        "--backoff",
        type=_not_negative,
        default=1.0,
        metavar="SECONDS",
        help="longest first wait before another attempt; it doubles (default %(default)s)",
    )
    money = parser.add_argument_group("money")
    usd = "US dollars per million tokens"
    money.add_argument("--price-in", type=_not_negative, metavar="USD", help=usd)
    money.add_argument("--price-out", type=_not_negative, metavar="USD", help=usd)
    money.add_argument(
        "--max-cost",
        type=_not_negative,
        metavar="USD",
        help="stop before the run, with its earlier starts, costs more",
    )
    money.add_argument("--dry-run", action="store_true", help="print the estimate, call nothing")
    money.add_argument("--yes", action="store_true", help="start without asking")
    rest = parser.add_argument_group("data")
    rest.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON lines")
    rest.add_argument(
        "--held-out",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="evaluation files; nothing like their texts is written",
    )
    rest.add_argument(
        "--leak-similarity",
        type=share,
        default=0.95,
        metavar="COSINE",
        help="from here on a text counts as held out (default %(default)s)",
    )
    rest.add_argument("--domain", default="general", help="of questions that name none")
    rest.add_argument("--seed", type=int, default=0, help="default %(default)s")
    rest.add_argument("--base", default=DEFAULT_BASE, help="encoder (default %(default)s)")
    rest.add_argument("--adapter", metavar="FOLDER", help="adapter of the encoder")
    rest.add_argument(
        "--data-dir",
        type=Path,
        default=Path.home() / ".cache" / "nearhit",
        metavar="FOLDER",
        help="where the built encoder is kept (default %(default)s)",
    )


def run(name: str, options: argparse.Namespace, work: Coroutine[Any, Any, int]) -> int:
    """Run a command; return its exit status: 0, 1 for a fault, 130 after Ctrl-C."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        print(
            f"stopped; {journal_path(options.out)} keeps every answer, "
            f"the same command goes on from there",
            file=sys.stderr,
        )
        return _INTERRUPTED
    except NearhitError as error:
        print(f"nearhit-train {name}: {error}", file=sys.stderr)
        return 1


def journal_path(out: Path) -> Path:
    """Return where the replies of a run are kept."""
    return out.with_suffix(".journal.jsonl")


def record_path(out: Path) -> Path:
    """Return where a run's config, versions, digests and counts are written."""
    return out.with_suffix(".run.json")


def check_out(out: Path, inputs: Sequence[Path]) -> None:
    """Refuse to write over what is read.

    Raises:
        ConfigError: the output is one of the inputs.
    """
    if any(path.resolve() == out.resolve() for path in inputs):
        raise ConfigError(f"--out must be a file of its own, got the input {out}; choose another")


def policy_of(options: argparse.Namespace) -> Policy:
    """Read how the endpoint is called."""
    return Policy(
        url=check_url(options.endpoint),
        concurrency=options.concurrency,
        deadline_s=options.deadline,
        attempts=options.attempts,
        backoff_s=options.backoff,
    )


def prices_of(options: argparse.Namespace) -> Prices:
    """Read the prices.

    Raises:
        ConfigError: a limit cannot be kept because a price is unknown.
    """
    prices = Prices(options.price_in, options.price_out, options.max_cost)
    if prices.limit is not None and prices.cost(0, 0) is None:
        raise ConfigError(
            "--max-cost must come with --price-in and --price-out, got a limit without both; "
            "give the prices per million tokens"
        )
    return prices


def key_of(options: argparse.Namespace) -> str | None:
    """Read the endpoint's key from the environment; it is never an argument and never shown."""
    return os.environ.get(options.api_key_env) or None


@asynccontextmanager
async def opened_encoder(options: argparse.Namespace) -> AsyncIterator[Encoder]:
    """Build or find the encoder that the options name, and load it.

    Raises:
        EncoderError: it cannot be had.
    """
    artefact = ensure_artefact(options.data_dir, base=options.base, adapter=options.adapter)
    encoder = OnnxEncoder.load(artefact)
    try:
        yield encoder
    finally:
        await encoder.close()


def may_start(total: Estimate, prices: Prices, options: argparse.Namespace) -> bool:
    """Show the estimate and ask whether to go on.

    Raises:
        ConfigError: it exceeds the limit, or nobody can be asked.
    """
    print(f"estimate: {total}")
    if options.dry_run:
        return False
    if prices.limit is not None and total.cost is not None and total.cost > prices.limit:
        raise ConfigError(
            f"--max-cost must cover the estimate, got {prices.limit:g} for about "
            f"{total.cost:.2f}; raise it or give fewer questions"
        )
    if options.yes or not total.calls:
        return True
    if not sys.stdin.isatty():
        raise ConfigError("--yes must be given where nobody can be asked, got neither; add it")
    return input("start? [y/N] ").strip().lower() in ("y", "yes")


def print_counts(counts: Mapping[Rule, int], kept: str) -> None:
    """Show each filter with what it took, and what is left."""
    print("filter            taken  because")
    for rule, meaning in MEANING.items():
        if rule in counts:
            print(f"  {rule:<15} {counts[rule]:>6}  {meaning}")
    print(kept)


def save_record(
    options: argparse.Namespace,
    inputs: Sequence[Path],
    asker: Asker,
    counts: Counter[Rule],
    results: Mapping[str, Any],
) -> None:
    """Write config, versions, digests and counts beside the output."""
    config = {key: value for key, value in vars(options).items() if key not in ("yes", "dry_run")}
    write_json(
        record_path(options.out),
        {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "config": {key: _plain(value) for key, value in config.items()},
            "versions": {"python": platform.python_version()} | dict(_versions()),
            "sha256": {str(path): sha256_file(path) for path in (*inputs, options.out)},
            "prompts": templates.digests(),
            "calls": {"paid_now": asker.calls, "from_journal": asker.reused},
            "tokens": {"in": asker.prompt_tokens, "out": asker.completion_tokens},
            "cost_usd": asker.spent,
            "filtered": dict(counts),
            **results,
        },
    )


def _versions() -> Iterator[tuple[str, str]]:
    for name in _VERSIONED:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def positive(text: str) -> int:
    """Read a count for argparse."""
    return int(_checked(int(text), int(text) >= 1, "at least 1"))


def _above_zero(text: str) -> float:
    return _checked(float(text), float(text) > 0, "above 0")


def _not_negative(text: str) -> float:
    return _checked(float(text), float(text) >= 0, "0 or more")


def share(text: str) -> float:
    """Read a similarity bound for argparse."""
    return _checked(float(text), 0 < float(text) <= 1, "above 0 and at most 1")


def _checked(value: float, good: bool, rule: str) -> float:
    if not good:
        raise argparse.ArgumentTypeError(f"must be {rule}, got {value:g}")
    return value
