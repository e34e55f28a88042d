"""The emoji benchmark of examples/flat2clay: the split, the pictures, and a folder that can be trusted."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

import build
from build import make_plan
from emoji_names import HELD_OUT, TRAINING, group, shown
from emoji_pictures import clay, flat, square
from npm_package import Package, integrity_of

SCRIPT = Path(build.__file__)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 36 36"><path fill="{}" d="M9 9h18v18H9z"/></svg>'
# Both packages' files of the same emoji, as each of them names it; folders as computed by hand with hashlib.
FILES = {
    "1f600": ("1f600", "1f600"),  # trainA
    "1f3ae": ("1f3ae", "1f3ae"),  # trainA, not MIT
    "1fa90": ("1fa90", "1fa90"),  # trainB
    "23-20e3": ("23-20e3", "0023-fe0f-20e3"),  # trainB
    "1f4ce": ("1f4ce", "1f4ce"),  # trainB, not MIT
    "1f587": ("1f587", "1f587"),  # held out, not MIT
    "2764": ("2764", "2764-fe0f"),  # held out
    "270b": ("270b", "270b"),  # held out, as are its skin tones
    "270b-1f3fc": ("270b-1f3fc", "270b-1f3fc"),
    "270b-1f3fd": ("270b-1f3fd", "270b-1f3fd"),
}


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
def test_an_svg_is_rendered_on_white(size: int) -> None:
    image = flat(SVG.format("red").encode(), size, "x")
    assert (image.mode, image.size) == ("RGB", (size, size))
    assert drawn(image) == (size // 4, size // 4, size * 3 // 4, size * 3 // 4)
    assert image.getpixel((size // 2, size // 2)) == (255, 0, 0)


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


def test_a_webp_is_put_on_white_at_its_size() -> None:
    image = clay(webp((256, 264), (0, 8, 256, 136)), 64, "x")
    assert (image.mode, image.size) == ("RGB", (64, 64))
    assert image.getpixel((32, 10)) == (0, 0, 255)
    assert image.getpixel((32, 50)) == (255, 255, 255)


# --- The benchmark -------------------------------------------------------------------------------------


def tarball(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def packages(cache: Path) -> tuple[Package, Package]:
    """Two small packages in a cache: each emoji has a colour of its own, of both drawings."""
    colours = {name: f"rgb({20 * i}, 100, {255 - 20 * i})" for i, name in enumerate(FILES)}
    svgs = {f"{FILES[name][0]}.svg": SVG.format(colour).encode() for name, colour in colours.items()}
    webps = {f"assets/{FILES[name][1]}.webp": webp((32, 32), (8, 8, 24, 24), colours[name]) for name in FILES}
    svgs["1f9ff.svg"], webps["assets/1f47e.webp"] = SVG.format("red").encode(), webp((32, 32), (8, 8, 24, 24))
    result = []
    cache.mkdir()
    for name, files in (("@x/flat", svgs), ("clay", webps)):
        data = tarball({"package.json": b"{}", **files})
        result.append(Package(name, "1.0.0", integrity_of(data), len(data)))
        (cache / result[-1].file).write_bytes(data)
    return result[0], result[1]


class Bench:
    """A cache with small packages, and a folder to build in."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.packages = packages(self.cache)
        self.dest = folder / "bench"

    def build(self, *options: str, dest: Path | None = None, size: int = 32) -> int:
        arguments = [str(dest or self.dest), "--cache", str(self.cache), "--size", str(size), *options]
        return build.main(arguments, self.packages)

    def names(self, folder: str) -> list[str]:
        return sorted(path.stem for path in (self.dest / folder).iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_emoji_of_both_packages_are_in_their_folders(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.build() == 0
    assert bench.names("trainA") == ["1f3ae", "1f600"]
    assert bench.names("trainB") == ["1f4ce", "1fa90", "23-20e3"]
    assert bench.names("testA") == bench.names("testB") == ["1f587", "270b", "270b-1f3fc", "270b-1f3fd", "2764"]
    said = capsys.readouterr()
    assert said.out == ""
    assert "trainA 2, trainB 3, testA 5, testB 5" in said.err
    assert f"ugatit train --data {bench.dest}" in said.err


def test_no_held_out_group_is_trained_on(bench: Bench) -> None:
    bench.build()
    trained = {group(name) for folder in TRAINING for name in bench.names(folder)}
    assert trained.isdisjoint(group(name) for folder in HELD_OUT for name in bench.names(folder))
    assert set(bench.names("trainA")).isdisjoint(bench.names("trainB"))


def test_held_out_pictures_are_pairs(bench: Bench) -> None:
    bench.build()
    for name in bench.names("testA"):
        of_a, of_b = (Image.open(bench.dest / folder / f"{name}.png").getpixel((16, 16)) for folder in HELD_OUT)
        # The small packages' tones are right, so that what corrects the real one confuses them.
        assert (of_a == of_b) is (shown(name) == name)
    swapped = Image.open(bench.dest / "testB" / "270b-1f3fc.png").getpixel((16, 16))
    assert swapped == Image.open(bench.dest / "testA" / "270b-1f3fd.png").getpixel((16, 16))


def test_licensed_leaves_out_of_training_what_is_not_mit(bench: Bench) -> None:
    bench.build("--licensed")
    assert bench.names("trainA") == ["1f600"]
    assert bench.names("trainB") == ["1fa90", "23-20e3"]
    assert "1f587" in bench.names("testA")
    assert "2 were left out of trainA and trainB, and 0 are there" in (bench.dest / "NOTICE.txt").read_text()


def test_the_notice_names_licences_sources_and_counts(bench: Bench) -> None:
    bench.build()
    notice = (bench.dest / "NOTICE.txt").read_text()
    for words in ("CC-BY 4.0", "Twitter, Inc", "jdecked", "Microsoft", "MIT", "LobeHub", "clay 1.0.0", "32 x 32"):
        assert words in notice
    assert "0 were left out of trainA and trainB, and 2 are there" in notice
    assert "1 are in testA and testB" in notice


def test_the_same_bytes_each_time(bench: Bench, tmp_path: Path) -> None:
    bench.build()
    bench.build(dest=tmp_path / "again")
    assert contents(bench.dest) == contents(tmp_path / "again")
    assert len(contents(bench.dest)) == 16


def test_again_only_what_is_missing_is_drawn(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.build()
    before = contents(bench.dest)
    (bench.dest / "trainA" / "1f600.png").unlink()
    (bench.dest / "trainB" / ".1fa90.png.00000000.tmp").write_bytes(b"half")
    times = {path: path.stat().st_mtime_ns for path in bench.dest.rglob("*.png")}
    capsys.readouterr()
    assert bench.build() == 0
    assert "14 of 15 pictures are there already" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert contents(bench.dest) == before | {"trainB/.1fa90.png.00000000.tmp": b"half"}


def test_an_interrupted_build_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> Image.Image:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "clay", interrupted)
        assert bench.build() == 130
    assert "goes on" in capsys.readouterr().err
    assert len(contents(bench.dest)) < 16
    assert bench.build() == 0
    assert len(contents(bench.dest)) == 16


@pytest.fixture
def foreign(bench: Bench, request: pytest.FixtureRequest) -> Path:
    """A benchmark with a file that isn't its own."""
    bench.build()
    name, source = request.param
    path = bench.dest / str(name)
    path.write_bytes((bench.dest / source).read_bytes() if source else b"mine")
    return path


@pytest.mark.parametrize(
    "foreign",
    [("trainA/270b.png", "testA/270b.png"), ("testB/notes.txt", ""), ("trainB/1fa90.png", ""), ("NOTICE.txt", "")],
    indirect=True,
)
def test_foreign_files_are_refused(bench: Bench, foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(bench.dest)
    assert bench.build() == 2
    assert f"error: {foreign}:" in capsys.readouterr().err
    assert contents(bench.dest) == before


@pytest.mark.parametrize(("options", "size"), [(["--licensed"], 32), ([], 48)])
def test_a_folder_of_other_options_is_refused(
    bench: Bench, options: list[str], size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.build()
    before = contents(bench.dest)
    assert bench.build(*options, size=size) == 2
    assert f"error: {bench.dest}" in capsys.readouterr().err
    assert contents(bench.dest) == before


def test_a_file_in_place_of_a_folder(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.dest.mkdir()
    (bench.dest / "trainA").write_bytes(b"mine")
    assert bench.build() == 2
    assert str(bench.dest / "trainA") in capsys.readouterr().err


@pytest.mark.parametrize("name", ["bench", "bench/below/it"])
def test_a_file_in_place_of_the_benchmark(bench: Bench, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    bench.dest.write_bytes(b"mine")
    assert bench.build(dest=bench.dest.parent / name) == 2
    assert f"error: {bench.dest}: not a folder" in capsys.readouterr().err
    assert bench.dest.read_bytes() == b"mine"


def test_without_the_renderer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    assert bench.build() == 2
    assert "pip install resvg-py" in capsys.readouterr().err
    assert not bench.dest.exists()


@pytest.mark.parametrize("size", ["15", "1025", "x"])
def test_sizes_that_make_no_sense(tmp_path: Path, size: str) -> None:
    with pytest.raises(SystemExit) as caught:
        build.main([str(tmp_path / "bench"), "--size", size])
    assert caught.value.code == 2


def test_the_script_runs_from_anywhere(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    shown = run("--help")
    assert shown.returncode == 0
    assert "--licensed" in shown.stdout
    (tmp_path / "twemoji-svg-15.0.0.tgz").write_bytes(b"not it")
    failed = run("bench", "--cache", ".")
    assert failed.returncode == 1
    assert "isn't @twemoji/svg 15.0.0" in failed.stderr


def test_a_plan_of_any_emoji_has_pairs_and_no_leaks() -> None:
    names = [f"{0x1F300 + i:x}{tone}" for i in range(200) for tone in ("", "-1f3fb", "-1f3fc", "-1f3fd")]
    plan = make_plan({f"{name}.svg": b"" for name in names}, {f"{name}.webp": b"" for name in names}, licensed=True)
    assert plan.names("testA") == plan.names("testB")
    counts = {folder: len(plan.names(folder)) for folder in (*TRAINING, *HELD_OUT)}
    assert counts["trainA"] + counts["trainB"] + counts["testA"] + len(plan.left_out) == len(names)
    assert counts["testA"] % 4 == 0
    groups = {folder: {group(name) for name in plan.names(folder)} for folder in counts}
    assert groups["testA"].isdisjoint(groups["trainA"] | groups["trainB"])
    assert groups["trainA"].isdisjoint(groups["trainB"])
