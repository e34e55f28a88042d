"""Trains one direction of a model on pairs that the other direction makes, by iterative back-translation.

    python examples/ink2clay/back_translate.py MODEL OUT --data DATA --direction a2b --minutes 30
    python examples/ink2clay/back_translate.py OUT/model OUT2 --data DATA --direction b2a --minutes 30 --recolour

Every training picture of the direction's target is translated back once, by the other direction of MODEL: an
imitation and a real picture are a pair. On such pairs the direction learns as from paired pictures, and since what it
has to make is real, faults of the imitations teach it none. Then the other direction has its turn with the better
imitations, and so on. That is how translation between languages is learnt without parallel texts (Sennrich, Haddow
and Birch, ACL 2016; Lample, Conneau, Denoyer and Ranzato, ICLR 2018), here for pictures. It needs a model that
translates both ways already: `ugatit train`.

Losses: L1 of pixels; L1 of features of a small network (`ugatit_cli/nn/efficientnet.py`); the CAM loss; and in each
sixth step L1 between a picture of the target and its translation into the target. Adam, a moving average, large
products in bf16 where the machine has it.

OUT/model is the model with this direction's moving average, and the other direction as it was. It is saved every 500
steps and at the end, and so is a checkpoint: the same command goes on after Ctrl-C, a kill, or with more minutes.
`--adversarial 0.2` adds what a projected discriminator (judge.py) says of these translations and of some of real
pictures of the source; its memory of earlier pictures isn't saved, so that one that went on differs a little.
`--recolour` rotates the imitations' hues at random: where the target has no colours (clay to ink), no hue may tell
what is filled, which imitations would use as a code.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from judge import WIDTH, Adversary
from torch import Tensor

from ugatit_cli.cli import console, signals
from ugatit_cli.config import DIRECTIONS, DOMAINS, Direction, ModelConfig
from ugatit_cli.data.batches import Batches
from ugatit_cli.data.pictures import Array, Holdout, Pictures, Preparation, load_pictures, split_layout
from ugatit_cli.device import Group, resolve_device
from ugatit_cli.errors import UgatitError, UsageError
from ugatit_cli.methods.adam import Adam
from ugatit_cli.methods.back_translation import recoloured
from ugatit_cli.methods.base import OTHER, SOURCE, TARGET, Losses, Step, Term, random_numbers, sum_of
from ugatit_cli.methods.judge import Judge
from ugatit_cli.methods.losses import cam_loss, identity_loss
from ugatit_cli.methods.networks import Networks, build_networks, tensors_of
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.methods.registry import method_of
from ugatit_cli.nn.efficientnet import Features, bundled_features, distance
from ugatit_cli.nn.generator import Translation
from ugatit_cli.nn.layers import Network, padded
from ugatit_cli.nn.normalization import clip_rho
from ugatit_cli.training import checkpoint
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import resolve_training_precision
from ugatit_cli.training.trainer import LossReader, as_input
from ugatit_cli.weights.folder import ModelFolder, open_model, save_model

RECIPE: Final = Recipe(
    batch_size=4, learning_rate=1e-4, beta1=0.9, beta2=0.99, weight_decay=0, ema=0.999, augment="off", flip=True
)
WEIGHTS: Final = {"pixels": 5.0, "features": 1.0, "cam": 5.0, "identity": 6.0}
IDENTITY_EVERY: Final = 6
# Real pictures of the source that are translated, too, for the judge.
SOURCES: Final = 2
SAVE_EVERY, REPORT_EVERY = 500, 50


class BackTranslation(Step):
    """Updates one translator with pairs; see `Step`.

    Args:
        networks: among their translators is the direction's.
        recolour: whether hues of imitations are changed.
        adversarial: weight of what a projected discriminator says; 0: there is none.
    """

    def __init__(
        self,
        networks: Networks,
        direction: Direction,
        features: Features,
        *,
        recolour: bool,
        adversarial: float,
        seed: int,
    ) -> None:
        super().__init__(networks, RECIPE, seed=seed, group=Group())
        self.weights = WEIGHTS | {"adversarial": adversarial}
        self.adversary: Adversary | None = None
        self.direction, self.translator = direction, networks.translators[direction]
        self.features, self.recolour = features, recolour
        self.optimizers = [Adam(networks.translators, RECIPE, self.group.average)]
        domain = TARGET[direction]
        self.terms = tuple(Term(name, name, domain, "generator", weight) for name, weight in self.weights.items())
        for judge in networks.critics.values():
            assert isinstance(judge, Judge)
            self.adversary = Adversary(judge, RECIPE, self.group.average)
            self.optimizers.append(self.adversary.optimizer)
            self.terms += (Term("judge", "judge", domain, "discriminator", 1.0),)

    def losses(self, a: Tensor, b: Tensor, *, step: int) -> Losses:
        """Updates the weights once.

        Args:
            a: imitations and the pictures that they imitate, (N, 6, H, W) in [-1, 1].
            b: pictures of the source, (N, 3, H, W), which count for the judge only.
            step: number of steps before this one.
        """
        random = random_numbers(self.seed, step)
        imitations, real = (one.contiguous(memory_format=torch.channels_last) for one in (a[:, :3], a[:, 3:]))
        if self.recolour:
            imitations = recoloured(imitations, random)
        sources = b[: SOURCES if self.adversary else 0]
        same = real[: step % IDENTITY_EVERY == 0]
        x = torch.cat([imitations, sources, same]).contiguous(memory_format=torch.channels_last)
        translation: Translation = self.translator(x)
        counts = [len(imitations), len(sources), len(same)]
        losses = self._of_pictures(translation.image, real, counts, random)
        if translation.cam_logit is not None:
            losses["cam"] = self._of_cam(translation.cam_logit, len(same))
        torch.autograd.backward(sum_of(self.weights[name] * loss for name, loss in losses.items() if name != "judge"))
        self.update_translators()
        clip_rho(self.translator)
        return losses

    def _of_pictures(self, image: Tensor, real: Tensor, counts: list[int], random: torch.Generator) -> Losses:
        """Of translations of imitations, of sources, and of pictures of the target, so many each."""
        paired, sources, copy = image.split_with_sizes(counts)
        with torch.no_grad():
            wanted = self.features(real)
        found = self.features(torch.cat([paired, sources]).contiguous(memory_format=torch.channels_last))
        losses = {
            "pixels": F.l1_loss(paired, real),
            "features": distance([one[: len(real)] for one in found], wanted),
        }
        if self.adversary is not None:
            losses["judge"] = self.adversary.learn(wanted, [one.detach() for one in found], random)
            losses["adversarial"] = self.adversary.loss(found)
        return losses | ({"identity": identity_loss(copy, real[: len(copy)])} if len(copy) else {})

    @staticmethod
    def _of_cam(logit: Tensor, same: int) -> Tensor:
        """Of sources, and behind them so many pictures of the target."""
        loss = cam_loss(logit[: len(logit) - same], source=True)
        return loss + cam_loss(logit[-same:], source=False) if same else loss


@torch.inference_mode()
def translated(translator: Network, picture: Array, device: torch.device) -> Array:
    """The translation of a picture of any size, uint8 (H, W, 3) both."""
    height, width = picture.shape[:2]
    x = as_input(torch.tensor(picture).permute(2, 0, 1)[None], device)
    image = translator(padded(x, (0, -width % 4, 0, -height % 4), "replicate")).image[0, :, :height, :width]
    result: Array = ((image + 1) * 127.5).round().clamp(0, 255).to("cpu", torch.uint8).permute(1, 2, 0).numpy()
    return result


def with_imitations(targets: Pictures, back: Network, device: torch.device) -> Pictures:
    """Each picture behind its translation back, (H, W, 6): crops and flips are the same for both."""
    back, pixels = back.to(device), []
    with console.progress(len(targets.files), "pictures") as progress:
        for index in range(len(targets.files)):
            picture = targets.picture(index)
            pixels.append(np.concatenate([translated(back, picture, device), picture], axis=2))
            progress.advance()
    return dataclasses.replace(targets, pixels=tuple(pixels))


def open_start(path: Path) -> ModelFolder:
    """A model that both directions can be taken from.

    Raises:
        ModelError: it can't be opened.
        UsageError: it is of another method, or translates one way only.
    """
    model = open_model(path)
    if not isinstance(model.config, ModelConfig) or model.config.ways != "both":
        raise UsageError(f"{path}: not a model of U-GAT-IT that translates both ways", "Train one: ugatit train")
    return model


def make_step(model: ModelFolder, options: argparse.Namespace, device: torch.device) -> BackTranslation:
    """The direction's translator of a model, ready to train."""
    direction: Direction = options.direction
    networks = build_networks(
        model.config,
        lambda config: {direction: method_of(config).translators(config)[direction]},
        lambda _: {"judge": Judge(WIDTH)} if options.adversarial else {},
        seed=options.seed,
        device=device,
        precision=resolve_training_precision(options.precision, device),
        averaged=True,
        start=model,
    )
    features = bundled_features().to(device)
    chosen = {name: getattr(options, name) for name in ("recolour", "adversarial", "seed")}
    return BackTranslation(networks, direction, features, **chosen)


