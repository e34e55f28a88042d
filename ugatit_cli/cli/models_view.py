"""What `ugatit models` says of models: rows of the list, all that is known of one, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from ugatit_cli.cli.listing import UNKNOWN, Column, Group, labelled, size_text, told
from ugatit_cli.wording import byte_size, shown

if TYPE_CHECKING:
    from ugatit_cli.weights.known import Known

COLUMNS: Final = (
    Column("NAME"),
    Column("DOMAINS"),
    Column("SIZE"),
    Column("STATE", None),
    Column("FROM", 76),
    Column("LICENCE", 110),
)


# --- The list ------------------------------------------------------------------------------------------


def groups(found: Sequence[Known]) -> list[Group]:
    """Ready here, one download away, train it yourself; and what is damaged before all that."""
    titles = {
        "damaged": ("damaged", "`ugatit models show NAME` tells why"),
        "ready": ("ready here", ""),
        "not fetched": ("one download away", "at first use, or `ugatit fetch NAME`"),
        "no weights": ("train it yourself", "`ugatit models show NAME` tells how"),
    }
    return [Group(*words, [row(one) for one in found if one.state == state]) for state, words in titles.items()]


def row(known: Known) -> tuple[str, ...]:
    """Of the list: see `COLUMNS`."""
    published = known.state != "no weights"
    return (
        known.name,
        _pair(known) or UNKNOWN,
        size_text(known.size) if published else "-",
        known.state,
        origin(known) if published else "-",
        " ".join((known.fact("licence") or UNKNOWN).split()),
    )


def origin(known: Known) -> str:
    """Where a model comes from, or could be got, in few words."""
    identity = known.hub
    if known.kind == "hub" and identity is not None:
        if known.name == str(identity):
            return f"Hub, commit {known.commit[:12]}"
        return f"Hub {identity.repository}@{identity.revision[:12]}"
    if known.kind in ("import", "store") and identity is not None:
        return f"authors' checkpoint {identity.repository}"
    words = {"bundled": "bundled", "train": "train it yourself", "store": "your store", "folder": "your folder"}
    return words.get(known.kind, "authors' checkpoint")


def _pair(known: Known) -> str | None:
    """Both domains, and which ways there are between them; all of them as long as the model isn't here."""
    if known.config is not None:
        return known.config.pair
    return " <-> ".join(known.domains) if known.domains is not None else None


# --- One model -----------------------------------------------------------------------------------------


def document(known: Known) -> dict[str, Any]:
    """What the table shows and more, as plain JSON values."""
    identity = known.hub
    return {
        "name": known.name,
        "description": known.fact("description"),
        "domains": known.domains,
        "image_size": known.image_size,
        "size": known.size,
        "state": known.state,
        "problem": known.problem or None,
        "source": known.kind,
        "repository": None if identity is None else identity.repository,
        "revision": None if identity is None else identity.revision,
        "commit": known.commit or None,
        "licence": known.fact("licence"),
        "training_data": known.fact("training_data"),
        "path": None if known.folder is None else str(known.folder),
    }


def full_document(known: Known) -> dict[str, Any]:
    """All that is known of one model, as plain JSON values."""
    from ugatit_cli.weights.known import checkpoint_of, size_of

    config, checkpoint, parameters = known.config, checkpoint_of(known), None
    if config is not None:
        from ugatit_cli.weights.folder import translator_shapes

        parameters = sum(map(math.prod, translator_shapes(config).values()))
    instructions = known.entry.instructions.strip() if known.entry is not None and known.folder is None else ""
    return {
        **document(known),
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


def model_lines(known: Known, width: int | None) -> Iterator[str]:
    """What `ugatit models show` says.

    Args:
        width: columns to fold it to; None: never.
    """
    facts = full_document(known)
    yield from told(_facts(known, facts), width)
    if facts["provenance"]:
        yield "provenance:"
        indent = max(16, 4 + max(map(len, facts["provenance"])))
        for key, value in facts["provenance"].items():
            text = value if isinstance(value, str) else json.dumps(value)
            yield from labelled(f"  {shown(key)}:", text, width, indent)
    if facts["files"]:
        yield "files:"
        for file in facts["files"]:
            yield from _file_lines(file, here=known.folder is not None)
    if facts["instructions"]:
        yield from map(shown, ["", *facts["instructions"].split("\n")])
    if known.next_step[1]:
        yield from ("", ": ".join(known.next_step))


def _facts(known: Known, facts: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    yield "name:", known.name
    yield "description:", facts["description"]
    yield "domains:", _pair(known)
    yield "state:", known.state
    yield "problem:", known.problem or None
    yield "from:", origin(known)
    yield "commit:", facts["commit"]
    yield "licence:", facts["licence"] or "not known"
    yield "training data:", facts["training_data"]
    yield "size:", byte_size(known.size) if known.size is not None else None
    yield "path:", facts["path"]
    yield "digest:", f"sha256:{facts['digest']}" if facts["digest"] else None
    yield "checkpoint:", facts["checkpoint"]
    if known.config is None:
        yield "image size:", f"{known.image_size} px" if known.image_size is not None else None
    else:
        yield "network:", f"{known.config.summary}, {facts['parameters'] / 1e6:.2f} million parameters"
        yield "ways:", known.config.pair
        yield "discriminators:", known.config.critics if facts["discriminators"] else "no"


def _file_lines(file: dict[str, Any], *, here: bool) -> Iterator[str]:
    size, recorded = file["size"], file["recorded_size"]
    if size is None:
        found = "missing" if here else f"{recorded:,} bytes"
    else:
        found = f"{size:,} bytes" + (f", {recorded:,} were recorded" if recorded not in (None, size) else "")
    yield f"  {file['name']}: {found}"
    yield f"    sha256 {file['recorded_sha256'] or 'not recorded'}"
