"""Checkpoints of DRIT's official code: one file with all networks, of either variant, by our names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from torch import Tensor

from ugatit_cli.config import DOMAINS
from ugatit_cli.methods.base import Official, OfficialSettings, States
from ugatit_cli.methods.drit_config import CONTENT_LAYERS, SCALES, DRITConfig
from ugatit_cli.methods.networks import Unfit, check_known

NETWORKS: Final = ("enc_c", "enc_a", "gen")
JUDGES: Final = {
    "a.encoded": "disA",
    "a.random": "disA2",
    "b.encoded": "disB",
    "b.random": "disB2",
    "shared.codes": "disContent",
}
# The authors' crops, and the smallest ones that leave their content discriminator an answer.
CROP: Final = 216
SMALLEST: Final = 212

Names = Mapping[str, str]
"""Our modules by their names, and the authors'."""


def read_drit(states: States, settings: OfficialSettings) -> Official | None:
    """All networks of a checkpoint such as `01200.pth`, with the discriminators if all are there.

    Raises:
        KeyError: a tensor is missing.
        Unfit: there are others, or its discriminators have one scale.
    """
    states = _by_network(states)
    if not {"enc_c", "gen"} <= states.keys() or not any(name.startswith("convA.") for name in states["enc_c"]):
        return None
    judged = states.keys() >= set(JUDGES.values())
    config = _inferred(states, settings, judged=judged)
    translators = _tensors(states, NETWORKS, dict(_translators(config)))
    critics = _tensors(states, tuple(JUDGES.values()), dict(_critics())) if judged else None
    notes = settings.notes(config, judged=judged, lack="doesn't have all discriminators")
    return Official(config, translators, critics, notes)


def _by_network(states: States) -> dict[str, dict[str, Tensor]]:
    """The state dicts by the authors' names, also from a flat file, where these are prefixes."""
    known = {*NETWORKS, *JUDGES.values()}
    found = {name: dict(state) for name, state in states.items() if name in known}
    for name, tensor in states.get("", {}).items():
        network, _, rest = name.partition(".")
        if network in known:
            found.setdefault(network, {})[rest] = tensor
    return found


def _inferred(states: States, settings: OfficialSettings, *, judged: bool) -> DRITConfig:
    content, generator = states["enc_c"], states["gen"]
    sizes: dict[str, Any] = {
        "channels": len(content["convA.0.model.1.weight"]),
        "blocks": sum(name.startswith("convA.") and name.endswith(".model.5.weight") for name in content),
    }
    if "mlpA.0.weight" in generator:
        sizes |= {"style_way": "transform", "style_channels": len(generator["mlpA.0.weight"])}
    if judged:
        if not any(name.startswith("Diss.") for name in states["disA"]):
            raise Unfit("discriminators of one scale; those of three are known")
        sizes["discriminator_channels"] = len(states["disA"]["Diss.0.0.model.1.weight"])
        settings.check_size(SMALLEST)
    return DRITConfig(image_size=settings.image_size or CROP, **sizes, **settings.fields())


def _translators(config: DRITConfig) -> Iterator[tuple[str, str]]:
    """Our modules, each with a weight, by the authors'."""
    blocks = range(config.blocks)
    yield from _residual("shared.content.block", "enc_c.conv_share.0")
    for domain, theirs in zip(DOMAINS, "AB", strict=True):
        yield f"{domain}.content.stem", f"enc_c.conv{theirs}.0.model.1"
        for i in range(2):
            yield f"{domain}.content.down.{i}.conv", f"enc_c.conv{theirs}.{i + 1}.model.1"
        for i in blocks:
            yield from _residual(f"{domain}.content.blocks.{i}", f"enc_c.conv{theirs}.{i + 3}")
    yield from _concat(config) if config.style_way == "concat" else _transform(config)


