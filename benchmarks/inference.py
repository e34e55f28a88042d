"""One picture through one generator: ours against the plain eager fp32 transcription and other engines, in one run.

    python -m benchmarks.inference [--device auto] [--rounds 9] [--engines [onnxruntime openvino]]

Random weights N(0, 0.02); the paper's light generator, 64 channels, 256 x 256 pixels. Engines (on CPUs: onnxruntime,
OpenVINO) get the same network with our rewritten layers. PSNR is against the first. Run from the repository root.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ugatit_cli
from benchmarks import engines
from benchmarks.common import Candidate, Comparison, Work, command_line, compare, write
from tests.reference import reference_generator
from ugatit_cli.config import ModelConfig
from ugatit_cli.device import keep_freed_memory, resolve_device
from ugatit_cli.nn.generator import Generator


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1]."""
    return 10 * math.log10(4 / float((image.cpu().double() - reference.cpu()).square().mean()))


def made(channels: int, size: int) -> tuple[ModelConfig, Generator, Tensor]:
    """A generator with the same random weights in every process, and a picture (1, 3, size, size)."""
    config = ModelConfig(channels=channels, image_size=size)
    torch.manual_seed(0)
    generator = Generator(config).eval()
    return config, generator, torch.rand(1, 3, size, size) * 2 - 1


def plain(channels: int, size: int, device: str) -> Work:
    """The transcription."""
    config, generator, x = made(channels, size)
    generator, x = generator.to(device), x.to(device)
    run = torch.inference_mode()(lambda: reference_generator(generator, config, x))
    return Work(run)


def ours(channels: int, size: int, device: str, precision: str, reference_path: str) -> Work:
    """The same network as it is used: made outside of inference mode, or Winograd's transforms aren't kept."""
    config, same, x = made(channels, size)
    model = ugatit_cli.new(config, device=device, precision=precision)
    keep_freed_memory(all_sizes=False)  # as `ugatit translate` does
    generator = model.generator().eval()
    generator.load_state_dict(same.state_dict())
    x = x.to(device, memory_format=torch.channels_last)
    with torch.inference_mode():
        figures = {"PSNR dB": psnr(generator(x).image, torch.from_numpy(np.load(reference_path)))}
    return Work(torch.inference_mode()(lambda: generator(x)), figures=figures)


def candidates(options: argparse.Namespace, folder: Path) -> Iterator[Candidate]:
    """Those that take turns; what they share is written into the folder."""
    sizes = {"channels": options.channels, "size": options.size}
    config, generator, x = made(**sizes)
    shared = {"reference_path": str(folder / "reference.npy")}
    with torch.inference_mode():
        np.save(shared["reference_path"], reference_generator(generator, config, x)[0].numpy())
    here = {**sizes, "device": str(options.device)}
    yield Candidate("plain eager fp32", "benchmarks.inference:plain", here)
    for name in dict.fromkeys(resolved(precision, options.device) for precision in options.precisions):
        yield Candidate(f"ugatit {name}", "benchmarks.inference:ours", {**here, "precision": name, **shared})
    if options.engines:
        np.save(folder / "input.npy", x.numpy())
        engines.export(generator, config, tuple(x.shape), folder / "generator.onnx")
        files: dict[str, Any] = {"path": str(folder / "generator.onnx"), "input_path": str(folder / "input.npy")}
        for name in (name for engine in options.engines for name in engines.ENGINES[engine]):
            arguments = {"name": name, "threads": torch.get_num_threads(), **files, **shared}
            yield Candidate(name, "benchmarks.engines:work", arguments)


def resolved(precision: str, device: torch.device) -> str:
    """What a precision means on a device."""
    return ugatit_cli.new(ModelConfig(channels=4), device=str(device), precision=precision).precision


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    """What is measured."""
    options.device = resolve_device(options.device)
    if options.device.type != "cpu":
        options.engines = []
    engines.require(options.engines)
    title = f"One picture of {options.size}x{options.size} through a light generator of {options.channels} channels"
    with tempfile.TemporaryDirectory() as folder:
        yield compare(title, candidates(options, Path(folder)), rounds=options.rounds, warmup=options.warmup)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_line(__doc__, rounds=9)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "auto"])
    parser.add_argument("--engines", nargs="*", choices=engines.ENGINES, default=list(engines.ENGINES))
    return parser


if __name__ == "__main__":
    options = parser().parse_args()
    write("inference", comparisons(options), device=options.device)
