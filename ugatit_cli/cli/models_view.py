"""What `ugatit models` says of models: rows of the list, all that is known of one, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ugatit_cli.cli.listing import (
    UNKNOWN,
    Column,
    Group,
    host_of,
    labelled,
    origin_facts,
    size_text,
    state_text,
    stated_hashes,
    told,
)
from ugatit_cli.wording import shown

if TYPE_CHECKING:
    from ugatit_cli.weights.known import Known, State
    from ugatit_cli.weights.manifest import Entry

COLUMNS: Final = (
    Column("NAME"),
    Column("DOMAINS"),
    Column("SIZE"),
    Column("STATE", None),
    Column("FROM", 96),
    Column("LICENCE", 110, cut=True),
)
DEEPEST: Final = 3
"""Tables in tables that have lines of their own: the recipe in the settings in the provenance."""


# --- The list ------------------------------------------------------------------------------------------


TITLES: Final[dict[State, tuple[str, str]]] = {
    "ready": ("ready here", ""),
    "damaged": ("damaged", "`ugatit models show NAME` tells why"),
    "not fetched": ("one download away", "at first use, or `ugatit fetch NAME`"),
    "no weights": ("train it yourself", "`ugatit models show NAME` tells how"),
}


def in_order(found: Sequence[Known]) -> list[Known]:
    """What works here first."""
    return sorted(found, key=lambda one: list(TITLES).index(one.state))


def groups(found: Sequence[Known]) -> list[Group]:
    """Ready here, damaged, one download away, train it yourself."""
    return [Group(*words, [row(one) for one in found if one.state == state]) for state, words in TITLES.items()]


def row(known: Known) -> tuple[str, ...]:
    """Of the list: see `COLUMNS`."""
    published = known.state != "no weights"
    return (
        known.name,
        _pair(known) or UNKNOWN,
        _size(known, marked=True) if published else "-",
        state_text(known.state, known.entry),
        _site(known) if published else "-",
        " ".join((known.fact("licence") or UNKNOWN).split()),
    )


def origin(known: Known) -> str:
    """Where a model comes from, or could be got, in few words."""
    identity = known.hub
    if known.kind == "hub" and identity is not None:
        if known.name == str(identity):
            return f"Hub, commit {known.commit[:12]}"
        return f"Hub {identity.repository}@{identity.revision[:12]}"
    if known.entry is not None and known.entry.address:
        return f"Kaggle {known.entry.dataset}" if known.entry.dataset else host_of(known.entry.url)
    if known.kind in ("import", "store") and identity is not None:
        return f"Hub {identity.repository}"
    words = {"bundled": "bundled", "train": "train it yourself", "store": "your store", "folder": "your folder"}
    return words.get(known.kind, "by hand")


def _site(known: Known) -> str:
    """Where an entry's checkpoint is, and whose it is there; else its origin."""
    entry = known.entry
    if entry is None or not entry.converted or entry.source == "url":
        return origin(known)
    site, owner = ("Kaggle", entry.dataset) if entry.dataset else ("Hub", entry.repository)
    return f"{site} {owner.partition('/')[0]}" if owner else origin(known)


def _size(known: Known, *, marked: bool = False) -> str:
    entry = known.entry if known.folder is None else None
    if entry is None:
        return size_text(known.size)
    return size_text(known.size, entry.about, verified=entry.verified or not marked)


def _pair(known: Known) -> str | None:
    """Both domains, and which ways there are between them; all of them as long as the model isn't here."""
    if known.config is not None:
        return known.config.pair
    arrow = " -> " if known.entry is not None and known.entry.ways == "a2b" else " <-> "
    return arrow.join(known.domains) if known.domains is not None else None


# --- One model -----------------------------------------------------------------------------------------


def document(known: Known) -> dict[str, Any]:
    """What the table shows and more, as plain JSON values."""
    identity, entry = known.hub, known.entry
    return {
        "name": known.name,
        "aliases": list(entry.aliases) if entry is not None else [],
        "description": known.fact("description"),
        "domains": known.domains,
        "ways": known.config.ways if known.config is not None else entry.ways if entry is not None else None,
        "image_size": known.image_size,
        "size": known.size,
        "about": (entry.about or None) if entry is not None else None,
        "state": known.state,
        "problem": known.problem or None,
        "source": known.kind,
        "repository": None if identity is None else identity.repository,
        "revision": None if identity is None else identity.revision,
        "commit": known.commit or None,
        "licence": known.fact("licence"),
        "training_data": known.fact("training_data"),
        "made_by": (entry.made_by or None) if entry is not None else None,
        "address": (entry.address or None) if entry is not None else None,
        "layout": (entry.layout or "tensorflow") if entry is not None and entry.converted else None,
        "read_at": list(entry.read_at) if entry is not None else [],
        "verified": entry.verified if entry is not None else None,
        "path": None if known.folder is None else str(known.folder),
    }


