"""Fixtures for the tests of training runs."""

from __future__ import annotations

import pytest

from tests.trainings import make_folders
from ugatit_cli.data.pictures import Folders


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Two folders of 10 tiny pictures; not to be changed."""
    return make_folders(tmp_path_factory.mktemp("pictures"))


class Clock:
    """That of the schedule: stands still until it is told otherwise."""

    now = 5000.0

    def monotonic(self) -> float:
        return self.now

    def tick(self, seconds: float = 15) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("ugatit_cli.training.schedule.time", clock)
    return clock
