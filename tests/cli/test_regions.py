"""`ugatit translate --faces`, `--box` and `--mask`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ugatit_cli
from tests import tiny
from tests.cli.conftest import Command, Outcome, below
from tests.faces.portraits import group, portrait
from tests.helpers import picture
from ugatit_cli.faces.finder import FaceFinder
from ugatit_cli.pictures.geometry import Pixels
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.pictures.regions import BoxFinder, MaskFinder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny", tiny.LIGHT)


@pytest.fixture
def translate(ugatit: Command, model: Path) -> Command:
    def run(*arguments: object) -> Outcome:
        return ugatit("translate", "--model", model, "--device", "cpu", "--precision", "fp32", *arguments)

    return run


def pixels(path: str | Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.int16)


def changed(before: str, after: str) -> Pixels:
    difference: Pixels = (pixels(before) != pixels(after)).any(2)
    return difference


@pytest.fixture
def photos() -> Path:
    """Of two faces, of one, of none."""
    Path("in").mkdir()
    group().photo.save("in/two.png")
    portrait().save("in/one.jpg", quality=95)
    picture(60, 40).save("in/none.png")
    return Path("in")


def test_two_faces_in_their_places_and_the_rest_as_it_was(translate: Command, photos: Path) -> None:
    outcome = translate(photos / "two.png", "--faces", "-o", "out.png", "--json")
    assert outcome.code == 0
    where = changed("in/two.png", "out.png")
    regions = FaceFinder()(Frame(group().photo, None))
    allowed = np.zeros_like(where)
    for region in regions:
        left, top, right, bottom = region.bounds
        allowed[max(0, top) : bottom, max(0, left) : right] = True
        x, y = map(int, region.centre)
        assert where[y - 8 : y + 8, x - 8 : x + 8].all()
    assert not where[~allowed].any()
    (document,) = outcome.documents
    assert [tuple(face["box"]) for face in document["faces"]] == [one.subject for one in reversed(regions)]
    assert all(0.5 < face["score"] <= 1 for face in document["faces"])


def test_a_photo_without_a_face_is_named(translate: Command, photos: Path) -> None:
    outcome = translate(photos, "--faces", "-o", "out", "--json")
    assert outcome.code == 0
    assert below("out") == ["one.jpg", "two.png"]
    assert "in/none.png: no face found" in outcome.stderr
    assert "2 translated, 1 without a face" in outcome.stderr
    assert {one["input"]: len(one["faces"]) for one in outcome.documents} == {
        "in/none.png": 0, "in/one.jpg": 1, "in/two.png": 2
    }  # fmt: skip


def test_and_ends_in_failure_where_it_is_the_only_one(translate: Command, photos: Path) -> None:
    outcome = translate(photos / "none.png", "--faces", "-o", "out/none.png")
    assert outcome.code == 1
    assert outcome.lines == []
    assert not Path("out").exists()
    whole = translate(photos / "none.png", "--faces", "--no-face", "whole", "-o", "out/none.png")
    assert whole.code == 0
    assert changed("in/none.png", "out/none.png").mean() > 0.9


def test_faces_as_files(translate: Command, photos: Path) -> None:
    outcome = translate(photos, "--faces-only", "-o", "out", "--size", "model", "--format", "png", "--json")
    assert outcome.code == 0
    assert below("out") == ["one_face1.png", "two_face1.png", "two_face2.png"]
    for name in below("out"):
        with Image.open(f"out/{name}") as image:
            assert image.size == (32, 32)
    assert {one["input"]: one.get("outputs") for one in outcome.documents}["in/two.png"] == [
        "out/two_face1.png", "out/two_face2.png"
    ]  # fmt: skip
    Path("out/two_face2.png").write_bytes(b"mine")
    refused = translate(photos, "--faces-only", "-o", "out", "--format", "png")
    assert refused.code == 2
    assert "exist" in refused.stderr
    again = translate(photos, "--faces-only", "-o", "out", "--format", "png", "--skip-existing")
    assert "0 translated, 1 without a face, 2 skipped" in again.stderr
    Path("out/two_face1.png").unlink()
    outcome = translate(photos / "two.png", "--faces-only", "-o", "out", "--format", "png")
    assert "out/two_face2.png: exists already" in outcome.stderr
    assert Path("out/two_face2.png").read_bytes() == b"mine"
    assert translate(photos / "two.png", "--faces-only", "-o", "out", "--format", "png", "--overwrite").code == 0
    assert Path("out/two_face2.png").read_bytes() != b"mine"


def test_results_of_what_a_photo_was_before_are_named(translate: Command, photos: Path) -> None:
    crops, whole = (("--faces-only", "-o", "out", "--format", "png"), ("--faces", "-o", "whole"))
    for options in (crops, whole):
        assert translate(photos, *options).code == 0
    (photos / "two.png").unlink()
    Image.open(photos / "one.jpg").save(photos / "two.png")
    (photos / "one.jpg").unlink()
    Image.open(photos / "none.png").save(photos / "one.jpg")
    fresh = translate(photos, *crops, "--overwrite").stderr
    assert "out/two_face2.png" in fresh
    assert "out/two_face1.png" not in fresh
    assert "out/one_face1.png" in fresh
    assert "whole/one.jpg" in translate(photos, *whole, "--update").stderr
    assert "from before" not in translate(photos, "--faces-only", "-o", "new").stderr


def test_results_from_before_of_a_photo_that_has_not_changed_are_not_said_to_be_of_another(
    translate: Command, photos: Path
) -> None:
    assert translate(photos / "none.png", "-o", "out").code == 0
    said = translate(photos / "none.png", "--faces", "-o", "out", "--overwrite").stderr
    assert "out/none.png: from before" in said
    assert "of the photo" not in said


def test_a_box(translate: Command, photos: Path) -> None:
    assert translate(photos / "none.png", "--box", "10,5,50%,20", "--feather", 0, "-o", "out.png").code == 0
    where = changed("in/none.png", "out.png")
    assert where[5:25, 10:40].mean() > 0.9
    where[5:25, 10:40] = False
    assert not where.any()
    outside = translate(photos, "--box", "100,0,20,20", "-o", "out")
    assert "in/none.png: the box 100,0,20,20 lies outside of 60 x 40 pixels" in outcome_text(outside)
    assert below("out") == ["one.jpg", "two.png"]


def outcome_text(outcome: Outcome) -> str:
    assert outcome.code == 1
    return outcome.stderr


def test_masks(translate: Command, photos: Path) -> None:
    Path("masks").mkdir()
    shown = np.zeros((40, 60), np.uint8)
    shown[10:30, 20:50] = 255
    Image.fromarray(shown).save("masks/none.png")
    assert translate(photos / "none.png", "--mask", "masks/none.png", "--feather", 0, "-o", "out.png").code == 0
    assert changed("in/none.png", "out.png")[shown == 255].mean() > 0.9
    assert not changed("in/none.png", "out.png")[shown == 0].any()
    Image.new("L", (120, 80), 255).save("large.png")
    refused = translate(photos / "none.png", "--mask", "large.png", "--max-pixels", 9599, "-o", "small.png")
    assert "large.png: 0.0 megapixels (120 x 80), above the limit" in outcome_text(refused)
    assert translate(photos / "none.png", "--mask", "large.png", "--max-pixels", 9600, "-o", "small.png").code == 0
    outcome = translate(photos, "--mask", "masks", "-o", "out")
    assert below("out") == ["none.png"]
    assert "no mask for it in masks" in outcome_text(outcome)


def test_with_the_colours_of_the_photo(translate: Command, photos: Path) -> None:
    assert translate(photos / "two.png", "--faces", "--strength", 0, "-o", "same.png").code == 0
    assert not changed("in/two.png", "same.png").any()
    assert translate(photos / "two.png", "--faces", "--keep-colour", "-o", "colour.png").code == 0
    assert translate(photos / "two.png", "--faces", "-o", "all.png").code == 0
    where = changed("in/two.png", "all.png")
    assert not changed("in/two.png", "colour.png")[~where].any()
    before, kept, new = (pixels(name)[where] for name in ("in/two.png", "colour.png", "all.png"))
    hue = [np.ptp(one - before, axis=1).mean() for one in (kept, new)]
    assert hue[0] < hue[1] / 2


def test_the_report_shows_whole_pictures(translate: Command, photos: Path) -> None:
    outcome = translate(photos, "--faces", "-o", "out", "--report", "out/report.html")
    assert outcome.code == 0
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert "each face" in page
    assert page.count("two.png") >= 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--faces", "--box", "1,1,5,5"), "--faces and --box"),
        (("--box", "1,1,5,5", "--mask", "mask.png"), "--box and --mask"),
        (("--margin", 1), "--margin"),
        (("--box", "1,1,5,5", "--no-face", "whole"), "--no-face"),
        (("--feather", 0.2), "--feather"),
        (("--faces", "--margin", -1), "--margin"),
        (("--faces", "--size", "model"), "--size model"),
        (("--faces-only", "--no-face", "whole"), "--no-face whole"),
        (("--faces-only",), "--faces-only"),  # -o names a file
        (("--box", "1,1"), "--box 1,1"),
        (("--mask", "none-such.png"), "--mask none-such.png"),
    ],
)
def test_what_makes_no_sense(translate: Command, photos: Path, options: tuple[object, ...], named: str) -> None:
    outcome = translate(photos / "one.jpg", "-o", "out.png", *options)
    assert outcome.code == 2
    assert named in outcome.stderr
    assert not Path("out.png").exists()


def test_faces_beside_their_pictures(translate: Command, photos: Path) -> None:
    outcome = translate(photos / "one.jpg", "--faces-only", "-o", f"{photos}/")
    assert outcome.code == 2
    assert below(photos) == ["none.png", "one.jpg", "two.png"]


def test_without_the_extra(translate: Command, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ugatit_cli.faces import detector

    detector.detector.cache_clear()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    outcome = translate(photos, "--faces", "-o", "out")
    assert outcome.code == 2
    assert "pip install onnxruntime" in outcome.stderr
    assert translate(photos, "--box", "0,0,50%,50%", "-o", "out").code == 0


def test_the_same_in_python(translate: Command, photos: Path, model: Path) -> None:
    assert translate(photos / "two.png", "--faces", "--strength", 0.7, "-o", "out.png").code == 0
    loaded = ugatit_cli.load(model, device="cpu", precision="fp32")
    both = loaded.translate(["in/two.png", "in/none.png"], regions=FaceFinder(), strength=0.7)
    assert (np.asarray(both[0]) == pixels("out.png")).all()
    assert (np.asarray(both[1]) == pixels("in/none.png")).all()
    box = loaded.translate("in/two.png", regions=BoxFinder.parse("50%,0,50%,100%"), size=110)
    assert box.size == (200, 110)
    Path("masks").mkdir()
    Image.new("L", (60, 40), 255).save("masks/none.png")
    masks = ["masks/none.png", "masks"]
    assert len({loaded.translate("in/none.png", regions=MaskFinder(path)).tobytes() for path in masks}) == 1
