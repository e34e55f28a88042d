"""AGGAN (Mejjati et al., NeurIPS 2018): a mask says where a picture is translated; the rest of it stays as it is.

Numbers are those of the authors' TensorFlow code, layer by layer, with what it does rather than what it means: the
attention network ends in 1x1 convolutions. These, instance norms and a sigmoid give the same before and after pixels
are repeated; so all of it happens at a quarter of the size, and the mask is enlarged at the end.

Biases before an instance norm are left out, since the norm takes them out again: a generator and its attention keep
2,956,868 of 2,959,812 parameters. Those of discriminators come into use when their norms go, and rest until then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ugatit_cli.config import DOMAINS, BaseConfig, Direction, Domain
from ugatit_cli.device import Group
from ugatit_cli.methods.adam import Adam, Clock
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
)
from ugatit_cli.methods.configs import AGGANConfig
from ugatit_cli.methods.cyclegan import DISCRIMINATOR_SHARE, POOL_SIZE, SLOPE, ConvNorm
from ugatit_cli.methods.losses import cycle_loss, lsgan_loss
from ugatit_cli.methods.networks import Networks, Unfit, check_known
from ugatit_cli.methods.pool import PooledStep
from ugatit_cli.methods.recipe import COMMON, Recipe, RecipeName
from ugatit_cli.nn.generator import Translation
from ugatit_cli.nn.layers import (
    INIT_STD,
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

# In the second phase discriminators see what the mask has at least so much of.
THRESHOLD = 0.1
EPOCHS = 100
# Updates in a step, all of which one optimizer of TensorFlow counts.
UPDATES = 4


# --- Networks ------------------------------------------------------------------------------------------


class SameConv2d(ZeroConv2d):
    """3x3 convolution of stride 2 as TensorFlow's SAME pads it: by zeros to the right and below alone."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, pad=0, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/2, W/2)."""
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class SameTransposedConv2d(TransposedConv2d):
    """The transpose of `SameConv2d`; its kernel as a 4x4 one, lest rows and columns have to be cut off."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, 2H, 2W)."""
        kernel = F.pad(self.weight.to(x.dtype), (1, 0, 1, 0))
        return F.conv_transpose2d(x, kernel, None, self.stride, padding=1)


