"""The built artefact gives the vectors that sentence-transformers gives."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from nearhit.encoder import Unencodable
from nearhit.encoder.artefact import Artefact, ensure_artefact
from nearhit.encoder.runtime import OnnxEncoder

DATA = Path(__file__).parents[2] / "data" / "encoder"
QUESTIONS = (DATA / "questions.txt").read_text("utf-8").splitlines()


async def encode_all(encoder: OnnxEncoder) -> np.ndarray:
    """Encode the questions 32 at a time, so that they meet in batches."""
    vectors: list[np.ndarray] = []
    for start in range(0, len(QUESTIONS), 32):
        some = [encoder.encode(question) for question in QUESTIONS[start : start + 32]]
        for vector in await asyncio.gather(*some):
            assert not isinstance(vector, Unencodable)
            vectors.append(vector)
    return np.stack(vectors)


async def encoded_by(artefact: Artefact) -> np.ndarray:
    encoder = OnnxEncoder.load(artefact)
    try:
        return await encode_all(encoder)
    finally:
        await encoder.close()


def lowest_similarity(ours: np.ndarray, theirs: np.ndarray) -> float:
    theirs = theirs.astype(np.float32)
    theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    return float((ours * theirs).sum(1).min())


async def test_vectors_equal_the_golden_ones(real_encoder: OnnxEncoder) -> None:
    golden = np.load(DATA / "golden.npy")
    assert golden.shape == (500, 384)
    assert lowest_similarity(await encode_all(real_encoder), golden) >= 0.9999


async def test_vectors_of_the_small_precision_are_near_the_golden_ones(
    real_base: Path, tmp_path: Path
) -> None:
    artefact = ensure_artefact(tmp_path, base=str(real_base), precision="int8")
    golden = np.load(DATA / "golden.npy")
    assert lowest_similarity(await encoded_by(artefact), golden) >= 0.998


@pytest.mark.filterwarnings("ignore")  # torch's and transformers' own
async def test_vectors_with_an_adapter_equal_sentence_transformers_with_peft(
    real_base: Path, tmp_path: Path
) -> None:
    library = pytest.importorskip("sentence_transformers", reason="the live comparison needs it")
    peft = pytest.importorskip("peft", reason="the live comparison needs it")
    torch = pytest.importorskip("torch")
    torch.manual_seed(4)
    model = library.SentenceTransformer(str(real_base), device="cpu")
    model.max_seq_length = 256
    bare = model.encode(QUESTIONS[:20], batch_size=1, normalize_embeddings=True)
    config = peft.LoraConfig(
        r=8, lora_alpha=32, target_modules=["query", "value"], init_lora_weights=False
    )
    adapted = peft.get_peft_model(model[0].auto_model, config)
    adapted.save_pretrained(tmp_path / "adapter")
    # peft changed the layers of the model in place, so the library runs them unmerged.
    theirs = model.encode(QUESTIONS, batch_size=1, normalize_embeddings=True)
    assert lowest_similarity(bare, theirs[:20]) < 0.9
    artefact = ensure_artefact(tmp_path / "data", base=str(real_base), adapter=tmp_path / "adapter")
    assert artefact.manifest.parameters["adapter"] == 73_728
    assert lowest_similarity(await encoded_by(artefact), theirs) >= 0.9999


@pytest.mark.parametrize("text", ["a" * 200, "b" * 200, "我的密码忘了怎么办", "如何重置密码"])
async def test_words_outside_the_vocabulary_are_unencodable(
    real_encoder: OnnxEncoder, text: str
) -> None:
    assert await real_encoder.encode(text) == Unencodable("unknown_tokens")


async def test_text_above_256_tokens_is_unencodable(real_encoder: OnnxEncoder) -> None:
    fits = await real_encoder.encode("word " * 254)
    assert not isinstance(fits, Unencodable)
    assert await real_encoder.encode("word " * 255) == Unencodable("too_long")
