"""When a run ends, saves and draws; and its learning rate."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.conftest import Clock
from ugatit_cli.data.pictures import Folders
from ugatit_cli.training.schedule import (
    LAST_SAMPLE_INTERVAL,
    WARM_UP,
    WINDOW,
    Schedule,
    Speed,
    is_growing_step,
)
from ugatit_cli.training.settings import Settings, new_settings


def settings(**given: Any) -> Settings:
    return new_settings({"precision": "fp32"} | given, Folders(Path("a"), Path("b")), device=torch.device("cpu"))


@given(st.integers(1, 500).map(lambda half: 2 * half))
def test_the_papers_learning_rate(iterations: int) -> None:
    schedule = Schedule(settings(recipe="paper", iterations=iterations))
    official = 1e-4
    for step in range(1, iterations + 1):
        if step > iterations // 2:
            official -= 1e-4 / (iterations // 2)  # as the official loop does it, before its step
        ours = schedule.learning_rate(schedule.progress(step))
        assert ours == pytest.approx(official, rel=1e-6, abs=1e-15)
    assert ours == 0


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_learning_rate_falls_to_0(decay_from: float, one: float, other: float) -> None:
    earlier, later = sorted((one, other))
    rate = Schedule(settings(recipe="paper", learning_rate=1.0, decay_from=decay_from)).learning_rate
    assert 0 <= rate(later) <= rate(earlier) <= rate(decay_from) == 1
    assert rate(1.0) == (decay_from == 1)


def test_a_learning_rate_that_is_halved() -> None:
    run = settings(recipe="paper", iterations=10, decay_from=1.0, learning_rate=1.0)
    schedule = Schedule(dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, halve_every=4)))
    # The authors' scheduler counts before a step: the fourth one has the next rate.
    rates = [schedule.learning_rate((step + 1) / 10, step=step) for step in range(10)]
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]


def warm_ups(schedule: Schedule, iterations: int) -> list[float | None]:
    return [schedule.warm_up(step, schedule.progress(step + 1)) for step in range(iterations)]


@pytest.mark.parametrize(
    ("warm_up", "iterations", "steps"),
    [("3", 10, 3), ("30%", 10, 3), ("5%", 100, 5), ("1%", 1000, 10), ("off", 9, 0), ("99", 9, 9), ("100%", 9, 9)],
)
def test_the_warm_up_takes_as_many_steps_as_it_says(warm_up: str, iterations: int, steps: int) -> None:
    found = warm_ups(Schedule(settings(warm_up=warm_up, iterations=iterations)), iterations)
    assert [one is not None for one in found] == [True] * steps + [False] * (iterations - steps)


def test_in_the_warm_up_the_learning_rate_falls_in_the_second_half() -> None:
    for recipe, falling in (("default", [1, 1, 0.5]), ("paper", [1, 1, 1])):
        schedule = Schedule(settings(recipe=recipe, learning_rate=1.0, warm_up="4", iterations=100))
        found = [schedule.learning_rate(schedule.progress(step + 1), step / 4) for step in range(5) if step != 1]
        assert found[:3] == falling
        assert schedule.learning_rate(schedule.progress(5)) == 1


def test_by_the_clock_a_share_is_one_of_the_time(clock: Clock) -> None:
    schedule = Schedule(settings(minutes=10.0, warm_up="20%"))
    for seconds, done in ((0, 0.0), (60, 0.5), (59, 119 / 120), (1, None), (400, None)):
        clock.tick(seconds)
        assert schedule.warm_up(7, schedule.progress(8)) == (done if done is None else pytest.approx(done))


@pytest.mark.parametrize("iterations", [1, 10])
def test_the_last_step_of_the_default_recipe_counts(iterations: int) -> None:
    schedule = Schedule(settings(iterations=iterations, learning_rate=0.2))
    rates = [schedule.learning_rate(schedule.progress(step)) for step in range(1, iterations + 1)]
    assert rates[0] == 0.2
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.4 / max(2, iterations))


@pytest.mark.parametrize(
    ("method", "rate", "factors"),
    [  # as their codes have it, which count epochs from 0
        ("cyclegan", 2e-4, [1 - max(0, epoch + 1 - 100) / 101 for epoch in range(200)]),
        ("drit", 1e-4, [1 - max(0, epoch - 600) / 601 for epoch in range(1200)]),
        ("aggan", 1e-4, [1 if epoch < 50 else 1 - (epoch - 50) / 50 for epoch in range(100)]),
    ],
)
@pytest.mark.parametrize("steps", [1, 3, 1067])
def test_the_rate_of_each_epoch_is_that_of_the_authors_code(
    method: str, rate: float, factors: list[float], steps: int
) -> None:
    """All steps of an epoch have its rate, however many they are."""
    schedule = Schedule(settings(method=method, recipe="paper", iterations=steps * len(factors)))
    for last in (False, True):
        ends = [steps * epoch + (steps if last else 1) for epoch in range(len(factors))]
        found = [schedule.learning_rate(schedule.progress(step)) for step in ends]
        assert found == pytest.approx([rate * factor for factor in factors])


def test_a_rate_by_epochs_may_stay() -> None:
    schedule = Schedule(settings(method="aggan", recipe="paper", iterations=100, decay_from=1.0))
    assert {schedule.learning_rate(schedule.progress(step)) for step in range(1, 101)} == {1e-4}


def test_a_recipe_of_epochs_goes_down_by_epochs() -> None:
    schedule = Schedule(settings(method="cyclegan", recipe="paper", iterations=2000))
    rates = [schedule.learning_rate(schedule.progress(step)) for step in range(1, 2001)]
    assert rates[:1000] == [2e-4] * 1000
    assert [len(set(rates[10 * epoch : 10 * epoch + 10])) for epoch in range(200)] == [1] * 200
    assert rates[-1] == pytest.approx(2e-4 / 101)


def test_a_recipe_of_epochs_may_end_before_they_are_over() -> None:
    whole = Schedule(settings(method="drit", recipe="paper", iterations=2400))
    recipe = dataclasses.replace(whole.settings.recipe, ends_after=0.75)
    cut = Schedule(dataclasses.replace(whole.settings, iterations=1800, recipe=recipe))
    rates = [[one.learning_rate(one.progress(step)) for step in range(1, 1801)] for one in (cut, whole)]
    assert rates[0] == pytest.approx(rates[1])
    assert rates[0][-1] == pytest.approx(1e-4 * (1 - 299 / 601))


def test_progress_by_steps() -> None:
    schedule = Schedule(settings(iterations=8))
    assert [schedule.progress(step) for step in (0, 2, 8, 9)] == [0, 0.25, 1, 1]
    assert schedule.seconds_left(2, None) is None
    assert schedule.seconds_left(2, 3.0) == 2
    assert schedule.seconds_left(9, 3.0) == 0


def test_samples_grow_apart() -> None:
    steps = [step for step in range(60_000) if is_growing_step(step)]
    assert steps[:7] == [10, 15, 23, 34, 51, 76, 114]
    gaps = [after - before for before, after in itertools.pairwise(steps)]
    assert gaps == sorted(gaps)
    assert gaps[-5:] == [LAST_SAMPLE_INTERVAL] * 5
    assert all(gap / step < 0.55 for gap, step in zip(gaps, steps, strict=False))
    assert Schedule(settings(iterations=100)).sample_due(15)
    assert not Schedule(settings(iterations=100)).sample_due(16)


@pytest.mark.parametrize(
    ("kind", "due"),
    [
        ("checkpoint_every", Schedule.save_due),
        ("sample_every", Schedule.sample_due),
        ("evaluate_every", Schedule.evaluation_due),
    ],
)
def test_intervals(clock: Clock, kind: str, due: Callable[[Schedule, int], bool]) -> None:
    schedule = Schedule(settings(**{kind: "3"}))
    clock.now += 10_000
    assert [step for step in range(1, 10) if due(schedule, step)] == [3, 6, 9]
    schedule = Schedule(settings(**{kind: "2m"}), elapsed=600.0)
    seconds = []
    for second in range(1, 400):
        clock.now += 1
        if due(schedule, 3):
            seconds.append(second)
    assert seconds == [120, 240, 360]
    assert not Schedule(settings(iterations=9)).evaluation_due(9)  # which is off by default


def test_speed_is_that_of_the_last_steps_without_pauses(clock: Clock) -> None:
    speed = Speed(last=clock.now)
    for _ in range(WARM_UP):
        clock.now += 30
        speed.step()
        assert speed.steps_per_second is None
    for _ in range(4):
        clock.now += 0.5
        speed.step()
        clock.now += 100  # a checkpoint
        speed.restart()
    assert speed.steps_per_second == 2
    for _ in range(WINDOW):
        clock.now += 0.25
        speed.step()
    assert speed.steps_per_second == 4
