"""Partners within a batch: another row of the same class, each the partner of exactly one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models._pairs import same_class_partners


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_row_has_another_row_of_its_class_and_is_the_partner_of_one() -> None:
    y = torch.randint(5, (200,), generator=_generator())
    partners = same_class_partners(y, _generator(1))
    assert torch.equal(y[partners], y)
    assert (partners != torch.arange(200)).all()
    assert torch.equal(partners.sort().values, torch.arange(200))


@pytest.mark.parametrize(
    ("y", "expected"), [([3], [0]), ([-1, -1], [0, 1]), ([0, 1, 0, 2], [2, 1, 0, 3]), ([0, -1, -1, 0], [3, 1, 2, 0])]
)
def test_a_row_alone_in_its_class_or_without_a_label_is_its_own_partner(y: list[int], expected: list[int]) -> None:
    assert same_class_partners(torch.tensor(y), _generator()).tolist() == expected


def test_all_pairs_of_a_class_are_as_likely() -> None:
    y: Tensor = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    seen = torch.zeros(7, 7)
    noise = _generator()
    for _ in range(3000):
        seen[torch.arange(7), same_class_partners(y, noise)] += 1
    same = (y[:, None] == y) & ~torch.eye(7, dtype=torch.bool)
    shares = seen / 3000
    assert (shares[~same] == 0).all()
    torch.testing.assert_close(shares[:4, :4][same[:4, :4]], torch.full((12,), 1 / 3), atol=0.05, rtol=0)
    torch.testing.assert_close(shares[4:, 4:][same[4:, 4:]], torch.full((6,), 1 / 2), atol=0.05, rtol=0)


def test_the_same_generator_gives_the_same_pairs() -> None:
    y = torch.randint(3, (40,), generator=_generator())
    assert torch.equal(same_class_partners(y, _generator(2)), same_class_partners(y, _generator(2)))
    assert not torch.equal(same_class_partners(y, _generator(2)), same_class_partners(y, _generator(3)))
