"""Real rows changed as a person would without a generator: how near to its source a harmless variant lies."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from augment.worth._neighbours import NEIGHBOURS
from models._contract import TensorSpec

DEGREES, SCALE, SHIFT, GAIN = 10.0, 0.1, 0.08, 0.2  # of rotation, size, side and contrast, either way


def mild_variants(spec: TensorSpec, rows: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """A mild classical variant ``(M, size)`` of each of ``rows[chosen]``; ``rows`` ``(N, size)`` are of one class.

    Pictures are turned, scaled, moved and brightened, each with a strength from none to a little. Rows of a table are
    moved towards one of their five nearest neighbours by a uniform share of the way (SMOTE, arXiv:1106.1813).
    """
    if spec.form == "grid":
        return _moved(rows[chosen].reshape(-1, *spec.shape), generator).flatten(1)
    return _interpolated(rows, chosen, generator)


def _moved(x: Tensor, generator: torch.Generator) -> Tensor:
    drawn = 2 * torch.rand(len(x), 5, generator=generator) - 1
    drawn = drawn * torch.rand(len(x), 1, generator=generator)
    turn = math.radians(DEGREES) * drawn[:, 0]
    size = 1 + SCALE * drawn[:, 1]
    rotation = torch.stack([torch.cos(turn), -torch.sin(turn), torch.sin(turn), torch.cos(turn)], 1).reshape(-1, 2, 2)
    places = torch.cat([rotation / size[:, None, None], (2 * SHIFT * drawn[:, 2:4])[:, :, None]], 2)
    grid = functional.affine_grid(places, list(x.shape), align_corners=False)
    moved = functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    gain = 1 + GAIN * drawn[:, 4, None, None, None]
    return ((moved + 1) * gain - 1).clamp(-1, 1)


def _interpolated(rows: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    k = min(NEIGHBOURS, len(rows) - 1)
    if k < 1:
        return rows[chosen]
    from_chosen = torch.cdist(rows[chosen], rows)
    from_chosen[torch.arange(len(chosen)), chosen] = torch.inf
    near = from_chosen.topk(k, largest=False).indices
    picked = near.gather(1, torch.randint(k, (len(chosen), 1), generator=generator))[:, 0]
    share = torch.rand(len(chosen), 1, generator=generator)
    return rows[chosen] + share * (rows[picked] - rows[chosen])
