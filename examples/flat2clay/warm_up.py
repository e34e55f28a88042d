"""Teaches a model's generators to copy: `python examples/flat2clay/warm_up.py BENCH MODEL OUT --minutes 20`.

Both generators learn to give pictures of both domains back as they are (mean absolute error, Adam), starting from the
weights of MODEL. To copy is what takes generators longest to learn, as their instance norms hide absolute colours. A
step of training proper has six passes through generators, and those through discriminators; here a pass is all it
takes. The result goes on with `ugatit train --from OUT`; the discriminators are those of MODEL.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ugatit_cli.config import DIRECTIONS
from ugatit_cli.data.batches import Batches
from ugatit_cli.data.pictures import Pictures, Preparation, load_pictures, parse_holdout, split_layout
from ugatit_cli.methods.networks import tensors_of
from ugatit_cli.nn.layers import Network
from ugatit_cli.weights.folder import DISCRIMINATORS_FILE, open_model, open_tensors, save_model

DECAY_FROM = 0.5
SAID_EVERY = 25


def pairs(pictures: tuple[Pictures, Pictures], seed: int) -> Iterator[Tensor]:
    """One picture of each domain at a time: float (2, 3, S, S) in [-1, 1]."""
    batches = Batches(pictures, seed=seed, batch_size=1)
    for step in range(2**31):
        a, b = batches[step]
        yield torch.cat([a, b]).float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)


def copying_loss(generator: Network, pictures: Tensor) -> Tensor:
    """Mean absolute error of copies, in units of [-1, 1]; products in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        copies = generator(pictures).image
    return F.l1_loss(copies.float(), pictures)


def clip_rho(generator: Network) -> None:
    """Keeps every rho within [0, 1], as training does."""
    for name, weight in generator.named_parameters():
        if name.endswith("rho"):
            weight.data.clamp_(0, 1)


def warm_up(
    generators: list[Network],
    pictures: tuple[Pictures, Pictures],
    *,
    minutes: float,
    learning_rate: float,
    seed: int,
) -> int:
    """Trains for so long, the learning rate falling to 0 in the second half; the number of steps."""
    weights = [weight for generator in generators for weight in generator.parameters()]
    optimizer = torch.optim.Adam(weights, lr=learning_rate, betas=(0.5, 0.999), weight_decay=1e-4)
    start, losses = time.monotonic(), []
    for step, batch in enumerate(pairs(pictures, seed), 1):
        progress = (time.monotonic() - start) / (60 * minutes)
        if progress >= 1:
            return step - 1
        optimizer.param_groups[0]["lr"] = learning_rate * min(1.0, (1 - progress) / (1 - DECAY_FROM))
        optimizer.zero_grad()
        for generator in generators:
            loss = copying_loss(generator, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.item())
        optimizer.step()
        for generator in generators:
            clip_rho(generator)
        if step % SAID_EVERY == 0:
            print(
                json.dumps({"step": step, "seconds": round(60 * minutes * progress), "l1": sum(losses) / len(losses)})
            )
            losses.clear()
    raise AssertionError("there is always a next pair")


def main() -> None:
    """Reads, trains, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = open_model(options.model)
    preparation = Preparation(model.config.image_size)
    pictures = load_pictures(split_layout(options.bench), preparation, parse_holdout("off"), options.seed, workers=1)
    generators = [model.generator(direction).train().requires_grad_(True) for direction in DIRECTIONS]
    generators = [generator.to(memory_format=torch.channels_last) for generator in generators]
    steps = warm_up(
        generators, pictures, minutes=options.minutes, learning_rate=options.learning_rate, seed=options.seed
    )
    with open_tensors(options.model / DISCRIMINATORS_FILE) as file:
        discriminators = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    trained = tensors_of(dict(zip(DIRECTIONS, generators, strict=True)))
    provenance = {**model.provenance, "warm-up": f"{steps} steps of copying pictures of both domains"}
    save_model(options.out, model.config, trained, discriminators, provenance=provenance)


if __name__ == "__main__":
    main()
