r"""Train the verifier: a cross-encoder grown from the encoder's base, a residual on its cosine.

    nearhit-train verifier --groups groups/ --pairs train/ --split split.json --out build/cross
    nearhit-train verifier ... --out build/cross --resume     continue after a kill
    nearhit-train verifier ... --start build/verifier --rate 3e-5 --seed 9    go on from a verifier

Then `shrink` makes of the checkpoint what ships, and `calibrate` gives it its thresholds.

Here is what it learns from; `cross_encoder` holds the loop. LOG.md says how far it came.
"""

import argparse
import json
import platform
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer

from nearhit.encoder.files import sha256_file
from nearhit.encoder.lora import ADAPTER_FILES
from nearhit.encoder.weights import DEFAULT_BASE, base_folder, model_folder
from nearhit.verifier.weights import WEIGHTS_FILE
from nearhit_training import mixture
from nearhit_training.cross_encoder import Example, VerifierConfig, train
from nearhit_training.curves import draw_verifier
from nearhit_training.data import (
    Pair,
    read_groups,
    refuse_held_out,
    sha256_texts,
    test_pairs,
    without_held_out,
)
from nearhit_training.embed import Vectors, adapted_encoder, embed_once, open_tokenizer
from nearhit_training.files import write_json
from nearhit_training.split import Split, read_split

_MAX_TOKENS: Final = 256  # of one text


def draw_pairs(
    split: Split, folder: Path | None, config: VerifierConfig, embed: Callable[[Any], Vectors]
) -> list[Pair]:
    """Draw what is learnt, in its order; nothing that is held out.

    Args:
        split: the groups.
        folder: of permitted sets and unlabelled questions, if there is one.
        config: its seed and `most_tokens`.
        embed: gives vectors of texts.
    """
    held = [text for group in (*split.dev, *split.test) for text in group.texts]
    pairs = [
        pair
        for epoch in range(config.epochs)
        for pair in _draw_epoch(split, folder, config, embed, held, config.seed + epoch)
    ]
    refuse_held_out((text for pair in pairs for text in (pair.a, pair.b)), held)
    return pairs


def _draw_epoch(
    split: Split,
    folder: Path | None,
    config: VerifierConfig,
    embed: Callable[[Any], Vectors],
    held: Sequence[str],
    seed: int,
) -> list[Pair]:
    rng = random.Random(seed)  # noqa: S311 - a seeded draw
    others: list[Pair] = []
    if folder is not None:
        others = mixture.outside_pairs(folder, rng)
        ordinary = mixture.ordinary_texts(split.train, folder, rng)
        others = rng.sample(others, min(config.outside, len(others)))
        pool = embed(text for some in ordinary.values() for text in some)
        negatives = config.ordinary
        others += mixture.ordinary_negatives(ordinary, split.train, pool, negatives, rng)
        questions = ordinary["neighbours/questions"]
        others += mixture.trivial_positives(questions, config.noise, rng)
        others += mixture.exchanged_pairs(split.train, questions, config.exchanged, rng)
        others = without_held_out(others, held)
    count = (config.positives, config.negatives)
    return mixture.in_order(mixture.authored_pairs(split.train, count, rng), others, rng)


def main(argv: Sequence[str] | None = None) -> int:
    """Train, with checkpoints and a curve."""
    parser = argparse.ArgumentParser(
        prog="nearhit-train verifier",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--groups", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, help="folder of permitted sets and questions")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", default=DEFAULT_BASE)
    parser.add_argument("--adapter", help="of the encoder that serves: a folder or hub name")
    parser.add_argument("--data-dir", type=Path, default=Path(".nearhit"))
    for field in fields(VerifierConfig):
        name = field.name.replace("_", "-")
        parser.add_argument(f"--{name}", type=type(field.default), default=field.default)
    parser.add_argument("--start", type=Path, help="folder of a verifier to go on from")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args(argv)
    config = VerifierConfig(**{f.name: getattr(options, f.name) for f in fields(VerifierConfig)})
    torch.set_num_threads(config.threads)
    split = read_split(options.split, read_groups(options.groups))
    base = base_folder(options.base, options.data_dir)
    bert = adapted_encoder(base, options.adapter)
    tokenizer = open_tokenizer(base, 2 * _MAX_TOKENS)
    embed = partial(embed_once, model=bert, tokenizer=tokenizer, kept=options.out / "vectors")

    pairs = draw_pairs(split, options.pairs, config, embed)
    pairs = _short_enough(pairs, tokenizer, config.most_tokens)
    sets: dict[str, list[Pair]] = {}
    for group in split.dev:
        sets.setdefault(f"groups_{group.part}", []).extend(test_pairs(group))
    if options.pairs is not None:
        sets |= mixture.check_sets(options.pairs)
    sets = {name: some[: config.check] for name, some in sets.items()}
    seen = [*pairs, *(pair for some in sets.values() for pair in some)]
    vectors = embed(text for pair in seen for text in (pair.a, pair.b))

    def examples(some: Sequence[Pair]) -> list[Example]:
        return [Example(pair, vectors.similarity(pair.a, pair.b)) for pair in some]

    checks = {name: examples(some) for name, some in sets.items()}
    trained_on = {text for pair in pairs for text in (pair.a, pair.b)}
    write_json(
        options.out / "run.json",
        {
            "config": asdict(config),
            "base": options.base,
            "adapter": _digest_of(options.adapter),
            "start": sha256_file(options.start / WEIGHTS_FILE) if options.start else None,
            "pairs": dict(Counter(pair.source for pair in pairs)),
            "sha256": split.digests() | {"training": sha256_texts(trained_on)},
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
        },
    )
    train(
        examples(pairs),
        checks,
        base,
        tokenizer,
        options.out,
        config,
        start=options.start,
        resume=options.resume,
    )
    curve = json.loads((options.out / "curve.json").read_text("utf-8"))
    draw_verifier(curve, options.out / "curve.png")
    return 0


def _digest_of(adapter: str | None) -> str | None:
    if adapter is None:
        return None
    weights = ADAPTER_FILES[1]
    return sha256_file(model_folder(adapter, ADAPTER_FILES, setting="--adapter") / weights)


def _short_enough(pairs: Sequence[Pair], tokenizer: Tokenizer, most: int) -> list[Pair]:
    rows = tokenizer.encode_batch([(pair.a, pair.b) for pair in pairs])
    return [pair for pair, row in zip(pairs, rows, strict=True) if len(row.ids) <= most]
