"""Names of models that are known here, and what to say of one that is not; without torch."""

from __future__ import annotations

import difflib
from typing import Final

from ugatit_cli.errors import ModelError
from ugatit_cli.weights import receipts
from ugatit_cli.weights.home import store_folder, stored_models
from ugatit_cli.weights.manifest import MODEL_FILES, read_manifest
from ugatit_cli.weights.receipts import Receipt

CONFIG_FILE: Final = MODEL_FILES[0]
# Of 1, as `difflib` counts likeness: its own default.
LIKE: Final = 0.6


def not_found(name: str) -> ModelError:
    """The error for a name that nothing has: where it was looked for, and what comes near."""
    known = known_models()
    near = nearest(name)
    suggestion = f"Did you mean {near}? " if near else ""
    return ModelError(
        f"no model {name!r}: no such folder, nothing of that name in {store_folder()}, not in the manifest",
        f"{suggestion}Known models: {', '.join(known)}. `ugatit models` tells more; those on the Hub are OWNER/NAME.",
    )


def known_models() -> list[str]:
    """Names that are in the manifest or in the store."""
    return sorted({*read_manifest(), *stored_models()})


def fetched_models() -> list[Receipt]:
    """What was fetched from the Hub as a model; not what is in the store, or an official checkpoint."""
    return [receipt for receipt in receipts.load_all() if is_fetched_model(receipt)]


def is_fetched_model(receipt: Receipt) -> bool:
    """Whether a receipt is of a model from the Hub."""
    return CONFIG_FILE in receipt.files and "/" in receipt.key


def nearest(name: str) -> str:
    """The known name, or id of a fetched model, that is most like this one as a whole or in a part; empty if none."""
    names = [*known_models(), *(receipt.key for receipt in fetched_models())]
    likeness, found = max(((_likeness(name, other), other) for other in names), key=lambda pair: pair[0])
    return found if likeness >= LIKE else ""


def _likeness(name: str, known: str) -> float:
    parts = {known, *known.partition("@")[0].split("/")}
    return max(difflib.SequenceMatcher(None, name, part).ratio() for part in parts)
