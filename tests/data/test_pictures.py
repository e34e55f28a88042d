"""Finding pictures to train on, holding some out, and loading them."""

from __future__ import annotations

import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers import picture
from ugatit_cli.config import DOMAINS
from ugatit_cli.data import pictures
from ugatit_cli.data.pictures import (
    HOLDOUT_FROM,
    MAX_ASPECT,
    MINIMUM,
    Folders,
    Holdout,
    Pictures,
    Preparation,
    below,
    check_apart,
    find_pictures,
    fingerprint,
    layout_root,
    load_pictures,
    memory_budget,
    parse_holdout,
    passed_over,
    prepare_picture,
    split_holdout,
    split_layout,
)
from ugatit_cli.errors import DataError, Interrupted, PictureError, UsageError
from ugatit_cli.pictures.jobs import LINKED

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="names or links that Windows lacks")

HERE = Path("somewhere")


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder: Path, *exclude: Path) -> list[str]:
    return [below(folder, path) for path in find_pictures(folder, exclude=exclude)]


def names(count: int) -> list[Path]:
    return [HERE / f"{number:04}.png" for number in range(count)]


# --- Finding -------------------------------------------------------------------------------------------


def test_pictures_are_found_below_sorted_and_hidden_ones_are_not(tmp_path: Path) -> None:
    touch(
        tmp_path, "b.JPG", "a/z.png", "a.png", "a-b/c.webp", "note.txt", ".h.png", ".git/x.png", "a/.x/y.png", "png"
    )
    assert found(tmp_path) == ["a-b/c.webp", "a.png", "a/z.png", "b.JPG"]


def test_runs_and_excluded_folders_are_not_searched(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "config.toml", "checkpoints/b.png", "x/run/config.toml", "x/run/samples/c.png")
    assert found(tmp_path) == ["a.png", "checkpoints/b.png", "x/run/samples/c.png"]
    assert found(tmp_path, tmp_path / "x" / ".." / "x" / "run") == ["a.png", "checkpoints/b.png"]
    touch(tmp_path, "x/run/checkpoints/step_00000001/state.json")
    assert found(tmp_path) == ["a.png", "checkpoints/b.png"]  # what the user names is searched


@posix_only
def test_links_to_files_count_and_cycles_of_folders_end(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/x.png", "in/a/b.png")
    (tmp_path / "in/link.png").symlink_to("../elsewhere/x.png")
    (tmp_path / "in/a/up").symlink_to("..", target_is_directory=True)
    (tmp_path / "in/gone.png").symlink_to("nothing")  # reported when it is read
    assert found(tmp_path / "in") == ["a/b.png", "gone.png", "link.png"]
    assert passed_over(tmp_path / "in") == {LINKED: 1}
    (tmp_path / "in/.hidden").symlink_to("a", target_is_directory=True)
    (tmp_path / "in/more").symlink_to("../elsewhere", target_is_directory=True)
    touch(tmp_path, "in/a/c.PSD", "in/d", "in/.hidden.txt")
    assert passed_over(tmp_path / "in") == {LINKED: 2, ".psd": 1, "": 1}
    assert passed_over(tmp_path / "in", exclude=[tmp_path / "elsewhere"])[LINKED] == 1


@pytest.mark.parametrize("name", ["gone", "a.png"])
@pytest.mark.parametrize("search", [find_pictures, split_layout])
def test_what_is_no_folder_is_named(tmp_path: Path, name: str, search: Any) -> None:
    touch(tmp_path, "a.png")
    with pytest.raises(UsageError, match=name):
        search(tmp_path / name)


def test_a_layout_needs_both_training_folders_only(tmp_path: Path) -> None:
    touch(tmp_path, "trainA/a.png")
    with pytest.raises(UsageError, match="trainB"):
        split_layout(tmp_path)
    touch(tmp_path, "trainB/b.png", "testB/c.png")
    assert split_layout(tmp_path) == Folders(tmp_path / "trainA", tmp_path / "trainB", test_b=tmp_path / "testB")


WORDS = st.sampled_from(["train", "test"]).flatmap(
    lambda word: st.tuples(*(st.sampled_from([letter, letter.upper()]) for letter in word)).map("".join)
)
SPELLINGS = st.tuples(WORDS, st.sampled_from(["", "_", "-", " ", "/"]), st.sampled_from("aAbB")).map("".join)


OTHERS = st.sets(st.sampled_from(["train", "trainC", "valA", "a/trainA"]), max_size=1)


@settings(max_examples=25)
@given(st.lists(SPELLINGS, unique=True, max_size=6), OTHERS)
@example(["train_A", "train_B", "test_A", "test_B"], set())
@example(["train/A", "train/B", "test/A"], {"train"})
@example(["trainA", "train_a", "trainB"], set())
def test_sets_may_be_spelt_in_any_way_but_not_twice(spelt: list[str], others: set[str]) -> None:
    sets: dict[str, list[str]] = {}
    for name in spelt:
        sets.setdefault(name[: -1 - (not name[-2].isalpha())].lower() + name[-1].upper(), []).append(name)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "horse2zebra")
        for name in (*spelt, *others, "notes"):
            (root / name).mkdir(parents=True, exist_ok=True)
        twice = [names for names in sets.values() if len(names) > 1]
        if twice or not sets.keys() >= {"trainA", "trainB"}:
            with pytest.raises(UsageError) as caught:
                split_layout(root)
            named = [names for names in twice if sum(str(root / name) in caught.value.message for name in names) == 2]
            assert named or not twice
            return
        folders = split_layout(root)
        assert (folders.a, folders.b) == (root / sets["trainA"][0], root / sets["trainB"][0])
        tests = [root / sets[name][0] if name in sets else None for name in ("testA", "testB")]
        assert [folders.test_a, folders.test_b] == tests
        assert layout_root(folders) == root.resolve()


