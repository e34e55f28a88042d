"""`ugatit evaluate`: how good translations, or a model's, are in figures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ugatit_cli.cli import console, transfers
from ugatit_cli.cli.options import (
    MOST_WORKERS,
    DeviceOption,
    PrecisionOption,
    WorkersOption,
    default_workers,
    parse_count,
)
from ugatit_cli.errors import InputsFailed, Interrupted, UsageError

if TYPE_CHECKING:
    from ugatit_cli.config import ModelConfig
    from ugatit_cli.metrics.comparison import Comparison
    from ugatit_cli.metrics.evaluation import Metric
    from ugatit_cli.metrics.pictures import Reader

SMALLEST, LARGEST = 16, 4096

TranslatedArgument = Annotated[
    Path | None, typer.Argument(metavar="[TRANSLATED]", help="Folder of translations.", show_default=False)
]
RealArgument = Annotated[
    Path | None,
    typer.Argument(metavar="[REAL]", help="Folder of real pictures of the target domain.", show_default=False),
]
SourceOption = Annotated[
    Path | None,
    typer.Option("--source", metavar="DIR", help="What was translated: for the source-mixed KID and --baseline."),
]
PairsOption = Annotated[
    Path | None,
    typer.Option(
        "--pairs",
        metavar="DIR",
        help="Ground truth: pictures with the names of the translated ones. With --model: of A to B; "
        "domain B's folder serves both ways.",
    ),
]
MetricsOption = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="M,M",
        help="Some of kid, kid-mixed, fid, feature-distance, ssim, psnr, l1.  [default: all that the folders allow]",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="MODEL", help="Translate with this model, both ways, and evaluate that."),
]
DomainAOption = Annotated[
    Path | None, typer.Option("--domain-a", metavar="DIR", help="With --model: real pictures of domain A.")
]
DomainBOption = Annotated[
    Path | None, typer.Option("--domain-b", metavar="DIR", help="With --model: real pictures of domain B.")
]
BaselineOption = Annotated[
    bool, typer.Option("--baseline", help="Also say how far the untouched source is from the target.")
]
FeaturesOption = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="FILE",
        help="An Inception-v3 as safetensors, named as torchvision does.  [default: the standard one, "
        "downloaded once]",
        show_default=False,
    ),
]
FeatureLayerOption = Annotated[
    str | None,
    typer.Option(
        "--feature-layer",
        metavar="NAME",
        help="Its layer to take the mean of.  [default: Mixed_7c]",
        show_default=False,
    ),
]
SubsetsOption = Annotated[int, typer.Option("--subsets", min=1, max=100_000, help="Subsets that KID is the mean of.")]
SubsetSizeOption = Annotated[
    int | None,
    typer.Option(
        "--subset-size",
        min=2,
        help="Pictures in a subset.  [default: half of the smaller set, at most 1000]",
        show_default=False,
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of the choice of subsets.")]
SideOption = Annotated[
    int | None,
    typer.Option(
        "--size",
        metavar="PX",
        min=SMALLEST,
        max=LARGEST,
        help="Make all pictures PX x PX first.  [default: as they are; with --model: the model's size]",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="The figures on stdout as one JSON document.")]


def evaluate(
    translated: TranslatedArgument = None,
    real: RealArgument = None,
    source: SourceOption = None,
    pairs: PairsOption = None,
    metrics: MetricsOption = None,
    model: ModelOption = None,
    domain_a: DomainAOption = None,
    domain_b: DomainBOption = None,
    baseline: BaselineOption = False,
    features: FeaturesOption = None,
    feature_layer: FeatureLayerOption = None,
    subsets: SubsetsOption = 100,
    subset_size: SubsetSizeOption = None,
    seed: SeedOption = 0,
    size: SideOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    workers: WorkersOption = "auto",
    json_document: JsonOption = False,
) -> None:
    """Say in figures how close translations are to real pictures of the target domain.

    KID and FID compare two sets of pictures; they need no pairs. Where there is ground truth, --pairs adds figures of
    pairs. Figures of different extractors, sizes or numbers of pictures don't compare.

    Examples:

    `ugatit evaluate out/ zebras/ --source horses/ --baseline`

    `ugatit evaluate out/ clay/ --pairs clay/ --features inception.safetensors --feature-layer Mixed_6c`

    `ugatit evaluate --model flat2clay --domain-a flat/ --domain-b clay/ --pairs clay/ --json`
    """
    # Pillow warns of large pictures and odd metadata; what matters is reported with its path.
    warnings.filterwarnings("ignore", module="PIL")
    given = Folders(translated, real, source, pairs, domain_a, domain_b)
    check(given, model, baseline=baseline)
    chosen = parse_metrics(metrics, source=bool(source or model), pairs=pairs is not None)
    threads = parse_count("--workers", workers, MOST_WORKERS) or default_workers()

    from ugatit_cli.cli.evaluation_report import show
    from ugatit_cli.device import resolve_device
    from ugatit_cli.metrics.comparison import Comparer
    from ugatit_cli.metrics.distances import Subsets
    from ugatit_cli.metrics.evaluation import NEEDS_FEATURES, Evaluation, check_installed
    from ugatit_cli.metrics.features import load_extractor
    from ugatit_cli.metrics.pictures import Reader
    from ugatit_cli.model import Model

    comparisons = compared(given)
    check_installed(chosen)
    translator = None
    if model is not None:
        folder = transfers.find_model(model)
        size = check_side(folder.config, size)
        translator = Model.from_folder(model, folder, device=device, precision=precision)
    evaluation = Evaluation(None, chosen, Reader(size, threads), Subsets(subsets, subset_size, seed))
    with told_by(evaluation.reader):
        comparer = Comparer(evaluation, comparisons, translator, baseline=baseline)
        comparer.check()
        if chosen & NEEDS_FEATURES:
            evaluation.extractor = load_extractor(features, feature_layer, device=resolve_device(device))
        with console.progress(comparer.pictures, "pictures") as progress:
            evaluation.advance = progress.advance
            outcomes = comparer.run()
    show(evaluation, comparer.comparisons, outcomes, translator, json_document=json_document)
    if evaluation.reader.broken:
        count = len(evaluation.reader.broken)
        raise InputsFailed(f"{count} picture{'s' * (count > 1)} left out, named above; the figures are of the rest")


@contextmanager
def told_by(reader: Reader) -> Iterator[None]:
    """Names what the reader couldn't read, however it ends; Ctrl-C ends it at once, as there is nothing to keep.

    Raises:
        Interrupted: Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("interrupted; there are no figures yet") from None
    finally:
        for error in reader.broken.values():
            console.show_error(error)


