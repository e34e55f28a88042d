"""CycleGAN against recorded outputs and steps of the authors' code, and what a run needs beside."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.helpers import images
from ugatit_cli.config import Precision
from ugatit_cli.device import Group
from ugatit_cli.methods.base import Official, OfficialSettings, Step
from ugatit_cli.methods.configs import CycleGANConfig
from ugatit_cli.methods.cyclegan import CycleGAN
from ugatit_cli.methods.networks import Networks, build_networks
from ugatit_cli.methods.pool import Pool
from ugatit_cli.methods.recipe import Recipe

METHOD = CycleGAN()
TINY = CycleGANConfig(image_size=32, channels=4, blocks=1, discriminator_channels=4)
PAPER = METHOD.recipe("paper")
NETWORKS = ("G_A", "G_B", "D_A", "D_B")
States = dict[str, dict[str, Tensor]]


# --- The authors' numbers ------------------------------------------------------------------------------


def states_of(tensors: Mapping[str, Tensor], prefix: str = "") -> States:
    """Tensors of a golden file by network: what the authors' files hold."""
    return {
        network: {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
        for network in NETWORKS
        for start in (f"{prefix}{network}.",)
    }


def official(states: Mapping[str, Mapping[str, Tensor]], **settings: Any) -> Official:
    found = METHOD.official(states, OfficialSettings(**settings))
    assert found is not None
    return found


def networks_of(found: Official, dtype: torch.dtype = torch.float32) -> Networks:
    networks = build(found.config, "fp32")
    for file, tensors in (("generators", found.translators), ("discriminators", found.critics or {})):
        own = networks.files()[file]
        assert set(own) == set(tensors)
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    for network in all_of(networks):
        network.to(dtype)
        network.compute_dtype = None  # type: ignore[assignment]  # no module, but a switch of theirs
    return networks


def build(config: Any, precision: Precision, seed: int = 0) -> Networks:
    options: dict[str, Any] = {"seed": seed, "device": torch.device("cpu"), "precision": precision}
    return build_networks(config, METHOD.translators, METHOD.critics, averaged=False, **options)


def all_of(networks: Networks) -> list[nn.Module]:
    return [*networks.translators.values(), *networks.critics.values()]


def decoded(pictures: Tensor, dtype: torch.dtype) -> Tensor:
    return pictures.to(dtype) / 127.5 - 1


def golden_states(golden: Path, name: str = "weights", prefix: str = "") -> States:
    return states_of(load_file(golden / "baselines" / "cyclegan" / f"{name}.safetensors"), prefix)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-6)])
def test_outputs_are_the_authors(golden: Path, dtype: torch.dtype, tolerance: float) -> None:
    networks = networks_of(official(golden_states(golden)), dtype)
    io = load_file(golden / "baselines" / "cyclegan" / "io.safetensors")
    generator, judge = networks.translators["a2b"], networks.critics["b"]
    found = {}
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            found[f"square {grad}"] = generator(decoded(io["x_u8"], dtype)).image
            found[f"oblong {grad}"] = generator(decoded(io["x_48x64_u8"], dtype)).image
            found[f"scores {grad}"] = judge(decoded(io["x_u8"], dtype))
    assert {one.dtype for one in found.values()} == {dtype}
    for name, one in found.items():
        expected = io[{"square": "G_A.y", "oblong": "G_A.y_48x64", "scores": "D_A.y"}[name.split()[0]]]
        torch.testing.assert_close(one, expected.to(dtype), rtol=0, atol=tolerance)


@dataclass(frozen=True)
class Recording(Group):
    """Keeps the gradients that processes would average, call by call."""

    seen: list[list[Tensor]] = field(default_factory=list)

    def average(self, tensors: list[Tensor]) -> None:
        self.seen.append([tensor.clone() for tensor in tensors])


