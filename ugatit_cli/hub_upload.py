"""The upload of `ugatit push`: one commit to a repository on the Hub, and plain words when there is none."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ugatit_cli.checkpoint import CARD_FILE, CONFIG_FILE, DISCRIMINATORS_FILE, GENERATORS_FILE
from ugatit_cli.errors import ModelError, UgatitError
from ugatit_cli.model_card import says_nothing
from ugatit_cli.publish import Staged
from ugatit_cli.weights import hub
from ugatit_cli.weights.hub import NEWEST, HubId, Listener, RemoteFile
from ugatit_cli.weights.manifest import REVISION
from ugatit_cli.weights.transfer import digest_of

# What a repository may hold that nobody has put anything into yet.
_BLANK: Final = frozenset({".gitattributes", CARD_FILE})
# Beside those of HTTP: files, what the client or the Hub finds wrong with them, the library that uploads large ones.
_CLIENT_ERRORS: Final = (OSError, ValueError, RuntimeError)
# The ends of paths that the client asks only once; it has tried all others again when it gives up.
_ASKED_ONCE: Final = ("/validate-yaml", f"/commit/{NEWEST}", f"/revision/{NEWEST}")
_OVERTAKEN: Final = frozenset({409, 412})
_NO_ROOM: Final = frozenset({402, 413, 507})


@dataclass(frozen=True)
class Published:
    """A model on the Hub.

    Attributes:
        url: its page.
        commit: 40 hex digits.
        changed: whether anything was new.
        kept_card: the model card that is there, if it isn't the staged one.
    """

    url: str
    commit: str
    changed: bool
    kept_card: str | None = None


def check_access() -> None:
    """Whether there is any use in trying.

    Raises:
        ModelError: no token, no address, or offline; asks nobody.
    """
    from huggingface_hub import get_token

    if hub.is_offline():
        raise ModelError("HF_HUB_OFFLINE forbids to ask the Hub", "Unset it to publish, or look first: --dry-run.")
    hub.endpoint()
    if not get_token():
        raise ModelError("nobody is logged in to the Hub", "Log in with `hf auth login` or set HF_TOKEN.")


def upload(
    staged: Staged,
    target: HubId,
    listener: Listener,
    *,
    private: bool = False,
    overwrite: bool = False,
    bars: bool = False,
) -> Published:
    """Publishes a model: one commit, complete or not at all.

    A model card that the repository has is replaced only by one that is the user's own or tells what the user says.

    Args:
        private: make a new repository private.
        overwrite: publish into a repository that holds something else than a ugatit model, and replace any card.
        bars: let the Hub's client draw progress bars on stderr.

    Raises:
        ModelError: no access, no connection, a repository that holds something else or isn't private, or one that
            changed meanwhile.
    """
    check_access()
    with _quiet(bars=bars, listener=listener), _errors_reported(target):
        return _upload(staged, target, listener, private=private, overwrite=overwrite)


def _upload(staged: Staged, target: HubId, listener: Listener, *, private: bool, overwrite: bool) -> Published:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    # Named, or it would not be sent where HF_HUB_DISABLE_IMPLICIT_TOKEN is set.
    api = HfApi(endpoint=hub.endpoint(), token=get_token(), library_name="ugatit")
    before = _look(api, target.repository, listener) or _create(api, target.repository, listener, private=private)
    _check_target(api, before, target, private=private, overwrite=overwrite, listener=listener)
    kept = _kept_card(api, before, staged, target, listener, overwrite=overwrite)
    names = [name for name in staged.files if kept is None or name != CARD_FILE]
    operations: list[Any] = [CommitOperationAdd(name, staged.folder / name) for name in names]
    if _has_strange_discriminators(before, staged):
        operations.append(CommitOperationDelete(DISCRIMINATORS_FILE))
        listener.note(f"{target.repository} holds {DISCRIMINATORS_FILE} of other weights: it is removed")
    commit = _commit(api, target, operations, before, listener)
    if not REVISION.fullmatch(commit):
        raise hub.no_hub(target)
    url = f"{hub.without_secrets(hub.endpoint())}/{target.repository}"
    return Published(url, commit, commit != before.sha, kept)


def _look(api: Any, repository: str, listener: Listener) -> Any:
    """What the Hub knows of a repository; None if there is none, as far as one may know."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return hub.patiently(lambda: api.model_info(repository, files_metadata=True), listener)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return None


