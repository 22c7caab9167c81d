"""Masked MLP: what a column hears, and that the density of a row is one."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from _masked_mlp_cases import (
    COLUMN_OF_VALUE,
    MIXED,
    ORDERS,
    TINY,
    build,
    deaf,
    drawn_by_whole_passes,
    every_order,
    rows_of,
    stirred,
)
from _model_cases import generator, some_rows
from torch import Tensor

from models._contract import Batch, Span, TensorSpec
from models._factors import Bins
from models._made import ClassLayer
from models._masked import order_mask
from models.masked_mlp import MaskedMlp, MaskedMlpConfig


def unstrict(model: MaskedMlp) -> MaskedMlp:
    """The model whose first layer lets a place hear its own factor."""
    factors, units = model.net.factors, model.net.units
    rank = torch.empty(factors.count, dtype=torch.int64)
    rank[list(model.order)] = torch.arange(factors.count)
    hidden = torch.arange(factors.count).repeat_interleave(units)
    model.net.first.linear.mask.copy_(order_mask(rank[list(factors.of_value)], hidden, strict=False))
    return model


# What is heard


def heard(model: MaskedMlp) -> Tensor:
    """Which value of a row (second) moves the logits of which column (first), booleans ``(columns, values)``.

    All weights and values are positive, so that nothing cancels.
    """
    model = model.double().eval()
    noise = generator()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=noise) / parameter[0].numel() + 0.001)

    def parts(x: Tensor) -> Tensor:
        raw, found, first = model.net(x, torch.zeros(1, dtype=torch.int64))[0], {}, 0
        for group, width in zip(model.net.factors.groups, model.net.parts, strict=True):
            for number in group.numbers:
                found[number] = raw[first : first + width].sum()
                first += width
        return torch.stack([found[number] for number in sorted(found)])

    x = torch.rand((1, model.spec.size), generator=noise, dtype=torch.float64)
    return torch.autograd.functional.jacobian(parts, x)[:, 0] != 0


def check_hears_the_earlier_columns_alone(model: MaskedMlp) -> None:
    """The logits of a column hear every value of every earlier column, and nothing of its own span or a later one."""
    found = heard(model)
    for column, value in itertools.product(range(len(found)), range(found.shape[1])):
        other = COLUMN_OF_VALUE[value]
        earlier = model.order.index(other) < model.order.index(column)
        if earlier:
            assert found[column, value], f"column {column} does not hear value {value} of column {other}"
        else:
            assert not found[column, value], f"a leak: column {column} hears value {value} of column {other}"


@every_order
@pytest.mark.parametrize("depth", [0, 2])
def test_a_column_hears_every_earlier_one_and_none_of_its_own_values_or_later(order: Any, depth: int) -> None:
    check_hears_the_earlier_columns_alone(build(order=order, depth=depth))


@every_order
def test_a_first_layer_that_is_not_strict_is_found_as_a_leak(order: Any) -> None:
    with pytest.raises(AssertionError, match=r"a leak: column \d hears value"):
        check_hears_the_earlier_columns_alone(unstrict(build(order=order)))


def test_one_hidden_unit_a_column_is_enough_to_hear_all() -> None:
    check_hears_the_earlier_columns_alone(build(units=1))


def test_later_layers_hear_the_features_of_their_own_place() -> None:
    for block in build(depth=2).net.blocks:
        assert (block.linear.mask.diagonal() == 1).all()


def test_an_order_is_the_columns_their_reverse_a_shuffle_of_a_seed_or_a_list() -> None:
    orders = {name: build(order=asked).order for name, asked in ORDERS.items()}
    assert orders["columns"] == (0, 1, 2, 3, 4, 5)
    assert orders["reversed"] == (5, 4, 3, 2, 1, 0)
    assert orders["named"] == (3, 0, 5, 1, 4, 2)
    assert sorted(orders["shuffled"]) == [0, 1, 2, 3, 4, 5]
    assert orders["shuffled"] == build(order=3).order != build(order=4).order
    stored = MaskedMlpConfig(order=(3, 0, 5, 1, 4, 2)).model_dump_json()
    assert MaskedMlpConfig.model_validate_json(stored).order == (3, 0, 5, 1, 4, 2)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ("columns", "column by column, as they are"),
        ("reversed", "column by column, from the last to the first"),
        (3, "column by column, shuffled by the seed 3"),
        ((1, 0), "column by column, those of the numbers 1, 0, counted from 0"),
    ],
)
def test_the_order_is_said_to_those_who_read_what_was_drawn(order: Any, said: str) -> None:
    assert MaskedMlpConfig(order=order).drawing_order() == said


def test_a_number_that_lies_far_out_is_heard_as_one_of_four_deviations_and_drawn_upon_alike() -> None:
    model, labels = stirred(build()), torch.tensor([0, 1, 2, -1])
    known = torch.tensor([True] + [False] * 8)

    def drawn_after(first: float) -> Tensor:
        """The later columns of rows whose first is given."""
        x = torch.full((4, 9), first, dtype=torch.float64)
        found = model.complete(x, known, labels, generator(5))
        with torch.no_grad():
            torch.testing.assert_close(found, drawn_by_whole_passes(model, labels, 5, 1.0, x, 1), atol=1e-9, rtol=0)
        return found[:, 1:]

    for side in (-1, 1):
        assert torch.equal(drawn_after(50.0 * side), drawn_after(4.0 * side))
        assert not torch.equal(drawn_after(3.9 * side), drawn_after(4.0 * side))


def test_dropout_is_before_every_layer_but_the_first_and_of_training_alone() -> None:
    model, batch = build(depth=2, dropout=0.5, units=50), some_rows(MIXED, torch.arange(6) % 3)
    silent: list[float] = []
    for layer in (*model.net.blocks, model.net.last):
        layer.register_forward_pre_hook(lambda _layer, given: silent.append(float((given[0] == 0).float().mean())))
    (objective,) = model.train().objectives()
    first, second = (objective.loss(batch, generator())["loss"] for _ in range(2))
    assert first != second
    assert silent == pytest.approx([0.5] * 6, abs=0.1)
    silent.clear()
    model.eval()
    assert torch.equal(model.log_likelihood(batch), model.log_likelihood(batch))
    assert silent == [0.0] * 6


def test_at_first_all_outcomes_are_about_as_likely() -> None:
    net = MaskedMlpConfig().build(MIXED, generator()).net.eval()
    batch = some_rows(MIXED, torch.arange(30) % 3)
    for _, logits in net.by_group(net(batch.x, batch.y)):
        away = (logits.log_softmax(2) + math.log(logits.shape[2])).abs().max()
        assert 0 < away < 0.5  # nats


# Likelihood


def check_sums_to_one(model: MaskedMlp) -> None:
    """The probabilities of all 18 rows that there are sum to one, for every class and without one."""
    two, three = torch.eye(2), torch.eye(3)
    levels = torch.tensor([-1.0, 0.0, 1.0])
    x = torch.stack(
        [
            torch.cat([two[i], levels[j : j + 1], three[k]])
            for i, j, k in itertools.product(range(2), range(3), range(3))
        ]
    )
    for label in (-1, 0, 1):
        total = model.log_likelihood(Batch(x.double(), torch.full((18,), label))).exp().sum()
        torch.testing.assert_close(total, torch.ones_like(total), atol=1e-6, rtol=0)


@pytest.mark.parametrize("order", ["columns", "reversed", (1, 2, 0)])
def test_the_probabilities_of_all_rows_sum_to_one(order: Any) -> None:
    check_sums_to_one(stirred(build(TINY, order=order)))


def test_a_leak_keeps_probabilities_from_summing_to_one() -> None:
    with pytest.raises(AssertionError, match="not close"):
        check_sums_to_one(unstrict(stirred(build(TINY))))


NUMBERS = [{}, {"terms": 0}, {"bins": 2, "terms": 1}, {"bins": 33, "terms": 32}]


@pytest.mark.parametrize("settings", NUMBERS, ids=str)
def test_the_density_of_a_number_integrates_to_one_with_its_tails(settings: dict[str, int]) -> None:
    model = stirred(build(TensorSpec((1,), (Span("continuous", 1),), 2), **settings))
    x = torch.linspace(-9, 9, 90_001, dtype=torch.float64)
    for label in (0, 1):
        density = model.log_likelihood(Batch(x[:, None], torch.full((len(x),), label))).exp()
        assert float(torch.trapezoid(density, x)) == pytest.approx(1, abs=1e-3)
        assert density[x.abs() > 2.5].min() > 0


@pytest.mark.parametrize("order", ["columns", "reversed"])
def test_the_integral_over_the_later_number_leaves_the_density_of_the_earlier(order: Any) -> None:
    model = stirred(build(TensorSpec((2,), (Span("continuous", 2),), 1), order=order))
    first, later = model.order
    grid = torch.linspace(-9, 9, 90_001, dtype=torch.float64)
    densities = []
    for place in (-2.0, 0.3, 0.4, 1.5):
        x = torch.full((len(grid), 2), place, dtype=torch.float64)
        x[:, later] = grid
        nats = model.log_likelihood(Batch(x, torch.zeros(len(grid), dtype=torch.int64)))
        densities.append(float(torch.trapezoid(nats.exp(), grid)))
    at = torch.tensor([-2.0, 0.3, 0.4, 1.5], dtype=torch.float64)
    rows = torch.zeros(4, 2, dtype=torch.float64)
    rows[:, first] = at
    (_, logits), *_ = model.net.by_group(model.net(rows, torch.zeros(4, dtype=torch.int64)))
    bins = model.net.factors.groups[0].outcome
    values = at[:, None, None]
    own = logits[:, [first]].log_softmax(2).gather(2, bins.index(values)[..., None])[..., 0] + bins.log_within(values)
    torch.testing.assert_close(torch.tensor(densities).double(), own[:, 0].exp(), atol=0, rtol=1e-3)


def test_the_ends_of_the_outermost_bins_are_far_out_and_finite() -> None:
    values = Bins(8, 0).values(torch.tensor([[0, 0, 7, 7]]), torch.tensor([[0.0, 1e-6, 1 - 1e-6, 1.0]]))[0, :, 0]
    assert (values.abs() > 4.5).all()
    assert (values.abs() < 5.5).all()
    assert values.sign().tolist() == [-1, -1, 1, 1]


def test_bins_hold_equal_shares_of_the_normal_and_its_density_within() -> None:
    bins = Bins(8, 0)
    x = torch.randn(20_000, 1, 1, generator=generator(), dtype=torch.float64)
    counts = torch.bincount(bins.index(x)[:, 0], minlength=8)
    assert counts.min() > 2300
    assert counts.max() < 2700
    for number in (-30.0, -1.0, 0.2, 30.0):  # the tails have a density too
        value = torch.full((1, 1, 1), number, dtype=torch.float64)
        normal = torch.distributions.Normal(0.0, 1.0).log_prob(value)[..., 0]
        torch.testing.assert_close(bins.log_within(value), normal + math.log(8))
    index, place = torch.tensor([[0, 3, 7]]), torch.tensor([[0.0, 0.5, 1.0]])
    values = bins.values(index, place)
    assert torch.isfinite(values).all()
    assert torch.equal(bins.index(values), index)


@pytest.mark.parametrize(("bins", "terms"), [(8, 3), (32, 4), (32, 31), (200, 60)])
def test_the_shapes_of_logits_are_polynomials_that_do_not_overlap(bins: int, terms: int) -> None:
    shapes = Bins(bins, terms).shapes
    assert shapes is not None
    middles = torch.special.ndtri((torch.arange(bins).double() + 0.5) / bins)
    gram = shapes.double() @ shapes.double().T / bins
    weights = torch.arange(1, terms + 1).double() ** -2
    torch.testing.assert_close(gram, torch.diag(weights**2), atol=1e-6, rtol=0)
    torch.testing.assert_close(shapes.double().sum(1), torch.zeros(terms).double(), atol=1e-4, rtol=0)
    line = shapes[0].double() / (middles / middles.square().mean().sqrt())
    torch.testing.assert_close(line, torch.ones_like(line), atol=1e-4, rtol=0)


def test_two_terms_make_a_normal_distribution_of_any_mean_and_spread() -> None:
    """ln p(bin) up to a constant is a - b (x - m)^2 at the middles of the bins."""
    shapes = Bins(64, 2).shapes
    assert shapes is not None
    middles = torch.special.ndtri((torch.arange(64).double() + 0.5) / 64)
    wanted = -0.5 * ((middles - 0.7) / 0.2) ** 2
    basis = torch.cat([torch.ones(1, 64).double(), shapes.double()]).T
    found = basis @ torch.linalg.lstsq(basis, wanted[:, None]).solution
    torch.testing.assert_close(found[:, 0], wanted, atol=1e-4, rtol=0)


def test_the_loss_is_the_mean_of_the_likelihood_in_nats() -> None:
    model = stirred(build())
    batch = rows_of(MIXED, torch.tensor([0, 1, 2, -1]))
    (objective,) = model.objectives()
    torch.testing.assert_close(objective.loss(batch, generator())["loss"], -model.log_likelihood(batch).mean())


def test_a_net_in_bfloat16_is_still_asked_for_the_bins_of_the_values_themselves() -> None:
    model = build(bins=64).eval()
    batch = some_rows(MIXED, torch.arange(64) % 3)
    (objective,) = model.objectives()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = objective.loss(batch, generator())["loss"]
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, objective.loss(batch, generator())["loss"], atol=0.01, rtol=0)


def test_logits_have_32_bits_at_least() -> None:
    net = build().net
    for number, (group, parts) in enumerate(zip(net.factors.groups, net.parts, strict=True)):
        for given, found in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
            assert net.logits(number, torch.zeros(1, len(group.numbers), parts, dtype=given)).dtype == found


def test_a_likelihood_is_the_same_of_many_rows_as_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    model = stirred(build())
    batch = rows_of(MIXED, torch.arange(7) % 3)
    whole = model.log_likelihood(batch)
    monkeypatch.setattr("models.masked_mlp.VALUES_AT_ONCE", 1)
    torch.testing.assert_close(model.log_likelihood(batch), whole)


def check_class_moves_every_layer(model: MaskedMlp) -> None:
    """Without what the class adds to any one layer, the likelihoods of rows are others."""
    batch = rows_of(MIXED, torch.tensor([0, 1]))
    usual = model.log_likelihood(batch)
    layers = [layer for layer in model.modules() if isinstance(layer, ClassLayer)]
    assert len(layers) == 2 + len(model.net.blocks)
    for number, layer in enumerate(layers):
        kept = layer.of_class.weight.detach().clone()
        layer.of_class.weight.data.zero_()
        moved = not torch.allclose(model.log_likelihood(batch), usual)
        layer.of_class.weight.data.copy_(kept)
        assert moved, f"layer {number} does not hear the class"


def test_the_class_moves_every_layer() -> None:
    check_class_moves_every_layer(stirred(build(depth=2)))


def test_a_model_that_forgets_the_class_is_found_out() -> None:
    with pytest.raises(AssertionError, match="layer 0 does not hear the class"):
        check_class_moves_every_layer(deaf(stirred(build(depth=2))))
