"""What the page and its key hold: which pictures, in what form, and nothing that tells methods apart."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import tiny
from tests.evaluations import save_pictures
from tests.helpers import picture
from ugatit_cli import PictureError, UsageError, load, make_study
from ugatit_cli.study.page import EXAMPLES, Study

COLOURS = {"first-method": "red", "second-method": "blue"}


def plain(path: Path, colour: str, size: tuple[int, int] = (24, 16), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three sources, red and blue results, two examples."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two", "sub/three"):
        plain(Path(f"src/{name}.png"), "green")
        for method, colour in COLOURS.items():
            plain(Path(f"{method}/{name}.png"), colour)
    save_pictures(Path("examples"), 2)


def make(page: str = "study.html", **options: Any) -> Study:
    given: dict[str, Any] = {"results": {name: name for name in COLOURS}, "source": "src", "examples": "examples"}
    return make_study(page, **given | options)


def embedded(page: Path) -> list[Any]:
    """The JSON documents in a page: rows, and the examples last."""
    found = re.findall(r'<script type="application/json".*?>(.*?)</script>', page.read_text(encoding="utf-8"))
    return [json.loads(text) for text in found]


def image(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_the_key_tells_whose_results_are_whose_and_the_page_does_not() -> None:
    made = make()
    *rows, examples = embedded(made.page)
    key = json.loads(made.key.read_text())
    assert (made.pictures, made.available, made.broken) == (3, 3, ())
    assert len(examples) == 2
    assert {one["picture"] for one in key["pictures"].values()} == {"one", "two", "sub/three"}
    assert {row["id"] for row in rows} == set(key["pictures"])
    for row in rows:
        owners = key["pictures"][row["id"]]["results"]
        assert sorted(owners.values()) == sorted(COLOURS)
        for number, method in owners.items():
            red, _, blue = image(row["results"][number]).getpixel((5, 5))  # type: ignore[misc]  # of an RGB picture
            assert (red > blue) is (COLOURS[method] == "red")
        assert [*row["results"]] == sorted(row["results"])
    page = made.page.read_text(encoding="utf-8")
    for name in (*COLOURS, "one.png", "three", str(Path.cwd())):
        assert name not in page


def test_pictures_of_a_row_have_one_size_and_form() -> None:
    for name in ("one", "two", "sub/three"):
        Path(f"second-method/{name}.png").unlink()
    plain(Path("src/one.png"), "green", (48, 32))
    plain(Path("second-method/one.webp"), "blue", (12, 8))
    plain(Path("second-method/two.gif"), "blue", (16, 16))
    plain(Path("second-method/sub/three.png"), "blue", (1000, 700), "RGBA")
    made = make()
    key = json.loads(made.key.read_text())
    sizes = {"one": (12, 8), "two": (16, 11), "sub/three": (24, 16)}
    for row in embedded(made.page)[:-1]:
        images = [image(data) for data in (row["source"], *row["results"].values())]
        assert {(one.size, one.format, one.mode) for one in images} == {
            (sizes[key["pictures"][row["id"]]["picture"]], "JPEG", "RGB")
        }
        assert all(not one.getexif() and "comment" not in one.info for one in images)


def test_a_choice_of_pictures_that_all_methods_have() -> None:
    save_pictures(Path("many"), 9)
    save_pictures(Path("a"), 8)
    save_pictures(Path("b"), 12, suffix=".webp")
    save_pictures(Path("more"), EXAMPLES + 1)
    options = {"results": {"a": "a", "b": "b"}, "source": "many", "examples": "more", "count": 5}
    made = [make(f"{number}.html", **options, seed=seed) for number, seed in enumerate((0, 0, 1))]
    keys = [json.loads(one.key.read_text()) for one in made]
    chosen = [[one["picture"] for one in key["pictures"].values()] for key in keys]
    assert [(one.pictures, one.available, one.sources) for one in made] == [(5, 8, 9)] * 3
    assert chosen[0] == chosen[1] != chosen[2]
    assert not keys[0]["pictures"].keys() & keys[1]["pictures"].keys()  # numbers say nothing, not even to us
    assert keys[0]["study"] != keys[1]["study"]
    assert len(embedded(made[0].page)[-1]) == EXAMPLES


def test_models_translate_the_sources(tmp_path: Path) -> None:
    models = {name: load(tiny.save(tmp_path / name, config)) for name, config in TINY.items()}
    picture(40, 32).save("src/one.png")
    made = make(results=models | {"first-method": "first-method"}, count=3)
    owners = json.loads(made.key.read_text())["pictures"]
    (row,) = (row for row in embedded(made.page)[:-1] if owners[row["id"]]["picture"] == "one")
    results = {owners[row["id"]]["results"][number]: image(data) for number, data in row["results"].items()}
    for name, model in models.items():
        expected = model.translate("src/one.png").resize((24, 19), Image.Resampling.LANCZOS)
        differences = [abs(a - b) for a, b in zip(results[name].tobytes(), expected.tobytes(), strict=True)]
        assert sum(differences) / len(differences) < 8
    with pytest.raises(UsageError):
        make("back.html", results=models, direction="b2a")


TINY = {"u": tiny.LIGHT, "c": tiny.CARTOONGAN}


def test_what_cannot_be_read_is_left_out() -> None:
    Path("src/one.png").write_bytes(b"broken")
    Path("second-method/two.png").write_bytes(b"broken")
    Path("examples/0.png").write_bytes(b"broken")
    made = make()
    assert made.pictures == 1
    named = {error.message.partition(":")[0] for error in made.broken}
    assert named == {"src/one.png", "second-method/two.png", "examples/0.png"}
    Path("examples/1.png").write_bytes(b"broken")
    with pytest.raises(PictureError, match="examples"):
        make("other.html")
    Path("src/sub/three.png").write_bytes(b"broken")
    with pytest.raises(PictureError, match="src"):
        make("other.html")
    assert not [*Path().glob("other*")]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"results": {"first-method": "first-method"}}, "two methods"),
        ({"results": {}}, "two methods"),
        ({"results": {"a": "gone", "b": "first-method"}}, "gone"),
        ({"results": {"a": "examples", "b": "first-method"}}, "examples"),
        ({"source": "empty"}, "empty"),
        ({"examples": "empty"}, "empty"),
        ({"source": "twice"}, "twice/one.png"),
        ({"count": 0}, "count is 0"),
        ({"count": 501}, "count is 501"),
        ({"page": "study.png"}, "study.png"),
        ({"page": "folder.html"}, "folder.html"),
        ({"page": "old.html"}, "old.html"),
        ({"page": "kept.html"}, "kept.key.json"),
    ],
)
def test_usage(options: dict[str, Any], named: str) -> None:
    for name in ("empty", "folder.html"):
        Path(name).mkdir()
    for name in ("old.html", "kept.key.json"):
        Path(name).write_text("before")
    for suffix in ("png", "webp"):
        plain(Path(f"twice/one.{suffix}"), "green")
    with pytest.raises(UsageError, match=re.escape(named)):
        make(**options)
    assert not Path("study.html").exists()
    assert Path("old.html").read_text() == Path("kept.key.json").read_text() == "before"


def test_overwriting_replaces_both() -> None:
    before, after = make(), make(overwrite=True)
    assert (before.page, before.key) == (after.page, after.key) == (Path("study.html"), Path("study.key.json"))
    assert json.loads(after.key.read_text())["study"] in after.page.read_text()


def test_a_hostile_question_is_text() -> None:
    scripts = make("a.html").page.read_text().count("<script")
    made = make("b.html", question="</script><script>alert('&amp;\udcff')</script>")
    page = made.page.read_text(encoding="utf-8")
    assert page.count("<script") == scripts
    assert "&lt;script&gt;" in page
