"""What `ugatit push` publishes, and how: a model folder with a card, in one commit to a repository on the Hub."""

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

from PIL import Image

from ugatit_cli.errors import ModelError, UgatitError, UsageError
from ugatit_cli.files import reported
from ugatit_cli.pictures.encoding import encode
from ugatit_cli.pictures.reading import from_pil, read_picture
from ugatit_cli.publishing.card import (
    Facts,
    Options,
    escaped,
    model_card,
    says_nothing,
    summary,
    training_data,
)
from ugatit_cli.training.run_folder import RUN_FILE, RunFolder
from ugatit_cli.training.settings import Settings
from ugatit_cli.weights import hub
from ugatit_cli.weights.catalog import licence_of
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
from ugatit_cli.weights.hub import NEWEST, HubId, Listener, RemoteFile, Words, status_of
from ugatit_cli.weights.hub_download import digest_of
from ugatit_cli.weights.manifest import REVISION, Entry, FileRecord

WIDEST: Final = 2048
# What a manifest's entry names: all that is fetched to translate.
LISTED: Final = (CONFIG_FILE, GENERATORS_FILE, DISCRIMINATORS_FILE, CARD_FILE)
_TYPES: Final = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_ATTEMPTS: Final = 5


@dataclass(frozen=True)
class Staged:
    """A model folder as it is published.

    Attributes:
        folder: what is in it is published, and nothing else.
        model: the same, checked.
        files: name -> size and hash.
        options: what the user says.
        card_given: the card is the user's own, or tells what the user says.
    """

    folder: Path
    model: ModelFolder
    files: dict[str, FileRecord]
    options: Options
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
def staged(model: ModelFolder, target: HubId, options: Options, listener: Listener) -> Iterator[Staged]:
    """The folder to publish, in a temporary place that is gone afterwards.

    Weights and config are the model's, byte for byte. A card that the model has is kept; else one is written.

    Args:
        model: its folder may be a run's, which then says more.

    Raises:
        ModelError: a file is missing or damaged, or there are no discriminators although they are wanted.
        PictureError: the samples can't be read.
        OutputError: the temporary folder can't be written.
    """
    if options.discriminators and model.discriminators is None:
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
            _take_weights(model, folder, options)
            copy, run = open_model(folder), _run_of(model)
            step = _put_samples(copy, model, run, options)
            own = _take_card(model, folder, options, listener)
            if not own:
                text = model_card(copy, _facts(copy, run, target, options, step))
                (folder / CARD_FILE).write_text(text, encoding="utf-8", newline="\n")
            files = {path.name: _record(path) for path in _files(folder)}
        start = copy.provenance.get("started from")
        if isinstance(start, str) and Path(start).is_absolute():
            listener.note(f"note: {CONFIG_FILE} tells where training started from on this machine: {start}")
        yield Staged(folder, copy, files, options, own or options.says_something)


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in MODEL_FILES if (folder / name).is_file()]


def _record(path: Path) -> FileRecord:
    digest = digest_of(path)
    return FileRecord(digest.size, digest.sha256)


def _take_weights(model: ModelFolder, folder: Path, options: Options) -> None:
    sources = {CONFIG_FILE: model.path / CONFIG_FILE, GENERATORS_FILE: model.weights}
    if options.discriminators and model.discriminators is not None:
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


def _put_samples(copy: ModelFolder, model: ModelFolder, run: RunFolder | None, options: Options) -> int | None:
    """Writes `samples.png` if there is a picture for it; the step it is of if a run drew it."""
    target = copy.path / SAMPLES_FILE
    if options.samples is not None:
        target.write_bytes(_as_png(options.samples))
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


def _take_card(model: ModelFolder, folder: Path, options: Options, listener: Listener) -> bool:
    """Copies the model's own card if it has one: what somebody wrote is not written over."""
    own = model.path / CARD_FILE
    if not own.is_file():
        return False
    shutil.copyfile(own, folder / CARD_FILE)
    listener.note(f"the model card is {own}, as it is")
    card = own.read_text(encoding="utf-8", errors="replace")
    told = {
        "licence": licence_of(card) == options.licence,
        "data": escaped(options.data) in card,
        "description": escaped(options.description) in card,
    }
    ignored = [f"--{name}" for name, is_told in told.items() if getattr(options, name) and not is_told]
    if ignored:
        listener.note(f"{', '.join(ignored)}: not written into that card")
    return True


