"""The generator in other engines: exported to ONNX once, run on the CPU by onnxruntime and by OpenVINO."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import Work
from ugatit_cli.config import ModelConfig
from ugatit_cli.exporting.export import shapes
from ugatit_cli.exporting.network import Portable, input_names, output_names, traced
from ugatit_cli.exporting.onnx_graph import onnx_model
from ugatit_cli.exporting.store import PICTURE
from ugatit_cli.nn.generator import Generator

ENGINES = {
    "onnxruntime": ("onnxruntime fp32",),
    "openvino": ("OpenVINO fp32", "OpenVINO bf16"),
}
EXPORT = ("onnx",)
INSTALL = 'pip install -e ".[bench]"'

Run = Callable[[np.ndarray], np.ndarray]


def require(engines: Sequence[str]) -> None:
    """Looks whether engines can be imported.

    Raises:
        SystemExit: one of them can't.
    """
    wanted = [*engines, *EXPORT] if engines else []
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(
            f"error: not installed: {', '.join(missing)}\n"
            f"In a checkout: {INSTALL}. Or compare with PyTorch alone: --engines without a name."
        )


def export(generator: Generator, config: ModelConfig, shape: tuple[int, ...], path: Path) -> None:
    """Writes a float32 generator for pictures of one size, of which `shape` is (N, 3, H, W), as `ugatit export`."""
    network = traced(Portable(generator, maps=False), config)
    names = input_names(config), output_names(config, maps=False)
    path.write_bytes(onnx_model(network, *names, shapes(config, (shape[2], shape[3]))).SerializeToString())


def onnxruntime_run(path: str, threads: int) -> Run:
    """onnxruntime's kernels for CPUs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its threads wait awake between layers, but no longer when a picture is done.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(None, {PICTURE: x})[0])


def openvino_run(path: str, threads: int, precision: str) -> Run:
    """OpenVINO's for CPUs, for one picture at a time."""
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": {"fp32": "f32"}.get(precision, precision),
    }
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda x: np.asarray(request.infer({0: x})[0])


def work(name: str, path: str, threads: int, input_path: str, reference_path: str) -> Work:
    """One picture through an exported generator."""
    from benchmarks.inference import psnr

    engine, _, precision = name.partition(" ")
    run = onnxruntime_run(path, threads) if engine == "onnxruntime" else openvino_run(path, threads, precision)
    x = (np.load(input_path) + 1) / 2  # files take and give pictures in [0, 1]
    image = torch.from_numpy(2 * run(x) - 1)
    figures = {"PSNR dB": psnr(image, torch.from_numpy(np.load(reference_path)))}
    return Work(lambda: run(x), figures=figures)
