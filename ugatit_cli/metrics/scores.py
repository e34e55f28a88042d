"""How good translations are: sets of pictures through an extractor, and the figures that compare them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ugatit_cli.config import Direction
from ugatit_cli.data.pictures import PictureSet
from ugatit_cli.errors import PictureError, UsageError
from ugatit_cli.metrics.distances import (
    INSTALL,
    Kid,
    Subsets,
    Verdict,
    feature_distance,
    fid,
    kid,
    mixed_kid,
    verdict,
)
from ugatit_cli.metrics.features import Extractor
from ugatit_cli.metrics.sharing import Row, Share, packed, unpacked
from ugatit_cli.pictures import reading
from ugatit_cli.pictures.bounds import MAX_PIXELS
from ugatit_cli.pictures.geometry import Pixels, SizeOptions, from_network, plan_geometry, to_network
from ugatit_cli.translation.model import Model

BATCH: Final = 16
WHITE: Final = (255, 255, 255)

Size = tuple[int, int]


def pairs_of(pictures: PictureSet, truth: PictureSet) -> dict[Path, Path]:
    """For each picture that has one, the ground truth of the same name below its folder, suffixes aside.

    Raises:
        UsageError: none has one, or two pictures of a set differ by their suffix only.
    """
    mine, theirs = pictures.by_name(), truth.by_name()
    found = {mine[name]: theirs[name] for name in mine if name in theirs}
    if not found:
        raise UsageError(
            f"no picture in {pictures.folder} has the name of one in {truth.folder}",
            "--pairs takes a folder with the same file names: what each translation should look like.",
        )
    return found


@dataclass
class Reader:
    """Reads pictures as tensors of one size; those that can't be read are remembered, and the rest goes on.

    Attributes:
        side: makes all pictures square, with this side; None: they must have one size already.
        workers: threads that decode.
        max_pixels: the most that a picture may have; None: any number.
        broken: what couldn't be read.
    """

    side: int | None = None
    workers: int = 2
    max_pixels: int | None = MAX_PIXELS
    broken: dict[Path, PictureError] = field(default_factory=dict)
    _first: tuple[Path, Size] | None = None

    @property
    def size(self) -> Size:
        """Width and height of all pictures: those of the first one that was read."""
        return self._first[1] if self._first else (0, 0)

    def batches(self, files: Sequence[Path]) -> Iterator[tuple[list[Path], Tensor]]:
        """The pictures that can be read, with their files: uint8 (N, 3, H, W), N from 1 to 16.

        Raises:
            UsageError: they have different sizes.
        """
        chunks = [files[first : first + BATCH] for first in range(0, len(files), BATCH)]
        with ThreadPoolExecutor(self.workers, "ugatit-read") as pool:
            ahead = list(pool.map(self._try, chunks[0])) if chunks else []
            for chunk, following in zip(chunks, [*chunks[1:], ()], strict=True):
                waiting = [pool.submit(self._try, path) for path in following]
                kept = {path: self._kept(path, read) for path, read in zip(chunk, ahead, strict=True)}
                good = {path: pixels for path, pixels in kept.items() if pixels is not None}
                if good:
                    yield list(good), torch.stack(list(good.values()))
                ahead = [one.result() for one in waiting]

    def one(self, path: Path) -> Tensor | None:
        """A single picture, uint8 (1, 3, H, W); None if it can't be read.

        Raises:
            UsageError: it has another size.
        """
        pixels = self._kept(path, self._try(path))
        return None if pixels is None else torch.stack([pixels])

    def check_first(self, sets: Iterable[Sequence[Path]]) -> None:
        """Finds sets of different sizes before anything is computed.

        Raises:
            UsageError: their first pictures that can be read differ.
        """
        for files in sets:
            next((one for one in map(self.one, files) if one is not None), None)

    def _try(self, path: Path) -> Pixels | PictureError:
        """The first frame, upright in sRGB, on white: uint8 (H, W, 3)."""
        try:
            with reading.open_picture(path, max_pixels=self.max_pixels, first_only=True) as opened:
                picture = reading.composite(next(opened.frames()), WHITE)
                if self.side is not None and picture.size != (self.side, self.side):
                    picture = picture.resize((self.side, self.side), Image.Resampling.LANCZOS)
                return np.asarray(picture)
        except PictureError as error:
            return error
        except MemoryError:
            return PictureError(f"{path}: not enough memory to decode it")

    def _kept(self, path: Path, read: Pixels | PictureError) -> Tensor | None:
        """uint8 (3, H, W)"""
        if isinstance(read, PictureError):
            self.broken[path] = read
            return None
        height, width = read.shape[:2]
        self._first = self._first or (path, (width, height))
        first, expected = self._first
        if (width, height) != expected:
            raise UsageError(
                f"pictures have different sizes: {first} has {expected[0]}x{expected[1]} pixels, "
                f"{path} has {width}x{height}",
                "--size N makes all of them N x N pixels: sharpness counts, so take the translations' size.",
            )
        return torch.from_numpy(read.copy()).permute(2, 0, 1)


Metric = Literal["kid", "kid-mixed", "fid", "feature-distance", "ssim", "psnr", "l1"]

METRICS: Final[tuple[Metric, ...]] = get_args(Metric)
NEEDS_SOURCE: Final[frozenset[Metric]] = frozenset({"kid-mixed"})
OF_SETS: Final[frozenset[Metric]] = frozenset({"kid", "kid-mixed", "fid"})
NEEDS_PAIRS: Final[frozenset[Metric]] = frozenset(METRICS) - OF_SETS
OF_PIXELS: Final[frozenset[Metric]] = frozenset({"ssim", "psnr", "l1"})
NEEDS_FEATURES: Final[frozenset[Metric]] = frozenset(METRICS) - OF_PIXELS

See = Callable[[Sequence[Path], Tensor], tuple[Tensor, Tensor]]
"""Gives what is measured of pictures that were read, and its features: uint8 (N, 3, H, W) and float64 (N, D)."""


@dataclass(frozen=True)
class Comparison:
    """One set of translations and what it is compared with.

    Attributes:
        direction: of the model that translates; None: they are translated already.
        translated: the pictures that are measured: translations, or with a model what it translates.
        real: real pictures of the target domain.
        source: what the translations were made of, if it is known.
        truth: pictures of the target domain with the names of the translated ones, if there are any.
    """

    direction: Direction | None
    translated: PictureSet
    real: PictureSet
    source: PictureSet | None = None
    truth: PictureSet | None = None


def both_ways(a: PictureSet, b: PictureSet, truth: PictureSet | None) -> list[Comparison]:
    """A model's two directions; the ground truth is of A to B, and of B to A as well if it is domain B itself."""
    same = truth is not None and truth.folder.resolve() == b.folder.resolve()
    return [
        Comparison("a2b", a, b, source=a, truth=b if same else truth),
        Comparison("b2a", b, a, source=b, truth=a if same else None),
    ]


