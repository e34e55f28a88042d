"""TIFF: what a file is, which of its pages is the picture, and by tifffile the kinds that Pillow can't decode."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Callable, Mapping
from typing import IO, Any, Final, cast

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from ugatit_cli.pictures import levels
from ugatit_cli.pictures.bounds import ROOM

MAGIC: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0")
ALIEN: Final = b"MM\0+"
"""How those of them begin whose header Pillow misreads."""
PACKAGES: Final = ("tifffile", "imagecodecs")

_SUBFILE_TYPE, _WIDTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _PLANAR = 254, 256, 258, 259, 262, 274, 284
_SUB_FILES, _EXTRA, _FORM, _PROFILE, _DNG_VERSION = 330, 338, 339, 34675, 50706
_REDUCED, _MASK, _SEPARATE, _SIGNED, _FLOAT, _ASSOCIATED, _STRAIGHT = 1, 4, 2, 2, 3, 1, 2
_SENSOR: Final = frozenset({32803, 34892})
_COLOURS: Final = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "LAB", 9: "LAB", 10: "LAB"}
_FORMS: Final = {2: "signed ", 3: "float ", 5: "complex ", 6: "complex "}
_MODES: Final = {0: "L", 1: "L", 2: "RGB", 5: "CMYK"}
_WEBP: Final = 50001
_YCBCR, _SUBSAMPLING = 6, 530
_BYTES_A_PIXEL: Final = 3
_MOST_PAGES, _MOST_CHANNELS, _MOST_BYTES = 1000, 8, 2 << 30
_MOST_PACKED: Final = 8  # times: of bits in bytes
_MOST_COMPRESSED: Final = 4000  # deflate and LZW come to less

for _name in ("PIL", "tifffile"):  # which would say on stderr what they find odd
    logging.getLogger(_name).addHandler(logging.NullHandler())


def read_tags(stream: IO[bytes]) -> Mapping[int, Any]:
    """The tags of the first page; raises nearly anything on a damaged file."""
    stream.seek(0)
    header = stream.read(16)
    tags = TiffImagePlugin.ImageFileDirectory_v2(header if b"+" in header[2:4] else header[:8])
    stream.seek(tags.next)
    tags.load(stream)
    return cast(Mapping[int, Any], tags)


def is_raw(tags: Mapping[int, Any]) -> bool:
    """Whether it is what a camera's sensor saw, with a small picture in front for viewers."""
    preview = bool(tags.get(_SUBFILE_TYPE, 0) & _REDUCED) and _SUB_FILES in tags
    return _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in _SENSOR or preview


def describe(tags: Mapping[int, Any]) -> str:
    """Depth and colours: 16-bit LAB TIFF. Empty if the tags are no picture's."""
    if not tags.get(_WIDTH):
        return ""
    bits, forms, extra = tags.get(_BITS, (1,)), tags.get(_FORM, (1,)), tags.get(_EXTRA, ())
    photometric, compression = tags.get(_PHOTOMETRIC, 0), tags.get(_COMPRESSION, 1)
    colours = _COLOURS.get(photometric, f"photometric {photometric}")
    kind = f"{bits[0]}-bit {_FORMS.get(forms[0], '')}{colours} TIFF"
    if extra:
        kind += " with alpha" if len(extra) == 1 and extra[0] else " with more channels"
    known = compression in TiffImagePlugin.COMPRESSION_INFO
    return kind if known else f"{kind} (compressed by method {compression})"


def is_misread(image: Image.Image) -> bool:
    """Whether Pillow opens it but gets its values wrong, or can't decode it in the end."""
    tags = cast(Any, image).tag_v2
    bits, raw, form = tags.get(_BITS, (1,))[0], tags.get(_COMPRESSION, 1) == 1, tags.get(_FORM, (1,))[0]
    planes = raw and tags.get(_PLANAR) == _SEPARATE and (bits == 16 or {*tags.get(_EXTRA, ())} - {_STRAIGHT})
    swapped = not raw and tags.prefix == b"MM" and bits >= 16 and form in {_SIGNED, _FLOAT}
    halved = raw and tags.get(_PHOTOMETRIC) == _YCBCR and tags.get(_SUBSAMPLING, (2, 2)) != (1, 1)
    return bool(planes) or swapped or halved or tags.get(_COMPRESSION) == _WEBP


