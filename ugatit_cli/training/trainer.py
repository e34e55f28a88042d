"""A training run from its first picture to its last checkpoint, however often it is interrupted."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
from collections.abc import Generator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from ugatit_cli.data.batches import Batches, sample_pictures, stream
from ugatit_cli.data.pictures import Pictures, Preparation, fingerprint, load_pictures, memory_budget
from ugatit_cli.device import Group, peak_memory
from ugatit_cli.errors import DataError, TrainingError
from ugatit_cli.files import write_file
from ugatit_cli.methods.networks import Networks, build_networks, memory_format
from ugatit_cli.methods.ugatit import Losses, TrainingStep
from ugatit_cli.metrics.features import Extractor
from ugatit_cli.pictures.encoding import encode
from ugatit_cli.pictures.reading import from_pil
from ugatit_cli.training import state
from ugatit_cli.training.evaluation import Abandoned, Evaluator, holdout_fingerprint, is_evaluated
from ugatit_cli.training.listeners import Listener, StepReport
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.samples import draw_samples
from ugatit_cli.training.schedule import Schedule, Speed
from ugatit_cli.training.settings import Settings
from ugatit_cli.weights.folder import ModelFolder

# Pictures of each domain in a sample grid.
SAMPLES = 4
# Steps per line of metrics.
METRICS_EVERY = 10
# A discriminator that sees every picture this often learns them by heart.
MANY_EPOCHS = 200
SHOWN = 5


class _Evaluating(IntEnum):
    """What the process of rank 0 tells the others while it evaluates."""

    GOES_ON = 0
    DONE = 1
    ABANDONED = 2
    FAILED = 3


@dataclass(frozen=True)
class Machine:
    """Where a run takes place.

    Attributes:
        device: of this process.
        workers: threads or processes that decode pictures.
        group: the processes that train together.
    """

    device: torch.device
    workers: int
    group: Group


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended.

    Attributes:
        step: steps done in all.
        finished: whether the run is complete; else it was interrupted.
    """

    step: int
    finished: bool


def load_data(
    settings: Settings, run: RunFolder | None, machine: Machine, listener: Listener, stop: threading.Event
) -> tuple[Pictures, Pictures]:
    """Reads all pictures of both domains, and says what is wrong with them.

    Raises:
        DataError: too few of them can be used.
        UsageError: folders that don't exist, or are the same.
        Interrupted: `stop` was set.
    """
    preparation = Preparation(settings.model.image_size, fit=settings.recipe.fit)
    pictures = load_pictures(
        settings.folders,
        preparation,
        settings.kept_back,
        settings.seed,
        workers=machine.workers,
        budget_bytes=memory_budget() // machine.group.size,
        exclude=[run.path] if run is not None else [],
        progress=listener.loading,
        stop=stop,
    )
    for one in pictures:
        _describe(one, settings, listener)
    return pictures


def _describe(pictures: Pictures, settings: Settings, listener: Listener) -> None:
    name = settings.model.domain_a if pictures.domain == "a" else settings.model.domain_b
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


def with_augmentation(settings: Settings, pictures: tuple[Pictures, Pictures], processes: int = 1) -> Settings:
    """Settings whose `augment` is decided: `auto` is on where a run of known length sees the same pictures often."""
    if settings.recipe.augment != "auto":
        return settings
    seen = (settings.iterations or 0) * settings.recipe.batch_size * processes
    often = seen >= MANY_EPOCHS * min(len(one.files) for one in pictures)
    recipe = dataclasses.replace(settings.recipe, augment="on" if often else "off")
    return dataclasses.replace(settings, recipe=recipe)


