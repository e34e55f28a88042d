"""Which pictures to translate, and where each result goes.

Turns the command line's INPUT arguments and `-o OUT` into a list of jobs. Nothing is written here, and nothing but
lists of names is read: folders are listed, so that every contradiction is found before a model is loaded.
"""
# ruff: noqa: PTH100, PTH110, PTH111, PTH112, PTH113, PTH114, PTH116, PTH118, PTH119, PTH120, PTH121, PTH122

from __future__ import annotations

import codecs
import contextlib
import fnmatch
import functools
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ugatit_cli.errors import UsageError, plain_reason
from ugatit_cli.pictures.elsewhere import Elsewhere, wrong_below
from ugatit_cli.pictures.names import assigned, joined, kind_of, result_name
from ugatit_cli.pictures.sources import fold
from ugatit_cli.remote.places import check_archive
from ugatit_cli.remote.systems import check
from ugatit_cli.remote.urls import Place, Url, is_folder_text, place
from ugatit_cli.wording import without_passwords

STDIN = "-"
STDOUT = Path("-")

LINKED = "linked folder"
"""What isn't followed when a folder is searched."""

_OPTIONS = "options go before --, as all is a name after it"
_SHOWN = 8  # kinds of files that a message lists
_ARCHIVES = (".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip")


@dataclass(frozen=True)
class Job:
    """One picture to translate; None is standard input or output.

    Args:
        several: all files of a result that has more than one.
        kept: those of them that exist and are left as they are.
        content: the picture itself, where it is in memory: `source` is only its name then.
        key: its path below OUT as its result would be called if it were alone and kept its suffix; whoever lists it.
        changed: when a source elsewhere changed, in nanoseconds since 1970, as far as that is known.
        renamed: its result isn't called like it, since another one is.
    """

    source: Place | None
    output: Place | None
    several: tuple[Place, ...] = ()
    kept: tuple[Place, ...] = ()
    content: bytes | None = field(default=None, repr=False)
    key: str = field(default="", compare=False)
    changed: int | None = None
    renamed: bool = field(default=False, compare=False)

    @property
    def name(self) -> str:
        """What messages call it."""
        return "<stdin>" if self.source is None else str(self.source)

    @property
    def outputs(self) -> tuple[Place, ...]:
        """The files of the result; none for standard output."""
        return self.several or (() if self.output is None else (self.output,))


@dataclass(frozen=True)
class Found:
    """What arguments name.

    Attributes:
        jobs: in the order of the arguments, inside folders sorted by relative path.
        missing: what couldn't be found or listed -> why.
        passed_over: folder argument -> suffix -> how many files there aren't called like pictures; `LINKED` folders.
        named: OUT is the file of a single picture.
    """

    jobs: list[Job]
    missing: dict[str, str] = field(default_factory=dict)
    passed_over: dict[str, Counter[str]] = field(default_factory=dict)
    named: bool = False


@dataclass(frozen=True)
class Wanted:
    """What the command line says of its pictures.

    Attributes:
        arguments: files, folders, glob patterns, here or at URLs, or `-` for standard input.
        listed: files and folders, each as it is.
        out: the folder for the results (for certain with a `/` at its end), or the output file of a single picture;
            `-` for standard output.
        base: results keep their path below this folder.
        may_be_none: there may be no pictures yet; all arguments are folders, which may be gone for a while.
        suffixes: lower-case suffixes that pictures have, with their dot: a scan of a folder picks them up.
        films: those that films have, whose results are films.
        scan_films: whether a scan picks these up, too.
        writable: those that results of pictures can have.
        named: those of them that only OUT can have.
        writable_films: those that results of films can have.
        rename: gives the suffix of a source's result, with its dot.
        whole: the way to one file of several pictures, a sentence; empty if there is none.
    """

    arguments: Sequence[str]
    out: str | None
    suffixes: Collection[str]
    rename: Callable[[Place], str]
    writable: Collection[str] = ()
    named: Collection[str] = ()
    films: Collection[str] = ()
    writable_films: Collection[str] = ()
    scan_films: bool = False
    listed: Sequence[str] = ()
    base: str | Path | None = None
    may_be_none: bool = False
    whole: str = ""

    def kind(self, source: Place | None) -> tuple[str, Collection[str], Collection[str]]:
        """What a source is: its name in messages, what others of it are called, and what its results can be."""
        if source is not None and kind_of(source.name) in self.films:
            return "films", self.films, self.writable_films
        return "pictures", {*self.suffixes, *self.named}, self.writable

    @property
    def file_suffixes(self) -> set[str]:
        """Those of names that nobody gives to a folder without saying so."""
        return {".pdf", *_ARCHIVES, *self.suffixes, *self.films, *self.writable, *self.writable_films}


