"""One training step: ours against the official code's order of operations (fp32, eager), in one run.

    python -m benchmarks.training [--sizes 128 256] [--device cpu] [--rounds 5] [--additions | --profile]
    python -m benchmarks.training --methods [unit munit ...] [--sizes 128]

The step is that of the paper's losses (`train --cycle joint`), as quick as it is here, and the paper's recipe to the
letter. `--additions`: the first without each thing that makes it quick, and with augmentation. `--methods`: those
instead of U-GAT-IT, by default all.

The authors' networks (of U-GAT-IT the light ones), their batch, random weights and pictures. Peak memory is that of a
process, PyTorch included. A turn is a step, of DRIT three, since of three steps two update one discriminator alone.
Run from the repository root.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.common import Candidate, Comparison, Work, command_line, compare, write
from benchmarks.plain_steps import STEPS
from tests.methods.test_vgg import weights
from tests.reference_step import PlainTrainer
from ugatit_cli.config import BaseConfig, ModelConfig
from ugatit_cli.device import Group, keep_freed_memory, resolve_device
from ugatit_cli.methods.drit_step import PERIOD
from ugatit_cli.methods.networks import build_networks, memory_format
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.methods.registry import METHODS, config_class, method
from ugatit_cli.training.settings import resolve_training_precision

PLAIN = "official order, fp32"
JOINT = "joint cycle"
CANDIDATES = {PLAIN: "plain", "paper recipe, fp32": "paper", JOINT: "joint"}
ADDITIONS = {
    JOINT: "joint",
    "in fp32": "fp32",
    "power iterations each pass": "each-pass",
    "without moving average": "no-ema",
    "with augmentation": "augment",
}
STEPS_PER_TURN = {"drit": PERIOD}

Run = Callable[[int], object]
"""Trains one step, of which it is told the number."""


def make_recipe(name: str, candidate: str) -> Recipe:
    """The recipe of a candidate of a method."""
    of = method(name)
    # U-GAT-IT's default takes another step: see `--cycle`.
    ours = Recipe() if name == "ugatit" else of.recipe("default")
    recipe = dataclasses.replace(of.recipe("paper") if candidate == "paper" else ours, augment="off")
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


def work(name: str, candidate: str, size: int, channels: int | None, device: str) -> Work:
    """Some steps of a method's candidate."""
    if candidate != "plain":
        keep_freed_memory()  # as `ugatit train` does
    run, count = (
        make_step(name, candidate, sizes_of(name, size, channels), torch.device(device)),
        STEPS_PER_TURN.get(name, 1),
    )
    numbers = itertools.count()
    return Work(lambda: [run(next(numbers)) for _ in range(count)], pieces=count)


def profile(name: str, config: BaseConfig, device: torch.device) -> None:
    """Where a step spends its time."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    run = make_step(name, "joint", config, device)
    for number in range(2):
        run(number)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profiler(activities=activities) as result:
        run(2)
    key = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    print(result.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=50))


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    """What is measured."""
    shared = {"channels": options.channels, "device": str(resolve_device(options.device))}
    for name, size in itertools.product(options.methods or METHODS, options.sizes):
        arguments = {"name": name, "size": size, **shared}
        candidates = [
            Candidate(title, "benchmarks.training:work", {**arguments, "candidate": candidate})
            for title, candidate in (ADDITIONS if options.additions else CANDIDATES).items()
        ]
        yield compare(f"One step of {name} at {size} px", candidates, rounds=options.rounds, warmup=options.warmup)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_line(__doc__, rounds=5)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=["ugatit"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--channels", type=int, help="of the first layer; default: the authors'")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--additions", action="store_true")
    return parser


def main() -> None:
    """Measures, prints and writes."""
    options = parser().parse_args()
    if options.profile:
        for name, size in itertools.product(options.methods or METHODS, options.sizes):
            profile(name, sizes_of(name, size, options.channels), resolve_device(options.device))
        return
    name = "training-additions" if options.additions else "training"
    write(name, comparisons(options), device=options.device)


if __name__ == "__main__":
    main()
