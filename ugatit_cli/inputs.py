"""Which pictures to translate, and where each result goes.

Turns the command line's INPUT arguments and `-o OUT` into a list of jobs. Nothing is read or written here:
only folders are listed, so that every contradiction is found before a model is loaded.
"""

# Strings and os.path: Path objects cost seconds for 100,000 files, and raise where these answer.
# ruff: noqa: PTH110, PTH111, PTH112, PTH114, PTH116, PTH118, PTH119, PTH121, PTH122

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ugatit_cli.errors import UsageError
from ugatit_cli.output_names import STDOUT, Found, join, output_paths

STDIN = "-"


@dataclass(frozen=True)
class Job:
    """One picture to translate.

    Args:
        source: the picture; None for standard input.
        output: where its result goes; None for standard output.
        several: all files of a result that has more than one.
        kept: those of them that exist and are left as they are.
    """

    source: Path | None
    output: Path | None
    several: tuple[Path, ...] = ()
    kept: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """What messages call it."""
        return "<stdin>" if self.source is None else str(self.source)

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The files of the result; none for standard output."""
        return self.several or (() if self.output is None else (self.output,))


@dataclass(frozen=True)
class Plan:
    """All that a command has to do.

    Args:
        jobs: in the order of the arguments, inside folders sorted by relative path.
        missing: what couldn't be found or listed, each with the reason.
    """

    jobs: list[Job]
    missing: list[tuple[str, str]]


def plan(
    arguments: Sequence[str], out: Path | None, *, suffixes: Collection[str], rename: Callable[[Path], str]
) -> Plan:
    """Find the pictures that `arguments` name and give each an output that no other one has.

    Args:
        arguments: files, folders, glob patterns or `-` for standard input.
        out: the folder for the results, or the output file of a single picture; `-` for standard output.
        suffixes: lower-case suffixes that a scan of a folder picks up, with their dot.
        rename: gives the suffix of a source's result, with its dot.

    Raises:
        UsageError: the arguments contradict each other, or a result would overwrite an input.
    """
    if list(arguments).count(STDIN) > 1:
        raise UsageError("standard input (-) is given more than once", "Give - a single time.")
    if out is None:
        if list(arguments) != [STDIN]:
            raise UsageError(
                "-o/--output is needed", "Name a folder for the results (ugatit translate photos -o results)."
            )
        out = STDOUT
    if out != STDOUT:
        out = Path(os.path.expanduser(out))
    search = _Search(out, frozenset(suffixes))
    found = search.run(arguments)
    outputs = output_paths(found, out, search.suffixes, rename)
    jobs = [Job(one.source, output) for one, output in zip(found, outputs, strict=True)]
    return Plan(jobs, list(search.missing.items()))


def existing_outputs(jobs: Iterable[Job]) -> list[Path]:
    """The outputs of `jobs` that exist already, dangling links included."""
    return [path for job in jobs for path in job.outputs if os.path.lexists(path)]


# --- Finding -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to list: its path as the user would write it, resolved, and below OUT ("" is OUT itself)."""

    path: str
    real: str
    below: str

    def child(self, entry: os.DirEntry[str]) -> _Folder:
        """The folder `entry` in this one."""
        place = os.path.join(self.real, entry.name)
        real = os.path.realpath(place) if entry.is_symlink() else place
        return _Folder(entry.path, real, join(self.below, entry.name))

    def file(self, entry: os.DirEntry[str]) -> Found:
        """The file `entry` in this folder."""
        place = os.path.join(self.real, entry.name)
        real = os.path.realpath(place) if entry.is_symlink() else place
        return Found(Path(entry.path), join(self.below, entry.name), place, real)


