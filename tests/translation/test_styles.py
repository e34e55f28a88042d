"""Translations in styles: of which picture, which seed, and what stays the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import ugatit_cli
from tests import tiny
from tests.helpers import picture
from ugatit_cli import Model, UsageError
from ugatit_cli.pictures.geometry import Geometry
from ugatit_cli.pictures.styles import random_style
from ugatit_cli.translation import passes

STYLE_SIZE = tiny.MUNIT.style_size


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return ugatit_cli.load(tiny.save(tmp_path / "model", tiny.MUNIT), device="cpu", precision="fp32")


def test_each_picture_has_its_own_by_a_seed(model: Model) -> None:
    one, other = picture(20, 16), picture(20, 16, 1)
    first = model.translate(one)
    both = model.translate([other, one], style="random")
    assert both[1].tobytes() == first.tobytes() == model.translate(one, style="random:0").tobytes()
    assert model.translate(one, style="random:1").tobytes() != first.tobytes()
    pixels = np.asarray(picture(16, 16))
    own = random_style(pixels, STYLE_SIZE)
    assert model.translate(picture(16, 16), style=own).tobytes() == model.translate(picture(16, 16)).tobytes()
    with torch.inference_mode():  # what knows nothing of styles gets the same
        x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        image = model.generator("a2b")(x).image.add(1).mul(127.5).round()[0].permute(1, 2, 0)
    assert np.array_equal(image, np.asarray(model.translate(picture(16, 16))))


def test_the_style_of_a_picture(model: Model, tmp_path: Path) -> None:
    like, path = picture(30, 20, 2), tmp_path / "like.png"
    like.save(path)
    for direction in model.config.directions:
        style = model.style(like, direction)
        assert (style.shape, style.dtype.name) == ((STYLE_SIZE,), "float32")
        expected = model.translate(picture(20, 16), direction, style=style)
        for way in (like, path, str(path)):
            assert model.translate(picture(20, 16), direction, style=way).tobytes() == expected.tobytes()
        assert model.translate([picture(20, 16)], direction, style=like)[0].tobytes() == expected.tobytes()
    assert not np.array_equal(model.style(like), model.style(like, "b2a"))  # each domain has its own encoder
    assert np.array_equal(model.style(like, fit="native"), model.style(like))


@pytest.mark.parametrize(
    "style", ["random:", "random:x", "random:-1", "nowhere.png", np.zeros(3), np.full(8, np.nan)], ids=str
)
def test_what_is_no_style(model: Model, style: object) -> None:
    with pytest.raises(UsageError, match="style"):
        model.translate(picture(8, 8), style=style)  # type: ignore[call-overload]


def test_models_without(tmp_path: Path) -> None:
    model = ugatit_cli.load(tiny.save(tmp_path / "model"), device="cpu", precision="fp32")
    for ask in (
        lambda: model.translate(picture(8, 8), style="random"),
        lambda: model.style(picture(8, 8)),
        lambda: model.style_encoder("a2b"),
    ):
        with pytest.raises(UsageError, match=r"ugatit$") as caught:
            ask()
        assert "munit" in caught.value.hint


def test_all_tiles_have_the_style_of_the_whole(model: Model) -> None:
    pixels = np.full((80, 100, 3), 90, np.uint8)
    pixels[:10] = 200
    tiles = Geometry((100, 80), (100, 80), (100, 80), 64)
    (one,) = passes.look(model, [pixels], "a2b", [tiles])
    (other,) = passes.look(model, [pixels], "a2b", [tiles], styles=[random_style(pixels, STYLE_SIZE)])
    assert np.array_equal(one.pixels, other.pixels)


def test_a_new_model_shares_its_parts() -> None:
    model = ugatit_cli.new(tiny.MUNIT, device="cpu", precision="fp32")
    assert model.style(picture(16, 16)).shape == (STYLE_SIZE,)
    there, back = model.generator("a2b"), model.generator("b2a")
    assert not {*there.parameters()} & {*back.parameters()}  # a's encoder, b's decoder; and the others
    assert model.translate(picture(16, 16)).size == (16, 16)
