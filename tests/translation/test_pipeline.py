"""Many files through a model: batches, bounded look-ahead, failures, stopping."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from tests.pipelines import NATIVE, Network, failures, leftovers, make, noise, run, unchanged
from ugatit_cli import files, load
from ugatit_cli.errors import ModelError, OutputError, PictureError, StorageError, UsageError
from ugatit_cli.outputs.base import FileOptions
from ugatit_cli.pictures import reading as reading_module
from ugatit_cli.pictures.geometry import Pixels, SizeOptions
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.translation import passes, pipeline
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.passes import Translated
from ugatit_cli.translation.pipeline import MAX_TURN, MAX_WAITING, TranslateOptions, translate_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("pipeline") / "tiny")


@pytest.fixture
def model(folder: Path) -> Model:
    return load(folder, device="cpu", precision="fp32")


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, model: Model) -> Network:
    return Network(monkeypatch, model)


# --- Results -------------------------------------------------------------------------------------------


def test_every_file_has_its_own_result(model: Model, network: Network, tmp_path: Path) -> None:
    jobs = make(tmp_path, *[(20, 16), (16, 20), (31, 17), (20, 16)] * 3)
    results = run(model, jobs)
    assert {result.job for result in results} == set(jobs)
    assert len(results) == len(jobs) == network.pictures
    for result in results:
        assert result.error is None
        assert result.data is None
        assert result.seconds > 0
        assert result.job.source
        assert result.job.output
        with Image.open(result.job.source) as source, Image.open(result.job.output) as translated:
            assert translated.size == source.size == result.size
            assert translated.tobytes() == source.tobytes()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("batch_size", [0, 1, 3, 100])
def test_any_number_of_workers_and_any_batch_size(
    model: Model, network: Network, tmp_path: Path, workers: int, batch_size: int
) -> None:
    jobs = make(tmp_path, *[(20, 16), (16, 20)] * 8)
    results = run(model, jobs, workers=workers, batch_size=batch_size)
    assert len(results) == 16
    assert not failures(results)
    assert network.pictures == 16


def test_the_order_of_the_files_does_not_matter(model: Model, tmp_path: Path) -> None:
    jobs = make(tmp_path, *[(20, 16), (40, 20), (33, 40)] * 2)
    written = []
    for order in (jobs, jobs[::-1]):
        assert not failures(run(model, order, sizes=SizeOptions()))
        written.append([job.output.read_bytes() for job in jobs if job.output])
    assert written[0] == written[1]


def test_standard_output_gets_the_bytes(model: Model, network: Network, tmp_path: Path) -> None:
    (job,) = make(tmp_path, (20, 16), suffix=".webp")
    (result,) = run(model, [Job(job.source, None)], files=FileOptions(format="png"))
    assert result.data is not None
    assert result.data.startswith(b"\x89PNG")
    assert network.pictures == 1
    assert not (tmp_path / "out").exists()


def test_nothing_to_do(model: Model) -> None:
    assert run(model, []) == []


def test_sizes_and_format(model: Model, tmp_path: Path) -> None:
    (job,) = make(tmp_path, (20, 16))
    (result,) = run(model, [Job(job.source, tmp_path / "a.jpg")], sizes=SizeOptions(output="32"))
    assert result.size == (40, 32)
    with Image.open(tmp_path / "a.jpg") as written:
        assert (written.size, written.format) == ((40, 32), "JPEG")


def test_alpha_is_put_back(model: Model, network: Network, tmp_path: Path) -> None:
    picture = noise(20, 16)
    picture.putalpha(Image.linear_gradient("L").resize((20, 16)))
    picture.save(tmp_path / "a.png")
    run(model, [Job(tmp_path / "a.png", tmp_path / "b.png")], sizes=SizeOptions("native", output="40x32"))
    with Image.open(tmp_path / "b.png") as written:
        assert (written.mode, written.size) == ("RGBA", (40, 32))
    assert network.pictures == 1


# --- Animations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_animations_keep_their_frames_and_timing(model: Model, network: Network, tmp_path: Path, suffix: str) -> None:
    frames = [noise(24, 16, seed) for seed in range(7)]
    source, output = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    durations = [50, 100, 150, 200, 250, 300, 350]
    frames[0].save(source, save_all=True, append_images=frames[1:], duration=durations, loop=0)
    (result,) = run(model, [Job(source, output)], batch_size=3)
    assert result.error is None
    assert [shape[0] for shape in network.batches] == [3, 3, 1]
    written = reading_module.read_picture(output)
    assert written.durations == tuple(durations)
    assert (len(written.frames), written.loop, written.size) == (7, 0, (24, 16))


def test_frames_of_an_animation_share_batches_with_stills(model: Model, network: Network, tmp_path: Path) -> None:
    frames = [noise(24, 16, seed) for seed in range(3)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    jobs = [*make(tmp_path, (24, 16)), Job(tmp_path / "a.webp", tmp_path / "out" / "a.webp")]
    assert not failures(run(model, jobs, batch_size=4))
    assert [shape[0] for shape in network.batches] == [4]
    still = reading_module.read_picture(tmp_path / "out" / "000.png").frames[0].rgb
    assert still.tobytes() == noise(24, 16).tobytes()
    assert len(reading_module.read_picture(tmp_path / "out" / "a.webp").frames) == 3


# --- Batches -------------------------------------------------------------------------------------------


def test_batches_are_full_and_of_equal_shape(model: Model, network: Network, tmp_path: Path) -> None:
    sizes = [(20, 16), (16, 20), (18, 15), (40, 40)]  # the third is padded to the shape of the first
    run(model, make(tmp_path, *sizes * 4), batch_size=4)
    shapes = [shape[1:3] for shape in network.batches]
    assert network.pictures == 16
    assert [shape[0] for shape in network.batches] == [4, 4, 4, 4]
    assert sorted(shapes) == [(16, 20), (16, 20), (20, 16), (40, 40)]


def test_a_batch_that_never_fills_is_translated_at_the_end(model: Model, network: Network, tmp_path: Path) -> None:
    run(model, make(tmp_path, (20, 16), (16, 20), (20, 16)), batch_size=64)
    assert sorted(network.batches) == [(1, 20, 16, 3), (2, 16, 20, 3)]


def test_tiled_and_whole_pictures_are_not_mixed(model: Model, network: Network, tmp_path: Path) -> None:
    run(model, make(tmp_path, (64, 64), (160, 64), (64, 64)), batch_size=8, sizes=SizeOptions("native", 64))
    assert sorted((plan.tile, shape[0]) for plan, shape in zip(network.plans, network.batches, strict=True)) == [
        (0, 2),
        (64, 1),
    ]


# --- Look-ahead ----------------------------------------------------------------------------------------


class Watch:
    """Counts what is decoded, translated and written, and how far one stage got ahead of the next."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, network: Network) -> None:
        self.lock = threading.Lock()
        self.decoded = self.written = self.ahead = self.behind = 0
        self.network = network
        self.read, self.write = reading_module.read_picture, files.write_file
        self.write_delay = 0.0
        monkeypatch.setattr(reading_module, "read_picture", self.on_read)
        monkeypatch.setattr(files, "write_file", self.on_write)

    def on_read(self, source: Path, **options: Any) -> reading_module.Picture:
        picture = self.read(source, **options)
        with self.lock:
            self.decoded += 1
            self.ahead = max(self.ahead, self.decoded - self.network.pictures)
        return picture

    def on_write(self, path: Path, data: bytes) -> None:
        time.sleep(self.write_delay)
        self.write(path, data)
        with self.lock:
            self.written += 1
            self.behind = max(self.behind, self.network.pictures - self.written)


