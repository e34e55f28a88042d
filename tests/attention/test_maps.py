"""Where a network looks: numbers, where they lie in a picture, and what they look like."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from torch import nn

from tests import tiny
from tests.helpers import picture, whole
from tests.reference import randomize
from ugatit_cli import load
from ugatit_cli.attention.maps import (
    UPSAMPLINGS,
    AttentionMap,
    AttentionMaps,
    Floats,
    Grid,
    Maps,
    Spans,
    Style,
    Upsampling,
    cells_of,
    chosen_maps,
    grid_of,
    missing_maps,
    sample,
)
from ugatit_cli.config import MAPS, SCALES, Dialect, MapName, ModelConfig
from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import Generator
from ugatit_cli.nn.spectral import SpectralNorm
from ugatit_cli.pictures.colormaps import colour
from ugatit_cli.pictures.geometry import Geometry, Size, SizeOptions, plan_geometry

DIALECTS = get_args(Dialect)
LIGHT = ModelConfig("flat", "clay")
NEXT = 1 + 255 * 2**-23  # Pillow blends in float32 and cuts off what is behind the point

shapes = st.tuples(st.integers(1, 5), st.integers(1, 5))
heats = hnp.arrays(np.float32, shapes, elements=st.floats(-(2.0**99), 2.0**99, width=32))


def attention(
    values: object,
    name: MapName = "generator",
    *,
    logits: tuple[float, float] = (0, 0),
    grid: Grid | None = None,
    geometry: Geometry | None = None,
) -> AttentionMap:
    """A map of a picture that its cells cover exactly."""
    array = np.asarray(values, np.float32)
    height, width = array.shape
    return AttentionMap(name, array, logits, grid or Grid(4, 2), geometry or whole(4 * width, 4 * height))


# --- Normalised ----------------------------------------------------------------------------------------


@given(heats)
def test_each_map_fills_the_range(values: Floats) -> None:
    one = attention(values)
    result = one.normalised()
    assert result.dtype == np.float32
    assert result.shape == values.shape
    low, high = one.span
    assert (low, high) == (values.min(), values.max())
    assert one.flat == (high - low <= 1e-6 * max(1, abs(low), abs(high)))
    assert (result.min(), result.max()) == (0, 0 if one.flat else 1)
    if not one.flat:  # what the official code does
        shifted = values - np.min(values)
        np.testing.assert_allclose(result, shifted / np.max(shifted), rtol=0, atol=1e-7)


@pytest.mark.parametrize("colour", ["white", "black", "red"])
def test_a_picture_of_one_colour_has_no_attention(tmp_path: Path, colour: str) -> None:
    model = load(str(tiny.save(tmp_path / "tiny")), device="cpu", precision="fp32")
    (maps,) = model.attention_maps([Image.new("RGB", (32, 32), colour)], maps=["generator"]).maps
    assert maps["generator"].flat  # although rounding leaves values that differ


@pytest.mark.parametrize("value", [0.0, 5.0, -3e38, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("shape", [(3, 4), (1, 1)])
def test_no_attention_is_zeros(value: float, shape: tuple[int, int]) -> None:
    one = attention(np.full(shape, value))
    assert one.flat
    np.testing.assert_array_equal(one.normalised(), np.zeros(shape))
    np.testing.assert_array_equal(one.normalised((-1, 9)), np.zeros(shape))
    np.testing.assert_array_equal(one.over_picture((7, 5)), np.zeros((5, 7)))
    assert attention([[0, 1], [2, value]]).flat == (not math.isfinite(value))


def test_a_span_of_others() -> None:
    one = attention([[0, 2], [4, 8]])
    np.testing.assert_array_equal(one.normalised((0, 16)), [[0, 0.125], [0.25, 0.5]])
    np.testing.assert_array_equal(one.normalised((2, 4)), [[0, 0], [1, 1]])  # what lies outside is clipped
    for unusable in ((3, 3), (4, 2), (0, math.inf), (math.nan, 1)):
        np.testing.assert_array_equal(one.normalised(unusable), np.zeros((2, 2)))


# --- One scale for several pictures --------------------------------------------------------------------


def test_spans_are_those_of_all_pictures_that_are_numbers() -> None:
    broken: list[Maps] = [{"generator": attention([[0, value]])} for value in (math.nan, math.inf, -math.inf)]
    pictures: list[Maps] = [
        {"generator": attention([[1, 2]]), "local": attention([[-5, 0]], "local")},
        {"generator": attention([[0, 1]])},
        {"generator": attention([[7, 3]]), "local": attention([[-1, 3]], "local")},
    ]
    spans = Spans.of([*pictures, *broken])
    assert spans == {"generator": (0, 7), "local": (-5, 3)}
    pooled = np.concatenate([maps["generator"].normalised(spans["generator"]) for maps in pictures])
    assert (pooled.min(), pooled.max(), pooled[0, 1]) == (0, 1, pytest.approx(2 / 7))
    assert Spans.of(broken) == {}
    assert Spans.of([{"generator": attention([[5, 5]])}, *broken]) == {"generator": (5, 5)}  # flat, but a number


def test_what_lies_in_the_padding_sets_no_scale() -> None:
    values = np.zeros((8, 8), np.float32)
    values[0], values[7] = -90, 90  # rows 0 to 3 and 28 to 31 of a picture that has 8 to 23
    values[3, 5] = 1
    one = attention(values, geometry=Geometry((32, 16), (32, 32), (32, 16)))
    assert one.span == (0, 1)
    assert (one.over_picture().min(), one.over_picture().max()) == (0, pytest.approx(1, abs=0.3))
    values[3, 5] = 0
    assert attention(values, geometry=Geometry((32, 16), (32, 32), (32, 16))).flat


# --- What the classifiers say --------------------------------------------------------------------------


numbers = st.floats(allow_nan=False)


@given(st.tuples(numbers, numbers))
def test_logits_of_any_size_are_probabilities(logits: tuple[float, float]) -> None:
    sigmoid = torch.sigmoid(torch.tensor(logits, dtype=torch.float64)).tolist()
    assert attention([[0]], logits=logits).probabilities == pytest.approx(sigmoid, abs=1e-12)
    for name in SCALES:
        assert attention([[0]], name, logits=logits).probabilities == tuple(np.clip(logits, 0, 1))


# --- Over the picture ----------------------------------------------------------------------------------


def tent(positions: npt.NDArray[Any], centres: npt.NDArray[Any], cell: int) -> npt.NDArray[Any]:
    """How much a cell counts along a side: falls off to its neighbours, and goes on where it has none."""
    inside = np.clip(positions, centres[0], centres[-1])
    return np.asarray(np.interp(inside, centres, np.arange(len(centres)) == cell), np.float64)


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(MAPS),
    st.tuples(st.integers(0, 99), st.integers(0, 99)),
    st.none() | st.tuples(st.integers(1, 70), st.integers(1, 70)),
)
def test_a_cell_lights_up_its_own_place(
    size: Size, name: MapName, cell: tuple[int, int], wanted: Size | None
) -> None:
    config = dataclasses.replace(LIGHT, local_layers=3, global_layers=4, dialect="tensorflow")
    geometry = plan_geometry(size, config, SizeOptions("native"))
    grid = grid_of(config, name)
    height, width = (cells_of(config, name, side) for side in reversed(geometry.network))
    values = np.zeros((height, width), np.float32)
    row, column = cell[0] % height, cell[1] % width
    values[row, column] = 1
    one = attention(values, name, grid=grid, geometry=geometry)
    assume(not one.flat)  # as it is where that cell is in the padding
    heat = one.over_picture(wanted)
    across, down = wanted or size
    assert heat.shape == (down, across)
    left, top = ((outer - inner) // 2 for outer, inner in zip(geometry.network, size, strict=True))
    x = left + (np.arange(across) + 0.5) / across * size[0]
    y = top + (np.arange(down) + 0.5) / down * size[1]
    expected = tent(y, grid.centres(height), row)[:, None] * tent(x, grid.centres(width), column)
    np.testing.assert_allclose(heat, expected, rtol=0, atol=1e-5)


def test_a_picture_that_was_scaled_and_one_that_was_squashed() -> None:
    values = np.zeros((64, 64))
    values[16:32, 32:48] = 1  # a quarter of the height and of the width
    geometry = plan_geometry((1000, 300), LIGHT, SizeOptions("squash", output="100x60"))
    heat = attention(values, geometry=geometry).over_picture()
    assert heat.shape == (60, 100)
    rows, columns = np.nonzero(heat > 0.5)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (15, 29, 50, 74)


@pytest.mark.parametrize("method", UPSAMPLINGS)
def test_any_upsampling_stays_in_the_range(method: Upsampling) -> None:
    heat = attention(np.eye(6)).over_picture((48, 48), upsampling=method)
    assert (heat.min(), heat.max()) == (0, 1)
    assert heat.dtype == np.float32


# --- Where cells lie -----------------------------------------------------------------------------------


def positive(network: Discriminator) -> Discriminator:
    """So that every pixel that a cell sees counts."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
        for norm in (module for module in network.modules() if isinstance(module, SpectralNorm)):
            norm.u.abs_()
            norm.v.abs_()
    return network.eval()


