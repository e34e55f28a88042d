"""What the pipeline does for drawings: several files a picture, attention, one scale for all."""

from __future__ import annotations

import errno
import functools
import io
import itertools
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers import picture
from tests.pipelines import NATIVE, Unchanged, failures, leftovers, make, run
from ugatit_cli.attention.maps import Spans
from ugatit_cli.config import MapName
from ugatit_cli.errors import PictureError, StorageError
from ugatit_cli.outputs.base import Done, Drawing, Drawn
from ugatit_cli.pictures.geometry import Geometry
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.remote.urls import Place
from ugatit_cli.translation import pipeline
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.pipeline import TranslateOptions, translate_files
from ugatit_cli.translation.spool import Spool


@pytest.fixture
def spool_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where files for a while go: all pictures that wait, as there is no room in memory."""
    folder = tmp_path_factory.mktemp("spool")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(pipeline, "Spool", functools.partial(Spool, 0))
    return folder


def translucent(width: int = 20, height: int = 16) -> Image.Image:
    image = picture(width, height)
    image.putalpha(Image.linear_gradient("L").resize((width, height)))
    return image


# --- Drawings ------------------------------------------------------------------------------------------


@dataclass
class Pair(Drawing):
    """A drawing of two files: the translation, and what was translated.

    Attributes:
        before: something to do before a picture is drawn.
    """

    maps: tuple[MapName, ...] = ("generator",)
    spans: Spans | None = None
    sees_source: bool = True
    before: Callable[[Done], object] = lambda _: None
    drawn: list[Done] = field(default_factory=list)

    def outputs(self, output: Place) -> tuple[Place, ...]:
        return output, output.with_name(f"{output.stem}.before.png")

    def resized(self, geometry: Geometry) -> Geometry:
        return geometry

    def draw(self, done: Done) -> Drawn:
        self.before(done)
        self.drawn.append(done)
        flat = tuple(name for name, one in done.maps[0].items() if one.flat)
        return Drawn([done.encoded(done.frames), self.source(done)], done.geometry.output, flat)

    def source(self, done: Done) -> bytes | None:
        if not self.sees_source:
            return None
        buffer = io.BytesIO()
        done.inputs[0].save(buffer, "PNG")
        return buffer.getvalue()

    def jobs(self, jobs: Sequence[Job]) -> list[Job]:
        return [replace(job, several=self.outputs(job.output)) for job in jobs if job.output]


SPANS = pytest.mark.parametrize("spans", [None, Spans], ids=["as they come", "all before the first"])


@SPANS
@pytest.mark.parametrize("room", [0, 10_000, 1_000_000], ids=["on disk", "in both", "in memory"])
def test_a_drawing_of_several_files(
    model: Model,
    network: Unchanged,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    spool_folder: Path,
    spans: Callable[[], Spans] | None,
    room: int,
) -> None:
    monkeypatch.setattr(pipeline, "Spool", functools.partial(Spool, room))
    drawing = Pair(spans=spans and spans())
    jobs = drawing.jobs(make(tmp_path, *[(20, 16), (16, 20)] * 6))
    results = run(model, jobs, drawing, batch_size=3)
    assert not failures(results)
    assert {result.job for result in results} == set(jobs)
    assert network.pictures == 12
    for result in results:
        assert result.data is None
        assert isinstance(result.job.source, Path)
        with Image.open(result.job.source) as source:
            for path in result.job.outputs:
                assert isinstance(path, Path)
                with Image.open(path) as written:
                    assert written.tobytes() == source.tobytes()
    assert len(list((tmp_path / "out").iterdir())) == 24
    assert leftovers(tmp_path) == []
    assert list(spool_folder.iterdir()) == []


@SPANS
@pytest.mark.parametrize("sees_source", [False, True])
@pytest.mark.parametrize("room", [0, 1_000_000], ids=["on disk", "in memory"])
def test_a_source_is_decoded_once(
    model: Model,
    network: Unchanged,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    spans: Callable[[], Spans] | None,
    sees_source: bool,
    room: int,
) -> None:
    """From standard input, which can't be read again, and with its opacity."""
    monkeypatch.setattr(pipeline, "Spool", functools.partial(Spool, room))
    buffer, image = io.BytesIO(), translucent()
    image.save(buffer, "PNG")
    for name, drawing in (("plain", None), ("drawn", Pair(spans=spans and spans(), sees_source=sees_source))):
        buffer.seek(0)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(buffer.getvalue())))
        job = Job(None, tmp_path / f"{name}.png")
        (result,) = run(model, [job] if drawing is None else drawing.jobs([job]), drawing)
        assert result.error is None
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "drawn.png").read_bytes()
    with Image.open(tmp_path / "drawn.png") as written:
        assert (written.mode, written.getchannel("A").tobytes()) == ("RGBA", image.getchannel("A").tobytes())
    assert (tmp_path / "drawn.before.png").exists() is sees_source
    assert network.pictures == 2


# --- Drawings that fail --------------------------------------------------------------------------------


