"""DRIT against recorded outputs and steps of the authors' code, and what a run needs beside."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
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
from ugatit_cli.methods import drit_step
from ugatit_cli.methods.base import Losses, Official, OfficialSettings, Step
from ugatit_cli.methods.drit import DRIT
from ugatit_cli.methods.drit_config import DRITConfig
from ugatit_cli.methods.networks import Networks, Unfit, build_networks
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.weights.pytorch import read_states

METHOD = DRIT()
PAPER = METHOD.recipe("paper")
SIZES: dict[str, Any] = {"image_size": 32, "channels": 2, "blocks": 1, "discriminator_channels": 2}
TINY = DRITConfig(**SIZES)
BOTH = pytest.mark.parametrize("variant", ["concat", "ft"])


# --- The authors' numbers ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(golden: Path) -> Path:
    return golden / "baselines" / "drit"


def official(tensors: Mapping[str, Tensor]) -> Official:
    found = METHOD.official({"": tensors}, OfficialSettings())
    assert found is not None
    return found


def build(config: DRITConfig, precision: Precision = "fp32", seed: int = 0, *, averaged: bool = False) -> Networks:
    options: dict[str, Any] = {"seed": seed, "device": torch.device("cpu"), "precision": precision}
    return build_networks(config, METHOD.translators, METHOD.critics, averaged=averaged, **options)


def all_of(networks: Networks) -> list[nn.Module]:
    return [*networks.translators.values(), *networks.critics.values()]


def weights(networks: Networks) -> dict[str, Tensor]:
    files = networks.files()
    return files["generators"] | files["discriminators"]


def networks_of(recorded: Path, variant: str, dtype: torch.dtype) -> Networks:
    found = official(load_file(recorded / f"{variant}.weights.safetensors"))
    networks = build(found.config)  # type: ignore[arg-type]  # it is of this method
    assert found.critics is not None
    tensors = {**found.translators, **found.critics}
    assert set(tensors) == set(weights(networks))
    for name, tensor in weights(networks).items():
        tensor.copy_(tensors[name])
    for network in all_of(networks):
        network.to(dtype)
        network.compute_dtype = None  # type: ignore[assignment]  # no module, but a switch of theirs
    return networks


def decoded(pictures: Tensor) -> Tensor:
    return pictures.double() / 127.5 - 1


def enlarged(x: Tensor, times: int) -> Tensor:
    return x.repeat_interleave(times, 2).repeat_interleave(times, 3)


@BOTH
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-6)])
def test_outputs_are_the_authors(recorded: Path, variant: str, dtype: torch.dtype, tolerance: float) -> None:
    networks = networks_of(recorded, variant, dtype)
    parts, critics = networks.translators, networks.critics
    io = load_file(recorded / f"{variant}.io.safetensors")
    x, z = decoded(io["x_u8"]).to(dtype), io["z"].to(dtype)
    noise = load_file(recorded / "shared.safetensors")["content_noise.0_i8"].to(dtype) / 32
    found = {f"{domain}.content": parts["shared.content"](parts[f"{domain}.content"](x)) for domain in "ab"}
    shown = parts["shared.generator"](io["a.content"].to(dtype))
    found |= {f"{domain}.gen": parts[f"{domain}.generator"](shown, z) for domain in "ab"}
    if variant == "concat":
        found["a.mu"], found["a.logvar"] = parts["a.attribute"].distribution(x)
    else:
        found["a.attr"] = parts["a.attribute"](x)
    found |= {f"disA.{scale}": one for scale, one in enumerate(critics["a.encoded"](enlarged(x, 2)))}
    found["disContent.of_noise_0"] = critics["shared.codes"](noise).flatten()
    assert {one.dtype for one in found.values()} == {dtype}
    assert set(found) == set(io) - {"x_u8", "z"}
    for name, one in found.items():
        wide = dtype == torch.float32 and name.endswith("content")
        torch.testing.assert_close(one, io[name].to(dtype), rtol=0, atol=5e-4 if wide else tolerance)
    translator = METHOD.translator(parts, "a2b")
    image = translator(x, z).image  # which has b's content code nowhere
    torch.testing.assert_close(image, io["b.gen"].to(dtype), rtol=0, atol=5e-4 if dtype == torch.float32 else 1e-6)


class Recorded(drit_step.DRITStep):
    """A step with the random numbers of the authors' run."""

    noise: Iterator[Tensor]

    def draw(self, real: drit_step.ByDomain, random: torch.Generator, *, full: bool) -> drit_step.Draws:  # noqa: ARG002
        """In the official order."""

        def both() -> dict[str, Tensor]:
            return {"a": next(self.noise), "b": next(self.noise)}

        concat = self.config.style_way == "concat"
        if not full:
            return drit_step.Draws(both(), {}, ())  # type: ignore[arg-type]  # their keys are domains
        content, style = both(), both() if concat else {}
        styles = [next(self.noise) for _ in range(2 if self.recipe.mode_seeking_weight else 1)]
        return drit_step.Draws(content, style, styles, both(), both() if concat else {})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Recording(Group):
    """Keeps the gradients that processes would average, call by call."""

    seen: list[list[Tensor]] = field(default_factory=list)

    def average(self, tensors: list[Tensor]) -> None:
        self.seen.append([tensor.clone() for tensor in tensors])


