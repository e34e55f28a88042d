"""What a manifest may say: every mistake is told where it is, and names of files never lead anywhere else."""

from __future__ import annotations

import re
import string
import tomllib
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from tests.weights.test_manifest import BUNDLE, COMMIT, COMMON, FILES, HASH, HUB, IMPORT, TRAIN, write
from ugatit_cli.errors import ModelError
from ugatit_cli.weights import folder as folder_module
from ugatit_cli.weights.manifest import MODEL_FILES, REPOSITORY, read_manifest


def mistakes(path: Path) -> list[str]:
    """What is wrong with a file, without its name."""
    with pytest.raises(ModelError) as caught:
        read_manifest(path)
    lines = caught.value.message.split("\n")
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


# --- Mistakes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "schema: missing; this ugatit reads 1"),
        ("schema = 2", "schema: written for a newer ugatit (schema 2, this one reads 1)"),
        ("schema = 0", "schema: 0; this ugatit reads 1"),
        ("schema = true", "schema: True; this ugatit reads 1"),
        ("schema = 1.0", "schema: 1.0; this ugatit reads 1"),
        ("schema = ", "can't be read: Invalid value (at end of document)"),
        ("schema = 1\n" * 2, "can't be read: Cannot overwrite a value (at line 2, column 11)"),
        ("x = " + "[" * 5000, "can't be read: "),
        ("schema = 1\nmodels = 1", "models: must be a table of models"),
        ("schema = 1\nmodel = 1", "model: unknown key; did you mean models?"),
        ("schema = 1\nname = 'x'", "name: unknown key"),
        ("schema = 1\n[models]\ncats = 1", "[models] cats: must be a table"),
    ],
)
def test_a_wrong_file(tmp_path: Path, text: str, reason: str) -> None:
    (found,) = mistakes(write(tmp_path, text))
    assert found == reason or (found.startswith(reason) and reason.endswith(": "))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert mistakes(tmp_path / "gone.toml") == ["can't be read: no such file"]
    assert mistakes(tmp_path) == ["can't be read: is a directory"]
    path = tmp_path / "utf16.toml"
    path.write_bytes(COMMON.encode("utf-16"))
    (found,) = mistakes(path)
    assert found.startswith("can't be read: 'utf-8' codec")


