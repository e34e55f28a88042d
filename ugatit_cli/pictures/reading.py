"""Pictures as people have them: read as upright sRGB frames with their alpha apart.

Nothing here changes a global of Pillow, so many threads may read at once.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms, UnidentifiedImageError

from ugatit_cli.errors import PictureError, UgatitError, plain_reason
from ugatit_cli.files import open_file
from ugatit_cli.pictures import jpeg, kinds, levels, metadata, png, primaries, tiff
from ugatit_cli.pictures.bounds import MAX_PIXELS, ROOM, check_pixels
from ugatit_cli.pictures.metadata import Metadata

with contextlib.suppress(ImportError):
    from pillow_heif import register_heif_opener

    register_heif_opener()

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
_XMP: Final = ("xmp", "XML:com.adobe.xmp")
_STRIP: Final = 1 << 20
_ONE_PICTURE: Final = ANIMATED | {"MPO", "PSD"}
"""Formats whose further frames are the same picture in other forms."""


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
        deep: the source has more than 8 bits a channel; frames have 8.
        metadata: what the file says of it, if that is to be kept.
        notes: what its owner should know of how it was read.
    """

    frames: Sequence[Frame]
    format: str
    durations: tuple[int, ...] = ()
    loop: int | None = None
    dpi: tuple[float, float] | None = None
    had_profile: bool = False
    deep: bool = False
    metadata: Metadata | None = None
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.frames[0].rgb.size

    @property
    def animated(self) -> bool:
        """Whether there is more than one frame."""
        return len(self.frames) > 1


def read_picture(
    source: Path | bytes, *, name: str | None = None, max_pixels: int | None = MAX_PIXELS, first_only: bool = False
) -> Picture:
    """A file or its content as a picture, see `open_picture`.

    Raises:
        PictureError: it can't be read, or is too large.
    """
    with open_picture(source, name=name, max_pixels=max_pixels, first_only=first_only) as opened:
        frames = tuple(opened.frames())
        return replace(opened.picture, frames=frames)


@contextlib.contextmanager
def open_picture(
    source: Path | bytes,
    *,
    name: str | None = None,
    max_pixels: int | None = MAX_PIXELS,
    first_only: bool = False,
    keep_metadata: bool = False,
) -> Iterator[Opened]:
    """A file or its content, to decode its frames one at a time; meanwhile it has its part of `bounds.ROOM`.

    Args:
        name: replaces the path in messages.
        max_pixels: how many the frames that are read may have together; None: any number.
        first_only: leave an animation's further frames unread, uncounted and unchecked.
        keep_metadata: read what the file says of the picture, too.

    Raises:
        PictureError: it can't be read, or is too large.
    """
    file = _File(name or (str(source) if isinstance(source, Path) else "picture"))
    try:
        stream = io.BufferedReader(cast(Any, io.BytesIO(source))) if isinstance(source, bytes) else open_file(source)
    except OSError as error:
        raise PictureError(f"{file.label}: {plain_reason(error)}", "Check the path and its permissions.") from error
    with stream:
        with _reasons(file):
            file.head, file.stream = stream.peek(32)[:32], stream
            if file.head.startswith(png.MAGIC):
                file.stream, file.profile = png.lightened(stream)
                file.profile = primaries.of_code_points(png.code_points(stream), file.notes) or file.profile
            image = _opened(file, max_pixels)
            kinds.check_kind(image, file.label, file.head, file.stream)
            file.notes += _pages_note(image)
            file.deep = levels.is_deep(image, file.head)
            file.opaque = image.format == "PSD" and not kinds.is_transparent_psd(file.stream)
            if keep_metadata:
                file.metadata = metadata.read(image, stream)
                file.notes += file.metadata.notes
            opened = Opened(image, file, _frames_of(image, first_only))
            opened.check(max_pixels)
        with image, ROOM.taken(opened.area * (2 if len(opened.wanted) > 1 else 1)):
            yield opened


def _opened(file: _File, max_pixels: int | None) -> Image.Image:
    if file.head.startswith(jpeg.MAGIC):
        return _opened_jpeg(file)
    if not file.head.startswith(tiff.MAGIC):
        image = _identified(file)
        if image.format == "CUR":  # whose transparency Pillow doesn't read
            file.stream = _as_icon(file.stream)
            file.head = file.stream.read(32)
            image = _identified(file)
        return image
    if not file.head.startswith(tiff.ALIEN):
        with contextlib.suppress(UnidentifiedImageError):
            image = _identified(file)
            kinds.check_kind(image, file.label, file.head, file.stream)
            if not tiff.is_misread(image):
                return image
    if not tiff.can_decode():
        raise UnidentifiedImageError("no packages for it")
    return tiff.decode(file.stream, lambda size: check_pixels(file.label, size, 1, max_pixels), file.notes)


