"""Attention emerging: what the checkpoints of a training run make of a picture, one after the other."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ugatit_cli.attention.maps import Maps
from ugatit_cli.errors import ModelError, PictureError, StorageError, UgatitError
from ugatit_cli.outputs.base import Done, Drawing, Drawn
from ugatit_cli.pictures import geometry, reading
from ugatit_cli.pictures.geometry import Geometry, Pixels, Size, prepare
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.reading import Picture
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.pipeline import Result, Spool, TranslateOptions, made, named_error, write_result
from ugatit_cli.weights.folder import DISCRIMINATORS_FILE, ModelFolder

# Milliseconds: all frames but the last one together, one of them, and the last one.
ALL: Final = 8000
SHORTEST: Final = 120
LONGEST: Final = 800
LAST: Final = 2000


def checkpoint_model(run: RunFolder, step: int, like: Model) -> Model:
    """The networks of a checkpoint, on the device and in the precision of another model of the run.

    Args:
        like: tells the configuration, too.

    Raises:
        ModelError: its files are missing (when a network is asked for: damaged).
    """
    folder = run.checkpoint_path(step)
    averages = folder / "averages.safetensors"
    weights = averages if averages.exists() else folder / "generators.safetensors"
    if not weights.exists():
        raise ModelError(f"{weights}: no such file", f"Delete {folder}, which is not complete.")
    found = ModelFolder(folder, like.config, {}, weights, folder / DISCRIMINATORS_FILE)
    return Model.from_folder(f"step {step:,}", found, device=str(like.device), precision=like.precision)


def draw_history(
    run: RunFolder,
    model: Model,
    jobs: Sequence[Job],
    options: TranslateOptions,
    drawing: Drawing,
    stop: threading.Event,
    advance: Callable[[], None] = lambda: None,
) -> Generator[Result, None, None]:
    """Makes an animation of each picture, with a frame for each checkpoint.

    A picture that fails gives a result with its `error`, and the rest goes on; when the disk is full, it is left.

    Args:
        model: the run's model.
        options: of an animation, the first frame is taken.
        stop: once set, nothing more is done.
        advance: called for each checkpoint and picture.

    Raises:
        ModelError: there is no checkpoint, or one can't be read.
        StorageError: no space for temporary files.
    """
    steps = run.checkpoints()
    if not steps:
        raise ModelError(f"{run.path}: has no checkpoint yet", "Wait until `ugatit train` has saved one.")
    with Spool() as spool:
        subjects: list[_Subject] = []
        for job in jobs:
            try:
                subjects.append(_Subject.read(job, model, options, drawing))
            except UgatitError as error:
                yield Result(job, error=named_error(job, error))
        seen: list[int] = []
        for step in steps:
            # The run may go on meanwhile, and remove old ones.
            if subjects and not stop.is_set() and run.checkpoint_path(step).exists():
                try:
                    looked = checkpoint_model(run, step, model)
                    yield from _look(looked, subjects, options, drawing, spool, advance)
                    seen.append(step)
                except ModelError as error:
                    if run.checkpoint_path(step).exists():
                        raise ModelError(error.message, f"Delete {run.checkpoint_path(step)}.") from error
        if subjects and not seen and not stop.is_set():
            raise ModelError(f"{run.path}: its checkpoints are gone", "Run the command again.")
        for subject in subjects:
            if not stop.is_set():
                result = subject.result(seen, options, drawing, spool)
                yield result
                if isinstance(result.error, StorageError):
                    return


@dataclass(eq=False)
class _Subject:
    """A picture on its way through the checkpoints."""

    job: Job
    stdin: bytes | None
    picture: Picture
    size: Size
    plan: Geometry
    pixels: Pixels
    seconds: float
    seen: list[tuple[Path, Maps]]

    @classmethod
    def read(cls, job: Job, model: Model, options: TranslateOptions, drawing: Drawing) -> _Subject:
        start = time.perf_counter()
        stdin = sys.stdin.buffer.read() if job.source is None else None
        picture = _read(job, stdin)
        plan = drawing.resized(geometry.plan_geometry(picture.size, model.config, options.sizes))
        pixels = prepare(picture.frames[0], plan, options.files.background)
        seconds = time.perf_counter() - start
        return cls(job, stdin, replace(picture, frames=()), picture.size, plan, pixels, seconds, [])

    def result(self, steps: Sequence[int], options: TranslateOptions, drawing: Drawing, spool: Spool) -> Result:
        start = time.perf_counter()
        try:
            drawn = self._drawn(steps, options, drawing, spool)
            job = write_result(self.job, drawn)
        except UgatitError as error:
            return Result(self.job, error=named_error(self.job, error))
        except MemoryError:
            return Result(self.job, error=_too_large(self.job, self.plan, len(steps)))
        return made(job, drawn, len(steps), self.seconds + time.perf_counter() - start)

    def _drawn(self, steps: Sequence[int], options: TranslateOptions, drawing: Drawing, spool: Spool) -> Drawn:
        count = len(steps)
        if count * self.plan.output[0] * self.plan.output[1] > reading.MAX_PIXELS:
            raise _too_large(self.job, self.plan, count)
        animation = replace(self.picture, durations=durations(count), loop=0, format="WEBP")
        done = Done(
            self.job,
            animation,
            self.size,
            self.plan,
            [spool.take(path)[0] for path, _ in self.seen],
            [maps for _, maps in self.seen],
            options.files,
            read=lambda: _repeated(_read(self.job, self.stdin), count),
            captions=[f"step {step:,}" for step in steps],
        )
        return drawing.draw(done)


def _read(job: Job, stdin: bytes | None) -> Picture:
    return reading.read_picture(job.source or stdin or b"", name=job.name, first_only=True)


def _repeated(picture: Picture, count: int) -> Picture:
    return replace(picture, frames=picture.frames * count)


def _too_large(job: Job, plan: Geometry, frames: int) -> PictureError:
    width, height = plan.output
    return PictureError(
        f"{job.name}: {frames} frames of {width} x {height} pixels are too large for an animation",
        "Use a smaller --size.",
    )


def _look(
    model: Model,
    subjects: list[_Subject],
    options: TranslateOptions,
    drawing: Drawing,
    spool: Spool,
    advance: Callable[[], None],
) -> Iterator[Result]:
    """Lets a checkpoint look at all pictures; those that fail are taken out."""
    for subject in list(subjects):
        start = time.perf_counter()
        try:
            (one,) = model.look([subject.pixels], options.direction, [subject.plan], drawing.maps)
        except PictureError as error:
            subjects.remove(subject)
            yield Result(subject.job, error=named_error(subject.job, error))
            continue
        if drawing.spans is not None:
            drawing.spans.add(one.maps)
        subject.seen.append((spool.put([one.pixels]), one.maps))
        subject.seconds += time.perf_counter() - start
        advance()


def durations(frames: int) -> tuple[int, ...]:
    """Milliseconds of each frame: together about `ALL`, and the last one long enough to look at; none for a still."""
    if frames < 2:
        return ()
    each = max(SHORTEST, min(LONGEST, ALL // (frames - 1)))
    return (*[each] * (frames - 1), LAST)
