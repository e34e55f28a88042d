"""`ugatit cam`: what it makes of pictures, and that it treats them as `translate` does."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests import tiny
from tests.cli.conftest import Command, Outcome, below, encoded, picture, put
from tests.cli.test_translate import BAD, GOOD
from ugatit_cli import attention_layouts, attention_words, colormaps, encoding, images, load, panels
from ugatit_cli.checkpoint import save_model
from ugatit_cli.cli import batch
from ugatit_cli.config import MAPS, ModelConfig
from ugatit_cli.errors import StorageError
from ugatit_cli.geometry import SizeOptions, plan_geometry
from ugatit_cli.images import Frame
from ugatit_cli.model import Model, prepare
from ugatit_cli.pipeline import Result

CPU = ["--device", "cpu", "--precision", "fp32"]
SIZE = (24, 20)
MAPLESS = "No local and global attention: it comes without discriminators."


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model with discriminators."""
    return str(tiny.save(tmp_path_factory.mktemp("judged") / "tiny", discriminators=True))


@pytest.fixture
def cam(ugatit: Command, judged: str) -> Command:
    """`ugatit cam` with a tiny model that has discriminators."""

    def run(*arguments: object, model: str = judged, **stdin: Any) -> Outcome:
        return ugatit("cam", "--model", model, *CPU, *arguments, **stdin)

    return run


@pytest.fixture
def network(judged: str) -> Model:
    """The same model by the API."""
    return load(judged, device="cpu", precision="fp32")


def shown(path: str | Path) -> Image.Image:
    return images.read_picture(Path(path)).frames[0].rgb


def array(path: str | Path) -> np.ndarray[Any, Any]:
    values = np.load(path, allow_pickle=False)
    assert isinstance(values, np.ndarray)
    return values


def document(path: str | Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    values = json.loads(Path(path).read_text(), parse_constant=refuse)
    assert isinstance(values, dict)
    return values


def animation(name: str, frames: int = 3) -> None:
    first, *more = (picture(seed=seed) for seed in range(frames))
    durations = list(range(100, 100 + 20 * frames, 20))
    first.save(name, save_all=True, append_images=more, duration=durations, loop=2, lossless=True)


# --- Files ---------------------------------------------------------------------------------------------


def test_panels_go_to_the_folder_attention(cam: Command) -> None:
    put("in/a.png", "in/b/c.jpg")
    outcome = cam("in")
    assert (outcome.code, outcome.lines) == (0, ["attention/a.png", "attention/b/c.jpg"])
    assert "(flat -> clay), device cpu" in outcome.stderr
    assert outcome.stderr.endswith("s -> attention\n")
    assert "2 looked at in " in outcome.stderr
    assert below("attention") == ["a.png", "b/c.jpg"]
    with Image.open("attention/b/c.jpg") as result:
        assert result.format == "JPEG"
    assert shown("attention/a.png").width > 5 * panels.MIN_SHOWN


def test_a_file_to_a_file(cam: Command) -> None:
    put("a.png")
    assert cam("a.png", "-o", "new/b.webp").lines == ["new/b.webp"]
    assert images.read_picture(Path("new/b.webp")).format == "WEBP"
    for layout, map_ in (("overlay", "generator"), ("heatmap", "local")):
        outcome = cam("a.png", "-o", f"{layout}.jpg", "--layout", layout, "--maps", map_)
        assert (outcome.code, outcome.lines) == (0, [f"{layout}.jpg"])
    assert below(".") == ["a.png", "heatmap.jpg", "new/b.webp", "overlay.jpg"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("overlay",), ["cat.generator.png", "cat.global.png", "cat.local.png"]),
        (("heatmap", "--maps", "local, global"), ["cat.global.png", "cat.local.png"]),
        (("heatmap", "--maps", "global,generator"), ["cat.generator.png", "cat.global.png"]),
        (("overlay", "--maps", "local"), ["cat.png"]),
        (("overlay", "--maps", "local,local"), ["cat.png"]),
        (("overlay", "--maps", "local", "--format", "webp"), ["cat.webp"]),
        (("raw",), ["cat.generator.npy", "cat.global.npy", "cat.json", "cat.local.npy"]),
        (("raw", "--maps", "local"), ["cat.json", "cat.local.npy"]),
        (
            ("raw", "--maps", "all,local", "--format", "jpg"),
            ["cat.generator.npy", "cat.global.npy", "cat.json", "cat.local.npy"],
        ),
    ],
)
def test_names(cam: Command, arguments: tuple[str, ...], names: list[str]) -> None:
    put("cat.png")
    outcome = cam("cat.png", "-o", "out", "--layout", *arguments)
    assert outcome.code == 0
    assert below("out") == names
    assert sorted(outcome.lines) == [f"out/{name}" for name in names]


