"""Plain requests and the real client's, to a Hub on loopback that holds one repository."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi, constants, hf_hub_download

from tests.hub_server import HubServer, hub_server

REPO = "someone/flat2clay"
WEIGHTS = bytes(range(256)) * 1000
FILES = {"config.json": b'{"a": 1}\n', "model.safetensors": WEIGHTS, "extra/notes.txt": b""}


@contextmanager
def filled_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[HubServer]:
    """A Hub that holds `REPO`; this process has no token, and uses neither Xet nor the public Hub."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    with hub_server() as hub:
        hub.add(REPO, FILES)
        yield hub


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


def port(hub: HubServer) -> int:
    return int(hub.url.rpartition(":")[2])


def ask(
    hub: HubServer, path: str, headers: dict[str, str] | None = None, method: str = "GET", body: bytes | None = None
) -> Reply:
    """One plain request; a timeout while the body comes is a `TimeoutError`."""
    connection = HTTPConnection("127.0.0.1", port(hub), timeout=0.5)
    try:
        connection.request(method, path, body, headers or {})
        with connection.getresponse() as response:
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def at(name: str, revision: str = "main") -> str:
    return f"/{REPO}/resolve/{revision}/{name}"


def stored(hub: HubServer, name: str = "model.safetensors") -> str:
    """The path to which the Hub redirects for a file in LFS."""
    parts = urlsplit(ask(hub, at(name), method="HEAD").headers["location"])
    return f"{parts.path}?{parts.query}"


def download(hub: HubServer, cache: Path, name: str = "model.safetensors", token: str | bool = False) -> bytes:
    path = hf_hub_download(REPO, name, endpoint=hub.url, cache_dir=cache, token=token)
    return Path(path).read_bytes()


def api(hub: HubServer) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token)
