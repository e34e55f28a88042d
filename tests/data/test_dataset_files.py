"""Finding pictures to train on, and holding some out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ugatit_cli.data.pictures import (
    HOLDOUT_FROM,
    MINIMUM,
    Folders,
    Holdout,
    below,
    check_apart,
    count_links,
    find_pictures,
    parse_holdout,
    split_holdout,
    split_layout,
)
from ugatit_cli.errors import UsageError

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="names or links that Windows lacks")

HERE = Path("somewhere")


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder: Path, *exclude: Path) -> list[str]:
    return [below(folder, path) for path in find_pictures(folder, exclude=exclude)]


def numbered(count: int) -> list[Path]:
    return [HERE / f"{number:04}.png" for number in range(count)]


# --- Finding -------------------------------------------------------------------------------------------


def test_pictures_are_found_below_sorted_and_hidden_ones_are_not(tmp_path: Path) -> None:
    touch(
        tmp_path, "b.JPG", "a/z.png", "a.png", "a-b/c.webp", "note.txt", ".h.png", ".git/x.png", "a/.x/y.png", "png"
    )
    assert found(tmp_path) == ["a-b/c.webp", "a.png", "a/z.png", "b.JPG"]


def test_excluded_folders_are_not_searched(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "run/samples/b.png", "other/run/c.png")
    assert found(tmp_path, tmp_path / "other" / ".." / "run") == ["a.png", "other/run/c.png"]


def test_runs_are_not_searched(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "config.toml", "checkpoints/b.png", "x/run/config.toml", "x/run/samples/c.png")
    assert found(tmp_path) == ["a.png", "checkpoints/b.png", "x/run/samples/c.png"]
    touch(tmp_path, "x/run/checkpoints/step_00000001/state.json")
    assert found(tmp_path) == ["a.png", "checkpoints/b.png"]  # what the user names is searched


@posix_only
def test_links_to_files_count_and_cycles_of_folders_end(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/x.png", "in/a/b.png")
    (tmp_path / "in/link.png").symlink_to("../elsewhere/x.png")
    (tmp_path / "in/a/up").symlink_to("..", target_is_directory=True)
    (tmp_path / "in/gone.png").symlink_to("nothing")  # reported when it is read
    assert found(tmp_path / "in") == ["a/b.png", "gone.png", "link.png"]
    assert count_links(tmp_path / "in") == 1
    (tmp_path / "in/.hidden").symlink_to("a", target_is_directory=True)
    (tmp_path / "in/more").symlink_to("../elsewhere", target_is_directory=True)
    assert count_links(tmp_path / "in") == 2
    assert count_links(tmp_path / "in", exclude=[tmp_path / "elsewhere"]) == 1


@pytest.mark.parametrize(
    ("name", "reason"), [("gone", "there is no such folder"), ("a.png", "is a file, not a folder")]
)
def test_what_is_no_folder_is_named(tmp_path: Path, name: str, reason: str) -> None:
    touch(tmp_path, "a.png")
    with pytest.raises(UsageError) as caught:
        find_pictures(tmp_path / name)
    assert caught.value.message == f"{tmp_path / name}: {reason}"


def test_a_layout_needs_both_training_folders_only(tmp_path: Path) -> None:
    touch(tmp_path, "trainA/a.png")
    with pytest.raises(UsageError, match="has no folder trainB") as caught:
        split_layout(tmp_path)
    assert "trainA and trainB" in caught.value.hint
    touch(tmp_path, "trainB/b.png", "testB/c.png")
    assert split_layout(tmp_path) == Folders(tmp_path / "trainA", tmp_path / "trainB", test_b=tmp_path / "testB")
    with pytest.raises(UsageError, match="there is no such folder"):
        split_layout(tmp_path / "gone")


@posix_only
def test_folders_must_be_apart_whatever_they_are_called(tmp_path: Path) -> None:
    touch(tmp_path, "x/in/a.png", "xy/b.png")
    (tmp_path / "link").symlink_to("x")
    x, inside, other, link = (tmp_path / name for name in ("x", "x/in", "xy", "link"))
    check_apart([x, other])
    with pytest.raises(UsageError, match=r"link: the same folder as .*x$"):
        check_apart([x, other, link])
    for order in ([inside, link], [link, inside]):
        with pytest.raises(UsageError, match=r"in: is inside .*link$"):
            check_apart(order)


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
    with pytest.raises(UsageError, match="a hold-out of") as caught:
        parse_holdout(text)
    assert "5%" in caught.value.hint


@given(st.integers(MINIMUM, 60), st.integers(0, 60), st.integers(0, 5))
def test_a_split_is_complete_and_leaves_enough(pictures: int, amount: int, seed: int) -> None:
    files = numbered(pictures)
    if amount and pictures - amount < MINIMUM:
        with pytest.raises(UsageError, match="holding out"):
            split_holdout(HERE, files, Holdout(amount), seed)
        return
    train, held_out = split_holdout(HERE, files, Holdout(amount), seed)
    assert len(held_out) == amount
    assert sorted([*train, *held_out]) == files
    assert (list(train), list(held_out)) == (sorted(train), sorted(held_out))


@given(st.integers(HOLDOUT_FROM, 80), st.text("abcé\udc80", min_size=1), st.integers(0, 5))
def test_a_picture_more_moves_at_most_one_other_across(pictures: int, name: str, seed: int) -> None:
    files, holdout = numbered(pictures), Holdout(10, percent=True)
    before = set(split_holdout(HERE, files, holdout, seed)[1])
    after = set(split_holdout(HERE, [*files, HERE / name], holdout, seed)[1])
    moved = (before ^ after) - {HERE / name}
    assert len(moved) <= 1
    if holdout.count(pictures + 1) == len(before):
        assert after - {HERE / name} <= before  # what was trained on isn't held out now


def test_a_split_depends_on_seed_and_names_only() -> None:
    files, elsewhere = numbered(50), [Path("/else") / path.name for path in numbered(50)]
    split = [path.name for path in split_holdout(HERE, files, Holdout(10), 1)[1]]
    assert [path.name for path in split_holdout(Path("/else"), elsewhere, Holdout(10), 1)[1]] == split
    assert [path.name for path in split_holdout(HERE, files, Holdout(10), 2)[1]] != split
