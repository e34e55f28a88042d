"""How results are called, and what they may not overwrite."""

from __future__ import annotations

import os
import sys
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planning import SUFFIXES, below, jobs_of, make, pairs, png, touch
from ugatit_cli.errors import UsageError
from ugatit_cli.pictures.jobs import Job, find_jobs

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="names or links that Windows lacks")
distinct_case = pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="needs a case-sensitive disk")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def jpg(_: Path) -> str:
    return ".jpg"


# --- OUT as a file -------------------------------------------------------------------------------------


def test_out_is_the_file_for_a_single_file_with_a_picture_suffix() -> None:
    touch("a.jpg", "b.jpg", "d/c.jpg")
    Path("folder.png").mkdir()
    assert jobs_of("a.jpg", out="folder.png")[0].output == Path("folder.png/a.png")
    assert jobs_of("a.jpg", "./a.jpg", out="x/r.JPEG") == [Job(Path("a.jpg"), Path("x/r.JPEG"))]
    assert jobs_of("a.jpg", out="r.txt")[0].output == Path("r.txt/a.png")
    assert jobs_of("d", out="r.png")[0].output == Path("r.png/c.png")
    assert jobs_of("d/*.jpg", out="r.png")[0].output == Path("r.png/c.png")
    assert jobs_of("a.jpg", "b.jpg", out="r.png")[0].output == Path("r.png/a.png")


def test_an_existing_file_may_be_the_output_of_one_picture_only() -> None:
    touch("a.jpg", "b.jpg", "r.png", "r.txt")
    assert jobs_of("a.jpg", out="r.png")[0].output == Path("r.png")
    for arguments, out in ((("a.jpg", "b.jpg"), "r.png"), (("a.jpg",), "r.txt"), (("a.jpg",), "r.txt/x.png")):
        with pytest.raises(UsageError, match=r"^r\.\w+ is a file") as caught:
            make(*arguments, out=out)
        assert "-o results" in caught.value.hint


# --- Overwriting ---------------------------------------------------------------------------------------


def test_a_result_may_not_overwrite_its_source() -> None:
    touch("d/a.png", "d/b.jpg")
    for arguments, out in ((("d/a.png",), "d"), (("d/a.png",), "d/../d/a.png"), (("d/*.png",), "d")):
        with pytest.raises(UsageError, match=r"a\.png would overwrite itself") as caught:
            make(*arguments, out=out)
        assert "-o results" in caught.value.hint
    assert jobs_of("d/b.jpg", out="d") == [Job(Path("d/b.jpg"), Path("d/b.png"))]


def test_a_result_may_not_overwrite_another_input() -> None:
    touch("a.png", "d/a.png")
    with pytest.raises(UsageError, match=r"of a\.png would overwrite the input d"):
        make("a.png", "d/a.png", out="d")


@posix_only
def test_a_result_may_not_overwrite_the_link_that_names_its_source() -> None:
    touch("x/a.png", "d/b.jpg")
    Path("d/a.png").symlink_to("../x/a.png")
    with pytest.raises(UsageError, match="overwrite"):
        make("d/a.png", out="d")
    with pytest.raises(UsageError, match="overwrite"):
        make("d/a.png", out="x")


# --- Names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "names"),
    [(".jpg", ["a.JPG", "b.jpeg", "c.JFIF", "d.jpe"]), (".tif", ["a.tiff"]), (".TIFF", ["b.tif"])],
)
def test_a_name_with_the_right_suffix_is_kept(suffix: str, names: list[str]) -> None:
    touch(*names)
    assert pairs(make(*names, rename=lambda _: suffix)) == [(name, name) for name in names]


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        # The source that is called so keeps a contested name; without one, nobody does.
        (["in/a.jpg", "in/a.png", "in/a.webp"], ["a_jpg.png", "a.png", "a_webp.png"]),
        (["in/a.jpg", "in/a.webp"], ["a_jpg.png", "a_webp.png"]),
        (["a", "in/a.jpg"], ["a_2.png", "a_jpg.png"]),
        # Generated names are counted on, and spare natural ones.
        (
            ["1/a.jpg", "2/a.jpg", "3/a.jpg", "a.png", "a_jpg.webp", "a_jpg_3.png"],
            ["a_jpg_2.png", "a_jpg_4.png", "a_jpg_5.png", "a.png", "a_jpg.png", "a_jpg_3.png"],
        ),
        (["in/ü b.png", "in/..x.jpg", "in/-.png", "in/a.b.jpg"], ["ü b.png", "..x.png", "-.png", "a.b.png"]),
    ],
)
def test_contested_and_awkward_names(sources: list[str], names: list[str]) -> None:
    touch(*sources)
    assert pairs(make(*sources)) == list(zip(sources, names, strict=True))


def test_case_and_normalization_collide() -> None:
    touch("1/É.png", "2/" + unicodedata.normalize("NFD", "é") + ".png", "3/STRASSE.jpg", "4/straße.png")
    names = [below(job) for job in jobs_of("1/*", "2/*", "3/*", "4/*")]
    assert names == ["É.png", unicodedata.normalize("NFD", "é") + "_png.png", "STRASSE_jpg.png", "straße.png"]


@distinct_case
def test_folders_that_differ_in_case_only_collide() -> None:
    touch("in/A/x.jpg", "in/a/X.png")
    assert pairs(make("in")) == [("in/A/x.jpg", "A/x_jpg.png"), ("in/a/X.png", "a/X.png")]


