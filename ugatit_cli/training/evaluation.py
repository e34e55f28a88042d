"""How good a run's generators are: KID on its hold-out, the curve of it, and the best model so far.

The best model is that of the lowest KID, the mean of both directions, whichever way the training went afterwards: one
of a step that a kill undid stays until a better one comes. An uninterrupted run ends with the same one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Final, Literal

import torch
from torch import Tensor

from ugatit_cli.config import DOMAINS, BaseConfig, Direction, Domain
from ugatit_cli.data.batches import sample_pictures
from ugatit_cli.data.pictures import Pictures, digest
from ugatit_cli.errors import ConfigError, ModelError, TrainingError, UsageError
from ugatit_cli.fields import fitting
from ugatit_cli.methods.base import SOURCE, TARGET
from ugatit_cli.methods.networks import Networks, tensors_of
from ugatit_cli.methods.registry import method_of
from ugatit_cli.metrics.distances import Kid, Subsets, Verdict, kid, verdict
from ugatit_cli.metrics.features import BUNDLED_NAME, Extractor, load_extractor
from ugatit_cli.nn.layers import Network, evaluating
from ugatit_cli.training import checkpoint
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import Settings
from ugatit_cli.weights.folder import CONFIG_FILE, read_config

Kind = Literal["moving average", "current"]
Kids = Mapping[Direction, Kid]
# Takes numbers of pictures: those that are done, and all of an evaluation.
Tick = Callable[[int, int], None]

# Held-out pictures of a domain that KID needs, and below which its figures are rough.
FEWEST, ROUGH = 4, 50
# Pictures between two looks at whether to go on.
BATCH: Final = 8
# Of a domain's held-out pictures: more are read again each time.
KEPT_BYTES: Final = 2**28
# What makes figures comparable, in lines of metrics and in the provenance of the best model.
PROTOCOL: Final = ("extractor", "subsets", "held-out pictures")


class Abandoned(Exception):  # never seen by users
    """An evaluation was given up: nothing of it is kept."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        kids: KID of both directions, of each kind of generators; those that `model` has come first.
        best: whether it is the best so far.
        protocol: how it was measured; figures of different ones don't compare.
        untouched: KID of the source pictures as they are, each way.
    """

    step: int
    kids: Mapping[Kind, Kids]
    best: bool
    seconds: float
    protocol: Mapping[str, str]
    untouched: Kids = field(default_factory=dict)

    @property
    def winner(self) -> Kind:
        """The kind whose KID is lower."""
        return min(self.kids, key=lambda kind: mean_kid(self.kids[kind]))


@dataclass(frozen=True)
class Best:
    """What the provenance of a run's best model says; the KIDs of both directions are not times 100.

    Attributes:
        untouched: KIDs of the source pictures as they are; none in runs of earlier versions.
        against_untouched: whether the model is better than these.
    """

    step: int
    generators: str
    kid: Mapping[Direction, float]
    protocol: Mapping[str, str]
    untouched: Mapping[Direction, float] = field(default_factory=dict)
    against_untouched: Mapping[Direction, Verdict] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Of both directions."""
        return sum(self.kid.values()) / len(self.kid)


def mean_kid(kids: Kids) -> float:
    """The mean of both directions."""
    return sum(one.mean for one in kids.values()) / len(kids)


def extractor_for(
    settings: Settings, device: torch.device, run: RunFolder, tell: Callable[[str], object]
) -> Extractor:
    """The extractor of a run that evaluates; where the settings leave it open, the one that its best model has.

    Raises:
        UsageError: the extra isn't installed, or there is no such layer.
        ModelError: the file is missing or another one, or the standard network can't be downloaded.
    """
    file = Path(settings.features) if settings.features is not None else None
    choice, best = settings.extractor, best_of(run)
    if choice == "auto" and file is None and best is not None:  # whose figures those of another don't compare with
        choice = "bundled" if best.protocol["extractor"] == BUNDLED_NAME else "inception"
    return load_extractor(file, settings.feature_layer, device=device, choice=choice, tell=tell)


