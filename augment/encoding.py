"""The stage `encode`: the training rows as the memory-mapped arrays that a trainer reads, and the fitted codec."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import augment.columns
from augment._plugins import modules_of
from augment._seeding import numpy_generator
from augment.codec import Codec
from augment.ingest import ROW_GROUP_ROWS
from augment.progress import Progress, silent
from augment.schema import DatasetSchema
from augment.store import ArtifactRef, Store, code_version, hash_json


def encode_key(real: ArtifactRef, seed: int) -> str:
    """The key of the artifact that :func:`encode` makes."""
    version = code_version("augment.encoding", "augment.codec", "augment._png", *modules_of(augment.columns))
    return hash_json([real.sha256, seed, version])[:32]


def encode(real: ArtifactRef, seed: int, store: Store, progress: Progress = silent) -> ArtifactRef:
    """The `encode` artifact of the training rows: ``x.npy`` (uint8 levels (N, C, H, W) or float32 (N, D)), ``y.npy``
    (int64 (N,)) and ``codec.json``; nothing is fitted on other rows.

    Raises:
        InputError: a column cannot be learnt from.
    """
    source = store.path(real)

    def fill(folder: Path) -> None:
        schema = DatasetSchema.load(source / "schema.json")
        with pq.ParquetFile(source / "train.parquet") as train:

            def batches(names: Sequence[str]) -> Iterable[pa.RecordBatch]:
                yield from train.iter_batches(ROW_GROUP_ROWS, columns=list(names))

            codec = Codec.fit(batches, schema, seed)
            codec.save(folder / "codec.json")
            names = [c.name for c in schema.columns if c.kind != "ignore"]
            write_arrays(folder, codec, batches(names), train.metadata.num_rows, seed=seed, progress=progress)

    return store.write("encode", encode_key(real, seed), fill)


def write_arrays(
    folder: Path, codec: Codec, batches: Iterable[pa.RecordBatch], num_rows: int, *, seed: int, progress: Progress
) -> None:
    """Write ``x.npy`` and ``y.npy`` batch by batch."""
    generator = numpy_generator(seed, "encode")
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.dtype(codec.cache_type), (num_rows, *codec.shape))
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.dtype(np.int64), (num_rows,))
    start = 0
    for batch in batches:
        stop = start + batch.num_rows
        x[start:stop], y[start:stop] = codec.encode(batch, generator)
        start = stop
        progress("encode", start, num_rows, "row")
    x.flush()
    y.flush()
