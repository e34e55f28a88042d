"""Drawings on transparent ground are filled in, and nothing else becomes opaque, or transparent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFilter

from ugatit_cli.pictures import transparency
from ugatit_cli.pictures.transparency import areas_of, with_painted

WHITE, CLAY = (255, 255, 255), (240, 160, 40)
SIDE = 64
LEFT, RIGHT = (4, 16, 28, 48), (36, 16, 60, 48)
"""Boxes of two drawn ellipses."""


def drawn(*, gap: bool = False, soft: bool = False) -> Image.Image:
    """The alpha of two ellipses, drawn with lines."""
    alpha = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(alpha)
    for box in (LEFT, RIGHT):
        draw.arc(box, 20 if gap else 0, 340 if gap else 360, fill=255, width=3)
    return alpha.filter(ImageFilter.GaussianBlur(0.7)) if soft else alpha


def painted(*boxes: tuple[int, int, int, int]) -> Image.Image:
    """A translation with filled ellipses, drawn with black lines."""
    picture = Image.new("RGB", (SIDE, SIDE), WHITE)
    draw = ImageDraw.Draw(picture)
    for box in (LEFT, RIGHT):
        draw.ellipse(box, fill=CLAY if box in boxes else WHITE, outline="black", width=3)
    return picture


def opacity_of(alpha: Image.Image, translated: Image.Image) -> NDArray[np.uint8]:
    """What is opaque after a translation of something black."""
    return np.asarray(with_painted(alpha, translated, Image.new("RGB", alpha.size, "black"), WHITE))


@pytest.mark.parametrize("soft", [False, True])
def test_what_lines_enclose_is_opaque_where_it_was_painted(soft: bool) -> None:
    alpha = drawn(soft=soft)
    found = opacity_of(alpha, painted(LEFT))
    before = np.asarray(alpha)
    inside = np.asarray(painted(LEFT).convert("RGB"))[:, :, 2] == CLAY[2]
    assert np.all(found[inside] == 255)
    ring = np.asarray(painted(LEFT).convert("L"))[:, SIDE // 2 :] < 255
    assert np.array_equal(found[:, SIDE // 2 :], np.where(ring, before[:, SIDE // 2 :], 0))  # it stays one
    outside = np.asarray(Image.fromarray(inside).convert("L").filter(ImageFilter.MaxFilter(9))) == 0
    outside[:, SIDE // 2 :] = False
    assert not found[outside].any()


@pytest.mark.parametrize(
    ("alpha", "translated"),
    [
        (drawn(), painted()),
        (drawn(gap=True), painted(LEFT, RIGHT)),
        (Image.new("L", (SIDE, SIDE)), painted(LEFT)),
        (Image.new("L", (SIDE, SIDE), 200), painted(LEFT)),
    ],
    ids=["nothing painted", "lines with gaps", "nothing drawn", "opaque"],
)
def test_else_a_picture_stays_as_transparent_as_it_was(alpha: Image.Image, translated: Image.Image) -> None:
    assert opacity_of(alpha, translated).tobytes() == alpha.tobytes()


def test_where_lines_got_thinner_nothing_of_the_ground_is_left() -> None:
    thin = painted(LEFT)
    ImageDraw.Draw(thin).ellipse(LEFT, outline=WHITE, width=2)
    found = opacity_of(drawn(), thin)
    pixels = np.asarray(thin)
    left = np.s_[:, : SIDE // 2]
    assert np.array_equal(found[left] == 255, (pixels[left] != 255).any(2))
    assert set(np.unique(found)) == {0, 255}


def test_white_inside_stays() -> None:
    found = opacity_of(drawn(), painted(LEFT))
    eye = painted(LEFT)
    ImageDraw.Draw(eye).ellipse((14, 28, 18, 36), fill=WHITE)
    assert np.array_equal(opacity_of(drawn(), eye), found)


def rimmed(inner: str) -> Image.Image:
    """A translation of a disc that got smaller, with a soft edge."""
    picture = Image.new("RGB", (SIDE, SIDE), WHITE)
    ImageDraw.Draw(picture).ellipse((10, 10, 53, 53), fill=inner)
    return picture.filter(ImageFilter.GaussianBlur(0.7))


DISC = Image.new("L", (SIDE, SIDE))
ImageDraw.Draw(DISC).ellipse((8, 8, 55, 55), fill=255)


@pytest.mark.parametrize("colour", ["black", "crimson", "lavender"])
def test_a_thing_that_got_smaller_has_no_white_rim(colour: str) -> None:
    translated = rimmed(colour)
    found = opacity_of(DISC, translated)
    whole = max(255 - level for level in ImageColor.getrgb(colour))
    shown = (255 - np.asarray(translated)).max(2) / whole
    assert np.all(found[shown < 0.03] == 0)
    assert np.all(found[shown > 0.99] == 255)
    soft = (shown > 0.3) & (shown < 0.6)
    assert soft.any()
    assert np.all((found[soft] > 0) & (found[soft] < 255))


def test_nor_has_one_whose_own_edge_is_nearly_white() -> None:
    levels = np.full((SIDE, SIDE, 3), 225, np.uint8)
    levels[np.asarray(DISC.filter(ImageFilter.MinFilter(3))) == 0] = 240  # as resampling makes them
    found = np.asarray(with_painted(DISC, rimmed("crimson"), Image.fromarray(levels), WHITE))
    assert np.array_equal(found, opacity_of(DISC, rimmed("crimson")))


@pytest.mark.parametrize("darkest", [240, 255])
def test_what_becomes_as_white_as_the_ground_stays_opaque(darkest: int) -> None:
    pixels = np.random.default_rng(0).integers(darkest, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    assert opacity_of(DISC, Image.fromarray(pixels)).tobytes() == DISC.tobytes()


def test_what_was_white_stays_opaque() -> None:
    source = Image.new("RGB", (SIDE, SIDE), WHITE)
    assert with_painted(DISC, rimmed("crimson"), source, WHITE).tobytes() == DISC.tobytes()


def test_white_that_reaches_farther_in_stays() -> None:
    picture = Image.new("RGB", (SIDE, SIDE), "crimson")
    ImageDraw.Draw(picture).rectangle((20, 0, 44, SIDE), fill=WHITE)  # such as a shirt
    assert np.all(opacity_of(DISC, picture)[16:48] == np.asarray(DISC)[16:48])


def faded(width: int) -> Image.Image:
    """Opaque on the left; it ends within so many pixels in the middle."""
    ramp = np.clip((SIDE / 2 + width / 2 - np.arange(SIDE)) * 255 / width, 0, 255)
    return Image.fromarray(np.tile(ramp.astype(np.uint8), (SIDE, 1)))


@pytest.mark.parametrize("width", [SIDE // 3, SIDE])
def test_what_fades_out_stays_as_transparent_as_it_was(width: int) -> None:
    picture = Image.new("RGB", (SIDE, SIDE), WHITE)
    ImageDraw.Draw(picture).rectangle((0, 0, SIDE // 2 - 3, SIDE), fill="crimson")
    assert opacity_of(faded(width), picture).tobytes() == faded(width).tobytes()
    assert opacity_of(faded(2), picture)[0, SIDE // 2 - 1] == 0


def test_edges_as_wide_as_enlarging_makes_them_are_no_fading() -> None:
    alpha, translated, source = (
        picture.reduce(4).resize((8 * SIDE, 8 * SIDE), Image.Resampling.BICUBIC)
        for picture in (DISC, rimmed("crimson"), Image.new("RGB", DISC.size, "black"))
    )
    found, kept = (np.asarray(with_painted(alpha, translated, source, WHITE, by)) for by in (32, 1))
    assert np.all(found <= kept)
    assert found.sum() < np.asarray(alpha).sum() == kept.sum()


@given(arrays(np.uint8, (7, 9)), arrays(np.uint8, (7, 9, 3)), arrays(np.uint8, (7, 9, 3)))
def test_only_what_is_like_the_ground_and_was_not_becomes_less_opaque(
    opacity: NDArray[np.uint8], pixels: NDArray[np.uint8], before: NDArray[np.uint8]
) -> None:
    alpha, translated, source = map(Image.fromarray, (opacity, pixels, before))
    found = np.asarray(with_painted(alpha, translated, source, WHITE))
    filled = np.asarray(with_painted(alpha, translated, None, WHITE))
    assert np.all((filled == opacity) | (filled == 255))
    assert np.all(found <= filled)
    differences = (255 - pixels).max(2).astype(int)
    less = found < filled
    assert np.all(3 * differences[less] < 2 * max(1, differences.max()))
    assert (255 - before).max() >= transparency.PAINTED or not less.any()
    border = np.ones(opacity.shape, bool)
    border[1:-1, 1:-1] = False
    clear = border & (opacity < transparency.OPEN)
    assert np.all(found[clear] <= opacity[clear])


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_areas_are_what_can_be_reached_by_sides(mask: NDArray[np.bool_]) -> None:
    areas = areas_of(mask)
    assert np.array_equal(areas > 0, mask)
    image = Image.fromarray(mask.astype(np.uint8), "L")
    for row, column in np.argwhere(mask):
        reached = image.copy()
        ImageDraw.floodfill(reached, (int(column), int(row)), 2)
        assert np.array_equal(areas == areas[row, column], np.asarray(reached) == 2)


def test_noise_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transparency, "MOST_RUNS", 10)
    assert opacity_of(drawn(), painted(LEFT)).tobytes() == drawn().tobytes()
