"""PNG where Pillow falls short: texts and profiles that are large or broken, and frames with soft edges."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import IO, Any, Final, NamedTuple

from PIL import Image
from PIL.PngImagePlugin import Blend, Disposal

MAGIC: Final = b"\x89PNG\r\n\x1a\n"

_PIXELS: Final = frozenset({b"IDAT", b"fdAT"})
_TEXTS: Final = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_SAID: Final = _TEXTS | {b"eXIf"}
_SMALL_TEXT: Final = 1000  # bytes, which inflate to a megabyte at most: what Pillow takes
_PILLOW_PROFILE: Final = 1 << 20
_MAX_PROFILE: Final = 16 << 20


class _Chunk(NamedTuple):
    kind: bytes
    content: bytes  # empty for pixels
    start: int
    end: int
    intact: bool


def lightened(stream: IO[bytes]) -> tuple[IO[bytes], bytes | None]:
    """The file, or a copy without its broken and large texts and profiles; and a profile too large for Pillow."""
    profile, kept, dropped = None, [(0, len(MAGIC))], False
    for chunk in _chunks(stream):
        unneeded = chunk.kind[:1].islower() and chunk.kind not in _PIXELS
        keep = not unneeded or (chunk.intact and not (chunk.kind in _TEXTS and len(chunk.content) > _SMALL_TEXT))
        if keep and chunk.kind == b"iCCP":
            own = _profile(chunk.content)
            keep = own is not None and len(own) <= _PILLOW_PROFILE
            profile = None if keep else own
        if keep:
            kept.append((chunk.start, chunk.end))
        dropped |= not keep
    stream.seek(0)
    return (_copied(stream, kept) if dropped else stream), profile


def said(stream: IO[bytes]) -> list[tuple[bytes, bytes]]:
    """The texts and the EXIF of a file, as kinds and contents of chunks, but for broken ones."""
    return [(chunk.kind, chunk.content) for chunk in _chunks(stream) if chunk.kind in _SAID and chunk.intact]


def code_points(stream: IO[bytes]) -> bytes:
    """What cICP says; empty where there is none."""
    before = itertools.takewhile(lambda chunk: chunk.kind not in _PIXELS, _chunks(stream))
    return next((chunk.content for chunk in before if chunk.kind == b"cICP" and chunk.intact), b"")


def _chunks(stream: IO[bytes]) -> Iterator[_Chunk]:
    start = stream.seek(len(MAGIC))
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        end, content, intact = start + 12 + length, b"", False
        if kind not in _PIXELS and length <= _MAX_PROFILE:
            content, crc = stream.read(length), stream.read(4)
            intact = crc == struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
        else:
            stream.seek(end)
        yield _Chunk(kind, content, start, end, intact)
        start = end


def _profile(content: bytes) -> bytes | None:
    """The ICC profile of an iCCP chunk, unless it is broken or larger than any real one."""
    compressed = content.partition(b"\0")[2]
    if compressed[:1] != b"\0":
        return None
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(compressed[1:], _MAX_PROFILE)
    except zlib.error:
        return None
    return profile if profile and inflater.eof else None


def _copied(stream: IO[bytes], ranges: list[tuple[int, int]]) -> IO[bytes]:
    copy = io.BytesIO()
    for start, end in ranges:
        stream.seek(start)
        copy.write(stream.read(end - start))
    copy.seek(0)
    return copy


class Canvas:
    """An animation's frames as viewers show them; Pillow blends soft edges wrong where nothing lies below."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._next = Image.new("RGBA", size)

    def show(self, image: Any) -> Image.Image:
        """The frame that an open `image` is at but has not loaded, over those before it."""
        blended, after, before = image.blend_op == Blend.OP_OVER, image.dispose_op, self._next
        image.blend_op = Blend.OP_SOURCE
        image.load()
        box = image.info.get("bbox", (0, 0, *image.size))
        patch, shown = image.crop(box).convert("RGBA"), before.copy()
        if blended:
            shown.alpha_composite(patch, box[:2])
        else:
            shown.paste(patch, box[:2])
        self._next = before if after == Disposal.OP_PREVIOUS else shown.copy()
        if after == Disposal.OP_BACKGROUND:
            self._next.paste((0, 0, 0, 0), box)
        return shown
