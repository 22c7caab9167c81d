"""Stage artifacts made by hand, as the stages before publication would write them; no training needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from augment._images import encode_png
from augment._manifest import Counts
from augment.gates import GATES, GateResult, save_gates
from augment.publishing import Publication, RunContext, publish
from augment.schema import ColumnSchema, DatasetSchema
from augment.store import ArtifactRef, Store

Columns = dict[str, list[Any]]
COLOURS = ("blue", "green", "red")


def column(name: str, kind: Any, type_: Any) -> ColumnSchema:
    return ColumnSchema(name=name, kind=kind, type=type_, reason="declared")


TABLE = DatasetSchema(
    columns=(
        column("size", "numeric", "float64"),
        column("legs", "integer", "int64"),
        column("colour", "categorical", "string"),
        column("tame", "boolean", "bool"),
        column("note", "ignore", "string"),
        column("species", "categorical", "string"),
    ),
    label="species",
    classes=("ant", "bee", "cow"),
)
IMAGES = DatasetSchema(
    columns=(column("image", "image", "image"), column("label", "categorical", "int64")), label="label", classes=(3, 7)
)


def table_columns(schema: DatasetSchema, labels: Sequence[Any], seed: int, synthetic: bool) -> Columns:
    """Made-up values for the columns of either schema."""
    rng = np.random.default_rng(seed)
    rows = len(labels)
    colours = [COLOURS[i] if i < 3 else None for i in rng.integers(4, size=rows)]
    made: Columns = {
        "size": [None if i % 7 == 3 else round(float(v), 2) for i, v in enumerate(rng.normal(size=rows))],
        "legs": rng.integers(1, 9, size=rows).tolist(),
        "colour": colours,
        "tame": [bool(v) for v in rng.integers(2, size=rows)],
        "species": list(labels),
        "note": [None] * rows if synthetic else [f"note {i}" for i in range(rows)],
        "image": [
            {"bytes": encode_png(rng.integers(0, 256, size=(6, 5), dtype=np.uint8)), "path": None} for _ in range(rows)
        ],
    }
    return {c.name: list(labels) if c.name == schema.label else made.get(c.name, made["note"]) for c in schema.columns}


def hashes(columns: Columns, prefix: str) -> list[str]:
    rows = len(next(iter(columns.values())))
    return [hashlib.sha256(f"{prefix}{i}".encode()).hexdigest()[:32] for i in range(rows)]


@dataclass(frozen=True)
class Stages:
    """What a publication is made from."""

    store: Store
    schema: DatasetSchema
    real: ArtifactRef
    model: ArtifactRef
    shards: tuple[ArtifactRef, ...]
    judged: tuple[ArtifactRef, ...]
    audit: ArtifactRef

    @property
    def references(self) -> tuple[tuple[ArtifactRef, ...], ...]:
        return (self.real, self.model, self.audit), self.shards, self.judged

    def publish(self, name: str = "animals", run_id: str = "run-1", **changed: Any) -> Publication:
        """Publish with a report and a consumer that need no other stage."""
        context = RunContext(
            run_id=run_id,
            config={"name": name, "source": {"kind": "digits"}},
            seed=7,
            equal_class_mass=changed.pop("equal_class_mass", True),
        )
        hooks = {"report_writer": small_report, "consumer": pleased, "context": context, "store": self.store}
        return publish(name, self.real, self.model, self.shards, self.judged, self.audit, **(hooks | changed))

    def with_audit(self, key: str, gates: list[GateResult]) -> Stages:
        return replace(self, audit=write_audit(self.store, key, gates))


def small_report(folder: Path, **facts: Any) -> None:
    (folder / "report").mkdir(exist_ok=True)
    (folder / "report/index.html").write_text(f"<p>{facts['dataset']}</p>")
    (folder / "report/samples.png").write_bytes(encode_png(np.zeros((2, 2), np.uint8)))
    (folder / "report/metrics.json").write_text("{}\n")


def gate(name: str, passed: bool | None = True, value: float | None = 0.0) -> GateResult:
    return GateResult(
        gate=name,
        value=value,
        floor=None,
        limit=1.0,
        severity="critical",
        passed=passed,
        sentence=f"{name} was judged.",
    )


def pleased(folder: Path, schema: DatasetSchema, counts: Counts) -> GateResult:
    return gate("consumer_smoke")


def displeased(folder: Path, schema: DatasetSchema, counts: Counts) -> GateResult:
    return gate("consumer_smoke", passed=False)


def passing() -> list[GateResult]:
    return [gate(name, None if name in ("worth", "regression") else True) for name in GATES if name != "consumer_smoke"]


def write_audit(store: Store, key: str, gates: list[GateResult]) -> ArtifactRef:
    def fill(folder: Path) -> None:
        save_gates(folder / "gates.json", gates)
        (folder / "suites").mkdir()
        (folder / "suites/structure.json").write_text("{}\n")
        (folder / "metrics.json").write_text("{}\n")
        pq.write_table(pa.table({"sample_id": pa.array([], pa.string())}), folder / "rejects.parquet")

    return store.write("validate", key, fill)


def _write_real(schema: DatasetSchema, labels: dict[str, list[Any]]) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        first = 0
        for seed, (split, values) in enumerate(labels.items()):
            columns = table_columns(schema, values, seed, synthetic=False)
            table = pa.table(columns, schema=schema.arrow_schema)
            table = table.append_column("source_row_id", pa.array(range(first, first + len(values)), pa.int64()))
            table = table.append_column("content_hash", pa.array(hashes(columns, split), pa.string()))
            pq.write_table(table, folder / f"{split}.parquet")
            first += len(values)
        schema.save(folder / "schema.json")
        record = {"source": {"kind": "digits"}, "fingerprint": "f" * 64, "split": {"test": 0.2}, "seed": 7}
        (folder / "ingest.json").write_text(json.dumps({**record, "train_rows_sha256": "a" * 64, "notes": []}))

    return fill


def _write_shard(
    schema: DatasetSchema, labels: list[Any], generator: str, round_: int, number: int
) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        columns = table_columns(schema, labels, 100 + 10 * round_ + number, synthetic=True)
        table = pa.table(columns, schema=schema.arrow_schema)
        rows, first = len(labels), 1000 * number
        added = {
            "sample_id": pa.array([f"syn-{generator}-{round_}-{first + i}" for i in range(rows)]),
            "generator_id": pa.array([generator] * rows),
            "gen_seed": pa.array([42 + number] * rows, pa.int64()),
            "gen_index": pa.array(range(first, first + rows), pa.int64()),
            "parent_ids": pa.nulls(rows, pa.list_(pa.string())),
            "content_hash": pa.array(hashes(columns, f"{round_}-{number}")),
        }
        for name, values in added.items():
            table = table.append_column(name, values)
        pq.write_table(table, folder / "shard.parquet")
        (folder / "shard.json").write_text(
            json.dumps({"round": round_, "shard": number, "rows": rows, "device": "cpu"})
        )

    return fill


def _write_judgement(shard: Path, refused: set[int]) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        ids = pq.read_table(shard / "shard.parquet", columns=["sample_id"])
        accepted = pa.array([i not in refused for i in range(ids.num_rows)])
        pq.write_table(ids.append_column("accepted", accepted), folder / "features.parquet")

    return fill


def write_stages(
    root: Path,
    schema: DatasetSchema = TABLE,
    real: dict[str, list[Any]] | None = None,
    drawn: Sequence[list[Any]] | None = None,
    tag: str = "k",
) -> Stages:
    """The artifacts of one run; ``tag`` makes other keys. Row 1 of the first shard is refused by its judge."""
    a, b, *rest = schema.classes or (None, None)
    c = rest[0] if rest else b
    real = real or {"train": [a] * 12 + [b] * 5 + [c] * 3, "validation": [a, b, c], "test": [a, b, c, a, b, c]}
    drawn = drawn if drawn is not None else [[a, a, a, b, b], [b, b, c, c, c, c], [c, a]]
    store = Store.open(str(root))
    real_ref = store.write("ingest", tag, _write_real(schema, real))

    def model(folder: Path) -> None:
        (folder / "weights.safetensors").write_bytes(f"weights {tag}".encode())
        described = {"model": {"kind": "vae"}, "train_rows_sha256": "a" * 64, "device": "cpu", "parameters": 3}
        (folder / "model.json").write_text(json.dumps({**described, "packages": {"torch": "2.0.0"}}))
        (folder / "metrics.jsonl").write_text("")

    model_ref = store.write("train", tag, model)
    shards, judged = [], []
    for number, labels in enumerate(drawn):
        shard = store.write(
            "generate", f"{tag}{number}", _write_shard(schema, labels, model_ref.sha256[:12], 0, number)
        )
        judgement = _write_judgement(store.path(shard), {1} if number == 0 else set())
        shards.append(shard)
        judged.append(store.write("judge", f"{tag}{number}", judgement))
    audit = write_audit(store, tag, passing())
    stages = Stages(store, schema, real_ref, model_ref, tuple(shards), tuple(judged), audit)
    (root / f"{tag}.json").write_text(json.dumps([[r.model_dump() for r in refs] for refs in stages.references]))
    return stages


def publish_another(stages: Stages, number: int) -> Stages:
    """Other data under the same name."""
    another = write_stages(stages.store.root, tag=f"n{number}", drawn=[["ant", "bee", "cow"] + ["ant"] * number])
    assert another.publish(run_id=f"run-{number}").status == "published"
    return another


def read_stages(root: Path, tag: str) -> Stages:
    """What :func:`write_stages` wrote with ``tag``, perhaps in another process."""
    references = json.loads((root / f"{tag}.json").read_text())
    single, shards, judged = [tuple(ArtifactRef.model_validate(r) for r in refs) for refs in references]
    store = Store.open(str(root))
    schema = DatasetSchema.load(store.path(single[0]) / "schema.json")
    return Stages(store, schema, single[0], single[1], shards, judged, single[2])
