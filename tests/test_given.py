"""Rows that somebody else generated go through the same gates: what is published, what is refused, and by which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _given_rows import FRUITS, Run, fruit_config, fruit_rows, with_values, write_csv, write_parquet

from augment._images import encode_png
from augment._manifest import Manifest
from augment.config import RunConfig
from augment.gates import blessed
from augment.runfile import parse_run_config
from augment.schema import IMAGE_TYPE


def run_of(folder: Path, table: pa.Table, **sections: Any) -> Run:
    """A run of fruits whose synthetic rows are ``table``, in a Parquet file."""
    return Run.of(fruit_config(folder, {"path": write_parquet(table, folder / "made.parquet")}, **sections))


def replaced_first(table: pa.Table, name: str, value: Any) -> pa.Table:
    """``table`` with one value in all rows of the first class, so that some are drawn."""
    values = [value if place % 2 == 0 else old for place, old in enumerate(table[name].to_pylist())]
    return with_values(table, name, values)


@pytest.mark.parametrize("form", ["csv", "parquet", "folder"])
def test_good_tables_are_published_with_their_own_values(tmp_path: Path, form: str) -> None:
    made = fruit_rows(200, 2)
    if form == "csv":
        path = write_csv(made, tmp_path / "made.csv")
    else:
        path = write_parquet(made.slice(0, 120), tmp_path / "made" / "a.parquet")
        write_parquet(made.slice(120), tmp_path / "made" / "deep" / "b.parquet")
        path = path.parent
        if form == "parquet":
            path = write_parquet(made, tmp_path / "made.parquet")
    run = Run.of(fruit_config(tmp_path, {"path": path}))
    assert run.failed == []
    published = run.publish()
    assert (published.status, published.rows["pear"]["synthetic"]) == ("published", 40)
    rows = pq.read_table(Path(published.path) / "data/synthetic/train-00000.parquet")
    own = [name for name in made.column_names if name in rows.column_names]
    assert own == made.column_names
    assert {tuple(r.values()) for r in rows.select(own).to_pylist()} <= {tuple(r.values()) for r in made.to_pylist()}
    assert rows["note"].null_count == 80, "what is ignored is null"
    assert set(rows["generator_id"].to_pylist()) == {run.model.sha256[:12]}


def digits_config(folder: Path, path: Path, label: str = "label") -> RunConfig:
    """A run whose real rows are the first 900 of scikit-learn's digits."""
    plan = {"kind": "counts", "counts": {"0": 12, "3": 15, "8": 10}}
    content = {
        "name": "digits",
        "source": {"kind": "digits", "rows": 900},
        "plan": plan,
        "store": str(folder / "store"),
    }
    return parse_run_config({**content, "model": {"kind": "from_files", "path": str(path)}}, "run.yaml")


