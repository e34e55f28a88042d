"""Pictures as people have them: read as upright sRGB frames with their alpha apart.

Nothing here changes a global of Pillow, so many threads may read at once.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, UnidentifiedImageError

from ugatit_cli.errors import PictureError, UgatitError, install_line, plain_reason

with contextlib.suppress(ImportError):
    from pillow_heif import register_heif_opener

    register_heif_opener()

MAX_PIXELS: Final = 178_956_970
"""Pixels of all frames together. Pillow itself refuses a larger picture, so a higher limit is for frames."""

SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif"}
    | {".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".jp2", ".j2k", ".avif", ".heic", ".heif"}
    | {".hif"}
)
"""What a scan of a folder picks up; HEIC always, so that it is reported where it can't be read."""

ANIMATED: Final = frozenset({"GIF", "WEBP", "PNG", "AVIF"})
"""Formats whose further frames are one animation."""

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MAGIC: Final = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
_HEIC_BRANDS: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@dataclass(frozen=True)
class Frame:
    """One upright sRGB picture: mode RGB, and its opacity, mode L, of the same size; None when fully opaque."""

    rgb: Image.Image
    alpha: Image.Image | None


@dataclass(frozen=True)
class Picture:
    """A still picture, or an animation whose frames all cover the full canvas.

    Attributes:
        format: Pillow's name of the source's format.
        durations: milliseconds per frame; empty for a still picture.
        loop: how often an animation plays, 0 for ever; None when once or not stated.
        dpi: resolution as the source states it.
        had_profile: the source had an ICC profile, so results say that they are sRGB.
    """

    frames: tuple[Frame, ...]
    format: str
    durations: tuple[int, ...] = ()
    loop: int | None = None
    dpi: tuple[float, float] | None = None
    had_profile: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.frames[0].rgb.size

    @property
    def animated(self) -> bool:
        """Whether there is more than one frame."""
        return len(self.frames) > 1


def read_picture(
    source: Path | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS, first_only: bool = False
) -> Picture:
    """A file or its content as a picture; `name` replaces the path in messages.

    Args:
        max_pixels: how many the frames that are read may have together.
        first_only: leave an animation's further frames unread, uncounted and unchecked.

    Raises:
        PictureError: it can't be read, or is too large.
    """
    label = name or (str(source) if isinstance(source, Path) else "picture")
    try:
        stream = io.BufferedReader(cast(Any, io.BytesIO(source))) if isinstance(source, bytes) else _open(source)
    except (OSError, ValueError) as error:
        raise PictureError(f"{label}: {plain_reason(error)}", "Check the path and its permissions.") from error
    with stream, _reasons(label, stream), Image.open(stream) as image:
        return _picture(image, label, max_pixels, first_only)


def from_pil(image: Image.Image) -> Picture:
    """The frame that a Pillow image is at, normalised as if it had been read; `image` stays as it is."""
    with _reasons("picture", None):
        _check_size(image.size, 1, "picture", MAX_PIXELS)
        return _assemble(image, (_frame(image),), ())


def _open(path: Path) -> io.BufferedReader:
    if path.is_dir():  # Windows would say that permission is denied
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a picture")
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
        raise OSError(errno.EINVAL, "is a pipe or a device, not a file")
    return path.open("rb")


@contextlib.contextmanager
def _reasons(label: str, stream: io.BufferedReader | None) -> Iterator[None]:
    """Decoders raise nearly everything on broken files; all of it becomes `PictureError`."""
    head = b""
    try:
        head = stream.peek(32)[:32] if stream else b""
        yield
    except UgatitError:
        raise
    except Exception as error:
        raise _reason(error, label, head) from error


def _reason(error: Exception, label: str, head: bytes) -> PictureError:
    text = plain_reason(error)
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        pixels = re.search(r"\d+", text)
        return _bomb(label, int(pixels[0]) if pixels else MAX_PIXELS, "")
    if isinstance(error, UnidentifiedImageError):
        return _unknown(label, head)
    if isinstance(error, MemoryError):
        return PictureError(f"{label}: not enough memory to decode it", "Shrink the picture first.")
    hint = "Copy or download the file again."
    ran_out = isinstance(error, EOFError | IndexError | struct.error)  # of bytes, that is, in Pillow's plugins
    if ran_out or re.search("truncated|unexpected end", text, re.IGNORECASE):
        return PictureError(f"{label}: the file is truncated", hint)
    return PictureError(f"{label}: the file is damaged ({text})", hint)


