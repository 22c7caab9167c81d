"""What a team would train on the published rows, for images and for tables, with and without a generator.

A *method* is a way to learn from real rows, and from synthetic ones beside them: as they are, or with what people do
about scarce classes without a generator. An *arm* is a learner with a method and the rows it gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from augment.progress import Progress

Places = NDArray[np.int64]
Floats = NDArray[np.float64]
Probabilities = NDArray[np.float32]

PLAIN = "plain"
NOTHING_SEARCHED: dict[str, Any] = {"chosen": [], "fits": 0, "candidates": []}


class Chosen(NamedTuple):
    """Rows that an arm gets: their ``places`` ``(N,)`` among all of their side, and their sampling weights ``(N,)``."""

    places: Places
    weight: Floats


class Predicted(NamedTuple):
    """The probabilities ``(N, K)`` that an arm gives the validation rows and the test rows."""

    validation: Probabilities
    test: Probabilities


class Downstream(Protocol):
    """The learners of one form of rows, with all rows at hand.

    ``real_y`` and ``synthetic_y`` are the classes of the rows that :class:`Chosen` counts, -1 without a label.
    """

    @property
    def learners(self) -> Sequence[str]:
        """Their names."""

    @property
    def without(self) -> Sequence[str]:
        """Methods that need no generator; the first is PLAIN."""

    @property
    def together(self) -> Sequence[str]:
        """Methods that synthetic rows are combined with; the first is PLAIN."""

    @property
    def real_y(self) -> Places:
        """The classes of the real rows."""

    @property
    def synthetic_y(self) -> Places:
        """The classes of the synthetic rows."""

    def searched(
        self, places: Places, validation_y: Places, budget: int, seed: int, progress: Progress
    ) -> dict[str, Any]:
        """What of the methods is found by a search, with real rows at ``places``, on validation rows: JSON values.

        ``chosen`` are the parts of a classical policy, ``candidates`` what was tried; at most ``budget`` fits.
        """

    def predicted(
        self, learner: str, method: str, real: Chosen | None, synthetic: Chosen | None, seed: int
    ) -> Predicted:
        """What ``learner`` gives after learning from the chosen rows by ``method``; the same for the same arguments."""
