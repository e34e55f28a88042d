"""Many files through a model: batches, bounded look-ahead, failures, stopping."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests import tiny
from tests.helpers import picture, pixels
from tests.pipelines import NATIVE, Unchanged, failures, leftovers, make, run, unchanging
from ugatit_cli import files, load
from ugatit_cli.errors import ModelError, OutputError, PictureError, StorageError
from ugatit_cli.pictures import reading
from ugatit_cli.pictures.geometry import SizeOptions
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.translation import passes, pipeline
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.passes import MAX_TURN
from ugatit_cli.translation.pipeline import MAX_WAITING, Stages, TranslateOptions, translate_files


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, model: Model, network: Unchanged) -> Model:
    """The same, as if its network were beside the CPU: passes are the other model's."""
    beside, look = unchanging(network), passes.look
    beside.generator("a2b")
    beside.device = torch.device("cuda")
    monkeypatch.setattr(passes, "look", lambda _, *rest: look(model, *rest))
    return beside


@pytest.fixture
def two_cores() -> Iterator[None]:
    """Whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


# --- Results -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("batch_size", [0, 1, 3, 100])
def test_every_file_has_its_own_result(
    model: Model, network: Unchanged, tmp_path: Path, workers: int, batch_size: int
) -> None:
    jobs = make(tmp_path, *[(20, 16), (16, 20), (31, 17), (20, 16)] * 3)
    results = run(model, jobs, workers=workers, batch_size=batch_size)
    assert {result.job for result in results} == set(jobs)
    assert len(results) == len(jobs) == network.pictures
    for result in results:
        assert result.error is None
        assert result.data is None
        assert result.seconds > 0
        assert isinstance(result.job.source, Path)
        assert isinstance(result.job.output, Path)
        with Image.open(result.job.source) as source, Image.open(result.job.output) as translated:
            assert translated.size == source.size == result.size
            assert translated.tobytes() == source.tobytes()
    assert leftovers(tmp_path) == []


# --- Animations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_animations_keep_their_frames_and_timing(
    model: Model, network: Unchanged, tmp_path: Path, suffix: str
) -> None:
    frames = [picture(24, 16, seed) for seed in range(7)]
    source, output = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    durations = [50, 100, 150, 200, 250, 300, 350]
    frames[0].save(source, save_all=True, append_images=frames[1:], duration=durations, loop=0)
    (result,) = run(model, [Job(source, output)], batch_size=3)
    assert result.error is None
    assert [count for count, *_ in network.batches] == [3, 3, 1]
    written = reading.read_picture(output)
    assert written.durations == tuple(durations)
    assert (len(written.frames), written.loop, written.size) == (7, 0, (24, 16))


@pytest.mark.usefixtures("network")
def test_notes_say_what_a_picture_lost(model: Model, tmp_path: Path) -> None:
    clear = picture(24, 16)
    clear.putalpha(90)
    clear.save(tmp_path / "a.png")
    picture(24, 16).save(tmp_path / "b.tif", save_all=True, append_images=[picture(24, 16, 1)])
    jobs = [Job(tmp_path / "a.png", tmp_path / "a.jpg"), Job(tmp_path / "b.tif", tmp_path / "c.tif")]
    results = run(model, [*jobs, Job(tmp_path / "a.png", tmp_path / "d.png")])
    assert [len(result.notes) for result in results] == [1, 1, 0]
    assert "jpg" in str(results[0].notes[0])


# --- Batches -------------------------------------------------------------------------------------------


def test_batches_are_of_equal_shape(model: Model, network: Unchanged, tmp_path: Path) -> None:
    # The third is padded to the shape of the first.
    full = [(4, 16, 20)] * 2 + [(4, 20, 16), (4, 40, 40)]
    tiles = [(1, 64, 64), (1, 64, 160), (2, 64, 64), (2, 64, 64)]  # a look at the picture that is tiled, and three
    for sizes, batch_size, tile, batches in (
        ([(20, 16), (16, 20), (18, 15), (40, 40)] * 4, 4, None, full),
        ([(20, 16), (16, 20), (20, 16)], 64, None, [(1, 20, 16), (2, 16, 20)]),
        ([(64, 64), (160, 64), (64, 64)], 2, 64, tiles),
    ):
        network.batches.clear()
        run(model, make(tmp_path, *sizes), batch_size=batch_size, sizes=SizeOptions("native", tile))
        assert sorted(network.batches) == batches


# --- Look-ahead ----------------------------------------------------------------------------------------


class Watch:
    """Counts what is decoded, translated and written, and how far one stage got ahead of the next."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, network: Unchanged) -> None:
        self.lock = threading.Lock()
        self.decoded = self.written = self.ahead = self.behind = self.active = 0
        self.network = network
        monkeypatch.setattr(Stages, "decode", self.spied(Stages.decode, self.on_read))
        monkeypatch.setattr(files, "write_file", self.spied(files.write_file, self.on_write))

    def spied(self, function: Callable[..., Any], after: Callable[[], None]) -> Callable[..., Any]:
        def spy(*arguments: Any, **options: Any) -> Any:
            with self.lock:
                self.active += 1
            result = function(*arguments, **options)
            with self.lock:
                self.active -= 1
                after()
            return result

        return spy

    def on_read(self) -> None:
        self.decoded += 1
        self.ahead = max(self.ahead, self.decoded - self.network.pictures)

    def on_write(self) -> None:
        self.written += 1
        self.behind = max(self.behind, self.network.pictures - self.written)


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize(("workers", "batch_size"), [(2, 1), (3, 2)])
def test_stages_stay_a_window_apart(
    model: Model, network: Unchanged, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workers: int, batch_size: int
) -> None:
    watch = Watch(monkeypatch, network)
    assert len(run(model, make(tmp_path, *[(16, 16)] * 200), workers=workers, batch_size=batch_size)) == 200
    window = 2 * workers + batch_size
    assert watch.written == 200
    # One turn more is in the hands of the network.
    assert watch.ahead <= window + MAX_TURN + 1
    assert watch.behind <= window + MAX_TURN + 1