def _opened_jpeg(file: _File) -> Image.Image:
    given = file.stream
    with contextlib.suppress(UnidentifiedImageError):
        return _identified(file)
    file.stream = jpeg.lightened(given)
    with contextlib.suppress(UnidentifiedImageError):
        return _identified(file)
    file.stream = jpeg.lightened(given, exif=False)
    image = _identified(file)
    file.notes.append("its EXIF is damaged: read as it lies")
    return image


def _as_icon(cursor: IO[bytes]) -> IO[bytes]:
    """The same pictures as an icon, which has their depth where a cursor has its hot spot."""
    cursor.seek(0)
    data = bytearray(cursor.read())
    data[2] = 1
    for entry in range(6, 6 + 16 * data[4], 16):
        (start,) = struct.unpack_from("<I", data, entry + 12)
        bits = 32 if data[start : start + 4] == png.MAGIC[:4] else struct.unpack_from("<H", data, start + 14)[0]
        struct.pack_into("<HH", data, entry + 4, 1, bits)
    return io.BytesIO(data)


def _identified(file: _File) -> Image.Image:
    """As `Image.open`, whose limit of pixels is one for all threads; ours is the caller's."""
    for register in (Image.preinit, Image.init):  # the common formats first
        register()
        for factory, accept in list(Image.OPEN.values()):
            with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
                fits = accept is None or accept(file.head[:16])
                if fits and not isinstance(fits, str):  # but the reason why it can't be read here
                    file.stream.seek(0)
                    return factory(file.stream, "")
    raise UnidentifiedImageError("no format that is known")


@dataclass
class Opened:
    """A picture whose frames are decoded as they are taken.

    Attributes:
        wanted: numbers of the frames that are decoded.
        durations: milliseconds of each frame that has been taken.
    """

    image: Image.Image
    file: _File
    wanted: range
    durations: list[int] = field(default_factory=list)

    @property
    def area(self) -> int:
        """Pixels of a frame."""
        return self.image.width * self.image.height

    @property
    def picture(self) -> Picture:
        """What is known of it, without its frames; complete when all of them have been taken."""
        return _assemble(self.image, self.file, (), tuple(self.durations) if len(self.durations) > 1 else ())

    def check(self, max_pixels: int | None, size: tuple[int, int] | None = None, where: str = "") -> None:
        """A PictureError if it has no pixels, or all frames, of this size if it isn't their own, too many."""
        size = size or self.image.size
        if not all(size) or not self.wanted:
            raise PictureError(f"{self.file.label}: has no pixels ({size[0]} x {size[1]})", "Export it again.")
        check_pixels(self.file.label, size, len(self.wanted), max_pixels, where)

    def frames(self) -> Iterator[Frame]:
        """Each frame, a single time.

        Raises:
            PictureError: it can't be decoded.
        """
        size, moving = None, self.image.format == "PNG" and getattr(self.image, "is_animated", False)
        canvas = png.Canvas(self.image.size) if moving else None
        for index in self.wanted:
            with _reasons(self.file):
                if self.image.format in ANIMATED:
                    self.image.seek(index)
                shown = canvas.show(self.image) if canvas else self._loaded()
                frame = _frame(shown, self.image, self.file, last=index == self.wanted[-1])
                # 100 ms is what browsers take
                self.durations.append(round(self.image.info.get("duration") or 0) or 100)
            size = size or frame.rgb.size
            if frame.rgb.size != size:
                # Pillow grows the canvas where a later frame of a broken GIF sticks out of it; browsers clip.
                frame = Frame(frame.rgb.crop((0, 0, *size)), frame.alpha and frame.alpha.crop((0, 0, *size)))
            yield frame

    def _loaded(self) -> Image.Image:
        try:
            self.image.load()
        except OSError:
            whole = jpeg.completed(self.file.stream) if self.file.head.startswith(jpeg.MAGIC) else None
            if whole is None:
                raise
            self.image = whole
        return self.image


def from_pil(image: Image.Image) -> Picture:
    """The frame that a Pillow image is at, normalised as if it had been read; `image` stays as it is."""
    file = _File("picture")
    with _reasons(file):
        Opened(image, file, range(1)).check(None)
        return _assemble(image, file, (_frame(image, image, file),), ())


@dataclass
class _File:
    """What is known of a file beside what Pillow makes of it: `head` is how it begins, `opaque` counts for PSD."""

    label: str
    head: bytes = b""
    stream: IO[bytes] = field(default_factory=io.BytesIO)
    profile: bytes | None = None
    opaque: bool = False
    deep: bool = False
    metadata: Metadata | None = None
    notes: list[str] = field(default_factory=list)


