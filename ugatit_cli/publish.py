"""What `ugatit push` publishes: a model folder with a card and samples, made of a model or a run."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from ugatit_cli.checkpoint import (
    CARD_FILE,
    CONFIG_FILE,
    DISCRIMINATORS_FILE,
    GENERATORS_FILE,
    MODEL_FILES,
    SAMPLES_FILE,
    ModelFolder,
    open_model,
)
from ugatit_cli.durable import reported
from ugatit_cli.encoding import encode
from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.images import from_pil, read_picture
from ugatit_cli.model_card import (
    CONTROLS,
    Facts,
    Training,
    escaped,
    licence_of,
    model_card,
    summary,
    training_data,
)
from ugatit_cli.run_folder import RUN_FILE, RunFolder
from ugatit_cli.tensor_files import open_tensors
from ugatit_cli.training.settings import Settings
from ugatit_cli.weights import hub
from ugatit_cli.weights.hub import HubId, Listener
from ugatit_cli.weights.manifest import Entry, FileRecord
from ugatit_cli.weights.transfer import digest_of

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
