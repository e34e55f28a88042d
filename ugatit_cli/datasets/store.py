"""Data sets on this machine: each a folder with the pictures of both domains, and a file that says what they are.

A data set is there as a whole or not at all. Folders that users had written elsewhere are the same, but not listed.
"""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from ugatit_cli.data.pictures import find_pictures
from ugatit_cli.errors import AlreadyThere, ConfigError, OutputError, UgatitError
from ugatit_cli.fields import read_table
from ugatit_cli.files import read_file, replace_folder, reported, retire, write_file
from ugatit_cli.leftovers import discard, hidden, put_back, sweep
from ugatit_cli.remote.patience import Listener, waiting
from ugatit_cli.weights.home import home_folder
from ugatit_cli.weights.mistakes import LARGEST

FILE: Final = "dataset.json"
SCHEMA: Final = 1
SETS: Final = ("trainA", "trainB", "valA", "valB", "testA", "testB")
"""Names of the folders in a data set."""


@dataclass(frozen=True)
class Facts:
    """What a data set is, as far as whoever fills its folder knows.

    Attributes:
        source: where it comes from: an address, a repository with its commit, packages with their versions.
        sha256: name of each file that was downloaded -> its hash.
        domains: names of A and B; empty if nobody has named them.
        paired: pictures of testA and testB that have the same name show the same.
        licence: as stated, or `not stated`.
        notes: what else there is to know.
    """

    source: str
    sha256: Mapping[str, str]
    domains: list[str]
    paired: bool
    licence: str
    notes: list[str]


@dataclass(frozen=True)
class Stored(Facts):
    """A data set, as the file in its folder says.

    Attributes:
        name: what it was fetched as.
        time: when, in UTC.
        counts, sizes: name of each folder in it -> how many pictures it has, and how many bytes they have.
    """

    name: str
    time: str
    counts: Mapping[str, int]
    sizes: Mapping[str, int]

    @property
    def size(self) -> int:
        """Bytes of all its pictures."""
        return sum(self.sizes.values())


def store_folder() -> Path:
    """Where data sets live."""
    return home_folder() / "data"


def path_of(name: str) -> Path:
    """The folder of a data set in the store, there or not."""
    return store_folder() / re.sub(r"^\.", "%2E", _quoted(name, "@+ "))


def _quoted(name: str, safe: str = "") -> str:
    return quote(name, safe, errors="surrogatepass")


def stored() -> dict[str, Stored]:
    """The data sets in the store by name, sorted; none if it may not be read."""
    folder = store_folder()
    names = sorted(os.listdir(folder)) if os.access(folder, os.R_OK | os.X_OK) else []  # noqa: PTH208
    found = {name: read(folder / name) for name in names if not name.startswith(".")}
    return {one.name: one for name, one in found.items() if one is not None and path_of(one.name).name == name}


def read(folder: Path) -> Stored | None:
    """What a folder says that it is; None if it isn't a data set that was fetched, or is one of a newer version."""
    try:
        document = json.loads(read_file(folder / FILE))
        schema, known = document.pop("schema"), read_table(Stored, document)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, ConfigError):
        return None
    numbers = all(0 <= number <= LARGEST for number in (*known.counts.values(), *known.sizes.values()))
    sound = numbers and len(known.domains) in (0, 2) and all(name == Path(name).name for name in known.counts)
    return known if schema == SCHEMA and sound else None


def get(name: str) -> Path | None:
    """The folder of a data set that is here; None if there is none."""
    folder = path_of(name)
    put_back(folder)
    return folder if read(folder) is not None else None


def damage(folder: Path) -> str:
    """What is not as it was when a data set was written, by counts and sizes; empty if nothing, or nobody knows."""
    known = read(folder)
    if known is None:
        return ""
    try:
        counts, sizes = _measured(folder, known.counts)
    except (OSError, UgatitError) as error:
        return str(error)
    for name, count in known.counts.items():
        if counts[name] != count:
            return f"{name} has {counts[name]:,} pictures, not {count:,}"
        if sizes[name] != known.sizes.get(name):
            return f"the pictures of {name} have {sizes[name]:,} bytes, not {known.sizes.get(name, 0):,}"
    return ""


def _measured(folder: Path, names: Iterable[str]) -> tuple[dict[str, int], dict[str, int]]:
    found = {name: [path.stat().st_size for path in find_pictures(folder / name)] for name in names}
    return {name: len(sizes) for name, sizes in found.items()}, {name: sum(sizes) for name, sizes in found.items()}


Fill = Callable[[Path], Facts]
"""Writes the folders trainA, trainB, and others that there are, into an empty folder."""


def put(name: str, fill: Fill, listener: Listener, *, to: Path | None = None, force: bool = False) -> Path:
    """Writes a data set, unless another process has just done so; as a whole or not at all.

    Args:
        to: where, instead of the store.
        force: replace one that is there.

    Returns:
        Its folder.

    Raises:
        UgatitError: whatever `fill` raises.
        OutputError: it can't be written, or something else is there.
    """
    target = path_of(name) if to is None else to.absolute()
    lock = home_folder() / "locks" / f"data-{_quoted(name)}"
    with waiting(lock, f"another ugatit is fetching {name}; waiting for it", listener):
        if to is None and not force and get(name) is not None:
            return target
        check_target(target, force=force or to is None)
        with reported(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            sweep(target.parent)
            temporary = hidden(target)
            temporary.mkdir()
        try:
            _finish(name, temporary, fill(temporary))
            with reported(target):
                if target.is_dir() and read(target) is None:  # empty
                    target.rmdir()
                replace_folder(temporary, target)
        except OutputError as error:  # about what nobody has heard of
            raise type(error)(error.message.replace(str(temporary), str(target)), error.hint) from None
        finally:
            discard(temporary)
    return target


def _finish(name: str, folder: Path, facts: Facts) -> None:
    found = sorted(path.name for path in folder.iterdir() if path.is_dir())
    counts, sizes = _measured(folder, [*(name for name in SETS if name in found), *sorted({*found} - {*SETS})])
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    document: dict[str, Any] = {"schema": SCHEMA, "name": name, **asdict(facts), "time": now}
    document |= {"counts": counts, "sizes": sizes}
    write_file(folder / FILE, (json.dumps(document, indent=2) + "\n").encode(), durable=True)


def check_target(folder: Path, *, force: bool) -> None:
    """Whether a data set may be written to a folder.

    Raises:
        OutputError: it holds something else, or a data set and `force` isn't set.
    """
    with reported(folder):
        if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
            return
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    known = read(folder)
    if known is None or not {name for name in names if not name.startswith("NOTICE")} <= {*known.counts, FILE}:
        message = f"{folder}: exists and is not a data set that was fetched, or holds other files too"
        raise AlreadyThere(message, "Name another folder, or move this one away.")
    if not force:
        raise AlreadyThere(f"{folder}: exists already", "Name another folder, or pass --force.")


def remove(name: str) -> None:
    """Removes a data set from the store; killed in between, it is gone, and the next call sweeps what is left.

    Raises:
        OutputError: it can't be removed.
    """
    folder = path_of(name)
    with reported(folder):
        gone = retire(folder)
    discard(gone)
    if os.path.lexists(gone):
        raise OutputError(f"{gone}: can't be removed, or not all of it", "Check its permissions.")
    sweep(folder.parent)
