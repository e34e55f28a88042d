"""Teaches a model of ink2clay which kinds of drawings have which colours.

    python examples/ink2clay/ground.py ink2clay steer --size 128
    python examples/ink2clay/colours.py MODEL steer OUT --steps 2000

`ugatit train` learns both directions from whatever pictures there are, and hues last of all: of 763 training pictures
55 are faces, and five are red or pink hearts. Here one direction learns alone, from ink to clay: from each training
picture and its imitation in ink by the other direction of MODEL; and faces and hearts come more often than the rest,
grey things less often. Many faces are put together anew (faces.py). Imitations are changed as drawings differ: their
strokes are thinner or thicker, paler or softer, areas are filled, of hearts all of them, or only lines are left; and
all lie elsewhere, turned, larger or smaller. Hearts in other colours than red and pink, and blue faces, are left out.

Losses: L1 of pixels, and of means of 16x16 of them, which is colour; L1 of features (ugatit_cli/nn/efficientnet.py);
CAM; identity, of a picture in each fourth step; with `--judge`, what a projected discriminator says of translations
of imitations. That one sees no real drawing: what tells real drawings from imitations would decide their hue. Of some
real drawings, which are in each batch, too, it is known that their areas have one hue each (areas.py).

OUT is the model with this direction's moving average, and the other direction as it was; it is written anew every 100
steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from areas import Drawings, hue_loss
from faces import Faces
from pairs import BLUE_FACES, OTHER_HEARTS, Pair, changed
from PIL import Image
from torch import Tensor

from ugatit_cli.cli import console
from ugatit_cli.config import ModelConfig
from ugatit_cli.device import Group, keep_freed_memory
from ugatit_cli.methods.adam import Adam
from ugatit_cli.methods.base import sum_of
from ugatit_cli.methods.judge import Adversary
from ugatit_cli.methods.losses import cam_loss, identity_loss
from ugatit_cli.methods.networks import Networks, build_networks, tensors_of
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.methods.registry import method_of
from ugatit_cli.nn.efficientnet import bundled_features, distance
from ugatit_cli.nn.generator import Translation
from ugatit_cli.nn.layers import Network
from ugatit_cli.nn.normalization import clip_rho
from ugatit_cli.training.settings import resolve_training_precision
from ugatit_cli.weights.folder import ModelFolder, open_model, save_model

NEW_FACES: Final = 0.6
"""Share of faces that are put together."""
SAVE_EVERY, REPORT_EVERY, IDENTITY_EVERY = 100, 50, 4
WEIGHTS: Final = {"pixels": 6.0, "colour": 6.0, "features": 1.0, "cam": 2.0, "identity": 5.0, "areas": 20.0}


@torch.inference_mode()
def imitated(back: Network, picture: Image.Image) -> Image.Image:
    """A picture in ink, by the direction from clay to ink."""
    x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
    image = ((back(x).image[0].mean(0) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(image.numpy(), "L")


def load_pairs(model: ModelFolder, data: Path) -> list[Pair]:
    """All pictures of `trainB` but hearts and faces in other colours, with their imitations."""
    back = model.generator("b2a")
    paths = [path for path in sorted((data / "trainB").glob("*.png")) if path.stem not in OTHER_HEARTS | BLUE_FACES]
    pairs = []
    with console.progress(len(paths), "imitations") as progress:
        for path in paths:
            with Image.open(path) as file:
                clay = file.convert("RGB")
            pairs.append(Pair(path.stem, imitated(back, clay), clay))
            progress.advance()
    return pairs


class Batches:
    """Random pairs, of which some kinds come more often than others."""

    def __init__(self, pairs: Sequence[Pair], shares: dict[str, float], random: np.random.Generator) -> None:
        self._random = random
        self._of_kind = {kind: [pair for pair in pairs if pair.kind == kind] for kind in shares}
        self._often = {kind: np.array([pair.share for pair in of]) for kind, of in self._of_kind.items()}
        self._shares, self._faces = shares, Faces(pairs)

    def _one(self) -> Pair:
        kind = self._random.choice(list(self._shares), p=list(self._shares.values()))
        if kind == "face" and self._random.random() < NEW_FACES:
            return changed(self._faces.draw(self._random), self._random)
        pairs, often = self._of_kind[kind], self._often[kind]
        return changed(pairs[self._random.choice(len(pairs), p=often / often.sum())], self._random)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Imitations and what they imitate, (count, 3, SIZE, SIZE) in [-1, 1] each."""
        pairs = [self._one() for _ in range(count)]
        ink, clay = (
            torch.from_numpy(np.stack([np.array(one) for one in pictures])).permute(0, 3, 1, 2) / 127.5 - 1
            for pictures in ([pair.ink.convert("RGB") for pair in pairs], [pair.clay for pair in pairs])
        )
        return ink.contiguous(memory_format=torch.channels_last), clay.contiguous(memory_format=torch.channels_last)


