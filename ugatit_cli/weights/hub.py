"""The Hugging Face Hub: what a repository holds, and in plain words what went wrong.

Endpoint, token, cache folder, offline mode and time limits are those of `huggingface_hub`: `HF_ENDPOINT`, `HF_TOKEN`
(or `hf auth login`), `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_HUB_DOWNLOAD_TIMEOUT`.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from ugatit_cli.errors import ModelError
from ugatit_cli.weights.manifest import REPOSITORY, REVISION

NEWEST: Final = "main"
COMMIT: Final = REVISION
_BRANCH: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._/+-]{0,198}[A-Za-z0-9])?"
_HUB_ID: Final = re.compile(rf"({REPOSITORY.pattern})(?:@({_BRANCH}))?")
# The name of a file in the cache: whatever else a server says could lead anywhere.
_ETAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{5,127}")
_NO_ADDRESS: Final = re.compile(r"[\s\x00-\x1f\x7f]")
_TRANSIENT: Final = frozenset({408, 429, 500, 502, 503, 504})
# Errors of the HTTP library that come again with every attempt: the address, or the token, is no good.
_PERMANENT: Final = frozenset({"TooManyRedirects", "UnsupportedProtocol", "LocalProtocolError"})


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


class Silent:
    """A listener that doesn't."""

    def note(self, text: str) -> None:
        """Nothing."""

    def begin(self, label: str, size: int | None, done: int) -> None:
        """Nothing."""

    def advance(self, count: int) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        attempts: how often in a row without any progress.
        wait: seconds before the second attempt; doubles each time.
        longest_wait: seconds; a server that asks for more is given up.
        window, least: a download of less than `least` bytes per second over `window` seconds counts as broken off.
    """

    attempts: int = 5
    wait: float = 1.0
    longest_wait: float = 60.0
    window: float = 30.0
    least: float = 1024.0


PATIENCE = Patience()


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


def look_up(hub: HubId, name: str, listener: Listener) -> RemoteFile | None:
    """What the Hub says of one file; None if the repository has no such file.

    Raises:
        ModelError: no such repository or revision, no access, no connection, or not a Hub.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    with errors_reported(hub, name):
        url = hf_hub_url(hub.repository, name, revision=hub.revision, endpoint=endpoint())
        try:
            found = patiently(lambda: get_hf_file_metadata(url, endpoint=endpoint()), listener)
        except EntryNotFoundError:
            return None
    remote = RemoteFile(hub.repository, name, found.commit_hash or "", found.size, found.etag or "")
    if not _is_sound(remote, hub):
        raise no_hub(hub)
    return remote


def _is_sound(remote: RemoteFile, hub: HubId) -> bool:
    """Whether an answer has what a Hub tells, of the commit that was asked for."""
    asked = hub.revision if COMMIT.fullmatch(hub.revision) else remote.commit
    return bool(
        COMMIT.fullmatch(remote.commit)
        and remote.commit == asked
        and _ETAG.fullmatch(remote.etag)
        and (remote.size is None or remote.size >= 0)
    )


def no_hub(hub: HubId) -> ModelError:
    """The error for an endpoint that isn't a Hub."""
    return ModelError(
        f"{hub}: {without_secrets(endpoint())} doesn't answer as a Hub does",
        "Check HF_ENDPOINT, and whether a proxy or a login page stands in between.",
    )


def endpoint() -> str:
    """The Hub's address, without a slash at the end.

    Raises:
        ModelError: `HF_ENDPOINT` isn't an address.
    """
    from huggingface_hub import constants

    text = constants.ENDPOINT
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").encode("idna")
        good = (
            parts.scheme in ("http", "https") and bool(host) and parts.port != 0 and not re.search(_NO_ADDRESS, text)
        )
    except ValueError:
        good = False
    if not good:
        # A password may be anywhere before the last @, a token after a question mark.
        shown = without_secrets(re.sub(r"(?s).*@", "***@", text).partition("?")[0])
        raise ModelError(f"HF_ENDPOINT is {shown!r}: not a web address", "Like https://huggingface.co")
    return text


def is_offline() -> bool:
    """Whether `HF_HUB_OFFLINE` is set."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def cache_folder(repository: str) -> Path:
    """The folder of a repository in the Hub's cache, existing or not."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser().absolute() / f"models--{repository.replace('/', '--')}"


Result = TypeVar("Result")


def patiently(call: Callable[[], Result], listener: Listener, patience: Patience | None = None) -> Result:
    """The result of a request, tried again while the Hub is busy or can't be reached.

    Raises:
        Exception: whatever the last attempt raised.
    """
    patience = patience or PATIENCE
    for attempt in range(1, patience.attempts + 1):
        try:
            return call()
        except Exception as error:
            wait = waiting_time(error, attempt, patience)
            if wait is None:
                raise
            listener.note(f"{plain_words(error)}; trying again in {wait:.0f} s")
            time.sleep(wait)
    raise AssertionError("unreachable")


