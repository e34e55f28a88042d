"""Which pictures to translate, and where each result goes.

Turns the command line's INPUT arguments and `-o OUT` into a list of jobs. Nothing is read or written here:
only folders are listed, so that every contradiction is found before a model is loaded.
"""
# ruff: noqa: PTH110, PTH111, PTH112, PTH114, PTH116, PTH118, PTH119, PTH121, PTH122

from __future__ import annotations

import contextlib
import fnmatch
import functools
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ugatit_cli.errors import UsageError, plain_reason

STDIN = "-"
STDOUT = Path("-")

_NAME_BYTES = 255
_TAG_LENGTH = 16
_SAME_FORMAT = {".jpeg": ".jpg", ".jfif": ".jpg", ".jpe": ".jpg", ".tiff": ".tif"}


@dataclass(frozen=True)
class Job:
    """One picture to translate; None is standard input or output.

    Args:
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


def find_jobs(
    arguments: Sequence[str], out: Path | None, *, suffixes: Collection[str], rename: Callable[[Path], str]
) -> tuple[list[Job], list[tuple[str, str]]]:
    """Finds the pictures that `arguments` name and gives each an output that no other one has.

    Args:
        arguments: files, folders, glob patterns or `-` for standard input.
        out: the folder for the results, or the output file of a single picture; `-` for standard output.
        suffixes: lower-case suffixes that a scan of a folder picks up, and that make `out` a file, with their dot.
        rename: gives the suffix of a source's result, with its dot.

    Returns:
        jobs, in the order of the arguments, inside folders sorted by relative path; and what couldn't be found or
        listed, each with the reason.

    Raises:
        UsageError: the arguments contradict each other, there are no pictures, or a result would overwrite an input.
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
    outputs = _outputs(found, out, search.suffixes, rename)
    jobs = [Job(one.source, output) for one, output in zip(found, outputs, strict=True)]
    if not jobs and not search.missing:
        names = ", ".join(sorted(search.suffixes))
        raise UsageError(f"no pictures in {', '.join(arguments)}", f"Folders are searched for {names}.")
    return jobs, list(search.missing.items())


# --- Finding -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    """A picture: `below` is its path in OUT before renaming, `direct` whether an argument names it itself.

    `place` is its path with the folder resolved, `real` with a link of its own resolved, too.
    """

    source: Path | None
    below: str
    place: str
    real: str
    direct: bool = False


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to list: its path as the user would write it, resolved, and below OUT ("" is OUT itself)."""

    path: str
    real: str
    below: str

    def entry(self, entry: os.DirEntry[str]) -> _Found:
        """What is called so in this folder."""
        place = os.path.join(self.real, entry.name)
        real = os.path.realpath(place) if entry.is_symlink() else place
        return _Found(Path(entry.path), _join(self.below, entry.name), place, real)


