from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _judged_sets import IMAGES, TABLE, Trial, failed, image_rows, replaced, table_rows
from pydantic import ValidationError

import augment.checks
from augment._plugins import find_plugins
from augment._png import encode_pngs
from augment.checks._contract import Check
from augment.checks._repeats import limit_above, rows_may_repeat
from augment.checks.class_plan import ClassPlan
from augment.checks.sample_quality import SampleQuality
from augment.checks.structure import Structure
from augment.gates import GATES, ON_REQUEST, load_gates
from augment.schema import DatasetSchema


@pytest.fixture
def tables(tmp_path: Path) -> Trial:
    return Trial.of_tables(tmp_path)


@pytest.fixture
def images(tmp_path: Path) -> Trial:
    return Trial.of_images(tmp_path)


def drawn(rows: int = 300, seed: int = 50) -> pa.Table:
    return table_rows(rows, seed, synthetic=True)


def coarse(rows: int, seed: int, smallest: int = 0) -> pa.Table:
    """Rows of few values, most of which occur again."""
    sizes = np.random.default_rng(seed).integers(smallest, smallest + 9, rows).astype(float)
    return replaced(replaced(drawn(rows, seed), "size", sizes), "count", [1] * rows)


def black_images(rows: int) -> pa.Table:
    files = encode_pngs(np.zeros((rows, 8, 8), np.uint8))
    return replaced(image_rows(rows, 3), "image", [{"bytes": data, "path": None} for data in files])


def as_drawn(rows: pa.Table) -> pa.Table:
    """Real rows as a generator would give them: ignored columns are empty."""
    return replaced(rows, "note", [None] * rows.num_rows)


def test_each_check_is_named_like_a_gate() -> None:
    assert set(find_plugins(augment.checks, Check)) <= {*GATES, *ON_REQUEST}


def test_clean_tables_pass_every_gate(tables: Trial) -> None:
    gates = tables.gates(drawn(150), drawn(150, seed=51))
    assert [name for name, result in gates.items() if result.passed] == [
        "lineage", "structure", "test_leak", "duplicates", "class_plan", "sample_quality", "marginals", "joint",
    ]  # fmt: skip
    assert gates["worth"].passed is None
    assert "not measured" in gates["worth"].sentence


def test_clean_images_pass_every_gate(images: Trial) -> None:
    assert failed(images.gates(image_rows(200, 20))) == []


def test_a_set_of_training_rows_fails_duplicates(tables: Trial) -> None:
    gates = tables.gates(as_drawn(tables.part("train")))
    assert failed(gates) == ["duplicates"]
    assert gates["duplicates"].value == 1.0
    assert "100.00% of the synthetic rows equal a training row" in gates["duplicates"].sentence


def test_one_copied_training_image_fails_duplicates(images: Trial) -> None:
    copied = pa.concat_tables([images.part("train").slice(0, 1), image_rows(199, 20)])
    assert failed(images.gates(copied)) == ["duplicates"]


def test_repeated_images_fail_duplicates(images: Trial) -> None:
    rows = image_rows(100, 20)
    gates = images.gates(rows, rows)  # the second shard repeats the first
    assert failed(gates) == ["duplicates", "class_plan"]
    assert gates["duplicates"].value == 0.5


def test_repeated_table_rows_fail_duplicates_where_real_rows_do_not_repeat(tables: Trial) -> None:
    rows = drawn(40)
    assert "duplicates" in failed(tables.gates(*[rows] * 5))


def test_table_rows_may_repeat_as_often_as_real_ones_and_are_kept(tmp_path: Path) -> None:
    parts = {"train": coarse(300, 1), "validation": coarse(40, 2).slice(0, 0), "test": coarse(60, 3).slice(0, 0)}
    trial = Trial.of(tmp_path, TABLE, parts)
    gates = trial.gates(coarse(300, 4))
    assert failed(gates) == []
    assert gates["duplicates"].floor is not None
    assert gates["duplicates"].floor > 0.5
    assert gates["class_plan"].value == 1.0


