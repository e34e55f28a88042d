"""The study in a browser: keys, fingers, answers that stay, and what is downloaded."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import tiny
from tests.browser import download, js, press, resize, tap, visible
from tests.cli.conftest import Command, ugatit  # noqa: F401
from tests.evaluations import save_pictures
from ugatit_cli import make_study, tally_study
from ugatit_cli.study.page import Study

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

ROWS = 4


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Of three methods."""
    folder = tmp_path_factory.mktemp("a study")
    for seed, name in enumerate(("src", "first", "second", "third", "examples")):
        save_pictures(folder / name, ROWS, size=(48, 32), seed=seed)
    results = {name: folder / name for name in ("first", "second", "third")}
    return make_study(folder / "a page.html", results, source=folder / "src", examples=folder / "examples")


@pytest.fixture
def opened(browser: Chrome, study: Study) -> Chrome:
    """The page as somebody sees it who wasn't here before, on a desktop."""
    resize(browser, 1280, 800)
    browser.get(study.page.as_uri())
    js(browser, "localStorage.clear()")
    browser.get(study.page.as_uri())
    return browser


def shown(browser: Chrome) -> str:
    """Which of the sheets is seen."""
    sheets = "[...document.querySelectorAll('main[id]')].filter(x => x.checkVisibility())"
    return str(js(browser, f"{sheets}.map(x => x.id).join()"))


def find(browser: Chrome, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def begin(browser: Chrome, name: str = "") -> None:
    find(browser, "#name").send_keys(name, "\n")
    assert shown(browser) == "ask"


def chosen(browser: Chrome) -> int | None:
    """Which result is chosen, from 1."""
    place = js(browser, "[...document.querySelectorAll('#choices input')].findIndex(x => x.checked)")
    return None if place < 0 else place + 1


def order(browser: Chrome) -> list[str]:
    return [str(one) for one in js(browser, "[...document.querySelectorAll('#choices input')].map(x => x.value)")]


def where(browser: Chrome) -> str:
    return str(js(browser, "document.getElementById('count').textContent"))


def test_nothing_is_fetched_and_nothing_complained_of(opened: Chrome, study: Study) -> None:
    opened.get_log("browser")  # type: ignore[no-untyped-call]
    opened.get(study.page.as_uri())
    begin(opened)
    press(opened, *"1\n2\n3\n1\n")
    assert shown(opened) == "end"
    assert opened.get_log("browser") == []  # type: ignore[no-untyped-call]
    resources = js(opened, "performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [url for url in resources if not url.startswith("data:")] == []


def test_keys_choose_go_on_and_go_back(opened: Chrome) -> None:
    from selenium.webdriver import Keys

    begin(opened)
    press(opened, "\n")
    assert (chosen(opened), where(opened)) == (None, f"1 of {ROWS}")  # a row needs a choice
    for key, expected in (("2", 2), ("7", 2), (Keys.ARROW_RIGHT, 3), (Keys.ARROW_DOWN, 1), (Keys.ARROW_LEFT, 3)):
        press(opened, key)
        assert chosen(opened) == expected
    press(opened, "\n")
    assert (chosen(opened), where(opened)) == (None, f"2 of {ROWS}")
    press(opened, Keys.ARROW_UP)
    assert chosen(opened) == 3
    assert js(opened, "document.getElementById('progress').value") == 2
    press(opened, Keys.BACKSPACE)
    assert (chosen(opened), where(opened)) == (3, f"1 of {ROWS}")
    press(opened, Keys.BACKSPACE, "1")
    assert (chosen(opened), where(opened)) == (1, f"1 of {ROWS}")


def test_fingers_choose_on_a_phone(opened: Chrome) -> None:
    resize(opened, 390, 844, touch=True)
    tap(opened, find(opened, "#begin button"))
    tap(opened, find(opened, "#next"))
    for place in (2, 1, 3, 3):
        assert chosen(opened) is None
        tap(opened, find(opened, f".choice:nth-child({place})"))
        assert chosen(opened) == place
        assert js(opened, "document.documentElement.scrollWidth") == 390
        tap(opened, find(opened, "#next"))
    assert shown(opened) == "end"


def test_orders_are_those_of_the_person(opened: Chrome, study: Study) -> None:
    seen = []
    for _ in range(4):
        begin(opened)
        rows = []
        for _ in range(ROWS):
            rows.append(order(opened))
            press(opened, "1", "\n")
        seen.append(rows)
        find(opened, "#end .restart").click()
    every = {tuple(sorted(row)) for row in seen[0]}
    assert all({tuple(sorted(row)) for row in rows} == every for rows in seen)
    assert len({json.dumps(rows) for rows in seen}) > 1  # but once in 30,000 billion times
    owners = json.loads(study.key.read_text())["pictures"].values()
    methods = {number: method for one in owners for number, method in one["results"].items()}
    first = Counter(methods[row[0]] for rows in seen for row in rows)
    assert len(first) > 1


def reopen(browser: Chrome, page: Path) -> None:
    """Opens the page that has answers: a busy Chromium may take a moment to hand them to a new renderer."""
    from selenium.webdriver.support.wait import WebDriverWait

    def has_answers(_: Chrome) -> bool:
        browser.get(page.as_uri())
        return shown(browser) == "again"

    WebDriverWait(browser, 20, 0.1).until(has_answers)


def test_answers_stay_and_are_downloaded_at_any_time(opened: Chrome, study: Study, tmp_path: Path) -> None:
    begin(opened, "  Ännchen / <b>")
    press(opened, "2", "\n", "3")
    now = (order(opened), where(opened))
    early = download(opened, tmp_path / "early", find(opened, "#ask .download"))
    reopen(opened, study.page)
    assert "Ännchen" in find(opened, "#welcome").text
    find(opened, "#continue").click()
    assert (chosen(opened), where(opened)) == (None, f"3 of {ROWS}")
    find(opened, "#back").click()
    assert (order(opened), where(opened)) == now
    press(opened, "\n", "1", "\n", "1", "\n")
    late = download(opened, tmp_path / "late", find(opened, "#end .download"))
    assert late.name in find(opened, "#downloaded").text
    assert early.name == late.name == "answers-Ännchen-b-.json"
    first, second = (json.loads(path.read_text(encoding="utf-8")) for path in (early, late))
    assert first["name"] == second["name"] == "Ännchen / <b>"
    assert [one["place"] for one in second["answers"]] == [2, 3, 1, 1]
    assert first["answers"] == second["answers"][:2]
    found = tally_study([early, late], study.key)
    assert (found.persons, found.choices, found.places) == (1, ROWS, (2, 1, 1))
    (left,) = found.left_out
    assert str(early) in left.message


def test_somebody_else_takes_no_answers_away(opened: Chrome, study: Study, tmp_path: Path) -> None:
    begin(opened, "one")
    press(opened, "2")
    reopen(opened, study.page)
    path = download(opened, tmp_path, find(opened, "#again .restart"))
    assert [one["place"] for one in json.loads(path.read_text())["answers"]] == [2]
    assert shown(opened) == "start"
    begin(opened)
    assert chosen(opened) is None
    person = "JSON.parse(localStorage.getItem(Object.keys(localStorage)[0])).person"
    assert json.loads(path.read_text())["person"] != js(opened, person)


def test_without_storage_it_works_and_says_so(opened: Chrome) -> None:
    assert not visible(opened, "#forgetful")
    js(opened, "Storage.prototype.setItem = () => { throw new Error('full'); }")
    begin(opened)
    press(opened, "1", "\n")
    assert where(opened) == f"2 of {ROWS}"
    assert visible(opened, "#forgetful")


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 800)])
def test_everything_fits_and_has_a_name(opened: Chrome, width: int, height: int) -> None:
    resize(opened, width, height, touch=width < 500)
    begin(opened)
    assert js(opened, "document.documentElement.scrollWidth") <= width
    names = [each.accessible_name for each in opened.find_elements("css selector", "#ask button, #choices input")]
    assert {"Result 1", "Result 2", "Result 3", "Next", "Download answers"} <= set(names)
    assert js(opened, "[...document.images].filter(x => x.checkVisibility() && !x.hasAttribute('alt')).length") == 0
    boxes = "[...document.querySelectorAll('.choice img')].map(x => x.getBoundingClientRect().toJSON())"
    sizes = {(round(box["width"]), round(box["height"])) for box in js(opened, boxes)}
    assert len(sizes) == 1
    targets = "[...document.querySelectorAll('#back, #next')].map(x => x.getBoundingClientRect().height)"
    assert min(js(opened, targets)) >= 40
    if width > 1000:
        assert js(opened, "document.documentElement.scrollHeight") <= height


