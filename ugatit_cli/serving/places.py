"""How many requests there are at a time, and how much they may send: so that memory stays bounded.

A request has its place, and room for all that it says it will send, before a byte of it is read, until its answer is
on its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ugatit_cli.serving.problems import Refused, refuse
from ugatit_cli.wording import byte_size

# Seconds in which nothing arrives, or nothing can be sent.
PATIENCE: Final = 60
# Seconds after which a place may be free.
RETRY: Final = 2
# Uploads of this many of the largest size at a time.
LARGE_ONES: Final = 4
# Bytes of a form that aren't the picture.
AROUND: Final = 1 << 16


@dataclass(frozen=True)
class Limits:
    """What one request, and all together, may take.

    Attributes:
        upload: bytes of a picture as it is sent.
        pixels: of a picture; None: any number.
        queue: requests that wait or are answered at a time.
    """

    upload: int = 64_000_000
    pixels: int | None = 100_000_000
    queue: int = 16


class Places:
    """An ASGI app that lets requests that have a body to another one as long as there is room."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.limits = app, limits
        self.taken = 0
        self.bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            most = self.limits.upload + AROUND
            stated = Headers(scope=scope).get("content-length", "")
            size = int(stated) if stated.isdecimal() else most
            if size > most:
                raise self._too_large()
            with self._place(size):
                await self.app(scope, self._counted(receive, most), _patient(send))
        except Refused as error:
            await refuse(error, scope, receive, send)
        except TimeoutError:  # nobody is there, or takes the answer
            return

    @contextmanager
    def _place(self, size: int) -> Iterator[None]:
        room = LARGE_ONES * self.limits.upload
        if self.taken >= self.limits.queue or (self.taken and self.bytes + size > room):
            message = f"the server is busy: {self.taken} pictures are waiting"
            raise Refused(503, message, "Try again in a moment.", retry=RETRY)
        self.taken += 1
        self.bytes += size
        try:
            yield
        finally:
            self.taken -= 1
            self.bytes -= size

    def _counted(self, receive: Receive, most: int) -> Receive:
        """The body, as long as it isn't too large; then what comes after it, for ever."""
        count, whole = 0, False

        async def counted() -> Message:
            nonlocal count, whole
            message = await (receive() if whole else asyncio.wait_for(receive(), PATIENCE))
            count += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if count > most:
                raise self._too_large()
            return message

        return counted

    def _too_large(self) -> Refused:
        message = f"the picture is larger than {byte_size(self.limits.upload)}, the most that this server takes"
        return Refused(413, message, "Make it smaller, or start the server with a larger --max-upload.")


def _patient(send: Send) -> Send:
    async def patient(message: Message) -> None:
        await asyncio.wait_for(send(message), PATIENCE)

    return patient
