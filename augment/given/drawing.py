"""Shards of given rows: a seeded choice of each class, without one row twice, and never more than there are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from augment._images import decode_image
from augment._png import is_plain, plain_shape
from augment._seeding import derive_seed, numpy_generator
from augment._shards import Origin, ShardWriter, with_origin
from augment.checks._contract import sum_by_name
from augment.errors import AugmentError
from augment.generation import (
    MAX_SHARD_ROWS,
    RECORD,
    SHARD,
    SHARD_BYTES,
    STAGE,
    ShardRequest,
    shard_requests,
)
from augment.given.taking import MODEL, ROWS, Supply, rows_schema
from augment.progress import Progress, silent
from augment.schema import DatasetSchema, class_indices, class_name
from augment.store import ArtifactRef, Store, code_version, hash_json

if TYPE_CHECKING:
    from augment.config import GenerateSection

STRANGER = ""  # stands for the class of rows whose label is none of the data's
MOST_STRANGERS = 1_000  # so many are shown to the gates: one is enough to refuse
CODE = ("augment.given", "augment._shards", "augment._seeding", "augment._hashing", "augment._png", "augment.columns")

Places = npt.NDArray[np.int64]
Shape = tuple[int, ...]


class TakenRequest(ShardRequest):
    """A request for given rows: of each class, those after the first ``starts`` of its order."""

    starts: dict[str, int] = Field(description="Rows of each class that earlier shards have taken.")


def taken_requests(
    section: GenerateSection,
    model: ArtifactRef,
    supply: Supply,
    missing: Mapping[str, int],
    judged: Sequence[ArtifactRef],
    number: int,
    store: Store,
) -> list[ShardRequest]:
    """The shards of round ``number``: of ``missing`` rows as many as earlier rounds have left in the supply.

    The first round also holds rows whose label is no class of the data, whoever asks for them: a set that has some is
    refused, by the gate that says so.

    Raises:
        StoreError: the rows or a judgement are not in the store.
    """
    used = sum_by_name(json.loads((store.path(ref) / "rows.json").read_text())["drawn"] for ref in judged)
    wanted = {name: min(rows, supply.rows.get(name, 0) - used.get(name, 0)) for name, rows in missing.items()}
    if number == 0 and supply.strangers:
        wanted[STRANGER] = min(supply.strangers, MOST_STRANGERS)
    requests: list[ShardRequest] = []
    for request in shard_requests(wanted, number, section.shard_rows or default_rows(model, store)):
        starts = {name: used.get(name, 0) for name in request.counts}
        requests.append(TakenRequest(**request.model_dump(), starts=starts))
        used = sum_by_name([used, request.counts])
    return requests


def default_rows(model: ArtifactRef, store: Store) -> int:
    """As many rows as 64 MiB hold, at most 50,000."""
    record = json.loads((store.path(model) / MODEL).read_text())
    return max(1, min(MAX_SHARD_ROWS, SHARD_BYTES // max(1, int(record["row_bytes"]))))


def take_shard(
    model: ArtifactRef, real: ArtifactRef, request: TakenRequest, seed: int, store: Store, progress: Progress = silent
) -> ArtifactRef:
    """The artifact of one shard, one class after the other; the rows of a class in its seeded order.

    Raises:
        StoreError: the rows or the real data are not in the store.
    """
    identity = [model.sha256, real.sha256, request.model_dump(), seed, code_version(*CODE)]

    def fill(folder: Path) -> None:
        schema = DatasetSchema.load(store.path(real) / "schema.json")
        shapes = _image_shapes(store.path(real), schema)
        gathered = _Gathered(store.path(model) / ROWS, schema)
        places = _chosen(gathered.labels(), schema, request, seed)
        origin = Origin(model.sha256[:12], request.round, request.first_index, derive_seed(seed, "given"))
        misfits: dict[str, list[int]] = {}
        step = default_rows(model, store)
        with ShardWriter(folder / SHARD, schema) as writer:
            for first in range(0, len(places), step):
                rows = gathered.rows(places[first : first + step])
                for row, names in enumerate(rows.column(rows.num_columns - 1).to_pylist(), writer.rows):
                    for name in names or ():
                        misfits.setdefault(name, []).append(row)
                writer.write(_marked(rows, schema, origin, writer.rows, shapes))
                progress("take", writer.rows, request.rows, "row")
        if writer.rows != request.rows:
            raise AugmentError(f"shard {request.shard} has {writer.rows} rows and not {request.rows}; report this.")
        record = request.model_dump(exclude={"first_index"}) | {"rows": request.rows, "misfits": misfits}
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")

    return store.write(STAGE, hash_json(["given", *identity])[:32], fill, identity=(SHARD, RECORD))


def _chosen(y: Places, schema: DatasetSchema, request: TakenRequest, seed: int) -> Places:
    """The places among all given rows of those that a shard holds."""
    numbers = {class_name(value): place for place, value in enumerate(schema.classes)} or {"": 0}
    found = [np.empty(0, np.int64)]
    for name, rows in request.counts.items():
        members = np.flatnonzero(y == numbers.get(name, -1))
        order = numpy_generator(seed, "given", name).permutation(members)
        start = request.starts[name]
        found.append(order[start : start + rows])
    return np.concatenate(found)


class _Gathered:
    """The given rows, mapped into memory; only those asked for are copied out of it."""

    def __init__(self, path: Path, schema: DatasetSchema) -> None:
        self._schema = schema
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        sizes = [batch.num_rows for batch in self._batches()]
        self._ends = np.cumsum([0, *sizes])

    def _batches(self) -> Iterator[pa.RecordBatch]:
        return (self._reader.get_batch(number) for number in range(self._reader.num_record_batches))

    def labels(self) -> Places:
        """The class of each row; -1 where its label is none."""
        schema = self._schema
        own = [column.name for column in schema.columns]  # names beside these may be the same
        place = own.index(schema.label) if schema.label is not None else None
        parts = [
            class_indices(batch.column(place) if place is not None else None, schema, batch.num_rows)
            for batch in self._batches()
        ]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def rows(self, places: Places) -> pa.RecordBatch:
        """The rows at ``places``, in that order."""
        order = np.argsort(places, kind="stable")
        ascending = places[order]
        which = np.searchsorted(self._ends, ascending, side="right") - 1
        parts = [
            self._reader.get_batch(int(number)).take(pa.array(ascending[which == number] - self._ends[number]))
            for number in np.unique(which)
        ]
        rows: pa.RecordBatch = pa.Table.from_batches(parts, rows_schema(self._schema)).combine_chunks().to_batches()[0]
        return rows.take(pa.array(np.argsort(order, kind="stable")))


def _marked(
    rows: pa.RecordBatch, schema: DatasetSchema, origin: Origin, first: int, shapes: Mapping[str, Shape]
) -> pa.RecordBatch:
    """``rows`` with the columns of a shard; in the hash of a row, an image that cannot be hashed counts as missing."""
    width = len(schema.columns)
    own = pa.RecordBatch.from_arrays(rows.columns[:width], schema=schema.arrow_schema)
    hashable = [
        _hashable(array, shapes[column.name]) if column.name in shapes else array
        for column, array in zip(schema.columns, own.columns, strict=True)
    ]
    hashed = pa.RecordBatch.from_arrays(hashable, schema=schema.arrow_schema)
    marked = with_origin(hashed, schema, origin, first, rows.column(width))
    return pa.RecordBatch.from_arrays([*own.columns, *marked.columns[width:]], schema=marked.schema)


def _hashable(images: pa.Array, shape: Shape) -> pa.Array:
    """``images``, null where one is damaged or not of the data's ``shape``: pixels are hashed many at a time."""
    files: list[bytes | None] = pc.struct_field(images, "bytes").to_pylist()
    fine = [file is not None and plain_shape(file) == shape and is_plain(file) for file in files]
    return pc.if_else(pa.array(fine, pa.bool_()), images, pa.scalar(None, images.type))


def _image_shapes(real: Path, schema: DatasetSchema) -> dict[str, Shape]:
    """The shape (H, W) or (H, W, 3) of the images in each column of them; they all have the same."""
    names = [column.name for column in schema.features if pa.types.is_struct(column.arrow_type)]
    shapes: dict[str, Shape] = {}
    with pq.ParquetFile(real / "train.parquet") as file:
        for name in names:
            first = next(file.iter_batches(1, columns=[name])).column(0)[0]["bytes"].as_py()
            shapes[name] = decode_image(first, "of a real row").shape
    return shapes
