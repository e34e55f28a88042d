"""Films as they go: frames encoded with their times, and everything that is copied beside them."""

from __future__ import annotations

import contextlib
import math
import re
import shlex
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, cast

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream

from ugatit_cli.errors import OutputError
from ugatit_cli.files import unwritable
from ugatit_cli.films.codecs import ANY, CONTAINERS, Encoder, taken_by
from ugatit_cli.films.reading import SCALING, Film
from ugatit_cli.leftovers import discard, hidden
from ugatit_cli.outputs.base import FileOptions
from ugatit_cli.pictures.geometry import Pixels, Size

# Of a file, and of its pictures as they were encoded: not true of the result.
_STALE: Final = frozenset(
    {
        "major_brand",
        "minor_version",
        "compatible_brands",
        "encoder",
        "duration",
        "number_of_frames",
        "number_of_bytes",
    }
    | {"bps", "rotate"}
)
_PLACES: Final = re.compile("location|gps|geo|xyz", re.IGNORECASE)
_ENDS: Final[tuple[Literal["start"], Literal["end"]]] = ("start", "end")
_STEP: Final = Fraction(1, 1000)  # seconds that are different times in all containers
_PIXELS: Final = "yuv420p"  # what every player takes


class FilmWriter:
    """The result of a film, beside its place until it is whole; a context that leaves nothing of one that isn't.

    Attributes:
        notes: what could not be kept.
        size: width and height, once a frame is written.

    Raises:
        OutputError: it can't be written, or the container doesn't take the film's sound.
    """

    def __init__(self, path: Path, film: Film, encoder: Encoder, files: FileOptions) -> None:
        self.path, self._film, self._encoder = path, film, encoder
        self._with_places = files.keep_metadata
        self.notes: list[str] = []
        self.size: Size | None = None
        self._temporary = hidden(path)
        self._scaler = VideoReformatter()
        self._durations: dict[int, int] = {}
        self._decoded: dict[int, int] = {}
        self._first: tuple[int, int] | None = None
        self._end = 0
        self._finished = False
        kind = CONTAINERS[path.suffix.lower()]
        with self._reported():
            self._file = self._opened(kind)
            try:
                self._video = self._add_pictures(encoder.settings(files.quality))
                self._copies = {one.index: copy for one in film.others if (copy := self._add_copy(one))}
                self._add_facts()
            except BaseException:
                self._give_up()
                raise

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if not self._finished:
            self._give_up()

    def _opened(self, kind: str) -> OutputContainer:
        options = {"movflags": "+faststart"} if kind in ("mp4", "mov") else {}
        if options and self._film.time_base.numerator == 1:
            options["video_track_timescale"] = str(self._film.time_base.denominator)
        name = f"file:{self._temporary}"
        return av.open(name, "w", format=kind, container_options=options, metadata_errors="surrogateescape")

    def _add_pictures(self, options: dict[str, str]) -> VideoStream:
        film = self._film
        stream = cast(VideoStream, self._file.add_stream(self._encoder.name, rate=film.rate, options=options))
        context = stream.codec_context
        context.time_base = stream.time_base = film.time_base
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        if self._encoder.codec == "hevc" and self._file.format.name in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # the one of two that Apple's players take
        self._take_facts(film.stream, stream)
        return stream

    def _add_copy(self, source: Stream) -> Stream | None:
        try:
            stream = self._file.add_stream_from_template(source, opaque=True)
        except ValueError:
            name = source.codec_context.name if source.codec_context else source.name or "of an unknown kind"
            kind = {"audio": "sound", "subtitle": "subtitles", "attachment": "attachment"}[source.type]
            if source.type == "audio":
                error = f"its {kind} ({name}) can't be copied to {self.path.suffix}"
                raise OutputError(error, self._sound_hint(name)) from None
            more = f", {ANY} does" if name in taken_by(CONTAINERS[ANY]) else ""
            self.notes.append(f"{kind} ({name}) left out: {self.path.suffix} doesn't take them{more}")
            return None
        self._take_facts(source, stream)
        return stream

    def _sound_hint(self, name: str) -> str:
        if name in taken_by(CONTAINERS[ANY]):
            return f"Give the result a name that ends in {ANY}, which takes it."
        given = shlex.quote(self._film.path.name)
        change = f"ffmpeg -fflags +genpts -i {given} -c:v copy -c:a flac changed{ANY}"
        return f"Make it sound that {ANY} takes, without loss: {change}"

    def _add_facts(self) -> None:
        film = self._film
        self._file.metadata.update(self._kept(film.container.metadata))
        chapters = film.container.chapters()
        for chapter in chapters:
            base = chapter["time_base"] or Fraction(1)
            chapter["start"], chapter["end"] = (film.since_start(chapter[end], base) for end in _ENDS)
        self._file.set_chapters(chapters)

    def _take_facts(self, source: Stream, stream: Stream) -> None:
        """Language, title, and what a stream is for."""
        stream.metadata.update(self._kept(source.metadata))
        stream.disposition = source.disposition

    def _kept(self, metadata: dict[str, str]) -> dict[str, str]:
        """What is still true; where it was filmed only if somebody asks for that."""
        kept = {name: text for name, text in metadata.items() if name.lower().partition("-")[0] not in _STALE}
        return {name: text for name, text in kept.items() if self._with_places or not _PLACES.search(name)}

    def write(self, pixels: Pixels, pts: int, duration: int) -> None:
        """Encodes the next frame, and copies what the film has had meanwhile.

        Args:
            pixels: uint8 (H, W, 3), sRGB; all frames have the size of the first one.
            pts, duration: in the film's time base.
        """
        if self.size is None:
            self._begin((pixels.shape[1], pixels.shape[0]))
        frame = self._scaler.reformat(
            VideoFrame.from_ndarray(self._even(pixels), format="rgb24"),
            format=_PIXELS,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=SCALING,
        )
        frame.pts, frame.time_base = pts, self._film.time_base
        self._durations[pts] = duration
        self._end = pts + duration
        with self._reported():
            self._mux(self._video.encode(frame))
            self._copy()

    def _begin(self, size: Size) -> None:
        """With the size, which the first frame tells."""
        self.size = size
        context = self._video.codec_context
        context.width, context.height = (-(-side // 2) * 2 if self._encoder.even else side for side in size)
        self._set_aspect(self._film.pixel_aspect)
        if (context.width, context.height) != size:
            self.notes.append(
                f"{context.width}x{context.height} pixels rather than {size[0]}x{size[1]}: {self._encoder.codec} "
                "takes even sides, so those at the edge are there twice; --codec vp9 (all but .mov) takes odd ones"
            )
        with self._reported():
            self._file.start_encoding()  # opens the file

    def _set_aspect(self, aspect: Fraction) -> None:
        codec, kind = self._encoder.codec, self._file.format.name
        if aspect != 1:
            self._video.codec_context.sample_aspect_ratio = aspect
            if codec in ("vp9", "av1") and kind in ("matroska", "webm"):  # told by neither, as PyAV writes them
                shape = f"{aspect.numerator}:{aspect.denominator}"
                self.notes.append(f"pixels are square now, which were {shape}: {codec} in {self.path.suffix}")

    def _even(self, pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        more = height % 2 * self._encoder.even, width % 2 * self._encoder.even
        return np.pad(pixels, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge") if any(more) else pixels

    def _give_up(self) -> None:
        """Leaves nothing of it."""
        with contextlib.suppress(av.error.FFmpegError, ValueError):
            self._file.close()
        discard(self._temporary)

    def finish(self) -> None:
        """Writes the rest, and gives the result its name.

        Raises:
            OutputError: it can't be written.
        """
        with self._reported():
            packets = self._timed(self._video.encode(None))
            self._mux(packets[:-1])
            self._mux(self._ended(packets[-1:]))
            self._copy()
            self._file.close()
            self._temporary.replace(self.path)
            self._finished = True

    def _mux(self, packets: list[Packet[Any]]) -> None:
        for packet in packets:
            if self._first is None:
                self._first = packet.pts or 0, packet.dts or 0
            packet.duration = self._durations.pop(packet.pts or 0, packet.duration)
            self._file.mux_one(packet)

    def _timed(self, packets: list[Packet[Any]]) -> list[Packet[Any]]:
        """Of films shorter than its look-ahead, x265 tells any number as the time of decoding."""
        if self._first is None and self._encoder.codec == "hevc":
            earliest = min((packet.pts or 0 for packet in packets), default=0)
            for before, packet in enumerate(reversed(packets), 1):
                packet.dts = earliest - before
        return packets

    def _ended(self, last: list[Packet[Any]]) -> list[Packet[Any]]:
        """MP4 adds durations up as they are decoded, and what comes last there may not be what is shown last."""
        for packet in last:
            if self._first and packet.dts is not None and self._file.format.name in ("mp4", "mov"):
                pts, dts = self._first
                self._durations[packet.pts or 0] = max(1, self._end - pts - (packet.dts - dts))
        return last

    def _copy(self) -> None:
        while self._film.packets:
            packet = self._film.packets.popleft()
            if (stream := self._copies.get(packet.stream_index)) is None:
                continue
            for name in ("pts", "dts"):
                if (ticks := getattr(packet, name)) is not None:
                    setattr(packet, name, self._film.since_start(ticks, Fraction(packet.time_base)))
            self._put_in_order(packet)
            packet.stream = stream
            self._file.mux_one(packet)

    def _put_in_order(self, packet: Packet[Any]) -> None:
        """No container takes what is to be decoded before the last of its stream, as where parts of a film meet."""
        if packet.dts is None:
            return
        last = self._decoded.get(packet.stream_index, packet.dts)
        if packet.dts < last:
            packet.dts = last + math.ceil(_STEP / packet.time_base)
            packet.pts = max(packet.pts or 0, packet.dts)
        self._decoded[packet.stream_index] = packet.dts

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):
                raise unwritable(self.path, error) from error
            reason = (error.strerror or str(error)).lower()
            hint = "Another container (.mkv) or --codec may take it."
            raise OutputError(f"{self.path}: can't be written as a film ({reason})", hint) from error
        except OSError as error:
            raise unwritable(self.path, error) from error
