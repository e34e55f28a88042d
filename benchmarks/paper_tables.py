"""What `benchmarks.paper` trains and how its results read: rows, the paper's figures beside ours, orders."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ugatit_cli.methods.registry import METHODS, method
from ugatit_cli.wording import byte_size, duration

WAYS = ("a2b", "b2a")

# What `ugatit evaluate --json` calls KIDs, and our JSON file: to the target, and the mean of target and source.
PLAIN, MIXED = FIGURES = ("kid_x100", "kid_mixed_x100")


@dataclass(frozen=True)
class Row:
    """A training of the tables.

    Attributes:
        name: on the command line, in paths and in the JSON file.
        title: as the paper writes it.
        settings: what the user of `ugatit train` would say, by the names of settings.
    """

    name: str
    title: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)


def _rows(settings: Mapping[str, Mapping[str, Any]]) -> tuple[Row, ...]:
    return tuple(
        Row(re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-"), title, of) for title, of in settings.items()
    )


UNTOUCHED: Final = Row("untouched", "untouched")
WHOLE: Final = "ugatit"  # what is ablated, and what has additions


def method_rows() -> tuple[Row, ...]:
    """A row for each method of the registry."""
    return tuple(Row(name, method(name).title, {"method": name}) for name in METHODS)


# The paper's table 2, as changes to U-GAT-IT.
ABLATIONS: Final = _rows(
    {
        "w/ IN": {"decoder_norm": "in"},
        "w/ LN": {"decoder_norm": "ln"},
        "w/ AdaIN": {"decoder_norm": "adain"},
        "w/ GN": {"decoder_norm": "gn"},
        "w/o CAM": {"generator_cam": False, "discriminator_cam": False},
        "w/o G_CAM": {"generator_cam": False},
        "w/o D_CAM": {"discriminator_cam": False},
    }
)

# U-GAT-IT's paper recipe, with each addition of the default one alone that can change what comes out in a given time;
# and the default recipe without each of its parts.
ADDITIONS: Final = _rows(
    {
        "paper recipe": {"recipe": "paper"},
        "+ moving average": {"recipe": "paper", "ema": 0.999},
        "+ augmentation": {"recipe": "paper", "augment": "on"},
        "+ one power iteration per step": {"recipe": "paper", "power_iterations": "each-step"},
        "+ proportions kept": {"recipe": "paper", "fit": "aspect"},
        "+ precision auto": {"recipe": "paper", "precision": "auto"},
        "- pairs: cycle of both": {"cycle": "joint"},
        "- features": {"feature_weight": 0.0},
        "- judge": {"judge_weight": 0.0},
        "- copying first": {"warm_up": "off"},
        "- batches of 4": {"batch_size": 1},
        "- CAM loss weight 5": {"cam_weight": 1000.0},
        "- cycle weight 5": {"cycle_weight": 10.0},
        "- identity weight 1": {"identity_weight": 10.0},
        "- EMA": {"ema": 0.0},
        "- bfloat16": {"precision": "fp32"},
        "- Adam 0.9, 0.99": {"beta1": 0.5, "beta2": 0.999, "weight_decay": 1e-4},
    }
)


def groups(*, additions: bool) -> dict[str, tuple[Row, ...]]:
    """The tables by their titles; U-GAT-IT stands in all of them."""
    methods = method_rows()
    whole = next(row for row in methods if row.name == WHOLE)
    found = {"Methods": methods, "Ablations of U-GAT-IT": (whole, *ABLATIONS)}
    return found | (
        {"What the default recipe adds to the paper's, and is without its parts": (*ADDITIONS, whole)}
        if additions
        else {}
    )


# --- The paper's figures -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """KID x 100: the mean over subsets, and their standard deviation."""

    mean: float
    std: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.std:.2f}"


# Kim et al., "U-GAT-IT", ICLR 2020: the tables of comparisons and of ablations. Written down from memory: only
# 11.61 ± 0.57 was checked against a second source.
_THERE = """
              selfie2anime  horse2zebra   cat2dog       photo2portrait  photo2vangogh
  ugatit      11.61 0.57    7.06 0.80     7.07 0.65     1.79 0.34       4.28 0.33
  cyclegan    13.08 0.49    8.05 0.72     8.92 0.69     1.84 0.34       5.46 0.33
  unit        14.71 0.59    10.44 0.67    8.15 0.48     1.20 0.31       4.26 0.29
  munit       13.85 0.41    11.41 0.83    10.13 0.27    4.75 0.52       13.08 0.34
  drit        15.08 0.62    9.79 0.62     10.92 0.33    5.85 0.54       12.65 0.35
  aggan       14.63 0.55    7.58 0.71     9.84 0.79     2.33 0.36       6.95 0.33
  cartoongan  15.85 0.69
  w-in        13.64 0.76
  w-ln        12.39 0.61
  w-adain     12.29 0.78
  w-gn        12.76 0.64
  w-o-cam     12.85 0.82
  w-o-g-cam   12.33 0.68
  w-o-d-cam   12.49 0.74
