"""The page of a study: people choose the best of several methods' results, without being told which is whose.

It needs nothing but a browser. Results are known by numbers drawn at random, and only the key, a file of its own that
stays with whoever asks, says which method each is of: so nothing in the page can give that away. All pictures are
encoded anew, in one format, those of a row in one size.
"""

from __future__ import annotations

import base64
import io
import json
import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Final

import jinja2
from PIL import Image

from ugatit_cli.arguments import checked, fitted
from ugatit_cli.config import Direction
from ugatit_cli.data.pictures import find_set
from ugatit_cli.errors import PictureError, UsageError
from ugatit_cli.fields import Range
from ugatit_cli.files import write_together
from ugatit_cli.pictures import reading
from ugatit_cli.pictures.geometry import WHITE, Size, scaled_by
from ugatit_cli.study.tally import ANSWERS_FORMAT, KEY_FORMAT
from ugatit_cli.translation.translator import Translator

QUESTION: Final = "Which result is the best translation into the look of the examples?"
COUNT: Final = 50
MOST: Final = 500
# Long side of a picture in pixels; how many examples are in the page, and how many of them are seen at a time.
SIDE, EXAMPLES, SHOWN = 512, 24, 4


_Results = Annotated[str | PathLike[str] | Translator, "a folder or a model"]


@dataclass(frozen=True)
class Study:
    """What was written.

    Attributes:
        page, key: the files.
        pictures: how many the page asks about.
        available: how many there are that all methods have a result of.
        sources: how many there are at all.
        broken: why others, or examples, can't be used.
    """

    page: Path
    key: Path
    pictures: int
    available: int
    sources: int
    broken: tuple[PictureError, ...]


@dataclass(frozen=True)
class _Method:
    """Where a method's results come from: it has those of some sources, by name, or (None) of any."""

    named: Mapping[str, Path] | None
    translate: Callable[[Path], Image.Image]

    def result(self, name: str, source: Path) -> Image.Image:
        return self.translate(source if self.named is None else self.named[name])


