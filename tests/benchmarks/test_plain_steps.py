"""The plain steps that trainings are measured against: the authors' networks, all of whose weights they train."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from benchmarks.plain_steps import STEPS
from benchmarks.training import STEPS_PER_TURN
from ugatit_cli.methods.registry import METHODS

# Of the authors' networks, in all: a direction's, or a domain's; of DRIT both domains'.
PARAMETERS = {
    "cyclegan": {"gen_ab": 11_378_179, "dis_a": 2_764_737},
    "cartoongan": {"gen": 11_129_667},
    "unit": {"enc_a": 5_385_856, "dec_b": 5_754_627, "dis_a": 8_271_171},
    "munit": {"enc_b": 5_385_856, "style_a": 2_764_936, "dec_a": 5_754_627 + 1_120_768, "dis_b": 8_271_171},
    "drit": {
        "content": 9_018_112,
        "attr": 2_688_160,
        "gen": 9_564_710,
        "dis_a2": 8_271_171,
        "judge": 10_683_649,
    },
    "aggan": {"gen_ba": 2_855_811, "att_ab": 104_001, "dis_a": 2_766_657},
}
# Nothing else of a method's differs from the others'.
CHANNELS = {"aggan": 32}
BLOCKS = {"cyclegan": 9, "cartoongan": 8, "aggan": 9}
EVERY = pytest.mark.parametrize("name", STEPS)


def networks(name: str, size: int, channels: int, judges: int, blocks: int) -> nn.ModuleDict:
    sizes = SimpleNamespace(channels=channels, discriminator_channels=judges, blocks=blocks, image_size=size)
    make, _ = STEPS[name]
    return make(sizes)


@EVERY
def test_the_authors_networks(name: str) -> None:
    with torch.device("meta"):
        nets = networks(name, 256, CHANNELS.get(name, 64), 64, BLOCKS.get(name, 4))
    for part, count in PARAMETERS[name].items():
        ours = [
            network for key, network in nets.items() if key == part or (name == "drit" and key.startswith(f"{part}_"))
        ]
        assert sum(weight.numel() for network in ours for weight in network.parameters()) == count, part


@EVERY
def test_a_round_trains_everything(name: str) -> None:
    nets = networks(name, 64, 2, 2, 1)
    before: dict[str, Tensor] = {key: weight.clone() for key, weight in nets.named_parameters()}
    _, make = STEPS[name]
    step = make(nets)
    a, b = torch.rand(2, 2, 3, 64, 64) * 2 - 1
    losses = [step(a, b) for _ in range(STEPS_PER_TURN.get(name, 1))]
    assert torch.tensor(losses).isfinite().all()
    left = {key for key, weight in nets.named_parameters() if torch.equal(weight, before[key])}
    assert {key for key in left if not key.startswith("vgg.")} == set()


def test_there_is_one_of_every_method() -> None:
    assert set(METHODS) <= {*STEPS, "ugatit"}
