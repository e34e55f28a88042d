"""The report in a browser: dividers, attention, phones, and nothing that is fetched."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import js, press, resize, visible
from tests.outputs.test_report import HOSTILE, LEGEND, entry, failure, layer, webp
from ugatit_cli.outputs.report import STOPS, Header, ReportWriter

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

TINY, WIDE, TALL = "tiny.png", "wide.png", "tall.png"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "a page.html"
    facts = {"Model": "flat2clay", "Command": "x" * 300}
    header = Header("flat2clay", "flat", "clay", facts, {"sha256": "f" * 64, "in": {"deep": ["x" * 300]}}, LEGEND)
    heat = webp("orange", (48, 32))
    three = (layer("generator", "before", heat), layer("local", "after", heat), layer("global", "after", heat))
    unseen = (layer("generator", "before", b"", "flat: the same everywhere"), *three[1:])
    shapes = {TINY: (64, 64), WIDE: (480, 20), TALL: (20, 480)}
    with contextlib.closing(ReportWriter(path)) as writer:
        writer.begin(header)
        writer.add(entry("a.png", *three))
        writer.add(failure("bad.png", "bad.png: not a picture", "Save it again."))
        writer.add(entry("b.png", *unseen))
        writer.add(entry(HOSTILE, *three))
        for name, size in shapes.items():
            writer.add(entry(name, *three, before=webp("red", size), after=webp("blue", size), size=size))
        writer.finish("6 translated, 1 failed")
    return path


@pytest.fixture
def opened(browser: Chrome, page: Path) -> Chrome:
    """The page, as it is when it was just opened on a desktop."""
    resize(browser, 1280, 900)
    browser.get(page.as_uri())
    return browser


def card(name: str) -> str:
    """JavaScript of the card of a picture."""
    named = f"card => card.querySelector('h3').textContent === {json.dumps(name)}"
    return f"[...document.querySelectorAll('.card')].find({named})"


def split(browser: Chrome, name: str) -> float:
    """Where a card's divider is seen: how many percent of the picture before are shown, and not of the one after."""
    clips = js(browser, f"[...{card(name)}.querySelectorAll('.side')].map(side => getComputedStyle(side).clipPath)")
    before, after = [re.findall(r"-?[\d.]+(?=%|px)", clip) for clip in clips]  # inset(0px 48% 0px 0px)
    assert 100 - float(before[1]) == pytest.approx(float(after[-1]), abs=0.01), clips
    return float(after[-1])


CENTRE = """
const [frame, done] = arguments;
function centre(last) {
  frame.scrollIntoView({ block: "center", behavior: "instant" });
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const { x, y, width, height } = frame.getBoundingClientRect(), now = [x, y, width, height, scrollY].join();
    if (now === last) done(); else centre(now);
  }));
}
centre("");
"""


def centred(browser: Chrome, name: str) -> Any:
    """A picture in the middle of the window, where it stays: cards are laid out only once they come into view."""
    frame = js(browser, f"{card(name)}.querySelector('.frame')")
    browser.execute_async_script(CENTRE, frame)
    return frame


