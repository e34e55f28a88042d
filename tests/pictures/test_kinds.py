"""Files that can't be read here, or not all of: each says what it is."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.helpers import picture
from tests.pictures.test_reading import chunk, png, reason, saved
from ugatit_cli.pictures.reading import read_picture

COLOURS = np.asarray(picture(24, 16))


def pages(*arrays: np.ndarray[Any, Any], **first: Any) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for index, array in enumerate(arrays):
            file.write(array, metadata=None, photometric="rgb", **({} if index else first))
    return buffer.getvalue()


def directory() -> bytes:
    """Of a TIFF of one grey pixel."""
    values = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 278: 1, 279: 1}
    entries = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in values.items()]
    return struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


def jpeg(code: int, bits: int = 8, channels: int = 3) -> bytes:
    """One whose frame header says so."""
    data = bytearray(saved(picture(24, 16), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4], data[at + 9] = code, bits, channels
    return bytes(data)


def psd(bits: int, mode: int, channels: int = 3, version: int = 1, layers: int = 0) -> bytes:
    head = b"8BPS" + struct.pack(">H6xHIIHH", version, channels, 16, 24, bits, mode)
    named = struct.pack(">IIh", 6, 2, layers) if layers else bytes(4)
    planes = [*COLOURS.transpose(2, 0, 1), np.full((16, 24), 90, np.uint8)][:channels]
    return head + bytes(8) + named + bytes(2) + b"".join(plane.tobytes() for plane in planes)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (jpeg(0xC1, bits=12), "12-bit JPEG"),
        (jpeg(0xC0, channels=2), "JPEG of 2 channels"),
        (jpeg(0xC3), "lossless JPEG"),
        (jpeg(0xC5), "hierarchical JPEG"),
        (jpeg(0xF7), "JPEG-LS"),
        (psd(16, 3), "16-bit RGB PSD"),
        (psd(8, 3, version=2), "PSB"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"CgBI", bytes(4)) + png(2, 2, 8, 6, b"\0" * 18)[8:], "Xcode"),
        (b"\xff\x0a" + bytes(40), "JPEG XL"),
        (b"v/1\x01" + bytes(40), "OpenEXR"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(40), "camera raw"),
    ],
)
def test_an_intact_file_is_not_called_damaged(data: bytes, kind: str) -> None:
    message = reason(data).message
    assert kind in message
    assert "damaged" not in message
    assert "truncated" not in message


@pytest.mark.parametrize(
    "data", [b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), b"\x89HDF\r\n\x1a\n" + bytes(60), b"%!PS-Adobe-3.0\n" + bytes(60)]
)
def test_what_is_no_picture(data: bytes) -> None:
    assert "not a picture" in reason(data, name="a.webp").message


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (b"PK\x03\x04" + bytes(40), "in/clay.zip", "zip://in/clay.zip"),
        (bytes(4) + b"ftypisom" + bytes(40), "clip.mp4", "films"),
        (b"\x1aE\xdf\xa3" + bytes(40), "clip.webp", "films"),
        (b"RIFF\x24\0\0\0AVI LIST" + bytes(40), "clip.png", "films"),
    ],
    ids=["zip", "mp4", "matroska", "avi"],
)
def test_who_has_no_picture_but_what_the_command_takes_is_told_how(data: bytes, name: str, words: str) -> None:
    error = reason(data, name=name)
    assert "not a picture" in error.message
    assert words in error.hint
    assert "Convert" not in error.hint


def test_the_whole_picture_of_a_drawing_in_layers() -> None:
    read = read_picture(psd(8, 3))
    assert (read.format, read.notes) == ("PSD", ())
    assert np.array_equal(np.asarray(read.frames[0].rgb), COLOURS)


@pytest.mark.parametrize(("layers", "opacity"), [(0, None), (2, None), (-2, 90)])
def test_a_saved_selection_is_no_transparency(layers: int, opacity: int | None) -> None:
    (frame,) = read_picture(psd(8, 3, channels=4, layers=layers)).frames
    assert np.array_equal(np.asarray(frame.rgb), COLOURS)
    assert (frame.alpha and frame.alpha.getextrema()) == (opacity and (opacity, opacity))


DNG_VERSION: Any = (50706, 1, 4, b"\1\4\0\0", True)
SENSOR, RGB = (struct.pack("<HHIHH", 262, 3, 1, photometric, 0) for photometric in (32803, 2))


@pytest.mark.parametrize(
    "data",
    [
        pages(COLOURS[::2, ::2], COLOURS, extratags=[DNG_VERSION]),
        pages(COLOURS[::2, ::2], COLOURS, subfiletype=1, subifds=1),
        pages(COLOURS).replace(RGB, SENSOR),
        b"II*\0\x10\0\0\0CR\2\0" + bytes(4) + directory(),
    ],
    ids=["DNG", "NEF", "PEF", "CR2"],
)
def test_a_camera_raw_file_is_not_its_preview(data: bytes) -> None:
    error = reason(data, name="photo.tif")
    assert "camera raw" in error.message
    assert "TIFF or JPEG" in error.hint


def test_pages() -> None:
    read = read_picture(pages(COLOURS, COLOURS[::-1], COLOURS))
    assert np.array_equal(np.asarray(read.frames[0].rgb), COLOURS)
    assert "3 pages" in read.notes[0]
    assert read_picture(pages(COLOURS)).notes == ()


def test_a_preview_is_no_page() -> None:
    read = read_picture(pages(COLOURS[::2, ::2], COLOURS, subfiletype=1))
    assert (read.size, read.notes) == ((24, 16), ())


def test_a_page_that_cannot_be_read_costs_only_itself() -> None:
    read = read_picture(pages(COLOURS, COLOURS.astype(np.float64)))
    assert np.array_equal(np.asarray(read.frames[0].rgb), COLOURS)
    assert "2 pages" in read.notes[0]


def test_a_tiff_of_raw_halved_colours_is_refused() -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, COLOURS, photometric="ycbcr", subsampling=(1, 1), metadata=None)
    data, tag = buffer.getvalue(), struct.pack("<HHI", 530, 3, 2)
    assert read_picture(data).size == (24, 16)
    assert "YCbCr TIFF" in reason(data.replace(tag + b"\1\0\1\0", tag + b"\2\0\2\0")).message
