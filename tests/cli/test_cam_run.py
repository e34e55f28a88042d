"""`ugatit cam --run`: attention emerging over the checkpoints of a training run."""

from __future__ import annotations

import shlex
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.cam_results import CPU
from tests.cli.conftest import Command, Outcome, below, encoded, picture, put
from tests.trainings import Log, make_folders, prepared, train
from ugatit_cli.attention.maps import Style
from ugatit_cli.config import MAPS
from ugatit_cli.pictures import reading
from ugatit_cli.training import history
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.translation.model import Model
from ugatit_cli.weights.folder import ModelFolder, open_model

OVERLAY = ("--layout", "overlay", "--size", "same", "--format", "png")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run of three checkpoints, with averages."""
    root = tmp_path_factory.mktemp("cam-run")
    options = {"iterations": 3, "checkpoint_every": "1", "keep": 5, "holdout": "0", "ema": 0.9}
    train(root / "run", make_folders(root / "pictures", 8), options)
    return root / "run"


@pytest.fixture
def run(trained: Path) -> RunFolder:
    """A copy of the run, in the working folder."""
    return RunFolder(Path(shutil.copytree(trained, "run")))


@pytest.fixture
def cam(ugatit: Command, run: RunFolder) -> Command:
    """`ugatit cam` with the run."""

    def look(*arguments: object, **stdin: Any) -> Outcome:
        return ugatit("cam", "--run", run.path, *CPU, *arguments, **stdin)

    return look


def results() -> list[str]:
    """Files outside of the run."""
    return [name for name in below(".") if not name.startswith("run/")]


def models(run: RunFolder) -> list[Model]:
    """Those of the checkpoints, opened here without the code that is tested."""
    found, config = [], open_model(run.path).config
    for step in (1, 2, 3):
        folder = run.checkpoint_path(step)
        files = ModelFolder(
            folder, config, {}, folder / "averages.safetensors", folder / "discriminators.safetensors"
        )
        found.append(Model.from_folder("x", files, device="cpu", precision="fp32"))
    return found


def arrays(path: str) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(frame.rgb) for frame in reading.read_picture(Path(path)).frames]


# --- Animations ----------------------------------------------------------------------------------------


def test_a_frame_for_each_checkpoint(cam: Command) -> None:
    put("in/a.png", "in/b/c.jpg")
    outcome = cam("in")
    assert (outcome.code, outcome.lines) == (0, ["attention/a.webp", "attention/b/c.webp"])
    assert "3 checkpoints, from step 1 to 3\n" in outcome.stderr
    assert "more frames" not in outcome.stderr  # a checkpoint of each of its three steps is all that there can be
    assert "2 animated in " in outcome.stderr
    assert "model ./run (red -> blue)" in outcome.stderr
    for name in outcome.lines:
        result = reading.read_picture(Path(name))
        assert (result.format, result.durations, result.loop) == ("WEBP", (800, 800, 2000), 0)
        assert result.size[0] > 700


@pytest.mark.parametrize(("length", "every"), [("iterations = 20000", "800"), ("minutes = 90", "3.6m")])
def test_what_a_run_of_this_length_needs_for_more_frames(
    cam: Command, run: RunFolder, length: str, every: str
) -> None:
    put("a.png")
    config = run.path / "config.toml"
    config.write_text(config.read_text().replace("iterations = 3", length))
    said = cam("a.png").stderr
    assert f"--checkpoint-every {every} --keep 30" in said
    config.write_text(
        config.read_text().replace('every = "1"', f'every = "{every}"').replace("keep = 5", "keep = 30")
    )
    assert "more frames" not in cam("a.png", "--overwrite").stderr  # it is young


def test_the_command_for_more_frames_makes_them(cam: Command, run: RunFolder, ugatit: Command) -> None:
    put("a.png")
    shutil.rmtree(run.checkpoint_path(2))
    config = run.path / "config.toml"
    config.write_text(config.read_text().replace("keep = 5", "keep = 2"))
    for again in ("run-frames", "run-frames2"):
        (line,) = (line for line in cam("a.png", "--overwrite").stderr.splitlines() if "more frames" in line)
        command = shlex.split(line[line.index("ugatit train") :])
        assert ugatit(*command[1:], *CPU).code == 0
        assert RunFolder(Path(again)).checkpoints() == [1, 2, 3]
    assert RunFolder(Path("run")).checkpoints() == [1, 3]


@pytest.mark.parametrize(
    ("arguments", "name", "format"),
    [
        (("-o", "new/x.gif"), "new/x.gif", "GIF"),
        (("-o", "out", "--format", "png", "--animate"), "out/a.png", "PNG"),
    ],
)
def test_formats(cam: Command, arguments: tuple[str, ...], name: str, format: str) -> None:
    put("in/a.png")
    outcome = cam("in/a.png", *arguments)
    assert (outcome.code, outcome.lines) == (0, [name])
    assert "nothing is animated" not in outcome.stderr
    result = reading.read_picture(Path(name))
    assert (result.format, result.durations, result.loop) == (format, (800, 800, 2000), 0)
    assert results() == sorted(["in/a.png", name])


def test_attention_is_that_of_each_checkpoint(cam: Command, run: RunFolder) -> None:
    put("a.png")
    assert cam("a.png", *OVERLAY, "--alpha", "0.5", "--to", "red").code == 0
    assert results() == ["a.png", "attention/a.generator.png", "attention/a.global.png", "attention/a.local.png"]
    seen = [model.attention_maps([picture()], "b2a") for model in models(run)]
    for name in MAPS:
        for frame, maps in zip(arrays(f"attention/a.{name}.png"), seen, strict=True):
            assert (frame == np.asarray(maps.overlay(0, name, alpha=0.5))).all()


def test_one_scale_for_all_frames(cam: Command, run: RunFolder) -> None:
    put("a.png", "b.png")
    assert cam("a.png", "b.png", *OVERLAY, "--alpha", "1", "--maps", "generator", "--normalize", "batch").code == 0
    pictures = [picture(seed=seed) for seed in (0, 1)]
    maps = [[one["generator"] for one in model.attention_maps(pictures).maps] for model in models(run)]
    spans = [one.span for several in maps for one in several]
    assert len(set(spans)) == 6
    span = min(low for low, _ in spans), max(high for _, high in spans)
    for source, of_each, name in zip(pictures, zip(*maps, strict=True), "ab", strict=True):
        for frame, one in zip(arrays(f"attention/{name}.png"), of_each, strict=True):
            assert (frame == np.asarray(Style(1).over(source, one, span))).all()


def test_sizes(cam: Command) -> None:
    put("a.png")
    one = ("a.png", "--layout", "overlay", "--maps", "generator", "--format", "png")
    for size, shape in (("auto", (140, 168, 3)), ("same", (20, 24, 3))):  # as is good to look at, and as it is
        assert cam(*one, "-o", size, "--size", size).code == 0
        assert arrays(f"{size}/a.png")[0].shape == shape
    outcome = cam(*one, "-o", "huge", "--size", "9000x9000", "--max-pixels", "200M")
    assert outcome.code == 1
    assert outcome.errors[0].startswith("a.png: 243.0 megapixels (3 frames of 9000 x 9000)")
    assert "--size" in outcome.stderr


def test_from_stdin_to_stdout(cam: Command) -> None:
    outcome = cam("-", "--maps", "generator", stdin=encoded("JPEG"))
    assert outcome.code == 0
    result = reading.read_picture(outcome.stdout)
    assert (result.format, result.durations) == ("WEBP", (800, 800, 2000))
    assert results() == []


def test_json_lines_and_bad_files(cam: Command) -> None:
    put("in/a.png")
    Path("in/b.png").write_bytes(b"text")
    outcome = cam("in", "gone.png", "--json")
    assert outcome.code == 1
    assert "1 animated, 2 failed" in outcome.stderr
    by_input = {found.pop("input"): found for found in outcome.documents}
    assert by_input["gone.png"]["error"] == "no such file"
    assert by_input["in/b.png"]["error"].startswith("not a picture")
    done = by_input["in/a.png"]
    assert done.pop("milliseconds") > 0
    assert done.pop("output") == "attention/a.webp"
    assert (done["width"], done["height"]) == reading.read_picture(Path("attention/a.webp")).size
    assert below("attention") == ["a.webp"]


# --- Checkpoints ---------------------------------------------------------------------------------------


def test_one_checkpoint_gives_a_still(cam: Command, run: RunFolder) -> None:
    put("a.png")
    for step in (1, 2):
        shutil.rmtree(run.checkpoint_path(step))
    outcome = cam("a.png", "-o", "x.png")
    assert (outcome.code, "1 checkpoint, from step 3 to 3\n" in outcome.stderr) == (0, True)
    assert reading.read_picture(Path("x.png")).durations == ()


def test_checkpoints_that_are_not_whole(cam: Command, run: RunFolder) -> None:
    put("a.png")
    (run.checkpoint_path(2) / "discriminators.safetensors").unlink()
    outcome = cam("a.png")
    assert (outcome.code, "discriminators.safetensors" in outcome.errors[0]) == (3, True)
    assert cam("a.png", "--maps", "generator", "--dry-run").code == 0
    weights = run.checkpoint_path(3) / "averages.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    outcome = cam("a.png", "--maps", "generator")
    assert (outcome.code, len(outcome.errors), str(weights) in outcome.errors[0]) == (3, 1, True)
    assert results() == ["a.png"]


def test_no_checkpoint(cam: Command, run: RunFolder) -> None:
    put("a.png")
    shutil.rmtree(run.path / "checkpoints")
    outcome = cam("a.png")
    assert (outcome.code, outcome.errors) == (3, ["run: has no checkpoint yet"])
    assert results() == ["a.png"]


def test_stopping(cam: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    put("a.png", "b.png")
    original: Callable[..., Model] = history.checkpoint_model

    def stopping(folder: RunFolder, step: int, like: Model) -> Model:
        if step == 2:
            signal.raise_signal(signal.SIGINT)
        return original(folder, step, like)

    monkeypatch.setattr(history, "checkpoint_model", stopping)
    outcome = cam("a.png", "b.png")
    assert (outcome.code, outcome.lines) == (130, [])
    assert outcome.errors == ["interrupted; everything finished so far is kept"]
    assert results() == ["a.png", "b.png"]


# --- Wrong usage ---------------------------------------------------------------------------------------

WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "jpg by format": (("--format", "jpg"), "JPEG can't be animated"),
    "bmp": (("-o", "x.bmp"), "BMP can't be animated"),
    "no picture at all": (("-o", "x.heic"), "pictures can't be written as .heic"),
    "format against name": (("-o", "x.png", "--format", "gif"), "--format gif contradicts the name x.png"),
    "model": (("--model", "flat2clay"), "--model and --run contradict each other"),
    "report": (("--report", "r.html"), "--report doesn't go with --run"),
    "not animated": (("--no-animate",), "--no-animate doesn't go with --run"),
    "numbers": (("--layout", "raw"), "--layout raw can't be animated"),
    "several files to one": (("-o", "x.webp", "--layout", "overlay"), "makes several files of a picture"),
    "no such map": (("--maps", "locale"), "no attention map 'locale'"),
    "no such domain": (("--to", "clay"), "no domain 'clay'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage(cam: Command, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.setattr(history, "draw_history", None)
    put("a.png")
    arguments, reason = WRONG[case]
    outcome = cam("a.png", *arguments)
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert reason in outcome.errors[0]
    assert results() == ["a.png"]
    assert not Path("attention").exists()


def test_a_run_of_a_method_without_attention(ugatit: Command, tmp_path: Path) -> None:
    put("a.png")
    given = {"method": "cyclegan", "image_size": 32, "channels": 4, "blocks": 1, "iterations": 1, "precision": "fp32"}
    prepared(Path("run"), make_folders(tmp_path / "pictures"), given).train(Log(), threading.Event())
    outcome = ugatit("cam", "a.png", "--run", "run", *CPU)
    assert (outcome.code, outcome.stdout, len(outcome.errors)) == (3, b"", 1)
    assert outcome.errors[0].startswith("./run: ")
    assert outcome.errors[0].count("cyclegan") == 1
    assert not Path("attention").exists()


@pytest.mark.parametrize("name", ["nosuch", "a.png", "model", "in"])
def test_what_is_no_run(ugatit: Command, light: str, name: str) -> None:
    put("a.png", "in/b.png")
    shutil.copytree(light, "model")
    outcome = ugatit("cam", "a.png", "--run", name)
    assert (outcome.code, outcome.errors) == (2, [f"--run {name}: not a run folder"])
    assert "runs/NAME" in outcome.stderr


def test_a_run_with_the_name_of_a_model(ugatit: Command, trained: Path) -> None:
    """Which isn't fetched instead."""
    put("a.png")
    shutil.copytree(trained, "flat2clay")
    outcome = ugatit("cam", "a.png", "--run", "flat2clay", *CPU)
    assert outcome.code == 0
    assert "model ./flat2clay (red -> blue)" in outcome.stderr
    assert len(arrays("attention/a.webp")) == 3
