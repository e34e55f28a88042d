"""A part of the pictures for each of several machines, none of which has to know of the others."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ugatit_cli.cli import console
from ugatit_cli.errors import UsageError
from ugatit_cli.pictures.sources import fold

if TYPE_CHECKING:
    from ugatit_cli.pictures.jobs import Found

MOST_SHARDS = 1_000_000


@dataclass(frozen=True)
class Shard:
    """One of `count` parts, from 1 on; which one a picture belongs to, its relative path alone decides."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str | None) -> Shard:
        """`2/4` as the second of four; None is all there is.

        Raises:
            UsageError: it is no such part.
        """
        if text is None:
            return cls()
        match = re.fullmatch("([0-9]{1,7})/([0-9]{1,7})", text.strip())
        number, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= number <= count <= MOST_SHARDS:
            raise UsageError(f"--shard {text}: unknown", "Say which of how many: 1/4, 2/4, 3/4 or 4/4.")
        return cls(number, count)

    def has(self, path: str) -> bool:
        """Whether a picture of that relative path is in this part: the same on every machine and file system."""
        digest = hashlib.blake2b(fold(path).encode(errors="surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest) % self.count == self.number - 1

    def of(self, found: Found) -> Found:
        """What is in this part of what there is, and says so. Names of results are those that all together have."""
        part = self.silently_of(found)
        if self.count > 1:
            console.note(f"shard {self.number} of {self.count}: {len(part.jobs):,} of {len(found.jobs):,} files")
        return part

    def silently_of(self, found: Found) -> Found:
        """The same without a word."""
        return found if self.count == 1 else replace(found, jobs=[job for job in found.jobs if self.has(job.key)])

    def page(self, path: Path) -> Path:
        """The report's own name beside those of the other parts: `report-2of4.html`."""
        return path if self.count == 1 else path.with_stem(f"{path.stem}-{self.number}of{self.count}")
