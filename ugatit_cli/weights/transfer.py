"""One file from the Hub to the disk: goes on where it stopped, gives up what stalls, and is checked on the way."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Final

from ugatit_cli.errors import ModelError, StorageError
from ugatit_cli.files import reported
from ugatit_cli.weights import hub
from ugatit_cli.weights.hub import HubId, Listener, Patience, RemoteFile
from ugatit_cli.weights.manifest import SHA256

BLOCK: Final = 1 << 20
# The most that is taken of a file whose size the Hub doesn't tell; large ones have their size told.
LARGEST_UNTOLD: Final = 1 << 20
LARGEST_ERROR: Final = 1 << 16
# Progress of so many bytes makes an attempt count as the first again.
PROGRESS: Final = 1 << 20


class TransferError(Exception):
    """A download that broke off, and may be tried again."""


class Digest:
    """SHA-256 of a file, and its git blob hash if the size is known beforehand."""

    def __init__(self, size: int | None) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()
        # As git names contents; no matter of security where SHA-256 is known, too.
        self._git = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False) if size is not None else None

    def update(self, data: bytes) -> None:
        """Takes in the next bytes."""
        self.size += len(data)
        self._sha256.update(data)
        if self._git is not None:
            self._git.update(data)

    @property
    def sha256(self) -> str:
        """Of all bytes so far, in hex."""
        return self._sha256.hexdigest()

    def differs(self, remote: RemoteFile) -> tuple[str, str] | None:
        """What the Hub says and what was found, if they contradict each other."""
        if SHA256.fullmatch(remote.etag):
            return (remote.etag, self.sha256) if remote.etag != self.sha256 else None
        if hub.COMMIT.fullmatch(remote.etag) and self._git is not None:
            found = self._git.hexdigest()
            return (f"git {remote.etag}", f"git {found}") if remote.etag != found else None
        return None


def digest_of(path: Path) -> Digest:
    """The digest of a file on disk.

    Raises:
        OSError: it can't be read.
    """
    digest = Digest(path.stat().st_size)
    with path.open("rb") as file:
        for data in iter(lambda: file.read(BLOCK), b""):
            digest.update(data)
    return digest


def download(remote: RemoteFile, part: Path, listener: Listener, patience: Patience | None = None) -> Digest:
    """Downloads a file to `part`, going on with what is there.

    What came before an error stays in `part`, for the next call.

    Raises:
        ModelError: the Hub can't be reached, refuses, stalls, or sends more than it announced.
        StorageError: the disk is full.
        OutputError: `part` can't be written.
    """
    patience = patience or hub.PATIENCE
    identity = HubId(remote.repository)
    with reported(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: what was written is there, and nothing is left for closing to write.
        file = os.fdopen(_open(part), "a+b", buffering=0)
    with file, hub.errors_reported(identity, remote.name):
        with reported(part):
            transfer = _Transfer(remote, file, part, listener, patience)
        listener.begin(Path(remote.name).name, remote.size, transfer.digest.size)
        try:
            transfer.run()
        finally:
            listener.end()
        with reported(part):
            os.fsync(file.fileno())
        if os.fstat(file.fileno()).st_size != transfer.digest.size:
            raise ModelError(f"{part}: another program has written to it", "Run the command again.")
        return transfer.digest


def _open(path: Path) -> int:
    """Opens a file to read and to append, but not what a link of its name leads to."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.open(path, flags, 0o666)


