"""Where ugatit keeps things: how large, whether writable, how much room there is; and the variables that matter."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ugatit_cli.health.findings import Finding, Level
from ugatit_cli.wording import byte_size

# Files that are counted before a folder is only said to be large.
MOST_FILES: Final = 100_000
# Less free, and a download or a training ends in the middle.
LITTLE: Final = 2 * 10**9
NAMES: Final = re.compile(
    r"UGATIT_.*|HF_.*|HUGGINGFACE_.*|KAGGLE_.*|PYTORCH_.*|TORCH_.*|CUDA_.*|NVIDIA_.*|OMP_.*|GOMP_.*|MKL_.*|"
    r"XDG_(DATA|CACHE|CONFIG)_HOME|(HTTPS?|ALL|NO)_PROXY|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|PIP_.*|PYTHONPATH|"
    r"TMPDIR|HOME|VIRTUAL_ENV|CONDA_PREFIX|RANK|WORLD_SIZE|TERM|COLUMNS|NO_COLOR|FORCE_COLOR",
    re.IGNORECASE,
)
SECRET: Final = re.compile("TOKEN|KEY|SECRET|PASSW|CREDENTIAL|AUTH|USERNAME", re.IGNORECASE)


def places() -> Iterator[Finding]:
    """The stores and caches."""
    from ugatit_cli.datasets import store
    from ugatit_cli.weights import home

    yield _place("home", home.home_folder(), "UGATIT_HOME", keeps="Models and data sets can't be kept there. ")
    yield _place("models", home.store_folder())
    yield _place("data sets", store.store_folder())
    yield _place("Hub's cache", _hub_cache(), "HF_HUB_CACHE")
    yield _place("torch's cache", _torch_cache(), "TORCH_HOME")
    yield _place("current folder", Path.cwd(), count=False)
    yield _place("temporary files", Path(os.environ.get("TMPDIR") or "/tmp"), "TMPDIR", count=False)


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _torch_cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.path.expanduser("~"), ".cache"))  # noqa: PTH111
    return Path(os.environ.get("TORCH_HOME") or base / "torch")


def _place(name: str, path: Path, variable: str = "", *, keeps: str = "", count: bool = True) -> Finding:
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    writable, free = os.access(there, os.W_OK | os.X_OK), shutil.disk_usage(there).free
    size, files = size_of(path) if count and path.exists() else (0, 0)
    more = "more than " * (files >= MOST_FILES)
    held = f"{more}{byte_size(size)} in {more}{files} files, " if count and files else ""
    state = "" if path.exists() else "not made yet, "
    text = f"{path}: {state}{held}{'writable' if writable else 'not writable'}, {byte_size(free)} free"
    hint = f"{keeps}Choose another folder: {variable}=DIR" if variable else ""
    wrong = not writable or free < LITTLE
    level: Level = "note" if wrong else "ok"
    facts = {"path": str(path), "bytes": size, "files": files, "writable": writable, "free": free}
    return Finding(name, text, level, hint if wrong else "", facts)


def size_of(folder: Path) -> tuple[int, int]:
    """Bytes and number of the files below a folder, as far as it may be read, and not of endless ones."""
    size = files = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(Path(place, name)).st_size
            except OSError:
                continue
            files += 1
            if files >= MOST_FILES:
                return size, files
    return size, files


def variables() -> Iterator[Finding]:
    """Those that change what ugatit and its libraries do; of secrets, only that they are set."""
    from ugatit_cli.remote.addresses import hidden_parts

    for name in sorted(filter(NAMES.fullmatch, os.environ)):
        value = os.environ[name]
        shown = "(set)" if SECRET.search(name) else hidden_parts(value) if "://" in value else value
        yield Finding(name, shown, facts={"value": shown})
