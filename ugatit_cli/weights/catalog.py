"""What `--model NAME` means, and all models that this machine knows of: by name.

Nothing here asks a network.
"""
# ruff: noqa: PTH110, PTH112

from __future__ import annotations

import dataclasses
import difflib
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from ugatit_cli.errors import ModelMissing, UsageError
from ugatit_cli.files import expanded
from ugatit_cli.leftovers import put_back
from ugatit_cli.remote.hub import NEWEST, HubId, parse_hub_id
from ugatit_cli.remote.patience import Listener, Logged
from ugatit_cli.weights import home
from ugatit_cli.weights.hashes import check_pin, split_pin
from ugatit_cli.weights.home import BUNDLED, Receipt, holds_model, store_folder, store_path, stored_models
from ugatit_cli.weights.known import CONFIG_FILE, Kind, Known, found_at, from_hub, here, hub_of
from ugatit_cli.weights.manifest import HASHED_FILES, MODEL_NAME, MODELS, Entry
from ugatit_cli.weights.tables import entry_of, nearest_in


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


def argument_for(folder: Path) -> str:
    """What `--model` calls a model folder or run: with `./` before a bare name that is another model's."""
    text = str(folder)
    if MODEL_NAME.fullmatch(text) and resolve(text).kind != "folder":
        return os.path.join(os.curdir, text)  # noqa: PTH118 (a Path drops the dot)
    return text


def hidden_folder(source: Source) -> Path | None:
    """The model folder or run here that a name doesn't mean, since it is another model's."""
    path = expanded(source.name)
    bare = source.kind != "folder" and MODEL_NAME.fullmatch(source.name)
    return path if bare and holds_model(path) else None


def _resolve(name: str, listener: Listener | None) -> Source:
    if not name:  # a path would be the working folder
        raise UsageError("the model has no name", "Name one: `ugatit models` lists them.")
    path, entry = expanded(name), None
    put_back(path)
    if MODEL_NAME.fullmatch(name):
        stored = os.path.isdir(store_path(name))
        entries = MODELS.usable(listener or Logged(), None if stored else name)
        entry = entries.get(name) if stored else entry_of(entries, name)
        named = _named(name if entry is None else entry.name, entry)
        if named is not None and (named.kind in ("store", "bundled", "hub") or not holds_model(path)):
            return named
    origin = entry or parse_hub_id(name)
    if os.path.exists(path):
        return Source(name, "folder", path, origin)
    _check_revision(name)
    if origin is not None:
        _check_hub_id(name, origin)
        return Source(name, "hub", None, origin)
    near, data = nearest(name), nearest_in("data", name)
    meant = f"Did you mean {near}? " if near else ""
    if data and (data == name or not near):
        meant = f"{data} is a data set: ugatit data show {data}. "
    raise ModelMissing(
        f"no model {name!r}: no such folder, nothing of that name in {store_folder()}, not in the manifest",
        f"{meant}Known models: {_ready(listener)}, and more with `ugatit models`; on the Hub: OWNER/NAME.",
    )


def _check_hub_id(name: str, origin: Entry | HubId) -> None:
    """Whether it isn't rather a path with a mistake in it: in a folder that is here, and nothing of the Hub is."""
    parent = name.partition("/")[0]
    if not isinstance(origin, HubId) or "@" in name or not os.path.isdir(parent):
        return
    if any(receipt.key.partition("@")[0] == origin.repository for receipt in fetched_models()):
        return
    near = next(iter(difflib.get_close_matches(name, [str(path) for path in Path(parent).iterdir()], n=1)), "")
    raise ModelMissing(
        f"{name}: there is no such run or folder in {parent}/",
        (f"Did you mean {near}? " if near else "") + f"If it is a repository on the Hub: {name}@{NEWEST}",
    )


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


def _ready(listener: Listener | None) -> str:
    """The names of what works here."""
    return ", ".join(one.name for one in catalog(listener) if one.state == "ready")


def known_models() -> list[str]:
    """Names that are in the manifest or in the store."""
    entries = MODELS.usable(Logged())
    return sorted({*entries, *(alias for one in entries.values() for alias in one.aliases), *stored_models()})


def fetched_models() -> list[Receipt]:
    """What was fetched from the Hub as a model; not what is in the store, or an official checkpoint."""
    return [receipt for receipt in home.load_all() if CONFIG_FILE in receipt.files and "/" in receipt.key]


def nearest(name: str) -> str:
    """The usable name, or id of a fetched model, most like this one as a whole or in a part; empty if none."""
    entries = MODELS.usable(Logged())
    names = [*(receipt.key for receipt in fetched_models()), *known_models()]
    names = [name for name in names if name not in entries or entries[name].source != "train"]
    parts = {part: key for key in names for part in (*key.partition("@")[0].split("/"), key)}
    return next((parts[near] for near in difflib.get_close_matches(name, parts, n=1)), "")


def catalog(listener: Listener | None = None) -> list[Known]:
    """All models: those of the manifest in its order, others in the store, others fetched from the Hub.

    Args:
        listener: told of mistakes in the user's manifest, which is left out then.

    Raises:
        ModelError: the package's manifest can't be read, or has mistakes.
    """
    entries = MODELS.usable(listener or Logged())
    others = sorted(set(stored_models()) - set(entries))
    sources = (_named(name, entries.get(name)) for name in [*entries, *others])
    listed = [_described(source) for source in sources if source is not None]
    covered = {one.receipt.key for one in listed if one.receipt is not None}
    return listed + [from_hub(one.key, one) for one in fetched_models() if one.key not in covered]


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


def _is_of(stored: Known, entry: Entry) -> bool:
    """Whether an entry is about a stored model, not about others than a user has put there under its name."""
    told = {"address": entry.address, "repository": entry.repository, "made_by": entry.made_by}
    if any(value and stored.provenance.get(key) == value for key, value in told.items()):
        return True
    files = {name: one.sha256 for name, one in entry.files.items() if one is not None and name in HASHED_FILES}
    return CONFIG_FILE in files and files.items() <= stored.hashes.items()


def _described(source: Source) -> Known:
    name, path, origin = source.name, source.path, source.origin
    entry = origin if isinstance(origin, Entry) else None
    match source.kind:
        case "folder" if path is not None:
            return found_at(name, path)
        case "store":
            found = here(Known(name, "store", receipt=home.load(name), folder=path))
            return dataclasses.replace(found, entry=entry) if entry and _is_of(found, entry) else found
        case "bundled":
            return here(Known(name, "bundled", entry=entry, folder=path))
        case "hub" if entry is not None:
            return from_hub(name, home.load(str(hub_of(entry))), entry)
        case "hub":
            receipt = next((one for one in fetched_models() if one.key == str(origin)), None)
            if receipt is not None:
                return from_hub(str(origin), receipt)
            near = nearest(name)
            raise ModelMissing(
                f"no folder {name} here, and nothing fetched from the Hub as {origin}",
                (f"Did you mean {near}? If not, fetch it" if near else "Fetch it") + f": ugatit fetch {origin}",
            )
    return Known(name, source.kind, "no weights" if source.kind == "train" else "not fetched", entry=entry)
