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

from ugatit_cli.checkpoint import CARD_FILE, CONFIG_FILE, DISCRIMINATORS_FILE, GENERATORS_FILE
from ugatit_cli.errors import ModelError, UgatitError
from ugatit_cli.publish import Staged
from ugatit_cli.weights import hub
from ugatit_cli.weights.hub import HubId, Listener
from ugatit_cli.weights.manifest import REVISION

# What a repository may hold that nobody has put anything into yet.
_BLANK: Final = frozenset({".gitattributes", CARD_FILE})
# Beside those of HTTP: files, what the client or the Hub finds wrong with them, the library that uploads large ones.
_CLIENT_ERRORS: Final = (OSError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Published:
    """A model on the Hub.

    Attributes:
        url: its page.
        commit: 40 hex digits.
        changed: whether anything was new.
    """

    url: str
    commit: str
    changed: bool


def check_access() -> None:
    """Whether there is any use in trying.

    Raises:
        ModelError: no token, or offline; asks nobody.
    """
    from huggingface_hub import get_token

    if hub.is_offline():
        raise ModelError("HF_HUB_OFFLINE forbids to ask the Hub", "Unset it to publish, or look first: --dry-run.")
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

    Args:
        private: make a new repository private.
        overwrite: publish into a repository that holds something else than a ugatit model.
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
    repository = target.repository
    before = _look(api, repository, listener)
    if before is None:
        # None: as the owner's own default is.
        hub.patiently(lambda: api.create_repo(repository, private=private or None, exist_ok=True), listener)
    else:
        _check_target(api, before, target, private=private, overwrite=overwrite, listener=listener)
    operations: list[Any] = [CommitOperationAdd(name, staged.folder / name) for name in staged.files]
    if before is not None and _has_strange_discriminators(before, staged):
        operations.append(CommitOperationDelete(DISCRIMINATORS_FILE))
        listener.note(f"{repository} holds {DISCRIMINATORS_FILE} of other weights: it is removed")
    commit = api.create_commit(
        repository,
        operations,
        commit_message="Model, pushed with ugatit",
        parent_commit=None if before is None else before.sha,
    )
    if not REVISION.fullmatch(commit.oid):
        raise _no_hub()
    changed = before is None or commit.oid != before.sha
    return Published(f"{hub.without_secrets(hub.endpoint())}/{repository}", commit.oid, changed)


def _no_hub() -> ModelError:
    return ModelError(
        f"{hub.without_secrets(hub.endpoint())} doesn't answer as a Hub does",
        "Check HF_ENDPOINT, and whether a proxy or a login page stands in between.",
    )


def _look(api: Any, repository: str, listener: Listener) -> Any:
    """What the Hub knows of a repository; None if there is none, as far as one may know."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return hub.patiently(lambda: api.model_info(repository, files_metadata=True), listener)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return None


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
    with tempfile.TemporaryDirectory(prefix="ugatit-push-") as folder:
        path = hub.patiently(
            lambda: api.hf_hub_download(target.repository, CONFIG_FILE, revision=before.sha, local_dir=folder),
            listener,
        )
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            return False
    return (
        isinstance(document, dict) and type(document.get("format")) is int and isinstance(document.get("model"), dict)
    )


def _has_strange_discriminators(before: Any, staged: Staged) -> bool:
    """Whether the repository would hold discriminators that don't belong to the generators."""
    held = {file.rfilename: file for file in before.siblings or ()}
    if DISCRIMINATORS_FILE not in held or DISCRIMINATORS_FILE in staged.files:
        return False
    generators = held.get(GENERATORS_FILE)
    stored = generators.lfs.sha256 if generators is not None and generators.lfs else None
    return bool(stored != staged.files[GENERATORS_FILE].sha256)


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
    repository, status = target.repository, getattr(getattr(error, "response", None), "status_code", None)
    where = hub.without_secrets(hub.endpoint())
    said = hub.without_secrets(" ".join(str(getattr(error, "server_message", None) or error).split()))[:300]
    if status == 401:
        return ModelError(
            f"{repository}: the Hub refuses your token (401)", "Log in with `hf auth login` or set HF_TOKEN."
        )
    if status == 403:
        return ModelError(
            f"{repository}: the Hub forbids it (403)",
            f"Your token must be one that may write there: {where}/settings/tokens",
        )
    if status in (409, 412):
        return ModelError(f"{repository} was changed by somebody else meanwhile ({status})", "Run the command again.")
    if status is not None and 400 <= status < 500 and status not in (404, 408, 429):
        return ModelError(f"{repository}: the Hub refuses the upload ({status}): {said}")
    if isinstance(error, json.JSONDecodeError | KeyError):
        return _no_hub()
    if status is None and isinstance(error, _CLIENT_ERRORS) and not hub.is_transient(error):
        return ModelError(f"{repository}: the upload failed: {said}", "Correct that, then run the command again.")
    return None
