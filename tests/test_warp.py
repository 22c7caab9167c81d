"""Smooth changes: zeros change nothing, each knows its direction, none folds, and what was changed is found again."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models._continuous import as_rows
from models._contract import Span, TensorSpec
from models._warp import (
    Change,
    apply_change,
    brightest_around,
    deformation,
    enlarged,
    flow_along,
    jacobian_determinants,
    nearer_to_pixels,
    read_at,
    relit,
    sharpened,
    thickened,
)
from models.warp_vae import ChangeDecoder

SHAPES = [(1, 8, 8), (3, 9, 21), (1, 28, 28), (3, 32, 17), (2, 64, 64)]


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rows(shape: tuple[int, ...], count: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(count, *shape, generator=_generator(seed)) * 2 - 1


def _no_change(count: int = 3, dtype: torch.dtype = torch.float32) -> Change:
    def zeros(*shape: int) -> Tensor:
        return torch.zeros(count, *shape, dtype=dtype)

    return Change(zeros(2, 2), zeros(2), (zeros(2, 3, 3), zeros(2, 5, 5)), zeros(), zeros(), zeros(1, 4, 4))


def _smooth_picture(size: int = 16, count: int = 1) -> Tensor:
    """A lopsided blob of two parts, at rest inside a dark frame, ``(count, 1, size, size)``."""
    places = torch.arange(size) - (size - 1) / 2
    y, x = torch.meshgrid(places, places, indexing="ij")
    blob = torch.exp(-(((x - 1) / 3) ** 2 + ((y + 1) / 1.5) ** 2)) + 0.6 * torch.exp(-((x + 2) ** 2 + (y - 2) ** 2) / 3)
    return (0.8 * blob * 2 - 1).clamp(-1, 1).expand(count, 1, size, size).clone()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("crisp", [False, True])
def test_a_zero_change_leaves_every_row_as_it_is(shape: tuple[int, ...], *, crisp: bool) -> None:
    x = _rows(shape)
    changed, field = apply_change(x, _no_change(), crisp=crisp)
    assert torch.equal(field, torch.zeros_like(field))
    torch.testing.assert_close(changed, x, atol=2e-5, rtol=0)
    for levels in (2, 17, 256):
        spec = TensorSpec(shape, (Span("continuous", math.prod(shape), levels),), 1)
        rows = as_rows(spec, x)
        assert torch.equal(as_rows(spec, apply_change(rows, _no_change(), crisp=crisp)[0]), rows)


def test_a_field_says_where_to_read() -> None:
    x = _rows((2, 6, 9))
    field = torch.zeros(3, 2, 6, 9)
    field[:, 0] = 1  # one pixel further in x
    torch.testing.assert_close(read_at(x, field)[..., :-1], x[..., 1:])
    torch.testing.assert_close(read_at(x, -field)[..., 1:], x[..., :-1])
    torch.testing.assert_close(read_at(x, field.flip(1))[..., :-1, :], x[..., 1:, :])
    torch.testing.assert_close(read_at(x, 100 * field), x[..., -1:].expand_as(x), msg="the border goes on outside")


def test_a_shift_moves_all_pixels_by_the_same() -> None:
    change = _no_change()._replace(shift=torch.tensor([[2.0, -1.0]]).expand(3, 2))
    field = deformation(change.linear, change.shift, change.velocities, (7, 11))
    assert torch.equal(field, torch.tensor([2.0, -1.0])[None, :, None, None].expand(3, 2, 7, 11))


def test_velocities_bend_first_and_the_linear_map_follows() -> None:
    flow, twice = torch.full((3, 2, 4, 4), 0.5), math.log(2) * torch.eye(2).expand(3, 2, 2)
    alone = deformation(0 * twice, torch.zeros(3, 2), (flow,), (6, 6))
    torch.testing.assert_close(alone, torch.full((3, 2, 6, 6), 0.5))
    both = deformation(twice, torch.ones(3, 2), (flow, flow), (5, 5))
    # 2 (p + 0.5 + 0.5) + 1 - p at the centre, where p = 0
    torch.testing.assert_close(both[:, :, 2, 2], torch.full((3, 2), 3.0))
    bent = deformation(0 * twice, torch.zeros(3, 2), (torch.randn(3, 2, 4, 4, generator=_generator()),), (9, 9))
    assert bent.std((2, 3)).min() > 0.1


def test_a_quarter_turn_is_a_quarter_turn_about_the_centre() -> None:
    x = _rows((1, 9, 9))
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]]) * (math.pi / 2)
    changed, _ = apply_change(x, _no_change()._replace(linear=turn.expand(3, 2, 2)))
    torch.testing.assert_close(changed, torch.rot90(x, 1, (2, 3)), atol=1e-4, rtol=0)


def test_reading_further_out_makes_the_content_smaller() -> None:
    change = _no_change(1)._replace(linear=math.log(2) * torch.eye(2)[None])
    x = _smooth_picture()
    changed, field = apply_change(x, change)
    torch.testing.assert_close(jacobian_determinants(field), torch.full((1, 15, 15), 4.0))
    mass = [(row + 1).sum().item() for row in (x, changed)]
    assert mass[1] == pytest.approx(mass[0] / 4, rel=0.05)


def test_the_jacobian_of_a_linear_map_is_its_determinant() -> None:
    log = 0.4 * torch.randn(5, 2, 2, generator=_generator())
    field = deformation(log, torch.zeros(5, 2), (), (8, 13))
    known = torch.linalg.det(torch.linalg.matrix_exp(log))
    torch.testing.assert_close(jacobian_determinants(field), known[:, None, None].expand(5, 7, 12))


def test_a_flow_is_the_exponential_of_its_velocity() -> None:
    places = torch.arange(21.0) - 10
    y, x = torch.meshgrid(places, places, indexing="ij")
    rate = 0.2
    still = torch.stack([rate * x, -rate * y])[None]  # dx/dt = rate x, dy/dt = -rate y
    known = torch.stack([math.expm1(rate) * x, math.expm1(-rate) * y])[None]
    inner = (..., slice(4, 17), slice(4, 17))  # what flows in from outside is not known there
    torch.testing.assert_close(flow_along(still)[inner], known[inner], atol=0.02, rtol=0)
    constant = torch.full((1, 2, 5, 5), 0.7)
    torch.testing.assert_close(flow_along(constant), constant)


def _wild_velocity(size: tuple[int, int], grids: tuple[int, ...]) -> Tensor:
    """Velocities at the decoder's bounds, of random sign: as sharp bends as it can ask for, ``(200, 2, H, W)``."""
    decoder = ChangeDecoder(1, 1, size, grids, light=False)
    decoder.net = torch.nn.Identity()
    change = decoder(1e4 * torch.randn(200, sum(decoder.sizes), generator=_generator()))
    return torch.stack([enlarged(grid, size) for grid in change.velocities]).sum(0)


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (8, 64), (16, 64), (64, 16)])
@pytest.mark.parametrize("grids", [(3,), (5,), (3, 5)])
def test_no_deformation_folds(size: tuple[int, int], grids: tuple[int, ...]) -> None:
    velocity = _wild_velocity(size, grids)
    assert jacobian_determinants(flow_along(velocity)).min() > 0
    assert jacobian_determinants(velocity).min() < 0, "displacements that are not integrated do fold here"


