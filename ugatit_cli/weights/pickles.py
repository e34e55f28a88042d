"""Pickles as data: what one would do is told from its instructions, and nothing that it names is ever called.

A few hundred bytes can keep a computer busy for ever without calling anything: a tuple of twice a tuple of twice a
tuple, and so on, as the key of a dict, whose hash goes through all of it. Here each object weighs what it holds,
shared parts as often as they are held, and hashing and calling cost what their subjects weigh.

What is long in a pickle, the numbers of arrays, stays in the file, which is mapped into memory.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import pickle
import pickletools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ugatit_cli.errors import ModelError, plain_reason
from ugatit_cli.files import open_file

# A file with six networks has 30,000 instructions, in 200 kB where tensors are kept elsewhere.
MOST: Final = 1_000_000
LARGEST: Final = 1 << 26
# Bytes from which on data is left in the file; those that are looked at together; those that an instruction may have.
LONG: Final = 1 << 12
WINDOW: Final = 1 << 20
REACH: Final = 1 << 16
PUTS: Final = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
GETS: Final = {"GET", "BINGET", "LONG_BINGET"}
CALLS: Final = {"REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "BUILD", "ADDITEMS", "FROZENSET", "BINPERSID"}
KEYED: Final = {"SETITEM", "SETITEMS", "DICT"}
_OPCODES: Final = {opcode.code: opcode for opcode in pickletools.opcodes}
# Bytes of the length before data that may be long.
COUNTED: Final = {"BINSTRING": 4, "BINBYTES": 4, "BINUNICODE": 4, "BINBYTES8": 8, "BINUNICODE8": 8, "BYTEARRAY8": 8}

# What checkpoints hold beside tensors, such as settings and states of random numbers: nobody asks for it.
BESIDE: Final[Mapping[str, str]] = {
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "collections": "Counter defaultdict deque",
    "builtins": "int float bool complex str bytes bytearray list dict tuple set frozenset slice range",
    "pathlib": "Path PosixPath WindowsPath PurePosixPath PureWindowsPath",
    "pathlib._local": "Path PosixPath WindowsPath PurePosixPath PureWindowsPath",
    "datetime": "datetime date time timedelta timezone",
    "torch": "device Generator",
    "torch.torch_version": "TorchVersion",
    "typing": "Any",
}
BESIDE_PACKAGES: Final = frozenset(
    ("addict", "easydict", "lightning", "lightning_fabric", "omegaconf", "pytorch_lightning", "yacs")
)
SAVE_TENSORS: Final = "Where it was made, save its tensors alone: torch.save(model.state_dict(), FILE)."

Weight = int | None
"""None: the mark that a list of arguments begins at."""


class _Machine:
    """The stack and the memo of a pickle, with weights in place of objects."""

    def __init__(self) -> None:
        self.stack: list[Weight] = []
        self.memo: dict[int, Weight] = {}
        self.cost = 0

    def follow(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        name = opcode.name
        self.cost += 1
        if name in PUTS:
            place = len(self.memo) if argument is None else int(argument)
            self.memo[place] = self.stack[-1]
            if place > MOST:  # all before it would take memory
                raise ValueError("far more objects than a model needs")
        elif name in GETS:
            self.stack.append(self.memo[int(argument)])
        else:
            taken = self._taken(opcode)
            weight = 1 + sum(taken)
            self.cost += weight if name in CALLS else sum(_keys(name, taken))
            self.cost = max(self.cost, weight)
            made = opcode.stack_after
            self.stack += [None if one is pickletools.markobject else weight for one in made]
        if self.cost > MOST:
            raise ValueError("far more instructions than a model needs")

    def _taken(self, opcode: pickletools.OpcodeInfo) -> list[int]:
        """Weights of what an instruction takes from the stack, the lowest first."""
        taken: list[int] = []
        for kind in reversed(opcode.stack_before):
            if kind is pickletools.stackslice:
                while self.stack[-1] is not None:
                    taken.append(self.stack.pop() or 0)
            elif kind is pickletools.markobject:
                self.stack.pop()
            else:
                taken.append(self.stack.pop() or 0)
        return taken[::-1]


def _keys(name: str, taken: list[int]) -> Iterator[int]:
    """Weights of the keys among what an instruction takes: every other one; a dict comes before them."""
    if name in KEYED:
        yield from taken[name != "DICT" :: 2]


class Inert:
    """What stands for all that is no part of a network: takes whatever a pickle does to it, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, _: Any) -> None:
        """As a list has it."""

    extend = add = append


class Dict(dict[Any, Any]):
    """What stands for `OrderedDict`, which may have attributes."""

    def __setstate__(self, state: Any) -> None: ...


@dataclass(frozen=True)
class Piece:
    """Data that stays in the file."""

    start: int
    size: int
    is_text: bool


