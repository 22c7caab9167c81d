"""Which breaks in the way from synthetic rows back to the training rows refuse a set."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _judged_sets import TABLE, Trial, failed, model_artifact, real_artifact, replaced, table_rows

from augment import validation
from augment.gates import load_gates
from augment.store import MANIFEST, ArtifactRef, Store

_PARTS = (("train", 1), ("validation", 2), ("test", 3))


@pytest.fixture
def tables(tmp_path: Path) -> Trial:
    return Trial.of_tables(tmp_path)


def drawn(rows: int = 300, seed: int = 50) -> pa.Table:
    return table_rows(rows, seed, synthetic=True)


def test_a_model_of_other_training_rows_fails_lineage(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    real = real_artifact(store, TABLE, {part: table_rows(60, seed) for part, seed in _PARTS})
    trial = Trial(store, TABLE, real, model_artifact(store, real, train_rows_sha256="b" * 64))
    gates = trial.gates(drawn(60))
    assert failed(gates) == ["lineage"]
    assert "the model's training rows are not the training part" in gates["lineage"].sentence
    assert gates["structure"].passed is None


def test_a_model_trained_under_another_key_of_the_same_data_is_no_break_in_the_lineage(tables: Trial) -> None:
    tables.real = again(tables.store, tables.real)
    assert failed(tables.gates(drawn(60))) == []


def test_a_shard_judged_under_another_key_of_the_same_rows_is_no_break_in_the_lineage(tables: Trial) -> None:
    shard = tables.shard(drawn(60))
    reference, judged, active = tables.judge([shard])
    other = again(tables.store, shard)
    assert validation.judge_shard(other, reference, tables.real, active, tables.store) == judged[0]
    gates = {r.gate: r for r in load_gates(tables.audit([other]) / "gates.json")}
    assert failed(gates) == []


def test_a_shard_of_other_rows_than_were_judged_fails_lineage(tables: Trial) -> None:
    reference, judged, active = tables.judge([tables.shard(drawn(60))])
    other = tables.shard(drawn(60, seed=51), number=1)
    audit = validation.conclude(
        tables.real, reference, tables.model, {"apple": 30, "pear": 30}, [other], judged, active, tables.store
    )
    gates = {r.gate: r for r in load_gates(tables.store.path(audit) / "gates.json")}
    assert failed(gates) == ["lineage"]


def test_a_training_row_that_is_also_a_test_row_fails_lineage(tmp_path: Path) -> None:
    parts = {"train": table_rows(60, 1), "validation": table_rows(60, 2), "test": table_rows(60, 1).slice(4, 2)}
    gates = Trial.of(tmp_path, TABLE, parts).gates(drawn(60))
    assert "2 training rows have the same content as a validation or test row" in gates["lineage"].sentence
    assert failed(gates) == ["lineage"]


def with_parents(trial: Trial, parents: list[list[str] | None], turn: int = 0) -> ArtifactRef:
    """A shard of two apples and two pears that name these parents; apples are training rows 0 to 149, pears to 299."""
    ref = trial.shard(pa.concat_tables([drawn().slice(0, 2), drawn().slice(150, 2)]), turn=turn, first=100 * turn)
    path = trial.store.path(ref) / "shard.parquet"
    pq.write_table(replaced(pq.read_table(path), "parent_ids", parents), path)
    return ref


@pytest.mark.parametrize(
    ("parents", "foreign"),
    [
        ([["real-0"], ["real-149", "real-1"], ["real-150"], ["real-299"]], 0),
        ([["real-0"], None, None, None], 0),
        ([["real-150"], None, ["real-149"], None], 2),  # rows of the other class
        ([["real-1", "real-150"], None, None, None], 1),
        ([["real-300"], ["real-340"], ["real-399"], None], 3),  # validation and test rows
        ([["real-400"], ["real--1"], ["syn-0"], ["150"]], 4),
        ([[], [None], ["real-99999999999999999999"], ["real-150 "]], 4),
    ],
)
def test_every_parent_is_a_training_row_of_the_rows_own_class(
    tables: Trial, parents: list[list[str] | None], foreign: int
) -> None:
    gates = {r.gate: r for r in load_gates(tables.audit([with_parents(tables, parents)]) / "gates.json")}
    said = f"rows with a parent that is no training row of their class: {foreign}"
    assert (gates["lineage"].passed, said in gates["lineage"].sentence) == (foreign == 0, foreign > 0)


def test_parents_of_rows_that_were_drawn_again_count_too(tables: Trial) -> None:
    shards = [
        with_parents(tables, [["real-0"], None, None, None]),
        with_parents(tables, [["real-310"], *[None] * 3], 1),
    ]
    gates = {r.gate: r for r in load_gates(tables.audit(shards) / "gates.json")}
    assert "no training row of their class: 1" in gates["lineage"].sentence


def test_parents_need_no_class_where_the_data_have_none(tmp_path: Path) -> None:
    schema = TABLE.model_copy(update={"label": None, "classes": (), "columns": TABLE.columns[:-1]})
    parts = {part: table_rows(60, seed).select(schema.arrow_schema.names) for part, seed in _PARTS}
    trial = Trial.of(tmp_path, schema, parts)
    ref = trial.shard(drawn(2).select(schema.arrow_schema.names))
    path = trial.store.path(ref) / "shard.parquet"
    pq.write_table(replaced(pq.read_table(path), "parent_ids", [["real-59"], ["real-60"]]), path)
    gates = {r.gate: r for r in load_gates(trial.audit([ref], {"": 2}) / "gates.json")}
    assert "no training row of their class: 1" in gates["lineage"].sentence


def again(store: Store, ref: ArtifactRef) -> ArtifactRef:
    """The same bytes under another key."""

    def fill(folder: Path) -> None:
        for file in store.path(ref).iterdir():
            if file.name != MANIFEST:
                shutil.copyfile(file, folder / file.name)

    return store.write(ref.stage, f"{ref.key}-again", fill)