def waiting_time(error: Exception, attempt: int, patience: Patience) -> float | None:
    """Seconds until it's worth trying again; None if it isn't."""
    # Without any connection, more attempts only let the user wait.
    most = min(2, patience.attempts) if type(error).__name__ == "ConnectError" else patience.attempts
    if not is_transient(error) or attempt >= most:
        return None
    wait = patience.wait * 2 ** (attempt - 1)
    asked = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "")
    if asked.isascii() and asked.isdigit():
        wait = max(wait, float(asked))
    return wait if wait <= patience.longest_wait else None


def is_transient(error: Exception) -> bool:
    """Whether a request may succeed later: the Hub is busy, or the connection is bad."""
    status = _status(error)
    if status is not None:
        return status in _TRANSIENT
    return isinstance(error, _transport_error()) and type(error).__name__ not in _PERMANENT


def _transport_error() -> type[Exception]:
    """The base of all errors of the HTTP library that this version of `huggingface_hub` uses."""
    from huggingface_hub.errors import HfHubHTTPError

    base: type[Exception] = HfHubHTTPError.__bases__[0]
    return base


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def plain_words(error: Exception) -> str:
    """What went wrong with a request, in one line without secrets."""
    status = _status(error)
    words = {408: "too slow", 429: "too many requests", 500: "server error", 502: "bad gateway",
             503: "out of service", 504: "gateway timeout"}  # fmt: skip
    if status is not None:
        return f"the Hub answered {status}" + (f" ({words[status]})" if status in words else "")
    if "Timeout" in type(error).__name__:
        return "the Hub doesn't answer"
    # Whatever answers may be quoted in it.
    text = without_secrets(" ".join(str(error)[:1000].split()))
    return f"the connection failed ({text[:150] or type(error).__name__})"


@contextlib.contextmanager
def errors_reported(hub: HubId, name: str = "") -> Iterator[None]:
    """Turns whatever `huggingface_hub` and its HTTP library raise into a ModelError in plain words.

    Args:
        name: the file that was asked for, if it was one.
    """
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled:
        raise ModelError(
            f"{hub} is not on this machine, and HF_HUB_OFFLINE forbids to ask the Hub", "Unset it to fetch the model."
        ) from None
    except HFValidationError as error:
        raise ModelError(f"{hub}: {without_secrets(str(error))}") from None
    except UnicodeEncodeError:
        raise ModelError(f"{hub}: the token has characters that can't be sent", _NEW_TOKEN) from None
    except ModelError:
        raise
    except Exception as error:
        if isinstance(error, _transport_error()):
            raise _explained(hub, f"{hub}: {name}" if name else str(hub), error) from None
        if isinstance(error, ValueError) or type(error).__name__ == "InvalidURL":  # sent on to what is no address
            raise no_hub(hub) from None
        raise


_NEW_TOKEN: Final = "Log in again with `hf auth login`, or check HF_TOKEN."


def _explained(hub: HubId, wanted: str, error: Exception) -> ModelError:
    from huggingface_hub import errors

    login = "For a private one, log in with `hf auth login` or set HF_TOKEN."
    where = without_secrets(endpoint())
    if isinstance(error, errors.GatedRepoError):
        return ModelError(f"{hub}: its owner lets in only who has asked", f"Ask on {where}/{hub.repository}. {login}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError(f"{where} has no repository {hub.repository}, or not for you", f"Check the name. {login}")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(f"{hub.repository} has no revision {hub.revision}", "Name a branch, tag or commit it has.")
    status = _status(error)
    if status == 401:
        return ModelError(f"{wanted}: the Hub refuses the token (401)", _NEW_TOKEN)
    if status == 403:
        return ModelError(f"{wanted}: the Hub forbids it (403)", "Check that your token may do this.")
    if status == 429:
        return ModelError(f"{wanted}: too many requests (429)", "Wait some minutes, then run the same command again.")
    return ModelError(
        f"{wanted}: {plain_words(error)}", f"Check the connection to {where}, then run the command again."
    )


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


def request_headers() -> dict[str, Any]:
    """Headers of a download: token, user agent, no compression."""
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented there

    return {**build_hf_headers(library_name="ugatit"), "Accept-Encoding": "identity"}


@contextlib.contextmanager
def waiting(path: Path, saying: str, listener: Listener) -> Iterator[None]:
    """Holds a lock; without one where the file can't be made, since nothing can be written there then.

    Args:
        saying: what to say if another process holds it.
    """
    lock = FileLock(path)
    with contextlib.suppress(OSError):
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
