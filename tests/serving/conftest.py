"""One server for most tests, as it keeps nothing of a request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny
from tests.serving.server import Served, serving
from ugatit_cli.methods.configs import MUNITConfig

MUNIT = MUNITConfig("horses", "zebras", 32, channels=4, blocks=1)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """U-GAT-IT's, one of one way, one without attention, one with styles."""
    folder = tmp_path_factory.mktemp("served")
    configs = {"light": tiny.LIGHT, "way": tiny.ONE_WAY, "cycle": tiny.CYCLEGAN, "styled": MUNIT}
    return {name: tiny.save(folder / name, config) for name, config in configs.items()}


@pytest.fixture(scope="session")
def served(models: dict[str, Path]) -> Iterator[Served]:
    with serving(*models.values(), upload=200_000, pixels=1_000_000, queue=8) as server:
        yield server
