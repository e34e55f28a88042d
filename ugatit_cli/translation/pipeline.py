"""Many files through a model: decoding, the network and encoding overlap, and memory stays bounded.

Three iterators, each pulling from the one before: threads decode ahead and encode behind (Pillow and zlib let go of
Python's lock), the calling thread runs the network. Whatever the number of files, only a window of them is in flight.

On the CPU the network itself has a thread on every core, and each of its hundreds of parallel loops waits for the
slowest: a core that decodes meanwhile costs all of them. So there they take turns, and both have all cores.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from ugatit_cli import files as files_module
from ugatit_cli.attention.maps import Maps, Spans
from ugatit_cli.config import Direction, MapName
from ugatit_cli.errors import OutputError, PictureError, StorageError, UgatitError, UsageError, plain_reason
from ugatit_cli.outputs.base import Done, Drawing, Drawn, FileOptions, Preview, Translation
from ugatit_cli.pictures import geometry, reading
from ugatit_cli.pictures.geometry import Geometry, Pixels, Size, SizeOptions, prepare
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.reading import Picture
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.passes import Translated


class Spool:
    """A temporary folder, made when it is needed and removed in the end."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._numbers = itertools.count()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def put(self, pictures: Sequence[Pixels]) -> Path:
        """Writes arrays of one shape; the path is for `take`.

        Raises:
            StorageError: they can't be written.
        """
        try:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="ugatit-", ignore_cleanup_errors=True)
            path = Path(self._folder.name) / f"{next(self._numbers)}.npy"
            np.save(path, np.stack(pictures), allow_pickle=False)
        except OSError as error:
            folder = self._folder.name if self._folder else "the folder for temporary files"
            message = f"{folder}: can't be written ({plain_reason(error)})"
            raise StorageError(message, "Set TMPDIR to a folder with more space.") from error
        return path

    def take(self, path: Path) -> list[Pixels]:
        """The arrays that `put` has written, a single time.

        Raises:
            StorageError: they are gone.
        """
        try:
            pictures = list(np.load(path, allow_pickle=False))
            path.unlink()
        except (OSError, ValueError, EOFError) as error:
            raise StorageError(f"{path}: can't be read ({plain_reason(error)})", "Run the command again.") from error
        return pictures


# Decoded frames that may wait for others of their shape to fill a batch.
MAX_WAITING = 64
MAX_WAITING_PIXELS = 16_000_000
# Turns that network and threads take on the CPU: long enough that a change of turns, in which PyTorch's threads go on
# spinning for milliseconds, doesn't matter; short enough for Ctrl-C.
TURN_SECONDS = 0.5
MAX_TURN = 16
# Pixels that discriminators look at in one pass.
LOOKED_PIXELS = 131_072

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class TranslateOptions:
    """How to translate.

    Attributes:
        direction: `a2b` or `b2a`.
        sizes: fit, tiles and output size.
        files: how results are written, and what is behind transparent pixels while translating.
        batch_size: pictures per forward pass; 0: as the device likes it.
        workers: decoding and encoding threads.
        first_only: of an animation, only the first frame.
    """

    direction: Direction = "a2b"
    sizes: SizeOptions = field(default_factory=SizeOptions)
    files: FileOptions = field(default_factory=FileOptions)
    batch_size: int = 0
    workers: int = 2
    first_only: bool = False


@dataclass(frozen=True)
class Result:
    """What became of one job.

    Attributes:
        size: (width, height) of the result.
        frames: how many it has.
        seconds: spent on this file by all stages together, waiting not included.
        data: the encoded result if it goes to standard output.
        flat: attention maps that are the same everywhere.
        notes: what else there is to say.
        preview: small pictures for a report.
        error: why there is no result.
    """

    job: Job
    size: Size | None = None
    frames: int = 1
    seconds: float = 0.0
    data: bytes | None = None
    flat: tuple[MapName, ...] = ()
    notes: tuple[str, ...] = ()
    preview: Preview | None = None
    error: UgatitError | None = None


@dataclass(frozen=True)
class _Work:
    """A decoded picture, before or after the network.

    Attributes:
        picture: without its frames, which may be much larger than what the network sees of them.
        size: the picture's own.
        frames: what the network takes, or gives; empty while they wait on disk.
        alphas: opacity of each frame; None where the source is read again.
        stdin: what was read from standard input.
        maps: attention on each frame.
        place: where the frames wait.
    """

    job: Job
    picture: Picture
    size: Size
    plan: Geometry
    frames: list[Pixels]
    alphas: list[Image.Image | None] | None
    seconds: float
    stdin: bytes | None = None
    maps: tuple[Maps, ...] = ()
    place: Path | None = None