@SPANS
def test_a_drawing_that_fails_is_named(
    model: Model, network: Unchanged, tmp_path: Path, spool_folder: Path, spans: Callable[[], Spans] | None
) -> None:
    def refuse(done: Done) -> None:
        if done.job.name.endswith("001.png"):
            raise PictureError("too small for that", "Enlarge it.")

    drawing = Pair(spans=spans and spans(), before=refuse)
    results = run(model, drawing.jobs(make(tmp_path, *[(20, 16)] * 3)), drawing)
    (failed,) = [result for result in results if result.error]
    assert isinstance(failed.error, PictureError)
    assert failed.error.message == f"{tmp_path / '001.png'}: too small for that"
    assert failed.error.hint == "Enlarge it."
    assert {path.name[:3] for path in (tmp_path / "out").iterdir()} == {"000", "002"}
    assert network.pictures == 3
    assert list(spool_folder.iterdir()) == []


# --- One scale for all pictures ------------------------------------------------------------------------


def test_all_pictures_are_seen_before_the_first_is_drawn(
    model: Model, network: Unchanged, tmp_path: Path, spool_folder: Path
) -> None:
    seen = []
    drawing = Pair(
        spans=Spans(), before=lambda _: seen.append((network.pictures, len(list(spool_folder.rglob("*.npy")))))
    )
    jobs = drawing.jobs(make(tmp_path, *[(20, 16), (16, 20), (24, 24)] * 10))
    assert not failures(run(model, jobs, drawing, batch_size=2))
    assert {count for count, _ in seen} == {30}
    # Those that wait are on disk, source and translation each; only those that are being drawn are in memory.
    assert all(waiting >= 2 * (30 - drawn - (2 * 2 + 2 + 2)) for drawn, (_, waiting) in enumerate(seen))
    assert drawing.spans is not None
    spans = [done.maps[0]["generator"].span for done in drawing.drawn]
    assert drawing.spans["generator"] == (min(low for low, _ in spans), max(high for _, high in spans))


def test_failures_do_not_wait(model: Model, network: Unchanged, tmp_path: Path) -> None:
    jobs = make(tmp_path, *[(20, 16)] * 40)
    (tmp_path / "000.png").write_bytes(b"")
    drawing = Pair(spans=Spans())
    options = TranslateOptions(sizes=NATIVE, workers=1)
    results = translate_files(model, drawing.jobs(jobs), options, drawing=drawing)
    first = next(results)
    assert first.error is not None
    assert network.pictures < 40
    assert not failures(list(results))
    assert len(drawing.drawn) == 39


def test_stopping_draws_nothing_on_a_scale_of_a_few(
    model: Model, network: Unchanged, tmp_path: Path, spool_folder: Path
) -> None:
    stop = threading.Event()
    network.before = lambda _: stop.set() if network.pictures >= 6 else None
    drawing = Pair(spans=Spans())
    jobs = drawing.jobs(make(tmp_path, *[(16, 16)] * 60))
    results = list(translate_files(model, jobs, TranslateOptions(sizes=NATIVE), drawing=drawing, stop=stop))
    assert not failures(results)
    assert results == []
    assert 6 <= network.pictures < 40
    assert drawing.drawn == []
    assert list(spool_folder.iterdir()) == []


def test_a_disk_that_is_full_before_the_first_is_drawn(
    model: Model, network: Unchanged, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spool_folder: Path
) -> None:
    save, count = np.save, itertools.count()

    def fill(*arguments: Any, **options: Any) -> None:
        if next(count) >= 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*arguments, **options)

    monkeypatch.setattr(np, "save", fill)
    drawing = Pair(spans=Spans())
    results = run(model, drawing.jobs(make(tmp_path, *[(16, 16)] * 200)), drawing, batch_size=4)
    (failed,) = [result for result in results if result.error]
    assert isinstance(failed.error, StorageError)
    assert "no space left on device" in failed.error.message
    assert "TMPDIR" in failed.error.hint
    assert len(results) == 1
    assert drawing.drawn == []
    assert network.pictures < 60
    assert list(spool_folder.iterdir()) == []


@pytest.mark.parametrize("end", ["the consumer leaves", "a failure nobody foresaw"])
def test_nothing_is_left_on_disk(
    model: Model, network: Unchanged, tmp_path: Path, spool_folder: Path, end: str
) -> None:
    used: list[int] = []

    def before(_: Done) -> None:
        used.append(len(list(spool_folder.rglob("*.npy"))))
        if end == "a failure nobody foresaw":
            raise ZeroDivisionError

    drawing = Pair(spans=Spans(), before=before)
    jobs = drawing.jobs(make(tmp_path, *[(16, 16)] * 30))
    results = translate_files(model, jobs, TranslateOptions(sizes=NATIVE), drawing=drawing)
    if end == "the consumer leaves":
        next(results)
        results.close()
    else:
        with pytest.raises(ZeroDivisionError):
            next(results)
    assert max(used) > 10
    assert network.pictures == 30
    assert list(spool_folder.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ugatit_")]


def test_a_translation_needs_no_room_on_disk(
    model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spool_folder: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(spool_folder / "nowhere"))
    assert not failures(run(model, make(tmp_path, (16, 16))))
    for drawing in (Pair(), Pair(spans=Spans(), sees_source=False)):
        (result,) = run(model, drawing.jobs(make(tmp_path, (16, 16))), drawing)
        assert isinstance(result.error, StorageError)
