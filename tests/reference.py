"""U-GAT-IT as the official codes compute it, step by step, on the weights of our modules.

Nothing here calls our forward code, so it is the reference for tests and the "plain" side of the benchmark: eager
float32, contiguous NCHW, the official PyTorch code's order of operations, and the TensorFlow code's where it differs.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ugatit_cli.config import ModelConfig
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import Generator

EPS = 1e-5

Weights = dict[str, Tensor]
Module = TypeVar("Module", bound=nn.Module)


class ReferenceOutput(NamedTuple):
    """Image or patch scores, CAM logits and heatmap; the last two are None without CAM."""

    result: Tensor
    cam_logit: Tensor | None
    heatmap: Tensor | None


def weights_of(module: nn.Module) -> Weights:
    """Parameters and buffers by name, still attached to the graph."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@torch.no_grad()
def randomize(module: Module, seed: int) -> Module:
    """Weights of a trained model's magnitude: with the initial N(0, 0.02) most layers hardly matter."""
    source = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=source)
        if name.endswith("rho"):
            parameter.copy_(torch.rand(parameter.shape, generator=source))
        elif name.endswith(("norm.gamma", "norm1.gamma", "norm2.gamma")):
            parameter.copy_(1 + 0.3 * noise)
        elif parameter.ndim == 1:
            parameter.copy_(0.3 * noise)
        else:
            parameter.copy_(noise * math.sqrt(2 / parameter[0].numel()))
    return module


def reference_generator(generator: Generator, config: ModelConfig, x: Tensor) -> ReferenceOutput:
    """The official generator's forward pass.

    Args:
        generator: where the weights come from, float32.
        x: (N, 3, H, W) in [-1, 1].
    """
    w = weights_of(generator)
    tensorflow = config.dialect == "tensorflow"
    # DownBlock: 7x7 and two strided convolutions, then residual blocks, all with instance norm.
    x = F.relu(_instance_norm(_conv(x, w, "stem.conv", (3, 3, 3, 3)), w, "stem.norm"), inplace=True)
    for i in range(2):
        pad = (1, 0, 1, 0) if tensorflow else (1, 1, 1, 1)
        x = _conv(x, w, f"down.{i}.conv", pad, stride=2)
        x = F.relu(_instance_norm(x, w, f"down.{i}.norm"), inplace=True)
    for i in range(config.blocks):
        block = f"encoder.{i}"
        y = _conv(x, w, f"{block}.first.conv")
        y = F.relu(_instance_norm(y, w, f"{block}.first.norm"), inplace=True)
        x = x + _instance_norm(_conv(y, w, f"{block}.conv"), w, f"{block}.norm")
    cam_logit = heatmap = None
    if config.generator_cam:
        x, cam_logit = _cam(x, w, tensorflow=tensorflow)
        x = F.relu(x, inplace=True)
        heatmap = torch.sum(x, dim=1, keepdim=True)
    gamma = beta = None
    if config.decoder_norm in ("adalin", "adain"):
        gamma, beta = _style(x, w, config)
    for i in range(config.blocks):
        block = f"decoder.{i}"
        y = F.relu(
            _decoder_norm(_conv(x, w, f"{block}.conv1"), w, f"{block}.norm1", config, gamma, beta), inplace=True
        )
        x = _decoder_norm(_conv(y, w, f"{block}.conv2"), w, f"{block}.norm2", config, gamma, beta) + x
    for i in range(2):
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = F.relu(_decoder_norm(_conv(x, w, f"up.{i}.conv"), w, f"up.{i}.norm", config), inplace=True)
    return ReferenceOutput(torch.tanh(_conv(x, w, "to_rgb", (3, 3, 3, 3))), cam_logit, heatmap)


def reference_discriminator(
    discriminator: Discriminator, config: ModelConfig, x: Tensor, *, iterate: bool = False
) -> ReferenceOutput:
    """The official discriminator's forward pass.

    Args:
        discriminator: where the weights and the power iteration's u and v come from; nothing in it changes.
        x: (N, 3, H, W) in [-1, 1].
        iterate: one power iteration first, as in training mode.
    """
    w = weights_of(discriminator)
    tensorflow = config.dialect == "tensorflow"
    # The TensorFlow code splits kernel - stride = 3 as 1 before and 2 behind; at stride 2 both pad by 1.
    pad = (1, 2, 1, 2) if tensorflow else (1, 1, 1, 1)
    for name in [name.removesuffix(".norm.u") for name in w if name.endswith(".norm.u")]:
        w[f"{name}.original"] = w[f"{name}.weight"]
        w[f"{name}.weight"] = _spectral(w, name, iterate=iterate)
    last = sum(1 for name in w if name.startswith("layers.") and name.endswith(".bias")) - 1
    for i in range(last):
        x = F.leaky_relu(_conv(x, w, f"layers.{i}", stride=2), 0.2, inplace=True)
    x = F.leaky_relu(_conv(x, w, f"layers.{last}", pad), 0.2, inplace=True)
    cam_logit = heatmap = None
    if config.discriminator_cam:
        x, cam_logit = _cam(x, w, tensorflow=tensorflow)
        x = F.leaky_relu(x, 0.2, inplace=True)
        heatmap = torch.sum(x, dim=1, keepdim=True)
    return ReferenceOutput(_conv(x, w, "head", pad), cam_logit, heatmap)


def _conv(
    x: Tensor, w: Weights, name: str, pad: tuple[int, int, int, int] = (1, 1, 1, 1), *, stride: int = 1
) -> Tensor:
    x = F.pad(x, pad, mode="reflect")
    return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), stride=stride)


