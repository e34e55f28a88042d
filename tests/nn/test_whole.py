"""Statistics of a whole picture: recorded from its parts, and replayed over each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import tiny
from tests.helpers import images, whole
from ugatit_cli.config import BaseConfig
from ugatit_cli.methods.drit_config import DRITConfig
from ugatit_cli.methods.registry import METHODS, config_class, method_of
from ugatit_cli.nn.normalization import AdaptiveNorm, GroupNorm, InstanceNorm, LayerInstanceNorm, LayerNorm
from ugatit_cli.nn.whole import Statistics
from ugatit_cli.pictures.geometry import Pixels
from ugatit_cli.translation import passes
from ugatit_cli.translation.model import Model

GN = dataclasses.replace(tiny.LIGHT, channels=8, decoder_norm="gn")
EVERY: dict[str, BaseConfig] = {
    **{name: config_class(name)("flat", "clay", 32, channels=4, blocks=1) for name in METHODS},
    "drit of transforms": DRITConfig("flat", "clay", 32, channels=4, blocks=1, style_way="transform"),
    "ugatit of tensorflow": dataclasses.replace(tiny.LIGHT, dialect="tensorflow"),
    "ugatit of gn": GN,
}
ALL = pytest.mark.parametrize("config", EVERY.values(), ids=EVERY)
NORMS: dict[str, Callable[[], nn.Module]] = {
    "instance": lambda: InstanceNorm(8, affine=True),
    "adalin": lambda: AdaptiveNorm(8, dataclasses.replace(tiny.LIGHT, dialect="tensorflow")),
    "lin": lambda: LayerInstanceNorm(8, tiny.LIGHT),
    "layer": lambda: LayerNorm(8),
    "group": lambda: GroupNorm(8),
}


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NORMS)
@torch.inference_mode()
def test_norms_take_parts_for_a_whole(name: str) -> None:
    norm, x = NORMS[name](), 3 * images(1, 8, 12, 16) + images(1, 8, 1, 1, seed=1)
    style = [images(1, 8, seed=2), images(1, 8, seed=3)] if name == "adalin" else []
    parts = torch.cat(x.chunk(4, 3))
    expected = torch.cat(norm(x, *style).chunk(4, 3))
    statistics = Statistics()
    with statistics.recorded():
        close(norm(parts, *(one.expand(4, -1) for one in style)), expected)
    for part, one in zip(parts, expected, strict=True):
        with statistics.replayed():
            close(norm(part[None], *style), one[None])


@ALL
@torch.inference_mode()
def test_what_is_replayed_is_what_was_recorded(config: BaseConfig) -> None:
    torch.manual_seed(4)
    method = method_of(config)
    network = method.translator(method.translators(config), "a2b").eval()
    style = [images(1, config.style_size, seed=9)] if config.style_size else []
    x, statistics = images(1, 3, 32, 32), Statistics()
    plain = network(x, *style).image
    with statistics.recorded():
        recorded = network(x, *style).image
    close(recorded, plain)
    for _ in range(2):
        with statistics.replayed():
            assert torch.equal(network(x, *style).image, recorded)
    assert torch.equal(network(x, *style).image, plain)


def scenery(width: int, height: int) -> Pixels:
    """Bright at the right and dark at the left, with a little noise all over: tiles of it have little in common."""
    light = np.linspace(20, 235, width)[None, :, None] + np.array([-15, 0, 15])
    noise = np.random.default_rng(5).normal(0, 12, (height, width, 3))
    return np.asarray(np.clip(light + noise, 0, 255), np.uint8)


@ALL
def test_tiles_agree_with_one_pass(config: BaseConfig) -> None:
    torch.manual_seed(4)
    model, picture = Model.untrained(config, device="cpu", precision="fp32"), scenery(192, 64)
    one, tiled = (
        next(iter(passes.look(model, [picture], "a2b", [whole(192, 64, tile)]))).pixels.astype(float)
        for tile in (0, 128)
    )
    # What a tile's padding changes hardly counts; by their own statistics, tiles would differ by about `spread`.
    spread = one.std()
    assert np.abs(one - tiled).mean() < 0.02 * spread
    assert spread > 10
