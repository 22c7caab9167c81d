"""Which row is for training, which for validation, which for the test: decided on index arrays, never on tables.

Rows that must not be parted - identical ones, and those of one group - form a *unit*. Units are spread so that every
class has its exact share of validation and test rows (largest remainders), as far as units of several rows allow.
Rows without a label are only ever for training.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augment._seeding import numpy_generator
from augment.config import SplitSection
from augment.errors import InputError, did_you_mean
from augment.schema import DatasetSchema, class_name

PARTS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = 0, 1, 2
DROPPED = -1
RESERVE = 3  # what train_per_class cut off: no part of the data, kept to measure what more real rows would do
ATTEMPTS = 20

Indices = npt.NDArray[np.int64]
PartCodes = npt.NDArray[np.int8]


@dataclass(frozen=True)
class RowFacts:
    """What the split needs to know of each row, in source order.

    ``hashes`` (n, 2) are the content hashes, ``y`` (n,) the classes with -1 for none, ``groups`` (n,) codes of the
    group column, ``given`` (n,) the parts that the source says, -1 where it says none.
    """

    hashes: npt.NDArray[np.uint64]
    y: npt.NDArray[np.int32]
    given: PartCodes
    groups: npt.NDArray[np.int32] | None = None


def split_rows(
    facts: RowFacts, section: SplitSection, schema: DatasetSchema, seed: int, where: str
) -> tuple[PartCodes, list[str]]:
    """The part of each row (an index of :data:`PARTS`, -1 for rows left out), and what is to be said about it.

    Raises:
        InputError: a class would be missing in train or test, or ``train_per_class`` cannot be met.
    """
    _refuse_single_rows(facts.y, schema, where)
    units = unit_codes(facts)
    given = facts.given
    notes: list[str] = []
    if (given == DROPPED).all():
        parts = _drawn(facts.y, units, section, seed)
    elif section.column is None:  # a test part of its own, and the rest to be split
        parts = given.copy()
        rest = given == DROPPED
        rest[_touches(units, given == TEST)] = False
        without_test = section.model_copy(update={"test": 0.0})
        parts[rest] = _drawn(facts.y[rest], np.unique(units[rest], return_inverse=True)[1], without_test, seed)
        notes += _dropped_note(given == DROPPED, parts, where)
    else:
        parts = _without_leaks(given, units)
        notes += _dropped_note(given != DROPPED, parts, where)
    parts[(facts.y < 0) & (parts > TRAIN)] = DROPPED
    notes += _unlabelled_note(facts.y, given, parts, where)
    parts = _cut_train(parts, facts.y, section.train_per_class, schema, seed)
    _refuse_missing_classes(parts, facts.y, schema, where)
    return parts, notes


def unit_codes(facts: RowFacts) -> Indices:
    """The unit of each row, numbered from 0: rows linked by equal content or by a group, directly or through others."""
    order = np.lexsort(facts.hashes.T)
    differs = np.zeros(max(0, len(order) - 1), np.bool_)
    for word in facts.hashes.T:
        ordered = word[order]
        differs |= ordered[1:] != ordered[:-1]
    units = np.zeros(len(order), np.int64)
    units[order[1:]] = np.cumsum(differs)
    if facts.groups is None:
        return units
    by_content = units
    while True:
        # The smallest unit of a group, then of equal rows, is everybody's, until nothing changes.
        joined = _smallest_in(facts.groups, units)
        joined = _smallest_in(by_content, joined)
        if np.array_equal(joined, units):
            return np.unique(units, return_inverse=True)[1].astype(np.int64)
        units = joined


def _smallest_in(groups: npt.NDArray[Any], values: Indices) -> Indices:
    """For each row the smallest of ``values`` in its group."""
    smallest = np.full(int(groups.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, groups, values)
    shared: Indices = smallest[groups]
    return shared


def largest_remainders(share: float, sizes: Indices) -> Indices:
    """``share`` of each size as whole numbers whose sum is the rounded share of the sum; ties in class order."""
    exact = share * sizes
    quotas: Indices = np.floor(exact + 1e-9).astype(np.int64)
    left_over = int(np.floor(share * sizes.sum() + 0.5)) - int(quotas.sum())
    order = np.argsort(-(exact - quotas), kind="stable")
    quotas[order[: max(0, left_over)]] += 1
    return quotas


def _drawn(y: npt.NDArray[np.int32], units: Indices, section: SplitSection, seed: int) -> PartCodes:
    """A seeded, stratified draw of the parts; where units make draws uneven, the first that leaves no class out."""
    sizes = np.bincount(y[y >= 0])
    test = largest_remainders(section.test, sizes)
    if section.test:
        test = np.maximum(test, sizes >= 2)  # a class that is too small for its share still has a row to be tested on
    validation = np.minimum(largest_remainders(section.validation, sizes), np.maximum(sizes - test - 1, 0))
    quotas = np.stack([sizes - test - validation, validation, test])  # (part, class)
    for attempt in range(ATTEMPTS):
        parts = _attempt(y, units, quotas, numpy_generator(seed, "split", attempt))
        found = np.stack([np.bincount(y[(parts == part) & (y >= 0)], minlength=len(sizes)) for part in (TRAIN, TEST)])
        if (found >= np.minimum(quotas[[TRAIN, TEST]], 1)).all():
            break
    return parts


def _attempt(y: npt.NDArray[np.int32], units: Indices, quotas: Indices, generator: np.random.Generator) -> PartCodes:
    """One draw of the parts: units of several rows first, then single rows, which make up the exact shares."""
    parts = np.zeros(len(y), np.int8)
    sizes = np.bincount(units)
    unlabelled = np.zeros(len(sizes), np.bool_)
    unlabelled[units[y < 0]] = True
    several = np.flatnonzero((sizes > 1) & ~unlabelled)
    left = _place_units(generator.permutation(several), y, units, quotas, parts)
    single = np.flatnonzero((sizes[units] == 1) & (y >= 0))
    _place_rows(generator.permutation(single), y, quotas, left, parts)
    return parts


def _place_units(
    order: Indices, y: npt.NDArray[np.int32], units: Indices, quotas: Indices, parts: PartCodes
) -> Indices:
    """Put units of several rows, in ``order``, where most is still wanted; returns what is wanted after them.

    Of the parts that still want all of a unit, it goes to the one that is the least filled in proportion; so the
    parts fill up evenly, and none of them gets the large units first. Where none wants all of it, it goes to the
    largest part that has nothing yet, else to train.
    """
    rows_of = np.argsort(units, kind="stable")
    ends = np.cumsum(np.bincount(units)).tolist()
    wanted: list[list[int]] = quotas.tolist()
    left: list[list[int]] = quotas.tolist()
    for unit in order.tolist():
        rows = rows_of[ends[unit - 1] if unit else 0 : ends[unit]]
        counts = Counter(y[rows].tolist())
        best, chosen = 0.0, TRAIN
        for part in (TEST, VALIDATION, TRAIN):
            free, whole = left[part], wanted[part]
            if all(free[c] >= n for c, n in counts.items()):
                score = 1 + sum(n * free[c] / whole[c] for c, n in counts.items())
            elif all(0 < free[c] == whole[c] for c in counts):
                score = 1 - 1 / (1 + sum(whole[c] for c in counts))
            else:
                continue
            if score > best:
                best, chosen = score, part
        parts[rows] = chosen
        for c, n in counts.items():
            left[chosen][c] -= n
    return np.array(left, np.int64).reshape(quotas.shape)


def _place_rows(order: Indices, y: npt.NDArray[np.int32], quotas: Indices, left: Indices, parts: PartCodes) -> None:
    """Fill what is ``left`` of the quotas with single rows in ``order``; what neither test nor validation wants is for
    training, and so is the last row of a class of which nothing is there yet.
    """
    by_class = order[np.argsort(y[order], kind="stable")]
    bounds = np.searchsorted(y[by_class], np.arange(left.shape[1] + 1))
    for c in range(left.shape[1]):
        rows = by_class[bounds[c] : bounds[c + 1]]
        free = len(rows) - int(left[TRAIN, c] == quotas[TRAIN, c])
        num_test = min(max(0, left[TEST, c]), max(0, free))
        num_validation = min(max(0, left[VALIDATION, c]), max(0, free - num_test))
        parts[rows[:num_test]] = TEST
        parts[rows[num_test : num_test + num_validation]] = VALIDATION


def _touches(units: Indices, rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows belong to a unit that has one of ``rows``."""
    touched = np.zeros(int(units.max()) + 1, np.bool_)
    touched[units[rows]] = True
    members: npt.NDArray[np.bool_] = touched[units]
    return members


