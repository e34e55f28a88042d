"""What options are where the command line doesn't say: a file that it names, variables, and files that are found."""
# ruff: noqa: PTH113

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ugatit_cli.cli import console
from ugatit_cli.cli.option_names import OTHERS, TESTS, every_command, keys_of, nearest, path_of, variables_of
from ugatit_cli.cli.settings_file import CONFIG, FILE, OFF, Said, SettingsFile, is_picture, read_document, shown
from ugatit_cli.errors import DeviceError, UgatitError, UsageError
from ugatit_cli.files import config_folder, expanded

RUN_FILE: Final = "config.toml"
DRY_RUN: Final = "dry_run"
# What `style` is called here where it is that of a picture: random ones go with `styles`.
PICTURE: Final = "style of a picture"
# Of these, what is said further away counts for nothing beside what is said nearer.
RIVALS: Final = (
    ("iterations", "minutes"),
    ("direction", "to"),
    ("skip_existing", "update", "overwrite"),
    ("faces", "faces_only", "box", "mask"),
    (PICTURE, "styles"),
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
    "extractor": ("evaluate_every",),
    "features": ("evaluate_every",),
    "feature_layer": ("evaluate_every",),
}
# What errors name by its value alone.
BY_VALUE: Final = frozenset({"device", "precision", "model", "run", "from", "extractor"})
# Texts of the library that reads values.
LIBRARY: Final[Mapping[str, str]] = {
    "Input should be a valid integer.*": "it must be a whole number",
    "Input should be a valid number.*": "it must be a number",
    "Input should be a valid boolean.*": "it must be true or false",
    "Input should be (greater|less) than or equal to ": r"it must be \1 than or equal to ",
    "Value error, ": "",
}
# What a run that goes on takes from files that are found, and from variables: nothing that it has itself.
RESUMED: Final = frozenset({"device", "workers", "max_pixels", "tensorboard", "json", "dry_run", "resume"})
SOURCES: Final = "ugatit.sources"


@dataclass(frozen=True)
class Layer:
    """What one place says, by keys.

    Attributes:
        title: of the place, where users should hear that it was used; empty if they have named it.
        named: by this very call.
        settled: what it says nothing of, but stays as it is by default.
        others: settings of a training that are no options.
    """

    values: Mapping[str, Said]
    title: str = ""
    named: bool = False
    settled: frozenset[str] = frozenset()
    others: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Sources:
    """Where the values of a call come from.

    Attributes:
        said: what the command line doesn't say, by keys.
        notes: for the user.
        others: settings of a training that are no options.
    """

    said: dict[str, Said] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    others: dict[str, Any] = field(default_factory=dict)


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
    # Of arguments, too.
    by_key = {names.get(name, name): value for name, value in stated.items() if value not in (None, ())}
    layers = _layers(path, keys, by_key)
    sources.said = _resolved(layers, by_key, keys.keys())
    sources.others = {name: value for layer in layers for name, value in layer.others.items()}
    context.default_map = {keys[key].name: said.value for key, said in sources.said.items()}
    for layer in layers:
        used = [key for key, said in layer.values.items() if layer.title and sources.said.get(key) is said]
        if used:
            sources.notes.append(f"settings of {layer.title}: {', '.join(used)}")
    sources.notes += _unknown_variables(path, keys)


def sources_of(context: Any) -> Sources:
    """Those of a call."""
    found: Sources = context.meta.get(SOURCES) or Sources()
    return found


def _layers(path: str, keys: Mapping[str, Any], stated: Mapping[str, Any]) -> list[Layer]:
    """From the nearest one to the farthest one."""
    config = stated.get(CONFIG)
    variables = _of_variables(path, keys)
    named = config or (variables.values[CONFIG].value if CONFIG in variables.values else "")
    if not named:
        return [variables, *_found(path, keys)]
    if named == OFF:
        return [variables]
    layer = _named(path, keys, expanded(named), stated, by_call=config is not None)
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
    # Without a home folder there may be one called `~`, which isn't the user's.
    has_users = users.is_absolute() and os.path.isfile(users)
    layers = []
    if os.path.isfile(here):
        file = SettingsFile(here, read_document(here), path, keys)
        own = has_users and here.samefile(users)
        layers.append(Layer(file.values, FILE))
        if own:
            return layers
        for key in file.values:
            file.check_safe(key)
    if has_users:
        layers.append(Layer(SettingsFile(users, read_document(users), path, keys, beside=Path()).values, str(users)))
    return layers


def _named(path: str, keys: Mapping[str, Any], file: Path, stated: Mapping[str, Any], *, by_call: bool) -> Layer:
    if not os.path.exists(file):  # noqa: PTH110  # which fails where nobody may look
        option = "--config" if by_call else "UGATIT_CONFIG"
        raise UsageError(f"{option} {file}: no such file", f"Name a TOML file, or {OFF} for none at all.")
    file = file / RUN_FILE if file.is_dir() else file
    document = read_document(file)
    if not isinstance(document.get("run"), dict):
        return Layer(SettingsFile(file, document, path, keys).values, "", by_call)
    if path != "train":
        way = f"To use its model: --model {file.parent}" if "model" in keys and file.name == RUN_FILE else ""
        raise UsageError(f"{file} says how a run is trained: it is for `ugatit train`", way)
    from ugatit_cli.cli.run_configuration import plan_of_run

    plan = plan_of_run(document, file, stated)
    return Layer(plan.values, "", by_call, plan.settled, plan.others)


