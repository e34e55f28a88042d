"""What is said of attention: the same in panels, reports and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ugatit_cli.attention.maps import (
    AttentionMap,
    Maps,
    Spans,
    Style,
    how_to_get,
    smallest_for,
    why_missing,
)
from ugatit_cli.config import MAPS, BaseConfig, Direction, MapName
from ugatit_cli.pictures import colormaps, drawing
from ugatit_cli.pictures.drawing import plain
from ugatit_cli.pictures.geometry import Geometry

TITLES: Final[dict[MapName, str]] = {
    "generator": "generator attention",
    "local": "local discriminator",
    "global": "global discriminator",
}
FLAT: Final = "flat: the same everywhere"
# A smaller share of the value is hardly attention. Said without numbers: panels of the same words are drawn faster.
NEARLY: Final = 0.01
NEARLY_FLAT: Final = "nearly flat: within 1 %"


@dataclass(frozen=True)
class Subject:
    """What is looked at.

    Attributes:
        model: what messages and panels call the model.
    """

    model: str
    config: BaseConfig
    direction: Direction

    @property
    def way(self) -> str:
        """`flat → clay`; the letters of the domains where Pillow's font can't write their names."""
        source, target = self.config.source(self.direction), self.config.target(self.direction)
        letters = self.direction.split("2")
        return f"{plain(source, letters[0])} → {plain(target, letters[1])}"

    @property
    def shown_name(self) -> list[str]:
        """The model's name without its path; none where the font can't write it."""
        name = plain(Path(self.model).name, "")
        return [name] if name else []


def too_small(config: BaseConfig, name: MapName, geometry: Geometry) -> str:
    """Why a picture has no map of a discriminator."""
    least = smallest_for(config, name)
    what = f"its tiles of {geometry.tile} pixels are " if geometry.tile else ""
    return f"{what}too small for the {name} discriminator ({least} pixels a side)"


def legend(style: Style, spans: Spans | None, names: Sequence[MapName], *, masks: bool = False) -> drawing.Legend:
    """What the colours of some maps mean.

    Args:
        masks: see `BaseConfig.masks`.
    """
    colours = colormaps.colour(np.linspace(0, 1, 256), style.colormap)
    if masks:
        return drawing.Legend(colours.tobytes(), "0: kept", "1: replaced", "What the translation replaces.")
    text = "Each map has its own scale, from its lowest to its highest value."
    if spans is not None:
        # Before the first picture is drawn, nobody knows from where to where it goes.
        known = [(name, span) for name in names if (span := spans.get(name))]
        ranges = ", ".join(f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in known)
        text = "One scale for all pictures" + (f": {ranges}." if ranges else ".")
    if set(names) > {"generator"}:
        text += " The generator looks at the input, the discriminators look at the translation."
    return drawing.Legend(colours.tobytes(), "least attention", "most", text)


def remark(one: AttentionMap) -> str:
    """What has to be said lest a map's colours mislead; nothing for most maps."""
    low, high = one.span
    if one.flat:
        return FLAT
    if one.logits and high - low < NEARLY * max(abs(low), abs(high)):
        return NEARLY_FLAT
    return ""


def missing_text(missing: Mapping[MapName, str]) -> str:
    """Which maps a model can't show, and how to get them; nothing if it shows all."""
    if not missing:
        return ""
    names = "" if len(missing) == len(MAPS) else f"{' and '.join(missing)} "
    return f"No {names}attention: {why_missing(missing)}. {how_to_get(missing)}".rstrip()


def flat_maps(maps: Sequence[Maps]) -> tuple[MapName, ...]:
    """Maps that are flat on every frame."""
    return tuple(name for name in maps[0] if all(frame[name].flat for frame in maps))
