"""Models that are here, and pictures through them: for one thread, which has them all."""

from __future__ import annotations

import io
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, Field

from ugatit_cli.config import Direction
from ugatit_cli.errors import PictureError, UsageError
from ugatit_cli.outputs.base import Done, Drawing, Drawn, FileOptions, Translation
from ugatit_cli.pictures.encoding import Note
from ugatit_cli.pictures.geometry import SizeOptions, as_colour, scaled_by
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.look import Look
from ugatit_cli.serving.asked import Asked, Upload
from ugatit_cli.serving.problems import Refused
from ugatit_cli.serving.ways import Remark
from ugatit_cli.weights.known import Known

if TYPE_CHECKING:
    from ugatit_cli.translation.model import Model
    from ugatit_cli.translation.pipeline import Result, TranslateOptions

# Models in memory at a time: a full one of 64 channels takes 1.1 GB.
MOST_LOADED: Final = 3
# Long side of attention in pixels, which has a cell for 4 x 4 of what the network sees.
HEAT: Final = 256

logger = logging.getLogger(__name__)


class Way(BaseModel):
    """A direction of a model, and the domains it goes from and to."""

    direction: Direction
    source: str
    target: str


class Offer(BaseModel):
    """A model, as it is listed."""

    name: str
    method: str
    ways: list[Way]
    image_size: int = Field(description="Side of the pictures that it was trained on, in pixels.")
    styles: bool = Field(description="Whether it has several translations of a picture.")
    attention: bool = Field(description="Whether it tells where its generator looks.")
    masks: bool = Field(description="Whether that is a mask: what is replaced.")
    licence: str


@dataclass(frozen=True)
class Answer:
    """A picture.

    Attributes:
        format: Pillow's name of its format.
        notes: what its owner should know.
    """

    data: bytes
    format: str
    notes: tuple[Remark, ...] = ()


class Studio:
    """Translates a picture at a time; loads models when they are first asked for, and keeps a few.

    Args:
        models: those that are here, the default first.
        max_pixels: of a picture; None: any number.
    """

    def __init__(self, models: Sequence[Known], *, device: str, precision: str, max_pixels: int | None) -> None:
        self._known = {known.name: known for known in models}
        self._device, self._precision, self._max_pixels = device, precision, max_pixels
        self._loaded: OrderedDict[str, Model] = OrderedDict()

    def offers(self) -> list[Offer]:
        """All models, the default first."""
        return [_offer(known) for known in self._known.values()]

    def model(self, name: str) -> Model:
        """A model by its name; the default one of none.

        Raises:
            Refused: no such model.
            ModelError: it is damaged, or not here any more.
        """
        name = name or next(iter(self._known))
        if name not in self._known:
            raise Refused(404, f"no model {name!r}", f"There are: {', '.join(self._known)}.")
        if name not in self._loaded:
            from ugatit_cli.translation.model import Model
            from ugatit_cli.weights.fetch import find_model

            while len(self._loaded) >= MOST_LOADED:
                forgotten, _ = self._loaded.popitem(last=False)
                logger.info("%s: makes room for %s", forgotten, name)
            folder = find_model(name)
            self._loaded[name] = Model.from_folder(name, folder, device=self._device, precision=self._precision)
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def load(self) -> None:
        """The default model, with its networks, before somebody waits for it."""
        model = self.model("")
        model.generator(model.config.directions[0])

    def translated(self, upload: Upload, asked: Asked, stop: threading.Event) -> Answer:
        """A picture as it is asked for.

        Raises:
            UgatitError: it can't be done.
        """
        drawing = _Translation()
        notes, data = self._drawn(upload, asked, drawing, stop)
        return Answer(data, drawing.format, notes)

    def attention(self, upload: Upload, asked: Asked, stop: threading.Event) -> Answer:
        """Where the generator looks, as colours to lay over the picture, which have its aspect.

        Raises:
            UgatitError: it can't be done, or the model doesn't tell.
        """
        model = self.model(asked.model)
        if reason := model.config.lacks("generator"):
            raise UsageError(f"{model.name}: no attention: {reason}", "Take a model that has it: see /models.")
        notes, data = self._drawn(upload, asked, _Attention(), stop)
        return Answer(data, "WEBP", notes)

    def _drawn(
        self, upload: Upload, asked: Asked, drawing: Drawing, stop: threading.Event
    ) -> tuple[tuple[Remark, ...], bytes]:
        from ugatit_cli.translation.pipeline import translate_files

        model = self.model(asked.model)
        options = self._options(model, asked, first_only=isinstance(drawing, _Attention))
        job = Job(upload.path, None, content=upload.content)

        def told(*_: int) -> None:
            if stop.is_set():  # of a large picture, the tiles that are left may take minutes
                raise _unfinished()

        for result in translate_files(model, [job], options, drawing=drawing, stop=stop, told=told):
            if result.error is not None:
                raise result.error
            if result.data is not None:
                return (*map(_remark, result.notes), *_remarks(result)), result.data
        raise _unfinished()

    def _options(self, model: Model, asked: Asked, *, first_only: bool) -> TranslateOptions:
        from ugatit_cli.pictures.geometry import check_options
        from ugatit_cli.translation.choices import resolve_direction
        from ugatit_cli.translation.pipeline import TranslateOptions

        sizes = SizeOptions(asked.fit)
        check_options(model.config, sizes)
        return TranslateOptions(
            direction=resolve_direction(model.config, model.name, asked.direction, asked.to or None),
            sizes=sizes,
            files=FileOptions(asked.format, asked.quality, as_colour(asked.background)),
            workers=1,
            first_only=first_only,
            max_pixels=self._max_pixels,
            seed=_seed(model, asked.style),
            look=Look(asked.strength, asked.keep_colour),
        )


