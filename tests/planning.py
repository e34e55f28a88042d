"""Trees of empty files, and the jobs that they become, with results below `out`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ugatit_cli.pictures.jobs import Job, find_jobs

Found = tuple[list[Job], list[tuple[str, str]]]

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"}


def touch(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def png(_: Path) -> str:
    return ".png"


def make(*arguments: str, out: str | None = "out", rename: Callable[[Path], str] = png) -> Found:
    return find_jobs(arguments, None if out is None else Path(out), suffixes=SUFFIXES, rename=rename)


def jobs_of(*arguments: str, out: str | None = "out") -> list[Job]:
    """Jobs of arguments that are all there."""
    jobs, missing = make(*arguments, out=out)
    assert missing == []
    return jobs


def pairs(found: Found) -> list[tuple[str, str]]:
    """Every job as strings, the outputs relative to `out`."""
    jobs, missing = found
    assert missing == []
    return [(job.source.as_posix() if job.source else "-", below(job)) for job in jobs]


def below(job: Job) -> str:
    assert job.output is not None
    return job.output.relative_to("out").as_posix()
