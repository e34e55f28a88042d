"""Sample grids: what the generators make of held-out pictures, for people who wonder whether training works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ugatit_cli.attention.maps import AttentionMap, Style, grid_of
from ugatit_cli.config import BaseConfig, Direction
from ugatit_cli.methods.base import OTHER
from ugatit_cli.methods.registry import method_of
from ugatit_cli.nn.generator import picture_styles
from ugatit_cli.nn.layers import Network, evaluating
from ugatit_cli.pictures.drawing import ARROW, BACKGROUND, HEADING, TITLE, Lettering
from ugatit_cli.pictures.geometry import Geometry

MIN_CELL: Final = 96
MAX_CELL: Final = 256
STYLES: Final = 4  # that are shown of a method that has them

_MARGIN: Final = 16
_GAP: Final = 6

Half = tuple[str, str, list[list[Image.Image]]]
"""Names of the domains that its pictures come from and are translated to, and the cells of its rows."""


def cell_side(image_size: int) -> int:
    """Side in pixels of a grid's cell: the training size, small ones a whole number of times as large."""
    return min(MAX_CELL, image_size * -(-MIN_CELL // image_size))


def draw_samples(
    translators: Mapping[str, Network],
    samples: tuple[Tensor, Tensor],
    config: BaseConfig,
    *,
    device: torch.device,
    watch: Callable[[Direction, Tensor], object] = lambda *_: None,
) -> Image.Image:
    """Draws a row for each picture: input, attention, translation, reconstruction, identity; or in several styles.

    Leaves the networks as they are: weights, buffers and modes; no random number is drawn. Pictures go through
    them one at a time.

    Args:
        translators: of all directions, on `device`.
        samples: of domains a and b, uint8 (N, 3, H, W) on the CPU that the networks can take; N may differ, and be 0
            for one of them.
        config: names the domains and says whether there is attention to show.
        watch: is told each translation, (1, 3, H, W) in [-1, 1].

    Returns:
        An RGB picture, those of domain a above those of domain b.
    """
    halves: list[Half] = []
    method = method_of(config)
    generators = {direction: method.translator(translators, direction) for direction in config.directions}
    with torch.no_grad(), evaluating(generators.values()):
        for direction, pictures in zip(generators, samples, strict=False):
            rows = [_row(generators, direction, picture, config, device, watch) for picture in pictures]
            if rows:
                halves.append((config.source(direction), config.target(direction), rows))
    return _draw(halves, _titles(config), cell_side(config.image_size))


def _row(
    generators: Mapping[Direction, Network],
    direction: Direction,
    picture: Tensor,
    config: BaseConfig,
    device: torch.device,
    watch: Callable[[Direction, Tensor], object],
) -> list[Image.Image]:
    """The cells of a picture, uint8 (3, H, W), in the order of `_titles`."""
    there, back = generators[direction], generators.get(OTHER[direction])
    side = cell_side(config.image_size)
    x = picture[None].to(device).float().div_(127.5).sub_(1)  # (1, 3, H, W) in [-1, 1]
    translated = there(x)
    watch(direction, translated.image)
    shown = _fitted(Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()), side)
    cells = [shown]
    if translated.heatmap is not None:
        cells.append(_attention(shown, translated.heatmap, translated.cam_logit, config))
    images = [translated.image]
    if size := config.style_size:
        images += [there(x, picture_styles(x, size, seed)).image for seed in range(1, STYLES)]
    elif back is not None:
        images += [back(translated.image).image, back(x).image]
    return cells + [_fitted(_image(y), side) for y in images]


def _image(tensor: Tensor) -> Image.Image:
    """(1, 3, H, W) in [-1, 1]; what is not a number becomes grey."""
    pixels = tensor[0].float().nan_to_num(0.0).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def _attention(shown: Image.Image, heatmap: Tensor, cam_logit: Tensor | None, config: BaseConfig) -> Image.Image:
    """(1, 1, h, w) over a picture, enlarged to the cell at once so that it is smooth there."""
    network = (4 * heatmap.shape[3], 4 * heatmap.shape[2])
    geometry = Geometry(scaled=network, network=network, output=shown.size)
    logits = None if cam_logit is None else (cam_logit[0, 0].item(), cam_logit[0, 1].item())
    values = heatmap[0, 0].float().cpu().numpy()
    heat = AttentionMap("generator", values, logits, grid_of(config, "generator"), geometry).over_picture()
    return Style().blended(shown, heat)


def _fitted(image: Image.Image, side: int) -> Image.Image:
    """As large as a square cell of `side` allows, its aspect kept."""
    factor = side / max(image.size)
    if factor == 1:
        return image
    width, height = (max(1, round(length * factor)) for length in image.size)
    crisp = factor.is_integer()  # enlarged like that, pixels stay squares and hide nothing
    return image.resize((width, height), Image.Resampling.NEAREST if crisp else Image.Resampling.LANCZOS)


# --- On paper


def _titles(config: BaseConfig) -> list[str]:
    """Column titles; `{}` are filled in with the domains of a half."""
    attention = ["attention"] if config.lacks("generator") is None else []
    others = ["back to {source}", "identity"] if config.ways == "both" else []
    if config.style_size:
        others = [f"style {number}" for number in range(2, STYLES + 1)]
    return ["input", *attention, ARROW + " {target}", *others]


def _draw(halves: list[Half], titles: list[str], side: int) -> Image.Image:
    step = side + _GAP
    title, heading = Lettering(max(13, min(20, side // 8)), TITLE), Lettering(max(17, min(27, side // 6)), HEADING)
    band = heading.height + title.height + 2 * _GAP  # above the rows of a half
    width = 2 * _MARGIN + len(titles) * step - _GAP
    height = _MARGIN + sum(band + len(rows) * step - _GAP + _MARGIN for _, _, rows in halves)
    canvas = Image.new("RGB", (width, height), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    top = _MARGIN
    for source, target, rows in halves:
        heading.draw(pen, (_MARGIN, top), heading.pair(source, target, width - 2 * _MARGIN))
        for column, text in enumerate(titles):
            label = title.shortened(text.format(source=source, target=target), side)
            left = _MARGIN + column * step + (side - title.width(label)) // 2
            title.draw(pen, (left, top + heading.height + _GAP), label)
        top += band
        for row in rows:
            for column, cell in enumerate(row):
                left = _MARGIN + column * step + (side - cell.width) // 2
                canvas.paste(cell, (left, top + (side - cell.height) // 2))
            top += step
        top += _MARGIN - _GAP
    return canvas
