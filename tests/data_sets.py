"""Small archives laid out as the real ones, and a manifest that knows them by the real names and addresses."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from tests.helpers import picture

HOST = "efrosgans.eecs.berkeley.edu"
PATH = "cyclegan/datasets/horse2zebra.zip"
URL = f"https://{HOST}/{PATH}"
COUNTS = {"trainA": 9, "trainB": 10, "testA": 2, "testB": 3}


def jpeg(seed: int) -> bytes:
    """A picture of 16 x 16 pixels."""
    stream = io.BytesIO()
    picture(16, 16, seed).save(stream, "JPEG")
    return stream.getvalue()


def pictures(counts: Mapping[str, int] = COUNTS) -> dict[str, bytes]:
    """Pictures of all sets by name, no two alike: `trainA/n_00001.jpg`."""
    numbered = ((name, number) for name, count in counts.items() for number in range(count))
    return {f"{name}/n_{number:05}.jpg": jpeg(seed) for seed, (name, number) in enumerate(numbered)}


def archive(path: Path, files: Mapping[str, bytes] | None = None, root: str = "horse2zebra/") -> Path:
    """A zip with these files below `root`, and with what archives of macOS have beside them."""
    with zipfile.ZipFile(path, "w") as file:
        for name, data in (pictures() if files is None else files).items():
            file.writestr(f"{root}{name}", data)
        for name in ("trainA/._n_00001.jpg", "trainA/n_00001.jpg", "trainB/n_00001.jpg"):
            file.writestr(f"__MACOSX/horse2zebra/{name}", b"of macOS")
        file.writestr(f"{root}trainA/.hidden.jpg", b"hidden")
        file.writestr(f"{root}trainA/Thumbs.db", b"no picture")
    return path


def entry(path: Path | None = None, **more: Any) -> dict[str, Any]:
    """An entry for an archive; without one, its hash isn't stated."""
    stated: dict[str, Any] = {}
    if path is not None:
        stated = {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return {
        "description": "Horses and zebras",
        "domains": ["horse", "zebra"],
        "image_size": 256,
        "licence": "not stated",
        "source": "zip",
        "url": URL,
        **stated,
        "read_at": ["a test"],
        "verified": False,
        **more,
    }


def write_manifest(path: Path, **entries: Mapping[str, Any]) -> Path:
    """A user's manifest, which `UGATIT_MANIFEST` may name."""
    path.write_text(tomli_w.dumps({"schema": 2, "data": entries}), encoding="utf-8")
    return path


def files_in(folder: Path) -> dict[str, bytes]:
    """All files of a data set but what says what it is."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != "dataset.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
