"""When a run ends, and when it saves, draws and evaluates: by steps, or by the clock."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator

from ugatit_cli.recipe import learning_rate_factor
from ugatit_cli.training.settings import Settings, parse_interval

# Samples come at steps 10, 15, 23, 34, ... : each time half as many steps again, until they are this far apart.
FIRST_SAMPLE = 10
SAMPLE_GROWTH = 1.5
LAST_SAMPLE_INTERVAL = 5000


class Schedule:
    """The clockwork of one process's share of a run.

    With `iterations`, everything that decides the result is a function of the step. With `minutes`, the learning rate
    follows the clock, and no two runs are alike.

    Args:
        settings: the run's.
        elapsed: seconds that earlier processes spent on it.
    """

    def __init__(self, settings: Settings, elapsed: float = 0.0) -> None:
        self.settings = settings
        self._start = time.monotonic() - elapsed
        self._save_steps, self._save_seconds = parse_interval("--checkpoint-every", settings.checkpoint_every)
        self._sample_steps, self._sample_seconds = (0, 0.0)
        if settings.sample_every != "growing":
            self._sample_steps, self._sample_seconds = parse_interval("--sample-every", settings.sample_every)
        self._evaluation_steps, self._evaluation_seconds = (0, math.inf)
        if settings.evaluates:
            every = parse_interval("--evaluate-every", settings.evaluate_every)
            self._evaluation_steps, self._evaluation_seconds = every
        self._last_save = self._last_sample = time.monotonic()
        self._last_evaluation = elapsed

    @property
    def elapsed(self) -> float:
        """Seconds spent on the run, earlier processes included, evaluations not."""
        return time.monotonic() - self._start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside takes no time of the run's."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._start += time.monotonic() - start

    def progress(self, step: int) -> float:
        """Share of the training that is done after a number of steps, in [0, 1]."""
        if self.settings.iterations is not None:
            return min(1.0, step / self.settings.iterations)
        return min(1.0, self.elapsed / (60 * (self.settings.minutes or 0)))

    def learning_rate(self, progress: float) -> float:
        """The learning rate of the step that leads to this progress."""
        recipe, iterations = self.settings.recipe, self.settings.iterations
        if recipe.name != "paper" and iterations is not None:
            progress -= 1 / iterations  # the official code's last step has rate 0
        return recipe.learning_rate * learning_rate_factor(progress, recipe.decay_from)

    def seconds_left(self, step: int, steps_per_second: float | None) -> float | None:
        """Seconds until the run ends; None as long as the speed isn't known."""
        if self.settings.minutes is not None:
            return max(0.0, 60 * self.settings.minutes - self.elapsed)
        if steps_per_second is None or self.settings.iterations is None:
            return None
        return max(0, self.settings.iterations - step) / steps_per_second

    def save_due(self, step: int) -> bool:
        """Whether to save after this step."""
        if self._save_steps:
            return step % self._save_steps == 0
        if time.monotonic() - self._last_save < self._save_seconds:
            return False
        self._last_save = time.monotonic()
        return True

    def sample_due(self, step: int) -> bool:
        """Whether to draw samples after this step."""
        if self.settings.sample_every == "growing":
            return is_growing_step(step)
        if self._sample_steps:
            return step % self._sample_steps == 0
        if time.monotonic() - self._last_sample < self._sample_seconds:
            return False
        self._last_sample = time.monotonic()
        return True

    def evaluation_due(self, step: int) -> bool:
        """Whether to evaluate after this step."""
        if self._evaluation_steps:
            return step % self._evaluation_steps == 0
        if self.elapsed - self._last_evaluation < self._evaluation_seconds:
            return False
        self._last_evaluation = self.elapsed
        return True


def is_growing_step(step: int) -> bool:
    """Whether a step belongs to the growing series 10, 15, 23, 34, ..., which ends in every 5000th."""
    due = float(FIRST_SAMPLE)
    while math.ceil(due) < step:
        due = min(due * SAMPLE_GROWTH, due + LAST_SAMPLE_INTERVAL)
    return math.ceil(due) == step
