"""How often real rows repeat, and what that allows synthetic ones.

Rows of some tables repeat by nature: 30 % of the rows of the mammography data do. There an equal row is no sign of
copying as long as it is no more frequent than among real rows, so limits are the real rows' own rate plus a margin.
Two equal images are always a copy.
"""

from __future__ import annotations

import math

from augment._features import profile_of
from augment.schema import DatasetSchema


def rows_may_repeat(schema: DatasetSchema) -> bool:
    """Whether two rows may be equal by chance; false as soon as one column holds images."""
    return all(profile_of(column).values_may_repeat for column in schema.features)


def limit_above(floor: float, margin: float, num_real: int, num_synthetic: int) -> float:
    """The share that is allowed where real rows have ``floor``: plus a margin, plus three standard errors.

    Both shares are those of a sample, so two equal sources differ by chance: sqrt(p (1 - p) (1/n + 1/m)).
    """
    if not num_real or not num_synthetic:
        return floor + margin
    error = math.sqrt(floor * (1 - floor) * (1 / num_real + 1 / num_synthetic))
    return min(1.0, floor + margin + 3 * error)
