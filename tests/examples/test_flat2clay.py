"""The emoji benchmark of examples/flat2clay: the split, the pictures, and a folder that can be trusted."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import pytest
from PIL import Image

import build
from build import make_plan
from emoji_names import HELD_OUT, TRAINING, group, shown
from emoji_pictures import clay, flat, square
from npm_package import Package, integrity_of

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 36 36"><path fill="{}" d="M9 9h18v18H9z"/></svg>'
# How the second package names its file of an emoji, where it differs; folders as computed by hand with hashlib.
TRAINED_A = ["1f3ae", "1f600"]  # the first isn't MIT
TRAINED_B = ["1f4ce", "1fa90", "23-20e3"]  # the first isn't MIT
HELD = ["1f587", "270b", "270b-1f3fc", "270b-1f3fd", "2764"]  # the first isn't MIT
NAMES = TRAINED_A + TRAINED_B + HELD
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
    image = flat(SVG.format("red").encode(), size, "x")
    assert (image.mode, image.size) == ("RGB", (size, size))
    assert drawn(image) == (size // 4, size // 4, size * 3 // 4, size * 3 // 4)
    assert image.getpixel((size // 2, size // 2)) == (255, 0, 0)
    image = clay(webp((256, 264), (0, 8, 256, 136)), size, "x")
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


# --- The benchmark -------------------------------------------------------------------------------------


def package(cache: Path, name: str, files: Mapping[str, bytes]) -> Package:
    """A small package, in the cache."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for file, data in files.items():
            member = tarfile.TarInfo(f"package/{file}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    made = Package(name, "1.0.0", integrity_of(buffer.getvalue()), len(buffer.getvalue()))
    (cache / made.file).write_bytes(buffer.getvalue())
    return made


class Bench:
    """A cache with two small packages, in which each emoji has a colour of its own, and a folder to build in."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.dest = folder / "cache", folder / "bench"
        self.cache.mkdir()
        colours = {name: f"rgb({20 * i}, 100, {255 - 20 * i})" for i, name in enumerate(NAMES)}
        flats = {f"{name}.svg": SVG.format(colour).encode() for name, colour in colours.items()}
        clays = {
            f"assets/{OTHERWISE.get(name, name)}.webp": webp((32, 32), (8, 8, 24, 24), colour)
            for name, colour in colours.items()
        }
        flats["1f9ff.svg"], clays["assets/1f47e.webp"] = SVG.format("red").encode(), webp((32, 32), (8, 8, 24, 24))
        self.packages = package(self.cache, "@x/flat", flats), package(self.cache, "clay", clays)

    def build(self, *options: str, dest: Path | None = None, size: int = 32) -> int:
        arguments = [str(dest or self.dest), "--cache", str(self.cache), "--size", str(size), *options]
        return build.main(arguments, self.packages)

    def names(self, folder: str) -> list[str]:
        return sorted(path.stem for path in (self.dest / folder).iterdir())

    def contents(self) -> dict[str, bytes]:
        files = (path for path in self.dest.rglob("*") if path.is_file())
        return {path.relative_to(self.dest).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_emoji_of_both_packages_are_in_their_folders(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.build() == 0
    assert bench.names("trainA") == TRAINED_A
    assert bench.names("trainB") == TRAINED_B
    assert bench.names("testA") == bench.names("testB") == HELD
    said = capsys.readouterr()
    assert said.out == ""
    assert f"ugatit train --data {bench.dest}" in said.err
    notice = (bench.dest / "NOTICE.txt").read_text()
    for words in ("CC-BY 4.0", "Twitter, Inc", "jdecked", "Microsoft", "MIT", "LobeHub", "clay 1.0.0", "32 x 32"):
        assert words in notice
    pixels = {
        (folder, name): Image.open(bench.dest / folder / f"{name}.png").getpixel((16, 16))
        for folder in HELD_OUT
        for name in HELD
    }
    # The small packages' tones are right, so that what corrects the real one confuses them.
    assert {shown(name) for name in HELD} == set(HELD)
    assert all(pixels["testA", shown(name)] == pixels["testB", name] for name in HELD)
    shutil.rmtree(bench.dest)
    bench.build("--licensed")  # without what isn't MIT
    assert (bench.names("trainA"), bench.names("trainB")) == (TRAINED_A[1:], TRAINED_B[1:])
    assert bench.names("testA") == HELD


def test_again_only_what_is_missing_is_drawn_with_the_same_bytes(bench: Bench) -> None:
    bench.build()
    before = bench.contents()
    (bench.dest / "trainA" / "1f600.png").unlink()
    (bench.dest / "trainB" / ".1fa90.png.00000000.tmp").write_bytes(b"half")
    times = {path: path.stat().st_mtime_ns for path in bench.dest.rglob("*.png")}
    assert bench.build() == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert bench.contents() == before | {"trainB/.1fa90.png.00000000.tmp": b"half"}


def test_an_interrupted_build_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "resvg_py", None)
        assert bench.build() == 2  # the renderer isn't installed
        assert not bench.dest.exists()
    with monkeypatch.context() as patch:
        patch.setattr(build, "clay", mock.Mock(side_effect=KeyboardInterrupt))
        assert bench.build() == 130
    assert len(bench.contents()) < 16
    assert bench.build() == 0
    assert len(bench.contents()) == 16


@pytest.mark.parametrize(
    ("name", "source"),
    [("trainA/270b.png", "testA/270b.png"), ("testB/notes.txt", ""), ("trainB/1fa90.png", ""), ("NOTICE.txt", "")],
)
def test_foreign_files_and_other_options_are_refused(
    bench: Bench, name: str, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.build()
    clean = bench.contents()
    assert bench.build("--licensed") == bench.build(size=48) == 2
    assert bench.contents() == clean
    (bench.dest / name).write_bytes((bench.dest / source).read_bytes() if source else b"mine")
    before = bench.contents()
    assert bench.build() == 2
    assert f"error: {bench.dest / name}:" in capsys.readouterr().err
    assert bench.contents() == before
    shutil.rmtree(bench.dest)
    bench.dest.write_bytes(b"mine")  # a file in place of the folder
    assert bench.build() == bench.build(dest=bench.dest / "it") == 2
    assert bench.dest.read_bytes() == b"mine"


def test_the_script_runs_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "twemoji-svg-15.0.0.tgz").write_bytes(b"not it")
    command = [sys.executable, build.__file__, "bench", "--cache", "."]
    failed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "@twemoji/svg 15.0.0" in failed.stderr


def test_a_plan_of_any_emoji_has_pairs_and_no_leaks() -> None:
    names = [f"{0x1F300 + i:x}{tone}" for i in range(200) for tone in ("", "-1f3fb", "-1f3fc", "-1f3fd")]
    plan = make_plan({f"{name}.svg": b"" for name in names}, {f"{name}.webp": b"" for name in names}, licensed=True)
    assert plan.names("testA") == plan.names("testB")
    counts = {folder: len(plan.names(folder)) for folder in (*TRAINING, *HELD_OUT)}
    assert counts["trainA"] + counts["trainB"] + counts["testA"] + len(plan.left_out) == len(names)
    groups = {folder: {group(name) for name in plan.names(folder)} for folder in counts}
    assert groups["testA"].isdisjoint(groups["trainA"] | groups["trainB"])
    assert groups["trainA"].isdisjoint(groups["trainB"])
