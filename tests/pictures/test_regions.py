"""Regions of pictures: cut out, put back, found by what users say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers import picture
from ugatit_cli.errors import PictureError, UsageError
from ugatit_cli.pictures.geometry import Pixels
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.pictures.regions import BoxFinder, Follower, MaskFinder, Region, cut, paste, region_of


def smooth(width: int, height: int) -> Image.Image:
    """A picture without fine detail, which interpolation keeps."""
    y, x = np.mgrid[:height, :width]
    planes = [128 + 100 * np.sin(x / 9), 128 + 100 * np.cos(y / 11), 128 + 100 * np.sin((x + y) / 13)]
    return Image.fromarray(np.stack(planes, 2).astype(np.uint8))


def apart(one: Image.Image, other: Image.Image) -> Pixels:
    difference: Pixels = np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max(2)
    return difference


@settings(max_examples=15, deadline=None)
@given(
    x=st.floats(-20, 80),
    y=st.floats(-20, 60),
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    angle=st.one_of(st.just(0.0), st.floats(-180, 180)),
    feather=st.floats(0, 0.5),
)
def test_all_outside_of_a_region_stays(
    x: float, y: float, width: int, height: int, angle: float, feather: float
) -> None:
    image = picture(64, 48, 0)
    region = Region((x, y), (width, height), angle, feather)
    result = image.copy()
    paste(result, region, Image.new("RGB", region.size, "red"))
    rows, columns = np.nonzero(apart(image, result))
    turn = np.linalg.inv(region.matrix()[:, :2])
    places = (np.stack([columns, rows], 1) + 0.5 - np.array(region.centre)) @ turn.T
    assert np.all(np.abs(places) <= np.array(region.size) / 2 + 1e-3)


def test_the_middle_of_a_region_is_what_was_pasted() -> None:
    image = picture(64, 48, 0)
    paste(image, Region((30, 20), (20, 16), feather=0.25), Image.new("RGB", (20, 16), "red"))
    assert image.getpixel((30, 20)) == (255, 0, 0)
    paste(image, region_of((8, 8, 24, 24), feather=0), Image.new("RGB", (16, 16), "blue"))
    assert {image.getpixel(place) for place in ((8, 8), (23, 8), (8, 23), (23, 23))} == {(0, 0, 255)}


@pytest.mark.parametrize("angle", [0.0, 10.0, -33.0, 90.0, 170.0])
@pytest.mark.parametrize("centre", [(40.0, 32.0), (41.3, 29.8), (4.0, 60.0)])
def test_what_is_cut_comes_back_in_its_place(angle: float, centre: tuple[float, float]) -> None:
    image = smooth(80, 64)
    region = Region(centre, (36, 36), angle)
    result = image.copy()
    paste(result, region, cut(Frame(image, None), region).rgb)
    limit = 0 if region.upright else 6
    assert apart(image, result).max() <= limit


def test_turned_regions_are_upright_when_cut() -> None:
    """Of two eyes on a slope, which the region follows, both are on one line."""
    image = Image.new("RGB", (80, 80), "white")
    for x, y in ((30, 30), (50, 41)):
        image.paste((0, 0, 0), (x - 2, y - 2, x + 2, y + 2))
    slope = float(np.degrees(np.arctan2(11, 20)))
    crop = np.asarray(cut(Frame(image, None), Region((40, 35.5), (40, 40), slope)).rgb.convert("L"))
    rows, columns = np.nonzero(crop < 128)
    left, right = rows[columns < 20].mean(), rows[columns >= 20].mean()
    assert left == pytest.approx(right, abs=0.6)
    assert columns.min() < 12
    assert columns.max() > 28


def test_beyond_the_border_a_picture_is_mirrored() -> None:
    image = picture(8, 6, 0)
    crop = cut(Frame(image, image.getchannel("R")), region_of((-3, -2, 10, 9)))
    wide = np.pad(np.asarray(image), ((2, 3), (3, 2), (0, 0)), mode="symmetric")
    assert np.array_equal(np.asarray(crop.rgb), wide)
    assert crop.alpha is not None
    assert np.array_equal(np.asarray(crop.alpha), wide[:, :, 0])


# --- Boxes


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("10,5,20,16", (10, 5, 20, 16)),
        ("25%,50%,50%,50%", (16, 24, 32, 24)),
        (" 50%, 10 ,1000,4.5", (32, 10, 32, 4)),
        ("63,47,0.2,0.2", (63, 47, 1, 1)),
    ],
)
def test_boxes(text: str, box: tuple[int, int, int, int]) -> None:
    (region,) = BoxFinder.parse(text)(Frame(picture(64, 48, 0), None), None)
    assert region.subject == box
    assert region.upright


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1,2,0,4", "-1,2,3,4", "1;2;3;4", "1,2,3,nan"])
def test_what_is_no_box(text: str) -> None:
    with pytest.raises(UsageError, match="--box"):
        BoxFinder.parse(text)


def test_a_box_beside_the_picture() -> None:
    with pytest.raises(PictureError, match="64 x 48"):
        BoxFinder.parse("64,0,10,10")(Frame(picture(64, 48, 0), None), None)


def test_a_box_at_the_border_has_no_soft_edge_there() -> None:
    image = Image.new("RGB", (40, 30))
    (region,) = BoxFinder.parse("0,0,100%,50%", feather=0.4)(Frame(image, None), None)
    paste(image, region, Image.new("RGB", region.size, "white"))
    rows = np.asarray(image)[:, :, 0]
    assert (rows[:8] == 255).all()
    assert (rows[15:] == 0).all()
    assert (np.ptp(rows, axis=1) == 0).all()
    assert (np.diff(rows[:, 0].astype(int)) <= 0).all()


# --- Masks


def pasted(mask: Image.Image, folder: Path, size: tuple[int, int] = (40, 30), feather: float = 0.15) -> Pixels:
    """How much of a black picture is white where a mask says so."""
    mask.save(folder / "mask.png")
    image = Image.new("RGB", size)
    (region,) = MaskFinder(folder / "mask.png", feather)(Frame(image, None), None)
    paste(image, region, Image.new("RGB", region.size, "white"))
    return np.asarray(image)[:, :, 0]


def disc() -> Pixels:
    y, x = np.mgrid[:30, :40]
    inside: Pixels = np.hypot(x - 20, y - 14) < 10
    return inside


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P"])
def test_masks_of_every_mode(mode: str, tmp_path: Path) -> None:
    shown = Image.fromarray(disc().astype(np.uint8) * 255)
    mask = shown.convert(mode)
    if mode == "RGBA":
        mask = Image.new("RGBA", shown.size, "navy")
        mask.putalpha(shown)
    seen = pasted(mask, tmp_path, feather=0)
    assert np.array_equal(seen, np.asarray(shown))


def test_a_masks_edge_is_soft_inwards(tmp_path: Path) -> None:
    seen = pasted(Image.fromarray(disc().astype(np.uint8) * 255), tmp_path, feather=0.25)
    assert (seen[~disc()] == 0).all()
    assert seen[14, 20] == 255
    assert len(np.unique(seen)) > 5


def test_grey_counts_in_part_and_nearly_black_not_at_all(tmp_path: Path) -> None:
    values = np.where(disc(), 128, 3).astype(np.uint8)
    seen = pasted(Image.fromarray(values), tmp_path, feather=0)
    assert {*np.unique(seen)} == {0, 128}


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    seen = pasted(Image.fromarray(disc().astype(np.uint8) * 255), tmp_path, size=(80, 60), feather=0)
    assert np.abs((seen > 127) ^ np.kron(disc(), np.ones((2, 2), bool))).mean() < 0.02


def test_masks_that_fit_nothing(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="40 x 30"):
        pasted(Image.new("L", (40, 30), 255), tmp_path, size=(30, 40))
    with pytest.raises(PictureError, match="black"):
        pasted(Image.new("L", (40, 30), 2), tmp_path)


def test_a_folder_of_masks(tmp_path: Path) -> None:
    Image.new("L", (8, 6), 255).save(tmp_path / "a.png")
    finder, frame = MaskFinder(tmp_path), Frame(picture(8, 6, 0), None)
    assert [one.size for one in finder(frame, Path("in/a.jpg"))] == [(8, 6)]
    with pytest.raises(PictureError, match="no mask"):
        finder(frame, Path("in/b.jpg"))
    with pytest.raises(PictureError, match="no name"):
        finder(frame, None)
    for folder, side in (("sub", 5), ("in/sub", 4)):
        (tmp_path / folder).mkdir(parents=True)
        Image.frombytes("L", (8, 6), bytes([255] * side + [0] * (8 - side)) * 6).save(tmp_path / folder / "a.png")
    sources = {"in/sub/a.jpg": 4, "/x/sub/a.jpg": 5, "in/other/a.jpg": 8, "in/../sub/a.jpg": 5}
    assert {one: finder(frame, Path(one))[0].size[0] for one in sources} == sources


def test_no_picture_is_its_own_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pics").mkdir()
    for name in ("pics/a.png", "pics/b.jpg"):
        Image.new("L", (8, 8), 255).save(name)
    Image.frombytes("L", (8, 8), bytes([255] * 5 + [0] * 3) * 8).save("a.png")
    frame = Frame(picture(8, 8, 0), None)
    for path in (Path("pics/a.png"), Path("pics/a.png").absolute(), Path("pics/../pics/a.png")):
        assert MaskFinder(".")(frame, path)[0].size[0] == 5
    for folder in (".", "pics"):
        with pytest.raises(PictureError, match="no mask"):
            MaskFinder(folder)(frame, Path("pics/b.jpg"))


# --- Frames that follow each other


def seen(x: float, angle: float = 0.0, side: int = 100) -> Region:
    return Region((x, 50.0), (side, side), angle, score=0.9)


def test_what_trembles_is_calmed() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (60, 3))
    follow, places = Follower(), []
    for x, angle, side in noise:
        (region,) = follow([seen(200 + x, angle, round(100 + 2 * side))])
        places.append((region.centre[0], region.angle, region.size[0]))
    trembling = np.diff(np.array(places), axis=0).std(0)
    assert (trembling < [0.6, 0.6, 1.2]).all()  # of 1.4, 1.4 and 2.8


def test_what_moves_is_followed() -> None:
    follow = Follower()
    for frame in range(20):
        first, other = follow([seen(100 + 13 * frame, 11.0 * frame), seen(600)])
        assert first.centre[0] == pytest.approx(100 + 13 * frame)
        assert first.angle == pytest.approx(11.0 * frame)
        assert other.centre[0] == 600
    assert follow([]) == []
    assert follow([seen(300)]) == [seen(300)]


def test_what_users_name_is_as_it_is() -> None:
    follow = Follower()
    for left in (0, 1, 3):
        region = region_of((left, 0, 50, 40))
        assert follow([region]) == [region]
