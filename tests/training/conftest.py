"""Fixtures for the tests of training runs."""

from __future__ import annotations

import pytest

from tests.trainings import make_folders
from ugatit_cli.data.pictures import Folders


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Two folders of 10 tiny pictures; not to be changed."""
    return make_folders(tmp_path_factory.mktemp("pictures"))
