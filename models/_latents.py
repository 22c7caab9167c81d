"""The latents of a row: how many it needs, their prior for each class, and when one of them carries something."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._contract import TensorSpec
from models._gaussian import Gaussian, kl_divergence

ACTIVE_VARIANCE = 0.01  # a latent whose posterior mean varies less over the rows carries nothing (arXiv:1509.00519)
PRIOR_PACE = 4.0  # the means of a prior travel further than weights do; their steps are so much longer
PRIOR_WEIGHT = 0.001  # by which learned priors are held near N(0, I), unless it is set
LARGEST_COSINE = 0.9999  # an arc between codes in one direction is a line; its formula would be 0 / 0


class Prior(nn.Module):
    """p(z|y) = N(mean_y, diag variance_y), where rows without a label have one of their own.

    ``learned`` says whether means and variances are parameters; else, and before training, all are N(0, I). Of a
    class of few rows the posteriors do not fill N(0, I), and a draw from where there are none decodes to a torn row or
    to one of another class; a learned prior is where they are.
    """

    table: Tensor

    def __init__(self, num_classes: int, latent: int, *, learned: bool) -> None:
        super().__init__()
        self.num_classes = num_classes
        table = torch.zeros(num_classes + 1, 2 * latent)
        if learned:
            self.table = nn.Parameter(table)
        else:
            self.register_buffer("table", table, persistent=False)

    def forward(self, y: Tensor) -> Gaussian:
        """The prior of each row."""
        return self._gaussian(self.table[torch.where(y < 0, self.num_classes, y)])

    def divergence(self) -> Tensor:
        """The sum over all classes, and over rows without a label, of KL(p(z|y) || N(0, I)) in nats."""
        prior = self._gaussian(self.table)
        zeros = torch.zeros_like(prior.mean)
        return kl_divergence(prior, Gaussian(zeros, zeros)).sum()

    def _gaussian(self, rows: Tensor) -> Gaussian:
        mean, log_variance = (PRIOR_PACE * rows).chunk(2, dim=1)
        return Gaussian(mean, log_variance.clamp(-6, 2))


def default_latent(spec: TensorSpec) -> int:
    """As many latents as a row of this size needs: 7 for 13 values, 16 for 8x8, 32 for 28x28, 45 for 32x32 in colour.

    More would stay unused by most rows, and be filled with chance by those of scarce classes.
    """
    return max(4, round(min(2 * math.sqrt(spec.size), 6 * math.sqrt(math.sqrt(spec.size)))))


def warmed_up(beta: float, share: float, step: int, steps: int) -> float:
    """The weight of the KL term at step ``step`` (from 0): it rises from 0 to ``beta`` over that share of ``steps``."""
    rise = share * steps
    return beta * min(1.0, step / rise) if rise else beta


def arc(first: Tensor, second: Tensor, prior: Gaussian, place: Tensor) -> Tensor:
    """Codes ``(B, latent)`` on the arc from ``first`` (``place`` 0) to ``second`` (1); ``place`` is ``(B, 1)``.

    With u and v the deviations from the prior's mean in its own units and w the angle between them, at most a right
    one, a code between is (sin((1 - t) w) u + sin(t w) v) / sin w. On the straight line the middle of two independent
    draws has half their variance, and lies where the prior puts few rows; at a right angle it has all of it.
    """
    deviation = torch.exp(0.5 * prior.log_variance)
    u, v = (first - prior.mean) / deviation, (second - prior.mean) / deviation
    cosine = functional.cosine_similarity(u, v, dim=1)[:, None]
    angle = torch.acos(cosine.clamp(0, LARGEST_COSINE))
    between = (torch.sin((1 - place) * angle) * u + torch.sin(place * angle) * v) / torch.sin(angle)
    return prior.mean + deviation * between
