"""`ugatit translate clip.mp4`: films among pictures, and all of a film that is not its frames."""

from __future__ import annotations

import io
import json
import signal
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ugatit_cli
from tests import clips, tiny
from tests.cli.conftest import Command, below, put
from tests.clips import decoded, facts, make
from ugatit_cli.cli import console
from ugatit_cli.cli.console import Progress
from ugatit_cli.films.writing import FilmWriter
from ugatit_cli.methods.configs import MUNITConfig
from ugatit_cli.pictures.geometry import Pixels

CUT = 0.6  # of a file


def cut(path: Path) -> Path:
    """A film whose second half is missing."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * CUT)])
    return path


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv"])
def test_sound_subtitles_chapters_and_times_are_kept(translate: Command, name: str) -> None:
    subtitles = name == "clip.mkv"
    source = make(Path(name), steps=clips.UNEVEN, subtitles=subtitles, chapters=True, aspect=Fraction(4, 3))
    assert translate(source, "-o", "out/").code == 0
    before, after = facts(source), facts(Path("out") / name)
    assert after.times == before.times  # as many frames, each at its time
    assert after.packets("audio") == before.packets("audio")
    if subtitles:
        assert after.packets("subtitle") == before.packets("subtitle")
    assert after.seconds == pytest.approx(before.seconds, abs=1 / 30)
    assert (after.size, after.aspect, after.codec) == (before.size, Fraction(4, 3), "h264")
    assert (after.metadata["title"], after.chapters) == ("A film", before.chapters)


@pytest.mark.parametrize(
    ("suffix", "options", "codec"),
    [(".mp4", ["--codec", "hevc"], "hevc"), (".mkv", ["--codec", "av1"], "libdav1d"), (".webm", [], "vp9")],
)
def test_codecs(translate: Command, suffix: str, options: list[str], codec: str) -> None:
    source = make(Path("clip.mkv"), frames=2, size=(64, 64), sound="libopus")  # fewer than encoders look ahead
    outcome = translate(source, "-o", f"out{suffix}", *options)
    assert (outcome.code, outcome.errors) == (0, [])
    assert facts(Path(f"out{suffix}")).codec == codec
    assert len(decoded(Path(f"out{suffix}"))) == 2


def test_a_film_that_begins_later_begins_at_once_and_in_time_with_its_sound(translate: Command) -> None:
    source = make(Path("clip.ts"), later=900, sound="mp2")
    assert translate(source, "-o", "out/").code == 0
    before, after = facts(source), facts(Path("out/clip.mkv"))  # .ts is not written
    assert 0 <= after.times[0] < Fraction(1, 10)
    sooner = [one.packets("audio")[0][1] - one.times[0] for one in (before, after)]
    assert sooner[1] == pytest.approx(sooner[0], abs=0.002)
    assert [one[0] for one in after.packets("audio")] == [one[0] for one in before.packets("audio")]


def test_odd_sides_are_made_even_aloud(translate: Command) -> None:
    source = make(Path("clip.webm"), frames=3, size=(33, 25), codec="libvpx-vp9", sound=None)
    even = translate(source, "-o", "out.mp4")
    assert facts(Path("out.mp4")).size == (34, 26)
    assert "34x26 pixels rather than 33x25" in even.stderr
    odd = translate(source, "-o", "out.webm")
    assert facts(Path("out.webm")).size == (33, 25)
    assert "rather than" not in odd.stderr


def test_pictures_and_films_of_a_folder(translate: Command) -> None:
    put("in/a.png", "in/z.png")
    make(Path("in/b.mp4"), frames=2)
    cut(make(Path("in/c.mkv"), frames=40, size=(64, 48)))
    Path("in/d.mp4").write_bytes(b"no film")
    alone = translate("in", "-o", "out")
    assert (alone.code, below("out")) == (0, ["a.png", "z.png"])
    assert "2 .mp4, 1 .mkv; name them to have them tried, or take films with --films" in alone.stderr
    both = translate("in", "-o", "out", "--films", "--skip-existing", "--json")
    assert (both.code, below("out")) == (1, ["a.png", "b.mp4", "z.png"])
    results = {one["input"]: one for one in both.documents}
    assert results["in/b.mp4"]["frames"] == 2
    assert "is cut off after" in results["in/c.mkv"]["error"]
    assert "can't be read as a film" in results["in/d.mp4"]["error"]
    assert translate("in/b.mp4", "-o", "out", "--update").stderr.count("1 skipped") == 1


def test_damaged_parts_are_passed_over(translate: Command) -> None:
    source = make(Path("clip.mp4"), frames=60, size=(64, 48), sound=None)
    data = bytearray(source.read_bytes())
    packets = [one[0] for one in facts(source).packets("video")]
    for packet in packets[30:32]:
        place = data.index(packet)
        data[place : place + len(packet)] = bytes(len(packet))
    source.write_bytes(data)
    outcome = translate(source, "-o", "out.mp4")
    assert (outcome.code, outcome.stderr.count("passed over, as players do")) == (0, 1)
    assert 50 < len(facts(Path("out.mp4")).times) <= 60


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "out.png"], "films can't be written as .png"),
        (["-o", "out.avi"], "films can't be written as .avi"),
        (["-o", "-"], "a film can't go to standard output"),
        (["-o", "out.webm", "--codec", "h264"], "--codec h264: can't be written as .webm here"),
        (["-o", "out.mov", "--codec", "vp9"], "--codec vp9: can't be written as .mov here"),
        (["-o", "out.mov", "--codec", "av1"], "--codec av1: can't be written as .mov here"),
        (["-o", "out", "--styles", "2"], "--styles is for pictures"),
        (["-o", "out", "--faces-only"], "--faces-only is for pictures"),
        (["-o", "out.mp4", "--steady", "1"], "--steady 1"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_done(
    translate: Command, arguments: list[str], said: str
) -> None:
    outcome = translate(make(Path("clip.mp4"), frames=1), *arguments)
    assert outcome.code == 2
    assert said in outcome.errors[0]
    assert below(".") == ["clip.mp4"]


@pytest.mark.parametrize(("name", "value"), [("steady", 0.5), ("codec", "av1")])
def test_what_is_for_films_needs_one(translate: Command, name: str, value: object) -> None:
    put("a.png")
    outcome = translate("a.png", "-o", "out", f"--{name}", value)
    assert (outcome.code, outcome.errors) == (2, [f"--{name} {value} is for films, and there is none"])
    Path("ugatit.toml").write_text(f"{name} = {json.dumps(value)}\n")  # for whatever is to come
    assert translate("a.png", "-o", "out").code == 0


def test_sound_that_a_container_does_not_take(translate: Command) -> None:
    outcome = translate(make(Path("clip.mp4"), frames=1), "-o", "out.webm")
    assert (outcome.code, below(".")) == (1, ["clip.mp4"])
    assert outcome.errors[0] == "clip.mp4: its sound (aac) can't be copied to .webm"
    assert ".mkv" in outcome.stderr


@pytest.mark.parametrize("output", ["out.mp4", "out.mkv"])
def test_sound_that_not_even_mkv_takes_has_a_way_out(translate: Command, output: str) -> None:
    outcome = translate(make(Path("a clip.mov"), frames=1, sound="pcm_mulaw"), "-o", output)
    assert (outcome.code, below(".")) == (1, ["a clip.mov"])
    assert "-i 'a clip.mov' -c:v copy -c:a flac changed.mkv" in " ".join(outcome.stderr.split())


def test_subtitles_that_a_container_does_not_take_are_said_to_be_missing(translate: Command) -> None:
    outcome = translate(make(Path("clip.mkv"), subtitles=True), "-o", "out.mp4")
    assert outcome.code == 0
    assert "subtitles (srt) left out: .mp4 doesn't take them, .mkv does" in outcome.stderr
    assert [kind for kind, _ in facts(Path("out.mp4")).streams] == ["video", "audio"]


def test_without_pyav_the_install_line_is_said(translate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    make(Path("clip.mp4"), frames=1)
    monkeypatch.setitem(sys.modules, "av", None)
    outcome = translate("clip.mp4", "-o", "out.mp4")
    assert outcome.code == 2
    assert "pip install av" in outcome.stderr


def test_ctrl_c_leaves_nothing_of_a_film(translate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(Path("clip.mp4"), frames=30)
    put("first.png")
    write = FilmWriter.write

    def interrupted(writer: FilmWriter, pixels: Pixels, pts: int, duration: int) -> None:
        write(writer, pixels, pts, duration)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(FilmWriter, "write", interrupted)
    outcome = translate("first.png", source, "-o", "out")
    assert (outcome.code, below("out")) == (130, ["first.png"])


def test_a_model_with_styles_has_one_for_all_frames(translate: Command) -> None:
    model = tiny.save(Path("styles"), MUNITConfig("flat", "clay", 32, channels=4, blocks=1))
    source = make(Path("clip.mp4"), frames=3, sound=None)
    results = []
    for seed in (1, 2):
        assert translate(source, "--model", model, "-o", f"{seed}.mp4", "--style", f"random:{seed}").code == 0
        results.append(decoded(Path(f"{seed}.mp4")))
    assert abs(results[0][0].astype(int) - results[1][0]).mean() > 1
    changes = [abs(frames[0].astype(int) - frames[2]).mean() for frames in results]
    assert max(changes) < abs(results[0][0].astype(int) - results[1][0]).mean()


def test_a_folder_of_masks(translate: Command) -> None:
    source = make(Path("clip.mkv"), frames=3, codec="ffv1", sound=None)
    Path("masks").mkdir()
    outcome = translate(source, "--mask", "masks", "-o", "out.mkv")
    assert (outcome.code, "no mask for it in masks" in outcome.stderr) == (1, True)
    width, height = facts(source).size
    mask = np.zeros((height, width), np.uint8)
    mask[:, : width // 2] = 255
    Image.fromarray(mask).save("masks/clip.png")
    assert translate(source, "--mask", "masks", "-o", "out.mkv").code == 0
    before, after = (np.stack(decoded(path)).astype(int) for path in (source, Path("out.mkv")))
    left, right = np.split(abs(before - after), [width // 2], axis=2)
    assert left.mean() > 4 * right.mean()  # which H.264 changes, too


def test_the_report_shows_a_frame_of_the_middle(translate: Command) -> None:
    source = make(Path("clip.mp4"), frames=9)
    assert translate(source, "-o", "out.mp4", "--report", "report.html").code == 0
    page = Path("report.html").read_text()
    assert "clip.mp4" in page
    assert "9 frames" in page


def test_from_python(light: str) -> None:
    source, told = make(Path("clip.mkv"), frames=3, size=(33, 25), codec="ffv1", sound=None), list[tuple[int, int]]()
    model = ugatit_cli.load(light, device="cpu", precision="fp32")
    told_of = ugatit_cli.translate_film(
        model, source, "out.mp4", "b2a", strength=0, told=lambda *frames: told.append(frames)
    )
    assert facts(Path("out.mp4")).times == facts(source).times
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert ["34x26 pixels rather than 33x25" in one for one in told_of] == [True]
    before, after = (np.stack(decoded(path)).astype(int) for path in (source, Path("out.mp4")))
    assert abs(before - after[:, :25, :33]).mean() < 3  # of strength 0
    with pytest.raises(ugatit_cli.OutputError, match=r"out\.mp4: exists already"):
        ugatit_cli.translate_film(model, source, "out.mp4")
    assert ugatit_cli.translate_film(model, source, "out.mp4", overwrite=True, strength=0) == told_of
    with pytest.raises(ugatit_cli.UsageError, match="replace the film itself"):
        ugatit_cli.translate_film(model, source, source)
    with pytest.raises(ugatit_cli.UsageError, match="has no styles"):
        ugatit_cli.translate_film(model, source, "styled.mp4", style="random")
    with pytest.raises(ugatit_cli.PictureError, match=r"none\.mp4: no such file"):
        ugatit_cli.translate_film(model, "none.mp4", "other.mp4")


def test_progress_tells_frames_and_the_time_left(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(2, "files")
    progress.advance()
    for frame in range(1, 5):
        clock[0] += 6
        progress.frame(frame, 10)
    assert capsys.readouterr().err.splitlines() == [
        "1/2 files, frame 2 of 10, 0.17 frames/s, 0:00:48 left",
        "1/2 files, frame 4 of 10, 0.17 frames/s, 0:00:36 left",
    ]


def test_a_bar_moves_with_frames(terminal: io.StringIO) -> None:
    with console.progress(1) as progress:
        progress.frame(5, 10)
    assert "frame 5 of 10" in terminal.getvalue()


def test_cam_of_a_film(cam: Command) -> None:
    source = make(Path("clip.mp4"), frames=4)
    assert cam(source, "-o", "seen.mp4").code == 0
    panel = facts(Path("seen.mp4"))
    assert panel.times == facts(source).times
    assert panel.size[0] > 5 * 32  # side by side
    assert cam(source, "-o", "over.mp4", "--layout", "overlay", "--maps", "generator").code == 0
    assert facts(Path("over.mp4")).size == (32, 24)
    several = cam(source, "-o", "several", "--layout", "overlay")
    assert (several.code, several.errors) == (2, ["--layout overlay is for pictures, and clip.mp4 is a film"])


def test_steady_films_flicker_less(translate: Command) -> None:
    source = make(Path("clip.mp4"), frames=6, sound=None, steps=clips.STEADY)
    for name, options in {"plain": [], "steady": ["--steady", "0.9"]}.items():
        assert translate(source, "-o", f"{name}.mp4", *options).code == 0
    plain, steady = (np.stack(decoded(Path(f"{name}.mp4"))).astype(int) for name in ("plain", "steady"))
    assert abs(np.diff(steady[:, :12, :16], axis=0)).mean() < abs(np.diff(plain[:, :12, :16], axis=0)).mean()
