"""The learner of images and the search for its best classical policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from augment.worth._images import (
    ImageLearner,
    LearningRows,
    as_values,
    class_balanced,
    drawn_rows,
    fit,
    probabilities,
)
from augment.worth._policies import Policy
from augment.worth._search import FIRST, Candidate, grown, search_among, search_policies, shares_of
from models._contract import Batch, Span, TensorSpec

Floats = npt.NDArray[np.float64]


def spec_of(*shape: int, classes: int = 2, levels: int = 256) -> TensorSpec:
    size = int(np.prod(shape))
    return TensorSpec(shape, (Span("continuous", size, levels),), classes)


SMALL = spec_of(1, 8, 8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bars(count: int, seed: int = 0, classes: int = 2) -> Batch:
    """Noisy images of upright bars (class 0) and of level ones (class 1), in any place."""
    y = torch.arange(count) % classes
    x = 0.3 * torch.randn(count, 1, 8, 8, generator=seeded(seed)) - 0.7
    for row, place in enumerate(torch.randint(1, 7, (count,), generator=seeded(seed + 1)).tolist()):
        image = x[row, 0] if y[row] else x[row, 0].T
        image[place] += 1.4
    return Batch(x.clamp(-1, 1), y)


def parameters(net: ImageLearner) -> Tensor:
    return torch.cat([p.flatten() for p in net.parameters()])


def share_right(net: ImageLearner, rows: Batch) -> float:
    return float((probabilities(net, rows.x).argmax(axis=1) == rows.y.numpy()).mean())


# Batches


def test_rows_are_drawn_by_the_shares_of_their_weights() -> None:
    y = torch.tensor([0, 1, 0, 1, 1])
    weight = torch.tensor([0.5, 3.0, 1.5, 0.0, 5.0], dtype=torch.float64)
    drawn = drawn_rows(y, weight, 2_000, 10, seeded())
    shares = torch.bincount(drawn.flatten(), minlength=5) / drawn.numel()
    assert shares[3] == 0
    assert (shares - weight / 10).abs().max() < 0.01


def test_every_batch_has_each_class_in_its_share_to_one_row() -> None:
    rows = class_balanced(Batch(torch.zeros(0), torch.tensor([0] * 70 + [1] * 3 + [2] * 10)))
    drawn = drawn_rows(rows.y, rows.weight, 50, 100, seeded())
    for batch in drawn:
        counts = torch.bincount(rows.y[batch], minlength=3)
        assert (counts - 100 / 3).abs().max() <= 2


def test_arms_with_other_rows_see_the_same_classes_at_the_same_places() -> None:
    few, many = torch.tensor([0, 1, 1, 2]), torch.tensor([2, 1, 0, 0, 0, 1, 2, 2, 1])
    seen = []
    for y in (few, many):
        rows = class_balanced(Batch(torch.zeros(0), y))
        seen.append(y[drawn_rows(y, rows.weight, 30, 60, seeded())])
    assert torch.equal(seen[0], seen[1])


def test_rows_of_weight_zero_are_never_drawn_even_at_either_end() -> None:
    weight = torch.tensor([0, 1, 1, 0], dtype=torch.float64)
    drawn = drawn_rows(torch.tensor([0, 0, 1, 1]), weight, 500, 4, seeded())
    assert set(drawn.flatten().tolist()) == {1, 2}


def test_balanced_rows_give_each_class_the_same_mass_and_unlabelled_ones_none() -> None:
    y = torch.tensor([0, 0, 0, 2, -1])
    weight = class_balanced(Batch(torch.zeros(5), y)).weight
    assert weight.dtype == torch.float64
    assert weight.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1, 0])


def test_rows_without_any_label_have_no_weight() -> None:
    assert class_balanced(Batch(torch.zeros(2), torch.tensor([-1, -1]))).weight.tolist() == [0, 0]


# The learner


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 13, 20), (3, 64, 64)], ids=str)
def test_images_of_every_size_have_one_logit_a_class(shape: tuple[int, ...]) -> None:
    assert ImageLearner(spec_of(*shape, classes=7))(torch.zeros(3, *shape)).shape == (3, 7)


def test_a_row_s_logits_do_not_depend_on_its_batch_mates() -> None:
    net = ImageLearner(SMALL)
    x = bars(12).x
    torch.testing.assert_close(net(x)[:3], net(x[:3]))


def test_the_same_seed_gives_the_same_learner_and_leaves_the_callers_randomness_alone() -> None:
    rows = class_balanced(bars(20))
    state = torch.random.get_rng_state()
    first = fit(SMALL, rows, Policy(("shift", "mixup")), 5, steps=6, batch_size=8)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    again = fit(SMALL, rows, Policy(("shift", "mixup")), 5, steps=6, batch_size=8)
    other = fit(SMALL, rows, Policy(("shift", "mixup")), 6, steps=6, batch_size=8)
    assert torch.equal(parameters(first), parameters(again))
    assert not torch.equal(parameters(first), parameters(other))


def test_arms_of_one_seed_begin_with_the_same_weights() -> None:
    rows, more = class_balanced(bars(20)), class_balanced(bars(40, seed=9))
    arms = [fit(SMALL, r, policy, 5, steps=0) for r, policy in ((rows, Policy()), (more, Policy(("trivial",))))]
    assert torch.equal(parameters(arms[0]), parameters(arms[1]))


@pytest.mark.parametrize("count", [6, 400])
def test_the_number_of_steps_does_not_depend_on_the_number_of_rows(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    step = torch.optim.Adam.step

    def counted(self: torch.optim.Adam) -> None:
        taken.append(1)
        step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", counted)
    fit(SMALL, class_balanced(bars(count)), Policy(), 0, steps=7, batch_size=8)
    assert len(taken) == 7


def test_a_learner_recognises_what_can_be_told_apart() -> None:
    net = fit(SMALL, class_balanced(bars(40)), Policy(("shift",)), 0, steps=60, batch_size=32)
    assert share_right(net, bars(200, seed=7)) > 0.95


def test_rows_of_a_small_weight_hardly_count() -> None:
    """Ten rows in ten carry wrong labels, and a weight that gives them one place in a hundred."""
    good, bad = bars(20), bars(200, seed=3)
    x, y = torch.cat([good.x, bad.x]), torch.cat([good.y, 1 - bad.y])
    weight = torch.cat([torch.full((20,), 0.99 / 20), torch.full((200,), 0.01 / 200)]).double()
    net = fit(SMALL, LearningRows(x, y, weight), Policy(("shift",)), 0, steps=60, batch_size=32)
    assert share_right(net, bars(200, seed=7)) > 0.9


def test_indices_of_grey_levels_are_read_as_the_values_they_stand_for() -> None:
    spec = spec_of(1, 8, 8, levels=17)
    index = torch.randint(0, 17, (20, 1, 8, 8), generator=seeded()).to(torch.uint8)
    values = index.float() / 8 - 1
    torch.testing.assert_close(as_values(spec, index), values)
    y = torch.arange(20) % 2
    nets = [fit(spec, class_balanced(Batch(x, y)), Policy(), 1, steps=4, batch_size=8) for x in (index, values)]
    torch.testing.assert_close(parameters(nets[0]), parameters(nets[1]))
    np.testing.assert_allclose(probabilities(nets[0], index), probabilities(nets[0], values), rtol=1e-5)


def test_probabilities_sum_to_one_and_are_of_single_precision() -> None:
    p = probabilities(fit(SMALL, class_balanced(bars(20)), Policy(), 0, steps=2), bars(30).x)
    assert p.dtype == np.float32
    assert p.shape == (30, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.zeros(4, dtype=torch.float64)}, "a weight above 0"),
        ({"weight": torch.tensor([1.0, -1, 1, 1]).double()}, "none below 0"),
        ({"weight": torch.tensor([1.0, float("nan"), 1, 1]).double()}, "must be finite"),
        ({"y": torch.tensor([0, 1, -1, 1])}, "without a label"),
        ({"x": torch.zeros(0, 1, 8, 8), "y": torch.zeros(0).long(), "weight": torch.zeros(0)}, "needs rows"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused(change: dict[str, Tensor], message: str) -> None:
    rows = LearningRows(torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]), torch.ones(4, dtype=torch.float64))
    with pytest.raises(ValueError, match=message):
        fit(SMALL, rows._replace(**change), Policy(), 0)


def test_a_table_is_refused() -> None:
    rows = LearningRows(torch.zeros(2, 4), torch.tensor([0, 1]), torch.ones(2, dtype=torch.float64))
    with pytest.raises(ValueError, match="reads images"):
        fit(TensorSpec((4,), (Span("continuous", 4),), 2), rows, Policy(), 0)


# The search, on made scores


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


# The search, on images


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