@dataclass(frozen=True)
class Scores:
    """Figures of one set of translations.

    Attributes:
        direction: of the model that made them; None: they were translated already.
        pictures, real, pairs: how many there were.
        equal_pairs: how many of the pairs don't differ in any pixel, if PSNR was measured: its mean is of the rest.
        values: in the order of `METRICS`; PSNR is in dB, infinite if all pairs are equal, the rest without unit; `l1`
            is the mean absolute difference of values in [0, 1].
        baseline: the same of the untouched source pictures, if asked for.
    """

    direction: Direction | None
    pictures: int
    real: int
    pairs: int
    equal_pairs: int
    values: Mapping[Metric, Kid | float]
    baseline: Scores | None = None

    @property
    def against_untouched(self) -> Verdict | None:
        """By KID, which alone has deviations; None: it or the baseline wasn't measured."""
        ours, theirs = self.values.get("kid"), self.baseline and self.baseline.values.get("kid")
        if not isinstance(ours, Kid) or not isinstance(theirs, Kid):
            return None
        return verdict(ours.mean, ours.std, theirs.mean, theirs.std)


@dataclass(frozen=True, eq=False)
class Measured:
    """What is kept of a set of pictures: features float64 (N, D), and the metrics of each pair."""

    features: Tensor
    pairs: Sequence[Mapping[Metric, Tensor]]


def _together(rows: Mapping[Path, Row]) -> Measured:
    features = torch.cat([row.features for row in rows.values()])
    return Measured(features, [row.pair for row in rows.values() if row.pair is not None])