def find_jobs(wanted: Wanted) -> Found:
    """Finds the pictures that are named and gives each an output that no other one has.

    Raises:
        UsageError: the arguments contradict each other, there are no pictures, or a result would overwrite an input.
    """
    if list(wanted.arguments).count(STDIN) > 1:
        raise UsageError("standard input (-) is given more than once", "Give - a single time.")
    if wanted.out is None and (list(wanted.arguments) != [STDIN] or wanted.listed):
        hint = "Name a folder for the results (ugatit translate photos -o results)."
        hint = f"{_OPTIONS.capitalize()}." if {"-o", "--output"} & {*wanted.arguments} else hint
        raise UsageError("-o/--output is needed", hint)
    out = STDOUT if wanted.out is None else place(wanted.out)
    if isinstance(out, Url):
        check(out, writing=True)
        check_archive(out)
    scanned = frozenset([*wanted.suffixes, *(wanted.films if wanted.scan_films else ())])
    search = _Search(out, scanned, wanted.base, may_be_gone=wanted.may_be_none)
    found = search.run(wanted.arguments, wanted.listed)
    named = _is_named(found, out, wanted)
    jobs = _jobs(found, None if named and out == STDOUT else out, named, wanted.rename)
    if not jobs and not search.missing and not wanted.may_be_none:
        names = ", ".join(sorted(search.suffixes))
        told = "".join(f"; {in_words(counts)}" for counts in search.passed_over.values())
        where = ", ".join(wanted.arguments) or "the list"
        films = any(kind in wanted.films for counts in search.passed_over.values() for kind in counts)
        more = "; for films, too, with --films" if films else ""
        drawings = any(".svg" in counts for counts in search.passed_over.values())
        more += "; render .svg to PNG first" if drawings else ""
        raise UsageError(f"no pictures in {where}{told}", f"Folders are searched for {names}{more}.")
    check_results(jobs)
    return Found(jobs, search.missing, search.passed_over, named)


def in_words(passed_over: Counter[str]) -> str:
    """`6 passed over: 4 .txt, 1 without a suffix, 1 linked folder`."""
    names = {"": "without a suffix", LINKED: LINKED}
    kinds = [
        f"{count} {names.get(kind, kind)}{'s' * (kind == LINKED and count > 1)}"
        for kind, count in passed_over.most_common()
    ]
    more = [f"{len(kinds) - _SHOWN} more kinds"] if len(kinds) > _SHOWN else []
    return f"{passed_over.total()} passed over: {', '.join(kinds[:_SHOWN] + more)}"


def listed(data: bytes) -> list[str]:
    """The names in a list: one a line, or one after each NUL if there is any."""
    data = data.removeprefix(codecs.BOM_UTF8)  # with which editors on Windows begin files
    nul = b"\0" in data
    names = data.split(b"\0") if nul else (line.removesuffix(b"\r") for line in data.split(b"\n"))
    return [os.fsdecode(name) for name in names if name]


