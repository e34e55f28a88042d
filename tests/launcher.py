"""Stands in for a program that another process runs (`tests/programs.py`): streams, folder and signals are its own.

It imports next to nothing, and ends as that program does.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _streams() -> list[int]:
    """Those of the three standard ones that are open."""
    found = []
    for number in range(3):
        with contextlib.suppress(OSError):
            os.fstat(number)
            found.append(number)
    return found


def _limits() -> dict[str, tuple[int, int]]:
    names = (name for name in dir(resource) if name.startswith("RLIMIT_"))
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


def main(address: str, arguments: list[str]) -> None:
    """Has the program run, passes signals on, and ends with its exit code, or of the signal that it ended of."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    streams = _streams()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    told = {"arguments": arguments, "environment": dict(os.environ), "streams": streams, "limits": _limits()}
    folder = os.open(".", os.O_RDONLY)
    socket.send_fds(connection, [json.dumps(told).encode() + b"\n"], [folder, *streams])
    for number in streams:  # or a reader wouldn't see when the program closes one
        os.close(number)
    for one in SIGNALS:
        signal.signal(one, lambda number, _: connection.send(bytes([number])))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    code = int.from_bytes(connection.recv(4), "big", signed=True)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
