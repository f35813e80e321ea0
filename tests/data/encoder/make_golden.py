"""Write golden.npy: the vectors of questions.txt as sentence-transformers gives them.

    python tests/data/encoder/make_golden.py .nearhit/base/all-MiniLM-L6-v2

The folder holds config.json, tokenizer.json and model.safetensors of all-MiniLM-L6-v2 (nearhit
leaves it in its data folder). The file is float16 (500, 384), rows of unit length to 1e-4; its
rounding costs 1e-7 of cosine. questions.txt was written for this project,
one question a line, 3 to 195 words.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

HERE = Path(__file__).parent


def main(argv: Sequence[str]) -> None:
    """Encode the questions one by one, so that no padding is involved."""
    (base,) = argv
    # A folder without modules.json gets mean pooling.
    model = SentenceTransformer(base, device="cpu")
    model.max_seq_length = 256
    questions = (HERE / "questions.txt").read_text("utf-8").splitlines()
    vectors = model.encode(questions, batch_size=1, normalize_embeddings=True)
    np.save(HERE / "golden.npy", vectors.astype(np.float16))


if __name__ == "__main__":
    main(sys.argv[1:])
