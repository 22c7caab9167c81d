"""What the columns of a dataset are: saved beside every artifact and read by every stage."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from augment.errors import InputError

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # the Hugging Face Image feature

# Columns that publication adds; a source that has one of these names must rename it.
RESERVED_COLUMNS = (
    "sample_id",
    "is_synthetic",
    "split",
    "source_row_id",
    "parent_ids",
    "generator_id",
    "gen_seed",
    "gen_index",
    "content_hash",
    "sample_weight",
)

# In the order in which a column is offered to the kinds; the first that knows it takes it.
KindName = Literal["image", "boolean", "ignore", "integer", "numeric", "categorical"]
ClassValue = str | int | bool  # what a label may be, as JSON


class ColumnSchema(BaseModel):
    """One column of the data: its kind says how values become numbers, its type how it is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: KindName
    type: Literal["int64", "float64", "string", "bool", "image", "timestamp"]
    reason: str  # why this kind was inferred, or "declared"
    decimals: int | None = None  # the decimals that a numeric column is written with; null: as many as it takes

    @property
    def arrow_type(self) -> pa.DataType:
        """The type in which the column is stored and published."""
        return {
            "int64": pa.int64(),
            "float64": pa.float64(),
            "string": pa.string(),
            "bool": pa.bool_(),
            "image": IMAGE_TYPE,
            "timestamp": pa.timestamp("us"),
        }[self.type]


class DatasetSchema(BaseModel):
    """The columns of a dataset in order, its label, and the classes that the label takes (sorted; index is ``y``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[ColumnSchema, ...]
    label: str | None
    classes: tuple[ClassValue, ...]

    @property
    def features(self) -> tuple[ColumnSchema, ...]:
        """The columns that a model learns: neither the label nor kind ``ignore``."""
        return tuple(c for c in self.columns if c.kind != "ignore" and c.name != self.label)

    @property
    def ignored(self) -> tuple[ColumnSchema, ...]:
        """The columns that are kept in real rows and null in synthetic ones."""
        return tuple(c for c in self.columns if c.kind == "ignore" and c.name != self.label)

    @property
    def arrow_schema(self) -> pa.Schema:
        """The data's own columns, as stored in every table of this project."""
        return pa.schema([pa.field(c.name, c.arrow_type) for c in self.columns])

    def column(self, name: str) -> ColumnSchema:
        """The column called ``name``; raises ``KeyError`` where there is none."""
        return {c.name: c for c in self.columns}[name]

    def class_of(self, name: str) -> ClassValue | None:
        """The class that a run file calls ``name`` (its text form), or null."""
        return {class_name(value): value for value in self.classes}.get(name)

    def save(self, path: Path) -> None:
        """Write the schema as JSON."""
        path.write_text(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> DatasetSchema:
        """Read what :meth:`save` wrote."""
        return cls.model_validate_json(path.read_text())


def class_name(value: ClassValue) -> str:
    """The text by which run files, reports and the command line name a class (``1``, ``true``, ``bream``)."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def refuse_reserved(names: list[str], where: str) -> None:
    """Refuse column names that the published layout uses itself.

    Raises:
        InputError: a name is reserved.
    """
    for name in names:
        if name in RESERVED_COLUMNS:
            raise InputError(
                f"{where} has a column '{name}', a name that published datasets use themselves; "
                f"rename it with source.rename: {{{name}: {name}_original}}."
            )