def test_fields_and_light_are_as_exact_where_nets_calculate_in_bfloat16() -> None:
    x, linear = _rows((1, 28, 28)), 0.1 * _rows((2, 2))
    change = _no_change()._replace(linear=linear, velocities=(3 * _rows((2, 3, 3)),), gain=_rows((1, 4, 4)))
    changed, field = apply_change(x, change)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        changed_there, field_there = apply_change(x, change)
    assert torch.equal(field, field_there)
    assert torch.equal(changed, changed_there)


def test_the_negative_velocity_undoes_a_deformation() -> None:
    velocity = 0.4 * _wild_velocity((28, 28), (3,))
    there, back = flow_along(velocity), flow_along(-velocity)
    left = there + read_at(back, there)
    inner = (..., slice(6, -6), slice(6, -6))
    assert left[inner].abs().mean() < 0.1 * there[inner].abs().mean()


def test_thickness_grows_and_thins_bright_strokes() -> None:
    x = torch.full((1, 1, 9, 9), -1.0)
    x[..., 2:7, 3:6] = 1.0
    grown, thinned = (thickened(x, torch.tensor([amount])) for amount in (1.0, -1.0))
    assert torch.equal(grown, functional.max_pool2d(x, 3, stride=1, padding=1))
    assert torch.equal(thinned, -functional.max_pool2d(-x, 3, stride=1, padding=1))
    half = thickened(x, torch.tensor([0.5]))
    assert torch.equal(half, (x + grown) / 2)
    assert thinned.sum() < x.sum() < half.sum() < grown.sum()


def test_a_field_is_read_nearer_to_pixels_by_a_tenth_of_one_at_most() -> None:
    field = torch.linspace(-3, 3, 601)
    near = nearer_to_pixels(field)
    halves = torch.tensor([-2.0, -1.5, 0.0, 0.5, 3.0])
    assert torch.equal(nearer_to_pixels(halves), halves)
    assert ((near - near.round()).abs() <= (field - field.round()).abs() + 1e-6).all()
    assert 0.05 < (near - field).abs().max() < 0.1
    assert (near.diff() >= 0).all()


