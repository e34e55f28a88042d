"""`ugatit train`: a model for two folders of pictures."""

from __future__ import annotations

import os
import re
import shlex
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Set
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import typer

from ugatit_cli.cli import console, signals, voice
from ugatit_cli.cli.options import (
    MOST_BATCH,
    MOST_WORKERS,
    default_workers,
    parse_columns,
    parse_count,
    parse_domains,
    parse_pixels,
)
from ugatit_cli.cli.train_command import Asked
from ugatit_cli.errors import Interrupted, TrainingError, UgatitError, UsageError
from ugatit_cli.files import expanded
from ugatit_cli.training.listeners import Listener, Several, TensorBoard

if TYPE_CHECKING:
    import torch

    from ugatit_cli.data.pictures import Folders
    from ugatit_cli.device import Group
    from ugatit_cli.training.session import Prepared
    from ugatit_cli.training.settings import Settings


# Of a folder's name in the default name of a run: two halves fit into the 255 bytes that file systems allow.
LONGEST_NAME, LONGEST_BYTES = 40, 120


def find_folders(asked: Asked) -> Folders | None:
    """The folders of pictures, absolute, so that the run goes on from anywhere; None if none are named.

    Raises:
        UsageError: the options contradict each other, one of a pair is missing, or a name is no text.
    """
    from ugatit_cli.data.pictures import Folders

    (a, b), columns = _domains(asked), parse_columns(asked.columns)
    if asked.data is not None:
        if a or b:
            names = "A and B" if asked.a else "--domain-a and --domain-b"
            raise UsageError(f"--data contradicts {names}", "Give the one or the others.")
        _located(Path(asked.data))  # before anything is fetched
        found = console.find_data(asked.data, columns).folders
        tests = [one and _located(one) for one in (found.test_a, found.test_b)]
        return Folders(_located(found.a), _located(found.b), *tests)
    if columns is not None:
        raise UsageError("--columns is about parquet files", "Name them: --data hub:OWNER/NAME, or a folder.")
    if a is None and b is None:
        return None
    if a is None or b is None:
        missing = "--domain-a" if a is None else "--domain-b"
        raise UsageError(f"{missing} is missing", "Name a folder for each domain: ugatit train A B")
    return Folders(_located(a), _located(b))


def _domains(asked: Asked) -> tuple[Path | None, Path | None]:
    """The folders of both domains, named by their place or by options."""
    a, b, named = asked.a, asked.b, (asked.domain_a, asked.domain_b)
    if a is None:
        return named
    if any(named):
        raise UsageError(
            f"{a}: folders are named here, and by --domain-a and --domain-b, too", "Name each once: ugatit train A B"
        )
    if b is None and asked.data is None:
        raise UsageError(
            f"{a}: training needs two folders, and one is named",
            f"Name both: ugatit train A B. If it is a data set: --data {shlex.quote(str(a))}",
        )
    return a, b


def _located(path: Path) -> Path:
    """Absolute, so that the run goes on from anywhere."""
    path = expanded(path).absolute()
    try:
        str(path).encode()
    except UnicodeEncodeError:  # the run's settings are text
        name = str(path).encode(errors="backslashreplace").decode()
        raise UsageError(f"{name}: the folder's name is not text (UTF-8)", "Rename the folder.") from None
    return path


def run_path(asked: Asked, folders: Folders | None, names: tuple[str, str] | None) -> Path:
    """The run folder, by default one that is named like the domains.

    Raises:
        UsageError: two different ones are named, or nothing to name it after.
    """
    output, resume = asked.output, asked.resume
    if resume is not None:
        path = expanded(resume)
        if output is not None and expanded(output).resolve() != path.resolve():
            raise UsageError(f"--output {output} and --resume {resume} are two runs", "Leave --output out.")
        return path
    if output is not None:
        return expanded(output)
    if folders is None:
        ways = "Name a folder for each domain: ugatit train A B, or a run to go on with: --resume RUN"
        raise UsageError("no pictures to train on", ways)
    return Path("runs", _default_name(folders, names))


def _default_name(folders: Folders, names: tuple[str, str] | None) -> str:
    from ugatit_cli.data.pictures import layout_root
    from ugatit_cli.training.settings import domain_names

    a, b = domain_names(folders) if names is None else names
    if (a, b) == ("A", "B") and (root := layout_root(folders)) is not None:
        return _plain(unquote(root.name)) or "A2B"
    return f"{_plain(a) or 'A'}2{_plain(b) or 'B'}"


def _plain(name: str) -> str:
    short = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:LONGEST_NAME]
    return short.encode()[:LONGEST_BYTES].decode(errors="ignore").rstrip("-.")


