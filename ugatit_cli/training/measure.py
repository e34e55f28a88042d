"""What a run will cost: its memory and its speed, found out by doing a few steps on networks that are thrown away."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import torch

from ugatit_cli.batches import Batches
from ugatit_cli.datasets import Pictures
from ugatit_cli.training.distributed import Group
from ugatit_cli.training.monitor import peak_memory
from ugatit_cli.training.settings import Settings
from ugatit_cli.training.step import TrainingStep
from ugatit_cli.training.trainer import Machine, as_input, make_networks

STEPS = 3
# Share of a GPU's memory that a batch may take: samples and other programs need some, too.
ROOM = 0.9


@dataclass(frozen=True)
class Measurement:
    """What a few steps took.

    Attributes:
        generator_parameters, discriminator_parameters: numbers in all networks of a kind.
        steps_per_second: of the fastest step after the first.
        memory: bytes at most in use: of the GPU, or of this process.
    """

    generator_parameters: int
    discriminator_parameters: int
    steps_per_second: float
    memory: int


def measure(settings: Settings, pictures: tuple[Pictures, Pictures], machine: Machine) -> Measurement:
    """Trains throw-away networks for three steps.

    Raises:
        torch.OutOfMemoryError: the batch is too large.
    """
    if machine.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(machine.device)
    networks = make_networks(settings, machine.device, None)
    # Alone: another process may have more memory, and not follow.
    training = TrainingStep(networks, settings.recipe, seed=settings.seed, group=Group())
    batches = Batches(pictures, seed=settings.seed, batch_size=settings.recipe.batch_size)
    seconds = []
    for step in range(STEPS):
        a, b = (as_input(one, machine.device) for one in batches[step])
        start = time.perf_counter()
        losses = training(a, b, step=step, learning_rate=settings.recipe.learning_rate)
        losses["g_a"].item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return Measurement(
        sum(weight.numel() for network in networks.generators.values() for weight in network.parameters()),
        sum(weight.numel() for network in networks.discriminators.values() for weight in network.parameters()),
        1 / min(seconds[1:]),
        peak_memory(machine.device),
    )


def total_memory(device: torch.device) -> int:
    """Bytes of memory of a GPU."""
    return torch.cuda.mem_get_info(device)[1]


def with_fitting_batch(settings: Settings, pictures: tuple[Pictures, Pictures], machine: Machine) -> Settings:
    """Settings whose batch fits into the GPU's memory: halved until it does.

    Raises:
        torch.OutOfMemoryError: a single picture is too much.
    """
    while machine.device.type == "cuda":
        try:
            cost = measure(settings, pictures, machine)
            if settings.recipe.batch_size == 1 or cost.memory < ROOM * total_memory(machine.device):
                break
        except torch.OutOfMemoryError:
            if settings.recipe.batch_size == 1:
                raise
        torch.cuda.empty_cache()
        recipe = dataclasses.replace(settings.recipe, batch_size=settings.recipe.batch_size // 2)
        settings = dataclasses.replace(settings, recipe=recipe)
    return settings
