"""What a file says of its picture: EXIF, XMP, IPTC, comments and texts, copied into results as far as still true."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, replace
from typing import IO, Any, Final, NamedTuple
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ugatit_cli.pictures import exif, png
from ugatit_cli.pictures.exif import Exif

_KINDS: Final = {"exif": "EXIF", "xmp": "XMP", "iptc": "IPTC", "comment": "comment", "texts": "texts"}
_HELD: Final[dict[str, set[str]]] = {
    "PNG": {"exif", "xmp", "texts"},
    "JPEG": {"exif", "xmp", "iptc", "comment"},
    "WEBP": {"exif", "xmp"},
    "AVIF": {"exif", "xmp"},
    "TIFF": {"exif", "xmp", "iptc"},
    "GIF": {"comment"},
}
_EXIF_HEAD: Final = b"Exif\0\0"
_PNG_XMP: Final = b"XML:com.adobe.xmp"
_DERIVED: Final = (_PNG_XMP, b"Raw profile type ", b"Thumb::")
"""Keywords of a PNG's texts that hold what is copied otherwise, or a small picture's facts."""
_IPTC_RESOURCE: Final = 0x0404
_MOST_IN_JPEG: Final = 65_500  # bytes that one of its segments holds
_MOST_XMP: Final = 4 << 20

_TIFF, _EXIF, _XAP = (f"http://ns.adobe.com/{name}/1.0/" for name in ("tiff", "exif", "xap"))
_STALE: Final = {
    _TIFF: {"Orientation", "ImageWidth", "ImageLength", "BitsPerSample", "Compression", "PhotometricInterpretation"}
    | {"SamplesPerPixel", "PlanarConfiguration", "YCbCrSubSampling", "YCbCrPositioning", "NativeDigest"},
    _EXIF: {"PixelXDimension", "PixelYDimension", "ColorSpace", "ComponentsConfiguration", "CompressedBitsPerPixel"}
    | {"SubjectArea", "SubjectLocation", "FocalPlaneXResolution", "FocalPlaneYResolution", "FocalPlaneResolutionUnit"}
    | {"MakerNote", "NativeDigest"},
    _XAP: {"Thumbnails"},
    "http://ns.adobe.com/photoshop/1.0/": {"ICCProfile", "ColorMode"},
    "http://www.metadataworkinggroup.com/schemas/regions/": {"Regions"},
}
"""Of XMP, what is true of the source's pixels alone."""
_FOREIGN: Final = (
    "http://ns.google.com/photos/",
    "http://ns.adobe.com/hdr-gain-map/",
    "http://ns.adobe.com/xmp/note/",
)
"""Beginnings of the namespaces of XMP that say what else the source's file has: films, depth, gain maps, more XMP."""


@dataclass(frozen=True)
class Metadata:
    """What is kept of what a file says of its picture.

    Attributes:
        xmp: a packet.
        iptc: records.
        texts: of a PNG, each chunk's kind and content.
        notes: what its owner should know of how it was read.
    """

    exif: Exif | None = None
    xmp: bytes = b""
    iptc: bytes = b""
    comment: bytes = b""
    texts: tuple[tuple[bytes, bytes], ...] = ()
    notes: tuple[str, ...] = ()

    def fitted(self, format: str) -> tuple[Metadata, tuple[str, ...]]:
        """What a format (Pillow's name of it) has room for, and what to say of the rest."""
        held = _HELD.get(format, set())
        sizes = {name: len(getattr(self, name)) for name in _KINDS if name != "exif"}
        sizes["exif"] = len(self.exif.block()) if self.exif else 0
        lost = [name for name in _KINDS if sizes[name] and name not in held]
        long = [name for name in held if format == "JPEG" and sizes[name] > _MOST_IN_JPEG]
        notes = [f"{format} has no place for its {_listed(lost)}"] if lost else []
        notes += [f"{format} has no room for its {_listed(long)}"] if long else []
        nothing = Metadata()
        return replace(self, **{name: getattr(nothing, name) for name in lost + long}), tuple(notes)

    def options(self, format: str) -> dict[str, Any]:
        """For Pillow's writer of a format that has room for all of it; of TIFF, see `added`."""
        block = self.exif.block() if self.exif else b""
        if format == "PNG":
            chunks = PngInfo()
            for kind, content in self.texts:
                chunks.add(kind, content)
            if self.xmp:
                chunks.add(b"iTXt", _PNG_XMP + bytes(5) + self.xmp)
            return {"exif": block, "pnginfo": chunks}
        if format == "JPEG":
            head = _EXIF_HEAD if block else b""
            return {"exif": head + block, "xmp": self.xmp, "comment": self.comment, "extra": _segment(self.iptc)}
        if format in {"WEBP", "AVIF"}:
            return {"exif": block, "xmp": self.xmp}
        return {"comment": self.comment} if format == "GIF" else {}

    def added(self, data: bytes, format: str) -> bytes:
        """A file with what Pillow's writer of the format could not be told without loss."""
        further = {tag: block for tag, block in ((exif.XMP, self.xmp), (exif.IPTC, self.iptc)) if block}
        if format != "TIFF" or not (self.exif or further):
            return data
        return (self.exif or Exif("<", {})).added_to(data, further)


