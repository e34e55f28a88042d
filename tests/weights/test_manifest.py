"""The manifest: the one in the repository is right, and wrong ones are told where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ugatit_cli.config import ModelConfig
from ugatit_cli.errors import ModelError
from ugatit_cli.weights.manifest import Entry, manifest_path, read_manifest
from ugatit_cli.weights.store import BUNDLED, DEFAULT_MODEL

ENTRY = """schema = 1
[models.cats]
description = "Cats"
domains = ["cat", "dog"]
image_size = 128
licence = "MIT"
training_data = "pictures"
source = "import"
instructions = "ask"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "manifest.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_manifest_of_the_package() -> None:
    entries = read_manifest()
    assert manifest_path().is_file()
    assert entries[DEFAULT_MODEL].source == "bundled"
    for name, entry in entries.items():
        assert entry.name == name
        # Names and sizes that a config takes.
        ModelConfig(domain_a=entry.domains[0], domain_b=entry.domains[1], image_size=entry.image_size)
        if entry.source == "bundled":
            assert (BUNDLED / name / "config.json").is_file(), f"{name} is said to be bundled"
        else:
            assert re.search(rf"ugatit convert .*--name {name}\b", entry.instructions)


def test_an_entry(tmp_path: Path) -> None:
    expected = Entry("cats", "Cats", ("cat", "dog"), 128, "MIT", "pictures", "import", "ask")
    assert read_manifest(write(tmp_path, ENTRY)) == {"cats": expected}


def test_entries_keep_their_order(tmp_path: Path) -> None:
    text = ENTRY + ENTRY.removeprefix("schema = 1\n").replace("models.cats", "models.birds")
    assert list(read_manifest(write(tmp_path, text))) == ["cats", "birds"]


def test_a_bundled_model_needs_no_instructions(tmp_path: Path) -> None:
    text = ENTRY.replace('"import"', '"bundled"').replace('instructions = "ask"', "")
    entry = read_manifest(write(tmp_path, text))["cats"]
    assert (entry.source, entry.instructions) == ("bundled", "")


def test_an_empty_manifest(tmp_path: Path) -> None:
    assert read_manifest(write(tmp_path, "schema = 1")) == {}


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("schema = 1", "", "schema is None"),
        ("schema = 1", "schema = 2", "schema is 2, this ugatit reads 1"),
        ("schema = 1", "schema = ", "can't be read"),
        ('description = "Cats"', "", "[models.cats] description: missing"),
        ('licence = "MIT"', "licence = 3", "[models.cats] licence: missing, or not of type str"),
        ("image_size = 128", 'image_size = "128"', "[models.cats] image_size: missing, or not of type int"),
        ("image_size = 128", "image_size = true", "[models.cats] image_size: missing, or not of type int"),
        ('["cat", "dog"]', '"cat,dog"', "[models.cats] domains: missing, or not of type list"),
        ('["cat", "dog"]', '["cat"]', "[models.cats] domains: must be two names"),
        ('["cat", "dog"]', '["cat", 1]', "[models.cats] domains: must be two names"),
        ('"import"', '"hub"', "[models.cats] source: 'hub' is none of bundled, import"),
        ('instructions = "ask"', "", "[models.cats] instructions: missing"),
        ('instructions = "ask"', "instructions = 1", "[models.cats] instructions: "),
        ('"ask"', '"ask"\nsha256 = "0"', "[models.cats] sha256: unknown key"),
        ("[models.cats]", "[models]\ncats = 1\n[other]", "[models.cats]"),
        ("[models.cats]", "models = 1\n[other]", "models"),
    ],
)
def test_mistakes_are_told_where(tmp_path: Path, old: str, new: str, text: str) -> None:
    assert old in ENTRY
    path = write(tmp_path, ENTRY.replace(old, new))
    with pytest.raises(ModelError) as caught:
        read_manifest(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert text in caught.value.message


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="can't be read"):
        read_manifest(tmp_path / "gone.toml")