def _unknown(label: str, head: bytes) -> PictureError:
    if not head:
        return PictureError(f"{label}: the file is empty", "Copy it again from where it came from.")
    suffix = Path(label).suffix.lower()
    if head.startswith(_MAGIC):
        return PictureError(f"{label}: the file is damaged (its header)", "Copy or download the file again.")
    hint = "Convert it to PNG or JPEG first."
    if suffix in {".heic", ".heif", ".hif"} or (head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS):
        hint = f"HEIC needs: {install_line('heic')}"
    elif suffix == ".svg":
        hint = "An SVG is a drawing: render it to PNG first."
    return PictureError(f"{label}: not a picture, or a format that can't be read here", hint)


def _check_size(size: tuple[int, int], frames: int, label: str, limit: int) -> None:
    if not all(size) or frames < 1:
        raise PictureError(f"{label}: has no pixels ({size[0]} x {size[1]})", "Export it again.")
    if size[0] * size[1] * frames > limit:
        shape = f"{size[0]} x {size[1]}" + (f", {frames} frames" if frames > 1 else "")
        raise _bomb(label, size[0] * size[1] * frames, f" ({shape})")


def _bomb(label: str, pixels: int, shape: str) -> PictureError:
    message = f"{label}: {pixels / 1e6:.1f} megapixels{shape}, which looks like a decompression bomb"
    return PictureError(message, "If it is meant to be that large, split or shrink it first.")


def _picture(image: Image.Image, label: str, max_pixels: int, first_only: bool) -> Picture:
    if image.format == "EPS":  # decoding one would run Ghostscript, a program of its own, on foreign code
        raise PictureError(f"{label}: an EPS is a drawing, not a picture", "Render it to PNG first.")
    wanted = _frames_of(image, first_only)
    _check_size(image.size, len(wanted), label, max_pixels)
    size, frames, durations = None, [], []
    for index in wanted:
        image.seek(index)
        frame = _frame(image)
        if size and frame.rgb.size != size:
            # Pillow grows the canvas where a later frame of a broken GIF sticks out of it; browsers clip.
            frame = Frame(frame.rgb.crop((0, 0, *size)), frame.alpha and frame.alpha.crop((0, 0, *size)))
        frames.append(frame)
        size = frames[0].rgb.size
        durations.append(round(image.info.get("duration") or 0) or 100)  # 100 ms is what browsers take
    return _assemble(image, tuple(frames), tuple(durations) if len(frames) > 1 else ())


def _frames_of(image: Image.Image, first_only: bool) -> range:
    """Pages, thumbnails and layers are not frames, nor is an APNG's picture for old viewers."""
    if image.format not in ANIMATED or not getattr(image, "is_animated", False):
        return range(1)
    first = int(bool(getattr(image, "default_image", False)))
    # To count a GIF's frames takes reading all of it.
    return range(first, first + 1 if first_only else getattr(image, "n_frames", 1))


def _assemble(image: Image.Image, frames: tuple[Frame, ...], durations: tuple[int, ...]) -> Picture:
    kind, loop = image.format or "PNG", image.info.get("loop") if durations else None
    if loop == 1 and kind != "GIF":  # "play once", which a GIF says by having no loop
        loop = None
    profile = bool(image.info.get("icc_profile"))
    return Picture(frames, kind, durations, loop, _dpi(image.info.get("dpi")), profile)


def _dpi(value: object) -> tuple[float, float] | None:
    with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
        x, y = (float(side) for side in cast(Any, value))
        if 1 <= x <= 65535 and 1 <= y <= 65535:
            return x, y
    return None