def check_results(jobs: Sequence[Job]) -> None:
    """Makes sure that no result is an input, or another's result, by whatever path.

    Raises:
        UsageError: one is.
    """
    taken: dict[tuple[object, str], Job] = {}
    folder_of = functools.cache(_identity)
    existing: list[tuple[Job, Place]] = []
    elsewhere = {job.source for job in jobs if isinstance(job.source, Url)}
    for job in jobs:
        for path in job.outputs:
            folder = path.parent if isinstance(path, Url) else folder_of(os.path.dirname(path))
            other = taken.setdefault((folder, fold(path.name)), job)
            if other is not job:
                raise UsageError(
                    f"the results of {other.name} and {job.name} would be one file: {path}",
                    "A link in the output folder leads to another folder of it: give another one (-o results).",
                )
            if path in elsewhere or (isinstance(path, Path) and os.path.exists(path)):
                existing.append((job, path))
    # Whatever would be overwritten exists, and is the same file however it is called.
    sources = {identity(job.source): job for job in jobs if job.source} if existing else {}
    for job, path in existing:
        if (source := sources.get(identity(path))) is not None:
            of = "itself" if source is job else f"the input {source.name}"
            raise UsageError(
                f"the result {path} of {job.name} would overwrite {of}", "Give another output (-o results)."
            )


def identity(place: Place) -> object:
    """The same for all names of a file, there or not."""
    return place if isinstance(place, Url) else _identity(str(place))


def _identity(path: str) -> object:
    """The same for all paths of a file or folder; of one that doesn't exist, its place in a folder that does."""
    below: list[str] = []
    while True:
        try:
            state = os.stat(path or ".")
        except (OSError, ValueError):
            above, name = os.path.split(path)
            if above == path:
                return path
            below.append(fold(name))
            path = above
        else:
            place = (state.st_dev, state.st_ino) if state.st_ino else os.path.realpath(path)
            return place, *below


