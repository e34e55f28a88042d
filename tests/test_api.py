"""The public Python API: `load`, `new`, and pictures of any kind in and out."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ugatit_cli
from tests import tiny
from tests.helpers import picture
from ugatit_cli import DeviceError, Model, ModelConfig, ModelError, PictureError, UgatitError, UsageError, errors
from ugatit_cli.config import MAPS, Direction
from ugatit_cli.errors import (
    AlreadyThere,
    BrokenInstallation,
    DataError,
    FetchError,
    FileFailed,
    InputsFailed,
    InternalError,
    Interrupted,
    ModelMissing,
    NoMemory,
    NoRoomError,
    Saved,
    TrainingError,
    WrongType,
)
from ugatit_cli.remote.patience import Logged

MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"]
SIZES = [(1, 1), (1, 100), (3, 7), (33, 65), (256, 256)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return ugatit_cli.load(str(tiny.save(tmp_path_factory.mktemp("api") / "tiny")), device="cpu", precision="fp32")


def in_mode(mode: str, size: tuple[int, int] = (24, 20)) -> Image.Image:
    image = picture(*size)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode == "LAB":
        return Image.merge("LAB", image.split())
    return image.convert("RGBA").convert("RGBa") if mode == "RGBa" else image.convert(mode)


def difference(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())


# --- Pictures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_every_mode(model: Model, mode: str) -> None:
    image = in_mode(mode)
    before = image.copy()
    result = model.translate(image)
    assert result.size == image.size
    assert result.mode in ("RGB", "RGBA")
    assert image.mode == mode
    assert image.tobytes() == before.tobytes()
    if mode == "I;16":
        assert difference(result, model.translate(in_mode("L"))) == 0


def test_a_list_gives_a_list(model: Model) -> None:
    pictures = [picture(*size) for size in SIZES]
    results = model.translate(pictures)
    assert isinstance(results, list)
    assert [result.size for result in results] == SIZES
    for image, result in zip(pictures, results, strict=True):
        assert difference(result, model.translate(image)) <= 1
        assert model.translate(image).tobytes() == model.translate(image).tobytes()
    assert model.translate([]) == []
    assert len(model.translate(tuple(pictures[:2]))) == 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_comes_back(model: Model, mode: str) -> None:
    image = picture(30, 20).convert(mode)
    # Nothing transparent is enclosed, which might be painted.
    alpha = Image.fromarray(np.sort(np.random.default_rng(1).integers(0, 256, (20, 30), dtype=np.uint8)))
    image.putalpha(alpha)
    result = model.translate(image)
    assert result.mode == "RGBA"
    assert result.getchannel("A").tobytes() == alpha.tobytes()
    doubled = model.translate(image, size="60x40")
    assert doubled.getchannel("A").size == (60, 40)


def test_background(model: Model) -> None:
    half, clear = picture(32, 32), Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    half.putalpha(Image.linear_gradient("L").resize((32, 32)))
    white, black = model.translate(half), model.translate(half, background=(0, 0, 0))
    assert difference(white, black) > 8
    blacks: list[Any] = ["black", "#000", "#000000", [0, 0, 0], np.zeros(3, int)]
    for colour in blacks:
        assert difference(model.translate(half, background=colour), black) == 0
    for colour in ("blue", "#00f", (0, 0, 255)):
        seen = model.attention_maps(clear, background=colour)
        assert seen.inputs[0].getcolors() == [(1024, (0, 0, 255))]
    assert difference(seen.translations[0], model.translate(Image.new("RGB", (32, 32), "blue"))) == 0


def test_directions(model: Model) -> None:
    image = picture(32, 32)
    there, back = model.translate(image), model.translate(image, "b2a")
    assert difference(there, back) > 1
    for way in ({"direction": "a2b"}, {"to": "clay"}, {"to": "CLAY", "direction": "a2b"}):
        assert difference(model.translate(image, **way), there) == 0  # type: ignore[call-overload]
    assert difference(model.translate(image, to="flat"), back) == 0
    assert model.attention_maps(image, to="flat").direction == "b2a"


@pytest.mark.parametrize(
    ("way", "choices"),
    [
        ({"direction": "clay"}, ("a2b", "b2a", "flat", "clay")),
        ({"direction": ""}, ("a2b", "b2a")),
        ({"to": "anime"}, ("flat", "clay")),
        ({"to": "clay", "direction": "b2a"}, ("clay", "flat")),
    ],
)
def test_directions_that_are_none(model: Model, way: dict[str, Any], choices: tuple[str, ...]) -> None:
    for call in (model.translate, model.attention_maps):
        with pytest.raises(UsageError) as caught:
            call(picture(8, 8), **way)
        assert all(choice in caught.value.message + caught.value.hint for choice in choices)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("same", (30, 20)),
        ("model", (48, 32)),
        ("48", (72, 48)),
        (48, (72, 48)),
        ("40x20", (40, 20)),
        ((40, 20), (40, 20)),
    ],
)
def test_output_sizes(model: Model, size: str | int | tuple[int, int], expected: tuple[int, int]) -> None:
    assert model.translate(picture(30, 20), size=size).size == expected
    assert model.attention_maps(picture(30, 20), size=size).translations[0].size == expected


def test_tiles_are_what_the_option_says(model: Model) -> None:
    image = picture(100, 80)
    whole, tiled = (model.translate(image, fit="native", tile=tile) for tile in ("off", 64))
    assert difference(whole, tiled) > 0
    assert difference(whole, model.translate(image, fit="native", tile="auto")) == 0  # it isn't large
    assert difference(tiled, model.translate(image, fit="native", tile="64")) == 0


def test_a_full_model_translates_everything(tmp_path: Path) -> None:
    full = ugatit_cli.load(str(tiny.save(tmp_path / "full", tiny.FULL)), precision="fp32")
    for size in SIZES:
        assert full.translate(picture(*size)).size == size
        assert full.translate(picture(*size), fit="native").size == size
    with pytest.raises(UsageError, match="full model"):
        full.translate(picture(64, 64), tile=64)


@pytest.mark.parametrize(
    "options",
    [{"fit": "cover"}, {"size": "huge"}, {"size": -64}, {"tile": 5}, {"tile": 0}, {"tile": "on"}, {"strength": 1.5}],
)
def test_options_that_make_no_sense(model: Model, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        model.translate(picture(8, 8), **options)  # type: ignore[call-overload]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_strength_and_colour(model: Model, mode: str) -> None:
    image = picture(24, 20)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    plain = model.translate(image)
    assert difference(model.translate(image, strength=1), plain) == 0
    assert difference(model.translate(image, strength=0), image) == 0
    assert difference(model.translate(image, strength=0, size=40), model.translate(image, size=40)) > 9
    half, coloured = model.translate([image], strength=0.5)[0], model.translate(image, keep_colour=True)
    for result in (half, coloured):
        assert (result.mode, result.size) == (image.mode, image.size)
        assert difference(result, plain) > 9
        assert difference(result, image) > 9
        assert result.getbands()[3:] == image.getbands()[3:]
    if mode == "RGBA":
        assert coloured.getchannel("A").tobytes() == half.getchannel("A").tobytes() == image.getchannel("A").tobytes()


def test_files(model: Model, tmp_path: Path) -> None:
    first, second = picture(64, 64), picture(64, 64, 1)
    first.save(tmp_path / "a.png")
    first.save(tmp_path / "b.webp", save_all=True, append_images=[second], lossless=True)
    expected = model.translate(first)
    for path in (tmp_path / "a.png", str(tmp_path / "a.png"), tmp_path / "b.webp"):
        assert difference(model.translate(path), expected) == 0
    together = model.translate([tmp_path / "a.png", second, str(tmp_path / "b.webp")])
    assert [difference(one, expected) == 0 for one in together] == [True, False, True]
    assert difference(model.attention_maps(tmp_path / "a.png").translations[0], expected) == 0


def test_pictures_that_cannot_be_read(model: Model, tmp_path: Path) -> None:
    picture(64, 64).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(PictureError):
        model.translate(cut)
    with pytest.raises(PictureError):
        model.translate(Image.new("RGB", (0, 3)))
    for path in (tmp_path / "cut.png", tmp_path / "gone.png", tmp_path):
        with pytest.raises(PictureError) as caught:
            model.translate(path)
        assert str(path) in caught.value.message


def test_a_finder_that_finds_something_else(model: Model) -> None:
    class Finder:
        what = "nothing"

        def __init__(self, found: Any) -> None:
            self.found = found

        def __call__(self, *_: Any) -> Any:
            return self.found

    finders: list[Any] = [Finder(found) for found in (None, 5, ["face"], [])]
    for finder in finders[:-1]:
        with pytest.raises(UsageError, match="region"):
            model.translate(picture(32, 32), regions=finder)
    assert model.translate(picture(32, 32), regions=finders[-1]).size == (32, 32)


def test_attention_that_is_not_there(model: Model) -> None:
    seen = model.attention_maps([picture(32, 32)] * 2)
    assert seen.overlay(-1, "generator").size == (32, 32)
    for index, name, word in (
        (2, "generator", "index is"),
        (-3, "generator", "index is"),
        (0, "local", "discrim"),
    ):
        for call in (seen.overlay, seen.heat):
            with pytest.raises(UsageError, match=word):
                call(index, name)  # type: ignore[arg-type]  # a plain string


@pytest.mark.parametrize("wrong", [np.zeros((8, 8, 3), np.uint8), [None], b"icon.png", 5, None])
def test_what_is_no_picture(model: Model, wrong: Any) -> None:
    for call in (model.translate, model.attention_maps):
        with pytest.raises(TypeError, match="a PIL image, a path, or several of them"):
            call(wrong)


def test_what_is_no_model() -> None:
    with pytest.raises(TypeError, match="a model's name, or the path of its folder"):
        ugatit_cli.load(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["nosuch", None, (0, 0), (0, 0, 256)])
def test_what_is_no_colour(model: Model, wrong: Any) -> None:
    for call in (model.translate, model.attention_maps):
        with pytest.raises(UsageError, match="background"):
            call(Image.new("RGB", (16, 16)), background=wrong)


# --- Models --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_default_model_needs_no_network_colours_drawings_and_takes_colours_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the default model asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("UGATIT_HOME", str(tmp_path / "empty"))
    model = ugatit_cli.load()
    assert (model.name, model.config.domain_a, model.config.domain_b) == ("ink2clay", "ink", "clay")
    drawing = Image.open(Path(__file__).parents[1] / "examples/drawings/heart.png").convert("RGB")
    clay = model.translate(drawing)
    ink = model.translate(clay, "b2a")
    centre = tuple(slice(side // 2 - 20, side // 2 + 20) for side in (drawing.height, drawing.width))
    colours = [np.ptp(np.asarray(one, dtype=float)[centre], axis=2).mean() for one in (drawing, clay, ink)]
    assert colours[1] > 25 > 10 > max(colours[0], colours[2])
    assert np.asarray(clay)[:8, :8].min() > 200


def test_the_bundled_model_of_icons_keeps_their_colours() -> None:
    icon = Image.open(Path(__file__).parents[1] / "examples/emoji/red-heart.png")
    clay = ugatit_cli.load("flat2clay", device="cpu").translate(icon)
    assert clay.size == icon.size
    red, green, blue, _ = np.asarray(clay.convert("RGBA"), dtype=float)[clay.height // 2, clay.width // 2]
    assert red > green + 40
    assert red > blue + 40


def test_a_new_model_has_all_networks() -> None:
    assert ugatit_cli.new(ModelConfig()).config == ModelConfig()
    model = ugatit_cli.new(tiny.LIGHT, device="cpu", precision="fp32")
    assert model.translate(picture(20, 30)).size == (20, 30)
    assert model.discriminator("a", "global")(torch.zeros(1, 3, 32, 32)).logit.ndim == 4
    output = model.generator()(torch.zeros(2, 3, 32, 48))
    assert isinstance(model.generator("b2a"), torch.nn.Module)
    shapes = {name: tuple(getattr(output, name).shape) for name in output._fields}
    assert shapes == {"image": (2, 3, 32, 48), "cam_logit": (2, 2), "heatmap": (2, 1, 8, 12)}


def test_a_model_by_its_path(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "mine")
    for path in (str(folder), folder, folder / "model.safetensors"):
        assert ugatit_cli.load(path, device="cpu").config == tiny.LIGHT


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"model": "flat2clai"}, ModelError, "flat2clay"),
        ({"model": "."}, ModelError, "config.json"),
        ({"device": "cuda"}, DeviceError, "cuda"),
        ({"device": "cpu", "precision": "fp16"}, UgatitError, "fp16"),
    ],
)
def test_what_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: Any, error: type[UgatitError], word: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as caught:
        ugatit_cli.load(**options)
    assert word.casefold() in (caught.value.message + caught.value.hint).casefold()


# --- The contract --------------------------------------------------------------------------------------


def test_four_threads_share_one_model(tmp_path: Path) -> None:
    """Both directions and attention from a cold start: all threads ask for weights that aren't read yet."""
    folder = tiny.save(tmp_path / "m", discriminators=True)
    images = [picture(40, 32, seed) for seed in range(8)]

    def results(model: Model, direction: Direction) -> list[bytes]:
        seen = model.attention_maps(images[0], direction).maps[0]
        return [
            *(image.tobytes() for image in model.translate(images, direction)),
            *(seen[name].values.tobytes() for name in MAPS),
        ]

    ways: tuple[Direction, ...] = ("a2b", "b2a") * 2
    alone = ugatit_cli.load(folder, device="cpu", precision="fp32")
    expected = [results(alone, way) for way in ways]
    for _ in range(3):
        shared, together = ugatit_cli.load(folder, device="cpu", precision="fp32"), threading.Barrier(4)

        def start(way: Direction, model: Model = shared, together: threading.Barrier = together) -> list[bytes]:
            together.wait(60)
            return results(model, way)

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(start, ways)) == expected


