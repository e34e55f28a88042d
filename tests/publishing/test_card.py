"""Model cards: what they say of runs, imports and plain models, and that nobody's text breaks the page."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from hypothesis import assume, given
from hypothesis import strategies as st

from tests import tiny
from ugatit_cli.config import ModelConfig
from ugatit_cli.methods.recipe import preset
from ugatit_cli.publishing.card import (
    Facts,
    Options,
    escaped,
    model_card,
    says_nothing,
    summary,
    training_data,
)
from ugatit_cli.weights.catalog import licence_of
from ugatit_cli.weights.folder import ModelFolder

HORSES = dataclasses.replace(tiny.LIGHT, domain_a="horse", domain_b="zebra")
FILES = {"config.json": 500, "model.safetensors": 10_625_872}
TRAINED = {"trained with": "ugatit train", "recipe": "default", "steps": 5000, "batch size": 4}


def card(provenance: dict[str, Any] | None = None, config: ModelConfig = HORSES, **facts: Any) -> str:
    model = ModelFolder(Path("m"), config, provenance or {})
    said = {name: facts.pop(name) for name in ("licence", "data", "description") if name in facts}
    files = facts.pop("files", FILES)
    return model_card(model, Facts("ada/horse2zebra", files, "float32", Options(**said), **facts))


def metadata(text: str) -> dict[str, Any]:
    """As the Hub's client reads it."""
    data: Any = ModelCard(text).data
    found: dict[str, Any] = data.to_dict()
    return found


def headings(text: str) -> list[str]:
    return re.findall(r"^## (.+)$", text, re.MULTILINE)


def rows(text: str, section: str) -> dict[str, str]:
    body = text.partition(f"## {section}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (?!---)(\S.*?) \| (.*) \|$", body, re.MULTILINE)
    return dict(found)


def test_a_plain_model_has_no_empty_sections() -> None:
    text = card()
    assert headings(text) == ["How to use it", "The model", "Training", "Limits", "Licence", "Citation"]
    assert "\n# horse ↔ zebra\n" in text
    assert rows(text, "Training") == {"Data": "not described"}
    assert "Not stated by the author." in text
    assert "samples.png" not in text
    assert "None" not in text


def test_metadata() -> None:
    assert metadata(card(licence="cc-by-4.0")) == {
        "license": "cc-by-4.0",
        "library_name": "ugatit",
        "pipeline_tag": "image-to-image",
        "tags": ["u-gat-it", "image-to-image", "unpaired", "gan", "horse", "zebra"],
    }
    assert licence_of(card(licence="cc-by-4.0")) == "cc-by-4.0"
    assert "license" not in metadata(card())
    assert licence_of(card()) == ""
    odd = dataclasses.replace(tiny.LIGHT, domain_a="A", domain_b="Yes! [no]: __init__".replace(":", ""))
    assert metadata(card(config=odd))["tags"][4:] == ["yes-no-init"]


@pytest.mark.parametrize(
    ("text", "licence", "nothing"),
    [
        ("", "", True),
        ("\n \n", "", True),
        ("---\n---\n", "", True),
        ("---\ntags:\n- x\n---", "", True),
        ("---\nlicense: mit\n---\n", "mit", False),
        ("\ufeff---\r\nlicense: 'MIT'  # of ours\r\n---\r\nText", "MIT", False),
        ("---\ntags: []\nlicense: cc-by-4.0\n---\n# A\n---\nlicense: mit\n---\n", "cc-by-4.0", False),
        ("---\ntags: [a---b]\n---\nlicense: mit\n", "", False),
        ("---\nlicense_name: mit\nlicense:\n---\n# A\n", "", False),
        ("license: mit\n", "", False),
        ("---\nno end", "", False),
        ("# A", "", False),
    ],
)
def test_what_a_card_says(text: str, licence: str, nothing: bool) -> None:
    assert (licence_of(text), says_nothing(text)) == (licence, nothing)


def test_how_to_use_it() -> None:
    text = card(config=dataclasses.replace(HORSES, domain_a="wild horse"))
    assert "\nugatit translate PICTURES --model ada/horse2zebra -o out/\n" in text
    assert "\nugatit translate PICTURES --model ada/horse2zebra --to 'wild horse' -o out/\n" in text
    code = text.partition("```python\n")[2].partition("```")[0]
    compile(code, "card", "exec")
    assert 'ugatit_cli.load("ada/horse2zebra")' in code


