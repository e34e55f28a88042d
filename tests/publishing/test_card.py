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
from ugatit_cli.config import BaseConfig, ModelConfig
from ugatit_cli.data.pictures import Folders
from ugatit_cli.methods.recipe import RecipeName
from ugatit_cli.methods.registry import method, method_of
from ugatit_cli.publishing.card import Options, escaped, model_card, says_nothing, summary, training_data
from ugatit_cli.training.settings import Settings
from ugatit_cli.weights.folder import ModelFolder, open_model
from ugatit_cli.weights.known import licence_of

HORSES = dataclasses.replace(tiny.LIGHT, domain_a="horse", domain_b="zebra")
BLIND = dataclasses.replace(HORSES, generator_cam=False, discriminator_cam=False, discriminators="local")
SECTIONS = ["How to use it", "The model", "Training", "Limits", "Licence", "Citation"]
TRAINED = {"trained with": "ugatit train", "recipe": "default", "steps": 5000, "batch size": 4}


class Cards:
    """Writes cards of one model as if it had another config and provenance."""

    def __init__(self, model: ModelFolder) -> None:
        self.model = model

    def __call__(self, provenance: dict[str, Any] | None = None, config: BaseConfig = HORSES, **known: Any) -> str:
        said = {name: known.pop(name) for name in ("licence", "data", "description") if name in known}
        model = dataclasses.replace(self.model, config=config, provenance=provenance or {})
        return model_card(model, "ada/horse2zebra", Options(**said), **known)


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Cards:
    return Cards(open_model(tiny.save(tmp_path_factory.mktemp("plain") / "model")))


@pytest.fixture(scope="module")
def full_card(tmp_path_factory: pytest.TempPathFactory) -> Cards:
    """Of a model with discriminators and samples."""
    folder = tiny.save(tmp_path_factory.mktemp("full") / "model", discriminators=True)
    (folder / "samples.png").write_bytes(b"a picture")
    return Cards(open_model(folder))


def settings(recipe: RecipeName, config: BaseConfig = HORSES, iterations: int = 5000, **changes: Any) -> Settings:
    return Settings(
        model=config,
        recipe=dataclasses.replace(method_of(config).recipe(recipe), **changes),
        folders=Folders(Path("a"), Path("b")),
        precision="bf16",
        checkpointing=False,
        iterations=iterations,
    )


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


def test_a_plain_model_has_no_empty_sections(card: Cards) -> None:
    text = card()
    assert headings(text) == SECTIONS
    assert rows(text, "Training") == {"Data": "not described"}
    assert "samples.png" not in text
    assert "None" not in text
    assert "license" not in metadata(text)
    assert licence_of(text) == ""


@pytest.mark.parametrize(
    ("own", "said", "words"),
    [
        ("CC-BY 4.0, see NOTICE", "", "CC-BY 4.0, see NOTICE"),
        ("CC-BY 4.0", "mit", "`mit`, for the weights"),
        ("not stated", "", "Not stated by the author"),
        (None, "", "Not stated by the author"),
    ],
)
def test_the_licence_is_the_users_word_or_the_models_own(card: Cards, own: str | None, said: str, words: str) -> None:
    text = card({"licence": own} if own else {}, licence=said)
    section = text.partition("## Licence\n")[2].partition("\n## ")[0]
    assert words in section
    assert ("Not stated" in section) == words.startswith("Not stated")


def test_metadata(card: Cards) -> None:
    text = card(licence="cc-by-4.0")
    found = metadata(text)
    assert (found["license"], found["library_name"], found["pipeline_tag"]) == (
        "cc-by-4.0",
        "ugatit",
        "image-to-image",
    )
    assert found["tags"][4:] == ["horse", "zebra"]
    assert licence_of(text) == "cc-by-4.0"
    odd = dataclasses.replace(tiny.LIGHT, domain_a="A", domain_b="Yes! [no] __init__")
    assert metadata(card(config=odd))["tags"][4:] == ["yes-no-init"]