def full_document(known: Known) -> dict[str, Any]:
    """All that is known of one model, as plain JSON values."""
    from ugatit_cli.weights.known import checkpoint_of, size_of

    config, checkpoint, parameters = known.config, checkpoint_of(known), None
    if config is not None:
        from ugatit_cli.weights.folder import translator_shapes

        parameters = sum(map(math.prod, translator_shapes(config).values()))
    entry = known.entry
    instructions = entry.instructions.strip() if entry is not None and known.folder is None else ""
    return {
        **document(known),
        "download": list(_download(entry)) if entry is not None and entry.converted else [],
        "config": None if config is None else config.to_dict(),
        "parameters": parameters,
        "discriminators": "discriminators.safetensors" in known.files if known.folder is not None else None,
        "digest": known.digest() or None,
        "provenance": dict(known.provenance),
        "files": [
            {
                "name": name,
                "size": size_of(known.folder / name) if known.folder is not None and name in known.files else None,
                "recorded_size": stamp.size if (stamp := known.recorded.get(name)) else None,
                "recorded_sha256": known.hashes.get(name),
            }
            for name in dict.fromkeys([*known.files, *known.recorded])
        ],
        "checkpoint": None if checkpoint is None else str(checkpoint.folder),
        "instructions": instructions or None,
        "next": known.next_step[1] or None,
    }


def _download(entry: Entry) -> Iterator[dict[str, Any]]:
    """What is downloaded to be converted, with what somebody has stated of it."""
    files = {entry.address: entry.archive} if entry.is_archive else entry.files
    for name, record in files.items():
        size, sha256 = (record.size, record.sha256) if record is not None else (None, None)
        yield {"name": name, "size": size, "sha256": sha256}


def model_lines(known: Known, width: int | None) -> Iterator[str]:
    """What `ugatit models show` says.

    Args:
        width: columns to fold it to; None: never.
    """
    facts = full_document(known)
    yield from told(_facts(known, facts), width)
    if facts["provenance"]:
        yield "provenance:"
        yield from _table_lines(facts["provenance"], width)
    if facts["files"]:
        yield "files:"
        for file in facts["files"]:
            yield from _file_lines(file, here=known.folder is not None)
    if known.next_step[1]:
        yield from ("", ": ".join(known.next_step))
    if known.state == "not fetched" and known.next_step[1]:
        yield f"Or use it, which fetches it first: ugatit translate PICTURES --model {known.name} -o out/"
    if facts["instructions"]:
        yield from map(shown, ["", *facts["instructions"].split("\n")])


def _table_lines(values: Mapping[str, Any], width: int | None, depth: int = 1) -> Iterator[str]:
    """A table of plain JSON values, and those in it, a line each; tables deeper than any of ours as JSON."""
    margin = 2 * depth
    indent = max(16, margin + 2 + max(map(len, values)))
    for key, value in values.items():
        label = f"{' ' * margin}{shown(key)}:"
        if isinstance(value, dict) and value and depth < DEEPEST:
            yield label
            yield from _table_lines(value, width, depth + 1)
        else:
            yield from labelled(label, value if isinstance(value, str) else json.dumps(value), width, indent)


def _facts(known: Known, facts: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    yield "name:", known.name
    yield "also called:", ", ".join(facts["aliases"])
    yield "description:", facts["description"]
    yield "domains:", f"{_pair(known) or UNKNOWN}{'' if facts['ways'] != 'a2b' else ' (one way)'}"
    yield "state:", known.state
    yield "problem:", known.problem or None
    yield "from:", origin(known)
    yield from origin_facts(facts)
    yield "commit:", facts["commit"]
    yield "layout:", f"{facts['layout']}, as `ugatit convert` reads it" if facts["layout"] else None
    yield "licence:", facts["licence"] or "not known"
    yield "training data:", facts["training_data"]
    yield "size:", _size(known) if known.state != "no weights" else None
    if known.folder is None:
        yield "sha256:", stated_hashes({one["name"]: one["sha256"] for one in facts["download"]})
    yield "path:", facts["path"]
    yield "digest:", f"sha256:{facts['digest']}" if facts["digest"] else None
    yield "checkpoint:", facts["checkpoint"]
    if known.config is None:
        yield "image size:", f"{known.image_size} px" if known.image_size is not None else None
    else:
        yield "network:", f"{known.config.summary}, {facts['parameters'] / 1e6:.2f} million parameters"
        yield "ways:", known.config.pair
        yield "styles:", "random ones, or those of pictures: --style, --styles" if known.config.style_size else None
        yield "discriminators:", known.config.critics if facts["discriminators"] else "no"


def _file_lines(file: dict[str, Any], *, here: bool) -> Iterator[str]:
    size, recorded = file["size"], file["recorded_size"]
    if size is None:
        found = "missing" if here else f"{recorded:,} bytes"
    else:
        found = f"{size:,} bytes" + (f", {recorded:,} were recorded" if recorded not in (None, size) else "")
    yield f"  {file['name']}: {found}"
    yield f"    sha256 {file['recorded_sha256'] or 'not recorded'}"
