"""What the Hub for tests answers: the real client downloads and uploads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._runtime import is_xet_available

from tests.hub_requests import FILES, REPO, WEIGHTS, api, ask, at, download, filled_hub, stored
from tests.hub_server import HubServer

# The client warns of itself when it uploads to LFS.
uploads = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with filled_hub(monkeypatch, tmp_path) as hub:
        yield hub


def test_downloads(hub: HubServer, tmp_path: Path) -> None:
    assert {name: download(hub, tmp_path, name, hub.token) for name in FILES} == FILES
    assert hub.bytes_sent() == sum(map(len, FILES.values()))
    assert hub.bytes_sent("model") == len(WEIGHTS)
    assert download(hub, tmp_path) == WEIGHTS  # from the cache
    assert hub.bytes_sent("model") == len(WEIGHTS)
    assert not is_xet_available()


def test_files_in_lfs_come_from_another_origin_that_sees_no_token(hub: HubServer, tmp_path: Path) -> None:
    download(hub, tmp_path, token=hub.token)
    first, second = hub.requests
    assert (first.method, first.status, first.headers["authorization"]) == ("HEAD", 302, f"Bearer {hub.token}")
    assert (second.method, second.status, second.sent) == ("GET", 200, len(WEIGHTS))
    assert second.headers["host"].startswith("localhost:")
    assert "authorization" not in second.headers
    redirect = ask(hub, at("model.safetensors"))
    assert redirect.headers["x-linked-etag"] == f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    assert redirect.headers["x-linked-size"] == str(len(WEIGHTS))
    assert ask(hub, stored(hub).partition("?")[0]).status == 403


def test_git_ids(hub: HubServer) -> None:
    expected = hashlib.sha1(b"blob 9\0" + FILES["config.json"]).hexdigest()
    assert ask(hub, at("config.json"), method="HEAD").headers["etag"] == f'"{expected}"'


def test_revisions(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "folder/sub").mkdir(parents=True)
    (tmp_path / "folder/sub/config.json").write_bytes(b"new")
    second = hub.add(REPO, tmp_path / "folder")
    first = hub.commits(REPO)[0]
    assert hub.commits(REPO) == [first, second]
    assert hub.files(REPO) == FILES | {"sub/config.json": b"new"}
    assert hub.files(REPO, first) == FILES
    assert ask(hub, at("sub/config.json", second)).body == b"new"
    assert ask(hub, at("sub/config.json")).headers["x-repo-commit"] == second
    assert ask(hub, at("sub/config.json", first)).status == 404


def test_what_does_not_exist(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(EntryNotFoundError):
        download(hub, tmp_path, "missing")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(REPO, "config.json", revision="0" * 40, endpoint=hub.url, cache_dir=tmp_path, token=False)
    for token, status in ((False, 401), (hub.token, 404)):
        with pytest.raises(RepositoryNotFoundError) as caught:
            HfApi(endpoint=hub.url, token=token).model_info("no/body")
        assert caught.value.response.status_code == status
    assert ask(hub, "/api/else").status == 404


def test_private_and_gated(hub: HubServer, tmp_path: Path) -> None:
    hub.gated.add(REPO)
    assert HfApi(endpoint=hub.url, token=False).model_info(REPO).gated == "auto"
    with pytest.raises(GatedRepoError):
        download(hub, tmp_path)
    hub.private.add(REPO)
    with pytest.raises(RepositoryNotFoundError):
        download(hub, tmp_path)
    with pytest.raises(HfHubHTTPError, match="Invalid credentials in Authorization header"):
        download(hub, tmp_path, token="hf_wrong")
    assert hub.bytes_sent() == 0
    assert download(hub, tmp_path, token=hub.token) == WEIGHTS


def test_information(hub: HubServer) -> None:
    info = api(hub).model_info(REPO, files_metadata=True)
    files = {file.rfilename: file for file in info.siblings or []}
    assert info.sha == hub.commits(REPO)[-1]
    assert {name: file.size for name, file in files.items()} == {name: len(data) for name, data in FILES.items()}
    lfs = files["model.safetensors"].lfs
    assert lfs
    assert (lfs.sha256, lfs.size) == (hashlib.sha256(WEIGHTS).hexdigest(), len(WEIGHTS))
    assert files["config.json"].lfs is None
    (bare, *_) = api(hub).model_info(REPO, revision=info.sha).siblings or []
    assert bare.size is None
    assert api(hub).whoami()["name"] == "tester"


def test_trees(hub: HubServer) -> None:
    top = [entry.path for entry in api(hub).list_repo_tree(REPO)]
    assert top == ["extra", "config.json", "model.safetensors"]
    assert [entry.path for entry in api(hub).list_repo_tree(REPO, "extra")] == ["extra/notes.txt"]
    assert set(api(hub).list_repo_files(REPO)) == set(FILES)
    with pytest.raises(EntryNotFoundError):
        list(api(hub).list_repo_tree(REPO, "missing"))


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-", 206, slice(0, None)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=100-199", 206, slice(100, 200)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=255990-999999", 206, slice(255990, None)),
        ("bytes=256000-", 416, slice(0, 0)),
        ("bytes=1-2,4-5", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
    ],
)
def test_ranges(hub: HubServer, asked: str, status: int, part: slice) -> None:
    reply = ask(hub, stored(hub), {"Range": asked})
    assert (reply.status, reply.body) == (status, WEIGHTS[part])
    if status == 206:
        start, stop, _ = part.indices(len(WEIGHTS))
        assert reply.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(WEIGHTS)}"
    if status == 416:
        assert reply.headers["content-range"] == f"bytes */{len(WEIGHTS)}"


def test_ranges_of_another_version(hub: HubServer) -> None:
    path = stored(hub)
    etag = ask(hub, path, method="HEAD").headers["etag"]
    assert ask(hub, path, {"Range": "bytes=9-", "If-Range": etag}).body == WEIGHTS[9:]
    assert ask(hub, path, {"Range": "bytes=9-", "If-Range": '"else"'}).body == WEIGHTS


@uploads
def test_an_upload_and_back(hub: HubServer, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(WEIGHTS[::-1])
    (folder / "samples.png").write_bytes(b"\x89PNG\0")  # binary, so in LFS
    (folder / "sub/README.md").write_text("text")
    url = api(hub).create_repo("mine", private=True)
    repo = url.repo_id
    assert repo == "tester/mine"
    info = api(hub).upload_folder(repo_id=repo, folder_path=folder)
    assert hub.commits(repo)[-1] == info.oid
    expected = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert hub.files(repo) == expected | {".gitattributes": hub.files(repo)[".gitattributes"]}
    for name, data in expected.items():
        path = hf_hub_download(repo, name, endpoint=hub.url, cache_dir=tmp_path, token=hub.token)
        assert Path(path).read_bytes() == data
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download(repo, "model.safetensors", endpoint=hub.url, cache_dir=tmp_path / "other", token=False)
    puts = [request for request in hub.requests if request.method == "PUT"]
    assert len(puts) == 2
    assert not any("authorization" in request.headers for request in puts)


@uploads
def test_commits(hub: HubServer) -> None:
    first = hub.commits(REPO)[-1]
    add, delete = CommitOperationAdd("config.json", b"{}"), CommitOperationDelete("extra/notes.txt")
    second = api(hub).create_commit(REPO, [add, delete], commit_message="change", parent_commit=first).oid
    assert hub.files(REPO) == {"config.json": b"{}", "model.safetensors": WEIGHTS}
    again = [CommitOperationAdd("config.json", b"{}"), CommitOperationAdd("model.safetensors", WEIGHTS)]
    assert api(hub).create_commit(REPO, again, commit_message="nothing new").oid == second
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        api(hub).create_commit(REPO, [CommitOperationAdd("x", b"x")], commit_message="late", parent_commit=first)
    with pytest.raises(EntryNotFoundError):
        api(hub).create_commit(REPO, [CommitOperationDelete("missing")], commit_message="x")
    assert hub.commits(REPO) == [first, second]


def test_repositories_are_made_once_and_only_with_the_token(hub: HubServer) -> None:
    with pytest.raises(HfHubHTTPError, match="409"):
        api(hub).create_repo(REPO)
    assert api(hub).create_repo(REPO, exist_ok=True).repo_id == REPO
    for token in (False, "hf_wrong"):
        client = HfApi(endpoint=hub.url, token=token)
        with pytest.raises(HfHubHTTPError, match="401"):
            client.create_repo("other")
        with pytest.raises(HfHubHTTPError, match="401"):
            client.create_commit(REPO, [CommitOperationAdd("x", b"x")], commit_message="x")
    assert len(hub.commits(REPO)) == 1


def test_a_model_card_without_metadata_is_warned_of(hub: HubServer) -> None:
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        api(hub).create_commit(REPO, [CommitOperationAdd("README.md", b"text")], commit_message="x")


def test_broken_uploads(hub: HubServer) -> None:
    signature = stored(hub).partition("?")[2]
    oid = hashlib.sha256(b"right").hexdigest()
    assert ask(hub, f"/upload/{oid}", method="PUT", body=b"right").status == 403
    assert ask(hub, f"/upload/{oid}?{signature}", method="PUT", body=b"wrong").status == 400
    line = {"key": "lfsFile", "value": {"path": "model.safetensors", "oid": oid, "size": 5, "algo": "sha256"}}
    bearer = {"Authorization": f"Bearer {hub.token}"}
    commit = f"/api/models/{REPO}/commit/main"
    assert ask(hub, commit, bearer, "POST", json.dumps(line).encode()).status == 400
    assert ask(hub, f"/upload/{oid}?{signature}", method="PUT", body=b"right").status == 200
    assert ask(hub, commit, bearer, "POST", json.dumps(line).encode()).status == 200
    assert hub.files(REPO)["model.safetensors"] == b"right"


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "a/./b", "a\\b", "", ".git/config"])
def test_names_stay_inside(hub: HubServer, name: str) -> None:
    with pytest.raises(ValueError, match="not a path in a repository"):
        hub.add(REPO, {name: b""})
    line = json.dumps({"key": "file", "value": {"path": name, "content": "", "encoding": "base64"}}).encode()
    reply = ask(hub, f"/api/models/{REPO}/commit/main", {"Authorization": f"Bearer {hub.token}"}, "POST", line)
    assert reply.status == 400
    assert hub.files(REPO) == FILES


@pytest.mark.parametrize("name", ["../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd"])
def test_no_file_of_the_machine_is_served(hub: HubServer, name: str) -> None:
    assert ask(hub, at(name)).status == 404
    assert ask(hub, f"/{name}").status == 404
