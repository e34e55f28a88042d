"""Films read and written without a model between: what they look like stays."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc

from tests import clips
from tests.clips import decoded, facts, make
from ugatit_cli.errors import OutputError, PictureError
from ugatit_cli.films.codecs import encoder_for
from ugatit_cli.films.reading import open_film, survey
from ugatit_cli.films.writing import FilmWriter
from ugatit_cli.outputs.base import FileOptions
from ugatit_cli.pictures.geometry import Pixels

REPEATS = Path(__file__).parent.parent / "fixtures" / "repeats.ogv"  # Theora, which PyAV doesn't write


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def copied(source: Path, output: str, *, keep_metadata: bool = False) -> tuple[Path, list[str]]:
    path, files = Path(output), FileOptions(quality=100, keep_metadata=keep_metadata)
    with open_film(source) as film, FilmWriter(path, film, encoder_for(path), files) as writer:
        for shot in film.shots():
            writer.write(np.asarray(shot.frame.rgb), shot.pts, shot.duration)
        writer.finish()
        return path, [*film.notes, *writer.notes]


def reds(frame: Pixels) -> list[bool]:
    """Which corners are red, from the upper left one on clockwise."""
    down, across = (side // 4 for side in frame.shape[:2])
    corners = [
        frame[y, x].astype(int) for y, x in ((down, across), (down, -across), (-down, -across), (-down, across))
    ]
    return [bool(corner[0] > 200 and corner[1] < 60) for corner in corners]


@pytest.mark.parametrize(("turned", "corner"), [(90, 3), (180, 2), (-90, 1)])
def test_films_of_a_turned_camera_come_out_upright(turned: int, corner: int) -> None:
    source = make(Path("clip.mp4"), frames=3, turned=turned, aspect=Fraction(2), sound=None)
    output, _ = copied(source, "out.mkv")
    shown = facts(output)
    across = turned != 180
    assert (shown.size, shown.aspect) == (((24, 32), Fraction(1, 2)) if across else ((32, 24), Fraction(2)))
    assert reds(decoded(output)[0]) == [index == corner for index in range(4)]


@pytest.mark.parametrize("lines", [24, 720])  # what nothing is said of: BT.601, BT.709
def test_colours_survive(lines: int) -> None:
    source = make(Path("clip.mp4"), frames=2, size=(32, lines), sound=None)
    output, notes = copied(source, "out.mp4")
    assert notes == []
    with open_film(source) as before, open_film(output) as after:
        for old, new in zip(before.shots(), after.shots(), strict=True):
            assert abs(np.asarray(old.frame.rgb, int) - np.asarray(new.frame.rgb, int)).mean() < 2


@pytest.mark.slow  # libswscale makes a table of all colours
def test_hdr_becomes_sdr_of_the_same_brightness() -> None:
    white = 0.58  # of PQ's range: 203 candelas a square metre, the white of BT.2408
    with av.open("clip.mkv", "w") as film:
        stream = film.add_stream("libx265", rate=25, options={"x265-params": "log-level=none"})
        context = stream.codec_context
        context.width = context.height = 64
        context.pix_fmt = "yuv420p10le"
        context.color_primaries, context.color_trc = ColorPrimaries.BT2020, ColorTrc.SMPTE2084
        context.colorspace = Colorspace.BT2020
        light = np.full((64, 64), 64 + white * 876, np.uint16)
        frame = VideoFrame.from_ndarray(np.vstack([light, np.full((32, 64), 512, np.uint16)]), "yuv420p10le")
        frame.pts = 0
        film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    output, notes = copied(Path("clip.mkv"), "out.mp4")
    assert notes == ["HDR becomes SDR"]
    assert decoded(output)[0].mean() > 240


def test_transparency_shows_the_background() -> None:
    with av.open("clip.mov", "w") as film:
        stream = film.add_stream("png", rate=25)
        stream.codec_context.width, stream.codec_context.height, stream.codec_context.pix_fmt = 32, 32, "rgba"
        film.mux(stream.encode(VideoFrame.from_ndarray(np.zeros((32, 32, 4), np.uint8), "rgba")))
        film.mux(stream.encode(None))
    output, notes = copied(Path("clip.mov"), "out.mp4")
    assert notes == ["films have no transparency, so the background shows"]
    assert decoded(output)[0].min() > 250


def test_where_a_film_was_made_is_kept_only_if_asked_for() -> None:
    source = make(Path("clip.mp4"), frames=2, sound=None, location="+48.8577+002.2950/")
    found = [facts(copied(source, f"{kept}.mp4", keep_metadata=kept)[0]).metadata for kept in (False, True)]
    assert [one.get("location") for one in found] == [None, "+48.8577+002.2950/"]
    assert [one["title"] for one in found] == ["A film", "A film"]


def test_a_writer_that_fails_leaves_nothing() -> None:
    source = make(Path("clip.mkv"), frames=2)
    encoder = encoder_for(Path("out.mkv"))
    nowhere, plain = Path("nowhere/out.mkv"), FileOptions()
    with (
        open_film(source) as film,
        pytest.raises(OutputError),
        FilmWriter(nowhere, film, encoder, plain) as writer,
    ):
        writer.write(clips.picture(0, (32, 24)), 0, 1)
    with open_film(source) as film, FilmWriter(Path("out.mkv"), film, encoder, plain) as writer:
        writer.write(clips.picture(0, (32, 24)), 0, 1)
        assert len(list(Path().iterdir())) == 2
    assert [path.name for path in Path().iterdir()] == ["clip.mkv"]


def test_playlists_and_what_has_no_pictures_are_no_films() -> None:
    Path("list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/clip.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(PictureError, match="can't be read as a film"):
        survey(Path("list.mp4"))
    with av.open("sound.mp4", "w") as film:
        clips.sing(film, film.add_stream("aac", rate=clips.SAMPLES), 0, 100)
    with pytest.raises(PictureError, match="has no moving pictures"):
        survey(Path("sound.mp4"))
    with pytest.raises(PictureError, match="is a folder"):
        survey(Path())


def test_a_name_is_a_file_whatever_is_in_it() -> None:
    source = make(Path("clip.mkv"), frames=2, sound=None).rename("pipe:1.mkv")
    output, _ = copied(source, "http:%03d.mkv")
    assert len(decoded(output.rename("out.mkv"))) == 2


def test_times_that_begin_anew_are_an_error_before_the_first_frame() -> None:
    one = make(Path("one.ts"), frames=50, sound="mp2")
    assert survey(one).frames == 50
    Path("two.ts").write_bytes(one.read_bytes() * 2)
    with pytest.raises(PictureError, match="begin anew") as caught:
        survey(Path("two.ts"))
    assert "-i two.ts -c copy mended.mkv" in (caught.value.hint or "")


def test_pictures_that_are_shown_again_are_shown_for_longer() -> None:
    output, notes = copied(REPEATS, "out.mkv")
    assert (survey(REPEATS).frames, notes) == (7, [])
    assert [time * 25 for time in facts(output).times] == [0, 5, 10, 12, 15, 20, 24]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_sound_that_overlaps_where_parts_meet_is_kept(suffix: str) -> None:
    parts = [make(Path(f"{later}.ts"), frames=30, later=later, sound="mp2") for later in (0, 480)]
    Path("both.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    output, _ = copied(Path("both.ts"), f"out{suffix}")
    sound = [packet for packet, *_ in facts(output).packets("audio")]
    assert sound == [packet for packet, *_ in facts(Path("both.ts")).packets("audio")]
