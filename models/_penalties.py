"""Penalties on the gradient of a critic's score by its input: they keep it from running away from the generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Critic = Callable[[Tensor, Tensor], Tensor]  # scores (B,) of rows (B, *shape) with labels (B,)


class Penalties(NamedTuple):
    """Weights of the penalties: of :func:`zero_centred` at real and at synthetic rows, of :func:`one_centred`."""

    r1: float
    r2: float
    gradient: float = 0.0


def squared_gradients(score: Tensor, kinds: Sequence[Tensor]) -> Tensor:
    """The squared norm of the gradient of all scores by each row, ``(kinds, B)``; it can be differentiated again.

    ``kinds`` are the rows ``(B, *shape)`` that were scored. Where no score depends on another row, that is the gradient
    of a row's own score.
    """
    gradients = torch.autograd.grad(score.float().sum(), [*kinds], create_graph=True)
    return torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients])


@torch.compiler.disable  # type: ignore[untyped-decorator]  # a gradient of a gradient is not compiled
def squared_gradient(critic: Critic, x: Tensor, y: Tensor) -> Tensor:
    """:func:`squared_gradients` of one kind of rows, ``(B,)``, by a pass of their own in 32 bits."""
    with torch.autocast(x.device.type, enabled=False), torch.enable_grad():
        x = x.detach().float().requires_grad_()
        return squared_gradients(critic(x, y), [x])[0]


def zero_centred(squared: Tensor) -> Tensor:
    """Half the squared gradient at each row: R1 at real rows, R2 at synthetic ones.

    Which Training Methods for GANs do actually Converge?, arXiv:1801.04406, equations 9 and 10.
    """
    return 0.5 * squared


def one_centred(critic: Critic, real: Tensor, synthetic: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """(norm of the gradient - 1)^2 at a uniform place between each real row and its synthetic one, ``(B,)``.

    Improved Training of Wasserstein GANs, arXiv:1704.00028, equation 3.
    """
    shape = (len(real), *[1] * (real.dim() - 1))
    place = torch.rand(shape, generator=generator, device=real.device)
    squared: Tensor = squared_gradient(critic, torch.lerp(synthetic.detach(), real, place), y)
    return (squared.clamp(min=1e-12).sqrt() - 1).square()  # a root has no gradient at zero
