"""What an exact ln p(x|y) says of rows beside how to draw them: which class they are of, and how odd they are.

It says nothing of rows of another shape, or of labels that are of no class: these are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models._contract import Batch, KnowsLikelihood, TensorSpec

POOLED_ROWS = 4.0  # how many rows of a class the spread of all classes counts as


def class_log_joint(model: KnowsLikelihood, x: Tensor, log_prior: Tensor) -> Tensor:
    """ln p(x|y) + ln p(y) in nats of rows ``(B, *shape)`` and every class, ``(B, num_classes)``.

    Its argmax is the class that the model takes a row for, its softmax p(y|x), and its logsumexp ln p(x).
    ``log_prior`` is ``(num_classes,)``.
    """
    joint = [
        model.log_likelihood(Batch(x, torch.full((len(x),), y, device=x.device))) + log_prior[y]
        for y in range(len(log_prior))
    ]
    return torch.stack(joint, dim=1)


class SeenClasses(nn.Module):
    """p(y) of the rows of a training, as often as they were in the batches."""

    seen: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.int64))  # whole numbers: not averaged

    def count(self, y: Tensor) -> None:
        """Count the labels ``(B,)`` of a batch in training; -1 is none."""
        if self.training:
            self.seen.scatter_add_(0, y.clamp_min(0), (y >= 0).long())

    def log_prior(self) -> Tensor:
        """ln p(y), ``(num_classes,)``, by Laplace's rule: as if each class had been seen once more."""
        seen = (self.seen + 1).to(torch.get_default_dtype())
        return (seen / seen.sum()).log()


def refuse_other_rows(spec: TensorSpec, y: Tensor, x: Tensor | None = None) -> None:
    """Nothing, if labels ``y`` are of the classes of ``spec`` or -1, and rows ``x`` are of its shape, with one each.

    Raises:
        ValueError: they are not.
    """
    if x is not None and tuple(x.shape[1:]) != spec.shape:
        raise ValueError(f"a row of this model has the shape {spec.shape}, not {tuple(x.shape[1:])}")
    if x is not None and len(y) != len(x):
        raise ValueError(f"{len(x)} rows have a label each, not {len(y)}")
    if len(y) and not -1 <= int(y.min()) <= int(y.max()) < spec.num_classes:
        raise ValueError(
            f"the labels of {spec.num_classes} classes are 0 to {spec.num_classes - 1}, or -1 of a row without one, "
            f"not {int(y.min())} to {int(y.max())}"
        )


@dataclass(frozen=True)
class Usual:
    """Which ln p(x|y) are usual: between ``low`` and ``high`` spreads of a class from the mean of the class.

    ``means`` and ``spreads`` are ``(..., C)`` in nats, ``low`` and ``high`` ``(..., 1)``; ``odd_held_out`` ``(..., N)``
    are the rows outside among those it was learned from. Rows can be too likely as well: a blank image is likelier than
    any photo (Do Deep Generative Models Know What They Don't Know?, arXiv:1810.09136), and typical rows are not
    (arXiv:1906.02994).
    """

    means: Tensor
    spreads: Tensor
    low: Tensor
    high: Tensor
    odd_held_out: Tensor

    @classmethod
    def learn(cls, nats: Tensor, y: Tensor, tail: float) -> Usual:
        """What is usual among held-out ``nats`` ``(..., N)`` of classes ``y`` ``(N,)``: all but ``tail`` at either end.

        A row is measured from the others of its class, in units of their spread, as a new row is. The classes are then
        put together, since each may have few rows, and each counts as much as any other, however many it has. The
        leading dimensions are sets of rows apart from one another. ``y`` are 0 to C - 1.

        Raises:
            ValueError: a class has fewer than two rows.
        """
        rows = y.bincount().double()  # (C,)
        if rows.min() < 2:
            raise ValueError(f"what is usual is learned from two rows of each class at least, not {int(rows.min())}.")
        nats, of_class, n = nats.double(), nn.functional.one_hot(y).double(), rows[y]
        means = nats @ of_class / rows
        away = (nats - means[..., y]) * n / (n - 1)  # from the mean of the others
        own = away**2 * (n - 1) / n  # what a row adds to the sum of squares of its class
        squares = (own * (n - 1) / n) @ of_class
        all_squares, freedom = squares.sum(-1, keepdim=True), (rows - 1).sum()
        spreads = _spread(squares, rows - 1, all_squares / freedom)
        others = (all_squares - own) / (freedom - 1).clamp_min(1)
        left_out = away / _spread(squares[..., y] - own, n - 2, others)
        low, high = (_quantile(left_out, 1 / (n * len(rows)), share) for share in (tail, 1 - tail))
        return cls(means, spreads, low, high, ~((left_out >= low) & (left_out <= high)))

    def odd(self, nats: Tensor, y: Tensor) -> Tensor:
        """Which rows with ``nats`` ``(..., M)`` of classes ``y`` ``(M,)`` are less or more likely than is usual.

        Booleans ``(..., M)``; what is not a number is not usual.
        """
        away = (nats - self.means[..., y]) / self.spreads[..., y]
        return ~((away >= self.low) & (away <= self.high))


def mean_over_classes(flags: Tensor, y: Tensor) -> Tensor:
    """The mean over classes of the share of rows with a flag ``(..., N)``, ``(...)``; classes ``y`` are 0 to C - 1."""
    return (flags.double() @ nn.functional.one_hot(y).double() / y.bincount()).mean(-1)


def _spread(squares: Tensor, freedom: Tensor, pooled: Tensor) -> Tensor:
    """Standard deviations from sums of squares, as if ``POOLED_ROWS`` more were known from all classes."""
    variance = (squares + POOLED_ROWS * pooled) / (freedom + POOLED_ROWS)
    return variance.clamp_min(1e-12).sqrt()  # rows that are all as likely have none


def _quantile(values: Tensor, weights: Tensor, share: float) -> Tensor:
    """Below which a new one of ``values`` ``(..., N)`` is with probability ``share``, ``(..., 1)``.

    Weights ``(N,)`` sum to 1. Of N with one weight the i-th smallest is at i / (N + 1), where a new one falls on the
    average; what lies beyond the ends is not known, and the end stands for it.
    """
    values, order = values.sort(-1)
    places = weights[order].cumsum(-1) / (1 + (weights**2).sum())
    above = (places < share).sum(-1, keepdim=True)
    below, above = (above - 1).clamp_min(0), above.clamp_max(values.shape[-1] - 1)
    start, end = places.gather(-1, below), places.gather(-1, above)
    part = ((share - start) / (end - start).clamp_min(1e-12)).clamp(0, 1)
    return values.gather(-1, below).lerp(values.gather(-1, above), part)