def test_what_it_is() -> None:
    light = rows(card(), "The model")
    assert light["Weights"] == "float32, 10.6 MB, safetensors"
    assert light["Discriminators"] == "not included"
    assert not {"Attention", "Norm of the decoder"} & set(light)
    config = dataclasses.replace(tiny.FULL, decoder_norm="ln", generator_cam=False, dialect="tensorflow")
    full = rows(card(config=config, files=FILES | {"discriminators.safetensors": 12_345}), "The model")
    assert full["Discriminators"] == "included, 12.3 kB: for fine-tuning"
    assert {light["Variant"][:5], full["Variant"][:4]} == {"light", "full"}
    assert (light["Follows"], full["Follows"]) == ("the official PyTorch code", "the official TensorFlow code")
    assert full["Norm of the decoder"].startswith("ln")
    assert full["Attention"].startswith("none")
    # The paper's light model, as `sum(p.numel())` of both generators counts it.
    assert rows(card(config=ModelConfig()), "The model")["Parameters"] == "21.2 million in both generators"


def test_training_of_a_run() -> None:
    training: dict[str, Any] = {"recipe": preset("default"), "precision": "bf16", "planned": 100_000}
    told = {"pictures": "9 horse, 7 zebra", "notes": "a | b", "nothing": None, "deep": {"x": 1}}
    found = rows(card(TRAINED | told, **training, data="1,067 horses, 1,334 zebras"), "Training")
    assert found == {
        "Data": "1,067 horses, 1,334 zebras",
        "Pictures": "9 horse, 7 zebra",
        "notes": r"a \| b",
        "Recipe": "`default` of `ugatit train`",
        "Steps": "5,000 of 100,000 planned",
        "Batch size": "4",
        "Learning rate": "0.0002, falling to 0 over the last 50% of the training",
        "Weights of the losses": "adversarial 1, cycle 10, identity 10, CAM 1000",
        "Moving average": "of the generators, 0.999 per step",
        "Precision": "bfloat16 products",
    }
    recipe = dataclasses.replace(preset("paper"), decay_from=1.0, augment="on")
    found = rows(card(TRAINED, recipe=recipe, planned=5000), "Training")
    assert (found["Steps"], found["Learning rate"], found["Precision"]) == ("5,000", "0.0001", "float32")
    assert "Moving average" not in found
    best = rows(card(TRAINED | {"generators": "current"}, **training), "Training")
    assert "Moving average" not in best
    assert "Augmentation" in found


def test_a_model_without_attention_and_global_discriminators() -> None:
    blind = dataclasses.replace(HORSES, generator_cam=False, discriminator_cam=False, discriminators="local")
    text = card(TRAINED, blind, recipe=preset("cyclegan"), planned=5000)
    assert rows(text, "Training")["Weights of the losses"] == "adversarial 1, cycle 10, identity 5"
    assert rows(text, "The model")["Discriminators"] == "not included; local ones alone, without attention"
    half = rows(card(config=dataclasses.replace(blind, discriminators="both")), "The model")
    assert half["Discriminators"] == "not included; without attention"


@pytest.mark.parametrize(
    ("start", "shown"),
    [
        ("flat2clay", "flat2clay"),
        ("ada/horse2zebra@v1", "ada/horse2zebra@v1"),
        ("/home/ada/secret/runs/horses/model", "horses"),
        ("/home/ada/secret/flat2clay", "flat2clay"),
        ("C:\\Users\\ada\\flat2clay", "flat2clay"),
        ("~/models/mine", "mine"),
        ("/model", "a model"),
        ("/home/ada/runs/horses/best", "horses (best)"),
        ("/best", "best"),
    ],
)
def test_started_from_tells_nothing_of_the_machine(start: str, shown: str) -> None:
    assert rows(card(TRAINED | {"started from": start}), "Training")["Started from"] == f"`{shown}`"


def test_the_samples_of_a_run_are_explained() -> None:
    text = card(files=FILES | {"samples.png": 5}, samples_step=1234)
    assert "![Samples: horse to zebra, and back](samples.png)" in text
    assert "after 1,234 training steps" in text
    assert "above horse → zebra, below zebra → horse" in text
    assert "(attention)" in text
    blind = dataclasses.replace(HORSES, generator_cam=False)
    assert "attention" not in card(config=blind, files=FILES | {"samples.png": 5}, samples_step=1234)
    assert "From left to right" not in card(files=FILES | {"samples.png": 5})


def test_an_import_says_where_it_comes_from() -> None:
    origin = {
        "imported_from": "model-1.data",
        "code": "official TensorFlow code",
        "sha256": "ab" * 32,
        "repository": "hylee/UGATIT_model",
        "commit": "c" * 40,
    }
    text = card(origin)
    assert "from the checkpoint `model-1.data` of the official TensorFlow code." in text
    assert f"It comes from `hylee/UGATIT_model` on the Hub, commit `{'c' * 40}`." in text
    assert f"Its SHA-256 is `{'ab' * 32}`." in text
    assert rows(text, "Training") == {"Data": "not described"}
    assert "on the Hub, commit" not in card({"imported_from": "x.pt"})


