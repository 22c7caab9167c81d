"""Distributions of table columns as geometry for small vector drawings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from augment.report.distances import Distance, Missing, Side, Sides, kolmogorov_smirnov, measure, total_variation
from augment.report.sampling import Sample, Samples, finite, value_names
from augment.report.wording import number
from augment.schema import ColumnSchema

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 320, 96  # of a drawing, in its own units
BINS = 24
LEVELS = 9  # categories shown; the rest are summed up
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Histogram:
    """Shares of real and synthetic values between ``edges``; the outermost bars hold what lies beyond."""

    template: ClassVar[str] = "histogram.html.j2"
    section: ClassVar[str] = "charts"

    title: str
    distance: Distance
    missing: Missing
    edges: tuple[float, ...]
    real: tuple[float, ...]
    synthetic: tuple[float, ...]
    whole: bool = False

    @property
    def figures(self) -> tuple[Histogram, ...]:
        """What is measured in this panel: itself."""
        return (self,)

    @property
    def real_path(self) -> str:
        """The outline of the real bars as a closed vector path."""
        return f"M0,{HEIGHT}" + self._steps(self.real) + f"L{WIDTH},{HEIGHT}Z"

    @property
    def synthetic_path(self) -> str:
        """The outline of the synthetic bars as an open vector path."""
        steps = self._steps(self.synthetic)
        return f"M0,{HEIGHT}" + steps + f"L{WIDTH},{HEIGHT}" if any(self.synthetic) else ""

    @property
    def ticks(self) -> tuple[str, str, str]:
        """The lowest, middle and highest value of the axis."""
        low, high = self.edges[0], self.edges[-1]
        if self.whole:
            low, high = math.ceil(low), math.floor(high)
        middle = (low + high) / 2
        return number(low), number(middle) if not self.whole or middle.is_integer() else "", number(high)

    @property
    def summary(self) -> str:
        """What the drawing shows, for those who cannot see it."""
        text = f"Histogram of {self.title} from {self.ticks[0]} to {self.ticks[2]}: real rows centre at "
        text += f"{number(self._centre(self.real))}"
        return text + (f", synthetic rows at {number(self._centre(self.synthetic))}." if any(self.synthetic) else ".")

    def plot(self, axes: Axes, colours: tuple[str, str]) -> None:
        """Draw the histogram into matplotlib axes."""
        axes.stairs(self.real, self.edges, fill=True, color=colours[0], alpha=0.45, linewidth=0)
        axes.stairs(self.synthetic, self.edges, color=colours[1], linewidth=1.6)
        axes.set_yticks([])
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlim(self.edges[0], self.edges[-1])

    def _steps(self, shares: tuple[float, ...]) -> str:
        top = max(*self.real, *self.synthetic, 1e-12)
        x = np.linspace(0, WIDTH, len(shares) + 1)
        y = HEIGHT - np.array(shares) / top * (HEIGHT - 4)
        return "".join(f"L{x[i]:.5g},{y[i]:.4g}H{x[i + 1]:.5g}" for i in range(len(shares)))

    def _centre(self, shares: tuple[float, ...]) -> float | None:
        """The middle of the bar that holds the median."""
        if not any(shares):
            return None
        bar = int(np.searchsorted(np.cumsum(shares), sum(shares) / 2))
        return (self.edges[bar] + self.edges[bar + 1]) / 2


@dataclass(frozen=True)
class Level:
    """The share of one value on both sides."""

    name: str
    real: float
    synthetic: float


@dataclass(frozen=True)
class Bars:
    """Shares of the most frequent values; ``others`` counts the values summed up in the last bar."""

    template: ClassVar[str] = "bars.html.j2"
    section: ClassVar[str] = "charts"

    title: str
    distance: Distance
    missing: Missing
    levels: tuple[Level, ...]
    others: int

    @property
    def figures(self) -> tuple[Bars, ...]:
        """What is measured in this panel: itself."""
        return (self,)

    @property
    def top(self) -> float:
        """The longest bar."""
        return max((max(v.real, v.synthetic) for v in self.levels), default=1.0) or 1.0

    def plot(self, axes: Axes, colours: tuple[str, str]) -> None:
        """Draw the bars into matplotlib axes."""
        places = np.arange(len(self.levels))
        axes.barh(places - 0.2, [v.real for v in self.levels], 0.38, color=colours[0], alpha=0.55)
        axes.barh(places + 0.2, [v.synthetic for v in self.levels], 0.38, color=colours[1])
        axes.set_yticks(places, [plain(v.name, 14) for v in self.levels])
        axes.invert_yaxis()
        axes.set_xticks([])


def histogram(title: str, sides: Sides, whole: bool = False) -> Histogram:
    """The histogram of numbers on both sides, every class counting the same."""
    real, synthetic = sides.real, sides.synthetic
    edges = bin_edges(real.values[real.present], synthetic.values[synthetic.present], whole)
    shares = [_bar_heights(side, edges, sides.shared()) for side in (real, synthetic)]
    distance = measure("KS", kolmogorov_smirnov, sides)
    return Histogram(title, distance, sides.missing(), tuple(edges.tolist()), shares[0], shares[1], whole)


def _bar_heights(side: Side, edges: Floats, shared: set[str]) -> tuple[float, ...]:
    """The weighted share of the values in each bin, what lies beyond the edges in the outermost."""
    values = np.clip(side.values[side.present], edges[0], edges[-1])
    heights, _ = np.histogram(values, edges, weights=side.weights(shared)[side.present])
    return tuple(heights.tolist())


def bin_edges(real: Floats, synthetic: Floats, whole: bool) -> Floats:
    """Equal bins over the middle 99 % of either side; whole numbers get bins of whole width."""
    sides = [side for side in (real, synthetic) if len(side)]
    if not sides:
        return np.array([0.0, 1.0])
    low = min(float(np.quantile(side, 0.005)) for side in sides)
    high = max(float(np.quantile(side, 0.995)) for side in sides)
    if whole:
        step = max(1, math.ceil((high - low + 1) / BINS))  # never narrower than a whole number
        return np.arange(math.floor(low) - 0.5, math.ceil(high) + 0.5 + step, step)
    margin = abs(low) * 0.05 or 0.5
    bins = int(np.clip(2 * math.sqrt(min(len(side) for side in sides)), 8, BINS))  # few rows: wide bars
    return np.linspace(low, high, bins + 1) if high > low else np.array([low - margin, low + margin])


def draw_numbers(column: ColumnSchema, samples: Samples) -> Histogram:
    """The histogram of a numeric or integer column."""

    def side(sample: Sample) -> Side:
        values = finite(sample.column(column.name, pa.float64()))
        return Side(values, ~np.isnan(values), sample.classes)

    sides = Sides(side(samples.real), side(samples.synthetic), side(samples.held_out), samples.class_names)
    return histogram(column.name, sides, whole=column.type == "int64")


def draw_values(column: ColumnSchema, samples: Samples) -> Bars:
    """The bars of a categorical or boolean column."""

    def side(sample: Sample) -> Side:
        array = sample.column(column.name, column.arrow_type).combine_chunks()
        return Side(value_names(array), array.is_valid().to_numpy(zero_copy_only=False), sample.classes)

    sides = Sides(side(samples.real), side(samples.synthetic), side(samples.held_out), samples.class_names)
    distance = measure("TVD", total_variation, sides)
    shares = [_shares(s, sides.shared()) for s in (sides.real, sides.synthetic)]
    ranked = sorted(set().union(*shares), key=lambda v: (-max(s.get(v, 0.0) for s in shares), v))
    levels = [Level(v, shares[0].get(v, 0.0), shares[1].get(v, 0.0)) for v in ranked]
    shown, rest = (levels, []) if len(levels) <= LEVELS + 1 else (levels[:LEVELS], levels[LEVELS:])
    if rest:
        shown.append(Level(f"{len(rest)} others", sum(v.real for v in rest), sum(v.synthetic for v in rest)))
    return Bars(column.name, distance, sides.missing(), tuple(shown), len(rest))


def _shares(side: Side, shared: set[str]) -> dict[str, float]:
    """The weighted share of each value."""
    weights = side.weights(shared)
    values, positions = np.unique(side.values, return_inverse=True)
    totals = np.bincount(positions.ravel(), weights, len(values)).tolist()
    return {str(v): t for v, t in zip(values, totals, strict=True) if t > 0}


def plain(text: str, limit: int) -> str:
    """``text`` cut to ``limit`` characters, with the signs that matplotlib would read as mathematics escaped."""
    cut = text if len(text) <= limit else text[: limit - 1] + "\u2026"
    return cut.replace("$", r"\$")
