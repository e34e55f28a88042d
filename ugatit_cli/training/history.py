"""Attention emerging: what the checkpoints of a training run make of a picture, one after the other."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ugatit_cli.attention.maps import Maps
from ugatit_cli.errors import ModelError, PictureError
from ugatit_cli.outputs.base import Drawing
from ugatit_cli.pictures.bounds import check_pixels
from ugatit_cli.pictures.geometry import Pixels
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.training.options import parse_interval
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import Settings
from ugatit_cli.translation import passes
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.pipeline import Result, Stages, TranslateOptions, Work
from ugatit_cli.translation.spool import Kept, Spool
from ugatit_cli.weights.folder import DISCRIMINATORS_FILE, ModelFolder

# Milliseconds: all frames but the last one together, one of them, and the last one.
ALL: Final = 8000
SHORTEST: Final = 120
LONGEST: Final = 800
LAST: Final = 2000
# Frames that show how attention emerges: fewer than the least jump, and each more is a checkpoint on disk.
LEAST, GOOD, MOST = 20, 25, 30
# Steps of a run of some minutes from which on its checkpoints may be apart by time: below, a step may take longer.
BRIEF = 10 * MOST


@dataclass(frozen=True)
class Saving:
    """What a run like another one would have to say, so that its animation has frames enough.

    Attributes:
        every: of `--checkpoint-every`: steps where the run's length is one in steps, or it takes few; else minutes.
        keep: of `--keep`.
        frames: about how many there will be.
    """

    every: str
    keep: int
    frames: int


def saving_for(settings: Settings, pace: float | None = None) -> Saving | None:
    """When a run as long as this one should save; None: as it does, there are frames enough by its end.

    Args:
        pace: steps in a second, if known: where these are few in the run's minutes, they are counted.
    """
    minutes = settings.minutes or 0
    taken = settings.iterations or (math.ceil(60 * minutes * pace) if pace else BRIEF)
    by_steps = settings.iterations is not None or taken < BRIEF
    length = taken if by_steps else 60 * minutes
    steps, seconds = parse_interval("--checkpoint-every", settings.checkpoint_every)
    own = (steps or seconds * (pace or 0)) if by_steps else (seconds or (steps / pace if pace else 0))
    possible = min(LEAST, length) if by_steps else LEAST
    if own and min(settings.keep, math.ceil(length / own)) >= possible:
        return None
    rounded = float(f"{length / GOOD / (1 if by_steps else 60):.2g}")
    every = (
        str(max(1, min(round(rounded), int(length // LEAST))))
        if by_steps
        else f"{rounded:f}".rstrip("0").rstrip(".") + "m"
    )
    steps, seconds = parse_interval("--checkpoint-every", every)
    frames = math.ceil(length / (steps or seconds))
    return Saving(every, max(MOST, frames), frames)


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
        options: of an animation, the first frame is taken.
        stop: once set, nothing more is done.
        advance: called for each checkpoint and picture.

    Raises:
        ModelError: there is no checkpoint any more, or one can't be read.
        StorageError: no space for temporary files.
    """
    steps = run.checkpoints()
    with Spool() as spool:
        stages = Stages(model.config, replace(options, first_only=True), drawing, spool, stop)
        subjects: list[_Subject] = []
        for job in jobs:
            work = _decoded(stages, job, len(steps))
            if isinstance(work, Result):
                yield work
            else:
                subjects.append(_Subject(work))
        seen: list[int] = []
        for step in steps:
            # The run may go on meanwhile, and remove old ones.
            if subjects and not stop.is_set() and run.checkpoint_path(step).exists():
                try:
                    yield from _look(checkpoint_model(run, step, model), subjects, stages, advance)
                    seen.append(step)
                except ModelError as error:
                    if run.checkpoint_path(step).exists():
                        raise ModelError(error.message, f"Delete {run.checkpoint_path(step)}.") from error
        if subjects and not seen and not stop.is_set():
            raise ModelError(f"{run.path}: its checkpoints are gone", "Run the command again.")
        for subject in subjects:
            if not stop.is_set():
                yield stages.encode(subject.animation(seen))


@dataclass
class _Subject:
    """A picture on its way through the checkpoints: what each of them made of it, and where it looked."""

    work: Work
    seconds: float = 0.0
    frames: list[Kept[Pixels]] = field(default_factory=list)
    maps: list[Maps] = field(default_factory=list)

    def animation(self, steps: Sequence[int]) -> Work:
        return replace(
            self.work,
            picture=replace(self.work.picture, durations=durations(len(steps)), loop=0, format="WEBP"),
            pixels=self.frames,
            maps=tuple(self.maps),
            seconds=self.work.seconds + self.seconds,
            alphas=[*self.work.alphas] * len(steps),
            sources=[*self.work.sources] * len(steps),
            captions=tuple(f"step {step:,}" for step in steps),
        )


def _decoded(stages: Stages, job: Job, frames: int) -> Work | Result:
    work = stages.decode(job)
    if isinstance(work, Result):
        return work
    try:
        check_pixels(job.name, work.geometry.output, frames, stages.options.max_pixels)
    except PictureError as error:
        return stages.failed(job, PictureError(error.message, "Use a smaller --size."))
    return stages.waiting(work)


def _look(model: Model, subjects: list[_Subject], stages: Stages, advance: Callable[[], None]) -> Iterator[Result]:
    """Lets a checkpoint look at all pictures; those that fail are taken out."""
    maps, direction = stages.drawing.maps, stages.options.direction
    for subject in list(subjects):
        start, work = time.perf_counter(), subject.work
        try:
            (one,) = passes.look(model, [work.pixels[0].load()], direction, [work.geometry], maps)
        except PictureError as error:
            subjects.remove(subject)
            yield stages.failed(work.job, error)
            continue
        if stages.drawing.spans is not None:
            stages.drawing.spans.add(one.maps)
        subject.frames.append(stages.spool.keep(one.pixels))
        subject.maps.append(one.maps)
        subject.seconds += time.perf_counter() - start
        advance()


def durations(frames: int) -> tuple[int, ...]:
    """Milliseconds of each frame: about `ALL`, and the last one long enough to look at; none for a still."""
    if frames < 2:
        return ()
    each = max(SHORTEST, min(LONGEST, ALL // (frames - 1)))
    return (*[each] * (frames - 1), LAST)
