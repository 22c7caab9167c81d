"""Rows as continuous values, and continuous values as rows: for models whose densities know no levels and categories.

A level is spread over its bin by uniform noise, so that a density over the values bounds the probability of the levels
(Theis et al., A note on the evaluation of generative models, arXiv:1511.01844, section 3.1), and a value is rounded
to the nearest level. The darkest and the lightest level stand further out, where only they are: the background of a
drawing is one of them in every pixel, and what little noise a model leaves on it must not become another level.

A category is a corner, +1 in its place and -1 elsewhere, and values become the category of the largest. That is exact
where a model puts all its mass at the corners; what it leaves between two goes to the nearer.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models._contract import TensorSpec
from models._levels import bin_width, level_index

MARGIN = 0.25  # at least so far lie the outermost levels from the edge of their bins; a grey level of 256 is 0.008


def as_continuous(spec: TensorSpec, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Values of the shape of the rows ``x`` ``(B, *shape)``; without a generator levels stay amid their bins."""
    parts = []
    for span, part in zip(spec.spans, split_spans(spec, x), strict=True):
        if span.kind == "categorical":
            parts.append(2 * part - 1)
        elif span.levels is None:
            parts.append(part)
        else:
            width = bin_width(span.levels)
            outermost = torch.sign(part) * (part.abs() > 1 - width / 2)
            middle = part + max(0.0, MARGIN - width / 2) * outermost
            if generator is not None:
                middle = middle + width * (torch.rand(part.shape, generator=generator, device=x.device) - 0.5)
            parts.append(middle)
    return torch.cat(parts, dim=1).reshape(x.shape)


def as_rows(spec: TensorSpec, values: Tensor) -> Tensor:
    """Rows ``(B, *shape)`` for values of that shape: levels on their grid, categories one-hot, the rest as it is."""
    parts = []
    for span, part in zip(spec.spans, split_spans(spec, values), strict=True):
        if span.kind == "categorical":
            parts.append(functional.one_hot(part.argmax(1), span.width).to(values.dtype))
        elif span.levels is None:
            parts.append(part)
        else:
            parts.append(level_index(part, span.levels) * bin_width(span.levels) - 1)
    return torch.cat(parts, dim=1).reshape(values.shape)


def split_spans(spec: TensorSpec, x: Tensor) -> tuple[Tensor, ...]:
    """The flattened values of each span, ``(B, width)``."""
    return torch.split(x.flatten(1), [span.width for span in spec.spans], dim=1)
