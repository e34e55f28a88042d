"""Ways to break a file: bytes of any, values of JSON and TOML, chunks of PNG with right checksums."""

from __future__ import annotations

import copy
import datetime
import json
import math
import struct
import tomllib
import zlib
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import tomli_w

# What is broken, and other files of its kind to take parts from.
Mutator = Callable[[Random, bytes, Sequence[bytes]], bytes]
Edit = Callable[[Random, bytearray, bytes], None]

NUMBERS = [0, 1, -1, 5, 2**31 - 1, 2**31, 2**63, -(2**63), 2**64, 10**12, 10**400, -(10**400)]
FLOATS = [0.5, -0.0, 1e-320, 1e308, math.nan, math.inf, -math.inf]
TEXTS = [
    "",
    " ",
    "x",
    "5",
    "0.5",
    "a2b",
    "off",
    "..",
    "nowhere/x",
    "\0",
    "a\nb",
    "\x1b[31m",
    "\u202e",
    "é",
    "y" * 300,
]
ODD: list[Any] = [*NUMBERS, *FLOATS, *TEXTS, True, False, [], {}, [1], ["x"], {"a": 1}, {"a2b": 10**400}, [[[{}]]]]
NO_JSON = [datetime.date(2026, 11, 28), datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC), datetime.time(1, 2)]
NO_TOML = [None, "\ud800", {"\ud800": "\0"}, {"": None}]


def mutate_bytes(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One to four edits anywhere, more often near the start, where headers are."""
    result = bytearray(data)
    for _ in range(random.randint(1, 4)):
        random.choice(EDITS)(random, result, random.choice(others))
    return bytes(result)


def _place(random: Random, data: bytearray) -> int:
    size = len(data) if random.random() < 0.5 else min(len(data), 128)
    return random.randint(0, max(0, size - 1))


def _flip(random: Random, data: bytearray, _other: bytes) -> None:
    for _ in range(random.randint(1, 8) if data else 0):
        data[_place(random, data)] ^= 1 << random.randrange(8)


def _number(random: Random, data: bytearray, _other: bytes) -> None:
    place, width = _place(random, data), random.choice([1, 2, 4, 8])
    value = random.choice([0, 1, -1, 1 << 8 * width - 1, random.getrandbits(8 * width)]) % (1 << 8 * width)
    data[place : place + width] = value.to_bytes(width, random.choice(["little", "big"]))


def _delete(random: Random, data: bytearray, _other: bytes) -> None:
    place = _place(random, data)
    del data[place : place + random.choice([1, 2, 4, 16, 64, 1 << 20])]


def _repeat(random: Random, data: bytearray, _other: bytes) -> None:
    place = _place(random, data)
    data[place:place] = data[place : place + random.choice([1, 4, 16, 256])] * random.choice([1, 2, 50])


def _insert(random: Random, data: bytearray, _other: bytes) -> None:
    place = _place(random, data)
    data[place:place] = random.choice([random.randbytes(random.randint(1, 16)), bytes(16), b"\xff" * 16, b"9" * 5000])


def _take(random: Random, data: bytearray, other: bytes) -> None:
    place, start, count = _place(random, data), random.randint(0, len(other)), random.choice([4, 64, 1 << 20])
    data[place : place + random.choice([0, count])] = other[start : start + count]


def _nest(random: Random, data: bytearray, _other: bytes) -> None:
    if random.random() < 0.05:
        place = _place(random, data)
        data[place:place] = random.choice([b"[", b'{"a":', b"(", b"]"]) * 50_000


EDITS: list[Edit] = [_flip, _flip, _number, _number, _delete, _repeat, _insert, _take, _nest]


# --- JSON and TOML -------------------------------------------------------------------------------------


def mutate_json(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Mostly other values, keys and shapes; now and then anything."""
    if random.random() < 0.2:
        return mutate_bytes(random, data, others)
    document = _edited(random, json.loads(data), [*ODD, *NO_TOML])
    return json.dumps(document, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")


def mutate_toml(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """As `mutate_json`."""
    if random.random() < 0.2:
        return mutate_bytes(random, data, others)
    document = _edited(random, tomllib.loads(data.decode()), [*ODD, *NO_JSON])
    return tomli_w.dumps(document if isinstance(document, dict) else {"x": document}).encode()


def mutate_lines(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One of many JSON documents, a line each."""
    lines = data.splitlines()
    number = random.choice([number for number, line in enumerate(lines) if line[:1] in b"[{"])
    lines[number] = mutate_json(random, lines[number], others)
    return b"\n".join(lines * random.choice([1, 1, 2])) + random.choice([b"\n", b""])


def _edited(random: Random, document: Any, odd: Sequence[Any]) -> Any:
    whole = [document]
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        holder, key = random.choice([*_places(whole)])
        match random.randrange(6):
            case 0 | 1 | 2:
                holder[key] = copy.deepcopy(random.choice(odd))
            case 3 if holder is not whole:
                del holder[key]
            case 4 if isinstance(holder, dict):
                name = random.choice([one for one in odd if isinstance(one, str)])
                holder[random.choice([name, f"{key}{name}"])] = holder.pop(key)
            case _:
                holder[key] = random.choice([[holder[key]], {"a": holder[key]}, str(holder[key]), [holder[key]] * 9])
    return whole[0]


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Each value of a document as what holds it, and under which key."""
    for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key])


# --- PNG -----------------------------------------------------------------------------------------------


def mutate_png(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Half of the time in its chunks, with right checksums: so that more than these is tried."""
    if random.random() < 0.5:
        return mutate_bytes(random, data, others)
    chunks, other = (list(_chunks(one)) for one in (data, random.choice(others)))
    for _ in range(random.randint(1, 3)):
        number = random.randrange(len(chunks))
        name, content = chunks[number]
        if random.random() < 0.7:
            chunks[number] = name, mutate_bytes(random, content, [content for _, content in other])
        else:
            chunks.insert(number, random.choice([*chunks, *other]))
    return data[:8] + b"".join(_chunk(*one) for one in chunks)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place < len(data):
        size, name = struct.unpack(">I4s", data[place : place + 8])
        yield name, data[place + 8 : place + 8 + size]
        place += size + 12


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