class Training:
    """The direction from ink to clay in training.

    Args:
        judge: weight of what the projected discriminator says; 0: there is none.
    """

    def __init__(self, networks: Networks, recipe: Recipe, *, judge: float, seed: int) -> None:
        self.networks, self.recipe, self.translator = networks, recipe, networks.translators["a2b"]
        self.features, self.weights = bundled_features(), WEIGHTS | {"adversarial": judge}
        device = torch.device("cpu")
        self.adversary = Adversary("judge", recipe, Group().average, seed=seed, device=device) if judge else None
        self.optimizer = Adam(networks.translators, recipe, Group().average)
        self.step = 0

    def learn(self, ink: Tensor, clay: Tensor, drawn: Tensor, kinds: list[str]) -> dict[str, float]:
        """Updates the weights once, by imitations of pictures, and by drawings; the losses by name."""
        same = clay[: self.step % IDENTITY_EVERY == 0]
        sources = torch.cat([ink, drawn])
        translation: Translation = self.translator(torch.cat([sources, same]))
        paired, real, copy = translation.image.split_with_sizes([len(ink), len(drawn), len(same)])
        losses = self._of_pairs(paired, clay)
        losses["areas"] = hue_loss(real, drawn, kinds)
        assert translation.cam_logit is not None
        losses["cam"] = cam_loss(translation.cam_logit[: len(sources)], source=True)
        if len(same):
            losses["cam"] = losses["cam"] + cam_loss(translation.cam_logit[len(sources) :], source=False)
            losses["identity"] = identity_loss(copy, same)
        torch.autograd.backward(sum_of(self.weights[name] * loss for name, loss in losses.items()))
        self.optimizer.step()
        clip_rho(self.translator)
        self.networks.update_averages(self.recipe.ema, self.step)
        self.step += 1
        return {name: loss.item() for name, loss in losses.items()}

    def _of_pairs(self, found: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            real = self.features(wanted)
        fake = self.features(found.contiguous(memory_format=torch.channels_last))
        losses = {
            "pixels": F.l1_loss(found, wanted),
            "colour": F.l1_loss(F.avg_pool2d(found, 16), F.avg_pool2d(wanted, 16)),
            "features": distance(fake, real),
        }
        if self.adversary is not None:
            self.adversary.learn(real, [one.detach() for one in fake])
            losses["adversarial"] = self.adversary.loss(fake)
        return losses


def make_training(model: ModelFolder, options: argparse.Namespace) -> Training:
    """Ready to learn, from a model's weights."""
    device = torch.device("cpu")
    networks = build_networks(
        model.config,
        lambda config: {"a2b": method_of(config).translators(config)["a2b"]},
        lambda _: {},
        seed=options.seed,
        device=device,
        precision=resolve_training_precision("auto", device),
        averaged=True,
        start=model,
    )
    rate = options.learning_rate
    recipe = Recipe(learning_rate=rate, beta1=0.9, beta2=0.99, weight_decay=0, ema=options.ema)
    return Training(networks, recipe, judge=options.judge, seed=options.seed)


def save(training: Training, model: ModelFolder, out: Path) -> None:
    """Writes the model as it is now."""
    averages = training.networks.averages | {"b2a": model.generator("b2a")}
    provenance = {**model.provenance, "colours": f"{training.step} steps"}
    save_model(out, model.config, tensors_of(averages), provenance=provenance, overwrite=True)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a folder, of ink and clay both ways, at 128 px")
    parser.add_argument("data", type=Path, help="what ground.py made")
    parser.add_argument("out", type=Path, help="a folder for the model")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--ema", type=float, default=0.995)
    parser.add_argument("--faces", type=float, default=0.35, help="share of faces")
    parser.add_argument("--hearts", type=float, default=0.15, help="share of red and pink hearts")
    parser.add_argument("--judge", type=float, default=0.0, help="weight of a projected discriminator")
    parser.add_argument("--drawings", type=int, default=2, help="real ones in a batch, beside the imitations")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def falling(done: float) -> float:
    """Share of the learning rate: falls evenly to a tenth."""
    return 1 - 0.9 * done


def main() -> None:
    """Trains."""
    options = parsed()
    keep_freed_memory()
    model = open_model(options.model)
    assert isinstance(model.config, ModelConfig)
    shares = {"face": options.faces, "heart": options.hearts, "rest": 1 - options.faces - options.hearts}
    batches = Batches(load_pairs(model, options.data), shares, np.random.default_rng(options.seed))
    training, seen = make_training(model, options), list[dict[str, float]]()
    drawings = Drawings(options.data, np.random.default_rng(options.seed))
    while training.step < options.steps:
        training.optimizer.learning_rate = options.learning_rate * falling(training.step / options.steps)
        seen.append(training.learn(*batches.draw(options.batch_size), *drawings.draw(options.drawings)))
        if training.step % REPORT_EVERY == 0:
            means = {name: np.mean([one[name] for one in seen if name in one]) for name in seen[0]}
            console.note(f"step {training.step}: " + ", ".join(f"{name} {mean:.4f}" for name, mean in means.items()))
            seen.clear()
        if training.step % SAVE_EVERY == 0:
            save(training, model, options.out)
    save(training, model, options.out)


if __name__ == "__main__":
    main()
