"""The store's place and names; receipts: what was right once is compared with what is there now."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ugatit_cli.remote.records import Stamp
from ugatit_cli.weights import home as home_module
from ugatit_cli.weights.home import Receipt, store_folder, store_path

TEXTS = {"config.json": b"{}", "model.safetensors": b"weights", "deep/x.index": b""}

STAMP = {"size": 1, "sha256": "0" * 64, "mtime_ns": 1}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UGATIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in TEXTS.items():
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "files"


def test_the_store_lies_in_the_users_data_folder_unless_they_name_another(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store_path("my-model_1.0") == store_folder() / "my-model_1.0" == home / "models" / "my-model_1.0"
    for variables, expected in (
        ({"UGATIT_HOME": "~/u"}, Path.home() / "u"),
        ({"UGATIT_HOME": "", "XDG_DATA_HOME": str(home)}, home / "ugatit"),
        ({"UGATIT_HOME": "", "XDG_DATA_HOME": ""}, Path.home() / ".local/share/ugatit"),
    ):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert store_folder() == expected / "models"


def issued(folder: Path, key: str = "mine") -> Receipt:
    receipt = home_module.of_folder(key, folder, TEXTS, "ann/cats", "c" * 40)
    home_module.save(receipt)
    return receipt


def test_a_receipt_says_what_is_there(folder: Path) -> None:
    receipt = issued(folder, "ann/cats@v1")
    for name, data in TEXTS.items():
        status = (folder / name).stat()
        assert receipt.files[name] == Stamp(len(data), hashlib.sha256(data).hexdigest(), status.st_mtime_ns)
    assert (receipt.repository, receipt.commit, receipt.time[-6:]) == ("ann/cats", "c" * 40, "+00:00")
    assert (receipt.is_there(), receipt.untouched(), receipt.damage()) == (True, True, [])
    assert home_module.load("ann/cats@v1") == receipt
    assert home_module.load("ann/cats") is None
    other = issued(folder, "mine")
    (folder / "config.json").unlink()
    assert (other.is_there(), other.untouched()) == (False, False)
    assert other.damage() == [f"{folder / 'config.json'}: missing"]
    assert home_module.load_all() == [receipt, other]
    for _ in range(2):
        home_module.remove("ann/cats@v1")
        assert home_module.load_all() == [other]


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5, unique=True))
def test_keys_never_leave_the_folder_or_meet(keys: list[str]) -> None:
    paths = {home_module._path(key) for key in keys}
    assert len(paths) == len(keys)
    assert {path.parent for path in paths} == {home_module.home_folder() / "receipts"}
    # A name below a folder, never the folder itself or the one above it.
    assert all(path.name.endswith(".json") and len(path.name) > len(".json") for path in paths)


def test_touched_files_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receipt = issued(folder)
    os.utime(folder / "config.json", ns=(1, 1))
    assert not receipt.untouched()
    with monkeypatch.context() as patch:  # a receipt that can't be renewed does not matter
        patch.setenv("UGATIT_HOME", str(folder / "config.json"))
        receipt.check("")
    receipt.check("")
    renewed = home_module.load("mine")
    assert renewed is not None
    assert renewed.untouched()
    assert (renewed.repository, renewed.commit, renewed.folder) == ("ann/cats", "c" * 40, folder)
    monkeypatch.setattr(home_module, "digest_of", lambda _: pytest.fail("read again"))
    renewed.check("")


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": None},
        {"files": {"a": {"size": 1}}},
        {"files": {"a": 1}},
        {"folder": 7},
        {"surprise": 1},
        {"commit": None},
        {"files": None},
        {"files": {}},
        *({"files": {name: STAMP}} for name in ("/etc/passwd", "../x", "", "a\0", "a\ud800")),
        *(
            {"files": {"x": STAMP | wrong}}
            for wrong in ({"sha256": "\ud800"}, {"sha256": ""}, {"size": 10**400, "x": 1})
        ),
        {"folder": "a\0"},
        {"folder": "/a\ud800"},
        {"key": "another"},
        {"commit": "\x1b[31m"},
        {"repository": "../x"},
        *({"files": {"x": STAMP | wrong}} for wrong in ({"size": "1"}, {"sha256": None}, {"mtime_ns": True})),
        *("", "{", "[]", "7", "null", "[" * 100_000, "\udcff"),
    ],
    ids=lambda change: str(change)[:60],
)
def test_receipts_that_make_no_sense_are_none(home: Path, folder: Path, change: dict[str, Any] | str) -> None:
    issued(folder)
    path = home / "receipts" / "mine.json"
    text = change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change)
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert home_module.load("mine") is None
    assert home_module.load_all() == []