class _Search:
    """Looks up arguments one after the other; strings rather than paths inside, for large folders."""

    def __init__(self, out: Path, suffixes: frozenset[str]) -> None:
        self.out = out
        self.out_real = "" if out == STDOUT else os.path.realpath(out)
        self.suffixes = suffixes
        self.missing: dict[str, str] = {}
        self.parents: dict[str, str] = {}

    def run(self, arguments: Sequence[str]) -> list[Found]:
        """Every picture once, under the first name that the arguments give it."""
        paths = [(argument, os.path.expanduser(argument)) for argument in arguments]
        folders = [path for argument, path in paths if argument != STDIN and os.path.isdir(path)]
        several = len({os.path.realpath(path) for path in folders}) > 1
        found: dict[str, Found] = {}
        for argument, path in paths:
            for one in self.argument(argument, path, several):
                found.setdefault(one.real, one)
        return list(found.values())

    def argument(self, argument: str, path: str, several: bool) -> list[Found]:
        """What one argument names; `path` is its expansion, `several` whether folders get their own."""
        if argument == STDIN:
            return [Found(None, "stdin", "<stdin>", "<stdin>", direct=True)]
        try:
            os.stat(path)
        except (OSError, ValueError) as error:
            if os.path.lexists(path) or not _is_pattern(path):
                self.missing.setdefault(argument, _reason(error))
                return []
            found = self.glob(argument, path)
        else:
            if not os.path.isdir(path):
                return [self.file(path)]
            found = self.scan(self.root(path, several))
        inputs = [one for one in found if one.real == one.place or not self.is_result(one.real)]
        return sorted(inputs, key=lambda one: one.below)

    def file(self, path: str) -> Found:
        folder, name = os.path.split(path)
        if folder not in self.parents:
            self.parents[folder] = os.path.realpath(folder)
        place = os.path.join(self.parents[folder], name)
        real = os.path.realpath(path) if os.path.islink(path) else place
        return Found(Path(path), name, place, real, direct=True)

    def root(self, path: str, several: bool) -> _Folder:
        real = os.path.realpath(path)
        below = os.path.basename(real) if several else ""
        if self.out != STDOUT:
            for target in {self.out, self.out / below}:
                if os.path.isdir(target) and os.path.samefile(target, path):
                    raise UsageError(
                        f"the results would mix with the sources in {path}",
                        f"Give another folder with -o; one inside it is fine (-o {os.path.join(path, 'results')}).",
                    )
        return _Folder(path, real, below)

    def scan(self, root: _Folder) -> list[Found]:
        """The pictures below `root`, in no useful order."""
        found: list[Found] = []
        pending = [root]
        while pending:
            folder = pending.pop()
            for entry in self.entries(folder):
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry, follow_links=False):
                    pending.extend(self.children(folder, entry))
                elif self.is_picture(entry) and self.is_readable(entry):
                    found.append(folder.file(entry))
        return found

    def glob(self, argument: str, pattern: str) -> list[Found]:
        """What matches `pattern`; own code, as the standard library's follows links into loops."""
        base, parts = _split_pattern(pattern)
        if ".." in parts:
            self.missing.setdefault(argument, "a pattern can't have .. after a wildcard")
            return []
        found: list[Found] = []
        pending = [(_Folder(base, os.path.realpath(base), ""), parts)] if os.path.isdir(base) else []
        seen: set[tuple[str, int]] = set()
        while pending:
            folder, rest = pending.pop()
            # Without this, several ** in a pattern list a folder once for each way to reach it.
            if (folder.path, len(rest)) not in seen:
                seen.add((folder.path, len(rest)))
                found += self.match(folder, rest, pending, scan="**" not in parts)
        if not found:
            self.missing.setdefault(argument, "no file matches this pattern")
        return found

    def match(
        self, folder: _Folder, parts: list[str], pending: list[tuple[_Folder, list[str]]], scan: bool
    ) -> list[Found]:
        """Files in `folder` that match the last part; folders to go on with are added to `pending`."""
        part, rest = parts[0], parts[1:]
        recursive = part == "**"
        if recursive:
            pending.append((folder, rest))
        found: list[Found] = []
        for entry in self.entries(folder):
            if not _matches(entry.name, part):
                continue
            if _is_folder(entry, follow_links=not recursive):
                for child in self.children(folder, entry):
                    if rest:
                        pending.append((child, parts if recursive else rest))
                    elif scan:
                        found += self.scan(child)
            elif not rest and self.is_readable(entry):
                found.append(folder.file(entry))
        return found

    def is_picture(self, entry: os.DirEntry[str]) -> bool:
        return os.path.splitext(entry.name)[1].lower() in self.suffixes

    def is_readable(self, entry: os.DirEntry[str]) -> bool:
        """Whether `entry` is a file; a broken link or a pipe that is named like a picture is missing."""
        if _is_file(entry):
            return True
        if self.is_picture(entry) and not _is_folder(entry, follow_links=True):
            broken = entry.is_symlink() and not os.path.exists(entry.path)
            self.missing.setdefault(entry.path, "the link leads nowhere" if broken else "not a regular file")
        return False

    def children(self, folder: _Folder, entry: os.DirEntry[str]) -> list[_Folder]:
        """The subfolder `entry`, or nothing where it is OUT: results of an earlier run aren't inputs."""
        child = folder.child(entry)
        # Only links can lead into the midst of OUT; an argument inside OUT is meant as it is given.
        if child.real == self.out_real or (entry.is_symlink() and self.is_result(child.real)):
            return []
        return [child]

    def is_result(self, real: str) -> bool:
        return bool(self.out_real) and real.startswith(os.path.join(self.out_real, ""))

    def entries(self, folder: _Folder) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder.path) as entries:
                # Backwards, as the folders pending are taken from the end.
                return sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            self.missing.setdefault(folder.path, f"this folder can't be read: {_reason(error)}")
            return []


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file or folder"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:1].lower() + text[1:]


def _is_folder(entry: os.DirEntry[str], *, follow_links: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_links)
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_pattern(text: str) -> bool:
    return any(character in text for character in "*?[")


def _split_pattern(pattern: str) -> tuple[str, list[str]]:
    """The longest leading folder without wildcards, or that exists as it is written, and the rest."""
    parts = list(Path(pattern).parts)
    base = Path()
    while len(parts) > 1 and (not _is_pattern(parts[0]) or os.path.lexists(base / parts[0])):
        base /= parts.pop(0)
    if parts[-1] == "**":
        parts.append("*")
    return str(base), parts


def _matches(name: str, part: str) -> bool:
    """Whether `name` matches, hidden names only where the pattern asks for them, as in a shell."""
    return fnmatch.fnmatch(name, part) and (part.startswith(".") or not name.startswith("."))
