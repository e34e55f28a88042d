"""How long PyTorch's threads wait for each other actively: on a machine of our own, and on one that others use, too.

    python -m benchmarks.busy [--spins 0 300 1000 3000] [--rounds 9] [--taken 1]

Each candidate has another `GOMP_SPINCOUNT`; they take turns, first with the cores free, then with so many `--taken`
by other programs. Work: a training step at 64 px with 8 channels (many small operations), and the bundled model on
four pictures.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

import ugatit_cli
from benchmarks.common import Candidate, Comparison, Work, command_line, compare, write
from benchmarks.training import make_step, sizes_of
from ugatit_cli.pictures.geometry import SizeOptions, plan_geometry

WORKS = {"A training step": "training_step", "The bundled model on four pictures": "translation"}
VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")


def training_step() -> Work:
    """A step of U-GAT-IT's losses at 64 px."""
    step = make_step("ugatit", "fp32", sizes_of("ugatit", 64, 8), torch.device("cpu"))
    return Work(lambda: step(0))


def translation() -> Work:
    """The bundled model on four pictures of 128 x 128."""
    model = ugatit_cli.load("flat2clay", device="cpu")
    geometry = plan_geometry((128, 128), model.config, SizeOptions())
    pixels = [np.zeros((128, 128, 3), np.uint8)] * 4
    return Work(lambda: model.translate_pixels(pixels, "a2b", geometry))


@contextmanager
def cores_taken(count: int) -> Iterator[None]:
    """Other programs compute meanwhile."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    """What is measured."""
    settings: dict[str, dict[str, str]] = {"PyTorch's own": {}, "one thread": {"OMP_NUM_THREADS": "1"}}
    settings |= {f"GOMP_SPINCOUNT={spins}": {"GOMP_SPINCOUNT": str(spins)} for spins in options.spins}
    for (what, work), taken in itertools.product(WORKS.items(), (0, options.taken)):
        with cores_taken(taken):
            candidates = [Candidate(name, f"benchmarks.busy:{work}", {}, one) for name, one in settings.items()]
            yield compare(f"{what}, {taken} cores taken", candidates, rounds=options.rounds, warmup=options.warmup)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_line(__doc__, rounds=9)
    parser.add_argument("--spins", type=int, nargs="+", default=[0, 300, 1000, 3000])
    parser.add_argument("--taken", type=int, default=1)
    return parser


if __name__ == "__main__":
    for variable in VARIABLES:
        os.environ.pop(variable, None)
    write("busy", comparisons(parser().parse_args()))
