"""Greys of any depth: the range that a file states, and a guess with a note where it states none."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from tests.pictures.test_reading import near
from ugatit_cli.pictures.reading import Picture, from_pil, read_picture

RAMP = np.tile(np.linspace(0, 1, 256), (2, 1))
GREYS = np.tile(np.arange(256), (2, 1))


def tiff(values: npt.NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, metadata=None, **({"photometric": "minisblack"} | options))
    return buffer.getvalue()


def greys(picture: Picture) -> npt.NDArray[np.uint8]:
    return np.asarray(picture.frames[0].rgb)[..., 0]


@pytest.mark.parametrize(
    ("low", "high", "noted"),
    [
        *[(0, 1, False), (-0.005, 1.015, True), (-0.001, 0.999, True), (0, 4, True), (-1, 1, True), (0, 1e-3, False)],
        *[(0, 65535, True), (-3, 258, True), (1200, 1900, True), (0, 3e9, True)],
    ],
)
def test_floats(low: float, high: float, noted: bool) -> None:
    values = (RAMP * (high - low) + low).astype(np.float32)
    picture = read_picture(tiff(values))
    expected = np.round(np.clip(values, 0, 1) * 255).astype(int) if low > -0.1 and high < 1.1 else GREYS
    assert near(greys(picture), expected, 4 if low < 0 else 1)
    assert bool(picture.notes) == noted


def test_few_floats_far_outside_say_nothing() -> None:
    values = RAMP.astype(np.float32)
    values[1, -3:] = 5000, np.inf, np.nan
    picture = read_picture(tiff(values))
    assert near(greys(picture)[0], GREYS[0], 1)
    assert list(greys(picture)[1, -3:]) == [255, 255, 0]


def test_floats_that_are_levels() -> None:
    drawing = np.zeros((20, 20), np.float32)
    drawing[3, 4:9] = 100
    for picture in (read_picture(tiff(drawing)), from_pil(Image.fromarray(drawing))):
        assert greys(picture)[3, 4] == 100
    assert greys(read_picture(tiff(np.full((2, 2), np.nan, np.float32)))).max() == 0


@pytest.mark.parametrize(
    ("kind", "low", "high", "noted"),
    [
        (np.uint16, 0, 65535, False),
        (np.int8, -128, 127, False),
        (np.int16, -32768, 32767, False),
        (np.int16, 0, 32767, True),
        (np.int16, 0, 255, True),
        (np.int32, -(2**31), 2**31 - 1, False),
        (np.uint32, 0, 2**32 - 1, False),
        (np.uint32, 0, 65535, True),
        (np.uint32, 0, 255, True),
        (np.uint32, 0, 1_000_000, True),
    ],
)
def test_integers(kind: type, low: int, high: int, noted: bool) -> None:
    picture = read_picture(tiff(np.round(RAMP * (high - low) + low).astype(kind)))
    assert near(greys(picture), GREYS, 1)
    assert bool(picture.notes) == noted


def test_a_dark_picture_of_16_bits_stays_dark() -> None:
    assert greys(read_picture(tiff(np.full((2, 2), 2570, np.uint16)))).max() == 10


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12])
def test_the_depth_that_the_file_states(bits: int) -> None:
    values = np.tile(np.arange(2**bits), (2, 1))
    kind = bool if bits == 1 else np.uint8 if bits <= 8 else np.uint16
    data = tiff(values.astype(kind), **({} if bits in {1, 8} else {"bitspersample": bits}))
    assert near(greys(read_picture(data)), (values * 255) // (2**bits - 1), 1)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_white_is_zero(kind: Any) -> None:
    most = 1 if kind is np.float32 else np.iinfo(kind).max
    data = tiff((RAMP * most).astype(kind), photometric="miniswhite", byteorder="<")
    assert near(greys(read_picture(data)), GREYS[:, ::-1], 1)