class ResidualBlock(nn.Module):
    """Two convolutions with instance norm, the input on top, ReLU.

    Args:
        conv: makes the convolutions.
    """

    def __init__(self, channels: int, conv: Callable[[int, int], Convolution]) -> None:
        super().__init__()
        self.first = _layer(conv(channels, channels), channels)
        self.conv = conv(channels, channels)
        self.norm = InstanceNorm(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        out: Tensor = self.norm(self.conv(self.first(x)))
        return out.add_(x).relu_()


def _layer(conv: Convolution, outputs: int) -> ConvNorm:
    return ConvNorm(conv, outputs, affine=True)


class AttentionNetwork(nn.Module):
    """Says where a picture shows what is to be translated."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.stem = _layer(ReflectConv2d(3, c, 7, pad=padding(3), stride=2), c)
        self.down = _layer(SameConv2d(c, 2 * c), 2 * c)
        self.block = ResidualBlock(2 * c, lambda i, o: ReflectConv2d(i, o, 3, pad=padding(1)))
        self.up = nn.Sequential(
            _layer(ZeroConv2d(2 * c, 2 * c, 1, pad=0), 2 * c), _layer(ZeroConv2d(2 * c, c, 1, pad=0), c)
        )
        self.head = ZeroConv2d(c, 1, 1, pad=0, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> mask (N, 1, H/4, W/4) in [0, 1], each number for 4x4 pixels."""
        x = self.head(self.up(self.block(self.down(self.stem(x)))))
        return x.to(widened(x.dtype)).sigmoid()


class AttentionGuidedGenerator(Network):
    """Translates pictures, of any height and width that are multiples of 4 and at least 8, where its mask says so."""

    def __init__(self, config: AGGANConfig) -> None:
        super().__init__()
        c = config.channels
        self.attention = AttentionNetwork(c)
        self.stem = _layer(ZeroConv2d(3, c, 7, pad=3), c)
        self.down = nn.Sequential(_layer(SameConv2d(c, 2 * c), 2 * c), _layer(SameConv2d(2 * c, 4 * c), 4 * c))
        self.blocks = nn.Sequential(
            *(ResidualBlock(4 * c, lambda i, o: ZeroConv2d(i, o, 3, pad=1)) for _ in range(config.blocks))
        )
        self.up = nn.Sequential(
            _layer(SameTransposedConv2d(4 * c, 2 * c), 2 * c), _layer(SameTransposedConv2d(2 * c, c), c)
        )
        self.to_rgb = ToRGB(c, bias=True, zeros=True)
        _start_as_tensorflow(self)

    def forward(self, x: Tensor) -> Translation:
        """(N, 3, H, W) float in [-1, 1] -> a picture of the same size, and the mask as its heatmap."""
        image, mask = self.foreground(x), self.attention(self._typed(x))
        return Translation(torch.addcmul(x.to(image.dtype), enlarged(mask), image - x), heatmap=mask)

    def foreground(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) float in [-1, 1] -> the picture whose part within the mask is used."""
        x = self.down(self.stem(self._typed(x)))  # (N, 4C, H/4, W/4)
        for block in (*self.blocks, *self.up):
            x = self.run_block(block, x)  # (N, C, H, W) in the end
        image: Tensor = self.to_rgb(x)  # (N, 3, H, W)
        return image.to(widened(image.dtype)).tanh()

    def _typed(self, x: Tensor) -> Tensor:
        return x.to(self.compute_dtype or self.stem.conv.weight.dtype)


def enlarged(mask: Tensor) -> Tensor:
    """(N, 1, h, w) -> (N, 1, 4h, 4w): each number for its 4x4 pixels."""
    return F.interpolate(mask, scale_factor=4.0, mode="nearest")


class PatchLayer(nn.Module):
    """4x4 convolution with zero padding, in the first phase instance norm, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.conv = ZeroConv2d(inputs, outputs, 4, pad=2, stride=stride, bias=True)
        self.norm = InstanceNorm(outputs, affine=True)

    def forward(self, x: Tensor, *, normed: bool) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H', W')."""
        x = self.conv(x)
        return F.leaky_relu(self.norm(x) if normed else x, SLOPE, inplace=True)


class MaskedPatchDiscriminator(Network):
    """Tells pictures of a domain from translations into it, by their patches within a mask."""

    def __init__(self, config: AGGANConfig) -> None:
        super().__init__()
        c = config.discriminator_channels
        self.layers = nn.ModuleList(
            PatchLayer(inputs, outputs, stride=stride)
            for inputs, outputs, stride in ((3, c, 2), (c, 2 * c, 2), (2 * c, 4 * c, 2), (4 * c, 8 * c, 1))
        )
        self.head = ZeroConv2d(8 * c, 1, 4, pad=2, bias=True)
        _start_as_tensorflow(self)

    def forward(self, x: Tensor, *, normed: bool = False) -> Tensor:
        """Judges patches.

        Args:
            x: (N, 3, H, W) float in [-1, 1], times the mask in the second phase.
            normed: as in the first phase.

        Returns:
            Scores (N, 1, H', W'), 1 for real; of 256 pixels a side 35.
        """
        x = x.to(self.compute_dtype or self.head.weight.dtype)
        for layer in self.layers:
            x = layer(x, normed=normed)
        scores: Tensor = self.head(x)
        return scores.to(widened(scores.dtype))


@torch.no_grad()
def _start_as_tensorflow(network: nn.Module) -> None:
    """Draws weights and norms' scales from normal distributions that end at twice their deviation."""
    for module in network.modules():
        mean, weight = (
            (1.0, module.gamma) if isinstance(module, InstanceNorm) else (0.0, getattr(module, "weight", None))
        )
        if isinstance(weight, Tensor) and not weight.is_meta:
            nn.init.trunc_normal_(weight, mean, INIT_STD, mean - 2 * INIT_STD, mean + 2 * INIT_STD)


# --- Training ------------------------------------------------------------------------------------------


