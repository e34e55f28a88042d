"""What a method of image translation is: its networks, its losses, one training step, the authors' checkpoints.

A method is one file with one `Method` in it, and one line in `methods.registry`. All the rest of the package asks the
method and knows no network by name: training, resuming, evaluation, samples, `translate`, `cam`, `convert`, cards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ugatit_cli.config import DOMAINS, BaseConfig, Direction, Domain
from ugatit_cli.device import Group
from ugatit_cli.errors import ConfigError
from ugatit_cli.methods.adam import Adam
from ugatit_cli.methods.losses import augment
from ugatit_cli.methods.networks import Networks
from ugatit_cli.methods.recipe import Recipe, RecipeName
from ugatit_cli.methods.registry import method_of
from ugatit_cli.nn.generator import picture_styles
from ugatit_cli.nn.layers import Network

SOURCE: dict[Direction, Domain] = {"a2b": "a", "b2a": "b"}
TARGET: dict[Direction, Domain] = {"a2b": "b", "b2a": "a"}
OTHER: dict[Direction, Direction] = {"a2b": "b2a", "b2a": "a2b"}

Whose = Literal["generator", "discriminator"]

Losses = dict[str, Tensor]
"""Scalars by name, unweighted, on the device."""

States = Mapping[str, Mapping[str, Tensor]]
"""What a checkpoint file holds: state dicts by the name that it gives each; a bare one's name is ""."""


@dataclass(frozen=True)
class Term:
    """A loss that a step yields, and what it belongs to.

    Attributes:
        name: as the step and the metrics call it: `cycle_a`.
        title: what people read: `cycle`; terms of one title stand side by side.
        domain: that is judged or restored.
        of: whose loss it is.
        weight: what it counts in the sum of its kind and domain.
    """

    name: str
    title: str
    domain: Domain
    of: Whose
    weight: float


# What generators learn by in the warm-up.
COPYING = tuple(Term(f"copy_{domain}", "copy", domain, "generator", 1.0) for domain in DOMAINS)


