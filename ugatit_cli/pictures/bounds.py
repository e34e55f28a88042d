"""How large pictures may be, and how much of them is in memory at once."""

from __future__ import annotations

import ctypes
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Final, Generic, TypeVar, overload

from ugatit_cli.errors import Change, PictureError
from ugatit_cli.files import WEIGHTS

In = TypeVar("In")
Out = TypeVar("Out")

MAX_PIXELS: Final = 300_000_000
"""Pixels of a picture, of all its frames together, by default: phones' cameras make 200 million of them."""

MAX_DECODING: Final = 200_000_000
"""Pixels that all threads together decode and encode at a time. Each takes 5 to 12 bytes meanwhile."""


def most_bytes(max_pixels: int | None) -> int:
    """Bytes of the largest file that is read into memory: as many pixels in full, and what is around them."""
    return WEIGHTS if max_pixels is None else (1 << 26) + 8 * max_pixels


def check_pixels(label: str, size: tuple[int, int], frames: int, limit: int | None, where: str = "") -> None:
    """A PictureError if `frames` pictures of a size (width, height) have more pixels than `limit` (None: any)."""
    pixels = size[0] * size[1] * frames
    if limit is not None and pixels > limit:
        shape = (f"{frames} frames of " if frames > 1 else "") + f"{size[0]} x {size[1]}{where}"
        message = f"{label}: {pixels / 1e6:.1f} megapixels ({shape}), above the limit of {limit / 1e6:g}"
        needed = f"{math.ceil(pixels / 1e6)}M"
        hint = f"If it is meant to be that large: --max-pixels {needed}, or off."
        raise PictureError(message, hint, change=Change("max-pixels", needed))


class Room:
    """Room for pixels, which threads share: who asks first is served first, and one alone always gets through.

    A thread that has some and asks for more (a mask's, while its picture is open) gets it at once, beyond what there
    is: if it waited for others that do the same, none would ever go on.
    """

    def __init__(self, pixels: int) -> None:
        self._all = pixels
        self.begin()

    def begin(self, large: AbstractContextManager[Any] | None = None) -> None:
        """In a new process, without the threads of the old one: `large` is a lock for what the processes share."""
        self._free = self._all
        self._large = large or nullcontext()
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._thread = threading.local()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Waits until there is room, and has it."""
        pixels = min(pixels, self._all)
        more = getattr(self._thread, "has_some", False)
        with self._large if pixels > self._all // 8 and not more else nullcontext():
            self._take(pixels, more)
            self._thread.has_some = True
            try:
                yield
            finally:
                self._thread.has_some = more
                if pixels > self._all // 8:
                    _give_back()
                with self._changed:
                    self._free += pixels
                    self._changed.notify_all()

    def _take(self, pixels: int, at_once: bool) -> None:
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: at_once or (self._queue[0] is ticket and pixels <= self._free))
                self._free -= pixels
            finally:  # also where Ctrl-C ends the waiting
                self._queue.remove(ticket)
                self._changed.notify_all()


def _give_back() -> None:
    """To the system, what glibc keeps in case that this thread needs it again."""
    with suppress(OSError, AttributeError, TypeError):  # of another system
        ctypes.CDLL(None).malloc_trim(0)


ROOM: Final = Room(MAX_DECODING)
"""What all threads of this process share."""


class Lazy(Sequence[Out], Generic[In, Out]):
    """What `make` makes of each item, when it is asked for; only the last one is kept."""

    def __init__(self, make: Callable[[In], Out], items: Sequence[In]) -> None:
        self._make, self._items = make, items
        self._last: tuple[In, Out] | None = None

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Out: ...

    @overload
    def __getitem__(self, index: slice) -> list[Out]: ...

    def __getitem__(self, index: int | slice) -> Out | list[Out]:
        """One, or a list of several."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        item = self._items[index]
        if self._last is None or self._last[0] is not item:
            self._last = None  # before the next one takes as much memory
            self._last = item, self._make(item)
        return self._last[1]
