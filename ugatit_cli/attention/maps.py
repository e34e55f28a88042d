"""Where the networks look: the CAM heatmaps of generator and discriminators (paper section 2.1, figure 2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from ugatit_cli.arguments import checked
from ugatit_cli.config import MAPS, SCALES, BaseConfig, Direction, MapName, ModelConfig
from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.fields import Range
from ugatit_cli.pictures import colormaps
from ugatit_cli.pictures.geometry import MAX_SIDE, MULTIPLE, Geometry, Size, corner

Upsampling = Literal["bilinear", "bicubic"]
UPSAMPLINGS: tuple[Upsampling, ...] = get_args(Upsampling)

Floats = npt.NDArray[np.float32]

# The cubic of PyTorch's and most libraries' "bicubic".
CUBIC = -0.75


@dataclass(frozen=True)
class Grid:
    """Where the cells of a feature map lie along a side of the network's input, in pixels.

    Attributes:
        stride: from one cell's centre to the next.
        first: from the picture's edge to the centre of the first cell.
    """

    stride: int
    first: float

    def centres(self, cells: int) -> Floats:
        """(cells,) in pixels from the edge."""
        return np.asarray(self.first + self.stride * np.arange(cells), np.float32)


def sample(values: Floats, grid: Grid, rows: Floats, columns: Floats, method: Upsampling = "bilinear") -> Floats:
    """What a feature map says at points that lie on rows and columns.

    Beyond the outermost cells' centres it goes on as it is there.

    Args:
        values: float32 (h, w).
        rows, columns: positions (H,) and (W,) in pixels from the edges of the network's input.

    Returns:
        float32 (H, W).

    Raises:
        UsageError: no such method.
    """
    halfway = _mixed(values, *_taps(rows, values.shape[0], grid, method))  # (H, w)
    return _mixed(halfway.T, *_taps(columns, values.shape[1], grid, method)).T


def _mixed(values: Floats, indices: npt.NDArray[np.intp], weights: Floats) -> Floats:
    """Sums of rows of `values`."""
    result: Floats = weights[:, :1] * values[indices[:, 0]]
    for k in range(1, weights.shape[1]):
        result += weights[:, k : k + 1] * values[indices[:, k]]
    return result


def _taps(positions: Floats, cells: int, grid: Grid, method: Upsampling) -> tuple[npt.NDArray[np.intp], Floats]:
    """The cells that each position takes its value from, and how much of each: both (positions, 2 or 4)."""
    place = (positions - grid.first) / grid.stride
    left = np.floor(place)
    share = (place - left).astype(np.float32)
    if method == "bilinear":
        offsets, weights = np.array([0, 1]), np.stack([1 - share, share], 1)
    elif method == "bicubic":
        offsets, weights = np.array([-1, 0, 1, 2]), _cubic(share)
    else:
        raise UsageError(f"no up-sampling {method!r}", f"Use {' or '.join(UPSAMPLINGS)}.")
    indices = np.clip(left.astype(np.intp)[:, None] + offsets, 0, cells - 1)
    return indices, weights


def _cubic(share: npt.NDArray[Any]) -> Floats:
    """Weights (n, 4) of the cells around a place (Keys 1981)."""
    near, far = np.stack([share, 1 - share], 1), np.stack([1 + share, 2 - share], 1)
    inner = ((CUBIC + 2) * near - (CUBIC + 3)) * near * near + 1
    outer = ((CUBIC * far - 5 * CUBIC) * far + 8 * CUBIC) * far - 4 * CUBIC
    return np.stack([outer[:, 0], inner[:, 0], inner[:, 1], outer[:, 1]], 1)


# Norms keep features around 1; what differs by less than this share of it is the same.
ROUNDING: Final = 1e-6

Span = tuple[float, float]
Logits = tuple[float, float]

_TRAIN: Final = (
    "`ugatit train` makes models that have them (`--from MODEL` starts from this one's generators), "
    "and `ugatit convert` keeps those of a checkpoint."
)


# Of a picture that is wanted.
_Sides = Annotated[Size, Range(1, MAX_SIDE)]


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """Attention of one network on one picture, as the network returns it.

    The generator looks at the input, the discriminators look at the translation. AGGAN's is a mask: 0 where the
    picture stays as it is, 1 where it is replaced; its scale is always from 0 to 1.

    Attributes:
        name: `generator`, `local` or `global` (discriminator).
        values: float32 (h, w), unnormalised: the sum over channels of the features that the CAM weights (figure 2).
            A generator has a cell for 4 x 4 pixels and its values are >= 0; a discriminator of n layers has one for
            2**(n - 2) pixels squared.
        logits: of the CAM classifiers, average pooling first, maximum pooling second; None: the map is a mask.
        grid: where the cells lie in the network's input.
        geometry: how the picture lies in the network's input.
    """

    name: MapName
    values: Floats
    logits: Logits | None
    grid: Grid
    geometry: Geometry

    @cached_property
    def span(self) -> Span:
        """The lowest and the highest value in the picture; what lies in its padding doesn't count."""
        left, top = corner(self.geometry)
        columns = self._within(self.values.shape[1], left, self.geometry.scaled[0])
        rows = self._within(self.values.shape[0], top, self.geometry.scaled[1])
        inside = self.values[np.ix_(rows, columns)]
        inside = inside if inside.size else self.values
        return float(inside.min()), float(inside.max())

    def _within(self, cells: int, start: int, length: int) -> npt.NDArray[np.bool_]:
        """Which cells overlap the picture."""
        centres, half = self.grid.centres(cells), self.grid.stride / 2
        return np.asarray((centres + half > start) & (centres - half < start + length))

    @property
    def flat(self) -> bool:
        """Whether there is nothing to see: the same value everywhere but for rounding, or one that isn't finite.

        A mask may be the same everywhere.
        """
        return not (_usable(self.span) if self.logits else math.isfinite(sum(self.span)))

    @property
    def probabilities(self) -> tuple[float, float] | None:
        """What the CAM classifiers say of the picture, in [0, 1], average pooling first; None of a mask.

        The generator's: that it comes from the source domain; the logits' sigmoid, as their loss is the binary
        cross-entropy. A discriminator's: that it is no translation; the logits themselves within [0, 1], as their
        loss is the squared distance to 0 and 1, which is least at the probability (section 2.2, CAM loss).
        """
        if self.logits is None:
            return None
        first, second = (_sigmoid(x) if self.name == "generator" else min(1.0, max(0.0, x)) for x in self.logits)
        return first, second

    @checked
    def normalised(self, span: Span | None = None) -> Floats:
        """Attention in [0, 1]: (h, w) float32, (value - low) / (high - low) as in the official code.

        Args:
            span: low and high; None: the map's own `span`. A flat map, or span, is all zeros. Of a mask it is 0
                and 1 in any case.
        """
        low, high = (span or self.span) if self.logits else (0.0, 1.0)
        if self.flat or not _usable((low, high)):
            return np.zeros_like(self.values)
        return _floats(np.clip((self.values - np.float32(low)) / np.float32(high - low), 0, 1))

    @checked
    def over_picture(
        self, size: _Sides | None = None, *, span: Span | None = None, upsampling: Upsampling = "bilinear"
    ) -> Floats:
        """Attention for every pixel of the picture: (height, width) float32 in [0, 1].

        Each cell lies where the network saw it; what was only padding is cut off.

        Args:
            size: (width, height); None: that of the result.
            span: as in `normalised`.
            upsampling: `bilinear` or `bicubic`.

        Raises:
            UsageError: no such up-sampling.
        """
        size = size or self.geometry.output
        left, top = corner(self.geometry)
        columns = left + (np.arange(size[0]) + 0.5) * (self.geometry.scaled[0] / size[0])
        rows = top + (np.arange(size[1]) + 0.5) * (self.geometry.scaled[1] / size[1])
        heat = sample(self.normalised(span), self.grid, _floats(rows), _floats(columns), upsampling)
        return np.clip(heat, 0, 1)  # cubics overshoot


