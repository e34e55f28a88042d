"""`--model FILE.onnx` and `--engine`: exported files in the place of models, without PyTorch."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from tests import tiny
from tests.cli.conftest import Command, below, put
from tests.cli.test_startup import imported_by
from tests.helpers import picture
from tests.onnx_files import described, inverting
from ugatit_cli.cli import engines
from ugatit_cli.exporting.store import exported
from ugatit_cli.methods.configs import MUNITConfig

NATIVE = ("--fit", "native")


def pixels(path: str | Path) -> bytes:
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def inverse(path: str | Path) -> bytes:
    with Image.open(path) as image:
        return ImageChops.invert(image.convert("RGB")).tobytes()


def test_a_folder_through_a_file(ugatit: Command) -> None:
    put("in/a.png", "in/b/c.png")
    inverting(Path("tiny.onnx"))
    outcome = ugatit("translate", "in", "--model", "tiny.onnx", "-o", "out", *NATIVE, "--json")
    assert outcome.code == 0
    assert {one["output"] for one in outcome.documents} == {"out/a.png", "out/b/c.png"}
    for name in ("a.png", "b/c.png"):
        assert pixels(f"out/{name}") == inverse(f"in/{name}")
    assert "onnxruntime" in outcome.stderr
    put("in/d.png")
    again = ugatit("translate", "in", "--model", "tiny.onnx", "-o", "out", *NATIVE, "--skip-existing")
    assert "1 translated, 2 skipped" in again.stderr


def test_an_animation_and_a_page(ugatit: Command) -> None:
    frames = [picture(16, 16, number) for number in range(3)]
    frames[0].save("a.webp", save_all=True, append_images=frames[1:], duration=50, lossless=True)
    inverting(Path("tiny.onnx"), described(maps=True))
    arguments = ("--model", "tiny.onnx", "-o", "b.png", "--report", "r.html", *NATIVE)
    assert ugatit("translate", "a.webp", *arguments).code == 0
    with Image.open("b.png") as image:
        assert getattr(image, "n_frames", 1) == 3
        assert image.convert("RGB").tobytes() == ImageChops.invert(frames[0]).tobytes()
    assert "generator attention" in Path("r.html").read_text()


def test_attention(ugatit: Command) -> None:
    put("a.png")
    inverting(Path("maps.onnx"), described(maps=True))
    assert ugatit("cam", "a.png", "--model", "maps.onnx", "-o", "out", "--layout", "raw").code == 0
    assert {"a.json", "a.generator.npy"} <= {*below("out")}
    inverting(Path("plain.onnx"))
    outcome = ugatit("cam", "a.png", "--model", "plain.onnx", "-o", "out2")
    assert outcome.code == 3
    assert "--maps" in outcome.errors[0]


def test_several_styles(ugatit: Command) -> None:
    put("a.png")
    inverting(Path("tiny.onnx"), described(MUNITConfig("flat", "clay", 32, channels=4)))
    assert ugatit("translate", "a.png", "--model", "tiny.onnx", "-o", "out/", "--styles", 2).code == 0
    assert below("out") == ["a_style1.png", "a_style2.png"]
    assert pixels("out/a_style1.png") != pixels("out/a_style2.png")


def test_what_was_exported_of_a_model(ugatit: Command) -> None:
    put("a.png")
    folder = tiny.save(Path("model"))
    outcome = ugatit("translate", "a.png", "--model", "model", "--engine", "onnx", "-o", "b.png", "--to", "flat")
    assert outcome.code == 3
    assert "ugatit export model --direction b2a" in outcome.stderr
    place = exported(folder, "b2a")
    place.parent.mkdir(parents=True)
    inverting(place, described(direction="b2a"))
    arguments = ("--model", "model", "--engine", "onnx", "-o", "b.png", *NATIVE)
    assert ugatit("translate", "a.png", *arguments, "--direction", "b2a").code == 0
    assert pixels("b.png") == inverse("a.png")
    assert ugatit("translate", "a.png", *arguments, "--overwrite").code == 3  # only the other way was


def test_it_does_what_the_model_does(ugatit: Command) -> None:
    put("a.png")
    tiny.save(Path("model"))
    assert ugatit("export", "model", "--direction", "b2a").code == 0
    arguments = ("a.png", "--model", "model", "--to", "flat", "--precision", "fp32")
    assert ugatit("translate", *arguments, "--engine", "torch", "--device", "cpu", "-o", "torch.png").code == 0
    outcome = ugatit("translate", *arguments, "--engine", "onnx", "-o", "onnx.png")
    assert outcome.code == 0
    assert "model model (clay -> flat)" in outcome.stderr
    both = [np.frombuffer(pixels(f"{name}.png"), np.uint8).astype(int) for name in ("torch", "onnx")]
    assert np.abs(both[0] - both[1]).max() <= 1


def test_one_hears_when_another_engine_would_be_done_sooner(ugatit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    put("a.png")
    folder = tiny.save(Path("model"))
    arguments = ("a.png", "--model", "model", "-o", "out/", "--overwrite", "--device", "cpu")
    assert "onnx" not in ugatit("translate", *arguments).stderr
    place = exported(folder, "a2b")
    place.parent.mkdir(parents=True)
    inverting(place)
    assert "--engine onnx" in ugatit("translate", *arguments).stderr
    for more in (["--engine", "torch"], ["--direction", "b2a"]):
        assert "onnx" not in ugatit("translate", *arguments, *more).stderr
    monkeypatch.setattr(engines, "LITTLE", 0)
    assert "onnx" not in ugatit("translate", *arguments).stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--engine", "torch"], 2),
        (["--device", "cuda"], 2),
        (["--precision", "bf16"], 2),
        (["--compile"], 2),
        (["--tile", "64"], 2),
        (["--direction", "b2a"], 2),
        (["--to", "flat"], 2),
        (["--to", "nowhere"], 2),
        (["--style", "random"], 2),
        (["--model", "nowhere.onnx"], 3),
    ],
)
def test_what_does_not_go_with_a_file(ugatit: Command, arguments: list[str], code: int) -> None:
    put("a.png")
    inverting(Path("tiny.onnx"))
    named = [] if "--model" in arguments else ["--model", "tiny.onnx"]
    outcome = ugatit("translate", "a.png", "-o", "b.png", *named, *arguments)
    assert outcome.code == code
    assert len(outcome.errors) == 1
    assert not Path("b.png").exists()


def test_tiles_are_refused_before_anything_is_written(ugatit: Command) -> None:
    put("a.png")
    inverting(Path("full.onnx"), described(tiny.FULL))
    assert ugatit("translate", "a.png", "-o", "b.png", "--model", "full.onnx", *NATIVE).code == 2


def test_pytorch_is_not_imported() -> None:
    put("a.png")
    inverting(Path("tiny.onnx"), described(maps=True))
    place = exported(tiny.save(Path("model")), "a2b")
    place.parent.mkdir(parents=True)
    shutil.copy("tiny.onnx", place)
    ends = imported_by(
        "translate a.png --model tiny.onnx -o b.png --report r.html",
        "cam a.png --model tiny.onnx -o c.png",
        "translate a.png --model model --engine onnx -o d.png",
    )
    assert [code for code, _ in ends] == [0, 0, 0]
    _, modules = ends[-1]
    assert {"onnxruntime", "PIL"} <= modules
    assert modules & {"torch", "onnx", "ugatit_cli.device"} == set()
    assert {"b.png", "c.png", "d.png", "r.html"} <= {*below(".")}
