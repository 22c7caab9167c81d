"""A mixture of logistics gives each level of each channel an exact probability, given the channels before it."""

from __future__ import annotations

import itertools

import pytest
import torch
from _model_cases import generator
from torch import Tensor

from models._grey_levels import GreyGrid
from models._logistic_mixture import LogisticMixture

COMPONENTS = 4


def mixture(channels: int, levels: int, height: int = 1, width: int = 1) -> LogisticMixture:
    return LogisticMixture(GreyGrid(channels, height, width, levels), COMPONENTS)


def some_outputs(head: LogisticMixture, rows: int = 3, spread: float = 1.0) -> Tensor:
    """Outputs ``(rows, outputs, H, W)`` in 64 bits."""
    shape = (rows, len(head.orders()), head.grid.height, head.grid.width)
    return spread * torch.randn(shape, generator=generator(1), dtype=torch.float64)


def every_place(head: LogisticMixture) -> Tensor:
    """The levels of every place that there is, ``(N, C)``."""
    return torch.tensor(list(itertools.product(range(head.grid.levels), repeat=head.grid.channels)))


def by_the_formula(head: LogisticMixture, outputs: Tensor, levels: list[int]) -> float:
    """p of the levels of one place by sums and products of sigmoids, of outputs ``(outputs,)``."""
    channels, count = head.grid.channels, head.grid.levels
    total, half = 0.0, 1 / (count - 1)
    values = [2 * level / (count - 1) - 1 for level in levels]
    parts = outputs.reshape(COMPONENTS, -1)
    for k, share in enumerate(parts[:, 0].softmax(0)):
        couplings = iter(parts[k, 1 + 2 * channels :])
        mass = share
        for c in range(channels):
            mean = parts[k, 1 + c] + torch.linspace(-1, 1, COMPONENTS, dtype=torch.float64)[k]
            mean = mean + sum(next(couplings).tanh() * values[before] for before in range(c))
            scale = parts[k, 1 + channels + c].exp()
            upper, lower = (((values[c] + side) - mean) / scale for side in (half, -half))
            above = torch.ones(()) if levels[c] == count - 1 else upper.sigmoid()
            mass = mass * (above - (torch.zeros(()) if levels[c] == 0 else lower.sigmoid()))
        total += float(mass)
    return total


def check_is_the_formula(head: LogisticMixture) -> None:
    """Conditional probabilities of the channels multiply to the formula's of the place, for every place there is."""
    outputs = some_outputs(head, 1)
    for levels in every_place(head):
        x = head.grid.values(levels, torch.float64).reshape(1, -1, 1, 1)
        found = head.logits(outputs, x)[0, :, :, 0, 0].gather(1, levels[:, None]).sum().exp()
        expected = by_the_formula(head, outputs.flatten(), levels.tolist())
        assert float(found) == pytest.approx(expected, rel=1e-9), "not the formula"


class Forgetful(LogisticMixture):
    """Without what the earlier channels say of which component it is."""

    def logits_of(self, share: Tensor, earlier: Tensor, channel: int) -> Tensor:
        levels = torch.arange(self.grid.levels)
        every = self.grid.values(levels, share.dtype).reshape(1, -1, *[1] * (share.ndim - 2))
        outputs = self._by_component(share)
        masses = self._log_mass(outputs.unsqueeze(3), earlier.unsqueeze(2), channel, every)
        return (outputs[:, :, 0].log_softmax(1).unsqueeze(2) + masses).logsumexp(1)


@pytest.mark.parametrize("levels", [2, 5, 17, 256])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_the_bins_of_all_levels_sum_to_one(channels: int, levels: int, spread: float) -> None:
    """Where scales are at their floor and means far outside, too."""
    head = mixture(channels, levels, 2, 3)
    outputs = some_outputs(head, spread=spread)
    x = head.grid.values(torch.randint(levels, (3, channels, 2, 3), generator=generator(2)), torch.float64)
    total = head.logits(outputs, x).logsumexp(2)
    torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("channels", "levels"), [(1, 5), (2, 4), (3, 4)])
