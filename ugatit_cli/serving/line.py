"""One thread for all pictures, and the requests that wait for their turn in it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from starlette.requests import ClientDisconnect, Request

from ugatit_cli.serving.problems import Refused

Made = TypeVar("Made")


class _Task(Generic[Made]):
    """Work that waits for the thread; dropped, it takes no memory, and what has begun of it ends."""

    def __init__(self, make: Callable[[threading.Event], Made]) -> None:
        self._make: Callable[[threading.Event], Made] | None = make
        self.stop = threading.Event()

    def run(self) -> Made:
        make = self._make
        if make is None:
            raise ClientDisconnect
        return make(self.stop)

    def drop(self) -> None:
        self._make = None
        self.stop.set()


class Line:
    """Work of requests, in the order in which it came, one after the other in a thread of its own."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "ugatit-serve")
        self._tasks: set[_Task[Any]] = set()
        self._closed = False

    def begin(self, make: Callable[[], object]) -> None:
        """Does something that nobody waits for."""
        self._thread.submit(make)

    async def done(self, request: Request, make: Callable[[threading.Event], Made]) -> Made:
        """What is made when its turn has come; `make` gets an event that is set when nobody wants it any more.

        Raises:
            ClientDisconnect: who asked has left, which makes room for others.
            Refused: the line is closed.
        """
        if self._closed:
            raise _ending()
        task: _Task[Made] = _Task(make)
        self._tasks.add(task)
        waiting: asyncio.Future[Any] = asyncio.wrap_future(self._thread.submit(task.run))
        gone: asyncio.Future[Any] = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.cancelled():
                raise _ending()
            if not waiting.done():
                raise ClientDisconnect
            made: Made = waiting.result()
            return made
        finally:
            gone.cancel()
            waiting.cancel()
            task.drop()
            self._tasks.discard(task)

    def close(self, *, at_once: bool = False) -> None:
        """Ends when what is in the thread is done, or left as it is; who waits is told."""
        self._closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)
        if at_once:
            for task in list(self._tasks):
                task.drop()


async def _left(request: Request) -> None:
    """Waits until the other side hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _ending() -> Refused:
    return Refused(503, "the server is stopping", "Start it again: ugatit serve")
