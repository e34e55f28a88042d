"""What `--model NAME` means, and all models that this machine knows of: listed, shown, checked and removed.

Nothing here asks a network, or needs torch unless a model seems damaged.
"""
# ruff: noqa: PTH110, PTH112, PTH113

from __future__ import annotations

import contextlib
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
from typing import Any, Final, Literal

from ugatit_cli.config import BaseConfig
from ugatit_cli.errors import ModelError, OutputError, UsageError
from ugatit_cli.files import expanded, read_file, reported, retire
from ugatit_cli.leftovers import discard, put_back, sweep
from ugatit_cli.methods.registry import read_networks
from ugatit_cli.weights import home, hub_download
from ugatit_cli.weights.hashes import Record, check_hash, check_pin, digest_of, hashes_of, read_sums, split_pin
from ugatit_cli.weights.home import BUNDLED, Receipt, holds_model, store_folder, store_path, stored_models
from ugatit_cli.weights.hub import NEWEST, HubId, Listener, Logged, cache_folder, parse_hub_id
from ugatit_cli.weights.hub_download import Stamp
from ugatit_cli.weights.kinds import check_tensors
from ugatit_cli.weights.manifest import (
    HASHED_FILES,
    MODEL_FILES,
    MODEL_NAME,
    BrokenManifest,
    Entry,
    SourceName,
    read_manifest,
)

State = Literal["ready", "not fetched", "no weights", "damaged"]
Kind = SourceName | Literal["store", "folder"]

CONFIG_FILE, _, _, CARD_FILE, _ = MODEL_FILES
REINSTALL: Final = "pip install --force-reinstall --no-deps ."
_FRONT: Final = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)


# --- Names ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """What a name stands for; nothing of it has been opened.

    Attributes:
        name: without the pin.
        path: a folder in the store, in the package, or of the user's; None: it may have to be fetched.
        origin: where it can be fetched from, even if `path` wins: the manifest's entry, or the Hub id that it is.
        pin: the SHA-256 that it must have, see `hashes.digest_of`; empty: any.
    """

    name: str
    kind: Kind
    path: Path | None
    origin: Entry | HubId | None
    pin: str = ""


def resolve(name: str, listener: Listener | None = None) -> Source:
    """What a name, path or Hub id stands for, here or not: the same for using, showing, fetching and removing it.

    Names win over folders of the same name, unless nothing but that folder has such a model; folders win over Hub
    ids. `./NAME` is always a folder. Any of them may be pinned: `MODEL@sha256:HEX`.

    Args:
        listener: told of mistakes in the user's manifest that don't matter here.

    Raises:
        UsageError: an empty name, a pin that is no SHA-256, or a revision of a model that has none.
        ModelError: it stands for nothing (says where it looked), or a manifest that says what has mistakes.
    """
    model, pin = split_pin(name)
    return dataclasses.replace(_resolve(model, listener), pin=pin)


def _resolve(name: str, listener: Listener | None) -> Source:
    if not name:  # a path would be the working folder
        raise UsageError("the model has no name", "Name one: `ugatit models` lists them.")
    path, entry = expanded(name), None
    put_back(path)
    if MODEL_NAME.fullmatch(name):
        entry = _entries(listener, None if os.path.isdir(store_path(name)) else name).get(name)
        named = _named(name, entry)
        if named is not None and not (named.kind in ("import", "train") and holds_model(path)):
            return named
    origin = entry or parse_hub_id(name)
    if os.path.exists(path):
        return Source(name, "folder", path, origin)
    _check_revision(name)
    if origin is not None:
        return Source(name, "hub", None, origin)
    suggestion = f"Did you mean {near}? " if (near := nearest(name)) else ""
    raise ModelError(
        f"no model {name!r}: no such folder, nothing of that name in {store_folder()}, not in the manifest",
        f"{suggestion}Known models: {', '.join(known_models())}. `ugatit models` tells more; those on the Hub are "
        "OWNER/NAME.",
    )


def _entries(listener: Listener | None, wanted: str | None = None) -> dict[str, Entry]:
    """Of the manifests; without the user's where that has mistakes and says nothing of the name that is wanted."""
    try:
        return read_manifest()
    except BrokenManifest as error:
        if wanted is not None and error.mentions(wanted):
            raise
        (listener or Logged()).note(f"the manifest is left out: {error.message}")
        return error.entries


