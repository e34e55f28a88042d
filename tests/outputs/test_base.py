"""What is made of a picture that went through the networks."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import pixels
from ugatit_cli.outputs.base import Done, FileOptions
from ugatit_cli.pictures.geometry import WHITE, Geometry, from_network
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.reading import Frame, Picture

SIZE = (8, 4)
PLAN = Geometry(SIZE, (16, 16), (16, 8))


def half_clear(size: tuple[int, int] = SIZE) -> Image.Image:
    """Nothing at the left, all at the right."""
    alpha = Image.new("L", size)
    alpha.paste(255, (size[0] // 2, 0, *size))
    return alpha


RED = Frame(Image.new("RGB", SIZE, "red"), None)
CLEAR = Frame(Image.new("RGB", SIZE, "red"), half_clear())


def done(
    *frames: Frame, output: str | None = "b.png", files: FileOptions | None = None, geometry: Geometry = PLAN
) -> Done:
    """After the networks, which gave noise."""
    count = len(frames)
    return Done(
        Job(Path("a.png"), None if output is None else Path(output)),
        Picture((), "PNG", (100, 150) if count > 1 else (), 0 if count > 1 else None, (300.0, 300.0)),
        geometry,
        [pixels(16, 16, seed) for seed in range(count)],
        [{}] * count,
        files or FileOptions(),
        [frame.alpha for frame in frames],
        frames,
    )


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


# --- Pictures ------------------------------------------------------------------------------------------


def test_the_translation_is_cut_out_and_has_the_results_size() -> None:
    (frame,) = done(RED, geometry=dataclasses.replace(PLAN, output=SIZE)).frames
    assert frame.alpha is None
    np.testing.assert_array_equal(np.asarray(frame.rgb), pixels(16, 16)[6:10, 4:12])
    assert done(RED).frames[0].rgb.size == (16, 8)


def test_opacity_is_as_large_as_the_result() -> None:
    (frame,) = done(CLEAR).frames
    assert frame.alpha is not None
    assert frame.alpha.size == frame.rgb.size == (16, 8)
    assert (frame.alpha.getpixel((1, 4)), frame.alpha.getpixel((14, 4))) == (0, 255)


def test_what_the_networks_looked_at() -> None:
    one = done(CLEAR, files=FileOptions(background=(0, 0, 255)))
    (looked_at,), (result,) = one.inputs, one.translations
    assert looked_at.mode == result.mode == "RGB"
    assert looked_at.size == result.size == (16, 8)
    assert (looked_at.getpixel((1, 4)), looked_at.getpixel((14, 4))) == ((0, 0, 255), (255, 0, 0))
    # What left the generator, not what transparency and its rounding make of it.
    assert result.tobytes() == from_network(one.pixels[0], one.geometry).tobytes()
    assert done(RED).translations[0].tobytes() == done(RED).frames[0].rgb.tobytes()


# --- Files ---------------------------------------------------------------------------------------------


def test_files_keep_resolution_and_opacity() -> None:
    one = done(CLEAR)
    with opened(one.encoded(one.frames)) as written:
        assert written.mode == "RGBA"
        assert written.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_quality_and_background_reach_the_file() -> None:
    rough, fine = (
        (one := done(CLEAR, output="b.jpg", files=FileOptions(quality=quality))).encoded(one.frames)
        for quality in (10, 90)
    )
    assert len(rough) < len(fine)
    for background in (WHITE, (0, 0, 0)):
        one = done(CLEAR, output="b.jpg", files=FileOptions(background=background))
        with opened(one.encoded(one.frames)) as written:
            corner = np.asarray(written)[4, 1].astype(int)
        assert np.abs(corner - background).max() < 30


# --- The translation itself ----------------------------------------------------------------------------
