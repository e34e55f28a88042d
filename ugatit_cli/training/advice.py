"""What looks wrong in a training: one line each, with the likely cause and the option to try.

Everything is judged by what is at hand: the losses of a line of metrics, and the translations of a sample grid. A
sign must be there for long before it is told, and be gone for as long before it may be told again. Thresholds lie far
from what healthy trainings show (docs/train.md, "What it says itself").
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ugatit_cli.config import DOMAINS, Direction
from ugatit_cli.methods.base import SOURCE, Term
from ugatit_cli.methods.registry import method_of
from ugatit_cli.training.settings import Settings

# A discriminator's loss and the generator's against it: neither wins at 0.5 and 0.25, or 1.39 and 0.69.
WON: Final = (0.1, 0.8)
GUESSING: Final = 2 * math.log(2)
CHANCE: Final = 1.3
BLOWN: Final = 4.0
# Of pictures in [-1, 1]: standard deviations, mean absolute differences, shares of values.
FLAT: Final = 0.05
ALIKE: Final = 0.02
VARIED: Final = 0.15
COPIED: Final = 0.03
PURE: Final = 0.98
CLIPPED: Final = 0.4
# Lines of metrics, of ten steps each, and sample grids, after which a sign is told.
LONG, VERY_LONG, SOON, GRIDS = 10, 100, 3, 2
# Steps before which translations are noise, and before which they may well be copies.
NOISE, YOUNG = 100, 500


@dataclass(frozen=True)
class Sign:
    """Something that looks wrong, if it is there."""

    key: str
    there: bool
    long: int
    text: str


class Advisor:
    """Remembers how long each sign has been there.

    Attributes:
        scores: by sign, below its `long` until it is told, above it from then on; part of checkpoints.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.terms = method_of(settings.model).terms(settings.model, settings.recipe)
        self.scores: dict[str, int] = {}

    def losses(self, losses: Mapping[str, float]) -> list[str]:
        """What to tell after a line of metrics.

        Args:
            losses: means by name; none of the main phase in the warm-up.
        """
        if not all(term.name in losses for term in self.terms):
            return []
        return self._judged([*self._winners(losses), *self._chance(losses), *self._blown(losses)])

    def pictures(
        self,
        samples: tuple[Tensor, Tensor],
        translations: Mapping[Direction, Sequence[Tensor]],
        step: int,
        trained: int,
    ) -> list[str]:
        """What to tell after a sample grid; nothing after one of the warm-up.

        Args:
            samples: of domains a and b, uint8 (N, 3, H, W).
            translations: of each of their pictures, (1, 3, H, W) in [-1, 1].
            step: number of steps.
            trained: those of them that weren't of the warm-up.
        """
        a, b = (one.float() / 127.5 - 1 for one in samples)
        signs: list[Sign] = []
        for direction, images in translations.items():
            source, target = (a, b) if SOURCE[direction] == "a" else (b, a)
            if images and trained and step >= NOISE:
                signs += self._looks(
                    direction, source, target, torch.cat([one.float().cpu() for one in images]), trained
                )
        return self._judged(signs)

    def _judged(self, signs: Sequence[Sign]) -> list[str]:
        said = []
        for sign in signs:
            before, long = self.scores.get(sign.key, 0), sign.long
            score = max(0, min(2 * long, before + (1 if sign.there else -1)))
            if score == long:  # for so long there, or for so long gone
                said += [sign.text] if before < long else []
                score = 2 * long if before < long else 0
            self.scores[sign.key] = score
        return said

    # --- Losses

    def _winners(self, losses: Mapping[str, float]) -> Iterator[Sign]:
        for domain in DOMAINS:
            pairs = [(losses[d.name], losses[g.name], d.title) for d, g in self._opponents() if d.domain == domain]
            if pairs:
                won = [pair for pair in pairs if pair[0] < WON[0] and pair[1] > WON[1]]
                d, g, title = min(won or pairs)
                try_it = "Try more pictures, or fewer --discriminator-channels in a new run."
                if self.settings.recipe.augment != "on":
                    try_it = "Try --augment on, or more pictures."
                text = (
                    f"the discriminator of {self._name(domain)} ({title}) has won: its loss is {d:.2f}, that of the "
                    f"generator {g:.2f}. It may know its pictures by heart, and teaches little. {try_it}"
                )
                yield Sign(f"won {domain}", bool(won), LONG, text)

    def _opponents(self) -> list[tuple[Term, Term]]:
        g = {(term.title, term.domain): term for term in self.terms if term.of == "generator"}
        ours = [term for term in self.terms if term.of == "discriminator" and (term.title, term.domain) in g]
        return [(term, g[term.title, term.domain]) for term in ours]

    def _chance(self, losses: Mapping[str, float]) -> Iterator[Sign]:
        values = [losses[term.name] for term in self.terms if term.title == "CAM"]
        if values:
            value, weight = sum(values) / len(values), self.settings.recipe.cam_weight
            way = f"--cam-weight {10 * weight:g}" if 0 < weight < 1000 else "a higher --learning-rate"
            text = (
                f"attention can't tell {self._name('a')} from {self._name('b')}: the CAM loss is {value:.2f}, and "
                f"guessing is {GUESSING:.2f}. Are the folders right, and the domains different? Else try {way}."
            )
            yield Sign("chance", value > CHANCE, VERY_LONG, text)

    def _blown(self, losses: Mapping[str, float]) -> Iterator[Sign]:
        judges = {term.name: losses[term.name] for term in self.terms if term.of == "discriminator"}
        name = max(judges, key=judges.__getitem__, default="")
        if name:
            rate = f"--learning-rate {self.settings.recipe.learning_rate / 4:g}"
            text = f"losses blow up: {name} is {judges[name]:.3g}. Steps are too large: try {rate}."
            yield Sign("blown", judges[name] > BLOWN, SOON, text)

    # --- Pictures

    def _looks(
        self, direction: Direction, source: Tensor, target: Tensor, images: Tensor, trained: int
    ) -> Iterator[Sign]:
        config, recipe = self.settings.model, self.settings.recipe
        way = f"{config.source(direction)} to {config.target(direction)}"
        heeded = method_of(config).settings
        keeps = "cycle_weight" if "cycle_weight" in heeded else "content_weight"
        kept, rate = getattr(recipe, keeps), f"--learning-rate {recipe.learning_rate / 4:g}"
        option = f"--{keeps.replace('_', '-')}"
        flat = bool(_within(images) < FLAT < VARIED < _within(source))
        text = f"{way}: translations are of one colour. Steps are too large, or the generator has lost: try {rate}"
        yield Sign(f"flat {direction}", flat, GRIDS, f"{text}, or --warm-up 5% in a new run.")
        if len(images) > 1:
            alike = bool(_across(images) < ALIKE < VARIED < _across(source)) and not flat
            text = f"{way}: translations are all alike, whatever the picture. Try {option} {2 * kept:g}."
            yield Sign(f"alike {direction}", alike, GRIDS, text)
        copied = bool((images - source).abs().mean((1, 2, 3)).max() < COPIED) and trained >= YOUNG
        less = f"--identity-weight {recipe.identity_weight / 5:g} and {option} {kept / 2:g}"
        less = less if "identity_weight" in heeded else f"{option} {kept / 5:g}"
        text = f"{way}: translations are copies of the pictures. What keeps them outweighs the rest: try {less}."
        yield Sign(f"copied {direction}", copied, GRIDS, text)
        pure = _pure(images)
        clipped = pure > max(_pure(source), _pure(target)) + CLIPPED and not flat
        text = f"{way}: {pure:.0%} of the translations is pure colour, where pictures have less. Try {rate}."
        yield Sign(f"clipped {direction}", clipped, GRIDS, text)

    def _name(self, domain: str) -> str:
        return self.settings.model.domain_a if domain == "a" else self.settings.model.domain_b


def _within(pictures: Tensor) -> Tensor:
    """How much the most varied of pictures (N, 3, H, W) varies from place to place."""
    return pictures.std((2, 3)).max()


def _across(pictures: Tensor) -> Tensor:
    """How much pictures (N, 3, H, W) differ from each other."""
    return pictures.std(0).mean()


def _pure(pictures: Tensor) -> float:
    """Share of values that are as low or as high as can be."""
    return (pictures.abs() > PURE).float().mean().item()
