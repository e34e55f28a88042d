"""Films through a model: frame by frame, whatever their length, with everything else of the file as it was."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ugatit_cli.errors import OutputError, PictureError, StorageError, UgatitError
from ugatit_cli.files import reported
from ugatit_cli.films.codecs import FilmOptions, encoder_for
from ugatit_cli.films.reading import Film, Shot, Survey, open_film, survey
from ugatit_cli.films.steady import Steadier
from ugatit_cli.films.writing import FilmWriter
from ugatit_cli.leftovers import sweep_once
from ugatit_cli.outputs.base import Done, Drawing, Preview, Translation
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.translation.engine import Engine
from ugatit_cli.translation.frames import drawn_frames
from ugatit_cli.translation.pipeline import Result, TranslateOptions

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
            error = type(error)(f"{job.name}: {error.message}", error.hint)
        return Result(job, error=error)

    def _translated(self, job: Job) -> Result | None:
        source, output = job.source, job.output
        if source is None or output is None:
            raise OutputError("films go from a file to a file")
        encoder, known = encoder_for(output, self.films.codec), survey(source)
        with reported(output):
            output.parent.mkdir(parents=True, exist_ok=True)
        sweep_once(output.parent)
        files = self.options.files
        with (
            open_film(source, max_pixels=self.options.max_pixels, background=files.background) as film,
            FilmWriter(output, film, encoder, files.quality) as writer,
        ):
            frames, preview = self._written(job, film, known, writer)
            if self.stop.is_set():
                return None
            writer.finish()
        return Result(job, writer.size, frames, notes=(*film.notes, *writer.notes), preview=preview)

    def _written(self, job: Job, film: Film, known: Survey, writer: FilmWriter) -> tuple[int, Preview | None]:
        """How many frames there were, and a preview of the one in the middle: the first one is often black."""
        preview: Preview | None = None
        number, steadier = 0, Steadier(self.films.steady)
        for number, (shot, done, result) in enumerate(self._seen(job, film), 1):
            shown = steadier.steadied(result.rgb, shot.frame.rgb)
            writer.write(np.asarray(shown), shot.pts, shot.duration)
            if number == known.frames // 2 + 1:
                preview = self.drawing.preview(done)
            self.told(number, max(number, known.frames))
        return number, preview and replace(preview, frames=number)

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

        for done, result in drawn_frames(self.model, frames(), self.options, self.drawing, drawn, stop=self.stop):
            yield waiting.popleft(), done, result
