from pathlib import Path

import pytest

from nearhit import config
from nearhit.encoder.artefact import build_artefact
from nearhit.encoder.recipe import Recipe
from nearhit.encoder.serving import find_artefact, load_encoder
from nearhit.errors import EncoderError


def settings(data_dir: Path, **encoder: object) -> config.Settings:
    return config.load({"data_dir": str(data_dir), "encoder": encoder}, environ={})


async def test_settings_choose_base_precision_and_languages(
    tmp_path: Path, tiny_base: Path
) -> None:
    chosen = settings(tmp_path, base=str(tiny_base), precision="int8", multilingual=True)
    manifest = find_artefact(chosen.encoder, tmp_path).manifest
    assert (manifest.base, manifest.precision, manifest.multilingual) == (
        str(tiny_base),
        "int8",
        True,
    )
    encoder = load_encoder(chosen)
    assert encoder.fingerprint == manifest.fingerprint
    await encoder.close()


def test_artefact_in_the_settings_is_served_as_it_is(tmp_path: Path, tiny_base: Path) -> None:
    recipe = Recipe(base=str(tiny_base), precision="int8")
    built = build_artefact(recipe, tmp_path / "data", tmp_path / "out")
    chosen = settings(tmp_path / "data", artefact=str(tmp_path / "out"))
    assert find_artefact(chosen.encoder, tmp_path / "data") == built


def test_artefact_that_is_none_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"encoder.artefact must be a folder .* build it again"):
        find_artefact(settings(tmp_path, artefact=str(tmp_path)).encoder, tmp_path)
