"""What training steps see: the same whoever asks, however it is prepared."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from tests.helpers import picture
from tests.programs import children
from ugatit_cli.data.batches import Batches, readers_kept, sample_pictures, stream
from ugatit_cli.data.pictures import BLANK, Folders, Holdout, Pictures, Preparation, load_pictures
from ugatit_cli.errors import DataError

SIZE = 16
LOADED = 18  # with jitter
COUNTS = 8, 9

# Python 3.12 warns of what PyTorch's loader does by default on Linux.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def numbered(domain: Any, count: int) -> Pictures:
    """Pictures in memory, each of which knows its number (red) and every pixel its place (green, blue)."""
    pixels = []
    for number in range(count):
        rows, columns = np.indices((LOADED, LOADED + 2), np.uint8)
        pixels.append(np.stack([np.full_like(rows, number), rows, columns], 2))
    files = tuple(Path(f"{domain}/{number}.png") for number in range(count))
    return Pictures(domain, Path(domain), Preparation(SIZE), files, (1,) * count, tuple(pixels), (), (), 0)


MEMORY = numbered("a", COUNTS[0]), numbered("b", COUNTS[1])


def make(seed: int = 1, batch_size: int = 2, **options: Any) -> Batches:
    return Batches(MEMORY, seed=seed, batch_size=batch_size, **options)


def numbers(crops: Tensor) -> list[int]:
    return [int(crop[0, 0, 0]) for crop in crops]


def same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folders, Holdout]:
    root = tmp_path_factory.mktemp("pictures")
    for name, count in (("x", 8), ("y", 13)):
        (root / name).mkdir()
        for number in range(count):
            picture(30, 20 + number, seed=number).save(root / name / f"{number}.png")
    return Folders(root / "x", root / "y"), Holdout(0)


def loaded(on_disk: tuple[Folders, Holdout], budget: int | None = None) -> tuple[Pictures, Pictures]:
    return load_pictures(on_disk[0], Preparation(SIZE), on_disk[1], 1, workers=1, budget_bytes=budget)


# --- A pure function of seed and step ------------------------------------------------------------------


@settings(max_examples=15)
@given(st.integers(0, 2**40), st.integers(1, 5))
def test_every_picture_comes_once_in_each_epoch(seed: int, batch_size: int) -> None:
    batches = make(seed, batch_size)
    steps = 2 * 72 // batch_size + 1  # two epochs at least
    for domain, count in enumerate(COUNTS):
        seen = [number for step in range(steps) for number in numbers(batches[step][domain])]
        epochs = [seen[first : first + count] for first in range(0, len(seen) - count + 1, count)]
        assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 1


def seen(domain: int, count: int, counts: tuple[int, int], order: Any) -> list[int]:
    """Numbers of the first pictures of a domain."""
    both = numbered("a", counts[0]), numbered("b", counts[1])
    batches = Batches(both, seed=4, batch_size=1, order=order)
    return [number for step in range(count) for number in numbers(batches[step][domain])]


def test_zipped_domains_begin_anew_when_the_smaller_one_is_through() -> None:
    for counts in ((8, 20), (20, 8), (8, 8)):
        for domain, count in enumerate(counts):
            found = seen(domain, 160, counts, "zipped")
            epochs = [found[first : first + 8] for first in range(0, 160, 8)]
            assert all(len(set(epoch)) == 8 for epoch in epochs)
            assert set(found) == set(range(count))
            assert len({tuple(epoch) for epoch in epochs}) == 20


@pytest.mark.parametrize(
    ("order", "counts", "drawn"),
    [
        ("drawn-b", (8, 20), 1), ("drawn-b", (20, 8), 1),
        ("drawn-smaller", (8, 20), 0), ("drawn-smaller", (20, 8), 1), ("drawn-smaller", (8, 8), 1),
    ],
)  # fmt: skip
def test_any_picture_of_a_drawn_domain_may_come_at_any_time(order: str, counts: tuple[int, int], drawn: int) -> None:
    count, other, larger = counts[drawn], counts[1 - drawn], max(counts)
    found = seen(drawn, 100 * count, counts, order)
    times = np.bincount(found, minlength=count)
    assert times.min() > 60  # of 100, give or take 10
    assert times.max() < 140
    assert any(len(set(found[first : first + count])) < count for first in range(0, len(found), count))
    beside = seen(1 - drawn, 10 * larger, counts, order)
    for first in range(0, len(beside), larger):
        epoch = np.bincount(beside[first : first + larger], minlength=other)
        assert {*epoch.tolist()} <= {larger // other, -(-larger // other)}
    if other == larger:
        assert beside == seen(1 - drawn, 10 * larger, counts, "shuffled")


@pytest.mark.parametrize("order", ["zipped", "drawn-b", "drawn-smaller"])
def test_every_order_is_the_same_in_any_process_and_at_any_step(order: Any) -> None:
    whole = make(batch_size=4, order=order)
    for step in (7, 30):
        parts = [make(batch_size=2, rank=rank, world_size=2, order=order)[step] for rank in range(2)]
        assert same(whole[step], (torch.cat([a for a, _ in parts]), torch.cat([b for _, b in parts])))


@given(st.integers(0, 2**64), st.integers(0, 2**33))
def test_a_fresh_object_gives_the_same_at_any_step(seed: int, step: int) -> None:
    used = make(seed)
    for earlier in (0, step + 100):
        used[earlier]
    assert same(used[step], make(seed)[step])
    assert same(pickle.loads(pickle.dumps(used))[step], used[step])


def test_what_a_step_sees_stays_the_same_for_good() -> None:
    a, b = make(seed=5)[3]
    corners = [crop[:, 0, 0].tolist() for crop in (*a, *b)]
    assert corners == [[0, 2, 15], [1, 1, 4], [0, 1, 16], [5, 0, 19]]  # recorded: a resumed run may have newer code
    assert not same(make(seed=1)[3], (a, b))
    one, other = Batches((MEMORY[0], MEMORY[0]), seed=1, batch_size=8)[0]  # domains draw for themselves
    assert numbers(one) != numbers(other)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 50))
def test_processes_together_see_the_larger_batch(world_size: int, batch_size: int, step: int) -> None:
    whole = make(batch_size=batch_size * world_size)[step]
    parts = [make(batch_size=batch_size, rank=rank, world_size=world_size)[step] for rank in range(world_size)]
    assert same(whole, (torch.cat([a for a, _ in parts]), torch.cat([b for _, b in parts])))


# --- Crops ---------------------------------------------------------------------------------------------


def test_crops_reach_every_offset_and_half_are_mirrored() -> None:
    crops = torch.cat([make(batch_size=10)[step][0] for step in range(100)]).int()
    rows, columns = crops[:, 1], crops[:, 2]
    assert torch.equal(rows, rows[:, :1, :1] + torch.arange(SIZE)[:, None].expand_as(rows))
    mirrored = columns[:, 0, 0] > columns[:, 0, -1]
    lefts = torch.where(mirrored, columns[:, 0, -1], columns[:, 0, 0])
    ramps = lefts[:, None, None] + torch.arange(SIZE).expand_as(columns)
    assert torch.equal(columns, torch.where(mirrored[:, None, None], ramps.flip(-1), ramps))
    offsets, counts = np.unique(torch.stack([rows[:, 0, 0], lefts], 1).numpy(), axis=0, return_counts=True)
    assert offsets.tolist() == [[top, left] for top in range(3) for left in range(5)]
    assert counts.min() > 1000 / 15 / 2
    assert 430 < int(mirrored.sum()) < 570
    unmirrored = torch.cat([make(batch_size=10, flip=False)[step][0] for step in range(5)]).int()
    assert (unmirrored[:, 2].diff(dim=-1) == 1).all()


# --- Ahead of the network ------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_decoding_when_used_gives_the_same(on_disk: tuple[Folders, Holdout], workers: int) -> None:
    memory = Batches(loaded(on_disk), seed=3, batch_size=2)
    disk = Batches(loaded(on_disk, 0), seed=3, batch_size=2)
    assert (memory.pictures[0].pixels is None, disk.pictures[0].pixels is None) == (False, True)
    state = torch.get_rng_state()
    streamed = list(stream(disk, 5, 18, workers=workers))
    assert torch.equal(torch.get_rng_state(), state)
    for step, batch in enumerate(streamed, 5):
        assert same(batch, memory[step])
        for crops in batch:
            assert (crops.shape, crops.dtype) == ((2, 3, SIZE, SIZE), torch.uint8)
            assert crops.is_contiguous(memory_format=torch.channels_last)
    for one, other in zip(streamed, stream(memory, 5, 18, workers=workers), strict=True):
        assert same(one, other)
    assert list(stream(memory, 5, 5, workers=workers)) == []
    wait_for_readers()


def wait_for_readers() -> None:
    """They have been told to end, which may take longer than PyTorch waits for it."""
    for process in children():
        process.join()


@pytest.mark.parametrize("workers", [0, 2])
def test_closing_early_leaves_nothing_behind(on_disk: tuple[Folders, Holdout], workers: int) -> None:
    threads = set(threading.enumerate())
    batches = stream(Batches(loaded(on_disk, 0), seed=3, batch_size=1), 0, 10**9, workers=workers)
    next(batches)
    assert len(children()) == workers
    batches.close()
    wait_for_readers()
    for thread in set(threading.enumerate()) - threads:
        thread.join()  # a closed queue's own thread ends when it is scheduled


@pytest.mark.parametrize("place", [(slice(0, 3), slice(0, 3)), (8, 30)], ids=["corner", "dot"])
def test_no_crop_is_blank(place: Any) -> None:
    page = np.full((LOADED, 2 * LOADED, 3), 200, np.uint8)
    page[place] = 0
    pictures = [Pictures("a", Path("a"), Preparation(SIZE), (Path("x"),), (1,), (page,), (), (), 0)] * 2
    batches = Batches((pictures[0], pictures[1]), seed=1, batch_size=50)
    spreads = [int(crop.max()) - int(crop.min()) for crops in batches[0] for crop in crops]
    assert min(spreads) > BLANK


@pytest.fixture
def vanished(on_disk: tuple[Folders, Holdout]) -> Iterator[tuple[tuple[Pictures, Pictures], Path]]:
    pictures = loaded(on_disk, 0)
    path = pictures[1].files[4]
    data = path.read_bytes()
    path.unlink()
    yield pictures, path
    path.write_bytes(data)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_vanished_ends_it_with_its_name(
    vanished: tuple[tuple[Pictures, Pictures], Path], workers: int
) -> None:
    pictures, path = vanished
    with pytest.raises(DataError) as caught:
        list(stream(Batches(pictures, seed=1, batch_size=1), 0, 13, workers=workers))
    assert caught.value.message.startswith(f"{path}: ")
    wait_for_readers()
    with pytest.raises(DataError) as caught:
        sample_pictures(pictures[1], 100, 1)
    assert caught.value.message.startswith(f"{path}: ")


def test_readers_outlive_what_a_scheduler_sends_to_all(on_disk: tuple[Folders, Holdout]) -> None:
    running = stream(Batches(loaded(on_disk, 0), seed=3, batch_size=1), 0, 40, workers=2)
    next(running), next(running)  # one of each process: both have begun
    for process in children():
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(process.pid or 0, number)
    assert len(list(running)) == 38
    wait_for_readers()


class Deadly(Batches):
    """Whoever prepares step 6 is killed."""

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        if step == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(step)


# PyTorch hears of it by a signal, whose handler raises wherever Python is: at times where the loader is freed.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. .function _MultiProcessingDataLoaderIter:pytest.PytestUnraisableExceptionWarning"
)
def test_a_reader_that_is_lost(on_disk: tuple[Folders, Holdout]) -> None:
    with pytest.raises(DataError) as caught:
        list(stream(Deadly(loaded(on_disk, 0), seed=3, batch_size=1), 0, 40, workers=2))
    assert "--workers" in caught.value.hint
    wait_for_readers()
    for error in (EOFError(), ConnectionResetError()):  # while it hands over
        with pytest.raises(DataError), readers_kept():
            raise error
    with pytest.raises(RuntimeError, match="x"), readers_kept():
        raise RuntimeError("x")


# --- Samples -------------------------------------------------------------------------------------------


def test_samples_are_the_middles_of_held_out_pictures(on_disk: tuple[Folders, Holdout]) -> None:
    _, pictures = load_pictures(on_disk[0], Preparation(SIZE), Holdout(0), 1, workers=1)
    every = sample_pictures(pictures, 100, 1)
    assert (every.shape, every.dtype) == ((13, 3, SIZE, SIZE), torch.uint8)
    few = sample_pictures(pictures, 4, 1)
    assert torch.equal(few, every[:4])
    assert not torch.equal(few, sample_pictures(pictures, 4, 2))

    _, split = load_pictures(Folders(on_disk[0].b, on_disk[0].a), Preparation(SIZE), Holdout(0), 1, workers=1)
    held = Pictures(**{**vars(pictures), "held_out": split.files[:2]})
    both = sample_pictures(held, 4, 1)
    expected = []
    for path in split.files[:2]:
        with Image.open(path) as image:
            width, height = image.size
            short = min(width, height)
            size = round(width * SIZE / short), round(height * SIZE / short)
            resized = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        left, top = (size[0] - SIZE) // 2, (size[1] - SIZE) // 2
        expected.append(resized[top : top + SIZE, left : left + SIZE].transpose(2, 0, 1).tolist())
    assert sorted(both.tolist()) == sorted(expected)
