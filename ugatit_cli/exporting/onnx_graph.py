"""A traced network as an ONNX graph.

PyTorch's own exporters aren't used: the newer one takes twenty seconds and writes each norm as a dozen operators, the
older one is deprecated and leaves shapes to be computed that are known. What a trace of our networks holds is little.

A trace is run once more, with a name in place of each picture. What depends on none is computed, by PyTorch, and so
becomes a constant; all the rest becomes operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

# Operators as ONNX 1.13 (2022) defines them: the last that these networks need, and what most engines know.
OPSET: Final = 18
IR_VERSION: Final = 8
# Bytes of weights; a file of protocol buffers holds 2 GiB.
MOST: Final = 2**31 - 2**24

_TYPES: Final = {
    "Float": (TensorProto.FLOAT, torch.float32),
    "Half": (TensorProto.FLOAT16, torch.float16),
    "Long": (TensorProto.INT64, torch.int64),
}
_PLAIN: Final = {
    "relu": "Relu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "sqrt": "Sqrt",
    "neg": "Neg",
    "reciprocal": "Reciprocal",
}
_REDUCING: Final = {"mean": "ReduceMean", "sum": "ReduceSum", "amax": "ReduceMax"}
_ARITHMETIC: Final = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"}
_END: Final = 2**63 - 1


class Unsupported(Exception):
    """A network has something that isn't known here: the text says what."""


@dataclass(frozen=True)
class Name:
    """A tensor of the graph, by its name.

    Attributes:
        kind: `Float`, `Half` or `Long`.
        shape: as it was in the trace, where it matters: channels.
    """

    text: str
    kind: str
    shape: tuple[int, ...]


