"""What a training run says while it goes on: the words for it, and a line from time to time."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import tomli_w
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ugatit_cli import wording
from ugatit_cli.cli import console
from ugatit_cli.config import DOMAINS, BaseConfig, Direction
from ugatit_cli.device import describe_device
from ugatit_cli.errors import Interrupted, Saved
from ugatit_cli.methods.base import COPYING, Whose
from ugatit_cli.methods.registry import method_of
from ugatit_cli.metrics.features import BUNDLED, BUNDLED_NAME
from ugatit_cli.training.estimate import Measurement, first_result, first_steps
from ugatit_cli.training.evaluation import Best, Evaluation, Kids, best_of
from ugatit_cli.training.listeners import Listener, StepReport, means
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.session import Prepared
from ugatit_cli.training.settings import Settings
from ugatit_cli.training.trainer import Outcome
from ugatit_cli.weights.catalog import argument_for
from ugatit_cli.wording import byte_size, duration, figure, shown

# Losses jump from step to step: what is shown is the mean over so many.
SMOOTHING = 20
# The first steps are slow ones; after so many the speed tells how long it will take.
KNOWN_AFTER = 5
LONG = 24 * 3600
# Share of the time that a process has on a machine with nothing else to do, at least.
BUSY = 0.75
# Seconds from which on people are told how long an evaluation took.
WORTH_TELLING = 10
LONGEST_NAME = 12
WHOSE: tuple[Whose, ...] = get_args(Whose)
# What a line of metrics says beside losses.
OTHER_METRICS = ("step", "elapsed", "learning_rate", "images_per_second")


def _pace(steps_per_second: float) -> str:
    if steps_per_second < 0.2:
        return f"{1 / steps_per_second:.0f} s per step"
    return f"{figure(steps_per_second)} steps/s"


def _estimate(settings: Settings, report: StepReport) -> str:
    rate, left = report.steps_per_second or 0, report.seconds_left or 0
    if settings.iterations is None:
        text = f"about {round(rate * left)} steps in the {duration(left)} left ({_pace(rate)})"
    else:
        text = f"about {duration(left)} for the {settings.iterations - report.step} steps left ({_pace(rate)})"
    return "; ".join([text, *_plan(settings, is_new=report.step <= KNOWN_AFTER)]) if left > LONG else text


def _plan(settings: Settings, cost: Measurement | None = None, *, is_new: bool) -> list[str]:
    """What would end sooner, if anything is left to be chosen."""
    options = first_result(settings, is_new=is_new)
    about = ""
    if cost is not None:
        steps = float(f"{first_steps(settings, cost, is_new=is_new):.2g}")  # it is no more exact than that
        about = f" (about {steps:,.0f} steps)"
    return [f"for a first result tonight: {' '.join(options)}{about}"] if options else []


def _ways(model: BaseConfig) -> dict[Direction, str]:
    """What the directions are called: `horses -> zebras`."""
    return {way: f"{_shortened(model.source(way))} -> {_shortened(model.target(way))}" for way in model.directions}


def _scores(model: BaseConfig, evaluation: Evaluation) -> str:
    """An evaluation in one line; KID times 100, as papers give it."""
    parts = [f"step {evaluation.step}: {_kid(evaluation.protocol)}"]
    for kind, kids in evaluation.kids.items():
        both = _both(model, kids)
        parts.append(f"{kind}: {both}" if len(evaluation.kids) > 1 else both)
    if evaluation.best:
        parts.append("the best so far")
    if evaluation.seconds >= WORTH_TELLING:
        parts.append(f"took {duration(evaluation.seconds)}")
    return "  ".join(parts)


def _untouched(model: BaseConfig, evaluation: Evaluation) -> str:
    """What the figures must fall below, as the pictures are nearer to the other look without a model."""
    return f"untouched pictures: {_kid(evaluation.protocol)}  {_both(model, evaluation.untouched)}"


def _both(model: BaseConfig, kids: Kids) -> str:
    return ", ".join(f"{_ways(model)[way]} {100 * kid.mean:.2f} +- {100 * kid.std:.2f}" for way, kid in kids.items())


def _kid(protocol: Mapping[str, str]) -> str:
    """What the figures are called: those of the bundled extractor are of another kind."""
    return f"KID x100, {BUNDLED}" if protocol["extractor"] == BUNDLED_NAME else "KID x100"


def _pair(model: BaseConfig) -> str:
    """Both domains: `horses <-> zebras`; `->` where there is one way only."""
    arrow = "<->" if model.ways == "both" else "->"
    return f"{_shortened(model.domain_a)} {arrow} {_shortened(model.domain_b)}"


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


class PlainWatch(Listener):
    """Notes as they come, which it remembers, and a line from time to time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.terms = (*COPYING, *method_of(settings.model).terms(settings.model, settings.recipe))
        self.notes: list[str] = []
        self.losses: deque[dict[str, float]] = deque(maxlen=SMOOTHING)
        self.seen = self.measured = 0
        self.knows_untouched = False
        self._last = time.monotonic()

    def note(self, text: str) -> None:
        """Something worth knowing."""
        self.notes.append(text)
        console.note(text)

    def beginning(self, settings: Settings) -> None:
        """The first step is near."""
        self.settings = settings

    def trying(self, what: str) -> None:
        """Steps are tried, to find out what the run will take."""
        console.note(f"{what} ...")

    def estimated(self, settings: Settings, cost: Measurement) -> None:
        """What a run will take whose length nobody chose."""
        left = (settings.iterations or 0) / cost.steps_per_second
        if left > LONG:
            plan = "; ".join([f"about {duration(left)} on this machine", *_plan(settings, cost, is_new=True)])
            self.note(f"{plan}. --dry-run says more; Ctrl-C ends it")

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
        self.measured += not report.copying
        if report.losses:
            self.losses.append(report.losses)
        if self.measured == KNOWN_AFTER and report.steps_per_second and report.progress < 1:
            console.note(_estimate(self.settings, report))
        if self.seen == KNOWN_AFTER and report.progress < 1:
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
            console.note(f"evaluating: {done}/{total} pictures")

    def evaluated(self, evaluation: Evaluation) -> None:
        """The generators are evaluated, and the best model is kept."""
        if not self.knows_untouched:
            console.note(_untouched(self.settings.model, evaluation))
            self.knows_untouched = True
        console.note(_scores(self.settings.model, evaluation))

    def means(self) -> dict[str, float]:
        """The losses by name, over the last steps."""
        return means(list(self.losses))  # Rich asks from a thread of its own while the training adds more

    def line(self, report: StepReport) -> str:
        """A report in one line."""
        of = f"/{self.settings.iterations}" if self.settings.iterations else ""
        parts = [f"step {report.step}{of}", f"{100 * report.progress:.0f} %", *["warm-up"] * report.copying]
        parts += [f"{word} {'/'.join(f'{value:.3f}' for value in of)}" for word, of in self._sums().items()]
        if report.images_per_second is not None:
            parts.append(f"{figure(report.images_per_second)} images/s")
        if report.seconds_left is not None and report.progress < 1:
            parts.append(f"{duration(report.seconds_left)} left")
        return "  ".join(parts)

    def _sums(self) -> dict[str, list[float]]:
        """The generators' terms of each domain by their first word, and all of the discriminators."""
        known, sums = self.means(), dict[str, dict[str, float]]()
        for term in self.terms:
            if term.name in known:
                word = "discriminator" if term.of == "discriminator" else term.title.split()[0]
                of = sums.setdefault(word, {})
                of[term.domain] = of.get(term.domain, 0.0) + known[term.name]
        words = [*(word for word in sums if word != "discriminator"), "discriminator"]
        return {word: [sums[word][domain] for domain in sorted(sums[word])] for word in words if word in sums}

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._last < console.PLAIN_INTERVAL:
            return False
        self._last = now
        return True