def test_every_place_has_the_probability_of_the_formula(channels: int, levels: int) -> None:
    check_is_the_formula(mixture(channels, levels))


def test_a_mixture_whose_components_are_not_weighed_by_earlier_channels_is_found() -> None:
    with pytest.raises(AssertionError, match="not the formula"):
        check_is_the_formula(Forgetful(GreyGrid(3, 1, 1, 3), COMPONENTS))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_bins_that_learning_computes_are_those_of_all_levels(channels: int) -> None:
    head = mixture(channels, 6, 2, 3)
    outputs = some_outputs(head)
    index = torch.randint(6, (3, channels, 2, 3), generator=generator(2))
    everything = head.logits(outputs, head.grid.values(index, torch.float64))
    torch.testing.assert_close(head.log_likelihood(outputs, index), head.grid.log_likelihood(everything, index))


def test_a_channel_moves_the_means_of_the_later_ones_and_none_before() -> None:
    head = mixture(3, 5)
    outputs = some_outputs(head, 1)
    x = head.grid.values(torch.tensor([0, 2, 4]), torch.float64).reshape(1, 3, 1, 1)
    usual = head.logits(outputs, x)[0, :, :, 0, 0]
    for channel in range(3):
        other = x.clone()
        other[:, channel] += 0.25
        moved = (head.logits(outputs, other)[0, :, :, 0, 0] != usual).any(1)
        assert moved.tolist() == [False] * (channel + 1) + [True] * (2 - channel)


@pytest.mark.parametrize("channels", [1, 3])
def test_places_are_drawn_as_often_as_they_are_probable(channels: int) -> None:
    from scipy.stats import chisquare

    head, rows = mixture(channels, 3), 4000
    outputs = some_outputs(head, 1)[:, :, 0, 0]
    uniform = torch.rand(rows, channels, generator=generator(3), dtype=torch.float64)
    drawn = torch.zeros(rows, 0, dtype=torch.int64)
    for channel in range(channels):
        logits = head.logits_of(outputs.expand(rows, -1), head.grid.values(drawn, torch.float64), channel)
        drawn = torch.cat([drawn, head.grid.draw(logits, uniform[:, channel], 1.0)[:, None]], 1)
    base = 3 ** torch.arange(channels - 1, -1, -1)
    counts = torch.bincount((drawn * base).sum(1), minlength=3**channels)
    expected = [rows * by_the_formula(head, outputs[0], place.tolist()) for place in every_place(head)]
    assert chisquare(counts.numpy(), expected).pvalue > 0.001
    assert chisquare(counts.roll(1).numpy(), expected).pvalue < 0.001


@pytest.mark.parametrize("level", [0, 100, 255])
@pytest.mark.parametrize("spread", [1.0, 1e3])
def test_gradients_are_finite_wherever_a_level_lies(level: int, spread: float) -> None:
    head = mixture(3, 256)
    outputs = some_outputs(head, 64, spread).float().requires_grad_()
    loss = -head.log_likelihood(outputs, torch.full((64, 3, 1, 1), level)).sum()
    loss.backward()
    assert loss.isfinite()
    assert outputs.grad is not None
    assert bool(outputs.grad.isfinite().all())
    assert bool((outputs.grad != 0).any())


def test_a_scale_is_never_below_its_floor() -> None:
    head = mixture(1, 256)
    outputs = some_outputs(head, 1).reshape(1, COMPONENTS, 3, 1, 1)
    outputs[:, :, 2] = -7
    floor = head.log_likelihood(outputs.flatten(1, 2), torch.full((1, 1, 1, 1), 9))
    outputs[:, :, 2] = -50
    torch.testing.assert_close(head.log_likelihood(outputs.flatten(1, 2), torch.full((1, 1, 1, 1), 9)), floor)
    assert bool(floor.isfinite())


def test_half_precision_outputs_are_read_in_full_precision() -> None:
    head = mixture(1, 256, 4, 4)
    outputs = some_outputs(head).bfloat16()
    index = torch.randint(256, (3, 1, 4, 4), generator=generator(2))
    found = head.log_likelihood(outputs, index)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, head.log_likelihood(outputs.float(), index))
