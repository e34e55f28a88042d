"""The smallest method: all that one has to say to train, go on, translate and convert."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from torch import Tensor

import ugatit_cli
from tests.cli.conftest import Command, ugatit  # noqa: F401  # a fixture
from tests.helpers import images, picture
from tests.trainings import make_folders, metrics, weights
from ugatit_cli.cli.train import train as train_command
from ugatit_cli.cli.train_command import Asked
from ugatit_cli.config import DIRECTIONS, DOMAINS, BaseConfig
from ugatit_cli.device import Group
from ugatit_cli.errors import ModelError
from ugatit_cli.fields import fields_of
from ugatit_cli.methods import registry
from ugatit_cli.methods.adam import Adam
from ugatit_cli.methods.base import Losses, Method, Official, OfficialSettings, States, Step, Term
from ugatit_cli.methods.networks import Networks
from ugatit_cli.methods.recipe import Recipe, RecipeName
from ugatit_cli.methods.registry import METHODS
from ugatit_cli.nn.generator import Translation
from ugatit_cli.nn.layers import Network, ZeroConv2d
from ugatit_cli.training import settings as settings_module
from ugatit_cli.weights import official as official_module
from ugatit_cli.weights.official import convert


@dataclass(frozen=True, slots=True)
class ToyConfig(BaseConfig):
    """Nothing but what all methods have."""

    method: ClassVar[str] = "toy"


class Tint(Network):
    """Changes colours alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = ZeroConv2d(3, 3, 1, pad=0, bias=True)

    def forward(self, x: Tensor) -> Translation:
        """(N, 3, H, W) in [-1, 1] -> the same."""
        return Translation((x + self.conv(x.to(self.conv.weight.dtype))).tanh().float())


class ToyStep(Step):
    """Makes mean colours those of the other domain."""

    def __init__(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> None:
        super().__init__(networks, recipe, seed=seed, group=group)
        self.optimizers = [Adam(networks.translators, recipe, group.average)]

    def losses(self, a: Tensor, b: Tensor, *, step: int) -> Losses:  # noqa: ARG002  # nothing is random
        """See `Step`."""
        losses = {}
        for domain, goal, source in zip(DOMAINS, (a, b), (b, a), strict=True):
            image = self.networks.translators["b2a" if domain == "a" else "a2b"](source).image
            losses[f"tint_{domain}"] = (image.mean((0, 2, 3)) - goal.mean((0, 2, 3))).square().mean()
        torch.autograd.backward(list(losses.values()))
        self.optimizers[0].step()
        return losses


class Toy(Method):
    """Everything that a method has to say."""

    name = "toy"
    title = "Toy"
    source = "these tests"
    config = ToyConfig
    settings = frozenset(fields_of(Recipe))
    paper_iterations = 10

    def recipe(self, name: RecipeName) -> Recipe:
        """One for all."""
        return Recipe(name, learning_rate=0.05, decay_from=1.0, weight_decay=0.0, ema=0.0)

    def translators(self, config: BaseConfig) -> dict[str, Network]:
        """One for each direction."""
        return {direction: Tint() for direction in config.directions}

    def critics(self, config: BaseConfig) -> dict[str, Network]:  # noqa: ARG002
        """None."""
        return {}

    def terms(self, config: BaseConfig, recipe: Recipe) -> tuple[Term, ...]:  # noqa: ARG002
        """One for each domain."""
        return tuple(Term(f"tint_{domain}", "tint", domain, "generator", 1.0) for domain in DOMAINS)

    def step(
        self,
        networks: Networks,
        recipe: Recipe,
        *,
        seed: int,
        group: Group,
    ) -> Step:
        """See `ToyStep`."""
        return ToyStep(networks, recipe, seed=seed, group=group)

    def official(self, states: States, settings: OfficialSettings) -> Official | None:
        """A file with `matrix` and `offset`."""
        state = states.get("", {})
        if "matrix" not in state:
            return None
        tensors = {"a2b.conv.weight": state["matrix"][:, :, None, None], "a2b.conv.bias": state["offset"]}
        return Official(ToyConfig(ways="a2b", **settings.fields()), tensors)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line in the registry."""
    methods = MappingProxyType({**METHODS, "toy": f"{__name__}:Toy"})
    for module in (registry, settings_module, official_module):
        monkeypatch.setattr(module, "METHODS", methods)


@pytest.mark.usefixtures("toy")
def test_a_toy_method_trains_and_goes_on_and_translates(tmp_path: Path, ugatit: Command) -> None:  # noqa: F811
    folders = make_folders(tmp_path / "pictures")
    sizes = {"method": "toy", "image_size": 32, "iterations": 60, "checkpoint_every": "20", "holdout": "0"}

    def run(path: Path, **given: Any) -> None:
        train_command(
            Asked(domain_a=folders.a, domain_b=folders.b, method="toy", output=path, device="cpu"),  # type: ignore[arg-type]
            sizes | {"precision": "fp32"} | given,
            frozenset(),
        )

    run(tmp_path / "whole")
    run(tmp_path / "parts", iterations=20)
    run(tmp_path / "parts", iterations=60)
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    lines = metrics(tmp_path / "whole")
    assert lines[-1]["tint_a"] < 0.1 * lines[0]["tint_a"]
    model = ugatit_cli.load(tmp_path / "whole", device="cpu", precision="fp32")
    assert isinstance(model.config, ToyConfig)
    picture(7, 5).save(tmp_path / "x.png")
    for direction in DIRECTIONS:
        outcome = ugatit(
            *("translate", tmp_path / "x.png", "--model", tmp_path / "whole", "-o", tmp_path / f"{direction}.png"),
            *("--direction", direction, "--device", "cpu", "--precision", "fp32"),
        )
        assert outcome.code == 0, outcome.stderr
        expected = model.translate(tmp_path / "x.png", direction)
        with Image.open(tmp_path / f"{direction}.png") as found:
            assert found.convert("RGB").tobytes() == expected.tobytes()


@pytest.mark.usefixtures("toy")
def test_a_toy_method_converts_its_files(tmp_path: Path) -> None:
    matrix = torch.tensor([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])
    torch.save({"matrix": matrix - torch.eye(3), "offset": torch.zeros(3)}, tmp_path / "x.pth")
    convert([tmp_path / "x.pth"], tmp_path / "model")
    model = ugatit_cli.load(tmp_path / "model", device="cpu", precision="fp32")
    x = images(1, 3, 4, 4)
    torch.testing.assert_close(model.generator("a2b")(x).image, x.flip(1).tanh())
    torch.save({"matrix": matrix}, tmp_path / "y.pth")
    with pytest.raises(ModelError, match="offset"):
        convert([tmp_path / "y.pth"], tmp_path / "other")
