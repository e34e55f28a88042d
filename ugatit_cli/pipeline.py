"""Many files through a model: decoding, the network and encoding overlap, and memory stays bounded.

Three iterators, each pulling from the one before: threads decode ahead and encode behind (Pillow and zlib let go of
Python's lock), the calling thread runs the network. Whatever the number of files, only a window of them is in flight.

On the CPU the network itself has a thread on every core, and each of its hundreds of parallel loops waits for the
slowest: a core that decodes meanwhile costs all of them. So there they take turns, and both have all cores.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import Any, TypeVar

from PIL import Image

from ugatit_cli import encoding, geometry, images
from ugatit_cli.config import Direction
from ugatit_cli.errors import OutputError, PictureError, StorageError, UgatitError, UsageError
from ugatit_cli.geometry import Geometry, Pixels, Size, SizeOptions
from ugatit_cli.images import Picture
from ugatit_cli.inputs import Job
from ugatit_cli.model import WHITE, Colour, Model, finish, prepare

# Decoded frames that may wait for others of their shape to fill a batch.
MAX_WAITING = 64
MAX_WAITING_PIXELS = 16_000_000
# Turns that network and threads take on the CPU: long enough that a change of turns, in which PyTorch's threads go on
# spinning for milliseconds, doesn't matter; short enough for Ctrl-C.
TURN_SECONDS = 0.5
MAX_TURN = 16

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class TranslateOptions:
    """How to translate.

    Attributes:
        direction: `a2b` or `b2a`.
        sizes: fit, tiles and output size.
        format: `same`, `png`, `jpg` or `webp`.
        quality: 1 to 100 for lossy formats; None: the format's default.
        background: RGB colour put behind transparent pixels while translating.
        batch_size: pictures per forward pass; 0: as the device likes it.
        workers: decoding and encoding threads.
    """

    direction: Direction = "a2b"
    sizes: SizeOptions = field(default_factory=SizeOptions)
    format: str = "same"
    quality: int | None = None
    background: Colour = WHITE
    batch_size: int = 0
    workers: int = 2


@dataclass(frozen=True)
class Result:
    """What became of one job.

    Attributes:
        size: (width, height) of the result.
        seconds: spent on this file by all stages together, waiting not included.
        data: the encoded result if it goes to standard output.
        error: why there is no result.
    """

    job: Job
    size: Size | None = None
    seconds: float = 0.0
    data: bytes | None = None
    error: UgatitError | None = None


@dataclass(frozen=True)
class _Work:
    """A decoded picture, before or after the network.

    Attributes:
        picture: without its frames, which may be much larger than what the network sees of them.
        frames: what the network takes, or gives.
    """

    job: Job
    picture: Picture
    plan: Geometry
    frames: list[Pixels]
    alphas: list[Image.Image | None]
    seconds: float


def translate_files(
    model: Model, jobs: Iterable[Job], options: TranslateOptions, *, stop: threading.Event | None = None
) -> Generator[Result, None, None]:
    """Translates files and writes the results, each atomically.

    A file that fails gives a result with its `error`, and the rest goes on. Only when nothing more can be written
    (`StorageError`: the disk is full) the rest is left, and there is one such result.

    Args:
        stop: once set, pictures that the network has begun are finished and written, the rest is left.

    Raises:
        ModelError: the weights can't be read.
    """
    model.generator(options.direction)
    run = _Run(model, options, stop or threading.Event())
    window = 2 * options.workers + (options.batch_size or model.max_batch)
    try:
        wanted = takewhile(lambda _: not run.stop.is_set(), jobs)
        decoded = run.ahead(run.decode, wanted, window)
        yield from _one_full_disk(run.behind(run.encode, run.through_network(decoded), window))
    finally:
        run.pool.shutdown(cancel_futures=True)


def _one_full_disk(results: Iterable[Result]) -> Iterator[Result]:
    """Without the errors of those that were about to be written, too, when the disk became full."""
    full = False
    for result in results:
        found = isinstance(result.error, StorageError)
        if not (full and found):
            yield result
        full |= found


def _area(plan: Geometry) -> int:
    return plan.network[0] * plan.network[1]


class _Run:
    """The three stages."""

    def __init__(self, model: Model, options: TranslateOptions, stop: threading.Event) -> None:
        self.model = model
        self.options = options
        self.stop = stop
        self.pool = ThreadPoolExecutor(options.workers, "ugatit")
        self.pixel_seconds = 0.0
        self.running: deque[Future[Any]] = deque()

    def ahead(self, function: Callable[[In], Out], items: Iterable[In], window: int) -> Iterator[Out]:
        """`map` in threads, in order, `window` items ahead of whoever pulls: one is begun for each one taken."""
        pending: deque[Future[Out]] = deque()
        for item in items:
            pending.append(self._begin(function, item))
            if len(pending) > window:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def behind(self, function: Callable[[In], Out], items: Iterable[In], window: int) -> Iterator[Out]:
        """`map` in threads, in order, at most `window` items behind `items`: what is done is given at once."""
        pending: deque[Future[Out]] = deque()
        for item in items:
            pending.append(self._begin(function, item))
            while pending and (len(pending) > window or pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def _begin(self, function: Callable[[In], Out], item: In) -> Future[Out]:
        while self.running and self.running[0].done():
            self.running.popleft()
        self.running.append(self.pool.submit(function, item))
        return self.running[-1]

    def _wait_for_turn(self) -> None:
        """On the CPU, lets the threads finish; none gets more to do until the network is done."""
        if self.model.device.type == "cpu":
            wait(self.running)

    def decode(self, job: Job) -> _Work | Result:
        """Reads a picture and makes its frames fit the network."""
        start = time.perf_counter()
        try:
            source = sys.stdin.buffer.read() if job.source is None else job.source
            picture = images.read_picture(source, name=job.name)
            plan = geometry.plan_geometry(picture.size, self.model.config, self.options.sizes)
            frames = [prepare(frame, plan, self.options.background) for frame in picture.frames]
        except UsageError as error:  # of the geometry, which knows no names
            return Result(job, error=UsageError(f"{job.name}: {error.message}", error.hint))
        except UgatitError as error:
            return Result(job, error=error)
        except MemoryError:
            return Result(job, error=PictureError(f"{job.name}: not enough memory to decode it"))
        alphas = [frame.alpha for frame in picture.frames]
        return _Work(job, replace(picture, frames=()), plan, frames, alphas, time.perf_counter() - start)

    def through_network(self, items: Iterable[_Work | Result]) -> Iterator[_Work | Result]:
        """Translates pictures in batches of equal shape; failures pass through."""
        groups: dict[tuple[Size, int], list[_Work]] = {}
        for item in items:
            if isinstance(item, Result):
                yield item
            elif not self.stop.is_set():
                groups.setdefault((item.plan.network, item.plan.tile), []).append(item)
                for key in self._ripe(groups):
                    if not self.stop.is_set():
                        yield from self._translate(groups.pop(key))
        for group in groups.values():
            if not self.stop.is_set():
                yield from self._translate(group)

    def _ripe(self, groups: dict[tuple[Size, int], list[_Work]]) -> list[tuple[Size, int]]:
        """Shapes with a full batch; when too much waits in all, the shape with the most pixels."""
        waiting = {key: sum(len(work.frames) for work in group) for key, group in groups.items()}
        full = [key for key, count in waiting.items() if count >= self._group_size(groups[key][0].plan)]
        pixels = {key: count * _area(groups[key][0].plan) for key, count in waiting.items()}
        if not full and (sum(waiting.values()) > MAX_WAITING or sum(pixels.values()) > MAX_WAITING_PIXELS):
            return [max(pixels, key=pixels.__getitem__)]
        return full

    def _batch_size(self, plan: Geometry) -> int:
        return self.options.batch_size or self.model.batch_size(plan)

    def _group_size(self, plan: Geometry) -> int:
        """Where threads and network take turns, a turn is about `TURN_SECONDS` long."""
        size = self._batch_size(plan)
        if self.model.device.type != "cpu" or not self.pixel_seconds:
            return size
        return max(size, min(MAX_TURN, int(TURN_SECONDS / (self.pixel_seconds * _area(plan)))))

    def _translate(self, works: list[_Work]) -> Iterator[_Work | Result]:
        """Pictures of equal shape through the network; those that `stop` leaves unfinished are dropped."""
        self._wait_for_turn()
        start = time.perf_counter()
        try:
            translated = self._forward([pixels for work in works for pixels in work.frames], works[0].plan)
        except PictureError as error:
            if len(works) == 1:
                name = works[0].job.name
                yield Result(works[0].job, error=PictureError(f"{name}: {error.message}", error.hint))
                return
            # Which of them it was shows when each goes alone.
            for work in works:
                yield from self._translate([work])
            return
        seconds = (time.perf_counter() - start) / len(translated)
        self.pixel_seconds = seconds / _area(works[0].plan)
        results = iter(translated)
        for work in works:
            own = list(islice(results, len(work.frames)))
            if len(own) == len(work.frames):
                yield replace(work, frames=own, seconds=work.seconds + seconds * len(own))

    def _forward(self, frames: list[Pixels], plan: Geometry) -> list[Pixels]:
        """Batch by batch; at least one."""
        step = self._batch_size(plan)
        translated = self.model.translate_pixels(frames[:step], self.options.direction, plan)
        for first in range(step, len(frames), step):
            if self.stop.is_set():
                break
            translated += self.model.translate_pixels(frames[first : first + step], self.options.direction, plan)
        return translated

    def encode(self, item: _Work | Result) -> Result:
        """Brings a translated picture back to its size, alpha and format, and writes it."""
        if isinstance(item, Result):
            return item
        start = time.perf_counter()
        try:
            picture = self._finished(item)
            data = encoding.encode(
                picture, self._format(item), quality=self.options.quality, background=self.options.background
            )
            if item.job.output is not None:
                encoding.write_atomic(item.job.output, data)
        except StorageError as error:
            self.stop.set()
            return Result(item.job, error=error)
        except UgatitError as error:
            return Result(item.job, error=type(error)(f"{item.job.name}: {error.message}", error.hint))
        except MemoryError:
            width, height = item.plan.output
            reason = f"{item.job.name}: not enough memory for a result of {width}x{height} pixels"
            return Result(item.job, error=OutputError(reason, "Use a smaller --size."))
        seconds = item.seconds + time.perf_counter() - start
        return Result(item.job, picture.size, seconds, data if item.job.output is None else None)

    def _finished(self, work: _Work) -> Picture:
        pairs = zip(work.frames, work.alphas, strict=True)
        frames = tuple(finish(pixels, alpha, work.plan, self.options.background) for pixels, alpha in pairs)
        return replace(work.picture, frames=frames)

    def _format(self, work: _Work) -> str:
        if work.job.output is None:
            return encoding.output_format(work.picture.format, self.options.format)
        return encoding.format_of(work.job.output)