def drag(browser: Chrome, name: str, start: tuple[int, int], end: tuple[int, int], pointer: str = "mouse") -> None:
    """Moves a pressed pointer; offsets are in pixels from the middle of the picture, hit to about a pixel."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    frame = centred(browser, name)
    device = PointerInput(pointer, pointer)  # type: ignore[no-untyped-call]
    chain = ActionChains(browser, duration=50, devices=[device])
    actions = chain.w3c_actions.pointer_action
    actions.move_to(frame, *start).pointer_down()  # type: ignore[no-untyped-call]
    actions.move_to(frame, *end).pointer_up()  # type: ignore[no-untyped-call]
    chain.w3c_actions.perform()


def choose(browser: Chrome, name: str) -> None:
    js(browser, "document.querySelector(`#layers input[value='${arguments[0]}']`).click()", name)


def shown(browser: Chrome, name: str) -> list[str]:
    """Layers that are laid over a picture."""
    script = (
        f"[...{card(name)}.querySelectorAll('.layer')].filter(x => x.checkVisibility()).map(x => x.dataset.layer)"
    )
    return [str(layer) for layer in js(browser, script)]


def words(browser: Chrome, selector: str) -> list[str]:
    """Lines that can be read there."""
    return [line for line in js(browser, f"document.querySelector('{selector}').innerText").split("\n") if line]


# --- The page ----------------------------------------------------------------------------------------------


def test_nothing_is_fetched_and_nothing_complained_of(browser: Chrome, page: Path) -> None:
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # type: ignore[no-untyped-call]
    browser.get(page.as_uri())
    decode = "Promise.all([...document.images].map(image => image.decode().then(() => image.naturalWidth)))"
    widths = js(browser, decode)
    for name in ("generator", "local", "global", ""):
        choose(browser, name)
    assert len(widths) == 6 * (2 + 3) - 1
    assert min(widths) > 0
    told = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert [each for each in told if each["level"] in {"WARNING", "SEVERE"}] == []
    logged = browser.get_log("performance")  # type: ignore[no-untyped-call]
    events = [json.loads(each["message"])["message"] for each in logged]
    asked = [each["params"] for each in events if each["method"] == "Network.requestWillBeSent"]
    ours = {each["request"]["url"] for each in asked if each["documentURL"] == page.as_uri()}
    assert page.as_uri() in ours
    assert [url for url in ours if url != page.as_uri() and not url.startswith("data:")] == []
    resources = js(browser, "performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [url for url in resources if not url.startswith("data:")] == []


def test_everything_has_a_name(opened: Chrome) -> None:
    from selenium.webdriver.common.by import By

    assert js(opened, "[...document.images].filter(image => !image.alt).length") == 0
    choose(opened, "local")
    names = [each.accessible_name for each in opened.find_elements(By.CSS_SELECTOR, "input, button")]
    assert all(names)
    dividers = [name for name in names if name.endswith(": divider between before and after")]
    assert len(set(dividers)) == 6
    assert {"none", "generator", "local", "global", "Opacity of attention", "Before", "Half", "After"} <= set(names)


def test_hostile_names_are_text_and_failures_have_their_own_section(opened: Chrome) -> None:
    assert js(opened, f"{card(HOSTILE)}.querySelector('input').getAttribute('aria-label')").startswith(HOSTILE)
    assert js(opened, "document.scripts.length") == 2
    assert visible(opened, "#failed")
    assert words(opened, "#failed") == ["Not translated", "bad.png", "bad.png: not a picture", "Save it again."]
    assert js(opened, "document.querySelectorAll('#cards .failed').length") == 0


# --- Dividers ----------------------------------------------------------------------------------------------


def test_keys_move_the_divider(opened: Chrome) -> None:
    from selenium.webdriver import Keys

    assert split(opened, "a.png") == 50
    js(opened, f"{card('a.png')}.querySelector('input').focus()")
    press(opened, Keys.ARROW_RIGHT)
    assert split(opened, "a.png") == 52
    ring = js(opened, f"getComputedStyle({card('a.png')}.querySelector('.stage')).outlineStyle")
    assert ring == "solid"
    for key, expected in ((Keys.HOME, 0), (Keys.END, 100), (Keys.ARROW_LEFT, 98)):
        press(opened, key)
        assert split(opened, "a.png") == expected
    assert js(opened, f"{card('a.png')}.querySelector('input').getAttribute('aria-valuetext')") == "98 % before"
    assert split(opened, "b.png") == 50


def test_the_mouse_moves_the_divider_and_presets_move_all(opened: Chrome) -> None:
    from selenium.webdriver import Keys

    drag(opened, "a.png", (-60, 20), (45, -30))
    width = js(opened, f"{card('a.png')}.querySelector('.frame').clientWidth")
    assert split(opened, "a.png") == pytest.approx(50 + 100 * 45 / width, abs=1.2)
    drag(opened, "a.png", (0, 0), (400, 0))
    assert split(opened, "a.png") == 100
    press(opened, Keys.ARROW_LEFT)
    assert split(opened, "a.png") == 98
    assert js(opened, "document.activeElement.getAttribute('aria-label')").startswith("a.png: ")
    for place, expected in enumerate((100, 50, 0)):
        js(opened, "document.querySelectorAll('#presets button')[arguments[0]].click()", place)
        assert {split(opened, name) for name in ("a.png", "b.png", WIDE)} == {expected}


def test_a_finger_moves_the_divider_or_the_page(opened: Chrome) -> None:
    resize(opened, 390, 844, touch=True)
    drag(opened, "a.png", (-60, 0), (70, 10), "touch")
    width = js(opened, f"{card('a.png')}.querySelector('.frame').clientWidth")
    assert split(opened, "a.png") == pytest.approx(50 + 100 * 70 / width, abs=1.2)
    drag(opened, "b.png", (-60, 40), (-60, 40), "touch")
    assert split(opened, "b.png") == pytest.approx(50 - 100 * 60 / width, abs=1.2)
    centred(opened, HOSTILE)
    before = js(opened, "scrollY")
    drag(opened, HOSTILE, (60, 50), (65, -50), "touch")
    # The compositor scrolls, and tells the page a frame later: a page that doesn't scroll runs out of time here.
    wait = "const [y, done] = arguments; (function look() { scrollY > y ? done() : requestAnimationFrame(look); })()"
    opened.execute_async_script(wait, before + 50)
    assert split(opened, HOSTILE) == 50


# --- Attention ---------------------------------------------------------------------------------------------


def test_toggles_show_a_layer_and_its_side(opened: Chrome) -> None:
    drag(opened, HOSTILE, (0, 0), (30, 0))
    own = split(opened, HOSTILE)
    assert shown(opened, "a.png") == []
    assert not visible(opened, "#scale")
    for name, expected in (("generator", 100), ("local", 0), ("global", 0), ("", 50)):
        choose(opened, name)
        assert shown(opened, "a.png") == shown(opened, HOSTILE) == ([name] if name else [])
        assert visible(opened, "#scale") is visible(opened, "#opacity") is bool(name)
        assert split(opened, "a.png") == expected
        assert split(opened, HOSTILE) == own
    sides = "[...document.querySelectorAll('.layer')].map(x => [x.dataset.layer, x.parentElement.className].join())"
    assert set(js(opened, sides)) == {"generator,side before", "local,side after", "global,side after"}


def test_where_there_is_no_attention_it_says_why_and_the_scale_is_explained(opened: Chrome) -> None:
    choose(opened, "generator")
    assert shown(opened, "b.png") == []
    assert "generator attention: flat: the same everywhere" in js(opened, f"{card('b.png')}.innerText")
    choose(opened, "local")
    assert "flat: the same everywhere" not in js(opened, f"{card('b.png')}.innerText")
    assert words(opened, "#scale") == ["ignored", "looked at", "Each picture has its own scale."]
    ramp = js(opened, "getComputedStyle(document.querySelector('#scale i')).backgroundImage")
    assert len(re.findall(r"rgb\(", ramp)) == STOPS


def test_keys_choose_attention_and_its_opacity(opened: Chrome) -> None:
    from selenium.webdriver import Keys

    for key, expected in (("1", ["generator"]), ("3", ["global"]), ("7", ["global"]), ("0", []), ("2", ["local"])):
        press(opened, key)
        assert shown(opened, "a.png") == expected
    seen = f"getComputedStyle({card('a.png')}.querySelector('.layer.on')).opacity"
    assert js(opened, seen) == "0.6"
    js(opened, "document.querySelector('#opacity input').focus()")
    press(opened, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert js(opened, seen) == "0.7"
    assert js(opened, "document.querySelector('#opacity output').innerText") == "70 %"
    js(opened, "document.querySelector('#layers :checked').focus()")
    press(opened, Keys.ARROW_RIGHT)
    assert shown(opened, "a.png") == ["global"]


# --- Shapes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 900)])
def test_pictures_fit_and_keep_their_shape(opened: Chrome, width: int, height: int) -> None:
    resize(opened, width, height, touch=width < 500)
    choose(opened, "local")
    js(opened, "document.querySelector('details').open = true")
    assert js(opened, "document.documentElement.scrollWidth") <= width
    for name, ratio in ((TINY, 1), (WIDE, 24), (TALL, 1 / 24), ("a.png", 1.5)):
        box = js(opened, f"{card(name)}.querySelector('.frame').getBoundingClientRect().toJSON()")
        assert box["width"] / box["height"] == pytest.approx(ratio, rel=0.03)
        assert box["width"] <= width
        assert box["height"] <= 0.71 * height
        sharp = js(opened, f"getComputedStyle({card(name)}.querySelector('img')).imageRendering")
        assert sharp == ("pixelated" if name == TINY else "auto")
        if name == TINY:
            assert box["width"] >= 160


def test_targets_are_large_enough_for_fingers(opened: Chrome) -> None:
    resize(opened, 360, 740, touch=True)
    choose(opened, "local")
    targets = "#layers label, #presets button, #opacity input, .stage, summary"
    heights = js(
        opened, "[...document.querySelectorAll(arguments[0])].map(x => x.getBoundingClientRect().height)", targets
    )
    assert len(heights) == 4 + 3 + 1 + 6 + 1
    assert min(heights) >= 40


def side_by_side(browser: Chrome) -> None:
    boxes = js(browser, "[...document.querySelectorAll('.side')].map(x => x.getBoundingClientRect().toJSON())")
    assert len(boxes) == 12
    for before, after in zip(boxes[::2], boxes[1::2], strict=True):
        assert after["left"] >= before["right"]
        assert after["top"] == before["top"]
        assert min(before["height"], after["height"]) > 0
    assert not visible(browser, ".tools")
    clips = "[...document.querySelectorAll('.side')].map(x => getComputedStyle(x).clipPath)"
    assert set(js(browser, clips)) == {"none"}


def test_on_paper_pictures_are_side_by_side(opened: Chrome) -> None:
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        side_by_side(opened)
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_without_scripts_pictures_are_side_by_side(browser: Chrome, page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        resize(browser, 360, 740)
        browser.get(page.as_uri())
        side_by_side(browser)
        assert visible(browser, "noscript")
        assert js(browser, "document.documentElement.scrollWidth") <= 360
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


# --- Several models ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures by three models, one of which made nothing of the second picture."""
    path = tmp_path_factory.mktemp("report") / "compared.html"
    with contextlib.closing(ReportWriter(path, "Three looks", models=3)) as writer:
        for number, model in enumerate(("plain", "soft", "runs-with-a-long-name-of-its-own")):
            writer.begin(Header(model, "flat", "clay", {"Model": model}, {}, LEGEND))
            writer.add(entry("a.png", layer("generator", "before", webp("orange", (48, 32))), after=webp("blue")))
            ours = entry("b.png", style=int(number > 1))
            writer.add(ours if number else failure("b.png", "b.png: too small for it"))
        writer.add(entry("b.png", style=2))
        writer.finish("5 translated, 1 failed")
    return path