def translate_files(
    model: Model,
    jobs: Iterable[Job],
    options: TranslateOptions,
    *,
    drawing: Drawing | None = None,
    stop: threading.Event | None = None,
) -> Generator[Result, None, None]:
    """Translates files and writes the results, each atomically.

    A file that fails gives a result with its `error`, and the rest goes on. Only when nothing more can be written
    (`StorageError`: the disk is full) the rest is left, and there is one such result.

    Args:
        drawing: what is made of each picture, and which attention that takes; default: the translation.
        stop: once set, pictures that the network has begun are finished and written, the rest is left.

    Raises:
        ModelError: the weights can't be read.
    """
    model.generator(options.direction)
    with Spool() as spool:
        run = _Run(model, options, drawing or Translation(), spool, stop or threading.Event())
        window = 2 * options.workers + (options.batch_size or model.max_batch)
        try:
            wanted = takewhile(lambda _: not run.stop.is_set(), jobs)
            translated = run.through_network(run.ahead(run.decode, wanted, window))
            if run.drawing.spans is not None:
                translated = run.all_before_the_first(translated, run.drawing.spans)
            yield from _one_full_disk(run.behind(run.encode, translated, window))
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

    def __init__(
        self, model: Model, options: TranslateOptions, drawing: Drawing, spool: Spool, stop: threading.Event
    ) -> None:
        self.model = model
        self.options = options
        self.drawing = drawing
        self.spool = spool
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
            stdin = sys.stdin.buffer.read() if job.source is None else None
            picture = self._read(job, stdin)
            plan = geometry.plan_geometry(picture.size, self.model.config, self.options.sizes)
            plan = self.drawing.resized(plan)
            frames = [prepare(frame, plan, self.options.files.background) for frame in picture.frames]
        except UsageError as error:  # of the geometry, which knows no names
            return Result(job, error=UsageError(f"{job.name}: {error.message}", error.hint))
        except UgatitError as error:
            return Result(job, error=error)
        except MemoryError:
            return Result(job, error=PictureError(f"{job.name}: not enough memory to decode it"))
        alphas = None if self.drawing.reads_again else [frame.alpha for frame in picture.frames]
        seconds = time.perf_counter() - start
        return _Work(job, replace(picture, frames=()), picture.size, plan, frames, alphas, seconds, stdin)

    def _read(self, job: Job, stdin: bytes | None) -> Picture:
        source = job.source if stdin is None else stdin
        return reading.read_picture(source or b"", name=job.name, first_only=self.options.first_only)

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
            translated = self._forward([(pixels, work.plan) for work in works for pixels in work.frames])
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
                frames, maps = [one.pixels for one in own], tuple(one.maps for one in own)
                yield replace(work, frames=frames, maps=maps, seconds=work.seconds + seconds * len(own))

    def _forward(self, frames: list[tuple[Pixels, Geometry]]) -> list[Translated]:
        """Batch by batch; at least one."""
        at_once = self._batch_size(frames[0][1])
        step = max(at_once, self._looked_at_once(frames[0][1]))
        translated: list[Translated] = []
        for first in range(0, len(frames), step):
            if first and self.stop.is_set():
                break
            pixels, plans = zip(*frames[first : first + step], strict=True)
            translated += self.model.look(pixels, self.options.direction, plans, self.drawing.maps, at_once)
        return translated

    def _looked_at_once(self, plan: Geometry) -> int:
        """Pictures for a pass of the discriminators, whose weights are so many that a small one hardly pays."""
        return 1 if plan.tile or set(self.drawing.maps) <= {"generator"} else LOOKED_PIXELS // _area(plan)

    def all_before_the_first(self, items: Iterable[_Work | Result], spans: Spans) -> Iterator[_Work | Result]:
        """Lets all pictures go through the network first, so that their attention can have one scale."""
        waiting: list[_Work] = []
        for item in items:
            if isinstance(item, Result):
                yield item
                continue
            for maps in item.maps:
                spans.add(maps)
            try:
                waiting.append(replace(item, frames=[], alphas=None, place=self.spool.put(item.frames)))
            except StorageError as error:
                self.stop.set()
                yield Result(item.job, error=error)
        for work in waiting:
            if self.stop.is_set():  # early, their scale would be one that no other picture has
                return
            yield work

    def encode(self, item: _Work | Result) -> Result:
        """Brings a translated picture back to its size, alpha and format, and writes it."""
        if isinstance(item, Result):
            return item
        start = time.perf_counter()
        try:
            drawn = self.drawing.draw(self._done(item))
            job = write_result(item.job, drawn)
        except StorageError as error:
            self.stop.set()
            return Result(item.job, error=error)
        except UgatitError as error:
            return Result(item.job, error=named_error(item.job, error))
        except MemoryError:
            width, height = item.plan.output
            reason = f"{item.job.name}: not enough memory for a result of {width}x{height} pixels"
            return Result(item.job, error=OutputError(reason, "Use a smaller --size."))
        return made(job, drawn, len(item.maps), item.seconds + time.perf_counter() - start)

    def _done(self, work: _Work) -> Done:
        pixels = work.frames if work.place is None else self.spool.take(work.place)
        return Done(
            work.job,
            work.picture,
            work.size,
            work.plan,
            pixels,
            work.maps,
            self.options.files,
            read=lambda: self._read(work.job, work.stdin),
            alphas=work.alphas,
        )


def write_result(job: Job, drawn: Drawn) -> Job:
    """Writes the files that were drawn, together; the job with those that there are.

    Raises:
        OutputError: they can't be written.
    """
    if job.output is None:
        return job
    files = [(path, data) for path, data in zip(job.outputs, drawn.files, strict=True) if data is not None]
    files_module.write_together([(path, data) for path, data in files if path not in job.kept])
    paths = tuple(path for path, _ in files)
    return replace(job, output=paths[0], several=paths if job.several else ())


def made(job: Job, drawn: Drawn, frames: int, seconds: float) -> Result:
    """What became of a job that was done."""
    data = drawn.files[0] if job.output is None else None
    return Result(job, drawn.size, frames, seconds, data, drawn.flat, drawn.notes, drawn.preview)


def named_error(job: Job, error: UgatitError) -> UgatitError:
    """The error, with the picture's name in front."""
    if error.message.startswith(job.name):
        return error
    return type(error)(f"{job.name}: {error.message}", error.hint)
