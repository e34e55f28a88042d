"""A socket, and a thread that answers what comes to it until it is told to stop."""

from __future__ import annotations

import errno
import os
import socket
import threading
from contextlib import closing

import uvicorn
from starlette.types import ASGIApp

from ugatit_cli.errors import UsageError, plain_reason

# That documentation uses (RFC 5737): nothing is ever sent there.
NOWHERE = ("192.0.2.1", 9)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0: any that is free.

    Raises:
        UsageError: there is no such address here, or the port can't be had.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind)
        try:
            if os.name == "posix":  # elsewhere it would let two servers have the same port
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(128)
        except BaseException:
            found.close()
            raise
    except (socket.gaierror, UnicodeError):
        raise UsageError(f"--host {host}: no such address", "Use 127.0.0.1, or 0.0.0.0 for all.") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            hint = "Another program has it, or `ugatit serve` runs already; --port 0 takes any that is free."
            raise UsageError(f"--port {port} is in use at {host}", hint) from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"--host {host}: not an address of this machine", "Use 127.0.0.1.") from None
        hint = "Ports from 1024 on need no permission." if isinstance(error, PermissionError) else ""
        raise UsageError(f"--host {host} --port {port}: {plain_reason(error)}", hint) from None
    return found


def url_of(found: socket.socket) -> str:
    """Where others reach a socket that listens: of one at all addresses, an outer one if there is any."""
    host, port = found.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = _outward()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _outward() -> str:
    """The address from which this machine would speak to others."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asked:
        try:
            asked.connect(NOWHERE)
        except OSError:
            return "127.0.0.1"
        return str(asked.getsockname()[0])


class Answering:
    """Answers what comes to a socket, in a thread; ends what is in progress when it is left."""

    def __init__(self, app: ASGIApp, found: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([found],), name="ugatit-http", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    @property
    def runs(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive()

    def stop(self, *, at_once: bool = False) -> None:
        """Takes nothing new, and waits until all that came is answered, unless that shall be left."""
        self._server.should_exit = True
        self._server.force_exit = at_once
        self._thread.join()