# --- Hold-out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pictures", "count"),
    [
        ("5%", HOLDOUT_FROM - 1, 0),
        ("5%", HOLDOUT_FROM, 1),
        ("0.1%", 100, 1),
        ("5%", 109, 5),
        ("5%", 110, 6),
        ("12.5%", 1000, 125),
        ("0%", 1000, 0),
        ("20", 5, 20),
        (" 0 ", 100, 0),
        ("off", 100, 0),
    ],
)
def test_holdout_counts(text: str, pictures: int, count: int) -> None:
    assert parse_holdout(text).count(pictures) == count


@pytest.mark.parametrize("text", ["", "-1", "100%", "5 percent", "%", "1.5", "nan%", "²", "1e3", "no"])
def test_holdouts_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_holdout(text)
    assert repr(text) in caught.value.message


@given(st.integers(MINIMUM, 60), st.integers(0, 60), st.integers(0, 5))
def test_a_split_is_complete_and_leaves_enough(pictures: int, amount: int, seed: int) -> None:
    files = names(pictures)
    if amount and pictures - amount < MINIMUM:
        with pytest.raises(UsageError, match="holding out"):
            split_holdout(HERE, files, Holdout(amount), seed)
        return
    train, held_out = split_holdout(HERE, files, Holdout(amount), seed)
    assert len(held_out) == amount
    assert sorted([*train, *held_out]) == files
    assert (list(train), list(held_out)) == (sorted(train), sorted(held_out))
    elsewhere = split_holdout(Path("/else"), [Path("/else") / path.name for path in files], Holdout(amount), seed)
    assert [path.name for path in elsewhere[1]] == [path.name for path in held_out]


def test_seeds_hold_out_others() -> None:
    one, other = (split_holdout(HERE, names(50), Holdout(10), seed)[1] for seed in (1, 2))
    assert one != other


@given(st.integers(HOLDOUT_FROM, 80), st.text("abcé\udc80", min_size=1), st.integers(0, 5))
def test_a_picture_more_moves_at_most_one_other_across(pictures: int, name: str, seed: int) -> None:
    files, holdout = names(pictures), Holdout(10, percent=True)
    before = set(split_holdout(HERE, files, holdout, seed)[1])
    after = set(split_holdout(HERE, [*files, HERE / name], holdout, seed)[1])
    moved = (before ^ after) - {HERE / name}
    assert len(moved) <= 1
    if holdout.count(pictures + 1) == len(before):
        assert after - {HERE / name} <= before  # what was trained on isn't held out now


SMALL = Preparation(16)
OFF = Holdout(0)


