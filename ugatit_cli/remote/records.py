"""What a file is: its size and its hashes, as somebody says, as they were found, and whether the two agree."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ugatit_cli.errors import FetchError
from ugatit_cli.files import open_file

SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileRecord:
    """What a file is known to be: bytes, None if only its hash is known, and SHA-256 as 64 lower-case hex digits."""

    size: int | None
    sha256: str


@dataclass(frozen=True)
class Stamp:
    """A file as it was when its hash was taken: bytes, SHA-256 in hex, and time of change in nanoseconds."""

    size: int
    sha256: str
    mtime_ns: int


@dataclass(frozen=True)
class Digest:
    """A file's size in bytes, its SHA-256, and its SHA-1 as git takes it of contents; both in hex."""

    size: int
    sha256: str
    git: str

    def differs(self, record: FileRecord | None, size: int | None = None) -> str:
        """What a record or a server says and what was found, if they contradict each other; else empty."""
        if record is not None and (record.size not in (None, self.size) or record.sha256 != self.sha256):
            return f"expected sha256 {record.sha256}, found {self.sha256}"
        return f"expected {size:,} bytes, found {self.size:,}" if size not in (None, self.size) else ""


def digest_of(path: Path) -> Digest:
    """The digest of a file on disk.

    Raises:
        OSError: it can't be read.
    """
    size = path.stat().st_size
    # As git names contents; no matter of security where SHA-256 is known, too.
    sha256, git = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with open_file(path) as file:
        for data in iter(lambda: file.read(1 << 20), b""):
            sha256.update(data)
            git.update(data)
    return Digest(size, sha256.hexdigest(), git.hexdigest())


class Mismatch(FetchError):
    """A file that isn't what a manifest, or its first use, says; nothing was changed."""
