"""The smallest method with styles, whose translators are made of parts; and the line in the registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from ugatit_cli.config import DOMAINS, BaseConfig, Direction
from ugatit_cli.device import Group
from ugatit_cli.fields import fields_of
from ugatit_cli.methods import registry
from ugatit_cli.methods.adam import Adam
from ugatit_cli.methods.base import SOURCE, TARGET, Losses, Method, Official, OfficialSettings, States, Step, Term
from ugatit_cli.methods.networks import Networks
from ugatit_cli.methods.recipe import Recipe, RecipeName
from ugatit_cli.methods.registry import METHODS
from ugatit_cli.nn.generator import StyledNetwork, Translation
from ugatit_cli.nn.layers import Network, ZeroConv2d
from ugatit_cli.training import settings as settings_module
from ugatit_cli.weights import official as official_module

STYLE_SIZE = 8


@dataclass(frozen=True, slots=True)
class StyledConfig(BaseConfig):
    """Nothing but styles."""

    method: ClassVar[str] = "styled"

    @property
    def style_size(self) -> int:
        """See `BaseConfig`."""
        return STYLE_SIZE


class Part(Network):
    """Changes colours."""

    def __init__(self, inputs: int = 3, outputs: int = 3) -> None:
        super().__init__()
        self.conv = ZeroConv2d(inputs, outputs, 1, pad=0, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        return self.conv(x.to(self.conv.weight.dtype)).float()  # type: ignore[no-any-return]


class StyleEncoder(Part):
    """The mean colour, mixed."""

    def __init__(self) -> None:
        super().__init__(3, STYLE_SIZE)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 8)."""
        return super().forward(x).mean((2, 3))


class Painter(StyledNetwork):
    """The first numbers of a style are a colour that everything is tinted with."""

    style_size = STYLE_SIZE

    def __init__(self, encoder: Network, decoder: Network) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def styled(self, x: Tensor, style: Tensor) -> Translation:
        """See `StyledNetwork`."""
        content = (x + self.encoder(x)).tanh()
        tint = style[:, :3, None, None].float()
        return Translation((content + self.decoder(content) + 0.3 * tint).tanh())


class StyledStep(Step):
    """Makes mean colours those of the other domain, in a style of a picture of it."""

    def __init__(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> None:
        super().__init__(networks, recipe, seed=seed, group=group)
        self.optimizers = [Adam(networks.translators, recipe, group.average)]

    def losses(self, a: Tensor, b: Tensor, *, step: int) -> Losses:  # noqa: ARG002  # nothing is random
        """See `Step`."""
        losses = {}
        networks, method = self.networks.translators, StyledToy()
        for domain, goal, source in zip(DOMAINS, (a, b), (b, a), strict=True):
            direction: Direction = "b2a" if domain == "a" else "a2b"
            encoder = method.style_encoder(networks, direction)
            image = method.translator(networks, direction)(source, encoder(goal)).image
            losses[f"tint_{domain}"] = (image.mean((0, 2, 3)) - goal.mean((0, 2, 3))).square().mean()
        torch.autograd.backward(list(losses.values()))
        self.update_translators()
        return losses


class StyledToy(Method):
    """Everything that a method with styles has to say."""

    name = "styled"
    title = "Styled"
    source = "these tests"
    url = "https://example.org"
    citation = "@misc{styled}"
    config = StyledConfig
    settings = frozenset(fields_of(Recipe))
    paper_iterations = 10

    def recipe(self, name: RecipeName) -> Recipe:
        """One for all."""
        return Recipe(name, learning_rate=0.02, decay_from=1.0, weight_decay=0.0, ema=0.0)

    def translators(self, config: BaseConfig) -> dict[str, Network]:  # noqa: ARG002
        """Three for each domain."""
        kinds = {"encoder": Part, "decoder": Part, "style": StyleEncoder}
        return {f"{domain}.{name}": kind() for domain in DOMAINS for name, kind in kinds.items()}

    def critics(self, config: BaseConfig) -> dict[str, Network]:  # noqa: ARG002
        """None."""
        return {}

    def needed(self, direction: Direction) -> tuple[str, ...]:
        """The source's encoder and the target's decoder."""
        return f"{SOURCE[direction]}.encoder", f"{TARGET[direction]}.decoder"

    def translator(self, networks: Mapping[str, Network], direction: Direction) -> Network:
        """See `Painter`."""
        encoder, decoder = (networks[name] for name in self.needed(direction))
        return Painter(encoder, decoder)

    def style_networks(self, direction: Direction) -> tuple[str, ...]:
        """The target's."""
        return (f"{TARGET[direction]}.style",)

    def style_encoder(self, networks: Mapping[str, Network], direction: Direction) -> Network:
        """The target's."""
        return networks[f"{TARGET[direction]}.style"]

    def terms(self, config: BaseConfig, recipe: Recipe) -> tuple[Term, ...]:  # noqa: ARG002
        """One for each domain."""
        return tuple(Term(f"tint_{domain}", "tint", domain, "generator", 1.0) for domain in DOMAINS)

    def step(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> Step:
        """See `StyledStep`."""
        return StyledStep(networks, recipe, seed=seed, group=group)

    def official(self, states: States, settings: OfficialSettings) -> Official | None:  # noqa: ARG002
        """There are none."""
        return None


@pytest.fixture
def styled(monkeypatch: pytest.MonkeyPatch) -> StyledConfig:
    """The line in the registry; and a config."""
    methods = MappingProxyType({**METHODS, "styled": f"{__name__}:StyledToy"})
    for module in (registry, settings_module, official_module):
        monkeypatch.setattr(module, "METHODS", methods)
    return StyledConfig("flat", "clay", 16, channels=4, blocks=1)