@pytest.mark.parametrize("width", [360, 1280])
def test_models_stand_beside_the_original(browser: Chrome, compared: Path, width: int) -> None:
    resize(browser, width, 900, touch=width < 500)
    browser.get(compared.as_uri())
    assert js(browser, "document.documentElement.scrollWidth") <= width
    told = js(browser, "[...document.querySelectorAll('.compare .model')].map(x => x.innerText)")
    names = ["original", "plain", "soft", "runs-with-a-long-name-of-its-own"]
    assert told == [*names, *names[:-1], f"{names[-1]}, style 1", f"{names[-1]}, style 2"]
    tops = js(browser, "[...document.querySelectorAll('.cell')].map(x => x.getBoundingClientRect().top)")
    assert len(set(tops[:4])) == (1 if width > 500 else 2)
    assert "too small for it" in js(browser, "document.querySelector('.nothing').innerText")
    # Each shows its result until one drags over it, which lays the original on top.
    cell = "document.querySelector('.view')"
    clip = f"getComputedStyle({cell}.querySelector('.side.before')).clipPath"
    assert js(browser, f"{cell}.querySelectorAll('img').length") == 3
    assert "100%" in js(browser, clip)
    js(browser, "document.querySelectorAll('#presets button')[0].click()")
    assert "100%" not in js(browser, clip)
