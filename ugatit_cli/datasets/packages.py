"""Pinned packages of the npm registry: downloaded once, checked always, read without unpacking."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import io
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final, cast

from ugatit_cli.errors import FetchError, UsageError, plain_reason
from ugatit_cli.files import expanded, read_file
from ugatit_cli.remote import web
from ugatit_cli.remote.addresses import forbidden_by, hidden_parts, is_address
from ugatit_cli.remote.patience import Listener
from ugatit_cli.remote.web import WebFile

NPM: Final = "https://registry.npmjs.org"
LARGEST: Final = 1 << 28
"""Bytes of a tarball, and of all that is in one; those that are used have 18 MB."""


@dataclass(frozen=True)
class Package:
    """One version of a package, with the hash that makes it the only one.

    Args:
        name: with its scope, such as `@twemoji/svg`.
        version: exactly.
        integrity: npm's, `sha512-` and the hash in base64.
        size: bytes of the tarball.
    """

    name: str
    version: str
    integrity: str
    size: int

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def file(self) -> str:
        """What `npm pack` calls the tarball."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"

    @property
    def pack(self) -> str:
        """The command that makes the tarball where npm works."""
        return f"npm pack {self.name}@{self.version}"

    def url(self, registry: str) -> str:
        """Where a registry has the tarball."""
        return f"{registry}/{self.name}/-/{self.name.rpartition('/')[2]}-{self.version}.tgz"


def cache_folder() -> Path:
    """`ugatit/npm` in the user's cache folder."""
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "ugatit" / "npm"


def registry() -> WebFile:
    """The registry that npm's environment variable names, which no mirror stands for, else npm's own.

    Raises:
        UsageError: it isn't an address.
    """
    names = ("NPM_CONFIG_REGISTRY", "npm_config_registry")
    text = next(filter(None, map(os.environ.get, names)), "")
    if text and not is_address(text):
        raise UsageError(f"NPM_CONFIG_REGISTRY is {hidden_parts(text)!r}: not a web address", f"Like {NPM}")
    # Wherever it leads to: what comes has the right hash, or isn't used.
    return WebFile((text or NPM).rstrip("/"), ("*",), direct=bool(text))


def integrity_of(data: bytes) -> str:
    """npm's integrity of a tarball."""
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


def fetch(package: Package, listener: Listener, folder: Path | None = None) -> bytes:
    """The tarball: from the cache, or else from the registry; the cache has it then.

    Args:
        folder: where what `npm pack` made lies; nothing else is asked then.

    Raises:
        FetchError: it isn't there, can't be downloaded, or isn't the pinned one.
        OutputError: the cache can't be written.
    """
    path = (folder or cache_folder()) / package.file
    data = _read(path)
    if data is not None and integrity_of(data) == package.integrity:
        return data
    if folder is not None:
        problem = "no such file" if data is None else _problem(package, data)
        raise FetchError(f"{path}: {problem}", f"Make it with `{package.pack}` where that works.")
    if data is not None:
        listener.note(f"{path}: {_problem(package, data)}; fetching it again")
    return _downloaded(package, path, listener)


def _read(path: Path) -> bytes | None:
    try:
        return read_file(path, LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FetchError(f"{path}: {plain_reason(error)}") from error


def _problem(package: Package, data: bytes) -> str:
    size = f"{len(data):,} bytes instead of {package.size:,}" if len(data) != package.size else "another SHA-512"
    return f"isn't {package}: {size}"


def _downloaded(package: Package, path: Path, listener: Listener) -> bytes:
    otherwise = f"Run `{package.pack}` where that works, and put {path.name} into {path.parent}"
    source = registry()
    file = dataclasses.replace(source, url=package.url(source.url))
    listener.note(f"fetching {package} ({package.size / 1e6:.1f} MB) from {source}")
    try:
        web.obtain(file, path, None, listener, size=package.size, force=True)
    except FetchError as error:
        ways = (otherwise, error.hint) if forbidden_by() else (error.hint, otherwise)
        raise FetchError(error.message, "\n".join(ways).strip()) from error
    data = _read(path) or b""
    if integrity_of(data) != package.integrity:
        web.throw_away(path)
        raise FetchError(f"{file}: what came {_problem(package, data)}", otherwise)
    return data


def files(tarball: bytes, suffix: str) -> dict[str, bytes]:
    """Name without folders and content of all files in a tarball whose names end with `suffix`.

    Raises:
        FetchError: it is damaged, or holds more than `LARGEST` bytes.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(tarball)) as packed:
            content = packed.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise FetchError(f"a package of more than {LARGEST:,} bytes: not one of pictures")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            return {
                PurePosixPath(member.name).name: cast(IO[bytes], archive.extractfile(member)).read()
                for member in archive
                if member.isfile() and member.name.endswith(suffix)
            }
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise FetchError(f"a package that is no tarball: {plain_reason(error)}") from error
