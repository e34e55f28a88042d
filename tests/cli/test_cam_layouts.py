"""What `ugatit cam` makes of pictures: numbers, panels, overlays, colours, with all kinds of models."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from tests.cli.cam_results import CPU, MAPLESS, animation, array, document, made, shown
from tests.cli.conftest import Command, below, picture, put
from ugatit_cli.attention.words import FLAT
from ugatit_cli.config import MAPS
from ugatit_cli.outputs import attention
from ugatit_cli.pictures import colormaps, reading
from ugatit_cli.translation.model import Model

# --- Numbers -------------------------------------------------------------------------------------------


def test_raw_numbers_are_those_of_the_api(cam: Command, network: Model) -> None:
    picture(100, 33).save("a.png")
    assert cam("a.png", "--layout", "raw", "--direction", "b2a").code == 0
    found = document("attention/a.json")
    assert (found["source"], found["target"], found["direction"]) == ("clay", "flat", "b2a")
    (maps,) = network.attention_maps([picture(100, 33)], "b2a").maps
    assert list(found["maps"]) == list(maps) == list(MAPS)
    for name, one in maps.items():
        np.testing.assert_array_equal(array(f"attention/a.{name}.npy"), one.values)
        frame = found["maps"][name]["frame"]
        assert tuple(frame["logits"].values()) == one.logits
        assert tuple(frame["probabilities"].values()) == one.probabilities


def test_raw_numbers_of_tiles(cam: Command) -> None:
    picture(100, 70).save("large.png")
    assert cam("large.png", "--layout", "raw", "--fit", "native", "--tile", "64", "-o", "out").code == 0
    assert document("out/large.json")["tile"] == 64
    assert array("out/large.generator.npy").shape == (18, 25)


@pytest.mark.parametrize("options", [("overlay",), ("heatmap", "--maps", "generator,local"), ("raw",)])
def test_names_are_explained_where_pictures_are_called_alike(cam: Command, options: tuple[str, ...]) -> None:
    put("in/a.png", "alike/b.png", "alike/b.jpg")
    assert "called alike" not in cam("in", "-o", "out", "--dry-run", "--layout", *options).stderr
    same = () if options == ("raw",) else ("--format", "png")
    outcome = cam("alike", "-o", "out", *same, "--dry-run", "--layout", *options)
    assert "alike/b.jpg" in next(line for line in outcome.stderr.splitlines() if "called alike" in line)
    assert len(set(outcome.lines)) == len(outcome.lines)


# --- Pictures ------------------------------------------------------------------------------------------


def test_heatmaps_are_in_the_default_colours(cam: Command, network: Model) -> None:
    put("a.png")
    assert cam("a.png", "--layout", "heatmap", "--maps", "generator", "-o", "h.png").code == 0
    wanted = np.asarray(colormaps.coloured(network.attention_maps([picture()]).heat(0, "generator"), "inferno"))
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(shown("h.png")), wanted.shape)[:, :, 0]
    assert (windows == wanted).all((2, 3, 4)).any()


def test_overlays_are_those_of_the_api(cam: Command, network: Model) -> None:
    picture(70, 50).save("a.png")
    arguments = ("--alpha", "0.3", "--colormap", "jet", "--upsample", "bicubic", "--size", "35x25")
    assert cam("a.png", "--layout", "overlay", *arguments, "-o", "out").code == 0
    found = network.attention_maps([picture(70, 50)], size="35x25")
    for name in MAPS:
        wanted = found.overlay(0, name, alpha=0.3, colormap="jet", upsampling="bicubic")
        assert shown(f"out/a.{name}.png").tobytes() == wanted.tobytes()


def test_under_the_colours_is_what_translate_makes(cam: Command, ugatit: Command, judged: str) -> None:
    put("a.png")
    assert cam("a.png", "--layout", "overlay", "--alpha", "0", "-o", "out").code == 0
    assert ugatit("translate", "a.png", "--model", judged, *CPU, "-o", "b.png").code == 0
    assert shown("out/a.generator.png").tobytes() == picture().tobytes()
    assert shown("out/a.local.png").tobytes() == shown("out/a.global.png").tobytes() == shown("b.png").tobytes()


def test_panels_have_pictures_as_large_as_asked_for(cam: Command) -> None:
    put("a.png")
    widths = {}
    for size in ("auto", "same", "300"):
        assert cam("a.png", "--size", size, "-o", f"{size}.png").code == 0
        widths[size] = shown(f"{size}.png").width
    assert widths["same"] < widths["auto"] < widths["300"]


@pytest.mark.parametrize("layout", ["panel", "overlay", "heatmap"])
def test_animations(cam: Command, layout: str) -> None:
    animation("a.png")
    one = ("a.png", "--layout", layout, "--maps", "local")
    outcome = cam(*one, "-o", "out", "--animate")
    assert (outcome.code, "nothing is animated" in outcome.stderr) == (0, False)
    result = reading.read_picture(Path("out/a.png"))
    assert (result.durations, result.loop) == ((100, 120, 140), 2)
    assert len({frame.rgb.tobytes() for frame in result.frames}) == 3
    assert cam(*one, "-o", "still", "--no-animate").code == 0
    still = reading.read_picture(Path("still/a.png"))
    assert still.durations == ()
    assert still.frames[0].rgb.tobytes() == result.frames[0].rgb.tobytes()


def test_animate_without_an_animation(cam: Command) -> None:
    put("a.png")
    for arguments in ((), ("--no-animate",), ("--animate",)):
        outcome = cam("a.png", "--overwrite", *arguments)
        assert outcome.code == 0
        assert ("nothing is animated" in outcome.stderr) is (arguments == ("--animate",))


# --- One scale -----------------------------------------------------------------------------------------


def test_one_scale_for_all_pictures(cam: Command, network: Model) -> None:
    names = [f"in/{index}.png" for index in range(3)]
    put(*names)
    both = ("--layout", "overlay", "--maps", "generator,local", "--alpha", "1", "--normalize", "batch")
    assert cam("in", *both, "-o", "out").code == 0
    found = network.attention_maps([picture(seed=index) for index in range(3)], normalize="batch")
    for index in range(3):
        for name in ("generator", "local"):
            wanted = found.overlay(index, name, alpha=1)
            assert shown(f"out/{index}.{name}.png").tobytes() == wanted.tobytes()


# --- Models --------------------------------------------------------------------------------------------


def test_a_model_without_discriminators(cam: Command, light: str) -> None:
    put("a.png")
    outcome = cam("a.png", "-o", "p", "--layout", "overlay", model=light)
    assert outcome.lines == ["p/a.generator.png"]
    assert f"{light}: {MAPLESS.replace('No', 'no')} `ugatit train` makes models that have them" in outcome.stderr
    outcome = cam("a.png", "-o", "g.png", "--maps", "generator", model=light)
    assert (outcome.code, "no local" in outcome.stderr) == (0, False)
    outcome = cam("a.png", "-o", "x", "--maps", "all,global", model=light)
    assert (outcome.code, outcome.errors) == (3, [f"{light}: no global attention: it comes without discriminators"])
    assert "`ugatit convert` keeps those of a checkpoint" in outcome.stderr
    assert not Path("x").exists()


def test_a_full_model(cam: Command) -> None:
    picture(90, 50).save("a.png")
    full = made("full", tiny.FULL)
    assert cam("a.png", "-o", "out", "--layout", "overlay", model=full).code == 0
    assert {shown(f"out/a.{name}.png").size for name in MAPS} == {(90, 50)}
    assert cam("a.png", "-o", "tiles", "--fit", "native", model=full).code == 0
    assert cam("a.png", "-o", "x", "--fit", "native", "--tile", "64", model=full).code == 2


def test_small_pictures(cam: Command) -> None:
    """A discriminator of many layers needs more pixels than a generator."""
    deep = made("deep", replace(tiny.LIGHT, global_layers=6))
    picture(20, 20).save("in.png")
    reason = "too small for the global discriminator (48 pixels a side)"
    assert cam("in.png", "-o", "panel.png", "--fit", "native", model=deep).code == 0
    for layout in ("overlay", "raw"):
        way = ("in.png", "--layout", layout, "--fit", "native")
        outcome = cam(*way, "-o", layout, "--json", model=deep)
        assert (outcome.code, f"in.png: no global map: {reason}\n" in outcome.stderr) == (0, True)
        assert sorted(outcome.documents[0]["outputs"]) == [f"{layout}/{name}" for name in below(layout)]
        assert not [name for name in below(layout) if "global" in name]
        outcome = cam(*way, "-o", f"{layout}-named", "--maps", "generator,global", model=deep)
        assert (outcome.code, outcome.errors[0]) == (1, f"in.png: no global map: {reason}")
        assert below(f"{layout}-named") == []


def test_tiles_that_are_too_small_for_a_discriminator(ugatit: Command) -> None:
    put("a.png")
    folder = made("large", replace(tiny.LIGHT, image_size=128, global_layers=7))
    wanted = ("cam", "a.png", "--model", folder, *CPU, "--fit", "native", "--tile", "64")
    outcome = ugatit(*wanted)
    message = "--tile 64: too small for the global discriminator, which needs 96 pixels"
    assert (outcome.code, outcome.errors) == (2, [message])
    assert "--tile 96" in outcome.stderr
    assert ugatit(*wanted, "--maps", "generator").code == 0


def test_skipped_pictures_do_not_compare(cam: Command) -> None:
    put("in/a.png")
    way = ("--layout", "heatmap", "--maps", "generator", "--normalize", "batch")
    assert cam("in", *way).code == 0
    put("in/a.png", "in/b.png")
    outcome = cam("in", *way, "--skip-existing")
    assert outcome.code == 0
    assert "the 1 skipped have a scale of their own; --overwrite gives all pictures one" in outcome.stderr
    assert "scale of their own" not in cam("in", *way, "--overwrite").stderr


def test_flat_maps(cam: Command) -> None:
    """A picture of one colour gives the generator nothing to look at."""
    Path("in").mkdir()
    white = Image.new("RGB", (32, 32), "white")
    white.save("in/a.png")
    told = "in/a.png: the generator attention is flat: the same everywhere\n"
    for way, layout in itertools.product(("image", "batch"), get_args(attention.Layout)):
        scale = () if layout == "raw" else ("--normalize", way)
        outcome = cam("in", "--layout", layout, *scale, "--maps", "generator", "-o", f"{layout}-{way}")
        assert (outcome.code, told in outcome.stderr, "Warning" in outcome.stderr) == (0, True, False)
    assert document("raw-image/a.json")["maps"]["generator"]["frame"]["flat"] is True
    assert shown("overlay-image/a.png").tobytes() == white.tobytes()
    outcome = cam("in", "--maps", "generator", "-o", "p", "--json", "--report", "r.html")
    assert outcome.documents[0]["flat"] == ["generator"]
    assert Path("r.html").read_text().count(f"{FLAT}</bdi>") == 1
