"""JPEG and JPEG 2000: kinds that can't be read here, and files that are whole but for what no picture needs."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator
from typing import IO, Final

from PIL.JpegImagePlugin import JpegImageFile

MAGIC: Final = b"\xff\xd8\xff"
MAGIC_2000: Final = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")

_END: Final = b"\xff\xd9"
_MORE: Final = (b"", b"\x55" * 64, b"\xaa" * 64, bytes(64))
_SCAN: Final = 0xDA
_ADOBE: Final = 0xEE
_LEAST_ADOBE: Final = 12
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN_OR_ARITHMETIC: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_LOSSLESS: Final = frozenset({0xC3, 0xCB})
_JPEG_LS: Final = 0xF7
_EXIF: Final = 0xE1
_NEEDED: Final = frozenset({0xE0, _EXIF, 0xE2, _ADOBE})  # of the segments for applications: JFIF, EXIF, profile
_HEADERS: Final = 1 << 16


def _segments(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Each segment's marker and content, up to the first scan."""
    stream.seek(2)
    while (marker := stream.read(2))[:1] == b"\xff" and len(marker) == 2:
        while marker[1] == 0xFF:  # fill bytes
            marker = marker[1:] + stream.read(1)
        (length,) = struct.unpack(">H", stream.read(2))
        yield marker[1], stream.read(length - 2)
        if marker[1] == _SCAN:
            return


def describe(stream: IO[bytes]) -> str:
    """The kind of JPEG if it is one that can't be read here: 12-bit JPEG. Otherwise empty."""
    for marker, content in _segments(stream):
        if marker == _JPEG_LS:
            return "JPEG-LS"
        if marker in _FRAMES:
            bits, channels = content[0], content[5]
            if marker in _LOSSLESS:
                return f"{bits}-bit lossless JPEG"
            if marker not in _HUFFMAN_OR_ARITHMETIC:
                return "hierarchical JPEG"
            if bits != 8:
                return f"{bits}-bit JPEG"
            return f"JPEG of {channels} channels" if channels not in {1, 3, 4} else ""
    return ""


def describe_2000(stream: IO[bytes]) -> str:
    """The kind of JPEG 2000 if it is one whose values Pillow gets wrong. Otherwise empty."""
    stream.seek(0)
    data = stream.read(_HEADERS)
    start = data.find(MAGIC_2000[1])
    channels, depth = struct.unpack(">HB", data[start + 40 : start + 43])
    bits = (depth & 0x7F) + 1
    # It only shifts: the white of 4 bits would be grey, and in several channels that of 16 bits black.
    wrong = start >= 0 and (bits < 7 or (bits > 8 and channels > 1))
    return f"{bits}-bit JPEG 2000 of {channels} channel{'s' if channels > 1 else ''}" if wrong else ""


def lightened(stream: IO[bytes], *, exif: bool = True) -> IO[bytes]:
    """A copy without what only applications read, which Pillow doesn't forgive to be broken, and perhaps EXIF."""
    copy = io.BytesIO()
    copy.write(MAGIC[:2])
    with contextlib.suppress(struct.error):  # where a file ends early
        for marker, content in _segments(stream):
            needed = (not 0xE0 <= marker <= 0xEF or marker in _NEEDED) and (exif or marker != _EXIF)
            if needed and not (marker == _ADOBE and len(content) < _LEAST_ADOBE):
                copy.write(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content)
    copy.write(stream.read())
    copy.seek(0)
    return copy


def completed(stream: IO[bytes]) -> JpegImageFile | None:
    """The picture of a file that lacks nothing but its end mark: no bytes that could follow would change it.

    None for a progressive one, too, of which whole scans may be missing.
    """
    stream.seek(0)
    data = stream.read().rstrip(b"\xff")
    with contextlib.suppress(OSError, SyntaxError):
        ends = [JpegImageFile(io.BytesIO(data + more + _END)) for more in _MORE]
        same = "progressive" not in ends[0].info and all(one.tobytes() == ends[0].tobytes() for one in ends[1:])
        return ends[0] if same else None
    return None
