"""Posterior predictive: sets of synthetic rows look like the set of real rows, in each chosen discrepancy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from augment.checks._class_numbers import (
    FEATURE,
    Numbers,
    by_class,
    codes_of,
    few_numbers,
    frequent_categories,
    numbers_of_set,
)
from augment.checks._contract import (
    Check,
    Evidence,
    Figures,
    Finding,
    Learned,
    RowFigures,
    Shard,
    bounded,
)
from augment.checks._discrepancies import STATISTICS, Comparison, Floats, Statistic, compare, corrected
from augment.checks._real import RealRows
from augment.errors import InputError
from augment.gates import Severity

GATE = "posterior_predictive"
ROWS = 200  # of a class on either side; with many more every model looks wrong, and two rows in each pair are compared
ALL_ROWS = 40_000  # of all classes on a side
KEPT = 1_000  # discrepancies of which the figures are kept, the most surprising ones
DRAWN = 24  # of which the replicated values are kept as a histogram
BINS = 24


class PosteriorPredictive(Check):
    """Judges whether synthetic rows could be told from the real ones by simple figures of whole sets.

    A posterior predictive check (Blei, "Build, Compute, Critique, Repeat: Data Analysis with Latent Variable Models",
    2014; Gelman, Meng and Stern 1996): for each class and discrepancy T, the value of the n real training rows is
    compared with that of many replicated sets of n synthetic rows as first drawn, or of the selected ones where rows
    are selected, p = Pr(T(rep) >= T(obs)). The discrepancies are those of :mod:`augment.checks._discrepancies`: of
    every measure of every column (an image's ink, contrast, sharpness, entropy, place; a number itself) the mean, the
    spread and the quantiles of 10 % and 90 %, which a shifted, too narrow or lopsided model misses; of every frequent
    category, and of missing values, the share, which a missing mode changes; and the mean distance between two rows,
    which shrinks where a model collapses.

    With hundreds of discrepancies some p are extreme by chance alone. So the gate judges the largest surprise: how far
    apart real and synthetic rows are, compared with the same rows dealt at random into a real and a synthetic side. The
    smallest p-value corrected so must be at least ``alpha``; of sets of good rows a share of at most ``alpha`` fails.
    The p-values of single discrepancies are shown and decide nothing: of a dozen synthetic rows the replicated sets
    know little of the tails, and are too sure. The floor is what
    real rows score against real ones, the validation rows or, where these are too few, one half of the training rows
    against the other; where even that is below ``alpha``, it is the limit.
    """

    kind: Literal["posterior_predictive"] = "posterior_predictive"
    summary: ClassVar[str] = "sets of synthetic rows look like the real set, class by class; off by default"
    default_on: ClassVar[bool] = False
    severity: ClassVar[Severity] = "warning"

    alpha: float = Field(
        0.01, gt=0, lt=0.5, allow_inf_nan=False, description="The smallest corrected p-value that passes."
    )
    replicates: int = Field(1_000, ge=100, le=100_000, description="Replicated sets of each class, and deals.")
    rows_at_least: int = Field(8, ge=4, le=ROWS, description="Real and synthetic rows that a class must have.")
    statistics: tuple[Statistic, ...] = Field(
        STATISTICS, min_length=1, description="What is taken of each measure: mean, spread, low, high; and distance."
    )
    measures: tuple[str, ...] | None = Field(
        None, min_length=1, description="The measures, such as image.mean or a numeric column's name; null: all."
    )
    refuses: bool = Field(False, description="Whether surprising rows are refused; false: a warning.")

    @property
    def graded(self) -> Severity:
        """Critical where surprising rows are refused."""
        return "critical" if self.refuses else self.severity

    @model_validator(mode="after")
    def _can_fail(self) -> PosteriorPredictive:
        if self.alpha * (self.replicates + 1) <= 1:
            raise ValueError(
                f"{self.replicates} replicates give no p-value below alpha {self.alpha:g}; "
                "raise replicates to 1 / alpha at least"
            )
        return self

    def learn(self, real: RealRows, folder: Path) -> Figures:
        """The numbers of a few training rows of each class, class by class, and the floor."""
        limit = max(self.rows_at_least, min(ROWS, ALL_ROWS // max(1, len(real.schema.classes))))
        categories = frequent_categories(real, limit)
        train = few_numbers(real, "train", limit, categories)
        self._refuse_unknown(train.names)
        np.save(folder / "numbers.npy", np.concatenate([*train.classes.values(), np.empty((0, len(train.names)))]))
        return {
            "categories": categories,
            "names": train.names,
            "rows": {name: len(numbers) for name, numbers in train.classes.items()},
            "limit": limit,
            "floor": self._floor(train, few_numbers(real, "validation", limit, categories)),
        }

    def rows(self, shard: Shard, learned: Learned) -> RowFigures:
        """The place of each category in the list that was learned, one column a column; -1 where it is not in it."""
        codes = codes_of(shard.table, shard.schema, learned.figures["categories"])
        return RowFigures({f"{GATE}.{name}": column for name, column in codes.items()})

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """The smallest corrected p-value of any class and discrepancy, and the figures of the most surprising ones."""
        figures = learned.figures
        real = Numbers(figures["names"], by_class(learned.array("numbers"), figures["rows"]))
        synthetic = numbers_of_set(evidence, GATE, figures["names"], figures["categories"], figures["limit"])
        judged = self._judge(real, synthetic)
        floor = figures["floor"]
        limit = self.alpha if floor is None else min(self.alpha, float(floor))
        if not judged.pairs:
            return Finding(
                f"No class has {self.rows_at_least} real and as many synthetic rows with something to compare.",
                floor=floor,
                applies=False,
            )
        if limit * (self.replicates + 1) <= 1:  # the smallest p-value that there is would pass
            return Finding(
                "The real rows of training and validation differ from each other as much as rows can, so that nothing "
                "can be said of synthetic ones; look at how the data are split.",
                floor=floor,
                applies=False,
            )
        worst = judged.pairs[0]
        surprising = sum(not self.alpha <= pair["p"] <= 1 - self.alpha for pair in judged.pairs)
        return Finding(
            self._sentence(worst, surprising, len(judged.pairs), limit),
            value=worst["corrected_p"],
            floor=floor,
            limit=limit,
            metrics={
                "smallest_corrected_p": worst["corrected_p"],
                "surprising_share": round(surprising / len(judged.pairs), 6),
                "classes_judged": len(judged.classes),
            },
            class_metrics={"smallest_corrected_p": [judged.classes.get(name, 1.0) for name in evidence.wanted]},
            set_expectations=bounded(f"{GATE}.smallest_corrected_p", limit, None),
            class_expectations=bounded(f"{GATE}.smallest_corrected_p", limit, None),
            details={
                "alpha": self.alpha,
                "limit": limit,
                "replicates": self.replicates,
                "discrepancies": len(judged.pairs),
                "surprising": surprising,
                "not_judged": [name for name in evidence.wanted if name not in judged.classes],
                "most_surprising": judged.pairs[:KEPT],
            },
        )

    def _sentence(self, worst: Mapping[str, Any], surprising: int, pairs: int, limit: float) -> str:
        of_class = f" of class '{worst['class']}'" if worst["class"] else ""
        low, _, high = worst["replicated"]
        return (
            f"Of {pairs:,} discrepancies, {surprising:,} have a p-value outside {self.alpha:g} to {1 - self.alpha:g}. "
            f"The most surprising is the {worst['discrepancy']}{of_class}: {worst['observed']:.4g} in the real rows, "
            f"{low:.4g} to {high:.4g} in 95 % of the replicated sets; its p-value, corrected for all that were looked "
            f"at, is {worst['corrected_p']:.2g}, and {limit:.2g} is required."
        )

    def _judge(self, real: Numbers, synthetic: Numbers) -> Judgement:
        """Every class that has enough rows on both sides compared, the most surprising discrepancies first."""
        compared: dict[str, Comparison] = {}
        largest = np.zeros(self.replicates + 1)
        for name, numbers in real.classes.items():
            others = synthetic.classes.get(name, numbers[:0])
            if min(len(numbers), len(others)) < self.rows_at_least:
                continue
            chosen = self._chosen(real.names)
            shares = np.array([not n.startswith(FEATURE) for n in real.names])[chosen]
            titles = [real.names[i].removeprefix(FEATURE) for i in chosen]
            found = compare(
                numbers[:, chosen], others[:, chosen], titles, shares, self.statistics, self.replicates, GATE, name
            )
            if found.titles:
                largest = np.maximum(largest, found.surprise.max(axis=1))
                compared[name] = found
        return _judgement(compared, largest)

    def _floor(self, train: Numbers, validation: Numbers) -> float | None:
        """The smallest corrected p-value of real rows against real rows; null where they are too few."""
        judged = self._judge(train, validation)
        if not judged.pairs:  # every second row, so that both halves have what the order of the rows may mean
            halves = [{name: rows[half::2] for name, rows in train.classes.items()} for half in (0, 1)]
            judged = self._judge(Numbers(train.names, halves[0]), Numbers(train.names, halves[1]))
        return judged.pairs[0]["corrected_p"] if judged.pairs else None

    def _chosen(self, names: Sequence[str]) -> list[int]:
        """Which numbers are looked at: those of the chosen measures, and all shares."""
        return [
            place
            for place, name in enumerate(names)
            if self.measures is None or not name.startswith(FEATURE) or name.removeprefix(FEATURE) in self.measures
        ]

    def _refuse_unknown(self, names: Sequence[str]) -> None:
        known = [name.removeprefix(FEATURE) for name in names if name.startswith(FEATURE)]
        unknown = [name for name in self.measures or () if name not in known]
        if unknown:
            raise InputError(
                f"checks.{GATE}.measures names '{unknown[0]}', which these data do not have; "
                f"they have: {', '.join(known) or 'none'}."
            )


@dataclass(frozen=True)
class Judgement:
    """Every class and discrepancy as JSON values, most surprising first, and the smallest corrected p of each class."""

    pairs: list[dict[str, Any]]
    classes: dict[str, float]


def _judgement(compared: Mapping[str, Comparison], largest: Floats) -> Judgement:
    pairs: list[dict[str, Any]] = []
    ranks: list[float] = []
    classes = {}
    for name, found in compared.items():
        p = corrected(found.surprise[0], largest)
        classes[name] = round(float(p.min()), 6)
        low, middle, high = np.nanquantile(found.replicated, [0.025, 0.5, 0.975], axis=0)
        for place, title in enumerate(found.titles):
            ranks.append(-float(found.surprise[0, place]))
            pairs.append(
                {
                    "class": name,
                    "discrepancy": title,
                    "observed": _short(found.observed[place]),
                    "replicated": [_short(low[place]), _short(middle[place]), _short(high[place])],
                    "p": round(float(found.p[place]), 6),
                    "surprise": round(float(found.surprise[0, place]), 3),
                    "corrected_p": round(float(p[place]), 6),
                    "place": place,
                }
            )
    ordered = [pairs[i] for i in sorted(range(len(pairs)), key=lambda i: ranks[i])]
    for rank, pair in enumerate(ordered):
        place = pair.pop("place")
        if rank < DRAWN:
            pair["histogram"] = _histogram(compared[pair["class"]].replicated[:, place])
    return Judgement(ordered, classes)


def _histogram(replicated: Floats) -> dict[str, Any]:
    """The shares of replicated values in equal bins over all of them; values that differ by rounding count as one."""
    values = replicated[np.isfinite(replicated)]
    middle, room = float(values.mean()), 1e-9 * float(np.abs(values).max())
    low, high = float(values.min()), float(values.max())
    if high - low <= 2 * room:
        low, high = middle - max(room, 0.5), middle + max(room, 0.5)
        values = np.full(len(values), middle)
    counts, edges = np.histogram(values, BINS, (low, high))
    return {
        "low": _short(edges[0]),
        "high": _short(edges[-1]),
        "shares": [round(count / len(values), 4) for count in counts.tolist()],
    }


def _short(value: Any) -> float:
    """Six significant digits, so that the last bits of a sum decide no byte."""
    return float(f"{float(value):.6g}")
