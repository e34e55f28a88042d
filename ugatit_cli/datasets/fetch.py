"""From a name to the pictures of both domains: what is here is used, what isn't is fetched, whatever its source."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from ugatit_cli.data.pictures import Folders, below, find_pictures, layout_of, split_layout
from ugatit_cli.datasets import hub_rows, parquet, rows, store
from ugatit_cli.datasets.catalog import TABLES, DataEntry, known, unknown
from ugatit_cli.datasets.rows import Columns
from ugatit_cli.datasets.store import Facts
from ugatit_cli.datasets.zips import unpack
from ugatit_cli.errors import FetchError, ModelError, UsageError
from ugatit_cli.files import check_space, expanded, reported
from ugatit_cli.remote import hub_download, web
from ugatit_cli.remote.addresses import forbidden_by
from ugatit_cli.remote.hub import DATA_SETS, HubId, RemoteFile, cache_folder
from ugatit_cli.remote.patience import Listener
from ugatit_cli.remote.records import FileRecord, Mismatch, Stamp, digest_of
from ugatit_cli.remote.transfer import room_needed
from ugatit_cli.remote.web import WebFile
from ugatit_cli.weights import home
from ugatit_cli.weights.tables import entry_of, origin_of

_ELSEWHERE: Final = "Free some space, or choose another disk with UGATIT_HOME or --output."


@dataclass(frozen=True)
class DataSet:
    """What `--data` means.

    Attributes:
        path: the folder.
        domains: names of A and B, if somebody has named them.
        paired: pictures of testA and testB that have the same name show the same.
    """

    path: Path
    folders: Folders
    domains: tuple[str, str] | None = None
    paired: bool = False


@room_needed()
def find(what: str, listener: Listener, columns: Columns = None) -> DataSet:
    """The data set that a path, a name or `hub:OWNER/NAME` stands for; it is fetched on its first use.

    A folder here wins over a name. Parquet files are written out into the store.

    Args:
        columns: of parquet files, those of domains A and B.

    Raises:
        UsageError: there is none, a folder isn't laid out as one, or it isn't clear which columns are meant.
        ModelError: it can't be fetched, or is damaged.
        OutputError: what was fetched can't be written; `NoRoomError` if the disk is full.
    """
    path, identity = expanded(what), _hub_id(what, columns)
    entries = TABLES.usable(listener, None if os.path.lexists(path) else what)
    entry = entry_of(entries, what)
    if os.path.lexists(path):
        if entry is not None:
            listener.note(f"note: the folder {what} that is here is used, not the data set of that name")
        return opened(_of_pictures(path, columns, listener))
    here = store.get(what if entry is None else entry.name) if columns is None else None
    if entry is None and identity is None and here is None:
        raise unknown(what, entries, "there is no such folder, and no data set of this name")
    return opened(here or fetch(what, listener, columns=columns))


def _hub_id(what: str, columns: Columns) -> HubId | None:
    """What the Hub has to be asked for, unless it is here, under a name that has its columns, too."""
    return hub_rows.parse(what) if columns is not None or store.get(what) is None else None


def _of_pictures(folder: Path, columns: Columns, listener: Listener) -> Path:
    """A folder of pictures itself; of parquet files, the one that they were written out to."""
    other = not folder.is_dir() or (store.read(folder) is None and (columns is not None or not layout_of(folder)))
    if other:
        written = rows.of_folder(folder, columns, listener)
        if written is not None:
            return written
    if columns is not None:
        raise UsageError(f"--columns: there are no parquet files in {folder}", "Leave it out.")
    return folder


def opened(folder: Path) -> DataSet:
    """A folder as a data set; one that was fetched knows its domains.

    Raises:
        UsageError: it isn't laid out as one.
        ModelError: it was fetched, and is damaged.
    """
    stored = store.read(folder)
    if stored is None:
        return DataSet(folder, split_layout(folder))
    if damage := store.damage(folder):
        name = shlex.quote(stored.name)
        ours = folder.absolute() == store.path_of(stored.name)
        way = f"it is fetched again at its next use: ugatit data rm {name}" if ours else f"ugatit data fetch {name}"
        raise ModelError(f"{folder}: damaged: {damage}", f"Remove it, then {way}")
    a, b = stored.domains or ("", "")
    return DataSet(folder, split_layout(folder), (a, b) if a else None, stored.paired)


@room_needed()
def fetch(
    name: str,
    listener: Listener,
    *,
    to: Path | None = None,
    force: bool = False,
    from_file: Path | None = None,
    columns: Columns = None,
) -> Path:
    """Fetches a data set, or makes sure that it is here.

    Args:
        name: a name of the manifest, or `hub:OWNER/NAME`.
        to: write it to that folder, not into the store.
        force: download it again, and replace what is there.
        from_file: take it from there, not from a network: its archive, or a folder of its parquet files or packages.

    Returns:
        Its folder.

    Raises:
        UsageError: there is none of that name, or it doesn't come from anywhere.
        ModelError: it can't be fetched, or isn't what it should be.
        OutputError: it can't be written; `NoRoomError` if the disk is full.
    """
    if (identity := _hub_id(name, columns)) is not None and from_file is None:
        return rows.of_hub(identity, columns, listener, to=to, force=force)
    if columns is not None:
        raise UsageError(f"--columns: {name} is neither of the Hub nor a folder of parquet files", "Leave it out.")
    one = known(name, listener)
    if to is not None:
        store.check_target(to, force=force)
    elif one.stored is not None and not force:
        listener.note(f"{one.name} is here")
        return one.folder
    if one.entry is None:
        raise UsageError(f"{name}: no manifest says where it comes from", f"It is in {one.folder}.")
    entry = one.entry

    def fill(folder: Path) -> Facts:
        for text in said_first(entry):
            listener.note(text)
        return _FILL[entry.source](_Fetch(entry, folder, listener, force, from_file))

    return store.put(entry.name, fill, listener, to=to, force=force)


def said_first(entry: DataEntry) -> list[str]:
    """What a user should know before anything is downloaded."""
    lines = origin_of(entry, "pictures", entry.address)
    if not entry.encrypted and not entry.sha256:
        lines.append("it comes without encryption, and nobody has stated its hash")
    return lines


@dataclass(frozen=True)
class _Fetch:
    """A data set on its way into an empty folder."""

    entry: DataEntry
    folder: Path
    listener: Listener
    force: bool
    from_file: Path | None

    def facts(self, source: str, sha256: Mapping[str, str], notes: Sequence[str] = ()) -> Facts:
        entry = self.entry
        paired = entry.paired and self._names("testA") == self._names("testB")
        more = ["nothing tells which pictures of testA and testB are pairs"] if entry.paired and not paired else []
        return Facts(source, dict(sha256), list(entry.domains), paired, entry.licence, [*notes, *more])

    def _names(self, split: str) -> set[str]:
        folder = self.folder / split
        return {below(folder, path.with_suffix("")) for path in find_pictures(folder)} if folder.is_dir() else set()


# --- Archives on the web -------------------------------------------------------------------------------


def receipt_key(name: str) -> str:
    """What the receipt of an archive is called whose hash nobody has stated."""
    return f"data/{name}"


def download_path(name: str) -> Path:
    """Where an archive is while it is on its way."""
    return home.home_folder() / "downloads" / f"{name}.zip"


def _of_zip(job: _Fetch) -> Facts:
    entry, own = job.entry, job.from_file is None
    archive, record = job.from_file or download_path(entry.name), _record(entry)
    with reported(job.folder):
        # Pictures can't be packed any further, and beside them lies the archive.
        beside = own and job.folder.parent == store.store_folder()
        check_space(job.folder, (2 if beside else 1) * (entry.size or 0), _ELSEWHERE)
    stamp = _obtained(job, archive, record) if own else _checked(archive, record)
    try:
        notes = unpack(entry, archive, job.folder, job.listener)
    except ModelError as error:
        if not own:
            raise
        web.throw_away(archive)  # so that the next call downloads another one
        raise ModelError(error.message.replace(str(archive), entry.url), error.hint) from None
    if record is None:
        folder = store.path_of(entry.name)
        home.save(home.Receipt(receipt_key(entry.name), folder, {f"{entry.name}.zip": stamp}))
        job.listener.note(f"nobody had verified it before; sha256 {stamp.sha256} is recorded now")
    if own:
        web.throw_away(archive)
    return job.facts(entry.url, {archive.name: stamp.sha256}, notes)


def _obtained(job: _Fetch, archive: Path, record: FileRecord | None) -> Stamp:
    entry = job.entry
    file = WebFile(entry.url, entry.hosts)
    try:
        return web.obtain(file, archive, record, job.listener, size=entry.size, force=job.force)
    except FetchError as error:
        way = f"Download {entry.url} yourself, then: ugatit data fetch {entry.name} --from-file ZIP"
        if isinstance(error, Mismatch) and record is not None and not entry.sha256:
            was = "It was another file when you first used it. If you trust the new one"
            way = f"{was}, forget the old one, then fetch it: ugatit data rm {entry.name}"
            raise FetchError(error.message, way) from None
        ways = (way, error.hint) if forbidden_by() else (error.hint, way)
        raise FetchError(error.message, "\n".join(ways).strip()) from None


def _record(entry: DataEntry) -> FileRecord | None:
    """What an archive must be: as the manifest says, else as it was at its first use."""
    if entry.sha256:
        return FileRecord(entry.size, entry.sha256)
    receipt = home.load(receipt_key(entry.name))
    earlier = next(iter(receipt.files.values())) if receipt is not None else None
    return FileRecord(earlier.size, earlier.sha256) if earlier is not None else None


def _checked(path: Path, record: FileRecord | None) -> Stamp:
    """A file of the user's."""
    try:
        digest = digest_of(path)
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({error.strerror})", "Name the archive itself.") from None
    if problem := digest.differs(record):
        raise ModelError(f"{path}: {problem}", "It is not the file that is meant, or is damaged.")
    return Stamp(digest.size, digest.sha256, 0)


