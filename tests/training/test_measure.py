"""What a run will cost, and the batch that fits."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainings import CPU, TINY, Log, prepared
from ugatit_cli.data.pictures import Folders, Pictures
from ugatit_cli.device import Group
from ugatit_cli.training import session
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.session import Measurement, measure, with_fitting_batch
from ugatit_cli.training.settings import Settings, new_settings
from ugatit_cli.training.trainer import Machine, load_data, make_networks

MACHINE = Machine(CPU, 1, Group())
GPU = Machine(torch.device("cuda"), 1, Group())


def settings(folders: Folders, **given: Any) -> Settings:
    return new_settings(TINY | {"augment": "off"} | given, folders, device=CPU)


@pytest.fixture
def pictures(folders: Folders) -> tuple[Pictures, Pictures]:
    return load_data(settings(folders), None, MACHINE, Log(), threading.Event())


def test_a_few_steps_are_measured(folders: Folders, pictures: tuple[Pictures, Pictures]) -> None:
    ours = settings(folders, batch_size=2)
    found = measure(ours, pictures, MACHINE)
    networks = make_networks(ours, CPU, None)
    every = (networks.generators, networks.discriminators)
    counts = [sum(w.numel() for network in group.values() for w in network.parameters()) for group in every]
    assert [found.generator_parameters, found.discriminator_parameters] == counts
    assert 0.1 < found.steps_per_second < 1000
    assert found.memory > 50e6


def test_a_dry_run_writes_nothing(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    run, log = RunFolder(tmp_path / "here" / "run"), Log()
    before = sorted(folders.a.parent.rglob("*"))
    given = {name: value for name, value in TINY.items() if name != "batch_size"}
    ours, found = prepared(run.path, folders, given).dry_run(log, threading.Event())
    assert ours.recipe.augment == "on"
    assert isinstance(found, Measurement)
    assert any("10 pictures to train on" in note for note in log.notes)
    assert list((tmp_path / "here").iterdir()) == []
    assert sorted(folders.a.parent.rglob("*")) == before


def test_a_dry_run_of_a_run_that_exists(folders: Folders, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.create(settings(folders, iterations=5).to_document())
    before = (run.path / "config.toml").read_bytes()
    ours, _ = prepared(run.path, None, {"iterations": 9}, named=True).dry_run(Log(), threading.Event())
    assert (ours.iterations, ours.folders) == (9, folders)
    assert [path.name for path in run.path.iterdir()] == ["config.toml"]
    assert (run.path / "config.toml").read_bytes() == before


def limit(monkeypatch: pytest.MonkeyPatch, largest: int) -> list[int]:
    """A GPU that takes a batch of this size; the list of those that are tried."""
    tried: list[int] = []

    def measured(ours: Settings, *_: Any) -> Measurement:
        tried.append(ours.recipe.batch_size)
        if ours.recipe.batch_size > largest:
            raise torch.OutOfMemoryError("out of memory")
        return Measurement(1, 1, 1.0, ours.recipe.batch_size)

    monkeypatch.setattr(session, "measure", measured)
    monkeypatch.setattr(session, "total_memory", lambda _: 2 * largest)
    return tried


@pytest.mark.parametrize(("largest", "tries"), [(9, [8]), (3, [8, 4, 2]), (1, [8, 4, 2, 1])])
def test_batches_are_halved_until_they_fit(
    folders: Folders,
    pictures: tuple[Pictures, Pictures],
    monkeypatch: pytest.MonkeyPatch,
    largest: int,
    tries: list[int],
) -> None:
    tried = limit(monkeypatch, largest)
    ours = settings(folders, batch_size=8)
    fitting = with_fitting_batch(ours, pictures, GPU)
    assert tried == tries
    expected = dataclasses.replace(ours.recipe, batch_size=tries[-1])
    assert fitting == dataclasses.replace(ours, recipe=expected)


def test_a_batch_leaves_room(
    folders: Folders, pictures: tuple[Pictures, Pictures], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = limit(monkeypatch, 9)
    monkeypatch.setattr(session, "total_memory", lambda _: 8)
    assert with_fitting_batch(settings(folders, batch_size=8), pictures, GPU).recipe.batch_size == 4
    assert tried == [8, 4]


def test_a_single_picture_that_is_too_much(
    folders: Folders, pictures: tuple[Pictures, Pictures], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = limit(monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError):
        with_fitting_batch(settings(folders, batch_size=2), pictures, GPU)
    assert tried == [2, 1]


def test_a_cpu_takes_what_is_asked_for(
    folders: Folders, pictures: tuple[Pictures, Pictures], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = limit(monkeypatch, 0)
    ours = settings(folders, batch_size=8)
    assert with_fitting_batch(ours, pictures, MACHINE) is ours
    assert tried == []
