"""One synthetic shard on trial: its features, what Great Expectations says of them, and which rows are accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from augment._features import profile
from augment._hashing import hash_pairs
from augment.checks._contract import Check, Flags, Judged, Learned, RowFigures, Shard, ShardRecord, sound_rows
from augment.checks._hashes import HASH
from augment.checks._real import class_names
from augment.columns._profile import Traits
from augment.schema import DatasetSchema
from augment.selection import Selection
from augment.store import ArtifactRef
from augment.validation._expectations import judge

if TYPE_CHECKING:
    import pandas as pd

    from augment.worth.encoders import Encoders

PROVENANCE = {
    "sample_id": pa.string(),
    "generator_id": pa.string(),
    "gen_seed": pa.int64(),
    "gen_index": pa.int64(),
    "content_hash": pa.string(),
}
CHOICE = "choice.json"
PARENTS = {"parent_ids": pa.list_(pa.string())}  # null where a row has none
REJECT_FIELDS = (
    pa.field("reject_gate", pa.string()),
    pa.field("reject_reason", pa.string()),
    pa.field("reject_round", pa.int64()),
)


@dataclass(frozen=True)
class Yardstick:
    """What shards are measured with: the schema, the traits of the columns, the checks and what they learned.

    ``encoders`` are there where a check needs them, ``selection`` where rows are selected.
    """

    schema: DatasetSchema
    traits: Mapping[str, Traits]
    checks: Sequence[Check]
    learned: Mapping[str, Learned]
    encoders: Encoders | None = None
    selection: Selection | None = None


def judge_table(
    table: pa.Table,
    info: Mapping[str, Any],
    shard: ArtifactRef,
    yardstick: Yardstick,
    earlier: Sequence[Path],
    to: Path,
    room: Mapping[str, int] | None = None,
) -> None:
    """Write ``features.parquet``, ``rejects.parquet``, ``hashes.npy`` and ``rows.json`` of one shard into ``to``.

    ``info`` is the content of the shard's ``shard.json``; ``earlier`` are the folders of the shards judged before;
    ``room`` says how many rows of each class may still be selected. Where rows are, ``choice.json`` is written too.
    """
    schema = yardstick.schema
    malformed = _malformed(table, schema, info)
    if malformed:
        # Nothing can be said of single rows; the set is refused for it.
        table = pa.table({f.name: pa.array([], f.type) for f in schema.arrow_schema} | _no_provenance())
    features, found_faults = profile(table, schema, yardstick.traits)
    column_faults = _with_misfits(found_faults, {} if malformed else info.get("misfits", {}), len(table))
    hashes = _content(table, schema, sound := sound_rows(column_faults, len(table)))
    seen = Shard(schema, table, features, column_faults, hashes, int(info["round"]), earlier, yardstick.encoders)
    found = {check.kind: check.rows(seen, yardstick.learned[check.kind]) for check in yardstick.checks}
    frame = _row_table(features, found)
    expectations = [
        (check.kind, expectation)
        for check in yardstick.checks
        for expectation in check.row_expectations(yardstick.learned[check.kind])
    ]
    gates, reasons = _verdicts(len(table), found)
    names = class_names(table, schema)
    judged = [] if malformed else judge("sample_features", frame, expectations)
    if yardstick.selection is not None:
        chosen = yardstick.selection.choose(table, names, (gates == "") & sound, room)
        gates, reasons = gates + chosen.gates, reasons + chosen.reasons  # of a row one of the two is empty
        frame = frame.assign(**chosen.columns)
        (to / CHOICE).write_text(chosen.choice.model_dump_json(indent=1) + "\n")
    accepted = gates == ""
    record = _record(shard, seen, names, gates, malformed, judged)
    _write_features(to / "features.parquet", table, names, hashes, frame, (sound, accepted), reasons)
    _write_rejects(to / "rejects.parquet", table, schema, gates, reasons, seen.round)
    np.save(to / "hashes.npy", np.sort(hashes))
    (to / "rows.json").write_text(record.model_dump_json(indent=1) + "\n")


def _record(
    ref: ArtifactRef,
    shard: Shard,
    names: NDArray[Any],
    gates: NDArray[Any],
    malformed: list[str],
    judged: list[Judged],
) -> ShardRecord:
    """What was found in a shard; ``names`` are the classes of its rows, ``gates`` those that reject them."""
    table, accepted = shard.table, gates == ""
    return ShardRecord(
        shard=ref,
        round=shard.round,
        rows=len(table),
        drawn=_counts(names),
        accepted=_counts(names[accepted]),
        rejected=_counts(gates[~accepted]),
        generator_ids=sorted(set(table["generator_id"].unique().to_pylist())),
        first_index=int(table["gen_index"].to_numpy().min()) if len(table) else None,
        last_index=int(table["gen_index"].to_numpy().max()) if len(table) else None,
        malformed=malformed,
        judged=judged,
    )


def rejects_schema(schema: DatasetSchema) -> pa.Schema:
    """The columns of ``rejects.parquet``: the id, the data's own columns, and why the row was left out.

    Their names are among those that data cannot have.
    """
    return pa.schema([pa.field("sample_id", pa.string()), *schema.arrow_schema, *REJECT_FIELDS])


def _malformed(table: pa.Table, schema: DatasetSchema, info: Mapping[str, Any]) -> list[str]:
    """What is wrong with the table as a whole: columns, types, provenance, number of rows."""
    wanted = {field.name: field.type for field in schema.arrow_schema} | PROVENANCE | PARENTS
    present = {field.name: field.type for field in table.schema}
    wrong = [f"the column '{name}' is missing" for name in wanted if name not in present]
    wrong += [
        f"the column '{name}' is {present[name]} instead of {kind}"
        for name, kind in wanted.items()
        if name in present and present[name] != kind
    ]
    wrong += [f"the column '{n}' has missing values" for n in PROVENANCE if n in present and table[n].null_count]
    if table.num_rows != info["rows"]:
        wrong.append(f"a shard of {info['rows']:,} rows holds {table.num_rows:,}")
    return wrong


def _with_misfits(
    faults: Mapping[str, Mapping[str, Flags]], misfits: Mapping[str, Sequence[int]], rows: int
) -> dict[str, Mapping[str, Flags]]:
    """``faults`` with the values that were none of their column's type and could not be kept: by column, which rows.

    Those are not called missing besides.
    """
    found = dict(faults)
    for column, places in misfits.items():
        other_type = np.zeros(rows, dtype=bool)
        other_type[list(places)] = True
        own = {name: flags & ~other_type for name, flags in faults[column].items()}
        found[column] = {"other_type": other_type, **own}
    return found


def _no_provenance() -> dict[str, pa.Array]:
    return {name: pa.array([], kind) for name, kind in (PROVENANCE | PARENTS).items()}


def _content(table: pa.Table, schema: DatasetSchema, sound: Flags) -> NDArray[np.bytes_]:
    """The content hashes of the rows; zeros where a row is malformed and has no content to speak of."""
    hashes = np.zeros(len(table), dtype=HASH)
    pairs = [hash_pairs(batch, schema) for batch in table.filter(pa.array(sound)).to_batches()]
    if pairs:
        hashes[sound] = np.ascontiguousarray(np.concatenate(pairs), ">u8").view(HASH)[:, 0]
    return hashes


def _row_table(features: pd.DataFrame, found: Mapping[str, RowFigures]) -> pd.DataFrame:
    """The features and the columns of all checks side by side."""
    import pandas as pd

    columns = {name: values for figures in found.values() for name, values in figures.columns.items()}
    return pd.concat([features, pd.DataFrame(columns, index=features.index)], axis=1)


def _verdicts(rows: int, found: Mapping[str, RowFigures]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The first gate that rejects each row and its reason; empty texts where the row is accepted."""
    gates, reasons = np.full(rows, "", dtype=object), np.full(rows, "", dtype=object)
    for gate, figures in found.items():
        for fault in figures.faults:
            if fault.rejects:
                rejected = fault.rows & (gates == "")
                gates[rejected], reasons[rejected] = gate, fault.reason
    return gates, reasons


