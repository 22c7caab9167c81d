"""Posterior predictive checks: p-values are uniform for good rows, and what a model misses is named."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _judged_sets import IMAGES, TABLE, Trial, image_rows, replaced, table_rows
from pydantic import ValidationError
from scipy.stats import kstest
from sklearn.datasets import load_wine

from augment.checks._class_numbers import _add_by_class, numbers_of_set
from augment.checks._contract import Evidence, ShardRecord
from augment.checks._discrepancies import STATISTICS, Discrepancies, compare, corrected
from augment.checks.posterior_predictive import PosteriorPredictive
from augment.config import RunConfig
from augment.errors import InputError
from augment.gates import GATES, blessed, load_gates
from augment.store import ArtifactRef
from augment.validation import active_checks
from flows.listing import check_rows

QUICK = PosteriorPredictive(replicates=300)
SHARD_NUMBERS = itertools.count()  # a shard of the same number is the same artifact of a store


def of_sets(real: np.ndarray, synthetic: np.ndarray, *seed: str, sets: int = 200) -> tuple[dict[str, float], float]:
    """The p-value of each discrepancy, and the smallest corrected one."""
    names = [f"x{i}" for i in range(real.shape[1])]
    shares = np.zeros(len(names), bool)
    found = compare(real, synthetic, names, shares, STATISTICS, sets, *seed)
    smallest = corrected(found.surprise[0], found.surprise.max(axis=1)).min()
    return dict(zip(found.titles, found.p.tolist(), strict=True)), float(smallest)


def audited(trial: Trial, rows: pa.Table, check: PosteriorPredictive = QUICK) -> tuple[Any, dict[str, Any]]:
    """The result of the gate and its details."""
    folder = trial.audit([trial.shard(rows, next(SHARD_NUMBERS))], checks=[check])
    gates = {result.gate: result for result in load_gates(folder / "gates.json")}
    details = json.loads((folder / "metrics.json").read_text()).get("details", {})
    return gates["posterior_predictive"], details.get("posterior_predictive", {})


def drawn(rows: int = 160, seed: int = 50) -> pa.Table:
    return table_rows(rows, seed, synthetic=True)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial.of_tables(tmp_path_factory.mktemp("tables"))


@pytest.mark.parametrize(("real", "synthetic"), [(40, 40), (60, 30), (30, 90)])
def test_p_values_of_real_rows_against_real_rows_are_uniform(real: int, synthetic: int) -> None:
    """Of 150 pairs of disjoint sets of one skewed distribution. Quantiles and spreads of few rows are nearly so."""
    draw = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    for number in range(150):
        rows = draw.gamma(4.0, size=(real + synthetic, 3))
        for title, p in of_sets(rows[:real], rows[real:], str(number))[0].items():
            found.setdefault(title, []).append(p)
    assert len(found) == 4 * 3 + 1
    for title, p in found.items():
        exact = title.startswith(("mean", "distance"))
        assert kstest(p, "uniform").statistic < (0.14 if exact else 0.24), title  # a chance of 0.5 % of uniform ones
        assert np.mean((np.array(p) < 0.05) | (np.array(p) > 0.95)) < (0.18 if exact else 0.26), title


@pytest.mark.parametrize(("real", "synthetic"), [(8, 100), (60, 12)])
def test_the_corrected_p_value_raises_no_more_false_alarms_than_stated(real: int, synthetic: int) -> None:
    """100 sets of wine's 178 rows against others of them, 13 columns that hang together: one class is alpha's share."""
    rows = load_wine().data
    draw = np.random.default_rng(1)
    smallest = []
    for number in range(100):
        order = draw.permutation(len(rows))[: real + synthetic]
        smallest.append(of_sets(rows[order[:real]], rows[order[real:]], str(number), sets=100)[1])
    assert sum(p < 0.05 for p in smallest) <= 11  # more have a chance of 0.4 % where 5 are expected
    assert kstest(smallest, "uniform").pvalue > 0.005


def test_a_set_of_weights_has_the_statistics_of_its_rows() -> None:
    rows = np.random.default_rng(0).normal(3.0, 2.0, (7, 2))
    rows[2, 1] = np.nan
    discrepancies = Discrepancies(rows, ["a", "b"], np.array([False, False]), STATISTICS)
    chosen = [0, 2, 3, 5, 6]
    weights = np.isin(np.arange(7), chosen).astype(float)
    found = dict(zip(discrepancies.titles, discrepancies.of(weights[None] / 5)[0], strict=True))
    a, b = rows[chosen, 0], rows[[0, 3, 5, 6], 1]
    assert found["mean of a"] == pytest.approx(a.mean())
    assert found["mean of b"] == pytest.approx(b.mean())
    assert found["spread of a"] == pytest.approx(a.std(ddof=1))
    assert found["spread of b"] == pytest.approx(b.std(ddof=1))
    assert found["10 % quantile of a"] == pytest.approx(a.min())
    assert found["90 % quantile of a"] == pytest.approx(a.max())
    scaled = (rows - np.nanmean(rows, axis=0)) / np.nanstd(rows, axis=0)
    points = np.nan_to_num(scaled[chosen])
    pairs = [np.linalg.norm(points[i] - points[j]) for i in range(5) for j in range(i)]
    assert found["distance between rows"] == pytest.approx(np.mean(pairs))


def test_a_row_that_a_set_holds_twice_is_no_pair_with_itself() -> None:
    """Sets drawn with repeats have the spread and the distance of the rows that they are drawn from, on average."""
    rows = np.random.default_rng(0).normal(size=(12, 1))
    discrepancies = Discrepancies(rows, ["a"], np.array([False]), ["spread", "distance"])
    times = np.random.default_rng(1).multinomial(12, np.full(12, 1 / 12), 4_000)
    of_rows = discrepancies.of(np.full((1, 12), 1 / 12))[0]
    of_sets = discrepancies.of(times / 12)
    assert np.sqrt((of_sets[:, 0] ** 2).mean()) == pytest.approx(of_rows[0], rel=0.03)
    assert of_sets[:, 1].mean() == pytest.approx(of_rows[1], rel=0.03)


def test_good_rows_pass_and_real_rows_give_the_floor(tables: Trial) -> None:
    result, details = audited(tables, drawn())
    assert result.passed
    assert result.limit == 0.01
    assert result.value > 0.01 < result.floor
    assert details["not_judged"] == []
    titles = {pair["discrepancy"] for pair in details["most_surprising"] if pair["class"] == "apple"}
    of_numbers = {
        f"{s} of {c}" for s in ("mean", "spread", "10 % quantile", "90 % quantile") for c in ("size", "count")
    }
    shares = {title for title in titles if title.startswith("share of ")}
    assert titles - shares == {*of_numbers, "distance between rows"}
    assert {title.partition(" = ")[0] for title in shares} == {
        "share of shade", "share of ripe", "share of missing size",
    }  # fmt: skip


def of_class(rows: pa.Table, fruit: str, name: str, change: Any) -> pa.Table:
    """``rows`` with the values of one column changed in one class."""
    labels = rows["fruit"].to_pylist()
    values = rows[name].to_pylist()
    changed = [change(v) if label == fruit and v is not None else v for v, label in zip(values, labels, strict=True)]
    return replaced(rows, name, changed)


@pytest.mark.parametrize(
    ("column", "change", "discrepancy"),
    [
        ("size", lambda value: value + 0.8, "mean of size"),
        ("size", lambda value: 5 + (value - 5) / 3, "spread of size"),
        ("count", lambda value: value if value < 500 else value - 500, "90 % quantile of count"),
        ("shade", lambda _value: "red", "share of shade = "),
    ],
)
def test_what_a_model_misses_is_named_with_its_class(tables: Trial, column: str, change: Any, discrepancy: str) -> None:
    """A shifted mean, too small a spread, a missing mode of numbers and of names."""
    result, details = audited(tables, of_class(drawn(), "pear", column, change))
    assert result.passed is False
    first = details["most_surprising"][:3]
    assert {pair["class"] for pair in first if pair["corrected_p"] < 0.01} == {"pear"}
    assert any(pair["discrepancy"].startswith(discrepancy) for pair in first)
    assert "class 'pear'" in result.sentence


def test_rows_that_are_all_alike_have_too_small_a_distance(tmp_path: Path) -> None:
    trial = Trial.of_images(tmp_path)
    rows = image_rows(160, 60)
    ones = rows.filter(pa.array(np.asarray(rows["digit"]) == 1))["image"].to_pylist()
    collapsed = rows["image"].to_pylist()[:80] + [ones[i % 3] for i in range(80)]
    result, details = audited(trial, replaced(rows, "image", collapsed))
    assert result.passed is False
    assert details["most_surprising"][0]["class"] == "1"
    distance = next(p for p in details["most_surprising"] if p["discrepancy"] == "distance between rows")
    assert distance["class"] == "1"
    assert distance["p"] < 0.01  # no replicated set is as wide as the real one
    assert audited(trial, rows)[0].passed


def test_the_check_is_off_by_default_and_then_nowhere_mentioned(tables: Trial) -> None:
    assert "posterior_predictive" not in [check.kind for check in active_checks([])]
    folder = tables.audit([tables.shard(drawn(), next(SHARD_NUMBERS))])
    assert [result.gate for result in load_gates(folder / "gates.json")] == list(GATES)
    assert "posterior_predictive" not in "".join(p.read_text() for p in folder.rglob("*.json"))
    off = [PosteriorPredictive(enabled=False)]
    assert [
        result.gate
        for result in load_gates(tables.audit([tables.shard(drawn(), next(SHARD_NUMBERS))], checks=off) / "gates.json")
    ] == [*GATES]
    assert {row["kind"] for row in check_rows() if not row["default"]} == {"likelihood", "posterior_predictive"}


def test_a_run_file_that_lists_it_gets_it_after_the_gate_joint_as_a_warning(tables: Trial) -> None:
    config = RunConfig.model_validate({"checks": [{"kind": "posterior_predictive", "replicates": 300}]})
    narrow = of_class(drawn(), "pear", "size", lambda value: 5 + (value - 5) / 3)
    gates = load_gates(tables.audit([tables.shard(narrow, next(SHARD_NUMBERS))], checks=config.checks) / "gates.json")
    names = [result.gate for result in gates]
    assert names == [*GATES[:9], "posterior_predictive", *GATES[9:]]
    assert names[8] == "joint"
    assert (gates[9].passed, gates[9].severity) == (False, "warning")
    assert blessed(gates)


def test_it_can_refuse(tables: Trial) -> None:
    strict = PosteriorPredictive(replicates=300, refuses=True)
    shifted = of_class(drawn(), "pear", "size", lambda value: value + 0.8)
    assert audited(tables, shifted, strict)[0].severity == "critical"
    assert audited(tables, drawn(), strict)[0].passed


def test_rejected_rows_count_and_rows_drawn_later_do_not(tables: Trial) -> None:
    good, bad = drawn(), of_class(drawn(seed=51), "pear", "size", lambda value: value + 3)
    later = tables.audit([tables.shard(good, 900), tables.shard(bad, 901, 160, 1)], checks=[QUICK])
    first = tables.audit([tables.shard(good, 902)], checks=[QUICK])
    figures = [json.loads((folder / "metrics.json").read_text())["details"] for folder in (later, first)]
    assert figures[0] == figures[1]


def test_of_each_class_a_bounded_number_of_rows_is_kept_without_the_chunk_they_came_in() -> None:
    parts: dict[str, list[np.ndarray]] = {}
    for chunk in range(20):
        labels = np.array(["often"] * 90 + ["rare"] * 10, dtype=object)
        _add_by_class(parts, labels, {"value": np.arange(100.0) + 100 * chunk}, 25)
    assert all(kept.base is None for found in parts.values() for kept in found)
    assert {name: [len(kept) for kept in found] for name, found in parts.items()} == {
        "often": [25],
        "rare": [10, 10, 5],
    }
    assert np.concatenate(parts["rare"])[-1] == 294


def test_a_shard_whose_classes_are_full_is_not_read(tmp_path: Path) -> None:
    record = ShardRecord(
        shard=ArtifactRef(stage="generate", key="0" * 32, sha256="0" * 64),
        round=0,
        rows=12,
        drawn={"apple": 9, "pear": 3},
        accepted={},
        rejected={},
        generator_ids=[],
        first_index=0,
        last_index=11,
        malformed=[],
        judged=[],
    )
    rows = pa.table({"label": ["apple"] * 9 + ["pear"] * 3, "feature.size": np.arange(12.0)})
    pq.write_table(rows, tmp_path / "features.parquet")
    absent = tmp_path / "not there"
    evidence = Evidence(
        schema=TABLE,
        real=record.shard,
        model=record.shard,
        real_path=absent,
        model_path=absent,
        shards=[record.shard] * 2,
        shard_paths=[absent, absent],
        judged_paths=[tmp_path, absent],
        records=[record, record],
        wanted={"apple": 18, "pear": 6},
    )
    found = numbers_of_set(evidence, "gate", ["feature.size"], {}, 3)
    assert {name: kept[:, 0].tolist() for name, kept in found.classes.items()} == {
        "apple": [0, 1, 2],
        "pear": [9, 10, 11],
    }
    with pytest.raises(FileNotFoundError):
        numbers_of_set(evidence, "gate", ["feature.size"], {}, 4)


def test_a_class_of_few_rows_is_left_out_and_nothing_is_judged_without_any(tables: Trial) -> None:
    rows = drawn()
    few = pa.concat_tables([rows.slice(0, 80), rows.slice(80, 5)])
    assert audited(tables, few)[1]["not_judged"] == ["pear"]
    result, details = audited(tables, rows.slice(77, 6))
    assert (result.passed, result.value, details) == (None, None, {})
    assert "No class has 8 real and as many synthetic rows" in result.sentence


def test_real_rows_that_differ_among_themselves_lower_the_limit(tmp_path: Path) -> None:
    """Validation rows from elsewhere: synthetic rows need be no more like the training rows than those are."""
    parts = {"train": table_rows(200, 1), "validation": table_rows(60, 2), "test": table_rows(20, 3)}
    parts["validation"] = of_class(parts["validation"], "apple", "size", lambda value: value + 0.8)
    result, _ = audited(Trial.of(tmp_path, TABLE, parts), drawn())
    assert result.limit == result.floor < 0.01


def test_nothing_is_judged_where_real_rows_differ_as_much_as_rows_can(tmp_path: Path) -> None:
    """The smallest p-value that there is would be the limit, and whatever was drawn would pass."""
    parts = {"train": table_rows(200, 1), "validation": table_rows(60, 2), "test": table_rows(20, 3)}
    parts["validation"] = of_class(parts["validation"], "apple", "size", lambda value: value + 9)
    result, details = audited(Trial.of(tmp_path, TABLE, parts), drawn())
    assert (result.passed, result.value, details) == (None, None, {})
    assert "look at how the data are split" in result.sentence


def test_few_validation_rows_give_way_to_halves_of_the_training_rows(tmp_path: Path) -> None:
    none = table_rows(10, 2).slice(0, 0)
    parts = {"train": table_rows(100, 1), "validation": none, "test": none}
    result, _ = audited(Trial.of(tmp_path, TABLE, parts), drawn())
    assert result.passed
    assert result.floor > 0.01


def test_the_figures_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        trial = Trial.of_images(tmp_path / name)
        folder = trial.audit([trial.shard(image_rows(60, 60))], checks=[QUICK])
        found.append((folder / "metrics.json").read_bytes())
    assert found[0] == found[1]


def test_measures_can_be_chosen_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    trial = Trial.of_images(tmp_path)
    chosen = PosteriorPredictive(replicates=300, measures=("image.mean",), statistics=("mean", "spread"))
    _, details = audited(trial, image_rows(60, 60), chosen)
    assert {p["discrepancy"] for p in details["most_surprising"]} == {"mean of image.mean", "spread of image.mean"}
    with pytest.raises(InputError, match=r"measures names 'image\.ink', which these data do not have; they have: im"):
        audited(trial, image_rows(60, 60), PosteriorPredictive(measures=("image.ink",)))
    assert IMAGES.label == "digit"


def test_an_alpha_that_no_p_value_can_reach_is_refused() -> None:
    with pytest.raises(ValidationError, match="raise replicates to 1 / alpha at least"):
        PosteriorPredictive(alpha=0.001, replicates=300)
