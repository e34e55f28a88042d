"""Benchmarks with ground truth, drawn from packages of emoji: `ink2clay`, `flat2clay`, `twemoji2clay`.

Domain B is Microsoft's 3D emoji. Domain A is what a recipe names: Microsoft's own ink or flat drawings of the same
emoji, of the same shapes and at the same place, or another artist's flat ones. The training halves are unpaired: no
emoji is in both. The same groups are held out in all of them, so that a model of one can be measured with another.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from ugatit_cli.datasets.emoji_names import (
    HELD_OUT,
    TRAINING,
    VALIDATION,
    files_by_name,
    is_unlicensed,
    places,
    shown,
)
from ugatit_cli.datasets.emoji_pictures import check_renderer, draw_svg, draw_webp
from ugatit_cli.datasets.packages import Package, fetch, files
from ugatit_cli.errors import FetchError
from ugatit_cli.files import write_file
from ugatit_cli.pictures.encoding import encode
from ugatit_cli.pictures.reading import from_pil
from ugatit_cli.remote.patience import Listener

Counts = Mapping[str, int]
"""Folder -> number of pictures."""

NOTICE: Final = "NOTICE.txt"
LEFT_OUT: Final = ""
"""The folder of what Microsoft doesn't publish under MIT, which is none."""

INK: Final = Package(
    "@iconify-json/fluent-emoji-high-contrast",
    "1.2.6",
    "sha512-esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w==",
    1_054_969,
)
FLAT: Final = Package(
    "@iconify-json/fluent-emoji-flat",
    "1.2.6",
    "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
    1_172_438,
)
TWEMOJI: Final = Package(
    "@twemoji/svg",
    "15.0.0",
    "sha512-ZSPef2B6nBaYnfgdTbAy4jgW95o7pi2xPGwGCU+WMTxo7J6B1lMPTWwSq/wTuiMq+N0khQ90CcvYp1wFoQpo/w==",
    1_547_134,
)
CLAY: Final = Package(
    "@lobehub/fluent-emoji-3d",
    "1.1.0",
    "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
    15_792_027,
)

_MICROSOFT: Final = """\
   Copyright (c) Microsoft Corporation.
   Licence: MIT, https://github.com/microsoft/fluentui-emoji/blob/main/LICENSE
   Project: https://github.com/microsoft/fluentui-emoji"""
_TWITTER: Final = """\
   Copyright Twitter, Inc and other contributors
   Licence: Creative Commons Attribution 4.0 International (CC-BY 4.0)
            https://creativecommons.org/licenses/by/4.0/
   Project: https://github.com/jdecked/twemoji
            and https://github.com/twitter/twemoji
   Package: Copyright (c) 2023 Samuel Kopp, MIT"""


# --- Drawings in packages ------------------------------------------------------------------------------


def icons(tarball: bytes) -> dict[str, bytes]:
    """Emoji name to SVG document, of an @iconify-json package.

    Raises:
        FetchError: the package has no such documents.
    """
    try:
        content = files(tarball, ".json")
        drawings, names = json.loads(content["icons.json"]), json.loads(content["chars.json"])
        return {name: _svg(drawings, names[stem]) for name, stem in files_by_name(names).items()}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise FetchError(f"a package that isn't iconify's: {error}") from error


def _svg(drawings: Mapping[str, Any], name: str) -> bytes:
    """The document of an icon: black where it asks for the text's colour, and square."""
    alias = drawings.get("aliases", {}).get(name)
    if alias is not None:
        if set(alias) - {"parent", "hidden"}:
            raise ValueError(f"{name} is another icon turned")
        return _svg(drawings, alias["parent"])
    icon = drawings["icons"][name]
    left, top, width, height = (icon.get(key, drawings.get(key, default)) for key, default in _BOX)
    side = max(width, height)
    box = f"{left - (side - width) / 2:g} {top - (side - height) / 2:g} {side:g} {side:g}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{side:g}" height="{side:g}" viewBox="{box}" color="#000">'
    return f"{head}{icon['body']}</svg>".encode()


_BOX: Final = (("left", 0), ("top", 0), ("width", 16), ("height", 16))


def svg_files(tarball: bytes) -> dict[str, bytes]:
    """Emoji name to SVG document, of a package whose files are called after code points."""
    documents = files(tarball, ".svg")
    return {name: documents[file] for name, file in files_by_name(documents).items()}


def webp_files(tarball: bytes) -> dict[str, bytes]:
    """Emoji name to WebP picture, of the package of 3D emoji."""
    pictures = files(tarball, ".webp")
    return {shown(name): pictures[file] for name, file in files_by_name(pictures).items()}