def test_decoding_stays_a_window_ahead(
    model: Model, network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network.delay = 0.001
    watch = Watch(monkeypatch, network)
    jobs = make(tmp_path, *[(16, 16)] * 500)
    assert len(run(model, jobs, workers=2, batch_size=1)) == 500
    window = 2 * 2 + 1
    # One turn more is in the hands of the network.
    assert watch.ahead <= window + MAX_TURN + 1
    assert watch.behind <= window + MAX_TURN + 1


def test_encoding_stays_a_window_behind(
    model: Model, network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watch = Watch(monkeypatch, network)
    watch.write_delay = 0.005
    run(model, make(tmp_path, *[(16, 16)] * 120), workers=3, batch_size=2)
    window = 2 * 3 + 2
    assert watch.written == 120
    assert watch.behind <= window + MAX_TURN + 1
    assert watch.ahead <= window + MAX_TURN + 1


def test_on_the_cpu_threads_and_network_take_turns(
    model: Model, network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watch = Watch(monkeypatch, network)
    watch.write_delay = 0.002
    seen: list[int] = []
    translate = model.look

    def during(*arguments: Any) -> list[Translated]:
        before = watch.decoded + watch.written
        network.delay = 0.005
        result = translate(*arguments)
        seen.append(watch.decoded + watch.written - before)
        return result

    monkeypatch.setattr(model, "look", during)
    run(model, make(tmp_path, *[(16, 16)] * 60), workers=4)
    assert seen == [0] * 60


def test_few_pictures_wait_for_their_shape(
    model: Model, network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watch = Watch(monkeypatch, network)
    shapes = [(16 + 4 * (index % 30), 16 + 4 * (index // 30)) for index in range(300)]
    assert len(run(model, make(tmp_path, *shapes), workers=2, batch_size=8)) == 300
    assert network.pictures == 300
    assert watch.ahead <= MAX_WAITING + 1 + (2 * 2 + 8) + 1


def test_a_consumer_who_leaves_ends_the_run(model: Model, network: Network, tmp_path: Path) -> None:
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
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ugatit")]


# --- Failures ------------------------------------------------------------------------------------------


def test_broken_files_are_named_and_the_rest_is_done(model: Model, network: Network, tmp_path: Path) -> None:
    jobs = make(tmp_path, *[(20, 16)] * 9)
    (tmp_path / "002.png").write_bytes((tmp_path / "002.png").read_bytes()[:300])
    (tmp_path / "005.png").write_bytes(b"")
    (tmp_path / "007.png").unlink()
    found = failures(run(model, jobs, batch_size=4))
    assert sorted(found) == ["002.png", "005.png", "007.png"]
    for name, message in found.items():
        assert message.startswith(f"{tmp_path / name}: ")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{index:03}.png" for index in (0, 1, 3, 4, 6, 8)
    ]
    assert network.pictures == 6


def test_too_little_memory_names_every_picture(model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def little(_: object, batch: Sequence[Pixels]) -> list[passes.Seen]:
        if batch[0].shape[0] > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [passes.Seen(pixels, {}) for pixels in batch]

    monkeypatch.setattr(passes.NetworkPass, "_forward", little)
    jobs = make(tmp_path, (20, 16), (40, 40), (20, 16), (40, 40))
    found = failures(run(model, jobs, batch_size=2))
    assert sorted(found) == ["001.png", "003.png"]
    for name, message in found.items():
        assert message.startswith(f"{tmp_path / name}: not enough memory on cpu for 40x40")


@pytest.mark.parametrize(("stage", "kind"), [("read_picture", PictureError), ("restore_alpha", OutputError)])
def test_too_little_memory_to_decode_or_encode(
    model: Model, network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stage: str, kind: type
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    jobs = make(tmp_path, (20, 16))
    monkeypatch.setattr(reading_module, stage, refuse)
    (result,) = run(model, jobs)
    assert result.error is not None
    assert type(result.error) is kind
    assert result.error.message.startswith(f"{tmp_path / '000.png'}: not enough memory")
    assert network.pictures <= 1


def test_a_size_that_one_picture_cannot_have(model: Model, network: Network, tmp_path: Path) -> None:
    jobs = make(tmp_path, (400, 1), (8, 8))
    results = run(model, jobs, sizes=SizeOptions(output="200"))
    assert network.pictures == 1
    (found,) = [result.error for result in results if result.error]
    assert isinstance(found, UsageError)
    assert found.message == f"{tmp_path / '000.png'}: a size of 200 (80000x200 pixels)"


def test_an_animation_that_its_format_cannot_hold(model: Model, network: Network, tmp_path: Path) -> None:
    frames = [noise(24, 16, seed) for seed in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    (result,) = run(model, [Job(tmp_path / "a.gif", tmp_path / "a.jpg")])
    assert isinstance(result.error, PictureError)
    assert result.error.message.startswith(f"{tmp_path / 'a.gif'}: the animation has 3 frames")
    assert "--format" in result.error.hint
    assert network.pictures == 3


def test_one_result_that_cannot_be_written(model: Model, network: Network, tmp_path: Path) -> None:
    jobs = make(tmp_path, *[(20, 16)] * 3)
    (tmp_path / "out" / "001.png").mkdir(parents=True)
    found = failures(run(model, jobs))
    assert list(found) == ["001.png"]
    assert str(tmp_path / "out" / "001.png") in found["001.png"]
    assert network.pictures == 3


def test_a_failure_nobody_foresaw_is_not_swallowed(
    model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(model, "look", broken)
    with pytest.raises(ZeroDivisionError):
        run(model, make(tmp_path, (20, 16)))


def test_weights_are_read_before_any_picture(tmp_path: Path) -> None:
    model = load(tiny.save(tmp_path / "m"), device="cpu")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError):
        run(model, make(tmp_path, (20, 16)))


def test_a_full_disk_ends_the_run_with_one_error(
    model: Model, network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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


@pytest.mark.parametrize("batch_size", [1, 4])
def test_stopping_finishes_what_began_and_leaves_the_rest(
    model: Model, network: Network, tmp_path: Path, batch_size: int
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
        assert path is not None
        assert reading_module.read_picture(path).size == (16, 16)


def test_stopped_before_it_began(model: Model, network: Network, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    jobs = make(tmp_path, (16, 16))
    assert list(translate_files(model, jobs, TranslateOptions(), stop=stop)) == []
    assert network.pictures == 0
    assert not (tmp_path / "out").exists()


class Stages:
    """Which of reading, the network and writing are at work at the same time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: Model) -> None:
        self.lock = threading.Lock()
        self.active = [0, 0, 0]
        self.seen: set[tuple[bool, bool, bool]] = set()
        monkeypatch.setattr(reading_module, "read_picture", self.spied(0, reading_module.read_picture))
        monkeypatch.setattr(model, "look", self.spied(1, unchanged))
        monkeypatch.setattr(files, "write_file", self.spied(2, files.write_file))

    def spied(self, stage: int, function: Callable[..., Any]) -> Callable[..., Any]:
        def spy(*arguments: Any, **keywords: Any) -> Any:
            self.change(stage, 1)
            time.sleep(0.01)
            result = function(*arguments, **keywords)
            self.change(stage, -1)
            return result

        return spy

    def change(self, stage: int, step: int) -> None:
        with self.lock:
            self.active[stage] += step
            reading, network, writing = map(bool, self.active)
            self.seen.add((reading, network, writing))


def test_stages_overlap_beside_a_gpu(model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model.generator("a2b")
    model.device = torch.device("cuda")  # which the network that stands in doesn't need
    stages = Stages(monkeypatch, model)
    assert not failures(run(model, make(tmp_path, *[(16, 16)] * 40), workers=4, batch_size=2))
    assert (True, True, True) in stages.seen


def test_stages_take_turns_on_a_cpu(model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stages = Stages(monkeypatch, model)
    assert not failures(run(model, make(tmp_path, *[(16, 16)] * 40), workers=4, batch_size=2))
    assert {threads for threads in stages.seen if threads[1]} == {(False, True, False)}
    assert (True, False, True) in stages.seen


def test_one_file_is_begun_for_each_one_taken(
    model: Model, network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A GPU must not find that nobody decoded while it was busy."""
    model.generator("a2b")
    model.device = torch.device("cuda")
    watch = Watch(monkeypatch, network)
    network.delay = 0.02
    ready = []
    monkeypatch.setattr(network, "before", lambda: ready.append(watch.decoded - network.pictures))
    run(model, make(tmp_path, *[(16, 16)] * 60), workers=2, batch_size=4)
    # Except for the first and for the last ones, the next batch is there already.
    assert len(ready) == 15
    assert sorted(ready[1:13])[1] >= 8


def test_stopping_leaves_other_shapes_that_wait(model: Model, network: Network, tmp_path: Path) -> None:
    stop = threading.Event()
    # The small first picture lets all the others wait for company, and become ripe at once.
    jobs = make(tmp_path, (16, 16), *[(400 + 4 * index, 400) for index in range(40)])
    network.delay = 0.001

    def slow() -> None:
        if len(network.batches) >= 1:
            network.delay = 0.6
        if len(network.batches) == 3:
            stop.set()

    network.before = slow  # type: ignore[method-assign]
    results = list(translate_files(model, jobs, TranslateOptions(sizes=NATIVE, workers=2), stop=stop))
    assert network.pictures == 4
    assert len(results) == 4
    assert all(result.error is None for result in results)


def test_one_picture_that_fails_does_not_take_its_batch_along(
    model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jobs = make(tmp_path, *[(16, 16)] * 5)
    bad = np.asarray(Image.open(str(jobs[2].source)))

    def translate(batch: Sequence[Pixels], *_: object) -> list[Translated]:
        if any((pixels == bad).all() for pixels in batch):
            raise PictureError("not a number")
        return unchanged(batch)

    monkeypatch.setattr(model, "look", translate)
    results = run(model, jobs, batch_size=4)
    assert [result.job for result in results if result.error is not None] == [jobs[2]]
    assert len(results) == 5


def test_large_frames_do_not_wait_in_numbers(
    model: Model, network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pipeline, "MAX_WAITING_PIXELS", 10 * 40 * 40)
    watch = Watch(monkeypatch, network)
    shapes = [(40 + 4 * (index % 10), 40 + 4 * (index // 10)) for index in range(100)]
    run(model, make(tmp_path, *shapes), workers=1, batch_size=8)
    assert network.pictures == 100
    assert watch.ahead <= 10 + 1 + (2 * 1 + 8) + 1
