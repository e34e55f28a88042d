"""ONNX files as `ugatit export` writes them, but made by hand: what they compute is known, and quickly made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from tests import tiny
from ugatit_cli.config import BaseConfig
from ugatit_cli.exporting.store import KEY, Description
from ugatit_cli.methods.registry import networks_document

DESCRIPTION = Description("tiny", "a2b", networks_document(tiny.LIGHT), "fp32", None, maps=False)


def described(config: BaseConfig = tiny.LIGHT, **values: Any) -> Description:
    """What a file says of itself."""
    return replace(DESCRIPTION, config=networks_document(config), **values)


def inverting(
    path: Path,
    description: Description | None = DESCRIPTION,
    *,
    nodes: Sequence[onnx.NodeProto] = (),
) -> Path:
    """Writes a file that turns light into dark, tinted with a style if there are any; its attention is the red.

    Args:
        description: None: it says nothing.
        nodes: instead of its own ones.
    """
    size: Sequence[int | str] = ("h", "w") if description is None or description.size is None else description.size
    config = tiny.LIGHT if description is None else description.networks
    inputs = [_tensor("picture", ["n", 3, *size])]
    outputs = [_tensor("translation", ["n", 3, *size])]
    own = [helper.make_node("Sub", ["one", "picture"], ["translation"])]
    constants = [helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])]
    if config.style_size:
        inputs.append(_tensor("style", ["n", config.style_size]))
        constants.append(helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3]))
        own = [
            helper.make_node("ReduceMean", ["style"], ["mean"], keepdims=0),
            helper.make_node("Sigmoid", ["mean"], ["tint"]),
            helper.make_node("Mul", ["picture", "tint"], ["translation"]),
        ]
    if description is not None and description.maps:
        outputs += [_tensor("heatmap", ["n", 1, "y", "x"]), _tensor("cam_logit", ["n", 2])]
        own += [
            helper.make_node("AveragePool", ["picture"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
            helper.make_node("Split", ["pooled"], ["heatmap", "green", "blue"], axis=1, num_outputs=3),
            helper.make_node("GlobalMaxPool", ["heatmap"], ["most"]),
            helper.make_node("Flatten", ["most"], ["logit"]),
            helper.make_node("Concat", ["logit", "logit"], ["cam_logit"], axis=1),
        ]
    graph = helper.make_graph(list(nodes) or own, "graph", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if description is not None:
        helper.set_model_props(model, {KEY: description.text, "licence": "none"})
    path.write_bytes(model.SerializeToString())
    return path


def _tensor(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
