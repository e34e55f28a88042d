"""`ugatit cam --run`: attention emerging over the checkpoints of a training run."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Command, Outcome, below, encoded, picture, put
from tests.trainings import make_folders, train
from ugatit_cli.attention.maps import Style
from ugatit_cli.pictures import reading
from ugatit_cli.training import history
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.translation.model import Model
from ugatit_cli.weights.folder import ModelFolder, open_model

CPU = ["--device", "cpu", "--precision", "fp32"]
OVERLAY = ("--layout", "overlay", "--size", "same")
# What training keeps its weights in: the averages where there are any.
WEIGHTS = {"run": "averages", "plain": "generators"}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tiny runs of three checkpoints, `run` with averages and `plain` without."""
    root = tmp_path_factory.mktemp("cam-run")
    folders = make_folders(root / "pictures", 8)
    for name, more in (("run", {"ema": 0.9}), ("plain", {"ema": 0.0})):
        train(root / name, folders, {"iterations": 3, "checkpoint_every": "1", "keep": 5, "holdout": "0", **more})
    return root


@pytest.fixture
def run(runs: Path) -> RunFolder:
    """A copy of the run with averages, in the working folder."""
    shutil.copytree(runs / "run", "run")
    return RunFolder(Path("run"))


@pytest.fixture
def cam(ugatit: Command, run: RunFolder) -> Command:
    """`ugatit cam` with the run."""

    def look(*arguments: object, **stdin: Any) -> Outcome:
        return ugatit("cam", "--run", run.path, *CPU, *arguments, **stdin)

    return look


def results() -> list[str]:
    """Files outside of the run."""
    return [name for name in below(".") if not name.startswith("run/")]


def checkpoint(run: RunFolder, step: int, weights: str) -> Model:
    """The model of a checkpoint, opened here without the code that is tested."""
    folder, config = run.checkpoint_path(step), open_model(run.path).config
    found = ModelFolder(folder, config, {}, folder / f"{weights}.safetensors", folder / "discriminators.safetensors")
    return Model.from_folder("x", found, device="cpu", precision="fp32")


def arrays(path: str) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(frame.rgb) for frame in reading.read_picture(Path(path)).frames]


# --- Animations ----------------------------------------------------------------------------------------


def test_a_frame_for_each_checkpoint(cam: Command) -> None:
    put("in/a.png", "in/b/c.jpg")
    outcome = cam("in")
    assert (outcome.code, outcome.lines) == (0, ["attention/a.webp", "attention/b/c.webp"])
    assert "3 checkpoints, from step 1 to 3\n" in outcome.stderr
    assert "more frames: train with --keep 100" in outcome.stderr
    assert "2 animated in " in outcome.stderr
    assert "model ./run (red -> blue)" in outcome.stderr
    for name in outcome.lines:
        result = reading.read_picture(Path(name))
        assert (result.format, result.durations, result.loop) == ("WEBP", (800, 800, 2000), 0)
        assert result.size[0] > 700


