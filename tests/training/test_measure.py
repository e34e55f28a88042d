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
from ugatit_cli.cli.train_view import PlainWatch
from ugatit_cli.data.pictures import Folders
from ugatit_cli.device import Group
from ugatit_cli.methods.base import Losses
from ugatit_cli.methods.drit_step import DRITStep
from ugatit_cli.training import estimate as estimate_module
from ugatit_cli.training import session
from ugatit_cli.training.estimate import Measurement, estimate, first_result, first_steps
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


@pytest.mark.parametrize(("weights", "pixel"), [(0.5, 0.0), (0.0, 1e-3), (3.0, 1e-3)])
def test_what_would_take_long_is_extrapolated(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, weights: float, pixel: float
) -> None:
    """Where a step takes a + b p seconds, and both grow with the square of the channels, it is exact."""
    ours = new_settings({"precision": "fp32"}, folders, device=CPU)
    assert (ours.model.image_size, ours.model.channels) == (256, 64)
    tried: list[tuple[int, int]] = []

    def step(asked: Settings, *_: Any) -> tuple[float, int]:
        tried.append((asked.model.image_size, asked.model.channels))
        pixels = asked.recipe.batch_size * asked.model.image_size**2
        return (weights + pixel * pixels) * (asked.model.channels / 64) ** 2, 10**9

    monkeypatch.setattr(estimate_module, "_step", step)
    monkeypatch.setattr(estimate_module, "BUDGET", 0.0)
    found = estimate(ours, unread(9, 9), MACHINE)
    assert (256, 64) not in tried
    expected = weights + pixel * ours.recipe.batch_size * 256**2
    assert 1 / found.steps_per_second == pytest.approx(expected)
    assert found.is_estimate
    small = (weights + pixel * ours.recipe.batch_size * 128**2) / 4
    assert first_steps(ours, found, is_new=True) == round(480 * 60 / small)
    assert found.generator_parameters > 1e6
    monkeypatch.setattr(estimate_module, "BUDGET", 1e9)
    found = estimate(ours, unread(9, 9), MACHINE)
    assert tried[-1] == (256, 64)
    assert not found.is_estimate


def test_advice_names_nothing_that_is_so_already(folders: Folders) -> None:
    def advised(**given: Any) -> str:
        return " ".join(first_result(new_settings({"precision": "fp32"} | given, folders, device=CPU), is_new=True))

    assert advised() == "--image-size 128 --channels 32 --minutes 480"
    assert advised(image_size=128, minutes=90.0) == "--channels 32"
    assert advised(image_size=128, channels=32) == "--minutes 480"
    assert advised(image_size=64, channels=16, minutes=90.0) == ""


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


def test_days_that_nobody_meant_are_said_before_they_begin(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = tiny_sizes({}) | {"precision": "fp32"}
    asked = [
        session.prepare(RunFolder(tmp_path), sizes | length, folders, MACHINE).asks_advice
        for length in ({}, {"minutes": 5.0}, {"iterations": 9})
    ]
    assert asked == [True, False, False]
    ours = new_settings({"precision": "fp32"}, folders, device=CPU)
    for steps_per_second, words in ((0.1, "for a first result tonight: --image-size 128"), (100.0, "")):
        PlainWatch(ours).estimated(ours, Measurement(1, 1, steps_per_second, 1))
        said = capsys.readouterr().err
        assert (words in said, bool(said)) == (True, bool(words))