def check_holdout(pictures: tuple[Pictures, Pictures], settings: Settings) -> str | None:
    """Whether there are enough held-out pictures to evaluate on; what users should know about their number.

    Raises:
        UsageError: too few of a domain.
    """
    counts, tests = _counts(pictures, settings.model), (settings.folders.test_a, settings.folders.test_b)
    name, more = min(counts, key=lambda name: counts[name]), _test_folders(settings)
    if counts[name] < FEWEST:
        split = _holdout_advice(pictures) if None in tests else None  # which contradicts two folders
        ways = [f"put more pictures into {more}"] if more else []
        ways += [f"begin a run with {split}"] if split else []
        if not ways:
            ways = ["these sets are too small for a KID that means anything: collect more pictures"]
        hint = f"{' and '.join(ways)}, or train without evaluation: --evaluate-every off"
        raise UsageError(
            f"--evaluate-every needs {FEWEST} held-out pictures of each domain at least, better {ROUGH}: {name} has "
            f"{counts[name] or 'none'}",
            hint[0].upper() + hint[1:],
        )
    return rough_holdout(pictures, settings)


def too_few_held_out(pictures: tuple[Pictures, Pictures], settings: Settings) -> str | None:
    """What `ugatit evaluate` would say once a run is over that begins now; None: it can, or nobody wants it to."""
    counts = _counts(pictures, settings.model)
    name = min(counts, key=lambda name: counts[name])
    if counts[name] >= FEWEST or not settings.kept_back.amount:
        return None
    more, advice = _test_folders(settings), _holdout_advice(pictures)
    way = f"put more into {more}" if more else f"begin with {advice}" if advice else "give it others (--domain-a DIR)"
    least = f"{FEWEST} at least, better {ROUGH}"
    return f"{name}: too few are held out for ugatit evaluate -m RUN, which needs {least}: {way}"


def rough_holdout(pictures: tuple[Pictures, Pictures], settings: Settings) -> str | None:
    """What users should know about the number of held-out pictures, if it is small."""
    fewest = min(_counts(pictures, settings.model).values())
    more = _test_folders(settings)
    if fewest < ROUGH:
        rough, advice = f"KID of {fewest} held-out pictures is a rough figure", _holdout_advice(pictures)
        if more:
            return f"{rough}: {ROUGH} or more in {more} are better"
        if advice == f"--holdout {ROUGH}":
            return f"{rough}: {advice} or more is better"
        return f"{rough}, and these sets are too small to hold out the {ROUGH} that it needs: judge by the samples"
    return None


def _test_folders(settings: Settings) -> str:
    tests = (settings.folders.test_a, settings.folders.test_b)
    return " and ".join(str(folder) for folder in tests if folder is not None)


def _holdout_advice(pictures: tuple[Pictures, Pictures]) -> str | None:
    """As many pictures as KID wants, but no more than a tenth of a set; None: that is too few."""
    tenth = min(len(one.files) + len(one.held_out) for one in pictures) // 10
    return f"--holdout {min(tenth, ROUGH)}" if tenth >= FEWEST else None


def _counts(pictures: tuple[Pictures, Pictures], config: BaseConfig) -> dict[str, int]:
    names = (config.domain_a, config.domain_b)
    return {name: len(one.held_out) for name, one in zip(names, pictures, strict=True)}


def holdout_fingerprint(pictures: tuple[Pictures, Pictures]) -> str:
    """8 hex digits that change when held-out pictures do, by their names and sizes on disk, not when folders move."""

    def size(path: Path) -> int:
        try:
            return path.stat().st_size
        except OSError:
            return -1  # gone, which is reported when it is read

    sets = [[one.domain, [(path.name, size(path)) for path in one.held_out]] for one in pictures]
    return digest(json.dumps(sets))[:8]