def _facts(copy: ModelFolder, run: RunFolder | None, target: HubId, options: Options, step: int | None) -> Facts:
    settings = Settings.from_document(run.document(), run.path / RUN_FILE) if run is not None else None
    return Facts(
        repository=target.repository,
        files={path.name: path.stat().st_size for path in _files(copy.path)},
        storage=_storage(copy),
        options=options,
        recipe=settings.recipe if settings is not None else None,
        precision=settings.precision if settings is not None else "fp32",
        planned=settings.iterations if settings is not None else None,
        samples_step=step,
        evaluation=_evaluation(copy, run),
    )


def _storage(model: ModelFolder) -> str:
    """The float type of matrices and kernels; vectors are float32 in any case."""
    with open_tensors(model.weights) as file:
        headers = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118  # it is no dict
        found = {_TYPES[header.get_dtype()] for header in headers if len(header.get_shape()) > 1}
    return " and ".join(sorted(found))


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
    config, options = staged.model.config, staged.options
    card = kept_card or (staged.folder / CARD_FILE).read_text(encoding="utf-8", errors="replace")
    return Entry(
        name=re.sub(r"^[._-]+", "", target.repository.rpartition("/")[2]) or "model",
        description=summary(staged.model, options.description),
        domains=(config.domain_a, config.domain_b),
        image_size=config.image_size,
        licence=licence_of(card) or options.licence or "not stated",
        training_data=training_data(staged.model, options.data),
        source="hub",
        repository=target.repository,
        revision=commit,
        files={
            name: staged.files[name]
            for name in LISTED
            if name in staged.files and not (name == CARD_FILE and kept_card is not None)
        },
    )


# --- The upload ------------------------------------------------------------------------------------------

# What a repository may hold that nobody has put anything into yet.
_BLANK: Final = frozenset({".gitattributes", CARD_FILE})


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


