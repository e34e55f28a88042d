"""The manifest: which models `--model NAME` knows, with the hashes of their files; every mistake in one is named."""
# ruff: noqa: PTH113

from __future__ import annotations

import contextlib
import difflib
import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, get_args

import tomli_w

from ugatit_cli.config import ModelConfig
from ugatit_cli.errors import UPGRADE, ConfigError, ModelError, plain_reason
from ugatit_cli.files import CONTROLS, expanded, read_file, read_toml, wrong_name
from ugatit_cli.remote.hub import REPOSITORY, REVISION
from ugatit_cli.remote.records import SHA256, FileRecord

SourceName = Literal["bundled", "hub", "import", "train"]
SOURCES: Final[tuple[SourceName, ...]] = get_args(SourceName)

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SHARD = re.compile(r".+\.data-[0-9]{5}-of-(?P<count>[0-9]{5})")

MODEL_FILES: Final = ("config.json", "model.safetensors", "discriminators.safetensors", "README.md", "samples.png")
NEEDED_FILES: Final = MODEL_FILES[:2]
# Those that make a difference; others may be edited.
HASHED_FILES: Final = MODEL_FILES[:3]
PICKLES: Final = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}

COMMON: Final = ("description", "domains", "image_size", "licence", "training_data", "source")
# SourceName -> the keys that it needs and those that it may have, beside the common ones.
KEYS: Final[Mapping[SourceName, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "bundled": (("files",), ()),
    "hub": (("repository", "revision", "files"), ()),
    "import": (("instructions",), ("repository", "revision", "files", "smoothing")),
    "train": (("instructions",), ()),
}
RECORD_KEYS: Final = ("size", "sha256")
# What an import may say instead of leaving its revision out.
NEWEST: Final = ("import", "revision", "")
ALL_KEYS: Final = tuple(dict.fromkeys((*COMMON, *(key for keys in KEYS.values() for part in keys for key in part))))

LARGEST: Final = 2**63 - 1  # bytes of a file, on any system

SCHEMA = 1
FILE = "weights_manifest.toml"
VARIABLE = "UGATIT_MANIFEST"


@dataclass(frozen=True)
class Entry:
    """One model. Texts but `instructions` are one line.

    Attributes:
        name: what `--model` takes.
        domains: names of domains A and B.
        image_size: training size in pixels.
        licence: of the weights.
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
    source: SourceName
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


class BrokenManifest(ModelError):
    """The user's own manifest can't be read, or has mistakes.

    Args:
        error: says so.
        entries: of the package's manifest.
        text: of the user's, as far as it can be read.
    """

    def __init__(self, error: ModelError, entries: dict[str, Entry], text: str) -> None:
        super().__init__(error.message, error.hint)
        self.entries = entries
        self.text = text

    def mentions(self, name: str) -> bool:
        """Whether it may have an entry of this name."""
        return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w.-])", self.text) is not None


def manifest_path() -> Path:
    """The manifest inside the installed package, or at the repository's top level in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / FILE
    return installed if installed.is_file() else package.parent / FILE


def place_of_user_manifest() -> Path:
    """`$UGATIT_MANIFEST`, else `ugatit/weights.toml` below the user's configuration folder, there or not."""
    folder = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return expanded(os.environ.get(VARIABLE) or Path(folder, "ugatit", "weights.toml"))


def read_manifest(path: Path | None = None) -> dict[str, Entry]:
    """All entries by name, in the file's order.

    Args:
        path: the only file to read; None: the package's manifest, then the user's, whose entries take the places of
            those of the same name, or come last.

    Raises:
        ModelError: a file can't be read, or has mistakes: all of them, each with its table and key.
        BrokenManifest: it is the user's own; or `$UGATIT_MANIFEST` names a folder, or a file that isn't there.
    """
    if path is not None:
        return _read(path, SOURCES)
    # Without the package's, as in a copy of its modules alone, folders and Hub ids are still models.
    entries = _read(manifest_path(), SOURCES) if manifest_path().is_file() else {}
    own = place_of_user_manifest()
    try:
        return entries | _read_own(own)
    except ModelError as error:
        with contextlib.suppress(OSError):
            raise BrokenManifest(error, entries, read_file(own).decode(errors="replace")) from None
        raise BrokenManifest(error, entries, "") from None


def _read_own(path: Path) -> dict[str, Entry]:
    named = os.environ.get(VARIABLE)
    if os.path.isfile(path) or (named and os.path.lexists(path)):
        return _read(path, [source for source in SOURCES if source != "bundled"])
    if named:
        raise ModelError(f"{path}: no such file, but {VARIABLE} names it", f"Unset {VARIABLE}, or correct it.")
    return {}


def _read(path: Path, sources: Collection[SourceName]) -> dict[str, Entry]:
    try:
        document = read_toml(path)
    except (OSError, ValueError, RecursionError) as error:
        # What `ugatit push` prints was appended a second time. `tomllib` has no error of its own for it.
        twice = isinstance(error, tomllib.TOMLDecodeError) and str(error).startswith("Cannot declare")
        hint = "This table is there twice: keep one of them." if twice else ""
        raise ModelError(f"{path}: can't be read: {plain_reason(error)}", hint) from None
    _check_schema(path, document.get("schema"))
    if mistakes := list(_mistakes(document, sources)):
        raise ModelError(f"{path}: {' · '.join(mistakes)}")
    return {name: _entry(path, name, table) for name, table in document.get("models", {}).items()}


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


def toml_key(text: str) -> str:
    """A key as TOML writes it: in quotes where need be."""
    return tomli_w.dumps({text: 0}).removesuffix(" = 0\n")


def entry_toml(entry: Entry) -> str:
    """The tables of one entry, which `read_manifest` reads back below a line `schema = 1`."""
    table = f"models.{toml_key(entry.name)}"
    lines = [f"[{table}]"]
    for key in (*COMMON, "repository", "revision", "smoothing", "instructions"):
        value = getattr(entry, key)
        if value not in (None, ""):
            lines.append(f"{key} = {_value(value)}")
    if entry.files:
        lines += ["", f"[{table}.files]"]
    for name, record in entry.files.items():
        known = f"{{ size = {record.size}, sha256 = {_value(record.sha256)} }}" if record is not None else "{}"
        lines.append(f"{toml_key(name)} = {known}")
    return "\n".join([*lines, ""])


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    return tomli_w.dumps({"x": value}, multiline_strings=True).removeprefix("x = ").removesuffix("\n")


# --- Mistakes ------------------------------------------------------------------------------------------


def _mistakes(document: Mapping[str, Any], sources: Collection[SourceName]) -> Iterator[str]:
    """A line for each mistake in a manifest of the right schema: `[models.NAME] key: what is wrong`."""
    yield from _wrong_keys(document, (), ("schema", "models"))
    models = document.get("models", {})
    if not isinstance(models, dict):
        yield "models: must be a table of models"
        return
    for name, table in models.items():
        if not MODEL_NAME.fullmatch(name):
            rule = "up to 100 letters, digits, '.', '_' and '-', of which the first is a letter or digit"
            yield f"[models] {toml_key(name)}: not a model name: {rule}"
        if isinstance(table, dict):
            yield from (f"[models.{toml_key(name)}] {mistake}" for mistake in _entry_mistakes(table, sources))
        else:
            yield f"[models] {toml_key(name)}: must be a table"


def _wrong_keys(table: Mapping[str, Any], needed: Collection[str], known: Collection[str]) -> Iterator[str]:
    """Keys that are missing or unknown; one that is only misspelt is not missing, too."""
    meant = {key: (*difflib.get_close_matches(key, known, n=1), "")[0] for key in table if key not in known}
    yield from (f"{toml_key(key)}: missing" for key in needed if key not in table and key not in meant.values())
    for key, other in meant.items():
        yield f"{toml_key(key)}: unknown key" + (f"; did you mean {other}?" if other else "")


def _entry_mistakes(table: Mapping[str, Any], sources: Collection[SourceName]) -> Iterator[str]:
    source = next((source for source in sources if source == table.get("source")), None)
    needed, optional = KEYS[source] if source is not None else ((), ALL_KEYS)
    if source == "import":
        needed += ("files",) if "repository" in table else ()
        needed += ("repository",) if table.get("revision") else ()
    needed = (*COMMON, *needed)
    yield from _wrong_keys(table, needed, ALL_KEYS)
    for key, value in table.items():
        if key not in ALL_KEYS:
            continue
        if key not in (*needed, *optional):
            yield f"{key}: doesn't belong to an entry whose source is {source!r}"
        elif key == "source" and source is None:
            known = ", ".join(sources)
            foreign = f"is for the package's own manifest; a user's has {known}"
            yield f"source: {value!r} {foreign if value in SOURCES else f'is none of {known}'}"
        elif key == "files":
            yield from _files_mistakes(value, source)
        elif key in CHECKS and (source, key, value) != NEWEST and (mistake := CHECKS[key](value)):
            yield f"{key}: {mistake}"


def _text(value: object, *, lines: bool = False) -> str:
    if not isinstance(value, str):
        return "must be text"
    if not value.strip():
        return "is empty"
    if CONTROLS.search(value.replace("\n", "").replace("\t", "") if lines else value):
        return "has control characters" if lines else "must be one line, without control characters"
    return ""


def _domains(value: object) -> str:
    if not isinstance(value, list) or len(value) != 2:
        return "must be a list of two names"
    # Each with another that never is the mistake.
    alone = [_refused(domain_a=name, domain_b=f"not {name}") for name in value]
    return "; ".join(filter(None, alone)) or _refused(domain_a=value[0], domain_b=value[1])


def _refused(**settings: Any) -> str:
    """What `ModelConfig` has against these settings; empty if nothing."""
    try:
        ModelConfig(**settings)
    except ConfigError as error:
        return re.sub(r"^(domain_[ab]|image_size) is ", "", error.message)
    return ""


Check = Callable[[object], str]
"""What is wrong with a value; empty if nothing."""


def _like(pattern: re.Pattern[str], otherwise: str) -> Check:
    """Whether a value is text of this form."""
    return lambda value: "" if isinstance(value, str) and pattern.fullmatch(value) else f"{value!r} {otherwise}"


# All keys but `source` and `files`, whose values depend on each other, and those of a file.
CHECKS: Final[Mapping[str, Check]] = {
    "description": _text,
    "domains": _domains,
    "image_size": lambda value: _refused(image_size=value),
    "licence": _text,
    "training_data": _text,
    "repository": _like(REPOSITORY, "is no Hub id (owner/name)"),
    "revision": _like(REVISION, "is no commit: 40 lower-case hex digits"),
    "smoothing": lambda value: "" if isinstance(value, bool) else "must be true or false",
    "instructions": lambda value: _text(value, lines=True),
    "size": lambda value: "" if type(value) is int and 0 < value <= LARGEST else f"{value!r} is no number of bytes",
    "sha256": _like(SHA256, "is not 64 lower-case hex digits"),
}


def _files_mistakes(files: object, source: SourceName | None) -> Iterator[str]:
    if not isinstance(files, dict):
        yield "files: must be a table of files"
        return
    for name, record in files.items():
        where = f"files.{toml_key(name)}"
        if wrong := wrong_name(name) or _wrong_kind(name, source):
            yield f"{where}: {wrong}"
        if not isinstance(record, dict):
            yield f'{where}: must be a table: {{ size = BYTES, sha256 = "HASH" }}'
            continue
        if record or source in ("bundled", "hub"):
            yield from (f"{where} {mistake}" for mistake in _wrong_keys(record, RECORD_KEYS, RECORD_KEYS))
        for key in RECORD_KEYS:
            if key in record and (mistake := CHECKS[key](record[key])):
                yield f"{where} {key}: {mistake}"
    if source == "import":
        yield from _checkpoint_mistakes(list(files))
    elif source is not None:
        yield from (f"files.{toml_key(name)}: missing" for name in NEEDED_FILES if name not in files)


def _wrong_kind(name: str, source: SourceName | None) -> str:
    """Why a file of this name is not for an entry of this source; empty if it is."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in PICKLES:
        return f"{suffix} files are pickles, which can run code"
    if source == "import" and not (name.endswith(".index") or SHARD.fullmatch(name)):
        return "no weights of a TensorFlow checkpoint (.index, .data-00000-of-00001)"
    if source in ("bundled", "hub") and name not in MODEL_FILES:
        return f"no file of a model folder ({', '.join(MODEL_FILES)})"
    return ""


def _checkpoint_mistakes(names: Collection[str]) -> Iterator[str]:
    """Whether the names are those of one whole checkpoint; others than of checkpoints don't count."""
    prefixes = [name.removesuffix(".index") for name in names if name.endswith(".index")]
    if len(prefixes) != 1:
        yield f"files: must have one .index file, not {len(prefixes)}"
        return
    shards = [match for match in map(SHARD.fullmatch, names) if match]
    count = int(shards[0]["count"]) if shards else 1
    wanted = {f"{prefixes[0]}.data-{shard:05d}-of-{count:05d}" for shard in range(count)}
    if not wanted or {shard[0] for shard in shards} != wanted:
        yield f"files: must have all data files of {prefixes[0]}.index, and no others: .data-00000-of-00001"
