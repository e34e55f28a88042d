"""Films as they come: upright sRGB frames with their times, one after the other, and all packets that are copied."""

from __future__ import annotations

import contextlib
import shlex
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from PIL import Image

from ugatit_cli.errors import PictureError, plain_reason
from ugatit_cli.files import open_file
from ugatit_cli.pictures.bounds import MAX_PIXELS, check_pixels
from ugatit_cli.pictures.geometry import WHITE, Colour
from ugatit_cli.pictures.reading import Frame, composite

# Playlists would have other files opened, or servers.
_SAFELY: Final = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg,mxf",
}
SCALING: Final = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""How colours at half the resolution become whole ones, and the other way round."""

_UNKNOWN: Final = 2  # what libavutil calls a colour space, primaries, ... that nothing is said of
_HD: Final = 720  # lines from which players take colours that nothing is said of for those of BT.709
_HDR: Final = frozenset({ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67})
_RATE: Final = Fraction(25)
_MISSING: Final = 0.5  # seconds by which streams may end before their container says,
_ROUNDING: Final = 0.01  # or where the last packet is a part
_BACK: Final = 1.0  # seconds by which times fall where they begin anew; by less where a packet is out of its place
# The upper left of a display matrix: where x goes to (x, y), where y does.
_TURNS: Final = {
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
_ACROSS: Final = frozenset(
    {Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270, Image.Transpose.TRANSPOSE, Image.Transpose.TRANSVERSE}
)


@dataclass(frozen=True)
class Shot:
    """A frame of a film: when it is shown, and for how long, in the film's time base."""

    frame: Frame
    pts: int
    duration: int


@dataclass(frozen=True)
class Survey:
    """What all packets of a film tell before any is decoded.

    Attributes:
        frames: how many packets its pictures have.
        seconds: when the last of all streams ends.
    """

    frames: int
    seconds: float


@contextlib.contextmanager
def open_film(path: Path, *, max_pixels: int | None = MAX_PIXELS, background: Colour = WHITE) -> Iterator[Film]:
    """A film to read a single time.

    Args:
        max_pixels: how many a frame may have; None: any number.
        background: RGB colour put behind transparent pixels.

    Raises:
        PictureError: it can't be read, or has no moving pictures.
    """
    with _opened(path) as container, reported(path):
        yield Film(path, container, max_pixels, background)


@contextlib.contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turns what libav doesn't like about a film into a PictureError."""
    try:
        yield
    except av.error.FFmpegError as error:
        reason = (error.strerror or plain_reason(error)).lower()
        raise PictureError(
            f"{path}: can't be read as a film ({reason})", "It may be damaged: get it again."
        ) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    try:
        open_file(path).close()
    except OSError as error:
        raise PictureError(f"{path}: {plain_reason(error)}") from None
    with reported(path):
        # With the protocol, or a colon in a name would end one.
        container = av.open(f"file:{path}", container_options=_SAFELY, metadata_errors="surrogateescape")
    with container:
        yield container


def survey(path: Path) -> Survey:
    """Looks at a film's packets without decoding them, at the speed of the disk.

    Raises:
        PictureError: it can't be read, is cut off, or its times begin anew in the middle.
    """
    frames, seconds, whole = 0, 0.0, True
    with _opened(path) as container, reported(path):
        index, start = _pictures(path, container).index, (container.start_time or 0) / av.time_base
        stated, latest = (container.duration or 0) / av.time_base, dict[int, float]()
        for packet in container.demux():
            _check_time(path, packet, latest)
            if packet.pts is not None:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                seconds = max(seconds, end - start)
            frames += packet.stream_index == index and packet.size > 0
            whole = not packet.is_corrupt if packet.size else whole  # the last ones only say that it is over
    if stated - seconds > (_MISSING + stated / 100 if whole else _ROUNDING):
        after = f" after {seconds:.1f} of {stated:.1f} seconds"
        change = f"ffmpeg -i {shlex.quote(path.name)} -c copy mended{path.suffix}"
        hint = f"Get it again. What there is of it can be mended: {change}"
        raise PictureError(f"{path}: is cut off{after}", hint)
    return Survey(frames, seconds)


