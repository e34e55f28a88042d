"""Models for pictures: one that gives its input back, and a trained one on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny
from tests.pipelines import Unchanged, unchanging
from ugatit_cli.translation.model import Model


@pytest.fixture
def network() -> Unchanged:
    """Both generators of `model`."""
    return Unchanged()


@pytest.fixture
def model(network: Unchanged) -> Model:
    """A model that gives its input back."""
    return unchanging(network)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model with discriminators."""
    return tiny.save(tmp_path_factory.mktemp("models") / "light", discriminators=True)
