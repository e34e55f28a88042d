"""Words on sheets: what fits, what wraps, what the font can't write, and the arrow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from ugatit_cli.pictures.drawing import Lettering, drawable, plain

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
texts = st.text("abW i→é", max_size=60)


# --- What fits -----------------------------------------------------------------------------------------


def test_text_is_shortened_only_if_it_must_be() -> None:
    text = Lettering(16, BLACK)
    whole = "back to photographs"
    assert text.shortened(whole, text.width(whole)) == whole
    shorter = text.shortened(whole, text.width(whole) - 1)
    assert shorter.endswith("…")
    assert whole.startswith(shorter[:-1])
    assert len(shorter) >= len(whole) - 2
    assert text.shortened(whole, 0) == "…"


@given(st.text("abW i→é", max_size=40), st.integers(20, 300))
def test_shortened_text_fits(whole: str, limit: int) -> None:
    text = Lettering(16, BLACK)
    short = text.shortened(whole, limit)
    assert text.width(short) <= limit
    assert short == whole or short.endswith("…")


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


def test_the_shorter_text_stays_whole() -> None:
    text = Lettering(16, BLACK)
    room = text.width("low") + text.width("W" * 8)
    assert text.both("low", "W" * 8, room) == ("low", "W" * 8)
    assert text.both("low", "W" * 90, room)[0] == "low"
    assert text.both("W" * 90, "low", room)[1] == "low"
    assert all(part.endswith("…") for part in text.both("W" * 90, "M" * 90, room))


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


# --- What the font has ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "flat2clay", "a → b", "Wait…", "100 % (low)", "~!#'"])
def test_what_the_font_has(text: str) -> None:
    assert drawable(text)
    assert plain(text, "source") == text


@pytest.mark.parametrize("text", ["日本の絵", "жук", "a日", "🦓", "tab\t", "a\nb", "\udc80", "\U0010fffe"])
def test_what_the_font_lacks(text: str) -> None:
    assert not drawable(text)
    assert plain(text, "source") == "source"


# --- What is drawn -------------------------------------------------------------------------------------


def ink_of(text: str, size: int = 40) -> npt.NDArray[np.bool_]:
    canvas = Image.new("RGB", (400, 60))
    Lettering(size, WHITE).draw(ImageDraw.Draw(canvas), (10, 0), text)
    return np.asarray(np.asarray(canvas)[:, :, 0] > 0)


def test_the_arrow_is_an_arrow() -> None:
    text, ink = Lettering(40, WHITE), ink_of("→")
    shaft = int(ink.sum(1).argmax())
    assert abs(shaft - text.height / 2) <= 2
    assert ink[shaft].sum() >= 30
    right = np.flatnonzero(ink.any(0)).max()
    away = np.delete(ink, range(shaft - 3, shaft + 4), 0)
    assert away[:, :30].sum() == 0
    assert away[:, 30 : right + 1].sum() > 0
