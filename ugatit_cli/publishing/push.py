"""The upload of `ugatit push`: one commit to a repository on the Hub, and plain words when there is none."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from PIL import Image

from ugatit_cli.errors import ModelError, UgatitError, UsageError
from ugatit_cli.files import reported
from ugatit_cli.pictures.encoding import encode
from ugatit_cli.pictures.reading import from_pil, read_picture
from ugatit_cli.publishing.card import (
    CONTROLS,
    Facts,
    Training,
    escaped,
    licence_of,
    model_card,
    says_nothing,
    summary,
    training_data,
)
from ugatit_cli.training.run_folder import RUN_FILE, RunFolder
from ugatit_cli.training.settings import Settings
from ugatit_cli.weights import hub
from ugatit_cli.weights.folder import (
    CARD_FILE,
    CONFIG_FILE,
    DISCRIMINATORS_FILE,
    GENERATORS_FILE,
    MODEL_FILES,
    SAMPLES_FILE,
    ModelFolder,
    open_model,
    open_tensors,
)
from ugatit_cli.weights.hub import NEWEST, HubId, Listener, RemoteFile
from ugatit_cli.weights.hub_cache import digest_of
from ugatit_cli.weights.manifest import REVISION, Entry, FileRecord

WIDEST: Final = 2048
# What a manifest's entry names: all that is fetched to translate.
LISTED: Final = (CONFIG_FILE, GENERATORS_FILE, DISCRIMINATORS_FILE, CARD_FILE)
_LICENCE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_TYPES: Final = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_ATTEMPTS: Final = 5


@dataclass(frozen=True)
class About:
    """What the user says about a model; empty where nothing is said.

    Attributes:
        licence: a licence id of the Hub, like `mit`; taken in any case, kept in lower case.
        data: one line on what it was trained on.
        description: one line on what it does.
        samples: a picture to show.
        discriminators: publish them, too.

    Raises:
        UsageError: a licence of another shape, or a text that isn't one line.
    """

    licence: str = ""
    data: str = ""
    description: str = ""
    samples: Path | None = None
    discriminators: bool = False

    def __post_init__(self) -> None:
        licence = self.licence.lower()
        if licence and not _LICENCE.fullmatch(licence):
            raise UsageError(
                f"--licence {self.licence}: not a licence id of the Hub", "Like mit, apache-2.0, cc-by-4.0, or other."
            )
        object.__setattr__(self, "licence", licence)
        for option, text in (("data", self.data), ("description", self.description)):
            if CONTROLS.search(text):
                raise UsageError(f"--{option}: must be one line of plain text")


@dataclass(frozen=True)
class Staged:
    """A model folder as it is published.

    Attributes:
        folder: what is in it is published, and nothing else.
        model: the same, checked.
        files: name -> size and hash.
        about: what the user says.
        card_given: the card is the user's own, or tells what the user says.
    """

    folder: Path
    model: ModelFolder
    files: dict[str, FileRecord]
    about: About
    card_given: bool


def parse_target(text: str) -> HubId:
    """The repository to publish to.

    Raises:
        UsageError: not `owner/name`.
    """
    identity = hub.parse_hub_id(text)
    if identity is None:
        raise UsageError(f"{text!r} is not a repository on the Hub", "Name it OWNER/NAME: ada/horse2zebra")
    if "@" in text:
        raise UsageError(
            f"{text}: a model is published as the newest revision",
            f"Leave @{identity.revision} out: {identity.repository}",
        )
    return identity


# --- Staging ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def staged(model: ModelFolder, target: HubId, about: About, listener: Listener) -> Iterator[Staged]:
    """The folder to publish, in a temporary place that is gone afterwards.

    Weights and config are the model's, byte for byte. A card that the model has is kept; else one is written.

    Args:
        model: its folder may be a run's, which then says more.

    Raises:
        ModelError: a file is missing or damaged, or there are no discriminators although they are wanted.
        PictureError: the samples can't be read.
        OutputError: the temporary folder can't be written.
    """
    if about.discriminators and model.discriminators is None:
        raise ModelError(
            f"{model.path}: this model comes without discriminators",
            "Leave --with-discriminators out. `ugatit convert` keeps them when the checkpoint has them, and so does "
            "training.",
        )
    with reported(Path(tempfile.gettempdir())):
        temporary = tempfile.TemporaryDirectory(prefix="ugatit-push-")
    with temporary as name:
        folder = Path(name) / target.repository.rpartition("/")[2]
        with reported(folder):
            folder.mkdir()
            _take_weights(model, folder, about)
            copy, run = open_model(folder), _run_of(model)
            step = _put_samples(copy, model, run, about)
            own = _take_card(model, folder, about, listener)
            if not own:
                text = model_card(copy, _facts(copy, run, target, about, step))
                (folder / CARD_FILE).write_text(text, encoding="utf-8", newline="\n")
            files = {path.name: _record(path) for path in _files(folder)}
        _warn_of_paths(copy, listener)
        yield Staged(folder, copy, files, about, own or bool(about.licence or about.data or about.description))


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in MODEL_FILES if (folder / name).is_file()]


def _record(path: Path) -> FileRecord:
    digest = digest_of(path)
    return FileRecord(digest.size, digest.sha256)


def _take_weights(model: ModelFolder, folder: Path, about: About) -> None:
    sources = {CONFIG_FILE: model.path / CONFIG_FILE, GENERATORS_FILE: model.weights}
    if about.discriminators and model.discriminators is not None:
        sources[DISCRIMINATORS_FILE] = model.discriminators
    for _ in range(_ATTEMPTS):
        before = [_identity(path) for path in sources.values()]
        for name, source in sources.items():
            _link(source, folder / name)
        if before == [_identity(path) for path in sources.values()]:
            return
    raise ModelError(
        f"{model.path}: its files are being replaced all the time", "Stop what writes them, then try again."
    )


def _identity(path: Path) -> tuple[int, int, int]:
    """Changes when a run that goes on replaces the file."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _link(source: Path, target: Path) -> None:
    """The same file under another name, or a copy where that can't be."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source.resolve())
    except OSError:  # another disk, or a file system without such links
        shutil.copyfile(source, target)


def _run_of(model: ModelFolder) -> RunFolder | None:
    """The run whose last or best model a folder is, if it is one."""
    run = RunFolder(model.path.absolute().parent)
    own = [folder for folder in (run.model, run.best) if folder.is_dir() and folder.samefile(model.path)]
    return run if run.exists and own else None


def _put_samples(copy: ModelFolder, model: ModelFolder, run: RunFolder | None, about: About) -> int | None:
    """Writes `samples.png` if there is a picture for it; the step it is of if a run drew it."""
    target = copy.path / SAMPLES_FILE
    if about.samples is not None:
        target.write_bytes(_as_png(about.samples))
        return None
    if run is not None and (drawn := _last_samples(run, copy.provenance.get("steps"))):
        step, path = drawn
        target.write_bytes(_as_png(path))
        return step
    if (model.path / SAMPLES_FILE).is_file():
        _link(model.path / SAMPLES_FILE, target)
    return None


def _last_samples(run: RunFolder, until: object) -> tuple[int, Path] | None:
    """The newest grid of a run that a model of step `until` may have drawn, and its step."""
    paths = (run.path / "samples").glob("step_*.png")
    found = [(int(match[1]), path) for path in paths if (match := re.fullmatch(r"step_(\d+)", path.stem))]
    return max((one for one in found if not isinstance(until, int) or one[0] <= until), default=None)


def _as_png(path: Path) -> bytes:
    """A picture of any format as a PNG that isn't too wide for a page, without whatever else its file may tell."""
    frame = read_picture(path, first_only=True).frames[0]
    image = frame.rgb.copy()
    if frame.alpha is not None:
        image.putalpha(frame.alpha)
    if image.width > WIDEST:
        height = max(1, round(image.height * WIDEST / image.width))
        image = image.resize((WIDEST, height), Image.Resampling.LANCZOS)
    return encode(from_pil(image), "PNG")


