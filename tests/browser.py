"""A headless Chromium for tests of pages; never asks the network for a driver."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        options.add_experimental_option("prefs", {"download.default_directory": profile})
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


def js(browser: Chrome, script: str, *values: Any) -> Any:
    """The value of an expression."""
    return browser.execute_script(f"return {script}", *values)


def visible(browser: Chrome, selector: str) -> bool:
    return bool(js(browser, "document.querySelector(arguments[0]).checkVisibility()", selector))


def press(browser: Chrome, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def tap(browser: Chrome, element: Any) -> None:
    """A short touch of a finger, in the middle."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    chain = ActionChains(browser, duration=50, devices=[PointerInput("touch", "touch")])  # type: ignore[no-untyped-call]
    chain.w3c_actions.pointer_action.move_to(element).pointer_down().pointer_up()  # type: ignore[no-untyped-call]
    chain.w3c_actions.perform()


def download(browser: Chrome, folder: Path, button: Any, kind: str = "json") -> Path:
    """What a click on a button downloads into a folder without files of that kind, whose names end so."""
    from selenium.webdriver.support.wait import WebDriverWait

    folder.mkdir(parents=True, exist_ok=True)
    behaviour = {"behavior": "allow", "downloadPath": str(folder.resolve())}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    button.click()
    # Under its name there may be an empty file first, which the whole one replaces.
    found = WebDriverWait(browser, 20, 0.05).until(
        lambda _: [path for path in folder.glob(f"*.{kind}") if path.stat().st_size]
    )
    assert len(found) == 1
    return found[0]