def _remark(note: str | Note) -> Remark:
    return Remark.of(note) if isinstance(note, str) else Remark.of(note.text, note.hint, note.change)


def _unfinished() -> Refused:
    return Refused(503, "the server stopped before the picture was done", "Try again.")


def _remarks(result: Result) -> Iterator[Remark]:
    """What looks wrong with a result that is as it was asked for."""
    fit = result.fit
    if result.deep:
        yield Remark.of("more than 8 bits a channel; the result has 8, as that is what networks work with")
    if fit and fit.soft:
        width, height = fit.seen
        yield Remark(
            note=f"translated at {width}x{height} and enlarged {fit.enlarged:.0f} times, so it is soft",
            hint="fit=native keeps detail, changes less and takes longer",
            fields={"fit": "native"},
        )
    if fit and fit.blank:
        yield Remark(
            note="all that is visible has the colour of the background behind it",
            hint=f"try background={fit.blank}",
            fields={"background": fit.blank},
        )
    elif fit and fit.plain:
        yield Remark.of("the result is all one colour: the model found nothing in the picture that it knows")


def _seed(model: Model, style: str) -> int:
    from ugatit_cli.pictures.styles import seed_of
    from ugatit_cli.translation.choices import require_styles

    if not style:
        return 0
    require_styles(model.config, model.name)
    seed = seed_of(style)
    if seed is None:
        raise UsageError(f"style {style}: unknown", "It is random, or random:SEED.")
    return seed


def _offer(known: Known) -> Offer:
    config = known.config
    assert config is not None  # or it couldn't be ready
    ways = [Way(direction=one, source=config.source(one), target=config.target(one)) for one in config.directions]
    return Offer(
        name=known.name,
        method=config.method,
        ways=ways,
        image_size=config.image_size,
        styles=config.style_size > 0,
        attention=config.lacks("generator") is None,
        masks=config.masks,
        licence=known.fact("licence") or "",
    )


class _Translation(Translation):
    """The translation, and which format it is written in."""

    format = ""

    def draw(self, done: Done) -> Drawn:
        self.format = done.format
        return super().draw(done)


class _Attention(Drawing):
    """The generator's map as colours alone."""

    maps = ("generator",)

    def draw(self, done: Done) -> Drawn:
        from ugatit_cli.attention.maps import Style
        from ugatit_cli.attention.words import FLAT, remark

        one = done.maps[0]["generator"]
        if one.flat:
            raise PictureError(f"{done.job.name}: attention is {FLAT}", "There is nothing to see in it.")
        size = scaled_by(done.geometry.scaled, min(1, HEAT / max(done.geometry.scaled)))
        buffer = io.BytesIO()
        Style().coloured(one, size).save(buffer, "WEBP", quality=90, method=2)
        return Drawn([buffer.getvalue()], size, notes=tuple(filter(None, [remark(one)])))
