"""Sets and pairs of pictures as figures."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from tests.evaluations import save_pictures
from tests.extractors import tiny_extractor
from ugatit_cli.errors import PictureError, UsageError
from ugatit_cli.metrics.distances import Kid, Subsets, feature_distance, fid, kid, mixed_kid
from ugatit_cli.metrics.scores import (
    METRICS,
    Evaluation,
    Metric,
    Reader,
    check_installed,
    find_set,
    pairs_of,
    pixel_metric,
)

Array = npt.NDArray[np.float64]


def pair(height: int = 14, width: int = 17) -> tuple[Tensor, Tensor]:
    """Two pictures that are alike: uint8 (1, 3, H, W)."""
    noise = np.random.default_rng(0)
    x = noise.integers(0, 256, (1, 3, height, width))
    y = (x + noise.integers(-30, 31, x.shape)).clip(0, 255)
    return torch.from_numpy(x.astype(np.uint8)), torch.from_numpy(y.astype(np.uint8))


def values_of(picture: Tensor) -> Array:
    """(3, H, W) in [0, 1]"""
    return picture[0].numpy().astype(np.float64) / 255


def ssim(x: Array, y: Array) -> float:
    """Of one channel (H, W), window by window (Wang et al. 2004), mirrored at its borders."""
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    padded = [np.pad(one, 5, mode="reflect") for one in (x, y)]
    similarities = []
    for top in range(x.shape[0]):
        for left in range(x.shape[1]):
            a, b = (one[top : top + 11, left : left + 11] for one in padded)
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            variances = (window * (a - mean_a) ** 2).sum() + (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            light = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            similarities.append(light * (2 * covariance + 9e-4) / (variances + 9e-4))
    return float(np.mean(similarities))


# --- Pixels --------------------------------------------------------------------------------------------


def test_ssim_by_hand() -> None:
    x, y = pair()
    expected = np.mean([ssim(a, b) for a, b in zip(values_of(x), values_of(y), strict=True)])
    assert 0.5 < expected < 0.99
    assert float(pixel_metric("ssim", x, y)) == pytest.approx(float(expected), rel=1e-4)


def test_psnr_and_l1_by_hand() -> None:
    x, y = pair()
    difference = values_of(x) - values_of(y)
    assert float(pixel_metric("psnr", x, y)) == pytest.approx(-10 * np.log10((difference**2).mean()), rel=1e-6)
    assert float(pixel_metric("l1", x, y)) == pytest.approx(np.abs(difference).mean(), rel=1e-6)


def test_equal_pictures() -> None:
    x, _ = pair()
    assert [float(pixel_metric(name, x, x)) for name in ("ssim", "psnr", "l1")] == pytest.approx([1, np.inf, 0])


def test_pictures_that_are_too_small_for_ssim() -> None:
    assert float(pixel_metric("ssim", *pair(11, 11))) < 1
    for size in ((10, 40), (40, 10)):
        with pytest.raises(UsageError, match="ssim needs pictures of 11 pixels or more"):
            pixel_metric("ssim", *pair(*size))
        assert float(pixel_metric("psnr", *pair(*size))) > 0


# --- Sets and pairs ------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Eight pictures, and seven others, of which six have the same names."""
    one = save_pictures(tmp_path / "one", 8)
    other = save_pictures(tmp_path / "other", 7, seed=1)
    (other / "6.png").rename(other / "x.png")
    return one, other


def evaluation(*metrics: Metric, side: int | None = None) -> Evaluation:
    return Evaluation(tiny_extractor(), frozenset(metrics), Reader(side), Subsets(count=10))


def features_of(folder: Path) -> Tensor:
    ((_, pixels),) = Reader().batches(find_set(folder).files)
    return tiny_extractor()(pixels)


def test_all_figures(folders: tuple[Path, Path]) -> None:
    one, other = map(find_set, folders)
    measures = evaluation(*METRICS)
    translated, real = measures.folder(one, pairs_of(one, other)), measures.folder(other)
    scores = measures.compare(translated, real, real)
    assert (scores.pictures, scores.real, scores.pairs, scores.equal_pairs) == (8, 7, 6, 0)
    assert list(scores.values) == list(METRICS)
    x, y = map(features_of, folders)
    assert scores.values["kid"] == kid(x, y, measures.subsets)
    assert scores.values["kid-mixed"] == mixed_kid(x, y, y, measures.subsets)
    assert scores.values["fid"] == pytest.approx(fid(x, y), rel=1e-6)
    assert scores.values["feature-distance"] == pytest.approx(feature_distance(x[:6], y[:6]), rel=1e-5)
    pairs = [[Reader().one(folder / f"{number}.png") for folder in folders] for number in range(6)]
    for metric in ("ssim", "psnr", "l1"):
        values = [float(pixel_metric(metric, a, b)) for a, b in pairs if a is not None and b is not None]
        assert len(values) == 6
        assert scores.values[metric] == pytest.approx(np.mean(values), rel=1e-12)


