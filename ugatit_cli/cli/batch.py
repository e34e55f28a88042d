"""What commands that turn pictures into pictures share: their jobs, and the report on them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ugatit_cli.cli import console
from ugatit_cli.errors import InputsFailed, Interrupted, OutputError, StorageError, UgatitError, UsageError

if TYPE_CHECKING:
    from ugatit_cli.inputs import Job, Plan
    from ugatit_cli.pipeline import Result

# How many names a message lists.
SHOWN = 3


def plan_jobs(inputs: list[str], output: Path | None, suffix: Callable[[Path], str]) -> Plan:
    """What the command has to do.

    Args:
        suffix: gives the ending of a source's result.

    Raises:
        UsageError: the arguments contradict each other, or there are no pictures.
    """
    from ugatit_cli import images
    from ugatit_cli import inputs as planner

    plan = planner.plan(inputs, output, suffixes=images.SUFFIXES, rename=suffix)
    if not plan.jobs and not plan.missing:
        raise UsageError(
            f"no pictures in {', '.join(inputs)}",
            "Folders are searched for " + ", ".join(sorted(images.SUFFIXES)),
        )
    return plan


def check_format(jobs: list[Job], format: str) -> None:
    """Only a file that the user named can have a suffix that isn't writable, or not the wanted one.

    Raises:
        UsageError: it has.
    """
    from ugatit_cli import encoding

    first = jobs[0].output if jobs else None
    if first is not None:
        written = encoding.format_of(first)
        if format != "same" and written != encoding.output_format("", format):
            raise UsageError(f"--format {format} contradicts the name {first.name}")


def check_sources(jobs: list[Job]) -> None:
    """Results of several files each have names that the planner doesn't know.

    Raises:
        UsageError: one of them is an input.
    """
    sources = {os.path.realpath(job.source): job.source for job in jobs if job.source}
    for job in jobs:
        for path in job.several:
            if (source := sources.get(os.path.realpath(path))) is not None:
                raise UsageError(
                    f"the result {path} of {job.name} would overwrite the input {source}",
                    "Give another output (-o results).",
                )


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
        raise UsageError("standard input (-) is a terminal", "Pipe a picture in: cat icon.png | ugatit ... -")


def without_existing(jobs: list[Job], *, skip_existing: bool, overwrite: bool) -> tuple[list[Job], list[Job]]:
    """Jobs to do and jobs to skip.

    Raises:
        UsageError: results exist, and nobody said what to do with them.
    """
    from ugatit_cli.inputs import existing_outputs

    existing = [] if overwrite else existing_outputs(jobs)
    files = sum(len(job.outputs) for job in jobs)
    if existing and not skip_existing:
        names = ", ".join(str(path) for path in existing[:SHOWN]) + (", ..." if len(existing) > SHOWN else "")
        raise UsageError(
            f"{len(existing)} of {files} results exist already: {names}",
            "Pass --skip-existing to leave them, or --overwrite to replace them.",
        )
    paths = set(existing)
    jobs = [replace(job, kept=tuple(path for path in job.outputs if path in paths)) for job in jobs]
    complete = [bool(job.outputs) and paths.issuperset(job.outputs) for job in jobs]
    pairs = list(zip(jobs, complete, strict=True))
    return [job for job, there in pairs if not there], [job for job, there in pairs if there]


def check_writable(jobs: list[Job]) -> None:
    """Finds out before the model is loaded that nothing can be written.

    Raises:
        OutputError: so it is.
    """
    if jobs[0].outputs:
        check_folder(jobs[0].outputs[0].parent)


def check_folder(folder: Path) -> None:
    """Makes a folder.

    Raises:
        OutputError: it can't be made, or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: can't be made: {error.strerror}", "Choose another output folder.") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: permission denied", "Choose an output folder that you may write to.")


@dataclass
class Report:
    """Counts results and says them: paths or JSON on stdout, errors on stderr.

    Attributes:
        total: how many are expected.
        verb: what the command does with pictures.
        animations: how many results have several frames.
        resume: how to go on after an interruption.
        page_failed: whether the report could not be written.
    """

    json_lines: bool
    total: int
    verb: str = "translated"
    animations: int = 0
    resume: str = "go on with --skip-existing"
    page_failed: bool = False
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
        self.animations += result.frames > 1
        for note in result.notes:
            console.note(f"{result.job.name}: {note}")
        for name in result.flat:
            console.note(f"{result.job.name}: the {name} attention is flat: the same everywhere")
        if result.data is not None:
            console.result_bytes(result.data)
            return
        width, height = result.size or (0, 0)
        flat = {"flat": list(result.flat)} if result.flat else {}
        self._say(result.job, width=width, height=height, milliseconds=round(result.seconds * 1000, 1), **flat)

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
                for path in job.outputs or ("<stdout>",):
                    console.result(f"{job.name} -> {path}")

    def _say(self, job: Job, **values: object) -> None:
        if self.json_lines:
            several = {"outputs": [str(path) for path in job.several]} if job.several else {}
            output = str(job.outputs[0]) if job.outputs else str(job.output)
            console.result(json.dumps({"input": job.name, "output": output, **several, **values}))
        elif not sys.stdout.isatty() and not values.get("skipped"):
            for path in job.outputs:
                console.result(str(path))

    def summary(self) -> str:
        """What became of the inputs, in a line."""
        seconds = time.monotonic() - self.start
        skipped = f", {self.left_alone} skipped" if self.left_alone else ""
        failed = f", {self.errors} failed" if self.errors else ""
        return f"{self.done} {self.verb}{skipped}{failed} in {seconds:.1f} s"

    def finish(self, output: Path | None) -> None:
        """The summary, and the exit code as an exception."""
        if self.done or self.left_alone:
            place = "<stdout>" if output in (None, Path("-")) else output
            console.note(f"{self.summary()} -> {place}")
        if self.interrupted:
            hint = f"{self.resume[0].upper()}{self.resume[1:]}."
            raise Interrupted("interrupted; everything finished so far is kept", hint)
        if self.disk_full:
            raise InputsFailed(
                f"stopped: {self.total - self.done} of {self.total} files are not done",
                f"Once there is space, {self.resume}.",
            )
        if self.errors:
            raise InputsFailed(f"{self.errors} input{'s' if self.errors > 1 else ''} failed, named above")
        if self.page_failed:
            raise InputsFailed("the report could not be written, see above; the results are complete")
