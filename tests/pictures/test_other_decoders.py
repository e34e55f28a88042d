"""Odd TIFF files of every depth, colour and layout against tifffile: equal within two levels, or refused by kind.

Other formats are compared with what was written byte by byte: test_odd_formats, test_animations, test_jpeg.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from ugatit_cli.errors import PictureError
from ugatit_cli.pictures import tiff
from ugatit_cli.pictures.reading import read_picture

Values = npt.NDArray[Any]

HEIGHT, WIDTH = 18, 23
Y, X = np.mgrid[:HEIGHT, :WIDTH]
COLOURS: Final = np.stack([X / (WIDTH - 1), Y / (HEIGHT - 1), X * Y % 7 / 6], -1)
GREYS: Final = COLOURS[..., 0] / 2 + COLOURS[..., 1] / 2
ALPHA: Final = np.clip((X + Y) % 9 / 7, 0, 1)
INKS: Final = np.concatenate([1 - COLOURS, (1 - COLOURS).min(-1, keepdims=True) / 2], -1)
PALETTE: Final = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype(np.uint16)
REFUSED: Final = ("LAB TIFF is not supported", "16-bit palette TIFF is not supported")


def stored(values: Values, kind: str) -> Values:
    """Numbers in [0, 1] over the whole range of a type."""
    if kind[0] == "f":
        return values.astype(kind)
    limits = np.iinfo(kind)
    return np.round(values * (float(limits.max) - limits.min) + limits.min).astype(kind)


def written(values: Values, *, planar: bool = False, **options: Any) -> bytes:
    buffer = io.BytesIO()
    layout: dict[str, Any] = {"planarconfig": "separate" if planar else "contig"} if values.ndim == 3 else {}
    tifffile.imwrite(buffer, np.moveaxis(values, -1, 0) if planar else values, metadata=None, **layout, **options)
    return buffer.getvalue()


def greys(order: str) -> Iterator[tuple[str, bytes]]:
    for compression in (None, "zlib", "lzw"):
        for kind in ("u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"):
            options: dict[str, Any] = {"byteorder": order, "compression": compression}
            yield f"grey {kind} {compression}", written(stored(GREYS, kind), photometric="minisblack", **options)
            if kind in {"u1", "u2", "u4", "f4"}:
                yield f"white {kind} {compression}", written(stored(GREYS, kind), photometric="miniswhite", **options)
    for bits in (1, 2, 4, 10, 12, 14):
        values = np.round(GREYS * (2**bits - 1)).astype("u1" if bits <= 8 else "u2")
        depth: dict[str, Any] = {} if bits == 1 else {"bitspersample": bits}
        for photometric in ("minisblack", "miniswhite"):
            data = written(
                values.astype(bool) if bits == 1 else values, photometric=photometric, byteorder=order, **depth
            )
            yield f"{photometric} of {bits} bits", data


def colours(order: str) -> Iterator[tuple[str, bytes]]:
    for compression, planar in ((None, False), (None, True), ("zlib", False), ("zlib", True)):
        options: dict[str, Any] = {"byteorder": order, "compression": compression, "planar": planar}
        name = f"{compression} {'planes' if planar else ''}"
        for kind in ("u1", "u2", "u4", "f2", "f4"):
            yield f"RGB {kind} {name}", written(stored(COLOURS, kind), photometric="rgb", **options)
            for use in ("unspecified", "assocalpha", "unassalpha"):
                shown = COLOURS * ALPHA[..., None] if use == "assocalpha" else COLOURS
                values = stored(np.dstack([shown, ALPHA]), kind)
                yield f"RGB {kind} {use} {name}", written(values, photometric="rgb", extrasamples=[use], **options)
        for kind in ("u1", "u2"):
            yield f"CMYK {kind} {name}", written(stored(INKS, kind), photometric="separated", **options)
            values = stored(np.dstack([INKS, ALPHA]), kind)
            yield (
                f"CMYKA {kind} {name}",
                written(values, photometric="separated", extrasamples=["unassalpha"], **options),
            )


def others(order: str) -> Iterator[tuple[str, bytes]]:
    for compression in (None, "zlib"):
        options: dict[str, Any] = {"byteorder": order, "compression": compression}
        for kind in ("u1", "u2"):
            for use in ("unspecified", "assocalpha", "unassalpha"):
                shown = GREYS * ALPHA if use == "assocalpha" else GREYS
                values = stored(np.dstack([shown, ALPHA]), kind)
                data = written(values, photometric="minisblack", extrasamples=[use], **options)
                yield f"grey {kind} {use} {compression}", data
            lab = stored(np.dstack([GREYS * 0.6 + 0.2, COLOURS[..., 1:] * 0.05]), kind)
            for photometric in ("cielab", "icclab"):
                yield f"{photometric} {kind} {compression}", written(lab, photometric=photometric, **options)
        yield (
            f"palette {compression}",
            written(stored(GREYS, "u1"), photometric="palette", colormap=PALETTE, **options),
        )
    wide = PALETTE.repeat(256, 1)
    yield "wide palette", written(stored(GREYS, "u2"), photometric="palette", colormap=wide, byteorder=order)
    for compression in ("packbits", "zstd", "lzma", "jpegxl", "jpeg2000", "lerc", "png"):
        for values, photometric in ((COLOURS, "rgb"), (GREYS, "minisblack")):
            data = written(stored(values, "u1"), photometric=photometric, compression=compression, byteorder=order)
            yield f"{photometric} {compression}", data
    for kind in ("u1", "u2", "f4"):
        values = stored(COLOURS, kind)
        layouts: tuple[dict[str, Any], ...] = ({"tile": (16, 16)}, {"rowsperstrip": 5}, {"bigtiff": True})
        for layout in (*layouts, {"compression": "zlib", "predictor": True}):
            yield f"RGB {kind} {layout}", written(values, photometric="rgb", byteorder=order, **layout)
            yield (
                f"grey {kind} {layout}",
                written(stored(GREYS, kind), photometric="minisblack", byteorder=order, **layout),
            )


def reference(data: bytes) -> tuple[Values, Values]:
    """RGB and opacity, as levels."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        values = np.moveaxis(page.asarray(), 0, -1) if page.axes == "SYX" else np.atleast_3d(page.asarray())
    opaque = np.full((HEIGHT, WIDTH), 255.0)
    photometric, uses = page.photometric.name, [use.name for use in page.extrasamples]
    if photometric == "PALETTE":
        return page.colormap[:, values[..., 0]].transpose(1, 2, 0) / 257, opaque
    if values.dtype.kind in "ui":
        values = (values.astype(float) + (values.dtype.kind == "i") * 2.0 ** (page.bitspersample - 1)) / (
            2.0**page.bitspersample - 1
        )
    if photometric == "CIELAB":
        return from_lab(
            values[..., 0] * 100, *(((values[..., 1:] * 255 + 128) % 256 - 128).transpose(2, 0, 1))
        ), opaque
    bands = {"RGB": 3, "SEPARATED": 4}.get(photometric, 1)
    shown = 1 - values[..., :1] if photometric == "MINISWHITE" else values[..., :bands].astype(float)
    if photometric == "SEPARATED":
        shown = (1 - shown[..., :3]) * (1 - shown[..., 3:])
    opacity = np.ones((HEIGHT, WIDTH)) if not uses or uses[0] == "UNSPECIFIED" else values[..., bands].astype(float)
    if uses == ["ASSOCALPHA"]:
        shown = np.divide(shown, opacity[..., None], out=np.zeros_like(shown), where=opacity[..., None] > 0)
    return np.clip(shown * 255, 0, 255) * np.ones(3), opacity * 255


