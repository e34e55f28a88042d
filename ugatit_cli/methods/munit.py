"""MUNIT (Huang et al., ECCV 2018): a content code that both domains share, and a style of each domain's own.

Numbers are those of the authors' code, layer by layer. Biases before an instance norm, adaptive or not, are left out:
of 5,385,856 parameters a content encoder keeps 5,383,360, of the 6,875,395 of a decoder with its MLP 6,873,347.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ugatit_cli.config import DIRECTIONS, DOMAINS, BaseConfig, Direction, Domain
from ugatit_cli.device import Group, sent
from ugatit_cli.methods.base import SOURCE, TARGET, Losses, Official, OfficialSettings, States, Step, Term
from ugatit_cli.methods.configs import STYLE_SIZE, CodeConfig, MUNITConfig
from ugatit_cli.methods.losses import cycle_loss, identity_loss
from ugatit_cli.methods.networks import Networks
from ugatit_cli.methods.recipe import Recipe, RecipeName
from ugatit_cli.methods.unit import UNIT
from ugatit_cli.methods.unit_networks import Encoder, Painter, kaiming_
from ugatit_cli.methods.unit_official import official
from ugatit_cli.methods.unit_step import (
    SETTINGS,
    Codes,
    CodeStep,
    Draws,
    adversarial_terms,
    backward,
    code_recipe,
    random_codes,
)
from ugatit_cli.nn.generator import Linear, StyledNetwork, Translation
from ugatit_cli.nn.layers import Network, ReflectConv2d, ZeroConv2d, padding, widened
from ugatit_cli.nn.normalization import instance_layer_norm


class StyleEncoder(Network):
    """Finds the style of pictures of a domain, of 16 pixels a side or more."""

    def __init__(self, config: CodeConfig) -> None:
        super().__init__()
        c = config.channels
        widths = (c, 2 * c, 4 * c, 4 * c, 4 * c)
        self.layers = nn.ModuleList([ReflectConv2d(3, c, 7, pad=padding(3), bias=True)])
        self.layers.extend(
            ReflectConv2d(inputs, outputs, 4, pad=padding(1), stride=2, bias=True)
            for inputs, outputs in pairwise(widths)
        )
        self.head = ZeroConv2d(4 * c, config.style_size, 1, pad=0, bias=True)
        kaiming_(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) float in [-1, 1] -> (N, style_size) float32."""
        x = x.to(self.compute_dtype or self.head.weight.dtype)
        for layer in self.layers:
            x = layer(x).relu_()
        pooled = x.mean((2, 3), keepdim=True, dtype=widened(x.dtype))
        style: Tensor = self.head(pooled).flatten(1)
        return style


class AdaptiveBlock(nn.Module):
    """Residual block with adaptive instance norm: scale and shift come from the style."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ReflectConv2d(channels, channels, 3, pad=padding(1))
        self.conv2 = ReflectConv2d(channels, channels, 3, pad=padding(1))

    def forward(self, x: Tensor, shift1: Tensor, scale1: Tensor, shift2: Tensor, scale2: Tensor) -> Tensor:
        """x (N, C, H, W), shifts and scales (N, C) -> (N, C, H, W)."""
        out = instance_layer_norm(self.conv1(x), 1.0, scale1, shift1).relu_()
        out = instance_layer_norm(self.conv2(out), 1.0, scale2, shift2)
        return out.add_(x)


class StyledDecoder(Painter):
    """Paints pictures of a domain from content codes and styles."""

    def __init__(self, config: CodeConfig) -> None:
        super().__init__(config, AdaptiveBlock)
        c = config.features
        sizes = (config.style_size, c, c, 4 * c * config.blocks)
        self.mlp = nn.ModuleList(Linear(inputs, outputs, bias=True) for inputs, outputs in pairwise(sizes))
        kaiming_(self.mlp)

    def forward(self, code: Tensor, style: Tensor) -> Translation:
        """Codes (N, 4C, H, W), styles (N, style_size) -> pictures (N, 3, 4H, 4W)."""
        numbers = self.norms(style).chunk(4 * len(self.blocks), 1)
        return self.painted(code, [numbers[4 * i : 4 * i + 4] for i in range(len(self.blocks))])

    def norms(self, style: Tensor) -> Tensor:
        """Styles (N, style_size) -> shift and scale of every channel of every norm, (N, 16C * blocks)."""
        first, *others = self.mlp
        x: Tensor = first(style)
        for layer in others:
            x = layer(F.relu(x))
        return x


class StyledTranslator(StyledNetwork):
    """Paints in one domain what is in a picture of the other, in a style."""

    style_size = STYLE_SIZE

    def __init__(self, encoder: Network, decoder: Network) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def styled(self, x: Tensor, style: Tensor) -> Translation:
        """See `StyledNetwork`; H and W are multiples of 4, at least 8."""
        content = self.encoder(x)
        painted: Translation = self.decoder(content, sent(style, content.device).to(content.dtype))
        return painted


class MUNITStep(CodeStep):
    """Updates MUNIT's networks with one batch; see `CodeStep`.

    Losses are `reconstruction_a`, `content_a`, `style_a`, `cycle_a`, `g_patch_a`, `d_patch_a` and those of b; cycle
    only where it has a weight.
    """

    def draw(self, real: Mapping[Domain, Tensor], random: torch.Generator) -> Draws:
        """Styles of translations into both domains, into a first."""

        def styles() -> dict[Direction, Tensor]:
            return {way: random_codes((len(real[TARGET[way]]), STYLE_SIZE), random) for way in reversed(DIRECTIONS)}

        return Draws(styles(), styles(), {})

    def encode(self, domain: Domain, x: Tensor) -> Codes:
        """Content code and style."""
        return self.network(domain, "encoder")(x), self.network(domain, "style")(x)

    def translate(self, direction: Direction, codes: Codes, drawn: Tensor) -> Tensor:
        """What the target's decoder paints from the content code in a drawn style."""
        return self._painted(TARGET[direction], codes[0], sent(drawn, codes[0].device).to(codes[0].dtype))

    def reconstruct(self, direction: Direction, x: Tensor, codes: Codes, draws: Draws) -> Losses:  # noqa: ARG002
        """The picture itself."""
        domain = SOURCE[direction]
        losses = {f"reconstruction_{domain}": identity_loss(self._painted(domain, *codes), x)}
        backward(losses, [self.recipe.reconstruction_weight])
        return losses

    def go_back(self, direction: Direction, x: Tensor, codes: Codes, fake: Tensor, draws: Draws) -> Losses:
        """Content code and style of the translation, and the cycle, in the picture's own style."""
        source, target, recipe = SOURCE[direction], TARGET[direction], self.recipe
        content, style = self.encode(target, fake)
        # The picture's own code learns, too: it is no fixed goal.
        losses = {
            f"content_{source}": F.l1_loss(content, codes[0]),
            f"style_{target}": F.l1_loss(style, sent(draws.trained[direction], style.device).to(style.dtype)),
        }
        if recipe.cycle_weight:
            losses[f"cycle_{source}"] = cycle_loss(self._painted(source, content, codes[1]), x)
        weights = (recipe.content_weight, recipe.style_weight, recipe.cycle_weight)
        backward(losses, weights[: len(losses)])
        return losses

    def _painted(self, domain: Domain, code: Tensor, style: Tensor) -> Tensor:
        image: Tensor = self.network(domain, "decoder")(code, style).image
        return image


