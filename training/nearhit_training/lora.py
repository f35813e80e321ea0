r"""Train the encoder's adapter.

    nearhit-train lora --recipe best --groups groups/ --split split.json --out build/adapter
    nearhit-train lora --recipe reference --base BASE_L12 --groups groups/ --split split.json \
        --out build/reference

Two recipes, both rank 8, alpha 16, on query and value, over all domains (`--domains` picks some):

    reference  triplet loss (query, paraphrase, near miss), euclidean, margin 5 on raw means,
               1 epoch, as published for all-MiniLM-L12-v2
    best       squared error where paraphrases are less similar than `same`, near misses more than
               `other` and other groups' texts more than `apart`, so that the scale is fixed, and
               a little of a contrastive loss, which looks at the order alone

An own loop: the trainer of sentence-transformers needs the datasets package, for 3,000 rows.
"""

import argparse
import json
import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertModel

from nearhit.encoder.weights import DEFAULT_BASE, base_digests, base_folder
from nearhit.errors import ConfigError
from nearhit_training.curves import draw_losses
from nearhit_training.data import Group, add_noise, read_groups, refuse_held_out, test_pairs
from nearhit_training.embed import embed, open_tokenizer
from nearhit_training.evaluate import Quality, line, measure
from nearhit_training.files import write_json
from nearhit_training.split import read_split

logger = logging.getLogger(__name__)

_CHECKPOINT: Final = "checkpoint.pt"


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """How an adapter is trained.

    Attributes:
        recipe: ``reference`` or ``best``, see the module's docstring.
        rank: rank of the adapter.
        alpha: B A is multiplied by alpha / rank.
        batch: groups a step.
        epochs: passes over the groups.
        rate: learning rate after a warm-up, falling to zero.
        margin: of the reference recipe's triplet loss.
        same: similarity that paraphrases should at least have.
        other: similarity that near misses should at most have.
        apart: the same of other groups' texts.
        misses: near misses drawn of each group.
        contrast: weight of the contrastive loss beside the squared errors.
        scale: of similarities in it.
        bf16: 1 for products of the transformer in bfloat16.
        check_every: steps between checks.
        seed: of everything.
        threads: of torch.
    """

    recipe: str = "best"
    rank: int = 8
    alpha: int = 16
    batch: int = 32
    epochs: int = 2
    rate: float = 3e-3
    margin: float = 5.0
    same: float = 0.92
    other: float = 0.15
    apart: float = 0.0
    misses: int = 2
    contrast: float = 0.3
    scale: float = 20.0
    bf16: int = 0
    check_every: int = 100
    seed: int = 7
    threads: int = 2


PRESETS: Final[Mapping[str, AdapterConfig]] = {
    "reference": AdapterConfig("reference", batch=16, epochs=1, rate=1e-3),
    "best": AdapterConfig("best"),
}


def adapted(base: Path, config: AdapterConfig) -> Any:
    """Put a fresh adapter on a base."""
    bert = BertModel.from_pretrained(base, add_pooling_layer=False)
    lora = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=["query", "value"], bias="none"
    )
    return get_peft_model(bert, lora)


def vectors_of(model: nn.Module, texts: Sequence[str], tokenizer: Tokenizer) -> Tensor:
    """Return the mean over tokens of each text, with gradients, (n, H)."""
    rows = tokenizer.encode_batch(list(texts))
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows])
    mask = torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows])
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    kept = mask.unsqueeze(-1).float()
    return (hidden * kept).sum(1) / kept.sum(1)