def test_only_what_can_be_computed(folders: tuple[Path, Path]) -> None:
    one, other = map(find_set, folders)
    measures = evaluation(*METRICS)
    source, real = measures.folder(one), measures.folder(other)
    assert list(measures.compare(source, real).values) == ["kid", "fid"]
    assert list(measures.compare(source, real, source).values) == ["kid", "fid"]  # untouched pictures
    assert measures.compare(source, None).values == {}


def test_psnr_is_that_of_pairs_which_differ(folders: tuple[Path, Path]) -> None:
    one, other = map(find_set, folders)
    measures = evaluation("psnr")
    pairs = pairs_of(one, other)
    differing = measures.compare(measures.folder(one, pairs), None).values["psnr"]
    equal = dict.fromkeys(pairs, one.files[0])
    same = pairs | {one.files[0]: one.files[0]}
    some = measures.compare(measures.folder(one, same), None)
    assert (some.pairs, some.equal_pairs) == (6, 1)
    values = measures.folder(one, pairs).values["psnr"]
    assert some.values["psnr"] == pytest.approx(values[1:].mean().item())
    assert differing == pytest.approx(values.mean().item())
    itself = measures.compare(measures.folder(one, {path: path for path in equal}), None)
    assert (itself.values, itself.equal_pairs) == ({"psnr": float("inf")}, 6)


def test_a_broken_ground_truth_is_no_pair(folders: tuple[Path, Path]) -> None:
    one, other = map(find_set, folders)
    (folders[1] / "2.png").write_bytes(b"broken")
    measures = evaluation("l1", "feature-distance")
    scores = measures.compare(measures.folder(one, pairs_of(one, other)), None)
    assert (scores.pictures, scores.pairs) == (8, 5)
    assert list(measures.reader.broken) == [folders[1] / "2.png"]
    x, y = features_of(folders[0]), features_of(folders[1])
    kept = [0, 1, 3, 4, 5]
    assert scores.values["feature-distance"] == pytest.approx(feature_distance(x[kept], y[[0, 1, 2, 3, 4]]), rel=1e-5)


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(PictureError, match=f"{tmp_path}: no picture can be read"):
        evaluation("fid").folder(find_set(tmp_path))


def test_features_are_taken_only_where_they_count(folders: tuple[Path, Path]) -> None:
    seen: list[int] = []
    tiny = tiny_extractor()

    def network(pictures: Tensor) -> Tensor:
        seen.append(len(pictures))
        return tiny.network(pictures)

    one, other = map(find_set, folders)
    for metrics, expected in ((("kid", "l1"), 8), (("feature-distance",), 14)):
        seen.clear()
        measures = dataclasses.replace(evaluation(*metrics), extractor=dataclasses.replace(tiny, network=network))
        measures.folder(one, pairs_of(one, other))
        assert sum(seen) == expected
        measures.folder(one)
        assert sum(seen) == expected  # known


def test_figures_of_pixels_need_no_extractor(folders: tuple[Path, Path]) -> None:
    one, other = map(find_set, folders)
    measures = Evaluation(None, frozenset({"l1"}), Reader())
    assert list(measures.compare(measures.folder(one, pairs_of(one, other)), None).values) == ["l1"]


def test_kid_of_too_few_that_can_be_read(folders: tuple[Path, Path]) -> None:
    for number in range(5):
        (folders[0] / f"{number}.png").write_bytes(b"broken")
    measures = evaluation("kid")
    one, other = (measures.folder(find_set(folder)) for folder in folders)
    with pytest.raises(UsageError, match="KID of 3 pictures says nothing"):
        measures.compare(one, other)


def test_kid_takes_the_subsets_that_are_asked_for(folders: tuple[Path, Path]) -> None:
    measures = dataclasses.replace(evaluation("kid"), subsets=Subsets(3, 5, 1))
    one, other = (measures.folder(find_set(folder)) for folder in folders)
    found = measures.compare(one, other).values["kid"]
    assert isinstance(found, Kid)
    assert (found.subsets, found.size) == (3, 5)


@pytest.mark.parametrize(
    ("package", "needing"), [("torch_fidelity", ("kid", "kid-mixed", "fid")), ("torchmetrics", ("ssim", "psnr"))]
)
def test_the_extra_is_missing(package: str, needing: tuple[Metric, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    check_installed(sorted(set(METRICS) - set(needing)))
    for metric in needing:
        with pytest.raises(UsageError, match=f"needs {package.replace('_', '-')}, which isn't installed"):
            check_installed(["l1", metric])
