"""Tables that people write by hand: every mistake is named with its key, however strange what stands there is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import tomli_w

from ugatit_cli.files import CONTROLS
from ugatit_cli.wording import shown

Table = Mapping[str, Any]
Check = Callable[[object], str]
"""What is wrong with a value; empty if nothing."""

# Characters of a key or a value in a message, and mistakes that are told at once.
LONGEST: Final = 120
MOST: Final = 30
LARGEST: Final = 2**63 - 1  # bytes of a file, on any system

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NAME_RULE: Final = "up to 100 letters, digits, '.', '_' and '-', of which the first is a letter or digit"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:\*\.)?(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_ADDRESS = re.compile(r"https?://[!-~]{1,2000}")


def _nothing(table: Table, source: str | None) -> tuple[str, ...]:  # noqa: ARG001  # as all of its kind
    return ()


@dataclass(frozen=True)
class Form:
    """What the tables of one kind may say.

    Attributes:
        noun: what one describes, such as `model`.
        common: keys that each of them needs; `source` is one.
        sources: what `source` may be, with the keys that it needs and those that it may have, beside the common ones.
        optional: keys that each may have.
        checks: of the values of keys, as far as they don't depend on others.
        needs: more keys that one needs, by its table and its source, which is None if it is wrong.
        more: mistakes of keys that depend on each other, in the same way: `key: what is wrong`.
        reserved: sources that the package's own file may have only.
    """

    noun: str
    common: tuple[str, ...]
    sources: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    optional: tuple[str, ...]
    checks: Mapping[str, Check]
    needs: Callable[[Table, str | None], Iterable[str]] = _nothing
    more: Callable[[Table, str | None], Iterable[str]] = _nothing
    reserved: frozenset[str] = frozenset()

    @property
    def keys(self) -> tuple[str, ...]:
        """All of them."""
        of_sources = (key for parts in self.sources.values() for part in parts for key in part)
        return tuple(dict.fromkeys((*self.common, *of_sources, *self.optional)))


def toml_key(text: str) -> str:
    """A key as TOML writes it: in quotes where need be."""
    return tomli_w.dumps({text: 0}).removesuffix(" = 0\n")


def named(key: str) -> str:
    """A key in a message."""
    return shown(toml_key(key), LONGEST)


def said(value: object) -> str:
    """A value in a message."""
    return shown(repr(value), LONGEST)


def all_of(found: Sequence[str]) -> str:
    """All mistakes in one line, or the first of very many."""
    more = [f"and {len(found) - MOST} more"] if len(found) > MOST else []
    return " · ".join([*found[:MOST], *more])


def table_mistakes(tables: object, key: str, form: Form, *, users: bool = False) -> Iterator[str]:
    """A line for each mistake in all tables of one kind: `[KEY.NAME] key: what is wrong`.

    Args:
        tables: what stands below `key` in the file.
        users: the file isn't the package's own.
    """
    if not isinstance(tables, dict):
        yield f"{key}: must be a table of {form.noun}s"
        return
    for name, table in tables.items():
        if not NAME.fullmatch(name):
            yield f"[{key}] {named(name)}: not a {form.noun} name: {NAME_RULE}"
        if isinstance(table, dict):
            yield from (f"[{key}.{named(name)}] {mistake}" for mistake in _entry_mistakes(table, form, users=users))
        else:
            yield f"[{key}] {named(name)}: must be a table"
    yield from (f"[{key}.{named(name)}] aliases: {mistake}" for name, mistake in _shared(tables))


def _shared(tables: Table) -> Iterator[tuple[str, str]]:
    """Other names that aren't those of one entry alone, by the entry that has them."""
    taken = {name: name for name in tables}
    for name, table in tables.items():
        aliases = table.get("aliases") if isinstance(table, dict) else None
        for alias in aliases if isinstance(aliases, list) else []:
            if isinstance(alias, str) and taken.setdefault(alias, name) != name:
                yield name, f"{said(alias)} is a name of {named(taken[alias])}, too"