def test_test_rows_in_the_set_fail_test_leak_and_are_not_accepted(tables: Trial) -> None:
    leaked = pa.concat_tables([as_drawn(tables.part("test")).slice(20, 20), drawn(280)])
    gates = tables.gates(leaked)
    assert failed(gates) == ["test_leak", "class_plan"]
    assert gates["test_leak"].sentence.startswith(
        "20 of 300 synthetic rows equal a validation or test row; 3 are allowed"
    )


def test_table_rows_may_equal_held_out_ones_as_often_as_real_rows_equal_each_other(tmp_path: Path) -> None:
    parts = {part: coarse(rows, seed) for part, rows, seed in (("train", 300, 1), ("validation", 40, 2))}
    known = parts["train"].num_rows + parts["validation"].num_rows
    trial = Trial.of(tmp_path, TABLE, {**parts, "test": coarse(60, 3)})
    reference, _, _ = trial.judge([])
    learned = json.loads((trial.store.path(reference) / "reference.json").read_text())["figures"]["test_leak"]
    names = pa.concat_tables(parts.values()).drop_columns(["note", "fruit"]).to_pylist()
    counted = Counter(tuple(row.values()) for row in names)
    assert learned == {
        "seen_rows": known,
        "equal_rows": sum(number for number in counted.values() if number > 1),
        "held_out_share": 0.25,
    }


@pytest.mark.parametrize("kind", ["tables", "images"])
def test_what_test_rows_contain_changes_no_limit(kind: str, tmp_path: Path) -> None:
    schema, seen, synthetic = TABLE, {"train": coarse(300, 1), "validation": coarse(40, 2, 10)}, coarse(200, 4)
    unlike = replaced(coarse(60, 3, 20), "count", [90_000] * 60)
    if kind == "images":
        schema, seen, synthetic = (
            IMAGES,
            {"train": image_rows(200, 1), "validation": image_rows(20, 2)},
            image_rows(9, 4),
        )
        unlike = black_images(60)

    def learned(name: str, test: pa.Table) -> tuple[dict[str, Any], dict[str, tuple[float | None, float | None]]]:
        trial = Trial.of(tmp_path / name, schema, {**seen, "test": test})
        reference, _, _ = trial.judge([])
        figures = json.loads((trial.store.path(reference) / "reference.json").read_text())["figures"]
        del figures["lineage"]  # a training row among the test rows is an error, not a limit
        return figures, {gate: (result.floor, result.limit) for gate, result in trial.gates(synthetic).items()}

    usual, limits = learned("usual", coarse(60, 5, 20) if kind == "tables" else image_rows(60, 5))
    assert limits["sample_quality"][0] is not None
    assert learned("unlike", unlike) == (usual, limits)
    assert learned("copies", seen["train"].slice(0, 60))[0] == usual


def test_one_test_image_in_the_set_fails_test_leak(images: Trial) -> None:
    leaked = pa.concat_tables([images.part("test").slice(0, 1), image_rows(199, 20)])
    gates = images.gates(
        leaked,
    )
    assert "test_leak" in failed(gates)
    assert gates["test_leak"].limit == 0


def test_a_class_left_out_fails_the_class_plan(tables: Trial) -> None:
    only_apples = drawn(300).slice(0, 150)
    gates = tables.gates(only_apples, wanted={"apple": 150, "pear": 150})
    assert failed(gates) == ["class_plan"]
    assert gates["class_plan"].sentence == (
        "Class 'pear' got 0 of 150 rows, the smallest share of all; 98% are required."
    )


def test_more_rows_than_planned_fail_the_class_plan(tables: Trial) -> None:
    assert failed(tables.gates(drawn(), wanted={"apple": 149, "pear": 150})) == ["class_plan"]


