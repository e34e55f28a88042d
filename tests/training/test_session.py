"""Beginning runs and going on with them, whatever happened before: kills at any moment above all."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny
from tests.programs import starting
from tests.trainings import TINY, Log, make_folders, metrics, prepared, train, weights
from ugatit_cli.config import Direction
from ugatit_cli.data.pictures import Folders
from ugatit_cli.errors import Interrupted, OutputError, UsageError
from ugatit_cli.methods.ugatit import UGATITStep
from ugatit_cli.training import session
from ugatit_cli.training.holdout import held_out
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import Settings
from ugatit_cli.training.trainer import Outcome, Trainer
from ugatit_cli.weights.folder import open_model

FROM_MODEL = {
    name: value for name, value in TINY.items() if name in ("precision", "checkpoint_every", "sample_every")
}


def test_a_new_run_has_its_settings_and_a_model_at_once(folders: Folders, tmp_path: Path) -> None:
    path, seen = tmp_path / "deep" / "run", []

    def look() -> None:
        seen.append((RunFolder(path).document()["recipe"]["augment"], open_model(path).provenance["steps"]))

    settings, outcome = train(path, folders, {"iterations": 1}, log=Log({1: look}))
    assert seen == [("off", 0)]
    assert (settings.recipe.augment, outcome) == ("off", Outcome(1, finished=True))
    assert open_model(path).config.domain_a == "red"
    with pytest.raises(UsageError, match="fp16 is not for training"):
        prepared(path, None, {"precision": "fp16"}, named=True)


def test_too_few_held_out_to_evaluate_are_said_with_the_option_that_holds_out_enough(tmp_path: Path) -> None:
    folders = make_folders(tmp_path / "pictures", 60)

    def said(name: str, holdout: str) -> list[str]:
        log, given = Log(), {"iterations": 1, "holdout": holdout}
        train(tmp_path / name, folders, given, log=log)
        return [text for text in log.notes if "ugatit evaluate -m RUN" in text]

    (text,) = said("run", "5%")
    option = re.search(r"--holdout (\d+)", text)
    assert option is not None
    assert said("again", option[1]) == said("none", "off") == []
    enough = RunFolder(tmp_path / "again")
    found = held_out(enough, Settings.of_run(enough), workers=1, max_pixels=None)
    assert min(len(found.a.files), len(found.b.files)) == int(option[1])


def test_interrupted_before_the_first_step(folders: Folders, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        prepared(tmp_path / "run", folders, TINY).train(Log(), stop)
    assert not RunFolder(tmp_path / "run").exists


def die() -> None:
    raise KeyboardInterrupt


def train_from(path: Path, folders: Folders | None, given: dict[str, Any], log: Log) -> None:
    prepared(path, folders, given).train(log, threading.Event())


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_from_the_model_again(
    folders: Folders, tmp_path: Path
) -> None:
    start, path = tiny.save(tmp_path / "model", discriminators=True), tmp_path / "run"
    given = FROM_MODEL | {"start": str(start), "start_direction": "b2a", "iterations": 2}

    def weight(path: Path, direction: Direction = "a2b") -> torch.Tensor:
        state = open_model(path).state(direction)
        assert state is not None
        return state["to_rgb.weight"]

    first: list[torch.Tensor] = []
    with pytest.raises(KeyboardInterrupt):
        train_from(path, folders, given, Log({1: die}))
    train_from(path, folders, given, Log({1: lambda: first.append(weight(path))}))
    assert torch.equal(first[0], weight(start, "b2a"))
    assert not torch.equal(first[0], weight(path))
    # What a model says of itself is published with it.
    assert open_model(path).provenance["started from"] == start.parent.name


def test_a_run_goes_on_without_the_model_it_started_from(folders: Folders, tmp_path: Path) -> None:
    start, log = tiny.save(tmp_path / "model"), Log()
    given = FROM_MODEL | {"start": str(start), "iterations": 2, "checkpoint_every": "1"}
    with pytest.raises(KeyboardInterrupt):
        train_from(tmp_path / "run", folders, given, Log({2: die}))
    start.rename(tmp_path / "moved")
    train_from(tmp_path / "run", None, {}, log)
    assert [report.step for report in log.reports] == [2]


def test_the_model_to_start_from_is_found_from_anywhere(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.save(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    given = FROM_MODEL | {"start": "./tiny", "iterations": 1}
    ready = prepared(tmp_path / "run", folders, given)
    assert ready.settings.start == str(tmp_path / "tiny")
    with monkeypatch.context() as patch:  # it is opened once: its own weights may be large, or far away
        patch.delattr(session, "find_model")
        assert ready.train(Log(), threading.Event())[1].finished
    for same in ("tiny", "./tiny", str(tmp_path / "tiny")):
        assert prepared(tmp_path / "run", None, {"start": same}).settings.start == ready.settings.start
    other = prepared(tmp_path / "other", folders, FROM_MODEL | {"start": "flat2clay"})
    assert other.settings.start == "flat2clay"


@pytest.mark.parametrize("killed_after", [2, 4])
def test_samples_that_a_kill_prevented_are_drawn_when_it_goes_on(
    folders: Folders, tmp_path: Path, killed_after: int
) -> None:
    class Killed(Log):
        def saved(self, step: int) -> None:
            if step == killed_after:
                die()

    given = {"iterations": 4, "checkpoint_every": "2", "sample_every": "2"}
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", folders, given, log=Killed())
    # On the way they come before the checkpoint, at the end after all that matters.
    assert RunFolder(tmp_path / "run").samples_path(killed_after).exists() == (killed_after < 4)
    for path in (tmp_path / "run", tmp_path / "whole"):
        train(path, folders, given)
    for step in (2, 4):
        one, whole = (RunFolder(tmp_path / name).samples_path(step).read_bytes() for name in ("run", "whole"))
        assert one == whole


@pytest.mark.parametrize("after", ["removed", "moved", "another"])
@pytest.mark.parametrize("every", ["1", "1000"])
def test_a_run_whose_folder_is_gone_stops(folders: Folders, tmp_path: Path, after: str, every: str) -> None:
    path = tmp_path / "run"

    def gone() -> None:
        shutil.rmtree(path) if after == "removed" else path.rename(tmp_path / "moved")
        if after == "another":
            shutil.copytree(tmp_path / "moved", path)

    given = {"iterations": 3, "checkpoint_every": every, "sample_every": every}
    with pytest.raises(OutputError) as caught:
        train(path, folders, given, log=Log({2: gone}))
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert path.exists() is (after == "another")
    if after == "another":
        assert (RunFolder(path).latest() or 0) < 2
    if after == "moved":
        train(tmp_path / "moved", None, {"iterations": 3})


STEPS = 12
# Whose call, counted from 1, a process doesn't survive: as it begins, or as it ends.
DEATHS: list[tuple[Any, str, int, bool]] = [
    (session, "load_data", 1, True),
    (RunFolder, "create", 1, True),
    (UGATITStep, "__call__", 2, True),
    (RunFolder, "save_checkpoint", 1, True),
    (os, "fsync", 4, False),
    (RunFolder, "write_model", 2, False),
    (Trainer, "_restore", 1, True),
    (Trainer, "_draw", 1, False),
    (RunFolder, "append_metrics", 1, True),
    (os, "rename", 2, False),
    (os, "replace", 4, False),
    (Trainer, "_draw", 1, True),
]


def work(path: Path, folders: Folders, death: int | None) -> None:
    """Trains in a process of its own, to the end or one of the `DEATHS`."""
    torch.set_num_threads(1)
    if death is not None:
        owner, name, number, ended = DEATHS[death]
        call, calls = getattr(owner, name), itertools.count(1)

        def dying(*arguments: Any, **options: Any) -> Any:
            last = next(calls) == number
            if last and not ended:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*arguments, **options)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, dying)
    train(path, folders, {"iterations": STEPS, "checkpoint_every": "3", "sample_every": "4", "batch_size": 1})


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows can't fork")
def test_killed_anywhere_it_ends_as_if_never_killed(tmp_path: Path) -> None:
    context = starting()
    folders = make_folders(tmp_path / "pictures")

    def exit_code(path: Path, death: int | None = None) -> int | None:
        process = context.Process(target=work, args=(path, folders, death))
        process.start()
        process.join()
        return process.exitcode

    path, before = tmp_path / "run", 0
    for death in range(len(DEATHS)):
        assert exit_code(path, death) == -9, f"it didn't come to {DEATHS[death]}"
        run = RunFolder(path)
        step = run.latest() or 0
        assert step >= before
        if step:
            run.load_checkpoint(step)
        if (run.model / "config.json").exists():
            open_model(path).generator("a2b")
        before = step
    assert [exit_code(path), exit_code(tmp_path / "whole")] == [0, 0]
    assert weights(path) == weights(tmp_path / "whole")
    assert len(weights(path)) == 6
    assert metrics(path) == metrics(tmp_path / "whole")
    assert [line["step"] for line in metrics(path)] == [10, STEPS]
    assert RunFolder(path).checkpoints() == [9, STEPS]
    assert not [file for file in path.rglob(".*") if file.name != ".lock"]
    for sample in (tmp_path / "whole" / "samples").iterdir():
        assert (path / "samples" / sample.name).read_bytes() == sample.read_bytes()


def test_folders_that_are_named_for_a_complete_run_are_looked_at(folders: Folders, tmp_path: Path) -> None:
    train(tmp_path / "run", folders, {"iterations": 1})

    def again(named: Folders | None) -> list[str]:
        log = Log()
        ready = prepared(tmp_path / "run", named, {}, named=True)
        assert ready.train(log, threading.Event())[1] == Outcome(1, finished=True)
        return log.notes

    assert again(None) == again(folders) == []
    others = make_folders(tmp_path / "others")
    (note,) = again(others)
    assert str(folders.a) in note
    assert str(folders.b) in note
    with pytest.raises(UsageError, match="nowhere"):
        again(Folders(tmp_path / "nowhere", others.b))


def judges(path: Path, step: int) -> dict[str, torch.Tensor]:
    """What a checkpoint knows of the judges that Adam trains."""
    memory = load_file(RunFolder(path).checkpoint_path(step) / "memory.safetensors")
    return {name: one for name, one in memory.items() if name.endswith((".original", ".bias"))}


def test_a_judge_that_is_asked_for_later_begins_as_in_a_new_run(folders: Folders, tmp_path: Path) -> None:
    rate, path = 1e-3, tmp_path / "run"
    given = {"cycle": "pairs", "judge_weight": 0.0, "warm_up": "off", "learning_rate": rate, "decay_from": 1.0}
    train(path, folders, given | {"iterations": 20, "checkpoint_every": "1", "keep": 9}, stop_after=6)
    later = prepared(path, None, {"judge_weight": 0.2, "iterations": 8}, named=True)
    later.train(Log(), threading.Event())
    before, first, second = (judges(path, step) for step in (6, 7, 8))
    changes = torch.stack([(first[name] - one).abs().max() for name, one in before.items()])
    assert changes.max().item() == pytest.approx(rate, rel=1e-2)  # Adam's first step, whatever the gradient
    shutil.copytree(path, tmp_path / "again")
    shutil.rmtree(RunFolder(tmp_path / "again").checkpoint_path(8))
    prepared(tmp_path / "again", None, {}, named=True).train(Log(), threading.Event())
    assert weights(tmp_path / "again") == weights(path)
    assert not torch.equal(*(one["b.judge.heads.0.0.bias"] for one in (first, second)))


def test_folders_the_other_way_round_are_refused_and_nothing_changes(folders: Folders, tmp_path: Path) -> None:
    path = tmp_path / "run"
    train(path, folders, {"iterations": 1})
    before = RunFolder(path).document()
    with pytest.raises(UsageError, match="the other way round") as caught:
        prepared(path, Folders(folders.b, folders.a), {}, named=True)
    assert f"{folders.a} {folders.b}" in caught.value.hint
    assert RunFolder(path).document() == before