def train(asked: Asked, given: dict[str, Any], elsewhere: frozenset[str]) -> None:
    """Train a model that translates between two folders of pictures.

    They need not be pairs: a few hundred of each do. The run folder has a usable model at every moment. Ctrl-C saves
    and stops; the same command again goes on. --dry-run says how long it takes on this machine.

    Examples:

    `ugatit train ./horses ./zebras --dry-run`

    `ugatit train ./horses ./zebras --image-size 128 --minutes 90 -o runs/quick`

    `ugatit train --data horse2zebra --recipe paper --variant full --save-memory`

    `ugatit train ./drawings ./clay --from flat2clay --minutes 30`

    `torchrun --nproc-per-node 4 -m ugatit_cli train ./horses ./zebras`
    """
    # Pillow warns of large pictures and odd metadata; what matters is reported with its path.
    warnings.filterwarnings("ignore", module="PIL")
    threads = parse_count("--workers", asked.workers, MOST_WORKERS) or default_workers()
    most = parse_pixels(asked.max_pixels)
    names = parse_domains(asked.domains) if asked.domains is not None else None
    given |= {"method": asked.method} if asked.method is not None else {}
    given = parsed(given) | (dict(zip(("domain_a", "domain_b"), names, strict=True)) if names else {})
    first = os.environ.get("RANK", "0") == "0"
    stated = given.keys() - elsewhere
    found = _pictures_and_run(asked, stated, names) if first else None
    from ugatit_cli.data.batches import readers_kept
    from ugatit_cli.device import joined_group, keep_freed_memory
    from ugatit_cli.training import session
    from ugatit_cli.training.run_folder import RunFolder
    from ugatit_cli.training.trainer import Machine

    with joined_group(asked.device) as group, one_voice(group), readers_kept():
        machine = Machine(device_for(asked.device, group), threads, group, most)
        if machine.device.type == "cpu":
            keep_freed_memory()
        folders, path = found or _pictures_and_run(asked, stated, names)  # which the first one has fetched
        if folders and folders.test_a and folders.test_b:
            given.pop("holdout", None)  # of a file of settings, which is for other pictures, too
        named, find = asked.resume is not None, console.find_model
        prepared = session.prepare(RunFolder(path), given, folders, machine, named=named, find=find)
        with _enough_memory(prepared.settings):
            if asked.dry_run:
                _dry_run(prepared, json_line=asked.json)
            elif group.rank == 0:
                _train(prepared, tensorboard=asked.tensorboard, json_line=asked.json)
            else:
                _follow(prepared)


def _pictures_and_run(asked: Asked, stated: Set[str], names: tuple[str, str] | None) -> tuple[Folders | None, Path]:
    """Where the pictures are, fetched if need be, and the run folder."""
    folders = find_folders(asked)
    if "holdout" in stated and folders and folders.test_a and folders.test_b:
        raise UsageError("--holdout contradicts testA and testB", "Leave it out: what is in these is held out.")
    return folders, run_path(asked, folders, names)


def parsed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as users write them in the form that the engine takes.

    Raises:
        UsageError: they contradict each other, or one can't be read.
    """
    if "iterations" in given and "minutes" in given:
        raise UsageError("--iterations and --minutes contradict each other", "Give one of them.")
    if "start_direction" in given and "start" not in given:
        raise UsageError("--from-direction is about the model of --from", "Name one: --from MODEL")
    found = dict(given)
    if "batch_size" in found:
        count = parse_count("--batch-size", found.pop("batch_size"), MOST_BATCH)
        found |= {"batch_size": count} if count else {}
    for name in ("features", "vgg"):
        if name in found:
            found[name] = str(_located(found[name]))
    return found


def device_for(name: str, group: Group) -> torch.device:
    """The device of a name for this process of a group.

    Raises:
        DeviceError: the machine doesn't have it.
    """
    import torch

    from ugatit_cli.device import resolve_device

    device = resolve_device(name)
    if group.size > 1 and device.type != "cpu":  # gloo, which is what there is without CUDA, has no tensors on MPS
        device = torch.device("cuda", group.local_rank) if device.type == "cuda" else torch.device("cpu")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


@contextmanager
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
        if lost and group.rank == 0:
            message = "another process of this run has ended"
            raise TrainingError(message, "The last checkpoint is kept: the same command goes on.") from error
        if group.rank == 0 or not (lost or isinstance(error, UgatitError)):
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


@contextmanager
def _enough_memory(settings: Settings) -> Iterator[None]:
    """Says what to do when memory is used up, and isn't done yet."""
    from ugatit_cli.device import is_out_of_memory

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        ways = [] if settings.checkpointing else ["--save-memory"]
        ways += ["--batch-size 1"] if settings.recipe.batch_size > 1 else []
        ways += ["a smaller --image-size or --channels in a new run"]
        message = "not enough memory to train this model with this batch"
        raise TrainingError(message, f"Use {', or '.join(ways)}.") from error


def _train(prepared: Prepared, *, tensorboard: bool, json_line: bool) -> None:
    from ugatit_cli.cli import train_view

    run, settings = prepared.run, prepared.settings
    before, start = run.latest() or 0, time.monotonic()
    if settings.iterations is None or before < settings.iterations:
        train_view.describe(prepared, before)
    try:
        with (
            signals.interruptible("stopping: finishing this step and saving") as stop,
            closing(TensorBoard(run.path / "tensorboard")) if tensorboard else nullcontext(Listener()) as curves,
            train_view.watching(settings) as view,
        ):
            settings, outcome = prepared.train(Several(curves, view), stop)
    except KeyboardInterrupt:
        raise train_view.stopped_at_once(run) from None
    seconds = time.monotonic() - start
    train_view.finish(run, settings, outcome, outcome.step - before, seconds, json_line=json_line)


def _follow(prepared: Prepared) -> None:
    """What the processes other than the first do, which say nothing."""
    with signals.interruptible(saying="") as stop:
        _, outcome = prepared.train(Listener(), stop)
    if not outcome.finished:
        raise typer.Exit(Interrupted.exit_code)


def _dry_run(prepared: Prepared, *, json_line: bool) -> None:
    from ugatit_cli.cli import train_view

    never = threading.Event()
    if prepared.machine.group.rank != 0:
        prepared.dry_run(Listener(), never)
        return
    with train_view.watching(prepared.settings) as view:
        settings, cost = prepared.dry_run(view, never)
    verbose = voice.current.verbose
    train_view.say_costs(prepared, settings, cost, view.notes, json_line=json_line, verbose=verbose)
