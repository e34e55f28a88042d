"""How long PyTorch's threads wait for each other actively: on a machine of our own, and on one that others use, too.

    python -m benchmarks.busy [--spins 0 300 1000 3000] [--rounds 9] [--taken 1]

Each candidate is a process of its own with another `GOMP_SPINCOUNT`; they take turns, a second each, first with the
cores free, then with so many `--taken` by other programs. Work: a training step at 64 px with 8 channels (many small
operations), and the bundled model on four pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

DEFAULT = "PyTorch's own"
ONE = "one thread"
KINDS = ("train", "translate")
VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")


def training_step() -> Callable[[], object]:
    """A step of U-GAT-IT's default recipe at 64 px."""
    import torch

    from benchmarks.training import make_step, sizes_of

    step = make_step("ugatit", "fp32", sizes_of("ugatit", 64, 8), torch.device("cpu"))
    return lambda: step(0)


def translation() -> Callable[[], object]:
    """The bundled model on four pictures of 128 x 128."""
    import numpy as np

    import ugatit_cli
    from ugatit_cli.pictures.geometry import SizeOptions, plan_geometry

    model = ugatit_cli.load("flat2clay", device="cpu")
    geometry = plan_geometry((128, 128), model.config, SizeOptions())
    pixels = [np.zeros((128, 128, 3), np.uint8)] * 4
    return lambda: model.translate_pixels(pixels, "a2b", geometry)


def work(kind: str, seconds: float) -> None:
    """One process: for each line on standard input works so long; prints wall and CPU seconds per piece of work."""
    run = training_step() if kind == "train" else translation()
    run()
    for _ in sys.stdin:
        start, before, count = time.perf_counter(), _cpu(), 0
        while time.perf_counter() - start < seconds:
            run()
            count += 1
        print(json.dumps([(time.perf_counter() - start) / count, (_cpu() - before) / count]), flush=True)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def start(kind: str, seconds: float, setting: dict[str, str]) -> subprocess.Popen[str]:
    """A worker with these variables, and no others of their kind."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | setting
    command = [sys.executable, "-m", "benchmarks.busy", "--worker", kind, "--seconds", str(seconds)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def ask(worker: subprocess.Popen[str]) -> list[float]:
    """One turn."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    return list(json.loads(worker.stdout.readline()))


def compare(settings: dict[str, dict[str, str]], kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Wall and CPU seconds of each candidate, all turns of them, with the cores free and taken."""
    workers = {name: start(kind, options.seconds, setting) for name, setting in settings.items()}
    results: dict[str, Any] = {}
    for load, taken in (("free", 0), ("taken", options.taken)):
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(taken)]
        turns: dict[str, list[list[float]]] = {name: [] for name in workers}
        for number in range(1 + options.rounds):
            for name, worker in workers.items():
                turn = ask(worker)
                if number:
                    turns[name].append(turn)
        for other in others:
            other.kill()
        results[load] = turns
    for worker in workers.values():
        worker.communicate()
    return results


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spins", type=int, nargs="+", default=[0, 300, 1000, 3000])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--taken", type=int, default=1)
    parser.add_argument("--worker", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.seconds)
        return
    import torch

    from benchmarks.common import machine, report

    settings: dict[str, dict[str, str]] = {DEFAULT: {}, ONE: {"OMP_NUM_THREADS": "1"}}
    settings |= {f"GOMP_SPINCOUNT={spins}": {"GOMP_SPINCOUNT": str(spins)} for spins in options.spins}
    results = {kind: compare(settings, kind, options) for kind in KINDS}
    rows = []
    for kind, loads in results.items():
        for load, turns in loads.items():
            base = statistics.median(wall for wall, _ in turns[DEFAULT])
            for name, figures in turns.items():
                wall = sorted(wall for wall, _ in figures)
                middle, cpu = statistics.median(wall), statistics.median(cpu for _, cpu in figures)
                spread = f"{1000 * wall[0]:.0f} to {1000 * wall[-1]:.0f}"
                rows.append([kind, load, name, f"{1000 * middle:.1f}", spread])
                rows[-1] += [f"{1000 * cpu:.1f}", f"{base / middle:.2f}"]
    header = ["work", "cores", "candidate", "ms", "spread", "CPU ms", "times as fast"]
    report("busy", header, rows, {"machine": machine(torch.device("cpu")), "results": results})


if __name__ == "__main__":
    main()
