"""Lineage: the synthetic rows come from this model, and the model from these training rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from augment._hashing import value_pairs
from augment._layout import ID_PREFIX
from augment.checks._contract import (
    Check,
    Evidence,
    Figures,
    Finding,
    Flags,
    Learned,
    RowFigures,
    Shard,
    bounded,
)
from augment.checks._hashes import contained, save_sorted
from augment.checks._real import HELD_OUT, Part, RealRows
from augment.gates import plural
from augment.schema import DatasetSchema, class_indices
from augment.store import ArtifactRef

FOREIGN = "lineage.foreign_parent"


class Lineage(Check):
    """Refuses rows whose origin is not what the artifacts say, and a model that may have seen held-out rows.

    Of rows that somebody else generated the files are known, with their hashes, and not what the generator saw.

    Artifacts are compared by what they contain. Their keys may differ: a setting that changes nothing gives equal bytes
    another key, and a model or judgement from the cache still names the first one.
    """

    kind: Literal["lineage"] = "lineage"
    summary: ClassVar[str] = "every synthetic row comes from this model, which was trained on these training rows only"
    mandatory: ClassVar[bool] = True
    stops: ClassVar[bool] = True

    def learn(self, real: RealRows, folder: Path) -> Figures:
        """How many training rows have the content of a held-out row; the training rows' ids in order, their classes."""
        ordered = folder / "held_out.npy"
        save_sorted(ordered, real.hashes(*HELD_OUT), real.num_rows(*HELD_OUT))
        held_out = np.load(ordered, mmap_mode="r")
        shared = sum(int(contained(hashes, held_out).sum()) for hashes in real.hashes("train"))
        del held_out
        ordered.unlink()
        _save_rows(real, folder)
        return {"train_rows_held_out": shared, "train_rows_of_held_out_groups": _rows_of_held_out_groups(real)}

    def rows(self, shard: Shard, learned: Learned) -> RowFigures:
        """Which rows name a parent that is no training row of their own class."""
        return RowFigures({FOREIGN: _foreign_parents(shard.table, shard.schema, learned)})

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """The number of broken links from the synthetic rows back to the training rows; none is allowed."""
        model = json.loads((evidence.model_path / "model.json").read_text())
        files = model.get("files")  # rows that were there already
        own_links = self._model_links if files is None else self._file_links
        broken = [*own_links(evidence, model), *self._shard_links(evidence)]
        shared = int(learned.figures["train_rows_held_out"])
        if shared:
            broken.append(f"{shared:,} training rows have the same content as a validation or test row")
        leaked = int(learned.figures["train_rows_of_held_out_groups"])
        if leaked:
            broken.append(f"{leaked:,} training rows are of the same group as a validation or test row")
        origin = (
            f"generator {evidence.model.sha256[:12]}, which saw training rows only" if files is None else _of(files)
        )
        return Finding(
            f"The lineage is broken: {'; '.join(broken)}." if broken else f"Every synthetic row comes from {origin}.",
            value=len(broken),
            limit=0,
            metrics={"broken_links": len(broken)},
            set_expectations=bounded("lineage.broken_links", 0, 0),
        )

    def _model_links(self, evidence: Evidence, model: Mapping[str, Any]) -> Iterator[str]:
        """What does not fit between the model and the real data."""
        ingested = json.loads((evidence.real_path / "ingest.json").read_text())
        if _content(ArtifactRef.model_validate(model["real"])) != _content(evidence.real):
            yield "the model was trained on other real data"
        if not model.get("train_rows_sha256") or model["train_rows_sha256"] != ingested["train_rows_sha256"]:
            yield "the model's training rows are not the training part"

    def _file_links(self, evidence: Evidence, model: Mapping[str, Any]) -> Iterator[str]:
        """What does not fit between the files that rows were taken from, their record and the real data."""
        if _content(ArtifactRef.model_validate(model["real"])) != _content(evidence.real):
            yield "the rows were taken for other real data, or another split of them"
        if not model["files"].get("number") or not model["files"].get("sha256"):
            yield "the files that the rows were taken from are not recorded"
        if evidence.altered:
            named = ", ".join(evidence.altered[:3])
            yield f"files are no longer what the rows were taken from: {len(evidence.altered):,}, such as {named}"

    def _shard_links(self, evidence: Evidence) -> Iterator[str]:
        """What does not fit between the shards, what was judged, and the model."""
        if [_content(record.shard) for record in evidence.records] != [_content(shard) for shard in evidence.shards]:
            yield "the shards that were judged are not the shards that were drawn"
        expected = evidence.model.sha256[:12]
        others = {name for record in evidence.records for name in record.generator_ids} - {expected}
        if others:
            yield f"rows name another generator ({', '.join(sorted(others)[:3])}) than {expected}"
        foreign = sum(map(_count_foreign, evidence.judged_paths))
        if foreign:
            yield f"rows with a parent that is no training row of their class: {foreign:,}"


