"""What commands that turn pictures into pictures share: their jobs, and the report on them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ugatit_cli.cli import console
from ugatit_cli.errors import InputsFailed, Interrupted, OutputError, StorageError, UgatitError, UsageError

if TYPE_CHECKING:
    from ugatit_cli.inputs import Job, Plan
    from ugatit_cli.pipeline import Result

# How many names a message lists.
SHOWN = 3


def plan_jobs(inputs: list[str], output: Path | None, format: str) -> Plan:
    """What the command has to do.

    Raises:
        UsageError: the arguments contradict each other, or there are no pictures.
    """
    from ugatit_cli import encoding, images
    from ugatit_cli import inputs as planner

    plan = planner.plan(
        inputs, output, suffixes=images.SUFFIXES, rename=lambda source: encoding.result_suffix(source, format)
    )
    if not plan.jobs and not plan.missing:
        raise UsageError(
            f"no pictures in {', '.join(inputs)}",
            "Folders are searched for " + ", ".join(sorted(images.SUFFIXES)),
        )
    first = plan.jobs[0].output if plan.jobs else None
    if first is not None:
        # Only a file that the user named can have a suffix that isn't writable, or not the wanted one.
        written = encoding.format_of(first)
        if format != "same" and written != encoding.output_format("", format):
            raise UsageError(f"--format {format} contradicts the name {first.name}")
    return plan


def check_streams(jobs: list[Job], *, json_lines: bool) -> None:
    """Standard output is for one thing, and nobody types a picture.

    Raises:
        UsageError: the picture would mix with JSON lines, or standard input or output is a terminal.
    """
    if json_lines and any(job.output is None for job in jobs):
        raise UsageError("--json and the picture can't both go to standard output", "Name a file for it: -o out.png")
    if any(job.output is None for job in jobs) and sys.stdout.isatty():
        raise UsageError("standard output is a terminal", "Name a file for the picture: -o out.png")
    if any(job.source is None for job in jobs) and sys.stdin.isatty():
        raise UsageError("standard input (-) is a terminal", "Pipe a picture in: cat icon.png | ugatit translate -")


def without_existing(jobs: list[Job], *, skip_existing: bool, overwrite: bool) -> tuple[list[Job], list[Job]]:
    """Jobs to do and jobs to skip.

    Raises:
        UsageError: results exist, and nobody said what to do with them.
    """
    from ugatit_cli.inputs import existing_outputs

    existing = [] if overwrite else existing_outputs(jobs)
    if existing and not skip_existing:
        names = ", ".join(str(path) for path in existing[:SHOWN]) + (", ..." if len(existing) > SHOWN else "")
        raise UsageError(
            f"{len(existing)} of {len(jobs)} results exist already: {names}",
            "Pass --skip-existing to leave them, or --overwrite to replace them.",
        )
    paths = set(existing)
    return [job for job in jobs if job.output not in paths], [job for job in jobs if job.output in paths]


def check_writable(jobs: list[Job]) -> None:
    """Finds out before the model is loaded that nothing can be written."""
    first = jobs[0].output
    if first is None:
        return
    parent = first.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{parent}: can't be made: {error.strerror}", "Choose another output folder.") from None
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{parent}: permission denied", "Choose an output folder that you may write to.")


@dataclass
class Report:
    """Counts results and says them: paths or JSON on stdout, errors on stderr."""

    json_lines: bool
    total: int
    done: int = 0
    left_alone: int = 0
    errors: int = 0
    disk_full: bool = False
    interrupted: bool = False
    start: float = field(default_factory=time.monotonic)

    def add(self, result: Result) -> None:
        """One more file is done, or failed."""
        if result.error is not None:
            self.disk_full |= isinstance(result.error, StorageError)
            self.failed(result.job.name, result.error)
            return
        self.done += 1
        if result.data is not None:
            console.result_bytes(result.data)
            return
        width, height = result.size or (0, 0)
        self._say(result.job, width=width, height=height, milliseconds=round(result.seconds * 1000, 1))

    def failed(self, name: str, error: UgatitError) -> None:
        """An input that gives no result."""
        self.errors += 1
        console.show_error(error)
        if self.json_lines:
            console.result(json.dumps({"input": name, "error": error.message, "hint": error.hint}))

    def skipped(self, job: Job) -> None:
        """A result that exists already."""
        self.left_alone += 1
        self._say(job, skipped=True)

    def planned(self, jobs: Iterable[Job]) -> None:
        """What a dry run says."""
        for job in jobs:
            if self.json_lines:
                self._say(job, planned=True)
            else:
                console.result(f"{job.name} -> {job.output or '<stdout>'}")

    def _say(self, job: Job, **values: object) -> None:
        if self.json_lines:
            console.result(json.dumps({"input": job.name, "output": str(job.output), **values}))
        elif not sys.stdout.isatty() and not values.get("skipped"):
            console.result(str(job.output))

    def finish(self, output: Path | None) -> None:
        """The summary, and the exit code as an exception."""
        if self.done or self.left_alone:
            seconds = time.monotonic() - self.start
            skipped = f", {self.left_alone} skipped" if self.left_alone else ""
            place = "<stdout>" if output in (None, Path("-")) else output
            console.note(f"{self.done} translated{skipped} in {seconds:.1f} s -> {place}")
        if self.interrupted:
            raise Interrupted("interrupted; everything finished so far is kept", "Go on with --skip-existing.")
        if self.disk_full:
            raise InputsFailed(
                f"stopped: {self.total - self.done} of {self.total} files are not done",
                "Once there is space, go on with --skip-existing.",
            )
        if self.errors:
            raise InputsFailed(f"{self.errors} input{'s' if self.errors > 1 else ''} failed, named above")
