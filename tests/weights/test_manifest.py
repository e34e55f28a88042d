"""The manifest: the package's is true, users add their own, what is written is read back, mistakes are named."""

from __future__ import annotations

import re
import shlex
import string
import tomllib
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from ugatit_cli.cli.app import command
from ugatit_cli.cli.options import parse_domains
from ugatit_cli.config import ModelConfig
from ugatit_cli.errors import ModelError
from ugatit_cli.remote.records import FileRecord
from ugatit_cli.weights import home
from ugatit_cli.weights.folder import open_model
from ugatit_cli.weights.hashes import SUMS_FILE
from ugatit_cli.weights.home import BUNDLED
from ugatit_cli.weights.manifest import (
    LAYOUTS,
    MODEL,
    MODEL_FILES,
    MODEL_NAME,
    SOURCES,
    Entry,
    SourceName,
    entry_toml,
    read_manifest,
)
from ugatit_cli.weights.tables import entry_of, manifest_path, place_of_user_manifest

HASH = "0123456789abcdef" * 4
COMMIT = "0123456789" * 4
FILES = f"""
[models.cats.files]
"config.json" = {{ size = 900, sha256 = "{HASH}" }}
"model.safetensors" = {{ size = 5000000000, sha256 = "{HASH}" }}
"""
COMMON = """schema = 1
[models.cats]
description = "Cats"
domains = ["cat", "dog"]
image_size = 128
licence = "MIT"
training_data = "pictures"
"""
BUNDLE = COMMON + 'source = "bundled"' + FILES
HUB = f'{COMMON}source = "hub"\nrepository = "ann/cats"\nrevision = "{COMMIT}"\n{FILES}'
IMPORT = f"""{COMMON}source = "import"
repository = "ann/cats"
revision = "{COMMIT}"
smoothing = false
instructions = "ask"
[models.cats.files]
"deep/m.index" = {{}}
"deep/m.data-00000-of-00002" = {{ size = 7, sha256 = "{HASH}" }}
"deep/m.data-00001-of-00002" = {{}}
"""
TRAIN = COMMON + 'source = "train"\ninstructions = "try"\n'
URL = f"""{COMMON.replace("schema = 1", "schema = 2")}source = "url"
url = "https://ann.example/w/cats%20.pth"
hosts = ["*.example", "cdn.example"]
layout = "cyclegan"
ways = "a2b"
aliases = ["pets"]
made_by = "Ann"
read_at = ["her README"]
verified = false
"""
ZIP = f"""{COMMON}source = "url"
url = "http://ann.example/cats.ZIP?v=1"
layout = "tensorflow"
archive = {{ sha256 = "{HASH}" }}
[models.cats.files]
"deep/m.index" = {{}}
"deep/m.data-00000-of-00001" = {{ size = 7, sha256 = "{HASH}" }}
"""
KAGGLE = COMMON + 'source = "kaggle"\ndataset = "ann/cats"\nlayout = "tensorflow"\nfolder = "deep/m_1"\n'
RECORDS = {"config.json": FileRecord(900, HASH), "model.safetensors": FileRecord(5_000_000_000, HASH)}
FIELDS: tuple[str, str, tuple[str, str], int, str, str] = ("cats", "Cats", ("cat", "dog"), 128, "MIT", "pictures")