def load_both(model: ModelFolder, options: argparse.Namespace, device: torch.device) -> tuple[Pictures, Pictures]:
    """All training pictures of the direction's target behind their imitations; and those of its source."""
    assert isinstance(model.config, ModelConfig)
    folders, preparation = split_layout(options.data), Preparation(model.config.image_size)
    both = load_pictures(folders, preparation, Holdout(0), options.seed, workers=options.workers)
    source, target = (both[DOMAINS.index(of[options.direction])] for of in (SOURCE, TARGET))
    return with_imitations(target, model.generator(OTHER[options.direction]), device), source


class Run:
    """A training in a folder, new or gone on with."""

    def __init__(
        self,
        folder: RunFolder,
        model: ModelFolder,
        training: BackTranslation,
        pictures: tuple[Pictures, Pictures],
    ) -> None:
        self.folder, self.model, self.training = folder, model, training
        self.batches = Batches(pictures, seed=training.seed, batch_size=RECIPE.batch_size)
        self.reader = LossReader(training.group)
        self.step, elapsed = folder.latest() or 0, 0.0
        if self.step:
            elapsed = checkpoint.restore(folder, self.step, training).elapsed
        folder.truncate_metrics(self.step)
        self.began = time.monotonic() - elapsed

    def train(self, steps: float, seconds: float, stop: threading.Event) -> None:
        """Until so many steps, so much time, or `stop`; saves in the end."""
        device = next(self.training.translator.parameters()).device
        while self.step < steps and self.elapsed < seconds and not stop.is_set():
            a, b = (as_input(one, device) for one in self.batches[self.step])
            losses = self.training(a, b, step=self.step, learning_rate=RECIPE.learning_rate)
            self.reader.put(self.step, losses)
            self.step += 1
            if self.step % REPORT_EVERY == 0:
                self.report()
            if self.step % SAVE_EVERY == 0:
                self.save()
        self.save()

    @property
    def elapsed(self) -> float:
        """Seconds that it has taken."""
        return time.monotonic() - self.began

    def report(self) -> None:
        """Means of the losses since the last report: to stderr, and to `metrics.jsonl`."""
        self.reader.flush()
        values: dict[str, list[float]] = {}
        for losses in self.reader.line:
            for term in self.training.terms:
                values.setdefault(term.name, []).extend([losses[term.name]] if term.name in losses else [])
        means = {name: sum(each) / len(each) for name, each in values.items() if each}
        self.reader.line.clear()
        self.folder.append_metrics({"step": self.step, "seconds": round(self.elapsed), **means})
        texts = (f"{name} {mean:.4f}" for name, mean in means.items())
        console.note(f"step {self.step}, {self.elapsed / 60:.1f} min: {', '.join(texts)}")

    def save(self) -> None:
        """A checkpoint, then the model; each completely or not at all."""
        if self.folder.latest() != self.step:
            files = self.training.networks.files() | {checkpoint.OPTIMIZERS: self.training.optimizer_tensors()}
            state = dataclasses.asdict(checkpoint.State(self.elapsed, []))
            self.folder.save_checkpoint(self.step, files, state, keep=2)
        other = OTHER[self.training.direction]
        translators = self.training.networks.averages | {other: self.model.generator(other)}
        key = f"back-translation {self.training.direction}"
        provenance: dict[str, Any] = dict(self.model.provenance) | {key: f"{self.step} steps of {RECIPE.batch_size}"}
        tensors = tensors_of(translators)
        save_model(self.folder.model, self.model.config, tensors, provenance=provenance, overwrite=True)


