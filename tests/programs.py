"""Programs of their own that begin at once: forks of a process that has imported PyTorch already.

How Python starts and what `python -m ugatit_cli` imports isn't seen in them; in the `genuine` program it is.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
import threading
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
# What processes of tests need; but for huggingface_hub, which reads the environment when it is imported.
LOADED = [
    "tests.test_distributed",
    "tests.test_leftovers",
    "tests.training.test_run_folder",
    "tests.training.test_session",
    "ugatit_cli.cli.cam",
    "ugatit_cli.cli.pictures",
    "ugatit_cli.cli.train",
    "ugatit_cli.cli.translate",
    "ugatit_cli.translation.pipeline",
    *("httpcore", "httpcore2", "httpx", "httpx2", "yaml"),  # most of its imports, whichever it has
    *("cmap", "numpy.random", "torch.utils._device"),  # what a training and its samples import later
]
FORKING = "forks programs"


@functools.cache
def starting() -> ForkServerContext:
    """Starts processes in an instant: what they need is loaded once."""
    if sys.platform == "win32":
        pytest.skip("Windows can't fork")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    with contextlib.chdir(ROOT):
        forkserver.ensure_running()
    return context


def genuine(*arguments: object) -> list[str]:
    """`ugatit` as a user starts it, who waits for its imports."""
    return [sys.executable, "-m", "ugatit_cli", *map(str, arguments)]


def command(*arguments: object) -> list[str]:
    """`ugatit` for `subprocess` or a shell."""
    return [sys.executable, "-IS", str(ROOT / "tests" / "launcher.py"), _address(), *map(str, arguments)]


def children() -> list[BaseProcess]:
    """Processes of the product's that this one has begun and that live."""
    return [child for child in multiprocessing.active_children() if child.name != FORKING]


@functools.cache
def _address() -> str:
    """Where a process listens that forks; it ends with this one."""
    folder = tempfile.TemporaryDirectory(prefix="ugatit-")  # not pytest's: the address of a socket is short
    atexit.register(folder.cleanup)
    address = f"{folder.name}/socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        server = starting().Process(target=_serve, args=(listener,), daemon=True, name=FORKING)
        server.start()
    return address


def _serve(listener: socket.socket) -> None:
    """A process for each program."""
    multiprocessing.current_process().daemon = False  # those may have children
    parent = multiprocessing.parent_process()
    assert parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while parent.sentinel not in connection.wait([listener, parent.sentinel]):
        launcher, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            _attend(launcher)
        launcher.close()


def _attend(launcher: socket.socket) -> None:
    """Runs the program in one process, passes signals to it from another."""
    message, descriptors, *_ = socket.recv_fds(launcher, 1 << 16, 4)
    while not message.endswith(b"\n"):
        message += launcher.recv(1 << 16)
    program = os.fork()
    if program == 0:
        launcher.close()
        _become(json.loads(message), *descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    threading.Thread(target=_pass_signals, args=(launcher, program), daemon=True).start()
    _, status = os.waitpid(program, 0)
    with contextlib.suppress(OSError):
        launcher.send(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    os._exit(0)


def _pass_signals(launcher: socket.socket, program: int) -> None:
    with contextlib.suppress(OSError):
        while number := launcher.recv(1):
            os.kill(program, number[0])
        os.kill(program, signal.SIGKILL)  # as whoever started it was


def _become(told: dict[str, Any], folder: int, *streams: int) -> None:
    """Makes this process the program."""
    import resource

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.fchdir(folder)
    os.environ.clear()
    os.environ.update(told["environment"])
    for name, limits in told["limits"].items():
        resource.setrlimit(getattr(resource, name), limits)
    os.closerange(0, 3)
    for number, stream in zip(told["streams"], streams, strict=True):
        os.dup2(stream, number)
    for descriptor in (folder, *streams):
        os.close(descriptor)
    opened = set(told["streams"])
    sys.stdin = _stream(0, "r", "strict") if 0 in opened else None
    sys.stdout = _stream(1, "w", "strict") if 1 in opened else None
    sys.stderr = _stream(2, "w", "backslashreplace", buffering=1) if 2 in opened else None
    sys.argv[1:] = told["arguments"]
    try:
        runpy.run_module("ugatit_cli", run_name="__main__", alter_sys=True)
        sys.exit()
    finally:
        atexit._run_exitfuncs()


def _stream(number: int, mode: str, errors: str, buffering: int = -1) -> Any:
    """As Python opens them when it starts."""
    return open(number, mode, buffering, "utf-8", errors, closefd=False)
