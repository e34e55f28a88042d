"""Styles: whose they are, and what decides them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from tests.helpers import images
from ugatit_cli.errors import ModelError
from ugatit_cli.methods.registry import method_of
from ugatit_cli.nn.generator import picture_styles
from ugatit_cli.pictures.styles import random_style
from ugatit_cli.weights.folder import open_model

STYLE_SIZE = tiny.MUNIT.style_size


def test_a_picture_and_a_seed_decide_a_style() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    expected = [0.4623017, 1.9061890, -1.4572834]  # recorded: the same on all machines and in all versions
    first = random_style(pixels, STYLE_SIZE)
    assert (first.dtype.name, first.shape) == ("float32", (STYLE_SIZE,))
    np.testing.assert_array_equal(first, random_style(np.asfortranarray(pixels), STYLE_SIZE, 0))
    np.testing.assert_allclose(first[:3], expected, atol=1e-6)
    others = [random_style(pixels, STYLE_SIZE, 1), random_style(pixels + 1, STYLE_SIZE)]
    assert all(np.abs(first - other).max() > 0.1 for other in others)


def test_random_styles_are_normal() -> None:
    drawn = np.concatenate([random_style(np.full((2, 2, 3), i, np.uint8), 64, seed=5) for i in range(256)])
    assert abs(drawn.mean()) < 0.05
    assert abs(drawn.std() - 1) < 0.05


def test_batches_mean_nothing_to_styles() -> None:
    pixels = torch.randint(0, 256, (3, 3, 16, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    x = pixels.float() / 127.5 - 1
    found = picture_styles(x.to(memory_format=torch.channels_last), STYLE_SIZE)
    assert (found.dtype, found.shape) == (torch.float32, (3, STYLE_SIZE))
    for one, style, source in zip(x, found, pixels, strict=True):
        assert torch.equal(style, picture_styles(one[None], STYLE_SIZE)[0])
        assert np.array_equal(style, random_style(source.permute(1, 2, 0).numpy(), STYLE_SIZE))


def test_parts_are_read_from_a_model_folder(tmp_path: Path) -> None:
    folder = open_model(tiny.save(tmp_path / "model", tiny.MUNIT))
    x, munit = images(2, 3, 16, 16), method_of(tiny.MUNIT)
    translators = munit.translators(tiny.MUNIT)
    for name, network in translators.items():
        network.load_state_dict(folder.state(name) or {})
    for direction in tiny.MUNIT.directions:
        style = folder.style_encoder(direction)(x)
        encoder = munit.style_encoder(translators, direction)
        assert encoder is not None
        assert torch.equal(style, encoder(x))
        generator = folder.generator(direction)
        assert torch.equal(generator(x).image, generator(x, picture_styles(x, STYLE_SIZE)).image)
        assert not torch.equal(generator(x).image, generator(x, style).image)
    with pytest.raises(ModelError, match="no styles"):
        open_model(tiny.save(tmp_path / "other", tiny.LIGHT)).style_encoder("a2b")