@dataclass(kw_only=True)
class StudyMaker:
    """Writes the page and its key; finds and checks everything at once that needs no picture to be read.

    Attributes:
        page: a file that ends in .html.
        results: label of each method -> a folder of translations, named like their sources, or a loaded model.
        source: folder of the pictures that were, or are to be, translated.
        examples: folder of real pictures of the target domain.
        question: what people are asked.
        count: pictures to ask about, at most, from 1 to 500; of more, some are drawn.
        seed: of that choice.
        direction: of the models; None: a2b.
        overwrite: replace a page and key that exist. Answers to the old page can't be counted then.
        advance: called for each picture.
        broken: why sources, their results, or examples can't be used.
    """

    page: Path
    results: Mapping[str, str | PathLike[str] | Translator]
    source: Path
    examples: Path
    question: str = QUESTION
    count: int = COUNT
    seed: int = 0
    direction: Direction | None = None
    overwrite: bool = False
    advance: Callable[[], None] = lambda: None
    broken: list[PictureError] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._check_page()
        if not 1 <= self.count <= MOST:
            raise UsageError(f"{self.count} pictures to ask about", f"It is a number from 1 to {MOST}.")
        if len(self.results) < 2:
            raise UsageError("a study compares two methods or more", "Name the folders of their results, or models.")
        self._methods = {label: self._method(label, one) for label, one in self.results.items()}
        self._examples = list(find_set(self.examples).files)
        self._sources = find_set(self.source).by_name()
        self._all = len(self._sources)
        for label, method in self._methods.items():
            if method.named is not None:
                self._sources = {name: path for name, path in self._sources.items() if name in method.named}
            if not self._sources:
                reason = f"{self.results[label]}: has no picture named like one in {self.source}"
                raise UsageError(f"{reason} that the others have, too", "Give what the results were made of.")

    @property
    def key(self) -> Path:
        """The file that the key goes to: `study.key.json` beside `study.html`."""
        return self.page.with_suffix(".key.json")

    @property
    def wanted(self) -> int:
        """How many pictures the page is to ask about."""
        return min(self.count, len(self._sources))

    def run(self) -> Study:
        """Makes and writes it.

        Raises:
            PictureError: no picture, or no example, can be read.
            ModelError: a model's weights can't be read.
            OutputError: a file can't be written; then neither is.
        """
        chance = random.Random(self.seed)
        rows, owners = self._rows(chance.sample(list(self._sources.items()), len(self._sources)))
        examples = self._shown(chance.sample(self._examples, len(self._examples)))
        if not rows or not examples:
            raise PictureError(f"{self.examples if rows else self.source}: no picture can be read")
        values = {"study": secrets.token_hex(8), "question": self.question}
        key = {"format": KEY_FORMAT, **values, "methods": list(self._methods), "pictures": owners}
        page = _page(**values, rows=rows, examples=examples, format=ANSWERS_FORMAT, shown=SHOWN)
        write_together([(self.key, json.dumps(key, indent=1).encode()), (self.page, page)])
        return Study(self.page, self.key, len(rows), len(self._sources), self._all, tuple(self.broken))

    def _check_page(self) -> None:
        if self.page.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"{self.page}: a study is a page", "Give it a name that ends in .html.")
        if self.page.is_dir():
            raise UsageError(f"{self.page}: is a folder", f"Name a file in it: {self.page / 'study.html'}")
        if found := [path for path in (self.page, self.key) if path.exists() and not self.overwrite]:
            hint = "Give another name, or pass --overwrite: answers that people gave to it can't be counted then."
            raise UsageError(f"{found[0]}: exists already", hint)

    def _rows(self, sources: list[tuple[str, Path]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """For the page each picture with its results by number, for the key whose those are."""
        rows: list[dict[str, Any]] = []
        owners: dict[str, Any] = {}
        for name, path in sources:
            try:
                shape, (before, *after) = self._pictures(name, path)
            except PictureError as error:
                self.broken.append(error)
                continue
            numbers = {secrets.token_hex(6): encoded for encoded in after}
            row = secrets.token_hex(6)
            owners[row] = {"picture": name, "results": dict(zip(numbers, self._methods, strict=True))}
            results = dict(sorted(numbers.items()))
            rows.append({"id": row, "shape": shape, "source": before, "results": results})
            self.advance()
            if len(rows) == self.count:
                break
        return rows, owners

    def _pictures(self, name: str, path: Path) -> tuple[float, list[str]]:
        """Width by height, a source and its results, all of one size: its shape, and no more pixels than any has."""
        images = [_read(path), *(method.result(name, path) for method in self._methods.values())]
        sides = [max(image.size) for image in images]
        size = scaled_by(images[0].size, min(SIDE, *sides) / sides[0])
        return size[0] / size[1], [_encoded(image, size) for image in images]

    def _shown(self, files: list[Path]) -> list[str]:
        found: list[str] = []
        for path in files:
            try:
                image = _read(path)
            except PictureError as error:
                self.broken.append(error)
                continue
            found.append(_encoded(image, scaled_by(image.size, min(1, SIDE / 2 / max(image.size)))))
            if len(found) == EXAMPLES:
                break
        return found

    def _method(self, label: str, results: str | PathLike[str] | Translator) -> _Method:
        fitted("a label in results", label, str)
        fitted(f"results[{label!r}]", results, _Results)
        if isinstance(results, str | PathLike):
            return _Method(find_set(Path(results)).by_name(), _read)
        return _Method(None, lambda path: _opaque(results.translate(path, self.direction)))


def _read(path: Path) -> Image.Image:
    with reading.open_picture(path, first_only=True) as opened:
        return reading.composite(next(opened.frames()), WHITE)


def _opaque(image: Image.Image) -> Image.Image:
    return reading.composite(reading.from_pil(image).frames[0], WHITE)


def _encoded(image: Image.Image, size: Size) -> str:
    """As JPEG without any loss of colour's resolution, in base64."""
    buffer = io.BytesIO()
    small = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
    small.save(buffer, "JPEG", quality=95, subsampling=0)
    return base64.b64encode(buffer.getvalue()).decode()


def _page(**values: Any) -> bytes:
    loader = jinja2.PackageLoader("ugatit_cli", "study")
    templates = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    return templates.get_template("study.html").render(values).encode(errors="replace")


@checked
def make_study(
    page: str | PathLike[str],
    results: Mapping[str, str | PathLike[str] | Translator],
    *,
    source: str | PathLike[str],
    examples: str | PathLike[str],
    question: str = QUESTION,
    count: Annotated[int, Range(1, MOST)] = COUNT,
    seed: int = 0,
    direction: Direction | None = None,
    overwrite: bool = False,
) -> Study:
    """Writes a page that asks people which method's result is best, and beside it the key that tells whose each is.

    Args:
        page: a file that ends in .html.
        results: label of each method -> a folder of translations, named like their sources, or a loaded model.
        source: folder of the pictures that were, or are to be, translated.
        examples: folder of real pictures of the target domain.
        question: what people are asked.
        count: pictures to ask about, at most, from 1 to 500; of more, some are drawn.
        seed: of that choice.
        direction: of the models: `a2b`, which is the default, or `b2a`.
        overwrite: replace a page and key that exist. Answers to the old page can't be counted then.

    Raises:
        UsageError: fewer than two methods, a folder without pictures or with two of one name, no picture that all
            methods have, or a page that exists.
        PictureError: no picture, or no example, can be read; a single one is left out.
        ModelError: a model's weights can't be read.
        OutputError: a file can't be written; then neither is.
    """
    return StudyMaker(
        page=Path(page),
        results=results,
        source=Path(source),
        examples=Path(examples),
        question=question,
        count=count,
        seed=seed,
        direction=direction,
        overwrite=overwrite,
    ).run()
