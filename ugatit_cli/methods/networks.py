"""The networks of a training run and their moving average, and all of it by tensor names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ugatit_cli.config import BaseConfig, Precision
from ugatit_cli.device import DTYPES
from ugatit_cli.nn.layers import Network

# How much a moving average trusts its past at the start, when its past is noise.
EMA_START = 10

Build = Callable[[BaseConfig], Mapping[str, Network]]


class Start(Protocol):
    """A model whose weights training can start from, such as a `weights.folder.ModelFolder`."""

    def state(self, name: str) -> Mapping[str, Tensor] | None:
        """Tensors of a network by its name; None if it has none of that name."""


@dataclass(frozen=True)
class Swapped:
    """A start whose A is our B."""

    start: Start

    def state(self, name: str) -> Mapping[str, Tensor] | None:
        """Tensors of the network of the other direction or domain."""
        first, *rest = name.split(".")
        other = {"a": "b", "b": "a", "a2b": "b2a", "b2a": "a2b"}.get(first, first)  # `shared` is of both
        return self.start.state(".".join([other, *rest]))


@dataclass
class Networks:
    """All weights of a run, float32, on its device.

    Attributes:
        translators: what translates, by name.
        critics: what only training needs, by name.
        averages: moving averages of the translators; empty without.
    """

    config: BaseConfig
    translators: dict[str, Network]
    critics: dict[str, Network]
    averages: dict[str, Network]

    @property
    def best_translators(self) -> dict[str, Network]:
        """The averages, or the translators themselves where there are none."""
        return self.averages or self.translators

    def files(self) -> dict[str, dict[str, Tensor]]:
        """Tensors by file and name, as a checkpoint stores them; those in use, not copies."""
        files = {"generators": tensors_of(self.translators), "discriminators": tensors_of(self.critics)}
        return files | ({"averages": tensors_of(self.averages)} if self.averages else {})

    @torch.no_grad()
    def update_averages(self, decay: float, step: int) -> None:
        """Moves the averages towards the translators.

        Args:
            decay: share that the average keeps, in [0, 1).
            step: number of updates before this one; the first ones count for more.
        """
        decay = min(decay, (1 + step) / (EMA_START + step))
        for name, average in self.averages.items():
            weights: list[Tensor] = list(average.parameters())
            if weights:  # of a method's variant without some layers there are none
                torch._foreach_lerp_(weights, list(self.translators[name].parameters()), 1 - decay)


def tensors_of(networks: Mapping[str, Network]) -> dict[str, Tensor]:
    """Tensors of several networks by the names of a model folder: `a2b.stem.conv.weight`."""
    return {
        f"{prefix}.{name}": tensor
        for prefix, network in networks.items()
        for name, tensor in network.state_dict().items()
    }


def build_networks(
    config: BaseConfig,
    translators: Build,
    critics: Build,
    *,
    seed: int,
    device: torch.device,
    precision: Precision,
    averaged: bool,
    start: Start | None = None,
    checkpointing: bool = False,
) -> Networks:
    """Networks ready to train: new ones, the same for every seed; or those of a model.

    Args:
        translators, critics: make them, as those of a `Method`.
        precision: what the large products are computed in; weights are float32 in any case.
        averaged: with moving averages.
        start: whose weights to start from; networks that it lacks, or has in other shapes, are new.
        checkpointing: keep fewer activations for the backward pass, and compute them twice.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = Networks(config, dict(translators(config)), dict(critics(config)), {})
    for key, network in [*networks.translators.items(), *networks.critics.items()]:
        if start is not None:
            _take_over(network, start.state(key))
        network.to(device).to(memory_format=memory_format(device)).train()
        network.compute_dtype, network.checkpointing = DTYPES[precision], checkpointing
    if averaged:
        networks.averages = {
            name: copy.deepcopy(network).eval().requires_grad_(False)
            for name, network in networks.translators.items()
        }
    return networks


def _take_over(network: Network, theirs: Mapping[str, Tensor] | None) -> None:
    own = network.state_dict()
    if theirs is None or {name: one.shape for name, one in theirs.items()} != {n: t.shape for n, t in own.items()}:
        return
    network.load_state_dict(theirs)


def memory_format(device: torch.device) -> torch.memory_format:
    """What convolutions like best: channels last, but on MPS."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


class Unfit(ValueError):
    """Tensors that are not those of a method's networks: the text says in what."""


def check_known(state: Iterable[str], known: Collection[str]) -> None:
    """Whether a network has no other tensors: what nobody reads would make it another one.

    Raises:
        Unfit: it has.
    """
    unknown = sorted(name for name in state if name not in known)
    if unknown:
        raise Unfit(f"unknown tensor {unknown[0]!r}" + f", and {len(unknown) - 1} more" * (len(unknown) > 1))
