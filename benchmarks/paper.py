"""The paper's comparison on any two folders: every method and ablation, trained alike, in its tables.

    python -m benchmarks.paper DATA --iterations 20000 [--methods cyclegan w-o-cam ...] [--seeds 3] [--jobs 2]
    python -m benchmarks.paper DATA --minutes 45 [--additions] [--features FILE --feature-layer NAME]

DATA has trainA, trainB, testA and testB (or is the name of a data set). Every row is what a user gets: `ugatit
train`, `ugatit translate` of both test sets and `ugatit evaluate` of the translations, as programs; for equal
steps or equal time, from equal seeds. What can't be trained here (CartoonGAN without its VGG19) is said and left out.

In `--output`: paper.json and paper.md (also printed), contact sheets, runs/ROW-SEED, which any `ugatit` command
takes, translations/ROW-SEED/a2b, and logs. Rows that are finished are kept, and skipped when the same command runs
again; it may be killed at any moment. Ctrl-C and SIGTERM save what is being trained, and print and write the tables
of what is finished. Exit codes are those of `ugatit`. Run from the repository root.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from benchmarks.commands import GO_ON, Commands
from benchmarks.common import machine
from benchmarks.paper_sheet import contact_sheet, spread
from benchmarks.paper_tables import (
    FIGURES,
    PAPER_DATA,
    PLAIN,
    UNTOUCHED,
    WAYS,
    Row,
    conditions,
    cost_table,
    groups,
    kid_table,
)
from ugatit_cli import __version__
from ugatit_cli.cli import console, signals
from ugatit_cli.data.pictures import find_pictures
from ugatit_cli.datasets.fetch import DataSet
from ugatit_cli.device import resolve_device
from ugatit_cli.errors import InputsFailed, Interrupted, UgatitError, UsageError, plain_reason
from ugatit_cli.files import write_file
from ugatit_cli.methods.recipe import RECIPES
from ugatit_cli.methods.registry import method, read_networks
from ugatit_cli.pictures.encoding import encode
from ugatit_cli.pictures.reading import from_pil
from ugatit_cli.training.settings import as_option, domain_names
from ugatit_cli.wording import duration

RESULTS_FILE, TABLES_FILE = "paper.json", "paper.md"
OTHER_FOLDER = "Name another folder: --output DIR"

Pair = tuple[Row, int]
"""A row and its seed."""


def say(text: str) -> None:
    """Progress goes to stderr: stdout has the tables only."""
    print(text, file=sys.stderr, flush=True)


def stored(path: Path) -> dict[str, Any]:
    """What a JSON file of results has so far: `protocol` and `rows`; nothing if there is no such file.

    Raises:
        UsageError: it can't be read, or has something else.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        dict(document["protocol"])
        for one in (one for row in document["rows"].values() for one in row["seeds"].values()):
            kids = [one[way][name] for way in WAYS if way in one for name in FIGURES if name in one[way]]
            math.fsum(kid[of] for kid in kids for of in ("mean", "std"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path}: {plain_reason(error)}", OTHER_FOLDER) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{path}: damaged, or not of this benchmark", f"Delete it. {OTHER_FOLDER}") from error
    return document


