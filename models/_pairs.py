"""Pairs of rows of the same class, formed inside a batch."""

from __future__ import annotations

import torch
from torch import Tensor


def same_class_partners(y: Tensor, generator: torch.Generator) -> Tensor:
    """For each row the index of another row of its class, ``(B,)`` int64: the next one of a random cycle.

    Every row is the partner of exactly one row. A row that is alone in its class, and one without a label (-1), is its
    own partner. The pairs of one call are a uniform draw of such cycles, one a class.
    """
    count = len(y)
    shuffled = torch.randperm(count, generator=generator, device=y.device)
    # A stable sort by class keeps the random order within each class.
    order = shuffled[y[shuffled].argsort(stable=True)]
    classes = y[order]
    begins = torch.ones(count, dtype=torch.bool, device=y.device)
    begins[1:] = classes[1:] != classes[:-1]
    positions = torch.arange(count, device=y.device)
    first = torch.where(begins, positions, 0).cummax(0).values  # where the own class begins
    after = positions + 1
    wraps = torch.ones(count, dtype=torch.bool, device=y.device)
    wraps[:-1] = begins[1:]
    following = torch.where(wraps, first, after)
    partners = torch.empty_like(order)
    partners[order] = order[following]
    return torch.where(y < 0, positions, partners)
