"""What `ugatit data` says of data sets: rows of the list, all that is known of one, JSON."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ugatit_cli.cli.listing import (
    NOT_STATED,
    UNKNOWN,
    Column,
    Group,
    host_of,
    origin_facts,
    size_text,
    state_text,
    stated_hashes,
    told,
)

if TYPE_CHECKING:
    from ugatit_cli.datasets.catalog import KnownData

COLUMNS: Final = (
    Column("NAME"),
    Column("DOMAINS"),
    Column("SIZE"),
    Column("PICTURES", 76),
    Column("STATE", None),
    Column("FROM", 100),
    Column("LICENCE", 130, cut=True),
)
HOLDOUTS: Final = {"train": "taken from training: test pictures of one domain are among those to train with"}


def groups(found: Sequence[KnownData]) -> list[Group]:
    """Ready here, one download away, built from packages."""
    titles = {
        "here": ("ready here", "`ugatit train --data NAME`"),
        "away": ("one download away", "at first use, or `ugatit data fetch NAME`"),
        "packages": ("built from packages", "the same, drawn on this machine"),
    }
    return [Group(*words, [row(one) for one in found if _group(one) == key]) for key, words in titles.items()]


def _group(known: KnownData) -> str:
    if known.stored is not None:
        return "here"
    return "packages" if known.entry is not None and known.entry.source == "packages" else "away"


def row(known: KnownData) -> tuple[str, ...]:
    """Of the list: see `COLUMNS`."""
    return (
        known.name,
        ", ".join(_domains(known)) or UNKNOWN,
        _size(known, marked=True),
        pictures(known.counts),
        state_text(known.state, known.entry),
        origin(known),
        " ".join((_licence(known) or UNKNOWN).split()),
    )


def _size(known: KnownData, *, marked: bool = False) -> str:
    if known.stored is not None or known.entry is None:
        return size_text(known.size)
    return size_text(known.size, known.entry.about, verified=known.entry.verified or not marked)


def origin(known: KnownData) -> str:
    """Where a data set comes from, in few words."""
    entry = known.entry
    if entry is None and known.name.startswith("hub:"):
        return f"Hub {known.name.removeprefix('hub:').partition('/')[0]}"
    if entry is None:
        return known.stored.source if known.stored is not None else UNKNOWN
    owner = entry.repository.partition("/")[0]
    return {"packages": "npm", "hub": f"Hub {owner}", "zip": host_of(entry.url)}[entry.source]


def pictures(counts: Mapping[str, int]) -> str:
    """How many there are to train with: `1,067 + 1,334`."""
    training = [counts[name] for name in ("trainA", "trainB") if name in counts]
    return " + ".join(f"{count:,}" for count in training) or NOT_STATED


def _domains(known: KnownData) -> Sequence[str]:
    if known.stored is not None:
        return known.stored.domains
    return known.entry.domains if known.entry is not None else ()


def _licence(known: KnownData) -> str | None:
    if known.stored is not None:
        return known.stored.licence
    return known.entry.licence if known.entry is not None else None


def document(known: KnownData) -> dict[str, Any]:
    """All that is known of a data set, as plain JSON values."""
    entry, stored = known.entry, known.stored
    stated: dict[str, Any] = {
        "aliases": list(entry.aliases) if entry is not None else [],
        "read_at": list(entry.read_at) if entry is not None else [],
        "verified": entry.verified if entry is not None else None,
    }
    for key in (
        "description",
        "image_size",
        "source",
        "address",
        "made_by",
        "repository",
        "revision",
        "holdout",
        "about",
    ):
        stated[key] = (getattr(entry, key) or None) if entry is not None else None
    return {
        "name": known.name,
        **stated,
        "domains": list(_domains(known)),
        "state": known.state,
        "licence": _licence(known),
        "size": known.size,
        "fetched_from": stored.source if stored is not None else None,
        "sha256": dict(stored.sha256) if stored is not None else _hashes(known),
        "counts": dict(known.counts),
        "paired": stored.paired if stored is not None else entry is not None and entry.paired,
        "fetched": stored.time if stored is not None else None,
        "notes": list(stored.notes) if stored is not None else [],
        "path": str(known.folder) if stored is not None else None,
        "next": next_step(known)[1],
    }


def _hashes(known: KnownData) -> dict[str, str | None]:
    """Of what is downloaded, as somebody has stated them; None where nobody has."""
    entry = known.entry
    if entry is None or entry.source == "packages":
        return {}
    if entry.source == "zip":
        return {f"{known.name}.zip": entry.sha256 or None}
    return {name: record.sha256 if record is not None else None for name, record in entry.files.items()}


def next_step(known: KnownData) -> tuple[str, str]:
    """What to do with it now: in words, and as a command."""
    words = "Train with it" if known.stored is not None else "Train with it, which fetches it first"
    return words, f"ugatit train --data {shlex.quote(known.name)}"


def data_lines(known: KnownData, width: int | None) -> Iterator[str]:
    """What `ugatit data show` says.

    Args:
        width: columns to fold it to; None: never.
    """
    yield from told(_facts(known, document(known)), width)
    yield ""
    if known.stored is None:
        yield f"Fetch it: ugatit data fetch {shlex.quote(known.name)}"
    yield ": ".join(next_step(known))


def _facts(known: KnownData, facts: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    here = known.stored is not None
    yield "name:", known.name
    yield "also called:", ", ".join(facts["aliases"])
    yield "description:", facts["description"]
    yield "domains:", ", ".join(f"{side}: {name}" for side, name in zip("AB", facts["domains"], strict=False))
    yield "state:", known.state
    yield "problem:", known.damage() if here else None
    yield from origin_facts(facts)
    yield "licence:", facts["licence"] or "not known"
    yield "pictures:", "\n".join(f"{name}: {count:,}" for name, count in facts["counts"].items()) or NOT_STATED
    yield "hold-out:", None if here else HOLDOUTS.get(facts["holdout"])
    yield "ground truth:", "pictures of testA and testB with one name are pairs" if facts["paired"] else None
    yield "image size:", f"{facts['image_size']} px" if facts["image_size"] else None
    yield "size:", _size(known)
    yield "sha256:", stated_hashes(facts["sha256"])
    yield "fetched:", facts["fetched"]
    yield "fetched from:", facts["fetched_from"]
    yield "notes:", "\n".join(facts["notes"])
    yield "path:", facts["path"]
