"""What a run will cost on this machine: its own step where that is short, else what smaller ones let expect.

On a CPU a step of the default model takes from seconds to minutes. It is taken to be a + b p seconds for p pixels (a:
the weights, b: their maps). Two steps with half the channels tell b, which grows with the square of the channels, and
one step with all channels and few pixels tells a.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Final

import torch

from ugatit_cli.data.batches import Batches
from ugatit_cli.data.pictures import Pictures
from ugatit_cli.device import Group, peak_memory
from ugatit_cli.errors import UgatitError
from ugatit_cli.methods.registry import method_of
from ugatit_cli.training.settings import Settings, as_option
from ugatit_cli.training.trainer import Machine, as_input, make_networks

# Seconds that trying may take if the run's own step, too, is to be tried.
BUDGET: Final = 10.0
# A model that is smaller is tried as it is.
SMALL_SIDE, SMALL_CHANNELS = 64, 16
# What a first result needs at most: a size, and minutes of a night.
FIRST: Final = (("image_size", 128), ("channels", 32))
NIGHT: Final = 480


@dataclasses.dataclass(frozen=True)
class Rung:
    """Steps that were tried.

    Attributes:
        thinner: the run's channels divided by these.
        side, batch: of the pictures, and how many.
        seconds: of a step.
        memory: bytes in use at most so far.
    """

    thinner: int
    side: int
    batch: int
    seconds: float = 0.0
    memory: int = 0

    @property
    def pixels(self) -> int:
        """Of a batch."""
        return self.batch * self.side**2


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What a few steps took.

    Attributes:
        steps_per_second: of the fastest step after the first, or of as many as differ; an estimate unless `tried`
            ends with what the run is.
        memory_bytes: at most in use: of the GPU, or of this process.
        tried: the steps that it is an estimate of; empty: the run's own.
        share: of the time in which this process had a processor while it tried; less where others are busy.
    """

    generator_parameters: int
    discriminator_parameters: int
    steps_per_second: float
    memory_bytes: int
    tried: tuple[Rung, ...] = ()
    share: float = 1.0

    @property
    def is_estimate(self) -> bool:
        """Whether the run's own steps would have taken too long to try."""
        return bool(self.tried)