class Trainer:
    """A run in progress: made from a folder's checkpoint where there is one, else from the settings.

    Args:
        run: its folder, locked by the caller in the process of rank 0.
        settings: see `Settings`.
        pictures: of both domains.
        start: the model to start from, if there is one.
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
        self.training = TrainingStep(self.networks, settings.recipe, seed=settings.seed, group=machine.group)
        self.step = 0
        self._saved: int | None = None
        self._fingerprints = {"data": fingerprint(pictures), "holdout": holdout_fingerprint(pictures)}
        self._counts = (len(pictures[0].files), len(pictures[1].files))
        self._reader = LossReader(machine.group)
        self._metrics: list[dict[str, float]] = []
        elapsed = self._restore()
        self.schedule = Schedule(settings, elapsed)
        a, b = (sample_pictures(one, SAMPLES, settings.seed) for one in pictures)
        self._samples = (a, b)
        self._last_report: StepReport | None = None
        self._evaluator = Evaluator(run, settings, pictures, extractor) if extractor is not None else None
        if self._evaluator is not None and self._evaluator.starts_anew:
            listener.note(f"{run.best} was measured in another way: the next evaluation replaces it")

    @property
    def _leads(self) -> bool:
        """Whether this process writes the files."""
        return self.machine.group.rank == 0

    def _restore(self) -> float:
        # Of rank 0, and when it has come so far: others may not see yet what it has tidied up.
        step = int(self.machine.group.share(float(self.run.latest() or 0)))
        if not step:
            return 0.0
        checkpoint = self.run.load_checkpoint(step)
        state.restore(checkpoint, self.training)
        self.step = self._saved = step
        self._metrics = checkpoint.state["metrics"]
        # Checkpoints of earlier versions say nothing of the hold-out.
        if any(checkpoint.state.get(name, one) != one for name, one in self._fingerprints.items()):
            self.listener.note("the pictures are not those that the run began with: it goes on with these")
        return float(checkpoint.state["elapsed"])

    def train(self, stop: threading.Event) -> Outcome:
        """Trains until the run is complete or `stop` is set; saves in both cases.

        Raises:
            TrainingError: a loss or a weight isn't finite; the last checkpoint is as it was.
            DataError: a picture can't be read any more.
            OutputError: nothing more can be written.
        """
        if self._leads:
            self.run.truncate_metrics(self.step)
            state.write_model(self.run, self.networks, self.settings, self.step, self._counts)
        if self.machine.group.share(self.schedule.progress(self.step)) >= 1:
            if self._leads and not self.run.samples_path(self.step).exists():
                self._draw()  # the process that did the last step was killed just then
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
        if not self._leads or self._saved == self.step:
            return
        self._save()
        if draw:
            self._draw()

    def _steps(self, stop: threading.Event) -> bool:
        """Trains to the end, or until `stop` is set; says whether it is the end."""
        group, speed = self.machine.group, Speed()
        with contextlib.closing(self._batches()) as batches:
            for a, b in batches:
                progress = group.share(self.schedule.progress(self.step + 1))
                learning_rate = self.schedule.learning_rate(progress)
                losses = self.training(a, b, step=self.step, learning_rate=learning_rate)
                self.step += 1
                known = self._reader.put(self.step, losses)
                speed.step()
                self._report(known, progress, learning_rate, speed)
                if progress >= 1:
                    self._record(self._reader.flush())
                    self._write_metrics()
                    return True
                if group.any(stop.is_set()):
                    return False
                self._write_if_due()
                if not self._evaluate_if_due(stop):
                    return False
                speed.restart()
        raise AssertionError("there is always a next batch")

    def _batches(self) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Batches from the next step on, as float (N, 3, H, W) in [-1, 1] on the device."""
        device, group = self.machine.device, self.machine.group
        batches = Batches(
            self.pictures,
            seed=self.settings.seed,
            batch_size=self.settings.recipe.batch_size,
            flip=self.settings.recipe.flip,
            rank=group.rank,
            world_size=group.size,
        )
        last = self.settings.iterations or 2**62
        pinned = device.type == "cuda"
        with contextlib.closing(
            stream(batches, self.step, last, workers=self.machine.workers, pin_memory=pinned)
        ) as pairs:
            for pair in pairs:
                a, b = (as_input(one, device) for one in pair)
                yield a, b

    def _report(
        self, known: tuple[int, dict[str, float]] | None, progress: float, learning_rate: float, speed: Speed
    ) -> None:
        self._record(known)
        rate = speed.steps_per_second
        images = None if rate is None else rate * self.settings.recipe.batch_size * self.machine.group.size
        report = StepReport(
            step=self.step,
            progress=progress,
            losses=known[1] if known else {},
            learning_rate=learning_rate,
            steps_per_second=rate,
            images_per_second=images,
            seconds_left=self.schedule.seconds_left(self.step, rate),
            memory=peak_memory(self.machine.device),
        )
        self.listener.stepped(report)
        self._last_report = report
        if self.step % METRICS_EVERY == 0 and progress < 1:
            self._write_metrics()

    def _record(self, known: tuple[int, dict[str, float]] | None) -> None:
        if known is not None:
            self._metrics.append(known[1])

    def _write_metrics(self) -> None:
        """One line: the means of the losses since the last one."""
        report, losses = self._last_report, self._metrics
        self._metrics = []
        if not self._leads or not losses or report is None:
            return
        means = {name: sum(one[name] for one in losses) / len(losses) for name in losses[0]}
        line = {
            "step": report.step,
            "elapsed": self.schedule.elapsed,
            "learning_rate": report.learning_rate,
            "images_per_second": report.images_per_second,
        }
        self.run.append_metrics({**line, **means})

    def _write_if_due(self) -> None:
        if not self._leads:
            return
        if self.schedule.save_due(self.step):
            self._save()
        if self.schedule.sample_due(self.step):
            self._draw()

    def _evaluate_if_due(self, stop: threading.Event) -> bool:
        if not self.settings.evaluates:
            return True
        due = self._leads and self.schedule.evaluation_due(self.step)
        return self._evaluate(stop) if self.machine.group.any(due) else True

    def _evaluate_if_missing(self, stop: threading.Event, *, last: bool = False) -> bool:
        """Evaluates the last step, or the one to go on from if the process that did it was ended just then."""
        if not self.settings.evaluates or not self.step:
            return True
        due = last or self.schedule.evaluation_due(self.step)
        evaluator = self._evaluator
        missing = due and evaluator is not None and not is_evaluated(self.run, self.step, evaluator.protocol)
        return self._evaluate(stop) if self.machine.group.any(missing) else True

    def _evaluate(self, stop: threading.Event) -> bool:
        """Evaluates in the process of rank 0; False: `stop` was set meanwhile, and nothing came of it.

        The others wait for what it says, before each batch of pictures so that no patience ends, and when it is over.

        Raises:
            TrainingError: in the others, whatever error ended it.
        """
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
        image = draw_samples(
            self.networks.best_generators, self._samples, self.settings.model, device=self.machine.device
        )
        path = self.run.samples_path(self.step)
        write_file(path, encode(from_pil(image), "PNG"))
        self.listener.sampled(self.step, path)

    def _save(self) -> None:
        self._record(self._reader.flush())
        values = {"elapsed": self.schedule.elapsed, "metrics": self._metrics, **self._fingerprints}
        state.save(self.run, self.training, self.settings, self.step, values, self._counts)
        self._saved = self.step
        self.listener.saved(self.step)


