"""What people chose in a study: shares of the methods, how sure they are, and whether the first is really ahead."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any, Final

from ugatit_cli.arguments import checked, fitted
from ugatit_cli.errors import UsageError, plain_reason
from ugatit_cli.files import read_file

KEY_FORMAT: Final = "ugatit study key 1"
ANSWERS_FORMAT: Final = "ugatit study answers 1"
CONFIDENCE: Final = 0.95
MOST: Final = 1 << 24  # bytes of a key, or of a person's answers


@dataclass(frozen=True)
class Share:
    """How often a method was chosen.

    Attributes:
        chosen: the number of choices.
        share: of all choices, in [0, 1].
        low, high: the 95 % interval of the share (Wilson 1927).
    """

    method: str
    chosen: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, method: str, chosen: int, choices: int) -> Share:
        """Of so many choices."""
        return cls(method, chosen, chosen / max(choices, 1), *wilson(chosen, choices))


@dataclass(frozen=True)
class SignTest:
    """Whether the first method is ahead of the next best by more than chance (two-sided, exact).

    Attributes:
        first, second: the methods.
        wins, losses: how often either was chosen; all other choices say nothing about them.
        p: how likely chance alone makes a difference of at least that size.
    """

    first: str
    second: str
    wins: int
    losses: int
    p: float

    @classmethod
    def of(cls, first: str, second: str, wins: int, losses: int) -> SignTest:
        """With its p."""
        return cls(first, second, wins, losses, sign_test(wins, losses))


@dataclass(frozen=True)
class Tally:
    """What was chosen in a study.

    Attributes:
        study: its number.
        question: what was asked.
        persons, pictures, choices: how many.
        shares: of all methods, the most chosen first.
        by_choices: the sign test of single choices, as if each were independent of all others.
        by_persons: the same of persons, each of whom counts once, for the method that he or she chose more often.
        places: how often the first, second, ... result of a row was chosen; about equally often, or some didn't look.
        left_out: files that don't count, each with the reason.
    """

    study: str
    question: str
    persons: int
    pictures: int
    choices: int
    shares: tuple[Share, ...]
    by_choices: SignTest
    by_persons: SignTest
    places: tuple[int, ...]
    left_out: tuple[UsageError, ...]


@dataclass(frozen=True)
class _Key:
    """Of each picture's results the methods, by the numbers that the page knows them by."""

    study: str
    question: str
    methods: tuple[str, ...]
    pictures: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class _Answers:
    """Of one file: of each picture that was answered the method that was chosen, and its place in the row."""

    path: Path
    person: str
    name: str
    chosen: Mapping[str, tuple[str, int]]

    def count(self, method: str) -> int:
        return sum(chosen == method for chosen, _ in self.chosen.values())


_Files = Annotated[Iterable[str | PathLike[str]], "the paths of files"]


@checked
def tally_study(answers: _Files, key: str | PathLike[str] | None = None) -> Tally:
    """Counts what people chose.

    A person counts once: of several files of one person, or under one name, the one with the most answers does.

    Args:
        answers: files that people downloaded from the page of one study.
        key: the file that was written beside the page; None: it is among `answers`.

    Raises:
        UsageError: there is no key, several, or it is none. Answers that can't be counted are in `left_out`.
    """
    documents: dict[Path, dict[str, Any]] = {}
    left_out: list[UsageError] = []
    for path in [Path(fitted(f"answers[{i}]", one, str | PathLike[str])) for i, one in enumerate(answers)]:
        with _left_out(left_out):
            documents[path] = _document(path)
    keys = {path: one for path, one in documents.items() if one.get("format") == KEY_FORMAT}
    study = _key(Path(key), _document(Path(key))) if key is not None else _only_key(keys)
    files = []
    for path, document in documents.items():
        with _left_out(left_out):
            if path not in keys or document.get("study") != study.study:
                files.append(_answers(path, document, study))
    return _tally(study, _one_each(files, left_out), left_out)


# --- Files ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _left_out(errors: list[UsageError]) -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        errors.append(error)


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_file(path, MOST))
    except OSError as error:
        raise UsageError(f"{path}: {plain_reason(error)}", "Check its name and permissions.") from None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise UsageError(f"{path}: is no complete JSON document", "Ask for the file once more.")
    return document


def _only_key(keys: Mapping[Path, dict[str, Any]]) -> _Key:
    if len(keys) != 1:
        found = (
            f"there are several keys: {', '.join(map(str, keys))}" if keys else "there is no key among the answers"
        )
        raise UsageError(found, "Name the file that was written beside the page: --key study.key.json")
    ((path, document),) = keys.items()
    return _key(path, document)