def noise_of(step: Mapping[str, Tensor], shared: Mapping[str, Tensor]) -> Iterator[Tensor]:
    for name in sorted(name for name in step if name.startswith("noise.")):
        one = step[name]
        yield (one if one.ndim > 1 else shared[f"content_noise.{int(one)}_i8"].double() / 32).double()


def authors_terms(losses: Losses, recipe: Recipe, *, seeking: bool) -> dict[str, float]:
    """Our losses by the authors' names, with their weights; domain discriminators' are sums over three scales."""
    terms: dict[str, float] = {"disContent_loss": (losses["d_content_a"] + losses["d_content_b"]).item()}
    for ours, theirs, way in (("a", "A", "BA"), ("b", "B", "AB")):
        weighted = {
            f"dis{theirs}_loss": 3 * losses[f"d_patch_{ours}"],
            f"dis{theirs}2_loss": 3 * losses[f"d_random_{ours}"],
            f"gan_loss_{ours}": 3 * losses[f"g_patch_{ours}"],
            f"gan2_loss_{ours}": 3 * losses[f"g_random_{ours}"],
            f"gan_loss_{ours}content": losses[f"g_content_{ours}"],
            f"kl_loss_za_{ours}": recipe.kl_weight * losses[f"kl_{ours}"],
            f"kl_loss_zc_{ours}": recipe.kl_weight * losses[f"kl_content_{ours}"],
            f"l1_recon_{theirs}_loss": recipe.cycle_weight * losses[f"cycle_{ours}"],
            f"l1_recon_{theirs}{theirs}_loss": recipe.reconstruction_weight * losses[f"reconstruction_{ours}"],
            f"l1_recon_z_loss_{ours}": recipe.style_weight * losses[f"style_{ours}"],
        }
        if seeking:
            weighted[f"lz_{way}"] = losses[f"mode_seeking_{ours}"]
        terms |= {name: value.item() for name, value in weighted.items()}
    first = [name for name in terms if name.startswith(("gan_", "kl_", "l1_recon_A", "l1_recon_B"))]
    return terms | {"G_loss": sum(terms[name] for name in first)}