def test_zero_rows_fail_structure_and_leave_the_rest_unmeasured(tables: Trial) -> None:
    gates = tables.gates(drawn(0), wanted={"apple": 10, "pear": 10})
    assert failed(gates) == ["structure"]
    assert gates["structure"].sentence.startswith("Nothing was generated")
    assert gates["class_plan"].passed is None
    assert gates["class_plan"].sentence == "Not measured, because the gate structure failed."


def test_no_shards_at_all_fail_structure(tables: Trial) -> None:
    assert failed(tables.gates(wanted={"apple": 10, "pear": 10})) == ["structure"]


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("size", float("nan"), "not finite"),
        ("size", float("inf"), "not finite"),
        ("count", None, "missing"),
        ("shade", "blue", "unknown category"),
        ("shade", "", "unknown category"),
        ("ripe", None, "missing"),
        ("fruit", "plum", "unknown label"),
        ("fruit", None, "unknown label"),
        ("note", "a real note", "not null"),
    ],
)
def test_a_malformed_value_fails_structure(tables: Trial, column: str, value: object, fault: str) -> None:
    rows = drawn()
    values = rows[column].to_pylist()
    values[7] = value
    gates = tables.gates(replaced(rows, column, values))
    assert failed(gates) == ["structure"]
    assert f"{fault} in 1 row" in gates["structure"].sentence


def test_a_missing_number_is_no_fault_where_training_rows_lack_some(tables: Trial) -> None:
    rows = drawn()
    assert rows["size"].null_count
    assert failed(tables.gates(rows)) == []


@pytest.mark.parametrize("broken", ["truncated", "empty", "larger"])
def test_an_image_that_is_broken_or_of_another_size_fails_structure(images: Trial, broken: str) -> None:

    rows = image_rows(200, 20)
    entries = rows["image"].to_pylist()
    whole = entries[5]["bytes"]
    entries[5]["bytes"] = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "larger": encode_pngs(np.zeros((1, 9, 9), np.uint8))[0],
    }[broken]
    shard = images.shard(rows)
    written = pq.read_table(images.store.path(shard) / "shard.parquet")
    spoilt = replaced(written, "image", entries)
    other = images.store.write("generate", broken, lambda folder: _copy(images, shard, folder, spoilt))
    gates = {r.gate: r for r in load_gates(images.audit([other]) / "gates.json")}
    assert failed(gates) == ["structure"]
    assert ("other image" if broken == "larger" else "broken image") in gates["structure"].sentence


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: replaced(t, "sample_id", [f"real-{i}" for i in range(t.num_rows)]), "bad id in 300 rows"),
        (lambda t: replaced(t, "content_hash", ["0" * 32] * t.num_rows), "bad hash in 300 rows"),
        (lambda t: replaced(t, "gen_index", [0, *range(t.num_rows - 1)]), "repeated id in 1 row"),
        (lambda t: t.drop_columns(["size"]), "the column 'size' is missing"),
        (lambda t: t.set_column(1, "count", t["count"].cast(pa.float64())), "is double instead of int64"),
        (lambda t: t.slice(1), "a shard of 300 rows holds 299"),
    ],
)
def test_an_altered_shard_fails_structure(tables: Trial, change: object, fault: str) -> None:
    shard = tables.shard(drawn())
    altered = change(pq.read_table(tables.store.path(shard) / "shard.parquet"))  # type: ignore[operator]
    other = tables.store.write("generate", "altered", lambda folder: _copy(tables, shard, folder, altered))
    gates = {r.gate: r for r in load_gates(tables.audit([other]) / "gates.json")}
    assert failed(gates) == ["structure"]
    assert fault in json.dumps(gates["structure"].sentence)


def test_two_shards_with_the_same_indices_fail_structure(tables: Trial) -> None:
    shards = [tables.shard(drawn(100)), tables.shard(drawn(100, seed=51), number=1, first=99)]
    gates = {r.gate: r for r in load_gates(tables.audit(shards) / "gates.json")}
    assert failed(gates) == ["structure"]


