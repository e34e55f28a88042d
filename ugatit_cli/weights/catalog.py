"""What `--model NAME` means, and all models that this machine knows of: listed, shown, checked and removed.

Nothing here asks a network, or needs torch unless a model seems damaged.
"""
# ruff: noqa: PTH110, PTH112, PTH113

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from ugatit_cli.config import ModelConfig
from ugatit_cli.errors import ConfigError, ModelError, OutputError, UsageError
from ugatit_cli.fields import read_table
from ugatit_cli.files import hidden, reported, sync_folder
from ugatit_cli.weights import home, hub_download
from ugatit_cli.weights.home import (
    BUNDLED,
    Receipt,
    holds_model,
    store_folder,
    store_path,
    stored_models,
)
from ugatit_cli.weights.hub import NEWEST, HubId, Listener, Logged, parse_hub_id
from ugatit_cli.weights.hub_download import Stamp
from ugatit_cli.weights.manifest import MODEL_FILES, MODEL_NAME, Entry, SourceName, read_manifest

if TYPE_CHECKING:
    from huggingface_hub import DeleteCacheStrategy


State = Literal["ready", "not fetched", "no weights", "damaged"]
Kind = SourceName | Literal["store", "folder"]

CONFIG_FILE, _, _, CARD_FILE, _ = MODEL_FILES


