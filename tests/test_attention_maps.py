"""Where a network looks, as pictures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ugatit_cli.attention_maps import enlarge, normalise, overlay
from ugatit_cli.colormaps import colour
from ugatit_cli.errors import UsageError

shapes = st.tuples(st.integers(1, 3), st.just(1), st.integers(1, 5), st.integers(1, 5))
heatmaps = hnp.arrays(np.float32, shapes, elements=st.floats(-(2.0**99), 2.0**99, width=32))


def noise(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


# --- Normalise -----------------------------------------------------------------------------------------


@given(heatmaps)
def test_each_picture_fills_the_range(heatmap: npt.NDArray[np.float32]) -> None:
    result = normalise(torch.from_numpy(heatmap))
    assert (result.shape, result.dtype) == (heatmap.shape, torch.float32)
    for before, after in zip(heatmap, result, strict=True):
        constant = bool((before == before.flat[0]).all())
        assert (after.min(), after.max()) == (0, 0 if constant else 1)


def test_it_is_what_the_official_code_does() -> None:
    heatmap = torch.rand(2, 1, 6, 5, generator=torch.Generator().manual_seed(1)) * 9 - 2
    for one, got in zip(heatmap.numpy(), normalise(heatmap).numpy(), strict=True):
        shifted = one - np.min(one)
        np.testing.assert_allclose(got, shifted / np.max(shifted), atol=1e-6)


def test_pictures_do_not_change_each_other() -> None:
    heatmap = torch.stack([torch.arange(4.0).view(1, 2, 2), 1000 * torch.arange(4.0).view(1, 2, 2)])
    first, second = normalise(heatmap)
    assert torch.equal(first, second)


@pytest.mark.parametrize("value", [0.0, 5.0, -3e38, math.nan, math.inf])
def test_no_attention_is_zeros(value: float) -> None:
    assert torch.equal(normalise(torch.full((2, 1, 3, 4), value)), torch.zeros(2, 1, 3, 4))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_broken_value_spoils_one_picture(value: float) -> None:
    heatmap = torch.arange(8.0).view(2, 1, 2, 2)
    heatmap[0, 0, 0, 0] = value
    first, second = normalise(heatmap)
    assert torch.equal(first, torch.zeros(1, 2, 2))
    assert (second.min(), second.max()) == (0, 1)


def test_half_precision_becomes_float32() -> None:
    heatmap = torch.tensor([0.0, 60000.0]).view(1, 1, 1, 2)
    assert torch.equal(normalise(heatmap.half()), torch.tensor([[[[0.0, 1.0]]]]))


def test_the_heatmap_stays_as_it_was() -> None:
    heatmap = torch.arange(4.0).view(1, 1, 2, 2)
    normalise(heatmap)
    assert torch.equal(heatmap, torch.arange(4.0).view(1, 1, 2, 2))


# --- Enlarge -------------------------------------------------------------------------------------------


def test_enlarged_to_height_and_width() -> None:
    assert enlarge(torch.rand(2, 1, 4, 8), (12, 40)).shape == (2, 1, 12, 40)


def test_enlarged_smoothly_between_pixel_centres() -> None:
    row = enlarge(torch.tensor([0.0, 1.0]).view(1, 1, 1, 2), (1, 8))[0, 0, 0]
    assert torch.allclose(row, torch.tensor([0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]))


# --- Overlay -------------------------------------------------------------------------------------------


def test_alpha_goes_from_the_picture_to_the_colours() -> None:
    picture, heat = noise(5, 7, 3), np.linspace(0, 1, 35, dtype=np.float32).reshape(5, 7)
    assert (overlay(picture, heat, 0) == picture).all()
    assert (overlay(picture, heat, 1, "jet") == colour(heat, "jet")).all()
    between = overlay(picture, heat, 0.25)
    assert between.dtype == np.uint8
    assert np.abs(between - (0.75 * picture + 0.25 * colour(heat))).max() <= 0.501


@given(st.floats(0, 1), st.sampled_from([0, 255]), st.sampled_from([0.0, 1.0, math.nan]))
def test_the_extremes_do_not_wrap_around(alpha: float, grey: int, heat: float) -> None:
    result = overlay(np.full((1, 1, 3), grey, np.uint8), np.full((1, 1), heat), alpha, "gray")
    top = 255 if heat == 1 else 0
    assert np.abs(result - (grey + alpha * (top - grey))).max() <= 0.501


def test_the_picture_stays_as_it_was() -> None:
    picture = noise(3, 3, 3)
    overlay(picture, np.ones((3, 3)))
    assert (picture == noise(3, 3, 3)).all()


@pytest.mark.parametrize("alpha", [-0.01, 1.01, math.nan])
def test_alpha_out_of_range(alpha: float) -> None:
    with pytest.raises(UsageError, match="alpha"):
        overlay(noise(2, 2, 3), np.zeros((2, 2)), alpha)


def test_unknown_colormap() -> None:
    arguments: tuple[Any, ...] = (noise(2, 2, 3), np.zeros((2, 2)), 0.5, "nosuch")
    with pytest.raises(UsageError, match="nosuch"):
        overlay(*arguments)
