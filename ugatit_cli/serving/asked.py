"""What a request asks for: a picture, in a form or as the body, and fields that say what to make of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from ugatit_cli.config import Direction, Fit
from ugatit_cli.errors import UsageError
from ugatit_cli.wording import shown

FORM: Final = "multipart/form-data"
LONGEST_NAME: Final = 100


class Asked(BaseModel):
    """What to make of a picture; all of it may be left out."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field("", description="A name that `/models` lists; by default the first one.")
    to: str = Field("", description="The domain to translate to, by name.")
    direction: Direction | None = Field(None, description="The same without the name; by default a2b.")
    strength: float = Field(1.0, ge=0, le=1, description="From 0, the picture, to 1, its translation.")
    keep_colour: bool = Field(False, description="The translation's light and dark in the picture's colours.")
    style: str = Field("", description="Of models with styles: `random` or `random:SEED`.", examples=["random:7"])
    fit: Fit = Field(
        "aspect",
        description="aspect: short side at the model's size; native: own resolution, slow; squash: a square.",
    )
    background: str = Field("white", description="Behind transparent pixels for the network: a name, or #rrggbb.")
    format: Literal["same", "png", "jpg", "webp", "gif"] = Field("same", description="File format of the result.")
    quality: int | None = Field(None, ge=1, le=100, description="Of jpg and webp; by default 95 and 90.")

    @classmethod
    def of(cls, fields: dict[str, str]) -> Asked:
        """What fields say, of which empty ones say nothing; what can't be understood is a UsageError."""
        try:
            return cls.model_validate({name: text for name, text in fields.items() if text})
        except ValidationError as error:
            raise _misunderstood(error.errors()[0]) from None


def _misunderstood(first: Any) -> UsageError:
    name = shown(".".join(map(str, first["loc"])), LONGEST_NAME)
    if first["type"] == "extra_forbidden":
        return UsageError(f"no field {name!r}", f"There are: {', '.join(Asked.model_fields)}; and one picture.")
    return UsageError(f"{name}={shown(first['input'], LONGEST_NAME)}: {first['msg'].lower()}")


@dataclass(frozen=True)
class Upload:
    """A picture that was sent: the content of a file, whatever it is, and its name."""

    name: str
    content: bytes

    @property
    def path(self) -> Path:
        """The name alone, for messages."""
        return Path(self.name)


async def received(request: Request) -> tuple[Upload, Asked]:
    """Reads all of a request.

    Raises:
        UsageError: there is no picture, or several, or a field that can't be understood.
    """
    fields = dict(request.query_params)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        upload = Upload("picture", await request.body())
    else:
        async with request.form(max_files=1, max_fields=20) as form:
            values = dict(form)
            files = {name: one for name, one in values.items() if isinstance(one, UploadFile)}
            fields |= {name: str(one) for name, one in values.items() if name not in files}
            upload = Upload("picture", b"")
            for one in files.values():
                upload = Upload(_plain_name(one.filename or ""), await one.read())
    if not upload.content:
        hint = "Send a file as the request's body, or in a form: curl -F picture=@cat.png"
        raise UsageError("there is no picture in the request", hint)
    return upload, Asked.of(fields)


def _plain_name(name: str) -> str:
    """The last part of a path of any system; where nothing is left, `picture`."""
    return shown(name.replace("\\", "/").rpartition("/")[2], LONGEST_NAME).strip() or "picture"


def parameters() -> list[dict[str, Any]]:
    """The fields as OpenAPI describes those of a query."""
    return [
        {"name": name, "in": "query", "required": False, "schema": {**schema}, "description": schema["description"]}
        for name, schema in Asked.model_json_schema()["properties"].items()
    ]


def body() -> dict[str, Any]:
    """The picture, and the same fields, as OpenAPI describes the body of a request."""
    binary = {"type": "string", "format": "binary"}
    properties = {"picture": binary, **Asked.model_json_schema()["properties"]}
    form = {"type": "object", "properties": properties, "required": ["picture"]}
    return {"required": True, "content": {FORM: {"schema": form}, "image/*": {"schema": binary}}}