class Graph:
    """Operators and constants so far."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self._known: dict[tuple[Any, ...], tuple[str, Any]] = {}

    def op(self, kind: str, inputs: Sequence[Any], *, outputs: int = 1, **attributes: Any) -> list[str]:
        """Adds an operator on names, constants, or nothing (None); the names of its outputs."""
        names = ["" if one is None else self.named(one) for one in inputs]
        number = len(self.nodes)
        made = [f"{kind}_{number}" + (f"_{i}" if outputs > 1 else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, names, made, f"{kind}_{number}", **attributes))
        return made

    def named(self, value: Any) -> str:
        """The name of a tensor: one of the graph, or a constant, which is added unless it is there."""
        if isinstance(value, Name | str):
            return value if isinstance(value, str) else value.text
        array = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
        place = array.tobytes() if array.size <= 16 else (array.ctypes.data, array.strides)
        key = (str(array.dtype), array.shape, place)
        if key not in self._known:
            name = f"constant_{len(self.constants)}"
            self._known[key] = (name, array)  # as long as it is there, nothing else can be in its place
            self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return self._known[key][0]


def onnx_model(
    traced: torch.jit.ScriptModule, inputs: Sequence[str], outputs: Sequence[str], shapes: dict[str, list[Any]]
) -> onnx.ModelProto:
    """The model of a traced network.

    Args:
        traced: takes and gives tensors.
        inputs, outputs: their names.
        shapes: of each of them: numbers, and names of what may differ.

    Raises:
        Unsupported: there is something in it that isn't known here.
    """
    writer = _Writer(traced, inputs)
    results = writer.run()
    for name, result in zip(outputs, results, strict=True):
        writer.graph.nodes.append(helper.make_node("Identity", [writer.graph.named(result)], [name], name))
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        writer.graph.nodes,
        "translator",
        [helper.make_tensor_value_info(name, float32, shapes[name]) for name in inputs],
        [helper.make_tensor_value_info(name, float32, shapes[name]) for name in outputs],
        writer.graph.constants,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="ugatit"
    )


class _Writer:
    """Runs a trace: values are constants (numbers, tensors, lists of them), or names.

    Attributes:
        kind: type of what the node at hand gives, see `Name`.
    """

    def __init__(self, traced: torch.jit.ScriptModule, inputs: Sequence[str]) -> None:
        self.graph = Graph()
        self.kind = "Float"
        self.trace: Any = traced.inlined_graph
        own, *arguments = self.trace.inputs()
        self.values: dict[str, Any] = {own.debugName(): traced}
        for name, value in zip(inputs, arguments, strict=True):
            self.values[value.debugName()] = Name(name, *_type(value))

    @torch.no_grad()
    def run(self) -> list[Any]:
        """What comes out, in its order."""
        for node in self.trace.nodes():
            results = self._results(node, [self.values[one.debugName()] for one in node.inputs()])
            self.values |= zip((one.debugName() for one in node.outputs()), results, strict=True)
        (result,) = (self.values[one.debugName()] for one in self.trace.outputs())
        return list(result) if isinstance(result, tuple) else [result]

    def _results(self, node: Any, values: list[Any]) -> Sequence[Any]:
        space, _, name = node.kind().partition("::")
        if space == "prim":
            return self._structure(node, name, values)
        if name == "Int":
            return [one if _is_named(one) else int(one) for one in values]
        if not any(map(_is_named, values)):
            return _computed(node, name, values)
        outputs = list(node.outputs())
        self.kind = _type(outputs[0])[0]
        made = self._operators(name.removesuffix("_"), values)
        pairs = zip(made, outputs, strict=True)
        return [Name(text, *_type(one)) if isinstance(text, str) else text for text, one in pairs]

    def _structure(self, node: Any, name: str, values: list[Any]) -> Sequence[Any]:
        match name:
            case "Constant":
                return [next(node.outputs()).toIValue()]
            case "GetAttr":
                return [getattr(values[0], node.s("name"))]
            case "ListConstruct":
                return [values]
            case "TupleConstruct":
                return [tuple(values)]
            case "ListUnpack" | "TupleUnpack":
                return list(values[0])
            case "NumToTensor":
                return [one if _is_named(one) else torch.tensor(one) for one in values]
        raise Unsupported(f"prim::{name}")

    def _operators(self, name: str, values: list[Any]) -> Sequence[Any]:
        """The names of what a function of PyTorch gives, or values where nothing is to be done."""
        if name in _PLAIN:
            return self.graph.op(_PLAIN[name], values[:1])
        if name in _ARITHMETIC:
            return self._arithmetic(name, *values)
        if name in _REDUCING:
            return self._reduced(_REDUCING[name], *values[:3])
        handler: Callable[..., Sequence[Any]] | None = getattr(self, f"op_{name}", None)
        if handler is None:
            raise Unsupported(f"aten::{name}")
        return handler(*values)

    def cast(self, value: Any, kind: str) -> Any:
        """A value of another type; constants at once."""
        if not _is_named(value):
            return torch.as_tensor(value).to(_TYPES[kind][1])
        if value.kind == kind:
            return value
        (text,) = self.graph.op("Cast", [value], to=_TYPES[kind][0])
        return Name(text, kind, value.shape)

    def _arithmetic(self, name: str, one: Any, other: Any, factor: Any = 1) -> list[str]:
        if factor != 1:
            raise Unsupported(f"aten::{name} with a factor")
        return self.graph.op(_ARITHMETIC[name], [self.cast(one, self.kind), self.cast(other, self.kind)])

    def _reduced(self, operator: str, x: Name, axes: list[int], keep: bool = False) -> list[str]:
        return self.graph.op(operator, [self.cast(x, self.kind), np.array(axes, np.int64)], keepdims=int(keep))

    # --- Functions of PyTorch, with the arguments of `torch.ops.aten` ---------------------------------------

    def op_to(self, x: Name, *_: Any) -> Sequence[Any]:
        return [self.cast(x, self.kind)]

    def op_size(self, x: Name, dim: int) -> list[str]:
        (shape,) = self.graph.op("Shape", [x])
        return self.graph.op("Gather", [shape, np.array(dim, np.int64)])

    def op_rsub(self, one: Any, other: Any, factor: Any) -> list[str]:
        return self._arithmetic("sub", other, one, factor)

    def op_square(self, x: Name) -> list[str]:
        return self.graph.op("Mul", [x, x])

    def op_rsqrt(self, x: Name) -> list[str]:
        return self.graph.op("Reciprocal", self.graph.op("Sqrt", [x]))

    def op_clamp(self, x: Name, low: Any, high: Any) -> list[str]:
        bounds = [None if one is None else self.cast(one, self.kind) for one in (low, high)]
        return self.graph.op("Clip", [x, *bounds])

    def op_leaky_relu(self, x: Name, slope: float) -> list[str]:
        return self.graph.op("LeakyRelu", [x], alpha=float(slope))

    def op_addcmul(self, x: Any, one: Any, other: Any, factor: float) -> list[str]:
        if factor != 1:
            raise Unsupported("aten::addcmul with a factor")
        product = self.graph.op("Mul", [self.cast(value, self.kind) for value in (one, other)])
        return self.graph.op("Add", [*product, self.cast(x, self.kind)])

    def op_linear(self, x: Name, weight: Tensor, bias: Tensor | None) -> list[str]:
        return self.graph.op("Gemm", [x, weight] + ([] if bias is None else [bias]), transB=1)

    def op_unsqueeze(self, x: Name, dim: int) -> list[str]:
        return self.graph.op("Unsqueeze", [x, np.array([dim], np.int64)])

    def op_flatten(self, x: Name, start: int, end: int) -> list[str]:
        if (start, end) != (1, -1):
            raise Unsupported("aten::flatten of some dimensions")
        return self.graph.op("Flatten", [x], axis=1)

    def op_slice(self, x: Name, dim: int, start: int, end: int, step: int) -> Sequence[Any]:
        if (start or 0) == 0 and end == _END and step == 1:
            return [x]
        return self.graph.op("Slice", [x, *(np.array([one], np.int64) for one in (start, end, dim, step))])

    def op_flip(self, x: Name, dims: list[int]) -> list[str]:
        first, last, step = ([value] * len(dims) for value in (-1, -_END, -1))
        return self.graph.op("Slice", [x, *(np.array(one, np.int64) for one in (first, last, dims, step))])

    def op_cat(self, parts: list[Any], dim: int) -> list[str]:
        return self.graph.op("Concat", [self.cast(one, self.kind) for one in parts], axis=dim)

    def op_chunk(self, x: Name, count: int, dim: int) -> Sequence[Any]:
        each = list(x.shape)
        each[dim] //= count
        parts = self.graph.op("Split", [x], outputs=count, axis=dim, num_outputs=count)
        return [[Name(one, x.kind, tuple(each)) for one in parts]]

    def op_expand(self, x: Name, sizes: list[Any], _: Any) -> list[str]:
        # 1 leaves a side as it is.
        zero = np.array([0], np.int64)
        each = [
            self.graph.op("Unsqueeze", [one, zero])[0] if _is_named(one) else np.array([max(one, 1)], np.int64)
            for one in sizes
        ]
        return self.graph.op("Expand", [x, *self.graph.op("Concat", each, axis=0)])

    def op_pad(self, x: Name, sides: list[int], mode: str, value: float | None) -> list[str]:
        left, right, top, bottom = sides
        pads = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
        filling = [self.cast(value or 0.0, self.kind)] if mode == "constant" else []
        return self.graph.op("Pad", [x, pads, *filling], mode={"replicate": "edge"}.get(mode, mode))

    def op_upsample_nearest2d(self, x: Name, _: Any, scales: list[float]) -> list[str]:
        settings: dict[str, Any] = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        return self.graph.op("Resize", [x, None, np.array([1, 1, *scales], np.float32)], **settings)

    def op_pixel_shuffle(self, x: Name, factor: int) -> list[str]:
        return self.graph.op("DepthToSpace", [x], blocksize=factor, mode="CRD")

    def op_adaptive_max_pool2d(self, x: Name, size: Any) -> Sequence[Any]:
        if set(size) != {1}:
            raise Unsupported("aten::adaptive_max_pool2d of another size")
        return [*self.graph.op("GlobalMaxPool", [x]), None]

    def op__convolution(
        self,
        x: Name,
        weight: Any,
        bias: Any,
        stride: list[int],
        pad: list[int],
        dilation: list[int],
        transposed: bool,
        more: list[int],
        groups: int,
        *_: Any,
    ) -> list[str]:
        settings: dict[str, Any] = {"strides": stride, "pads": [*pad, *pad], "dilations": dilation, "group": groups}
        if transposed:
            settings["output_padding"] = more
        inputs = [x, weight] + ([] if bias is None else [bias])
        return self.graph.op("ConvTranspose" if transposed else "Conv", inputs, **settings)

    def op_instance_norm(self, x: Name, gamma: Any, beta: Any, *rest: Any) -> list[str]:
        gamma, beta = _affine(gamma, beta, x.shape[1])
        return self.graph.op("InstanceNormalization", [x, gamma, beta], epsilon=float(rest[4]))

    def op_group_norm(self, x: Name, groups: int, gamma: Tensor, beta: Tensor, eps: float, *_: Any) -> list[str]:
        """As instance norm of groups."""
        flat = self.graph.op("Reshape", [x, np.array([0, groups, -1], np.int64)])
        normed = self.graph.op("InstanceNormalization", [*flat, *_affine(None, None, groups)], epsilon=float(eps))
        back = self.graph.op("Reshape", [*normed, *self.graph.op("Shape", [x])])
        scaled = self.graph.op("Mul", [*back, gamma[:, None, None]])
        return self.graph.op("Add", [*scaled, beta[:, None, None]])

    def op_var_mean(self, x: Name, axes: list[int], correction: int, keep: bool) -> list[str]:
        if correction:
            raise Unsupported("aten::var_mean with a correction")
        over = np.array(axes, np.int64)
        mean = self.graph.op("ReduceMean", [x, over], keepdims=1)
        rest = self.graph.op("Sub", [x, *mean])
        variance = self.graph.op("ReduceMean", [*self.graph.op("Mul", rest * 2), over], keepdims=int(keep))
        return [*variance, *(mean if keep else self.graph.op("Squeeze", [*mean, over]))]


def _is_named(value: Any) -> bool:
    """Whether a value, or a part of it, is known only when the graph runs."""
    return isinstance(value, Name) or (isinstance(value, list | tuple) and any(map(_is_named, value)))


def _computed(node: Any, name: str, values: list[Any]) -> Sequence[Any]:
    """What PyTorch makes of constants."""
    schema = torch._C.parse_schema(node.schema())
    function = getattr(getattr(torch.ops.aten, name), schema.overload_name or "default")
    count = sum(not one.kwarg_only for one in schema.arguments)
    keywords = {one.name: value for one, value in zip(schema.arguments[count:], values[count:], strict=True)}
    result = function(*values[:count], **keywords)
    return list(result) if len(schema.returns) > 1 else [result]


def _type(value: Any) -> tuple[str, tuple[int, ...]]:
    kind = value.type()
    if kind.kind() != "TensorType":  # whole numbers, as sizes are
        return "Long", ()
    return kind.scalarType(), tuple(kind.sizes() or ())


def _affine(gamma: Any, beta: Any, channels: int) -> tuple[Tensor, Tensor]:
    ones, zeros = torch.ones(channels), torch.zeros(channels)
    return (ones if gamma is None else gamma), (zeros if beta is None else beta)


def weight_bytes(model: onnx.ModelProto) -> int:
    """Of all constants."""
    return sum(
        math.prod(one.dims) * helper.tensor_dtype_to_np_dtype(one.data_type).itemsize
        for one in model.graph.initializer
    )