# --- Parquet files of the Hub --------------------------------------------------------------------------


def _of_hub(job: _Fetch) -> Facts:
    entry = job.entry
    halves = parquet.halves(entry.files)
    if job.from_file is not None:
        paths = {name: job.from_file / PurePosixPath(name).name for name in entry.files}
        hashes = {name: _checked(path, entry.files[name]).sha256 for name, path in paths.items()}
        here = {half: [paths[name] for name in names] for half, names in halves.items()}
        parquet.write_out(here, job.folder, job.listener, columns=entry.columns)
    else:
        remotes = {name: _located(entry, name, job.listener) for name in entry.files}
        there = {half: [remotes[name] for name in names] for half, names in halves.items()}
        _, hashes = hub_rows.write_out(there, job.folder, job.listener, columns=entry.columns, records=entry.files)
        place = cache_folder(DATA_SETS + entry.repository)
        job.listener.note(f"the parquet files stay in the Hub's cache, and aren't needed any more: {place}")
    return job.facts(f"{entry.repository}@{entry.revision}", hashes)


def _located(entry: DataEntry, name: str, listener: Listener) -> RemoteFile:
    identity = HubId(DATA_SETS + entry.repository, entry.revision)
    remote = hub_download.locate(identity, name, listener)
    if remote is None:
        raise ModelError(f"{identity} has no file {name}, or it isn't here", "Fetch it while the Hub can be asked.")
    return remote


