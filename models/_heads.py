"""What a net's raw outputs mean, span by span: likelihoods in nats and rows drawn from them.

The raw outputs of a row are flat, span after span. A span of ``w`` values with ``p`` outputs per value holds them as
``(p, w)``, so that the channels of a convolution are read without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models._contract import Span, TensorSpec
from models._levels import level_index

Observation = Literal["auto", "bernoulli", "gaussian", "logistic", "categorical"]
ScaleRule = Literal["learned", "shared", "optimal"]
ObservationSetting = Annotated[
    Observation,
    Field(
        description="p(x|z) of values that are no categories; auto: Gaussian without levels, a softmax for up to 32 "
        "levels, else a discretised logistic."
    ),
]
SigmaSetting = Annotated[
    ScaleRule | Annotated[float, Field(ge=0.001, le=20, allow_inf_nan=False)],
    Field(
        description="Scale of a Gaussian or logistic p(x|z): learned for each value, shared by a span, optimal (that "
        "of the batch; Gaussian), or a number."
    ),
]

LARGEST_SOFTMAX = 32  # with more levels a softmax per value costs more than it tells: neighbouring levels are alike
LOG_SCALE_RANGE = (-3.0, 3.0)  # a repeated value would otherwise pull the scale to zero and the density to infinity
FINE_LOG_SCALE_RANGE = (-7.0, 3.0)  # e^-7 is a quarter of the half width of a bin of 256 levels

# Values with levels (pixels) are neither drawn in full nor put at one point of their likelihood. Independent noise on
# every pixel is grain, and strays from what simple statistics of real images allow; the median is told from real
# rows by a classifier more easily, and varies less; the mean blurs, and the mode leaves too few greys. The quantile is
# Phi(GRAIN x a standard normal): 0 is the median, 1 a full draw.
GRAIN = 0.5
SCALED_GRAIN = 0.4  # without an end to its tails, 0.5 is visible as speckle along the edges of a 28x28 digit


class Head(Protocol):
    """A likelihood of the ``w`` values of a span, whose raw outputs are ``(B, outputs, w)``.

    ``scaled`` says that the last of the outputs of a value is the logarithm of a scale.
    """

    @property
    def outputs(self) -> int:
        """Raw outputs for each value."""
        ...

    @property
    def scaled(self) -> bool:
        """Whether the likelihood has a scale."""
        ...

    def nll(self, outputs: Tensor, x: Tensor) -> Tensor:
        """``-ln p(x)`` in nats, shape ``(B,)``, of values ``(B, w)``."""
        ...

    def at(self, outputs: Tensor, noise: Tensor, temperature: float) -> Tensor:
        """Values ``(B, w)`` that standard normal ``noise`` ``(B, w)`` names; at temperature 0 their centre."""
        ...


@dataclass(frozen=True)
class CategoryHead:
    """A softmax over the values of a one-hot span."""

    outputs: ClassVar[int] = 1
    scaled: ClassVar[bool] = False

    def nll(self, outputs: Tensor, x: Tensor) -> Tensor:
        """The cross-entropy of the category."""
        return -(x * outputs[:, 0].log_softmax(dim=1)).sum(1)

    def at(self, outputs: Tensor, noise: Tensor, temperature: float) -> Tensor:
        """One-hot rows by the Gumbel-max rule, of p(category)^(1/temperature) up to a factor."""
        uniform = torch.special.ndtr(noise).clamp(1e-20, 1 - 1e-7)
        chosen = (outputs[:, 0] - temperature * torch.log(-torch.log(uniform))).argmax(1)
        return functional.one_hot(chosen, noise.shape[1]).float()


@dataclass(frozen=True)
class LevelsHead:
    """A softmax over the levels of each value."""

    levels: int
    scaled: ClassVar[bool] = False

    @property
    def outputs(self) -> int:
        """One logit for each level."""
        return self.levels

    def nll(self, outputs: Tensor, x: Tensor) -> Tensor:
        """The cross-entropy of the level of each value."""
        index = level_index(x, self.levels)
        return -outputs.log_softmax(dim=1).gather(1, index[:, None]).sum((1, 2))

    def at(self, outputs: Tensor, noise: Tensor, temperature: float) -> Tensor:
        """The level at a quantile near the median, see :data:`GRAIN`."""
        quantile = torch.special.ndtr(GRAIN * temperature * noise)
        below = outputs.softmax(dim=1).cumsum(dim=1)[:, :-1]  # the last is one, but for rounding
        index: Tensor = (below < quantile[:, None]).sum(dim=1)
        return index * (2 / max(1, self.levels - 1)) - 1


@dataclass(frozen=True)
class BernoulliHead:
    """One logit for each value of two levels, that of the upper one."""

    outputs: ClassVar[int] = 1
    scaled: ClassVar[bool] = False

    def nll(self, outputs: Tensor, x: Tensor) -> Tensor:
        """The binary cross-entropy."""
        target = (x > 0).to(outputs.dtype)
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], target, reduction="none").sum(1)

    def at(self, outputs: Tensor, noise: Tensor, temperature: float) -> Tensor:
        """The level at a quantile near the median, see :data:`GRAIN`."""
        lower = torch.sigmoid(-outputs[:, 0])
        upper: Tensor = lower < torch.special.ndtr(GRAIN * temperature * noise)
        return upper.float() * 2 - 1


@dataclass(frozen=True)
class LogisticHead:
    """A logistic distribution, summed over the bin of each level (PixelCNN++, arXiv:1701.05517)."""

    levels: int
    outputs: ClassVar[int] = 2
    scaled: ClassVar[bool] = True

    def nll(self, outputs: Tensor, x: Tensor) -> Tensor:
        """-ln of the mass in the bins of the levels."""
        return -logistic_log_mass(outputs, x, self.levels).sum(1)

    def at(self, outputs: Tensor, noise: Tensor, temperature: float) -> Tensor:
        """A value at a quantile near the median, see :data:`GRAIN`."""
        quantile = torch.special.ndtr(SCALED_GRAIN * temperature * noise)
        return (outputs[:, 0] + outputs[:, 1].exp() * torch.logit(quantile, eps=1e-6)).clamp(-1, 1)


@dataclass(frozen=True)
class GaussianHead:
    """A Gaussian density, of values with levels too."""

    bounded: bool  # the values have levels, in [-1, 1]
    outputs: ClassVar[int] = 2
    scaled: ClassVar[bool] = True

    def nll(self, outputs: Tensor, x: Tensor) -> Tensor:
        """-ln N(x; mean, scale^2)."""
        mean, log_scale = outputs.unbind(1)
        return (0.5 * ((x - mean) * torch.exp(-log_scale)).square() + log_scale + 0.5 * math.log(2 * math.pi)).sum(1)

    def at(self, outputs: Tensor, noise: Tensor, temperature: float) -> Tensor:
        """A draw; near the mean where the values have levels, see :data:`GRAIN`."""
        mean, log_scale = outputs.unbind(1)
        if self.bounded:
            return (mean + SCALED_GRAIN * temperature * noise * log_scale.exp()).clamp(-1, 1)
        return mean + temperature * noise * log_scale.exp()


class Heads(nn.Module):
    """The likelihood of the rows of a spec: a head for each span, and the scales that no net gives.

    ``observation`` names the head of every span that is not categorical; ``auto``: a Gaussian for values without
    levels, a softmax for up to 32 levels, else a discretised logistic. ``sigma`` says where the scale of Gaussians and
    logistics comes from: ``learned``, of each value, from the net; ``shared``, one learned number a span; ``optimal``,
    that of the batch in which it is least, sigma^2 = the mean squared error of a span (Simple and Effective VAE
    Training with Calibrated Decoders, arXiv:2006.13202), whose logarithm a buffer keeps, so that a trainer that
    averages weights publishes its moving average; or a fixed number. A value of one level is certain, whatever the
    observation.

    Raises:
        ValueError: the settings do not fit the spec, in one sentence.
    """

    log_scale: Tensor

    def __init__(
        self, spec: TensorSpec, observation: Observation = "auto", sigma: ScaleRule | float = "learned"
    ) -> None:
        super().__init__()
        self.spec = spec
        self.sigma = sigma
        self.heads = tuple(_head(span, observation) for span in spec.spans)
        self.by_net = sigma == "learned"
        self.by_batch = sigma == "optimal"  # the scale is a statistic of the batch
        self._refuse()
        log_scale = torch.zeros(len(self.heads))
        if sigma == "shared":
            self.log_scale = nn.Parameter(log_scale)
        elif self.by_batch:
            self.register_buffer("log_scale", log_scale)
        elif isinstance(sigma, float | int):
            self.register_buffer("log_scale", log_scale.fill_(math.log(sigma)), persistent=False)

    def _refuse(self) -> None:
        scaled = [head for head in self.heads if head.scaled]
        if not self.by_net and not scaled:
            numbers = any(span.kind == "continuous" for span in self.spec.spans)
            likelihoods = "'gaussian'" if self.by_batch else "'gaussian' or 'logistic'"
            instead = f", or take the observation {likelihoods}" if numbers else ": these rows are categories alone"
            raise ValueError(
                f"sigma {self.sigma} needs a likelihood with a scale, and a softmax has none; leave sigma at 'learned'"
                + instead
            )
        if self.by_batch and any(isinstance(head, LogisticHead) for head in scaled):
            raise ValueError(
                "sigma 'optimal' is known for the observation 'gaussian' alone; take that, or sigma 'shared'"
            )

    @property
    def outputs(self) -> tuple[int, ...]:
        """Raw outputs for each value of each span."""
        return tuple(head.outputs - int(head.scaled and not self.by_net) for head in self.heads)

    @property
    def raw_size(self) -> int:
        """Raw outputs for one row."""
        return sum(count * span.width for count, span in zip(self.outputs, self.spec.spans, strict=True))

    def negative_log_likelihood(self, raw: Tensor, x: Tensor) -> Tensor:
        """``-ln p(x)`` in nats, shape ``(B,)``: a sum over all values of a row. ``raw`` is ``(B, raw_size)``.

        Values with a Gaussian have a density, all others a probability of their level or category.
        """
        flat = x.flatten(1).float()
        rows = torch.zeros(len(x), device=x.device)
        for index, outputs, values in self._spans(raw):
            target = flat[:, values]
            rows = rows + self.heads[index].nll(self._with_scale(index, outputs, target), target)
        return rows

    def draw(self, raw: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Rows ``(B, *shape)`` for raw outputs ``(B, raw_size)``.

        Continuous values and categories are drawn from their likelihood, whose spread ``temperature`` scales. Values
        with levels are taken at a random quantile near the median of theirs, see :data:`GRAIN`.
        """
        return self._at(
            raw, torch.randn((len(raw), self.spec.size), generator=generator, device=raw.device), temperature
        )

    def centre(self, raw: Tensor) -> Tensor:
        """Rows ``(B, *shape)`` of means, medians of levels, and likeliest categories."""
        return self._at(raw, torch.zeros((len(raw), self.spec.size), device=raw.device), 0.0)

    def mean_scale(self, raw: Tensor) -> Tensor | None:
        """The mean scale of all values that have one, a scalar; None where none has."""
        scales = [
            self._with_scale(index, outputs)[:, -1].exp().mean(0)
            for index, outputs, _ in self._spans(raw.detach())
            if self.heads[index].scaled
        ]
        return torch.cat(scales).mean() if scales else None

    def _at(self, raw: Tensor, noise: Tensor, temperature: float) -> Tensor:
        parts = [
            self.heads[index].at(self._with_scale(index, outputs), noise[:, values], temperature)
            for index, outputs, values in self._spans(raw)
        ]
        return torch.cat(parts, dim=1).reshape(-1, *self.spec.shape)

    def _with_scale(self, index: int, outputs: Tensor, target: Tensor | None = None) -> Tensor:
        """The outputs of a span as its head reads them; ``target`` are the values whose error is its scale."""
        head = self.heads[index]
        if not head.scaled:
            return outputs
        location = outputs[:, 0]
        if self.by_net:
            limits = LOG_SCALE_RANGE if isinstance(head, GaussianHead) else FINE_LOG_SCALE_RANGE
            return torch.stack([location, outputs[:, 1].clamp(*limits)], dim=1)
        if self.by_batch and self.training and target is not None:
            with torch.no_grad():
                error = (location - target).square().mean()
                self.log_scale[index] = (0.5 * error.log()).clamp(*FINE_LOG_SCALE_RANGE)
        scale = self.log_scale[index].clamp(*FINE_LOG_SCALE_RANGE)
        return torch.stack([location, scale.expand_as(location)], dim=1)

    def _spans(self, raw: Tensor) -> Iterator[tuple[int, Tensor, slice]]:
        """The number of each span, its outputs ``(B, p, w)``, and the place of its values in the flat row."""
        raw = raw.float()
        output = value = 0
        for index, (per_value, span) in enumerate(zip(self.outputs, self.spec.spans, strict=True)):
            block = raw[:, output : output + per_value * span.width]
            yield index, block.reshape(len(raw), per_value, span.width), slice(value, value + span.width)
            output, value = output + per_value * span.width, value + span.width


