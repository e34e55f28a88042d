"""What is computed in another way on the CPU than elsewhere gives the same numbers, and the same gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import images
from ugatit_cli.config import ModelConfig
from ugatit_cli.nn.layers import padding
from ugatit_cli.nn.normalization import AdaptiveNorm, InstanceNorm, LayerInstanceNorm, LayerNorm, channel_moments
from ugatit_cli.nn.spectral import SpectralConv2d

CHANNELS = 6
CONFIG = ModelConfig(image_size=32, channels=4, blocks=1)


class Elsewhere(Tensor):
    """On the CPU, but says that it isn't."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """None that computes."""
        return torch.device("meta")


class Adaptive(nn.Module):
    """AdaLIN with the style that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = AdaptiveNorm(CHANNELS, CONFIG)
        self.gamma, self.beta = (nn.Parameter(images(1, CHANNELS, seed=seed)) for seed in (1, 2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x, self.gamma.expand(len(x), -1), self.beta.expand(len(x), -1))
        return out


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "instance": lambda: InstanceNorm(CHANNELS, affine=False),
    "affine": lambda: InstanceNorm(CHANNELS, affine=True),
    "layer": lambda: LayerNorm(CHANNELS),
    "lin": lambda: LayerInstanceNorm(CHANNELS, CONFIG),
    "adalin": Adaptive,
    "spectral": lambda: SpectralConv2d(CHANNELS, 4, 4, pad=padding(1), stride=2, bias=True),
}


def results(layer: nn.Module, x: Tensor) -> Sequence[Tensor]:
    """What a layer gives with a graph and without, and all gradients."""
    layer.zero_grad()
    x = x.detach().requires_grad_()
    out = layer(x)
    (out * images(*out.shape, seed=9).double()).sum().backward()
    with torch.no_grad():
        found = [out, layer(x), x.grad, *(weight.grad for weight in layer.parameters())]
    return [one.detach().as_subclass(Tensor) for one in found if one is not None]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_a_cpu_and_other_devices_agree(name: str, count: int, channels_last: bool) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]().double().eval()  # training would take a step of power iteration
    for number, weight in enumerate(layer.parameters()):
        weight.detach().copy_(images(*weight.shape, seed=number).mul(0.3).add(0.5 * (weight.ndim < 4)))
    x = images(count, CHANNELS, 8, 10, seed=3).double()
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    ours, theirs = results(layer, x), results(layer, x.as_subclass(Elsewhere))
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_moments_agree() -> None:
    x = images(2, CHANNELS, 8, 10).double()
    for one, other in zip(channel_moments(x), channel_moments(x.as_subclass(Elsewhere)), strict=True):
        torch.testing.assert_close(one, other.as_subclass(Tensor), rtol=1e-12, atol=1e-12)