def authors_terms(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Our losses by the authors' names and with their weights. Their D_A judges domain B."""
    weighted = {name: loss.item() for name, loss in losses.items()}
    terms: dict[str, float] = {}
    for ours, theirs, other in (("a", "A", "B"), ("b", "B", "A")):
        terms |= {
            f"D_{other}": 0.5 * weighted[f"d_patch_{ours}"],
            f"G_{other}": weighted[f"g_patch_{ours}"],
            f"cycle_{theirs}": 10 * weighted[f"cycle_{ours}"],
            # Their idt_A is G_A(b) beside b.
            f"idt_{other}": 5 * weighted[f"identity_{ours}"],
        }
    return terms | {"G": weighted["g_a"] + weighted["g_b"]}


def test_three_steps_are_the_authors(golden: Path) -> None:
    networks = networks_of(official(golden_states(golden)), torch.float64)
    group = Recording()
    step = METHOD.step(networks, PAPER, seed=0, group=group)
    recorded = load_file(golden / "baselines" / "cyclegan" / "step.safetensors")
    logged = json.loads((golden / "baselines" / "cyclegan" / "losses.json").read_text())["steps"]
    ends = (golden_states(golden, "step", "after1."), None, golden_states(golden, "after3"))
    for i, (terms, after) in enumerate(zip(logged, ends, strict=True)):
        a, b = (decoded(recorded[f"real_{domain}.{i}_u8"], torch.float64) for domain in "AB")
        losses = step(a, b, step=i, learning_rate=PAPER.learning_rate)
        assert authors_terms(losses) == pytest.approx(terms, rel=1e-12)
        if after:
            assert_all_close(weights(networks), tensors_of(official(after)), 1e-7)
    # Generators first, then discriminators.
    found = dict(zip(weights(networks), group.seen[0] + group.seen[1], strict=True))
    assert_all_close(found, tensors_of(official(golden_states(golden, "step", "grad."))), 1e-5)


def weights(networks: Networks) -> dict[str, Tensor]:
    files = networks.files()
    return files["generators"] | files["discriminators"]


def tensors_of(found: Official) -> dict[str, Tensor]:
    assert found.critics is not None
    return {**found.translators, **found.critics}


def assert_all_close(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float) -> None:
    expected = {name: tensor.double() for name, tensor in theirs.items()}
    torch.testing.assert_close(dict(ours), expected, rtol=0, atol=tolerance)


def test_parameters_are_the_authors_but_for_biases_before_norms() -> None:
    networks = {**METHOD.translators(CycleGANConfig()), **METHOD.critics(CycleGANConfig())}
    counts = {name: sum(one.numel() for one in network.parameters()) for name, network in networks.items()}
    generator = 11_378_179 - (64 + 128 + 256 + 18 * 256 + 128 + 64)
    critic = 2_764_737 - (128 + 256 + 512)
    assert counts == {"a2b": generator, "b2a": generator, "b": critic, "a": critic}


def test_the_papers_recipe_is_the_authors() -> None:
    assert (PAPER.batch_size, PAPER.learning_rate, PAPER.weight_decay, PAPER.pool_size) == (1, 2e-4, 0, 50)
    assert (PAPER.beta1, PAPER.beta2, PAPER.epochs, PAPER.decay_from, PAPER.flip) == (0.5, 0.999, 200, 0.5, True)
    assert (PAPER.adversarial_weight, PAPER.cycle_weight, PAPER.identity_weight) == (1, 10, 5)
    assert (PAPER.ema, PAPER.augment, PAPER.fit, PAPER.jitter) == (0, "off", "squash", True)


# --- The pool ------------------------------------------------------------------------------------------


def numbered(first: int, n: int = 1) -> Tensor:
    return torch.arange(first, first + n, dtype=torch.float32)[:, None, None, None].expand(n, 3, 2, 2)


def numbers(pictures: Tensor | list[Tensor]) -> list[int]:
    return [int(picture[0, 0, 0]) for picture in pictures]


def test_a_pool_stores_until_it_is_full_then_half_of_what_it_gives_is_older() -> None:
    pool, random = Pool(5), torch.Generator().manual_seed(0)
    assert numbers(pool.query(numbered(0, 3), random)) == [0, 1, 2]
    assert numbers(pool.query(numbered(3, 2), random)) == [3, 4]
    assert numbers(pool.pictures) == [0, 1, 2, 3, 4]
    older, stored = 0, {0, 1, 2, 3, 4}
    for new in range(5, 1005):
        (given,) = numbers(pool.query(numbered(new), random))
        older += given != new
        stored = stored | {new}
        stored -= {given}
        assert set(numbers(pool.pictures)) == stored
    assert 437 < older < 563  # four standard deviations


def test_each_of_a_batch_goes_through_the_pool_by_itself() -> None:
    together, alone = Pool(2), Pool(2)
    one, other = (torch.Generator().manual_seed(3) for _ in range(2))
    given = numbers(together.query(numbered(0, 40), one))
    assert given == [numbers(alone.query(numbered(i), other))[0] for i in range(40)]


def test_a_pool_without_room_gives_what_is_new() -> None:
    pool = Pool(0)
    assert numbers(pool.query(numbered(7, 3), torch.Generator())) == [7, 8, 9]
    assert not pool.pictures


def test_what_a_pool_keeps_does_not_change_with_the_batch() -> None:
    pool, batch = Pool(2), numbered(1, 2).clone()
    pool.query(batch, torch.Generator())
    batch.zero_()
    assert numbers(pool.pictures) == [1, 2]


# --- A step --------------------------------------------------------------------------------------------


def pictures(n: int, seed: int, side: int = 32) -> tuple[Tensor, Tensor]:
    both = images(2 * n, 3, side, side, seed=seed)
    return both[:n], both[n:]


def train(step: Step, first: int, last: int, n: int = 1) -> list[dict[str, float]]:
    found = []
    for number in range(first, last):
        losses = step(*pictures(n, number), step=number, learning_rate=2e-3)
        found.append({name: loss.item() for name, loss in losses.items()})
    return found


def new_step(recipe: Recipe, precision: Precision = "fp32", seed: int = 0) -> Step:
    return METHOD.step(build(TINY, precision, seed), recipe, seed=0, group=Group())


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    torch.testing.assert_close(dict(one), dict(other), rtol=0, atol=0)


@dataclass(frozen=True)
class Threads(Group):
    """Two processes as threads of this one."""

    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=60))
    desk: dict[int, list[Tensor]] = field(default_factory=dict)

    def _exchange(self, tensors: list[Tensor]) -> list[list[Tensor]]:
        self.desk[self.rank] = [tensor.clone() for tensor in tensors]
        self.meeting.wait()
        found = [self.desk[0], self.desk[1]]
        self.meeting.wait()
        return found

    def average(self, tensors: list[Tensor]) -> None:
        for tensor, one, other in zip(tensors, *self._exchange(tensors), strict=True):
            tensor.copy_((one + other) / 2)

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.cat([tensors[0] for tensors in self._exchange([tensor])])


