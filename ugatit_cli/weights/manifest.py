"""The manifest: which models `--model NAME` knows, where their weights are, and their hashes where they are known."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, get_args
from urllib.parse import unquote, urlsplit

import tomli_w

from ugatit_cli.config import ModelConfig, Ways
from ugatit_cli.errors import ConfigError
from ugatit_cli.files import wrong_name
from ugatit_cli.remote.addresses import KAGGLE
from ugatit_cli.remote.hub import REPOSITORY, REVISION
from ugatit_cli.remote.records import SHA256, FileRecord
from ugatit_cli.weights import mistakes
from ugatit_cli.weights.mistakes import Form, Table, said, toml_key, wrong_keys
from ugatit_cli.weights.tables import Tables
from ugatit_cli.wording import shown

SourceName = Literal["bundled", "hub", "url", "kaggle", "import", "train"]
SOURCES: Final[tuple[SourceName, ...]] = get_args(SourceName)
Layout = Literal["tensorflow", "pytorch", "paddle", "cyclegan", "cartoongan", "unit", "munit", "aggan", "drit"]
LAYOUTS: Final[tuple[Layout, ...]] = get_args(Layout)

MODEL_NAME = mistakes.NAME
LARGEST: Final = mistakes.LARGEST
SHARD = re.compile(r".+\.data-[0-9]{5}-of-(?P<count>[0-9]{5})")

MODEL_FILES: Final = ("config.json", "model.safetensors", "discriminators.safetensors", "README.md", "samples.png")
NEEDED_FILES: Final = MODEL_FILES[:2]
# Those that make a difference; others may be edited.
HASHED_FILES: Final = MODEL_FILES[:3]
PICKLES: Final = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}
CHECKPOINTS: Final = (".pt", ".pth", ".bin", ".ckpt", ".pdparams", ".safetensors")
"""What one-file checkpoints of authors are called; pickles among them are read as data."""

RECORD_KEYS: Final = ("size", "sha256")


@dataclass(frozen=True)
class Entry:
    """One model. Texts but `instructions` are one line.

    Attributes:
        name: what `--model` takes.
        domains: names of domains A and B.
        image_size: training size in pixels.
        licence: of the weights, as stated, or `not stated`.
        source: `bundled` (inside the package), `hub` (a model folder on the Hub), `url` (a file on the web), `kaggle`
            (an archive at Kaggle), `import` (a checkpoint on the Hub, or got by hand), or `train` (no weights are
            known; the user trains them). What `url`, `kaggle` and `import` give is converted on the user's machine.
        repository: for `hub` and `import`: `owner/name` on the Hub. An import may have none: its checkpoint is got by
            hand.
        revision: for `hub` and `import`: a commit, 40 lower-case hex digits. An import may have none: the newest.
        files: for `bundled` and `hub`: every file of the model folder. For others: the checkpoint, paths in the
            repository or the archive; None where size and hash aren't known. Of a `url` that is no archive, the file
            that its address names.
        smoothing: whether rho was smoothed in a TensorFlow checkpoint; None: the checkpoint's folder name tells.
        instructions: for `import`: where the authors offer it, with the exact `ugatit convert` line; for `train`: the
            exact `ugatit train` line.
        url: for `url`: the address of a checkpoint, or of a zip that holds one.
        hosts: hosts beside its own that the address may lead to.
        dataset: for `kaggle`: `owner/name` there.
        layout: whose checkpoint it must be; empty: TensorFlow's.
        folder: in an archive whose members nobody has named: where the checkpoint is, the newest if there are more.
        archive: what the archive itself must be, if known.
        ways: `a2b`: the model translates from A to B only.
        aliases: other names for it.
        made_by: who trained it.
        read_at: where the address was read.
        verified: False: nobody of this project has downloaded it yet.
        about: roughly how much there is to download, where its exact size isn't known: `45.5 MB`.
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
    url: str = ""
    hosts: tuple[str, ...] = ()
    dataset: str = ""
    layout: Layout | Literal[""] = ""
    folder: str = ""
    archive: FileRecord | None = None
    ways: Ways = "both"
    aliases: tuple[str, ...] = ()
    made_by: str = ""
    read_at: tuple[str, ...] = ()
    verified: bool = True
    about: str = ""
    path: Path = field(default=Path(), compare=False)

    @property
    def pair(self) -> str:
        """Both domains, and which ways there are between them, as `BaseConfig.pair`."""
        return f"{self.domains[0]} {'<->' if self.ways == 'both' else '->'} {self.domains[1]}"

    @property
    def address(self) -> str:
        """Where its file or archive is on the web; empty if it is on the Hub, or nowhere."""
        return KAGGLE + self.dataset if self.dataset else self.url

    @property
    def is_archive(self) -> bool:
        """Whether what is at its address is a zip with the checkpoint inside."""
        return bool(self.dataset) or _is_zip(self.url)

    @property
    def converted(self) -> bool:
        """Whether it is an authors' checkpoint, which becomes a model on the user's machine."""
        return self.source in ("url", "kaggle", "import")

    @property
    def checkpoint(self) -> str:
        """The file that `convert` takes: the index of TensorFlow's, else the only one; empty if none is named."""
        return next((name for name in self.files if name.endswith(".index")), next(iter(self.files), ""))

    @property
    def download_size(self) -> int | None:
        """Bytes to download; None if there are none, or a size is not known."""
        records = [self.archive] if self.is_archive else list(self.files.values())
        sizes = [record.size for record in records if record is not None and record.size is not None]
        return sum(sizes) if sizes and len(sizes) == len(records) else None

    def by_hand(self) -> str:
        """How a user gets the weights without this program's help."""
        if self.instructions or not self.address:
            return self.instructions.strip()
        return f"Download {self.address} yourself, then: ugatit fetch {self.name} --from-file FILE"