def _frame(image: Image.Image) -> Frame:
    image.load()
    turn = _TURNS.get(_orientation(image))
    eight = _eight_bit(image)
    colour, alpha = _split(eight if turn is None else eight.transpose(turn))
    rgb = _to_srgb(colour, image.info.get("icc_profile"))
    rgb.info = {}  # or Pillow's writers would take the source's profile and timing from there
    opaque = alpha is None or alpha.getextrema() == (255, 255)
    return Frame(rgb, None if opaque else alpha)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # foreign EXIF breaks in many ways, and none of them makes the picture unreadable
        return 1


def _eight_bit(image: Image.Image) -> Image.Image:
    """Greys of 16 or 32 bits as L, or LA where one grey stands for transparent."""
    if image.mode not in {"I", "F"} and not image.mode.startswith("I;"):
        return image
    values = np.asarray(image)
    grey = Image.fromarray(_float_grey(values) if image.mode == "F" else _integer_grey(values))
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return grey
    return Image.merge("LA", (grey, Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))))


def _integer_grey(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if values.dtype.itemsize > 2 and values.max() <= 255:
        return np.asarray(np.clip(values, 0, 255), np.uint8)
    table = np.round(np.arange(65536) / 257).astype(np.uint8)
    return np.asarray(table[np.clip(values, 0, 65535)])


def _float_grey(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    finite = np.nan_to_num(values, posinf=np.inf, neginf=-np.inf)
    if finite.min() >= 0 and finite.max() <= 1:
        finite = finite * 255
    return np.asarray(np.round(np.clip(finite, 0, 255)), np.uint8)


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours in a mode that a profile may apply to (L, RGB, CMYK, LAB), and the alpha."""
    if image.mode in {"CMYK", "LAB"}:
        return image, None
    if not image.has_transparency_data or image.mode in {"HSV", "YCbCr", "RGBX"}:
        return image.convert("L" if image.mode in {"1", "L"} else "RGB"), None
    grey = image.mode in {"1", "L", "LA", "La"}
    straight = image.convert("LA" if grey else "RGBA")
    return straight.convert("L" if grey else "RGB"), straight.getchannel("A")


def _to_srgb(colour: Image.Image, profile: bytes | None) -> Image.Image:
    if profile:
        # A broken profile, or one for other data than these, is as good as none.
        with contextlib.suppress(ImageCms.PyCMSError, OSError, TypeError, ValueError):
            own, srgb = (ImageCms.ImageCmsProfile(io.BytesIO(one)) for one in (profile, srgb_profile()))
            grey_on_rgb = colour.mode == "L" and own.profile.xcolor_space.strip() == "RGB"
            data = colour.convert("RGB") if grey_on_rgb else colour
            perceptual = ImageCms.Intent.PERCEPTUAL
            return cast(Image.Image, ImageCms.profileToProfile(data, own, srgb, perceptual, outputMode="RGB"))
    return colour.convert("RGB")


@functools.cache
def srgb_profile() -> bytes:
    """An ICC profile of sRGB, the same bytes in every run."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Its creation date would make every run's files differ.
    return data[:24] + bytes.fromhex("07d000010001000000000000") + data[36:]


def composite(frame: Frame, background: tuple[int, int, int]) -> Image.Image:
    """The frame over a colour, mode RGB; an opaque frame's own `rgb`."""
    if frame.alpha is None:
        return frame.rgb
    return Image.composite(frame.rgb, Image.new("RGB", frame.rgb.size, background), frame.alpha)


def restore_alpha(translated: Image.Image, alpha: Image.Image | None, background: tuple[int, int, int]) -> Frame:
    """Undoes blending over `background`, so that the result composited over it is `translated` again."""
    if alpha is None:
        return Frame(translated, None)
    result = np.array(translated)
    opacity = np.asarray(alpha)
    ground = np.array(background, np.float32)
    for top in range(0, len(result), 256):  # in strips: float32 needs four times the memory
        strip, a = result[top : top + 256], opacity[top : top + 256, :, None].astype(np.float32) / 255
        blended = strip.astype(np.float32) - (1 - a) * ground
        colour = np.divide(blended, a, out=np.broadcast_to(ground, strip.shape).copy(), where=a > 0)
        strip[:] = np.clip(np.round(colour), 0, 255)
    return Frame(Image.fromarray(result), alpha)