@pytest.mark.parametrize(
    ("arguments", "name", "format"),
    [
        (("-o", "x.gif"), "x.gif", "GIF"),
        (("-o", "x.png"), "x.png", "PNG"),
        (("-o", "new/x.webp"), "new/x.webp", "WEBP"),
        (("-o", "out", "--format", "gif"), "out/a.gif", "GIF"),
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


@pytest.mark.parametrize("name", WEIGHTS)
def test_frames_are_what_each_checkpoint_makes(ugatit: Command, runs: Path, name: str) -> None:
    put("a.png")
    overlay = (*OVERLAY, "--alpha", "0", "--maps", "local", "--to", "red", "-o", "a0.png")
    assert ugatit("cam", "a.png", "--run", runs / name, *CPU, *overlay).code == 0
    run = RunFolder(runs / name)
    assert run.checkpoints() == [1, 2, 3]
    for step, frame in zip((1, 2, 3), arrays("a0.png"), strict=True):
        assert (frame == np.asarray(checkpoint(run, step, WEIGHTS[name]).translate(picture(), "b2a"))).all()
    if name == "run":  # or the comparison tells nothing
        other = checkpoint(run, 3, "generators").translate(picture(), "b2a")
        assert (arrays("a0.png")[2] != np.asarray(other)).any()


def test_attention_is_that_of_each_checkpoint(cam: Command, run: RunFolder) -> None:
    put("a.png")
    assert cam("a.png", "--layout", "overlay", "--alpha", "1", "--format", "png", "--size", "same").code == 0
    assert results() == ["a.png", "attention/a.generator.png", "attention/a.global.png", "attention/a.local.png"]
    models = [checkpoint(run, step, "averages") for step in (1, 2, 3)]
    for name in ("generator", "local", "global"):
        wanted = [model.attention_maps([picture()]).overlay(0, name, alpha=1) for model in models]
        for frame, one in zip(arrays(f"attention/a.{name}.png"), wanted, strict=True):
            assert (frame == np.asarray(one)).all()


def test_one_scale_for_all_frames(cam: Command, run: RunFolder) -> None:
    put("a.png", "b.png")
    overlay = (*OVERLAY, "--alpha", "1", "--maps", "generator", "--format", "png", "--normalize", "batch")
    assert cam("a.png", "b.png", *overlay).code == 0
    models = [checkpoint(run, step, "averages") for step in (1, 2, 3)]
    maps = [[m.attention_maps([picture(seed=seed)]).maps[0]["generator"] for m in models] for seed in (0, 1)]
    spans = [one.span for several in maps for one in several]
    assert len(set(spans)) == 6
    span = min(low for low, _ in spans), max(high for _, high in spans)
    for seed, name in enumerate("ab"):
        frames = arrays(f"attention/{name}.png")
        for frame, one in zip(frames, maps[seed], strict=True):
            assert (frame == np.asarray(Style(1).over(picture(seed=seed), one, span))).all()


def test_sizes(cam: Command) -> None:
    put("a.png")
    for layout in ("overlay", "heatmap"):
        one = ("a.png", "--layout", layout, "--maps", "generator", "--format", "png")
        assert cam(*one, "-o", layout).code == 0
        assert cam(*one, "-o", f"own-{layout}", "--size", "same").code == 0
    assert arrays("overlay/a.png")[0].shape == (140, 168, 3)  # as is good to look at
    assert arrays("own-overlay/a.png")[0].shape == (20, 24, 3)
    outcome = cam("a.png", "-o", "huge", "--layout", "overlay", "--maps", "local", "--size", "9000x9000")
    assert outcome.code == 1
    assert outcome.errors[0] == "a.png: 3 frames of 9000 x 9000 pixels are too large for an animation"
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
    assert by_input["gone.png"]["error"] == "gone.png: no such file"
    assert by_input["in/b.png"]["error"].startswith("in/b.png: not a picture")
    done = by_input["in/a.png"]
    assert done.pop("milliseconds") > 0
    assert done.pop("output") == "attention/a.webp"
    assert (done["width"], done["height"]) == reading.read_picture(Path("attention/a.webp")).size
    assert below("attention") == ["a.webp"]


def test_the_source_is_one_frame(cam: Command) -> None:
    first, *more = (picture(seed=seed) for seed in range(5))
    first.save("a.webp", save_all=True, append_images=more, duration=30, lossless=True)
    first.save("b.png")
    overlay = ("--layout", "overlay", "--maps", "local", "--format", "png")
    assert cam("a.webp", "b.png", *overlay).code == 0
    assert Path("attention/a.png").read_bytes() == Path("attention/b.png").read_bytes()


# --- Checkpoints ---------------------------------------------------------------------------------------


def test_one_checkpoint_gives_a_still(cam: Command, run: RunFolder) -> None:
    put("a.png")
    for step in (1, 2):
        shutil.rmtree(run.checkpoint_path(step))
    for ending in ("webp", "gif", "png"):
        outcome = cam("a.png", "-o", f"x.{ending}")
        assert (outcome.code, "1 checkpoint, from step 3 to 3\n" in outcome.stderr) == (0, True)
        assert reading.read_picture(Path(f"x.{ending}")).durations == ()


def test_a_checkpoint_that_goes_away_meanwhile(cam: Command, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on removes old checkpoints."""
    put("a.png")
    original: Callable[..., Model] = history.checkpoint_model

    def removing(folder: RunFolder, step: int, like: Model) -> Model:
        shutil.rmtree(run.checkpoint_path(2), ignore_errors=True)
        return original(folder, step, like)

    monkeypatch.setattr(history, "checkpoint_model", removing)
    assert cam("a.png", "-o", "x.png").code == 0
    assert reading.read_picture(Path("x.png")).durations == (800, 2000)


@pytest.mark.parametrize("step", [1, 3])
def test_a_damaged_checkpoint(cam: Command, run: RunFolder, step: int) -> None:
    put("a.png")
    weights = run.checkpoint_path(step) / "averages.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    outcome = cam("a.png")
    assert (outcome.code, len(outcome.errors)) == (3, 1)
    assert str(weights) in outcome.errors[0]
    assert results() == ["a.png"]


def test_a_checkpoint_with_a_file_missing(cam: Command, run: RunFolder) -> None:
    put("a.png")
    (run.checkpoint_path(2) / "discriminators.safetensors").unlink()
    outcome = cam("a.png")
    assert (outcome.code, "discriminators.safetensors" in outcome.errors[0]) == (3, True)
    assert cam("a.png", "--maps", "generator").code == 0


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
    "jpg": (("-o", "x.jpg"), "JPEG can't be animated"),
    "jpg by format": (("--format", "jpg"), "JPEG can't be animated"),
    "bmp": (("-o", "x.bmp"), "BMP can't be animated"),
    "no picture at all": (("-o", "x.heic"), "pictures can't be written as '.heic'"),
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


@pytest.mark.parametrize("name", ["nosuch", "a.png", "model", "in"])
def test_what_is_no_run(ugatit: Command, light: str, name: str) -> None:
    put("a.png", "in/b.png")
    shutil.copytree(light, "model")
    outcome = ugatit("cam", "a.png", "--run", name)
    assert (outcome.code, outcome.errors) == (2, [f"--run {name}: not a run folder"])
    assert "runs/NAME" in outcome.stderr


def test_a_run_with_the_name_of_a_model(ugatit: Command, runs: Path) -> None:
    """Which isn't fetched instead."""
    put("a.png")
    shutil.copytree(runs / "plain", "flat2clay")
    outcome = ugatit("cam", "a.png", "--run", "flat2clay", *CPU)
    assert outcome.code == 0
    assert "model ./flat2clay (red -> blue)" in outcome.stderr
    assert len(arrays("attention/a.webp")) == 3
