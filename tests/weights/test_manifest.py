"""The manifest: the one in the repository is true, users can add their own, and what is written is read back."""

from __future__ import annotations

import hashlib
import re
import shlex
import string
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.core import TyperGroup
from typer.main import get_command

from ugatit_cli.cli.app import app
from ugatit_cli.cli.options import parse_domains
from ugatit_cli.cli.train import find_folders
from ugatit_cli.config import ModelConfig
from ugatit_cli.errors import ModelError
from ugatit_cli.weights.folder import open_model
from ugatit_cli.weights.home import BUNDLED
from ugatit_cli.weights.manifest import (
    MODEL_FILES,
    MODEL_NAME,
    SOURCES,
    Entry,
    FileRecord,
    SourceName,
    entry_toml,
    manifest_path,
    read_manifest,
    user_manifest_path,
)

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
    assert set(papers) <= set(entries)
    assert all(entry.name == name and entry.path == manifest_path() for name, entry in entries.items())


def test_bundled_models_are_what_the_manifest_says() -> None:
    for name, entry in read_manifest().items():
        if entry.source != "bundled":
            assert not (BUNDLED / name).exists()
            continue
        found = {path.name: path.read_bytes() for path in (BUNDLED / name).iterdir()}
        records = {file: FileRecord(len(data), hashlib.sha256(data).hexdigest()) for file, data in found.items()}
        assert entry.files == records
        assert entry.download_size == sum(map(len, found.values()))
        config = open_model(BUNDLED / name).config
        assert (config.domain_a, config.domain_b, config.image_size) == (*entry.domains, entry.image_size)


