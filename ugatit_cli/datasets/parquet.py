"""Pictures in parquet files, as data sets of the Hub have them, written out as the files that they were.

A column of pictures is binary, or what `datasets` makes of a feature `Image`: a struct of `bytes` and `path`. There
are two of them, one for each domain, or one beside a column of labels. Needs `pyarrow`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

from ugatit_cli.data.pictures import SPLITS, Split, split_named
from ugatit_cli.errors import ModelError, UsageError, install_line, plain_reason
from ugatit_cli.files import check_space, reported, wrong_name
from ugatit_cli.pictures.reading import SUFFIXES as PICTURES
from ugatit_cli.remote.patience import Listener

if TYPE_CHECKING:
    from pyarrow import RecordBatch, Schema
    from pyarrow.parquet import ParquetFile

Half = Literal["train", "test"]
Files = Mapping[Half, Sequence[Path]]

SUFFIX: Final = ".parquet"
# Rows that are in memory at once. What is read from the disk at once is a page: whatever the file's writer took.
ROWS: Final = 16
# Bytes of the largest picture, and rows of the largest file: far more than any data set has.
LARGEST, MOST_ROWS = 1 << 29, 2_000_000
# Different labels that are looked for, and bad rows that are named.
MOST_LABELS, NAMED = 1000, 10
LONGEST_NAME: Final = 200  # bytes
_HALVES: Final = re.compile(r"(?<![a-z])(train|test|validation|valid|val)(?![a-z])")
_FORMATS: Final[tuple[tuple[re.Pattern[bytes], tuple[str, ...]], ...]] = tuple(
    (re.compile(start, re.DOTALL), tuple(suffixes.split()))
    for start, suffixes in (
        (rb"\xff\xd8\xff", ".jpg .jpeg .jpe .jfif .mpo"),
        (rb"\x89PNG\r\n\x1a\n", ".png .apng"),
        (rb"RIFF....WEBP", ".webp"),
        (rb"GIF8[79]a", ".gif"),
        (rb"BM", ".bmp .dib"),
        (rb"II\*\0|MM\0\*", ".tif .tiff"),
        (rb"....ftypavi[fs]", ".avif"),
        (rb"....ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", ".heic .heif .hif"),
        (rb"\0\0\0\x0cjP  \r\n\x87\n", ".jp2"),
        (rb"P[1-6]\s", ".ppm .pgm .pbm .pnm"),
    )
)


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        counts: pictures in each set that has any.
        broken: rows without a picture that could be written.
        duplicates: pictures that their set had already.
        others: rows whose label is none of those that were chosen.
        domains: their names, if labels tell them.
    """

    counts: Mapping[Split, int]
    broken: int
    duplicates: int
    others: int
    domains: tuple[str, str] | None = None


def halves(names: Iterable[str]) -> dict[Half, list[str]]:
    """Which parquet files are to train on and which to test with, as their names, or else their folders', say.

    What says nothing is to train on. What is for validation is to test with, if there is nothing else.
    """
    found: dict[str, list[str]] = {"train": [], "test": [], "validation": []}
    for name in sorted(names):
        said = next(filter(None, map(_HALVES.findall, reversed(name.casefold().split("/")))), ["train"])[0]
        found[said if said in found else "validation"].append(name)
    test = found["test"] or found["validation"]
    return {"train": found["train"], "test": test} if test else {"train": found["train"]}


def write_out(files: Files, target: Path, listener: Listener, *, columns: tuple[str, str] | None = None) -> Written:
    """Fills a folder with trainA, trainB, and testA, testB if there is something to test with.

    Each picture has the bytes that it has in the file, a suffix that fits them, and the name that the file says, or a
    number. One that its set has already is left out: where two domains share rows, the smaller one was filled up.

    Args:
        files: parquet files, all with the same columns.
        target: an empty folder.
        columns: those of domains A and B, or two labels; None: those that there are, if it is clear.

    Raises:
        UsageError: it isn't clear which columns are meant, or there are no such ones; the message lists them.
        ModelError: `pyarrow` isn't installed, or a file can't be read.
        OutputError: the folder can't be written.
    """
    paths = [path for half in files.values() for path in half]
    choice, writer = _choose(paths, columns), _Writer(target, listener)
    rows = sum(map(_count, paths)) * len(choice.columns)
    with reported(target):
        check_space(target, sum(path.stat().st_size for path in paths))
    listener.begin(paths[0].name, rows, 0, "pictures")
    try:
        for half, column in ((half, column) for half in files for column in choice.columns):
            every = (row for path in files[half] for row in _rows(path, column, choice.label))
            for number, row in enumerate(every, 1):
                writer.take(choice.split(half, column, row.label), number, row)
                listener.advance(1)
    finally:
        listener.end()
    written = writer.written(choice.domains)
    if missing := [split for split in SPLITS[:2] if split not in written.counts]:
        raise ModelError(f"{paths[0]}: no pictures for {' and '.join(missing)}")
    return written


