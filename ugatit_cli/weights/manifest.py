"""What a manifest may say: every mistake in one, with the table and key where it is."""
# ruff: noqa: PTH112, PTH113

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, get_args

import tomli_w

from ugatit_cli.config import ModelConfig
from ugatit_cli.errors import UPGRADE, ConfigError, ModelError, plain_reason

Source = Literal["bundled", "hub", "import", "train"]
SOURCES: Final[tuple[Source, ...]] = get_args(Source)

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
REPOSITORY = re.compile(rf"(?!.*(?:--|\.\.)){_PART}/{_PART}")
REVISION = re.compile(r"[0-9a-f]{40}")
SHARD = re.compile(r".+\.data-[0-9]{5}-of-(?P<count>[0-9]{5})")
SHA256 = re.compile(r"[0-9a-f]{64}")

NEEDED_FILES: Final = ("config.json", "model.safetensors")
MODEL_FILES: Final = (*NEEDED_FILES, "discriminators.safetensors", "README.md", "samples.png")
PICKLES: Final = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}

COMMON: Final = ("description", "domains", "image_size", "licence", "training_data", "source")
# Source -> the keys that it needs and those that it may have, beside the common ones.
KEYS: Final[Mapping[Source, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "bundled": (("files",), ()),
    "hub": (("repository", "revision", "files"), ()),
    "import": (("instructions",), ("repository", "revision", "files", "smoothing")),
    "train": (("instructions",), ()),
}
# What an import may say instead of leaving its revision out.
NEWEST: Final = ("import", "revision", "")
ALL_KEYS: Final = tuple(dict.fromkeys((*COMMON, *(key for keys in KEYS.values() for part in keys for key in part))))


def find_mistakes(document: Mapping[str, Any], sources: Collection[Source]) -> Iterator[str]:
    """A line for each mistake in a manifest of the right schema: `[models.NAME] key: what is wrong`.

    Args:
        document: what the file says.
        sources: those that its entries may have.
    """
    yield from _key_mistakes(document, (), ("schema", "models"))
    models = document.get("models", {})
    if not isinstance(models, dict):
        yield "models: must be a table of models"
        return
    for name, table in models.items():
        if not MODEL_NAME.fullmatch(name):
            rule = "up to 100 letters, digits, '.', '_' and '-', of which the first is a letter or digit"
            yield f"[models] {toml_key(name)}: not a model name: {rule}"
        if not isinstance(table, dict):
            yield f"[models] {toml_key(name)}: must be a table"
            continue
        yield from _entry_mistakes(f"models.{toml_key(name)}", table, sources)


def toml_key(text: str) -> str:
    """A key as TOML writes it: in quotes where need be."""
    return tomli_w.dumps({text: 0}).removesuffix(" = 0\n")


def _key_mistakes(table: Mapping[str, Any], required: Collection[str], known: Collection[str]) -> Iterator[str]:
    """Keys that are missing or unknown; one that is only misspelt is not missing, too."""
    near = {key: difflib.get_close_matches(key, known, n=1) for key in table if key not in known}
    misspelt = {key for keys in near.values() for key in keys}
    for key in required:
        if key not in table and key not in misspelt:
            yield f"{toml_key(key)}: missing"
    for key, keys in near.items():
        yield f"{toml_key(key)}: unknown key" + (f"; did you mean {keys[0]}?" if keys else "")


def _entry_mistakes(place: str, table: Mapping[str, Any], sources: Collection[Source]) -> Iterator[str]:
    source = next((source for source in sources if source == table.get("source")), None)
    needed, known = _keys_of(source, table)
    for mistake in _key_mistakes(table, needed, ALL_KEYS):
        yield f"[{place}] {mistake}"
    for key, value in table.items():
        if key in ALL_KEYS and key not in known:
            yield f"[{place}] {key}: doesn't belong to an entry whose source is {source!r}"
        elif key == "source" and source is None:
            yield f"[{place}] source: {_no_source(value, sources)}"
        elif key == "files":
            yield from _files_mistakes(place, value, source)
        elif key in CHECKS and (source, key, value) != NEWEST:
            yield from (f"[{place}] {key}: {mistake}" for mistake in CHECKS[key](value))


def _keys_of(source: Source | None, table: Mapping[str, Any]) -> tuple[Collection[str], Collection[str]]:
    """The keys that an entry needs, and all that it may have."""
    if source is None:
        return COMMON, ALL_KEYS
    needed, optional = KEYS[source]
    if source == "import":
        needed += ("files",) if "repository" in table else ()
        needed += ("repository",) if table.get("revision") else ()
    return (*COMMON, *needed), (*COMMON, *needed, *optional)


# --- Values --------------------------------------------------------------------------------------------


def _no_source(value: object, sources: Collection[Source]) -> str:
    if value in SOURCES:
        return f"{value!r} is for the package's own manifest; a user's has {', '.join(sources)}"
    return f"{value!r} is none of {', '.join(sources)}"


def _text(value: object, *, lines: bool = False) -> Iterator[str]:
    if not isinstance(value, str):
        yield "must be text"
    elif not value.strip():
        yield "is empty"
    elif _has_controls(value.replace("\n", "").replace("\t", "") if lines else value):
        yield "has control characters" if lines else "must be one line, without control characters"


def _lines(value: object) -> Iterator[str]:
    return _text(value, lines=True)


def _has_controls(text: str) -> bool:
    return any(unicodedata.category(character) == "Cc" for character in text)


def _domains(value: object) -> Iterator[str]:
    if not isinstance(value, list) or len(value) != 2:
        yield "must be a list of two names"
        return
    # Each with another that never is the mistake.
    alone = [mistake for name in value for mistake in _refused(domain_a=name, domain_b=f"not {name}")]
    yield from alone or _refused(domain_a=value[0], domain_b=value[1])


def _image_size(value: object) -> Iterator[str]:
    return _refused(image_size=value)


def _refused(**settings: Any) -> Iterator[str]:
    """What `ModelConfig` has against these settings."""
    try:
        ModelConfig(**settings)
    except ConfigError as error:
        yield re.sub(r"^(domain_[ab]|image_size) is ", "", error.message)


def _repository(value: object) -> Iterator[str]:
    if not isinstance(value, str) or not REPOSITORY.fullmatch(value):
        yield f"{value!r} is no Hub id (owner/name)"


def _revision(value: object) -> Iterator[str]:
    if not isinstance(value, str) or not REVISION.fullmatch(value):
        yield f"{value!r} is no commit: 40 lower-case hex digits"


def _smoothing(value: object) -> Iterator[str]:
    if not isinstance(value, bool):
        yield "must be true or false"


# All keys but `source` and `files`, whose values depend on each other.
CHECKS: Final[Mapping[str, Callable[[object], Iterator[str]]]] = {
    "description": _text,
    "domains": _domains,
    "image_size": _image_size,
    "licence": _text,
    "training_data": _text,
    "repository": _repository,
    "revision": _revision,
    "smoothing": _smoothing,
    "instructions": _lines,
}


# --- Files ---------------------------------------------------------------------------------------------


def _files_mistakes(place: str, files: object, source: Source | None) -> Iterator[str]:
    if not isinstance(files, dict):
        yield f"[{place}] files: must be a table of files"
        return
    for name, record in files.items():
        where = f"[{place}.files] {json.dumps(name, ensure_ascii=False)}"
        wrong = _wrong_name(name) or _wrong_kind(name, source)
        if wrong:
            yield f"{where}: {wrong}"
        if isinstance(record, dict):
            yield from (f"{where} {mistake}" for mistake in _record_mistakes(record, source))
        else:
            yield f'{where}: must be a table: {{ size = BYTES, sha256 = "HASH" }}'
    if source == "import":
        yield from (f"[{place}] files: {mistake}" for mistake in _checkpoint_mistakes(list(files)))
    elif source is not None:
        yield from (f'[{place}.files] "{name}": missing' for name in NEEDED_FILES if name not in files)


def _wrong_name(name: str) -> str:
    """Why a name is not that of a file below a folder, on any system; empty if it is."""
    if _has_controls(name):
        return "has control characters"
    # Windows drops dots and spaces at the end of a name, and takes a colon for a drive or a stream.
    if "\\" in name or ":" in name or any(part.rstrip(" .") != part or not part for part in name.split("/")):
        return "must be a path below the repository, like folder/file"
    return ""


def _wrong_kind(name: str, source: Source | None) -> str:
    """Why a file of this name is not for an entry of this source; empty if it is."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in PICKLES:
        return f"{suffix} files are pickles, which can run code"
    if source == "import":
        fits = name.endswith(".index") or SHARD.fullmatch(name)
        return "" if fits else "no weights of a TensorFlow checkpoint (.index, .data-00000-of-00001)"
    if source is not None and name not in MODEL_FILES:
        return f"no file of a model folder ({', '.join(MODEL_FILES)})"
    return ""


def _record_mistakes(record: Mapping[str, Any], source: Source | None) -> Iterator[str]:
    if record or source in ("bundled", "hub"):
        yield from _key_mistakes(record, ("size", "sha256"), ("size", "sha256"))
    size, sha256 = record.get("size", 1), record.get("sha256", "0" * 64)
    if type(size) is not int or size < 1:
        yield f"size: {size!r} is no number of bytes"
    if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
        yield f"sha256: {sha256!r} is not 64 lower-case hex digits"


def _checkpoint_mistakes(names: Collection[str]) -> Iterator[str]:
    """Whether the names are those of one whole checkpoint; others than of checkpoints don't count."""
    prefixes = [name.removesuffix(".index") for name in names if name.endswith(".index")]
    if len(prefixes) != 1:
        yield f"must have one .index file, not {len(prefixes)}"
        return
    shards = [match for match in map(SHARD.fullmatch, names) if match]
    count = int(shards[0]["count"]) if shards else 1
    wanted = {f"{prefixes[0]}.data-{shard:05d}-of-{count:05d}" for shard in range(count)}
    if not wanted or {shard[0] for shard in shards} != wanted:
        yield f"must have all data files of {prefixes[0]}.index, and no others: .data-00000-of-00001"


__all__ = [
    "MODEL_FILES", "MODEL_NAME", "REPOSITORY", "REVISION", "SOURCES",
    "Entry", "FileRecord", "Source", "entry_toml", "manifest_path", "read_manifest", "user_manifest_path",
]  # fmt: skip

SCHEMA = 1
FILE = "weights_manifest.toml"
VARIABLE = "UGATIT_MANIFEST"


@dataclass(frozen=True)
class FileRecord:
    """What a file is known to be.

    Attributes:
        size: in bytes.
        sha256: 64 lower-case hex digits.
    """

    size: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """One model.

    Attributes:
        name: what `--model` takes.
        description: one line.
        domains: names of domains A and B.
        image_size: training size in pixels.
        licence: of the weights, one line.
        training_data: one line.
        source: `bundled` (inside the package), `hub` (a model folder on the Hub), `import` (official weights that are
            converted on the user's machine), or `train` (no weights are known; the user trains them).
        repository: for `hub` and `import`: `owner/name` on the Hub. An import may have none: its checkpoint is got by
            hand.
        revision: for `hub` and `import`: a commit, 40 lower-case hex digits. An import may have none: the newest.
        files: for `bundled` and `hub`: every file of the model folder. For `import`: the TensorFlow checkpoint, paths
            in the repository; None where size and hash aren't known.
        smoothing: for `import`: whether rho was smoothed; None: the checkpoint's folder name tells.
        instructions: for `import`: where the authors offer it, with the exact `ugatit convert` line; for `train`: the
            exact `ugatit train` line.
        path: the manifest that says so.
    """

    name: str
    description: str
    domains: tuple[str, str]
    image_size: int
    licence: str
    training_data: str
    source: Source
    repository: str = ""
    revision: str = ""
    files: Mapping[str, FileRecord | None] = field(default_factory=dict)
    smoothing: bool | None = None
    instructions: str = ""
    path: Path = field(default=Path(), compare=False)

    @property
    def download_size(self) -> int | None:
        """Bytes of all files together; None if there are none, or one's size is not known."""
        sizes = [record.size for record in self.files.values() if record is not None]
        return sum(sizes) if sizes and len(sizes) == len(self.files) else None


def manifest_path() -> Path:
    """The manifest inside the installed package, or at the repository's top level in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / FILE
    return installed if installed.is_file() else package.parent / FILE


def user_manifest_path() -> Path | None:
    """The user's own manifest: `$UGATIT_MANIFEST`, else `ugatit/weights.toml` below the user's configuration folder.

    Raises:
        ModelError: the variable names a folder, or a file that isn't there.
    """
    path = place_of_user_manifest()
    if os.path.isfile(path):
        return path
    if os.environ.get(VARIABLE):
        kind = "a folder, not a file" if os.path.isdir(path) else "no such file"
        raise ModelError(f"{path}: {kind}, but {VARIABLE} names it", f"Unset {VARIABLE}, or correct it.")
    return None


def place_of_user_manifest() -> Path:
    """Where the user's own manifest is looked for, there or not."""
    named = os.environ.get(VARIABLE)
    folder = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(named).expanduser() if named else Path(folder).expanduser() / "ugatit" / "weights.toml"


def read_manifest(path: Path | None = None) -> dict[str, Entry]:
    """All entries by name, in the file's order.

    Args:
        path: the only file to read; None: the package's manifest, then the user's, whose entries take the places of
            those of the same name, or come last.

    Raises:
        ModelError: a file can't be read, or has mistakes: one line for each, which names the table and key.
    """
    if path is not None:
        return _read(path, SOURCES)
    entries, own = _read(manifest_path(), SOURCES), user_manifest_path()
    if own is None:
        return entries
    return entries | _read(own, [source for source in SOURCES if source != "bundled"])


def _read(path: Path, sources: Collection[Source]) -> dict[str, Entry]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: can't be read: {plain_reason(error)}", _way_out(error)) from None
    _check_schema(path, document.get("schema"))
    mistakes = list(find_mistakes(document, sources))
    if mistakes:
        raise ModelError("\n".join(f"{path}: {mistake}" for mistake in mistakes))
    return {name: _entry(path, name, table) for name, table in document.get("models", {}).items()}


def _way_out(error: Exception) -> str:
    # What `ugatit push` prints was appended a second time. `tomllib` has no error of its own for it.
    twice = isinstance(error, tomllib.TOMLDecodeError) and str(error).startswith("Cannot declare")
    return "This table is there twice: keep one of them." if twice else ""


def _check_schema(path: Path, schema: object) -> None:
    if type(schema) is int and schema > SCHEMA:
        message = f"{path}: schema: written for a newer ugatit (schema {schema}, this one reads {SCHEMA})"
        raise ModelError(message, UPGRADE)
    if type(schema) is not int or schema != SCHEMA:
        found = "missing" if schema is None else repr(schema)
        raise ModelError(f"{path}: schema: {found}; this ugatit reads {SCHEMA}", f"Begin with: schema = {SCHEMA}")


def _entry(path: Path, name: str, table: Mapping[str, Any]) -> Entry:
    """From a table without mistakes."""
    first, second = table["domains"]
    files = {file: FileRecord(**record) if record else None for file, record in table.get("files", {}).items()}
    return Entry(name=name, **{**table, "domains": (first, second), "files": files, "path": path})


def entry_toml(entry: Entry) -> str:
    """The tables of one entry, which `read_manifest` reads back below a line `schema = 1`."""
    table = f"models.{toml_key(entry.name)}"
    lines = [
        f"[{table}]",
        f"description = {_value(entry.description)}",
        f"domains = [{', '.join(map(_value, entry.domains))}]",
        f"image_size = {entry.image_size}",
        f"licence = {_value(entry.licence)}",
        f"training_data = {_value(entry.training_data)}",
        f"source = {_value(entry.source)}",
    ]
    for key in ("repository", "revision", "smoothing", "instructions"):
        value = getattr(entry, key)
        if value not in (None, ""):
            lines.append(f"{key} = {_value(value)}")
    if entry.files:
        lines += ["", f"[{table}.files]"]
        lines += [f"{toml_key(name)} = {_record(record)}" for name, record in entry.files.items()]
    return "\n".join([*lines, ""])


def _value(value: str | bool) -> str:
    return tomli_w.dumps({"x": value}, multiline_strings=True).removeprefix("x = ").removesuffix("\n")


def _record(record: FileRecord | None) -> str:
    return "{}" if record is None else f"{{ size = {record.size}, sha256 = {_value(record.sha256)} }}"
