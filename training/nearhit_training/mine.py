r"""Label pairs of real questions: hard negatives and paraphrases that nobody had to invent.

    nearhit-train mine questions.jsonl --endpoint http://localhost:8000/v1 \
        --model Qwen/Qwen2.5-7B-Instruct --out pairs.jsonl --ranks 1-5,10,20,50
    nearhit-train mine --feedback export.jsonl --endpoint http://localhost:8000/v1 \
        --model Qwen/Qwen2.5-7B-Instruct --out traffic.jsonl

From unlabelled questions it takes each one's neighbours under the current encoder at the given
ranks and similarities, evenly over the similarities, and asks the judge twice, the two exchanged;
what the judge contradicts is dropped. From a proxy's export (format: see `feedback`) labelled
lines are taken as they are and unlabelled ones go to the judge. Journal, resuming and record are
those of `generate`. One pair a line:

    {"a": "...", "b": "...", "label": 1, "similarity": 0.87, "domain": "law", "source": "mined"}

label 1: one answer serves both. source: mined, feedback (labelled by people), shadow.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from nearhit.encoder.base import Encoder
from nearhit.errors import ConfigError
from nearhit_training import console
from nearhit_training.asking import Asker, estimate, for_each
from nearhit_training.endpoint import ChatClient
from nearhit_training.feedback import FeedbackLine, read_feedback
from nearhit_training.files import write_text
from nearhit_training.filters import Rule
from nearhit_training.journal import Journal
from nearhit_training.judge import Judge, Verdict
from nearhit_training.pairs import Pair, PairReader, Range, spread, unique
from nearhit_training.questions import read_held_out, read_questions

_EXAMPLES: Final = """examples:
  nearhit-train mine reddit.jsonl --endpoint http://localhost:8000/v1 --model m \\
      --similarity 0.6 0.97 --max-pairs 5000 --out pairs.jsonl --dry-run
  nearhit-train mine --feedback export.jsonl --endpoint http://localhost:8000/v1 --model m \\
      --held-out open/*.jsonl --out traffic.jsonl --yes
"""
_JUDGE_TOKENS: Final = 30
_RULES: Final[tuple[Rule, ...]] = (
    *("unanswered", "duplicate", "language", "leakage", "unjudged", "unencodable"),
    "contradictory",
)


def main(argv: Sequence[str] | None = None, encoder: Encoder | None = None) -> int:
    """Run the command; `encoder` takes the place of the one that the options name."""
    parser = argparse.ArgumentParser(
        prog="nearhit-train mine",
        description="Label pairs of real questions with the current encoder and a judge.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("questions", type=Path, nargs="*", help="JSON lines with `query`, or *.txt")
    parser.add_argument("--feedback", type=Path, nargs="+", default=[], metavar="FILE")
    parser.add_argument(
        "--ranks",
        type=read_ranks,
        default=read_ranks("1-5,10,20,50"),
        help="which neighbours, the closest is 1 (default 1-5,10,20,50)",
    )
    parser.add_argument(
        "--similarity",
        type=console.share,
        nargs=2,
        default=[0.55, 0.99],
        metavar=("FROM", "TO"),
        help="of a mined pair (default 0.55 0.99)",
    )
    parser.add_argument("--max-pairs", type=console.positive, default=20_000, metavar="N")
    parser.add_argument("--one-order", action="store_true", help="ask the judge once a pair")
    console.add_options(parser)
    options = parser.parse_args(argv)
    return console.run("mine", options, _mine(options, encoder))


async def _mine(options: argparse.Namespace, encoder: Encoder | None) -> int:
    prices, policy = console.prices_of(options), console.policy_of(options)
    judge = Judge(options.judge_model or options.model, both_orders=not options.one_order)
    if not options.questions and not options.feedback:
        raise ConfigError(
            "mine must be given question files or --feedback, got neither; "
            "see `nearhit-train mine --help`"
        )
    inputs = [*options.questions, *options.feedback, *options.held_out]
    console.check_out(options.out, inputs)
    questions = read_questions(options.questions, options.domain) if options.questions else []
    lines = read_feedback(options.feedback)
    held_out = read_held_out(options.held_out)
    counts: Counter[Rule] = Counter(dict.fromkeys(_RULES, 0))
    async with AsyncExitStack() as stack:
        if encoder is None:
            encoder = await stack.enter_async_context(console.opened_encoder(options))
        reader = PairReader(encoder, held_out, options.leak_similarity, counts)
        await reader.prepare()
        wanted = Range(options.ranks, *options.similarity)
        mined = await reader.mined(questions, wanted)
        mined = spread(mined, options.max_pairs, options.seed)
        pairs = await reader.reported(_said(lines, options.domain)) + mined
        pairs = unique(pairs, counts)
        journal = stack.enter_context(Journal(console.journal_path(options.out)))
        unknown = [pair for pair in pairs if pair.label is None]
        asks = [ask for pair in unknown for ask in judge.asks(pair.a, pair.b)]
        unpaid = [ask for ask in asks if ask.key not in journal]
        total = estimate(unpaid, _JUDGE_TOKENS, prices, options.concurrency)
        print(f"{len(pairs)} pairs, {len(unknown)} of them for the judge")
        if not console.may_start(total, prices, options):
            return 0
        client = await stack.enter_async_context(ChatClient(policy, console.key_of(options)))
        asker = Asker(client, journal, prices)
        verdicts = await for_each(
            unknown,
            lambda pair: judge.compare(asker, pair.a, pair.b),
            title="judge",
            concurrency=options.concurrency,
        )

    labelled = [pair for pair in pairs if pair.label is not None]
    labelled += _decided(unknown, verdicts, counts)
    rows = [json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in labelled]
    write_text(options.out, "".join(rows))
    same = sum(pair.label == 1 for pair in labelled)
    sources = Counter(pair.source for pair in labelled)
    results = {
        "pairs": len(labelled),
        "same": same,
        "sources": dict(sources),
        "encoder": encoder.fingerprint,
    }
    console.save_record(options, inputs, asker, counts, results)
    console.print_counts(
        counts, f"{same} paraphrases and {len(labelled) - same} hard negatives in {options.out}"
    )
    if counts["unanswered"]:
        print("some calls were not answered; run the same command again to complete the file")
    return 1 if counts["unanswered"] else 0


def read_ranks(text: str) -> tuple[int, ...]:
    """Read ranks such as ``1-5,10,50``.

    Raises:
        argparse.ArgumentTypeError: it is not a list of ranks from 1 upwards.
    """
    ranks: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise argparse.ArgumentTypeError(
                f"must be ranks from 1 upwards, got {part!r}; write for example 1-5,10,50"
            )
        ranks |= set(range(first, last + 1))
    return tuple(sorted(ranks))


def _said(lines: Sequence[FeedbackLine], domain: str) -> list[Pair]:
    """Turn a proxy's lines into pairs; their similarity is measured anew."""
    pairs = []
    for line in lines:
        label = None if line.label is None else int(line.label == "right")
        source = "shadow" if label is None else "feedback"
        pairs.append(Pair(line.question, line.stored_question, label, 0.0, domain, source))
    return pairs


def _decided(
    pairs: Sequence[Pair], verdicts: Sequence[Verdict | None], counts: Counter[Rule]
) -> list[Pair]:
    """Label pairs as the judge does; count those that it leaves open."""
    decided = []
    for pair, verdict in zip(pairs, verdicts, strict=True):
        if verdict in ("same", "different"):
            decided.append(replace(pair, label=int(verdict == "same")))
        else:
            counts["unanswered" if verdict is None else "unjudged"] += 1
    return decided


if __name__ == "__main__":
    raise SystemExit(main())
