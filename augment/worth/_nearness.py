"""How near rows lie to training rows, beside a reference: three figures of several strata of rows together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from augment.worth._neighbours import chance_of_larger

FEWEST = 10  # reference rows by which a stratum is judged by itself
NEAREST = 0.01  # the quantile of the reference, and
NEAR = 0.5  # the part of it, below which a row is a near copy


@dataclass(frozen=True)
class Stratum:
    """Of rows of one class and sort, the distance to training rows over that to held-out rows ``(M,)``.

    ``reference`` ``(N,)`` are the same of rows to compare with. ``twins`` is the share of real rows that equal another:
    fresh real rows would too, while the split keeps equal rows on one side, so that no held-out row has distance 0.
    ``least`` is the chance of lying farther that is required; only rows that are ``strangers`` to the training rows are
    judged class by class.
    """

    name: str
    ratios: Tensor
    authentic: int
    reference: Tensor
    reference_authentic: int
    twins: float = 0.0
    least: float = 0.35
    strangers: bool = True

    @property
    def farther(self) -> float:
        """The chance that a row is farther than one of the reference, ties counted half."""
        from_twins = float(((self.ratios > 0).double() + 0.5 * (self.ratios == 0).double()).mean())
        return (1 - self.twins) * chance_of_larger(self.ratios, self.reference) + self.twins * from_twins

    @property
    def variance(self) -> float:
        """Of ``farther``, where rows and reference are of one distribution."""
        return (1 / len(self.ratios) + 1 / len(self.reference)) / 12

    def nearer(self, than: float) -> float:
        """How many rows are nearer, without those at distance 0 that as many fresh real rows would have."""
        at_zero = min(float((self.ratios == 0).sum()), self.twins * len(self.ratios))
        return max(0.0, float((self.ratios < than).sum()) - at_zero)


@dataclass(frozen=True)
class Nearness:
    """The figures of all strata with their limits, the chance of each class that is judged by itself, and the worst."""

    farther: float
    farther_limit: float
    near_share: float
    near_limit: float
    worst_near_share: float
    worst: str
    authenticity: float
    authenticity_floor: float
    classes: dict[str, float]


def nearness(strata: Sequence[Stratum], near: float) -> Nearness | None:
    """What the strata amount to, every row of the reference counting the same; null without any.

    Limits are what the strata require at least, and ``near``, with three standard errors granted.
    """
    if not strata:
        return None
    weights = [len(s.reference) for s in strata]
    total = sum(weights)
    value = sum(w * s.farther for w, s in zip(weights, strata, strict=True)) / total
    error = math.sqrt(sum((w / total) ** 2 * s.variance for w, s in zip(weights, strata, strict=True)))
    least = sum(w * s.least for w, s in zip(weights, strata, strict=True)) / total
    judged = [s for s in strata if s.strangers and len(s.reference) >= FEWEST]
    shares = {s.name: s.nearer(NEAR * float(s.reference.median())) / len(s.ratios) for s in judged}
    worst = max(shares, key=lambda name: shares[name], default="")
    rows = sum(len(s.ratios) for s in strata)
    return Nearness(
        farther=value,
        farther_limit=max(0.0, least - 3 * error),
        near_share=_near_copies(strata) / rows,
        near_limit=near + 3 * math.sqrt(near * (1 - near) / rows),
        worst_near_share=shares.get(worst, 0.0),
        worst=worst,
        authenticity=sum(s.authentic for s in strata) / rows,
        authenticity_floor=sum(s.reference_authentic for s in strata) / total,
        classes={s.name: s.farther for s in judged},
    )


def _near_copies(strata: Sequence[Stratum]) -> float:
    """Rows nearer than half of the reference's 1 % quantile.

    Ratios count in medians of their stratum's reference, so that classes can be taken together.
    """
    scales = [float(s.reference.median().clamp(min=1e-12)) for s in strata]
    reference = torch.cat([s.reference / scale for s, scale in zip(strata, scales, strict=True)]).sort().values
    quantile = float(reference[max(1, math.floor(NEAREST * len(reference))) - 1])
    return sum(s.nearer(NEAR * quantile * scale) for s, scale in zip(strata, scales, strict=True))
