"""Runs that are interrupted and go on: as if nothing had happened. And how runs end that can't go on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.conftest import Clock
from tests.trainings import Log, make_folders, metrics, train, unread, weights
from ugatit_cli.data.batches import stream
from ugatit_cli.data.pictures import Folders
from ugatit_cli.device import Group
from ugatit_cli.errors import DataError, TrainingError
from ugatit_cli.methods import ugatit
from ugatit_cli.training import session, trainer
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.session import MANY_EPOCHS
from ugatit_cli.training.settings import new_settings
from ugatit_cli.training.trainer import SHOWN, LossReader, Outcome
from ugatit_cli.weights.folder import open_model


def same_end(one: Path, other: Path) -> None:
    """Bit for bit: weights, moments, averages, the model, and what was noted on the way."""
    assert weights(one) == weights(other)
    assert metrics(one) == metrics(other)
    first, second = (RunFolder(path).samples_path(RunFolder(path).latest() or 0) for path in (one, other))
    assert first.read_bytes() == second.read_bytes()


CASES: dict[str, dict[str, Any]] = {
    "paper": {"recipe": "paper"},
    "default": {"augment": "on", "batch_size": 2, "warm_up": "3"},
    "bf16": {"augment": "on", "precision": "bf16"},
    "a style that nothing takes": {"blocks": 0},
    "cyclegan": {"method": "cyclegan", "augment": "on", "pool_size": 2},
    "cyclegan, paper": {"method": "cyclegan", "recipe": "paper", "pool_size": 3},
    "cartoongan": {"method": "cartoongan", "augment": "on", "warm_up": "50%"},
}


# Before the first checkpoint, at one, in the middle of a line of metrics and at its end. In others only the step and
# what it remembers is another, of which any moment is in `methods/test_contract.py`.
STOPS = {"paper": (1, 4, 5), "default": (1, 4, 5)}


@pytest.fixture(scope="module", autouse=True)
def short_metrics() -> Iterator[None]:
    """Four steps a line, so that short runs have lines that are cut through."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "METRICS_EVERY", 4)
        yield