@pytest.mark.parametrize(
    ("text", "licence", "nothing"),
    [
        ("", "", True),
        ("\n \n", "", True),
        ("---\ntags:\n- x\n---", "", True),
        ("\ufeff---\r\nlicense: 'MIT'  # of ours\r\n---\r\nText", "MIT", False),
        ("---\ntags: []\nlicense: cc-by-4.0\n---\n# A\n---\nlicense: mit\n---\n", "cc-by-4.0", False),
        ("---\nlicense_name: mit\nlicense:\n---\n# A\n", "", False),
        ("license: mit\n", "", False),
    ],
)
def test_what_a_card_says(text: str, licence: str, nothing: bool) -> None:
    assert (licence_of(text), says_nothing(text)) == (licence, nothing)


def test_how_to_use_it(card: Cards) -> None:
    text = card(config=dataclasses.replace(HORSES, domain_a="wild horse"))
    assert "\nugatit translate PICTURES --model ada/horse2zebra -o out/\n" in text
    assert "\nugatit translate PICTURES --model ada/horse2zebra --to 'wild horse' -o out/\n" in text
    code = text.partition("```python\n")[2].partition("```")[0]
    compile(code, "card", "exec")
    assert 'ugatit_cli.load("ada/horse2zebra")' in code


def test_what_it_is(card: Cards, full_card: Cards) -> None:
    config = dataclasses.replace(tiny.FULL, decoder_norm="ln", generator_cam=False, dialect="tensorflow")
    light, full = rows(card(), "The model"), rows(full_card(config=config), "The model")
    assert re.fullmatch(r"float32, [\d.]+ kB, safetensors", light["Weights"])
    assert set(full) - set(light) == {"Attention", "Norm of the decoder"}
    assert (light["Variant"][:5], full["Variant"][:4]) == ("light", "full")
    assert ("PyTorch" in light["Follows"], "TensorFlow" in full["Follows"]) == (True, True)
    # The paper's light model, as `sum(p.numel())` of both generators counts it.
    assert rows(card(config=ModelConfig()), "The model")["Parameters"] == "21.2 million in both generators"
    assert light["Discriminators"] == "not included"
    assert re.fullmatch(r"included, [\d.]+ kB: for fine-tuning", rows(full_card(), "The model")["Discriminators"])
    blind = rows(card(config=BLIND), "The model")
    assert blind["Discriminators"] == "not included; local ones alone, without attention"
    half = rows(card(config=dataclasses.replace(BLIND, discriminators="both")), "The model")
    assert half["Discriminators"] == "not included; without attention"


def test_training_of_a_run(card: Cards) -> None:
    told = {"pictures": "9 horse, 7 zebra", "notes": "a | b", "nothing": None, "deep": {"x": 1}}
    trained = settings("default", iterations=100_000)
    assert rows(card(TRAINED | told, settings=trained, data="1,067 horses"), "Training") == {
        "Data": "1,067 horses",
        "Pictures": "9 horse, 7 zebra",
        "notes": r"a \| b",
        "Recipe": "`default` of `ugatit train`",
        "Steps": "5,000 of 100,000 planned",
        "Batch size": "4",
        "Learning rate": "0.0001, falling to 0 over the last 50% of the training",
        "Warm-up": "5% of the training that teach to copy pictures",
        "Weights of the losses": "adversarial 1, cycle 5, identity 1, CAM 5, feature 1, judge 0.2",
        "Moving average": "of the generators, 0.999 per step",
        "Precision": "bfloat16 products",
    }
    assert "Moving average" not in rows(card(TRAINED | {"generators": "current"}, settings=trained), "Training")
    found = rows(card(TRAINED, settings=settings("paper", decay_from=1.0, augment="on")), "Training")
    assert (found["Steps"], found["Learning rate"]) == ("5,000", "0.0001")
    assert ("Moving average" in found, "Augmentation" in found) == (False, True)
    text = card(TRAINED, BLIND, settings=settings("default", BLIND))
    assert (
        rows(text, "Training")["Weights of the losses"] == "adversarial 1, cycle 5, identity 1, feature 1, judge 0.2"
    )


