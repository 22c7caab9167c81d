"""What the columns of a dataset are: saved beside every artifact and read by every stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, field_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticKnownError, core_schema

from augment.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from augment.columns._types import StoredType

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # the Hugging Face Image feature

# Columns that publication adds to rows and rejected rows; a source that has one of these names must rename it.
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
    "reject_gate",
    "reject_reason",
    "reject_round",
)


class _OneOfTheKinds:
    """Allows the names of the column kinds that are found, which is done at the first use: they need this module."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        from augment.columns import KINDS

        return {"type": "string", "enum": list(KINDS)}

    @staticmethod
    def _check(name: str) -> str:
        from augment.columns import KINDS

        if name not in KINDS:
            raise PydanticKnownError("literal_error", {"expected": ", ".join(f"'{kind}'" for kind in KINDS)})
        return name


KindName = Annotated[str, _OneOfTheKinds()]
ClassValue = str | int | bool  # what a label may be, as JSON


class ColumnSchema(BaseModel):
    """One column of the data: its kind says how values become numbers, its type how it is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: KindName
    type: str  # the name of one of augment.columns.STORED_TYPES
    reason: str  # why this kind was inferred, or "declared"
    decimals: int | None = None  # the decimals that a numeric column is written with; null: as many as it takes

    @field_validator("type")
    @classmethod
    def _type_is_found(cls, name: str) -> str:
        if name not in _stored_types():
            raise ValueError(f"'{name}' is no stored type{did_you_mean(name, _stored_types())}")
        return name

    @property
    def stored(self) -> StoredType:
        """How the column is stored, hashed and described to readers."""
        return _stored_types()[self.type]

    @property
    def arrow_type(self) -> pa.DataType:
        """The type in which the column is stored and published."""
        return self.stored.arrow


def _stored_types() -> Mapping[str, StoredType]:
    """The stored types by name; the kinds that bring them need this module."""
    from augment.columns import STORED_TYPES

    return STORED_TYPES


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


def class_titles(schema: DatasetSchema) -> list[str]:
    """The names of the classes in the order of ``y``; one empty name without a label column."""
    return [class_name(value) for value in schema.classes] if schema.label is not None else [""]


def class_indices(labels: pa.Array | pa.ChunkedArray | None, schema: DatasetSchema, rows: int) -> npt.NDArray[np.int64]:
    """The position of each row's class, int64 of shape (rows,); -1 without a label, 0 where no column is the label."""
    if schema.label is None or labels is None:
        return np.zeros(rows, dtype=np.int64)
    known = pa.array(schema.classes, type=schema.column(schema.label).arrow_type)
    found = pc.fill_null(pc.index_in(labels, value_set=known, skip_nulls=True), -1)
    return np.asarray(found).astype(np.int64)


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
