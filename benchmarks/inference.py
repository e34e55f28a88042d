"""One picture through one generator: ours against the plain eager fp32 transcription, in one run.

    python -m benchmarks.inference [--device auto] [--rounds 9]

Random weights N(0, 0.02); the paper's light generator, 64 channels, 256 x 256 pixels. Run from the repository root.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

import ugatit_cli
from benchmarks.common import interleaved, machine, report
from tests.reference import reference_generator
from ugatit_cli.config import ModelConfig
from ugatit_cli.nn.generator import Generator

CANDIDATES = ("fp32", "auto")


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1]."""
    return 10 * math.log10(4 / float((image - reference).square().mean()))


@torch.inference_mode()
def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()

    config = ModelConfig(channels=options.channels, image_size=options.size)
    torch.manual_seed(0)
    plain = Generator(config).eval()
    models = {name: ugatit_cli.new(config, device=options.device, precision=name) for name in CANDIDATES}
    for model in models.values():
        model.generator().eval().load_state_dict(plain.state_dict())
    device = models["auto"].device
    plain.to(device)
    x = torch.rand(1, 3, options.size, options.size, device=device) * 2 - 1
    channels_last = x.contiguous(memory_format=torch.channels_last)
    reference = reference_generator(plain, config, x)[0]

    runs: dict[str, Callable[[], object]] = {"plain eager fp32": lambda: reference_generator(plain, config, x)}
    quality = {"plain eager fp32": math.inf}
    for model in models.values():
        name = f"ugatit {model.precision}"
        generator = model.generator()
        runs[name] = functools.partial(generator, channels_last)
        quality[name] = psnr(generator(channels_last).image, reference)
    seconds = interleaved(runs, rounds=options.rounds)
    base = seconds["plain eager fp32"]
    rows = [
        [name, f"{1000 * value:.1f}", f"{base / value:.2f}", f"{quality[name]:.1f}"]
        for name, value in seconds.items()
    ]
    data = {
        "machine": machine(device),
        "seconds": seconds,
        "psnr": {k: v for k, v in quality.items() if v < math.inf},
    }
    report("inference", ["candidate", "ms per picture", "times as fast", "PSNR dB"], rows, data)


if __name__ == "__main__":
    main()