def _residual(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.first.conv", f"{theirs}.model.1"
    yield f"{ours}.conv", f"{theirs}.model.5"


def _up(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.conv", f"{theirs}.model.0"
    yield f"{ours}.norm", f"{theirs}.model.1"


def _concat(config: DRITConfig) -> Iterator[tuple[str, str]]:
    yield from _residual("shared.generator.block", "gen.dec_share.0")
    for domain, theirs in zip(DOMAINS, "AB", strict=True):
        ours, encoder = f"{domain}.attribute", f"enc_a.conv_{theirs}"
        yield f"{ours}.stem", f"{encoder}.1"
        for i in range(3):
            yield f"{ours}.blocks.{i}.conv", f"{encoder}.{i + 2}.conv.2"
            yield f"{ours}.blocks.{i}.down", f"{encoder}.{i + 2}.conv.4.1"
            yield f"{ours}.blocks.{i}.shortcut", f"{encoder}.{i + 2}.shortcut.1"
        yield f"{ours}.mean", f"enc_a.fc_{theirs}.0"
        yield f"{ours}.log_variance", f"enc_a.fcVar_{theirs}.0"
        ours, decoder = f"{domain}.generator", f"gen.dec{theirs}"
        for i in range(config.blocks):
            yield from _residual(f"{ours}.blocks.{i}", f"{decoder}1.{i}")
        for i in range(2):
            yield from _up(f"{ours}.up.{i}", f"{decoder}{i + 2}.0")
        yield f"{ours}.to_rgb", f"{decoder}4.0"


def _transform(config: DRITConfig) -> Iterator[tuple[str, str]]:
    for domain, theirs in zip(DOMAINS, "AB", strict=True):
        ours, encoder = f"{domain}.attribute", f"enc_a.model_{theirs.lower()}"
        yield f"{ours}.stem", f"{encoder}.1"
        for i in range(4):
            yield f"{ours}.down.{i}", f"{encoder}.{3 * i + 4}"
        yield f"{ours}.head", f"{encoder}.16"
        ours, decoder = f"{domain}.generator", f"gen.dec{theirs}"
        for i in range(3):
            yield f"{ours}.mlp.{i}", f"gen.mlp{theirs}.{2 * i}"
        last = config.blocks + 2
        for i in range(config.blocks + 1):
            for j in range(2):
                yield f"{ours}.blocks.{i}.convs.{j}", f"{decoder}{i + 1}.conv{j + 1}.0.1"
                yield f"{ours}.blocks.{i}.styled.{j}.first", f"{decoder}{i + 1}.blk{j + 1}.0"
                yield f"{ours}.blocks.{i}.styled.{j}.second", f"{decoder}{i + 1}.blk{j + 1}.2"
        for i in range(2):
            yield from _up(f"{ours}.up.{i}", f"{decoder}{last}.{i}")
        yield f"{ours}.to_rgb", f"{decoder}{last}.2"


def _critics() -> Iterator[tuple[str, str]]:
    for ours, theirs in JUDGES.items():
        if theirs == "disContent":
            for i in range(CONTENT_LAYERS + 1):
                yield f"{ours}.layers.{i}", f"{theirs}.model.{i}.model.1"
            yield f"{ours}.head", f"{theirs}.model.{CONTENT_LAYERS + 1}"
            continue
        for scale in range(SCALES):
            for i in range(4):
                yield f"{ours}.scales.{scale}.{i}", f"{theirs}.Diss.{scale}.{i}.model.1"
            yield f"{ours}.scales.{scale}.4", f"{theirs}.Diss.{scale}.4"


def _tensors(states: States, networks: tuple[str, ...], names: Names) -> dict[str, Tensor]:
    """Our tensors by name; not the biases that an instance norm takes out."""
    found: dict[str, Tensor] = {}
    for ours, theirs in names.items():
        network, _, module = theirs.partition(".")
        weight, bias = (states[network][f"{module}.{kind}"] for kind in ("weight", "bias"))
        kinds = ("gamma", "beta") if ours.endswith(".norm") else ("weight", "bias")
        if ours.endswith(".norm"):  # (C, 1, 1) there
            weight, bias = weight.flatten(), bias.flatten()
        if ours.endswith(".to_rgb"):  # a transposed convolution there
            weight = weight.transpose(0, 1)
        found[f"{ours}.{kinds[0]}"] = weight
        if not _normed(ours):
            found[f"{ours}.{kinds[1]}"] = bias
    for network in networks:
        modules = [theirs.partition(".")[2] for theirs in names.values() if theirs.startswith(f"{network}.")]
        check_known(states[network], {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")})
    return found


def _normed(ours: str) -> bool:
    """Whether a module is a convolution with an instance norm behind it."""
    return (ours.endswith(".conv") and ".up." not in ours and ".attribute." not in ours) or ".convs." in ours
