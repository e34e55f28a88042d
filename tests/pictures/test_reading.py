"""Reading pictures: every mode, orientation, profile and animation; and a reason for every broken file."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.helpers import picture
from ugatit_cli.errors import PictureError
from ugatit_cli.pictures.bounds import MAX_PIXELS
from ugatit_cli.pictures.reading import (
    Frame,
    composite,
    from_pil,
    read_picture,
    restore_alpha,
    srgb_profile,
)

Image.init()  # or not all of Pillow's formats are in its lists yet

WHITE = (255, 255, 255)
COLOUR = (200, 100, 40)
LOSSLESS: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True, "exact": True}}


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixel(image: Image.Image, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    found = image.getpixel(at)
    assert isinstance(found, tuple)
    return found


def opacity(frame: Frame, at: tuple[int, int] = (0, 0)) -> int:
    assert frame.alpha is not None
    found = frame.alpha.getpixel(at)
    assert isinstance(found, int)
    return found


def near(one: npt.ArrayLike, other: npt.ArrayLike, tolerance: float) -> bool:
    return float(np.abs(np.subtract(one, other, dtype=float)).max()) <= tolerance


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, kind: int, rows: bytes, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + body + chunk(b"IEND", b"")


def swapped_profile(other: bytes = b"gXYZ") -> bytes:
    """SRGB with the primary of red exchanged with another entry, by default that of green."""
    data = srgb_profile()
    table, rest = data[:300], data[300:]
    return table.replace(b"rXYZ", b"????").replace(other, b"rXYZ").replace(b"????", other) + rest


def grey_profile() -> bytes:
    """A grey profile of gamma 1."""
    white = struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    tags = [(b"wtpt", b"XYZ \0\0\0\0" + white), (b"kTRC", b"curv\0\0\0\0\0\0\0\0")]
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags:
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data
    head = b"\0\0\0\0" + struct.pack(">I", 0x02400000) + b"mntrGRAYXYZ " + b"\0" * 12 + b"acsp" + b"\0" * 28
    head += white
    head = struct.pack(">I", 128 + len(table) + len(body)) + head.ljust(124, b"\0")
    return head + table + body


# --- formats and modes


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"])
def test_colour_modes(mode: str) -> None:
    source = Image.new("RGB", (4, 3), COLOUR)
    steps = {"P": ["P"], "PA": ["P", "PA"], "RGBa": ["RGBA", "RGBa"]}.get(mode, [mode])
    image = source.quantize(2) if steps[0] == "P" else source
    for step in steps:
        image = image.convert(step)
    frame = from_pil(image).frames[0]
    assert (frame.rgb.mode, frame.alpha) == ("RGB", None)
    assert near(pixel(frame.rgb), COLOUR, 4)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "I", "F"])
def test_grey_modes(mode: str) -> None:
    image = Image.new("LA" if mode == "La" else mode, (4, 3), {"1": 1, "F": 100.0}.get(mode, 100))
    if mode in {"LA", "La"}:
        image.putalpha(255)
    frame = from_pil(image.convert(mode)).frames[0]
    assert frame.alpha is None
    assert pixel(frame.rgb) == (WHITE if mode == "1" else (100, 100, 100))


@pytest.mark.parametrize(
    ("kind", "values", "greys"),
    [
        (np.float32, [0, 0.5, 1], [0, 128, 255]),
        (np.float32, [-5, 99.6, 300], [0, 100, 255]),
        (np.float32, [np.nan, np.inf, -np.inf], [0, 255, 0]),
        (np.int32, [-7, 100, 255], [0, 100, 255]),
        (np.uint16, [0, 25700, 65535], [0, 100, 255]),
    ],
)
def test_grey_numbers(kind: type, values: list[float], greys: list[int]) -> None:
    image = Image.fromarray(np.array([values], kind))
    for read in (from_pil(image), *([read_picture(saved(image, "PNG"))] if kind is np.uint16 else [])):
        assert [pixel(read.frames[0].rgb, (x, 0))[0] for x in range(3)] == greys


def second(mode: str, colour: int | tuple[int, ...]) -> Image.Image:
    """Two pixels, the second one of a colour of its own."""
    image = Image.new(mode, (2, 1))
    if mode == "P":
        image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putpixel((1, 0), colour)
    return image


@pytest.mark.parametrize(
    "data",
    [
        *(saved(second("P", 1), "PNG", transparency=clear) for clear in (1, b"\xff\x00", b"\xff\x00\xff")),
        saved(second("P", 1), "GIF", transparency=1),
        saved(second("RGB", (9, 8, 7)), "PNG", transparency=(9, 8, 7)),
        saved(second("L", 9), "PNG", transparency=9),
        saved(second("1", 1), "PNG", transparency=1),
        png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 1000, 1001), chunk(b"tRNS", struct.pack(">H", 1001))),
        png(
            2,
            1,
            16,
            2,
            b"\0" + struct.pack(">6H", *range(0, 3000, 500)),
            chunk(b"tRNS", struct.pack(">3H", 1500, 2000, 2500)),
        ),
        png(2, 1, 4, 0, b"\0\x35", chunk(b"tRNS", b"\0\5")),
        png(2, 1, 2, 0, b"\0\x60", chunk(b"tRNS", b"\0\2")),
        png(2, 1, 2, 3, b"\0\x60", chunk(b"PLTE", bytes(range(12))), chunk(b"tRNS", b"\xff\xff\0\xff")),
    ],
)
def test_a_colour_that_stands_for_transparent(data: bytes) -> None:
    (frame,) = read_picture(data).frames
    assert [opacity(frame, (x, 0)) for x in range(2)] == [255, 0]


def test_in_memory_image_is_left_alone() -> None:
    image = Image.new("RGBA", (3, 2), (1, 2, 3, 4))
    image.info["icc_profile"] = swapped_profile()
    image.getexif()[0x0112] = 6
    before = image.tobytes(), dict(image.info), image.getexif()[0x0112]
    read = from_pil(image)
    read.frames[0].rgb.paste((9, 9, 9), (0, 0, 2, 3))
    assert read.size == (2, 3)
    assert (image.tobytes(), dict(image.info), image.getexif()[0x0112]) == before


# --- orientation


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, "TL"), (2, "TR"), (3, "BR"), (4, "BL"), (5, "TL"), (6, "TR"), (7, "BR"), (8, "BL")],
)
def test_orientation_is_applied(format: str, orientation: int, corner: str) -> None:
    image = Image.new("RGB" if format == "JPEG" else "RGBA", (32, 16), WHITE)
    image.paste((0, 0, 0) if format == "JPEG" else (0, 0, 0, 9), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    (frame,) = read_picture(saved(image, format, exif=exif, **LOSSLESS.get(format, {}))).frames
    upright = frame.rgb
    width, height = upright.size
    x, y = (2 if corner[1] == "L" else width - 3), (2 if corner[0] == "T" else height - 3)
    assert upright.size == ((32, 16) if orientation < 5 else (16, 32))
    assert near(pixel(upright, (x, y)), (0, 0, 0), 20)
    assert near(pixel(upright, (width - 1 - x, height - 1 - y)), WHITE, 20)
    if format != "JPEG":
        assert (opacity(frame, (x, y)), opacity(frame, (width - 1 - x, height - 1 - y))) == (9, 255)


def test_xmp_turns_nothing() -> None:
    """Editors leave what is no longer true in XMP; browsers look at EXIF alone."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    image = Image.new("RGB", (32, 16), WHITE)
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    files = [saved(image, format, xmp=xmp) for format in ("JPEG", "WEBP")] + [saved(image, "PNG", pnginfo=text)]
    for data in [*files, saved(image, "TIFF", tiffinfo={700: xmp})]:
        assert read_picture(data).size == (32, 16)
    exif = Image.Exif()
    exif[0x0112] = 8
    assert read_picture(saved(image, "JPEG", xmp=xmp, exif=exif)).size == (16, 32)


