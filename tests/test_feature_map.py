"""Rows as an encoder sees them, in two dimensions."""

from __future__ import annotations

import json

import pytest
import torch

from augment.worth._classifier import Design
from augment.worth.feature_map import POINTS, feature_map
from augment.worth.fidelity import RealSide, learn_real
from models._contract import Batch, Span, TensorSpec

SPEC = TensorSpec((3,), (Span("continuous", 3, None),), 3)
NAMES = ["a", "b", "c"]


def clusters(rows: int, seed: int, classes: int = 3) -> Batch:
    y = torch.arange(rows * classes) % classes
    noise = torch.randn(len(y), 3, generator=torch.Generator().manual_seed(seed))
    return Batch(torch.eye(3)[y] * 6 + noise * 0.3, y)


@pytest.fixture(scope="module")
def side() -> RealSide:
    small = Design(width=0.2, depth=1, dropout=0.0, steps=60)
    return learn_real(SPEC, clusters(500, 1), clusters(90, 2), 0, small, small)


def test_a_map_has_few_points_all_within_its_frame(side: RealSide) -> None:
    found = feature_map(side, clusters(400, 3), NAMES)
    assert found is not None
    points = [point for parts in found["classes"].values() for part in parts.values() for point in part]
    assert list(found["classes"]) == NAMES
    assert POINTS / 2 < len(points) <= POINTS
    assert max(abs(value) for point in points for value in point) == 1
    assert 0 < sum(found["explained"]) <= 1
    assert len(json.dumps(found)) < 20_000
    assert feature_map(side, clusters(400, 3), NAMES) == found


def test_classes_that_a_net_tells_apart_lie_apart_and_synthetic_rows_with_their_own(side: RealSide) -> None:
    found = feature_map(side, clusters(60, 3), NAMES)
    assert found is not None
    middle = {
        (name, part): torch.tensor(points).mean(dim=0)
        for name, parts in found["classes"].items()
        for part, points in parts.items()
    }
    for name in NAMES:
        own = float((middle[name, "synthetic"] - middle[name, "train"]).norm())
        others = [float((middle[name, "synthetic"] - middle[o, "train"]).norm()) for o in NAMES if o != name]
        assert own < min(others) / 3


def test_a_class_without_synthetic_rows_has_none_in_the_map(side: RealSide) -> None:
    found = feature_map(side, clusters(20, 3, classes=2), NAMES)
    assert found is not None
    assert found["classes"]["c"]["synthetic"] == []
    assert found["classes"]["c"]["train"]


def test_there_is_no_map_of_next_to_no_rows() -> None:
    small = Design(width=0.1, depth=1, dropout=0.0, steps=1)
    side = learn_real(SPEC, clusters(1, 1), clusters(1, 2), 0, small, small)
    assert feature_map(side, clusters(1, 3), NAMES) is None