def test_two_processes_train_like_one_with_the_pictures_of_both() -> None:
    recipe = dataclasses.replace(PAPER, pool_size=3)
    alone = METHOD.step(doubled(), recipe, seed=0, group=Group())
    first = Threads(0, 2)
    pair = [METHOD.step(doubled(), recipe, seed=0, group=g) for g in (first, dataclasses.replace(first, rank=1))]

    def run(rank: int) -> None:
        for number in range(6):
            a, b = (one[rank : rank + 1].double() for one in pictures(2, number))
            pair[rank](a, b, step=number, learning_rate=2e-4)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for number in range(6):
        a, b = (one.double() for one in pictures(2, number))
        alone(a, b, step=number, learning_rate=2e-4)
    for thread in threads:
        thread.join()
    for step in pair:
        assert_all_close(weights(step.networks), weights(alone.networks), 1e-7)
        assert_all_close(step.memory(), alone.memory(), 1e-6)


def doubled() -> Networks:
    networks = build(TINY, "fp32")
    for network in all_of(networks):
        network.double()
        network.compute_dtype = None  # type: ignore[assignment]  # no module, but a switch of theirs
    return networks


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("identity_weight", [5.0, 0.0])
def test_a_step_trains_every_weight(precision: Precision, identity_weight: float) -> None:
    recipe = dataclasses.replace(METHOD.recipe("default"), augment="on", identity_weight=identity_weight, pool_size=1)
    step = new_step(recipe, precision)
    before = {name: tensor.clone() for name, tensor in weights(step.networks).items()}
    losses = train(step, 0, 3)[-1]
    assert set(losses) == {term.name for term in step.terms} | {"g_a", "g_b", "d_a", "d_b"}
    assert ("identity_a" in losses) == bool(identity_weight)
    assert all(torch.tensor(loss).isfinite() for loss in losses.values())
    for name, tensor in weights(step.networks).items():
        assert tensor.dtype == torch.float32
        assert tensor.isfinite().all()
        assert not torch.equal(tensor, before[name]), name


def test_the_smallest_pictures_train() -> None:
    least = TINY.smallest_training[0]
    losses = new_step(PAPER)(*pictures(1, 0, least), step=0, learning_rate=2e-4)
    assert all(loss.isfinite() for loss in losses.values())
    with pytest.raises((RuntimeError, ValueError)):
        new_step(PAPER)(*pictures(1, 0, least - 4), step=0, learning_rate=2e-4)


@pytest.mark.parametrize("size", [(8, 8), (40, 64)])
def test_half_precision_gives_the_same_picture(size: tuple[int, int]) -> None:
    generator = METHOD.translators(TINY)["a2b"].eval()
    x = images(2, 3, *size)
    with torch.no_grad():
        expected = generator(x).image
        found = generator.set_precision(torch.bfloat16)(x).image
    assert (found.dtype, found.shape) == (torch.float32, x.shape)
    # bfloat16 has 8 bits; the layers' errors add up.
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)


# --- The authors' files --------------------------------------------------------------------------------