# --- Names ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """What a name stands for; nothing of it has been opened.

    Attributes:
        name: as it was given.
        kind: where the model is taken from: the user's store, the manifest's entry, a folder, or a Hub id.
        path: where it is: in the store, in the package, or a folder of the user's; None: it may have to be fetched.
        origin: where it can be fetched from, even if `path` wins: the manifest's entry of this name, or the
            repository of which the name is the id.
    """

    name: str
    kind: Kind
    path: Path | None
    origin: Entry | HubId | None


def resolve(name: str) -> Source:
    """What a name, path or Hub id stands for, here or not: the same for using, showing, fetching and removing it.

    Names win over folders of the same name, unless nothing but that folder has such a model; folders win over Hub
    ids. `./NAME` is always a folder.

    Raises:
        UsageError: an empty name.
        ModelError: it stands for nothing (says where it looked), or a manifest has mistakes.
    """
    if not name:  # a path would be the working folder
        raise UsageError("the model has no name", "Name one: `ugatit models` lists them.")
    path, origin = Path(name).expanduser(), None
    if MODEL_NAME.fullmatch(name):
        origin = read_manifest().get(name)
        named = _named(name, origin)
        if named is not None and not (named.kind in ("import", "train") and holds_model(path)):
            return named
    identity = origin or parse_hub_id(name)
    if os.path.exists(path):
        return Source(name, "folder", path, identity)
    if identity is None:
        raise not_found(name)
    return Source(name, "hub", None, identity)


def _named(name: str, entry: Entry | None) -> Source | None:
    """A model of the store, or else of the manifest."""
    if os.path.isdir(store_path(name)):
        return Source(name, "store", store_path(name), entry)
    if entry is None:
        return None
    return Source(name, entry.source, BUNDLED / name if entry.source == "bundled" else None, entry)


def not_found(name: str) -> ModelError:
    """The error for a name that nothing has: where it was looked for, and what comes near."""
    near = nearest(name)
    suggestion = f"Did you mean {near}? " if near else ""
    return ModelError(
        f"no model {name!r}: no such folder, nothing of that name in {store_folder()}, not in the manifest",
        f"{suggestion}Known models: {', '.join(known_models())}. `ugatit models` tells more; those on the Hub are "
        "OWNER/NAME.",
    )


def no_weights(entry: Entry) -> ModelError:
    """The error for a model that nobody has published: says how to train it."""
    return ModelError(f"nobody has published weights of {entry.name}", entry.instructions.strip())


def known_models() -> list[str]:
    """Names that are in the manifest or in the store."""
    return sorted({*read_manifest(), *stored_models()})


def fetched_models() -> list[Receipt]:
    """What was fetched from the Hub as a model; not what is in the store, or an official checkpoint."""
    return [receipt for receipt in home.load_all() if CONFIG_FILE in receipt.files and "/" in receipt.key]


def nearest(name: str) -> str:
    """The known name, or id of a fetched model, that is most like this one as a whole or in a part; empty if none."""
    names = [*(receipt.key for receipt in fetched_models()), *known_models()]
    parts = {part: key for key in names for part in (*key.partition("@")[0].split("/"), key)}
    return next((parts[near] for near in difflib.get_close_matches(name, parts, n=1)), "")


def checkpoint_key(entry: Entry) -> str:
    """The name of the receipt of an official checkpoint."""
    index = next(name for name in entry.files if name.endswith(".index"))
    return f"{HubId(entry.repository, entry.revision or NEWEST)}/{index}"


# --- What is known of a model --------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """One model that a name, a Hub id or a path stands for, here or not.

    Attributes:
        name: what `--model` takes.
        kind: where `--model` would take it from now; `import` and `train` are not here yet.
        state: `ready` says that all files are there and open, not that their hashes were compared.
        problem: what is damaged.
        entry: what the manifest says of it; None if nothing, or if it is about other weights than these.
        receipt: what was recorded when it was fetched or installed; the store may have moved since.
        folder: where it is.
        files: those of its files that are there.
        config, provenance: what its `config.json` says, if it is there and whole.
    """

    name: str
    kind: Kind
    state: State = "not fetched"
    problem: str = ""
    entry: Entry | None = None
    receipt: Receipt | None = None
    folder: Path | None = None
    files: tuple[str, ...] = ()
    config: ModelConfig | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def domains(self) -> tuple[str, str] | None:
        """Names of domains A and B, if known."""
        if self.config is not None:
            return self.config.domain_a, self.config.domain_b
        return self.entry.domains if self.entry is not None else None

    @property
    def image_size(self) -> int | None:
        """Training size in pixels, if known."""
        return next((one.image_size for one in (self.config, self.entry) if one is not None), None)

    @property
    def size(self) -> int | None:
        """Bytes on disk if it is here, else bytes to download if known."""
        if self.folder is not None:
            return sum(size_of(self.folder / name) for name in self.files)
        if self.entry is not None:
            return self.entry.download_size
        return sum(stamp.size for stamp in self.receipt.files.values()) if self.receipt is not None else None

    @property
    def hub(self) -> HubId | None:
        """The repository it comes from, at the revision that was asked for."""
        if self.kind == "hub" and self.receipt is not None:
            return parse_hub_id(self.receipt.key)
        if self.kind in ("store", "folder"):
            repository, commit = self.provenance.get("repository"), self.provenance.get("commit")
            return parse_hub_id(f"{repository}@{commit}" if commit else f"{repository}")
        if self.entry is not None and self.entry.repository:
            return HubId(self.entry.repository, self.entry.revision or NEWEST)
        return None

    @property
    def commit(self) -> str:
        """The commit that its files are of; empty if it is of none."""
        if self.kind == "hub":
            return self.receipt.commit if self.receipt is not None else ""
        commit = self.provenance.get("commit", "")
        return commit if isinstance(commit, str) else ""

    def fact(self, key: Literal["description", "licence", "training_data"]) -> str | None:
        """What the manifest, or else the model itself, says; None if neither does."""
        if self.entry is not None:
            return str(getattr(self.entry, key))
        value = self.provenance.get(key)
        if key == "licence" and value is None and self.folder is not None:
            value = _licence_on_card(self.folder / CARD_FILE)
        return value if isinstance(value, str) else None

    @property
    def recorded(self) -> dict[str, Stamp]:
        """What its files were, or are to be, by the receipt or else the manifest."""
        if self.receipt is not None:
            return dict(self.receipt.files)
        if self.entry is None or self.entry.source == "import":
            return {}
        return {name: Stamp(one.size, one.sha256, 0) for name, one in self.entry.files.items() if one is not None}

    @property
    def next_step(self) -> tuple[str, str]:
        """What to do with it now: in words, and as a command; both empty if only its instructions tell."""
        name = shlex.quote(self.name)
        if self.state == "ready":
            return "Translate with", f"ugatit translate PICTURES --model {name} -o out/"
        if self.kind == "bundled":
            return "Install it again, in a checkout", "pip install --force-reinstall --no-deps ."
        if self.kind == "hub" or (self.entry is not None and self.entry.repository):
            if self.folder is not None:
                return "Fetch it again", f"ugatit fetch {name} --force"
            return "Fetch it", f"ugatit fetch {name}"
        if self.kind == "store":
            return "Put it there again (ugatit convert ... --overwrite), or remove it", f"ugatit models rm {name}"
        return "", ""


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if it can't be seen."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _licence_on_card(path: Path) -> str | None:
    """The licence in the metadata at the top of a model card."""
    try:
        with path.open(encoding="utf-8") as file:
            top = re.match(r"---\s*\n(.*?\n)---", file.read(1 << 16), re.DOTALL)
    except (OSError, ValueError):
        return None
    found = re.search(r"^license:[ \t]*(\S.*?)\s*$", top[1], re.MULTILINE) if top is not None else None
    return found[1].strip("'\"") if found is not None else None


def absent(known: Known) -> ModelError:
    """The error for a model that is not here, with the way to get it."""
    if known.kind == "train" and known.entry is not None:
        return no_weights(known.entry)
    words, command = known.next_step
    instructions = known.entry.instructions.strip() if known.entry is not None else ""
    return ModelError(f"{known.name} is not on this machine", f"{words}: {command}" if command else instructions)


def catalog() -> list[Known]:
    """All models: those of the manifest in its order, others in the store, others fetched from the Hub.

    Raises:
        ModelError: a manifest can't be read, or has mistakes.
    """
    entries = read_manifest()
    others = sorted(set(stored_models()) - set(entries))
    sources = (_named(name, entries.get(name)) for name in [*entries, *others])
    listed = [_described(source) for source in sources if source is not None]
    covered = {one.receipt.key for one in listed if one.receipt is not None}
    return listed + [_from_hub(one.key, one) for one in fetched_models() if one.key not in covered]


def known(name: str) -> Known:
    """What `--model NAME` would take, without fetching anything.

    Raises:
        ModelError: nothing of that name, or no model at that path.
        UsageError: an empty name.
    """
    return _described(resolve(name))


def _described(source: Source) -> Known:
    name, origin = source.name, source.origin
    entry = origin if isinstance(origin, Entry) else None
    if source.kind == "folder" and source.path is not None:
        return _at(name, source.path)
    if source.kind == "store":
        # Other entries are about other weights than those that a user has put there under their name.
        own = entry if entry is not None and entry.source == "import" else None
        return _here(Known(name, "store", entry=own, receipt=home.load(name), folder=source.path))
    if source.kind == "bundled":
        return _here(Known(name, "bundled", entry=entry, folder=source.path))
    if source.kind == "hub" and entry is not None:
        return _from_hub(name, home.load(str(HubId(entry.repository, entry.revision))), entry)
    if source.kind == "hub":
        receipt = next((one for one in fetched_models() if one.key == str(origin)), None)
        if receipt is not None:
            return _from_hub(str(origin), receipt)
        near = nearest(name)
        raise ModelError(
            f"no folder {name} here, and nothing fetched from the Hub as {origin}",
            (f"Did you mean {near}? If not, fetch it" if near else "Fetch it") + f": ugatit fetch {origin}",
        )
    return Known(name, source.kind, "no weights" if source.kind == "train" else "not fetched", entry=entry)


def _from_hub(name: str, receipt: Receipt | None, entry: Entry | None = None) -> Known:
    found = Known(name, "hub", entry=entry, receipt=receipt)
    if receipt is None or not any(os.path.isfile(receipt.folder / file) for file in receipt.files):
        return found  # nothing but a record is left, as after emptying the Hub's cache
    return _here(dataclasses.replace(found, folder=receipt.folder))


def _at(name: str, path: Path) -> Known:
    """A model folder, a run folder, or a file of weights with its config beside it."""
    folder = path.parent if path.is_file() else path
    if path.is_dir() and os.path.isfile(path / "model" / CONFIG_FILE):
        folder = path / "model"
    if path.is_file() or not os.path.isfile(folder / CONFIG_FILE):
        from ugatit_cli.weights.folder import open_model

        model = open_model(path)
        files = [one for one in (model.weights, model.discriminators) if one is not None]
        return _here(Known(name, "folder", folder=model.path), (CONFIG_FILE, *(one.name for one in files)))
    return _here(Known(name, "folder", folder=folder))


def _here(known: Known, files: Iterable[str] = MODEL_FILES) -> Known:
    """With all that its folder tells."""
    folder = known.folder or Path()
    there = tuple(name for name in files if os.path.isfile(folder / name))
    config, provenance, problem = _look(folder, there)
    # `translate` never takes one of these whose files have changed, but lets users change those of their store.
    if known.kind in ("bundled", "hub"):
        problem = _wrong_sizes(folder, known.recorded) or problem
    state: State = "damaged" if problem else "ready"
    return dataclasses.replace(known, state=state, problem=problem, files=there, config=config, provenance=provenance)


def _look(folder: Path, files: Iterable[str]) -> tuple[ModelConfig | None, dict[str, Any], str]:
    """Config, provenance, and what is wrong. Opens all files, without torch as long as nothing seems wrong."""
    from safetensors import SafetensorError, safe_open

    config: ModelConfig | None = None
    provenance: dict[str, Any] = {}
    weights = [name for name in files if name.endswith(".safetensors")]
    try:
        document = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        config, provenance = read_table(ModelConfig, document["model"]), dict(document.get("provenance", {}))
        for name in weights:
            with safe_open(folder / name, framework="numpy"):
                pass
        whole = document["format"] == 1 and bool(weights)
    except (OSError, ValueError, TypeError, KeyError, RecursionError, ConfigError, SafetensorError):
        whole = False
    return config, provenance, "" if whole else _opening_problem(folder)


def _opening_problem(path: Path) -> str:
    """Why a model can't be opened; empty if it can. Compares every tensor with the config."""
    from ugatit_cli.weights.folder import open_model

    try:
        open_model(path)
    except ModelError as error:
        return error.message
    return ""


