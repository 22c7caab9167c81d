"""Small real data and synthetic shards, written as the stages before validation write them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from augment import validation
from augment._hashing import content_hashes
from augment._png import encode_pngs
from augment.checks._contract import Check
from augment.gates import GateResult, load_gates
from augment.schema import IMAGE_TYPE, ColumnSchema, DatasetSchema, class_name
from augment.store import ArtifactRef, Store

TABLE = DatasetSchema(
    columns=(
        ColumnSchema(name="size", kind="numeric", type="float64", reason="declared"),
        ColumnSchema(name="count", kind="integer", type="int64", reason="declared"),
        ColumnSchema(name="shade", kind="categorical", type="string", reason="declared"),
        ColumnSchema(name="ripe", kind="boolean", type="bool", reason="declared"),
        ColumnSchema(name="note", kind="ignore", type="string", reason="declared"),
        ColumnSchema(name="fruit", kind="categorical", type="string", reason="declared"),
    ),
    label="fruit",
    classes=("apple", "pear"),
)
IMAGES = DatasetSchema(
    columns=(
        ColumnSchema(name="image", kind="image", type="image", reason="declared"),
        ColumnSchema(name="digit", kind="integer", type="int64", reason="declared"),
    ),
    label="digit",
    classes=(0, 1),
)
TRAIN_ROWS_SHA256 = "a" * 64


def table_rows(rows: int, seed: int, *, synthetic: bool = False) -> pa.Table:
    """Rows of ``TABLE``, half of each class, apples first; every tenth size of real and synthetic rows is missing."""
    draw = np.random.default_rng(seed)
    sizes = np.round(draw.normal(5, 1, rows), 4)
    return pa.table(
        {
            "size": pa.array(sizes, mask=np.arange(rows) % 10 == 3),
            "count": draw.integers(0, 1000, rows),
            "shade": draw.choice(["red", "green"], rows),
            "ripe": draw.random(rows) < 0.5,
            "note": pa.nulls(rows, pa.string()) if synthetic else pa.array([f"row {i}" for i in range(rows)]),
            "fruit": np.where(np.arange(rows) < rows // 2, "apple", "pear"),
        },
        schema=TABLE.arrow_schema,
    )


def image_rows(rows: int, seed: int) -> pa.Table:
    """Rows of ``IMAGES``, 8 x 8 grey noise, half of each class."""
    draw = np.random.default_rng(seed)
    files = encode_pngs(draw.integers(0, 256, (rows, 8, 8)).astype(np.uint8))
    images = pa.array([{"bytes": data, "path": None} for data in files], IMAGE_TYPE)
    return pa.table({"image": images, "digit": (np.arange(rows) >= rows // 2).astype(np.int64)})


def hashed(rows: pa.Table, schema: DatasetSchema) -> pa.Array:
    """The content hashes of rows."""
    return pa.concat_arrays([content_hashes(batch, schema) for batch in rows.combine_chunks().to_batches()])


def real_artifact(store: Store, schema: DatasetSchema, parts: Mapping[str, pa.Table]) -> ArtifactRef:
    """An ingest artifact with the parts train, validation and test."""

    def fill(folder: Path) -> None:
        schema.save(folder / "schema.json")
        start = 0
        for part in ("train", "validation", "test"):
            rows = parts[part]
            table = rows.append_column("source_row_id", pa.array(np.arange(start, start + rows.num_rows)))
            hashes = hashed(rows, schema) if rows.num_rows else pa.array([], pa.string())
            pq.write_table(table.append_column("content_hash", hashes), folder / f"{part}.parquet")
            start += rows.num_rows
        (folder / "ingest.json").write_text(json.dumps({"train_rows_sha256": TRAIN_ROWS_SHA256}))

    return store.write("ingest", "real", fill)


def model_artifact(store: Store, real: ArtifactRef, train_rows_sha256: str = TRAIN_ROWS_SHA256) -> ArtifactRef:
    """A model artifact that says what it was trained on."""
    content = {"real": real.model_dump(), "train_rows_sha256": train_rows_sha256}
    return store.write("train", "model", lambda folder: _write(folder / "model.json", content))


def shard_artifact(
    store: Store,
    schema: DatasetSchema,
    model: ArtifactRef,
    rows: pa.Table,
    number: int = 0,
    first: int = 0,
    turn: int = 0,
) -> ArtifactRef:
    """A generated shard of ``rows``, whose index starts at ``first``."""

    def fill(folder: Path) -> None:
        pq.write_table(with_provenance(rows, schema, model, first, turn), folder / "shard.parquet")
        _write(folder / "shard.json", {"round": turn, "shard": number, "rows": rows.num_rows})

    return store.write("generate", f"shard-{turn}-{number}", fill)


def with_provenance(rows: pa.Table, schema: DatasetSchema, model: ArtifactRef, first: int, turn: int) -> pa.Table:
    """``rows`` with the columns that say where they come from."""
    generator = model.sha256[:12]
    index = np.arange(first, first + rows.num_rows)
    columns = {
        "sample_id": pa.array([f"syn-{generator}-{turn}-{i}" for i in index], pa.string()),
        "generator_id": pa.array([generator] * rows.num_rows, pa.string()),
        "gen_seed": pa.array(np.full(rows.num_rows, 7)),
        "gen_index": pa.array(index),
        "parent_ids": pa.nulls(rows.num_rows, pa.list_(pa.string())),
        "content_hash": hashed(rows, schema) if rows.num_rows else pa.array([], pa.string()),
    }
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    return rows


@dataclass
class Trial:
    """Real data and a model in a store of their own, and the way from synthetic rows to gates."""

    store: Store
    schema: DatasetSchema
    real: ArtifactRef
    model: ArtifactRef

    @classmethod
    def of_tables(cls, root: Path) -> Trial:
        """300 training rows of the table, 100 held out."""
        parts = {"train": table_rows(300, 1), "validation": table_rows(40, 2), "test": table_rows(60, 3)}
        return cls.of(root, TABLE, parts)

    @classmethod
    def of_images(cls, root: Path) -> Trial:
        """200 training images, 60 held out."""
        parts = {"train": image_rows(200, 1), "validation": image_rows(20, 2), "test": image_rows(40, 3)}
        return cls.of(root, IMAGES, parts)

    @classmethod
    def of(cls, root: Path, schema: DatasetSchema, parts: Mapping[str, pa.Table]) -> Trial:
        """The given parts."""
        store = Store.open(str(root))
        real = real_artifact(store, schema, parts)
        return cls(store, schema, real, model_artifact(store, real))

    def part(self, name: str) -> pa.Table:
        """The rows of a part of the real data."""
        return pq.read_table(self.store.path(self.real) / f"{name}.parquet").select(self.schema.arrow_schema.names)

    def shard(self, rows: pa.Table, number: int = 0, first: int = 0, turn: int = 0) -> ArtifactRef:
        """A generated shard."""
        return shard_artifact(self.store, self.schema, self.model, rows, number, first, turn)

    def judge(
        self, shards: Sequence[ArtifactRef], checks: Sequence[Check] = ()
    ) -> tuple[ArtifactRef, list[ArtifactRef], list[Check]]:
        """The reference, the judged shards, and the active checks."""
        active = without_nets(validation.active_checks(list(checks)), checks)
        reference = validation.make_reference(self.real, active, 7, self.store)
        judged: list[ArtifactRef] = []
        for shard in shards:
            judged.append(validation.judge_shard(shard, reference, self.real, active, self.store, judged))
        return reference, judged, active

    def audit(
        self, shards: Sequence[ArtifactRef], wanted: Mapping[str, int] | None = None, checks: Sequence[Check] = ()
    ) -> Path:
        """The folder of the audit; by default the plan wants the classes of the shards' rows."""
        reference, judged, active = self.judge(shards, checks)
        if wanted is None:
            wanted = {class_name(value): 0 for value in self.schema.classes}
            for shard in shards:
                labels = pq.read_table(self.store.path(shard) / "shard.parquet")[self.schema.label].to_pylist()
                for name in wanted:
                    wanted[name] += sum(class_name(label) == name for label in labels)
        audit = validation.conclude(
            self.real, reference, self.model, dict(wanted), list(shards), judged, active, self.store
        )
        return self.store.path(audit)

    def gates(self, *rows: pa.Table, wanted: Mapping[str, int] | None = None) -> dict[str, GateResult]:
        """The gates for a set drawn in shards of the given rows."""
        first, shards = 0, []
        for number, part in enumerate(rows):
            shards.append(self.shard(part, number, first))
            first += part.num_rows
        return {result.gate: result for result in load_gates(self.audit(shards, wanted) / "gates.json")}


def without_nets(active: Sequence[Check], asked: Sequence[Check] = ()) -> list[Check]:
    """The checks that train no nets, which take their time, and those that are asked for."""
    kinds = {check.kind for check in asked}
    return [check for check in active if check.kind in kinds or not check.needs_encoders]


def quick(active: Sequence[Check]) -> list[Check]:
    """Those that train no nets and ask no likeness of rows that were made by hand."""
    return [check for check in without_nets(active) if check.kind not in ("marginals", "joint")]


def failed(gates: Mapping[str, GateResult]) -> list[str]:
    """The gates that failed."""
    return [name for name, result in gates.items() if result.passed is False]


def replaced(rows: pa.Table, name: str, values: Any) -> pa.Table:
    """``rows`` with other values in one column."""
    place = rows.schema.get_field_index(name)
    return rows.set_column(place, rows.schema.field(name), pa.array(values, rows.schema.field(name).type))


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))
