"""The way of a picture through a network: sizes, padding, tiles."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.helpers import picture
from ugatit_cli.config import FITS, Fit, ModelConfig
from ugatit_cli.errors import UsageError
from ugatit_cli.pictures.geometry import (
    MAX_SIDE,
    MIN_SIDE,
    TILE_ABOVE,
    TILE_SIDE,
    Geometry,
    SizeOptions,
    as_colour,
    as_output,
    as_size,
    as_tile,
    check_options,
    corner,
    from_network,
    output_size,
    plan_geometry,
    sampled,
    tile_corners,
    tile_weight,
    tile_weights,
    to_network,
)

LIGHT = ModelConfig(image_size=256)
FULL = ModelConfig(image_size=256, variant="full")

sides = st.integers(1, 5000)
sizes = st.tuples(sides, sides)
image_sizes = st.integers(4, 128).map(lambda n: 4 * n)
fits = st.sampled_from(FITS)
tiles = st.none() | st.just(0) | st.integers(16, 512).map(lambda n: 4 * n)


def test_colours() -> None:
    assert as_colour("white") == as_colour("#fff") == as_colour("#ffffff80") == (255, 255, 255)
    assert as_colour((1, 2, 3)) == (1, 2, 3)
    assert as_colour("rgb(255, 0, 1)") == as_colour("rgba(255, 0, 1, 0)") == (255, 0, 1)
    over = ("rgb(256,0,0)", f"rgb({'9' * 90},0,0)", "rgb(0%,101%,0%)", "hsl(0,100%,500%)", "hsl(0,300%,50%)")
    for wrong in ("", "whyte", "#12", "#ggg", "rgb(1,2)", *over, "hsv(0,100%,102%)"):
        with pytest.raises(UsageError, match="--background "):
            as_colour(wrong, "--background")


# --- Sizes ---------------------------------------------------------------------------------------------


@given(sizes, image_sizes, fits, tiles)
def test_a_light_network_gets_what_it_can_take(size: tuple[int, int], side: int, fit: Fit, tile: int | None) -> None:
    geometry = plan_geometry(size, ModelConfig(image_size=side), SizeOptions(fit, tile))
    assert geometry.output == size
    for inner, outer in zip(geometry.scaled, geometry.network, strict=True):
        assert outer % 4 == 0
        assert outer >= MIN_SIDE
        assert 1 <= inner <= outer
        # No more padding than that takes.
        assert outer == MIN_SIDE or outer - inner < 4
    assert geometry.tile == 0 or (
        geometry.tile >= 64 and geometry.tile % 4 == 0 and max(geometry.network) > geometry.tile
    )
    if tile == 0:
        assert geometry.tile == 0


@given(sizes, image_sizes, fits)
def test_a_full_network_gets_squares_of_its_size_only(size: tuple[int, int], side: int, fit: Fit) -> None:
    geometry = plan_geometry(size, ModelConfig(image_size=side, variant="full"), SizeOptions(fit))
    assert geometry.output == size
    assert all(inner <= outer for inner, outer in zip(geometry.scaled, geometry.network, strict=True))
    if geometry.network == (side, side):
        assert geometry.tile == 0
    else:
        assert fit == "native"
        assert geometry.tile == side
        assert min(geometry.network) >= side
    if fit == "native":
        assert geometry.scaled == size


@given(sizes, image_sizes, st.booleans())
def test_aspect_is_kept_within_a_pixel(size: tuple[int, int], side: int, light: bool) -> None:
    config = ModelConfig(image_size=side, variant="light" if light else "full")
    geometry = plan_geometry(size, config, SizeOptions())
    width, height = geometry.scaled
    factor = max(geometry.scaled) / max(size)
    assert abs(width - max(1, size[0] * factor)) <= 1
    assert abs(height - max(1, size[1] * factor)) <= 1


@given(sizes)
def test_squash_is_the_papers_square(size: tuple[int, int]) -> None:
    for config in (LIGHT, FULL):
        geometry = plan_geometry(size, config, SizeOptions("squash"))
        assert geometry == Geometry((256, 256), (256, 256), size)


def test_native_pictures_are_tiled_above_a_fixed_size() -> None:
    side = round(TILE_ABOVE**0.5)
    assert plan_geometry((side, side), LIGHT, SizeOptions("native")).tile == 0
    assert plan_geometry((side, side + 1), LIGHT, SizeOptions("native")).tile == TILE_SIDE
    assert plan_geometry((side, side + 1), LIGHT, SizeOptions("native", 0)).tile == 0
    assert plan_geometry((side, side + 1), LIGHT, SizeOptions("native", 256)).tile == 256


@given(sizes, st.integers(1, 5000))
def test_a_number_is_the_short_side(size: tuple[int, int], wanted: int) -> None:
    try:
        width, height = output_size(size, size, str(wanted))
    except UsageError:
        assert max(size) / min(size) * wanted > MAX_SIDE - 1
        return
    assert min(width, height) == wanted
    assert abs(max(width, height) - wanted * max(size) / min(size)) <= 0.5


# --- What can't be -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["", "big", "0", "0x10", "10x0", "10x", "x10", "-5", "1.5", "10X20", "65501", "٣"])
def test_sizes_that_make_no_sense(size: str) -> None:
    with pytest.raises(UsageError, match="size") as caught:
        SizeOptions(output=size)
    assert size in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("tile", [-4, 4, 60, 63, 66, MAX_SIDE + 4])
def test_tiles_that_make_no_sense(tile: int) -> None:
    with pytest.raises(UsageError, match=f"tile of {tile} pixels"):
        SizeOptions(tile=tile)


def test_sizes_and_tiles_as_python_and_the_command_line_have_them() -> None:
    assert [as_tile(tile) for tile in ("auto", "off", "512", 512)] == [None, 0, 512, 512]
    assert [as_output(size) for size in ("same", 64, (64, 32), "64x32")] == ["same", "64", "64x32", "64x32"]
    assert [as_size(size) for size in (64, "64", "64x32", (64, 32))] == [(64, 64), (64, 64), (64, 32), (64, 32)]
    wrong: list[str | int] = ["-1", "٣", "1.5", "", "0", 0, -4, "large"]
    for value in wrong:  # none of them is `off`
        with pytest.raises(UsageError, match=f"--tile {value}"):
            as_tile(value, "--tile")
    for size in ("", "big", "10x", (-1, 4)):
        with pytest.raises(UsageError, match="--size"):
            as_size(size, "--size")


@pytest.mark.parametrize(("fit", "tile"), [("native", 0), ("native", 64), ("aspect", 64), ("squash", 512)])
def test_a_full_model_takes_tiles_of_its_own_size_only(fit: Fit, tile: int) -> None:
    options = SizeOptions(fit, tile)
    check_options(LIGHT, options)
    with pytest.raises(UsageError, match="full model") as caught:
        check_options(FULL, options)
    assert "256" in caught.value.hint
    with pytest.raises(UsageError, match="full model"):
        plan_geometry((256, 256), FULL, options)


# --- To the network and back ---------------------------------------------------------------------------


@given(st.integers(1, 70), st.integers(1, 70), st.booleans(), st.none() | st.just(64))
def test_nothing_is_lost_where_nothing_is_scaled(width: int, height: int, light: bool, tile: int | None) -> None:
    config = ModelConfig(image_size=64, variant="light" if light else "full")
    geometry = plan_geometry((width, height), config, SizeOptions("native", tile))
    source = picture(width, height)
    pixels = to_network(source, geometry)
    assert pixels.shape == (geometry.network[1], geometry.network[0], 3)
    assert pixels.dtype == np.uint8
    assert from_network(pixels, geometry).tobytes() == source.tobytes()
    left, top = corner(geometry)
    np.testing.assert_array_equal(pixels[top : top + height, left : left + width], np.asarray(source))


def test_padding_reflects_and_is_centred() -> None:
    source = Image.fromarray(np.arange(18, dtype=np.uint8).repeat(3).reshape(1, 18, 3).repeat(18, axis=0))
    geometry = plan_geometry((18, 18), LIGHT, SizeOptions("native"))
    assert geometry.network == (20, 20)
    assert to_network(source, geometry)[0, :, 0].tolist() == [1, *range(18), 16]


@given(st.integers(1, 60), st.integers(1, 60), fits, st.sampled_from([LIGHT, FULL]))
def test_one_colour_stays_that_colour(width: int, height: int, fit: Fit, config: ModelConfig) -> None:
    small = dataclasses.replace(config, image_size=32, global_layers=3)
    geometry = plan_geometry((width, height), small, SizeOptions(fit))
    pixels = to_network(Image.new("RGB", (width, height), (10, 200, 77)), geometry)
    assert pixels.shape == (geometry.network[1], geometry.network[0], 3)
    assert (pixels == (10, 200, 77)).all()
    back = from_network(pixels, geometry)
    assert back.size == (width, height)
    assert back.getcolors() == [(width * height, (10, 200, 77))]


# --- Tiles ---------------------------------------------------------------------------------------------


def spans(side: int, tile: int) -> list[int]:
    return sorted({left for left, _ in tile_corners((side, 1), tile)})


@given(st.integers(4, 5000).map(lambda n: 4 * n), st.integers(16, 1024).map(lambda n: 4 * n))
def test_tiles_cover_everything_and_overlap_by_a_quarter(side: int, tile: int) -> None:
    starts = spans(side, tile)
    if side <= tile:
        assert starts == [0]
        return
    assert starts[0] == 0
    assert starts[-1] + tile == side
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (tile - steps >= tile // 4).all()
    assert steps.max() - steps.min() <= 4
    assert not any(start % 4 for start in starts)  # where strided layers see the same places
    # Not one more than it takes.
    assert (len(starts) - 2) * (tile * 3 // 16 * 4) < side - tile


@pytest.mark.parametrize("tile", [64, 256, 640])
@pytest.mark.parametrize(("width", "height"), [(256, 512), (768, 768), (1200, 600), (640, 1100), (64, 6400)])
def test_a_sample_is_spread_over_the_picture(width: int, height: int, tile: int) -> None:
    place = np.indices((height, width), np.uint16).transpose(1, 2, 0)
    sample = sampled(place, tile, 0)
    if width * height <= max(tile, 512) ** 2:
        assert sample[0] is place
        return
    assert {one.shape for one in sample} == {(64, 64, 2)}
    area = max(tile, 512) ** 2
    assert area / 3 < sum(one[..., 0].size for one in sample) <= area * 1.5
    middles = np.array([one.reshape(-1, 2).mean(0) for one in sample])
    np.testing.assert_allclose(middles.mean(0), ((height - 1) / 2, (width - 1) / 2), atol=4)
    assert not any((one[0, 0] % 4).any() for one in sample)
    whole_tiles = sampled(place, tile, min(tile, width, height))
    assert {one.shape for one in whole_tiles} == {(min(tile, width, height),) * 2 + (2,)}


@given(st.integers(1, 300), st.integers(1, 300))
def test_every_pixel_of_a_tile_counts_the_middle_most(width: int, height: int) -> None:
    weights = tile_weights(width, height)
    assert weights.shape == (height, width, 1)
    assert weights.dtype == np.float32
    assert (weights > 0).all()
    assert weights.max() == weights[height // 2, width // 2, 0]
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])


@given(st.integers(1, 300))
def test_a_tile_counts_at_all_positions_as_at_its_pixels(side: int) -> None:
    along = tile_weights(side, 10_001)[5_000, :, 0]
    np.testing.assert_array_equal(tile_weight(np.arange(side) + 0.5, side), along)
    assert tile_weight(np.array([0, side]), side).tolist() == [along[0], along[-1]]
    assert tile_weight(np.array([-0.01, side + 0.01, -side, 2 * side]), side).tolist() == [0, 0, 0, 0]
    assert tile_weight(np.array([side / 2]), side).tolist() == [1]