@contextlib.contextmanager
def _reasons(file: _File) -> Iterator[None]:
    """Decoders raise nearly everything on broken files; all of it becomes `PictureError`."""
    try:
        yield
    except UgatitError:
        raise
    except Exception as error:
        raise _reason(error, file) from error


def _reason(error: Exception, file: _File) -> PictureError:
    text, label = plain_reason(error), file.label
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        pixels = re.search(r"\d+", text)
        size = f"{int(pixels[0]) / 1e6:.1f} megapixels, " if pixels else ""
        return PictureError(f"{label}: {size}more than can be read in this format", "Convert it to PNG or JPEG.")
    if isinstance(error, UnidentifiedImageError):
        return kinds.unidentified(label, file.head, file.stream)
    if isinstance(error, MemoryError):
        return PictureError(f"{label}: not enough memory to decode it", "Shrink the picture first.")
    if known := kinds.undecodable(label, file.head, file.stream) or kinds.unsupported_detail(label, text):
        return known
    hint = "Copy or download the file again."
    ran_out = isinstance(error, EOFError | IndexError | struct.error)  # of bytes, that is, in Pillow's plugins
    if ran_out or re.search("truncated|unexpected end", text, re.IGNORECASE):
        return PictureError(f"{label}: the file is truncated", hint)
    said = f" ({text})" if isinstance(error, OSError | ValueError | SyntaxError) else ""  # not what Python says
    return PictureError(f"{label}: the file is damaged{said}", hint)


def _frames_of(image: Image.Image, first_only: bool) -> range:
    """Pages, thumbnails and layers are not frames, nor is an APNG's picture for old viewers."""
    if image.format not in ANIMATED or not getattr(image, "is_animated", False):
        return range(1)
    first = int(bool(getattr(image, "default_image", False)))
    # To count a GIF's frames takes reading all of it.
    return range(first, first + 1 if first_only else getattr(image, "n_frames", 1))


def _pages_note(image: Image.Image) -> list[str]:
    """Goes to a TIFF's first page that isn't a small form of another one; what to say where there are several."""
    if hasattr(image, "tag_v2"):
        pages = tiff.go_to_picture(image)
        image.info.pop("xmp", None)  # or Pillow would turn it as that says
    else:
        pages = 1 if image.format in _ONE_PICTURE else getattr(image, "n_frames", 1)
    return [tiff.several(pages)] if pages > 1 else []


def _assemble(image: Image.Image, file: _File, frames: tuple[Frame, ...], durations: tuple[int, ...]) -> Picture:
    kind, loop = image.format or "PNG", image.info.get("loop") if durations else None
    if loop == 1 and kind != "GIF":  # "play once", which a GIF says by having no loop
        loop = None
    if kind == "AVIF" and durations:  # Pillow doesn't say, and browsers repeat those that don't say either
        loop = 0
    profile = bool(file.profile or image.info.get("icc_profile"))
    known = loop, _dpi(image.info.get("dpi")), profile, file.deep, file.metadata, tuple(file.notes)
    return Picture(frames, kind, durations, *known)


def _dpi(value: object) -> tuple[float, float] | None:
    with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
        x, y = (float(side) for side in cast(Any, value))
        if 1 <= x <= 65535 and 1 <= y <= 65535:
            return x, y
    return None


def _frame(shown: Image.Image, image: Image.Image, file: _File, *, last: bool = False) -> Frame:
    """What is `shown` of an open `image`: mostly the same. The `last` is used up, so that no third copy is kept."""
    shown.load()
    turn = _TURNS.get(_orientation(image))
    upright = _with_stated_transparency(levels.eight_bit(shown, file.notes), file)
    if turn is not None:
        upright = upright.transpose(turn)
    if last and upright is not shown:
        shown.close()
    colour, alpha = _split(upright)
    if last and colour is not shown:
        shown.close()
    del upright
    if image.format == "JPEG" and colour.mode == "CMYK" and "adobe" not in image.info:
        colour = ImageChops.invert(colour)  # Pillow takes the inks of all for inverted, as Adobe's are
    profile = file.profile or image.info.get("icc_profile") or primaries.of_gamma(image.info)
    rgb = _to_srgb(colour, profile)
    rgb.info = {}  # or Pillow's writers would take the source's profile and timing from there
    return Frame(rgb, _used_alpha(rgb, alpha, image, file))


def _orientation(image: Image.Image) -> int:
    """As EXIF says; Pillow would ask XMP, too, where editors leave what is no longer true."""
    try:
        exif = image.getexif()
        if any(key in image.info for key in _XMP):
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))
        return int(exif.get(0x0112, 1))
    except Exception:  # foreign EXIF breaks in many ways, and none of them makes the picture unreadable
        return 1