class LossReader:
    """Losses as numbers, one step late on a GPU, so that nobody waits for it."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._waiting: tuple[int, list[str], Tensor, Any] | None = None

    def put(self, step: int, losses: Losses) -> tuple[int, dict[str, float]] | None:
        """Takes a step's losses, and returns those that are known: of this step, or of the one before.

        Raises:
            TrainingError: one isn't finite.
        """
        values = torch.stack(list(losses.values()))
        self._group.average([values])
        if not values.is_cuda:
            return _checked(step, list(losses), values)
        before = self.flush()
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        event: Any = torch.cuda.Event  # torch leaves it untyped
        event = event()
        event.record(torch.cuda.current_stream(values.device))
        self._waiting = (step, list(losses), host, event)
        return before

    def flush(self) -> tuple[int, dict[str, float]] | None:
        """What has not been returned yet.

        Raises:
            TrainingError: a loss isn't finite.
        """
        if self._waiting is None:
            return None
        step, names, values, event = self._waiting
        self._waiting = None
        event.synchronize()
        return _checked(step, names, values)


def _checked(step: int, names: list[str], values: Tensor) -> tuple[int, dict[str, float]]:
    losses = dict(zip(names, values.tolist(), strict=True))
    for name, value in losses.items():
        if not math.isfinite(value):
            raise TrainingError(f"step {step}: the loss {name} is {value}", state.WAY_OUT)
    return step, losses


def make_networks(settings: Settings, device: torch.device, start: ModelFolder | None) -> Networks:
    """The networks that a run of these settings begins with."""
    return build_networks(
        settings.model,
        settings.recipe,
        seed=settings.seed,
        device=device,
        precision=settings.precision,
        start=start,
        swap=settings.start_direction == "b2a",
        checkpointing=settings.checkpointing,
    )


def as_input(pictures: Tensor, device: torch.device) -> Tensor:
    """uint8 (N, 3, H, W) as float in [-1, 1] on the device, in the memory format that its networks like."""
    moved = pictures.to(device, non_blocking=pictures.is_pinned() if device.type == "cuda" else False)
    return moved.to(torch.float32, memory_format=memory_format(device)).div_(127.5).sub_(1)