@pytest.mark.parametrize("name", ["", "a b", ".hidden", "-x", "ü", "a/b", "..", "x" * 101, "a\nb"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    table = tomllib.loads(TRAIN)["models"]["cats"]
    path = write(tmp_path, tomli_w.dumps({"schema": 1, "models": {name: table}}))
    (found,) = mistakes(path)
    rule = "up to 100 letters, digits, '.', '_' and '-', of which the first is a letter or digit"
    assert re.fullmatch(rf'\[models\] ("[^\n]*"|\S+): not a model name: {re.escape(rule)}', found)


MISTAKES = [
    (TRAIN, 'description = "Cats"', "", "description: missing"),
    (TRAIN, 'description = "Cats"', "description = 1", "description: must be text"),
    (TRAIN, '"Cats"', '" "', "description: is empty"),
    (TRAIN, '"Cats"', '"A\\nB"', "description: must be one line, without control characters"),
    (TRAIN, '"MIT"', '"\\u001b[1m"', "licence: must be one line, without control characters"),
    (TRAIN, '"pictures"', '"a\\u009bb"', "training_data: must be one line, without control characters"),
    (TRAIN, 'licence = "MIT"', "licence = 3", "licence: must be text"),
    (TRAIN, "licence =", "licnce =", "licnce: unknown key; did you mean licence?"),
    (TRAIN, "training_data", "zzz = 1\ntraining_data", "zzz: unknown key"),
    (TRAIN, "training_data", "sha256 = '0'\ntraining_data", "sha256: unknown key"),
    (TRAIN, "training_data", '"a b" = 1\ntraining_data', '"a b": unknown key'),
    (TRAIN, "= 128", '= "128"', "image_size: '128'; it must be of type int"),
    (TRAIN, "= 128", "= true", "image_size: True; it must be of type int"),
    (TRAIN, "= 128", "= 126", "image_size: 126; it must be a multiple of 4"),
    (TRAIN, "= 128", "= 0", "image_size: 0; it must be from 16 to 4096"),
    (TRAIN, '["cat", "dog"]', '"cat,dog"', "domains: must be a list of two names"),
    (TRAIN, '["cat", "dog"]', '["cat"]', "domains: must be a list of two names"),
    (TRAIN, '["cat", "dog"]', '["cat", 1]', "domains: 1; it must be of type str"),
    (TRAIN, '"dog"]', '"Cat"]', "domains: both domains are named 'cat'; they must differ"),
    (TRAIN, '"dog"]', "'d/g']", "domains: 'd/g'; a domain name is plain text without / \\ , :"),
    (TRAIN, '"cat",', '"",', "domains: ''; a domain name is plain text without / \\ , :"),
    (TRAIN, '"train"', '"trian"', "source: 'trian' is none of bundled, hub, import, train"),
    (TRAIN, '"train"', '["train"]', "source: ['train'] is none of bundled, hub, import, train"),
    (TRAIN, 'source = "train"', "", "source: missing"),
    (TRAIN, 'instructions = "try"', "", "instructions: missing"),
    (TRAIN, 'instructions = "try"', "instructions = 1", "instructions: must be text"),
    (TRAIN, '"try"', '"""\n"""', "instructions: is empty"),
    (TRAIN, '"try"', '"a\\u0007b"', "instructions: has control characters"),
    (TRAIN, "licence", "revision = 1\nlicence", "revision: doesn't belong to an entry whose source is 'train'"),
    (TRAIN, "licence", "smoothing = 1\nlicence", "smoothing: doesn't belong to an entry whose source is 'train'"),
    (TRAIN, "licence", "files = {}\nlicence", "files: doesn't belong to an entry whose source is 'train'"),
    (BUNDLE, "licence", "smoothing = 1\nlicence", "smoothing: doesn't belong to an entry whose source is 'bundled'"),
    (BUNDLE, FILES, "", "files: missing"),
    (BUNDLE, FILES, "\nfiles = 'all'", "files: must be a table of files"),
    (HUB, "licence", "instructions = 'x'\nlicence", "instructions: doesn't belong to an entry whose source is 'hub'"),
    (HUB, "licence", "smoothing = true\nlicence", "smoothing: doesn't belong to an entry whose source is 'hub'"),
    (HUB, f'revision = "{COMMIT}"', "", "revision: missing"),
    (HUB, COMMIT, "", "revision: '' is no commit: 40 lower-case hex digits"),
    (HUB, COMMIT, "main", "revision: 'main' is no commit: 40 lower-case hex digits"),
    (HUB, COMMIT, "A" * 40, f"revision: '{'A' * 40}' is no commit: 40 lower-case hex digits"),
    (HUB, 'repository = "ann/cats"', "", "repository: missing"),
    (HUB, "ann/cats", "cats", "repository: 'cats' is no Hub id (owner/name)"),
    (IMPORT, 'repository = "ann/cats"', "", "repository: missing"),
    (IMPORT, "= false", '= "no"', "smoothing: must be true or false"),
    (IMPORT, COMMIT, "v1", "revision: 'v1' is no commit: 40 lower-case hex digits"),
    (IMPORT, IMPORT[IMPORT.index("[models.cats.files]") :], "", "files: missing"),
    (IMPORT, '"deep/m.index" = {}', "", "files: must have one .index file, not 0"),
    (IMPORT, '"deep/m.index" = {}', '"m.index" = {}\n"deep/m.index" = {}', "files: must have one .index file, not 2"),
]  # fmt: skip
SHARDS = "files: must have all data files of deep/m.index, and no others: .data-00000-of-00001"
MISTAKES += [
    (IMPORT, '"deep/m.data-00001-of-00002" = {}', "", SHARDS),
    (IMPORT, '"deep/m.data-00001-of-00002"', '"deep/n.data-00001-of-00002"', SHARDS),
    (IMPORT, '"deep/m.data-00001-of-00002"', '"deep/m.data-00001-of-00003"', SHARDS),
    (IMPORT, '"deep/m.data-00001-of-00002"', '"deep/m.data-00002-of-00002"', SHARDS),
]


@pytest.mark.parametrize(("text", "old", "new", "mistake"), MISTAKES)
def test_mistakes_in_an_entry(tmp_path: Path, text: str, old: str, new: str, mistake: str) -> None:
    assert text.count(old) == 1 or old in ("licence", "training_data")
    assert mistakes(write(tmp_path, text.replace(old, new, 1))) == [f"[models.cats] {mistake}"]


RECORD = f'"config.json" = {{ size = 900, sha256 = "{HASH}" }}'
OTHER = ", ".join(MODEL_FILES)
FILE_MISTAKES = [
    (HUB, RECORD, "", '"config.json": missing'),
    (HUB, RECORD, '"config.json" = {}', '"config.json" size: missing', '"config.json" sha256: missing'),
    (HUB, RECORD, '"config.json" = 1', '"config.json": must be a table: { size = BYTES, sha256 = "HASH" }'),
    (HUB, "size = 900, ", "", '"config.json" size: missing'),
    (HUB, "size = 900", 'size = "900"', "\"config.json\" size: '900' is no number of bytes"),
    (HUB, "size = 900", "size = true", '"config.json" size: True is no number of bytes'),
    (HUB, "size = 900", "size = 0", '"config.json" size: 0 is no number of bytes'),
    (HUB, "size = 900", "size = 9.0", '"config.json" size: 9.0 is no number of bytes'),
    (HUB, "size = 900", "sise = 900", '"config.json" sise: unknown key; did you mean size?'),
    (HUB, "size = 900", "size = 900, url = 'x'", '"config.json" url: unknown key'),
    (HUB, RECORD, RECORD.replace(HASH, HASH.upper()),
        f"\"config.json\" sha256: '{HASH.upper()}' is not 64 lower-case hex digits"),
    (HUB, RECORD, RECORD.replace(HASH, "ab"), "\"config.json\" sha256: 'ab' is not 64 lower-case hex digits"),
    (HUB, RECORD, RECORD.replace(f'"{HASH}"', "1"), '"config.json" sha256: 1 is not 64 lower-case hex digits'),
    (HUB, RECORD, f"{RECORD}\n{RECORD.replace('config.json', 'm.pt')}",
        '"m.pt": .pt files are pickles, which can run code'),
    (HUB, RECORD, f"{RECORD}\n{RECORD.replace('config.json', 'pytorch_model.BIN')}",
        '"pytorch_model.BIN": .bin files are pickles, which can run code'),
    (HUB, RECORD, f"{RECORD}\n{RECORD.replace('config.json', 'setup.py')}",
        f'"setup.py": no file of a model folder ({OTHER})'),
    (HUB, RECORD, f"{RECORD}\n{RECORD.replace('config.json', 'x/config.json')}",
        f'"x/config.json": no file of a model folder ({OTHER})'),
    (IMPORT, '"deep/m.index" = {}', '"deep/m.index" = {}\n"m.ckpt" = {}',
        '"m.ckpt": .ckpt files are pickles, which can run code'),
    (IMPORT, '"deep/m.index" = {}', '"deep/m.index" = {}\n"run.py" = {}',
        '"run.py": no weights of a TensorFlow checkpoint (.index, .data-00000-of-00001)'),
    (IMPORT, "size = 7, ", "", '"deep/m.data-00000-of-00002" size: missing'),
]  # fmt: skip


@pytest.mark.parametrize("case", FILE_MISTAKES)
def test_mistakes_in_files(tmp_path: Path, case: tuple[str, ...]) -> None:
    text, old, new, *expected = case
    assert text.count(old) == 1
    assert mistakes(write(tmp_path, text.replace(old, new))) == [f"[models.cats.files] {line}" for line in expected]


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = HUB.replace("= 128", "= 3").replace('["cat", "dog"]', '["c/t", "d:g"]').replace("licence", "license")
    text = text.replace("size = 900", "size = -1") + '"../x" = 1\n[models.birds]\n[models."no.w"]\nsource = "train"\n'
    text = text.replace("schema = 1", "schema = 1\nmodles = 2")
    missing = ("description", "domains", "image_size", "licence", "training_data")
    assert mistakes(write(tmp_path, text)) == [
        "modles: unknown key; did you mean models?",
        "[models.cats] license: unknown key; did you mean licence?",
        "[models.cats] domains: 'c/t'; a domain name is plain text without / \\ , :",
        "[models.cats] domains: 'd:g'; a domain name is plain text without / \\ , :",
        "[models.cats] image_size: 3; it must be from 16 to 4096",
        '[models.cats.files] "config.json" size: -1 is no number of bytes',
        '[models.cats.files] "../x": must be a path below the repository, like folder/file',
        '[models.cats.files] "../x": must be a table: { size = BYTES, sha256 = "HASH" }',
        *(f"[models.birds] {key}: missing" for key in (*missing, "source")),
        *(f'[models."no.w"] {key}: missing' for key in (*missing, "instructions")),
    ]


# --- Names ---------------------------------------------------------------------------------------------


def test_names_of_files_are_those_of_model_folders() -> None:
    assert set(MODEL_FILES) == set(folder_module.MODEL_FILES)


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


@pytest.mark.parametrize(
    "prefix",
    ["../m", "a/../m", "/m", "//m", "a//m", "./m", "a/./m", "a\\m", "\\m", "C:m", "C:/m", "a\nm", "a\x9bm", "a /m"],
)
def test_names_that_lead_out(tmp_path: Path, prefix: str) -> None:
    assert accepted(tmp_path, "m")
    assert not accepted(tmp_path, prefix)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("ann/cats", True), ("a/b", True), ("A_1/b.c-d", True), ("_/_", True), ("a" * 96 + "/b", True),
        ("a" * 97 + "/b", False), ("a/" + "b" * 97, False), ("ann", False), ("a/b/c", False), ("/b", False),
        ("a/", False), ("-a/b", False), ("a/b-", False), (".a/b", False), ("a./b", False), ("a--b/c", False),
        ("a/b..c", False), ("a/b\n", False), ("a /b", False), ("é/b", False), ("a/b@main", False), ("../b", False),
    ],
)  # fmt: skip
def test_hub_ids(text: str, good: bool) -> None:
    assert bool(REPOSITORY.fullmatch(text)) is good