# --- Packages of a registry ----------------------------------------------------------------------------


def _of_packages(job: _Fetch) -> Facts:
    from ugatit_cli.datasets.emoji import RECIPES, build

    if job.entry.recipe not in RECIPES:
        known_ones = ", ".join(RECIPES)
        raise UsageError(
            f"{job.entry.path}: {job.entry.name}: recipe is none of {known_ones}", "Correct the manifest."
        )
    build(job.entry.recipe, job.folder, job.listener, packages=job.from_file)
    packages = RECIPES[job.entry.recipe].packages
    return job.facts(", ".join(map(str, packages)), {})


_FILL: Final[Mapping[str, Callable[[_Fetch], Facts]]] = {"zip": _of_zip, "hub": _of_hub, "packages": _of_packages}


# --- Removing ------------------------------------------------------------------------------------------


def remove(name: str) -> int:
    """Removes a data set from the store, what is on its way, and the hash that was recorded at its first use.

    Returns:
        Bytes that are free now.

    Raises:
        UsageError: there is none of that name.
        ModelError: it is not here.
        OutputError: it can't be removed.
    """
    one = known(name)
    size = web.throw_away(download_path(one.name))
    if one.stored is not None:
        store.remove(one.name)
        size += one.stored.size
    elif not size and home.load(receipt_key(one.name)) is None:
        raise ModelError(f"{one.name} is not here")
    home.remove(receipt_key(one.name))
    return size
