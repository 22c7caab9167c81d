"""Smooth changes of a grid: where each pixel is read from, how thick its strokes are, and its light.

Everything is differentiable in the change and in the pixels, and zeros change nothing. Fields are in pixels, x before
y, and say where to read: ``out(p) = in(p + u(p))``; a field of +1 in x moves the content one pixel to the left. A
velocity field is integrated by scaling and squaring (Arsigny et al. 2006, A Log-Euclidean Framework for Statistics on
Diffeomorphisms), so that the deformation does not fold, as long as neighbouring velocities differ by a part of their
distance, and its negative undoes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

SQUARINGS = 4  # 16 small steps: each moves neighbours much less than their distance, which is what rules out folds
SHARPENING = 0.2  # with it the strokes of 8x8 digits keep their spread of greys; more gives them fringes
DARKEST = 1e-3  # added before a power is taken, whose slope is not bounded at zero


class Change(NamedTuple):
    """One change for each row.

    ``linear`` ``(B, 2, 2)`` is the logarithm of a linear map about the centre, ``shift`` ``(B, 2)`` in pixels;
    ``velocities`` are coarse grids ``(B, 2, n, n)`` in pixels; ``thickness`` ``(B,)`` in [-1, 1] blends towards
    the darkest (-1) or brightest (1) pixel around; ``gamma`` ``(B,)`` is the logarithm of a power and ``gain``
    ``(B, 1 or C, n, n)`` that of a factor, both of the brightness in [0, 1]. All grids reach from corner to corner.
    """

    linear: Tensor
    shift: Tensor
    velocities: tuple[Tensor, ...]
    thickness: Tensor
    gamma: Tensor
    gain: Tensor


def apply_change(x: Tensor, change: Change, *, crisp: bool = False) -> tuple[Tensor, Tensor]:
    """The changed rows ``(B, C, H, W)`` in [-1, 1], and the field ``(B, 2, H, W)`` by which they were deformed.

    Strokes are thickened first, so that a deformation that narrows them stays what it is. ``crisp`` rows are for the
    eye: bicubic, read nearer to the middle of pixels, and sharpened, where a bilinear reading greys thin strokes.
    """
    field = deformation(change.linear, change.shift, change.velocities, x.shape[2:])
    thick = thickened(x, change.thickness)
    if crisp:
        near = nearer_to_pixels(field)
        deformed = sharpened(read_at(thick, near, "bicubic"), near)
    else:
        deformed = read_at(thick, field)
    return relit(deformed, change.gamma, change.gain), field


def deformation(linear: Tensor, shift: Tensor, velocities: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """The field ``u`` ``(B, 2, H, W)`` with p + u(p) = exp(linear) exp(v)(p) + shift, p from the centre, in pixels.

    ``v`` is the sum of the velocity grids, enlarged.
    """
    height, width = size
    y, x = torch.meshgrid(_from_centre(height, linear), _from_centre(width, linear), indexing="ij")
    places = torch.stack([x, y])
    total = linear.new_zeros(len(linear), 2, height, width)
    for grid in velocities:
        total = total + enlarged(grid, size)
    # in bfloat16 a place in a row of 28 pixels would be a tenth of a pixel off
    with torch.autocast(linear.device.type, enabled=False):
        moved = places + flow_along(total)
        # exp(M) - 1 rather than exp(M): a zero change is exactly zero
        grown = torch.linalg.matrix_exp(linear) - torch.eye(2, device=linear.device)
        turned = torch.einsum("bij,bjhw->bihw", grown, moved)
        field: Tensor = turned + (moved - places) + shift[:, :, None, None]
    return field


def flow_along(velocity: Tensor) -> Tensor:
    """The field u of exp(v): where a point is after a unit of time in the still ``velocity`` ``(B, 2, H, W)``."""
    u: Tensor = velocity / 2**SQUARINGS
    for _ in range(SQUARINGS):
        u = u + read_at(u, u)
    return u


def read_at(x: Tensor, field: Tensor, mode: str = "bilinear") -> Tensor:
    """``x(p + u(p))`` of each channel; outside the grid its border goes on. ``mode``: bilinear or bicubic."""
    height, width = x.shape[2:]
    columns = torch.arange(width, device=x.device) + field[:, 0]
    rows = torch.arange(height, device=x.device)[:, None] + field[:, 1]
    places = torch.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], dim=3)
    read: Tensor = functional.grid_sample(x, places, mode=mode, padding_mode="border", align_corners=True)
    return read


def nearer_to_pixels(field: Tensor) -> Tensor:
    """The field with each fraction f of a pixel replaced by 3 f^2 - 2 f^3; differs by a tenth of a pixel at most."""
    fraction = field - field.floor()
    return field.floor() + fraction.square() * (3 - 2 * fraction)


def sharpened(x: Tensor, field: Tensor) -> Tensor:
    """Rows that were read along ``field``, with the contrast that reading between pixels took from them.

    Each pixel moves away from the mean of the nine around it, the more the nearer it was read to the middle between
    pixels: 4 f (1 - f) with the fraction f of each way. Where whole pixels were moved nothing changes.
    """
    fraction = field - field.floor()
    between = (4 * fraction * (1 - fraction)).mean(1, keepdim=True)
    around = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return x + SHARPENING * between * (x - around)


def thickened(x: Tensor, thickness: Tensor) -> Tensor:
    """Rows blended towards the brightest (thickness > 0) or darkest (< 0) pixel around each; ``(B, C, H, W)``."""
    reach = stroke_reach(x.shape[2:])
    amount = thickness[:, None, None, None]
    brightest, darkest = brightest_around(x, reach), -brightest_around(-x, reach)
    return x + amount * torch.where(amount > 0, brightest - x, x - darkest)


def brightest_around(x: Tensor, reach: int) -> Tensor:
    """The largest value of each channel in the square of ``2 reach + 1`` pixels around each pixel, ``(B, C, H, W)``."""
    # along one axis, then the other: many times faster on a CPU than pooling a square
    for axis in (2, 3):
        size = x.shape[axis]
        first = torch.arange(size, device=x.device)
        x = torch.stack([x.index_select(axis, (first + k).clamp(0, size - 1)) for k in range(-reach, reach + 1)]).amax(
            0
        )
    return x


def stroke_reach(size: Sequence[int]) -> int:
    """How many pixels a thickness of one reaches: one up to 41 pixels a side, two at 64."""
    return max(1, round(max(size) / 28))


def relit(x: Tensor, gamma: Tensor, gain: Tensor) -> Tensor:
    """Rows whose brightness b in [0, 1] became b^exp(gamma) exp(gain), cut at 1."""
    brightness = ((x + 1) / 2).clamp(min=0)
    power = torch.expm1(gamma)[:, None, None, None]
    # b (b + e)^(exp(gamma) - 1): zeros of gamma and gain change nothing at all, and black stays black
    lit = brightness * (brightness + DARKEST) ** power * enlarged(gain, x.shape[2:]).exp()
    return (2 * lit - 1).clamp(max=1)


def enlarged(grid: Tensor, size: Sequence[int]) -> Tensor:
    """A coarse grid ``(B, C, n, m)`` at every pixel, bicubic, its corners on the corners."""
    # two small products rather than an interpolation: faster, and with the same sum order in every run on a GPU
    with torch.autocast(grid.device.type, enabled=False):
        down, across = (_bicubic(coarse, fine, grid) for coarse, fine in zip(grid.shape[2:], size, strict=True))
        return down @ grid @ across.T


def _bicubic(coarse: int, fine: int, like: Tensor) -> Tensor:
    """The weights ``(fine, coarse)`` of each coarse value at each fine place."""
    unit = torch.eye(coarse, device=like.device, dtype=like.dtype)[None, None]
    return functional.interpolate(unit, size=(fine, coarse), mode="bicubic", align_corners=True)[0, 0]


def jacobian_determinants(field: Tensor) -> Tensor:
    """det d(p + u(p))/dp in every square of four pixels, ``(B, H-1, W-1)``; where it is negative, u folds."""
    across = (field[:, :, :-1, 1:] - field[:, :, :-1, :-1]).unbind(1)
    down = (field[:, :, 1:, :-1] - field[:, :, :-1, :-1]).unbind(1)
    return (1 + across[0]) * (1 + down[1]) - across[1] * down[0]


def _from_centre(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, device=like.device, dtype=like.dtype) - (count - 1) / 2
