"""What a run will cost, and the batch that fits."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainings import CPU, TINY, Log, tiny_sizes, unread
from ugatit_cli.data.pictures import Folders
from ugatit_cli.device import Group
from ugatit_cli.methods.base import Losses
from ugatit_cli.methods.drit_step import DRITStep
from ugatit_cli.training import session
from ugatit_cli.training.estimate import Measurement
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.session import measure, with_fitting_batch
from ugatit_cli.training.settings import Settings, new_settings
from ugatit_cli.training.trainer import Machine, load_data, make_networks

MACHINE = Machine(CPU, 1, Group())


def settings(folders: Folders, **given: Any) -> Settings:
    return new_settings(TINY | {"augment": "off"} | given, folders, device=CPU)


def test_a_few_steps_are_measured(folders: Folders, tmp_path: Path) -> None:
    ours = settings(folders, batch_size=2)
    pictures = load_data(ours, RunFolder(tmp_path), MACHINE, Log(), threading.Event())
    found = measure(ours, pictures, MACHINE)
    networks = make_networks(ours, CPU, None)
    every = (networks.translators, networks.critics)
    counts = [sum(w.numel() for network in group.values() for w in network.parameters()) for group in every]
    assert [found.generator_parameters, found.discriminator_parameters] == counts
    assert 0.1 < found.steps_per_second < 1000
    assert found.memory_bytes > 50e6


def test_steps_that_differ_are_measured_together(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(session.time, "perf_counter", lambda: 10.0 * sum(seen))  # type: ignore[attr-defined]

    def losses(_: DRITStep, a: Tensor, b: Tensor, *, step: int) -> Losses:  # noqa: ARG001
        seen.append(4 if step % 3 == 2 else 1)
        return {"d_content_a": torch.zeros(())}

    monkeypatch.setattr(DRITStep, "losses", losses)
    given: dict[str, Any] = {"method": "drit", "augment": "off"}
    ours = new_settings(tiny_sizes(given) | given, folders, device=CPU)
    pictures = load_data(ours, RunFolder(tmp_path), MACHINE, Log(), threading.Event())
    assert measure(ours, pictures, MACHINE).steps_per_second == pytest.approx(3 / 60)


@pytest.mark.parametrize(
    ("device", "largest", "memory", "tries"),
    [
        ("cuda", 9, 18, [8]),
        ("cuda", 3, 18, [8, 4, 2]),
        ("cuda", 1, 18, [8, 4, 2, 1]),
        ("cuda", 9, 8, [8, 4]),  # room for others
        ("cpu", 0, 18, []),
    ],
)
def test_batches_are_halved_until_they_fit(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, device: str, largest: int, memory: int, tries: list[int]
) -> None:
    tried: list[int] = []

    def measured(ours: Settings, *_: Any) -> Measurement:
        tried.append(ours.recipe.batch_size)
        if ours.recipe.batch_size > largest:
            raise torch.OutOfMemoryError("out of memory")
        return Measurement(1, 1, 1.0, ours.recipe.batch_size)

    monkeypatch.setattr(session, "measure", measured)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1, memory))
    ours, machine = settings(folders, batch_size=8), Machine(torch.device(device), 1, Group())
    fitting = with_fitting_batch(ours, unread(9, 9), machine)
    assert tried == tries
    recipe = dataclasses.replace(ours.recipe, batch_size=tries[-1] if tries else 8)
    assert fitting == dataclasses.replace(ours, recipe=recipe)
    largest = 0
    if device == "cuda":
        with pytest.raises(torch.OutOfMemoryError):  # a single picture is too much
            with_fitting_batch(ours, unread(9, 9), machine)
