"""Write a verifier as one ONNX graph: two questions and their cosine in, one logit out.

The verifier is a cross-encoder grown from the encoder's base, and a residual on the cosine: what it
adds starts at zero, so that untrained it is the encoder. Exact forward, all float32:

1. Tokens: ``[CLS] a [SEP] b [SEP]``; type 0 up to the first [SEP] included, 1 after it.
2. hidden: last hidden states of the transformer (n, tokens, H). words: rows of the word table.
3. Content of a: type 0 without the first token and [SEP]. Content of b: type 1 without [SEP].
   ``tokens`` (vocabulary, 3) holds of each token its weight w (inverse document frequency) and
   whether it is a number or a negation.
4. features (26), a before b wherever there are two:
   the cosine;
   of words, then of hidden, rows at unit length, s = x x^T, best_a[i] = max of s[i, j] over j in b:
   for a, then b: mean of best, mean weighted by w, min of best, max of w * (1 - best);
   for a, then b: share of w whose token the other side has not, largest such w, whether such a
   token is a number;
   difference of the numbers of negations; logarithm of the lengths of a and of b.
5. f = clip((features - centre) / spread, -5, 5)
6. pooled = hidden of [CLS], mean of hidden under the mask, max of hidden under the mask.
7. logit = scale * cosine + shift + out . gelu([wide . pooled, match . f] + biases) + bias
   (exact gelu).

Source: MaxSim is ColBERT's, arXiv 2004.12832 section 3.3.
"""

from typing import Final

import numpy as np
import onnx
from onnx import TensorProto

from nearhit.encoder.blocks import (
    Architecture,
    Graph,
    Precision,
    gelu,
    mean_of,
    transformer,
    word_rows,
)
from nearhit.encoder.weights import Tensors

FEATURES: Final = 26
HEAD: Final = (
    "wide.weight",
    "wide.bias",
    "match.weight",
    "match.bias",
    "out.weight",
    "out.bias",
    "scale",
    "shift",
    "tokens",
    "centre",
    "spread",
)
_CLIP: Final = 5.0
_FAR: Final = -1e4  # below every hidden state


def build_graph(
    weights: Tensors, shape: Architecture, separator: int, precision: Precision = "fp16"
) -> onnx.ModelProto:
    """Build the graph.

    Args:
        weights: BERT weights and those of `HEAD`, by name; matrices are float32 (out, in).
        shape: the numbers of the BERT.
        separator: id of [SEP].
        precision: how large weights are stored.

    Returns:
        A model with inputs ``input_ids``, ``token_type_ids`` and ``attention_mask``, int64
        (n, tokens), and ``similarity``, float32 (n,), and output ``logit``, float32 (n,).

    Raises:
        EncoderError: a weight is missing or has another shape.
    """
    graph = Graph(weights, precision)
    mask = graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    words = word_rows(graph, shape)
    rows = graph.add("Add", words, _positions_and_types(graph, shape))
    hidden = transformer(graph, shape, rows, mask)
    sides = _contents(graph, mask, separator)
    similarity = graph.add("Unsqueeze", "similarity", graph.integers(1))
    classes = graph.weight("tokens", shape.vocabulary, 3)
    weight, number, negation = (
        graph.add("Gather", graph.constant(f"tokens.{i}", classes[:, i]), "input_ids")
        for i in range(3)
    )
    features = [similarity]
    for table in (words, hidden):
        features += _matches(graph, table, weight, sides)
    features += _absences(graph, weight, number, negation, sides)
    pooled = _pooled(graph, hidden, mask)
    standard = _standard(graph, graph.add("Concat", *features, axis=1))
    width = graph.weight("wide.weight", None, 3 * shape.hidden).shape[0]
    branches = (
        graph.dense("wide", pooled, (width, 3 * shape.hidden)),
        graph.dense("match", standard, (width, FEATURES)),
    )
    added = graph.dense("out", gelu(graph, graph.add("Concat", *branches, axis=1)), (1, 2 * width))
    scale, shift = (graph.constant(name, graph.weight(name)) for name in ("scale", "shift"))
    line = graph.add("Add", graph.add("Mul", similarity, scale), shift)
    graph.add("Squeeze", graph.add("Add", line, added), graph.integers(1), name="logit")
    axes = (TensorProto.INT64, ("n", "tokens"))
    inputs = dict.fromkeys(("input_ids", "token_type_ids", "attention_mask"), axes)
    return graph.model({**inputs, "similarity": (TensorProto.FLOAT, ("n",))}, "logit", ("n",))


def _positions_and_types(graph: Graph, shape: Architecture) -> str:
    position = graph.weight("embeddings.position_embeddings.weight", shape.positions, shape.hidden)
    kind = graph.weight("embeddings.token_type_embeddings.weight", 2, shape.hidden)
    tokens = graph.add("Shape", "input_ids", start=1, end=2)
    table = graph.constant("embeddings.positions", position)
    rows = graph.add("Slice", table, graph.integers(0), tokens, graph.integers(0))
    kinds = graph.add("Gather", graph.constant("embeddings.types", kind), "token_type_ids")
    return graph.add("Add", kinds, rows)