def _check_revision(name: str) -> None:
    """Whether what is no Hub id was given a revision, or a Hub id that of a folder here."""
    model, _, revision = name.rpartition("@")
    named = MODEL_NAME.fullmatch(model) and model in known_models()
    if model and (named or os.path.exists(expanded(model))):
        raise UsageError(
            f"{name}: {model} has no revisions such as {revision!r}",
            f"Pin it by its digest, which `ugatit models show {shlex.quote(model)}` tells: {model}@sha256:DIGEST. "
            "For a repository of that name on the Hub, be in another folder.",
        )


def _named(name: str, entry: Entry | None) -> Source | None:
    """A model of the store, or else of the manifest."""
    put_back(store_path(name))
    if os.path.isdir(store_path(name)):
        return Source(name, "store", store_path(name), entry)
    if entry is None:
        return None
    return Source(name, entry.source, BUNDLED / name if entry.source == "bundled" else None, entry)


def no_weights(entry: Entry) -> ModelError:
    """The error for a model that nobody has published: says how to train it."""
    return ModelError(f"nobody has published weights of {entry.name}", entry.instructions.strip())


def known_models() -> list[str]:
    """Names that are in the manifest or in the store."""
    return sorted({*_entries(None), *stored_models()})


def fetched_models() -> list[Receipt]:
    """What was fetched from the Hub as a model; not what is in the store, or an official checkpoint."""
    return [receipt for receipt in home.load_all() if CONFIG_FILE in receipt.files and "/" in receipt.key]


def nearest(name: str) -> str:
    """The known name, or id of a fetched model, that is most like this one as a whole or in a part; empty if none."""
    names = [*(receipt.key for receipt in fetched_models()), *known_models()]
    parts = {part: key for key in names for part in (*key.partition("@")[0].split("/"), key)}
    return next((parts[near] for near in difflib.get_close_matches(name, parts, n=1)), "")


def hub_of(entry: Entry) -> HubId:
    """The repository of an entry that has one, at the commit it is pinned to if it is."""
    return HubId(entry.repository, entry.revision or NEWEST)


def checkpoint_key(entry: Entry) -> str:
    """The name of the receipt of an official checkpoint."""
    return f"{hub_of(entry)}/{next(name for name in entry.files if name.endswith('.index'))}"


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
        folder, files: where it is, and those of its files that are there.
        sums: what its `SHA256SUMS` says; None if it has none, or another record is binding.
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
    config: BaseConfig | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    sums: Record | None = None

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
        return hub_of(self.entry) if self.entry is not None and self.entry.repository else None

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
            with contextlib.suppress(OSError, ValueError):
                value = licence_of(read_file(self.folder / CARD_FILE).decode()[: 1 << 16]) or None
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
    def hashes(self) -> dict[str, str]:
        """What its files were, or are to be, as its `SHA256SUMS` says, or else `recorded`: SHA-256 by name."""
        if self.sums is not None:
            return dict(self.sums.hashes)
        return {name: stamp.sha256 for name, stamp in self.recorded.items()}

    @property
    def parts(self) -> list[str]:
        """Its config and weights: the files that make a difference, and that its digest stands for."""
        names = self.files if self.folder is not None else tuple(self.hashes)
        return [name for name in names if name == CONFIG_FILE or name.endswith(".safetensors")]

    @property
    def unverifiable(self) -> list[str]:
        """Those of its parts that are here without anybody having recorded their hashes."""
        return [name for name in self.parts if self.folder is not None and name not in self.hashes]

    def digest(self) -> str:
        """What it can be pinned by: of the recorded hashes, or of the files where there are none; empty if unknown.

        Raises:
            ModelError: a file can't be read.
        """
        hashes = {name: sha256 for name, sha256 in self.hashes.items() if name in self.parts}
        if self.folder is not None:
            hashes = hashes_of(self.folder, self.parts, Record(hashes, ""))
        return digest_of(hashes) if CONFIG_FILE in hashes and len(hashes) > 1 else ""

    @property
    def next_step(self) -> tuple[str, str]:
        """What to do with it now: in words, and as a command; both empty if only its instructions tell."""
        name = shlex.quote(self.name)
        if self.state == "ready":
            return "Translate with", f"ugatit translate PICTURES --model {name} -o out/"
        if self.kind == "bundled":
            return "Install it again, in a checkout", REINSTALL
        if self.kind == "hub" or (self.entry is not None and self.entry.repository):
            again = self.folder is not None
            return "Fetch it again" if again else "Fetch it", f"ugatit fetch {name}{' --force' if again else ''}"
        if self.kind == "store":
            return "Put it there again (ugatit convert ... --overwrite), or remove it", f"ugatit models rm {name}"
        return "", ""


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if it can't be seen."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def split_card(card: str) -> tuple[str, str]:
    """The metadata of a model card, in YAML, and its Markdown."""
    text = card.removeprefix("\ufeff").replace("\r\n", "\n")
    front = _FRONT.match(text)
    return (front[1], text[front.end() :]) if front is not None else ("", text)


