"""PixelCNN: what a pixel hears, that probabilities sum to one, cached drawing and completion, and that it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from _learned_digits import check_learns, learned
from _model_cases import generator, some_rows
from _raster_proofs import (
    check_drawing_has_the_likelihood,
    check_no_leak,
    check_rows_can_be_played_again,
    check_sums_to_one,
    drawn_by_whole_passes,
    levels_drawn,
    levels_spec,
    pairs_heard,
    stirred,
)
from pydantic import ValidationError

from models._contract import Batch, CompletesRows, KnowsLikelihood, Span, TensorSpec
from models._grey_levels import uniform_noise
from models._masked import raster_mask
from models._raster_layers import RasterConv
from models._raster_model import RasterModel
from models.pixelcnn import CachedPlaces, PixelCnnConfig

SHAPES = {"grey": ((1, 5, 6), 5), "colour": ((3, 3, 4), 4)}
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


def deaf(model: RasterModel) -> RasterModel:
    """The model without what moves the layers by the class, in training as well."""
    for layer in model.modules():
        if isinstance(layer, RasterConv):
            layer.of_class.register_forward_hook(lambda _layer, _given, moved: 0 * moved)
    return model


# What is heard


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kernel", [3, 5])
def test_no_pixel_hears_itself_or_a_later_one(channels: int, kernel: int) -> None:
    check_no_leak(build((channels, 5, 6), 3, kernel=kernel))


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


@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 1, 2)])
def test_the_probabilities_of_all_images_sum_to_one(shape: tuple[int, int, int]) -> None:
    check_sums_to_one(stirred(build(shape, 3, classes=2)))


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


def test_the_class_moves_every_layer() -> None:
    model = stirred(build((1, 5, 6), 5))
    batch = some_rows(model.spec, torch.tensor([0, 0]))
    usual = model.log_likelihood(Batch(batch.x.double(), batch.y))
    layers = [layer for layer in model.modules() if isinstance(layer, RasterConv)]
    assert len(layers) == 3 + 3 * SMALL["depth"]
    for layer in layers:
        kept = layer.of_class.weight.detach().clone()
        layer.of_class.weight.data.zero_()
        assert not torch.allclose(model.log_likelihood(Batch(batch.x.double(), batch.y)), usual)
        layer.of_class.weight.data.copy_(kept)


# Drawing


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("colours", SHAPES)
def test_caches_draw_what_whole_passes_draw(colours: str, classes: int, rows: int) -> None:
    model = stirred(build(*SHAPES[colours], classes=classes))
    labels = torch.arange(rows) % classes
    found = levels_drawn(model, model.sample(labels, generator(5), temperature=0.8))
    noise = uniform_noise(model.grid, rows, generator(5), model.net.where)
    assert torch.equal(found, drawn_by_whole_passes(model, labels, noise, 0.8))
    assert len(found.unique()) > 2  # the noise and the weights decide, not one level


@pytest.mark.parametrize("kernel", [5, 7])
def test_caches_of_taller_kernels_draw_what_whole_passes_draw(kernel: int) -> None:
    model = stirred(build(*SHAPES["grey"], kernel=kernel, first_kernel=kernel))
    labels = torch.arange(3)
    noise = uniform_noise(model.grid, 3, generator(5), model.net.where)
    found = levels_drawn(model, model.sample(labels, generator(5)))
    assert torch.equal(found, drawn_by_whole_passes(model, labels, noise))


@pytest.mark.parametrize("colours", SHAPES)
def test_a_row_that_is_captured_draws_the_rows_below(colours: str) -> None:
    check_rows_can_be_played_again(stirred(build(*SHAPES[colours])), torch.arange(3))


@pytest.mark.parametrize("colours", SHAPES)
def test_a_sample_has_the_likelihood_with_which_it_was_drawn(colours: str) -> None:
    model, labels = stirred(build(*SHAPES[colours])), torch.tensor([0, 1, 2, -1])
    check_drawing_has_the_likelihood(model, CachedPlaces(model.net, labels), labels)


def test_samples_are_as_frequent_as_they_are_probable() -> None:
    from scipy.stats import chisquare

    model = stirred(build((1, 2, 2), 2, classes=1))
    drawn = levels_drawn(model, model.sample(torch.zeros(4000, dtype=torch.int64), generator(2))).flatten(1)
    counts = torch.bincount((drawn * torch.tensor([8, 4, 2, 1])).sum(1), minlength=16)
    every = torch.tensor([[i >> 3 & 1, i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(16)])
    x = model.grid.values(every).double().reshape(16, 1, 2, 2)
    expected = 4000 * model.log_likelihood(Batch(x, torch.zeros(16, dtype=torch.int64))).exp()
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > 0.001
    assert chisquare(counts.roll(1).numpy(), expected.numpy()).pvalue < 0.001


# Completion


@pytest.mark.parametrize("known", [0, 1, 9, 12])
@pytest.mark.parametrize("colours", SHAPES)
def test_a_completed_row_keeps_what_is_known_and_is_drawn_as_by_whole_passes(colours: str, known: int) -> None:
    model, labels = stirred(build(*SHAPES[colours])), torch.tensor([0, 1, 2])
    x = some_rows(model.spec, labels, seed=3).x
    mask = (torch.arange(x[0, 0].numel()) < known).reshape(x.shape[2:])
    completed = model.complete(x, mask, labels, generator(5))
    assert torch.equal(completed[:, :, mask], x[:, :, mask])
    noise = uniform_noise(model.grid, 3, generator(5), model.net.where)
    given = model.grid.index(x)
    assert torch.equal(model.grid.index(completed), drawn_by_whole_passes(model, labels, noise, 1.0, given, known))
    if known == 9:
        assert not torch.equal(completed, model.complete(x, mask, labels, generator(6)))
        other = model.complete(-x, mask, labels, generator(5))
        assert not torch.equal(completed[:, :, ~mask], other[:, :, ~mask])  # what is known is heard


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


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (TensorSpec((5,), (Span("continuous", 5),), 2), "needs rows that are grids"),
        (TensorSpec((1, 4, 4), (Span("continuous", 16),), 2), "these values have none"),
        (TensorSpec((2, 4, 4), (Span("continuous", 16, 4), Span("continuous", 16, 4)), 2), "this one has 2"),
        (levels_spec((1, 4, 4), 1000), "256 levels at most, these have 1000"),
        (levels_spec((3, 128, 128), 256), "49,152 values .* until there are 12,288 at most"),
        (levels_spec((9, 4, 4), 4), "each of 9 channels needs a feature"),
    ],
)
def test_rows_that_it_cannot_learn_are_refused_before_training(spec: TensorSpec, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        PixelCnnConfig(**SMALL).build(spec, generator())


@pytest.mark.parametrize("name", ["kernel", "first_kernel"])
def test_a_kernel_without_a_centre_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="its side is odd, not 4"):
        PixelCnnConfig.model_validate({name: 4})


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


def digits_model() -> RasterModel:
    config = PixelCnnConfig(width=16, depth=3, dropout=0.0)
    return config.build(levels_spec((1, 8, 8), 17, 10), generator())


@pytest.mark.slow
def test_it_learns_digits_and_to_tell_them_apart() -> None:
    check_learns(learned(digits_model()))


@pytest.mark.slow
def test_a_model_whose_pixels_hear_themselves_is_too_good_to_be_true() -> None:
    with pytest.raises(AssertionError, match="too good to be true"):
        check_learns(learned(hearing_itself(digits_model())))


@pytest.mark.slow
def test_a_model_without_the_class_in_its_layers_recognises_nothing() -> None:
    with pytest.raises(AssertionError, match="the class is not heard"):
        check_learns(learned(deaf(digits_model())))
