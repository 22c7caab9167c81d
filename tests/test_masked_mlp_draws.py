"""Masked MLP: cached drawing, completion, labels, what is refused, and that it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from _masked_mlp_cases import (
    COLUMN_OF_VALUE,
    MIXED,
    TINY,
    build,
    deaf,
    drawn_by_whole_passes,
    every_order,
    rows_of,
    stirred,
)
from _model_cases import generator, some_rows, train
from pydantic import ValidationError
from torch import Tensor

from models._contract import Batch, ClassifiesRows, CompletesRows, KnowsLikelihood, Span, TensorSpec
from models._factors import draw_outcomes, factors_of
from models._made import MadeSize
from models.masked_mlp import MaskedMlp, MaskedMlpConfig, weights_of

NUMBER = TensorSpec((1,), (Span("continuous", 1),), 2)


# Drawing


@every_order
@pytest.mark.parametrize("depth", [0, 2])
def test_caches_draw_what_whole_passes_draw(order: Any, depth: int) -> None:
    model, labels = stirred(build(order=order, depth=depth)), torch.tensor([0, 1, 2, -1, 0])
    with torch.no_grad():
        expected = drawn_by_whole_passes(model, labels, 5, 0.8)
    found = model.complete(expected, torch.zeros(9, dtype=torch.bool), labels, generator(5), 0.8)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)
    assert len(found[:, :2].unique()) == 10


def test_samples_are_as_frequent_as_they_are_probable() -> None:
    from scipy.stats import chisquare

    model = stirred(build(TINY, order=(2, 0, 1)))
    drawn = model.sample(torch.ones(6000, dtype=torch.int64), generator(2)).double()
    cells = drawn[:, :2].argmax(1) * 9 + (drawn[:, 2] + 1).long() * 3 + drawn[:, 3:].argmax(1)
    counts = torch.bincount(cells, minlength=18)
    x = torch.stack([drawn[(cells == cell).nonzero()[0, 0]] for cell in range(18)])
    expected = 6000 * model.log_likelihood(Batch(x, torch.ones(18, dtype=torch.int64))).exp()
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > 0.001
    assert chisquare(counts.roll(1).numpy(), expected.numpy()).pvalue < 0.001


def test_numbers_are_drawn_with_the_density_that_they_have() -> None:
    """The distribution function of the drawn numbers is that of the density, within bins too."""
    from scipy.stats import kstest

    model = stirred(build(TensorSpec((1,), (Span("continuous", 1),), 2), bins=4))
    drawn = model.sample(torch.zeros(4000, dtype=torch.int64), generator(3))[:, 0]
    grid = torch.linspace(-8, 8, 16_001, dtype=torch.float64)
    density = model.log_likelihood(Batch(grid[:, None], torch.zeros(len(grid), dtype=torch.int64))).exp()
    reached = torch.cumulative_trapezoid(density, grid)

    def share(x: Any) -> Any:
        return reached[torch.searchsorted(grid[1:], torch.as_tensor(x).double()).clamp(0, len(reached) - 1)].numpy()

    assert kstest(drawn.numpy(), share).pvalue > 0.001
    assert kstest(drawn.numpy() + 0.1, share).pvalue < 0.001


def test_a_temperature_divides_logits_and_zero_takes_the_likeliest() -> None:
    logits = torch.tensor([[[0.0, 1.0, 3.0]]]).expand(4000, -1, -1)
    uniform = torch.rand(4000, 1, generator=generator())
    for temperature in (0.5, 1.0, 2.0):
        index, place = draw_outcomes(logits, uniform, temperature)
        shares = torch.bincount(index[:, 0], minlength=3) / 4000
        torch.testing.assert_close(shares, (logits[0, 0] / temperature).softmax(0), atol=0.03, rtol=0)
        within = place[index == 2]
        assert float(within.mean()) == pytest.approx(0.5, abs=0.03)
        assert within.min() >= 0
        assert within.max() <= 1
    for none in (0.0, 1e-46, 1e-40, 1e-31):  # 32 bits round the second to 0, and the third has few digits in them
        index, place = draw_outcomes(logits, uniform, none)
        assert (index == 2).all()
        assert (place == 0.5).all()
    index, place = draw_outcomes(logits, uniform, 1e-29)
    assert (index == 2).all()
    assert torch.isfinite(place).all()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_cannot_be_drawn_is_no_value(temperature: float) -> None:
    model, labels = build().eval(), torch.tensor([0, 1])
    with torch.no_grad():
        model.net.first.of_class.weight[:] = math.nan
    assert model.sample(labels, generator(), temperature).isnan().all()
    model = build().eval()
    with torch.no_grad():
        model.net.last.linear.bias[:1] = math.nan  # of the first term of the first number
    assert model.sample(labels, generator(), temperature).isnan()[:, 0].all()


# Completion


@every_order
@pytest.mark.parametrize("known", [0, 1, 3, 6])
def test_a_completed_row_keeps_what_is_known_to_the_bit_and_draws_the_rest_given_it(order: Any, known: int) -> None:
    model, labels = stirred(build(order=order)), torch.tensor([0, 1, 2, -1])
    x = some_rows(MIXED, labels, seed=3).x
    first = set(model.order[:known])
    mask = torch.tensor([column in first for column in COLUMN_OF_VALUE])
    completed = model.complete(torch.where(mask, x, math.nan), mask, labels, generator(5))
    assert torch.equal(completed[:, mask], x[:, mask])
    with torch.no_grad():
        expected = drawn_by_whole_passes(model, labels, 5, 1.0, x.double(), known)
    torch.testing.assert_close(completed.double(), expected, atol=1e-6, rtol=0)
    if known == 3:
        assert not torch.equal(completed, model.complete(x, mask, labels, generator(6)))
        other = some_rows(MIXED, labels, seed=4).x
        assert not torch.equal(completed[:, ~mask], model.complete(other, mask, labels, generator(5))[:, ~mask])


def test_a_mask_that_is_not_in_the_order_is_refused_with_the_column() -> None:
    model, labels = build(order="reversed"), torch.tensor([0])
    x = some_rows(MIXED, labels).x
    with pytest.raises(ValueError, match="column 5 is unknown but comes before a known one"):
        model.complete(x, torch.tensor([True] + [False] * 8), labels, generator())
    with pytest.raises(ValueError, match="of column 5 some values are known, others not"):
        model.complete(x, torch.tensor([False] * 8 + [True]), labels, generator())
    for mask in (torch.ones(8, dtype=torch.bool), torch.ones(9)):
        with pytest.raises(ValueError, match="a boolean for each of 9 values"):
            model.complete(x, mask, labels, generator())
    with pytest.raises(ValueError, match="1 rows have a label each, not 2"):
        model.complete(x, torch.ones(9, dtype=torch.bool), torch.tensor([0, 1]), generator())


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        (0, math.nan, "a number that is not finite"),
        (6, math.inf, "a number that is not finite"),
        (5, 0.1, "away from the nearest of 5 levels"),
        (2, 0.5, "a 1 among zeros, and one of 3 values is not"),
        (7, math.nan, "a 1 among zeros, and one of 2 values is not"),
    ],
)
def test_a_known_value_that_no_column_can_have_is_refused_and_an_unknown_one_is_not(
    place: int, value: float, complaint: str
) -> None:
    model, labels = build(), torch.tensor([0, 1])
    x = some_rows(MIXED, labels).x
    x[:, 2:5], x[:, 7:] = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 1.0])
    every = torch.ones(9, dtype=torch.bool)
    assert torch.equal(model.complete(x, every, labels, generator()), x)
    x[1, place] = value
    with pytest.raises(ValueError, match=complaint):
        model.complete(x, every, labels, generator())
    earlier = torch.tensor(COLUMN_OF_VALUE) < COLUMN_OF_VALUE[place]
    assert torch.isfinite(model.complete(x, earlier, labels, generator())).all()


def test_no_rows_are_as_good_as_many() -> None:
    model, none = build().eval(), torch.zeros(0, dtype=torch.int64)
    x = torch.zeros(0, 9)
    assert model.log_likelihood(Batch(x, none)).shape == (0,)
    assert model.class_logits(x).shape == (0, 3)
    assert model.sample(none, generator()).shape == (0, 9)
    assert model.sample_labels_of(x, generator()).shape == (0,)
    assert model.sample_labels(0, generator()).shape == (0,)
    assert model.complete(x, torch.ones(9, dtype=torch.bool), none, generator()).shape == (0, 9)


@pytest.mark.parametrize("temperature", [-0.5, math.inf, math.nan])
def test_no_temperature_but_a_number_from_0_on_is_accepted(temperature: float) -> None:
    with pytest.raises(ValueError, match="the temperature is a finite number from 0 on"):
        build().sample(torch.tensor([0, 1]), generator(), temperature)


def test_a_model_of_64_bits_knows_the_likelihood_of_what_it_draws() -> None:
    model, labels = build().double().eval(), torch.tensor([0, 1])
    x = model.sample(labels, generator())
    assert x.dtype == torch.float64
    assert torch.isfinite(model.log_likelihood(Batch(x, labels))).all()


# Labels


def biased(model: MaskedMlp) -> MaskedMlp:
    """The model with classes of 0.6, 0.3 and 0.1 of the rows."""
    model.classes.seen.copy_(torch.tensor([599, 299, 99]))
    return model


def test_the_posterior_of_the_label_is_that_of_bayes() -> None:
    model = biased(stirred(build()))
    x = rows_of(MIXED, torch.arange(5) % 3).x
    prior = torch.tensor([0.6, 0.3, 0.1]).double()
    each = [prior[y] * model.log_likelihood(Batch(x, torch.full((5,), y))).exp() for y in range(3)]
    joint = torch.stack(each, 1)
    posterior = joint / joint.sum(1, keepdim=True)
    torch.testing.assert_close(model.class_logits(x).softmax(1), posterior, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(model.class_logits(x).exp(), joint, atol=0, rtol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_label_is_drawn_for_a_row_that_has_no_probability(value: float) -> None:
    model = stirred(build())
    x = rows_of(MIXED, torch.arange(3)).x
    x[1, 0] = value
    with pytest.raises(ValueError, match="no label can be drawn for row 1, since no class gives it a probability"):
        model.sample_labels_of(x, generator())


def test_labels_are_drawn_as_often_as_the_prior_and_the_posterior_say() -> None:
    from scipy.stats import chisquare

    model = biased(stirred(build()))
    counts = torch.bincount(model.sample_labels(4000, generator(1)), minlength=3)
    assert chisquare(counts.numpy(), [2400, 1200, 400]).pvalue > 0.001
    rows = rows_of(MIXED, torch.arange(50) % 3).x
    posteriors = model.class_logits(rows).softmax(1)
    undecided = int(posteriors.amin(1).argmax())
    row, posterior = rows[undecided], posteriors[undecided]
    assert posterior.min() > 0.02
    assert (posterior - torch.tensor([0.6, 0.3, 0.1])).abs().max() > 0.05  # the row tells something of the label
    drawn = torch.bincount(model.sample_labels_of(row.expand(4000, -1), generator(2)), minlength=3)
    assert chisquare(drawn.numpy(), (4000 * posterior).numpy()).pvalue > 0.001


def test_the_prior_is_learned_as_the_shares_of_the_classes_in_training_alone() -> None:
    model = build()
    torch.testing.assert_close(model.classes.log_prior().exp(), torch.full((3,), 1 / 3))
    labels = torch.tensor([0] * 90 + [1] * 9 + [2] + [-1] * 20)
    rows = some_rows(MIXED, labels)
    train(model, rows, 300)
    torch.testing.assert_close(model.classes.log_prior().exp(), torch.tensor([0.9, 0.09, 0.01]), atol=0.01, rtol=0)
    learned = model.classes.log_prior()
    model.objectives()[0].loss(rows, generator())
    assert torch.equal(model.classes.log_prior(), learned)


def test_it_keeps_the_protocols_of_an_exact_likelihood_of_completion_and_of_classes() -> None:
    model = build()
    assert isinstance(model, KnowsLikelihood)
    assert isinstance(model, CompletesRows)
    assert isinstance(model, ClassifiesRows)
    assert MaskedMlpConfig().classifies()


# What is refused


@pytest.mark.parametrize(
    ("spec", "settings", "complaint"),
    [
        (TensorSpec((1, 4, 4), (Span("continuous", 16, 17),), 2), {}, "needs rows that are vectors"),
        (TensorSpec((2,), (Span("continuous", 2, 5000),), 2), {}, "1,024 levels at most, these have 5,000"),
        (MIXED, {"order": (0, 1, 2)}, "names each of the 6 columns of a row once"),
        (MIXED, {"order": (0, 1, 2, 3, 4, 4)}, "this one is \\[0, 1, 2, 3, 4, 4\\]"),
        (MIXED, {"order": (0, 1, 2)}, "a number that may be missing counts as two columns"),
        (NUMBER, {"order": (1,)}, "names the one column of a row by its number 0, .* and this one is \\[1\\]"),
        (TensorSpec((900,), (Span("continuous", 900),), 2), {"units": 100}, "lower units or depth"),
        (TensorSpec((15_000,), (Span("categorical", 15_000),), 2), {}, "weights of one column, of 200,000,000 at most"),
    ],
)
def test_what_it_cannot_learn_is_refused_before_training(
    spec: TensorSpec, settings: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        MaskedMlpConfig(**settings).build(spec, generator())


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"bins": 4, "terms": 4}, "4 bins are told apart by 3 terms at most"),
        ({"bins": 1}, "greater than or equal to 2"),
        ({"order": "random"}, "order"),
        ({"order": -1}, "order"),
        ({"order": ["price", "age"]}, r"such as \[1, 0\], and this one is \['price', 'age'\]"),
        ({"order": [1, -1]}, r"this one is \[1, -1\]"),
        ({"order": [True, False]}, r"this one is \[True, False\]"),
        ({"order": None}, "this one is None"),
        ({"bins": 200, "terms": 65}, "less than or equal to 64"),
        ({"dropout": 1.0}, "less than 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        MaskedMlpConfig.model_validate(settings)


@pytest.mark.parametrize(
    "settings", [{}, {"depth": 0}, {"depth": 3}, {"terms": 0}, {"units": 1, "embedding": 9}, {"bins": 40, "terms": 2}]
)
@pytest.mark.parametrize("spec", [MIXED, NUMBER])
def test_the_weights_are_counted_as_they_are_made(spec: TensorSpec, settings: dict[str, int]) -> None:
    net = build(spec, **settings).net
    made = sum(layer.weight.numel() for layer in net.modules() if isinstance(layer, torch.nn.Linear))
    size = MadeSize(net.units, len(net.blocks), net.label.table.embedding_dim, 0.0)
    assert weights_of(net.factors, size) == made


def test_a_wide_table_whose_net_is_small_enough_is_built() -> None:
    """Its 1,100 columns have four outputs each, not one for each of 32 bins."""
    wide = TensorSpec((1100,), (Span("continuous", 1100),), 2)
    with torch.device("meta"):
        net = MaskedMlpConfig(units=8).build(wide, generator()).net
    assert net.direct.weight.shape == (4400, 1100)


def test_values_between_levels_are_refused() -> None:
    model = build().eval()
    batch = some_rows(MIXED, torch.tensor([0, 1]))
    model.log_likelihood(batch)
    for moved in (0.1, math.nan):
        x = batch.x.clone()
        x[:, 5] += moved
        with pytest.raises(ValueError, match="step away from the nearest of 5 levels"):
            model.log_likelihood(Batch(x, batch.y))


def test_a_very_wide_row_has_fewer_units_for_each_column() -> None:
    wide = TensorSpec((1000,), (Span("continuous", 1000),), 2)
    assert MaskedMlpConfig().build(MIXED, generator()).net.units == 16
    assert MaskedMlpConfig(bins=4, terms=2).build(wide, generator()).net.units == 4
    assert factors_of(wide, 4, 2).count == 1000


# Learning


def dependent_rows(y: Tensor, seed: int) -> Tensor:
    """Two numbers with a correlation of 0.9 in class 0 and -0.9 in class 1, and a category that tells their sign."""
    noise = torch.randn(len(y), 2, generator=generator(seed))
    slope = torch.where(y == 0, 0.9, -0.9)
    second = slope * noise[:, 0] + math.sqrt(1 - 0.9**2) * noise[:, 1]
    sign = torch.nn.functional.one_hot((second > 0).long(), 2)
    return torch.cat([noise[:, :1], second[:, None], sign], 1)


def check_dependence(model: MaskedMlp) -> None:
    """Samples have the moments and the correlation of their class, and the category agrees with the number."""
    for label, slope in enumerate((0.9, -0.9)):
        x = model.sample(torch.full((3000,), label), generator(3))
        found = float(torch.corrcoef(x[:, :2].T)[0, 1])
        assert found == pytest.approx(slope, abs=0.06), f"a correlation of {found:.2f} in class {label}"
        torch.testing.assert_close(x[:, :2].mean(0), torch.zeros(2), atol=0.1, rtol=0)
        torch.testing.assert_close(x[:, :2].std(0), torch.ones(2), atol=0.1, rtol=0)
        agreement = float((x[:, 2:].argmax(1) == (x[:, 1] > 0)).float().mean())
        assert agreement > 0.9, f"the category tells the sign in {agreement:.0%} of the rows of class {label}"


def trained(model: MaskedMlp) -> MaskedMlp:
    y = torch.arange(2000) % 2
    train(model, Batch(dependent_rows(y, 1), y), 800)
    return model


def dependent_model() -> MaskedMlp:
    spec = TensorSpec((4,), (Span("continuous", 2), Span("categorical", 2)), 2)
    settings = MaskedMlpConfig(dropout=0.0, optimiser={"weight_decay": 0.0, "learning_rate": 5e-3})  # type: ignore[arg-type]
    return settings.build(spec, generator())


@pytest.mark.slow
def test_it_learns_how_columns_depend_on_each_other_in_each_class() -> None:
    check_dependence(trained(dependent_model()))


@pytest.mark.slow
def test_a_model_that_is_trained_without_the_class_has_no_correlation_of_a_class() -> None:
    with pytest.raises(AssertionError, match=r"a correlation of -?0\.\d+ in class 0"):
        check_dependence(trained(deaf(dependent_model())))
