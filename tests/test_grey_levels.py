"""Grey levels are drawn as often as logits say, and what cannot be drawn is no value."""

from __future__ import annotations

import math

import pytest
import torch
from _raster_proofs import levels_spec

from models._grey_levels import GreyGrid, grey_grid
from models.pixelcnn import PixelCnnConfig

GRID = GreyGrid(1, 2, 2, 4)
LOGITS = torch.tensor([[-torch.inf, 1.0, 2.0, 0.5]]).clamp(min=-1e4)


def test_a_likelihood_of_16_bits_is_summed_in_32() -> None:
    grid = GreyGrid(1, 28, 28, 2)
    logits, index = torch.zeros(1, 1, 2, 28, 28, dtype=torch.bfloat16), torch.zeros(1, 1, 28, 28, dtype=torch.int64)
    found = grid.log_likelihood(logits, index)
    torch.testing.assert_close(found, torch.tensor([-784 * math.log(2)]))


def test_a_likelihood_does_not_depend_on_how_logits_lie_in_memory() -> None:
    grid = GreyGrid(3, 4, 5, 6)
    outputs = torch.randn(2, 18, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    index = torch.randint(6, (2, 3, 4, 5), generator=torch.Generator().manual_seed(1))
    logits = outputs.reshape(2, 3, 6, 4, 5)
    beside = outputs.contiguous(memory_format=torch.channels_last).reshape(2, 3, 6, 4, 5)
    assert beside.stride(2) == 1 != logits.stride(2)
    expected = torch.distributions.Categorical(logits=logits.movedim(2, -1)).log_prob(index).sum((1, 2, 3))
    torch.testing.assert_close(grid.log_likelihood(logits, index), expected)
    torch.testing.assert_close(grid.log_likelihood(beside, index), expected)


@pytest.mark.parametrize(("levels", "dtype"), [(64, torch.float16), (64, torch.bfloat16), (256, torch.float64)])
def test_levels_of_any_precision_are_their_own_index(levels: int, dtype: torch.dtype) -> None:
    index = torch.arange(levels).reshape(1, 1, 8, -1)
    grid = GreyGrid(1, 8, levels // 8, levels)
    values = grid.values(index, dtype)
    assert values.dtype == dtype
    torch.testing.assert_close(values.double(), (index.double() * 2 / (levels - 1) - 1).to(dtype).double())
    assert torch.equal(grid.index(values), index)


def test_a_level_of_no_probability_is_not_drawn_at_the_end_of_the_quantiles() -> None:
    levels = GRID.draw(LOGITS.expand(2, 4), torch.tensor([0.0, 1 - 1e-7]), 1.0)
    assert levels.tolist() == [1, 3]


@pytest.mark.parametrize("temperature", [0.0, 1e-46, 1e-39, 1e-30, 1e-3])
def test_near_a_temperature_of_zero_the_likeliest_level_is_drawn(temperature: float) -> None:
    assert GRID.draw(LOGITS.expand(5, 4), torch.linspace(0, 0.999, 5), temperature).tolist() == [2] * 5


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_what_cannot_be_drawn_is_no_value(broken: float) -> None:
    logits = LOGITS.repeat(2, 1)
    logits[0, 1] = broken
    values = GRID.values(GRID.draw(logits, torch.full((2,), 0.5), 1.0))
    assert values.isnan().tolist() == [True, False]


def test_rows_of_one_level_have_nothing_to_learn() -> None:
    with pytest.raises(ValueError, match="tells grey levels apart, and these values have 1"):
        grey_grid(levels_spec((1, 2, 2), 1, 1), "pixelcnn")


def test_a_net_that_no_memory_holds_is_refused_before_it_is_made() -> None:
    config = PixelCnnConfig(depth=64, width=1024, kernel=31)
    with pytest.raises(ValueError, match=r"make 64,\d+,\d+,\d+ weights, of 200,000,000 at most"):
        config.build(levels_spec((1, 8, 8), 17, 10), torch.Generator())


def test_the_weights_that_are_counted_are_those_of_the_kernels() -> None:
    config, spec = PixelCnnConfig(width=6, head_width=7, depth=2), levels_spec((3, 8, 8), 5, 2)
    model = config.build(spec, torch.Generator().manual_seed(0))
    kernels = sum(weight.numel() for name, weight in model.named_parameters() if name.endswith("conv.weight"))
    assert config._kernel_weights(model.grid) == kernels


def test_each_row_to_complete_has_a_label() -> None:
    spec = levels_spec((1, 3, 3), 4, 3)
    model = PixelCnnConfig(width=6, head_width=7, depth=1).build(spec, torch.Generator().manual_seed(0)).eval()
    with pytest.raises(ValueError, match="1 rows have a label each, not 3"):
        model.complete(
            torch.zeros(1, 1, 3, 3) - 1, torch.zeros(3, 3, dtype=torch.bool), torch.arange(3), torch.Generator()
        )
