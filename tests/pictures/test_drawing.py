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
    HEADING,
    HEATMAP_COLUMN,
    MARGIN,
    MIN_COLUMN,
    TITLE,
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


def test_text_is_shortened_only_if_it_must_be() -> None:
    text = Lettering(16, BLACK)
    whole = "back to photographs"
    assert text.shortened(whole, text.width(whole)) == whole
    shorter = text.shortened(whole, text.width(whole) - 1)
    assert shorter.endswith("…")
    assert whole.startswith(shorter[:-1])
    assert len(shorter) >= len(whole) - 2
    assert text.shortened(whole, 0) == "…"


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


def test_words_wrap_where_they_must() -> None:
    text = Lettering(16, BLACK)
    assert text.wrapped("bright is where it looks", text.width("bright is where")) == ["bright is where", "it looks"]
    assert text.wrapped("bright is where it looks", text.width("bright is where") - 1)[0] == "bright is"
    assert text.wrapped("  two\n words ", 300) == ["two words"]
    assert text.wrapped(" \n", 300) == []


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


def test_the_arrow_is_an_arrow() -> None:
    text, canvas = Lettering(40, WHITE), Image.new("RGB", (400, 60))
    text.draw(ImageDraw.Draw(canvas), (10, 0), "→")
    ink = np.asarray(canvas)[:, :, 0] > 0
    shaft = int(ink.sum(1).argmax())
    assert abs(shaft - text.height / 2) <= 2
    assert ink[shaft].sum() >= 30
    right = np.flatnonzero(ink.any(0)).max()
    away = np.delete(ink, range(shaft - 3, shaft + 4), 0)
    assert away[:, :30].sum() == 0
    assert away[:, 30 : right + 1].sum() > 0


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


@pytest.mark.parametrize("size", [(1, 1), (10, 2000), (2000, 10), (3000, 1), (1, 700)])
def test_extreme_pictures_still_have_titles(size: Size) -> None:
    shown = cells(size, 3)
    panel = draw_panel("flat → clay", shown, LEGEND)
    rest = without(panel, shown)
    for left, top in corners(panel, shown):
        middle = left + size[0] // 2
        assert rest[top - 20 : top - 2, middle - 70 : middle + 70].sum() > 50
    assert panel.width >= MIN_COLUMN + 2 * MARGIN


@pytest.mark.parametrize("wrong", [[], [(8, 8), (8, 9)], [None], [(8, 8), None, (9, 8)]])
def test_pictures_of_several_sizes_or_none_are_refused(wrong: list[Size | None]) -> None:
    shown = [Cell("a", size and Image.new("RGB", size)) for size in wrong]
    with pytest.raises(ValueError, match="one size"):
        draw_panel("", shown, LEGEND)


# --- Words ---------------------------------------------------------------------------------------------


def title_ink(panel: Image.Image, shown: list[Cell], index: int) -> npt.NDArray[np.bool_]:
    """The words above a picture in its column, down to the picture."""
    below = shown[index].picture
    assert below is not None
    column = max(below.width, MIN_COLUMN)
    left, top = corners(panel, shown)[index]
    left -= (column - below.width) // 2
    return ink(panel)[top - 48 : top - 1, left : left + column]


@pytest.mark.parametrize("size", [(72, 72), (256, 256), (512, 102)])
def test_each_title_is_centred_over_its_picture(size: Size) -> None:
    shown = cells(size)
    panel = draw_panel("", shown, LEGEND)
    for index in range(5):
        columns = np.flatnonzero(title_ink(panel, shown, index).any(0))
        assert abs((columns.min() + columns.max()) / 2 - (max(size[0], MIN_COLUMN) - 1) / 2) <= 2


@pytest.mark.parametrize("title", ["W" * 80, "photographs of landscapes at dusk in autumn", "→ " + "i" * 200])
@pytest.mark.parametrize("size", [(72, 72), (160, 160), (300, 300)])
def test_long_titles_keep_to_their_columns(size: Size, title: str) -> None:
    shown = [dataclasses.replace(cell, title=title) for cell in cells(size, 3)]
    panel = draw_panel(title, shown, LEGEND)
    rest, tops = without(panel, shown), corners(panel, shown)
    above = rest[: tops[0][1]]
    column = max(size[0], MIN_COLUMN)
    for index in (1, 2):
        gap = MARGIN + index * (column + GAP) - GAP
        assert not above[tops[0][1] - 40 :, gap + 1 : gap + GAP - 1].any()
    assert not above[:, : MARGIN - 1].any()
    assert not above[:, 2 - MARGIN :].any()
    assert np.flatnonzero(title_ink(panel, shown, 0).any(0)).size > column // 3