def fill(folder: Path, count: int = MINIMUM, *, size: tuple[int, int] = (24, 20), first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        picture(*size, seed=number).save(folder / f"{number:03}.png")
    return folder


def folders(root: Path, count: int = MINIMUM) -> Folders:
    return Folders(fill(root / "x", count), fill(root / "y", count, first=100))


def load(given: Folders, preparation: Preparation = SMALL, **options: Any) -> tuple[Pictures, Pictures]:
    return load_pictures(given, preparation, options.pop("holdout", OFF), 1, workers=2, **options)


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


# --- One picture ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fit", "size", "shape"),
    [
        ("aspect", (64, 48), (36, 48, 3)),
        ("aspect", (48, 64), (48, 36, 3)),
        ("aspect", (5, 5), (36, 36, 3)),
        ("squash", (64, 48), (62, 62, 3)),
        ("squash", (3, 200), (62, 62, 3)),
    ],
)
def test_fits(tmp_path: Path, fit: Any, size: tuple[int, int], shape: tuple[int, int, int]) -> None:
    path = saved(tmp_path / "a.png", Image.new("RGB", size, (9, 99, 200)))
    pixels = prepare_picture(path, Preparation(32, fit))
    assert pixels.shape == shape
    assert pixels.dtype == np.uint8
    assert (pixels == (9, 99, 200)).all()


def test_a_panorama_keeps_its_middle_unsquashed_and_antialiased(tmp_path: Path) -> None:
    image = Image.new("RGB", (1000, 40), (255, 0, 0))
    image.paste((0, 0, 255), (460, 0, 540, 40))  # the middle 80 x 40, which is what fits
    image.paste((0, 255, 0), (490, 10, 510, 30))  # a square in it
    pixels = prepare_picture(saved(tmp_path / "a.png", image), Preparation(32, jitter=False))
    assert pixels.shape == (32, 64, 3)
    assert (pixels[:, 1:-1, 0] == 0).all()  # antialiasing sees one pixel beyond
    rows, columns = np.nonzero(pixels[..., 1] > 127)
    assert [int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1] == [16, 16]
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = prepare_picture(saved(tmp_path / "b.png", Image.fromarray(stripes)), Preparation(8, jitter=False))
    assert np.abs(pixels.astype(int) - 127).max() < 12
    line = saved(tmp_path / "c.png", Image.new("L", (1_000_000, 1), 255))  # whole, it would be of gigabytes
    assert prepare_picture(line, Preparation(256)).shape == (286, 572, 3)


@pytest.mark.parametrize("bicubic", [False, True])
def test_ways_to_resize(tmp_path: Path, *, bicubic: bool) -> None:
    path = saved(tmp_path / "a.png", picture(50, 40))
    way = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB").resize((62, 62), way))
    np.testing.assert_array_equal(prepare_picture(path, Preparation(32, "squash", bicubic=bicubic)), expected)


def test_a_long_animation_is_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("L", (500, 400), grey) for grey in (200, 0)]
    data = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:]).read_bytes()
    second = data.rindex(b"!\xf9")
    (tmp_path / "a.gif").write_bytes(data[:second] + 1000 * data[second:-1] + b";")  # 200 megapixels
    assert (prepare_picture(tmp_path / "a.gif", SMALL) == 200).all()


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["aspect", "squash"]), st.booleans())
def test_crops_fit_into_pictures_of_any_size_and_pictures_stay_bounded(
    width: int, height: int, fit: Any, jitter: bool
) -> None:
    preparation = Preparation(16, fit, jitter=jitter)
    shape = pictures._prepared(Image.new("RGB", (width, height)), preparation).shape[:2]
    assert min(shape) == preparation.load_size
    assert max(shape) <= MAX_ASPECT * preparation.load_size
    assert fit == "aspect" or max(shape) == preparation.load_size


def test_pictures_are_upright_and_over_the_background(tmp_path: Path) -> None:
    image = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter clockwise: left becomes top
    path = saved(tmp_path / "a.png", image, exif=exif)
    pixels = prepare_picture(path, Preparation(20, background=(1, 2, 3), jitter=False))
    assert pixels.shape == (40, 20, 3)
    assert pixels[5, 10].tolist() == [200, 0, 0]
    assert pixels[35, 10].tolist() == [1, 2, 3]


# --- Both domains --------------------------------------------------------------------------------------


