"""What became of each input, and of all of them: on stdout, on stderr, and as an exit code."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ugatit_cli.cli import console, voice
from ugatit_cli.errors import InputsFailed, Interrupted, StorageError, UgatitError
from ugatit_cli.films.codecs import SUFFIXES, is_film
from ugatit_cli.remote.urls import place

if TYPE_CHECKING:
    from ugatit_cli.pictures.jobs import Job
    from ugatit_cli.translation.pipeline import Result


@dataclass
class Tally:
    """Counts results and says them: paths or JSON on stdout, errors on stderr.

    Attributes:
        animations: how many results have several frames.
        resume: how to go on after an interruption.
        found_none: how many pictures have nothing of `what` is translated, and so no result.
        model: which one makes them.
        said: errors that needn't be said again, as they were of an earlier model.
        failures: names of inputs that give no result; one that does later isn't among them any more.
        errors: how many results there are not for that; each of several models makes one of an input.
    """

    json_lines: bool
    total: int
    verb: str = "translated"
    animations: int = 0
    resume: str = "go on with --skip-existing"
    page_failed: bool = False
    done: int = 0
    left_alone: int = 0
    found_none: int = 0
    model: str = ""
    said: set[str] = field(default_factory=set)
    failures: set[str] = field(default_factory=set)
    what: str = ""
    errors: int = 0
    unsaid: Exception | None = None
    disk_full: bool = False
    interrupted: bool = False
    planned_for: int = 0
    start: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.json_lines:
            console.ends_with(self.totals)

    def add(self, result: Result) -> None:
        """One more file is done, or failed."""
        if result.error is not None:
            self.failed(result.job.name, result.error)
            return
        if result.missing:
            self.without(result.job, result.missing)
            self._note(result)
            return
        self._recovered(result.job.name)
        self.done += 1
        self._advise(result)
        self.animations += result.frames > 1
        self._note(result)
        for name in result.flat:
            console.note(f"{result.job.name}: the {name} attention is flat: the same everywhere")
        if result.data is not None:
            console.result_bytes(result.data)
            return
        width, height = result.size or (0, 0)
        more: dict[str, object] = {"flat": list(result.flat)} if result.flat else {}
        more |= {"frames": result.frames} if is_film(result.job.source) else {}
        more |= _faces(result)
        more |= {"milliseconds": round(result.seconds * 1000, 1)}
        self._say(result.job, self.verb.replace(" ", "-"), width=width, height=height, **more)

    def _note(self, result: Result) -> None:
        for note in result.notes:
            console.note(f"{result.job.name}: {note}")

    def _advise(self, result: Result) -> None:
        """What looks wrong with a result that is as it was asked for, at the first picture that it is true of."""
        name, fit = result.job.name, result.fit
        if result.deep:
            text = f"{name}: has more than 8 bits a channel; results have 8, as that is what networks work with"
            self._once("deep", text)
        if fit is None:
            return
        if fit.soft:
            width, height = fit.seen
            text = (
                f"{name}: translated at {width}x{height} and enlarged {fit.enlarged:.0f} times, so it is soft. "
                f"--fit native keeps detail, changes less and takes longer; --size model keeps it small"
            )
            self._once("soft", text)
        if fit.blank:
            text = f"{name}: all that is visible has the colour of the background behind it: try --background"
            self._once("blank", f"{text} {fit.blank}")
        elif fit.plain:
            text = f"{name}: the result is all one colour: the model found nothing in the picture that it knows"
            self._once("plain", text)

    def _once(self, what: str, text: str) -> None:
        if what not in self.said:
            self.said.add(what)
            console.note(text)

    def failed(self, name: str, error: UgatitError) -> None:
        """An input that gives no result."""
        self.errors += name not in self.failures
        self.disk_full |= isinstance(error, StorageError)
        self.failures.add(name)
        if error.message not in self.said:
            self.said.add(error.message)
            console.show_error(error)
        if self.json_lines:
            self._put(
                json.dumps({"input": name, **self._made_by, "status": "failed", **voice.described(error, name)})
            )

    def _recovered(self, name: str) -> None:
        if name in self.failures:  # a file that was half-written at first, under --watch
            self.failures.discard(name)
            self.errors -= 1

    def without(self, job: Job, what: str, where: str = "") -> None:
        """A picture that gives no result, as it has nothing of what is translated: no `face`."""
        self.found_none += 1
        self.what = what
        console.note(f"{job.name}: no {what}{where} found")
        if self.json_lines:
            self._put(json.dumps({"input": job.name, **self._made_by, "status": "nothing-found", f"{what}s": []}))

    def skipped(self, job: Job, *, shared: bool = False) -> None:
        """A result that exists already, or that another process has made meanwhile."""
        self.left_alone += 1
        self.total -= shared
        self._say(job, "skipped")

    def passed_over(self, folder: str, counts: Counter[str]) -> None:
        """What of a folder wasn't looked at."""
        from ugatit_cli.pictures.jobs import in_words

        films = ", or take films with --films" if SUFFIXES & counts.keys() else ""
        named = "; name them to have them tried" if counts.keys() - {".svg"} else ""
        drawings = "; render .svg to PNG first" if ".svg" in counts else ""
        console.note(f"{folder}: {in_words(counts)}{named}{films}{drawings}")
        if self.json_lines:
            self._put(json.dumps({"input": folder, "status": "passed-over", "passed_over": dict(counts)}))

    def renamed(self, jobs: Sequence[Job], *, based: bool) -> None:
        """Results whose names people don't expect; `based`: they keep their folders already."""
        if not (others := [job for job in jobs if job.renamed]):
            return
        first, several = others[0], len(others) > 1
        counts = f"{len(others)} results have other names" if several else "1 result has another name"
        example = f"{first.outputs[0].name} is of {first.name}"
        alike = [job for job in jobs if job.key == first.key]
        hint = "; --base DIR keeps folders" if len(alike) > 1 and not based else ""
        text = f"{counts}, since several pictures are called alike{', as' if several else ':'} {example}{hint}"
        self._once("renamed", text)

    def planned(self, job: Job) -> None:
        """What a dry run says."""
        self.planned_for += 1
        if self.json_lines:
            self._say(job, "planned")
        else:
            for path in job.outputs or ("<stdout>",):
                console.result(f"{job.name} -> {path}")

    def _say(self, job: Job, status: str, **values: object) -> None:
        if self.json_lines:
            several = {"outputs": [str(path) for path in job.several]} if job.several else {}
            output = {"output": str(job.outputs[0])} if job.outputs else {}
            self._put(
                json.dumps({"input": job.name, **self._made_by, "status": status, **output, **several, **values})
            )
        elif not sys.stdout.isatty() and status != "skipped":
            for path in job.outputs:
                self._put(str(path))

    @property
    def _made_by(self) -> dict[str, str]:
        return {"model": self.model} if self.model else {}

    def _put(self, line: str) -> None:
        try:
            console.result(line) if self.json_lines else console.made(line)
        except (StorageError, BrokenPipeError) as error:  # the rest is worth doing all the same
            self.unsaid = error

    def totals(self) -> dict[str, object]:
        """What became of the inputs, for programs."""
        return {
            "results": self.done,
            "failed": self.errors,
            "skipped": self.left_alone,
            "nothing_found": self.found_none,
            "planned": self.planned_for,
            "seconds": round(time.monotonic() - self.start, 3),
        }

    def summary(self) -> str:
        """What became of the inputs, in a line."""
        self.seconds = self.seconds or time.monotonic() - self.start  # the same wherever it is said
        skipped = f", {self.left_alone} skipped" if self.left_alone else ""
        failed = f", {self.errors} failed" if self.errors else ""
        without = f", {self.found_none} without a {self.what}" if self.found_none else ""
        return f"{self.done} {self.verb}{without}{skipped}{failed} in {self.seconds:.1f} s"

    def finish(self, output: str | None) -> None:
        """The summary, and the exit code as an exception."""
        if self.done or self.left_alone or self.found_none:
            where = "<stdout>" if output in (None, "-") else place(output or "")
            console.note(f"{self.summary()} -> {where}")
        if self.interrupted:
            hint = f"{self.resume[0].upper()}{self.resume[1:]}."
            raise Interrupted("interrupted; everything finished so far is kept", hint)
        if self.disk_full:
            raise InputsFailed(
                f"stopped: {self.total - self.done} of {self.total} files are not done",
                f"Once that is mended, {self.resume}.",
            )
        if self.unsaid:
            raise self.unsaid
        if self.errors:
            count = len(self.failures)
            raise InputsFailed(f"{count} input{'s' * (count > 1)} failed, named above")
        if self.found_none and not (self.done or self.left_alone):
            raise InputsFailed(f"no {self.what} was found, so there is no result")
        if self.page_failed:
            raise InputsFailed("the report could not be written, see above; the results are complete")


def _faces(result: Result) -> dict[str, object]:
    """Those that were translated, as JSON has them: boxes are left, top, width and height."""
    faces = [
        {"box": region.subject, "score": round(region.score, 3), "angle": round(region.angle, 1)}
        for region in reversed(result.regions)
        if region.score is not None
    ]
    return {"faces": faces} if faces else {}
