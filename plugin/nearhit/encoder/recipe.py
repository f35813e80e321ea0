"""What an artefact is made of, and the fingerprint that follows from it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from nearhit.encoder.files import sha256_file
from nearhit.encoder.lora import ADAPTER_FILES
from nearhit.encoder.weights import BASE_FILES, DEFAULT_BASE, base_digests, model_folder
from nearhit.errors import EncoderError
from nearhit.verifier.weights import VERIFIER_FILES, read_description

Precision: TypeAlias = Literal["fp16", "int8"]

GRAPH_FILE: Final = "encoder.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"
VERIFIER_FILE: Final = "verifier.onnx"
# The adapter that ships is used on the base that it was trained on, the verifier that ships where
# the encoder is the one that it was calibrated for.
AUTO: Final = "auto"
SHIPPED_ADAPTER: Final = Path(__file__).parents[1] / "models" / "adapter"
SHIPPED_VERIFIER: Final = Path(__file__).parents[1] / "models" / "verifier"
ADAPTER_RUN: Final = "run.json"  # how an adapter was trained; `base_sha256` in it says on what

# Counts up whenever the same inputs give other vectors: old entries are then not compared.
BUILDER: Final = 2
# What sentence-transformers obeys for this model; it was trained on 128, BERT ends at 512.
MAX_TOKENS: Final = 256


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an operator asks for.

    Attributes:
        base: `DEFAULT_BASE`, a folder, or a hub name.
        adapter: a folder that peft saved, a hub name, `AUTO`, or None for the bare base.
        precision: number format of the weights, see `graph`.
        multilingual: whether base and adapter were trained on more languages than English.
        verifier: a folder, `AUTO`, or None for none.
    """

    base: str = DEFAULT_BASE
    adapter: str | None = None
    precision: Precision = "fp16"
    multilingual: bool = False
    verifier: str | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """What a recipe comes to.

    Attributes:
        digests: sha256 of each file that goes into the encoder.
        adapter: folder of the adapter, if there is one.
        fingerprint: 64 hexadecimal digits over files, builder, number format and limits: of
            what makes a vector. The verifier makes none.
        verifier: folder of the verifier, if there is one.
        verifier_digests: sha256 of each of its files.
    """

    digests: Mapping[str, str]
    adapter: Path | None
    fingerprint: str
    verifier: Path | None
    verifier_digests: Mapping[str, str]

    @property
    def folder_name(self) -> str:
        """A name of its own for what these sources come to."""
        name = self.fingerprint[:16]
        if self.verifier_digests:
            key = json.dumps([BUILDER, dict(self.verifier_digests)], sort_keys=True)
            name += "-" + hashlib.sha256(key.encode()).hexdigest()[:8]
        return name


def find_sources(recipe: Recipe, data_dir: Path) -> Sources:
    """Find what a recipe names; the default base is known by its digest and not looked for.

    Raises:
        EncoderError: the base or the adapter cannot be had.
    """
    digests = base_digests(recipe.base, data_dir)
    adapter = _find_adapter(recipe, digests)
    if adapter is not None:
        digests |= {name: sha256_file(adapter / name) for name in ADAPTER_FILES}
    key = {
        "inputs": digests,
        "builder": BUILDER,
        "precision": recipe.precision,
        "max_tokens": MAX_TOKENS,
        "multilingual": recipe.multilingual,
    }
    fingerprint = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    verifier = _find_verifier(recipe, digests)
    verifier_digests = (
        {} if verifier is None else {name: sha256_file(verifier / name) for name in VERIFIER_FILES}
    )
    return Sources(digests, adapter, fingerprint, verifier, verifier_digests)


def _find_adapter(recipe: Recipe, base: Mapping[str, str]) -> Path | None:
    if recipe.adapter is None:
        return None
    if recipe.adapter == AUTO:
        run = SHIPPED_ADAPTER / ADAPTER_RUN
        if run.is_file() and json.loads(run.read_text("utf-8"))["base_sha256"] == base:
            return SHIPPED_ADAPTER
        return None
    return model_folder(recipe.adapter, ADAPTER_FILES, setting="encoder.adapter")


def _find_verifier(recipe: Recipe, digests: Mapping[str, str]) -> Path | None:
    if recipe.verifier is None:
        return None
    if recipe.verifier == AUTO:
        is_there = (SHIPPED_VERIFIER / VERIFIER_FILES[0]).is_file()
        if is_there and read_description(SHIPPED_VERIFIER).encoder == digests:
            return SHIPPED_VERIFIER
        return None
    folder = model_folder(recipe.verifier, VERIFIER_FILES, setting="encoder.verifier")
    if read_description(folder).base != digests[BASE_FILES[2]]:
        raise EncoderError(
            f"encoder.verifier must be grown from encoder.base {recipe.base}, got {folder}, grown "
            f"from another; train one on this base or choose its base"
        )
    return folder
