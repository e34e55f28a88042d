"""`ugatit evaluate`: how good translations, or a model's, are in figures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from ugatit_cli import wording
from ugatit_cli.cli import console, ranks
from ugatit_cli.cli.options import (
    MOST_WORKERS,
    ColumnsOption,
    DeviceOption,
    MaxPixelsOption,
    PrecisionOption,
    WorkersOption,
    default_workers,
    options_of,
    parse_columns,
    parse_count,
    parse_pixels,
)
from ugatit_cli.errors import InputsFailed, Interrupted, UgatitError, UsageError
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
NO_FIGURES: Final = "interrupted; there are no figures yet"
MIXED: Final = "source-mixed KID: mean of the KIDs to target and source, as the paper's figures very likely are"


# --- For programs --------------------------------------------------------------------------------------


Results = Sequence[tuple["Model | None", Sequence["Comparison"], Sequence["Scores"]]]
"""What was found for each model, or for the translations that were given."""


def _documents(evaluation: Evaluation, results: Results, held: HeldOut | None) -> dict[str, Any]:
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


def _report(evaluation: Evaluation, results: Results, held: HeldOut | None) -> list[str]:
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
        causes = [wording.FOREIGN if model and _run_of(model.name) is None else wording.TOO_SHORT]
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

    run = _run_of(name)
    try:
        return Settings.of_run(run) if run else None
    except UgatitError:
        return None


def _run_of(name: str) -> RunFolder | None:
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


SECTIONS: Final = {
    "Two folders": ("translated", "real", "source", "baseline"),
    "Or a model": ("model", "domain_a", "domain_b", "data", "columns", "style"),
    "Figures": (
        "metrics",
        "pairs",
        "extractor",
        "features",
        "feature_layer",
        "subsets",
        "subset_size",
        "seed",
        "size",
        "json_document",
    ),
    "Speed": ("device", "precision", "workers", "max_pixels"),
}


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What `evaluate` is asked for: each field is an option."""

    translated: Annotated[Path | None, typer.Argument(metavar="TRANSLATED", help="Folder of translations.")] = None
    real: Annotated[
        Path | None, typer.Argument(metavar="REAL", help="Folder of real pictures of the look that they should have.")
    ] = None
    source: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="What was translated: for the source-mixed KID and --baseline."),
    ] = None
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Ground truth: pictures with the names of the translated ones. With --model: of A to B; "
            "domain B's folder serves both ways.",
        ),
    ] = None
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="M,M",
            help="Some of kid, kid-mixed, fid, feature-distance, ssim, psnr, l1.  "
            "[default: all that the folders allow]",
        ),
    ] = None
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Translate with this model, both ways, and evaluate that; several: a column for each. A run's "
            "alone: of the pictures that it held out.",
            show_default=False,
        ),
    ] = None
    style: Annotated[
        str | None,
        typer.Option(
            metavar="random:SEED",
            help="Of munit and drit models: other random styles.  [default: random:0]",
            show_default=False,
        ),
    ] = None
    domain_a: Annotated[Path | None, typer.Option(metavar="DIR", help="Real pictures of the first look.")] = None
    domain_b: Annotated[Path | None, typer.Option(metavar="DIR", help="Real pictures of the second look.")] = None
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Instead of these: a data set, whose testA and testB are taken, and are pairs if it says so. A name "
            "(`ugatit data` lists them), a folder, or hub:OWNER/NAME.",
        ),
    ] = None
    columns: ColumnsOption = None
    baseline: Annotated[
        bool,
        typer.Option(
            "--baseline", help="Also say how far the untouched source is from the target; always with a run's own."
        ),
    ] = False
    features: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Instead of --extractor: an Inception-v3 as safetensors, named as torchvision does.",
        ),
    ] = None
    extractor: Annotated[
        Literal["auto", "inception", "bundled"],
        typer.Option(
            help="Whose features are compared: the standard Inception-v3's, downloaded once, or those of a bundled "
            "network, whose figures compare only with each other. auto: the first if it can be had.",
        ),
    ] = "auto"
    feature_layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its layer to take the mean of.  [default: Mixed_7c]")
    ] = None
    subsets: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="Subsets that KID is the mean of.")
    ] = 100
    subset_size: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=2, help="Pictures in a subset.  [default: half of the smaller set, at most 1000]"
        ),
    ] = None
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="Another number, other subsets.")] = 0
    size: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            min=16,
            max=4096,
            help="Make all pictures PX x PX first.  [default: as they are; with --model: the model's size]",
        ),
    ] = None
    device: DeviceOption = "auto"
    precision: PrecisionOption = "auto"
    workers: WorkersOption = "auto"
    max_pixels: MaxPixelsOption = "300M"
    json_document: Annotated[bool, typer.Option("--json", help="The figures on stdout as one JSON document.")] = False


