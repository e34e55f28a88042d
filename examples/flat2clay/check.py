"""Checks the emoji benchmarks as they are drawn from the real packages: `python examples/flat2clay/check.py`.

Says how many emoji and groups are where; whether the words in iconify's names tell the same skin tones as its code
points; whether the 3D package's tones are put right, by pixels of the flat drawings; and how far untouched pictures
are from the truth. Takes half a minute of one core.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ugatit_cli.cli import console
from ugatit_cli.datasets.emoji import FLAT, LEFT_OUT, RECIPES, Drawing, drawings, icons, webp_files
from ugatit_cli.datasets.emoji_names import HELD_OUT, TRAINING, VALIDATION, emoji_name, group, shown
from ugatit_cli.datasets.emoji_pictures import draw_svg, draw_webp
from ugatit_cli.datasets.packages import fetch, files
from ugatit_cli.remote.patience import Listener

TONES: Final = {"light": "1f3fb", "medium-light": "1f3fc", "medium": "1f3fd", "medium-dark": "1f3fe", "dark": "1f3ff"}
CONFUSED: Final = (TONES["medium-light"], TONES["medium"])
SIZE: Final = 128


def tones_of(name: str) -> tuple[str, ...]:
    """Skin tones among the code points of an emoji."""
    return tuple(point for point in name.split("-") if point in TONES.values())


def tones_in_words(icon: str) -> tuple[str, ...]:
    """Skin tones that an icon's name ends with: `people-holding-hands-medium-light-dark`."""
    for words in sorted(TONES, key=len, reverse=True):
        if icon.endswith(f"-{words}"):
            return (*tones_in_words(icon.removesuffix(f"-{words}")), TONES[words])
    return ()


def contradictions(names: Mapping[str, str]) -> tuple[int, list[str]]:
    """How many names of icons have skin tones, and those which tell others than their code points."""
    toned = {icon: tones_of(emoji_name(stem)) for stem, icon in names.items() if tones_of(emoji_name(stem))}
    # Two people of one tone have it once in words.
    wrong = [
        icon for icon, tones in toned.items() if tones_in_words(icon) not in (tones, tuple(dict.fromkeys(tones)))
    ]
    return len(toned), wrong


def pixels(drawing: Drawing, size: int) -> npt.NDArray[np.float64]:
    """Values from 0 to 1."""
    return np.asarray(drawing.draw(size), np.float64) / 255


def distance(svg: bytes, webp: bytes) -> float:
    """Mean absolute difference of two files' pictures."""
    one, other = (np.asarray(draw(data, 64, "")) / 255 for draw, data in ((draw_svg, svg), (draw_webp, webp)))
    return float(np.abs(one - other).mean())


def not_put_right(flat: Mapping[str, bytes], clay: Mapping[str, bytes]) -> tuple[int, list[str]]:
    """How many emoji have both tones that are confused, and those that would be nearer as their files are called.

    Args:
        flat, clay: what the files of emoji hold, by the names of what they show.
    """
    named = {shown(name): data for name, data in clay.items()}  # as the package has it: twice is not at all
    light, medium = CONFUSED
    both = [name for name in flat if tones_of(name) == (light,) and name.replace(light, medium) in flat]
    both = [name for name in both if name in clay and name.replace(light, medium) in clay]
    wrong = []
    for name in both:
        pair = (name, name.replace(light, medium))
        as_shown, as_named = (sum(distance(flat[one], found[one]) for one in pair) for found in (clay, named))
        if as_named < as_shown:
            wrong.append(name)
    return len(both), wrong


def untouched(found: Sequence[Drawing]) -> tuple[float, float]:
    """Mean L1 (0 to 1) and mean PSNR in dB of the held-out pairs."""
    sides = ({one.name: one for one in found if one.folder == folder} for folder in HELD_OUT)
    a, b = sides
    errors = [pixels(a[name], SIZE) - pixels(b[name], SIZE) for name in a]
    psnr = [-10 * np.log10(np.square(error).mean()) for error in errors]
    return float(np.mean([np.abs(error).mean() for error in errors])), float(np.mean(psnr))


def told(recipe: str, found: Sequence[Drawing]) -> Iterable[str]:
    """What is where in a benchmark."""
    for folder in (*TRAINING, *VALIDATION, *HELD_OUT, LEFT_OUT):
        names = [one.name for one in found if one.folder == folder]
        yield f"{recipe} {folder or 'left out'}: {len(names)} pictures, {len(set(map(group, names)))} groups"
    l1, psnr = untouched(found)
    yield f"{recipe} untouched: L1 {l1:.4f}, PSNR {psnr:.2f} dB"


def report(listener: Listener) -> Iterable[str]:
    """All lines."""
    for recipe in RECIPES:
        yield from told(recipe, drawings(recipe, listener))
    package = fetch(FLAT, listener)
    checked, wrong = contradictions(json.loads(files(package, ".json")["chars.json"]))
    yield f"names with skin tones: {checked}; contradict their code points: {wrong or 'none'}"
    checked, wrong = not_put_right(icons(package), webp_files(fetch(RECIPES["flat2clay"].clay, listener)))
    yield f"emoji with both tones: {checked}; nearer as their files are called: {wrong or 'none'}"


if __name__ == "__main__":
    with console.showing() as hears:
        for line in report(hears):
            console.result(line)
