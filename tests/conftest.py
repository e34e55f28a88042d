"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

SHARED = Path(__file__).parents[2] / "shared"

# Networks in tests are tiny: threads would only wait for each other. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The same examples in every run, so that a red run is due to a change; as slow as a shared machine happens to be.
settings.register_profile("ugatit", deadline=None, derandomize=True)
settings.load_profile("ugatit")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Data and golden outputs that lie beside the checkout of the authors, not in the repository."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"needs {SHARED}/golden, which is not part of the repository")
    return SHARED
