"""Many files through a model: decoding, the network and encoding overlap, and memory stays bounded.

Three iterators, each pulling from the one before: threads decode ahead and encode behind (Pillow and zlib let go of
Python's lock), the calling thread runs the network. Whatever the number of files, only a window of them is in flight.

On the CPU the network itself has a thread on every core, and each of its hundreds of parallel loops waits for the
slowest. For small pictures and networks that waiting is much of the time, so there are as many of them in the network
at once as there are cores, each on its own, and nobody waits: also one that is alone, as its result would differ by a
rounding else. A large one has all cores; as one of them that decodes meanwhile would cost all of them, network and
threads take turns then.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, groupby, takewhile
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from PIL import Image

from ugatit_cli.attention.maps import Maps, Spans
from ugatit_cli.config import BaseConfig, Direction, MapName
from ugatit_cli.errors import Change, OutputError, PictureError, StorageError, UgatitError
from ugatit_cli.faces.crops import from_before
from ugatit_cli.outputs.base import Done, Drawing, Drawn, FileOptions, Preview, Translation
from ugatit_cli.pictures import reading
from ugatit_cli.pictures.bounds import MAX_PIXELS, ROOM, Lazy, most_bytes
from ugatit_cli.pictures.encoding import Note
from ugatit_cli.pictures.geometry import Colour, Geometry, Pixels, Size, SizeOptions, plan_geometry, prepare
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.look import Look
from ugatit_cli.pictures.reading import Frame, Picture
from ugatit_cli.pictures.regions import Follower, Parts, Region, RegionOptions, cut
from ugatit_cli.pictures.styles import StyleCode, random_style
from ugatit_cli.remote import places
from ugatit_cli.remote.urls import Url
from ugatit_cli.translation import passes
from ugatit_cli.translation.engine import Engine
from ugatit_cli.translation.spool import Keep, Kept, Spool
from ugatit_cli.wording import duration

logger = logging.getLogger("ugatit")

# Decoded frames that may wait for others of their shape to fill a batch.
MAX_WAITING = 64
MAX_WAITING_PIXELS = 16_000_000
# Pixels of a picture that doesn't wait in memory beside many others.
LARGE = 16_000_000
# Pixels as the network takes them, times its channels squared, of one that goes through it beside others, on a CPU.
SMALL = 2 * 256 * 256 * 32 * 32

In = TypeVar("In")
# Times that a result may be enlarged before people wonder.
SOFT: Final = 4

Out = TypeVar("Out")
Made = TypeVar("Made")


@dataclass(frozen=True)
class TranslateOptions:
    """How to translate: `batch_size` pictures per pass (0: as the device likes it), or only their first frame.

    Attributes:
        max_pixels: how many a picture may have, with all its frames, and again as the network takes them; None: any.
        look: what becomes of translations before they are drawn.
        regions: the parts that are translated; None: all of a picture.
        style: that all pictures are translated in, by a model that has styles; None: each in its own random one.
        seed: of the random ones; further styles of a picture have the seeds that follow.
    """

    direction: Direction = "a2b"
    sizes: SizeOptions = field(default_factory=SizeOptions)
    files: FileOptions = field(default_factory=FileOptions)
    batch_size: int = 0
    workers: int = 2
    first_only: bool = False
    max_pixels: int | None = MAX_PIXELS
    look: Look = field(default_factory=Look)
    regions: RegionOptions | None = None
    style: StyleCode | None = None
    seed: int = 0


@dataclass(frozen=True)
class Fit:
    """How a picture goes with what the network sees of it.

    Attributes:
        seen: (width, height) that the network looks at.
        enlarged: how many times larger the sides of the result are.
        native: how many times as many pixels the network would see with `--fit native`.
        blank: a background that would show what is visible of it, if the one that is put behind it doesn't.
        plain: the translation is all one colour, in every frame.
    """

    seen: Size
    enlarged: float
    native: float
    blank: str = ""
    plain: bool = False

    @property
    def soft(self) -> bool:
        """Whether people wonder why the result is so soft."""
        return min(self.enlarged, self.native) > SOFT


@dataclass(frozen=True)
class Result:
    """What became of one job; see `Drawn`, too.

    Attributes:
        size: (width, height) of the result.
        seconds: spent on this file by all stages together, waiting not included.
        data: the encoded result if it goes to standard output.
        regions: what was translated of the first frame, if not all of it.
        fit: of the first frame, if all of it was translated.
        deep: the source has more than 8 bits a channel; the result has 8.
        missing: what the picture has none of, and therefore no result: `face`.
        error: why there is no result.
    """

    job: Job
    size: Size | None = None
    frames: int = 1
    seconds: float = 0.0
    data: bytes | None = None
    flat: tuple[MapName, ...] = ()
    notes: tuple[str | Note, ...] = ()
    preview: Preview | None = None
    regions: Sequence[Region] = ()
    fit: Fit | None = None
    deep: bool = False
    missing: str = ""
    error: UgatitError | None = None


@dataclass(frozen=True)
class Work:
    """A decoded picture, before or after the network; see `Done`, too.

    Attributes:
        picture: without its frames, which may be much larger than what the network sees of them.
        pixels: of each frame, what the network takes, or gives.
        others: what it gives in further styles.
        alphas: opacity of each frame.
        sources: the source's frames without it, for what needs them; else empty.
        parts: what `pixels` are of instead of whole frames.
    """

    job: Job
    picture: Picture
    geometry: Geometry
    pixels: Sequence[Kept[Pixels]]
    alphas: Sequence[Kept[Image.Image] | None]
    sources: Sequence[Kept[Image.Image]]
    seconds: float = 0.0
    maps: tuple[Maps, ...] = ()
    captions: tuple[str, ...] = ()
    others: Sequence[Sequence[Kept[Pixels]]] = ()
    parts: Parts | None = None
    fit: Fit | None = None

    @property
    def ways(self) -> Sequence[Geometry]:
        """That of each of `pixels` through the networks."""
        return self.parts.ways if self.parts else [self.geometry] * len(self.pixels)

    @property
    def shape(self) -> tuple[Size, int]:
        """What pictures have in common that go through the networks together."""
        return self.ways[0].network, self.ways[0].tile

    @property
    def passed(self) -> bool:
        """Whether nothing of it is left to go through the networks."""
        return len(self.maps) == len(self.pixels)

    @property
    def frames(self) -> Sequence[Frame]:
        """The source's frames, as far as they are kept, which are taken from the spool one by one."""
        once: dict[Any, tuple[Kept[Image.Image], Kept[Image.Image] | None]] = {}
        pairs = [once.setdefault(pair, pair) for pair in zip(self.sources, self.alphas, strict=bool(self.sources))]
        return Lazy(lambda pair: Frame(pair[0].load(), _loaded(pair[1])), pairs)

    def done(self, options: TranslateOptions) -> Done:
        """What is drawn, which is taken from the spool frame by frame."""
        sources, alphas = self.frames, Lazy(_loaded, self.alphas)
        pixels, *others = (Lazy(Kept.load, style) for style in (self.pixels, *self.others))
        known, files = (self.job, self.picture, self.geometry), options.files
        how = options.look, self.parts
        return Done(*known, pixels, self.maps, files, alphas, sources, self.captions, others, *how)


