"""Takes a table with a column of a given kind through every stage but training and prints what came out, as JSON.

``python kind_line.py STORE TABLE.parquet KIND``; the label is the column ``species``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _small_store import Stages, passing, write_audit

from augment import load_dataset
from augment._features import learn_traits, profile
from augment._hashing import content_hashes
from augment.codec import Codec
from augment.config import SplitSection
from augment.encoding import encode
from augment.ingest import ingest
from augment.schema import DatasetSchema
from augment.sources.parquet_file import ParquetFile
from augment.store import ArtifactRef, Store


def main(root: Path, table: Path, kind: str) -> dict[str, Any]:
    store = Store.open(str(root))
    real = ingest(ParquetFile(path=table, label="species"), SplitSection(test=0.2, validation=0.1), 7, store)
    schema = DatasetSchema.load(store.path(real) / "schema.json")
    (column,) = (c for c in schema.features if c.kind == kind)
    train = pq.read_table(store.path(real) / "train.parquet")
    rows = _decoded(encode(real, 7, store), store)
    traits = {c.name: learn_traits(schema, c.name, train[c.name].chunks) for c in schema.features}
    frame, faults = profile(rows, schema, traits)
    shard = store.write("generate", "k", lambda folder: _write_shard(folder, rows, schema))
    judged = store.write("judge", "k", lambda folder: _write_judgement(folder, rows.num_rows))
    model = store.write("train", "k", _write_model)
    stages = Stages(store, schema, real, model, (shard,), (judged,), write_audit(store, "k", passing()))
    published = stages.publish("waits", report_writer=None, consumer=None)
    opened = load_dataset(published.path)
    torch_rows = opened.torch("train", synthetic="none")
    croissant = json.loads((opened.path / "croissant.json").read_text())
    return {
        "column": column.name,
        "reason": column.reason,
        "type": column.type,
        "came_back": rows.column(column.name).equals(train[column.name].combine_chunks()),
        "same_hashes": content_hashes(rows, schema).equals(train["content_hash"].combine_chunks()),
        "other_hashes": len(set(train["content_hash"].to_pylist())),
        "measures": list(frame.columns),
        "faults": sorted(faults[column.name]),
        "status": published.status,
        "consumer": next(g.sentence for g in published.gates if g.gate == "consumer_smoke"),
        "drawn": [c["column"] for c in json.loads((opened.path / "report/metrics.json").read_text())["columns"]],
        "torch": torch_rows.arrays()[0][:, torch_rows.columns.index(column.name)].tolist(),
        "rows": opened.arrow("train", synthetic="none")["source_row_id"].to_pylist(),
        "pandas": str(opened.pandas("train")[column.name].dtype),
        "hf": str(opened.hf("augmented")["train"].features[column.name]),
        "croissant": next(
            f["dataType"] for r in croissant["recordSet"] for f in r["field"] if f["name"] == f"real/{column.name}"
        ),
    }


def _decoded(encoded: ArtifactRef, store: Store) -> pa.RecordBatch:
    import torch

    folder = store.path(encoded)
    codec = Codec.load(folder / "codec.json")
    return codec.decode(codec.tensor(np.load(folder / "x.npy")), torch.from_numpy(np.load(folder / "y.npy")))


def _write_shard(folder: Path, rows: pa.RecordBatch, schema: DatasetSchema) -> None:
    count = rows.num_rows
    added = {
        "sample_id": pa.array([f"syn-{'0' * 12}-0-{i}" for i in range(count)]),
        "generator_id": pa.array(["0" * 12] * count),
        "gen_seed": pa.array([7] * count, pa.int64()),
        "gen_index": pa.array(range(count), pa.int64()),
        "parent_ids": pa.nulls(count, pa.list_(pa.string())),
        "content_hash": content_hashes(rows, schema),
    }
    table = pa.Table.from_batches([rows])
    for name, values in added.items():
        table = table.append_column(name, values)
    pq.write_table(table, folder / "shard.parquet")
    (folder / "shard.json").write_text(json.dumps({"round": 0, "shard": 0, "rows": count}))


def _write_judgement(folder: Path, count: int) -> None:
    ids = [f"syn-{'0' * 12}-0-{i}" for i in range(count)]
    pq.write_table(pa.table({"sample_id": ids, "accepted": [True] * count}), folder / "features.parquet")


def _write_model(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"weights")
    described = {"model": {"kind": "vae"}, "train_rows_sha256": "a" * 64, "device": "cpu", "parameters": 3}
    (folder / "model.json").write_text(json.dumps(described))
    (folder / "metrics.jsonl").write_text("")


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])))