def estimate(
    settings: Settings,
    pictures: tuple[Pictures, Pictures],
    machine: Machine,
    tell: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """What a step will take, found out in about 10 seconds; in a minute where one of the smallest takes so long.

    Args:
        tell: hears what is being tried.
    """
    tried: list[Rung] = []
    start, worked, took = time.monotonic(), 0.0, 0.0

    def step(rung: Rung) -> Rung:
        nonlocal worked, took
        channels = settings.model.channels // rung.thinner
        tell(f"trying a step of {rung.batch} x {rung.side} px, {channels} channels")
        before, since = time.thread_time(), time.monotonic()
        seconds, memory = _step(_smaller(settings, rung), pictures, machine)
        # Of this thread, which always has work to do: that of all would depend on how many there are.
        worked, took = worked + time.thread_time() - before, took + time.monotonic() - since
        tried.append(dataclasses.replace(rung, seconds=seconds, memory=memory))
        return tried[-1]

    whole = Rung(1, settings.model.image_size, settings.recipe.batch_size)
    expected, memory = 0.0, 0
    if whole.side > SMALL_SIDE and settings.model.channels > SMALL_CHANNELS:
        expected, memory = _extrapolated(settings, whole, step)
    counts = _parameters(settings)
    if time.monotonic() - start + expected < BUDGET:
        step(whole)  # the first one takes longer
        best = min(step(whole).seconds, tried[-2].seconds)
        measured = Measurement(*counts, 1 / best, tried[-1].memory)
    else:
        measured = Measurement(*counts, 1 / expected, memory, tuple(tried))
    share = min(1.0, worked / took) if took and machine.device.type == "cpu" else 1.0
    return dataclasses.replace(measured, share=share)


def _extrapolated(settings: Settings, whole: Rung, step: Callable[[Rung], Rung]) -> tuple[float, int]:
    """Seconds and memory of the run's own step."""
    least = min(whole.batch, method_of(settings.model).batch)
    sides = 3 * whole.side // 32 * 4, whole.side // 8 * 4
    try:
        thin = step(Rung(2, sides[0], least))
    except (UgatitError, RuntimeError):  # too small for its discriminators
        sides = whole.side, whole.side
        thin = step(Rung(2, sides[0], least))
    thin = min(thin, step(thin), key=lambda rung: rung.seconds)  # the very first step takes longer
    larger = Rung(2, sides[1], min(whole.batch, 2 * least))
    slope = memory = 0.0
    if larger.pixels > thin.pixels:
        larger = step(larger)
        pixels = larger.pixels - thin.pixels
        slope = 4 * max(0.0, larger.seconds - thin.seconds) / pixels
        memory = 2 * max(0, larger.memory - thin.memory) / pixels
    full = step(Rung(1, sides[0], least))
    more = whole.pixels - full.pixels
    return full.seconds + slope * more, round(full.memory + memory * more)


def _smaller(settings: Settings, rung: Rung) -> Settings:
    model = settings.model
    names = [name for name in ("channels", "discriminator_channels") if getattr(model, name, None)]
    sizes = {name: getattr(model, name) // rung.thinner for name in names}
    recipe = dataclasses.replace(settings.recipe, batch_size=rung.batch)
    return dataclasses.replace(
        settings, model=dataclasses.replace(model, image_size=rung.side, **sizes), recipe=recipe
    )


def _step(settings: Settings, pictures: tuple[Pictures, Pictures], machine: Machine) -> tuple[float, int]:
    """Seconds of a step of throw-away networks, or the mean of those that differ, and the memory that it took."""
    networks = make_networks(settings, machine.device, None)
    training = method_of(settings.model).step(networks, settings.recipe, seed=settings.seed, group=Group())
    side, seconds = settings.model.image_size, 0.0
    batches = Batches(pictures, seed=settings.seed, batch_size=settings.recipe.batch_size)
    for step in range(training.period):
        a, b = (_resized(one, side, machine.device) for one in batches[step])
        start = time.perf_counter()
        losses = training(a, b, step=step, learning_rate=settings.recipe.learning_rate)
        next(iter(losses.values())).item()  # waits for the device
        seconds += time.perf_counter() - start
    return seconds / training.period, peak_memory(machine.device)


def _resized(pictures: torch.Tensor, side: int, device: torch.device) -> torch.Tensor:
    x = as_input(pictures, device)
    return x if x.shape[-1] == side else torch.nn.functional.interpolate(x, (side, side), mode="area")


def _parameters(settings: Settings) -> tuple[int, int]:
    """Of what translates, and of the discriminators."""
    method = method_of(settings.model)
    with torch.device("meta"):
        both = method.translators(settings.model), method.critics(settings.model)
    counts = [sum(weight.numel() for network in of.values() for weight in network.parameters()) for of in both]
    return counts[0], counts[1]


def first_result(settings: Settings, *, is_new: bool) -> list[str]:
    """Options of a training that is quicker, without those that are as quick already.

    Args:
        is_new: whether its size may still be chosen: a run that goes on, and what starts from a model, keep theirs.
    """
    smaller = [as_option(name, value) for name, value in _first_sizes(settings, is_new=is_new).items()]
    return smaller if settings.minutes is not None else [*smaller, f"--minutes {NIGHT}"]


def first_steps(settings: Settings, cost: Measurement, *, is_new: bool) -> int:
    """About how many steps such a training makes."""
    model, batch, sizes = settings.model, settings.recipe.batch_size, _first_sizes(settings, is_new=is_new)
    whole, pixels = batch * model.image_size**2, batch * sizes.get("image_size", model.image_size) ** 2
    small = [(rung.pixels, rung.seconds) for rung in cost.tried if rung.thinner == 1]
    (least, fewest), most = small[-1] if small else (0, 0.0), 1 / cost.steps_per_second
    share = max(0.0, pixels - least) / (whole - least) if whole > least else 1.0
    seconds = fewest + share * (most - fewest)
    thinner = sizes.get("channels", model.channels) / model.channels
    return round(60 * (settings.minutes or NIGHT) / (seconds * thinner**2))


def _first_sizes(settings: Settings, *, is_new: bool) -> dict[str, int]:
    chosen = FIRST if is_new and settings.start is None else ()
    return {name: value for name, value in chosen if getattr(settings.model, name) > value}
