"""What is made of a picture that went through the networks: by default, the translation itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Literal, TypeVar

from PIL import Image

from ugatit_cli.attention.maps import Maps, Spans
from ugatit_cli.config import MapName
from ugatit_cli.faces.crops import ENDING, from_before, further_faces, named_faces
from ugatit_cli.pictures import encoding
from ugatit_cli.pictures.bounds import Lazy
from ugatit_cli.pictures.encoding import Note
from ugatit_cli.pictures.geometry import (
    WHITE,
    Colour,
    Geometry,
    Pixels,
    Size,
    finish,
    from_network,
    source_frame,
    source_picture,
)
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.look import Look
from ugatit_cli.pictures.reading import Frame, Picture
from ugatit_cli.pictures.regions import Parts, Region, cut, pasted
from ugatit_cli.remote.urls import Place

T = TypeVar("T")


@dataclass(frozen=True)
class Layer:
    """Attention of one network, to be laid over a picture.

    Attributes:
        name: what this layer is called in every entry: `generator`.
        title: what readers see.
        over: the picture that the network looks at.
        colours: opaque WebP of the same aspect as the pictures; empty if there is none, and `note` says why.
        note: shown while the layer is.
    """

    name: str
    title: str
    over: Literal["before", "after"]
    colours: bytes
    note: str = ""


@dataclass(frozen=True)
class FileOptions:
    """How results are written.

    Attributes:
        format: `same`, `png`, `jpg`, `webp` or `gif`.
        quality: 1 to 100 for lossy formats; None: the format's default.
        background: RGB colour put behind transparent pixels while translating.
        keep_metadata: results say of themselves what their sources do.
    """

    format: str = "same"
    quality: int | None = None
    background: Colour = WHITE
    keep_metadata: bool = False


@dataclass
class Done:
    """A picture that went through the networks; what isn't asked for is not computed, and no frame sooner than it is.

    Attributes:
        picture: what is known of the source, without its frames.
        geometry: its way through the networks.
        pixels: uint8 (H, W, 3) for each frame, as it left the generator.
        maps: attention, for each frame.
        files: how to write what is drawn.
        alphas: opacity of each frame, as large as the source.
        sources: the source's frames; empty unless the drawing, the look or their transparency needs them.
        captions: what to say of each frame.
        others: `pixels` in each further style.
        look: what becomes of a translation before it is drawn.
        parts: what `pixels` and `maps` are of, one after the other, instead of frames.
        notes: what could not be written as it was.
    """

    job: Job
    picture: Picture
    geometry: Geometry
    pixels: Sequence[Pixels]
    maps: Sequence[Maps]
    files: FileOptions
    alphas: Sequence[Image.Image | None]
    sources: Sequence[Frame] = ()
    captions: Sequence[str] = ()
    others: Sequence[Sequence[Pixels]] = ()
    look: Look = field(default_factory=Look)
    parts: Parts | None = None
    notes: list[str | Note] = field(default_factory=list)

    # Below, nothing refers to `self`: with a cycle, large pictures would stay until Python looks for those.

    @cached_property
    def frames(self) -> Sequence[Frame]:
        """The translation as it is to look, as large as the result, with the source's alpha."""
        pixels, alphas, geometry, background = self.pixels, self.alphas, self.geometry, self.files.background
        sources, look = self.sources, self.look
        if self.parts is not None:
            crops = self._crops(Look())
            return self.each(lambda i: source_frame(pasted(sources[i], crops[i], look), geometry, background))
        if not look.needs_source:
            source_of = sources.__getitem__ if sources else lambda _: None
            return self.each(lambda i: finish(pixels[i], alphas[i], geometry, background, source_of(i)))
        return self.each(lambda i: _looking(look, pixels[i], sources[i], geometry, background))

    @cached_property
    def crops(self) -> Sequence[list[tuple[Region, Frame]]]:
        """The translated regions of each frame, as they are to look, if not all of it was translated."""
        return self._crops(self.look)

    def _crops(self, look: Look) -> Sequence[list[tuple[Region, Frame]]]:
        parts, pixels, sources, background = self.parts, self.pixels, self.sources, self.files.background
        assert parts is not None

        def crop(number: int, region: Region, source: Frame) -> Frame:
            return _looking(look, pixels[number], cut(source, region), parts.ways[number], background)

        return self.each(lambda i: [(region, crop(number, region, sources[i])) for number, region in parts.of(i)])

    @cached_property
    def translations(self) -> Sequence[Image.Image]:
        """What the discriminators looked at, as large as the result: RGB."""
        pixels, geometry = self.pixels, self.geometry
        return self.each(lambda i: from_network(pixels[i], geometry))

    @cached_property
    def inputs(self) -> Sequence[Image.Image]:
        """What the generator looked at, as large as the result: RGB over the background."""
        geometry, background = self.geometry, self.files.background
        return Lazy(lambda frame: source_picture(frame, geometry, background), self.sources)

    def each(self, make: Callable[[int], T]) -> Sequence[T]:
        """What is made of each frame, by its number, when it is needed: an animation never is in memory whole."""
        return Lazy(make, range(len(self.alphas)))

    def styles(self) -> list[Done]:
        """The same in each style."""
        return [self, *(replace(self, pixels=pixels, others=()) for pixels in self.others)]

    @property
    def format(self) -> str:
        """Pillow's name of the format that the result is written in."""
        if self.job.output is None:
            return encoding.output_format(self.picture.format, self.files.format)
        return encoding.format_of(self.job.output)

    def encoded(self, frames: Sequence[Frame]) -> bytes:
        """Pictures as the content of the result, with the source's timing and resolution."""
        picture = replace(self.picture, frames=frames)
        self.notes += [*encoding.lost_alpha(picture, self.format), *encoding.lost_metadata(picture, self.format)]
        return encoding.encode(picture, self.format, quality=self.files.quality, background=self.files.background)