def _key(path: Path, document: dict[str, Any]) -> _Key:
    try:
        pictures = {str(row): dict(one["results"]) for row, one in document["pictures"].items()}
        methods = tuple(map(str, document["methods"]))
        whole = all(sorted(owners.values()) == sorted(methods) for owners in pictures.values())
        whole = whole and document["format"] == KEY_FORMAT and len(methods) > 1
    except (KeyError, TypeError, ValueError, AttributeError):
        whole = False
    if not whole:
        raise UsageError(f"{path}: is no key of a study", "It is beside the page: study.key.json with study.html.")
    return _Key(str(document.get("study")), str(document.get("question")), methods, pictures)


def _answers(path: Path, document: dict[str, Any], key: _Key) -> _Answers:
    if document.get("format") != ANSWERS_FORMAT:
        raise UsageError(f"{path}: has no answers to a study", "Give what people downloaded from the page.")
    if document.get("study") != key.study:
        raise UsageError(f"{path}: answers another study", "Count it with that one's key.")
    places, chosen = range(1, len(key.methods) + 1), {}
    try:
        for one in document["answers"]:
            method = key.pictures[one["picture"]][one["chosen"]]
            chosen[str(one["picture"])] = method, places.index(one["place"]) + 1
        person, name = document["person"], document["name"]
        whole = len(chosen) == len(document["answers"]) and isinstance(person, str) and isinstance(name, str)
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        reason = "is damaged: its answers are none to what the page asks"
        raise UsageError(f"{path}: {reason}", "Ask for the file once more.")
    if not chosen:
        raise UsageError(f"{path}: has no answers yet", "Ask for it again when there are some.")
    return _Answers(path, person, " ".join(name.split()), chosen)


def _one_each(files: Iterable[_Answers], left_out: list[UsageError]) -> list[_Answers]:
    """One file of each person, that with the most answers."""
    counted: list[_Answers] = []
    known: dict[tuple[str, str], _Answers] = {}
    for one in sorted(files, key=lambda one: -len(one.chosen)):
        marks = [("person", one.person), *([("name", one.name.casefold())] if one.name else [])]
        before = next((known[mark] for mark in marks if mark in known), None)
        known = {**dict.fromkeys(marks, one), **known}
        if before is None:
            counted.append(one)
            continue
        who = "the same person" if one.person == before.person else f"a person of the same name ({one.name})"
        hint = "" if one.person == before.person else "If they are two, change the `name` in one of the files."
        message = f"{one.path}: is of {who} as {before.path}, whose {len(before.chosen)} answers count"
        left_out.append(UsageError(message, hint))
    return counted


# --- Counting ------------------------------------------------------------------------------------------


def _tally(key: _Key, counted: Sequence[_Answers], left_out: Sequence[UsageError]) -> Tally:
    choices = sum(len(one.chosen) for one in counted)
    numbers = {method: sum(one.count(method) for one in counted) for method in key.methods}
    order = sorted(key.methods, key=lambda method: -numbers[method])
    first, second = order[:2]
    ahead = [one.count(first) - one.count(second) for one in counted]
    places = Counter(place for one in counted for _, place in one.chosen.values())
    return Tally(
        key.study,
        key.question,
        persons=len(counted),
        pictures=len({picture for one in counted for picture in one.chosen}),
        choices=choices,
        shares=tuple(Share.of(method, numbers[method], choices) for method in order),
        by_choices=SignTest.of(first, second, numbers[first], numbers[second]),
        by_persons=SignTest.of(first, second, sum(one > 0 for one in ahead), sum(one < 0 for one in ahead)),
        places=tuple(places[place + 1] for place in range(len(order))),
        left_out=tuple(left_out),
    )


def wilson(chosen: int, choices: int) -> tuple[float, float]:
    """The 95 % interval of a share, both ends in [0, 1] (Wilson 1927): all of that without any choice."""
    if not choices:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) ** 2
    share = chosen / choices
    middle, wide = share + z2 / (2 * choices), math.sqrt(z2 * (share * (1 - share) + z2 / (4 * choices)) / choices)
    low, high = ((middle + sign * wide) / (1 + z2 / choices) for sign in (-1, 1))
    return max(0.0, low) if chosen else 0.0, min(1.0, high) if chosen < choices else 1.0


def sign_test(wins: int, losses: int) -> float:
    """How likely a fair coin gives so many of either, or a more uneven number: two-sided, exact."""
    total, most = wins + losses, max(wins, losses)
    term = math.comb(total, most)
    tail = 0
    for heads in range(most, total + 1):
        tail += term
        term = term * (total - heads) // (heads + 1)
    return min(1.0, 2 * tail / (1 << total))
