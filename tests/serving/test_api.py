"""The HTTP API: pictures in, pictures out, and words for what can't be done."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import encoded, picture
from tests.serving.server import Response, Served, bomb, form, white_icon
from ugatit_cli import load
from ugatit_cli.errors import Change, Changed
from ugatit_cli.serving.asked import Asked
from ugatit_cli.serving.ways import way_out


def notes(answer: Response) -> Any:
    return json.loads(answer.headers.get("ugatit-notes", "[]"))


def pages() -> bytes:
    """A TIFF of two pages."""
    buffer = io.BytesIO()
    picture(16, 16).save(buffer, "TIFF", save_all=True, append_images=[picture(16, 16, seed=1)])
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_a_picture_is_what_the_api_for_python_makes_of_it(served: Served, models: dict[str, Path]) -> None:
    sent = encoded(size=(24, 20))
    model = load(str(models["light"]), device="cpu", precision="fp32")
    for fields, expected in (
        ({}, model.translate(opened(sent))),
        ({"to": "flat"}, model.translate(opened(sent), "b2a")),
        ({"strength": 0.5}, model.translate(opened(sent), strength=0.5)),
        ({"keep_colour": "true"}, model.translate(opened(sent), keep_colour=True)),
    ):
        answer = served.post(sent, **fields)
        assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
        np.testing.assert_array_equal(np.asarray(opened(answer.data)), np.asarray(expected))


def test_a_form_says_the_same_as_a_query(served: Served) -> None:
    sent = encoded()
    body, headers = form(("cat.png", sent), to="flat", strength="0.25", style="", format="webp")
    answer = served.ask("POST", "/translate", body, **headers)
    assert (answer.status, answer.headers["content-type"]) == (200, "image/webp")
    assert answer.data == served.post(sent, to="flat", strength=0.25, format="webp").data
    other = headers["Content_Type"].replace("multipart/form-data", "Multipart/Form-Data ")
    assert served.ask("POST", "/translate", body, Content_Type=other).data == answer.data


@pytest.mark.parametrize(("format", "kind"), [("same", "gif"), ("png", "png"), ("webp", "webp")])
def test_formats_and_animations(served: Served, format: str, kind: str) -> None:
    moving = encoded("GIF", (20, 16), save_all=True, append_images=[picture(20, 16, seed=1)], duration=[50, 70])
    answer = served.post(moving, format=format)
    assert answer.status == 200
    assert answer.headers["content-type"] in (f"image/{kind}", "image/apng")
    image = opened(answer.data)
    assert image.size == (20, 16)
    assert getattr(image, "n_frames", 1) == 2


def test_what_its_owner_should_know_is_in_a_header(served: Served) -> None:
    clear = Image.new("RGBA", (16, 16), (200, 30, 30, 90))
    buffer = io.BytesIO()
    clear.save(buffer, "PNG")
    lost, plain = notes(served.post(buffer.getvalue(), format="jpg"))
    assert "one colour" in plain["note"]
    assert "transparency" in lost["note"]
    assert lost["fields"] == {"format": "png"}
    assert "format=png" in lost["hint"]
    (soft,) = notes(served.post(encoded(size=(200, 200))))
    assert "soft" in soft["note"]
    assert soft["fields"] == {"fit": "native"}
    assert "fit=native" in soft["hint"]
    (damaged,) = notes(served.post(pages()))
    assert damaged == {"note": damaged["note"], "hint": "", "fields": {}}
    buffer = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 257).save(buffer, "PNG")
    assert any("8 bits" in one["note"] for one in notes(served.post(buffer.getvalue())))


def test_a_background(served: Served) -> None:
    white = served.post(white_icon())
    (note,) = notes(white)
    assert note["fields"] == {"background": "black"}
    assert "background=black" in note["hint"]
    black = served.post(white_icon(), **note["fields"])
    assert (black.status, notes(black)) == (200, [])
    assert black.data == served.post(white_icon(), background="#000").data != white.data
    for wrong in ("no-colour", f"rgb({'9' * 30},0,0)"):
        assert served.post(white_icon(), background=wrong).status == 400


def test_a_refusal_says_which_field_does_it(served: Served) -> None:
    moving = encoded("GIF", (20, 16), save_all=True, append_images=[picture(20, 16, seed=1)], duration=[50, 70])
    refused = served.post(moving, format="jpg")
    assert refused.refusal[0] == 422
    assert refused.document["fields"] == {"format": "webp"}
    assert served.post(moving, **refused.document["fields"]).status == 200
    long = served.post(bomb(17_000, 8), format="webp")
    assert (long.refusal[0], long.document["fields"]) == (422, {"format": "png"})
    assert served.post(bomb(17_000, 8), **long.document["fields"]).status == 200


@pytest.mark.parametrize("option", get_args(Changed))
def test_no_way_out_is_an_option_that_nobody_has(option: Changed) -> None:
    hint, fields = way_out("Use --something.", Change(option, "png"))
    assert set(fields) <= set(Asked.model_fields)
    assert fields or not re.search("--(?!max-pixels|precision|device)", hint)


def test_styles(served: Served, models: dict[str, Path]) -> None:
    sent, styled = encoded(), str(models["styled"])
    first, again, other = (served.post(sent, model=styled, style=f"random:{seed}").data for seed in (1, 1, 2))
    assert first == again != other


def test_attention_has_the_pictures_aspect(served: Served) -> None:
    answer = served.post(encoded(size=(60, 30)), "/attention")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/webp")
    assert opened(answer.data).size == (64, 32)


def test_models_and_what_may_be_asked(served: Served, models: dict[str, Path]) -> None:
    listing = served.ask("GET", "/models").document
    by_name = {Path(one["name"]).name: one for one in listing["models"]}
    assert list(by_name) == [*models]
    assert [by_name[name]["styles"] for name in models] == [False, False, False, True]
    assert [by_name[name]["attention"] for name in models] == [True, True, False, False]
    assert by_name["way"]["ways"] == [{"direction": "a2b", "source": "flat", "target": "clay"}]
    assert listing["limits"] == {"bytes": 200_000, "pixels": 1_000_000, "pictures": 50}
    described = served.ask("GET", "/openapi.json").document
    translate = described["paths"]["/translate"]["post"]
    assert {one["name"] for one in translate["parameters"]} >= {"model", "to", "strength", "keep_colour", "format"}
    assert {"200", "400", "401", "413", "422", "503"} <= set(translate["responses"])


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"to": "horse"}, 400, "horse"),
        ({"direction": "up"}, 400, "direction=up"),
        ({"strength": 2}, 400, "strength=2"),
        ({"strenght": 1}, 400, "strenght"),
        ({"format": "svg"}, 400, "svg"),
        ({"style": "random:1"}, 400, "no styles"),
        ({"model": "nobody"}, 404, "nobody"),
        ({"model": "../light"}, 404, "../light"),
        ({"model": "/etc"}, 404, "/etc"),
    ],
)
def test_fields_that_make_no_sense(served: Served, fields: dict[str, object], status: int, words: str) -> None:
    found, error = served.post(encoded(), **fields).refusal
    assert found == status
    assert words in error


def test_ways_and_attention_that_a_model_lacks(served: Served, models: dict[str, Path]) -> None:
    assert served.post(encoded(), model=models["way"], direction="b2a").refusal[0] == 400
    status, error = served.post(encoded(), "/attention", model=models["cycle"]).refusal
    assert status == 400
    assert "attention" in error


def test_what_is_no_picture_is_named(served: Served) -> None:
    body, headers = form(("../../holiday\\notes.txt", b"Dear diary, " * 9))
    status, error = served.ask("POST", "/translate", body, **headers).refusal
    assert status == 422
    assert error.startswith("notes.txt: ")
    for name, data in (("clip.mp4", bytes(4) + b"ftypisom" + bytes(40)), ("clay.zip", b"PK\x03\x04" + bytes(40))):
        body, headers = form((name, data))
        film = served.ask("POST", "/translate", body, **headers)
        assert film.refusal[0] == 422
        assert not re.search("Convert|zip://", film.document["hint"])
    assert served.post(b"").refusal[0] == 400
    assert served.ask("POST", "/translate", *form(strength="1")[:1], **form()[1]).refusal[0] == 400
    body, headers = form(("a.png", encoded()), ("b.png", encoded()))
    assert served.ask("POST", "/translate", body, **headers).refusal[0] == 400
    assert served.ask("POST", "/translate", b"--", **headers).refusal[0] == 400
    truncated = encoded(size=(64, 64))[:-2000]
    assert served.post(truncated).refusal[0] == 422


def test_a_name_is_never_a_path_to_a_file(served: Served, tmp_path: Path) -> None:
    """Not even where there is nothing else to read."""
    (tmp_path / "secret.png").write_bytes(encoded())
    body, headers = form((str(tmp_path / "secret.png"), b""))
    assert served.ask("POST", "/translate", body, **headers).status == 400


FOREIGN = """
/page.html /../page.js /%2e%2e/%2e%2e/etc/passwd /..%2f..%2fpyproject.toml /page.js/../app.py //etc /static/page.js
/docs /redoc /page.css%00.py
"""


@pytest.mark.parametrize("path", FOREIGN.split())
def test_it_has_no_file_but_its_own(served: Served, path: str) -> None:
    assert served.ask("GET", path).refusal[0] == 404


def test_methods(served: Served) -> None:
    assert served.ask("GET", "/translate").refusal[0] == 405
    assert served.ask("POST", "/models", b"x").refusal[0] == 405
    assert {served.ask("HEAD", path).status for path in ("/", "/page.js", "/page.css")} == {200}
