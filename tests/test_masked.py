"""Masks let an output hear what comes before it, all of it that the kernels reach, and nothing else."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from models._masked import MaskedConv2d, MaskedLinear, order_mask, raster_mask, spread_orders


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _linear_net(orders: Tensor, hidden: int, layers: int) -> nn.Sequential:
    """A masked net from the features of ``orders`` to one output each."""
    between = [orders, *[spread_orders(hidden, len(orders))] * layers, orders]
    masks = [order_mask(*pair, strict=i == 0) for i, pair in enumerate(pairwise(between))]
    return _smooth([MaskedLinear(mask) for mask in masks])


def _conv_net(orders: Tensor, hidden: int, layers: int, *, size: int = 3, reverse: bool = False) -> nn.Sequential:
    between = [orders, *[spread_orders(hidden, len(orders))] * layers, orders]
    masks = [raster_mask(*pair, size, strict=i == 0, reverse=reverse) for i, pair in enumerate(pairwise(between))]
    return _smooth([MaskedConv2d(mask) for mask in masks])


def _smooth(layers: list[nn.Module]) -> nn.Sequential:
    net = nn.Sequential(*(part for layer in layers for part in (layer, nn.Tanh()))).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=_generator()) + 0.1)  # nothing cancels
    return net


def _heard(net: nn.Module, x: Tensor) -> Tensor:
    """Which input (column) moves which output (row), in the order of their flattened places."""
    jacobian = torch.autograd.functional.jacobian(lambda row: net(row[None])[0], x)
    return jacobian.reshape(x.numel(), x.numel()) != 0


@pytest.mark.parametrize("hidden", [3, 6, 40])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_masked_net_hears_only_what_comes_before(hidden: int, layers: int) -> None:
    orders = torch.tensor([2, 0, 4, 1, 3, 5])
    heard = _heard(_linear_net(orders, hidden, layers), torch.randn(6, generator=_generator(), dtype=torch.float64))
    assert not (heard & (orders[:, None] <= orders)).any()


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_a_masked_net_of_enough_hidden_features_hears_all_that_comes_before(layers: int) -> None:
    orders = torch.tensor([2, 0, 4, 1, 3, 5])
    heard = _heard(_linear_net(orders, 12, layers), torch.randn(6, generator=_generator(), dtype=torch.float64))
    assert torch.equal(heard, orders[:, None] > orders)


def test_hidden_features_are_shared_out_among_the_orders() -> None:
    assert spread_orders(7, 3).bincount().tolist() == [3, 2, 2]
    assert spread_orders(8, 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert spread_orders(3, 6).tolist() == [0, 2, 4]


def _before(maps: Tensor, side: int) -> Tensor:
    """Whether one of ``maps`` at one place comes before another, ``(later, earlier)``, places in raster order."""
    place = torch.arange(side * side)
    key = (place * len(maps))[None, :] + maps[:, None]  # (maps, places), flattened as a grid is
    return key.flatten()[:, None] > key.flatten()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("size", [3, 5])
def test_no_place_hears_itself_or_what_comes_after(size: int, *, reverse: bool) -> None:
    maps, side = torch.tensor([0, 1, 2]), 5
    orders = maps.flip(0) if reverse else maps
    net = _conv_net(orders, 6, 2, size=size, reverse=reverse)
    heard = _heard(net, torch.randn(3, side, side, generator=_generator(), dtype=torch.float64))
    before = _before(maps, side)
    assert not (heard & ~(before.T if reverse else before)).any()
    assert heard.any()


def _in_cone(down: int, right: int, layers: int) -> bool:
    """Whether so many 3x3 layers reach back so far: in each row above, one place more to the right."""
    return -layers <= right and ((down == 0 and right < 0) or (0 < down <= layers and right <= down))


@pytest.mark.parametrize("layers", [1, 3, 8])
def test_every_map_of_every_earlier_place_within_the_cone_of_the_kernels_is_heard(layers: int) -> None:
    side, maps = 4, 2
    net = _conv_net(torch.arange(maps), 4, layers - 1)
    heard = _heard(net, torch.randn(maps, side, side, generator=_generator(), dtype=torch.float64))
    heard = heard.reshape(maps, side * side, maps, side * side)
    for later in range(side * side):
        for earlier in range(side * side):
            down, right = later // side - earlier // side, earlier % side - later % side
            expected = torch.full((maps, maps), _in_cone(down, right, layers))
            if later == earlier:
                expected = torch.ones(maps, maps).tril(-1).bool()
            assert torch.equal(heard[:, later, :, earlier], expected), (later, earlier)


def test_a_strict_mask_leaves_the_own_order_out() -> None:
    orders = torch.arange(3)
    centre = raster_mask(orders, orders, 3, strict=True)[:, :, 1, 1]
    assert torch.equal(centre, torch.ones(3, 3).tril(-1).bool())
    centre = raster_mask(orders, orders, 3, strict=False)[:, :, 1, 1]
    assert torch.equal(centre, torch.ones(3, 3).tril().bool())


@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_kernel_of_one_channel_keeps_half_of_its_taps(size: int) -> None:
    one = torch.zeros(1, dtype=torch.int64)
    assert raster_mask(one, one, size, strict=True).sum() == (size**2 - 1) // 2
    assert raster_mask(one, one, size, strict=False).sum() == (size**2 + 1) // 2


def test_a_kernel_without_a_centre_is_refused() -> None:
    one = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match="odd, not 4"):
        raster_mask(one, one, 4, strict=True)


def test_masked_weights_get_no_gradient_and_stay_out_whatever_they_become() -> None:
    layer = MaskedLinear(order_mask(torch.arange(3), torch.arange(3), strict=True))
    x = torch.randn(2, 3, generator=_generator())
    layer(x).square().sum().backward()
    assert layer.weight.grad is not None
    assert torch.equal(layer.weight.grad.triu(), torch.zeros(3, 3))
    before = layer(x)
    with torch.no_grad():
        layer.weight += 100 * torch.ones(3, 3).triu()  # as an optimiser or weight decay might
    assert torch.equal(layer(x), before)


def test_masks_are_not_saved_and_move_with_their_layer() -> None:
    layer = MaskedConv2d(raster_mask(torch.arange(2), torch.arange(2), 3, strict=True))
    assert set(layer.state_dict()) == {"weight", "bias"}
    assert layer.double().mask.dtype == torch.float64
