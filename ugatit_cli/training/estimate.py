"""What a run will cost on this machine: its own steps where they are short, else what smaller ones let expect.

On a CPU a step of the default model takes from seconds to a minute. So steps with half the channels and smaller
pictures are tried first, and larger ones only as long as there is time. A step takes a + b s^2 seconds for pictures
with side s (a: the weights, b: their maps), and both grow with the square of the channels.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Final

import torch

from ugatit_cli.data.batches import Batches
from ugatit_cli.data.pictures import Pictures
from ugatit_cli.device import Group, peak_memory
from ugatit_cli.errors import UgatitError
from ugatit_cli.methods.registry import method_of
from ugatit_cli.training.settings import Settings, as_option
from ugatit_cli.training.trainer import Machine, as_input, make_networks

# Seconds after which no further step is tried, if one has been.
BUDGET: Final = 8.0
# A model that is smaller is tried as it is.
SMALL_SIDE, SMALL_CHANNELS = 64, 16
# What a first result needs at most: a size, and minutes of a night.
FIRST: Final = (("image_size", 128), ("channels", 32))
NIGHT: Final = 480
DAYS: Final = 24 * 3600.0


@dataclasses.dataclass(frozen=True)
class Rung:
    """Steps that were tried.

    Attributes:
        thinner: the run's channels divided by these.
        side: of the pictures.
        seconds: of a step.
        memory: bytes in use at most so far.
    """

    thinner: int
    side: int
    seconds: float
    memory: int

    @property
    def size(self) -> float:
        """What time would be proportional to if weights cost nothing."""
        return (self.side / self.thinner) ** 2


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What a few steps took.

    Attributes:
        steps_per_second: of the fastest step after the first, or of as many as differ; an estimate unless `tried`
            ends with what the run is.
        memory_bytes: at most in use: of the GPU, or of this process.
        tried: the steps that it is an estimate of; empty: the run's own.
    """

    generator_parameters: int
    discriminator_parameters: int
    steps_per_second: float
    memory_bytes: int
    tried: tuple[Rung, ...] = ()

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
    start = time.monotonic()
    for thinner, side in _ladder(settings):
        if tried:
            before = tried[-1]
            growth = (side / thinner) ** 2 / before.size
            if time.monotonic() - start + 2 * growth * before.seconds > BUDGET:
                break
        tell(f"trying steps of {side} px, {settings.model.channels // thinner} channels")
        try:
            smaller = _smaller(settings, thinner, side)
            tried.append(Rung(thinner, side, *_steps(smaller, pictures, machine)))
        except (UgatitError, RuntimeError):  # too small for its discriminators
            if (thinner, side) == (1, settings.model.image_size):
                raise
    counts = _parameters(settings)
    last = tried[-1]
    if (last.thinner, last.side) == (1, settings.model.image_size):
        return Measurement(*counts, 1 / last.seconds, last.memory)
    return Measurement(*counts, 1 / _expected(tried, settings), _memory(tried, settings), tuple(tried))


def _ladder(settings: Settings) -> Iterator[tuple[int, int]]:
    """Divisors of the channels, and sides, from the quickest on; the last one is the run's own."""
    side = settings.model.image_size
    if side > SMALL_SIDE and settings.model.channels > SMALL_CHANNELS:
        yield 2, 3 * side // 32 * 4
        yield 2, side // 8 * 4
        yield 2, side
    yield 1, side


def _smaller(settings: Settings, thinner: int, side: int) -> Settings:
    model = settings.model
    names = [name for name in ("channels", "discriminator_channels") if getattr(model, name, None)]
    sizes = {name: getattr(model, name) // thinner for name in names}
    return dataclasses.replace(settings, model=dataclasses.replace(model, image_size=side, **sizes))


def _steps(settings: Settings, pictures: tuple[Pictures, Pictures], machine: Machine) -> tuple[float, int]:
    """Seconds of a step of throw-away networks, and the memory that it took."""
    networks = make_networks(settings, machine.device, None)
    training = method_of(settings.model).step(networks, settings.recipe, seed=settings.seed, group=Group())
    side, seconds = settings.model.image_size, [0.0, 0.0]
    batches = Batches(pictures, seed=settings.seed, batch_size=settings.recipe.batch_size)
    for step in range(2 * training.period):
        a, b = (_resized(one, side, machine.device) for one in batches[step])
        start = time.perf_counter()
        losses = training(a, b, step=step, learning_rate=settings.recipe.learning_rate)
        next(iter(losses.values())).item()  # waits for the device
        seconds[step // training.period] += time.perf_counter() - start
    return min(seconds) / training.period, peak_memory(machine.device)


def _resized(pictures: torch.Tensor, side: int, device: torch.device) -> torch.Tensor:
    x = as_input(pictures, device)
    return x if x.shape[-1] == side else torch.nn.functional.interpolate(x, (side, side), mode="area")


def _expected(tried: list[Rung], settings: Settings) -> float:
    """Seconds of the run's own step."""
    side, last = settings.model.image_size, tried[-1]
    seconds = last.seconds
    if last.side < side:
        before = tried[-2] if len(tried) > 1 else dataclasses.replace(last, side=0, seconds=0.0)
        seconds += _slope(before.seconds, last.seconds, before, last) * (side**2 - last.side**2)
    return seconds * last.thinner**2


def _memory(tried: list[Rung], settings: Settings) -> int:
    side, last = settings.model.image_size, tried[-1]
    before = tried[-2] if len(tried) > 1 else last
    more = _slope(before.memory, last.memory, before, last) * (side**2 - last.side**2)
    return round(last.memory + max(0.0, more))


def _slope(one: float, other: float, before: Rung, last: Rung) -> float:
    """By the pixel, never below 0: a step that was held up must not make larger ones free."""
    pixels = last.side**2 - before.side**2
    return max(0.0, other - one) / pixels if pixels else 0.0


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
    chosen = FIRST if is_new and settings.start is None else ()
    smaller = [as_option(name, value) for name, value in chosen if getattr(settings.model, name) > value]
    return smaller if settings.minutes is not None else [*smaller, f"--minutes {NIGHT}"]