def test_on_the_cpu_threads_and_network_take_turns_where_pictures_are_large(
    model: Model, network: Unchanged, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pipeline, "SMALL", 16 * 16 - 1)
    watch = Watch(monkeypatch, network)
    active: list[int] = []
    network.before = lambda _: active.append(watch.active)
    assert not failures(run(model, make(tmp_path, *[(16, 16)] * 60), workers=4))
    assert active == [0] * 60


@pytest.mark.usefixtures("two_cores")
def test_on_the_cpu_small_pictures_are_in_the_network_at_once(
    model: Model, network: Unchanged, tmp_path: Path
) -> None:
    together, threads = threading.Barrier(2), []

    def arrived(_: Tensor) -> None:
        threads.append(torch.get_num_threads())
        if len(threads) <= 6:
            together.wait(60)

    network.before = arrived
    assert not failures(run(model, make(tmp_path, *[(16, 16)] * 7), workers=2))
    assert threads == [1] * 7  # the last one, too, which is alone: so results don't depend on what is beside them
    with ThreadPoolExecutor() as others:
        assert others.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2


def test_stages_overlap_beside_a_gpu(
    gpu: Model, network: Unchanged, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    together, calls = threading.Barrier(3), {"read": itertools.count(1), "write": itertools.count(1)}
    read, write = reading.open_picture, files.write_file

    def reading_on(source: Path, **options: Any) -> AbstractContextManager[reading.Opened]:
        if next(calls["read"]) == 8:
            together.wait(60)
        return read(source, **options)

    def writing(path: Path, data: bytes) -> None:
        if next(calls["write"]) == 1:
            together.wait(60)
        write(path, data)

    network.before = lambda _: together.wait(60) if len(network.batches) == 1 else None
    monkeypatch.setattr(reading, "open_picture", reading_on)
    monkeypatch.setattr(files, "write_file", writing)
    assert not failures(run(gpu, make(tmp_path, *[(16, 16)] * 20), workers=4, batch_size=2))


def test_one_file_is_begun_for_each_one_taken(gpu: Model, network: Unchanged, tmp_path: Path) -> None:
    """A GPU must not find that nobody decoded while it was busy."""
    taken: list[Job] = []
    ahead: list[int] = []

    def jobs() -> Iterator[Job]:
        for job in made:
            taken.append(job)
            yield job

    made = make(tmp_path, *[(16, 16)] * 60)
    network.before = lambda _: ahead.append(len(taken) - network.pictures)
    options = TranslateOptions(sizes=NATIVE, workers=2, batch_size=4)
    assert len(list(translate_files(gpu, jobs(), options))) == 60
    # A batch, and the window; at the end, what there is.
    assert ahead == [min(4 + 2 * 2 + 4, 60 - done) for done in range(0, 60, 4)]


@pytest.mark.parametrize(("smallest", "most_pixels", "most"), [(16, None, MAX_WAITING), (40, 10 * 40 * 40, 10)])
def test_few_pictures_wait_for_their_shape(
    model: Model,
    network: Unchanged,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    smallest: int,
    most_pixels: int | None,
    most: int,
) -> None:
    if most_pixels:
        monkeypatch.setattr(pipeline, "MAX_WAITING_PIXELS", most_pixels)
    watch = Watch(monkeypatch, network)
    shapes = [(smallest + 4 * (index % 15), smallest + 4 * (index // 15)) for index in range(150)]
    run(model, make(tmp_path, *shapes), workers=1, batch_size=8)
    assert network.pictures == 150
    assert watch.ahead <= most + 1 + (2 * 1 + 8) + 1


@pytest.mark.usefixtures("two_cores")
def test_a_consumer_who_leaves_ends_the_run(model: Model, network: Unchanged, tmp_path: Path) -> None:
    jobs = make(tmp_path, *[(16, 16)] * 100)
    taken = 0

    def counted() -> Iterator[Job]:
        nonlocal taken
        for job in jobs:
            taken += 1
            yield job

    results = translate_files(model, counted(), TranslateOptions(sizes=NATIVE, workers=2))
    assert len(list(itertools.islice(results, 3))) == 3
    results.close()
    assert taken < 50
    assert network.pictures <= taken
    assert leftovers(tmp_path) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ugatit_")]


# --- Failures ------------------------------------------------------------------------------------------


def test_too_little_memory_names_every_picture(model: Model, network: Unchanged, tmp_path: Path) -> None:
    def little(x: Tensor) -> None:
        if x.shape[2] > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")

    network.before = little
    jobs = make(tmp_path, (20, 16), (40, 40), (20, 16), (40, 40))
    found = failures(run(model, jobs, batch_size=2))
    assert sorted(found) == ["001.png", "003.png"]
    for name, message in found.items():
        assert message.startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize(("stage", "kind"), [("open_picture", PictureError), ("restore_alpha", OutputError)])
def test_too_little_memory_to_decode_or_encode(
    model: Model, network: Unchanged, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stage: str, kind: type
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    jobs = make(tmp_path, (20, 16))
    monkeypatch.setattr(reading, stage, refuse)
    (result,) = run(model, jobs)
    assert result.error is not None
    assert type(result.error) is kind
    assert result.error.message.startswith(f"{tmp_path / '000.png'}: not enough memory")
    assert network.pictures <= 1


def test_a_failure_nobody_foresaw_is_not_swallowed(model: Model, network: Unchanged, tmp_path: Path) -> None:
    def broken(_: Tensor) -> None:
        raise ZeroDivisionError("a bug")

    network.before = broken
    with pytest.raises(ZeroDivisionError):
        run(model, make(tmp_path, (20, 16)))


def test_weights_are_read_before_any_picture(tmp_path: Path) -> None:
    model = load(tiny.save(tmp_path / "m"), device="cpu")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError):
        run(model, make(tmp_path, (20, 16)))


def test_a_full_disk_ends_the_run_with_one_error(
    model: Model, network: Unchanged, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write, count = files.write_file, itertools.count()

    def fill(path: Path, data: bytes) -> None:
        if next(count) >= 10:
            raise StorageError(f"no space left on the device for {path}", "Free some space.")
        write(path, data)

    monkeypatch.setattr(files, "write_file", fill)
    jobs = make(tmp_path, *[(16, 16)] * 200)
    results = run(model, jobs, workers=4)
    errors = [result for result in results if result.error]
    assert len(errors) == 1
    assert isinstance(errors[0].error, StorageError)
    assert sum(1 for result in results if not result.error) == 10
    assert len(list((tmp_path / "out").iterdir())) == 10
    assert network.pictures < 60


# --- Stopping ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("batch_size", [1, 4])
def test_stopping_finishes_what_began_and_leaves_the_rest(
    model: Model, network: Unchanged, tmp_path: Path, batch_size: int
) -> None:
    jobs = make(tmp_path, *[(16, 16)] * 200)
    stop = threading.Event()
    options = TranslateOptions(sizes=NATIVE, batch_size=batch_size)
    results = []
    for result in translate_files(model, jobs, options, stop=stop):
        results.append(result)
        if len(results) == 10:
            stop.set()
    assert not failures(results)
    assert 10 <= len(results) == network.pictures < 60
    written = {result.job.output for result in results}
    assert written == set((tmp_path / "out").iterdir())
    for path in written:
        assert isinstance(path, Path)
        assert reading.read_picture(path).size == (16, 16)


def test_one_picture_that_fails_does_not_take_its_batch_along(
    model: Model, network: Unchanged, tmp_path: Path
) -> None:
    jobs = make(tmp_path, *[(16, 16)] * 5)
    bad = torch.from_numpy(pixels(16, 16, 2)).permute(2, 0, 1)

    def refuse(x: Tensor) -> None:
        if any(torch.equal(((one + 1) * 127.5).round().byte(), bad) for one in x):
            raise PictureError("not a number")

    network.before = refuse
    results = run(model, jobs, batch_size=4)
    assert [result.job for result in results if result.error is not None] == [jobs[2]]
    assert len(results) == 5
