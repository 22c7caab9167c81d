"""Histograms of replicated values, also where all of them are one value but for rounding."""

from __future__ import annotations

import numpy as np
import pytest

from augment.checks.posterior_predictive import _histogram


@pytest.mark.parametrize(
    "values",
    [[0.07] * 50, [0.07, 0.07 + 2e-17, 0.07 - 2e-17], [1e15, 1e15 + 1], [1.7e18, 1.7e18 + 256], [0.0, 0.0]],
    ids=["equal", "rounding", "large", "timestamps", "zeros"],
)
def test_values_that_differ_by_rounding_alone_fall_into_one_bin(values: list[float]) -> None:
    drawn = _histogram(np.array(values))
    assert max(drawn["shares"]) == 1
    assert drawn["low"] <= values[0] <= drawn["high"]


def test_values_that_differ_fill_the_bins_between_them() -> None:
    drawn = _histogram(np.linspace(-2.0, 2.0, 2400))
    assert (drawn["low"], drawn["high"]) == (-2, 2)
    assert max(drawn["shares"]) - min(drawn["shares"]) < 0.01
