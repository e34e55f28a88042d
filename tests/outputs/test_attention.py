"""Attention as files: what is in them, what they are called, and what panels say."""

from __future__ import annotations

import io
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests import tiny
from tests.helpers import picture, strict_json
from ugatit_cli.attention.maps import AttentionMap, Maps, Spans, Style, grid_of
from ugatit_cli.attention.words import FLAT, NEARLY_FLAT, Subject, flat_maps, legend, remark, too_small
from ugatit_cli.config import MAPS, MapName
from ugatit_cli.errors import PictureError
from ugatit_cli.outputs.attention import LAYOUTS, Heatmap, Layout, Overlay, Panel, Raw
from ugatit_cli.outputs.base import Done, Drawn, FileOptions
from ugatit_cli.pictures import colormaps, drawing, reading
from ugatit_cli.pictures.geometry import Geometry, SizeOptions, plan_geometry
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.reading import Frame, Picture

SUBJECT = Subject("models/tiny", tiny.LIGHT, "a2b")
ALL = MAPS
SIZE = (24, 20)
GEOMETRY = plan_geometry(SIZE, tiny.LIGHT, SizeOptions())


def ramp(name: MapName, geometry: Geometry, low: float = 0.0, high: float = 2.0) -> AttentionMap:
    """A map that rises from left to right."""
    width, height = (side // grid_of(tiny.LIGHT, name).stride for side in geometry.network)
    values = np.broadcast_to(np.linspace(low, high, width, dtype=np.float32), (height, width))
    return AttentionMap(name, values, (0.5, -0.25), grid_of(tiny.LIGHT, name), geometry)


def maps_of(geometry: Geometry, names: Sequence[MapName] = ALL) -> Maps:
    return {name: ramp(name, geometry) for name in names}


def make_done(
    output: str | tuple[str, ...] = "cat.png",
    *,
    frames: int = 1,
    size: tuple[int, int] = SIZE,
    alpha: Image.Image | None = None,
    captions: Sequence[str] = (),
) -> Done:
    """A picture after the networks, which gave noise."""
    geometry = plan_geometry(size, tiny.LIGHT, SizeOptions())
    sources = tuple(Frame(picture(*size, seed=seed), alpha) for seed in range(frames))
    durations = tuple(range(100, 100 + 10 * frames, 10)) if frames > 1 else ()
    read = Picture(sources, "PNG", durations, 0 if frames > 1 else None, None, False)
    outputs = [Path(one) for one in ((output,) if isinstance(output, str) else output)]
    return Done(
        Job(Path("in/cat.png"), outputs[0], tuple(outputs) if len(outputs) > 1 else ()),
        replace(read, frames=()),
        geometry,
        [np.asarray(picture(*geometry.network, seed=100 + seed)) for seed in range(frames)],
        [maps_of(geometry)] * frames,
        FileOptions(),
        [alpha] * frames,
        sources,
        captions,
    )


def content(data: bytes | None) -> bytes:
    assert data is not None
    return data


def opened(data: bytes | None) -> Picture:
    return reading.read_picture(content(data))


def contains(large: Image.Image, small: Image.Image) -> bool:
    """Whether a picture is somewhere in another one, pixel by pixel."""
    starts = np.argwhere((np.asarray(large) == np.asarray(small)[0, 0]).all(-1)).tolist()
    return any(large.crop((x, y, x + small.width, y + small.height)) == small for y, x in starts)


# --- Words ---------------------------------------------------------------------------------------------


def test_names_that_the_font_cannot_write_are_left_out() -> None:
    assert (SUBJECT.way, SUBJECT.shown_name) == ("flat → clay", ["tiny"])
    assert replace(SUBJECT, direction="b2a").way == "clay → flat"
    other = Subject("owner/模型", replace(tiny.LIGHT, domain_a="自拍", domain_b="anime"), "a2b")
    assert (other.way, other.shown_name) == ("a → anime", [])


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.0, 1.0, ""),
        (-5.0, 5.0, ""),
        (100.0, 102.0, ""),
        (100.0, 100.5, NEARLY_FLAT),
        (-100.5, -100.0, NEARLY_FLAT),
        (3.0, 3.0, FLAT),
        (0.0, 0.0, FLAT),
        (0.0, math.nan, FLAT),
        (0.0, math.inf, FLAT),
    ],
)
def test_remarks_on_maps_that_mislead(low: float, high: float, said: str) -> None:
    values = np.array([[low, high]], np.float32)
    assert remark(AttentionMap("generator", values, (0, 0), grid_of(tiny.LIGHT, "generator"), GEOMETRY)) == said