class Step(ABC):
    """Updates a run's networks with one batch.

    Args:
        networks: what to train.
        recipe: how.
        seed: of all randomness in it.
        group: the processes that train together.

    Raises:
        ConfigError: the networks translate in one direction only, and the method trains both together.

    Attributes:
        optimizers: all of them, first that of the translators; the order is that of the checkpoint's files.
        terms: the losses that a call yields, in their order.
        copying_terms: those of a call in the warm-up.
        copied: steps of the warm-up so far; the run's first ones.
        period: steps that differ; after so many it does the same again.
        progress: share of the training that was done before the step, in [0, 1].
    """

    optimizers: list[Adam]
    terms: tuple[Term, ...]
    copying_terms: tuple[Term, ...] = COPYING
    period: ClassVar[int] = 1

    def __init__(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> None:
        config = networks.config
        if config.ways != config.trained_ways == "both":
            title = method_of(config).title
            raise ConfigError(f"{title} trains both directions together; this model has one only")
        self.terms = method_of(config).terms(config, recipe)
        self.networks = networks
        self.recipe = recipe
        self.seed = seed
        self.group = group
        self.copied = 0
        self.progress = 0.0

    @abstractmethod
    def losses(self, a: Tensor, b: Tensor, *, step: int) -> Losses:
        """Updates all weights once, at the optimizers' learning rates; see `__call__`.

        Returns:
            Values of `terms`, by name, unweighted, in any order; of each, or of those that this step has.
        """

    def copying_losses(self, a: Tensor, b: Tensor) -> Losses:
        """Adds the gradients of a step of the warm-up: each translator learns to give all pictures back as they are.

        Returns:
            A value for each of `copying_terms`: L1, the mean over the translators.
        """
        copiers = self.copiers()
        losses = [torch.zeros_like(a[0, 0, 0, 0])] * 2
        for copier in copiers:
            copies = copier(torch.cat([a, b])).chunk(2)
            ours = [F.l1_loss(copy, x) / len(copiers) for copy, x in zip(copies, (a, b), strict=True)]
            torch.autograd.backward(sum_of(ours))
            losses = [total + loss.detach() for total, loss in zip(losses, ours, strict=True)]
        return {term.name: loss for term, loss in zip(COPYING, losses, strict=True)}

    def copiers(self) -> list[Callable[[Tensor], Tensor]]:
        """What learns to copy in the warm-up, with a graph: both domains' pictures, (2N, 3, H, W), to the same."""
        return [partial(self._copies, direction) for direction in self.networks.config.directions]

    def _copies(self, direction: Direction, x: Tensor) -> Tensor:
        """Both domains' pictures through a translator: in random styles, those of its target in their own."""
        method, networks = method_of(self.networks.config), self.networks.translators
        translator, encoder = method.translator(networks, direction), method.style_encoder(networks, direction)
        styles = []
        if encoder is not None:
            size, target = self.networks.config.style_size, TARGET[direction]
            each = zip(DOMAINS, x.chunk(2), strict=True)
            styles = [torch.cat([encoder(one) if of == target else picture_styles(one, size) for of, one in each])]
        image: Tensor = translator(x, *styles).image
        return image

    def augmented(self, x: Tensor, random: torch.Generator) -> Tensor:
        """What a discriminator sees of pictures (N, 3, H, W), as the recipe says."""
        return augment(x, random) if self.recipe.augment == "on" else x

    def update_translators(self) -> None:
        """Updates the weights of the translators by the gradients that they have."""
        self.optimizers[0].step()

    def __call__(
        self,
        a: Tensor,
        b: Tensor,
        *,
        step: int,
        learning_rate: float,
        copying: bool = False,
        progress: float = 0.0,
    ) -> Losses:
        """Updates all weights once, or in the warm-up those of the translators; and the moving averages.

        Args:
            a, b: pictures of both domains, (N, 3, H, W) in [-1, 1], on the networks' device.
            step: number of steps before this one; with the seed it decides all randomness.
            learning_rate: of this step.
            copying: the step belongs to the warm-up, as all before it do. After it, Adam begins anew.
            progress: share of the training that was done before this step, in [0, 1].

        Returns:
            The losses by name, unweighted, as scalars on the device; and the weighted sums of each domain: `d_a` of
            its discriminators, `g_a` of what generators are trained by. Only what there is, and all of it, is summed.
        """
        for optimizer in self.optimizers:
            optimizer.learning_rate = learning_rate
        self.progress = progress
        terms = self.copying_terms if copying else self.terms
        if copying:
            found = self.copying_losses(a, b)
            self.update_translators()
            self.copied = step + 1
        else:
            if step == self.copied > 0:
                for optimizer in self.optimizers:
                    optimizer.prepare(0)
            found = self.losses(a, b, step=step)
        losses = {term.name: found[term.name].detach() for term in terms if term.name in found}
        self.networks.update_averages(self.recipe.ema, step)
        return losses | _sums(terms, losses)

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """Adam's moments of all networks by name; those in use, not copies."""
        return {name: moment for one in self.optimizers for name, moment in one.tensors().items()}

    def prepare_optimizers(self, steps: int) -> dict[str, Tensor]:
        """Moments as after a number of steps, `copied` ones included, by name, to be filled in place."""
        after = max(0, steps - self.copied)
        first, *others = self.optimizers
        moments = first.prepare(after or steps)
        return moments | {name: moment for one in others for name, moment in one.prepare(after).items()}

    def memory(self) -> dict[str, Tensor]:
        """What a step remembers beside weights and moments, such as a pool of translations: part of checkpoints."""
        return {"copied": torch.tensor(self.copied)} if self.copied else {}

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        """The inverse of `memory`."""
        self.copied = int(memory.get("copied", 0))


class Method(ABC):
    """A method of unpaired image translation.

    Attributes:
        name: as `--method` and `config.json` call it.
        title: as papers write it.
        source: the paper; `url`: where it is; `citation`: its BibTeX entry.
        config: the dataclass of its networks' sizes.
        settings: names of those fields of `Recipe` that it heeds; the others' options are refused.
        paper_iterations: steps of the authors' training, where its recipe doesn't count epochs.
        most_iterations: steps after which it ends, where its recipe counts epochs; 0: when those are done.
        batch: batches have a multiple of so many pictures.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    url: ClassVar[str]
    citation: ClassVar[str]
    config: ClassVar[type[BaseConfig]]
    settings: ClassVar[frozenset[str]]
    paper_iterations: ClassVar[int]
    most_iterations: ClassVar[int] = 0
    batch: ClassVar[int] = 1

    @abstractmethod
    def recipe(self, name: RecipeName) -> Recipe:
        """How it is trained: `default`, or `paper`, the authors' settings."""

    @abstractmethod
    def translators(self, config: BaseConfig) -> dict[str, Network]:
        """New networks that translate, by the prefix of their tensors in `model.safetensors`: `a2b`, `b2a`."""

    @abstractmethod
    def critics(self, config: BaseConfig) -> dict[str, Network]:
        """New networks of training alone, by their prefix in `discriminators.safetensors`: `a.local`, ..."""

    def needed(self, direction: Direction) -> tuple[str, ...]:
        """Names of the translators that a direction takes."""
        return (direction,)

    def translator(self, networks: Mapping[str, Network], direction: Direction) -> Network:
        """What translates in a direction: takes (N, 3, H, W) float in [-1, 1], returns a `Translation`.

        Where `config.style_size` isn't 0, it is a `StyledNetwork`.

        Args:
            networks: those that are `needed`, or more.
        """
        return networks[direction]

    def style_networks(self, direction: Direction) -> tuple[str, ...]:  # noqa: ARG002  # most have none
        """Names of the translators that `style_encoder` takes."""
        return ()

    def style_encoder(self, networks: Mapping[str, Network], direction: Direction) -> Network | None:  # noqa: ARG002
        """What tells the styles of pictures of a direction's target; None: the method has no styles.

        It takes (N, 3, H, W) float in [-1, 1], and returns (N, config.style_size) float32.

        Args:
            networks: those that `style_networks` names, or more.
        """
        return None

    @abstractmethod
    def terms(self, config: BaseConfig, recipe: Recipe) -> tuple[Term, ...]:
        """The losses that a step yields, in the order in which they are shown."""

    @abstractmethod
    def step(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> Step:
        """What trains the networks.

        Raises:
            ConfigError: see `Step`.
            ModelError: something that the losses need can't be had.
        """

    @abstractmethod
    def official(self, states: States, settings: OfficialSettings) -> Official | None:
        """The authors' checkpoint by our names; None: it is none of this method's.

        Raises:
            KeyError, IndexError, ValueError: tensors that it should have are missing or have other shapes.
            Unfit: it has others, or is of a variant that isn't known.
            ConfigError: no model can have its sizes.
        """


@dataclass(frozen=True)
class OfficialSettings:
    """What a checkpoint can't tell, or tells wrongly; None: infer it, or take the official default.

    Attributes:
        domains: names of domains A and B.
        image_size: training size; default: 256.
        rho_smoothing: of U-GAT-IT's TensorFlow code only; told by the official folder name.

    Raises:
        ConfigError: names or a size that no model can have.
    """

    domains: tuple[str, str] | None = None
    image_size: int | None = None
    rho_smoothing: bool | None = None

    def __post_init__(self) -> None:
        # Asked here, it is the setting that is wrong; later it would be the checkpoint.
        BaseConfig(image_size=self.image_size or 256, **self.fields())

    def fields(self) -> dict[str, Any]:
        """The domain names as fields of a config."""
        return {} if self.domains is None else {"domain_a": self.domains[0], "domain_b": self.domains[1]}

    def notes(
        self, config: BaseConfig, *, judged: bool, lack: str = "has no discriminators", told: bool = False
    ) -> tuple[str, ...]:
        """What a user should know of what a checkpoint lacks, full sentences.

        Args:
            config: inferred from it.
            judged: it has its discriminators; `lack`: what it does, if not.
            told: it tells its image size.
        """
        one_way = config.ways != config.trained_ways
        notes = {
            "There is one generator; the model translates in one direction only.": one_way,
            f"The checkpoint {lack}; the model comes without.": not judged and not one_way,
            f"The checkpoint doesn't tell its image size; {config.image_size} is assumed (--image-size).": (
                self.image_size is None and not told
            ),
        }
        return tuple(note for note, applies in notes.items() if applies)

    def check_size(self, least: int) -> None:
        """Whether the image size suits a checkpoint, whose networks are made for so many pixels or more.

        Raises:
            ConfigError: it doesn't.
        """
        if self.image_size is not None and self.image_size < least:
            raise ConfigError(
                f"--image-size {self.image_size} contradicts the checkpoint, which is for {least} px or more",
                f"Give {least}, or leave --image-size out.",
            )


@dataclass(frozen=True)
class Official:
    """An authors' checkpoint as ours.

    Attributes:
        config: settings inferred from it.
        translators, critics: tensors by our names; no critics where it has none.
        notes: what a user should know about it, full sentences.
    """

    config: BaseConfig
    translators: Mapping[str, Tensor]
    critics: Mapping[str, Tensor] | None = None
    notes: tuple[str, ...] = field(default=())


def _sums(terms: Sequence[Term], losses: Losses) -> Losses:
    sums: Losses = {}
    for domain in DOMAINS:
        for kind in ("discriminator", "generator"):
            ours = [term for term in terms if (term.domain, term.of) == (domain, kind)]
            if ours and all(term.name in losses for term in ours):
                sums[f"{kind[0]}_{domain}"] = sum_of(term.weight * losses[term.name] for term in ours)
    return sums


def sum_of(losses: Iterable[Tensor]) -> Tensor:
    """The sum of some scalars, 0 of none."""
    return sum(losses, start=torch.zeros(()))


def mean_of(losses: Iterable[Tensor]) -> Tensor:
    """The mean of some scalars, at least one."""
    found = list(losses)
    return sum_of(found) / len(found)


def leaf(x: Tensor) -> Tensor:
    """A copy where the graphs of what is made of it end, and their gradients meet."""
    return x.detach().requires_grad_()


def random_numbers(*entropy: int) -> torch.Generator:
    """Random numbers on the CPU that some whole numbers decide, such as a run's seed, the step and the process.

    Trailing zeros count for nothing.
    """
    state = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(state)