Maps = Mapping[MapName, AttentionMap]


def _usable(span: Span) -> bool:
    """Whether there is more between low and high than rounding leaves of the features of a one-coloured picture."""
    low, high = span
    return math.isfinite(high - low) and high - low > ROUNDING * max(1.0, abs(low), abs(high))


def _floats(values: npt.NDArray[Any]) -> Floats:
    return np.asarray(values, np.float32)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


# --- One scale for several pictures


class Spans(dict[MapName, Span]):
    """The lowest and the highest value of each map over all pictures: with one scale, pictures compare."""

    @classmethod
    def of(cls, several: Iterable[Maps]) -> Spans:
        """Those of several pictures."""
        spans = cls()
        for maps in several:
            spans.add(maps)
        return spans

    def add(self, maps: Maps) -> None:
        """Takes a picture's maps into account; flat ones only where they are finite."""
        for name, one in maps.items():
            low, high = one.span
            if math.isfinite(low) and math.isfinite(high):
                before = self.get(name, (low, high))
                self[name] = min(low, before[0]), max(high, before[1])


# --- Which maps a model has


def grid_of(config: BaseConfig, name: MapName) -> Grid:
    """Where a map's cells lie in the network's input.

    A generator's feature map covers the picture, as its decoder takes it; its encoder looks 1.5 pixels further to the
    left and above. A discriminator's strided layers halve the picture evenly; its last layer, 4 x 4 with stride 1,
    sees half a cell more to the right and below.
    """
    if name == "generator":
        return Grid(MULTIPLE, MULTIPLE / 2)
    assert isinstance(config, ModelConfig)  # no other networks have such maps
    stride: int = 2 ** (config.layers(name) - 2)
    return Grid(stride, stride)


