"""A training run from its first picture to its last checkpoint, however often it is interrupted."""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from ugatit_cli.config import Direction
from ugatit_cli.data.batches import Batches, sample_pictures, stream
from ugatit_cli.data.pictures import Pictures, fingerprint, load_pictures, memory_budget, passed_over
from ugatit_cli.device import Group, Readback, peak_memory, sent
from ugatit_cli.errors import DataError, TrainingError
from ugatit_cli.methods.base import Losses
from ugatit_cli.methods.networks import Networks, Start, Swapped, build_networks, memory_format
from ugatit_cli.methods.registry import method_of
from ugatit_cli.metrics.features import Extractor
from ugatit_cli.pictures.bounds import MAX_PIXELS
from ugatit_cli.pictures.encoding import encode
from ugatit_cli.pictures.jobs import in_words
from ugatit_cli.pictures.reading import from_pil
from ugatit_cli.training import checkpoint
from ugatit_cli.training.advice import Advisor
from ugatit_cli.training.evaluation import Abandoned, Evaluator, holdout_fingerprint, is_evaluated
from ugatit_cli.training.listeners import Listener, StepReport, means
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.samples import draw_samples
from ugatit_cli.training.schedule import Schedule, Speed
from ugatit_cli.training.settings import Settings
from ugatit_cli.weights.folder import ModelFolder

# Pictures of each domain in a sample grid.
SAMPLES = 4
# Steps per line of metrics.
METRICS_EVERY = 10
SHOWN = 5


class _Evaluating(IntEnum):
    GOES_ON = 0
    DONE = 1
    ABANDONED = 2
    FAILED = 3


