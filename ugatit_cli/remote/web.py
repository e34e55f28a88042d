"""Files at an address: downloaded whole and checked, or not at all, going on where the last attempt stopped."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from ugatit_cli.errors import FetchError, UgatitError, plain_reason
from ugatit_cli.files import expanded, read_file, replace_file, reported, sync_folder
from ugatit_cli.leftovers import discard
from ugatit_cli.remote import patience, transfer
from ugatit_cli.remote.addresses import KAGGLE, allow, answered, forbidden_by, is_address, mirror
from ugatit_cli.remote.patience import Listener, kinds_of, plain_words, status_of, waiting, without_secrets
from ugatit_cli.remote.records import Digest, FileRecord, Mismatch, Stamp, digest_of
from ugatit_cli.wording import shown

# The most that is taken of a file whose size nobody tells.
LARGEST_UNTOLD: Final = 1 << 34
# Names of errors: of which HTTP library they are depends on the version of `huggingface_hub`.
_OF_THE_LIBRARY: Final = {"HTTPError", "InvalidURL", "TooManyRedirects"}
# Bytes of a page that comes instead of a file, to find its title.
_PAGE: Final = 1 << 14
_TITLE: Final = re.compile(r"(?is)<title[^>]*>(.*?)</title")


@dataclass(frozen=True)
class WebFile:
    """A file at an address.

    Attributes:
        url: `https://HOST/PATH`; without encryption only if this says so itself.
        hosts: those beside its own to which a redirect may lead; `*.example.org` stands for all below.
        headers: for its own host alone: a token, say. Never in a message.
        login: what to do if the server refuses; may be empty.
        direct: never from a mirror.
    """

    url: str
    hosts: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    login: str = ""
    direct: bool = False

    def __str__(self) -> str:
        return without_secrets(self.url)


def obtain(
    file: WebFile,
    target: Path,
    known: FileRecord | None,
    listener: Listener,
    *,
    size: int | None = None,
    force: bool = False,
) -> Stamp:
    """Brings a file to `target`, unless it is there already; checks it either way.

    What has arrived of one that broke off lies beside it, hidden, for the next call; see `throw_away`.

    Args:
        known: what it must be, if anybody has said.
        size: its bytes, where only these are known.
        force: download it even if it is there.

    Returns:
        What it is.

    Raises:
        FetchError: it can't be fetched; `Mismatch`: it isn't what it should be. What is at `target` is unchanged.
        UsageError: `UGATIT_MIRROR` isn't an address.
        StorageError: the disk is full.
        OutputError: `target` can't be written.
    """
    size = known.size if known is not None and known.size is not None else size
    lock = _beside(target, "lock")
    with waiting(lock, f"another ugatit is fetching {target.name}; waiting for it", listener):
        digest = None if force else _there(file, target, known, size, listener)
        if digest is None:
            digest = _fetched(file, target, known, size, listener)
        with reported(target):
            return Stamp(digest.size, digest.sha256, target.stat().st_mtime_ns)


def throw_away(target: Path) -> int:
    """Removes a download, or what has arrived of one; how many bytes that frees."""
    freed = 0
    for path in (target, *(_beside(target, kind) for kind in ("part", "part.json", "lock"))):
        with contextlib.suppress(OSError):
            freed += path.lstat().st_size
            path.unlink()
    return freed


def kaggle(dataset: str) -> WebFile:
    """The zip of a data set on Kaggle, `owner/name`; asked for as the user, if there is a token.

    Raises:
        FetchError: the file that holds the token is damaged.
    """
    url = KAGGLE + quote(dataset)
    login = "Some need an account: put its token in ~/.kaggle/kaggle.json, or KAGGLE_USERNAME and KAGGLE_KEY."
    return WebFile(url, ("storage.googleapis.com",), _kaggle_token(), login)


def _kaggle_token() -> dict[str, str]:
    user, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    if not (user and key):
        path = expanded(os.environ.get("KAGGLE_CONFIG_DIR") or "~/.kaggle") / "kaggle.json"
        try:
            document = json.loads(read_file(path))
            user, key = str(document["username"]), str(document["key"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = plain_reason(error) if isinstance(error, OSError) else "not a token of Kaggle"
            raise FetchError(f"{path}: {reason}", "Get a new one on kaggle.com/settings, or remove it.") from None
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{key}'.encode()).decode()}"}


def _beside(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{kind}")


def _there(
    file: WebFile, target: Path, known: FileRecord | None, size: int | None, listener: Listener
) -> Digest | None:
    """What is at `target`; None if it is to be fetched."""
    if not target.is_file():
        return None
    with reported(target):
        digest = digest_of(target)
    problem = digest.differs(known, size)
    if problem and (variable := forbidden_by()):
        raise FetchError(f"{target}: damaged: {problem}", f"Unset {variable} to fetch it again.")
    if problem:
        listener.note(f"{target}: damaged ({problem}); fetching it again from {file}")
    return None if problem else digest


def _fetched(file: WebFile, target: Path, known: FileRecord | None, size: int | None, listener: Listener) -> Digest:
    _check_may_ask(file, listener)
    part, version = _beside(target, "part"), _beside(target, "part.json")
    if not part.exists():
        discard(version)
    source = _Source(file, target, known, size, version)
    if not source.can_go_on:
        discard(part)
    try:
        with _in_words(file):
            transfer.download(source, part, listener)
        with reported(part):
            digest = _checked(file, part, known, size)
            part.replace(target)
            sync_folder(target.parent)
    finally:
        if not part.exists() or not part.stat().st_size:
            discard(part)
            discard(version)
    return digest


def _check_may_ask(file: WebFile, listener: Listener) -> None:
    if variable := forbidden_by():
        raise FetchError(f"{file} is not on this machine, and {variable} forbids to ask for it", allow())
    if not is_address(file.url) or urlsplit(file.url).username is not None:
        raise FetchError(f"{file}: not a web address")
    if urlsplit(file.url).scheme == "http" and not mirror():
        listener.note(f"{file}: the server is asked without encryption")


def _checked(file: WebFile, part: Path, known: FileRecord | None, size: int | None) -> Digest:
    """What has arrived, if it is what it should be; else it is thrown away."""
    digest = digest_of(part)
    if problem := digest.differs(known, size) or ("" if digest.size else "nothing came but an empty file"):
        discard(part)
        raise Mismatch(
            f"{file}: {problem}",
            "What was downloaded is not the file that was asked for, and was thrown away. Run the command again.",
        )
    return digest


@dataclass(frozen=True)
class _Version:
    """Of which version of a file a part is, as the server told."""

    url: str = ""
    etag: str = ""
    modified: str = ""
    size: int | None = None

    @property
    def condition(self) -> str:
        """What a server compares before it sends the rest of a file."""
        told = self.etag if self.etag and not self.etag.startswith("W/") else self.modified
        return told if told.isascii() else ""

    def contradicts(self, other: _Version) -> bool:
        """Whether both tell something, and not the same."""
        pairs = ((self.etag, other.etag), (self.modified, other.modified), (self.size, other.size))
        return any(one and another and one != another for one, another in pairs)


def _version_at(path: Path) -> _Version:
    try:
        document = json.loads(read_file(path))
        version = _Version(**document)
        texts = (version.url, version.etag, version.modified)
        if not all(isinstance(text, str) and text.isprintable() for text in texts):
            return _Version()
        return version if version.size is None or type(version.size) is int else _Version()
    except (OSError, ValueError, TypeError, RecursionError):
        return _Version()


def _version_of(answer: Any, url: str) -> _Version:
    if "Content-Encoding" in answer.headers:  # which no part can be added to
        return _Version(url)
    etag, modified = (answer.headers.get(name, "") for name in ("ETag", "Last-Modified"))
    return _Version(url, etag, modified, transfer.announced(answer))


class _Refused(Exception):
    """An answer that is no file."""

    def __init__(self, answer: Any, page: str) -> None:
        super().__init__()
        self.response, self.page = answer, page


class _Source(transfer.Source):
    """A file at an address, of which `can_go_on` says whether a part may be added to."""

    elsewhere = "Free some space, or choose another disk with UGATIT_HOME."

    def __init__(
        self, file: WebFile, target: Path, known: FileRecord | None, size: int | None, version_path: Path
    ) -> None:
        self.file, self.known, self.version_path, self.label = file, known, version_path, target.name
        version = _version_at(version_path)
        # A part of another version would be found out by its hash, if it is known.
        self.can_go_on = known is not None or (version.url == file.url and version.condition != "")
        self.version = version if version.url == file.url and self.can_go_on else _Version()
        self.told = size
        self.size = self.version.size if size is None else size

    @property
    def most(self) -> int:
        return LARGEST_UNTOLD if self.size is None else self.size

    def ask(self, start: int) -> contextlib.AbstractContextManager[Any]:
        headers = {"User-Agent": "ugatit", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if self.version.condition:
                headers["If-Range"] = self.version.condition
        return answered(self.file.url, headers, self.file.headers, self.file.hosts, direct=self.file.direct)

    def check(self, answer: Any) -> None:
        page = answer.headers.get("Content-Type", "").lower().startswith("text/html")
        if answer.status_code not in (200, 206) or page:
            raise _Refused(answer, _title(answer) if page else "")
        length = transfer.announced(answer)
        if self.told is None and answer.status_code == 200:  # perhaps another version than that of the part
            self.size = length
        if length is not None and self.told not in (None, length):
            raise Mismatch(
                f"{self.file}: expected {self.told:,} bytes, the server has {length:,}",
                "It is not the file that was verified. Nothing was changed; ask whoever offers it.",
            )

    def is_same(self, answer: Any) -> bool:
        return not self.version.contradicts(_version_of(answer, self.file.url))

    def begins(self, answer: Any) -> None:
        self.version = _version_of(answer, self.file.url)
        if self.told is None:
            self.size = self.version.size
        with reported(self.version_path):
            replace_file(self.version_path, json.dumps(asdict(self.version)).encode())

    def too_long(self, most: int) -> FetchError:
        return FetchError(
            f"{self.file} {self.excess(most)}", "It is not the file that was asked for. Ask whoever offers it."
        )


def _title(answer: Any) -> str:
    """What a page calls itself."""
    text = bytearray()
    for data in answer.iter_bytes():
        text += data
        if len(text) > _PAGE:
            break
    match = _TITLE.search(text[:_PAGE].decode("utf-8", "replace"))
    return without_secrets(shown(" ".join(html.unescape(match[1]).split()), 100)) if match else ""


@contextlib.contextmanager
def _in_words(file: WebFile) -> Iterator[None]:
    """Turns whatever the HTTP library raises into a FetchError in plain words."""
    by = without_secrets(mirror()) if not file.direct else ""
    where = f"{file}, by {by}" if by else str(file)
    try:
        yield
    except UgatitError:
        raise
    except _Refused as error:
        raise _refusal(file, where, error) from None
    except Exception as error:
        if not patience.is_transient(error) and _OF_THE_LIBRARY.isdisjoint(kinds_of(error)):
            raise
        hint = "Run the same command again: it goes on with what has arrived."
        if type(error).__name__ == "ConnectError":
            hint = f"Check the connection to {by or urlsplit(file.url).hostname}, then run the command again."
        words = str(error) if type(error).__name__ == "TooManyRedirects" else plain_words(error)
        raise FetchError(f"{where}: {words}", hint) from None


def _refusal(file: WebFile, where: str, error: _Refused) -> FetchError:
    status, page = status_of(error) or 0, f" ({error.page!r})" if error.page else ""
    if status in (200, 206):
        hint = file.login or "Perhaps a limit of downloads, or a login page. Try later, or open it in a browser."
        return FetchError(f"{where}: a web page came instead of the file{page}", hint)
    if status in (404, 410):
        return FetchError(f"{where}: there is no such file ({status})", "It may have moved.")
    if status in (401, 403):
        hint = file.login or "Try later, or open it in a browser."
        return FetchError(f"{where}: the server refuses it ({status}){page}", hint)
    return FetchError(f"{where}: {plain_words(error)}{page}", "Try later: what has arrived is kept.")
