"""What options are where the command line doesn't say: a file that it names, variables, and files that are found.

Each option of each command has a key, its long name (`max_pixels`, or `max-pixels`), and variables:
`UGATIT_MAX_PIXELS` for all commands that mean the same by it, `UGATIT_TRANSLATE_MAX_PIXELS` for one.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ugatit_cli.cli import console
from ugatit_cli.errors import UsageError, plain_reason
from ugatit_cli.files import config_folder, expanded, read_file, read_toml

FILE: Final = "ugatit.toml"
CONFIG: Final = "config"
OFF: Final = "off"
RUN_FILE: Final = "config.toml"
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
    "image_size": ("train",),
    "maps": ("cam",),
    "margin": ("translate",),
    "model": ("translate", "cam", "serve"),
    "output": ("translate", "cam"),
    "overwrite": ("translate", "cam", "export", "convert", "data crop-faces"),
    "precision": ("translate", "cam", "serve", "evaluate", "study make"),
    "size": ("translate", "cam"),
    "style": ("translate",),
    "to": ("translate", "cam", "export"),
}
# Of these, what is said further away counts for nothing beside what is said nearer.
RIVALS: Final = (
    ("iterations", "minutes"),
    ("direction", "to"),
    ("skip_existing", "update", "overwrite"),
    ("faces", "faces_only", "box", "mask"),
    ("style", "styles"),
    ("model", "run"),
    ("a", "data", "domain_a"),
    ("b", "data", "domain_b"),
    ("quiet", "verbose"),
)
# What counts for nothing without one of the others.
NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "margin": ("faces", "faces_only"),
    "no_face": ("faces", "faces_only"),
    "feather": ("faces", "faces_only", "box", "mask"),
    "from_direction": ("from",),
    "columns": ("data",),
    "features": ("evaluate_every",),
    "feature_layer": ("evaluate_every",),
}
# What a run that goes on takes from files that are found, and from variables: nothing that it has itself.
RESUMED: Final = frozenset({"device", "workers", "max_pixels", "tensorboard", "json", "dry_run", "resume"})
# A file in the current folder may be a stranger's, of an archive, say: it replaces and removes nothing, publishes
# nothing, lets nobody in, names no inputs, writes below its own folder only, and lifts no limit.
NOT_HERE: Final = frozenset(
    {"overwrite", "update", "force", "yes", "resume", "files_from", "from_file", "host", "token", "open"}
    | {"max_pixels", "max_upload", "log_file", "quiet", "watch"}
)
PUBLISHING: Final = "push"
WRITTEN: Final = frozenset({"output", "report", "to"})
# What stands for a path in the help.
PATHS: Final = frozenset({"DIR", "FILE", "OUT", "RUN", "PATH", "PICTURE", "PAGE.html", "PAGE"})
SOURCES: Final = "ugatit.sources"


@dataclass(frozen=True)
class Said:
    """A value, as the command line would have it, and where it stands."""

    value: Any
    where: str


@dataclass(frozen=True)
class Layer:
    """What one place says, by keys.

    Attributes:
        title: of the place, where users should hear that it was used; empty if they have named it.
        named: by this very call.
        settled: what it says nothing of, but stays as it is by default.
    """

    values: Mapping[str, Said]
    title: str = ""
    named: bool = False
    settled: frozenset[str] = frozenset()


@dataclass
class Sources:
    """Where the values of a call come from.

    Attributes:
        said: what the command line doesn't say, by keys.
        notes: for the user.
    """

    said: dict[str, Said] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


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
    return {_key(flag): one for one in options for flag in one.opts if flag.startswith("--")}


def _key(text: str) -> str:
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


def fill(command: Any, context: Any, stated: Mapping[str, Any]) -> None:
    """Gives a call's context what options are that the command line doesn't state, for Click to take.

    Args:
        stated: what it states, by parameters' names.

    Raises:
        UsageError: a file that can't be read, or that says what makes no sense.
    """
    path, keys = path_of(context), keys_of(command)
    sources = context.meta[SOURCES] = Sources()
    names = {option.name: key for key, option in keys.items()}
    on_line = {names.get(name, name) for name, value in stated.items() if value not in (None, ())}  # arguments, too
    layers = _layers(path, keys, stated.get(CONFIG), on_line)
    sources.said = _resolved(layers, on_line, keys.keys())
    context.default_map = {keys[key].name: said.value for key, said in sources.said.items()}
    for layer in layers:
        used = [key for key, said in layer.values.items() if layer.title and sources.said.get(key) is said]
        if used:
            sources.notes.append(f"settings of {layer.title}: {', '.join(used)}")
    sources.notes += _unknown_variables(path, keys)


def _layers(path: str, keys: Mapping[str, Any], config: str | None, on_line: set[str]) -> list[Layer]:
    """From the nearest one to the farthest one."""
    variables = _of_variables(path, keys)
    named = config or (variables.values[CONFIG].value if CONFIG in variables.values else "")
    if not named:
        return [variables, *_found(path, keys)]
    if named == OFF:
        return [variables]
    layer = _named(path, keys, expanded(named), on_line, by_call=config is not None)
    return [layer, variables] if config is not None else [variables, layer]


def _of_variables(path: str, keys: Mapping[str, Any]) -> Layer:
    # By Click, they would have more weight than a file that the call names.
    found = {}
    for key, option in keys.items():
        name = next((name for name in variables_of(path, key) if os.environ.get(name)), None)
        if name is not None:
            text = os.environ[name]
            found[key] = Said(text.split() if option.multiple else text, name)
    return Layer(found)


def _found(path: str, keys: Mapping[str, Any]) -> list[Layer]:
    here, users = Path(FILE), config_folder() / FILE
    layers = []
    if here.is_file():
        file = _File(here, _document(here), path, keys)
        own = users.is_file() and here.samefile(users)
        layers.append(Layer(file.values, FILE))
        if own:
            return layers
        for key in file.values:
            file.check_safe(key)
    if users.is_file():
        layers.append(Layer(_File(users, _document(users), path, keys, beside=Path()).values, str(users)))
    return layers


def _named(path: str, keys: Mapping[str, Any], file: Path, on_line: set[str], *, by_call: bool) -> Layer:
    if not file.exists():
        option = "--config" if by_call else "UGATIT_CONFIG"
        raise UsageError(f"{option} {file}: no such file", f"Name a TOML file, or {OFF} for none at all.")
    file = file / RUN_FILE if file.is_dir() else file
    document = _document(file)
    if not (isinstance(document.get("run"), dict) and "format" in document):
        return Layer(_File(file, document, path, keys).values, "", by_call)
    if path != "train":
        way = f"To use its model: --model {file.parent}" if "model" in keys else ""
        raise UsageError(f"{file} says how a run was trained: it is for `ugatit train`", way)
    from ugatit_cli.cli.run_configuration import PICTURES, options_of_run

    values, settled = options_of_run(document, file)
    if on_line & {*PICTURES}:  # names of others
        values.pop("domains", None)
    return Layer({key: Said(value, str(file)) for key, value in values.items()}, "", by_call, settled)


def _document(file: Path) -> dict[str, Any]:
    try:
        return read_toml(file)
    except (OSError, ValueError, RecursionError) as error:
        way = f"Correct it, or do without: --config {OFF}"
        raise UsageError(f"{file}: can't be read: {plain_reason(error)}", way) from None


class _File:
    """A file of settings, as far as one command reads it."""

    def __init__(
        self, file: Path, document: Mapping[str, Any], path: str, keys: Mapping[str, Any], beside: Path | None = None
    ) -> None:
        self.file, self.path, self.keys = file, path, keys
        self.beside = file.parent if beside is None else beside
        self.lines: dict[str, str] = {}
        self.values = dict(self._read(document))

    def _read(self, document: Mapping[str, Any]) -> Iterator[tuple[str, Said]]:
        self._check_tables(document)
        table, title = document, ""
        found: dict[str, Said] = {}
        for name in ("", *self.path.split()):
            if name:
                table = next((one for key, one in table.items() if _same(key, name) and isinstance(one, dict)), {})
                title = f"{title}.{name}".lstrip(".")
            own = title == self.path.replace(" ", ".")
            found |= self._of_table(table, title, own=own)
        yield from found.items()

    def _of_table(self, table: Mapping[str, Any], title: str, *, own: bool) -> dict[str, Said]:
        found: dict[str, Said] = {}
        for written, value in table.items():
            key = _key(written)
            if isinstance(value, dict) and not own:
                continue
            where = self._where(title, written)
            if key == CONFIG or key not in self.keys:
                self._check_known(key, where, title, own=own)
            elif key in found:
                raise UsageError(f"{where}: {key} is there twice", "Keep one of them.")
            elif own or is_shared(self.path, key):
                self.lines[key] = where
                found[key] = Said(self._value(key, value, where), where)
        return found

    def _check_tables(self, document: Mapping[str, Any]) -> None:
        from ugatit_cli.cli import app

        for name in (key for key, value in document.items() if isinstance(value, dict)):
            if not any(_same(name, command) for command in app.COMMANDS):
                way = f"The table of a command has its name{_nearest(name, app.COMMANDS)}."
                raise UsageError(f"{self._where('', name)}: [{name}] is no command", way)

    def _check_known(self, key: str, where: str, title: str, *, own: bool) -> None:
        """What may not be said, or not there."""
        if key == CONFIG:
            raise UsageError(f"{where}: a file names no other one", "Say it on the command line: --config FILE")
        if own and title:
            way = f"`ugatit {self.path} --help` lists its options{_nearest(key, self.keys)}."
            raise UsageError(f"{where}: `ugatit {self.path}` has no option {key!r}", way)
        within = ((path, command) for path, command in every_command() if path.startswith(title.replace(".", " ")))
        every = {name for _, command in within for name in keys_of(command)}
        if key not in every:
            way = f"Keys are the names of options: batch_size for --batch-size{_nearest(key, every)}."
            raise UsageError(f"{where}: no command has an option {key!r}", way)

    def _where(self, title: str, key: str) -> str:
        """The file and, if it can be told, the line of a key."""
        table, wanted = "", _key(".".join(filter(None, (title, key))))
        for number, line in enumerate(read_file(self.file).decode(errors="replace").splitlines(), 1):
            if header := re.match(r"\s*\[\s*([\w.\"'-]+)\s*\]", line):
                table = header[1]
            pair = re.match(r"\s*([\w.\"'-]+)\s*=", line)
            name = ".".join(filter(None, (table, pair[1]))) if pair else table if header else ""
            if _key(re.sub("[\"']", "", name)) == wanted:
                return f"{self.file}, line {number}"
        return str(self.file)

    def _value(self, key: str, value: Any, where: str) -> Any:
        """As the command line would have it: text, a list of texts, or whether a flag is up."""
        option = self.keys[key]
        if option.is_flag or isinstance(value, bool):
            if not (option.is_flag and isinstance(value, bool)):
                kind = "true or false" if option.is_flag else "text or a number, such as 4, auto or off, in quotes"
                raise UsageError(f"{where}: {key} is {_shown(value)}; it must be {kind}")
            return value
        several = value if isinstance(value, list) else [value]
        if not all(isinstance(one, str | int | float) for one in several):
            raise UsageError(f"{where}: {key} is {_shown(value)}; it must be text or a number")
        texts = [self._place(str(one), option) for one in several]
        if option.multiple:
            return texts
        if isinstance(value, list) and "," not in (option.metavar or ""):
            raise UsageError(f"{where}: {key} is a list; it takes one value")
        return ",".join(texts)

    def _place(self, text: str, option: Any) -> str:
        """A path, which is one below the file's folder."""
        if self.beside == Path() or text == "-" or "://" in text or text.startswith("~"):
            return text
        below = self.beside / text
        is_path = set((option.metavar or "").split("|")) <= PATHS
        # A model's or a data set's name may be that of a folder as well.
        return str(below) if is_path or ("/" in text and below.exists()) else text

    def check_safe(self, key: str) -> None:
        """A UsageError if a file that nobody has named may not say this."""
        where, value = self.lines[key], self.values[key].value
        way = f"Name the file, if it is yours: --config {self.file}; {config_folder() / FILE} may say it, too."
        if key in NOT_HERE or (self.path == PUBLISHING and key != "verbose"):
            raise UsageError(f"{where}: {key} isn't taken from a file that is only found in the current folder", way)
        if key in WRITTEN and not _is_below(str(value), self.file.parent):
            raise UsageError(
                f"{where}: {key} is {value}; a file that is only found in the current folder writes there only", way
            )


