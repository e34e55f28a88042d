"""`ugatit cam`: its files, and that it treats pictures as `translate` does."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from PIL import Image

import ugatit_cli.outputs.report  # noqa: F401  # or, imported by a command, it would keep what a test puts into `files`
from tests import tiny
from tests.cli.cam_results import CPU, SIZE, document, shown
from tests.cli.conftest import Command, below, encoded, put
from ugatit_cli import files as files_module
from ugatit_cli.cli import tally
from ugatit_cli.config import MAPS, BaseConfig
from ugatit_cli.errors import StorageError
from ugatit_cli.pictures import drawing, reading
from ugatit_cli.translation.pipeline import Result

# --- Models without attention ---------------------------------------------------------------------------


@pytest.mark.parametrize("config", [tiny.CYCLEGAN, tiny.CARTOONGAN], ids=lambda config: config.method)
def test_a_method_without_attention_is_named_once(ugatit: Command, config: BaseConfig) -> None:
    put("a.png")
    tiny.save(Path("m"), config, discriminators=True)
    files = below(".")
    for maps in ("all", "local", "generator,global"):
        outcome = ugatit("cam", "a.png", "--model", "m", "--maps", maps, *CPU)
        assert (outcome.code, outcome.stdout, len(outcome.errors)) == (3, b"", 1)
        assert outcome.errors[0].count(config.method) == outcome.errors[0].count("method") == 1
        assert below(".") == files


# --- Files ---------------------------------------------------------------------------------------------


def test_panels_go_to_the_folder_attention(cam: Command) -> None:
    put("in/a.png", "in/b/c.jpg")
    outcome = cam("in")
    assert (outcome.code, outcome.lines) == (0, ["attention/a.png", "attention/b/c.jpg"])
    assert "(flat -> clay), device cpu" in outcome.stderr
    assert outcome.stderr.endswith("s -> attention\n")
    assert "2 looked at in " in outcome.stderr
    assert below("attention") == ["a.png", "b/c.jpg"]
    with Image.open("attention/b/c.jpg") as result:
        assert result.format == "JPEG"
    assert shown("attention/a.png").width > 5 * drawing.MIN_SHOWN


def test_a_file_to_a_file(cam: Command) -> None:
    put("a.png")
    assert cam("a.png", "-o", "new/b.webp").lines == ["new/b.webp"]
    assert reading.read_picture(Path("new/b.webp")).format == "WEBP"
    for layout, map_ in (("overlay", "generator"), ("heatmap", "local")):
        outcome = cam("a.png", "-o", f"{layout}.jpg", "--layout", layout, "--maps", map_)
        assert (outcome.code, outcome.lines) == (0, [f"{layout}.jpg"])
    assert below(".") == ["a.png", "heatmap.jpg", "new/b.webp", "overlay.jpg"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("overlay",), ["cat.generator.png", "cat.global.png", "cat.local.png"]),
        (("heatmap", "--maps", "local, global"), ["cat.global.png", "cat.local.png"]),
        (("overlay", "--maps", "local,local", "--format", "webp"), ["cat.webp"]),
        (("raw", "--maps", "local"), ["cat.json", "cat.local.npy"]),
        (("raw", "--maps", "all,local"), ["cat.generator.npy", "cat.global.npy", "cat.json", "cat.local.npy"]),
    ],
)
def test_names(cam: Command, arguments: tuple[str, ...], names: list[str]) -> None:
    put("cat.png")
    outcome = cam("cat.png", "-o", "out", "--layout", *arguments)
    assert outcome.code == 0
    assert below("out") == names
    assert sorted(outcome.lines) == [f"out/{name}" for name in names]


USELESS = [
    (("raw", "--maps", "local"), {"format": "jpg", "quality": 3, "size": "9", "alpha": 0.1, "colormap": "jet"}),
    (("raw", "--maps", "local"), {"upsample": "bicubic", "normalize": "batch"}),
    (("heatmap", "--maps", "local"), {"alpha": 0.1}),
    (("sheet",), {"size": "9"}),
]


@pytest.mark.parametrize(("layout", "options"), USELESS)
def test_what_counts_for_nothing_is_refused_where_the_call_says_it(
    cam: Command, layout: tuple[str, ...], options: dict[str, object]
) -> None:
    put("cat.png")
    for name, value in options.items():
        outcome = cam("cat.png", "-o", "out", "--layout", *layout, f"--{name}", value)
        assert (outcome.code, outcome.stdout) == (2, b"")
        assert f"--{name}" in outcome.errors[0]
    assert below(".") == ["cat.png"]
    Path("ugatit.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items()))
    assert cam("cat.png", "-o", "out", "--layout", *layout).code == 0


def test_numbers_are_in_colours_in_a_report(cam: Command) -> None:
    put("cat.png")
    assert cam("cat.png", "--layout", "raw", "--colormap", "jet", "--report", "r.html").code == 0


def test_names_of_two_pictures_with_the_same_stem(cam: Command) -> None:
    put("in/a.png", "in/a.jpg", "in/b.png")
    assert cam("in", "-o", "out", "--layout", "overlay", "--maps", "generator,local").code == 0
    stems = ("a.generator.jpg", "a.generator.png", "a.local.jpg", "a.local.png", "b.generator.png", "b.local.png")
    assert below("out") == [*stems]
    assert cam("in", "-o", "raw", "--layout", "raw", "--maps", "local").code == 0
    assert below("raw") == ["a_jpg.json", "a_jpg.local.npy", "a_png.json", "a_png.local.npy", "b.json", "b.local.npy"]
    assert document("raw/a_jpg.json")["input"] == "in/a.jpg"
    assert document("raw/a_jpg.json")["maps"]["local"]["file"] == "a_jpg.local.npy"


def test_names_that_are_as_long_as_can_be(cam: Command) -> None:
    names = [letter * 251 + ".png" for letter in "ab"]
    put(*(f"in/{name}" for name in names))
    for layout, files in (("panel", 1), ("overlay", 3), ("raw", 4)):
        outcome = cam("in", "-o", layout, "--layout", layout)
        assert outcome.code == 0
        assert len(below(layout)) == 2 * files
    assert below("panel") == names
    assert "a" * 241 + ".generator.png" in below("overlay")


def test_results_of_one_picture_that_are_another_picture(cam: Command) -> None:
    put("a.png", "a.local.png")
    before = Path("a.local.png").read_bytes()
    outcome = cam("a.png", "a.local.png", "-o", ".", "--layout", "overlay", "--overwrite")
    message = "the result a.local.png of a.png would overwrite the input a.local.png"
    assert (outcome.code, outcome.errors) == (2, [message])
    # It is no input here, but there.
    outcome = cam("a.png", "-o", ".", "--layout", "overlay")
    assert (outcome.code, outcome.errors) == (2, ["1 of 3 results exist already: a.local.png"])
    assert below(".") == ["a.local.png", "a.png"]
    assert Path("a.local.png").read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("a.png", "-o", "x.png", "--layout", "overlay"),
        ("a.png", "-o", "x.npy", "--layout", "raw", "--maps", "generator"),
        ("a.png", "-o", "-", "--layout", "raw"),
        ("-", "--layout", "heatmap"),
        ("-o", "~/x.png", "a.png", "--layout", "overlay"),
    ],
)
def test_several_files_do_not_go_to_one(
    cam: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    put("a.png")
    outcome = cam(*arguments, stdin=encoded())
    assert outcome.code == 2
    assert outcome.errors[0].startswith("--layout ")
    assert outcome.errors[0].endswith("makes several files of a picture")
    assert "Name a folder" in outcome.stderr
    assert below(".") == ["a.png"]


def test_from_stdin_to_stdout(cam: Command) -> None:
    outcome = cam("-", stdin=encoded("WEBP"))
    assert outcome.code == 0
    result = reading.read_picture(outcome.stdout)
    assert result.format == "WEBP"
    assert result.size[0] > 700
    assert outcome.stderr.endswith("-> <stdout>\n")
    outcome = cam("-", "--layout", "overlay", "--maps", "local", "--format", "png", stdin=encoded("WEBP"))
    assert reading.read_picture(outcome.stdout).size == SIZE
    assert below(".") == []


# --- Existing results -------------------------------------------------------------------------


def test_existing_results(cam: Command) -> None:
    put("in/a.png", "in/b.png")
    layout = ("--layout", "overlay", "-o", "out")
    assert cam("in", *layout).code == 0
    Path("out/b.local.png").unlink()
    Path("out/a.local.png").write_bytes(b"old")
    Path("out/b.global.png").write_bytes(b"old")
    outcome = cam("in", *layout)
    assert (outcome.code, "5 of 6 results exist already" in outcome.errors[0]) == (2, True)
    assert not Path("out/b.local.png").exists()
    # A picture with one file missing gets that one.
    outcome = cam("in", *layout, "--skip-existing")
    assert (outcome.code, outcome.lines) == (0, [f"out/b.{name}.png" for name in MAPS])
    assert "1 looked at, 1 skipped" in outcome.stderr
    assert Path("out/a.local.png").read_bytes() == Path("out/b.global.png").read_bytes() == b"old"
    outcome = cam("in", *layout, "--overwrite")
    assert (outcome.code, len(outcome.lines)) == (0, 6)
    assert Path("out/a.local.png").read_bytes() != b"old"


# --- Wrong usage ---------------------------------------------------------------------------------------

WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown map": (("--maps", "generator,locale"), "'locale'"),
    "half a map": (("--maps", "local,"), "''"),
    "unknown layout": (("--layout", "grid"), "--layout"),
    "unknown colours": (("--colormap", "rainbows"), "'rainbows'"),
    "too opaque": (("--alpha", "1.01"), "alpha 1.01"),
    "unknown scale": (("--normalize", "folder"), "--normalize"),
    "unknown upsampling": (("--upsample", "nearest"), "--upsample"),
    "format against name": (("-o", "x.png", "--format", "jpg"), "x.png"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage(cam: Command, case: str) -> None:
    put("a.png")
    arguments, reason = WRONG[case]
    outcome = cam("a.png", *arguments)
    assert (outcome.code, outcome.stdout) == (2, b"")
    assert reason in " ".join(outcome.stderr.replace("│", " ").split())
    assert below(".") == ["a.png"]
    assert not Path("attention").exists()


# --- The same as `translate` ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["translate", "cam"])
def test_a_full_disk(ugatit: Command, light: str, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    written: list[Path] = []

    def refuse(path: Path, data: bytes) -> None:
        if len(written) >= 3:
            raise StorageError(f"no space left on the device for {path}", "Free some space, or write elsewhere.")
        written.append(path)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)

    monkeypatch.setattr(files_module, "write_file", refuse)
    put(*(f"in/{index:02}.png" for index in range(20)))
    arguments = ("--model", light, *CPU, "-o", "out", "--workers", "1", "--report", "r.html")
    outcome = ugatit(command, "in", *arguments)
    assert outcome.code == 1
    assert "out/03.png" in outcome.errors[0]
    assert outcome.errors[1:] == ["stopped: 17 of 20 files are not done"]
    assert "go on with --skip-existing" in outcome.stderr
    assert below("out") == ["00.png", "01.png", "02.png"]
    assert Path("r.html").read_text().count('<article class="card') == 4  # the one that failed, too


@pytest.mark.parametrize("command", ["translate", "cam"])
def test_stopping(ugatit: Command, light: str, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    put(*(f"in/{index:03}.png" for index in range(100)))
    add = tally.Tally.add

    def interrupted(self: tally.Tally, result: Result) -> None:
        add(self, result)
        if self.done == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(tally.Tally, "add", interrupted)
    outcome = ugatit(command, "in", "--model", light, *CPU, "-o", "out", "--workers", "2", "--report", "r.html")
    assert outcome.code == 130
    assert outcome.errors == ["interrupted; everything finished so far is kept"]
    assert "stopping: finishing what is in progress" in outcome.stderr
    written = below("out")
    assert 2 <= len(written) < 60
    assert sorted(outcome.lines) == [f"out/{name}" for name in written]
    for name in written:
        assert reading.read_picture(Path("out", name)).frames  # whole, and not temporary
    page = Path("r.html").read_text()
    assert page.count('<article class="card') == len(written)
    assert page.rstrip().endswith("</html>")
    assert below(".") == sorted([*(f"in/{n}" for n in below("in")), *(f"out/{n}" for n in written), "r.html"])
