"""What the benchmarks share: candidates that take turns, one table, one layout of JSON.

Machines are noisy, so candidates take turns, round by round within one run, and ratios of medians are what counts.
Each is a process of its own: so are its threads, its memory and its environment.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ugatit_cli.device import describe_device, peak_memory, resolve_device

RESULTS = Path(__file__).parent / "results"
# Threads wait awake for a while when their work is done: those of the one whose turn it was.
PAUSE = 0.03
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
PACKAGES = ("torch", "onnxruntime", "openvino")
VARIABLES = ("ATEN_", "DNNL_", "GOMP_", "LD_PRELOAD", "MALLOC_", "MKL_", "OMP_", "ONEDNN_")


@dataclass(frozen=True)
class Work:
    """What a candidate does.

    Attributes:
        run: a turn of it.
        pieces: of work in a turn, such as pictures; times are those of one.
        figures: what else is known of the candidate, for the table.
    """

    run: Callable[[], object]
    pieces: int = 1
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """One of those that take turns.

    Attributes:
        name: in the table.
        work: `module:function` that makes its `Work`.
        arguments: of that function; anything that JSON holds.
        environment: variables of its process, besides ours.
    """

    name: str
    work: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def make(self) -> Work:
        """Its work, here."""
        module, _, function = self.work.partition(":")
        work: Work = getattr(importlib.import_module(module), function)(**self.arguments)
        return work


Turn = dict[str, float]
"""`seconds` and `cpu_seconds` of a piece of work, the process's peak `memory` in bytes, and the work's figures."""


def turn(work: Work) -> Turn:
    """Does the work once."""
    time.sleep(PAUSE)
    start, cpu = time.perf_counter(), time.process_time()
    work.run()
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    memory = peak_memory(torch.device("cuda" if on_gpu else "cpu"))
    spent = {"seconds": seconds / work.pieces, "cpu_seconds": cpu_seconds / work.pieces}
    return {**spent, "memory": memory, **work.figures}


class Process:
    """A candidate in a process of its own."""

    def __init__(self, candidate: Candidate) -> None:
        self.name = candidate.name
        command = [sys.executable, "-m", "benchmarks.common", candidate.work, json.dumps(candidate.arguments)]
        environment = {**os.environ, **candidate.environment}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, text=True, env=environment, **pipes)  # type: ignore[call-overload]

    def turn(self) -> Turn:
        """Takes its turn.

        Raises:
            ChildProcessError: it has ended.
        """
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise ChildProcessError(f"{self.name}: its process has ended; it is left out")
        found: Turn = json.loads(answer)
        return found

    def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()


@dataclass(frozen=True)
class Comparison:
    """Candidates' turns, the first candidate being the one that others are compared with.

    Attributes:
        title: what is compared, and of what the times are.
        turns: by candidate.
    """

    title: str
    turns: Mapping[str, Sequence[Turn]]

    def figures(self) -> dict[str, dict[str, Any]]:
        """By candidate: medians, the `quartiles` of seconds, `times_as_fast` as the first, all `seconds`."""
        found: dict[str, dict[str, Any]] = {}
        for name, turns in self.turns.items():
            medians = {key: float(np.median([turn[key] for turn in turns])) for key in turns[0]}
            seconds = [turn["seconds"] for turn in turns]
            quartiles = np.percentile(seconds, [25, 75]).tolist()
            base = next(iter(found.values()), medians)["seconds"]
            found[name] = {**medians, "quartiles": quartiles, "times_as_fast": base / medians["seconds"]}
            found[name]["all_seconds"] = seconds
        return found

    def table(self) -> Table:
        """For people."""
        figures = self.figures()
        more = list(dict.fromkeys(key for turns in self.turns.values() for key in turns[0]))[3:]
        header = ["ms", "quartiles", "times as fast", "CPU ms", "peak MB", *more]
        table = Table("", *header, title=self.title)
        for name, one in figures.items():
            cells = [_ms(one["seconds"]), " to ".join(map(_ms, one["quartiles"])), f"{one['times_as_fast']:.2f}"]
            cells += [_ms(one["cpu_seconds"]), f"{one['memory'] / 1e6:,.0f}"]
            table.add_row(name, *cells, *(f"{one[key]:.1f}" if key in one else "" for key in more))
        return table


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.{0 if seconds > 1 else 1 if seconds > 0.01 else 3}f}"


def compare(title: str, candidates: Iterable[Candidate], *, rounds: int, warmup: int) -> Comparison:
    """Candidates take turns, round by round; prints what comes of it. One whose process ends is left out.

    Args:
        title: what is compared, and of what the times are.
        rounds: that count.
        warmup: rounds before those.
    """
    processes: dict[str, Process] = {}
    turns: dict[str, list[Turn]] = {}
    try:
        for candidate in candidates:
            processes[candidate.name] = Process(candidate)
            turns[candidate.name] = []
        for number in range(warmup + rounds):
            for name in list(turns):
                try:
                    taken = processes[name].turn()
                except ChildProcessError as error:
                    _console().print(str(error))
                    del turns[name]
                    continue
                if number >= warmup:
                    turns[name].append(taken)
    finally:
        for process in processes.values():
            process.close()
    comparison = Comparison(title, turns)
    _console().print(comparison.table())
    return comparison


def machine(device: object) -> dict[str, object]:
    """What a figure depends on."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    return {
        "device": describe_device(resolve_device(str(device))),
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "instructions": [name for name in INSTRUCTIONS if name in info],
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Of Python and of what computes, as far as it is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write(name: str, comparisons: Iterable[Comparison], *, device: object = "cpu") -> None:
    """Writes `results/NAME.json`: what was compared, where, when, and the command that does it again."""
    found = []
    for one in comparisons:
        found.append({"title": one.title, "candidates": one.figures()})
        path = _save(name, {"machine": machine(device), "comparisons": found})
    _console().print(f"written to {path}")


def report(name: str, header: list[str], rows: list[list[str]], data: Mapping[str, object]) -> None:
    """Prints a table of what isn't time and writes `results/NAME.json`."""
    table = Table(*header, title=name)
    for row in rows:
        table.add_row(*row)
    _console().print(table)
    _console().print(f"written to {_save(name, data)}")


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160)


def _save(name: str, data: Mapping[str, object]) -> Path:
    record = {
        "command": shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "threads": torch.get_num_threads(),
        "environment": {key: value for key, value in sorted(os.environ.items()) if key.startswith(VARIABLES)},
        "versions": versions(),
        **data,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return path


def command_line(documentation: str | None, *, rounds: int, warmup: int = 2) -> argparse.ArgumentParser:
    """Options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=rounds, help="that count")
    parser.add_argument("--warmup", type=int, default=warmup, help="rounds before those")
    return parser


def main() -> None:
    """A candidate's process: takes a turn for each line on standard input."""
    work = Candidate("", sys.argv[1], json.loads(sys.argv[2])).make()
    for _ in sys.stdin:
        print(json.dumps(turn(work)), flush=True)


if __name__ == "__main__":
    main()
