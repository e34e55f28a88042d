"""Tries broken files by hand: `python -m tests.fuzz TARGET ... --count 10000 --seed 0`; all targets by default."""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import TARGETS
from tests.fuzz.harness import Report, fuzz


def main() -> int:
    """Prints a line for each target, and each kind of fault once; 1 if there was any."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--count", type=int, default=1000, help="cases of each target")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where to write the cases with faults")
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.count)
    faults = 0
    for name in options.targets or TARGETS:
        with tempfile.TemporaryDirectory(prefix="ugatit-fuzz-") as folder:
            start = time.monotonic()
            report = fuzz(TARGETS[name], Path(folder), numbers, seed=options.seed)
            _say(name, report, time.monotonic() - start)
        if options.keep is not None:
            _keep(report, options.keep / name)
        faults += len(report.faults)
    return int(faults > 0)


def _say(name: str, report: Report, seconds: float) -> None:
    outcomes = ", ".join(f"{outcome} {count}" for outcome, count in report.outcomes.most_common())
    slowest, number = report.slowest
    print(
        f"{name}: {report.outcomes.total()} cases in {seconds:.0f} s, {len(report.faults)} faults; {outcomes}; "
        f"slowest {slowest:.2f} s (case {number}), memory +{report.peak >> 20} MiB",
        flush=True,
    )
    kinds = collections.defaultdict(list)
    for number, (text, _) in report.faults.items():
        kinds["\n".join(text.strip().splitlines()[-4:])].append(number)
    for text, cases in kinds.items():
        print(f"  {len(cases)} times, case {cases[0]}:\n    " + text.replace("\n", "\n    "), flush=True)


def _keep(report: Report, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, (text, content) in report.faults.items():
        (folder / f"{number}").write_bytes(content)
        (folder / f"{number}.txt").write_text(text)


if __name__ == "__main__":
    sys.exit(main())
