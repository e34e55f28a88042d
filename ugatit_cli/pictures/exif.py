"""EXIF copied entry by entry: Pillow, writing it, replaces letters that aren't ASCII and guesses types anew.

What a camera or an editor says of a picture stays, to the byte. What is true of the source's file alone does not: how
its pixels lie and are turned, its small picture, and notes of makers, which are full of positions in the file.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, Final, NamedTuple

_MAIN, _PHOTO, _GPS = 0, 0x8769, 0x8825
_WIDTHS: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
_SHORT, _LONG, _RATIO = 3, 4, 5
_WORDS: Final = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}
"""Bytes of types whose order matters, of rationals those of each half."""

_DESCRIPTIVE: Final = frozenset(
    {
        0x010D,
        0x010E,
        0x010F,
        0x0110,
        0x011A,
        0x011B,
        0x011D,
        0x0128,
        0x0131,
        0x0132,
        0x013B,
        0x013C,
        0x0213,
        0x4746,
        0x4749,
    }
    | {0x8298, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F}
)
"""Of the main directory, where a TIFF also has how its pixels are stored: names, texts, dates, density, rating."""

_ACROSS, _DOWN, _UNIT = 0x011A, 0x011B, 0x0128

_STALE: Final = frozenset(
    # Compression, maker's notes, sizes, sound, interoperability, the sensor's density, the subject's place, padding.
    {0x9102, 0x927C, 0xA002, 0xA003, 0xA004, 0xA005, 0xA20E, 0xA20F, 0xA210, 0x9214, 0xA214, 0xEA1C}
)
_COLOUR_SPACE, _SRGB = 0xA001, 1
_MOST: Final = 1 << 20  # bytes of a directory's values
XMP, IPTC = 0x02BC, 0x83BB
"""What a TIFF has in its main directory, too."""


class Entry(NamedTuple):
    """A value as a file has it."""

    kind: int
    data: bytes


Directory = dict[int, Entry]


@dataclass(frozen=True)
class Exif:
    """What is kept of a picture's EXIF.

    Attributes:
        order: of the values' bytes, `<` or `>`.
        directories: those that aren't empty: the main one, that of the photograph, GPS.
        whole: whether none of it was unreadable.
    """

    order: str
    directories: Mapping[int, Directory]
    whole: bool = True

    def block(self) -> bytes:
        """As a file's EXIF block, without `Exif` in front."""
        header = (b"II" if self.order == "<" else b"MM") + struct.pack(f"{self.order}HL", 42, 8)
        return header + self._packed({}, 8)

    def added_to(self, tiff: bytes, further: Mapping[int, bytes]) -> bytes:
        """A TIFF of one page that says the same, and has some further entries of bytes."""
        order = _order(tiff[:8])
        start = len(tiff) + len(tiff) % 2
        stored, _ = _directory(io.BytesIO(tiff), struct.unpack(f"{order}L", tiff[4:8])[0], order, len(tiff))
        own = {tag: Entry(7 if tag == IPTC else 1, data) for tag, data in further.items()}
        added = self.in_order(order)._packed(stored | own, start)
        return tiff[:4] + struct.pack(f"{order}L", start) + tiff[8:].ljust(start - 8, b"\0") + added

    def in_order(self, order: str) -> Exif:
        """The same in another order of bytes."""
        if order == self.order:
            return self
        turned = {key: {tag: _turned(entry) for tag, entry in one.items()} for key, one in self.directories.items()}
        return replace(self, order=order, directories=turned)

    def _packed(self, base: Directory, start: int) -> bytes:
        """All directories one after the other, the main one with what `base` has, from a position in the file."""
        main = {**base, **self.directories.get(_MAIN, {})}
        others = {key: one for key, one in self.directories.items() if key != _MAIN}
        main |= dict.fromkeys(others, Entry(_LONG, bytes(4)))
        at, packed = start + len(_bytes_of(main, self.order, start)), []
        for key, one in others.items():
            main[key] = Entry(_LONG, struct.pack(f"{self.order}L", at))
            packed.append(_bytes_of(one, self.order, at))
            at += len(packed[-1])
        return b"".join([_bytes_of(main, self.order, start), *packed])


