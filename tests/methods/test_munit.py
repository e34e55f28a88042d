"""MUNIT against recorded outputs and steps of the authors' code, and its styles."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from tests.methods.codes import assert_close, assert_two_steps, decoded, golden, networks_of, official, states_of
from ugatit_cli.methods.munit import MUNIT

METHOD = MUNIT()
PAPER = METHOD.recipe("paper")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-5), (torch.float64, 1e-6)])
def test_outputs_are_the_authors(dtype: torch.dtype, tolerance: float) -> None:
    networks = networks_of(METHOD, official("munit", states_of(golden("munit", "weights"))), dtype)
    io, parts = golden("munit", "io"), networks.translators
    z = io["z"].flatten(1)
    x = decoded(io["x_u8"], dtype)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            content, style = parts["a.encoder"](x), parts["a.style"](x)
            found = {
                "a.content": content,
                "a.style": style[:, :, None, None],
                "a.mlp": parts["a.decoder"].norms(z.to(dtype)),
                "a.recon": parts["a.decoder"](content, style).image,
                "b.decode": parts["b.decoder"](content, z.to(dtype)).image,
                "b.decode_first_alone": parts["b.decoder"](content[:1], z[:1].to(dtype)).image,
            }
            found |= {f"dis_a.{i}": one for i, one in enumerate(networks.critics["a"](x))}
            assert_close(found, {name: io[name] for name in io if name not in ("x_u8", "z")}, tolerance)
            image = METHOD.translator(parts, "a2b")(x, z).image
            torch.testing.assert_close(image, found["b.decode"], rtol=0, atol=tolerance)


def authors_terms(losses: Mapping[str, float]) -> dict[str, float]:
    """Our losses by the authors' names: theirs are sums over a discriminator's three scales."""
    terms: dict[str, float] = {}
    for domain in "ab":
        terms |= {
            f"loss_dis_{domain}": 3 * losses[f"d_patch_{domain}"],
            f"loss_gen_adv_{domain}": 3 * losses[f"g_patch_{domain}"],
            f"loss_gen_recon_x_{domain}": losses[f"reconstruction_{domain}"],
            f"loss_gen_recon_c_{domain}": losses[f"content_{domain}"],
            f"loss_gen_recon_s_{domain}": losses[f"style_{domain}"],
            f"loss_gen_cycrecon_x_{domain}": losses[f"cycle_{domain}"],
        }
    return terms


def test_two_steps_are_the_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_two_steps("munit", monkeypatch, ("dis.s_a", "dis.s_b", "gen.s_a", "gen.s_b"), authors_terms)
