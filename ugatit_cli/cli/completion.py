"""`ugatit completion`: scripts for shells, and what they are answered when TAB is pressed.

The scripts ask `ugatit completion SHELL -- WORDS` for what may stand in the place of the last word. That walks the
commands' options without parsing them, which would take three times as long.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import typer

from ugatit_cli.cli import console
from ugatit_cli.cli.help_view import HELP_ALL, choices_of, summary
from ugatit_cli.config import DEFAULT_MODEL
from ugatit_cli.errors import UgatitError

Shell = Literal["bash", "zsh", "fish"]
# What the shell itself completes.
Kind = Literal["value", "file", "folder"]

SCRIPTS: Final[Mapping[Shell, str]] = {
    "bash": r"""_ugatit() {
    local program="${1/#\~/$HOME}" kind value help
    compopt +o default 2>/dev/null
    while IFS=$'\t' read -r kind value help; do
        case $kind in
            value) COMPREPLY+=("$value") ;;
            file) compopt -o default ;;
            folder) compopt -o filenames -o plusdirs ;;
        esac
    done < <("$program" completion bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _ugatit ugatit""",
    "zsh": r"""#compdef ugatit
_ugatit() {
    local program="${words[1]/#\~/$HOME}" kind value help files
    local -a values
    while IFS=$'\t' read -r kind value help; do
        case $kind in
            value) values+=("${value//:/\\:}${help:+:$help}") ;;
            file) files=. ;;
            folder) files=/ ;;
        esac
    done < <("$program" completion zsh -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)
    [[ $PREFIX == --*=* ]] && compset -P '*='
    (( $#values )) && _describe value values
    [[ $files == . ]] && _files
    [[ $files == / ]] && _files -/
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _ugatit "$@"; else compdef _ugatit ugatit; fi""",
    "fish": r"""function __ugatit
    set -l before (commandline -opc)
    set -l token (commandline -ct)
    set -l program (string replace -r '^~' $HOME -- $before[1])
    $program completion fish -- $before[2..] "$token" 2>/dev/null | while read -l -d \t kind value help
        switch $kind
            case value
                printf '%s\t%s\n' $value $help
            case file
                __fish_complete_path "$token"
            case folder
                __fish_complete_directories "$token" ''
        end
    end
end
complete -c ugatit -f -a '(__ugatit)'""",
}

# What stands for paths in the help.
FILES: Final = {"INPUT", "OUT", "FILE", "PICTURE", "PATH", "PAGE.html", "ANSWERS"}
FOLDERS: Final = {"DIR", "RUN", "FOLDER", "TRANSLATED", "REAL", "A", "B", "MODEL", "RUN_OR_MODEL", "DATA"}
MODELS: Final = {"MODEL", "RUN_OR_MODEL"}
# Words that stand for more than the help's name of a value says.
WORDS: Final[Mapping[str, str]] = {
    "colormap": "inferno magma viridis cividis turbo jet",
    "device": "auto cpu cuda mps",
    "maps": "all generator local global",
    "metrics": "kid kid-mixed fid feature-distance ssim psnr l1",
    "size": "same model",
}


@dataclass(frozen=True)
class Candidate:
    """What may stand in the place of a word, or a kind of path."""

    kind: Kind
    value: str = ""
    help: str = ""


def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell that you use.", show_default=False)],
) -> None:
    """Print a script by which TAB completes commands and names.

    It completes commands, options and their values, names of models and data sets, and files; from the next shell on.

    For bash, add this line to ~/.bashrc; for zsh, with `zsh` in it, to ~/.zshrc below `compinit`:

    `eval "$(ugatit completion bash)"`

    For fish, run this once:

    `ugatit completion fish > ~/.config/fish/completions/ugatit.fish`
    """
    console.result(*SCRIPTS[shell].split("\n"))


def answer(shell: str, words: Sequence[str]) -> None:
    """Writes what may stand in the place of the last word, a line each: kind, value, help."""
    before, typed = _split(words)
    option, stated, start = typed.rpartition("=") if typed.startswith("--") else ("", "", typed)
    prefix = f"{option}=" if stated and shell == "fish" else ""
    found = candidates([*before, option] if stated else before, start)
    for one in dict.fromkeys(found):
        if one.kind != "value" or one.value.startswith(start):
            console.result("\t".join((one.kind, f"{prefix}{one.value}", " ".join(one.help.split()))))


def _split(words: Sequence[str]) -> tuple[list[str], str]:
    """Words, and the one that is typed; bash makes three of `--size=8`."""
    if not words:
        return [], ""
    before = [one for one in words[:-1] if one != "="]
    return before, "" if words[-1] == "=" and len(words) > 1 else words[-1]


def candidates(before: Sequence[str], typed: str) -> Iterator[Candidate]:
    """What may follow some words, whatever it begins with."""
    from ugatit_cli.cli import app

    if not before:
        yield from (Candidate("value", name, does) for name, does in app.COMMANDS.items())
        return
    name, rest = app.ALIASES.get(before[0], before[0]), list(before[1:])
    if name not in app.COMMANDS:
        return
    command = app.built(name)
    inner = getattr(command, "commands", {})
    if inner:
        if not rest:
            yield from (Candidate("value", one, summary(command)) for one, command in inner.items())
        chosen = rest.pop(0) if rest and rest[0] in inner else command.first
        command = inner[chosen]
    yield from _of_command(command, name, rest, typed)


def _of_command(command: Any, name: str, before: Sequence[str], typed: str) -> Iterator[Candidate]:
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    arguments = [one for one in command.params if one.param_type_name == "argument" and not one.hidden]
    flags = {flag: one for one in options for flag in (*one.opts, *one.secondary_opts)}
    pending, given, places = None, set(), 0
    for word in before:
        if pending is not None:
            pending = None
        elif word in flags:
            given.add(flags[word].name)
            pending = None if flags[word].is_flag else flags[word]
        elif not word.startswith("-") or word == "-":
            places += 1
    if pending is not None:
        yield from _values(pending, name, before)
    elif typed.startswith("-"):
        yield from _names(one for one in options if one.multiple or one.name not in given)
    elif arguments and (places < len(arguments) or arguments[-1].nargs == -1):
        yield from _values(arguments[min(places, len(arguments) - 1)], name, before)


def _names(options: Iterable[Any]) -> Iterator[Candidate]:
    for one in options:
        for flag in (*one.opts, *one.secondary_opts):
            if flag.startswith("--"):
                yield Candidate("value", flag, one.help or "")
    yield Candidate("value", "--help", "Show what the command does.")
    yield Candidate("value", HELP_ALL, "Show all options.")


def _values(parameter: Any, command: str, before: Sequence[str]) -> Iterator[Candidate]:
    """Those of an option or argument."""
    metavar = parameter.metavar or ""
    parts = set(re.split(r"[|\[\]:=]", metavar))
    words = [*choices_of(parameter), *WORDS.get(str(parameter.name), "").split()]
    yield from (Candidate("value", one) for one in words or sorted(one for one in parts if one.islower()))
    is_argument = parameter.param_type_name == "argument"
    with contextlib.suppress(UgatitError):
        if parts & MODELS or (is_argument and command == "models"):
            yield from _models()
        if "DATA" in parts or (is_argument and command == "data" and "NAME" in parts):
            yield from _data()
        if "DOMAIN" in parts:
            yield from _domains(before)
    if parts & FILES:
        yield Candidate("file")
    elif parts & FOLDERS:
        yield Candidate("folder")


def _models() -> Iterator[Candidate]:
    from ugatit_cli.weights.catalog import known_models

    yield from (Candidate("value", name) for name in known_models())


def _data() -> Iterator[Candidate]:
    from ugatit_cli.datasets.catalog import catalog

    yield from (Candidate("value", one.name) for one in catalog())


def _domains(before: Sequence[str]) -> Iterator[Candidate]:
    """Those of the model that the words name."""
    from ugatit_cli.weights.catalog import known

    named = [value for option, value in itertools.pairwise(before) if option in ("-m", "--model")]
    for name in named or [DEFAULT_MODEL]:
        yield from (Candidate("value", one) for one in known(name).domains or ())