def test_a_result_never_has_the_name_of_a_folder() -> None:
    touch("in/A.png/s/b.jpg", "in/a.jpg", "a.png")
    assert pairs(make("in")) == [("in/A.png/s/b.jpg", "A.png/s/b.png"), ("in/a.jpg", "a_jpg.png")]
    assert [below(job) for job in jobs_of("a.png", "in")] == ["a_png.png", "A.png/s/b.png", "a_jpg.png"]
    touch("n/b.jpg", "n/b.png", "n/b_jpg.png/c.jpg")
    assert pairs(make("n"))[0] == ("n/b.jpg", "b_jpg_2.png")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow only Unicode")
def test_names_that_are_not_utf8() -> None:
    names = [
        os.fsdecode(b"in/\xff.jpg"),
        os.fsdecode(b"in/\xff.png"),
        os.fsdecode(b"in/" + b"\xfe" * 251 + b".jpg"),
    ]
    touch(*names)
    outputs = [os.fsencode(below(job)) for job in make(*names, rename=lambda _: ".webp")[0]]
    assert outputs == [b"\xff_jpg.webp", b"\xff_png.webp", b"\xfe" * 250 + b".webp"]
    assert len(jobs_of("in")) == len(jobs_of("in/*")) == 3


def test_names_that_get_too_long_are_shortened_in_the_stem() -> None:
    long, wide = "x" * 251, "é" * 125
    touch(f"1/{long}.jpg", f"1/{wide}a.jpg", f"2/{wide}a.png", f"3/{wide}a.jpg")
    assert pairs(make("1", rename=lambda _: ".webp"))[0][1] == "x" * 250 + ".webp"
    names = [below(job) for job in jobs_of(f"1/{wide}a.jpg", f"2/{wide}a.png", f"3/{wide}a.jpg")]
    assert names == ["é" * 123 + "_jpg.png", wide + "a.png", "é" * 122 + "_jpg_2.png"]


def test_a_suffix_that_is_none_is_no_endless_tag() -> None:
    touch("1/a." + "y" * 250, "2/a." + "y" * 250)
    names = [below(job) for job in jobs_of("1/*", "2/*")]
    assert names == ["a_" + "y" * 16 + ".png", "a_" + "y" * 16 + "_2.png"]


def test_thousands_of_equal_names_stay_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    touch(*(f"in/{number}/ab.jpg" for number in range(200)))
    calls: list[str] = []
    fsencode = os.fsencode

    def counting(name: str) -> bytes:
        calls.append(name)
        return fsencode(name)

    # Every name that is tried is measured.
    monkeypatch.setattr(os, "fsencode", counting)
    jobs = jobs_of(*(f"in/{number}/ab.jpg" for number in range(200)))
    assert below(jobs[199]) == "ab_jpg_200.png"
    assert 200 <= len(calls) < 6 * 200


# --- Random trees --------------------------------------------------------------------------------------

parts = st.text("aA.é_2", min_size=1, max_size=3).filter(lambda text: text.strip("."))
leaves = st.builds(str.__add__, parts, st.sampled_from([".jpg", ".JPG", ".png", ".jpeg", "_jpg.png", ".webp"]))
trees = st.lists(
    st.builds(lambda folders, leaf: "/".join([*folders, leaf]), st.lists(parts | leaves, max_size=2), leaves),
    min_size=1,
    max_size=8,
)


def build(root: Path, tree: list[str]) -> None:
    """Create what can be: a name may be that of a folder already, or the other way round."""
    for name in tree:
        path = root / name
        if not path.exists() and not any(parent.is_file() for parent in path.parents):
            touch(str(path))


def key(path: Path) -> str:
    return unicodedata.normalize("NFC", path.as_posix().casefold())


def outputs_of(root: Path, arguments: list[str], rename: Callable[[Path], str]) -> list[tuple[str, str]]:
    jobs, _ = find_jobs([str(root / name) for name in arguments], root / "out", suffixes=SUFFIXES, rename=rename)
    rows = []
    for job in jobs:
        assert job.source is not None
        assert job.output is not None
        rows.append((job.source.relative_to(root).as_posix(), job.output.relative_to(root / "out").as_posix()))
    return rows


@settings(max_examples=60, deadline=None, database=None)
@given(trees, st.randoms(use_true_random=False), st.sampled_from([png, jpg]))
def test_outputs_are_distinct_below_out_and_always_the_same(
    tree: list[str], random: Random, rename: Callable[[Path], str]
) -> None:
    tree = ["x/1.jpg", *(f"{'xy'[index % 2]}/{name}" for index, name in enumerate(dict.fromkeys(tree)))]
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        build(Path(first), tree)
        created = [str(path.relative_to(first)) for path in Path(first).rglob("*") if path.is_file()]
        random.shuffle(created)
        build(Path(second), created)
        for arguments in (["x", "y"], ["*"], ["**"], ["x/**/*g", "y", "x"], sorted(created)):
            existing = [name for name in arguments if "*" in name or (Path(first) / name).exists()]
            rows = outputs_of(Path(first), existing, rename)
            assert rows == outputs_of(Path(first), existing, rename)
            assert rows == outputs_of(Path(second), existing, rename)
            check_rows(rows)


def check_rows(rows: list[tuple[str, str]]) -> None:
    outputs = [Path(output) for _, output in rows]
    keys = {key(output) for output in outputs}
    assert len(keys) == len(outputs)
    assert not any(".." in output.parts for output in outputs)
    assert len({source for source, _ in rows}) == len(rows)
    assert keys.isdisjoint(key(parent) for output in outputs for parent in output.parents)