def _create(api: Any, repository: str, listener: Listener, *, private: bool) -> Any:
    """Makes a repository; what the Hub knows of it."""
    # None: as the owner's own default is.
    hub.patiently(lambda: api.create_repo(repository, private=private or None, exist_ok=True), listener)
    return hub.patiently(lambda: api.model_info(repository, files_metadata=True), listener)


def _check_target(
    api: Any, before: Any, target: HubId, *, private: bool, overwrite: bool, listener: Listener
) -> None:
    """Whether a repository that exists may be published to.

    Raises:
        ModelError: it isn't private although it should be, or it holds something else.
    """
    if private and not before.private:
        raise ModelError(
            f"{target.repository} exists and is public", "Make it private on its page, or leave --private out."
        )
    names = {file.rfilename for file in before.siblings or ()}
    if overwrite or names <= _BLANK or _is_ours(api, names, before, target, listener):
        return
    raise ModelError(
        f"{target.repository} exists and is not a ugatit model ({', '.join(sorted(names - _BLANK)[:3])})",
        "Name another repository, or pass --overwrite to add the model to this one.",
    )


def _is_ours(api: Any, names: set[str], before: Any, target: HubId, listener: Listener) -> bool:
    if CONFIG_FILE not in names:
        return False
    try:
        document = json.loads(_read(api, CONFIG_FILE, before, target, listener))
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(document, dict) and type(document.get("format")) is int and isinstance(document.get("model"), dict)
    )


def _read(api: Any, name: str, before: Any, target: HubId, listener: Listener) -> bytes:
    """A small file of the repository."""
    with tempfile.TemporaryDirectory(prefix="ugatit-push-") as folder:
        path = hub.patiently(
            lambda: api.hf_hub_download(target.repository, name, revision=before.sha, local_dir=folder), listener
        )
        return Path(path).read_bytes()


def _kept_card(
    api: Any, before: Any, staged: Staged, target: HubId, listener: Listener, *, overwrite: bool
) -> str | None:
    """The repository's card if it stays there; None if the staged one takes its place, or is the same."""
    if CARD_FILE not in {file.rfilename for file in before.siblings or ()}:
        return None
    held = _read(api, CARD_FILE, before, target, listener)
    card = held.decode("utf-8", errors="replace")
    if says_nothing(card) or held == (staged.folder / CARD_FILE).read_bytes():
        return None
    if overwrite or staged.card_given:
        listener.note(f"{target.repository}: its model card is replaced; the old one stays in its history")
        return None
    listener.note(
        f"{target.repository}: its model card is kept as it is; for a new one, say --licence, --data or "
        "--description, or --overwrite"
    )
    return card


def _has_strange_discriminators(before: Any, staged: Staged) -> bool:
    """Whether the repository would hold discriminators that don't belong to the generators."""
    held = {file.rfilename: file for file in before.siblings or ()}
    if DISCRIMINATORS_FILE not in held or DISCRIMINATORS_FILE in staged.files:
        return False
    generators = held.get(GENERATORS_FILE)
    stored = generators.lfs.sha256 if generators is not None and generators.lfs else None
    return bool(stored != staged.files[GENERATORS_FILE].sha256)


# --- The commit ------------------------------------------------------------------------------------------


def _commit(api: Any, target: HubId, operations: list[Any], before: Any, listener: Listener) -> str:
    """Sends what is missing and commits; the commit, or the newest one if there is nothing to commit."""
    repository, failed = target.repository, False

    def attempt() -> str:
        nonlocal failed
        try:
            commit = api.create_commit(
                repository, operations, commit_message="Model, pushed with ugatit", parent_commit=before.sha
            )
        except Exception as error:
            if failed and _status(error) in _OVERTAKEN:  # perhaps by the commit whose answer never came
                now = _look(api, repository, listener)
                if now is not None and _holds(now, operations):
                    return str(now.sha)
            failed = True
            if hub.is_transient(error) and not _path(error).endswith(_ASKED_ONCE):
                raise RuntimeError("the client has tried it often enough") from error
            raise
        return str(commit.oid)

    return hub.patiently(attempt, listener)


