"""A file of settings, TOML: what it says of one command's options, and what a stranger's file may not say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ugatit_cli.cli import voice, wrong_names
from ugatit_cli.cli.option_names import every_command, is_shared, key_of, keys_of, nearest, number_type
from ugatit_cli.errors import UsageError
from ugatit_cli.fields import WORDS
from ugatit_cli.files import config_folder, expanded, read_file, read_toml, toml_reason

FILE: Final = "ugatit.toml"
CONFIG: Final = "config"
OFF: Final = "off"
# A file in the current folder may be a stranger's, of an archive, say: it replaces and removes nothing, publishes
# nothing, lets nobody in, names no inputs, writes below its own folder only, and lifts no limit.
NOT_HERE: Final = frozenset(
    {"overwrite", "update", "force", "yes", "resume", "files_from", "from_file", "host", "token", "open"}
    | {"max_pixels", "max_upload", "log_file", "name", "quiet", "watch"}
)
PUBLISHING: Final = "push"
WRITTEN: Final = frozenset({"output", "report"})
# What stands for a path in the help.
PATHS: Final = frozenset({"DIR", "FILE", "OUT", "RUN", "PATH", "PICTURE", "PAGE.html", "PAGE"})
# What stands for numbers in the help of texts that may be some.
NUMBERS: Final = frozenset({"N", "SIZE", "X"})
# What begins the value of an option that a label may stand in front of, in the help.
LABELLED: Final = "[LABEL=]"


@dataclass(frozen=True)
class Said:
    """A value, as the command line would have it, and where it stands."""

    value: Any
    where: str


def read_document(file: Path) -> dict[str, Any]:
    """The tables of a file.

    Raises:
        UsageError: it can't be read, or is no TOML.
    """
    try:
        return read_toml(file)
    except (OSError, ValueError, RecursionError) as error:
        way = f"Correct it, or do without: --config {OFF}"
        raise UsageError(f"{file}: can't be read: {toml_reason(error)}", way) from None


def place_of(file: Path, title: str, key: str) -> str:
    """The file and, if it can be told, the line of a key in one of its tables."""
    table, wanted = "", key_of(".".join(filter(None, (title, key))))
    for number, line in enumerate(read_file(file).decode("utf-8-sig", errors="replace").splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*([\w.\"'-]+)\s*\]", line):
            table = header[1]
        pair = re.match(r"\s*([\w.\"'-]+)\s*=", line)
        name = ".".join(filter(None, (table, pair[1]))) if pair else table if header else ""
        if key_of(re.sub("[\"']", "", name)) == wanted:
            return f"{file}, line {number}"
    return str(file)


class SettingsFile:
    """A file of settings, as far as one command reads it."""

    def __init__(
        self, file: Path, document: Mapping[str, Any], path: str, keys: Mapping[str, Any], beside: Path | None = None
    ) -> None:
        self.file, self.path, self.keys = file, path, keys
        self.beside = file.parent if beside is None else beside
        self.values: dict[str, Said] = {}
        tables = self._tables(document)
        if "json" in keys and next((one["json"] for _, one in reversed(tables) if "json" in one), None) is True:
            voice.current.json = True  # a program hears of what is wrong below, too
        for (title, table), part in zip(tables, [*path.split(), ""], strict=True):
            self._check_tables(table, title, part)
            self.values |= self._of_table(table, title, own=not part)

    def _tables(self, document: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
        """The tables that say something of the command, with their titles, from the whole file to its own."""
        found = [("", document)]
        for name in self.path.split():
            title, table = found[-1]
            inner = next((one for key, one in table.items() if _same(key, name) and isinstance(one, dict)), {})
            found.append((f"{title}.{name}".lstrip("."), inner))
        return found

    def _of_table(self, table: Mapping[str, Any], title: str, *, own: bool) -> dict[str, Said]:
        found: dict[str, Said] = {}
        for written, value in table.items():
            key = key_of(written)
            if isinstance(value, dict) and not own:
                continue
            where = place_of(self.file, title, written)
            if key == CONFIG or key not in self.keys:
                self._check_known(key, where, title, own=own)
            elif key in found:
                raise UsageError(f"{where}: {key} is there twice", "Keep one of them.")
            elif own or is_shared(self.path, key):
                found[key] = Said(self._value(key, value, where), where)
        return found

    def _check_tables(self, table: Mapping[str, Any], title: str, part: str) -> None:
        """Whether tables in this one, which is above the command's own for `part` of its name, are of commands."""
        from ugatit_cli.cli import app

        if not part:
            return
        commands: Iterable[str] = app.built(title).commands if title else app.COMMANDS
        for name, value in table.items():
            is_command = any(_same(name, command) for command in commands)
            full, where = f"{title}.{name}".lstrip("."), place_of(self.file, title, name)
            if isinstance(value, dict) and not is_command:
                likely = f": [{app.ALIASES[name]}]" if name in app.ALIASES else nearest(name, commands)
                raise UsageError(f"{where}: [{full}] is no command", f"The table of a command has its name{likely}.")
            if is_command and not isinstance(value, dict) and not self._is_option(key_of(name)):
                raise UsageError(f"{where}: {full} is a command, not an option", f"Its options stand below [{full}].")

    def _is_option(self, key: str) -> bool:
        return key in self.keys or key in self._every()

    @staticmethod
    def _every(title: str = "") -> set[str]:
        """The keys of all commands below a title."""
        within = (command for path, command in every_command() if path.startswith(title.replace(".", " ")))
        return {name for command in within for name in keys_of(command)}

    def _check_known(self, key: str, where: str, title: str, *, own: bool) -> None:
        """What may not be said, or not there."""
        if key == CONFIG:
            raise UsageError(f"{where}: a file names no other one", "Say it on the command line: --config FILE")
        if own and title:
            meant = self._meant(self.path, key, self.keys)
            way = meant or f"`ugatit {self.path} --help` lists its options."
            raise UsageError(f"{where}: `ugatit {self.path}` has no option {key!r}", way)
        if key not in (every := self._every(title)):
            way = self._meant("", key, every) or "Keys are the names of options: batch_size for --batch-size."
            raise UsageError(f"{where}: no command has an option {key!r}", way)

    def _meant(self, path: str, key: str, keys: Iterable[str]) -> str:
        """The option that somebody means by a key, as a sentence; empty if there is none."""
        if (flag := key.removeprefix("no_")) != key and flag in keys:
            return f"Write {flag} = false."
        short = [name for name, option in self.keys.items() if f"-{key}" in option.opts]
        return f"It is {short[0]} here." if short else wrong_names.meant_by(path, key, map(_flag, keys))

    def _value(self, key: str, value: Any, where: str) -> Any:
        """As the command line would have it: text, a list of texts, or whether a flag is up."""
        option = self.keys[key]
        if isinstance(value, list) and not option.multiple and "," not in (option.metavar or ""):
            raise UsageError(f"{where}: {key} is a list; it takes one value")
        types, words = _wanted(option)
        several = value if isinstance(value, list) else [value]
        if any(type(one) not in types for one in several):
            raise UsageError(f"{where}: {key} is {shown(value)}; it must be {words}")
        if option.is_flag:
            return value
        texts = [self._place(str(one), option) for one in several]
        return texts if option.multiple else ",".join(texts)

    def _place(self, text: str, option: Any) -> str:
        """A path, which is one below the file's folder."""
        below, metavar = self.beside / text, option.metavar or ""
        if metavar.startswith(LABELLED) and "=" in text and not below.exists():
            label, _, text = text.partition("=")
            return f"{label}={self._below(text, metavar)}"
        return self._below(text, metavar)

    def _below(self, text: str, metavar: str) -> str:
        if self.beside == Path() or text == "-" or "://" in text or text.startswith("~"):
            return text
        below, kinds = self.beside / text, set(metavar.split("|"))
        is_path = kinds <= PATHS or ("PICTURE" in kinds and is_picture(text))
        # A model's or a data set's name may be that of a folder as well.
        return str(below) if is_path or ("/" in text and below.exists()) else text

    def check_safe(self, key: str) -> None:
        """A UsageError if a file that nobody has named may not say this."""
        value, where = str(self.values[key].value), self.values[key].where
        way = f"Name the file, if it is yours: --config {self.file}; {config_folder() / FILE} may say it, too."
        if key in NOT_HERE or (self.path == PUBLISHING and key != "verbose"):
            raise UsageError(f"{where}: {key} isn't taken from a file that is only found in the current folder", way)
        if key in WRITTEN and not _is_below(value, self.file.parent):
            raise UsageError(
                f"{where}: {key} is {value}; a file that is only found in the current folder writes there only", way
            )


def _wanted(option: Any) -> tuple[tuple[type, ...], str]:
    """The types of an option's value, and what it must be."""
    if option.is_flag:
        return (bool,), "true or false"
    if number := number_type(option):
        return (int, number), f"{WORDS[number]}, without quotes"
    if NUMBERS & {*re.split("[|,]", option.metavar or "")}:
        return (str, int, float), "a number, or text in quotes, such as auto or off"
    return (str,), "text, in quotes"


def _is_below(text: str, folder: Path) -> bool:
    return "://" not in text and (folder / expanded(text)).resolve().is_relative_to(folder.resolve())


def is_picture(style: str) -> bool:
    """Whether a style is that of a picture, not a random one."""
    return not re.match("random(:|$)", style)


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _same(one: str, other: str) -> bool:
    return key_of(one) == key_of(other)


def shown(value: object) -> str:
    """A value as files write it, but for quotes."""
    return str(value).lower() if isinstance(value, bool) else str(value)
