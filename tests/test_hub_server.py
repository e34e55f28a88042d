"""The Hub for tests goes wrong on demand, stops, and outlives its clients."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from tests.hub_requests import FILES, REPO, WEIGHTS, api, ask, at, download, filled_hub, port, stored
from tests.hub_server import Fault, HubServer, Kind, hub_server


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with filled_hub(monkeypatch, tmp_path) as hub:
        yield hub


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (401, "RepoNotFound", RepositoryNotFoundError),
        (403, "GatedRepo", GatedRepoError),
        (404, "EntryNotFound", EntryNotFoundError),
    ],
)
def test_statuses_that_stay(hub: HubServer, tmp_path: Path, status: int, code: str, error: type[Exception]) -> None:
    fault = hub.fault(Fault("status", status=status))
    reply = ask(hub, at("model.safetensors"))
    assert (reply.status, reply.headers.get("x-error-code")) == (status, code)
    with pytest.raises(error):
        download(hub, tmp_path)
    assert fault.hits == 2
    assert download(hub, tmp_path, "config.json") == FILES["config.json"]
    hub.heal()
    assert download(hub, tmp_path) == WEIGHTS


@pytest.mark.parametrize(("status", "retry_after"), [(429, 7), (429, None), (500, None), (503, 0)])
def test_statuses_that_pass(hub: HubServer, status: int, retry_after: int | None) -> None:
    hub.fault(Fault("status", status=status, retry_after=retry_after, times=1))
    reply = ask(hub, at("model.safetensors"))
    assert (reply.status, "x-error-code" in reply.headers) == (status, False)
    assert reply.headers.get("retry-after") == (None if retry_after is None else str(retry_after))
    assert ask(hub, at("model.safetensors")).status == 302


def test_the_client_tries_again(hub: HubServer, tmp_path: Path) -> None:
    fault = hub.fault(Fault("status", status=429, retry_after=0, times=2))  # one in the quick look, one in earnest
    assert download(hub, tmp_path) == WEIGHTS
    assert fault.hits == 2


def test_an_expired_token(hub: HubServer, tmp_path: Path) -> None:
    hub.fault(Fault("status", status=401))
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        download(hub, tmp_path, token=hub.token)


def test_faults_choose_their_requests(hub: HubServer) -> None:
    hub.fault(Fault("status", file="commit/main", method="POST", times=1))
    hub.fault(Fault("status", method="HEAD", status=500))
    change = [CommitOperationAdd("x", b"x")]
    with pytest.raises(HfHubHTTPError, match="503"):
        api(hub).create_commit(REPO, change, commit_message="x")
    api(hub).create_commit(REPO, change, commit_message="x")
    assert ask(hub, at("model.safetensors"), method="HEAD").status == 500
    assert ask(hub, at("model.safetensors")).status == 302
    hub.fault(Fault("status", file="", status=503))
    assert ask(hub, f"/api/models/{REPO}").status == 503


def test_flip(hub: HubServer, tmp_path: Path) -> None:
    hub.fault(Fault("flip", after=1000))
    data = download(hub, tmp_path)
    assert len(data) == len(WEIGHTS)
    assert [i for i, (a, b) in enumerate(zip(data, WEIGHTS, strict=True)) if a != b] == [1000]
    assert ask(hub, stored(hub), {"Range": "bytes=1001-"}).body == WEIGHTS[1001:]


def test_cut_once_is_resumed_by_the_client(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what it hasn't written yet is lost
    fault = hub.fault(Fault("cut", after=100_000, times=1))
    assert download(hub, tmp_path) == WEIGHTS
    assert fault.hits == 1
    assert [request.sent for request in hub.requests if request.method == "GET"] == [100_000, 156_000]
    assert hub.requests[-1].headers["range"] == "bytes=100000-"


def test_cut_every_time(hub: HubServer) -> None:
    fault = hub.fault(Fault("cut", after=10))
    for start in (0, 10):
        with pytest.raises(IncompleteRead) as caught:
            ask(hub, stored(hub), {"Range": f"bytes={start}-"})
        assert caught.value.partial == WEIGHTS[start : start + 10]
    assert fault.hits == 2
    assert hub.bytes_sent() == 20


def test_drip(hub: HubServer) -> None:
    hub.fault(Fault("drip", file="config.json", after=4, chunk=2, delay=0.05))
    started = time.monotonic()
    assert ask(hub, at("config.json")).body == FILES["config.json"]
    assert 0.15 <= time.monotonic() - started < 1.5  # nine bytes: four at once, then three times up to two


def test_stall(hub: HubServer) -> None:
    path = stored(hub)
    hub.fault(Fault("stall", after=70_000))
    with socket.create_connection(("127.0.0.1", port(hub)), timeout=0.3) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = b""
        while len(received.partition(b"\r\n\r\n")[2]) < 70_000:
            received += connection.recv(1 << 16)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    head, _, body = received.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(WEIGHTS)}".encode() in head
    assert body == WEIGHTS[:70_000]
    assert hub.bytes_sent("model") == 70_000


def test_short(hub: HubServer, tmp_path: Path) -> None:
    hub.fault(Fault("short", after=500))
    path = stored(hub)
    reply = ask(hub, path)
    assert (reply.headers["content-length"], reply.body) == ("500", WEIGHTS[:500])
    assert ask(hub, path, {"Range": "bytes=400-"}).headers["content-range"] == "bytes 400-499/500"
    assert ask(hub, path, {"Range": "bytes=500-"}).status == 416
    with pytest.raises(OSError, match="Consistency check failed"):
        download(hub, tmp_path)


def test_html(hub: HubServer, tmp_path: Path) -> None:
    hub.fault(Fault("html", file=""))
    reply = ask(hub, at("config.json"))
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"<html>" in reply.body
    assert not {"x-repo-commit", "etag"} & set(reply.headers)
    with pytest.raises(LocalEntryNotFoundError, match="X-Repo-Commit"):
        download(hub, tmp_path, "config.json")


def test_redirect_loop(hub: HubServer, tmp_path: Path) -> None:
    fault = hub.fault(Fault("redirect-loop"))
    with pytest.raises(Exception, match="redirects"):
        download(hub, tmp_path)
    assert fault.hits > 3


@pytest.mark.parametrize("kind", ["stall", "drip", None])
def test_stopping_hangs_up(kind: Kind | None) -> None:
    before = threading.active_count()
    started = time.monotonic()
    with hub_server() as hub, closing(HTTPConnection("127.0.0.1", port(hub))) as connection:
        hub.add(REPO, FILES)
        if kind:
            hub.fault(Fault(kind, file="config.json", delay=60))
        connection.request("GET", at("config.json"))
        response = connection.getresponse()
        assert kind or response.read() == FILES["config.json"]
        hub.stop()
        if kind:
            with pytest.raises(IncompleteRead):
                response.read()
        response.close()
    assert threading.active_count() == before
    assert time.monotonic() - started < 2


def test_clients_that_go_away_are_no_failure(hub: HubServer, capfd: pytest.CaptureFixture[str]) -> None:
    big = bytes(8 << 20)
    hub.add(REPO, {"big": big})
    for fault in (None, Fault("drip", file="big", chunk=1, delay=0.01), Fault("stall", file="big")):
        if fault:
            hub.fault(fault)
        with socket.create_connection(("127.0.0.1", port(hub))) as connection:
            connection.sendall(f"GET {at('big')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert connection.recv(1000)
        hub.heal()
    hub.stop()
    assert 0 < hub.bytes_sent("big") < len(big)
    assert not hub.failures
    assert capfd.readouterr() == ("", "")


def test_mistakes_of_the_server_are_raised_at_the_end() -> None:
    hub_with_a_mistake = hub_server()
    hub = hub_with_a_mistake.__enter__()
    hub.add(REPO, FILES)
    hub.fault(Fault("flip", file="config.json", after=1000))
    with pytest.raises(ConnectionError):
        ask(hub, at("config.json"))
    with pytest.raises(IndexError):
        hub_with_a_mistake.__exit__(None, None, None)
