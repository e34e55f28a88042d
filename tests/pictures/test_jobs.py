"""Which pictures an argument names, and where below OUT they go."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.planning import below, jobs_of, make, pairs, touch
from ugatit_cli.errors import UsageError
from ugatit_cli.pictures.jobs import Job, existing_outputs

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="names or links that Windows lacks")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


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


def test_there_are_no_pictures() -> None:
    touch("in/a.txt")
    with pytest.raises(UsageError, match="in") as caught:
        make("in")
    assert ".webp" in caught.value.hint


def test_several_folders_get_their_resolved_names() -> None:
    touch("x/a.png", "deep/y/b.png", "here/c.png")
    os.chdir("here")
    jobs = jobs_of(".", "../x/", "../deep/../deep/y")
    assert [below(job) for job in jobs] == ["here/c.png", "x/a.png", "y/b.png"]


@posix_only
def test_links_to_files_are_taken_to_folders_are_not() -> None:
    touch("other/a.png", "other/c.png", "in/b.png")
    Path("in/loop").symlink_to("..", target_is_directory=True)
    Path("in/link.png").symlink_to("../other/a.png")
    assert pairs(make("in")) == [("in/b.png", "b.png"), ("in/link.png", "link.png")]
    assert pairs(make("in/loop/other")) == [
        ("in/loop/other/a.png", "a.png"),
        ("in/loop/other/c.png", "c.png"),
    ]


@posix_only
def test_a_broken_link_is_missing_even_if_it_looks_like_a_pattern() -> None:
    touch("x.png")
    Path("[x].png").symlink_to("nothing")
    assert make("[x].png") == ([], [("[x].png", "there is no such file or folder")])


@posix_only
@pytest.mark.parametrize("argument", ["in", "in/*", "in/**/*.png"])
def test_what_only_looks_like_a_picture_is_missing(argument: str) -> None:
    touch("in/b.png", "in/c.txt")
    Path("in/broken.png").symlink_to("nothing")
    Path("in/broken.txt").symlink_to("nothing")
    Path("in/self.png").symlink_to("self.png")
    os.mkfifo("in/pipe.png")
    jobs, missing = make(argument)
    assert "in/b.png" in [str(job.source) for job in jobs]
    assert sorted(missing) == [
        ("in/broken.png", "the link leads nowhere"),
        ("in/pipe.png", "not a regular file"),
        ("in/self.png", "the link leads nowhere"),
    ]


@posix_only
def test_a_link_and_its_target_are_one_source() -> None:
    touch("b.png")
    Path("a.png").symlink_to("b.png")
    assert pairs(make("b.png", "a.png")) == [("b.png", "b.png")]


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch("home/a.png")
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    [job] = jobs_of("~/a.png", out="~/out")
    assert job == Job(tmp_path / "home/a.png", tmp_path / "home/out/a.png")


def test_missing_arguments_are_listed_and_the_rest_goes_on() -> None:
    touch("a.png", "file")
    jobs, missing = make("nothing.png", "a.png", "x*.png", "", "file/", "nothing.png")
    assert [job.name for job in jobs] == ["a.png"]
    assert [name for name, _ in missing] == ["nothing.png", "x*.png", "", "file/"]
    assert missing[0][1] == "there is no such file or folder"
    assert missing[1][1] == "no file matches this pattern"
    assert make("nothing") == ([], [("nothing", "there is no such file or folder")])


def test_unreadable_subfolders_are_listed_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("in/a.png", "in/1no/b.png", "in/2no/b.png", "in/3no/b.png", "in/z/c.png")
    scandir = os.scandir

    def listing(path: str) -> Iterator[os.DirEntry[str]]:
        if path.endswith("no"):  # for root, too
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", listing)
    for argument in ("in", "in/**/*.png"):
        jobs, missing = make(argument)
        assert [below(job) for job in jobs] == ["a.png", "z/c.png"]
        assert [Path(name).as_posix() for name, _ in missing] == ["in/1no", "in/2no", "in/3no"]
        assert all("permission denied" in reason for _, reason in missing)


@posix_only
def test_two_stars_follow_no_links() -> None:
    touch("p/a.jpg")
    Path("p/loop").symlink_to(".", target_is_directory=True)
    Path("p/loop2").symlink_to(".", target_is_directory=True)
    assert pairs(make("p/**/*.jpg")) == [("p/a.jpg", "a.png")]


@posix_only
def test_a_pattern_of_one_level_follows_links() -> None:
    touch("elsewhere/a.jpg", "p/b.jpg")
    Path("p/link").symlink_to("../elsewhere", target_is_directory=True)
    assert pairs(make("p/*/*.jpg", "elsewhere/a.jpg")) == [("p/link/a.jpg", "link/a.png")]


def test_repeated_stars_list_no_folder_twice_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("p/q/r/s/t/u/v/a.jpg")
    calls = []
    scandir = os.scandir

    def counting(path: str) -> Iterator[os.DirEntry[str]]:
        calls.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counting)
    assert len(jobs_of("p/**/**/**/*.jpg")) == 1
    assert len(calls) == 4 * 7


def test_a_pattern_cannot_climb_out_of_out() -> None:
    touch("x/y/a.jpg", "b.jpg")
    jobs, missing = make("x/*/../../b.jpg")
    assert jobs == []
    assert ".." in missing[0][1]


@posix_only
def test_a_newline_in_a_name() -> None:
    touch("in/a\nb.jpg")
    assert pairs(make("in")) == pairs(make("in/*.jpg")) == [("in/a\nb.jpg", "a\nb.png")]


# --- Standard input and output -------------------------------------------------------------------------


@pytest.mark.parametrize("out", [None, "-"])
def test_stdin_goes_to_stdout(out: str | None) -> None:
    jobs, missing = make("-", out=out)
    assert (jobs, missing) == ([Job(None, None)], [])
    assert jobs[0].name == "<stdin>"


def test_stdin_goes_to_a_file_or_a_folder() -> None:
    touch("a.jpg")
    assert jobs_of("-", out="x.PNG") == [Job(None, Path("x.PNG"))]
    assert pairs(make("-")) == [("-", "stdin.png")]
    assert pairs(make("a.jpg", "-")) == [("a.jpg", "a.png"), ("-", "stdin.png")]


def test_a_single_file_may_go_to_stdout() -> None:
    touch("a.jpg", "d/b.jpg")
    assert jobs_of("a.jpg", out="-") == [Job(Path("a.jpg"), None)]
    for arguments in (("a.jpg", "-"), ("a.jpg", "d/b.jpg"), ("d",)):
        with pytest.raises(UsageError, match="standard output"):
            make(*arguments, out="-")


def test_stdin_twice_is_refused() -> None:
    with pytest.raises(UsageError):
        make("-", "-")


def test_out_is_needed() -> None:
    touch("a.jpg")
    for arguments in (("a.jpg",), ("a.jpg", "-")):
        with pytest.raises(UsageError, match="-o/--output is needed") as caught:
            make(*arguments, out=None)
        assert "-o results" in caught.value.hint


# --- Results beside sources ----------------------------------------------------------------------------


def test_results_of_an_earlier_run_are_no_inputs(tmp_path: Path) -> None:
    touch("in/a.jpg", "in/out/a.png", "in/out/s/b.png", "in/out2/c.png")
    expected = [Path("in/a.jpg"), Path("in/out2/c.png")]
    for out in ("in/out", "in/../in/out", str(tmp_path / "in/out")):
        assert [job.source for job in jobs_of("in", out=out)] == expected


@posix_only
def test_links_into_the_results_are_no_inputs() -> None:
    touch("in/a.jpg", "out/b.png")
    Path("in/b.png").symlink_to("../out/b.png")
    Path("in/s").symlink_to("../out", target_is_directory=True)
    assert pairs(make("in")) == [("in/a.jpg", "a.png")]
    assert pairs(make("in/*")) == [("in/a.jpg", "a.png")]
    touch("out/deep/c.png")
    Path("in/d").symlink_to("../out/deep", target_is_directory=True)
    assert pairs(make("in/*")) == [("in/a.jpg", "a.png")]


def test_out_may_not_be_an_input_folder() -> None:
    touch("in/a.jpg", "x/b.jpg")
    for arguments, out in ((("in",), "in"), (("in/",), "x/../in"), (("x", "in"), "in"), (("x", "in"), ".")):
        with pytest.raises(UsageError, match="mix with the sources") as caught:
            make(*arguments, out=out)
        assert "-o" in caught.value.hint


def test_existing_outputs() -> None:
    touch("a.jpg", "b.jpg", "out/b.png")
    jobs = [*jobs_of("a.jpg", "b.jpg"), Job(None, None)]
    assert existing_outputs(jobs) == [Path("out/b.png")]


# --- Large folders -------------------------------------------------------------------------------------


def test_files_are_not_resolved_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"in/{number}.jpg" for number in range(60)]
    touch(*names)
    calls: list[object] = []
    realpath = os.path.realpath

    def counting(path: str) -> str:
        calls.append(path)
        return realpath(path)

    monkeypatch.setattr(os.path, "realpath", counting)
    assert len(jobs_of("in", "in/*", *names)) == 60
    assert len(calls) < 10
