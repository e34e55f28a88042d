"""What `benchmarks.ablation` trains and how its results read: rows, the paper's figures beside ours, orders."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UNTOUCHED = "untouched"
WAYS = ("a2b", "b2a")

# What the JSON file calls a KID and its deviation: that to the target, and the mean of those to target and source.
TO_TARGET = ("kid", "std")
TO_BOTH = ("kid to both", "std to both")
FIGURES = (TO_TARGET, TO_BOTH)

# The rows of the paper's table 2 and its CycleGAN, as changes to the default recipe. All have the moving
# average and the augmentation of the default recipe: in the paper none of them has either.
ABLATIONS: dict[str, dict[str, Any]] = {
    "U-GAT-IT": {},
    "w/ IN": {"decoder_norm": "in"},
    "w/ LN": {"decoder_norm": "ln"},
    "w/ AdaIN": {"decoder_norm": "adain"},
    "w/ GN": {"decoder_norm": "gn"},
    "w/o CAM": {"generator_cam": False, "discriminator_cam": False},
    "w/o G_CAM": {"generator_cam": False},
    "w/o D_CAM": {"discriminator_cam": False},
    "CycleGAN": {"method": "cyclegan"},
}

# The paper's recipe, with each addition of the default one alone that can change what comes out in a given time.
ADDITIONS: dict[str, dict[str, Any]] = {
    "paper": {"recipe": "paper"},
    "+ moving average": {"recipe": "paper", "ema": 0.999},
    "+ augmentation": {"recipe": "paper", "augment": "on"},
    "+ one power iteration per step": {"recipe": "paper", "power_iterations": "each-step"},
    "+ learning rate 2e-4": {"recipe": "paper", "learning_rate": 2e-4},
    "+ proportions kept": {"recipe": "paper", "fit": "aspect"},
    "+ precision auto": {"recipe": "paper", "precision": "auto"},
    "default": {},
    "default, CAM loss weight 20": {"cam_weight": 20.0},
}


@dataclass(frozen=True)
class Figure:
    """KID x 100: the mean over subsets, and their standard deviation."""

    mean: float
    std: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.std:.2f}"


# Kim et al., "U-GAT-IT", ICLR 2020, table 2 (ablations) and the table of comparisons (CycleGAN): selfie2anime as a2b,
# anime2selfie as b2a. Written down from memory: only 11.61 ± 0.57 was checked against a second source.
PAPER: dict[str, dict[str, Figure]] = {
    "U-GAT-IT": {"a2b": Figure(11.61, 0.57), "b2a": Figure(11.52, 0.57)},
    "w/ IN": {"a2b": Figure(13.64, 0.76), "b2a": Figure(13.58, 0.8)},
    "w/ LN": {"a2b": Figure(12.39, 0.61), "b2a": Figure(13.17, 0.8)},
    "w/ AdaIN": {"a2b": Figure(12.29, 0.78), "b2a": Figure(11.81, 0.77)},
    "w/ GN": {"a2b": Figure(12.76, 0.64), "b2a": Figure(12.30, 0.77)},
    "w/o CAM": {"a2b": Figure(12.85, 0.82), "b2a": Figure(14.06, 0.75)},
    "w/o G_CAM": {"a2b": Figure(12.33, 0.68), "b2a": Figure(13.86, 0.75)},
    "w/o D_CAM": {"a2b": Figure(12.49, 0.74), "b2a": Figure(13.33, 0.89)},
    "CycleGAN": {"a2b": Figure(13.08, 0.49), "b2a": Figure(11.84, 0.74)},
}

DEVIATION = "± is the deviation over subsets of the same pictures, not that of another training."

# Row -> seed -> what was measured: see `benchmarks.ablation.Bench.evaluated`.
Results = Mapping[str, Mapping[str, Mapping[str, Any]]]


def slug(row: str) -> str:
    """A row's name on the command line and in paths: `w-o-g-cam`."""
    return re.sub(r"[^a-z0-9]+", "-", row.lower()).strip("-")


def figure(seeds: Mapping[str, Mapping[str, Any]], way: str, names: tuple[str, str] = TO_TARGET) -> Figure:
    """A row's KID x 100 in one direction, one of `FIGURES`; of several seeds the mean of means and of deviations."""
    found = [one[way] for one in seeds.values()]
    return Figure(*(100 * statistics.fmean(one[name] for one in found) for name in names))


def cell(seeds: Mapping[str, Mapping[str, Any]], way: str, names: tuple[str, str] = TO_TARGET) -> str:
    """`9.31 ± 0.42`, and in brackets each seed's mean where there are several."""
    each = [f"{100 * one[way][names[0]]:.2f}" for one in seeds.values()]
    return str(figure(seeds, way, names)) + (f" ({', '.join(each)})" if len(each) > 1 else "")


