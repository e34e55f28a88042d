"""What runs of other methods than U-GAT-IT have beside what all runs have."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainings import Log, make_folders, prepared, tiny_sizes, train, weights
from ugatit_cli.data.pictures import Folders
from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.methods.drit import DRIT
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import Settings
from ugatit_cli.weights.folder import open_model

PAPER: dict[str, Any] = {"method": "cyclegan", "recipe": "paper"}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Ten pictures of domain a, eight of domain b."""
    folders = make_folders(tmp_path_factory.mktemp("uneven"))
    for number in (8, 9):
        (folders.b / f"{number}.png").unlink()
    return folders


def counted(path: Path, folders: Folders, **given: Any) -> tuple[Settings, list[str]]:
    """Settings of a run that isn't trained, and what is said of it."""
    log, given = Log(), PAPER | given
    ready = prepared(path, folders, tiny_sizes(given) | given)
    return ready.dry_run(log, threading.Event())[0], log.notes


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 2000), (2, 1000), (3, 666)])
def test_the_paper_goes_through_the_larger_domain_200_times(
    uneven: Folders, tmp_path: Path, batch_size: int, steps: int
) -> None:
    settings, notes = counted(tmp_path, uneven, batch_size=batch_size, holdout="off")
    assert settings.iterations == steps
    assert f"200 epochs of 10 pictures: {steps} steps" in notes


def test_the_paper_may_end_before_its_epochs(
    uneven: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DRIT, "most_iterations", 4500)
    settings, notes = counted(tmp_path, uneven, method="drit", holdout="off")
    assert (settings.iterations, settings.recipe.batch_size, settings.recipe.ends_after) == (4500, 2, 0.75)
    assert "1200 epochs of 10 pictures: 6000 steps, of which 4500 are done" in notes
    assert not [note for note in notes if "GPU" in note]