class Bench:
    """Rows: trained, translated, measured, and kept on disk.

    Args:
        options: see `parse`.
        run: runs commands.

    Attributes:
        results: see `paper_tables.Results`.
        left_out: why rows have no results, by their titles.
    """

    def __init__(self, options: argparse.Namespace, run: Commands) -> None:
        self.options = options
        self.run = run
        self.path: Path = options.output / RESULTS_FILE
        self.data: DataSet = console.find_data(options.data)
        self.groups = groups(additions=options.additions)
        self.left_out: dict[str, str] = {}
        self._writing = threading.Lock()
        before = stored(self.path)
        self.results: dict[str, dict[str, Any]] = before.get("rows", {})
        if before.get("protocol", self.protocol) != self.protocol:
            names = [name for name, value in self.protocol.items() if before["protocol"].get(name) != value]
            raise UsageError(f"{self.path}: measured with another {', '.join(names)}", OTHER_FOLDER)

    @functools.cached_property
    def held_out(self) -> dict[str, Path]:
        """The folders that each way starts from.

        Raises:
            UsageError: there are none.
        """
        a, b = self.data.folders.test_a, self.data.folders.test_b
        if a is None or b is None:
            raise UsageError(f"{self.data.path}: has no testA and testB", "KID is that of held-out pictures.")
        return {"a2b": a.absolute(), "b2a": b.absolute()}

    @functools.cached_property
    def protocol(self) -> dict[str, Any]:
        """What figures must have in common to stand in one table."""
        options = self.options
        length = "iterations" if options.minutes is None else "minutes"
        return {
            "data": str(self.data.path.absolute()),
            "pictures": [len(find_pictures(folder)) for folder in self.held_out.values()],
            **{name: getattr(options, name) for name in ("size", "channels", length, "recipe", "threads", "jobs")},
            "features": str(options.features) if options.features else "standard",
            "layer": options.feature_layer,
            **machine(resolve_device(options.device)),
            "ugatit": __version__,
        }

    @property
    def rows(self) -> list[Row]:
        """Those that are wanted, each once."""
        every = {row.name: row for rows in self.groups.values() for row in rows}
        return [every[name] for name in self.options.methods or every]

    def waiting(self) -> list[Pair]:
        """Rows and seeds that are not finished."""
        pairs = [(row, seed) for seed in range(self.options.seeds) for row in self.rows]
        return [
            (row, seed) for row, seed in pairs if str(seed) not in self.results.get(row.name, {}).get("seeds", {})
        ]

    # --- Commands --------------------------------------------------------------------------------------

    def _log(self, name: str) -> Path:
        """Where commands say what they do: there from now on, so that it can be named."""
        path = Path(self.options.output, "logs", f"{name}.log")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    def run_folder(self, row: Row, seed: int) -> Path:
        """Where a row is trained."""
        return Path(self.options.output, "runs", f"{row.name}-{seed}")

    def _training(self, row: Row, seed: int) -> list[object]:
        options = self.options
        length = {"iterations": options.iterations} if options.minutes is None else {"minutes": options.minutes}
        sizes = {"image_size": options.size, "channels": options.channels}
        # Nothing that costs time and isn't part of the comparison.
        rarely = {"checkpoint_every": "2m", "sample_every": 10**9, "keep": 1}
        given = {"recipe": options.recipe, **sizes, **length, "seed": seed, **rarely, **row.settings}
        if options.vgg and "vgg" in method(given.get("method", "ugatit")).settings:
            given["vgg"] = options.vgg.absolute()
        words = [word for name, value in given.items() for word in as_option(name, value).split(" ", 1)]
        return [
            "train",
            "--data",
            self.data.path,
            "-o",
            self.run_folder(row, seed),
            *words,
            "--device",
            options.device,
        ]

    def _translate(self, row: Row, seed: int, way: str) -> Path:
        """Translates a test set; every picture and what was made of it stand in a JSON file beside the folder."""
        options, output = self.options, Path(self.options.output, "translations", f"{row.name}-{seed}", way)
        words = ["translate", self.held_out[way], "-m", self.run_folder(row, seed), "--direction", way, "-o", output]
        words += ["--fit", "squash", "--size", "model", "--format", "png", "--overwrite", "--device", options.device]
        self.run(words, self._log(f"{row.name}-{seed}"), _made(output))
        return output

    def _evaluate(self, name: str, way: str, translated: Path, *source: object) -> dict[str, Any]:
        """KIDs of a folder of translations, as `ugatit evaluate` says them, and by which features."""
        options, real = self.options, self.held_out["b2a" if way == "a2b" else "a2b"]
        words = ["evaluate", translated, real, *source, "--size", options.size, "--device", options.device]
        words += ["--metrics", "kid,kid-mixed" if source else "kid"]
        words += ["--features", options.features] if options.features else []
        words += ["--feature-layer", options.feature_layer] if options.feature_layer else []
        (document,) = self.run(words, self._log(name))
        found = {kid: document["translated"][kid] for kid in FIGURES if kid in document["translated"]}
        return {**found, "extractor": document["extractor"]}

    # --- Work ------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Does what is not done yet.

        Raises:
            UsageError: no row can be trained as asked for, or the pictures can't be measured.
            Interrupted: it was told to end.
            InputsFailed: rows failed, each of them named; the others are finished.
        """
        waiting = self._possible()
        if UNTOUCHED.name not in self.results:  # also finds out whether anything can be measured
            say("untouched pictures: measuring")
            found = {way: self._evaluate("untouched", way, self.held_out[way]) for way in WAYS}
            self._keep(UNTOUCHED, 0, found)
            say(f"all are measured by {found['a2b']['extractor']}")
        if waiting:
            self._estimate(waiting)
        failed = 0
        with ThreadPoolExecutor(self.options.jobs) as executor:
            try:
                futures = {executor.submit(self._finish, *pair): pair for pair in waiting}
                for future in as_completed(futures):
                    error = future.exception()
                    if isinstance(error, UgatitError) and not isinstance(error, Interrupted):
                        failed += 1
                        self._leave_out(futures[future][0], error)
                    elif error is not None:
                        self.run.stop.set()
                        raise error
            except KeyboardInterrupt:
                self.run.kill()
                raise
        if failed:
            raise InputsFailed(f"{failed} trainings failed, named above", f"The rest is in {self.path}. {GO_ON}")

    def _possible(self) -> list[Pair]:
        """What is waiting and can be trained here: a dry run says so, and what it costs."""
        waiting, errors = self.waiting(), []
        for row in dict.fromkeys(row for row, _ in waiting):
            if "cost" in self.results.get(row.name, {}):
                continue
            say(f"{row.title}: dry run")
            try:
                (found,) = self.run([*self._training(row, 0), "--dry-run"], self._log(row.name))
            except Interrupted:
                raise
            except UgatitError as error:
                self._leave_out(row, error)
                errors.append(error)
            else:
                ways = list(read_networks(found).directions)
                self.results[row.name] = {"cost": found["estimate"], "ways": ways, "seeds": {}}
        if errors and len(errors) == len({row for row, _ in waiting}):
            raise errors[0]
        return [(row, seed) for row, seed in waiting if row.title not in self.left_out]

    def _leave_out(self, row: Row, error: UgatitError) -> None:
        self.left_out[row.title] = error.message
        say(f"{row.title}: left out: {error.message}. {error.hint}")

    def _estimate(self, waiting: Sequence[Pair]) -> None:
        seconds = [60 * (self.options.minutes or 0)] * len(waiting)
        if self.options.minutes is None:
            paces = [self.results[row.name]["cost"]["steps_per_second"] for row, _ in waiting]
            seconds = [self.options.iterations / pace for pace in paces]
        total = duration(max(sum(seconds) / self.options.jobs, *seconds, 0))
        count = f"{len(waiting)} training{'s' * (len(waiting) != 1)}"
        say(f"{count}, {self.options.jobs} at a time: about {total}, and what measuring takes")

    def _finish(self, row: Row, seed: int) -> None:
        """Trains, translates and measures a row."""
        self.run.check()
        name = f"{row.name}-{seed}"
        say(f"{row.title}, seed {seed}: training ({self._log(name)})")
        (trained,) = self.run(self._training(row, seed), self._log(name))
        found = {"steps": trained["step"], "seconds": trained["elapsed"]}
        for way in self.results[row.name]["ways"]:
            translated = self._translate(row, seed, way)
            found[way] = self._evaluate(name, way, translated, "--source", self.held_out[way])
        self._keep(row, seed, found)

    def _keep(self, row: Row, seed: int, result: Mapping[str, Any]) -> None:
        with self._writing:
            self.results.setdefault(row.name, {"seeds": {}})["seeds"][str(seed)] = result
            document = {"protocol": self.protocol, "rows": self.results}
            write_file(self.path, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
        kids = (f"{way} {result[way][PLAIN]['mean']:.2f}" for way in WAYS if way in result)
        say(f"{row.title}, seed {seed}: {', '.join(kids)}")

    # --- What comes of it ------------------------------------------------------------------------------

    def finished(self, rows: Sequence[Row]) -> list[Row]:
        """Those of the rows that have results."""
        return [row for row in rows if self.results.get(row.name, {}).get("seeds")]

    @property
    def any_finished(self) -> bool:
        """Whether there is anything to make tables of."""
        return any(self.finished(rows) for rows in self.groups.values())

    def told_to_end(self) -> tuple[str, str]:
        """What is finished by then, and the way on."""
        every, later = len(self.rows) * self.options.seeds, len(self.waiting())
        tables = f"Their tables are in {self.options.output / TABLES_FILE}. " if later < every else ""
        return f"interrupted; {every - later} of {every} trainings are finished", tables + GO_ON

    def draw_sheets(self) -> Iterator[Path]:
        """A contact sheet for each table and way: pictures are spread evenly over those that are held out."""
        names = dict(zip(WAYS, domain_names(self.data.folders), strict=True))
        for name, rows in zip(("methods", "ablations", "additions"), self.groups.values(), strict=False):
            for way, folder in self.held_out.items():
                columns = {row.title: self._translations(row, way) for row in self.finished(rows)}
                if columns := {title: found for title, found in columns.items() if found}:
                    sources = spread(find_pictures(folder), self.options.pictures)
                    sheet = contact_sheet(sources, columns, self.options.size, names[way])
                    path = Path(self.options.output, f"{name}-{way}.png")
                    write_file(path, encode(from_pil(sheet), "PNG"))
                    yield path

    def _translations(self, row: Row, way: str) -> dict[Path, Path]:
        """Pictures and what the row's first seed made of them."""
        path = _made(Path(self.options.output, "translations", f"{row.name}-0", way))
        if way not in self.results[row.name]["ways"] or not path.exists():
            return {}
        lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return {Path(one["input"]): Path(one["output"]) for one in lines if "output" in one}

    def report(self) -> str:
        """The tables in Markdown."""
        names = domain_names(self.data.folders)
        parts = [f"# The paper's comparison on {self.data.path.name}"]
        for title, rows in self.groups.items():
            if self.finished(rows):
                parts += [f"## {title}", kid_table(rows, self.results, names, self.options.beside)]
                parts += [cost_table(rows, self.results)]
        parts.append(conditions(self.protocol, self.results[UNTOUCHED.name]["seeds"]["0"]["a2b"]["extractor"]))
        parts += [f"Left out: {title} ({reason})." for title, reason in self.left_out.items()]
        if later := [f"{row.title} (seed {seed})" for row, seed in self.waiting() if row.title not in self.left_out]:
            parts.append(f"Not finished: {', '.join(later)}. {GO_ON}")
        parts += [f"![Rows: pictures, columns: methods]({path.name})" for path in self.draw_sheets()]
        return "\n\n".join(parts) + "\n"


