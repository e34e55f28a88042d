"""Words: what fits, wraps, can be written. Panels: where pictures and words stand, and what is drawn only once."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from tests.helpers import picture
from ugatit_cli.pictures.drawing import (
    BACKGROUND,
    FRAME,
    GAP,
    MARGIN,
    MIN_COLUMN,
    Cell,
    Legend,
    Lettering,
    draw_panel,
    plain,
    shown_size,
)
from ugatit_cli.pictures.geometry import Size

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
Pixels = npt.NDArray[np.uint8]
Corner = tuple[int, int]

RAMP = np.stack([np.arange(256), np.full(256, 7), np.arange(256)[::-1]], 1).astype(np.uint8)
LEGEND = Legend(RAMP.tobytes(), "low", "high", "Colours show attention: bright is where the network looks most.")
TITLES = ["input", "attention", "→ clay", "source judge", "target judge", "another"]


def cells(size: Size, count: int = 5, **changes: Cell) -> list[Cell]:
    """Pictures under the usual titles; `c2=Cell(...)` puts another one in place of the third."""
    usual = [Cell(TITLES[i], picture(*size, seed=i)) for i in range(count)]
    return [changes.get(f"c{i}", cell) for i, cell in enumerate(usual)]


def corner_of(panel: Pixels, wanted: Image.Image) -> Corner:
    """Where (left, top) a picture is, pixel by pixel; it must be there once."""
    pixels = np.asarray(wanted)
    height, width = pixels.shape[:2]
    rows, columns = np.nonzero((panel == pixels[0, 0]).all(2))
    windows = [(int(x), int(y)) for y, x in zip(rows, columns, strict=True)]
    found = [(x, y) for x, y in windows if np.array_equal(panel[y : y + height, x : x + width], pixels)]
    assert len(found) == 1
    return found[0]


def corners(panel: Image.Image, shown: list[Cell]) -> list[Corner]:
    pixels = np.asarray(panel)
    return [corner_of(pixels, cell.picture) for cell in shown if cell.picture is not None]


def ink(panel: Image.Image) -> npt.NDArray[np.bool_]:
    """What is no background: (H, W)."""
    return np.asarray((np.asarray(panel) != BACKGROUND).any(2))


def without(panel: Image.Image, shown: list[Cell]) -> npt.NDArray[np.bool_]:
    """Ink of all but the pictures."""
    rest = ink(panel)
    for (left, top), cell in zip(corners(panel, shown), (c for c in shown if c.picture), strict=True):
        assert cell.picture is not None
        rest[top : top + cell.picture.height, left : left + cell.picture.width] = False
    return rest


def boxes_of(lines: npt.NDArray[np.bool_] | np.bool_) -> list[tuple[int, int]]:
    """First and last of each run of ink: along one axis."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.atleast_1d(lines), [False]]).astype(int)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


# --- Lettering ------------------------------------------------------------


texts = st.text("abW i→é", max_size=60)


@pytest.mark.parametrize(
    ("source", "target", "whole"), [("flat", "W" * 90, "flat"), ("W" * 90, "clay", "clay"), ("W" * 90, "M" * 90, "")]
)
def test_the_longer_name_gives_way(source: str, target: str, whole: str) -> None:
    text = Lettering(16, BLACK)
    pair = text.pair(source, target, 200)
    assert 180 <= text.width(pair) <= 202
    left, right = pair.split(" → ")
    assert whole in (left, right) or not whole
    assert left.endswith("…") == (source != whole)
    assert right.endswith("…") == (target != whole)


@given(texts, texts, st.integers(60, 300))
def test_two_texts_share_the_room(first: str, second: str, limit: int) -> None:
    text = Lettering(16, BLACK)
    assert sum(map(text.width, text.both(first, second, limit))) <= limit


