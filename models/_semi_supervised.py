"""A critic with a class for every label and one more for synthetic rows, of which that one's logit is held at 0.

Improved Techniques for Training GANs, arXiv:1606.03498, section 5. With the K other logits l(x) and the sum
Z(x) = sum of exp l_k(x), p(real | x) = Z / (Z + 1): ln Z is the score of a critic, and p(y | x, real) a softmax over l.
Rows without a label teach it what is real, so that few labels go further. With the
logistic losses this is the paper's; others say nothing of Z + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def real_score(logits: Tensor) -> Tensor:
    """ln Z ``(B,)`` of class logits ``(B, K)``: the logit of "this row is real"."""
    return torch.logsumexp(logits, dim=1)


def supervised(logits: Tensor, y: Tensor) -> Tensor:
    """The mean cross-entropy over the rows that have a label (``y >= 0``), in nats; 0 where none has one.

    The softmax is over the K real classes: -ln p(y | x, the row is real).
    """
    known = y >= 0
    losses = functional.cross_entropy(logits, y.clamp(min=0), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def undecided(logits: Tensor, y: Tensor) -> Tensor:
    """The mean entropy of p(y | x, the row is real) over the rows without a label (``y < 0``), in nats; 0 for none.

    Good Semi-supervised Learning That Requires a Bad GAN, arXiv:1705.09783: the score says how large the sum of exp l_k
    is and not that one of them is, so the border between two classes may still run through rows.
    """
    unknown = y < 0
    logs = functional.log_softmax(logits, dim=1)
    entropies = -(logs.exp() * logs).sum(1)
    return (entropies * unknown).sum() / unknown.sum().clamp(min=1)