def _is_below(text: str, folder: Path) -> bool:
    return "://" not in text and (folder / expanded(text)).resolve().is_relative_to(folder.resolve())


def _same(one: str, other: str) -> bool:
    return _key(one) == _key(other)


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _nearest(name: str, names: Iterable[str]) -> str:
    return "".join(f"; did you mean {one}?" for one in difflib.get_close_matches(name, names, 1)).rstrip("?")


def _resolved(layers: list[Layer], on_line: set[str], keys: Set[str]) -> dict[str, Said]:
    """What counts, of nearer places first; of rivals that of the nearest."""
    found: dict[str, Said] = {}
    nearer, settled = set(on_line), set(on_line)
    for layer in layers:
        own = {key: said for key, said in layer.values.items() if key not in settled and not _outdone(key, nearer)}
        if "resume" in nearer and not layer.named:
            own = {key: said for key, said in own.items() if key in RESUMED}
        found |= own
        nearer |= own.keys()
        settled |= own.keys() | layer.settled
    needs = {key: {*NEEDS[key]} for key in found.keys() & NEEDS.keys() if keys & {*NEEDS[key]}}
    return {key: said for key, said in found.items() if key not in needs or nearer & needs[key]}


def _outdone(key: str, nearer: set[str]) -> bool:
    return any(key in rivals and nearer & {*rivals} for rivals in RIVALS)