def _resolved(layers: list[Layer], on_line: Mapping[str, Any], keys: Set[str]) -> dict[str, Said]:
    """What counts, of nearer places first; of rivals that of the nearest."""
    found: dict[str, Said] = {}
    nearer, settled = {_rival(key, value) for key, value in on_line.items()}, set(on_line)
    for layer in layers:
        left = {key: said for key, said in layer.values.items() if key not in settled}
        own = {key: said for key, said in left.items() if not _outdone(_rival(key, said.value), nearer)}
        if "resume" in nearer and not layer.named:
            own = {key: said for key, said in own.items() if key in RESUMED}
        found |= own
        nearer |= {_rival(key, said.value) for key, said in own.items()}
        settled |= own.keys() | layer.settled
    needs = {key: {*NEEDS[key]} for key in found.keys() & NEEDS.keys() if keys & {*NEEDS[key]}}
    return {key: said for key, said in found.items() if key not in needs or nearer & needs[key]}


def _rival(key: str, value: object) -> str:
    """What rivals are about."""
    return PICTURE if key == "style" and is_picture(str(value)) else key


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
    likely = {one: nearest(one, known) for one in sorted(set(strange) - known)}
    return [f"nobody reads the variable {one}{near and near + '?'}" for one, near in likely.items()]


def tell(context: Any) -> None:
    """Says where settings come from: of files that were found always, of all of them before a dry run."""
    if os.environ.get("RANK", "0") != "0":
        return
    sources = sources_of(context)
    for text in sources.notes:
        console.note(text)
    if context.params.get(DRY_RUN):
        for line in _lines(context, sources):
            console.note(line)


def _lines(context: Any, sources: Sources) -> list[str]:
    keys = keys_of(context.command)
    said = {keys[key].name: one.where for key, one in sources.said.items()}
    defaults = _defaults(context, sources)
    rows = []
    for name, key in {option.name: key for key, option in reversed(keys.items())}.items():
        source, value = context.get_parameter_source(name), context.params.get(name)
        usual = source is None or source.name == "DEFAULT" or str(value) == str(defaults[name])
        if not usual and name in context.params and key != DRY_RUN:
            where = "command line" if source.name == "COMMANDLINE" else said.get(name, "")
            several = isinstance(value, list | tuple)
            rows.append((key, " ".join(map(str, value)) if several else shown(value), where))
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    return ["settings that aren't the defaults:"] * bool(rows) + [
        f"  {key:{widths[0]}}  {value:{widths[1]}}  {where}" for key, value, where in rows
    ]


def _defaults(context: Any, sources: Sources) -> dict[str, object]:
    """What options are where nobody says so, by parameters' names."""
    defaults = {option.name: option.default for option in context.command.params}
    if path_of(context) == "train":
        from ugatit_cli.cli.run_configuration import defaults_of_run

        defaults |= defaults_of_run(context.params, sources.others)
    return defaults


def explain(error: UgatitError, context: Any) -> None:
    """Adds to an error where the value stands that it is about; of the command line, names its option."""
    sources = sources_of(context)
    setting = re.match(r"(\w+) is (.+?); ", error.message)
    if setting and setting[1] in keys_of(context.command).keys() - sources.said.keys():
        flag = "domains" if setting[1] in ("domain_a", "domain_b") else setting[1].replace("_", "-")
        error.message = f"--{flag} {setting[2]}: {error.message[setting.end() :]}"
    for key, said in sources.said.items():
        flag = key.replace("_", "-")
        about = rf"--{flag}(?![\w-])|\bits {flag} is\b|^{key} is\b"
        if key in BY_VALUE and said.value and said.value not in ("auto", [""]):
            values = said.value if isinstance(said.value, list) else [str(said.value)]
            about += "".join(rf"|(?<![\w-]){re.escape(one)}(?![\w-])" for one in values)
        if key == "device" and isinstance(error, DeviceError):
            about += "|\\bdevice\\b"
        if key == "to":
            about += f"|\\bno domain {re.escape(repr(said.value))}"
        if re.search(about, error.message) and said.where not in error.message:
            error.hint = f"{error.hint}\n{key} is set by {said.where}.".lstrip()


def in_words(message: str) -> str:
    """What Typer's library says of a value, in the words of this program."""
    for pattern, words in LIBRARY.items():
        message = re.sub(pattern, words, message)
    return message


def refused(error: Any, context: Any) -> UsageError | None:
    """The error for a value that Typer refuses, if the command line doesn't state it."""
    sources = sources_of(context)
    for key, option in keys_of(context.command).items():
        if option is error.param and key in sources.said:
            said = sources.said[key]
            if option.is_flag:
                return UsageError(f"{said.where}: {key} is {shown(said.value)!r}; it must be true or false")
            is_rule = error.message.startswith("it must")
            return UsageError(f"{said.where}: {key}{f' is {said.value};' if is_rule else ':'} {error.message}")
    return None
