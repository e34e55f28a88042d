"""Which files are films, and what they are written with: containers, encoders, and their quality."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from ugatit_cli.errors import UsageError, install_line
from ugatit_cli.remote.urls import Place

Codec = Literal["auto", "h264", "hevc", "vp9", "av1"]

SUFFIXES: Final = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".wmv", ".flv"}
    | {".ogv", ".mxf"}
)
"""What films are called: by their names alone they are told from pictures."""

CONTAINERS: Final[Mapping[str, str]] = {
    ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm",
}  # fmt: skip
"""Suffixes of results, and libavformat's names of their containers."""

ANY: Final = ".mkv"
"""The container that takes most kinds of sound and subtitles."""

QUALITY: Final = 75
"""When nobody says otherwise: hardly to be told from lossless."""


@dataclass(frozen=True)
class FilmOptions:
    """What users may ask for.

    Attributes:
        codec: `auto`: h264 where the container takes it.
        steady: against flicker: how much of the last frame stays where the film hardly changes, 0 to below 1.
    """

    codec: Codec = "auto"
    steady: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.steady < 1:
            raise UsageError(f"--steady {self.steady:g}", "It is at least 0 and less than 1; 0.8 is much.")


def is_film(path: Place | None) -> bool:
    """Whether a file is called like a film."""
    return path is not None and path.suffix.lower() in SUFFIXES


def result_suffix(source: Place) -> str:
    """The suffix of a film's result: its own where that can be written."""
    return source.suffix if source.suffix.lower() in CONTAINERS else ANY


@dataclass(frozen=True)
class Encoder:
    """One that is installed.

    Attributes:
        codec: what users call its codec.
        name: what libavcodec calls it.
        options: what it takes beside its quality.
        lossy: its constant rate factor for the qualities 0 and 100.
        even: whether the sides of its pictures must be even.
    """

    codec: Codec
    name: str
    lossy: tuple[float, float]
    even: bool = True
    options: Mapping[str, str] = field(default_factory=dict)

    def settings(self, quality: int | None) -> dict[str, str]:
        """The encoder's own options for a quality from 1 to 100."""
        worst, best = self.lossy
        factor = worst + (best - worst) * (quality or QUALITY) / 100
        return {"crf": f"{factor:.0f}", **self.options}


# At 75: x264's 18, x265's 21, libvpx's 25 and SVT-AV1's 26, which look alike; each has its own scale.
ENCODERS: Final = (
    Encoder("h264", "libx264", (48, 8)),
    Encoder("hevc", "libx265", (51, 11), options={"x265-params": "log-level=none"}),
    Encoder("vp9", "libvpx-vp9", (61, 13), even=False, options={"row-mt": "1", "deadline": "good", "cpu-used": "4"}),
    Encoder("av1", "libsvtav1", (62, 14)),
)


def require_av() -> None:
    """PyAV, which reads and writes films, is a UsageError where it isn't installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        raise UsageError("films need PyAV, which isn't installed", install_line("video")) from None
    os.environ.setdefault("SVT_LOG", "1")  # or it would talk of itself on stderr


def encoder_for(output: Place, codec: Codec = "auto") -> Encoder:
    """What a result is encoded with.

    Raises:
        UsageError: no such encoder is installed, or the container doesn't take it.
    """
    require_av()
    suffix = output.suffix.lower()
    if suffix not in CONTAINERS:
        raise UsageError(
            f"{output}: films can't be written as {suffix}", f"They are written as {', '.join(sorted(CONTAINERS))}."
        )
    taken = [one for one in _installed() if one.name in taken_by(CONTAINERS[suffix])]
    wanted = [one for one in taken if codec in ("auto", one.codec)]
    if not wanted:
        choices = ", ".join(one.codec for one in taken) or "none"
        raise UsageError(f"--codec {codec}: can't be written as {suffix} here", f"For {suffix} there are: {choices}.")
    return wanted[0]


@functools.cache
def _installed() -> tuple[Encoder, ...]:
    import av

    return tuple(one for one in ENCODERS if one.name in av.codecs_available)


@functools.cache
def taken_by(container: str) -> frozenset[str]:
    """Encoders and decoders whose codecs a container takes."""
    import av

    with av.open(io.BytesIO(), "w", format=container) as output:
        # libavformat counts these in for .mov, too, and then refuses to write them.
        return frozenset(output.supported_codecs) - ({"libvpx-vp9", "libsvtav1"} if container == "mov" else set())
