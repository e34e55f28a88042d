"""A training step of each method as its authors' code does it, over plain PyTorch: what ours is measured against.

Eager float32, `torch.optim.Adam`, all passes in the official order, nothing saved: no pass is shared, and what the
official code gives a gradient for nothing gets one. Written from the facts about these codes, not from the codes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain_drit import DRITStep, drit_networks
from benchmarks.plain_parts import (
    STYLE,
    Pool,
    Residual,
    Sizes,
    Step,
    adam,
    noisy,
    normed,
    of_kind,
    reflect,
    residual,
    scales,
    towards,
    transposed,
    zeros,
)
from ugatit_cli.methods.vgg import STAGES

# --- CycleGAN ------------------------------------------------------------------------------------------


def _resnet(c: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        normed(reflect(3, c, 7, pad=3), c),
        normed(zeros(c, 2 * c, 3, 2), 2 * c),
        normed(zeros(2 * c, 4 * c, 3, 2), 4 * c),
        *(residual(4 * c) for _ in range(blocks)),
        normed(transposed(4 * c, 2 * c), 2 * c),
        normed(transposed(2 * c, c), c),
        reflect(c, 3, 7, pad=3),
        nn.Tanh(),
    )


def _patches(c: int) -> nn.Sequential:
    layers: list[nn.Module] = [zeros(3, c, 4, 2), nn.LeakyReLU(0.2)]
    for inputs, stride in ((c, 2), (2 * c, 2), (4 * c, 1)):
        layers += [normed(zeros(inputs, 2 * inputs, 4, stride), 2 * inputs, relu=False), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, zeros(8 * c, 1, 4))


def cyclegan_networks(sizes: Sizes) -> nn.ModuleDict:
    """`gen_ab`, `gen_ba`, `dis_a`, `dis_b`."""
    generators = {f"gen_{way}": _resnet(sizes.channels, sizes.blocks) for way in ("ab", "ba")}
    return nn.ModuleDict(generators | {f"dis_{domain}": _patches(sizes.discriminator_channels) for domain in "ab"})


def cyclegan_step(nets: nn.ModuleDict) -> Step:
    """Forward of all, both generators, then both discriminators."""
    g_adam, d_adam = adam(of_kind(nets, "gen"), 2e-4), adam(of_kind(nets, "dis"), 2e-4)
    pools = {"a": Pool(), "b": Pool()}

    def step(a: Tensor, b: Tensor) -> float:
        to_b, to_a, judges = nets["gen_ab"], nets["gen_ba"], {domain: nets[f"dis_{domain}"] for domain in "ab"}
        fakes = {"b": to_b(a), "a": to_a(b)}
        backs = to_a(fakes["b"]), to_b(fakes["a"])
        for judge in judges.values():
            judge.requires_grad_(False)
        g_adam.zero_grad()
        loss = 5 * F.l1_loss(to_b(b), b) + 5 * F.l1_loss(to_a(a), a)
        loss = loss + sum(towards(judges[domain](fake), 1) for domain, fake in fakes.items())
        loss = loss + 10 * F.l1_loss(backs[0], a) + 10 * F.l1_loss(backs[1], b)
        torch.autograd.backward(loss)
        g_adam.step()
        for judge in judges.values():
            judge.requires_grad_()
        d_adam.zero_grad()
        for domain, real in (("a", a), ("b", b)):
            judge, fake = judges[domain], pools[domain](fakes[domain])
            torch.autograd.backward(0.5 * (towards(judge(real), 1) + towards(judge(fake), 0)))
        d_adam.step()
        return loss.item()

    return step


# --- UNIT and MUNIT ------------------------------------------------------------------------------------


class LayerNorm(nn.Module):
    """MUNIT's: over a sample's C x H x W, unbiased deviation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.rand(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        flat = x.flatten(1)
        mean, std = (one.view(-1, 1, 1, 1) for one in (flat.mean(1), flat.std(1)))
        return (x - mean) / (std + 1e-5) * self.gamma.view(1, -1, 1, 1) + self.beta.view(1, -1, 1, 1)


class AdaIN(nn.Module):
    """Instance norm whose `numbers` (N, 2C), shift and then scale, are given to it."""

    numbers: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        shift, scale = self.numbers[..., None, None].chunk(2, 1)
        return F.instance_norm(x) * scale + shift


def _encoder(c: int, blocks: int) -> nn.Sequential:
    down = [normed(reflect(i, 2 * i, 4, 2), 2 * i) for i in (c, 2 * c)]
    return nn.Sequential(normed(reflect(3, c, 7, pad=3), c), *down, *(residual(4 * c) for _ in range(blocks)))


def _decoder(c: int, blocks: nn.Module) -> nn.Sequential:
    ups = [
        nn.Sequential(nn.Upsample(scale_factor=2), reflect(i, i // 2, 5, pad=2), LayerNorm(i // 2), nn.ReLU())
        for i in (4 * c, 2 * c)
    ]
    return nn.Sequential(blocks, *ups, reflect(c, 3, 7, pad=3), nn.Tanh())


def unit_networks(sizes: Sizes) -> nn.ModuleDict:
    """`enc_a`, `dec_a`, `dis_a` and those of b."""
    c, count = sizes.channels, sizes.blocks
    found: dict[str, nn.Module] = {}
    for domain in "ab":
        found[f"enc_{domain}"] = _encoder(c, count)
        found[f"dec_{domain}"] = _decoder(c, nn.Sequential(*(residual(4 * c) for _ in range(count))))
        found[f"dis_{domain}"] = scales(sizes.discriminator_channels)
    return nn.ModuleDict(found)


def _judged(scores: list[Tensor], target: float) -> Tensor:
    return torch.stack([towards(one, target) for one in scores]).sum()


def unit_step(nets: nn.ModuleDict) -> Step:
    """Both discriminators, then encoders and decoders, which give the discriminators gradients, too."""
    g_adam, d_adam = adam(of_kind(nets, "enc", "dec"), 1e-4, 1e-4), adam(of_kind(nets, "dis"), 1e-4, 1e-4)

    def step(a: Tensor, b: Tensor) -> float:
        real = {"a": a, "b": b}
        d_adam.zero_grad()
        drawn = {domain: noisy(nets[f"enc_{domain}"](x)) for domain, x in real.items()}
        fakes = {"a": nets["dec_a"](drawn["b"]), "b": nets["dec_b"](drawn["a"])}
        torch.autograd.backward(_discriminator_loss(nets, real, fakes))
        d_adam.step()

        g_adam.zero_grad()
        codes = {domain: nets[f"enc_{domain}"](x) for domain, x in real.items()}
        drawn = {domain: noisy(code) for domain, code in codes.items()}
        same = {domain: nets[f"dec_{domain}"](code) for domain, code in drawn.items()}
        fakes = {"a": nets["dec_a"](drawn["b"]), "b": nets["dec_b"](drawn["a"])}
        again = {"b": nets["enc_a"](fakes["a"]), "a": nets["enc_b"](fakes["b"])}
        backs = {domain: nets[f"dec_{domain}"](noisy(code)) for domain, code in again.items()}
        loss = torch.zeros((), device=a.device)
        for domain, x in real.items():
            loss = loss + _judged(nets[f"dis_{domain}"](fakes[domain]), 1)
            loss = loss + 10 * F.l1_loss(same[domain], x) + 10 * F.l1_loss(backs[domain], x)
            loss = loss + 0.01 * codes[domain].square().mean() + 0.01 * again[domain].square().mean()
        torch.autograd.backward(loss)
        g_adam.step()
        return loss.item()

    return step


def _discriminator_loss(nets: nn.ModuleDict, real: Mapping[str, Tensor], fakes: Mapping[str, Tensor]) -> Tensor:
    losses = [_judged(nets[f"dis_{one}"](fakes[one].detach()), 0) for one in real]
    losses += [_judged(nets[f"dis_{one}"](x), 1) for one, x in real.items()]
    return torch.stack(losses).sum()


class Painter(nn.Module):
    """MUNIT's decoder and its MLP."""

    def __init__(self, c: int, blocks: int) -> None:
        super().__init__()
        f = 4 * c
        inside = [Residual(reflect(f, f, 3), AdaIN(), nn.ReLU(), reflect(f, f, 3), AdaIN()) for _ in range(blocks)]
        self.decoder = _decoder(c, nn.Sequential(*inside))
        widths = (STYLE, 4 * c, 4 * c)
        hidden = [(nn.Linear(i, o), nn.ReLU()) for i, o in itertools.pairwise(widths)]
        self.mlp = nn.Sequential(*itertools.chain.from_iterable(hidden), nn.Linear(4 * c, blocks * 2 * 2 * f))

    def forward(self, code: Tensor, style: Tensor) -> Tensor:
        """(N, 4C, H/4, W/4), (N, 8) -> (N, 3, H, W)."""
        norms = [module for module in self.decoder.modules() if isinstance(module, AdaIN)]
        for norm, numbers in zip(norms, self.mlp(style).chunk(len(norms), 1), strict=True):
            norm.numbers = numbers
        out: Tensor = self.decoder(code)
        return out


def munit_networks(sizes: Sizes) -> nn.ModuleDict:
    """`enc_a`, `style_a`, `dec_a`, `dis_a` and those of b."""
    c, found = sizes.channels, dict[str, nn.Module]()
    for domain in "ab":
        found[f"enc_{domain}"] = _encoder(c, sizes.blocks)
        widths = (c, 2 * c, 4 * c, 4 * c, 4 * c)
        down = [(reflect(i, o, 4, 2), nn.ReLU()) for i, o in itertools.pairwise(widths)]
        layers = [reflect(3, c, 7, pad=3), nn.ReLU(), *itertools.chain.from_iterable(down)]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Conv2d(4 * c, STYLE, 1), nn.Flatten()]
        found[f"style_{domain}"] = nn.Sequential(*layers)
        found[f"dec_{domain}"] = Painter(c, sizes.blocks)
        found[f"dis_{domain}"] = scales(sizes.discriminator_channels)
    return nn.ModuleDict(found)


def munit_step(nets: nn.ModuleDict, *, cycle: float = 0.0) -> Step:
    """As UNIT's, with contents and styles."""
    g_adam = adam(of_kind(nets, "enc", "style", "dec"), 1e-4, 1e-4)
    d_adam = adam(of_kind(nets, "dis"), 1e-4, 1e-4)

    def encoded(pictures: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        contents = {domain: nets[f"enc_{domain}"](x) for domain, x in pictures.items()}
        return contents, {domain: nets[f"style_{domain}"](x) for domain, x in pictures.items()}

    def painted(contents: Mapping[str, Tensor], styles: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {domain: nets[f"dec_{domain}"](contents["ab"["ba".index(domain)]], styles[domain]) for domain in "ab"}

    def step(a: Tensor, b: Tensor) -> float:
        real = {"a": a, "b": b}
        drawn = {domain: torch.randn(len(a), STYLE, device=a.device) for domain in real}
        d_adam.zero_grad()
        fakes = painted(encoded(real)[0], drawn)
        torch.autograd.backward(_discriminator_loss(nets, real, fakes))
        d_adam.step()

        drawn = {domain: torch.randn(len(a), STYLE, device=a.device) for domain in real}
        g_adam.zero_grad()
        contents, styles = encoded(real)
        same = {domain: nets[f"dec_{domain}"](contents[domain], styles[domain]) for domain in real}
        fakes = painted(contents, drawn)
        again, style_again = encoded(fakes)
        loss = torch.zeros((), device=a.device)
        for domain, other in ("ab", "ba"):
            loss = loss + _judged(nets[f"dis_{domain}"](fakes[domain]), 1)
            loss = loss + 10 * F.l1_loss(same[domain], real[domain])
            loss = loss + F.l1_loss(style_again[domain], drawn[domain]) + F.l1_loss(again[domain], contents[other])
            if cycle:
                back = nets[f"dec_{domain}"](again[other], styles[domain])
                loss = loss + cycle * F.l1_loss(back, real[domain])
        torch.autograd.backward(loss)
        g_adam.step()
        return loss.item()

    return step


# --- AGGAN ---------------------------------------------------------------------------------------------


class CutTransposed(nn.ConvTranspose2d):
    """TensorFlow's SAME: without the last row and column of the full one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, 2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, 2H, 2W)."""
        return super().forward(x, output_size)[..., :-1, :-1]


def _same(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(inputs, outputs, 3, 2))


def _attention(c: int) -> nn.Sequential:
    return nn.Sequential(
        normed(reflect(3, c, 7, 2, 3), c, affine=True),
        normed(_same(c, 2 * c), 2 * c, affine=True),
        residual(2 * c, affine=True, last=nn.ReLU()),
        nn.Upsample(scale_factor=2),
        normed(nn.Conv2d(2 * c, 2 * c, 1), 2 * c, affine=True),
        nn.Upsample(scale_factor=2),
        normed(nn.Conv2d(2 * c, c, 1), c, affine=True),
        nn.Conv2d(c, 1, 1),
        nn.Sigmoid(),
    )


def _foreground(c: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        normed(zeros(3, c, 7, pad=3), c, affine=True),
        normed(_same(c, 2 * c), 2 * c, affine=True),
        normed(_same(2 * c, 4 * c), 4 * c, affine=True),
        *(residual(4 * c, zeros, affine=True, last=nn.ReLU()) for _ in range(blocks)),
        normed(CutTransposed(4 * c, 2 * c), 2 * c, affine=True),
        normed(CutTransposed(2 * c, c), c, affine=True),
        zeros(c, 3, 7, pad=3),
        nn.Tanh(),
    )


def aggan_networks(sizes: Sizes) -> nn.ModuleDict:
    """`gen_ab`, `att_ab`, `dis_b` and those of the other way."""
    c, d = sizes.channels, sizes.discriminator_channels
    found: dict[str, nn.Module] = {}
    for way in ("ab", "ba"):
        found[f"gen_{way}"], found[f"att_{way}"] = _foreground(c, sizes.blocks), _attention(c)
        widths = ((3, d, 2), (d, 2 * d, 2), (2 * d, 4 * d, 2), (4 * d, 8 * d, 1))
        layers = [
            (normed(zeros(i, o, 4, stride, 2), o, affine=True, relu=False), nn.LeakyReLU(0.2))
            for i, o, stride in widths
        ]
        judge = nn.Sequential(*itertools.chain.from_iterable(layers), zeros(8 * d, 1, 4, pad=2))
        found[f"dis_{way[1]}"] = judge
    return nn.ModuleDict(found)


def aggan_step(nets: nn.ModuleDict) -> Step:
    """Its first phase: a generator with its attention, its judge, the other ones, each from a new forward."""
    adams = {
        name: adam([nets[f"gen_{name}"], nets[f"att_{name}"]] if len(name) == 2 else [nets[f"dis_{name}"]], 1e-4)
        for name in ("ab", "b", "ba", "a")
    }
    pools = {"a": Pool(), "b": Pool()}

    def translated(way: str, x: Tensor) -> Tensor:
        mask, image = nets[f"att_{way}"](x), nets[f"gen_{way}"](x)
        found: Tensor = mask * image + (1 - mask) * x
        return found

    def step(a: Tensor, b: Tensor) -> float:
        loss = torch.zeros(())
        for way, target in (("ab", "b"), ("ba", "a")):
            fakes = {"b": translated("ab", a), "a": translated("ba", b)}
            cycles = F.l1_loss(translated("ba", fakes["b"]), a) + F.l1_loss(translated("ab", fakes["a"]), b)
            loss = 10 * cycles + towards(nets[f"dis_{target}"](fakes[target]), 1)
            nets.zero_grad()
            torch.autograd.backward(loss)
            adams[way].step()
            real, judge = (b, nets["dis_b"]) if target == "b" else (a, nets["dis_a"])
            with torch.no_grad():
                seen = nets[f"att_{way[::-1]}"](real) >= 0  # the mask, which lets everything through in this phase
            nets.zero_grad()
            torch.autograd.backward(
                0.5 * (towards(judge(real * seen), 1) + towards(judge(pools[target](fakes[target])), 0))
            )
            adams[target].step()
        return loss.item()

    return step


# --- CartoonGAN ----------------------------------------------------------------------------------------


def cartoongan_networks(sizes: Sizes) -> nn.ModuleDict:
    """`gen`, `dis`, and `vgg`, which isn't trained."""
    c, d = sizes.channels, sizes.discriminator_channels
    generator = nn.Sequential(
        normed(reflect(3, c, 7, pad=3), c, affine=True),
        *(
            normed(nn.Sequential(zeros(i, 2 * i, 3, 2), zeros(2 * i, 2 * i, 3)), 2 * i, affine=True)
            for i in (c, 2 * c)
        ),
        *(residual(4 * c, affine=True) for _ in range(sizes.blocks)),
        *(
            normed(nn.Sequential(transposed(i, i // 2), zeros(i // 2, i // 2, 3)), i // 2, affine=True)
            for i in (4 * c, 2 * c)
        ),
        reflect(c, 3, 7, pad=3),
        nn.Tanh(),
    )
    plan = [(d, 1, 0), (2 * d, 2, 0), (4 * d, 1, 1), (4 * d, 2, 0), (8 * d, 1, 1), (8 * d, 1, 1)]
    layers: list[nn.Module] = []
    for inputs, (outputs, stride, has_norm) in zip([3, *(one[0] for one in plan)], plan, strict=False):
        conv = zeros(inputs, outputs, 3, stride)
        layers += [normed(conv, outputs, affine=True, relu=False) if has_norm else conv, nn.LeakyReLU(0.2)]
    judge = nn.Sequential(*layers, zeros(8 * d, 1, 3))
    return nn.ModuleDict({"gen": generator, "dis": judge, "vgg": _vgg()})


def _vgg() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for stage in STAGES:
        layers += [nn.MaxPool2d(2)] * bool(layers)
        for width in stage:
            layers += [zeros(channels, width, 3), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers[:-1]).requires_grad_(False)


def cartoongan_step(nets: nn.ModuleDict) -> Step:
    """The discriminator, then the generator from a new forward; edges are smoothed when pictures are prepared."""
    g_adam, d_adam = adam([nets["gen"]], 1e-4), adam([nets["dis"]], 1e-4)

    def cross_entropy(logits: Tensor, target: float) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))

    def step(a: Tensor, b: Tensor) -> float:
        judge = nets["dis"]
        d_adam.zero_grad()
        fake, smoothed = nets["gen"](a).detach(), b
        of_fakes = cross_entropy(judge(fake), 0) + cross_entropy(judge(smoothed), 0)
        torch.autograd.backward(cross_entropy(judge(b), 1) + of_fakes)
        d_adam.step()
        g_adam.zero_grad()
        fake = nets["gen"](a)
        loss = cross_entropy(judge(fake), 1) + 10 * F.l1_loss(nets["vgg"](fake), nets["vgg"](a))
        torch.autograd.backward(loss)
        g_adam.step()
        return loss.item()

    return step


Networks = Callable[[Sizes], nn.ModuleDict]

STEPS: Final[Mapping[str, tuple[Networks, Callable[[nn.ModuleDict], Step]]]] = MappingProxyType(
    {
        "cyclegan": (cyclegan_networks, cyclegan_step),
        "cartoongan": (cartoongan_networks, cartoongan_step),
        "unit": (unit_networks, unit_step),
        "munit": (munit_networks, munit_step),
        "drit": (drit_networks, DRITStep),
        "aggan": (aggan_networks, aggan_step),
    }
)
"""By method: its networks, and a step of them."""