def commands(entry: Entry) -> list[tuple[str, dict[str, Any]]]:
    """The lines with commands in an entry's instructions, as the command line understands them."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    lines = re.findall(r"^ +ugatit (\w+) (.+)$", entry.instructions, re.MULTILINE)
    return [
        (name, group.commands[name].make_context(name, shlex.split(arguments)).params) for name, arguments in lines
    ]


def test_convert_lines() -> None:
    entries = [entry for entry in read_manifest().values() if entry.source == "import"]
    assert entries
    for entry in entries:
        ((command, options),) = commands(entry)
        assert (command, options["name"]) == ("convert", entry.name)
        assert parse_domains(options["domains"]) == entry.domains
        # The official folder name, which tells how rho was trained.
        assert {PurePosixPath(file).parent for file in entry.files} == {PurePosixPath(options["checkpoint"])}
        assert entry.smoothing is not None or re.search(r"_\d+resblock_\d+dis_", str(options["checkpoint"]))


def test_train_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entries = [entry for entry in read_manifest().values() if entry.source == "train"]
    assert entries
    for entry in entries:
        ((command, options),) = commands(entry)
        assert (command, options["output"]) == ("train", Path("runs", entry.name))
        assert parse_domains(options["domains"]) == entry.domains
        assert (options["image_size"] or ModelConfig().image_size) == entry.image_size
        # The folders that are told of are those that are searched.
        for folder in re.findall(r"\S+/train[AB]\b", entry.instructions):
            Path(folder).mkdir(parents=True)
        folders = find_folders(options["domain_a"], options["domain_b"], options["data"])
        assert folders is not None
        assert (folders.a, folders.b) == (tmp_path / entry.name / "trainA", tmp_path / entry.name / "trainB")
        assert "weights" in entry.licence
        assert "no trained weights are known" in entry.description


def test_the_words_of_a_command_are_checked() -> None:
    wrong = Entry(*FIELDS, "train", instructions="    ugatit train --dta x")
    with pytest.raises(Exception, match="--dta"):
        commands(wrong)


def test_the_manifest_is_written_as_entries_are() -> None:
    text = manifest_path().read_text(encoding="utf-8")
    for entry in read_manifest().values():
        assert entry_toml(entry) in text + "\n"


def test_reading_needs_no_torch() -> None:
    code = "import sys; from ugatit_cli.weights.manifest import read_manifest; read_manifest(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ugatit_cli.weights.manifest" in done.stdout.split()
    assert "torch" not in done.stdout.split()


# --- Entries -------------------------------------------------------------------------------------------


def test_a_bundled_model(tmp_path: Path) -> None:
    path = write(tmp_path, BUNDLE)
    entry = read_manifest(path)["cats"]
    assert entry == Entry(*FIELDS, "bundled", files=RECORDS)
    assert entry.path == path
    assert entry.download_size == 5_000_000_900


def test_a_model_on_the_hub(tmp_path: Path) -> None:
    entry = read_manifest(write(tmp_path, HUB))["cats"]
    assert entry == Entry(*FIELDS, "hub", "ann/cats", COMMIT, RECORDS)


def test_every_file_of_a_model_folder(tmp_path: Path) -> None:
    more = "".join(f'"{name}" = {{ size = 1, sha256 = "{HASH}" }}\n' for name in MODEL_FILES[2:])
    assert set(read_manifest(write(tmp_path, HUB + more))["cats"].files) == set(MODEL_FILES)


def test_an_import(tmp_path: Path) -> None:
    files = {
        "deep/m.index": None,
        "deep/m.data-00000-of-00002": FileRecord(7, HASH),
        "deep/m.data-00001-of-00002": None,
    }
    entry = read_manifest(write(tmp_path, IMPORT))["cats"]
    assert entry == Entry(*FIELDS, "import", "ann/cats", COMMIT, files, False, "ask")
    assert list(entry.files) == list(files)
    assert entry.download_size is None


@pytest.mark.parametrize("revision", ["", 'revision = ""'])
def test_an_import_that_nobody_pinned(tmp_path: Path, revision: str) -> None:
    path = write(tmp_path, IMPORT.replace(f'revision = "{COMMIT}"', revision))
    assert read_manifest(path)["cats"].revision == ""


def test_an_import_that_is_got_by_hand(tmp_path: Path) -> None:
    path = write(tmp_path, COMMON + 'source = "import"\ninstructions = "ask"')
    entry = read_manifest(path)["cats"]
    assert entry == Entry(*FIELDS, "import", instructions="ask")
    assert (entry.repository, entry.files, entry.smoothing, entry.download_size) == ("", {}, None, None)


def test_a_model_to_train(tmp_path: Path) -> None:
    entry = read_manifest(write(tmp_path, TRAIN))["cats"]
    assert entry == Entry(*FIELDS, "train", instructions="try")
    assert entry.download_size is None


def test_entries_keep_their_order(tmp_path: Path) -> None:
    others = [TRAIN.removeprefix("schema = 1\n").replace("cats", name) for name in ("birds", '"ants.2"')]
    assert list(read_manifest(write(tmp_path, TRAIN + "".join(others)))) == ["cats", "birds", "ants.2"]


def test_an_empty_manifest(tmp_path: Path) -> None:
    assert read_manifest(write(tmp_path, "schema = 1")) == {}


# --- The user's own ------------------------------------------------------------------------------------


def own(text: str, name: str) -> str:
    return text.replace("models.cats", f"models.{name}")


def test_without_a_manifest_of_the_user() -> None:
    assert user_manifest_path() is None


def test_the_users_entries_come_last_or_take_places(config_home: Path) -> None:
    shipped = read_manifest()
    text = own(HUB, "selfie2anime") + own(TRAIN, "zoo").removeprefix("schema = 1\n")
    path = write(config_home, text, "ugatit/weights.toml")
    assert user_manifest_path() == path
    entries = read_manifest()
    assert list(entries) == [*shipped, "zoo"]
    assert (entries["selfie2anime"].source, entries["selfie2anime"].path) == ("hub", path)
    assert entries["flat2clay"] == shipped["flat2clay"]
    assert entries["zoo"].path == path
    assert "zoo" not in read_manifest(manifest_path())


def test_the_variable_names_another_one(config_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(config_home, own(TRAIN, "zoo"), "ugatit/weights.toml")
    named = write(config_home, own(TRAIN, "circus"), "other.toml")
    monkeypatch.setenv("UGATIT_MANIFEST", str(named))
    assert user_manifest_path() == named
    assert {"zoo", "circus"} & set(read_manifest()) == {"circus"}
    monkeypatch.setenv("UGATIT_MANIFEST", "")
    assert {"zoo", "circus"} & set(read_manifest()) == {"zoo"}
    named.unlink()
    for wrong, reason in ((named, "no such file"), (config_home, "a folder, not a file")):
        monkeypatch.setenv("UGATIT_MANIFEST", str(wrong))
        with pytest.raises(ModelError) as caught:
            read_manifest()
        assert caught.value.message == f"{wrong}: {reason}, but UGATIT_MANIFEST names it"


def test_a_table_that_was_appended_twice(tmp_path: Path) -> None:
    table = HUB.removeprefix("schema = 1\n")
    path = write(tmp_path, f"schema = 1\n{table}\n{table}")
    with pytest.raises(ModelError, match=r"can't be read: Cannot declare .*'cats'.* twice \(at line") as caught:
        read_manifest(path)
    assert caught.value.hint == "This table is there twice: keep one of them."
    with pytest.raises(ModelError, match="can't be read") as caught:
        read_manifest(write(tmp_path, "schema = 1\n[models.cats"))
    assert caught.value.hint == ""


def test_folders_below_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME")
    path = write(tmp_path, TRAIN, ".config/ugatit/weights.toml")
    assert user_manifest_path() == path
    monkeypatch.setenv("UGATIT_MANIFEST", "~/.config/ugatit/weights.toml")
    assert user_manifest_path() == path


def test_users_bundle_nothing(config_home: Path) -> None:
    path = write(config_home, BUNDLE, "ugatit/weights.toml")
    with pytest.raises(ModelError) as caught:
        read_manifest()
    reason = "'bundled' is for the package's own manifest; a user's has hub, import, train"
    assert caught.value.message == f"{path}: [models.cats] source: {reason}"


# --- Properties ----------------------------------------------------------------------------------------


def lines(*more: str) -> st.SearchStrategy[str]:
    """Text with whatever TOML has to escape."""
    letters = st.one_of(
        st.sampled_from(["\\", '"', "'", " ", "#", "=", *more]), st.characters(exclude_categories=["Cc", "Cs"])
    )
    return st.text(letters, min_size=1, max_size=30).filter(lambda text: text.strip() != "")


NAMES = st.from_regex(MODEL_NAME, fullmatch=True)
HUB_IDS = st.sampled_from(["a/b", "Ann-1/my.model_2", f"{'a' * 96}/{'b' * 96}"])
SIZED = st.builds(FileRecord, st.integers(1, 2**63), st.text("0123456789abcdef", min_size=64, max_size=64))
COMMITS = st.text("0123456789abcdef", min_size=40, max_size=40)
DOMAINS = st.text(string.ascii_letters + "\"'é猫", min_size=1, max_size=9)


@st.composite
def file_tables(draw: st.DrawFn, source: SourceName) -> dict[str, FileRecord | None]:
    if source in ("bundled", "hub"):
        names = [*MODEL_FILES[:2], *draw(st.lists(st.sampled_from(MODEL_FILES[2:]), unique=True))]
        return {name: draw(SIZED) for name in names}
    prefix = draw(st.sampled_from(["m", "a/b c/é.model-1", 'quo"te/x', "~/$HOME"]))
    count = draw(st.integers(1, 3))
    names = [f"{prefix}.index", *(f"{prefix}.data-{i:05d}-of-{count:05d}" for i in range(count))]
    return {name: draw(st.none() | SIZED) for name in names}


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    source = draw(st.sampled_from(SOURCES))
    domains = draw(st.tuples(DOMAINS, DOMAINS).filter(lambda pair: pair[0].casefold() != pair[1].casefold()))
    extra: dict[str, Any] = {}
    if source in ("bundled", "hub"):
        extra["files"] = draw(file_tables(source))
    if source == "hub" or (source == "import" and draw(st.booleans())):
        extra |= {"repository": draw(HUB_IDS), "files": draw(file_tables(source))}
        extra["revision"] = draw(COMMITS if source == "hub" else COMMITS | st.just(""))
    if source == "import":
        extra["smoothing"] = draw(st.none() | st.booleans())
    if source in ("import", "train"):
        extra["instructions"] = draw(lines("\n", "\t"))
    size, texts = 4 * draw(st.integers(4, 1024)), draw(st.tuples(lines(), lines(), lines()))
    return Entry(draw(NAMES), texts[0], domains, size, texts[1], texts[2], source, **extra)


@given(st.lists(entries(), max_size=3, unique_by=lambda entry: entry.name))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, made: list[Entry]) -> None:
    text = "schema = 1\n\n" + "\n".join(map(entry_toml, made))
    path = write(tmp_path_factory.getbasetemp(), text, "written.toml")
    read = read_manifest(path)
    assert list(read.values()) == made
    assert [list(read[entry.name].files) for entry in made] == [list(entry.files) for entry in made]
