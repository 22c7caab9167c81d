"""What a net's raw outputs mean, span by span: likelihoods in nats and rows drawn from them.

The raw outputs of a row are flat, span after span. A span of ``w`` values with ``p`` outputs per value holds them as
``(p, w)``, so that the channels of a convolution are read without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models._contract import Span, TensorSpec

LARGEST_SOFTMAX = 32  # with more levels a softmax per value costs more than it tells: neighbouring levels are alike
LOG_SCALE_RANGE = (-3.0, 3.0)  # a repeated value would otherwise pull the scale to zero and the density to infinity
LOGISTIC_LOG_SCALE_RANGE = (-7.0, 3.0)  # e^-7 is a quarter of the half width of a bin of 256 levels

# Values with levels (pixels) are neither drawn in full nor put at one point of their likelihood. Independent noise on
# every pixel is grain, and strays from what simple statistics of real images allow; the median is told from real
# rows by a classifier more easily, and varies less; the mean blurs, and the mode leaves too few greys. The quantile is
# Phi(GRAIN x a standard normal): 0 is the median, 1 a full draw.
GRAIN = 0.5
LOGISTIC_GRAIN = 0.5


def outputs_per_value(span: Span) -> int:
    """Raw outputs for each value: a logit per level or category, or a location and a log-scale.

    A logistic of a mixture has a logit beside these two.
    """
    if span.kind == "categorical":
        return 1
    if span.levels is None:
        return 2
    return span.levels if _is_softmax(span) else 3 * LOGISTICS


def raw_size(spec: TensorSpec) -> int:
    """Raw outputs for one row."""
    return sum(outputs_per_value(span) * span.width for span in spec.spans)


def negative_log_likelihood(spec: TensorSpec, raw: Tensor, x: Tensor) -> Tensor:
    """``-ln p(x)`` in nats, shape ``(B,)``: a sum over all values of a row. ``raw`` is ``(B, raw_size)``.

    Continuous values have a Gaussian of learned scale (a density); values with levels a probability of their level:
    a softmax for up to 32, else discretised logistics, mixed (PixelCNN++, arXiv:1701.05517); categories a softmax.
    """
    rows = torch.zeros(len(x), device=x.device)
    flat = x.flatten(1).float()
    for span, outputs, values in _spans(spec, raw.float()):
        target = flat[:, values]
        if span.kind == "categorical":
            rows = rows - (target * outputs[:, 0].log_softmax(dim=1)).sum(1)
        elif span.levels is None:
            rows = rows + _gaussian(outputs, target).sum(1)
        elif _is_softmax(span):
            index = level_index(target, span.levels)
            rows = rows - outputs.log_softmax(dim=1).gather(1, index[:, None]).sum((1, 2))
        else:
            rows = rows - mixture_log_mass(outputs, target, span.levels).sum(1)
    return rows


def draw(spec: TensorSpec, raw: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
    """Rows ``(B, *shape)`` for raw outputs ``(B, raw_size)``.

    Continuous values and categories are drawn from their likelihood, whose spread ``temperature`` scales. Values
    with levels are taken at a random quantile near the median of theirs, see :data:`GRAIN`.
    """
    parts = []
    for span, outputs, _ in _spans(spec, raw.float()):
        shape = (len(raw), span.width)
        if span.kind == "categorical":
            uniform = torch.rand(shape, generator=generator, device=raw.device)
            gumbel = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
            chosen = (outputs[:, 0] / temperature + gumbel).argmax(1)
            parts.append(functional.one_hot(chosen, span.width).float())
            continue
        noise = temperature * torch.randn(shape, generator=generator, device=raw.device)
        if span.levels is None:
            parts.append(outputs[:, 0] + noise * outputs[:, 1].clamp(*LOG_SCALE_RANGE).exp())
        else:
            parts.append(_level_at(outputs, noise, span))
    return torch.cat(parts, dim=1).reshape(-1, *spec.shape)


def _level_at(outputs: Tensor, noise: Tensor, span: Span) -> Tensor:
    """Values ``(B, w)`` in [-1, 1] at the quantiles that standard normal ``noise`` names."""
    softmax = _is_softmax(span)
    quantile: Tensor = torch.special.ndtr((GRAIN if softmax else LOGISTIC_GRAIN) * noise)
    if softmax and span.levels:
        below = outputs.softmax(dim=1).cumsum(dim=1)[:, :-1]  # the last is one, but for rounding
        return (below < quantile[:, None]).sum(dim=1) * (2 / (span.levels - 1)) - 1
    return _mixture_quantile(outputs, quantile)


def level_index(x: Tensor, levels: int) -> Tensor:
    """The index of the level nearest to each value of ``x`` in [-1, 1]."""
    return ((x + 1) * ((levels - 1) / 2)).round().long().clamp(0, levels - 1)


class Mixture(NamedTuple):
    """Logistic distributions for each value, all ``(B, components, w)``: log-shares, locations and scales."""

    log_share: Tensor
    location: Tensor
    scale: Tensor


def _mixture(outputs: Tensor) -> Mixture:
    """What the raw outputs ``(B, 3 x LOGISTICS, w)`` say; without any, the components are spread over [-1, 1]."""
    logits, locations, log_scales = outputs.chunk(3, dim=1)
    start = torch.linspace(-1, 1, LOGISTICS, dtype=outputs.dtype, device=outputs.device)[:, None]
    return Mixture(logits.log_softmax(dim=1), start + locations, log_scales.clamp(*LOGISTIC_LOG_SCALE_RANGE).exp())


def mixture_log_mass(outputs: Tensor, x: Tensor, levels: int) -> Tensor:
    """``ln`` of the mass in the bin around each level in ``x`` ``(B, w)``, for outputs ``(B, 3 x LOGISTICS, w)``.

    The outermost bins reach to infinity, so that the masses of all levels sum to one.
    """
    log_share, location, scale = _mixture(outputs)
    half = 1 / (levels - 1)
    centred = x[:, None] - location
    upper, lower = (centred + half) / scale, (centred - half) / scale
    # ln(F(upper) - F(lower)) with F = sigmoid, by F(a) - F(b) = F(a) F(-b) (1 - exp(b - a)), which never cancels
    below, above = functional.logsigmoid(upper), functional.logsigmoid(-lower)
    inner = below + above + torch.log(-torch.expm1(-2 * half / scale))
    lowest, highest = (x < -1 + half)[:, None], (x > 1 - half)[:, None]
    return (log_share + torch.where(lowest, below, torch.where(highest, above, inner))).logsumexp(dim=1)


def _mixture_quantile(outputs: Tensor, quantile: Tensor) -> Tensor:
    """The values ``(B, w)`` in [-1, 1] below which the share ``quantile`` of the mixture lies, by bisection."""
    log_share, location, scale = _mixture(outputs)
    share = log_share.exp()
    low, high = torch.full_like(quantile, -1.0), torch.full_like(quantile, 1.0)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        beneath = (share * torch.sigmoid((middle[:, None] - location) / scale)).sum(dim=1) < quantile
        low, high = torch.where(beneath, middle, low), torch.where(beneath, high, middle)
    return (low + high) / 2


def _gaussian(outputs: Tensor, x: Tensor) -> Tensor:
    log_scale = outputs[:, 1].clamp(*LOG_SCALE_RANGE)
    return 0.5 * ((x - outputs[:, 0]) * torch.exp(-log_scale)).square() + log_scale + 0.5 * math.log(2 * math.pi)


def _is_softmax(span: Span) -> bool:
    return span.kind == "continuous" and span.levels is not None and span.levels <= LARGEST_SOFTMAX


def _spans(spec: TensorSpec, raw: Tensor) -> Iterator[tuple[Span, Tensor, slice]]:
    """Each span with its outputs ``(B, p, w)`` and the place of its values in the flat row."""
    output = value = 0
    for span in spec.spans:
        per_value = outputs_per_value(span)
        block = raw[:, output : output + per_value * span.width]
        yield span, block.reshape(len(raw), per_value, span.width), slice(value, value + span.width)
        output, value = output + per_value * span.width, value + span.width
