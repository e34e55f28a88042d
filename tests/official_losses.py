"""What the official code calls the losses of a training step."""

from __future__ import annotations

from ugatit_cli.config import DOMAINS

# Ours by the official name; sums are of one domain, weighted.
NAMES: dict[str, str] = {}
for domain in DOMAINS:
    big = domain.upper()
    for scale, letter in (("global", "G"), ("local", "L")):
        for phase in "DG":
            NAMES[f"{phase}_ad_loss_{letter}{big}"] = f"{phase.lower()}_{scale}_{domain}"
            NAMES[f"{phase}_ad_cam_loss_{letter}{big}"] = f"{phase.lower()}_{scale}_{domain}_cam"
    NAMES[f"G_recon_loss_{big}"] = f"cycle_{domain}"
    NAMES[f"G_identity_loss_{big}"] = f"identity_{domain}"
    NAMES[f"G_cam_loss_{big}"] = f"cam_{domain}"
    NAMES[f"D_loss_{big}"] = f"d_{domain}"
    NAMES[f"G_loss_{big}"] = f"g_{domain}"
TOTALS = {"Discriminator_loss": ("d_a", "d_b"), "Generator_loss": ("g_a", "g_b")}


def official(losses: dict[str, float]) -> dict[str, float]:
    """Our losses by the official names, the totals of both domains among them."""
    named = {theirs: losses[ours] for theirs, ours in NAMES.items()}
    return named | {total: losses[a] + losses[b] for total, (a, b) in TOTALS.items()}
