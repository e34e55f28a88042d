"""What the pipeline does for drawings: several files a picture, attention, one scale for all."""

from __future__ import annotations

import errno
import io
import itertools
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from tests.pipelines import NATIVE, Network, failures, leftovers, make, noise, run
from ugatit_cli import load
from ugatit_cli.attention.maps import AttentionMap, Grid, Spans
from ugatit_cli.config import MapName
from ugatit_cli.errors import ModelError, PictureError, StorageError
from ugatit_cli.outputs.base import Done, Drawn
from ugatit_cli.pictures import reading
from ugatit_cli.pictures.geometry import Geometry, Pixels
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.translation import pipeline
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.passes import Translated
from ugatit_cli.translation.pipeline import Result, TranslateOptions, translate_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("pipeline") / "tiny")


@pytest.fixture
def model(folder: Path) -> Model:
    return load(folder, device="cpu", precision="fp32")


# --- Drawings ------------------------------------------------------------------------------------------


class Gaze(Network):
    """Its attention is 0 and the picture's mean; what the network gives is counted as long as it is in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: Model) -> None:
        super().__init__(monkeypatch, model)
        self.given: list[weakref.ref[Pixels]] = []

    def __call__(
        self,
        batch: Sequence[Pixels],
        direction: str,
        plans: Sequence[Geometry],
        maps: Sequence[MapName],
        at_once: int,
    ) -> list[Translated]:
        results = []
        for seen, plan in zip(super().__call__(batch, direction, plans, (), at_once), plans, strict=True):
            values = np.array([[0, seen.pixels.mean()]], np.float32)
            found = {name: AttentionMap(name, values, (0, 0), Grid(4, 2), plan) for name in maps}
            results.append(Translated(seen.pixels.copy(), found))
        self.given += [weakref.ref(one.pixels) for one in results]
        return results

    @property
    def alive(self) -> int:
        return sum(reference() is not None for reference in self.given)


@pytest.fixture
def gaze(monkeypatch: pytest.MonkeyPatch, model: Model) -> Gaze:
    return Gaze(monkeypatch, model)


@dataclass
class Pair:
    """A drawing of two files: the translation, and what was translated.

    Attributes:
        before: something to do before a picture is drawn.
    """

    maps: tuple[MapName, ...] = ("generator",)
    spans: Spans | None = None
    reads_again: bool = True
    before: Callable[[Done], object] = lambda _: None
    drawn: list[Done] = field(default_factory=list)

    def outputs(self, output: Path) -> tuple[Path, ...]:
        return output, output.with_suffix(".before.png")

    def resized(self, plan: Geometry) -> Geometry:
        return plan

    def draw(self, done: Done) -> Drawn:
        self.before(done)
        self.drawn.append(done)
        buffer = io.BytesIO()
        done.inputs[0].save(buffer, "PNG")
        flat = tuple(name for name, one in done.maps[0].items() if one.flat)
        return Drawn([done.encoded(done.frames), buffer.getvalue()], done.plan.output, flat)

    def jobs(self, jobs: Sequence[Job]) -> list[Job]:
        return [replace(job, several=self.outputs(job.output)) for job in jobs if job.output]


@pytest.fixture
def spool_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where files for a while go."""
    folder = tmp_path_factory.mktemp("spool")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


SPANS = pytest.mark.parametrize("spans", [None, Spans], ids=["as they come", "all before the first"])


@SPANS
def test_a_drawing_of_several_files(
    model: Model, gaze: Gaze, tmp_path: Path, spool_folder: Path, spans: Callable[[], Spans] | None
) -> None:
    drawing = Pair(spans=spans and spans())
    jobs = drawing.jobs(make(tmp_path, *[(20, 16), (16, 20)] * 6))
    results = run(model, jobs, drawing, batch_size=3)
    assert not failures(results)
    assert {result.job for result in results} == set(jobs)
    assert gaze.pictures == 12
    for result in results:
        assert result.data is None
        assert result.job.source
        with Image.open(result.job.source) as source:
            for path in result.job.outputs:
                with Image.open(path) as written:
                    assert written.tobytes() == source.tobytes()
    assert len(list((tmp_path / "out").iterdir())) == 24
    assert leftovers(tmp_path) == []
    assert list(spool_folder.iterdir()) == []


