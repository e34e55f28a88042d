"""Data sets that are rows of parquet files, of the Hub or in a folder, kept in the store as folders of pictures."""

from __future__ import annotations

import re
from pathlib import Path

from ugatit_cli.data.pictures import below, domains_in
from ugatit_cli.datasets import hub_rows, parquet, store
from ugatit_cli.datasets.parquet import SUFFIX, Written
from ugatit_cli.datasets.store import Facts
from ugatit_cli.errors import ModelError, plain_reason
from ugatit_cli.remote import hub
from ugatit_cli.remote.hub import HubId
from ugatit_cli.remote.patience import Listener
from ugatit_cli.weights.hashes import digest_of, hash_of
from ugatit_cli.wording import byte_size

Columns = tuple[str, str] | None


def of_hub(
    identity: HubId, columns: Columns, listener: Listener, *, to: Path | None = None, force: bool = False
) -> Path:
    """The folder of a data set of the Hub as it was written before, without asking the Hub; else fetched.

    Args:
        to: write it to that folder, not into the store.
        force: download it again.

    Raises:
        ModelError: it can't be fetched, or read.
        UsageError: it isn't clear which columns are meant.
        OutputError: it can't be written.
    """

    def fill(folder: Path) -> Facts:
        files = hub_rows.files_of(identity, listener)
        remotes = [one for half in files.values() for one in half]
        commit, size = remotes[0].commit, sum(one.size or 0 for one in remotes)
        listener.note(f"fetching {identity} at {commit[:12]}: {byte_size(size)}")
        written, hashes = hub_rows.write_out(files, folder, listener, columns=columns, force=force)
        page = f"{hub.HUB if hub.is_mirrored() else hub.endpoint()}/{identity.repository}"
        name = identity.repository.rpartition("/")[2]
        return _facts(name, f"{page} at {commit}", hashes, written, f"as its page says: {page}")

    name = hub_rows.PREFIX + str(identity).removeprefix(hub.DATA_SETS) + _suffix(columns)
    here = None if force or to is not None else store.get(name)
    return here or store.put(name, fill, listener, to=to, force=force)


def of_folder(folder: Path, columns: Columns, listener: Listener) -> Path | None:
    """The same of a folder that has parquet files, or its folders theirs, or of one such file; None of others.

    It is written again if their content changes.

    Raises:
        ModelError: a file can't be read.
        UsageError, OutputError: as `of_hub`.
    """
    # As the Hub has them: data/train-00000-of-00001.parquet, default/train/0000.parquet.
    every = {below(folder, path): path for depth in ("", "*/", "*/*/") for path in folder.glob(f"{depth}*{SUFFIX}")}
    found = {name: path for name, path in every.items() if not re.search(r"(?:^|/)\.", name)}
    if folder.suffix == SUFFIX and folder.is_file():
        found = {folder.name: folder}
    if not found:
        return None
    called = folder.resolve().name.encode(errors="replace").decode()
    hashes = {name: _sha256(path) for name, path in sorted(found.items())}

    def fill(target: Path) -> Facts:
        listener.note(f"{folder}: writing out the pictures of {', '.join(hashes)}")
        files = {half: [found[name] for name in names] for half, names in parquet.halves(found).items()}
        written = parquet.write_out(files, target, listener, columns=columns)
        return _facts(called, str(folder), hashes, written, "not stated")

    name = f"{called}@{digest_of(hashes)[:12]}{_suffix(columns)}"
    return store.get(name) or store.put(name, fill, listener)


def _suffix(columns: Columns) -> str:
    return f" {','.join(columns)}" if columns else ""


def _sha256(path: Path) -> str:
    try:
        return hash_of(path)
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({plain_reason(error)})", "Check its permissions.") from None


def _facts(name: str, source: str, hashes: dict[str, str], written: Written, licence: str) -> Facts:
    domains = list(written.domains or domains_in(name) or ())
    counted = {
        "rows without a picture that can be read": written.broken,
        "pictures that were there twice": written.duplicates,
        "rows of other labels": written.others,
    }
    notes = [f"left out: {count} {what}" for what, count in counted.items() if count]
    return Facts(source, hashes, domains, False, licence, notes)
