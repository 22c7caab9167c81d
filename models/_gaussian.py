"""Gaussians over latents, their divergence in nats, and the bounds that are made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Importance samples, and rows in all, decoded at once: bounds the memory, leaves the bound's distribution alone.
IMPORTANCE_CHUNK, ROWS_AT_ONCE = 50, 2000


class Gaussian(NamedTuple):
    """A Gaussian for each row, N(mean, L L'): means and 2 ln L_ii, both ``(B, latent)``.

    ``lower`` ``(B, latent, latent)`` is L below its diagonal and zero elsewhere, and 2 ln L_ii the log-variance of
    latent i given those before it. Without ``lower`` the Gaussian is diagonal, and they are its log-variances.
    """

    mean: Tensor
    log_variance: Tensor
    lower: Tensor | None = None

    def at(self, noise: Tensor) -> Tensor:
        """The points mean + L noise ``(..., B, latent)`` that standard normal ``noise`` of that shape names."""
        points = self.mean + torch.exp(0.5 * self.log_variance) * noise
        if self.lower is None:
            return points
        with torch.autocast(noise.device.type, enabled=False):
            return points + torch.einsum("bij,...bj->...bi", self.lower, noise.float())

    def log_density_at(self, noise: Tensor) -> Tensor:
        """``ln N`` in nats without its constant at the points that ``noise`` names, latent by latent.

        ln q(z) = ln N(eps; 0, I) - sum_i ln L_ii (An Introduction to Variational Autoencoders, arXiv:1906.02691,
        section 2.5); the share of latent i is that of its density given the latents before it.
        """
        return -0.5 * (noise.square() + self.log_variance)

    def log_density(self, z: Tensor) -> Tensor:
        """``ln N(z)`` in nats without its constant, one latent at a time; of a diagonal Gaussian alone."""
        assert self.lower is None, "the latents are not independent"
        return -0.5 * ((z - self.mean).square() * torch.exp(-self.log_variance) + self.log_variance)


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) in nats for each latent, ``(B, latent)``; p is diagonal.

    KL = (tr(P^-1 L L') + (m_q - m_p)' P^-1 (m_q - m_p) - d + ln |P| - 2 sum_i ln L_ii) / 2 is a sum over latents. The
    share of latent i is the mean of KL(q(z_i | z_1 .. z_(i-1)) || p(z_i)), so that none is negative.
    """
    assert p.lower is None, "the latents of the prior are independent"
    ratio = q.log_variance - p.log_variance
    scaled = (q.mean - p.mean).square()
    if q.lower is not None:
        scaled = scaled + q.lower.square().sum(2)
    return 0.5 * (ratio.exp() + scaled * torch.exp(-p.log_variance) - 1 - ratio)


def free_bits_penalty(kl: Tensor, free_bits: float) -> Tensor:
    """The sum over latents of max(free_bits, mean KL over the batch); ``kl`` is ``(B, latent)`` (arXiv:1606.04934).

    A latent below the threshold gets no gradient, so that it is not pushed into the prior before it is of use.
    """
    return kl.mean(0).clamp(min=free_bits).sum()


def importance_weighted_bound(log_weights: Callable[[int], Tensor], importance_samples: int, rows: int) -> Tensor:
    """ln of the mean of so many weights p(x, z) / q(z|x), in nats, shape ``(rows,)`` (arXiv:1509.00519, equation 8).

    ``log_weights(count)`` draws ``count`` of them anew, ``(count, rows)``; they are drawn in chunks and summed as a
    running log-sum-exp.
    """
    total: Tensor | None = None
    chunk = max(1, min(IMPORTANCE_CHUNK, ROWS_AT_ONCE // max(1, rows)))
    for first in range(0, importance_samples, chunk):
        part = log_weights(min(chunk, importance_samples - first)).logsumexp(0)
        total = part if total is None else torch.logaddexp(total, part)
    assert total is not None, "at least one importance sample"
    return total - math.log(importance_samples)


def normal_noise(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal noise of that shape from ``generator``."""
    return torch.randn(tuple(shape), generator=generator, device=device)
