"""Whether a published folder tells one story about which rows are synthetic."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from augment._layout import ID_PREFIX, IS_SYNTHETIC_KEY, PARTS, Part
from augment.errors import IntegrityError
from augment.schema import DatasetSchema

CHECKED = ("is_synthetic", "sample_id", "split")
BATCH_ROWS = 65_536


def refuse_contradictions(folder: Path, schema: DatasetSchema) -> None:
    """Refuse a folder whose rows are called synthetic in one place and real in another.

    Compared are the file's folder, its Parquet metadata, the column ``is_synthetic``, the beginning of ``sample_id``
    and, for the split, the file's name and the column ``split``.

    Raises:
        IntegrityError: names the file and what in it contradicts; or a file is missing or unreadable.
    """
    for part in PARTS:
        files = part.files(folder)
        if not files and part.split == "train":
            raise IntegrityError(f"{folder / part.folder} has no Parquet file; use another version.")
        for file in files:
            _refuse_file(file, part, schema)


def _refuse_file(file: Path, part: Part, schema: DatasetSchema) -> None:
    """Refuse one file of ``part``."""
    try:
        metadata = pq.read_schema(file)
        absent = {c.name for c in schema.columns} | set(CHECKED) | {"sample_weight"}
        absent -= set(metadata.names)
        if absent:
            raise IntegrityError(f"{file} lacks the column '{min(absent)}'; use another version.")
        said = _agreements(file, part)
    except (pa.ArrowInvalid, OSError) as error:
        raise IntegrityError(f"{file} cannot be read as Parquet ({error}); use another version.") from None
    said["its metadata"] = (metadata.metadata or {}).get(IS_SYNTHETIC_KEY) == str(part.is_synthetic).lower().encode()
    for what, agrees in said.items():
        if not agrees:
            story = f"{'synthetic' if part.is_synthetic else 'real'} rows of {part.split}"
            raise IntegrityError(f"{file} is where {story} are, but {what} says otherwise; use another version.")


def _agreements(file: Path, part: Part) -> dict[str, bool]:
    """Whether all rows say that they are of ``part``, by what says it; a batch of rows at a time."""
    said = dict.fromkeys((f"the column {name}" for name in CHECKED), True)
    with pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(BATCH_ROWS, columns=list(CHECKED)):
            said["the column is_synthetic"] &= _all(pc.equal(batch["is_synthetic"], part.is_synthetic))
            said["the column sample_id"] &= _all(pc.starts_with(batch["sample_id"], ID_PREFIX[part.is_synthetic]))
            said["the column split"] &= _all(pc.equal(batch["split"], part.split))
    return said


def _all(values: pa.Array) -> bool:
    """Whether all are true; null is not."""
    return bool(pc.all(pc.fill_null(values, False), min_count=0).as_py())
