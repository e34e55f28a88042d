"""Frames of a film through the pipeline: in order, some at a time, and as still pictures are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from torch import Tensor

import ugatit_cli
from tests import tiny
from tests.helpers import picture
from tests.pipelines import NATIVE, Unchanged, translated_frames
from ugatit_cli.errors import PictureError
from ugatit_cli.outputs.base import Done, Drawing
from ugatit_cli.pictures.geometry import SizeOptions
from ugatit_cli.pictures.look import Look
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.translation import pipeline
from ugatit_cli.translation.frames import drawn_frames
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.passes import MAX_TURN
from ugatit_cli.translation.pipeline import TranslateOptions

OPTIONS = TranslateOptions(sizes=NATIVE)
# Frames on their way, of a network on the CPU: before it, for a turn of it, and behind it.
MOST = 2 * (2 * OPTIONS.workers + 2) + MAX_TURN


def film(count: int, width: int = 24, height: int = 16) -> Iterator[Frame]:
    return (Frame(picture(width, height, seed), None) for seed in range(count))


@pytest.mark.parametrize("small", [pipeline.SMALL, 0], ids=["beside others", "alone"])
def test_every_frame_comes_back_in_its_place(model: Model, monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    monkeypatch.setattr(pipeline, "SMALL", small)
    found = [frame.rgb.tobytes() for frame in translated_frames(model, film(40), OPTIONS)]
    assert found == [frame.rgb.tobytes() for frame in film(40)]


def test_a_frame_is_as_large_as_asked_for_and_keeps_its_alpha(model: Model) -> None:
    alpha = Image.new("L", (24, 16), 90)
    options = TranslateOptions(sizes=SizeOptions("aspect", output="48x32"))
    (found,) = translated_frames(model, [Frame(picture(24, 16), alpha)], options)
    assert found.rgb.size == (48, 32)
    assert found.alpha is not None
    assert found.alpha.getextrema() == (90, 90)


def test_frames_have_the_look_that_is_asked_for(tmp_path: Path) -> None:
    model = ugatit_cli.load(str(tiny.save(tmp_path / "m")), device="cpu", precision="fp32")
    plain, none, half = (
        [frame.rgb.tobytes() for frame in translated_frames(model, film(3), replace(OPTIONS, look=Look(strength)))]
        for strength in (1, 0, 0.5)
    )
    assert none == [frame.rgb.tobytes() for frame in film(3)]
    assert not {*plain, *none} & {*half}


def test_a_film_of_no_frames(model: Model) -> None:
    assert list(translated_frames(model, [], OPTIONS)) == []


def test_only_some_frames_are_taken_ahead(model: Model) -> None:
    taken = 0

    def counted() -> Iterator[Frame]:
        nonlocal taken
        for frame in film(200):
            taken += 1
            yield frame

    for given, _ in enumerate(translated_frames(model, counted(), OPTIONS), 1):
        assert taken < given + MOST
    assert given == taken == 200


def test_frames_are_taken_in_the_calling_thread(model: Model) -> None:
    def checked() -> Iterator[Frame]:
        for frame in film(20):
            assert threading.current_thread() is threading.main_thread()
            yield frame

    assert len(list(translated_frames(model, checked(), OPTIONS))) == 20


def test_attention_beside_the_frame_it_is_of(model: Model) -> None:
    class Looking(Drawing):
        maps = ("generator",)
        sees_source = True

    def make(done: Done) -> tuple[bytes, bytes, float]:
        return done.sources[0].rgb.tobytes(), done.inputs[0].tobytes(), float(done.maps[0]["generator"].values.mean())

    found = list(drawn_frames(model, film(9), OPTIONS, Looking(), make))
    sources = [frame.rgb.tobytes() for frame in film(9)]
    assert [source for source, *_ in found] == [shown for _, shown, _ in found] == sources
    assert len({mean for *_, mean in found}) == 9


def test_all_frames_have_the_style_of_the_first(tmp_path: Path) -> None:
    model = ugatit_cli.load(tiny.save(tmp_path / "model", tiny.MUNIT), device="cpu", precision="fp32")
    first, second, again = translated_frames(model, [*film(2), *film(1)], OPTIONS)
    assert first.rgb.tobytes() == again.rgb.tobytes() == model.translate(picture(24, 16), fit="native").tobytes()
    assert second.rgb.tobytes() != model.translate(picture(24, 16, 1), fit="native").tobytes()


def test_a_frame_that_cannot_be_translated_is_named(model: Model, network: Unchanged) -> None:
    def none(_: Tensor) -> None:
        if network.pictures >= 5:
            raise MemoryError

    network.before = none
    found: list[object] = []
    with pytest.raises(PictureError, match=r"^frame \d+: not enough memory"):
        found.extend(translated_frames(model, film(60), OPTIONS))
    assert len(found) <= 5


def test_what_is_begun_is_finished_once_it_is_stopped(model: Model) -> None:
    stop = threading.Event()
    found: list[object] = []
    for frame in translated_frames(model, film(200), OPTIONS, stop=stop):
        found.append(frame.rgb.tobytes())
        stop.set()
    assert 1 <= len(found) <= MOST
    assert found == [frame.rgb.tobytes() for frame in film(len(found))]
