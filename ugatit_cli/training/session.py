"""What `ugatit train` does: begins a run or goes on with one, or finds out what it would cost."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ugatit_cli.data.batches import Batches
from ugatit_cli.data.pictures import Folders, Pictures
from ugatit_cli.device import Group, peak_memory
from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.files import expanded
from ugatit_cli.methods.registry import method_of
from ugatit_cli.metrics.features import Extractor
from ugatit_cli.training.estimate import Measurement, estimate
from ugatit_cli.training.evaluation import check_holdout, extractor_for, is_evaluated, too_few_held_out
from ugatit_cli.training.holdout import trained_before
from ugatit_cli.training.listeners import Listener
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import (
    Settings,
    check_start,
    new_settings,
    resolve_training_precision,
    resumed_settings,
)
from ugatit_cli.training.trainer import Machine, Outcome, Trainer, as_input, load_data, make_networks
from ugatit_cli.weights.fetch import find_model
from ugatit_cli.weights.folder import ModelFolder, open_model

STEPS = 3
# Share of a GPU's memory that a batch may take: samples and other programs need some, too.
ROOM = 0.9
# A discriminator that sees every picture this often learns them by heart.
MANY_EPOCHS = 200
# Pictures to train on below which it is worth saying so.
FEW = 100


def measure(settings: Settings, pictures: tuple[Pictures, Pictures], machine: Machine) -> Measurement:
    """Trains throw-away networks for three steps, or three times as many as differ.

    Raises:
        torch.OutOfMemoryError: the batch is too large.
    """
    if machine.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(machine.device)
    networks = make_networks(settings, machine.device, None)
    # Alone: another process may have more memory, and not follow.
    training = method_of(settings.model).step(networks, settings.recipe, seed=settings.seed, group=Group())
    batches = Batches(pictures, seed=settings.seed, batch_size=settings.recipe.batch_size)
    seconds, period = [0.0] * STEPS, training.period
    for step in range(STEPS * period):
        a, b = (as_input(one, machine.device) for one in batches[step])
        start = time.perf_counter()
        losses = training(a, b, step=step, learning_rate=settings.recipe.learning_rate)
        next(iter(losses.values())).item()  # waits for the device
        seconds[step // period] += time.perf_counter() - start
    generators, discriminators = (
        sum(weight.numel() for network in of.values() for weight in network.parameters())
        for of in (networks.translators, networks.critics)
    )
    return Measurement(generators, discriminators, period / min(seconds[1:]), peak_memory(machine.device))


def with_fitting_batch(settings: Settings, pictures: tuple[Pictures, Pictures], machine: Machine) -> Settings:
    """Settings whose batch fits into the GPU's memory: halved until it does.

    Raises:
        torch.OutOfMemoryError: the least that its method takes is too much.
    """
    least = method_of(settings.model).batch
    while machine.device.type == "cuda":
        room = ROOM * torch.cuda.mem_get_info(machine.device)[1]
        try:
            cost = measure(settings, pictures, machine)
            if settings.recipe.batch_size == least or cost.memory_bytes < room:
                break
        except torch.OutOfMemoryError:
            if settings.recipe.batch_size == least:
                raise
        torch.cuda.empty_cache()
        settings = _with_batch(settings, settings.recipe.batch_size // 2)
    return settings


def with_augmentation(settings: Settings, pictures: tuple[Pictures, Pictures], processes: int = 1) -> Settings:
    """Settings whose `augment` is decided: `auto` is on where a run of known length sees the same pictures often."""
    if settings.recipe.augment != "auto":
        return settings
    seen = (settings.iterations or 0) * settings.recipe.batch_size * processes
    often = seen >= MANY_EPOCHS * min(len(one.files) for one in pictures)
    recipe = dataclasses.replace(settings.recipe, augment="on" if often else "off")
    return dataclasses.replace(settings, recipe=recipe)


def _with_batch(settings: Settings, batch_size: int) -> Settings:
    return dataclasses.replace(settings, recipe=dataclasses.replace(settings.recipe, batch_size=batch_size))


@dataclass(frozen=True)
class Prepared:
    """A run whose settings are known as far as they are before its pictures are read.

    Attributes:
        settings: of the run; if it is a new one, its pictures and the GPU's memory still decide on some.
        exists: whether it goes on.
        takes_fitting_batch: whether nobody asked for a batch size.
        counts_epochs: whether it takes as many epochs as its recipe says, so that its pictures decide on its steps.
        leaves_length: whether nobody said how long it shall take.
        places_pictures: whether it goes on, and the user says where its pictures are now.
    """

    run: RunFolder
    machine: Machine
    settings: Settings
    start: ModelFolder | None
    exists: bool
    takes_fitting_batch: bool
    counts_epochs: bool = False
    leaves_length: bool = False
    places_pictures: bool = False

    def train(self, listener: Listener, stop: threading.Event) -> tuple[Settings, Outcome]:
        """Trains until the run is complete or `stop` is set.

        Raises:
            UsageError: folders that don't exist, or another process trains there.
            DataError: too few pictures, or one can't be read any more.
            ModelError: the run's checkpoint, or the network of a loss or of the evaluation, are missing or damaged.
            TrainingError: a loss or a weight isn't finite.
            OutputError: the run folder can't be written.
            Interrupted: `stop` was set before the first step.
        """
        run, machine, settings = self.run, self.machine, self.settings
        early = self.exists or settings.features is not None  # else it may be downloaded, which is for later
        extractor = _extractor(settings, machine, run, listener) if early else None
        if self.exists and machine.group.share(float(_is_complete(run, settings, extractor))):
            self._look_at_places(listener)
            return settings, Outcome(run.latest() or 0, finished=True)
        with _locked(run, machine), _exact(settings):
            pictures = self._pictures(listener, stop)
            extractor = extractor or _extractor(settings, machine, run, listener)
            settings = self._settled(pictures, extractor, listener)
            if self.asks_advice:
                listener.estimated(settings, estimate(settings, pictures, machine, listener.trying))
            trainer = Trainer(run, settings, pictures, machine, listener, start=self.start, extractor=extractor)
            if machine.group.rank == 0:  # now that nothing that training needs is missing
                run.create(settings.to_document())
            listener.beginning(settings)
            return settings, trainer.train(stop)

    @property
    def asks_advice(self) -> bool:
        """Whether what is about to begin may take days that nobody meant."""
        return self.leaves_length and self.machine.device.type != "cuda" and self.machine.group.size == 1

    def dry_run(self, listener: Listener, stop: threading.Event) -> tuple[Settings, Measurement]:
        """What `train` would do and cost; writes nothing. Raises the same errors."""
        self.run.check_free()
        pictures = self._pictures(listener, stop)
        extractor = _extractor(self.settings, self.machine, self.run, listener)
        with _exact(self.settings):
            settings = self._settled(pictures, extractor, listener)
            if self.machine.device.type == "cuda":  # whose memory only the run's own steps tell
                return settings, measure(settings, pictures, self.machine)
            return settings, estimate(settings, pictures, self.machine, listener.trying)

    def _look_at_places(self, listener: Listener) -> None:
        """Of a complete run's pictures, as far as the user names them, though nothing is done with them."""
        if not self.places_pictures:
            return
        self._check_places()
        before = Settings.of_run(self.run).folders
        if not _same_places(before, self.settings.folders):
            listener.note(f"no use is made of these folders: it was trained on {before.a} and {before.b}")

    def _check_places(self) -> None:
        folders = self.settings.folders
        gone = [str(folder) for folder in (folders.a, folders.b) if not os.path.isdir(folder)]  # noqa: PTH112
        if self.exists and gone:
            raise UsageError(
                f"{self.run.path}: its pictures aren't where they were: {' and '.join(gone)}",
                f"Say where they are now: ugatit train --resume {shlex.quote(str(self.run.path))} A B",
            )

    def _pictures(self, listener: Listener, stop: threading.Event) -> tuple[Pictures, Pictures]:
        """Those of both domains, enough of them for what is asked for."""
        self._check_places()
        pictures = load_data(self.settings, self.run, self.machine, listener, stop)
        rough = check_holdout(pictures, self.settings) if self.settings.evaluates else None
        fewest = min(len(one.files) for one in pictures)
        if fewest < FEW and not self.exists:
            listener.note(f"{fewest} pictures to train on are few: a few hundred of each do better")
        if rough is None and not self.exists and not self.settings.evaluates:
            rough = too_few_held_out(pictures, self.settings)
        if rough is not None:
            listener.note(rough)
        return pictures

    def _settled(
        self, pictures: tuple[Pictures, Pictures], extractor: Extractor | None, listener: Listener
    ) -> Settings:
        settings, group = self.settings, self.machine.group
        if extractor is not None:
            if extractor.because:
                listener.note(extractor.because)
            listener.note(
                f"evaluation every {_interval(settings.evaluate_every)} and at the end, with {extractor.name}"
            )
        if self.exists:
            return settings
        if self.counts_epochs:
            larger = max(len(one.files) for one in pictures)
            whole = max(1, settings.recipe.epochs * larger // (settings.recipe.batch_size * group.size))
            steps = min(whole, method_of(settings.model).most_iterations or whole)
            recipe = dataclasses.replace(settings.recipe, ends_after=steps / whole)
            settings = dataclasses.replace(settings, iterations=steps, recipe=recipe)
            done = f", of which {steps} are done" if steps < whole else ""
            listener.note(f"{recipe.epochs} epochs of {larger} pictures: {whole} steps{done}")
        several = settings.recipe.batch_size > method_of(settings.model).batch
        if several and self.takes_fitting_batch and self.machine.device.type == "cuda":
            most = settings.recipe.batch_size
            settings = with_fitting_batch(settings, pictures, self.machine)
            batch_size = int(group.least(float(settings.recipe.batch_size)))
            listener.note(f"batch size {batch_size}: what fits into the GPU's memory, up to {most}")
            settings = _with_batch(settings, batch_size)
        for known in self._about_start(settings, pictures):
            listener.note(known)
        return with_augmentation(settings, pictures, group.size)

    def _about_start(self, settings: Settings, pictures: tuple[Pictures, Pictures]) -> Iterator[str]:
        if self.start is not None and (known := check_start(self.start, settings)) is not None:
            yield known
        if (known := trained_before(settings, pictures)) is not None:
            yield f"{known}: figures of these flatter it; --holdout and --seed as there avoid it"


def prepare(
    run: RunFolder,
    given: Mapping[str, Any],
    folders: Folders | None,
    machine: Machine,
    *,
    named: bool = False,
    find: Callable[[str], ModelFolder] = find_model,
) -> Prepared:
    """A run that begins, or goes on if there is one in the folder; nothing is written but a model that is fetched.

    Args:
        given: settings by the names of `Settings`, `ModelConfig` and `Recipe`, only those that the user states.
        folders: where the pictures are; None: where the run that goes on had them.
        named: the user says that it is this run (`--resume`): it must exist, and may get other settings and pictures.
        find: opens the model to start from, in the process of rank 0; in the others it is there already.

    Raises:
        UsageError: settings that make no sense or differ from the run's, or nothing to train on.
        DeviceError: a precision that the machine doesn't have.
        ModelError: the model to start from or the run's settings are missing or damaged.
    """
    group, exists = machine.group, run.exists
    if group.rank != 0:
        exists, find = bool(group.share(0.0)), find_model  # which waits for rank 0
    if exists:
        settings, start = _going_on(run, given, folders, machine, named=named, find=find)
    elif named:
        raise UsageError(
            f"{run.path}: there is no run to go on with", "Begin one: ugatit train A B, with two folders."
        )
    elif folders is None:
        raise UsageError(
            "no pictures to train on", "Name a data set, or two folders: --data NAME, or ugatit train A B."
        )
    else:
        settings, start = _beginning(given, folders, machine, find)
    if group.rank == 0:
        group.share(float(exists))
    for name in ("extractor", "features", "feature_layer"):
        if name in given and not settings.evaluates:
            raise UsageError(f"--{name.replace('_', '-')} is about evaluation", "Add --evaluate-every 1000.")
    no_length = not exists and not {"iterations", "minutes"} & given.keys()
    counts = settings.recipe.epochs > 0 and no_length
    places = exists and named and folders is not None
    return Prepared(run, machine, settings, start, exists, "batch_size" not in given, counts, no_length, places)


def _going_on(
    run: RunFolder,
    given: Mapping[str, Any],
    folders: Folders | None,
    machine: Machine,
    *,
    named: bool,
    find: Callable[[str], ModelFolder],
) -> tuple[Settings, ModelFolder | None]:
    stored, changes = Settings.of_run(run), dict(given)
    if folders is not None:
        before = stored.folders
        if not named and not _same_places(before, folders):
            raise UsageError(
                f"{run.path} is a run with other pictures: {before.a} and {before.b}",
                f"Have they moved? Add --resume {shlex.quote(str(run.path))}. For a new run, name it: -o runs/NAME",
            )
        theirs, ours = (before.a.name, before.b.name), (folders.a.name, folders.b.name)
        if ours == theirs[::-1] != theirs:
            raise UsageError(
                f"{folders.a} and {folders.b} are the other way round: in {run.path} A is {theirs[0]}, B {theirs[1]}",
                f"ugatit train --resume {shlex.quote(str(run.path))} {shlex.quote(str(folders.b))} "
                f"{shlex.quote(str(folders.a))}",
            )
        changes["folders"] = folders
    if changes.get("precision", "auto") != "auto":
        resolve_training_precision(changes["precision"], machine.device)
    if "start" in changes and str(expanded(changes["start"]).absolute()) == stored.start:
        changes["start"] = stored.start
    settings = resumed_settings(stored, changes, run.path, named=named)
    # A run that was killed before its first checkpoint begins again.
    again = settings.start if run.latest() is None else None
    return settings, find(again) if again is not None else None


def _same_places(one: Folders, other: Folders) -> bool:
    return (one.a.resolve(), one.b.resolve()) == (other.a.resolve(), other.b.resolve())


def _beginning(
    given: Mapping[str, Any], folders: Folders, machine: Machine, find: Callable[[str], ModelFolder]
) -> tuple[Settings, ModelFolder | None]:
    if "start" not in given:
        return new_settings(given, folders, device=machine.device), None
    start, path = find(given["start"]), expanded(given["start"]).absolute()
    if start.path.resolve().is_relative_to(path.resolve()):
        given = {**given, "start": str(path)}  # not a name: so that the run goes on from anywhere
    return new_settings(given, folders, device=machine.device, start=start), start


def _is_complete(run: RunFolder, settings: Settings, extractor: Extractor | None) -> bool:
    # A kill may have come between, and users may want figures of other pictures or by another extractor.
    step = run.latest() or 0
    if settings.iterations is None or step < settings.iterations or not run.samples_path(step).exists():
        return False
    if extractor is not None:
        same = Settings.of_run(run).folders == settings.folders
        if not same or not is_evaluated(run, step, {"extractor": extractor.name}):
            return False
    try:
        return open_model(run.path).provenance.get("steps") == step
    except ModelError:
        return False


def _interval(every: str) -> str:
    return f"{every[:-1]} minutes" if every.endswith("m") else f"{every} steps" if every != "1" else "step"


def _extractor(settings: Settings, machine: Machine, run: RunFolder, listener: Listener) -> Extractor | None:
    if not settings.evaluates or machine.group.rank != 0:
        return None
    return extractor_for(settings, machine.device, run, listener.note)


@contextlib.contextmanager
def _exact(settings: Settings) -> Iterator[None]:
    """cuDNN so that a resumed run equals an uninterrupted one, and float32 is float32."""
    cudnn: Any = torch.backends.cudnn
    # By default it tries which algorithm is fastest, which differs from process to process.
    with cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=settings.precision != "fp32"):
        yield


@contextlib.contextmanager
def _locked(run: RunFolder, machine: Machine) -> Iterator[None]:
    if machine.group.rank != 0:
        yield
        return
    made = not run.path.exists()
    with run.locked():
        run.clean()
        try:
            yield
        finally:
            if made and not run.exists:  # it was refused before it began: there is nothing but the lock
                with contextlib.suppress(OSError):
                    (run.path / ".lock").unlink()
                    run.path.rmdir()
