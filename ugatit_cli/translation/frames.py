"""Frames of one size through a model, in order, as they come: the pipeline of files without the files."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ugatit_cli.errors import PictureError
from ugatit_cli.outputs.base import Done, Drawing
from ugatit_cli.pictures.geometry import plan_geometry, prepare
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.reading import Frame, Picture
from ugatit_cli.pictures.regions import Follower, Region, RegionOptions
from ugatit_cli.pictures.styles import random_style
from ugatit_cli.remote.urls import Place
from ugatit_cli.translation.engine import Engine
from ugatit_cli.translation.pipeline import Result, Run, Stages, TranslateOptions, Work
from ugatit_cli.translation.spool import Spool

Out = TypeVar("Out")
_Seen = tuple[Frame, Sequence[Region]]


def drawn_frames(
    model: Engine,
    frames: Iterable[Frame],
    options: TranslateOptions,
    drawing: Drawing,
    make: Callable[[Done], Out],
    *,
    source: Path | None = None,
    stop: threading.Event | None = None,
) -> Generator[Out, None, None]:
    """What is made of each of a film's frames, in order, with a bounded number of them in memory.

    Frames are made fit for the network, translated and finished at the same time, in the pipeline's threads. The
    calling thread takes them from `frames` some ahead of what it is given.

    Args:
        frames: of one size; any number.
        options: its `style` is that of all frames; None: the random one of the first.
        drawing: tells which attention is needed, and how large results are.
        make: called in a thread for each frame, which has gone through the network: a `Done` with a single frame.
        source: the film's file, for regions that depend on it.
        stop: once set, frames that the network has begun are finished, the rest is left.

    Raises:
        PictureError: a frame can't be translated.
        ModelError: the weights can't be read.
        StorageError: no space for frames that wait.
    """
    stop, coming = stop or threading.Event(), iter(frames)
    if (first := next(coming, None)) is None:
        return
    model.networks(options.direction)
    with Spool() as spool:
        stages = Stages(model.config, _with_style(model, first, options), drawing, spool, stop)
        run = Run(model, stages, partial(_made, stages, make))
        wanted = itertools.takewhile(lambda _: not stop.is_set(), itertools.chain([first], coming))
        try:
            fitted = run.in_threads(partial(_fitted, stages), enumerate(_with_regions(run, wanted, source), 1))
            yield from _in_order(run.results(run.through_network(fitted)))
        finally:
            run.close()


def _with_style(model: Engine, first: Frame, options: TranslateOptions) -> TranslateOptions:
    if not model.config.style_size or options.style is not None:
        return options
    geometry = plan_geometry(first.rgb.size, model.config, options.sizes)
    pixels = prepare(first, geometry, options.files.background)
    return replace(options, style=random_style(pixels, model.config.style_size, options.seed))


def _found(options: RegionOptions, source: Path | None, frame: Frame) -> _Seen:
    return frame, options.find(frame, source)


def _with_regions(run: Run[Any], frames: Iterable[Frame], source: Path | None) -> Iterator[_Seen]:
    """Frames with their regions, if not all of them is wanted."""
    if run.options.regions is None:
        yield from ((frame, ()) for frame in frames)
        return
    follow = Follower()
    for frame, regions in run.in_threads(partial(_found, run.options.regions, source), frames):
        yield frame, follow(regions)


def _fitted(stages: Stages, numbered: tuple[int, _Seen]) -> Work:
    number, (frame, regions) = numbered
    job, picture = Job(_name(number), None), Picture((), "PNG")
    return stages.work(job, picture, [frame], stages.spool.keep, find=lambda _: regions)


def _name(number: int) -> Path:
    return Path(f"frame {number}")


def _in_order(results: Iterable[tuple[Place | None, Out]]) -> Iterator[Out]:
    """What became of frames, in their order: those whose regions have other shapes may overtake each other."""
    waiting: dict[Place | None, Out] = {}
    numbers = itertools.count(1)
    name = _name(next(numbers))
    for source, made in results:
        waiting[source] = made
        while name in waiting:
            yield waiting.pop(name)
            name = _name(next(numbers))


def _made(stages: Stages, make: Callable[[Done], Out], work: Work | Result) -> tuple[Place | None, Out]:
    if isinstance(work, Result):
        assert work.error is not None
        raise work.error
    try:
        return work.job.source, make(work.done(stages.options))
    except MemoryError:
        raise PictureError(f"{work.job.name}: not enough memory for the result") from None