def test_names_of_two_pictures_with_the_same_stem(cam: Command) -> None:
    put("in/a.png", "in/a.jpg", "in/b.png")
    assert cam("in", "-o", "out", "--layout", "overlay", "--maps", "generator,local").code == 0
    assert below("out") == [
        "a.generator.jpg",
        "a.generator.png",
        "a.local.jpg",
        "a.local.png",
        "b.generator.png",
        "b.local.png",
    ]
    assert cam("in", "-o", "raw", "--layout", "raw", "--maps", "local").code == 0
    assert below("raw") == ["a_jpg.json", "a_jpg.local.npy", "a_png.json", "a_png.local.npy", "b.json", "b.local.npy"]
    assert document("raw/a_jpg.json")["input"] == "in/a.jpg"
    assert document("raw/a_jpg.json")["maps"]["local"]["file"] == "a_jpg.local.npy"


def test_names_that_are_as_long_as_can_be(cam: Command) -> None:
    names = [letter * 251 + ".png" for letter in "ab"]
    put(*(f"in/{name}" for name in names))
    for layout, files in (("panel", 1), ("overlay", 3), ("raw", 4)):
        outcome = cam("in", "-o", layout, "--layout", layout)
        assert outcome.code == 0
        assert len(below(layout)) == 2 * files
    assert below("panel") == names
    assert "a" * 241 + ".generator.png" in below("overlay")


