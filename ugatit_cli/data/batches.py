"""What one training step sees, as a pure function of a seed and the step's number.

Order, crops and flips depend on nothing else: a resumed run equals an uninterrupted one without any saved state, and
two processes see together what one sees with batches twice as large.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import traceback
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ugatit_cli.config import DOMAINS, Order
from ugatit_cli.data.pictures import Array, Pictures, is_blank
from ugatit_cli.errors import DataError, PictureError
from ugatit_cli.pictures.bounds import ROOM

Batch = tuple[Tensor, Tensor]

# Steps prepared ahead by the thread, and by each process.
AHEAD: Final = 4
# Blank crops of a picture before all of it is taken instead.
TRIES: Final = 8


# What random bits are for: no two uses share theirs.
_ORDER, _CROP, _SAMPLES = range(3)


class Batches(Dataset[Batch]):
    """Batch `t` of both domains: uint8 (N, 3, S, S) each, channels last in memory, S the size of crops.

    Args:
        pictures: both domains, prepared for the same size of crops.
        seed: decides order, crops and flips; 0 or more.
        batch_size: pictures of each domain per step and process.
        flip: whether half of the crops are mirrored.
        order: of the pictures. `shuffled`: all of a domain, in a random order, before any comes again. `zipped`:
            so, but both domains begin anew when the smaller one is through. `drawn-b`, `drawn-smaller`: any picture
            of that domain (of two of one size, B) at any time, beside the other one, shuffled.
        rank, world_size: number of this process among those that train together, and how many they are.
    """

    def __init__(
        self,
        pictures: tuple[Pictures, Pictures],
        *,
        seed: int,
        batch_size: int,
        flip: bool = True,
        order: Order = "shuffled",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.pictures = pictures
        self.seed, self.batch_size, self.flip, self.order = seed, batch_size, flip, order
        self.rank, self.world_size = rank, world_size

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step from 0 on.

        Raises:
            DataError: a picture can't be read any more.
        """
        first = (step * self.world_size + self.rank) * self.batch_size
        numbers = range(first, first + self.batch_size)
        a, b = (_tensor([self._sample(domain, number) for number in numbers]) for domain in (0, 1))
        return a, b

    def _sample(self, domain: int, number: int) -> Array:
        """Crop number `number` since training began, of all processes together."""
        pictures = self.pictures[domain]
        try:
            pixels = pictures.picture(self._index(domain, number))
        except PictureError as error:
            raise _vanished(error) from error
        bits = [int(word) for word in _bits(3 * TRIES, self.seed, _CROP, domain, number)]
        crops = (self._crop(pixels, *bits[i : i + 3]) for i in range(0, len(bits), 3))
        crop = next((crop for crop in crops if not is_blank(crop)), None)
        if crop is not None:
            return crop
        size = pictures.preparation.image_size
        return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))

    def _index(self, domain: int, number: int) -> int:
        """Of the picture that crop `number` is of."""
        counts = [len(one.files) for one in self.pictures]
        if domain == {"drawn-b": 1, "drawn-smaller": int(counts[0] >= counts[1])}.get(self.order):
            return int(_bits(1, self.seed, _ORDER, domain, number)[0]) % counts[domain]
        # The domain beside one that is drawn goes through as many as the larger one has, some of its own twice.
        length = {"shuffled": counts[domain], "zipped": min(counts)}.get(self.order, max(counts))
        epoch, position = divmod(number, length)
        order = _shuffled(max(length, counts[domain]), self.seed, _ORDER, domain, epoch)
        return int(order[position]) % counts[domain]

    def _crop(self, pixels: Array, down: int, right: int, mirror: int) -> Array:
        size = self.pictures[0].preparation.image_size
        top, left = down % (pixels.shape[0] - size + 1), right % (pixels.shape[1] - size + 1)
        crop = pixels[top : top + size, left : left + size]
        return crop[:, ::-1] if self.flip and mirror >> 63 else crop


def stream(
    batches: Batches, first: int, last: int, *, workers: int, pin_memory: bool = False
) -> Generator[Batch, None, None]:
    """The batches of steps `first` to `last` - 1, in order, prepared ahead; close it to stop early.

    Pictures in memory are cropped by a thread; others are decoded by processes. The batches are the same.

    Args:
        workers: processes that decode; 0: the thread does that too.
        pin_memory: lock the pages of batches, so that they go to a GPU while it works; needs one.

    Raises:
        DataError: a picture can't be read any more, or a process that decodes is lost.
    """
    if not workers or all(one.pixels is not None for one in batches.pictures):
        yield from _from_thread(batches, range(first, last), pin_memory)
    else:
        yield from _from_processes(batches, range(first, last), workers, pin_memory)