class Evaluator:
    """Evaluates a run's generators and keeps the best; leaves training as it is: weights, modes, random numbers.

    Args:
        pictures: of both domains; each needs held-out ones, see `check_holdout`.
        extractor: makes features of them.
    """

    def __init__(
        self, run: RunFolder, settings: Settings, pictures: tuple[Pictures, Pictures], extractor: Extractor
    ) -> None:
        self.run = run
        self.settings = settings
        self.pictures = pictures
        self.extractor = extractor
        self._held_out: dict[Domain, _HeldOut] = {one.domain: _HeldOut(one) for one in pictures}
        self._real: dict[Domain, Tensor] = {}
        self._untouched: Kids = {}
        held_out = _counts(pictures, settings.model)
        counts = ", ".join(f"{count:,} {name}" for name, count in held_out.items())
        subsets = f"{Subsets().count} of {Subsets().size_for(*held_out.values())} pictures"
        values = (extractor.name, subsets, f"{counts} ({holdout_fingerprint(pictures)})")
        self.protocol = dict(zip(PROTOCOL, values, strict=True))

    @property
    def starts_anew(self) -> bool:
        """Whether there is a best model that was measured in another way, and will be replaced."""
        best = best_of(self.run)
        return best is not None and best.protocol != self.protocol

    def __call__(self, networks: Networks, step: int, elapsed: float, tick: Tick = lambda *_: None) -> Evaluation:
        """Evaluates the generators, notes it in the run's metrics, and keeps the model if it is the best so far.

        Args:
            tick: called before each batch of pictures; what it raises ends the evaluation.

        Raises:
            DataError: a picture can't be read any more.
            TrainingError: a translation isn't finite.
            OutputError: the run folder can't be written.
        """
        start = time.monotonic()
        kids = self._kids(networks, step, self._advance(tick))
        best, seconds = self._is_best(step, kids), time.monotonic() - start
        evaluation = Evaluation(step, kids, best, seconds, self.protocol, self._untouched)
        if evaluation.best:
            self._keep(networks, evaluation)
        figures: dict[str, object] = {}
        for prefix, of in zip(("kid", "kid_current"), kids.values(), strict=False):
            figures |= _figures(prefix, of)
        figures |= _figures("kid_untouched", self._untouched)
        self.run.append_metrics({"step": step, "elapsed": elapsed, **figures, **self.protocol})
        return evaluation

    def _advance(self, tick: Tick) -> Callable[[Tensor], None]:
        """Counts batches that are about to be looked at, and tells how far the evaluation is."""
        done = 0
        ways = self.settings.model.directions
        looks = [SOURCE[way] for way in ways] + [domain for domain in DOMAINS if domain not in self._real]
        total = sum(len(self._held_out[domain].files) for domain in looks)

        def advance(batch: Tensor) -> None:
            nonlocal done
            tick(done, total)
            done += len(batch)

        return advance

    @torch.no_grad()
    def _kids(self, networks: Networks, step: int, advance: Callable[[Tensor], None]) -> dict[Kind, Kids]:
        kinds: dict[Kind, dict[str, Network]] = {"current": networks.translators}
        if networks.averages:
            kinds = {"moving average": networks.averages, **kinds}
        kids: dict[Kind, dict[Direction, Kid]] = {kind: {} for kind in kinds}
        device = self.extractor.device
        method = method_of(networks.config)
        for direction in networks.config.directions:
            generators = [method.translator(by_name, direction) for by_name in kinds.values()]
            ways = [partial(_translate, generator, device=device, step=step) for generator in generators]
            with evaluating(generators):
                translated = self._features(SOURCE[direction], ways, advance)
            real = self._features_of_real(TARGET[direction], advance)
            for kind, features in zip(kinds, translated, strict=True):
                kids[kind][direction] = kid(features, real)
        if not self._untouched:
            real_of = {domain: self._features_of_real(domain, advance) for domain in DOMAINS}
            self._untouched = {
                way: kid(real_of[SOURCE[way]], real_of[TARGET[way]]) for way in networks.config.directions
            }
        return dict(kids)

    def _features_of_real(self, domain: Domain, advance: Callable[[Tensor], None]) -> Tensor:
        """Of a domain's held-out pictures, always the same: float64 (N, D)."""
        if domain not in self._real:
            (self._real[domain],) = self._features(domain, [lambda pictures: pictures], advance)
        return self._real[domain]

    def _features(
        self, domain: Domain, ways: Sequence[Callable[[Tensor], Tensor]], advance: Callable[[Tensor], None]
    ) -> list[Tensor]:
        """Of a domain's held-out pictures, each changed in some ways: float64 (N, D) of each way."""
        parts: list[list[Tensor]] = [[] for _ in ways]
        for batch in self._held_out[domain].batches():
            advance(batch)
            for part, way in zip(parts, ways, strict=True):
                part.append(self.extractor(way(batch)))
        return [torch.cat(part) for part in parts]

    def _is_best(self, step: int, kids: Mapping[Kind, Kids]) -> bool:
        best, mean = best_of(self.run), min(map(mean_kid, kids.values()))
        if best is None or best.protocol != self.protocol:
            return True
        return mean < best.mean or (step, mean) == (best.step, best.mean)  # the same again, after a kill

    def _keep(self, networks: Networks, evaluation: Evaluation) -> None:
        winner = evaluation.winner
        provenance = checkpoint.provenance(self.settings, evaluation.step, self.pictures) | {
            "generators": winner,
            **_figures("kid", evaluation.kids[winner]),
            **_figures("kid_untouched", evaluation.untouched),
            **self.protocol,
        }
        translators = networks.averages if winner == "moving average" else networks.translators
        tensors = tensors_of(translators), tensors_of(networks.critics)
        self.run.write_model(self.settings.model, *tensors, provenance, best=True)


