"""Pictures of each format in several modes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from tests import tiny
from tests.fuzz.harness import Target, command
from tests.fuzz.mutate import mutate_bytes, mutate_png
from ugatit_cli.pictures.reading import read_picture, srgb_profile

WIDTH, HEIGHT = 19, 13


def _image(mode: str) -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    if mode in ("I", "F"):
        return Image.fromarray(pixels[:, :, 0].astype(np.int32 if mode == "I" else np.float32))
    return Image.fromarray(pixels).convert(mode)


def _saved(format_: str, mode: str, **options: Any) -> bytes:
    file = io.BytesIO()
    _image(mode).save(file, format_, **options)
    return file.getvalue()


def _animated(format_: str, **options: Any) -> bytes:
    more = [_image("RGB").rotate(90 * one) for one in (1, 2)]
    return _saved(format_, "RGB", save_all=True, append_images=more, duration=[10, 20, 30], loop=2, **options)


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 40
    return exif.tobytes()


def _rle(rows: np.ndarray[Any, Any]) -> bytes:
    """As PSD has it: the lengths of all rows, then the rows."""
    packed = [bytes([len(row) - 1]) + row.tobytes() for row in rows]
    return b"".join(struct.pack(">H", len(row)) for row in packed) + b"".join(packed)


def photoshop(mode: str, *, packed: bool = False) -> bytes:
    """A PSD without layers."""
    number = {"L": 1, "RGB": 3, "CMYK": 4, "LAB": 9}[mode]
    planes = np.asarray(_image(mode)).reshape(HEIGHT, WIDTH, -1).transpose(2, 0, 1)
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, len(planes), HEIGHT, WIDTH, 8, number) + bytes(12)
    data = _rle(planes.reshape(-1, WIDTH)) if packed else planes.tobytes()
    return head + struct.pack(">H", int(packed)) + data


def _pngs() -> list[bytes]:
    odd = {"icc_profile": srgb_profile(), "exif": _exif(), "dpi": (300, 300), "transparency": (1, 2, 3)}
    return [
        *(_saved("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        _saved("PNG", "RGB", **odd),
        _animated("PNG"),
    ]


def _jpegs() -> list[bytes]:
    return [
        *(_saved("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
        _saved("JPEG", "RGB", progressive=True, icc_profile=srgb_profile(), exif=_exif(), dpi=(72, 72)),
        _saved("MPO", "RGB", save_all=True, append_images=[_image("RGB")]),
    ]


def _webps() -> list[bytes]:
    return [
        *(_saved("WEBP", mode, lossless=lossless) for mode in ("RGB", "RGBA") for lossless in (False, True)),
        _saved("WEBP", "RGB", exif=_exif(), icc_profile=srgb_profile()),
        _animated("WEBP"),
    ]


def _tiffs() -> list[bytes]:
    ways = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    modes = ("1", "L", "P", "RGBA", "CMYK", "LAB", "YCbCr", "I;16", "I", "F")
    return [
        *(_saved("TIFF", mode) for mode in modes),
        *(_saved("TIFF", "RGB", compression=way) for way in ways),
        _saved("TIFF", "RGB", icc_profile=srgb_profile(), exif=_exif(), dpi=(72, 72)),
        _saved("TIFF", "1", compression="group4"),
        _animated("TIFF"),
        *(_rare_tiff(kind, way) for kind in ("float32", "uint32") for way in (None, "zlib", "lzw")),
    ]


def _rare_tiff(kind: str, compression: str | None) -> bytes:
    """One that takes tifffile."""
    file = io.BytesIO()
    pixels = np.asarray(_image("RGBA")).astype(kind)
    tifffile.imwrite(file, pixels, photometric="rgb", extrasamples=["unassalpha"], compression=compression)
    return file.getvalue()


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "png": _pngs,
    "jpg": _jpegs,
    "gif": lambda: [_saved("GIF", "L"), _saved("GIF", "P", transparency=3), _animated("GIF")],
    "webp": _webps,
    "tif": _tiffs,
    "bmp": lambda: [*(_saved("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA"))],
    "tga": lambda: [_saved("TGA", m, compression=c) for m in ("L", "LA", "P", "RGBA") for c in (None, "tga_rle")],
    "psd": lambda: [
        photoshop(mode, packed=packed) for mode in ("L", "RGB", "CMYK", "LAB") for packed in (False, True)
    ],
}


def scene(suffix: str, folder: Path) -> Sequence[bytes]:
    tiny.save(folder / "model")
    return SEEDS[suffix]()


def use(suffix: str, folder: Path, content: bytes) -> object:
    """Reads it, or translates it now and then."""
    if zlib.crc32(content) % 16:
        return read_picture(content)
    (folder / f"a.{suffix}").write_bytes(content)
    options = ("--model", "model", "--device", "cpu", "--precision", "fp32", "--size", 32, "-o", "out", "--overwrite")
    code = command("translate", f"a.{suffix}", *options)
    assert code in (0, 1)  # the model is whole
    return code


TARGETS = {
    suffix: Target(partial(scene, suffix), partial(use, suffix), mutate_png if suffix == "png" else mutate_bytes)
    for suffix in SEEDS
}