def cells_of(config: BaseConfig, name: MapName, side: int) -> int:
    """How many cells a map has along a side of the network's input, in pixels.

    A discriminator's last layer makes one of the strided layers' cells vanish; the TensorFlow code pads for it.
    """
    cells = side // grid_of(config, name).stride
    padded = not isinstance(config, ModelConfig) or config.dialect == "tensorflow"
    return cells if name == "generator" or padded else cells - 1


def smallest_for(config: BaseConfig, name: MapName) -> int:
    """Pixels a side that a picture needs at least for a map."""
    if name == "generator":
        return 16
    assert isinstance(config, ModelConfig)  # no other discriminators have maps
    return config.smallest(name)


def missing_maps(config: BaseConfig, *, discriminators: bool) -> dict[MapName, str]:
    """The maps that a model can't show, each with the reason."""
    reasons = {name: config.lacks(name) for name in MAPS}
    if not discriminators and None in (reasons["local"], reasons["global"]):
        reasons |= dict.fromkeys(SCALES, "it comes without discriminators")
    return {name: reason for name, reason in reasons.items() if reason is not None}


def why_missing(missing: Mapping[MapName, str]) -> str:
    """The reasons, each once."""
    return " and ".join(dict.fromkeys(missing.values()))


def how_to_get(missing: Mapping[MapName, str]) -> str:
    """What to do about missing maps; nothing for generators without CAM, whose training left it out."""
    return _TRAIN if "it comes without discriminators" in missing.values() else ""


def check_names(wanted: Iterable[str]) -> list[str]:
    """Names of maps, or `all`.

    Raises:
        UsageError: there is no such map, or none is named.
    """
    names = list(wanted)
    unknown = [one for one in names if one not in (*MAPS, "all")]
    if unknown or not names:
        asked = f"no attention map {', '.join(unknown)!r}" if unknown else "no attention map is named in maps"
        raise UsageError(asked, f"There are: {', '.join(MAPS)}, all.")
    return names


def chosen_maps(wanted: Iterable[str], missing: Mapping[MapName, str], *, name: str) -> tuple[MapName, ...]:
    """The maps to show, in the order of `MAPS`.

    Args:
        wanted: names of maps; `all`: those that the model has.
        missing: those that it hasn't, with the reason.
        name: what messages call the model.

    Raises:
        UsageError: no such map.
        ModelError: the model doesn't have one that is asked for by name, or none at all.
    """
    names = check_names(wanted)
    for one in MAPS:
        if one in names and one in missing:
            raise ModelError(f"{name}: no {one} attention: {missing[one]}", how_to_get({one: missing[one]}))
    chosen = tuple(one for one in MAPS if (one in names or "all" in names) and one not in missing)
    if not chosen:
        raise ModelError(f"{name}: no attention to show: {why_missing(missing)}")
    return chosen


