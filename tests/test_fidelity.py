"""Fidelity: each measure has its known value on samples that are known, and sees the fault that it is there for."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from augment._devices import cpu_threads
from augment.worth import _neighbours
from augment.worth._classifier import Classifier, Design, fit_classifier
from augment.worth._frechet import frechet_distance
from augment.worth._neighbours import (
    chance_of_larger,
    default_radii,
    density_and_coverage,
    nearest_distances,
    neighbour_radii,
)
from augment.worth.fidelity import Fidelity, Figure, RealSide, balanced_frechet, learn_real, measure_fidelity
from models._contract import Batch, Span, TensorSpec

TABLE = TensorSpec((4,), (Span("continuous", 4),), 3)
QUICK = Design(width=0.25, depth=1, dropout=0.1, steps=80)
OTHER = Design(width=0.2, depth=2, dropout=0.0, steps=60)
TOP_LEVEL = ("density", "coverage", "frechet", "label_agreement", "classifier_score", "accuracy", "novelty")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clusters(rows_per_class: tuple[int, ...] = (80, 80, 80), seed: int = 0, spread: float = 1.0) -> Batch:
    """Three Gaussian classes of the table, six deviations apart."""
    y = torch.arange(len(rows_per_class)).repeat_interleave(torch.tensor(rows_per_class))
    centres = torch.tensor([[6.0, 0, 0, 0], [0, 6, 0, 0], [0, 0, 6, 0]])
    return Batch(centres[y] + spread * noise(len(y), 4, seed=seed), y)


@pytest.fixture(scope="module")
def real() -> RealSide:
    return learn_real(TABLE, clusters(seed=1), clusters(seed=2), 0, QUICK, OTHER)


@pytest.fixture(scope="module")
def good(real: RealSide) -> Fidelity:
    return measure_fidelity(real, clusters(seed=3))


def value_of(figure: Figure) -> float:
    assert figure.value is not None
    return figure.value


def floor_of(figure: Figure) -> float:
    assert figure.floor is not None
    return figure.floor


# Density and coverage


def test_a_sample_beside_itself_is_covered_and_every_point_lies_in_k_balls_and_its_own() -> None:
    points = noise(60, 3)
    found = density_and_coverage(points, points, neighbours=5)
    assert found is not None
    assert found.coverage == 1
    assert found.density == pytest.approx(6 / 5)


def test_two_samples_of_one_distribution_have_density_one_and_the_coverage_of_the_closed_form() -> None:
    n, m, k = 400, 300, 5
    found = [density_and_coverage(noise(n, 2, seed=2 * i), noise(m, 2, seed=2 * i + 1), k) for i in range(12)]
    expected = 1 - math.prod((n - i) / (n + m - i) for i in range(1, k + 1))
    assert sum(f.coverage for f in found if f) / 12 == pytest.approx(expected, abs=0.01)
    assert sum(f.density for f in found if f) / 12 == pytest.approx(1, abs=0.03)


def test_a_dropped_mode_lowers_coverage_and_not_density() -> None:
    real = torch.cat([noise(200, 4), noise(200, 4, seed=1) + 30])
    whole = density_and_coverage(real, torch.cat([noise(200, 4, seed=2), noise(200, 4, seed=3) + 30]))
    half = density_and_coverage(real, noise(400, 4, seed=2))
    assert whole is not None
    assert half is not None
    assert half.coverage == pytest.approx(whole.coverage / 2, abs=0.05)
    assert half.density == pytest.approx(whole.density, abs=0.1)


def test_points_far_from_all_real_ones_have_neither_density_nor_coverage() -> None:
    assert density_and_coverage(noise(50, 4), noise(50, 4, seed=1) + 100) == (0, 0)


def test_a_shrunken_sample_gains_density_and_loses_coverage() -> None:
    whole, shrunken = (density_and_coverage(noise(300, 8), scale * noise(300, 8, seed=1)) for scale in (1.0, 0.2))
    assert whole is not None
    assert shrunken is not None
    assert shrunken.density > 1.5 * whole.density
    assert shrunken.coverage < 0.8 * whole.coverage


def test_radii_reach_the_neighbour_asked_for_and_few_points_have_few_neighbours() -> None:
    points = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert neighbour_radii(points, 2).tolist() == [3, 2, 3, 6]
    assert density_and_coverage(points[:1], points) is None
    assert density_and_coverage(points[:2], torch.tensor([[0.5]])) == (2, 1)
    with pytest.raises(ValueError, match="4 neighbours need more than 4 points"):
        neighbour_radii(points, 4)


def test_radii_worked_out_beforehand_change_nothing() -> None:
    for rows in (1, 2, 4, 300):
        real, synthetic = noise(rows, 8), noise(200, 8, seed=1)
        assert density_and_coverage(real, synthetic, radii=default_radii(real)) == density_and_coverage(real, synthetic)
    assert default_radii(noise(1, 8)) is None


def test_points_on_the_edge_of_a_ball_are_inside_it_far_from_the_origin_too() -> None:
    real = noise(60, 64) + 300
    copies = real.flip(0)[:41]
    exact = torch.cdist(real.double(), real.double())
    inside = exact.flip(1)[:, :41] <= exact.kthvalue(6, dim=1).values[:, None]
    found = density_and_coverage(real, copies)
    assert found is not None
    assert found.density == pytest.approx(int(inside.sum()) / (5 * 41))


def test_distances_in_small_blocks_are_those_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    real, synthetic = noise(70, 5), noise(40, 5, seed=1)
    whole = density_and_coverage(real, synthetic), nearest_distances(synthetic, real)
    monkeypatch.setattr(_neighbours, "BLOCK_DISTANCES", 100)
    assert density_and_coverage(real, synthetic) == whole[0]
    assert torch.allclose(nearest_distances(synthetic, real), whole[1], atol=1e-5)


def test_the_chance_of_a_larger_value_counts_ties_half() -> None:
    assert chance_of_larger(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0])) == pytest.approx(0.5)
    assert chance_of_larger(torch.tensor([5.0]), torch.tensor([1.0, 2.0])) == 1
    assert chance_of_larger(torch.zeros(3), torch.zeros(2)) == 0.5


# The Fréchet distance


def test_the_frechet_distance_of_gaussians_is_that_of_the_closed_form() -> None:
    standard = noise(4_000, 3, seed=4)
    standard = (standard - standard.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(standard.T.cov(correction=0))).T
    shift, scale = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 1.0, 0.5])
    # of diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2
    expected = float(shift.square().sum() + (scale - 1).square().sum())
    assert frechet_distance(standard, standard * scale + shift) == pytest.approx(expected, rel=1e-4)
    turned = torch.linalg.qr(noise(3, 3, seed=5)).Q
    assert frechet_distance(standard @ turned, (standard * scale + shift) @ turned) == pytest.approx(expected, rel=1e-4)


def test_the_frechet_distance_of_covariances_that_do_not_commute_is_that_of_the_matrix_root() -> None:
    first, second = noise(50, 4) @ noise(4, 4, seed=1), noise(60, 4, seed=2) @ noise(4, 4, seed=3)
    S1, S2 = (sample.double().T.cov(correction=0) for sample in (first, second))
    eigenvalues = torch.linalg.eigvals(S1 @ S2).real  # of a product of two positive matrices: real and positive
    means = (first.double().mean(0) - second.double().mean(0)).square().sum()
    expected = float(means + S1.trace() + S2.trace() - 2 * eigenvalues.sqrt().sum())
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_the_frechet_distance_of_a_sample_from_itself_is_zero_with_fewer_rows_than_dimensions_too() -> None:
    assert frechet_distance(noise(10, 64), noise(10, 64)) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(noise(1, 4), noise(1, 4) + 1) == pytest.approx(4, rel=1e-5)
    with pytest.raises(ValueError, match="rows on both sides"):
        frechet_distance(noise(0, 4), noise(3, 4))


def test_rows_count_by_their_mass() -> None:
    rows, other = noise(5, 3), noise(9, 3, seed=1)
    doubled = torch.cat([rows, rows[:2]])
    mass = torch.tensor([2.0, 2, 1, 1, 1])
    assert frechet_distance(rows, other, mass) == pytest.approx(frechet_distance(doubled, other), rel=1e-6)


def test_every_class_has_the_same_mass_in_the_distance_however_many_rows_it_has() -> None:
    first = {0: noise(30, 3), 1: noise(30, 3, seed=1) + 4}
    second = {0: noise(30, 3, seed=2), 1: noise(30, 3, seed=3) + 4}
    larger = {0: first[0].repeat(5, 1), 1: first[1]}
    assert balanced_frechet(larger, second) == pytest.approx(balanced_frechet(first, second), rel=1e-6)


# The classifier


def test_a_classifier_follows_from_its_seed_and_leaves_torchs_own_randomness_alone() -> None:
    rows = clusters()
    state = torch.get_rng_state()
    first, again, other = (fit_classifier(TABLE, rows, QUICK, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.features(rows.x), again.features(rows.x))
    assert not torch.equal(first.features(rows.x), other.features(rows.x))
    untrained = dataclasses.replace(QUICK, steps=0)
    weights = [fit_classifier(TABLE, rows, untrained, seed).head.weight for seed in (0, 1)]
    assert not torch.equal(*weights)


def test_features_are_64_numbers_of_mean_0_and_deviation_1_over_the_training_rows() -> None:
    rows = clusters()
    features = fit_classifier(TABLE, rows, QUICK, 0).features(rows.x)
    assert features.shape == (240, 64)
    assert torch.allclose(features.mean(0), torch.zeros(64), atol=1e-4)
    assert torch.allclose(features.std(0, unbiased=False), torch.ones(64), atol=1e-3)


def test_a_class_of_three_rows_is_learned_beside_one_of_three_hundred() -> None:
    net = fit_classifier(TABLE, clusters((300, 3, 300)), QUICK, 0)
    held_out = clusters(seed=5)
    assert float((net.predict(held_out.x) == held_out.y).float()[held_out.y == 1].mean()) > 0.9


def test_a_classifier_of_images_is_told_apart_from_one_of_tables_by_the_spec_alone() -> None:
    grid = TensorSpec((1, 8, 8), (Span("continuous", 64, 17),), 2)
    y = torch.arange(40) % 2
    x = 0.3 * noise(40, 1, 8, 8) + (2.0 * y - 1)[:, None, None, None] * torch.linspace(-1, 1, 8)
    net = fit_classifier(grid, Batch(x, y), Design(width=0.5, depth=1, dropout=0.0, steps=20), 0)
    assert net.features(x).shape == (40, 64)
    assert float((net.predict(x) == y).float().mean()) > 0.9


# All figures together


def test_fresh_rows_of_the_same_distribution_stand_at_the_floor(good: Fidelity) -> None:
    assert value_of(good.coverage) == pytest.approx(floor_of(good.coverage), abs=0.06)
    assert value_of(good.density) == pytest.approx(floor_of(good.density), abs=0.2)
    assert value_of(good.label_agreement) == pytest.approx(floor_of(good.label_agreement), abs=0.03)
    assert value_of(good.accuracy) == pytest.approx(floor_of(good.accuracy), abs=0.03)
    assert value_of(good.novelty) == pytest.approx(0.5, abs=0.1)
    assert value_of(good.frechet) < 2 * floor_of(good.frechet)
    assert floor_of(good.accuracy) > 0.9
    assert set(good.classes) == {0, 1, 2}


def test_fresh_rows_stand_at_the_floor_where_an_encoder_learns_its_rows_by_heart_too() -> None:
    """Forty columns that say nothing and twelve rows a class: what was seen lies apart from what was not."""
    spec = TensorSpec((40,), (Span("continuous", 40),), 3)
    shifts = torch.zeros(3, 40).fill_diagonal_(1.5)
    figures = []
    for seed in range(4):
        parts = []
        for part, count in enumerate((12, 60, 12)):
            y = torch.arange(3 * count) % 3
            parts.append(Batch(shifts[y] + noise(len(y), 40, seed=10 * seed + part), y))
        real = learn_real(spec, parts[0], parts[1], seed, Design(1, 1, 0.0, 200), OTHER)
        figures.append(measure_fidelity(real, parts[2]))
    for name, room in (("coverage", 0.08), ("density", 0.25)):
        found = [getattr(figure, name) for figure in figures]
        assert sum(map(value_of, found)) / 4 == pytest.approx(sum(map(floor_of, found)) / 4, abs=room), name


def test_copies_of_the_training_rows_stand_at_the_floor_but_have_no_novelty(real: RealSide) -> None:
    found = measure_fidelity(real, clusters(seed=1))
    assert value_of(found.coverage) == pytest.approx(floor_of(found.coverage), abs=0.06)
    assert value_of(found.density) == pytest.approx(floor_of(found.density), abs=0.2)
    assert value_of(found.accuracy) == pytest.approx(floor_of(found.accuracy), abs=0.02)
    assert value_of(found.novelty) == 0
    assert found.novelty.floor == 0.5


def test_shuffled_labels_bring_agreement_and_accuracy_to_chance_and_lower_density(
    real: RealSide, good: Fidelity
) -> None:
    rows = clusters((200, 200, 200), seed=3)
    shuffled = rows.y[torch.randperm(600, generator=torch.Generator().manual_seed(0))]
    found = measure_fidelity(real, Batch(rows.x, shuffled))
    assert value_of(found.label_agreement) == pytest.approx(1 / 3, abs=0.06)
    assert value_of(found.accuracy) < 0.6
    assert value_of(found.density) < 0.5 * value_of(good.density)


def test_a_class_without_synthetic_rows_is_not_covered_and_cannot_be_learned_from_them(
    real: RealSide, good: Fidelity
) -> None:
    found = measure_fidelity(real, clusters((80, 80, 0), seed=3))
    assert found.classes[2].coverage.value == 0
    assert found.classes[2].density.value is None
    assert found.classes[2].coverage.floor is not None
    assert value_of(found.coverage) == pytest.approx(2 / 3 * value_of(good.coverage), abs=0.03)
    assert value_of(found.density) == pytest.approx(value_of(good.density), abs=0.1)
    both = [found.classes[y].density for y in (0, 1)]  # a value and a floor are means over the same classes
    assert floor_of(found.density) == pytest.approx(sum(map(floor_of, both)) / 2)
    assert floor_of(found.density) != pytest.approx(floor_of(good.density))
    assert value_of(found.accuracy) == pytest.approx(2 / 3, abs=0.05)
    assert value_of(found.frechet) > 5 * floor_of(found.frechet)


def test_one_row_again_and_again_covers_little(real: RealSide, good: Fidelity) -> None:
    repeated = Batch(clusters(seed=3).x[::80].repeat_interleave(80, dim=0), clusters().y)
    found = measure_fidelity(real, repeated)
    assert value_of(found.coverage) < 0.5 * value_of(good.coverage)
    assert value_of(found.label_agreement) > 0.9


def test_rows_that_are_shifted_or_spread_too_far_lie_farther_than_the_floor(real: RealSide) -> None:
    for rows in (Batch(clusters(seed=3).x + 2, clusters().y), clusters(seed=3, spread=3)):
        found = measure_fidelity(real, rows)
        assert value_of(found.frechet) > 3 * floor_of(found.frechet)
        assert value_of(found.density) < 0.7 * floor_of(found.density)
        assert value_of(found.novelty) > 0.7


def test_figures_are_the_same_each_time_and_take_no_notice_of_other_randomness(real: RealSide, good: Fidelity) -> None:
    torch.rand(3)
    assert dataclasses.asdict(measure_fidelity(real, clusters(seed=3))) == dataclasses.asdict(good)


def test_everything_is_computed_on_one_thread_whatever_the_caller_has(
    real: RealSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    features = Classifier.features

    def counting(net: Classifier, x: Tensor) -> Tensor:
        threads.append(torch.get_num_threads())
        return features(net, x)

    monkeypatch.setattr(Classifier, "features", counting)
    with cpu_threads(2):
        small = Design(width=0.1, depth=1, dropout=0.0, steps=2)
        measure_fidelity(learn_real(TABLE, clusters(), clusters(), 0, small, small), clusters())
        assert torch.get_num_threads() == 2
    assert set(threads) == {1}


def test_both_sides_lend_as_many_rows_of_a_class_as_the_smaller_has(real: RealSide) -> None:
    few = measure_fidelity(real, clusters((10, 80, 300), seed=3))
    assert [few.classes[y].compared for y in (0, 1, 2)] == [10, 40, 40]  # half of the training rows are the floor's
    # as many real rows stand for the floor, and ten cover less than forty
    assert floor_of(few.classes[0].coverage) < floor_of(few.classes[1].coverage) - 0.1


def test_classes_of_one_row_and_rows_without_a_label_are_no_hindrance() -> None:
    train, held_out = clusters((30, 1, 30), seed=1), clusters((30, 30, 1), seed=2)
    unlabelled = Batch(torch.cat([train.x, noise(5, 4)]), torch.cat([train.y, torch.full((5,), -1)]))
    small = Design(width=0.1, depth=1, dropout=0.0, steps=10)
    found = measure_fidelity(learn_real(TABLE, unlabelled, held_out, 0, small, small), clusters((30, 30, 1), seed=3))
    assert found.classes[1].compared == 1
    assert 0 <= value_of(found.classes[1].coverage) <= 1
    assert found.classes[2].coverage == Figure(None, None)  # a single held-out row has no neighbour
    assert all(getattr(found, name).value is not None for name in TOP_LEVEL)


def test_data_of_one_class_have_no_figures_about_labels() -> None:
    spec = TensorSpec((4,), TABLE.spans, 1)
    train, held_out, synthetic = (Batch(noise(60, 4, seed=s), torch.zeros(60, dtype=torch.int64)) for s in (1, 2, 3))
    found = measure_fidelity(learn_real(spec, train, held_out, 0, QUICK, OTHER), synthetic)
    assert found.label_agreement == found.accuracy == found.classifier_score == Figure(None, None)
    assert value_of(found.coverage) == pytest.approx(floor_of(found.coverage), abs=0.1)
    far = measure_fidelity(learn_real(spec, train, held_out, 0, QUICK, OTHER), Batch(synthetic.x + 4, synthetic.y))
    assert value_of(far.coverage) < 0.3


def test_no_rows_to_learn_from_are_refused(real: RealSide) -> None:
    nothing = Batch(torch.empty(0, 4), torch.empty(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="needs rows to learn from"):
        learn_real(TABLE, nothing, clusters(), 0, QUICK, OTHER)
    found = measure_fidelity(real, nothing)
    assert found.coverage.value == 0
    assert found.frechet.value is None
    assert found.accuracy.value is None