class _HeldOut:
    """The held-out pictures of a domain as the network takes them: the middle of each at the training size."""

    def __init__(self, pictures: Pictures) -> None:
        self.files = pictures.held_out
        self._pictures = pictures
        fit = 3 * pictures.preparation.image_size**2 * len(self.files) <= KEPT_BYTES
        self._picture = cache(self._read) if fit else self._read

    def batches(self) -> Iterator[Tensor]:
        """All of them in their order: uint8 (N, 3, S, S), N up to 8."""
        for first in range(0, len(self.files), BATCH):
            yield torch.cat([self._picture(path) for path in self.files[first : first + BATCH]])

    def _read(self, path: Path) -> Tensor:
        return sample_pictures(replace(self._pictures, held_out=(path,)), 1, seed=0)


def _translate(generator: Network, pictures: Tensor, device: torch.device, step: int) -> Tensor:
    """Pictures through a generator one at a time, as `ugatit translate` writes them: uint8 (N, 3, H, W) to the same.

    Raises:
        TrainingError: a translation isn't finite.
    """
    translated = []
    for picture in torch.split(pictures, 1):
        image = generator(picture.to(device).float().div_(127.5).sub_(1)).image
        pixels = image.float().add(1).mul_(127.5).round_().clamp_(0, 255)
        if not pixels.isfinite().all():
            raise TrainingError(f"step {step}: a translation is not finite", checkpoint.WAY_OUT)
        translated.append(pixels.to(torch.uint8))
    return torch.cat(translated)


def _figures(prefix: str, kids: Kids) -> dict[str, dict[Direction, float]]:
    return {
        prefix: {direction: one.mean for direction, one in kids.items()},
        f"{prefix}_std": {direction: one.std for direction, one in kids.items()},
    }


def is_evaluated(run: RunFolder, step: int, protocol: Mapping[str, str]) -> bool:
    """Whether the run's metrics have an evaluation of a step, measured as the protocol, or part of one, says."""
    wanted = {"step": step, **protocol}.items()
    return any("kid" in line and all(line.get(name) == value for name, value in wanted) for line in run.metrics())


def best_of(run: RunFolder) -> Best | None:
    """The best model of a run; None if there is none, or one whose provenance doesn't say what it should."""
    try:
        config, said = read_config(run.best / CONFIG_FILE)
        step, found = fitting("steps", said.get("steps"), int), fitting("kid", said.get("kid"), Mapping[str, float])
        kids = {direction: found[direction] for direction in config.directions}
    except (ModelError, ConfigError, KeyError):
        return None
    if not all(map(math.isfinite, kids.values())):
        return None
    protocol = {name: str(said.get(name)) for name in PROTOCOL}
    return Best(step, str(said.get("generators")), kids, protocol, *_against_untouched(said, kids))


def _against_untouched(
    said: Mapping[str, object], kids: Mapping[Direction, float]
) -> tuple[Mapping[Direction, float], Mapping[Direction, Verdict]]:
    """KIDs of untouched pictures, and whether the model's are lower; nothing where a provenance doesn't say it."""
    names = ("kid_std", "kid_untouched", "kid_untouched_std")
    try:
        stds, untouched, others = (fitting(name, said.get(name), Mapping[str, float]) for name in names)
        verdicts = {way: verdict(kids[way], stds[way], untouched[way], others[way]) for way in kids}
    except (ConfigError, KeyError):
        return {}, {}
    return {way: untouched[way] for way in kids}, verdicts
