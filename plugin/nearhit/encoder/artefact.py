"""The served files: built once from base and adapter, kept under the fingerprint of both.

``<data_dir>/artefacts/<fingerprint[:16]>/`` holds encoder.onnx, tokenizer.json and
manifest.json. The fingerprint is known before anything is built: it is the sha256 of what goes
in, not of what comes out, because two machines' matrix products may differ in a last bit that
no decision depends on.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import nearhit
from nearhit.encoder.files import filled_folder, sha256_file, sole_writer
from nearhit.encoder.lora import ADAPTER_FILES, merge_adapter
from nearhit.encoder.weights import (
    BASE_FILES,
    DEFAULT_BASE,
    base_digests,
    base_folder,
    check_pooling,
    model_folder,
    read_tensors,
)
from nearhit.errors import EncoderError

logger = logging.getLogger(__name__)

GRAPH_FILE: Final = "encoder.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"
MANIFEST_FILE: Final = "manifest.json"

# Counts up whenever the same inputs give other vectors: old entries are then not compared.
BUILDER: Final = 1
PRECISION: Final = "fp16 weights, fp32 arithmetic"
# What sentence-transformers obeys for this model; it was trained on 128, BERT ends at 512.
MAX_TOKENS: Final = 256


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artefact is made of.

    Attributes:
        fingerprint: 64 hexadecimal digits over `inputs`, builder, precision and limits.
        base: name or folder of the base, as the operator gave it.
        adapter: the same of the adapter, or None.
        inputs: sha256 of each file that went in.
        outputs: sha256 of each file beside the manifest.
        architecture: layers, heads and so on.
        dimension: length of a vector.
        max_tokens: longest text in tokens, [CLS] and [SEP] included.
        precision: number format of weights and arithmetic.
        builder: version of the graph's builder.
        nearhit: version that built it.
    """

    fingerprint: str
    base: str
    adapter: str | None
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    architecture: Mapping[str, float]
    dimension: int
    max_tokens: int
    precision: str
    builder: int
    nearhit: str


@dataclass(frozen=True, slots=True)
class Artefact:
    """A folder that is complete and has been verified."""

    path: Path
    manifest: Manifest


def ensure_artefact(
    data_dir: Path, base: str = DEFAULT_BASE, adapter: str | Path | None = None
) -> Artefact:
    """Return the artefact of a base and an adapter; build it when it is absent or damaged.

    Blocks: about 0.1 s when it is there, a few seconds when not, longer when the base must be
    fetched. Any number of processes may call it at once; one builds and the others wait.

    Args:
        data_dir: nearhit's data folder, made if absent.
        base: `DEFAULT_BASE`, a folder, or a hub name.
        adapter: a folder that peft saved, a hub name, or None for the bare base.

    Raises:
        EncoderError: the base or the adapter cannot be had, do not fit, or build badly.
    """
    inputs = base_digests(base, data_dir)
    lora = None
    if adapter is not None:
        lora = model_folder(str(adapter), ADAPTER_FILES, setting="encoder.adapter")
        inputs |= {name: sha256_file(lora / name) for name in ADAPTER_FILES}
    fingerprint = _fingerprint(inputs)
    final = data_dir / "artefacts" / fingerprint[:16]
    found = _verified(final, fingerprint)
    if found is not None:
        return found
    with sole_writer(final.parent):
        found = _verified(final, fingerprint)  # another process may have built it meanwhile
        if found is not None:
            return found
        logger.info("building encoder artefact %s from %s", fingerprint[:16], base)
        source = base_folder(base, data_dir)
        with filled_folder(final) as folder:
            architecture = _build(folder, source, lora)
            manifest = Manifest(
                fingerprint=fingerprint,
                base=base,
                adapter=None if adapter is None else str(adapter),
                inputs=inputs,
                outputs={n: sha256_file(folder / n) for n in (GRAPH_FILE, TOKENIZER_FILE)},
                architecture=architecture,
                dimension=int(architecture["hidden"]),
                max_tokens=MAX_TOKENS,
                precision=PRECISION,
                builder=BUILDER,
                nearhit=nearhit.__version__,
            )
            (folder / MANIFEST_FILE).write_text(json.dumps(asdict(manifest), indent=2), "utf-8")
    return Artefact(final, manifest)


def _fingerprint(inputs: Mapping[str, str]) -> str:
    key = {
        "inputs": dict(inputs),
        "builder": BUILDER,
        "precision": PRECISION,
        "max_tokens": MAX_TOKENS,
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _verified(folder: Path, fingerprint: str) -> Artefact | None:
    """Read a folder back; None when it is absent or is not what its manifest says."""
    if not folder.is_dir():
        return None
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST_FILE).read_text("utf-8")))
        intact = manifest.fingerprint == fingerprint and all(
            sha256_file(folder / name) == manifest.outputs[name]
            for name in (GRAPH_FILE, TOKENIZER_FILE)
        )
    except (OSError, ValueError, TypeError, KeyError):
        intact = False
    if not intact:
        logger.warning("encoder artefact in %s is damaged and will be built again", folder)
        return None
    return Artefact(folder, manifest)


def _build(folder: Path, source: Path, adapter: Path | None) -> dict[str, float]:
    """Write graph and tokenizer; return the architecture."""
    # onnx takes 0.1 s and 14 MB to import, and a proxy that finds its artefact never needs it.
    import onnx

    from nearhit.encoder.graph import Architecture, build_graph

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
    if adapter is not None:
        weights = merge_adapter(weights, adapter)
    onnx.save(build_graph(weights, architecture), folder / GRAPH_FILE)
    shutil.copyfile(source / BASE_FILES[1], folder / TOKENIZER_FILE)
    _check(folder, architecture.vocabulary)
    return asdict(architecture)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise EncoderError(f"{path} must be JSON, got {error}; fetch the base again") from error
    if not isinstance(config, dict):
        raise EncoderError(f"{path} must be a JSON object; fetch the base again")
    return config


def _check(folder: Path, vocabulary: int) -> None:
    """Run what was built: unit vectors, and the same alone as in a padded batch."""
    import numpy as np

    from nearhit.encoder.runtime import embed, open_session, open_tokenizer

    tokenizer = open_tokenizer(folder / TOKENIZER_FILE)
    if tokenizer.get_vocab_size() > vocabulary:
        raise EncoderError(
            f"encoder.base tokenizer.json must have at most {vocabulary} tokens, got "
            f"{tokenizer.get_vocab_size()}; check that it belongs to model.safetensors"
        )
    session = open_session(folder / GRAPH_FILE, threads=1)
    question = "How do I reset the password of my account?"
    texts = ["hi", question, " ".join([question] * MAX_TOKENS)]
    rows = [encoding.ids[:MAX_TOKENS] for encoding in tokenizer.encode_batch(texts)]
    together = embed(session, rows)
    alone = np.concatenate([embed(session, [row]) for row in rows])
    lengths = np.linalg.norm(together, axis=1)
    apart = float(np.abs(together - alone).max())
    if not (np.abs(lengths - 1.0).max() < 1e-4 and apart < 1e-5):  # also false for NaN
        raise EncoderError(
            f"encoder.base must give unit vectors that do not depend on the batch, got lengths "
            f"{lengths} and a difference of {apart}; check the base and the adapter"
        )
