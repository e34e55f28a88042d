"""What a field of a settings dataclass says of itself: its type, its range, and the option that sets it.

A setting is said once, in `ModelConfig`, `Recipe` or `RunOptions`:

    cycle_weight: Annotated[float, Range(0, 1e6), Option("Recipe", "There and back is the same.")] = 10.0

With that one line it is checked, stored under its name in `config.toml`, compared when a run goes on, and there is
`ugatit train --cycle-weight X`, with this help in this section. So a new option of `train` is one such line.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

from ugatit_cli.errors import ConfigError

Table = TypeVar("Table")
# The sections of `ugatit train --help`, in their order.
Section = Literal["Start", "Pictures", "Model", "Recipe", "What is written", "Evaluation", "Machine"]

# What users call the types.
WORDS: Final[Mapping[type, str]] = MappingProxyType(
    {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path", list: "a list"}
)


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value of a number, both allowed."""

    low: float
    high: float

    @property
    def words(self) -> str:
        """What such a number must be."""
        return f"from {self.low} to {self.high}" if self.high < math.inf else f"at least {self.low}"


@dataclass(frozen=True)
class Option:
    """The option of a field.

    Attributes:
        section: where the help shows it.
        help: what it is.
        metavar: what stands for its value in the help; default: N for whole numbers, X for others.
        default: what the help says where the field's default, and the recipes' own, are not all there is to say.
        name: of the option, if it isn't the field's.
        flags: as they are typed, if not `--name` or `--name/--no-name`.
        type: of what users write, if it isn't the field's.
        shows_range: the help shows the range of the field, too.
        before: name of the option that it stands before; default: it comes after the section's earlier ones.
        argument: it has no name: its place says which it is.
    """

    section: Section
    help: str
    metavar: str | None = None
    default: str | None = None
    name: str | None = None
    flags: tuple[str, ...] = ()
    type: Any = None
    shows_range: bool = False
    before: str | None = None
    argument: bool = False


@dataclass(frozen=True)
class Field:
    """A field of a settings dataclass.

    Attributes:
        name: of the option, and in the dataclass unless `Option.name` says otherwise.
        type: as `fitting` takes it; of `int | None` the `int`.
        optional: whether it may be None.
        default: its value by default, or `dataclasses.MISSING`.
    """

    name: str
    type: Any
    optional: bool
    default: Any
    range: Range | None
    option: Option | None

    @property
    def flag(self) -> str:
        """How the command line names it: `--image-size`."""
        flags = self.option.flags if self.option else ()
        return flags[0].partition("/")[0] if flags else "--" + self.name.replace("_", "-")


@functools.cache
def fields_of(table: type) -> Mapping[str, Field]:
    """The fields of a dataclass, by their names in it."""
    found = {}
    hints = get_type_hints(table, include_extras=True)
    for field in dataclasses.fields(table):
        hint = hints[field.name]
        hint, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        kinds = get_args(hint) if get_origin(hint) is UnionType else [hint]
        option = next((note for note in notes if isinstance(note, Option)), None)
        found[field.name] = Field(
            option.name if option and option.name else field.name,
            kinds[0],
            NoneType in kinds,
            field.default,
            next((note for note in notes if isinstance(note, Range)), None),
            option,
        )
    return MappingProxyType(found)


def fitting(name: str, value: Any, kind: Any) -> Any:
    """A plain value, as JSON and TOML have them, in the type that a field of this name wants.

    Args:
        kind: `int`, `float` (whole numbers become one), `bool`, `str`, `Path`, `Any`, a `Literal`, a settings
            dataclass, or `list[...]` and `Mapping[str, ...]` of these.

    Raises:
        ConfigError: it is of another type, a number that no float can be, or text with a NUL in it.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if getattr(value, "shape", None) == ():  # in Python, a number of NumPy
        value = value.item()
    if origin is Literal:
        if not isinstance(value, str) or value not in inner:
            raise ConfigError(f"{name} is {value!r}; it must be one of: {', '.join(inner)}")
    elif origin is list and type(value) is list:
        return [fitting(f"{name}[{index}]", one, inner[0]) for index, one in enumerate(value)]
    elif origin is Mapping and isinstance(value, Mapping):
        return {key: fitting(f"{name}.{key}", one, inner[1]) for key, one in value.items()}
    elif dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return read_table(kind, value)  # type: ignore[arg-type]  # no instance
    elif kind is float and type(value) is int and abs(value) < 2**1023:
        return float(value)
    elif kind is Path and type(value) is str:
        return Path(fitting(name, value, str))
    elif kind is not Any and type(value) is not kind:
        table = origin is Mapping or dataclasses.is_dataclass(kind)
        raise ConfigError(f"{name} is {value!r}; it must be {'a table' if table else WORDS[origin or kind]}")
    elif kind is str and "\0" in value:
        raise ConfigError(f"{name} is {value!r}; no text may have a NUL in it")
    return value


def _fitting(name: str, value: Any, field: Field) -> Any:
    return None if value is None and field.optional else fitting(name, value, field.type)


def check_types(values: Any, table: type) -> None:
    """Whether all fields have values of their types; whole numbers become floats where a field is one.

    Args:
        values: an instance of `table`, or of a class below it.

    Raises:
        ConfigError: one hasn't.
    """
    for name, field in fields_of(table).items():
        object.__setattr__(values, name, _fitting(name, getattr(values, name), field))


def check_ranges(values: Any, table: type) -> None:
    """Whether all numbers are in their fields' ranges.

    Raises:
        ConfigError: one isn't.
    """
    for name, field in fields_of(table).items():
        value = getattr(values, name)
        if field.range is not None and value is not None and not field.range.low <= value <= field.range.high:
            raise ConfigError(f"{name} is {value}; it must be {field.range.words}")


def read_table(table: type[Table], values: object) -> Table:
    """A settings dataclass of plain values, as JSON and TOML have them.

    Raises:
        ConfigError: no table, unknown or missing fields, or values that it refuses.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{values!r} is no table of settings")
    fields = fields_of(table)  # type: ignore[arg-type]  # hashable, as all classes
    needed = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    for kind, names in (("unknown", values.keys() - fields.keys()), ("missing", needed - values.keys())):
        if names:
            raise ConfigError(f"{kind} settings: {', '.join(sorted(names))}")
    return table(**{name: _fitting(name, value, fields[name]) for name, value in values.items()})