class LiveWatch(PlainWatch):
    """A view that stays at the bottom of the terminal; notes appear above it. Rich asks it what to show."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.report: StepReport | None = None
        self.reported = time.monotonic()
        self.read: tuple[int, int] | None = None
        self.tried = ""
        self.files = {"checkpoint": "", "samples": ""}
        self.evaluation = ""

    def loading(self, done: int, total: int) -> None:
        """Pictures are being read."""
        self.read, self.reported = (done, total), time.monotonic()

    def trying(self, what: str) -> None:
        """Steps are tried, to find out what the run will take."""
        self.tried, self.reported = what, time.monotonic()

    def stepped(self, report: StepReport) -> None:
        """A step is done."""
        self.take(report)
        self.evaluation = ""
        self.report, self.reported = report, time.monotonic()

    def saved(self, step: int) -> None:
        """A checkpoint is written, and the model."""
        self.files["checkpoint"] = f"step {step}"

    def sampled(self, step: int, path: Path) -> None:  # noqa: ARG002  # the path has it
        """A sample grid is written."""
        self.files["samples"] = str(path)

    def evaluating(self, done: int, total: int) -> None:
        """The generators are being evaluated."""
        self.evaluation = f"evaluating: {done}/{total} pictures"

    def evaluated(self, evaluation: Evaluation) -> None:
        """The generators are evaluated, and the best model is kept."""
        self.evaluation = ""
        super().evaluated(evaluation)

    def __rich__(self) -> RenderableType:
        if self.report is None:
            return self._beginning()
        files = " · ".join(f"{name}: {file}" for name, file in self.files.items() if file)
        head = (self._heading(self.report), self._bar(self.report.progress), self._figures(self.report))
        return Group(*head, Text(), self._table(), *([Text(), self._dim(files)] if files else []))

    def _beginning(self) -> RenderableType:
        if self.evaluation:
            return Text(self.evaluation)
        done, total = self.read or (0, 0)
        if done == total:
            waited = duration(time.monotonic() - self.reported)
            what = self.tried or "preparing, the first step takes longest"
            return Text(f"{what} ... {waited}" if total else "preparing ...")
        grid = Table.grid(padding=(0, 1))
        grid.add_row("reading pictures", self._bar(done / total, width=40), f"{done}/{total}")
        return grid

    @staticmethod
    def _bar(share: float, width: int | None = None) -> Table:
        # A bar alone doesn't end its line.
        grid = Table.grid()
        grid.add_row(ProgressBar(total=1.0, completed=share, width=width))
        return grid

    def _heading(self, report: StepReport) -> Table:
        settings, minutes = self.settings, figure(self.settings.minutes or 0)
        of = f" of {settings.iterations}" if settings.iterations else f", {minutes} min in all"
        state = self.evaluation or self._share(report)
        grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
        grid.add_column(no_wrap=True, overflow="ellipsis")
        grid.add_column(justify="right", no_wrap=True)
        grid.add_row(Text(_pair(settings.model), "bold"), Text(f"step {report.step}{of}   {state}"))
        return grid

    def _share(self, report: StepReport) -> str:
        share, left = f"{100 * report.progress:.1f} %", report.seconds_left
        if left is None:
            return share
        left = max(0.0, left - (time.monotonic() - self.reported)) if report.progress < 1 else 0.0
        return f"{share}   {duration(left)} left"

    def _figures(self, report: StepReport) -> Text:
        parts = [f"learning rate {figure(report.learning_rate)}"]
        if report.images_per_second is not None and report.steps_per_second:
            parts[:0] = [f"{figure(report.images_per_second)} images/s", _pace(report.steps_per_second)]
        if report.memory:
            parts.append(f"memory {byte_size(report.memory)}")
        return self._dim(" · ".join(parts))

    @staticmethod
    def _dim(text: str) -> Text:
        return Text(shown(text), "dim", no_wrap=True, overflow="ellipsis")

    def _table(self) -> Table:
        model = self.settings.model
        names = {domain: _shortened(model.domain_a if domain == "a" else model.domain_b) for domain in DOMAINS}
        judged = {(term.of, term.domain) for term in self.terms}
        columns = [(of, domain) for of in WHOSE for domain in DOMAINS if (of, domain) in judged]
        table = Table.grid(padding=(0, 3, 0, 0))
        table.add_column(min_width=22, no_wrap=True)
        heads: list[str] = []
        for of, _ in columns:
            table.add_column(justify="right", min_width=8, no_wrap=True)
            heads.append("" if of in heads else of)
        table.add_row("", *(Text(head, "bold") for head in heads))
        table.add_row("", *(Text(names[domain], "cyan") for _, domain in columns))
        known = self.means()
        for title in dict.fromkeys(term.title for term in self.terms if term.name in known or not known):
            found = {(term.of, term.domain): term.name for term in self.terms if term.title == title}
            values = [known.get(found.get(column, "")) for column in columns]
            table.add_row(title, *("" if value is None else f"{value:.3f}" for value in values))
        return table


@contextmanager
def watching(settings: Settings) -> Iterator[PlainWatch]:
    """A live view on a terminal, else plain lines."""
    stderr = console.stderr()
    if not console.is_live() or stderr.is_dumb_terminal:
        yield PlainWatch(settings)
        return
    view = LiveWatch(settings)
    redirect = sys.stdout.isatty()
    with Live(view, console=stderr, refresh_per_second=4, redirect_stdout=redirect) as live:
        try:
            yield view
        finally:
            live.transient = view.report is None  # what is left on the screen is how it ended


def describe(prepared: Prepared, step: int) -> None:
    """Says what is going to be trained, how, and where to."""
    settings, run, machine = prepared.settings, prepared.run, prepared.machine
    model, group = settings.model, machine.group
    length = _count(settings.iterations, "step") if settings.iterations else f"{figure(settings.minutes or 0)} min"
    length = f"{settings.recipe.epochs} epochs" if prepared.counts_epochs else length
    processes = f"{group.size} processes, " if group.size > 1 else ""
    console.note(f"{model.pair}: {model.summary}")
    warm_up = {"off": "", "0": ""}.get(settings.recipe.warm_up, f", warm-up {settings.recipe.warm_up}")
    console.note(f"{settings.recipe.name} recipe, batch size {settings.recipe.batch_size}, {length}{warm_up}")
    console.note(f"{processes}device {describe_device(machine.device)}, precision {settings.precision}")
    begins = f"starts from the model {settings.start}" if settings.start else "a new run"
    if settings.start and settings.start_direction == "b2a":
        begins += " (its b2a is our a2b)"
    console.note(f"{run.path}: {f'goes on at step {step}' if step else begins}")


def finish(
    run: RunFolder, settings: Settings, outcome: Outcome, done: int, seconds: float, *, json_line: bool
) -> None:
    """What became of it: words on stderr, the run on stdout."""
    name, best = shlex.quote(str(run.path)), best_of(run)
    if outcome.finished and not done:
        console.note(f"{run.path}: complete after {_count(outcome.step, 'step')}")
        console.note(f"to train on: ugatit train --resume {name} {_longer(run, settings, outcome.step)}")
    else:
        console.note(f"{_count(done, 'step')} in {duration(seconds)}, {outcome.step} in all")
    samples = run.samples_path(0).parent
    console.note(f"{f'samples: {samples}, ' if samples.exists() else ''}model: {run.model}")
    if outcome.finished:
        used = shlex.quote(argument_for(run.path))
        console.note(f"translate with: ugatit translate PICTURES --model {used} -o out/")
    if best is not None:
        _say_best(settings.model, best)
        console.note(f"use it with: ugatit translate PICTURES --model {shlex.quote(str(run.best))} -o out/")
    try:
        console.ends_with(lambda: _result(run, outcome, best)) if json_line else console.made(str(run.path))
    finally:
        if not outcome.finished:
            raise Saved(
                f"stopped after step {outcome.step}; everything is saved in {run.path}",
                f"Go on with the same command, or: ugatit train --resume {name}",
            )


def _longer(run: RunFolder, settings: Settings, step: int) -> str:
    """What makes a complete run twice as long."""
    if settings.minutes is None:
        return f"--iterations {2 * step}"
    spent = run.state(step)["elapsed"] / 60 if step else 0.0  # it may have taken more than is asked for now
    return f"--minutes {figure(2 * max(settings.minutes, spent))}"


def _say_best(model: BaseConfig, best: Best) -> None:
    """Which it is, and whether it is any good."""
    kids = []
    for direction, way in _ways(model).items():
        untouched = f" (untouched {100 * best.untouched[direction]:.2f})" if best.untouched else ""
        kids.append(f"{way} {100 * best.kid[direction]:.2f}{untouched}")
    figures = f"{_kid(best.protocol)} {', '.join(kids)}"
    console.note(f"best of the evaluated models: step {best.step} ({best.generators}), {figures}")
    for direction, verdict in best.against_untouched.items():
        console.note(wording.compared(_ways(model)[direction], verdict, wording.TOO_SHORT))


def stopped_at_once(run: RunFolder) -> Interrupted:
    """What to say after a second Ctrl-C."""
    step = run.latest()
    kept = f"the last checkpoint is that of step {step}" if step else "there is no checkpoint yet"
    hint = f"Go on with the same command, or: ugatit train --resume {shlex.quote(str(run.path))}"
    return Interrupted(f"stopped at once; {kept}", hint if step else "")


def _result(run: RunFolder, outcome: Outcome, best: Best | None) -> dict[str, Any]:
    last = {"kid" in line: line for line in run.metrics() if "advice" not in line}
    trained, evaluated = last.get(False, {}), last.get(True)
    result = {
        "run": str(run.path),
        "model": str(run.model),
        "step": outcome.step,
        "finished": outcome.finished,
        "elapsed": trained.get("elapsed"),
        "losses": {name: value for name, value in trained.items() if name not in OTHER_METRICS},
    }
    if evaluated:
        result["evaluation"] = {name: value for name, value in evaluated.items() if name != "elapsed"}
    if best is not None:
        said = {"model": str(run.best), "step": best.step, "generators": best.generators, "kid": best.kid}
        compared = {"kid_untouched": best.untouched, "against_untouched": best.against_untouched}
        result["best"] = {**said, **(compared if best.untouched else {}), **best.protocol}
    return result


def say_costs(
    prepared: Prepared, settings: Settings, cost: Measurement, pictures: list[str], *, json_line: bool, verbose: bool
) -> None:
    """A dry run's result on stdout: what the run costs and what would be quicker.

    Args:
        pictures: what there is to say about them.
        verbose: whether the settings follow, as in `config.toml`.
    """
    step = prepared.run.latest() or 0
    left = None if settings.iterations is None else max(0, settings.iterations - step)
    seconds = None if left is None else left / cost.steps_per_second
    if json_line:
        estimated = dataclasses.asdict(cost) | {"steps_left": left, "seconds_left": seconds}
        console.ends_with(lambda: {**settings.to_document(), "pictures": pictures, "estimate": estimated})
        return
    lines = [f"time: {_time_needed(settings, cost, left)}", *_busy(cost, seconds)]
    if seconds is not None and seconds > LONG:
        lines += _plan(settings, cost, is_new=not prepared.exists)
    millions = [figure(count / 1e6) for count in (cost.generator_parameters, cost.discriminator_parameters)]
    about = "about " if cost.is_estimate else ""
    lines += [
        f"memory: {about}{byte_size(cost.memory_bytes)}",
        f"model: {settings.model.summary}; {millions[0]} million parameters, {millions[1]} in the discriminators",
        f"run: {prepared.run.path}" + (f", goes on at step {step}" if prepared.exists else ""),
    ]
    texts = tomli_w.dumps(settings.to_document()).split("\n") if verbose else []
    console.result(*([f"# {line}" for line in lines] if verbose else lines), *texts)
    if not verbose:
        console.note("all settings: --verbose")


def _time_needed(settings: Settings, cost: Measurement, left: int | None) -> str:
    pace = _pace(cost.steps_per_second)
    if left is None:
        minutes = settings.minutes or 0
        return f"{figure(minutes)} min, about {round(60 * minutes * cost.steps_per_second)} steps ({pace})"
    besides = ", evaluations not included" if settings.evaluates else ""
    return f"about {duration(left / cost.steps_per_second)} here for {left} steps ({pace}){besides}"


def _busy(cost: Measurement, seconds: float | None) -> list[str]:
    """That other programs have had much of the machine, if they have."""
    if cost.share > BUSY:
        return []
    alone = (
        f"about {duration(seconds * cost.share)}" if seconds is not None else f"{1 / cost.share:.1f} times as many"
    )
    return [f"busy: other programs had {1 - cost.share:.0%} of the time while it tried; {alone} without them"]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
