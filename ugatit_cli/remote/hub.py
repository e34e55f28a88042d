"""The Hugging Face Hub: its ids and settings, and in plain words what went wrong.

Endpoint, token, cache folder, offline mode and time limits are those of `huggingface_hub`: `HF_ENDPOINT`, `HF_TOKEN`
(or `hf auth login`), `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_HUB_DOWNLOAD_TIMEOUT`. `UGATIT_MIRROR` gets no token.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ugatit_cli.errors import ModelError, UgatitError
from ugatit_cli.files import expanded
from ugatit_cli.remote.addresses import (
    allow,
    forbidden_by,
    hidden_parts,
    is_address,
    mirror,
    mirrored,
    without_network,
)
from ugatit_cli.remote.patience import kinds_of, plain_words, status_of, without_secrets

_PART: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
REPOSITORY: Final = re.compile(rf"(?!.*(?:--|\.\.)){_PART}/{_PART}")
REVISION: Final = re.compile(r"[0-9a-f]{40}")
HUB: Final = "https://huggingface.co"
NEWEST: Final = "main"
DATA_SETS: Final = "datasets/"
_BRANCH: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._/+-]{0,198}[A-Za-z0-9])?"
_HUB_ID: Final = re.compile(rf"({REPOSITORY.pattern})(?:@({_BRANCH}))?")


@dataclass(frozen=True)
class HubId:
    """A repository at a branch, tag or commit: `owner/name@revision`; a data set's is `datasets/owner/name`."""

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
    """The Hub's address, or that of the mirror that is asked instead, without a slash at the end.

    Raises:
        ModelError: `HF_ENDPOINT` isn't an address.
        UsageError: `UGATIT_MIRROR` isn't.
    """
    from huggingface_hub import constants

    if is_mirrored():
        return mirrored(HUB)
    if is_address(constants.ENDPOINT):
        return constants.ENDPOINT
    shown = hidden_parts(constants.ENDPOINT)
    raise ModelError(f"HF_ENDPOINT is {shown!r}: not a web address", f"Like {HUB}")


def is_mirrored() -> bool:
    """Whether `UGATIT_MIRROR` is asked instead of the Hub; not if `HF_ENDPOINT` names another."""
    from huggingface_hub import constants

    return bool(mirror()) and HUB == constants.ENDPOINT and not os.environ.get("HF_ENDPOINT")


def token() -> bool | None:
    """What to hand to the client as token: None for the user's own, False for none: a mirror doesn't get it."""
    return False if is_mirrored() else None


def not_here(identity: HubId) -> ModelError:
    """What to raise for something that the Hub may not be asked for."""
    message = f"{identity} is not on this machine, and {forbidden_by()} forbids to ask the Hub"
    if identity.repository.startswith(DATA_SETS):
        return ModelError(message, f"Copy its pictures here, and name their folders.\n{allow()}")
    return ModelError(message, without_network(str(identity)))


def id_and_type(repository: str) -> dict[str, str]:
    """A repository as functions of `huggingface_hub` take it; here, it is called as in the Hub's addresses."""
    kind = "dataset" if repository.startswith(DATA_SETS) else "model"
    return {"repo_id": repository.removeprefix(DATA_SETS), "repo_type": kind}


def cache_folder(repository: str) -> Path:
    """The folder of a repository in the Hub's cache, existing or not."""
    from huggingface_hub import constants

    parts = repository if repository.startswith(DATA_SETS) else f"models/{repository}"
    return expanded(constants.HF_HUB_CACHE).absolute() / parts.replace("/", "--")


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
        "{hub} is not on this machine, and HF_HUB_OFFLINE forbids to ask the Hub",
        "Allow the network: unset HF_HUB_OFFLINE",
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
    kinds = kinds_of(error)
    if words := next((words for name, words in _REASONS.items() if name in kinds), None):
        return words
    if "HTTPError" in kinds:
        return _REFUSALS.get(status_of(error) or 0, _NO_CONNECTION)
    return NO_HUB if isinstance(error, ValueError) else None


def in_words(words: Words, hub: HubId, error: Exception | None = None, name: str = "") -> ModelError:
    """A message and a hint, about an error and the file it came from if there are such, with all gaps filled in."""
    said = " ".join(str(getattr(error, "server_message", None) or error).split())
    facts = {
        "hub": hub, "wanted": f"{hub}: {name}" if name else hub, "repository": hub.repository,
        "revision": hub.revision, "owner": hub.repository.partition("/")[0], "where": without_secrets(endpoint()),
        "status": status_of(error), "said": without_secrets(said)[:300], "plain": plain_words(error),
    }  # fmt: skip
    return ModelError(*(text.format(**facts) for text in words))