def licence_of(card: str) -> str:
    """The licence in the metadata of a model card, on one line; empty if it states none."""
    import yaml

    try:
        metadata = yaml.safe_load(split_card(card)[0])
    except (yaml.YAMLError, ValueError, RecursionError):
        return ""
    licence = metadata.get("license") if isinstance(metadata, dict) else None
    return " ".join(licence.split()) if isinstance(licence, str) else ""


def absent(known: Known) -> ModelError:
    """The error for a model that is not here, with the way to get it."""
    if known.kind == "train" and known.entry is not None:
        return no_weights(known.entry)
    words, command = known.next_step
    instructions = known.entry.instructions.strip() if known.entry is not None else ""
    return ModelError(f"{known.name} is not on this machine", f"{words}: {command}" if command else instructions)


def catalog(listener: Listener | None = None) -> list[Known]:
    """All models: those of the manifest in its order, others in the store, others fetched from the Hub.

    Args:
        listener: told of mistakes in the user's manifest, which is left out then.

    Raises:
        ModelError: the package's manifest can't be read, or has mistakes.
    """
    entries = _entries(listener)
    others = sorted(set(stored_models()) - set(entries))
    sources = (_named(name, entries.get(name)) for name in [*entries, *others])
    listed = [_described(source) for source in sources if source is not None]
    covered = {one.receipt.key for one in listed if one.receipt is not None}
    return listed + [_from_hub(one.key, one) for one in fetched_models() if one.key not in covered]


def known(name: str, listener: Listener | None = None) -> Known:
    """What `--model NAME` would take, without fetching anything; see `resolve`.

    Raises:
        ModelError: nothing of that name, no model at that path, or not the pinned one.
        UsageError: as `resolve`.
    """
    source = resolve(name, listener)
    found = _described(source)
    if source.pin and found.folder is not None:
        check_pin(source.name, source.pin, found.digest())
    return found


def _described(source: Source) -> Known:
    name, path, origin = source.name, source.path, source.origin
    entry = origin if isinstance(origin, Entry) else None
    match source.kind:
        case "folder" if path is not None:
            return _at(name, path)
        case "store":
            # Other entries are about other weights than those that a user has put there under their name.
            own = entry if entry is not None and entry.source == "import" else None
            return _here(Known(name, "store", entry=own, receipt=home.load(name), folder=path))
        case "bundled":
            return _here(Known(name, "bundled", entry=entry, folder=path))
        case "hub" if entry is not None:
            return _from_hub(name, home.load(str(hub_of(entry))), entry)
        case "hub":
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
    folder = next((one for one in (path / "model", path) if os.path.isfile(one / CONFIG_FILE)), None)
    if folder is not None:
        return _here(Known(name, "folder", folder=folder))
    from ugatit_cli.weights.folder import open_model

    model = open_model(path)
    files = (one.name for one in (model.weights, model.discriminators) if one is not None)
    return _here(Known(name, "folder", folder=model.path), (CONFIG_FILE, *files))


