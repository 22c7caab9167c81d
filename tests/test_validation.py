from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _judged_sets import TABLE, Trial, failed, image_rows, real_artifact, replaced, table_rows

from augment import validation
from augment._features import profile
from augment.checks._contract import Evidence, Finding, Learned
from augment.checks._hashes import as_hashes, contained, has_a_twin, repeats_an_earlier, save_sorted
from augment.checks._real import SAMPLE_ROWS, RealRows
from augment.checks.class_plan import ClassPlan
from augment.checks.sample_quality import SampleQuality, lowest_share
from augment.errors import AugmentError, InputError
from augment.gates import GATES, NO_CHECK, blessed, load_gates
from augment.schema import refuse_reserved
from augment.store import Store, hash_file
from augment.validation._judging import rejects_schema


@pytest.fixture
def tables(tmp_path: Path) -> Trial:
    return Trial.of_tables(tmp_path)


def drawn(rows: int = 100, seed: int = 50) -> pa.Table:
    return table_rows(rows, seed, synthetic=True)


def with_outliers(rows: pa.Table, number: int) -> pa.Table:
    return replaced(rows, "count", [90_000] * number + rows["count"].to_pylist()[number:])


def test_checks_come_in_the_order_of_the_gates_with_amendments_in_place() -> None:
    checks = validation.active_checks([ClassPlan(delivered=0.5)])
    assert [check.kind for check in checks] == [
        "lineage", "structure", "test_leak", "duplicates", "class_plan", "sample_quality", "label_agreement",
        "marginals", "joint", "coverage", "copying", "shortcut", "worth", "consumer_smoke", "regression",
    ]  # fmt: skip
    assert checks[4] == ClassPlan(delivered=0.5)


def test_two_amendments_of_one_kind_are_refused() -> None:
    with pytest.raises(InputError, match="checks amends class_plan twice"):
        validation.active_checks([ClassPlan(), ClassPlan(delivered=0.5)])


def test_a_check_that_is_left_out_is_said_to_be(tables: Trial) -> None:
    rows = with_outliers(drawn(), 10)
    gates = {
        result.gate: result
        for result in load_gates(
            tables.audit([tables.shard(rows)], checks=[SampleQuality(enabled=False)]) / "gates.json"
        )
    }
    assert gates["sample_quality"].passed is None
    assert gates["sample_quality"].sentence == "Left out by the run file."
    assert blessed(gates.values())


def test_rejected_rows_are_kept_with_gate_and_reason(tables: Trial) -> None:
    shard = tables.shard(with_outliers(drawn(), 2))
    _, judged, _ = tables.judge([shard])
    rejects = pq.read_table(tables.store.path(judged[0]) / "rejects.parquet").to_pylist()
    assert [row["reject_gate"] for row in rejects] == ["sample_quality", "sample_quality"]
    assert rejects[0]["sample_id"] == f"syn-{tables.model.sha256[:12]}-0-0"
    assert rejects[0]["count"] == 90_000
    assert rejects[0]["reject_round"] == 0
    assert rejects[0]["reject_reason"].startswith("count is outside ")
    features = pq.read_table(tables.store.path(judged[0]) / "features.parquet")
    assert features["accepted"].to_pylist() == [False] * 2 + [True] * 98
    assert validation.accepted_counts(judged, tables.store) == {"apple": 48, "pear": 50}


@pytest.mark.parametrize("name", ["gate", "reason", "round", "reject_reason"])
def test_no_name_of_a_data_column_doubles_one_of_the_rejects(tables: Trial, name: str) -> None:
    columns = tuple(c.model_copy(update={"name": name}) if c.name == "shade" else c for c in TABLE.columns)
    schema = TABLE.model_copy(update={"columns": columns})
    try:
        refuse_reserved([column.name for column in schema.columns], "the source")
    except InputError:
        assert name == "reject_reason"
    else:
        names = rejects_schema(schema).names
        assert len(set(names)) == len(names)


def test_every_gate_has_a_check_and_a_result(tables: Trial) -> None:
    gates = load_gates(tables.audit([tables.shard(drawn())]) / "gates.json")
    assert [result.gate for result in gates] == list(GATES)
    assert [result.gate for result in gates if result.sentence == NO_CHECK] == []
    assert {check.kind for check in validation.active_checks([])} == set(GATES)


def test_a_check_that_expects_nothing_of_the_set_is_refused(tables: Trial) -> None:
    class Lenient(ClassPlan):
        def find(self, evidence: Evidence, learned: Learned) -> Finding:
            return Finding("All is well.", value=1.0)

    with pytest.raises(AugmentError, match="the check class_plan applies but expects nothing of the set"):
        tables.audit([tables.shard(drawn())], checks=[Lenient()])


def test_rows_of_later_rounds_fill_the_plan_but_not_the_shares(tables: Trial) -> None:
    first = tables.shard(with_outliers(drawn(), 50))
    later = tables.shard(drawn(50, seed=51).slice(0, 25), turn=1)
    again = tables.shard(drawn(60, seed=52).slice(0, 25), number=1, first=25, turn=1)
    folder = tables.audit([first, later, again], wanted={"apple": 50, "pear": 50})
    gates = {result.gate: result for result in load_gates(folder / "gates.json")}
    assert gates["class_plan"].value == 1.0
    assert gates["sample_quality"].value == 0.5
    rounds = json.loads((folder / "metrics.json").read_text())["rounds"]
    assert [entry["accepted"] for entry in rounds] == [50, 50]
    assert rounds[0]["rejected"] == {"sample_quality": 50}
    assert pq.read_metadata(folder / "rejects.parquet").num_rows == 50


