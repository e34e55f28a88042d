"""Checkpoints of the official code of UNIT and MUNIT by our names: `gen_01000000.pt`, `dis_01000000.pt`.

Each holds the networks of domains a and b. Old ones have buffers of norms that use none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ugatit_cli.config import DOMAINS
from ugatit_cli.methods.base import Method, Official, OfficialSettings, States
from ugatit_cli.methods.configs import SCALES, SMALLEST_SCALE
from ugatit_cli.methods.networks import Unfit, check_known, tensors_of
from ugatit_cli.nn.layers import Network

BLOCK = re.compile(r"dec\.model\.0\.model\.(\d+)\.model\.0\.conv\.weight")
# Of norms that keep statistics and never use them.
BUFFER = re.compile(r"\.norm\.(running_mean|running_var|num_batches_tracked)$")

State = Mapping[str, Tensor]


def official(states: States, settings: OfficialSettings, method: Method, encoder: str) -> Official | None:
    """A checkpoint of a method of that code; see `Method.official`.

    Args:
        method: `UNIT` or `MUNIT`.
        encoder: what that code calls its content encoder, which tells the two apart.
    """
    stem = f"{encoder}.model.0.conv.weight"
    if stem not in states.get("gen_a", {}):
        return None
    with_critics = {"dis_a", "dis_b"} <= set(states)
    generator = states["gen_a"]
    sizes: dict[str, Any] = {
        "channels": generator[stem].shape[0],
        "blocks": sum(1 for name in generator if BLOCK.fullmatch(name)),
        "image_size": settings.image_size or 256,
    }
    if with_critics:
        sizes["discriminator_channels"] = states["dis_a"]["cnns.0.0.conv.weight"].shape[0]
        scales = sum(f"cnns.{scale}.0.conv.weight" in states["dis_a"] for scale in range(SCALES))
        settings.check_size(SMALLEST_SCALE << (scales - 1))
    config = method.config(**sizes, **settings.fields())
    with torch.device("meta"):
        translators, critics = method.translators(config), method.critics(config)
    found = _translators(states, translators, encoder, config.blocks)
    judges: dict[str, Tensor] = {}
    for name, network in critics.items() if with_critics else ():
        judges |= _taken(states[f"dis_{name}"], {name: network}, _critic_names(name, len(network.scales)))
    notes = settings.notes(config, judged=with_critics, lack="has no discriminators (dis_*.pt has them)")
    return Official(config, found, judges or None, notes)


def _translators(states: States, translators: Mapping[str, Network], encoder: str, blocks: int) -> dict[str, Tensor]:
    """Encoders, decoders and style encoders of both domains."""
    parts = {"encoder": encoder, "decoder": "dec", "style": "enc_style"}
    found: dict[str, Tensor] = {}
    for domain in DOMAINS:
        networks = {name: one for name, one in translators.items() if name.startswith(f"{domain}.")}
        names = {
            f"{name}.{ours}": theirs
            for name in networks
            for ours, theirs in _names(parts[name.partition(".")[2]], blocks)
        }
        found |= _taken(states[f"gen_{domain}"], networks, names)
    return found


def _names(part: str, blocks: int) -> Iterator[tuple[str, str]]:
    """Our module in an encoder, a decoder or a style encoder, and theirs."""
    if part == "enc_style":
        yield from ((f"layers.{i}", f"{part}.model.{i}.conv") for i in range(5))
        yield "head", f"{part}.model.6"
        return
    if part == "dec":
        yield from ((f"up.{i}.{one}", f"dec.model.{2 + 2 * i}.{one}") for i in range(2) for one in ("conv", "norm"))
        yield from ((f"mlp.{i}", f"mlp.model.{i}.fc") for i in range(3))
        yield "to_rgb", "dec.model.5.conv"
    else:
        yield "stem.conv", f"{part}.model.0.conv"
        yield from ((f"down.{i}.conv", f"{part}.model.{1 + i}.conv") for i in range(2))
    stack = "dec.model.0" if part == "dec" else f"{part}.model.3"
    for i in range(blocks):
        for ours, theirs in (("first.conv", 0), ("conv", 1), ("conv1", 0), ("conv2", 1)):
            yield f"blocks.{i}.{ours}", f"{stack}.model.{i}.model.{theirs}.conv"


def _critic_names(domain: str, scales: int) -> dict[str, str]:
    names = {f"{domain}.scales.{s}.{i}": f"cnns.{s}.{i}.conv" for s in range(scales) for i in range(4)}
    return names | {f"{domain}.scales.{s}.4": f"cnns.{s}.4" for s in range(scales)}


def _taken(state: State, networks: Mapping[str, Network], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of networks by our names.

    Args:
        names: our module -> theirs; also of modules that no network here has.

    Raises:
        KeyError: one is missing.
        Unfit: one has another shape, or there are others.
    """
    found: dict[str, Tensor] = {}
    known = {f"{theirs}.bias" for theirs in names.values()}  # those before norms are there, too
    for name, wanted in tensors_of(networks).items():
        module, _, part = name.rpartition(".")
        theirs = f"{names[module]}.{part}"
        if state[theirs].shape != wanted.shape:
            raise Unfit(f"{theirs} has shape {tuple(state[theirs].shape)}, not {tuple(wanted.shape)}")
        found[name] = state[theirs]
        known.add(theirs)
    check_known((name for name in state if not BUFFER.search(name)), known)
    return found