def test_results_of_one_picture_that_are_another_picture(cam: Command) -> None:
    put("a.png", "a.local.png")
    before = Path("a.local.png").read_bytes()
    outcome = cam("a.png", "a.local.png", "-o", ".", "--layout", "overlay", "--overwrite")
    message = "the result a.local.png of a.png would overwrite the input a.local.png"
    assert (outcome.code, outcome.errors) == (2, [message])
    # It is no input here, but there.
    outcome = cam("a.png", "-o", ".", "--layout", "overlay")
    assert (outcome.code, outcome.errors) == (2, ["1 of 3 results exist already: a.local.png"])
    assert below(".") == ["a.local.png", "a.png"]
    assert Path("a.local.png").read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("a.png", "-o", "x.png", "--layout", "overlay"),
        ("a.png", "-o", "x.png", "--layout", "heatmap", "--maps", "generator,local"),
        ("a.png", "-o", "x.png", "--layout", "raw"),
        ("a.png", "-o", "x.npy", "--layout", "raw", "--maps", "generator"),
        ("a.png", "-o", "x.json", "--layout", "raw"),
        ("a.png", "-o", "-", "--layout", "overlay"),
        ("a.png", "-o", "-", "--layout", "raw", "--maps", "generator"),
        ("-", "--layout", "overlay"),
        ("-o", "~/x.png", "a.png", "--layout", "overlay"),
    ],
)
def test_several_files_do_not_go_to_one(
    cam: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    put("a.png")
    outcome = cam(*arguments, stdin=encoded())
    assert outcome.code == 2
    assert outcome.errors[0].startswith("--layout ")
    assert outcome.errors[0].endswith("makes several files of a picture")
    assert "Name a folder" in outcome.stderr
    assert below(".") == ["a.png"]


def test_globs(cam: Command) -> None:
    put("in/a.png", "in/b.jpg", "in/c/d.png")
    assert cam("in/**/*.png", "-o", "out", "--layout", "heatmap", "--maps", "local").code == 0
    assert below("out") == ["a.png", "c/d.png"]


def test_from_stdin_to_stdout(cam: Command) -> None:
    outcome = cam("-", stdin=encoded("WEBP"))
    assert outcome.code == 0
    result = images.read_picture(outcome.stdout)
    assert result.format == "WEBP"
    assert result.size[0] > 700
    assert outcome.stderr.endswith("-> <stdout>\n")
    outcome = cam("-", "--layout", "overlay", "--maps", "local", "--format", "png", stdin=encoded("WEBP"))
    assert images.read_picture(outcome.stdout).size == SIZE
    assert below(".") == []


def test_from_stdin_to_a_folder(cam: Command) -> None:
    assert cam("-", "-o", "out", "--layout", "raw", "--maps", "local", stdin=encoded()).code == 0
    assert below("out") == ["stdin.json", "stdin.local.npy"]
    assert document("out/stdin.json")["input"] == "<stdin>"


# --- Existing results, reports -------------------------------------------------------------------------


def test_existing_results(cam: Command) -> None:
    put("in/a.png", "in/b.png")
    layout = ("--layout", "overlay", "-o", "out")
    assert cam("in", *layout).code == 0
    Path("out/b.local.png").unlink()
    Path("out/a.local.png").write_bytes(b"old")
    Path("out/b.global.png").write_bytes(b"old")
    outcome = cam("in", *layout)
    assert (outcome.code, outcome.errors) == (
        2,
        ["5 of 6 results exist already: out/a.generator.png, out/a.local.png, out/a.global.png, ..."],
    )
    assert not Path("out/b.local.png").exists()
    # A picture with one file missing gets that one.
    outcome = cam("in", *layout, "--skip-existing")
    assert (outcome.code, outcome.lines) == (0, [f"out/b.{name}.png" for name in MAPS])
    assert "1 looked at, 1 skipped" in outcome.stderr
    assert Path("out/a.local.png").read_bytes() == b"old"
    assert Path("out/b.global.png").read_bytes() == b"old"
    outcome = cam("in", *layout, "--skip-existing")
    assert (outcome.code, outcome.lines) == (0, [])
    assert "0 looked at, 2 skipped" in outcome.stderr
    outcome = cam("in", *layout, "--overwrite")
    assert (outcome.code, len(outcome.lines)) == (0, 6)
    assert Path("out/a.local.png").read_bytes() != b"old"


def test_json_lines(cam: Command) -> None:
    put("in/a.png")
    Path("in/b.png").write_bytes(b"text")
    outcome = cam("in", "gone.png", "-o", "out", "--json", "--layout", "overlay", "--maps", "generator,local")
    assert outcome.code == 1
    by_input = {found.pop("input"): found for found in outcome.documents}
    assert by_input["in/a.png"].pop("milliseconds") > 0
    assert by_input["in/a.png"] == {
        "output": "out/a.generator.png",
        "outputs": ["out/a.generator.png", "out/a.local.png"],
        "width": 24,
        "height": 20,
    }
    assert by_input["in/b.png"]["error"].startswith("in/b.png: not a picture")
    assert by_input["gone.png"]["error"] == "gone.png: there is no such file or folder"
    (panel,) = cam("in/a.png", "-o", "p", "--json").documents
    assert (panel["width"], panel["height"]) == shown("p/a.png").size
    assert "outputs" not in panel


def test_a_dry_run_writes_nothing(cam: Command) -> None:
    put("in/a.png", "in/b/c.png")
    outcome = cam("in", "--dry-run", "--layout", "raw", "--maps", "local", "--report", "new/r.html")
    assert (outcome.code, outcome.lines) == (
        0,
        [
            "in/a.png -> attention/a.json",
            "in/a.png -> attention/a.local.npy",
            "in/b/c.png -> attention/b/c.json",
            "in/b/c.png -> attention/b/c.local.npy",
        ],
    )
    outcome = cam("in/a.png", "--dry-run", "--json", "--layout", "overlay", "--maps", "local,global")
    assert outcome.documents == [
        {
            "input": "in/a.png",
            "output": "attention/a.local.png",
            "outputs": ["attention/a.local.png", "attention/a.global.png"],
            "planned": True,
        }
    ]
    assert cam("-", "--dry-run").lines == ["<stdin> -> <stdout>"]
    assert below(".") == ["in/a.png", "in/b/c.png"]
    assert sorted(path.name for path in Path().iterdir()) == ["in"]


# --- Numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 32), (24, 20), (100, 33)])
def test_raw_is_what_the_networks_return(cam: Command, network: Model, size: tuple[int, int]) -> None:
    picture(*size).save("a.png")
    assert cam("a.png", "--layout", "raw", "--direction", "b2a").code == 0
    found = document("attention/a.json")
    plan = plan_geometry(size, network.config, SizeOptions())
    left, top, width, height = found["picture_in_network"]
    assert found["network_size"] == list(plan.network)
    assert (width, height) == plan.scaled
    assert (left, top) == ((plan.network[0] - width) // 2, (plan.network[1] - height) // 2)
    pixels = prepare(Frame(picture(*size), None), plan, (255, 255, 255))
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        generated = network.generator("b2a")(x)
        outputs = {"generator": generated}
        for scale in ("local", "global"):
            outputs[scale] = network.discriminator("a", scale)(generated.image)
    assert list(found["maps"]) == list(outputs)
    for name, output in outputs.items():
        values, entry = array(f"attention/a.{name}.npy"), found["maps"][name]
        assert values.dtype == np.float32
        assert list(values.shape) == entry["shape"] == list(output.heatmap.shape[2:])
        np.testing.assert_allclose(values, output.heatmap[0, 0].numpy(), rtol=1e-4, atol=1e-6)
        logits = [entry["frame"]["logits"][branch] for branch in ("average", "maximum")]
        np.testing.assert_allclose(logits, output.cam_logit[0].numpy(), rtol=1e-4, atol=1e-6)
        chances = [entry["frame"]["probabilities"][branch] for branch in ("average", "maximum")]
        wanted = output.cam_logit[0].sigmoid() if name == "generator" else output.cam_logit[0].clamp(0, 1)
        np.testing.assert_allclose(chances, wanted.numpy(), rtol=1e-4, atol=1e-6)
        assert entry["probability_of"] == ("clay" if name == "generator" else "real")
        last = entry["cells"]["first_centre"] + entry["cells"]["stride"] * (entry["shape"][1] - 1)
        assert plan.network[0] - entry["cells"]["stride"] <= last < plan.network[0]
    assert (found["source"], found["target"], found["direction"]) == ("clay", "flat", "b2a")


def test_raw_numbers_of_an_animation_and_of_tiles(cam: Command) -> None:
    animation("a.webp")
    assert cam("a.webp", "--layout", "raw", "--maps", "local").code == 0
    assert array("attention/a.local.npy").shape == (3, 15, 19)
    assert len(document("attention/a.json")["maps"]["local"]["frames"]) == 3
    outcome = cam("a.webp", "--layout", "raw", "--maps", "local", "--no-animate", "-o", "still")
    assert outcome.code == 0
    assert (array("still/a.local.npy") == array("attention/a.local.npy")[0]).all()
    picture(100, 70).save("large.png")
    assert cam("large.png", "--layout", "raw", "--fit", "native", "--tile", "64", "-o", "out").code == 0
    assert document("out/large.json")["tile"] == 64
    assert array("out/large.generator.npy").shape == (18, 25)


# --- Pictures ------------------------------------------------------------------------------------------


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


def test_options_change_the_colours(cam: Command) -> None:
    put("a.png")
    ways = {
        "plain": (),
        "alpha": ("--alpha", "0.9"),
        "jet": ("--colormap", "jet"),
        "bicubic": ("--upsample", "bicubic"),
        "back": ("--to", "flat"),
        "native": ("--fit", "native"),
    }
    for name, arguments in ways.items():
        arguments = (*arguments, "--layout", "overlay", "--maps", "generator", "-o", f"{name}.png")
        assert cam("a.png", *arguments).code == 0
    assert len({Path(f"{name}.png").read_bytes() for name in ways}) == len(ways)
    assert {shown(f"{name}.png").size for name in ways} == {SIZE}


def test_panels_have_pictures_as_large_as_asked_for(cam: Command) -> None:
    put("a.png")
    widths = {}
    for size in ("auto", "same", "300"):
        assert cam("a.png", "--size", size, "-o", f"{size}.png").code == 0
        widths[size] = shown(f"{size}.png").width
    assert widths["same"] < widths["auto"] < widths["300"]


def test_orientation(cam: Command) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(24, 16).save("a.jpg", exif=exif.tobytes())
    assert cam("a.jpg", "--layout", "overlay", "-o", "out", "--format", "png").code == 0
    assert {shown(f"out/a.{name}.png").size for name in MAPS} == {(16, 24)}
    with Image.open("out/a.local.png") as result:
        assert not result.getexif()


def test_transparency(cam: Command, ugatit: Command, judged: str) -> None:
    image = picture()
    alpha = Image.fromarray(np.linspace(0, 255, 480).astype(np.uint8).reshape(20, 24))
    image.putalpha(alpha)
    image.save("a.png")
    assert cam("a.png", "--layout", "overlay", "-o", "out").code == 0
    for name in MAPS:
        kept = images.read_picture(Path(f"out/a.{name}.png")).frames[0].alpha
        assert kept is not None
        assert kept.tobytes() == alpha.tobytes()
    assert cam("a.png", "--layout", "overlay", "--maps", "local", "--alpha", "0", "-o", "b.png").code == 0
    assert ugatit("translate", "a.png", "--model", judged, *CPU, "-o", "c.png").code == 0
    visible = np.asarray(alpha) > 200
    overlaid, translated = (images.read_picture(Path(name)).frames[0] for name in ("b.png", "c.png"))
    difference = np.asarray(overlaid.rgb, int) - np.asarray(images.composite(translated, (255, 255, 255)), int)
    assert np.abs(difference[visible]).max() <= 2
    assert cam("a.png", "-o", "panel.png").code == 0
    assert images.read_picture(Path("panel.png")).frames[0].alpha is None


def test_colours_over_translucent_pictures_are_those_of_the_map(cam: Command, network: Model) -> None:
    image = picture()
    image.putalpha(Image.new("L", image.size, 128))
    image.save("a.png")
    assert cam("a.png", "--layout", "overlay", "--maps", "generator", "--alpha", "1", "-o", "b.png").code == 0
    (kept,) = images.read_picture(Path("b.png")).frames
    wanted = network.attention_maps(Image.open("a.png")).overlay(0, "generator", alpha=1)
    assert kept.rgb.tobytes() == wanted.tobytes()
    assert kept.alpha is not None
    assert kept.alpha.getextrema() == (128, 128)


@pytest.mark.parametrize("layout", ["panel", "overlay", "heatmap"])
@pytest.mark.parametrize("ending", ["webp", "png"])
def test_animations(cam: Command, layout: str, ending: str) -> None:
    animation(f"a.{ending}")
    one = ("--layout", layout, "--maps", "local")
    outcome = cam(f"a.{ending}", *one, "-o", "out", "--animate")
    assert outcome.code == 0
    assert "nothing is animated" not in outcome.stderr
    result = images.read_picture(Path(f"out/a.{ending}"))
    assert (result.durations, result.loop) == ((100, 120, 140), 2)
    assert len({frame.rgb.tobytes() for frame in result.frames}) == 3
    outcome = cam(f"a.{ending}", *one, "-o", "still", "--no-animate")
    assert outcome.code == 0
    still = images.read_picture(Path(f"still/a.{ending}"))
    assert still.durations == ()
    if ending == "png":
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
    assert cam("in/0.png", *both, "-o", "one").code == 0
    assert cam("in/0.png", *both, "--normalize", "image", "-o", "own").code == 0
    for name in ("generator", "local"):
        one, own, among = (Path(folder, f"0.{name}.png").read_bytes() for folder in ("one", "own", "out"))
        assert one == own
        assert one != among


def test_one_scale_with_errors_and_animations(cam: Command) -> None:
    put("in/a.png", "in/c.png")
    animation("in/d.webp")
    Path("in/b.png").write_bytes(b"text")
    outcome = cam("in", "gone.png", "--normalize", "batch", "--report", "r.html", "--batch-size", "2")
    assert outcome.code == 1
    assert below("attention") == ["a.png", "c.png", "d.webp"]
    assert [line.partition(":")[0] for line in outcome.errors[:2]] == ["gone.png", "in/b.png"]
    assert images.read_picture(Path("attention/d.webp")).durations == (100, 120, 140)
    page = Path("r.html").read_text()
    assert page.count('<article class="card') == 5
    assert "One scale for all pictures." in page


# --- Models --------------------------------------------------------------------------------------------


def made(folder: str, config: ModelConfig, *, judged: bool = True) -> str:
    return str(tiny.save(Path(folder), config, discriminators=judged))


def test_a_model_without_discriminators(cam: Command, light: str) -> None:
    put("a.png")
    outcome = cam("a.png", "-o", "p.png", model=light)
    assert outcome.code == 0
    assert f"{light}: {MAPLESS.replace('No', 'no')} `ugatit train` makes models that have them" in outcome.stderr
    assert cam("a.png", "-o", "q.png").code == 0
    assert shown("p.png").width < shown("q.png").width
    outcome = cam("a.png", "-o", "p", "--layout", "overlay", model=light)
    assert outcome.lines == ["p/a.generator.png"]
    outcome = cam("a.png", "-o", "g.png", "--maps", "generator", model=light)
    assert (outcome.code, "no local" in outcome.stderr) == (0, False)
    for maps in ("local", "all,global", "generator,local"):
        outcome = cam("a.png", "-o", "x", "--maps", maps, model=light)
        name = "global" if "global" in maps else "local"
        assert (outcome.code, outcome.errors) == (
            3,
            [f"{light}: no {name} attention: it comes without discriminators"],
        )
        assert "`ugatit convert` keeps those of a checkpoint" in outcome.stderr
    assert not Path("x").exists()


def test_models_without_cam(cam: Command) -> None:
    put("a.png")
    blind = made("blind", replace(tiny.LIGHT, generator_cam=False))
    outcome = cam("a.png", "-o", "out", "--layout", "overlay", model=blind)
    assert outcome.lines == ["out/a.local.png", "out/a.global.png"]
    assert "no generator attention: its generators have no CAM." in outcome.stderr
    outcome = cam("a.png", "-o", "x", "--maps", "generator", model=blind)
    assert (outcome.code, outcome.errors) == (3, ["blind: no generator attention: its generators have no CAM"])
    none = made("none", replace(tiny.LIGHT, generator_cam=False, discriminator_cam=False))
    outcome = cam("a.png", "-o", "x", model=none)
    assert (outcome.code, outcome.errors) == (
        3,
        ["none: no attention to show: its generators have no CAM, its discriminators have no CAM"],
    )
    assert not Path("x").exists()


def test_a_full_model(cam: Command) -> None:
    picture(90, 50).save("a.png")
    full = made("full", tiny.FULL)
    assert cam("a.png", "-o", "out", "--layout", "overlay", model=full).code == 0
    assert {shown(f"out/a.{name}.png").size for name in MAPS} == {(90, 50)}
    assert cam("a.png", "-o", "tiles", "--fit", "native", model=full).code == 0
    assert cam("a.png", "-o", "x", "--fit", "native", "--tile", "64", model=full).code == 2


def test_small_pictures(cam: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A discriminator of many layers needs more pixels than a generator."""
    deep = made("deep", replace(tiny.LIGHT, global_layers=6))
    picture(20, 20).save("in.png")
    notes: list[str] = []
    original = panels.draw_panel

    def drawn(heading: str, cells: list[panels.Cell], legend: panels.Legend, **options: Any) -> Image.Image:
        notes.extend(cell.note for cell in cells if cell.picture is None)
        return original(heading, cells, legend, **options)

    monkeypatch.setattr(panels, "draw_panel", drawn)
    assert cam("in.png", "-o", "panel.png", "--fit", "native", model=deep).code == 0
    assert notes == ["too small for the global discriminator (48 pixels a side)"]
    for layout in ("overlay", "heatmap", "raw"):
        way = ("in.png", "--layout", layout, "--fit", "native")
        outcome = cam(*way, "-o", layout, "--json", model=deep)
        reason = "no global map: too small for the global discriminator (48 pixels a side)"
        assert (outcome.code, f"in.png: {reason}\n" in outcome.stderr) == (0, True)
        assert sorted(outcome.documents[0]["outputs"]) == [f"{layout}/{name}" for name in below(layout)]
        assert not [name for name in below(layout) if "global" in name]
        outcome = cam(*way, "-o", f"{layout}-named", "--maps", "generator,global", model=deep)
        assert (outcome.code, outcome.errors[0]) == (1, f"in.png: {reason}")
        assert "--maps generator" in outcome.stderr
        assert below(f"{layout}-named") == []
    outcome = cam(
        "in.png", "-o", "some", "--layout", "overlay", "--maps", "generator,local", "--fit", "native", model=deep
    )
    assert outcome.code == 0


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


@pytest.fixture
def flat(judged: str) -> str:
    """A model whose CAM weights nothing."""
    weights = [load_file(Path(judged, f"{name}.safetensors")) for name in ("model", "discriminators")]
    for tensors in weights:
        for name in tensors:
            if name.endswith((".cam.weight", ".cam.bias")):
                tensors[name] = torch.zeros_like(tensors[name])
    save_model(Path("flat"), tiny.LIGHT, *weights)
    return "flat"


def test_flat_maps(cam: Command, flat: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put("in/a.png")
    for way in ("image", "batch"):
        for layout in get_args(attention_layouts.Layout):
            outcome = cam("in", "-o", f"{layout}-{way}", "--layout", layout, "--normalize", way, model=flat)
            assert outcome.code == 0
            for name in MAPS:
                assert f"in/a.png: the {name} attention is flat: the same everywhere\n" in outcome.stderr
            assert "Warning" not in outcome.stderr
    assert document("raw-image/a.json")["maps"]["local"]["frame"]["flat"] is True
    assert shown("overlay-image/a.generator.png").tobytes() == picture().tobytes()
    notes = []
    original = panels.draw_panel

    def drawn(heading: str, cells: list[panels.Cell], legend: panels.Legend) -> Image.Image:
        notes.extend([cell.note for cell in cells])
        return original(heading, cells, legend)

    monkeypatch.setattr(panels, "draw_panel", drawn)
    outcome = cam("in", "-o", "p", "--json", "--report", "r.html", model=flat)
    assert outcome.documents[0]["flat"] == list(MAPS)
    assert notes == ["", attention_words.FLAT, "", attention_words.FLAT, attention_words.FLAT]
    assert Path("r.html").read_text().count(f"{attention_words.FLAT}</bdi>") == 3


def test_maps_that_are_not_flat_are_not_mentioned(cam: Command) -> None:
    put("a.png")
    outcome = cam("a.png", "-o", "p", "--json")
    assert "flat:" not in outcome.stderr
    assert "flat" not in outcome.documents[0]


# --- Wrong usage ---------------------------------------------------------------------------------------

WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "no inputs": ((), "Missing argument"),
    "skip and overwrite": (("a.png", "--skip-existing", "--overwrite"), "contradict"),
    "unknown map": (("a.png", "--maps", "generator,locale"), "no attention map 'locale'"),
    "no map": (("a.png", "--maps", ""), "no attention map ''"),
    "half a map": (("a.png", "--maps", "local,"), "no attention map ''"),
    "unknown layout": (("a.png", "--layout", "grid"), "--layout"),
    "unknown colours": (("a.png", "--colormap", "rainbows"), "no colour map 'rainbows'"),
    "too opaque": (("a.png", "--alpha", "1.01"), "alpha 1.01 is out of range"),
    "not opaque at all": (("a.png", "--alpha", "-0.5"), "alpha -0.5 is out of range"),
    "no number": (("a.png", "--alpha", "nan"), "alpha nan is out of range"),
    "no opacity": (("a.png", "--alpha", "half"), "--alpha"),
    "unknown scale": (("a.png", "--normalize", "folder"), "--normalize"),
    "unknown upsampling": (("a.png", "--upsample", "nearest"), "--upsample"),
    "unknown size": (("a.png", "--size", "huge"), "unknown size 'huge'"),
    "unknown domain": (("a.png", "--to", "anime"), "no domain 'anime'"),
    "format against name": (("a.png", "-o", "x.png", "--format", "jpg"), "--format jpg contradicts the name x.png"),
    "name of no format": (("a.png", "-o", "x.heic"), "x.heic"),
    "unknown format": (("a.png", "--format", "tiff"), "--format"),
    "nothing in the folder": (("empty",), "no pictures in empty"),
    "many to stdout": (("a.png", "b.png", "-o", "-"), "standard output"),
    "over its source": (("a.png", "-o", "a.png", "--overwrite"), "overwrite itself"),
    "json and stdout": (("a.png", "-o", "-", "--json"), "--json and the picture"),
    "stdin twice": (("-", "-"), "standard input (-) is given more than once"),
    "unknown option": (("a.png", "--map", "local"), "--map"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage(cam: Command, case: str) -> None:
    put("a.png", "b.png")
    Path("empty").mkdir()
    arguments, reason = WRONG[case]
    outcome = cam(*arguments)
    assert (outcome.code, outcome.stdout) == (2, b"")
    assert reason in " ".join(outcome.stderr.replace("│", " ").split())
    assert below(".") == ["a.png", "b.png"]
    assert not Path("attention").exists()


def test_an_unknown_model(ugatit: Command) -> None:
    put("a.png")
    outcome = ugatit("cam", "a.png", "--model", "flat2clai")
    assert (outcome.code, outcome.errors[0].partition(" '")[0]) == (3, "no model")
    assert below(".") == ["a.png"]


# --- The same as `translate` ---------------------------------------------------------------------------


def both(ugatit: Command, model: str, *arguments: object, layout: str = "overlay") -> tuple[Outcome, Outcome]:
    """What `translate` and `cam` say to the same arguments, with results in folders of these names."""
    options = ["--model", model, *CPU, *arguments]
    one = ("--layout", layout, "--maps", "generator")
    return ugatit("translate", *options, "-o", "out"), ugatit("cam", *options, *one, "-o", layout)


@pytest.mark.parametrize("layout", ["panel", "overlay"])
@pytest.mark.parametrize("size", ["1", "3"])
def test_the_same_on_bad_files(ugatit: Command, light: str, layout: str, size: str) -> None:
    for name, data in (BAD | GOOD).items():
        Path("in", name).parent.mkdir(parents=True, exist_ok=True)
        Path("in", name).write_bytes(data)
    Path("in/folder.png").mkdir()
    Path("in/dangling.png").symlink_to("nowhere")
    Path("in/.hidden.png").write_bytes(b"text")
    os.mkfifo("in/pipe.png")
    translated, looked = both(ugatit, light, "in", "in/gone.png", "--batch-size", size, layout=layout)
    assert translated.code == looked.code == 1
    assert len(translated.errors) == len(BAD) + 4
    assert sorted(translated.errors) == sorted(looked.errors)
    assert below("out") == below(layout) == sorted(GOOD)
    hints = [set(outcome.stderr.splitlines()) for outcome in (translated, looked)]
    differing = {line for line in hints[0] ^ hints[1] if not line.endswith(("-> out", f"-> {layout}"))}
    assert differing == set()


def test_the_same_on_only_bad_files(ugatit: Command, light: str) -> None:
    translated, looked = both(ugatit, light, "gone.png")
    assert (translated.code, translated.stderr) == (looked.code, looked.stderr)
    assert below(".") == []


def test_bad_files_with_several_files_each(cam: Command) -> None:
    for name, data in (BAD | GOOD).items():
        Path("in", name).parent.mkdir(parents=True, exist_ok=True)
        Path("in", name).write_bytes(data)
    outcome = cam("in", "--layout", "raw")
    assert outcome.code == 1
    assert outcome.errors[-1] == f"{len(BAD)} inputs failed, named above"
    assert len(below("attention")) == 4 * len(GOOD)


def test_the_same_on_a_full_disk(ugatit: Command, light: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def refuse(path: Path, data: bytes) -> None:
        if len(written) >= 3:
            raise StorageError(f"no space left on the device for {path}", "Free some space, or write elsewhere.")
        written.append(path)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)

    monkeypatch.setattr(encoding, "write_atomic", refuse)
    put(*(f"in/{index:02}.png" for index in range(20)))
    for command, folder in (("translate", "out"), ("cam", "attention")):
        written.clear()
        outcome = ugatit(command, "in", "--model", light, *CPU, "-o", folder, "--workers", "1")
        assert outcome.code == 1
        assert outcome.errors == [
            f"no space left on the device for {folder}/03.png",
            "stopped: 17 of 20 files are not done",
        ]
        assert "go on with --skip-existing" in outcome.stderr
        assert below(folder) == ["00.png", "01.png", "02.png"]


def after(count: int, what: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets something happen once so many results are there."""
    original = batch.Report.add

    def add(self: batch.Report, result: Result) -> None:
        original(self, result)
        if self.done == count:
            what()

    monkeypatch.setattr(batch.Report, "add", add)


@pytest.mark.parametrize("command", ["translate", "cam"])
def test_stopping(ugatit: Command, light: str, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    put(*(f"in/{index:03}.png" for index in range(100)))
    after(2, lambda: signal.raise_signal(signal.SIGINT), monkeypatch)
    outcome = ugatit(command, "in", "--model", light, *CPU, "-o", "out", "--workers", "2", "--report", "r.html")
    assert outcome.code == 130
    assert outcome.errors == ["interrupted; everything finished so far is kept"]
    assert "stopping: finishing what is in progress" in outcome.stderr
    written = below("out")
    assert 2 <= len(written) < 60
    assert sorted(outcome.lines) == [f"out/{name}" for name in written]
    for name in written:
        assert images.read_picture(Path("out", name)).frames  # whole, and not temporary
    page = Path("r.html").read_text()
    assert page.count('<article class="card') == len(written)
    assert page.rstrip().endswith("</html>")
    assert below(".") == sorted([*(f"in/{n}" for n in below("in")), *(f"out/{n}" for n in written), "r.html"])


def test_where_nothing_can_be_written(cam: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    put("a.png")
    Path("file").write_text("a file")
    assert cam("a.png", "-o", "file").code == 2
    monkeypatch.setattr(os, "access", lambda *_: False)
    outcome = cam("a.png")
    assert (outcome.code, outcome.errors) == (1, ["attention: permission denied"])


def test_a_picture_that_changes_meanwhile(cam: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read again for the panel."""
    put("in/a.png", "in/b.png")
    original = Model.look

    def look(self: Model, *arguments: Any) -> Any:
        picture(9, 9).save("in/a.png")
        return original(self, *arguments)

    monkeypatch.setattr(Model, "look", look)
    outcome = cam("in", "--batch-size", "1", "--workers", "1")
    assert outcome.code == 1
    assert outcome.errors[0] == "in/a.png: changed while it was translated"
    assert below("attention") == ["b.png"]


def test_colours_of_the_default(cam: Command, network: Model) -> None:
    put("a.png")
    assert cam("a.png", "--layout", "heatmap", "--maps", "generator", "-o", "h.png").code == 0
    heat = network.attention_maps([picture()]).heat(0, "generator")
    wanted = np.asarray(colormaps.coloured(heat, "inferno"))
    result = np.asarray(shown("h.png"))
    windows = np.lib.stride_tricks.sliding_window_view(result, wanted.shape)[:, :, 0]
    assert (windows == wanted).all((2, 3, 4)).any()


def test_a_picture_is_read_from_memory_again(cam: Command) -> None:
    """Standard input can't be read twice."""
    buffer = io.BytesIO()
    first, *more = (picture(seed=seed) for seed in range(2))
    first.save(buffer, "WEBP", save_all=True, append_images=more, duration=70, lossless=True)
    outcome = cam("-", "--maps", "local", stdin=buffer.getvalue())
    assert outcome.code == 0
    assert images.read_picture(outcome.stdout).durations == (70, 70)
