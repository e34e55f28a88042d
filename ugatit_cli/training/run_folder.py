"""Run folders: all that a training run keeps, so that it can be killed at any moment and go on.

    config.toml             the run's settings
    metrics.jsonl           one JSON object a line
    samples/                pictures, one grid for each step that draws one
    checkpoints/step_N/     `state.json` and safetensors files: complete, or not there
    model/                  the latest model, usable at any moment
    best/                   the best model so far, where models are evaluated

Hidden names ending in `.tmp` and `.old` are what a killed process left behind; `clean` tidies up. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tomli_w
from filelock import FileLock, Timeout
from torch import Tensor

from ugatit_cli.config import BaseConfig
from ugatit_cli.errors import UPGRADE, ConfigError, ModelError, OutputError, UsageError, plain_reason
from ugatit_cli.fields import read_table
from ugatit_cli.files import (
    DISK_FULL,
    exchange,
    open_file,
    read_file,
    read_toml,
    replace_file,
    replace_folder,
    reported,
    retire,
    sync_folder,
    toml_reason,
    unwritable,
    write_file,
)
from ugatit_cli.leftovers import discard, hidden, sweep
from ugatit_cli.remote.records import FileRecord
from ugatit_cli.weights.folder import (
    CONFIG_FILE,
    DISCRIMINATORS_FILE,
    GENERATORS_FILE,
    check_file,
    save_model,
    write_tensors,
)
from ugatit_cli.weights.hashes import SUMS_FILE

FORMAT: Final = 1
RUN_FILE: Final = "config.toml"
STATE_FILE: Final = "state.json"
# Bytes: a long run of a million steps writes 20 MB.
MOST_METRICS: Final = 1 << 30
LONGEST_LINE: Final = 1 << 20

Tensors = Mapping[str, Tensor]


class RunFolder:
    """The folder of one training run.

    Only the process inside `locked` may write; anyone may read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = path / "model"
        self.best = path / "best"
        self._checkpoints = path / "checkpoints"
        self._metrics = path / "metrics.jsonl"
        self._lock: os.stat_result | None = None

    @property
    def exists(self) -> bool:
        """Whether there is a run folder here."""
        return os.path.isfile(self.path / RUN_FILE)  # noqa: PTH113  # which takes names that are too long

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint of a step is, or would be."""
        return self._checkpoints / f"step_{step:08d}"

    def create(self, document: Mapping[str, Any]) -> None:
        """Makes the folder, or gives the run that is there other settings.

        Args:
            document: tables of str, int, float, bool and lists of them.

        Raises:
            UsageError: there is something else at this path.
            OutputError: it can't be written.
        """
        self._claim()
        try:
            data = tomli_w.dumps({"format": FORMAT} | dict(document)).encode()
        except UnicodeEncodeError:
            raise UsageError("a folder's name is not text (UTF-8)", "Rename the folder of pictures.") from None
        write_file(self.path / RUN_FILE, data, durable=True)

    def check_free(self) -> None:
        """Raises what `create` and `locked` do where it shows that a run can't be; writes nothing."""
        # What a run leaves that is killed before it has written its settings.
        ours = re.compile(rf"\.lock|\.{re.escape(RUN_FILE)}\.[0-9a-f]+\.tmp")
        with reported(self.path):
            empty = self.path.is_dir() and all(ours.fullmatch(path.name) for path in self.path.iterdir())
            if self.path.exists() and not self.exists and not empty:
                message = f"{self.path}: exists and is not a run folder"
                raise UsageError(message, "Name a folder that is new or empty.")
            above = next((folder for folder in self.path.absolute().parents if folder.exists()), None)
            if above is not None and not above.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if above is not None and not self.path.exists() and not os.access(above, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def _claim(self) -> None:
        self.check_free()
        with reported(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            sync_folder(self.path.parent)

    def document(self) -> dict[str, Any]:
        """The settings that `create` was given.

        Raises:
            ModelError: they are missing, damaged, or of a newer format.
        """
        path = self.path / RUN_FILE
        try:
            document = read_toml(path)
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"{path}: can't be read ({toml_reason(error)})") from None
        _check_format(path, document.pop("format", None))
        return document

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training here; makes the folder if need be. The lock ends with the process.

        Raises:
            UsageError: one is training here already, or there is something else at this path.
            OutputError: the folder can't be written.
        """
        self._claim()
        lock = FileLock(self.path / ".lock")
        with reported(self.path):
            try:
                lock.acquire(blocking=False)
            except Timeout:
                message = f"another process is training in {self.path}"
                raise UsageError(message, "Wait until it ends or stop it, or train in another folder.") from None
            self._lock = Path(lock.lock_file).stat()
        try:
            yield
        finally:
            self._lock = None
            lock.release()

    def _check_there(self) -> None:
        """Raises an OutputError if the folder was removed since it was locked, or is another now."""
        if self._lock is None:
            return
        try:
            if os.path.samestat((self.path / ".lock").stat(), self._lock):
                return
        except (FileNotFoundError, NotADirectoryError):
            pass
        raise OutputError(
            f"{self.path}: was removed or moved while it trained",
            "If it was moved, it goes on from its last checkpoint: ugatit train --resume FOLDER",
        )

    def clean(self) -> None:
        """Removes what killed processes left half written or half removed; only inside `locked`."""
        for folder in (self.path, self._checkpoints, self.path / "samples"):
            sweep(folder, alone=True)

    def checkpoints(self) -> list[int]:
        """Steps that have a checkpoint, in ascending order."""
        found = (re.fullmatch(r"step_(\d{8}|[1-9]\d{8,})", path.name) for path in self._checkpoints.glob("step_*"))
        return sorted(int(match[1]) for match in found if match)

    def latest(self) -> int | None:
        """The last step that has a checkpoint."""
        return max(self.checkpoints(), default=None)

    def save_checkpoint(
        self, step: int, files: Mapping[str, Tensors], state: Mapping[str, Any], *, keep: int
    ) -> None:
        """Writes a checkpoint, complete or not at all, and removes old ones.

        Args:
            files: stem of a file's name -> its tensors.
            state: plain JSON values.
            keep: how many checkpoints there may be up to this step, at least 1.

        Raises:
            StorageError: the disk is full; earlier checkpoints are as they were.
            OutputError: it can't be written for another reason.
        """
        self._check_there()
        folder, before = self.checkpoint_path(step), self.latest()
        temporary = hidden(folder)
        try:
            temporary.mkdir(parents=True)
            written = {}
            for stem, tensors in files.items():
                path = temporary / f"{stem}.safetensors"
                sha256 = write_tensors(path, tensors)
                written[stem] = {"size": path.stat().st_size, "sha256": sha256}
            document = {"format": FORMAT, "step": step, "state": dict(state), "files": written}
            plain = json.loads(json.dumps(document))
            # Last, and durably: so are the names of all files beside it.
            data = json.dumps(plain | {"sha256": _digest(plain)}).encode()
            replace_file(temporary / STATE_FILE, data, durable=True)
            replace_folder(temporary, folder)
            sync_folder(self.path)
        except OSError as error:
            raise _not_saved(folder, error, files, before) from error
        finally:
            discard(temporary)
        self._remove_old(step, keep)

    def _remove_old(self, step: int, keep: int) -> None:
        older = [other for other in self.checkpoints() if other < step]
        for other in older[: max(0, len(older) + 1 - keep)]:
            with contextlib.suppress(OSError):  # the next one tries again; this is no reason to stop training
                discard(retire(self.checkpoint_path(other)))

    def load_checkpoint(self, step: int) -> Mapping[str, Any]:
        """The `state` of a checkpoint whose files are all there and as they were written: each is read once.

        Raises:
            ModelError: there is none of this step, or a file is missing, damaged or of a newer format.
        """
        folder = self.checkpoint_path(step)
        with self.reading_checkpoint(step):
            saved = _read_state(folder / STATE_FILE, step)
            for stem, entry in saved.files.items():
                check_file(folder / f"{stem}.safetensors", entry.size, entry.sha256)
            return saved.state

    def state(self, step: int) -> Mapping[str, Any]:
        """The `state` of a checkpoint, whatever its other files are like.

        Raises:
            ModelError: there is none of this step, or what it says is damaged.
        """
        return _read_state(self.checkpoint_path(step) / STATE_FILE, step).state

    @contextlib.contextmanager
    def reading_checkpoint(self, step: int) -> Iterator[None]:
        """Adds the way out to errors of a checkpoint's files, and the file's name to those of what its state says.

        Raises:
            ModelError: in place of a `ConfigError`, too.
        """
        folder = self.checkpoint_path(step)
        try:
            yield
        except (ModelError, ConfigError) as error:
            others = [other for other in self.checkpoints() if other != step]
            way_out = "There is no other checkpoint: start again in another folder."
            if others:
                way_out = f"Delete {folder} to go on from step {others[-1]}."
            where = f"{folder / STATE_FILE}: damaged: " if isinstance(error, ConfigError) else ""
            raise ModelError(where + error.message, error.hint or way_out) from None

    def append_metrics(self, values: Mapping[str, object]) -> None:
        """Adds a line to `metrics.jsonl`; numbers that aren't finite become null.

        Args:
            values: plain JSON values, `step` among them.

        Raises:
            OutputError: it can't be written.
        """
        self._check_there()
        line = json.dumps(_finite(values), ensure_ascii=False, allow_nan=False) + "\n"
        with reported(self._metrics), self._metrics.open("ab") as file:
            file.write(line.encode())

    def metrics(self) -> Iterator[dict[str, Any]]:
        """All that was appended; lines that a kill or a full disk cut short are left out.

        Raises:
            ModelError: it can't be read.
        """
        return (values for _, values in self._lines())

    def _lines(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        try:
            with open_file(self._metrics, MOST_METRICS) as file:
                for line in iter(lambda: file.readline(LONGEST_LINE), b""):
                    with contextlib.suppress(ValueError, RecursionError):
                        values = json.loads(line)
                        if isinstance(values, dict):
                            yield line, values
        except FileNotFoundError:
            return
        except OSError as error:
            raise ModelError(f"{self._metrics}: can't be read ({plain_reason(error)})") from None

    def truncate_metrics(self, step: int) -> None:
        """Drops lines of later steps, which will be run again, and damaged ones.

        Raises:
            ModelError: it can't be read.
            OutputError: it can't be written.
        """
        steps = ((line, values.get("step")) for line, values in self._lines())
        kept = (line.rstrip(b"\r\n") + b"\n" for line, of in steps if isinstance(of, int) and of <= step)
        with reported(self._metrics):
            write_file(self._metrics, kept, durable=True)

    def samples_path(self, step: int) -> Path:
        """Where the sample grid of a step is, or would be."""
        return self.path / "samples" / f"step_{step:08d}.png"

    def write_samples(self, step: int, data: bytes) -> Path:
        """Writes the sample grid of a step, a PNG.

        Raises:
            OutputError: it can't be written.
        """
        self._check_there()
        path = self.samples_path(step)
        write_file(path, data)
        return path

    def write_model(
        self,
        config: BaseConfig,
        generators: Tensors,
        discriminators: Tensors,
        provenance: Mapping[str, Any],
        *,
        best: bool = False,
    ) -> None:
        """Replaces the folder `model`, which can be opened at any moment meanwhile, or `best`.

        Both are replaced as a whole. Only where the system can't do that at once, `model` is replaced file by file,
        and there is no `best` for a moment.

        Args:
            config: the same each time, since a kill may leave the new weights with the old config.
            generators, discriminators, provenance: as `save_model` takes them.

        Raises:
            ModelError: tensors that don't fit the config, or aren't finite.
            OutputError: it can't be written; the model is the old one.
        """
        self._check_there()
        folder = self.best if best else self.model
        temporary = hidden(folder)
        try:
            save_model(temporary, config, generators, discriminators, provenance=provenance)
            with reported(folder):
                if not best and folder.exists():
                    _copy_others(folder, temporary)
                if best or not folder.exists():
                    replace_folder(temporary, folder)
                elif not exchange(temporary, folder):
                    # Whenever there are hashes, they are those of all files beside them.
                    (folder / SUMS_FILE).unlink(missing_ok=True)
                    sync_folder(folder)
                    for name in (DISCRIMINATORS_FILE, GENERATORS_FILE, CONFIG_FILE, SUMS_FILE):
                        (temporary / name).replace(folder / name)
                    sync_folder(folder)
                sync_folder(self.path)
        except OutputError as error:
            raise type(error)(error.message.replace(str(temporary), str(folder)), error.hint) from error
        finally:
            discard(temporary)


def run_at(path: Path) -> RunFolder | None:
    """The run whose folder this is, or that of its last or best model."""
    run = RunFolder(path.parent if path.name in ("model", "best") else path)
    return run if run.exists else None


@dataclass(frozen=True)
class _Saved:
    """What `state.json` says."""

    step: int
    state: Mapping[str, Any]
    files: Mapping[str, FileRecord]

    def __post_init__(self) -> None:
        if strange := [stem for stem in self.files if not stem.isidentifier()]:
            raise ConfigError(f"files has {strange[0]!r}, which is no file of a checkpoint")


def _read_state(path: Path, step: int) -> _Saved:
    try:
        document = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: can't be read ({plain_reason(error)})") from None
    if not isinstance(document, dict):
        raise ModelError(f"{path}: damaged: not a table")
    _check_format(path, document.get("format"))
    if document.pop("sha256", None) != _digest(document):
        raise ModelError(f"{path}: damaged: its content is not what was written")
    del document["format"]
    saved = read_table(_Saved, document)
    if saved.step != step:
        raise ModelError(f"{path}: it is of step {saved.step}; the folder was renamed")
    return saved


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _check_format(path: Path, number: object) -> None:
    if type(number) is not int:
        raise ModelError(f"{path}: damaged, or not from ugatit (no format number)")
    if number > FORMAT:
        message = f"{path}: written by a newer ugatit (format {number}, this one reads up to {FORMAT})"
        raise ModelError(message, UPGRADE)


def _not_saved(folder: Path, error: OSError, files: Mapping[str, Tensors], before: int | None) -> OutputError:
    size = sum(tensor.nbytes for tensors in files.values() for tensor in tensors.values())
    failure = unwritable(folder, error)
    kept = "there is no earlier one" if before is None else f"that of step {before} stays valid"
    needed = f"; this checkpoint takes {max(1, round(size / 1e6))} MB" if error.errno in DISK_FULL else ""
    return type(failure)(f"{failure.message}{needed}; {kept}", failure.hint)


def _copy_others(folder: Path, to: Path) -> None:
    """Copies files that are only in the first folder: a README.md that somebody has put beside the weights, say."""
    for path in folder.iterdir():
        if path.is_file() and not (to / path.name).exists():
            shutil.copy2(path, to / path.name)


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
