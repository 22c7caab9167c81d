"""What a critic and a generator minimise, as functions of the critic's scores: one row of a table for each loss.

A score is any real number, higher for rows that look real. Row i of the synthetic rows was asked of the label of row i
of the real ones, so that a loss may compare the two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

LossName = Literal["minimax", "non_saturating", "hinge", "least_squares", "wasserstein", "relativistic"]


class AdversarialLoss(NamedTuple):
    """Losses ``(B,)`` of the critic, from scores of real and of synthetic rows ``(B,)``, and of the generator.

    The generator's is of the score of a synthetic row; of how far it is above its real row's where ``relative``.
    """

    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    relative: bool = False


def _logistic(real: Tensor, synthetic: Tensor) -> Tensor:
    """-ln D(x) - ln(1 - D(G(z))) with D = sigmoid(score): 2 ln 2 where no row can be told from another."""
    return softplus(-real) + softplus(synthetic)


LOSSES: dict[LossName, AdversarialLoss] = {
    # Generative Adversarial Nets, arXiv:1406.2661, equation 1: the generator descends ln(1 - D(G(z))).
    "minimax": AdversarialLoss(_logistic, lambda synthetic: -softplus(synthetic)),
    # The same paper, section 3: the generator descends -ln D(G(z)), whose gradient lasts while the critic wins.
    "non_saturating": AdversarialLoss(_logistic, lambda synthetic: softplus(-synthetic)),
    # Geometric GAN, arXiv:1705.02894.
    "hinge": AdversarialLoss(lambda real, synthetic: relu(1 - real) + relu(1 + synthetic), torch.neg),
    # Least Squares Generative Adversarial Networks, arXiv:1611.04076, equation 9: real rows score 1, synthetic ones 0.
    "least_squares": AdversarialLoss(
        lambda real, synthetic: 0.5 * ((real - 1).square() + synthetic.square()),
        lambda synthetic: 0.5 * (synthetic - 1).square(),
    ),
    # Wasserstein GAN, arXiv:1701.07875: a distance, as long as the critic is Lipschitz.
    "wasserstein": AdversarialLoss(lambda real, synthetic: synthetic - real, torch.neg),
    # The relativistic discriminator, arXiv:1807.00734; that it has no local minima of lost modes: arXiv:2501.05441.
    "relativistic": AdversarialLoss(
        lambda real, synthetic: softplus(synthetic - real), lambda above: softplus(-above), relative=True
    ),
}


def smoothed(loss: AdversarialLoss, target: float) -> AdversarialLoss:
    """A logistic loss whose critic should say ``target``, and not 1, of real rows.

    Improved Techniques for Training GANs, arXiv:1606.03498, section 3.4. Synthetic rows keep their target of 0: what
    the critic learns is then target p_real / (p_real + p_synthetic), and a raised one would bring p_synthetic into the
    numerator, which pulls the generator to where it is already.
    """

    def critic(real: Tensor, synthetic: Tensor) -> Tensor:
        return target * softplus(-real) + (1 - target) * softplus(real) + softplus(synthetic)

    return loss._replace(critic=critic)


def feature_matching(real: Tensor, synthetic: Tensor) -> Tensor:
    """||mean of real features - mean of synthetic ones||^2 over features ``(B, width)``, a scalar.

    Improved Techniques for Training GANs, arXiv:1606.03498, section 3.1; the real side is a target without gradient.
    """
    return (real.detach().mean(0) - synthetic.mean(0)).square().sum()
