"""How good translations are: sets of pictures through an extractor, and the figures that compare them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ugatit_cli.config import Direction
from ugatit_cli.errors import PictureError, UsageError
from ugatit_cli.geometry import SizeOptions, from_network, plan_geometry, to_network
from ugatit_cli.metrics.distances import INSTALL, Kid, Subsets, feature_distance, fid, kid, mixed_kid
from ugatit_cli.metrics.features import Extractor
from ugatit_cli.metrics.pictures import PictureSet, Reader
from ugatit_cli.model import Model

Metric = Literal["kid", "kid-mixed", "fid", "feature-distance", "ssim", "psnr", "l1"]

METRICS: Final[tuple[Metric, ...]] = get_args(Metric)
NEEDS_PAIRS: Final[frozenset[Metric]] = frozenset({"feature-distance", "ssim", "psnr", "l1"})
NEEDS_SOURCE: Final[frozenset[Metric]] = frozenset({"kid-mixed"})
OF_SETS: Final[frozenset[Metric]] = frozenset({"kid", "kid-mixed", "fid"})
NEEDS_FEATURES: Final[frozenset[Metric]] = OF_SETS | {"feature-distance"}
OF_PIXELS: Final[frozenset[Metric]] = frozenset({"ssim", "psnr", "l1"})
# Side of the window that SSIM looks through (Wang et al. 2004).
SSIM_WINDOW: Final = 11

Batches = Iterable[tuple[list[Path], Tensor]]


@dataclass(frozen=True, eq=False)
class Measured:
    """What is kept of a set of pictures.

    Attributes:
        features: float64 (N, D).
        pairs: how many of them have a ground truth.
        values: of each metric of pairs, its values, one for each of them.
    """

    features: Tensor
    pairs: int
    values: Mapping[Metric, Tensor]

    @property
    def count(self) -> int:
        """How many pictures."""
        return len(self.features)

    @property
    def equal_pairs(self) -> int:
        """How many of the pairs don't differ in any pixel, if PSNR was measured."""
        return int(self.values["psnr"].isinf().sum()) if "psnr" in self.values else 0

    def mean(self, metric: Metric) -> float | None:
        """Of a metric of pairs; PSNR is that of pairs which differ, and infinite if there are none."""
        if not self.pairs:
            return None
        values = self.values[metric]
        finite = values[values.isfinite()]
        return float(finite.mean() if len(finite) else values.mean())


@dataclass(frozen=True)
class Scores:
    """Figures of one set of translations.

    Attributes:
        pictures, real, pairs: how many there were.
        equal_pairs: how many of the pairs don't differ in any pixel, if PSNR was measured: its mean is of the rest.
        values: in the order of `METRICS`; PSNR is in dB, infinite if all pairs are equal, the rest without unit; `l1`
            is the mean absolute difference of values in [0, 1].
    """

    pictures: int
    real: int
    pairs: int
    equal_pairs: int
    values: Mapping[Metric, Kid | float]


