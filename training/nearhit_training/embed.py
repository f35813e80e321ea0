"""Vectors of many texts with PyTorch, sorted by length, each text once.

The served encoder takes one text at a time; a training run has a hundred thousand.
"""

import json
import logging
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import BertModel

from nearhit.encoder.lora import ADAPTER_FILES
from nearhit.encoder.weights import model_folder

logger = logging.getLogger(__name__)


class Vectors:
    """Vectors by text, float32 of unit length."""

    def __init__(self, texts: list[str], matrix: NDArray[np.float32]) -> None:
        self.matrix = matrix
        self.row = {text: index for index, text in enumerate(texts)}

    def of(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Return float32 (n, dimension)."""
        return self.matrix[[self.row[text] for text in texts]]

    def similarity(self, a: str, b: str) -> float:
        """Return the cosine of two texts."""
        return float(self.matrix[self.row[a]] @ self.matrix[self.row[b]])


def open_tokenizer(base: Path, limit: int) -> Tokenizer:
    """Open the base's tokenizer, without the padding that its file asks for."""
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    return tokenizer


def adapted_encoder(base: Path, adapter: str | None) -> BertModel:
    """Load the encoder, with its adapter merged where there is one."""
    bert = BertModel.from_pretrained(base, add_pooling_layer=False)
    if adapter is None:
        return bert
    folder = model_folder(adapter, ADAPTER_FILES, setting="--adapter")
    return PeftModel.from_pretrained(bert, str(folder)).merge_and_unload()


def embed(texts: Iterable[str], model: BertModel, tokenizer: Tokenizer) -> Vectors:
    """Take the mean over tokens at unit length of each different text."""
    unique = sorted(set(texts))
    rows = [encoding.ids for encoding in tokenizer.encode_batch(unique)]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    matrix = np.zeros((len(rows), model.config.hidden_size), np.float32)
    began, said = time.monotonic(), time.monotonic()
    start = 0
    model.eval()
    while start < len(order):
        longest = len(rows[order[min(start + 127, len(order) - 1)]])
        some = order[start : start + max(8, min(128, 4096 // longest))]
        width = len(rows[some[-1]])
        ids = torch.tensor([rows[i] + [0] * (width - len(rows[i])) for i in some])
        mask = torch.tensor([[1] * len(rows[i]) + [0] * (width - len(rows[i])) for i in some])
        with torch.inference_mode():
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
            kept = mask.unsqueeze(-1).float()
            mean = (hidden * kept).sum(1) / kept.sum(1)
            matrix[some] = torch.nn.functional.normalize(mean, dim=-1).numpy()
        start += len(some)
        if time.monotonic() - said > 15:
            said = time.monotonic()
            logger.info("%d of %d texts in %.0f s", start, len(order), said - began)
    return Vectors(unique, matrix)


def embed_once(texts: Iterable[str], model: BertModel, tokenizer: Tokenizer, kept: Path) -> Vectors:
    """Do as `embed`, and keep the vectors in a folder, so that a resumed run finds them there."""
    unique = sorted(set(texts))
    named, matrix = kept / "texts.json", kept / "vectors.npy"
    known = Vectors([], np.zeros((0, model.config.hidden_size), np.float32))
    if named.is_file() and matrix.is_file():
        known = Vectors(json.loads(named.read_text("utf-8")), np.load(matrix))
    new = embed((text for text in unique if text not in known.row), model, tokenizer)
    every = Vectors([*known.row, *new.row], np.concatenate([known.matrix, new.matrix]))
    kept.mkdir(parents=True, exist_ok=True)
    np.save(matrix, every.matrix)
    named.write_text(json.dumps(list(every.row)), "utf-8")
    return every