def _instance_norm(x: Tensor, w: Weights, name: str) -> Tensor:
    return F.instance_norm(x, weight=w.get(f"{name}.gamma"), bias=w.get(f"{name}.beta"), eps=EPS)


def _cam(x: Tensor, w: Weights, *, tensorflow: bool) -> tuple[Tensor, Tensor]:
    average = F.adaptive_avg_pool2d(x, 1).view(x.shape[0], -1)
    maximum = F.adaptive_max_pool2d(x, 1).view(x.shape[0], -1)
    if tensorflow:
        # One classifier for both; weight (as normalised) plus bias is the attention.
        weight, bias = w["cam.gap.weight"], w["cam.gap.bias"]
        gap_logit, gmp_logit = F.linear(average, weight, bias), F.linear(maximum, weight, bias)
        gap_attention = gmp_attention = weight + bias
    else:
        # Two classifiers; the attention is the parameter itself, before spectral norm.
        gap_logit, gmp_logit = F.linear(average, w["cam.gap.weight"]), F.linear(maximum, w["cam.gmp.weight"])
        gap_attention = w.get("cam.gap.original", w["cam.gap.weight"])
        gmp_attention = w.get("cam.gmp.original", w["cam.gmp.weight"])
    gap = x * gap_attention.unsqueeze(2).unsqueeze(3)
    gmp = x * gmp_attention.unsqueeze(2).unsqueeze(3)
    x = F.conv2d(torch.cat([gap, gmp], 1), w["cam.weight"], w["cam.bias"])
    return x, torch.cat([gap_logit, gmp_logit], 1)


def _style(x: Tensor, w: Weights, config: ModelConfig) -> tuple[Tensor, Tensor]:
    if config.variant == "light":
        x = F.adaptive_avg_pool2d(x, 1)
    # Full checkpoints of the TensorFlow code are brought into this order (channels first) by the importer.
    x = x.reshape(x.shape[0], -1)
    for name in ("hidden1", "hidden2"):
        x = F.relu(F.linear(x, w[f"style.{name}.weight"], w.get(f"style.{name}.bias")), inplace=True)
    gamma = F.linear(x, w["style.gamma.weight"], w.get("style.gamma.bias"))
    beta = F.linear(x, w["style.beta.weight"], w.get("style.beta.bias"))
    return gamma, beta


def _decoder_norm(
    x: Tensor, w: Weights, name: str, config: ModelConfig, gamma: Tensor | None = None, beta: Tensor | None = None
) -> Tensor:
    """AdaLIN with gamma and beta (N, C), else LIN; or the ablation norm."""
    adaptive = gamma is not None and beta is not None
    if gamma is None or beta is None:
        gamma, beta = w[f"{name}.gamma"].unsqueeze(0), w[f"{name}.beta"].unsqueeze(0)
    if config.decoder_norm == "gn":
        return plain_group_norm(x, math.gcd(32, x.shape[1]), gamma, beta)
    rho = w.get(f"{name}.rho", torch.tensor(0.0 if config.decoder_norm == "ln" else 1.0))
    if adaptive and config.rho_smoothing and config.decoder_norm == "adalin":
        rho = torch.clamp(rho - 0.1, 0.0, 1.0)
    return plain_adalin(x, rho, gamma, beta, unbiased=config.dialect == "pytorch")


def plain_adalin(x: Tensor, rho: Tensor, gamma: Tensor, beta: Tensor, *, unbiased: bool) -> Tensor:
    """AdaLIN in six passes over x, as both official codes do it.

    Args:
        x: (N, C, H, W).
        rho: (C,) or a scalar.
        gamma, beta: (N, C) or (1, C).
    """
    correction = 1 if unbiased else 0
    in_mean = torch.mean(x, dim=[2, 3], keepdim=True)
    in_var = torch.var(x, dim=[2, 3], keepdim=True, correction=correction)
    out_in = (x - in_mean) / torch.sqrt(in_var + EPS)
    ln_mean = torch.mean(x, dim=[1, 2, 3], keepdim=True)
    ln_var = torch.var(x, dim=[1, 2, 3], keepdim=True, correction=correction)
    out_ln = (x - ln_mean) / torch.sqrt(ln_var + EPS)
    rho = rho.view(1, -1, 1, 1)
    out = rho * out_in + (1 - rho) * out_ln
    return out * gamma.unsqueeze(2).unsqueeze(3) + beta.unsqueeze(2).unsqueeze(3)


def plain_group_norm(x: Tensor, groups: int, gamma: Tensor, beta: Tensor) -> Tensor:
    """Group norm (Wu and He 2018) with gamma and beta (1, C)."""
    grouped = x.reshape(x.shape[0], groups, -1)
    mean = torch.mean(grouped, dim=2, keepdim=True)
    var = torch.var(grouped, dim=2, keepdim=True, correction=0)
    out = ((grouped - mean) / torch.sqrt(var + EPS)).reshape(x.shape)
    return out * gamma.unsqueeze(2).unsqueeze(3) + beta.unsqueeze(2).unsqueeze(3)


def _spectral(w: Weights, name: str, *, iterate: bool) -> Tensor:
    """The weight divided by u^T W v, W the weight as a matrix (outputs, rest)."""
    weight, u, v = w[f"{name}.weight"], w[f"{name}.norm.u"], w[f"{name}.norm.v"]
    matrix = weight.reshape(weight.shape[0], -1)
    if iterate:
        with torch.no_grad():
            v = torch.mv(matrix.t(), u)
            v = v / v.norm().clamp_min(1e-12)
            u = torch.mv(matrix, v)
            u = u / u.norm().clamp_min(1e-12)
    return weight / torch.dot(u, torch.mv(matrix, v))
