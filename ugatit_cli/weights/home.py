"""Models on this machine: the store and receipts of what was fetched or installed, with the hashes of its files."""
# ruff: noqa: PTH113

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ugatit_cli.config import DIRECTIONS, Direction
from ugatit_cli.errors import ConfigError, ModelError, OutputError, UsageError
from ugatit_cli.fields import read_table
from ugatit_cli.files import expanded, read_file, reported, write_file, wrong_name
from ugatit_cli.remote.hub import REPOSITORY, REVISION
from ugatit_cli.remote.records import SHA256, Stamp
from ugatit_cli.remote.records import digest_of as file_digest
from ugatit_cli.weights.hashes import digest_of, hashes_of
from ugatit_cli.weights.manifest import LARGEST, MODEL_FILES, MODEL_NAME

BUNDLED: Final = Path(__file__).parents[1] / "models"


def home_folder() -> Path:
    """`$UGATIT_HOME`, else `ugatit` in the user's data folder."""
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return expanded(os.environ.get("UGATIT_HOME") or Path(data, "ugatit"))


def store_folder() -> Path:
    """Where named models live."""
    return home_folder() / "models"


def store_path(name: str) -> Path:
    """The folder of a named model in the store, existing or not.

    Raises:
        UsageError: not a plain name.
    """
    if not MODEL_NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not a model name", "Names are made of letters, digits, '.', '_' and '-'.")
    return store_folder() / name


def download_folder(name: str) -> Path:
    """Where what a model is made of stays until it is converted, existing or not."""
    return home_folder() / "downloads" / "models" / name


def exported(folder: Path, direction: Direction, weights: str = MODEL_FILES[1]) -> Path:
    """The ONNX file of a model that nobody has given a name, existing or not: another for each model and direction.

    Args:
        folder: the model folder.
        weights: the name of its file of weights.

    Raises:
        ModelError: the model can't be read.
    """
    digest = digest_of(hashes_of(folder, [MODEL_FILES[0], weights]))
    return home_folder() / "exports" / f"{digest}-{direction}.onnx"


def exports_of(folder: Path) -> tuple[Path, ...]:
    """Those of a model folder that exist; none of a damaged one, whose hashes nobody knows."""
    with contextlib.suppress(ModelError):
        return tuple(path for way in DIRECTIONS if (path := exported(folder, way)).is_file())
    return ()


def stored_models() -> list[str]:
    """Names of the models in the store, sorted; none if it may not be read."""
    store = store_folder()
    paths = list(store.iterdir()) if os.access(store, os.R_OK | os.X_OK) else []
    return sorted(path.name for path in paths if MODEL_NAME.fullmatch(path.name) and path.is_dir())


def holds_model(path: Path) -> bool:
    """Whether a path is a model folder or a run; reads nothing."""
    return any(os.path.isfile(path / name) for name in ("config.json", "model/config.json"))


SCHEMA: Final = 1


@dataclass(frozen=True)
class Receipt:
    """A model, or an official checkpoint, that was checked once.

    Attributes:
        key: a Hub id with its revision, or a name in the store.
        files: file name below the folder -> stamp.
        repository, commit: where it comes from; empty for what a user installed.
        time: when, in UTC.
    """

    key: str
    folder: Path
    files: Mapping[str, Stamp]
    repository: str = ""
    commit: str = ""
    time: str = ""

    def is_there(self) -> bool:
        """Whether all its files still exist."""
        return all(os.path.isfile(self.folder / name) for name in self.files)

    def untouched(self) -> bool:
        """Whether all files have the size and time they had. Reads nothing."""
        with contextlib.suppress(OSError):
            return all(stamp == _stamp(self.folder / name, stamp.sha256) for name, stamp in self.files.items())
        return False

    def damage(self) -> list[str]:
        """Reads all files again; one line for each that isn't what it was, with the hash expected and found."""
        return [line for name, stamp in self.files.items() if (line := _difference(self.folder / name, stamp))]

    def check(self, way_out: str) -> None:
        """Before a model is used: files that seem to have changed are read again.

        Raises:
            ModelError: a file isn't what it was.
        """
        if self.untouched():
            return
        if damage := self.damage():
            raise ModelError("; ".join(damage), way_out)
        # Copied or touched, but the same: so that the next use needn't read them.
        with contextlib.suppress(OSError, OutputError):
            save(make(self.key, self.folder, self.files, self.repository, self.commit))