def test_a_map_is_flat_where_all_frames_are() -> None:
    geometry = GEOMETRY
    flat: Maps = {"generator": ramp("generator", geometry, 1, 1), "local": ramp("local", geometry, 1, 1)}
    risen: Maps = {"generator": ramp("generator", geometry, 1, 2), "local": ramp("local", geometry, 1, 1)}
    assert flat_maps([flat]) == ("generator", "local")
    assert flat_maps([flat, risen]) == ("local",)


def test_the_legend_explains_the_scale() -> None:
    own = legend(Style(colormap="jet"), None, ["generator"])
    assert own.colours == colormaps.colour(np.linspace(0, 1, 256), "jet").tobytes()
    assert "own scale" in own.text
    assert "discriminators" not in own.text
    assert "discriminators" in legend(Style(), None, ["generator", "local"]).text
    spans = Spans({"generator": (0.0, 12.3456), "local": (-1.0, 2.0)})
    text = legend(Style(), spans, ["generator"]).text
    assert "generator 0 to 12.3" in text
    assert "local" not in text
    assert "generator 0 to 12.3, local -1 to 2." in legend(Style(), spans, ["generator", "local", "global"]).text
    assert "One scale" in legend(Style(), Spans(), ["generator"]).text


# --- Names ---------------------------------------------------------------------------------------------


def names(layout: Layout, maps: tuple[MapName, ...], planned: str) -> list[str]:
    return [str(path) for path in LAYOUTS[layout](SUBJECT, maps).outputs(Path(planned))]


def test_names_of_files() -> None:
    assert names("panel", ALL, "out/cat.png") == ["out/cat.png"]
    for layout in ("overlay", "heatmap"):
        both = ["out/cat.local.gif", "out/cat.global.gif"]
        assert names(layout, ("local", "global"), "out/cat.generator.gif") == both
        assert names(layout, ("local",), "out/cat.png") == ["out/cat.png"]
        # A picture that has this name already.
        assert names(layout, ("local",), "out/cat.generator.png") == ["out/cat.generator.png"]
    assert names("raw", ("local",), "out/cat.generator.npy") == ["out/cat.json", "out/cat.local.npy"]


SUBSETS = [subset for count in (1, 2, 3) for subset in itertools.combinations(MAPS, count)]


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=50))
def test_names_are_distinct_and_no_longer_than_planned(stem: str) -> None:
    ways: list[tuple[Layout, str]] = [("overlay", ".png"), ("overlay", ".jpeg"), ("raw", ".npy")]
    for (layout, ending), subset in itertools.product(ways, SUBSETS):
        if layout == "raw" or len(subset) > 1:
            planned = f"{stem}.generator{ending}"
            found = names(layout, subset, planned)
            assert len(set(found)) == len(found) == len(subset) + (layout == "raw")
            assert all(len(os.fsencode(name)) <= len(os.fsencode(planned)) for name in found)
            assert all(name.startswith(f"{stem}.") for name in found)


# --- Panels --------------------------------------------------------------------------------------------


Panels = list[tuple[str, Sequence[drawing.Cell], drawing.Legend]]


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> Panels:
    """What goes into panels, which are drawn all the same: heading, cells, legend."""
    found: Panels = []
    draw = drawing.draw_panel

    def keep(heading: str, cells: Sequence[drawing.Cell], legend: drawing.Legend, **options: Any) -> Image.Image:
        found.append((heading, cells, legend))
        return draw(heading, cells, legend, **options)

    monkeypatch.setattr(drawing, "draw_panel", keep)
    return found


def test_a_panel(panels: Panels) -> None:
    done = make_done()
    drawn = Panel(SUBJECT, ALL, Style(0.5)).draw(done)
    (data,) = drawn.files
    panel = opened(data).frames[0].rgb
    assert drawn == Drawn([data], panel.size)
    ((heading, cells, _),) = panels
    assert heading == "flat → clay · tiny"
    titles = ["input", "generator attention", "translation", "local discriminator", "global discriminator"]
    assert [(cell.title, cell.note) for cell in cells] == [(title, "") for title in titles]
    assert cells[0].picture == done.inputs[0] == picture(*SIZE)
    assert cells[2].picture == done.translations[0]
    for cell, under, name in ((cells[1], done.inputs[0], "generator"), (cells[3], done.translations[0], "local")):
        heat = done.maps[0][name].over_picture()  # type: ignore[index]
        assert cell.picture == Image.blend(under, colormaps.coloured(heat), 0.5)
    assert all(cell.picture and contains(panel, cell.picture) for cell in cells)
    Panel(SUBJECT, ("global",)).draw(done)
    assert [cell.title for cell in panels[1][1]] == ["input", "translation", "global discriminator"]


