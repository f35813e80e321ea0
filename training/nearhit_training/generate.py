r"""Write query groups with a model: paraphrases and near misses for each seed question.

    nearhit-train generate seeds.jsonl --endpoint http://localhost:8000/v1 \
        --model Qwen/Qwen2.5-7B-Instruct --out groups.jsonl --held-out eval/*.jsonl --dry-run

Stages, in order: drop seeds that repeat or are held out; ask for a draft of each (one repair
round); drop texts by their words, then by their vectors; ask the judge about what is left; write.
Cheap filters come before what costs money. Every reply is in groups.journal.jsonl before it is
used: after a kill the same command goes on, and nothing is paid for twice. groups.run.json holds
config, versions, digests and counts. One group a line:

    {"id": "med-1", "domain": "medical", "topic": "type 2 diabetes", "query": "...",
     "paraphrases": ["...", ...], "near_misses": [{"text": "...", "kind": "entity"}, ...]}
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from nearhit.encoder.base import Encoder
from nearhit_training import console, shortcuts
from nearhit_training.asking import Asker, Estimate, Prices, estimate, for_each
from nearhit_training.candidates import Candidate, VectorFilter, WordFilter, put_together
from nearhit_training.drafts import (
    Draft,
    Order,
    Unusable,
    ask_for_draft,
    ask_to_repair,
    read_draft,
)
from nearhit_training.endpoint import ChatClient
from nearhit_training.files import write_text
from nearhit_training.filters import Rule
from nearhit_training.journal import Journal
from nearhit_training.judge import Judge
from nearhit_training.questions import Question, read_held_out, read_questions

_EXAMPLES: Final = """examples:
  what would it cost?
    nearhit-train generate seeds.jsonl --endpoint https://api.example.com/v1 --model small-model \\
        --price-in 0.15 --price-out 0.60 --out groups.jsonl --dry-run
  a local model, nothing of the evaluation files
    nearhit-train generate seeds.txt --domain law --endpoint http://localhost:11434/v1 \\
        --model qwen2.5:7b --concurrency 2 --held-out open/*.jsonl --out law.jsonl --yes
"""
_TOKENS_A_TEXT: Final = 30  # of a usual draft, JSON around it included
_JUDGE_TOKENS: Final = 30
_RULES: Final[tuple[Rule, ...]] = (
    *("unanswered", "refused", "malformed", "duplicate", "language", "length", "constraint"),
    *("leakage", "near_duplicate", "judge", "unjudged", "emptied"),
)


def main(argv: Sequence[str] | None = None, encoder: Encoder | None = None) -> int:
    """Run the command; `encoder` takes the place of the one that the options name."""
    parser = argparse.ArgumentParser(
        prog="nearhit-train generate",
        description="Write paraphrases and near misses for seed questions with a model.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("seeds", type=Path, nargs="+", help="JSON lines with `query`, or *.txt")
    parser.add_argument("--paraphrases", type=console.positive, default=4, metavar="N")
    parser.add_argument("--near-misses", type=console.positive, default=4, metavar="N")
    parser.add_argument("--temperature", type=float, default=0.9, help="default %(default)s")
    parser.add_argument(
        "--near-duplicate-similarity",
        type=console.share,
        default=0.95,
        metavar="COSINE",
        help="from here on texts of two groups count as one (default %(default)s)",
    )
    parser.add_argument(
        "--no-encoder",
        action="store_true",
        help="find repeats and held-out texts by their words alone",
    )
    console.add_options(parser)
    options = parser.parse_args(argv)
    return console.run("generate", options, _generate(options, encoder))


async def _generate(options: argparse.Namespace, encoder: Encoder | None) -> int:
    prices, policy = console.prices_of(options), console.policy_of(options)
    order = Order(
        options.model,
        options.paraphrases,
        options.near_misses,
        options.temperature,
        options.seed,
    )
    judge = Judge(options.judge_model or options.model)
    console.check_out(options.out, [*options.seeds, *options.held_out])
    questions = read_questions(options.seeds, options.domain)
    held_out = read_held_out(options.held_out)
    counts: Counter[Rule] = Counter(dict.fromkeys(_RULES, 0))
    async with AsyncExitStack() as stack:
        if encoder is None and not options.no_encoder:
            encoder = await stack.enter_async_context(console.opened_encoder(options))
        words = WordFilter(held_out)
        vectors = None
        if encoder:
            vectors = await VectorFilter.of(
                encoder, held_out, options.leak_similarity, options.near_duplicate_similarity
            )
        seeds = words.unused(questions, counts)
        if vectors:
            seeds = await vectors.unused(seeds, counts)
        journal = stack.enter_context(Journal(console.journal_path(options.out)))
        total = _estimate(seeds, order, judge, journal, prices, options.concurrency)
        print(f"{len(seeds)} of {len(questions)} seeds are usable")
        if not console.may_start(total, prices, options):
            return 0
        client = await stack.enter_async_context(ChatClient(policy, console.key_of(options)))
        asker = Asker(client, journal, prices)

        drafts = await _write_drafts(seeds, order, asker, options.concurrency, counts)
        candidates = words.fitting(seeds, drafts, counts)
        if vectors:
            candidates = await vectors.fitting(candidates, counts)
        candidates = await _judged(seeds, candidates, judge, asker, options.concurrency, counts)

    groups = put_together(seeds, drafts, candidates, counts)
    lines = [json.dumps(group, ensure_ascii=False) + "\n" for group in groups]
    write_text(options.out, "".join(lines))
    found = shortcuts.measure(
        (g["query"], g["paraphrases"], [miss["text"] for miss in g["near_misses"]]) for g in groups
    )
    results = {
        "seeds": len(questions),
        "groups": len(groups),
        "kinds": dict(Counter(c.kind for c in candidates if c.kind)),
        "shortcut_auc": asdict(found),
        "encoder": encoder.fingerprint if encoder else None,
    }
    console.save_record(options, [*options.seeds, *options.held_out], asker, counts, results)
    _report(counts, groups, found, options.out)
    return 1 if counts["unanswered"] else 0


async def _write_drafts(
    seeds: Sequence[Question],
    order: Order,
    asker: Asker,
    concurrency: int,
    counts: Counter[Rule],
) -> list[Draft | None]:
    """Ask for all drafts; a seed without a usable one has None and is counted."""

    async def write(position: int) -> Draft | Rule:
        ask = ask_for_draft(seeds[position], order, position)
        for last in (False, True):
            reply = await asker.ask(ask)
            if reply.refused:
                return "refused"
            try:
                if reply.truncated:
                    raise Unusable("it was cut off: write shorter texts")
                return read_draft(reply.text, order)
            except Unusable as fault:
                if not last:
                    ask = ask_to_repair(ask, reply.text, str(fault))
        return "malformed"

    written = await for_each(range(len(seeds)), write, title="drafts", concurrency=concurrency)
    drafts: list[Draft | None] = []
    for draft in written:
        if isinstance(draft, Draft):
            drafts.append(draft)
        else:
            counts[draft or "unanswered"] += 1
            drafts.append(None)
    return drafts


async def _judged(
    seeds: Sequence[Question],
    candidates: Sequence[Candidate],
    judge: Judge,
    asker: Asker,
    concurrency: int,
    counts: Counter[Rule],
) -> list[Candidate]:
    """Keep what the judge reads as it was meant."""
    verdicts = await for_each(
        candidates,
        lambda candidate: judge.compare(asker, seeds[candidate.seed].text, candidate.text),
        title="judge",
        concurrency=concurrency,
    )
    kept = []
    for candidate, verdict in zip(candidates, verdicts, strict=True):
        if verdict is None:
            counts["unanswered"] += 1
        elif verdict == "unclear":
            counts["unjudged"] += 1
        elif (verdict == "same") != (candidate.kind is None):
            counts["judge"] += 1
        else:
            kept.append(candidate)
    return kept


def _estimate(
    seeds: Sequence[Question],
    order: Order,
    judge: Judge,
    journal: Journal,
    prices: Prices,
    concurrency: int,
) -> Estimate:
    """Estimate drafts and verdicts that are not in the journal, as if no text were filtered."""
    texts = order.paraphrases + order.near_misses
    drafts = [ask_for_draft(seed, order, position) for position, seed in enumerate(seeds)]
    verdicts = [ask for seed in seeds for ask in judge.asks(seed.text, seed.text) * texts]
    unpaid = [ask for ask in drafts if ask.key not in journal]
    verdicts = verdicts[journal.count("judge") :]
    return estimate(unpaid, _TOKENS_A_TEXT * texts, prices, concurrency) + estimate(
        verdicts, _JUDGE_TOKENS, prices, concurrency
    )


def _report(
    counts: Counter[Rule],
    groups: Sequence[dict[str, Any]],
    found: shortcuts.Shortcuts,
    out: Path,
) -> None:
    same = sum(len(group["paraphrases"]) for group in groups)
    other = sum(len(group["near_misses"]) for group in groups)
    console.print_counts(
        counts, f"{len(groups)} groups with {same} paraphrases and {other} near misses in {out}"
    )
    print(
        f"shortcuts (AUC, 0.5 tells nothing): word overlap {found.word_overlap:.2f}, "
        f"lower case {found.lower_case:.2f}, length {found.length:.2f}"
    )
    for warning in found.warnings():
        print(f"warning: {warning}")
    if counts["unanswered"]:
        print("some calls were not answered; run the same command again to complete the file")


if __name__ == "__main__":
    raise SystemExit(main())
