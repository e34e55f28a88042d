"""Parts of pictures through the pipeline: in their place again, and all around as it was."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence
from torch import Tensor

from tests import clips, tiny
from tests.helpers import picture
from tests.pipelines import NATIVE, Unchanged, translated_frames, unchanging
from ugatit_cli.errors import UsageError
from ugatit_cli.films.film import translate_film
from ugatit_cli.nn.generator import Translation
from ugatit_cli.outputs.base import FileOptions, Styled
from ugatit_cli.pictures.geometry import Pixels, SizeOptions
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.pictures.regions import BoxFinder, Region, RegionOptions, region_of
from ugatit_cli.translation.engine import Engine
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.pipeline import Result, TranslateOptions, translate_files


@dataclass
class Given:
    """Finds what it was told, frame by frame."""

    regions: Sequence[Sequence[Region]]
    what: str = "face"

    def __post_init__(self) -> None:
        self.next = itertools.cycle(self.regions)

    def __call__(self, frame: Frame, source: Path | None) -> Sequence[Region]:  # noqa: ARG002  # a Finder's
        return next(self.next)


TWO = (Region((20.5, 21.0), (24, 24), 12.0), Region((60, 30), (30, 30), -20.0))


class Negative(Unchanged):
    """Turns colours round, so that one sees what it was given."""

    def forward(self, x: Tensor) -> Translation:
        """What a generator returns."""
        given = super().forward(x)
        return given._replace(image=-given.image)


def run(model: Engine, source: Path, options: RegionOptions, **more: object) -> Result:
    settings = TranslateOptions(**{"sizes": NATIVE, "regions": options, **more})  # type: ignore[arg-type]
    job = Job(source, source.with_name(f"out{source.suffix}"))
    (result,) = translate_files(model, [job], settings)
    return result


def pixels(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.int16)


@pytest.fixture
def network() -> Unchanged:
    return Negative()


@pytest.fixture
def model(network: Unchanged) -> Model:
    return unchanging(network)


def test_two_regions_are_translated_in_place_and_nothing_else(tmp_path: Path, model: Model) -> None:
    source = tmp_path / "a.png"
    picture(88, 56, 3).save(source)
    result = run(model, source, RegionOptions(Given([TWO])))
    before, after = pixels(source), pixels(tmp_path / "out.png")
    assert (result.size, result.frames, list(result.regions)) == ((88, 56), 1, list(TWO))
    inside = np.zeros(before.shape[:2], bool)
    for region in TWO:
        turn = np.linalg.inv(region.matrix()[:, :2])
        y, x = np.mgrid[:56, :88] + 0.5
        places = np.stack([x - region.centre[0], y - region.centre[1]], 2) @ turn.T
        inside |= (np.abs(places) <= region.size[0] / 2).all(2)
    assert (after[~inside] == before[~inside]).all()
    for region in TWO:
        x, y = map(int, region.centre)
        middle = np.s_[y - 3 : y + 3, x - 3 : x + 3]
        assert np.abs(after[middle] + before[middle] - 255).mean() < 40  # noise, turned there and back


def test_each_region_has_its_own_resolution(tmp_path: Path, model: Model, network: Unchanged) -> None:
    source = tmp_path / "a.png"
    picture(88, 56, 3).save(source)
    regions = (region_of((0, 0, 24, 20)), region_of((30, 4, 66, 40)), region_of((60, 0, 84, 20)))
    run(model, source, RegionOptions(Given([regions])))
    assert network.batches == [(1, 20, 24), (1, 36, 36), (1, 20, 24)]
    network.batches.clear()
    run(model, source, RegionOptions(Given([regions])), sizes=SizeOptions("squash"))
    assert network.batches == [(1, 32, 32)] * 3


def test_a_box_is_what_the_same_crop_would_become(tmp_path: Path, model: Model) -> None:
    source = tmp_path / "a.png"
    picture(88, 56, 3).save(source)
    run(model, source, RegionOptions(BoxFinder.parse("10,8,40,32", feather=0)))
    before, after = pixels(source), pixels(tmp_path / "out.png")
    assert (after[8:40, 10:50] == 255 - before[8:40, 10:50]).all()
    after[8:40, 10:50] = before[8:40, 10:50]
    assert (after == before).all()


def test_any_function_finds_regions(tmp_path: Path, model: Model) -> None:
    """Of a picture, or of what comes from a file with its path."""
    asked: list[Path | None] = []

    def find(frame: Frame, source: Path | None) -> list[Region]:
        asked.append(source)
        return [region_of((8, 4, frame.rgb.width - 8, 20), 0)]

    source, film = tmp_path / "a.png", clips.make(tmp_path / "a.mkv", 3, codec="ffv1", sound=None)
    picture(40, 30).save(source)
    before = pixels(source)
    wanted = before.copy()
    wanted[4:20, 8:32] = 255 - before[4:20, 8:32]
    for image in (source, str(source), Image.open(source)):
        assert (np.asarray(model.translate(image, fit="native", regions=find)) == wanted).all()
    assert run(model, source, RegionOptions(find)).error is None
    assert (pixels(tmp_path / "out.png") == wanted).all()
    assert translate_film(model, film, tmp_path / "out.mkv", fit="native", regions=find) == []
    for old, new in zip(clips.decoded(film), clips.decoded(tmp_path / "out.mkv"), strict=True):
        assert abs(255 - old[6:18, 10:14].mean((0, 1)) - new[6:18, 10:14].mean((0, 1))).max() < 8
        assert abs(old[:, 26:].mean((0, 1)) - new[:, 26:].mean((0, 1))).max() < 8
    assert asked == [source, source, None, source, film, film, film]


@pytest.mark.parametrize("found", [None, 5, ["face"]])
def test_what_is_no_list_of_regions_fails_by_name(tmp_path: Path, model: Model, found: Any) -> None:
    picture(40, 30).save(tmp_path / "a.png")
    error = run(model, tmp_path / "a.png", RegionOptions(lambda *_: found)).error
    assert isinstance(error, UsageError)
    assert "a.png" in error.message
    assert "region" in error.message


def test_a_picture_without_any_is_left_out(tmp_path: Path, model: Model) -> None:
    source = tmp_path / "a.png"
    picture(40, 30).save(source)
    result = run(model, source, RegionOptions(Given([()])))
    assert (result.missing, result.error) == ("face", None)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert run(model, source, RegionOptions(lambda *_: [])).missing == "region"


def test_or_is_translated_whole(tmp_path: Path, model: Model) -> None:
    source = tmp_path / "a.png"
    picture(40, 30).save(source)
    result = run(model, source, RegionOptions(Given([()]), none="whole"))
    assert (result.missing, result.regions) == ("", ())
    assert (pixels(tmp_path / "out.png") == 255 - pixels(source)).all()


def test_frames_of_an_animation_have_regions_of_their_own(tmp_path: Path, model: Model) -> None:
    source = tmp_path / "a.webp"
    frames = [picture(40, 30, seed) for seed in range(3)]
    frames[0].save(source, save_all=True, append_images=frames[1:], lossless=True, duration=[40, 80, 120])
    boxes = [(region_of((0, 0, 20, 20), 0),), (), (region_of((4, 4, 30, 24), 0), region_of((30, 20, 40, 30), 0))]
    result = run(model, source, RegionOptions(Given(boxes)), files=FileOptions(quality=100))
    assert (result.frames, result.error) == (3, None)
    with Image.open(tmp_path / "out.webp") as image:
        shown = [np.asarray(frame.convert("RGB"), np.int16) for frame in ImageSequence.Iterator(image)]
    for frame, seen, regions in zip(frames, shown, boxes, strict=True):
        wanted = np.array(frame, np.int16)
        for region in regions:
            left, top, right, bottom = region.bounds
            wanted[top:bottom, left:right] = 255 - wanted[top:bottom, left:right]
        assert (seen == wanted).all()


def test_transparency_stays(tmp_path: Path, model: Model) -> None:
    source = tmp_path / "a.png"
    image = picture(40, 30).convert("RGBA")
    alpha = np.random.default_rng(0).integers(0, 256, (30, 40), np.uint8)
    image.putalpha(Image.fromarray(alpha))
    image.save(source)
    run(model, source, RegionOptions(BoxFinder.parse("8,8,16,16", feather=0)))
    with Image.open(tmp_path / "out.png") as after:
        result, before = np.asarray(after).copy(), np.asarray(image).copy()
    assert (result[:, :, 3] == alpha).all()
    assert not (result == before).all()
    result[8:24, 8:24] = before[8:24, 8:24]
    assert (result == before).all()


def test_the_result_has_the_size_that_is_asked_for(tmp_path: Path, model: Model) -> None:
    source = tmp_path / "a.png"
    picture(40, 30).save(source)
    result = run(model, source, RegionOptions(Given([TWO])), sizes=SizeOptions("native", output="80x60"))
    assert (result.size, pixels(tmp_path / "out.png").shape) == ((80, 60), (60, 80, 3))


def test_what_stop_leaves(tmp_path: Path, model: Model, network: Unchanged) -> None:
    """Once the first region has gone through the network, the picture is dropped: nothing half done is written."""
    source, stop = tmp_path / "a.png", threading.Event()
    picture(88, 56).save(source)
    network.before = lambda _: stop.set()
    options = TranslateOptions(sizes=NATIVE, regions=RegionOptions(Given([TWO])))
    assert [*translate_files(model, [Job(source, tmp_path / "out.png")], options, stop=stop)] == []
    assert not (tmp_path / "out.png").exists()


def test_every_style_has_all_regions(tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    picture(88, 56).save(source)
    model = Model.untrained(tiny.MUNIT, device="cpu", precision="fp32")
    outputs = tuple(tmp_path / f"out{number}.png" for number in range(2))
    regions = RegionOptions(Given([(region_of((0, 0, 24, 24), 0), region_of((40, 20, 88, 56), 0))]))
    options = TranslateOptions(sizes=NATIVE, regions=regions)
    (result,) = translate_files(model, [Job(source, outputs[0], outputs)], options, drawing=Styled(2))
    assert result.error is None
    before, one, other = pixels(source), *map(pixels, outputs)
    for place in (np.s_[:24, :24], np.s_[20:, 40:]):
        assert not (one[place] == other[place]).all()
        assert not (one[place] == before[place]).all()
        one[place] = other[place] = before[place]
    assert (one == before).all()
    assert (other == before).all()


def test_frames_of_a_film_and_those_without_any(model: Model) -> None:
    frames = [Frame(picture(40, 30, seed), None) for seed in range(4)]
    boxes = [(region_of((0, 0, 20, 20), 0),), (), (region_of((4, 4, 30, 24), 0),), ()]
    known = dict(zip(map(colours, frames), boxes, strict=True))
    options = TranslateOptions(sizes=NATIVE, regions=RegionOptions(Fixed(known)))
    results = [*translated_frames(model, frames, options)]
    for before, after, regions in zip(frames, results, boxes, strict=True):
        wanted = np.array(before.rgb)
        for region in regions:
            left, top, right, bottom = region.bounds
            wanted[top:bottom, left:right] = 255 - wanted[top:bottom, left:right]
        assert (np.asarray(after.rgb) == wanted).all()


def colours(frame: Frame) -> bytes:
    return frame.rgb.tobytes()


@dataclass(frozen=True)
class Fixed:
    """Knows the regions of each frame, in whatever order it is asked."""

    regions: Mapping[bytes, Sequence[Region]]
    what: str = "face"

    def __call__(self, frame: Frame, source: Path | None) -> Sequence[Region]:  # noqa: ARG002  # a Finder's
        return self.regions[colours(frame)]
