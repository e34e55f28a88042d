"""What is said of a name that nothing has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny
from tests.fetched import fetched, stored, use_folders
from tests.weights.test_catalog import COMMIT, checkpoint
from ugatit_cli.weights.catalog import fetched_models, known_models, nearest, not_found
from ugatit_cli.weights.home import store_folder
from ugatit_cli.weights.manifest import read_manifest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store and a cache with one model each."""
    cache = use_folders(tmp_path, monkeypatch)
    stored("mine")
    fetched(cache, tiny.save(tmp_path / "made"), "tester/a-cat", COMMIT, f"tester/a-cat@{COMMIT}")
    return cache


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("flat2cley", "flat2clay"),
        ("minee", "mine"),
        ("tester/b-cat", f"tester/a-cat@{COMMIT}"),
        ("a-cat", f"tester/a-cat@{COMMIT}"),
        ("testr", f"tester/a-cat@{COMMIT}"),
        ("mine", "mine"),
        ("zzzz", ""),
        ("", ""),
    ],
)
def test_the_nearest(name: str, near: str) -> None:
    assert nearest(name) == near


def test_official_checkpoints_and_the_store_are_not_from_the_hub(cache: Path) -> None:
    checkpoint(cache, read_manifest()["selfie2anime"])
    assert [receipt.key for receipt in fetched_models()] == [f"tester/a-cat@{COMMIT}"]
    assert known_models() == sorted([*read_manifest(), "mine"])


def test_the_error() -> None:
    error = not_found("a-kat")
    assert error.message == (
        f"no model 'a-kat': no such folder, nothing of that name in {store_folder()}, not in the manifest"
    )
    assert error.hint.startswith(f"Did you mean tester/a-cat@{COMMIT}? Known models: cat2dog, ")
    assert not_found("zzzz").hint.startswith("Known models: cat2dog, ")
