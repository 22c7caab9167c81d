"""PixelCNN: what a pixel hears and misses, its likelihood, drawing and completion, and that it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from _model_cases import generator, some_rows
from _raster_learning import check_learns, digits_model, learned
from _raster_proofs import (
    check_no_leak,
    check_sums_to_one,
    deaf,
    drawn_by_whole_passes,
    levels_drawn,
    levels_spec,
    pairs_heard,
    stirred,
)

from models._contract import Batch, CompletesRows, KnowsLikelihood
from models._grey_levels import uniform_noise
from models._masked import raster_mask
from models._raster_model import RasterModel
from models.pixelcnn import PixelCnnConfig

SHAPES = {"grey": ((1, 5, 6), 5)}
SMALL: dict[str, Any] = {"width": 6, "head": 7, "first_kernel": 5, "depth": 2, "embedding": 4}


def build(shape: tuple[int, int, int], levels: int, classes: int = 3, **settings: Any) -> RasterModel:
    return PixelCnnConfig(**{**SMALL, **settings}).build(levels_spec(shape, levels, classes), generator())


def hearing_itself(model: RasterModel) -> RasterModel:
    """The model with mask B in the first layer too."""
    first = model.net.first.conv
    channels = torch.arange(model.grid.channels)
    constants = torch.full((first.in_channels - len(channels),), -1)
    own = torch.arange(first.out_channels) * len(channels) // first.out_channels
    first.mask.copy_(raster_mask(torch.cat([channels, constants]), own, first.kernel_size[0], strict=False))
    return model


# What is heard


@pytest.mark.parametrize("channels", [1, 3])
def test_mask_b_in_the_first_layer_is_found_as_a_leak(channels: int) -> None:
    with pytest.raises(AssertionError, match="pairs leak; the logits of value 0 hear value 0"):
        check_no_leak(hearing_itself(build((channels, 5, 6), 3)))


@pytest.mark.parametrize(("channels", "pairs"), [(1, 1001), (3, 9156)])
def test_a_deep_stack_hears_all_but_its_blind_spot(channels: int, pairs: int) -> None:
    """Of 1,176 and 10,731 pairs; the rest lies in the wedge to the upper right that masked kernels never reach."""
    assert pairs_heard(build((channels, 7, 7), 3, first_kernel=3, depth=7)) == pairs


def test_the_depth_by_default_lets_the_last_place_hear_the_first() -> None:
    one = {"first_kernel": 3, "depth": 3}
    assert pairs_heard(build((1, 7, 7), 3, **one)) < pairs_heard(build((1, 7, 7), 3, **one | {"depth": None}))
    assert pairs_heard(build((1, 7, 7), 3, **one | {"depth": None})) == 1001
    assert len(PixelCnnConfig().build(levels_spec((1, 64, 64), 2), generator()).net.blocks) == 15


# Likelihood


def test_a_leak_keeps_probabilities_from_summing_to_one() -> None:
    with pytest.raises(AssertionError, match="not close"):
        check_sums_to_one(stirred(hearing_itself(build((1, 2, 2), 3))))


def test_the_loss_is_the_mean_of_the_likelihood_in_nats_and_in_bits() -> None:
    model = build((1, 5, 6), 5).eval()
    batch = some_rows(model.spec, torch.tensor([0, 1, 2, -1]))
    (objective,) = model.objectives()
    terms = objective.loss(batch, generator())
    nats = model.log_likelihood(batch)
    torch.testing.assert_close(terms["loss"], -nats.mean())
    torch.testing.assert_close(terms["bits_per_dim"], -nats.mean() / (30 * math.log(2)))


def test_a_likelihood_is_the_same_of_many_rows_as_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    model = stirred(build((1, 5, 6), 5))
    batch = some_rows(model.spec, torch.arange(5) % 3)
    batch = Batch(batch.x.double(), batch.y)
    whole = model.log_likelihood(batch)
    monkeypatch.setattr("models._raster_model.VALUES_AT_ONCE", 2 * 30 * 5)
    torch.testing.assert_close(model.log_likelihood(batch), whole)


# Drawing


@pytest.mark.parametrize("kernel", [5, 7])
def test_caches_of_taller_kernels_draw_what_whole_passes_draw(kernel: int) -> None:
    model = stirred(build(*SHAPES["grey"], kernel=kernel, first_kernel=kernel))
    labels = torch.arange(3)
    noise = uniform_noise(model.grid, 3, generator(5), model.net.where)
    found = levels_drawn(model, model.sample(labels, generator(5)))
    assert torch.equal(found, drawn_by_whole_passes(model, labels, noise))


# Completion


def test_unknown_values_may_be_anything() -> None:
    model, labels = build(*SHAPES["grey"]).eval(), torch.tensor([0])
    x = some_rows(model.spec, labels).x
    mask = torch.zeros(5, 6, dtype=torch.bool)
    mask[:2] = True
    first = model.complete(x, mask, labels, generator(5))
    assert torch.equal(first, model.complete(torch.where(mask, x, math.nan), mask, labels, generator(5)))


def test_a_mask_that_is_not_in_raster_order_is_refused_with_the_place() -> None:
    model, labels = build(*SHAPES["grey"]), torch.tensor([0])
    x, mask = some_rows(model.spec, labels).x, torch.zeros(5, 6, dtype=torch.bool)
    mask[0], mask[1, 2:4] = True, True
    with pytest.raises(ValueError, match=r"place \(1, 0\) is unknown but comes before a known one"):
        model.complete(x, mask, labels, generator())
    with pytest.raises(ValueError, match="a boolean for each of 5 x 6 places"):
        model.complete(x, mask[:4], labels, generator())
    with pytest.raises(ValueError, match="a boolean for each of 5 x 6 places"):
        model.complete(x, mask.float(), labels, generator())


# What is refused


def test_values_between_grey_levels_are_refused() -> None:
    model = build(*SHAPES["grey"]).eval()
    batch = some_rows(model.spec, torch.tensor([0, 1]))
    model.log_likelihood(Batch(batch.x + 1e-6, batch.y))
    for x in (batch.x + 0.1, batch.x * math.nan, batch.x * 2):
        with pytest.raises(ValueError, match="step away from the nearest of 5 grey levels"):
            model.log_likelihood(Batch(x, batch.y))


def test_it_keeps_the_protocols_of_an_exact_likelihood_and_of_completion() -> None:
    model = build(*SHAPES["grey"])
    assert isinstance(model, KnowsLikelihood)
    assert isinstance(model, CompletesRows)


# Learning


LEARNED = PixelCnnConfig(width=16, depth=3, dropout=0.0)


@pytest.mark.slow
def test_it_learns_digits_and_to_tell_them_apart() -> None:
    check_learns(learned(digits_model(LEARNED)))


@pytest.mark.slow
def test_a_model_whose_pixels_hear_themselves_is_too_good_to_be_true() -> None:
    with pytest.raises(AssertionError, match="too good to be true"):
        check_learns(learned(hearing_itself(digits_model(LEARNED))))


@pytest.mark.slow
def test_a_model_without_the_class_in_its_layers_recognises_nothing() -> None:
    with pytest.raises(AssertionError, match="the class is not heard"):
        check_learns(learned(deaf(digits_model(LEARNED))))
