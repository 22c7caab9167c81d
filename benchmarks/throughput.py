"""Rows per second and peak memory of every stage, beside plain pyarrow writing the same tables in the same run.

    python benchmarks/throughput.py [--quick] [--json] [--rows 100000 1000000] [--images 200000]

A mixed table (12 columns and a label) and 28x28 images go through ingest, one step of training (the samples of an
untrained model cost as much as those of a trained one), generation of as many rows, validation and publication. Each
case runs in a process of its own; its peak of anonymous memory is sampled every 20 ms, mapped files apart.
`ratio` is the time of the plain write over the time of the publication, which also counts rows, draws the report,
hashes and opens everything with its readers; `write_ratio` is that of the writing of its tables alone.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _machine import machine, versions


def mixed_table(rows: int, path: Path) -> None:
    """Six decimal and two integer columns, three of texts, one of booleans, with gaps and many zeros; three classes."""
    draw = np.random.default_rng(0)
    with pq.ParquetWriter(path, _mixed_batch(draw, 1).schema) as writer:
        for start in range(0, rows, 50_000):
            writer.write_batch(_mixed_batch(draw, min(50_000, rows - start)))


def _mixed_batch(draw: np.random.Generator, rows: int) -> pa.RecordBatch:
    label = draw.choice(["common", "rare", "scarce"], rows, p=[0.7, 0.25, 0.05])
    shift = (label == "rare") * 1.0 + (label == "scarce") * 2.0
    columns: dict[str, pa.Array] = {f"x{i}": pa.array(np.round(draw.normal(shift, 1 + i / 5), 4)) for i in range(4)}
    columns["gap"] = pa.array(np.round(draw.gamma(2.0, 1.0, rows), 3), mask=draw.random(rows) < 0.1)
    columns["gain"] = pa.array(np.where(draw.random(rows) < 0.9, 0, draw.integers(1, 100_000, rows)))
    columns["age"] = pa.array(draw.integers(17, 91, rows))
    columns["town"] = pa.array(draw.choice([f"town {i}" for i in range(40)], rows))
    columns["colour"] = pa.array(draw.choice(["red", "green", "blue"], rows))
    columns["size"] = pa.array(draw.choice(["S", "M", "L", "XL"], rows), mask=draw.random(rows) < 0.05)
    columns["member"] = pa.array(draw.random(rows) < 0.3)
    columns["score"] = pa.array(np.round(draw.beta(2, 5, rows), 5))
    columns["label"] = pa.array(label)
    return pa.RecordBatch.from_pydict(columns)


def images(rows: int, folder: Path) -> None:
    """28x28 images in the IDX format: noisy enlargements of scikit-learn's digits, each moved by some pixels."""
    from sklearn.datasets import load_digits

    draw = np.random.default_rng(0)
    digits = load_digits()
    large = np.kron(digits.images, np.ones((1, 3, 3))) * 15.9
    with gzip.open(folder / "images.gz", "wb", compresslevel=1) as file:
        file.write(np.array([2051, rows, 28, 28], dtype=">i4").tobytes())
        chosen = draw.integers(0, len(large), rows)
        for start in range(0, rows, 10_000):
            part = chosen[start : start + 10_000]
            canvas = np.zeros((len(part), 28, 28))
            for index, (row, down, right) in enumerate(
                zip(part, draw.integers(0, 5, len(part)), draw.integers(0, 5, len(part)), strict=True)
            ):
                canvas[index, down : down + 24, right : right + 24] = large[row]
            noisy = canvas + (canvas > 0) * draw.normal(0, 12, canvas.shape)
            file.write(noisy.clip(0, 255).astype(np.uint8).tobytes())
    with gzip.open(folder / "labels.gz", "wb") as file:
        file.write(np.array([2049, rows], dtype=">i4").tobytes() + digits.target[chosen].astype(np.uint8).tobytes())


class PeakMemory:
    """The largest anonymous resident memory of this process, in MiB, sampled while it runs."""

    def __init__(self) -> None:
        self.peaks: dict[str, float] = {}
        self.stage = "start"
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    self.peaks[self.stage] = max(self.peaks.get(self.stage, 0.0), int(line.split()[1]) / 1024)
            time.sleep(0.02)


@contextmanager
def timed(seconds: dict[str, float], stage: str, memory: PeakMemory) -> Iterator[None]:
    memory.stage = stage
    began = time.monotonic()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.monotonic() - began


