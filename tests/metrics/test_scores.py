"""Sets of pictures, found and read; what is compared with what; figures of sets and pairs."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests import tiny
from tests.evaluations import save_pictures
from tests.extractors import tiny_extractor
from ugatit_cli import load
from ugatit_cli.data.pictures import PictureSet, find_set
from ugatit_cli.errors import PictureError, UsageError
from ugatit_cli.metrics.distances import Subsets, feature_distance, fid, kid, mixed_kid
from ugatit_cli.metrics.scores import (
    BATCH,
    METRICS,
    Comparison,
    Evaluation,
    Metric,
    Reader,
    Scores,
    both_ways,
    check_installed,
    pairs_of,
    pixel_metric,
)
from ugatit_cli.pictures.geometry import Pixels
from ugatit_cli.translation.model import Model

RED, WHITE = (255, 0, 0), (255, 255, 255)
Folders = dict[str, PictureSet]
SSIM_OF_PAIR = 0.97432


def pair(height: int = 14, width: int = 17) -> tuple[Tensor, Tensor]:
    """Two pictures that are alike: uint8 (1, 3, H, W)."""
    noise = np.random.default_rng(0)
    x = noise.integers(0, 256, (1, 3, height, width))
    y = (x + noise.integers(-30, 31, x.shape)).clip(0, 255)
    return torch.from_numpy(x.astype(np.uint8)), torch.from_numpy(y.astype(np.uint8))


# --- Pixels --------------------------------------------------------------------------------------------


def test_figures_of_pixels_by_hand() -> None:
    x, y = pair()
    difference = (x.double() - y.double()).numpy() / 255
    # Recorded from the formula of Wang et al. 2004, written out window by window, mirrored at the borders.
    assert float(pixel_metric("ssim", x, y)) == pytest.approx(SSIM_OF_PAIR, rel=1e-4)
    assert float(pixel_metric("psnr", x, y)) == pytest.approx(-10 * np.log10((difference**2).mean()), rel=1e-6)
    assert float(pixel_metric("l1", x, y)) == pytest.approx(np.abs(difference).mean(), rel=1e-6)
    assert [float(pixel_metric(name, x, x)) for name in ("ssim", "psnr", "l1")] == pytest.approx([1, np.inf, 0])


def test_pictures_that_are_too_small_for_ssim() -> None:
    assert float(pixel_metric("ssim", *pair(11, 11))) < 1
    for size in ((10, 40), (40, 10)):
        with pytest.raises(UsageError, match=r"ssim.* 11 "):
            pixel_metric("ssim", *pair(*size))
        assert float(pixel_metric("psnr", *pair(*size))) > 0


# --- Sets and reading ----------------------------------------------------------------------------------


def a_set(folder: Path, *names: str) -> PictureSet:
    return PictureSet(folder, tuple(folder / name for name in names))


def read(path: Path, side: int | None = None) -> Pixels:
    """uint8 (H, W, 3)"""
    picture = Reader(side).one(path)
    assert picture is not None
    return picture[0].permute(1, 2, 0).numpy()


def test_pairs_have_the_same_name_below_their_folders() -> None:
    one = a_set(Path("one"), "a.png", "b/c.v1.jpg", "only.png")
    other = a_set(Path("other"), "b/c.v1.webp", "a.gif", "c.png", "b/a.png")
    assert pairs_of(one, other) == {
        Path("one/a.png"): Path("other/a.gif"),
        Path("one/b/c.v1.jpg"): Path("other/b/c.v1.webp"),
    }


def test_pictures_are_read_on_white_upright_and_in_colour(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    half = Image.new("RGBA", (2, 1), (*RED, 255))
    half.putpixel((1, 0), (*RED, 0))
    half.save(path)
    assert read(path).tolist() == [[list(RED), list(WHITE)]]
    half.convert("P").save(path)  # a palette
    assert read(path)[0, 0].tolist() == list(RED)
    Image.new("L", (2, 1), 7).save(path)
    assert read(path).tolist() == [[[7] * 3] * 2]
    turned = Image.new("RGB", (2, 1), RED)
    turned.putpixel((1, 0), WHITE)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(path, exif=exif)
    assert read(path).tolist() == [[list(RED)], [list(WHITE)]]
    turned.save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (2, 1))])
    assert read(tmp_path / "a.gif").tolist() == [[list(RED), list(WHITE)]]  # its first frame


@pytest.mark.parametrize("size", [(1, 1), (30, 7)])
def test_equal_sizes_are_left_as_they_are(tmp_path: Path, size: tuple[int, int]) -> None:
    files = find_set(save_pictures(tmp_path, 3, size=size)).files
    reader = Reader()
    ((found, pixels),) = reader.batches(files)
    assert found == list(files)
    assert pixels.dtype == torch.uint8
    for path, one in zip(files, pixels, strict=True):
        assert (one.permute(1, 2, 0).numpy() == np.asarray(Image.open(path))).all()
    assert reader.size == size


def test_different_sizes(tmp_path: Path) -> None:
    save_pictures(tmp_path / "a", 1, size=(30, 20))
    save_pictures(tmp_path / "b", 1, size=(20, 30))
    sets = [find_set(tmp_path / name).files for name in ("a", "b")]
    with pytest.raises(UsageError) as caught:
        Reader().check_first(sets)
    for what in (f"{tmp_path}/a/0.png", "30x20", f"{tmp_path}/b/0.png", "20x30"):
        assert what in caught.value.message
    assert "--size" in caught.value.hint
    with pytest.raises(UsageError, match=f"{tmp_path}/b/0.png"):
        list(Reader().batches([path for files in sets for path in files]))
    reader = Reader(20)
    reader.check_first(sets)
    assert reader.size == (20, 20)
    save_pictures(tmp_path / "c", 1, size=(20, 20))
    assert (read(tmp_path / "c/0.png", 20) == np.asarray(Image.open(tmp_path / "c/0.png"))).all()


def test_what_can_not_be_read_is_left_out_once(tmp_path: Path) -> None:
    files = find_set(save_pictures(tmp_path, 5)).files
    for number in (0, 3):
        files[number].write_bytes(b"not a picture")
    reader = Reader()
    reader.check_first([files, files])
    assert list(reader.broken) == [files[0]]
    ((found, pixels),) = reader.batches(files)
    assert found == [files[1], files[2], files[4]]
    assert len(pixels) == 3
    assert reader.one(files[0]) is None
    assert list(reader.broken) == [files[0], files[3]]
    assert all(isinstance(error, PictureError) for error in reader.broken.values())


def test_pictures_are_streamed_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = find_set(save_pictures(tmp_path, 3 * BATCH + 2, size=(2, 2))).files
    started: set[Path] = set()
    original = Reader._try

    def counting(self: Reader, path: Path) -> Pixels | PictureError:
        started.add(path)
        return original(self, path)

    monkeypatch.setattr(Reader, "_try", counting)
    for workers in (1, 3):
        started.clear()
        found: list[Path] = []
        for names, pixels in Reader(workers=workers).batches(files):
            assert len(pixels) == len(names) <= BATCH
            found += names
            assert len(started) <= len(found) + BATCH
        assert found == list(files)


# --- Comparisons ---------------------------------------------------------------------------------------


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


def features_of(pictures: PictureSet) -> Tensor:
    ((_, pixels),) = Reader().batches(pictures.files)
    return tiny_extractor()(pixels)


class Counting:
    """Evaluations that notice how many pictures went through the extractor, and were told of."""

    def __init__(self, *metrics: Metric, side: int | None = None, **options: Any) -> None:
        self.extracted = self.advanced = 0
        tiny_one = tiny_extractor()

        def network(pictures: Tensor) -> Tensor:
            self.extracted += len(pictures)
            return tiny_one.network(pictures)

        def advance() -> None:
            self.advanced += 1

        self.evaluation = Evaluation(
            dataclasses.replace(tiny_one, network=network),
            frozenset(metrics),
            Reader(side),
            Subsets(count=5),
            advance=advance,
            **options,
        )

    def run(self, *comparisons: Comparison) -> list[Scores]:
        wanted = self.evaluation.check(comparisons)
        assert (self.extracted, self.advanced) == (0, 0)
        found = self.evaluation.run(wanted)
        assert self.evaluation.count(wanted) == self.advanced
        return found


def of_pairs(pictures: PictureSet, truth: PictureSet, *metrics: Metric) -> Scores:
    (scores,) = Counting(*metrics).run(Comparison(None, pictures, truth, truth=truth))
    return scores


def test_all_figures(folders: Folders) -> None:
    out, clay, flat = folders["out"], folders["clay"], folders["flat"]
    (scores,) = Counting(*METRICS).run(Comparison(None, out, folders["more"]))
    assert (scores.pictures, scores.real, scores.pairs) == (6, 9, 0)
    assert list(scores.values) == ["kid", "fid"]  # all that can be computed
    counting = Counting("kid", "fid")
    counting.run(Comparison(None, out, out))
    assert counting.extracted == 6
    counting = Counting(*METRICS)
    (scores,) = counting.run(Comparison(None, out, clay, flat, clay))
    assert counting.extracted == 18  # ground truth was known
    assert (scores.pictures, scores.real, scores.pairs, scores.equal_pairs) == (6, 6, 6, 0)
    assert (scores.direction, scores.baseline, list(scores.values)) == (None, None, list(METRICS))
    x, y, z = map(features_of, (out, clay, flat))
    assert scores.values["kid"] == kid(x, y, Subsets(count=5))
    assert scores.values["kid-mixed"] == mixed_kid(x, y, z, Subsets(count=5))
    assert scores.values["fid"] == pytest.approx(fid(x, y), rel=1e-6)
    assert scores.values["feature-distance"] == pytest.approx(feature_distance(x, y), rel=1e-5)
    pairs = [[Reader().one(one) for one in files] for files in zip(out.files, clay.files, strict=True)]
    for metric in ("ssim", "psnr", "l1"):
        values = [float(pixel_metric(metric, a, b)) for a, b in pairs if a is not None and b is not None]
        assert scores.values[metric] == pytest.approx(np.mean(values), rel=1e-12)


def test_the_untouched_source_is_the_baseline(folders: Folders) -> None:
    comparison = Comparison(None, folders["out"], folders["clay"], folders["flat"], folders["clay"])
    (scores,) = Counting(*METRICS, baseline=True).run(comparison)
    assert scores.baseline is not None
    assert list(scores.baseline.values) == [metric for metric in METRICS if metric != "kid-mixed"]
    (untouched,) = Counting(*METRICS).run(dataclasses.replace(comparison, translated=folders["flat"], source=None))
    assert (untouched.values, untouched.pairs) == (scores.baseline.values, scores.baseline.pairs)


def test_both_directions_of_a_model(folders: Folders, model: Model) -> None:
    a, b = folders["flat"], folders["clay"]
    counting = Counting(*METRICS, side=32, model=model, baseline=True)
    there, back = counting.run(*both_ways(a, b, b))
    assert (there.direction, back.direction) == ("a2b", "b2a")
    assert list(there.values) == list(back.values) == list(METRICS)
    assert (there.pairs, back.pairs) == (6, 6)
    assert counting.extracted == 24  # both folders once, and both translations
    assert there.values["kid"] != back.values["kid"]
    assert there.baseline is not None
    assert back.baseline is not None
    assert there.baseline.values["l1"] == pytest.approx(back.baseline.values["l1"])


def test_ground_truth_of_one_direction(folders: Folders, model: Model) -> None:
    again = find_set(folders["clay"].folder.parent / "out" / ".." / "clay")  # domain B by another name
    truths = [one.truth for one in both_ways(folders["flat"], folders["clay"], again)]
    assert truths == [folders["clay"], folders["flat"]]
    comparisons = both_ways(folders["flat"], folders["more"], folders["clay"])
    there, back = Counting("kid", "l1", side=32, model=model).run(*comparisons)
    assert (list(there.values), list(back.values)) == (["kid", "l1"], ["kid"])
    assert (there.pairs, back.pairs) == (6, 0)
    counting = Counting("l1", side=32, model=model)
    (only,) = counting.run(*comparisons)
    assert (only.direction, only.real, counting.extracted) == ("a2b", 0, 6)


def test_psnr_is_that_of_pairs_which_differ(folders: Folders) -> None:
    out, clay = folders["out"], folders["clay"]
    each: list[Any] = [of_pairs(PictureSet(out.folder, (path,)), clay, "psnr").values["psnr"] for path in out.files]
    assert of_pairs(out, clay, "psnr").values["psnr"] == pytest.approx(np.mean(each))
    shutil.copy(clay.files[0], out.files[0])
    some = of_pairs(out, clay, "psnr")
    assert (some.pairs, some.equal_pairs) == (6, 1)
    assert some.values["psnr"] == pytest.approx(np.mean(each[1:]))
    itself = of_pairs(clay, clay, "psnr")
    assert (itself.values, itself.equal_pairs) == ({"psnr": float("inf")}, 6)


def test_a_broken_ground_truth_is_no_pair(folders: Folders) -> None:
    out, clay = folders["out"], folders["clay"]
    clay.files[2].write_bytes(b"broken")
    counting = Counting("l1", "feature-distance")
    (scores,) = counting.run(Comparison(None, out, clay, truth=clay))
    assert (scores.pictures, scores.pairs) == (6, 5)
    assert list(counting.evaluation.reader.broken) == [clay.files[2]]
    kept = [0, 1, 3, 4, 5]
    expected = feature_distance(features_of(out)[kept], features_of(clay))
    assert scores.values["feature-distance"] == pytest.approx(expected, rel=1e-5)


def test_pairs_count_only_where_a_metric_is_about_them(folders: Folders) -> None:
    elsewhere = PictureSet(Path("elsewhere"), (Path("elsewhere/x.png"),))
    comparison = Comparison(None, folders["out"], folders["clay"], truth=elsewhere)
    Counting("kid").run(comparison)
    with pytest.raises(UsageError, match="elsewhere"):
        Counting("l1").run(comparison)


def test_too_few_pictures_are_found_before_anything_is_computed(folders: Folders) -> None:
    few = PictureSet(folders["more"].folder, folders["more"].files[:3])
    for sets in ((few, folders["clay"]), (folders["clay"], few)):
        with pytest.raises(UsageError):
            Counting("kid").evaluation.check([Comparison(None, *sets)])
    (scores,) = Counting("fid").run(Comparison(None, few, folders["clay"]))
    assert scores.pictures == 3
    for path in folders["out"].files[1:4]:
        path.write_bytes(b"broken")
    with pytest.raises(UsageError):
        Counting("kid").run(Comparison(None, folders["out"], folders["clay"]))


def test_different_sizes_are_found_before_anything_is_computed(folders: Folders, tmp_path: Path) -> None:
    large = find_set(save_pictures(tmp_path / "large", 6, size=(40, 32)))
    small = folders["clay"]
    for comparison in (
        Comparison(None, small, large),
        Comparison(None, small, small, source=large),
        Comparison(None, small, small, truth=large),
    ):
        with pytest.raises(UsageError, match="large"):
            Counting(*METRICS).evaluation.check([comparison])
    (scores,) = Counting("kid", "l1", side=24).run(Comparison(None, small, large, truth=large))
    assert scores.pairs == 6


def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchmetrics" else found(name))
    check_installed(sorted(set(METRICS) - {"ssim", "psnr"}))
    needing: tuple[Metric, ...] = ("ssim", "psnr")
    for metric in needing:
        with pytest.raises(UsageError, match=f"{metric}: torchmetrics"):
            check_installed(["l1", metric])