@SPANS
def test_drawings_get_the_maps_they_need(model: Model, tmp_path: Path, spans: Callable[[], Spans] | None) -> None:
    drawing = Pair(spans=spans and spans())
    jobs = drawing.jobs(make(tmp_path, (36, 32), (32, 36), (40, 40)))
    assert not failures(run(model, jobs, drawing))
    assert len(drawing.drawn) == 3
    for done in drawing.drawn:
        assert done.job.source
        with Image.open(done.job.source) as picture:
            (expected,) = model.attention_maps([picture], fit="native").maps
        ((name, one),) = done.maps[0].items()
        assert name == "generator"
        np.testing.assert_array_equal(one.values, expected[name].values)
        assert one.plan == done.plan


def test_maps_that_the_model_does_not_have(model: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no local attention"):
        run(model, make(tmp_path, (20, 16)), Pair(("local",)))


def test_what_a_drawing_says_of_its_picture(model: Model, gaze: Gaze, tmp_path: Path) -> None:
    Image.new("RGB", (20, 16)).save(tmp_path / "black.png")
    drawing = Pair()
    jobs = drawing.jobs([*make(tmp_path, (20, 16)), Job(tmp_path / "black.png", tmp_path / "out" / "black.png")])
    found = {Path(result.job.name).stem: result for result in run(model, jobs, drawing)}
    assert (found["000"].flat, found["black"].flat) == ((), ("generator",))
    assert found["000"].size == (20, 16)
    assert found["000"].frames == 1
    assert gaze.pictures == 2


def test_standard_output_gets_the_first_file(model: Model, gaze: Gaze, tmp_path: Path) -> None:
    (job,) = make(tmp_path, (20, 16))
    (result,) = run(model, [Job(job.source, None)], Pair())
    assert result.data is not None
    assert job.source
    with Image.open(io.BytesIO(result.data)) as written:
        assert written.tobytes() == noise(20, 16).tobytes()
    assert gaze.pictures == 1
    assert not (tmp_path / "out").exists()


def test_a_drawing_chooses_the_size(model: Model, gaze: Gaze, tmp_path: Path) -> None:
    class Large(Pair):
        def resized(self, plan: Geometry) -> Geometry:
            return replace(plan, output=(60, 48))

    drawing = Large()
    jobs = drawing.jobs(make(tmp_path, (20, 16)))
    (result,) = run(model, jobs, drawing)
    assert result.size == (60, 48)
    for path in jobs[0].outputs:
        with Image.open(path) as written:
            assert written.size == (60, 48)
    assert gaze.batches == [(1, 16, 20, 3)]


@pytest.mark.parametrize(("maps", "together"), [(("generator",), 1), (("generator", "local"), 4)])
def test_discriminators_look_at_several_pictures_in_one_pass(
    model: Model,
    gaze: Gaze,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    maps: tuple[MapName, ...],
    together: int,
) -> None:
    monkeypatch.setattr(pipeline, "LOOKED_PIXELS", 4 * 16 * 16 + 100)
    drawing = Pair(maps)
    results = run(model, drawing.jobs(make(tmp_path, *[(16, 16)] * 24)), drawing)
    assert len(results) == 24
    assert not failures(results)
    assert max(shape[0] for shape in gaze.batches) == together
    assert set(gaze.taken) == {1}  # the generator takes them one by one on the CPU


def test_only_the_first_frame_where_that_is_wanted(model: Model, gaze: Gaze, tmp_path: Path) -> None:
    frames = [noise(24, 16, seed) for seed in range(3)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    drawing = Pair()
    for name, first_only, count in (("b.webp", True, 1), ("c.webp", False, 3)):
        jobs = drawing.jobs([Job(tmp_path / "a.webp", tmp_path / name)])
        (result,) = run(model, jobs, drawing, first_only=first_only)
        assert result.error is None
        assert result.frames == count
        assert len(drawing.drawn[-1].maps) == len(drawing.drawn[-1].sources) == count
        assert len(reading.read_picture(tmp_path / name).frames) == count
    assert gaze.pictures == 4


@SPANS
def test_opacity_of_a_source_that_is_read_again(
    model: Model, gaze: Gaze, tmp_path: Path, spans: Callable[[], Spans] | None
) -> None:
    picture = noise(20, 16)
    picture.putalpha(Image.linear_gradient("L").resize((20, 16)))
    picture.save(tmp_path / "a.png")
    job = Job(tmp_path / "a.png", tmp_path / "b.png")
    assert not failures(run(model, [job]))
    plain = (tmp_path / "b.png").read_bytes()
    drawing = Pair(spans=spans and spans())
    assert not failures(run(model, drawing.jobs([job]), drawing))
    assert drawing.drawn[0].alphas is None
    assert (tmp_path / "b.png").read_bytes() == plain
    with Image.open(tmp_path / "b.before.png") as before:
        assert before.mode == "RGB"
    assert gaze.pictures == 2


def test_opacity_of_a_source_that_needs_no_second_look_is_kept(model: Model, gaze: Gaze, tmp_path: Path) -> None:
    drawing = Pair(reads_again=False)
    assert not failures(run(model, drawing.jobs(make(tmp_path, (20, 16))), drawing))
    assert drawing.drawn[0].alphas == [None]
    assert gaze.pictures == 1


@SPANS
@pytest.mark.parametrize("transparent", [False, True])
def test_standard_input_is_read_once(
    model: Model,
    gaze: Gaze,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    transparent: bool,
    spans: Callable[[], Spans] | None,
) -> None:
    picture, buffer = noise(20, 16), io.BytesIO()
    if transparent:
        picture.putalpha(Image.linear_gradient("L").resize((20, 16)))
    picture.save(buffer, "PNG")
    buffer.seek(0)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(buffer))
    drawing = Pair(spans=spans and spans())
    (result,) = run(model, drawing.jobs([Job(None, tmp_path / "b.png")]), drawing)
    assert result.error is None
    with Image.open(tmp_path / "b.png") as written:
        assert written.mode == ("RGBA" if transparent else "RGB")
        assert np.abs(np.asarray(written).astype(int) - np.asarray(picture))[:, :, -1].max() == 0
    assert gaze.pictures == 1


# --- Drawings that fail --------------------------------------------------------------------------------


@SPANS
def test_a_drawing_that_fails_is_named(
    model: Model, gaze: Gaze, tmp_path: Path, spool_folder: Path, spans: Callable[[], Spans] | None
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
    assert gaze.pictures == 3
    assert list(spool_folder.iterdir()) == []


def test_one_of_several_files_that_cannot_be_written(model: Model, gaze: Gaze, tmp_path: Path) -> None:
    drawing = Pair()
    jobs = drawing.jobs(make(tmp_path, *[(20, 16)] * 3))
    jobs[1].outputs[1].mkdir(parents=True)
    found = failures(run(model, jobs, drawing))
    assert list(found) == ["001.png"]
    assert found["001.png"].startswith(f"{tmp_path / '001.png'}: ")
    assert str(jobs[1].outputs[1]) in found["001.png"]
    assert leftovers(tmp_path) == []
    assert gaze.pictures == 3


def remove(path: Path) -> None:
    path.unlink()


def enlarge(path: Path) -> None:
    noise(21, 16).save(path)


def animate(path: Path) -> None:
    noise(20, 16).save(path, save_all=True, append_images=[noise(20, 16, 1)])


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


@SPANS
@pytest.mark.parametrize(
    ("change", "reason"),
    [(remove, "no such file"), (enlarge, "changed while"), (animate, "changed while"), (damage, "the file is")],
)
def test_a_source_that_changes_before_it_is_drawn(
    model: Model,
    gaze: Gaze,
    tmp_path: Path,
    change: Callable[[Path], None],
    reason: str,
    spans: Callable[[], Spans] | None,
) -> None:
    drawing = Pair(spans=spans and spans())
    jobs = drawing.jobs(make(tmp_path, *[(20, 16)] * 3))
    monkey = iter([lambda: change(tmp_path / "001.png")])
    gaze.before = lambda: next(monkey, lambda: None)()  # type: ignore[method-assign]
    results = run(model, jobs, drawing, batch_size=3)
    assert [type(result.error) for result in results if result.error] == [PictureError]
    found = failures(results)
    assert list(found) == ["001.png"]
    assert found["001.png"].startswith(f"{tmp_path / '001.png'}: {reason}")


# --- One scale for all pictures ------------------------------------------------------------------------


def test_all_pictures_are_seen_before_the_first_is_drawn(model: Model, gaze: Gaze, tmp_path: Path) -> None:
    seen = []
    drawing = Pair(spans=Spans(), before=lambda _: seen.append((gaze.pictures, gaze.alive)))
    jobs = drawing.jobs(make(tmp_path, *[(20, 16), (16, 20), (24, 24)] * 10))
    assert not failures(run(model, jobs, drawing, batch_size=2))
    assert {count for count, _ in seen} == {30}
    # Those that wait are on disk; only those that are being drawn are in memory, and some that just were.
    assert max(alive for _, alive in seen) <= 2 * 2 + 2 + 4
    means = [done.maps[0]["generator"].values.max() for done in drawing.drawn]
    assert drawing.spans is not None
    assert drawing.spans["generator"] == (0, max(means))


def test_what_waits_takes_no_memory(
    model: Model, gaze: Gaze, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    encode = pipeline._Run.encode
    waiting = []

    def spied(self: pipeline._Run, item: pipeline._Work | Result) -> Result:
        assert isinstance(item, pipeline._Work)
        assert item.place is not None
        waiting.append((item.frames, item.alphas, item.picture.frames, item.place.suffix))
        return encode(self, item)

    monkeypatch.setattr(pipeline._Run, "encode", spied)
    picture = noise(20, 16)
    picture.putalpha(Image.linear_gradient("L").resize((20, 16)))
    picture.save(tmp_path / "a.png")
    drawing = Pair(spans=Spans(), reads_again=False)
    jobs = drawing.jobs([*make(tmp_path, *[(20, 16)] * 3), Job(tmp_path / "a.png", tmp_path / "out" / "a.png")])
    assert not failures(run(model, jobs, drawing))
    assert waiting == [([], None, (), ".npy")] * 4
    assert gaze.pictures == 4


def test_failures_do_not_wait(model: Model, gaze: Gaze, tmp_path: Path) -> None:
    jobs = make(tmp_path, *[(20, 16)] * 40)
    (tmp_path / "000.png").write_bytes(b"")
    drawing = Pair(spans=Spans())
    options = TranslateOptions(sizes=NATIVE, workers=1)
    results = translate_files(model, drawing.jobs(jobs), options, drawing=drawing)
    first = next(results)
    assert first.error is not None
    assert gaze.pictures < 40
    assert not failures(list(results))
    assert len(drawing.drawn) == 39


def test_stopping_draws_nothing_on_a_scale_of_a_few(
    model: Model, gaze: Gaze, tmp_path: Path, spool_folder: Path
) -> None:
    stop = threading.Event()
    gaze.before = lambda: stop.set() if gaze.pictures >= 6 else None  # type: ignore[method-assign]
    drawing = Pair(spans=Spans())
    jobs = drawing.jobs(make(tmp_path, *[(16, 16)] * 60))
    results = list(translate_files(model, jobs, TranslateOptions(sizes=NATIVE), drawing=drawing, stop=stop))
    assert not failures(results)
    assert results == []
    assert 6 <= gaze.pictures < 40
    assert drawing.drawn == []
    assert list(spool_folder.iterdir()) == []


def test_a_disk_that_is_full_before_the_first_is_drawn(
    model: Model, gaze: Gaze, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spool_folder: Path
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
    assert gaze.pictures < 60
    assert list(spool_folder.iterdir()) == []


def test_nothing_is_left_on_disk_when_the_consumer_leaves(
    model: Model, gaze: Gaze, tmp_path: Path, spool_folder: Path
) -> None:
    used = []
    drawing = Pair(spans=Spans(), before=lambda _: used.append(len(list(spool_folder.rglob("*.npy")))))
    jobs = drawing.jobs(make(tmp_path, *[(16, 16)] * 30))
    results = translate_files(model, jobs, TranslateOptions(sizes=NATIVE), drawing=drawing)
    next(results)
    results.close()
    assert max(used) > 10
    assert gaze.pictures == 30
    assert list(spool_folder.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ugatit")]


def test_nothing_is_left_on_disk_by_a_failure_nobody_foresaw(
    model: Model, gaze: Gaze, tmp_path: Path, spool_folder: Path
) -> None:
    def fail(_: Done) -> None:
        raise ZeroDivisionError("a bug")

    drawing = Pair(spans=Spans(), before=fail)
    with pytest.raises(ZeroDivisionError):
        run(model, drawing.jobs(make(tmp_path, *[(16, 16)] * 5)), drawing)
    assert gaze.pictures == 5
    assert list(spool_folder.iterdir()) == []


def test_a_translation_needs_no_room_on_disk(
    model: Model, gaze: Gaze, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert not failures(run(model, make(tmp_path, (16, 16))))
    drawing = Pair(spans=Spans())
    (result,) = run(model, drawing.jobs(make(tmp_path, (16, 16))), drawing)
    assert isinstance(result.error, StorageError)
    assert gaze.pictures == 2