class _Search:
    """Looks up arguments one after the other; strings rather than paths inside, for large folders."""

    def __init__(self, out: Path, suffixes: frozenset[str]) -> None:
        self.out = out
        self.out_real = "" if out == STDOUT else os.path.realpath(out)
        self.suffixes = suffixes
        self.missing: dict[str, str] = {}
        self.real_folder = functools.cache(os.path.realpath)

    def run(self, arguments: Sequence[str]) -> list[_Found]:
        """Every picture once, under the first name that the arguments give it."""
        paths = [(argument, os.path.expanduser(argument)) for argument in arguments]
        folders = [path for argument, path in paths if argument != STDIN and os.path.isdir(path)]
        several = len({os.path.realpath(path) for path in folders}) > 1
        found: dict[str, _Found] = {}
        for argument, path in paths:
            for one in self.argument(argument, path, several):
                found.setdefault(one.real, one)
        return list(found.values())

    def argument(self, argument: str, path: str, several: bool) -> list[_Found]:
        """What one argument names; `path` is its expansion, `several` whether folders get their own in OUT."""
        if argument == STDIN:
            return [_Found(None, "stdin", "<stdin>", "<stdin>", direct=True)]
        try:
            os.stat(path)
        except (OSError, ValueError) as error:
            if os.path.lexists(path) or not _is_pattern(path):
                self.missing.setdefault(argument, plain_reason(error))
                return []
            found = self.glob(argument, path)
        else:
            if not os.path.isdir(path):
                return [self.file(path)]
            found = self.scan(self.root(path, several))
        inputs = [one for one in found if one.real == one.place or not self.is_result(one.real)]
        return sorted(inputs, key=lambda one: one.below)

    def file(self, path: str) -> _Found:
        folder, name = os.path.split(path)
        place = os.path.join(self.real_folder(folder), name)
        real = os.path.realpath(path) if os.path.islink(path) else place
        return _Found(Path(path), name, place, real, direct=True)

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

    def scan(self, root: _Folder) -> list[_Found]:
        """The pictures below `root`, in no useful order."""
        found: list[_Found] = []
        pending = [root]
        while pending:
            folder = pending.pop()
            for entry in self.entries(folder):
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry, follow_links=False):
                    pending.extend(self.children(folder, entry))
                elif self.is_picture(entry) and self.is_readable(entry):
                    found.append(folder.entry(entry))
        return found

    def glob(self, argument: str, pattern: str) -> list[_Found]:
        """What matches `pattern`; own code, as the standard library's follows links into loops."""
        base, parts = _split_pattern(pattern)
        if ".." in parts:
            self.missing.setdefault(argument, "a pattern can't have .. after a wildcard")
            return []
        found: list[_Found] = []
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
    ) -> list[_Found]:
        """Files in `folder` that match the last part; folders to go on with are added to `pending`."""
        part, rest = parts[0], parts[1:]
        recursive = part == "**"
        if recursive:
            pending.append((folder, rest))
        found: list[_Found] = []
        for entry in self.entries(folder):
            # Hidden names match only where the pattern asks for them, as in a shell.
            if not fnmatch.fnmatch(entry.name, part) or (entry.name.startswith(".") and not part.startswith(".")):
                continue
            if _is_folder(entry, follow_links=not recursive):
                for child in self.children(folder, entry):
                    if rest:
                        pending.append((child, parts if recursive else rest))
                    elif scan:
                        found += self.scan(child)
            elif not rest and self.is_readable(entry):
                found.append(folder.entry(entry))
        return found

    def is_picture(self, entry: os.DirEntry[str]) -> bool:
        return os.path.splitext(entry.name)[1].lower() in self.suffixes

    def is_readable(self, entry: os.DirEntry[str]) -> bool:
        """Whether `entry` is a file; a broken link or a pipe that is named like a picture is missing."""
        with contextlib.suppress(OSError):
            if entry.is_file():
                return True
        if self.is_picture(entry) and not _is_folder(entry, follow_links=True):
            broken = entry.is_symlink() and not os.path.exists(entry.path)
            self.missing.setdefault(entry.path, "the link leads nowhere" if broken else "not a regular file")
        return False

    def children(self, folder: _Folder, entry: os.DirEntry[str]) -> list[_Folder]:
        """The subfolder `entry`, or nothing where it is OUT: results of an earlier run aren't inputs."""
        child = folder.entry(entry)
        # Only links can lead into the midst of OUT; an argument inside OUT is meant as it is given.
        if child.real == self.out_real or (entry.is_symlink() and self.is_result(child.real)):
            return []
        return [_Folder(entry.path, child.real, child.below)]

    def is_result(self, real: str) -> bool:
        return bool(self.out_real) and real.startswith(os.path.join(self.out_real, ""))

    def entries(self, folder: _Folder) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder.path) as entries:
                # Backwards, as the folders pending are taken from the end.
                return sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            self.missing.setdefault(folder.path, f"this folder can't be read: {plain_reason(error)}")
            return []


def _join(folder: str, name: str) -> str:
    """The path of `name` in `folder`, both below OUT, which is "" itself."""
    return f"{folder}/{name}" if folder else name


def _is_folder(entry: os.DirEntry[str], *, follow_links: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_links)
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


# --- Outputs ------------------------------------------------------------------------------------------


def _outputs(
    found: list[_Found], out: Path, suffixes: frozenset[str], rename: Callable[[Path], str]
) -> list[Path | None]:
    """The output of each of `found`: one path for each, None for standard output."""
    if not found:
        return []
    single = len(found) == 1 and found[0].direct
    if out == STDOUT:
        if not single:
            raise UsageError("only a single picture can go to standard output", "Give a folder (-o results).")
        return [None]
    if single and out.suffix.lower() in suffixes and not os.path.isdir(out):
        _require_folder(out.parent)
        _check_sources(found, [os.path.realpath(out)], out)
        return [out]
    _require_folder(out)
    names = _assign([_name(one, rename) for one in found])
    real = os.path.realpath(out)
    _check_sources(found, [os.path.join(real, *name.split("/")) for name in names], out)
    return [out / name for name in names]


