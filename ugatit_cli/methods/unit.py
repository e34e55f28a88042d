"""UNIT (Liu et al., NIPS 2017) as its authors' later code has it: codes that both domains share, and noise on them.

That code is MUNIT's with another training: nothing is shared any more but the distribution of codes. Numbers are its
own, layer by layer, but for biases before instance norms, which are left out: of 5,385,856 parameters an encoder
keeps 5,383,360, of 5,754,627 a decoder 5,752,579.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ugatit_cli.config import DOMAINS, BaseConfig, Direction, Domain
from ugatit_cli.device import Group, sent
from ugatit_cli.methods.base import (
    SOURCE,
    TARGET,
    Losses,
    Method,
    Official,
    OfficialSettings,
    States,
    Step,
    Term,
)
from ugatit_cli.methods.configs import CodeConfig, UNITConfig
from ugatit_cli.methods.losses import cycle_loss, identity_loss
from ugatit_cli.methods.networks import Networks
from ugatit_cli.methods.recipe import Recipe, RecipeName
from ugatit_cli.methods.unit_networks import Decoder, Encoder, MultiScaleDiscriminator
from ugatit_cli.methods.unit_official import official
from ugatit_cli.methods.unit_step import (
    ITERATIONS,
    SETTINGS,
    Codes,
    CodeStep,
    Draws,
    adversarial_terms,
    backward,
    code_recipe,
    random_codes,
)
from ugatit_cli.nn.generator import Translation
from ugatit_cli.nn.layers import Network


class Translator(Network):
    """Paints in one domain what is in a picture of the other, without noise."""

    def __init__(self, encoder: Network, decoder: Network) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, x: Tensor) -> Translation:
        """(N, 3, H, W) float in [-1, 1] -> a picture of the same size; H and W multiples of 4, at least 8."""
        painted: Translation = self.decoder(self.encoder(x))
        return painted


class UNITStep(CodeStep):
    """Updates UNIT's networks with one batch; see `CodeStep`.

    Losses are `reconstruction_a`, `kl_a`, `cycle_a`, `kl_cycle_a`, `g_patch_a`, `d_patch_a` and those of b.
    """

    def draw(self, real: Mapping[Domain, Tensor], random: torch.Generator) -> Draws:
        """Noise for the codes of both domains."""

        def noise(*directions: Direction) -> dict[Direction, Tensor]:
            return {direction: self._noise(real[SOURCE[direction]], random) for direction in directions}

        return Draws(judged=noise("a2b", "b2a"), trained=noise("a2b", "b2a"), back=noise("b2a", "a2b"))

    def _noise(self, x: Tensor, random: torch.Generator) -> Tensor:
        """For the codes of pictures."""
        n, _, height, width = x.shape
        return random_codes((n, 4 * self.networks.config.channels, height // 4, width // 4), random)

    def encode(self, domain: Domain, x: Tensor) -> Codes:
        """The content code, without noise."""
        return (self.network(domain, "encoder")(x),)

    def translate(self, direction: Direction, codes: Codes, drawn: Tensor) -> Tensor:
        """What the target's decoder paints from the code with noise."""
        return self._painted(TARGET[direction], codes[0], drawn)

    def reconstruct(self, direction: Direction, x: Tensor, codes: Codes, draws: Draws) -> Losses:
        """The picture itself, and its code."""
        domain = SOURCE[direction]
        back = self._painted(domain, codes[0], draws.trained[direction])
        losses = {f"reconstruction_{domain}": identity_loss(back, x), f"kl_{domain}": kl_loss(codes[0])}
        backward(losses, (self.recipe.reconstruction_weight, self.recipe.kl_weight))
        return losses

    def go_back(self, direction: Direction, x: Tensor, codes: Codes, fake: Tensor, draws: Draws) -> Losses:  # noqa: ARG002
        """The cycle, and the translation's code."""
        domain = SOURCE[direction]
        code = self.network(TARGET[direction], "encoder")(fake)
        back = self._painted(domain, code, draws.back[direction])
        losses = {f"cycle_{domain}": cycle_loss(back, x), f"kl_cycle_{domain}": kl_loss(code)}
        backward(losses, (self.recipe.cycle_weight, self.recipe.kl_weight))
        return losses

    def _painted(self, domain: Domain, code: Tensor, noise: Tensor) -> Tensor:
        image: Tensor = self.network(domain, "decoder")(code + sent(noise, code.device).to(code.dtype)).image
        return image


