"""Data sets of the Hub whose pictures are in parquet files: `hub:OWNER/NAME`, or `hub:OWNER/NAME@REVISION`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from ugatit_cli.datasets import parquet
from ugatit_cli.datasets.parquet import Half, Written
from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.remote import hub, hub_download
from ugatit_cli.remote.addresses import forbidden_by
from ugatit_cli.remote.hub import DATA_SETS, HubId, RemoteFile, parse_hub_id
from ugatit_cli.remote.patience import Listener
from ugatit_cli.remote.records import FileRecord

PREFIX: Final = "hub:"
# Where the Hub puts what it has made of a data set in another form.
CONVERTED: Final = "refs/convert/parquet"


def parse(text: str) -> HubId | None:
    """The data set that `hub:OWNER/NAME` names; None for anything else.

    Raises:
        UsageError: what follows is no id.
    """
    if not text.startswith(PREFIX):
        return None
    found = parse_hub_id(text.removeprefix(PREFIX))
    if found is None:
        raise UsageError(
            f"{text}: not a data set of the Hub", f"Like {PREFIX}huggan/selfie2anime, or with @REVISION."
        )
    return HubId(DATA_SETS + found.repository, found.revision)


def files_of(identity: HubId, listener: Listener) -> dict[Half, list[RemoteFile]]:
    """The parquet files of a data set, to train on and to test with.

    Raises:
        ModelError: there are none, no such repository or revision, no access, or no connection.
    """
    listed = {remote.name: remote for remote in hub_download.listing(identity, listener)}
    rows = [name for name in listed if PurePosixPath(name).suffix == parquet.SUFFIX]
    if not rows and forbidden_by():
        raise hub.not_here(identity)
    if not rows:
        kinds = ", ".join(sorted({PurePosixPath(name).suffix for name in listed} - {""})) or "nothing"
        converted = f"{PREFIX}{identity.repository.removeprefix(DATA_SETS)}@{CONVERTED}"
        message = f"{identity}: has no parquet files, but {kinds}"
        raise ModelError(message, f"The Hub may have some that it has made of these: {converted}")
    return {half: [listed[name] for name in names] for half, names in parquet.halves(rows).items()}


def write_out(
    files: Mapping[Half, list[RemoteFile]],
    target: Path,
    listener: Listener,
    *,
    columns: tuple[str, str] | None = None,
    records: Mapping[str, FileRecord | None] | None = None,
    force: bool = False,
) -> tuple[Written, dict[str, str]]:
    """Downloads the files into the Hub's cache, checked, and fills a folder as `parquet.write_out` does.

    Then those that weren't there before are removed from the cache.

    Args:
        records: what they must be, by their names, beside what the Hub says.
        force: download them even if they are there.

    Returns:
        What was written, and the SHA-256 of each file by its name.

    Raises:
        ModelError: they can't be fetched, or aren't what they should be.
    """
    remotes, known = [remote for half in files.values() for remote in half], records or {}
    with hub_download.locked(remotes[0].repository, listener):
        new = [one for one in remotes if not hub_download.pointer_path(one).is_file()]
        stamps = {one.name: hub_download.obtain(one, known.get(one.name), listener, force=force) for one in remotes}
        here = {half: [hub_download.pointer_path(one) for one in files[half]] for half in files}
        written = parquet.write_out(here, target, listener, columns=columns)
        for one in new:
            hub_download.forget(one)
    return written, {name: stamp.sha256 for name, stamp in stamps.items()}
