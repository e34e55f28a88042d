"""One model as far as it is known here: its facts, files and state, and whether these are as they were recorded.

Nothing here asks a network, or needs torch unless a model seems damaged.
"""
# ruff: noqa: PTH112, PTH113

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from ugatit_cli.config import BaseConfig
from ugatit_cli.errors import ModelError, ModelMissing, UsageError
from ugatit_cli.files import read_file
from ugatit_cli.methods.registry import read_networks
from ugatit_cli.remote.hub import NEWEST, HubId, parse_hub_id
from ugatit_cli.remote.records import Stamp
from ugatit_cli.weights import home
from ugatit_cli.weights.hashes import Record, check_hash, digest_of, hashes_of, read_sums
from ugatit_cli.weights.home import Receipt
from ugatit_cli.weights.kinds import check_tensors
from ugatit_cli.weights.manifest import HASHED_FILES, MODEL_FILES, Entry, SourceName

State = Literal["ready", "not fetched", "no weights", "damaged"]
Kind = SourceName | Literal["store", "folder"]

CONFIG_FILE, _, _, CARD_FILE, _ = MODEL_FILES
_INSTALL: Final = "fetch --from-file FOLDER --name {} --force"
REINSTALL: Final = "pip install --force-reinstall --no-deps ."
_FRONT: Final = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)


def hub_of(entry: Entry) -> HubId:
    """The repository of an entry that has one, at the commit it is pinned to if it is."""
    return HubId(entry.repository, entry.revision or NEWEST)


def checkpoint_key(entry: Entry) -> str:
    """The name of the receipt of an official checkpoint: where it is from, in words or as an address."""
    return entry.address or f"{hub_of(entry)}/{entry.checkpoint}"


def no_weights(entry: Entry) -> ModelError:
    """The error for a model that nobody has published: says how to train it."""
    return ModelMissing(f"nobody has published weights of {entry.name}", entry.instructions.strip())


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
    def address(self) -> str:
        """Where the weights are on the web that it is made of; empty if they are on the Hub, or nobody knows."""
        if isinstance(told := self.provenance.get("address"), str):
            return told
        return self.entry.address if self.entry is not None else ""

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
        if self.entry is None or self.entry.converted:
            return {}
        return {
            name: Stamp(one.size or 0, one.sha256, 0) for name, one in self.entry.files.items() if one is not None
        }

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
        if self.kind == "hub" or (self.entry is not None and (self.entry.repository or self.entry.address)):
            again = self.folder is not None
            return "Fetch it again" if again else "Fetch it", f"ugatit fetch {name}{' --force' if again else ''}"
        if self.kind == "store":
            way = "convert FILE --name {} --overwrite" if "imported_from" in self.provenance else _INSTALL
            return f"Put it there again (ugatit {way.format(name)}), or remove it", f"ugatit models rm {name}"
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
    instructions = known.entry.by_hand() if known.entry is not None else ""
    return ModelMissing(f"{known.name} is not on this machine", f"{words}: {command}" if command else instructions)


def from_hub(name: str, receipt: Receipt | None, entry: Entry | None = None) -> Known:
    """A model of the Hub, of which a receipt tells if it was fetched."""
    found = Known(name, "hub", entry=entry, receipt=receipt)
    if receipt is None or not any(os.path.isfile(receipt.folder / file) for file in receipt.files):
        return found  # nothing but a record is left, as after emptying the Hub's cache
    return here(dataclasses.replace(found, folder=receipt.folder))


def found_at(name: str, path: Path) -> Known:
    """A model folder, a run folder, or a file of weights with its config beside it."""
    folder = next((one for one in (path / "model", path) if os.path.isfile(one / CONFIG_FILE)), None)
    if folder is not None:
        return here(Known(name, "folder", folder=folder))
    from ugatit_cli.weights.folder import open_model

    model = open_model(path)
    files = (one.name for one in (model.weights, model.discriminators) if one is not None)
    return here(Known(name, "folder", folder=model.path), (CONFIG_FILE, *files))


def here(known: Known, files: Iterable[str] = MODEL_FILES) -> Known:
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
    """The official checkpoint that a model is made of, if it is still in the Hub's cache."""
    if known.entry is None or known.entry.source != "import" or not known.entry.repository:
        return None
    receipt = home.load(checkpoint_key(known.entry))
    return receipt if receipt is not None and os.path.isdir(receipt.folder) else None


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
