"""`--steady`: less flicker where nothing changes, and nothing else where something does."""

from __future__ import annotations

import itertools

import numpy as np
from PIL import Image

from tests.helpers import pixels
from ugatit_cli.films.steady import Steadier
from ugatit_cli.pictures.geometry import Pixels

SIDE = 128


def noisy(picture: Pixels, seed: int, levels: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(-levels, levels + 1, picture.shape)
    return Image.fromarray((picture.astype(int) + noise).clip(0, 255).astype(np.uint8))


def scene(seed: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels(8, 8, seed)).resize((SIDE, SIDE)))


def steadied(amount: float, sources: list[Image.Image], results: list[Image.Image]) -> list[Pixels]:
    steadier = Steadier(amount)
    pairs = zip(results, sources, strict=True)
    return [np.asarray(steadier.steadied(result, source)).astype(int) for result, source in pairs]


def flicker(frames: list[Pixels]) -> float:
    return float(np.mean([np.abs(one - other).mean() for one, other in itertools.pairwise(frames)]))


def test_flicker_of_a_still_scene_is_less_than_half() -> None:
    sources = [noisy(scene(1), seed, 4) for seed in range(8)]
    results = [noisy(scene(2), seed + 100, 20) for seed in range(8)]
    plain, steady = (flicker(steadied(amount, sources, results)) for amount in (0, 0.8))
    assert steady < plain / 2
    assert abs(steadied(0.8, sources, results)[-1] - scene(2)).mean() < 10  # it is still that scene


def test_what_moves_and_cuts_leave_no_trail() -> None:
    first, second = (Image.fromarray(scene(seed)) for seed in (1, 2))
    moved = np.asarray(first).copy()
    moved[:, SIDE // 2 :] = 255 - moved[:, SIDE // 2 :]
    results = [Image.fromarray(pixels(SIDE, SIDE, seed)) for seed in range(3)]
    shown = steadied(0.9, [first, Image.fromarray(moved), second], results)
    assert np.array_equal(shown[2], np.asarray(results[2]))  # after a cut
    assert np.array_equal(shown[1][:, SIDE // 2 :], np.asarray(results[1])[:, SIDE // 2 :])
    kept = abs(shown[1][:, : SIDE // 4] - np.asarray(results[0])[:, : SIDE // 4]).mean()
    new = abs(shown[1][:, : SIDE // 4] - np.asarray(results[1])[:, : SIDE // 4]).mean()
    assert kept < new / 4  # while the other side stayed


def test_results_may_be_of_another_size_than_the_film() -> None:
    source, result = Image.fromarray(pixels(90, 50)), Image.fromarray(pixels(45, 25))
    assert np.array_equal(steadied(0.5, [source, source], [result, result])[1], np.asarray(result))