def from_lab(lightness: Values, a: Values, b: Values) -> Values:
    """CIE L*a*b* of D50 as sRGB levels."""
    y = (lightness + 16) / 116
    tristimulus = np.stack([y + a / 500, y, y - b / 200], -1)
    tristimulus = np.where(tristimulus > 6 / 29, tristimulus**3, 3 * (6 / 29) ** 2 * (tristimulus - 4 / 29))
    to_linear = np.array([[3.13386, -1.61687, -0.49061], [-0.97877, 1.91614, 0.03345], [0.07195, -0.22899, 1.40524]])
    linear = np.clip(tristimulus * (0.9642, 1, 0.8249) @ to_linear.T, 0, 1)
    return np.asarray(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


def off(data: bytes) -> float:
    """How many levels the picture and the other decoder's are apart, at most."""
    (frame,) = read_picture(data).frames
    shown, opacity = reference(data)
    alpha = np.full(opacity.shape, 255.0) if frame.alpha is None else np.asarray(frame.alpha, float)
    # Where little is seen of a colour, 8 bits of it times its opacity don't tell it exactly.
    difference = np.abs(np.asarray(frame.rgb) - shown) * opacity[..., None] / 255
    return float(max(difference.max(), np.abs(alpha - opacity).max()))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("corpus", [greys, colours, others])
@pytest.mark.parametrize("packages", [tiff.PACKAGES, ("no_such_package",)], ids=["with tifffile", "without"])
def test_equal_or_refused(
    corpus: Any, order: str, packages: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff, "PACKAGES", packages)
    for name, data in corpus(order):
        try:
            assert off(data) <= 2, name
        except PictureError as refused:
            message, hint = refused.message, refused.hint
        else:
            continue
        assert message.endswith("is not supported"), name
        assert ("pip install tifffile" in hint) if len(packages) == 1 else message.endswith(REFUSED), name
