"""Gated PixelCNN: all earlier values are heard and no later one, by both heads, on all scales; it draws and learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from _broken_gated import (
    conditioned,
    deaf,
    hearing_beyond_the_first_of_four,
    hearing_its_row,
    hearing_itself,
    with_gates_of_other_channels,
)
from _model_cases import generator, some_rows
from _raster_learning import check_learns, learned
from _raster_proofs import (
    check_drawing_has_the_likelihood,
    check_no_leak,
    check_rows_can_be_played_again,
    check_sums_to_one,
    check_takes_no_rows,
    drawn_by_whole_passes,
    levels_drawn,
    levels_spec,
    pairs_heard,
)
from _raster_proofs import stirred as stirred_by
from pydantic import ValidationError
from torch import Tensor, nn

from models._contract import Batch, CompletesRows, KnowsLikelihood, Span, TensorSpec
from models._gated_layers import Whole, gated
from models._gated_steps import GatedBlock
from models._grey_levels import uniform_noise
from models._raster_model import RasterModel
from models.gated_pixelcnn import CachedPlaces, GatedPixelCnnConfig, suitable_depth

SHAPES = {"grey": ((1, 5, 6), 5), "colour": ((3, 3, 4), 4)}
SMALL: dict[str, Any] = {"width": 6, "head_width": 7, "first_kernel": 5, "depth": 2, "embedding": 4}
KERNELS = 3
LAST = 0.5
HEADS = ["softmax", "logistics"]
VARIANTS = [("softmax", 1), ("softmax", 2), ("logistics", 1), ("logistics", 3)]

every_variant = pytest.mark.parametrize(("head", "scales"), VARIANTS)
every_colour = pytest.mark.parametrize("colours", SHAPES)


def build(shape: tuple[int, int, int], levels: int, classes: int = 3, **settings: Any) -> RasterModel:
    return GatedPixelCnnConfig(**{**SMALL, **settings}).build(levels_spec(shape, levels, classes), generator())


def stirred(model: RasterModel) -> Any:
    """As every model is stirred, with larger kernels, since gates pass on little else, and small last ones.

    What is drawn is then neither the same whatever came before nor always an end level.
    """
    stirred_by(model)
    for layer in model.net.steps.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.mul_(KERNELS)
    model.net.last.conv.weight.data.mul_(LAST)
    return model


# What is heard


@every_variant
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kernel", [3, 5])
def test_no_value_hears_itself_or_a_later_one(channels: int, kernel: int, head: str, scales: int) -> None:
    check_no_leak(build((channels, 5, 6), 3, kernel=kernel, head=head, scales=scales))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_horizontal_stack_that_is_not_shifted_is_found_as_a_leak(channels: int, head: str) -> None:
    with pytest.raises(AssertionError, match="pairs leak; the logits of value 0 hear value 0"):
        check_no_leak(hearing_itself(build((channels, 5, 6), 3, head=head)))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_vertical_stack_that_is_not_shifted_is_found_as_a_leak(channels: int) -> None:
    with pytest.raises(AssertionError, match="pairs leak; the logits of value 0 hear value 0"):
        check_no_leak(hearing_its_row(build((channels, 5, 6), 3)))


def test_a_coarse_place_that_hears_beyond_the_first_of_its_four_is_found_as_a_leak() -> None:
    check_no_leak(build((1, 6, 6), 3, scales=2))
    with pytest.raises(AssertionError, match="pairs leak; the logits of value 0 hear value 0"):
        check_no_leak(hearing_beyond_the_first_of_four(build((1, 6, 6), 3, scales=2)))


def test_gates_that_mix_the_channels_are_found_as_a_leak() -> None:
    with pytest.raises(AssertionError, match="pairs leak; the logits of value 0 hear value 0"):
        check_no_leak(with_gates_of_other_channels(build((3, 3, 4), 3)))


@every_variant
@pytest.mark.parametrize(("channels", "pairs"), [(1, 1176), (3, 10731)])
def test_every_earlier_value_is_heard(channels: int, pairs: int, head: str, scales: int) -> None:
    """With the depth by default; a stack of masked kernels has a blind spot, of 175 and 1,575 pairs."""
    assert pairs == (49 * channels) * (49 * channels - 1) // 2
    model = build((channels, 7, 7), 3, first_kernel=3, depth=None, head=head, scales=scales)
    assert pairs_heard(model) == pairs


def test_with_a_block_less_than_by_default_not_everything_is_heard() -> None:
    model = build((1, 7, 7), 3, first_kernel=3, depth=None)
    depth = suitable_depth(model.grid, GatedPixelCnnConfig(first_kernel=3))
    assert len(model.net.steps) == depth == 5
    assert pairs_heard(build((1, 7, 7), 3, first_kernel=3, depth=depth - 1)) < 1176


def test_the_depth_by_default_has_an_end() -> None:
    blocks = list(GatedPixelCnnConfig().build(levels_spec((1, 64, 64), 2), generator()).net.steps)
    assert len(blocks) == 15


@pytest.mark.parametrize("sides", [(1, 1), (1, 5), (5, 1), (3, 7)])
def test_sides_that_no_scale_divides_are_heard_and_drawn_like_others(sides: tuple[int, int]) -> None:
    model = build((1, *sides), 3, depth=3, first_kernel=3, scales=3)
    check_no_leak(model)
    model, labels = stirred(build((1, *sides), 3, scales=3)), torch.tensor([0, 1])
    noise = uniform_noise(model.grid, 2, generator(5), model.net.where)
    found = levels_drawn(model, model.sample(labels, generator(5)))
    assert torch.equal(found, drawn_by_whole_passes(model, labels, noise))


def test_a_gated_layer_is_the_tanh_of_a_half_times_the_logistic_function_of_the_other() -> None:
    x = torch.randn(2, 6, 3, 4, generator=generator())
    f, g = x[:, :3], x[:, 3:]
    torch.testing.assert_close(gated(x), torch.tanh(f) / (1 + torch.exp(-g)))


def test_dropout_is_of_training_alone() -> None:
    model = build((1, 5, 6), 5, dropout=0.5)
    batch = some_rows(model.spec, torch.tensor([0, 1]))
    assert not torch.equal(model.log_likelihood(batch), model.log_likelihood(batch))
    model.eval()
    assert torch.equal(model.log_likelihood(batch), model.log_likelihood(batch))


def test_dropout_is_of_both_stacks() -> None:
    model = build((1, 5, 6), 5, dropout=0.5)
    block = next(module for module in model.modules() if isinstance(module, GatedBlock))
    applied = Whole(model.net.label(torch.tensor([0, 1])), 5, 6)
    v, h = (torch.randn(2, 6, 5, 6, generator=generator(seed)) for seed in (1, 2))
    assert 0.3 < float((block.above(v, applied) == 0).double().mean()) < 0.7
    block.above(v, applied)  # the horizontal stack is told what the vertical one found
    assert not torch.equal(block.beside(h, applied), block.beside(h, applied))


# Likelihood


@every_variant
@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 1, 2), (2, 2, 1)])
def test_the_probabilities_of_all_images_sum_to_one(shape: tuple[int, int, int], head: str, scales: int) -> None:
    check_sums_to_one(stirred(build(shape, 3, classes=2, head=head, scales=scales)))


@pytest.mark.parametrize("broken", [hearing_itself, hearing_its_row])
@pytest.mark.parametrize("head", HEADS)
def test_a_leak_keeps_probabilities_from_summing_to_one(broken: Any, head: str) -> None:
    with pytest.raises(AssertionError, match="not close"):
        check_sums_to_one(stirred(broken(build((1, 2, 2), 3, head=head))))


@pytest.mark.parametrize("head", HEADS)
def test_the_loss_is_the_mean_of_the_likelihood_in_nats_and_in_bits(head: str) -> None:
    model = build((1, 5, 6), 5, head=head).eval()
    batch = some_rows(model.spec, torch.tensor([0, 1, 2, -1]))
    (objective,) = model.objectives()
    terms = objective.loss(batch, generator())
    nats = model.log_likelihood(batch)
    torch.testing.assert_close(terms["loss"], -nats.mean())
    torch.testing.assert_close(terms["bits_per_dim"], -nats.mean() / (30 * math.log(2)))
    torch.testing.assert_close(nats, model.grid.log_likelihood(model.net(*batch), model.grid.index(batch.x)))


@every_variant
def test_the_class_moves_every_layer(head: str, scales: int) -> None:
    model = stirred(build((1, 5, 6), 5, head=head, scales=scales))
    batch = some_rows(model.spec, torch.tensor([0, 0]))
    batch = Batch(batch.x.double(), batch.y)
    usual = model.log_likelihood(batch)
    blocks = sum(isinstance(step, GatedBlock) for step in model.net.steps)
    assert blocks == SMALL["depth"] * (2 * scales - 1)
    assert len(conditioned(model)) == 4 + 3 * blocks + 4 * (scales - 1)
    for layer in conditioned(model):
        kept = layer.of_class.weight.detach().clone()
        layer.of_class.weight.data.zero_()
        assert not torch.allclose(model.log_likelihood(batch), usual)
        layer.of_class.weight.data.copy_(kept)


# Drawing


@every_variant
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("classes", [1, 3])
@every_colour
def test_caches_draw_what_whole_passes_draw(colours: str, classes: int, rows: int, head: str, scales: int) -> None:
    model = stirred(build(*SHAPES[colours], classes=classes, head=head, scales=scales))
    labels = torch.arange(rows) % classes
    found = levels_drawn(model, model.sample(labels, generator(5), temperature=0.8))
    noise = uniform_noise(model.grid, rows, generator(5), model.net.where)
    assert torch.equal(found, drawn_by_whole_passes(model, labels, noise, 0.8))
    assert len(found.unique()) > 1  # the noise and the weights decide, not one level


@pytest.mark.parametrize("scales", [1, 3])
@pytest.mark.parametrize("kernel", [5, 7])
def test_caches_of_taller_kernels_draw_what_whole_passes_draw(kernel: int, scales: int) -> None:
    model = stirred(build((1, 9, 10), 5, kernel=kernel, first_kernel=kernel, scales=scales))
    labels = torch.arange(3)
    noise = uniform_noise(model.grid, 3, generator(5), model.net.where)
    found = levels_drawn(model, model.sample(labels, generator(5)))
    assert torch.equal(found, drawn_by_whole_passes(model, labels, noise))


@every_variant
def test_rows_of_a_period_that_are_captured_draw_the_rows_below(head: str, scales: int) -> None:
    check_rows_can_be_played_again(stirred(build((1, 13, 4), 5, head=head, scales=scales)), torch.arange(3))


class MadeAnew(CachedPlaces):
    """With values of the row in a tensor that is made anew from that of the row before."""

    def begin_row(self, phase: int, row: Tensor) -> None:
        self.inputs.row = self.inputs.row.clone()
        super().begin_row(phase, row)


def test_a_cache_that_is_not_written_in_place_is_found() -> None:
    model = stirred(build((1, 13, 4), 5))
    model.net.places = lambda labels: MadeAnew(model.net, labels)
    with pytest.raises(AssertionError, match="not those that are done anew"):
        check_rows_can_be_played_again(model, torch.arange(3))


@every_variant
@every_colour
def test_a_sample_has_the_likelihood_with_which_it_was_drawn(colours: str, head: str, scales: int) -> None:
    model, labels = stirred(build(*SHAPES[colours], head=head, scales=scales)), torch.tensor([0, 1, 2, -1])
    check_drawing_has_the_likelihood(model, model.net.places(labels), labels)


@every_variant
def test_samples_are_as_frequent_as_they_are_probable(head: str, scales: int) -> None:
    from scipy.stats import chisquare

    model = stirred(build((1, 2, 2), 2, classes=1, head=head, scales=scales))
    drawn = levels_drawn(model, model.sample(torch.zeros(4000, dtype=torch.int64), generator(2))).flatten(1)
    counts = torch.bincount((drawn * torch.tensor([8, 4, 2, 1])).sum(1), minlength=16)
    every = torch.tensor([[i >> 3 & 1, i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(16)])
    x = model.grid.values(every).double().reshape(16, 1, 2, 2)
    expected = 4000 * model.log_likelihood(Batch(x, torch.zeros(16, dtype=torch.int64))).exp()
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > 0.001
    assert chisquare(counts.roll(1).numpy(), expected.numpy()).pvalue < 0.001


@every_variant
@pytest.mark.parametrize("known", [0, 1, 9, 12])
@every_colour
def test_a_completed_row_keeps_what_is_known_and_is_drawn_as_by_whole_passes(
    colours: str, known: int, head: str, scales: int
) -> None:
    model, labels = stirred(build(*SHAPES[colours], head=head, scales=scales)), torch.tensor([0, 1, 2])
    x = some_rows(model.spec, labels, seed=3).x
    mask = (torch.arange(x[0, 0].numel()) < known).reshape(x.shape[2:])
    completed = model.complete(x, mask, labels, generator(5))
    assert torch.equal(completed[:, :, mask], x[:, :, mask])
    noise = uniform_noise(model.grid, 3, generator(5), model.net.where)
    given = model.grid.index(x)
    assert torch.equal(model.grid.index(completed), drawn_by_whole_passes(model, labels, noise, 1.0, given, known))
    if known == 9 and colours == "grey":  # of 30 places
        other = model.complete(-x, mask, labels, generator(5))
        assert not torch.equal(completed[:, :, ~mask], other[:, :, ~mask])  # what is known is heard


# What is refused


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (TensorSpec((5,), (Span("continuous", 5),), 2), "needs rows that are grids"),
        (TensorSpec((1, 4, 4), (Span("continuous", 16),), 2), "these values have none"),
        (levels_spec((1, 4, 4), 1000), "a gated_pixelcnn has .* 256 levels at most, these have 1000"),
        (levels_spec((3, 128, 128), 256), "49,152 values .* until there are 12,288 at most"),
        (levels_spec((9, 4, 4), 4), "each of 9 channels needs a feature"),
    ],
)
def test_rows_that_it_cannot_learn_are_refused_before_training(spec: TensorSpec, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        GatedPixelCnnConfig(**SMALL).build(spec, generator())


def test_a_mixture_needs_no_feature_of_each_channel() -> None:
    check_no_leak(build((9, 2, 2), 4, head="logistics", components=3))


@pytest.mark.parametrize("name", ["kernel", "first_kernel"])
def test_a_kernel_without_a_centre_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="its side is odd, not 4"):
        GatedPixelCnnConfig.model_validate({name: 4})


def test_components_of_no_mixture_are_refused() -> None:
    with pytest.raises(ValidationError, match="components are of a mixture; set head to 'logistics'"):
        GatedPixelCnnConfig(components=5)


def test_a_net_that_no_memory_holds_is_refused_before_it_is_made() -> None:
    config = GatedPixelCnnConfig(depth=64, width=1024, kernel=31)
    with pytest.raises(ValueError, match=r"make 6\d,\d+,\d+,\d+ weights, of 200,000,000 at most"):
        config.build(levels_spec((1, 8, 8), 17, 10), torch.Generator())


@every_variant
def test_the_weights_that_are_counted_are_those_of_the_kernels(head: str, scales: int) -> None:
    model = build((3, 8, 8), 5, head=head, scales=scales)
    kernels = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Conv2d))
    assert GatedPixelCnnConfig(**SMALL, head=head, scales=scales)._kernel_weights(model.grid) == kernels


@every_variant
def test_no_rows_are_as_good_as_many(head: str, scales: int) -> None:
    check_takes_no_rows(build((3, 3, 4), 4, head=head, scales=scales))


def test_values_between_grey_levels_are_refused() -> None:
    model = build(*SHAPES["grey"], head="logistics").eval()
    batch = some_rows(model.spec, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="step away from the nearest of 5 grey levels"):
        model.log_likelihood(Batch(batch.x + 0.1, batch.y))


def test_it_keeps_the_protocols_of_an_exact_likelihood_and_of_completion() -> None:
    model = build(*SHAPES["grey"])
    assert isinstance(model, KnowsLikelihood)
    assert isinstance(model, CompletesRows)


# Learning


def digits_model(**settings: Any) -> RasterModel:
    config = GatedPixelCnnConfig(width=16, depth=1, dropout=0.0, **settings)
    return config.build(levels_spec((1, 8, 8), 17, 10), generator())


@pytest.mark.slow
@pytest.mark.parametrize(("head", "scales"), [("softmax", 1), ("logistics", 2)])
def test_it_learns_digits_and_to_tell_them_apart(head: Any, scales: int) -> None:
    check_learns(learned(digits_model(head=head, scales=scales)))


@pytest.mark.slow
def test_a_model_whose_pixels_hear_themselves_is_too_good_to_be_true() -> None:
    with pytest.raises(AssertionError, match="too good to be true"):
        check_learns(learned(hearing_itself(digits_model())))


@pytest.mark.slow
def test_a_model_without_the_class_in_its_layers_recognises_nothing() -> None:
    with pytest.raises(AssertionError, match="the class is not heard"):
        check_learns(learned(deaf(digits_model())))
