"""The paper's ablations, and what the default recipe adds to the paper's: KID of short trainings.

    python -m benchmarks.ablation DATA [--steps 300] [--rows u-gat-it w-in ...] [--features FILE --feature-layer NAME]
    python -m benchmarks.ablation DATA --recipes MINUTES

DATA has trainA, trainB, testA and testB. The first line trains each row of the paper's table 2, and its CycleGAN, for
equal steps from the same seeds with the default recipe; the second one the paper's recipe, that with each addition of
the default one, and the default one, for equal time. KID is that of the model that users get (with the moving average
where there is one) on held-out pictures at the training size.

Rows that are finished are kept in `--output`, and skipped when the same command runs again; it may be killed at any
moment. Exit codes are those of `ugatit`. One core takes 0.3 s for a step at 64 px with 16 channels, and 0.25 s for
the features of a picture: with the defaults about 20 minutes for all nine rows. Run from the repository root.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.ablation_tables import (
    ABLATIONS,
    ADDITIONS,
    FIGURES,
    UNTOUCHED,
    WAYS,
    ablation_table,
    additions_table,
    conditions,
    slug,
)
from benchmarks.common import machine
from ugatit_cli import __version__
from ugatit_cli.cli import console, signals
from ugatit_cli.config import Direction
from ugatit_cli.data.pictures import Folders, Preparation, find_pictures, prepare_picture, split_layout
from ugatit_cli.device import Group, resolve_device
from ugatit_cli.errors import Interrupted, UgatitError, UsageError, plain_reason
from ugatit_cli.files import write_file
from ugatit_cli.metrics.distances import Kid, Subsets, kid, mixed_kid
from ugatit_cli.metrics.features import Extractor, load_extractor
from ugatit_cli.pictures.geometry import Geometry
from ugatit_cli.training import session
from ugatit_cli.training.listeners import Listener, StepReport
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.session import Prepared
from ugatit_cli.training.settings import domain_names
from ugatit_cli.training.trainer import Machine
from ugatit_cli.translation.model import Model
from ugatit_cli.weights.folder import open_model
from ugatit_cli.wording import duration

RESULTS_FILE = "ablation.json"
SUBSETS = Subsets()
SAID_EVERY = 30.0
GO_ON = "The same command goes on where it stopped."
OTHER_FOLDER = "Name another folder: --output DIR"


@dataclass(frozen=True)
class Features:
    """Those of held-out pictures of both domains, float64 (N, D), and the pictures, uint8 (N, 3, S, S)."""

    a: Tensor
    b: Tensor
    pictures_a: Tensor
    pictures_b: Tensor


class Progress(Listener):
    """A line from time to time."""

    def __init__(self, row: str) -> None:
        self.row = row
        self._said = time.monotonic()

    def stepped(self, report: StepReport) -> None:
        """A step is done."""
        if time.monotonic() - self._said >= SAID_EVERY:
            self._said = time.monotonic()
            left = duration(report.seconds_left) if report.seconds_left is not None else "?"
            say(f"{self.row}: step {report.step}, {report.progress:.0%}, {left} left")


def say(text: str) -> None:
    """Progress goes to stderr: stdout has the table only."""
    print(text, file=sys.stderr, flush=True)


def stored(path: Path) -> dict[str, Any]:
    """What a JSON file of results has so far: table -> its protocol and rows; nothing if there is no such file.

    Raises:
        UsageError: it can't be read, or has something else.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for table in document.values():
            dict(table["protocol"])
            for one in (one for seeds in table["rows"].values() for one in seeds.values()):
                math.fsum(one[way][name] for way in WAYS for names in FIGURES for name in names)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path}: {plain_reason(error)}", OTHER_FOLDER) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{path}: damaged, or not of this benchmark", f"Delete it. {OTHER_FOLDER}") from error
    return document


