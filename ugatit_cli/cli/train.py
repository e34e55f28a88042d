"""`ugatit train`: a model for two folders of pictures."""

from __future__ import annotations

import contextlib
import re
import shlex
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ugatit_cli.cli import console, train_options, train_view
from ugatit_cli.cli.options import MOST_BATCH, MOST_WORKERS, default_workers, parse_count, parse_domains
from ugatit_cli.errors import Interrupted, TrainingError, UgatitError, UsageError
from ugatit_cli.training.listeners import Listener, Several

if TYPE_CHECKING:
    import torch

    from ugatit_cli.data.pictures import Folders
    from ugatit_cli.device import Group
    from ugatit_cli.training.run_folder import RunFolder
    from ugatit_cli.training.session import Request
    from ugatit_cli.training.settings import Settings
    from ugatit_cli.training.trainer import Machine


# Of a folder's name in the default name of a run: two halves fit into the 255 bytes that file systems allow.
LONGEST_NAME, LONGEST_BYTES = 40, 120


def find_folders(domain_a: Path | None, domain_b: Path | None, data: Path | None) -> Folders | None:
    """The folders of pictures, absolute, so that the run goes on from anywhere; None if none are named.

    Raises:
        UsageError: the options contradict each other, one of a pair is missing, or a name is no text.
    """
    from ugatit_cli.data.pictures import Folders, split_layout

    if data is not None:
        if domain_a or domain_b:
            raise UsageError("--data contradicts --domain-a and --domain-b", "Give the one or the others.")
        return split_layout(located(data))
    if domain_a is None and domain_b is None:
        return None
    if domain_a is None or domain_b is None:
        missing = "--domain-a" if domain_a is None else "--domain-b"
        raise UsageError(f"{missing} is missing", "Name a folder for each domain: --domain-a A --domain-b B")
    return Folders(located(domain_a), located(domain_b))


def located(path: Path) -> Path:
    """The absolute path that a run's settings have, so that the run goes on from anywhere.

    Raises:
        UsageError: its name is no text.
    """
    path = path.expanduser().absolute()
    try:
        str(path).encode()
    except UnicodeEncodeError:  # the run's settings are text
        name = str(path).encode(errors="backslashreplace").decode()
        raise UsageError(f"{name}: the folder's name is not text (UTF-8)", "Rename the folder.") from None
    return path


def run_path(
    output: Path | None, resume: Path | None, folders: Folders | None, names: tuple[str, str] | None
) -> Path:
    """The run folder, by default one that is named like the domains.

    Raises:
        UsageError: two different ones are named, or nothing to name it after.
    """
    if resume is not None:
        path = resume.expanduser()
        if output is not None and output.expanduser().resolve() != path.resolve():
            raise UsageError(f"--output {output} and --resume {resume} are two runs", "Leave --output out.")
        return path
    if output is not None:
        return output.expanduser()
    if folders is None:
        raise UsageError(
            "no pictures to train on",
            "Name a folder for each domain: --domain-a A --domain-b B, or a run to go on with: --resume RUN",
        )
    return Path("runs", _default_name(folders, names))


def _default_name(folders: Folders, names: tuple[str, str] | None) -> str:
    from ugatit_cli.training.settings import domain_names

    a, b = domain_names(folders) if names is None else names
    if (a, b) == ("A", "B") and folders.a.name.casefold() == "traina":
        return _plain(folders.a.resolve().parent.name) or "A2B"
    return f"{_plain(a) or 'A'}2{_plain(b) or 'B'}"


def _plain(name: str) -> str:
    short = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:LONGEST_NAME]
    return short.encode()[:LONGEST_BYTES].decode(errors="ignore").rstrip("-.")


def check_folders(run: RunFolder, request: Request) -> None:
    """A run's pictures change only when the user says that it's this run.

    Raises:
        UsageError: the run was begun with others.
        ModelError: its settings are damaged.
    """
    if request.folders is None or request.must_exist or not run.exists:
        return
    from ugatit_cli.training.run_folder import RUN_FILE
    from ugatit_cli.training.settings import Settings

    before = Settings.from_document(run.document(), run.path / RUN_FILE).folders
    if [one.resolve() for one in (before.a, before.b)] != [
        one.resolve() for one in (request.folders.a, request.folders.b)
    ]:
        raise UsageError(
            f"{run.path} is a run with other pictures: {before.a} and {before.b}",
            f"Have they moved? Add --resume {shlex.quote(str(run.path))}. For a new run, name it: -o runs/NAME",
        )


STOPPING = "stopping: finishing this step and saving"


