"""How `ugatit evaluate` shows its figures: as a table for people, as JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ugatit_cli.cli import console

if TYPE_CHECKING:
    from ugatit_cli.metrics.comparison import Comparison, Outcome
    from ugatit_cli.metrics.distances import Kid
    from ugatit_cli.metrics.evaluation import Evaluation, Metric, Scores
    from ugatit_cli.model import Model

LABELS: Final[dict[Metric, str]] = {
    "kid": "KID x100",
    "kid-mixed": "source-mixed KID x100",
    "fid": "FID",
    "feature-distance": "feature distance of pairs",
    "ssim": "SSIM",
    "psnr": "PSNR dB",
    "l1": "L1",
}
DIGITS: Final[dict[Metric, int]] = {"feature-distance": 4, "ssim": 4, "l1": 4, "psnr": 2, "fid": 2}
KID_DIGITS: Final = 3
HIGHER_IS_BETTER: Final[frozenset[Metric]] = frozenset({"ssim", "psnr"})
WIDTH: Final = 100
MIXED: Final = "source-mixed KID: mean of the KIDs to target and source, as the paper's figures very likely are"


def show(
    evaluation: Evaluation,
    comparisons: Sequence[Comparison],
    outcomes: Sequence[Outcome],
    model: Model | None,
    *,
    json_document: bool,
) -> None:
    """Writes the figures to stdout.

    Raises:
        StorageError: stdout can't be written.
    """
    if json_document:
        console.result(json.dumps(document(evaluation, outcomes, model)))
        return
    lines = []
    for comparison, outcome in zip(comparisons, outcomes, strict=True):
        lines += [*_table(comparison, outcome, model), counts(outcome.scores), ""]
    console.result("\n".join([*lines, *notes(evaluation, outcomes)]))


# --- For programs --------------------------------------------------------------------------------------


def document(evaluation: Evaluation, outcomes: Sequence[Outcome], model: Model | None) -> dict[str, Any]:
    """All figures as plain values."""
    values: dict[str, Any] = {"model": model.name if model else None, "precision": model.precision if model else None}
    values["extractor"] = evaluation.extractor.name if evaluation.extractor else None
    values["size"] = list(evaluation.reader.size)
    values["left_out"] = [str(path) for path in evaluation.reader.broken]
    for outcome in outcomes:
        values[outcome.direction or "translated"] = _plain(outcome.scores)
        if outcome.baseline:
            values[f"baseline_{outcome.direction}" if outcome.direction else "baseline"] = _plain(outcome.baseline)
    return values


def _plain(scores: Scores) -> dict[str, Any]:
    values: dict[str, Any] = {"pictures": scores.pictures, "real": scores.real, "pairs": scores.pairs}
    for metric, value in scores.values.items():
        name = metric.replace("-", "_")
        if isinstance(value, float):
            values[name] = value if math.isfinite(value) else None  # JSON has no infinity
            if metric == "psnr":
                values["equal_pairs"] = scores.equal_pairs
        else:
            values[f"{name}_x100"] = {
                "mean": 100 * value.mean,
                "std": 100 * value.std,
                "subsets": value.subsets,
                "subset_size": value.size,
            }
    return values


# --- For people ----------------------------------------------------------------------------------------


def _table(comparison: Comparison, outcome: Outcome, model: Model | None) -> list[str]:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if outcome.direction and model:
        title = f"{model.config.source(outcome.direction)} -> {model.config.target(outcome.direction)}"
    else:
        title = f"{comparison.translated.folder} against {comparison.real.folder}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("")
    table.add_column("translated", justify="right")
    if outcome.baseline:
        table.add_column("untouched", justify="right")
    table.add_column("better is")
    for metric, value in outcome.scores.values.items():
        baseline = outcome.baseline.values.get(metric) if outcome.baseline else None
        cells = [_text(metric, value), *([_text(metric, baseline)] if outcome.baseline else [])]
        table.add_row(LABELS[metric], *cells, "higher" if metric in HIGHER_IS_BETTER else "lower")
    terminal = Console(width=WIDTH, emoji=False, highlight=False)
    with terminal.capture() as capture:
        terminal.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def _text(metric: Metric, value: Kid | float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return _rounded(value, DIGITS[metric])
    return f"{_rounded(100 * value.mean, KID_DIGITS)} +- {_rounded(100 * value.std, KID_DIGITS)}"


def _rounded(value: float, digits: int) -> str:
    if math.isinf(value):
        return "infinite"
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0 makes 0 of -0


def counts(scores: Scores) -> str:
    """How many pictures figures are of."""
    parts = [f"{scores.pictures} translated"]
    if scores.real:
        parts.append(f"{scores.real} real pictures")
    if scores.pairs:
        parts.append(f"{scores.pairs} pairs")
    if 0 < scores.equal_pairs < scores.pairs:
        parts.append(f"{scores.equal_pairs} of them equal: PSNR is that of the rest")
    return ", ".join(parts)


def notes(evaluation: Evaluation, outcomes: Sequence[Outcome]) -> list[str]:
    """What the figures are of: without it they can't be compared with any others."""
    width, height = evaluation.reader.size
    lines = [f"pictures: {width} x {height} pixels"]
    if evaluation.extractor:
        lines.insert(0, f"features: {evaluation.extractor.name}")
    lines += _about_kid(outcomes)
    dimensions = evaluation.extractor.dimensions if evaluation.extractor else 0
    sizes = [min(one.scores.pictures, one.scores.real) for one in outcomes if "fid" in one.scores.values]
    if sizes and min(sizes) <= dimensions:
        lines.append(f"FID of {dimensions} pictures or fewer is far too high: compare it with the same number only")
    return lines


def _about_kid(outcomes: Sequence[Outcome]) -> list[str]:
    found: dict[tuple[int, int], list[str]] = {}
    for outcome in outcomes:
        for metric, value in outcome.scores.values.items():
            if not isinstance(value, float):
                labels = found.setdefault((value.subsets, value.size), [])
                labels += [LABELS[metric]] if LABELS[metric] not in labels else []
    lines = [
        f"{', '.join(labels)}: mean +- std of {subsets} subsets of {size} pictures each"
        for (subsets, size), labels in found.items()
    ]
    return [*lines, MIXED] if any("kid-mixed" in one.scores.values for one in outcomes) else lines