def test_odd_whitespace_is_one_space() -> None:
    shown = cells((80, 80), 1)
    tidy = draw_panel("a b", [dataclasses.replace(shown[0], title="c d", note="e f")], LEGEND)
    messy = draw_panel(" a\n b", [dataclasses.replace(shown[0], title="c\t\td ", note="\ne  f")], LEGEND)
    assert messy.tobytes() == tidy.tobytes()


@settings(max_examples=20)
@given(st.lists(st.text(max_size=40), min_size=4, max_size=4), st.integers(1, 4))
def test_any_words_leave_the_margins(words: list[str], count: int) -> None:
    shown = [Cell(words[0], picture(90, 60), words[1]), *cells((90, 60), count)[1:]]
    panel = draw_panel(words[2], shown, Legend(RAMP.tobytes(), words[0], words[1], words[3]))
    rest = without(panel, shown)
    for edge in (rest[:, : MARGIN - 3], rest[:, 3 - MARGIN :], rest[: MARGIN - 3], rest[3 - MARGIN :]):
        assert not edge.any()


# --- Notes and missing pictures ------------------------------------------------------------------------


def test_a_note_stands_between_title_and_picture() -> None:
    unnoted = cells((160, 160), 2)
    noted = [unnoted[0], dataclasses.replace(unnoted[1], note="flat: all")]
    bare, panel = draw_panel("", unnoted, None), draw_panel("", noted, None)
    lines = boxes_of(title_ink(panel, noted, 1).any(1))
    assert len(lines) >= 2  # title, then note
    assert lines[-1][1] <= 45  # not on the picture
    assert title_ink(panel, noted, 1).sum() > title_ink(bare, unnoted, 1).sum()
    assert np.array_equal(title_ink(panel, noted, 0), title_ink(bare, unnoted, 0))  # others stay where they are


@pytest.mark.parametrize("size", [(72, 72), (160, 160), (256, 256), (512, 512), (512, 102), (330, 330)])
def test_frames_of_an_animation_make_panels_of_one_size(size: Size) -> None:
    flat = Cell("local discriminator", picture(*size, seed=1), "flat: the same everywhere")
    one, other = cells(size, 3), cells(size, 3, c1=flat)
    first = draw_panel("frame 1 of 2", one, LEGEND)
    second = draw_panel("frame 2 of 2, a longer caption", other, LEGEND)
    assert first.size == second.size
    assert corners(first, one) == corners(second, other)


