"""CycleGAN (Zhu et al., ICCV 2017): residual generators, 70x70 PatchGANs, a pool of earlier translations.

Numbers are those of the authors' PyTorch code, layer by layer. Biases before an instance norm are left out, since the
norm takes them out again: of 11,378,179 parameters a generator keeps 11,372,931, of 2,764,737 a discriminator
2,763,841. With rounding for their gradient, Adam would make them drift by up to its learning rate a step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ugatit_cli.config import DIRECTIONS, DOMAINS, BaseConfig, Direction, Domain, Ways
from ugatit_cli.device import Group
from ugatit_cli.methods.adam import Adam
from ugatit_cli.methods.base import (
    OTHER,
    SOURCE,
    TARGET,
    Losses,
    Method,
    Official,
    OfficialSettings,
    States,
    Step,
    Term,
    random_numbers,
    sum_of,
)
from ugatit_cli.methods.configs import CycleGANConfig
from ugatit_cli.methods.losses import cycle_loss, identity_loss, lsgan_loss
from ugatit_cli.methods.networks import Networks, Unfit, check_known
from ugatit_cli.methods.pool import PooledStep
from ugatit_cli.methods.recipe import COMMON, Recipe, RecipeName
from ugatit_cli.nn.generator import Translation
from ugatit_cli.nn.layers import (
    Convolution,
    Network,
    ReflectConv2d,
    ToRGB,
    TransposedConv2d,
    ZeroConv2d,
    padding,
    widened,
)
from ugatit_cli.nn.normalization import InstanceNorm

SLOPE = 0.2
POOL_SIZE = 50
# The discriminators' loss counts half (section 7.1), which slows them down beside the generators.
DISCRIMINATOR_SHARE = 0.5
EPOCHS = 200

State = Mapping[str, Tensor]


class ConvNorm(nn.Module):
    """Convolution, instance norm, ReLU."""

    def __init__(self, conv: Convolution, outputs: int, *, affine: bool = False) -> None:
        super().__init__()
        self.conv = conv
        self.norm = InstanceNorm(outputs, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H', W')."""
        out: Tensor = self.norm(self.conv(x))
        return out.relu_()


class ResidualBlock(nn.Module):
    """Two convolutions with instance norm, and the input on top; nothing after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(ReflectConv2d(channels, channels, 3, pad=padding(1)), channels)
        self.conv = ReflectConv2d(channels, channels, 3, pad=padding(1))
        self.norm = InstanceNorm(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        out: Tensor = self.norm(self.conv(self.first(x)))
        return out.add_(x)


class ResidualGenerator(Network):
    """Translates pictures, of any height and width that are multiples of 4 and at least 8 (section 7.2)."""

    def __init__(self, config: CycleGANConfig) -> None:
        super().__init__()
        c = config.channels
        self.stem = ConvNorm(ReflectConv2d(3, c, 7, pad=padding(3)), c)
        self.down = nn.Sequential(
            ConvNorm(ZeroConv2d(c, 2 * c, 3, pad=1, stride=2), 2 * c),
            ConvNorm(ZeroConv2d(2 * c, 4 * c, 3, pad=1, stride=2), 4 * c),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(4 * c) for _ in range(config.blocks)))
        self.up = nn.Sequential(
            ConvNorm(TransposedConv2d(4 * c, 2 * c), 2 * c), ConvNorm(TransposedConv2d(2 * c, c), c)
        )
        self.to_rgb = ToRGB(c, bias=True)

    def forward(self, x: Tensor) -> Translation:
        """(N, 3, H, W) float in [-1, 1] -> a picture of the same size."""
        x = x.to(self.compute_dtype or self.stem.conv.weight.dtype)
        x = self.down(self.stem(x))  # (N, 4C, H/4, W/4)
        for block in (*self.blocks, *self.up):
            x = self.run_block(block, x)  # (N, C, H, W) in the end
        image = self.to_rgb(x)  # (N, 3, H, W)
        return Translation(image.to(widened(image.dtype)).tanh())


class PatchLayer(nn.Module):
    """4x4 convolution with zero padding, instance norm but in the first layer, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, first: bool = False) -> None:
        super().__init__()
        self.conv = ZeroConv2d(inputs, outputs, 4, pad=1, stride=stride, bias=first)
        self.norm = None if first else InstanceNorm(outputs, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H', W')."""
        x = self.conv(x)
        return F.leaky_relu(x if self.norm is None else self.norm(x), SLOPE, inplace=True)


class PatchDiscriminator(Network):
    """Tells pictures of a domain from translations into it, by patches of 70x70 pixels; takes 24x24 or more."""

    def __init__(self, config: CycleGANConfig) -> None:
        super().__init__()
        c = config.discriminator_channels
        self.layers = nn.Sequential(
            PatchLayer(3, c, stride=2, first=True),
            PatchLayer(c, 2 * c, stride=2),
            PatchLayer(2 * c, 4 * c, stride=2),
            PatchLayer(4 * c, 8 * c, stride=1),
        )
        self.head = ZeroConv2d(8 * c, 1, 4, pad=1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) float in [-1, 1] -> scores (N, 1, H/8 - 2, W/8 - 2), 1 for real; H/8 is rounded down."""
        x = x.to(self.compute_dtype or self.head.weight.dtype)
        scores: Tensor = self.head(self.layers(x))
        return scores.to(widened(scores.dtype))


