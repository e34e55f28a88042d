"""DRIT's training step: two updates of the content discriminator alone, then one of everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ugatit_cli.config import DIRECTIONS, DOMAINS, Direction, Domain
from ugatit_cli.device import Group, sent
from ugatit_cli.methods.adam import Adam
from ugatit_cli.methods.base import SOURCE, TARGET, Losses, Step, Term, leaf, mean_of, random_numbers, sum_of
from ugatit_cli.methods.drit_config import DRITConfig
from ugatit_cli.methods.drit_networks import AttributeEncoder, Attributes
from ugatit_cli.methods.losses import cycle_loss, identity_loss
from ugatit_cli.methods.networks import Networks
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.nn.generator import picture_styles
from ugatit_cli.nn.layers import Network

PERIOD = 3
# Of the content discriminator: what its learning rate is of the others', and the longest gradient.
CONTENT_RATE, LONGEST = 0.4, 5.0
OTHER: dict[Domain, Domain] = {"a": "b", "b": "a"}

ByDomain = Mapping[Domain, Tensor]


@dataclass(frozen=True)
class Draws:
    """The random numbers of a step, in the official order: what is added to codes, and what makes styles.

    Attributes:
        content, content_back: of pictures and of their translations, like codes.
        style, style_back: of their encoded styles, (N, 8); none where styles aren't distributions.
        random: random styles, one or two, (N, 8).
    """

    content: ByDomain
    style: ByDomain
    random: Sequence[Tensor]
    content_back: ByDomain = field(default_factory=dict)
    style_back: ByDomain = field(default_factory=dict)


class DRITStep(Step):
    """Updates the networks with one batch, whose first half is translated; see `Step`.

    Two of three steps update the content discriminator alone, and have no other losses. The third one is the official
    update without its waste:

    - Nothing but discriminators changes before the end, so each discriminator is updated just before it judges.
    - Codes, styles and translations are leaves, where the graphs of what is made of them end: translations in random
      styles are done with before the others begin, and those of a domain before its way back. Of what are six
      generator passes at once there, at most three are in memory.
    - Discriminators get no gradients where they judge, and attribute encoders none from random styles, by which the
      official code doesn't train them either.

    Content encoders and generators are updated twice, by Adam steps of their own: by what all translators learn from,
    and by the translations in random styles. Both gradients are taken before the first of these updates. The official
    code takes the second one after it, through activations from before it; PyTorch allows that no more since 1.5.

    Losses are `reconstruction_a`, `cycle_a`, `style_a`, `kl_a`, `kl_content_a`, `mode_seeking_a` if it has a weight,
    `g_patch_a`, `g_random_a`, `g_content_a`, `d_patch_a`, `d_random_a`, `d_content_a`, and those of b. Those of
    domain discriminators are means over their scales.
    """

    period = PERIOD

    def __init__(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> None:
        super().__init__(networks, recipe, seed=seed, group=group)
        assert isinstance(networks.config, DRITConfig)
        self.config = networks.config
        attributes = {name: one for name, one in networks.translators.items() if name.endswith(".attribute")}
        others = {name: one for name, one in networks.translators.items() if name not in attributes}
        judges = {name: one for name, one in networks.critics.items() if name != "shared.codes"}
        self.judge_optimizer = Adam(judges, recipe, group.average, eager=True)
        content = {"shared.codes": networks.critics["shared.codes"]}
        self.content_optimizer = Adam(content, recipe, self._average_and_clip)
        self.optimizers = [
            Adam(others, recipe, group.average),
            Adam(attributes, recipe, group.average),
            self.judge_optimizer,
            self.content_optimizer,
        ]

    def _average_and_clip(self, gradients: list[Tensor]) -> None:
        self.group.average(gradients)
        length = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(one) for one in gradients]))
        torch._foreach_mul_(gradients, (LONGEST / (length + 1e-6)).clamp(max=1))

    def update_translators(self) -> None:
        """See `Step`."""
        for optimizer in self.optimizers[:2]:
            optimizer.step()

    def copiers(self) -> list[Callable[[Tensor], Tensor]]:
        """See `Step`: pictures of the target are copied in styles from their own distributions."""
        return [partial(self._copied, direction) for direction in DIRECTIONS]

    def _copied(self, direction: Direction, x: Tensor) -> Tensor:
        target, translators = TARGET[direction], self.networks.translators
        parts = dict(zip(DOMAINS, x.chunk(2), strict=True))
        styles = {domain: picture_styles(one, self.config.style_size) for domain, one in parts.items()}
        styles[target], _ = self._style(target, parts[target], styles)
        code = translators["shared.content"](translators[f"{SOURCE[direction]}.content"](x))
        return self._painted(target, code, torch.cat([styles[domain] for domain in DOMAINS]))

    def prepare_optimizers(self, steps: int) -> dict[str, Tensor]:
        """See `Step`; the content discriminator is updated in every step, the others in every third."""
        updates = [steps, steps, 0, 0]
        if steps > self.copied:
            full = steps // PERIOD - self.copied // PERIOD
            updates = [2 * full, full, full, steps - self.copied]
        found: dict[str, Tensor] = {}
        for optimizer, count in zip(self.optimizers, updates, strict=True):
            found |= optimizer.prepare(count)
        return found

    # --- The parts of an update

    def losses(self, a: Tensor, b: Tensor, *, step: int) -> Losses:
        """Updates the content discriminator, in every third step all weights; see `Step`."""
        self.content_optimizer.learning_rate *= CONTENT_RATE
        (real_a, other_a), (real_b, other_b) = a.chunk(2), b.chunk(2)
        real: dict[Domain, Tensor] = {"a": real_a, "b": real_b}
        random = random_numbers(self.seed, step, self.group.rank)
        draws = self.draw(real, random, full=not (step + 1) % PERIOD)
        if (step + 1) % PERIOD:
            with torch.no_grad():
                codes = {domain: self._code(domain, real[domain], draws.content[domain]) for domain in DOMAINS}
            return self._judge_content(codes)
        return self._update(real, {"a": other_a, "b": other_b}, draws, random)

    def draw(self, real: ByDomain, random: torch.Generator, *, full: bool) -> Draws:
        """All random numbers of a step but those of augmentation, in the official order."""

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=random)

        def codes() -> ByDomain:
            sizes = {
                domain: (len(x), self.config.features, x.shape[2] // 4, x.shape[3] // 4) for domain, x in real.items()
            }
            return {domain: normal(*sizes[domain]) for domain in DOMAINS}

        def styles() -> ByDomain:
            some = DOMAINS if self.config.style_way == "concat" else ()
            return {domain: normal(len(real[domain]), self.config.style_size) for domain in some}

        if not full:
            return Draws(codes(), {}, ())
        content, style = codes(), styles()
        count = 2 if self.recipe.mode_seeking_weight else 1
        random_styles = [normal(len(real["a"]), self.config.style_size) for _ in range(count)]
        return Draws(content, style, random_styles, codes(), styles())

    def _update(self, real: ByDomain, others: ByDomain, draws: Draws, random: torch.Generator) -> Losses:
        graphs = {domain: self._code(domain, real[domain], draws.content[domain]) for domain in DOMAINS}
        codes = {domain: leaf(graph) for domain, graph in graphs.items()}
        losses = self._judge_content({domain: code.detach() for domain, code in codes.items()})
        for domain in DOMAINS:
            losses |= self._random(domain, codes, others[domain], draws, random)
        _follow(graphs, codes, retain=True)
        later = self._set_aside()
        losses |= self._content(codes)
        losses |= self._encoded(real, codes, draws, random)
        _follow(graphs, codes)
        self.update_translators()
        for name, weight in self.optimizers[0].parameters.items():
            weight.grad = later[name]
        self.optimizers[0].step()
        return losses

    def _set_aside(self) -> dict[str, Tensor | None]:
        """Takes the gradients of content encoders and generators away."""
        weights = self.optimizers[0].parameters
        found = {name: weight.grad for name, weight in weights.items()}
        for weight in weights.values():
            weight.grad = None
        return found

    def _random(self, domain: Domain, codes: ByDomain, real: Tensor, draws: Draws, random: torch.Generator) -> Losses:
        """Updates a domain's second discriminator, and adds the gradients of translations in random styles."""
        styles = [sent(style, real.device) for style in draws.random]
        content = torch.cat([codes[OTHER[domain]]] * len(styles))
        image = self._painted(domain, content, torch.cat(styles))
        fake = leaf(image)
        losses = self._judge(domain, "random", real, fake.chunk(len(styles)), random)
        losses |= self._adversarial(domain, "random", fake.chunk(len(styles)), random)
        encoder = self._attribute(domain).requires_grad_(False)
        first, *second = fake.chunk(len(styles))
        terms = {f"style_{domain}": (self.recipe.style_weight, F.l1_loss(encoder(first), styles[0].to(first.dtype)))}
        encoder.requires_grad_()
        if second:
            loss = mode_seeking_loss(first, second[0], *styles)
            terms[f"mode_seeking_{domain}"] = (self.recipe.mode_seeking_weight, loss)
        losses |= _backward(terms)
        torch.autograd.backward(image, fake.grad)
        return losses

    def _content(self, codes: ByDomain) -> Losses:
        """Adds the gradients of what is asked of content codes."""
        critic = self.networks.critics["shared.codes"].requires_grad_(False)
        terms: dict[str, tuple[float, Tensor]] = {}
        for domain, code in codes.items():
            terms[f"g_content_{domain}"] = (self.recipe.adversarial_weight, cross_entropy(critic(code), 0.5))
            terms[f"kl_content_{domain}"] = (self.recipe.kl_weight, code.square().mean())
        return _backward(terms)

    def _encoded(self, real: ByDomain, codes: ByDomain, draws: Draws, random: torch.Generator) -> Losses:
        """Updates the first discriminators, and adds the gradients of all that is made with encoded styles."""
        losses: Losses = {}
        encoded = {domain: self._style(domain, real[domain], draws.style) for domain in DOMAINS}
        styles = {domain: leaf(style) for domain, (style, _) in encoded.items()}
        images: dict[Domain, Tensor] = {}
        for domain in DOMAINS:
            back = self._painted(domain, codes[domain], styles[domain])
            losses |= _backward(
                {f"reconstruction_{domain}": (self.recipe.reconstruction_weight, identity_loss(back, real[domain]))}
            )
            images[domain] = self._painted(domain, codes[OTHER[domain]], styles[domain])
        fakes = {domain: leaf(image) for domain, image in images.items()}
        for domain in DOMAINS:
            losses |= self._judge(domain, "encoded", real[domain], [fakes[domain]], random)
            losses |= self._adversarial(domain, "encoded", [fakes[domain]], random)
            losses |= self._cycle(domain, real[domain], fakes, draws)
        _follow(images, fakes)
        for domain, (style, kl) in encoded.items():
            losses[f"kl_{domain}"] = kl
            torch.autograd.backward([style, self.recipe.kl_weight * kl], [styles[domain].grad, None])
        return losses

    def _cycle(self, domain: Domain, real: Tensor, fakes: ByDomain, draws: Draws) -> Losses:
        """Adds the gradients of the way back: what the other domain's translation shows, in this one's style."""
        other = OTHER[domain]
        code = self._code(other, fakes[other], draws.content_back[other])
        style, _ = self._style(domain, fakes[domain], draws.style_back)
        back = self._painted(domain, code, style)
        return _backward({f"cycle_{domain}": (self.recipe.cycle_weight, cycle_loss(back, real))})

    # --- Networks

    def _code(self, domain: Domain, x: Tensor, noise: Tensor) -> Tensor:
        """A domain's pictures as content codes, with noise."""
        translators = self.networks.translators
        code: Tensor = translators["shared.content"](translators[f"{domain}.content"](x))
        return code + sent(noise, code.device).to(code.dtype)

    def _attribute(self, domain: Domain) -> Network:
        return self.networks.translators[f"{domain}.attribute"]

    def _style(self, domain: Domain, x: Tensor, draws: ByDomain) -> tuple[Tensor, Tensor]:
        """Styles of a domain's pictures, and how far they are from N(0, 1)."""
        encoder = self._attribute(domain)
        if not isinstance(encoder, AttributeEncoder):
            style: Tensor = encoder(x)
            return style, style.square().mean()
        found = encoder.distribution(x)
        return found.sample(draws[domain]), kl_loss(found)

    def _painted(self, domain: Domain, code: Tensor, style: Tensor) -> Tensor:
        translators = self.networks.translators
        image: Tensor = translators[f"{domain}.generator"](translators["shared.generator"](code), style)
        return image

    # --- Discriminators

    def _judge_content(self, codes: ByDomain) -> Losses:
        """Updates the content discriminator."""
        critic = self.networks.critics["shared.codes"].requires_grad_()
        of_a, of_b = critic(torch.cat([codes["a"], codes["b"]])).chunk(2)
        weight = self.recipe.adversarial_weight
        losses = _backward(
            {"d_content_a": (weight, cross_entropy(of_a, 0)), "d_content_b": (weight, cross_entropy(of_b, 1))}
        )
        self.content_optimizer.step()
        return losses

    def _judge(
        self, domain: Domain, kind: str, real: Tensor, fakes: Sequence[Tensor], random: torch.Generator
    ) -> Losses:
        """Updates a domain's discriminator of a kind; real pictures count as often as there are translations."""
        critic = self.networks.critics[f"{domain}.{kind}"].requires_grad_()
        pictures = torch.cat([self.augmented(x.detach(), random) for x in (real, *fakes)])
        loss = mean_of(
            len(fakes) * cross_entropy(of_real, 1) + sum_of(cross_entropy(one, 0) for one in of_fakes)
            for of_real, *of_fakes in (scale.chunk(1 + len(fakes)) for scale in critic(pictures))
        )
        torch.autograd.backward(self._scaled * loss)
        self.judge_optimizer.step()
        return {f"d_{KINDS[kind]}_{domain}": loss}

    def _adversarial(self, domain: Domain, kind: str, fakes: Sequence[Tensor], random: torch.Generator) -> Losses:
        """Adds the gradient of what a discriminator says to that of translations."""
        critic = self.networks.critics[f"{domain}.{kind}"].requires_grad_(False)
        scales = critic(torch.cat([self.augmented(x, random) for x in fakes]))
        loss = len(fakes) * mean_of(cross_entropy(scale, 1) for scale in scales)
        torch.autograd.backward(self._scaled * loss)
        return {f"g_{KINDS[kind]}_{domain}": loss}

    @property
    def _scaled(self) -> float:
        return self.config.scales * self.recipe.adversarial_weight


