"""CartoonGAN: photos to cartoons, one way (Chen et al., CVPR 2018).

The authors never published their training. Networks are those of the weights that Yijunmaverick ported for them; the
training is that of U-GAT-IT's first author (taki0112), but for three things: a step smooths the edges of the cartoons
that it judges as they are, too, instead of others'; the generator learns from the pictures that the discriminator has
just judged, instead of new ones; and the content loss has a network with other weights (see `methods.vgg`).

Biases before an instance norm are left out, since the norm takes them out again, and Adam would make them drift: of
the published generator's 11,129,667 parameters 11,124,931 are kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ugatit_cli.config import BaseConfig
from ugatit_cli.data.edges import edge_smoothed
from ugatit_cli.device import Group, sent
from ugatit_cli.methods.adam import Adam
from ugatit_cli.methods.base import Losses, Method, Official, OfficialSettings, States, Step, Term, random_numbers
from ugatit_cli.methods.configs import CartoonGANConfig
from ugatit_cli.methods.networks import Networks, Unfit, check_known, memory_format
from ugatit_cli.methods.recipe import COMMON, Recipe, RecipeName
from ugatit_cli.methods.vgg import load_vgg
from ugatit_cli.nn.generator import Translation
from ugatit_cli.nn.layers import Network, ReflectConv2d, ToRGB, TransposedConv2d, ZeroConv2d, padding, widened
from ugatit_cli.nn.normalization import InstanceNorm

SLOPE = 0.2
EPS = 1e-9  # of the published weights' generator
OFFICIAL_BLOCKS = 8

Content = Callable[[Tensor], Tensor]
"""Features of pictures (N, 3, H, W) in [-1, 1], float32; differentiable."""


# --- Networks ------------------------------------------------------------------------------------------


def _norm(channels: int) -> InstanceNorm:
    return InstanceNorm(channels, affine=True, eps=EPS)


class Down(nn.Module):
    """A strided convolution and a plain one with nothing between them, instance norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = ZeroConv2d(inputs, outputs, 3, pad=1, stride=2, bias=True)
        self.conv2 = ZeroConv2d(outputs, outputs, 3, pad=1)
        self.norm = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/2, W/2)."""
        out: Tensor = self.norm(self.conv2(self.conv1(x)))
        return out.relu_()


class Block(nn.Module):
    """Residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ReflectConv2d(channels, channels, 3, pad=padding(1))
        self.norm1 = _norm(channels)
        self.conv2 = ReflectConv2d(channels, channels, 3, pad=padding(1))
        self.norm2 = _norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        out: Tensor = self.norm1(self.conv1(x)).relu_()
        out = self.norm2(self.conv2(out))
        return out.add_(x)


class Up(nn.Module):
    """A transposed convolution and a plain one with nothing between them, instance norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = TransposedConv2d(inputs, outputs, bias=True)
        self.conv2 = ZeroConv2d(outputs, outputs, 3, pad=1)
        self.norm = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, 2H, 2W)."""
        out: Tensor = self.norm(self.conv2(self.conv1(x)))
        return out.relu_()


class CartoonGenerator(Network):
    """Translates photos to cartoons (paper section 3.1, figure 2); inside, colours are in the order BGR.

    Takes any height and width that are multiples of 4 and at least 8.
    """

    def __init__(self, config: CartoonGANConfig) -> None:
        super().__init__()
        c = config.channels
        self.stem = ReflectConv2d(3, c, 7, pad=padding(3))
        self.norm = _norm(c)
        self.down = nn.Sequential(Down(c, 2 * c), Down(2 * c, 4 * c))
        self.blocks = nn.ModuleList(Block(4 * c) for _ in range(config.blocks))
        self.up = nn.Sequential(Up(4 * c, 2 * c), Up(2 * c, c))
        self.to_rgb = ToRGB(c, bias=True)

    def forward(self, x: Tensor) -> Translation:
        """Translates.

        Args:
            x: (N, 3, H, W) float RGB in [-1, 1].
        """
        x = x.flip(1).to(self.compute_dtype or self.stem.weight.dtype)
        x = self.norm(self.stem(x)).relu_()  # (N, C, H, W)
        x = self.down(x)  # (N, 4C, H/4, W/4)
        for block in [*self.blocks, *self.up]:
            x = self.run_block(block, x)
        x = self.to_rgb(x)
        return Translation(x.to(widened(x.dtype)).tanh().flip(1))


