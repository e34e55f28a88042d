"""Results as people expect them: in the source's format, with its timing, resolution and transparency.

Nothing here changes a global of Pillow, so many threads may encode and write at once.
"""

from __future__ import annotations

import io
import itertools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image, ImageFile

from ugatit_cli.errors import Change, OutputError, PictureError, UsageError, plain_reason
from ugatit_cli.pictures.metadata import Metadata
from ugatit_cli.pictures.reading import ANIMATED, Frame, Picture, composite, srgb_profile
from ugatit_cli.remote.urls import Place

_ALPHA: Final = frozenset({"PNG", "WEBP", "GIF", "TIFF", "AVIF", "TGA", "JPEG2000"})
_PROFILE: Final = frozenset({"PNG", "JPEG", "WEBP", "TIFF", "AVIF"})
_DPI: Final = frozenset({"PNG", "JPEG", "TIFF", "BMP"})
_WANTED: Final = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "pdf": "PDF"}
_QUALITY: Final = {"JPEG": 95, "WEBP": 90, "AVIF": 85, "PDF": 95}
_MAX_SIDE: Final = {"WEBP": 16383, "JPEG": 65500, "GIF": 65535, "TGA": 65535, "AVIF": 65536, "PDF": 65500}
_MAX_OPTIMIZED: Final = 50_000_000  # pixels: libjpeg keeps six bytes of each meanwhile
_SUFFIX_FOR: Final = {
    "PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif", "AVIF": ".avif", "TIFF": ".tif",
    "BMP": ".bmp", "PPM": ".ppm", "TGA": ".tga", "JPEG2000": ".jp2",
}  # fmt: skip

