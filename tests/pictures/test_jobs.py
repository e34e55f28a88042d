"""Which pictures an argument names, how results are called, and what is never overwritten."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugatit_cli.errors import UsageError
from ugatit_cli.pictures.jobs import Found, Job, Wanted, find_jobs, in_words, listed
from ugatit_cli.remote.urls import Place

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"}
WRITABLE = {".jpg", ".png"}
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="names or links that Windows lacks")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def touch(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def png(_: Place) -> str:
    return ".png"


def jpg(_: Place) -> str:
    return ".jpg"


def make(*arguments: str, out: str | None = "out", rename: Callable[[Place], str] = png, **more: Any) -> Found:
    return find_jobs(Wanted(arguments, out, SUFFIXES, rename, writable=WRITABLE, **more))


def jobs_of(*arguments: str, out: str | None = "out") -> list[Job]:
    """Jobs of arguments that are all there."""
    found = make(*arguments, out=out)
    assert found.missing == {}
    return found.jobs


def pairs(found: Found) -> list[tuple[str, str]]:
    """Every job as strings, the outputs relative to `out`."""
    assert found.missing == {}
    return [(job.source.as_posix() if isinstance(job.source, Path) else "-", below(job)) for job in found.jobs]


def below(job: Job) -> str:
    assert isinstance(job.output, Path)
    return job.output.relative_to("out").as_posix()


# --- Files, folders and patterns -----------------------------------------------------------------------

PATTERNS = "p/a.jpg p/q/b.jpg p/q/r/c.jpg p/q/d.txt p/.h/e.jpg"
LEVELS = "p/q/1/a.jpg p/q/2/b.jpg p/q/2/c.txt p/q/.h/d.jpg p/q/e.jpg"
MIXED = "p/x/s/a.jpg p/x/b.txt p/y.jpg p/z.jpg/c.png"
LITERAL = "a[1].jpg a1.jpg d[1]/b.jpg d1/b.jpg"
EARLIER = "a.jpg out/a.png x/b.jpg out/s/c.png out/raw/d.jpg"
JPGS = "p/a.jpg>a.png p/q/b.jpg>q/b.png p/q/r/c.jpg>q/r/c.png"


@pytest.mark.parametrize(
    ("files", "arguments", "expected"),
    [
        # Files go to their names, whatever their suffixes.
        ("a.jpg b/c.dat plain", "b/c.dat a.jpg plain", "b/c.dat>c.png a.jpg>a.png plain>plain.png"),
        # A folder is mirrored, sorted by relative path; files beside it don't matter.
        ("in/b.JPG in/a/z.png in/a.png in/n.txt", "in", "in/a.png>a.png in/a/z.png>a/z.png in/b.JPG>b.png"),
        ("x/s/a.png b.png", "b.png x", "b.png>b.png x/s/a.png>s/a.png"),
        # Hidden ones only where they are named.
        ("in/.a.png in/.git/b.png in/c.png", "in", "in/c.png>c.png"),
        ("in/.a.png .h/d.png", "in/.a.png .h", "in/.a.png>.a.png .h/d.png>d.png"),
        # What is given twice is done once, under its first name.
        ("x/a.png", "x ./x/ x/a.png", "x/a.png>a.png"),
        ("in/s/a.png in/b.png", "./in/s/a.png in in/s/../s/a.png", "in/s/a.png>a.png in/b.png>b.png"),
        # Folders of one name share theirs.
        ("1/x/a.png 2/x/a.png", "1/x 2/x", "1/x/a.png>x/a.png 2/x/a.png>x/a_png.png"),
        ("x/a.png deep/y/b.png", "x/ deep/../deep/y/.", "x/a.png>x/a.png deep/../deep/y/b.png>y/b.png"),
        # "-" is standard input, even if there is a folder.
        ("-/a.png x/b.png", "- x", "->stdin.png x/b.png>b.png"),
        # Patterns are mirrored from their literal folders.
        (LEVELS, "p/q/?/*.jpg", "p/q/1/a.jpg>1/a.png p/q/2/b.jpg>2/b.png"),
        (LEVELS, "p/q/[2-9]/*", "p/q/2/b.jpg>2/b.png p/q/2/c.txt>2/c.png"),
        (LEVELS, "p/q/.?/*", "p/q/.h/d.jpg>.h/d.png"),
        (LEVELS, "p/*/e.jpg", "p/q/e.jpg>q/e.png"),
        # Two stars are recursive.
        (PATTERNS, "p/**/*.jpg", JPGS),
        (PATTERNS, "p/**/**/*.jpg", JPGS),
        (PATTERNS, "p/**", "p/a.jpg>a.png p/q/b.jpg>q/b.png p/q/d.txt>q/d.png p/q/r/c.jpg>q/r/c.png"),
        (PATTERNS, "p/**/*", "p/a.jpg>a.png p/q/b.jpg>q/b.png p/q/d.txt>q/d.png p/q/r/c.jpg>q/r/c.png"),
        # Folders that match are scanned.
        (MIXED, "p/[x-y]*", "p/x/s/a.jpg>x/s/a.png p/y.jpg>y.png"),
        (MIXED, "p/z*", "p/z.jpg/c.png>z.jpg/c.png"),
        (MIXED, "p/**/*.jpg", "p/x/s/a.jpg>x/s/a.png p/y.jpg>y.png"),
        # What exists is taken literally.
        (LITERAL, "a[1].jpg", "a[1].jpg>a[1].png"),
        (LITERAL, "d[1]", "d[1]/b.jpg>b.png"),
        (LITERAL, "d[1]/*.jpg", "d[1]/b.jpg>b.png"),
        (LITERAL, "a[12].jpg", "a1.jpg>a1.png"),
        # Results are no inputs, unless a folder of them is named.
        (EARLIER, "**/*.*g", "a.jpg>a.png x/b.jpg>x/b.png"),
        (EARLIER, "*", "a.jpg>a.png x/b.jpg>x/b.png"),
        (EARLIER, "out/raw", "out/raw/d.jpg>d.png"),
    ],
)
def test_what_arguments_name(files: str, arguments: str, expected: str) -> None:
    touch(*files.split())
    assert pairs(make(*arguments.split())) == [tuple(pair.rsplit(">", 1)) for pair in expected.split()]


@posix_only
@pytest.mark.parametrize(
    ("files", "links", "arguments", "expected"),
    [
        # To files they are taken, to folders they are not, unless the argument goes through one.
        ("o/a.png in/b.png", "in/loop>.. in/l.png>../o/a.png", "in", "in/b.png>b.png in/l.png>l.png"),
        ("o/a.png o/c.png in/b.png", "in/loop>..", "in/loop/o", "in/loop/o/a.png>a.png in/loop/o/c.png>c.png"),
        # Two stars follow none, a pattern of one level does.
        ("p/a.jpg", "p/loop>. p/loop2>.", "p/**/*.jpg", "p/a.jpg>a.png"),
        ("e/a.jpg p/b.jpg", "p/link>../e", "p/*/*.jpg e/a.jpg", "p/link/a.jpg>link/a.png"),
        # A link and its target are one source.
        ("b.png", "a.png>b.png", "b.png a.png", "b.png>b.png"),
        # What lies in OUT is no input, however it is reached.
        ("in/a.jpg out/b.png", "in/b.png>../out/b.png in/s>../out", "in", "in/a.jpg>a.png"),
        ("in/a.jpg out/b.png", "in/b.png>../out/b.png in/s>../out", "in/*", "in/a.jpg>a.png"),
        ("in/a.jpg out/deep/c.png", "in/d>../out/deep", "in/*", "in/a.jpg>a.png"),
    ],
)
def test_links(files: str, links: str, arguments: str, expected: str) -> None:
    touch(*files.split())
    for link, target in (one.split(">") for one in links.split()):
        Path(link).symlink_to(target)
    assert pairs(make(*arguments.split())) == [tuple(pair.rsplit(">", 1)) for pair in expected.split()]


@posix_only
@pytest.mark.parametrize("argument", ["in", "in/*", "in/**/*.png"])
def test_what_only_looks_like_a_picture_is_missing(argument: str) -> None:
    touch("in/b.png", "in/c.txt")
    Path("in/broken.png").symlink_to("nothing")
    Path("in/broken.txt").symlink_to("nothing")
    Path("in/self.png").symlink_to("self.png")
    os.mkfifo("in/pipe.png")
    found = make(argument)
    assert "in/b.png" in [str(job.source) for job in found.jobs]
    assert sorted(found.missing.items()) == [
        ("in/broken.png", "the link leads nowhere"),
        ("in/pipe.png", "not a regular file"),
        ("in/self.png", "the link leads nowhere"),
    ]


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch("home/a.png")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert jobs_of("~/a.png", out="~/out") == [Job(tmp_path / "home/a.png", tmp_path / "home/out/a.png")]


def test_missing_arguments_are_listed_and_the_rest_goes_on() -> None:
    touch("a.png", "file")
    found = make("nothing.png", "a.png", "x*.png", "", "file/", "nothing.png")
    assert [job.name for job in found.jobs] == ["a.png"]
    assert list(found.missing) == ["nothing.png", "x*.png", "", "file/"]
    assert found.missing["nothing.png"] == "no such file"
    assert found.missing["x*.png"] == "no file matches this pattern"
    assert make("x/*/../../a.png").jobs == []  # or its result would be outside of OUT
    assert make("nothing") == Found([], {"nothing": "no such file"})
    if sys.platform != "win32":  # a broken link that looks like a pattern
        Path("[f]ile").symlink_to("nothing")
        assert make("[f]ile") == Found([], {"[f]ile": "no such file"})


def test_unreadable_subfolders_are_listed_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("in/a.png", "in/1no/b.png", "in/2no/b.png", "in/3no/b.png", "in/z/c.png")
    scandir = os.scandir

    def listing(path: str | int) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("no"):  # for root, too
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", listing)
    for argument in ("in", "in/**/*.png"):
        found = make(argument)
        assert [below(job) for job in found.jobs] == ["a.png", "z/c.png"]
        assert [Path(name).as_posix() for name in found.missing] == ["in/1no", "in/2no", "in/3no"]
        assert all("permission denied" in reason for reason in found.missing.values())


# --- Standard input and output, OUT as a file ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "out", "expected"),
    [
        ("-", None, [None]),
        ("-", "-", [None]),
        ("-", "x.PNG", ["x.PNG"]),
        ("-", "out", ["out/stdin.png"]),
        ("a.jpg -", "out", ["out/a.png", "out/stdin.png"]),
        ("a.jpg", "-", [None]),
        ("a.jpg ./a.jpg", "x/r.JPEG", ["x/r.JPEG"]),
        ("a.jpg", "folder.png", ["folder.png/a.png"]),
        ("a.jpg", "new.txt/", ["new.txt/a.png"]),
        ("a.jpg d/b.jpg", "new.txt", ["new.txt/a.png", "new.txt/b.png"]),
        ("d", "new.txt", ["new.txt/b.png"]),
        ("a.jpg", "v1.2", ["v1.2/a.png"]),
        ("a.jpg", "new.png/", ["new.png/a.png"]),
        ("d", "new.png/", ["new.png/b.png"]),
        ("d/*.jpg", "folder.png", ["folder.png/b.png"]),
        ("a.jpg d/b.jpg", "v1.2", ["v1.2/a.png", "v1.2/b.png"]),
        ("d", "new.clay", ["new.clay/b.png"]),
        ("a.jpg", "r.png", ["r.png"]),
        ("d/b.jpg", "d", ["d/b.png"]),
    ],
)
def test_where_results_go(arguments: str, out: str | None, expected: list[str | None]) -> None:
    touch("a.jpg", "d/b.jpg", "r.png")
    Path("folder.png").mkdir()
    jobs = jobs_of(*arguments.split(), out=out)
    assert [job.output for job in jobs] == [name and Path(name) for name in expected]
    assert [job.name for job in jobs if job.source is None] == ["<stdin>"] * arguments.split().count("-")


@pytest.mark.parametrize(
    ("arguments", "out", "named"),
    [
        ("none", "out", "none"),
        ("- -", "out", "-"),
        ("a.jpg", None, "-o/--output"),
        ("a.jpg -", None, "-o/--output"),
        ("a.jpg -", "-", "standard output"),
        ("a.jpg x/b.jpg", "-", "standard output"),
        ("x", "-", "standard output"),
        # An existing file may be the output of one picture only.
        ("a.jpg x/b.jpg", "r.png", "r.png"),
        ("a.jpg", "r.txt", "r.txt"),
        ("a.jpg", "r.txt/x.png", "r.txt"),
        # A file that no picture can be is not a folder either.
        ("a.jpg", "new.pdf", ".pdf. They are written as .jpg, .png. For a folder of that name: -o new.pdf/"),
        ("-", "x/new.MP4", "MP4"),
        # Nor is one that has the name of a file: it would be a surprise.
        ("none x", "new.png", "-o new.png/"),
        ("x/*.jpg", "new.PNG", "-o new.PNG/"),
        ("a.jpg x/b.jpg", "new.pdf", "-o new.pdf/"),
        ("a.jpg x/b.jpg", "new.zip", "-o new.zip/; for an archive: -o zip://new.zip"),
        ("a.jpg", "new.zip", "-o zip://new.zip"),
        ("x", "new.tar.gz", "-o new.tar.gz/"),
        pytest.param("a.jpg", "/dev/stdout", "-o -", marks=posix_only),
        # Nothing is overwritten that is a source, nor the link that names one.
        ("d/a.png", "d", "a.png would overwrite itself"),
        ("d/a.png", "d/../d/a.png", "a.png would overwrite itself"),
        ("d/*.png", "d", "a.png would overwrite itself"),
        ("a.png d/a.png", "d", "a.png would overwrite the input d"),
        pytest.param("links/a.png", "links", "a.png", marks=posix_only),
        pytest.param("links/a.png", "d", "a.png", marks=posix_only),
        # Results don't mix with the pictures of a folder.
        ("in", "in", "in"),
        ("in/", "x/../in", "in"),
        ("x in", "in", "in"),
        ("x in", ".", "in"),
    ],
)
def test_what_is_refused(arguments: str, out: str | None, named: str) -> None:
    touch("a.jpg", "a.png", "x/b.jpg", "d/a.png", "r.png", "r.txt", "in/a.jpg", "none/a.txt", "links/b.jpg")
    if sys.platform != "win32":
        Path("links/a.png").symlink_to("../d/a.png")
    with pytest.raises(UsageError) as caught:
        make(*arguments.split(), out=out)
    assert named in f"{caught.value.message}. {caught.value.hint}"
    assert caught.value.hint


# --- Results that would be inputs, or each other ---------------------------------------------------------

# Files, what links where (= is a hard link), the pictures, and what the message names.
MEETING = {
    "a linked folder": ("in/s/a.png", "out/s>../in/s", "in", "in/s/a.png would overwrite itself"),
    "deep in a linked folder": ("in/s/t/a.png", "out/s>../in/s", "in", "in/s/t/a.png would overwrite itself"),
    "a link to a link": ("in/s/a.png", "l>in/s out/s>../l", "in", "in/s/a.png would overwrite itself"),
    "another input": ("in/s/a.png in/t/a.png", "out/s>../in/t", "in", "in/t/a.png"),
    "a linked file": ("in/a.png", "out/a.png>../in/a.png", "in", "out/a.png"),
    "the same file": ("in/a.png", "out/a.png=in/a.png", "in/a.png", "out/a.png"),
    "a folder and its link": ("in/s/a.png in/t/a.png", "out/s>t out/t/x=in/t/a.png", "in", "out/t/a.png"),
    "two links": ("in/s/u/A.jpg in/t/u/a.jpg n/x.png", "out/s>../n out/t>../n", "in", "out/t/u/a.png"),
}


@posix_only
@pytest.mark.parametrize("case", MEETING)
def test_what_meets_by_another_path(case: str) -> None:
    files, links, arguments, named = MEETING[case]
    touch(*files.split())
    for link in links.split():
        name, target = re.split("[=>]", link)
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).hardlink_to(target) if "=" in link else Path(name).symlink_to(target)
    with pytest.raises(UsageError) as caught:
        make(*arguments.split())
    assert named in caught.value.message


# --- Lists and bases -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "listed", "base", "expected"),
    [
        ("", "in/a/x.png in/b/x.png", "in", "in/a/x.png>a/x.png in/b/x.png>b/x.png"),
        ("in/b/*.png ./in/a/x.png", "", ".", "in/b/x.png>in/b/x.png in/a/x.png>in/a/x.png"),
        ("in/a", "in/b", "in/", "in/a/x.png>a/x.png in/b/x.png>b/x.png"),
        ("in/a", "in/b", None, "in/a/x.png>a/x.png in/b/x.png>b/x.png"),
        ("", "in/a/x.png in/b/x.png", None, "in/a/x.png>x.png in/b/x.png>x_png.png"),
        ("-", "in/a/x.png", "in", "->stdin.png in/a/x.png>a/x.png"),
        # In lists, names are what they are.
        ("", "in/[a]/x.png -", None, "in/[a]/x.png>x.png -> -.png"),
    ],
)
def test_lists_and_bases(arguments: str, listed: str, base: str | None, expected: str) -> None:
    touch("in/a/x.png", "in/b/x.png", *(["in/[a]/x.png", "-"] if "[" in listed else []))
    found = make(*arguments.split(), listed=listed.split(), base=base and Path(base))
    assert pairs(found) == [tuple(pair.rsplit(">", 1)) for pair in expected.replace("> ", ">").split()]


def test_names_in_lists_are_never_patterns_nor_streams() -> None:
    touch("a1.png")
    assert make(listed=["a[12].png", "-", "~"]) == Found([], dict.fromkeys(["a[12].png", "-", "~"], "no such file"))
    assert listed(b"a\n\nb c\r\n\xff") == ["a", "b c", os.fsdecode(b"\xff")]
    assert listed(b"\0a\nb\r\0") == ["a\nb\r"]
    assert listed(b"\xef\xbb\xbfa\nb") == ["a", "b"]


@posix_only
def test_below_a_base_by_any_path_or_not_at_all(tmp_path: Path) -> None:
    touch("in/a/x.png", "else/y.png")
    Path("in/link").symlink_to("../else")
    Path("there").symlink_to("in")
    names = {"there/a/x.png": "a/x.png", "in/link/y.png": "link/y.png", str(tmp_path / "in/a/x.png"): "a/x.png"}
    for name, below_out in names.items():
        assert pairs(make(name, base=Path("in"))) == [(name, below_out)]
    found = make("else/y.png", "in/a/x.png", base=Path("in"))
    assert [below(job) for job in found.jobs] == ["a/x.png"]
    assert "--base in" in found.missing["else/y.png"]
    with pytest.raises(UsageError, match="--base nowhere"):
        make("in", base=Path("nowhere"))


# --- What is passed over -------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["in", "i*"])
def test_other_files_in_folders_are_counted(argument: str) -> None:
    touch("in/a.png", "in/b.PSD", "in/s/c.psd", "in/s/noext", "in/d.png~", "in/n.b")
    touch("in/.hidden", "in/.h/e.txt", "out/f.txt")
    touch("in/Dr. No's file")
    found = make(argument)
    assert found.passed_over == {argument: {".psd": 2, "": 2, ".png~": 1, ".b": 1}}
    assert "6 passed over" in in_words(found.passed_over[argument])
    assert "2 .psd" in in_words(found.passed_over[argument])
    assert make("in/*.png").passed_over == make("in/**").passed_over == {}  # they are what was asked for
    touch("none/a.txt")
    with pytest.raises(UsageError, match=r"no pictures in none.*1 \.txt"):
        make("none")


@posix_only
def test_a_pipe_says_what_to_do_instead() -> None:
    os.mkfifo("pipe.png")
    assert "give -" in make("pipe.png").missing["pipe.png"]


# --- Large folders -------------------------------------------------------------------------------------


class Counted:
    """Counts the calls of a function of `os`, which cost time in large folders."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, where: Any, name: str) -> None:
        self.calls = 0
        self.function = getattr(where, name)
        monkeypatch.setattr(where, name, self)

    def __call__(self, path: str) -> Any:
        self.calls += 1
        return self.function(path)


