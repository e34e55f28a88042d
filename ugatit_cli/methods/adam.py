"""Adam, with weights in memory order and large ones updated while the backward pass goes on."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.nn.layers import is_channels_last

# From this many numbers on, a weight is large.
LARGE = 1_000_000


class Adam:
    """Adam (Kingma and Ba 2015) with the L2 weight decay of the official code, over named parameters.

    PyTorch's, handed views of the weights in memory order: its fused kernel copies tensors of any other order, which
    on a CPU takes twice as long as the update itself.

    Args:
        networks: by the prefix of their parameters' names.
        average: replaces gradients by their mean over all processes.
        eager: update large weights while the backward pass goes on, which frees their gradients at once. For
            networks with a single backward pass per step.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        recipe: Recipe,
        average: Callable[[list[Tensor]], None],
        *,
        eager: bool = False,
    ) -> None:
        self.parameters = {
            f"{prefix}.{name}": parameter
            for prefix, network in networks.items()
            for name, parameter in network.named_parameters()
        }
        self.views = {name: nn.Parameter(_in_memory_order(weight)) for name, weight in self.parameters.items()}
        self.learning_rate = recipe.learning_rate
        self._average = average
        self._recipe = recipe
        self._eager: dict[str, torch.optim.Adam] = {}
        for name, parameter in self.parameters.items():
            if eager and parameter.numel() >= LARGE:
                self._eager[name] = self._adam([name])
                register: Any = parameter.register_post_accumulate_grad_hook  # torch leaves it untyped
                # Weakly: Python can't see that the parameter holds its hook, and would never free the two.
                register(functools.partial(_update_large, weakref.ref(self), name))
        self._rest = [name for name in self.parameters if name not in self._eager]
        self._optimizer = self._adam(self._rest)
        self.prepare(0)

    def _adam(self, names: list[str]) -> torch.optim.Adam:
        views = [self.views[name] for name in names]
        return torch.optim.Adam(
            views,
            betas=(self._recipe.beta1, self._recipe.beta2),
            weight_decay=self._recipe.weight_decay,
            fused=views[0].device.type in ("cpu", "cuda"),
        )

    def step(self) -> None:
        """Updates what isn't updated yet, at `learning_rate`, and drops the gradients."""
        self._update(self._optimizer, self._rest)

    def update_large(self, name: str) -> None:
        """Updates one large weight, and drops its gradient."""
        self._update(self._eager[name], [name])

    def _update(self, optimizer: torch.optim.Adam, names: list[str]) -> None:
        optimizer.param_groups[0]["lr"] = self.learning_rate
        trained = [name for name in names if self.parameters[name].grad is not None]
        gradients = {name: cast(Tensor, self.parameters[name].grad) for name in trained}
        self._average(list(gradients.values()))
        for name, gradient in gradients.items():
            self.views[name].grad = _in_memory_order(gradient)
            self.parameters[name].grad = None
        optimizer.step()
        optimizer.zero_grad()

    def tensors(self) -> dict[str, Tensor]:
        """The moments by name; those in use, not copies."""
        return {
            f"{name}.{moment}": _in_channel_order(self._state_of(name)[view][moment], self.parameters[name])
            for name, view in self.views.items()
            for moment in ("exp_avg", "exp_avg_sq")
        }

    def prepare(self, updates: int) -> dict[str, Tensor]:
        """Makes zero moments as after a number of updates, and returns them by name, to be filled in place."""
        for name, view in self.views.items():
            self._state_of(name)[view] = {
                # Where the fused kernel of a GPU expects it.
                "step": torch.tensor(float(updates), device=view.device if view.is_cuda else "cpu"),
                "exp_avg": torch.zeros_like(view),
                "exp_avg_sq": torch.zeros_like(view),
            }
        return self.tensors()

    def _state_of(self, name: str) -> dict[Tensor, Any]:
        return self._eager.get(name, self._optimizer).state


def _update_large(optimizer: weakref.ref[Adam], name: str, _: Tensor) -> None:
    owner = optimizer()
    if owner is not None:
        owner.update_large(name)


def _in_memory_order(tensor: Tensor) -> Tensor:
    return tensor.detach().permute(0, 2, 3, 1) if is_channels_last(tensor) else tensor.detach()


def _in_channel_order(moment: Tensor, weight: Tensor) -> Tensor:
    return moment.permute(0, 3, 1, 2) if is_channels_last(weight) else moment
