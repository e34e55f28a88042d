"""The Hugging Face Hub: its ids and settings, how often to ask it, and in plain words what went wrong.

Endpoint, token, cache folder, offline mode and time limits are those of `huggingface_hub`: `HF_ENDPOINT`, `HF_TOKEN`
(or `hf auth login`), `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_HUB_DOWNLOAD_TIMEOUT`.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from ugatit_cli.errors import ModelError, OutputError, UgatitError
from ugatit_cli.files import expanded, reported
from ugatit_cli.weights.manifest import REPOSITORY

NEWEST: Final = "main"
_BRANCH: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._/+-]{0,198}[A-Za-z0-9])?"
_HUB_ID: Final = re.compile(rf"({REPOSITORY.pattern})(?:@({_BRANCH}))?")
_NO_ADDRESS: Final = re.compile(r"[\s\x00-\x1f\x7f]")

Result = TypeVar("Result")

logger = logging.getLogger("ugatit")


class Listener(Protocol):
    """Hears what happens while a model is fetched."""

    def note(self, text: str) -> None:
        """Something the user should know."""

    def begin(self, label: str, size: int | None, done: int) -> None:
        """A file of `size` bytes is on its way; `done` of them are here already."""

    def advance(self, count: int) -> None:
        """So many more bytes are here; negative when a file has to begin again."""

    def end(self) -> None:
        """The file is here, or has failed."""


class Logged:
    """Tells the log."""

    def note(self, text: str) -> None:
        """Says it."""
        logger.info("%s", text)

    def begin(self, label: str, size: int | None, done: int) -> None:
        """Says what is on its way."""
        logger.info("%s: fetching, %s of %s bytes are here", label, done, "?" if size is None else size)

    def advance(self, count: int) -> None:
        """Says nothing."""

    def end(self) -> None:
        """Says nothing."""


@dataclass(frozen=True)
class HubId:
    """A repository at a branch, tag or commit: `owner/name@revision`."""

    repository: str
    revision: str = NEWEST

    def __str__(self) -> str:
        return self.repository if self.revision == NEWEST else f"{self.repository}@{self.revision}"


def parse_hub_id(text: str) -> HubId | None:
    """`owner/name` or `owner/name@revision`; None for anything else."""
    match = _HUB_ID.fullmatch(text)
    if match is None or ".." in (match[2] or ""):
        return None
    return HubId(match[1], match[2] or NEWEST)


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository, at one commit.

    Attributes:
        size: bytes, if the server tells.
        etag: its SHA-256 for large files, its git blob hash (SHA-1) for small ones.
    """

    repository: str
    name: str
    commit: str
    size: int | None
    etag: str


def endpoint() -> str:
    """The Hub's address, without a slash at the end.

    Raises:
        ModelError: `HF_ENDPOINT` isn't an address.
    """
    from huggingface_hub import constants

    text = constants.ENDPOINT
    with contextlib.suppress(ValueError):
        parts = urlsplit(text)
        host = (parts.hostname or "").encode("idna")
        if parts.scheme in ("http", "https") and host and parts.port != 0 and not _NO_ADDRESS.search(text):
            return text
    # A password may be anywhere before the last @, a token after a question mark.
    shown = without_secrets(re.sub(r"(?s).*@", "***@", text).partition("?")[0])
    raise ModelError(f"HF_ENDPOINT is {shown!r}: not a web address", "Like https://huggingface.co")


def is_offline() -> bool:
    """Whether `HF_HUB_OFFLINE` is set."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def cache_folder(repository: str) -> Path:
    """The folder of a repository in the Hub's cache, existing or not."""
    from huggingface_hub import constants

    return expanded(constants.HF_HUB_CACHE).absolute() / f"models--{repository.replace('/', '--')}"


class TransferError(Exception):
    """A download that broke off, and may be tried again."""


_STATUS: Final = {
    408: "too slow", 429: "too many requests", 500: "server error", 502: "bad gateway", 503: "out of service",
    504: "gateway timeout",
}  # fmt: skip
# Errors of the HTTP library that come again with every attempt: the address, or the token, is no good.
_PERMANENT: Final = {"TooManyRedirects", "UnsupportedProtocol", "LocalProtocolError"}

Words = tuple[str, str]
"""A message and a hint, in which {hub}, {wanted}, {repository}, {revision}, {owner}, {where} and {said} may stand."""