class CartoonDiscriminator(Network):
    """Tells cartoons from translations and from cartoons without clear edges, patch by patch (paper section 3.1).

    Takes at least 8 pixels a side.
    """

    def __init__(self, config: CartoonGANConfig) -> None:
        super().__init__()
        c = config.discriminator_channels
        # What comes out, the stride, whether a norm follows.
        plan = [
            (c, 1, False),
            (2 * c, 2, False),
            (4 * c, 1, True),
            (4 * c, 2, False),
            (8 * c, 1, True),
            (8 * c, 1, True),
        ]
        widths = [3, *(outputs for outputs, _, _ in plan)]
        self.layers = nn.ModuleList(
            ZeroConv2d(inputs, outputs, 3, pad=1, stride=stride)
            for inputs, (outputs, stride, _) in zip(widths, plan, strict=False)
        )
        self.norms = nn.ModuleList(
            InstanceNorm(outputs, affine=True) if normed else nn.Identity() for outputs, _, normed in plan
        )
        self.head = ZeroConv2d(8 * c, 1, 3, pad=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of "this is a cartoon": (N, 3, H, W) in [-1, 1] -> (N, 1, H/4, W/4) float32."""
        x = x.to(self.compute_dtype or self.head.weight.dtype)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.leaky_relu(norm(layer(x)), SLOPE, inplace=True)
        x = self.head(x)
        return x.to(widened(x.dtype))


# --- Training ------------------------------------------------------------------------------------------


class CartoonGANStep(Step):
    """Updates the networks with one batch; see `Step`.

    In the warm-up the content loss alone teaches the generator to copy photos (paper section 3.3).

    Losses are `d_patch_b` of cartoons and translations, `d_edges_b` of cartoons without clear edges, `g_patch_b`,
    `content_a`.

    Args:
        content: what the content loss compares.
    """

    def __init__(
        self,
        networks: Networks,
        recipe: Recipe,
        *,
        seed: int,
        group: Group,
        content: Content,
    ) -> None:
        super().__init__(networks, recipe, seed=seed, group=group)
        self.content = content
        self.generator, self.discriminator = networks.translators["a2b"], networks.critics["b"]
        self.discriminator_optimizer = Adam(networks.critics, recipe, group.average, eager=True)
        self.optimizers = [Adam(networks.translators, recipe, group.average), self.discriminator_optimizer]
        self.copying_terms = self.terms[:1]

    def copying_losses(self, a: Tensor, b: Tensor) -> Losses:  # noqa: ARG002  # only photos are translated
        """The content loss alone (paper section 3.3); see `Step`."""
        return self._content(self.generator(a).image, a)

    def losses(self, a: Tensor, b: Tensor, *, step: int) -> Losses:
        """Updates all weights once; see `Step`."""
        self._random = random_numbers(self.seed, step, self.group.rank)
        pixels = _pixels(b)  # before a GPU is busy with the translation, which it makes while edges are smoothed
        image = self.generator(a).image
        # A leaf: the graphs of what judges the translation end here, and their gradients meet here.
        fake = image.detach().requires_grad_()
        losses = self._train_discriminator(b, fake.detach(), _smoothed(pixels, b))
        losses |= self._adversarial(fake) | self._content(fake, a)
        torch.autograd.backward(image, fake.grad)
        self.update_translators()
        return losses

    def _train_discriminator(self, real: Tensor, fake: Tensor, smoothed: Tensor) -> Losses:
        self.discriminator.requires_grad_()
        logits = self.discriminator(torch.cat([self.augmented(x, self._random) for x in (real, fake, smoothed)]))
        of_real, of_fake, of_smoothed = logits.chunk(3)
        losses = {
            "d_patch_b": cross_entropy(of_real, real=True) + cross_entropy(of_fake, real=False),
            "d_edges_b": cross_entropy(of_smoothed, real=False),
        }
        torch.autograd.backward(self.recipe.adversarial_weight * (losses["d_patch_b"] + losses["d_edges_b"]))
        self.discriminator_optimizer.step()
        return losses

    def _adversarial(self, fake: Tensor) -> Losses:
        """Adds the gradient of the adversarial loss to that of the translated pictures."""
        self.discriminator.requires_grad_(False)
        loss = cross_entropy(self.discriminator(self.augmented(fake, self._random)), real=True)
        torch.autograd.backward(self.recipe.adversarial_weight * loss)
        return {"g_patch_b": loss}

    def _content(self, image: Tensor, photo: Tensor) -> Losses:
        """Adds the gradient of the content loss (paper section 3.2.2) to that of what the picture comes from."""
        with torch.no_grad():
            goal = self.content(photo)
        loss = F.l1_loss(self.content(image), goal)
        torch.autograd.backward(self.recipe.content_weight * loss)
        return {"content_a": loss}


def _terms(recipe: Recipe) -> tuple[Term, ...]:
    adversarial = recipe.adversarial_weight
    return (
        Term("content_a", "content", "a", "generator", recipe.content_weight),
        Term("g_patch_b", "adversarial", "b", "generator", adversarial),
        Term("d_patch_b", "adversarial", "b", "discriminator", adversarial),
        Term("d_edges_b", "adversarial edges", "b", "discriminator", adversarial),
    )


def cross_entropy(logits: Tensor, *, real: bool) -> Tensor:
    """The adversarial loss (paper section 3.2.1) on logits (N, 1, H, W), mean over all patches."""
    return F.softplus(-logits if real else logits).mean()


def _pixels(pictures: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(N, 3, H, W) in [-1, 1] -> uint8 (N, H, W, 3)."""
    pixels = pictures.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def _smoothed(pixels: np.ndarray[Any, np.dtype[np.uint8]], like: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) -> (N, 3, H, W) in [-1, 1], without clear edges, as float pictures `like` others."""
    smoothed = torch.from_numpy(np.stack([edge_smoothed(picture) for picture in pixels]))
    return sent(smoothed, like.device).permute(0, 3, 1, 2).to(like).div_(127.5).sub_(1)


class CartoonGAN(Method):
    """CartoonGAN: cartoons with clear edges, whose content a VGG19 sees as that of the photos."""

    name = "cartoongan"
    title = "CartoonGAN"
    source = "Chen et al., CVPR 2018"
    url = "https://doi.org/10.1109/CVPR.2018.00986"
    citation = """@inproceedings{chen2018cartoongan,
  title     = {CartoonGAN: Generative Adversarial Networks for Photo Cartoonization},
  author    = {Yang Chen and Yu-Kun Lai and Yong-Jin Liu},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  year      = {2018}
}"""
    config = CartoonGANConfig
    settings = COMMON | {"content_weight", "vgg", "jitter"}
    paper_iterations = 1_000_000

    def recipe(self, name: RecipeName) -> Recipe:
        """`paper` is the port of U-GAT-IT's first author: 10,000 of 1,000,000 steps copy photos."""
        if name == "paper":
            plain = Recipe("paper", ema=0.0, augment="off", flip=False, fit="squash", jitter=False)
            return replace(plain, learning_rate=1e-4, weight_decay=0.0, decay_from=1.0, warm_up="1%")
        return Recipe(weight_decay=0.0, warm_up="5%")

    def translators(self, config: BaseConfig) -> dict[str, Network]:
        """The generator."""
        assert isinstance(config, CartoonGANConfig)
        return {"a2b": CartoonGenerator(config)}

    def critics(self, config: BaseConfig) -> dict[str, Network]:
        """The discriminator."""
        assert isinstance(config, CartoonGANConfig)
        return {"b": CartoonDiscriminator(config)}

    def terms(self, config: BaseConfig, recipe: Recipe) -> tuple[Term, ...]:  # noqa: ARG002  # all sizes have the same
        """Content, then what the discriminator is about."""
        return _terms(recipe)

    def step(
        self,
        networks: Networks,
        recipe: Recipe,
        *,
        seed: int,
        group: Group,
        content: Content | None = None,
    ) -> CartoonGANStep:
        """See `CartoonGANStep`.

        Args:
            content: what the content loss compares; None: features of VGG19.

        Raises:
            ModelError: VGG19's weights are needed and can't be downloaded.
        """
        if content is None:
            content = load_vgg(Path(recipe.vgg) if recipe.vgg else None, progress=sys.stderr.isatty())
        if isinstance(content, nn.Module):
            generator = networks.translators["a2b"]
            assert isinstance(generator, CartoonGenerator)
            weight = generator.stem.weight
            content.to(weight.device, generator.compute_dtype).to(memory_format=memory_format(weight.device))
        return CartoonGANStep(networks, recipe, seed=seed, group=group, content=content)

    def official(self, states: States, settings: OfficialSettings) -> Official | None:
        """The generator of the published weights in PyTorch (`Hayao_net_G_float.pth`, ...)."""
        state = states.get("", {})
        if "conv01_1.weight" not in state or "in01_1.scale" not in state:
            return None
        channels = state["conv01_1.weight"].shape[0]
        config = CartoonGANConfig(image_size=settings.image_size or 256, channels=channels, **settings.fields())
        tensors = {f"a2b.{name}": tensor for name, tensor in _official_tensors(state, config).items()}
        return Official(config, tensors, notes=settings.notes(config, judged=False))


def _official_names() -> dict[str, str]:
    """Our generator tensor name, or what a bias before a norm would be called, -> the official one."""
    convs = {"stem": "conv01_1", "to_rgb": "deconv03_1"}
    norms = {"norm": "in01_1", "up.0.norm": "in12_1", "up.1.norm": "in13_1"}
    for i in range(2):
        convs |= {f"down.{i}.conv{k}": f"conv0{2 + i}_{k}" for k in (1, 2)}
        convs |= {f"up.{i}.conv{k}": f"deconv0{1 + i}_{k}" for k in (1, 2)}
        norms[f"down.{i}.norm"] = f"in0{2 + i}_1"
    for i in range(OFFICIAL_BLOCKS):
        convs |= {f"blocks.{i}.conv{k}": f"conv{4 + i:02}_{k}" for k in (1, 2)}
        norms |= {f"blocks.{i}.norm{k}": f"in{4 + i:02}_{k}" for k in (1, 2)}
    names = {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in convs.items() for part in ("weight", "bias")}
    parts = {"gamma": "scale", "beta": "shift"}
    return names | {f"{o}.{part}": f"{t}.{other}" for o, t in norms.items() for part, other in parts.items()}


OFFICIAL_NAMES = _official_names()


def _official_tensors(state: Mapping[str, Tensor], config: CartoonGANConfig) -> dict[str, Tensor]:
    """The generator's tensors by our names."""
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in CartoonGenerator(config).state_dict().items()}
    tensors = {ours: state[theirs] for ours, theirs in OFFICIAL_NAMES.items()}
    for name, shape in wanted.items():
        if tensors[name].shape != shape:
            raise Unfit(f"{OFFICIAL_NAMES[name]} has shape {tuple(tensors[name].shape)}, not {tuple(shape)}")
    check_known(state, OFFICIAL_NAMES.values())
    return {name: tensors[name] for name in wanted}
