"""Fixtures for tests of the Hub."""

from __future__ import annotations

import pytest

from tests.hub_client import FILES, REPO
from tests.hub_server import HubServer


@pytest.fixture
def filled(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """A Hub with one repository, and a user who is logged in there."""
    hub.add(REPO, FILES)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds slept; nobody waits for them."""
    slept: list[float] = []
    monkeypatch.setattr("ugatit_cli.remote.patience.time.sleep", slept.append)
    return slept
