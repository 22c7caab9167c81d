"""Posterior predictive checks as drawings: the real rows' value among those of the replicated sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from augment.report.charts import HEIGHT, WIDTH
from augment.report.wording import number

KIND = "posterior_predictive"  # of the check
LISTED = 200  # discrepancies in the table
MARGIN = 0.04  # of the axis beyond the outermost value


@dataclass(frozen=True)
class Surprise:
    """One discrepancy of one class: its value in the real rows and, as a histogram, in the replicated sets."""

    title: str
    of_class: str
    observed: float
    replicated: tuple[float, float, float]  # 2.5 %, half and 97.5 % of the sets are below
    p: float
    corrected_p: float
    alpha: float
    edges: tuple[float, float] | None  # of the histogram, null where there is none
    shares: tuple[float, ...]

    @property
    def surprising(self) -> bool:
        """Whether nearly all replicated sets are above or below the real rows."""
        return not self.alpha <= self.p <= 1 - self.alpha

    @property
    def axis(self) -> tuple[float, float]:
        """The ends of the axis, which holds all replicated sets and the real rows."""
        low, high = self.edges or (self.observed, self.observed)
        low, high = min(low, self.observed), max(high, self.observed)
        room = MARGIN * ((high - low) or abs(high) or 1.0)
        # What cannot be negative gets no negative axis.
        return (max(0.0, low - room) if low >= 0 else low - room), high + room

    @property
    def ticks(self) -> tuple[str, str, str]:
        """The lowest, middle and highest value of the axis."""
        low, high = self.axis
        return number(float(f"{low:.3g}")), number(float(f"{(low + high) / 2:.3g}")), number(float(f"{high:.3g}"))

    @property
    def bars(self) -> str:
        """The outline of the histogram as a closed vector path."""
        if self.edges is None:
            return ""
        x = [self._x(value) for value in np.linspace(*self.edges, len(self.shares) + 1)]
        top = max(self.shares)
        y = [HEIGHT - share / top * (HEIGHT - 12) for share in self.shares]
        steps = "".join(f"L{x[i]:.5g},{y[i]:.4g}H{x[i + 1]:.5g}" for i in range(len(y)))
        return f"M{x[0]:.5g},{HEIGHT}{steps}V{HEIGHT}Z"

    @property
    def place(self) -> str:
        """Where on the axis the real rows are."""
        return f"{self._x(self.observed):.5g}"

    @property
    def summary(self) -> str:
        """What the drawing shows, for those who cannot see it."""
        low, _, high = map(number, self.replicated)
        of_class = f" of class {self.of_class}" if self.of_class else ""
        return f"{self.title}{of_class}: {number(self.observed)} in the real rows, {low} to {high} in 95 % of the sets."

    def _x(self, value: float) -> float:
        low, high = self.axis
        return (value - low) / (high - low) * WIDTH


@dataclass(frozen=True)
class Surprises:
    """What the check found: the most surprising discrepancies, some of them drawn, and how many there are in all."""

    drawn: tuple[Surprise, ...]
    listed: tuple[Surprise, ...]
    discrepancies: int
    surprising: int
    replicates: int
    alpha: float
    not_judged: tuple[str, ...]


def chance(p: float) -> str:
    """A p-value with three decimals; never 0 or 1."""
    if p < 0.001:
        return "<0.001"
    return ">0.999" if p > 0.999 else f"{p:.3f}"


def surprises_of(audit: Mapping[str, Any]) -> Surprises | None:
    """What the details of an audit say of the posterior predictive check; null where it was not made."""
    details: Mapping[str, Any] | None = audit.get(KIND)
    if details is None:
        return None
    found = tuple(_surprise(pair, details["alpha"]) for pair in details["most_surprising"][:LISTED])
    return Surprises(
        drawn=tuple(surprise for surprise in found if surprise.edges is not None),
        listed=found,
        discrepancies=details["discrepancies"],
        surprising=details["surprising"],
        replicates=details["replicates"],
        alpha=details["alpha"],
        not_judged=tuple(details["not_judged"]),
    )


def _surprise(pair: Mapping[str, Any], alpha: float) -> Surprise:
    histogram = pair.get("histogram")
    low, middle, high = pair["replicated"]
    return Surprise(
        title=pair["discrepancy"],
        of_class=pair["class"],
        observed=pair["observed"],
        replicated=(low, middle, high),
        p=pair["p"],
        corrected_p=pair["corrected_p"],
        alpha=alpha,
        edges=None if histogram is None else (histogram["low"], histogram["high"]),
        shares=() if histogram is None else tuple(histogram["shares"]),
    )