# --- Recipes -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """How a benchmark is made.

    Attributes:
        title: what it is, in a line.
        style: what its drawings of A are called, and `credits`, whose they are.
        package: has them; `read` finds them there.
        validation: whether some groups are for validation rather than for training.
    """

    title: str
    style: str
    credits: str
    package: Package
    read: Callable[[bytes], dict[str, bytes]]
    validation: bool = True
    clay: Package = CLAY

    @property
    def packages(self) -> tuple[Package, Package]:
        """All that is downloaded."""
        return self.package, self.clay

    @property
    def folders(self) -> tuple[str, ...]:
        """All that are made."""
        return TRAINING + (VALIDATION if self.validation else ()) + HELD_OUT


RECIPES: Final[Mapping[str, Recipe]] = {
    "ink2clay": Recipe("ink2clay: emoji in ink and in 3D", "Fluent Emoji, high contrast", _MICROSOFT, INK, icons),
    "flat2clay": Recipe("flat2clay: emoji flat and in 3D", "Fluent Emoji, flat", _MICROSOFT, FLAT, icons),
    "twemoji2clay": Recipe(
        "twemoji2clay: flat emoji of one artist, and 3D emoji of another",
        "Twemoji graphics",
        _TWITTER,
        TWEMOJI,
        svg_files,
        validation=False,
    ),
}
"""By name."""


# --- Building ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawing:
    """One picture of a benchmark that can be made: `draw` makes it at a side in pixels."""

    folder: str
    name: str
    draw: Callable[[int], Image.Image]


def plan(recipe: Recipe, a: Mapping[str, bytes], b: Mapping[str, bytes]) -> list[Drawing]:
    """All pictures of a benchmark: of the emoji that both packages have.

    Args:
        a, b: emoji name to what its file holds, in both domains.
    """
    found = []
    for name in sorted(a.keys() & b.keys()):
        for folder in places(name, validation=recipe.validation) or (LEFT_OUT,):
            draw, source = (draw_webp, b[name]) if folder.endswith("B") else (draw_svg, a[name])
            found.append(Drawing(folder, name, functools.partial(draw, source, name=name)))
    return found


def drawings(recipe: str, listener: Listener, packages: Path | None = None) -> list[Drawing]:
    """All pictures of a benchmark, by folder and name, and those that are left out of it, in `LEFT_OUT`.

    Args:
        recipe: its name, one of `RECIPES`.
        packages: a folder with the packages' tarballs; by default they are fetched.

    Raises:
        UsageError: the renderer isn't installed.
        FetchError: a package can't be had.
        OutputError: one can't be kept.
    """
    made = RECIPES[recipe]
    check_renderer()
    drawn, clay = (fetch(package, listener, packages) for package in made.packages)
    return plan(made, made.read(drawn), webp_files(clay))


def build(recipe: str, folder: Path, listener: Listener, *, size: int = 256, packages: Path | None = None) -> Counts:
    """Makes a benchmark: the same versions of packages, resvg-py and Pillow give the same bytes.

    Args:
        recipe, packages: see `drawings`.
        folder: an empty one, for `trainA`, `trainB`, `valA`, `valB`, `testA`, `testB` and `NOTICE`.
        size: side of the pictures in pixels.

    Raises:
        UsageError, FetchError: see `drawings`.
        OutputError: a picture can't be written.
    """
    found = drawings(recipe, listener, packages)
    write_file(folder / NOTICE, notice(recipe, found, size).encode())
    wanted = [drawing for drawing in found if drawing.folder != LEFT_OUT]
    listener.begin(f"drawing {recipe}", len(wanted), 0, "pictures")
    try:
        for drawing in wanted:
            picture = encode(from_pil(drawing.draw(size)), "PNG")
            write_file(folder / drawing.folder / f"{drawing.name}.png", picture)
            listener.advance(1)
    finally:
        listener.end()
    counts = Counter(drawing.folder for drawing in wanted)
    return {name: counts[name] for name in RECIPES[recipe].folders}


def notice(recipe: str, found: Sequence[Drawing], size: int) -> str:
    """Licences and sources of what is in a benchmark."""
    made = RECIPES[recipe]
    counts = Counter(drawing.folder for drawing in found)
    in_a, in_b = (", ".join(name for name in made.folders if name.endswith(domain)) for domain in "AB")
    template = importlib.resources.files(__package__).joinpath("notice.txt").read_text(encoding="utf-8")
    return template.format(
        title=made.title,
        underline="=" * len(made.title),
        recipe=recipe,
        table="\n".join(f"{name:7} {counts[name]:6} pictures" for name in made.folders),
        a_title=made.style,
        a_folders=in_a,
        a_credits=made.credits,
        a_package=made.package,
        b_folders=in_b,
        b_credits=_MICROSOFT,
        b_package=made.clay,
        size=size,
        left_out=counts[LEFT_OUT],
        measured=sum(one.folder == HELD_OUT[0] and is_unlicensed(one.name) for one in found),
    )