class Bench:
    """Rows of one table: trained, measured, and kept on disk.

    Args:
        options: see `parse`.
        table: its name in the JSON file and below the output folder.
        rows: name -> what the user of `ugatit train` would say.
    """

    def __init__(self, options: argparse.Namespace, table: str, rows: Mapping[str, dict[str, Any]]) -> None:
        self.options = options
        self.table = table
        self.rows = rows
        self.path = options.output / RESULTS_FILE
        self.document = stored(self.path)
        self.machine = Machine(resolve_device(options.device), 1, Group())
        self.folders = split_layout(options.data.absolute())
        self.extractor = load_extractor(options.features, options.feature_layer, device=self.machine.device)
        self.results: dict[str, dict[str, Any]] = self._mine(self.document.get(table))

    def _mine(self, before: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
        """The results so far, which must be of the same protocol. A command that measures nothing leaves no trace."""
        results = before["rows"] if before is not None else {}
        if before is not None and results and before["protocol"] != self.protocol:
            names = ", ".join(name for name, value in self.protocol.items() if before["protocol"].get(name) != value)
            raise UsageError(f"{self.path}: measured with another {names}", OTHER_FOLDER)
        self.document[self.table] = {"protocol": self.protocol, "rows": results}
        return results

    @functools.cached_property
    def protocol(self) -> dict[str, Any]:
        """What figures must have in common to stand in one table."""
        options, count = self.options, len(self.held_out[0])
        length = {"steps": options.steps} if options.recipes is None else {"minutes": options.recipes}
        return {
            "data": str(self.folders.a.parent),
            "size": options.size,
            "channels": options.channels,
            **length,
            "pictures": count,
            "extractor": self.extractor.name,
            "subsets": {"count": SUBSETS.count, "size": SUBSETS.size_for(count), "seed": SUBSETS.seed},
            "threads": options.threads,
            **machine(self.machine.device),
            "ugatit": __version__,
        }

    def _write(self) -> None:
        text = json.dumps(self.document, indent=2, ensure_ascii=False) + "\n"
        write_file(self.path, text.encode())

    @functools.cached_property
    def held_out(self) -> tuple[list[Path], list[Path]]:
        """So many of testA and testB, spread over them evenly; of pairs, never both."""
        folders: Folders = self.folders
        if folders.test_a is None or folders.test_b is None:
            raise UsageError(f"{folders.a.parent}: has no testA and testB", "KID is that of held-out pictures.")
        files = find_pictures(folders.test_a), find_pictures(folders.test_b)
        if [path.name for path in files[0]] == [path.name for path in files[1]]:
            files = files[0][::2], files[1][1::2]  # KID takes the two sets for independent
        count = min(len(one) for one in files)
        count = min(count, self.options.pictures or count)
        a, b = ([one[i * len(one) // count] for i in range(count)] for one in files)
        return a, b

    @functools.cached_property
    def real(self) -> Features:
        """Held-out pictures at the training size and their features; takes its time, once."""
        preparation = Preparation(self.options.size, fit="squash", jitter=False)
        pictures = [
            torch.from_numpy(np.stack([prepare_picture(path, preparation) for path in files])).permute(0, 3, 1, 2)
            for files in self.held_out
        ]
        return Features(self.extractor(pictures[0]), self.extractor(pictures[1]), *pictures)

    # --- Rows ------------------------------------------------------------------------------------------

    def prepared(self, row: str, seed: int) -> Prepared:
        """What `ugatit train` would make of it. Raises the errors of `session.prepare`."""
        options = self.options
        length = {"iterations": options.steps} if options.recipes is None else {"minutes": options.recipes}
        names = dict(zip(("domain_a", "domain_b"), domain_names(self.folders), strict=True))
        given = {"image_size": options.size, "channels": options.channels, "seed": seed, **length, **names}
        rarely = {"checkpoint_every": "2m", "sample_every": str(10**9), "keep": 1}
        return session.prepare(
            self.run_folder(row, seed), given | rarely | self.rows[row], self.folders, self.machine
        )

    def run_folder(self, row: str, seed: int) -> RunFolder:
        """A row's own."""
        return RunFolder(self.options.output / self.table / f"{slug(row)}-{seed}")

    def waiting(self) -> list[tuple[str, int]]:
        """Rows and seeds that are not finished."""
        wanted = self.options.rows or [slug(row) for row in self.rows]
        rows = [row for row in self.rows if slug(row) in wanted]
        pairs = [(row, seed) for seed in range(self.options.seeds) for row in rows]
        return [(row, seed) for row, seed in pairs if str(seed) not in self.results.get(row, {})]

    def work(self) -> None:
        """Does what is not done yet. Raises the errors of `Prepared.train`."""
        waiting = {pair: self.prepared(*pair) for pair in self.waiting()}
        if waiting:
            self._estimate(list(waiting.values()))
        if UNTOUCHED not in self.results:
            self._keep(UNTOUCHED, 0, self.compared(self.real.pictures_a, self.real.pictures_b))
        for (row, seed), prepared in waiting.items():
            say(f"{row}, seed {seed}: training")
            start = time.monotonic()
            with signals.interruptible() as stop:
                settings, outcome = prepared.train(Progress(row), stop)
            if not outcome.finished:
                raise Interrupted("interrupted", GO_ON)
            seconds = time.monotonic() - start
            measured = self.evaluated(self.run_folder(row, seed))
            trained = {"steps": outcome.step, "seconds in the last process": round(seconds, 1)}
            self._keep(row, seed, measured | trained | {"precision": settings.precision})

    def _keep(self, row: str, seed: int, result: dict[str, Any]) -> None:
        self.results.setdefault(row, {})[str(seed)] = result
        self._write()
        say(f"{row}, seed {seed}: " + ", ".join(f"{way} {100 * result[way]['kid']:.2f}" for way in WAYS))

    def _estimate(self, waiting: list[Prepared]) -> None:
        """Says how long it will take: of the first row, a few steps and the features of real pictures."""
        start = time.monotonic()
        count = 2 * len(self.real.a)
        each = time.monotonic() - start
        seconds = 60 * (self.options.recipes or 0)
        if self.options.recipes is None:
            with signals.interruptible() as stop:
                _, cost = waiting[0].dry_run(Listener(), stop)
            seconds = self.options.steps / cost.steps_per_second
        total = duration(len(waiting) * (seconds + each))
        say(
            f"{len(waiting)} trainings of {duration(seconds)}, "
            f"{duration(each)} for the features of "
            f"{count} pictures after each: about {total}"
        )

    # --- Measuring -------------------------------------------------------------------------------------

    def evaluated(self, run: RunFolder) -> dict[str, Any]:
        """KID of a run's model in both directions, see `compared`."""
        folder, device = open_model(run.path), str(self.machine.device)
        model = Model.from_folder(run.path.name, folder, device=device, precision="fp32")
        to_b = self._translated(model, self.real.pictures_a, "a2b")
        return self.compared(to_b, self._translated(model, self.real.pictures_b, "b2a"))

    def compared(self, to_b: Tensor, to_a: Tensor) -> dict[str, Any]:
        """By direction: KID to the target with its deviation over subsets (not times 100), and KID to both domains.

        Args:
            to_b, to_a: what was made of pictures of the other domain, uint8 (N, 3, S, S).
        """
        real = self.real
        sides = {"a2b": (to_b, real.b, real.a), "b2a": (to_a, real.a, real.b)}
        results = {}
        for way, (pictures, target, source) in sides.items():
            features = self._features_of(pictures)
            one, both = kid(features, target, SUBSETS), mixed_kid(features, target, source, SUBSETS)
            results[way] = {"kid": one.mean, "std": one.std, **_mixed(both)}
        return results

    def _features_of(self, pictures: Tensor) -> Tensor:
        extractor: Extractor = self.extractor
        known = {id(self.real.pictures_a): self.real.a, id(self.real.pictures_b): self.real.b}
        return known[id(pictures)] if id(pictures) in known else extractor(pictures)

    def _translated(self, model: Model, pictures: Tensor, direction: Direction) -> Tensor:
        side = (self.options.size, self.options.size)
        geometry = Geometry(side, side, side)
        found = model.translate_pixels(list(pictures.permute(0, 2, 3, 1).numpy()), direction, geometry)
        return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)


def _mixed(both: Kid) -> dict[str, float]:
    return {"kid to both": both.mean, "std to both": both.std}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; ends the process with exit code 2 where it makes no sense."""
    description, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a folder with trainA, trainB, testA, testB")
    known = [", ".join(map(slug, rows)) for rows in (ABLATIONS, ADDITIONS)]
    of_both = f"some of: {known[0]}; with --recipes: {known[1]}"
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help=of_both)
    parser.add_argument("--recipes", type=float, metavar="MINUTES", help="the table of recipes, so long each")
    parser.add_argument("--steps", type=int, default=300, help="of each row, without --recipes")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each row")
    parser.add_argument("--pictures", type=int, default=100, help="held-out pictures of each domain; 0: all")
    parser.add_argument(
        "--features", type=Path, metavar="FILE", help="a local Inception-v3; default: the standard one"
    )
    parser.add_argument("--feature-layer", metavar="NAME")
    parser.add_argument("--output", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    rows = ABLATIONS if options.recipes is None else ADDITIONS
    if unknown := set(options.rows) - {slug(row) for row in rows}:
        parser.error(f"no row {', '.join(sorted(unknown))}; it is {of_both}")
    for name, least in (("steps", 1), ("seeds", 1), ("pictures", 0), ("threads", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name} {getattr(options, name)}: must be at least {least}")
    if options.recipes is not None and not 0 < options.recipes < math.inf:
        parser.error(f"--recipes {options.recipes}: must be more than 0")
    return options


def run(options: argparse.Namespace) -> None:
    """Trains, measures, prints.

    Raises:
        UgatitError: see `Bench.work`.
    """
    torch.set_num_threads(options.threads)
    table, rows = ("ablation", ABLATIONS) if options.recipes is None else ("recipes", ADDITIONS)
    bench = Bench(options, table, rows)
    bench.work()
    draw = ablation_table if options.recipes is None else additions_table
    print(draw(bench.results, domain_names(bench.folders)))
    print(f"\n{conditions(bench.protocol)}")


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