def _holds(now: Any, operations: list[Any]) -> bool:
    """Whether a repository is as these operations leave it."""
    from huggingface_hub import CommitOperationAdd

    held = {file.rfilename: (file.lfs.sha256 if file.lfs else file.blob_id) or "" for file in now.siblings or ()}
    for operation in operations:
        name, etag = operation.path_in_repo, held.get(operation.path_in_repo, "")
        if not isinstance(operation, CommitOperationAdd):
            if etag:
                return False
            continue
        digest = digest_of(Path(str(operation.path_or_fileobj)))
        if not etag or digest.differs(RemoteFile(now.id, name, now.sha, None, etag)):
            return False
    return True


def _status(error: Exception) -> int | None:
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status


def _path(error: Exception) -> str:
    """Of the address that was asked; empty if none was."""
    response: Any = getattr(error, "response", None)
    try:
        request: Any = response.request if response is not None else getattr(error, "request", None)
    except RuntimeError:  # so the HTTP library says that there is none
        return ""
    return urlsplit(str(request.url)).path if request is not None else ""


# --- What the client says --------------------------------------------------------------------------------


@contextlib.contextmanager
def _quiet(*, bars: bool, listener: Listener) -> Iterator[None]:
    """Lets the client say nothing by itself; its warnings become notes."""
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    verbosity, shown = get_verbosity(), not are_progress_bars_disabled()
    set_verbosity(logging.CRITICAL)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if not bars:
                disable_progress_bars()
            yield
        finally:
            set_verbosity(verbosity)
            if shown and not bars:
                enable_progress_bars()
    for warning in caught:
        text = str(warning.message)
        if CARD_FILE in text:
            listener.note("the Hub says: " + hub.without_secrets(" ".join(text.split())))


@contextlib.contextmanager
def _errors_reported(target: HubId) -> Iterator[None]:
    """Turns whatever the client and its libraries raise into a ModelError in plain words."""
    with hub.errors_reported(target):
        try:
            yield
        except UgatitError:
            raise
        except Exception as error:
            while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
                error = error.__cause__  # from a thread that uploads
            known = _explained(target, error)
            raise (known or error) from None


def _explained(target: HubId, error: Exception) -> UgatitError | None:
    """The error in words that are right for publishing; None for what fetching has the right words for."""
    status = _status(error)
    said = hub.without_secrets(" ".join(str(getattr(error, "server_message", None) or error).split()))[:300]
    if isinstance(error, json.JSONDecodeError | KeyError) or _was_sent_elsewhere(error):
        return hub.no_hub(target)
    if status is not None:
        return _refused(target, status, _path(error), said)
    # Characters that can't be sent are the token's.
    ours = isinstance(error, _CLIENT_ERRORS) and not isinstance(error, UnicodeEncodeError)
    if ours and not hub.is_transient(error):
        return ModelError(f"{target.repository}: the upload failed: {said}", "Correct that, then try again.")
    return None


def _was_sent_elsewhere(error: Exception) -> bool:
    """Whether a redirection has led nowhere."""
    response: Any = getattr(error, "response", None)
    status = _status(error)
    lost = status in (404, 405) and bool(response.history)
    return lost or (status is not None and 300 <= status < 400) or type(error).__name__ == "TooManyRedirects"


def _refused(target: HubId, status: int, path: str, said: str) -> UgatitError | None:
    repository, owner = target.repository, target.repository.partition("/")[0]
    where = hub.without_secrets(hub.endpoint())
    if status == 401:
        return ModelError(
            f"{repository}: the Hub refuses your token (401)", "Log in with `hf auth login` or set HF_TOKEN."
        )
    if status == 403:
        return ModelError(
            f"{repository}: the Hub forbids it (403): {said}",
            f"{owner} must be you or an organization of yours, and your token one that may write there: "
            f"{where}/settings/tokens",
        )
    if status == 404:
        return ModelError(
            f"{repository}: the Hub has no such place (404)",
            f"Check the names; {owner} must be you or an organization of yours.",
        )
    if status in _OVERTAKEN:
        return ModelError(f"{repository} was changed by somebody else meanwhile ({status})", "Run the command again.")
    if status in _NO_ROOM:
        return ModelError(
            f"{repository}: the Hub has no room for it ({status}): {said}",
            f"Look how much storage {owner} has left: {where}/settings/billing",
        )
    if status == 400 and path.endswith("/objects/verify"):
        return ModelError(
            f"{repository}: what was sent has not arrived: {said}",
            "Run the command again; if that doesn't help, look whether a proxy or a login page stands in between.",
        )
    if 400 <= status < 500 and status not in (408, 429):
        return ModelError(f"{repository}: the Hub refuses the upload ({status}): {said}")
    return None