def loss_of(
    model: Any,
    groups: Sequence[Group],
    tokenizer: Tokenizer,
    config: AdapterConfig,
    rng: random.Random,
) -> Tensor:
    """Draw a query, a paraphrase and a near miss of each group, and take the recipe's loss."""
    if config.recipe == "reference":
        texts = _draw(groups, 1, 0.0, rng)
        vectors = vectors_of(model, texts, tokenizer)
        anchor, positive, negative = vectors[0::3], vectors[1::3], vectors[2::3]
        return nn.functional.triplet_margin_loss(anchor, positive, negative, margin=config.margin)
    texts = _draw(groups, config.misses, 0.2, rng)
    with torch.autocast("cpu", torch.bfloat16, enabled=bool(config.bf16)):
        vectors = vectors_of(model, texts, tokenizer).float()
    unit = nn.functional.normalize(vectors, dim=-1)
    near = unit @ unit.T
    size = 2 + config.misses
    owner = torch.arange(len(groups)).repeat_interleave(size)
    is_same = (torch.arange(len(texts)) % size) < 2
    inside = owner[:, None] == owner[None, :]
    both = is_same[:, None] & is_same[None, :]
    first = torch.arange(0, len(texts), size)
    duplicates = near[first, first + 1]
    misses = near[inside & (is_same[:, None] & ~is_same[None, :])]
    strangers = near[~inside]
    error = (duplicates - config.same).clamp(max=0).square().mean()
    error = error + (misses - config.other).clamp(min=0).square().mean()
    error = error + (strangers - config.apart).clamp(min=0).square().mean()
    if not config.contrast:
        return error
    # Each of the two against its near misses and all strangers.
    rows = torch.cat([first, first + 1])
    wanted = torch.cat([first + 1, first])
    scores = config.scale * near[rows].masked_fill((inside & both)[rows], -torch.inf)
    right = config.scale * near[rows, wanted]
    scores = torch.cat([right[:, None], scores], 1)
    target = torch.zeros(len(rows), dtype=torch.long)
    return error + config.contrast * nn.functional.cross_entropy(scores, target)


def _draw(groups: Sequence[Group], misses: int, noise: float, rng: random.Random) -> list[str]:
    """Draw two of the same and some near misses of each group, some of them with surface noise."""
    texts = []
    for group in groups:
        drawn = rng.sample([group.query, *group.paraphrases], 2)
        drawn += rng.sample(group.near_misses, misses)
        texts += [add_noise(text, rng) if rng.random() < noise else text for text in drawn]
    return texts


def separation(model: Any, groups: Sequence[Group], tokenizer: Tokenizer) -> dict[str, Quality]:
    """Measure the cosine on the groups of each domain and on all."""
    texts = {text for group in groups for text in group.texts}
    vectors = embed(texts, model, tokenizer)
    found: dict[str, tuple[list[float], list[int]]] = {}
    for group in groups:
        for name in (group.part, "all"):
            values, labels = found.setdefault(name, ([], []))
            for pair in test_pairs(group):
                values.append(vectors.similarity(pair.a, pair.b))
                labels.append(pair.label)
    return {name: measure(values, labels) for name, (values, labels) in sorted(found.items())}


