"""Models in a Hub cache, as `huggingface_hub` lays it out, and in the store, with their receipts; no network."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

from tests import tiny
from tests.hub_client import Notes
from ugatit_cli.weights import home
from ugatit_cli.weights.home import Receipt, store_path


def fetched(cache: Path, files: Path, repository: str, commit: str, key: str = "", branch: str = "main") -> Receipt:
    """Puts the files of a folder into the cache at one commit, with a receipt."""
    base = cache / f"models--{repository.replace('/', '--')}"
    snapshot = base / "snapshots" / commit
    for folder in (base / "blobs", base / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    if branch:
        (base / "refs" / branch).write_text(commit)
    names = sorted(path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file())
    for name in names:
        data = (files / name).read_bytes()
        blob = base / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).unlink(missing_ok=True)
        (snapshot / name).symlink_to(blob)
    receipt = home.of_folder(key or repository, snapshot, names, repository, commit)
    home.save(receipt)
    return receipt


def stored(name: str, *, receipt: bool = True, discriminators: bool = False) -> Path:
    """A tiny model in the store, as versions put it there that wrote no `SHA256SUMS`."""
    folder = tiny.save(store_path(name), discriminators=discriminators)
    (folder / "SHA256SUMS").unlink()
    if receipt:
        home.save(home.of_folder(name, folder, sorted(path.name for path in folder.iterdir())))
    return folder


def say(folder: Path, **provenance: object) -> None:
    """What a model tells of itself."""
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(document | {"provenance": provenance}))


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def flip(path: Path, offset: int = -1) -> None:
    """Changes one bit of a file, which keeps its size."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


class Aloud(Notes):
    """A listener that somebody waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = threading.Event()

    def note(self, text: str) -> None:
        super().note(text)
        self.heard.set()
