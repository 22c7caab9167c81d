"""Evenly spaced levels in [-1, 1], and outcomes drawn from their logits by quantiles."""

from __future__ import annotations

import math

import torch
from torch import Tensor

COLDEST = 1e-30  # a lower temperature counts as 0, since 32 bits may hold none and no logits are told apart by it
OFF_LEVEL = 0.01  # of the distance of two levels: farther from the nearest one no rounding error lies


def bin_width(levels: int) -> float:
    """The distance of two neighbours among so many levels in [-1, 1]; 2 where there is but one."""
    return 2 / max(1, levels - 1)


def level_index(x: Tensor, levels: int) -> Tensor:
    """The index of the level nearest to each value of ``x`` in [-1, 1]."""
    return ((x + 1) * ((levels - 1) / 2)).round().long().clamp(0, levels - 1)


def level_value(index: Tensor, levels: int, dtype: torch.dtype) -> Tensor:
    """The value in [-1, 1] of each level, of the same shape, rounded once; a single level is -1."""
    exact = torch.promote_types(dtype, torch.float32)
    return (index.to(exact) * bin_width(levels) - 1).to(dtype)


def exact_level_index(x: Tensor, levels: int, called: str) -> Tensor:
    """The index of the level of each value, int64 of the same shape; ``called`` is the word for levels in a refusal.

    Raises:
        ValueError: a value lies between two levels, or beyond the outermost.
    """
    index = level_index(x, levels)
    away = (level_value(index, levels, x.dtype) - x).abs() * (max(1, levels - 1) / 2)
    if x.numel() and not bool((away <= OFF_LEVEL).all()):
        raise ValueError(
            f"a value lies {float(away.max()):.2g} of a step away from the nearest of {levels} {called}, and a softmax "
            "over levels knows nothing between them; round the values first"
        )
    return index


def refuse_other_temperatures(temperature: float) -> None:
    """Nothing, if ``temperature`` is 0, which stands for the likeliest outcomes, or logits can be divided by it.

    Raises:
        ValueError: it is negative, infinite, or not a number.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"the temperature is a finite number from 0 on, not {temperature}; 1 draws what was learned")


def tempered_shares(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits / temperature) over the last dimension, for a temperature of at least :data:`COLDEST`."""
    below_most = (logits - logits.amax(-1, keepdim=True)) / temperature  # no quotient is too large for its type
    return below_most.softmax(-1)


def at_quantile(reached: Tensor, uniform: Tensor) -> Tensor:
    """The outcomes at the quantiles ``uniform`` ``(...)`` of cumulated shares ``reached`` ``(..., outcomes)``."""
    return (reached[..., :-1] <= uniform[..., None]).sum(-1)  # the last is one, but for rounding
