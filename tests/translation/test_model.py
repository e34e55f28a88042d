"""Pictures through a model on a device: batches, tiles, and too little memory."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from tests.helpers import picture, pixels, whole
from tests.pipelines import Unchanged, unchanging
from ugatit_cli import load
from ugatit_cli.config import MAPS, BaseConfig
from ugatit_cli.errors import ModelError, PictureError, UsageError
from ugatit_cli.methods.configs import MUNITConfig
from ugatit_cli.methods.drit_config import DRITConfig
from ugatit_cli.nn.layers import Network
from ugatit_cli.pictures.geometry import SizeOptions, plan_geometry
from ugatit_cli.translation.model import Model
from ugatit_cli.weights.folder import open_model

SIZES: dict[str, Any] = {"image_size": 32, "channels": 4, "blocks": 1, "discriminator_channels": 4}
MUNIT, DRIT = MUNITConfig("flat", "clay", **SIZES), DRITConfig("flat", "clay", **SIZES)


@pytest.fixture
def model(folder: Path) -> Model:
    return load(str(folder), device="cpu", precision="fp32")


# --- Tiles ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 64), (68, 64), (100, 160), (64, 300), (16, 200), (200, 16), (131, 77)])
def test_tiles_of_the_identity_are_the_identity(size: tuple[int, int]) -> None:
    network = Unchanged()
    geometry = plan_geometry(size, tiny.LIGHT, SizeOptions("native", 64))
    (result,) = unchanging(network).translate_pixels([pixels(*geometry.network)], "a2b", geometry)
    np.testing.assert_array_equal(result, pixels(*geometry.network))
    width, height = (min(side, 64) for side in geometry.network)
    tiles = network.batches[bool(geometry.tile) :]  # after a look at the whole
    assert {tuple(shape) for _, *shape in tiles} == {(height, width)}


def test_a_full_model_sees_tiles_of_its_size() -> None:
    network = Unchanged()
    full = unchanging(network, dataclasses.replace(tiny.FULL, image_size=64))
    for size in ((1, 1), (64, 64), (65, 3), (90, 150)):
        geometry = plan_geometry(size, full.config, SizeOptions("native"))
        (result,) = full.translate_pixels([pixels(*geometry.network)], "a2b", geometry)
        assert result.shape == (geometry.network[1], geometry.network[0], 3)
    assert {tuple(shape) for _, *shape in network.batches} == {(64, 64)}


# --- Networks ------------------------------------------------------------------------------------------


def test_networks_are_loaded_once_and_when_asked_for(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    first = model.generator("a2b")
    monkeypatch.setattr("ugatit_cli.weights.folder._fill", None)
    assert model.generator("a2b") is first
    with pytest.raises(TypeError):
        model.generator("b2a")


def test_precision_reaches_the_network(folder: Path) -> None:
    model = load(str(folder), device="cpu", precision="bf16")
    generator = model.generator("a2b")
    assert generator.stem.conv.weight.dtype == torch.bfloat16
    assert generator(torch.zeros(1, 3, 32, 32)).image.dtype == torch.float32
    assert model.looking_discriminator("b", "local").head.weight.dtype == torch.bfloat16
    assert model.discriminator("b", "local").head.weight.dtype == torch.float32
    exact = load(str(folder), device="cpu", precision="fp32")
    (rough,), (fine,) = (each.translate_pixels([pixels(32, 32)], "a2b", whole(32, 32)) for each in (model, exact))
    assert np.abs(rough.astype(int) - fine).max() <= 8


def test_untrained_models_learn_and_loaded_ones_do_not(folder: Path) -> None:
    new = Model.untrained(tiny.LIGHT, device="cpu", precision="fp32")
    assert all(parameter.requires_grad for parameter in new.generator("a2b").parameters())
    assert new.generator("a2b").training
    loaded = Model.from_folder("x", open_model(folder), device="cpu")
    assert not any(parameter.requires_grad for parameter in loaded.generator("a2b").parameters())
    assert not loaded.generator("a2b").training
    assert loaded.name == "x"
    assert loaded.config == tiny.LIGHT == new.config


def learns(network: Network, x: torch.Tensor) -> bool:
    found = network(x)
    parts = [found] if isinstance(found, torch.Tensor) else [one for one in found if one is not None]
    sum((one.sum() for one in parts), start=torch.zeros(())).backward()
    return all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("config", [tiny.LIGHT, MUNIT], ids=lambda config: config.method)
def test_new_models_that_are_first_looked_at_in_inference_mode_learn(config: BaseConfig) -> None:
    model = Model.untrained(config, device="cpu", precision="fp32")
    asks: list[Callable[[], Network]] = [model.generator]
    asks.append(partial(model.discriminator, "b", None if config is MUNIT else "local"))
    asks += [model.style_encoder] if config is MUNIT else []
    x = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        for ask in asks:
            ask()(x)
    assert all(learns(ask(), x) for ask in asks)


def test_a_new_model_that_is_first_looked_at_in_inference_mode_has_styles_afterwards() -> None:
    model = Model.untrained(MUNIT, device="cpu", precision="fp32")
    with torch.inference_mode():
        model.generator("a2b")
    assert model.style(picture(32, 32)).shape == (MUNIT.style_size,)


def test_a_result_that_is_not_a_number(model: Model) -> None:
    with torch.no_grad():
        model.generator("a2b").to_rgb.weight.fill_(math.nan)
    with pytest.raises(PictureError, match="not a number") as caught:
        model.translate(Image.new("RGB", (32, 32)))
    assert "fp32" not in caught.value.hint  # which it is in


# --- Where the networks look ---------------------------------------------------------------------------


def pictures(*sizes: tuple[int, int]) -> list[Image.Image]:
    return [picture(*size, seed) for seed, size in enumerate(sizes)]


def test_attention_of_pictures_of_many_sizes(model: Model) -> None:
    sizes = [(50, 40), (33, 35), (50, 40), (7, 90), (1, 1)]
    several = pictures(*sizes)
    found = model.attention_maps(several, fit="native")
    assert len(found) == len(found.inputs) == len(found.translations) == 5
    for index, (image, size) in enumerate(zip(several, sizes, strict=True)):
        assert found.inputs[index].size == found.translations[index].size == size
        assert found.inputs[index].tobytes() == image.tobytes()
        assert found.translations[index].tobytes() == model.translate(image, fit="native").tobytes()
        (alone,) = model.attention_maps([image], fit="native").maps
        for name, one in found.maps[index].items():
            np.testing.assert_allclose(one.values, alone[name].values, rtol=1e-4, atol=1e-7)
            assert found.heat(index, name).shape == (size[1], size[0])
            assert found.overlay(index, name).size == size


def test_one_scale_for_all_pictures(model: Model) -> None:
    several = [Image.fromarray(pixels(32, 32, seed) // (1 + 3 * seed)) for seed in range(3)]
    common = model.attention_maps((one for one in several), size="20x30", normalize="batch")
    assert common.translations[0].size == (20, 30)
    assert common.spans is not None
    for name in MAPS:
        low, high = zip(*(maps[name].span for maps in common.maps), strict=True)
        assert common.spans[name] == (min(low), max(high))
    own = model.attention_maps(several[1], maps="generator", size="20x30")
    assert (own.heat(0, "generator") != common.heat(1, "generator")).any()
    assert len(model.attention_maps([], normalize="batch")) == 0
    with pytest.raises(UsageError):
        model.attention_maps(several, normalize="bogus")  # type: ignore[arg-type]


def test_maps_that_this_model_does_not_have(tmp_path: Path) -> None:
    model = load(str(tiny.save(tmp_path / "m")), device="cpu", precision="fp32")
    assert not model.has_discriminators
    assert set(model.missing_maps) == {"local", "global"}
    found = model.attention_maps(pictures((32, 32)))
    assert set(found.maps[0]) == {"generator"}
    assert found.missing == model.missing_maps
    with pytest.raises(ModelError, match="no local attention: it comes without discriminators") as caught:
        model.attention_maps(pictures((32, 32)), maps=("local",))
    assert "ugatit train" in caught.value.hint
    for network in (model.discriminator, model.looking_discriminator):
        with pytest.raises(ModelError, match="without discriminators") as caught:
            network("a", "global")
        assert str(tmp_path) in caught.value.message


def test_a_model_with_local_discriminators_only(tmp_path: Path) -> None:
    config = dataclasses.replace(tiny.LIGHT, discriminators="local")
    folder = tiny.save(tmp_path / "m", config, discriminators=True)
    for model in (load(str(folder), device="cpu"), Model.untrained(config, device="cpu", precision="fp32")):
        assert set(model.missing_maps) == {"global"}
        assert set(model.attention_maps(pictures((32, 32))).maps[0]) == {"generator", "local"}
        with pytest.raises(UsageError, match=r"no discriminator \('b', 'global'\)") as caught:
            model.discriminator("b", "global")
        assert caught.value.hint == "There are: ('a', 'local'), ('b', 'local')."


@pytest.mark.parametrize("config", [tiny.CYCLEGAN, tiny.CARTOONGAN], ids=lambda config: config.method)
def test_a_model_of_another_method(config: BaseConfig, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m", config, discriminators=True)
    (image,) = pictures((40, 36))
    for model in (load(str(folder), device="cpu"), Model.untrained(config, device="cpu", precision="fp32")):
        assert model.generator("a2b")(torch.zeros(1, 3, 36, 40))[1:] == (None, None)
        assert model.translate(image).size == image.size
        assert model.discriminator("b")(torch.zeros(1, 3, 64, 64)).shape[:2] == (1, 1)
        with pytest.raises(UsageError, match=r"no discriminator \('b', 'local'\)") as wrong:
            model.discriminator("b", "local")
        assert "('b')" in wrong.value.hint
        assert set(model.missing_maps) == set(MAPS)
        for maps in ("all", "local"):
            with pytest.raises(ModelError) as caught:
                model.attention_maps([image], maps=maps)
            assert caught.value.message.count(config.method) == 1


def test_discriminators_of_drit(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m", DRIT, discriminators=True)
    for model in (load(str(folder), device="cpu"), Model.untrained(DRIT, device="cpu", precision="fp32")):
        encoded, drawn = (model.discriminator("b", scale) for scale in ("encoded", "random"))
        assert encoded is not drawn
        assert encoded(torch.zeros(1, 3, 64, 64))[0].shape[:2] == (1, 1)
        for scale in ("local", None):
            with pytest.raises(UsageError, match="no discriminator") as caught:
                model.discriminator("b", scale)
            for one in re.findall(r"\('(.)', '(\w+)'\)", caught.value.hint):
                assert model.discriminator(*one)


@pytest.mark.parametrize("config", [tiny.ONE_WAY, tiny.CARTOONGAN], ids=lambda config: config.method)
def test_a_model_of_one_way_says_so(config: BaseConfig, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m", config)
    (image,) = pictures((32, 32))
    for model in (load(str(folder), device="cpu"), Model.untrained(config, device="cpu", precision="fp32")):
        asks: list[Callable[[], object]] = [
            partial(model.generator, "b2a"),
            partial(model.translate, image, "b2a"),
            partial(model.translate, [image], to="Flat"),
        ]
        asks += [partial(model.attention_maps, image, to="flat")] if config is tiny.ONE_WAY else []
        for ask in asks:
            with pytest.raises(UsageError, match="translates flat to clay only"):
                ask()
        with pytest.raises(UsageError) as caught:
            model.translate(image, "back")  # type: ignore[call-overload]
        assert "b2a" not in caught.value.hint
        assert model.translate(image, to="clay").tobytes() == model.translate(image).tobytes()
    with pytest.raises(ModelError, match="translates flat to clay only"):
        open_model(folder).generator("b2a")


# --- Discriminators that only look ---------------------------------------------------------------------


def test_a_discriminator_that_only_looks_is_folded(model: Model) -> None:
    looking = model.looking_discriminator("b", "global")
    assert looking.head.norm is None
    assert model.looking_discriminator("b", "global") is looking
    assert model.looking_discriminator("a", "global") is not looking
    whole_one = model.discriminator("b", "global")
    assert whole_one.head.norm is not None
    x = torch.rand(1, 3, 32, 32)
    for one, other in zip(looking(x), whole_one(x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_discriminator_of_a_new_model_looks_as_it_is() -> None:
    model = Model.untrained(tiny.LIGHT, device="cpu", precision="bf16")
    (image,) = pictures((32, 32))
    before = model.attention_maps([image]).maps[0]["local"].values
    discriminator = model.discriminator("b", "local")
    assert discriminator.head.weight.dtype == torch.float32
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.mul_(-2)
    assert np.abs(model.attention_maps([image]).maps[0]["local"].values - before).max() > 0.1 * np.abs(before).max()
