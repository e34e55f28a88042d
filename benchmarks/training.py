"""One training step: ours against the official code's order of operations (fp32, eager), in one run.

    python -m benchmarks.training [--sizes 128 256] [--device cpu] [--rounds 5] [--additions | --profile]

`--additions`: the default recipe without each thing that it adds to the paper's, and with augmentation.

The paper's light networks, 64 channels, batch 1, random weights and pictures. Each candidate is a process of its own,
so that its peak memory is its own (PyTorch included); they take turns, step by step. Run from the repository root.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.common import machine, report
from tests.reference_step import PlainTrainer
from ugatit_cli.config import ModelConfig
from ugatit_cli.device import Group, peak_memory, resolve_device
from ugatit_cli.methods.networks import build_networks, memory_format
from ugatit_cli.methods.recipe import Recipe, preset
from ugatit_cli.methods.ugatit import UGATIT
from ugatit_cli.training.settings import resolve_training_precision

PLAIN = "official order, fp32"
DEFAULT = "ugatit, default recipe"
CANDIDATES = {PLAIN: "plain", "ugatit, paper recipe, fp32": "paper", DEFAULT: "default"}
ADDITIONS = {
    DEFAULT: "default",
    "in fp32": "fp32",
    "power iterations each pass": "each-pass",
    "without moving average": "no-ema",
    "with augmentation": "augment",
}


def make_recipe(candidate: str) -> Recipe:
    """The recipe of a candidate."""
    recipe = dataclasses.replace(preset("paper" if candidate == "paper" else "default"), augment="off")
    if candidate == "each-pass":
        return dataclasses.replace(recipe, power_iterations="each-pass")
    if candidate == "no-ema":
        return dataclasses.replace(recipe, ema=0.0)
    return dataclasses.replace(recipe, augment="on" if candidate == "augment" else "off")


def make_step(candidate: str, size: int, device: torch.device, channels: int = 64) -> Callable[[int], object]:
    """A function that trains one step; its argument is the step's number."""
    config = ModelConfig(image_size=size, channels=channels)
    torch.manual_seed(0)
    pictures = [torch.rand(1, 3, size, size, device=device) * 2 - 1 for _ in "ab"]
    if candidate == "plain":
        plain = PlainTrainer(config, device)
        return lambda _: plain.step(*pictures)
    recipe = make_recipe(candidate)
    precision = "fp32" if candidate in ("paper", "fp32") else resolve_training_precision("auto", device)
    method = UGATIT()
    networks = build_networks(
        config,
        method.translators,
        method.critics,
        seed=0,
        device=device,
        precision=precision,
        averaged=recipe.ema > 0,
    )
    training = method.step(networks, recipe, seed=0, group=Group())
    a, b = (one.contiguous(memory_format=memory_format(device)) for one in pictures)
    return lambda step: {
        name: loss.item() for name, loss in training(a, b, step=step, learning_rate=recipe.learning_rate).items()
    }


def work(candidate: str, size: int, device: torch.device) -> None:
    """One process: a step for each line on standard input, its seconds and the peak memory on standard output."""
    run = make_step(candidate, size, device)
    for number, _ in enumerate(sys.stdin):
        start = time.perf_counter()
        run(number)
        print(json.dumps([time.perf_counter() - start, peak_memory(device)]), flush=True)


def profile(size: int, device: torch.device) -> None:
    """Where the default recipe's step spends its time."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    run = make_step("default", size, device)
    for number in range(2):
        run(number)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profiler(activities=activities) as result:
        run(2)
    key = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    print(result.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=50))


def compare(
    candidates: dict[str, str], size: int, device: torch.device, rounds: int, warmup: int = 2
) -> dict[str, dict[str, float]]:
    """Median seconds and peak bytes of each candidate."""
    processes = {name: _start(candidate, size, device) for name, candidate in candidates.items()}
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    memory = dict.fromkeys(processes, 0)
    for number in range(warmup + rounds):
        for name, process in processes.items():
            took, memory[name] = _ask(process)
            if number >= warmup:
                seconds[name].append(took)
    for process in processes.values():
        process.communicate()
    return {name: {"seconds": statistics.median(seconds[name]), "memory": memory[name]} for name in processes}


def _start(candidate: str, size: int, device: torch.device) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.training", "--worker", candidate]
    command += ["--sizes", str(size), "--device", str(device)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(process: subprocess.Popen[str]) -> tuple[float, int]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("step\n")
    process.stdin.flush()
    seconds, memory = json.loads(process.stdout.readline())
    return seconds, memory


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--additions", action="store_true")
    parser.add_argument("--worker", choices=[*CANDIDATES.values(), *ADDITIONS.values()], help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = resolve_device(options.device)
    if options.worker:
        work(options.worker, options.sizes[0], device)
        return
    if options.profile:
        for size in options.sizes:
            profile(size, device)
        return
    candidates, first = (ADDITIONS, DEFAULT) if options.additions else (CANDIDATES, PLAIN)
    results: dict[str, Any] = {str(size): compare(candidates, size, device, options.rounds) for size in options.sizes}
    rows = []
    for size, of_size in results.items():
        base = of_size[first]
        for name, figures in of_size.items():
            speed, share = base["seconds"] / figures["seconds"], figures["memory"] / base["memory"]
            rows.append([f"{size} px", name, f"{figures['seconds']:.2f}", f"{speed:.2f}"])
            rows[-1] += [f"{figures['memory'] / 1e9:.2f}", f"{share:.0%}"]
    header = ["size", "candidate", "s per step", "times as fast", "peak GB", "of the first"]
    report(
        "training-additions" if options.additions else "training",
        header,
        rows,
        {"machine": machine(device), "results": results},
    )


if __name__ == "__main__":
    main()