"""
_BACK = """
              selfie2anime  horse2zebra   cat2dog       photo2portrait  photo2vangogh
  ugatit      11.52 0.57    7.47 0.71     8.15 0.66     1.69 0.53       5.61 0.32
  cyclegan    11.84 0.74    8.00 0.66     9.94 0.36     1.82 0.36       4.68 0.36
  unit        26.32 0.92    14.93 0.75    9.81 0.34     1.42 0.24       9.72 0.33
  munit       13.94 0.72    16.47 1.04    10.39 0.25    3.30 0.47       9.53 0.35
  drit        14.85 0.60    10.98 0.55    10.86 0.24    4.76 0.72       7.72 0.34
  aggan       12.72 1.03    8.80 0.66     9.45 0.64     2.19 0.40       5.85 0.31
  w-in        13.58 0.80
  w-ln        13.17 0.80
  w-adain     11.81 0.77
  w-gn        12.30 0.77
  w-o-cam     14.06 0.75
  w-o-g-cam   13.86 0.75
  w-o-d-cam   13.33 0.89
"""

Figures = Mapping[str, Figure]
"""By names of rows."""


def _read(table: str) -> dict[str, Figures]:
    """By data set."""
    head, *lines = table.strip().splitlines()
    found: dict[str, dict[str, Figure]] = {data: {} for data in head.split()}
    for name, *numbers in map(str.split, lines):
        for data, mean, std in zip(found, numbers[::2], numbers[1::2], strict=False):
            found[data][name] = Figure(float(mean), float(std))
    return dict(found)


PAPER: Final[Mapping[str, Mapping[str, Figures]]] = {"a2b": _read(_THERE), "b2a": _read(_BACK)}
"""By way and data set."""

PAPER_DATA: Final = tuple(PAPER["a2b"])

# --- Tables --------------------------------------------------------------------------------------------

DEVIATION = "± is the deviation over subsets of the same pictures, not that of another training."

Results = Mapping[str, Mapping[str, Any]]
"""Row -> `cost`, what a dry run said, and `seeds` -> what was measured; see `benchmarks.paper.Bench`."""

Seeds = Mapping[str, Mapping[str, Any]]


def figure(seeds: Seeds, way: str, name: str = PLAIN) -> Figure | None:
    """A row's KID x 100 in one direction, if it has that; of several seeds the mean of means and of deviations."""
    found = [one[way][name] for one in seeds.values() if name in one.get(way, {})]
    return Figure(*(statistics.fmean(one[of] for one in found) for of in ("mean", "std"))) if found else None


def cell(seeds: Seeds, way: str, name: str = PLAIN) -> str:
    """`9.31 ± 0.42`, and in brackets each seed's mean where there are several; `-` for a way that it hasn't."""
    found = figure(seeds, way, name)
    if found is None:
        return "-"
    each = [f"{one[way][name]['mean']:.2f}" for one in seeds.values()]
    return str(found) + (f" ({', '.join(each)})" if len(each) > 1 else "")


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _arrows(names: Sequence[str]) -> list[str]:
    return [f"{names[0]} → {names[1]}", f"{names[1]} → {names[0]}"]


