"""A base of random weights, as small as a BERT can be."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
FRAME = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = ["how", "do", "i", "reset", "my", "password", "hello", "the", "word", ".", ",", "?"]
VOCABULARY = FRAME + list(LETTERS) + [f"##{c}" for c in LETTERS] + WORDS

WriteBase = Callable[..., Path]


def bert_config(hidden: int = 32, layers: int = 2, heads: int = 4) -> dict[str, object]:
    return {
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "type_vocab_size": 2,
        "vocab_size": len(VOCABULARY),
    }


def bert_weights(config: dict[str, object], seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    hidden, wide = int(str(config["hidden_size"])), int(str(config["intermediate_size"]))
    weights: dict[str, np.ndarray] = {}

    def add(name: str, *shape: int, around: float = 0.0) -> None:
        weights[name] = (around + 0.2 * random.standard_normal(shape)).astype(np.float32)

    def add_norm(name: str) -> None:
        add(f"{name}.weight", hidden, around=1.0)
        add(f"{name}.bias", hidden)

    def add_dense(name: str, out: int, into: int) -> None:
        add(f"{name}.weight", out, into)
        add(f"{name}.bias", out)

    add("embeddings.word_embeddings.weight", int(str(config["vocab_size"])), hidden)
    add("embeddings.position_embeddings.weight", 512, hidden)
    add("embeddings.token_type_embeddings.weight", 2, hidden)
    add_norm("embeddings.LayerNorm")
    for index in range(int(str(config["num_hidden_layers"]))):
        layer = f"encoder.layer.{index}"
        for part in ("query", "key", "value"):
            add_dense(f"{layer}.attention.self.{part}", hidden, hidden)
        add_dense(f"{layer}.attention.output.dense", hidden, hidden)
        add_norm(f"{layer}.attention.output.LayerNorm")
        add_dense(f"{layer}.intermediate.dense", wide, hidden)
        add_dense(f"{layer}.output.dense", hidden, wide)
        add_norm(f"{layer}.output.LayerNorm")
    return weights


def write_tokenizer(path: Path) -> None:
    """Pads and truncates to 128, as the file of all-MiniLM-L6-v2 does."""
    tokenizer = Tokenizer(
        models.WordPiece(
            {token: index for index, token in enumerate(VOCABULARY)},
            unk_token="[UNK]",
            max_input_chars_per_word=100,
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(FRAME)
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(128)
    tokenizer.save(str(path))


@pytest.fixture(scope="session")
def write_base() -> WriteBase:
    """Write a base of random weights into a folder."""

    def write(folder: Path, seed: int = 0, **shape: int) -> Path:
        folder.mkdir(parents=True)
        config = bert_config(**shape)
        (folder / "config.json").write_text(json.dumps(config))
        write_tokenizer(folder / "tokenizer.json")
        save_file(bert_weights(config, seed), folder / "model.safetensors")
        return folder

    return write


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, write_base: WriteBase) -> Path:
    return write_base(tmp_path_factory.mktemp("tiny") / "base")