def kl_loss(code: Tensor) -> Tensor:
    """What keeps codes (N, C, H, W) near N(0, 1): the mean square of their means, as the official code has it."""
    return code.square().mean()


class UNIT(Method):
    """UNIT: both domains have their codes in common."""

    name = "unit"
    title = "UNIT"
    source = "Liu et al., NIPS 2017"
    url = "https://arxiv.org/abs/1703.00848"
    citation = """@inproceedings{liu2017unsupervised,
  title     = {Unsupervised Image-to-Image Translation Networks},
  author    = {Ming-Yu Liu and Thomas Breuel and Jan Kautz},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2017},
  url       = {https://arxiv.org/abs/1703.00848}
}"""
    config: ClassVar[type[BaseConfig]] = UNITConfig
    settings = SETTINGS | {"kl_weight"}
    paper_iterations = ITERATIONS
    kinds: ClassVar[Mapping[str, Callable[[Any], Network]]] = {"encoder": Encoder, "decoder": Decoder}

    def recipe(self, name: RecipeName) -> Recipe:
        """See `code_recipe`."""
        return code_recipe(name)

    def translators(self, config: BaseConfig) -> dict[str, Network]:
        """Encoders of the domains that directions come from, decoders of those that they lead to."""
        names = [one for way in config.directions for one in (*self.needed(way), *self.style_networks(way))]
        return {name: self.kinds[name.partition(".")[2]](config) for name in sorted(names)}

    def critics(self, config: BaseConfig) -> dict[str, Network]:
        """The discriminators of the domains that directions lead to."""
        assert isinstance(config, CodeConfig)
        sizes = config.discriminator_channels, config.scales
        return {TARGET[direction]: MultiScaleDiscriminator(*sizes) for direction in config.directions}

    def needed(self, direction: Direction) -> tuple[str, ...]:
        """The source's encoder and the target's decoder."""
        return f"{SOURCE[direction]}.encoder", f"{TARGET[direction]}.decoder"

    def translator(self, networks: Mapping[str, Network], direction: Direction) -> Network:
        """The two in a row."""
        encoder, decoder = self.needed(direction)
        return Translator(networks[encoder], networks[decoder])

    def terms(self, config: BaseConfig, recipe: Recipe) -> tuple[Term, ...]:
        """Reconstruction, cycle and codes, then what the discriminators are about."""
        return tuple(_terms(config, recipe))

    def step(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> Step:
        """See `UNITStep`."""
        return UNITStep(networks, recipe, seed=seed, group=group)

    def official(self, states: States, settings: OfficialSettings) -> Official | None:
        """The generators of `gen_01000000.pt`, with the discriminators of `dis_01000000.pt` where both are there."""
        return official(states, settings, self, "enc")


def _terms(config: BaseConfig, recipe: Recipe) -> Iterator[Term]:
    weights = {
        "reconstruction": recipe.reconstruction_weight,
        "cycle": recipe.cycle_weight,
        "kl": recipe.kl_weight,
        "kl_cycle": recipe.kl_weight,
    }
    titles = {"kl": "KL", "kl_cycle": "KL cycle"}
    for name, weight in weights.items():
        for domain in DOMAINS:
            yield Term(f"{name}_{domain}", titles.get(name, name), domain, "generator", weight)
    yield from adversarial_terms(config, recipe)
