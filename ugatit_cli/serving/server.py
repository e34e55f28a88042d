"""A socket, and a thread that answers what comes to it until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import threading
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ugatit_cli.errors import UsageError, plain_reason
from ugatit_cli.serving.places import PATIENCE

# That documentation uses (RFC 5737): nothing is ever sent there.
NOWHERE = ("192.0.2.1", 9)


def _most() -> int:
    """Half of the files that may be open, since each is one."""
    with contextlib.suppress(ImportError):
        import resource

        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if allowed != resource.RLIM_INFINITY:
            return min(512, allowed // 2)
    return 512


MOST: Final = _most()
"""Connections at a time beside those of pictures, which `places` counts; one more ends the one that is oldest."""


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0: any that is free.

    Raises:
        UsageError: there is no such address here, or the port can't be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With the protocol asyncio knows that answers needn't wait to be filled up (TCP_NODELAY), 40 ms each.
        found = socket.socket(family, kind, protocol)
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
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asked:
        try:
            asked.connect(NOWHERE)
        except OSError:
            return "127.0.0.1"
        return str(asked.getsockname()[0])


class _Connection(H11Protocol):
    """One that ends where nothing comes of it: uvicorn lets whoever sends half a request stay for ever."""

    def __init__(self, *known: Any, **named: Any) -> None:
        super().__init__(*known, **named)
        self._begun, self._seen, self._ended = self.loop.time(), object(), False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Makes room for this one."""
        super().connection_made(transport)
        others = [one for one in self.connections if isinstance(one, _Connection) and one._may_end]
        if len(others) > MOST:
            min(others, key=lambda one: one._begun)._end()
        self.loop.call_later(PATIENCE, self._look)

    @property
    def _may_end(self) -> bool:
        answering = self.cycle is not None and not (self.cycle.response_complete or self.transport.is_closing())
        return not self._ended and not (answering and self.scope["method"] == "POST")

    def _end(self) -> None:
        self._ended = True
        self.transport.abort()  # whatever waits to be sent

    def _look(self) -> None:
        """Every now and then: ends a connection that has been as it is since the last time."""
        if self not in self.connections:
            return
        before, self._seen = self._seen, (self.cycle, self._may_end)
        if self._may_end and (self.cycle is None or before == self._seen):
            self._end()
        else:
            self.loop.call_later(PATIENCE, self._look)


class _Once(logging.Filter):
    """asyncio says for each of whoever waits, many times a second, that a process may open no more files."""

    said = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is news."""
        refused = record.getMessage().startswith("socket.accept()")
        again, self.said = refused and self.said, refused or self.said
        return not again


class Answering:
    """Answers what comes to a socket, in a thread; ends what is in progress when it is left."""

    def __init__(self, app: ASGIApp, found: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=_Connection,
            backlog=MOST // 4,  # let in at once; three times that, before what the first have sent is read
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        self._once = _Once()
        logging.getLogger("asyncio").addFilter(self._once)
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
        logging.getLogger("asyncio").removeFilter(self._once)