@pytest.mark.parametrize("size", [(160, 160), (72, 72), (1, 1), (10, 400), (400, 10), (512, 102)])
def test_a_missing_picture_has_a_frame_with_its_note(size: Size) -> None:
    text = "too small for the global discriminator (64 pixels a side)"
    empty, full = (cells(size, 3, c1=Cell("global", None, note)) for note in ("", text))
    bare, panel = draw_panel("", empty, LEGEND), draw_panel("", full, LEGEND)
    top = corners(panel, full)[0][1]
    column = max(size[0], MIN_COLUMN)
    wide = size[0] > 2 * size[1]
    x = MARGIN if wide else MARGIN + column + GAP
    strip = np.asarray(panel)[:, x + 2]  # just inside the frame's left edge
    inside = boxes_of((strip == FRAME).all(1))
    assert len(inside) == 1
    y0, y1 = inside[0]
    assert y1 - y0 + 2 >= size[1]
    assert wide or y0 - 1 == top
    box = np.asarray(panel)[y0:y1, x + 1 : x + column - 1]
    written = (box != FRAME).any(2)
    assert written.sum() > 200
    rows, columns = np.flatnonzero(written.any(1)), np.flatnonzero(written.any(0))
    assert min(rows.min(), columns.min(), box.shape[0] - 1 - rows.max(), box.shape[1] - 1 - columns.max()) >= 4
    assert (np.asarray(bare)[:, x + column // 2] == FRAME).all(1).sum() >= size[1] - 2


# --- Legends -------------------------------------------------------------------------------------------


def bar_of(panel: Image.Image) -> tuple[int, int, int]:
    """Left, top and width of the bar's colours, which are `RAMP` from left to right."""
    pixels = np.asarray(panel)
    rows, columns = np.nonzero(pixels[:, :, 1] == 7)
    left, right, top = int(columns.min()), int(columns.max()), int(rows.min())
    bar = pixels[top, left : right + 1].astype(int)
    assert (bar[:, 0] + bar[:, 2] == 255).all()
    assert (np.diff(bar[:, 0]) >= 0).all()
    assert (bar[0, 0], bar[-1, 0]) <= (1, 255)
    assert bar[-1, 0] >= 253
    return left, top, right + 1 - left


def green(size: Size, count: int) -> list[Cell]:
    return [Cell(title, Image.new("RGB", size, (0, 200, 0))) for title in TITLES[:count]]


def test_ends_stand_under_the_bar() -> None:
    panel = draw_panel("", green((256, 256), 3), dataclasses.replace(LEGEND, text=""))
    left, top, width = bar_of(panel)
    under = ink(panel)[top + 20 :]
    columns = boxes_of(np.convolve(under.any(0), np.ones(9), "same") > 0)  # letters of a word run together
    (low_left, _), (_, high_right) = columns
    assert abs(low_left + 4 - left) <= 3
    assert abs(high_right - 4 - (left + width)) <= 3


def test_the_text_stands_beside_the_bar_or_below_it() -> None:
    wide, narrow = (draw_panel("", green((side, side), count), LEGEND) for side, count in ((256, 4), (160, 1)))
    left, top, width = bar_of(wide)
    assert ink(wide)[top:, left + width + 12 :].sum() > 500
    left, top, width = bar_of(narrow)
    assert not ink(narrow)[top : top + 30, left + width + 2 :].any()
    lines = boxes_of(ink(narrow)[top + 32 :].any(1))
    assert len(lines) >= 3


def test_a_map_of_few_colours_shows_equal_blocks() -> None:
    few = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
    cell = [Cell("", Image.new("RGB", (400, 400), (1, 2, 3)))]
    pixels = np.asarray(draw_panel("", cell, Legend(few.tobytes(), "", "", ""))).reshape(-1, 3)
    counts = [int((pixels == colour).all(1).sum()) for colour in few]
    assert min(counts) > 0
    assert max(counts) / min(counts) < 1.05


def test_without_a_legend_the_panel_ends_below_the_pictures() -> None:
    shown = cells((160, 160), 2)
    panel = draw_panel("", shown, None)
    assert panel.height == corners(panel, shown)[0][1] + 160 + MARGIN


@pytest.mark.parametrize("size", [(384, 256), (40, 40), (512, 30), (30, 512)])
def test_a_heatmap_has_a_title_above_and_a_bar_below(size: Size) -> None:
    heat = picture(*size)
    panel = draw_panel("flat → clay", [Cell("generator attention", heat)], LEGEND, least=HEATMAP_COLUMN)
    left, top = corner_of(np.asarray(panel), heat)
    assert left == (panel.width - size[0]) // 2
    assert (np.asarray(panel)[:top] == HEADING).all(2).any()
    assert (np.asarray(panel)[top + size[1] :] == TITLE).all(2).any()
    assert (np.asarray(panel)[top + size[1] :, :, 1] == 7).sum() > 500
    assert not without(panel, [Cell("", heat)])[top + size[1] : top + size[1] + 12].any()


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


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((360, 300), (360, 300)),
        ((160, 1), (160, 1)),
        ((1024, 768), (360, 270)),
        ((4000, 10), (720, 2)),
        ((1000, 500), (360, 180)),
        ((1000, 499), (720, 359)),
        ((500, 100), (500, 100)),
        ((1, 9000), (1, 360)),
        ((1, 1), (160, 160)),
        ((72, 72), (216, 216)),
        ((100, 159), (200, 318)),
        ((80, 40), (160, 80)),
    ],
)
def test_sizes_to_look_at(size: Size, expected: Size) -> None:
    assert shown_size(size) == expected


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