def test_each_method_speaks_for_itself(tmp_path: Path) -> None:
    both = "adversarial 1, cycle 10, identity 5"
    cases: list[tuple[BaseConfig, str, str, str]] = [
        (tiny.CYCLEGAN, "# flat ↔ clay", both, "CycleGAN"),
        (tiny.CARTOONGAN, "# flat → clay", "adversarial 1, content 10", "CartoonGAN"),
    ]
    for config, title, losses, called in cases:
        card, name = Cards(open_model(tiny.save(tmp_path / called, config))), config.method
        text = card(TRAINED, config, settings=settings("default", config))
        assert headings(text) == SECTIONS
        assert title in text.splitlines()
        assert metadata(text)["tags"][0] == name
        found, training = rows(text, "The model"), rows(text, "Training")
        sizes = ["Image size in training", "Channels", "Residual blocks", "Parameters", "Weights", "Discriminators"]
        assert list(found) == ["Method", *sizes]
        assert found["Method"].startswith(f"{called}, ")
        assert training["Weights of the losses"] == losses
        assert training["Recipe"] == f"`default` of `ugatit train --method {name}`"
        assert ("Pool" in training, "Warm-up" in training) == (name == "cyclegan", name == "cartoongan")
        for word in ("U-GAT-IT", "attention", "None", "Undefined", " |  |"):
            assert word not in text
        assert "@inproceedings{" in text.partition("## Citation\n")[2]


@pytest.mark.parametrize(
    ("name", "recipe", "changes", "rate", "losses"),
    [
        ("drit", "default", {}, ", falling to 0 over the last 50% of the training", "style 10, KL 0.01"),
        ("drit", "default", {"mode_seeking_weight": 1.0}, "", "KL 0.01, mode seeking 1"),
        ("drit", "paper", {"ends_after": 0.75}, ", falling to 50% of that over the last 33% of the training", ""),
        ("cyclegan", "paper", {}, "over the last 50% of the training, from epoch to epoch", ""),
        ("unit", "paper", {}, "0.0001, halved every 100,000 steps", "reconstruction 10, KL 0.01"),
    ],
)
def test_learning_rates_and_losses_are_those_of_the_method(
    card: Cards, name: str, recipe: RecipeName, changes: dict[str, Any], rate: str, losses: str
) -> None:
    config = method(name).config()
    training = rows(card(TRAINED, config, settings=settings(recipe, config, **changes)), "Training")
    assert rate in training["Learning rate"]
    assert training["Weights of the losses"].endswith(losses)