# Z_RLE keeps Pillow's row filters and skips the search for matches, which finds little in painted pictures.
# 256x256, mean of 6, against Pillow's default of level 6: photos 101480 B in 4.5 ms (101708 B, 19.1 ms),
# flat colours 64853 B in 3.8 ms (61398 B, 9.2 ms). Level 1 alone: 118301 B, 7.9 ms and 72749 B, 4.7 ms.
_SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "PNG": {"compress_level": 1, "compress_type": zlib.Z_RLE},
    "JPEG": {"subsampling": 0},
    "WEBP": {"method": 4},
    "AVIF": {"subsampling": "4:4:4"},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "PDF": {"subsampling": 0, "creationDate": None, "modDate": None},  # the same pixels are the same file
}
# Of frames with many more colours than a palette has, it is chosen from 5 bits a channel: by all of them that takes
# several times as long, and isn't nearer to the frame.
_MANY: Final = 8
_COARSE: Final = [(level >> 3) * 255 // 31 for level in range(256)] * 3  # black and white stay
PAPER_WIDTH: Final = 6.3  # inches between the margins of a page of A4
_FEWEST_DPI: Final = 150
_PNG: Final = Change("format", "png")


@dataclass(frozen=True)
class Note:
    """What a result's owner should know.

    Attributes:
        text: what it is.
        hint: how to change it, in the words of the command line.
        change: the same for who has other words.
    """

    text: str
    hint: str
    change: Change

    def __str__(self) -> str:
        return f"{self.text}; {self.hint}"


def output_format(source_format: str, wanted: str) -> str:
    """Pillow's name of the format to write: `wanted` is same, png, jpg, webp, gif or pdf."""
    if wanted != "same":
        if wanted not in _WANTED:
            raise UsageError(f"no format {wanted!r}", "Use same, png, jpg, webp or gif.")
        return _WANTED[wanted]
    Image.init()  # which writers there are depends on how Pillow was built
    kept = "JPEG" if source_format == "MPO" else source_format  # what phones and cameras call .jpg
    return kept if kept in _SUFFIX_FOR and kept in Image.SAVE else "PNG"


def suffix_for(format: str) -> str:
    """The usual file suffix of a format, with its dot."""
    return _SUFFIX_FOR.get(format, f".{format.lower()}")


def format_of(path: Place) -> str:
    """Pillow's name of the format that a result of this name is written in; a UsageError if there is none."""
    format = Image.registered_extensions().get(path.suffix.lower(), "")
    if format == "PDF":
        return format
    if not format or output_format(format, "same") != ("JPEG" if format == "MPO" else format):
        suffixes = ", ".join(sorted(writable_suffixes()))
        raise UsageError(f"{path}: pictures can't be written as {path.suffix}", f"They are written as {suffixes}.")
    return output_format(format, "same")


def writable_suffixes() -> list[str]:
    """The usual suffixes of all formats that results can have, with their dots."""
    return [suffix for format, suffix in _SUFFIX_FOR.items() if output_format(format, "same") == format]


def result_suffix(source: Place, wanted: str) -> str:
    """The suffix of a result: `wanted` is as of `output_format`; what can't be written becomes .png."""
    return suffix_for(output_format(Image.registered_extensions().get(source.suffix.lower(), ""), wanted))


def lost_alpha(picture: Picture, format: str) -> tuple[Note, ...]:
    """What to say where the format has no place for the picture's transparency, going by its first frame."""
    kept = format in _ALPHA and (format != "GIF" or picture.format == "GIF")
    alpha = None if kept else picture.frames[0].alpha  # which may be made just for this, and is made once
    kind = suffix_for(format)[1:]
    if alpha is not None and format not in _ALPHA:
        return (Note(f"there is no transparency in {kind}, so the background shows", "--format png keeps it", _PNG),)
    if alpha is not None and any(alpha.histogram()[1:255]):
        text = f"there is no half transparency in {kind}, so soft edges are hard now"
        return (Note(text, "--format png keeps them", _PNG),)
    return ()


def lost_metadata(picture: Picture, format: str) -> tuple[str, ...]:
    """What to say where the format has no place for what is to be kept of what the source says of itself."""
    return picture.metadata.fitted(format)[1] if picture.metadata else ()


def encode(
    picture: Picture, format: str, *, quality: int | None = None, background: tuple[int, int, int] = (255, 255, 255)
) -> bytes:
    """The picture as a file's content.

    Args:
        format: Pillow's name of the format.
        quality: 1 to 100 for JPEG, WebP (100 is lossless), AVIF and PDF; other formats have none.
        background: RGB colour behind transparency in formats that have none.
    """
    kept = picture.metadata.fitted(format)[0] if picture.metadata else Metadata()
    options = _options(picture, format, quality) | kept.options(format)
    _check_writable(picture, format)
    alphas: list[bool] = []

    def made(index: int) -> Image.Image:
        frame = picture.frames[index]
        alphas.append(frame.alpha is not None)
        return _bands(frame, format, background)

    if picture.animated:
        options |= {"save_all": True} | _timing(picture, format)
    if format == "GIF":
        image, *options["append_images"] = _gif_frames(picture.frames, options)
    else:
        image = _Reel(made, len(picture.frames)) if picture.animated else made(0)
    if format == "PDF":
        options["resolution"] = max(_FEWEST_DPI, image.width / PAPER_WIDTH)
    try:
        data = _save(image, format, options)
        if format == "JPEG" and _fits_optimizer(data, image, options["quality"]):
            data = _save(image, format, options | {"optimize": True})
    except Exception as error:
        if isinstance(image, _Reel) and image.error is error:  # which is not about the format
            raise
        raise _unwritable(format, plain_reason(error)) from error
    if format == "WEBP" and data[12:16] == b"VP8X" and any(alphas):
        # libwebp cuts frames to what shows, sees only opaque ones, and calls the canvas around them opaque.
        return data[:20] + bytes([data[20] | 0x10]) + data[21:]
    return kept.added(data, format)


class _Reel(Image.Image):
    """An animation whose frames are made one at a time, as Pillow's writers come to them."""

    is_animated = True

    def __init__(self, make: Callable[[int], Image.Image], frames: int) -> None:
        super().__init__()
        self._make, self._at, self.n_frames = make, -1, frames
        self.error: Exception | None = None
        self._first = make(0)  # which writers come back to
        self.seek(0)

    def seek(self, frame: int) -> None:
        if frame >= self.n_frames:
            raise EOFError
        if frame == self._at:
            return
        try:
            image = self._make(frame) if frame else self._first
        except Exception as error:
            self.error = error
            raise
        self.im, self._mode, self._size, self._at = image.im, image.mode, image.size, frame

    def tell(self) -> int:
        return self._at


def _save(image: Image.Image, format: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _fits_optimizer(plain: bytes, image: Image.Image, quality: int) -> bool:
    """Whether it fits the buffer that Pillow guesses; where it does not, libjpeg gives up and prints why."""
    area = image.width * image.height
    guess = area * (2 if quality >= 95 else 1)
    return area <= _MAX_OPTIMIZED and len(plain) <= max(guess, ImageFile.MAXBLOCK)


def _unwritable(format: str, reason: str) -> OutputError:
    other = "webp" if format == "PNG" else "png"
    return OutputError(
        f"can't be written as {format}: {reason}", f"Use --format {other}.", change=Change("format", other)
    )


def _check_writable(picture: Picture, format: str) -> None:
    if picture.animated and format not in ANIMATED:
        message = f"the animation has {len(picture.frames)} frames; {suffix_for(format)[1:]} holds one"
        raise PictureError(message, "Use --format webp or png.", change=Change("format", "webp"))
    side = _MAX_SIDE.get(format)
    if side and max(picture.size) > side:  # asked beforehand because libjpeg prints its complaint
        width, height = picture.size
        reason = f"it holds at most {side} pixels a side, the picture has {width} x {height}"
        raise _unwritable(format, reason)


def _options(picture: Picture, format: str, quality: int | None) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if format in _QUALITY:
        options["quality"] = _QUALITY[format] if quality is None else quality
        if not 1 <= options["quality"] <= 100:
            raise UsageError(f"quality {quality} is out of range", "Use a number from 1 to 100.")
    options |= _SETTINGS.get(format, {})
    if format == "WEBP" and quality == 100:
        options |= {"lossless": True, "quality": 75}  # there it means effort, and 100 takes many times longer
    if format in _DPI and picture.dpi:
        options["dpi"] = picture.dpi
    if format in _PROFILE and picture.had_profile:
        options["icc_profile"] = srgb_profile()
    return options


def _bands(frame: Frame, format: str, background: tuple[int, int, int]) -> Image.Image:
    opaque = frame.alpha is None or format not in _ALPHA
    image = composite(frame, background) if opaque else frame.rgb
    if image.info or not opaque:
        image = image.copy()
        image.info = {}
    if frame.alpha is not None and not opaque:
        image.putalpha(frame.alpha)
    return image


def _timing(picture: Picture, format: str) -> dict[str, Any]:
    durations = list(picture.durations) or [100] * len(picture.frames)
    if format == "GIF":  # counts hundredths of a second, and Pillow would cut rather than round
        durations = [max(10, round(duration / 10) * 10) for duration in durations]
    if format == "PNG":  # writes a fraction of 16 bits each
        durations = [duration if duration <= 65535 else round(duration, -3) for duration in durations]
    if format == "AVIF":
        return {"duration": durations}
    loop = picture.loop if format == "GIF" else picture.loop if picture.loop is not None else 1
    return {"duration": durations} | ({} if loop is None else {"loop": loop})


def _gif_frames(frames: Sequence[Frame], options: dict[str, Any]) -> list[Image.Image]:
    options["optimize"] = False  # it would renumber the colours
    images = []
    for frame in frames:
        if frame.alpha is not None:
            return _clear_gif_frames(frames, options)
        images.append(_quantised(frame.rgb, 256, dither=True))
    return images


def _clear_gif_frames(frames: Sequence[Frame], options: dict[str, Any]) -> list[Image.Image]:
    options |= {"transparency": 255, "disposal": 2}
    images, palettes = [], []
    for frame in frames:
        image = _quantised(frame.rgb, 255, dither=frame.alpha is None)
        palettes.append(bytes(image.getpalette() or []).ljust(765, b"\0")[:765])
        if frame.alpha is not None:
            image.paste(255, mask=frame.alpha.point([255] * 128 + [0] * 128))
        images.append(image)
    key = _unused(palettes)
    for image, palette in zip(images, palettes, strict=True):
        image.putpalette(palette + key)
    return images


def _unused(palettes: list[bytes]) -> bytes:
    """A colour no frame has: Pillow takes the transparent entry's colour at a frame's edge for background."""
    used = {palette[i : i + 3] for palette in palettes for i in range(0, len(palette), 3)}
    every = map(bytes, itertools.product(range(256), repeat=3))
    return next(colour for colour in every if colour not in used)


def _quantised(rgb: Image.Image, colours: int, *, dither: bool) -> Image.Image:
    coarse = rgb.point(_COARSE)
    many = coarse.getcolors(_MANY * colours) is None
    plain = (coarse if many else rgb).quantize(colours, Image.Quantize.MEDIANCUT)
    if many or (dither and rgb.getcolors(colours) is None):  # few are exact already; dithering only adds noise
        how = Image.Dither.FLOYDSTEINBERG if dither else Image.Dither.NONE
        plain = rgb.quantize(palette=plain, dither=how)
    plain.info = {}
    return plain
