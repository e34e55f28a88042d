"""What is compared with what: folders, and both directions of a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests import tiny
from tests.evaluations import save_pictures
from tests.extractors import tiny_extractor
from ugatit_cli import load
from ugatit_cli.errors import UsageError
from ugatit_cli.metrics.distances import Subsets, kid
from ugatit_cli.metrics.scores import (
    METRICS,
    Comparer,
    Comparison,
    Evaluation,
    Metric,
    Outcome,
    PictureSet,
    Reader,
    both_ways,
    find_set,
)
from ugatit_cli.translation.model import Model

Folders = dict[str, PictureSet]


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Flat and clay pictures of the same names, translations of the flat ones, and other clay ones."""
    counts = {"flat": 6, "clay": 6, "out": 6, "more": 9}
    return {
        name: find_set(save_pictures(tmp_path / name, count, size=(32, 32), seed=seed))
        for seed, (name, count) in enumerate(counts.items())
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(str(tiny.save(tmp_path_factory.mktemp("light") / "tiny")), device="cpu", precision="fp32")


class Counting:
    """An evaluation that notes how many pictures were read, went through the extractor, and were told of."""

    def __init__(self, *metrics: Metric, side: int | None = None) -> None:
        self.extracted = self.advanced = 0
        tiny_one = tiny_extractor()

        def network(pictures: Tensor) -> Tensor:
            self.extracted += len(pictures)
            return tiny_one.network(pictures)

        def advance() -> None:
            self.advanced += 1

        extractor = dataclasses.replace(tiny_one, network=network)
        self.evaluation = Evaluation(extractor, frozenset(metrics), Reader(side), Subsets(count=5), advance)

    def run(
        self, comparisons: list[Comparison], model: Model | None = None, *, baseline: bool = False
    ) -> list[Outcome]:
        comparer = Comparer(self.evaluation, comparisons, model, baseline=baseline)
        comparer.check()
        assert (self.extracted, self.advanced) == (0, 0)
        outcomes = comparer.run()
        assert comparer.pictures == self.advanced
        return outcomes


def test_a_folder_of_translations(folders: Folders) -> None:
    counting = Counting("kid", "fid")
    (outcome,) = counting.run([Comparison(None, folders["out"], folders["more"])])
    assert (outcome.direction, outcome.baseline) == (None, None)
    assert (outcome.scores.pictures, outcome.scores.real, outcome.scores.pairs) == (6, 9, 0)
    assert counting.extracted == 15


def test_the_untouched_source_is_the_baseline(folders: Folders) -> None:
    counting = Counting(*METRICS)
    comparison = Comparison(None, folders["out"], folders["clay"], folders["flat"], folders["clay"])
    (outcome,) = counting.run([comparison], baseline=True)
    assert list(outcome.scores.values) == list(METRICS)
    assert outcome.baseline is not None
    assert list(outcome.baseline.values) == [metric for metric in METRICS if metric != "kid-mixed"]
    assert outcome.baseline.pairs == 6
    assert counting.extracted == 18  # ground truth was known
    (untouched,) = Counting(*METRICS).run([dataclasses.replace(comparison, translated=folders["flat"], source=None)])
    assert untouched.scores.values == outcome.baseline.values


def test_the_same_folder_twice(folders: Folders) -> None:
    counting = Counting("kid", "fid")
    (outcome,) = counting.run([Comparison(None, folders["out"], folders["out"])])
    assert counting.extracted == 6
    assert outcome.scores.values["fid"] == pytest.approx(0, abs=1e-9)


def test_both_directions_of_a_model(folders: Folders, model: Model) -> None:
    a, b = folders["flat"], folders["clay"]
    counting = Counting(*METRICS, side=32)
    there, back = counting.run(both_ways(a, b, b), model, baseline=True)
    assert (there.direction, back.direction) == ("a2b", "b2a")
    assert list(there.scores.values) == list(back.scores.values) == list(METRICS)
    assert (there.scores.pairs, back.scores.pairs) == (6, 6)
    assert counting.extracted == 24  # both folders once, and both translations
    assert there.scores.values["kid"] != back.scores.values["kid"]
    assert there.baseline is not None
    assert back.baseline is not None
    assert there.baseline.values["l1"] == pytest.approx(back.baseline.values["l1"])


def test_ground_truth_of_one_direction(folders: Folders, model: Model) -> None:
    a, b, truth = folders["flat"], folders["more"], folders["clay"]
    comparisons = both_ways(a, b, truth)
    there, back = Counting("kid", "l1", side=32).run(comparisons, model)
    assert (list(there.scores.values), list(back.scores.values)) == (["kid", "l1"], ["kid"])
    assert (there.scores.pairs, back.scores.pairs) == (6, 0)
    counting = Counting("l1", side=32)
    (only,) = counting.run(comparisons, model)
    assert (only.direction, only.scores.real, counting.extracted) == ("a2b", 0, 6)


def test_translations_are_those_of_the_model(folders: Folders, model: Model) -> None:
    measures = Evaluation(tiny_extractor(), frozenset({"kid"}), Reader(32), Subsets(count=5))
    measured = measures.translations(model, folders["flat"], "b2a")
    pictures = model.translate([Image.open(path) for path in folders["flat"].files], direction="b2a")
    pixels = torch.stack([torch.frombuffer(bytearray(one.tobytes()), dtype=torch.uint8) for one in pictures])
    expected = tiny_extractor()(pixels.view(-1, 32, 32, 3).permute(0, 3, 1, 2))
    torch.testing.assert_close(measured.features, expected, rtol=1e-4, atol=1e-5)
    real = measures.folder(folders["clay"])
    assert measures.compare(measured, real).values["kid"] == kid(measured.features, real.features, Subsets(count=5))


def test_pairs_count_only_where_a_metric_is_about_them(folders: Folders) -> None:
    elsewhere = PictureSet(Path("elsewhere"), (Path("elsewhere/x.png"),))
    comparison = Comparison(None, folders["out"], folders["clay"], truth=elsewhere)
    Counting("kid").run([comparison])
    with pytest.raises(UsageError, match="has the name of one in elsewhere"):
        Counting("l1").run([comparison])


def test_too_few_pictures_are_found_before_anything_is_computed(folders: Folders) -> None:
    few = PictureSet(folders["more"].folder, folders["more"].files[:3])
    for sets in ((few, folders["clay"]), (folders["clay"], few)):
        with pytest.raises(UsageError, match="KID of 3 pictures says nothing"):
            Counting("kid").run([Comparison(None, *sets)])
    (outcome,) = Counting("fid").run([Comparison(None, few, folders["clay"])])
    assert outcome.scores.pictures == 3


def test_different_sizes_are_found_before_anything_is_computed(folders: Folders, tmp_path: Path) -> None:
    large = find_set(save_pictures(tmp_path / "large", 6, size=(40, 32)))
    small = folders["clay"]
    for comparison in (
        Comparison(None, small, large),
        Comparison(None, small, small, source=large),
        Comparison(None, small, small, truth=large),
    ):
        with pytest.raises(UsageError, match="different sizes"):
            Counting(*METRICS).run([comparison])
    counting = Counting("kid", "l1", side=24)
    (outcome,) = counting.run([Comparison(None, small, large, truth=large)])
    assert outcome.scores.pairs == 6


def test_both_ways_know_domain_b_by_any_name(folders: Folders) -> None:
    again = find_set(folders["clay"].folder.parent / "out" / ".." / "clay")
    there, back = both_ways(folders["flat"], folders["clay"], again)
    assert (there.truth, back.truth) == (folders["clay"], folders["flat"])
    there, back = both_ways(folders["flat"], folders["clay"], None)
    assert (there.truth, back.truth) == (None, None)
