"""How often to ask a server, who hears of it, one process at a time, and in plain words what went wrong."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from filelock import FileLock, Timeout

from ugatit_cli.errors import OutputError
from ugatit_cli.files import reported
from ugatit_cli.wording import without_passwords

Result = TypeVar("Result")

logger = logging.getLogger("ugatit")


class Listener(Protocol):
    """Hears what happens while something is fetched or made."""

    def note(self, text: str) -> None:
        """Something the user should know."""

    def begin(self, label: str, size: int | None, done: int, unit: str = "bytes") -> None:
        """A file of `size` bytes is on its way, or another work of so many units; `done` of them are here already."""

    def advance(self, count: int) -> None:
        """So many more are here; negative when a file has to begin again."""

    def end(self) -> None:
        """The file is here, or has failed."""


class Logged:
    """Tells the log."""

    def note(self, text: str) -> None:
        """Says it."""
        logger.info("%s", text)

    def begin(self, label: str, size: int | None, done: int, unit: str = "bytes") -> None:
        """Says what is on its way."""
        logger.info("%s: fetching, %s of %s %s are here", label, done, "?" if size is None else size, unit)

    def advance(self, count: int) -> None:
        """Says nothing."""

    def end(self) -> None:
        """Says nothing."""


class TransferError(Exception):
    """A download that broke off, and may be tried again."""


_STATUS: Final = {
    408: "too slow", 429: "too many requests", 500: "server error", 502: "bad gateway", 503: "out of service",
    504: "gateway timeout",
}  # fmt: skip

# Errors of the HTTP library that come again with every attempt: the address, or the token, is no good.
_PERMANENT: Final = {"TooManyRedirects", "UnsupportedProtocol", "LocalProtocolError"}


def is_transient(error: Exception) -> bool:
    """Whether a request may succeed later: the server is busy, or the connection is bad."""
    status = status_of(error)
    if status is not None:
        return status in _STATUS
    kinds = kinds_of(error)
    return isinstance(error, TransferError) or ("HTTPError" in kinds and kinds[0] not in _PERMANENT)


def kinds_of(error: Exception) -> list[str]:
    """Names of its classes: which HTTP library they are of depends on the version of `huggingface_hub`."""
    return [kind.__name__ for kind in type(error).__mro__]


def status_of(error: Exception | None) -> int | None:
    """The status of the answer that an error is about, if there was one."""
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status


def plain_words(error: Exception | None) -> str:
    """What went wrong with a request, in one line without secrets."""
    status = status_of(error)
    if status is not None:
        return f"the server answered {status}" + (f" ({_STATUS[status]})" if status in _STATUS else "")
    if isinstance(error, TransferError):
        return str(error)
    if "Timeout" in type(error).__name__:
        return "the server doesn't answer"
    # Whatever answers may be quoted in it.
    text = without_secrets(" ".join(str(error)[:1000].split()))
    return f"the connection failed ({text[:150] or type(error).__name__})"


def without_secrets(text: str) -> str:
    """A text without tokens, passwords in addresses, and signatures of signed addresses."""
    from huggingface_hub import get_token

    token = get_token()
    if token:
        text = text.replace(token, "***").replace(repr(token)[1:-1], "***")
    text = re.sub(r"\bhf_[A-Za-z0-9]{8,}", "hf_***", text)
    text = re.sub(r"(?i)((?:bearer|basic)\s+)[^\s'\",]+", r"\1***", text)
    return without_passwords(text)


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        attempts: how often in a row without any progress.
        wait: seconds before the second attempt; doubles each time.
        longest_wait: seconds; a server that asks for more is given up.
        window, least: a download of less than `least` bytes per second over `window` seconds counts as broken off.
        progress: bytes that make an attempt count as the first again.
    """

    attempts: int = 5
    wait: float = 1.0
    longest_wait: float = 60.0
    window: float = 30.0
    least: float = 1024.0
    progress: int = 1 << 20


PATIENCE = Patience()


def patiently(
    call: Callable[[], Result],
    listener: Listener,
    done: Callable[[], int] = lambda: 0,
    worth: Callable[[Exception], bool] = is_transient,
) -> Result:
    """The result of a request, tried again while the server is busy or can't be reached.

    Args:
        done: bytes that earlier attempts have brought.
        worth: whether another attempt may help after an error.

    Raises:
        Exception: whatever the last attempt raised.
    """
    attempt, mark = 1, done()
    while True:
        try:
            return call()
        except Exception as error:
            if done() >= mark + PATIENCE.progress:
                attempt, mark = 1, done()
            wait = _waiting_time(error, attempt) if worth(error) else None
            if wait is None:
                raise
            listener.note(f"{plain_words(error)}; trying again in {wait:.0f} s")
        time.sleep(wait)
        attempt += 1


def _waiting_time(error: Exception, attempt: int) -> float | None:
    """Seconds until it's worth trying again; None if it isn't."""
    # Without any connection, more attempts only let the user wait.
    most = min(2, PATIENCE.attempts) if type(error).__name__ == "ConnectError" else PATIENCE.attempts
    if attempt >= most:
        return None
    wait = PATIENCE.wait * 2 ** (attempt - 1)
    asked = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "")
    if asked.isascii() and asked.isdigit():
        wait = max(wait, float(asked))
    return wait if wait <= PATIENCE.longest_wait else None


@contextlib.contextmanager
def waiting(path: Path, saying: str, listener: Listener) -> Iterator[None]:
    """Holds a lock; without one where the file can't be made, since nothing can be written there then.

    Args:
        saying: what to say if another process holds it.
    """
    lock = FileLock(path)
    with contextlib.suppress(OutputError), reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            listener.note(saying)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
