"""What a GPU makes of it, in a few minutes: translating and training, eager, compiled, with graphs.

    python -m benchmarks.gpu [--device cuda] [--rounds 9] [--batches 1 32] [--methods ugatit munit ...]

The authors' networks with random weights, 256 x 256 pixels. A candidate that fails is shown with its reason, and the
rest goes on: `benchmarks/gpu.sh` runs it, after the tests that need a GPU, on a machine that is there for minutes.
Run from the repository root.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.training import make_recipe, sizes_of
from ugatit_cli.config import PRECISIONS, ModelConfig, Precision
from ugatit_cli.device import DTYPES, Group, describe_device, peak_memory, resolve_device
from ugatit_cli.methods.networks import build_networks, memory_format
from ugatit_cli.methods.registry import METHODS, method
from ugatit_cli.nn.generator import Generator

RESULTS = Path(__file__).parent / "results" / "gpu.json"
WARM_UP = 3

Run = Callable[[], object]


@dataclass
class Figure:
    """What one candidate took: seconds of a picture or of a step (median, fastest, slowest), memory, or why nothing.

    Attributes:
        quality: PSNR against float32 in dB, of translations.
        memory: peak, in bytes.
        made: seconds until it was ready: compiled, recorded.
    """

    what: str
    candidate: str
    seconds: float = math.nan
    fastest: float = math.nan
    slowest: float = math.nan
    memory: int = 0
    made: float = 0.0
    quality: float | None = None
    failed: str | None = None

    def row(self, base: float) -> list[str]:
        """Of the table; `base` is what the first candidate took."""
        if self.failed:
            return [self.what, self.candidate, self.failed[:90], "", "", "", "", ""]
        spread = f"{1000 * self.fastest:.2f} to {1000 * self.slowest:.2f}"
        quality = "" if self.quality is None else f"{self.quality:.0f}"
        times = f"{base / self.seconds:.2f}"
        numbers = [
            f"{1000 * self.seconds:.2f}",
            spread,
            times,
            f"{self.memory / 1e9:.2f}",
            f"{self.made:.1f}",
            quality,
        ]
        return [self.what, self.candidate, *numbers]


def waited(device: torch.device) -> None:
    """Until a GPU has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def measured(
    what: str, candidate: str, make: Callable[[], Run], count: int, device: torch.device, rounds: int
) -> Figure:
    """The figures of what `make` makes, which does `count` things at a call; a failure is one, too."""
    figure = Figure(what, candidate)
    try:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        run = make()
        for _ in range(WARM_UP):
            run()
        waited(device)
        figure.made = time.perf_counter() - start
        times = sorted(_timed(run, device) / count for _ in range(rounds))
        figure.seconds, figure.fastest, figure.slowest = statistics.median(times), times[0], times[-1]
        figure.memory = peak_memory(device)
    except Exception as error:
        traceback.print_exc()
        figure.failed = f"{type(error).__name__}: {error}".partition("\n")[0]
    return figure


def _timed(run: Run, device: torch.device) -> float:
    start = time.perf_counter()
    run()
    waited(device)
    return time.perf_counter() - start


# --- Translating ---------------------------------------------------------------------------------------


def translating(
    batches: Sequence[int], config: ModelConfig, device: torch.device, rounds: int, *, compiled: bool
) -> Iterator[Figure]:
    """Each precision, or bf16 compiled; as many pictures at once as `batches` say."""
    torch.manual_seed(0)
    weights = Generator(config).state_dict()
    ways = {"compiled, graphs": _with_graphs} if compiled else {"eager": _eager, "one graph": _recorded}
    precisions: list[Precision] = (
        ["bf16"] if compiled else ["fp32", "bf16"] if device.type == "cpu" else [*PRECISIONS]
    )
    for batch in batches:
        x = torch.rand(batch, 3, config.image_size, config.image_size, device=device) * 2 - 1
        x = x.contiguous(memory_format=torch.channels_last)
        exact = _generator(config, weights, "fp32", device)(x).image
        for precision, (way, of) in itertools.product(precisions, ways.items()):
            if way == "one graph" and (precision == "fp32" or device.type != "cuda"):
                continue
            seen: list[Tensor] = []
            make = functools.partial(_seen, of, config, weights, precision, x, seen)
            with torch.inference_mode():
                name = f"{batch} at once, {config.image_size} px"
                figure = measured(name, f"{precision} {way}", make, batch, device, rounds)
            if seen and not figure.failed:
                error = float((seen[0].float() - exact).square().mean())
                figure.quality = 10 * math.log10(4 / error) if error else None
            yield figure


def _seen(
    of: Callable[[Generator, Tensor], Run],
    config: ModelConfig,
    weights: dict[str, Tensor],
    precision: Precision,
    x: Tensor,
    seen: list[Tensor],
) -> Run:
    """What is measured, after a first call, whose pictures are told."""
    run = of(_generator(config, weights, precision, x.device), x)
    result: Any = run()
    seen.append(result.image.clone())
    return run


