"""Trees of empty files, and plans for them with results below `out`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ugatit_cli.pictures.jobs import Job, Plan, plan

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"}


def touch(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def png(_: Path) -> str:
    return ".png"


def make(*arguments: str, out: str | None = "out", rename: Callable[[Path], str] = png) -> Plan:
    return plan(arguments, None if out is None else Path(out), suffixes=SUFFIXES, rename=rename)


def pairs(result: Plan) -> list[tuple[str, str]]:
    """Every job as strings, the outputs relative to `out`."""
    assert result.missing == []
    return [(job.source.as_posix() if job.source else "-", below(job)) for job in result.jobs]


def below(job: Job) -> str:
    assert job.output is not None
    return job.output.relative_to("out").as_posix()