def _of(files: Mapping[str, Any]) -> str:
    """Where given rows come from, and what cannot be known of it."""
    return (
        f"{plural(files['number'], 'file')} with the recorded hash {files['sha256'][:12]}, read for this split; the "
        "generator's own training rows are not known, so no record excludes that it saw validation or test rows"
    )


def _content(ref: ArtifactRef) -> tuple[str, str]:
    """What tells one artifact's content from another's."""
    return ref.stage, ref.sha256


def _save_rows(real: RealRows, folder: Path) -> None:
    """Write the source row ids of the training rows in ascending order, and the class of each.

    Held in memory are 12 bytes a training row, and three times as many while they are put in order.
    """
    schema = real.schema
    ids, classes = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
    for batch in real.batches(
        "train", columns=["source_row_id", *([schema.label] if schema.label is not None else [])]
    ):
        ids.append(batch.column("source_row_id").to_numpy())
        labels = batch.column(schema.label) if schema.label is not None else None
        classes.append(class_indices(labels, schema, batch.num_rows).astype(np.int32))
    unordered = np.concatenate(ids)
    order = np.argsort(unordered, kind="stable")
    np.save(folder / "train_ids.npy", unordered[order])
    np.save(folder / "train_classes.npy", np.concatenate(classes)[order])


def _rows_of_held_out_groups(real: RealRows) -> int:
    """How many training rows are of a group, by the column that the split names, of which others are held out."""
    group = json.loads((real.path / "ingest.json").read_text()).get("split", {}).get("group")
    if group is None:
        return 0

    def groups(*parts: Part) -> Iterator[NDArray[np.uint64]]:
        for batch in real.batches(*parts, columns=[group]):
            named = pc.drop_null(batch.column(0))  # a row without a group is a group of its own
            yield value_pairs(named, real.schema.column(group))[:, 0]

    held_out = np.unique(np.concatenate([*groups(*HELD_OUT), np.empty(0, np.uint64)]))
    return sum(int(np.isin(own, held_out).sum()) for own in groups("train"))


def _count_foreign(judged: Path) -> int:
    """How many rows of a judged shard name a parent that is no training row of their class."""
    with pq.ParquetFile(judged / "features.parquet") as file:
        return sum(batch.column(0).true_count for batch in file.iter_batches(columns=[FOREIGN]))


def _foreign_parents(table: pa.Table, schema: DatasetSchema, learned: Learned) -> Flags:
    """Which rows have an empty list of parents, or one whose id is not that of a training row of the row's class."""
    named = table["parent_ids"].combine_chunks()
    foreign: Flags = pc.fill_null(pc.equal(pc.list_value_length(named), 0), False).to_numpy(zero_copy_only=False).copy()
    rows = pc.list_parent_indices(named).to_numpy()
    if not len(rows):
        return foreign
    digits = pc.extract_regex(pc.list_flatten(named), f"^{ID_PREFIX[False]}(?P<id>[0-9]{{1,18}})$").field("id")
    ids = pc.fill_null(pc.cast(pc.if_else(pc.equal(digits, ""), None, digits), pa.int64()), -1).to_numpy()
    known, classes = learned.array("train_ids"), learned.array("train_classes")
    labels = table[schema.label].combine_chunks() if schema.label is not None else None
    own = class_indices(labels, schema, len(table))[rows]
    places = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    foreign[rows[(known[places] != ids) | (classes[places] != own)]] = True
    return foreign
