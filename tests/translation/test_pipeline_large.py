"""Large pictures and long animations: refused or let through, never whole in memory, never many at once."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers import picture
from tests.pipelines import NATIVE, Unchanged, failures, make, run
from ugatit_cli.outputs import base
from ugatit_cli.pictures import geometry, reading
from ugatit_cli.pictures.bounds import Room
from ugatit_cli.pictures.geometry import SizeOptions
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.pictures.regions import Region, RegionOptions
from ugatit_cli.translation import pipeline
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.pipeline import TranslateOptions, translate_files
from ugatit_cli.translation.spool import Spool


def animation(folder: Path, suffix: str, frames: int = 12, size: tuple[int, int] = (20, 16)) -> Job:
    folder.mkdir(exist_ok=True)
    first, *rest = (picture(*size, index) for index in range(frames))
    source = folder / f"moving{suffix}"
    first.save(source, save_all=True, append_images=rest, duration=50, loop=0, lossless=True)
    return Job(source, folder / "out" / source.name)


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames there were, of the source and of the result, whenever there was one more."""
    counts: list[int] = []
    frames: weakref.WeakSet[Frame] = weakref.WeakSet()

    def watched(function: Callable[..., Frame]) -> Callable[..., Frame]:
        def spy(*arguments: Any, **options: Any) -> Frame:
            frame = Frame(*vars(function(*arguments, **options)).values())
            frames.add(frame)
            counts.append(len(frames))
            return frame

        return spy

    monkeypatch.setattr(Frame, "__hash__", object.__hash__)
    monkeypatch.setattr(reading, "_frame", watched(reading._frame))
    monkeypatch.setattr(base, "finish", watched(geometry.finish))
    return counts


@pytest.mark.parametrize("room", [0, 10**9], ids=["on disk", "in memory"])
@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_frames_of_an_animation_are_not_in_memory_together(
    model: Model, network: Unchanged, monkeypatch: pytest.MonkeyPatch, alive: list[int], tmp_path: Path,
    suffix: str, room: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(pipeline, "Spool", functools.partial(Spool, room))
    assert not failures(run(model, [animation(tmp_path, suffix)]))
    assert network.pictures == 12
    assert len(alive) >= 24
    assert max(alive) <= 3
    written = reading.read_picture(tmp_path / "out" / f"moving{suffix}")
    assert (len(written.frames), written.durations) == (12, (50,) * 12)


def test_transparency_that_comes_late_is_seen_beside_its_source(
    model: Model, network: Unchanged, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def seen(*arguments: Any) -> Frame:
        *_, alpha, _, _, source = arguments
        found.append((alpha, source))
        return geometry.finish(*arguments)

    found: list[tuple[Image.Image | None, Frame | None]] = []
    monkeypatch.setattr(base, "finish", seen)
    first, *rest = (Image.new("RGBA", (20, 16), (200, 0, index, 255 if index < 2 else 80)) for index in range(4))
    job = Job(tmp_path / "late.png", tmp_path / "out" / "late.png")
    assert isinstance(job.source, Path)
    first.save(job.source, save_all=True, append_images=rest, duration=50, loop=0)
    assert not failures(run(model, [job]))
    assert network.pictures == 4
    sources = [source for alpha, source in found if alpha is not None]
    assert {source and source.rgb.getpixel((0, 0)) for source in sources} == {(200, 0, 2), (200, 0, 3)}


def test_pixels_count_again_as_the_network_takes_them(model: Model, network: Unchanged, tmp_path: Path) -> None:
    job = animation(tmp_path, ".gif", size=(1, 1))
    few = 12 * 32 * 32
    for most, refused in ((few, False), (few - 1, True)):
        options = TranslateOptions(sizes=SizeOptions("aspect"), max_pixels=most)
        (result,) = translate_files(model, [job], options)
        assert (result.error is not None) is refused
    assert result.error
    assert result.error.message.startswith(f"{job.source}: ")
    assert "--max-pixels" in result.error.hint
    assert network.pictures == 12


def test_the_limit_is_one_pictures(model: Model, tmp_path: Path) -> None:
    jobs = make(tmp_path, (20, 16), (40, 40), (20, 16))
    assert list(failures(run(model, jobs, max_pixels=1599))) == ["001.png"]
    assert not failures(run(model, jobs, max_pixels=1600))
    assert not failures(run(model, jobs, max_pixels=None))


def test_pillows_own_limit_is_not_ours(model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    jobs = make(tmp_path, (40, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert not failures(run(model, jobs))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert not failures(run(model, jobs))
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("batch_size", [0, 3])
def test_results_are_the_same_when_there_is_hardly_any_room(
    model: Model, network: Unchanged, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workers: int, batch_size: int
) -> None:
    """One picture at a time is decoded or encoded, and all that are waiting are too many."""
    jobs = [animation(tmp_path, ".gif"), *make(tmp_path, *[(20, 16), (16, 20), (31, 17)] * 6)]
    assert not failures(run(model, jobs))
    expected = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    room = Room(1)
    monkeypatch.setattr(reading, "ROOM", room)
    monkeypatch.setattr(pipeline, "ROOM", room)
    monkeypatch.setattr(pipeline, "Spool", functools.partial(Spool, 1))
    monkeypatch.setattr(pipeline, "LARGE", 0)
    results = run(model, jobs, workers=workers, batch_size=batch_size)
    assert not failures(results)
    assert {result.job for result in results} == set(jobs)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == expected
    assert network.pictures == 2 * (12 + 18)


def test_pictures_that_wait_for_room_are_left_once_it_is_stopped(
    model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stop, seen = threading.Event(), list[Path | None]()

    class Stopping:
        what = "face"

        def __call__(self, _: Frame, source: Path | None) -> list[Region]:
            seen.append(source)
            stop.set()
            return []

    monkeypatch.setattr(reading, "ROOM", Room(1))
    jobs = make(tmp_path, *[(20, 16)] * 20)
    options = TranslateOptions(sizes=NATIVE, regions=RegionOptions(Stopping()), workers=4)
    results = list(translate_files(model, jobs, options, stop=stop))
    assert [result.job.source for result in results] == seen
    assert len(seen) == 1


def test_a_broken_picture_where_there_is_hardly_any_room(
    model: Model, network: Unchanged, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jobs = make(tmp_path, *[(20, 16)] * 8)
    (tmp_path / "003.png").write_bytes((tmp_path / "003.png").read_bytes()[:100])
    monkeypatch.setattr(pipeline, "Spool", functools.partial(Spool, 1))
    monkeypatch.setattr(pipeline, "LARGE", 0)
    assert list(failures(list(translate_files(model, jobs, TranslateOptions(sizes=NATIVE))))) == ["003.png"]
    assert network.pictures == 7
