"""`ugatit train`: a model for two folders of pictures."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from ugatit_cli.cli import console, live_watch, transfers, watch
from ugatit_cli.cli import train_options as options
from ugatit_cli.cli import train_report as report
from ugatit_cli.cli.options import MOST_BATCH, MOST_WORKERS, default_workers, parse_count, parse_domains
from ugatit_cli.cli.train_folders import check_folders, find_folders, located, run_path
from ugatit_cli.errors import Interrupted, TrainingError, UgatitError, UsageError

if TYPE_CHECKING:
    import torch

    from ugatit_cli.run_folder import RunFolder
    from ugatit_cli.training.distributed import Group
    from ugatit_cli.training.monitor import Listener
    from ugatit_cli.training.session import Request
    from ugatit_cli.training.settings import Settings
    from ugatit_cli.training.trainer import Machine

STOPPING = "stopping: finishing this step and saving"


def train(
    domain_a: options.DomainAOption = None,
    domain_b: options.DomainBOption = None,
    data: options.DataOption = None,
    domains: options.DomainsOption = None,
    holdout: options.HoldoutOption = None,
    fit: options.FitOption = None,
    flip: options.FlipOption = None,
    resume: options.ResumeOption = None,
    start: options.FromOption = None,
    start_direction: options.FromDirectionOption = None,
    iterations: options.IterationsOption = None,
    minutes: options.MinutesOption = None,
    variant: options.VariantOption = None,
    image_size: options.ImageSizeOption = None,
    channels: options.ChannelsOption = None,
    blocks: options.BlocksOption = None,
    discriminator_channels: options.DiscriminatorChannelsOption = None,
    decoder_norm: options.DecoderNormOption = None,
    generator_cam: options.GeneratorCamOption = None,
    discriminator_cam: options.DiscriminatorCamOption = None,
    discriminators: options.DiscriminatorsOption = None,
    recipe: options.RecipeOption = None,
    batch_size: options.BatchSizeOption = None,
    learning_rate: options.LearningRateOption = None,
    decay_from: options.DecayFromOption = None,
    weight_decay: options.WeightDecayOption = None,
    adversarial_weight: options.AdversarialWeightOption = None,
    cycle_weight: options.CycleWeightOption = None,
    identity_weight: options.IdentityWeightOption = None,
    cam_weight: options.CamWeightOption = None,
    ema: options.EmaOption = None,
    augment: options.AugmentOption = None,
    power_iterations: options.PowerIterationsOption = None,
    seed: options.SeedOption = None,
    output: options.RunOption = None,
    checkpoint_every: options.CheckpointEveryOption = None,
    sample_every: options.SampleEveryOption = None,
    keep: options.KeepOption = None,
    evaluate_every: options.EvaluateEveryOption = None,
    features: options.FeaturesOption = None,
    feature_layer: options.FeatureLayerOption = None,
    tensorboard: options.TensorBoardOption = False,
    dry_run: options.DryRunOption = False,
    json_line: options.JsonOption = False,
    device: options.DeviceOption = None,
    precision: options.PrecisionOption = None,
    workers: options.WorkersOption = None,
    checkpointing: options.SaveMemoryOption = None,
) -> None:
    """Train a model that translates between two folders of pictures.

    They need not be pairs: a few hundred of each do. The run folder has a usable model at every moment. Ctrl-C saves
    and stops; the same command again goes on.

    Examples:

    `ugatit train --domain-a ./horses --domain-b ./zebras`

    `ugatit train --domain-a ./horses --domain-b ./zebras --image-size 128 --minutes 90 -o runs/quick`

    `ugatit train --data ./selfie2anime --recipe paper --variant full --save-memory`

    `ugatit train --domain-a ./icons --domain-b ./clay --from flat2clay --minutes 30`

    `torchrun --nproc-per-node 4 -m ugatit_cli train --domain-a ./horses --domain-b ./zebras`
    """
    # Pillow warns of large pictures and odd metadata; what matters is reported with its path.
    warnings.filterwarnings("ignore", module="PIL")
    _check(iterations=iterations, minutes=minutes, start=start, start_direction=start_direction)
    threads = parse_count("--workers", workers or "auto", MOST_WORKERS) or default_workers()
    names = parse_domains(domains) if domains is not None else None
    values = {
        "domain_a": names and names[0],
        "domain_b": names and names[1],
        "holdout": holdout,
        "fit": fit,
        "flip": flip,
        "iterations": iterations,
        "minutes": minutes,
        "batch_size": parse_count("--batch-size", batch_size or "auto", MOST_BATCH) or None,
        "start": start,
        "start_direction": start_direction,
        "variant": variant,
        "image_size": image_size,
        "channels": channels,
        "blocks": blocks,
        "discriminator_channels": discriminator_channels,
        "decoder_norm": decoder_norm,
        "generator_cam": generator_cam,
        "discriminator_cam": discriminator_cam,
        "discriminators": discriminators,
        "recipe": recipe,
        "learning_rate": learning_rate,
        "decay_from": decay_from,
        "weight_decay": weight_decay,
        "adversarial_weight": adversarial_weight,
        "cycle_weight": cycle_weight,
        "identity_weight": identity_weight,
        "cam_weight": cam_weight,
        "ema": ema,
        "augment": augment,
        "power_iterations": power_iterations,
        "seed": seed,
        "checkpoint_every": checkpoint_every,
        "sample_every": sample_every,
        "keep": keep,
        "evaluate_every": evaluate_every,
        "features": features and str(located(features)),
        "feature_layer": feature_layer,
        "precision": precision,
        "checkpointing": checkpointing,
    }
    given = {name: value for name, value in values.items() if value is not None}
    from ugatit_cli.batches import readers_kept
    from ugatit_cli.run_folder import RunFolder
    from ugatit_cli.training.distributed import joined_group
    from ugatit_cli.training.session import Request
    from ugatit_cli.training.trainer import Machine

    folders = find_folders(domain_a, domain_b, data)
    if holdout is not None and folders and folders.test_a and folders.test_b:
        raise UsageError("--holdout contradicts testA and testB", "Leave it out: what is in these is held out.")
    run = RunFolder(run_path(output, resume, folders, names))
    request = Request(given, folders, must_exist=resume is not None)
    with joined_group(device or "auto") as group, one_voice(group), enough_memory(), readers_kept():
        machine = Machine(_device(device or "auto", group), threads, group)
        if start is not None and group.rank == 0 and not run.exists:
            transfers.find_model(start)  # so that a download is seen; the session opens what is there then
        if dry_run:
            _dry_run(run, request, machine, json_line=json_line)
        else:
            _train(run, request, machine, tensorboard=tensorboard, json_line=json_line)


# --- What is asked for ---------------------------------------------------------------------------------


def _check(*, iterations: int | None, minutes: float | None, start: str | None, start_direction: str | None) -> None:
    if iterations is not None and minutes is not None:
        raise UsageError("--iterations and --minutes contradict each other", "Give one of them.")
    if start_direction is not None and start is None:
        raise UsageError("--from-direction is about the model of --from", "Name one: --from MODEL")


# --- Several processes ---------------------------------------------------------------------------------


def _device(name: str, group: Group) -> torch.device:
    import torch

    from ugatit_cli.device import resolve_device

    device = resolve_device(name)
    if group.size > 1 and device.type != "cpu":  # gloo, which is what there is without CUDA, has no tensors on MPS
        device = torch.device("cuda", group.local_rank) if device.type == "cuda" else torch.device("cpu")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


@contextlib.contextmanager
def one_voice(group: Group) -> Iterator[None]:
    """Of several processes that fail alike, the first one says so; the others name what only they may have met.

    Raises:
        TrainingError: in the first process: another one is gone.
        typer.Exit: in the others, with the error's exit code.
    """
    try:
        yield
    except Exception as error:
        lost = _is_lost_contact(error)
        if group.rank == 0:
            if lost:
                raise TrainingError(
                    "another process of this run has ended", "The last checkpoint is kept: the same command goes on."
                ) from error
            raise
        if not isinstance(error, UgatitError) and not lost:
            raise
        if isinstance(error, UgatitError) and not isinstance(error, UsageError | Interrupted):
            console.note(f"process {group.rank}: {error.message}")
        raise typer.Exit(getattr(error, "exit_code", 1)) from None


def _is_lost_contact(error: Exception) -> bool:
    import torch.distributed as dist

    # gloo has no error class of its own.
    return dist.is_available() and (
        isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())
    )


@contextlib.contextmanager
def enough_memory() -> Iterator[None]:
    """Says what to do when memory is used up.

    Raises:
        TrainingError: it is.
    """
    from ugatit_cli.device import is_out_of_memory

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            "not enough memory to train this model with this batch",
            "Use --save-memory, --batch-size 1, or a smaller --image-size or --channels.",
        ) from error


# --- Training ------------------------------------------------------------------------------------------


def _train(run: RunFolder, request: Request, machine: Machine, *, tensorboard: bool, json_line: bool) -> None:
    from ugatit_cli.training import session

    if machine.group.rank != 0:
        with console.interruptible(saying="") as stop:
            _, outcome = session.train(run, request, machine, watch.Silent(), stop)
        if not outcome.finished:
            raise typer.Exit(Interrupted.exit_code)
        return
    check_folders(run, request)
    settings, _ = session.resolve(run, request, machine, exists=run.exists)
    before, start = run.latest() or 0, time.monotonic()
    if settings.iterations is None or before < settings.iterations:
        report.describe(settings, run, machine, before)
    try:
        with (
            console.interruptible(STOPPING) as stop,
            _listener(settings, run, tensorboard=tensorboard) as listener,
        ):
            settings, outcome = session.train(run, request, machine, listener, stop)
    except KeyboardInterrupt:
        raise report.stopped_at_once(run) from None
    seconds = time.monotonic() - start
    report.finish(run, settings, outcome, outcome.step - before, seconds, json_line=json_line)


@contextlib.contextmanager
def _listener(settings: Settings, run: RunFolder, *, tensorboard: bool) -> Iterator[Listener]:
    with contextlib.ExitStack() as stack:
        listeners: list[Listener] = []
        if tensorboard:
            from ugatit_cli.training.tensorboard import TensorBoard

            listeners.append(stack.enter_context(contextlib.closing(TensorBoard(run.path / "tensorboard"))))
        yield watch.Several(*listeners, stack.enter_context(live_watch.watching(settings)))


# --- Dry run -------------------------------------------------------------------------------------------


class _Notes(watch.Silent):
    """Remembers notes."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        """Something worth knowing."""
        self.texts.append(text)


def _dry_run(run: RunFolder, request: Request, machine: Machine, *, json_line: bool) -> None:
    from ugatit_cli.training import session

    never = threading.Event()
    if machine.group.rank != 0:
        session.dry_run(run, request, machine, watch.Silent(), never)
        return
    check_folders(run, request)
    settings, _ = session.resolve(run, request, machine, exists=run.exists)
    notes = _Notes()
    with live_watch.watching(settings) as view:
        settings, cost = session.dry_run(run, request, machine, watch.Several(view, notes), never)
    report.say_costs(settings, cost, notes.texts, run.latest() or 0, json_line=json_line)