def _arrows(names: tuple[str, str]) -> list[str]:
    return [f"{names[0]} → {names[1]}", f"{names[1]} → {names[0]}"]


def _header(names: tuple[str, str]) -> list[str]:
    return [arrow + remark for arrow in _arrows(names) for remark in ("", ", to both")]


def _cells(seeds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [cell(seeds, way, names) for way in WAYS for names in FIGURES]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def ablation_table(results: Results, names: tuple[str, str]) -> str:
    """Our figures beside the paper's, and where the orders differ.

    Args:
        results: finished rows; others are left out.
        names: of the domains.
    """
    rows = []
    for row in (UNTOUCHED, *ABLATIONS):
        if row in results:
            theirs = [str(PAPER[row][way]) if row in PAPER else "" for way in WAYS]
            rows.append([row, *_cells(results[row]), *theirs])
    theirs = [f"paper, from memory: {arrow}" for arrow in ("selfie → anime", "anime → selfie")]
    parts = [
        markdown(["KID x 100, lower is better", *_header(names), *theirs], rows),
        "The paper's figures were written down from memory: only 11.61 ± 0.57 was checked against a second source. "
        "Only orders compare, as the paper has other pictures, another extractor and far longer training; and they "
        "are compared by the KID to both: the mean of those to target and source, which the paper's figures very "
        f"likely are. {DEVIATION}",
        *(orders(results, way, arrow) for way, arrow in zip(WAYS, _arrows(names), strict=True)),
    ]
    return "\n\n".join(parts)


def additions_table(results: Results, names: tuple[str, str]) -> str:
    """What each addition of the default recipe does in equal time; finished rows only."""
    rows = []
    for row in (UNTOUCHED, *ADDITIONS):
        if row in results:
            steps = [str(one["steps"]) for one in results[row].values() if "steps" in one]
            rows.append([row, *_cells(results[row]), ", ".join(steps)])
    parts = [
        markdown(["KID x 100, lower is better", *_header(names), "steps in that time"], rows),
        "All rows were trained for the same time. The default recipe is without augmentation here: its `--augment "
        "auto` is off where a run's length is given in minutes. To both: the mean of the KIDs to target and source. "
        f"{DEVIATION}",
    ]
    return "\n\n".join(parts)


def conditions(protocol: Mapping[str, Any]) -> str:
    """What all figures of a table have in common, see `benchmarks.ablation.Bench.protocol`."""
    length = f"{protocol['steps']} steps" if "steps" in protocol else f"{protocol['minutes']:g} minutes"
    return (
        f"Each row: {length} at {protocol['size']} px with {protocol['channels']} channels. KID: "
        f"{protocol['pictures']} held-out pictures of each domain, {protocol['extractor']}."
    )


@dataclass(frozen=True)
class Disagreement:
    """Two rows whose order is another one here than in the paper.

    Attributes:
        better, worse: here.
        clear: they lie farther apart than their deviations together.
    """

    better: str
    worse: str
    clear: bool


def disagreements(ours: Mapping[str, Figure], theirs: Mapping[str, Figure]) -> Iterator[Disagreement]:
    """Pairs of rows in another order than the paper's; equal figures are in no order."""
    for one, other in itertools.combinations([row for row in ours if row in theirs], 2):
        better, worse = sorted((one, other), key=lambda row: ours[row].mean)
        apart = ours[worse].mean - ours[better].mean
        if apart > 0 and theirs[better].mean > theirs[worse].mean:
            yield Disagreement(better, worse, apart > ours[better].std + ours[worse].std)


def orders(results: Results, way: str, arrow: str) -> str:
    """How many pairs of rows are in the paper's order by the KID to both, and which are not."""
    theirs = {row: figures[way] for row, figures in PAPER.items()}
    ours = {row: figure(results[row], way, TO_BOTH) for row in results if row in theirs}
    pairs, found = math.comb(len(ours), 2), list(disagreements(ours, theirs))
    text = f"{arrow}: {pairs - len(found)} of {pairs} pairs of rows are in the paper's order."
    for one in found:
        here = f"{ours[one.better].mean:.2f} < {ours[one.worse].mean:.2f}"
        there = f"{theirs[one.better].mean:.2f} > {theirs[one.worse].mean:.2f}"
        remark = "" if one.clear else ", within the deviations"
        text += f"\n- {one.better} is better than {one.worse}: {here} (the paper: {there}){remark}"
    return text
