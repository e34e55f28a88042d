"""Drawings of all packages as square RGB pictures on white."""

from __future__ import annotations

import importlib.util
from typing import Final

from PIL import Image

from ugatit_cli.errors import UsageError, install_line
from ugatit_cli.pictures.reading import composite, read_picture

_WHITE: Final = (255, 255, 255)


def check_renderer() -> None:
    """Whether `draw_svg` will work.

    Raises:
        UsageError: resvg-py isn't installed.
    """
    if importlib.util.find_spec("resvg_py") is None:
        raise UsageError("drawing SVG files needs resvg-py, which isn't installed", install_line("data"))


def draw_svg(svg: bytes, size: int, name: str) -> Image.Image:
    """A square SVG drawing, rendered at `size` x `size` pixels.

    Raises:
        PictureError: the renderer's result can't be read; `name` is what messages call it.
    """
    import resvg_py

    # Emoji have no text, and looking for the machine's fonts takes longer than drawing.
    png = resvg_py.svg_to_bytes(svg_string=svg.decode(), width=size, height=size, skip_system_fonts=True)
    return _on_white(bytes(png), name)


def draw_webp(webp: bytes, size: int, name: str) -> Image.Image:
    """A picture with transparency, at `size` x `size` pixels.

    Raises:
        PictureError: it can't be read; `name` is what messages call it.
    """
    image = square(_on_white(webp, name))
    return image if image.width == size else image.resize((size, size), Image.Resampling.LANCZOS)


def square(image: Image.Image) -> Image.Image:
    """An RGB picture on white made square, with its drawing as large as it was.

    Four of the Fluent 3D pictures have eight empty rows on top of an ordinary picture (their other skin tones show
    it); these are cut off. Anything else that isn't square is centred on a larger white square.
    """
    width, height = image.size
    if height > width:
        above = image.crop((0, 0, width, height - width))
        if above.getextrema() == ((255, 255),) * 3:
            return image.crop((0, height - width, width, height))
    side = max(width, height)
    if width == height:
        return image
    result = Image.new("RGB", (side, side), _WHITE)
    result.paste(image, ((side - width) // 2, (side - height) // 2))
    return result


def _on_white(data: bytes, name: str) -> Image.Image:
    return composite(read_picture(data, name=name, first_only=True).frames[0], _WHITE)
