"""Names of what is being written, and what killed processes left of it.

A name tells whose it is: machine, process, and when that began. So nobody takes away what another still writes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Final

DAY: Final = 24 * 60 * 60.0
"""Seconds after which something is a leftover that nobody can tell the process of."""

_UNKNOWN: Final = 8 * "0"
_NAME: Final = re.compile(
    r"\.(?P<name>.+)\.(?:(?P<machine>[0-9a-f]{8})(?P<process>[0-9a-f]{6})(?P<began>[0-9a-f]{10}))?"
    r"[0-9a-f]{8}\.(?P<kind>tmp|old)",
    re.DOTALL,
)


def hidden(path: Path) -> Path:
    """A name beside `path` that nothing has yet: `.NAME.HEX.tmp`; with `.old` instead, `sweep` puts it back."""
    short = path.name.encode("utf-8", "ignore")[:200].decode("utf-8", "ignore")  # 255 bytes is a name's limit
    return path.with_name(f".{short}.{_owner(os.getpid())}{secrets.token_hex(4)}.tmp")


@functools.lru_cache(maxsize=1)
def _owner(process: int) -> str:
    began = _state(process)[1] if _machine() != _UNKNOWN else 0
    return f"{_machine()}{process & 0xFFFFFF:06x}{began:010x}"


@functools.cache
def _machine() -> str:
    """What processes have in common that can see each other; `_UNKNOWN` where the system doesn't tell of them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
        space, host = Path("/proc/self/ns/pid").readlink(), os.uname().nodename
        _state(os.getpid())
    except (OSError, ValueError, IndexError):
        return _UNKNOWN
    return hashlib.sha256(f"{boot}{space}{host}".encode()).hexdigest()[:8]


def _state(process: int) -> tuple[str, int]:
    """A letter for what a process does, and when it began, in ticks of the system's clock."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _runs(process: int, began: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    try:
        state, when = _state(process)
    except (OSError, ValueError, IndexError):  # that of another user, say
        return True
    return state not in "ZX" and when == began


def mark() -> str:
    """What tells this process from all others, here and on other machines."""
    return _owner(os.getpid())


def has_ended(mark: str) -> bool:
    """Whether the process of a mark is known to run no more."""
    return mark[:8] == _machine() != _UNKNOWN and not _runs(int(mark[8:14], 16), int(mark[14:], 16))


def _is_over(path: Path, name: re.Match[str]) -> bool:
    """Whether the process that wrote something runs no more; where nobody can tell: whether it is a day old."""
    if name["machine"] == _machine() != _UNKNOWN:
        return not _runs(int(name["process"], 16), int(name["began"], 16))
    inside = list(path.iterdir()) if path.is_dir() and not path.is_symlink() else []
    return time.time() - max(one.lstat().st_mtime for one in (path, *inside)) > DAY


def sweep(folder: Path, *, alone: bool = False) -> None:
    """Removes what ended processes left half written in a folder, and puts back what they had just retired.

    Args:
        alone: no other process can be writing there.
    """
    with contextlib.suppress(OSError):
        with os.scandir(folder) as entries:
            names = [match for entry in entries if (match := _NAME.fullmatch(entry.name))]
        for name in names:
            with contextlib.suppress(OSError):
                path = folder / name.string
                if alone or _is_over(path, name):
                    _clear(path, path.with_name(name["name"]) if name["kind"] == "old" else None)


def _clear(path: Path, original: Path | None) -> None:
    if original is not None and not os.path.lexists(original):
        path.rename(original)
    else:
        discard(path if original is None else path.rename(hidden(original)))


@functools.lru_cache(maxsize=1 << 12)
def sweep_once(folder: Path) -> None:
    """As `sweep`, the first time that this process writes to a folder."""
    sweep(folder)


def put_back(path: Path) -> None:
    """Puts a folder back that a killed process had just retired for a newer one; nothing if something is there."""
    if not os.path.lexists(path):
        sweep(path.parent)


def discard(path: Path) -> None:
    """Removes a file, a link, or a folder with all that is in it, as far as possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
