"""Inverse autoregressive flow: a posterior that is bent step by step, with its density known on the way.

Improving Variational Inference with Inverse Autoregressive Flow, arXiv:1606.04934, equations 10 to 14: in each step
[m, s] = AR(z, h), where m_i and s_i hear z_1 .. z_(i-1) and all of the context h, and with the gate g = sigmoid(s)

    z <- g z + (1 - g) m,        ln |det dz_T / dz_0| = sum over steps and latents of ln g.

All latents of a step are computed at once. The order is reversed from step to step by masks, so that latent i stays
at its place and its share of ln q can be told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._masked import MaskedConv2d, MaskedLinear, order_mask, raster_mask, spread_orders

GATE_BIAS = 1.5  # a step starts near the identity: sigmoid(1.5) = 0.82
FIRST_SCALE = 0.1  # of the last layer's first weights, so that m is about 0 and the gates are about alike


Noise = Callable[[Sequence[int]], Tensor]  # noise of a shape, with the generator and the temperature in it


class FlowSize(NamedTuple):
    """Steps of a flow, hidden features and hidden layers of each, and whether the steps only move the latents."""

    steps: int
    hidden: int
    layers: int
    location_only: bool


class Flowed(NamedTuple):
    """Latents after the flow, and for each the sum over the steps of ln g, of the same shape."""

    z: Tensor
    log_stretch: Tensor


class Inferred(NamedTuple):
    """What one draw from the posterior tells of rows.

    ``raw`` are the outputs of the decoder ``(B, raw_size)`` and ``codes`` the latents z_T ``(B, latents)``; ``kl`` is
    ln q(z_T|x, y) - ln p(z_T|y) in nats of each group of latents ``(B, groups)``, positive in the mean only, and
    ``log_det`` is ln |det dz_T / dz_0| ``(B,)``.
    """

    raw: Tensor
    codes: Tensor
    kl: Tensor
    log_det: Tensor


class Autoregressive(nn.Module):
    """[m, s] of each latent from those before it and a context, which every layer hears."""

    def __init__(self, layers: Sequence[nn.Module], contexts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers, self.contexts = nn.ModuleList(layers), nn.ModuleList(contexts)
        with torch.no_grad():
            for parameter in (*self.layers[-1].parameters(), *self.contexts[-1].parameters()):
                parameter.mul_(FIRST_SCALE)

    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """m and s, each of the shape of the latents ``(B, D)`` or ``(B, maps, height, width)``.

        Contexts are ``(B, context)``, or ``(B, context, height, width)``.
        """
        for i, (layer, context) in enumerate(zip(self.layers, self.contexts, strict=True)):
            z = layer(functional.elu(z) if i else z) + context(h)
        m, s = at_least_float32(z).chunk(2, dim=1)
        return m, s + GATE_BIAS


def vector_step(latent: int, context: int, size: FlowSize, *, reverse: bool) -> Autoregressive:
    """A step for latents ``(B, latent)``; a MADE (arXiv:1502.03509)."""
    masks = [
        order_mask(*pair, strict=i == 0) for i, pair in enumerate(pairwise(_orders(latent, size, reverse=reverse)))
    ]
    contexts = [nn.Linear(context, len(mask), bias=False) for mask in masks]
    return Autoregressive([MaskedLinear(mask) for mask in masks], contexts)


def grid_step(maps: int, context: int, size: FlowSize, *, reverse: bool) -> Autoregressive:
    """A step for latents ``(B, maps, height, width)``, in raster order and in the order of maps at each place.

    Masked 3x3 convolutions do not hear all that came before (nothing far to the right in the row above); the step is
    a bijection with a known derivative all the same.
    """
    pairs = pairwise(_orders(maps, size, reverse=reverse))
    masks = [raster_mask(*pair, 3, strict=i == 0, reverse=reverse) for i, pair in enumerate(pairs)]
    contexts = [nn.Conv2d(context, len(mask), 1, bias=False) for mask in masks]
    return Autoregressive([MaskedConv2d(mask) for mask in masks], contexts)


def _orders(features: int, size: FlowSize, *, reverse: bool) -> list[Tensor]:
    """The orders of a step's latents, of its hidden layers, and of its outputs m and s."""
    orders = torch.arange(features).flip(0) if reverse else torch.arange(features)
    return [orders, *[spread_orders(size.hidden, features)] * size.layers, orders.repeat(2)]


class Flow(nn.Module):
    """The steps of an inverse autoregressive flow; ``location_only`` moves the latents and never scales them."""

    def __init__(self, steps: Sequence[nn.Module], *, location_only: bool) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.location_only = location_only

    def forward(self, z: Tensor, h: Tensor) -> Flowed:
        """z_T for z_0 and the context, which is the same in every step."""
        log_stretch = torch.zeros_like(z)
        for step in self.steps:
            m, s = step(z, h)
            if self.location_only:
                z = z + m
                continue
            gate = torch.sigmoid(s)
            z = gate * z + (1 - gate) * m
            log_stretch = log_stretch + functional.logsigmoid(s)
        return Flowed(z, log_stretch)


def at_least_float32(x: Tensor) -> Tensor:
    """The values for what is summed to a density, whatever precision the nets run in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
