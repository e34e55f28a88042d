"""How `--help` is written: examples to copy, sections of options, and what only `--help-all` shows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, ClassVar, Final

from typer.core import TyperGroup

from ugatit_cli.cli import voice, wrong_names

# The last section: what every command takes.
EVERY: Final = voice.TITLE
HELP_ALL: Final = "--help-all"
# Columns of the names of options; longer ones have a line for themselves.
WIDEST: Final = 26
EXAMPLE: Final = re.compile("`([^`]+)`")


def usage(parameters: Sequence[Any], rest: Sequence[str] = ()) -> list[str]:
    """The pieces of a usage line: `[OPTIONS] MODEL [INPUT]...`."""
    arguments = [one for one in parameters if one.param_type_name == "argument" and not one.hidden]
    names = [name_of(one) if one.required else f"[{name_of(one)}]" for one in arguments]
    return [
        "[OPTIONS]",
        *(name + "..." * (one.nargs != 1) for name, one in zip(names, arguments, strict=True)),
        *rest,
    ]


def write_text(text: str, formatter: Any) -> None:
    """The paragraphs of a command's docstring; examples are lines to copy."""
    for paragraph in text.split("\n\n"):
        plain = " ".join(paragraph.split())
        if example := EXAMPLE.fullmatch(plain):
            formatter.write("".join(f"{line}\n" for line in _example(example[1], formatter.width)))
            continue
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(plain)


def _example(line: str, width: int) -> list[str]:
    """Broken before options only, so that each stays with its value."""
    lines = ["   "]
    for part in re.split(" (?=-)", line):
        if len(lines[-1]) + len(part) > width - 2:
            lines.append("       ")
        lines[-1] += f" {part}"
    return [*(f"{one} \\" for one in lines[:-1]), lines[-1]]


def before_dashes(arguments: Sequence[str]) -> list[str]:
    """Those before `--`, after which nothing is an option."""
    return list(itertools.takewhile(lambda one: one != "--", arguments))


def write_options(parameters: Sequence[Any], formatter: Any, rare: Collection[str] = ()) -> None:
    """A section for each group of options, in the order of the options, but for rare ones: names of parameters."""
    sections: dict[str, list[tuple[str, str]]] = {}
    every: list[tuple[str, str]] = []
    left_out = 0
    for parameter in parameters:
        if parameter.hidden:
            continue
        if parameter.name in rare:
            left_out += 1
            continue
        title = _section(parameter)
        (every if title == EVERY else sections.setdefault(title, [])).append(_record(parameter))
    if left_out:
        every.append((HELP_ALL, f"Show the {left_out} options that few need, too."))
    for title, records in {**sections, EVERY: every}.items():
        with formatter.section(title):
            formatter.write_dl(records, col_max=WIDEST)


def _section(parameter: Any) -> str:
    panel: str | None = getattr(parameter, "rich_help_panel", None)
    if panel or "--help" in parameter.opts:
        return panel or EVERY
    return "Arguments" if parameter.param_type_name == "argument" else "Options"


def summary(command: Any) -> str:
    """The first sentence of a command's help."""
    first, _, _ = (command.help or "").partition("\n\n")
    return " ".join(first.split())


def name_of(parameter: Any) -> str:
    """What stands for a parameter's value: `MODEL`, `N`, `a2b|b2a`; empty for flags."""
    if getattr(parameter, "is_flag", False):
        return ""
    return parameter.metavar or "|".join(choices_of(parameter)) or str(parameter.name).upper()


def choices_of(parameter: Any) -> tuple[str, ...]:
    """The only values that a parameter takes, if there are such."""
    # Typer before 0.27 calls it `type`.
    kind = getattr(parameter, "type_descriptor", None) or getattr(parameter, "type", None)
    return tuple(map(str, getattr(kind, "choices", None) or ()))


def _record(parameter: Any) -> tuple[str, str]:
    if parameter.param_type_name == "argument":
        return name_of(parameter), _help(parameter)
    short_first = sorted(parameter.opts, key=_is_long)
    names = ", ".join(f"--[no-]{name[2:]}" if f"--no-{name[2:]}" in parameter.secondary_opts else name
                      for name in short_first)  # fmt: skip
    return f"{names} {name_of(parameter)}".rstrip(), _help(parameter)


def _is_long(flag: str) -> bool:
    return flag.startswith("--")


def _help(parameter: Any) -> str:
    text = (parameter.help or "").strip()
    stated, _, told = text.partition("  [default: ")
    default = told.removesuffix("]") or _default(parameter)
    facts = [f"default: {default}"] if default else []
    return f"{stated}  [{'; '.join([*facts, *_range(parameter)])}]" if facts or any(_range(parameter)) else stated


def _default(parameter: Any) -> str:
    value = parameter.default
    quiet = not parameter.show_default or parameter.required or callable(value) or isinstance(value, bool)
    return "" if quiet or value in (None, "", ()) else str(value)


def _range(parameter: Any) -> Iterator[str]:
    """What numbers it takes, unless its name says so already."""
    kind = getattr(parameter, "type", parameter)  # as before Typer 0.27
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    if ".." in (parameter.metavar or "") or (low is None and high is None):
        return
    if high is None or high >= 1_000_000:
        yield f"{low} or more"
    else:
        yield f"{low} to {high}"


class CommandGroup(TyperGroup):
    """A command with commands, whose help is written as all is here.

    Attributes:
        first: the command that is meant where none is named; empty: none.
        others: what is shown beside options: names, and what they do.
    """

    first: ClassVar[str] = ""
    others: ClassVar[tuple[tuple[str, str], ...]] = ()

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Of the usage line."""
        return usage(self.get_params(ctx), [self.subcommand_metavar])

    def summary_of(self, name: str) -> str:
        """What one of the commands does, in a sentence."""
        return summary(self.commands[name])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Names the command that was meant, if there is none of that name.

        Raises:
            UsageError: there is none.
        """
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            raise wrong_names.no_such_command(f"{ctx.info_name} " if ctx.parent else "", args[0], self.commands)
        return super().parse_args(ctx, args)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  # the name is Click's
        """Writes what it does, and examples."""
        write_text(self.help or "", formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes options and commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.summary_of(name)) for name in self.list_commands(ctx)])
        parameters: list[Any] = self.get_params(ctx)
        helps = [(", ".join(sorted(one.opts, key=_is_long)), one.help) for one in parameters]
        with formatter.section("Options"):
            formatter.write_dl([*helps, *self.others])