def test_values_outside_the_real_range_fail_sample_quality(tables: Trial) -> None:
    rows = drawn()
    gates = tables.gates(replaced(rows, "count", [50_000] * 30 + rows["count"].to_pylist()[30:]))
    assert failed(gates) == ["class_plan", "sample_quality"]
    assert gates["sample_quality"].value == pytest.approx(0.9)
    assert "count" in gates["sample_quality"].sentence


def test_images_of_another_brightness_fail_sample_quality(images: Trial) -> None:
    rows = image_rows(200, 20)
    dark = np.random.default_rng(0).integers(0, 20, (200, 8, 8)).astype(np.uint8)
    gates = images.gates(replaced(rows, "image", [{"bytes": data, "path": None} for data in encode_pngs(dark)]))
    assert "sample_quality" in failed(gates)


def test_a_table_without_numbers_leaves_sample_quality_unmeasured(tmp_path: Path) -> None:
    schema = DatasetSchema(
        columns=tuple(c for c in TABLE.columns if c.kind != "ignore"), label="fruit", classes=TABLE.classes
    )
    names = DatasetSchema(
        columns=tuple(c for c in schema.columns if c.kind in ("categorical", "boolean")),
        label="fruit",
        classes=TABLE.classes,
    )
    parts = {part: table_rows(80, seed).select(names.arrow_schema.names) for part, seed in _PARTS}
    gates = Trial.of(tmp_path, names, parts).gates(table_rows(80, 9).select(names.arrow_schema.names))
    assert gates["sample_quality"].passed is None


def test_rows_of_another_generator_fail_lineage(tables: Trial) -> None:
    shard = tables.shard(drawn(60))
    written = pq.read_table(tables.store.path(shard) / "shard.parquet")
    other = replaced(written, "generator_id", ["f" * 12] * 60)
    other = replaced(other, "sample_id", [f"syn-{'f' * 12}-0-{i}" for i in range(60)])
    foreign = tables.store.write("generate", "foreign", lambda folder: _copy(tables, shard, folder, other))
    gates = {r.gate: r for r in load_gates(tables.audit([foreign]) / "gates.json")}
    assert failed(gates) == ["lineage"]


def test_a_mandatory_check_cannot_be_left_out() -> None:
    with pytest.raises(ValidationError, match="the check structure cannot be left out"):
        Structure(enabled=False)
    assert SampleQuality(enabled=False).enabled is False


@pytest.mark.parametrize("setting", [{"inside": 1.5}, {"inside": float("nan")}, {"tail": 0.5}, {"widen": -1}])
def test_absurd_limits_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SampleQuality(**setting)  # type: ignore[arg-type]


def test_limits_can_be_amended(tables: Trial) -> None:
    rows = drawn(300)
    reference, judged, active = tables.judge([tables.shard(rows.slice(0, 140))], [ClassPlan(delivered=0.9)])
    assert next(check for check in active if check.kind == "class_plan") == ClassPlan(delivered=0.9)
    assert reference.stage == "reference"
    assert len(judged) == 1


def test_images_never_repeat_by_chance_and_tables_may() -> None:
    assert not rows_may_repeat(IMAGES)
    assert rows_may_repeat(TABLE)


def test_a_limit_above_a_floor_forgives_three_standard_errors() -> None:
    assert limit_above(0.0, 0.01, 100, 100) == 0.01
    assert limit_above(0.3, 0.02, 1000, 1000) == pytest.approx(0.32 + 3 * (0.3 * 0.7 * 0.002) ** 0.5)
    assert limit_above(0.99, 0.05, 10, 10) == 1.0


_PARTS = (("train", 1), ("validation", 2), ("test", 3))


def _copy(trial: Trial, shard: object, folder: Path, table: pa.Table) -> None:
    """An altered copy of a shard."""
    info = (trial.store.path(shard) / "shard.json").read_text()  # type: ignore[arg-type]
    pq.write_table(table, folder / "shard.parquet")
    (folder / "shard.json").write_text(info)