@pytest.fixture(autouse=True)
def config_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty configuration folder, and no manifest of the developer's."""
    monkeypatch.delenv("UGATIT_MANIFEST", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


def write(folder: Path, text: str, name: str = "manifest.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# --- The one in the repository ---------------------------------------------------------------------------


def test_the_manifest_of_the_package() -> None:
    assert manifest_path().is_file()
    entries = read_manifest()
    assert entries["flat2clay"].source == "bundled"
    papers = ("selfie2anime", "horse2zebra", "cat2dog", "photo2vangogh", "photo2portrait")
    found = [entry_of(entries, name) for name in papers]
    assert [entry and entry.source for entry in found] == ["url", "url", "kaggle", "url", "train"]
    assert all(entry.name == name and entry.path == manifest_path() for name, entry in entries.items())


def test_bundled_models_are_what_the_manifest_says() -> None:
    for name, entry in read_manifest().items():
        if entry.source != "bundled":
            assert not (BUNDLED / name).exists()
            continue
        receipt = home.of_folder(
            name, BUNDLED / name, [path.name for path in (BUNDLED / name).iterdir() if path.name != SUMS_FILE]
        )
        assert entry.files == {file: FileRecord(stamp.size, stamp.sha256) for file, stamp in receipt.files.items()}
        assert entry.download_size == sum(stamp.size for stamp in receipt.files.values())
        model = open_model(BUNDLED / name)
        config = model.config
        assert model.provenance["licence"] == entry.licence  # it goes with every copy
        assert (config.domain_a, config.domain_b, config.image_size) == (*entry.domains, entry.image_size)


def commands(entry: Entry) -> list[tuple[str, dict[str, Any]]]:
    """The lines with commands in an entry's instructions, as the command line understands them."""
    lines = re.findall(r"^ +ugatit (\w+) (.+)$", entry.instructions, re.MULTILINE)
    return [(name, command(name).make_context(name, shlex.split(arguments)).params) for name, arguments in lines]


def test_every_address_says_where_it_was_read_and_whether_anybody_has_downloaded_it() -> None:
    for entry in read_manifest().values():
        if entry.converted or entry.source == "hub":
            assert entry.read_at
            assert entry.made_by
            # Of what somebody has downloaded, sizes and hashes are known.
            assert entry.verified is (entry.download_size is not None)


def test_convert_lines() -> None:
    entries = [entry for entry in read_manifest().values() if entry.source == "import"]
    assert entries
    for entry in entries:
        ((command, options),) = commands(entry)
        assert (command, options["name"]) == ("convert", entry.name)
        assert parse_domains(options["domains"]) == entry.domains
        (path,) = map(str, options["paths"])
        if entry.layout:
            assert list(entry.files) == [path]
            continue
        # The official folder name, which tells how rho was trained.
        assert {PurePosixPath(file).parent for file in entry.files} == {PurePosixPath(path)}
        assert entry.smoothing is not None or re.search(r"_\d+resblock_\d+dis_", path)


def test_train_lines() -> None:
    entries = [entry for entry in read_manifest().values() if entry.source == "train"]
    assert entries
    data = tomllib.loads(manifest_path().read_text(encoding="utf-8"))["data"]
    for entry in entries:
        ((command, options),) = commands(entry)
        assert (command, str(options["data"])) == ("train", entry.name)
        assert data[entry.name]["domains"] == [*entry.domains]
        assert (options["image_size"] or ModelConfig().image_size) == entry.image_size
        assert "weights" in entry.licence
        assert "no trained weights are known" in entry.description


def test_the_manifest_is_written_as_entries_are() -> None:
    text = manifest_path().read_text(encoding="utf-8")
    for entry in read_manifest().values():
        assert entry_toml(entry) in text + "\n"


# --- Entries -------------------------------------------------------------------------------------------


CHECKPOINT = {
    "deep/m.index": None,
    "deep/m.data-00000-of-00002": FileRecord(7, HASH),
    "deep/m.data-00001-of-00002": None,
}


@pytest.mark.parametrize(
    ("text", "entry", "size"),
    [
        (BUNDLE, Entry(*FIELDS, "bundled", files=RECORDS), 5_000_000_900),
        (HUB, Entry(*FIELDS, "hub", "ann/cats", COMMIT, RECORDS), 5_000_000_900),
        (IMPORT, Entry(*FIELDS, "import", "ann/cats", COMMIT, CHECKPOINT, False, "ask"), None),
        (COMMON + 'source = "import"\ninstructions = "ask"', Entry(*FIELDS, "import", instructions="ask"), None),
        (IMPORT.replace(COMMIT, ""), Entry(*FIELDS, "import", "ann/cats", "", CHECKPOINT, False, "ask"), None),
        (TRAIN, Entry(*FIELDS, "train", instructions="try"), None),
        (
            URL,
            Entry(
                *FIELDS,
                "url",
                files={"cats .pth": None},
                url="https://ann.example/w/cats%20.pth",
                hosts=("*.example", "cdn.example"),
                layout="cyclegan",
                ways="a2b",
                aliases=("pets",),
                made_by="Ann",
                read_at=("her README",),
                verified=False,
            ),
            None,
        ),
        (
            ZIP,
            Entry(
                *FIELDS,
                "url",
                files={"deep/m.index": None, "deep/m.data-00000-of-00001": FileRecord(7, HASH)},
                url="http://ann.example/cats.ZIP?v=1",
                layout="tensorflow",
                archive=FileRecord(None, HASH),
            ),
            None,
        ),
        (ZIP.replace("{ sha", "{ size = 9, sha", 1), None, 9),
        (
            f'{URL}[models.cats.files]\n"cats .pth" = {{ size = 8, sha256 = "{HASH}" }}',
            None,
            8,
        ),
        (KAGGLE, Entry(*FIELDS, "kaggle", dataset="ann/cats", layout="tensorflow", folder="deep/m_1"), None),
    ],
)
def test_an_entry_of_each_source(tmp_path: Path, text: str, entry: Entry | None, size: int | None) -> None:
    path = write(tmp_path, text)
    found = read_manifest(path)["cats"]
    assert (found, found.path, found.download_size) == (entry or found, path, size)


def test_where_the_weights_are_and_what_is_converted(tmp_path: Path) -> None:
    texts = (BUNDLE, HUB, IMPORT, TRAIN, URL, ZIP, KAGGLE)
    bundle, hub, imported, train, url, archive, kaggle = (
        read_manifest(write(tmp_path, text))["cats"] for text in texts
    )
    assert [entry.address for entry in (bundle, hub, imported, train)] == [""] * 4
    assert url.address == "https://ann.example/w/cats%20.pth"
    assert kaggle.address == "https://www.kaggle.com/api/v1/datasets/download/ann/cats"
    assert [entry.is_archive for entry in (imported, url, archive, kaggle)] == [False, False, True, True]
    assert [entry.converted for entry in (bundle, hub, train)] == [False] * 3
    assert all(entry.converted for entry in (imported, url, archive, kaggle))
    names = ["deep/m.index", "cats .pth", "deep/m.index", ""]
    assert [entry.checkpoint for entry in (imported, url, archive, kaggle)] == names
    assert imported.by_hand() == "ask"
    assert url.address in url.by_hand()


def test_other_names_of_an_entry(tmp_path: Path) -> None:
    entries = read_manifest(write(tmp_path, URL + own(TRAIN, "dogs").removeprefix("schema = 1\n")))
    assert [entry_of(entries, name) for name in ("cats", "pets", "dogs")] == [
        *(entries["cats"],) * 2,
        entries["dogs"],
    ]
    assert entry_of(entries, "horses") is None


# --- The user's own ------------------------------------------------------------------------------------


def own(text: str, name: str) -> str:
    return text.replace("models.cats", f"models.{name}")


def test_the_users_entries_come_last_or_take_places(config_home: Path) -> None:
    shipped = read_manifest()
    text = own(HUB, "selfie2anime") + own(TRAIN, "zoo").removeprefix("schema = 1\n")
    path = write(config_home, text, "ugatit/weights.toml")
    assert place_of_user_manifest() == path
    entries = read_manifest()
    assert list(entries) == [*shipped, "zoo"]
    assert (entries["selfie2anime"].source, entries["selfie2anime"].path) == ("hub", path)
    assert entries["flat2clay"] == shipped["flat2clay"]
    assert "zoo" not in read_manifest(manifest_path())
    write(config_home, BUNDLE, "ugatit/weights.toml")
    with pytest.raises(ModelError, match=r"\[models\.cats\] source: 'bundled' is for the package's own manifest"):
        read_manifest()


def test_the_variable_names_another_one(config_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = write(config_home, own(TRAIN, "zoo"), ".config/ugatit/weights.toml")
    named = write(config_home, own(TRAIN, "circus"), "other.toml")
    monkeypatch.setenv("HOME", str(config_home))
    monkeypatch.setenv("USERPROFILE", str(config_home))
    monkeypatch.delenv("XDG_CONFIG_HOME")
    for value, path in ((str(named), named), ("~/other.toml", named), ("", usual)):
        monkeypatch.setenv("UGATIT_MANIFEST", value)
        assert place_of_user_manifest() == path
        assert {"zoo", "circus"} & set(read_manifest()) == {"circus" if path is named else "zoo"}
    named.unlink()
    for wrong, reason in ((named, "no such file"), (config_home, "a folder, not a file")):
        monkeypatch.setenv("UGATIT_MANIFEST", str(wrong))
        with pytest.raises(ModelError, match=reason) as caught:
            read_manifest()
        assert caught.value.message.startswith(f"{wrong}: ")


def test_a_table_that_was_appended_twice(tmp_path: Path) -> None:
    table = HUB.removeprefix("schema = 1\n")
    with pytest.raises(ModelError, match=r"can't be read: .*'cats'.* twice") as caught:
        read_manifest(write(tmp_path, f"schema = 1\n{table}\n{table}"))
    assert "keep one of them" in caught.value.hint


# --- Properties ----------------------------------------------------------------------------------------


def lines(*more: str) -> st.SearchStrategy[str]:
    """Text with whatever TOML has to escape."""
    letters = st.one_of(
        st.sampled_from(["\\", '"', "'", " ", "#", "=", *more]), st.characters(exclude_categories=["Cc", "Cs"])
    )
    return st.text(letters, min_size=1, max_size=12).filter(lambda text: text.strip() != "")


NAMES = st.from_regex(MODEL_NAME, fullmatch=True)
HUB_IDS = st.sampled_from(["a/b", "Ann-1/my.model_2", f"{'a' * 96}/{'b' * 96}"])
SIZED = st.builds(FileRecord, st.integers(1, 2**63 - 1), st.text("0123456789abcdef", min_size=64, max_size=64))
RECORDED = SIZED | st.just(FileRecord(None, HASH))
COMMITS = st.text("0123456789abcdef", min_size=40, max_size=40)
DOMAINS = st.text(string.ascii_letters + "\"'é猫", min_size=1, max_size=9)


FLAGS = st.booleans()
HOSTS = st.sampled_from(["a", "a.example", "*.b-c.example"])
CHECKPOINT_NAMES = st.sampled_from(["G.pth", "a b/é.pt", 'quo"te/x.pdparams', "~/m.safetensors"])


@st.composite
def file_tables(draw: st.DrawFn, source: SourceName, layout: str = "") -> dict[str, FileRecord | None]:
    if source in ("bundled", "hub"):
        names = [*MODEL_FILES[:2], *draw(st.lists(st.sampled_from(MODEL_FILES[2:]), unique=True))]
        return {name: draw(SIZED) for name in names}
    if layout not in ("", "tensorflow"):
        return {draw(CHECKPOINT_NAMES): draw(st.none() | RECORDED)}
    prefix = draw(st.sampled_from(["m", "a/b c/é.model-1", 'quo"te/x', "~/$HOME"]))
    count = draw(st.integers(1, 3))
    names = [f"{prefix}.index", *(f"{prefix}.data-{i:05d}-of-{count:05d}" for i in range(count))]
    return {name: draw(st.none() | RECORDED) for name in names}


@st.composite
def checkpoints(draw: st.DrawFn, source: SourceName) -> dict[str, Any]:
    """What an entry says of an authors' checkpoint."""
    found: dict[str, Any] = {"smoothing": draw(st.none() | FLAGS)}
    if source == "import":
        found["layout"] = draw(st.sampled_from(["", *LAYOUTS]))
        if draw(FLAGS):
            found |= {"repository": draw(HUB_IDS), "files": draw(file_tables(source, found["layout"]))}
            found["revision"] = draw(COMMITS | st.just(""))
        return found
    found |= {"layout": draw(st.sampled_from(LAYOUTS)), "hosts": tuple(draw(st.lists(HOSTS, max_size=2)))}
    if source == "url" and found["layout"] != "tensorflow" and draw(FLAGS):
        return found | {"url": "http://a.example:80/b/c.pth?d=1", "files": {"c.pth": draw(st.none() | RECORDED)}}
    place = {"dataset": draw(HUB_IDS)} if source == "kaggle" else {"url": "https://a.example/b.zip"}
    found |= {**place, "archive": draw(st.none() | RECORDED)}
    inside = st.fixed_dictionaries({"files": file_tables(source, found["layout"])})
    return found | draw(inside | st.fixed_dictionaries({"folder": st.sampled_from(["a", "a b/é_1"])}))


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    source = draw(st.sampled_from(SOURCES))
    domains = draw(st.tuples(DOMAINS, DOMAINS).filter(lambda pair: pair[0].casefold() != pair[1].casefold()))
    extra: dict[str, Any] = {"ways": draw(st.sampled_from(["both", "a2b"])), "verified": draw(FLAGS)}
    extra |= {"made_by": draw(st.just("") | lines()), "read_at": tuple(draw(st.lists(lines(), max_size=2)))}
    if source in ("bundled", "hub"):
        extra["files"] = draw(file_tables(source))
    if source == "hub":
        extra |= {"repository": draw(HUB_IDS), "revision": draw(COMMITS)}
    if source in ("url", "kaggle", "import"):
        extra |= draw(checkpoints(source))
    if source in ("import", "train"):
        extra["instructions"] = draw(lines("\n", "\t"))
    size, texts = 4 * draw(st.integers(4, 1024)), draw(st.tuples(lines(), lines(), lines()))
    return Entry(draw(NAMES), texts[0], domains, size, texts[1], texts[2], source, **extra)


@settings(max_examples=30)
@given(st.lists(entries(), max_size=2, unique_by=lambda entry: entry.name))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, made: list[Entry]) -> None:
    text = "schema = 1\n\n" + "\n".join(map(entry_toml, made))
    path = write(tmp_path_factory.getbasetemp(), text, "written.toml")
    read = read_manifest(path)
    assert list(read.values()) == made
    assert [list(read[entry.name].files) for entry in made] == [list(entry.files) for entry in made]


# --- Mistakes ------------------------------------------------------------------------------------------


def mistakes(path: Path) -> list[str]:
    """What is wrong with a file, without its name."""
    with pytest.raises(ModelError) as caught:
        read_manifest(path)
    message = caught.value.message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ").split(" · ")


RECORD = f'"config.json" = {{ size = 900, sha256 = "{HASH}" }}'
AND = {name: f"{RECORD}\n{RECORD.replace('config.json', name)}" for name in ("m.BIN", "x/config.json")}
PART = '"deep/m.data-00001-of-00002"'
SHARDS = "[models.cats] files: must have all data files of deep/m.index"
WRONG_NAMES = ['""', '"a b"', '".hidden"', "-x", '"ü"', '"a/b"', '".."', "x" * 101, '"a\\nb"']
# An entry, what is changed in it, and how the only line begins that tells of it.
MISTAKES = [
    (TRAIN, "schema = 1", "", "schema: missing"),
    (TRAIN, "schema = 1", "schema = 3", "schema: written for a newer ugatit"),
    (TRAIN, "schema = 1", "schema = 0", "schema: 0"),
    (TRAIN, "schema = 1", "schema = true", "schema: True"),
    (TRAIN, "schema = 1", "schema = ", "can't be read: "),
    (TRAIN, "schema = 1", "schema = 1\nx = " + "[" * 5000, "can't be read: "),
    (TRAIN, TRAIN, "schema = 1\nmodels = 1", "models: must be a table"),
    (TRAIN, TRAIN, "schema = 1\nmodel = 1", "model: unknown key; did you mean models?"),
    (TRAIN, TRAIN, "schema = 1\n[models]\ncats = 1", "[models] cats: must be a table"),
    *((TRAIN, "models.cats", f"models.{key}", f"[models] {key}: not a model name") for key in WRONG_NAMES),
    (TRAIN, 'description = "Cats"', "", "[models.cats] description: missing"),
    (TRAIN, 'description = "Cats"', "description = 1", "[models.cats] description: must be text"),
    (TRAIN, '"Cats"', '" "', "[models.cats] description: is empty"),
    (TRAIN, '"Cats"', '"A\\nB"', "[models.cats] description: must be one line"),
    (TRAIN, '"pictures"', '"a\\u009bb"', "[models.cats] training_data: must be one line"),
    (TRAIN, '"try"', '"a\\u0007b"', "[models.cats] instructions: has control characters"),
    (TRAIN, "licence =", "licnce =", "[models.cats] licnce: unknown key; did you mean licence?"),
    (TRAIN, "training_data", "sha256 = '0'\ntraining_data", "[models.cats] sha256: unknown key"),
    (TRAIN, '["cat", "dog"]', '"cat,dog"', "[models.cats] domains: must be a list of two names"),
    (TRAIN, '["cat", "dog"]', '["cat", 1]', "[models.cats] domains: 1"),
    (TRAIN, '"dog"]', '"Cat"]', "[models.cats] domains: both domains are named 'cat'"),
    (TRAIN, '"train"', '"trian"', "[models.cats] source: 'trian' is none of bundled, hub, url, "),
    (TRAIN, "licence", "revision = 1\nlicence", "[models.cats] revision: doesn't belong"),
    (BUNDLE, FILES, "\nfiles = 'all'", "[models.cats] files: must be a table"),
    (HUB, COMMIT, "main", "[models.cats] revision: 'main'"),
    (HUB, "ann/cats", "cats", "[models.cats] repository: 'cats'"),
    (IMPORT, 'repository = "ann/cats"', "", "[models.cats] repository: missing"),
    (IMPORT, "= false", '= "no"', "[models.cats] smoothing: must be true or false"),
    (IMPORT, IMPORT[IMPORT.index("[models.cats.files]") :], "", "[models.cats] files: missing"),
    (IMPORT, '"deep/m.index" = {}', "", "[models.cats] files: must have one .index file, not 0"),
    (IMPORT, '"deep/m.index"', '"m.index" = {}\n"deep/m.index"', "[models.cats] files: must have one .index file"),
    (IMPORT, f"{PART} = {{}}", "", SHARDS),
    (IMPORT, PART, '"deep/n.data-00001-of-00002"', SHARDS),
    (IMPORT, PART, '"deep/m.data-00002-of-00002"', SHARDS),
    (IMPORT, PART, f'"m.ckpt" = {{}}\n{PART}', '[models.cats] files."m.ckpt": .ckpt files are pickles'),
    (IMPORT, PART, f'"run.py" = {{}}\n{PART}', '[models.cats] files."run.py": no weights'),
    (IMPORT, f', sha256 = "{HASH}"', "", '[models.cats] files."deep/m.data-00000-of-00002" sha256: missing'),
    (HUB, COMMIT, "", "[models.cats] revision: ''"),
    (HUB, RECORD, "", '[models.cats] files."config.json": missing'),
    (HUB, RECORD, '"config.json" = 1', '[models.cats] files."config.json": must be a table'),
    (HUB, "size = 900, ", "", '[models.cats] files."config.json" size: missing'),
    (HUB, "size = 900", "size = true", '[models.cats] files."config.json" size: True'),
    (HUB, "size = 900", "sise = 900", '[models.cats] files."config.json" sise: unknown key; did you mean size?'),
    (HUB, RECORD, RECORD.replace(HASH, "A" * 64), '[models.cats] files."config.json" sha256: '),
    (HUB, RECORD, AND["m.BIN"], '[models.cats] files."m.BIN": .bin files are pickles'),
    (HUB, RECORD, AND["x/config.json"], '[models.cats] files."x/config.json": no file'),
    (TRAIN, "source", 'layout = "paddle"\nsource', "[models.cats] layout: doesn't belong"),
    (URL, 'url = "https://ann.example/w/cats%20.pth"\n', "", "[models.cats] url: missing"),
    *((URL, "https://ann.example", start, "[models.cats] url: 'f") for start in ("ftp://a", "file://a", "filé://a")),
    *((URL, "ann.example", host, "[models.cats] url: 'http") for host in ("", "u:p@a", "a:x", "-a", "*.a", "a b")),
    (URL, "ann.example", "[::", "[models.cats] url: 'http"),
    (URL, "/w/cats%20.pth", "", "[models.cats] url: 'https://ann.example' is no address"),
    (URL, "cats%20.pth", "", "[models.cats] url: 'w': no checkpoint"),
    (URL, "cats%20.pth", "..%2Fcats.pth", "[models.cats] url: '../cats.pth': must be a path"),
    (URL, '"cdn.example"', '"https://a.b"', "[models.cats] hosts: 'https://a.b' is no host"),
    (URL, '"cyclegan"', '"keras"', "[models.cats] layout: 'keras' is none of tensorflow"),
    (URL, '"cyclegan"', '"tensorflow"', "[models.cats] url: must be that of a .zip"),
    (URL, '"a2b"', '"b2a"', "[models.cats] ways: 'b2a' is none of both, a2b"),
    (URL, '["pets"]', '"pets"', "[models.cats] aliases: must be a list"),
    (URL, '["pets"]', '["my pets"]', "[models.cats] aliases: 'my pets' is no name"),
    (URL, '["her README"]', "[]", "[models.cats] read_at: must be a list"),
    (URL, "= false", "= 0", "[models.cats] verified: must be true or false"),
    (URL, "made_by", 'folder = "a"\nmade_by', "[models.cats] folder: only zips"),
    (URL, "= false", '= false\nfiles = { "dogs.pth" = {} }', "[models.cats] files: must be what the address names"),
    (ZIP, "archive = { sha256", "archive = { shaa256", "[models.cats] archive shaa256: unknown key; did you mean"),
    (ZIP, "archive =", 'folder = "a"\narchive =', "[models.cats] folder: doesn't go with files"),
    (ZIP, '"deep/m.index" = {}', "", "[models.cats] files: must have one .index file, not 0"),
    (KAGGLE, 'folder = "deep/m_1"', "", "[models.cats] folder: missing"),
    (KAGGLE, "deep/m_1", "../m_1", "[models.cats] folder: must be a path"),
    (KAGGLE, "ann/cats", "cats", "[models.cats] dataset: 'cats' is no data set of Kaggle"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "old", "new", "mistake"), MISTAKES)
def test_one_mistake_is_one_line_that_says_where_it_is(
    tmp_path: Path, text: str, old: str, new: str, mistake: str
) -> None:
    assert text.count(old) == 1 or old in ("licence", "training_data")
    (line,) = mistakes(write(tmp_path, text.replace(old, new, 1)))
    assert line.startswith(mistake)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "utf16.toml").write_bytes(COMMON.encode("utf-16"))
    for path in (tmp_path, tmp_path / "gone.toml", tmp_path / "utf16.toml"):
        (line,) = mistakes(path)
        assert line.startswith("can't be read: ")


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = HUB.replace("= 128", "= 3").replace('["cat", "dog"]', '["c/t", "d:g"]').replace("licence", "license")
    text = text.replace("size = 900", "size = -1") + '"../x" = 1\n[models.birds]\n[models."no.w"]\nsource = "train"\n'
    text = text.replace("schema = 1", "schema = 1\nmodles = 2")
    missing = ("description", "domains", "image_size", "licence", "training_data")
    found = mistakes(write(tmp_path, text))
    assert [line.rpartition(": ")[0] for line in found] == [
        "modles",
        "[models.cats] license",
        "[models.cats] domains",
        "[models.cats] image_size",
        '[models.cats] files."config.json" size',
        '[models.cats] files."../x"',
        '[models.cats] files."../x": must be a table',
        *(f"[models.birds] {key}" for key in (*missing, "source")),
        *(f'[models."no.w"] {key}' for key in (*missing, "instructions")),
    ]
    assert "'c/t'" in found[2]
    assert "'d:g'" in found[2]


def test_a_name_is_that_of_one_entry_alone(tmp_path: Path) -> None:
    dogs = own(TRAIN, "pets").removeprefix("schema = 1\n")
    (line,) = mistakes(write(tmp_path, URL + dogs))
    assert line == "[models.cats] aliases: 'pets' is a name of pets, too"
    mice = own(URL, "mice").removeprefix("schema = 2\n")
    (line,) = mistakes(write(tmp_path, URL + mice))
    assert line == "[models.mice] aliases: 'pets' is a name of cats, too"


TEXTS = ["", "https://a.example/b.zip", "a/b", "\x1b[2J", "x" * 20_000, "é\n", *SOURCES, *LAYOUTS]
SIMPLE = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.dates() | st.sampled_from(TEXTS)
VALUES = (
    SIMPLE
    | st.just([0] * 20_000)
    | st.lists(SIMPLE, max_size=3)
    | st.dictionaries(
        st.sampled_from(["size", "sha256", "b.pth", "m.index", "../x"]),
        SIMPLE | st.dictionaries(st.sampled_from(["size", "sha256", "x"]), SIMPLE, max_size=2),
        max_size=3,
    )
)


@given(
    st.sampled_from([BUNDLE, HUB, IMPORT, TRAIN, URL, ZIP, KAGGLE]),
    st.dictionaries(st.sampled_from(MODEL.keys) | st.text("ab\n\x1b", max_size=3), VALUES, min_size=1, max_size=3),
)
@settings(max_examples=30)
def test_whatever_stands_there_is_an_entry_or_named(
    tmp_path_factory: pytest.TempPathFactory, text: str, said: dict[str, Any]
) -> None:
    document = tomllib.loads(text)
    document["models"]["cats"] |= said
    path = write(tmp_path_factory.getbasetemp(), tomli_w.dumps(document), "anything.toml")
    entry, message = None, f"{path}: [models.cats] "
    try:
        (entry,) = read_manifest(path).values()
    except ModelError as error:
        message = error.message
    assert message.startswith(f"{path}: [models.cats] ")
    assert message.isprintable()
    assert len(message) < 20_000
    if entry is not None:
        again = write(path.parent, f"schema = 2\n{entry_toml(entry)}", "again.toml")
        assert read_manifest(again) == {"cats": entry}


def test_very_many_mistakes_are_counted(tmp_path: Path) -> None:
    text = TRAIN + "".join(f"{'k' * 500}{i} = 1\n" for i in range(1500))
    found = mistakes(write(tmp_path, text))
    assert found[-1] == "and 1470 more"
    assert len(found) == 31
    assert max(map(len, found)) < 300


# --- Names ---------------------------------------------------------------------------------------------


def accepted(folder: Path, prefix: str) -> bool:
    """Whether a checkpoint of this prefix may be in a manifest."""
    table = tomllib.loads(IMPORT)
    table["models"]["cats"]["files"] = {f"{prefix}.index": {}, f"{prefix}.data-00000-of-00001": {}}
    path = write(folder, tomli_w.dumps(table), "names.toml")
    try:
        read_manifest(path)
    except ModelError:
        return False
    return True


PARTS = st.one_of(
    st.sampled_from(["..", ".", "", "C:", "~", "a", "b.c", " ", "a ", "...", "\\", "\\\\server", "x:y", "..\\", "é"]),
    st.text(st.sampled_from("a./\\:~ \n\0é\x7f\x9b"), max_size=6),
)


@given(st.lists(PARTS, min_size=1, max_size=4).map("/".join))
def test_names_never_lead_out_of_their_folder(tmp_path_factory: pytest.TempPathFactory, prefix: str) -> None:
    if not accepted(tmp_path_factory.getbasetemp(), prefix):
        return
    name = f"{prefix}.index"
    assert str(PurePosixPath(name)) == name
    for kind, root in ((PurePosixPath, "/root"), (PureWindowsPath, "D:/root")):
        whole = kind(root) / name
        assert whole.parts[: len(kind(root).parts)] == kind(root).parts
        assert len(whole.parts) == len(kind(root).parts) + name.count("/") + 1
        assert not [part for part in whole.parts if part.rstrip(" .") != part]
    assert not set(name) & set("\\:\0\n\x7f\x9b")


@given(st.lists(st.text(string.ascii_letters + "._- é", min_size=1, max_size=8), min_size=1, max_size=4))
def test_plain_names_are_taken(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    plain = all(part.rstrip(" .") == part for part in parts[:-1])
    assert accepted(tmp_path_factory.getbasetemp(), "/".join(parts)) is plain
