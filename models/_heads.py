"""What a net's raw outputs mean, span by span: likelihoods in nats and rows drawn from them.

The raw outputs of a row are flat, span after span. A span of ``w`` values with ``p`` outputs per value holds them as
``(p, w)``, so that the channels of a convolution are read without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

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
LOGISTIC_GRAIN = 0.4  # heavy tails make 0.5 visible as speckle along the edges of a 28x28 digit


def outputs_per_value(span: Span) -> int:
    """Raw outputs for each value: a logit per level or category, or a location and a log-scale."""
    if span.kind == "categorical":
        return 1
    return span.levels if _is_softmax(span) and span.levels else 2


def raw_size(spec: TensorSpec) -> int:
    """Raw outputs for one row."""
    return sum(outputs_per_value(span) * span.width for span in spec.spans)


def negative_log_likelihood(spec: TensorSpec, raw: Tensor, x: Tensor) -> Tensor:
    """``-ln p(x)`` in nats, shape ``(B,)``: a sum over all values of a row. ``raw`` is ``(B, raw_size)``.

    Continuous values have a Gaussian of learned scale (a density); values with levels a probability of their level:
    a softmax for up to 32, else a discretised logistic (PixelCNN++, arXiv:1701.05517); categories a softmax.
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
            rows = rows - logistic_log_mass(outputs, target, span.levels).sum(1)
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
    scale = outputs[:, 1].clamp(*LOGISTIC_LOG_SCALE_RANGE).exp()
    return (outputs[:, 0] + scale * torch.logit(quantile, eps=1e-6)).clamp(-1, 1)


def level_index(x: Tensor, levels: int) -> Tensor:
    """The index of the level nearest to each value of ``x`` in [-1, 1]."""
    return ((x + 1) * ((levels - 1) / 2)).round().long().clamp(0, levels - 1)


def logistic_log_mass(outputs: Tensor, x: Tensor, levels: int) -> Tensor:
    """``ln`` of the logistic mass in the bin around each level in ``x`` ``(B, w)``; ``outputs`` is ``(B, 2, w)``.

    The outermost bins reach to infinity, so that the masses of all levels sum to one.
    """
    scale = outputs[:, 1].clamp(*LOGISTIC_LOG_SCALE_RANGE).exp()
    half = 1 / (levels - 1)
    centred = x - outputs[:, 0]
    upper, lower = (centred + half) / scale, (centred - half) / scale
    # ln(F(upper) - F(lower)) with F = sigmoid, by F(a) - F(b) = F(a) F(-b) (1 - exp(b - a)), which never cancels
    inner = functional.logsigmoid(upper) + functional.logsigmoid(-lower) + torch.log(-torch.expm1(-2 * half / scale))
    lowest, highest = x < -1 + half, x > 1 - half
    return torch.where(lowest, functional.logsigmoid(upper), torch.where(highest, functional.logsigmoid(-lower), inner))


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
