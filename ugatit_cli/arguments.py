"""Arguments of the public Python interface: each of a type and in a range that its signature names, or an error.

What a signature says is enough: `strength: float`, `codec: Literal["auto", "h264"]`, `count: Annotated[int, Range(1,
500)]`. A text in `Annotated` is what messages call the type, where its own words don't say it well.
"""

from __future__ import annotations

import functools
import inspect
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from numbers import Integral, Real
from os import PathLike, fspath
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ugatit_cli.errors import UsageError, WrongType
from ugatit_cli.fields import WORDS, Range

Function = TypeVar("Function", bound=Callable[..., Any])

_WORDS: Final[Mapping[Any, str]] = {
    **WORDS,
    NoneType: "None",
    PathLike: "a path",
    Callable: "a function",
    Mapping: "a mapping",
    Sequence: "several of them",
    Iterable: "several of them",
    "Image": "a PIL image",
    "ndarray": "a NumPy array",
}
_UNFIT: Final = object()
_SHOWN: Final = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 60


@dataclass(frozen=True)
class Checked:
    """In `Annotated`: what is checked instead, as the function itself says best which choices there are."""

    hint: Any


def checked(function: Function) -> Function:
    """Has each argument of a function, or of a class, checked by its annotation before the function sees it.

    Numbers of NumPy become Python's, whole floats become whole numbers where such are asked for.

    Raises (the function, then):
        WrongType: an argument is of another type; the message names it, what it got and what it takes.
        UsageError: it is out of its `Range`, or none of its `Literal`'s choices.
    """
    if isinstance(function, type):
        function.__init__ = checked(function.__init__)  # type: ignore[misc]  # each class has one of its own
        return function
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given, hints = signature.bind(*args, **kwargs), _hints(function)
        for name, value in given.arguments.items():
            if name in hints:
                given.arguments[name] = fitted(name, value, hints[name])
        return function(*given.args, **given.kwargs)

    return call  # type: ignore[return-value]  # it has the same signature


@functools.cache
def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Not at once, as types may be defined below; nor the result's, which nothing is to be imported for."""
    named = [one for one in inspect.signature(function).parameters.values() if one.annotation is not Parameter.empty]
    plain = [one for one in named if one.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
    bare = SimpleNamespace(__annotations__={one.name: one.annotation for one in plain})
    return get_type_hints(bare, inspect.unwrap(function).__globals__, include_extras=True)


def fitted(name: str, value: Any, hint: Any) -> Any:
    """An argument in the type that a hint asks for.

    Raises:
        WrongType, UsageError: as `checked` says.
    """
    kinds, notes = _parts(hint)
    found = next((one for kind in kinds if (one := _as(value, kind, kinds)) is not _UNFIT), _UNFIT)
    if found is _UNFIT:
        wanted = next((note for note in notes if isinstance(note, str)), "") or _words(kinds)
        choices = any(get_origin(kind) is Literal for kind in kinds) and isinstance(value, str)
        raise (UsageError if choices else WrongType)(f"{name} is {_shown(value)}; it must be {wanted}")
    for allowed in (note for note in notes if isinstance(note, Range)):
        if not all(allowed.low <= one <= allowed.high for one in _numbers(found)):
            raise UsageError(f"{name} is {_shown(value)}; it must be {allowed.words}")
    return found


def _parts(hint: Any) -> tuple[list[Any], list[Any]]:
    """The kinds of values that a hint allows, and what is noted of them."""
    if get_origin(hint) is Annotated:
        hint, *notes = get_args(hint)
        kinds, inner = _parts(next((note.hint for note in notes if isinstance(note, Checked)), hint))
        return kinds, [*notes, *inner]
    if not isinstance(hint, UnionType) and get_origin(hint) is not Union:
        return [hint], []
    parts = [_parts(one) for one in get_args(hint)]
    return [kind for kinds, _ in parts for kind in kinds], [note for _, notes in parts for note in notes]


def _numbers(value: Any) -> Iterator[float]:
    """All that are in it."""
    if isinstance(value, tuple):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _as(value: Any, kind: Any, kinds: Sequence[Any]) -> Any:
    """A value as one of the kinds that it may have; `_UNFIT` if it is of another one."""
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if getattr(value, "shape", None) == () and origin in (bool, int, float):  # a number of NumPy or PyTorch
        value = value.item()
    fits: object = True
    if origin is Literal:
        fits = isinstance(value, str) and value in inner
    elif origin is str or origin is PathLike:
        text = fspath(value) if isinstance(value, PathLike) else value
        fits = isinstance(value, origin) and isinstance(text, str) and "\0" not in text
        fits = fits and (bool(text) or not any(PathLike in (one, get_origin(one)) for one in kinds))
    elif origin in (bool, int, float):
        return _number(value, origin)
    elif origin is tuple:
        return _tuple(value, inner, kinds)
    elif isinstance(origin, type) and origin is not Any:
        # A text and an array are one thing, though Python goes through their parts.
        one = isinstance(value, str | bytes) or hasattr(value, "shape")
        fits = isinstance(value, origin) and not (one and origin in (Iterable, Sequence))
    return value if fits else _UNFIT


def _number(value: Any, kind: type) -> Any:
    if isinstance(value, bool):
        return value if kind is bool else _UNFIT
    if kind is bool:
        return bool(value) if isinstance(value, Integral) and value in (0, 1) else _UNFIT
    if kind is float:
        return float(value) if isinstance(value, float) or _is_finite(value) else _UNFIT
    whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole else _UNFIT


def _is_finite(value: Any) -> bool:
    largest: Any = 2**1023  # about; of larger ones no float can be made
    return isinstance(value, Real) and -largest < value < largest


def _tuple(value: Any, inner: Sequence[Any], kinds: Sequence[Any]) -> Any:
    """Several values of such types: any sequence of as many will do."""
    values: Any = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        return _UNFIT
    wanted = [inner[0]] * len(values) if inner[1:] == (...,) else inner
    if len(values) != len(wanted):
        return _UNFIT
    found = tuple(_as(one, kind, kinds) for one, kind in zip(values, wanted, strict=True))
    return _UNFIT if any(one is _UNFIT for one in found) else found


def _words(kinds: Sequence[Any]) -> str:
    """`a path or None`."""
    some = [kind for kind in kinds if kind is not str or not _is_path(kinds)]
    literal = [text for kind in some if get_origin(kind) is Literal for text in get_args(kind)]
    *others, last = dict.fromkeys([*literal, *(_word(kind) for kind in some if get_origin(kind) is not Literal)])
    return f"{', '.join(others)} or {last}" if others else last


def _is_path(kinds: Sequence[Any]) -> bool:
    return any(PathLike in (kind, get_origin(kind)) for kind in kinds)


def _word(kind: Any) -> str:
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin is tuple:
        return f"({', '.join('...' if one is ... else _word(one) for one in inner)})"
    return _WORDS.get(origin) or _WORDS.get(origin.__name__) or f"a {origin.__name__}"


def _shown(value: object) -> str:
    """A value as its owner writes it, if that is short; else its type."""
    plain = value is None or isinstance(value, str | bytes | bool | Real | PathLike)
    plain = plain or isinstance(value, list | tuple | dict)
    return _SHOWN.repr(value) if plain else f"of type {type(value).__name__}"
