"""JPEG files that are whole but for what no picture needs; and depths of JPEG 2000."""

from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np
import pytest

from tests.helpers import picture
from tests.pictures.test_reading import near, pixel, reason, saved, swapped_profile
from ugatit_cli.pictures.reading import read_picture

PLAIN = saved(picture(40, 24), "JPEG")
PIXELS = np.asarray(read_picture(PLAIN).frames[0].rgb)


def with_segment(marker: int, content: bytes, data: bytes = PLAIN) -> bytes:
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + data[2:]


@pytest.mark.parametrize(
    "data",
    [
        with_segment(0xEE, b"Adobe"),
        with_segment(0xED, b"Photoshop 3.0\x008BIM\4"),
        with_segment(0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\xff\xff\xff\xff"),
        with_segment(0xE2, b"ICC_PROFILE\0\1\2abcd"),
        with_segment(0xE1, b"Exif\0\0rubbish"),
        with_segment(0xE0, b"JF"),
        with_segment(0xFE, b"x" * 65533),
        PLAIN[:2] + b"\xff\xff" + PLAIN[2:],
        PLAIN + bytes(100),
        PLAIN[:-1],
        PLAIN[:-2],
    ],
)
def test_what_other_programs_show(data: bytes) -> None:
    assert near(np.asarray(read_picture(data).frames[0].rgb), PIXELS, 0)


def test_profile_and_turn_outlive_a_broken_segment() -> None:
    data = saved(picture(40, 24), "JPEG", icc_profile=swapped_profile(), exif=b"Exif\0\0" + exif(6))
    whole, broken = (read_picture(one) for one in (data, with_segment(0xEE, b"Adobe", data)))
    assert whole.size == broken.size == (24, 40)
    assert pixel(whole.frames[0].rgb) == pixel(broken.frames[0].rgb)


def exif(orientation: int) -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x0112, 3, 1, orientation, 0)


@pytest.mark.parametrize("cut", [3, 5, 9, 40, 300])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_missing_pixels_are_not_made_up(options: dict[str, Any], cut: int) -> None:
    assert "truncated" in reason(saved(picture(40, 24), "JPEG", **options)[:-cut]).message


@pytest.mark.parametrize("adobe", [True, False])
def test_inks_are_inverted_where_adobe_says_so(adobe: bool) -> None:
    inks = np.full((16, 16, 4), (0, 200, 100, 20), np.uint8)
    data = bytes(imagecodecs.jpeg8_encode(255 - inks if adobe else inks, 98, colorspace="CMYK", outcolorspace="CMYK"))
    start = data.index(b"\xff\xee")
    without = data[:start] + data[start + 16 :]
    assert near(pixel(read_picture(data if adobe else without).frames[0].rgb), (235, 50, 143), 2)


def jpeg_2000(bits: int, channels: int) -> tuple[bytes, np.ndarray[Any, Any]]:
    """All values of a depth, and the levels that they stand for."""
    values = np.linspace(0, 2**bits - 1, 64).round().astype(np.uint16 if bits > 8 else np.uint8)
    plane = np.tile(values, (8, 1))
    array = np.stack([plane] * channels, -1) if channels > 1 else plane
    return bytes(imagecodecs.jpeg2k_encode(array, level=0, bitspersample=bits)), plane * (255 / (2**bits - 1))


@pytest.mark.parametrize(("bits", "channels"), [(7, 1), (8, 1), (10, 1), (12, 1), (16, 1), (8, 3)])
def test_depths_of_jpeg_2000(bits: int, channels: int) -> None:
    data, levels = jpeg_2000(bits, channels)
    assert near(np.asarray(read_picture(data).frames[0].rgb)[..., 0], levels, 2)


@pytest.mark.parametrize(("bits", "channels"), [(1, 1), (4, 1), (12, 3), (16, 3), (16, 4)])
def test_other_depths_of_jpeg_2000_are_refused(bits: int, channels: int) -> None:
    assert f"{bits}-bit JPEG 2000" in reason(jpeg_2000(bits, channels)[0]).message
