"""What the tests of the evaluation share."""

from pathlib import Path

import pytest


@pytest.fixture
def eval_config(tmp_path: Path, real_artefacts: Path) -> Path:
    """A config whose data folder holds the default base and its artefact, ready to serve."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "artefacts").symlink_to(real_artefacts)
    (data / "base").symlink_to(real_artefacts.parent / "base")
    path = tmp_path / "config.yaml"
    path.write_text(f"nearhit:\n  data_dir: {data}\n  encoder:\n    verifier: null\n")
    return path
