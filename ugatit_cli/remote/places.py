"""Listing, reading and writing where URLs say, and what is there already; results that go to folders here, too."""

from __future__ import annotations

import contextlib
import io
import stat
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from ugatit_cli import files
from ugatit_cli.errors import OutputError, PictureError, StorageError
from ugatit_cli.remote import zipping
from ugatit_cli.remote.systems import BROKEN, NO_FILE, TRY_AGAIN, Trouble, in_words, path_in, renamed, system
from ugatit_cli.remote.urls import WEB, Place, Url

_TIMES: Final = ("LastModified", "last_modified", "mtime", "updated", "created", "date_time")
_COMMITS: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder at a URL.

    Attributes:
        below: how it is called from the folder that was listed.
        size: bytes; None where nobody says.
        changed: nanoseconds since 1970; None where nobody says.
    """

    url: Url
    below: str
    size: int | None = None
    changed: int | None = None
    is_folder: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """What is at a place: `changed` is in nanoseconds since 1970, `regular` whether it is a file."""

    size: int | None
    changed: int | None
    regular: bool = True


def read(url: Url, limit: int) -> bytes:
    """All of a file.

    Args:
        limit: bytes that it may have.

    Raises:
        PictureError: it can't be had, or is larger.
    """
    try:
        with in_words(url), system(url).open(path_in(url), "rb", cache_type="none") as file:
            size = getattr(file, "size", None)
            data = _read(file, limit + 1 if size is None else min(size, limit + 1))
    except Trouble as error:
        raise PictureError(f"{url}: {error.reason}", error.hint) from None
    if len(data) > limit:
        raise PictureError(f"{url}: has more than {limit:,} bytes; no more are read")
    if len(data) < (size or 0):
        raise PictureError(f"{url}: {BROKEN}", Trouble(BROKEN, TRY_AGAIN).hint)
    return data


def _read(file: IO[bytes], most: int) -> bytes:
    data = io.BytesIO()  # which gives its content away without a copy
    while most > 0 and (part := file.read(most)):  # of what streams, as much as has just arrived
        most -= data.write(part)
    return data.getvalue()


def look(url: Url) -> Entry:
    """What is called so.

    Raises:
        Trouble: nothing is, or nobody can be asked.
    """
    if url.scheme in WEB:  # each would have to be asked; whether it is there shows when it is read
        return Entry(url, url.name)
    with in_words(url):
        if url.scheme == "zip" and not url.path:
            system(url)
            return Entry(url, "", is_folder=True)
        return _entry(url, url.name, system(url).info(path_in(url)))


def find(folder: Url) -> Iterator[Entry]:
    """All files below a folder.

    Raises:
        Trouble: it can't be listed.
    """
    with in_words(folder):
        found = system(folder).find(path_in(folder), detail=True)
    for path, info in found.items():
        url = renamed(folder, path)
        if folder.holds(url):
            yield _entry(url, folder.below(url), info)


def glob(pattern: Url, base: Url) -> list[Entry]:
    """What matches a pattern, called as from `base`.

    Raises:
        Trouble: nobody can be asked.
    """
    with in_words(pattern):
        found = system(pattern).glob(path_in(pattern), detail=True)
    urls = {renamed(pattern, path): info for path, info in found.items()}
    return [_entry(url, base.below(url), info) for url, info in urls.items()]


def exists(place: Place) -> bool:
    """Whether something is there; False where nobody can be asked."""
    if isinstance(place, Path):
        return place.exists()
    with contextlib.suppress(Trouble), in_words(place):
        return bool(system(place).exists(path_in(place)))
    return False


def _entry(url: Url, below: str, info: dict[str, Any]) -> Entry:
    return Entry(url, below, info.get("size"), _changed(info), info.get("type") == "directory")


def _changed(info: dict[str, Any]) -> int | None:
    """When a file changed: each kind of place has another name for it."""
    for key in _TIMES:
        with contextlib.suppress(TypeError, ValueError, OverflowError, OSError):
            value = info.get(key)
            if key == "date_time" and value:
                value = datetime(*value).astimezone()  # archives have local times
            if isinstance(value, str):
                value = datetime.fromisoformat(value)
            if isinstance(value, datetime):
                value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
            if value is not None:
                return int(value * 1e9)
    return None


class Known:
    """What is at the places of results: what is here is looked at each time, a folder elsewhere is listed once.

    Args:
        out: the folder, or the file of a single picture.
    """

    def __init__(self, out: Place) -> None:
        self.out = out
        self._lock = threading.Lock()
        self._listed: dict[Url, State] | None = None

    def state(self, place: Place) -> State | None:
        """What is there; None if nothing is.

        Raises:
            OutputError: the folder can't be listed.
        """
        if isinstance(place, Path):
            return _state_here(place)
        with self._lock:
            if self._listed is None:
                self._listed = self._list(place)
            return self._listed.get(place)

    def _list(self, place: Url) -> dict[Url, State]:
        named = not isinstance(self.out, Url) or self.out == place
        try:
            entries = [look(place)] if named else find(self.out)  # type: ignore[arg-type]
            return {entry.url: State(entry.size, entry.changed) for entry in entries}
        except Trouble as error:
            if error.reason == NO_FILE:
                return {}
            raise OutputError(f"{self.out}: {error.reason}", error.hint) from None


def _state_here(path: Path) -> State | None:
    with contextlib.suppress(OSError, ValueError):
        state = path.lstat()
        return State(state.st_size, state.st_mtime_ns, stat.S_ISREG(state.st_mode))
    return None


def check_archive(out: Url) -> None:
    """Whether results can be added to what is in an archive already; of other places nothing is asked.

    Raises:
        OutputError: they can't.
    """
    if out.scheme == "zip":
        with _reported(out):
            zipping.check_members(Url("zip", "", out.rest))


def write_together(results: Sequence[tuple[Place, bytes]]) -> None:
    """Writes the files of one result, each whole or not at all: all of them, or none that wasn't there before.

    Raises:
        OutputError: one of them can't be written.
    """
    files.write_together([(place, data) for place, data in results if isinstance(place, Path)])
    there = [(place, data) for place, data in results if isinstance(place, Url)]
    new: list[Url] = []
    try:
        for url, data in there:
            with _reported(url):
                before = len(there) > 1 and url.scheme != "zip" and system(url).exists(path_in(url))
                _write(url, data)
            new += [] if before else [url]
    except OutputError:
        for url in new:
            with contextlib.suppress(Exception):
                zipping.drop(url) if url.scheme == "zip" else system(url).rm_file(path_in(url))
        raise


def _write(url: Url, data: bytes) -> None:
    if url.scheme == "zip":
        zipping.add(url, data)
    else:
        # On the Hub each is a commit, one after the other.
        with _COMMITS if url.scheme == "hf" else contextlib.nullcontext():
            system(url).pipe_file(path_in(url), data)


@contextlib.contextmanager
def _reported(url: Url, lost: str = "") -> Iterator[None]:
    try:
        with in_words(url):
            yield
    except Trouble as error:
        kind = StorageError if error.lasting else OutputError
        raise kind(f"{url}: can't be written ({error.reason}){lost}", error.hint) from None


@contextlib.contextmanager
def finishing() -> Iterator[None]:
    """Puts archives that results went to in their places, whatever ends the block but a kill.

    Raises:
        OutputError: one can't be written.
    """
    try:
        yield
    finally:
        for url in zipping.begun():
            with _reported(url, ": what was to go into it is lost"):
                zipping.finish(url)