def digit_images(folder: Path, labels: tuple[int, ...] = (0, 3, 8), each: int = 25) -> Path:
    """Digits that are not among the first 900, as somebody else's files: one folder a class."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for label in labels:
        (folder / str(label)).mkdir(parents=True)
        for number in np.flatnonzero(digits.target[900:] == label)[:each] + 900:
            pixels = np.rint(digits.images[number] * (255 / 16)).astype(np.uint8)
            (folder / str(label) / f"{number}.png").write_bytes(encode_png(pixels))
    return folder


def test_a_folder_of_images_is_published_with_report_and_readers(tmp_path: Path) -> None:
    run = Run.of(digits_config(tmp_path, digit_images(tmp_path / "made")))
    assert run.failed == []
    published = run.publish(whole=True)
    assert published.status == "published"
    folder = Path(published.path)
    assert (folder / "report/index.html").stat().st_size > 10_000
    assert (folder / "report/samples.png").is_file()
    card = (folder / "README.md").read_text()
    assert "**The training rows of their generator are not known**" in card
    assert "neither the generator" not in card
    lineage = Manifest.load(folder).lineage
    assert lineage["generator_train_rows_sha256"] is None
    assert lineage["weights_sha256"] is None
    assert lineage["given_files"]["number"] == 75
    assert lineage["given_files"]["first"][0]["file"].startswith("0/")


def test_images_of_another_size_or_mode_and_broken_ones_are_refused_by_structure(tmp_path: Path) -> None:
    folder = digit_images(tmp_path / "made", each=15)
    first = sorted((folder / "3").iterdir())
    first[0].write_bytes(encode_png(np.zeros((9, 8), np.uint8)))
    first[1].write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    first[2].write_bytes(first[2].read_bytes()[:60])
    run = Run.of(digits_config(tmp_path, folder))
    assert run.failed[0] == "structure"
    sentence = run.gates["structure"].sentence
    assert "broken image in 1 row; other image in 2 rows" in sentence
    assert run.publish().status == "refused"


def test_the_choice_of_a_surplus_follows_from_the_seed_alone(tmp_path: Path) -> None:
    made = fruit_rows(400, 2)
    first = run_of(tmp_path / "a", made)
    again = run_of(tmp_path / "b", made)
    other = run_of(tmp_path / "c", made, seed=4)
    assert first.shards == again.shards
    chosen = [set(run.rows()["count"].to_pylist()) for run in (first, again, other)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(chosen[0]) == 80, "no row is taken twice"


def test_rows_do_not_depend_on_how_many_a_shard_holds(tmp_path: Path) -> None:
    made = fruit_rows(200, 2)
    whole, cut = run_of(tmp_path / "a", made), run_of(tmp_path / "b", made, generate={"shard_rows": 7})
    assert len(cut.shards) > len(whole.shards) == 1
    own = [*made.column_names, "sample_id", "content_hash"]
    assert cut.rows().select(own).equals(whole.rows().select(own))
    assert cut.failed == []


def test_the_same_run_twice_publishes_the_same_bytes(tmp_path: Path) -> None:
    made = fruit_rows(200, 2)
    files = []
    for name in ("a", "b"):
        run = run_of(tmp_path / name, made)
        published = run.publish()
        folder = Path(published.path)
        files.append({p.relative_to(folder): p.read_bytes() for p in (folder / "data").rglob("*.parquet")})
        assert run.publish().status == "unchanged"
    assert files[0] == files[1]


def test_rejected_rows_are_replaced_by_the_next_ones(tmp_path: Path) -> None:
    made = fruit_rows(300, 2)
    sizes = made["size"].to_pylist()
    far = with_values(made, "size", [1000.0 if place < 12 else size for place, size in enumerate(sizes)])
    run = run_of(tmp_path, far, checks=[{"kind": "sample_quality", "inside": 0.5}])
    assert run.failed == []
    assert len(run.shards) > 1
    ids = run.rows()["count"].to_pylist()
    assert len(set(ids)) == len(ids), "a later round takes other rows"
    assert run.publish().rows["apple"]["synthetic"] == 40


def test_a_class_that_runs_out_is_refused_by_the_class_plan(tmp_path: Path) -> None:
    run = run_of(tmp_path, fruit_rows(50, 2))
    assert run.failed == ["class_plan"]
    assert "Class 'apple' got 25 of 40 rows" in run.gates["class_plan"].sentence


def test_a_class_and_a_file_without_rows_are_delivered_none_of(tmp_path: Path) -> None:
    made = fruit_rows(200, 2)
    apples = run_of(tmp_path / "a", made.filter(pa.compute.equal(made["fruit"], "apple")))
    assert apples.failed == ["class_plan"]
    assert "Class 'pear' got 0 of 40 rows" in apples.gates["class_plan"].sentence
    nothing = run_of(tmp_path / "b", made.slice(0, 0))
    assert "Nothing was generated" in nothing.gates["structure"].sentence
    assert nothing.publish(whole=True).status == "refused"


def part_of(run: Run, name: str) -> pa.Table:
    """The rows of a part of the real data."""
    return pq.read_table(run.store.path(run.real) / f"{name}.parquet").select(fruit_rows(1, 0).column_names)


def test_copies_of_training_rows_are_refused_by_duplicates(tmp_path: Path) -> None:
    train = part_of(run_of(tmp_path, fruit_rows(200, 2)), "train")
    assert run_of(tmp_path, train).failed == ["duplicates"]


def test_test_rows_are_refused_by_test_leak(tmp_path: Path) -> None:
    test = part_of(run_of(tmp_path, fruit_rows(200, 2)), "test")
    plan = {"kind": "counts", "counts": dict.fromkeys(FRUITS, 20)}
    run = run_of(tmp_path, test, plan=plan)
    assert "test_leak" in run.failed
    assert "equal a validation or test row" in run.gates["test_leak"].sentence


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("code", "brown", "unknown category in"),
        ("size", float("nan"), "not finite in"),
        ("size", float("inf"), "not finite in"),
        ("count", None, "missing in"),
        ("ripe", None, "missing in"),
        ("fruit", "mango", "unknown label in"),
        ("fruit", None, "unknown label in"),
    ],
)
def test_a_value_that_breaks_its_columns_kind_is_refused_by_structure(
    tmp_path: Path, column: str, value: Any, said: str
) -> None:
    run = run_of(tmp_path, replaced_first(fruit_rows(200, 2), column, value))
    assert run.failed[0] == "structure"
    assert said in run.gates["structure"].sentence
    assert not blessed(run.gates.values())


@pytest.mark.parametrize(("column", "value"), [("count", "many"), ("count", "3.5"), ("size", "big"), ("ripe", "yes")])
def test_a_text_that_is_no_value_of_the_type_is_refused_and_its_row_named(
    tmp_path: Path, column: str, value: str
) -> None:
    made = fruit_rows(200, 2)
    values = [value if place % 2 == 0 else str(old).lower() for place, old in enumerate(made[column].to_pylist())]
    values = [None if text == "none" else text for text in values]
    path = write_csv(with_values(made, column, values), tmp_path / "made.csv")
    run = Run.of(fruit_config(tmp_path, {"path": path}))
    assert run.failed[0] == "structure"
    assert "Of 80 synthetic rows: other type in 40 rows" in run.gates["structure"].sentence
    published = run.publish()
    assert published.status == "refused"
    notes = Manifest.load(Path(published.path)).lineage["notes"]
    assert any(f"the column '{column}' of {path} holds '{value}' in row 1, which is no" in note for note in notes)
    reasons = pq.read_table(Path(published.path) / "rejects.parquet")["reject_reason"].to_pylist()
    assert set(reasons) == {f"{column} is not a value of the column's type"}


def test_one_row_of_an_unknown_class_is_enough_to_refuse(tmp_path: Path) -> None:
    made = pa.concat_tables([fruit_rows(200, 2), with_values(fruit_rows(1, 3), "fruit", ["mango"])])
    run = run_of(tmp_path, made)
    assert run.gates["structure"].sentence.startswith("Of 81 synthetic rows: unknown label in 1 row;")
    assert any("such as 'mango' in row 201" in note for note in json.loads(read_record(run))["notes"])


def read_record(run: Run) -> str:
    return (run.store.path(run.model) / "model.json").read_text()


def test_parents_are_carried_over_and_must_be_training_rows_of_the_class(tmp_path: Path) -> None:
    first = run_of(tmp_path, fruit_rows(200, 2))
    train = pq.read_table(first.store.path(first.real) / "train.parquet")
    apple = next(r["source_row_id"] for r in train.to_pylist() if r["fruit"] == "apple")
    made = fruit_rows(200, 2)
    named = [[f"real-{apple}"] if fruit == "apple" else None for fruit in made["fruit"].to_pylist()]
    fine = run_of(tmp_path, made.append_column("parent_ids", pa.array(named, pa.list_(pa.string()))))
    assert fine.failed == []
    carried = fine.rows().filter(pa.compute.equal(fine.rows()["fruit"], "apple"))["parent_ids"].to_pylist()
    assert carried == [[f"real-{apple}"]] * 40
    wrong = run_of(tmp_path, made.append_column("parent_ids", pa.array([["real-999"]] * 200, pa.list_(pa.string()))))
    assert wrong.failed[0] == "lineage"
    assert "no training row of their class: 80" in wrong.gates["lineage"].sentence


def test_a_file_altered_during_the_run_breaks_its_lineage_and_mended_it_does_not(tmp_path: Path) -> None:
    path = write_parquet(fruit_rows(200, 2), tmp_path / "made.parquet")
    config = fruit_config(tmp_path, {"path": path})
    before = path.read_bytes()
    broken = Run.of(config, after_taking=lambda: write_parquet(fruit_rows(200, 5), path))
    assert broken.failed == ["lineage"]
    assert f"no longer what the rows were taken from: 1, such as {path}" in broken.gates["lineage"].sentence
    gone = Run.of(fruit_config(tmp_path, {"path": path}), after_taking=path.unlink)
    assert gone.failed == ["lineage"]
    path.write_bytes(before)
    assert Run.of(config).failed == []


def test_rows_taken_for_another_split_break_the_lineage(tmp_path: Path) -> None:
    from _judged_sets import quick

    from augment.makers import maker
    from augment.validation import active_checks, conclude

    run = run_of(tmp_path, fruit_rows(200, 2))
    other = run_of(tmp_path, fruit_rows(200, 2), split={"test": 0.3})
    foreign = maker(other.config).prepare(other.real, other.store)
    checks = quick(active_checks([]))
    audit = conclude(run.real, run.reference, foreign, run.wanted, run.shards, run.judged, checks, run.store)
    run.audit = audit
    assert "the rows were taken for other real data, or another split of them" in run.gates["lineage"].sentence


def test_an_altered_file_is_another_version_and_a_moved_one_is_not(tmp_path: Path) -> None:
    path = write_parquet(fruit_rows(200, 2), tmp_path / "made.parquet")
    first = Run.of(fruit_config(tmp_path, {"path": path})).publish()
    moved = path.rename(tmp_path / "elsewhere.parquet")
    assert Run.of(fruit_config(tmp_path, {"path": moved})).publish().status == "unchanged"
    write_parquet(fruit_rows(200, 9), moved)
    second = Run.of(fruit_config(tmp_path, {"path": moved})).publish()
    assert second.status == "published"
    assert second.version != first.version


def test_the_gate_says_what_is_not_known(tmp_path: Path) -> None:
    run = run_of(tmp_path, fruit_rows(200, 2))
    assert "the generator's own training rows are not known" in run.gates["lineage"].sentence


def test_images_in_parquet_may_have_any_encoding(tmp_path: Path) -> None:
    import io

    from PIL import Image

    folder = digit_images(tmp_path / "files")
    rows: dict[str, list[Any]] = {"image": [], "label": []}
    for path in sorted(folder.rglob("*.png")):
        buffer = io.BytesIO()
        with Image.open(path) as image:
            image.save(buffer, "PNG", compress_level=9, optimize=True)
        rows["image"].append({"bytes": buffer.getvalue(), "path": path.name})
        rows["label"].append(int(path.parent.name))
    table = pa.table({"image": pa.array(rows["image"], IMAGE_TYPE), "label": rows["label"]})
    run = Run.of(digits_config(tmp_path, write_parquet(table, tmp_path / "made.parquet")))
    assert run.failed == []
    assert run.rows()["image"].combine_chunks().field("path").null_count == 37
