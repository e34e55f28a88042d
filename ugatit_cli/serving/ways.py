"""The way out in the words of who only has the server: hints elsewhere speak of options of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, Field

from ugatit_cli.errors import Change
from ugatit_cli.serving.asked import Asked

FIELDS: Final = "The same for programs: fields of a request, and their values; empty if none does it."

# What no field does; `{}` is the value.
OTHERS: Final[Mapping[str, str]] = {
    "archive": "Unpack it, and send the pictures that are in it.",
    "device": "Close other programs on the server's computer, or start it with another --device.",
    "film": "Films are for the command line: ugatit translate clip.mp4 -o out.mp4",
    "install": "Convert it to PNG or JPEG first; or, on the server's computer: {}",
    "max-pixels": "Make it smaller first, or start the server with a higher limit: ugatit serve --max-pixels {}",
    "precision": "Start the server with ugatit serve --precision {}; if that doesn't help, the model is damaged.",
    "size": "Make it smaller first.",
}


class Remark(BaseModel):
    """What looks wrong with a result that is as it was asked for."""

    note: str = Field(description="What it is.")
    hint: str = Field("", description="How to change it; may be empty.")
    fields: dict[str, str] = Field({}, description=FIELDS)

    @classmethod
    def of(cls, note: str, hint: str = "", change: Change | None = None) -> Remark:
        """What is said elsewhere."""
        hint, fields = way_out(hint, change)
        return cls(note=note, hint=hint, fields=fields)


def way_out(hint: str, change: Change | None) -> tuple[str, dict[str, str]]:
    """A hint, and fields of a request that do what it says.

    Args:
        hint: in words of the command line, unless there is no `change`.
    """
    if change is None:
        return hint, {}
    tiles = change.option == "tile"  # there are none in it
    name, value = ("fit", "aspect") if tiles else (change.option, change.value)
    if name in Asked.model_fields:
        return f"Try {name}={value}.", {name: value}
    return OTHERS[name].format(value), {}
