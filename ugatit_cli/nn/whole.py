"""What layers know of a whole picture while a network sees a part of it.

Norms and poolings take means over all pixels, so parts of a picture would each be translated in their own way. One
pass over some parts together, a sample of the picture, records what these layers find in all of them; the passes over
every part replay it. Layers are known by their order alone, so this fits all networks whose norms ask here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

from torch import Tensor

Found = tuple[Tensor, ...]


class Statistics:
    """Those of a forward pass over one picture, in the order of its layers."""

    def __init__(self) -> None:
        self._found: list[Found] = []

    def recorded(self) -> AbstractContextManager[None]:
        """Within it, the pictures of a forward pass's batch count as parts of one, whose statistics are kept."""
        self._found.clear()

        def record(find: Callable[[], Found]) -> Found:
            self._found.append(find())
            return self._found[-1]

        return _asking(record)

    def replayed(self) -> AbstractContextManager[None]:
        """Within it, a forward pass of the same network takes the statistics that were recorded."""
        found = iter(self._found)
        return _asking(lambda _: next(found))


# Answers a layer, which says how it would find out itself: each thread's, as several may use a network.
_ask: ContextVar[Callable[[Callable[[], Found]], Found] | None] = ContextVar("_ask", default=None)


@contextmanager
def _asking(ask: Callable[[Callable[[], Found]], Found]) -> Iterator[None]:
    token = _ask.set(ask)
    try:
        yield
    finally:
        _ask.reset(token)


def moments(x: Tensor, own: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The mean and biased variance of channels, (N, C) each, of the picture that those of a batch are parts of.

    Args:
        x: (N, C, H, W).
        own: finds each picture's; it is asked for that where nothing is recorded or replayed.
    """
    if (ask := _ask.get()) is None:
        return own(x)
    mean, var = ask(lambda: own(x.transpose(0, 1).flatten(1, 2)[None]))  # of (1, C, NH, W)
    return mean.expand(len(x), -1), var.expand(len(x), -1)


def pooled(x: Tensor, *, maximum: bool = False) -> Tensor:
    """The mean, or maximum, of what was pooled from parts of a picture, (N, features) as `x`: each picture's own."""
    if (ask := _ask.get()) is None:
        return x
    (value,) = ask(lambda: (x.amax(0, keepdim=True) if maximum else x.mean(0, keepdim=True),))
    return value.expand(len(x), -1)


def known() -> bool:
    """Whether statistics of a whole picture are recorded or replayed."""
    return _ask.get() is not None