# --- What is asked for ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folders:
    """The folders as options name them."""

    translated: Path | None
    real: Path | None
    source: Path | None
    pairs: Path | None
    domain_a: Path | None
    domain_b: Path | None


def check(given: Folders, model: str | None, *, baseline: bool) -> None:
    """Finds out whether it is translations or a model that is to be evaluated.

    Raises:
        UsageError: neither, or both.
    """
    folders, domains = (given.translated, given.real), (given.domain_a, given.domain_b)
    if model is None and any(domains):
        raise UsageError("--domain-a and --domain-b are the pictures of a model", "Name it: --model MODEL")
    if model is None and not all(folders):
        raise UsageError(
            "two folders are needed: translations, and real pictures of their domain",
            "ugatit evaluate TRANSLATED REAL, or for a model: --model MODEL --domain-a DIR --domain-b DIR",
        )
    if model is not None and any((*folders, given.source)):
        raise UsageError(
            "--model makes the translations itself, from --domain-a and --domain-b",
            "Leave the other folders out, or --model.",
        )
    if model is not None and not all(domains):
        missing = "--domain-a" if given.domain_a is None else "--domain-b"
        raise UsageError(f"{missing} is missing", "A model is evaluated with real pictures of both domains.")
    if baseline and model is None and given.source is None:
        raise UsageError("--baseline needs what was translated", "Name its folder: --source DIR")


def parse_metrics(text: str | None, *, source: bool, pairs: bool) -> frozenset[Metric]:
    """`kid,fid` as metrics; None: all that can be computed.

    Raises:
        UsageError: unknown ones, or those that lack what they compare with.
    """
    from ugatit_cli.metrics.evaluation import METRICS, NEEDS_PAIRS, NEEDS_SOURCE

    possible = [one for one in METRICS if (source or one not in NEEDS_SOURCE) and (pairs or one not in NEEDS_PAIRS)]
    if text is None:
        return frozenset(possible)
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    chosen = frozenset(one for one in METRICS if one in names)
    unknown = [name for name in names if name not in METRICS]
    if unknown or not chosen:
        reason = f"unknown: {', '.join(unknown)}" if unknown else "none is named"
        raise UsageError(f"--metrics {text}: {reason}", f"There are: {', '.join(METRICS)}")
    for metric in chosen.difference(possible):
        lacking = (
            ("what was translated", "--source DIR") if metric in NEEDS_SOURCE else ("ground truth", "--pairs DIR")
        )
        raise UsageError(f"--metrics {metric} needs {lacking[0]}", f"Name its folder: {lacking[1]}")
    return chosen


def compared(given: Folders) -> list[Comparison]:
    """The comparisons to make.

    Raises:
        UsageError: a folder that doesn't exist, or has no pictures.
    """
    from ugatit_cli.metrics.comparison import Comparison, both_ways
    from ugatit_cli.metrics.pictures import find_set

    translated, real, source, pairs, a, b = (
        find_set(path.expanduser()) if path else None
        for path in (given.translated, given.real, given.source, given.pairs, given.domain_a, given.domain_b)
    )
    if a is not None and b is not None:
        return both_ways(a, b, pairs)
    if translated is None or real is None:
        raise AssertionError("see `check`")
    return [Comparison(None, translated, real, source, pairs)]


def check_side(config: ModelConfig, size: int | None) -> int:
    """Side of the pictures that a model translates.

    Raises:
        UsageError: a full model takes pictures of one size only.
    """
    if size is not None and not config.light and size != config.image_size:
        raise UsageError(
            f"--size {size}: this model is full and takes pictures of {config.image_size} pixels", "Leave --size out."
        )
    return size or config.image_size
