"""The parts of Improved Techniques for Training GANs, each against its definition."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from _model_cases import SPECS, generator, optimiser_of, some_rows, take_step
from torch import Tensor, nn

from models._adversarial import LOSSES, AdversarialLoss, feature_matching, smoothed
from models._contract import Batch, ClassifiesRows, TensorSpec
from models._history import History
from models._minibatch import MinibatchFeatures
from models._semi_supervised import real_score, supervised
from models._spectral import iterate, normalised
from models._virtual_norm import VirtualBatchNorm
from models.gan import GanConfig


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def test_closeness_is_that_of_a_loop_over_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, features = MinibatchFeatures(6, 3, 4).double(), noise(5, 6)
    matrices = (features @ layer.project.weight.T).reshape(5, 3, 4)
    expected = torch.zeros(5, 3, dtype=torch.float64)
    for i in range(5):
        for j in range(5):
            for b in range(3):
                if i != j:
                    expected[i, b] += math.exp(-float((matrices[i, b] - matrices[j, b]).detach().abs().sum()))
    assert torch.allclose(layer(features).double(), expected, atol=1e-6)
    monkeypatch.setattr("models._minibatch.AT_ONCE", 1)
    assert torch.allclose(layer(features).double(), expected, atol=1e-6)


def test_closeness_counts_copies_and_does_not_see_the_order_of_the_others() -> None:
    layer, features = MinibatchFeatures(6, 3, 4).double(), noise(5, 6)
    assert torch.allclose(layer(features[:1].expand(7, 6)).double(), torch.full((7, 3), 6.0, dtype=torch.float64))
    assert torch.equal(layer(features[:1]), torch.zeros(1, 3))
    swapped = features[[0, 3, 2, 1, 4]]
    assert torch.allclose(layer(features)[0], layer(swapped)[0])


def test_closeness_can_be_differentiated_twice() -> None:
    layer, features = MinibatchFeatures(4, 2, 3).double(), noise(4, 4).requires_grad_()
    (first,) = torch.autograd.grad(layer(features).square().sum(), features, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), layer.project.weight)
    assert second.abs().sum() > 0


def test_history_is_the_mean_of_all_parameters_noted_and_pulls_towards_it() -> None:
    net = nn.Linear(3, 2)
    history, past = History(net.parameters()), []
    assert float(history.distance(net.parameters()).detach()) == 0
    for step in range(4):
        with torch.no_grad():
            net.weight += step
        past.append([p.detach().clone() for p in net.parameters()])
        history.note(net.parameters())
    means = [torch.stack(column).mean(0) for column in zip(*past, strict=True)]
    expected = sum(float((p - m).detach().square().sum()) for p, m in zip(net.parameters(), means, strict=True))
    distance = history.distance(net.parameters())
    assert float(distance.detach()) == pytest.approx(expected, rel=1e-5)
    distance.backward()
    assert net.weight.grad is not None
    assert torch.allclose(net.weight.grad, 2 * (net.weight - means[0]), atol=1e-5)


def test_parameters_that_never_moved_are_where_they_have_been() -> None:
    net = nn.Linear(3, 2)
    history = History(net.parameters())
    for _ in range(5):
        history.note(net.parameters())
    assert float(history.distance(net.parameters()).detach()) == pytest.approx(0, abs=1e-10)


def test_the_best_answer_where_no_row_can_be_told_is_half_the_smoothed_target() -> None:
    loss, score = smoothed(LOSSES["non_saturating"], 0.9), torch.zeros(1, dtype=torch.float64, requires_grad=True)
    for _ in range(400):
        (gradient,) = torch.autograd.grad(loss.critic(score, score).sum(), score)
        score = (score - gradient).detach().requires_grad_()
    assert float(torch.sigmoid(score.detach())) == pytest.approx(0.45, abs=1e-6)


def check_synthetic_target(loss: AdversarialLoss) -> None:
    """Whatever is asked of real rows, a synthetic one costs what it costs with a target of 0."""
    plain, zero, scores = LOSSES["non_saturating"], torch.zeros(3, dtype=torch.float64), noise(3)
    cost, expected = (of.critic(zero, scores) - of.critic(zero, zero - 80) for of in (loss, plain))
    torch.testing.assert_close(cost, expected, msg="synthetic rows have another target than 0")
    assert torch.equal(loss.generator(scores), plain.generator(scores))


def test_synthetic_rows_keep_their_target_of_zero() -> None:
    check_synthetic_target(smoothed(LOSSES["non_saturating"], 0.9))


def test_a_loss_that_smooths_the_target_of_synthetic_rows_too_is_found_out() -> None:
    def both_sided(real: Tensor, synthetic: Tensor) -> Tensor:
        softplus = nn.functional.softplus
        of_synthetic = 0.9 * softplus(synthetic) + 0.1 * softplus(-synthetic)
        return 0.9 * softplus(-real) + 0.1 * softplus(real) + of_synthetic

    with pytest.raises(AssertionError, match="synthetic rows have another target than 0"):
        check_synthetic_target(LOSSES["non_saturating"]._replace(critic=both_sided))


def test_matched_features_cost_nothing_and_move_the_synthetic_side_alone() -> None:
    real, synthetic = noise(8, 5).requires_grad_(), noise(8, 5, seed=1).requires_grad_()
    assert float(feature_matching(real, real[torch.randperm(8, generator=generator())]).detach()) == pytest.approx(
        0, abs=1e-12
    )
    expected = ((real.mean(0) - synthetic.mean(0)) ** 2).sum()
    found = feature_matching(real, synthetic)
    assert float(found.detach()) == pytest.approx(float(expected.detach()))
    found.backward()
    assert real.grad is None
    assert synthetic.grad is not None


@pytest.mark.parametrize("places", [(), (3, 2)])
def test_virtual_statistics_are_those_of_the_reference_and_the_row_together(places: tuple[int, ...]) -> None:
    """One batch of B + 1 rows for each row, as the paper defines it."""
    norm = VirtualBatchNorm(4, 2, reference=6).double()
    nn.init.zeros_(norm.film.linear.weight)
    nn.init.zeros_(norm.film.linear.bias)
    h = noise(9, 4, *places)
    found = norm(h, noise(9, 2))
    over = [0, *range(2, h.dim())]
    for row in range(6, 9):
        together = torch.cat([h[:6], h[row : row + 1]])
        mean, variance = (f(together) for f in (lambda t: t.mean(over), lambda t: t.var(over, unbiased=False)))
        shape = (-1, *[1] * len(places))
        expected = (h[row] - mean.reshape(shape)) / (variance.reshape(shape) + 1e-5).sqrt()
        assert torch.allclose(found[row], expected, atol=1e-5)
    of_reference = found[:6].mean(over)
    assert torch.allclose(of_reference, torch.zeros(4, dtype=torch.float64), atol=1e-6)


def test_a_row_does_not_hear_its_batch_mates() -> None:
    norm = VirtualBatchNorm(4, 2, reference=6).double()
    h, condition = noise(12, 4, 3, 3), noise(12, 2)
    alone = norm(h[:7], condition[:7])[6]
    assert torch.allclose(norm(h, condition)[6], alone)


def test_class_logits_say_real_or_synthetic_by_their_sum() -> None:
    """D = Z / (Z + 1), which is a softmax over the K classes and one more whose logit is 0."""
    logits = noise(7, 4)
    z = logits.exp().sum(1)
    assert torch.allclose(torch.sigmoid(real_score(logits)), z / (z + 1))
    every = nn.functional.softmax(torch.cat([logits, torch.zeros(7, 1, dtype=torch.float64)], 1), dim=1)
    assert torch.allclose(torch.sigmoid(real_score(logits)), 1 - every[:, -1])


def test_the_logistic_loss_of_that_score_is_the_papers_unsupervised_loss() -> None:
    real, synthetic = noise(7, 4), noise(7, 4, seed=1)
    found = LOSSES["non_saturating"].critic(real_score(real), real_score(synthetic)).mean()
    lse_real, lse_synthetic = torch.logsumexp(real, 1), torch.logsumexp(synthetic, 1)
    expected = (-lse_real + nn.functional.softplus(lse_real) + nn.functional.softplus(lse_synthetic)).mean()
    assert float(found.detach()) == pytest.approx(float(expected.detach()))


def test_rows_without_a_label_teach_no_class() -> None:
    logits = noise(5, 3).requires_grad_()
    y = torch.tensor([0, -1, 2, -1, 1])
    expected = nn.functional.cross_entropy(logits[y >= 0], y[y >= 0])
    assert float(supervised(logits, y).detach()) == pytest.approx(float(expected.detach()))
    supervised(logits, y).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[[1, 3]], torch.zeros(2, 3, dtype=torch.float64))
    assert float(supervised(logits, torch.full((5,), -1)).detach()) == 0


SWITCHES: dict[str, dict[str, Any]] = {
    "feature_matching": {"techniques": {"feature_matching": True}},
    "minibatch": {"techniques": {"minibatch_kernels": 3}},
    "historical_averaging": {"techniques": {"historical_averaging": 0.1}},
    "smoothing": {"techniques": {"real_target": 0.9}, "loss": "non_saturating"},
    "virtual": {"norm": "virtual"},
    "classify": {"techniques": {"classify": True}, "loss": "non_saturating"},
}


@pytest.mark.parametrize("form", SPECS)
@pytest.mark.parametrize("name", SWITCHES)
def test_every_technique_trains_both_nets_and_draws_rows_of_their_own(name: str, form: str) -> None:
    spec = SPECS[form]
    model = GanConfig(width=8, **SWITCHES[name]).build(spec, generator()).train()
    batch, noise_ = some_rows(spec, torch.tensor([0, 1, 2, 1, -1, 0])), generator(1)
    taken = [(objective, optimiser_of(objective)) for objective in model.objectives()]
    for step in range(3):
        model.begin_step(step, 3)
        for objective, optimiser in taken:
            before = [parameter.detach().clone() for parameter in objective.parameters]
            terms = take_step(objective, optimiser, batch, noise_)
            assert all(torch.isfinite(term) for term in terms.values())
            assert any(not torch.equal(a, b) for a, b in zip(before, objective.parameters, strict=True))
    model.eval()
    labels = torch.tensor([2, 0, 1, 1])
    alone = model.sample(labels[:2], generator(2))
    assert torch.isfinite(model.sample(labels, generator(2))).all()
    assert alone.shape == (2, *spec.shape)


def test_all_techniques_work_together() -> None:
    techniques = {"feature_matching": True, "minibatch_kernels": 2, "historical_averaging": 0.1, "real_target": 0.9}
    model = GanConfig(width=8, norm="virtual", loss="minimax", techniques=techniques).build(SPECS["grid"], generator())
    batch = some_rows(SPECS["grid"], torch.tensor([0, 1, 2, -1]))
    for objective in model.objectives():
        assert objective.batch_statistics
        assert torch.isfinite(objective.loss(batch, generator())["loss"])


def test_smoothed_labels_are_refused_where_the_critic_gives_no_probability() -> None:
    with pytest.raises(ValueError, match=r"real_target is of losses with a probability; set loss to minimax or non_sa"):
        GanConfig(loss="hinge", techniques={"real_target": 0.9})


def test_rows_are_drawn_under_virtual_normalisation_without_their_batch_mates() -> None:
    """In training too, where the statistics of a batch would differ."""
    model = GanConfig(width=8, norm="virtual").build(SPECS["grid"], generator()).train()
    z = torch.randn(5, model.generator.latent, generator=generator(3))
    labels = torch.tensor([0, 1, 2, 0, 1])

    def raw(count: int) -> Tensor:
        both = (
            torch.cat([model.generator.reference_z, z[:count]]),
            torch.cat([model.generator.reference_y, labels[:count]]),
        )
        return model.generator.net(*both)[len(model.generator.reference_y) :]

    assert torch.allclose(raw(5)[:2], raw(2), atol=1e-5)


def test_the_critic_of_classes_learns_from_labels_and_names_new_rows() -> None:
    spec = SPECS["vector"]
    model = GanConfig(width=16, **SWITCHES["classify"]).build(spec, generator()).train()
    labels = torch.arange(96) % 3
    x = torch.nn.functional.one_hot(labels, 3).float()
    batch = Batch(
        torch.cat([labels[:, None] - 1.0, torch.zeros(96, 1), x], 1), torch.where(torch.arange(96) < 12, labels, -1)
    )
    taken = [(objective, optimiser_of(objective)) for objective in model.objectives()]
    for _ in range(60):
        for objective, optimiser in taken:
            take_step(objective, optimiser, batch, generator(4))
    model.eval()
    assert isinstance(model, ClassifiesRows)
    assert (model.class_logits(batch.x).argmax(1) == labels).float().mean() > 0.95
    assert model.settings.classifies()
    assert not GanConfig(width=8).classifies()


def test_a_loss_whose_parts_do_not_add_up_is_not_split() -> None:
    for settings in (SWITCHES["classify"], {"spectral_norm": True}, SWITCHES["minibatch"], {"norm": "batch"}):
        model = GanConfig(width=8, **settings).build(SPECS["vector"], generator())
        assert all(objective.batch_statistics for objective in model.objectives()), settings


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"techniques": {"classify": True}},
            r"classify needs a loss that says how probably a row is real; set loss to",
        ),
        (
            {"techniques": {"classify": True, "minibatch_kernels": 2}, "loss": "minimax"},
            r"classify and techniques\.minibatch_kernels exclude each other",
        ),
    ],
)
def test_what_would_make_classes_meaningless_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        GanConfig(**settings)


def test_one_class_cannot_be_told_apart() -> None:
    spec = TensorSpec((4,), SPECS["vector"].spans[:1] * 2, 1)
    with pytest.raises(ValueError, match="needs rows of two classes at least"):
        GanConfig(**SWITCHES["classify"]).build(spec, generator())


def test_averaged_singular_vectors_still_hold_the_largest_singular_value() -> None:
    layer = normalised(nn.Linear(6, 5))
    spectral = layer.parametrizations.weight[0]
    iterate(layer, 50)
    with torch.no_grad():
        spectral.left.mul_(0.7)  # as the mean of vectors that turned a little
        spectral.right.mul_(0.7)
    assert float(torch.linalg.svdvals(layer.weight.detach())[0]) == pytest.approx(1, abs=1e-3)