def upload(staged: Staged, target: HubId, listener: Listener, *, bars: bool = False) -> Published:
    """Publishes a model: one commit, complete or not at all.

    A model card that the repository has is replaced only by one that is the user's own or tells what the user says.

    Args:
        bars: let the Hub's client draw progress bars on stderr.

    Raises:
        ModelError: no access, no connection, a repository that holds something else or isn't private, or one that
            changed meanwhile.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    check_access()
    with _quiet(bars=bars, listener=listener), _errors_reported(target):
        there = _Repository(target.repository, staged.options, listener)
        kept = there.kept_card(staged)
        names = [name for name in staged.files if kept is None or name != CARD_FILE]
        operations: list[Any] = [CommitOperationAdd(name, staged.folder / name) for name in names]
        if there.has_strange_discriminators(staged):
            operations.append(CommitOperationDelete(DISCRIMINATORS_FILE))
            listener.note(f"{target.repository} holds {DISCRIMINATORS_FILE} of other weights: it is removed")
        commit = there.commit(operations)
        if not REVISION.fullmatch(commit):
            raise hub.no_hub(target)
        url = f"{hub.without_secrets(hub.endpoint())}/{target.repository}"
        return Published(url, commit, commit != there.head, kept)


class _Repository:
    """The repository to publish to, as it was found; made if it isn't there.

    Raises:
        ModelError: it isn't private although it should be, or it holds something else.
    """

    def __init__(self, name: str, options: Options, listener: Listener) -> None:
        from huggingface_hub import HfApi, get_token

        # Named, or it would not be sent where HF_HUB_DISABLE_IMPLICIT_TOKEN is set.
        self.api = HfApi(endpoint=hub.endpoint(), token=get_token(), library_name="ugatit")
        self.name, self.options, self.listener = name, options, listener
        found = self._look() or self._create()
        self.head: str = found.sha
        self.files: dict[str, str] = _etags(found)
        if options.private and not found.private:
            raise ModelError(f"{name} exists and is public", "Make it private on its page, or leave --private out.")
        if not (options.overwrite or self.files.keys() <= _BLANK or self._is_ours()):
            theirs = ", ".join(sorted(self.files.keys() - _BLANK)[:3])
            raise ModelError(
                f"{name} exists and is not a ugatit model ({theirs})",
                "Name another repository, or pass --overwrite to add the model to this one.",
            )

    def _look(self) -> Any:
        """What the Hub knows of it; None if there is none, as far as one may know."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        try:
            return hub.patiently(lambda: self.api.model_info(self.name, files_metadata=True), self.listener)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return None

    def _create(self) -> Any:
        private = self.options.private or None  # None: as the owner's own default is
        hub.patiently(lambda: self.api.create_repo(self.name, private=private, exist_ok=True), self.listener)
        return hub.patiently(lambda: self.api.model_info(self.name, files_metadata=True), self.listener)

    def _is_ours(self) -> bool:
        try:
            document = json.loads(self._read(CONFIG_FILE)) if CONFIG_FILE in self.files else None
        except (ValueError, RecursionError):
            return False
        return (
            isinstance(document, dict)
            and type(document.get("format")) is int
            and isinstance(document.get("model"), dict)
        )

    def _read(self, file: str) -> bytes:
        """A small file of it."""
        with tempfile.TemporaryDirectory(prefix="ugatit-push-") as folder:
            path = hub.patiently(
                lambda: self.api.hf_hub_download(self.name, file, revision=self.head, local_dir=folder), self.listener
            )
            return Path(path).read_bytes()

    def kept_card(self, staged: Staged) -> str | None:
        """Its card if that stays there; None if the staged one takes its place, or is the same."""
        if CARD_FILE not in self.files:
            return None
        held = self._read(CARD_FILE)
        card = held.decode("utf-8", errors="replace")
        if says_nothing(card) or held == (staged.folder / CARD_FILE).read_bytes():
            return None
        if self.options.overwrite or staged.card_given:
            self.listener.note(f"{self.name}: its model card is replaced; the old one stays in its history")
            return None
        self.listener.note(
            f"{self.name}: its model card is kept as it is; for a new one, say --licence, --data or "
            "--description, or --overwrite"
        )
        return card

    def has_strange_discriminators(self, staged: Staged) -> bool:
        """Whether it would hold discriminators that don't belong to the generators."""
        stays = DISCRIMINATORS_FILE in self.files and DISCRIMINATORS_FILE not in staged.files
        return stays and self.files.get(GENERATORS_FILE) != staged.files[GENERATORS_FILE].sha256

    def commit(self, operations: list[Any]) -> str:
        """Sends what is missing and commits; the commit, or the newest one if there is nothing to commit."""
        failed = False

        def attempt() -> str:
            nonlocal failed
            try:
                made = self.api.create_commit(
                    self.name, operations, commit_message="Model, pushed with ugatit", parent_commit=self.head
                )
            except Exception as error:
                if failed and status_of(error) in _OVERTAKEN:  # perhaps by the commit whose answer never came
                    now = self._look()
                    if now is not None and _holds(now, operations):
                        return str(now.sha)
                failed = True
                if hub.is_transient(error) and not _path(error).endswith(_ASKED_ONCE):
                    raise RuntimeError("the client has tried it often enough") from error
                raise
            return str(made.oid)

        return hub.patiently(attempt, self.listener)


def _etags(info: Any) -> dict[str, str]:
    """File name -> SHA-256 for large files, git blob hash for small ones."""
    return {file.rfilename: (file.lfs.sha256 if file.lfs else file.blob_id) or "" for file in info.siblings or ()}


def _holds(now: Any, operations: list[Any]) -> bool:
    """Whether a repository is as these operations leave it."""
    held = _etags(now)
    for operation in operations:
        etag, source = held.get(operation.path_in_repo, ""), getattr(operation, "path_or_fileobj", None)
        if source is None or not etag:  # a file to be deleted, or one that isn't there
            if bool(source) != bool(etag):
                return False
        elif digest_of(Path(str(source))).differs(RemoteFile(now.id, operation.path_in_repo, now.sha, None, etag)):
            return False
    return True


