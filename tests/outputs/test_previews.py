"""What the report shows of a picture."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from tests.outputs.test_attention import SUBJECT, make_done, ramp
from ugatit_cli.attention.maps import Spans
from ugatit_cli.attention.style import FLAT, Style, too_small
from ugatit_cli.config import MAPS, MapName
from ugatit_cli.outputs.attention import Heatmap, Overlay, Panel
from ugatit_cli.outputs.base import Done, Drawing, Layer, Preview, Translation
from ugatit_cli.outputs.report import HEAT, PICTURE, Previewed
from ugatit_cli.pictures import colormaps
from ugatit_cli.pictures.geometry import Size
from ugatit_cli.pictures.reading import Frame


def noise(size: Size, seed: int = 0) -> Image.Image:
    """Smooth, so that lossy formats keep it."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def made(size: Size, *, frames: int = 1, alpha: Image.Image | None = None, output: str = "cat.png") -> Done:
    """A picture after the networks, smooth before and after."""
    done = make_done(output, frames=frames, size=size, alpha=alpha)
    done.sources = [Frame(noise(size, n), alpha) for n in range(frames)]
    done.pixels = [np.asarray(noise(done.geometry.network, 100 + n)) for n in range(frames)]
    return done


def preview_of(done: Done, drawing: Drawing | None = None, maps: tuple[MapName, ...] = MAPS) -> Preview:
    style = getattr(drawing, "style", Style())
    drawn = Previewed(drawing or Translation(), SUBJECT, maps, style).draw(done)
    assert drawn.preview
    return drawn.preview


def opened(webp: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(webp))
    assert image.format == "WEBP"
    return image


def difference(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(np.asarray(a.convert("RGB"), np.float32) - np.asarray(b.convert("RGB"), np.float32)).mean())


# --- Another drawing -----------------------------------------------------------------------------------


def test_results_are_those_of_the_drawing() -> None:
    spans = Spans({"generator": (0.0, 2.0)})
    for drawing in (Translation(), Overlay(SUBJECT, ("generator",), spans=spans), Panel(SUBJECT, MAPS, shown=True)):
        previewed = Previewed(drawing, SUBJECT, MAPS)
        done = made((24, 20))
        plain, drawn = drawing.draw(done), previewed.draw(done)
        assert (drawn.files, drawn.size, drawn.flat) == (plain.files, plain.size, plain.flat)
        assert plain.preview is None
        assert previewed.spans is drawing.spans
        assert previewed.resized(done.geometry) == drawing.resized(done.geometry)
        assert previewed.sees_source
        for name in ("cat.png", "cat.generator.png"):
            assert previewed.outputs(Path(name)) == drawing.outputs(Path(name))


# --- Before and after ----------------------------------------------------------------------------------


def test_before_and_after() -> None:
    done = made((300, 200))
    preview = preview_of(done)
    assert opened(preview.before).size == opened(preview.after).size == (300, 200)
    assert difference(opened(preview.before), noise((300, 200))) < 3
    assert difference(opened(preview.after), done.translations[0]) < 3
    assert difference(opened(preview.before), opened(preview.after)) > 20
    assert preview.frames == 1


@pytest.mark.parametrize(
    ("size", "shown"),
    [((1024, 768), (512, 384)), ((768, 1024), (384, 512)), ((700, 3), (512, 2)), ((4000, 1), (512, 1))],
)
def test_large_pictures_are_shown_smaller(size: Size, shown: Size) -> None:
    preview = preview_of(made(size), maps=("generator",))
    assert opened(preview.before).size == opened(preview.after).size == shown
    assert max(shown) == PICTURE


def test_pictures_are_as_large_as_the_result() -> None:
    done = made((30, 20))
    done.geometry = replace(done.geometry, output=(90, 60))
    preview = preview_of(done)
    assert opened(preview.before).size == opened(preview.after).size == (90, 60)


