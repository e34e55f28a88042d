"""What `ugatit evaluate` says of figures: tables, what they are of and what flatters them, JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ugatit_cli import wording
from ugatit_cli.errors import UgatitError
from ugatit_cli.files import expanded
from ugatit_cli.wording import shown

if TYPE_CHECKING:
    from ugatit_cli.config import Direction
    from ugatit_cli.metrics.distances import Kid
    from ugatit_cli.metrics.features import Extractor
    from ugatit_cli.metrics.scores import Comparison, Evaluation, Metric, Scores
    from ugatit_cli.training.holdout import HeldOut
    from ugatit_cli.training.run_folder import RunFolder
    from ugatit_cli.training.settings import Settings
    from ugatit_cli.translation.model import Model

# Of each metric: its label, digits after the point, and which values are better.
FIGURES: Final[dict[Metric, tuple[str, int, str]]] = {
    "kid": ("KID x100", 3, "lower"),
    "kid-mixed": ("source-mixed KID x100", 3, "lower"),
    "fid": ("FID", 2, "lower"),
    "feature-distance": ("feature distance of pairs", 4, "lower"),
    "ssim": ("SSIM", 4, "higher"),
    "psnr": ("PSNR dB", 2, "higher"),
    "l1": ("L1", 4, "lower"),
}
# Pictures of a set below which KID is rough.
ENOUGH: Final = 50
MIXED: Final = "source-mixed KID: mean of the KIDs to target and source, as the paper's figures very likely are"


# --- For programs --------------------------------------------------------------------------------------


Results = Sequence[tuple["Model | None", Sequence["Comparison"], Sequence["Scores"]]]
"""What was found for each model, or for the translations that were given."""


def documents(evaluation: Evaluation, results: Results, held: HeldOut | None) -> dict[str, Any]:
    """The figures for programs: of one, or a list of them for several models."""
    found = [_document(evaluation, model, scores, held) for model, _, scores in results]
    return found[0] if len(found) == 1 else {"models": found}


def _document(
    evaluation: Evaluation, model: Model | None, found: Sequence[Scores], held: HeldOut | None
) -> dict[str, Any]:
    """The figures of a model, or of given translations."""
    extractor, reader = evaluation.extractor, evaluation.reader
    values: dict[str, Any] = {
        "model": model.name if model else None,
        "precision": model.precision if model else None,
        "extractor": extractor.name if extractor else None,
        "size": list(reader.size),
        "held_out_by": str(held.run.path) if held else None,
        "left_out": [str(path) for path in reader.broken],
    }
    if model and model.config.style_size:
        values["style"] = f"random:{evaluation.seed}"
    for scores in found:
        values[scores.direction or "translated"] = _plain(scores)
        if scores.baseline:
            values[f"baseline_{scores.direction}" if scores.direction else "baseline"] = _plain(scores.baseline)
        if scores.against_untouched:
            values[scores.direction or "translated"]["against_untouched"] = scores.against_untouched
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
            figures = {"mean": 100 * value.mean, "std": 100 * value.std}
            values[f"{name}_x100"] = {**figures, "subsets": value.subsets, "subset_size": value.size}
    return values


# --- For people ----------------------------------------------------------------------------------------


def report(evaluation: Evaluation, results: Results, held: HeldOut | None) -> list[str]:
    """The figures for people: a table for each direction, with a column for each model."""
    tables: dict[Direction | None, list[tuple[Model | None, Comparison, Scores]]] = {}
    for model, comparisons, found in results:
        for comparison, scores in zip(comparisons, found, strict=True):
            tables.setdefault(scores.direction, []).append((model, comparison, scores))
    lines = []
    for columns in tables.values():
        model, comparison, scores = columns[0]
        title = _title(model, comparison)
        names = [one.name if one and len(results) > 1 else "translated" for one, _, _ in columns]
        of_all = dict(zip(names, (one for _, _, one in columns), strict=True))
        lines += [
            *_table(title, evaluation.extractor, of_all | ({"untouched": scores.baseline} if scores.baseline else {}))
        ]
        lines += [_counts(scores), ""]
    styled = [model.name for model, _, _ in results if model and model.config.style_size]
    styles = [f"styles of {', '.join(styled)}: random:{evaluation.seed}, each picture its own"] if styled else []
    notes = _notes(evaluation, [one for _, _, found in results for one in found], held)
    flattery = [*_same_network(evaluation.extractor, results), *([] if held else _seen(results))]
    return [*lines, *_judged(evaluation, results, held), *notes, *flattery, *styles]


def _title(model: Model | None, comparison: Comparison) -> str:
    if model and (way := comparison.direction):
        return f"{model.config.source(way)} -> {model.config.target(way)}"
    return f"{comparison.translated.folder} against {comparison.real.folder}"


def _judged(evaluation: Evaluation, results: Results, held: HeldOut | None) -> list[str]:
    """Whether each is better than nothing at all, or how to find out."""
    if "kid" not in evaluation.metrics:
        return []
    if not evaluation.baseline:
        option = "--baseline" if any(model for model, _, _ in results) else "--source DIR --baseline"
        return [f"{option} says how far the untouched pictures are, which a good model must clearly beat"]
    lines = []
    for model, comparisons, found in results:
        name = f"{model.name}: " if model and len(results) > 1 else ""
        causes = [wording.FOREIGN if model and run_of(model.name) is None else wording.TOO_SHORT]
        causes += [] if held else [wording.SWAPPED]
        for comparison, scores in zip(comparisons, found, strict=True):
            if scores.against_untouched:
                way = name + _title(model, comparison)
                lines.append(wording.compared(way, scores.against_untouched, *causes))
    return lines


def _same_network(extractor: Extractor | None, results: Results) -> list[str]:
    """What makes figures better than the translations are: losses on the same network."""
    from ugatit_cli.metrics.features import BUNDLED_NAME

    lines, models = [], [model for model, _, _ in results if model is not None]
    if extractor is not None and extractor.name == BUNDLED_NAME:
        flattered = [model.name for model in models if _learnt_from_features(model)]
        who = f"{', '.join(flattered)}:" if models else "models of the default recipe are"
        if flattered or not models:
            lines.append(f"{who} trained with losses on this very network, which flatters their figures")
    return lines


def _seen(results: Results) -> list[str]:
    """What makes them better, too: pictures that a run was trained on."""
    from ugatit_cli.training.holdout import lineage, way_to_unseen

    lines = []
    for model, comparisons, _ in results:
        run = _settings_of(model.name) if model else None
        runs = [run, *(before for _, before in lineage(run))] if run else []
        trained = {folder.resolve() for one in runs for folder in (one.folders.a, one.folders.b)}
        named = {folder for one in comparisons for folder in (one.translated.folder, one.real.folder)}
        seen = {str(folder) for folder in named if folder.resolve() in trained}
        if model and run and seen:
            way = way_to_unseen(model.name, run)
            lines.append(
                f"{model.name}: trained on {' and '.join(sorted(seen))}: pictures it never saw say more: {way}"
            )
    return lines


def _learnt_from_features(model: Model) -> bool:
    from ugatit_cli.methods.registry import method_of

    if "feature_weight" not in method_of(model.config).settings:
        return False
    run = _settings_of(model.name)
    if run is None:
        return model.provenance.get("recipe") == "default"
    return bool(run.recipe.feature_weight or run.recipe.judge_weight)


def _settings_of(name: str) -> Settings | None:
    """Those of the run that a model is of, as far as that can be read."""
    from ugatit_cli.training.settings import Settings

    run = run_of(name)
    try:
        return Settings.of_run(run) if run else None
    except UgatitError:
        return None


def run_of(name: str) -> RunFolder | None:
    """The run that a model is of."""
    from ugatit_cli.training.run_folder import run_at

    return run_at(expanded(name))


def _table(title: str, extractor: Extractor | None, columns: Mapping[str, Scores]) -> list[str]:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ugatit_cli.metrics.scores import OF_PIXELS

    table = Table(box=box.SIMPLE_HEAD, title=Text(shown(title)), title_justify="left", pad_edge=False)
    table.add_column("")
    for name in columns:
        table.add_column(Text(shown(name)), justify="right", overflow="fold")
    table.add_column("better is")
    for metric in next(iter(columns.values())).values:
        label, _, better = FIGURES[metric]
        if extractor and extractor.label and metric not in OF_PIXELS:
            label = f"{label}, {extractor.label}"
        table.add_row(label, *(_text(metric, scores.values.get(metric)) for scores in columns.values()), better)
    terminal = Console(width=max(100, 40 + 20 * len(columns)), emoji=False, highlight=False, color_system=None)
    with terminal.capture() as capture:
        terminal.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def _text(metric: Metric, value: Kid | float | None) -> str:
    if value is None:
        return "-"
    _, digits, _ = FIGURES[metric]
    if not isinstance(value, float):
        return f"{_rounded(100 * value.mean, digits)} +- {_rounded(100 * value.std, digits)}"
    return "infinite" if math.isinf(value) else _rounded(value, digits)


def _rounded(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0 makes 0 of -0


def _counts(scores: Scores) -> str:
    parts = [f"{scores.pictures} translated"]
    if scores.real:
        parts.append(f"{scores.real} real pictures")
    if scores.pairs:
        parts.append(f"{scores.pairs} pairs")
    if 0 < scores.equal_pairs < scores.pairs:
        parts.append(f"{scores.equal_pairs} of them equal: PSNR is that of the rest")
    return ", ".join(parts)


def _notes(evaluation: Evaluation, found: Sequence[Scores], held: HeldOut | None) -> list[str]:
    """What the figures are of: without it they can't be compared with any others."""
    extractor, (width, height) = evaluation.extractor, evaluation.reader.size
    lines = [f"features: {extractor.name}"] if extractor else []
    whose = f", those that {held.run.path} held out" if held else ""
    lines += [f"pictures: {width} x {height} pixels{whose}", *_about_kid(found, held)]
    sizes = [min(one.pictures, one.real) for one in found if "fid" in one.values]
    if extractor and sizes and min(sizes) <= extractor.dimensions:
        few = f"{extractor.dimensions} pictures or fewer"
        lines.append(f"FID of {few} is far too high: compare it with the same number only")
    return lines


def _about_kid(found: Sequence[Scores], held: HeldOut | None) -> list[str]:
    kids: dict[tuple[int, int], dict[str, None]] = {}
    for scores in found:
        for metric, value in scores.values.items():
            if not isinstance(value, float):
                kids.setdefault((value.subsets, value.size), {})[FIGURES[metric][0]] = None
    mixed = [MIXED] if any("kid-mixed" in one.values for one in found) else []
    about = "mean +- std of {} subsets of {} pictures each"
    lines = [f"{', '.join(labels)}: {about.format(*key)}" for key, labels in kids.items()]
    fewest = min((min(one.pictures, one.real) for one in found), default=ENOUGH)
    rough = [f"KID of {fewest} pictures is a rough figure: {ENOUGH} or more are better"]
    rough = [held.rough] if held and held.rough else rough
    return [*lines, *(rough if lines and fewest < ENOUGH else []), *mixed]
