"""Data sets of the Hub and parquet files in folders, in the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.datasets.conftest import REPO, TRAIN
from tests.datasets.test_hub_rows import NAME
from tests.datasets.test_parquet import cells, encoded, save
from tests.hub_client import Notes, refused
from tests.hub_server import HubServer
from ugatit_cli.datasets import hub_rows, rows, store
from ugatit_cli.errors import ModelError, UsageError


def of_hub(text: str = NAME, columns: rows.Columns = None) -> Path:
    identity = hub_rows.parse(text)
    assert identity is not None
    return rows.of_hub(identity, columns, Notes())


def test_the_hub_is_asked_once(hub: HubServer) -> None:
    folder = of_hub()
    known = store.read(folder)
    assert known is not None
    assert known.counts == {"testA": 9, "testB": 9, "trainA": 9, "trainB": 9}
    assert (known.domains, known.name, known.paired) == (["selfie", "anime"], NAME, False)
    assert hub.commits(REPO)[-1] in known.source
    assert len(known.sha256) == 2
    asked = len(hub.requests)
    hub.private.add(REPO)
    assert of_hub() == folder
    assert len(hub.requests) == asked


@pytest.mark.usefixtures("hub")
def test_other_columns_are_another_set() -> None:
    first, swapped = of_hub(), of_hub(columns=("imageB", "imageA"))
    assert first != swapped
    assert {path.read_bytes() for path in (first / "trainA").iterdir()} == {
        path.read_bytes() for path in (swapped / "trainB").iterdir()
    }
    assert set(store.stored()) == {NAME, f"{NAME} imageB,imageA"}


def test_nothing_is_kept_of_what_failed(hub: HubServer) -> None:
    with pytest.raises(UsageError, match="imageA, imageB"):
        of_hub(columns=("imageA", "imageC"))
    hub.private.add(REPO)
    refused(of_hub)
    assert not store.stored()
    assert not list(store.store_folder().iterdir())


def test_nothing_to_train_on_is_an_error(hub: HubServer) -> None:
    hub.add("datasets/a/b", {"test.parquet": hub.files(REPO)[TRAIN]})
    assert "trainA" in refused(lambda: of_hub("hub:a/b")).message


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UGATIT_HOME", str(tmp_path / "home"))
    return tmp_path


def test_parquet_in_a_folder_is_written_once(home: Path) -> None:
    folder = home / "horse2zebra"
    columns = {"imageA": cells(1, 2), "imageB": cells(3) + cells(4)}
    path = save(folder / "data/train-0.parquet", columns)
    save(folder / ".cache/other.parquet", columns)
    (folder / "README.md").touch()
    found = rows.of_folder(folder, None, Notes())
    assert found is not None
    known = store.read(found)
    assert known is not None
    assert (known.domains, known.counts) == (["horse", "zebra"], {"trainA": 2, "trainB": 2})
    (found / "trainA/00001.png").write_bytes(b"mine")  # not written again
    moved = folder.rename(home / "elsewhere").rename(folder)
    assert rows.of_folder(moved, None, Notes()) == found
    assert (found / "trainA/00001.png").read_bytes() == b"mine"
    save(path, {"imageA": cells(5), "imageB": cells(6)})
    other = rows.of_folder(folder, None, Notes())
    assert other not in (None, found)
    assert other is not None
    assert (other / "trainA/00001.png").read_bytes() == encoded(5)


def test_a_folder_without_parquet_is_none(home: Path) -> None:
    save(home / "x/1/2/3/too_deep.parquet", {"imageA": cells(5), "imageB": cells(6)})
    assert rows.of_folder(home / "x", None, Notes()) is None


def test_only_files_to_test_with_are_no_data_set(home: Path) -> None:
    save(home / "x/test.parquet", {"imageA": cells(5), "imageB": cells(6)})
    with pytest.raises(ModelError, match="trainA"):
        rows.of_folder(home / "x", None, Notes())
