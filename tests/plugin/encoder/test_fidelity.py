"""The built artefact gives the vectors that sentence-transformers gives."""

from pathlib import Path

import numpy as np
import pytest

from nearhit.encoder import Unencodable
from nearhit.encoder.runtime import OnnxEncoder

DATA = Path(__file__).parents[2] / "data" / "encoder"
QUESTIONS = (DATA / "questions.txt").read_text("utf-8").splitlines()


async def encode_all(encoder: OnnxEncoder) -> np.ndarray:
    vectors = []
    for question in QUESTIONS:
        vector = await encoder.encode(question)
        assert not isinstance(vector, Unencodable)
        vectors.append(vector)
    return np.stack(vectors)


def lowest_similarity(ours: np.ndarray, theirs: np.ndarray) -> float:
    theirs = theirs.astype(np.float32)
    theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    return float((ours * theirs).sum(1).min())


async def test_vectors_equal_the_golden_ones(real_encoder: OnnxEncoder) -> None:
    golden = np.load(DATA / "golden.npy")
    assert golden.shape == (200, 384)
    assert lowest_similarity(await encode_all(real_encoder), golden) >= 0.9999


@pytest.mark.filterwarnings("ignore")  # torch's and transformers' own
async def test_vectors_equal_sentence_transformers(
    real_encoder: OnnxEncoder, real_base: Path
) -> None:
    library = pytest.importorskip("sentence_transformers", reason="the live comparison needs it")
    model = library.SentenceTransformer(str(real_base), device="cpu")
    model.max_seq_length = 256
    theirs = model.encode(QUESTIONS, batch_size=1, normalize_embeddings=True)
    assert lowest_similarity(await encode_all(real_encoder), theirs) >= 0.9999


@pytest.mark.parametrize("text", ["a" * 200, "b" * 200, "我的密码忘了怎么办", "如何重置密码"])
async def test_words_outside_the_vocabulary_are_unencodable(
    real_encoder: OnnxEncoder, text: str
) -> None:
    assert await real_encoder.encode(text) == Unencodable("unknown_tokens")


async def test_text_above_256_tokens_is_unencodable(real_encoder: OnnxEncoder) -> None:
    fits = await real_encoder.encode("word " * 254)
    assert not isinstance(fits, Unencodable)
    assert await real_encoder.encode("word " * 255) == Unencodable("too_long")