# --- profiles


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_profile_is_converted_to_srgb(format: str) -> None:
    image = Image.new("RGB" if format == "JPEG" else "RGBA", (16, 16), (220, 30, 30, 77)[: 3 + (format != "JPEG")])
    read = read_picture(saved(image, format, icc_profile=swapped_profile(), dpi=(72, 72)))
    red, green, _ = pixel(read.frames[0].rgb)
    assert read.had_profile
    assert green > red + 100
    assert format == "JPEG" or opacity(read.frames[0]) == 77
    assert read.frames[0].rgb.info == {}


def test_a_grey_profile_is_applied() -> None:
    grey = Image.new("L", (2, 2), 55)  # 55/255 of linear light
    assert near(pixel(read_picture(saved(grey, "PNG", icc_profile=grey_profile())).frames[0].rgb), (128,) * 3, 8)


def test_rgb_profile_on_grey_picture() -> None:
    grey, colour = (
        read_picture(saved(Image.new(mode, (2, 2), value), "PNG", icc_profile=swapped_profile(b"wtpt")))
        for mode, value in (("L", 90), ("RGB", (90, 90, 90)))
    )
    assert pixel(grey.frames[0].rgb) == pixel(colour.frames[0].rgb) != (90, 90, 90)


@pytest.mark.parametrize("profile", [srgb_profile(), b"rubbish", srgb_profile()[:200], grey_profile()])
def test_a_profile_of_srgb_or_an_unusable_one_changes_nothing(profile: bytes) -> None:
    read = read_picture(saved(picture(32, 24), "PNG", icc_profile=profile))
    assert read.frames[0].rgb.tobytes() == picture(32, 24).tobytes()


