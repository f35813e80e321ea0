"""An artefact with a verifier, and the verifier at work."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearhit.config import EncoderSettings, Settings
from nearhit.encoder.artefact import Artefact, build_artefact, ensure_artefact, load_artefact
from nearhit.encoder.recipe import TOKENIZER_FILE, VERIFIER_FILE, Recipe
from nearhit.encoder.serving import load_verifier
from nearhit.errors import ConfigError, EncoderBusy, EncoderError
from nearhit.verifier.runtime import OnnxVerifier
from nearhit.verifier.weights import read_description

ASKED = "how do i reset my password"
STORED = ["reset my password how", "hello the word", "how do i reset the word"]
SIMILARITIES = [0.9, 0.1, 0.6]


@pytest.fixture(scope="module")
def artefact(
    tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, tiny_verifier: Path
) -> Artefact:
    data_dir = tmp_path_factory.mktemp("data")
    return ensure_artefact(data_dir, base=str(tiny_base), verifier=tiny_verifier)


def opened(artefact: Artefact, is_calibrated: bool = True, max_pending: int = 4) -> OnnxVerifier:
    return OnnxVerifier(
        artefact.path / VERIFIER_FILE,
        artefact.path / TOKENIZER_FILE,
        read_description(artefact.path),
        fingerprint="f",
        is_calibrated=is_calibrated,
        threads=1,
        max_pending=max_pending,
    )


@pytest.fixture
async def verifier(artefact: Artefact) -> AsyncIterator[OnnxVerifier]:
    made = opened(artefact)
    yield made
    await made.close()


async def test_confidence_does_not_depend_on_the_other_candidates(verifier: OnnxVerifier) -> None:
    together = await verifier.confidences(ASKED, STORED, SIMILARITIES)
    alone = [
        (await verifier.confidences(ASKED, [text], [similarity]))[0]
        for text, similarity in zip(STORED, SIMILARITIES, strict=True)
    ]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert all(0 < confidence < 1 for confidence in together)
    assert len(set(together)) == 3


async def test_no_candidates_need_no_verification(verifier: OnnxVerifier) -> None:
    assert await verifier.confidences(ASKED, [], []) == []


async def test_pair_that_is_too_long_has_no_confidence(verifier: OnnxVerifier) -> None:
    told = await verifier.confidences(ASKED, ["word " * 60, STORED[0]], [0.9, 0.9])
    assert told[0] == 0.0
    assert told[1] > 0


async def test_one_request_too_many_is_busy_until_another_is_done(artefact: Artefact) -> None:
    verifier = opened(artefact, max_pending=1)
    waiting = asyncio.create_task(verifier.confidences(ASKED, STORED, SIMILARITIES))
    await asyncio.sleep(0)
    with pytest.raises(EncoderBusy, match=r"encoder.max_pending .* got 1"):
        await verifier.confidences(ASKED, STORED, SIMILARITIES)
    await waiting
    assert await verifier.confidences(ASKED, STORED, SIMILARITIES)
    await verifier.close()


async def test_call_after_close_is_an_error(artefact: Artefact) -> None:
    verifier = opened(artefact)
    await verifier.close()
    with pytest.raises(EncoderError, match="got a call after close"):
        await verifier.confidences(ASKED, STORED, SIMILARITIES)


async def test_failure_in_the_runtime_is_an_error_without_the_texts(
    verifier: OnnxVerifier,
) -> None:
    class Failing:
        def run(self, *arguments: Any) -> Any:
            raise RuntimeError("secret question")

    verifier._session = Failing()  # type: ignore[assignment, unused-ignore]
    with pytest.raises(EncoderError, match=r"^verifier failed on a pair \(RuntimeError\)$"):
        await verifier.confidences(ASKED, STORED, SIMILARITIES)


def test_verifier_changes_neither_vectors_nor_their_fingerprint(
    tmp_path: Path, tiny_base: Path, artefact: Artefact
) -> None:
    plain = ensure_artefact(tmp_path, base=str(tiny_base))
    assert plain.manifest.fingerprint == artefact.manifest.fingerprint
    assert plain.manifest.outputs["encoder.onnx"] == artefact.manifest.outputs["encoder.onnx"]
    assert plain.path.name != artefact.path.name
    assert not plain.manifest.verifier


def test_manifest_names_the_verifier_its_error_and_its_thresholds(artefact: Artefact) -> None:
    manifest = artefact.manifest
    assert set(manifest.verifier) == {"verifier.json", "verifier.safetensors"}
    assert 0 <= manifest.verifier_error < 0.05
    assert manifest.thresholds == {"0.9": 0.6, "0.99": 0.9}


def test_artefact_whose_verifier_is_damaged_is_refused(
    tmp_path: Path, tiny_base: Path, tiny_verifier: Path
) -> None:
    recipe = Recipe(base=str(tiny_base), verifier=str(tiny_verifier))
    built = build_artefact(recipe, tmp_path, tmp_path / "out")
    (built.path / VERIFIER_FILE).write_bytes(b"cut")
    with pytest.raises(EncoderError, match=r"verifier.onnx is not the file"):
        load_artefact(built.path)


def test_verifier_grown_from_another_base_is_refused(
    tmp_path: Path, tiny_verifier: Path, write_base: Any
) -> None:
    other = write_base(tmp_path / "base", seed=4)
    with pytest.raises(EncoderError, match=r"encoder.verifier must be grown from encoder.base"):
        ensure_artefact(tmp_path, base=str(other), verifier=tiny_verifier)


def test_folder_that_is_no_verifier_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    with pytest.raises(EncoderError, match=r"encoder.verifier must"):
        ensure_artefact(tmp_path, base=str(tiny_base), verifier=tmp_path / "absent")


async def test_verifier_that_was_calibrated_for_another_encoder_promises_nothing(
    tmp_path: Path, tiny_base: Path, write_verifier: Any
) -> None:
    other = write_verifier(tmp_path / "v", encoder={"model.safetensors": "another"})
    artefact = ensure_artefact(tmp_path / "data", base=str(tiny_base), verifier=other)
    assert artefact.manifest.thresholds == {}
    verifier = load_verifier(Settings(), artefact)
    assert verifier is not None
    with pytest.raises(ConfigError, match=r"target_precision must be calibrated"):
        verifier.threshold(0.9)
    await verifier.close()


async def test_threshold_is_the_calibrated_one(verifier: OnnxVerifier) -> None:
    assert verifier.threshold(0.95) == 0.9
    assert verifier.floor(0.0) == verifier.floor(1.0) == 0.3


def test_explicit_similarity_threshold_does_without_the_verifier(artefact: Artefact) -> None:
    assert load_verifier(Settings(similarity_threshold=0.9), artefact) is None


def test_artefact_of_the_settings_has_their_verifier(
    tmp_path: Path, tiny_base: Path, tiny_verifier: Path
) -> None:
    from nearhit.encoder.serving import find_artefact

    chosen = EncoderSettings(base=str(tiny_base), verifier=str(tiny_verifier))
    assert find_artefact(chosen, tmp_path).manifest.verifier
    automatic = EncoderSettings(base=str(tiny_base))  # the shipped one does not fit this base
    assert not find_artefact(automatic, tmp_path).manifest.verifier
    assert json.loads((tiny_verifier / "verifier.json").read_text())["max_tokens"] == 64
