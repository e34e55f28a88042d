"""Pictures at URLs: what an argument names there, and what of it may be taken."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ugatit_cli.errors import UsageError
from ugatit_cli.files import CONTROLS, wrong_name
from ugatit_cli.pictures.names import joined, kind_of
from ugatit_cli.remote import places
from ugatit_cli.remote.places import Entry
from ugatit_cli.remote.systems import Trouble
from ugatit_cli.remote.urls import WEB, Place, Url


@dataclass(frozen=True, slots=True)
class FoundThere:
    """A picture: `below` is its path in OUT before renaming, `direct` whether an argument names it itself."""

    url: Url
    below: str
    direct: bool
    changed: int | None


class Elsewhere:
    """Looks up URLs; what can't be found or taken goes to `missing`, what isn't called like a picture is counted.

    Args:
        out: where results go: those of an earlier run aren't inputs.
        suffixes: what a scan of a folder picks up.
    """

    def __init__(
        self, out: Place, suffixes: frozenset[str], missing: dict[str, str], passed_over: dict[str, Counter[str]]
    ) -> None:
        self.out, self.suffixes, self.missing, self.passed_over = out, suffixes, missing, passed_over
        self._looked: dict[Url, Entry | Trouble] = {}

    def is_folder(self, url: Url) -> bool:
        """Whether something there is a folder."""
        there = self._look(url)
        return isinstance(there, Entry) and there.is_folder

    def argument(self, argument: str, url: Url, below: str, *, literal: bool) -> list[FoundThere]:
        """What an argument names, sorted by path; of a folder, `below` is the place of its results in OUT."""
        there = self._look(url)
        try:
            if isinstance(there, Trouble):
                if literal or url.scheme in WEB or there.lasting or not any(one in url.path for one in "*?["):
                    raise there
                found = self._glob(argument, url)
            elif not there.is_folder:
                return self._safe(there, there.below, direct=True)
            else:
                self._check_folder(argument, url, below)
                found = list(self._scan(argument, url, below))
        except Trouble as error:
            self.missing.setdefault(str(url), str(error))
            return []
        return sorted(found, key=lambda one: one.below)

    def _look(self, url: Url) -> Entry | Trouble:
        if url not in self._looked:
            try:
                self._looked[url] = places.look(url)
            except Trouble as error:
                self._looked[url] = error
        return self._looked[url]

    def _check_folder(self, argument: str, url: Url, below: str) -> None:
        if isinstance(self.out, Url) and url in (self.out, self.out / below if below else self.out):
            raise UsageError(
                f"the results would mix with the sources in {url}",
                f"Give another folder with -o; one inside it is fine (-o {argument.rstrip('/')}/results).",
            )

    def _scan(self, argument: str, folder: Url, below: str) -> Iterator[FoundThere]:
        for entry in places.find(folder):
            parts = entry.below.split("/")
            if entry.is_folder or self._is_result(entry.url) or any(_is_hidden(part) for part in parts):
                continue
            if os.path.splitext(entry.below)[1].lower() in self.suffixes:  # noqa: PTH122
                yield from self._safe(entry, joined(below, entry.below))
            else:
                self.passed_over.setdefault(argument, Counter()).update([kind_of(parts[-1])])

    def _glob(self, argument: str, pattern: Url) -> list[FoundThere]:
        base, rest = _split(pattern)
        found: list[FoundThere] = []
        asked = rest.rpartition("/")[2].startswith(".")
        for entry in places.glob(pattern, base):
            hidden = [part for part in entry.below.split("/") if _is_hidden(part)]
            if self._is_result(entry.url) or (hidden and not asked):
                continue
            if not entry.is_folder:
                found += self._safe(entry, entry.below)
            elif "**" not in rest:
                found += self._scan(argument, entry.url, entry.below)
        if not found:
            raise Trouble("no file matches this pattern")
        return found

    def _safe(self, entry: Entry, below: str, *, direct: bool = False) -> list[FoundThere]:
        """The picture, unless a stranger's name for it would lead out of OUT, or can't be one of a file here."""
        if why := wrong_below(below):
            self.missing.setdefault(str(entry.url), f"its name {why}")
            return []
        return [FoundThere(entry.url, below, direct, entry.changed)]

    def _is_result(self, url: Url) -> bool:
        return isinstance(self.out, Url) and self.out.holds(url)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") and name not in (".", "..")


def wrong_below(below: str) -> str:
    """Why what a stranger calls a picture is no path of a result in OUT; empty if it is."""
    if {".", "..", ""} & {*below.split("/")}:
        return "would lead elsewhere"
    if os.name == "nt":
        return wrong_name(below)
    return "has control characters" if CONTROLS.search(below) else ""


def _split(pattern: Url) -> tuple[Url, str]:
    """The longest leading folder without wildcards, and the rest."""
    parts = pattern.path.split("/")
    count = next(number for number, part in enumerate(parts) if any(one in part for one in "*?["))
    return replace(pattern, path="/".join(parts[:count])), "/".join(parts[count:])