_LOGIN: Final = "For a private one, log in with `hf auth login` or set HF_TOKEN."
_NEW_TOKEN: Final = "Log in again with `hf auth login`, or check HF_TOKEN."
NO_HUB: Final[Words] = (
    "{hub}: {where} doesn't answer as a Hub does",
    "Check HF_ENDPOINT, and whether a proxy or a login page stands in between.",
)
_NO_CONNECTION: Final[Words] = ("{wanted}: {plain}", "Check the connection to {where}, then run the command again.")
# By the name of the exception in `huggingface_hub`, the most special first.
_REASONS: Final[Mapping[str, Words]] = {
    "OfflineModeIsEnabled": (
        "{hub} is not on this machine, and HF_HUB_OFFLINE forbids to ask the Hub", "Unset it to fetch the model.",
    ),
    "HFValidationError": ("{hub}: {said}", ""),
    "GatedRepoError": ("{hub}: its owner lets in only who has asked", f"Ask on {{where}}/{{repository}}. {_LOGIN}"),
    "RepositoryNotFoundError": (
        "{where} has no repository {repository}, or not for you", f"Check the name. {_LOGIN}",
    ),
    "RevisionNotFoundError": ("{repository} has no revision {revision}", "Name a branch, tag or commit it has."),
    "TooManyRedirects": NO_HUB,
    "UnicodeEncodeError": ("{hub}: the token has characters that can't be sent", _NEW_TOKEN),
    "InvalidURL": NO_HUB,  # sent on to what is no address
}  # fmt: skip
# By the status of the answer, where the exception says no more.
_REFUSALS: Final[Mapping[int, Words]] = {
    401: ("{wanted}: the Hub refuses the token (401)", _NEW_TOKEN),
    403: ("{wanted}: the Hub forbids it (403)", "Check that your token may do this."),
    429: ("{wanted}: too many requests (429)", "Wait some minutes, then run the same command again."),
}


@contextlib.contextmanager
def errors_reported(
    hub: HubId, name: str = "", better: Callable[[Exception], Words | None] = lambda _: None
) -> Iterator[None]:
    """Turns whatever `huggingface_hub` and its HTTP library raise into a ModelError in plain words.

    Args:
        name: the file that was asked for, if it was one.
        better: words for an error, in place of those for a download; None: those are right.
    """
    try:
        yield
    except UgatitError:
        raise
    except Exception as error:
        while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # from a thread of the client
        words = better(error) or _words(error)
        if words is None:
            raise
        raise in_words(words, hub, error, name) from None


def _words(error: Exception) -> Words | None:
    kinds = _kinds(error)
    if words := next((words for name, words in _REASONS.items() if name in kinds), None):
        return words
    if "HTTPError" in kinds:
        return _REFUSALS.get(status_of(error) or 0, _NO_CONNECTION)
    return NO_HUB if isinstance(error, ValueError) else None


def _kinds(error: Exception) -> list[str]:
    """Names of its classes: which HTTP library they are of depends on the version of `huggingface_hub`."""
    return [kind.__name__ for kind in type(error).__mro__]


def in_words(words: Words, hub: HubId, error: Exception | None = None, name: str = "") -> ModelError:
    """A message and a hint, about an error and the file it came from if there are such, with all gaps filled in."""
    said = " ".join(str(getattr(error, "server_message", None) or error).split())
    facts = {
        "hub": hub, "wanted": f"{hub}: {name}" if name else hub, "repository": hub.repository,
        "revision": hub.revision, "owner": hub.repository.partition("/")[0], "where": without_secrets(endpoint()),
        "status": status_of(error), "said": without_secrets(said)[:300], "plain": plain_words(error),
    }  # fmt: skip
    return ModelError(*(text.format(**facts) for text in words))


def is_transient(error: Exception) -> bool:
    """Whether a request may succeed later: the Hub is busy, or the connection is bad."""
    status = status_of(error)
    if status is not None:
        return status in _STATUS
    kinds = _kinds(error)
    return isinstance(error, TransferError) or ("HTTPError" in kinds and kinds[0] not in _PERMANENT)


def status_of(error: Exception | None) -> int | None:
    """The status of the answer that an error is about, if there was one."""
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status


def plain_words(error: Exception | None) -> str:
    """What went wrong with a request, in one line without secrets."""
    status = status_of(error)
    if status is not None:
        return f"the Hub answered {status}" + (f" ({_STATUS[status]})" if status in _STATUS else "")
    if isinstance(error, TransferError):
        return str(error)
    if "Timeout" in type(error).__name__:
        return "the Hub doesn't answer"
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
    text = re.sub(r"(?i)(bearer\s+)[^\s'\",]+", r"\1***", text)
    text = re.sub(r"(?<=//)[^\s/]+@", "***@", text)
    return re.sub(r"(//[^\s?]+)\?\S*?(?=['\").,;]*(?:\s|$))", r"\1", text)


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
    """The result of a request, tried again while the Hub is busy or can't be reached.

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
