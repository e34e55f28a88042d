"""Versions of what is installed: what is missing, too old, or doesn't go together."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ugatit_cli import __version__
from ugatit_cli.errors import EXTRAS, install_line
from ugatit_cli.health.findings import Finding, reason

DISTRIBUTION: Final = "ugatit-cli"
# What ugatit can do nothing without; the rest of its requirements fails where it is needed.
NEEDED: Final = ("torch", "torchvision", "numpy", "PIL", "safetensors", "huggingface_hub")
# Of the same release: torch 2.N and torchvision 0.(N + 15), as both projects' pages say of every pair since 2.0.
STEP: Final = 15
_MINOR: Final = re.compile(r"(\d+)\.(\d+)")


def version_of(distribution: str) -> str | None:
    """That of an installed distribution; None if it isn't."""
    try:
        return importlib.metadata.version(distribution)
    except (importlib.metadata.PackageNotFoundError, TypeError):  # of a broken one
        return None


def versions() -> Iterator[Finding]:
    """ugatit, Python, and everything that it needs."""
    yield Finding("ugatit", f"{__version__}, in {Path(__file__).parents[1]}", facts={"version": __version__})
    python = f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}"
    yield Finding("Python", python, facts={"version": platform.python_version()})
    yield Finding("system", platform.platform(), facts={"machine": platform.machine()})
    yield from map(_imported, NEEDED)
    yield from mismatches(version_of("torch"), version_of("torchvision"))
    yield from _too_old()


@functools.cache
def module(name: str) -> Any:
    """A module, or the exception that comes of importing it."""
    try:
        return importlib.import_module(name)
    except BaseException as error:  # libraries that are cut off raise all kinds
        if isinstance(error, KeyboardInterrupt):
            raise
        return error


def _imported(name: str) -> Finding:
    found = module(name)
    shown = {"PIL": "pillow"}.get(name, name)
    version = version_of(shown)
    if isinstance(found, BaseException):
        how = f"pip install --force-reinstall {shown}" if version else f"pip install {shown}"
        what = f"{version} is installed, but can't be imported" if version else "isn't installed"
        return Finding(shown, f"{what} ({reason(found)})", "problem", how, {"version": version})
    text = str(getattr(found, "__version__", version))
    return Finding(shown, text, facts={"version": text})


def mismatches(torch: str | None, torchvision: str | None) -> Iterator[Finding]:
    """Whether two versions are of one release: others have operators that aren't there, or crash."""
    ours, theirs = (_MINOR.match(version or "") for version in (torch, torchvision))
    if not (ours and theirs) or ours[1] != "2" or theirs[1] != "0":
        return
    wanted = int(ours[2]) + STEP
    if int(theirs[2]) != wanted:
        text = f"torch {torch} and torchvision {torchvision} don't go together"
        yield Finding("pair", text, "problem", f'pip install "torchvision==0.{wanted}.*"')


def _too_old() -> Iterator[Finding]:
    """What our own requirements say of the versions that are here."""
    from packaging.requirements import Requirement

    try:
        stated = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding(DISTRIBUTION, "not installed, but run from its checkout", "note", "pip install .")
        return
    for text in stated:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        version = version_of(wanted.name)
        if version is None or not wanted.specifier.contains(version, prereleases=True):
            state = f"{version}, but {wanted.specifier} is needed" if version else "isn't installed"
            yield Finding(wanted.name, state, "problem", f'pip install "{wanted.name}{wanted.specifier}"')


def extras() -> Iterator[Finding]:
    """The optional parts, or what installs them."""
    for extra in EXTRAS:
        found = {name: version_of(name) for name in EXTRAS[extra].split()}
        missing = [name for name, version in found.items() if version is None]
        text = ", ".join(f"{name} {version}" for name, version in found.items() if version)
        if missing:
            yield Finding(extra, "not installed", hint=install_line(extra), facts={"installed": False})
        else:
            yield Finding(extra, text, facts={"installed": True, "versions": found})
