"""What an exact ln p(x|y) says of rows beside how to draw them: which class they are of, and how odd they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from models._contract import Batch, KnowsLikelihood


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


@dataclass(frozen=True)
class Usual:
    """Which ln p(x|y) are usual: between ``low`` and ``high`` nats from the mean of the class, ``means`` by class.

    Rows can be too likely as well: a blank image is likelier than any photo (Do Deep Generative Models Know What They
    Don't Know?, arXiv:1810.09136), and typical rows are not (arXiv:1906.02994).
    """

    means: Mapping[int, float]
    low: float
    high: float

    @classmethod
    def learn(cls, held_out: Mapping[int, Tensor], tail: float) -> Usual:
        """What is usual among ``held_out`` nats ``(N,)`` by class, two at least: all but ``tail`` at either end.

        A row is measured from the mean of the others of its class, as a new row is, and classes are put together, since
        each may have few rows.
        """
        away = [(nats - nats.mean()) * (len(nats) / (len(nats) - 1)) for nats in held_out.values()]
        low, high = torch.cat(away).double().quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
        return cls({y: float(nats.mean()) for y, nats in held_out.items()}, low, high)

    def odd(self, nats: Tensor, y: int) -> Tensor:
        """Which rows of class ``y`` with ``nats`` ``(N,)`` are less or more likely than is usual, booleans ``(N,)``."""
        away = nats - self.means[y]
        return (away < self.low) | (away > self.high)