def _contents(graph: Graph, mask: str, separator: int) -> tuple[str, str]:
    """Return the content of the two texts as float32 (n, tokens), 1 for each of its tokens."""
    ends = graph.add("Equal", "input_ids", graph.constant("separator", np.int64(separator)))
    inside = graph.add("Sub", mask, graph.add("Cast", ends, to=TensorProto.FLOAT))
    inside = graph.add("Max", inside, graph.number(0.0))  # padding may hold the separator's id
    second = graph.add("Cast", "token_type_ids", to=TensorProto.FLOAT)
    place = graph.add("CumSum", mask, graph.constant("axis", np.int64(1)))
    later = graph.add("Greater", place, graph.number(1.0))
    own = graph.add("Mul", inside, graph.add("Sub", graph.number(1.0), second))
    own = graph.add("Mul", own, graph.add("Cast", later, to=TensorProto.FLOAT))
    return own, graph.add("Mul", inside, second)


def _pooled(graph: Graph, hidden: str, mask: str) -> str:
    first = graph.add("Gather", hidden, graph.constant("first", np.int64(0)), axis=1)
    padding = graph.add("Sub", graph.number(1.0), graph.add("Unsqueeze", mask, graph.integers(2)))
    lowered = graph.add("Add", hidden, graph.add("Mul", padding, graph.number(_FAR)))
    highest = graph.add("ReduceMax", lowered, axes=[1], keepdims=0)
    return graph.add("Concat", first, mean_of(graph, hidden, mask), highest, axis=1)


def _standard(graph: Graph, features: str) -> str:
    centre, spread = (
        graph.constant(name, graph.weight(name, FEATURES)) for name in ("centre", "spread")
    )
    standard = graph.add("Div", graph.add("Sub", features, centre), spread)
    return graph.add("Clip", standard, graph.number(-_CLIP), graph.number(_CLIP))


def _matches(graph: Graph, rows: str, weight: str, sides: tuple[str, str]) -> list[str]:
    """How well the tokens of each text are matched in the other: eight columns (n, 1)."""
    length = graph.add("ReduceL2", rows, axes=[2], keepdims=1)
    unit = graph.add("Div", rows, graph.add("Max", length, graph.number(1e-6)))
    near = graph.add("MatMul", unit, graph.add("Transpose", unit, perm=(0, 2, 1)))
    found = []
    for own, other in (sides, sides[::-1]):
        is_other = _is(graph, graph.add("Unsqueeze", other, graph.integers(1)))
        best = graph.add("Where", is_other, near, graph.number(-1.0))
        best = graph.add("ReduceMax", best, axes=[2], keepdims=0)
        own_weight = graph.add("Mul", weight, own)
        count = graph.add("Max", _sum(graph, own), graph.number(1.0))
        total = graph.add("Max", _sum(graph, own_weight), graph.number(1e-6))
        lowest = graph.add("Where", _is(graph, own), best, graph.number(1.0))
        gap = graph.add("Mul", own_weight, graph.add("Sub", graph.number(1.0), best))
        found += [
            graph.add("Div", _sum(graph, graph.add("Mul", best, own)), count),
            graph.add("Div", _sum(graph, graph.add("Mul", best, own_weight)), total),
            graph.add("ReduceMin", lowest, axes=[1], keepdims=1),
            graph.add("ReduceMax", gap, axes=[1], keepdims=1),
        ]
    return found


def _absences(
    graph: Graph, weight: str, number: str, negation: str, sides: tuple[str, str]
) -> list[str]:
    """What one text has and the other has not, and lengths: nine columns (n, 1)."""
    column, row = (graph.add("Unsqueeze", "input_ids", graph.integers(i)) for i in (2, 1))
    same = graph.add("Cast", graph.add("Equal", column, row), to=TensorProto.FLOAT)
    found = []
    for own, other in (sides, sides[::-1]):
        there = graph.add("Mul", same, graph.add("Unsqueeze", other, graph.integers(1)))
        there = graph.add("ReduceMax", there, axes=[2], keepdims=0)
        absent = graph.add("Mul", own, graph.add("Sub", graph.number(1.0), there))
        gone = graph.add("Mul", weight, absent)
        total = graph.add("Max", _sum(graph, graph.add("Mul", weight, own)), graph.number(1e-6))
        missing = graph.add("Mul", number, absent)
        found += [
            graph.add("Div", _sum(graph, gone), total),
            graph.add("ReduceMax", gone, axes=[1], keepdims=1),
            graph.add("ReduceMax", missing, axes=[1], keepdims=1),
        ]
    counts = [_sum(graph, graph.add("Mul", negation, own)) for own in sides]
    found.append(graph.add("Abs", graph.add("Sub", *counts)))
    for own in sides:
        length = graph.add("Max", _sum(graph, own), graph.number(1.0))
        found.append(graph.add("Log", length))
    return found


def _sum(graph: Graph, values: str) -> str:
    return graph.add("ReduceSum", values, graph.integers(1), keepdims=1)


def _is(graph: Graph, mask: str) -> str:
    return graph.add("Greater", mask, graph.number(0.0))
