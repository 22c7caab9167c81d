"""The Inception score with a classifier of our own: sure of each row, and of another class from row to row.

Improved Techniques for Training GANs, arXiv:1606.03498, section 4, with a net that was trained on these data in the
place of Inception, which was trained on photos of other classes: no published score compares. It is 1 where the net
says the same of every row, and the number of classes where it is sure of each and names all equally often.

It is blind to much. The label that a row was asked of is not looked at, so classes that are exchanged score as well as
right ones; one row a class, drawn again and again, scores all that there is; and rows that the net is surer of than of
real ones score more than these. So it stands beside coverage and label agreement, never for them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from augment.worth._classifier import Classifier
from models._contract import TensorSpec


def classifier_score(probabilities: Tensor, mass: Tensor | None = None) -> float:
    """exp(E_x KL(p(y|x) || p(y))) for p(y|x) ``(N, num_classes)``, where p(y) is the mean of p(y|x).

    Rows count by their ``mass`` ``(N,)``, of any sum, else all the same. With p(y) from the same rows the divergence is
    the entropy of the mean less the mean entropy, in nats. Fewer rows than classes cannot reach the number of classes.

    Raises:
        ValueError: there are no rows.
    """
    if not len(probabilities):
        raise ValueError("a classifier score needs rows")
    p = probabilities.double()
    weight = torch.ones(len(p), device=p.device) if mass is None else mass
    share = weight.double() / weight.double().sum()
    of_mean = torch.special.entr(share @ p).sum()
    mean_of = share @ torch.special.entr(p).sum(dim=1)
    return float((of_mean - mean_of).exp())


def balanced_score(net: Classifier, spec: TensorSpec, rows: Mapping[int, Tensor]) -> float | None:
    """The score of flat rows ``(N, size)`` by class, where every class has the same mass; None without rows."""
    parts = [x for x in rows.values() if len(x)]
    if not parts:
        return None
    mass = torch.cat([torch.full((len(x),), 1 / len(x)) for x in parts])
    p = net.confidence(torch.cat(parts).reshape(-1, *spec.shape))
    return classifier_score(p, mass.to(p.device))
