"""A grid diagonal by diagonal: as a loop would read it, from both sides, and back."""

from __future__ import annotations

import pytest
import torch

from models._skew import Rearranged, Skew

SIZES = [(3, 4), (4, 3), (4, 4), (1, 5), (5, 1), (1, 1)]
every_size = pytest.mark.parametrize(("height", "width"), SIZES)


def by_loop(height: int, width: int) -> list[list[tuple[int, int]]]:
    """The cells of every column of the map whose row r is shifted r places to the right, from the top down."""
    shifted = [[None] * row + [(row, column) for column in range(width)] for row in range(height)]
    columns = range(height + width - 1)
    return [[row[s] for row in shifted if s < len(row) and row[s] is not None] for s in columns]


@every_size
def test_skewing_reads_the_columns_of_the_shifted_map(height: int, width: int) -> None:
    skew, cells = Skew(height, width), torch.arange(height * width)
    columns = by_loop(height, width)
    flat = [row * width + column for cells_of in columns for row, column in cells_of]
    assert skew(cells)[0].tolist() == flat
    assert skew.lengths == [len(column) for column in columns]
    assert skew.tops == [column[0][0] for column in columns]


@every_size
def test_the_pass_from_the_right_reads_each_row_mirrored(height: int, width: int) -> None:
    skew, cells = Skew(height, width), torch.arange(height * width)
    mirrored = cells.reshape(height, width).flip(1).flatten()
    assert torch.equal(skew(cells)[1], skew(mirrored)[0])


@every_size
def test_what_is_skewed_is_put_back_as_it_was(height: int, width: int) -> None:
    skew, cells = Skew(height, width), torch.randn(height * width, 2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(skew.undone(skew(cells)), cells.expand(2, -1, -1, -1))
    assert torch.equal(skew(skew.undone(skew(cells))[0]), skew(cells))


def test_the_gradient_of_a_rearrangement_is_that_of_indexing() -> None:
    order = torch.tensor([2, 0, 3, 1])
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.equal(Rearranged.apply(x, order, order.argsort()), x[order])
    assert torch.autograd.gradcheck(lambda rows: Rearranged.apply(rows, order, order.argsort()), (x,))