def seen_by(network: nn.Module, side: int, cell: tuple[int, int]) -> tuple[Size, Size]:
    """First and last (row, column) of the pixels that a cell of the attention map depends on."""
    x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(5)).requires_grad_()
    torch.autograd.backward(network(x).heatmap[0, 0, cell[0], cell[1]])
    assert x.grad is not None
    rows, columns = (x.grad[0].abs().sum(0) > 0).nonzero().T
    return (int(rows.min()), int(columns.min())), (int(rows.max()), int(columns.max()))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("layers", [3, 4, 5])
def test_a_discriminators_cell_lies_in_the_middle_of_what_it_sees(dialect: Dialect, layers: int) -> None:
    config = ModelConfig(dialect=dialect, discriminator_channels=2, local_layers=layers)
    discriminator = positive(randomize(Discriminator(config, "local"), 1))
    grid = grid_of(config, "local")
    side, (row, column) = 32 * grid.stride, (14, 17)
    first, last = seen_by(discriminator, side, (row, column))
    field = {3: 10, 4: 22, 5: 46}[layers]
    assert [end - start + 1 for start, end in zip(first, last, strict=True)] == [field, field]
    middle = [(start + end + 1) / 2 for start, end in zip(first, last, strict=True)]
    assert middle == [grid.centres(32)[row], grid.centres(32)[column]]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_generators_cell_lies_in_the_middle_of_what_it_sees(dialect: Dialect) -> None:
    config = ModelConfig(dialect=dialect, channels=2, blocks=1)
    torch.manual_seed(1)
    generator = Generator(config)
    # Instance norm sees the whole picture.
    for name in [name for name, _ in generator.named_modules() if name.endswith(".norm") and "up" not in name]:
        generator.set_submodule(name, nn.Identity())
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.abs_()
    first, last = seen_by(generator, 96, (11, 13))
    grid = grid_of(config, "generator")
    for start, end, cell in zip(first, last, (11, 13), strict=True):
        # Its strided layers see half a pixel more at the left; a map that covers the picture lies 1.5 pixels off.
        assert abs((start + end + 1) / 2 - grid.centres(24)[cell]) <= 2


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("layers", range(3, 8))
def test_how_many_cells_a_discriminators_map_has(dialect: Dialect, layers: int) -> None:
    config = ModelConfig(dialect=dialect, discriminator_channels=1, local_layers=layers)
    discriminator = Discriminator(config, "local").eval()
    smallest = config.smallest("local")
    for height, width in ((smallest, smallest + 4), (smallest + 12, 2 * smallest + 20)):
        heatmap = discriminator(torch.zeros(1, 3, height, width)).heatmap
        assert heatmap is not None
        assert heatmap.shape[2:] == (cells_of(config, "local", height), cells_of(config, "local", width))


