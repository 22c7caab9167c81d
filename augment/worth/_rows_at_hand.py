"""The rows of a run in the form in which its downstream learners take them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from augment._seeding import numpy_generator
from augment.codec import Codec
from augment.schema import DatasetSchema, class_indices
from augment.worth._arms import NO_PLACES, Sides, scarce_classes
from augment.worth._downstream import Downstream, Places
from augment.worth._image_arms import Images
from augment.worth._policies import Policy
from augment.worth._table_arms import Tables
from augment.worth._tables import known_categories, table_features
from models._contract import Batch

BATCH_ROWS = 10_000
RESERVE = "reserve.parquet"


class Paths(NamedTuple):
    """Where rows lie: the real parts, the encoded training rows with their codec, shards and what was said of them.

    With ``compare``, rows of the first round that the selection left out are wanted too.
    """

    real: Path
    encoded: Path
    shards: Sequence[Path]
    judged: Sequence[Path]
    compare: bool = False


class AtHand(NamedTuple):
    """Learners with all rows, which rows are on which side, and the classes of the labelled held-out rows."""

    downstream: Downstream
    sides: Sides
    validation_y: Places
    test_y: Places


def at_hand(paths: Paths, policy: Policy, equal_mass: bool, seed: int) -> AtHand:
    """All rows, read once; images as levels, tables as frames. Held-out rows without a label are left out."""
    codec = Codec.load(paths.encoded / "codec.json")
    schema = codec.table
    parts: dict[str, pa.Table] = {}
    for name in ("train", "validation", "test"):
        table = _read(paths.real / f"{name}.parquet", schema)
        parts[name] = table if name == "train" else _labelled(table, schema)
    reserve = paths.real / RESERVE
    real = pa.concat_tables([parts["train"], _read(reserve, schema)]) if reserve.exists() else parts["train"]
    synthetic, spare, selected = _synthetic(paths, schema)
    y = {name: _classes(t, schema) for name, t in [*parts.items(), ("real", real), ("synthetic", synthetic)]}
    downstream: Downstream
    if codec.spec.form == "grid":
        encoded = {
            name: _levels(codec, table, numpy_generator(seed, "worth", "rows", name))
            for name, table in {**parts, "real": real, "synthetic": synthetic}.items()
            if name != "train"
        }
        downstream = Images(
            spec=codec.spec,
            real=Batch(encoded["real"], torch.from_numpy(y["real"])),
            synthetic=Batch(encoded["synthetic"], torch.from_numpy(y["synthetic"])),
            validation=encoded["validation"],
            test=encoded["test"],
            policy=policy,
        )
    else:
        categories = known_categories(parts["train"], schema)
        frames = {
            name: table_features(table, schema, categories)
            for name, table in {**parts, "real": real, "synthetic": synthetic}.items()
        }
        downstream = Tables(
            num_classes=codec.spec.num_classes,
            real=frames["real"],
            real_y=y["real"],
            synthetic=frames["synthetic"],
            synthetic_y=y["synthetic"],
            validation=frames["validation"],
            test=frames["test"],
        )
    num_classes = codec.spec.num_classes
    scarce = scarce_classes(y["train"], num_classes)
    sides = Sides(y["real"], len(y["train"]), y["synthetic"], spare, num_classes, scarce, equal_mass, selected)
    return AtHand(downstream, sides, y["validation"], y["test"])


def labelled_classes(real: Path, part: Literal["train", "validation", "test"]) -> Places:
    """The classes of the labelled rows of a part, in order; no other part is read."""
    schema = DatasetSchema.load(real / "schema.json")
    return _classes(_labelled(_read(real / f"{part}.parquet", schema), schema), schema)


class _Synthetic(NamedTuple):
    """The rows that will be published, and from ``spare`` on those of the first round that only the selection left out.

    ``selected`` are the places of those of the first round that it kept, where both are to be compared.
    """

    rows: pa.Table
    spare: int
    selected: Places


def _synthetic(paths: Paths, schema: DatasetSchema) -> _Synthetic:
    published = list(accepted_rows(paths.shards, paths.judged, schema))
    spare, selected, left_out = sum(batch.num_rows for batch in published), NO_PLACES, []
    if paths.compare:
        rounds = [json.loads((said / "rows.json").read_text())["round"] for said in paths.judged]
        shards, judged = (paths_of[: rounds.count(0)] for paths_of in (paths.shards, paths.judged))  # rounds in order
        selected = np.arange(sum(batch.num_rows for batch in accepted_rows(shards, judged, schema)))
        left_out = list(accepted_rows(shards, judged, schema, left_out=True))
    return _Synthetic(pa.Table.from_batches([*published, *left_out], schema.arrow_schema), spare, selected)


def accepted_rows(
    shards: Sequence[Path], judged: Sequence[Path], schema: DatasetSchema, *, left_out: bool = False
) -> Iterator[pa.RecordBatch]:
    """The data's own columns of the rows that will be published, or of those that only the selection has left out."""
    names = schema.arrow_schema.names
    columns = ["selection.asked", "accepted"] if left_out else ["accepted"]
    for shard, verdicts in zip(shards, judged, strict=True):
        with pq.ParquetFile(shard / "shard.parquet") as rows, pq.ParquetFile(verdicts / "features.parquet") as said:
            pairs = zip(
                rows.iter_batches(BATCH_ROWS, columns=names),
                said.iter_batches(BATCH_ROWS, columns=columns),
                strict=True,
            )
            for drawn, verdict in pairs:
                kept = drawn.filter(pc.and_not(*verdict.columns) if left_out else verdict.column("accepted"))
                yield pa.RecordBatch.from_arrays([kept.column(n) for n in names], schema=schema.arrow_schema)


def _read(file: Path, schema: DatasetSchema) -> pa.Table:
    return pq.read_table(file, columns=schema.arrow_schema.names).cast(schema.arrow_schema)


def _labelled(table: pa.Table, schema: DatasetSchema) -> pa.Table:
    return table.filter(pa.array(_classes(table, schema) >= 0))


def _classes(table: pa.Table, schema: DatasetSchema) -> Places:
    return class_indices(table[schema.label] if schema.label is not None else None, schema, table.num_rows)


def _levels(codec: Codec, table: pa.Table, generator: np.random.Generator) -> torch.Tensor:
    """The rows as a model's cache holds them: uint8 levels of images."""
    parts: list[NDArray[Any]] = [np.empty((0, *codec.shape), codec.cache_type)]
    parts += [codec.encode(batch, generator).x for batch in table.combine_chunks().to_batches(BATCH_ROWS)]
    return torch.from_numpy(np.concatenate(parts))
