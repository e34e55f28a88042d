"""What processes of one command tell each other of their work, as JSON: jobs, results and errors."""

from __future__ import annotations

import base64
import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final

from ugatit_cli import errors
from ugatit_cli.errors import Change, UgatitError, plain_reason

TYPE: Final = "type"


def dumped(value: object) -> bytes:
    """Jobs, results, errors, and lists of them and of plain values."""
    return json.dumps(_plain(value)).encode()


def loaded(data: bytes) -> Any:
    """What `dumped` was given; tuples inside of it are tuples, and the rest of a region's mask is gone."""
    return _made(json.loads(data))


def told(error: BaseException) -> dict[str, Any]:
    """An error for another process; one that nobody foresaw becomes one of ours."""
    if isinstance(error, UgatitError):
        kind = next(one.__name__ for one in type(error).__mro__ if hasattr(errors, one.__name__))
        return {TYPE: kind, "message": error.message, "hint": error.hint, "change": _plain(error.change)}
    reason = f"internal error: {type(error).__name__}: {plain_reason(error)}"
    kind = "Interrupted" if isinstance(error, KeyboardInterrupt) else "UgatitError"
    return {TYPE: kind, "message": reason, "hint": "UGATIT_DEBUG=1 shows where; please report it.", "change": None}


def error_of(told: dict[str, Any]) -> UgatitError:
    """The error that another process has told of."""
    kind = getattr(errors, told[TYPE], UgatitError)
    made: UgatitError = kind(told["message"], told["hint"], change=_made(told["change"]))
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, BaseException):
        return told(value)
    if isinstance(value, bytes):
        return {TYPE: "bytes", "data": base64.b64encode(value).decode()}
    if isinstance(value, Path):
        return {TYPE: "Path", "path": str(value)}
    if is_dataclass(value) and not isinstance(value, type):
        return {TYPE: type(value).__name__, **{one.name: _plain(getattr(value, one.name)) for one in fields(value)}}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | float | None) else None


def _made(value: Any) -> Any:
    if isinstance(value, list):
        return [_made(one) for one in value]
    if not isinstance(value, dict):
        return value
    kind, values = value[TYPE], {name: _made(one) for name, one in value.items() if name != TYPE}
    if kind == "bytes":
        return base64.b64decode(values["data"])
    if kind == "Path":
        return Path(values["path"])
    if "message" in values:
        return error_of(value)
    return _types()[kind](**{name: tuple(one) if isinstance(one, list) else one for name, one in values.items()})


def _types() -> dict[str, type]:
    from ugatit_cli.outputs.base import Layer, Preview
    from ugatit_cli.pictures.encoding import Note
    from ugatit_cli.pictures.jobs import Job
    from ugatit_cli.pictures.regions import Region
    from ugatit_cli.remote.urls import Url
    from ugatit_cli.translation.pipeline import Fit, Result

    return {kind.__name__: kind for kind in (Change, Fit, Job, Layer, Note, Preview, Region, Result, Url)}
