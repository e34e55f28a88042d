"""`ugatit evaluate`: how good translations, or a model's, are in figures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from ugatit_cli.cli import console, ranks
from ugatit_cli.cli.evaluate_view import documents, report, run_of
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
from ugatit_cli.errors import InputsFailed, Interrupted, UsageError
from ugatit_cli.files import expanded

if TYPE_CHECKING:
    from ugatit_cli.metrics.scores import Comparison, Evaluation, Metric, Scores
    from ugatit_cli.training.holdout import HeldOut
    from ugatit_cli.translation.model import Model


NO_FIGURES: Final = "interrupted; there are no figures yet"
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
    """What `evaluate` is asked for: each field is an option.

    Attributes:
        stated: but this one: those fields that the command line itself says.
    """

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
    stated: frozenset[str] = frozenset()


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
        console.ends_with(lambda: documents(evaluation, results, held))
    else:
        console.result(*report(evaluation, results, held))
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

    runs = {name: run for name in options.model if (run := run_of(name)) is not None}
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
    """That of `--style`, which the command line says of models with styles only."""
    if options.style is None:
        return 0
    from ugatit_cli.pictures.styles import seed_of
    from ugatit_cli.translation.choices import require_styles

    if (seed := seed_of(options.style)) is None:
        raise UsageError(f"--style {options.style}: evaluation takes random styles", "Like this: --style random:1")
    for model in models if "style" in options.stated else ():
        require_styles(model.config, f"--style: {model.name}")
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
        if options.style is not None and "style" in options.stated:
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