def _made(translations: Path) -> Path:
    """What `ugatit translate` said of a folder of translations."""
    return translations.with_suffix(".jsonl")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; ends the process with exit code 2 where it makes no sense."""
    description, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="a folder with trainA, trainB, testA, testB, or a data set's name")
    lengths = parser.add_mutually_exclusive_group(required=True)
    lengths.add_argument("--iterations", type=int, metavar="N", help="steps of each row")
    lengths.add_argument("--minutes", type=float, metavar="M", help="training time of each row instead")
    parser.add_argument("--methods", nargs="+", default=[], metavar="ROW", help="only these; default: all")
    parser.add_argument("--additions", action="store_true", help="also what the default recipe adds, one by one")
    parser.add_argument("--seeds", type=int, default=1, metavar="K", help="of each row; default: %(default)s")
    parser.add_argument("--recipe", choices=RECIPES, default="default", help="of all; default: %(default)s")
    parser.add_argument("--size", type=int, default=64, help="side of pictures in pixels; default: %(default)s")
    parser.add_argument("--channels", type=int, default=16, help="of all networks; default: %(default)s")
    parser.add_argument(
        "--beside",
        choices=PAPER_DATA,
        default=PAPER_DATA[0],
        help="the paper's; default: %(default)s",
    )
    parser.add_argument("--pictures", type=int, default=8, help="rows of a contact sheet; default: %(default)s")
    parser.add_argument("--features", type=Path, metavar="FILE", help="a local Inception-v3; default: the standard")
    parser.add_argument("--feature-layer", metavar="NAME", help="of that Inception-v3")
    parser.add_argument("--vgg", type=Path, metavar="FILE", help="a local VGG19 for CartoonGAN")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time; default: %(default)s")
    parser.add_argument("--threads", type=int, metavar="N", help="of each; default: its share of the cores")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps; default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("runs/paper"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    known = dict.fromkeys(row.name for rows in groups(additions=True).values() for row in rows)
    if unknown := set(options.methods) - known.keys():
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    options.additions = options.additions or any(
        name not in {row.name for rows in groups(additions=False).values() for row in rows}
        for name in options.methods
    )
    if options.additions and options.recipe != "default":
        parser.error("--additions are those of --recipe default")
    for name in ("iterations", "seeds", "pictures", "jobs", "threads"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"--{name} {value}: must be at least 1")
    if options.minutes is not None and not 0 < options.minutes < math.inf:
        parser.error(f"--minutes {options.minutes}: must be more than 0")
    options.threads = options.threads or max(1, torch.get_num_threads() // options.jobs)
    options.output = options.output.absolute()
    options.features = options.features and options.features.absolute()
    return options


def run(options: argparse.Namespace) -> None:
    """Trains, measures, prints.

    Raises:
        UgatitError: see `Bench.work`.
    """
    with signals.interruptible() as stop:
        bench = Bench(options, Commands(options.threads, stop))
        try:
            bench.work()
        except (Interrupted, KeyboardInterrupt):
            raise Interrupted(*bench.told_to_end()) from None
        finally:
            if UNTOUCHED.name in bench.results and (bench.any_finished or not stop.is_set()):
                text = bench.report()
                write_file(options.output / TABLES_FILE, text.encode())
                print(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, by default that of the process, and returns the exit code."""
    try:
        run(parse(arguments))
    except KeyboardInterrupt:
        error: UgatitError = Interrupted("interrupted", GO_ON)
    except UgatitError as caught:
        error = caught
    else:
        return 0
    console.show_error(error)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
