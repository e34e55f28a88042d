"""What `ugatit evaluate` compares: a folder of translations, or both directions of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ugatit_cli.config import Direction
from ugatit_cli.metrics.evaluation import NEEDS_PAIRS, NEEDS_SOURCE, OF_SETS, Evaluation, Measured, Scores
from ugatit_cli.metrics.pictures import PictureSet, pairs_of
from ugatit_cli.model import Model


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

    def pairs(self) -> dict[Path, Path]:
        """The ground truth of each translated picture that has one.

        Raises:
            UsageError: none has one, or names are not unique.
        """
        return pairs_of(self.translated, self.truth) if self.truth else {}

    def source_pairs(self) -> dict[Path, Path]:
        """The same for each source picture, with the same errors."""
        return pairs_of(self.source, self.truth) if self.source and self.truth else {}


@dataclass(frozen=True)
class Outcome:
    """The figures of a comparison, and those of untouched source pictures if asked for."""

    direction: Direction | None
    scores: Scores
    baseline: Scores | None


def both_ways(a: PictureSet, b: PictureSet, truth: PictureSet | None) -> list[Comparison]:
    """A model's two directions; the ground truth is of A to B, and of B to A as well if it is domain B itself."""
    same = truth is not None and truth.folder.resolve() == b.folder.resolve()
    return [
        Comparison("a2b", a, b, source=a, truth=b if same else truth),
        Comparison("b2a", b, a, source=b, truth=a if same else None),
    ]


class Comparer:
    """Measures every folder once, however many comparisons it is part of.

    Args:
        evaluation: what measures.
        comparisons: what to compare; those that none of the metrics is about are left out.
        model: what translates, if anything.
        baseline: whether untouched source pictures are scored, too.

    Raises:
        UsageError: pairs without pictures of the same name, or whose names are not unique.
    """

    def __init__(
        self, evaluation: Evaluation, comparisons: Sequence[Comparison], model: Model | None, *, baseline: bool
    ) -> None:
        self.evaluation = evaluation
        self.model = model
        self.baseline = baseline
        metrics = evaluation.metrics
        self.comparisons = [one for one in comparisons if metrics & OF_SETS or one.truth]
        self._pairs = [one.pairs() if metrics & NEEDS_PAIRS else {} for one in self.comparisons]
        scored = self.comparisons if baseline and metrics & NEEDS_PAIRS else []
        self._source_pairs = {one.source.folder: one.source_pairs() for one in scored if one.source}
        self._folders: dict[Path, Measured] = {}

    @property
    def pictures(self) -> int:
        """How many are measured, ground truth aside, for a progress bar."""
        folders = {one.folder: len(one.files) for comparison in self.comparisons for one in self._sets(comparison)}
        return sum(folders.values()) + sum(len(one.translated.files) for one in self.comparisons)

    def _sets(self, comparison: Comparison) -> list[PictureSet]:
        """The folders that are measured beside the translations."""
        wanted = [comparison.real] if self.evaluation.metrics & OF_SETS else []
        if comparison.source and (self.baseline or self.evaluation.metrics & NEEDS_SOURCE):
            wanted.append(comparison.source)
        return wanted

    def check(self) -> None:
        """Finds out before anything is computed.

        Raises:
            UsageError: too few pictures for a subset of KID, or folders with pictures of different sizes.
        """
        for one, pairs in zip(self.comparisons, self._pairs, strict=True):
            sets = [one.translated, *self._sets(one)]
            if self.evaluation.metrics & {"kid", "kid-mixed"}:
                self.evaluation.subsets.size_for(*(len(pictures.files) for pictures in sets))
            self.evaluation.reader.check_first([*(pictures.files for pictures in sets), list(pairs.values())])

    def run(self) -> list[Outcome]:
        """Measures everything, and compares.

        Raises:
            UsageError: pictures of different sizes, or too few that can be read.
            PictureError: a folder without any that can be read.
            ModelError: the extractor is of no use.
        """
        return [self._outcome(one, pairs) for one, pairs in zip(self.comparisons, self._pairs, strict=True)]

    def _outcome(self, one: Comparison, pairs: Mapping[Path, Path]) -> Outcome:
        real, source = (
            self._measured(pictures) if pictures in self._sets(one) and pictures else None
            for pictures in (one.real, one.source)
        )
        if one.direction is None or self.model is None:
            translated = self.evaluation.folder(one.translated, pairs)
        else:
            translated = self.evaluation.translations(self.model, one.translated, one.direction, pairs)
        scores = self.evaluation.compare(translated, real, source)
        baseline = self.evaluation.compare(source, real) if self.baseline and source else None
        return Outcome(one.direction, scores, baseline)

    def _measured(self, pictures: PictureSet) -> Measured:
        if pictures.folder not in self._folders:
            truth = self._source_pairs.get(pictures.folder, {})
            self._folders[pictures.folder] = self.evaluation.folder(pictures, truth)
        return self._folders[pictures.folder]
