"""Tables downstream: boosted trees and logistic regression, with what imbalanced data call for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from augment.progress import Progress
from augment.worth._downstream import NOTHING_SEARCHED, PLAIN, Chosen, Places, Predicted
from augment.worth._rebalancing import METHODS, Rows
from augment.worth._tables import LEARNERS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Tables:
    """Rows of each side as frames of :func:`augment.worth._tables.table_features`; ``num_classes`` is K."""

    num_classes: int
    real: pd.DataFrame
    real_y: Places
    synthetic: pd.DataFrame
    synthetic_y: Places
    validation: pd.DataFrame
    test: pd.DataFrame

    learners = tuple(LEARNERS)
    without = tuple(METHODS)
    together = (PLAIN, "SMOTE")

    def searched(
        self, places: Places, validation_y: Places, budget: int, seed: int, progress: Progress
    ) -> dict[str, Any]:
        """Nothing: there are few enough methods to be an arm each."""
        return NOTHING_SEARCHED

    def predicted(
        self, learner: str, method: str, real: Chosen | None, synthetic: Chosen | None, seed: int
    ) -> Predicted:
        """What a classifier gives after learning from the rows with their weights, scaled to a mean of 1."""
        sides = [(self.real, self.real_y, real), (self.synthetic, self.synthetic_y, synthetic)]
        found = [_rows(frame, y, chosen) for frame, y, chosen in sides]
        if found[0] is None:
            found.reverse()
        first, second = found
        assert first is not None
        fitted = METHODS[method](LEARNERS[learner](self.num_classes), first, second, seed)
        parts = (fitted.probabilities(frame).astype(np.float32) for frame in (self.validation, self.test))
        return Predicted(*parts)


def _rows(frame: pd.DataFrame, y: Places, chosen: Chosen | None) -> Rows | None:
    if chosen is None:
        return None
    known = y[chosen.places] >= 0
    places = chosen.places[known]
    return Rows(frame.iloc[places].reset_index(drop=True), y[places], chosen.weight[known])