def go_to_picture(image: Image.Image) -> int:
    """Goes to the first page that isn't a small form or a mask of another; how many such there are."""
    pages = []
    for index in range(_MOST_PAGES):
        try:
            image.seek(index)
        except EOFError:
            break
        except Exception:  # a kind of page that can't be read; a page it is
            pages.append(index)
        else:
            if not cast(Any, image).tag_v2.get(_SUBFILE_TYPE, 0) & (_REDUCED | _MASK):
                pages.append(index)
    image.seek(pages[0] if pages else 0)
    return len(pages)


def can_decode() -> bool:
    """Whether the packages are there that `decode` needs."""
    return all(importlib.util.find_spec(name) for name in PACKAGES)


def decode(stream: IO[bytes], check: Callable[[tuple[int, int]], None], notes: list[str]) -> Image.Image:
    """The picture by tifffile, with 8 bits a channel.

    Args:
        check: raises if it is too large.
        notes: gets a line where the range of its values is a guess, or where there are more pages.

    Raises:
        UnidentifiedImageError: a kind that can't be read this way, either. Damage raises nearly anything.
    """
    import tifffile

    stream.seek(0)
    with tifffile.TiffFile(cast(Any, stream)) as file:
        every = cast(list[Any], file.pages[:_MOST_PAGES])
        pages = [page for page in every if not page.subfiletype & (_REDUCED | _MASK)]
        page = (pages or every)[0]
        if (
            int(page.photometric) not in _MODES
            or page.axes not in {"YX", "YXS", "SYX"}
            or page.dtype.kind not in "biuf"
        ):
            raise UnidentifiedImageError
        if page.samplesperpixel > _MOST_CHANNELS or page.ndim not in {2, 3} or page.nbytes > _MOST_BYTES:
            raise UnidentifiedImageError
        if is_raw({tag.code: tag.value for tag in page.tags}):
            raise UnidentifiedImageError
        check((page.imagewidth, page.imagelength))
        if page.nbytes > sum(page.databytecounts) * (_MOST_PACKED if page.compression == 1 else _MOST_COMPRESSED):
            raise EOFError("truncated")
        with ROOM.taken(page.nbytes // _BYTES_A_PIXEL):
            image = _image(page, page.asarray(maxworkers=1), notes)
    if len(pages) > 1:
        notes.append(several(len(pages)))
    return image


def several(pages: int) -> str:
    """What to say of a file of several pages."""
    return f"{pages} pages; only one of them is read"


def _image(page: Any, values: levels.Values, notes: list[str]) -> Image.Image:
    photometric = int(page.photometric)
    mode = _MODES[photometric]
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    planes = np.moveaxis(values, 0, -1) if page.axes == "SYX" else np.atleast_3d(values)
    samples = levels.Samples(page.bitspersample, page.sampleformat == _SIGNED, photometric == 0)
    bands = len(mode)
    colours = levels.to_levels(planes[..., :bands], samples, notes)
    image = Image.merge(mode, [Image.fromarray(np.ascontiguousarray(colours[..., band])) for band in range(bands)])
    image = _with_alpha(image, page, planes[..., bands:])
    image.format = "TIFF"
    image.info["bit_depth"] = page.bitspersample
    with contextlib.suppress(ArithmeticError, LookupError, ValueError):
        image.info["dpi"] = page.get_resolution("INCH")
    image.info["icc_profile"] = page.iccprofile if image.mode != "RGBA" or mode != "CMYK" else None
    image.getexif()[_ORIENTATION] = page.tags.valueof(_ORIENTATION, 1)
    return image


def _with_alpha(image: Image.Image, page: Any, others: levels.Values) -> Image.Image:
    index = next((index for index, use in enumerate(page.extrasamples) if use), None)
    if index is None:
        return image
    alpha = Image.fromarray(levels.to_levels(others[..., index], levels.Samples(page.bitspersample), []))
    colours = image.convert("RGB") if image.mode == "CMYK" else image
    premultiplied = page.extrasamples[index] == _ASSOCIATED and image.mode != "CMYK"
    return Image.merge(colours.mode + ("a" if premultiplied else "A"), (*colours.split(), alpha))