# --- animations


def frames_of(count: int, size: tuple[int, int] = (16, 12)) -> list[Image.Image]:
    """A dot that moves, so that saved frames are small patches of the canvas."""
    frames = [Image.new("RGB", size, (0, 0, 200)) for _ in range(count)]
    for index, frame in enumerate(frames):
        frame.paste((250, 0, 0), (index * 4, 0, index * 4 + 4, 4))
    return frames


def animation(format: str, count: int = 3, **options: object) -> bytes:
    first, *rest = frames_of(count)
    return saved(first, format, save_all=True, append_images=rest, **options)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_frames_cover_the_canvas(format: str) -> None:
    read = read_picture(animation(format, duration=[50, 70, 90], loop=0, **LOSSLESS.get(format, {})))
    assert (read.durations, read.loop, read.format) == ((50, 70, 90), 0, format)
    assert [frame.rgb.tobytes() for frame in read.frames] == [frame.tobytes() for frame in frames_of(3)]


@pytest.mark.parametrize(("format", "options"), [("GIF", {}), ("WEBP", {"loop": 1}), ("PNG", {"loop": 1})])
def test_playing_once_with_the_usual_duration(format: str, options: dict[str, int]) -> None:
    read = read_picture(animation(format, duration=0, **options))
    assert read.loop is None
    assert read.durations == (100, 100, 100)  # as in browsers


def test_gif_disposal_is_applied() -> None:
    clear = Image.new("RGBA", (8, 8))
    one, two = clear.copy(), clear.copy()
    one.paste((255, 0, 0, 255), (0, 0, 4, 4))
    two.paste((0, 255, 0, 255), (4, 4, 8, 8))
    read = read_picture(saved(one, "GIF", save_all=True, append_images=[two], disposal=2, duration=50))
    assert [opacity(frame, (1, 1)) for frame in read.frames] == [255, 0]


def test_default_image_of_apng_is_no_frame() -> None:
    data = animation("PNG", 4, default_image=True)
    assert [pixel(frame.rgb, (4, 0)) for frame in read_picture(data).frames] == [(250, 0, 0), *[(0, 0, 200)] * 2]
    assert pixel(read_picture(data, first_only=True).frames[0].rgb, (4, 0)) == (250, 0, 0)


@pytest.mark.parametrize("format", ["TIFF", "MPO"])
def test_pages_are_not_frames(format: str) -> None:
    read = read_picture(animation(format))
    assert (len(read.frames), read.durations, read.loop) == (1, (), None)


def test_gif_that_outgrows_its_canvas_is_clipped() -> None:
    data = bytearray(animation("GIF", duration=50))
    data[6:10] = struct.pack("<HH", 14, 12)
    head = data.rindex(b",", 0, data.rindex(b"!\xf9") + 20)
    data[head + 1 : head + 3] = struct.pack("<H", 12)
    assert {frame.rgb.size for frame in read_picture(bytes(data)).frames} == {read_picture(bytes(data)).size}


