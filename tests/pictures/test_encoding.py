"""Results in every format: transparency, timing, resolution and profile kept, files whole or not there."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tests.helpers import picture
from ugatit_cli.errors import OutputError, PictureError, UsageError
from ugatit_cli.pictures.encoding import encode, lost_alpha, output_format
from ugatit_cli.pictures.reading import Frame, Picture, from_pil, read_picture, srgb_profile

Image.init()


def here(*formats: str) -> list[str]:
    """Those of the formats that this Pillow writes: AVIF came with 11.3."""
    return [format for format in formats if format in Image.SAVE]


EVERY = here("PNG", "JPEG", "WEBP", "GIF", "AVIF", "TIFF", "BMP", "PPM", "TGA", "JPEG2000")
WITH_ALPHA = here("PNG", "WEBP", "TIFF", "TGA", "JPEG2000", "AVIF")
MOVING = ["GIF", "WEBP", "PNG"]


def smooth(width: int = 48, height: int = 32) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], -1).astype(np.uint8))


def distance(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def see_through(mark: int = 0) -> Frame:
    """A black square on transparent ground, whose upper left corner is at (mark, mark)."""
    alpha = Image.new("L", (16, 16), 0)
    alpha.paste(255, (mark, mark, mark + 8, mark + 8))
    return Frame(Image.new("RGB", (16, 16), (0, 0, 0)), alpha)


# --- stills


@pytest.mark.parametrize("format", EVERY)
def test_opaque_picture_round_trip(format: str) -> None:
    again = read_picture(encode(from_pil(smooth()), format))
    assert (again.format, again.size, again.frames[0].alpha) == (format, (48, 32), None)
    assert distance(again.frames[0].rgb, smooth()) < 5


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "PPM", "TGA", "GIF"])
def test_lossless_formats_keep_every_pixel(format: str) -> None:
    image = picture(15, 17)  # no more colours than a GIF has
    assert read_picture(encode(from_pil(image), format)).frames[0].rgb.tobytes() == image.tobytes()


@pytest.mark.parametrize("format", WITH_ALPHA)
def test_alpha_is_kept(format: str) -> None:
    alpha = Image.linear_gradient("L").resize((48, 32))
    again = read_picture(encode(Picture((Frame(smooth(), alpha),), "PNG"), format)).frames[0]
    assert again.alpha is not None
    assert distance(again.alpha, alpha) < 3


@pytest.mark.parametrize("format", ["JPEG", "BMP", "PPM"])
@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 255)])
def test_alpha_goes_over_the_background_where_there_is_none(format: str, background: tuple[int, int, int]) -> None:
    again = read_picture(encode(Picture((see_through(),), "PNG"), format, background=background)).frames[0]
    assert again.alpha is None
    for at, colour in (((15, 15), background), ((2, 2), (0, 0, 0))):
        assert np.abs(np.subtract(again.rgb.getpixel(at) or 0, colour)).max() < 5


def test_gif_alpha_has_one_bit() -> None:
    alpha = Image.new("L", (4, 1))
    alpha.putdata([0, 127, 128, 255])
    again = read_picture(encode(Picture((Frame(Image.new("RGB", (4, 1)), alpha),), "PNG"), "GIF")).frames[0]
    assert again.alpha is not None
    assert again.alpha.tobytes() == bytes([0, 0, 255, 255])


def test_gif_of_many_colours_is_dithered() -> None:
    """Seen from afar, it is closer to the picture than the nearest colours of a palette would be."""
    image = smooth(64, 64)
    written = read_picture(encode(from_pil(image), "GIF")).frames[0].rgb
    plain = image.quantize(256, Image.Quantize.MEDIANCUT).convert("RGB")
    afar, afar_plain = (distance(i.reduce(4), image.reduce(4)) for i in (written, plain))
    assert afar < afar_plain / 1.5


def test_gif_of_many_colours_keeps_white_ground_and_black_lines() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    pixels[:40], pixels[40:50] = 255, 0
    written = np.asarray(read_picture(encode(from_pil(Image.fromarray(pixels)), "GIF")).frames[0].rgb)
    assert (written[:40] == 255).all()
    assert (written[41:49] == 0).all()


def test_jpeg_keeps_full_colour_resolution() -> None:
    assert opened(encode(from_pil(smooth()), "JPEG")).layer == [(1, 1, 1, 0), (2, 1, 1, 1), (3, 1, 1, 1)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("quality", [94, 95, 100])
def test_jpeg_of_picture(quality: int, capfd: pytest.CaptureFixture[str]) -> None:
    """Larger than the buffer in which Pillow would optimise it."""
    assert opened(encode(from_pil(picture(300, 260)), "JPEG", quality=quality)).size == (300, 260)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("count", [1, 2])
def test_webp_of_quality_100_is_lossless(count: int) -> None:
    images = [picture(32, 24, seed) for seed in range(count)]
    source = Picture(tuple(Frame(image, None) for image in images), "PNG", (50,) * (count if count > 1 else 0))
    again = read_picture(encode(source, "WEBP", quality=100))
    assert [frame.rgb.tobytes() for frame in again.frames] == [image.tobytes() for image in images]


@pytest.mark.parametrize("format", here("JPEG", "WEBP", "AVIF"))
@pytest.mark.parametrize("quality", [0, 101, -5])
def test_quality_out_of_range(format: str, quality: int) -> None:
    with pytest.raises(UsageError, match="quality"):
        encode(from_pil(picture(32, 24)), format, quality=quality)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP"])
def test_resolution_is_kept(format: str) -> None:
    dpi = read_picture(encode(Picture((Frame(picture(32, 24), None),), "JPEG", dpi=(300.0, 150.0)), format)).dpi
    assert dpi == pytest.approx((300, 150), abs=0.1)


@pytest.mark.parametrize("format", here("PNG", "JPEG", "WEBP", "TIFF", "AVIF"))
@pytest.mark.parametrize("had_profile", [True, False])
def test_profile_is_embedded_when_the_source_had_one(format: str, had_profile: bool) -> None:
    source = Picture((Frame(picture(32, 24), None),), "PNG", had_profile=had_profile)
    assert ("icc_profile" in opened(encode(source, format)).info) == had_profile


def test_metadata_of_the_caller_stays_out() -> None:
    image = picture(32, 24)
    image.info = {"icc_profile": b"foreign", "dpi": (9, 9), "transparency": (1, 2, 3)}
    assert encode(Picture((Frame(image, None),), "PNG"), "PNG") == encode(from_pil(picture(32, 24)), "PNG")


@pytest.mark.parametrize("format", ["WEBP", "JPEG", "GIF", "TGA"])
def test_side_limit_of_a_format(format: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OutputError, match="pixels a side") as caught:
        encode(from_pil(Image.new("RGB", (70_000, 1))), format)
    assert "png" in caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_failure_of_an_encoder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the codec gave up")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OutputError, match=r"WEBP: .*the codec gave up") as caught:
        encode(from_pil(picture(32, 24)), "WEBP")
    assert caught.value.hint == "Use --format png."


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_many_threads_read_and_encode_at_once(format: str) -> None:
    source = io.BytesIO()
    picture(32, 24).save(source, "PNG", icc_profile=srgb_profile())
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: encode(read_picture(source.getvalue()), format), range(12)))
    assert len(set(results)) == 1


# --- animations


def moving(alpha: bool, loop: int | None = 0, durations: tuple[int, ...] = (50, 70, 200)) -> Picture:
    if alpha:
        return Picture(tuple(see_through(mark) for mark in (0, 4, 8)), "GIF", durations, loop)
    return Picture(tuple(Frame(picture(32, 24, seed), None) for seed in range(3)), "GIF", durations, loop)


@pytest.mark.parametrize("format", here(*MOVING, "AVIF"))
@pytest.mark.parametrize("alpha", [True, False])
def test_animation_keeps_frames_and_timing(format: str, alpha: bool) -> None:
    again = read_picture(encode(moving(alpha), format))
    assert (len(again.frames), again.durations, again.loop, again.format) == (3, (50, 70, 200), 0, format)


@pytest.mark.parametrize("format", MOVING)
@pytest.mark.parametrize("loop", [None, 0, 3])
def test_animation_keeps_its_loop(format: str, loop: int | None) -> None:
    assert read_picture(encode(moving(False, loop), format)).loop == loop


@pytest.mark.parametrize("format", MOVING)
def test_animation_keeps_its_transparency(format: str) -> None:
    again = read_picture(encode(moving(True), format, quality=100 if format == "WEBP" else None))
    for frame, source in zip(again.frames, moving(True).frames, strict=True):
        assert frame.alpha is not None
        assert source.alpha is not None
        assert frame.alpha.tobytes() == source.alpha.tobytes()


def test_gif_edge_of_the_transparent_entrys_colour_is_kept() -> None:
    """Pillow cuts a frame to what differs from the transparent entry's colour."""
    black = Frame(Image.new("RGB", (16, 16), (0, 0, 0)), None)
    white = Image.new("RGB", (16, 16), (0, 0, 0))
    white.paste((255, 255, 255), (6, 6, 9, 9))
    source = Picture((see_through(), Frame(white, None), black), "GIF", (50, 50, 50))
    again = read_picture(encode(source, "GIF"))
    assert [frame.alpha is None for frame in again.frames] == [False, True, True]