@options_of(EvaluateOptions, SECTIONS)
@ranks.together
def evaluate(options: EvaluateOptions) -> None:
    """Say in figures how close translations come to real pictures.

    Either of two folders, `ugatit evaluate TRANSLATED REAL`; or of a model, which translates first: `ugatit evaluate
    --model MODEL --domain-a A --domain-b B`. A training run has pictures of its own, those that it held out: `ugatit
    evaluate --model RUN`. KID and FID, where less is better, compare all of one with all of the other. Figures of
    other extractors, sizes or numbers of pictures don't compare.

    Examples:

    `ugatit evaluate --model runs/horses2zebras`

    `ugatit evaluate out/ zebras/ --source horses/ --baseline`

    `ugatit evaluate out/ clay/ --pairs clay/`

    `ugatit evaluate --model flat2clay --domain-a flat/ --domain-b clay/ --pairs clay/ --json`

    `ugatit evaluate -m runs/ugatit -m runs/cyclegan --data horse2zebra`
    """
    # Pillow warns of large pictures and odd metadata; what matters is reported with its path.
    warnings.filterwarnings("ignore", module="PIL")
    options = _with_data(options)
    _check(options)
    chosen = _metrics(options)
    threads = parse_count("--workers", options.workers, MOST_WORKERS) or default_workers()
    most = parse_pixels(options.max_pixels)

    from ugatit_cli.data.pictures import find_set, passed_over
    from ugatit_cli.device import resolve_device
    from ugatit_cli.metrics.distances import Subsets
    from ugatit_cli.metrics.features import load_extractor
    from ugatit_cli.metrics.scores import (
        NEEDS_FEATURES,
        Comparison,
        Evaluation,
        Reader,
        both_ways,
        check_installed,
    )
    from ugatit_cli.pictures.jobs import in_words

    models = _models(options)
    held = _held_out(options, threads, most)
    folders = (options.translated, options.real, options.source, options.pairs, options.domain_a, options.domain_b)
    mine, theirs, made_of, truth, a, b = (find_set(expanded(path)) if path else None for path in folders)
    for each in dict.fromkeys(filter(None, (mine, theirs, made_of, truth, a, b))):
        if others := passed_over(each.folder):
            console.note(f"{each.folder}: {in_words(others)}")
    if held:
        a, b = held.a, held.b
    wanted = both_ways(a, b, truth) if a and b else []
    if mine and theirs:
        wanted = [Comparison(None, mine, theirs, made_of, truth)]
    check_installed(chosen)
    reader, of_kid = Reader(options.size, threads, most), Subsets(options.subsets, options.subset_size, options.seed)
    evaluation = Evaluation(None, chosen, reader, of_kid, seed=_seed(options, models))
    evaluation.baseline = options.baseline or held is not None
    evaluation.share = ranks.joined()
    if models:
        reader.side = options.size or models[0].config.image_size
    try:
        asked: list[tuple[Model | None, list[Comparison]]] = [(None, wanted)]
        if models:
            asked = [(one, [way for way in wanted if way.direction in one.config.directions]) for one in models]
        asked = [(one, evaluation.check(comparisons)) for one, comparisons in asked]
        if chosen & NEEDS_FEATURES:
            device = resolve_device(options.device)
            evaluation.extractor = load_extractor(
                options.features, options.feature_layer, device=device, choice=options.extractor, tell=console.note
            )
            if evaluation.extractor.because:
                console.note(evaluation.extractor.because)
        results = _measured(evaluation, asked)
    except KeyboardInterrupt:  # there is nothing to keep
        raise Interrupted(NO_FIGURES) from None
    finally:
        for error in reader.broken.values():
            console.show_error(error)
    if options.json_document:
        console.ends_with(lambda: _documents(evaluation, results, held))
    else:
        console.result(*_report(evaluation, results, held))
    if reader.broken:
        count = len(reader.broken)
        raise InputsFailed(f"{count} picture{'s' * (count > 1)} left out, named above; the figures are of the rest")


def _measured(
    evaluation: Evaluation, asked: Sequence[tuple[Model | None, Sequence[Comparison]]]
) -> list[tuple[Model | None, Sequence[Comparison], Sequence[Scores]]]:
    """The figures of each model, one of which is in memory at a time."""
    results: list[tuple[Model | None, Sequence[Comparison], Sequence[Scores]]] = []
    for one, comparisons in asked:
        evaluation.model = one
        with console.progress(evaluation.count(comparisons), "pictures") as progress:
            evaluation.advance = progress.advance
            results.append((one, comparisons, evaluation.run(comparisons)))
        if one is not None:
            one.unload()
    return results


def _held_out(options: EvaluateOptions, workers: int, max_pixels: int | None) -> HeldOut | None:
    """Where no pictures are named: those that the models' runs held out.

    Raises:
        UsageError: none of the models is of a run, or see `training.holdout.held_out_by`.
    """
    if not options.model or options.domain_a:
        return None
    from ugatit_cli.training.holdout import held_out_by

    runs = {name: run for name in options.model if (run := _run_of(name)) is not None}
    if not runs:
        raise UsageError(
            f"{options.model[0]} is no training run, which has held-out pictures of its own",
            "Name real pictures of both domains: --domain-a DIR --domain-b DIR",
        )
    console.note(f"looking for the pictures that {' and '.join(runs)} held out")
    try:
        found = held_out_by(runs, workers=workers, max_pixels=max_pixels)
    except KeyboardInterrupt:
        raise Interrupted(NO_FIGURES) from None
    for doubt in found.doubts:
        console.note(doubt)
    return found