def _unknown_variables(path: str, keys: Mapping[str, Any]) -> list[str]:
    """Notes about variables that are nobody's."""
    strange = [name for name in os.environ if name.startswith("UGATIT_") and not name.startswith(TESTS)]
    known = {*OTHERS, *(name for key in keys for name in variables_of(path, key))}
    if known.issuperset(strange):
        return []
    for other, command in every_command():
        known.update(name for key in keys_of(command) for name in variables_of(other, key))
    return [f"nobody reads the variable {one}{_nearest(one, known)}" for one in sorted(set(strange) - known)]


def tell(context: Any) -> None:
    """Says where settings come from: of files that were found always, of all of them before a dry run."""
    if os.environ.get("RANK", "0") != "0":
        return
    sources: Sources = context.meta.get(SOURCES) or Sources()
    for text in sources.notes:
        console.note(text)
    if context.params.get("dry_run"):
        for line in _lines(context, sources):
            console.note(line)


def _lines(context: Any, sources: Sources) -> list[str]:
    options = {option.name: key for key, option in reversed(keys_of(context.command).items())}
    rows = []
    for name, value in context.params.items():
        source = context.get_parameter_source(name)
        if (key := options.get(name)) and source is not None and source.name != "DEFAULT":
            where = sources.said[key].where if key in sources.said else "command line"
            rows.append((key, " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value), where))
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    return ["settings that aren't the defaults:"] * bool(rows) + [
        f"  {key:{widths[0]}}  {value:{widths[1]}}  {where}" for key, value, where in rows
    ]


def explain(error: UsageError, context: Any) -> None:
    """Adds to an error where the value stands that it is about, unless that is the command line."""
    sources: Sources = context.meta.get(SOURCES) or Sources()
    for key, said in sources.said.items():
        flag = key.replace("_", "-")
        about = rf"--{flag}(?![\w-])|\bits {flag} is\b|^{key} is\b"
        if re.search(about, error.message) and said.where not in error.message:
            error.hint = f"{error.hint}{' ' * bool(error.hint)}{key} is set by {said.where}."


def refused(error: Any, context: Any) -> UsageError | None:
    """The error for a value that Typer refuses, if the command line doesn't state it."""
    sources: Sources = context.meta.get(SOURCES) or Sources()
    for key, option in keys_of(context.command).items():
        if option is error.param and key in sources.said:
            return UsageError(f"{sources.said[key].where}: {key}: {error.message}")
    return None