@dataclass
class Evaluation:
    """Scores comparisons with one extractor and one set of metrics; measures every folder once.

    Attributes:
        extractor: None if no metric needs one.
        subsets: of KID.
        model: what translates, if anything.
        seed: of the random styles that it translates in, if it has styles.
        baseline: whether untouched source pictures are scored, too.
        advance: called for each picture.
        share: other processes that measure, too.
    """

    extractor: Extractor | None
    metrics: frozenset[Metric]
    reader: Reader
    subsets: Subsets = field(default_factory=Subsets)
    model: Model | None = None
    seed: int = 0
    baseline: bool = False
    advance: Callable[[], None] = lambda: None
    share: Share | None = None
    _shared: int = 0
    _known: dict[Path, Tensor] = field(default_factory=dict)
    _folders: dict[Path, Measured] = field(default_factory=dict)
    # Of each folder whose own pictures are scored: the ground truth of those that have one.
    _truths: dict[Path, dict[Path, Path]] = field(default_factory=dict)

    def check(self, comparisons: Sequence[Comparison]) -> list[Comparison]:
        """Finds out before anything is computed which comparisons any metric is about: of all runs, before the first.

        Raises:
            UsageError: too few pictures for a subset of KID, folders with pictures of different sizes, or pairs
                without pictures of the same name, or whose names are not unique.
        """
        comparisons = [one for one in comparisons if self.metrics & OF_SETS or one.truth]
        self._find_truths(comparisons)
        for one in comparisons:
            sets = [pictures.files for pictures in (one.translated, *self._sets(one))]
            truth = self._truth(one.translated, one.truth)
            if self.metrics & {"kid", "kid-mixed"}:
                self.subsets.size_for(*map(len, sets))
            self.reader.check_first([*sets, list(truth.values())])
        return comparisons

    def count(self, comparisons: Sequence[Comparison]) -> int:
        """How many pictures are measured, ground truth aside, for a progress bar."""
        sets = [pictures for one in comparisons for pictures in self._sets(one)]
        sets += [one.translated for one in comparisons if not one.direction]
        translated = sum(len(one.translated.files) for one in comparisons if one.direction)
        return translated + sum({one.folder: len(one.files) for one in sets}.values())

    def run(self, comparisons: Sequence[Comparison]) -> list[Scores]:
        """Measures everything, and compares.

        Raises:
            UsageError: pictures of different sizes, or too few that can be read.
            PictureError: a folder without any that can be read.
            ModelError: the extractor is of no use.
        """
        self._find_truths(comparisons)
        return [self._scores(one) for one in comparisons]

    def _find_truths(self, comparisons: Sequence[Comparison]) -> None:
        scored = [(one.translated, one.truth) for one in comparisons if not one.direction]
        scored += [(one.source, one.truth) for one in comparisons if self.baseline and one.source]
        self._truths |= {pictures.folder: self._truth(pictures, truth) for pictures, truth in scored}

    def _scores(self, one: Comparison) -> Scores:
        wanted = self._sets(one)
        real, source = (
            self._of_folder(pictures) if pictures in wanted else None for pictures in (one.real, one.source)
        )
        if self.model and one.direction:
            translated = self._translations(one, self.model, one.direction)
        else:
            translated = self._of_folder(one.translated)
        baseline = self._compare(None, source, real, None) if self.baseline and source else None
        return self._compare(one.direction, translated, real, source, baseline)

    def _sets(self, comparison: Comparison) -> list[PictureSet]:
        """The folders that are measured beside the translations."""
        wanted = [comparison.real] if self.metrics & OF_SETS else []
        if comparison.source and (self.baseline or self.metrics & NEEDS_SOURCE):
            wanted.append(comparison.source)
        return wanted

    def _truth(self, pictures: PictureSet, truth: PictureSet | None) -> dict[Path, Path]:
        return pairs_of(pictures, truth) if truth and self.metrics & NEEDS_PAIRS else {}

    def _of_folder(self, pictures: PictureSet) -> Measured:
        folder = pictures.folder
        if folder not in self._folders:

            def see(files: Sequence[Path], batch: Tensor) -> tuple[Tensor, Tensor]:
                return batch, self._features_of(files, batch)

            rows = self._measured(pictures.files, see, str(folder), self._truths.get(folder, {}))
            self._known |= {path: row.features for path, row in rows.items()}
            self._folders[folder] = _together(rows)
        return self._folders[folder]

    def _translations(self, one: Comparison, model: Model, direction: Direction) -> Measured:
        """The reader makes pictures as large as the model takes them."""

        def see(_: Sequence[Path], batch: Tensor) -> tuple[Tensor, Tensor]:
            made = _translated(model, batch, direction, self.seed)
            return made, self._features(made)

        truth = self._truth(one.translated, one.truth)
        return _together(self._measured(one.translated.files, see, f"translations of {one.translated.folder}", truth))

    def _compare(
        self,
        direction: Direction | None,
        translated: Measured,
        real: Measured | None,
        source: Measured | None,
        baseline: Scores | None = None,
    ) -> Scores:
        values: dict[Metric, Kid | float] = {}
        x = translated.features
        if real and "kid" in self.metrics:
            values["kid"] = kid(x, real.features, self.subsets)
        if real and source and "kid-mixed" in self.metrics:
            values["kid-mixed"] = mixed_kid(x, real.features, source.features, self.subsets)
        if real and "fid" in self.metrics:
            values["fid"] = fid(x, real.features)
        equal = 0
        for metric in METRICS:
            if metric in self.metrics & NEEDS_PAIRS and translated.pairs:
                each = torch.stack([one[metric] for one in translated.pairs]).double()
                finite = each[each.isfinite()]  # equal pairs have an infinite PSNR
                values[metric] = float(finite.mean() if len(finite) else each.mean())
                equal += len(each) - len(finite)
        reals = len(real.features) if real else 0
        return Scores(direction, len(x), reals, len(translated.pairs), equal, values, baseline)

    def _measured(self, files: Sequence[Path], see: See, name: str, truth: Mapping[Path, Path]) -> Mapping[Path, Row]:
        """In the order of `files`; several processes have measured some of them each, batch by batch."""
        found: dict[Path, Row] = {}
        share = self.share
        mine = [path for i, path in enumerate(files) if share is None or i // BATCH % share.size == share.rank]
        for some, read in self.reader.batches(mine):
            batch, rows = see(some, read)
            for i, path in enumerate(some):
                target = self.reader.one(truth[path]) if path in truth else None
                pair = target is not None and self._of_pair(rows[i : i + 1], batch[i : i + 1], truth[path], target)
                found[path] = Row(rows[i : i + 1], pair or None)
                self.advance()
        if share is not None:
            found = self._of_all(share, files, found)
        if not found:
            raise PictureError(f"{name}: no picture can be read", "Give pictures that can be opened.")
        return {path: found[path] for path in files if path in found}

    def _of_all(self, share: Share, files: Sequence[Path], mine: Mapping[Path, Row]) -> dict[Path, Row]:
        """What all processes have found, and what none of them could read."""
        self._shared += 1
        found: dict[Path, Row] = {}
        for data in share.exchange(f"measured/{self._shared}", packed(files, mine, self.reader.broken)):
            rows, broken = unpacked(files, data)
            found |= rows
            self.reader.broken |= broken
        for _ in range(len(found) - len(mine)):
            self.advance()
        return found

    def _of_pair(self, features: Tensor, picture: Tensor, file: Path, truth: Tensor) -> dict[Metric, Tensor]:
        """All metrics of a pair: features (1, D) and pixels (1, 3, H, W), and the ground truth that is in `file`."""
        values = {metric: pixel_metric(metric, picture, truth) for metric in self.metrics & OF_PIXELS}
        if "feature-distance" in self.metrics:
            distance = feature_distance(features, self._features_of([file], truth))
            values["feature-distance"] = torch.tensor(distance, dtype=torch.float64)
        return values

    def _features(self, batch: Tensor) -> Tensor:
        """float64 (N, D); without an extractor (N, 0)."""
        if self.extractor is None:
            return torch.empty(len(batch), 0, dtype=torch.float64)
        return self.extractor(batch)

    def _features_of(self, files: Sequence[Path], batch: Tensor) -> Tensor:
        """The same of pictures as they are in their files, which are often in two sets: computed once."""
        if not all(path in self._known for path in files):
            self._known |= zip(files, torch.split(self._features(batch), 1), strict=True)
        return torch.cat([self._known[path] for path in files])


def _translated(model: Model, pictures: Tensor, direction: Direction, seed: int) -> Tensor:
    """uint8 (N, 3, H, W) -> uint8 (N, 3, H, W), as `ugatit translate --fit native` writes them."""
    height, width = pictures.shape[2:]
    geometry = plan_geometry((width, height), model.config, SizeOptions("native"))
    parts = [pictures[:0]]
    frames = [to_network(Image.fromarray(one.permute(1, 2, 0).numpy()), geometry) for one in pictures]
    for pixels in model.translate_pixels(frames, direction, geometry, seed=seed):
        parts.append(torch.from_numpy(np.array(from_network(pixels, geometry))).permute(2, 0, 1)[None])  # noqa: PERF401
    return torch.cat(parts)


def check_installed(metrics: Collection[Metric]) -> None:
    """Finds out before anything is computed.

    Raises:
        UsageError: one of the metrics needs a package that isn't installed.
    """
    needing = sorted({"ssim", "psnr"} & set(metrics))
    if needing and importlib.util.find_spec("torchmetrics") is None:
        raise UsageError(f"{' and '.join(needing)}: torchmetrics isn't installed", f"{INSTALL}, or choose --metrics")


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
    if min(x.shape[2:]) < 11:  # side of the window that it looks through (Wang et al. 2004)
        raise UsageError("ssim needs pictures of 11 pixels or more", "Use a larger --size, or other --metrics.")
    return cast(Tensor, image.structural_similarity_index_measure(x, y, data_range=1.0)).clamp_max(1)