def _take_card(model: ModelFolder, folder: Path, about: About, listener: Listener) -> bool:
    """Copies the model's own card if it has one: what somebody wrote is not written over."""
    own = model.path / CARD_FILE
    if not own.is_file():
        return False
    shutil.copyfile(own, folder / CARD_FILE)
    listener.note(f"the model card is {own}, as it is")
    ignored = _not_told(own.read_text(encoding="utf-8", errors="replace"), about)
    if ignored:
        listener.note(f"{', '.join(ignored)}: not written into that card")
    return True


def _not_told(card: str, about: About) -> list[str]:
    """The options whose text a card doesn't have."""
    told = {
        "licence": licence_of(card) == about.licence,
        "data": escaped(about.data) in card,
        "description": escaped(about.description) in card,
    }
    return [f"--{name}" for name, is_told in told.items() if getattr(about, name) and not is_told]


def _facts(copy: ModelFolder, run: RunFolder | None, target: HubId, about: About, step: int | None) -> Facts:
    return Facts(
        repository=target.repository,
        files={path.name: path.stat().st_size for path in _files(copy.path)},
        storage=_storage(copy),
        licence=about.licence,
        data=about.data,
        description=about.description,
        training=_training(run),
        samples_step=step,
        evaluation=_evaluation(copy, run),
    )


