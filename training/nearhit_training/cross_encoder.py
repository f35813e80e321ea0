"""The training loop of the verifier: examples in their order, checkpoints, checks on the way.

An own loop, not a trainer of sentence-transformers: the logit is a residual on the encoder's
cosine (an extra input), and batches hold pairs of like length, which halves the time of a step on
a CPU. The order of two texts and their surface are drawn anew for each pair.
"""

import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from nearhit_training.data import Pair, add_noise
from nearhit_training.evaluate import line, measure
from nearhit_training.files import write_json
from nearhit_training.network import Verifier, load_shipped, new_verifier

logger = logging.getLogger(__name__)

NUMBER_WORDS: Final = frozenset(
    """
two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand
million billion half double twice second third
""".split()
)
NEGATIONS: Final = frozenset(
    {"not", "no", "never", "without", "cannot", "t", "none", "nor", "except"}
)


@dataclass(frozen=True, slots=True)
class VerifierConfig:
    """How a cross-encoder is trained.

    Attributes:
        rank: rank of the adapter; 0 trains all weights but the word table.
        steps: optimiser steps.
        batch: pairs a step.
        rate: learning rate of the transformer, after a linear warm-up, falling to zero.
        head_rate: the same of the head.
        most_tokens: pairs with more tokens are left out.
        smoothing: how far labels are from 0 and 1, for labels that are wrong.
        epochs: how often pairs are drawn; the counts below hold for each.
        positives: pairs of one meaning drawn of each group.
        negatives: pairs of two meanings drawn of each group.
        outside: most pairs of the permitted sets.
        ordinary: most ordinary negatives.
        noise: most questions paired with themselves under surface noise.
        exchanged: most texts of which two words are exchanged.
        check_every: steps between checks.
        check: most pairs of a check set.
        bf16: 1 for products of the transformer in bfloat16.
        seed: of everything.
        threads: of torch.
    """

    rank: int = 0
    steps: int = 5400
    batch: int = 32
    rate: float = 5e-5
    head_rate: float = 2e-3
    most_tokens: int = 64
    smoothing: float = 0.02
    epochs: int = 2
    positives: int = 6
    negatives: int = 10
    outside: int = 25_000
    ordinary: int = 20_000
    noise: int = 3000
    exchanged: int = 6000
    check_every: int = 400
    check: int = 300
    bf16: int = 0
    seed: int = 7
    threads: int = 2


@dataclass(frozen=True, slots=True)
class Example:
    """A pair with the encoder's cosine."""

    pair: Pair
    similarity: float