def wrong_keys(table: Table, needed: Collection[str], known: Collection[str]) -> Iterator[str]:
    """Keys that are missing or unknown; one that is only misspelt is not missing, too."""
    unknown = [key for key in table if key not in known]
    # Words that are far longer than any key take long to compare.
    meant = {key: (*difflib.get_close_matches(key[:LONGEST], known, n=1), "")[0] for key in unknown[: MOST + 1]}
    yield from (f"{named(key)}: missing" for key in needed if key not in table and key not in meant.values())
    for key in unknown:
        yield f"{named(key)}: unknown key" + (f"; did you mean {other}?" if (other := meant.get(key)) else "")


def _entry_mistakes(table: Table, form: Form, *, users: bool) -> Iterator[str]:
    sources = [source for source in form.sources if not (users and source in form.reserved)]
    source = next((source for source in sources if source == table.get("source")), None)
    needed, optional = form.sources[source] if source is not None else ((), form.keys)
    needed = (*form.common, *needed, *form.needs(table, source))
    yield from wrong_keys(table, needed, form.keys)
    for key, value in table.items():
        if key not in form.keys:
            continue
        if key not in (*needed, *optional, *form.optional):
            yield f"{key}: doesn't belong to an entry whose source is {source!r}"
        elif key == "source" and source is None:
            known, foreign = ", ".join(sources), isinstance(value, str) and value in form.reserved
            why = "is for the package's own manifest; a user's has" if foreign else "is none of"
            yield f"source: {said(value)} {why} {known}"
        elif key in form.checks and (mistake := form.checks[key](value)):
            yield f"{key}: {shown(mistake, 5 * LONGEST)}"
    yield from form.more(table, source)


# --- Values --------------------------------------------------------------------------------------------


def text(value: object, *, lines: bool = False) -> str:
    """Whether a value is text: one line, or several."""
    if not isinstance(value, str):
        return "must be text"
    if not value.strip():
        return "is empty"
    if CONTROLS.search(value.replace("\n", "").replace("\t", "") if lines else value):
        return "has control characters" if lines else "must be one line, without control characters"
    return ""


def texts(value: object) -> str:
    """Whether a value is a list of texts of one line, and not empty."""
    if not isinstance(value, list) or not value:
        return "must be a list of texts"
    return next(filter(None, map(text, value)), "")


def names(value: object) -> str:
    """Whether a value is a list of other names of an entry."""
    if not isinstance(value, list):
        return "must be a list of names"
    wrong = next((one for one in value if not (isinstance(one, str) and NAME.fullmatch(one))), None)
    return "" if wrong is None else f"{said(wrong)} is no name: {NAME_RULE}"


def flag(value: object) -> str:
    """Whether a value is true or false."""
    return "" if isinstance(value, bool) else "must be true or false"


def like(pattern: re.Pattern[str], otherwise: str) -> Check:
    """Whether a value is text of this form."""
    return lambda value: "" if isinstance(value, str) and pattern.fullmatch(value) else f"{said(value)} {otherwise}"


def one_of(known: Collection[str]) -> Check:
    """Whether a value is one of these words."""
    return lambda value: (
        "" if isinstance(value, str) and value in known else f"{said(value)} is none of {', '.join(known)}"
    )


def byte_count(value: object) -> str:
    """Whether a value is a number of bytes that a file can have."""
    return "" if type(value) is int and 0 < value <= LARGEST else f"{said(value)} is no number of bytes"


def address(value: object) -> str:
    """Whether a value is the whole address of a file on the web, without a password in it."""
    wrong = f"{said(value)} is no address of a file: https://HOST/PATH"
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        return wrong
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return wrong
    plain = not parts.username and parts.password is None and not parts.fragment and port != 0
    host = parts.hostname or ""
    return "" if plain and _HOST.fullmatch(host) and host[0] != "*" and parts.path.strip("/") else wrong


def hosts(value: object) -> str:
    """Whether a value is a list of hosts, of which one may stand for all below it: `*.example.org`."""
    if not isinstance(value, list):
        return "must be a list of hosts"
    wrong = next((one for one in value if not (isinstance(one, str) and _HOST.fullmatch(one))), None)
    return "" if wrong is None else f"{said(wrong)} is no host, such as example.org or *.example.org"
