"""What is made of a picture that went through the networks."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ugatit_cli.errors import PictureError
from ugatit_cli.outputs.base import Done, Drawing, FileOptions, Translation
from ugatit_cli.pictures import geometry, reading
from ugatit_cli.pictures.geometry import WHITE, Geometry, Pixels
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.reading import Frame, Picture

SIZE = (8, 4)
PLAN = Geometry(SIZE, (16, 16), (16, 8))


def pixels(seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def half_clear(size: tuple[int, int] = SIZE) -> Image.Image:
    """Nothing at the left, all at the right."""
    alpha = Image.new("L", size)
    alpha.paste(255, (size[0] // 2, 0, *size))
    return alpha


def source(*frames: Frame) -> Picture:
    durations = tuple(100 + 50 * i for i in range(len(frames))) if len(frames) > 1 else ()
    return Picture(frames, "PNG", durations, 0 if durations else None, (300.0, 300.0))


RED = Frame(Image.new("RGB", SIZE, "red"), None)
CLEAR = Frame(Image.new("RGB", SIZE, "red"), half_clear())


class Reader:
    """Reads a picture again, and counts how often."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.times = 0

    def __call__(self) -> Picture:
        self.times += 1
        return self.picture


def done(
    read: Callable[[], Picture], *, output: str | None = "b.png", frames: int = 1, files: FileOptions | None = None
) -> Done:
    return Done(
        Job(Path("a.png"), None if output is None else Path(output)),
        Picture((), "PNG", (100, 150) if frames > 1 else (), 0 if frames > 1 else None, (300.0, 300.0)),
        SIZE,
        PLAN,
        [pixels(seed) for seed in range(frames)],
        [{}] * frames,
        files or FileOptions(),
        read,
    )


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


# --- Pictures ------------------------------------------------------------------------------------------


def test_the_translation_is_cut_out_and_has_the_results_size() -> None:
    one = dataclasses.replace(done(Reader(source(RED))), plan=dataclasses.replace(PLAN, output=SIZE), alphas=[None])
    (frame,) = one.frames
    assert frame.alpha is None
    np.testing.assert_array_equal(np.asarray(frame.rgb), pixels()[6:10, 4:12])
    assert done(Reader(source(RED))).frames[0].rgb.size == (16, 8)


def test_known_opacity_needs_no_second_look_at_the_source() -> None:
    reader = Reader(source(RED))
    one = dataclasses.replace(done(reader), alphas=[half_clear()])
    (frame,) = one.frames
    assert frame.alpha is not None
    assert frame.alpha.size == frame.rgb.size == (16, 8)
    assert (frame.alpha.getpixel((1, 4)), frame.alpha.getpixel((14, 4))) == (0, 255)
    assert one.translations[0].size == (16, 8)
    assert reader.times == 0


def test_opacity_that_was_not_kept_is_read_again_once() -> None:
    reader = Reader(source(CLEAR))
    one, known = done(reader), dataclasses.replace(done(reader), alphas=[half_clear()])
    again, kept = one.frames[0], known.frames[0]
    assert again.alpha is not None
    assert kept.alpha is not None
    assert (again.alpha.tobytes(), again.rgb.tobytes()) == (kept.alpha.tobytes(), kept.rgb.tobytes())
    assert one.inputs
    assert one.sources is one.sources
    assert reader.times == 1


def test_what_the_networks_looked_at() -> None:
    one = done(Reader(source(CLEAR)), files=FileOptions(background=(0, 0, 255)))
    (looked_at,), (result,) = one.inputs, one.translations
    assert looked_at.mode == result.mode == "RGB"
    assert looked_at.size == result.size == (16, 8)
    assert (looked_at.getpixel((1, 4)), looked_at.getpixel((14, 4))) == ((0, 0, 255), (255, 0, 0))
    # What left the generator, not what transparency and its rounding make of it.
    assert result.tobytes() == geometry.from_network(one.pixels[0], one.plan).tobytes()


def test_a_translation_without_transparency_is_the_frame_itself() -> None:
    one = done(Reader(source(RED)))
    assert one.translations[0].tobytes() == one.frames[0].rgb.tobytes()


@pytest.mark.parametrize(
    "changed",
    [
        source(Frame(Image.new("RGB", (8, 5)), None)),
        source(Frame(Image.new("RGB", SIZE[::-1]), None)),
        source(RED, RED),
    ],
    ids=["height", "turned", "frames"],
)
def test_a_source_that_has_changed_meanwhile(changed: Picture) -> None:
    one = done(Reader(changed))
    for look in (lambda: one.sources, lambda: one.frames, lambda: one.inputs):
        with pytest.raises(PictureError, match=r"^a\.png: changed while it was translated$") as caught:
            look()
        assert caught.value.hint


# --- Files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "wanted", "format"),
    [
        ("b.jpg", "same", "JPEG"),
        ("b.webp", "png", "WEBP"),  # names were chosen with the format in mind
        (None, "same", "PNG"),
        (None, "jpg", "JPEG"),
        (None, "gif", "GIF"),
    ],
)
def test_formats(output: str | None, wanted: str, format: str) -> None:
    one = done(Reader(source(RED)), output=output, files=FileOptions(format=wanted))
    assert one.format == format
    with opened(one.encoded(one.frames)) as written:
        assert written.format == format
        assert written.size == (16, 8)


def test_files_keep_resolution_and_opacity() -> None:
    one = done(Reader(source(CLEAR)))
    with opened(one.encoded(one.frames)) as written:
        assert written.mode == "RGBA"
        assert written.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_files_keep_an_animations_timing(tmp_path: Path) -> None:
    one = done(Reader(source(RED, RED)), output="b.webp", frames=2)
    (tmp_path / "b.webp").write_bytes(one.encoded(one.frames))
    picture = reading.read_picture(tmp_path / "b.webp")
    assert (picture.durations, picture.loop, len(picture.frames)) == ((100, 150), 0, 2)
    assert picture.frames[0].rgb.tobytes() != picture.frames[1].rgb.tobytes()


def test_quality_and_background_reach_the_file() -> None:
    reader = Reader(source(CLEAR))
    rough, fine = (
        (one := done(reader, output="b.jpg", files=FileOptions(quality=quality))).encoded(one.frames)
        for quality in (10, 90)
    )
    assert len(rough) < len(fine)
    for background in (WHITE, (0, 0, 0)):
        one = done(reader, output="b.jpg", files=FileOptions(background=background))
        with opened(one.encoded(one.frames)) as written:
            corner = np.asarray(written)[4, 1].astype(int)
        assert np.abs(corner - background).max() < 30


# --- The translation itself ----------------------------------------------------------------------------


def test_the_translation_is_drawn_as_one_file() -> None:
    drawing: Drawing = Translation()
    reader = Reader(source(RED))
    one = dataclasses.replace(done(reader), alphas=[None])
    drawn = drawing.draw(one)
    assert drawn.files == [one.encoded(one.frames)]
    assert (drawn.size, drawn.flat, drawn.preview) == ((16, 8), (), None)
    assert reader.times == 0
    assert drawing.outputs(Path("out/b.png")) == (Path("out/b.png"),)
    assert drawing.resized(PLAN) is PLAN
    assert (drawing.maps, drawing.spans, drawing.reads_again) == ((), None, False)