def _warn_of_paths(model: ModelFolder, listener: Listener) -> None:
    start = model.provenance.get("started from")
    if isinstance(start, str) and Path(start).is_absolute():
        listener.note(f"note: {CONFIG_FILE} tells where training started from on this machine: {start}")


def _storage(model: ModelFolder) -> str:
    """The float type of matrices and kernels; vectors are float32 in any case."""
    with open_tensors(model.weights) as file:
        headers = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118  # it is no dict
        found = {_TYPES[header.get_dtype()] for header in headers if len(header.get_shape()) > 1}
    return " and ".join(sorted(found))


def _training(run: RunFolder | None) -> Training | None:
    if run is None:
        return None
    settings = Settings.from_document(run.document(), run.path / RUN_FILE)
    return Training(settings.recipe, settings.precision, settings.iterations)


def _evaluation(copy: ModelFolder, run: RunFolder | None) -> Mapping[str, Any]:
    """What says how good a model is, see `Facts`: its provenance, or what its run has noted of that very step."""
    if run is None or "kid" in copy.provenance:
        return copy.provenance
    step = copy.provenance.get("steps")
    found = [line for line in run.metrics() if line.get("step") == step and line.get("kid") is not None]
    return found[-1] if found else {}


def entry(staged: Staged, target: HubId, commit: str, kept_card: str | None = None) -> Entry:
    """What a manifest says of the model once it is published.

    Args:
        staged: as long as its folder is there.
        kept_card: the card of the repository, if it isn't the staged one.
    """
    config, about = staged.model.config, staged.about
    name = re.sub(r"^[._-]+", "", target.repository.rpartition("/")[2]) or "model"
    listed = [name for name in LISTED if name in staged.files]
    if kept_card is not None:
        listed.remove(CARD_FILE)
    card = kept_card or (staged.folder / CARD_FILE).read_text(encoding="utf-8", errors="replace")
    return Entry(
        name=name,
        description=summary(staged.model, about.description),
        domains=(config.domain_a, config.domain_b),
        image_size=config.image_size,
        licence=licence_of(card) or about.licence or "not stated",
        training_data=training_data(staged.model, about.data),
        source="hub",
        repository=target.repository,
        revision=commit,
        files={name: staged.files[name] for name in listed},
    )


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
