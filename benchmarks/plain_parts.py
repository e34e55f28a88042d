"""Layers of the official codes as plain PyTorch modules."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Sizes = Any
"""A method's config: `channels`, `blocks`, `discriminator_channels`, and its `image_size`."""

Step = Callable[[Tensor, Tensor], float]
"""Pictures of both domains, (N, 3, H, W) in [-1, 1] -> a loss."""

STYLE = 8
MOST_POOLED = 50


def reflect(inputs: int, outputs: int, kernel: int, stride: int = 1, pad: int = 1) -> nn.Module:
    """Convolution with reflection padding."""
    return nn.Conv2d(inputs, outputs, kernel, stride, pad, padding_mode="reflect")


def zeros(inputs: int, outputs: int, kernel: int, stride: int = 1, pad: int = 1) -> nn.Module:
    """Convolution with zero padding."""
    return nn.Conv2d(inputs, outputs, kernel, stride, pad)


def transposed(inputs: int, outputs: int) -> nn.Module:
    """Convolution that doubles the sides."""
    return nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, 1)


def normed(conv: nn.Module, channels: int, *, affine: bool = False, relu: bool = True) -> nn.Sequential:
    """A convolution, instance norm, ReLU."""
    return nn.Sequential(conv, nn.InstanceNorm2d(channels, affine=affine), *[nn.ReLU()] * relu)


class Residual(nn.Module):
    """The input on top of what comes out; then `last`."""

    def __init__(self, *layers: nn.Module, last: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.last = last or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        out: Tensor = self.last(x + self.layers(x))
        return out


def residual(
    c: int,
    conv: Callable[[int, int, int], nn.Module] = reflect,
    *,
    affine: bool = False,
    last: nn.Module | None = None,
) -> Residual:
    """Two normed convolutions around which the input goes."""
    layers = [normed(conv(c, c, 3), c, affine=affine), normed(conv(c, c, 3), c, affine=affine, relu=False)]
    return Residual(*layers, last=last)


def adam(networks: Iterable[nn.Module], rate: float, decay: float = 0.0) -> torch.optim.Adam:
    """As all of these codes have it."""
    weights = itertools.chain.from_iterable(network.parameters() for network in networks)
    return torch.optim.Adam(weights, lr=rate, betas=(0.5, 0.999), weight_decay=decay)


def of_kind(networks: nn.ModuleDict, *parts: str) -> list[nn.Module]:
    """Those whose names begin so."""
    return [network for name, network in networks.items() if name.partition("_")[0] in parts]


def towards(scores: Tensor, target: float) -> Tensor:
    """The loss of LSGAN."""
    return F.mse_loss(scores, torch.full_like(scores, target))


class Pool:
    """Earlier translations, entry by entry."""

    def __init__(self) -> None:
        self.pictures: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        """The new ones or stored ones, (N, C, H, W)."""
        found = []
        for one in torch.split(x.detach(), 1):
            if len(self.pictures) < MOST_POOLED:
                self.pictures.append(one)
                found.append(one)
            elif random.random() > 0.5:
                place = random.randrange(MOST_POOLED)
                found.append(self.pictures[place])
                self.pictures[place] = one
            else:
                found.append(one)
        return torch.cat(found)


class Scales(nn.ModuleList):
    """Discriminators of a picture, of half its side, and so on."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> scores of each scale."""
        scores = []
        for judge in self:
            scores.append(judge(x))
            x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        return scores


def scales(c: int, slope: float = 0.2) -> Scales:
    """Three of them, of c channels in the first layer."""

    def one() -> nn.Sequential:
        widths = (3, c, 2 * c, 4 * c, 8 * c)
        layers = [(reflect(i, o, 4, 2), nn.LeakyReLU(slope)) for i, o in itertools.pairwise(widths)]
        return nn.Sequential(*itertools.chain.from_iterable(layers), nn.Conv2d(8 * c, 1, 1))

    return Scales(one() for _ in range(3))


def noisy(code: Tensor) -> Tensor:
    """The code and N(0, 1)."""
    return code + torch.randn_like(code)
