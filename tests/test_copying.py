"""Copying: training rows, nearly or wholly, are told from fresh ones; twins and parents excuse some of them."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from _fault_rows import Rows, as_many, labels_of, moved, values_of
from _faults import Court, only, orchard_court, refusing
from torch import Tensor

from augment.worth._nearness import Stratum, nearness
from augment.worth._neighbours import BLOCK_DISTANCES, nearest_of_parts


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stratum(ratios: Tensor, reference: Tensor, **more: object) -> Stratum:
    return Stratum("pear", ratios, 0, reference, 0, **more)  # type: ignore[arg-type]


# The nearest row


@pytest.mark.parametrize("blocks", [BLOCK_DISTANCES, 10_000])
def test_the_nearest_of_parts_is_that_of_all_rows_together(blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("augment.worth._neighbours.BLOCK_DISTANCES", blocks)
    points, others = noise(50, 4), noise(70, 4, seed=1)
    places = torch.randperm(200)[:70]
    parts = [(places[start : start + 30], others[start : start + 30]) for start in range(0, 70, 30)]
    found = nearest_of_parts(points, parts)
    between = (points[:, None] - others[None]).square().sum(dim=2).sqrt()
    assert torch.allclose(found.distance, between.amin(dim=1))
    assert torch.equal(found.place, places[between.argmin(dim=1)])


def test_a_row_is_not_compared_with_itself_and_a_twin_lies_at_zero() -> None:
    points = 1_000 * noise(40, 3)
    points[7] = points[21]
    found = nearest_of_parts(points, [(torch.arange(40), points)], own=torch.arange(40))
    assert (found.distance == 0).nonzero().flatten().tolist() == [7, 21]
    assert (found.place[7], found.place[21]) == (21, 7)
    assert (found.place != torch.arange(40)).all()


def test_of_no_rows_none_is_near() -> None:
    found = nearest_of_parts(noise(3, 2), [])
    assert found.distance.isinf().all()
    assert (found.place == -1).all()


# What distances amount to


def test_copies_are_never_farther_and_rows_like_the_reference_half_of_the_time() -> None:
    reference = noise(40).abs() + 0.1
    assert stratum(torch.zeros(20), reference).farther == 0
    assert stratum(reference, reference).farther == pytest.approx(0.5)
    assert stratum(reference.new_full((5,), 9.0), reference).farther == 1


def test_rows_at_distance_zero_are_excused_as_far_as_real_rows_have_twins() -> None:
    reference = noise(40).abs() + 0.1
    half = torch.cat([torch.zeros(40), reference])
    assert stratum(half, reference, twins=0.5).farther == pytest.approx(0.5)
    assert stratum(half, reference).farther == pytest.approx(0.25)
    assert stratum(half, reference, twins=0.5).nearer(0.05) == 0
    assert stratum(half, reference, twins=0.25).nearer(0.05) == 20


def test_near_copies_of_a_part_of_the_rows_are_counted_where_the_chance_hides_them() -> None:
    reference = torch.linspace(0.8, 1.2, 200)
    found = nearness([stratum(torch.cat([torch.full((20,), 0.01), torch.linspace(0.8, 1.2, 180)]), reference)], 0.03)
    assert found is not None
    assert found.farther > found.farther_limit
    assert found.near_share == pytest.approx(0.1)
    assert found.near_share > found.near_limit


def test_limits_grant_three_standard_errors() -> None:
    rows = torch.linspace(0.8, 1.2, 100)
    found = nearness([stratum(rows, rows, least=0.3)], 0.04)
    assert found is not None
    assert found.farther_limit == pytest.approx(0.3 - 3 * math.sqrt(2 / 100 / 12))
    assert found.near_limit == pytest.approx(0.04 + 3 * math.sqrt(0.04 * 0.96 / 100))


def test_a_class_of_near_copies_is_named_and_rows_with_parents_or_of_few_references_are_not() -> None:
    rows, copies = torch.linspace(0.8, 1.2, 50), torch.full((50,), 0.1)
    others = [
        Stratum("apple", rows, 0, rows, 0),
        Stratum("quince", copies, 0, rows, 0, strangers=False),
        Stratum("plum", copies, 0, rows[:9], 0),
    ]
    found = nearness([*others, Stratum("pear", copies, 0, rows, 0)], 0.03)
    assert found is not None
    assert (found.worst, found.worst_near_share) == ("pear", 1)
    assert set(found.classes) == {"apple", "pear"}
    assert nearness([], 0.03) is None


# The gate


def test_rows_whose_numbers_moved_a_little_are_refused_and_those_that_moved_far_are_not() -> None:
    court = orchard_court()
    near, far = (
        court.gates(lambda rows, draw, by=by: moved(as_many(rows, rows.train, draw), by, draw), **only("copying"))
        for by in (0.01, 1.0)
    )
    assert refusing(near) == ["copying"]
    assert "copying" not in refusing(far)
    value, limit = near["copying"].value, near["copying"].limit
    assert value is not None
    assert limit is not None
    assert value < 0.2 * limit


def test_rows_that_name_their_parents_are_held_against_mild_variants_of_training_rows() -> None:
    """Half-way to a neighbour of the class is a fair variant of a parent; without one it is suspiciously near."""
    court = orchard_court()
    said = court.gates(lambda rows, draw: with_parents(court, between(rows, draw, 0.5)), **only("copying"))
    hardly = court.gates(lambda rows, draw: with_parents(court, between(rows, draw, 0.001)), **only("copying"))
    assert said["copying"].passed
    assert "copying" in refusing(hardly)


def between(rows: Rows, draw: np.random.Generator, share: float) -> tuple[pa.Table, list[int]]:
    """Training rows moved by ``share`` of the way to the next of their class by size; and which rows they were."""
    train = rows.train
    y, size = labels_of(train), values_of(train, "size")
    found, parents = [train.slice(0, 0)], []
    for label in rows.classes():
        here = np.flatnonzero(y == label)
        here = here[np.argsort(size[here])]
        own, other = here[:-1], here[1:]
        table = train.take(own)
        for name in ("size", "weight", "sugar"):
            values = values_of(train, name).astype(float)
            moved_to = values[own] + share * (values[other] - values[own])
            kind = table.schema.field(name).type
            new = pa.array(np.rint(moved_to).astype(int) if name == "weight" else moved_to, kind)
            table = table.set_column(table.schema.get_field_index(name), name, new)
        found += [table, table.slice(0, 1)]
        parents += [*own.tolist(), int(own[0])]
    return pa.concat_tables(found), parents


def with_parents(court: Court, made: tuple[pa.Table, list[int]]) -> pa.Table:
    """The rows with the ids of the training rows that they come from; training rows are the first of the real ones."""
    table, parents = made
    return table.append_column("parent_ids", pa.array([[f"real-{place}"] for place in parents]))
