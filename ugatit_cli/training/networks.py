"""The networks of a training run, their moving average and their optimizers, and all of it by tensor names."""

from __future__ import annotations

import copy
import functools
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ugatit_cli.checkpoint import ModelFolder
from ugatit_cli.config import DIRECTIONS, DOMAINS, Direction, Domain, ModelConfig, Precision, Scale
from ugatit_cli.device import DTYPES
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import Generator
from ugatit_cli.recipe import Recipe

OTHER: dict[Direction, Direction] = {"a2b": "b2a", "b2a": "a2b"}
# How much a moving average trusts its past at the start, when its past is noise.
EMA_START = 10
# From this many numbers on, a weight is large.
LARGE = 1_000_000


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
        if start.discriminators is not None and _same_depth(start.config, config, scale):
            theirs: Domain = ("b" if domain == "a" else "a") if swap else domain
            discriminator.load_state_dict(start.discriminator(theirs, scale).state_dict())


def _same_depth(theirs: ModelConfig, ours: ModelConfig, scale: Scale) -> bool:
    return scale in theirs.scales and theirs.layers(scale) == ours.layers(scale)


class Adam:
    """Adam (Kingma and Ba 2015) with the L2 weight decay of the official code, over named parameters.

    PyTorch's, handed views of the weights in memory order: its fused kernel copies tensors of any other order, which
    on a CPU takes twice as long as the update itself.

    Args:
        networks: by the prefix of their parameters' names.
        average: replaces gradients by their mean over all processes.
        eager: update large weights while the backward pass goes on, which frees their gradients at once. For
            networks with a single backward pass per step.
    """

    def __init__(
        self,
        networks: Mapping[str, Generator | Discriminator],
        recipe: Recipe,
        average: Callable[[list[Tensor]], None],
        *,
        eager: bool = False,
    ) -> None:
        self.parameters = {
            f"{prefix}.{name}": parameter
            for prefix, network in networks.items()
            for name, parameter in network.named_parameters()
        }
        self.views = {name: nn.Parameter(_in_memory_order(weight)) for name, weight in self.parameters.items()}
        self.learning_rate = recipe.learning_rate
        self._average = average
        self._recipe = recipe
        self._eager: dict[str, torch.optim.Adam] = {}
        for name, parameter in self.parameters.items():
            if eager and parameter.numel() >= LARGE:
                self._eager[name] = self._adam([name])
                register: Any = parameter.register_post_accumulate_grad_hook  # torch leaves it untyped
                # Weakly: Python can't see that the parameter holds its hook, and would never free the two.
                register(functools.partial(_update_now, weakref.ref(self), name))
        self._rest = [name for name in self.parameters if name not in self._eager]
        self._optimizer = self._adam(self._rest)
        self.prepare(0)

    def _adam(self, names: list[str]) -> torch.optim.Adam:
        views = [self.views[name] for name in names]
        return torch.optim.Adam(
            views,
            betas=(self._recipe.beta1, self._recipe.beta2),
            weight_decay=self._recipe.weight_decay,
            fused=views[0].device.type in ("cpu", "cuda"),
        )

    def step(self) -> None:
        """Updates what isn't updated yet, at `learning_rate`, and drops the gradients."""
        self._update(self._optimizer, self._rest)

    def update_now(self, name: str) -> None:
        """Updates a large weight, and drops its gradient."""
        self._update(self._eager[name], [name])

    def _update(self, optimizer: torch.optim.Adam, names: list[str]) -> None:
        optimizer.param_groups[0]["lr"] = self.learning_rate
        trained = [name for name in names if self.parameters[name].grad is not None]
        gradients = {name: cast(Tensor, self.parameters[name].grad) for name in trained}
        self._average(list(gradients.values()))
        for name, gradient in gradients.items():
            self.views[name].grad = _in_memory_order(gradient)
            self.parameters[name].grad = None
        optimizer.step()
        optimizer.zero_grad()

    def tensors(self) -> dict[str, Tensor]:
        """The moments by name; those in use, not copies."""
        return {f"{name}.{moment}": tensor for name, moment, tensor in self._moments()}

    def _moments(self) -> Iterator[tuple[str, str, Tensor]]:
        for name, view in self.views.items():
            state = self._state_of(name)[view]
            for moment in ("exp_avg", "exp_avg_sq"):
                yield name, moment, _in_channel_order(state[moment], self.parameters[name])

    def prepare(self, updates: int) -> dict[str, Tensor]:
        """Makes zero moments as after a number of updates, and returns them by name, to be filled in place."""
        for name, view in self.views.items():
            self._state_of(name)[view] = {
                # Where the fused kernel of a GPU expects it.
                "step": torch.tensor(float(updates), device=view.device if view.is_cuda else "cpu"),
                "exp_avg": torch.zeros_like(view),
                "exp_avg_sq": torch.zeros_like(view),
            }
        return self.tensors()

    def _state_of(self, name: str) -> dict[Tensor, Any]:
        return self._eager.get(name, self._optimizer).state


def _update_now(optimizer: weakref.ref[Adam], name: str, _: Tensor) -> None:
    owner = optimizer()
    if owner is not None:
        owner.update_now(name)


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and not tensor.is_contiguous()


def _in_memory_order(tensor: Tensor) -> Tensor:
    return tensor.detach().permute(0, 2, 3, 1) if _is_channels_last(tensor) else tensor.detach()


def _in_channel_order(moment: Tensor, weight: Tensor) -> Tensor:
    return moment.permute(0, 3, 1, 2) if _is_channels_last(weight) else moment
