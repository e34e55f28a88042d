"""One training step: every discriminator, then both generators (paper section 2.2; the official code's order).

The same numbers as the official step, without its waste. Pictures are translated once, not once per phase. Gradients
don't flow into weights that aren't being trained. And one direction is finished before the other begins, each loss's
graph freed as soon as its gradient is known, so that at most three generator passes are in memory instead of six.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ugatit_cli.config import DIRECTIONS, DOMAINS, BaseConfig, Direction, Domain, ModelConfig, Scale
from ugatit_cli.device import Group
from ugatit_cli.methods import ugatit_official
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
from ugatit_cli.methods.losses import cam_loss, cycle_loss, identity_loss, lsgan_loss
from ugatit_cli.methods.networks import Networks
from ugatit_cli.methods.recipe import COMMON, Recipe, RecipeName, preset
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import Generator, Translation
from ugatit_cli.nn.layers import Network
from ugatit_cli.nn.normalization import clip_rho


class UGATIT(Method):
    """U-GAT-IT: attention by CAM, decoders with AdaLIN."""

    name = "ugatit"
    title = "U-GAT-IT"
    source = "Kim et al., ICLR 2020"
    url = "https://arxiv.org/abs/1907.10830"
    citation = """@inproceedings{kim2020ugatit,
  title     = {U-GAT-IT: Unsupervised Generative Attentional Networks with Adaptive Layer-Instance
               Normalization for Image-to-Image Translation},
  author    = {Junho Kim and Minjae Kim and Hyeonwoo Kang and Kwang Hee Lee},
  booktitle = {International Conference on Learning Representations},
  year      = {2020},
  url       = {https://arxiv.org/abs/1907.10830}
}"""
    config = ModelConfig
    settings = COMMON | {
        *("cycle", "cycle_weight", "identity_weight", "cam_weight", "feature_weight", "judge_weight"),
        "power_iterations",
    }
    paper_iterations = 1_000_000

    def recipe(self, name: RecipeName) -> Recipe:
        """`paper` follows the official PyTorch code to the letter."""
        return preset(name)

    def translators(self, config: BaseConfig) -> dict[str, Network]:
        """Both generators."""
        assert isinstance(config, ModelConfig)
        return {direction: Generator(config) for direction in config.directions}

    def critics(self, config: BaseConfig) -> dict[str, Network]:
        """The discriminators of each domain."""
        assert isinstance(config, ModelConfig)
        return {f"{domain}.{scale}": Discriminator(config, scale) for domain in DOMAINS for scale in config.scales}

    def terms(self, config: BaseConfig, recipe: Recipe) -> tuple[Term, ...]:
        """Cycle, identity and CAM, then what the discriminators are about."""
        assert isinstance(config, ModelConfig)
        if recipe.cycle == "joint":
            return tuple(ugatit_terms(config, recipe))
        from ugatit_cli.methods.back_translation import back_translation_terms

        return tuple(back_translation_terms(config, recipe))

    def step(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> Step:
        """See `UGATITStep`, and `BackTranslationStep`."""
        if recipe.cycle == "joint":
            return UGATITStep(networks, recipe, seed=seed, group=group)
        from ugatit_cli.methods.back_translation import BackTranslationStep

        return BackTranslationStep(networks, recipe, seed=seed, group=group)

    def official(self, states: States, settings: OfficialSettings) -> Official | None:
        """The checkpoints of the official PyTorch code, and of its port to PaddlePaddle."""
        return ugatit_official.official(states, settings)


class UGATITStep(Step):
    """Updates the networks with one batch; see `Step`.

    Losses are `d_local_a`, `d_local_a_cam`, `d_global_a`, ... of the discriminators, `g_...` the same of the
    generators; `cycle_a`, `identity_a`, `cam_a`, ...
    """

    def __init__(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> None:
        super().__init__(networks, recipe, seed=seed, group=group)
        assert isinstance(networks.config, ModelConfig)
        self.model = networks.config
        self.discriminator_optimizers = {
            name: Adam({name: network}, recipe, group.average, eager=True)
            for name, network in networks.critics.items()
        }
        self.optimizers = [Adam(networks.translators, recipe, group.average), *self.discriminator_optimizers.values()]

    def losses(self, a: Tensor, b: Tensor, *, step: int) -> Losses:
        """Updates all weights once; see `Step`."""
        self._random = random_numbers(self.seed, step, self.group.rank)
        real: dict[Domain, Tensor] = {"a": a, "b": b}
        losses: Losses = {}
        for direction in DIRECTIONS:
            for name, loss in self._direction(direction, real).items():
                # Each generator's CAM loss has a part from either direction.
                losses[name] = losses[name] + loss if name in losses else loss
        self.update_translators()
        return losses

    def update_translators(self) -> None:
        """See `Step`; every rho stays in [0, 1]."""
        super().update_translators()
        for generator in self.networks.translators.values():
            clip_rho(generator)

    def _direction(self, direction: Direction, real: Mapping[Domain, Tensor]) -> Losses:
        """Trains the discriminators of a direction's target, and adds up the gradients of its generator losses."""
        recipe, target = self.recipe, TARGET[direction]
        source, goal = real[SOURCE[direction]], real[target]
        translation: Translation = self.networks.translators[direction](source)
        # A leaf: the graphs of what judges the translation end here, and their gradients meet here.
        fake = translation.image.detach().requires_grad_()
        losses: Losses = {}
        for scale in self.model.scales:
            losses |= self._train_discriminator(target, scale, goal, fake.detach())
            losses |= self._adversarial(target, scale, fake)
        losses |= self._cycle_and_identity(direction, source, fake)
        cam = self._cam_loss(target, translation.cam_logit, source=True)
        torch.autograd.backward(
            [translation.image, *(recipe.cam_weight * loss for loss in cam.values())],
            [fake.grad, *(None for _ in cam)],
        )
        return losses | cam

    def _cycle_and_identity(self, direction: Direction, source: Tensor, fake: Tensor) -> Losses:
        """Adds the gradients of what the other generator makes of a translation and of its source, in one pass."""
        recipe, domain = self.recipe, SOURCE[direction]
        output = self.networks.translators[OTHER[direction]](torch.cat([fake, source]))
        back, same = output.image.chunk(2)
        losses = {f"cycle_{domain}": cycle_loss(back, source), f"identity_{domain}": identity_loss(same, source)}
        losses |= self._cam_loss(
            domain, None if output.cam_logit is None else output.cam_logit.chunk(2)[1], source=False
        )
        weights = (recipe.cycle_weight, recipe.identity_weight, recipe.cam_weight)
        torch.autograd.backward(sum_of(weight * loss for weight, loss in zip(weights, losses.values(), strict=False)))
        return losses

    def _train_discriminator(self, domain: Domain, scale: Scale, real: Tensor, fake: Tensor) -> Losses:
        discriminator = self.networks.critics[f"{domain}.{scale}"].train().requires_grad_()
        real, fake = self.augmented(real, self._random), self.augmented(fake, self._random)
        if self.recipe.power_iterations == "each-pass":
            of_real, of_fake = _scores(discriminator, real), _scores(discriminator, fake)
        else:
            both = _scores(discriminator, torch.cat([real, fake]))
            of_real, of_fake = [scores[: len(real)] for scores in both], [scores[len(real) :] for scores in both]
        terms = [
            lsgan_loss(one, real=True) + lsgan_loss(other, real=False)
            for one, other in zip(of_real, of_fake, strict=True)
        ]
        losses = _named(f"d_{scale}_{domain}", terms)
        torch.autograd.backward(self.recipe.adversarial_weight * sum_of(losses.values()))
        self.discriminator_optimizers[f"{domain}.{scale}"].step()
        return losses

    def _adversarial(self, domain: Domain, scale: Scale, fake: Tensor) -> Losses:
        """Adds the gradient of the adversarial loss to that of the translated pictures."""
        discriminator = self.networks.critics[f"{domain}.{scale}"].requires_grad_(False)
        discriminator.train(self.recipe.power_iterations == "each-pass")
        terms = [
            lsgan_loss(scores, real=True) for scores in _scores(discriminator, self.augmented(fake, self._random))
        ]
        losses = _named(f"g_{scale}_{domain}", terms)
        torch.autograd.backward(self.recipe.adversarial_weight * sum_of(losses.values()))
        return losses

    @staticmethod
    def _cam_loss(domain: Domain, cam_logit: Tensor | None, *, source: bool) -> Losses:
        return {} if cam_logit is None else {f"cam_{domain}": cam_loss(cam_logit, source=source)}


def ugatit_terms(config: ModelConfig, recipe: Recipe) -> Iterator[Term]:
    """What the paper's step yields."""
    weights = {"cycle": recipe.cycle_weight, "identity": recipe.identity_weight}
    weights |= {"cam": recipe.cam_weight} if config.generator_cam else {}
    for name, weight in weights.items():
        for domain in DOMAINS:
            yield Term(f"{name}_{domain}", "CAM" if name == "cam" else name, domain, "generator", weight)
    for scale in config.scales:
        for suffix in ("", "_cam") if config.discriminator_cam else ("",):
            title, weight = f"adversarial {scale}{suffix and ' CAM'}", recipe.adversarial_weight
            for domain in DOMAINS:
                yield Term(f"g_{scale}_{domain}{suffix}", title, domain, "generator", weight)
                yield Term(f"d_{scale}_{domain}{suffix}", title, domain, "discriminator", weight)


def _scores(discriminator: nn.Module, x: Tensor) -> list[Tensor]:
    """Patch scores, and CAM logits where it has a CAM."""
    output = discriminator(x)
    return [scores for scores in (output.logit, output.cam_logit) if scores is not None]


def _named(name: str, terms: list[Tensor]) -> Losses:
    return dict(zip((name, f"{name}_cam"), terms, strict=False))
