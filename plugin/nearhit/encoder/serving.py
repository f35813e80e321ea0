"""From settings to an encoder that is ready: what the hook and the commands share."""

from pathlib import Path

from nearhit.config import EncoderSettings, Settings
from nearhit.encoder.artefact import Artefact, ensure_artefact, load_artefact
from nearhit.encoder.runtime import OnnxEncoder


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
    )


def load_encoder(settings: Settings) -> OnnxEncoder:
    """Load the encoder that the settings name. Blocks.

    Raises:
        EncoderError: naming the remedy.
    """
    return OnnxEncoder.load(
        find_artefact(settings.encoder, settings.data_dir),
        threads=settings.encoder.threads,
        max_pending=settings.encoder.max_pending,
        repeats_bytes=settings.encoder.repeats_bytes,
    )
