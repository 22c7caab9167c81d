"""The learner of images: which rows it draws, and what two learners have in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from _made_images import SMALL, bars, seeded, share_right, spec_of
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
from models._contract import Batch, Span, TensorSpec


def parameters(net: ImageLearner) -> Tensor:
    return torch.cat([p.flatten() for p in net.parameters()])


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