class PlainBlock(nn.Module):
    def __init__(self, c: int, dropout: bool, buffers: bool) -> None:
        super().__init__()
        half = [nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3), nn.InstanceNorm2d(c, track_running_stats=buffers)]
        other = [nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3), nn.InstanceNorm2d(c, track_running_stats=buffers)]
        between: list[nn.Module] = [nn.ReLU(), *([nn.Dropout(0.5)] if dropout else [])]
        self.conv_block = nn.Sequential(*half, *between, *other)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv_block(x)
        return out


class PlainGenerator(nn.Module):
    """The generator as docs and papers write it down, with the authors' tensor names."""

    def __init__(self, c: int = 4, blocks: int = 2, *, dropout: bool = False, buffers: bool = False) -> None:
        super().__init__()

        def norm(channels: int) -> list[nn.Module]:
            return [nn.InstanceNorm2d(channels, track_running_stats=buffers), nn.ReLU()]

        self.model = nn.Sequential(
            *(nn.ReflectionPad2d(3), nn.Conv2d(3, c, 7), *norm(c)),
            *(nn.Conv2d(c, 2 * c, 3, 2, 1), *norm(2 * c)),
            *(nn.Conv2d(2 * c, 4 * c, 3, 2, 1), *norm(4 * c)),
            *(PlainBlock(4 * c, dropout, buffers) for _ in range(blocks)),
            *(nn.ConvTranspose2d(4 * c, 2 * c, 3, 2, 1, output_padding=1), *norm(2 * c)),
            *(nn.ConvTranspose2d(2 * c, c, 3, 2, 1, output_padding=1), *norm(c)),
            *(nn.ReflectionPad2d(3), nn.Conv2d(c, 3, 7), nn.Tanh()),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out


@pytest.mark.parametrize(
    "options",
    [{"blocks": 6}, {"blocks": 9, "dropout": True}, {"blocks": 1, "c": 6, "buffers": True}],
    ids=["six blocks", "dropout", "old buffers"],
)
def test_one_generator_becomes_a_model_of_one_way(options: dict[str, Any]) -> None:
    plain = PlainGenerator(**options).double()
    for module in plain.modules():
        module.training = not isinstance(module, nn.Dropout)  # of norms: each picture's own statistics
    x = images(1, 3, 24, 32).double()
    with torch.no_grad():
        expected = plain(x)
    found = official({"": plain.state_dict()}, domains=("horse", "zebra"))
    assert found.config == CycleGANConfig(
        "horse", "zebra", channels=options.get("c", 4), blocks=options["blocks"], ways="a2b"
    )
    assert found.critics is None
    generator = METHOD.translators(found.config)["a2b"].double()
    generator.load_state_dict({name.removeprefix("a2b."): one for name, one in found.translators.items()})
    torch.testing.assert_close(generator(x).image, expected, rtol=0, atol=1e-9)


def test_two_generators_are_a_model_of_both_ways_and_discriminators_come_along(golden: Path) -> None:
    states = golden_states(golden)
    found = official(states, image_size=128)
    assert (found.config.ways, found.config.image_size, found.config.blocks) == ("both", 128, 9)
    assert found.critics is not None
    assert not found.notes
    without = official({name: states[name] for name in ("G_A", "G_B", "D_A")})
    assert without.critics is None
    assert len(without.notes) == 2
    assert_same(without.translators, found.translators)


def test_what_is_not_cyclegans_is_left_to_other_methods(golden: Path) -> None:
    for states in (
        {},
        {"": {"conv01_1.weight": torch.zeros(64, 3, 7, 7)}},
        {"genA2B": {"DownBlock.12.conv_block.1.weight": torch.zeros(4, 4, 3, 3)}},
        {"": golden_states(golden)["D_A"]},
    ):
        assert METHOD.official(states, OfficialSettings()) is None


@pytest.mark.parametrize("name", ["model.1.weight", "model.4.bias", "model.11.conv_block.5.weight", "model.19.bias"])
def test_damaged_files_are_refused(name: str) -> None:
    whole = dict(PlainGenerator(blocks=6).state_dict())
    for state in (
        {key: tensor for key, tensor in whole.items() if key != name},
        whole | {name: torch.zeros(5, 5)},
        whole | {name: torch.zeros(())},
        # Batch norm, as in other models of the same code.
        whole | {"model.2.weight": torch.ones(4)},
    ):
        with pytest.raises((KeyError, IndexError, ValueError)):
            METHOD.official({"": state}, OfficialSettings())
    with pytest.raises((KeyError, ValueError)):
        METHOD.official({"G_A": whole, "G_B": PlainGenerator(blocks=2).state_dict()}, OfficialSettings())
