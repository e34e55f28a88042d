"""Which pictures an argument names, and where each result goes."""

from __future__ import annotations

import os
import sys
import tempfile
import unicodedata
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugatit_cli import inputs
from ugatit_cli.errors import UsageError
from ugatit_cli.inputs import Job, Plan, existing_outputs, plan

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"}

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="names or links that Windows lacks")
distinct_case = pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="needs a case-sensitive disk")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def touch(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def png(_: Path) -> str:
    return ".png"


def jpg(_: Path) -> str:
    return ".jpg"


def make(*arguments: str, out: str | None = "out", rename: Callable[[Path], str] = png) -> Plan:
    return plan(arguments, None if out is None else Path(out), suffixes=SUFFIXES, rename=rename)


def pairs(result: Plan) -> list[tuple[str, str]]:
    """Every job as strings, the outputs relative to `out`."""
    assert result.missing == []
    return [(job.source.as_posix() if job.source else "-", below(job)) for job in result.jobs]


def below(job: Job) -> str:
    assert job.output is not None
    return job.output.relative_to("out").as_posix()


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
    Path("in/broken.png").symlink_to("nothing")
    Path("in/self.png").symlink_to("self.png")
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
    entries = inputs._Search.entries

    def counting(self: inputs._Search, folder: inputs._Folder) -> list[os.DirEntry[str]]:
        calls.append(folder.path)
        return entries(self, folder)

    monkeypatch.setattr(inputs._Search, "entries", counting)
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


# --- OUT as a file -------------------------------------------------------------------------------------


def test_out_is_the_file_for_a_single_file_with_a_picture_suffix() -> None:
    touch("a.jpg", "b.jpg", "d/c.jpg")
    assert make("a.jpg", "./a.jpg", out="x/r.JPEG").jobs == [Job(Path("a.jpg"), Path("x/r.JPEG"))]
    assert make("a.jpg", out="r.txt").jobs[0].output == Path("r.txt/a.png")
    assert make("d", out="r.png").jobs[0].output == Path("r.png/c.png")
    assert make("d/*.jpg", out="r.png").jobs[0].output == Path("r.png/c.png")
    assert make("a.jpg", "b.jpg", out="r.png").jobs[0].output == Path("r.png/a.png")


def test_an_existing_folder_with_a_picture_suffix_stays_a_folder() -> None:
    touch("a.jpg")
    Path("r.png").mkdir()
    assert make("a.jpg", out="r.png").jobs[0].output == Path("r.png/a.png")


def test_an_existing_file_may_be_the_output_of_one_picture_only() -> None:
    touch("a.jpg", "b.jpg", "r.png", "r.txt")
    assert make("a.jpg", out="r.png").jobs[0].output == Path("r.png")
    for arguments, out in ((("a.jpg", "b.jpg"), "r.png"), (("a.jpg",), "r.txt"), (("a.jpg",), "r.txt/x.png")):
        with pytest.raises(UsageError, match=r"^r\.\w+ is a file") as caught:
            make(*arguments, out=out)
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


def test_a_result_may_not_overwrite_its_source() -> None:
    touch("d/a.png", "d/b.jpg")
    for arguments, out in ((("d/a.png",), "d"), (("d/a.png",), "d/../d/a.png"), (("d/*.png",), "d")):
        with pytest.raises(UsageError, match=r"a\.png would overwrite itself") as caught:
            make(*arguments, out=out)
        assert "-o results" in caught.value.hint
    assert make("d/b.jpg", out="d").jobs == [Job(Path("d/b.jpg"), Path("d/b.png"))]


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


@pytest.mark.parametrize("name", ["a.JPG", "a.jpeg", "a.JFIF", "a.jpe", "a.jpg"])
def test_a_name_with_the_right_suffix_is_kept(name: str) -> None:
    touch(name)
    assert pairs(make(name, rename=jpg)) == [(name, name)]


def test_tiff_is_tif() -> None:
    touch("a.tiff", "b.tif")
    assert pairs(make("a.tiff", rename=lambda _: ".tif")) == [("a.tiff", "a.tiff")]
    assert pairs(make("b.tif", rename=lambda _: ".TIFF")) == [("b.tif", "b.tif")]


def test_rename_sees_every_source() -> None:
    touch("a.jpg", "b.webp")
    result = make("a.jpg", "b.webp", rename=lambda source: ".jpg" if source.name == "a.jpg" else ".x.png")
    assert pairs(result) == [("a.jpg", "a.jpg"), ("b.webp", "b.x.png")]


def test_the_source_that_is_called_so_keeps_a_contested_name() -> None:
    touch("in/a.jpg", "in/a.png", "in/a.webp")
    assert pairs(make("in")) == [
        ("in/a.jpg", "a_jpg.png"),
        ("in/a.png", "a.png"),
        ("in/a.webp", "a_webp.png"),
    ]


def test_nobody_keeps_a_contested_name_that_no_source_has() -> None:
    touch("in/a.jpg", "in/a.webp", "a")
    assert pairs(make("in")) == [("in/a.jpg", "a_jpg.png"), ("in/a.webp", "a_webp.png")]
    assert pairs(make("a", "in/a.jpg")) == [("a", "a_2.png"), ("in/a.jpg", "a_jpg.png")]


def test_a_generated_name_is_counted_on_and_spares_natural_ones() -> None:
    touch("1/a.jpg", "2/a.jpg", "3/a.jpg", "a.png", "a_jpg.webp", "a_jpg_3.png")
    assert pairs(make("1/a.jpg", "2/a.jpg", "3/a.jpg", "a.png", "a_jpg.webp", "a_jpg_3.png")) == [
        ("1/a.jpg", "a_jpg_2.png"),
        ("2/a.jpg", "a_jpg_4.png"),
        ("3/a.jpg", "a_jpg_5.png"),
        ("a.png", "a.png"),
        ("a_jpg.webp", "a_jpg.png"),
        ("a_jpg_3.png", "a_jpg_3.png"),
    ]


def test_the_same_name_in_other_folders_is_no_collision() -> None:
    touch("in/x/a.jpg", "in/y/a.jpg")
    assert pairs(make("in")) == [("in/x/a.jpg", "x/a.png"), ("in/y/a.jpg", "y/a.png")]


def test_case_and_normalization_collide() -> None:
    touch("1/É.png", "2/" + unicodedata.normalize("NFD", "é") + ".png", "3/STRASSE.jpg", "4/straße.png")
    names = [below(job) for job in make("1/*", "2/*", "3/*", "4/*").jobs]
    assert names == ["É.png", unicodedata.normalize("NFD", "é") + "_png.png", "STRASSE_jpg.png", "straße.png"]


@distinct_case
def test_folders_that_differ_in_case_only_collide() -> None:
    touch("in/A/x.jpg", "in/a/X.png")
    assert pairs(make("in")) == [("in/A/x.jpg", "A/x_jpg.png"), ("in/a/X.png", "a/X.png")]


def test_a_result_never_has_the_name_of_a_folder() -> None:
    touch("in/A.png/s/b.jpg", "in/a.jpg", "a.png")
    assert pairs(make("in")) == [("in/A.png/s/b.jpg", "A.png/s/b.png"), ("in/a.jpg", "a_jpg.png")]
    assert [below(job) for job in make("a.png", "in").jobs] == ["a_png.png", "A.png/s/b.png", "a_jpg.png"]


def test_awkward_names() -> None:
    names = ["in/ü b.png", "in/..x.jpg", "in/-.png", "in/a.b.jpg"]
    touch(*names)
    assert [below(job) for job in make(*names).jobs] == ["ü b.png", "..x.png", "-.png", "a.b.png"]


@posix_only
def test_a_newline_in_a_name() -> None:
    touch("in/a\nb.jpg")
    assert pairs(make("in")) == pairs(make("in/*.jpg")) == [("in/a\nb.jpg", "a\nb.png")]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow only Unicode")
def test_names_that_are_not_utf8() -> None:
    names = [
        os.fsdecode(b"in/\xff.jpg"),
        os.fsdecode(b"in/\xff.png"),
        os.fsdecode(b"in/" + b"\xfe" * 251 + b".jpg"),
    ]
    touch(*names)
    outputs = [os.fsencode(below(job)) for job in make(*names, rename=lambda _: ".webp").jobs]
    assert outputs == [b"\xff_jpg.webp", b"\xff_png.webp", b"\xfe" * 250 + b".webp"]
    assert len(make("in").jobs) == len(make("in/*").jobs) == 3


def test_names_that_get_too_long_are_shortened_in_the_stem() -> None:
    long, wide = "x" * 251, "é" * 125
    touch(f"1/{long}.jpg", f"1/{wide}a.jpg", f"2/{wide}a.png", f"3/{wide}a.jpg")
    assert pairs(make("1", rename=lambda _: ".webp"))[0][1] == "x" * 250 + ".webp"
    names = [below(job) for job in make(f"1/{wide}a.jpg", f"2/{wide}a.png", f"3/{wide}a.jpg").jobs]
    assert names == ["é" * 123 + "_jpg.png", wide + "a.png", "é" * 122 + "_jpg_2.png"]


def test_a_suffix_that_is_none_is_no_endless_tag() -> None:
    touch("1/a." + "y" * 250, "2/a." + "y" * 250)
    names = [below(job) for job in make("1/*", "2/*").jobs]
    assert names == ["a_" + "y" * 16 + ".png", "a_" + "y" * 16 + "_2.png"]


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


def test_thousands_of_equal_names_stay_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    touch(*(f"in/{number}/a.jpg" for number in range(200)))
    calls: list[str] = []
    fit = inputs._fit

    def counting(stem: str, ending: str) -> str:
        calls.append(ending)
        return fit(stem, ending)

    monkeypatch.setattr(inputs, "_fit", counting)
    result = make(*(f"in/{number}/a.jpg" for number in range(200)))
    assert below(result.jobs[199]) == "a_jpg_200.png"
    assert len(calls) < 6 * 200


# --- Random trees --------------------------------------------------------------------------------------

parts = st.text("aA.é_2", min_size=1, max_size=3).filter(lambda text: text.strip("."))
leaves = st.builds(
    str.__add__, parts, st.sampled_from([".jpg", ".JPG", ".png", ".jpeg", "_jpg.png", ".webp"])
)
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
    result = plan([str(root / name) for name in arguments], root / "out", suffixes=SUFFIXES, rename=rename)
    rows = []
    for job in result.jobs:
        assert job.source is not None
        assert job.output is not None
        rows.append(
            (job.source.relative_to(root).as_posix(), job.output.relative_to(root / "out").as_posix())
        )
    return rows


@settings(max_examples=60, deadline=None, database=None)
@given(trees, st.randoms(use_true_random=False), st.sampled_from([png, jpg]))
def test_outputs_are_distinct_below_out_and_always_the_same(
    tree: list[str], random: Random, rename: Callable[[Path], str]
) -> None:
    tree = [f"{'xy'[index % 2]}/{name}" for index, name in enumerate(dict.fromkeys(tree))]
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