def _models(options: EvaluateOptions) -> list[Model]:
    """The models, all of which can make pictures of one size.

    Raises:
        UsageError: they can't.
    """
    from ugatit_cli.translation.model import Model

    folders = {name: console.find_model(name) for name in dict.fromkeys(options.model or [])}
    sizes = {name: folder.config.image_size for name, folder in folders.items()}
    if options.size is None and len(set(sizes.values())) > 1:
        found = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise UsageError(f"these models are of different sizes: {found}", "Choose one for all: --size N")
    for name, folder in folders.items():
        if options.size not in (None, sizes[name]) and not folder.config.light:
            raise UsageError(
                f"--size {options.size}: {name} is full and takes pictures of {sizes[name]} pixels",
                "Leave --size out."
                if len(set(sizes.values())) == 1
                else f"Choose its size for all: --size {sizes[name]}",
            )
    return [
        Model.from_folder(name, folder, device=options.device, precision=options.precision)
        for name, folder in folders.items()
    ]


def _seed(options: EvaluateOptions, models: Sequence[Model]) -> int:
    """That of `--style`, if all models have styles."""
    if options.style is None:
        return 0
    from ugatit_cli.pictures.styles import seed_of
    from ugatit_cli.translation.choices import require_styles

    if (seed := seed_of(options.style)) is None:
        raise UsageError(f"--style {options.style}: evaluation takes random styles", "Like this: --style random:1")
    for model in models:
        require_styles(model.config, model.name)
    return seed


# --- What is asked for ---------------------------------------------------------------------------------


def _with_data(options: EvaluateOptions) -> EvaluateOptions:
    """With what --data says in the place of the folders."""
    columns = parse_columns(options.columns)
    if options.data is None:
        if columns is not None:
            raise UsageError("--columns is about parquet files", "Name them: --data hub:OWNER/NAME, or a folder.")
        return options
    if not options.model:
        raise UsageError("--data is the pictures of a model", "Name it: --model MODEL")
    if options.domain_a or options.domain_b:
        raise UsageError("--data contradicts --domain-a and --domain-b", "Give the one or the others.")
    found = console.find_data(options.data, columns)
    a, b = found.folders.test_a, found.folders.test_b
    if a is None or b is None:
        missing = [name for name, path in (("testA", a), ("testB", b)) if path is None]
        raise UsageError(
            f"{found.path}: has no {' and no '.join(missing)}, pictures to test with",
            "Name folders that the model hasn't seen: --domain-a DIR --domain-b DIR",
        )
    pairs = options.pairs or (b if found.paired else None)
    return replace(options, domain_a=a, domain_b=b, pairs=pairs)


def _check(options: EvaluateOptions) -> None:
    """Whether it is either translations or a model that is to be evaluated."""
    folders, domains = (options.translated, options.real), (options.domain_a, options.domain_b)
    if not options.model:
        if any(domains):
            raise UsageError("--domain-a and --domain-b are the pictures of a model", "Name it: --model MODEL")
        if options.style is not None:
            raise UsageError("--style is a model's", "Name it: --model MODEL")
        if not all(folders):
            raise UsageError(
                "two folders are needed: translations, and real pictures of their domain",
                "ugatit evaluate TRANSLATED REAL, or for a model: --model MODEL --domain-a DIR --domain-b DIR",
            )
        if options.baseline and options.source is None:
            raise UsageError("--baseline needs what was translated", "Name its folder: --source DIR")
    elif any((*folders, options.source)):
        reason = "--model makes the translations itself, from --domain-a and --domain-b"
        raise UsageError(reason, "Leave the other folders out, or --model.")
    elif any(domains) and not all(domains):
        missing = "--domain-a" if options.domain_a is None else "--domain-b"
        raise UsageError(f"{missing} is missing", "A model is evaluated with real pictures of both domains.")


def _metrics(options: EvaluateOptions) -> frozenset[Metric]:
    """`kid,fid` as metrics, if they have what they compare with; by default all that can be computed."""
    from ugatit_cli.metrics.scores import METRICS, NEEDS_PAIRS, NEEDS_SOURCE

    text = options.metrics if options.metrics is not None else ",".join(METRICS)
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        reason = f"unknown: {', '.join(unknown)}" if unknown else "none is named"
        raise UsageError(f"--metrics {text}: {reason}", f"There are: {', '.join(METRICS)}")
    chosen = set(METRICS).intersection(names)
    for needing, given, lacking, option in (
        (NEEDS_SOURCE, options.source or options.model, "what was translated", "--source DIR"),
        (NEEDS_PAIRS, options.pairs, "ground truth", "--pairs DIR"),
    ):
        if not given and chosen & needing and options.metrics is not None:
            metric = min(chosen & needing)
            raise UsageError(f"--metrics {metric} needs {lacking}", f"Name its folder: {option}")
        if not given:
            chosen -= needing
    return frozenset(chosen)