def _stamp(path: Path, sha256: str) -> Stamp:
    status = path.stat()
    return Stamp(status.st_size, sha256, status.st_mtime_ns)


def _difference(path: Path, stamp: Stamp) -> str:
    try:
        found = file_digest(path).sha256
    except FileNotFoundError:
        return f"{path}: missing"
    except OSError as error:
        return f"{path}: can't be read: {error.strerror}"
    return f"{path}: damaged: expected sha256 {stamp.sha256}, found {found}" if found != stamp.sha256 else ""


def make(key: str, folder: Path, files: Mapping[str, Stamp], repository: str = "", commit: str = "") -> Receipt:
    """A receipt for files as they are on disk now, whose hashes are known to be right.

    Raises:
        OSError: a file isn't there.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    stamps = {name: _stamp(folder / name, stamp.sha256) for name, stamp in files.items()}
    return Receipt(key, folder, stamps, repository, commit, now)


def of_folder(key: str, folder: Path, names: Iterable[str], repository: str = "", commit: str = "") -> Receipt:
    """A receipt for files that are believed to be right: reads them to take their hashes.

    Raises:
        OSError: a file can't be read.
    """
    files = {name: Stamp(0, file_digest(folder / name).sha256, 0) for name in names}
    return make(key, folder, files, repository, commit)


def _path(key: str) -> Path:
    return home_folder() / "receipts" / f"{quote(key, safe='@')}.json"


def save(receipt: Receipt) -> None:
    """Writes a receipt, replacing the one of the same key.

    Raises:
        OutputError: it can't be written.
    """
    document = {"schema": SCHEMA, **asdict(receipt), "folder": str(receipt.folder)}
    write_file(_path(receipt.key), (json.dumps(document, indent=2) + "\n").encode(), durable=True)


def load(key: str) -> Receipt | None:
    """The receipt of a key; None if there is none, or it can't be read."""
    return _read(_path(key))


def load_all() -> list[Receipt]:
    """All receipts, by key."""
    folder = home_folder() / "receipts"
    paths = sorted(folder.glob("*.json")) if os.access(folder, os.R_OK | os.X_OK) else []
    found = (_read(path) for path in paths if not path.name.startswith("."))
    return [receipt for receipt in found if receipt is not None]


def _read(path: Path) -> Receipt | None:
    # A receipt of a newer version, or a damaged one, is none: the model is checked again.
    try:
        document = json.loads(read_file(path))
        schema, receipt = document.pop("schema"), read_table(Receipt, document)
        ours = schema == SCHEMA and _path(receipt.key).name == path.name
        os.fsencode(receipt.folder)  # a ValueError if no folder can be called so
        return receipt if ours and _is_sound(receipt) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, ConfigError):
        return None


def _is_sound(receipt: Receipt) -> bool:
    return (
        bool(receipt.files)
        and all(SHA256.fullmatch(one.sha256) and 0 <= one.size <= LARGEST for one in receipt.files.values())
        and not any(map(wrong_name, receipt.files))
        and (not receipt.commit or bool(REVISION.fullmatch(receipt.commit)))
        and (not receipt.repository or bool(REPOSITORY.fullmatch(receipt.repository)))
    )


def remove(key: str) -> None:
    """Forgets a receipt.

    Raises:
        OutputError: it can't be removed.
    """
    with reported(_path(key)):
        _path(key).unlink(missing_ok=True)