def test_everything_usable_is_kept_in_memory(tmp_path: Path) -> None:
    given = folders(tmp_path)
    seen: list[tuple[int, int]] = []
    a, b = load(given, progress=lambda done, total: seen.append((done, total)))
    assert (a.domain, a.folder, b.domain, b.folder) == ("a", given.a, "b", given.b)
    assert [path.name for path in a.files] == [f"{number:03}.png" for number in range(MINIMUM)]
    assert a.sizes == tuple(path.stat().st_size for path in a.files)
    assert a.pixels is not None
    for path, pixels in zip(b.files, b.pixels or (), strict=True):
        np.testing.assert_array_equal(pixels, prepare_picture(path, SMALL))
    assert (a.broken, a.upscaled, a.held_out) == ((), 0, ())
    assert seen == [(done, 2 * MINIMUM) for done in range(1, 2 * MINIMUM + 1)]
    fill(given.a, 3, size=(15, 40), first=50)
    fill(given.a, 2, size=(16, 16), first=60)
    a, b = load(given)
    assert (a.upscaled, b.upscaled) == (3, 0)
    assert min(min(pixels.shape[:2]) for pixels in a.pixels or ()) == SMALL.load_size


def test_the_budget_is_for_both_domains_and_all_or_nothing(tmp_path: Path) -> None:
    given = folders(tmp_path)
    every = load(given)
    needed = sum(pixels.nbytes for one in every for pixels in one.pixels or ())
    assert all(one.pixels is not None for one in load(given, budget_bytes=needed))
    tight = load(given, budget_bytes=needed - 1)
    assert all(one.pixels is None for one in tight)
    np.testing.assert_array_equal(tight[0].picture(3), every[0].picture(3))
    tested = replace(given, test_a=fill(tmp_path / "test", 3))  # which are decoded when used
    assert all(one.pixels is not None for one in load(tested, budget_bytes=needed))


def test_broken_and_blank_pictures_are_named_and_left_out(tmp_path: Path) -> None:
    given = folders(tmp_path, MINIMUM + 3)
    (given.a / "000.png").write_bytes((given.a / "001.png").read_bytes()[:300])
    (given.a / "002.png").write_bytes(b"")
    (given.a / "003.png").unlink()
    (given.a / "003.png").mkdir()  # a folder is no picture, and not broken either
    saved(given.a / "white.png", Image.new("RGB", (20, 20), "white"))
    grey = np.full((20, 20, 3), 128, np.uint8)
    grey[::2] += 2
    saved(given.a / "nearly.png", Image.fromarray(grey))
    grey[0, 0] = 0
    saved(given.a / "dot.png", Image.fromarray(grey))
    a, b = load(given)
    assert [path.name for path in a.files] == ["001.png", *(f"{n:03}.png" for n in range(4, MINIMUM + 3)), "dot.png"]
    for error, name in zip(a.broken, ("000.png", "002.png", "nearly.png", "white.png"), strict=True):
        assert error.message.startswith(f"{given.a / name}: ")
    assert b.broken == ()


def test_the_most_pixels_hold_when_a_picture_is_read_again(tmp_path: Path) -> None:
    given = folders(tmp_path)
    Image.effect_noise((90, 90), 50).save(given.a / "large.png")
    a, _ = load(given, budget_bytes=0, max_pixels=8099)
    assert [error.message.startswith(f"{given.a / 'large.png'}: ") for error in a.broken] == [True]
    a, _ = load(given, budget_bytes=0, max_pixels=8100)
    assert a.broken == ()
    with pytest.raises(PictureError):
        replace(a, max_pixels=8099).picture(a.files.index(given.a / "large.png"))


def test_too_few_pictures_are_refused_with_the_broken_ones_named(tmp_path: Path) -> None:
    given = folders(tmp_path, MINIMUM + 3)
    for number in range(4):
        (given.b / f"10{number}.png").write_bytes(b"rubbish")
    with pytest.raises(DataError) as caught:
        load(given)
    assert caught.value.message.startswith(f"{given.b}: 7 pictures")
    assert "4 broken (100.png, 101.png, 102.png, ...)" in caught.value.message
    assert "100.png" in caught.value.hint
    seen: list[int] = []
    with pytest.raises(DataError, match=f"{tmp_path / 'one'}: 1 picture "):  # before the others are read
        load(Folders(given.a, fill(tmp_path / "one", 1)), progress=lambda done, _: seen.append(done))
    assert seen == [1]


def test_a_folder_without_pictures_says_why(tmp_path: Path) -> None:
    given = Folders(fill(tmp_path / "x"), touch(tmp_path / "y", "a.txt"))
    with pytest.raises(DataError, match=f"{given.b}: ") as caught:
        load(given)
    assert ".jpeg" in caught.value.hint
    if sys.platform == "win32":
        return
    for number in (1, 2):
        (given.b / str(number)).symlink_to(given.a, target_is_directory=True)
        with pytest.raises(DataError, match=rf"{given.b}: .*{number} linked"):
            load(given)


