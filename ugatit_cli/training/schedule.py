"""When a run ends, saves, draws and evaluates; its learning rate; how fast it goes."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ugatit_cli.methods.recipe import Recipe, parse_warm_up
from ugatit_cli.training.options import parse_interval
from ugatit_cli.training.settings import Settings

# Samples come at steps 10, 15, 23, 34, ... : each time half as many steps again, until they are this far apart.
FIRST_SAMPLE = 10
SAMPLE_GROWTH = 1.5
LAST_SAMPLE_INTERVAL = 5000


class Schedule:
    """The clockwork of one process's share of a run.

    With `iterations`, everything that decides the result is a function of the step. With `minutes`, the learning rate
    follows the clock, and no two runs are alike.

    Args:
        elapsed: seconds that earlier processes spent on it.
    """

    def __init__(self, settings: Settings, elapsed: float = 0.0) -> None:
        self.settings = settings
        now = time.monotonic()
        self._start = now - elapsed
        # When something that is done every so many minutes was done, by its option.
        self._last = {"--checkpoint-every": now, "--sample-every": now, "--evaluate-every": elapsed}

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

    def warm_up(self, step: int, progress: float) -> float | None:
        """Share of the warm-up that was done before a step, in [0, 1); None if it was over.

        Args:
            step: number of steps before this one.
            progress: that the step leads to.
        """
        steps, share = parse_warm_up(self.settings.recipe.warm_up)
        if self.settings.iterations is not None:
            progress = step / self.settings.iterations
        done = step / steps if steps else progress / share if share else 1
        return done if done < 1 else None

    def learning_rate(self, progress: float, warm_up: float | None = None, *, step: int = 0) -> float:
        """Of the step that leads to this progress: constant, then linearly to 0 (paper section 3.1, appendix).

        In the warm-up it falls in its second half, but for the paper's, which doesn't let it.

        Args:
            warm_up: as the method of this name returns it.
            step: number of steps before it, for recipes that halve it every so many steps.
        """
        halvings = (step + 1) // every if (every := self.settings.recipe.halve_every) else 0
        return self._learning_rate(progress, warm_up) * 0.5**halvings

    def _learning_rate(self, progress: float, warm_up: float | None) -> float:
        recipe, iterations = self.settings.recipe, self.settings.iterations
        if warm_up is not None:
            return recipe.learning_rate * (1 if recipe.name == "paper" else min(1, 2 * (1 - warm_up)))
        if recipe.epochs:
            return recipe.learning_rate * epoch_factor(progress * recipe.ends_after, recipe)
        if recipe.name != "paper" and iterations is not None:
            progress -= 1 / iterations  # the official code's last step has rate 0
        if progress <= recipe.decay_from:
            return recipe.learning_rate
        return recipe.learning_rate * max(0.0, (1 - progress) / (1 - recipe.decay_from))

    def seconds_left(self, step: int, steps_per_second: float | None) -> float | None:
        """Seconds until the run ends; None as long as the speed isn't known."""
        if self.settings.minutes is not None:
            return max(0.0, 60 * self.settings.minutes - self.elapsed)
        if steps_per_second is None or self.settings.iterations is None:
            return None
        return max(0, self.settings.iterations - step) / steps_per_second

    def save_due(self, step: int) -> bool:
        """Whether to save after this step."""
        return self._due("--checkpoint-every", self.settings.checkpoint_every, step, time.monotonic())

    def sample_due(self, step: int) -> bool:
        """Whether to draw samples after this step."""
        return self._due("--sample-every", self.settings.sample_every, step, time.monotonic())

    def evaluation_due(self, step: int) -> bool:
        """Whether to evaluate after this step."""
        return self._due("--evaluate-every", self.settings.evaluate_every, step, self.elapsed)

    def _due(self, option: str, every: str, step: int, now: float) -> bool:
        if every in ("growing", "off"):
            return every == "growing" and is_growing_step(step)
        steps, seconds = parse_interval(option, every)
        if steps:
            return step % steps == 0
        if now - self._last[option] < seconds:
            return False
        self._last[option] = now
        return True


def epoch_factor(progress: float, recipe: Recipe) -> float:
    """What an epoch's learning rate is multiplied with, by the authors' code that the recipe names.

    Epoch e of n, counted from 1, has 1 - (e - c) / (n - c + 1) after c constant ones in CycleGAN's code of 2019, with
    which the comparisons in U-GAT-IT's paper were made, 1 - (e - 1 - c) / (n - c + 1) in DRIT's, and
    1 - (e - 1 - c) / (n - c) in AGGAN's.

    The first two step their schedule at the end of an epoch, as PyTorch expects since 1.1; with earlier versions, all
    of it came one epoch later. Since July 2020 CycleGAN's does so at the start, and so one epoch earlier: its last
    epoch trains with a learning rate of 0.

    Args:
        progress: share of the epochs that is done after the step, in (0, 1].
    """
    constant = round(recipe.decay_from * recipe.epochs)
    # Rounded, since a step that ends an epoch belongs to it.
    fallen = math.ceil(round(progress * recipe.epochs, 6)) - constant - (recipe.epoch_decay != "cyclegan")
    return 1 - max(0, fallen) / max(1, recipe.epochs - constant + (recipe.epoch_decay != "aggan"))


def is_growing_step(step: int) -> bool:
    """Whether a step belongs to the growing series 10, 15, 23, 34, ..., which ends in every 5000th."""
    due = float(FIRST_SAMPLE)
    while math.ceil(due) < step:
        due = min(due * SAMPLE_GROWTH, due + LAST_SAMPLE_INTERVAL)
    return math.ceil(due) == step


# The first steps compile, allocate and read; speed is that of the steps after them, and of the last few only.
WARM_UP = 2
WINDOW = 50


@dataclass
class Speed:
    """Steps per second over the last steps, pauses for checkpoints and samples taken out."""

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    seen: int = 0
    last: float = field(default_factory=time.monotonic)

    def restart(self) -> None:
        """What happened since the last step doesn't count."""
        self.last = time.monotonic()

    def step(self) -> None:
        """One more step is done."""
        now = time.monotonic()
        self.seen += 1
        if self.seen > WARM_UP:
            self.seconds.append(now - self.last)
        self.last = now

    @property
    def steps_per_second(self) -> float | None:
        """None during warm-up."""
        total = sum(self.seconds)
        return len(self.seconds) / total if total else None