@dataclass
class Evaluation:
    """One extractor, one set of metrics, and all that was measured with them.

    Attributes:
        extractor: None if no metric needs one.
        metrics: those to compute.
        reader: reads pictures.
        subsets: of KID.
        advance: called for each picture.
    """

    extractor: Extractor | None
    metrics: frozenset[Metric]
    reader: Reader
    subsets: Subsets = field(default_factory=Subsets)
    advance: Callable[[], None] = lambda: None
    _known: dict[Path, Tensor] = field(default_factory=dict)

    def folder(self, pictures: PictureSet, truth: Mapping[Path, Path] | None = None) -> Measured:
        """Measures the pictures of a folder.

        Args:
            truth: the ground truth of those that have one.

        Raises:
            UsageError: pictures of different sizes.
            PictureError: none can be read.
        """
        return self._measured(self.reader.batches(pictures.files), str(pictures.folder), truth or {}, real=True)

    def translations(
        self, model: Model, pictures: PictureSet, direction: Direction, truth: Mapping[Path, Path] | None = None
    ) -> Measured:
        """Measures what a model makes of the pictures of a folder; the reader makes them as large as it takes them.

        Raises:
            as `folder`.
        """
        read = self.reader.batches(pictures.files)
        batches = ((files, _translated(model, batch, direction)) for files, batch in read)
        return self._measured(batches, f"translations of {pictures.folder}", truth or {})

    def compare(self, translated: Measured, real: Measured | None, source: Measured | None = None) -> Scores:
        """The figures of translations, or of untouched pictures.

        Args:
            real: pictures of the target domain, for metrics of sets.
            source: what the translations were made of, for `kid-mixed`.

        Raises:
            UsageError: too few pictures.
        """
        computed = {
            metric: self._of_sets(metric, translated, real, source) if metric in OF_SETS else translated.mean(metric)
            for metric in METRICS
            if metric in self.metrics
        }
        values = {metric: value for metric, value in computed.items() if value is not None}
        found = real.count if real else 0
        return Scores(translated.count, found, translated.pairs, translated.equal_pairs, values)

    def _of_sets(
        self, metric: Metric, translated: Measured, real: Measured | None, source: Measured | None
    ) -> Kid | float | None:
        if real is None:
            return None
        if metric == "kid":
            return kid(translated.features, real.features, self.subsets)
        if metric == "fid":
            return fid(translated.features, real.features)
        if source is None or source is translated:  # untouched pictures are at no distance from themselves
            return None
        return mixed_kid(translated.features, real.features, source.features, self.subsets)

    def _measured(self, batches: Batches, name: str, truth: Mapping[Path, Path], *, real: bool = False) -> Measured:
        """Measures pictures; `real`: they are what is in their files."""
        features: list[Tensor] = []
        pairs: list[dict[Metric, Tensor]] = []
        for files, batch in batches:
            rows = self._real_features(files, batch) if real else self._features(batch)
            features.append(rows)
            for i, path in enumerate(files):
                target = self.reader.one(truth[path]) if path in truth else None
                if target is not None:
                    pairs.append(self._of_pair(rows[i : i + 1], batch[i : i + 1], truth[path], target))
                self.advance()
        if not features:
            raise PictureError(f"{name}: no picture can be read", "Give pictures that can be opened.")
        values = {
            metric: torch.stack([one[metric] for one in pairs]).double() for metric in (pairs[0] if pairs else ())
        }
        return Measured(torch.cat(features), len(pairs), values)

    def _of_pair(self, features: Tensor, picture: Tensor, file: Path, truth: Tensor) -> dict[Metric, Tensor]:
        """All metrics of a pair: features (1, D) and pixels (1, 3, H, W), and the ground truth that is in `file`."""
        values = {metric: pixel_metric(metric, picture, truth) for metric in self.metrics & OF_PIXELS}
        if "feature-distance" in self.metrics:
            distance = feature_distance(features, self._real_features([file], truth))
            values["feature-distance"] = torch.tensor(distance, dtype=torch.float64)
        return values

    def _features(self, batch: Tensor) -> Tensor:
        """float64 (N, D); without an extractor (N, 0)."""
        if self.extractor is None:
            return torch.empty(len(batch), 0, dtype=torch.float64)
        return self.extractor(batch)

    def _real_features(self, files: Sequence[Path], batch: Tensor) -> Tensor:
        """The same of pictures as they are in their files, which are often in two sets: computed once."""
        if not all(path in self._known for path in files):
            self._known |= zip(files, torch.split(self._features(batch), 1), strict=True)
        return torch.cat([self._known[path] for path in files]) if files else self._features(batch)


def _translated(model: Model, pictures: Tensor, direction: Direction) -> Tensor:
    """uint8 (N, 3, H, W) -> uint8 (N, 3, H, W), as `ugatit translate --fit native` writes them."""
    height, width = pictures.shape[2:]
    plan = plan_geometry((width, height), model.config, SizeOptions("native"))
    step = model.batch_size(plan)
    parts = [pictures[:0]]
    for batch in torch.split(pictures, step):
        frames = [to_network(Image.fromarray(one.permute(1, 2, 0).numpy()), plan) for one in batch]
        for pixels in model.translate_pixels(frames, direction, plan):
            parts.append(torch.from_numpy(np.array(from_network(pixels, plan))).permute(2, 0, 1)[None])  # noqa: PERF401
    return torch.cat(parts)


def check_installed(metrics: Collection[Metric]) -> None:
    """Finds out before anything is computed.

    Raises:
        UsageError: one of the metrics needs a package that isn't installed.
    """
    for needing, package in ((OF_SETS, "torch_fidelity"), ({"ssim", "psnr"}, "torchmetrics")):
        if needing & set(metrics) and importlib.util.find_spec(package) is None:
            raise UsageError(f"evaluating needs {package.replace('_', '-')}, which isn't installed", INSTALL)


def pixel_metric(metric: Metric, translated: Tensor, truth: Tensor) -> Tensor:
    """SSIM, PSNR in dB, or the mean absolute difference of values in [0, 1], of a pair.

    Args:
        translated, truth: uint8 (1, 3, H, W).

    Raises:
        UsageError: pictures are too small for SSIM.
    """
    # float32: torchmetrics' convolutions take fifteen times as long in float64.
    x, y = (pictures.float() / 255 for pictures in (translated, truth))
    if metric == "l1":
        return (x - y).abs().mean()
    from torchmetrics.functional import image

    if metric == "psnr":
        return image.peak_signal_noise_ratio(x, y, data_range=1.0)
    if min(x.shape[2:]) < SSIM_WINDOW:
        raise UsageError(f"ssim needs pictures of {SSIM_WINDOW} pixels or more", "Use --size, or other --metrics.")
    return cast(Tensor, image.structural_similarity_index_measure(x, y, data_range=1.0))