# --- Columns -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Choice:
    """Columns of pictures with their domains; with a label, its values' sets or domains decide."""

    columns: Mapping[str, str]
    label: str | None = None
    sides: Mapping[str, str] = field(default_factory=dict)

    @property
    def domains(self) -> tuple[str, str] | None:
        """Labels that are names of domains."""
        names = {side: label for label, side in self.sides.items() if not label.isdecimal()}
        return (names["A"], names["B"]) if names.keys() == {"A", "B"} else None

    def split(self, half: Half, column: str, label: str) -> Split | None:
        """The set of a row; None: its label is none of those that were chosen."""
        side = self.columns[column] if self.label is None else self.sides.get(label, "")
        return split_named(side) or split_named(half + side)


def _choose(paths: Sequence[Path], columns: tuple[str, str] | None) -> _Choice:
    with _opened(paths[0]) as file:
        schema = file.schema_arrow
    pictures, label = [name for name in schema.names if _is_picture(schema, name)], _label(schema)
    wanted = tuple(pictures) if columns is None else columns
    if len(set(wanted)) == 2 and set(wanted) <= set(pictures):
        return _Choice(dict(zip(wanted, "AB", strict=True)))
    there = f"{paths[0]}: its columns of pictures are {', '.join(pictures) or 'none'}"
    if len(pictures) == 1 and label is not None:
        labels = _labels(schema, label, paths)
        sides = _sides(list(columns or labels))
        if sides and sides.keys() <= set(labels):
            return _Choice({pictures[0]: ""}, label, sides)
        there += f"; its labels ({label}) are {', '.join(labels[:NAMED])}"
    if columns is not None:
        raise UsageError(f"{there}, not {' and '.join(columns)}", "Choose two of them: --columns A,B")
    raise UsageError(f"{there}; one is needed for each domain", "Choose two columns, or labels: --columns A,B")


def _is_picture(schema: Schema, name: str) -> bool:
    from pyarrow import types

    kind = schema.field(name).type
    inner = kind.get_field_index("bytes") if types.is_struct(kind) else -1
    kind = kind.field(inner).type if inner >= 0 else kind
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _label(schema: Schema) -> str | None:
    """The column that says of which domain a row is: one with names for its numbers, or called so."""
    named = [name for name in schema.names if _class_names(schema, name)]
    return next(iter([*named, *(name for name in schema.names if name in ("label", "labels"))]), None)


