"""Which points lie near which: density and coverage, and distances to the nearest point, in blocks of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

NEIGHBOURS = 5  # k of "Reliable Fidelity and Diversity Metrics for Generative Models", section 4.3
BLOCK_DISTANCES = 1 << 22  # distances held in memory at once


class DensityCoverage(NamedTuple):
    """How many real neighbourhoods a synthetic point is in, over k, and the share of them that hold any."""

    density: float
    coverage: float


def neighbour_radii(points: Tensor, neighbours: int) -> Tensor:
    """The distance of each of ``points`` ``(N, D)`` to its ``neighbours``-th nearest other one, shape ``(N,)``.

    Raises:
        ValueError: there are not more points than neighbours.
    """
    if len(points) <= neighbours:
        raise ValueError(f"{neighbours} neighbours need more than {len(points)} points")
    # each point is its own nearest one, at distance 0
    near = [block.kthvalue(neighbours + 1, dim=1).values for block in _distance_blocks(points, points)]
    return torch.cat(near)


def default_radii(points: Tensor) -> Tensor | None:
    """The :func:`neighbour_radii` by which :func:`density_and_coverage` compares by default; None for one point."""
    k = min(NEIGHBOURS, len(points) - 1)
    return neighbour_radii(points, k) if k > 0 else None


def density_and_coverage(
    real: Tensor, synthetic: Tensor, neighbours: int | None = None, radii: Tensor | None = None
) -> DensityCoverage | None:
    """Density and coverage of ``synthetic`` ``(M, D)`` in the neighbourhoods of ``real`` ``(N, D)``, arXiv:2002.09797.

    With B_i the closed ball around real point i that reaches its k-th nearest real neighbour::

        density  = 1 / (k M) sum_j sum_i 1[y_j in B_i]        coverage = 1 / N sum_i 1[some y_j in B_i]

    (equations 3 and 4). Of two samples of N and M points of one distribution, density is 1 on the mean and coverage
    1 - (N-1)...(N-k) / ((N+M-1)...(N+M-k)), for equal large sizes 1 - 2^-k. ``neighbours`` is k: by default 5, or all
    others where there are fewer. None where a side has no rows, or there is one real row, which has no neighbour.
    ``radii`` are those of the balls for this k, where the same real points are compared with several sets.
    """
    k = min(NEIGHBOURS, len(real) - 1) if neighbours is None else neighbours
    if k < 1 or not len(synthetic):
        return None
    radii = neighbour_radii(real, k) if radii is None else radii
    inside = torch.zeros(len(real), dtype=torch.int64, device=real.device)
    start = 0
    for block in _distance_blocks(real, synthetic):
        stop = start + len(block)
        inside[start:stop] = (block <= radii[start:stop, None]).sum(dim=1)
        start = stop
    density = float(inside.sum()) / (k * len(synthetic))
    return DensityCoverage(density, float((inside > 0).float().mean()))


def densities(real: Tensor, points: Tensor, neighbours: int | None = None) -> Tensor | None:
    """In how many neighbourhoods of ``real`` ``(N, D)`` each of ``points`` ``(M, D)`` lies, over k, shape ``(M,)``.

    Their mean is the density of :func:`density_and_coverage`, of which ``neighbours`` and what is null are as here.
    """
    k = min(NEIGHBOURS, len(real) - 1) if neighbours is None else neighbours
    if k < 1 or not len(points):
        return None
    radii = neighbour_radii(real, k)
    return torch.cat([(block <= radii).sum(dim=1) for block in _distance_blocks(points, real)]) / k


def nearest_distances(points: Tensor, others: Tensor) -> Tensor:
    """The distance of each of ``points`` ``(N, D)`` to the nearest of ``others`` ``(M, D)``, shape ``(N,)``."""
    return torch.cat([block.amin(dim=1) for block in _distance_blocks(points, others, exact=False)])


class Nearest(NamedTuple):
    """The distance ``(N,)`` of each point to its nearest other one, and the place ``(N,)`` of that one."""

    distance: Tensor
    place: Tensor

    def beside(self, other: Nearest) -> Nearest:
        """The nearer of two, point by point."""
        closer = other.distance < self.distance
        return Nearest(torch.where(closer, other.distance, self.distance), torch.where(closer, other.place, self.place))


def nearest_of_parts(points: Tensor, parts: Iterable[tuple[Tensor, Tensor]], own: Tensor | None = None) -> Nearest:
    """The nearest row to each of ``points`` ``(N, D)``, of rows that come in parts: places ``(M,)``, rows ``(M, D)``.

    ``own`` ``(N,)`` are places that a point is not compared with. Distances by matrix products find the nearest row,
    whose distance is then computed anew, so that a copy lies at 0. Infinite, and place -1, where there are no rows.
    """
    found = Nearest(torch.full((len(points),), torch.inf), torch.full((len(points),), -1, dtype=torch.int64))
    step = max(1, BLOCK_DISTANCES // 10_000)
    for places, rows in parts:
        for start in range(0, len(points), step):
            some = points[start : start + step]
            block = torch.cdist(some, rows, compute_mode="use_mm_for_euclid_dist")
            if own is not None:
                block[places[None] == own[start : start + step, None]] = torch.inf
            nearest, place = block.min(dim=1)
            exact = (some - rows[place]).square().sum(dim=1).sqrt()
            exact = torch.where(nearest.isinf(), nearest, exact)
            best = Nearest(found.distance[start : start + step], found.place[start : start + step])
            for old, new in zip(best, best.beside(Nearest(exact, places[place])), strict=True):
                old.copy_(new)
    return found


def chance_of_larger(values: Tensor, others: Tensor) -> float:
    """P(v > o) + P(v = o) / 2 for a value and one of the others at random: Mann and Whitney's U over its largest."""
    ordered = others.sort().values
    below = torch.searchsorted(ordered, values, right=False)
    not_above = torch.searchsorted(ordered, values, right=True)
    return float((below + not_above).double().mean()) / (2 * len(ordered))


def _distance_blocks(points: Tensor, others: Tensor, *, exact: bool = True) -> Iterator[Tensor]:
    """Euclidean distances ``(rows, M)`` of blocks of ``points`` to all ``others``.

    By matrix products, where they need not be ``exact``, they take a tenth of the time in many dimensions, and a point
    lies at a distance of about a thousandth of its length from itself.
    """
    step = max(1, BLOCK_DISTANCES // max(1, len(others)))
    mode = "donot_use_mm_for_euclid_dist" if exact else "use_mm_for_euclid_dist"
    for start in range(0, len(points), step):
        yield torch.cdist(points[start : start + step], others, compute_mode=mode)