def sample_pictures(pictures: Pictures, count: int, seed: int) -> Tensor:
    """The same few pictures in every run, to watch what becomes of them: uint8 (N, 3, S, S), channels last.

    Up to `count` held-out pictures, or training ones where none is held out, each a crop of the middle.

    Raises:
        DataError: one can't be read any more.
    """
    files = pictures.held_out or pictures.files
    order = _shuffled(len(files), seed, _SAMPLES, DOMAINS.index(pictures.domain))
    return _tensor([_middle(files[index], pictures) for index in order[:count]])


def _middle(path: Path, pictures: Pictures) -> Array:
    size = pictures.preparation.image_size
    try:
        # Bilinearly in all recipes, so that figures of evaluations compare.
        pixels = pictures.prepare(path, replace(pictures.preparation, jitter=False, bicubic=False))
    except PictureError as error:
        raise _vanished(error) from error
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]


def _vanished(error: PictureError) -> DataError:
    hint = "Restore it and go on from the last checkpoint, or start again without it."
    return DataError(f"{error.message} (it could be read when training started)", hint)


def _tensor(crops: list[Array]) -> Tensor:
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


def _bits(count: int, *key: int) -> npt.NDArray[np.uint64]:
    """Random words, the same in every version of NumPy (it doesn't promise that for what `Generator` draws)."""
    return np.random.PCG64(np.random.SeedSequence(key)).random_raw(count)


@functools.lru_cache(maxsize=4)  # a batch seldom straddles two epochs
def _shuffled(count: int, *key: int) -> npt.NDArray[np.intp]:
    return np.argsort(_bits(count, *key), kind="stable")


# --- Ahead of the network ------------------------------------------------------------------------------


def _from_thread(batches: Batches, steps: range, pin_memory: bool) -> Iterator[Batch]:
    def prepare(step: int) -> Batch:
        a, b = batches[step]
        return (a.pin_memory(), b.pin_memory()) if pin_memory else (a, b)

    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(1) as thread:
        try:
            for step in steps:
                waiting.append(thread.submit(prepare, step))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            thread.shutdown(cancel_futures=True)


class _Reported(Dataset[Any]):
    """Batches, or the error as a value: PyTorch would rebuild it from its traceback's text."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> Batch | DataError:
        try:
            return self.batches[step]
        except DataError as error:
            return error


@contextlib.contextmanager
def readers_kept() -> Iterator[None]:
    """Says so when a process that decodes is lost. PyTorch raises that in the main thread, wherever it is just then.

    Raises:
        DataError: one is.
    """
    try:
        yield
    except (RuntimeError, EOFError, ConnectionResetError, ConnectionRefusedError) as error:
        # The latter where it died between offering a batch and handing over the memory that holds it.
        if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker"):
            raise
        raise DataError(
            "a process that reads pictures was killed, often for lack of memory",
            "Use fewer --workers, or close other programs; the same command goes on.",
        ) from error


def _from_processes(batches: Batches, steps: range, workers: int, pin_memory: bool) -> Iterator[Batch]:
    loader = DataLoader(
        _Reported(batches),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=AHEAD,
        pin_memory=pin_memory,
        worker_init_fn=functools.partial(_begin, torch.multiprocessing.Lock()),
        generator=torch.Generator(),  # or it would draw from the global one, and change what the training draws
    )
    with readers_kept(), _frames_cleared():
        for batch in loader:
            if isinstance(batch, DataError):
                raise batch
            yield batch[0], batch[1]


@contextlib.contextmanager
def _frames_cleared() -> Iterator[None]:
    """PyTorch ends the processes when nothing holds its iterator any more; an error's traceback would to the end."""
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise


def _begin(one_at_a_time: AbstractContextManager[Any], _: int) -> None:
    """Ctrl-C, SIGTERM and SIGHUP reach these processes too, but what they end is up to the one that trains."""
    ROOM.begin(one_at_a_time)
    for name in {"SIGINT", "SIGTERM", "SIGHUP"}.intersection(dir(signal)):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
