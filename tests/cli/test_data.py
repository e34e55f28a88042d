"""`ugatit data`: lists, facts, fetching, removal, all of it without a network."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.cli.conftest import Command, Outcome, below, encoded
from ugatit_cli.datasets import store
from ugatit_cli.datasets.catalog import TABLES

COUNTS = {"trainA": 2, "trainB": 3, "testA": 1, "testB": 1}
OWN = """\
schema = 2
[data.tiny]
description = "Two and three pictures"
domains = ["spot", "stripe"]
image_size = 32
licence = "CC0"
source = "zip"
url = "https://example.invalid/tiny.zip"
aliases = ["small"]
made_by = "somebody"
read_at = ["a page"]
verified = false
"""


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a data set that the user's manifest knows."""
    manifest = tmp_path / "manifest.toml"
    manifest.write_text(OWN)
    monkeypatch.setenv("UGATIT_MANIFEST", str(manifest))
    path = tmp_path / "downloaded.zip"
    with zipfile.ZipFile(path, "w") as file:
        for index, (folder, count) in enumerate(COUNTS.items()):
            for number in range(count):
                file.writestr(f"tiny/{folder}/{number}.png", encoded(size=(16 + index, 16 + number)))
    return path


def row(outcome: Outcome, name: str) -> list[str]:
    line = next(line for line in outcome.lines if line.split("  ")[0] == name)
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_from_nothing_to_a_data_set_and_back(ugatit: Command, archive: Path) -> None:
    entries = TABLES.read()
    outcome = ugatit("data")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert len(outcome.lines) == 1 + len(entries)
    away = ["tiny", "spot, stripe", "not stated *", "not stated", "not fetched, unverified", "example.invalid", "CC0"]
    assert row(outcome, "tiny") == away
    assert ugatit("data", "path", "tiny").code == 3
    fetched = ugatit("data", "fetch", "tiny", "--from-file", archive)
    assert fetched.code == 0, fetched.stderr
    folder = store.path_of("tiny")
    assert fetched.lines == [str(folder)] == ugatit("data", "path", "small").lines
    assert {name: len(below(folder / name)) for name in COUNTS} == COUNTS
    assert "CC0" in fetched.stderr
    assert "ugatit train --data tiny" in fetched.stderr
    here = ugatit("data")
    assert row(here, "tiny")[3:5] == ["2 + 3", "ready"]
    assert here.lines[1].startswith("tiny ")
    assert ugatit("data", "rm", "tiny").code == 2
    assert folder.is_dir()
    gone = ugatit("data", "rm", "small", "--yes")
    assert (gone.code, folder.exists()) == (0, False)
    assert ugatit("data") == outcome


@pytest.mark.usefixtures("archive")
def test_what_is_known_before_anything_is_downloaded(ugatit: Command) -> None:
    text = ugatit("data", "show", "small").stdout.decode()
    for fact in (
        "tiny",
        "small",
        "A: spot, B: stripe",
        "somebody",
        "https://example.invalid/tiny.zip",
        "a page",
        "CC0",
    ):
        assert fact in text
    assert "nobody of this project has downloaded it" in text
    found = {one["name"]: one for one in json.loads(ugatit("data", "--json").stdout)}
    assert list(found) == list(TABLES.read())
    tiny = found["tiny"]
    assert {"status": "done", "exit": 0} | tiny == json.loads(ugatit("data", "show", "tiny", "--json").stdout)
    assert (tiny["verified"], tiny["state"], tiny["sha256"], tiny["path"]) == (
        False,
        "not fetched",
        {"tiny.zip": None},
        None,
    )
    for entry in TABLES.read().values():
        text = ugatit("data", "show", entry.name).stdout.decode()
        assert entry.licence in text
        assert all(place in text for place in entry.read_at)
        assert (entry.url or entry.repository or "npm") in text


def test_a_look_changes_nothing(ugatit: Command, archive: Path, tmp_path: Path) -> None:
    outcome = ugatit("data", "fetch", "tiny", "--dry-run")
    assert (outcome.code, outcome.lines) == (0, ["tiny\tnot stated\tto download"])
    assert "CC0" in outcome.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([archive.name, "manifest.toml"])
    assert ugatit("data", "fetch", "tiny", "--dry-run", "--from-file", archive).code == 2


def test_a_folder_of_ones_own(ugatit: Command, archive: Path) -> None:
    for force in ((), ("--force",)):
        outcome = ugatit("data", "fetch", "tiny", "-o", "mine", "--from-file", archive, *force)
        assert (outcome.code, Path("mine/trainA").is_dir()) == (0, True), outcome.stderr
        assert "ugatit train --data" in outcome.stderr
    assert ugatit("data", "fetch", "tiny", "-o", "mine", "--from-file", archive).code == 2
    assert row(ugatit("data"), "tiny")[4] == "not fetched, unverified"


def test_damage_is_told(ugatit: Command, archive: Path) -> None:
    ugatit("data", "fetch", "tiny", "--from-file", archive)
    shutil.rmtree(store.path_of("tiny") / "testA")
    assert "problem:" in ugatit("data", "show", "tiny").stdout.decode()


@pytest.mark.parametrize("use", ["show", "fetch", "rm", "path"])
def test_names_that_nothing_has(ugatit: Command, use: str) -> None:
    outcome = ugatit("data", use, "hors2zebra")
    assert (outcome.code, outcome.stdout) == (2, b"")
    assert "hors2zebra" in outcome.errors[0]
    assert "Did you mean horse2zebra?" in outcome.stderr