def test_what_is_said_goes_to_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ugatit"):
        Logged().note("a note")
    assert caplog.messages == ["a note"]
    code = "import logging, ugatit_cli; print(logging.getLogger('ugatit').handlers)"
    assert "NullHandler" in output_of(code, tmp_path)


def output_of(code: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return run.stdout


EXPORTED = """
AttentionMaps BoxFinder ConfigError DeviceError ExportedModel FaceFinder MaskFinder Model ModelConfig ModelError
OutputError PictureError Region StorageError UgatitError UsageError __version__ export load load_exported
make_study new tally_study translate_film
"""


def test_public_names(tmp_path: Path) -> None:
    assert dir(ugatit_cli) == ugatit_cli.__all__ == EXPORTED.split()
    starred = "from ugatit_cli import *; print(*sorted(name for name in globals() if name[:2] != '__'))"
    assert output_of(starred, tmp_path).split() == [name for name in EXPORTED.split() if name[:2] != "__"]
    for name in EXPORTED.split():
        assert getattr(ugatit_cli, name) is not None
    with pytest.raises(AttributeError, match="Trainer"):
        _ = ugatit_cli.Trainer


def test_errors_that_a_caller_may_catch() -> None:
    """All but those of the command line and of training is exported, below one base, or below what is exported."""
    inside = {
        InputsFailed,
        InternalError,
        Interrupted,
        TrainingError,
        DataError,
        FetchError,
        ModelMissing,
        NoRoomError,
    }
    inside |= {AlreadyThere, BrokenInstallation, FileFailed, NoMemory, Saved, WrongType}
    assert issubclass(WrongType, UsageError)
    assert issubclass(WrongType, TypeError)
    assert issubclass(AlreadyThere, UsageError)
    assert issubclass(AlreadyThere, ugatit_cli.OutputError)
    assert issubclass(FetchError, ugatit_cli.ModelError)
    assert issubclass(ModelMissing, ugatit_cli.ModelError)
    assert issubclass(NoRoomError, ugatit_cli.StorageError)
    found = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, UgatitError)}
    assert {getattr(ugatit_cli, kind.__name__) for kind in found - inside} == found - inside
    assert issubclass(ugatit_cli.StorageError, ugatit_cli.OutputError)
    assert {ugatit_cli.ConfigError, ugatit_cli.DeviceError} <= set(UsageError.__subclasses__())
