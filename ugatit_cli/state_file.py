"""The file that tells what belongs to a checkpoint: JSON with its own hash, so that damage shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ugatit_cli.durable import write_durable
from ugatit_cli.errors import ModelError
from ugatit_cli.images import plain_reason

FORMAT: Final = 1


def write_state(path: Path, document: dict[str, Any]) -> None:
    """Writes the file last, and durably: so are the names of all files beside it.

    Args:
        document: plain JSON values, `step` among them.

    Raises:
        OSError: it can't be written.
    """
    plain = json.loads(json.dumps({"format": FORMAT} | document))
    write_durable(path, json.dumps(plain | {"sha256": _digest(plain)}).encode())


def read_state(path: Path, step: int) -> dict[str, Any]:
    """The document that was written for a step.

    Raises:
        ModelError: it is missing, damaged, of another step, or of a newer format.
    """
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: can't be read ({plain_reason(error)})") from None
    if not isinstance(document, dict):
        raise ModelError(f"{path}: damaged: not a table")
    check_format(path, document.get("format"))
    if document.pop("sha256", None) != _digest(document):
        raise ModelError(f"{path}: damaged: its content is not what was written")
    if document["step"] != step:
        raise ModelError(f"{path}: it is of step {document['step']}; the folder was renamed")
    return document


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def check_format(path: Path, number: object) -> None:
    """Whether the file at `path`, which says that its format is `number`, can be read.

    Raises:
        ModelError: it is of a newer format, or says no number.
    """
    if type(number) is not int:
        raise ModelError(f"{path}: damaged, or not from ugatit (no format number)")
    if number > FORMAT:
        message = f"{path}: written by a newer ugatit (format {number}, this one reads up to {FORMAT})"
        raise ModelError(message, "Upgrade: pip install --upgrade ugatit-cli")
