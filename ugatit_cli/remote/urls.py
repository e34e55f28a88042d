"""Where a file is: a path here, or a URL elsewhere (`s3://bucket/cats/1.png`), which is called and joined alike."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias
from urllib.parse import unquote, urlsplit

from ugatit_cli.errors import UsageError
from ugatit_cli.files import expanded

WEB: Final = ("http", "https")
"""Schemes of single files, which can be read, but neither listed nor written."""

SCHEMES: Final = ("s3", "s3a", "gs", "gcs", "az", "abfs", "hf", "zip", "memory", *WEB)
NETWORKED: Final = frozenset(SCHEMES) - {"zip", "memory"}

_URL: Final = re.compile(r"(?s)([A-Za-z][A-Za-z0-9+.-]*)://(.*)")


@dataclass(frozen=True, slots=True)
class Url:
    """A file or folder elsewhere; as text without secrets, which only `full` has.

    Attributes:
        scheme: `s3`, `hf`, `zip`, ...
        path: what follows, without slashes at its ends; of `zip` the path in the archive, "" for all of it.
        rest: `?query` of the web, `::archive` of `zip`.
    """

    scheme: str
    path: str
    rest: str = ""

    @property
    def full(self) -> str:
        """The URL as it is asked for; may hold passwords and signatures."""
        return f"{self.scheme}://{self.path}{self.rest}"

    def __str__(self) -> str:
        from ugatit_cli.remote.patience import without_secrets

        if self.scheme == "zip":
            archive = str(place(self.archive))
            return f"zip://{self.path}::{archive}" if self.path else f"zip://{archive}"
        shown = without_secrets(f"{self.scheme}://{self.path}")
        return f"{shown}?***" if self.rest else shown

    def __repr__(self) -> str:
        return f"Url({self})"

    @property
    def archive(self) -> str:
        """Of `zip`: where the archive is."""
        return self.rest.removeprefix("::")

    @property
    def name(self) -> str:
        """The last part."""
        name = self.path.rpartition("/")[2]
        return unquote(name) if self.scheme in WEB else name

    @property
    def suffix(self) -> str:
        """As of a path: `.png`."""
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def title(self) -> str:
        """What a folder for all below it is called: its name, or that of its archive."""
        return self.name or PurePosixPath(self.archive).stem

    @property
    def parent(self) -> Url:
        """The folder that it is in."""
        return replace(self, path=self.path.rpartition("/")[0])

    def with_name(self, name: str) -> Url:
        """What is called so beside it."""
        return self.parent / name

    def with_stem(self, stem: str) -> Url:
        """The same with another stem."""
        return self.with_name(stem + self.suffix)

    def __truediv__(self, below: str) -> Url:
        return replace(self, path=f"{self.path}/{below}" if self.path else below)

    def holds(self, other: Url) -> bool:
        """Whether something is below this folder."""
        alike = (self.scheme, self.rest) == (other.scheme, other.rest)
        return alike and (other.path.startswith(f"{self.path}/") if self.path else bool(other.path))

    def below(self, other: Url) -> str:
        """How something below this folder is called from there."""
        below = other.path[len(self.path) :].lstrip("/")
        return unquote(below) if self.scheme in WEB else below


Place: TypeAlias = Path | Url
"""A file or folder, here or elsewhere."""


def place(text: str) -> Place:
    """The place that a text names; what is here is meant before what a URL says.

    `file://` is a path, and `zip://ARCHIVE` all of an archive (`zip://::ARCHIVE` to fsspec), which may itself be
    elsewhere.

    Raises:
        UsageError: the URL is of a kind that isn't known, or has no place in it.
    """
    match = _URL.fullmatch(text)
    if match is None or os.path.lexists(text):
        return expanded(text)
    scheme, rest = match[1].lower(), match[2]
    if scheme in ("file", "local"):
        return _local(text, rest)
    if scheme not in SCHEMES:
        raise UsageError(f"{scheme}://: no kind of URL that is known", f"Known are {', '.join(SCHEMES)} and file.")
    if scheme == "zip":
        return _zip(text, rest)
    path, mark, query = rest.partition("?") if scheme in WEB else (rest, "", "")
    url = Url(scheme, path.strip("/"), mark + query.partition("#")[0])
    if scheme in WEB:
        url = replace(url, path=url.path.partition("#")[0])
        _check_web(url)
    elif not url.path and scheme != "memory":
        raise UsageError(f"{scheme}://: names no place", f"Like {scheme}://bucket/folder.")
    return url


def text_of(place: Place) -> str:
    """What `place` reads as this one; of a URL with its secrets."""
    return place.full if isinstance(place, Url) else str(place)


def below(folder: Place, place: Place) -> str:
    """How something below a folder is called from there."""
    if isinstance(folder, Url) and isinstance(place, Url):
        return folder.below(place)
    return Path(str(place)).relative_to(str(folder)).as_posix()


def is_folder_text(text: str) -> bool:
    """Whether a text names a folder for certain: it ends with a slash, or is all of an archive."""
    return text.partition("::")[0].endswith(("/", os.sep)) or (text.startswith("zip://") and "::" not in text)


def _local(text: str, rest: str) -> Path:
    host, path = ("", rest) if rest.startswith("/") else (urlsplit(text).netloc, rest.partition("/")[2])
    if host not in ("", "localhost"):
        raise UsageError(f"{text}: is a file of another machine", "Name it with its path: file:///folder/picture.png")
    path = path if not host else f"/{path}"
    return Path(path if os.path.lexists(path) else unquote(path))


def _zip(text: str, rest: str) -> Url:
    member, mark, archive = rest.partition("::")
    if not mark:
        member, archive = "", rest
    if not archive or archive.lower().startswith("zip://"):
        raise UsageError(
            f"{text}: names no archive", "Like zip://photos.zip, or zip://folder/a.png::s3://bucket/a.zip"
        )
    where = place(archive)
    return Url("zip", member.strip("/"), f"::{where.full if isinstance(where, Url) else where}")


def _check_web(url: Url) -> None:
    from ugatit_cli.remote.addresses import is_address

    if not is_address(f"{url.scheme}://{url.path}"):
        raise UsageError(f"{url}: not a web address", "Like https://example.org/cat.png")


def misplaced(value: object) -> str:
    """The URL that was given where only what is here can be named; empty if it is none, or something here."""
    schemes = SCHEMES if isinstance(value, Path) else sorted({*SCHEMES} - {*WEB})  # the web has names of other things
    match = re.fullmatch(rf"(?s)({'|'.join(schemes)}):/{{1,2}}([^/].*)", str(value))  # a path has lost a slash
    return f"{match[1]}://{match[2]}" if match and not os.path.lexists(str(value)) else ""