def train(
    domain_a: train_options.DomainAOption = None,
    domain_b: train_options.DomainBOption = None,
    data: train_options.DataOption = None,
    domains: train_options.DomainsOption = None,
    holdout: train_options.HoldoutOption = None,
    fit: train_options.FitOption = None,
    flip: train_options.FlipOption = None,
    resume: train_options.ResumeOption = None,
    start: train_options.FromOption = None,
    start_direction: train_options.FromDirectionOption = None,
    iterations: train_options.IterationsOption = None,
    minutes: train_options.MinutesOption = None,
    variant: train_options.VariantOption = None,
    image_size: train_options.ImageSizeOption = None,
    channels: train_options.ChannelsOption = None,
    blocks: train_options.BlocksOption = None,
    discriminator_channels: train_options.DiscriminatorChannelsOption = None,
    decoder_norm: train_options.DecoderNormOption = None,
    generator_cam: train_options.GeneratorCamOption = None,
    discriminator_cam: train_options.DiscriminatorCamOption = None,
    discriminators: train_options.DiscriminatorsOption = None,
    recipe: train_options.RecipeOption = None,
    batch_size: train_options.BatchSizeOption = None,
    learning_rate: train_options.LearningRateOption = None,
    decay_from: train_options.DecayFromOption = None,
    weight_decay: train_options.WeightDecayOption = None,
    adversarial_weight: train_options.AdversarialWeightOption = None,
    cycle_weight: train_options.CycleWeightOption = None,
    identity_weight: train_options.IdentityWeightOption = None,
    cam_weight: train_options.CamWeightOption = None,
    ema: train_options.EmaOption = None,
    augment: train_options.AugmentOption = None,
    power_iterations: train_options.PowerIterationsOption = None,
    seed: train_options.SeedOption = None,
    output: train_options.RunOption = None,
    checkpoint_every: train_options.CheckpointEveryOption = None,
    sample_every: train_options.SampleEveryOption = None,
    keep: train_options.KeepOption = None,
    evaluate_every: train_options.EvaluateEveryOption = None,
    features: train_options.FeaturesOption = None,
    feature_layer: train_options.FeatureLayerOption = None,
    tensorboard: train_options.TensorBoardOption = False,
    dry_run: train_options.DryRunOption = False,
    json_line: train_options.JsonOption = False,
    device: train_options.DeviceOption = None,
    precision: train_options.PrecisionOption = None,
    workers: train_options.WorkersOption = None,
    checkpointing: train_options.SaveMemoryOption = None,
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
    from ugatit_cli.data.batches import readers_kept
    from ugatit_cli.device import joined_group
    from ugatit_cli.training.run_folder import RunFolder
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
            console.find_model(start)  # so that a download is seen; the session opens what is there then
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
            _, outcome = session.train(run, request, machine, Listener(), stop)
        if not outcome.finished:
            raise typer.Exit(Interrupted.exit_code)
        return
    check_folders(run, request)
    settings, _ = session.resolve(run, request, machine, exists=run.exists)
    before, start = run.latest() or 0, time.monotonic()
    if settings.iterations is None or before < settings.iterations:
        train_view.describe(settings, run, machine, before)
    try:
        with (
            console.interruptible(STOPPING) as stop,
            _listener(settings, run, tensorboard=tensorboard) as listener,
        ):
            settings, outcome = session.train(run, request, machine, listener, stop)
    except KeyboardInterrupt:
        raise train_view.stopped_at_once(run) from None
    seconds = time.monotonic() - start
    train_view.finish(run, settings, outcome, outcome.step - before, seconds, json_line=json_line)


@contextlib.contextmanager
def _listener(settings: Settings, run: RunFolder, *, tensorboard: bool) -> Iterator[Listener]:
    with contextlib.ExitStack() as stack:
        listeners: list[Listener] = []
        if tensorboard:
            from ugatit_cli.training.listeners import TensorBoard

            listeners.append(stack.enter_context(contextlib.closing(TensorBoard(run.path / "tensorboard"))))
        yield Several(*listeners, stack.enter_context(train_view.watching(settings)))


# --- Dry run -------------------------------------------------------------------------------------------


class _Notes(Listener):
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
        session.dry_run(run, request, machine, Listener(), never)
        return
    check_folders(run, request)
    settings, _ = session.resolve(run, request, machine, exists=run.exists)
    notes = _Notes()
    with train_view.watching(settings) as view:
        settings, cost = session.dry_run(run, request, machine, Several(view, notes), never)
    train_view.say_costs(settings, cost, notes.texts, run.latest() or 0, json_line=json_line)
