"""Diagonal BiLSTM: what a pixel hears and misses, both passes place by place, and that it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from _model_cases import generator
from _raster_learning import check_learns, digits_model, learned
from _raster_proofs import check_class_moves, check_no_leak, deaf, heard, levels_spec, pairs_heard, stirred
from torch import Tensor

from models._masked import spread_orders
from models._raster_model import RasterModel
from models._skew import Skew
from models.diagonal_bilstm import DiagonalBiLstmConfig, DiagonalStates

SMALL: dict[str, Any] = {"width": 6, "head_width": 7, "first_kernel": 3, "depth": 2, "embedding": 4}
LEARNED = DiagonalBiLstmConfig(width=12, depth=1, dropout=0.0)
AS_PUBLISHED = {"paper_exact": True}


def build(shape: tuple[int, int, int], levels: int = 3, **settings: Any) -> RasterModel:
    return DiagonalBiLstmConfig(**{**SMALL, **settings}).build(levels_spec(shape, levels), generator())


def layers_of(model: RasterModel) -> list[DiagonalStates]:
    return [layer for layer in model.modules() if isinstance(layer, DiagonalStates)]


def not_shifted(model: RasterModel) -> RasterModel:
    """The model whose pass from the right is read in its own row."""
    for layer in layers_of(model):
        layer.forward = lambda x, condition, layer=layer: layer.passes(x, condition).sum(0)
    return model


def skewed_the_other_way(model: RasterModel) -> RasterModel:
    """The model whose rows are shifted to the left where they belong to the right, so that passes change sides."""
    for layer in layers_of(model):
        layer.skew.orders, layer.skew.places = layer.skew.orders.flip(0), layer.skew.places.flip(0)
        break  # the layers share it
    return model


# What is heard


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("first_kernel", [3, 7])
def test_a_pixel_hears_all_that_come_before(channels: int, first_kernel: int) -> None:
    """Of 1,176 and 10,731 pairs."""
    places = 49 * channels
    model = build((channels, 7, 7), first_kernel=first_kernel, depth=1)
    assert pairs_heard(model) == places * (places - 1) // 2
    check_no_leak(model)


@pytest.mark.parametrize(("channels", "first_kernel", "missing"), [(1, 3, 30), (1, 7, 18), (3, 3, 90), (3, 7, 54)])
def test_as_published_places_on_the_left_miss_the_last_of_the_row_above(
    channels: int, first_kernel: int, missing: int
) -> None:
    places = 49 * channels
    found = heard(build((channels, 7, 7), first_kernel=first_kernel, **AS_PUBLISHED))
    unheard = (~found & torch.ones_like(found).tril(-1)).nonzero()
    assert len(unheard) == missing
    assert places * (places - 1) // 2 - int(found.sum()) == missing
    assert ((unheard[:, 1] // channels) % 7 == 6).all()  # the last place of a row
    assert (unheard[:, 0] // channels // 7 - unheard[:, 1] // channels // 7 == 1).all()  # the row above


def test_a_pass_from_the_right_in_its_own_row_is_found_as_a_leak() -> None:
    with pytest.raises(AssertionError, match="90 pairs leak; the logits of value 0 hear value"):
        check_no_leak(not_shifted(build((1, 6, 6), depth=1, **AS_PUBLISHED)))


def test_rows_that_are_skewed_the_other_way_are_found_as_a_leak() -> None:
    with pytest.raises(AssertionError, match="pairs leak; the logits of value 0 hear value"):
        check_no_leak(skewed_the_other_way(build((1, 6, 6))))


def test_gates_that_mix_the_channels_are_found_as_a_leak() -> None:
    model = build((3, 3, 4))
    for layer in layers_of(model):
        layer.from_left.linear.mask.fill_(1)
    with pytest.raises(AssertionError, match="pairs leak; the logits of value 0 hear value 0"):
        check_no_leak(model)


# The layer


def layer_of(height: int, width: int, units: int = 3, channels: int = 1) -> DiagonalStates:
    """A layer of random weights in 64 bits."""
    orders = (spread_orders(count * units, channels) for count in (2, 1))
    layer = DiagonalStates(*orders, 4, Skew(height, width)).double()
    noise = generator(3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=noise) / 2)
    return layer


def features(height: int, width: int, units: int = 3) -> tuple[Tensor, Tensor]:
    """Features of two rows, and the vectors of their classes."""
    noise = generator(4)
    return (
        torch.randn(2, 2 * units, height, width, generator=noise, dtype=torch.float64),
        torch.randn(2, 4, generator=noise, dtype=torch.float64),
    )


def by_loop(layer: DiagonalStates, x: Tensor, condition: Tensor, side: int) -> Tensor:
    """The equations of the paper, cell after cell: the states of the pass from the left (0) or the right (1)."""
    rows, _, height, width = x.shape
    units = layer.above.shape[1]
    of_features = (layer.from_left, layer.from_right)[side].linear
    of_class = (layer.from_left, layer.from_right)[side].of_class
    outside = layer.outside(condition).reshape(rows, 2, 2, units)
    h = {(row, column): outside[:, 0, side] for row in range(-1, height) for column in range(-1, width + 1)}
    cells = dict.fromkeys(h, outside[:, 1, side])
    step = 1 if side == 0 else -1
    for row in range(height):
        for column in range(width)[::step]:
            before, above = (row, column - step), (row - 1, column)
            z = x[:, :, row, column] @ (of_features.weight * of_features.mask).T + of_features.bias
            z = z + of_class(condition) + h[before] @ layer.beside[side] + h[above] @ layer.above[side]
            o, f, i, g = z.reshape(rows, 4, units).unbind(1)
            cells[row, column] = f.sigmoid() * cells[before] + i.sigmoid() * g.tanh()
            h[row, column] = o.sigmoid() * cells[row, column].tanh()
    return torch.stack([torch.stack([h[r, c] for c in range(width)], -1) for r in range(height)], -2)


@pytest.mark.parametrize(("height", "width"), [(3, 4), (4, 2), (1, 3), (3, 1)])
def test_both_passes_follow_the_equations_of_the_paper(height: int, width: int) -> None:
    layer, (x, condition) = layer_of(height, width), features(height, width)
    left, right = (by_loop(layer, x, condition, side) for side in (0, 1))
    found = layer.passes(x, condition)
    torch.testing.assert_close(found[0], left)
    torch.testing.assert_close(found[1], right)
    below = torch.cat([torch.zeros_like(right[:, :, :1]), right[:, :, :-1]], dim=2)
    torch.testing.assert_close(layer(x, condition), left + below)


def test_a_mirrored_image_has_mirrored_states_if_the_passes_change_sides() -> None:
    layer, (x, condition) = layer_of(3, 4), features(3, 4)
    mirrored = layer_of(3, 4)
    mirrored.from_left, mirrored.from_right = layer.from_right, layer.from_left
    with torch.no_grad():
        mirrored.beside.copy_(layer.beside.flip(0))
        mirrored.above.copy_(layer.above.flip(0))
        for own, other in zip(mirrored.outside.parameters(), layer.outside.parameters(), strict=True):
            own.copy_(other.reshape(2, 2, 3, -1).flip(1).reshape(other.shape))
    found = mirrored.passes(x.flip(3), condition)
    torch.testing.assert_close(found.flip(4), layer.passes(x, condition).flip(0))
    assert not torch.allclose(found.flip(4), layer.passes(x, condition))


def test_one_column_lies_behind_the_image_and_none_as_published() -> None:
    assert build((1, 5, 6)).net.margin == 1
    assert build((1, 5, 6), paper_exact=True).net.margin == 0


def test_cells_stay_in_32_bits_where_the_rest_is_computed_in_16() -> None:
    layer, (x, condition) = layer_of(3, 4).float(), features(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer.passes(x.float(), condition.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, layer.passes(x.float(), condition.float()), atol=0.1, rtol=0)


def test_the_class_moves_the_state_outside_of_every_layer() -> None:
    model = stirred(build((1, 5, 6)))
    check_class_moves(model, [layer.outside for layer in layers_of(model)])


def test_forget_gates_begin_open_and_the_others_half_open() -> None:
    (layer,) = layers_of(build((1, 5, 6), depth=1))
    o, f, i, g = layer.from_left.linear.bias.detach().reshape(4, -1)
    assert f.min() > max(o.max(), i.max(), g.max())


# Learning


@pytest.mark.slow
def test_it_learns_digits_and_to_tell_them_apart() -> None:
    check_learns(learned(digits_model(LEARNED)))


@pytest.mark.slow
def test_a_model_without_the_class_in_its_layers_recognises_nothing() -> None:
    with pytest.raises(AssertionError, match="the class is not heard"):
        check_learns(learned(deaf(digits_model(LEARNED))))
