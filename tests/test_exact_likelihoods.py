"""Every model that knows ln p(x|y) exactly: which class a row is of by Bayes' rule, and which rows it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from _model_cases import MODELS, generator, some_rows
from _raster_proofs import levels_spec, stirred

from models._contract import Batch, ClassifiesRows, Span, TensorSpec

EXACT = sorted(kind for kind, config in MODELS.items() if config.likelihood == "exact")
CLASSES = 3
every_model = pytest.mark.parametrize("kind", EXACT)


def build(kind: str) -> Any:
    vector = TensorSpec((5,), (Span("continuous", 3), Span("categorical", 2)), CLASSES)
    spec = levels_spec((1, 4, 4), 3, CLASSES) if "grid" in MODELS[kind].accepts else vector
    return stirred(MODELS[kind]().build(spec, generator()), by=0.05)


def rows_for(model: Any, rows: int) -> Batch:
    batch = some_rows(model.spec, torch.arange(rows) % CLASSES)
    return Batch(batch.x.double(), batch.y)


def test_those_of_rasters_and_of_columns_are_among_them() -> None:
    assert {"pixelcnn", "gated_pixelcnn", "row_lstm", "diagonal_bilstm", "masked_mlp"} <= set(EXACT)


@every_model
def test_the_class_of_a_row_follows_by_bayes_from_the_likelihood_and_the_classes_seen(kind: str) -> None:
    model = build(kind)
    assert MODELS[kind]().classifies()
    assert isinstance(model, ClassifiesRows)
    model.classes.seen.copy_(torch.tensor([599, 299, 99]))
    x = rows_for(model, 5).x
    each = [model.log_likelihood(Batch(x, torch.full((5,), y))) for y in range(CLASSES)]
    expected = torch.stack(each, 1) + torch.tensor([0.6, 0.3, 0.1]).double().log()
    torch.testing.assert_close(model.class_logits(x), expected, atol=1e-6, rtol=1e-6)


@every_model
def test_classes_are_counted_in_training_alone(kind: str) -> None:
    model = build(kind)
    labels = torch.tensor([0, 0, 2, -1])
    batch = Batch(rows_for(model, 4).x, labels)
    model.objectives()[0].loss(batch, generator())
    assert model.classes.seen.tolist() == [0, 0, 0]
    model.train().objectives()[0].loss(batch, generator())
    assert model.classes.seen.tolist() == [2, 0, 1]


@every_model
@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ([0, 3], "labels of 3 classes are 0 to 2.*not 0 to 3"),
        ([-2, 0], "not -2 to 0"),
        ([0], "2 rows have a label each"),
    ],
)
def test_a_label_of_no_class_and_a_row_without_one_are_refused(kind: str, labels: list[int], complaint: str) -> None:
    model = build(kind)
    x, y = rows_for(model, 2).x, torch.tensor(labels)
    with pytest.raises(ValueError, match=complaint):
        model.log_likelihood(Batch(x, y))
    known = torch.zeros(x.shape[-2:] if x.dim() == 4 else x.shape[1:], dtype=torch.bool)
    with pytest.raises(ValueError, match=complaint):
        model.complete(x, known, y, generator())
    if len(labels) == 2:
        with pytest.raises(ValueError, match=complaint):
            model.sample(y, generator())


@every_model
def test_rows_of_another_shape_are_refused(kind: str) -> None:
    model = build(kind)
    batch = rows_for(model, 2)
    with pytest.raises(ValueError, match="a row of this model has the shape"):
        model.log_likelihood(Batch(batch.x[..., :-1], batch.y))


def test_a_category_that_is_not_one_hot_has_no_likelihood() -> None:
    model = build("masked_mlp")
    batch = rows_for(model, 1)
    for category in ([0.6, 0.4], [0.0, 0.0]):
        batch.x[0, 3:] = torch.tensor(category)
        with pytest.raises(ValueError, match="a category is a 1 among zeros"):
            model.log_likelihood(batch)
