import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from nearhit.encoder.blocks import Architecture, Precision
from nearhit.encoder.graph import build_graph
from nearhit.encoder.session import embed, open_session
from nearhit.encoder.weights import Tensors, read_tensors
from nearhit.errors import EncoderError

ROWS = [[2, 40, 41, 3], [2, 7, 3], [2, *range(4, 60), 3]]


def reference(weights: Tensors, shape: Architecture, ids: list[int]) -> np.ndarray:
    """BERT in numpy and float64, one text, no padding."""
    w = {name: tensor.astype(np.float64) for name, tensor in weights.items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + shape.epsilon)
        return np.asarray(x * w[f"{name}.weight"] + w[f"{name}.bias"])

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return np.asarray(x @ w[f"{name}.weight"].T + w[f"{name}.bias"])

    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    width = shape.hidden // shape.heads
    for index in range(shape.layers):
        layer = f"encoder.layer.{index}"
        q, k, v = (
            dense(x, f"{layer}.attention.self.{part}").reshape(-1, shape.heads, width)
            for part in ("query", "key", "value")
        )
        share = np.exp(np.einsum("ihd,jhd->hij", q, k) / math.sqrt(width))
        share = share / share.sum(-1, keepdims=True)
        mixed = np.einsum("hij,jhd->ihd", share, v).reshape(-1, shape.hidden)
        mixed = dense(mixed, f"{layer}.attention.output.dense")
        x = norm(x + mixed, f"{layer}.attention.output.LayerNorm")
        wide = dense(x, f"{layer}.intermediate.dense")
        wide = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        x = norm(x + dense(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    mean = x.mean(0)
    return np.asarray(mean / np.linalg.norm(mean))


@pytest.fixture(scope="module")
def shape(tiny_base: Path) -> Architecture:
    return Architecture.from_config(json.loads((tiny_base / "config.json").read_text()))


@pytest.fixture(scope="module")
def weights(tiny_base: Path) -> Tensors:
    return read_tensors(tiny_base / "model.safetensors")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, weights: Tensors, shape: Architecture) -> Any:
    path = tmp_path_factory.mktemp("graph") / "encoder.onnx"
    onnx.save(build_graph(weights, shape), path)
    return open_session(path, threads=1)


def test_graph_equals_bert_written_in_numpy(
    session: Any, weights: Tensors, shape: Architecture
) -> None:
    for row in ROWS:
        expected = reference(weights, shape, row)
        # Storing weights as float16 costs about 2**-11 of each.
        assert float(embed(session, [row])[0] @ expected) > 0.99999


def test_text_alone_equals_text_in_a_padded_batch(session: Any) -> None:
    together = embed(session, ROWS)
    alone = np.concatenate([embed(session, [row]) for row in ROWS])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_large_weights_are_stored_as_half_and_small_ones_are_not(
    weights: Tensors, shape: Architecture
) -> None:
    for constant in build_graph(weights, shape).graph.initializer:
        half = constant.data_type == onnx.TensorProto.FLOAT16
        assert half == (math.prod(constant.dims) >= 1024)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_same_weights_give_the_same_bytes(
    weights: Tensors, shape: Architecture, precision: Precision
) -> None:
    first, second = (build_graph(weights, shape, precision) for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()


def test_int8_graph_is_near_bert_and_does_not_depend_on_the_batch(
    tmp_path: Path, weights: Tensors, shape: Architecture
) -> None:
    onnx.save(build_graph(weights, shape, "int8"), tmp_path / "encoder.onnx")
    session = open_session(tmp_path / "encoder.onnx", threads=1)
    together = embed(session, ROWS)
    for row, in_batch in zip(ROWS, together, strict=True):
        alone = embed(session, [row])[0]
        assert float(alone @ reference(weights, shape, row)) > 0.998
        np.testing.assert_allclose(in_batch, alone, atol=1e-6)


def test_int8_graph_stores_no_matrix_as_float(weights: Tensors, shape: Architecture) -> None:
    graph = build_graph(weights, shape, "int8").graph
    products = [node for node in graph.node if node.op_type == "MatMulNBits"]
    assert len(products) == 6 * shape.layers
    assert {helper.get_node_attr_value(node, "accuracy_level") for node in products} == {4}
    names = {constant.name for constant in graph.initializer}
    assert not any(name.endswith((".matrix", ".matrix.half", "words.half")) for name in names)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "roberta"),
        ("hidden_act", "relu"),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("num_attention_heads", 5),
        ("hidden_size", None),
    ],
)
def test_config_of_another_model_is_refused(tiny_base: Path, key: str, value: object) -> None:
    config = json.loads((tiny_base / "config.json").read_text())
    with pytest.raises(EncoderError, match=r"encoder.base"):
        Architecture.from_config(config | {key: value})


def test_weight_of_another_shape_is_refused(weights: Tensors, shape: Architecture) -> None:
    name = "encoder.layer.1.output.dense.weight"
    with pytest.raises(EncoderError, match=rf"{name} must have shape .* got \(3, 3\)"):
        build_graph(weights | {name: np.zeros((3, 3), np.float32)}, shape)


def test_weight_that_is_missing_is_refused(weights: Tensors, shape: Architecture) -> None:
    rest = {name: w for name, w in weights.items() if name != "embeddings.LayerNorm.bias"}
    with pytest.raises(
        EncoderError, match=r"embeddings.LayerNorm.bias must have shape .* got none"
    ):
        build_graph(rest, shape)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("value", [1e6, math.nan])
def test_weight_that_does_not_fit_float16_is_refused(
    weights: Tensors, shape: Architecture, value: float, precision: Precision
) -> None:
    name = "encoder.layer.0.intermediate.dense.weight"
    wrong = weights[name].copy()
    wrong[0, 0] = value
    with pytest.raises(EncoderError, match="must fit float16"):
        build_graph(weights | {name: wrong}, shape, precision)