def train(
    groups: Sequence[Group],
    dev: Sequence[Group],
    base: Path,
    out: Path,
    config: AdapterConfig,
    *,
    resume: bool = False,
) -> Any:
    """Train an adapter and save it in peft's format, with its config and curve."""
    if config.recipe not in PRESETS:
        raise ConfigError(f"recipe must be one of {', '.join(PRESETS)}, got {config.recipe!r}")
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    tokenizer = open_tokenizer(base, 128)
    model = adapted(base, config)
    trained = [p for p in model.parameters() if p.requires_grad]
    total = sum(p.numel() for p in model.parameters())
    size = sum(p.numel() for p in trained)
    print(f"trainable parameters: {size:,} of {total:,} ({size / total:.2%})")
    optimiser = torch.optim.AdamW(trained, lr=config.rate)
    rng = random.Random(config.seed)  # noqa: S311 - a seeded draw
    order = [g for _ in range(config.epochs) for g in rng.sample(list(groups), len(groups))]
    batches = [order[i : i + config.batch] for i in range(0, len(order), config.batch)]
    warm = max(1, len(batches) // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, max(0.02, 1 - step / len(batches)))
    )
    out.mkdir(parents=True, exist_ok=True)
    losses: list[tuple[int, float]] = []
    curve: list[tuple[int, float]] = []
    first = 0
    if resume and (out / _CHECKPOINT).is_file():
        kept = torch.load(out / _CHECKPOINT, weights_only=False)
        model.load_state_dict(kept["trained"], strict=False)
        optimiser.load_state_dict(kept["optimiser"])
        schedule.load_state_dict(kept["schedule"])
        first, losses, curve = kept["step"], kept["losses"], kept["curve"]
    for step in range(first, len(batches)):
        model.train()
        draw = random.Random(f"{config.seed}:{step}")  # noqa: S311 - a seeded draw
        loss = loss_of(model, batches[step], tokenizer, config, draw)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        losses.append((step + 1, loss.item()))
        if (step + 1) % config.check_every == 0 or step + 1 == len(batches):
            found = separation(model, dev[:120], tokenizer)["all"]
            curve.append((step + 1, found.auc))
            mean = np.mean([value for _, value in losses[-config.check_every :]])
            logger.info(
                "step %d loss %.4f dev auc %.3f d' %.2f",
                step + 1,
                mean,
                found.auc,
                found.separation,
            )
            wanted = {name for name, value in model.named_parameters() if value.requires_grad}
            torch.save(
                {
                    "trained": {k: v for k, v in model.state_dict().items() if k in wanted},
                    "optimiser": optimiser.state_dict(),
                    "schedule": schedule.state_dict(),
                    "step": step + 1,
                    "losses": losses,
                    "curve": curve,
                },
                out / f".{_CHECKPOINT}",
            )
            (out / f".{_CHECKPOINT}").replace(out / _CHECKPOINT)
    model.save_pretrained(str(out))
    # peft writes where the base was on this machine, which means nothing elsewhere.
    written = json.loads((out / "adapter_config.json").read_text("utf-8"))
    written["base_model_name_or_path"] = base.name
    write_json(out / "adapter_config.json", written)
    (out / "README.md").unlink(missing_ok=True)  # peft's empty card
    draw_losses(losses, curve, out / "curve.png")
    return model


def main(argv: Sequence[str] | None = None) -> int:
    """Train, save and measure an adapter beside the bare base."""
    parser = argparse.ArgumentParser(prog="nearhit-train lora", description=__doc__)
    parser.add_argument("--recipe", choices=tuple(PRESETS), default="best")
    parser.add_argument("--groups", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", default=DEFAULT_BASE)
    parser.add_argument("--data-dir", type=Path, default=Path(".nearhit"))
    parser.add_argument("--domains", nargs="*", help="train on these only")
    numbers = [field for field in fields(AdapterConfig) if field.name != "recipe"]
    for field in numbers:
        name = field.name.replace("_", "-")
        parser.add_argument(f"--{name}", type=type(field.default), help="overrides the recipe's")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args(argv)
    given = {field.name: getattr(options, field.name) for field in numbers}
    given = {name: value for name, value in given.items() if value is not None}
    config = replace(PRESETS[options.recipe], **given)
    began = time.monotonic()
    split = read_split(options.split, read_groups(options.groups))
    groups = [g for g in split.train if not options.domains or g.domain in options.domains]
    if not groups:
        raise ConfigError(f"--domains must name domains of the groups, got {options.domains}")
    held = [text for group in (*split.dev, *split.test) for text in group.texts]
    refuse_held_out((text for group in groups for text in group.texts), held)
    base = base_folder(options.base, options.data_dir)
    model = train(groups, split.dev, base, options.out, config, resume=options.resume)
    tokenizer = open_tokenizer(base, 128)
    ours = separation(model, split.test, tokenizer)
    with model.disable_adapter():
        bare = separation(model, split.test, tokenizer)
    for name in ours:
        print(line(f"{name} bare", bare[name]), f" margin {bare[name].margin:.3f}")
        print(line(f"{name} adapter", ours[name]), f" margin {ours[name].margin:.3f}")
    write_json(
        options.out / "run.json",
        {
            "config": asdict(config),
            "base": options.base,
            "base_sha256": base_digests(options.base, options.data_dir),
            "domains": options.domains,
            "groups": len(groups),
            "sha256": split.digests(),
            "versions": {"torch": torch.__version__},
            "seconds": round(time.monotonic() - began),
            "test": {n: {"bare": asdict(bare[n]), "adapter": asdict(ours[n])} for n in ours},
        },
    )
    return 0