# --- As pictures


@dataclass(frozen=True)
class Style:
    """How attention becomes colours.

    Attributes:
        alpha: how much of the colours shows over a picture: 0 is the picture, 1 the colours alone.
        colormap: see `colormaps.colour`.
        upsampling: `bilinear` or `bicubic`.

    Raises:
        UsageError: `alpha` is out of range, or there is no such colour map.
    """

    alpha: float = 0.6
    colormap: str = colormaps.DEFAULT
    upsampling: Upsampling = "bilinear"

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"alpha {self.alpha} is out of range", "Use a number from 0 to 1.")
        colormaps.colour(np.zeros(1), self.colormap)

    def coloured(self, one: AttentionMap, size: Size | None = None, span: Span | None = None) -> Image.Image:
        """The colours of a map alone; arguments as in `AttentionMap.over_picture`."""
        heat = one.over_picture(size, span=span, upsampling=self.upsampling)
        return colormaps.coloured(heat, self.colormap)

    def over(self, picture: Image.Image, one: AttentionMap, span: Span | None = None) -> Image.Image:
        """A map as colours over an RGB picture; the picture alone where the map is flat."""
        return picture if one.flat else Image.blend(picture, self.coloured(one, picture.size, span), self.alpha)

    def blended(self, picture: Image.Image, heat: npt.NDArray[Any]) -> Image.Image:
        """An RGB picture with attention, float (H, W) in [0, 1] of its size, as colours over it."""
        return Image.blend(picture, colormaps.coloured(heat, self.colormap), self.alpha)


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """Where the networks look on several pictures. Made by `Model.attention_maps`.

    Attributes:
        direction: `a2b` or `b2a`.
        inputs: RGB as the generator saw them, over the background, of the results' size.
        translations: what became of them, RGB of the same size.
        maps: for each picture, its maps by name. A discriminator's is left out where the picture is too small for it.
        missing: maps that the model can't show, with the reason.
        spans: one scale for all pictures; None: each map has its own.
    """

    direction: Direction
    inputs: tuple[Image.Image, ...]
    translations: tuple[Image.Image, ...]
    maps: tuple[Maps, ...]
    missing: Mapping[MapName, str] = field(default_factory=dict)
    spans: Spans | None = None

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.maps)

    @checked
    def heat(self, index: int, name: MapName, *, upsampling: Upsampling = "bilinear") -> Floats:
        """Attention for every pixel of a picture: (height, width) float32 in [0, 1]; zeros where it is flat.

        Raises:
            UsageError: there is no such picture, map or up-sampling.
        """
        span = self.spans.get(name) if self.spans else None
        return self._one(index, name).over_picture(self.inputs[index].size, span=span, upsampling=upsampling)

    @checked
    def overlay(
        self,
        index: int,
        name: MapName,
        *,
        alpha: float = Style.alpha,
        colormap: str = colormaps.DEFAULT,
        upsampling: Upsampling = "bilinear",
    ) -> Image.Image:
        """Attention as colours over what the network looked at: the input, or (discriminators) the translation.

        Raises:
            UsageError: there is no such picture, map, `alpha`, colour map or up-sampling.
        """
        one = self._one(index, name)
        under = (self.inputs if name == "generator" else self.translations)[index]
        span = self.spans.get(name) if self.spans else None
        return Style(alpha, colormap, upsampling).over(under, one, span)

    def _one(self, index: int, name: MapName) -> AttentionMap:
        if not -len(self) <= index < len(self):
            raise UsageError(f"index is {index}; it must be below {len(self)}, the number of pictures")
        if name not in self.maps[index]:
            reason = self.missing.get(name, "the picture is too small for it")
            raise UsageError(f"name is {name!r}: no such map: {reason}", how_to_get({name: reason}))
        return self.maps[index][name]