class CycleGANStep(PooledStep):
    """Updates the networks with one batch: both generators, then both discriminators; see `Step`.

    The same numbers as the official step, without its waste: one direction is finished before the other begins, and
    what the other generator makes of a translation and of its source goes through it together, so that at most three
    generator passes are in memory instead of six. Discriminators get no gradients in the generators' phase, and real
    and translated pictures go through them together.

    Losses are `g_patch_a`, `d_patch_a`, `cycle_a`, `identity_a` and those of b; identity only where it has a weight.
    """

    def __init__(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> None:
        super().__init__(networks, recipe, seed=seed, group=group)
        self.discriminator_optimizer = Adam(networks.critics, recipe, group.average, eager=True)
        self.optimizers = [Adam(networks.translators, recipe, group.average), self.discriminator_optimizer]

    def losses(self, a: Tensor, b: Tensor, *, step: int) -> Losses:
        """Updates all weights once; see `Step`."""
        real: dict[Domain, Tensor] = {"a": a, "b": b}
        fakes: dict[Domain, Tensor] = {}
        losses: Losses = {}
        random = random_numbers(self.seed, step, self.group.rank)
        for direction in DIRECTIONS:
            fakes[TARGET[direction]], ours = self._translate(direction, real, random)
            losses |= ours
        self.update_translators()
        self.pools.start(self.seed, step)
        for domain, fake in fakes.items():
            pooled = self.pools.query(domain, fake, self.group)
            losses |= self._judge(domain, real[domain], pooled, random)
        self.discriminator_optimizer.step()
        return losses

    def _translate(
        self, direction: Direction, real: Mapping[Domain, Tensor], random: torch.Generator
    ) -> tuple[Tensor, Losses]:
        """Translates, and adds up the gradients of a direction's generator losses."""
        source, target = real[SOURCE[direction]], TARGET[direction]
        image: Tensor = self.networks.translators[direction](source).image
        # A leaf: the graphs of what judges the translation end here, and their gradients meet here.
        fake = image.detach().requires_grad_()
        critic = self.networks.critics[target].requires_grad_(False)
        losses = {f"g_patch_{target}": lsgan_loss(critic(self.augmented(fake, random)), real=True)}
        torch.autograd.backward(self.recipe.adversarial_weight * losses[f"g_patch_{target}"])
        losses |= self._cycle_and_identity(direction, source, fake)
        torch.autograd.backward(image, fake.grad)
        return fake.detach(), losses

    def _cycle_and_identity(self, direction: Direction, source: Tensor, fake: Tensor) -> Losses:
        """Adds the gradients of what the other generator makes of a translation and of its source, in one pass."""
        recipe, domain = self.recipe, SOURCE[direction]
        pictures = torch.cat([fake, source]) if recipe.identity_weight else fake
        back, *same = self.networks.translators[OTHER[direction]](pictures).image.split(len(fake))
        losses = {f"cycle_{domain}": cycle_loss(back, source)}
        losses |= {f"identity_{domain}": identity_loss(one, source) for one in same}
        weights = (recipe.cycle_weight, recipe.identity_weight)
        torch.autograd.backward(sum_of(weight * loss for weight, loss in zip(weights, losses.values(), strict=False)))
        return losses

    def _judge(self, domain: Domain, real: Tensor, fake: Tensor, random: torch.Generator) -> Losses:
        """Adds the gradients of a discriminator's loss."""
        critic = self.networks.critics[domain].requires_grad_()
        pictures = torch.cat([self.augmented(real, random), self.augmented(fake, random)])
        of_real, of_fake = critic(pictures).chunk(2)
        loss = lsgan_loss(of_real, real=True) + lsgan_loss(of_fake, real=False)
        torch.autograd.backward(DISCRIMINATOR_SHARE * self.recipe.adversarial_weight * loss)
        return {f"d_patch_{domain}": loss}


def _terms(recipe: Recipe) -> Iterator[Term]:
    for domain in DOMAINS:
        yield Term(f"cycle_{domain}", "cycle", domain, "generator", recipe.cycle_weight)
        if recipe.identity_weight:
            yield Term(f"identity_{domain}", "identity", domain, "generator", recipe.identity_weight)
        weight = recipe.adversarial_weight
        yield Term(f"g_patch_{domain}", "adversarial", domain, "generator", weight)
        yield Term(f"d_patch_{domain}", "adversarial", domain, "discriminator", DISCRIMINATOR_SHARE * weight)


class CycleGAN(Method):
    """CycleGAN: there and back is the same picture."""

    name = "cyclegan"
    title = "CycleGAN"
    source = "Zhu et al., ICCV 2017"
    url = "https://arxiv.org/abs/1703.10593"
    citation = """@inproceedings{zhu2017unpaired,
  title     = {Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks},
  author    = {Jun-Yan Zhu and Taesung Park and Phillip Isola and Alexei A. Efros},
  booktitle = {IEEE International Conference on Computer Vision},
  year      = {2017},
  url       = {https://arxiv.org/abs/1703.10593}
}"""
    config = CycleGANConfig
    settings = COMMON | {
        *("epochs", "epoch_decay", "bicubic", "order"),
        *("cycle_weight", "identity_weight", "pool_size"),
    }
    paper_iterations = 200_000

    def recipe(self, name: RecipeName) -> Recipe:
        """`paper` is the authors' training; `default` adds U-GAT-IT's moving average and augmentation to it."""
        authors: dict[str, Any] = {"weight_decay": 0.0, "identity_weight": 5.0, "pool_size": POOL_SIZE}
        if name == "paper":
            plain: dict[str, Any] = {"ema": 0.0, "augment": "off", "fit": "squash", "bicubic": True}
            return Recipe("paper", **authors, **plain, epochs=EPOCHS, order="drawn-b")
        return Recipe(**authors)

    def translators(self, config: BaseConfig) -> dict[str, Network]:
        """The generators of the directions that there are."""
        assert isinstance(config, CycleGANConfig)
        return {direction: ResidualGenerator(config) for direction in config.directions}

    def critics(self, config: BaseConfig) -> dict[str, Network]:
        """The discriminators of the domains that generators lead to."""
        assert isinstance(config, CycleGANConfig)
        return {TARGET[direction]: PatchDiscriminator(config) for direction in config.directions}

    def terms(self, config: BaseConfig, recipe: Recipe) -> tuple[Term, ...]:  # noqa: ARG002  # all sizes have the same
        """Cycle and identity, then what the discriminators are about."""
        return tuple(_terms(recipe))

    def step(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> Step:
        """See `CycleGANStep`."""
        return CycleGANStep(networks, recipe, seed=seed, group=group)

    def official(self, states: States, settings: OfficialSettings) -> Official | None:
        """The generators of `latest_net_G*.pth`: one, or `G_A` and `G_B`; with `D_A` and `D_B` where both are there.

        Also those trained with dropout, and old files with buffers in their instance norms. A single generator is
        that of a model from A to B; without names its domains are A and B.
        """
        generators = [states[key] for key in ("", "G_A", "G_B") if key in states]
        if any(U_NET.match(name) for state in generators for name in state):
            raise Unfit("a U-Net generator (as pix2pix has it); residual ones are known")
        if not any(BLOCK.fullmatch(name) for state in generators for name in state):
            return None
        if any("model.2.weight" in state for state in generators):
            raise Unfit("its norms have weights (as batch norms have them); instance norms without are known")
        critics = {"b": states["D_A"], "a": states["D_B"]} if {"D_A", "D_B"} <= set(states) else {}
        if len(generators) == 1:
            critics = {}  # which can't go on training without the other generator
        config = _inferred(generators, critics, settings)
        translators = {
            f"{direction}.{name}": tensor
            for direction, state in zip(DIRECTIONS, generators, strict=False)
            for name, tensor in _generator_tensors(state, config).items()
        }
        judges = {
            f"{domain}.{name}": tensor
            for domain, state in critics.items()
            for name, tensor in _discriminator_tensors(state, config).items()
        }
        return Official(config, translators, judges or None, settings.notes(config, judged=bool(critics)))


BLOCK = re.compile(r"model\.(\d+)\.conv_block\.\d+\.weight")
U_NET = re.compile(r"model\.model\.\d")
# Of instance norms that once kept statistics; no network uses them.
BUFFER = re.compile(r"\.(running_mean|running_var|num_batches_tracked)$")


def _inferred(
    generators: Sequence[State], critics: Mapping[str, State], settings: OfficialSettings
) -> CycleGANConfig:
    sizes: dict[str, Any] = {
        "channels": generators[0]["model.1.weight"].shape[0],
        "blocks": len({match[1] for name in generators[0] if (match := BLOCK.fullmatch(name))}),
    }
    if critics:
        sizes["discriminator_channels"] = critics["b"]["model.0.weight"].shape[0]
    ways: Ways = "both" if len(generators) == 2 else "a2b"
    return CycleGANConfig(image_size=settings.image_size or 256, ways=ways, **sizes, **settings.fields())


def _generator_tensors(state: State, config: CycleGANConfig) -> dict[str, Tensor]:
    last = 10 + config.blocks
    # With dropout between the two, the second convolution of a block comes one layer later.
    second = 6 if "model.10.conv_block.6.weight" in state else 5
    modules = {"stem.conv": "model.1", "down.0.conv": "model.4", "down.1.conv": "model.7"}
    for i in range(config.blocks):
        modules[f"blocks.{i}.first.conv"] = f"model.{10 + i}.conv_block.1"
        modules[f"blocks.{i}.conv"] = f"model.{10 + i}.conv_block.{second}"
    modules |= {"up.0.conv": f"model.{last}", "up.1.conv": f"model.{last + 3}", "to_rgb": f"model.{last + 7}"}
    with torch.device("meta"):
        return _tensors(state, ResidualGenerator(config), modules)


def _discriminator_tensors(state: State, config: CycleGANConfig) -> dict[str, Tensor]:
    modules = {f"layers.{i}.conv": f"model.{number}" for i, number in enumerate((0, 2, 5, 8))}
    with torch.device("meta"):
        return _tensors(state, PatchDiscriminator(config), modules | {"head": "model.11"})


def _tensors(state: State, network: nn.Module, modules: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of a network's convolutions by our names, from those of official modules.

    Raises:
        KeyError: one is missing.
        Unfit: one has another shape, or there are others.
    """
    found: dict[str, Tensor] = {}
    known: set[str] = set()
    for ours, theirs in modules.items():
        conv = network.get_submodule(ours)
        assert isinstance(conv, Convolution)
        outputs = conv.weight.shape[1 if isinstance(conv, TransposedConv2d) else 0]
        weight, bias = state[f"{theirs}.weight"], state[f"{theirs}.bias"]
        if (weight.shape, bias.shape) != (conv.weight.shape, (outputs,)):
            raise Unfit(
                f"{theirs} has shapes {tuple(weight.shape)}, {tuple(bias.shape)}, not {tuple(conv.weight.shape)}"
            )
        found[f"{ours}.weight"] = weight
        if conv.bias is not None:
            found[f"{ours}.bias"] = bias
        known |= {f"{theirs}.weight", f"{theirs}.bias"}
    check_known((name for name in state if not BUFFER.search(name)), known)
    return found
