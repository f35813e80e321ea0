"""The verifier's graph computes what was trained."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tokenizers import Encoding, Tokenizer

from nearhit.encoder.blocks import Architecture, Precision
from nearhit.encoder.session import open_session
from nearhit.encoder.tokens import open_tokenizer
from nearhit.encoder.weights import Tensors
from nearhit.errors import EncoderError
from nearhit.verifier.graph import HEAD, build_graph
from nearhit.verifier.runtime import logits
from nearhit.verifier.weights import grow

PAIRS = [
    ("how do i reset my password", "reset my password, how?"),
    ("hello", "the word"),
    ("hello hello hello . the word , my password", "i"),
    ("the word [SEP] hello", "my word"),
]
SIMILARITIES = [0.9, 0.1, -0.2, 0.5]
SEPARATOR = 3
WIDE = 5  # of the tiny verifier's head


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> Tokenizer:
    return open_tokenizer(tiny_base / "tokenizer.json")


@pytest.fixture(scope="module")
def rows(tokenizer: Tokenizer) -> list[Encoding]:
    return [tokenizer.encode_batch([pair])[0] for pair in PAIRS]


@pytest.fixture
def session(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    tiny_weights: Tensors,
    tiny_shape: Architecture,
    tiny_verifier: Path,
) -> Any:
    precision: Precision = getattr(request, "param", "fp32")
    graph = build_graph(grow(tiny_weights, tiny_verifier), tiny_shape, SEPARATOR, precision)
    onnx.save(graph, tmp_path / "verifier.onnx")
    return open_session(tmp_path / "verifier.onnx", 1)


@pytest.mark.filterwarnings("ignore")  # torch's own
def test_graph_gives_the_logits_of_the_network_that_is_trained(
    session: Any,
    rows: list[Encoding],
    tiny_base: Path,
    tiny_weights: Tensors,
    tiny_verifier: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = pytest.importorskip("torch", reason="compares with the network in torch")
    transformers = pytest.importorskip("transformers", reason="compares with the network in torch")
    network = pytest.importorskip("nearhit_training.network", reason="needs the training extra")
    config = transformers.BertConfig(**json.loads((tiny_base / "config.json").read_text()))
    bert = transformers.BertModel(config, add_pooling_layer=False)
    monkeypatch.setattr(network, "WIDE", WIDE)
    model = network.Verifier(bert, config.hidden_size, config.vocab_size, separator=SEPARATOR)
    model.load_state_dict(
        {
            name if name in HEAD else f"bert.{name}": torch.from_numpy(np.array(value))
            for name, value in grow(tiny_weights, tiny_verifier).items()
        },
        strict=True,
    )
    model.eval()
    expected = []
    for row, similarity in zip(rows, SIMILARITIES, strict=True):
        ids, types, mask = (
            torch.tensor([values]) for values in (row.ids, row.type_ids, row.attention_mask)
        )
        with torch.inference_mode():
            expected.append(model(ids, types, mask, torch.tensor([similarity])).item())
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(logits(session, rows, SIMILARITIES), expected, atol=1e-4)


@pytest.mark.parametrize("session", ["fp32", "fp16", "int8"], indirect=True)
def test_logit_does_not_depend_on_the_batch(session: Any, rows: list[Encoding]) -> None:
    alone = [
        logits(session, [row], [similarity])[0]
        for row, similarity in zip(rows, SIMILARITIES, strict=True)
    ]
    np.testing.assert_allclose(logits(session, rows, SIMILARITIES), alone, atol=1e-4)


def test_verifier_whose_changes_are_zero_is_the_line_on_the_cosine(
    tmp_path: Path,
    tiny_weights: Tensors,
    tiny_shape: Architecture,
    rows: list[Encoding],
    write_verifier: Any,
) -> None:
    untrained = write_verifier(tmp_path / "v", strength=0.0)
    graph = build_graph(grow(tiny_weights, untrained), tiny_shape, SEPARATOR, "fp16")
    onnx.save(graph, tmp_path / "verifier.onnx")
    found = logits(open_session(tmp_path / "verifier.onnx", 1), rows, SIMILARITIES)
    np.testing.assert_allclose(found, 8 * np.array(SIMILARITIES) - 5, atol=1e-5)


def test_verifier_of_another_base_is_refused(
    tmp_path: Path, tiny_verifier: Path, write_base: Any
) -> None:
    from nearhit.encoder.weights import read_tensors

    other = read_tensors(write_base(tmp_path / "wider", hidden=48) / "model.safetensors")
    with pytest.raises(EncoderError, match=r"must fit the base"):
        grow(other, tiny_verifier)