def _wrong_sizes(folder: Path, recorded: Mapping[str, Stamp]) -> str:
    missing = [name for name in recorded if not os.path.isfile(folder / name)]
    if missing:
        return f"{folder}: missing: {', '.join(missing)}"
    return "\n".join(
        f"{folder / name}: {size:,} bytes, {stamp.size:,} were recorded"
        for name, stamp in recorded.items()
        if (size := size_of(folder / name)) != stamp.size
    )


def checkpoint_of(known: Known) -> Receipt | None:
    """The official checkpoint of an `import` entry, if it is still in the Hub's cache."""
    if known.entry is None or known.entry.source != "import" or not known.entry.repository:
        return None
    receipt = home.load(checkpoint_key(known.entry))
    return receipt if receipt is not None and os.path.isdir(receipt.folder) else None


# --- Whether it is as it was ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What became of a check.

    Attributes:
        known: the model, whose state and problem now say what was found.
        damage: a line for each thing that is wrong; empty if all is well.
        checked: files whose hashes were compared.
        unknown: files whose hashes nobody has recorded.
    """

    known: Known
    damage: tuple[str, ...]
    checked: tuple[str, ...]
    unknown: tuple[str, ...]


def verify(known: Known) -> Verdict:
    """Reads all files of a model again, compares their hashes with those that are recorded, and opens it.

    Raises:
        ModelError: it is not here.
    """
    if known.folder is None:
        raise absent(known)
    recorded = known.recorded
    damage = Receipt(known.name, known.folder, recorded).damage()
    if known.kind == "hub" and known.entry is not None:
        for name, record in known.entry.files.items():
            if name not in recorded:
                damage.append(f"{name}: in the manifest, but not fetched")
            elif record is not None and record.sha256 != recorded[name].sha256:
                found = recorded[name].sha256
                damage.append(f"{name}: expected sha256 {record.sha256} (the manifest), found {found}")
    if not damage:
        weights = next((name for name in known.files if name.endswith(".safetensors")), "")
        # A file of weights may have any name; a folder's is found by `open_model`.
        path = known.folder if weights in (*MODEL_FILES, "") else known.folder / weights
        damage = [line for line in (_opening_problem(path),) if line]
    unknown = tuple(name for name in known.files if name not in recorded)
    state: State = "damaged" if damage else "ready"
    known = dataclasses.replace(known, state=state, problem="\n".join(damage))
    return Verdict(known, tuple(damage), tuple(recorded), unknown)


# --- Removal -------------------------------------------------------------------------------------------

REMOVED: Final = ".removed"


@dataclass(frozen=True)
class Removal:
    """What removing a model means.

    Attributes:
        stored: its folder in the store, if it has one.
        fetched: what goes from the Hub's cache: the model, or the official checkpoint it was made of.
        size: bytes that get free.
        also: names under which the same files of the cache are known.
        only_copy: whether nothing is known of where it could be got again.
    """

    known: Known
    stored: Path | None
    fetched: Receipt | None
    size: int
    also: tuple[str, ...]
    only_copy: bool

    @property
    def places(self) -> list[Path]:
        """The folders that go."""
        there = (self.stored, self.fetched.folder if self.fetched is not None else None)
        return [path for path in there if path is not None and path.is_dir()]


def removal(known: Known) -> Removal:
    """What `remove` would do; changes nothing.

    Raises:
        UsageError: it isn't ugatit's to remove: a bundled model, or a folder of the user's.
        ModelError: it is not here.
    """
    if known.kind == "bundled":
        raise UsageError(f"{known.name} comes with the package", "It goes with: pip uninstall ugatit-cli")
    if known.kind == "folder":
        raise UsageError(
            f"{known.name} is a folder of your own, neither in the store nor fetched",
            "Remove it as any other folder.",
        )
    stored = known.folder if known.kind == "store" else None
    fetched = known.receipt if known.kind == "hub" else checkpoint_of(known)
    if stored is None and fetched is None:
        raise absent(known)
    # Somebody's link into the store goes; what it leads to stays.
    gone = set(stored.rglob("*")) if stored is not None and not stored.is_symlink() else set()
    also: tuple[str, ...] = ()
    if fetched is not None:
        gone |= _own_blobs(fetched.folder)
        also = tuple(one.key for one in _same_files(fetched) if one.key != fetched.key)
    size = sum(size_of(path) for path in gone if path.is_file())
    return Removal(known, stored, fetched, size, also, stored is not None and known.hub is None)


def remove(planned: Removal, listener: Listener | None = None) -> int:
    """Removes a model; killed in between, it is there, or damaged and removed by the next call.

    Returns:
        Bytes that are free now.

    Raises:
        OutputError: something can't be removed.
    """
    if planned.stored is not None:
        _remove_stored(planned.known.name, planned.stored)
    if planned.fetched is not None:
        with hub_download.locked(planned.fetched.repository, listener or Logged()):
            _remove_fetched(planned.fetched)
            # Last: until then it is known what is to be removed.
            for receipt in _same_files(planned.fetched):
                home.remove(receipt.key)
    return planned.size


def _remove_stored(name: str, folder: Path) -> None:
    retired = hidden(folder).with_suffix(REMOVED)
    with reported(folder):
        # At once: a name of the store stands for a whole model, or for none.
        folder.rename(retired)
        sync_folder(folder.parent)
    home.remove(name)
    with reported(retired):
        retired.unlink() if retired.is_symlink() else shutil.rmtree(retired)
    # What an earlier, killed removal has left goes, too.
    for path in store_folder().glob(f".*{REMOVED}"):
        shutil.rmtree(path, ignore_errors=True)


def _same_files(receipt: Receipt) -> list[Receipt]:
    """All receipts of the same commit, this one among them: a branch, its commit, a checkpoint in it."""
    return [one for one in home.load_all() if one.folder == receipt.folder]


def _own_blobs(snapshot: Path) -> set[Path]:
    """Files of one commit that no other commit in the cache has."""
    blobs: dict[Path, set[Path]] = {}
    for commit in snapshot.parent.glob("*"):
        blobs[commit] = {path.resolve() for path in commit.rglob("*") if path.is_file()}
    return blobs.pop(snapshot, set()).difference(*blobs.values())


def _remove_fetched(receipt: Receipt) -> None:
    snapshot = receipt.folder
    with reported(snapshot):
        if not os.path.lexists(snapshot):
            return
        # With one of them, `huggingface_hub` takes the whole repository for damaged, and removes nothing.
        for path in snapshot.rglob("*"):
            if path.is_symlink() and not path.exists():
                path.unlink()
    strategy = _strategy(receipt)
    if strategy is not None:
        strategy.execute()
    if snapshot.is_dir():
        raise OutputError(f"{snapshot}: can't be removed", "Check its permissions, or remove it by hand.")


def _strategy(receipt: Receipt) -> DeleteCacheStrategy | None:
    """How `huggingface_hub` removes one commit of one repository; None if it doesn't find it."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    snapshot = receipt.folder
    if snapshot.parent.name != "snapshots" or snapshot.name != receipt.commit:
        return None
    try:
        cache = scan_cache_dir(snapshot.parents[2])
    except (CacheNotFound, ValueError):
        return None
    # It looks for commits in all repositories, and copies of a repository share theirs.
    repositories = frozenset(one for one in cache.repos if one.repo_path == snapshot.parents[1].resolve())
    found = {revision.commit_hash for one in repositories for revision in one.revisions}
    if receipt.commit not in found:
        return None
    return dataclasses.replace(cache, repos=repositories).delete_revisions(receipt.commit)