def run_case(kind: str, rows: int, folder: Path) -> dict[str, Any]:
    """All stages on ``rows`` rows of ``kind``, in this process."""
    from augment.config import RunConfig
    from augment.generation import default_shard_rows, generate_shard, load_model, shard_requests
    from augment.ingest import ingest
    from augment.plan import rows_to_draw
    from augment.publishing import RunContext, publish
    from augment.store import Store
    from augment.training import train
    from augment.validation import active_checks, conclude, judge_shard, make_reference

    if kind == "table":
        mixed_table(rows, folder / "table.parquet")
        source = {"kind": "parquet", "path": folder / "table.parquet", "label": "label"}
    else:
        images(rows, folder)
        source = {"kind": "idx", "images": folder / "images.gz", "labels": folder / "labels.gz"}
    config = RunConfig.model_validate(
        {
            "name": "throughput",
            "source": source,
            "split": {"test": 0.01, "validation": 0.01},
            "train": {"steps": 1},
            "plan": {"kind": "multiply", "factor": 2},
            "checks": [{"kind": "sample_quality", "enabled": False}],
            "store": str(folder / "store"),
        }
    )
    store = Store.open(config.store)
    checks = active_checks(config.checks)
    seconds: dict[str, float] = {}
    memory = PeakMemory()
    with timed(seconds, "ingest", memory):
        real = ingest(config.source, config.split, config.seed, store)
    with timed(seconds, "train", memory):
        model = train(real, config.model, config.train, config.seed, store)
    wanted = rows_to_draw(config.plan, real, store)
    with timed(seconds, "generate", memory):
        network, _ = load_model(model, store)
        requests = shard_requests(wanted, 0, default_shard_rows(network.spec))
        shards = [generate_shard(model, real, config.generate, r, config.seed, store) for r in requests]
    with timed(seconds, "validate", memory):
        reference = make_reference(real, checks, config.seed, store)
        judged: list[Any] = []
        for shard in shards:
            judged.append(judge_shard(shard, reference, real, checks, store, judged))
        audit = conclude(real, reference, model, wanted, shards, judged, checks, store)
    written: list[float] = []

    def note(*_: object) -> None:
        written.append(time.monotonic())

    context = RunContext(run_id="throughput", config=config.model_dump(mode="json"))
    began = time.monotonic()
    with timed(seconds, "publish", memory):
        publication = publish(
            config.name, real, model, shards, judged, audit, store=store, context=context, progress=note
        )
    memory.stage = "plain write"
    plain = plain_write_seconds(Path(publication.path), folder / "plain")
    synthetic = sum(count["synthetic"] for count in publication.rows.values())
    return {
        "case": f"{kind} {rows}",
        "status": publication.status,
        "synthetic_rows": synthetic,
        "rows_per_second": {stage: round(rows / value) for stage, value in seconds.items() if stage != "train"},
        "seconds": {stage: round(value, 2) for stage, value in seconds.items()},
        "plain_write_seconds": round(plain, 2),
        "write_ratio": round(plain / (written[-1] - began), 3),
        "validation_over_generation": round(seconds["validate"] / seconds["generate"], 3),
        "peak_anonymous_mib": {stage: round(value) for stage, value in memory.peaks.items()},
        "ratio": round(plain / seconds["publish"], 3),
    }


def plain_write_seconds(version: Path, target: Path) -> float:
    """What pyarrow takes to write and sync the very tables that were published, already in memory."""
    paths = sorted(version.rglob("*-00000.parquet"))
    tables = [(f"{index}-{path.name}", pq.read_table(path)) for index, path in enumerate(paths)]
    target.mkdir()
    began = time.monotonic()
    for name, table in tables:
        pq.write_table(table, target / name, compression="zstd", row_group_size=10_000)
        with (target / name).open("rb") as file:
            os.fsync(file.fileno())
    return time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20,000 and 100,000 rows, 10,000 images")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", help="not needed: the data are made")
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--images", type=int, nargs="*", default=[200_000])
    parser.add_argument("--case", nargs=3, metavar=("KIND", "ROWS", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(run_case(args.case[0], int(args.case[1]), Path(args.case[2]))))
        return 0
    tables, pictures = ([20_000, 100_000], [10_000]) if args.quick else (args.rows, args.images)
    rows = []
    for kind, count in [("table", n) for n in tables] + [("image", n) for n in pictures]:
        with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
            child = [sys.executable, __file__, "--case", kind, str(count), folder]
            result = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True)
            rows.append(json.loads(result.stdout.splitlines()[-1]))
            print(rows[-1], file=sys.stderr)
    print(json.dumps({"machine": machine(), "versions": versions(), "rows": rows}, indent=None if args.json else 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
