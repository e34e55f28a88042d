"""What checkpoints make of a picture, one after the other."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from tests import tiny
from tests.helpers import picture
from ugatit_cli import load
from ugatit_cli.attention.maps import Style
from ugatit_cli.attention.words import Subject
from ugatit_cli.config import DIRECTIONS, DOMAINS, SCALES
from ugatit_cli.data.pictures import Folders
from ugatit_cli.errors import ModelError, PictureError
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import Generator
from ugatit_cli.outputs.attention import Overlay
from ugatit_cli.outputs.base import Drawing, FileOptions, Translation
from ugatit_cli.pictures import reading
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.training import history
from ugatit_cli.training.history import checkpoint_model, draw_history, durations, saving_for
from ugatit_cli.training.options import parse_interval
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import Settings, new_settings
from ugatit_cli.translation import passes
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.passes import Translated
from ugatit_cli.translation.pipeline import Result, TranslateOptions
from ugatit_cli.translation.spool import Spool

SUBJECT = Subject("run", tiny.LIGHT, "a2b")
SIZE = (24, 20)


def weights(seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Of both generators, and of all discriminators."""
    torch.manual_seed(seed)
    generators, judges = dict[str, Tensor](), dict[str, Tensor]()
    for direction in DIRECTIONS:
        generators |= tiny.tensors(Generator(tiny.LIGHT), f"{direction}.")
    for domain in DOMAINS:
        for scale in SCALES:
            judges |= tiny.tensors(Discriminator(tiny.LIGHT, scale), f"{domain}.{scale}.")
    return generators, judges


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three checkpoints with other weights each, the last one with averages; not to be changed."""
    run = RunFolder(tmp_path_factory.mktemp("history") / "run")
    run.create({})
    for step in (1, 5, 1000):
        files = dict(zip(("generators", "discriminators"), weights(step), strict=True))
        if step == 1000:
            files["averages"] = weights(7)[0]
        run.save_checkpoint(step, files, {}, keep=9)
    return run.path


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(saved, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The run's model; its weights are those of none of the checkpoints."""
    return load(
        tiny.save(tmp_path_factory.mktemp("model") / "m", discriminators=True), device="cpu", precision="fp32"
    )


def put_jobs(folder: Path, count: int = 1) -> list[Job]:
    for index in range(count):
        picture(*SIZE, seed=index).save(folder / f"{index}.png")
    return [Job(folder / f"{index}.png", folder / f"out/{index}.png") for index in range(count)]


OVERLAY = Overlay(SUBJECT, ("generator",), Style())


def draw(run: RunFolder, model: Model, jobs: Sequence[Job], drawing: Drawing = OVERLAY) -> list[Result]:
    return list(draw_history(run, model, jobs, TranslateOptions(), drawing, threading.Event()))


@given(st.integers(2, 2000))
def test_durations(count: int) -> None:
    assert durations(1) == ()
    *each, last = durations(count)
    assert len(each) == count - 1
    assert len(set(each)) == 1
    assert 120 <= each[0] <= 800
    assert last == 2000
    if 11 <= count <= 67:
        assert 7900 < sum(each) <= 8000


def test_the_averages_are_taken_where_there_are_any(run: RunFolder, model: Model) -> None:
    for step, seed in ((1, 1), (5, 5), (1000, 7)):
        found = checkpoint_model(run, step, model)
        assert (found.name, found.device, found.precision) == (f"step {step:,}", model.device, "fp32")
        for network, prefix, stored in (
            (found.generator("b2a"), "b2a", weights(seed)[0]),
            (found.discriminator("b", "local"), "b.local", weights(step)[1]),
        ):
            assert all(torch.equal(one, stored[f"{prefix}.{name}"]) for name, one in network.state_dict().items())


