"""Rows of a few patterns, so that a short code can tell them, and what their reconstructions are measured by."""

from __future__ import annotations

import torch
from _model_cases import generator, some_rows

from models._contract import Batch, HasLatents, TensorSpec


def rows_of_few_causes(spec: TensorSpec, rows: int = 300) -> Batch:
    """Rows of three classes that differ within a class by one of three patterns."""
    y = torch.arange(rows) % 3
    patterns = some_rows(spec, torch.arange(9) % 3, seed=5).x
    cause = torch.randint(3, (rows,), generator=generator(2))
    return Batch(patterns[3 * cause + y], y)


def relative_error(model: HasLatents, batch: Batch) -> float:
    """The mean squared error of reconstructions over that of the means of the classes."""
    again = model.decode(model.encode(batch), batch.y)
    means = torch.stack([batch.x[batch.y == label].mean(0) for label in range(3)])[batch.y]
    error, floor = ((rows - batch.x).square().mean() for rows in (again, means))
    return float(error / floor)