def kid_table(rows: Sequence[Row], results: Results, names: tuple[str, str], beside: str) -> str:
    """KIDs of the rows that are finished, in both directions, plain and source-mixed; the paper's beside them.

    Args:
        names: of the domains.
        beside: data set of the paper's figures.
    """
    theirs = [PAPER[way][beside] for way in WAYS]
    theirs = theirs if any(row.name in of for row in rows for of in theirs) else []
    header = ["KID x 100, lower is better"]
    header += [arrow + remark for arrow in _arrows(names) for remark in ("", ", mixed")]
    header += [f"paper, {arrow}" for arrow in _arrows(beside.split("2"))][: len(theirs)]
    lines = []
    for row in (UNTOUCHED, *rows):
        if seeds := results.get(row.name, {}).get("seeds"):
            ours = [cell(seeds, way, name) for way in WAYS for name in FIGURES]
            lines.append([row.title, *ours, *(str(of.get(row.name, "")) for of in theirs)])
    parts = [markdown(header, lines)]
    if theirs:
        ways = zip(WAYS, _arrows(names), strict=True)
        parts += [text for way, arrow in ways if (text := orders(rows, results, way, arrow, beside))]
    return "\n\n".join(parts)


def cost_table(rows: Sequence[Row], results: Results) -> str:
    """What the trainings took, of the rows that are finished."""
    header = [
        "",
        "steps",
        "training time",
        "s per step",
        "peak memory",
        "parameters that translate",
        "discriminators",
    ]
    lines = []
    for row in rows:
        if seeds := results.get(row.name, {}).get("seeds"):
            steps, seconds = (statistics.fmean(one[name] for one in seeds.values()) for name in ("steps", "seconds"))
            cost = results[row.name]["cost"]
            counts = [f"{cost[f'{of}_parameters'] / 1e6:.2f} M" for of in ("generator", "discriminator")]
            paces = [f"{steps:.0f}", duration(seconds), f"{seconds / steps:.3f}"]
            lines.append([row.title, *paces, byte_size(cost["memory_bytes"]), *counts])
    return markdown(header, lines)


def conditions(protocol: Mapping[str, Any], extractor: str) -> str:
    """What all figures of the tables have in common, and what they can't say."""
    equal = f"{protocol['iterations']} steps" if "iterations" in protocol else f"{protocol['minutes']:g} minutes"
    counts = " and ".join(map(str, protocol["pictures"]))
    return (
        f"Each row: {equal} at {protocol['size']} px with {protocol['channels']} channels, {protocol['recipe']} "
        f"recipe, threads: {protocol['threads']}, trainings at a time: {protocol['jobs']}. KID: {counts} held-out "
        f"pictures, {extractor}. Mixed: the mean of the KIDs to target and source, which the paper's figures very "
        "likely are; orders are compared by it. The paper's figures were written down from memory: only 11.61 ± 0.57 "
        "was checked against a second source. They are of other pictures, by another extractor, after far longer "
        f"training: only orders compare. {DEVIATION} Training time is without reading, evaluating and translating; "
        "peak memory is that of a process that trains a few steps."
    )


# --- Orders --------------------------------------------------------------------------------------------


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


def disagreements(ours: Figures, theirs: Figures) -> Iterator[Disagreement]:
    """Pairs of rows in another order than the paper's; equal figures are in no order."""
    for one, other in itertools.combinations([row for row in ours if row in theirs], 2):
        better, worse = sorted((one, other), key=lambda row: ours[row].mean)
        apart = ours[worse].mean - ours[better].mean
        if apart > 0 and theirs[better].mean > theirs[worse].mean:
            yield Disagreement(better, worse, apart > ours[better].std + ours[worse].std)


def orders(rows: Sequence[Row], results: Results, way: str, arrow: str, beside: str) -> str:
    """How many pairs of rows are in the paper's order by the mixed KID, and which aren't; "" of one row."""
    theirs = PAPER[way][beside]
    seeds = {
        row.name: results[row.name].get("seeds", {}) for row in rows if row.name in results and row.name in theirs
    }
    ours = {name: kid for name, of in seeds.items() if (kid := figure(of, way, MIXED)) is not None}
    pairs, found = math.comb(len(ours), 2), list(disagreements(ours, theirs))
    if not pairs:
        return ""
    lines = [f"{arrow}: {pairs - len(found)} of {pairs} pairs of rows are in the paper's order."]
    titles = {row.name: row.title for row in rows}
    for one in found:
        here = f"{ours[one.better].mean:.2f} < {ours[one.worse].mean:.2f}"
        there = f"{theirs[one.better].mean:.2f} > {theirs[one.worse].mean:.2f}"
        remark = "" if one.clear else ", within the deviations"
        lines.append(f"- {titles[one.better]} is better than {titles[one.worse]}: {here} (paper: {there}){remark}")
    return "\n".join(lines)
