"""Penalties on the gradient of a critic's score by its input: they keep it from running away from the generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Critic = Callable[[Tensor, Tensor], Tensor]  # scores (B,) of rows (B, *shape) with labels (B,)


class Penalties(NamedTuple):
    """Weights of the penalties: of :func:`zero_centred` at real and at synthetic rows, of :func:`one_centred`."""

    r1: float
    r2: float
    gradient: float = 0.0


@torch.compiler.disable  # type: ignore[untyped-decorator]  # a gradient of a gradient is not compiled
def squared_gradient(critic: Critic, x: Tensor, y: Tensor) -> Tensor:
    """The squared norm of the gradient of all scores by each row, ``(B,)``; it can be differentiated again.

    Where no score depends on another row, that is the gradient of a row's own score.
    """
    with torch.autocast(x.device.type, enabled=False), torch.enable_grad():
        x = x.detach().float().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(x, y).float().sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def zero_centred(critic: Critic, x: Tensor, y: Tensor) -> Tensor:
    """Half the squared gradient at each row, ``(B,)``: R1 at real rows, R2 at synthetic ones.

    Which Training Methods for GANs do actually Converge?, arXiv:1801.04406, equations 9 and 10.
    """
    penalty: Tensor = 0.5 * squared_gradient(critic, x, y)
    return penalty


def one_centred(critic: Critic, real: Tensor, synthetic: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """(norm of the gradient - 1)^2 at a uniform place between each real row and its synthetic one, ``(B,)``.

    Improved Training of Wasserstein GANs, arXiv:1704.00028, equation 3.
    """
    shape = (len(real), *[1] * (real.dim() - 1))
    place = torch.rand(shape, generator=generator, device=real.device)
    squared: Tensor = squared_gradient(critic, torch.lerp(synthetic.detach(), real, place), y)
    return (squared.clamp(min=1e-12).sqrt() - 1).square()  # a root has no gradient at zero
