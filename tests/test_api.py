"""The public Python API: `load`, `new`, and pictures of any kind in and out."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ugatit_cli
from tests import tiny
from tests.helpers import picture as noise
from ugatit_cli import ModelConfig, UgatitError
from ugatit_cli.config import DIRECTIONS
from ugatit_cli.errors import DeviceError, ModelError, PictureError, UsageError
from ugatit_cli.translation.model import Model

MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"]
SIZES = [(1, 1), (1, 100), (3, 7), (33, 65), (256, 256)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return ugatit_cli.load(str(tiny.save(tmp_path_factory.mktemp("api") / "tiny")), device="cpu", precision="fp32")


def in_mode(mode: str, size: tuple[int, int] = (24, 20)) -> Image.Image:
    picture = noise(*size)
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    if mode == "LAB":
        return Image.merge("LAB", picture.split())
    return picture.convert("RGBA").convert("RGBa") if mode == "RGBa" else picture.convert(mode)


def difference(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())


# --- Pictures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_every_mode(model: Model, mode: str) -> None:
    picture = in_mode(mode)
    before = picture.copy()
    result = model.translate(picture)
    assert result.size == picture.size
    assert result.mode in ("RGB", "RGBA")
    assert picture.mode == mode
    assert picture.tobytes() == before.tobytes()


def test_sixteen_bits_are_seen_as_eight(model: Model) -> None:
    assert difference(model.translate(in_mode("I;16")), model.translate(in_mode("L"))) == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fit", ["aspect", "native", "squash"])
def test_pictures_of_every_size(model: Model, size: tuple[int, int], fit: str) -> None:
    result = model.translate(noise(*size), fit=fit)  # type: ignore[call-overload]  # a Literal
    assert (result.size, result.mode) == (size, "RGB")


def test_a_list_gives_a_list(model: Model) -> None:
    pictures = [noise(*size) for size in SIZES]
    results = model.translate(pictures)
    assert isinstance(results, list)
    assert [result.size for result in results] == SIZES
    for picture, result in zip(pictures, results, strict=True):
        assert difference(result, model.translate(picture)) <= 1
    assert model.translate([]) == []
    assert len(model.translate(tuple(pictures[:2]))) == 2


def test_the_same_every_time(model: Model) -> None:
    picture = noise(45, 70)
    first, second = model.translate([picture, picture])
    assert first.tobytes() == second.tobytes() == model.translate(picture).tobytes()


def test_four_threads_share_a_cold_model(tmp_path: Path) -> None:
    folder = str(tiny.save(tmp_path / "tiny"))
    jobs = [(noise(20 + 4 * i, 30, seed=i), way) for i in range(12) for way in DIRECTIONS]
    alone = ugatit_cli.load(folder, device="cpu", precision="fp32")
    expected = [alone.translate(*job).tobytes() for job in jobs]
    shared = ugatit_cli.load(folder, device="cpu", precision="fp32")
    with ThreadPoolExecutor(4) as threads:
        assert [one.tobytes() for one in threads.map(lambda job: shared.translate(*job), jobs)] == expected


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_comes_back(model: Model, mode: str) -> None:
    picture = noise(30, 20).convert(mode)
    alpha = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30), dtype=np.uint8))
    picture.putalpha(alpha)
    result = model.translate(picture)
    assert result.mode == "RGBA"
    assert result.getchannel("A").tobytes() == alpha.tobytes()
    doubled = model.translate(picture, size="60x40")
    assert doubled.getchannel("A").size == (60, 40)


def test_what_is_behind_transparent_pixels_does_not_matter(model: Model) -> None:
    clear = Image.new("L", (32, 32))
    one, other = noise(32, 32, 1), noise(32, 32, 2)
    for picture in (one, other):
        picture.putalpha(clear)
    assert model.translate(one).tobytes() == model.translate(other).tobytes()


def test_background(model: Model) -> None:
    half = noise(32, 32)
    half.putalpha(Image.linear_gradient("L").resize((32, 32)))
    white, black = model.translate(half), model.translate(half, background=(0, 0, 0))
    assert difference(white, black) > 8


def test_directions(model: Model) -> None:
    picture = noise(32, 32)
    assert difference(model.translate(picture, "a2b"), model.translate(picture, "b2a")) > 1
    assert difference(model.translate(picture, direction="a2b"), model.translate(picture)) == 0
    with pytest.raises(UsageError, match="unknown direction 'clay'"):
        model.translate(picture, "clay")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("size", "expected"), [("same", (30, 20)), ("model", (48, 32)), ("48", (72, 48)), ("40x20", (40, 20))]
)
def test_output_sizes(model: Model, size: str, expected: tuple[int, int]) -> None:
    assert model.translate(noise(30, 20), size=size).size == expected


def test_tiles(model: Model) -> None:
    picture = noise(150, 90)
    tiled = model.translate(picture, fit="native", tile=64)
    assert tiled.size == (150, 90)
    assert difference(tiled, model.translate(picture, fit="native", tile=0)) > 0


def test_a_full_model_translates_everything(tmp_path: Path) -> None:
    full = ugatit_cli.load(str(tiny.save(tmp_path / "full", tiny.FULL)), precision="fp32")
    for size in SIZES:
        assert full.translate(noise(*size)).size == size
        assert full.translate(noise(*size), fit="native").size == size
    with pytest.raises(UsageError, match="full model"):
        full.translate(noise(64, 64), tile=64)


@pytest.mark.parametrize("options", [{"fit": "cover"}, {"size": "huge"}, {"tile": 5}])
def test_options_that_make_no_sense(model: Model, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        model.translate(noise(8, 8), **options)  # type: ignore[call-overload]


def test_a_picture_that_cannot_be_decoded(model: Model, tmp_path: Path) -> None:
    noise(64, 64).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(PictureError, match="truncated"):
        model.translate(cut)
    with pytest.raises(PictureError, match="no pixels"):
        model.translate(Image.new("RGB", (0, 3)))


def test_an_opened_file_is_turned_upright(model: Model, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(40, 20).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as picture:
        assert model.translate(picture).size == (20, 40)


# --- Models --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_default_model_needs_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the default model asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("UGATIT_HOME", str(tmp_path / "empty"))
    model = ugatit_cli.load()
    assert (model.name, model.config.domain_a, model.config.domain_b) == ("flat2clay", "flat", "clay")
    icon = Image.open(Path(__file__).parents[1] / "examples/emoji/red-heart.png")
    clay = model.translate(icon)
    assert clay.size == icon.size
    red, green, blue, _ = np.asarray(clay.convert("RGBA"), dtype=float)[clay.height // 2, clay.width // 2]
    assert red > green + 40
    assert red > blue + 40


def test_outputs_of_the_networks_have_names(model: Model) -> None:
    output = model.generator("a2b")(torch.zeros(2, 3, 32, 48))
    assert output._fields == ("image", "cam_logit", "heatmap")
    image, cam_logit, heatmap = output
    assert image.shape == (2, 3, 32, 48)
    assert cam_logit.shape == (2, 2)
    assert heatmap.shape == (2, 1, 8, 12)
    assert isinstance(model.generator(), torch.nn.Module)


def test_a_new_model_has_the_papers_sizes() -> None:
    model = ugatit_cli.new(ModelConfig())
    assert model.config == ModelConfig()
    assert isinstance(model, ugatit_cli.Model)
    assert (model.config.channels, model.config.blocks, model.config.image_size) == (64, 4, 256)


def test_a_new_model_has_all_networks() -> None:
    model = ugatit_cli.new(tiny.LIGHT, device="cpu", precision="fp32")
    assert model.translate(noise(20, 30)).size == (20, 30)
    assert model.discriminator("a", "global")(torch.zeros(1, 3, 32, 32)).logit.ndim == 4
    deviation = float(model.generator("a2b").stem.conv.weight.detach().std())
    assert 0.015 < deviation < 0.025


def test_a_model_by_its_path(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "mine")
    for path in (str(folder), folder, folder / "model.safetensors"):
        assert ugatit_cli.load(path, device="cpu").config == tiny.LIGHT


def test_models_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model 'flat2clai'") as caught:
        ugatit_cli.load("flat2clai")
    assert "Did you mean flat2clay?" in caught.value.hint
    with pytest.raises(ModelError, match=r"config\.json"):
        ugatit_cli.load(str(tmp_path))


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError):
        ugatit_cli.load(device="cuda")
    with pytest.raises(UgatitError):
        ugatit_cli.new(device="cpu", precision="fp16")


# --- The package ---------------------------------------------------------------------------------------


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, ugatit_cli; print(sorted({'torch', 'numpy', 'PIL', 'typer', 'rich'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout == "[]\n"


def test_public_names() -> None:
    for name in ugatit_cli.__all__:
        assert getattr(ugatit_cli, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        _ = ugatit_cli.Trainer
