"""The emoji benchmarks: the split, the pictures, and what stands beside them."""

from __future__ import annotations

import dataclasses
import io
import json
import runpy
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from tests.hub_client import Notes
from ugatit_cli.data.pictures import Preparation, find_pictures, split_layout
from ugatit_cli.datasets import emoji
from ugatit_cli.datasets.emoji import RECIPES, build, icons, plan
from ugatit_cli.datasets.emoji_names import HELD_OUT, TRAINING, VALIDATION, group, shown
from ugatit_cli.datasets.emoji_pictures import draw_svg, draw_webp, square
from ugatit_cli.datasets.packages import Package, integrity_of
from ugatit_cli.errors import FetchError, UsageError

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 36 36"><path fill="{}" d="M9 9h18v18H9z"/></svg>'
# Folders as computed by hand with hashlib. The first of some aren't MIT.
KEPT_BACK = ["1f3ae", "1f4ce"]
TRAINED_A, TRAINED_B, VALIDATED = ["1f600"], ["1fa90", "23-20e3"], ["1f34b", "1f493"]
HELD = ["1f587", "270b", "270b-1f3fc", "270b-1f3fd", "2764"]
NAMES = KEPT_BACK + TRAINED_A + TRAINED_B + VALIDATED + HELD
# How the second package names its file of an emoji, where it differs.
OTHERWISE = {"23-20e3": "0023-fe0f-20e3", "2764": "2764-fe0f"}


# --- Pictures ------------------------------------------------------------------------------------------


def webp(size: tuple[int, int], box: tuple[int, int, int, int], colour: str = "blue") -> bytes:
    image = Image.new("RGBA", size, (0, 0, 0, 0))
    image.paste(colour, box)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def drawn(image: Image.Image) -> tuple[int, int, int, int] | None:
    """The box of what isn't white."""
    return image.convert("L").point(lambda value: value < 255 and 255).getbbox()


