"""What `ugatit fetch` is asked for: from a name to a model folder, whatever its source."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.weights import hub_cache, hub_models, imports
from ugatit_cli.weights.folder import GENERATORS_FILE, ModelFolder, check_target, copy_model, open_model
from ugatit_cli.weights.home import BUNDLED, store_path
from ugatit_cli.weights.hub import HubId, Listener, RemoteFile, parse_hub_id
from ugatit_cli.weights.hub_cache import Records
from ugatit_cli.weights.manifest import Entry, read_manifest
from ugatit_cli.weights.store import not_found
from ugatit_cli.weights.transfer import digest_of


@dataclass(frozen=True)
class Request:
    """What the user wants.

    Attributes:
        name: a manifest's name or a Hub id.
        folder: write a model folder there instead of keeping it in the cache or store.
        force: download it again.
        source: take it from there instead of a network.
    """

    name: str
    folder: Path | None = None
    force: bool = False
    source: Path | None = None


@dataclass(frozen=True)
class PlannedFile:
    """A file that would be fetched: its size in bytes if known, and whether it is here."""

    name: str
    size: int | None
    here: bool


@dataclass(frozen=True)
class Plan:
    """What fetching would do."""

    files: tuple[PlannedFile, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def to_download(self) -> int:
        """Bytes, as far as they are known."""
        return sum(file.size or 0 for file in self.files if not file.here)


def run(request: Request, listener: Listener) -> ModelFolder:
    """Fetches a model.

    Raises:
        UsageError: options that don't go with this model.
        ModelError: there is none of that name, it can't be fetched, or isn't what it should be.
        OutputError: it can't be written.
    """
    folder = request.folder.expanduser() if request.folder is not None else None
    if folder is not None:
        check_target(folder, overwrite=request.force, option="--force")
    wanted = _named(request.name)
    if request.source is not None:
        return _from_file(wanted, request.source.expanduser(), folder, listener, force=request.force)
    if isinstance(wanted, HubId):
        model = hub_models.fetch_model(hub_models.Wanted(wanted), listener, force=request.force)
    elif wanted.source == "import":
        return _import(wanted, folder, listener, force=request.force)
    elif wanted.source == "bundled":
        listener.note(f"{wanted.name} comes with the package")
        model = open_model(BUNDLED / wanted.name)
    else:
        model = hub_models.fetch_model(hub_models.wanted_by(wanted), listener, force=request.force)
        if store_path_exists(wanted.name):
            listener.note(
                f"note: your store has a model {wanted.name} of its own, which wins over this one until "
                f"`ugatit models rm {wanted.name}`"
            )
    return copy_model(model, folder, overwrite=request.force, option="--force") if folder is not None else model


def _named(name: str) -> Entry | HubId:
    entry = read_manifest().get(name)
    if entry is not None:
        if entry.source == "train":
            raise ModelError(f"nobody has published weights of {name}", entry.instructions.strip())
        return entry
    identity = parse_hub_id(name)
    if identity is not None:
        return identity
    if store_path_exists(name):
        raise UsageError(f"{name} is your own: there is nothing to fetch", f"It is in {store_path(name)}.")
    raise not_found(name)


def store_path_exists(name: str) -> bool:
    """Whether the store has a model of that name."""
    try:
        return store_path(name).is_dir()
    except (UsageError, OSError):
        return False


def _import(entry: Entry, folder: Path | None, listener: Listener, *, force: bool) -> ModelFolder:
    if folder is None and not force and store_path_exists(entry.name):
        listener.note(f"{entry.name} is here already; --force fetches and converts it again")
        return open_model(store_path(entry.name))
    there = not force and folder is None
    return imports.fetch_import(entry, listener, folder=folder, force=force, unless_there=there)


def _from_file(
    wanted: Entry | HubId, source: Path, folder: Path | None, listener: Listener, *, force: bool
) -> ModelFolder:
    if isinstance(wanted, HubId) or wanted.source == "bundled":
        raise UsageError(
            f"--from-file doesn't go with {wanted if isinstance(wanted, HubId) else wanted.name}",
            "A model folder that is here needs no fetching: --model FOLDER.",
        )
    if not source.exists() and not Path(f"{source}.index").exists():
        raise ModelError(f"{source}: no such file or folder")
    if wanted.source == "import":
        known = imports.known_hashes(wanted)
        if any(known.values()):
            _check_files(_checkpoint_files(source, known), known)
        return imports.install(wanted, source, listener, folder=folder, force=force, source={"imported_by": "hand"})
    model = open_model(source)
    _check_files({name: _below(model, name) for name in wanted.files}, wanted.files)
    target = folder or store_path(wanted.name)
    model = copy_model(model, target, names=wanted.files, overwrite=force, option="--force")
    if folder is None:
        imports.keep_receipt(wanted.name, model)
    return model


def _below(model: ModelFolder, name: str) -> Path:
    """A file of a model folder.

    Raises:
        ModelError: it is a link that leads out of the folder.
    """
    path = model.weights if name == GENERATORS_FILE else model.path / name
    if not path.resolve().is_relative_to(model.path.resolve()):
        raise ModelError(f"{path}: a link that leads out of its folder", "Put the file itself there.")
    return path


def _checkpoint_files(source: Path, names: Iterable[str]) -> dict[str, Path]:
    """The files of a checkpoint on disk, by their names in the manifest."""
    from ugatit_cli.weights.tensorflow import checkpoint_prefix

    prefix = checkpoint_prefix(source)
    return {name: Path(f"{prefix}{name[name.rindex('.') :]}") for name in names}


def _check_files(paths: dict[str, Path], records: Records) -> None:
    """Whether files are what the manifest says.

    Raises:
        ModelError: one isn't, or can't be read.
    """
    for name, path in paths.items():
        record = records[name]
        if record is None:
            continue
        try:
            digest = digest_of(path)
        except OSError as error:
            raise ModelError(f"{path}: can't be read: {error.strerror}") from None
        if (digest.size, digest.sha256) != (record.size, record.sha256):
            raise ModelError(
                f"{path}: expected {record.size:,} bytes with sha256 {record.sha256}, found {digest.size:,} with "
                f"{digest.sha256}",
                "It is damaged, or another model. Nothing was changed.",
            )


def plan(request: Request, listener: Listener) -> Plan:
    """What `run` would download. Raises the same errors."""
    wanted = _named(request.name)
    if request.folder is not None:
        check_target(request.folder.expanduser(), overwrite=request.force, option="--force")
    if isinstance(wanted, Entry) and wanted.source == "bundled":
        files = tuple(
            PlannedFile(name, record.size if record else None, here=True) for name, record in wanted.files.items()
        )
        return Plan(files, (f"{wanted.name} comes with the package",))
    if isinstance(wanted, Entry) and wanted.source == "import":
        return _plan_import(wanted, listener, force=request.force)
    fetched = hub_models.Wanted(wanted) if isinstance(wanted, HubId) else hub_models.wanted_by(wanted)
    return Plan(_planned(hub_models.locate_model(fetched, listener).values(), force=request.force))


def _plan_import(entry: Entry, listener: Listener, *, force: bool) -> Plan:
    if store_path_exists(entry.name) and not force:
        return Plan((), (f"{entry.name} is here already, in {store_path(entry.name)}",))
    remotes = imports.locate_checkpoint(entry, listener)
    return Plan(_planned(remotes.values(), force=force), (f"then converted to {store_path(entry.name)}",))


def _planned(remotes: Collection[RemoteFile], *, force: bool) -> tuple[PlannedFile, ...]:
    return tuple(
        PlannedFile(remote.name, remote.size, hub_cache.on_disk(remote) is not None and not force)
        for remote in remotes
    )
