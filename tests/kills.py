"""Processes that die at a chosen call, so that every moment can be looked at that a kill or a power cut may leave."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from typing import Any

import pytest

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")

CALLS = ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir")
"""Functions of `os` that change what is left on the disk."""


def without_exchange(patch: pytest.MonkeyPatch) -> None:
    """As where two names can't change places at once: macOS, say, or a network's disk."""
    patch.setattr(ctypes, "CDLL", lambda *_, **__: object())


def at_call(number: int, action: Callable[[int], object]) -> None:
    """Lets this process do something before its n-th call that changes the disk, and before all after that."""
    calls = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls >= number:
                action(calls)
            return call(*arguments, **options)

        return wrapped

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def die(number: int) -> None:
    """Kills this process at its n-th call that changes the disk."""
    at_call(number, lambda _: os.kill(os.getpid(), signal.SIGKILL))


def deaths(context: BaseContext, target: Callable[..., None], *arguments: object) -> Iterator[int]:
    """Runs `target(number, *arguments)`, which calls `die(number)`, until one survives; its number after each."""
    for number in range(1, 200):
        process = context.Process(target=target, args=(number, *arguments))  # type: ignore[attr-defined]  # has one
        process.start()
        process.join()
        yield number
        if process.exitcode == 0:
            return
        assert process.exitcode == -signal.SIGKILL
    pytest.fail("it never ends")
