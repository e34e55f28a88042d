"""Small films, made by real encoders: each frame has a grey of its own, and a red upper left corner."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ugatit_cli.pictures.geometry import Pixels

TICK = Fraction(1, 600)
STEADY = (20,)  # ticks between frames: 30 a second
UNEVEN = (20, 40, 15)
SUBTITLES = b"1\n00:00:00,100 --> 00:00:00,300\nHello\n\n2\n00:00:00,400 --> 00:00:00,500\nagain\n"
SAMPLES = 48_000


@dataclass(frozen=True)
class Facts:
    """What a film is: streams in their order, each a kind and the bytes, times and durations of its packets."""

    streams: tuple[tuple[str, tuple[tuple[bytes, Fraction, Fraction], ...]], ...]
    times: tuple[Fraction, ...]
    seconds: Fraction
    metadata: dict[str, str]
    chapters: list[tuple[str, Fraction, Fraction]]
    size: tuple[int, int]
    aspect: Fraction
    codec: str

    def packets(self, kind: str) -> tuple[tuple[bytes, Fraction, Fraction], ...]:
        """Those of the first stream of a kind."""
        return next(packets for name, packets in self.streams if name == kind)


def shade(index: int) -> int:
    """The grey of a frame."""
    return 40 + index * 5 % 180


def picture(index: int, size: tuple[int, int]) -> Pixels:
    """uint8 (H, W, 3)."""
    pixels = np.full((size[1], size[0], 3), shade(index), np.uint8)
    pixels[: size[1] // 2, : size[0] // 2] = (255, 0, 0)
    return pixels


def make(
    path: Path,
    frames: int = 12,
    size: tuple[int, int] = (32, 24),
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    steps: tuple[int, ...] = STEADY,
    turned: int | None = None,
    aspect: Fraction | None = None,
    sound: str | None = "aac",
    subtitles: bool = False,
    chapters: bool = False,
    later: int = 0,
    **metadata: str,
) -> Path:
    """A film of a red corner on grey, a sine for its sound.

    Args:
        steps: ticks from each frame to the next, over and over.
        turned: degrees counter-clockwise.
        later: ticks that all of it begins after 0.
        metadata: of the file, beside its title.
    """
    with av.open(str(path), "w") as film:
        stream = cast(VideoStream, film.add_stream(codec, rate=30, width=size[0], height=size[1], pix_fmt=pixels))
        stream.codec_context.time_base = TICK
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if turned is not None:
            stream.set_display_rotation(turned)
        audio: Any = film.add_stream(sound, rate=SAMPLES) if sound else None
        words = av.open(io.BytesIO(SUBTITLES), "r", format="srt") if subtitles else None
        said = film.add_stream_from_template(words.streams[0]) if words else None
        film.metadata.update(metadata, title="A film")
        if chapters:
            film.set_chapters(
                [{"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}]
            )
        ticks = later
        for index in range(frames):
            frame = VideoFrame.from_ndarray(picture(index, size), "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = ticks, TICK
            film.mux(stream.encode(frame))
            ticks += steps[index % len(steps)]
        film.mux(stream.encode(None))
        if audio:
            sing(film, audio, later, ticks)
        if words and said:
            for packet in words.demux():
                if packet.size:
                    packet.stream = said
                    film.mux(packet)
    return path


def sing(film: OutputContainer, stream: Any, begin: int, end: int) -> None:
    """Writes a sine from one time, in ticks, to another."""
    first, last = (int(ticks * TICK * SAMPLES) for ticks in (begin, end))
    wave = (0.3 * np.sin(2 * np.pi * 440 * np.arange(last - first) / SAMPLES)).astype(np.float32)
    kind = stream.codec_context.format.name
    for start in range(0, len(wave), 1024):
        part = wave[start : start + 1024]
        stereo = np.stack([part, part])
        if kind.startswith("s16"):
            stereo = (stereo * 32767).astype(np.int16)
        samples = stereo if kind.endswith("p") else np.ascontiguousarray(stereo.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, kind, "stereo")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLES, first + start, Fraction(1, SAMPLES)
        film.mux(stream.encode(frame))
    film.mux(stream.encode(None))


def facts(path: Path) -> Facts:
    """What there is to know of a film."""
    with av.open(str(path), "r") as film:
        video = film.streams.video[0]
        found: dict[int, list[tuple[bytes, Fraction, Fraction]]] = {stream.index: [] for stream in film.streams}
        for packet in film.demux():
            if packet.size and packet.pts is not None:
                base = Fraction(packet.time_base)
                found[packet.stream_index].append((bytes(packet), packet.pts * base, (packet.duration or 0) * base))
        return Facts(
            tuple((stream.type, tuple(found[stream.index])) for stream in film.streams),
            tuple(sorted(time for _, time, _ in found[video.index])),
            Fraction(film.duration or 0, av.time_base),
            dict(film.metadata),
            [
                (one["metadata"].get("title", ""), one["start"] * base, one["end"] * base)
                for one in film.chapters()
                for base in [one["time_base"] or Fraction(1)]
            ],
            (video.width, video.height),
            Fraction(video.sample_aspect_ratio or 1),
            video.codec_context.name,
        )


def decoded(path: Path) -> list[Pixels]:
    """All frames, uint8 (H, W, 3) each, as they are stored."""
    with av.open(str(path), "r") as film:
        return [cast(Pixels, frame.to_ndarray(format="rgb24")) for frame in film.decode(video=0)]
