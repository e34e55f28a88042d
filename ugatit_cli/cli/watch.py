"""What a training run says while it goes on: the words for it, and a line from time to time."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from ugatit_cli.cli import console

if TYPE_CHECKING:
    from ugatit_cli.config import ModelConfig
    from ugatit_cli.training.evaluation import Evaluation
    from ugatit_cli.training.monitor import Listener, StepReport
    from ugatit_cli.training.settings import Settings

# Losses jump from step to step: what is shown is the mean over so many.
SMOOTHING = 20
# The first steps are slow ones; after so many the speed tells how long it will take.
KNOWN_AFTER = 5
LONG = 24 * 3600
# Seconds from which on people are told how long an evaluation took.
WORTH_TELLING = 10
LONGEST_NAME = 12

# For plain lines: the sums of a discriminator's or generator's terms.
SUMS = {"cycle": "cycle", "identity": "identity", "CAM": "cam", "adversarial": "g_", "discriminator": "d_"}


# --- Words ---------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `2 d 3 h`."""
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def figure(value: float) -> str:
    """Three digits that count, never an exponent for large numbers: `0.0312`, `1.3`, `12400`."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def amount(size: float) -> str:
    """A number of bytes: `512 MB`, `2.1 GB`."""
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def pace(steps_per_second: float) -> str:
    """`1.3 steps/s`, `20 s per step`."""
    if steps_per_second < 0.2:
        return f"{1 / steps_per_second:.0f} s per step"
    return f"{figure(steps_per_second)} steps/s"


def estimate(settings: Settings, report: StepReport) -> str:
    """How long the rest will take."""
    rate, left = report.steps_per_second or 0, report.seconds_left or 0
    if settings.iterations is None:
        text = f"about {round(rate * left)} steps in the {duration(left)} left ({pace(rate)})"
    else:
        text = f"about {duration(left)} for the {settings.iterations - report.step} steps left ({pace(rate)})"
    if left > LONG:
        text += "; --minutes 90 ends sooner, --image-size 128 is faster"
    return text


def ways(model: ModelConfig) -> dict[str, str]:
    """What the directions are called: `horses -> zebras`."""
    a, b = shortened(model.domain_a), shortened(model.domain_b)
    return {"a2b": f"{a} -> {b}", "b2a": f"{b} -> {a}"}


def evaluated_so_far(done: int, total: int) -> str:
    """How far an evaluation is."""
    return f"evaluating: {done}/{total} pictures"


def scores(model: ModelConfig, evaluation: Evaluation) -> str:
    """An evaluation in one line; KID times 100, as papers give it."""
    parts = [f"step {evaluation.step}: KID x100"]
    for kind, kids in evaluation.kids.items():
        both = [f"{ways(model)[way]} {100 * kid.mean:.2f} +- {100 * kid.std:.2f}" for way, kid in kids.items()]
        parts.append(f"{kind}: {', '.join(both)}" if len(evaluation.kids) > 1 else ", ".join(both))
    if evaluation.best:
        parts.append("the best so far")
    if evaluation.seconds >= WORTH_TELLING:
        parts.append(f"took {duration(evaluation.seconds)}")
    return "  ".join(parts)


def shortened(name: str) -> str:
    """A domain's name for a narrow column."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


# --- Listeners -----------------------------------------------------------------------------------------