@given(texts, st.integers(20, 300))
def test_wrapped_lines_fit_and_lose_no_word(whole: str, limit: int) -> None:
    text = Lettering(16, BLACK)
    lines = text.wrapped(whole, limit)
    assert all(line and text.width(line) <= limit for line in lines)
    if not any(line.endswith("…") for line in lines):
        assert " ".join(lines).split() == whole.split()


@pytest.mark.parametrize("text", ["", "flat2clay", "a → b", "Wait…", "100 % (low)", "~!#'"])
@pytest.mark.parametrize("lacks", ["", "日本の絵", "жук", "日", "🦓", "\t", "\n", "\udc80", "\U0010fffe"])
def test_what_the_font_has_and_lacks(text: str, lacks: str) -> None:
    assert plain(text + lacks, "source") == ("source" if lacks else text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mein Bild ä ö Ü.png", "mein Bild a o U.png"),
        ("cafe\u0301 ñ ç ž", "cafe n c z"),
        ("2² ❤\ufe0f", "22 ?"),
        ("日本/жук?", "??/????"),
        ("a\tb\n", "a?b?"),
    ],
)
def test_what_stands_for_letters_that_the_font_lacks(text: str, shown: str) -> None:
    letters = Lettering(16, BLACK)
    drawn = [Image.new("RGB", (300, 30), WHITE) for _ in range(2)]
    for one, canvas in zip((text, shown), drawn, strict=True):
        letters.draw(ImageDraw.Draw(canvas), (0, 0), one)
    assert drawn[0].tobytes() == drawn[1].tobytes()
    assert letters.width(text) == letters.width(shown)


def test_the_font_lacks_an_arrow_which_is_drawn() -> None:
    text, canvas = Lettering(40, WHITE), Image.new("RGB", (400, 60))
    text.draw(ImageDraw.Draw(canvas), (10, 0), "→")
    ink = np.asarray(canvas)[:, :, 0] > 0
    assert ink[ink.sum(1).argmax()].sum() >= 30  # the shaft
    assert ink.any(1).sum() > 10  # the head


# --- Where the pictures are ----------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize("size", [(72, 72), (160, 240), (256, 171), (200, 100)])
def test_pictures_stand_side_by_side(size: Size, count: int) -> None:
    shown = cells(size, count)
    panel = draw_panel("flat → clay", shown, LEGEND)
    column = max(size[0], MIN_COLUMN)
    found = corners(panel, shown)
    middle = (column - size[0]) // 2
    assert [left for left, _ in found] == [MARGIN + middle + i * (column + GAP) for i in range(count)]
    assert len({top for _, top in found}) == 1
    assert panel.width == found[-1][0] + size[0] + (column - size[0] - middle) + MARGIN
    assert panel.mode == "RGB"


@pytest.mark.parametrize("size", [(203, 100), (512, 102), (40, 8)])
def test_wide_pictures_stand_one_below_the_other(size: Size) -> None:
    shown = cells(size, 4)
    found = corners(draw_panel("flat → clay", shown, LEGEND), shown)
    assert len({left for left, _ in found}) == 1
    steps = {int(step) for step in np.diff([top for _, top in found])}
    assert len(steps) == 1
    assert steps.pop() > size[1] + 30  # room for a title and a note


@pytest.mark.parametrize("wrong", [[], [(8, 8), (8, 9)], [None], [(8, 8), None, (9, 8)]])
def test_pictures_of_several_sizes_or_none_are_refused(wrong: list[Size | None]) -> None:
    shown = [Cell("a", size and Image.new("RGB", size)) for size in wrong]
    with pytest.raises(ValueError, match="one size"):
        draw_panel("", shown, LEGEND)