@pytest.mark.parametrize(
    ("kid", "expected"),
    [
        (0.0123, {"KID x100": "1.23"}),
        ({"a2b": 0.015, "b2a": 0.02}, {"horse → zebra": "1.5", "zebra → horse": "2"}),
        ({"a2b": 0.015, "b2a": None}, {"horse → zebra": "1.5"}),
        (None, {}),
        ({}, {}),
        ("good", {}),
        (float("nan"), {}),
        (True, {}),
    ],
)
def test_kid(kid: object, expected: dict[str, str]) -> None:
    text = card(evaluation={"kid": kid, "extractor": "an Inception"})
    assert rows(text, "Evaluation") == expected
    assert ("Evaluation" in text) == bool(expected)


def test_kid_tells_its_protocol() -> None:
    assert "(KID x100), lower" in card(evaluation={"kid": 0.1})
    protocol = {
        "extractor": "an Inception, Mixed_6c",
        "subsets": "100 of 25 pictures",
        "held-out pictures": "50 horse, 50 zebra (3fa1c0de)",
        "generators": "current",
    }
    text = card(TRAINED | protocol, evaluation={"kid": 0.1, **protocol, "step": 5})
    assert "(KID x100), by an Inception, Mixed\\_6c, lower" in text
    assert rows(text, "Evaluation") == {
        "KID x100": "10",
        "Generators": "current",
        "Held-out pictures": "50 horse, 50 zebra (3fa1c0de)",
        "Subsets": "100 of 25 pictures",
    }
    assert not {*protocol, "Generators"} & set(rows(text, "Training"))


def test_what_the_folder_says_of_itself() -> None:
    told = {"description": "Horses\nto zebras", "training_data": "ImageNet"}
    model = ModelFolder(Path("m"), HORSES, told)
    assert "\n\nHorses to zebras.\n\n" in card(told)
    assert rows(card(told), "Training")["Data"] == "ImageNet"
    assert (summary(model, ""), training_data(model, "")) == ("Horses to zebras", "ImageNet")
    odd = ModelFolder(Path("m"), HORSES, {"description": "a\x07b\ud800c\u2028d"})
    assert summary(odd, "") == "a b c d"
    assert "\n\na b c d.\n\n" in card(dict(odd.provenance) | {"notes": "\ud800"})
    assert (summary(model, "Mine!"), training_data(model, "mine")) == ("Mine!", "mine")
    assert "\n\nMine!\n\n" in card(told, description="Mine!")
    silent = ModelFolder(Path("m"), HORSES, {"description": 5})
    assert (summary(silent, ""), training_data(silent, "")) == ("horse to zebra, and back", "not described")


def test_foreign_text_stays_text() -> None:
    assert escaped("a_b *c* [d](e) <f> | `g` #") == r"a\_b \*c\* \[d\](e) \<f\> \| \`g\` \#"
    assert escaped("see https://a.org/x_y.") == "see <https://a.org/x_y>."
    assert escaped("x](javascript\n\nx") == r"x\](javascript x"
    evil = {"imported_from": "a`b\n## Owned\n|", "recipe": "x` | `y", "steps": "many"}
    text = card(evil | {"training_data": "---\nlicense: mit\n---"}, licence="mit")
    assert "Owned" not in headings(text)
    assert rows(text, "Training")["Recipe"] == r"x\` \| \`y of `ugatit train`"
    assert "Steps" not in rows(text, "Training")


NAMES = st.text("ab1 #*_`[](){}<>|&$~-+=!?.;'\"é日", min_size=1).map(str.strip).filter(bool)


@given(NAMES, NAMES, st.text())
def test_any_names_give_a_page_with_the_same_sections(a: str, b: str, said: str) -> None:
    assume(a.casefold() != b.casefold())
    config = dataclasses.replace(tiny.LIGHT, domain_a=a, domain_b=b)
    text = card({"imported_from": said, "notes": said, "description": said}, config=config)
    known = ["How to use it", "The model", "Training", "Limits", "Licence", "Citation"]
    origin = ["Where the weights come from"] if escaped(said) else []
    assert headings(text) == known[:3] + origin + known[3:]
    assert metadata(text)["library_name"] == "ugatit"
    assert len([line for line in text.splitlines() if line.startswith("```")]) == 6