def test_large_folders_take_no_more_than_they_must(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"in/{number}.jpg" for number in range(60)]
    touch("p/q/r/s/t/u/v/a.jpg", *names, *(f"same/{number}/ab.jpg" for number in range(200)))
    resolved = Counted(monkeypatch, os.path, "realpath")
    assert len(jobs_of("in", "in/*", *names)) == 60
    assert resolved.calls < 10
    listed = Counted(monkeypatch, os, "scandir")
    assert len(jobs_of("p/**/**/**/*.jpg")) == 1
    assert listed.calls == 4 * 7
    measured = Counted(monkeypatch, os, "fsencode")  # every name that is tried is measured
    assert "ab_jpg_200.png" in map(below, jobs_of(*(f"same/{number}/ab.jpg" for number in range(200))))
    assert 200 <= measured.calls < 6 * 200


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


def test_a_result_never_has_the_name_of_a_folder() -> None:
    touch("in/A.png/s/b.jpg", "in/a.jpg", "a.png")
    assert pairs(make("in")) == [("in/A.png/s/b.jpg", "A.png/s/b.png"), ("in/a.jpg", "a_jpg.png")]
    assert [below(job) for job in jobs_of("a.png", "in")] == ["a_png.png", "A.png/s/b.png", "a_jpg.png"]
    touch("n/b.jpg", "n/b.png", "n/b_jpg.png/c.jpg")
    assert pairs(make("n"))[0] == ("n/b.jpg", "b_jpg_2.png")


