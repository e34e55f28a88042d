"""Films through a model: frame by frame, whatever their length, with everything else of the file as it was."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np

from ugatit_cli.arguments import checked
from ugatit_cli.config import Fit
from ugatit_cli.errors import AlreadyThere, OutputError, PictureError, StorageError, UgatitError, UsageError
from ugatit_cli.fields import Range
from ugatit_cli.files import reported
from ugatit_cli.films.codecs import Codec, FilmOptions, encoder_for
from ugatit_cli.films.steady import Steadier
from ugatit_cli.leftovers import sweep_once
from ugatit_cli.outputs.base import Done, Drawing, FileOptions, Preview, Translation
from ugatit_cli.pictures.bounds import MAX_PIXELS
from ugatit_cli.pictures.geometry import (
    WHITE,
    Background,
    OutputSize,
    SizeOptions,
    Tile,
    as_colour,
    as_output,
    as_tile,
)
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.look import Look
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.pictures.regions import RegionOptions
from ugatit_cli.pictures.styles import StyleCode
from ugatit_cli.translation.choices import chosen_style
from ugatit_cli.translation.engine import Engine, OptionalWay, Source
from ugatit_cli.translation.frames import drawn_frames
from ugatit_cli.translation.pipeline import Result, TranslateOptions
from ugatit_cli.translation.translator import MostPixels, Regions, Translator

if TYPE_CHECKING:  # with PyAV
    from ugatit_cli.films.reading import Film, Shot, Survey
    from ugatit_cli.films.writing import FilmWriter

# Hears how many frames of a film are done, and how many there are.
Told = Callable[[int, int], object]


def translate_films(
    model: Engine,
    jobs: Iterable[Job],
    options: TranslateOptions,
    films: FilmOptions,
    *,
    drawing: Drawing | None = None,
    stop: threading.Event | None = None,
    told: Told | None = None,
) -> Generator[Result, None, None]:
    """Translates films one after the other, and writes each atomically; see `translate_files`.

    A film that fails gives a result with its `error`, and the rest goes on. Of one that `stop` breaks off, nothing is
    kept, and there is no result.

    Args:
        told: hears of each frame that is done.

    Raises:
        ModelError: the weights can't be read.
        UsageError: PyAV is not installed, or has no encoder for such a result.
    """
    stop = stop or threading.Event()
    run = _Run(model, options, films, drawing or Translation(), stop, told or (lambda _, __: None))
    for job in jobs:
        if stop.is_set():
            return
        result = run.result(job)
        if result is not None:
            yield result


@checked
def translate_film(
    model: Annotated[Translator, "a loaded model"],
    source: str | PathLike[str],
    output: str | PathLike[str],
    direction: OptionalWay = None,
    *,
    to: str | None = None,
    style: Source | StyleCode | None = None,
    fit: Fit = "aspect",
    size: OutputSize = "same",
    tile: Tile = "auto",
    strength: float = 1.0,
    keep_colour: bool = False,
    regions: Regions = None,
    background: Background = WHITE,
    max_pixels: MostPixels = MAX_PIXELS,
    codec: Codec = "auto",
    quality: Annotated[int | None, Range(1, 100)] = None,
    steady: float = 0.0,
    overwrite: bool = False,
    told: Told | None = None,
) -> list[str]:
    """Translates a film, whose sound, subtitles, times and metadata are kept.

    Args:
        source: the file of a film.
        output: the result: .mp4, .m4v, .mov, .mkv or .webm.
        direction, to, fit, size, tile, strength, keep_colour, regions: as in `Model.translate`.
        style: as there, one for all frames: the random one is that of the first.
        background: put behind transparent pixels: a colour's name, `#rrggbb`, or RGB.
        max_pixels: how many a frame may have; None: any number.
        codec: `auto` (h264 where the container takes it), `h264`, `hevc`, `vp9` or `av1`.
        quality: 1 to 100; default: 75.
        steady: against flicker: how much of the last frame stays where the film hardly changes, 0 to below 1.
        overwrite: replace the result if it exists.
        told: hears how many frames are done, and of how many.

    Returns:
        What its owner should know, a line each: what could not be kept, or decoded.

    Raises:
        PictureError: the film can't be read, or is cut off.
        OutputError: the result exists, can't be written, or its container doesn't take the film's sound.
        ModelError: the weights can't be read.
        UsageError: an option makes no sense, PyAV isn't installed, or the result is the film itself.
    """
    film, result = Path(source), Path(output)
    job = Job(film, result)
    if result.exists() and film.exists() and result.samefile(film):
        raise UsageError(f"{output}: the result would replace the film itself", "Give it another name.")
    if result.exists() and not overwrite:
        raise AlreadyThere(f"{output}: exists already", "Name another file, or pass overwrite=True.")
    files = FileOptions(quality=quality, background=as_colour(background))
    sizes, look = SizeOptions(fit, as_tile(tile), as_output(size)), Look(strength, keep_colour)
    way = model.direction(direction, to)
    parts = None if regions is None else RegionOptions(regions)
    options = TranslateOptions(way, sizes, files, max_pixels=max_pixels, look=look, regions=parts)
    options, films = _with_style(model, options, style), FilmOptions(codec, steady)
    (made,) = translate_films(model, [job], options, films, told=told)
    if made.error is not None:
        raise made.error
    return list(map(str, made.notes))


def _with_style(model: Engine, options: TranslateOptions, style: Source | StyleCode | None) -> TranslateOptions:
    if style is None:
        return options
    background, most = options.files.background, options.max_pixels
    chosen = chosen_style(
        model, style, options.direction, fit=options.sizes.fit, background=background, max_pixels=most
    )
    return replace(options, seed=chosen) if isinstance(chosen, int) else replace(options, style=chosen)


@dataclass(frozen=True)
class _Run:
    model: Engine
    options: TranslateOptions
    films: FilmOptions
    drawing: Drawing
    stop: threading.Event
    told: Told

    def result(self, job: Job) -> Result | None:
        """What became of a film; None where it was broken off."""
        start = time.perf_counter()
        try:
            result = self._translated(job)
        except MemoryError:
            return self._failed(job, PictureError("not enough memory for its frames", "Use a smaller --size."))
        except UgatitError as error:
            return self._failed(job, error)
        return result and replace(result, seconds=time.perf_counter() - start)

    def _failed(self, job: Job, error: UgatitError) -> Result:
        if isinstance(error, StorageError):
            self.stop.set()
        elif not error.message.startswith(f"{job.name}: "):
            error = type(error)(f"{job.name}: {error.message}", error.hint, change=error.change)
        return Result(job, error=error)

    def _translated(self, job: Job) -> Result | None:
        source, output = job.source, job.output
        if not isinstance(source, Path) or not isinstance(output, Path):
            raise OutputError("films go from a file to a file")
        encoder = encoder_for(output, self.films.codec)
        from ugatit_cli.films.reading import open_film, survey
        from ugatit_cli.films.writing import FilmWriter

        known = survey(source)
        with reported(output):
            output.parent.mkdir(parents=True, exist_ok=True)
        sweep_once(output.parent)
        files = self.options.files
        with (
            open_film(source, max_pixels=self.options.max_pixels, background=files.background) as film,
            FilmWriter(output, film, encoder, files) as writer,
        ):
            frames, preview, notes = self._written(job, film, known, writer)
            if self.stop.is_set():
                return None
            writer.finish()
        return Result(job, writer.size, frames, notes=(*film.notes, *writer.notes, *notes), preview=preview)

    def _written(
        self, job: Job, film: Film, known: Survey, writer: FilmWriter
    ) -> tuple[int, Preview | None, tuple[str, ...]]:
        """How many frames there were, a preview of the one in the middle, as the first is often black, and notes."""
        preview: Preview | None = None
        number, without, steadier = 0, 0, Steadier(self.films.steady)
        for number, (shot, done, result) in enumerate(self._seen(job, film), 1):
            shown = steadier.steadied(result.rgb, shot.frame.rgb)
            writer.write(np.asarray(shown), shot.pts, shot.duration)
            if number == known.frames // 2 + 1:
                preview = self.drawing.preview(done)
            without += done.parts is not None and not done.parts.ways
            self.told(number, max(number, known.frames))
        return number, preview and replace(preview, frames=number), self._without(without, number)

    def _without(self, frames: int, of: int) -> tuple[str, ...]:
        regions = self.options.regions
        return (f"no {regions.what} found in {frames} of {of} frames, which stay",) if regions and frames else ()

    def _seen(self, job: Job, film: Film) -> Iterator[tuple[Shot, Done, Frame]]:
        """Each frame before, and after."""
        waiting: deque[Shot] = deque()

        def frames() -> Iterator[Frame]:
            for shot in film.shots():
                if self.stop.is_set():
                    return
                waiting.append(shot)
                yield shot.frame

        def drawn(done: Done) -> tuple[Done, Frame]:
            return done, self.drawing.frames(replace(done, job=job))[0]

        known = self.model, frames(), self.options, self.drawing, drawn
        for done, result in drawn_frames(*known, source=film.path, stop=self.stop):
            yield waiting.popleft(), done, result
