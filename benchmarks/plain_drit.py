"""DRIT's training step as its authors' code does it (2018: without mode seeking), over plain PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain_parts import STYLE, Sizes, adam, noisy, normed, of_kind, reflect, residual, scales, transposed


class ChannelNorm(nn.Module):
    """DRIT's layer norm: over a sample's C x H x W, biased deviation, weights of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels, 1, 1)), nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return F.layer_norm(x, x.shape[1:]) * self.weight + self.bias


class PreActivated(nn.Module):
    """A residual block of the attribute encoder, which halves the sides."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LeakyReLU(0.2),
            reflect(inputs, inputs, 3),
            nn.LeakyReLU(0.2),
            reflect(inputs, outputs, 3),
            nn.AvgPool2d(2),
        )
        self.beside = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/2, W/2)."""
        out: Tensor = self.layers(x) + self.beside(x)
        return out


def _attributes(c: int) -> nn.Sequential:
    blocks = [PreActivated(i, o) for i, o in itertools.pairwise((c, 2 * c, 3 * c, 4 * c))]
    head = (nn.LeakyReLU(0.2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * c, 2 * STYLE))
    return nn.Sequential(reflect(3, c, 4, 2), *blocks, *head)


def _content_judge(c: int, side: int) -> nn.Sequential:
    """For contents of `side` pixels: three strided layers, fewer where nothing would be left of them."""
    layers: list[nn.Module] = []
    for _ in range(3):
        if (left := (side - 5) // 2 + 1) >= 4:
            side = left
            layers += [reflect(4 * c, 4 * c, 7, 2), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers, nn.Conv2d(4 * c, 4 * c, 4), nn.LeakyReLU(0.01), nn.Conv2d(4 * c, 1, 1))


def drit_networks(sizes: Sizes) -> nn.ModuleDict:
    """Of its variant concat: `content_a`, `attr_a`, `gen_a`, `dis_a`, `dis_a2`, those of b, and shared ones."""
    c, found = sizes.channels, dict[str, nn.Module]()
    wide = (4 * c + STYLE, 2 * c + STYLE, c + 2 * STYLE)
    for domain in "ab":
        stem = nn.Sequential(reflect(3, c, 7, pad=3), nn.LeakyReLU(0.01))
        down = [normed(reflect(i, 2 * i, 3, 2), 2 * i) for i in (c, 2 * c)]
        found[f"content_{domain}"] = nn.Sequential(stem, *down, *(residual(4 * c) for _ in range(3)))
        found[f"attr_{domain}"] = _attributes(c)
        ups = []
        width = wide[0]
        for _ in range(2):
            joined = width + STYLE
            width = joined // 2
            ups.append(nn.Sequential(transposed(joined, width), ChannelNorm(width), nn.ReLU()))
        last = nn.Sequential(nn.ConvTranspose2d(width + STYLE, 3, 1), nn.Tanh())
        residuals = nn.Sequential(*(residual(wide[0]) for _ in range(3)))
        found[f"gen_{domain}"] = nn.ModuleList([residuals, *ups, last])
        for which in ("", "2"):
            found[f"dis_{domain}{which}"] = scales(sizes.discriminator_channels, 0.01)
    found["content_shared"], found["gen_shared"] = residual(4 * c), residual(4 * c)
    return nn.ModuleDict(found | {"judge": _content_judge(c, sizes.image_size // 4)})


def _logged(scores: Tensor | list[Tensor], target: float) -> Tensor:
    every = [scores] if isinstance(scores, Tensor) else scores
    losses = [F.binary_cross_entropy(one.sigmoid(), torch.full_like(one, target)) for one in every]
    return torch.stack(losses).sum()


class DRITStep:
    """Of three steps, two update the content discriminator alone, the third everything."""

    def __init__(self, nets: nn.ModuleDict) -> None:
        self.nets = nets
        parts: dict[str, nn.Module] = {
            kind: nn.ModuleList(of_kind(nets, kind)) for kind in ("content", "attr", "gen")
        }
        parts["judge"] = nets["judge"]
        parts |= {name: network for name, network in nets.items() if name.startswith("dis")}
        self.parts = parts
        self.adams = {name: adam([part], 4e-5 if name == "judge" else 1e-4, 1e-4) for name, part in parts.items()}
        self.number = 0

    def __call__(self, a: Tensor, b: Tensor) -> float:
        """Two pictures of each domain, (2, 3, H, W)."""
        self.number += 1
        if self.number % 3:
            return self._judge(self._contents(a[:1], b[:1]))
        return self._everything(a, b)

    def _contents(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        return {
            domain: noisy(self.nets["content_shared"](self.nets[f"content_{domain}"](x)))
            for domain, x in (("a", a), ("b", b))
        }

    def _attributes(self, a: Tensor, b: Tensor) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
        """Drawn ones, and mean and log of variance."""
        found = {"a": self.nets["attr_a"](a).chunk(2, 1), "b": self.nets["attr_b"](b).chunk(2, 1)}
        drawn = {one: mean + (log / 2).exp() * torch.randn_like(mean) for one, (mean, log) in found.items()}
        return drawn, found

    def _paint(self, domain: str, content: Tensor, style: Tensor) -> Tensor:
        x: Tensor = self.nets["gen_shared"](content)
        for layer in self.nets[f"gen_{domain}"].children():
            x = layer(torch.cat([x, style[..., None, None].expand(-1, -1, *x.shape[2:])], 1))
        return x

    def _judge(self, contents: Mapping[str, Tensor]) -> float:
        judge = self.nets["judge"]
        self.adams["judge"].zero_grad()
        loss = _logged(judge(contents["a"].detach()), 0) + _logged(judge(contents["b"].detach()), 1)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(judge.parameters(), 5)
        self.adams["judge"].step()
        return loss.item()

    def _everything(self, a: Tensor, b: Tensor) -> float:
        first, nets = {"a": a[:1], "b": b[:1]}, self.nets
        contents = self._contents(*first.values())
        styles, found = self._attributes(*first.values())
        drawn = torch.randn_like(styles["a"])
        fakes, same, randoms = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
        for domain, other in ("ab", "ba"):
            content = torch.cat([contents[other], contents[domain], contents[other]])
            style = torch.cat([styles[domain], styles[domain], drawn])
            fakes[domain], same[domain], randoms[domain] = self._paint(domain, content, style).chunk(3)
        again = self._contents(fakes["a"], fakes["b"])
        styles_again, _ = self._attributes(fakes["a"], fakes["b"])
        backs = {domain: self._paint(domain, again[other], styles_again[domain]) for domain, other in ("ab", "ba")}
        for which, of in (("", fakes), ("2", randoms)):
            for domain, real in (("a", a), ("b", b)):
                name, second = f"dis_{domain}{which}", bool(which)
                self.adams[name].zero_grad()
                shown = real[1:] if second else real[:1]
                loss = _logged(nets[name](of[domain].detach()), 0) + _logged(nets[name](shown), 1)
                torch.autograd.backward(loss)
                self.adams[name].step()
        self._judge(contents)

        loss = torch.zeros((), device=a.device)
        alone = torch.zeros((), device=a.device)
        for domain, real in first.items():
            mean, log = found[domain]
            loss = loss + _logged(nets[f"dis_{domain}"](fakes[domain]), 1)
            loss = loss + _logged(nets["judge"](contents[domain]), 0.5)
            loss = loss + 10 * F.l1_loss(backs[domain], real) + 10 * F.l1_loss(same[domain], real)
            loss = (
                loss - 0.005 * (1 + log - mean.square() - log.exp()).sum() + 0.01 * contents[domain].square().mean()
            )
            alone = alone + _logged(nets[f"dis_{domain}2"](randoms[domain]), 1)
            regressed = nets[f"attr_{domain}"](randoms[domain]).chunk(2, 1)[0]
            alone = alone + 10 * F.l1_loss(regressed, drawn)
        # Both gradients before any step, and yet two steps: PyTorch refuses the official order.
        gradients = [self._gradients(loss, "content", "attr", "gen", keep=True)]
        gradients.append(self._gradients(alone, "content", "gen"))
        for one in gradients:
            for name, of_part in one.items():
                for weight, gradient in zip(self.parts[name].parameters(), of_part, strict=True):
                    weight.grad = gradient
                self.adams[name].step()
        return loss.item()

    def _gradients(self, loss: Tensor, *names: str, keep: bool = False) -> dict[str, list[Tensor | None]]:
        self.nets.zero_grad()
        torch.autograd.backward(loss, retain_graph=keep)
        return {name: [weight.grad for weight in self.parts[name].parameters()] for name in names}
