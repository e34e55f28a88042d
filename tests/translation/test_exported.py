"""Exported files: what onnxruntime makes of pictures, and what is said where it can't."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image, ImageChops

import ugatit_cli
from tests import tiny
from tests.helpers import picture, pixels, whole
from tests.onnx_files import DESCRIPTION, described, inverting
from ugatit_cli.errors import ModelError, PictureError, UgatitError, UsageError
from ugatit_cli.methods.configs import MUNITConfig
from ugatit_cli.pictures.geometry import Pixels
from ugatit_cli.pictures.styles import random_style
from ugatit_cli.translation import passes
from ugatit_cli.translation.exported import ExportedModel, is_exported

MUNIT = MUNITConfig("flat", "clay", 32, channels=4, blocks=1, discriminator_channels=4)


@pytest.fixture
def model(tmp_path: Path) -> ExportedModel:
    return ugatit_cli.load_exported(inverting(tmp_path / "tiny.onnx"))


def inverse(image: Image.Image) -> bytes:
    return ImageChops.invert(image).tobytes()


# --- Pictures ------------------------------------------------------------------------------------------


def test_a_picture_is_translated(model: ExportedModel, tmp_path: Path) -> None:
    image = picture(40, 24)
    image.save(tmp_path / "a.png")
    for one in (image, tmp_path / "a.png"):
        assert model.translate(one, fit="native").tobytes() == inverse(image)
    both = model.translate([image, picture(24, 40)], fit="native")
    assert [one.tobytes() for one in both] == [inverse(image), inverse(picture(24, 40))]


def test_it_comes_back_in_its_size_with_its_alpha(model: ExportedModel) -> None:
    image = picture(37, 21)
    image.putalpha(90)
    found = model.translate(image)
    assert (found.size, found.mode) == ((37, 21), "RGBA")
    assert found.getchannel("A").getextrema() == (90, 90)
    assert model.translate(image, size="10").size == (18, 10)
    assert model.translate(picture(8, 8), fit="native", strength=0).tobytes() == picture(8, 8).tobytes()


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_several_at_once(model: ExportedModel, batch_size: int) -> None:
    batch = [pixels(32, 16, seed) for seed in range(5)]
    seen = passes.look(model, batch, "a2b", [whole(32, 16)] * 5, batch_size=batch_size)
    assert [one.pixels.tobytes() for one in seen] == [(255 - one).tobytes() for one in batch]


def test_a_file_that_takes_one_size(tmp_path: Path) -> None:
    model = ugatit_cli.load_exported(inverting(tmp_path / "tiny.onnx", described(size=(48, 32))))
    assert model.size == (32, 48)
    for size in ((32, 48), (100, 20), (7, 90)):
        assert model.translate(picture(*size)).size == size
    exact = picture(32, 48)
    assert model.translate(exact).tobytes() == model.translate(exact, fit="squash").tobytes() == inverse(exact)
    with pytest.raises(UsageError, match="32x48"):
        model.translate(exact, fit="native")


def test_a_file_of_a_full_model(tmp_path: Path) -> None:
    model = ugatit_cli.load_exported(inverting(tmp_path / "tiny.onnx", described(tiny.FULL, size=(32, 32))))
    exact = picture(32, 32)
    assert model.translate(exact).tobytes() == inverse(exact)
    assert model.translate(picture(64, 20)).size == (64, 20)


def test_attention(tmp_path: Path) -> None:
    model = ugatit_cli.load_exported(inverting(tmp_path / "tiny.onnx", described(maps=True)))
    assert set(model.missing_maps) == {"local", "global"}
    (seen,) = passes.look(model, [pixels(32, 16)], "a2b", [whole(32, 16)], ("generator",))
    cells = pixels(32, 16)[:, :, 0].reshape(4, 4, 8, 4).mean((1, 3)) / 255
    np.testing.assert_allclose(seen.maps["generator"].values, cells, rtol=1e-5)
    assert seen.maps["generator"].logits == pytest.approx((cells.max(), cells.max()), rel=1e-5)
    assert set(model.attention_maps(picture(20, 20)).maps[0]) == {"generator"}


def test_without_attention(model: ExportedModel) -> None:
    assert set(model.missing_maps) == {"generator", "local", "global"}
    with pytest.raises(ModelError, match="--maps"):
        model.attention_maps(picture(20, 20), maps="generator")


def test_styles(tmp_path: Path) -> None:
    model = ugatit_cli.load_exported(inverting(tmp_path / "tiny.onnx", described(MUNIT)))
    image, size = picture(32, 32), MUNIT.style_size

    def expected(style: Pixels) -> Pixels:
        return np.asarray(np.asarray(image) / (1 + np.exp(-style.mean())))

    for style, own in ((None, 0), ("random", 0), ("random:7", 7)):
        found = np.asarray(model.translate(image, style=style), float)
        assert np.abs(found - expected(random_style(np.asarray(image), size, own))).max() <= 1
    stated = np.linspace(0, 1, size, dtype=np.float32)
    assert np.abs(np.asarray(model.translate(image, style=stated), float) - expected(stated)).max() <= 1
    with pytest.raises(UsageError, match="style encoder"):
        model.translate(image, style=image)


def test_each_number_of_threads_has_a_session(model: ExportedModel) -> None:
    for count in (1, 2, 1):
        model.use_cores(count)
        assert model.session().get_session_options().intra_op_num_threads == model.cores == count
        assert f"{count} threads" in model.place


# --- What can't be done --------------------------------------------------------------------------------


def test_a_file_has_one_direction(model: ExportedModel, tmp_path: Path) -> None:
    assert model.translate(picture(8, 8), to="clay").size == (8, 8)
    with pytest.raises(UsageError, match="flat to clay"):
        model.translate(picture(8, 8), "b2a")
    with pytest.raises(UsageError, match="flat to clay"):
        model.translate(picture(8, 8), to="flat")
    back = ugatit_cli.load_exported(inverting(tmp_path / "back.onnx", described(direction="b2a")))
    assert back.translate(picture(8, 8)).size == back.translate(picture(8, 8), to="flat").size


def test_tiles_would_have_colours_of_their_own(model: ExportedModel) -> None:
    with pytest.raises(PictureError, match="tiles"):
        model.translate(picture(200, 100), fit="native", tile=64)


def test_what_is_not_a_number(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Log", ["picture"], ["log"]),
        helper.make_node("Sub", ["log", "log"], ["translation"]),  # infinity less infinity, of black
    ]
    model = ugatit_cli.load_exported(inverting(tmp_path / "tiny.onnx", nodes=nodes))
    with pytest.raises(PictureError, match="not a number"):
        model.translate(Image.new("RGB", (16, 16)))


def test_not_even_one_fits_into_memory(tmp_path: Path) -> None:
    size = helper.make_tensor("size", TensorProto.INT64, [4], [1, 3, 1 << 18, 1 << 20])
    nodes = [
        helper.make_node("Constant", [], ["size"], value=size),
        helper.make_node("Resize", ["picture", "", "", "size"], ["translation"]),
    ]
    model = ugatit_cli.load_exported(inverting(tmp_path / "tiny.onnx", nodes=nodes))
    with pytest.raises(PictureError, match="not enough memory"):
        model.translate(picture(16, 16))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def beheaded(path: Path) -> None:
    path.write_bytes(path.read_bytes()[20:])


def newer(path: Path) -> None:
    model = onnx.load(path)
    model.opset_import[0].version = 99
    onnx.save(model, path)


def much_newer(path: Path) -> None:
    model = onnx.load(path)
    model.ir_version = 99
    onnx.save(model, path)


def other_inputs(path: Path) -> None:
    inverting(path, described(MUNIT, size=None))
    model = onnx.load(path)
    helper.set_model_props(model, {"ugatit": DESCRIPTION.text})
    onnx.save(model, path)


def without_graph(path: Path) -> None:
    model = onnx.load(path)
    model.ClearField("graph")
    onnx.save(model, path)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)  # which is not waited for


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (Path.unlink, "no such file"),
        (pipe, "is a pipe"),
        (lambda path: path.write_bytes(b""), "ugatit export"),
        (lambda path: path.write_text("text" * 100), "not a complete ONNX file"),
        (lambda path: inverting(path, None), "ugatit export"),
        (cut, "not a complete ONNX file"),
        (beheaded, "damaged|not a complete ONNX file"),
        (newer, "newer than onnxruntime"),
        (much_newer, "newer than onnxruntime"),
        (other_inputs, "damaged"),
        (without_graph, "damaged"),
    ],
)
def test_files_that_are_damaged_foreign_or_too_new(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    path = inverting(tmp_path / "tiny.onnx")
    spoil(path)
    with pytest.raises(ModelError, match=said) as caught:
        ugatit_cli.load_exported(path).translate(picture(8, 8))
    assert "tiny.onnx" in caught.value.message
    assert caught.value.exit_code == 3


def test_a_pin(tmp_path: Path) -> None:
    path = inverting(tmp_path / "tiny.onnx")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert ugatit_cli.load_exported(f"{path}@sha256:{digest}").translate(picture(8, 8)).size == (8, 8)
    inverting(path, described(maps=True))
    with pytest.raises(ModelError, match=digest):
        ugatit_cli.load_exported(f"{path}@sha256:{digest}")


def test_where_onnxruntime_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = inverting(tmp_path / "tiny.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match="onnxruntime") as caught:
        ugatit_cli.load_exported(path)
    assert caught.value.hint.startswith("pip install")


def test_other_places_do_not_take_a_file(tmp_path: Path) -> None:
    with pytest.raises(UgatitError, match="exported file"):
        ugatit_cli.load(inverting(tmp_path / "tiny.onnx"))


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("a.onnx", True),
        ("b/A.ONNX@sha256:" + "0" * 64, True),
        ("me@home/a.onnx", True),
        ("a.onnx@home/flat2clay", False),
        ("flat2clay", False),
        ("onnx", False),
    ],
)
def test_what_is_called_like_one(name: str, is_one: bool) -> None:
    assert is_exported(name) == is_one
