"""DRIT (Lee et al., ECCV 2018): content codes that both domains share, and styles, drawn or taken from a picture.

Numbers are those of the authors' code in its form of 2018 (`--no_ms`), with which comparisons are made; mode seeking
(DRIT++, 2019) is `mode_seeking_weight`. Biases before an instance norm are left out: of 9,018,112 parameters the
content encoders keep 9,013,760, of 9,564,710 the generators 9,561,030, of 17,146,374 (feature transform) 17,142,278.

Content codes of pictures below 212 pixels are too small for the authors' content discriminator. There it has fewer
strided layers: as many as leave it an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ugatit_cli.config import BaseConfig, Direction
from ugatit_cli.device import Group
from ugatit_cli.methods.base import SOURCE, TARGET, Method, Official, OfficialSettings, States, Step, Term
from ugatit_cli.methods.drit_config import DRITConfig
from ugatit_cli.methods.drit_networks import (
    AttributeEncoder,
    ConcatGenerator,
    ContentDiscriminator,
    ContentEncoder,
    DomainDiscriminator,
    Nothing,
    SharedBlock,
    StyleEncoder,
    TransformGenerator,
    Translator,
)
from ugatit_cli.methods.drit_official import read_drit
from ugatit_cli.methods.drit_step import DRITStep, drit_terms
from ugatit_cli.methods.networks import Networks
from ugatit_cli.methods.recipe import COMMON, Recipe, RecipeName
from ugatit_cli.nn.layers import Network

EPOCHS = 1200


class DRIT(Method):
    """DRIT: what pictures show and how they look are told apart."""

    name = "drit"
    title = "DRIT"
    source = "Lee et al., ECCV 2018"
    url = "https://arxiv.org/abs/1808.00948"
    citation = """@inproceedings{lee2018diverse,
  title     = {Diverse Image-to-Image Translation via Disentangled Representations},
  author    = {Hsin-Ying Lee and Hung-Yu Tseng and Jia-Bin Huang and Maneesh Kumar Singh and Ming-Hsuan Yang},
  booktitle = {European Conference on Computer Vision},
  year      = {2018},
  url       = {https://arxiv.org/abs/1808.00948}
}"""
    config = DRITConfig
    settings = COMMON | {
        *("epochs", "epoch_decay", "ends_after", "margin", "bicubic", "order"),
        *("cycle_weight", "reconstruction_weight", "style_weight", "kl_weight", "mode_seeking_weight"),
    }
    # 500,000 updates of everything, which every third step is.
    paper_iterations = most_iterations = 1_500_000
    batch = 2

    def recipe(self, name: RecipeName) -> Recipe:
        """`paper` is the authors' training; `default` adds U-GAT-IT's moving average and augmentation to it."""
        authors: dict[str, Any] = {"batch_size": 2, "learning_rate": 1e-4, "style_weight": 10.0}
        if name == "paper":
            plain: dict[str, Any] = {"ema": 0.0, "augment": "off", "fit": "squash", "margin": 40, "bicubic": True}
            return Recipe("paper", **authors, **plain, epochs=EPOCHS, epoch_decay="drit", order="drawn-smaller")
        return Recipe(**authors)

    def translators(self, config: BaseConfig) -> dict[str, Network]:
        """The parts that the directions take, with what tells the styles of their targets."""
        assert isinstance(config, DRITConfig)
        concat = config.style_way == "concat"
        kinds: dict[str, type[Network]] = {
            "shared.generator": SharedBlock if concat else Nothing,
            "shared.content": SharedBlock,
            "content": ContentEncoder,
            "attribute": AttributeEncoder if concat else StyleEncoder,
            "generator": ConcatGenerator if concat else TransformGenerator,
        }
        names = {
            one
            for direction in config.directions
            for one in (*self.needed(direction), *self.style_networks(direction))
        }
        return {name: kinds[name if name in kinds else name.partition(".")[2]](config) for name in sorted(names)}

    def critics(self, config: BaseConfig) -> dict[str, Network]:
        """Two discriminators of each domain that directions lead to, and that of content codes."""
        assert isinstance(config, DRITConfig)
        names = [f"{TARGET[direction]}.{kind}" for direction in config.directions for kind in ("encoded", "random")]
        return {name: DomainDiscriminator(config) for name in names} | {"shared.codes": ContentDiscriminator(config)}

    def needed(self, direction: Direction) -> tuple[str, ...]:
        """The source's content encoder, the target's generator, and what both domains share."""
        return (
            f"{SOURCE[direction]}.content",
            "shared.content",
            "shared.generator",
            f"{TARGET[direction]}.generator",
        )

    def translator(self, networks: Mapping[str, Network], direction: Direction) -> Network:
        """See `Translator`."""
        return Translator(*(networks[name] for name in self.needed(direction)))

    def style_networks(self, direction: Direction) -> tuple[str, ...]:
        """The target's attribute encoder."""
        return (f"{TARGET[direction]}.attribute",)

    def style_encoder(self, networks: Mapping[str, Network], direction: Direction) -> Network:
        """The target's attribute encoder: of a distribution, it gives the mean."""
        return networks[f"{TARGET[direction]}.attribute"]

    def terms(self, config: BaseConfig, recipe: Recipe) -> tuple[Term, ...]:
        """What generators learn from, then what the discriminators are about."""
        assert isinstance(config, DRITConfig)
        return tuple(drit_terms(config, recipe))

    def step(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> Step:
        """See `DRITStep`."""
        return DRITStep(networks, recipe, seed=seed, group=group)

    def official(self, states: States, settings: OfficialSettings) -> Official | None:
        """The authors' checkpoint; see `read_drit`."""
        return read_drit(states, settings)