@pytest.mark.parametrize("given", [{}, {"recipe": "default"}])
def test_pictures_may_be_taken_by_twos_only(uneven: Folders, tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--batch-size 3"):
        counted(tmp_path, uneven, method="drit", batch_size=3, **given)


@pytest.mark.parametrize("length", [{"iterations": 7}, {"minutes": 7.0}])
def test_a_length_that_is_given_wins(uneven: Folders, tmp_path: Path, length: dict[str, Any]) -> None:
    settings, notes = counted(tmp_path, uneven, **length)
    assert (settings.iterations, settings.minutes) == (length.get("iterations"), length.get("minutes"))
    assert not [note for note in notes if "epochs" in note]


@pytest.mark.parametrize("method", ["cyclegan", "drit", "unit"])
def test_the_papers_pictures_come_as_they_did_when_a_run_goes_on(
    method: str, uneven: Folders, tmp_path: Path
) -> None:
    given = {"method": method, "recipe": "paper", "iterations": 6}
    train(tmp_path / "whole", uneven, given)
    train(tmp_path / "parts", uneven, given, stop_after=2)
    train(tmp_path / "parts", uneven, given)
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


def without(run: Path, *names: str) -> None:
    """Takes settings out of a run, which its version didn't have."""
    lines = (run / "config.toml").read_text().splitlines(keepends=True)
    (run / "config.toml").write_text("".join(line for line in lines if line.partition(" ")[0] not in names))


def test_a_run_of_an_earlier_version_goes_on_as_it_began(uneven: Folders, tmp_path: Path) -> None:
    """Which had one way to resize, one order and one schedule for all methods."""
    path, given = tmp_path / "run", {"method": "drit", "recipe": "paper", "iterations": 6}
    assert train(path, uneven, given, stop_after=1)[0].recipe == DRIT().recipe("paper")
    without(path, "bicubic", "order", "epoch_decay")
    old = replace(DRIT().recipe("paper"), bicubic=False, order="shuffled", epoch_decay="cyclegan")
    assert prepared(path, None, {}, named=True).settings.recipe == old


def test_how_pictures_come_decides_what_is_learnt(uneven: Folders, tmp_path: Path) -> None:
    ends = []
    for name in ("", "bicubic", "order"):
        train(tmp_path / f"-{name}", uneven, PAPER | {"iterations": 4}, stop_after=1)
        without(tmp_path / f"-{name}", name)
        train(tmp_path / f"-{name}", uneven, PAPER | {"iterations": 4})
        ends.append(weights(tmp_path / f"-{name}")["model/model.safetensors"])
    assert len({*ends}) == 3


class Watching(Log):
    """Notes which settings it is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.settings: list[Settings] = []

    def beginning(self, settings: Settings) -> None:
        assert not self.reports
        self.settings.append(settings)


def test_a_run_keeps_the_length_that_was_counted(uneven: Folders, tmp_path: Path) -> None:
    path, first, second = tmp_path / "run", Watching(), Watching()
    settings, _ = train(path, uneven, PAPER, stop_after=2, log=first)
    assert settings.iterations == 2000
    assert RunFolder(path).document()["run"]["iterations"] == 2000
    (uneven.a / "more.png").write_bytes((uneven.a / "0.png").read_bytes())
    try:
        goes_on, _ = train(path, uneven, PAPER, stop_after=3, log=second)
    finally:
        (uneven.a / "more.png").unlink()
    assert goes_on == settings
    assert first.settings == second.settings == [settings]
    assert [report.progress for report in (*first.reports, *second.reports)] == [1 / 2000, 2 / 2000, 3 / 2000]


def test_the_pool_is_part_of_a_checkpoint(folders: Folders, tmp_path: Path) -> None:
    given = {"method": "cyclegan", "pool_size": 3, "augment": "off", "checkpoint_every": "2", "keep": 9}
    train(tmp_path / "run", folders, given | {"iterations": 4})
    for step, stored in ((2, 2), (4, 3)):
        memory = load_file(RunFolder(tmp_path / "run").checkpoint_path(step) / "memory.safetensors")
        assert {name: one.shape for name, one in memory.items()} == {
            f"pool.{domain}": (stored, 3, 32, 32) for domain in "ab"
        }
    train(tmp_path / "none", folders, given | {"iterations": 4, "pool_size": 0})
    assert not [name for name in weights(tmp_path / "none") if "memory" in name]
    # What is in it decides what discriminators learn.
    train(tmp_path / "lost", folders, given | {"iterations": 4}, stop_after=3)
    checkpoint = RunFolder(tmp_path / "lost").checkpoint_path(3)
    (checkpoint / "memory.safetensors").unlink()
    with pytest.raises(ModelError, match=r"memory\.safetensors"):
        train(tmp_path / "lost", folders, given | {"iterations": 4})


def test_the_warm_up_leaves_discriminators_alone_and_says_what_it_does(folders: Folders, tmp_path: Path) -> None:
    path, log = tmp_path / "run", Log()
    given = {"method": "cyclegan", "iterations": 12, "warm_up": "10", "checkpoint_every": "5", "keep": 9}
    given |= {"sample_every": "10"}
    train(path, folders, given, log=log)
    lines = list(RunFolder(path).metrics())
    assert [{"copy_a", "copy_b", "cycle_a", "d_a"} & line.keys() for line in lines] == [
        {"copy_a", "copy_b"},
        {"cycle_a", "d_a"},
    ]
    assert [report.copying for report in log.reports] == [True] * 10 + [False] * 2
    assert log.reports[-3].seconds_left is None
    assert [step for step, _ in log.samples] == [10, 12]
    before, after, end = (
        load_file(RunFolder(path).checkpoint_path(step) / "discriminators.safetensors") for step in (5, 10, 12)
    )
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not all(torch.equal(tensor, end[name]) for name, tensor in before.items())


def test_the_warm_up_of_a_run_that_goes_on_may_be_ended_and_never_comes_back(
    folders: Folders, tmp_path: Path
) -> None:
    path, log = tmp_path / "run", Log()
    given = {"method": "cyclegan", "iterations": 9, "warm_up": "8"}
    train(path, folders, given, stop_after=3, log=log)
    log.calls = {}
    prepared(path, None, {"warm_up": "5"}, named=True).train(log, threading.Event())
    prepared(path, None, {"warm_up": "99", "iterations": 11}, named=True).train(log, threading.Event())
    assert [report.copying for report in log.reports] == [True] * 5 + [False] * 6


STILL: dict[str, Any] = {"iterations": 1, "learning_rate": 0.0, "precision": "fp32", "checkpoint_every": "9"}


@pytest.mark.parametrize("method", ["cyclegan", "cartoongan"])
def test_a_run_starts_from_a_model_of_its_method(method: str, folders: Folders, vgg: str, tmp_path: Path) -> None:
    own = {"vgg": vgg} if method == "cartoongan" else {}
    train(tmp_path / "first", folders, {"method": method, "iterations": 2, "ema": 0.0, **own})
    ready = prepared(tmp_path / "second", folders, {"start": str(tmp_path / "first"), **STILL, **own})
    ready.train(Log(), threading.Event())
    first, second = (open_model(tmp_path / name) for name in ("first", "second"))
    assert second.config == first.config
    assert second.provenance["method"] == method
    for name in ("a2b", "b.local", "b"):
        theirs, ours = first.state(name), second.state(name)
        assert (theirs is None) == (ours is None) == (name == "b.local")
        assert all(torch.equal(tensor, (theirs or {})[key]) for key, tensor in (ours or {}).items())


def test_a_network_of_a_loss_that_is_missing_leaves_nothing_behind(folders: Folders, tmp_path: Path) -> None:
    given = {"method": "cartoongan", "vgg": str(tmp_path / "nowhere.pth"), "iterations": 1}
    with pytest.raises(ModelError, match=r"nowhere\.pth"):
        train(tmp_path / "run", folders, given)
    assert not (tmp_path / "run").exists()
