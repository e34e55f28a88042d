"""Animations made byte by byte, against a compositor that follows the formats' own rules."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.pictures.test_reading import chunk, near
from ugatit_cli.pictures.reading import read_picture

WIDTH, HEIGHT = 12, 9
BANDS = {2: [0, 1, 2], 4: [0, 3], 6: [0, 1, 2, 3]}  # by PNG's number of the kind
KEEP, CLEAR, BEFORE = "keep", "clear", "before"

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Patch:
    """RGBA (h, w, 4) at (x, y); what becomes of its place afterwards; whether it is blended with what is there."""

    pixels: Pixels
    x: int
    y: int
    after: str
    blended: bool


def composed(patches: list[Patch]) -> list[npt.NDArray[Any]]:
    """What viewers show: RGBA canvases, whose colours count only where they are seen."""
    canvas, shown = np.zeros((HEIGHT, WIDTH, 4)), []
    for patch in patches:
        height, width = patch.pixels.shape[:2]
        place = np.s_[patch.y : patch.y + height, patch.x : patch.x + width]
        saved = canvas.copy()
        canvas[place] = over(patch.pixels, canvas[place]) if patch.blended else patch.pixels
        shown.append(canvas.copy())
        if patch.after == CLEAR:
            canvas[place] = 0
        elif patch.after == BEFORE:
            canvas = saved
    return shown


def over(top: npt.NDArray[Any], under: npt.NDArray[Any]) -> npt.NDArray[Any]:
    a, b = top[..., 3:] / 255, under[..., 3:] / 255
    alpha = a + b * (1 - a)
    colour = np.divide(
        top[..., :3] * a + under[..., :3] * b * (1 - a), alpha, out=np.zeros(top[..., :3].shape), where=alpha > 0
    )
    return np.concatenate([colour, alpha * 255], -1)


def patches(
    seed: int, *, afters: tuple[str, ...], soft: bool, even: bool = False, blend: bool | None = None
) -> list[Patch]:
    """The first covers all; colours of the palette that `gif` writes."""
    random = np.random.default_rng(seed)
    made = []
    for index in range(6):
        x, y = (0, 0) if index == 0 else (int(random.integers(0, 8)), int(random.integers(0, 6)))
        x, y = (x & ~1, y & ~1) if even else (x, y)
        width, height = (
            (WIDTH, HEIGHT)
            if index == 0
            else (int(random.integers(1, WIDTH - x + 1)), int(random.integers(1, HEIGHT - y + 1)))
        )
        colours = random.integers(0, 4, (height, width, 3)) * 85
        alpha = random.choice([0, 120, 255] if soft else [0, 255, 255], (height, width, 1))
        pixels = np.concatenate([colours, alpha], -1).astype(np.uint8)
        made.append(
            Patch(pixels, x, y, str(random.choice(afters)), bool(random.integers(2)) if blend is None else blend)
        )
    return made


# --- The formats


def gif(frames: list[Patch], *, local: bool = False, interlaced: bool = False) -> bytes:
    """Colours of four levels each, entry 64 for transparent."""
    palette = np.zeros((128, 3), np.uint8)
    palette[:64] = np.stack(np.meshgrid(*[np.arange(4) * 85] * 3, indexing="ij"), -1).reshape(-1, 3)
    data = b"GIF89a" + struct.pack("<HHBBB", WIDTH, HEIGHT, 0 if local else 0x86, 64, 0)
    data += b"" if local else palette.tobytes()
    for number, frame in enumerate(frames):
        order = np.roll(np.arange(64), 7 * number) if local else np.arange(64)
        own = palette.copy()
        own[order] = palette[:64]
        r, g, b, a = (frame.pixels[..., band].astype(int) for band in range(4))
        index = np.where(a > 0, order[r // 85 * 16 + g // 85 * 4 + b // 85], 64)
        height, width = index.shape
        rows = [y for start, step in ((0, 8), (4, 8), (2, 4), (1, 2)) for y in range(start, height, step)]
        flags = (0x86 if local else 0) | (0x40 if interlaced else 0)
        disposal = {KEEP: 1, CLEAR: 2, BEFORE: 3}[frame.after]
        data += b"!\xf9\x04" + struct.pack("<BHBB", disposal << 2 | 1, 5, 64, 0)
        data += (
            b"," + struct.pack("<HHHHB", frame.x, frame.y, width, height, flags) + (own.tobytes() if local else b"")
        )
        data += lzw((index[rows] if interlaced else index).ravel())
    return data + b";"


def lzw(values: npt.NDArray[Any]) -> bytes:
    """Codes of one width, because the table is cleared before it needs more."""
    codes = [code for at in range(0, len(values), 100) for code in (128, *values[at : at + 100])] + [129]
    bits = sum(int(code) << 8 * at for at, code in enumerate(codes))
    packed = bits.to_bytes(len(codes), "little")
    return (
        b"\x07"
        + b"".join(bytes([len(part)]) + part for part in (packed[at : at + 255] for at in range(0, len(packed), 255)))
        + b"\0"
    )


def apng(frames: list[Patch], *, kind: int = 6, depth: int = 8, default: bool = False) -> bytes:
    """Colours (`kind` 2) with the one of (1, 2, 3) for transparent; `default`: begins with another picture."""
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, kind, 0, 0, 0))
    data += (
        chunk(b"tRNS", struct.pack(">3H", *(np.array([1, 2, 3]) * (257 if depth == 16 else 1)))) if kind == 2 else b""
    )
    data += chunk(b"acTL", struct.pack(">II", len(frames), 0))
    number = 0
    if default:
        data += chunk(b"IDAT", zlib.compress(bytes(HEIGHT * (1 + WIDTH * len(BANDS[kind]) * depth // 8))))
    for index, frame in enumerate(frames):
        height, width = frame.pixels.shape[:2]
        after = {KEEP: 0, CLEAR: 1, BEFORE: 2}[frame.after]
        control = (number, width, height, frame.x, frame.y, 1, 20, after, frame.blended)
        data += chunk(b"fcTL", struct.pack(">IIIIIHHBB", *control))
        pixels = np.where(frame.pixels[..., 3:] > 0, frame.pixels, np.array([1, 2, 3, 0]))[..., BANDS[kind]]
        lines = (pixels.astype(int) * (257 if depth == 16 else 1)).astype(">u2" if depth == 16 else "u1")
        rows = zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))
        later = index or default
        data += chunk(b"fdAT", struct.pack(">I", number + 1) + rows) if later else chunk(b"IDAT", rows)
        number += 2 if later else 1
    return data + chunk(b"IEND", b"")


def webp(frames: list[Patch]) -> bytes:
    body = b"VP8X" + struct.pack("<IB3x", 10, 0x12) + three(WIDTH - 1) + three(HEIGHT - 1)
    body += b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    for frame in frames:
        height, width = frame.pixels.shape[:2]
        buffer = io.BytesIO()
        Image.fromarray(frame.pixels).save(buffer, "WEBP", lossless=True, exact=True)
        image = buffer.getvalue()
        image = image[image.index(b"VP8L") :]
        flags = (0 if frame.blended else 2) | (frame.after == CLEAR)
        head = b"".join(map(three, (frame.x // 2, frame.y // 2, width - 1, height - 1, 50))) + bytes([flags])
        body += b"ANMF" + struct.pack("<I", len(head + image)) + head + image
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def three(value: int) -> bytes:
    return struct.pack("<I", value)[:3]


# --- Comparison


def check(data: bytes, expected: list[npt.NDArray[Any]]) -> None:
    read = read_picture(data)
    assert len(read.frames) == len(expected)
    for index, (frame, shown) in enumerate(zip(read.frames, expected, strict=True)):
        alpha = np.full(shown.shape[:2], 255.0) if frame.alpha is None else np.asarray(frame.alpha, float)
        assert near(alpha, shown[..., 3].round(), 2), f"opacity of frame {index}"
        weight = shown[..., 3:] / 255
        difference = np.abs(np.asarray(frame.rgb) - shown[..., :3]) * weight
        assert difference.max() <= 2, f"colours of frame {index}"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("options", [{}, {"local": True}, {"interlaced": True}])
def test_gif(options: dict[str, bool], seed: int) -> None:
    frames = patches(seed, afters=(KEEP, CLEAR, BEFORE), soft=False, blend=True)
    check(gif(frames, **options), composed(frames))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("write", "afters", "even"), [(apng, (KEEP, CLEAR, BEFORE), False), (webp, (KEEP, CLEAR), True)]
)
def test_soft_edges(write: Callable[[list[Patch]], bytes], afters: tuple[str, ...], even: bool, seed: int) -> None:
    frames = patches(seed, afters=afters, soft=True, even=even)
    check(write(frames), composed(frames))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "depth", "default"), [(2, 8, True), (2, 16, False), (4, 8, False), (6, 16, True)])
def test_apng_of_other_kinds(kind: int, depth: int, default: bool, seed: int) -> None:
    frames = patches(seed, afters=(KEEP, CLEAR, BEFORE), soft=kind != 2)
    if kind == 4:
        frames = [replace(one, pixels=one.pixels[..., [0, 0, 0, 3]]) for one in frames]
    check(apng(frames, kind=kind, depth=depth, default=default), composed(frames))