def batch_of(
    pairs: Sequence[tuple[str, str]], similarities: Sequence[float], tokenizer: Tokenizer
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokenise pairs: ids, types, mask (n, tokens) and similarity (n,)."""
    rows = tokenizer.encode_batch(list(pairs))
    width = max(len(row.ids) for row in rows)

    def padded(values: list[list[int]]) -> Tensor:
        return torch.tensor([row + [0] * (width - len(row)) for row in values])

    return (
        padded([row.ids for row in rows]),
        padded([row.type_ids for row in rows]),
        padded([row.attention_mask for row in rows]),
        torch.tensor(similarities, dtype=torch.float32),
    )


def head_logits(
    model: Verifier, examples: Sequence[Example], tokenizer: Tokenizer
) -> NDArray[np.float64]:
    """Return what the head adds for each example, float64 (n,)."""
    model.eval()
    logits = np.zeros(len(examples))
    order = np.argsort([len(e.pair.a) + len(e.pair.b) for e in examples], kind="stable")
    with torch.inference_mode():
        for start in range(0, len(order), 64):
            some = [examples[i] for i in order[start : start + 64]]
            ids, types, mask, similarity = batch_of(
                [(e.pair.a, e.pair.b) for e in some], [e.similarity for e in some], tokenizer
            )
            logits[order[start : start + 64]] = model.head_logit(ids, types, mask, similarity)
    return logits


def train(
    examples: Sequence[Example],
    checks: Mapping[str, Sequence[Example]],
    base: Path,
    tokenizer: Tokenizer,
    out: Path,
    config: VerifierConfig,
    *,
    start: Path | None = None,
    resume: bool = False,
) -> Verifier:
    """Train on examples in their order; check and save as often as the config says.

    Args:
        examples: what to learn from; read once, in order, in windows sorted by length.
        checks: labelled sets that are only looked at.
        base: folder of the base weights.
        tokenizer: the base's, without padding.
        out: folder for checkpoint and curve.
        config: all settings.
        start: folder of a verifier to go on from; None grows a new one from the base.
        resume: continue from the checkpoint in `out`, if there is one.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    model = _begin(examples, base, tokenizer, config, start)
    model.bf16 = bool(config.bf16)
    trained = [p for p in model.parameters() if p.requires_grad]
    body = [p for p in model.bert.parameters() if p.requires_grad]
    head = [p for name, p in model.named_parameters() if not name.startswith("bert.")]
    optimiser = torch.optim.AdamW(
        [{"params": body, "lr": config.rate}, {"params": head, "lr": config.head_rate}],
        weight_decay=0.01,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _warm_up_then_fall(config.steps))
    batches = _batches(examples, tokenizer, config)
    curve: list[dict[str, Any]] = []
    first, checkpoint = 0, out / "checkpoint.pt"
    if resume and checkpoint.is_file():
        kept = torch.load(checkpoint, weights_only=False)
        model.load_state_dict(kept["trained"], strict=False)
        optimiser.load_state_dict(kept["optimiser"])
        schedule.load_state_dict(kept["schedule"])
        first, curve = kept["step"], kept["curve"]
    out.mkdir(parents=True, exist_ok=True)
    losses: list[float] = []
    began = time.monotonic()
    for step in range(first, min(config.steps, len(batches))):
        model.train()
        rng = random.Random(f"{config.seed}:{step}")  # noqa: S311 - a seeded draw
        some = [_varied(examples[index], rng) for index in batches[step]]
        ids, types, mask, similarity = batch_of(
            [(e.pair.a, e.pair.b) for e in some], [e.similarity for e in some], tokenizer
        )
        labels = torch.tensor([float(e.pair.label) for e in some])
        target = labels * (1 - 2 * config.smoothing) + config.smoothing
        loss = nn.functional.binary_cross_entropy_with_logits(
            model(ids, types, mask, similarity), target
        )
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        losses.append(loss.item())
        done = step + 1
        if done % 20 == 0:
            spent = (time.monotonic() - began) / (done - first)
            logger.info("step %d loss %.4f, %.2f s a step", done, np.mean(losses[-20:]), spent)
        if done % config.check_every == 0 or done == min(config.steps, len(batches)):
            curve.append({"step": done, "loss": float(np.mean(losses[-config.check_every :]))})
            curve[-1]["checks"] = _check(model, checks, tokenizer)
            write_json(out / "curve.json", curve)
            _save_checkpoint(checkpoint, model, optimiser, schedule, done, curve)
    return model


def _begin(
    examples: Sequence[Example],
    base: Path,
    tokenizer: Tokenizer,
    config: VerifierConfig,
    start: Path | None,
) -> Verifier:
    line_of = fit_line(
        np.array([e.similarity for e in examples]),
        np.array([float(e.pair.label) for e in examples]),
    )
    model = new_verifier(base, config.rank, *line_of)
    if start is not None:
        load_shipped(model, base, start)
        return model
    model.tokens.copy_(token_classes([e.pair for e in examples], tokenizer))
    _standardise(model, examples[:: max(1, len(examples) // 2000)], tokenizer)
    return model


def token_classes(pairs: Sequence[Pair], tokenizer: Tokenizer) -> Tensor:
    """Return the weight of each token, and whether it is a number or a negation.

    Returns:
        float32 (vocabulary, 3); the weight is log((1 + texts) / (1 + texts with the token)).
    """
    texts = sorted({text for pair in pairs for text in (pair.a, pair.b)})
    vocabulary = tokenizer.get_vocab()
    classes = np.zeros((len(vocabulary), 3), np.float32)
    for row in tokenizer.encode_batch(texts):
        classes[sorted(set(row.ids)), 0] += 1
    classes[:, 0] = np.log((1 + len(texts)) / (1 + classes[:, 0]))
    for token, index in vocabulary.items():
        is_number = any(c.isdigit() for c in token) or token in NUMBER_WORDS
        classes[index, 1:] = is_number, token in NEGATIONS
    return torch.from_numpy(classes)


def _standardise(model: Verifier, examples: Sequence[Example], tokenizer: Tokenizer) -> None:
    """Set mean and deviation of the features, as the untrained transformer gives them."""
    model.eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(examples), 64):
            some = examples[start : start + 64]
            pairs = [(e.pair.a, e.pair.b) for e in some]
            found.append(model.parts(*batch_of(pairs, [e.similarity for e in some], tokenizer))[1])
    features = torch.cat(found)
    model.centre.copy_(features.mean(0))
    model.spread.copy_(features.std(0) + 1e-3)


def _check(
    model: Verifier, checks: Mapping[str, Sequence[Example]], tokenizer: Tokenizer
) -> dict[str, Any]:
    """Measure verifier and plain cosine on each check set and on all pooled."""
    found: dict[str, Any] = {}
    pooled: list[tuple[float, float, int]] = []
    scale, shift = model.scale.item(), model.shift.item()
    for name, examples in checks.items():
        similarity = np.array([e.similarity for e in examples])
        labels = np.array([e.pair.label for e in examples])
        logit = head_logits(model, examples, tokenizer) + scale * similarity + shift
        pooled += zip(logit, similarity, labels, strict=True)
        found[name] = {
            "verifier": asdict(measure(logit, labels)),
            "cosine": asdict(measure(similarity, labels)),
        }
    logit, similarity, labels = (np.array(column) for column in zip(*pooled, strict=True))
    found["pooled"] = {
        "verifier": asdict(measure(logit, labels)),
        "cosine": asdict(measure(similarity, labels)),
    }
    logger.info("%s", line("pooled cosine", measure(similarity, labels)))
    logger.info("%s", line("pooled verifier", measure(logit, labels)))
    for name in checks:
        logger.info(
            "  %s auc %.3f, cosine %.3f",
            name,
            found[name]["verifier"]["auc"],
            found[name]["cosine"]["auc"],
        )
    return found


def _save_checkpoint(
    path: Path,
    model: Verifier,
    optimiser: Any,
    schedule: Any,
    step: int,
    curve: list[dict[str, Any]],
) -> None:
    wanted = {name for name, value in model.named_parameters() if value.requires_grad}
    wanted |= {"tokens", "centre", "spread"}
    unfinished = path.with_suffix(".unfinished")
    torch.save(
        {
            "trained": {k: v for k, v in model.state_dict().items() if k in wanted},
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "step": step,
            "curve": curve,
        },
        unfinished,
    )
    unfinished.replace(path)


def _batches(
    examples: Sequence[Example], tokenizer: Tokenizer, config: VerifierConfig
) -> list[list[int]]:
    """Cut windows of 16 batches, sort each by length, and shuffle its batches."""
    lengths = [
        len(row.ids) for row in tokenizer.encode_batch([(e.pair.a, e.pair.b) for e in examples])
    ]
    kept = list(range(len(examples)))
    rng = random.Random(config.seed)  # noqa: S311 - a seeded draw
    batches: list[list[int]] = []
    window = 16 * config.batch
    for start in range(0, len(kept), window):
        some = sorted(kept[start : start + window], key=lambda index: lengths[index])
        cut = [some[i : i + config.batch] for i in range(0, len(some), config.batch)]
        rng.shuffle(cut)
        batches += cut
    return batches


def _varied(example: Example, rng: random.Random) -> Example:
    """Swap the two texts half of the time, and change the look of some."""
    pair = example.pair
    a, b = (pair.a, pair.b) if rng.random() < 0.5 else (pair.b, pair.a)
    if rng.random() < 0.25:
        a = add_noise(a, rng)
    if rng.random() < 0.25:
        b = add_noise(b, rng)
    return Example(Pair(a, b, pair.label, pair.source), example.similarity)


def fit_line(similarities: NDArray[np.float64], labels: NDArray[np.float64]) -> tuple[float, float]:
    """Fit logit = scale * similarity + shift by Newton steps."""
    x = np.stack([similarities, np.ones_like(similarities)], 1).astype(np.float64)
    weights = np.zeros(2)
    for _ in range(50):
        chance = 1 / (1 + np.exp(-(x @ weights)))
        hessian = (x * (chance * (1 - chance))[:, None]).T @ x + 1e-3 * np.eye(2)
        weights += np.linalg.solve(hessian, x.T @ (labels - chance) - 1e-3 * weights)
    return float(weights[0]), float(weights[1])


def _warm_up_then_fall(steps: int) -> Any:
    warm = max(1, min(100, steps // 10))
    return lambda step: min((step + 1) / warm, max(0.02, 1 - step / steps))