def _here(known: Known, files: Iterable[str] = MODEL_FILES) -> Known:
    """With all that its folder tells; opens all files, without torch as long as nothing seems wrong."""
    from safetensors import SafetensorError, safe_open

    folder = known.folder or Path()
    known = dataclasses.replace(known, files=tuple(name for name in files if os.path.isfile(folder / name)))
    weights = [name for name in known.files if name.endswith(".safetensors")]
    try:
        document = json.loads(read_file(folder / CONFIG_FILE))
        config, provenance = read_networks(document), dict(document.get("provenance", {}))
        known = dataclasses.replace(known, config=config, provenance=provenance)
        for name in weights:
            check_tensors(folder / name)
            with safe_open(folder / name, framework="numpy"):
                pass
        whole = document["format"] in (1, 2) and bool(weights)
    except (OSError, ValueError, TypeError, KeyError, RecursionError, UsageError, SafetensorError):
        whole = False
    if known.kind in ("bundled", "hub"):
        problem = _wrong_sizes(folder, known.recorded)
    else:
        try:
            known, problem = dataclasses.replace(known, sums=read_sums(folder)), ""
        except ModelError as error:
            problem = error.message
    return _judged(known, problem or ("" if whole else _opening_problem(folder)))


def _judged(known: Known, problem: str) -> Known:
    return dataclasses.replace(known, state="damaged" if problem else "ready", problem=problem)


def _opening_problem(path: Path) -> str:
    """Why a model can't be opened; empty if it can. Compares every tensor with the config."""
    from ugatit_cli.weights.folder import open_model

    try:
        open_model(path)
    except ModelError as error:
        return error.message
    return ""


def _wrong_sizes(folder: Path, recorded: Mapping[str, Stamp]) -> str:
    if missing := [name for name in recorded if not os.path.isfile(folder / name)]:
        return f"{folder}: missing: {', '.join(missing)}"
    sizes = ((folder / name, size_of(folder / name), stamp.size) for name, stamp in recorded.items())
    wrong = (f"{path}: {size:,} bytes, {known:,} were recorded" for path, size, known in sizes if size != known)
    return "\n".join(wrong)


def checkpoint_of(known: Known) -> Receipt | None:
    """The official checkpoint of an `import` entry, if it is still in the Hub's cache."""
    if known.entry is None or known.entry.source != "import" or not known.entry.repository:
        return None
    receipt = home.load(checkpoint_key(known.entry))
    return receipt if receipt is not None and os.path.isdir(receipt.folder) else None


# --- Whether it is as it was ---------------------------------------------------------------------------


def verify(known: Known) -> Known:
    """Reads all files of a model again, compares their hashes with those that are recorded, and opens it.

    Returns:
        The model, whose problem now has a line for each thing that is wrong.

    Raises:
        ModelError: it is not here.
    """
    if known.folder is None:
        raise absent(known)
    recorded = known.recorded
    damage = _damage(known) if known.sums else Receipt(known.name, known.folder, recorded).damage()
    if known.kind == "hub" and known.entry is not None:
        for name, record in known.entry.files.items():
            if name not in recorded:
                damage.append(f"{name}: in the manifest, but not fetched")
            elif record is not None and record.sha256 != (found := recorded[name].sha256):
                damage.append(f"{name}: expected sha256 {record.sha256} (the manifest), found {found}")
    if not damage:
        # A file of weights may have any name; a folder's is found by `open_model`.
        other = next((name for name in known.files if name not in MODEL_FILES), "")
        damage = [_opening_problem(known.folder / other)]
    return _judged(known, "\n".join(damage))


def _damage(known: Known) -> list[str]:
    """Lines as those of `Receipt.damage`, of a folder with a `SHA256SUMS`."""
    folder, found, sums = known.folder or Path(), [], known.hashes
    for name in dict.fromkeys([*known.parts, *(name for name in HASHED_FILES if name in sums)]):
        if not os.path.isfile(folder / name):
            found.append(f"{folder / name}: missing")
        try:
            check_hash(folder / name)
        except ModelError as error:
            found.append(error.message)
    return found


# --- Removal -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Removal:
    """What removing a model means.

    Attributes:
        known: the model: its folder in the store goes, if it is of the store.
        fetched: what goes from the Hub's cache: the model, or the official checkpoint it was made of.
        places: the folders that go.
        size: bytes that get free.
        also: names under which the same files of the cache are known.
    """

    known: Known
    fetched: Receipt | None
    places: tuple[Path, ...]
    size: int
    also: tuple[str, ...]