# --- Finding -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    """A picture: `below` is its path in OUT before renaming, `direct` whether an argument names it itself.

    `place` is its path with the folder resolved, `real` with a link of its own resolved, too.
    """

    source: Place | None
    below: str
    place: str
    real: str
    direct: bool = False
    changed: int | None = None


_STDIN = _Found(None, "stdin", "<stdin>", "<stdin>", direct=True)


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
        return _Found(Path(entry.path), joined(self.below, entry.name), place, real)


class _Search:
    """Looks up arguments one after the other; strings rather than paths inside, for large folders."""

    def __init__(
        self, out: Place, suffixes: frozenset[str], base: str | Path | None, *, may_be_gone: bool = False
    ) -> None:
        self.out = out
        self.out_real = "" if out == STDOUT or isinstance(out, Url) else os.path.realpath(out)
        self.suffixes = suffixes
        self.may_be_gone = may_be_gone
        self.missing: dict[str, str] = {}
        self.passed_over: dict[str, Counter[str]] = {}
        self.elsewhere = Elsewhere(out, suffixes, self.missing, self.passed_over)
        self.real_folder = functools.cache(os.path.realpath)
        self.base = None if base is None else place(str(base))
        if isinstance(self.base, Path) and not self.base.is_dir():
            raise UsageError(f"--base {base}: there is no such folder", "Name a folder above the pictures.")

    def run(self, arguments: Sequence[str], listed: Sequence[str]) -> list[_Found]:
        """Every picture once, under the first name that the arguments give it."""
        named = [*((argument, False) for argument in arguments), *((name, True) for name in listed)]
        paths = [(argument, self.expansion(argument, literal), literal) for argument, literal in named]
        folders = {self.folder(path) for _, path, _ in paths} - {None}
        found: dict[str, _Found] = {}
        for argument, path, literal in paths:
            each = self.argument(argument, path, len(folders) > 1, literal=literal)
            for one in each if self.base is None else self.below_base(each):
                found.setdefault(one.real, one)
        return list(found.values())

    def expansion(self, argument: str, literal: bool) -> str | Url | None:
        """What an argument names: a path, or something elsewhere; None is standard input, or what names nothing."""
        if argument == STDIN and not literal:
            return None
        if "://" not in argument or (_is_pattern(argument) and os.path.lexists(_split_pattern(argument)[0])):
            return argument if literal else os.path.expanduser(argument)
        try:
            where = place(argument)
            if isinstance(where, Url):
                check(where)
        except UsageError as error:
            if not literal:
                raise
            self.missing.setdefault(without_passwords(argument), error.message)
            return None
        return where if isinstance(where, Url) else str(where)

    def folder(self, path: str | Url | None) -> str | None:
        """The folder that an argument is, however it is called; None if it is none."""
        if isinstance(path, Url):
            return path.full if self.elsewhere.is_folder(path) else None
        return os.path.realpath(path) if path is not None and (self.may_be_gone or os.path.isdir(path)) else None

    def argument(self, argument: str, path: str | Url | None, several: bool, *, literal: bool) -> list[_Found]:
        """What one argument names; `path` is its expansion, `several` whether folders get their own in OUT."""
        if path is None:
            return [_STDIN] if argument == STDIN else []
        if isinstance(path, Url):
            there = self.elsewhere.argument(argument, path, path.title if several else "", literal=literal)
            return [_Found(one.url, one.below, one.url.full, one.url.full, one.direct, one.changed) for one in there]
        try:
            state = os.stat(path)
        except (OSError, ValueError) as error:
            if literal or os.path.lexists(path) or not _is_pattern(path):
                wrong = not literal and argument.startswith("-")
                self.missing.setdefault(argument, plain_reason(error) + f"; {_OPTIONS}" * wrong)
                return []
            found = self.glob(argument, path)
        else:
            if stat.S_ISREG(state.st_mode):
                return [self.file(path)]
            if not stat.S_ISDIR(state.st_mode):
                self.missing.setdefault(argument, "is a pipe or a device; give - and pipe the picture in")
                return []
            found = self.scan(self.root(path, several), argument)
        inputs = [one for one in found if one.real == one.place or not self.is_result(one.real)]
        return sorted(inputs, key=lambda one: one.below)

    def below_base(self, found: list[_Found]) -> list[_Found]:
        """Those of `found` below `base`, with the names that they have from there."""
        kept = []
        for one in found:
            below = one.below if one.source is None else self.from_base(one.source, one.place)
            if below is None:
                self.missing.setdefault(str(one.source), f"is not below --base {self.base}")
            elif isinstance(one.source, Url) and (why := wrong_below(below)):
                self.missing.setdefault(str(one.source), f"its name {why}")
            else:
                kept.append(replace(one, below=below))
        return kept

    def from_base(self, source: Place | str, real: str) -> str | None:
        """How a file is called from `base`, if it is below it."""
        if isinstance(source, Url) or isinstance(self.base, Url):
            if isinstance(source, Url) and isinstance(self.base, Url) and self.base.holds(source):
                return self.base.below(source)
            return None
        base = str(self.base)
        for path, start in zip((str(source), real), (os.path.abspath(base), os.path.realpath(base)), strict=True):
            full, start = os.path.abspath(path), os.path.join(start, "")
            if full.startswith(start):
                return full[len(start) :].replace(os.sep, "/")
        return None

    def file(self, path: str) -> _Found:
        folder, name = os.path.split(path)
        place = os.path.join(self.real_folder(folder), name)
        real = os.path.realpath(path) if os.path.islink(path) else place
        return _Found(Path(path), name, place, real, direct=True)

    def root(self, path: str, several: bool) -> _Folder:
        real = os.path.realpath(path)
        below = os.path.basename(real) if several else ""
        if self.base:
            below = self.from_base(path, real) or ""
        if isinstance(self.out, Path) and self.out != STDOUT:
            for target in {self.out, self.out / below}:
                if os.path.isdir(target) and os.path.samefile(target, path):
                    raise UsageError(
                        f"the results would mix with the sources in {path}",
                        f"Give another folder with -o; one inside it is fine (-o {os.path.join(path, 'results')}).",
                    )
        return _Folder(path, real, below)

    def scan(self, root: _Folder, argument: str) -> list[_Found]:
        """The pictures below `root`, in no useful order; the other files are counted as the argument's."""
        found: list[_Found] = []
        pending = [root]
        while pending:
            folder = pending.pop()
            for entry in self.entries(folder):
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry, follow_links=False):
                    pending.extend(self.children(folder, entry))
                elif self.is_readable(entry) and self.is_picture(entry):
                    found.append(folder.entry(entry))
                elif kind := self.kind(folder, entry):
                    self.passed_over.setdefault(argument, Counter()).update(kind)
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
                found += self.match(folder, rest, pending, "" if "**" in parts else argument)
        if not found:
            self.missing.setdefault(argument, "no file matches this pattern")
        return found

    def match(
        self, folder: _Folder, parts: list[str], pending: list[tuple[_Folder, list[str]]], scanned: str
    ) -> list[_Found]:
        """Files in `folder` that match the last part; folders to go on with are added to `pending`.

        Folders that match it are scanned for the argument `scanned`, unless that is empty.
        """
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
                    elif scanned:
                        found += self.scan(child, scanned)
            elif not rest and self.is_readable(entry):
                found.append(folder.entry(entry))
        return found

    def kind(self, folder: _Folder, entry: os.DirEntry[str]) -> list[str]:
        """What `entry` is that is passed over; nothing for what has been said already, and for OUT."""
        if _is_folder(entry, follow_links=True):
            return [LINKED] * len(self.children(folder, entry))
        return [] if self.is_picture(entry) else [kind_of(entry.name)]

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