@pytest.mark.parametrize(("written", "read"), [(44, 40), (46, 50), (3, 10)])
def test_gif_timing_is_rounded(written: int, read: int) -> None:
    assert read_picture(encode(moving(False, 0, (written, 50, 50)), "GIF")).durations[0] == read


@pytest.mark.parametrize("format", ["JPEG", "BMP", "TIFF", "PPM"])
def test_animation_needs_a_format_of_frames(format: str) -> None:
    with pytest.raises(PictureError, match="3 frames") as caught:
        encode(moving(False), format)
    assert "webp" in caught.value.hint


# --- names of formats


@pytest.mark.parametrize(
    ("source", "wanted", "written"),
    [
        *((format, "same", format) for format in EVERY),
        *((format, "same", "PNG") for format in ("HEIF", "ICO", "PSD", "EPS", "XPM", "NOSUCH", "")),
        ("MPO", "same", "JPEG"),
        ("GIF", "png", "PNG"),
        ("HEIF", "jpg", "JPEG"),
        ("PNG", "webp", "WEBP"),
    ],
)
def test_output_format(source: str, wanted: str, written: str) -> None:
    assert output_format(source, wanted) == written


@pytest.mark.parametrize("format", EVERY)
def test_transparency_is_never_lost_without_a_word(format: str) -> None:
    kept = format in {*WITH_ALPHA, "GIF"}
    assert bool(lost_alpha(Picture((see_through(),), "PNG"), format)) == (not kept)
    assert lost_alpha(from_pil(smooth()), format) == ()


def test_a_gif_of_soft_edges_is_noted() -> None:
    soft = Frame(smooth(), Image.linear_gradient("L").resize((48, 32)))
    assert "gif" in str(lost_alpha(Picture((soft,), "PNG"), "GIF")[0])
    assert lost_alpha(Picture((soft,), "GIF"), "GIF") == ()  # of one that was resized