class _Raw(NamedTuple):
    """As it stands in a file: the EXIF block, or the TIFF and where in it the picture's directory is."""

    block: IO[bytes] | None = None
    start: int | None = None
    xmp: bytes = b""
    rest: Metadata = Metadata()


def read(image: Image.Image, stream: IO[bytes]) -> Metadata:
    """What an open picture's file says of it; what is damaged is left out, and a note says so."""
    position = stream.tell()
    try:
        raw = _raw(image, stream)
        own, notes = _exif_of(raw)
        packet, more = _xmp_of(raw)
    except Exception:  # metadata breaks in many ways, and none of them makes the picture unreadable
        return Metadata(notes=("its metadata is damaged, and not kept",))
    finally:
        stream.seek(position)
    return replace(raw.rest, exif=own, xmp=packet, notes=(*notes, *more))


def _exif_of(raw: _Raw) -> tuple[Exif | None, tuple[str, ...]]:
    if raw.block is None:
        return None, ()
    try:
        own = exif.read(raw.block, raw.start)
    except (ValueError, struct.error, OSError):
        return None, ("its EXIF is damaged, and not kept",)
    notes = () if own.whole else ("parts of its EXIF are damaged, and not kept",)
    return (own if own.directories else None), notes


def _xmp_of(raw: _Raw) -> tuple[bytes, tuple[str, ...]]:
    try:
        return _still_true(raw.xmp) if raw.xmp else b"", ()
    except (ValueError, ExpatError):
        return b"", ("its XMP is damaged, and not kept",)


def _raw(image: Image.Image, stream: IO[bytes]) -> _Raw:
    if image.format == "PNG":
        return _of_png(png.said(stream))
    if image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", None)
        if tags is None:  # it was decoded by another package
            return _Raw(stream)
        return _Raw(stream, tags._offset, tags.get(exif.XMP, b""), Metadata(iptc=_bytes(tags.get(exif.IPTC))))
    info = image.info
    block = _bytes(info.get("exif"))
    while block.startswith(_EXIF_HEAD):
        block = block.removeprefix(_EXIF_HEAD)
    iptc = _bytes(info.get("photoshop", {}).get(_IPTC_RESOURCE))
    rest = Metadata(iptc=iptc, comment=_bytes(info.get("comment")))
    return _Raw(io.BytesIO(block) if block else None, None, _bytes(info.get("xmp")), rest)


def _of_png(chunks: list[tuple[bytes, bytes]]) -> _Raw:
    block, packet, texts = None, b"", []
    for kind, content in chunks:
        if kind == b"eXIf":
            block = io.BytesIO(content)
        elif content.startswith(_PNG_XMP + b"\0"):
            packet = _text(content)
        elif not content.startswith(_DERIVED):
            texts.append((kind, content))
    return _Raw(block, None, packet, Metadata(texts=tuple(texts)))


def _text(content: bytes) -> bytes:
    """Of an iTXt chunk."""
    after = content.partition(b"\0")[2]
    text = after[2:].split(b"\0", 2)[-1]
    return zlib.decompressobj().decompress(text, _MOST_XMP) if after[:1] == b"\1" else text


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _still_true(packet: bytes) -> bytes:
    """XMP without what is true of the source's file alone; a ValueError or ExpatError if it is damaged."""
    packet = packet.strip(b"\0 \t\r\n")
    if len(packet) >= _MOST_XMP or b"<!DOCTYPE" in packet.replace(b"\0", b""):
        raise ValueError("no XMP")
    with minidom.parseString(packet) as document:
        for element in document.getElementsByTagName("*"):
            for attribute in [*element.attributes.values()]:
                if _is_stale(attribute):
                    element.removeAttributeNode(attribute)
            if _is_stale(element) and (parent := element.parentNode):
                parent.removeChild(element)
        return "".join(child.toxml() for child in document.childNodes).encode()


def _is_stale(node: Any) -> bool:
    space = node.namespaceURI or ""
    return space.startswith(_FOREIGN) or node.localName in _STALE.get(space, ())


def _segment(iptc: bytes) -> bytes:
    """As a JPEG has it: a resource of Photoshop's in a segment for applications."""
    if not iptc:
        return b""
    resource = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHL", _IPTC_RESOURCE, 0, len(iptc)) + iptc
    resource += bytes(len(iptc) % 2)
    return struct.pack(">HH", 0xFFED, len(resource) + 2) + resource


def _listed(names: list[str]) -> str:
    return ", ".join(_KINDS[name] for name in names)
