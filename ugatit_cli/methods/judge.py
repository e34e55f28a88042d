"""A projected discriminator (Sauer, Chitta, Müller and Geiger, NeurIPS 2021): are these features of real pictures?

Features of a frozen network at four depths (nn/efficientnet.py) are mixed by random convolutions that nobody trains,
across channels and from coarse to fine, and a small network judges each depth. It learns in minutes what a
discriminator of pictures needs hours for.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ugatit_cli.methods.adam import Adam
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.nn.layers import Network

CHANNELS: Final = (24, 40, 112, 320)
MIXED: Final = (64, 64, 128, 128)
UNITS: Final = (6.7, 6.3, 5.0, 2.8)
"""About the deviations of mixed features."""
HALVINGS: Final = (2, 1, 0, 0)
"""How often each depth's network halves the side."""
WIDTH: Final = 64


class Mixing(nn.Module):
    """The random convolutions: the same in every run, frozen."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            self.across = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(CHANNELS, MIXED, strict=True))
            self.down = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in itertools.pairwise(MIXED))
            self.smooth = nn.ModuleList(nn.Conv2d(a, a, 3, padding=1) for a in MIXED[:-1])
            for layer in (*self.across, *self.down, *self.smooth):
                assert isinstance(layer, nn.Conv2d)
                nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        self.requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features of four depths, (N, C, H, W) each -> as many, of `MIXED` channels, in `UNITS`."""
        mixed = [layer(one) for layer, one in zip(self.across, features, strict=True)]
        for i in reversed(range(len(mixed) - 1)):
            coarse = F.interpolate(self.down[i](mixed[i + 1]), size=mixed[i].shape[2:], mode="bilinear")
            mixed[i] = self.smooth[i]((mixed[i] + coarse) * 0.5**0.5)
        return [one / unit for one, unit in zip(mixed, UNITS, strict=True)]


class Judge(Network):
    """Logits of each depth: what is real is above 1, the rest below -1."""

    def __init__(self) -> None:
        super().__init__()
        depths = zip(MIXED, HALVINGS, strict=True)
        self.heads = nn.ModuleList(_head(channels, times) for channels, times in depths)

    def forward(self, mixed: Sequence[Tensor]) -> list[Tensor]:
        """What `Mixing` returns -> (N, 1, H, W) each."""
        return [head(one) for head, one in zip(self.heads, mixed, strict=True)]


def _head(channels: int, halvings: int) -> nn.Sequential:
    first = [nn.Conv2d(channels if i == 0 else WIDTH, WIDTH, 4, 2, 1) for i in range(halvings)]
    convolutions = first or [nn.Conv2d(channels, WIDTH, 1)]
    convolutions.append(nn.Conv2d(WIDTH, WIDTH, 3, padding=1))
    last = nn.Conv2d(WIDTH, 1, 3, padding=1) if halvings else nn.Conv2d(WIDTH, 1, 1)
    layers = [part for one in convolutions for part in (spectral_norm(one), nn.LeakyReLU(0.2))]
    return nn.Sequential(*layers, spectral_norm(last))


class Adversary:
    """A judge in training, and what it tells a translator.

    Args:
        name: of its weights in a checkpoint.
        seed: of its first weights.
        average: see `Adam`.

    Attributes:
        updates: of the judge so far, which a run may ask for in the midst of it; None: a checkpoint of an earlier
            version doesn't say.
    """

    def __init__(
        self, name: str, recipe: Recipe, average: Callable[[list[Tensor]], None], *, seed: int, device: torch.device
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.judge = Judge().to(device)
        self.name, self.mixing = name, Mixing().to(device)
        own = dataclasses.replace(recipe, beta1=0.5, beta2=0.999, weight_decay=0.0)
        self.optimizer = Adam({name: self.judge}, own, average)
        self.updates: int | None = 0

    def learn(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Updates the judge once by the hinge loss, and returns that, a scalar.

        Args:
            real, fake: features of real and of translated pictures, without a graph.
        """
        self.judge.train().requires_grad_()
        count = len(real[0])
        logits = self.judge(self.mixing([torch.cat(pair) for pair in zip(real, fake, strict=True)]))
        terms = [F.relu(1 - one[:count]).mean() + F.relu(1 + one[count:]).mean() for one in logits]
        loss = torch.stack(terms).mean()
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.updates = (self.updates or 0) + 1
        return loss.detach()

    def loss(self, features: Sequence[Tensor]) -> Tensor:
        """What a translator shall make small, a scalar: the sum over depths; features come with their graph."""
        logits = self.judge.eval().requires_grad_(False)(self.mixing(features))
        return -torch.stack([one.mean() for one in logits]).sum()

    def memory(self) -> dict[str, Tensor]:
        """The judge's weights by name, those in use, not copies; and how many updates it has had."""
        weights = {f"{self.name}.{name}": tensor for name, tensor in self.judge.state_dict().items()}
        return weights | {f"{self.name}.updates": torch.tensor(self.updates)}

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        """The inverse of `memory`; other names than its own are others'."""
        self.judge.load_state_dict({name: memory[f"{self.name}.{name}"] for name in self.judge.state_dict()})
        updates = memory.get(f"{self.name}.updates")
        self.updates = None if updates is None else int(updates)