def removal(known: Known) -> Removal:
    """What `remove` would do; changes nothing.

    Raises:
        UsageError: it isn't ugatit's to remove: a bundled model, or a folder of the user's.
        ModelError: it is not here.
    """
    if known.kind == "bundled":
        raise UsageError(f"{known.name} comes with the package", "It goes with: pip uninstall ugatit-cli")
    if known.kind == "folder":
        message = f"{known.name} is a folder of your own, neither in the store nor fetched"
        raise UsageError(message, "Remove it as any other folder.")
    stored = known.folder if known.kind == "store" else None
    fetched = known.receipt if known.kind == "hub" else checkpoint_of(known)
    if stored is None and fetched is None:
        raise absent(known)
    # Somebody's link into the store goes; what it leads to stays.
    gone = set(stored.rglob("*")) if stored is not None and not stored.is_symlink() else set()
    if fetched is not None:
        gone |= _own_blobs(fetched)
    places = (stored, fetched.folder if fetched is not None else None)
    return Removal(
        known,
        fetched,
        tuple(path for path in places if path is not None and path.is_dir()),
        sum(size_of(path) for path in gone if path.is_file()),
        tuple(one.key for one in _same_files(fetched) if one != fetched),
    )


def remove(planned: Removal, listener: Listener | None = None) -> int:
    """Removes a model; killed in between, it is there, or damaged and removed by the next call.

    Returns:
        Bytes that are free now.

    Raises:
        OutputError: something can't be removed.
    """
    if planned.known.kind == "store" and planned.known.folder is not None:
        _remove_stored(planned.known.name, planned.known.folder)
    if planned.fetched is not None:
        with hub_download.locked(planned.fetched.repository, listener or Logged()):
            _remove_fetched(planned.fetched)
            # Last: until then it is known what is to be removed.
            for receipt in _same_files(planned.fetched):
                home.remove(receipt.key)
    return planned.size


def _remove_stored(name: str, folder: Path) -> None:
    with reported(folder):
        retired = retire(folder)
    home.remove(name)
    discard(retired)
    if os.path.lexists(retired):
        raise OutputError(f"{retired}: can't be removed, or not all of it", "Check its permissions.")
    sweep(store_folder())


def _same_files(receipt: Receipt | None) -> list[Receipt]:
    """All receipts of the same commit, this one among them: a branch, its commit, a checkpoint in it."""
    return [one for one in home.load_all() if receipt is not None and one.folder == receipt.folder]


def _repository(receipt: Receipt) -> Path | None:
    """The folder of a repository in the Hub's cache that a receipt's folder is in; None if it is elsewhere."""
    place = (cache_folder(receipt.repository).name, "snapshots", receipt.commit)
    return receipt.folder.parents[1] if receipt.folder.parts[-3:] == place else None


def _own_blobs(receipt: Receipt) -> set[Path]:
    """Files of one commit that no other commit in the repository's cache has; never any outside of that."""
    if (repository := _repository(receipt)) is None:
        return set()
    commits = (repository / "snapshots").glob("*")
    blobs = {one: {path.resolve() for path in one.rglob("*") if path.is_file()} for one in commits}
    own = blobs.pop(receipt.folder, set()).difference(*blobs.values())
    return {path for path in own if path.is_relative_to(repository.resolve())}


def _remove_fetched(receipt: Receipt) -> None:
    """As `huggingface_hub` does, which removes nothing of a repository with a damaged link in it."""
    snapshot, repository = receipt.folder, _repository(receipt)
    if repository is None:
        raise OutputError(f"{snapshot}: can't be removed", "It isn't where the Hub's cache has it: do it by hand.")
    with reported(snapshot):
        for blob in _own_blobs(receipt):
            blob.unlink()
        if snapshot.is_dir():
            shutil.rmtree(snapshot)
        for path in [path for path in (repository / "refs").rglob("*") if path.is_file()]:
            if read_file(path) == receipt.commit.encode():
                path.unlink()
        if repository.is_dir() and not any(snapshot.parent.glob("*")) and not repository.is_symlink():
            shutil.rmtree(repository)
