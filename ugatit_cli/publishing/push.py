"""What `ugatit push` publishes, and how: a model folder with a card, in one commit to a repository on the Hub."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from ugatit_cli.errors import ModelError, UsageError, plain_reason
from ugatit_cli.files import DOCUMENT, WEIGHTS, open_file, read_file, reported
from ugatit_cli.pictures.encoding import encode
from ugatit_cli.pictures.reading import from_pil, read_picture
from ugatit_cli.publishing.card import Options, model_card, says_nothing, stated_licence, summary, training_data
from ugatit_cli.remote import hub, patience
from ugatit_cli.remote.addresses import allow, forbidden_by
from ugatit_cli.remote.hub import NEWEST, REVISION, HubId, Words
from ugatit_cli.remote.patience import Listener, status_of
from ugatit_cli.remote.records import Digest, FileRecord, digest_of
from ugatit_cli.training.checkpoint import settings_then
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import RecipeGone, Settings
from ugatit_cli.weights.folder import (
    CARD_FILE,
    CONFIG_FILE,
    DISCRIMINATORS_FILE,
    GENERATORS_FILE,
    MODEL_FILES,
    SAMPLES_FILE,
    ModelFolder,
    open_model,
)
from ugatit_cli.weights.hashes import SUMS_FILE, read_sums, sums_text
from ugatit_cli.weights.known import licence_of
from ugatit_cli.weights.manifest import Entry

WIDEST: Final = 2048
# What a manifest's entry names: all that is fetched to translate.
LISTED: Final = (CONFIG_FILE, GENERATORS_FILE, DISCRIMINATORS_FILE, CARD_FILE)

# Takes of a run's files before it is given up.
_ATTEMPTS: Final = 5


@dataclass(frozen=True)
class Staged:
    """A model folder as it is published.

    Attributes:
        model: what is in its folder is published, and nothing else.
        files: name -> size and hashes.
        options: what the user says.
        card_given: the card is the user's own, or tells what the user says.
    """

    model: ModelFolder
    files: dict[str, Digest]
    options: Options
    card_given: bool


def parse_target(text: str) -> HubId:
    """The repository to publish to.

    Raises:
        UsageError: not `owner/name`, or with a revision.
    """
    identity = hub.parse_hub_id(text)
    if identity is None or "@" in text:  # a model is published as the newest revision
        raise UsageError(f"{text!r} is not a repository to publish to", "Name it OWNER/NAME: ada/horse2zebra")
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
        folder = Path(name)
        with reported(folder):
            digests = _take_weights(model, folder, options)
            copy, run = open_model(folder), _run_of(model)
            step = _put_samples(copy, model, run, options)
            own = _own(model.path, CARD_FILE, DOCUMENT)
            if own is not None:  # what somebody wrote is not written over
                shutil.copyfile(own, folder / CARD_FILE)
                listener.note(
                    f"the model card is {own}, as it is: --licence, --data and --description change nothing in it"
                )
            else:
                text = model_card(
                    copy, target.repository, options, _settings(run, copy), step, _evaluation(copy, run)
                )
                (folder / CARD_FILE).write_text(text, encoding="utf-8", newline="\n")
            others = (name for name in (*MODEL_FILES, SUMS_FILE) if name not in digests and (folder / name).is_file())
            files = digests | {name: digest_of(folder / name) for name in others}
        start = copy.provenance.get("started from")
        if isinstance(start, str) and Path(start).is_absolute():
            listener.note(f"note: {CONFIG_FILE} tells where training started from on this machine: {start}")
        given = own is not None or bool(options.licence or options.data or options.description)
        yield Staged(copy, files, options, given)


def _own(folder: Path, name: str, limit: int = WEIGHTS) -> Path | None:
    """A file of the folder of a model or run; None if it has none of that name.

    Raises:
        ModelError: a link that leads out of the folder, or no file that can be published.
    """
    path = folder / name
    if not os.path.lexists(path):
        return None
    # In the Hub's cache, names are links into the folder beside that of all commits.
    roots = [folder.resolve()]
    if roots[0].parent.name == "snapshots":
        roots.append(roots[0].parents[1] / "blobs")
    try:
        open_file(path, limit).close()
    except OSError as error:
        raise ModelError(f"{path}: can't be published: {plain_reason(error)}", "Put the file itself there.") from None
    if not any(path.resolve().is_relative_to(root) for root in roots):
        raise ModelError(f"{path}: a link that leads out of its folder", "Put the file itself there, or remove it.")
    return path


def _settings(run: RunFolder | None, model: ModelFolder) -> Settings | None:
    """Those that a run had when it wrote a model: they may have changed since."""
    if run is None:
        return None
    try:
        stored = Settings.of_run(run)
    except RecipeGone:
        return None
    is_last = model.provenance.get("steps") == run.latest()  # one of an earlier version doesn't say more
    return settings_then(stored, model.provenance) or (stored if is_last else None)


def _take_weights(model: ModelFolder, folder: Path, options: Options) -> dict[str, Digest]:
    """Brings config and weights into a folder, with their `SHA256SUMS`, if they are what the model's own says."""
    wanted = {CONFIG_FILE: CONFIG_FILE, GENERATORS_FILE: model.weights.name}
    if options.discriminators and model.discriminators is not None:
        wanted[DISCRIMINATORS_FILE] = model.discriminators.name
    found = {name: _own(model.path, own) for name, own in wanted.items()}
    sources = {name: path for name, path in found.items() if path is not None}
    for _ in range(_ATTEMPTS):  # a run that goes on may replace them meanwhile
        before = [_identity(path) for path in sources.values()]
        for name, source in sources.items():
            _link(source, folder / name)
        record = model.record or read_sums(model.path)
        if before == [_identity(path) for path in sources.values()]:
            break
    else:
        raise ModelError(
            f"{model.path}: its files are being replaced all the time", "Stop what writes them, then try again."
        )
    digests = {name: digest_of(folder / name) for name in sources}
    for name, source in sources.items():
        if record is not None and (problem := record.damage(source, digests[name].sha256)):
            raise ModelError(problem, record.way_out)
    sums = sums_text({name: digest.sha256 for name, digest in digests.items()})
    (folder / SUMS_FILE).write_bytes(sums.encode())
    return digests


