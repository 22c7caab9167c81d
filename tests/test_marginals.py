"""Marginals: what is distributed unlike the real rows is named, classes weigh the same, and chance is no difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from _judged_sets import IMAGES, TABLE, Trial, replaced
from _linked_rows import linked_rows, verdict
from pydantic import ValidationError
from scipy.ndimage import uniform_filter
from scipy.stats import ks_2samp
from sklearn.datasets import load_digits, load_wine

from augment._png import encode_pngs
from augment.checks._class_numbers import Numbers
from augment.checks._distances import kolmogorov_smirnov, total_variation
from augment.checks._sides import Column, Sides, side_by_side, within_chance, worst_of
from augment.checks.marginals import Marginals
from augment.schema import IMAGE_TYPE


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    sizes = {"train": (400, 1), "validation": (60, 2), "test": (60, 3)}
    parts = {part: linked_rows(rows, seed) for part, (rows, seed) in sizes.items()}
    return Trial.of(tmp_path_factory.mktemp("tables"), TABLE, parts)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """Fifty images each of zero and one to learn from."""
    parts = {"train": images(0, 100), "validation": images(100, 120), "test": images(120, 140)}
    return Trial.of(tmp_path_factory.mktemp("digits"), IMAGES, parts)


def images(first: int, last: int, change: object = None) -> pa.Table:
    """Rows ``first`` to ``last`` of scikit-learn's zeros and ones, by turns, perhaps changed."""
    found = load_digits()
    zeros, ones = (found.images[found.target == label] for label in (0, 1))
    pixels = np.stack([zeros[:170], ones[:170]], axis=1).reshape(-1, 8, 8)[first:last] * 15.9
    pixels = pixels if change is None else change(pixels)  # type: ignore[operator]
    files = encode_pngs(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    return pa.table(
        {
            "image": pa.array([{"bytes": data, "path": None} for data in files], IMAGE_TYPE),
            "digit": np.arange(first, last) % 2,
        }
    )


def distances(sides: Sides, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The distance of each number under pairs of weights."""
    return np.stack([kolmogorov_smirnov(values, first, second) for values in sides.numbers.T], axis=1)


def test_good_rows_pass_whatever_share_the_plan_gives_a_class(tables: Trial) -> None:
    result, _ = verdict(tables, linked_rows(400, 50, pears=0.9), "marginals")
    assert (result.passed, result.severity) == (True, "critical")
    assert result.limit is not None
    assert result.value is not None
    assert result.value <= result.limit


def test_a_column_that_differs_is_named_and_refused(tables: Trial) -> None:
    rows = linked_rows(400, 50)
    result, _ = verdict(tables, replaced(rows, "size", np.array(rows["size"]) + 1.5), "marginals")
    assert (result.passed, result.severity) == (False, "critical")
    assert "in the distribution of size: by 0.5" in result.sentence
    assert "is refused" in result.sentence


@pytest.mark.parametrize("column", ["size", "count", "shade", "ripe"])
def test_a_constant_column_is_refused_by_name(tables: Trial, column: str) -> None:
    rows = linked_rows(400, 50)
    constant = [rows[column][200].as_py()] * 400
    result, _ = verdict(tables, replaced(rows, column, constant), "marginals")
    assert (result.passed, result.severity) == (False, "critical")
    assert f" of {column}: by" in result.sentence


def test_categories_in_wrong_shares_are_refused_by_name(tables: Trial) -> None:
    rows = linked_rows(400, 50)
    red = ["red" if i % 10 else "green" for i in range(400)]
    result, details = verdict(tables, replaced(rows, "shade", red), "marginals")
    assert (result.passed, result.severity) == (False, "critical")
    assert "in the shares of categories of shade" in result.sentence
    assert details["columns"][0]["name"] == "shade"


def test_missing_is_a_category(tmp_path: Path) -> None:
    def with_missing(rows: int, seed: int, every: int) -> pa.Table:
        table = linked_rows(rows, seed)
        sizes = pa.array(table["size"].to_pylist(), mask=np.arange(rows) % every == 0)
        return replaced(table, "size", sizes)

    trial = Trial.of(tmp_path, TABLE, {part: with_missing(n, n, 5) for part, n in _PARTS.items()})
    assert verdict(trial, with_missing(200, 50, 5), "marginals")[0].passed
    result, _ = verdict(trial, with_missing(200, 50, 1_000), "marginals")
    assert result.severity == "warning"
    assert result.value == pytest.approx(0.2, abs=0.02)
    assert "in the shares of categories of size" in result.sentence


def test_between_the_two_limits_there_is_a_warning(tables: Trial) -> None:
    rows = linked_rows(400, 50)
    shifted = replaced(rows, "size", np.array(rows["size"]) + 0.6)
    result, _ = verdict(tables, shifted, "marginals")
    assert (result.passed, result.severity) == (False, "warning")
    assert result.limit is not None
    assert 0.15 <= result.limit < 0.30
    assert "is warned of" in result.sentence
    stricter, _ = verdict(tables, shifted, "marginals", Marginals(warns=0.1, refuses=0.1))
    assert (stricter.passed, stricter.severity) == (False, "critical")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("blurred", lambda x: uniform_filter(x, (0, 3, 3))),
        ("half the contrast", lambda x: x / 2),
        ("inverted", lambda x: 255 - x),
        ("noisy", lambda x: x + np.random.default_rng(0).normal(0, 25, x.shape)),
    ],
)
def test_spoilt_images_are_refused_and_good_ones_are_not(digits: Trial, name: str, change: object) -> None:
    good, details = verdict(digits, images(140, 300), "marginals")
    assert good.passed or good.severity == "warning"
    names = [column["name"] for column in details["columns"]]
    assert {"image.laplacian_var", "image.mean"} <= set(names)
    assert "image.chroma" not in names  # grey images have none, so that any would be all the difference there can be
    spoilt, _ = verdict(digits, images(140, 300, change), "marginals")
    assert (spoilt.passed, spoilt.severity) == (False, "critical"), name
    assert " of image." in spoilt.sentence


def test_figures_for_a_report_hold_each_column_s_distribution_on_both_sides(tables: Trial) -> None:
    _, details = verdict(tables, linked_rows(400, 50), "marginals")
    assert details["classes"] == ["apple", "pear"]
    columns = {column["name"]: column for column in details["columns"]}
    assert set(columns) == {"size", "count", "shade", "ripe"}
    assert sum(columns["size"]["real"]) == pytest.approx(1, abs=0.001)
    assert len(columns["size"]["synthetic"]) == 20
    assert len(columns["shade"]["categories"]) == len(columns["shade"]["real"]) == 1  # the other is the rest


def test_a_class_of_fewer_than_five_rows_is_not_compared(tables: Trial) -> None:
    _, details = verdict(tables, linked_rows(100, 50, pears=0.04), "marginals")
    assert details["classes"] == ["apple"]
    result, _ = verdict(tables, linked_rows(4, 50, pears=0.5), "marginals")
    assert (result.passed, result.value) == (None, None)


def test_absurd_limits_are_refused() -> None:
    for settings in ({"warns": 0.5}, {"refuses": 1.5}, {"refuses_measured": 0.1}):
        with pytest.raises(ValidationError):
            Marginals(**settings)


def test_the_distance_of_numbers_is_that_of_kolmogorov_and_smirnov() -> None:
    draw = np.random.default_rng(0)
    values = np.round(np.append(draw.normal(0, 1, 40), draw.normal(1, 1, 30)), 1)  # with ties
    first = np.repeat([1 / 40, 0], [40, 30])
    second = np.repeat([0, 1 / 30], [40, 30])
    expected = ks_2samp(values[:40], values[40:]).statistic
    assert kolmogorov_smirnov(values, first[None], second[None]) == pytest.approx([expected])
    with_gap = np.append(values, np.nan)
    weights = [np.append(side, 0.5)[None] for side in (first, second)]
    assert kolmogorov_smirnov(with_gap, *weights) == pytest.approx([expected])


def test_the_distance_of_categories_is_half_the_sum_of_the_differences_of_all_shares() -> None:
    members = np.eye(3)[[0, 0, 1, 2, 0, 1, 1, 2]][:, :2]  # the third category is the rest
    first, second = np.repeat([[0.25, 0], [0, 0.25]], 4, axis=1)
    assert total_variation(members, first[None], second[None]) == pytest.approx([0.25])


@pytest.mark.parametrize("rows", [10, 40])
def test_real_rows_against_real_rows_are_hardly_ever_above_what_chance_allows(rows: int) -> None:
    """40 pairs of disjoint sets of wine; each has a chance of 1 in 101."""
    data = load_wine()
    draw = np.random.default_rng(2)
    columns = [Column(name, slice(i, i + 1)) for i, name in enumerate(data.feature_names)]
    above = 0
    for number in range(40):
        sets: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
        for label in range(3):
            chosen = data.data[draw.permutation(np.flatnonzero(data.target == label))[:rows]]
            sets[0][str(label)], sets[1][str(label)] = chosen[::2], chosen[1::2]
        sides = side_by_side(*(Numbers([c.name for c in columns], found) for found in sets), columns)
        usual, chance = within_chance(np.concatenate([distances(sides, *d) for d in sides.deals(100, str(number))]))
        real, synthetic = sides.weights
        above += worst_of(distances(sides, real[None], synthetic[None])[0], usual, chance, chance).refused
    assert above <= 3  # more have a chance of less than one in a thousand


def test_a_deal_has_as_many_rows_of_each_class_on_either_side() -> None:
    names = ["x"]
    rows = Numbers(names, {"a": np.zeros((9, 1)), "b": np.zeros((5, 1))})
    other = Numbers(names, {"a": np.zeros((6, 1)), "b": np.zeros((20, 1))})
    sides = side_by_side(rows, other, [Column("x", slice(0, 1))])
    for first, second in sides.deals(7, "seed"):
        assert np.allclose([first.sum(axis=1), second.sum(axis=1)], 1)
        assert np.allclose(first[:, sides.of_class == 0].sum(axis=1), 0.5)
        assert ((second[:, sides.of_class == 0] > 0).sum(axis=1) == 6).all()
        assert ((first > 0) != (second > 0)).all()


_PARTS = {"train": 300, "validation": 50, "test": 51}
