"""What a pickle would do, told from its instructions before any of them is followed.

A few hundred bytes can keep a computer busy for ever without calling anything: a tuple of twice a tuple of twice a
tuple, and so on, as the key of a dict, whose hash goes through all of it. Here each object weighs what it holds,
shared parts as often as they are held, and hashing and calling cost what their subjects weigh.
"""

from __future__ import annotations

import contextlib
import pickle
import pickletools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from ugatit_cli.errors import ModelError

# A file with six networks has 30,000 instructions, in 200 kB where tensors are kept elsewhere.
MOST: Final = 1_000_000
LARGEST: Final = 1 << 26
PUTS: Final = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
GETS: Final = {"GET", "BINGET", "LONG_BINGET"}
CALLS: Final = {"REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "BUILD", "ADDITEMS", "FROZENSET", "BINPERSID"}
KEYED: Final = {"SETITEM", "SETITEMS", "DICT"}

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
        if name in PUTS:
            self.memo[len(self.memo) if argument is None else int(argument)] = self.stack[-1]
        elif name in GETS:
            self.stack.append(self.memo[int(argument)])
        else:
            taken = self._taken(opcode)
            weight = 1 + sum(taken)
            self.cost += 1 + (weight if name in CALLS else sum(_keys(name, taken)))
            if max(weight, self.cost) > MOST:
                raise ValueError("far more instructions than a model needs")
            made = opcode.stack_after
            self.stack += [None if one is pickletools.markobject else weight for one in made]

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


def check_pickle(file: BinaryIO) -> None:
    """Goes through one pickle, from the position of a file to its end, and does nothing that it says.

    Raises:
        ValueError: it is damaged, or would do more than a checkpoint of a model has to.
        IndexError, KeyError: it takes what was never there.
    """
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(file):
        machine.follow(opcode, argument)


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
        raise ModelError(f"{path}: can't be read: {error.strerror or error}") from None
    except pickle.UnpicklingError as error:
        asked = re.search(r"(?:GLOBAL|asks for) ([\w.]+)", str(error))
        what = f" (it asks for {asked[1]})" if asked else ", or is damaged"
        raise ModelError(
            f"{path}: holds more than plain tensors{what}", "ugatit never runs code from checkpoints."
        ) from None
    except Exception as error:  # whatever a reader of pickles and archives stumbles over
        reason = f"{error}".partition("\n")[0][:100] if isinstance(error, ValueError) else "truncated or damaged"
        raise ModelError(f"{path}: not a readable checkpoint: {reason or 'truncated or damaged'}") from None