def begin(folder: RunFolder, options: Mapping[str, Any]) -> None:
    """Makes the folder of a run, or sees that the one that is there is of these options.

    Raises:
        UsageError: it is of others, or no such folder.
    """
    document = {"back-translation": dict(options)}
    if not folder.exists:
        folder.create(document)
    elif folder.document() != document:
        raise UsageError(f"{folder.path}: was begun with other options", "Give those, or name a new folder.")
    folder.clean()


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model folder with both directions")
    parser.add_argument("out", type=Path, help="a new folder, or one to go on with")
    parser.add_argument("--data", type=Path, required=True, help="a folder with trainA and trainB")
    parser.add_argument("--direction", choices=DIRECTIONS, required=True, help="which one is trained")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, default=math.inf, help="how long in all")
    length.add_argument("--steps", type=int, default=math.inf, help="how many in all")
    parser.add_argument("--recolour", action="store_true", help="rotate the imitations' hues at random")
    parser.add_argument("--adversarial", type=float, default=0.0, help="weight of a projected discriminator's loss")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps")
    parser.add_argument("--precision", default="auto", help="bf16 or fp32")
    parser.add_argument("--workers", type=int, default=2, help="threads that decode pictures")
    return parser.parse_args()


def main() -> None:
    """Trains."""
    options = parsed()
    folder, device = RunFolder(options.out), resolve_device(options.device)
    model = open_start(options.model)
    with signals.interruptible() as stop, folder.locked():
        chosen = {
            name: getattr(options, name) for name in ("direction", "recolour", "adversarial", "seed", "precision")
        }
        begin(folder, chosen | {"model": str(options.model.resolve()), "data": str(options.data.resolve())})
        training = make_step(model, options, device)
        run = Run(folder, model, training, load_both(model, options, device))
        run.train(options.steps, 60 * options.minutes, stop)
    console.made(str(folder.model))


if __name__ == "__main__":
    try:
        main()
    except UgatitError as error:
        console.show_error(error)
        sys.exit(error.exit_code)
