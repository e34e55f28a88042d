"""All benchmarks of speed in one go: `inference`, `training`, `folder` and `attention`, each as by itself.

    python -m benchmarks.all [--quick] [--device auto] [--engines [onnxruntime openvino]]

`--quick` takes tiny networks and one round: whether everything runs, and nothing about speed. Prints a table for each
comparison and writes `results/all.json`. Run from the repository root, with `pip install -e ".[test,bench]"`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from benchmarks import attention, engines, folder, inference, training
from benchmarks.common import Comparison, write

FULL: dict[str, list[list[str]]] = {
    "inference": [[]],
    "training": [[]],
    "folder": [[], ["--channels", "64", "--files", "50"]],
    "attention": [[]],
}
QUICK: dict[str, list[list[str]]] = {
    "inference": [["--channels", "8", "--size", "64"]],
    "training": [["--channels", "4", "--sizes", "32"]],
    "folder": [["--channels", "4", "--files", "4"]],
    "attention": [["--channels", "4", "--files", "1"]],
}
MODULES = {"inference": inference, "training": training, "folder": folder, "attention": attention}


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    """What is measured."""
    engines.require(options.engines)
    rounds = ["--rounds", "1", "--warmup", "0"] if options.quick else []
    for name, runs in (QUICK if options.quick else FULL).items():
        module = MODULES[name]
        for words in runs:
            own = ["--engines", *options.engines] if name == "inference" else []
            yield from module.comparisons(
                module.parser().parse_args([*words, *own, *rounds, "--device", options.device])
            )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="tiny networks, one round: whether everything runs")
    parser.add_argument("--engines", nargs="*", choices=engines.ENGINES, default=list(engines.ENGINES))
    return parser


if __name__ == "__main__":
    options = parser().parse_args()
    write("all", comparisons(options), device=options.device)