@pytest.fixture(scope="module", params=list(CASES))
def whole(
    request: pytest.FixtureRequest, folders: Folders, vgg: str, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """Settings, and the run of 4 or 6 steps with them that nobody interrupted."""
    end = 6 if request.param in STOPS else 4
    given = CASES[request.param] | {"iterations": end, "checkpoint_every": "2"}
    given |= {"vgg": vgg} if given.get("method") == "cartoongan" else {}
    path = tmp_path_factory.mktemp("whole") / "run"
    log = Log()
    _, outcome = train(path, folders, given, log=log)
    assert (outcome.step, outcome.finished) == (end, True)
    assert log.saves == [2, 4, 6][: end // 2]
    files = weights(path)
    averages = "averages" if given.get("recipe") is None else "generators"  # which is what `translate` takes
    assert files["model/model.safetensors"] == files[f"checkpoints/step_0000000{end}/{averages}.safetensors"]
    return request.param, given, path


def test_an_interrupted_run_ends_as_the_whole_one(
    whole: tuple[str, dict[str, Any], Path], folders: Folders, tmp_path: Path
) -> None:
    case, given, uninterrupted = whole
    path = tmp_path / "run"
    for stop in STOPS.get(case, (3,)):
        _, outcome = train(path, folders, given, stop_after=stop)
        assert (outcome.step, outcome.finished) == (stop, False)
        assert RunFolder(path).latest() == stop
        assert open_model(path).provenance["steps"] == stop
        assert [line["step"] for line in metrics(path)] == [4] * (stop >= 4)
    _, outcome = train(path, folders, given)
    assert outcome.finished
    same_end(path, uninterrupted)
    assert [line["step"] for line in metrics(path)] == ([4, 6] if case in STOPS else [4])


def test_every_loss_counts_once_in_the_metrics(folders: Folders, tmp_path: Path) -> None:
    path, log = tmp_path / "run", Log()
    train(path, folders, {"iterations": 6}, stop_after=3, log=log)
    train(path, folders, {"iterations": 6}, log=log)
    assert [report.step for report in log.reports] == list(range(1, 7))
    for line, reports in zip(metrics(path), (log.reports[:4], log.reports[4:]), strict=True):
        assert line["step"] == reports[-1].step
        assert line["learning_rate"] == reports[-1].learning_rate
        for name in log.reports[0].losses:
            assert line[name] == pytest.approx(sum(r.losses[name] for r in reports) / len(reports), rel=1e-12)


def test_a_run_may_become_longer(folders: Folders, tmp_path: Path) -> None:
    path = tmp_path / "run"
    train(path, folders, {"iterations": 2, "recipe": "paper"})
    log = Log()
    settings, outcome = train(path, None, {"iterations": 4, "checkpoint_every": "3"}, log=log)
    assert (settings.iterations, settings.recipe.name, settings.folders) == (4, "paper", folders)
    assert outcome.finished
    assert [(r.step, r.learning_rate) for r in log.reports] == [(3, pytest.approx(5e-5)), (4, 0)]
    assert log.saves == [3, 4]
    stored = RunFolder(path).document()["run"]
    assert (stored["iterations"], stored["checkpoint_every"]) == (4, "3")


def test_the_model_can_be_used_at_every_moment(folders: Folders, tmp_path: Path) -> None:
    path, seen = tmp_path / "run", []

    def look() -> None:
        model = open_model(path)
        model.generator("a2b")
        model.discriminator("b", "global")
        seen.append(model.provenance["steps"])

    log = Log(dict.fromkeys(range(1, 6), look))
    train(path, folders, {"iterations": 5, "checkpoint_every": "2", "recipe": "paper"}, log=log)
    look()
    assert seen == [0, 0, 2, 2, 4, 5]


def test_drawing_and_saving_change_nothing(folders: Folders, tmp_path: Path) -> None:
    often, log = {"iterations": 4, "sample_every": "3", "checkpoint_every": "1"}, Log()
    train(tmp_path / "often", folders, often, log=log)
    train(tmp_path / "seldom", folders, {"iterations": 4})
    assert weights(tmp_path / "often") == weights(tmp_path / "seldom")
    samples = tmp_path / "often" / "samples"
    assert log.samples == [(step, samples / f"step_0000000{step}.png") for step in (3, 4)]
    assert sorted(samples.iterdir()) == [path for _, path in log.samples]


def test_a_run_by_the_clock_ends_in_time(folders: Folders, tmp_path: Path, clock: Clock) -> None:
    given = {"minutes": 2.0, "checkpoint_every": "1m"}
    log = Log(dict.fromkeys(range(1, 9), clock.tick))
    _, outcome = train(tmp_path / "run", folders, given, log=log, stop_after=9)
    assert outcome.finished
    assert [report.progress for report in log.reports] == [i / 8 for i in range(9)]
    rates = [1e-4 * min(1, 2 - i / 4) for i in range(9)]
    assert [report.learning_rate for report in log.reports] == pytest.approx(rates)
    assert [report.seconds_left for report in log.reports] == [120 - 15 * i for i in range(9)]
    assert log.saves == [4, 8, 9]
    assert train(tmp_path / "run", folders, given)[1].finished
    log = Log(dict.fromkeys(range(1, 20), clock.tick))
    assert train(tmp_path / "run", folders, {"minutes": 2.5}, log=log)[1] == Outcome(12, finished=True)


def assert_goes_on(path: Path, folders: Folders, given: dict[str, Any], step: int) -> None:
    """From the checkpoint of a step, to the same end as if nothing had happened."""
    run = RunFolder(path)
    assert run.latest() == step
    assert open_model(path).provenance["steps"] == step
    assert not [file for file in path.rglob(".*") if file.name != ".lock"]
    log = Log()
    train(path, folders, given, log=log)
    assert log.reports[0].step == step + 1
    train(path.with_name("whole"), folders, given)
    same_end(path, path.with_name("whole"))


def test_a_loss_that_is_not_finite(folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"iterations": 2, "checkpoint_every": "1", "recipe": "paper"}

    def broken(scores: Tensor, *, real: bool) -> Tensor:
        calls.append(real)
        value = (scores - 1).square().mean() if real else scores.square().mean()
        return value * math.inf if len(calls) == 24 + 5 else value

    calls: list[bool] = []
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(ugatit, "lsgan_loss", broken)
        with pytest.raises(TrainingError, match="step 2: the loss g_local_b") as caught:
            train(path, folders, given)
    assert caught.value.exit_code == 4
    assert not isinstance(caught.value, DataError)
    assert caught.value.hint
    assert_goes_on(path, folders, given, 1)


def test_a_picture_that_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = make_folders(tmp_path / "pictures")
    monkeypatch.setattr(trainer, "memory_budget", lambda: 0)
    monkeypatch.setattr("ugatit_cli.data.batches.AHEAD", 1)
    # In this process: others are for machines that train faster than they decode.
    monkeypatch.setattr(trainer, "stream", lambda *args, **options: stream(*args, **(options | {"workers": 0})))
    path, given = tmp_path / "run", {"iterations": 8, "recipe": "paper"}
    away = {file: file.read_bytes() for file in folders.a.iterdir()}

    def remove() -> None:
        for file in away:
            file.unlink()

    log = Log({2: remove})
    with pytest.raises(DataError, match=r"\.png: no such file") as caught:
        train(path, folders, given, log=log)
    assert caught.value.exit_code == 4
    reached = log.reports[-1].step
    assert 2 <= reached < 8
    assert log.saves == [reached]
    for file, data in away.items():
        file.write_bytes(data)
    assert_goes_on(path, folders, given, reached)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_losses_come_one_step_late() -> None:
    reader = LossReader(Group())
    assert reader.put(1, {"x": torch.tensor(1.0, device="cuda")}) == {}
    assert reader.put(2, {"x": torch.tensor(2.0, device="cuda")}) == {"x": 1.0}
    assert reader.flush() == {"x": 2.0}
    assert reader.put(3, {"x": torch.tensor(math.nan, device="cuda")}) == {}
    with pytest.raises(TrainingError, match="step 3"):
        reader.put(4, {"x": torch.tensor(4.0, device="cuda")})


def test_what_is_wrong_with_the_pictures_is_told(tmp_path: Path) -> None:
    folders = make_folders(tmp_path / "pictures")
    for number in range(SHOWN + 2):
        (folders.b / f"broken{number}.png").write_bytes(b"\x89PNG")
    (folders.a / "drawing.psd").touch()
    log = Log()
    train(tmp_path / "run", folders, {"iterations": 1, "image_size": 44}, log=log)
    text = "\n".join(log.notes)
    assert f"red: 10 pictures to train on, 0 held out, in memory ({folders.a})" in log.notes
    assert "red: 10 pictures are smaller than the training size" in text
    assert f"{folders.a}: 1 passed over: 1 .psd" in log.notes
    assert text.count("skipped: ") == SHOWN + 1
    assert f"skipped: {folders.b / 'broken0.png'}: " in text
    (folders.b / "1.png").unlink()
    log = Log()
    train(tmp_path / "run", folders, {"iterations": 2, "image_size": 44}, log=log)
    assert any("the pictures are not those that the run began with" in note for note in log.notes)


@pytest.mark.parametrize(
    ("length", "augment"),
    [
        ({"iterations": 10 * MANY_EPOCHS}, "on"),
        ({"iterations": 10 * MANY_EPOCHS - 1}, "off"),
        ({"iterations": 5 * MANY_EPOCHS, "batch_size": 2}, "on"),
        ({"minutes": 1e6}, "off"),
    ],
)
def test_pictures_that_are_seen_often_are_augmented(length: dict[str, Any], augment: str) -> None:
    given: dict[str, Any] = {"image_size": 32, "batch_size": 1, **length}
    for asked, decided in ((None, augment), ("on", "on"), ("off", "off")):
        named = {} if asked is None else {"augment": asked}
        settings = new_settings(given | named, Folders(Path("a"), Path("b")), device=torch.device("cpu"))
        assert session.with_augmentation(settings, unread(10, 20)).recipe.augment == decided