class Unpickler(pickle.Unpickler):
    """Follows a program that was checked, with stand-ins for whatever it names.

    Args:
        known: stand-ins by module and name, none of which a pickle can set attributes of, as it can of functions and
            of classes without `__setstate__`.
        stored: finds what is kept outside of the pickle, by what identifies it there.
    """

    def __init__(
        self, program: bytes, known: Mapping[tuple[str, str], Any], stored: Callable[[Any], Any] | None = None
    ) -> None:
        super().__init__(io.BytesIO(program), encoding="latin1")
        self.known, self.stored = known, stored

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in.

        Raises:
            UnpicklingError: there is none.
        """
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)  # of Python 2, and protocol 2
        if (module, name) in self.known:
            return self.known[module, name]
        foreign = module.partition(".")[0] in BESIDE_PACKAGES and name.isidentifier()
        if not foreign and name not in BESIDE.get(module, "").split():
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return Inert

    def persistent_load(self, identity: Any) -> Any:
        """A piece of the file, or what `stored` finds."""
        if isinstance(identity, tuple) and identity[:1] == (None,):
            return Piece(*identity[1:])
        if self.stored is None:
            raise ValueError("it refers to what it doesn't hold")
        return self.stored(identity)


def mapped(path: Path) -> memoryview:
    """The bytes of a file, which are read when they are looked at.

    Raises:
        OSError: it can't be read.
        ValueError: it is empty.
    """
    with open_file(path) as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def program(data: memoryview, start: int = 0) -> tuple[bytes, int]:
    """The instructions of a pickle, of which none is followed, and where it ends.

    What is longer than `LONG` is left out; it becomes a `Piece` of the data.

    Raises:
        ValueError: it is damaged, or would do more than a checkpoint of a model has to.
        IndexError, KeyError: it takes what was never there.
    """
    machine, out, position = _Machine(), bytearray(), start
    window, begin = io.BytesIO(data[start : start + WINDOW]), start
    while len(out) <= LARGEST:
        if position - begin > WINDOW - REACH:
            window, begin = io.BytesIO(data[position : position + WINDOW]), position
        window.seek(position - begin)
        opcode = _OPCODES[window.read(1).decode("latin1")]
        if opcode.name == "LONG4":
            raise ValueError("a number longer than any in a checkpoint")
        length = int.from_bytes(window.read(COUNTED.get(opcode.name, 0)), "little")
        if length > LONG:
            piece = Piece(begin + window.tell(), length, opcode.name.startswith("BINUNICODE"))
            machine.follow(opcode, None)
            out += _reference(piece)
            position = piece.start + length
            continue
        window.seek(position - begin + 1)
        try:
            argument = opcode.arg.reader(window) if opcode.arg else None
        except ValueError:
            raise ValueError("truncated or damaged") from None
        end = begin + window.tell()
        machine.follow(opcode, argument)
        if opcode.name != "FRAME":  # its length is another one now
            out += data[position:end]
        if opcode.name == "STOP":
            return bytes(out), end
        position = end
    raise ValueError("far larger than the list of tensors of a model")


def _reference(piece: Piece) -> bytes:
    """Instructions that end in `persistent_load` of a piece."""
    numbers = b"".join(b"\x8a\x09" + number.to_bytes(9, "little") for number in (piece.start, piece.size))
    return b"(N" + numbers + (b"\x88" if piece.is_text else b"\x89") + b"tQ"


def plain_tree(value: Any, leaf: Callable[[Any], Any], done: dict[int, Any] | None = None) -> Any:
    """Dicts with what a function makes of all else in them.

    Args:
        done: what has become of the dicts so far, which may hold each other, by their ids.
    """
    done = {} if done is None else done
    if not isinstance(value, dict):
        return leaf(value)
    if id(value) not in done:
        found: dict[str, Any] = {}
        done[id(value)] = found
        found |= {str(key): plain_tree(one, leaf, done) for key, one in value.items()}
    return done[id(value)]


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns whatever a damaged or malicious file does to its reader into an error of one line.

    Raises:
        ModelError: it can't be read, or its pickle asks for more than data.
    """
    try:
        yield
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({plain_reason(error)})") from None
    except pickle.UnpicklingError as error:
        asked = re.search(r"(?:GLOBAL|asks for) ([\w.]+)", str(error))
        what = f" (it asks for {asked[1]})" if asked else ", or is damaged"
        raise ModelError(
            f"{path}: holds more than plain tensors{what}", f"ugatit never runs code from checkpoints. {SAVE_TENSORS}"
        ) from None
    except Exception as error:  # whatever a reader of pickles and archives stumbles over
        reason = f"{error}".partition("\n")[0][:100] if isinstance(error, ValueError) else "truncated or damaged"
        raise ModelError(f"{path}: not a readable checkpoint: {reason or 'truncated or damaged'}") from None
