"""The networks of a training run, their moving average and their optimizers, and all of it by tensor names."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ugatit_cli.config import DIRECTIONS, DOMAINS, Direction, Domain, ModelConfig, Precision, Scale
from ugatit_cli.device import DTYPES
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import Generator
from ugatit_cli.weights.folder import ModelFolder

OTHER: dict[Direction, Direction] = {"a2b": "b2a", "b2a": "a2b"}
# How much a moving average trusts its past at the start, when its past is noise.
EMA_START = 10


@dataclass
class Networks:
    """All weights of a run, float32, on its device.

    Attributes:
        generators: by direction.
        discriminators: by domain and scale.
        averages: moving averages of the generators; empty without.
    """

    config: ModelConfig
    generators: dict[Direction, Generator]
    discriminators: dict[tuple[Domain, Scale], Discriminator]
    averages: dict[Direction, Generator]

    @property
    def best_generators(self) -> dict[Direction, Generator]:
        """The averages, or the generators themselves where there are none."""
        return self.averages or self.generators

    def files(self) -> dict[str, dict[str, Tensor]]:
        """Tensors by file and name, as a checkpoint stores them; those in use, not copies."""
        files = {"generators": generator_tensors(self.generators), "discriminators": self.discriminator_tensors()}
        return files | ({"averages": generator_tensors(self.averages)} if self.averages else {})

    def discriminator_tensors(self) -> dict[str, Tensor]:
        """Tensors of all discriminators by the names of a model folder."""
        return {
            f"{domain}.{scale}.{name}": tensor
            for (domain, scale), network in self.discriminators.items()
            for name, tensor in network.state_dict().items()
        }

    @torch.no_grad()
    def update_averages(self, decay: float, step: int) -> None:
        """Moves the averages towards the generators.

        Args:
            decay: share that the average keeps, in [0, 1).
            step: number of updates before this one; the first ones count for more.
        """
        decay = min(decay, (1 + step) / (EMA_START + step))
        for direction, average in self.averages.items():
            torch._foreach_lerp_(list(average.parameters()), list(self.generators[direction].parameters()), 1 - decay)


def generator_tensors(generators: Mapping[Direction, Generator]) -> dict[str, Tensor]:
    """Tensors of both generators by the names of a model folder."""
    return {
        f"{direction}.{name}": tensor
        for direction, network in generators.items()
        for name, tensor in network.state_dict().items()
    }


def build_networks(
    config: ModelConfig,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    precision: Precision,
    start: ModelFolder | None = None,
    swap: bool = False,
    checkpointing: bool = False,
) -> Networks:
    """Networks ready to train: new ones, N(0, 0.02), the same for every seed; or those of a model.

    Args:
        precision: what the large products are computed in; weights are float32 in any case.
        start: whose weights to start from, of a config that differs in image size, domain names and
            discriminators at most; discriminators that it lacks, or has in another depth, are new.
        swap: the model's A is our B.
        checkpointing: keep fewer activations for the backward pass, and compute them twice.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generators = {direction: Generator(config) for direction in DIRECTIONS}
        discriminators = {
            (domain, scale): Discriminator(config, scale) for domain in DOMAINS for scale in config.scales
        }
    if start is not None:
        _take_over(generators, discriminators, start, config, swap=swap)
    networks: list[Generator | Discriminator] = [*generators.values(), *discriminators.values()]
    for network in networks:
        network.to(device).to(memory_format=memory_format(device)).train()
        network.compute_dtype = DTYPES[precision]
    for generator in generators.values():
        generator.checkpointing = checkpointing
    averages = {}
    if recipe.ema:
        averages = {way: copy.deepcopy(network).eval().requires_grad_(False) for way, network in generators.items()}
    return Networks(config, generators, discriminators, averages)


def memory_format(device: torch.device) -> torch.memory_format:
    """What convolutions like best: channels last, but on MPS."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def _take_over(
    generators: Mapping[Direction, Generator],
    discriminators: Mapping[tuple[Domain, Scale], Discriminator],
    start: ModelFolder,
    config: ModelConfig,
    *,
    swap: bool,
) -> None:
    for direction, generator in generators.items():
        generator.load_state_dict(start.generator(OTHER[direction] if swap else direction).state_dict())
    for (domain, scale), discriminator in discriminators.items():
        exists = start.discriminators is not None and scale in start.config.scales
        if exists and start.config.layers(scale) == config.layers(scale):
            theirs: Domain = ("b" if domain == "a" else "a") if swap else domain
            discriminator.load_state_dict(start.discriminator(theirs, scale).state_dict())
