"""Odd PNG, BMP, TGA and netpbm files, byte by byte: each pixel is what was written, or the kind is refused."""

from __future__ import annotations

import contextlib
import io
import itertools
import struct
import zlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from tests.pictures.test_reading import chunk, near, reason, saved
from ugatit_cli.pictures.reading import read_picture

Values = npt.NDArray[Any]

HEIGHT, WIDTH = 18, 23
Y, X = np.mgrid[:HEIGHT, :WIDTH]
COUNT: Final = Y * WIDTH + X
COLOURS: Final = np.stack([X * 11, Y * 14, (X // 4 + Y // 4) % 3 * 127], -1)
GREYS: Final = (X * 6 + Y * 6) % 256
ALPHA: Final = (X + Y) % 9 * 31 + 7
PALETTE: Final = np.stack([np.arange(256) * 37 % 256, (np.arange(256) * 91 + 7) % 256, np.arange(256) * 13 % 256], -1)


def packed(values: Values, bits: int) -> list[bytes]:
    """Rows of numbers of so many bits, each padded to bytes."""
    rows = []
    for row in values.reshape(len(values), -1):
        text = "".join(format(int(value), f"0{bits}b") for value in row)
        text += "0" * (-len(text) % 8)
        rows.append(int(text, 2).to_bytes(len(text) // 8, "big"))
    return rows


def check(data: bytes, colours: Values, alpha: Values | None = None, tolerance: float = 1) -> None:
    (frame,) = read_picture(data).frames
    expected = colours if colours.ndim == 3 else np.stack([colours] * 3, -1)
    assert near(np.asarray(frame.rgb), expected, tolerance)
    assert (frame.alpha is None) == (alpha is None)
    if alpha is not None:
        assert near(np.asarray(frame.alpha), alpha, tolerance)


# --- PNG

PASSES: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png(values: Values, bits: int, kind: int, *chunks: bytes, interlaced: bool = False) -> bytes:
    parts = [values[y::dy, x::dx] for x, y, dx, dy in PASSES] if interlaced else [values]
    rows = b"".join(b"\0" + row for part in parts for row in packed(part, bits))
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, kind, 0, 0, int(interlaced))
    body = [chunk(b"IHDR", head), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_png_of_greys(bits: int, interlaced: bool) -> None:
    most = 2**bits - 1
    values = np.round(GREYS / 255 * most).astype(int)
    clear = int(values[9, 9])
    check(png(values, bits, 0, interlaced=interlaced), values * 255 / most)
    data = png(values, bits, 0, chunk(b"tRNS", struct.pack(">H", clear)), interlaced=interlaced)
    check(data, values * 255 / most, np.where(values == clear, 0, 255))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_png_of_a_palette(bits: int, interlaced: bool) -> None:
    values = COUNT % 2**bits
    colours = chunk(b"PLTE", PALETTE[: 2**bits].astype(np.uint8).tobytes())
    check(png(values, bits, 3, colours, interlaced=interlaced), PALETTE[values])
    opacity = np.append(np.arange(2 ** (bits - 1)) * 61 % 256, np.full(256, 255))
    some = chunk(b"tRNS", opacity[: 2 ** (bits - 1)].astype(np.uint8).tobytes())
    check(png(values, bits, 3, colours, some, interlaced=interlaced), PALETTE[values], opacity[values])


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_png_of_colours(bits: int, interlaced: bool) -> None:
    scale = 257 if bits == 16 else 1
    clear = struct.pack(">3H", *map(int, COLOURS[4, 4] * scale))
    seen = np.where((COLOURS[4, 4] == COLOURS).all(-1), 0, 255)
    check(png(COLOURS * scale, bits, 2, interlaced=interlaced), COLOURS)
    check(png(COLOURS * scale, bits, 2, chunk(b"tRNS", clear), interlaced=interlaced), COLOURS, seen)
    check(png(np.dstack([COLOURS, ALPHA]) * scale, bits, 6, interlaced=interlaced), COLOURS, ALPHA)
    check(png(np.dstack([GREYS, ALPHA]) * scale, bits, 4, interlaced=interlaced), GREYS, ALPHA)


# --- BMP


def bmp(
    bits: int,
    rows: bytes,
    *,
    palette: bytes = b"",
    packing: int = 0,
    masks: tuple[int, ...] = (),
    head: int = 40,
    upright: bool = False,
) -> bytes:
    if head == 12:
        info = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, bits)
    else:
        height = -HEIGHT if upright else HEIGHT
        info = struct.pack(
            "<IiiHHIIiiII", head, WIDTH, height, 1, bits, packing, len(rows), 2835, 2835, len(palette) // 4, 0
        )
        info = (info + struct.pack(f"<{len(masks)}I", *masks)).ljust(head, b"\0")
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + info + palette + rows


def rows_of(values: Values, upright: bool) -> bytes:
    ordered = values if upright else values[::-1]
    return b"".join(row.tobytes().ljust(-(-len(row.tobytes()) // 4) * 4, b"\0") for row in ordered)


def bgr0(colours: Values) -> bytes:
    return np.append(colours[:, ::-1], np.zeros((len(colours), 1)), 1).astype(np.uint8).tobytes()


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_bmp_of_a_palette(bits: int, upright: bool) -> None:
    values = COUNT % 2**bits
    rows = rows_of(np.array([np.frombuffer(row, np.uint8) for row in packed(values, bits)]), upright)
    check(bmp(bits, rows, palette=bgr0(PALETTE[: 2**bits]), upright=upright), PALETTE[values])
    if not upright:
        palette = PALETTE[: 2**bits, ::-1].astype(np.uint8).tobytes()
        check(bmp(bits, rows, palette=palette, head=12), PALETTE[values])


@pytest.mark.parametrize("upright", [False, True])
def test_bmp_of_colours(upright: bool) -> None:
    bgr = COLOURS[..., ::-1]
    check(bmp(24, rows_of(bgr.astype(np.uint8), upright), upright=upright), COLOURS)
    rows = rows_of(np.dstack([bgr, ALPHA]).astype(np.uint8), upright)
    check(bmp(32, rows, upright=upright), COLOURS)  # the fourth byte is padding, by the book
    for head in (56, 108, 124):
        masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        check(bmp(32, rows, packing=3, masks=masks, head=head, upright=upright), COLOURS, ALPHA)


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize(("depths", "packing"), [((5, 5, 5), 0), ((5, 6, 5), 3)])
def test_bmp_of_16_bits(depths: tuple[int, ...], packing: int, upright: bool) -> None:
    values = [COLOURS[..., band] >> 8 - depth for band, depth in enumerate(depths)]
    words = values[0] << depths[1] + depths[2] | values[1] << depths[2] | values[2]
    masks = (0xF800, 0x7E0, 0x1F) if packing else ()
    data = bmp(16, rows_of(words.astype("<u2"), upright), packing=packing, masks=masks, upright=upright)
    shown = np.stack([value * 255 / (2**depth - 1) for value, depth in zip(values, depths, strict=True)], -1)
    check(data, shown)


@pytest.mark.parametrize("masks", [(0xF00, 0xF0, 0xF), (0xFF, 0xFF00, 0xFF0000), (0x3FF00000, 0xFFC00, 0x3FF)])
def test_bmp_of_rare_masks_is_refused_by_kind(masks: tuple[int, ...]) -> None:
    bits = 16 if masks[0] == 0xF00 else 32
    error = reason(bmp(bits, bytes(HEIGHT * WIDTH * 4 + 4 * HEIGHT), packing=3, masks=masks))
    assert "can't be read here" in error.message
    assert "damaged" not in error.message


def test_bmp_of_runs() -> None:
    values = COUNT // 5 % 16
    runs = b""
    for row in values[::-1]:
        starts = [0, *(np.flatnonzero(np.diff(row)) + 1), WIDTH]
        runs += b"".join(bytes((end - at, int(row[at]))) for at, end in itertools.pairwise(starts)) + b"\0\0"
    check(bmp(8, runs + b"\0\1", palette=bgr0(PALETTE[:16]), packing=1), PALETTE[values])
    runs = b"".join(bytes((0, WIDTH)) + row + b"\0\0" for row in packed(values[::-1], 4))
    check(bmp(4, runs + b"\0\1", palette=bgr0(PALETTE[:16]), packing=2), PALETTE[values])


# --- TGA


def tga(
    depth: int,
    kind: int,
    data: bytes,
    flags: int,
    palette: bytes = b"",
    start: int = 0,
    count: int = 0,
    bits: int = 0,
) -> bytes:
    return (
        struct.pack("<BBBHHBHHHHBB", 0, bool(palette), kind, start, count, bits, 0, 0, WIDTH, HEIGHT, depth, flags)
        + palette
        + data
    )


@pytest.mark.parametrize("corner", [0, 0x10, 0x20, 0x30])
def test_tga_from_every_corner(corner: int) -> None:
    order = np.s_[:: 1 if corner & 0x20 else -1, :: -1 if corner & 0x10 else 1]
    five = COLOURS >> 3
    words = five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]
    check(tga(24, 2, COLOURS[order][..., ::-1].astype(np.uint8).tobytes(), corner), COLOURS)
    check(tga(16, 2, words[order].astype("<u2").tobytes(), corner), five * 255 / 31)
    check(tga(8, 3, GREYS[order].astype(np.uint8).tobytes(), corner), GREYS)
    veiled = np.dstack([COLOURS[..., ::-1], ALPHA]).astype(np.uint8)
    check(tga(32, 2, veiled[order].tobytes(), corner | 8), COLOURS, ALPHA)


@pytest.mark.parametrize(("bits", "start"), [(24, 0), (24, 20), (16, 0), (32, 0)])
def test_tga_of_a_palette(bits: int, start: int) -> None:
    colours, values = PALETTE[:100], COUNT % 100
    five = colours >> 3
    palette = {
        24: colours[:, ::-1].astype(np.uint8).tobytes(),
        16: (five[:, 0] << 10 | five[:, 1] << 5 | five[:, 2]).astype("<u2").tobytes(),
        32: np.append(colours[:, ::-1], np.full((100, 1), 255), 1).astype(np.uint8).tobytes(),
    }[bits]
    shown = five * 255 / 31 if bits == 16 else colours
    data = tga(8, 1, (values + start).astype(np.uint8).tobytes(), 0x20, palette, start, 100, bits)
    check(data, shown[values])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_tga_of_runs(mode: str) -> None:
    image = Image.fromarray(np.dstack([COLOURS // 64 * 64, ALPHA]).astype(np.uint8)).convert(mode)
    expected = np.asarray(image.convert("RGBA"))
    data = saved(image, "TGA", compression="tga_rle")
    check(data, expected[..., :3], expected[..., 3] if mode == "RGBA" else None)


# --- Netpbm


@pytest.mark.parametrize("most", [1, 3, 100, 255, 1000, 4095, 65535])
def test_netpbm(most: int) -> None:
    kind = ">u2" if most > 255 else "u1"
    for magic, plain, shown in ((b"P5", b"P2", GREYS), (b"P6", b"P3", COLOURS)):
        values = np.round(shown / 255 * most).astype(int)
        head = f" {WIDTH} # a remark\n{HEIGHT}\n{most}\n".encode()
        check(magic + head + values.astype(kind).tobytes(), values * 255 / most)
        check(plain + head + " ".join(map(str, values.ravel())).encode(), values * 255 / most)


def test_netpbm_of_two_levels() -> None:
    values, head = COUNT % 3 % 2, f" {WIDTH} {HEIGHT}\n".encode()
    check(b"P4" + head + b"".join(packed(values, 1)), 255 - values * 255)
    check(b"P1" + head + " ".join(map(str, values.ravel())).encode(), 255 - values * 255)


# --- Icons and cursors


def icon(bits: int, pixels: Values, mask: Values, *, cursor: bool, palette: bytes = b"") -> bytes:
    """Of 16 pixels a side; `mask` is true where it is transparent."""
    head = struct.pack("<IiiHHIIiiII", 40, 16, 32, 1, bits, 0, 0, 0, 0, len(palette) // 4, 0) + palette
    rows = np.pad(np.packbits(mask[::-1], axis=1), ((0, 0), (0, 2))).astype(np.uint8)
    picture = head + np.ascontiguousarray(pixels[::-1]).astype(np.uint8).tobytes() + rows.tobytes()
    spot = (7, 9) if cursor else (1, bits)
    entry = struct.pack("<BBBBHHII", 16, 16, len(palette) // 4 % 256, 0, *spot, len(picture), 22)
    return struct.pack("<HHH", 0, 2 if cursor else 1, 1) + entry + picture


@pytest.mark.parametrize("cursor", [False, True])
def test_icons_and_cursors(cursor: bool) -> None:
    colours, alpha, hidden = COLOURS[:16, :16], ALPHA[:16, :16], COUNT[:16, :16] % 3 == 0
    cut = np.where(hidden, 0, 255)
    check(icon(24, colours[..., ::-1], hidden, cursor=cursor), colours, cut)
    check(icon(32, np.dstack([colours[..., ::-1], alpha]), hidden, cursor=cursor), colours, alpha)
    values = COUNT[:16, :16] % 256
    check(icon(8, values, hidden, cursor=cursor, palette=bgr0(PALETTE)), PALETTE[values], cut)


# --- What Pillow writes of other formats


def made(mode: str) -> Image.Image:
    pixels = np.dstack([COLOURS // 64 * 64, ALPHA // 128 * 255]).astype(np.uint8)[:16, :16]
    return Image.fromarray(pixels if mode == "RGBA" else np.ascontiguousarray(pixels[..., :3])).convert(mode)


def what_pillow_writes() -> list[tuple[str, str]]:
    formats = ("ICO", "PCX", "SGI", "DDS", "GIF", "JPEG2000", "QOI", "MSP", "XBM")
    written = []
    for format, mode in itertools.product(formats, ("RGB", "RGBA", "L", "P", "1")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            saved(made(mode), format)
            written.append((format, mode))
    return written


@pytest.mark.parametrize(("format", "mode"), what_pillow_writes())
def test_lossless_formats(format: str, mode: str) -> None:
    image = made(mode)
    data = saved(image, format)
    expected = np.asarray(image.convert("RGBA"))
    (frame,) = read_picture(data).frames
    alpha = np.full((16, 16), 255) if frame.alpha is None else np.asarray(frame.alpha)
    assert near(alpha, expected[..., 3], 0)
    assert near(np.asarray(frame.rgb) * (alpha[..., None] > 0), expected[..., :3] * (alpha[..., None] > 0), 0)


# --- More than 8 bits


def netpbm(kind: bytes, most: int) -> bytes:
    values = COLOURS if kind == b"P6" else GREYS
    return kind + f" {WIDTH} {HEIGHT} {most}\n".encode() + values.astype(">u2" if most > 255 else "u1").tobytes()


def tiff(values: Values) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, metadata=None, photometric="rgb" if values.ndim == 3 else "minisblack")
    return buffer.getvalue()


DEEP: Final = {
    "png of colours": png(COLOURS * 257, 16, 2),
    "png of colours with alpha": png(np.dstack([COLOURS, ALPHA]) * 257, 16, 6),
    "png of greys": png(GREYS * 257, 16, 0),
    "ppm": netpbm(b"P6", 65535),
    "pgm": netpbm(b"P5", 1023),
    "tiff of colours": tiff(COLOURS.astype(np.uint16)),
    "tiff of floats": tiff(COLOURS.astype(np.float32) / 255),
    "tiff of greys": tiff(GREYS.astype(np.uint16)),
}
PLAIN: Final = {
    "png of colours": png(COLOURS, 8, 2),
    "png of one bit": png(GREYS // 128, 1, 0),
    "ppm": netpbm(b"P6", 255),
    "pgm": netpbm(b"P5", 255),
    "tiff of colours": tiff(COLOURS.astype(np.uint8)),
    "tiff of one bit": tiff(GREYS > 127),
    "tiff of inks": saved(Image.new("CMYK", (4, 4)), "TIFF"),
    "jpeg": saved(Image.new("RGB", (4, 4)), "JPEG"),
    "gif": saved(Image.new("P", (4, 4)), "GIF"),
}


def test_which_files_have_more_bits_than_results() -> None:
    assert [name for name, data in DEEP.items() if not read_picture(data).deep] == []
    assert [name for name, data in PLAIN.items() if read_picture(data).deep] == []
