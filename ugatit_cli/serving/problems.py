"""Why there is no picture, as an answer: a status, and JSON with the error and the way out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from ugatit_cli.errors import (
    DeviceError,
    ModelError,
    OutputError,
    PictureError,
    StorageError,
    UgatitError,
    UsageError,
)
from ugatit_cli.serving import ways


class Refused(UgatitError):
    """A request that isn't answered with a picture, for a reason that HTTP has a number for.

    Args:
        status: that number.
        retry: seconds after which it may be different.
    """

    def __init__(self, status: int, message: str, hint: str = "", *, retry: int | None = None) -> None:
        super().__init__(message, hint)
        self.status = status
        self.headers = {} if retry is None else {"Retry-After": str(retry)}


# What only who runs the server can mend.
SERVER: Final = 500
# The first that an error is one of counts.
STATUS: Final[Mapping[type[UgatitError], int]] = {
    DeviceError: SERVER,
    UsageError: 400,
    PictureError: 422,
    ModelError: SERVER,
    StorageError: SERVER,
    OutputError: 422,
}
MEANINGS: Final = {
    400: "A field that makes no sense, or no picture.",
    401: "No token, or a wrong one.",
    403: "A request by another site's page.",
    408: "The picture came too slowly.",
    413: "The picture has too many bytes.",
    422: "The picture can't be read, has too many pixels, or more than the format of the result holds.",
    503: "Too many pictures are waiting; `Retry-After` says when to try again.",
}
"""Of the statuses that there are beside 200."""


class Problem(BaseModel):
    """Why there is no picture."""

    error: str = Field(description="What went wrong.")
    hint: str = Field(description="The way out; may be empty.")
    fields: dict[str, str] = Field(description=ways.FIELDS)


def described() -> dict[str, Any]:
    """The same as OpenAPI describes answers."""
    content = {"application/json": {"schema": Problem.model_json_schema()}}
    return {str(status): {"description": text, "content": content} for status, text in MEANINGS.items()}


def answer(error: UgatitError) -> JSONResponse:
    """What is sent instead of a picture."""
    found = next((status for kind, status in STATUS.items() if isinstance(error, kind)), SERVER)
    status, headers = (error.status, error.headers) if isinstance(error, Refused) else (found, {})
    hint, fields = ways.way_out(error.hint, error.change)
    if hint and status == SERVER and not isinstance(error, Refused):
        hint = f"For whoever runs the server: {hint}"
    problem = Problem(error=error.message, hint=hint, fields=fields)
    return JSONResponse(problem.model_dump(), status, headers)


async def refuse(error: UgatitError, scope: Scope, receive: Receive, send: Send) -> None:
    """Sends it, where there is no framework yet."""
    await answer(error)(scope, receive, send)
