"""`ugatit export`: what it says, where files go, and that `translate` takes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny
from tests.cli.conftest import Command, put
from ugatit_cli.exporting.store import exported


def test_a_file_is_written_and_what_it_does_is_said(ugatit: Command, light: str) -> None:
    outcome = ugatit("export", light, "--to", "flat", "--size", "48x32", "--maps", "-o", "x.onnx")
    assert (outcome.code, outcome.lines) == (0, ["x.onnx"])
    assert "clay -> flat, fp32, 48x32 pixels" in outcome.stderr
    assert "compared with PyTorch on 3 pictures" in outcome.stderr
    again = ugatit("export", light, "-o", "x.onnx")
    assert (again.code, again.errors) == (2, ["x.onnx: exists already"])
    assert ugatit("export", light, "-o", "x.onnx", "--overwrite").code == 0


def test_in_a_folder_a_file_has_the_models_name(ugatit: Command, light: str) -> None:
    Path("there.d").mkdir()
    assert ugatit("export", light, "-o", "new/").lines == ["new/tiny-a2b.onnx"]
    assert ugatit("export", light, "-o", "there.d", "--to", "flat").lines == ["there.d/tiny-b2a.onnx"]
    assert ugatit("export", light, "-o", "new/", "--format", "torchscript").lines == ["new/tiny-a2b.pt"]
    assert ugatit("export", light, "-o", "new/").code == 2
    assert ugatit("export", light, "-o", "none").code == 2


def test_without_a_name_translate_finds_it_by_the_models(ugatit: Command, light: str) -> None:
    outcome = ugatit("export", light)
    assert outcome.lines == [str(exported(Path(light), "a2b"))]
    put("in/a.png")
    assert ugatit("translate", "in", "-o", "out", "--engine", "onnx", "--model", light).code == 0
    assert Path("out/a.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "wide"], "--size wide: unknown"),
        (["--size", "30"], "size 30x30: sides are multiples of 4, 16 or more"),
        (["--direction", "b2a"], "{model}: this model translates flat to clay only, not back"),
        (["--to", "anime"], "{model}: this model has no domain 'anime'"),
        (["--format", "torchscript"], "x.onnx: torchscript files end in .pt or .ts"),
    ],
)
def test_what_cannot_be_names_the_option(words: list[str], said: str, ugatit: Command, tmp_path: Path) -> None:
    model = tiny.save(tmp_path / "one", tiny.ONE_WAY)
    outcome = ugatit("export", model, "-o", "x.onnx", *words)
    assert (outcome.code, outcome.errors) == (2, [said.format(model=model)])
    assert not Path("x.onnx").exists()


def test_an_unknown_model_is_said(ugatit: Command) -> None:
    assert ugatit("export", "no-such-model", "-o", "x.onnx").code == 3
