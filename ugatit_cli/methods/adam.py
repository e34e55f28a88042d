"""Adam, with weights in memory order and large ones updated while the backward pass goes on."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.nn.layers import is_channels_last

# From this many numbers on, a weight is large.
LARGE = 1_000_000


@dataclass
class Clock:
    """Counts the updates of all the networks that one of TensorFlow's optimizers trains.

    Attributes:
        updates: those so far, the next one included.
    """

    updates: int = 1

    def correction(self, recipe: Recipe) -> float:
        """What TensorFlow multiplies the learning rate with, instead of correcting the moments' bias."""
        return math.sqrt(1 - recipe.beta2**self.updates) / (1 - recipe.beta1**self.updates)


class Adam:
    """Adam (Kingma and Ba 2015) with the L2 weight decay of the official code, over named parameters.

    PyTorch's function, handed views of the weights in memory order: its fused kernel copies tensors of any other
    order, which on a CPU takes twice as long as the update itself. Its class would import PyTorch's compiler.

    Args:
        networks: by the prefix of their parameters' names.
        average: replaces gradients by their mean over all processes.
        eager: update large weights while the backward pass goes on, which frees their gradients at once. For
            networks with a single backward pass per step.
        clock: use TensorFlow's form (the paper's, end of section 2), whose epsilon counts for more at the start, and
            whose bias correction is of the clock's updates, not of the weight's own.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        recipe: Recipe,
        average: Callable[[list[Tensor]], None],
        *,
        eager: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.parameters = {
            f"{prefix}.{name}": parameter
            for prefix, network in networks.items()
            for name, parameter in network.named_parameters()
        }
        self.learning_rate = recipe.learning_rate
        self._average = average
        self._recipe = recipe
        self._clock = clock
        self._eager = set[str]()
        for name, parameter in self.parameters.items():
            if eager and parameter.numel() >= LARGE:
                self._eager.add(name)
                register: Any = parameter.register_post_accumulate_grad_hook  # torch leaves it untyped
                # Weakly: Python can't see that the parameter holds its hook, and would never free the two.
                register(functools.partial(_update_large, weakref.ref(self), name))
        self.prepare(0)

    def step(self) -> None:
        """Updates what isn't updated yet, at `learning_rate`, and drops the gradients."""
        self._update([name for name in self.parameters if name not in self._eager])

    def update_large(self, name: str) -> None:
        """Updates one large weight, and drops its gradient."""
        self._update([name])

    @torch.no_grad()
    def _update(self, names: Iterable[str]) -> None:
        trained = {name: self.parameters[name] for name in names if self.parameters[name].grad is not None}
        gradients = [cast(Tensor, parameter.grad) for parameter in trained.values()]
        if not gradients:
            return
        self._average(gradients)
        states = [self._states[name] for name in trained]
        adam(
            [_in_memory_order(parameter) for parameter in trained.values()],
            [_in_memory_order(gradient) for gradient in gradients],
            [state.mean for state in states],
            [state.square for state in states],
            [],
            [state.step for state in states],
            fused=gradients[0].device.type in ("cpu", "cuda"),
            amsgrad=False,
            beta1=self._recipe.beta1,
            beta2=self._recipe.beta2,
            lr=self.learning_rate * (self._clock.correction(self._recipe) if self._clock else 1),
            weight_decay=self._recipe.weight_decay,
            eps=1e-8,
            maximize=False,
        )
        for parameter in trained.values():
            parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """The moments by name; those in use, not copies."""
        return {
            f"{name}.{moment}": _in_channel_order(tensor, self.parameters[name])
            for name, state in self._states.items()
            for moment, tensor in (("exp_avg", state.mean), ("exp_avg_sq", state.square))
        }

    def prepare(self, updates: int) -> dict[str, Tensor]:
        """Makes zero moments as after a number of updates, and returns them by name, to be filled in place."""
        # After so many there is nothing left for PyTorch to correct.
        number = math.inf if self._clock else updates
        self._states = {name: _State.zero(weight, number) for name, weight in self.parameters.items()}
        return self.tensors()


@dataclass(frozen=True)
class _State:
    """Moments of one weight in memory order, and the number of its updates."""

    step: Tensor
    mean: Tensor
    square: Tensor

    @classmethod
    def zero(cls, weight: Tensor, updates: float) -> Self:
        view = _in_memory_order(weight)
        # Where the fused kernel of a GPU expects it.
        step = torch.tensor(float(updates), device=view.device if view.is_cuda else "cpu")
        return cls(step, torch.zeros_like(view), torch.zeros_like(view))


def _update_large(optimizer: weakref.ref[Adam], name: str, _: Tensor) -> None:
    owner = optimizer()
    if owner is not None:
        owner.update_large(name)


def _in_memory_order(tensor: Tensor) -> Tensor:
    return tensor.detach().permute(0, 2, 3, 1) if is_channels_last(tensor) else tensor.detach()


def _in_channel_order(moment: Tensor, weight: Tensor) -> Tensor:
    return moment.permute(0, 3, 1, 2) if is_channels_last(weight) else moment
