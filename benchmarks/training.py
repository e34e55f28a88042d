"""One training step: ours against the official code's order of operations (fp32, eager), in one run.

    python -m benchmarks.training [--sizes 128 256] [--device cpu] [--rounds 5] [--additions | --profile]
    python -m benchmarks.training --methods [unit munit ...] [--sizes 128]

`--additions`: the default recipe without each thing that it adds to the paper's, and with augmentation. `--methods`:
those instead of U-GAT-IT, by default all.

The authors' networks (of U-GAT-IT the light ones), their batch, random weights and pictures. Each candidate is a
process of its own, so that its peak memory is its own (PyTorch included); they take turns, round by round. A round is
a step, of DRIT three, since of three steps two update one discriminator alone. Run from the repository root.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.common import machine, report
from benchmarks.plain_steps import STEPS
from tests.methods.test_vgg import weights
from tests.reference_step import PlainTrainer
from ugatit_cli.config import BaseConfig, ModelConfig
from ugatit_cli.device import Group, peak_memory, resolve_device
from ugatit_cli.methods.drit_step import PERIOD
from ugatit_cli.methods.networks import build_networks, memory_format
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.methods.registry import METHODS, config_class, method
from ugatit_cli.training.settings import resolve_training_precision

PLAIN = "official order, fp32"
DEFAULT = "default recipe"
CANDIDATES = {PLAIN: "plain", "paper recipe, fp32": "paper", DEFAULT: "default"}
ADDITIONS = {
    DEFAULT: "default",
    "in fp32": "fp32",
    "power iterations each pass": "each-pass",
    "without moving average": "no-ema",
    "with augmentation": "augment",
}
STEPS_PER_ROUND = {"drit": PERIOD}

Run = Callable[[int], object]
"""Trains one step, of which it is told the number."""


def make_recipe(name: str, candidate: str) -> Recipe:
    """The recipe of a candidate of a method."""
    of = method(name)
    recipe = dataclasses.replace(of.recipe("paper" if candidate == "paper" else "default"), augment="off")
    recipe = dataclasses.replace(recipe, batch_size=of.recipe("paper").batch_size)
    if "vgg" in of.settings:
        path = Path(tempfile.mkdtemp(), "vgg19.safetensors")
        save_file(weights(), path)
        recipe = dataclasses.replace(recipe, vgg=str(path))
    if candidate == "each-pass":
        return dataclasses.replace(recipe, power_iterations="each-pass")
    if candidate == "no-ema":
        return dataclasses.replace(recipe, ema=0.0)
    return dataclasses.replace(recipe, augment="on" if candidate == "augment" else "off")


def sizes_of(name: str, size: int, channels: int | None) -> BaseConfig:
    """Of a method's networks: the authors', or with other channels."""
    kind = config_class(name)
    if channels is None:
        return kind(image_size=size)
    judges = max(1, round(kind.discriminator_share * channels))
    return kind(image_size=size, channels=channels, discriminator_channels=judges)  # type: ignore[call-arg]


def make_step(name: str, candidate: str, config: BaseConfig, device: torch.device) -> Run:
    """A step of a method's candidate."""
    recipe = make_recipe(name, candidate)
    torch.manual_seed(0)
    shape = (recipe.batch_size, 3, config.image_size, config.image_size)
    pictures = [torch.rand(shape, device=device) * 2 - 1 for _ in "ab"]
    if candidate == "plain":
        plain = _plain(name, config, device)
        return lambda _: plain(*pictures)
    precision = "fp32" if candidate in ("paper", "fp32") else resolve_training_precision("auto", device)
    of = method(name)
    networks = build_networks(
        config,
        of.translators,
        of.critics,
        seed=0,
        device=device,
        precision=precision,
        averaged=recipe.ema > 0,
    )
    training = of.step(networks, recipe, seed=0, group=Group())
    a, b = (one.contiguous(memory_format=memory_format(device)) for one in pictures)
    return lambda step: {
        name: loss.item() for name, loss in training(a, b, step=step, learning_rate=recipe.learning_rate).items()
    }