def test_names_that_get_too_long_are_shortened_in_the_stem() -> None:
    long, wide = "x" * 251, "é" * 125
    touch(f"1/{long}.jpg", f"1/{wide}a.jpg", f"2/{wide}a.png", f"3/{wide}a.jpg")
    assert pairs(make("1", rename=lambda _: ".webp"))[0][1] == "x" * 250 + ".webp"
    names = [below(job) for job in jobs_of(f"1/{wide}a.jpg", f"2/{wide}a.png", f"3/{wide}a.jpg")]
    assert names == ["é" * 123 + "_jpg.png", wide + "a.png", "é" * 122 + "_jpg_2.png"]


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


def outputs_of(root: Path, arguments: list[str], rename: Callable[[Place], str]) -> list[tuple[str, str]]:
    rows = []
    for job in make(*[str(root / name) for name in arguments], out=str(root / "out"), rename=rename).jobs:
        assert isinstance(job.source, Path)
        assert isinstance(job.output, Path)
        rows.append((job.source.relative_to(root).as_posix(), job.output.relative_to(root / "out").as_posix()))
    return rows


@settings(max_examples=60, deadline=None, database=None)
@given(trees, st.randoms(use_true_random=False), st.sampled_from([png, jpg]))
def test_outputs_are_distinct_below_out_and_always_the_same(
    tree: list[str], random: Random, rename: Callable[[Place], str]
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