def read(stream: IO[bytes], start: int | None = None) -> Exif:
    """What is to be kept of an EXIF block, or of a TIFF, of which `start` is the picture's directory.

    Raises:
        ValueError, struct.error: it is none.
    """
    stream.seek(0)
    head = stream.read(8)
    order = _order(head)
    if start is None:
        (start,) = struct.unpack(f"{order}L", head[4:])
    main, whole = _directory(stream, start, order)
    odd = {tag for tag, entry in main.items() if _is_no_density(tag, entry, order)}
    found = {_MAIN: {tag: main[tag] for tag in main.keys() & _DESCRIPTIVE - odd}}
    whole &= not odd
    for key in (_PHOTO, _GPS):
        if key in main:
            found[key], complete = _directory(stream, _position(main[key], order), order)
            whole &= complete
    photo = {tag: entry for tag, entry in found.pop(_PHOTO, {}).items() if tag not in _STALE}
    if _COLOUR_SPACE in photo:  # which results are in
        photo[_COLOUR_SPACE] = Entry(_SHORT, struct.pack(f"{order}H", _SRGB))
    found[_PHOTO] = photo
    return Exif(order, {key: one for key, one in found.items() if one}, whole)


def _order(head: bytes) -> str:
    """Of the bytes of a block that begins so."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None or len(head) < 8:
        raise ValueError("no EXIF")
    return order


def _is_no_density(tag: int, entry: Entry, order: str) -> bool:
    """Whether it is meant to be the density, and is another type, which Pillow opens no JPEG with, or no unit."""
    if tag in (_ACROSS, _DOWN):
        return entry.kind != _RATIO
    units = [Entry(_SHORT, struct.pack(f"{order}H", unit)) for unit in (1, 2, 3)]
    return tag == _UNIT and entry not in units


def _position(entry: Entry, order: str) -> int:
    position: int = struct.unpack(f"{order}L", entry.data[:4].ljust(4, b"\0"))[0]
    return position


def _directory(stream: IO[bytes], start: int, order: str, most: int = _MOST) -> tuple[Directory, bool]:
    """The directory at a position, and whether all of it is there."""
    stream.seek(start)
    (count,) = struct.unpack(f"{order}H", stream.read(2).ljust(2, b"\0"))
    table, left = stream.read(12 * count), most
    found: Directory = {}
    whole = 0 < count == len(table) / 12
    for tag, kind, number, field in _rows(table, order):
        size = _WIDTHS.get(kind, 0) * number
        if not 0 < size <= left:
            whole &= number == 0
            continue
        data = field[:size] if size <= 4 else _at(stream, struct.unpack(f"{order}L", field)[0], size)
        if len(data) == size:
            found.setdefault(tag, Entry(kind, data))
            left -= size
        whole &= len(data) == size
    return found, whole


def _rows(table: bytes, order: str) -> Iterator[tuple[int, int, int, bytes]]:
    return struct.iter_unpack(f"{order}HHL4s", table[: len(table) // 12 * 12])


def _at(stream: IO[bytes], position: int, size: int) -> bytes:
    stream.seek(position)
    return stream.read(size)


def _turned(entry: Entry) -> Entry:
    width = _WORDS.get(entry.kind, 1)
    words = (entry.data[at : at + width][::-1] for at in range(0, len(entry.data), width))
    return Entry(entry.kind, b"".join(words))


def _bytes_of(directory: Directory, order: str, start: int) -> bytes:
    """A directory, followed by its values, at a position in the file."""
    rows, values = b"", b""
    after = start + 2 + 12 * len(directory) + 4
    for tag, (kind, data) in sorted(directory.items()):
        field = data
        if len(data) > 4:
            field = struct.pack(f"{order}L", after + len(values))
            values += data + bytes(len(data) % 2)
        rows += struct.pack(f"{order}HHL", tag, kind, len(data) // _WIDTHS[kind]) + field.ljust(4, b"\0")
    return struct.pack(f"{order}H", len(directory)) + rows + bytes(4) + values