# --- Words ---------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.lists(st.text(max_size=40), min_size=4, max_size=4), st.integers(1, 4))
def test_any_words_leave_the_margins(words: list[str], count: int) -> None:
    shown = [Cell(words[0], picture(90, 60), words[1]), *cells((90, 60), count)[1:]]
    panel = draw_panel(words[2], shown, Legend(RAMP.tobytes(), words[0], words[1], words[3]))
    rest = without(panel, shown)
    for edge in (rest[:, : MARGIN - 3], rest[:, 3 - MARGIN :], rest[: MARGIN - 3], rest[3 - MARGIN :]):
        assert not edge.any()


# --- Notes and missing pictures ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(72, 72), (160, 160), (256, 256), (512, 512), (512, 102), (330, 330)])
def test_frames_of_an_animation_make_panels_of_one_size(size: Size) -> None:
    flat = Cell("local discriminator", picture(*size, seed=1), "flat: the same everywhere")
    one, other = cells(size, 3), cells(size, 3, c1=flat)
    first = draw_panel("frame 1 of 2", one, LEGEND)
    second = draw_panel("frame 2 of 2, a longer caption", other, LEGEND)
    assert first.size == second.size
    assert corners(first, one) == corners(second, other)


@pytest.mark.parametrize("size", [(160, 160), (1, 1), (10, 400), (512, 102)])
def test_a_missing_picture_has_a_frame_with_its_note(size: Size) -> None:
    shown = cells(size, 3, c1=Cell("global", None, "too small for the global discriminator (64 pixels a side)"))
    panel = draw_panel("", shown, LEGEND)
    column, wide = max(size[0], MIN_COLUMN), size[0] > 2 * size[1]
    x = MARGIN if wide else MARGIN + column + GAP
    ((top, bottom),) = boxes_of((np.asarray(panel)[:, x + 2] == FRAME).all(1))  # just inside the frame's left edge
    assert bottom - top + 2 >= size[1]
    assert wide or top - 1 == corners(panel, shown)[0][1]
    written = (np.asarray(panel)[top:bottom, x + 1 : x + column - 1] != FRAME).any(2)
    assert written.sum() > 200
    assert not any(edge.any() for edge in (written[:4], written[-4:], written[:, :4], written[:, -4:]))


# --- Drawn once ----------------------------------------------------------------------------------------


def test_what_was_drawn_before_is_as_if_drawn_anew() -> None:
    legend = dataclasses.replace(LEGEND, text="Drawn here for the first time.")
    shown = cells((64, 64), 3, c2=Cell("gone", None, "no such map"))
    cold = draw_panel("flat → clay", shown, legend)
    draw_panel("another heading", shown, legend).paste((255, 0, 0), (0, 0, 99, 99))
    assert draw_panel("flat → clay", shown, dataclasses.replace(legend)).tobytes() == cold.tobytes()


def test_threads_draw_what_one_thread_draws() -> None:
    legend = dataclasses.replace(LEGEND, text="Drawn by many for the first time.")
    kinds = [(size, count) for size in ((48, 48), (64, 32), (90, 20)) for count in (1, 2, 3)] * 6
    jobs = [(f"job {number}", cells(size, count)) for number, (size, count) in enumerate(kinds)]
    barrier = threading.Barrier(6)

    def work(part: int) -> list[bytes]:
        barrier.wait()
        return [draw_panel(heading, shown, legend).tobytes() for heading, shown in jobs[part::6]]

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(work, range(6)))
    expected = [draw_panel(heading, shown, legend).tobytes() for heading, shown in jobs]
    assert all(result == expected[part::6] for part, result in enumerate(results))


# --- Sizes to look at ----------------------------------------------------------------------------------


@given(st.tuples(st.integers(1, 70_000), st.integers(1, 70_000)))
def test_any_size_is_shown_neither_tiny_nor_huge(size: Size) -> None:
    shown = shown_size(size)
    assert min(shown) >= 1
    most = 720 if size[0] > 2 * size[1] else 360
    assert 160 <= max(shown) <= most
    if max(size) <= most:
        factor = shown[0] // size[0]
        assert shown == (factor * size[0], factor * size[1])
    assert shown_size(shown) == shown