class Silent:
    """Hears of everything and says nothing: for processes other than the first, and for dry runs."""

    def loading(self, done: int, total: int) -> None:
        """Pictures are being read."""

    def note(self, text: str) -> None:
        """Something worth knowing."""

    def stepped(self, report: StepReport) -> None:
        """A step is done."""

    def saved(self, step: int) -> None:
        """A checkpoint is written, and the model."""

    def sampled(self, step: int, path: Path) -> None:
        """A sample grid is written."""

    def evaluating(self, done: int, total: int) -> None:
        """The generators are being evaluated."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """The generators are evaluated, and the best model is kept."""


class Several:
    """Passes everything on to several listeners, in their order."""

    def __init__(self, *listeners: Listener) -> None:
        self.listeners = listeners

    def loading(self, done: int, total: int) -> None:
        """Pictures are being read."""
        for listener in self.listeners:
            listener.loading(done, total)

    def note(self, text: str) -> None:
        """Something worth knowing."""
        for listener in self.listeners:
            listener.note(text)

    def stepped(self, report: StepReport) -> None:
        """A step is done."""
        for listener in self.listeners:
            listener.stepped(report)

    def saved(self, step: int) -> None:
        """A checkpoint is written, and the model."""
        for listener in self.listeners:
            listener.saved(step)

    def sampled(self, step: int, path: Path) -> None:
        """A sample grid is written."""
        for listener in self.listeners:
            listener.sampled(step, path)

    def evaluating(self, done: int, total: int) -> None:
        """The generators are being evaluated."""
        for listener in self.listeners:
            listener.evaluating(done, total)

    def evaluated(self, evaluation: Evaluation) -> None:
        """The generators are evaluated, and the best model is kept."""
        for listener in self.listeners:
            listener.evaluated(evaluation)


class PlainWatch:
    """Notes as they come, and a line from time to time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.losses: deque[dict[str, float]] = deque(maxlen=SMOOTHING)
        self.seen = 0
        self._last = time.monotonic()

    def note(self, text: str) -> None:
        """Something worth knowing."""
        console.note(text)

    def loading(self, done: int, total: int) -> None:
        """Pictures are being read."""
        if self._is_time():
            console.note(f"reading pictures: {done}/{total}")

    def stepped(self, report: StepReport) -> None:
        """A step is done."""
        self.take(report)
        if self.seen == 1 or report.progress >= 1 or self._is_time():
            console.note(self.line(report))

    def take(self, report: StepReport) -> None:
        """Remembers losses; says how long it will take as soon as that is known."""
        self.seen += 1
        if report.losses:
            self.losses.append(report.losses)
        if self.seen == KNOWN_AFTER and report.steps_per_second and report.progress < 1:
            console.note(estimate(self.settings, report))
            console.note("Ctrl-C saves and stops; the same command goes on")

    def saved(self, step: int) -> None:
        """A checkpoint is written, and the model."""
        console.note(f"step {step}: checkpoint and model saved")

    def sampled(self, step: int, path: Path) -> None:
        """A sample grid is written."""
        console.note(f"step {step}: samples in {path}")

    def evaluating(self, done: int, total: int) -> None:
        """The generators are being evaluated."""
        if self._is_time():
            console.note(evaluated_so_far(done, total))

    def evaluated(self, evaluation: Evaluation) -> None:
        """The generators are evaluated, and the best model is kept."""
        console.note(scores(self.settings.model, evaluation))

    def means(self) -> dict[str, float]:
        """The losses by name, over the last steps."""
        losses = list(self.losses)  # Rich asks from a thread of its own while the training adds more
        return {name: sum(one[name] for one in losses) / len(losses) for name in (losses[-1] if losses else ())}

    def line(self, report: StepReport) -> str:
        """A report in one line."""
        of = f"/{self.settings.iterations}" if self.settings.iterations else ""
        parts = [f"step {report.step}{of}", f"{100 * report.progress:.0f} %"]
        for word, start in SUMS.items():
            terms = [self._terms(start, domain) for domain in "ab"]
            parts += [f"{word} {sum(terms[0]):.3f}/{sum(terms[1]):.3f}"] if any(terms) else []
        if report.images_per_second is not None:
            parts.append(f"{figure(report.images_per_second)} images/s")
        if report.seconds_left is not None and report.progress < 1:
            parts.append(f"{duration(report.seconds_left)} left")
        return "  ".join(parts)

    def _terms(self, start: str, domain: str) -> list[float]:
        # `g_a` and `d_a` are sums already, and weighted.
        return [
            value
            for name, value in self.means().items()
            if name.startswith(start) and domain in name.split("_") and name not in (f"g_{domain}", f"d_{domain}")
        ]

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._last < console.PLAIN_INTERVAL:
            return False
        self._last = now
        return True
