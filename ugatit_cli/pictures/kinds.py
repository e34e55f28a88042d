"""What a file is that can't be read here, so that nobody is told to copy an intact one again."""

from __future__ import annotations

import contextlib
import re
import shlex
import struct
from pathlib import Path
from typing import IO, Any, Final, cast

from PIL import Image, ImageFile, PsdImagePlugin

from ugatit_cli.errors import Change, PictureError, install_line
from ugatit_cli.pictures import jpeg, tiff

_COPY: Final = "Copy or download the file again."
_CONVERT: Final = "Convert it to PNG or JPEG first."
_DEVELOP: Final = "Develop it to TIFF or JPEG first."
_MAGIC: Final = (b"\x89PNG", jpeg.MAGIC, b"GIF8", b"RIFF", b"BM", b"8BPS", *tiff.MAGIC)
_HEIC_BRANDS: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_RAW: Final = (b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FUJIFILM", b"FOVb", b"\0MRM", b"\0\0\0\x18ftypcrx ")
_OTHERS: Final = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"%PDF": "PDF",
    b"gimp xcf": "XCF",
}
_PSD_MODES: Final = {0: "bitmap", 1: "grey", 2: "palette", 3: "RGB", 4: "CMYK", 7: "multichannel", 9: "LAB"}
_XCODE: Final = b"CgBI"
_ZIP: Final = b"PK\x03\x04"
_MATROSKA: Final = b"\x1aE\xdf\xa3"
_RAW_FILE: Final = "a camera raw file"


def unsupported(label: str, kind: str, hint: str = _CONVERT, change: Change | None = None) -> PictureError:
    """Of an intact file whose kind nothing here can decode."""
    return PictureError(f"{label}: {kind} is not supported", hint, change=change)


def unidentified(label: str, head: bytes, stream: IO[bytes]) -> PictureError:
    """Why nothing takes a file for a picture.

    Args:
        head: its first 32 bytes.
    """
    if not head:
        return PictureError(f"{label}: the file is empty", "Copy it again from where it came from.")
    if known := _known(label, head, stream):
        return known
    avif = head[4:11] == b"ftypavi" and "AVIF" in Image.OPEN
    if avif or (head.startswith(_MAGIC) and not (head.startswith(b"RIFF") and head[8:12] != b"WEBP")):
        return PictureError(f"{label}: the file is damaged (its header)", _COPY)
    return _no_picture(label, head)


def undecodable(label: str, head: bytes, stream: IO[bytes]) -> PictureError | None:
    """The same of a file that was identified, if its kind is why it can't be decoded."""
    return _known(label, head, stream) if head.startswith(jpeg.MAGIC) else None


def unsupported_detail(label: str, text: str) -> PictureError | None:
    """The same where the decoder's own words say so."""
    if not re.search("unsupported|not supported|unimplemented|not implemented|cannot handle", text, re.IGNORECASE):
        return None
    return PictureError(f"{label}: a kind of picture that can't be read here ({text})", _CONVERT)


def _no_picture(label: str, head: bytes) -> PictureError:
    what, suffix, hint = "not a picture, or a format that can't be read here", Path(label).suffix.lower(), _CONVERT
    change = None
    if suffix in {".heic", ".heif", ".hif"} or (head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS):
        hint, change = f"HEIC needs: {install_line('heic')}", Change("install", install_line("heic"))
    elif suffix == ".svg":
        hint = "An SVG is a drawing: render it to PNG first."
    elif head.startswith(_ZIP):
        what, change = "a zip archive, not a picture", Change("archive")
        inside = label.startswith(("<", "zip:"))  # of nothing, or in another archive
        way = f"For the pictures in it: ugatit translate {shlex.quote(f'zip://{label}')}"
        hint = "Unpack it first." if inside else way
    elif head.startswith(_MATROSKA) or head[8:12] == b"AVI " or (head[4:8] == b"ftyp" and head[8:11] != b"avi"):
        what, change = "a film, not a picture", Change("film")
        hint = "ugatit translate takes films, which it knows by names such as clip.mp4."
    return PictureError(f"{label}: {what}", hint, change=change)


def _known(label: str, head: bytes, stream: IO[bytes]) -> PictureError | None:
    """Of an intact file, if its header tells a kind that can't be read here."""
    kind, hint, change = "", _CONVERT, None
    with contextlib.suppress(Exception):  # of a header that is damaged
        if head.startswith(_RAW):
            kind, hint = _RAW_FILE, _DEVELOP
        elif head.startswith(jpeg.MAGIC):
            kind = jpeg.describe(stream)
        elif head.startswith(jpeg.MAGIC_2000):
            kind = jpeg.describe_2000(stream)
        elif head.startswith(tiff.ALIEN):
            kind, (hint, change) = "big-endian BigTIFF", _tiff_way()
        elif head.startswith(tiff.MAGIC):
            return _tiff(label, stream)
        elif head.startswith(b"8BPS"):
            kind = _psd(head)
        elif head[12:16] == _XCODE:
            kind, hint = "a PNG that Xcode optimised", "Revert it first: pngcrush -revert-iphone-optimizations."
        else:
            kind = next((name for magic, name in _OTHERS.items() if head.startswith(magic)), "")
    return unsupported(label, kind, hint, change) if kind else None


def _psd(head: bytes) -> str:
    version, _, channels, _, _, bits, mode = struct.unpack(">H6sHIIHH", head[4:26])
    if version == 1 and (mode, bits) in PsdImagePlugin.MODES:
        return ""
    kind = f"{bits}-bit {_PSD_MODES.get(mode, 'unknown')} PSD of {channels} channels"
    return f"large {kind} (PSB)" if version == 2 else kind


def is_transparent_psd(stream: IO[bytes]) -> bool:
    """Whether the fourth channel of a PSD is its opacity, not a selection that somebody saved."""
    stream.seek(26)
    for _ in range(2):  # the palette, and the resources
        stream.seek(int.from_bytes(stream.read(4)), 1)
    layers, first = stream.read(4), stream.read(4)
    return any(layers) and any(first) and int.from_bytes(stream.read(2), signed=True) < 0


def _tiff(label: str, stream: IO[bytes]) -> PictureError | None:
    kind = tiff.describe(tags := tiff.read_tags(stream))
    if tiff.is_raw(tags):
        return unsupported(label, _RAW_FILE, _DEVELOP)
    return unsupported(label, kind, *_tiff_way()) if kind else None


def _tiff_way() -> tuple[str, Change | None]:
    if tiff.can_decode():
        return _CONVERT, None
    line = install_line("tiff")
    return f"TIFF files of such kinds need: {line}", Change("install", line)


def check_kind(image: Image.Image, label: str, head: bytes, stream: IO[bytes]) -> None:
    """Refuses what opens as a picture but isn't one, or shows something else than what the file is about.

    Raises:
        PictureError: it does.
    """
    if image.format in {"EPS", "WMF"}:  # decoding one would run Ghostscript, a program of its own, on foreign code
        raise PictureError(f"{label}: an {image.format} is a drawing, not a picture", "Render it to PNG first.")
    if isinstance(image, ImageFile.StubImageFile):  # Pillow knows these formats by name alone
        raise _no_picture(label, head)
    if (head[12:16] == _XCODE or head.startswith(jpeg.MAGIC_2000)) and (known := _known(label, head, stream)):
        raise known
    if hasattr(image, "tag_v2") and (tiff.is_raw(cast(Any, image).tag_v2) or head[8:10] == b"CR"):
        raise unsupported(label, _RAW_FILE, _DEVELOP)