@torch.inference_mode()
def _generator(
    config: ModelConfig, weights: dict[str, Tensor], precision: Precision, device: torch.device
) -> Generator:
    generator = Generator(config).eval().requires_grad_(False)
    generator.load_state_dict(weights)
    return generator.set_precision(DTYPES[precision]).to(device).to(memory_format=torch.channels_last)


def _eager(generator: Generator, x: Tensor) -> Run:
    return lambda: generator(x)


def _with_graphs(generator: Generator, x: Tensor) -> Run:
    made = torch.compile(generator, mode="reduce-overhead")
    return lambda: made(x)


def _recorded(generator: Generator, x: Tensor) -> Run:
    """Without the compiler: the kernels as they are, told to the GPU all at once."""
    cuda: Any = torch.cuda
    side = cuda.Stream()
    side.wait_stream(cuda.current_stream())
    with cuda.stream(side):
        for _ in range(WARM_UP):
            generator(x)
    cuda.current_stream().wait_stream(side)
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        result = generator(x)

    def run() -> object:
        graph.replay()
        return result

    return run


# --- Training ------------------------------------------------------------------------------------------


def training(
    methods: Sequence[str], size: int, channels: int | None, device: torch.device, rounds: int, *, compiled: bool
) -> Iterator[Figure]:
    """A step of each method in both precisions, with the authors' batch; or of the first one in bf16, compiled."""
    for name in methods[:1] if compiled else methods:
        ways: list[tuple[str, Precision, str | None]] = [("fp32", "fp32", None), ("bf16", "bf16", None)]
        if compiled:
            ways = [("bf16 compiled", "bf16", "default"), ("bf16 compiled, graphs", "bf16", "reduce-overhead")]
        for title, precision, mode in ways:
            period = 3 if name == "drit" else 1

            make = functools.partial(_step, name, size, channels, precision, mode, device, period)
            yield measured(f"step of {name}, {size} px", title, make, period, device, rounds)


def _step(
    name: str,
    size: int,
    channels: int | None,
    precision: Precision,
    mode: str | None,
    device: torch.device,
    period: int,
) -> Run:
    recipe, config, of = make_recipe(name, "joint"), sizes_of(name, size, channels), method(name)
    networks = build_networks(
        config, of.translators, of.critics, seed=0, device=device, precision=precision, averaged=recipe.ema > 0
    )
    if mode is not None:
        for network in [*networks.translators.values(), *networks.critics.values()]:
            compiled: Any = network.compile
            compiled(mode=mode)
    step = of.step(networks, recipe, seed=0, group=Group())
    shape = (recipe.batch_size, 3, size, size)
    a, b = ((torch.rand(shape, device=device) * 2 - 1).to(memory_format=memory_format(device)) for _ in "ab")
    numbers = itertools.count()

    def run() -> object:
        for _ in range(period):
            losses = step(a, b, step=next(numbers), learning_rate=recipe.learning_rate)
        return losses

    return run


def main() -> None:
    """Measures, prints as it goes, and writes after each figure: what there is stays, whatever happens."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=150, help="after so many, nothing further begins")
    parser.add_argument("--channels", type=int, help="of the first layer; default: the authors'")
    options = parser.parse_args()
    device = resolve_device(options.device)
    machine = {"device": describe_device(device), "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    config = ModelConfig(channels=options.channels or 64, image_size=options.size)
    figures: list[Figure] = []
    start = time.perf_counter()
    parts = [
        part
        for compiled in (False, True)  # which takes a minute each
        for part in (
            translating(options.batches, config, device, options.rounds, compiled=compiled),
            training(options.methods, options.size, options.channels, device, options.rounds, compiled=compiled),
        )
    ]
    for figure in itertools.chain.from_iterable(parts):
        figures.append(figure)
        print(*figure.row(figure.seconds), sep=" | ", flush=True)
        RESULTS.parent.mkdir(exist_ok=True)
        document = {"machine": machine, "figures": [asdict(one) for one in figures]}
        RESULTS.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        if time.perf_counter() - start > options.seconds:
            break
    _print(figures, machine)


def _print(figures: Sequence[Figure], machine: dict[str, str]) -> None:
    header = ["", "candidate", "ms", "spread", "times as fast", "peak GB", "s until ready", "PSNR dB"]
    table = Table(*header, title=", ".join(machine.values()))
    for _, group in itertools.groupby(sorted(figures, key=lambda one: one.what), lambda one: one.what):
        own = list(group)
        for one in own:
            table.add_row(*one.row(own[0].seconds))
    Console(width=150).print(table)
    Console(width=150).print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