def _check_time(path: Path, packet: Packet[Any], latest: dict[int, float]) -> None:
    """It is a PictureError if a packet is to be decoded long before the last of its stream, as in joined files."""
    if packet.dts is None:
        return
    time = float(packet.dts * packet.time_base)
    if time < latest.get(packet.stream_index, time) - _BACK:
        change = f"ffmpeg -fflags +genpts -i {shlex.quote(path.name)} -c copy mended.mkv"
        hint = f"Files that were joined have that. Give them one time: {change}"
        raise PictureError(f"{path}: its times begin anew in the middle", hint)
    latest[packet.stream_index] = time


def _pictures(path: Path, container: InputContainer) -> VideoStream:
    """The stream that is translated: not the picture on the cover."""
    moving = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if not moving:
        raise PictureError(f"{path}: has no moving pictures")
    best = container.streams.best("video")
    found = best if isinstance(best, VideoStream) and best in moving else moving[0]
    if found.codec_context is None:
        raise PictureError(f"{path}: there is no decoder for its pictures")
    return found


class Film:
    """An open film.

    Attributes:
        stream: its pictures.
        others: streams whose packets are copied: sound, subtitles, attachments.
        packets: theirs, as `shots` comes to them; who writes takes them away.
        start: seconds, taken off all times where a film begins later than at 0.
        notes: what its owner should know, in the end.
    """

    def __init__(self, path: Path, container: InputContainer, max_pixels: int | None, background: Colour) -> None:
        self.path, self.container, self._background = path, container, background
        self.stream = _pictures(path, container)
        self.stream.thread_type = "AUTO"
        self.others = [one for one in container.streams if one.type in ("audio", "subtitle", "attachment")]
        self.packets: deque[Packet[Stream]] = deque()
        self.start = max(Fraction(0), Fraction(container.start_time or 0, av.time_base))
        self.notes: list[str] = self._left_out()
        self._scaler = VideoReformatter()  # which for HDR makes a table of all colours, and keeps it
        self._turn: Image.Transpose | None = None
        self._damaged = 0
        self._size = (self.stream.width, self.stream.height)
        check_pixels(str(path), self._size, 1, max_pixels)

    @property
    def rate(self) -> Fraction:
        """Frames per second, on average."""
        return self.stream.average_rate or self.stream.guessed_rate or _RATE

    @property
    def time_base(self) -> Fraction:
        """Seconds of a tick."""
        return self.stream.time_base or 1 / self.rate

    @property
    def pixel_aspect(self) -> Fraction:
        """A pixel's width by its height, of upright frames; known with the first one."""
        aspect = self.stream.sample_aspect_ratio or Fraction(1)
        return 1 / aspect if self._turn in _ACROSS else aspect

    def since_start(self, ticks: int, time_base: Fraction) -> int:
        """A time of the film as one of the result."""
        return ticks - round(self.start / time_base)

    def shots(self) -> Iterator[Shot]:
        """Its frames in the order in which they are shown; what can't be decoded is passed over, as players do.

        Raises:
            PictureError: there is none.
        """
        last: tuple[VideoFrame, int] | None = None
        for frame in self._frames():
            if last is None:
                self._turn = self._turned(frame)
                self._tell_kind(frame)
            pts = self._pts(frame, last)
            if last is not None:
                yield Shot(self._upright(last[0]), last[1], pts - last[1])
            last = frame, pts
        if last is None:
            raise PictureError(f"{self.path}: none of its frames can be decoded", "It may be damaged: get it again.")
        yield Shot(self._upright(last[0]), last[1], self._rest(*last))
        if self._damaged:
            self.notes.append(f"{self._damaged} damaged part{'s' * (self._damaged > 1)} passed over, as players do")

    def _frames(self) -> Iterator[VideoFrame]:
        for packet in self.container.demux([self.stream, *(one for one in self.others if one.type != "attachment")]):
            if packet.stream_index == self.stream.index:
                yield from self._decoded(packet)
            elif packet.size or packet.pts is not None:
                self.packets.append(packet)

    def _decoded(self, packet: Packet[Any]) -> list[VideoFrame]:
        if not packet.size and (packet.pts, packet.dts) != (None, None):
            return []  # the same picture again; without a time, the end
        try:
            return list(packet.decode())
        except (av.error.InvalidDataError, av.error.UnknownError):
            self._damaged += 1
            return []

    @property
    def _step(self) -> int:
        return max(1, round(1 / self.rate / self.time_base))

    def _pts(self, frame: VideoFrame, last: tuple[VideoFrame, int] | None) -> int:
        """When a frame is shown: later than the last one, or no encoder would take it."""
        if last is None:
            return 0 if frame.pts is None else self.since_start(frame.pts, self.time_base)
        if frame.pts is None:
            return last[1] + (last[0].duration or self._step)
        return max(last[1] + 1, self.since_start(frame.pts, self.time_base))

    def _rest(self, frame: VideoFrame, pts: int) -> int:
        """How long the last frame is shown; what it says itself may be true of its packet, in another order."""
        if self.stream.duration:
            end = self.since_start((self.stream.start_time or 0) + self.stream.duration, self.time_base)
            if 0 < end - pts <= 10 * self._step:
                return end - pts
        return frame.duration or self._step

    def _turned(self, frame: VideoFrame) -> Image.Transpose | None:
        """How a camera that was held so has to be turned."""
        if "DISPLAYMATRIX" not in {one.type.name for one in frame.side_data}:  # type: ignore[attr-defined]
            return None
        matrix = np.frombuffer(bytes(frame.side_data["DISPLAYMATRIX"]), np.int32)  # type: ignore[typeddict-item]
        corner = tuple(round(value / 65536) for value in matrix[[0, 1, 3, 4]].tolist())
        if corner not in _TURNS and corner != (1, 0, 0, 1):
            self.notes.append("it is shown at an angle, which is not kept")
        return _TURNS.get(corner)

    def _tell_kind(self, frame: VideoFrame) -> None:
        if frame.color_trc in _HDR:
            self.notes.append("HDR becomes SDR")
        if _has_alpha(frame):
            self.notes.append("films have no transparency, so the background shows")
        if frame.interlaced_frame:
            self.notes.append("it is interlaced, which models don't know; deinterlaced, it would look better")

    def _upright(self, frame: VideoFrame) -> Frame:
        """What the network and people see."""
        if frame.colorspace == _UNKNOWN and not frame.format.is_rgb:
            frame.colorspace = Colorspace.ITU709 if self._size[1] >= _HD else Colorspace.ITU601
        to: dict[str, Any] = {"width": self._size[0], "height": self._size[1], "interpolation": SCALING}
        if frame.color_trc in _HDR:
            to |= {"dst_color_trc": ColorTrc.BT709, "dst_color_primaries": ColorPrimaries.BT709}
        shown = self._scaler.reformat(frame, format="rgba" if _has_alpha(frame) else "rgb24", **to)
        image = Image.fromarray(np.ascontiguousarray(shown.to_ndarray()))
        if image.mode == "RGBA":
            image = composite(Frame(image.convert("RGB"), image.getchannel("A")), self._background)
        return Frame(image if self._turn is None else image.transpose(self._turn), None)

    def _left_out(self) -> list[str]:
        others = [one for one in self.container.streams.video if one is not self.stream]
        names = [f"{len(others)} other video stream{'s' * (len(others) > 1)}"] if others else []
        data = [one.name or "unknown" for one in self.container.streams.data if one.name != "bin_data"]
        names += [f"data ({', '.join(data)})"] if data else []
        return [f"left out: {', '.join(names)}"] if names else []


def _has_alpha(frame: VideoFrame) -> bool:
    return any(component.is_alpha for component in frame.format.components)
