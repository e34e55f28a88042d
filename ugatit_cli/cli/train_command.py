"""The options of `ugatit train`: one for each field that says so, see `ugatit_cli.fields`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from ugatit_cli.cli import configuration
from ugatit_cli.cli.options import MAX_PIXELS_HELP
from ugatit_cli.fields import Field, Option, Section, fields_of
from ugatit_cli.methods.recipe import RECIPES, Recipe, preset
from ugatit_cli.methods.registry import MethodName, size_fields
from ugatit_cli.training.options import RunOptions


@dataclass(frozen=True)
class Asked:
    """What one call asks for beside settings: where things are, what is said, and the machine."""

    a: Annotated[
        Path | None,
        Option("Start", "Folder of pictures of the first look, subfolders included.", metavar="A", argument=True),
    ] = None
    b: Annotated[
        Path | None, Option("Start", "Folder of pictures of the second look.", metavar="B", argument=True)
    ] = None
    data: Annotated[
        str | None,
        Option(
            "Start",
            "Instead of the two: a data set. A name (`ugatit data` lists them), a folder with trainA, trainB, and "
            "testA, testB if any, or one of the Hub, hub:OWNER/NAME.",
            metavar="DATA",
        ),
    ] = None
    domain_a: Annotated[Path | None, Option("Pictures", "The same as A.", metavar="DIR")] = None
    domain_b: Annotated[Path | None, Option("Pictures", "The same as B.", metavar="DIR")] = None
    columns: Annotated[
        str | None,
        Option(
            "Pictures", "Of parquet files: the columns of pictures, or two labels.", metavar="A,B", default="found"
        ),
    ] = None
    domains: Annotated[
        str | None, Option("Pictures", "Names of the domains.", metavar="A,B", default="those of the folders")
    ] = None
    method: Annotated[
        MethodName | None,
        Option("Model", "What is trained.", default="ugatit, or that of --from", before="image_size"),
    ] = None
    resume: Annotated[
        Path | None,
        Option("Start", "Go on with this run, as it was begun. The same command again does it, too.", metavar="RUN"),
    ] = None
    output: Annotated[
        Path | None,
        Option(
            "Start",
            "The run folder, which has the model at every moment.",
            metavar="RUN",
            default="runs/A2B with the names of the domains",
            flags=("--output", "-o"),
            before="resume",
        ),
    ] = None
    tensorboard: Annotated[
        bool, Option("What is written", "Write for TensorBoard, too: RUN/tensorboard.", flags=("--tensorboard",))
    ] = False
    dry_run: Annotated[
        bool,
        Option(
            "What is written",
            "Say what would be done, with measured speed and memory, and write nothing.",
            flags=("--dry-run",),
        ),
    ] = False
    json: Annotated[bool, Option("What is written", "The result on stdout as JSON, one line.", flags=("--json",))] = (
        False
    )
    device: Annotated[str, Option("Machine", "auto, cpu, cuda, cuda:N or mps.", metavar="DEVICE")] = "auto"
    workers: Annotated[str, Option("Machine", "Threads that decode pictures.", metavar="auto|N")] = "auto"
    max_pixels: Annotated[str, Option("Machine", MAX_PIXELS_HELP, metavar="N|off", default="300M")] = "300M"


def with_options(run: Callable[[Asked, dict[str, Any], frozenset[str]], None]) -> Callable[..., None]:
    """A function for Typer with all options of `Asked`, `Recipe`, `RunOptions` and networks' sizes.

    Args:
        run: gets what is asked for, and the settings that the user states, by their names; those that aren't stated
            are missing. Last come the names of those that files and variables state, and not the command line.
    """
    own = list(fields_of(Asked).values())
    tables = (fields_of(Recipe), fields_of(RunOptions), size_fields())
    settings = [field for table in tables for field in table.values() if field.option is not None]

    def command(context: typer.Context, **values: Any) -> None:
        given = configuration.sources_of(context).others
        given |= {field.name: values[field.name] for field in settings if values[field.name] is not None}
        sources = {name: context.get_parameter_source(name) for name in given}
        elsewhere = frozenset(name for name, one in sources.items() if one is not None and one.name != "COMMANDLINE")
        run(Asked(**{field.name: values[field.name] for field in own}), given, elsewhere)

    stated = {field.name: _parameter(field, field.default) for field in own}
    stated |= {field.name: _parameter(field, None) for field in settings}
    order = [stated[field.name] for field in in_order([*own, *settings])]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    command.__signature__ = inspect.Signature([context, *order])  # type: ignore[attr-defined]  # which Typer reads
    command.__name__, command.__doc__ = run.__name__, run.__doc__
    return command


def in_order(fields: list[Field]) -> list[Field]:
    """Fields with options as the help shows them: by section, and in that as they come, but for `Option.before`."""
    found: list[Field] = []
    sections = get_args(Section)
    for field in sorted(fields, key=lambda field: bool(field.option and field.option.before)):
        names = [other.name for other in found]
        before = field.option.before if field.option else None
        found.insert(len(found) if before is None else names.index(before), field)
    return sorted(found, key=lambda field: sections.index(field.option.section) if field.option else 0)


def _parameter(field: Field, default: object) -> inspect.Parameter:
    option = field.option
    assert option is not None
    kind, flags = option.type or field.type, option.flags
    if not flags:
        flags = (f"{field.flag}/--no-{field.flag[2:]}" if kind is bool else field.flag,)
    shown = _default(field) if option.default is None else option.default
    if option.argument:
        argument = typer.Argument(
            help=option.help, metavar=option.metavar, rich_help_panel=option.section, show_default=False
        )
        noted: Any = Annotated[kind | None, argument]
        return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=noted)
    low, high = (field.range.low, field.range.high) if field.range and option.shows_range else (None, None)
    info = typer.Option(
        *flags,
        help=f"{option.help}  [default: {shown}]" if shown else option.help,
        metavar=option.metavar or {int: "N", float: "X"}.get(kind),
        rich_help_panel=option.section,
        show_default=False,
        min=low,
        max=high,
    )
    annotation: Any = Annotated[kind if default is False else kind | None, info]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _default(field: Field) -> str:
    """What the help says of a default: `0.999; paper: 0`, the recipes that differ by their names."""
    if field.default is None or isinstance(field.default, bool):
        return ""
    recipes: dict[str, list[str]] = {}
    for name in RECIPES:
        value = preset(name).to_dict().get(field.name, field.default)
        recipes.setdefault(f"{value:g}" if isinstance(value, float) else str(value), []).append(name)
    default, *others = recipes
    return "; ".join([default, *(f"{', '.join(recipes[value])}: {value}" for value in others)])