def test_without_scripts_it_says_what_it_needs(browser: Chrome, study: Study) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(study.page.as_uri())
        assert visible(browser, "noscript")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_from_two_models_to_a_tally(
    browser: Chrome,
    ugatit: Command,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody with keys and somebody with fingers prefer the same model, whose results only the key knows."""
    monkeypatch.chdir(tmp_path)
    for name, config in {"ours": tiny.LIGHT, "theirs": tiny.CYCLEGAN}.items():
        tiny.save(Path(name), config)
    for name in ("src", "examples"):
        save_pictures(Path(name), 2)
    folders = ("--source", "src", "--examples", "examples", "-o", "study.html")
    assert ugatit("study", "-m", "theirs", "-m", "mine=ours", *folders, "--device", "cpu").lines == ["study.html"]
    study = json.loads(Path("study.key.json").read_text())
    owners = {number: name for one in study["pictures"].values() for number, name in one["results"].items()}
    assert set(owners.values()) == {"theirs", "mine"}
    files = []
    for person, touch in (("keys", False), ("fingers", True)):
        resize(browser, 390 if touch else 1280, 800, touch=touch)
        browser.get(Path("study.html").resolve().as_uri())
        if touch:
            find(browser, "#again .restart").click()
        begin(browser, person)
        for _ in study["pictures"]:
            place = [owners[number] for number in order(browser)].index("mine") + 1
            if touch:
                tap(browser, find(browser, f".choice:nth-child({place})"))
                tap(browser, find(browser, "#next"))
            else:
                press(browser, str(place), "\n")
        files.append(download(browser, Path(person), find(browser, "#end .download")))
    outcome = ugatit("study", "tally", *files, "--key", "study.key.json", "--json")
    assert (outcome.code, outcome.stderr) == (0, "")
    (found,) = outcome.documents
    assert [found[name] for name in ("persons", "choices", "pictures", "left_out")] == [2, 4, 2, []]
    assert [(one["method"], one["chosen"]) for one in found["shares"]] == [("mine", 4), ("theirs", 0)]
    assert found["by_choices"] == {"first": "mine", "second": "theirs", "wins": 4, "losses": 0, "p": 2 / 16}