def _identity(path: Path) -> tuple[int, int, int]:
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
    step, path = None, options.samples
    if path is None and run is not None:
        until = copy.provenance.get("steps")
        paths = (run.path / "samples").glob("step_*.png")
        steps = [int(match[1]) for one in paths if (match := re.fullmatch(r"step_(\d+)", one.stem))]
        step = max((one for one in steps if not isinstance(until, int) or one <= until), default=None)
        path = _own(run.path, f"samples/{run.samples_path(step).name}") if step is not None else None
    own = _own(model.path, SAMPLES_FILE) if path is None else None
    if path is not None:
        (copy.path / SAMPLES_FILE).write_bytes(_as_png(path))
    elif own is not None:
        _link(own, copy.path / SAMPLES_FILE)
    return step


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


def _evaluation(copy: ModelFolder, run: RunFolder | None) -> Mapping[str, Any]:
    """What says how good a model is, see `model_card`: its provenance, or what its run noted of that step."""
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
    card = kept_card or read_file(staged.model.path / CARD_FILE).decode(errors="replace")
    names = [name for name in LISTED if name in staged.files and (kept_card is None or name != CARD_FILE)]
    return Entry(
        name=re.sub(r"^[._-]+", "", target.repository.rpartition("/")[2]) or "model",
        description=summary(staged.model, options.description),
        domains=(config.domain_a, config.domain_b),
        image_size=config.image_size,
        licence=licence_of(card) or stated_licence(staged.model, options.licence),
        training_data=training_data(staged.model, options.data),
        source="hub",
        repository=target.repository,
        revision=commit,
        files={name: FileRecord(staged.files[name].size, staged.files[name].sha256) for name in names},
    )


# --- The upload ------------------------------------------------------------------------------------------

