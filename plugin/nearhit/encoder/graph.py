"""Write BERT weights as one ONNX graph: token ids in, unit vectors out.

Source: mean pooling, Sentence-BERT, arXiv 1908.10084 section 3.
"""

import onnx
from onnx import TensorProto

from nearhit.encoder.blocks import (
    Architecture,
    Graph,
    Precision,
    mean_of,
    transformer,
    word_rows,
)
from nearhit.encoder.weights import Tensors


def build_graph(
    weights: Tensors, shape: Architecture, precision: Precision = "fp16"
) -> onnx.ModelProto:
    """Build the graph.

    Args:
        weights: BERT weights by name, without a prefix; matrices are float32 (out, in).
        shape: the model's numbers.
        precision: how large weights are stored.

    Returns:
        A model with inputs ``input_ids`` and ``attention_mask``, int64 (n, tokens), and output
        ``embedding``, float32 (n, hidden), rows of unit length (zero where the mask is all 0).

    Raises:
        EncoderError: a weight is missing, has another shape, or does not fit float16.
    """
    graph = Graph(weights, precision)
    mask = graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    rows = graph.add("Add", word_rows(graph, shape), _positions(graph, shape))
    hidden = transformer(graph, shape, rows, mask)
    mean = mean_of(graph, hidden, mask)
    graph.add("LpNormalization", mean, name="embedding", axis=-1, p=2)
    axes = (TensorProto.INT64, ("n", "tokens"))
    inputs = {"input_ids": axes, "attention_mask": axes}
    return graph.model(inputs, "embedding", ("n", shape.hidden))


def _positions(graph: Graph, shape: Architecture) -> str:
    """Rows of position and type. All tokens are of type 0, whose row is added here, once."""
    position = graph.weight("embeddings.position_embeddings.weight", shape.positions, shape.hidden)
    kind = graph.weight("embeddings.token_type_embeddings.weight", None, shape.hidden)
    table = graph.constant("embeddings.positions", position + kind[0])
    tokens = graph.add("Shape", "input_ids", start=1, end=2)
    return graph.add("Slice", table, graph.integers(0), tokens, graph.integers(0))