def _without_leaks(given: PartCodes, units: Indices) -> PartCodes:
    """The given parts, without rows whose unit has rows in a later part: test goes before validation before train."""
    last = np.full(int(units.max()) + 1, DROPPED, np.int8)
    np.maximum.at(last, units, given)
    return np.where(given == last[units], given, np.int8(DROPPED)).astype(np.int8)


def _dropped_note(candidates: npt.NDArray[np.bool_], parts: PartCodes, where: str) -> list[str]:
    count = int((candidates & (parts == DROPPED)).sum())
    if not count:
        return []
    return [f"rows of {where} left out because the test or validation part repeats them: {count}"]


def _unlabelled_note(y: npt.NDArray[np.int32], given: PartCodes, parts: PartCodes, where: str) -> list[str]:
    count = int(((y < 0) & (given > TRAIN) & (parts == DROPPED)).sum())
    return [f"rows of {where} left out of validation and test because they have no label: {count}"] if count else []


def _cut_train(
    parts: PartCodes, y: npt.NDArray[np.int32], wanted: dict[str, int], schema: DatasetSchema, seed: int
) -> PartCodes:
    """``parts`` with the classes of ``train_per_class`` cut to so many training rows, by a seeded choice."""
    if wanted and schema.label is None:
        raise InputError(
            "split.train_per_class names classes and the data have no label; set source.label, or leave it out."
        )
    names = [class_name(value) for value in schema.classes]
    parts = parts.copy()
    for name, rows in wanted.items():
        if name not in names:
            raise InputError(f"split.train_per_class names '{name}', which is no class{did_you_mean(name, names)}")
        members = np.flatnonzero((parts == TRAIN) & (y == names.index(name)))
        if rows > len(members):
            raise InputError(
                f"split.train_per_class asks for {rows} rows of class '{name}', which has {len(members)} for training; "
                "ask for fewer."
            )
        chosen = numpy_generator(seed, "split", "train_per_class", name).permutation(members)
        parts[chosen[rows:]] = RESERVE
    return parts


def _refuse_single_rows(y: npt.NDArray[np.int32], schema: DatasetSchema, where: str) -> None:
    counts = np.bincount(y[y >= 0], minlength=len(schema.classes))
    for value, rows in zip(schema.classes, counts, strict=False):  # without a label column there are no classes
        if rows == 1:
            raise InputError(
                f"the class '{class_name(value)}' of {where} has one row, too few to train and to test on; "
                "add rows or remove the class."
            )


def _refuse_missing_classes(parts: PartCodes, y: npt.NDArray[np.int32], schema: DatasetSchema, where: str) -> None:
    """Refuse a split that leaves a class, or everything, out of train or test."""
    names = [class_name(value) for value in schema.classes] or [""]
    for part in (TRAIN, TEST):
        counts = np.bincount(y[(parts == part) & (y >= 0)], minlength=len(names))
        for name, rows in zip(names, counts, strict=True):
            if rows == 0:
                who = f"the class '{name}'" if schema.label is not None else "all rows"
                raise InputError(
                    f"the split leaves {who} of {where} out of {PARTS[part]}; "
                    "change the section split (test, validation, group, column) or add rows of the class."
                )
