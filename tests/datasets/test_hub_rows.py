"""Data sets of the Hub, on the one of `hub_server`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants, scan_cache_dir

from tests.datasets.conftest import REPO, TRAIN
from tests.hub_client import Notes, refused
from tests.hub_server import Fault, HubServer
from ugatit_cli.data.pictures import Split
from ugatit_cli.datasets import hub_rows
from ugatit_cli.errors import UsageError
from ugatit_cli.remote.hub import HubId
from ugatit_cli.remote.records import FileRecord

NAME = "hub:huggan/selfie2anime"


def fetch(tmp_path: Path, text: str = NAME, record: FileRecord | None = None) -> Mapping[Split, int]:
    identity = hub_rows.parse(text)
    assert identity is not None
    target = tmp_path / "out"
    target.mkdir(exist_ok=True)
    files = hub_rows.files_of(identity, Notes())
    written, hashes = hub_rows.write_out(files, target, Notes(), records={TRAIN: record})
    assert TRAIN in hashes
    return written.counts


COUNTS = {"trainA": 9, "trainB": 9, "testA": 9, "testB": 9}


@pytest.mark.parametrize("pinned", [False, True])
def test_a_data_set_is_fetched_and_leaves_nothing_else(hub: HubServer, tmp_path: Path, pinned: bool) -> None:
    commit = hub.commits(REPO)[-1]
    assert fetch(tmp_path, f"{NAME}{f'@{commit}' if pinned else ''}") == COUNTS
    assert [path.name for path in Path(constants.HF_HUB_CACHE).iterdir()] == [".locks"]


def test_what_was_in_the_cache_is_used_and_stays(hub: HubServer, tmp_path: Path) -> None:
    huggingface_hub.hf_hub_download("huggan/selfie2anime", TRAIN, repo_type="dataset")
    sent = hub.bytes_sent(TRAIN)
    assert fetch(tmp_path) == COUNTS
    assert hub.bytes_sent(TRAIN) == sent
    ((kept,),) = (repo.revisions for repo in scan_cache_dir(constants.HF_HUB_CACHE).repos)
    assert [file.file_name for file in kept.files] == [Path(TRAIN).name]


def test_content_that_another_commit_has_stays(hub: HubServer, tmp_path: Path) -> None:
    path = Path(huggingface_hub.hf_hub_download("huggan/selfie2anime", TRAIN, repo_type="dataset"))
    hub.add(REPO, {"README.md": b"new"})
    assert fetch(tmp_path) == COUNTS
    assert path.read_bytes() == hub.files(REPO)[TRAIN]


def test_what_broke_off_goes_on(hub: HubServer, tmp_path: Path) -> None:
    size = len(hub.files(REPO)[TRAIN])
    fault = hub.fault(Fault("cut", TRAIN, after=size // 4))
    refused(lambda: fetch(tmp_path))
    assert fault.hits
    hub.heal()
    before = hub.bytes_sent(TRAIN)
    assert fetch(tmp_path) == COUNTS
    assert hub.bytes_sent(TRAIN) - before < size


def test_another_file_than_was_stated_is_refused(hub: HubServer, tmp_path: Path) -> None:
    size = len(hub.files(REPO)[TRAIN])
    error = refused(lambda: fetch(tmp_path, record=FileRecord(size, 64 * "0")))
    assert TRAIN in error.message
    assert not list((tmp_path / "out").iterdir())


def test_a_repository_without_parquet_says_what_it_has(hub: HubServer, tmp_path: Path) -> None:
    hub.add("datasets/gigant/horse2zebra", {"horse2zebra.py": b"script"})
    error = refused(lambda: fetch(tmp_path, "hub:gigant/horse2zebra"))
    assert ".py" in error.message
    assert "hub:gigant/horse2zebra@refs/convert/parquet" in error.hint


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("text", ["hub:nobody/nothing", "hub:huggan/selfie2anime@elsewhere"])
def test_what_is_not_there_is_named(tmp_path: Path, text: str) -> None:
    assert text[4:].rpartition("@")[2] in refused(lambda: fetch(tmp_path, text)).message


def test_private_data_sets_and_web_pages_are_refused(hub: HubServer, tmp_path: Path) -> None:
    hub.fault(Fault("html", "revision/main"))
    refused(lambda: fetch(tmp_path))
    hub.heal()
    hub.private.add(REPO)
    assert "huggan/selfie2anime" in refused(lambda: fetch(tmp_path), hub.token).message


def test_offline_it_is_taken_from_the_cache_alone(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huggingface_hub.hf_hub_download("huggan/selfie2anime", TRAIN, repo_type="dataset")
    asked = len(hub.requests)
    monkeypatch.setenv("UGATIT_OFFLINE", "1")
    assert fetch(tmp_path) == {"trainA": 9, "trainB": 9}  # all that is there
    assert "hub:a/b"[4:] in refused(lambda: fetch(tmp_path, "hub:a/b")).message
    assert len(hub.requests) == asked


@pytest.mark.parametrize("text", ["hub:", "hub:x", "hub:a/b/c", "hub:../x", "hub:a/b@"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        hub_rows.parse(text)


def test_anything_else_is_none_of_them() -> None:
    assert hub_rows.parse("huggan/selfie2anime") is None
    assert hub_rows.parse("hub:a/b@x/y") == HubId("datasets/a/b", "x/y")
