"""Which pictures an argument names, and where below OUT they go."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from tests.planning import below, make, pairs, touch
from ugatit_cli.errors import UsageError
from ugatit_cli.pictures.jobs import Job, Plan, existing_outputs

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="names or links that Windows lacks")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- Files and folders ---------------------------------------------------------------------------------


def test_a_file_goes_to_its_name_in_out_whatever_its_suffix() -> None:
    touch("a.jpg", "b/c.dat", "plain")
    assert pairs(make("b/c.dat", "a.jpg", "plain")) == [
        ("b/c.dat", "c.png"),
        ("a.jpg", "a.png"),
        ("plain", "plain.png"),
    ]


def test_one_folder_is_mirrored_directly_sorted_by_relative_path() -> None:
    touch("in/b.JPG", "in/a/z.png", "in/a.png", "in/note.txt", "in/x.y/c.webp")
    assert pairs(make("in")) == [
        ("in/a.png", "a.png"),
        ("in/a/z.png", "a/z.png"),
        ("in/b.JPG", "b.png"),
        ("in/x.y/c.webp", "x.y/c.png"),
    ]


def test_hidden_files_and_folders_are_skipped_unless_named() -> None:
    touch("in/.a.png", "in/.git/b.png", "in/c.png", ".h/d.png")
    assert pairs(make("in")) == [("in/c.png", "c.png")]
    assert pairs(make("in/.a.png", ".h")) == [("in/.a.png", ".a.png"), (".h/d.png", "d.png")]


def test_several_folders_get_their_resolved_names() -> None:
    touch("x/a.png", "deep/y/b.png", "here/c.png")
    os.chdir("here")
    result = make(".", "../x/", "../deep/../deep/y")
    assert [below(job) for job in result.jobs] == ["here/c.png", "x/a.png", "y/b.png"]


def test_one_folder_given_in_two_ways_counts_as_one() -> None:
    touch("x/a.png")
    assert pairs(make("x", "./x/", "x/a.png")) == [("x/a.png", "a.png")]


def test_a_folder_with_files_beside_is_mirrored_directly() -> None:
    touch("x/s/a.png", "b.png")
    assert pairs(make("b.png", "x")) == [("b.png", "b.png"), ("x/s/a.png", "s/a.png")]


def test_folders_of_the_same_name_share_theirs_without_collisions() -> None:
    touch("1/x/a.png", "2/x/a.png")
    assert pairs(make("1/x", "2/x")) == [("1/x/a.png", "x/a.png"), ("2/x/a.png", "x/a_png.png")]


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
    assert make("[x].png") == Plan([], [("[x].png", "there is no such file or folder")])


@posix_only
@pytest.mark.parametrize("argument", ["in", "in/*", "in/**/*.png"])
def test_what_only_looks_like_a_picture_is_missing(argument: str) -> None:
    touch("in/b.png", "in/c.txt")
    Path("in/broken.png").symlink_to("nothing")
    Path("in/broken.txt").symlink_to("nothing")
    Path("in/self.png").symlink_to("self.png")
    os.mkfifo("in/pipe.png")
    result = make(argument)
    assert "in/b.png" in [str(job.source) for job in result.jobs]
    assert sorted(result.missing) == [
        ("in/broken.png", "the link leads nowhere"),
        ("in/pipe.png", "not a regular file"),
        ("in/self.png", "the link leads nowhere"),
    ]


@posix_only
def test_a_link_and_its_target_are_one_source() -> None:
    touch("b.png")
    Path("a.png").symlink_to("b.png")
    assert pairs(make("b.png", "a.png")) == [("b.png", "b.png")]


def test_the_same_source_is_done_once_under_its_first_name() -> None:
    touch("in/s/a.png", "in/b.png")
    assert pairs(make("./in/s/a.png", "in", "in/s/../s/a.png")) == [
        ("in/s/a.png", "a.png"),
        ("in/b.png", "b.png"),
    ]


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch("home/a.png")
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    [job] = make("~/a.png", out="~/out").jobs
    assert job == Job(tmp_path / "home/a.png", tmp_path / "home/out/a.png")


def test_missing_arguments_are_listed_and_the_rest_goes_on() -> None:
    touch("a.png", "file")
    result = make("nothing.png", "a.png", "x*.png", "", "file/", "nothing.png")
    assert [job.name for job in result.jobs] == ["a.png"]
    assert [name for name, _ in result.missing] == ["nothing.png", "x*.png", "", "file/"]
    assert result.missing[0][1] == "there is no such file or folder"
    assert result.missing[1][1] == "no file matches this pattern"
    assert make("nothing") == Plan([], [("nothing", "there is no such file or folder")])


def test_an_unreadable_subfolder_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("in/a.png", "in/no/b.png", "in/z/c.png")
    refuse(monkeypatch, "no")
    for argument in ("in", "in/**/*.png"):
        result = make(argument)
        assert [below(job) for job in result.jobs] == ["a.png", "z/c.png"]
        assert result.missing == [(str(Path("in/no")), "this folder can't be read: permission denied")]


@pytest.mark.parametrize("reverse", [False, True])
def test_unreadable_folders_are_listed_in_one_order(monkeypatch: pytest.MonkeyPatch, reverse: bool) -> None:
    touch("in/1no/a.png", "in/2no/b.png", "in/3no/c.png")
    refuse(monkeypatch, "no", reverse)
    expected = ["1no", "2no", "3no"]
    assert [Path(name).name for name, _ in make("in").missing] == expected


def refuse(monkeypatch: pytest.MonkeyPatch, end: str, reverse: bool = False) -> None:
    """Let folders whose name ends so be unreadable, for root, too; list others in a chosen order."""
    scandir = os.scandir

    def listing(path: str) -> AbstractContextManager[list[os.DirEntry[str]]]:
        if path.endswith(end):
            raise PermissionError(13, "Permission denied", path)
        with scandir(path) as entries:
            return nullcontext(sorted(entries, key=lambda entry: entry.name, reverse=reverse))

    monkeypatch.setattr(os, "scandir", listing)


@posix_only
def test_a_newline_in_a_name() -> None:
    touch("in/a\nb.jpg")
    assert pairs(make("in")) == pairs(make("in/*.jpg")) == [("in/a\nb.jpg", "a\nb.png")]


# --- Patterns ------------------------------------------------------------------------------------------


def test_a_pattern_is_mirrored_from_its_literal_folder() -> None:
    touch("p/q/1/a.jpg", "p/q/2/b.jpg", "p/q/2/c.txt", "p/q/.h/d.jpg", "p/q/e.jpg")
    assert pairs(make("p/q/?/*.jpg")) == [("p/q/1/a.jpg", "1/a.png"), ("p/q/2/b.jpg", "2/b.png")]
    assert pairs(make("p/q/[2-9]/*")) == [("p/q/2/b.jpg", "2/b.png"), ("p/q/2/c.txt", "2/c.png")]
    assert pairs(make("p/q/.?/*")) == [("p/q/.h/d.jpg", ".h/d.png")]
    assert pairs(make("p/*/e.jpg")) == [("p/q/e.jpg", "q/e.png")]


def test_two_stars_are_recursive() -> None:
    touch("p/a.jpg", "p/q/b.jpg", "p/q/r/c.jpg", "p/q/d.txt", "p/.h/e.jpg")
    jpgs = [("p/a.jpg", "a.png"), ("p/q/b.jpg", "q/b.png"), ("p/q/r/c.jpg", "q/r/c.png")]
    assert pairs(make("p/**/*.jpg")) == jpgs
    assert pairs(make("p/**/**/*.jpg")) == jpgs
    everything = sorted([*jpgs, ("p/q/d.txt", "q/d.png")])
    assert pairs(make("p/**")) == everything
    assert pairs(make("p/**/*")) == everything


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


def test_folders_that_match_a_pattern_are_scanned() -> None:
    touch("p/x/s/a.jpg", "p/x/b.txt", "p/y.jpg", "p/z.jpg/c.png")
    assert pairs(make("p/[x-y]*")) == [("p/x/s/a.jpg", "x/s/a.png"), ("p/y.jpg", "y.png")]
    assert pairs(make("p/z*")) == [("p/z.jpg/c.png", "z.jpg/c.png")]
    assert [below(job) for job in make("p/**/*.jpg").jobs] == ["x/s/a.png", "y.png"]


def test_repeated_stars_list_no_folder_twice_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("p/q/r/s/t/u/v/a.jpg")
    calls = []
    scandir = os.scandir

    def counting(path: str) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        calls.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counting)
    assert len(make("p/**/**/**/*.jpg").jobs) == 1
    assert len(calls) == 4 * 7


def test_a_pattern_that_exists_is_taken_literally() -> None:
    touch("a[1].jpg", "a1.jpg", "d[1]/b.jpg", "d1/b.jpg")
    assert pairs(make("a[1].jpg")) == [("a[1].jpg", "a[1].png")]
    assert pairs(make("d[1]")) == [("d[1]/b.jpg", "b.png")]
    assert pairs(make("d[1]/*.jpg")) == [("d[1]/b.jpg", "b.png")]
    assert pairs(make("a[12].jpg")) == [("a1.jpg", "a1.png")]


def test_a_pattern_leaves_the_results_alone() -> None:
    touch("a.jpg", "out/a.png", "x/b.jpg", "out/s/c.png")
    assert pairs(make("**/*.*g")) == [("a.jpg", "a.png"), ("x/b.jpg", "x/b.png")]
    assert pairs(make("*")) == [("a.jpg", "a.png"), ("x/b.jpg", "x/b.png")]


def test_a_pattern_cannot_climb_out_of_out() -> None:
    touch("x/y/a.jpg", "b.jpg")
    result = make("x/*/../../b.jpg")
    assert result.jobs == []
    assert ".." in result.missing[0][1]


# --- Standard input and output -------------------------------------------------------------------------


@pytest.mark.parametrize("out", [None, "-"])
def test_stdin_goes_to_stdout(out: str | None) -> None:
    result = make("-", out=out)
    assert result == Plan([Job(None, None)], [])
    assert result.jobs[0].name == "<stdin>"


def test_stdin_goes_to_a_file_or_a_folder() -> None:
    touch("a.jpg")
    assert make("-", out="x.PNG").jobs == [Job(None, Path("x.PNG"))]
    assert pairs(make("-")) == [("-", "stdin.png")]
    assert pairs(make("a.jpg", "-")) == [("a.jpg", "a.png"), ("-", "stdin.png")]


def test_a_folder_called_like_stdin_is_no_folder_argument() -> None:
    touch("-/a.png", "x/b.png")
    assert pairs(make("-", "x")) == [("-", "stdin.png"), ("x/b.png", "b.png")]


def test_a_single_file_may_go_to_stdout() -> None:
    touch("a.jpg", "d/b.jpg")
    assert make("a.jpg", out="-").jobs == [Job(Path("a.jpg"), None)]
    for arguments in (("a.jpg", "-"), ("a.jpg", "d/b.jpg"), ("d",)):
        with pytest.raises(UsageError, match="standard output"):
            make(*arguments, out="-")


def test_stdin_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="more than once"):
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
        assert [job.source for job in make("in", out=out).jobs] == expected


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


def test_a_folder_named_inside_out_is_an_input() -> None:
    touch("out/raw/a.jpg")
    assert pairs(make("out/raw")) == [("out/raw/a.jpg", "a.png")]


def test_out_may_not_be_an_input_folder() -> None:
    touch("in/a.jpg", "x/b.jpg")
    for arguments, out in ((("in",), "in"), (("in/",), "x/../in"), (("x", "in"), "in"), (("x", "in"), ".")):
        with pytest.raises(UsageError, match="mix with the sources") as caught:
            make(*arguments, out=out)
        assert "-o" in caught.value.hint


def test_existing_outputs() -> None:
    touch("a.jpg", "b.jpg", "out/b.png")
    jobs = [*make("a.jpg", "b.jpg").jobs, Job(None, None)]
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
    assert len(make("in", "in/*", *names).jobs) == 60
    assert len(calls) < 10