def test_captions_are_the_steps(
    run: RunFolder, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions, original = [], Overlay.draw

    def watched(self: Overlay, done: Any) -> Any:
        captions.append(done.captions)
        return original(self, done)

    monkeypatch.setattr(Overlay, "draw", watched)
    draw(run, model, put_jobs(tmp_path))
    assert captions == [("step 1", "step 5", "step 1,000")]


def test_transparency_and_animation_of_the_source(run: RunFolder, model: Model, tmp_path: Path) -> None:
    alpha = Image.fromarray(np.arange(480, dtype=np.uint16).reshape(20, 24).clip(0, 255).astype(np.uint8))
    shown = [picture(*SIZE, seed=seed) for seed in (1, 2)]
    for image in shown:
        image.putalpha(alpha)
    shown[0].save(tmp_path / "0.png", save_all=True, append_images=shown[1:], duration=50)
    draw(run, model, [Job(tmp_path / "0.png", tmp_path / "out.png")])
    result = reading.read_picture(tmp_path / "out.png")
    assert [frame.alpha and frame.alpha.tobytes() for frame in result.frames] == [alpha.tobytes()] * 3


def test_a_picture_that_a_checkpoint_cannot_take(
    run: RunFolder, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = put_jobs(tmp_path, 3)
    original, calls = passes.look, []

    def look(model: Model, *arguments: Any) -> Iterator[Translated]:
        calls.append(model.name)
        if len(calls) == 5:  # the second picture in the second checkpoint
            raise PictureError("not enough memory", "Use --tile 512.")
        return original(model, *arguments)

    monkeypatch.setattr(passes, "look", look)
    failed, *good = draw(run, model, jobs)
    assert failed.job == jobs[1]
    assert failed.error
    assert (failed.error.message, failed.error.hint) == (f"{jobs[1].source}: not enough memory", "Use --tile 512.")
    assert [(result.job, result.error, result.frames) for result in good] == [(jobs[0], None, 3), (jobs[2], None, 3)]
    assert calls == ["step 1"] * 3 + ["step 5"] * 3 + ["step 1,000"] * 2


def test_stopped_while_results_are_written(run: RunFolder, model: Model, tmp_path: Path) -> None:
    jobs, stop = put_jobs(tmp_path, 3), threading.Event()
    options = TranslateOptions(files=FileOptions())
    for result in draw_history(run, model, jobs, options, Translation(), stop):
        assert result.job == jobs[0]
        stop.set()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["0.png"]


def test_nothing_temporary_stays(
    run: RunFolder, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(history, "Spool", functools.partial(Spool, 0))
    results = draw_history(run, model, put_jobs(tmp_path, 2), TranslateOptions(), OVERLAY, threading.Event())
    next(results)
    assert list(temporary.iterdir())
    results.close()
    assert not list(temporary.iterdir())


def test_a_damaged_checkpoint_names_its_folder(run: RunFolder, model: Model, tmp_path: Path) -> None:
    folder = run.checkpoint_path(run.checkpoints()[0])
    for path in folder.glob("*.safetensors"):
        path.write_bytes(b"garbage")
    with pytest.raises(ModelError) as raised:
        draw(run, model, put_jobs(tmp_path, 1))
    assert raised.value.hint == f"Delete {folder}."


# --- What a run saves for it ---------------------------------------------------------------------------


def settings_of(**given: Any) -> Settings:
    folders = Folders(Path("a"), Path("b"))
    return new_settings({"precision": "fp32"} | given, folders, device=torch.device("cpu"))


@given(st.one_of(st.integers(60, 10**7), st.floats(0.01, 10**5)))
def test_a_run_that_saves_as_advised_has_frames_enough_and_keeps_them(length: float) -> None:
    of = {"iterations": length} if isinstance(length, int) else {"minutes": length}
    saving = saving_for(settings_of(**of))
    assert saving is not None
    steps, seconds = parse_interval("--checkpoint-every", saving.every)
    count = length // steps if steps else 60 * length / seconds
    assert 20 <= count <= saving.keep <= 32
    assert saving_for(settings_of(**of, checkpoint_every=saving.every, keep=saving.keep)) is None


def test_runs_that_save_often_enough_need_no_advice() -> None:
    assert saving_for(settings_of(iterations=6, checkpoint_every="1", keep=6)) is None
    assert saving_for(settings_of(iterations=6, checkpoint_every="1", keep=5)) is not None
    assert saving_for(settings_of(minutes=500, checkpoint_every="10m", keep=50)) is None
    assert saving_for(settings_of(minutes=500, checkpoint_every="10m", keep=2)) is not None


@given(steps=st.integers(2, 200), minutes=st.floats(0.1, 100))
def test_few_steps_in_many_minutes_are_a_frame_each_at_most(steps: int, minutes: float) -> None:
    pace = steps / (60 * minutes)
    saving = saving_for(settings_of(minutes=minutes, checkpoint_every="100m", keep=1), pace)
    assert saving is not None
    assert min(steps, 20) <= saving.frames <= min(steps + 1, saving.keep)  # the last one may end after its minutes
    assert parse_interval("--checkpoint-every", saving.every)[0] > 0
    saved = {"checkpoint_every": saving.every, "keep": saving.keep}
    assert saving_for(settings_of(minutes=minutes, **saved), pace) is None
