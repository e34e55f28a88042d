"""The page in a browser: pictures dropped, pasted or chosen, sliders, downloads, and words for what fails."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.browser import download, js, press, resize, tap, visible
from tests.cli.conftest import encoded
from tests.serving.server import Served, bomb, serving, white_icon

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

TOKEN = "a-token-of-letters"
# A file as the page gets it from outside, which no script of a page can make otherwise.
TRANSFER = """
const transfer = new DataTransfer();
for (const [name, type, data] of arguments[0]) {
  transfer.items.add(new File([Uint8Array.from(atob(data), (one) => one.charCodeAt(0))], name, { type }));
}
const event = arguments[1] === "paste" ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
  : new DragEvent(arguments[1], { dataTransfer: transfer, bubbles: true, cancelable: true });
document.getElementById("drop").dispatchEvent(event);
"""


@pytest.fixture
def page(browser: Chrome, served: Served) -> Chrome:
    """As somebody sees it who comes, on a desktop."""
    resize(browser, 1280, 900)
    browser.get(served.url)
    until(browser, "!document.getElementById('work').hidden")
    return browser


def until(browser: Chrome, condition: str) -> Any:
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, 30, 0.02).until(lambda _: js(browser, condition))


def settled(browser: Chrome) -> None:
    """When no picture is on its way any more."""
    until(browser, "document.getElementById('progress').hidden")


def find(browser: Chrome, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def bring(browser: Chrome, *files: tuple[str, str, bytes], by: str = "drop") -> None:
    """Drops or pastes files: name, type, content."""
    sent = [[name, kind, base64.b64encode(data).decode()] for name, kind, data in files]
    browser.execute_script(TRANSFER, sent, by)


def png(name: str = "cat.png", size: tuple[int, int] = (24, 20)) -> tuple[str, str, bytes]:
    return name, "image/png", encoded(size=size)


def texts(browser: Chrome, selector: str) -> list[str]:
    return [str(one) for one in js(browser, f"[...document.querySelectorAll('{selector}')].map(x => x.textContent)")]


def split(browser: Chrome, place: int = 1) -> float:
    return float(js(browser, f"document.querySelector('.card:nth-child({place}) .frame input').value"))


def requests_of(browser: Chrome) -> list[str]:
    """All addresses that anything in the browser asked for."""
    entries = browser.get_log("performance")  # type: ignore[no-untyped-call]
    log = [json.loads(one["message"])["message"] for one in entries]
    return [one["params"]["request"]["url"] for one in log if one["method"] == "Network.requestWillBeSent"]


def test_drop_translate_slide_download(page: Chrome, served: Served, tmp_path: Path) -> None:
    bring(page, png(), by="dragover")
    assert visible(page, "#veil")
    bring(page, png())
    assert not visible(page, "#veil")
    settled(page)
    (state,) = texts(page, ".card .state")
    assert state.startswith("24 × 20")
    box = find(page, ".frame").rect
    from selenium.webdriver import ActionChains, Keys

    assert split(page) == 50
    ActionChains(page).drag_and_drop_by_offset(find(page, ".frame"), round(-box["width"] / 4), 0).perform()
    assert split(page) == pytest.approx(25, abs=2)
    press(page, Keys.ARROW_RIGHT)  # it has the focus
    assert split(page) == pytest.approx(26, abs=2)
    assert "% before" in js(page, "document.activeElement.getAttribute('aria-valuetext')")
    saved = download(page, tmp_path, find(page, ".save"), "png")
    assert saved.name == "cat-clay.png"
    assert saved.read_bytes() == served.post(encoded()).data
    assert page.get_log("browser") == []  # type: ignore[no-untyped-call]
    own = {f"{served.url}/{name}" for name in ("", "page.js", "page.css", "models", "translate")}
    asked = requests_of(page)
    assert own <= set(asked)
    assert [url for url in asked if not url.startswith((*own, f"blob:{served.url}/", "data:"))] == []


def test_pasted_and_chosen_pictures_and_all_of_them_as_a_zip(page: Chrome, tmp_path: Path) -> None:
    bring(page, png("image.png"), by="paste")
    chosen = [tmp_path / "äö.jpg", tmp_path / "image.png"]
    for path in chosen:
        Image.new("RGB", (16, 16), (200, 90, 30)).save(path)
    find(page, "#files").send_keys("\n".join(map(str, chosen)))
    settled(page)
    saved = download(page, tmp_path, find(page, "#zip"), "zip")
    with zipfile.ZipFile(saved) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["image-clay.png", "äö-clay.jpg", "image-clay-2.png"]
        sizes = [Image.open(io.BytesIO(archive.read(name))).size for name in archive.namelist()]
    assert sizes == [(24, 20), (16, 16), (16, 16)]
    find(page, "#clear").click()
    assert texts(page, ".card") == []


def test_what_fails_is_said_in_words_and_the_rest_goes_on(page: Chrome) -> None:
    large = bomb(20_000, 10_000)
    heavy = ("heavy.png", "image/png", bytes(300_000))
    bring(page, ("notes.txt", "text/plain", b"Dear diary"), ("large.png", "image/png", large), heavy, png())
    settled(page)
    notes, huge, big, cat = texts(page, ".card .text")
    assert notes.count("notes.txt") == 1
    assert "not a picture" in notes
    assert "200.0 megapixels" in huge
    assert "300 kB" in big
    assert "24 × 20" in cat
    assert len(page.find_elements("css selector", ".is-failed")) == 3
    assert [visible(page, f".card:nth-child({place}) .retry") for place in (1, 2, 3, 4)] == [True, True, True, False]
    find(page, ".card:nth-child(1) .remove").click()
    assert len(texts(page, ".card")) == 3
    assert js(page, "document.activeElement.getAttribute('aria-label')") == "Remove large.png"


def test_settings_change_what_is_there(page: Chrome, served: Served, models: dict[str, Path], tmp_path: Path) -> None:
    bring(page, png())
    settled(page)
    assert texts(page, "#title") == ["flat → clay"]
    find(page, "#way label:nth-child(2)").click()
    assert texts(page, "#title") == ["clay → flat"]
    find(page, "#colour").click()
    page.execute_script(
        "const strength = document.getElementById('strength'); strength.value = 40;"
        "for (const kind of ['input', 'change']) strength.dispatchEvent(new Event(kind, { bubbles: true }))"
    )
    settled(page)
    saved = download(page, tmp_path / "back", find(page, ".save"), "png")
    assert saved.name == "cat-flat.png"
    assert saved.read_bytes() == served.post(encoded(), to="flat", strength=0.4, keep_colour=True).data
    from selenium.webdriver.support.select import Select

    styled = str(models["styled"])
    Select(find(page, "#model")).select_by_value(styled)
    assert visible(page, "#styles")
    assert not visible(page, "#looks")
    find(page, "#dice").click()
    seed = js(page, "document.getElementById('seed').value")
    settled(page)
    saved = download(page, tmp_path / "styled", find(page, ".save"), "png")
    expected = served.post(encoded(), model=styled, style=f"random:{seed}", strength=0.4, keep_colour=True)
    assert saved.read_bytes() == expected.data


def choose(browser: Chrome, setting: str, text: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(find(browser, setting)).select_by_visible_text(text)


def press_hint(browser: Chrome, text: str) -> None:
    """The button of a hint that is called so, the only one there is."""
    (button,) = browser.find_elements("css selector", ".hints button")
    assert button.text == text
    button.click()
    settled(browser)


def test_a_white_icon_gets_another_background_by_one_click(page: Chrome, served: Served, tmp_path: Path) -> None:
    bring(page, ("photo.jpg", "image/jpeg", encoded("JPEG")))
    settled(page)
    assert not visible(page, "#background")  # nothing shows through
    find(page, ".remove").click()
    bring(page, ("icon.png", "image/png", white_icon()))
    settled(page)
    assert visible(page, "#background")
    saved = download(page, tmp_path / "white", find(page, ".save"), "png")
    assert saved.read_bytes() == served.post(white_icon()).data
    press_hint(page, "Background: Black")
    assert js(page, "document.getElementById('background').value") == "black"
    assert texts(page, ".hints *") == []
    saved = download(page, tmp_path / "black", find(page, ".save"), "png")
    assert saved.read_bytes() == served.post(white_icon(), background="black").data
    choose(page, "#background", "Another colour")
    page.execute_script(
        "const tint = document.getElementById('tint'); tint.value = '#3060c0';"
        "tint.dispatchEvent(new Event('change', { bubbles: true }))"
    )
    settled(page)
    saved = download(page, tmp_path / "blue", find(page, ".save"), "png")
    assert saved.read_bytes() == served.post(white_icon(), background="#3060c0").data


def test_another_background_makes_no_opaque_picture_again(page: Chrome) -> None:
    bring(page, png(), ("icon.png", "image/png", white_icon()))
    settled(page)
    requests_of(page)
    press_hint(page, "Background: Black")
    assert [url.rpartition("/")[2] for url in requests_of(page) if not url.startswith("blob:")] == ["translate"]


def test_a_soft_result_gets_detail_by_one_click(page: Chrome, served: Served, tmp_path: Path) -> None:
    large = encoded(size=(200, 200))
    bring(page, ("large.png", "image/png", large))
    settled(page)
    assert "soft" in texts(page, ".hints")[0]
    assert not visible(page, "#fit")
    press_hint(page, "Detail: Fine, slow")
    assert visible(page, "#fit")  # which says what was done
    saved = download(page, tmp_path, find(page, ".save"), "png")
    assert saved.read_bytes() == served.post(large, fit="native").data


def test_what_a_format_does_not_hold_gets_another_by_one_click(page: Chrome) -> None:
    moving = encoded("GIF", save_all=True, append_images=[Image.new("RGB", (16, 16))], duration=[50, 70])
    bring(page, ("moving.gif", "image/gif", moving))
    find(page, ".more summary").click()
    choose(page, "#format", "JPEG")
    settled(page)
    assert "2 frames" in texts(page, ".is-failed .state")[0]
    press_hint(page, "Save as: WebP")
    assert page.find_elements("css selector", ".is-failed") == []


def test_cards_speak_no_language_of_programs(page: Chrome) -> None:
    files = [("icon.png", "image/png", white_icon()), png("large.png", (200, 200)), ("empty.png", "image/png", b"")]
    files += [("notes.txt", "text/plain", b"Dear diary"), ("scan.tif", "image/tiff", encoded("TIFF"))]
    files += [("moving.gif", "image/gif", encoded("GIF", save_all=True, append_images=[Image.new("RGB", (16, 16))]))]
    bring(page, *files, ("clear.bmp", "image/bmp", white_icon()))
    find(page, ".more summary").click()
    for format in ("JPEG", "As it was"):
        choose(page, "#format", format)
        settled(page)
        for text in texts(page, ".card .text"):
            assert not re.search("=|--|curl|pip|ugatit ", text)
    page.execute_script("document.getElementById('seed').value = -5")
    choose(page, "#model", texts(page, "#model option")[-1])
    settled(page)
    assert len(page.find_elements("css selector", ".is-failed")) == 2


def test_attention_lies_over_the_picture(page: Chrome, models: dict[str, Path]) -> None:
    from selenium.webdriver.support.select import Select

    bring(page, png())
    settled(page)
    assert not visible(page, ".heat")
    find(page, "#attention").click()
    until(page, "document.querySelector('.heat').checkVisibility()")
    assert js(page, "document.querySelector('.heat').naturalWidth") > 0
    assert visible(page, "#scale")
    listed = Select(find(page, "#model"))
    listed.select_by_value(str(models["cycle"]))  # which has none
    settled(page)
    assert not visible(page, "#scale")
    listed.select_by_value(str(models["light"]))
    settled(page)
    assert visible(page, "#scale")
    find(page, "#attention").click()
    assert not visible(page, ".heat")


def test_a_picture_that_no_browser_shows_is_shown(page: Chrome, tmp_path: Path) -> None:
    bring(page, ("scan.tif", "image/tiff", encoded("TIFF")))
    settled(page)
    for side in ("before", "after"):
        assert js(page, f"document.querySelector('.{side}').naturalWidth") == 24
    assert download(page, tmp_path, find(page, ".save"), "png").name == "scan-clay.png"


def test_no_more_than_fifty(page: Chrome) -> None:
    bring(page, *(("notes.txt", "text/plain", b"x") for _ in range(52)))
    assert len(texts(page, ".card")) == 50
    assert "2 were left out" in texts(page, "#notice")[0]


def test_on_a_phone(page: Chrome) -> None:
    resize(page, 360, 740, touch=True)
    assert visible(page, "#photograph")
    camera = find(page, "#camera")
    assert [camera.get_attribute(name) for name in ("capture", "accept")] == ["environment", "image/*"]
    bring(page, png(size=(120, 90)), png("another-one-with-a-very-long-name-that-does-not-fit.png"))
    settled(page)
    assert js(page, "document.documentElement.scrollWidth") == 360
    frame = find(page, ".card:nth-child(2) .frame")
    page.execute_script("arguments[0].scrollIntoView({ block: 'center' })", frame)
    find(page, "#presets button").click()
    assert split(page, 2) == 100
    page.execute_script("arguments[0].scrollIntoView({ block: 'center' })", frame)
    tap(page, frame)
    assert split(page, 2) == pytest.approx(50, abs=3)
    heights = js(page, "[...document.querySelectorAll('button, a.button, select')].filter(x => x.checkVisibility())"
                       ".map(x => x.getBoundingClientRect().height)")  # fmt: skip
    assert min(heights) >= 38


def test_everything_has_a_name(page: Chrome) -> None:
    bring(page, png(), png("dog.png"), ("notes.txt", "text/plain", b"x"))
    settled(page)
    named = [
        (each.tag_name, each.accessible_name)
        for each in page.find_elements("css selector", "button, input, select, a")
        if each.is_displayed()
    ]
    assert [one for one in named if not one[1]] == []
    names = {name for _, name in named}
    assert {"Choose pictures", "Strength", "Keep colours", "Download cat.png", "Remove dog.png"} <= names
    assert "Divider of cat.png" in {one.accessible_name for one in page.find_elements("css selector", ".frame input")}
    assert js(page, "document.querySelectorAll('img:not([alt])').length") == 0
    assert "notes.txt" in texts(page, "#spoken")[0]


def test_keys_are_enough(page: Chrome) -> None:
    from selenium.webdriver import Keys

    bring(page, png())
    settled(page)
    reached = set()
    for _ in range(20):
        press(page, Keys.TAB)
        reached.add(js(page, "(one => one.id || one.className || one.type)(document.activeElement)"))
    assert {"choose", "strength", "colour", "attention", "range", "button save", "plain remove"} <= reached


def test_a_server_that_has_gone_is_said_and_tried_again(browser: Chrome, models: dict[str, Path]) -> None:
    with serving(models["light"]) as server:
        browser.get(server.url)
        until(browser, "!document.getElementById('work').hidden")
    bring(browser, png())
    settled(browser)
    (text,) = texts(browser, ".card .text")
    assert "doesn't answer" in text
    assert visible(browser, ".retry")


def test_the_token_is_asked_for_or_comes_in_the_link(browser: Chrome, models: dict[str, Path]) -> None:
    with serving(models["light"], token=TOKEN) as server:
        browser.get(server.url)
        until(browser, "!document.getElementById('login').hidden")
        find(browser, "#token").send_keys("a-wrong-one", "\n")
        until(browser, "document.getElementById('wrong').textContent")
        find(browser, "#token").clear()
        find(browser, "#token").send_keys(TOKEN, "\n")
        until(browser, "!document.getElementById('work').hidden")
        js(browser, "sessionStorage.clear()")
        browser.get("about:blank")
        browser.get(f"{server.url}/#token={TOKEN}")
        until(browser, "!document.getElementById('work').hidden")
        assert browser.current_url == f"{server.url}/"  # nobody reads it over a shoulder
        bring(browser, png())
        settled(browser)
        assert texts(browser, ".card .state")[0].startswith("24 × 20")


def test_without_scripts_it_says_what_it_needs(browser: Chrome, served: Served) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(served.url)
        assert visible(browser, "noscript")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
