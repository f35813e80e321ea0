"""What an artefact is made of, and the fingerprint that follows from it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from nearhit.encoder.files import sha256_file
from nearhit.encoder.lora import ADAPTER_FILES
from nearhit.encoder.weights import DEFAULT_BASE, base_digests, model_folder

Precision: TypeAlias = Literal["fp16", "int8"]

GRAPH_FILE: Final = "encoder.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"

# Counts up whenever the same inputs give other vectors: old entries are then not compared.
BUILDER: Final = 2
# What sentence-transformers obeys for this model; it was trained on 128, BERT ends at 512.
MAX_TOKENS: Final = 256


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an operator asks for.

    Attributes:
        base: `DEFAULT_BASE`, a folder, or a hub name.
        adapter: a folder that peft saved, a hub name, or None for the bare base.
        precision: number format of the weights, see `graph`.
        multilingual: whether base and adapter were trained on more languages than English.
    """

    base: str = DEFAULT_BASE
    adapter: str | None = None
    precision: Precision = "fp16"
    multilingual: bool = False


@dataclass(frozen=True, slots=True)
class Sources:
    """What a recipe comes to.

    Attributes:
        digests: sha256 of each file that goes in.
        adapter: folder of the adapter, if there is one.
        fingerprint: 64 hexadecimal digits over files, builder, number format and limits.
    """

    digests: Mapping[str, str]
    adapter: Path | None
    fingerprint: str


def find_sources(recipe: Recipe, data_dir: Path) -> Sources:
    """Find what a recipe names; the default base is known by its digest and not looked for.

    Raises:
        EncoderError: the base or the adapter cannot be had.
    """
    digests = base_digests(recipe.base, data_dir)
    adapter = None
    if recipe.adapter is not None:
        adapter = model_folder(recipe.adapter, ADAPTER_FILES, setting="encoder.adapter")
        digests |= {name: sha256_file(adapter / name) for name in ADAPTER_FILES}
    key = {
        "inputs": digests,
        "builder": BUILDER,
        "precision": recipe.precision,
        "max_tokens": MAX_TOKENS,
        "multilingual": recipe.multilingual,
    }
    fingerprint = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return Sources(digests, adapter, fingerprint)
