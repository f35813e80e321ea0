"""From settings to an encoder that is ready: what the hook and the commands share."""

import hashlib
import json
from pathlib import Path

from nearhit.cache import threshold_of
from nearhit.config import EncoderSettings, Settings
from nearhit.encoder.artefact import Artefact, ensure_artefact, load_artefact
from nearhit.encoder.base import DIMENSION
from nearhit.encoder.recipe import TOKENIZER_FILE, VERIFIER_FILE
from nearhit.encoder.runtime import OnnxEncoder
from nearhit.errors import EncoderError
from nearhit.verifier.runtime import OnnxVerifier
from nearhit.verifier.weights import read_description


def load_parts(settings: Settings) -> tuple[OnnxEncoder, OnnxVerifier | None]:
    """Build the artefact if need be, and load encoder and verifier. Blocks.

    Raises:
        EncoderError: naming the remedy.
        ConfigError: no threshold is known to keep the target precision.
    """
    artefact = find_artefact(settings.encoder, settings.data_dir)
    if artefact.manifest.dimension != DIMENSION:
        raise EncoderError(
            f"encoder.base must give vectors of {DIMENSION} numbers, got "
            f"{artefact.manifest.dimension}; choose a MiniLM of 384"
        )
    verifier = load_verifier(settings, artefact)
    for some in (settings, *map(settings.of_model, settings.models)):
        threshold_of(some, verifier)
    return load_encoder(settings, artefact), verifier


def find_artefact(settings: EncoderSettings, data_dir: Path) -> Artefact:
    """Return the artefact that the settings name, built if need be. Blocks.

    Raises:
        EncoderError: naming the remedy.
    """
    if settings.artefact is not None:
        return load_artefact(settings.artefact)
    return ensure_artefact(
        data_dir,
        base=settings.base,
        adapter=settings.adapter,
        precision=settings.precision,
        multilingual=settings.multilingual,
        verifier=settings.verifier,
    )


def load_encoder(settings: Settings, artefact: Artefact | None = None) -> OnnxEncoder:
    """Load the encoder of an artefact, by default the one that the settings name. Blocks.

    Raises:
        EncoderError: naming the remedy.
    """
    return OnnxEncoder.load(
        artefact or find_artefact(settings.encoder, settings.data_dir),
        threads=settings.encoder.threads,
        max_pending=settings.encoder.max_pending,
        repeats_bytes=settings.encoder.repeats_bytes,
    )


def load_verifier(settings: Settings, artefact: Artefact) -> OnnxVerifier | None:
    """Load the verifier of an artefact; None where it has none or the settings want none. Blocks.

    Raises:
        EncoderError: naming the remedy.
    """
    if settings.similarity_threshold is not None or not artefact.manifest.verifier:
        return None
    return OnnxVerifier(
        artefact.path / VERIFIER_FILE,
        artefact.path / TOKENIZER_FILE,
        read_description(artefact.path),
        fingerprint=hashlib.sha256(
            json.dumps(dict(artefact.manifest.verifier), sort_keys=True).encode()
        ).hexdigest(),
        is_calibrated=bool(artefact.manifest.thresholds),
        threads=settings.encoder.threads,
        max_pending=settings.encoder.max_pending,
    )
