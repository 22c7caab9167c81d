"""Images downstream: a small convolutional net, with the classical policy that a search chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from augment.progress import Progress
from augment.worth._downstream import NOTHING_SEARCHED, PLAIN, Chosen, Places, Predicted
from augment.worth._images import LearningRows, class_balanced, fit, probabilities
from augment.worth._policies import Policy
from augment.worth._search import search_policies
from models._contract import Batch, TensorSpec

OVERSAMPLING = "oversampling"
CLASSICAL = "classical augmentation"
NET = "small CNN"


@dataclass(frozen=True)
class Images:
    """Images of each side as levels or values ``x`` ``(N, C, H, W)``; ``policy`` is the classical one."""

    spec: TensorSpec
    real: Batch
    synthetic: Batch
    validation: Tensor
    test: Tensor
    policy: Policy

    learners = (NET,)

    @property
    def without(self) -> tuple[str, ...]:
        """The classical policy is one of them where the search found any."""
        return (PLAIN, OVERSAMPLING, *self._classical)

    @property
    def together(self) -> tuple[str, ...]:
        """As they are, and with the classical policy."""
        return (PLAIN, *self._classical)

    @property
    def _classical(self) -> tuple[str, ...]:
        return (CLASSICAL,) if self.policy.parts else ()

    @property
    def real_y(self) -> Places:
        """The classes of the real rows."""
        return self.real.y.numpy()

    @property
    def synthetic_y(self) -> Places:
        """The classes of the synthetic rows."""
        return self.synthetic.y.numpy()

    def searched(
        self, places: Places, validation_y: Places, budget: int, seed: int, progress: Progress
    ) -> dict[str, Any]:
        """The classical policy that does best; see :func:`augment.worth._search.search_policies`."""
        if not budget or not len(validation_y):
            return NOTHING_SEARCHED
        own = torch.from_numpy(places)
        train = class_balanced(Batch(self.real.x[own], self.real.y[own]))
        held = Batch(self.validation, torch.from_numpy(validation_y))
        return search_policies(self.spec, train, held, seed, budget, progress=progress).as_json()

    def predicted(
        self, learner: str, method: str, real: Chosen | None, synthetic: Chosen | None, seed: int
    ) -> Predicted:
        """What a net gives after as many steps as every other; all methods but the plain one see classes equally often.

        With synthetic rows the weights are those of the published rows, whatever the method.
        """
        sides = [(self.real, real), (self.synthetic, synthetic)]
        given = [(rows, chosen) for rows, chosen in sides if chosen is not None]
        x = torch.cat([rows.x[torch.from_numpy(chosen.places)] for rows, chosen in given])
        y = torch.cat([rows.y[torch.from_numpy(chosen.places)] for rows, chosen in given])
        weight = torch.cat([torch.from_numpy(chosen.weight) for _, chosen in given])
        rows = LearningRows(x, y, torch.where(y >= 0, weight, 0.0))
        if method != PLAIN and synthetic is None:
            rows = class_balanced(Batch(x, y))
        net = fit(self.spec, rows, self.policy if method == CLASSICAL else Policy(), seed)
        return Predicted(probabilities(net, self.validation), probabilities(net, self.test))