@pytest.mark.parametrize("size", [36, 128])
def test_drawings_are_on_white_at_their_size(size: int) -> None:
    image = draw_svg(SVG.format("red").encode(), size, "x")
    assert (image.mode, image.size) == ("RGB", (size, size))
    assert drawn(image) == (size // 4, size // 4, size * 3 // 4, size * 3 // 4)
    assert image.getpixel((size // 2, size // 2)) == (255, 0, 0)
    image = draw_webp(webp((256, 264), (0, 8, 256, 136)), size, "x")
    assert (image.mode, image.size) == ("RGB", (size, size))
    assert image.getpixel((size // 2, size // 6)) == (0, 0, 255)
    assert image.getpixel((size // 2, size * 3 // 4)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        ((256, 256), (33, 33, 223, 223), (33, 33, 223, 223)),
        ((256, 264), (33, 41, 223, 231), (33, 33, 223, 223)),  # empty rows on top
        ((256, 264), (0, 0, 256, 264), (4, 0, 260, 264)),
        ((264, 256), (0, 0, 264, 256), (0, 4, 264, 260)),
    ],
)
def test_pictures_become_square_and_keep_their_scale(
    size: tuple[int, int], box: tuple[int, int, int, int], expected: tuple[int, int, int, int]
) -> None:
    canvas = Image.new("RGB", size, "white")
    canvas.paste("blue", box)
    image = square(canvas)
    assert image.width == image.height
    assert drawn(image) == expected


# --- Packages ------------------------------------------------------------------------------------------


def tarball(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for file, data in files.items():
            member = tarfile.TarInfo(f"package/{file}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def iconify(drawings: Mapping[str, object], names: Mapping[str, str]) -> bytes:
    """A package of icons, by name and by code points."""
    return tarball({"icons.json": json.dumps(drawings).encode(), "chars.json": json.dumps(names).encode()})


def test_icons_are_black_square_and_where_their_aliases_say() -> None:
    body = '<path fill="currentColor" d="M0 0h32v16H0z"/>'
    drawings = {
        "icons": {"plain": {"body": body}, "tall": {"body": body, "height": 64}},
        "aliases": {"other": {"parent": "plain"}},
        "width": 32,
        "height": 32,
    }
    found = icons(iconify(drawings, {"1f600": "plain", "1f601": "tall", "1f602-fe0f": "other"}))
    assert found["1f602"] == found["1f600"]
    for name, box in {"1f600": (0, 0, 64, 32), "1f601": (16, 0, 48, 16)}.items():
        image = draw_svg(found[name], 64, name)
        assert drawn(image) == box
        assert image.getpixel((32, 8)) == (0, 0, 0)


@pytest.mark.parametrize(
    "drawings",
    [
        {},
        [],
        {"icons": {"x": {}}},
        {"icons": {"x": {"body": ""}}, "aliases": {"x": {"parent": "y", "rotate": 1}}},
        {"icons": {}, "aliases": {"x": {"parent": "x"}}},
    ],
)
def test_packages_of_another_kind_are_refused(drawings: Mapping[str, object]) -> None:
    with pytest.raises(FetchError):
        icons(iconify(drawings, {"1f600": "x"}))
    with pytest.raises(FetchError):
        icons(tarball({"icons.json": json.dumps(drawings).encode()}))


# --- Benchmarks ----------------------------------------------------------------------------------------


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small packages, in which each emoji has a colour of its own, that the recipes are made of."""
    folder = tmp_path / "packages"
    folder.mkdir()
    colours = {name: f"rgb({20 * i}, 100, {255 - 20 * i})" for i, name in enumerate(NAMES)}
    documents = {name: SVG.format(colour) for name, colour in colours.items()} | {"1f9ff": SVG.format("red")}
    drawings = {"icons": {name: {"body": body, "width": 36, "height": 36} for name, body in documents.items()}}
    clays = {OTHERWISE.get(name, name): webp((32, 32), (8, 8, 24, 24), colour) for name, colour in colours.items()}
    clays["1f47e"] = webp((32, 32), (8, 8, 24, 24))
    made = {
        "@x/icons": iconify(drawings, {name: name for name in documents}),
        "svg": tarball({f"{name}.svg": body.encode() for name, body in documents.items()}),
        "clay": tarball({f"assets/{name}.webp": data for name, data in clays.items()}),
    }
    pinned = {name: Package(name, "1.0.0", integrity_of(data), len(data)) for name, data in made.items()}
    for name, data in made.items():
        (folder / pinned[name].file).write_bytes(data)
    recipes = {
        name: dataclasses.replace(
            recipe, package=pinned["svg" if recipe.read is emoji.svg_files else "@x/icons"], clay=pinned["clay"]
        )
        for name, recipe in RECIPES.items()
    }
    monkeypatch.setattr(emoji, "RECIPES", recipes)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("recipe", ["ink2clay", "flat2clay", "twemoji2clay"])
def test_emoji_of_both_packages_are_in_their_folders(recipe: str, packages: Path, tmp_path: Path) -> None:
    bench, listener = tmp_path / recipe, Notes()
    bench.mkdir()
    counts = build(recipe, bench, listener, size=32, packages=packages)
    expected = {"trainA": TRAINED_A, "trainB": TRAINED_B, "testA": HELD, "testB": HELD}
    if recipe == "twemoji2clay":  # whose groups are all trained on
        expected["trainA"], expected["trainB"] = [VALIDATED[1], *TRAINED_A], [VALIDATED[0], *TRAINED_B]
    else:
        expected |= dict.fromkeys(VALIDATION, VALIDATED)
    found = {path.name: sorted(file.stem for file in path.iterdir()) for path in bench.iterdir() if path.is_dir()}
    assert found == expected
    assert counts == {folder: len(names) for folder, names in expected.items()}
    assert listener.received == sum(counts.values())
    assert len(find_pictures(split_layout(bench).a)) == counts["trainA"]
    # The small packages' tones are right, so that what corrects the real one confuses them.
    pixels = {
        (folder, name): Image.open(bench / folder / f"{name}.png").getpixel((16, 16))
        for folder in HELD_OUT
        for name in HELD
    }
    assert all(pixels["testA", shown(name)] == pixels["testB", name] for name in HELD)
    notice = (bench / "NOTICE.txt").read_text()
    for words in ("Microsoft", "MIT", "LobeHub", "Permission is hereby granted", "clay 1.0.0", "32 x 32"):
        assert words in notice
    assert ("CC-BY 4.0" in notice and "Twitter, Inc" in notice) == (recipe == "twemoji2clay")
    again = tmp_path / "again"
    again.mkdir()
    build(recipe, again, Notes(), size=32, packages=packages)
    assert contents(again) == contents(bench)


def test_nothing_is_fetched_or_written_without_the_renderer(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(UsageError) as caught:
        build("ink2clay", tmp_path, Notes(), packages=packages)
    assert "resvg-py" in caught.value.hint
    assert sorted(tmp_path.iterdir()) == [packages]


def test_a_plan_of_any_emoji_has_pairs_and_no_leaks() -> None:
    names = [f"{0x1F300 + i:x}{tone}" for i in range(400) for tone in ("", "-1f3fb", "-1f3fc", "-1f3fd")]
    held = []
    for recipe in RECIPES.values():
        drawings = plan(recipe, dict.fromkeys(names, b""), dict.fromkeys(names, b""))
        there = {folder: [one.name for one in drawings if one.folder == folder] for folder in recipe.folders}
        groups = {folder: set(map(group, found)) for folder, found in there.items()}
        assert there["testA"] == there["testB"]
        held.append(there["testA"])
        apart = [groups["testA"], *(groups[folder] for folder in TRAINING)]
        if recipe.validation:
            assert there["valA"] == there["valB"] != []
            apart.append(groups["valA"])
        assert sum(map(len, apart)) == len(set.union(*apart)) > 300
    assert all(names == held[0] for names in held)


# --- Examples ------------------------------------------------------------------------------------------

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("shape", [(0, 0, 1, 1), (0.3, 0.3, 0.7, 0.7), (0.1, 0, 0.6, 0.9), (0, 0, 0, 0)])
def test_crops_shift_drawings_on_their_ground_and_never_cut_them(shape: tuple[float, ...]) -> None:
    on_ground = runpy.run_path(str(EXAMPLES / "ink2clay" / "ground.py"))["on_ground"]

    def draw(size: int) -> Image.Image:
        image = Image.new("RGB", (size, size), "white")
        image.paste("black", tuple(round(size * edge) for edge in shape))  # type: ignore[arg-type]
        return image

    ground = on_ground(draw, 64, 112 / 120)
    side = Preparation(64).load_size
    assert ground.size == (side, side)
    box, farthest = drawn(ground), side - 64 - (side - 64) // 2
    if box is not None:
        assert min(*box[:2], side - box[2], side - box[3]) >= farthest


def test_drawings_by_hand_are_what_their_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = EXAMPLES / "drawings" / "draw.py"
    monkeypatch.setattr(sys, "argv", ["draw.py", str(tmp_path)])
    runpy.run_path(str(script), run_name="__main__")
    page = (script.parent / "README.md").read_text()
    kept = sorted(path.name for path in script.parent.glob("*.png"))
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    assert len(kept) == 12
    for name in kept:
        with Image.open(tmp_path / name) as made, Image.open(script.parent / name) as there:
            assert made.size == there.size
            assert f"| `{name}` | {made.width}x{made.height} |" in page
