"""A headless Chromium for tests of pages; never asks the network for a driver."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

FLAGS = ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "hide-scrollbars", "no-first-run")


@contextlib.contextmanager
def chromium(*flags: str) -> Iterator[Chrome]:
    """A browser with an empty profile; skips the test where there is none.

    Args:
        flags: more of the command line, without `--`.
    """
    pytest.importorskip("selenium", reason="needs selenium, which drives the browser")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, *flags, f"user-data-dir={profile}"):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            yield opened
        finally:
            opened.quit()


def resize(browser: Chrome, width: int, height: int, *, scale: float = 1, touch: bool = False) -> None:
    """Gives the page a viewport of this many CSS pixels, also narrower than any window."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": touch}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})
