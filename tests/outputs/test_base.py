"""What is known of a picture that went through the networks."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.helpers import pixels
from tests.outputs.test_attention import content, make_done
from ugatit_cli.outputs.base import Done, FileOptions, Translation
from ugatit_cli.pictures.geometry import WHITE, Geometry, Size, from_network
from ugatit_cli.pictures.look import Look
from ugatit_cli.pictures.reading import Frame

SIZE = (8, 4)
CLEAR = Image.new("L", SIZE)
CLEAR.paste(255, (4, 0, *SIZE))  # nothing at the left, all at the right


def done(alpha: Image.Image | None = None, output: str = "b.png", **options: object) -> Done:
    """A red picture that becomes dark noise, twice as large, with padding above and below."""
    one = make_done(output, size=SIZE, alpha=alpha)
    return replace(
        one,
        picture=replace(one.picture, dpi=(300.0, 300.0)),
        geometry=Geometry(SIZE, (16, 16), (16, 8)),
        pixels=[pixels(16, 16) // 2],
        sources=(Frame(Image.new("RGB", SIZE, "red"), alpha),),
        files=FileOptions(**options),  # type: ignore[arg-type]
    )


def opened(one: Done) -> Image.Image:
    """The translation as a file."""
    (data,) = Translation().draw(one).files
    return Image.open(io.BytesIO(content(data)))


def test_the_translation_is_cut_out_and_has_the_results_size() -> None:
    one = done()
    (frame,) = replace(one, geometry=replace(one.geometry, output=SIZE)).frames
    assert frame.alpha is None
    np.testing.assert_array_equal(np.asarray(frame.rgb), one.pixels[0][6:10, 4:12])
    (frame,) = done(CLEAR).frames
    assert frame.alpha is not None
    assert frame.alpha.size == frame.rgb.size == (16, 8)
    assert (frame.alpha.getpixel((1, 4)), frame.alpha.getpixel((14, 4))) == (0, 255)


def test_what_the_networks_looked_at() -> None:
    one = done(CLEAR, background=(0, 0, 255))
    (looked_at,), (result,) = one.inputs, one.translations
    assert looked_at.mode == result.mode == "RGB"
    assert looked_at.size == result.size == (16, 8)
    assert (looked_at.getpixel((1, 4)), looked_at.getpixel((14, 4))) == ((0, 0, 255), (255, 0, 0))
    # What left the generator, not what transparency and its rounding make of it.
    assert result.tobytes() == from_network(one.pixels[0], one.geometry).tobytes()
    assert done().translations[0].tobytes() == from_network(done().pixels[0], one.geometry).tobytes()


def test_files_have_resolution_opacity_quality_and_background() -> None:
    written = opened(done(CLEAR))
    assert (written.mode, written.size) == ("RGBA", (16, 8))
    assert written.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    rough, fine = (done(CLEAR, "b.jpg", quality=quality) for quality in (10, 90))
    assert len(rough.encoded(rough.frames)) < len(fine.encoded(rough.frames))
    for background in (WHITE, (0, 0, 0)):
        corner = np.asarray(opened(done(CLEAR, "b.jpg", background=background)))[4, 1].astype(int)
        assert np.abs(corner - background).max() < 30


@pytest.mark.parametrize("alpha", [None, CLEAR])
@pytest.mark.parametrize("size", [SIZE, (16, 8), (5, 3)])
@pytest.mark.parametrize("look", [Look(0), Look(0.3), Look(keep_colour=True)])
def test_a_look_mixes_pictures_of_the_results_size(look: Look, size: Size, alpha: Image.Image | None) -> None:
    """Whatever the size: red stays red without strength, also at soft edges."""
    one = done(alpha)
    one = replace(one, geometry=replace(one.geometry, output=size))
    (plain,), (frame,) = one.frames, replace(one, look=look).frames
    assert frame.rgb.size == size
    assert frame.alpha == plain.alpha
    seen = np.asarray(frame.alpha or Image.new("L", size, 255)) > 0
    shown = np.asarray(frame.rgb, int)[seen]
    if look.strength == 0:
        assert np.abs(shown - (255, 0, 0)).max() <= 2
    else:
        assert np.abs(shown - np.asarray(plain.rgb)[seen]).max() > 20


def test_every_style_has_the_look() -> None:
    one = replace(done(), others=[[pixels(16, 16, 1)], [pixels(16, 16, 2)]], look=Look(0))
    for style in one.styles():
        assert style.frames[0].rgb.getextrema() == ((255, 255), (0, 0), (0, 0))
