"""The server's page and its API, as an ASGI app."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import io
import json
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from importlib import resources
from typing import IO, Final

from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp

from ugatit_cli import files
from ugatit_cli.errors import StorageError, UgatitError
from ugatit_cli.serving import asked, problems
from ugatit_cli.serving.asked import Asked, Upload
from ugatit_cli.serving.guard import Guard
from ugatit_cli.serving.line import Line
from ugatit_cli.serving.places import Limits, Places
from ugatit_cli.serving.problems import Refused
from ugatit_cli.serving.studio import Answer, Offer, Studio

VERSION: Final = importlib.metadata.version("ugatit-cli")

PAGE: Final = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
"""All files that the server has."""

ON_THE_PAGE: Final = 50
"""Pictures on the page at a time."""

# Bytes of a result that waits in memory for whoever takes it; a larger one does so on disk.
IN_MEMORY: Final = 8_000_000
PIECE: Final = 1 << 18

Work = Callable[[Upload, Asked, threading.Event], Answer]
Told = Callable[[Exception], None]


_FULL: Final = StorageError("the server's disk is full", "Free some space, or set TMPDIR to a folder with more.")


class Most(BaseModel):
    """What the server takes at most."""

    bytes: int = Field(description="Of a picture as it is sent.")
    pixels: int | None = Field(description="Of a picture, all its frames together; null: any number.")
    pictures: int = Field(description="On the page at a time.")


class Listing(BaseModel):
    """What the server has, and what it takes."""

    version: str
    models: list[Offer] = Field(description="The default first.")
    limits: Most


def make_app(studio: Studio, line: Line, limits: Limits, token: str, told: Told) -> ASGIApp:
    """The app that answers requests.

    Args:
        studio: translates, in the thread of the `line`.
        token: what requests need; empty: nothing.
        told: hears of errors that nobody foresaw.
    """
    app = FastAPI(title="ugatit", version=VERSION, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.exception_handler(HTTPException)(_no_page)
    for path, (name, kind) in PAGE.items():
        app.add_route(path, _giving(name, kind), include_in_schema=False)
    offers = studio.offers()

    @app.get("/models", summary="The models that there are, and the limits")
    async def models() -> Listing:
        most = Most(bytes=limits.upload, pixels=limits.pixels, pictures=ON_THE_PAGE)
        return Listing(version=VERSION, models=offers, limits=most)

    def post(path: str, summary: str, work: Work) -> None:
        about = {"parameters": asked.parameters(), "requestBody": asked.body(), "responses": problems.described()}
        route = app.post(path, summary=summary, response_class=_Picture, openapi_extra=about)
        route(_answering(line, work, told))

    post("/translate", "A picture's translation", studio.translated)
    post("/attention", "Where the generator looks, as colours to lay over the picture", studio.attention)
    return Guard(Places(app, limits), token, {*PAGE, "/openapi.json"})


class _Picture(Response):
    media_type = "image/*"


def _giving(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = resources.files("ugatit_cli.serving").joinpath(name).read_bytes()

    async def file(_request: Request) -> Response:
        return Response(content, media_type=kind)

    return file


async def _no_page(request: Request, error: Exception) -> Response:
    """What the framework refuses: paths, methods, forms."""
    assert isinstance(error, HTTPException)
    hint = "There are /, /models, /translate, /attention and /openapi.json." if error.status_code == 404 else ""
    return problems.answer(Refused(error.status_code, f"{request.method} {request.url.path}: {error.detail}", hint))


def _answering(line: Line, work: Work, told: Told) -> Callable[[Request], Awaitable[Response]]:
    async def answered(request: Request) -> Response:
        try:
            upload, fields = await asked.received(request)
            return _sent(await line.done(request, partial(work, upload, fields)))
        except UgatitError as error:
            return problems.answer(error)
        except (ClientDisconnect, TimeoutError):
            return Response(status_code=408)  # which nobody hears
        except (HTTPException, asyncio.CancelledError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in files.DISK_FULL:  # of a form's file on its way here
                return problems.answer(_FULL)
            told(error)
            return problems.answer(
                Refused(500, f"internal error: {type(error).__name__}", "This is a bug in ugatit.")
            )

    return answered


def _sent(made: Answer) -> Response:
    headers = {"Ugatit-Notes": json.dumps([one.model_dump() for one in made.notes])} if made.notes else {}
    kind = Image.MIME[made.format]
    if len(made.data) <= IN_MEMORY:
        return Response(made.data, media_type=kind, headers=headers)
    return StreamingResponse(_pieces(made.data), media_type=kind, headers=headers)


def _pieces(data: bytes) -> Iterator[bytes]:
    """A file's content, which doesn't stay in memory."""
    with _kept(data) as file:
        del data
        while piece := file.read(PIECE):
            yield piece


def _kept(data: bytes) -> IO[bytes]:
    """A file on disk, or in memory where that is full."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
        file = opened.enter_context(tempfile.TemporaryFile())
        file.write(data)
        file.seek(0)
        opened.pop_all()
        return file
    return io.BytesIO(data)