class AGGANStep(PooledStep):
    """Updates the networks with one batch: generator A to B, its judge, generator B to A, its judge; see `Step`.

    Until the recipe's `attention_share` of the training, attention is trained along with its generator, and
    discriminators see whole pictures through instance norms. Then attention rests, and they see what lies within
    masks, without norms.

    The same numbers as the official step, which translates eight times: what the second generator makes of its
    picture serves the first one's cycle, too, since it hasn't changed by then. Networks that rest get no gradients,
    and at most three translations are in memory for theirs.

    Losses are `cycle_a`, the mean of what it is for either generator, `g_patch_a`, `d_patch_a`, and those of b.
    """

    def __init__(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> None:
        super().__init__(networks, recipe, seed=seed, group=group)
        self.clock = Clock()
        self.discriminator_optimizer = Adam(networks.critics, recipe, group.average, eager=True, clock=self.clock)
        self.optimizers = [Adam(networks.translators, recipe, group.average, clock=self.clock)]
        self.optimizers.append(self.discriminator_optimizer)

    def copiers(self) -> list[Callable[[Tensor], Tensor]]:
        """The generators without their masks, which would learn to close; see `Step`."""
        return [generator.foreground for generator in self.networks.translators.values()]

    def update_translators(self) -> None:
        """Updates the generators in the warm-up; see `Step`."""
        self.clock.updates = self.copied + 1
        super().update_translators()

    def losses(self, a: Tensor, b: Tensor, *, step: int) -> Losses:
        """Updates all weights once; see `Step`."""
        self.attending = self.progress < self.recipe.attention_share
        self.clock.updates = UPDATES * (step - self.copied)
        self._random = random_numbers(self.seed, step, self.group.rank)
        self.pools.start(self.seed, step)
        real: dict[Domain, Tensor] = {"a": a, "b": b}
        a2b, b2a = (self.networks.translators[direction] for direction in ("a2b", "b2a"))
        for generator in (a2b, b2a):
            self._trained(generator)
        back: Translation = b2a(b)
        first = self._half("a2b", real, partial(a2b, a), back)
        with torch.no_grad():
            there: Translation = a2b(a)
        second = self._half("b2a", real, lambda: back, there)
        cycles = {name: (first[name] + second[name]) / 2 for name in ("cycle_a", "cycle_b")}
        return first | second | cycles

    def _trained(self, generator: Network) -> None:
        generator.requires_grad_()
        generator.attention.requires_grad_(self.attending)

    def _half(
        self,
        direction: Direction,
        real: Mapping[Domain, Tensor],
        translate: Callable[[], Translation],
        other: Translation,
    ) -> Losses:
        """Updates a generator, then the discriminator of its translations.

        Args:
            translate: gives the translation of the direction.
            other: that of the other direction.
        """
        source, target = SOURCE[direction], TARGET[direction]
        ours, theirs = self.networks.translators[direction], self.networks.translators[OTHER[direction]]
        self._trained(ours)
        theirs.requires_grad_(False)
        losses = self._cycle(target, ours, other.image.detach(), real[target])
        translation = translate()
        # A leaf: the graphs of what judges the translation end here, and their gradients meet here.
        fake, mask = translation.image.detach().requires_grad_(), _mask(translation)
        losses |= self._adversarial(target, fake, mask) | self._cycle(source, theirs, fake, real[source])
        torch.autograd.backward(translation.image, fake.grad)
        self.clock.updates += 1
        self.optimizers[0].step()
        pairs = self.pools.query(target, torch.cat([fake.detach(), mask], 1), self.group)
        self.clock.updates += 1
        return losses | self._judge(target, torch.cat([real[target], _mask(other)], 1), pairs)

    def _cycle(self, domain: Domain, generator: Network, translated: Tensor, picture: Tensor) -> Losses:
        """Adds the gradients of a translation's way back."""
        loss = cycle_loss(generator(translated).image, picture)
        torch.autograd.backward(self.recipe.cycle_weight * loss)
        return {f"cycle_{domain}": loss.detach()}

    def _adversarial(self, domain: Domain, fake: Tensor, mask: Tensor) -> Losses:
        """Adds the gradients of what a discriminator says to those of a translation."""
        critic = self.networks.critics[domain].requires_grad_(False)
        loss = lsgan_loss(critic(self._seen(fake, mask), normed=self.attending), real=True)
        torch.autograd.backward(self.recipe.adversarial_weight * loss)
        return {f"g_patch_{domain}": loss.detach()}

    def _judge(self, domain: Domain, real: Tensor, fake: Tensor) -> Losses:
        """Updates a discriminator by pictures with their masks, (N, 4, H, W) each."""
        critic = self.networks.critics[domain].requires_grad_()
        for layer in critic.layers:
            if self.attending:
                layer.conv.bias.requires_grad_(False)
            else:
                # TensorFlow's are zeros, not missing: what the last steps were like moves weights on.
                for weight in layer.norm.parameters():
                    weight.grad = torch.zeros_like(weight)
        pictures = torch.cat([self._seen(one[:, :3], one[:, 3:]) for one in (real, fake)])
        of_real, of_fake = critic(pictures, normed=self.attending).chunk(2)
        loss = lsgan_loss(of_real, real=True) + lsgan_loss(of_fake, real=False)
        torch.autograd.backward(DISCRIMINATOR_SHARE * self.recipe.adversarial_weight * loss)
        self.discriminator_optimizer.step()
        return {f"d_patch_{domain}": loss.detach()}

    def _seen(self, picture: Tensor, mask: Tensor) -> Tensor:
        """What a discriminator sees of a picture."""
        seen = picture if self.attending else picture * (mask >= THRESHOLD)
        return self.augmented(seen, self._random)


def _mask(translation: Translation) -> Tensor:
    """(N, 1, H, W), without a gradient."""
    assert translation.heatmap is not None
    return enlarged(translation.heatmap.detach())


def _terms(recipe: Recipe) -> Iterator[Term]:
    for domain in DOMAINS:
        # Both generators learn by both cycles.
        yield Term(f"cycle_{domain}", "cycle", domain, "generator", 2 * recipe.cycle_weight)
        weight = recipe.adversarial_weight
        yield Term(f"g_patch_{domain}", "adversarial", domain, "generator", weight)
        yield Term(f"d_patch_{domain}", "adversarial", domain, "discriminator", DISCRIMINATOR_SHARE * weight)


class AGGAN(Method):
    """AGGAN: attention says what to translate, and the background stays."""

    name = "aggan"
    title = "AGGAN"
    source = "Mejjati et al., NeurIPS 2018"
    url = "https://arxiv.org/abs/1806.02311"
    citation = """@inproceedings{mejjati2018unsupervised,
  title     = {Unsupervised Attention-guided Image-to-Image Translation},
  author    = {Youssef Alami Mejjati and Christian Richardt and James Tompkin and Darren Cosker and Kwang In Kim},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2018},
  url       = {https://arxiv.org/abs/1806.02311}
}"""
    config = AGGANConfig
    settings = COMMON | {"epochs", "epoch_decay", "cycle_weight", "pool_size", "attention_share"}
    paper_iterations = 100_000

    def recipe(self, name: RecipeName) -> Recipe:
        """`paper` is the authors' training; `default` adds U-GAT-IT's moving average and augmentation to it."""
        authors: dict[str, Any] = {"learning_rate": 1e-4, "weight_decay": 0.0, "pool_size": POOL_SIZE}
        if name == "paper":
            plain: dict[str, Any] = {"ema": 0.0, "augment": "off", "fit": "squash"}
            return Recipe("paper", **authors, **plain, epochs=EPOCHS, epoch_decay="aggan")
        return Recipe(**authors)

    def translators(self, config: BaseConfig) -> dict[str, Network]:
        """The generators, with their attention, of the directions that there are."""
        assert isinstance(config, AGGANConfig)
        return {direction: AttentionGuidedGenerator(config) for direction in config.directions}

    def critics(self, config: BaseConfig) -> dict[str, Network]:
        """The discriminators of the domains that generators lead to."""
        assert isinstance(config, AGGANConfig)
        return {TARGET[direction]: MaskedPatchDiscriminator(config) for direction in config.directions}

    def terms(self, config: BaseConfig, recipe: Recipe) -> tuple[Term, ...]:  # noqa: ARG002  # all sizes have the same
        """Cycle, then what the discriminators are about."""
        return tuple(_terms(recipe))

    def step(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> Step:
        """See `AGGANStep`."""
        return AGGANStep(networks, recipe, seed=seed, group=group)

    def official(self, states: States, settings: OfficialSettings) -> Official | None:
        """The variables of the authors' TensorFlow code by their names, kernels (H, W, inputs, outputs)."""
        state = states.get("", {})
        if "Model/g_A/c1/Conv/weights" not in state:
            return None
        judged = any(name.startswith("Model/d_") for name in state)
        config = _inferred(state, settings, judged=judged)
        with torch.device("meta"):
            generator, critic = AttentionGuidedGenerator(config), MaskedPatchDiscriminator(config)
        known = set[str]()
        translators = {
            f"{direction}.{name}": tensor
            for direction, letter in LETTERS.items()
            for name, tensor in _tensors(state, generator, _generator_scopes(config.blocks, letter), known).items()
        }
        judges = {
            f"{domain}.{name}": tensor
            for domain in (DOMAINS if judged else ())
            for name, tensor in _tensors(state, critic, _critic_scopes(domain.upper()), known).items()
        }
        check_known(state, known)
        return Official(config, translators, judges or None, settings.notes(config, judged=judged))


LETTERS: dict[Direction, str] = {"a2b": "A", "b2a": "B"}
BLOCK = re.compile(r"Model/g_A/r\d+/c1/Conv/weights")
PARTS = {"weight": "weights", "bias": "biases", "gamma": "scale", "beta": "offset"}


def _inferred(state: Mapping[str, Tensor], settings: OfficialSettings, *, judged: bool) -> AGGANConfig:
    sizes: dict[str, Any] = {
        "channels": state["Model/g_A/c1/Conv/weights"].shape[3],
        "blocks": sum(1 for name in state if BLOCK.fullmatch(name)),
    }
    if judged:
        sizes["discriminator_channels"] = state["Model/d_A/c1/Conv/weights"].shape[3]
    return AGGANConfig(image_size=settings.image_size or 256, **sizes, **settings.fields())


def _generator_scopes(blocks: int, letter: str) -> dict[str, str]:
    """Our layers of a generator, and the official scopes of their variables."""
    found = {"stem": "c1", "down.0": "c2", "down.1": "c3", "up.0": "c4", "up.1": "c5", "to_rgb": "c6"}
    for i in range(blocks):
        found |= {f"blocks.{i}.first": f"r{i + 1}/c1", f"blocks.{i}": f"r{i + 1}/c2"}
    attention = {"stem": "c1", "down": "c2", "block.first": "r1/c1", "block": "r1/c2"}
    attention |= {"up.0": "c4", "up.1": "c5", "head": "c6"}
    generator = {ours: f"Model/g_{letter}/{theirs}" for ours, theirs in found.items()}
    return generator | {f"attention.{ours}": f"Model/g_{letter}_ae/{theirs}" for ours, theirs in attention.items()}


def _critic_scopes(letter: str) -> dict[str, str]:
    names = {f"layers.{i}": f"c{i + 1}" for i in range(4)} | {"head": "c5"}
    return {ours: f"Model/d_{letter}/{theirs}" for ours, theirs in names.items()}


def _tensors(
    state: Mapping[str, Tensor], network: nn.Module, scopes: Mapping[str, str], known: set[str]
) -> dict[str, Tensor]:
    """A network's tensors by our names; adds the official names of all that it may have to those known.

    Raises:
        KeyError: one is missing.
        Unfit: one has another shape.
    """
    kinds = {ours: "Conv2d_transpose" if ours.startswith("up.") else "Conv" for ours in scopes}
    found: dict[str, Tensor] = {}
    for name, wanted in network.state_dict().items():
        module, _, part = name.rpartition(".")
        layer = re.sub(r"\.(conv|norm)$", "", module)
        theirs = f"{scopes[layer]}/{kinds[layer] if part in ('weight', 'bias') else 'instance_norm'}/{PARTS[part]}"
        tensor = state[theirs]
        tensor = tensor.permute(3, 2, 0, 1).contiguous() if tensor.ndim == 4 else tensor
        if tensor.shape != wanted.shape:
            raise Unfit(f"{theirs} has shape {tuple(state[theirs].shape)}, which is none of {tuple(wanted.shape)}")
        found[name] = tensor
    for ours, scope in scopes.items():
        # Biases that norms take out again, and norms of last layers, are there and aren't used.
        known |= {f"{scope}/{kinds[ours]}/{part}" for part in ("weights", "biases")}
        known |= {f"{scope}/instance_norm/{part}" for part in ("scale", "offset")}
    return found
