"""Build the served files: merge, write the graph, compare it with its float32 reference.

Imports onnx, which serving never does.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from nearhit.encoder.blocks import Architecture
from nearhit.encoder.fidelity import PROBES, Fidelity, measure
from nearhit.encoder.graph import build_graph
from nearhit.encoder.lora import count_parameters, merge_adapter
from nearhit.encoder.recipe import GRAPH_FILE, MAX_TOKENS, TOKENIZER_FILE, Recipe, Sources
from nearhit.encoder.tokens import open_tokenizer
from nearhit.encoder.weights import BASE_FILES, base_folder, check_pooling, read_tensors
from nearhit.errors import EncoderError
from nearhit.verifier.build import build_verifier
from nearhit.verifier.weights import read_description


@dataclass(frozen=True, slots=True)
class Built:
    """What the manifest says of the files."""

    architecture: Architecture
    parameters: dict[str, int]
    fidelity: Fidelity
    thresholds: dict[str, float]
    verifier_error: float


def build_files(recipe: Recipe, sources: Sources, data_dir: Path, folder: Path) -> Built:
    """Write graph and tokenizer into an empty folder.

    Raises:
        EncoderError: the base cannot be had, the parts do not fit, or the result is no good.
    """
    source = base_folder(recipe.base, data_dir)
    check_pooling(source)
    architecture = Architecture.from_config(_read_config(source / BASE_FILES[0]))
    if architecture.positions < MAX_TOKENS:
        raise EncoderError(
            f"encoder.base must take {MAX_TOKENS} tokens, got max_position_embeddings "
            f"{architecture.positions}; choose another base"
        )
    weights = {
        name.removeprefix("bert."): tensor
        for name, tensor in read_tensors(source / BASE_FILES[2]).items()
    }
    plain = weights
    parameters = {"base": sum(tensor.size for tensor in weights.values()), "adapter": 0}
    if sources.adapter is not None:
        weights = merge_adapter(weights, sources.adapter)
        parameters["adapter"] = count_parameters(sources.adapter)
    onnx.save(build_graph(weights, architecture, recipe.precision), folder / GRAPH_FILE)
    shutil.copyfile(source / BASE_FILES[1], folder / TOKENIZER_FILE)
    rows = _probes(folder / TOKENIZER_FILE, architecture.vocabulary)
    with tempfile.TemporaryDirectory(prefix="nearhit-") as unserved:
        reference = Path(unserved) / GRAPH_FILE
        onnx.save(build_graph(weights, architecture, "fp32"), reference)
        fidelity = measure(folder / GRAPH_FILE, reference, rows, recipe.precision)
    built = Built(architecture, parameters, fidelity, {}, 0.0)
    if sources.verifier is not None:
        description = read_description(sources.verifier)
        error = build_verifier(plain, architecture, sources.verifier, recipe.precision, folder)
        calibrated = description.encoder == sources.digests
        thresholds = description.calibration.thresholds if calibrated else {}
        built = replace(
            built,
            thresholds={f"{precision:g}": value for precision, value in thresholds.items()},
            verifier_error=error,
        )
    return built


def _probes(tokenizer_file: Path, vocabulary: int) -> list[list[int]]:
    """Token ids of the probes, and of all of them as one text of the greatest length."""
    tokenizer = open_tokenizer(tokenizer_file)
    if tokenizer.get_vocab_size() > vocabulary:
        raise EncoderError(
            f"encoder.base tokenizer.json must have at most {vocabulary} tokens, got "
            f"{tokenizer.get_vocab_size()}; check that it belongs to model.safetensors"
        )
    longest = " ".join(PROBES * 2)
    return [text.ids[:MAX_TOKENS] for text in tokenizer.encode_batch([*PROBES, longest])]


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise EncoderError(f"{path} must be JSON, got {error}; fetch the base again") from error
    if not isinstance(config, dict):
        raise EncoderError(f"{path} must be a JSON object; fetch the base again")
    return config
