"""The Hub of `hub_server` as the one that `huggingface_hub` and `ugatit` talk to: in this process and in others."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, TypeVar

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _detect_agent, _http

from tests.hub_api import Answer, Call
from tests.hub_server import HubServer, http
from ugatit_cli.errors import ModelError
from ugatit_cli.remote import hub_download, patience, transfer
from ugatit_cli.remote.hub import HubId, RemoteFile
from ugatit_cli.remote.patience import Patience

# A repository for tests of the Hub: a file in LFS, and one that is not.
REPO: Final = "someone/flat2clay"
NAME: Final = "model.safetensors"
WEIGHTS: Final = random.Random(2).randbytes(50_000) * 6
SIZE: Final = len(WEIGHTS)
SHA256: Final = hashlib.sha256(WEIGHTS).hexdigest()
FILES: Final = {NAME: WEIGHTS, "config.json": b'{"a": 1}\n'}


Server = TypeVar("Server", bound=HubServer)


class Notes:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.begun: list[tuple[str, int | None, int]] = []
        self.received = 0
        self.ended = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def begin(self, label: str, size: int | None, done: int, unit: str = "bytes") -> None:  # noqa: ARG002
        self.begun.append((label, size, done))

    def advance(self, count: int) -> None:
        self.received += count

    def end(self) -> None:
        self.ended += 1


def remote(name: str = NAME, revision: str = "main") -> RemoteFile:
    """What the Hub tells of a file."""
    found = hub_download.locate(HubId(REPO, revision), name, Notes())
    assert found is not None
    return found


def refused(call: Callable[[], object], *secrets: str) -> ModelError:
    """The error that a call ends with: one line that holds no secret."""
    with pytest.raises(ModelError) as caught:
        call()
    error = caught.value
    assert "\n" not in error.message
    assert len(error.message) < 500
    assert not [secret for secret in (*secrets, "signature") if secret in error.message + error.hint]
    return error


def point_at(monkeypatch: pytest.MonkeyPatch, url: str, folder: Path) -> None:
    """Everything that this process does with a Hub happens at `url` and below `folder`, quickly and without a token.

    `huggingface_hub` reads the environment when it is imported, so its constants are set.
    """
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING_FACE", "HUGGINGFACE", "UGATIT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UGATIT_HOME", str(folder / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    for name, value in {
        "ENDPOINT": url,
        "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(folder / "cache"),
        "HF_TOKEN_PATH": str(folder / "token"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(_detect_agent, "_registry", {})
    monkeypatch.setattr(
        patience, "PATIENCE", Patience(attempts=3, wait=0.01, longest_wait=2.0, window=0.3, least=2000)
    )


@contextmanager
def in_process(monkeypatch: pytest.MonkeyPatch, folder: Path, server: Server) -> Iterator[Server]:
    """A server, with this process pointed at it; its time passes as the server says, not as the clock does."""
    point_at(monkeypatch, server.url, folder)
    monkeypatch.setattr(transfer, "time", SimpleNamespace(monotonic=lambda: server.now))

    def client() -> Any:
        hooks = {"request": [_http.hf_request_event_hook]}
        transport = http.MockTransport(server.handle)
        return http.Client(transport=transport, event_hooks=hooks, follow_redirects=True, trust_env=False)

    huggingface_hub.set_client_factory(client)
    try:
        yield server
    finally:
        huggingface_hub.set_client_factory(_http.default_client_factory)
        server.stop()


@contextmanager
def altered(hub: HubServer, change: Callable[[Call, Answer], Answer]) -> Iterator[None]:
    """The Hub gives other answers."""
    answer = hub.answer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "answer", lambda call: change(call, answer(call)))
        yield


def environment(url: str, folder: Path, **more: str) -> dict[str, str]:
    """The environment of another process that is pointed at `url` in the same way."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "UGATIT_"))}
    return kept | {
        "HF_ENDPOINT": url,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_CACHE": str(folder / "cache"),
        "HF_HUB_DISABLE_XET": "1",
        "UGATIT_HOME": str(folder / "home"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "OMP_NUM_THREADS": "1",
        **more,
    }