# What a repository may hold that nobody has put anything into yet.
_BLANK: Final = frozenset({".gitattributes", CARD_FILE})


@dataclass(frozen=True)
class Published:
    """A model on the Hub.

    Attributes:
        url: its page.
        entry: what a manifest says of it.
        changed: whether anything was new.
    """

    url: str
    entry: Entry
    changed: bool


def check_access() -> None:
    """Whether there is any use in trying.

    Raises:
        ModelError: no token, no address, or offline; asks nobody.
    """
    from huggingface_hub import get_token

    if variable := forbidden_by():
        hint = f"Look what would be published: --dry-run\n{allow()}"
        raise ModelError(f"{variable} forbids to ask the Hub", hint)
    if hub.is_mirrored():
        raise ModelError("UGATIT_MIRROR is for downloads", "Unset it, or name the Hub to publish to: HF_ENDPOINT.")
    hub.endpoint()
    if not get_token():
        raise ModelError("nobody is logged in to the Hub", "Log in with `hf auth login` or set HF_TOKEN.")


def upload(staged: Staged, target: HubId, listener: Listener, *, bars: bool = False) -> Published:
    """Publishes a model: one commit, complete or not at all.

    A model card that the repository has is replaced only by one that is the user's own or tells what the user says.

    Args:
        bars: let the Hub's client draw progress bars on stderr.

    Raises:
        ModelError: no connection, a token that may not do this, a repository that holds something else or isn't
            private, or one that changed meanwhile.
    """
    with _quiet(bars=bars, listener=listener), hub.errors_reported(target, better=_words):
        there = _Repository(target.repository, staged.options, listener)
        kept = there.kept_card(staged)
        sent = {name: digest for name, digest in staged.files.items() if kept is None or name != CARD_FILE}
        strange = there.strange_discriminators(staged)
        if strange:
            listener.note(f"{target.repository} holds {DISCRIMINATORS_FILE} of other weights: it is removed")
        commit = there.commit(staged.model.path, sent, strange)
        if not REVISION.fullmatch(commit):
            raise hub.in_words(hub.NO_HUB, target)
        url = f"{patience.without_secrets(hub.endpoint())}/{target.repository}"
        return Published(url, entry(staged, target, commit, kept), commit != there.head)


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
        found = self._look()
        if found is None:
            private = options.private or None  # None: as the owner's own default is
            patience.patiently(lambda: self.api.create_repo(name, private=private, exist_ok=True), listener)
            found = patience.patiently(self._info, listener)
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
            return patience.patiently(self._info, self.listener)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return None

    def _info(self) -> Any:
        return self.api.model_info(self.name, files_metadata=True)

    def _is_ours(self) -> bool:
        if CONFIG_FILE not in self.files:
            return False
        try:
            document = json.loads(self._read(CONFIG_FILE))
        except (ValueError, RecursionError):
            return False
        # Names alone would do for many a config.json.
        return (
            isinstance(document, dict)
            and type(document.get("format")) is int
            and isinstance(document.get("model"), dict)
        )

    def _read(self, file: str) -> bytes:
        """A small file of it."""
        with tempfile.TemporaryDirectory(prefix="ugatit-push-") as folder:
            path = patience.patiently(
                lambda: self.api.hf_hub_download(self.name, file, revision=self.head, local_dir=folder), self.listener
            )
            return Path(path).read_bytes()

    def kept_card(self, staged: Staged) -> str | None:
        """Its card if that stays there; None if the staged one takes its place, or is the same."""
        if CARD_FILE not in self.files:
            return None
        held = self._read(CARD_FILE)
        card = held.decode("utf-8", errors="replace")
        if says_nothing(card) or held == read_file(staged.model.path / CARD_FILE):
            return None
        if self.options.overwrite or staged.card_given:
            self.listener.note(f"{self.name}: its model card is replaced; the old one stays in its history")
            return None
        self.listener.note(
            f"{self.name}: its model card is kept as it is; for a new one, say --licence, --data or "
            "--description, or --overwrite"
        )
        return card

    def strange_discriminators(self, staged: Staged) -> set[str]:
        """Discriminators that it would hold although they don't belong to the generators."""
        stays = DISCRIMINATORS_FILE in self.files and DISCRIMINATORS_FILE not in staged.files
        other = self.files.get(GENERATORS_FILE) != staged.files[GENERATORS_FILE].sha256
        return {DISCRIMINATORS_FILE} if stays and other else set()

    def commit(self, folder: Path, sent: Mapping[str, Digest], removed: set[str]) -> str:
        """Sends what is missing and commits; the commit, or the newest one if there is nothing to commit."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations: list[Any] = [CommitOperationAdd(name, folder / name) for name in sent]
        operations += map(CommitOperationDelete, removed)
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
                    held = _etags(now) if now is not None else {}
                    arrived = all(held.get(name) in (digest.sha256, digest.git) for name, digest in sent.items())
                    if arrived and not held.keys() & removed:
                        return str(now.sha)
                failed = True
                raise
            return str(made.oid)

        return patience.patiently(attempt, self.listener, worth=_is_worth_trying)


def _etags(info: Any) -> dict[str, str]:
    """File name -> SHA-256 for large files, git blob hash for small ones."""
    return {file.rfilename: (file.lfs.sha256 if file.lfs else file.blob_id) or "" for file in info.siblings or ()}


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
            listener.note("the Hub says: " + patience.without_secrets(" ".join(text.split())))


# The ends of paths that the client asks only once; it has tried all others again when it gives up.
_ASKED_ONCE: Final = ("/validate-yaml", f"/commit/{NEWEST}", f"/revision/{NEWEST}")
_OVERTAKEN: Final = frozenset({409, 412})
_MEANWHILE: Final[Words] = (
    "{repository} was changed by somebody else meanwhile ({status})",
    "Run the command again.",
)
_NOT_YOURS: Final[Words] = (
    "{repository}: the Hub refuses it ({status}): {said}",
    "{owner} must be you or an organization of yours, and your token one that may write there: "
    "{where}/settings/tokens",
)
_NO_ROOM: Final[Words] = (
    "{repository}: the Hub has no room for it ({status}): {said}",
    "Look how much storage {owner} has left: {where}/settings/billing",
)
_REFUSED: Final[Words] = (
    "{repository}: the Hub refuses the upload ({status}): {said}",
    "If what was sent hasn't arrived, look whether a proxy or a login page stands in between.",
)
_FAILED: Final[Words] = ("{repository}: the upload failed: {said}", "Correct that, then try again.")
# By the status of the answer; what isn't here is said as in a download.
_REFUSALS: Final[Mapping[int, Words]] = {
    401: ("{repository}: the Hub refuses your token (401)", "Log in with `hf auth login` or set HF_TOKEN."),
    **dict.fromkeys((403, 404), _NOT_YOURS),
    **dict.fromkeys(_OVERTAKEN, _MEANWHILE),
    **dict.fromkeys((402, 413, 507), _NO_ROOM),
}


def _words(error: Exception) -> Words | None:
    """What to say of an error of an upload; None for what a download has the right words for."""
    status, response = status_of(error), getattr(error, "response", None)
    lost = status in (404, 405) and response and response.history  # where a redirection has led
    if lost or 300 <= (status or 0) < 400 or isinstance(error, json.JSONDecodeError | KeyError):
        return hub.NO_HUB
    if patience.is_transient(error) or isinstance(error, UnicodeEncodeError):  # whose characters are the token's
        return None
    if status is not None:
        return _REFUSALS.get(status) or (_REFUSED if 400 <= status < 500 else None)
    # Files, what the client finds wrong with them, the library that uploads large ones.
    return _FAILED if isinstance(error, OSError | ValueError | RuntimeError) else None


def _is_worth_trying(error: Exception) -> bool:
    """Whether a commit may succeed later, and the client hasn't tried it often enough."""
    asked: Any = getattr(error, "response", error)
    return patience.is_transient(error) and asked.request.url.path.endswith(_ASKED_ONCE)