# --- limits and failures


def reason(source: Path | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> PictureError:
    with pytest.raises(PictureError) as caught:
        read_picture(source, name=name, max_pixels=max_pixels)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(("format", "count"), [("PNG", 1), ("GIF", 3), ("WEBP", 3), ("PNG", 3)])
def test_the_pixel_limit_counts_all_frames(format: str, count: int) -> None:
    data, limit = animation(format, count, duration=50), count * 16 * 12
    assert len(read_picture(data, max_pixels=limit).frames) == count
    error = reason(data, max_pixels=limit - 1)
    message = error.message
    assert "--max-pixels" in error.hint
    assert ("3 frames" in message) == (count == 3)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_alone(format: str) -> None:
    read = read_picture(animation(format, **LOSSLESS.get(format, {})), max_pixels=16 * 12, first_only=True)
    assert [frame.rgb.tobytes() for frame in read.frames] == [frames_of(1)[0].tobytes()]
    assert not read.animated
    assert read.durations == ()


@pytest.mark.parametrize("side", [18_000, 20_000, 65_000])  # Pillow itself takes none of them
def test_what_is_above_the_limit_is_named_in_megapixels(side: int) -> None:
    error = reason(png(side, side, 8, 2, b"\0"), name="a.png")
    assert error.message.startswith(f"a.png: {side * side / 1e6:.1f} megapixels")
    assert "--max-pixels" in error.hint


@pytest.mark.parametrize("side", [10_000, 17_000])  # Pillow warns of the first one, and doesn't take the second one
def test_what_is_below_the_limit_is_read_whatever_pillow_thinks(side: int) -> None:
    assert "--max-pixels" not in reason(png(side, side, 1, 0, b"\0")).hint  # but this file is cut off


BROKEN = {
    "empty": (b"", "empty"),
    "text": (b"hello, I am a text file\n" * 9, "not a picture"),
    "png cut": (saved(picture(32, 24), "PNG")[:900], "truncated"),
    "jpeg cut": (saved(picture(32, 24), "JPEG")[:700], "truncated"),
    "webp cut": (saved(picture(32, 24), "WEBP")[:300], "damaged"),
    "animation cut": (animation("GIF", duration=50)[:-30], "truncated"),
    "apng cut": (animation("PNG", duration=50)[:-60], "truncated"),
    **({"avif cut": (saved(picture(32, 24), "AVIF")[:200], "damaged")} if "AVIF" in Image.SAVE else {}),
    "jp2 cut": (saved(picture(32, 24), "JPEG2000")[:400], "damaged"),
    "png zero-sized": (png(0, 5, 8, 2, b""), "damaged"),
    "png bad crc": (saved(picture(32, 24), "PNG").replace(b"IHDR\0", b"IHDR\x01"), "damaged"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "drawing"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_file_has_a_reason(kind: str, tmp_path: Path) -> None:
    data, expected = BROKEN[kind]
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    error = reason(path)
    assert error.message.startswith(f"{path}: ")
    assert expected in error.message


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_damage_never_raises_anything_else(data: st.DataObject) -> None:
    base = data.draw(st.sampled_from(CORPUS))
    broken = bytearray(base)
    for _ in range(4):
        broken[data.draw(st.integers(0, len(base) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PictureError):
        read = read_picture(bytes(broken), max_pixels=100_000)
        assert {frame.rgb.size for frame in read.frames} == {read.size}


CORPUS = [saved(picture(8, 8), format) for format in ("PNG", "JPEG", "WEBP", "GIF", "TIFF")]
CORPUS += [animation(format, duration=50) for format in ("GIF", "PNG", "WEBP")]


def test_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    os.mkfifo(tmp_path / "pipe.png")  # which is not waited for
    assert "is a pipe" in reason(tmp_path / "pipe.png").message
    assert "is a folder" in reason(tmp_path).message
    assert reason(tmp_path / "no.png", name="page 3").message.startswith("page 3: ")
    (tmp_path / "a.png").touch()
    monkeypatch.setattr(Path, "open", refuse)
    assert "permission denied" in reason(tmp_path / "a.png").message
    with pytest.raises(PictureError, match="no pixels"):
        from_pil(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize(
    ("name", "data", "hint"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pip install pillow-heif"),
        ("renamed.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pip install pillow-heif"),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "render"),
    ],
)
def test_hint_says_the_way_out(name: str, data: bytes, hint: str) -> None:
    assert hint in reason(data, name=name).hint


# --- alpha


def tga(image: Image.Image, attributes: int) -> bytes:
    data = bytearray(saved(image, "TGA"))
    data[17] = data[17] & 0xF0 | attributes
    return bytes(data)


def bmp(image: Image.Image) -> bytes:
    """With masks for all four channels, as Pillow doesn't write it."""
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    pixels = saved(image, "BMP")[54:]
    info = struct.pack("<IiiHHIIiiII", 108, *image.size, 1, 32, 3, len(pixels), 2835, 2835, 0, 0) + masks + bytes(52)
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(pixels), 0, 0, 14 + len(info)) + info + pixels


def veiled(*alphas: int) -> Image.Image:
    """Pixels of different colours, with these opacities."""
    image = Image.new("RGBA", (len(alphas), 2))
    for x, alpha in enumerate(alphas):
        image.paste((10 * x, 200 - x, 70, alpha), (x, 0, x + 1, 2))
    return image


@pytest.mark.parametrize(
    "data", [bmp(veiled(0, 0, 0)), tga(veiled(0, 0, 0), 8), saved(veiled(0, 0, 0), "PNG")], ids=["bmp", "tga", "png"]
)
def test_an_empty_transparency_is_opaque(data: bytes) -> None:
    read = read_picture(data)
    assert read.frames[0].alpha is None
    assert pixel(read.frames[0].rgb, (2, 0)) == (20, 198, 70)
    assert len(read.notes) == 1


def test_a_transparency_that_is_used_stays() -> None:
    for data in (bmp(veiled(0, 90, 0)), tga(veiled(0, 90, 0), 8), saved(veiled(0, 90, 0), "PNG")):
        read = read_picture(data)
        assert [opacity(read.frames[0], (x, 0)) for x in range(3)] == [0, 90, 0]
        assert read.notes == ()
    blank = read_picture(saved(Image.new("RGBA", (3, 2), (9, 9, 9, 0)), "PNG"))
    assert opacity(blank.frames[0]) == 0


@pytest.mark.parametrize(("alphas", "noted"), [((0, 0), False), ((255, 255), False), ((9, 200), True)])
def test_a_tga_whose_header_knows_no_transparency_is_opaque(alphas: tuple[int, ...], noted: bool) -> None:
    read = read_picture(tga(veiled(*alphas), 0))
    assert read.frames[0].alpha is None
    assert bool(read.notes) == noted


def test_an_animation_may_begin_invisible() -> None:
    frames = [veiled(0, 0, 0), veiled(0, 90, 255)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert opacity(read_picture(data).frames[0]) == 0


def grey_image(values: npt.ArrayLike) -> Image.Image:
    return Image.fromarray(np.asarray(values, np.uint8))


levels = st.integers(0, 255)


@given(
    st.lists(st.tuples(st.integers(1, 255), levels, levels, levels), min_size=1, max_size=8),
    st.tuples(levels, levels, levels),
)
@settings(max_examples=60, deadline=None)
def test_restored_frame_composites_back(
    pixels: list[tuple[int, int, int, int]], background: tuple[int, int, int]
) -> None:
    alpha = grey_image([[p[0] for p in pixels]])
    translated = composite(Frame(grey_image([[p[1:] for p in pixels]]), alpha), background)
    again = composite(restore_alpha(translated.copy(), alpha, background), background)
    assert near(np.asarray(again), np.asarray(translated), 1)


def test_restored_colour_is_the_foreground() -> None:
    translated = Image.new("RGB", (1, 600), (200, 150, 255))  # taller than a strip
    frame = restore_alpha(translated, Image.new("L", (1, 600), 128), WHITE)
    assert frame.rgb.getcolors() == [(600, (145, 46, 255))]
    assert restore_alpha(translated, None, WHITE).rgb.tobytes() == translated.tobytes()