# --- What the client says --------------------------------------------------------------------------------


@contextlib.contextmanager
def _quiet(*, bars: bool, listener: Listener) -> Iterator[None]:
    """Lets the client say nothing by itself; its warnings of the card become notes."""
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    with contextlib.ExitStack() as restored, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        restored.callback(set_verbosity, get_verbosity())
        set_verbosity(logging.CRITICAL)
        if not bars and not are_progress_bars_disabled():
            restored.callback(enable_progress_bars)
            disable_progress_bars()
        yield
    for text in (str(warning.message) for warning in caught):
        if CARD_FILE in text:
            listener.note("the Hub says: " + hub.without_secrets(" ".join(text.split())))


# Beside those of HTTP: files, what the client or the Hub finds wrong with them, the library that uploads large ones.
_CLIENT_ERRORS: Final = (OSError, ValueError, RuntimeError)
# The ends of paths that the client asks only once; it has tried all others again when it gives up.
_ASKED_ONCE: Final = ("/validate-yaml", f"/commit/{NEWEST}", f"/revision/{NEWEST}")
_OVERTAKEN: Final = frozenset({409, 412})
# By the status of the answer; what isn't here is said as in a download.
_REFUSALS: Final[Mapping[int, Words]] = {
    401: ("{repository}: the Hub refuses your token (401)", "Log in with `hf auth login` or set HF_TOKEN."),
    403: (
        "{repository}: the Hub forbids it (403): {said}",
        "{owner} must be you or an organization of yours, and your token one that may write there: "
        "{where}/settings/tokens",
    ),
    404: (
        "{repository}: the Hub has no such place (404)",
        "Check the names; {owner} must be you or an organization of yours.",
    ),
    **dict.fromkeys(
        _OVERTAKEN, ("{repository} was changed by somebody else meanwhile ({status})", "Run the command again.")
    ),
    **dict.fromkeys(
        (402, 413, 507),
        (
            "{repository}: the Hub has no room for it ({status}): {said}",
            "Look how much storage {owner} has left: {where}/settings/billing",
        ),
    ),
}
_NOT_ARRIVED: Final[Words] = (
    "{repository}: what was sent has not arrived: {said}",
    "Run the command again; if that doesn't help, look whether a proxy or a login page stands in between.",
)
_REFUSED: Final[Words] = ("{repository}: the Hub refuses the upload ({status}): {said}", "")
_FAILED: Final[Words] = ("{repository}: the upload failed: {said}", "Correct that, then try again.")


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
            raise (_explained(target, error) or error) from None


def _explained(target: HubId, error: Exception) -> ModelError | None:
    """The error in words that are right for publishing; None for what fetching has the right words for."""
    status, words = status_of(error), _REFUSALS.get(status_of(error) or 0)
    if isinstance(error, json.JSONDecodeError | KeyError) or _was_sent_elsewhere(error):
        return hub.no_hub(target)
    if hub.is_transient(error) or isinstance(error, UnicodeEncodeError):  # whose characters are the token's
        pass
    elif status == 400 and _path(error).endswith("/objects/verify"):
        words = _NOT_ARRIVED
    elif status is None and isinstance(error, _CLIENT_ERRORS):
        words = _FAILED
    elif status is not None and 400 <= status < 500:
        words = words or _REFUSED
    return hub.in_words(words, target, error) if words is not None else None


def _was_sent_elsewhere(error: Exception) -> bool:
    """Whether a redirection has led nowhere."""
    response: Any = getattr(error, "response", None)
    status = status_of(error)
    lost = status in (404, 405) and bool(response.history)
    return lost or (status is not None and 300 <= status < 400) or type(error).__name__ == "TooManyRedirects"


def _path(error: Exception) -> str:
    """Of the address that was asked; empty if none was."""
    request: Any = None
    with contextlib.suppress(RuntimeError):  # so the HTTP library says that there is none
        request = getattr(getattr(error, "response", None) or error, "request", None)
    return str(request.url.path) if request is not None else ""