# --- Which maps a model has ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "there", "missing"),
    [
        ({}, True, []),
        ({}, False, ["local", "global"]),
        ({"discriminators": "local"}, True, ["global"]),
        ({"discriminator_cam": False}, True, ["local", "global"]),
        ({"generator_cam": False}, True, ["generator"]),
        ({"generator_cam": False}, False, list(MAPS)),
        ({"generator_cam": False, "discriminator_cam": False}, True, list(MAPS)),
    ],
)
def test_what_is_missing(config: dict[str, Any], there: bool, missing: list[MapName]) -> None:
    model = ModelConfig("flat", "clay", **config)
    found = missing_maps(model, discriminators=there)
    assert list(found) == missing
    left = tuple(name for name in MAPS if name not in missing)
    if not left:
        with pytest.raises(ModelError, match="m: no attention"):
            chosen_maps(["all"], found, name="m")
        return
    assert chosen_maps([*reversed(left), "all", *left], found, name="m") == left
    for name in missing:
        with pytest.raises(ModelError, match=f"m: no {name} attention: .*{found[name]}") as caught:
            chosen_maps(["all", name], found, name="m")
        # Another training of a model that left it out has none, either.
        assert ("ugatit train" in caught.value.hint) == (not there and name != "generator")


@pytest.mark.parametrize("wanted", [["middle"], ["generator", "Local"], [], [""]])
def test_maps_that_do_not_exist(wanted: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        chosen_maps(wanted, {}, name="m")
    assert all(name in caught.value.hint for name in (*MAPS, "all"))


# --- Overlays ------------------------------------------------------------------------------------------


def test_alpha_goes_from_the_picture_to_the_colours() -> None:
    source, heat = picture(7, 5), np.linspace(0, 1, 35, dtype=np.float32).reshape(5, 7)
    before = source.tobytes()
    assert Style(0).blended(source, heat).tobytes() == before
    assert (np.asarray(Style(1, "jet").blended(source, heat)) == colour(heat, "jet")).all()
    between = np.asarray(Style(0.25).blended(source, heat))
    assert np.abs(between - (0.75 * np.asarray(source) + 0.25 * colour(heat))).max() < NEXT
    assert source.tobytes() == before


@pytest.mark.parametrize(
    ("option", "value"), [("alpha", 1.01), ("alpha", -0.1), ("alpha", math.nan), ("colormap", "nosuch")]
)
def test_a_style_that_makes_no_sense(option: str, value: Any) -> None:
    with pytest.raises(UsageError, match=str(value)):
        Style(**{option: value})


@given(st.floats(0, 1), st.sampled_from([0, 255]), st.sampled_from([0.0, 1.0, math.nan]))
def test_the_extremes_do_not_wrap_around(alpha: float, grey: int, heat: float) -> None:
    result = Style(alpha, "gray").blended(Image.new("RGB", (1, 1), (grey,) * 3), np.full((1, 1), heat))
    top = 255 if heat == 1 else 0
    assert np.abs(np.asarray(result) - (grey + alpha * (top - grey))).max() <= 1


def test_a_map_over_a_picture_of_any_size() -> None:
    one, source, style = attention([[0, 1], [2, 3]]), picture(21, 9), Style(0.3, "jet", "bicubic")
    heat = one.over_picture((21, 9), span=(0, 6), upsampling="bicubic")
    assert style.over(source, one, (0, 6)).tobytes() == style.blended(source, heat).tobytes()
    # Where there is nothing to see the picture is not tinted.
    assert style.over(source, attention([[2, 2]])).tobytes() == source.tobytes()


# --- Several pictures ----------------------------------------------------------------------------------


def several() -> AttentionMaps:
    first: Maps = {"generator": attention([[0, 1]]), "local": attention([[1, 0]], "local")}
    second: Maps = {"generator": attention([[0, 4]])}
    pictures = tuple(Image.new("RGB", (8, 4), colour) for colour in ("red", "green", "blue", "white"))
    return AttentionMaps("a2b", pictures[:2], pictures[2:], (first, second))


@pytest.mark.parametrize(("name", "under"), [("generator", "red"), ("local", "blue")])
def test_a_network_is_shown_over_what_it_looked_at(name: MapName, under: str) -> None:
    plain = several().overlay(0, name, alpha=0)
    assert plain.tobytes() == Image.new("RGB", (8, 4), under).tobytes()
    assert several().overlay(0, name).tobytes() != plain.tobytes()
    with pytest.raises(UsageError, match="name is"):
        several().heat(1, "local")


# --- Between cells ----------------------------------------------------------------------------------------

small = st.floats(-8, 8, width=32)
grids = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=small)
strides = st.integers(1, 32)
# Where a map's first cell lies, in strides.
offsets = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5])


