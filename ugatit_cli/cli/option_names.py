"""The names that an option has beside its own: a key in files of settings, and variables of the environment.

An option's key is its long name (`max_pixels`, or `max-pixels`). Its variables are `UGATIT_MAX_PIXELS` for all
commands that mean the same by it, and `UGATIT_TRANSLATE_MAX_PIXELS` for one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

# Variables that are no option's.
OTHERS: Final = ("UGATIT_DEBUG", "UGATIT_HOME", "UGATIT_MANIFEST", "UGATIT_MIRROR", "UGATIT_OFFLINE")
TESTS: Final = "UGATIT_TEST_"
# Options that commands mean different things by: those that share the short variable, and the key above all tables.
SHARED: Final[Mapping[str, tuple[str, ...]]] = {
    "batch_size": ("translate", "cam"),
    "columns": ("train",),
    "data": ("train",),
    "direction": ("translate", "cam", "export"),
    "domain_a": ("train",),
    "domain_b": ("train",),
    "domains": ("train",),
    "fit": ("translate", "cam"),
    "format": ("translate", "cam"),
    "image_size": ("train",),
    "maps": ("cam",),
    "margin": ("translate",),
    "model": ("translate", "cam", "serve"),
    "offline": (),
    "output": ("translate", "cam"),
    "overwrite": ("translate", "cam", "export", "convert", "data crop-faces"),
    "precision": ("translate", "cam", "serve", "evaluate", "study make"),
    "size": ("translate", "cam"),
    "style": ("translate",),
    "to": ("translate", "cam", "export"),
}


def path_of(context: Any) -> str:
    """The name of a command, after that of its group: `study make`."""
    names = []
    while context.parent is not None:
        names.append(context.command.name)
        context = context.parent
    return " ".join(reversed(names))


def keys_of(command: Any) -> dict[str, Any]:
    """The options of a command by their keys; one with two long names has two."""
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    return {key_of(flag): one for one in options for flag in one.opts if flag.startswith("--")}


def number_type(option: Any) -> type[int] | type[float] | None:
    """What kind of a number an option's value is; None if it is text, or none at all."""
    # Typer before 0.27 calls it `type`, which has a name instead.
    kind = getattr(option, "type_descriptor", None) or option.type
    for number, name in ((int, "integer"), (float, "float")):
        if getattr(kind, "annotation", None) is number or str(getattr(kind, "name", "")).startswith(name):
            return number
    return None


def key_of(text: str) -> str:
    """The key of an option's flag, or of what stands in a file."""
    return text.removeprefix("--").replace("-", "_")


def is_shared(path: str, key: str) -> bool:
    """Whether a command means the same by an option as others do that have it."""
    return path in SHARED.get(key, (path,))


def variables_of(path: str, key: str) -> list[str]:
    """The variables of an option, the nearer one first."""
    own = f"UGATIT_{path.replace(' ', '_').replace('-', '_')}_{key}".upper()
    return [own, f"UGATIT_{key}".upper()] if is_shared(path, key) else [own]


def every_command() -> Iterator[tuple[str, Any]]:
    """All commands by their names, built: not to be called where nobody waits."""
    from ugatit_cli.cli import app

    for name in app.COMMANDS:
        yield from _below(name, app.built(name))


def _below(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield path, command
    for name, one in getattr(command, "commands", {}).items():
        yield from _below(f"{path} {name}", one)


def nearest(name: str, names: Iterable[str]) -> str:
    """The most similar name, in words that end a sentence; empty if there is none."""
    return "".join(f"; did you mean {one}?" for one in difflib.get_close_matches(name, names, 1)).rstrip("?")