# --- Reading and writing them --------------------------------------------------------------------------


def read_manifest(path: Path | None = None) -> dict[str, Entry]:
    """All models by name; see `Tables.read`."""
    return MODELS.read(path)


def record_of(table: Table | None) -> FileRecord | None:
    """From a table without mistakes, which may be empty."""
    return FileRecord(table.get("size"), table["sha256"]) if table else None


def _entry(name: str, table: Table, path: Path) -> Entry:
    values: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in table.items()}
    files = {file: record_of(record) for file, record in table.get("files", {}).items()}
    if table["source"] == "url" and not _is_zip(table["url"]):
        files.setdefault(_file_name(table["url"]), None)
    return Entry(name=name, path=path, **{**values, "files": files, "archive": record_of(table.get("archive"))})


def _is_zip(url: str) -> bool:
    return urlsplit(url).path.lower().endswith(".zip")


def _file_name(url: str) -> str:
    return unquote(PurePosixPath(urlsplit(url).path).name)


def entry_toml(entry: Entry) -> str:
    """The tables of one entry, which `read_manifest` reads back below a line `schema = 2`."""
    table = f"models.{toml_key(entry.name)}"
    lines = [f"[{table}]"]
    for key in MODEL.keys:
        value = getattr(entry, key)
        if key != "files" and value != Entry.__dataclass_fields__[key].default:
            lines.append(f"{key} = {_value(value)}")
    if entry.files:
        lines += ["", f"[{table}.files]"]
    lines += [f"{toml_key(name)} = {_value(record)}" for name, record in entry.files.items()]
    return "\n".join([*lines, ""])


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    if value is None:
        return "{}"
    if isinstance(value, FileRecord):
        size = f"size = {value.size}, " if value.size is not None else ""
        return f"{{ {size}sha256 = {_value(value.sha256)} }}"
    return tomli_w.dumps({"x": value}, multiline_strings=True).removeprefix("x = ").removesuffix("\n")


# --- Mistakes in models --------------------------------------------------------------------------------


def _domains(value: object) -> str:
    if not isinstance(value, list) or len(value) != 2:
        return "must be a list of two names"
    together = _refused(domain_a=value[0], domain_b=value[1])
    # Each with another that never is the mistake.
    alone = [_refused(domain_a=name, domain_b=f"not {name}") for name in value] if together else []
    return "; ".join(filter(None, alone)) or together


def _refused(**settings: Any) -> str:
    """What `ModelConfig` has against these settings; empty if nothing."""
    try:
        ModelConfig(**settings)
    except ConfigError as error:
        return re.sub(r"^(domain_[ab]|image_size) is ", "", error.message)
    return ""


_SHA256: Final = mistakes.like(SHA256, "is not 64 lower-case hex digits")
_COMMIT: Final = mistakes.like(REVISION, "is no commit: 40 lower-case hex digits")


def record_mistakes(record: object, needed: Collection[str] = RECORD_KEYS[1:]) -> Iterator[str]:
    """What is wrong with the record of a file, or of an archive; one that nobody has verified is empty."""
    if not isinstance(record, dict):
        yield ': must be a table: { size = BYTES, sha256 = "HASH" }'
        return
    yield from (f" {mistake}" for mistake in wrong_keys(record, needed if record else (), RECORD_KEYS))
    for key, check in (("size", mistakes.byte_count), ("sha256", _SHA256)):
        if key in record and (mistake := check(record[key])):
            yield f" {key}: {mistake}"


def _needs(table: Table, source: str | None) -> Iterator[str]:
    if source == "import":
        yield from ("files",) if "repository" in table else ()
        yield from ("repository",) if table.get("revision") else ()
    elif _of_archive(table, source) and "files" not in table:
        yield "folder"


def _of_archive(table: Table, source: str | None) -> bool:
    return source == "kaggle" or (
        source == "url" and not mistakes.address(table.get("url")) and _is_zip(table["url"])
    )