class MUNIT(UNIT):
    """MUNIT: one content, many styles."""

    name = "munit"
    title = "MUNIT"
    source = "Huang et al., ECCV 2018"
    url = "https://arxiv.org/abs/1804.04732"
    citation = """@inproceedings{huang2018multimodal,
  title     = {Multimodal Unsupervised Image-to-Image Translation},
  author    = {Xun Huang and Ming-Yu Liu and Serge Belongie and Jan Kautz},
  booktitle = {European Conference on Computer Vision},
  year      = {2018},
  url       = {https://arxiv.org/abs/1804.04732}
}"""
    config = MUNITConfig
    settings = SETTINGS | {"content_weight", "style_weight"}
    kinds: ClassVar[Mapping[str, Callable[[Any], Network]]] = {
        "encoder": Encoder, "decoder": StyledDecoder, "style": StyleEncoder
    }  # fmt: skip

    def recipe(self, name: RecipeName) -> Recipe:
        """See `code_recipe`; cycle consistency as the authors have it for summer2winter, edges2shoes has 0."""
        return code_recipe(name, content_weight=1.0)

    def translator(self, networks: Mapping[str, Network], direction: Direction) -> Network:
        """The two in a row."""
        encoder, decoder = self.needed(direction)
        return StyledTranslator(networks[encoder], networks[decoder])

    def style_networks(self, direction: Direction) -> tuple[str, ...]:
        """The target's style encoder."""
        return (f"{TARGET[direction]}.style",)

    def style_encoder(self, networks: Mapping[str, Network], direction: Direction) -> Network | None:
        """The target's."""
        return networks[f"{TARGET[direction]}.style"]

    def terms(self, config: BaseConfig, recipe: Recipe) -> tuple[Term, ...]:
        """Reconstruction, codes and cycle, then what the discriminators are about."""
        return tuple(_terms(config, recipe))

    def step(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> Step:
        """See `MUNITStep`."""
        return MUNITStep(networks, recipe, seed=seed, group=group)

    def official(self, states: States, settings: OfficialSettings) -> Official | None:
        """As UNIT's, with style encoders."""
        return official(states, settings, self, "enc_content")


def _terms(config: BaseConfig, recipe: Recipe) -> Iterator[Term]:
    weights = {
        "reconstruction": recipe.reconstruction_weight,
        "content": recipe.content_weight,
        "style": recipe.style_weight,
    } | ({"cycle": recipe.cycle_weight} if recipe.cycle_weight else {})
    for name, weight in weights.items():
        for domain in DOMAINS:
            yield Term(f"{name}_{domain}", name, domain, "generator", weight)
    yield from adversarial_terms(config, recipe)
