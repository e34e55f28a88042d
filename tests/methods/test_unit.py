"""UNIT against recorded outputs and steps of the authors' code."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from tests.methods.codes import assert_close, assert_two_steps, decoded, golden, networks_of, official, states_of
from ugatit_cli.methods.unit import UNIT

METHOD = UNIT()
PAPER = METHOD.recipe("paper")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-5), (torch.float64, 1e-6)])
def test_outputs_are_the_authors(dtype: torch.dtype, tolerance: float) -> None:
    networks = networks_of(METHOD, official("unit", states_of(golden("unit", "weights"))), dtype)
    io = golden("unit", "io")
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            code = networks.translators["a.encoder"](decoded(io["x_u8"], dtype))
            found = {
                "a.mean": code,
                "b.decode": networks.translators["b.decoder"](code).image,
                "b.decode_first_alone": networks.translators["b.decoder"](code[:1]).image,
            }
            scores = networks.critics["a"](decoded(io["x_u8"], dtype))
            found |= {f"dis_a.{i}": one for i, one in enumerate(scores)}
            assert_close(found, {name: io[name] for name in io if name != "x_u8"}, tolerance)
            image = METHOD.translator(networks.translators, "a2b")(decoded(io["x_u8"], dtype)).image
            assert torch.equal(image, found["b.decode"])


def authors_terms(losses: Mapping[str, float]) -> dict[str, float]:
    """Our losses by the authors' names: theirs are sums over a discriminator's three scales."""
    terms: dict[str, float] = {}
    for domain, there_and_back in (("a", "aba"), ("b", "bab")):
        terms |= {
            f"loss_dis_{domain}": 3 * losses[f"d_patch_{domain}"],
            f"loss_gen_adv_{domain}": 3 * losses[f"g_patch_{domain}"],
            f"loss_gen_recon_x_{domain}": losses[f"reconstruction_{domain}"],
            f"loss_gen_recon_kl_{domain}": losses[f"kl_{domain}"],
            f"loss_gen_cyc_x_{domain}": losses[f"cycle_{domain}"],
            f"loss_gen_recon_kl_cyc_{there_and_back}": losses[f"kl_cycle_{domain}"],
        }
    return terms


def test_two_steps_are_the_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = ("dis.n_a", "dis.n_b", "gen.n_a", "gen.n_b", "gen.n_b_recon", "gen.n_a_recon")
    assert_two_steps("unit", monkeypatch, draws, authors_terms)