def test_one_way_is_all_that_a_card_speaks_of(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model", tiny.ONE_WAY, discriminators=True)
    (folder / "samples.png").write_bytes(b"a picture")
    card = Cards(open_model(folder))
    text = card(TRAINED, tiny.ONE_WAY, samples_step=100, evaluation={"kid": {"a2b": 0.01}})
    assert "# flat → clay" in text.splitlines()
    for word in ("back ", ", and back", "both ", "b2a", "clay → flat", "second", "identity)", "--to"):
        assert word not in text
    assert rows(text, "The model")["Parameters"].endswith(" million in the generator")
    assert rows(text, "Evaluation") == {"flat → clay": "1"}
    model = dataclasses.replace(card.model, config=tiny.ONE_WAY, provenance={})
    assert summary(model, "") == "flat to clay"


@pytest.mark.parametrize(
    ("start", "shown"),
    [
        ("flat2clay", "flat2clay"),
        ("ada/horse2zebra@v1", "ada/horse2zebra@v1"),
        ("/home/ada/secret/runs/horses/model", "horses"),
        ("C:\\Users\\ada\\flat2clay", "flat2clay"),
        ("~/models/mine", "mine"),
        ("/model", "a model"),
        ("/home/ada/runs/horses/best", "horses (best)"),
        ("/best", "best"),
    ],
)
def test_started_from_tells_nothing_of_the_machine(card: Cards, start: str, shown: str) -> None:
    assert rows(card(TRAINED | {"started from": start}), "Training")["Started from"] == f"`{shown}`"


def test_samples(full_card: Cards) -> None:
    assert "](samples.png)" in full_card()
    assert "training steps" not in full_card()  # a picture of the user's own
    text = full_card(samples_step=1234)
    assert "1,234 training steps" in text
    assert "(attention)" in text
    assert "--style" not in text
    assert "attention" not in full_card(config=BLIND, samples_step=1234).partition("## ")[0]


def test_styles(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model", tiny.MUNIT)
    (folder / "samples.png").write_bytes(b"a picture")
    text = Cards(open_model(folder))(config=tiny.MUNIT, samples_step=1234)
    assert "--styles 5" in text
    assert "--style PICTURE" in text
    assert "four random styles" in text
    assert "identity" not in text


def test_an_import_says_where_it_comes_from(card: Cards) -> None:
    origin = {
        "imported_from": "model-1.data",
        "code": "official TensorFlow code",
        "sha256": "ab" * 32,
        "repository": "hylee/UGATIT_model",
        "commit": "c" * 40,
    }
    text = card(origin)
    for value in origin.values():
        assert value in text.partition("## Where the weights come from")[2].partition("\n## ")[0]
    assert rows(text, "Training") == {"Data": "not described"}
    assert "on the Hub, commit" not in card({"imported_from": "x.pt"})


@pytest.mark.parametrize(
    ("kid", "expected"),
    [
        (0.0123, {"KID x100": "1.23"}),
        ({"a2b": 0.015, "b2a": 0.02}, {"horse → zebra": "1.5", "zebra → horse": "2"}),
        ({"a2b": 0.015, "b2a": None}, {"horse → zebra": "1.5"}),
        ("good", {}),
        (float("nan"), {}),
    ],
)
def test_kid(card: Cards, kid: object, expected: dict[str, str]) -> None:
    text = card(evaluation={"kid": kid, "extractor": "an Inception"})
    assert rows(text, "Evaluation") == expected
    assert ("Evaluation" in text) == bool(expected)


def test_what_the_folder_says_of_itself(card: Cards) -> None:
    told = {"description": "Horses\nto zebras", "training_data": "ImageNet"}
    assert "\n\nHorses to zebras.\n\n" in card(told)
    assert rows(card(told), "Training")["Data"] == "ImageNet"
    assert "\n\nMine!\n\n" in card(told, description="Mine!")
    model = dataclasses.replace(card.model, config=HORSES, provenance=told)
    assert (summary(model, ""), training_data(model, "")) == ("Horses to zebras", "ImageNet")
    assert (summary(model, "Mine!"), training_data(model, "mine")) == ("Mine!", "mine")
    odd = dataclasses.replace(model, provenance={"description": "a\x07b\ud800c\u2028d"})
    assert summary(odd, "") == "a b c d"
    silent = dataclasses.replace(model, provenance={"description": 5})
    assert (summary(silent, ""), training_data(silent, "")) == ("horse to zebra, and back", "not described")


def test_foreign_text_stays_text(card: Cards) -> None:
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
def test_any_names_give_a_page_with_the_same_sections(card: Cards, a: str, b: str, said: str) -> None:
    assume(a.casefold() != b.casefold())
    config = dataclasses.replace(tiny.LIGHT, domain_a=a, domain_b=b)
    text = card({"imported_from": said, "notes": said, "description": said}, config=config)
    origin = ["Where the weights come from"] if escaped(said) else []
    assert headings(text) == SECTIONS[:3] + origin + SECTIONS[3:]
    assert metadata(text)["library_name"] == "ugatit"
    assert len([line for line in text.splitlines() if line.startswith("```")]) == 6
