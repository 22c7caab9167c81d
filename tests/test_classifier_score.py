"""The Inception score with our own classifier, by its mathematics, and what it is blind to."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from augment.worth._classifier import Design, fit_classifier
from augment.worth._classifier_score import balanced_score, classifier_score
from augment.worth.fidelity import learn_real, measure_fidelity
from models._contract import Batch, Span, TensorSpec

TABLE = TensorSpec((4,), (Span("continuous", 4),), 3)
SMALL = Design(width=0.25, depth=1, dropout=0.0, steps=150)


def some_probabilities(rows: int = 50, classes: int = 4) -> Tensor:
    return (2 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(0))).softmax(1)


def clusters(rows_per_class: tuple[int, ...], seed: int) -> Batch:
    """Three classes, six deviations apart."""
    y = torch.arange(3).repeat_interleave(torch.tensor(rows_per_class))
    noise = torch.randn(len(y), 4, generator=torch.Generator().manual_seed(seed))
    return Batch(6 * torch.eye(3, 4)[y] + noise, y)


@pytest.mark.parametrize("classes", [2, 5, 10])
def test_certain_and_evenly_spread_predictions_score_the_number_of_classes(classes: int) -> None:
    assert classifier_score(torch.eye(classes).repeat(7, 1)) == pytest.approx(classes)


def test_predictions_that_are_all_the_same_score_one() -> None:
    for p in (torch.tensor([[0.7, 0.2, 0.1]]), torch.full((1, 3), 1 / 3), torch.eye(3)[:1]):
        assert classifier_score(p.repeat(20, 1)) == pytest.approx(1)


def test_the_score_is_that_of_a_loop_over_rows_and_classes() -> None:
    p = some_probabilities().double()
    of_class = [sum(float(row[y]) for row in p) / len(p) for y in range(4)]
    kl = [sum(float(row[y]) * math.log(float(row[y]) / of_class[y]) for y in range(4)) for row in p]
    assert classifier_score(p) == pytest.approx(math.exp(sum(kl) / len(kl)))


def test_neither_the_order_of_rows_nor_that_of_classes_matters() -> None:
    p = some_probabilities()
    assert classifier_score(p[torch.randperm(50)]) == pytest.approx(classifier_score(p))
    assert classifier_score(p.flip(1)) == pytest.approx(classifier_score(p))


def test_a_row_counts_by_its_mass() -> None:
    p = some_probabilities(3)
    twice = classifier_score(torch.cat([p, p[:1]]))
    assert classifier_score(p, torch.tensor([2.0, 1.0, 1.0])) == pytest.approx(twice)
    assert classifier_score(p, torch.full((3,), 9.0)) == pytest.approx(classifier_score(p))
    with pytest.raises(ValueError, match="needs rows"):
        classifier_score(p[:0])


def test_rows_of_one_class_alone_score_one_and_a_lost_class_costs_its_share() -> None:
    net = fit_classifier(TABLE, clusters((40, 40, 40), 1), SMALL, 0)
    rows = {y: clusters((40, 40, 40), 2).x[40 * y : 40 * y + 40] for y in range(3)}
    whole, two, one = (balanced_score(net, TABLE, {y: rows[y] for y in kept}) for kept in ((0, 1, 2), (0, 1), (2,)))
    assert whole is not None
    assert two is not None
    assert one == pytest.approx(1, abs=0.02)
    assert two == pytest.approx(2, abs=0.3)
    assert whole == pytest.approx(3, abs=0.5)
    assert balanced_score(net, TABLE, {}) is None


def test_classes_count_the_same_however_many_rows_each_has() -> None:
    net = fit_classifier(TABLE, clusters((40, 40, 40), 1), SMALL, 0)
    rows = {y: clusters((40, 40, 40), 2).x[40 * y : 40 * y + 40] for y in range(3)}
    repeated = {y: x.repeat(9 if y == 1 else 1, 1) for y, x in rows.items()}
    assert balanced_score(net, TABLE, repeated) == pytest.approx(balanced_score(net, TABLE, rows))


def test_fresh_rows_stand_at_the_floor_and_rows_between_the_classes_below_it() -> None:
    real = learn_real(TABLE, clusters((60, 60, 60), 1), clusters((60, 60, 60), 2), 0, SMALL, SMALL)
    fresh = clusters((90, 60, 30), 3)
    found = measure_fidelity(real, fresh).classifier_score
    assert found.value is not None
    assert found.floor is not None
    assert found.value == pytest.approx(found.floor, abs=0.1)
    assert found.floor > 2.5
    blurred = Batch(fresh.x.mean(0) + 0.1 * fresh.x, fresh.y)
    other = measure_fidelity(real, blurred).classifier_score
    assert other.value is not None
    assert other.value < found.value - 0.5
    exchanged = measure_fidelity(real, Batch(fresh.x, (fresh.y + 1) % 3)).classifier_score
    assert exchanged.value == pytest.approx(found.value, abs=0.2)  # it is blind to labels
