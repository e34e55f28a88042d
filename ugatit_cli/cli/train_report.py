"""What `ugatit train` says before and after: what is trained and how, what became of it, what it would cost."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ugatit_cli.cli import console, watch
from ugatit_cli.errors import Interrupted

if TYPE_CHECKING:
    from ugatit_cli.run_folder import RunFolder
    from ugatit_cli.training.measure import Measurement
    from ugatit_cli.training.settings import Settings
    from ugatit_cli.training.trainer import Machine, Outcome

# What a line of metrics says beside losses.
OTHER_METRICS = ("step", "elapsed", "learning_rate", "images_per_second")


def describe(settings: Settings, run: RunFolder, machine: Machine, step: int) -> None:
    """Says what is going to be trained, how, and where to."""
    from ugatit_cli.device import describe_device

    model, group = settings.model, machine.group
    length = (
        _count(settings.iterations, "step") if settings.iterations else f"{watch.figure(settings.minutes or 0)} min"
    )
    processes = f"{group.size} processes, " if group.size > 1 else ""
    console.note(
        f"{model.domain_a} <-> {model.domain_b}: {model.variant}, {_count(model.channels, 'channel')}, "
        f"{_count(model.blocks, 'block')}, {model.image_size} px"
    )
    console.note(f"{settings.recipe.name} recipe, batch size {settings.recipe.batch_size}, {length}")
    console.note(f"{processes}device {describe_device(machine.device)}, precision {settings.precision}")
    if step:
        console.note(f"{run.path}: goes on at step {step}")
    elif settings.start:
        way = " (its b2a is our a2b)" if settings.start_direction == "b2a" else ""
        console.note(f"{run.path}: starts from the model {settings.start}{way}")
    else:
        console.note(f"{run.path}: a new run")


def finish(
    run: RunFolder, settings: Settings, outcome: Outcome, done: int, seconds: float, *, json_line: bool
) -> None:
    """What became of it: words on stderr, the run on stdout."""
    name = shlex.quote(str(run.path))
    if outcome.finished and not done:
        more = f"--iterations {2 * outcome.step}"
        if settings.minutes is not None:
            more = f"--minutes {watch.figure(2 * settings.minutes)}"
        console.note(f"{run.path}: complete after {_count(outcome.step, 'step')}")
        console.note(f"to train on: ugatit train --resume {name} {more}")
    else:
        console.note(f"{_count(done, 'step')} in {watch.duration(seconds)}, {outcome.step} in all")
    console.note(f"samples: {run.path / 'samples'}, model: {run.model}")
    if outcome.finished:
        console.note(f"translate with: ugatit translate PICTURES --model {name} -o out/")
    _say_best(run, settings)
    console.result(json.dumps(_result(run, outcome)) if json_line else str(run.path))
    if not outcome.finished:
        raise Interrupted(
            f"interrupted after step {outcome.step}; everything is saved in {run.path}",
            f"Go on with the same command, or: ugatit train --resume {name}",
        )


def _say_best(run: RunFolder, settings: Settings) -> None:
    from ugatit_cli.training.evaluation import best_of

    best = best_of(run)
    if best is None:
        return
    names = watch.ways(settings.model)
    kids = ", ".join(f"{names[way]} {100 * kid:.2f}" for way, kid in best.kid.items())
    console.note(f"best of the evaluated models: step {best.step} ({best.generators}), KID x100 {kids}")
    console.note(f"use it with: ugatit translate PICTURES --model {shlex.quote(str(run.best))} -o out/")


def stopped_at_once(run: RunFolder) -> Interrupted:
    """What to say after a second Ctrl-C."""
    step = run.latest()
    kept = f"the last checkpoint is that of step {step}" if step else "there is no checkpoint yet"
    return Interrupted(
        f"stopped at once; {kept}",
        f"Go on with the same command, or: ugatit train --resume {shlex.quote(str(run.path))}" if step else "",
    )


def _result(run: RunFolder, outcome: Outcome) -> dict[str, Any]:
    from ugatit_cli.training.evaluation import best_of

    trained: dict[str, Any] = {}
    evaluated: dict[str, Any] = {}
    for line in run.metrics():
        if "kid" in line:
            evaluated = line
        else:
            trained = line
    result = {
        "run": str(run.path),
        "model": str(run.model),
        "step": outcome.step,
        "finished": outcome.finished,
        "losses": {name: value for name, value in trained.items() if name not in OTHER_METRICS},
    }
    if evaluated:
        result["evaluation"] = {name: value for name, value in evaluated.items() if name != "elapsed"}
    best = best_of(run)
    if best is not None:
        result["best"] = {
            "model": str(run.best),
            "step": best.step,
            "generators": best.generators,
            "kid": best.kid,
            **best.protocol,
        }
    return result


def say_costs(settings: Settings, cost: Measurement, pictures: list[str], step: int, *, json_line: bool) -> None:
    """A dry run's result on stdout: the settings as in `config.toml`, and what they cost.

    Args:
        pictures: what there is to say about them.
        step: number of steps that the run has done.
    """
    document = {
        name: {key: value for key, value in table.items() if value is not None}
        for name, table in settings.to_document().items()
    }
    left = None if settings.iterations is None else max(0, settings.iterations - step)
    if json_line:
        console.result(json.dumps({**document, "pictures": pictures, "estimate": _estimate(cost, left)}))
        return
    import tomli_w

    console.result(tomli_w.dumps(document).rstrip() + "\n")
    for text in _estimate_lines(settings, cost, left):
        console.result(f"# {text}")


def _estimate(cost: Measurement, left: int | None) -> dict[str, Any]:
    return {
        "generator_parameters": cost.generator_parameters,
        "discriminator_parameters": cost.discriminator_parameters,
        "steps_per_second": cost.steps_per_second,
        "memory_bytes": cost.memory,
        "steps_left": left,
        "seconds_left": None if left is None else left / cost.steps_per_second,
    }


def _estimate_lines(settings: Settings, cost: Measurement, left: int | None) -> Iterator[str]:
    yield (
        f"parameters: {watch.figure(cost.generator_parameters / 1e6)} million in both generators, "
        f"{watch.figure(cost.discriminator_parameters / 1e6)} million in the discriminators"
    )
    yield f"memory: {watch.amount(cost.memory)}"
    yield f"speed: {watch.pace(cost.steps_per_second)}"
    if left is None:
        steps = 60 * (settings.minutes or 0) * cost.steps_per_second
        yield f"time: {watch.figure(settings.minutes or 0)} min, about {round(steps)} steps"
    else:
        besides = ", evaluations not included" if settings.evaluates else ""
        yield f"time: about {watch.duration(left / cost.steps_per_second)} for {left} steps{besides}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
