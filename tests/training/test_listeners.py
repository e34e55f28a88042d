"""Losses, speed and memory of a run in progress."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from ugatit_cli.device import Group
from ugatit_cli.errors import TrainingError
from ugatit_cli.training import listeners
from ugatit_cli.training.listeners import WARM_UP, WINDOW, LossReader, Speed, peak_memory


def test_losses_become_numbers() -> None:
    reader = LossReader(Group())
    losses = {"d_a": torch.tensor(0.5), "g_a": torch.tensor(2.0)}
    assert reader.put(3, losses) == (3, {"d_a": 0.5, "g_a": 2.0})
    assert reader.flush() is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_losses_that_are_not_numbers(value: float) -> None:
    losses = {"d_a": torch.tensor(0.5), "cycle_b": torch.tensor(value), "g_a": torch.tensor(math.nan)}
    with pytest.raises(TrainingError, match=rf"^step 12: the loss cycle_b is {value}$") as caught:
        LossReader(Group()).put(12, losses)
    assert caught.value.exit_code == 4
    assert "--learning-rate" in caught.value.hint


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_losses_come_one_step_late() -> None:
    reader = LossReader(Group())
    assert reader.put(1, {"x": torch.tensor(1.0, device="cuda")}) is None
    assert reader.put(2, {"x": torch.tensor(2.0, device="cuda")}) == (1, {"x": 1.0})
    assert reader.flush() == (2, {"x": 2.0})
    assert reader.put(3, {"x": torch.tensor(math.nan, device="cuda")}) is None
    with pytest.raises(TrainingError, match="step 3"):
        reader.put(4, {"x": torch.tensor(4.0, device="cuda")})


def test_speed_is_that_of_the_last_steps_without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class Clock:
        monotonic = staticmethod(lambda: now[0])

    monkeypatch.setattr(listeners, "time", Clock)
    speed = Speed(last=0.0)
    for _ in range(WARM_UP):
        now[0] += 30
        speed.step()
        assert speed.steps_per_second is None
    for _ in range(4):
        now[0] += 0.5
        speed.step()
        now[0] += 100  # a checkpoint
        speed.restart()
    assert speed.steps_per_second == 2
    for _ in range(WINDOW):
        now[0] += 0.25
        speed.step()
    assert speed.steps_per_second == 4


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells another way too")
def test_memory_of_this_process() -> None:
    said = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert said
    assert peak_memory(torch.device("cpu")) == pytest.approx(1024 * int(said[1]), rel=0.01)