def centres_of(side: int, length: float) -> Floats:
    """Centres of pixels that share a length evenly."""
    return np.asarray((np.arange(side) + 0.5) * (length / side), np.float32)


@given(grids, strides, st.tuples(st.integers(1, 40), st.integers(1, 40)), st.sampled_from(UPSAMPLINGS))
def test_a_stretched_map_is_what_torch_makes_of_it(
    values: Floats, stride: int, size: tuple[int, int], method: Upsampling
) -> None:
    height, width = values.shape
    rows, columns = centres_of(size[0], height * stride), centres_of(size[1], width * stride)
    expected = F.interpolate(torch.from_numpy(values)[None, None], size, mode=method, align_corners=False)[0, 0]
    result = sample(values, Grid(stride, stride / 2), rows, columns, method)
    assert result.dtype == np.float32
    assert result.shape == size
    # Positions are rounded: a picture of 40 pixels has 2**-17 of a cell for error, times the cubic's slopes.
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-4)


@given(grids, strides, offsets, st.sampled_from(UPSAMPLINGS))
def test_at_its_centre_a_cell_says_its_own_value(
    values: Floats, stride: int, first: float, method: Upsampling
) -> None:
    grid = Grid(stride, first * stride)
    rows, columns = (grid.centres(side) for side in values.shape)
    np.testing.assert_array_equal(sample(values, grid, rows, columns, method), values)


def test_an_unknown_method() -> None:
    with pytest.raises(UsageError, match="'Bicubic'") as caught:
        sample(np.zeros((2, 2), np.float32), Grid(4, 2), centres_of(2, 8), centres_of(2, 8), "Bicubic")  # type: ignore[arg-type]
    assert all(name in caught.value.hint for name in UPSAMPLINGS)