def _plain(name: str, config: BaseConfig, device: torch.device) -> Callable[..., object]:
    if isinstance(config, ModelConfig):
        return PlainTrainer(config, device).step
    networks, step = STEPS[name]
    return step(networks(config).to(device))


def work(name: str, candidate: str, config: BaseConfig, device: torch.device) -> None:
    """One process: a round for each line on standard input, seconds of a step and peak memory on standard output."""
    run, count = make_step(name, candidate, config, device), STEPS_PER_ROUND.get(name, 1)
    for number, _ in enumerate(sys.stdin):
        start = time.perf_counter()
        for step in range(count):
            run(count * number + step)
        if device.type == "cuda":
            torch.cuda.synchronize()
        print(json.dumps([(time.perf_counter() - start) / count, peak_memory(device)]), flush=True)


def profile(name: str, config: BaseConfig, device: torch.device) -> None:
    """Where the default recipe's step spends its time."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    run = make_step(name, "default", config, device)
    for number in range(2):
        run(number)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profiler(activities=activities) as result:
        run(2)
    key = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    print(result.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=50))


Figures = dict[str, Any]
"""Of a candidate: `seconds` of a step, the median of rounds, the `fastest` and `slowest`; peak `memory` in bytes."""


def compare(
    candidates: dict[str, str], words: list[str], name: str, rounds: int, warmup: int = 2
) -> dict[str, Figures]:
    """Each candidate's figures.

    Args:
        words: of the command line, for its processes.
    """
    processes = {title: _start(f"{name}:{candidate}", words) for title, candidate in candidates.items()}
    seconds: dict[str, list[float]] = {title: [] for title in processes}
    memory = dict.fromkeys(processes, 0)
    for number in range(warmup + rounds):
        for title, process in processes.items():
            took, memory[title] = _ask(process)
            if number >= warmup:
                seconds[title].append(took)
    for process in processes.values():
        process.communicate()
    return {
        title: {
            "seconds": statistics.median(times),
            "fastest": min(times),
            "slowest": max(times),
            "memory": memory[title],
        }
        for title, times in seconds.items()
    }


def _start(worker: str, words: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.training", "--worker", worker, *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(process: subprocess.Popen[str]) -> tuple[float, int]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("step\n")
    process.stdin.flush()
    seconds, memory = json.loads(process.stdout.readline())
    return seconds, memory


def _row(title: str, figures: Figures, base: Figures) -> list[str]:
    speed, share = base["seconds"] / figures["seconds"], figures["memory"] / base["memory"]
    spread = f"{figures['fastest']:.2f} to {figures['slowest']:.2f}"
    return [
        title,
        *(f"{figures['seconds']:.2f}", spread, f"{speed:.2f}"),
        *(f"{figures['memory'] / 1e9:.2f}", f"{share:.0%}"),
    ]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=["ugatit"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--channels", type=int, help="of the first layer; default: the authors'")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--additions", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.methods = options.methods or list(METHODS)
    return options


def main() -> None:
    """Measures, prints and writes."""
    options = parse()
    device = resolve_device(options.device)
    if options.worker:
        name, _, candidate = options.worker.partition(":")
        work(name, candidate, sizes_of(name, options.sizes[0], options.channels), device)
        return
    if options.profile:
        for name, size in itertools.product(options.methods, options.sizes):
            profile(name, sizes_of(name, size, options.channels), device)
        return
    candidates, first = (ADDITIONS, DEFAULT) if options.additions else (CANDIDATES, PLAIN)
    words = ["--device", str(device), *(["--channels", str(options.channels)] if options.channels else [])]
    results: dict[str, dict[str, Any]] = {}
    rows = []
    for name, size in itertools.product(options.methods, options.sizes):
        found = compare(candidates, [*words, "--sizes", str(size)], name, options.rounds)
        results.setdefault(name, {})[str(size)] = found
        rows += [[f"{name}, {size} px", *_row(title, figures, found[first])] for title, figures in found.items()]
    report(
        "training-additions" if options.additions else "training",
        ["", "candidate", "s per step", "spread", "times as fast", "peak GB", "of the first"],
        rows,
        {"machine": machine(device), "results": results},
    )


if __name__ == "__main__":
    main()
