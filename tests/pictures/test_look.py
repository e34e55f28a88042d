"""How much of a translation shows: mixtures, and the source's colours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ugatit_cli.errors import UsageError
from ugatit_cli.pictures import reading
from ugatit_cli.pictures.look import Look
from ugatit_cli.pictures.reading import Frame

looks = st.builds(Look, st.floats(0, 1), st.booleans())


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Frame, Frame]:
    """A translation and its source."""
    size = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    values = np.random.default_rng(draw(st.integers(0, 999)))
    result, source = (Image.fromarray(values.integers(0, 256, (*size[::-1], 3), np.uint8)) for _ in range(2))
    alpha = Image.fromarray(values.integers(0, 256, size[::-1], np.uint8)) if draw(st.booleans()) else None
    return Frame(result, alpha), Frame(source, alpha)


def luma(picture: Image.Image) -> np.ndarray:
    """Light and dark, 0 to 255."""
    return np.asarray(picture, np.float64) @ [0.3, 0.59, 0.11]


@pytest.mark.parametrize("keep_colour", [False, True])
def test_what_was_painted_on_transparent_ground(keep_colour: bool) -> None:
    """It fades in; the colour that transparent pixels have, which nobody sees, doesn't show."""
    source = Frame(Image.new("RGB", (2, 1)), Image.fromarray(np.array([[0, 255]], np.uint8)))
    result = Frame(Image.new("RGB", (2, 1), (250, 150, 50)), Image.new("L", (2, 1), 255))
    half = Look(0.5, keep_colour).applied(result, source)
    assert half.alpha is not None
    assert np.asarray(half.alpha)[0].tolist() == [127, 255]
    assert half.rgb.getpixel((0, 0)) == (250, 150, 50)
    none = Look(0, keep_colour).applied(result, source)
    assert none.alpha is not None
    assert none.alpha.tobytes() == bytes([0, 255])


def test_where_a_line_got_thinner_it_fades_in_its_own_colour() -> None:
    ink, clay = (Image.new("RGB", (2, 1), colour) for colour in ("black", "orange"))
    drawn, thinner = (Image.fromarray(np.array([levels], np.uint8)) for levels in ([255, 255], [255, 0]))
    shown = Look(strength=0.5).applied(Frame(clay, thinner), Frame(ink, drawn))
    assert shown.alpha is not None
    assert np.asarray(shown.alpha)[0].tolist() == [255, 127]
    assert [shown.rgb.getpixel((x, 0)) for x in (0, 1)] == [(127, 82, 0), (0, 0, 0)]


@given(pairs(), st.booleans())
def test_no_strength_is_the_source(pair: tuple[Frame, Frame], keep_colour: bool) -> None:
    """Pixel for pixel, whatever else is asked for."""
    result, source = pair
    assert Look(0, keep_colour).applied(result, source).rgb.tobytes() == source.rgb.tobytes()


@given(pairs())
def test_full_strength_is_the_translation(pair: tuple[Frame, Frame]) -> None:
    """The very same, for which nobody needs the source."""
    assert Look(1).applied(*pair) is pair[0]
    assert not Look(1).needs_source


@given(pairs(), looks)
def test_size_and_alpha_stay(pair: tuple[Frame, Frame], look: Look) -> None:
    """And neither picture is changed."""
    before = [frame.rgb.tobytes() for frame in pair]
    shown = look.applied(*pair)
    assert shown.alpha is pair[0].alpha
    assert shown.rgb.size == pair[0].rgb.size
    assert before == [frame.rgb.tobytes() for frame in pair]


@given(pairs(), st.floats(0, 1))
def test_a_mixture_lies_between_the_two(pair: tuple[Frame, Frame], strength: float) -> None:
    """Within rounding, where a straight line from one to the other is."""
    after, before = (np.asarray(frame.rgb, np.float64) for frame in pair)
    shown = np.asarray(Look(strength).applied(*pair).rgb, np.float64)
    assert np.abs(shown - (before + strength * (after - before))).max() <= 1


@given(pairs())
def test_colour_comes_from_the_source_and_light_from_the_translation(pair: tuple[Frame, Frame]) -> None:
    """The luma is the translation's, within rounding, and channels keep their order: the hue."""
    result, source = pair
    shown = Look(keep_colour=True).applied(result, source).rgb
    assert np.abs(luma(shown) - luma(result.rgb)).max() < 1
    order = np.argsort(np.asarray(source.rgb), axis=2, kind="stable")
    ordered = np.take_along_axis(np.asarray(shown, np.int16), order, axis=2)
    assert np.diff(ordered, axis=2).min() >= 0


@given(pairs())
def test_the_source_has_its_own_colours(pair: tuple[Frame, Frame]) -> None:
    """Where a translation has changed nothing, nor do its colours."""
    _, source = pair
    shown = Look(keep_colour=True).applied(source, source).rgb
    assert np.abs(np.asarray(shown, np.int16) - np.asarray(source.rgb, np.int16)).max() <= 1


@given(pairs(), st.integers(0, 255))
def test_grey_stays_grey(pair: tuple[Frame, Frame], grey: int) -> None:
    """A source without colour gives a result without any."""
    source = Frame(Image.new("RGB", pair[0].rgb.size, (grey, grey, grey)), None)
    shown = np.asarray(Look(keep_colour=True).applied(pair[0], source).rgb)
    assert (shown == shown[..., :1]).all()


def test_large_pictures_go_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pixel is where it was."""
    values = np.random.default_rng(0).integers(0, 256, (2, 30, 20, 3), np.uint8)
    result, source = (Frame(Image.fromarray(one), None) for one in values)
    whole = Look(0.4, keep_colour=True).applied(result, source).rgb.tobytes()
    monkeypatch.setattr(reading, "_STRIP", 70)
    assert Look(0.4, keep_colour=True).applied(result, source).rgb.tobytes() == whole


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan"), float("inf")])
def test_strengths_that_make_no_sense(strength: float) -> None:
    """Are refused in words."""
    with pytest.raises(UsageError, match="strength of"):
        Look(strength)