def test_a_repeat_of_an_earlier_shard_is_rejected_once(tmp_path: Path) -> None:
    trial = Trial.of_images(tmp_path)
    rows = image_rows(20, 9)
    _, judged, _ = trial.judge([trial.shard(rows), trial.shard(rows, number=1, first=20)])
    accepted = [pq.read_table(trial.store.path(ref) / "features.parquet")["accepted"].to_pylist() for ref in judged]
    assert accepted == [[True] * 20, [False] * 20]


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    hashes = []
    for name in ("a", "b"):
        trial = Trial.of_tables(tmp_path / name)
        folder = trial.audit([trial.shard(with_outliers(drawn(), 3))])
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
        hashes.append({path.relative_to(folder).as_posix(): hash_file(path) for path in files})
    assert hashes[0] == hashes[1]
    assert set(hashes[0]) == {
        "class_metrics.parquet", "gates.json", "metrics.json", "rejects.parquet", "set_metrics.parquet",
        "suites/class_metrics.json", "suites/sample_features.json", "suites/set_metrics.json",
    }  # fmt: skip


def test_other_limits_give_another_judgement(tables: Trial) -> None:
    shard = tables.shard(drawn())
    _, first, _ = tables.judge([shard])
    _, second, _ = tables.judge([shard], [SampleQuality(widen=0.5)])
    assert first[0].key != second[0].key


def test_the_suites_hold_the_limits_that_were_applied(tables: Trial) -> None:
    folder = tables.audit([tables.shard(drawn())])
    suite = json.loads((folder / "suites" / "set_metrics.json").read_text())
    limits = {e["kwargs"]["column"]: e["kwargs"].get("max_value") for e in suite["expectations"] if "mostly" not in e}
    assert limits["test_leak.share"] == pytest.approx(0.01)
    assert all("id" not in expectation for expectation in suite["expectations"])


def test_data_without_a_label_are_judged_too(tmp_path: Path) -> None:
    schema = TABLE.model_copy(update={"label": None, "classes": ()})
    trial = Trial.of(
        tmp_path, schema, {p: table_rows(80, s) for p, s in (("train", 1), ("validation", 2), ("test", 3))}
    )
    gates = trial.gates(drawn(), wanted={"": 100})
    assert failed(gates) == []
    assert gates["class_plan"].value == 1.0


def test_data_without_held_out_rows_are_measured_against_their_own(tmp_path: Path) -> None:
    empty = table_rows(10, 2).slice(0, 0)
    trial = Trial.of(tmp_path, TABLE, {"train": table_rows(300, 1), "validation": empty, "test": empty})
    gates = trial.gates(drawn(300))
    assert failed(gates) == []
    assert gates["sample_quality"].floor == 1.0
    assert gates["sample_quality"].limit == pytest.approx(lowest_share(0.99, 300), abs=0.001)


def test_a_single_training_row_gives_no_floor(tmp_path: Path) -> None:
    one = table_rows(1, 1)
    trial = Trial.of(tmp_path, TABLE, {"train": one, "validation": one.slice(0, 0), "test": one.slice(0, 0)})
    reference, _, _ = trial.judge([])
    figures = json.loads((trial.store.path(reference) / "reference.json").read_text())["figures"]
    assert figures["sample_quality"]["floor"] is None


def test_a_sample_of_the_real_rows_is_bounded_and_seeded(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    rows = SAMPLE_ROWS + 5000
    real = real_artifact(
        store, TABLE, {"train": table_rows(rows, 1), "validation": table_rows(5, 2), "test": table_rows(5, 3)}
    )

    def sample(seed: int) -> list[float]:
        source = RealRows(store.path(real), TABLE, seed, lambda batch: profile(batch, TABLE)[0])
        return list(source.train_features["feature.count"])

    assert len(sample(1)) == SAMPLE_ROWS
    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_hashes_are_found_in_a_sorted_file(tmp_path: Path) -> None:
    digits = [f"{number:032x}" for number in (5, 3, 9, 3, 0)]
    hashes = as_hashes(pa.array(digits))
    save_sorted(tmp_path / "known.npy", [hashes[:2], hashes[2:]], 5)
    known = np.load(tmp_path / "known.npy", mmap_mode="r")
    wanted = as_hashes(pa.chunked_array([pa.array([f"{number:032x}" for number in (9, 4, 0, 3, 2**127)])]))
    assert contained(wanted, known).tolist() == [True, False, True, True, False]
    assert repeats_an_earlier(hashes).tolist() == [False, False, False, True, False]
    assert has_a_twin(known).tolist() == [False, True, True, False, False]


def test_a_sliced_column_of_hashes_is_read_from_its_own_start() -> None:
    column = pa.array([f"{number:032x}" for number in range(5)])
    assert (as_hashes(column.slice(2)) == as_hashes(column)[2:]).all()


def test_no_hashes_are_in_nothing(tmp_path: Path) -> None:
    save_sorted(tmp_path / "none.npy", [], 0)
    none = np.load(tmp_path / "none.npy", mmap_mode="r")
    assert contained(as_hashes(pa.array(["0" * 32])), none).tolist() == [False]
    assert has_a_twin(none).tolist() == []
