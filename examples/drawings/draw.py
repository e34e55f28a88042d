"""Renders the drawings beside this file, as a hand with a mouse would have drawn them: `python draw.py [FOLDER]`.

Nobody held a mouse. Strokes were written down as a few points each, roughly; what a hand adds comes from a seed: slow
wander and tremor, whole pixels, a brush that isn't quite even, ends that miss each other or overlap.
"""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Point = tuple[float, float]
Stroke = list[Point]
FINE: Final = 1.5
"""Of 100 units, how far two samples of a mouse are apart."""


def curve(*points: Point) -> Stroke:
    """A smooth stroke through points."""
    padded = [points[0], *points, points[-1]]
    found: Stroke = []
    for before, start, end, after in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        steps = max(2, round(math.dist(start, end) / FINE))
        found += [_between(before, start, end, after, i / steps) for i in range(steps)]
    return [*found, points[-1]]


def _between(p: Point, q: Point, r: Point, s: Point, t: float) -> Point:
    x, y = (
        (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3) / 2
        for a, b, c, d in zip(p, q, r, s, strict=True)
    )
    return x, y


def corners(*points: Point) -> Stroke:
    """A stroke with corners, which a hand takes without lifting."""
    found: Stroke = []
    for start, end in itertools.pairwise(points):
        found += curve(start, end)[:-1]
    return [*found, points[-1]]


def loop(x: float, y: float, width: float, height: float, *, start: float = -100, sweep: float = 375) -> Stroke:
    """Something round, begun at an angle in degrees, which closes too late (`sweep` above 360) or not at all."""
    steps = max(10, round(math.radians(abs(sweep)) * (width + height) / 4 / FINE))
    angles = [math.radians(start + sweep * i / steps) for i in range(steps + 1)]
    grown = [1 + 0.05 * i / steps for i in range(steps + 1)]  # a spiral rather than a circle
    return [
        (x + width / 2 * r * math.cos(a), y + height / 2 * r * math.sin(a))
        for a, r in zip(angles, grown, strict=True)
    ]


def blob(x: float, y: float, size: float) -> Stroke:
    """A dot: the brush moved in place."""
    return loop(x, y, size / 2, size / 1.6, sweep=420)


def scribble(x: float, y: float, width: float, height: float, turns: int) -> Stroke:
    """An area filled to and fro."""
    ends = [(x + (width / 2 if i % 2 else -width / 2), y - height / 2 + height * i / turns) for i in range(turns + 1)]
    return curve(*ends)


@dataclass(frozen=True)
class Drawing:
    """One picture.

    Attributes:
        strokes: on a ground of 100 x 100 units, y downwards.
        size: of the picture in pixels.
        place: left, top and side in pixels of where the 100 units go.
        brush: width in pixels.
        ink, ground: colours; no ground leaves the picture transparent.
        wander: how far lines stray, in units.
        crisp: drawn by a program without soft edges.
    """

    strokes: Sequence[Stroke]
    size: tuple[int, int] = (256, 256)
    place: tuple[float, float, float] = (18, 18, 220)
    brush: float = 6
    ink: str = "#000000"
    ground: str | None = "#ffffff"
    wander: float = 0.9
    crisp: bool = False


