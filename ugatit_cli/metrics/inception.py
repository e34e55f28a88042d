"""The file of the standard Inception: where `evaluate` looks for it, and how it gets there, also without a network.

torch-fidelity reads it from the cache of torch.hub, by the name that it has on its page; in the name are the first
digits of its SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import urllib.error
from pathlib import Path
from typing import Final

import torch

from ugatit_cli.errors import FetchError, ModelError, ModelMissing, OutputError, plain_reason
from ugatit_cli.files import open_file
from ugatit_cli.leftovers import hidden
from ugatit_cli.remote.addresses import for_torch

NAME: Final = "weights-inception-2015-12-05-6726825d.pth"
ADDRESS: Final = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{NAME}"
DIGITS: Final = NAME.removesuffix(".pth").rpartition("-")[2]
SIZE: Final = 95_628_359


def place() -> Path:
    """Where `evaluate` finds it, there or not."""
    return Path(torch.hub.get_dir(), "checkpoints", NAME)


def is_here(path: Path) -> bool:
    """Whether the file is there.

    Raises:
        ModelError: it is another one.
    """
    if not path.is_file():
        return False
    _check(path)
    return True


def _check(path: Path) -> None:
    try:
        with open_file(path) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: {plain_reason(error)}") from None
    if not found.startswith(DIGITS):
        message = f"{path}: not the standard Inception: its SHA-256 begins with {found[:8]}, not with {DIGITS}"
        raise ModelError(message, "Copy or download it again.")


def install(source: Path, target: Path) -> None:
    """Copies the file, or that of a folder, to where it is to be.

    Raises:
        ModelError: it isn't there, or another one.
        OutputError: it can't be written.
    """
    path = source / NAME if source.is_dir() else source
    if not path.is_file():
        way = f"On a machine with a network: ugatit fetch inception -o {shlex.quote(str(source))}"
        raise ModelMissing(f"{path}: no such file", way)
    _check(path)
    temporary = hidden(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, temporary)
        os.replace(temporary, target)  # noqa: PTH105
    except OSError as error:
        raise OutputError(f"{target}: can't be written: {plain_reason(error)}") from None
    finally:
        temporary.unlink(missing_ok=True)


def download(target: Path) -> None:
    """Fetches it to where it is to be, whole or not at all.

    Raises:
        FetchError: it can't be had, or is another one.
        OutputError: it can't be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target.parent}: can't be made: {plain_reason(error)}") from None
    try:
        torch.hub.download_url_to_file(for_torch(ADDRESS), str(target), hash_prefix=DIGITS, progress=False)
    except (urllib.error.URLError, ConnectionError, TimeoutError, RuntimeError) as error:  # the last: of the hash
        reason = str(getattr(error, "reason", None) or error).partition("\n")[0]
        hint = "Copy it from another machine: ugatit fetch inception --from-file FILE"
        raise FetchError(f"the standard Inception can't be downloaded from {ADDRESS}: {reason}", hint) from None
    except OSError as error:
        raise OutputError(f"{target}: can't be written: {plain_reason(error)}") from None
