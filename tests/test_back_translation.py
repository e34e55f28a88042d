"""examples/ink2clay/back_translate.py: one direction learns from what the other one makes."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests import tiny
from ugatit_cli.errors import UsageError
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.weights.folder import open_model

EXAMPLE = Path(__file__).parents[1] / "examples" / "ink2clay"
Script = Callable[..., None]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and pictures."""
    folder = tmp_path_factory.mktemp("given")
    tiny.save(folder / "model")
    random = np.random.default_rng(4)
    for name in ("trainA", "trainB"):
        (folder / "data" / name).mkdir(parents=True)
        for number in range(8):
            pixels = random.integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(pixels).resize((36, 36)).save(folder / "data" / name / f"{number}.png")
    return folder


@pytest.fixture
def script(given: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Runs it on what is given."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    main = runpy.run_path(str(EXAMPLE / "back_translate.py"))["main"]
    # Far shorter, and by larger steps, than in use.
    main.__globals__["REPORT_EVERY"] = 6
    main.__globals__["RECIPE"] = replace(main.__globals__["RECIPE"], learning_rate=3e-3)

    def run(out: Path, *options: object, model: Path = given / "model") -> None:
        arguments = [model, out, "--data", given / "data", "--device", "cpu", *options]
        monkeypatch.setattr(sys, "argv", ["back_translate.py", *map(str, arguments)])
        main()

    return run


def state(folder: Path, direction: str) -> dict[str, Tensor]:
    found = open_model(folder).state(direction)
    assert found is not None
    return found


@pytest.mark.parametrize("direction", ["a2b", "b2a"])
def test_one_direction_is_trained_and_goes_on_as_if_it_had_never_ended(
    script: Script, given: Path, tmp_path: Path, direction: str
) -> None:
    options = ("--direction", direction, "--recolour", "--seed", 5)
    script(tmp_path / "whole", *options, "--steps", 3)
    for steps in (2, 3):
        script(tmp_path / "parts", *options, "--steps", steps)
    other = "b2a" if direction == "a2b" else "a2b"
    for one in ("whole", "parts"):
        torch.testing.assert_close(state(tmp_path / one / "model", other), state(given / "model", other))
    whole, start = state(tmp_path / "whole" / "model", direction), state(given / "model", direction)
    torch.testing.assert_close(whole, state(tmp_path / "parts" / "model", direction), rtol=0, atol=0)
    shutil.rmtree(tmp_path / "parts" / "model")  # as where it was killed after its checkpoint
    script(tmp_path / "parts", *options, "--steps", 3)
    torch.testing.assert_close(whole, state(tmp_path / "parts" / "model", direction), rtol=0, atol=0)
    assert any(not torch.equal(whole[name], start[name]) for name in start)
    assert "3 steps" in open_model(tmp_path / "whole" / "model").provenance[f"back-translation {direction}"]


def test_pairs_are_learnt(script: Script, tmp_path: Path) -> None:
    script(tmp_path / "out", "--direction", "a2b", "--steps", 12, "--precision", "fp32")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [6, 12]
    for name in ("pixels", "cam"):
        assert lines[1][name] < lines[0][name]


def test_a_judge_learns_beside_it(script: Script, tmp_path: Path) -> None:
    options = ("--direction", "a2b", "--adversarial", 0.2)
    for steps in (6, 12):
        script(tmp_path / "out", *options, "--steps", steps)
    first, second = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert 0 < json.loads(second)["judge"] < json.loads(first)["judge"]
    assert open_model(tmp_path / "out" / "model").discriminators is None


def test_hues_turn_and_what_has_none_stays() -> None:
    source = torch.Generator().manual_seed(1)
    recoloured = runpy.run_path(str(EXAMPLE / "back_translate.py"))["recoloured"]
    greys = torch.linspace(-1, 1, 5).expand(20, 3, 1, 5)
    torch.testing.assert_close(recoloured(greys, source), greys)
    red = torch.tensor([0.5, -0.5, -0.5]).view(1, 3, 1, 1).expand(20, 3, 1, 1)
    turned = recoloured(red, source)
    assert 1 < len(turned.flatten(1).unique(dim=0)) <= 20
    torch.testing.assert_close(turned.mean(1), red.mean(1))
    assert 0 < (turned == red).all(1).sum() < 20


def test_what_it_cannot_do(script: Script, tmp_path: Path) -> None:
    options = ("--direction", "a2b", "--steps", 1)
    cyclegan = tiny.save(tmp_path / "cyclegan", tiny.CYCLEGAN)
    with pytest.raises(UsageError, match="U-GAT-IT"):
        script(tmp_path / "out", *options, model=cyclegan)
    RunFolder(tmp_path / "out").create({"back-translation": {"direction": "b2a"}})
    with pytest.raises(UsageError, match="other options"):
        script(tmp_path / "out", *options)