class Postponed(Result):
    """None yet: the picture is so large that it had better wait until others are done."""


@dataclass(frozen=True)
class Stages:
    """What threads do with a picture before and after the network; `stop` is set when nothing can be written."""

    config: BaseConfig
    options: TranslateOptions
    drawing: Drawing
    spool: Spool
    stop: threading.Event

    def decode(self, job: Job, *, alone: bool = True) -> Work | Result:
        """Reads a picture, a single time, and makes its frames fit the network; a failure gives a result.

        Unless it is `alone`, a large one may be postponed, and any once `stop` is set.
        """
        start, options = time.perf_counter(), self.options
        try:
            stored = job.source if job.content is None else job.content
            if isinstance(stored, Url):
                stored = places.read(stored, most_bytes(options.max_pixels))
            source = sys.stdin.buffer.read() if stored is None else stored
            with reading.open_picture(
                source,
                name=job.name,
                max_pixels=options.max_pixels,
                first_only=options.first_only,
                keep_metadata=options.files.keep_metadata,
            ) as opened:
                large = self.spool.crowded and opened.area > LARGE and job.source
                if not alone and (large or self.stop.is_set()):
                    return Postponed(job)
                keep = self.spool.keep if len(opened.wanted) > 1 else self.spool.hold
                check = partial(opened.check, options.max_pixels, where=" for the network")
                work = self.work(job, opened.picture, opened.frames(), keep, check)
                if options.regions and not work.pixels:
                    if options.regions.none == "skip":
                        left = from_before(self.drawing.former(job))
                        return Result(job, missing=options.regions.what, notes=left)
                    work = self.whole(job, opened.picture, work.frames, keep, check)
        except MemoryError:
            return self.failed(job, PictureError("not enough memory to decode it"))
        except UgatitError as error:
            return self.failed(job, error)
        return replace(work, picture=opened.picture, seconds=time.perf_counter() - start)

    def work(
        self,
        job: Job,
        picture: Picture,
        frames: Iterable[Frame],
        keep: Keep,
        check: Callable[[Size], object] = lambda _: None,
        find: Callable[[Frame], Sequence[Region]] | None = None,
    ) -> Work:
        """Frames of one size, or the regions of them that are wanted, made fit for the network.

        Args:
            keep: has them wait.
            check: is told the size that the network takes, before the first one is.
            find: gives the regions of a frame, where they are known already.
        """
        wanted = self.options.regions
        if wanted is None:
            return self.whole(job, picture, frames, keep, check)
        source = job.source
        named = Path(source.parent.path, source.name) if isinstance(source, Url) else source
        pixels, alphas, sources, regions, ways = [], [], [], [], []
        follow = Follower()
        for frame in frames:
            regions.append(find(frame) if find else follow(wanted.find(frame, named)))
            for region in regions[-1]:
                ways.append(wanted.way(region, self.config, self.options.sizes))
                check(ways[-1].network)
                pixels.append(self.spool.keep(prepare(cut(frame, region), ways[-1], self.options.files.background)))
            alphas.append(None if frame.alpha is None else keep(frame.alpha))
            sources.append(self.spool.keep(frame.rgb))
            if self.stop.is_set():
                break
        geometry = plan_geometry(sources[0].load().size, self.config, self.options.sizes)
        return Work(job, picture, geometry, pixels, alphas, sources, parts=Parts(regions, ways))

    def whole(
        self, job: Job, picture: Picture, frames: Iterable[Frame], keep: Keep, check: Callable[[Size], object]
    ) -> Work:
        """The same of all that there is."""
        options = self.options
        pixels, alphas = [], []
        sources: list[Kept[Image.Image]] = []
        geometry = fit = None
        for frame in frames:
            if geometry is None:
                geometry = self.drawing.resized(plan_geometry(frame.rgb.size, self.config, options.sizes))
                check(geometry.network)
                fit = _fit(frame, geometry, options.files.background)
            pixels.append(keep(prepare(frame, geometry, options.files.background)))
            alphas.append(None if frame.alpha is None else keep(frame.alpha))
            if sources or frame.alpha is not None or self.drawing.sees_source or options.look.needs_source:
                rgb = self.spool.keep(frame.rgb)
                sources += [rgb] * (len(pixels) - len(sources))  # of opaque frames before it, nobody needs their own
            if self.stop.is_set():  # nobody takes it any more
                break
        assert geometry is not None
        return Work(job, picture, geometry, pixels, alphas, sources, fit=fit)

    def waiting(self, work: Work) -> Work:
        """The same, on disk if there is no room in memory."""
        alphas = [kept and self.spool.keep(kept.load()) for kept in work.alphas]
        return replace(work, pixels=[self.spool.keep(kept.load()) for kept in work.pixels], alphas=alphas)

    def encode(self, work: Work | Result) -> Result:
        """Brings a translated picture back to its size, alpha and format, and writes it."""
        if isinstance(work, Result):
            return work
        start = time.perf_counter()
        width, height = work.geometry.output
        # As many bytes as all frames take in encoders that keep them.
        pixels = width * height * (1 + len(work.alphas) // 2) * (1 + len(self.drawing.maps))
        pixels *= 1 + self.options.look.needs_source
        try:
            with ROOM.taken(pixels):
                drawn, job = self._written(work)
                seen = isinstance(self.drawing, Translation) and self.options.look.strength == 1
                plain = seen and all(reading.is_plain(kept.load()) for kept in work.pixels)
        except MemoryError:
            reason = f"not enough memory for a result of {width}x{height} pixels"
            error = OutputError(reason, "Use a smaller --size.", change=Change("size"))
            return self.failed(work.job, error)
        except UgatitError as error:
            return self.failed(work.job, error)
        data = drawn.files[0] if job.output is None else None
        seconds = work.seconds + time.perf_counter() - start
        logger.info("%s: written in %s", job.name, duration(time.perf_counter() - start))
        regions = work.parts.regions[0] if work.parts else ()
        fit = work.fit and replace(work.fit, plain=plain)
        known = drawn.flat, drawn.notes, drawn.preview, regions, fit, work.picture.deep
        return Result(job, drawn.size, len(work.alphas), seconds, data, *known)

    def _written(self, work: Work) -> tuple[Drawn, Job]:
        done = work.done(self.options)
        drawn = self.drawing.draw(done)
        notes = tuple(dict.fromkeys([*work.picture.notes, *done.notes, *drawn.notes]))
        return replace(drawn, notes=notes), _write(work.job, drawn)

    def failed(self, job: Job, error: UgatitError) -> Result:
        """Why there is no result, with the picture's name in front."""
        if isinstance(error, StorageError):
            self.stop.set()
        elif not error.message.startswith(f"{job.name}: "):
            error = type(error)(f"{job.name}: {error.message}", error.hint, change=error.change)
        return Result(job, error=error)


def translate_files(
    model: Engine,
    jobs: Iterable[Job],
    options: TranslateOptions,
    *,
    drawing: Drawing | None = None,
    stop: threading.Event | None = None,
    told: passes.Told | None = None,
) -> Generator[Result, None, None]:
    """Translates files and writes the results, each atomically.

    A file that fails gives a result with its `error`, and the rest goes on. Only when nothing more can be written
    (`StorageError`: the disk is full) the rest is left, and there is one such result.

    Args:
        drawing: what is made of each picture, and which attention that takes; default: the translation.
        stop: once set, pictures that the network has begun are finished and written, the rest is left.
        told: hears of each tile that is done, of pictures that go through the network in tiles.

    Raises:
        ModelError: the weights can't be read.
    """
    model.networks(options.direction)
    drawing, stop = drawing or Translation(), stop or threading.Event()
    full = False
    with Spool() as spool:
        stages = Stages(model.config, options, drawing, spool, stop)
        run = Run(model, stages, stages.encode, told)
        try:
            wanted = takewhile(lambda _: not stop.is_set(), jobs)
            decoded = run.in_threads(partial(stages.decode, alone=False), wanted)
            works = run.through_network(decoded)
            if drawing.spans is not None:
                works = run.all_before_the_first(works, drawing.spans)
            for result in run.results(works):
                found = isinstance(result.error, StorageError)
                # Those that were about to be written, too, when the disk became full.
                if not (full and found):
                    yield result
                full |= found
        finally:
            run.close()


def _fit(frame: Frame, geometry: Geometry, background: Colour) -> Fit:
    across, down = geometry.scaled
    enlarged = max(geometry.output[0] / across, geometry.output[1] / down)
    native = frame.rgb.width * frame.rgb.height / (across * down)
    other = "black" if sum(background) > 3 * 127 else "white"
    return Fit(geometry.scaled, enlarged, native, other if reading.is_blank(frame, background) else "")


def _loaded(kept: Kept[Image.Image] | None) -> Image.Image | None:
    return None if kept is None else kept.load()


def _area(work: Work) -> int:
    (width, height), _ = work.shape
    return width * height


class Run(Generic[Made]):
    """The network between the threads; `finish` is what these make of a picture behind it."""

    def __init__(
        self,
        model: Engine,
        stages: Stages,
        finish: Callable[[Work | Result], Made],
        told: passes.Told | None = None,
    ) -> None:
        self.model, self.stages, self.finish, self.told = model, stages, finish, told
        self.options, self.drawing, self.stop = stages.options, stages.drawing, stages.stop
        looking = not {*self.drawing.maps} <= {"generator"}
        self.batching = passes.Batching(model.on_cpu, self.options.batch_size, looking)
        self.window = 2 * self.options.workers + self.batching.most
        self.cores = model.cores
        alone = model.on_cpu and self.batching.most == 1 and not looking and self.drawing.spans is None
        # Small pictures that are in the network at once, on a CPU.
        self.beside = min(self.cores, self.options.workers) if alone else 1
        each = self.cores // self.beside
        self.pool = ThreadPoolExecutor(self.options.workers, "ugatit", model.use_cores, (each,))
        self.pixel_seconds = 0.0
        self.running: deque[Future[Any]] = deque()

    def close(self) -> None:
        """Ends the threads, and what they have set for those that others begin."""
        self.pool.shutdown(cancel_futures=True)
        self.model.use_cores(self.cores)

    def in_threads(self, stage: Callable[[In], Out], items: Iterable[In], *, at_once: bool = False) -> Iterator[Out]:
        """In order, a window ahead of who pulls: one is begun for each one taken; `at_once` gives what is done."""
        pending: deque[Future[Out]] = deque()
        for item in items:
            while self.running and self.running[0].done():
                self.running.popleft()
            pending.append(self.pool.submit(stage, item))
            self.running.append(pending[-1])
            while pending and (len(pending) > self.window or (at_once and pending[0].done())):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def through_network(self, items: Iterable[Work | Result]) -> Iterator[Work | Result]:
        """Translates pictures in batches of equal shape; failures pass through, and small ones for `results`."""
        groups: dict[tuple[Size, int], list[Work]] = {}
        for item in items:
            if isinstance(item, Postponed):
                if self.stop.is_set():
                    continue
                while groups:
                    yield from self._translate(groups.popitem()[1])
                wait(self.running)
                item = self.pool.submit(self.stages.decode, item.job).result()
            if isinstance(item, Result) or item.passed or self._is_small(item):
                yield item
                continue
            groups.setdefault(item.shape, []).append(item)
            for key in self._ripe(groups):
                yield from self._translate(groups.pop(key))
        for group in groups.values():
            yield from self._translate(group)

    def _ripe(self, groups: dict[tuple[Size, int], list[Work]]) -> list[tuple[Size, int]]:
        """Shapes with a full batch; when too much waits in all, the shape with the most pixels."""
        if self.stages.spool.crowded:
            return list(groups)
        waiting = {
            key: sum(len(work.pixels) for work in group) * self.drawing.styles for key, group in groups.items()
        }
        areas = {key: _area(group[0]) for key, group in groups.items()}
        full = [key for key, count in waiting.items() if count >= self.batching.turn(areas[key], self.pixel_seconds)]
        pixels = {key: count * areas[key] for key, count in waiting.items()}
        if not full and (sum(waiting.values()) > MAX_WAITING or sum(pixels.values()) > MAX_WAITING_PIXELS):
            return [max(pixels, key=pixels.__getitem__)]
        return full

    def _is_small(self, work: Work) -> bool:
        """Whether it goes through the network beside others."""
        size = _area(work) * self.model.config.channels**2
        return self.beside > 1 and size <= SMALL and not work.shape[1] and len(work.pixels) == 1

    def results(self, works: Iterable[Work | Result]) -> Iterator[Made]:
        """What becomes of pictures, in order; of those that `stop` drops, nothing."""
        return chain.from_iterable(self.in_threads(self._finished, works, at_once=True))

    def _finished(self, work: Work | Result) -> list[Made]:
        """The result of a picture, which goes through the network first unless it has."""
        if isinstance(work, Work) and not work.passed:
            return [self.finish(one) for one in self._passed([work])]
        return [self.finish(work)]

    def _translate(self, works: list[Work]) -> Iterator[Work | Result]:
        """Pictures of equal shape through the network, which has all cores."""
        if self.model.on_cpu and not self.stop.is_set():
            wait(self.running)  # the threads' turn; none gets more to do until the network is done
        return self._passed(works)

    def _passed(self, works: list[Work]) -> Iterator[Work | Result]:
        """Pictures of equal shape through the network; those that `stop` leaves unfinished are dropped."""
        if self.stop.is_set():
            return
        count = self.drawing.styles
        kept = [one for work in works for one in [*work.pixels] * count]
        ways = [way for work in works for way in [*work.ways] * count]
        styles = [style for work in works for style in self._styles(work) for _ in work.pixels]
        keep = self.stages.spool.keep if any(len(work.pixels) > 1 for work in works) else self.stages.spool.hold
        start = time.perf_counter()
        try:
            # As they come: of an animation, some frames at a time.
            results = [(keep(one.pixels), one.maps) for one in self._seen(kept, ways, styles)]
        except StorageError as error:
            yield self.stages.failed(works[0].job, error)
            return
        except PictureError as error:
            # Which of several it was shows when each goes alone.
            if len(works) > 1:
                for work in works:
                    yield from self._passed([work])
            else:
                yield self.stages.failed(works[0].job, error)
            return
        seconds = (time.perf_counter() - start) / len(results)
        self.pixel_seconds = seconds / _area(works[0])
        for work in works:
            frames = len(work.pixels)
            own, results = results[: frames * count], results[frames * count :]
            if len(own) == frames * count:
                pixels, found = zip(*own, strict=True)
                first, *others = (pixels[start : start + frames] for start in range(0, len(own), frames))
                taken = work.seconds + seconds * len(own)
                said = (work.job.name, duration(work.seconds), _through(work), duration(seconds * len(own)))
                logger.info("%s: read in %s, through the network %s in %s", *said)
                yield replace(work, pixels=first, others=others, maps=found[:frames], seconds=taken)

    def _seen(
        self, kept: Sequence[Kept[Pixels]], ways: Sequence[Geometry], styles: Sequence[StyleCode]
    ) -> Iterator[passes.Translated]:
        """What the networks make of each; those of one shape, one after the other, go through them together."""
        begin = 0
        for _, alike in groupby(ways, lambda way: (way.network, way.tile)):
            some = slice(begin, begin := begin + len(list(alike)))
            yield from passes.look(
                *(self.model, Lazy(Kept.load, kept[some]), self.options.direction, ways[some], self.drawing.maps),
                *(self.options.batch_size, self.stop, styles[some], self.told),
            )
            if self.stop.is_set():
                return

    def _styles(self, work: Work) -> list[StyleCode]:
        """Those of a picture, decided by its first frame: an animation has one for all; none without styles."""
        size, options = self.model.config.style_size, self.options
        if not size or options.style is not None:
            return [options.style] if size and options.style is not None else []
        first = work.pixels[0].load()
        return [random_style(first, size, options.seed + number) for number in range(self.drawing.styles)]

    def all_before_the_first(self, items: Iterable[Work | Result], spans: Spans) -> Iterator[Work | Result]:
        """Lets all pictures go through the network first, so that their attention can have one scale."""
        waiting: list[Work] = []
        for item in items:
            if isinstance(item, Result):
                yield item
                continue
            for maps in item.maps:
                spans.add(maps)
            try:
                waiting.append(self.stages.waiting(item))
            except StorageError as error:
                yield self.stages.failed(item.job, error)
        for work in waiting:
            if self.stop.is_set():  # early, their scale would be one that no other picture has
                return
            yield work


def _through(work: Work) -> str:
    """How pictures meet the network."""
    (width, height), tile = work.shape
    parts = f", {len(work.pixels)} frames or parts" if len(work.pixels) > 1 else ""
    return f"at {width}x{height}{f' in tiles of {tile}' if tile else ''}{parts}"


def _write(job: Job, drawn: Drawn) -> Job:
    """Writes the files that were drawn, together; the job with those that there are."""
    if job.output is None:
        return job
    paths = drawn.paths or job.outputs
    wanted = [(path, data) for path, data in zip(paths, drawn.files, strict=True) if data is not None]
    places.write_together([(path, data) for path, data in wanted if path not in job.kept])
    paths = tuple(path for path, _ in wanted)
    return replace(job, output=paths[0], several=paths if job.several or drawn.paths else ())