@posix_only
@pytest.mark.parametrize("key", ["b", "test_a", "test_b"])
@pytest.mark.parametrize("name", ["x", "x/../x", "x/sub", "link", "link/sub", "."])
def test_overlapping_folders_are_refused_whatever_they_are_called(tmp_path: Path, key: str, name: str) -> None:
    given = folders(tmp_path)
    fill(tmp_path / "x/sub")
    (tmp_path / "link").symlink_to("x")
    check_apart([given.a, given.b, fill(tmp_path / "xy")])
    with pytest.raises(UsageError, match=str(given.a)):
        load(replace(given, **{key: tmp_path / name}))


def test_held_out_pictures_are_not_trained_on(tmp_path: Path) -> None:
    given = folders(tmp_path, MINIMUM + 4)
    a, _ = load(given, holdout=Holdout(4))
    assert (len(a.files), len(a.held_out), len(a.sizes), len(a.pixels or ())) == (MINIMUM, 4, MINIMUM, MINIMUM)
    assert not set(a.files) & set(a.held_out)
    np.testing.assert_array_equal(a.picture(2), prepare_picture(a.files[2], SMALL))
    with pytest.raises(UsageError, match=f"{given.a}: .* 5 .* 7 of 12"):
        load(given, holdout=Holdout(5))
    tested = replace(given, test_a=fill(tmp_path / "test", 3, first=40))
    (tmp_path / "test" / "041.png").write_bytes(b"")
    a, b = load(tested, holdout=Holdout(2))
    assert [path.name for path in a.held_out] == ["040.png", "042.png"]
    assert (len(a.files), len(a.broken), len(b.held_out)) == (MINIMUM + 4, 1, 2)


def test_stopping_ends_the_loading(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    seen: list[int] = []
    with pytest.raises(Interrupted):
        load(folders(tmp_path), progress=lambda done, _: seen.append(done), stop=stop)
    assert seen == []


# --- Memory and fingerprint ----------------------------------------------------------------------------


@pytest.mark.parametrize("meminfo", [None, "rubbish", "MemFree: 5 kB\nMemAvailable:   1000 kB\n"])
@pytest.mark.parametrize("limit", [None, "max\n", "1000\n", "9999999999\n"])
def test_memory_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meminfo: str | None, limit: str | None
) -> None:
    for name, text in (("_MEMINFO", meminfo), ("_CGROUP_LIMIT", limit)):
        monkeypatch.setattr(pictures, name, tmp_path / name)
        if text is not None:
            (tmp_path / name).write_text(text)
    known = 1_024_000 if meminfo and "1000" in meminfo else 2**30
    assert memory_budget() == int(0.4 * min(known, 1000 if limit == "1000\n" else known))


def test_the_fingerprint_of_a_run_stays_the_same_for_good() -> None:
    files = (HERE / "1.png", HERE / "x/2.png")
    a, b = (Pictures(domain, HERE, SMALL, files, (10, 20), None, (), (), 0) for domain in DOMAINS)
    # Recorded: a run that goes on may have newer code.
    assert fingerprint((a, b)) == "ffda0aa3b1e438c61377a989122369747c4d6a052c4102be14c7f481a2cc3173"


def test_the_fingerprint_is_of_pictures_not_of_places(tmp_path: Path) -> None:
    given = folders(tmp_path / "one")
    before = fingerprint(load(given))
    (tmp_path / "one").rename(tmp_path / "two")
    moved = Folders(tmp_path / "two/x", tmp_path / "two/y")
    assert fingerprint(load(moved)) == before
    assert fingerprint(load(moved, budget_bytes=0)) == before
    assert fingerprint(load(moved, replace(SMALL, background=(0, 0, 0)))) != before
    assert fingerprint(load(moved, replace(SMALL, bicubic=True))) != before
    assert fingerprint(load(Folders(moved.b, moved.a))) != before
    fill(moved.b, 1, first=300)
    added = fingerprint(load(moved))
    assert added != before
    (moved.b / "300.png").rename(moved.b / "301.png")
    renamed = fingerprint(load(moved))
    assert renamed not in {before, added}
    with (moved.b / "301.png").open("ab") as file:
        file.write(b"longer")
    assert fingerprint(load(moved)) != renamed
