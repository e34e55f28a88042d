"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

    from tests.hub_server import HubServer
    from tests.web_server import WebServer

GOLDEN = Path(__file__).parent / "golden"

# Networks in tests are tiny: threads would only wait for each other. Read when torch is imported.
THREADS = int(os.environ.setdefault("OMP_NUM_THREADS", "1"))
# With more of them, as the commands do: see `benchmarks/busy.py`.
os.environ.setdefault("GOMP_SPINCOUNT", "500")
# No test asks a Hub but one that it has started itself: the `hub` fixture.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The same examples in every run, so that a red run is due to a change; as slow as a shared machine happens to be.
settings.register_profile("ugatit", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("ugatit")


def pytest_collection_finish() -> None:
    """What was imported stays: nobody need look again and again whether it is garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def the_same_start() -> None:
    """Whichever tests ran before in this process."""
    import torch

    torch.manual_seed(0)
    if torch.get_num_threads() != THREADS:  # more of them than cores take ten times as long
        torch.set_num_threads(THREADS)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """A training waits dozens of times, on a slow disk longer than it computes; programs of their own still do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which fails where that would: of a file that isn't open
        yield


@pytest.fixture(autouse=True)
def no_manifest_of_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.delenv("UGATIT_MANIFEST", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))


@pytest.fixture(scope="session")
def golden() -> Path:
    """Outputs, weights and steps of the official codes, recorded: see the READMEs in it."""
    return GOLDEN


@pytest.fixture(scope="session")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with random weights for losses that compare features."""
    import torch
    from safetensors.torch import save_file

    from tests.methods.test_vgg import weights

    path = tmp_path_factory.mktemp("vgg") / "vgg19.safetensors"
    save_file(weights(torch.float16), path)
    return str(path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """An empty Hub in this process, `serve()`d to others; the store and the Hub's cache are empty folders."""
    from tests.hub_client import in_process
    from tests.hub_server import HubServer

    with in_process(monkeypatch, tmp_path, HubServer()) as server:
        yield server


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WebServer]:
    """All of the web in this process, empty, `serve()`d to others as a mirror; as `hub`, which is in it."""
    from tests.hub_client import in_process
    from tests.web_server import WebServer

    with in_process(monkeypatch, tmp_path, WebServer()) as server:
        yield server


@pytest.fixture(scope="session")
def started_browser() -> Iterator[Chrome]:
    """For all pages: to start one takes longer than most tests."""
    from tests.browser import chromium

    with chromium("force-prefers-reduced-motion") as opened:
        opened.get("about:blank")  # and not the browser's own page, which loads much
        yield opened


@pytest.fixture
def browser(started_browser: Chrome) -> Chrome:
    """It still shows the page of the test before, of which its logs say nothing any more."""
    for log in ("browser", "performance"):
        started_browser.get_log(log)  # type: ignore[no-untyped-call]
    return started_browser


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The Hub's cache: empty, as the store and the working folder are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UGATIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny model folder with discriminators, `made`, whose hashes nobody has recorded."""
    from tests import tiny

    folder = tiny.save(tmp_path / "made", discriminators=True)
    (folder / "SHA256SUMS").unlink()
    return folder


@pytest.fixture(params=["direct", "winograd"])
def convolutions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to compute; the networks of tests are too small for Winograd's algorithm, but for this."""
    from ugatit_cli.nn import winograd

    if request.param == "winograd":
        for least in (name for name in vars(winograd) if name.startswith("FEWEST_")):
            monkeypatch.setattr(winograd, least, 1)
