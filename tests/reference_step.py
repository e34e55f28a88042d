"""One training step as the official PyTorch code does it, line by line: the reference for tests and benchmarks.

Eager float32, contiguous NCHW, `torch.optim.Adam`, fakes generated twice, gradients into the discriminators in the
generator phase: nothing is saved. Only the networks' weights are ours.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference import reference_discriminator, reference_generator, weights_of
from ugatit_cli.config import DIRECTIONS, DOMAINS, Domain, ModelConfig, Scale
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import Generator
from ugatit_cli.nn.spectral import SpectralNorm

ADVERSARIAL, CYCLE, IDENTITY, CAM = 1, 10, 10, 1000
LETTERS: dict[Scale, str] = {"global": "G", "local": "L"}

# Our losses by the official name; sums are of one domain, weighted.
OURS: dict[str, str] = {}
for domain in DOMAINS:
    big = domain.upper()
    for scale, letter in LETTERS.items():
        for phase in "DG":
            OURS[f"{phase}_ad_loss_{letter}{big}"] = f"{phase.lower()}_{scale}_{domain}"
            OURS[f"{phase}_ad_cam_loss_{letter}{big}"] = f"{phase.lower()}_{scale}_{domain}_cam"
    OURS[f"G_recon_loss_{big}"] = f"cycle_{domain}"
    OURS[f"G_identity_loss_{big}"] = f"identity_{domain}"
    OURS[f"G_cam_loss_{big}"] = f"cam_{domain}"
    OURS[f"D_loss_{big}"] = f"d_{domain}"
    OURS[f"G_loss_{big}"] = f"g_{domain}"
TOTALS = {"Discriminator_loss": ("d_a", "d_b"), "Generator_loss": ("g_a", "g_b")}

Scores = tuple[Tensor, Tensor]


class PlainTrainer:
    """Both generators, all four discriminators and their optimizers, in the official code's order of operations."""

    def __init__(self, config: ModelConfig, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.generators = {direction: Generator(config).to(device).train() for direction in DIRECTIONS}
        self.discriminators = {
            (domain, scale): Discriminator(config, scale).to(device).train()
            for domain in DOMAINS
            for scale in ("global", "local")
        }
        self.g_optim = self._adam(self.generators.values())
        self.d_optim = self._adam(self.discriminators.values())

    @staticmethod
    def _adam(networks: object) -> torch.optim.Adam:
        parameters = itertools.chain.from_iterable(network.parameters() for network in networks)  # type: ignore[attr-defined]
        return torch.optim.Adam(parameters, lr=1e-4, betas=(0.5, 0.999), weight_decay=1e-4)

    def generate(self, direction: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """The picture and the CAM logits."""
        image, cam_logit, _ = reference_generator(self.generators[direction], self.config, x)  # type: ignore[index]
        assert cam_logit is not None
        return image, cam_logit

    def judge(self, domain: Domain, scale: Scale, x: Tensor) -> Scores:
        """Patch scores and CAM logits, after one power iteration."""
        discriminator = self.discriminators[domain, scale]
        power_iteration(discriminator)
        logit, cam_logit, _ = reference_discriminator(discriminator, self.config, x)
        assert cam_logit is not None
        return logit, cam_logit

    def step(self, real_a: Tensor, real_b: Tensor) -> dict[str, float]:
        """Updates everything once; the losses by the official names."""
        losses = self._discriminator_phase(real_a, real_b)
        losses |= self._generator_phase(real_a, real_b)
        with torch.no_grad():
            for generator in self.generators.values():
                for name, weight in generator.named_parameters():
                    if name.endswith(".rho"):
                        weight.clamp_(0, 1)
        return losses

    def _discriminator_phase(self, real_a: Tensor, real_b: Tensor) -> dict[str, float]:
        self.d_optim.zero_grad()
        fakes = {"b": self.generate("a2b", real_a)[0], "a": self.generate("b2a", real_b)[0]}
        reals = {"a": real_a, "b": real_b}
        pairs = [(domain, scale) for domain in DOMAINS for scale in LETTERS]
        real_scores = {pair: self.judge(*pair, reals[pair[0]]) for pair in pairs}
        fake_scores = {pair: self.judge(*pair, fakes[pair[0]]) for pair in pairs}
        losses: dict[str, Tensor] = {}
        for domain, scale in pairs:
            real, fake = real_scores[domain, scale], fake_scores[domain, scale]
            key = f"{LETTERS[scale]}{domain.upper()}"
            losses[f"D_ad_loss_{key}"] = _squared(real[0], 1) + _squared(fake[0], 0)
            losses[f"D_ad_cam_loss_{key}"] = _squared(real[1], 1) + _squared(fake[1], 0)
        for big in "AB":
            terms = [value for name, value in losses.items() if name.startswith("D_ad") and name[-1] == big]
            losses[f"D_loss_{big}"] = ADVERSARIAL * sum(terms, start=torch.zeros_like(terms[0]))
        total = losses["D_loss_A"] + losses["D_loss_B"]
        losses["Discriminator_loss"] = total
        torch.autograd.backward(total)
        self.d_optim.step()
        return {name: float(value.detach()) for name, value in losses.items()}

    def _generator_phase(self, real_a: Tensor, real_b: Tensor) -> dict[str, float]:
        self.g_optim.zero_grad()
        reals = {"a": real_a, "b": real_b}
        fakes = {"b": self.generate("a2b", real_a), "a": self.generate("b2a", real_b)}
        backs = {"a": self.generate("b2a", fakes["b"][0]), "b": self.generate("a2b", fakes["a"][0])}
        sames = {"a": self.generate("b2a", real_a), "b": self.generate("a2b", real_b)}
        losses: dict[str, Tensor] = {}
        for domain in DOMAINS:
            big = domain.upper()
            for scale, letter in LETTERS.items():
                logit, cam_logit = self.judge(domain, scale, fakes[domain][0])
                losses[f"G_ad_loss_{letter}{big}"] = _squared(logit, 1)
                losses[f"G_ad_cam_loss_{letter}{big}"] = _squared(cam_logit, 1)
            adversarial = [value for name, value in losses.items() if name.startswith("G_ad") and name[-1] == big]
            losses[f"G_recon_loss_{big}"] = F.l1_loss(backs[domain][0], reals[domain])
            losses[f"G_identity_loss_{big}"] = F.l1_loss(sames[domain][0], reals[domain])
            losses[f"G_cam_loss_{big}"] = _cross_entropy(fakes[domain][1], 1) + _cross_entropy(sames[domain][1], 0)
            losses[f"G_loss_{big}"] = (
                ADVERSARIAL * sum(adversarial, start=torch.zeros_like(adversarial[0]))
                + CYCLE * losses[f"G_recon_loss_{big}"]
                + IDENTITY * losses[f"G_identity_loss_{big}"]
                + CAM * losses[f"G_cam_loss_{big}"]
            )
        total = losses["G_loss_A"] + losses["G_loss_B"]
        losses["Generator_loss"] = total
        torch.autograd.backward(total)
        self.g_optim.step()
        return {name: float(value.detach()) for name, value in losses.items()}


def _squared(x: Tensor, target: float) -> Tensor:
    return F.mse_loss(x, torch.full_like(x, target))


def _cross_entropy(x: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(x, torch.full_like(x, target))


@torch.no_grad()
def power_iteration(discriminator: Discriminator) -> None:
    """One power iteration of every spectral norm (new tensors: graphs hold the old ones)."""
    weights = weights_of(discriminator)
    for name, module in discriminator.named_modules():
        if isinstance(module, SpectralNorm):
            matrix = weights[f"{name.removesuffix('.norm')}.weight"].flatten(1)
            v = torch.mv(matrix.t(), module.u)
            module.v = v / v.norm().clamp_min(1e-12)
            u = torch.mv(matrix, module.v)
            module.u = u / u.norm().clamp_min(1e-12)


def official(losses: dict[str, float]) -> dict[str, float]:
    """Our losses by the official names, the totals of both domains among them."""
    named = {theirs: losses[ours] for theirs, ours in OURS.items()}
    return named | {total: losses[a] + losses[b] for total, (a, b) in TOTALS.items()}
