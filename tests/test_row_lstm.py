"""Row LSTM: what a pixel hears and its blind wedge, the states row by row, and that it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from _model_cases import generator
from _raster_learning import check_learns, digits_model, learned
from _raster_proofs import check_class_moves, check_no_leak, deaf, heard, levels_spec, pairs_heard, stirred
from torch import Tensor

from models._grey_levels import GreyGrid
from models._masked import spread_orders
from models._raster_model import RasterModel
from models.row_lstm import RowLstmConfig, RowStates, suitable_kernel, windows

SMALL: dict[str, Any] = {"width": 6, "head_width": 7, "first_kernel": 3, "depth": 2, "embedding": 4}
LEARNED = RowLstmConfig(width=16, depth=1, kernel=5, dropout=0.0)


def build(shape: tuple[int, int, int], levels: int = 3, **settings: Any) -> RasterModel:
    return RowLstmConfig(**{**SMALL, **settings}).build(levels_spec(shape, levels), generator())


def layers_of(model: RasterModel) -> list[RowStates]:
    return [layer for layer in model.modules() if isinstance(layer, RowStates)]


# What is heard


@pytest.mark.parametrize("paper_exact", [False, True])
@pytest.mark.parametrize(("channels", "kernel", "pairs"), [(1, 3, 1001), (3, 3, 9156), (1, 5, 1052), (3, 5, 9909)])
def test_a_deep_stack_hears_all_but_a_wedge_to_the_upper_right(
    channels: int, kernel: int, pairs: int, paper_exact: bool
) -> None:
    """Of 1,176 and 10,731 pairs; three places hear what a PixelCNN of 3x3 hears."""
    model = build((channels, 7, 7), kernel=kernel, depth=7, paper_exact=paper_exact)
    assert pairs_heard(model) == pairs


def test_as_published_a_state_hears_three_places_of_the_row_above_and_nothing_behind_the_image() -> None:
    model = build((1, 5, 6), paper_exact=True)
    assert [layer.reach for layer in layers_of(model)] == [1, 1]
    assert model.net.margin == 0
    assert build((1, 5, 6)).net.margin == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_by_default_a_pixel_of_a_small_image_hears_all_that_come_before(channels: int) -> None:
    places = 49 * channels
    model = build((channels, 7, 7), depth=1)
    assert pairs_heard(model) == places * (places - 1) // 2
    check_no_leak(model)


def test_a_kernel_that_ends_before_the_column_behind_the_image_misses_the_last_of_the_row_above() -> None:
    found = heard(build((1, 5, 5), kernel=9, depth=1))
    unheard = (~found & torch.ones_like(found).tril(-1)).nonzero()
    assert unheard.tolist() == [[5, 4], [10, 9], [15, 14], [20, 19]]
    assert pairs_heard(build((1, 5, 5), kernel=11, depth=1)) == 300


def test_wider_images_have_a_kernel_of_nine_places() -> None:
    kernels = [suitable_kernel(GreyGrid(1, 4, width, 2)) for width in (1, 8, 9, 64)]
    assert kernels == [3, 17, 9, 9]


def test_gates_that_mix_the_channels_are_found_as_a_leak() -> None:
    model = build((3, 3, 4), kernel=3)
    for layer in layers_of(model):
        layer.gates.linear.mask.fill_(1)
    with pytest.raises(AssertionError, match="pairs leak; the logits of value 0 hear value 0"):
        check_no_leak(model)


def test_features_from_the_right_are_found_as_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.row_lstm.windows", lambda x, left, right: windows(x, right, left))
    with pytest.raises(AssertionError, match="pairs leak; the logits of value 0 hear value"):
        check_no_leak(build((1, 4, 5), kernel=3))


# The layer


def by_loop(layer: RowStates, x: Tensor, condition: Tensor) -> Tensor:
    """The equations of the paper, place after place."""
    rows, inputs, height, width = x.shape
    units, reach = layer.outside.out_features // 2, layer.reach
    start, start_cells = layer.outside(condition).reshape(rows, 2, units).unbind(1)
    h, cells = [start] * width, [start_cells] * width
    of_features = (layer.gates.linear.weight * layer.gates.linear.mask).reshape(-1, reach + 1, inputs)
    above = layer.above.reshape(-1, units, 4 * units)
    found = []
    for row in range(height):
        h_above, cells_above, h, cells = h, cells, [], []
        for column in range(width):
            z = layer.gates.linear.bias + layer.gates.of_class(condition)
            for tap in range(reach + 1):
                if (left := column - reach + tap) >= 0:
                    z = z + x[:, :, row, left] @ of_features[:, tap].T
            for tap in range(2 * reach + 1):
                if 0 <= (near := column - reach + tap) < width:
                    z = z + h_above[near] @ above[tap]
            o, f, i, g = z.reshape(rows, 4, units).unbind(1)
            cells.append(f.sigmoid() * cells_above[column] + i.sigmoid() * g.tanh())
            h.append(o.sigmoid() * cells[-1].tanh())
        found.append(torch.stack(h, -1))
    return torch.stack(found, -2)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_states_follow_the_equations_of_the_paper(kernel: int, channels: int) -> None:
    noise = generator(3)
    layer = RowStates(spread_orders(6, channels), spread_orders(3, channels), kernel, 4).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=noise) / 2)
    x = torch.randn(2, 6, 3, 4, generator=noise, dtype=torch.float64)
    condition = torch.randn(2, 4, generator=noise, dtype=torch.float64)
    torch.testing.assert_close(layer(x, condition), by_loop(layer, x, condition))


def test_cells_stay_in_32_bits_where_the_rest_is_computed_in_16() -> None:
    layer = RowStates(spread_orders(6, 1), spread_orders(3, 1), 3, 4)
    x, condition = torch.randn(2, 6, 3, 4, generator=generator()), torch.randn(2, 4, generator=generator())
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x, condition)
        rows = x.permute(2, 3, 0, 1)
        z = windows(rows, layer.reach, 0) @ layer.gates.weight + layer.base(condition)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, layer(x, condition), atol=0.1, rtol=0)
    swept = layer._swept(z.float(), *layer.start(condition)).permute(2, 3, 0, 1)
    torch.testing.assert_close(found, swept, atol=1e-6, rtol=0)


def test_the_class_moves_the_row_above_the_first_in_every_layer() -> None:
    model = stirred(build((1, 5, 6)))
    check_class_moves(model, [layer.outside for layer in layers_of(model)])


# Learning


@pytest.mark.slow
def test_it_learns_digits_and_to_tell_them_apart() -> None:
    check_learns(learned(digits_model(LEARNED)))


@pytest.mark.slow
def test_a_model_without_the_class_in_its_layers_recognises_nothing() -> None:
    with pytest.raises(AssertionError, match="the class is not heard"):
        check_learns(learned(deaf(digits_model(LEARNED))))
