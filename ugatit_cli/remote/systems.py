"""What is behind a URL: the file system of `fsspec` for it, and in plain words what went wrong there.

Credentials and endpoints are those of each service's own tools (`AWS_PROFILE`, `AWS_ENDPOINT_URL`, `HF_TOKEN`), or of
fsspec's configuration (`FSSPEC_S3_ANON=true`); none of them is in a message. Every request has a time limit.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ugatit_cli import files
from ugatit_cli.errors import UgatitError, UsageError, install_line, plain_reason
from ugatit_cli.files import open_file
from ugatit_cli.remote.addresses import OFFLINE, allow, forbidden_by, mirrored
from ugatit_cli.remote.patience import kinds_of, plain_words, status_of, without_secrets
from ugatit_cli.remote.urls import NETWORKED, WEB, Url, place

NO_FILE: Final = "no such file"
BROKEN: Final = "the connection broke off"
TRY_AGAIN: Final = "check the connection, then run the same command again with --skip-existing"

TRIES: Final = 2
"""How often s3fs asks where a connection breaks; the attempts of botocore are within each of these."""

_ATTEMPTS: Final = {"config_kwargs": {"retries": {"total_max_attempts": 2}}}
_CONNECT, _SILENCE = 5, 15  # seconds, as s3fs has them
_PACKAGES: Final = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_KEYS: Final = (
    "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a public bucket FSSPEC_S3_ANON=true"
)
_LOGIN: Final = {"s3": _KEYS, "s3a": _KEYS, "hf": "log in with `hf auth login` or set HF_TOKEN"}


class Trouble(Exception):
    """Why a URL can't be listed, read or written.

    Attributes:
        reason: in words, without secrets.
        way: the way out, in words; may be empty.
        lasting: whether the next file there would have it, too.
    """

    def __init__(self, reason: str, way: str = "", *, lasting: bool = False) -> None:
        super().__init__(f"{reason}: {way}" if way else reason)
        self.reason, self.way, self.lasting = reason, way, lasting

    @property
    def hint(self) -> str:
        """The way out as a sentence."""
        return f"{self.way[0].upper()}{self.way[1:]}." if self.way else ""


def check(url: Url, *, writing: bool = False) -> None:
    """Whether there is what it takes to reach a URL; asks nobody.

    Raises:
        UsageError: a package isn't installed, a variable forbids it, or nothing can be written there.
    """
    if writing and url.scheme in WEB:
        raise UsageError(f"{url}: nothing can be written to {url.scheme}://", "Name a folder, or s3://bucket/folder.")
    if url.scheme == "zip" and isinstance(archive := place(url.archive), Url):
        check(archive, writing=writing)
    variable = forbidden_by()
    if url.scheme in NETWORKED and variable and (variable == OFFLINE or url.scheme == "hf"):
        raise UsageError(f"{url}: {variable} forbids to ask for it", f"Name a file that is here.\n{allow()}")
    import fsspec

    try:
        fsspec.get_filesystem_class(url.scheme)
    except ImportError:
        line = f"pip install {_PACKAGES[url.scheme]}" if url.scheme in _PACKAGES else install_line("remote")
        raise UsageError(f"{url}: {url.scheme}:// needs a package that isn't installed", line) from None


def system(url: Url) -> Any:
    """The file system that a URL is in, which `path_in` is for."""
    if url.scheme == "zip":
        where = place(url.archive)
        state = where.stat() if isinstance(where, Path) else None
        return _archive(url.archive, state and (state.st_size, state.st_mtime_ns), os.getpid())
    import fsspec

    found = fsspec.filesystem(url.scheme, **_options(url.scheme))
    if url.scheme in ("s3", "s3a"):
        found.retries = TRIES
    return found


def path_in(url: Url) -> str:
    """How a URL is called in its `system`."""
    if url.scheme in WEB:
        return url.full if url.rest or "@" in url.path else mirrored(url.full)  # a mirror gets no secrets
    return f"/{url.path}" if url.scheme == "memory" else url.path


def renamed(url: Url, path: str) -> Url:
    """Another file of the same `system`, by its path there."""
    return replace(url, path=path.strip("/"))


def _options(scheme: str) -> dict[str, Any]:
    if scheme in ("s3", "s3a"):
        return {"use_listings_cache": False, **({} if "AWS_MAX_ATTEMPTS" in os.environ else _ATTEMPTS)}
    if scheme == "hf":
        from ugatit_cli.remote import hub

        return {"endpoint": hub.endpoint(), "token": hub.token()}
    if scheme in WEB:
        import aiohttp

        limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE)
        return {"client_kwargs": {"timeout": limits}, "encoded": True}
    return {}


@functools.lru_cache(maxsize=8)
def _archive(text: str, state: object, process: int) -> Any:  # noqa: ARG001  # another archive, if these are others
    from fsspec.implementations.zip import ZipFileSystem

    where = place(text)
    file = open_file(where) if isinstance(where, Path) else system(where).open(path_in(where), "rb")
    try:
        return ZipFileSystem(file)
    except BaseException:
        file.close()
        raise


# --- Words ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def in_words(url: Url) -> Iterator[None]:
    """Turns whatever the libraries raise into a `Trouble`; they raise nearly everything."""
    try:
        yield
    except (UgatitError, Trouble, MemoryError):
        raise
    except Exception as error:
        raise _trouble(url, error) from None


def _trouble(url: Url, error: Exception) -> Trouble:
    if url.scheme in WEB and isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # of whatever kind, fsspec says that there is no file
    kinds, text = kinds_of(error), " ".join(without_secrets(str(error)[:1000]).split())[:200].rstrip(".")
    inner = place(url.archive) if url.scheme == "zip" else url
    login = _LOGIN.get(inner.scheme, "") if isinstance(inner, Url) else ""
    if isinstance(error, FileNotFoundError) or _status(error) in (404, 410):
        for what in ("bucket", "repository"):
            if what in text.lower() and login:
                return Trouble(f"no such {what}, or not for you", f"check its name; {login}", lasting=True)
        return Trouble(NO_FILE)
    if any("Credential" in kind for kind in kinds):
        return Trouble("no credentials", login, lasting=True)
    if isinstance(error, PermissionError) or _status(error) in (401, 403):
        return Trouble("access denied", login, lasting=bool(login))
    if isinstance(error, OSError) and error.errno in files.DISK_FULL | {errno.EROFS}:
        return Trouble(plain_reason(error), "free some space, or name another place", lasting=True)
    if isinstance(error, zipfile.BadZipFile | zlib.error | struct.error | EOFError) and url.scheme == "zip":
        return Trouble("its archive is damaged, or none", "download it again")
    if isinstance(error, RuntimeError | NotImplementedError) and url.scheme == "zip":  # a password, another method
        return Trouble(f"can't be unpacked ({text})")
    if isinstance(error, TimeoutError) or any("Timeout" in kind for kind in kinds):
        return Trouble("the server doesn't answer", TRY_AGAIN)
    if (astray := _astray(error)) is not None:
        return astray
    if _status(error) is not None:
        return Trouble(f"the server answered {_status(error)}")
    if isinstance(error, OSError) and not {"ClientError", "ConnectionError"} & {*kinds}:
        return Trouble(plain_reason(error) if not text or error.strerror else text)
    return Trouble(plain_words(error), TRY_AGAIN)


def _astray(error: Exception) -> Trouble | None:
    """What aiohttp says of answers that break off or aren't HTTP, often as if they had a status, and of redirects."""
    kinds, cause = kinds_of(error), error.__cause__
    if "TooManyRedirects" in kinds:
        return Trouble("too many redirects")
    if "RedirectClientError" in kinds:
        return Trouble("a redirect leads to what is no web address")
    if "ClientPayloadError" in kinds and "Not enough data" in str(error):  # its only sign of it
        return Trouble(BROKEN, TRY_AGAIN)
    unread = isinstance(cause, Exception) and "HttpProcessingError" in kinds_of(cause)
    return Trouble("the server's answer is broken", TRY_AGAIN) if unread or "ClientPayloadError" in kinds else None


def _status(error: Exception) -> int | None:
    status = getattr(error, "status", None)
    return status if isinstance(status, int) and status else status_of(error)