def _require_folder(out: Path) -> None:
    existing = next((place for place in (out, *out.parents) if os.path.lexists(place)), None)
    if existing is not None and not os.path.isdir(existing):
        raise UsageError(
            f"{existing} is a file, but the results need a folder",
            "Give another folder (-o results). A single picture may also go to a file (-o result.png).",
        )


def _check_sources(found: list[_Found], outputs: list[str], out: Path) -> None:
    sources = {place: one for one in found if one.source for place in (one.place, one.real)}
    for one, output in zip(found, outputs, strict=True):
        if output in sources:
            of = "itself" if sources[output] is one else f"the input {sources[output].source}"
            raise UsageError(
                f"the result of {one.source or '<stdin>'} would overwrite {of}",
                f"Give another output than {out} (-o results).",
            )


# --- Names ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Name:
    """The name of a result in its folder: `tag` tells it apart from those with the same stem."""

    folder: str
    stem: str
    tag: str
    suffix: str
    kept: bool

    def natural(self) -> str:
        """The path below OUT that a user expects."""
        # A name that exists already is never shortened: Windows allows more than 255 bytes of UTF-8.
        name = self.stem + self.suffix if self.kept else _fit(self.stem, self.suffix)
        return _join(self.folder, name)

    def generated(self, number: int) -> str:
        """The path below OUT where the natural one is taken."""
        tag = f"_{self.tag}" if self.tag else ""
        count = f"_{number}" if number > 1 else ""
        return _join(self.folder, _fit(self.stem, tag + count + self.suffix))


def _name(one: _Found, rename: Callable[[Path], str]) -> _Name:
    folder, _, name = one.below.rpartition("/")
    suffix = rename(one.source or Path("stdin"))
    stem, own = os.path.splitext(name)
    if own and _format(own) == _format(suffix):
        return _Name(folder, stem, own[1:], own, kept=True)
    return _Name(folder, stem, own[1 : 1 + _TAG_LENGTH], suffix, kept=False)


def _format(suffix: str) -> str:
    return _SAME_FORMAT.get(suffix.lower(), suffix.lower())


def _assign(names: list[_Name]) -> list[str]:
    """A path below OUT for each of `names`, distinct also where upper and lower case are the same."""
    naturals = [name.natural() for name in names]
    keys = [_key(natural) for natural in naturals]
    folders = _folder_keys({name.folder for name in names})
    counts, owners = Counter(keys), dict[str, int]()
    for index, key in enumerate(keys):
        # A natural name goes to the only one, or the first one that was called so before.
        if key not in folders and (counts[key] == 1 or names[index].kept):
            owners.setdefault(key, index)
    taken, numbers = folders.union(keys), dict[str, int]()
    return [
        naturals[index] if owners.get(keys[index]) == index else _free(name, taken, numbers)
        for index, name in enumerate(names)
    ]


def _free(name: _Name, taken: set[str], numbers: dict[str, int]) -> str:
    first = _key(name.generated(1))
    # Going on from the last number keeps thousands of equal names linear.
    number = numbers.get(first, 1)
    while (key := _key(name.generated(number))) in taken:
        number += 1
    taken.add(key)
    numbers[first] = number
    return name.generated(number)


def _folder_keys(folders: set[str]) -> set[str]:
    """The keys of `folders` and of all above them: a result can't have the name of a folder."""
    keys: set[str] = set()
    for folder in folders:
        key = _key(folder)
        while key and key not in keys:
            keys.add(key)
            key = key.rpartition("/")[0]
    return keys


def _key(name: str) -> str:
    """The same for names that are one file on macOS or Windows."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name.casefold())


def _fit(stem: str, ending: str) -> str:
    """`stem` + `ending`, the stem shortened by whole characters to what file systems allow."""
    while len(stem) > 1 and len(os.fsencode(stem + ending)) > _NAME_BYTES:
        stem = stem[:-1]
    return stem + ending