def of_theirs(recorded: Path, variant: str, step: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What is recorded of weights, by our names."""
    weights = load_file(recorded / f"{variant}.weights.safetensors")
    found = {name.removeprefix(prefix): one for name, one in step.items() if name.startswith(prefix)}
    # Zeros where nothing is recorded, and ones for what is.
    whole = {name: found.get(name, torch.zeros_like(one)) for name, one in weights.items()}
    marked = {name: torch.full_like(one, float(name in found)) for name, one in weights.items()}
    ours, marks = official(whole), official(marked)
    assert ours.critics is not None
    assert marks.critics is not None
    there = {name for name, one in {**marks.translators, **marks.critics}.items() if one.any()}
    return {name: one for name, one in {**ours.translators, **ours.critics}.items() if name in there}


@pytest.mark.parametrize("run", ["concat", "ft", "concat_ms"])
def test_steps_are_the_authors(recorded: Path, run: str) -> None:
    variant, seeking = run.removesuffix("_ms"), run.endswith("_ms")
    recipe = dataclasses.replace(PAPER, mode_seeking_weight=float(seeking))
    networks, group = networks_of(recorded, variant, torch.float64), Recording()
    theirs = load_file(recorded / f"{run}.step.safetensors")
    shared = load_file(recorded / "shared.safetensors")
    logged = json.loads((recorded / "losses.json").read_text())[run]
    a, b = (enlarged(decoded(shared[f"x_{domain}_54_u8"]), 4) for domain in "ab")
    step = Recorded(networks, recipe, seed=0, group=group)
    step.noise = noise_of(theirs, shared)

    losses = step(a, b, step=1, learning_rate=recipe.learning_rate)
    content = (losses["d_content_a"] + losses["d_content_b"]).item()
    assert content == pytest.approx(logged["content_step"]["disContent_loss"], rel=1e-12)
    assert set(losses) == {"d_content_a", "d_content_b"}
    if not seeking:  # of which only some is recorded
        check(weights(networks), of_theirs(recorded, variant, theirs, "after_content_step."), 1e-7)

    losses = step(a, b, step=2, learning_rate=recipe.learning_rate)
    found = authors_terms(losses, recipe, seeking=seeking)
    assert found == pytest.approx(logged["full_step"], rel=1e-12)
    assert next(step.noise, None) is None
    after = of_theirs(recorded, variant, theirs, "after.")
    prestep = of_theirs(recorded, variant, theirs, "after_prestep.")
    assert seeking or prestep
    # Of mode seeking there is the official end alone, whose second gradients were taken after the first update.
    check(weights(networks), {**after, **prestep}, 3e-4 if seeking else 1e-7)
    check(weights(networks), {name: one for name, one in after.items() if ".random." in name}, 1e-7)
    for name, one in of_theirs(recorded, variant, theirs, "grad.EG.").items():
        ours = gradients(step, group)[name]
        torch.testing.assert_close(ours, one.double(), rtol=0, atol=1e-6 * max(1.0, float(one.abs().max())))


def gradients(step: Step, group: Recording) -> dict[str, Tensor]:
    """Those that all translators learned from: before the last ones, of the translations in random styles."""
    found: dict[str, Tensor] = {}
    for optimizer, seen in zip(step.optimizers[:2], group.seen[-3:-1], strict=True):
        found |= zip(optimizer.parameters, seen, strict=True)
    return found


def check(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float) -> None:
    assert theirs
    for name, one in theirs.items():
        torch.testing.assert_close(ours[name], one.double(), rtol=1e-7, atol=tolerance)  # stored as float32


def count(networks: Mapping[str, nn.Module], *endings: str) -> int:
    return sum(
        sum(weight.numel() for weight in network.parameters())
        for name, network in networks.items()
        if name.endswith(endings)
    )


def test_parameters_are_the_authors_but_for_biases_before_norms() -> None:
    with torch.device("meta"):
        concat, transform = (DRITConfig(style_way=way) for way in ("concat", "transform"))
        parts, critics, other = METHOD.translators(concat), METHOD.critics(concat), METHOD.translators(transform)
    residual = 2 * 256  # biases of two convolutions
    assert count(parts, ".content") == 9_018_112 - 2 * (128 + 256 + 3 * residual) - residual
    assert count(other, ".content") == count(parts, ".content")
    assert (count(parts, ".attribute"), count(other, ".attribute")) == (2_688_160, 5_529_872)
    assert count(parts, ".generator") == 9_564_710 - residual - 2 * 3 * 2 * 264
    assert count(other, ".generator") == 17_146_374 - 2 * 4 * residual
    assert [count(critics, kind) for kind in (".encoded", ".random", ".codes")] == [2 * 8_271_171] * 2 + [10_683_649]


def test_the_papers_recipe_is_the_authors() -> None:
    assert (PAPER.batch_size, PAPER.learning_rate, PAPER.weight_decay, PAPER.epochs) == (2, 1e-4, 1e-4, 1200)
    assert (PAPER.beta1, PAPER.beta2, PAPER.decay_from, PAPER.flip, PAPER.fit) == (0.5, 0.999, 0.5, True, "squash")
    assert (PAPER.adversarial_weight, PAPER.cycle_weight, PAPER.reconstruction_weight) == (1, 10, 10)
    assert (PAPER.style_weight, PAPER.kl_weight, PAPER.mode_seeking_weight) == (10, 0.01, 0)
    assert (PAPER.ema, PAPER.augment, PAPER.jitter, DRITConfig().image_size + PAPER.margin) == (0, "off", True, 256)


@pytest.mark.parametrize("side", [16, 20, 32, 64, 128, 208, 212, 216, 256])
def test_content_discriminators_have_an_answer_at_every_size(side: int) -> None:
    config = DRITConfig(image_size=side, channels=1, blocks=0)
    critic = METHOD.critics(config)["shared.codes"]
    answers = critic(torch.zeros(1, 4, side // 4, side // 4))
    assert answers.numel() >= 1
    # Where the authors' fits, it is theirs; of the others one layer more would leave nothing.
    assert config.content_layers == 3 if side >= 212 else config.content_layers < 3
    if side in (212, 216):
        assert answers.numel() == 1


# --- A step --------------------------------------------------------------------------------------------


def pictures(n: int, seed: int, side: int = 32) -> tuple[Tensor, Tensor]:
    both = images(2 * n, 3, side, side, seed=seed)
    return both[:n], both[n:]


def new_step(recipe: Recipe, config: DRITConfig = TINY, precision: Precision = "fp32", seed: int = 0) -> Step:
    networks = build(config, precision, seed, averaged=bool(recipe.ema))
    return METHOD.step(networks, recipe, seed=0, group=Group())


def train(step: Step, first: int, last: int, n: int = 2) -> list[dict[str, float]]:
    found = []
    for number in range(first, last):
        losses = step(*pictures(n, number), step=number, learning_rate=2e-3)
        found.append({name: loss.item() for name, loss in losses.items()})
    return found


VARIANTS = [TINY, dataclasses.replace(TINY, style_way="transform")]


@pytest.mark.parametrize("config", VARIANTS, ids=["concat", "transform"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_of_three_steps_train_the_content_discriminator_alone(config: DRITConfig, precision: Precision) -> None:
    recipe = dataclasses.replace(METHOD.recipe("default"), augment="on", mode_seeking_weight=1.0)
    step = new_step(recipe, config, precision)
    names = {term.name for term in step.terms}
    for number in range(6):
        before = {name: tensor.clone() for name, tensor in weights(step.networks).items()}
        (losses,) = train(step, number, number + 1)
        full = number % 3 == 2
        assert set(losses) == (names | {"g_a", "g_b", "d_a", "d_b"} if full else {"d_content_a", "d_content_b"})
        assert all(torch.tensor(loss).isfinite() for loss in losses.values())
        after = weights(step.networks)
        assert all(tensor.isfinite().all() for tensor in after.values())
        changed = {name for name in after if not torch.equal(after[name], before[name])}
        assert changed == {name for name in after if full or name.startswith("shared.codes.")}


def test_of_more_pictures_each_counts_the_same() -> None:
    """A batch of the same pair twice gives the losses of one."""
    recipe = dataclasses.replace(PAPER, kl_weight=0.5)
    a, b = pictures(2, 0)
    found = []
    for n in (1, 3):
        step = Recorded(build(TINY), recipe, seed=0, group=Group())
        step.noise = iter(
            [images(1, 8, 8, 8, seed=1).expand(n, -1, -1, -1)] * 2
            + [images(1, 8, 1, 1, seed=2)[:, :, 0, 0].expand(n, -1)] * 3
            + [images(1, 8, 8, 8, seed=3).expand(n, -1, -1, -1)] * 2
            + [images(1, 8, 1, 1, seed=4)[:, :, 0, 0].expand(n, -1)] * 2
        )
        many = [x.repeat_interleave(n, 0) for x in (a, b)]
        found.append({name: x.item() for name, x in step(*many, step=2, learning_rate=1e-3).items()})
    assert found[1] == pytest.approx(found[0], rel=1e-4)


@pytest.mark.parametrize(("copied", "done"), [(0, 4), (2, 4), (3, 5)])
def test_optimizers_go_on_as_they_were(copied: int, done: int) -> None:
    def run(step: Step, first: int, last: int) -> None:
        for number in range(first, last):
            step(*pictures(2, number), step=number, learning_rate=1e-3, copying=number < copied)

    whole, again = new_step(PAPER), new_step(PAPER)
    run(whole, 0, done)
    again.remember(whole.memory())
    for name, moment in again.prepare_optimizers(done).items():
        moment.copy_(whole.optimizer_tensors()[name])
    for name, tensor in weights(again.networks).items():
        tensor.copy_(weights(whole.networks)[name])
    run(whole, done, 6)
    run(again, done, 6)
    torch.testing.assert_close(weights(again.networks), weights(whole.networks), rtol=0, atol=0)


# --- The authors' files --------------------------------------------------------------------------------


@BOTH
def test_checkpoints_of_the_authors_are_read(recorded: Path, variant: str, tmp_path: Path) -> None:
    tensors = load_file(recorded / f"{variant}.weights.safetensors")
    document: dict[str, Any] = {"ep": 7, "total_it": 21}
    for name, tensor in tensors.items():
        network, _, rest = name.partition(".")
        document.setdefault(network, {})[rest] = tensor
    document["gen_opt"] = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]}
    torch.save(document, tmp_path / "01200.pth")
    states = read_states(tmp_path / "01200.pth")
    found, flat = METHOD.official(states, OfficialSettings()), official(tensors)
    assert found is not None
    sizes: dict[str, Any] = {} if variant == "concat" else {"style_way": "transform", "style_channels": 16}
    assert found.config == flat.config == DRITConfig(channels=2, discriminator_channels=1, **sizes)
    torch.testing.assert_close(dict(found.translators), dict(flat.translators))
    assert set(found.critics or ()) == set(flat.critics or ())
    del document["disB2"]
    torch.save(document, tmp_path / "01200.pth")
    less = METHOD.official(read_states(tmp_path / "01200.pth"), OfficialSettings(image_size=256))
    assert less is not None
    assert less.critics is None
    assert less.config.image_size == 256


def test_checkpoints_of_other_networks_are_none_of_it(recorded: Path) -> None:
    tensors = load_file(recorded / "concat.weights.safetensors")
    assert METHOD.official({"": {"gen.x": torch.zeros(1), "enc_c.y": torch.zeros(1)}}, OfficialSettings()) is None
    for name in ("gen.decA9.weight", "enc_a.conv_C.1.weight", "disContent.model.7.weight"):
        with pytest.raises(Unfit):
            official({**tensors, name: torch.zeros(1)})
    single = {name: one for name, one in tensors.items() if not name.startswith("disA.")}
    with pytest.raises(Unfit, match="one scale"):
        official({**single, "disA.model.0.model.1.weight": torch.zeros(1)})