def _with_stated_transparency(image: Image.Image, file: _File) -> Image.Image:
    """With the colour that stands for transparent as Pillow's pixels are, not as a PNG's of 2, 4 or 16 bits."""
    clear = image.info.get("transparency")
    if clear is None or isinstance(clear, bytes) or file.head[12:16] != b"IHDR":
        return image
    depth = file.head[24]
    if image.mode == "L" and depth in {2, 4} and clear < 2**depth:
        clear *= 255 // (2**depth - 1)
    elif image.mode == "RGB" and depth == 16:
        clear = tuple(value >> 8 for value in clear)
    else:
        return image
    image = image.copy()
    image.info["transparency"] = clear
    return image


def _used_alpha(rgb: Image.Image, alpha: Image.Image | None, image: Image.Image, file: _File) -> Image.Image | None:
    """The opacity, unless the file leaves its channel empty, or says that it is something else."""
    if alpha is None or (extrema := alpha.getextrema()) == (255, 255):
        return None
    if image.format == "TGA" and file.head and not file.head[17] & 15:
        if extrema != (0, 0):
            file.notes.append("its fourth channel is not transparency, its header says: read as opaque")
        return None
    if image.format == "PSD":
        return None if file.opaque else alpha
    still = not getattr(image, "is_animated", False)
    if extrema == (0, 0) and still and any(low < high for low, high in cast(Any, rgb.getextrema())):
        file.notes.append("its transparency is empty, all of it: read as opaque")
        return None
    return alpha


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours in a mode that a profile may apply to (L, RGB, CMYK, LAB), and the alpha."""
    if image.mode in {"CMYK", "LAB"}:
        return image, None
    if image.mode == "P" and image.palette is None:  # which Pillow forgets in an ICNS
        image = image.convert("RGBA")
    if not image.has_transparency_data or image.mode in {"HSV", "YCbCr", "RGBX"}:
        return image.convert("L" if image.mode in {"1", "L"} else "RGB"), None
    grey = image.mode in {"1", "L", "LA", "La"}
    straight = image if image.mode in {"LA", "RGBA"} else image.convert("LA" if grey else "RGBA")
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
    return colour if colour.mode == "RGB" else colour.convert("RGB")


@functools.cache
def srgb_profile() -> bytes:
    """An ICC profile of sRGB, the same bytes in every run."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Its creation date would make every run's files differ.
    return data[:24] + bytes.fromhex("07d000010001000000000000") + data[36:]


# Of a picture whose background is in question: sides that are looked at, and what nobody sees in a colour of 8 bits.
LOOKED_AT, LIKE_IT = 256, 20


def composite(frame: Frame, background: tuple[int, int, int]) -> Image.Image:
    """The frame over a colour, mode RGB; an opaque frame's own `rgb`."""
    if frame.alpha is None:
        return frame.rgb
    ground = Image.new("RGB", frame.rgb.size, background)
    ground.paste(frame.rgb, mask=frame.alpha)
    return ground


def is_blank(frame: Frame, background: tuple[int, int, int]) -> bool:
    """Whether what is visible of a picture with transparency can't be told from a background: white on white."""
    if frame.alpha is None:
        return False
    size = min(frame.rgb.width, LOOKED_AT), min(frame.rgb.height, LOOKED_AT)
    pixels, alpha = (np.asarray(one.resize(size, Image.Resampling.NEAREST)) for one in (frame.rgb, frame.alpha))
    visible = pixels[alpha > 127].astype(np.int16)
    return bool(len(visible)) and bool((np.abs(visible - background).max(1) < LIKE_IT).mean() > 0.98)


def is_plain(pixels: NDArray[np.uint8]) -> bool:
    """Whether (H, W, 3) are all one colour, as far as anybody sees."""
    some = pixels[:: max(1, len(pixels) // LOOKED_AT), :: max(1, pixels.shape[1] // LOOKED_AT)]
    return all(bool((np.ptp(one, (0, 1)) < LIKE_IT).all()) for one in (some, pixels))


def restore_alpha(translated: Image.Image, alpha: Image.Image | None, background: tuple[int, int, int]) -> Frame:
    """Undoes blending over `background`, so that the result composited over it is `translated`, which is changed."""
    if alpha is None:
        return Frame(translated, None)
    ground = np.array(background, np.float32)
    for box in strips(translated.size):  # float32 needs four times the memory
        strip = np.asarray(translated.crop(box), np.float32)
        a = np.asarray(alpha.crop(box), np.float32)[:, :, None] / 255
        blended = strip - (1 - a) * ground
        colour = np.divide(blended, a, out=np.broadcast_to(ground, strip.shape).copy(), where=a > 0)
        translated.paste(Image.fromarray(np.clip(np.round(colour), 0, 255).astype(np.uint8)), box)
    return Frame(translated, alpha)


def strips(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom) of whole rows that cover a picture, of about a million pixels each."""
    width, height = size
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)
