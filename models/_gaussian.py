"""Diagonal Gaussians over latents, their divergence in nats, and the bounds that are made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

IMPORTANCE_CHUNK = 50  # importance samples decoded at once: bounds the memory, leaves the value alone


class Gaussian(NamedTuple):
    """A diagonal Gaussian for each row: means and log-variances ``(B, latent)``."""

    mean: Tensor
    log_variance: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """The points that standard normal ``noise`` names, of the shape of ``noise``."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def log_density(self, z: Tensor) -> Tensor:
        """``ln N(z)`` in nats without its constant, one latent at a time."""
        return -0.5 * ((z - self.mean).square() * torch.exp(-self.log_variance) + self.log_variance)


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) in nats for each latent, ``(B, latent)``."""
    ratio = q.log_variance - p.log_variance
    return 0.5 * (ratio.exp() + (q.mean - p.mean).square() * torch.exp(-p.log_variance) - 1 - ratio)


def free_bits_penalty(kl: Tensor, free_bits: float) -> Tensor:
    """The sum over latents of max(free_bits, mean KL over the batch); ``kl`` is ``(B, latent)`` (arXiv:1606.04934).

    A latent below the threshold gets no gradient, so that it is not pushed into the prior before it is of use.
    """
    return kl.mean(0).clamp(min=free_bits).sum()


def importance_weighted_bound(log_weights: Callable[[int], Tensor], importance_samples: int) -> Tensor:
    """ln of the mean of so many weights p(x, z) / q(z|x), in nats, shape ``(B,)`` (arXiv:1509.00519, equation 8).

    ``log_weights(count)`` draws ``count`` of them anew, ``(count, B)``; they are drawn in chunks and summed as a
    running log-sum-exp.
    """
    total: Tensor | None = None
    for first in range(0, importance_samples, IMPORTANCE_CHUNK):
        part = log_weights(min(IMPORTANCE_CHUNK, importance_samples - first)).logsumexp(0)
        total = part if total is None else torch.logaddexp(total, part)
    assert total is not None, "at least one importance sample"
    return total - math.log(importance_samples)


def normal_noise(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal noise of that shape from ``generator``."""
    return torch.randn(tuple(shape), generator=generator, device=device)
