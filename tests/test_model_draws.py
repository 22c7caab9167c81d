"""How every model draws, by every operator that its settings can offer, after a few steps so that nothing is zero."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest
import torch
from _model_cases import (
    CASES,
    DRAWN_CASES,
    MODELS,
    SPECS,
    Deaf,
    draw,
    generator,
    on_levels,
    settings_offering,
    some_rows,
    train,
)
from torch import Tensor, nn

from augment.operators import OPERATORS
from models._contract import Batch, GenerativeModel, Span, TensorSpec

every_operator = pytest.mark.parametrize(("kind", "form", "operator"), DRAWN_CASES)
STEPS = 10
ODD_SPECS = {
    "vector": [TensorSpec((1,), (Span("continuous", 1),), 2), TensorSpec((3,), (Span("categorical", 3),), 2)],
    "grid": [
        TensorSpec((3, 8, 8), (Span("continuous", 192, 256),), 2),
        TensorSpec((1, 9, 7), (Span("continuous", 63, 2),), 2),
    ],
}


def _labels(rows: int, classes: int = 3) -> Tensor:
    return torch.arange(rows) % classes


def _rows_told_by_class(spec: TensorSpec, labels: Tensor, seed: int = 0) -> Batch:
    """Random rows whose first values are higher the higher the class is."""
    x = some_rows(spec, labels, seed).x.flatten(1)
    first = spec.spans[0]
    if first.kind == "continuous":
        told = x[:, : first.width] / 4 + labels.clamp(min=0)[:, None] - 1
        x[:, : first.width] = told if first.levels is None else on_levels(told, first.levels)
    return Batch(x.reshape(-1, *spec.shape), labels)


@cache
def _trained(kind: str, form: str, operator: str) -> GenerativeModel:
    model = settings_offering(kind, operator).build(SPECS[form], generator())
    train(model, _rows_told_by_class(SPECS[form], _labels(48)), STEPS, 16)
    return model


def check_keeps_to_spec(rows: Tensor, count: int, spec: TensorSpec) -> None:
    """``rows`` are so many finite rows of 32-bit floats; values with levels within [-1, 1], categories one-hot."""
    assert rows.shape == (count, *spec.shape)
    assert rows.dtype == torch.float32
    assert torch.isfinite(rows).all()
    start = 0
    for span in spec.spans:
        part = rows.flatten(1)[:, start : start + span.width]
        if span.kind == "categorical":
            assert torch.equal(part.sort(1).values, torch.tensor([0.0] * (span.width - 1) + [1.0]).expand_as(part))
        elif span.levels is not None:
            assert part.abs().max() <= 1
        start += span.width


@every_operator
def test_a_row_has_the_shape_and_type_that_the_spec_says(kind: str, form: str, operator: str) -> None:
    check_keeps_to_spec(draw(_trained(kind, form, operator), _labels(7), generator(), operator), 7, SPECS[form])
    untrained = settings_offering(kind, operator).build(SPECS[form], generator()).eval()
    check_keeps_to_spec(draw(untrained, _labels(7), generator(), operator), 7, SPECS[form])


@every_operator
@pytest.mark.parametrize("number", [0, 1])
def test_colour_odd_sizes_and_single_columns_are_learned_and_drawn(
    kind: str, form: str, operator: str, number: int
) -> None:
    spec = ODD_SPECS[form][number]
    model = settings_offering(kind, operator).build(spec, generator())
    train(model, some_rows(spec, _labels(12, 2)), 2, 8)
    check_keeps_to_spec(draw(model, _labels(5, 2), generator(), operator), 5, spec)


@every_operator
def test_the_same_seed_gives_the_same_rows_and_another_seed_others(kind: str, form: str, operator: str) -> None:
    model, labels = _trained(kind, form, operator), _labels(6)
    first = draw(model, labels, generator(4), operator)
    torch.manual_seed(123)
    assert torch.equal(first, draw(model, labels, generator(4), operator))
    assert not torch.equal(first, draw(model, labels, generator(5), operator))


@every_operator
def test_a_row_does_not_depend_on_its_batch_mates(kind: str, form: str, operator: str) -> None:
    model, labels = _trained(kind, form, operator), _labels(8)
    others = (labels + 1) % 3
    others[3] = labels[3]
    parents = OPERATORS[operator].parents
    given = [some_rows(model.spec, labels, seed).x for seed in range(parents)]
    mixed = [some_rows(model.spec, labels, 10 + seed).x for seed in range(parents)]
    for own, other in zip(given, mixed, strict=True):
        other[3] = own[3]
    rows = draw(model, labels, generator(), operator, exemplars=given)
    again = draw(model, others, generator(), operator, exemplars=mixed)
    torch.testing.assert_close(rows[3], again[3], atol=1e-5, rtol=0)
    assert not torch.equal(rows[4], again[4])


@pytest.mark.parametrize(("kind", "form", "operator"), [c for c in DRAWN_CASES if OPERATORS[c[2]].parents])
def test_every_exemplar_matters(kind: str, form: str, operator: str) -> None:
    model, labels = _trained(kind, form, operator), _labels(24)
    given = [some_rows(model.spec, labels, seed).x for seed in range(OPERATORS[operator].parents)]
    rows = draw(model, labels, generator(), operator, exemplars=given)
    for place in range(len(given)):
        other = [*given[:place], some_rows(model.spec, labels, 30).x, *given[place + 1 :]]
        assert not torch.equal(rows, draw(model, labels, generator(), operator, exemplars=other)), f"parent {place}"


def check_classes_are_told_apart(model: GenerativeModel, operator: str) -> None:
    """With the same noise, rows asked of another class are others; with exemplars, those of the other class."""
    labels = _labels(24)
    swapped = labels.flip(0)
    seeds = range(OPERATORS[operator].parents)
    first, second = (
        draw(model, y, generator(), operator, exemplars=[_rows_told_by_class(model.spec, y, seed).x for seed in seeds])
        for y in (labels, swapped)
    )
    differs = (first - second).flatten(1).abs().amax(1) > 1e-3
    assert differs[labels != swapped].float().mean() > 0.5, f"{operator} draws the same rows for another class"


@every_operator
def test_the_label_matters(kind: str, form: str, operator: str) -> None:
    check_classes_are_told_apart(_trained(kind, form, operator), operator)


@pytest.mark.parametrize(("kind", "form"), [(k, f) for k, f, operator in DRAWN_CASES if operator == "prior"])
def test_a_model_that_does_not_hear_its_label_fails_the_check(kind: str, form: str) -> None:
    with pytest.raises(AssertionError, match="the same rows for another class"):
        check_classes_are_told_apart(Deaf(_trained(kind, form, "prior")), "prior")


@every_operator
def test_without_noise_rows_follow_from_labels_and_exemplars(kind: str, form: str, operator: str) -> None:
    """A temperature of 0 leaves nothing to chance; only where between two rows one lies is still drawn."""
    model, labels = _trained(kind, form, operator), _labels(6)
    first, second = (draw(model, labels, generator(seed), operator, temperature=0.0) for seed in (1, 2))
    check_keeps_to_spec(first, 6, SPECS[form])
    if OPERATORS[operator].parents < 2:
        torch.testing.assert_close(first, second, atol=1e-5, rtol=0)


@every_operator
@pytest.mark.parametrize("labels", [[1], [-1], [-1, -1, -1], [0, -1, 2]], ids=str)
def test_single_rows_and_rows_without_a_label_are_learned_and_drawn(
    kind: str, form: str, operator: str, labels: list[int]
) -> None:
    spec, y = SPECS[form], torch.tensor(labels)
    model = settings_offering(kind, operator).build(spec, generator())
    train(model, some_rows(spec, y), 2, len(y))
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    check_keeps_to_spec(draw(model, y, generator(), operator), len(y), spec)


@every_operator
def test_one_class_is_enough(kind: str, form: str, operator: str) -> None:
    spec = TensorSpec(SPECS[form].shape, SPECS[form].spans, 1)
    model = settings_offering(kind, operator).build(spec, generator())
    zeros = torch.zeros(4, dtype=torch.int64)
    train(model, some_rows(spec, zeros), 2, 4)
    check_keeps_to_spec(draw(model, zeros, generator(), operator), 4, spec)


@every_operator
def test_weights_that_are_kept_in_a_file_draw_the_same_rows(
    kind: str, form: str, operator: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from safetensors.torch import load_file, save_file

    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    model, other = _trained(kind, form, operator), settings_offering(kind, operator).build(SPECS[form], generator(2))
    save_file(model.state_dict(), path)
    other.load_state_dict(load_file(path))
    rows = [draw(m.eval(), _labels(5), generator(), operator) for m in (model, other)]
    assert torch.equal(*rows)


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_a_model_keeps_the_protocols_of_what_its_settings_offer(kind: str, form: str) -> None:
    """``offered`` is a part of ``operators``, and a model has the methods of all that it offers."""
    listed = MODELS[kind].operators
    assert set(listed) <= set(OPERATORS)
    for config in {operator: settings_offering(kind, operator) for operator in listed}.values():
        offered = config.offered()
        assert offered, f"{kind} offers nothing"
        assert set(offered) <= set(listed)
        assert len(set(offered)) == len(offered)
        model = config.build(SPECS[form], generator())
        kept = {name for name, known in OPERATORS.items() if isinstance(model, known.protocol)}
        assert set(offered) <= kept <= set(listed)


def evaluations_of(model: GenerativeModel, operator: str) -> float:
    """How often the layer of ``model`` that is used most is used for one row."""
    rows = 4
    used: Counter[nn.Module] = Counter()

    def note(module: nn.Module, given: tuple[Any, ...], _result: Any) -> None:
        if given and isinstance(given[0], Tensor) and given[0].dim():
            used[module] += len(given[0])

    hooks = [m.register_forward_hook(note) for m in model.modules() if next(m.parameters(False), None) is not None]
    draw(model, _labels(rows), generator(), operator)
    for hook in hooks:
        hook.remove()
    return max(used.values()) / rows


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_the_stated_evaluations_are_those_that_a_row_takes(kind: str, form: str) -> None:
    assert MODELS[kind]().evaluations() == MODELS[kind].evaluations_per_sample
    for operator in MODELS[kind].operators:
        config = settings_offering(kind, operator)
        model = config.build(SPECS[form], generator()).eval()
        assert evaluations_of(model, config.offered()[0]) == config.evaluations()