# Discriminators by what they are called in losses.
KINDS = {"encoded": "patch", "random": "random"}


def _follow(graphs: ByDomain, leaves: ByDomain, *, retain: bool = False) -> None:
    """Takes the gradients that met in leaves on to what the leaves were made of."""
    gradients = [one.grad for one in leaves.values()]
    torch.autograd.backward(list(graphs.values()), gradients, retain_graph=retain)
    for one in leaves.values():
        one.grad = None


def _backward(terms: Mapping[str, tuple[float, Tensor]]) -> Losses:
    """Adds the gradients of losses by their weights."""
    torch.autograd.backward(sum_of(weight * loss for weight, loss in terms.values()))
    return {name: loss for name, (_, loss) in terms.items()}


def cross_entropy(logits: Tensor, truth: float) -> Tensor:
    """Binary cross entropy, mean over all logits: what the official code's comes to, which saturates beyond 17."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, truth))


def kl_loss(found: Attributes) -> Tensor:
    """Kullback-Leibler divergence of styles from N(0, 1): sum over their numbers, mean over the pictures."""
    mean, log_variance = found
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1).mean()


def mode_seeking_loss(first: Tensor, second: Tensor, style: Tensor, other: Tensor) -> Tensor:
    """What is small where pictures (N, 3, H, W) differ as much as their styles (N, 8) (Mao et al. 2019)."""
    return 1 / (F.l1_loss(second, first) / F.l1_loss(other, style) + 1e-5)


def drit_terms(config: DRITConfig, recipe: Recipe) -> Iterator[Term]:
    """The losses of a step, in the order in which they are shown."""
    weights = {
        "reconstruction": ("reconstruction", recipe.reconstruction_weight),
        "cycle": ("cycle", recipe.cycle_weight),
        "style": ("style", recipe.style_weight),
        "kl": ("KL", recipe.kl_weight),
        "kl_content": ("KL content", recipe.kl_weight),
        "mode_seeking": ("mode seeking", recipe.mode_seeking_weight),
    }
    for name, (title, weight) in weights.items():
        for domain in DOMAINS:
            if weight or name != "mode_seeking":
                yield Term(f"{name}_{domain}", title, domain, "generator", weight)
    scaled = config.scales * recipe.adversarial_weight
    judged = {
        "patch": ("adversarial", scaled),
        "random": ("random style", scaled),
        "content": ("content", recipe.adversarial_weight),
    }
    for name, (title, weight) in judged.items():
        for domain in DOMAINS:
            yield Term(f"g_{name}_{domain}", title, domain, "generator", weight)
            yield Term(f"d_{name}_{domain}", title, domain, "discriminator", weight)