@dataclass(frozen=True)
class Machine:
    """Where a run takes place: this process's device, threads or processes that decode pictures, and its group.

    Attributes:
        max_pixels: the most that a picture may have; None: any number.
    """

    device: torch.device
    workers: int
    group: Group
    max_pixels: int | None = MAX_PIXELS


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended: steps done in all, and whether the run is complete, or was interrupted."""

    step: int
    finished: bool


def load_data(
    settings: Settings, run: RunFolder, machine: Machine, listener: Listener, stop: threading.Event
) -> tuple[Pictures, Pictures]:
    """Reads all pictures of both domains, and says what is wrong with them; raises what `load_pictures` does."""
    pictures = load_pictures(
        settings.folders,
        settings.preparation,
        settings.kept_back,
        settings.seed,
        workers=machine.workers,
        budget_bytes=memory_budget() // machine.group.size,
        max_pixels=machine.max_pixels,
        exclude=[run.path],
        progress=listener.loading,
        stop=stop,
    )
    for name, one in zip((settings.model.domain_a, settings.model.domain_b), pictures, strict=True):
        _describe(name, one, listener)
        if others := passed_over(one.folder, exclude=[run.path]):
            listener.note(f"{one.folder}: {in_words(others)}")
    return pictures


def _describe(name: str, pictures: Pictures, listener: Listener) -> None:
    where = "in memory" if pictures.pixels is not None else "read again when needed: they don't fit into memory"
    listener.note(
        f"{name}: {len(pictures.files)} pictures to train on, {len(pictures.held_out)} held out, {where} "
        f"({pictures.folder})"
    )
    for error in pictures.broken[:SHOWN]:
        listener.note(f"skipped: {error.message}")
    if len(pictures.broken) > SHOWN:
        listener.note(f"skipped: {len(pictures.broken) - SHOWN} more that can't be read in {pictures.folder}")
    if pictures.upscaled:
        listener.note(f"{name}: {pictures.upscaled} pictures are smaller than the training size and are enlarged")


class Trainer:
    """A run in progress: made from a folder's checkpoint where there is one, else from the settings.

    Args:
        run: its folder, locked by the caller in the process of rank 0.
        extractor: for evaluation, in the process of rank 0, if the settings ask for it.
    """

    def __init__(
        self,
        run: RunFolder,
        settings: Settings,
        pictures: tuple[Pictures, Pictures],
        machine: Machine,
        listener: Listener,
        *,
        start: ModelFolder | None = None,
        extractor: Extractor | None = None,
    ) -> None:
        self.run = run
        self.settings = settings
        self.machine = machine
        self.listener = listener
        self.pictures = pictures
        self.networks = make_networks(settings, machine.device, start)
        self.training = method_of(settings.model).step(
            self.networks, settings.recipe, seed=settings.seed, group=machine.group
        )
        self.step = 0
        self._saved: int | None = None
        self._drawn: int | None = None
        self._leads = machine.group.rank == 0  # and writes the files
        self._fingerprints = {"data": fingerprint(pictures), "holdout": holdout_fingerprint(pictures)}
        self._mixed = False
        self._reader = LossReader(machine.group)
        self._advisor = Advisor(settings)
        self.schedule = Schedule(settings, self._restore())
        a, b = (sample_pictures(one, SAMPLES, settings.seed) for one in pictures)
        self._samples = (a, b)
        self._evaluator = Evaluator(run, settings, pictures, extractor) if extractor is not None else None
        if self._evaluator is not None and self._evaluator.starts_anew:
            listener.note(f"{run.best} was measured in another way: the next evaluation replaces it")

    def _restore(self) -> float:
        """Seconds spent on the run so far."""
        # Of rank 0, and when it has come so far: others may not see yet what it has tidied up.
        step = int(self.machine.group.share(float(self.run.latest() or 0)))
        if not step:
            return 0.0
        state = checkpoint.restore(self.run, step, self.training)
        self.step = self._saved = step
        self._reader.line = state.metrics
        self._advisor.scores = dict(state.advice or {})
        self._mixed = state.mixed or state.data not in (self._fingerprints["data"], None)
        if any(getattr(state, name) not in (one, None) for name, one in self._fingerprints.items()):
            self.listener.note("the pictures are not those that the run began with: it goes on with these")
        return state.elapsed

    def train(self, stop: threading.Event) -> Outcome:
        """Trains until the run is complete or `stop` is set; saves in both cases.

        Raises:
            TrainingError: a loss or a weight isn't finite; the last checkpoint is as it was.
            DataError, OutputError: a picture can't be read any more, or nothing more can be written.
        """
        if self._leads:
            self.run.truncate_metrics(self.step)
            checkpoint.write_model(self.run, self.networks, self.settings, self.step, self.pictures)
        complete = self.machine.group.share(self.schedule.progress(self.step)) >= 1
        due = complete or (self.step > 0 and self.schedule.sample_due(self.step))
        if self._leads and due and not self.run.samples_path(self.step).exists():
            self._draw()  # the process that did this step was ended just then
        if complete:
            return Outcome(self.step, self._evaluate_if_missing(stop, last=True))
        try:
            finished = self._evaluate_if_missing(stop) and self._steps(stop)
        except DataError:
            self._end()  # nothing is wrong with the networks
            raise
        self._end(draw=finished)
        if finished:
            finished = self._evaluate_if_missing(stop, last=True)
        self.machine.group.any(False)  # a process that ends takes the others along: wait until all is saved
        return Outcome(self.step, finished)

    def _end(self, *, draw: bool = False) -> None:
        if self._leads and self._saved != self.step:
            self._save()
            if draw:
                self._draw()

    def _steps(self, stop: threading.Event) -> bool:
        """Trains to the end, or until `stop` is set; says whether it is the end."""
        group, speed = self.machine.group, Speed()
        done = group.share(self.schedule.progress(self.step))
        with closing(self._batches()) as batches:
            for pair in batches:
                a, b = (as_input(pictures, self.machine.device) for pictures in pair)
                progress = group.share(self.schedule.progress(self.step + 1))
                warm_up = self._warm_up(progress)
                if warm_up is None and self.training.copied == self.step > 0:
                    speed = self._warmed_up()
                learning_rate = self.schedule.learning_rate(progress, warm_up, step=self.step)
                copying = warm_up is not None
                losses = self.training(
                    a, b, step=self.step, learning_rate=learning_rate, copying=copying, progress=done
                )
                self.step, done = self.step + 1, progress
                known = self._reader.put(self.step, losses)
                speed.step()
                report = self._report(known, progress, learning_rate, speed.steps_per_second, copying=copying)
                self.listener.stepped(report)
                if progress >= 1:
                    self._reader.flush()
                if progress >= 1 or self.step % METRICS_EVERY == 0:
                    self._write_metrics(report)
                if progress >= 1:
                    return True
                if group.any(stop.is_set()):
                    return False
                self._write_if_due()
                if not self._evaluate_if(self._leads and self.schedule.evaluation_due(self.step), stop):
                    return False
                speed.restart()
        raise AssertionError("there is always a next batch")

    def _warm_up(self, progress: float) -> float | None:
        """Share of the warm-up that is done; None: it is over, and never comes back."""
        return self.schedule.warm_up(self.step, progress) if self.training.copied == self.step else None

    def _warmed_up(self) -> Speed:
        """Shows how well pictures are copied; other steps have another speed."""
        if self._leads and self._drawn != self.step:
            self._draw()
        steps = "1 step" if self.step == 1 else f"{self.step} steps"
        self.listener.note(f"the warm-up is over after {steps}; now discriminators train, too")
        return Speed()

    def _batches(self) -> Generator[tuple[Tensor, Tensor], None, None]:
        batches = Batches(
            self.pictures,
            seed=self.settings.seed,
            batch_size=self.settings.recipe.batch_size,
            flip=self.settings.recipe.flip,
            order=self.settings.recipe.order,
            rank=self.machine.group.rank,
            world_size=self.machine.group.size,
        )
        last, pinned = self.settings.iterations or 2**62, self.machine.device.type == "cuda"
        return stream(batches, self.step, last, workers=self.machine.workers, pin_memory=pinned)

    def _report(
        self, losses: dict[str, float], progress: float, learning_rate: float, rate: float | None, *, copying: bool
    ) -> StepReport:
        return StepReport(
            step=self.step,
            progress=progress,
            losses=losses,
            learning_rate=learning_rate,
            copying=copying,
            steps_per_second=rate,
            images_per_second=rate and rate * self.settings.recipe.batch_size * self.machine.group.size,
            seconds_left=self.schedule.seconds_left(self.step, None if copying else rate),
            memory=peak_memory(self.machine.device),
        )

    def _write_metrics(self, report: StepReport) -> None:
        """One line: the means of the losses since the last one."""
        losses, self._reader.line = self._reader.line, []
        if self._leads and losses:
            line = {
                "step": report.step,
                "elapsed": self.schedule.elapsed,
                "learning_rate": report.learning_rate,
                "images_per_second": report.images_per_second,
            }
            found = means(losses)
            self.run.append_metrics({**line, **found})
            self.listener.recorded(report, found)
            self._advise(self._advisor.losses(found))

    def _advise(self, texts: list[str]) -> None:
        for text in texts:
            self.listener.note(f"step {self.step}: {text}")
            self.run.append_metrics({"step": self.step, "advice": text})

    def _write_if_due(self) -> None:
        if self._leads and self.schedule.sample_due(self.step):
            self._draw()  # first: what is seen there belongs to the checkpoint
        if self._leads and self.schedule.save_due(self.step):
            self._save()

    def _evaluate_if_missing(self, stop: threading.Event, *, last: bool = False) -> bool:
        """Evaluates the last step, or the one to go on from if the process that did it was ended just then."""
        if self._evaluator is None:
            return self._evaluate_if(False, stop)
        due = self.step > 0 and (last or self.schedule.evaluation_due(self.step))
        return self._evaluate_if(due and not is_evaluated(self.run, self.step, self._evaluator.protocol), stop)

    def _evaluate_if(self, due: bool, stop: threading.Event) -> bool:
        """Evaluates if rank 0 says that it is due; False: `stop` was set meanwhile, and nothing came of it."""
        return not (self.settings.evaluates and self.machine.group.any(due)) or self._evaluate(stop)

    def _evaluate(self, stop: threading.Event) -> bool:
        """Evaluates in rank 0; the others wait for its word, so often that no patience ends, and fail if it does."""
        share, result = self.machine.group.share, _Evaluating.FAILED
        if self._evaluator is None:
            while (said := share(_Evaluating.GOES_ON)) == _Evaluating.GOES_ON:
                pass
            if said == _Evaluating.FAILED:
                raise TrainingError(f"step {self.step}: the first process can't evaluate")
            return said == _Evaluating.DONE

        def tick(looked_at: int, total: int) -> None:
            share(_Evaluating.GOES_ON)
            if stop.is_set():
                raise Abandoned
            self.listener.evaluating(looked_at, total)

        try:
            with self.schedule.paused():
                evaluation = self._evaluator(self.networks, self.step, self.schedule.elapsed, tick)
            self.listener.evaluated(evaluation)
            result = _Evaluating.DONE
        except Abandoned:
            result = _Evaluating.ABANDONED
        except DataError:
            self._end()  # while the others wait: when they end, a launcher ends this process, too
            raise
        finally:
            share(result)
        return result == _Evaluating.DONE

    def _draw(self) -> None:
        config, seen = self.settings.model, dict[Direction, list[Tensor]]()
        image = draw_samples(
            self.networks.best_translators,
            self._samples,
            config,
            device=self.machine.device,
            watch=lambda direction, translation: seen.setdefault(direction, []).append(translation),
        )
        self._advise(self._advisor.pictures(self._samples, seen, self.step, self.step - self.training.copied))
        self._drawn = self.step
        path = self.run.write_samples(self.step, encode(from_pil(image), "PNG"))
        self.listener.sampled(self.step, path)

    def _save(self) -> None:
        self._reader.flush()
        state = checkpoint.State(
            self.schedule.elapsed,
            self._reader.line,
            **self._fingerprints,
            advice=self._advisor.scores,
            mixed=self._mixed,
        )
        checkpoint.save(self.run, self.training, self.settings, self.step, state, self.pictures)
        self._saved = self.step
        self.listener.saved(self.step)


class LossReader:
    """Losses as numbers, one step late on a GPU, so that nobody waits for it.

    Attributes:
        line: those that the next line of metrics is about.
    """

    def __init__(self, group: Group) -> None:
        self.line: list[Mapping[str, float]] = []
        self._group = group
        self._waiting: tuple[int, list[str], Readback] | None = None

    def put(self, step: int, losses: Losses) -> dict[str, float]:
        """Takes a step's losses, and reads those of this step, or on a GPU of the one before, if there is one.

        Raises:
            TrainingError: one isn't finite.
        """
        values = torch.stack(list(losses.values()))
        self._group.average([values])
        before = self.flush()
        self._waiting = (step, list(losses), Readback([values]))
        return before if values.is_cuda else self.flush()

    def flush(self) -> dict[str, float]:
        """Reads what has not been read yet; raises the same."""
        if self._waiting is None:
            return {}
        (step, names, reading), self._waiting = self._waiting, None
        losses: dict[str, float] = dict(zip(names, reading.wait()[0].tolist(), strict=True))
        for name, value in losses.items():
            if not math.isfinite(value):
                raise TrainingError(f"step {step}: the loss {name} is {value}", checkpoint.WAY_OUT)
        self.line.append(losses)
        return losses


def make_networks(settings: Settings, device: torch.device, start: ModelFolder | None) -> Networks:
    """The networks that a run of these settings begins with."""
    method = method_of(settings.model)
    theirs: Start | None = Swapped(start) if start is not None and settings.start_direction == "b2a" else start
    return build_networks(
        settings.model,
        method.translators,
        method.critics,
        seed=settings.seed,
        device=device,
        precision=settings.precision,
        averaged=settings.recipe.ema > 0,
        start=theirs,
        checkpointing=settings.checkpointing,
    )


def as_input(pictures: Tensor, device: torch.device) -> Tensor:
    """uint8 (N, 3, H, W) as float in [-1, 1] on the device, in the memory format that its networks like."""
    return sent(pictures, device).to(torch.float32, memory_format=memory_format(device)).div_(127.5).sub_(1)
