"""A tiny random BERT for behaviour, the real base for fidelity."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nearhit.encoder.artefact import Artefact, ensure_artefact
from nearhit.encoder.runtime import OnnxEncoder
from nearhit.encoder.weights import DEFAULT_BASE


@pytest.fixture(scope="session")
def tiny_artefact(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Artefact:
    return ensure_artefact(tmp_path_factory.mktemp("tiny-data"), base=str(tiny_base))


@pytest.fixture
async def tiny_encoder(tiny_artefact: Artefact) -> AsyncIterator[OnnxEncoder]:
    encoder = OnnxEncoder.load(tiny_artefact, max_pending=2)
    yield encoder
    await encoder.close()


@pytest.fixture(scope="session")
def real_artefact(tmp_path_factory: pytest.TempPathFactory, real_base: Path) -> Artefact:
    """Built in each session, so that it is what the code under test builds."""
    data_dir = tmp_path_factory.mktemp("data")
    (data_dir / "base").mkdir()
    (data_dir / "base" / DEFAULT_BASE).symlink_to(real_base)
    return ensure_artefact(data_dir)


@pytest.fixture
async def real_encoder(real_artefact: Artefact) -> AsyncIterator[OnnxEncoder]:
    encoder = OnnxEncoder.load(real_artefact)
    yield encoder
    await encoder.close()