def test_a_panel_says_what_is_flat_and_what_is_too_small(panels: Panels) -> None:
    done = make_done()
    done.maps = [{"generator": ramp("generator", GEOMETRY, 3, 3), "local": ramp("local", GEOMETRY, 90, 90.1)}]
    assert Panel(SUBJECT, ALL).draw(done).flat == ("generator",)
    ((_, cells, _),) = panels
    assert (cells[1].note, cells[1].picture) == (FLAT, done.inputs[0])
    assert cells[3].note == NEARLY_FLAT
    assert (cells[4].note, cells[4].picture) == (too_small(tiny.LIGHT, "global", GEOMETRY), None)


def test_an_animated_panel(panels: Panels) -> None:
    done = make_done("cat.webp", frames=3, captions=["step 1", "step 20", "step 3,000"])
    (data,) = Panel(SUBJECT, ("generator",)).draw(done).files
    result = opened(data)
    assert (result.format, result.durations, result.loop) == ("WEBP", (100, 110, 120), 0)
    assert [heading for heading, _, _ in panels] == [f"flat → clay · tiny · {step}" for step in done.captions]
    assert [cells[0].picture for _, cells, _ in panels] == list(done.inputs)
    assert [cells[2].picture for _, cells, _ in panels] == list(done.translations)