def _more(table: Table, source: str | None) -> Iterator[str]:
    if source == "hub" and table.get("revision") == "":  # an import's may be, which is the newest then
        yield f"revision: {_COMMIT('')}"
    if _of_archive(table, source):
        yield from ("folder: doesn't go with files, which are in it",) if {"files", "folder"} <= table.keys() else ()
    elif source == "url":
        yield from (f"{key}: only zips have one" for key in ("archive", "folder") if key in table)
        if not mistakes.address(table.get("url")):
            yield from _file_mistakes(table)
    if "archive" in table:
        yield from (f"archive{mistake}" for mistake in record_mistakes(table["archive"]))
    if "files" in table:
        yield from _files_mistakes(table["files"], source, str(table.get("layout", "tensorflow")))


def _file_mistakes(table: Table) -> Iterator[str]:
    """Whether an address is that of a file that can be a checkpoint, and its record that of the file."""
    name, files = _file_name(table["url"]), table.get("files", {})
    if table.get("layout") == "tensorflow":
        yield "url: must be that of a .zip: a checkpoint of TensorFlow is more than one file"
    elif wrong := wrong_name(name) or _wrong_kind(name, "url", ""):
        yield f"url: {said(name)}: {wrong}"
    elif isinstance(files, dict) and not files.keys() <= {name}:
        yield f"files: must be what the address names: {mistakes.named(name)}"


def _files_mistakes(files: object, source: str | None, layout: str) -> Iterator[str]:
    if not isinstance(files, dict):
        yield "files: must be a table of files"
        return
    ours = source in ("bundled", "hub")
    for name, record in files.items():
        where = f"files.{mistakes.named(name)}"
        if wrong := wrong_name(name) or _wrong_kind(name, source, layout):
            yield f"{where}: {wrong}"
        if ours and record == {}:
            yield from (f"{where} {key}: missing" for key in RECORD_KEYS)
        yield from (where + mistake for mistake in record_mistakes(record, RECORD_KEYS if ours else RECORD_KEYS[1:]))
    if ours:
        yield from (f"files.{toml_key(name)}: missing" for name in NEEDED_FILES if name not in files)
    elif source is not None and layout == "tensorflow":
        yield from _checkpoint_mistakes(list(files))
    elif source is not None and len(files) != 1:
        yield f"files: must be one checkpoint, not {len(files)}"


def _wrong_kind(name: str, source: str | None, layout: str) -> str:
    """Why a file of this name is not for an entry of this source and layout; empty if it is."""
    suffix = PurePosixPath(name).suffix.lower()
    if source in ("url", "kaggle", "import") and layout != "tensorflow":
        return "" if suffix in CHECKPOINTS else f"no checkpoint ({', '.join(CHECKPOINTS)})"
    if suffix in PICKLES:
        return f"{suffix} files are pickles, which can run code"
    if source in ("url", "kaggle", "import") and not (name.endswith(".index") or SHARD.fullmatch(name)):
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
    # A count that nobody has files for needs no list of them.
    wanted = {f"{prefixes[0]}.data-{shard:05d}-of-{count:05d}" for shard in range(min(count, len(shards) + 1))}
    if not wanted or {shard[0] for shard in shards} != wanted:
        whole = shown(f"{prefixes[0]}.index", mistakes.LONGEST)
        yield f"files: must have all data files of {whole}, and no others: .data-00000-of-00001"


_OPTIONS: Final = ("layout", "folder", "archive", "hosts", "files", "smoothing", "instructions")

MODEL: Final = Form(
    noun="model",
    common=("description", "domains", "image_size", "licence", "training_data", "source"),
    sources={
        "bundled": (("files",), ()),
        "hub": (("repository", "revision", "files"), ()),
        "url": (("url", "layout"), _OPTIONS),
        "kaggle": (("dataset", "layout"), _OPTIONS),
        "import": (("instructions",), ("repository", "revision", "layout", "files", "smoothing")),
        "train": (("instructions",), ()),
    },
    optional=("ways", "aliases", "made_by", "read_at", "verified", "about"),
    checks={
        "description": mistakes.text,
        "domains": _domains,
        "image_size": lambda value: _refused(image_size=value),
        "licence": mistakes.text,
        "training_data": mistakes.text,
        "repository": mistakes.like(REPOSITORY, "is no Hub id (owner/name)"),
        "revision": lambda value: "" if value == "" else _COMMIT(value),
        "url": mistakes.address,
        "hosts": mistakes.hosts,
        "dataset": mistakes.like(REPOSITORY, "is no data set of Kaggle (owner/name)"),
        "layout": mistakes.one_of(LAYOUTS),
        "folder": lambda value: mistakes.text(value) or wrong_name(str(value)),
        "smoothing": mistakes.flag,
        "instructions": lambda value: mistakes.text(value, lines=True),
        "ways": mistakes.one_of(get_args(Ways)),
        "aliases": mistakes.names,
        "made_by": mistakes.text,
        "read_at": mistakes.texts,
        "verified": mistakes.flag,
        "about": mistakes.like(re.compile(r"[0-9.]{1,6} [kMG]B"), "is no size such as 45.5 MB"),
    },
    needs=_needs,
    more=_more,
    reserved=frozenset({"bundled"}),
)
MODELS: Final = Tables("models", MODEL, _entry)