def _is_named(found: list[_Found], out: Place, wanted: Wanted) -> bool:
    """Whether OUT is the file of the only picture, or standard output; checks that it can be what it is."""
    single = len(found) == 1 and found[0].direct
    if out == STDOUT:
        if found and not single:
            raise UsageError("only a single picture can go to standard output", "Give a folder (-o results).")
        return bool(found)
    text = str(wanted.out)
    folder = is_folder_text(text) or (isinstance(out, Path) and os.path.isdir(out))
    what, named, writable = wanted.kind(found[0].source if found else None)
    if single and not folder and out.suffix.lower() in named:
        _require_folder(out.parent)
        return True
    there, kind = isinstance(out, Path) and os.path.exists(out), out.suffix[1:]
    if single and not folder and not there and kind.isalnum() and not kind.isdecimal():
        raise UsageError(
            f"{text}: {what} can't be written as .{kind}",
            f"They are written as {', '.join(sorted(writable))}. {_for_folder(text)}",
        )
    if found:
        _require_folder(out)
        if not folder and kind_of(out.name) in wanted.file_suffixes:
            hint = f"{wanted.whole} {_for_folder(text)}".strip()
            raise UsageError(f"{text}: is the name of one file, and the results are several", hint)
    return False


def _for_folder(text: str) -> str:
    hint = f"For a folder of that name: -o {text}/"
    return f"{hint}; for an archive: -o zip://{text}" if text.lower().endswith(".zip") and "://" not in text else hint


def _jobs(found: list[_Found], out: Place | None, named: bool, rename: Callable[[Place], str]) -> list[Job]:
    """A job for each of `found`: its result is `out` itself (`named`), or in that folder."""
    if named or out is None:
        return [Job(one.source, out, key=one.below, changed=one.changed) for one in found]
    names = [result_name(one.below, rename(one.source or Path("stdin"))) for one in found]
    return [
        Job(one.source, out / path, key=one.below, changed=one.changed, renamed=path != name.natural())
        for one, name, path in zip(found, names, assigned(names), strict=True)
    ]


def _require_folder(out: Place) -> None:
    if isinstance(out, Url):
        return
    existing = next((place for place in (out, *out.parents) if os.path.lexists(place)), None)
    if existing is None or os.path.isdir(existing):
        return
    if (os.path.exists(existing) and not os.path.isfile(existing)) or str(existing).startswith(("/dev/", "/proc/")):
        raise UsageError(f"{existing} is a pipe or a device", "For standard output, say -o -")
    raise UsageError(
        f"{existing} is a file, but the results need a folder",
        "Give another folder (-o results). A single picture may also go to a file (-o result.png).",
    )
