"""Colours that a PNG tells without an ICC profile: results are what browsers show."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from tests.pictures.test_png import HEADER_END, profile_chunk
from tests.pictures.test_reading import animation, chunk, near, pixel, saved, swapped_profile
from ugatit_cli.pictures.reading import Picture, from_pil, read_picture

RED = (200, 50, 50)
SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
ADOBE = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)


def red(*chunks: bytes, mode: str = "RGB") -> bytes:
    colour = RED if mode == "RGB" else 55
    return with_chunks(saved(Image.new(mode, (4, 4), colour), "PNG"), *chunks)


def with_chunks(data: bytes, *chunks: bytes) -> bytes:
    return data[:HEADER_END] + b"".join(chunks) + data[HEADER_END:]


def gamma(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(value * 1e5)))


def places(values: tuple[float, ...]) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *(round(value * 1e5) for value in values)))


def coded(*code: int) -> bytes:
    return chunk(b"cICP", bytes(code))


def shown(read: Picture) -> tuple[int, ...]:
    return pixel(read.frames[0].rgb)


# What Chromium shows; the last is linear light.
@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (red(gamma(1)), (229, 122, 122)),
        (red(gamma(1), places(SRGB)), (229, 122, 122)),
        (red(gamma(1 / 2.2), places(ADOBE)), (232, 46, 46)),
        (red(coded(12, 13, 0, 1)), (218, 24, 40)),
        (red(profile_chunk(swapped_profile()), coded(12, 13, 0, 1)), (218, 24, 40)),
        (red(gamma(1), mode="L"), (128, 128, 128)),
    ],
)
def test_colours_are_what_browsers_show(data: bytes, colour: tuple[int, ...]) -> None:
    read = read_picture(data)
    assert near(shown(read), colour, 1)
    assert read.notes == ()


def test_a_pillow_image_is_read_as_its_file() -> None:
    data = red(gamma(1))
    assert shown(from_pil(Image.open(io.BytesIO(data)))) == shown(read_picture(data)) != RED


@pytest.mark.parametrize(
    "chunks",
    [
        [gamma(0.45455)],
        [gamma(0.45), places(SRGB)],
        [places(ADOBE)],  # which browsers don't heed alone
        [chunk(b"sRGB", b"\0"), gamma(1)],
        [coded(1, 13, 0, 1)],
        [gamma(0)],
        [gamma(0.00001)],
        [gamma(1), places((0,) * 8)],
        [gamma(1), places((0.3,) * 8)],
    ],
)
def test_what_is_srgb_or_makes_no_sense_changes_nothing(chunks: list[bytes]) -> None:
    read = read_picture(red(*chunks))
    assert (shown(read), read.notes) == (RED, ())


def test_a_profile_counts_more_than_a_gamma() -> None:
    profile = profile_chunk(swapped_profile())
    assert shown(read_picture(red(profile, gamma(1)))) == shown(read_picture(red(profile)))


@pytest.mark.parametrize(
    ("code", "name"), [((9, 16, 0, 1), "PQ"), ((9, 18, 0, 1), "HLG"), ((1, 13, 6, 1), "1-13-6-1")]
)
def test_colours_that_are_not_converted_are_noted(code: tuple[int, ...], name: str) -> None:
    read = read_picture(red(coded(*code)))
    assert shown(read) == RED
    assert [name in note for note in read.notes] == [True]


def test_all_frames_of_an_animation_are_converted() -> None:
    before, after = (read_picture(with_chunks(animation("PNG"), *some)).frames for some in ([], [gamma(1)]))
    for old, new in zip(before, after, strict=True):
        assert old.rgb.tobytes() != new.rgb.tobytes()
