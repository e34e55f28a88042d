"""Adam against PyTorch's, its stored moments, and updates during the backward pass."""

from __future__ import annotations

import dataclasses
import gc
import weakref

import pytest
import torch
from torch import Tensor

from tests import tiny
from ugatit_cli.methods import adam as adam_module
from ugatit_cli.methods.adam import Adam
from ugatit_cli.methods.recipe import preset
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import Generator


def generator(format_: torch.memory_format = torch.channels_last) -> Generator:
    torch.manual_seed(0)
    return Generator(tiny.LIGHT).to(memory_format=format_)


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def nothing(_: list[Tensor]) -> None:
    """What a group of one does to gradients."""


def fill_gradients(network: Generator | Discriminator, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        # In the weight's memory format, as autograd leaves it.
        weight.grad = torch.empty_like(weight).copy_(torch.randn(weight.shape, generator=source))


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("format_", [torch.channels_last, torch.contiguous_format])
def test_updates_are_those_of_torch(decay: float, format_: torch.memory_format) -> None:
    ours, theirs = generator(format_), generator().double()
    recipe = dataclasses.replace(preset("paper"), weight_decay=decay)
    optimizer = Adam({"a2b": ours}, recipe, nothing)
    reference = torch.optim.Adam(theirs.parameters(), betas=(0.5, 0.999), weight_decay=decay)
    for step in range(5):
        optimizer.learning_rate = reference.param_groups[0]["lr"] = 1e-2 / (1 + step)
        fill_gradients(ours, step)
        for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert weight.grad is not None
            other.grad = weight.grad.double()
        optimizer.step()
        reference.step()
        assert all(weight.grad is None for weight in ours.parameters())
    for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(weight.double(), other, rtol=1e-5, atol=1e-6)
    moments = optimizer.tensors()
    for name, other in theirs.named_parameters():
        for moment in ("exp_avg", "exp_avg_sq"):
            stored = moments[f"a2b.{name}.{moment}"].double()
            torch.testing.assert_close(stored, reference.state[other][moment], rtol=1e-5, atol=1e-6)


def test_large_weights_are_updated_as_soon_as_their_gradient_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adam_module, "LARGE", 200)
    x = torch.randn(1, 3, 32, 32)
    ends = []
    for eager in (False, True):
        torch.manual_seed(0)
        network = Discriminator(tiny.LIGHT, "local")
        optimizer = Adam({"d": network}, preset("paper"), nothing, eager=eager)
        large = [weight for weight in network.parameters() if weight.numel() >= 200]
        assert 0 < len(large) < len(list(network.parameters()))
        for _ in range(3):
            before = [weight.detach().clone() for weight in large]
            output = network(x)
            torch.autograd.backward(output.logit.square().sum() + output.cam_logit.sum())
            updated = [not torch.equal(weight, old) for weight, old in zip(large, before, strict=True)]
            assert updated == [eager] * len(large)
            assert all((weight.grad is None) == eager for weight in large)
            optimizer.step()
            assert all(weight.grad is None for weight in network.parameters())
        ends.append(tiny.tensors(network, "") | optimizer.tensors())
    assert_same(*ends)


def test_optimizers_are_freed_with_their_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adam_module, "LARGE", 100)
    network = Discriminator(tiny.LIGHT, "local")
    optimizer = Adam({"a": network}, preset("default"), lambda _: None, eager=True)
    remains = weakref.ref(optimizer), weakref.ref(network)
    del optimizer, network
    gc.collect()
    assert [one() for one in remains] == [None, None]