def test_panels_show_pictures_neither_tiny_nor_huge() -> None:
    small, large = (plan_geometry(size, tiny.LIGHT, SizeOptions()) for size in ((20, 10), (3000, 1500)))
    assert Panel(SUBJECT, ALL).resized(small) == small
    assert Panel(SUBJECT, ALL, shown=True).resized(small) == replace(small, output=(160, 80))
    assert Panel(SUBJECT, ALL, shown=True).resized(large).output == (drawing.MAX_SHOWN, drawing.MAX_SHOWN // 2)


def test_one_scale_for_all_pictures(panels: Panels) -> None:
    spans, done = Spans({"generator": (0.0, 4.0)}), make_done()  # the ramp goes to 2
    Panel(SUBJECT, ("generator",), Style(alpha=1), spans).draw(done)
    Heatmap(SUBJECT, ("generator",), spans=spans).draw(done)
    heat = done.maps[0]["generator"].over_picture(span=(0.0, 4.0))
    assert heat.max() == 0.5
    for _, cells, scale in panels:
        assert next(cell for cell in cells if "attention" in cell.title).picture == colormaps.coloured(heat)
        assert scale.text.startswith("One scale for all pictures: generator 0 to 4.")


# --- One picture for each map --------------------------------------------------------------------------


def test_overlays_of_a_picture_with_transparency() -> None:
    alpha = Image.fromarray(np.linspace(0, 255, SIZE[0] * SIZE[1]).astype(np.uint8).reshape(SIZE[1], SIZE[0]))
    done = make_done(("cat.generator.png", "cat.local.png", "cat.global.png"), alpha=alpha)
    drawn = Overlay(SUBJECT, ALL, Style(0.25, "viridis", "bicubic")).draw(done)
    assert (drawn.size, drawn.flat) == (SIZE, ())
    for name, data in zip(ALL, drawn.files, strict=True):
        heat = done.maps[0][name].over_picture(upsampling="bicubic")
        under = (done.inputs if name == "generator" else done.translations)[0]
        (frame,) = opened(data).frames
        assert frame.rgb == Image.blend(under, colormaps.coloured(heat, "viridis"), 0.25)
        assert frame.alpha == alpha
    # A heatmap is no picture of the source.
    (heatmap,) = Heatmap(SUBJECT, ("generator",)).draw(make_done(alpha=alpha)).files
    assert opened(heatmap).frames[0].alpha is None


def test_a_heatmap_is_the_colours_with_a_scale(panels: Panels) -> None:
    done = make_done("cat.png", captions=["step 7"])
    drawn = Heatmap(SUBJECT, ("local",), Style(colormap="jet")).draw(done)
    result = opened(drawn.files[0]).frames[0].rgb
    assert drawn.size == result.size != SIZE
    assert contains(result, colormaps.coloured(done.maps[0]["local"].over_picture(), "jet"))
    ((heading, (cell,), scale),) = panels
    assert (heading, cell.title) == ("flat → clay · step 7", "local discriminator")
    assert scale.colours.endswith(colormaps.colour(np.ones(1), "jet").tobytes())


@pytest.mark.parametrize("layout", ["overlay", "heatmap", "raw"])
def test_a_map_that_is_not_there(layout: Layout) -> None:
    done = make_done(("a", "b", "c"))
    done.maps = [maps_of(done.geometry, ("generator", "local"))]
    with pytest.raises(PictureError, match=r"^in/cat.png: no global map: too small for the global dis") as raised:
        LAYOUTS[layout](SUBJECT, ALL).draw(done)
    assert "--maps generator" in raised.value.hint
    done.job = replace(done.job, output=Path("a.png"), several=tuple(map(Path, "abcd")))
    drawn = LAYOUTS[layout](SUBJECT, ALL, by_name=False).draw(done)
    assert [data is None for data in drawn.files[-3:]] == [False, False, True]
    assert drawn.notes == ("no global map: too small for the global discriminator (6 pixels a side)",)
    done.maps = [{}]
    with pytest.raises(PictureError, match="no generator map"):
        LAYOUTS[layout](SUBJECT, ("generator",), by_name=False).draw(done)


# --- Numbers -------------------------------------------------------------------------------------------


def test_raw_numbers() -> None:
    done = make_done(("out/cat.json", "out/cat.generator.npy", "out/cat.local.npy"))
    drawn = Raw(SUBJECT, ("generator", "local")).draw(done)
    document = strict_json(content(drawn.files[0]))
    maps = document.pop("maps")
    assert document == {
        "input": "in/cat.png",
        "model": "models/tiny",
        "direction": "a2b",
        "source": "flat",
        "target": "clay",
        "frames": 1,
        "network_size": [40, 32],
        "picture_in_network": [1, 0, 38, 32],
        "tile": 0,
    }
    assert drawn.size == (40, 32)
    assert maps["generator"] == {
        "file": "cat.generator.npy",
        "shape": [8, 10],
        "cells": {"stride": 4, "first_centre": 2},
        "probability_of": "flat",
        "frame": {
            "low": 0.0,
            "high": 2.0,
            "flat": False,
            "logits": {"average": 0.5, "maximum": -0.25},
            "probabilities": {
                "average": pytest.approx(1 / (1 + math.exp(-0.5))),
                "maximum": pytest.approx(1 / (1 + math.exp(0.25))),
            },
        },
    }
    assert maps["local"]["probability_of"] == "real"
    assert maps["local"]["frame"]["probabilities"] == {"average": 0.5, "maximum": 0.0}
    assert maps["local"]["cells"] == {"stride": 2, "first_centre": 2}
    for name, data in zip(("generator", "local"), drawn.files[1:], strict=True):
        values = np.load(io.BytesIO(content(data)), allow_pickle=False)
        assert values.dtype == np.float32
        assert list(values.shape) == maps[name]["shape"]
        assert (values == done.maps[0][name].values).all()  # type: ignore[index]


def test_raw_numbers_of_an_animation() -> None:
    done = make_done(("cat.json", "cat.global.npy"), frames=3)
    done.maps = [{"global": ramp("global", done.geometry, 0, high)} for high in (1, 2, 3)]
    tops = [maps["global"].span[1] for maps in done.maps]  # padding doesn't count
    drawn = Raw(SUBJECT, ("global",)).draw(done)
    document = strict_json(content(drawn.files[0]))
    assert document["frames"] == 3
    entry = document["maps"]["global"]
    assert "frame" not in entry
    assert [frame["high"] for frame in entry["frames"]] == tops
    values = np.load(io.BytesIO(content(drawn.files[1])), allow_pickle=False)
    assert list(values.shape) == entry["shape"] == [3, 16, 20]
    assert values.max((1, 2)).tolist() == [1.0, 2.0, 3.0]


def test_raw_numbers_that_are_none_and_a_name_that_is_no_text() -> None:
    done = make_done(("cat.json", "cat.generator.npy"))
    done.job = replace(done.job, source=Path(os.fsdecode(b"caf\xe9.png")))
    none = np.full((8, 10), np.nan, np.float32)
    done.maps = [{"generator": replace(ramp("generator", GEOMETRY), values=none, logits=(math.inf, math.nan))}]
    drawn = Raw(SUBJECT, ("generator",)).draw(done)
    document = strict_json(content(drawn.files[0]))
    assert os.fsencode(document["input"]) == b"caf\xe9.png"
    frame = document["maps"]["generator"]["frame"]
    assert (frame["low"], frame["high"], frame["flat"]) == (None, None, True)
    assert frame["logits"] == {"average": None, "maximum": None}
    assert drawn.flat == ("generator",)