def _head(span: Span, observation: Observation) -> Head:
    """The head of a span.

    Raises:
        ValueError: the observation does not fit its values.
    """
    if span.kind == "categorical":
        return CategoryHead()
    if span.levels is None:
        if observation in ("auto", "gaussian"):
            return GaussianHead(bounded=False)
        raise ValueError(f"the observation '{observation}' needs values with levels; take 'auto' or 'gaussian'")
    if observation == "bernoulli":
        if span.levels != 2:
            raise ValueError(f"the observation 'bernoulli' needs values of two levels, these have {span.levels}")
        return BernoulliHead()
    few = observation == "auto" and span.levels <= LARGEST_SOFTMAX
    # the scale that another likelihood has would go to zero with one level
    if few or observation == "categorical" or span.levels == 1:
        return LevelsHead(span.levels)
    return GaussianHead(bounded=True) if observation == "gaussian" else LogisticHead(span.levels)


def logistic_log_mass(outputs: Tensor, x: Tensor, levels: int) -> Tensor:
    """``ln`` of the logistic mass in the bin around each level in ``x`` ``(B, w)``; ``outputs`` is ``(B, 2, w)``.

    The outermost bins reach to infinity, so that the masses of all levels sum to one.
    """
    scale = outputs[:, 1].exp()
    half = 1 / (levels - 1)
    centred = x - outputs[:, 0]
    upper, lower = (centred + half) / scale, (centred - half) / scale
    # ln(F(upper) - F(lower)) with F = sigmoid, by F(a) - F(b) = F(a) F(-b) (1 - exp(b - a)), which never cancels
    inner = functional.logsigmoid(upper) + functional.logsigmoid(-lower) + torch.log(-torch.expm1(-2 * half / scale))
    lowest, highest = x < -1 + half, x > 1 - half
    return torch.where(lowest, functional.logsigmoid(upper), torch.where(highest, functional.logsigmoid(-lower), inner))
