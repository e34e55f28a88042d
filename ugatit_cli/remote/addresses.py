"""Addresses: whether any may be asked, which mirror is asked instead, and where redirects may lead."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from ugatit_cli.errors import FetchError, UsageError
from ugatit_cli.remote.patience import without_secrets

MIRROR: Final = "UGATIT_MIRROR"
OFFLINE: Final = "UGATIT_OFFLINE"
KAGGLE: Final = "https://www.kaggle.com/api/v1/datasets/download/"
MOST_REDIRECTS: Final = 10
_NO_ADDRESS: Final = re.compile(r"[\s\x00-\x1f\x7f]")


class TooManyRedirects(Exception):
    """Addresses that lead from one to the next without end."""


def forbidden_by() -> str:
    """The variable that forbids to ask anything in a network; empty if none does."""
    from huggingface_hub import constants

    return OFFLINE if _is_set(OFFLINE) else "HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else ""


def _is_set(variable: str) -> bool:
    # What nobody understands forbids rather than allows.
    return os.environ.get(variable, "").upper() not in ("", "0", "OFF", "NO", "FALSE")


def allow() -> str:
    """How to allow what is forbidden: the last of the ways out."""
    return f"Or allow the network: unset {forbidden_by()}"


def without_network(name: str, by_hand: str = "") -> str:
    """What to do about a model that isn't here, where nobody may be asked.

    Args:
        by_hand: another way to it.
    """
    plain = name.partition("@")[0].rpartition("/")[2]
    ways = [
        "Bundled models need no network: ugatit models",
        f"Others come from where there is one: ugatit fetch {name} -o {plain}",
        f"Carry that folder here: ugatit fetch --from-file {plain} --name {plain}",
        by_hand,
        allow(),
    ]
    return "\n".join(filter(None, ways))


def is_address(text: str) -> bool:
    """Whether a text is the address of something on the web."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(text)
        host = (parts.hostname or "").encode("idna")
        return parts.scheme in ("http", "https") and host != b"" and parts.port != 0 and not _NO_ADDRESS.search(text)
    return False


def hidden_parts(text: str) -> str:
    """What may be shown of a setting that is no address: a password may be before the last @, a token behind a ?."""
    return without_secrets(re.sub(r"(?s).*@", "***@", text).partition("?")[0])


def mirror() -> str:
    """What is asked instead of all servers, without a slash at the end; empty if they are asked themselves.

    Raises:
        UsageError: `UGATIT_MIRROR` isn't an address.
    """
    text = os.environ.get(MIRROR, "").rstrip("/")
    if text and (not is_address(text) or urlsplit(text).query or urlsplit(text).fragment):
        raise UsageError(f"{MIRROR} is {hidden_parts(text)!r}: not a web address", "Like http://127.0.0.1:8000")
    return text


def mirrored(url: str) -> str:
    """Where to ask for an address: `MIRROR/HOST/PATH` if there is a mirror."""
    return f"{mirror()}/{url.partition('://')[2]}" if mirror() else url


def for_torch(url: str) -> str:
    """Where PyTorch, which downloads by itself, is to ask for a network of its own.

    Raises:
        ConnectionError: `UGATIT_OFFLINE` is set.
        UsageError: `UGATIT_MIRROR` isn't an address.
    """
    if _is_set(OFFLINE):
        raise ConnectionError(f"{OFFLINE} forbids it")
    return mirrored(url)


def original(url: str) -> str:
    """The address that `mirrored` has made this one of; any other as it is."""
    inside = url.removeprefix(f"{mirror()}/")
    return f"https://{inside}" if mirror() and inside != url else url


@contextlib.contextmanager
def answered(
    url: str,
    headers: Mapping[str, str],
    secrets: Mapping[str, str],
    hosts: Collection[str] | None = None,
    *,
    direct: bool = False,
) -> Iterator[Any]:
    """The answer to a request, after redirects, whose body is still to be read.

    Args:
        secrets: headers for the host of this address alone; a mirror doesn't get them either.
        hosts: others to which a redirect may lead; `*.example.org` stands for all below. None: any.
        direct: ask no mirror.

    Raises:
        FetchError: a redirect leads elsewhere, or to where nothing is encrypted.
        TooManyRedirects: one leads to the next.
        Exception: those of the HTTP library.
    """
    from huggingface_hub import constants, get_session

    if variable := forbidden_by():
        raise FetchError(f"{without_secrets(url)}: {variable} forbids to ask for it", allow())
    place = url if direct else original(url)
    start = urlsplit(place)
    for _ in range(MOST_REDIRECTS + 1):
        own = (direct or not mirror()) and urlsplit(place)[:2] == start[:2]
        with get_session().stream(
            "GET",
            place if direct else mirrored(place),
            headers={**headers, **(secrets if own else {})},
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            follow_redirects=False,
        ) as answer:
            if not answer.has_redirect_location:
                yield answer
                return
            location = answer.headers["Location"]
        there = _joined(place, location if direct else original(location))
        if hosts is not None:
            _check_redirect(place, there, (start.hostname or "", *hosts))
        place = there
    raise TooManyRedirects(f"more than {MOST_REDIRECTS} redirects")


def _joined(place: str, location: str) -> str:
    try:
        return urljoin(place, location)
    except ValueError:
        return location


def _check_redirect(place: str, there: str, hosts: Collection[str]) -> None:
    plain = is_address(there) and "@" not in urlsplit(there).netloc
    host = urlsplit(there).hostname or "" if is_address(there) else "what is no address"
    if not plain or not any(fnmatch.fnmatchcase(host, pattern) for pattern in hosts):
        raise FetchError(
            f"{without_secrets(place)} leads to {hidden_parts(host)}, which is none of its hosts",
            "Nothing was taken from there. Perhaps the file has moved, or a login page stands in between.",
        )
    if urlsplit(place).scheme == "https" != urlsplit(there).scheme:
        raise FetchError(
            f"{without_secrets(place)} leads to {host} without encryption", "Nothing was taken from there."
        )