def _counts(names: NDArray[Any]) -> dict[str, int]:
    return dict(sorted(Counter(names.tolist()).items()))


def _write_features(
    path: Path,
    table: pa.Table,
    names: NDArray[Any],
    hashes: NDArray[np.bytes_],
    frame: pd.DataFrame,
    flags: tuple[Flags, Flags],
    reasons: NDArray[Any],
) -> None:
    """One row a row: who it is, its features and flags, and the verdict."""
    # The hash that was computed here, not the one that the row states.
    digits = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(hashes), [None, pa.py_buffer(hashes.tobytes())])
    columns = {
        "sample_id": table["sample_id"],
        "label": pa.array(names, pa.string()),
        "hash": digits,
        **{str(name): pa.array(frame[name].to_numpy()) for name in frame.columns},
        "sound": pa.array(flags[0]),
        "accepted": pa.array(flags[1]),
        "reason": pa.array(reasons, pa.string()),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def _write_rejects(
    path: Path, table: pa.Table, schema: DatasetSchema, gates: NDArray[Any], reasons: NDArray[Any], number: int
) -> None:
    """The rows that are left out, whole, with gate and reason."""
    out = gates != ""
    left_out = table.filter(pa.array(out))
    target = rejects_schema(schema)
    columns = {name: left_out[name] for name in ("sample_id", *schema.arrow_schema.names)}
    columns["reject_gate"] = pa.array(gates[out], pa.string())
    columns["reject_reason"] = pa.array(reasons[out], pa.string())
    columns["reject_round"] = pa.array(np.full(int(out.sum()), number, dtype=np.int64))
    pq.write_table(pa.table(columns).cast(target), path, compression="zstd")
