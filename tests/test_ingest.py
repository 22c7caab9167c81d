"""From a source to typed, split Parquet tables and the cache that a trainer reads."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _rows_source import Real, Rows, TextRows

from augment._hashing import content_hashes, hash_pairs, rows_sha256
from augment.codec import Codec
from augment.config import SOURCES, SplitSection
from augment.encoding import encode
from augment.errors import InputError
from augment.ingest import ROW_GROUP_ROWS, _Noted, ingest
from augment.schema import ColumnSchema, DatasetSchema
from augment.sources._contract import Source
from augment.store import Store


def data_of(rows: int = 120, **changes: Any) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    made = {
        "size": [None if i % 9 == 4 else f"{v:.2f}" for i, v in enumerate(generator.normal(size=rows))],
        "legs": [str(v) for v in generator.integers(0, 9, rows)],
        "shade": [("red", "green", "blue")[v] for v in generator.integers(0, 3, rows)],
        "code": [f"c-{i * 7919 % 10_007}" for i in range(rows)],
        "kind": [("ant", "bee")[i % 3 == 0] for i in range(rows)],
    }
    return {**made, **changes}


def test_digits_are_ingested_with_exact_counts(tmp_path: Path) -> None:
    real = Real(SOURCES["digits"](), tmp_path, train_per_class={"1": 10})
    assert real.record.counts["train"]["1"] == 10
    assert sum(real.record.counts["test"].values()) == round(0.2 * 1797)
    for name, counts in real.record.counts.items():
        labels = real.part(name)["label"].to_pylist()
        assert {str(c): labels.count(c) for c in range(10)} == counts
    encoded = real.store.path(encode(real.ref, 7, real.store))
    x, y = np.load(encoded / "x.npy", mmap_mode="r"), np.load(encoded / "y.npy")
    assert (x.shape, x.dtype, x.max()) == ((real.part("train").num_rows, 1, 8, 8), np.uint8, 16)
    assert y.tolist() == real.part("train")["label"].to_pylist()


def test_parts_hold_every_row_once_in_source_order(tmp_path: Path) -> None:
    real = Real(TextRows(data=data_of(), label="kind"), tmp_path)
    parts = [real.rows(name) for name in ("train", "validation", "test")]
    assert all(rows == sorted(rows) for rows in parts)
    assert sorted(row for rows in parts for row in rows) == list(range(120))
    assert real.record.rows_read == 120
    table = real.part("train")
    assert table.schema.names == ["size", "legs", "shade", "code", "kind", "source_row_id", "content_hash"]
    source = data_of()
    for row in table.to_pylist():
        own = source["size"][row["source_row_id"]]
        assert row["size"] == (None if own is None else float(own))
        assert row["code"] == source["code"][row["source_row_id"]]


def test_the_record_says_what_was_read_and_ignored(tmp_path: Path) -> None:
    real = Real(TextRows(data=data_of(), label="kind"), tmp_path)
    assert any("'code' is ignored" in note for note in real.record.notes)
    for name, expected in (("train", real.record.train_rows_sha256), ("test", real.record.test_rows_sha256)):
        table = real.part(name).combine_chunks()
        ids = table["source_row_id"].to_numpy()
        assert rows_sha256([(ids, hash_pairs(table.to_batches()[0], real.schema))]) == expected
    batch = real.part("test").combine_chunks().to_batches()[0]
    assert content_hashes(batch, real.schema).equals(batch.column("content_hash"))


def test_an_ingest_is_the_same_in_another_place_and_another_with_another_split(tmp_path: Path) -> None:
    source = TextRows(data=data_of(), label="kind")
    first, second = Real(source, tmp_path / "a"), Real(source, tmp_path / "b")
    assert first.ref == second.ref
    store = first.store
    assert ingest(source, SplitSection(), 8, store).key != first.ref.key
    assert ingest(source, SplitSection(test=0.3), 7, store).key != first.ref.key
    assert ingest(TextRows(data=data_of(), label="shade"), SplitSection(), 7, store).key != first.ref.key


def test_nothing_but_the_artifact_is_left(tmp_path: Path) -> None:
    real = Real(TextRows(data=data_of(), label="kind"), tmp_path)
    assert sorted(p.name for p in real.folder.iterdir()) == [
        "ingest.json", "manifest.json", "schema.json", "test.parquet", "train.parquet", "validation.parquet"
    ]  # fmt: skip


def test_a_part_without_rows_is_a_table_without_rows(tmp_path: Path) -> None:
    real = Real(TextRows(data=data_of(), label="kind"), tmp_path, validation=0)
    assert real.part("validation").num_rows == 0
    assert real.part("validation").schema == real.part("train").schema
    assert real.record.counts["validation"] == {"ant": 0, "bee": 0}


def test_row_groups_are_full_however_small_the_batches(tmp_path: Path) -> None:
    values = [i * 7919 % 30_011 / 8 for i in range(30_000)]
    real = Real(Rows(data={"x": values}), tmp_path, test=0.1, validation=0)
    metadata = pq.ParquetFile(real.folder / "train.parquet").metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [ROW_GROUP_ROWS] * 2 + [7_000]


def test_rows_without_a_label_are_counted_apart_and_only_in_train(tmp_path: Path) -> None:
    kinds = [None if i % 10 == 0 else ("ant", "bee")[i % 3 == 0] for i in range(120)]
    real = Real(TextRows(data=data_of(kind=kinds), label="kind"), tmp_path)
    assert real.record.counts["train"][""] == 12
    assert "" not in real.record.counts["test"]
    encoded = real.store.path(encode(real.ref, 7, real.store))
    assert (np.load(encoded / "y.npy") == -1).sum() == 12


def test_a_column_can_say_the_part(tmp_path: Path) -> None:
    given = ["test" if i % 5 == 0 else "validation" if i % 7 == 0 else "train" for i in range(120)]
    real = Real(TextRows(data=data_of(part=given), label="kind"), tmp_path, column="part")
    assert real.rows("test") == [i for i in range(120) if i % 5 == 0]
    assert real.schema.column("part").kind == "ignore"
    with pytest.raises(
        InputError, match=r"column 'part' of rows.csv holds 'tset', which is no part; did you mean 'test'"
    ):
        Real(TextRows(data=data_of(part=["tset", *given[1:]]), label="kind"), tmp_path, column="part")
    with pytest.raises(InputError, match="names no part in row 2"):
        Real(TextRows(data=data_of(part=["test", None, *given[2:]]), label="kind"), tmp_path, column="part")


def test_a_group_stays_on_one_side_and_is_no_feature(tmp_path: Path) -> None:
    groups = [None if i < 4 else f"farm {i // 6}" for i in range(120)]
    real = Real(TextRows(data=data_of(farm=groups), label="kind"), tmp_path, group="farm")
    assert real.schema.column("farm").kind == "ignore"
    train, test = ({v for v in real.part(name)["farm"].to_pylist() if v} for name in ("train", "test"))
    assert test
    assert not train & test


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (["a", None, "b", "a", None, ""], "string"),
        ([1, None, 2, 1, None, 0], "int64"),
        ([0.5, None, -0.5, 0.5, None, 0.0], "float64"),
        ([dt.datetime(2020, 1, d) if d else None for d in (1, 0, 2, 1, 0, 3)], "timestamp"),
    ],
)
def test_rows_of_one_group_have_one_code_and_rows_without_a_group_one_of_their_own(
    values: list[Any], type_: str
) -> None:
    farm = ColumnSchema(name="farm", kind="ignore", type=type_, reason="declared")
    schema = DatasetSchema(columns=(farm,), label=None, classes=())
    noted = _Noted(schema, SplitSection(group="farm"), "rows")
    for part in (values[:3], values[3:]):
        noted.add(pa.RecordBatch.from_arrays([pa.array(part, farm.arrow_type)], names=["farm"]), is_test=False)
    groups = noted.facts().groups
    assert groups is not None
    assert groups[0] == groups[3]
    assert sorted(np.unique(groups)) == list(range(5))


@pytest.mark.parametrize("setting", ["group", "column"])
def test_a_split_by_an_unknown_column_is_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(InputError, match=rf"split.{setting} names 'shades'.*did you mean 'shade'"):
        Real(TextRows(data=data_of(), label="kind"), tmp_path, **{setting: "shades"})


def test_a_test_part_of_its_own_goes_whole_to_test(tmp_path: Path) -> None:
    own = data_of(30, size=[f"{i}.25" for i in range(30)])
    repeated = {name: [*values, data_of()[name][3]] for name, values in own.items()}
    real = Real(TextRows(data=data_of(), label="kind", test={"data": repeated}), tmp_path)
    assert real.rows("test") == list(range(120, 151))
    assert 3 not in real.rows("train") + real.rows("validation")
    assert sum(len(real.rows(name)) for name in ("train", "validation")) == 119
    assert real.record.notes[-1].endswith("repeats them: 1")


def test_a_test_part_without_a_column_is_refused(tmp_path: Path) -> None:
    own = data_of(30)
    del own["legs"]
    with pytest.raises(InputError, match="lacks the column 'legs'"):
        Real(TextRows(data=data_of(), label="kind", test={"data": own}), tmp_path)


def test_a_test_part_with_a_class_of_its_own_is_refused(tmp_path: Path) -> None:
    own = data_of(30, kind=["ant", "bee", "cow"] * 10)
    with pytest.raises(InputError, match=r"class 'cow' of rows.csv out of train"):
        Real(TextRows(data=data_of(), label="kind", test={"data": own}), tmp_path)


def test_a_class_with_one_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"class 'cow' of rows.csv has one row"):
        Real(TextRows(data=data_of(kind=["cow", *data_of()["kind"][1:]]), label="kind"), tmp_path)


class Moving(Source):
    """A file that somebody rewrites between the two passes."""

    summary: ClassVar[str] = "moving"
    reads: ClassVar[list[int]] = []

    kind: Literal["moving"] = "moving"
    path: Path

    def batches(self) -> Iterator[pa.RecordBatch]:
        self.reads.append(1)
        yield pa.record_batch({"x": pa.array([i * 7 % 13 / 4 for i in range(40)])})

    def files(self) -> list[Path]:
        return [self.path]

    def fingerprint(self) -> str:
        return f"version {len(self.reads) > 1}"


def test_a_source_that_changes_between_the_passes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(InputError, match="was changed while it was read"):
        Real(Moving(path=tmp_path / "x"), tmp_path / "store")
    assert not list((tmp_path / "store/stages/ingest").glob("[!.]*"))


def test_only_training_rows_reach_the_codec(tmp_path: Path) -> None:
    data = data_of(part=["test" if i % 5 == 0 else "train" for i in range(120)])
    data["shade"][0], data["legs"][5] = "ultraviolet", "8888"
    real = Real(TextRows(data=data, label="kind"), tmp_path, column="part")
    assert "ultraviolet" in real.part("test")["shade"].to_pylist()
    codec = Codec.load(real.store.path(encode(real.ref, 7, real.store)) / "codec.json")
    assert "ultraviolet" not in codec.model_dump_json()
    assert "8888" not in codec.model_dump_json()
    test = real.part("test").combine_chunks().to_batches()[0]
    assert np.isfinite(codec.encode(test, np.random.default_rng(0)).x).all()


def test_the_cache_decodes_to_the_training_rows(tmp_path: Path) -> None:
    import torch

    real = Real(TextRows(data=data_of(), label="kind"), tmp_path)
    folder = real.store.path(encode(real.ref, 7, real.store))
    codec = Codec.load(folder / "codec.json")
    x, y = np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy")
    assert x.dtype == np.float32
    decoded = codec.decode(codec.tensor(np.array(x)), torch.from_numpy(y)).to_pydict()
    for name in ("size", "legs", "shade", "kind"):
        assert decoded[name] == real.part("train")[name].to_pylist()
    assert decoded["code"] == [None] * len(y)


def test_the_cache_depends_on_rows_and_seed_alone(tmp_path: Path) -> None:
    real = Real(TextRows(data=data_of(), label="kind"), tmp_path / "a")
    again = Real(TextRows(data=data_of(), label="kind"), tmp_path / "b")
    first, second = encode(real.ref, 7, real.store), encode(again.ref, 7, again.store)
    assert first == second
    assert encode(real.ref, 8, real.store) != first


def test_progress_reaches_its_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def listen(stage: str, done: int, total: int, unit: str, values: Any = None) -> None:
        seen.append((done, total))

    ingest(TextRows(data=data_of(), label="kind"), SplitSection(), 7, Store.open(str(tmp_path)), listen)
    assert seen == sorted(seen)
    assert seen[-1] == (360, 360)