def _looking(look: Look, pixels: Pixels, source: Frame, geometry: Geometry, background: Colour) -> Frame:
    result = finish(pixels, source.alpha, geometry, background, source)
    return look.applied(result, source_frame(source, geometry, background)) if look.needs_source else result


@dataclass(frozen=True)
class Preview:
    """What a report shows of one picture.

    Attributes:
        before, after: WebP, which move if the picture does.
        layers: attention, of its first frame.
        others: WebP, in further styles.
        frames: how many the picture has, or the film of which one is shown.
    """

    before: bytes
    after: bytes
    layers: tuple[Layer, ...]
    frames: int = 1
    others: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Drawn:
    """What one picture became.

    Attributes:
        files: content of each of the job's outputs; None where there is none.
        size: width and height of the result.
        flat: maps that are the same everywhere.
        notes: what else there is to say.
        preview: small pictures for a report.
        paths: where the files go, if not to the job's outputs.
    """

    files: Sequence[bytes | None]
    size: Size
    flat: tuple[MapName, ...] = ()
    notes: tuple[str | Note, ...] = ()
    preview: Preview | None = None
    paths: tuple[Place, ...] = ()


class Drawing:
    """Makes results, in several threads at once.

    Attributes:
        maps: attention that it needs.
        spans: filled in with all pictures before the first one is drawn; None: pictures are drawn as they come.
        sees_source: whether it needs the source's colours, too.
        styles: in how many of them it needs a picture.
    """

    maps: tuple[MapName, ...] = ()
    spans: Spans | None = None
    sees_source: bool = False
    styles: int = 1

    def outputs(self, output: Place) -> tuple[Place, ...]:
        """All files of a result that was planned as `output`."""
        return (output,)

    def former(self, job: Job) -> Iterable[Place]:
        """Files that a job may have left before, which has no result now."""
        return job.outputs

    def resized(self, geometry: Geometry) -> Geometry:
        """The way with the size that it wants for pictures."""
        return geometry

    def draw(self, done: Done) -> Drawn:
        """Makes the content of the job's outputs.

        Raises:
            PictureError, OutputError: it can't be done.
        """
        raise NotImplementedError

    def frames(self, done: Done) -> Sequence[Frame]:
        """What is drawn of each frame, of drawings that make one picture of a picture, or one film of a film.

        Raises:
            PictureError: it can't be done.
        """
        raise NotImplementedError

    def preview(self, done: Done) -> Preview | None:  # noqa: ARG002  # of those that make none
        """Small pictures for a report, of its first frame."""
        return None


class Translation(Drawing):
    """The translation itself."""

    def draw(self, done: Done) -> Drawn:
        """One picture."""
        return Drawn([done.encoded(done.frames)], done.geometry.output)

    def frames(self, done: Done) -> Sequence[Frame]:
        """The translation."""
        return done.frames


@dataclass(frozen=True)
class Crops(Drawing):
    """The translated regions of the first frame as pictures of their own, the largest first.

    Attributes:
        replaces: files of further regions may exist.
    """

    replaces: bool = False
    ending: ClassVar[str] = ENDING

    def draw(self, done: Done) -> Drawn:
        """A picture of each region."""
        crops = [crop for _, crop in reversed(done.crops[0])]
        assert done.job.output is not None  # there is one standard output
        paths = named_faces(done.job.output, len(crops), replaces=self.replaces)
        notes = from_before(further_faces(done.job.output, len(crops)))
        return Drawn([done.encoded([crop]) for crop in crops], crops[0].rgb.size, notes=notes, paths=paths)

    def former(self, job: Job) -> Iterable[Place]:
        """Pictures of regions, from the first on."""
        return () if job.output is None else further_faces(job.output, 0)


@dataclass(frozen=True)
class Styled(Drawing):
    """The translation in several styles, each a picture of its own."""

    styles: int

    def outputs(self, output: Place) -> tuple[Place, ...]:
        """The files of a result: `cat_style1.png`, `cat_style2.png`, ..."""
        stem = output.name.removesuffix(self.ending + output.suffix)  # which was planned
        return tuple(output.with_name(f"{stem}_style{number}{output.suffix}") for number in range(1, self.styles + 1))

    @property
    def ending(self) -> str:
        """The longest one of a result's name, before its suffix."""
        return f"_style{self.styles}"

    def draw(self, done: Done) -> Drawn:
        """A picture in each style."""
        return Drawn([one.encoded(one.frames) for one in done.styles()], done.geometry.output)