FACE: Final = [
    loop(50, 50, 82, 84, start=-80, sweep=368),
    blob(35, 40, 5),
    blob(63, 38, 5),
    curve((27, 60), (36, 73), (52, 77), (66, 72), (74, 57)),
    curve((24, 58), (30, 61)),
    curve((71, 55), (78, 59)),
]
HEART: Final = [
    curve((51, 33), (45, 20), (31, 13), (16, 19), (10, 36), (17, 55), (33, 73), (49, 90)),
    curve((50, 92), (66, 74), (84, 55), (91, 35), (84, 19), (68, 14), (56, 22), (50, 36)),
]
HOUSE: Final = [
    corners((18, 47), (17, 88), (83, 90), (81, 45)),
    corners((8, 51), (49, 12), (93, 49), (7, 48)),
    corners((42, 89), (42, 63), (58, 62), (59, 90)),
    blob(55, 77, 2),
    corners((24, 56), (36, 55), (36, 68), (24, 67), (25, 54)),
    curve((30, 55), (30, 67)),
    curve((24, 61), (37, 62)),
    corners((68, 25), (68, 12), (77, 11), (77, 34)),
]
CAT: Final = [
    curve((33, 31), (42, 28), (50, 28), (59, 28), (67, 31)),
    corners((33, 32), (24, 9), (17, 40)),
    corners((66, 30), (77, 10), (83, 41)),
    curve((17, 40), (10, 57), (18, 77), (37, 89), (58, 90), (78, 79), (89, 60), (83, 39)),
    loop(36, 51, 7, 10, sweep=380),
    loop(63, 50, 7, 11, sweep=372),
    blob(36, 52, 2),
    blob(63, 51, 2),
    corners((46, 63), (54, 62), (50, 68), (45, 62)),
    curve((50, 68), (49, 74), (43, 78), (37, 75)),
    curve((50, 69), (52, 75), (58, 77), (63, 73)),
    curve((26, 65), (4, 60)),
    curve((26, 70), (5, 75)),
    curve((74, 64), (96, 57)),
    curve((74, 69), (95, 73)),
]
TREE: Final = [
    curve((42, 64), (43, 78), (40, 93)),
    curve((57, 63), (57, 80), (62, 94)),
    curve((40, 93), (50, 91), (62, 94)),
    curve(
        (41, 64), (29, 67), (17, 60), (16, 48), (23, 41), (18, 29), (29, 19), (38, 20), (46, 8), (60, 9), (67, 20),
        (80, 22), (85, 36), (78, 44), (84, 55), (73, 67), (58, 64), (50, 67), (40, 63),
    ),
    curve((36, 40), (40, 45), (46, 42)),
    curve((57, 32), (62, 36), (67, 32)),
    curve((56, 52), (61, 55), (66, 50)),
]  # fmt: skip
SUN: Final = [
    loop(50, 51, 43, 42, start=40, sweep=382),
    *(
        curve(
            (50 + a * math.cos(math.radians(w)), 51 + a * math.sin(math.radians(w))),
            (50 + b * math.cos(math.radians(w + c)), 51 + b * math.sin(math.radians(w + c))),
        )
        for w, a, b, c in [
            (2, 29, 45, 1), (38, 30, 43, -3), (85, 29, 46, 2), (128, 30, 42, 4), (176, 28, 45, 0), (224, 30, 46, -2),
            (268, 29, 44, 3), (316, 31, 47, 1),
        ]
    ),
    blob(43, 46, 3),
    blob(57, 45, 3),
    curve((39, 56), (47, 63), (57, 60), (61, 54)),
]  # fmt: skip
FISH: Final = [
    curve((74, 53), (62, 36), (42, 29), (22, 36), (8, 51), (21, 66), (41, 74), (61, 68), (75, 51)),
    corners((73, 52), (93, 33), (89, 54), (94, 72), (72, 54)),
    loop(24, 46, 8, 8, sweep=370),
    blob(25, 47, 2),
    curve((12, 57), (18, 58), (21, 56)),
    curve((34, 35), (40, 46), (41, 57), (35, 69)),
    curve((48, 52), (57, 47), (61, 54), (53, 60), (48, 55)),
    curve((36, 30), (46, 17), (60, 23), (61, 35)),
]
CUP: Final = [
    loop(44, 36, 58, 17, start=-170, sweep=366),
    curve((15, 38), (16, 58), (21, 76), (31, 87), (45, 90), (59, 86), (68, 75), (73, 56), (73, 37)),
    curve((73, 44), (84, 41), (91, 50), (88, 62), (78, 68), (69, 69)),
    curve((73, 51), (81, 50), (83, 56), (79, 61), (71, 63)),
    curve((33, 22), (29, 16), (36, 11), (32, 4)),
    curve((46, 23), (42, 16), (50, 11), (45, 3)),
    curve((58, 22), (55, 16), (62, 11), (58, 5)),
]
STAR: Final = [
    corners(
        (49, 9), (61, 38), (93, 39), (68, 59), (78, 91), (50, 72), (23, 90), (33, 58), (8, 37), (40, 37), (51, 7)
    ),
]  # fmt: skip
CAR: Final = [
    curve((6, 64), (7, 53), (14, 49), (27, 47)),
    corners((26, 48), (36, 29), (63, 28), (75, 47)),
    curve((74, 46), (88, 48), (94, 55), (94, 66)),
    curve((6, 63), (8, 70), (17, 71)),
    curve((35, 71), (63, 70)),
    curve((82, 70), (90, 71), (95, 64)),
    loop(26, 71, 18, 18, sweep=376),
    loop(26, 71, 6, 6, sweep=390),
    loop(73, 71, 18, 19, start=-60, sweep=371),
    loop(73, 71, 6, 6, sweep=390),
    corners((33, 46), (40, 34), (49, 34), (49, 46), (32, 47)),
    corners((54, 46), (54, 34), (61, 34), (67, 45), (53, 46)),
    curve((51, 47), (52, 68)),
    curve((55, 54), (60, 54)),
    loop(90, 57, 5, 5, sweep=350),
]
FLOWER: Final = [
    loop(50, 33, 17, 17, sweep=385),
    curve((44, 26), (36, 13), (47, 4), (58, 10), (55, 25)),
    curve((57, 28), (68, 14), (80, 22), (76, 34), (59, 34)),
    curve((59, 36), (76, 38), (78, 51), (66, 55), (55, 42)),
    curve((53, 42), (60, 57), (48, 64), (39, 57), (46, 42)),
    curve((45, 41), (33, 53), (22, 46), (25, 35), (42, 36)),
    curve((41, 33), (25, 30), (24, 17), (36, 14), (45, 26)),
    curve((49, 63), (52, 76), (50, 97)),
    curve((51, 82), (60, 69), (75, 68), (70, 81), (52, 86)),
    curve((51, 90), (41, 79), (28, 80), (34, 91), (50, 94)),
]
GHOST: Final = [
    curve((21, 88), (20, 66), (19, 43), (25, 24), (39, 11), (56, 9), (72, 18), (80, 36), (81, 60), (80, 90)),
    curve(
        (81, 89), (74, 80), (67, 79), (61, 89), (55, 90), (49, 80), (42, 81), (36, 90), (31, 89), (27, 81), (20, 87)
    ),
    scribble(39, 38, 7, 12, 7),
    loop(39, 38, 9, 14, sweep=372),
    scribble(61, 37, 7, 12, 7),
    loop(61, 37, 9, 14, sweep=372),
    loop(50, 58, 11, 12, start=-60, sweep=384),
    curve((19, 52), (10, 47), (8, 56), (18, 62)),
    curve((81, 51), (90, 44), (93, 53), (82, 62)),
]  # fmt: skip

