"""The Fréchet distance between two samples, taken for Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(
    first: Tensor, second: Tensor, first_mass: Tensor | None = None, second_mass: Tensor | None = None
) -> float:
    """The squared Fréchet distance of Gaussians with the moments of ``first`` ``(N, D)`` and ``second`` ``(M, D)``.

    |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2)) (Dowson and Landau 1982; arXiv:1706.08500, equation 6). The last
    trace is the sum of the singular values of S1^(1/2) S2^(1/2), which takes no root of a product that rounding has
    made indefinite, and is exact for covariances that lack rank. Rows count by their ``mass`` ``(N,)`` or ``(M,)``, of
    any sum, else all the same. The distance grows with fewer rows even when the distributions are the same: compare at
    equal sizes only.

    Raises:
        ValueError: a sample is empty.
    """
    if not len(first) or not len(second):
        raise ValueError("the Fréchet distance needs rows on both sides")
    (m1, S1), (m2, S2) = _moments(first, first_mass), _moments(second, second_mass)
    cross = torch.linalg.svdvals(_root(S1) @ _root(S2)).sum()
    distance = (m1 - m2).square().sum() + S1.trace() + S2.trace() - 2 * cross
    return max(0.0, float(distance))


def _moments(sample: Tensor, mass: Tensor | None) -> tuple[Tensor, Tensor]:
    """The mean ``(D,)`` and covariance ``(D, D)`` in double precision."""
    weight = torch.ones(len(sample), device=sample.device) if mass is None else mass
    share = (weight.double() / weight.double().sum())[:, None]
    mean = (share * sample.double()).sum(dim=0)
    centred = sample.double() - mean
    return mean, centred.T @ (share * centred)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