def test_transparency_is_kept() -> None:
    alpha = Image.new("L", (60, 40), 255)
    alpha.paste(0, (0, 0, 30, 40))
    preview = preview_of(made((60, 40), alpha=alpha))
    for data in (preview.before, preview.after):
        assert opened(data).convert("RGBA").getchannel("A").tobytes() == alpha.tobytes()


def test_of_an_animation_the_first_frame_is_shown() -> None:
    done = made((60, 40), frames=3, output="cat.webp")
    preview = preview_of(done)
    assert preview.frames == 3
    assert not getattr(opened(preview.before), "is_animated", False)
    assert difference(opened(preview.before), noise((60, 40))) < 3
    assert difference(opened(preview.after), done.translations[0]) < 3


# --- Attention -----------------------------------------------------------------------------------------


def test_layers() -> None:
    done = made((64, 48))
    layers = preview_of(done, Overlay(SUBJECT, ("generator",), Style(colormap="viridis"))).layers
    assert [(layer.name, layer.title, layer.over) for layer in layers] == [
        ("generator", "generator attention", "before"),
        ("local", "local discriminator", "after"),
        ("global", "global discriminator", "after"),
    ]
    assert layers[0].note == "CAM: comes from flat with p = 0.62 (average pooling), 0.44 (maximum)"
    assert layers[1].note == "CAM: is real with p = 0.50 (average pooling), 0.00 (maximum)"
    for layer in layers:
        one = done.maps[0][layer.name]  # type: ignore[index]
        colours = opened(layer.colours)
        assert colours.size == one.geometry.scaled
        assert difference(colours, colormaps.coloured(one.over_picture(colours.size), "viridis")) < 4


def test_the_domain_is_that_of_the_direction() -> None:
    drawn = Previewed(Translation(), replace(SUBJECT, direction="b2a"), ("generator",)).draw(made((24, 20)))
    assert drawn.preview
    assert "comes from clay" in drawn.preview.layers[0].note


def test_colours_are_small() -> None:
    done = made((2000, 1000))
    done.geometry = replace(done.geometry, scaled=(512, 256), network=(512, 256))
    done.pixels = [np.asarray(noise((512, 256)))]
    done.maps = [{"generator": ramp("generator", done.geometry)}]
    (layer,) = preview_of(done, maps=("generator",)).layers
    assert opened(layer.colours).size == (HEAT, HEAT // 2)


def test_a_map_that_is_nearly_flat_is_called_so() -> None:
    done = made((24, 20))
    one = ramp("generator", done.geometry)
    done.maps = [{"generator": replace(one, values=np.asarray(90 + one.values / 100, np.float32))}]
    (layer,) = preview_of(done, maps=("generator",)).layers
    assert layer.colours
    assert layer.note.startswith("nearly flat")
    assert "CAM: comes from flat" in layer.note


def test_what_has_no_colours_says_why() -> None:
    done = made((24, 20))
    done.maps = [{"generator": ramp("generator", done.geometry, 0, 0), "local": ramp("local", done.geometry)}]
    flat, local, small = preview_of(done).layers
    assert flat == Layer("generator", "generator attention", "before", b"", FLAT)
    assert local.colours
    assert small == Layer(
        "global", "global discriminator", "after", b"", too_small(tiny.LIGHT, "global", done.geometry)
    )


def test_no_attention_at_all() -> None:
    done = made((24, 20), frames=2)
    done.maps = [{}, {}]
    preview = preview_of(done, maps=())
    assert (preview.layers, preview.frames) == ((), 2)


def test_one_scale_for_all_pictures() -> None:
    spans = Spans({"generator": (0.0, 100.0)})
    (layer,) = preview_of(made((64, 48)), Heatmap(SUBJECT, ("generator",), spans=spans), ("generator",)).layers
    lowest = Image.new("RGB", (43, 32), tuple(colormaps.colour(np.zeros(()))))
    assert difference(opened(layer.colours), lowest) < 2
