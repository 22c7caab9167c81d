"""Every known fault is stopped by the gate that is meant for it, good rows by none.

The gate that a fault is made for must be among those that refuse the set; where no other gate sees the fault, it must
be the only one (slow: all gates look). It need not be the first: what a gate rejects is missing for class_plan.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _fault_rows import digits, orchard
from _faults import OF_IMAGES, OF_TABLES, Court, artefact_everywhere, clean, only, orchard_court, refusing
from _judged_sets import TABLE, Trial, failed, model_artifact, real_artifact, table_rows

from augment.ingest import ingest
from augment.store import Store


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Court:
    return Court(tmp_path_factory.mktemp("images"), digits(classes=5))


@pytest.fixture(scope="module")
def tables() -> Court:
    return orchard_court()


@pytest.mark.parametrize("kind", ["images", "tables"])
def test_fresh_real_rows_pass_every_gate(kind: str, request: pytest.FixtureRequest) -> None:
    gates = request.getfixturevalue(kind).gates(clean)
    assert [name for name, gate in gates.items() if gate.passed is False] == []
    assert {name for name, gate in gates.items() if gate.passed is None} == {"worth", "consumer_smoke", "regression"}


@pytest.mark.parametrize(
    "fault",
    [pytest.param(n, marks=[pytest.mark.slow] if case.gate == "shortcut" else []) for n, case in OF_IMAGES.items()],
)
def test_a_fault_of_images_is_stopped_by_its_gate(fault: str, images: Court) -> None:
    assert OF_IMAGES[fault].gate in refusing(images.gates(OF_IMAGES[fault].make, **only(OF_IMAGES[fault].gate)))


@pytest.mark.parametrize("fault", OF_TABLES)
def test_a_fault_of_tables_is_stopped_by_its_gate(fault: str, tables: Court) -> None:
    assert OF_TABLES[fault].gate in refusing(tables.gates(OF_TABLES[fault].make, **only(OF_TABLES[fault].gate)))


@pytest.mark.slow
@pytest.mark.parametrize("fault", [name for name, case in OF_IMAGES.items() if case.alone])
def test_no_other_gate_would_have_stopped_a_fault_of_images(fault: str, images: Court) -> None:
    assert refusing(images.gates(OF_IMAGES[fault].make)) == [OF_IMAGES[fault].gate]


@pytest.mark.slow
@pytest.mark.parametrize("fault", [name for name, case in OF_TABLES.items() if case.alone])
def test_no_other_gate_would_have_stopped_a_fault_of_tables(fault: str, tables: Court) -> None:
    assert refusing(tables.gates(OF_TABLES[fault].make)) == [OF_TABLES[fault].gate]


@pytest.mark.parametrize("kind", [pytest.param("images", marks=pytest.mark.slow), "tables"])
def test_an_artefact_that_every_class_has_is_no_shortcut(kind: str, request: pytest.FixtureRequest) -> None:
    gates = request.getfixturevalue(kind).gates(artefact_everywhere, **only("shortcut"))
    assert gates["shortcut"].passed
    chance = gates["shortcut"].sentence.split("with a chance of ")[1].split("%")[0]
    assert int(chance) > 80  # it is plain to see all the same


# Faults of a run rather than of rows


def test_a_group_never_lies_on_both_sides_of_the_split_that_a_run_asks_for(tmp_path: Path) -> None:
    rows = table_rows(400, 1).append_column("tree", pa.array(np.arange(400) % 40))
    path = tmp_path / "trees.parquet"
    pq.write_table(rows, path)
    source = {"kind": "parquet", "path": str(path), "label": "fruit"}
    plan = {"kind": "counts", "counts": {"apple": 4, "pear": 4}}
    config = Court(tmp_path, orchard()).config(rows, source=source, split={"group": "tree"}, plan=plan)
    store = Store.open(config.store)
    folder = store.path(ingest(config.source, config.split, config.seed, store))
    train, *held_out = (
        set(pq.read_table(folder / f"{part}.parquet")["tree"].to_pylist()) for part in ("train", "validation", "test")
    )
    assert all(held_out)
    assert not train & set.union(*held_out)


def test_a_group_on_both_sides_of_the_split_breaks_the_lineage(tmp_path: Path) -> None:
    gates = with_groups(tmp_path, train=range(60), test=range(58, 118)).gates(table_rows(60, 9, synthetic=True))
    assert failed(gates) == ["lineage"]
    assert "2 training rows are of the same group as a validation or test row" in gates["lineage"].sentence


def test_groups_that_stay_on_one_side_are_no_break(tmp_path: Path) -> None:
    gates = with_groups(tmp_path, train=range(60), test=range(60, 120)).gates(table_rows(60, 9, synthetic=True))
    assert failed(gates) == []


def with_groups(folder: Path, train: range, test: range) -> Trial:
    """Real rows whose groups are the numbers of their notes; the split was asked to keep these on one side."""
    named = {"train": train, "validation": range(1_000, 1_020), "test": test}
    parts = {}
    for seed, (part, groups) in enumerate(named.items(), start=1):
        rows = table_rows(len(groups), seed)
        notes = pa.array([f"tree {group}" for group in groups])
        parts[part] = rows.set_column(rows.schema.get_field_index("note"), rows.schema.field("note"), notes)
    trial = Trial.of(folder, TABLE, parts)
    path = trial.store.path(trial.real) / "ingest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "split": {"group": "note"}}))
    return trial


def test_a_generator_fitted_on_test_rows_breaks_the_lineage(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"train": 1, "validation": 2, "test": 3}
    store = Store.open(str(tmp_path))
    real = real_artifact(store, TABLE, {part: table_rows(60, seed) for part, seed in parts.items()})
    other = "c" * 64  # the hash of training and test rows together
    gates = Trial(store, TABLE, real, model_artifact(store, real, other)).gates(table_rows(60, 9, synthetic=True))
    assert failed(gates) == ["lineage"]
    assert "the model's training rows are not the training part" in gates["lineage"].sentence
