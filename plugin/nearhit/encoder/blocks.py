"""The parts that a BERT is written of as an ONNX graph, from weights by name.

The graph has what a legacy eager export from PyTorch has and nothing else, so it is as fast
(0.98 to 1.01 of its time from 8 to 256 tokens, one thread) and needs no torch to build. Fusing
query, key and value into one product gained 1 to 2 % on short texts and was left out.

How large weights are stored, by `Precision`:

    fp32  as they are: the reference that a build is compared with, never served
    fp16  as float16, cast to float32 when loaded: half the file, the same arithmetic
    int8  as in `quantise`: a quarter of the file and less time, by 8-bit products

Source: BERT, arXiv 1810.04805; mean pooling, Sentence-BERT, arXiv 1908.10084 section 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from nearhit.encoder.quantise import BLOCK, quantise_blocks, quantise_rows
from nearhit.encoder.weights import Tensors
from nearhit.errors import EncoderError

OPSET: Final = 17  # the first with LayerNormalization
_IR_VERSION: Final = 8  # the one of opset 17, so that older runtimes load it too
_CONTRIB: Final = "com.microsoft"  # where ONNX Runtime keeps its own operators
# Multiply 8-bit by 8-bit. Without it the weights are unpacked first: up to 5 times slower.
_INT8_PRODUCTS: Final = 4
# From this size on a weight is stored as float16 and cast when loaded: 43 MB instead of 86,
# the same speed, and of 986 pairs none changed sides at a threshold of 0.7, 0.8 or 0.9.
_HALF_FROM: Final = 1024
Precision: TypeAlias = Literal["fp32", "fp16", "int8"]

_MASKED: Final = -1e9  # exp(_MASKED) is exactly 0, so padding changes nothing at all


@dataclass(frozen=True, slots=True)
class Architecture:
    """The numbers of a BERT encoder."""

    layers: int
    heads: int
    hidden: int
    intermediate: int
    vocabulary: int
    positions: int
    epsilon: float

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Architecture":
        """Read them from a model's config.json.

        Raises:
            EncoderError: the model is not a BERT that this graph can express.
        """
        rules = {
            "model_type": ("bert",),
            "hidden_act": ("gelu",),
            "position_embedding_type": (None, "absolute"),
            "is_decoder": (None, False),
        }
        for key, allowed in rules.items():
            if config.get(key) not in allowed:
                raise EncoderError(
                    f"encoder.base config.json {key} must be {allowed[-1]!r}, got "
                    f"{config.get(key)!r}; choose a BERT base such as all-MiniLM-L6-v2"
                )
        try:
            read = cls(
                layers=int(config["num_hidden_layers"]),
                heads=int(config["num_attention_heads"]),
                hidden=int(config["hidden_size"]),
                intermediate=int(config["intermediate_size"]),
                vocabulary=int(config["vocab_size"]),
                positions=int(config["max_position_embeddings"]),
                epsilon=float(config["layer_norm_eps"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise EncoderError(
                f"encoder.base config.json must describe a BERT, got {error!r}; "
                f"choose a BERT base such as all-MiniLM-L6-v2"
            ) from error
        if read.hidden % read.heads:
            raise EncoderError(
                f"encoder.base hidden_size must be a multiple of num_attention_heads, got "
                f"{read.hidden} and {read.heads}; check config.json"
            )
        return read


@dataclass(slots=True)
class Graph:
    """Nodes and constants in the order in which they are added."""

    weights: Tensors
    precision: Precision
    nodes: list[Any] = field(default_factory=list)
    casts: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)

    def add(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def dense(self, name: str, hidden: str, size: tuple[int, int], scale: float = 1.0) -> str:
        """Multiply by a (out, in) matrix, transposed here once, and add its bias."""
        matrix = np.float32(scale) * self.weight(f"{name}.weight", *size)
        bias = np.float32(scale) * self.weight(f"{name}.bias", size[0])
        if self.precision == "int8":
            product = self._product_int8(name, hidden, matrix)
        else:
            product = self.add("MatMul", hidden, self.constant(f"{name}.matrix", matrix.T))
        return self.add("Add", product, self.constant(f"{name}.shift", bias))

    def rows(self, name: str, table: NDArray[np.float32], indices: str) -> str:
        """Look rows of a table up."""
        if self.precision != "int8":
            return self.add("Gather", self.constant(name, table), indices)
        whole, scale = quantise_rows(_fitting(name, table))
        found = self.add("Gather", self.exactly(f"{name}.int8", whole), indices)
        found = self.add("Cast", found, to=TensorProto.FLOAT)
        return self.add(
            "Mul", found, self.add("Gather", self.exactly(f"{name}.scale", scale), indices)
        )

    def _product_int8(self, name: str, hidden: str, matrix: NDArray[np.float32]) -> str:
        whole, scale = quantise_blocks(_fitting(name, matrix))
        return self.add(
            "MatMulNBits",
            hidden,
            self.exactly(f"{name}.int8", whole),
            self.exactly(f"{name}.scale", scale.reshape(-1)),
            domain=_CONTRIB,
            K=matrix.shape[1],
            N=matrix.shape[0],
            bits=8,
            block_size=BLOCK,
            accuracy_level=_INT8_PRODUCTS,
        )

    def weight(self, name: str, *size: int | None) -> NDArray[np.float32]:
        """Return a weight whose shape is checked; None matches any length."""
        weight = self.weights.get(name)
        got = "none" if weight is None else weight.shape
        if (
            weight is None
            or len(size) != weight.ndim
            or any(want not in (None, have) for want, have in zip(size, weight.shape, strict=True))
        ):
            raise EncoderError(
                f"encoder.base weight {name} must have shape {size}, got {got}; "
                f"check that config.json belongs to model.safetensors"
            )
        return weight

    def number(self, value: float) -> str:
        """Add a float32 scalar."""
        return self.constant(f"number {value}", np.float32(value))

    def integers(self, *values: int) -> str:
        """Add an int64 vector."""
        return self.constant(f"integers {values}", np.array(values, np.int64))

    def constant(self, name: str, value: Any) -> str:
        """Add a constant, stored as float16 when it is large."""
        if name in self.constants:
            return name
        value = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
        stored = name
        half = self.precision != "fp32" and value.dtype == np.float32 and value.size >= _HALF_FROM
        if half:
            value, stored = _fitting(name, value).astype(np.float16), f"{name}.half"
            self.casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
        self.constants[name] = numpy_helper.from_array(value, stored)
        return name

    def exactly(self, name: str, value: Any) -> str:
        """Add a constant, stored as it is whatever its size."""
        self.constants[name] = numpy_helper.from_array(value, name)
        return name

    def model(
        self,
        inputs: Mapping[str, tuple[int, Sequence[str]]],
        output: str,
        size: Sequence[str | int],
    ) -> onnx.ModelProto:
        """Close the graph and check it.

        Args:
            inputs: element type and the names of the axes, by name.
            output: a name that a node gave.
            size: its axes, named or fixed.
        """
        given = [
            helper.make_tensor_value_info(name, kind, axes) for name, (kind, axes) in inputs.items()
        ]
        graph = helper.make_graph(
            self.casts + self.nodes,
            output,
            given,
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, size)],
            initializer=list(self.constants.values()),
        )
        opsets = [helper.make_opsetid("", OPSET)]
        if self.precision == "int8":
            opsets.append(helper.make_opsetid(_CONTRIB, 1))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        onnx.checker.check_model(model)
        return model


def word_rows(graph: Graph, shape: Architecture) -> str:
    """Look the tokens up in the word table, (n, tokens, hidden)."""
    word = graph.weight("embeddings.word_embeddings.weight", shape.vocabulary, shape.hidden)
    return graph.rows("embeddings.words", word, "input_ids")


def transformer(graph: Graph, shape: Architecture, rows: str, mask: str) -> str:
    """Normalise the embedded tokens and take them through all layers.

    Args:
        graph: to add to.
        shape: the model's numbers.
        rows: sum of word, position and type rows, (n, tokens, hidden).
        mask: float32 (n, tokens), 1 for a token and 0 for padding.
    """
    bias = graph.add("Unsqueeze", mask, graph.integers(1, 2))
    bias = graph.add("Mul", graph.add("Sub", graph.number(1.0), bias), graph.number(_MASKED))
    hidden = _normalise(graph, shape, "embeddings.LayerNorm", rows)
    for index in range(shape.layers):
        hidden = _layer(graph, shape, f"encoder.layer.{index}", hidden, bias)
    return hidden


def mean_of(graph: Graph, rows: str, mask: str) -> str:
    """Mean of (n, tokens, hidden) over the tokens under a float mask (n, tokens)."""
    kept = graph.add("Mul", rows, graph.add("Unsqueeze", mask, graph.integers(2)))
    total = graph.add("ReduceSum", kept, graph.integers(1), keepdims=0)
    count = graph.add("ReduceSum", mask, graph.integers(1), keepdims=1)
    return graph.add("Div", total, graph.add("Max", count, graph.number(1e-9)))


def _layer(graph: Graph, shape: Architecture, name: str, hidden: str, bias: str) -> str:
    """Attention and feed-forward, each added to its input and normalised."""
    attention = _attention(graph, shape, f"{name}.attention.self", hidden, bias)
    size = (shape.hidden, shape.hidden)
    attention = graph.dense(f"{name}.attention.output.dense", attention, size)
    hidden = _normalise(
        graph, shape, f"{name}.attention.output.LayerNorm", graph.add("Add", attention, hidden)
    )
    wide = graph.dense(f"{name}.intermediate.dense", hidden, (shape.intermediate, shape.hidden))
    wide = gelu(graph, wide)
    narrow = graph.dense(f"{name}.output.dense", wide, (shape.hidden, shape.intermediate))
    return _normalise(graph, shape, f"{name}.output.LayerNorm", graph.add("Add", narrow, hidden))


def _attention(graph: Graph, shape: Architecture, name: str, hidden: str, bias: str) -> str:
    width = shape.hidden // shape.heads
    split = graph.integers(0, 0, shape.heads, width)  # 0: as in the input
    size = (shape.hidden, shape.hidden)

    def heads(part: str, perm: tuple[int, ...], scale: float = 1.0) -> str:
        whole = graph.dense(f"{name}.{part}", hidden, size, scale)
        return graph.add("Transpose", graph.add("Reshape", whole, split), perm=perm)

    # The scale 1/sqrt(width) is part of the query's weights: one product less a layer.
    query = heads("query", (0, 2, 1, 3), width**-0.5)
    key = heads("key", (0, 2, 3, 1))
    value = heads("value", (0, 2, 1, 3))
    share = graph.add("Add", graph.add("MatMul", query, key), bias)
    share = graph.add("Softmax", share, axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", share, value), perm=(0, 2, 1, 3))
    return graph.add("Reshape", mixed, graph.integers(0, 0, shape.hidden))


def gelu(graph: Graph, wide: str) -> str:
    """x/2 (1 + erf(x / sqrt 2)), spelt so that the runtime recognises and fuses it."""
    erf = graph.add("Erf", graph.add("Div", wide, graph.number(2**0.5)))
    erf = graph.add("Add", erf, graph.number(1.0))
    return graph.add("Mul", graph.add("Mul", wide, erf), graph.number(0.5))


def _normalise(graph: Graph, shape: Architecture, name: str, hidden: str) -> str:
    gain = graph.constant(f"{name}.gain", graph.weight(f"{name}.weight", shape.hidden))
    shift = graph.constant(f"{name}.shift", graph.weight(f"{name}.bias", shape.hidden))
    return graph.add("LayerNormalization", hidden, gain, shift, axis=-1, epsilon=shape.epsilon)


def _fitting(name: str, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a weight that is finite and fits float16, as every trained one does."""
    largest = float(np.abs(weight).max())
    if not largest <= float(np.finfo(np.float16).max):  # NaN is not either
        raise EncoderError(
            f"encoder.base weight {name} must fit float16, got {largest}; "
            f"check the base and the adapter"
        )
    return weight