def _class_names(schema: Schema, column: str) -> list[str]:
    """What `datasets` has noted of a column's numbers."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        feature = json.loads(schema.metadata[b"huggingface"])["info"]["features"][column]
        if feature["_type"] == "ClassLabel":
            return [str(name) for name in feature["names"]]
    return []


def _labels(schema: Schema, label: str, paths: Sequence[Path]) -> list[str]:
    found = set[str]()
    if names := _class_names(schema, label):
        return names
    for row in (row for path in paths for row in _rows(path, None, label)):
        if len(found) < MOST_LABELS:
            found.add(row.label)
    return sorted(found, key=lambda text: (len(text), text) if text.isdecimal() else (0, text))


def _sides(labels: Sequence[str]) -> dict[str, str]:
    """Of each label its set, if they are named like sets, or its domain, if there are two."""
    named: dict[str, str] = {label: split for label in labels if (split := split_named(label))}
    if len(named) < len(labels):
        return dict(zip(labels, "AB", strict=True)) if len(labels) == 2 else {}
    return named


# --- Rows ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    """A picture, and what the file says of it; `place` is for messages."""

    place: str
    label: str
    path: str = ""
    data: bytes | None = None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[ParquetFile]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise ModelError(f"{path}: pyarrow is needed to read it", f"Install it: {install_line('data')}") from None
    try:
        with ParquetFile(path, buffer_size=1 << 20, page_checksum_verification=True) as file:
            if file.metadata.num_rows > MOST_ROWS:
                raise ModelError(f"{path}: more than {MOST_ROWS:,} rows")
            yield file
    except (ArrowException, OSError, ValueError) as error:
        reason = " ".join(plain_reason(error).split())[:200]
        raise ModelError(f"{path}: can't be read as parquet ({reason})", "Copy or download the file again.") from None


def _count(path: Path) -> int:
    with _opened(path) as file:  # which must not be asked of its columns: damaged, they end the whole process
        return int(file.metadata.num_rows)


def _rows(path: Path, column: str | None, label: str | None) -> Iterator[_Row]:
    """Rows with what was asked for."""
    wanted = [name for name in (column, label) if name is not None]
    with _opened(path) as file:
        schema, number = file.schema_arrow, 0
        if missing := set(wanted).difference(schema.names):
            raise ModelError(f"{path}: has no column {min(missing)}, as other files of the data set have")
        names = dict(enumerate(_class_names(schema, label) if label else []))
        for batch in file.iter_batches(batch_size=ROWS, columns=wanted, use_threads=False):
            labels = batch.column(label).to_pylist() if label else [""] * batch.num_rows
            pictures = _pictures(batch, column) if column else [(None, "")] * batch.num_rows
            for value, (data, name) in zip(labels, pictures, strict=True):
                number += 1
                text = names.get(value, str(value)) if isinstance(value, int) else str(value)
                yield _Row(f"{path.name}: row {number}: {column}", text, name, data)


def _pictures(batch: RecordBatch, column: str) -> Iterator[tuple[bytes | None, str]]:
    import pyarrow as pa

    cells = batch.column(column)
    parts = {"bytes": cells}
    if pa.types.is_struct(cells.type):
        parts = dict(zip((part.name for part in cells.type), cells.flatten(), strict=True))
    paths = parts.get("path", pa.nulls(len(cells)))
    # As bytes: no file system promises that names are UTF-8.
    paths = paths.cast(pa.binary()) if pa.types.is_string(paths.type) else pa.nulls(len(cells))
    for data, path in zip(parts["bytes"], paths, strict=True):
        yield data.as_py(), (path.as_py() or b"").decode(errors="replace")


# --- Files ---------------------------------------------------------------------------------------------


class _Writer:
    """Fills the folders of the sets; bad rows are said and counted."""

    def __init__(self, target: Path, listener: Listener) -> None:
        self.target, self.listener = target, listener
        self.names: dict[Split, set[str]] = {split: set() for split in SPLITS}
        self.hashes: dict[Split, set[bytes]] = {split: set() for split in SPLITS}
        self.broken = self.duplicates = self.others = 0

    def written(self, domains: tuple[str, str] | None) -> Written:
        """What was; says how many rows were left out."""
        if self.broken > NAMED:
            self.listener.note(f"{self.broken} rows have no picture that can be read, and were left out")
        counts = {split: len(names) for split, names in self.names.items() if names}
        return Written(counts, self.broken, self.duplicates, self.others, domains)

    def take(self, split: Split | None, number: int, row: _Row) -> None:
        """Writes the picture of a row, if it has one that is new."""
        if split is None:
            self.others += 1
            return
        suffixes, reason = _suffixes(row)
        if reason:
            self.broken += 1
            if self.broken <= NAMED:
                self.listener.note(f"{row.place}: {reason}; left out")
            return
        data = row.data or b""
        digest = hashlib.sha256(data).digest()
        if digest in self.hashes[split]:
            self.duplicates += 1
            return
        self.hashes[split].add(digest)
        name = _name(row.path, number, suffixes)
        while name.casefold() in self.names[split]:
            name = f"{number:05}-{name}"
        self.names[split].add(name.casefold())
        path = self.target / split / name
        with reported(path):
            path.parent.mkdir(exist_ok=True)
            with path.open("xb") as file:
                file.write(data)


def _suffixes(row: _Row) -> tuple[tuple[str, ...], str]:
    """What files with such content are called, or why there is nothing to write."""
    if not row.data:
        return (), "no picture, only the name of a file" if row.path else "no picture"
    if len(row.data) > LARGEST:
        return (), f"more than {LARGEST:,} bytes"
    found = next((suffixes for start, suffixes in _FORMATS if start.match(row.data)), ())
    return found, "" if found else "no picture of a known format"


def _name(said: str, number: int, suffixes: Sequence[str]) -> str:
    """The name that the file says, if it can be one on any system, else a number; with a suffix that fits."""
    name = re.split(r"[/\\]", said)[-1]
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix.lower()
    if suffix not in suffixes:
        name = (stem if suffix in PICTURES else name) + suffixes[0]
    safe = stem and name[:1] != "." and not wrong_name(name) and len(name.encode()) <= LONGEST_NAME
    return name if safe else f"{number:05}{suffixes[0]}"