@dataclass
class _Transfer:
    remote: RemoteFile
    file: FileIO
    part: Path
    listener: Listener
    patience: Patience

    def __post_init__(self) -> None:
        self.digest = Digest(self.remote.size)
        self.file.seek(0)
        for data in iter(lambda: self.file.read(BLOCK), b""):
            self.digest.update(data)
        size = self.remote.size
        if size is None or self.digest.size > size:
            self._begin_again(tell=False)
        self._check_space()

    def _check_space(self) -> None:
        needed = (self.remote.size or 0) - self.digest.size
        free = shutil.disk_usage(self.part.parent).free
        if needed > free:
            raise StorageError(
                f"{self.part.parent}: {needed / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB are free",
                "Free some space, or choose another disk with HF_HUB_CACHE.",
            )

    def _begin_again(self, *, tell: bool = True) -> None:
        if tell:
            self.listener.advance(-self.digest.size)
        with reported(self.part):
            self.file.truncate(0)
        self.digest = Digest(self.remote.size)

    def run(self) -> None:
        attempt, mark = 1, self.digest.size
        while self.remote.size is None or self.digest.size < self.remote.size:
            try:
                if self._receive():
                    break
            except Exception as error:
                if self.digest.size >= mark + PROGRESS:
                    attempt, mark = 1, self.digest.size
                if not isinstance(error, TransferError) and not hub.is_transient(error):
                    raise
                wait = self._waiting_time(error, attempt)
                if wait is None:
                    raise self._given_up(error) from None
                self.listener.note(f"{_words(error)}; trying again in {wait:.0f} s")
                attempt += 1
                time.sleep(wait)

    def _waiting_time(self, error: Exception, attempt: int) -> float | None:
        if isinstance(error, TransferError):
            return self.patience.wait * 2 ** (attempt - 1) if attempt < self.patience.attempts else None
        return hub.waiting_time(error, attempt, self.patience)

    def _given_up(self, error: Exception) -> ModelError:
        total = f" of {self.remote.size:,}" if self.remote.size is not None else ""
        return ModelError(
            f"{self.remote.repository}: {self.remote.name}: {_words(error)}, after {self.digest.size:,}{total} bytes",
            "What has arrived is kept: the same command goes on from there.",
        )

    def _receive(self) -> bool:
        """One request; whether the file is complete."""
        from huggingface_hub import constants, get_session, hf_hub_url

        url = hf_hub_url(
            self.remote.repository, self.remote.name, revision=self.remote.commit, endpoint=hub.endpoint()
        )
        headers = hub.request_headers()
        if self.digest.size:
            headers["Range"] = f"bytes={self.digest.size}-"
        seconds = constants.HF_HUB_DOWNLOAD_TIMEOUT
        # The HTTP library leaves the token out when it is sent on to another host.
        with get_session().stream("GET", url, headers=headers, timeout=seconds, follow_redirects=True) as response:
            self._check(response)
            for data in _steadily(response.iter_bytes(), self.patience):
                self._take(data)
        if self.remote.size is not None and self.digest.size < self.remote.size:
            raise TransferError("the connection broke off")
        return True

    def _check(self, response: Any) -> None:
        from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # documented there

        start = self.digest.size
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if response.status_code == 416 or (response.status_code == 206 and not goes_on):
            self._begin_again()
            raise TransferError("the Hub sent another part of the file than was asked for")
        hf_raise_for_status(_briefly(response, self.patience))
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise TransferError("a web page came instead of the file, perhaps one to log in")
        length = _whole_length(response.headers)
        if length is not None and self.remote.size not in (None, length):
            raise TransferError(f"a file of {length:,} bytes came")
        if start and response.status_code == 200:  # a server that sends nothing but whole files
            self._begin_again()

    def _take(self, data: bytes) -> None:
        most = LARGEST_UNTOLD if self.remote.size is None else self.remote.size
        if self.digest.size + len(data) > most:
            self._begin_again()
            raise ModelError(f"{self.remote.repository}: {self.remote.name} is longer than the Hub announced")
        with reported(self.part):
            rest = memoryview(data)
            while rest:
                rest = rest[self.file.write(rest) :]
        self.digest.update(data)
        self.listener.advance(len(data))


def _whole_length(headers: Mapping[str, str]) -> int | None:
    """Bytes of the whole file, of which an answer holds all or a part; None if it doesn't tell."""
    if "Content-Encoding" in headers:  # whose length is another
        return None
    _, slash, text = headers.get("Content-Range", "").rpartition("/")
    text = text if slash else headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _briefly(response: Any, patience: Patience) -> Any:
    """An answer, if it is an error with no more than the beginning of its body, which may be endless."""
    if not response.is_error:
        return response
    body = b""
    for data in _steadily(response.iter_bytes(), patience):
        body += data
        if len(body) >= LARGEST_ERROR:
            break
    kept = ("x-", "retry-", "ratelimit")
    headers = {name: value for name, value in response.headers.items() if name.startswith(kept)}
    return type(response)(response.status_code, headers=headers, content=body, request=response.request)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, TransferError) else hub.plain_words(error)


def _steadily(blocks: Iterator[bytes], patience: Patience) -> Iterator[bytes]:
    """Passes blocks on while enough of them come.

    Raises:
        TransferError: too few bytes per second.
    """
    since, count = time.monotonic(), 0
    for block in blocks:
        yield block
        count += len(block)
        passed = time.monotonic() - since
        if passed >= patience.window:
            if count < patience.least * passed:
                raise TransferError(f"only {count / passed:.0f} bytes per second came")
            since, count = time.monotonic(), 0
