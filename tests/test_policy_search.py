"""The search for the best classical policy: what it tries, what it prefers, and what it costs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from _made_images import SMALL, bars, seeded, share_right, spec_of

from augment.worth._images import class_balanced, fit
from augment.worth._policies import Policy
from augment.worth._search import FIRST, Candidate, grown, search_among, search_policies, shares_of
from models._contract import Batch

Floats = npt.NDArray[np.float64]


# On made scores


def guesses(right: npt.NDArray[Any], sure: float) -> Floats:
    """Probabilities of two classes for rows that are all of class 0: recognised where ``right``, by a sure margin."""
    first = np.where(right.astype(bool), 0.5 + sure, 0.5 - sure)
    return np.stack([first, 1 - first], axis=1)


class Scores:
    """Attempts whose share of recognised rows is the sum of what their parts give."""

    def __init__(self, rows: int = 1_000, **gains: float) -> None:
        self.rows = rows
        self.gains = {name.replace("_", " "): gain for name, gain in gains.items()}
        self.asked: list[tuple[Policy, int]] = []

    def __call__(self, policy: Policy, number: int) -> Floats:
        self.asked.append((policy, number))
        share = 0.5 + sum(self.gains.get(part, 0.0) for part in policy.parts)
        return guesses(np.arange(self.rows) < share * self.rows, 0.3)


@pytest.mark.parametrize("budget", [1, 2, 3, 6, 7, 11, 12, 24, 60])
def test_no_more_fits_are_made_than_the_budget_allows(budget: int) -> None:
    scores = Scores(shift=0.1, gain=0.05)
    found = search_among(np.zeros(1_000, np.int64), scores, budget)
    assert found.fits == len(scores.asked) <= budget
    assert len(scores.asked) == budget or budget > 24
    assert found.chosen in [candidate.policy for candidate in found.candidates]


@pytest.mark.parametrize("budget", [1, 2, 5, 6, 8, 12, 16, 24, 48])
def test_the_shares_of_a_budget_are_all_of_it(budget: int) -> None:
    shares = shares_of(budget)
    assert shares.first >= 1
    assert shares.first + shares.grown + shares.finalists * shares.rounds == budget


def test_a_small_budget_goes_to_the_most_promising_policies_first() -> None:
    scores = Scores(rows=100)
    search_among(np.zeros(100, np.int64), scores, 6)
    assert [policy for policy, _ in scores.asked[:4]] == list(FIRST[:4])


def test_parts_that_help_are_put_together() -> None:
    found = search_among(np.zeros(1_000, np.int64), Scores(shift=0.1, trivial=0.1, erasing=0.1, mixup=0.1), 40)
    assert found.chosen == Policy(("shift", "trivial", "erasing", "mixup"))


def test_finalists_are_trained_from_other_seeds_and_no_policy_twice_from_one() -> None:
    scores = Scores(shift=0.1)
    found = search_among(np.zeros(1_000, np.int64), scores, 24)
    assert len(set(scores.asked)) == len(scores.asked)
    several = [c for c in found.candidates if len(c.log_loss) > 1]
    assert [len(c.balanced_accuracy) for c in several] == [3, 3, 3]
    assert found.chosen in [c.policy for c in several]


def test_a_clear_lead_in_accuracy_decides_whatever_the_loss() -> None:
    def attempt(policy: Policy, number: int) -> Floats:
        best = policy == Policy(("trivial",))
        return guesses(np.arange(1_000) < (800 if best else 700), 0.05 if best else 0.3)

    assert search_among(np.zeros(1_000, np.int64), attempt, 6).chosen == Policy(("trivial",))


def test_a_near_tie_in_accuracy_is_decided_by_the_loss() -> None:
    """The best is right in two rows where the runner-up is wrong, which is right in another and surer in all."""

    def attempt(policy: Policy, number: int) -> Floats:
        runner_up = policy == Policy(("trivial",))
        right = np.arange(100) < 80
        right[[0, 1]] = not runner_up
        right[2] = runner_up
        return guesses(right, 0.3 if runner_up else 0.1)

    assert search_among(np.zeros(100, np.int64), attempt, 6).chosen == Policy(("trivial",))


def test_classes_count_the_same_however_many_rows_validation_has_of_each() -> None:
    """Flips lose half of the rare class and win a tenth of the common one."""
    y = np.array([0] * 900 + [1] * 100)

    def attempt(policy: Policy, number: int) -> Floats:
        flips = "horizontal flip" in policy.parts
        right = np.where(y == 0, np.arange(1_000) < (900 if flips else 800), np.arange(1_000) < (930 if flips else 990))
        p = guesses(right, 0.3)
        return np.where(y[:, None] == 0, p, p[:, ::-1])

    found = search_among(y, attempt, 24)
    assert "horizontal flip" not in found.chosen.parts
    first = found.candidates[0]
    assert first.balanced_accuracy[0] == pytest.approx((800 / 900 + 90 / 100) / 2)


def test_what_moves_an_image_is_not_moved_twice_and_one_light_takes_the_place_of_another() -> None:
    policy = Policy(("wide affine", "gain"))
    assert grown(policy, "shift") is None
    assert grown(policy, "gain") is None
    assert grown(policy, "light") == Policy(("wide affine", "light"))
    assert grown(policy, "elastic") == Policy(("wide affine", "elastic", "gain"))
    assert grown(Policy(("wide affine", "elastic", "gain")), "trivial") is None
    assert grown(Policy(("wide affine", "elastic", "gain")), "mixup") == Policy(
        ("wide affine", "elastic", "gain", "mixup")
    )


# On images


def patterns(count: int, seed: int, classes: int, shift: int, noise: float = 0.5) -> Batch:
    """A random pattern of each class, at any place within ``shift`` pixels, under noise."""
    coarse = torch.randn(classes, 1, 4, 4, generator=seeded(100)).sign()
    shapes = torch.nn.functional.pad(coarse, (2, 2, 2, 2), value=-1.0)
    y = torch.arange(count) % classes
    moves = torch.randint(-shift, shift + 1, (count, 2), generator=seeded(seed)).tolist()
    x = torch.stack([shapes[k].roll(move, (1, 2)) for k, move in zip(y.tolist(), moves, strict=True)])
    return Batch((x + noise * torch.randn(x.shape, generator=seeded(seed + 1))).clamp(-1, 1), y)


def test_the_search_prefers_moves_where_classes_are_patterns_in_any_place() -> None:
    spec = spec_of(1, 8, 8, classes=4)
    train, validation = patterns(8, 1, 4, shift=1), patterns(200, 2, 4, shift=1)
    found = search_policies(spec, class_balanced(train), validation, 0, budget=6, steps=60, batch_size=32)
    assert {"shift", "medium affine", "wide affine", "elastic", "trivial"} & set(found.chosen.parts)
    unchanged = fit(spec, class_balanced(train), Policy(), 0, steps=60, batch_size=32)
    score = max(c.balanced_accuracy[0] for c in found.candidates)
    assert score > share_right(unchanged, validation) + 0.05


def test_the_search_takes_no_flip_where_classes_are_mirror_images() -> None:
    spec = SMALL

    def mirrored(count: int, seed: int) -> Batch:
        x = patterns(count, seed, 1, shift=1).x
        y = torch.arange(count) % 2
        return Batch(torch.where(y[:, None, None, None] == 1, x.flip(3), x), y)

    found = search_policies(spec, class_balanced(mirrored(8, 1)), mirrored(100, 2), 0, 12, steps=40, batch_size=32)
    flips = [c for c in found.candidates if "horizontal flip" in c.policy.parts]
    assert flips
    assert all(c.balanced_accuracy[0] < 0.7 for c in flips)
    assert "horizontal flip" not in found.chosen.parts


def test_a_search_is_the_same_again_and_leaves_rows_without_a_label_out() -> None:
    rows = bars(20, seed=4)
    unlabelled = Batch(torch.cat([rows.x, rows.x]), torch.cat([rows.y, torch.full((20,), -1)]))
    first, again = (
        search_policies(SMALL, class_balanced(bars(10)), held_out, 3, budget=2, steps=3, batch_size=8)
        for held_out in (rows, unlabelled)
    )
    assert first == again
    assert isinstance(first.candidates[0], Candidate)


def test_a_search_is_recorded_as_json() -> None:
    found = search_policies(SMALL, class_balanced(bars(10)), bars(20), 0, budget=3, steps=2, batch_size=8)
    record = json.loads(json.dumps(found.as_json()))
    assert Policy.from_json(record["chosen"]) == found.chosen
    assert [Policy.from_json(c["policy"]) for c in record["candidates"]] == [c.policy for c in found.candidates]
    assert record["fits"] == 3


def test_progress_is_told_of_every_fit() -> None:
    told: list[tuple[str, int, int, str]] = []

    def progress(stage: str, done: int, total: int, unit: str, values: Mapping[str, float] | None = None) -> None:
        told.append((stage, done, total, unit))

    search_policies(SMALL, class_balanced(bars(10)), bars(20), 0, budget=3, steps=1, batch_size=4, progress=progress)
    assert told == [("policies", done, 3, "fit") for done in (1, 2, 3)]


def test_a_search_without_budget_or_rows_is_refused() -> None:
    rows = class_balanced(bars(10))
    for budget, validation in ((0, bars(10)), (3, Batch(bars(10).x, torch.full((10,), -1)))):
        with pytest.raises(ValueError, match="budget of one fit at least"):
            search_policies(SMALL, rows, validation, 0, budget)