DRAWINGS: Final = {
    "face": Drawing(FACE, place=(14, 12, 228), brush=8),
    "heart": Drawing(HEART, place=(26, 20, 205), brush=9, ink="#111111", wander=1.3),
    "house": Drawing(HOUSE, (320, 256), (22, 14, 232), 5, "#1c1c1c", wander=0.8),
    "cat": Drawing(CAT, place=(10, 12, 236), brush=5, ink="#22222a", wander=1.0),
    "tree": Drawing(TREE, (240, 300), (14, 40, 212), 6, "#000000", wander=0.9, crisp=True),
    "sun": Drawing(SUN, (400, 400), (120, 30, 250), 7, "#1a1a1a", wander=1.0),
    "fish": Drawing(FISH, (360, 240), (52, -6, 250), 5, "#101020", wander=0.9),
    "cup": Drawing(CUP, (256, 256), (30, 26, 205), 7, "#2b2b2b", "#fdfdfa", 0.8),
    "star": Drawing(STAR, (200, 200), (18, 16, 166), 5, "#000000", wander=1.2, crisp=True),
    "car": Drawing(CAR, (512, 384), (40, -40, 430), 10, "#151515", wander=0.7),
    "flower": Drawing(FLOWER, (256, 256), (36, 20, 215), 5, "#0d0d0d", wander=0.9),
    "ghost": Drawing(GHOST, (300, 300), (38, 34, 236), 8, "#000000", None, 0.9),
}


def wandering(rng: random.Random, count: int, reach: float) -> list[Point]:
    """Where a hand strays at each of so many samples: slowly, and a little tremor."""
    waves = [
        (
            reach * rng.uniform(0.5, 1) / (k + 1),
            rng.uniform(0, 6.3),
            rng.uniform(0, 6.3),
            rng.uniform(0.7, 1.4) * (k + 1),
        )
        for k in range(4)
    ]
    found = []
    for i in range(count):
        t = i * FINE / 22
        x = sum(a * math.sin(f * t + p) for a, p, _, f in waves) + rng.gauss(0, reach / 14)
        y = sum(a * math.sin(f * t * 0.9 + q) for a, _, q, f in waves) + rng.gauss(0, reach / 14)
        found.append((x, y))
    return found


def by_hand(drawing: Drawing, rng: random.Random) -> Iterable[tuple[list[Point], float]]:
    """Each stroke in whole pixels, and its brush."""
    left, top, side = drawing.place
    for stroke in drawing.strokes:
        length = sum(math.dist(p, q) for p, q in itertools.pairwise(stroke))
        reach = 1.3 * drawing.wander * min(1, 0.35 + length / 120)
        strayed = wandering(rng, len(stroke), reach)
        pixels = [
            (round(left + side * (x + dx) / 100), round(top + side * (y + dy) / 100))
            for (x, y), (dx, dy) in zip(stroke, strayed, strict=True)
        ]
        yield [(float(x), float(y)) for x, y in pixels], drawing.brush * rng.uniform(0.9, 1.1)


def svg(drawing: Drawing, rng: random.Random) -> str:
    """The document: short lines, each as wide as the brush was there."""
    width, height = drawing.size
    ground = f'<rect width="{width}" height="{height}" fill="{drawing.ground}"/>' if drawing.ground else ""
    parts = []
    for points, brush in by_hand(drawing, rng):
        phase = rng.uniform(0, 6.3)
        for i, ((x, y), (u, v)) in enumerate(itertools.pairwise(points)):
            wide = brush * (1 + 0.12 * math.sin(phase + i / 9))
            parts.append(f'<polyline points="{x:g},{y:g} {u:g},{v:g}" stroke-width="{wide:.2f}"/>')
    shape = 'shape-rendering="crispEdges" ' if drawing.crisp else ""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
    group = f'<g {shape}fill="none" stroke="{drawing.ink}" stroke-linecap="round" stroke-linejoin="round">'
    return f"{head}{ground}{group}{''.join(parts)}</g></svg>"


def main() -> None:
    """Writes all of them."""
    import resvg_py

    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, drawing in DRAWINGS.items():
        document = svg(drawing, random.Random(name))
        (folder / f"{name}.png").write_bytes(
            bytes(resvg_py.svg_to_bytes(svg_string=document, skip_system_fonts=True))
        )


if __name__ == "__main__":
    main()