def test_contrast_that_reading_between_pixels_took_is_given_back() -> None:
    x = _rows((2, 12, 12))
    whole = torch.ones(3, 2, 12, 12)
    assert torch.equal(sharpened(x, whole), x)
    assert torch.equal(sharpened(x, 0 * whole), x)
    soft = read_at(x, 0.5 * whole, "bicubic")
    spreads = [rows.std().item() for rows in (soft, sharpened(soft, 0.5 * whole), x)]
    assert spreads[0] < spreads[1] < spreads[2]
    flat = torch.full((3, 1, 12, 12), 0.3)
    torch.testing.assert_close(sharpened(flat, 0.5 * whole), flat)


@pytest.mark.parametrize("reach", [1, 2, 3])
def test_the_brightest_around_is_that_of_a_square(reach: int) -> None:
    x = _rows((2, 7, 12))
    assert torch.equal(brightest_around(x, reach), functional.max_pool2d(x, 2 * reach + 1, stride=1, padding=reach))


def test_light_is_a_factor_and_a_power_of_the_brightness() -> None:
    x = _rows((3, 6, 6))
    brightness = (x + 1) / 2
    factor = torch.full((3, 1, 4, 4), math.log(0.5))
    torch.testing.assert_close((relit(x, torch.zeros(3), factor) + 1) / 2, brightness / 2, atol=1e-5, rtol=0)
    squared = relit(x, torch.full((3,), math.log(2)), torch.zeros(3, 1, 4, 4))
    torch.testing.assert_close((squared + 1) / 2, brightness.square(), atol=2e-3, rtol=0)
    brighter = relit(x, torch.zeros(3), -4 * factor)
    assert brighter.max() == 1
    black = torch.full((3, 1, 6, 6), -1.0)
    assert torch.equal(relit(black, torch.full((3,), -0.5), -factor), black)


def test_all_channels_are_changed_alike() -> None:
    grey = _rows((1, 12, 10))
    change = Change(
        0.1 * torch.randn(3, 2, 2, generator=_generator(1)),
        torch.randn(3, 2, generator=_generator(2)),
        (torch.randn(3, 2, 3, 3, generator=_generator(3)),),
        torch.tensor([0.3, -0.4, 0.9]),
        torch.tensor([0.2, -0.2, 0.0]),
        0.3 * torch.randn(3, 1, 4, 4, generator=_generator(4)),
    )
    alone, _ = apply_change(grey, change)
    colour, _ = apply_change(torch.cat([grey, _rows((1, 12, 10), seed=9), grey], 1), change)
    torch.testing.assert_close(colour[:, [0]], alone)
    assert torch.equal(colour[:, 0], colour[:, 2])


@pytest.mark.parametrize("size", [(8, 8), (28, 20), (3, 64)])
def test_a_coarse_grid_is_enlarged_as_a_picture_is(size: tuple[int, int]) -> None:
    grid = torch.randn(3, 2, 4, 4, generator=_generator())
    known = functional.interpolate(grid, size=size, mode="bicubic", align_corners=True)
    torch.testing.assert_close(enlarged(grid, size), known, atol=1e-5, rtol=0)


def test_a_change_has_the_gradient_of_its_differences() -> None:
    x = _smooth_picture(6, 2).double()
    noise = [0.05 * torch.randn(value.shape, generator=_generator(n)).double() for n, value in enumerate(_flat_no())]

    def changed(*values: Tensor) -> Tensor:
        linear, shift, grid, thickness, gamma, gain = values
        return apply_change(x, Change(linear, shift + 0.3, (grid,), thickness + 0.2, gamma, gain))[0]

    assert torch.autograd.gradcheck(changed, [value.requires_grad_() for value in noise])


def _flat_no() -> list[Tensor]:
    zero = _no_change(2, torch.float64)
    return [zero.linear, zero.shift, zero.velocities[0], zero.thickness, zero.gamma, zero.gain]


def _shift(value: Tensor) -> Change:
    return _no_change(1)._replace(shift=value.reshape(1, 2))


def _turn(value: Tensor) -> Change:
    return _no_change(1)._replace(linear=value.reshape(1, 1, 1) * torch.tensor([[[0.0, -1.0], [1.0, 0.0]]]))


def _gain(value: Tensor) -> Change:
    return _no_change(1)._replace(gain=value.reshape(1, 1, 1, 1).expand(1, 1, 4, 4))


def _thickness(value: Tensor) -> Change:
    return _no_change(1)._replace(thickness=value.reshape(1))


@pytest.mark.parametrize(
    ("change", "true"), [(_shift, [1.3, -0.8]), (_turn, [0.4]), (_gain, [-0.5]), (_thickness, [-0.6])]
)
def test_a_known_change_is_found_again_by_descent(change: Callable[[Tensor], Change], true: list[float]) -> None:
    x = _smooth_picture()
    target, _ = apply_change(x, change(torch.tensor(true)))
    found = torch.zeros(len(true), requires_grad=True)
    optimiser = torch.optim.Adam([found], lr=0.05)
    for _ in range(120):
        loss = (apply_change(x, change(found))[0] - target).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.testing.assert_close(found.detach(), torch.tensor(true), atol=0.03, rtol=0)
