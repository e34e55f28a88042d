"""Locks between processes: one works, the others wait and say so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ugatit_cli.weights.hub import Listener


@contextlib.contextmanager
def waiting(path: Path, saying: str, listener: Listener) -> Iterator[None]:
    """Holds a lock; without one where the file can't be made, since nothing can be written there then.

    Args:
        saying: what to say if another process holds it.
    """
    lock = FileLock(path)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            listener.note(saying)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
