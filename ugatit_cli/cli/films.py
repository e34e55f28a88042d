"""Films among the pictures of a command: what they are called, what is asked of them, and their results in order."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING

from ugatit_cli.errors import UsageError
from ugatit_cli.films.codecs import Codec, FilmOptions, encoder_for, is_film, result_suffix
from ugatit_cli.remote.urls import Place, Url

if TYPE_CHECKING:
    from ugatit_cli.cli.console import Progress
    from ugatit_cli.outputs.base import Drawing
    from ugatit_cli.pictures.jobs import Job
    from ugatit_cli.translation.engine import Engine
    from ugatit_cli.translation.pipeline import Result, TranslateOptions


def rename(pictures: Callable[[Place], str]) -> Callable[[Place], str]:
    """What gives the suffix of a result, where pictures have one of their own."""
    return lambda source: result_suffix(source) if is_film(source) else pictures(source)


def check(jobs: Sequence[Job], codec: Codec) -> None:
    """Before a model is loaded: whether films can be read and written here.

    Raises:
        UsageError: PyAV isn't installed, or has no such encoder; a film is elsewhere, or would go there, or to
            standard output.
    """
    films = [job for job in jobs if is_film(job.source)]
    if found := next((job for job in films if isinstance(job.source, Url) or isinstance(job.output, Url)), None):
        raise UsageError(f"{found.name} -> {found.output}: films are read and written here", "Copy them, then here.")
    for _, some in itertools.groupby(sorted(films, key=_suffix), _suffix):
        job = next(some)
        if job.output is None:
            raise UsageError(f"{job.name}: a film can't go to standard output", "Name a file for it: -o out.mp4")
        encoder_for(job.output, codec)


def require_one(jobs: Sequence[Job], option: str) -> None:
    """It is a UsageError if there is no film, with an option that is for films alone."""
    if jobs and not any(is_film(job.source) for job in jobs):
        raise UsageError(f"{option} is for films, and there is none", "Those in folders are taken with --films.")


def require_none(jobs: Sequence[Job], option: str, hint: str) -> None:
    """It is a UsageError if there is a film, with an option that is for pictures alone."""
    if found := next((job for job in jobs if is_film(job.source)), None):
        raise UsageError(f"{option} is for pictures, and {found.name} is a film", hint)


def _suffix(job: Job) -> str:
    return job.output.suffix.lower() if job.output else ""


def results(
    model: Engine,
    jobs: Iterable[Job],
    options: TranslateOptions,
    films: FilmOptions,
    drawing: Drawing,
    stop: threading.Event,
    progress: Progress,
) -> Generator[Result, None, None]:
    """What becomes of pictures and films, in the order of the jobs but for pictures beside each other."""
    from ugatit_cli.translation.pipeline import translate_files

    for film, some in itertools.groupby(jobs, lambda job: is_film(job.source)):
        if film:
            from ugatit_cli.films.film import translate_films

            told = progress.frame
            yield from translate_films(model, some, options, films, drawing=drawing, stop=stop, told=told)
        else:
            yield from translate_files(model, some, options, drawing=drawing, stop=stop, told=progress.tile)
