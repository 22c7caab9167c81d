"""Rows that somebody else generated: where they are, what was read of them, and how they become arrays."""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from augment.errors import InputError, did_you_mean
from augment.schema import DatasetSchema
from augment.sources._contract import Source, settings_error
from augment.sources._files import cannot_read, data_files, readable_file, readable_folder, shown
from augment.sources._images import BATCH_BYTES, BATCH_ROWS
from augment.sources._parquet import raw_batches
from augment.sources._typed import bounded
from augment.sources.csv_file import CsvFile
from augment.sources.image_folder import ImageFolder
from augment.sources.parquet_file import ParquetFile
from augment.store import hash_file

PATH = "model.path"
PARQUET_MAGIC = b"PAR1"
TEXT_SETTINGS = ("delimiter", "missing", "encoding")

Name = Annotated[str, Field(min_length=1)]


class FromFiles(BaseModel):
    """Synthetic rows that are there already, made by a generator that nobody here knows; they are audited like ours.

    The rows stand in a Parquet file or a folder of such files, in one CSV file, or in a folder of images with one
    folder for each class. Columns are found by the names that they have in the real data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["from_files"] = "from_files"
    path: Path = Field(
        description="A Parquet file, a folder of them, a CSV file, or a folder with one folder of images a class."
    )
    rename: dict[Name, Name] = Field({}, description="The data's names for the file's columns, {file's: data's}.")
    delimiter: str | None = Field(None, description="CSV: the character between two fields; null: the comma.")
    missing: list[str] | None = Field(None, description="CSV: texts that mean a missing value; null: nothing, and '?'.")
    encoding: str | None = Field(None, description="CSV: the encoding of the text; null: utf-8.")

    def reading(self) -> Reading:
        """How the rows at ``path`` are read, as their form demands.

        Raises:
            InputError: nothing that could be rows is there, or a setting does nothing for what is.
        """
        reading = self._form()
        if not isinstance(reading, TextReading):
            for name in TEXT_SETTINGS:
                if getattr(self, name) is not None:
                    raise InputError(f"model.{name} is for CSV files, and {reading.what}; leave it out.")
        return reading

    def _form(self) -> Reading:
        if self.path.is_dir():
            folder = readable_folder(self.path, PATH)
            if data_files(folder, ".parquet"):
                return ParquetReading(ParquetFile(path=folder))
            images = ImageFolder(path=folder)
            with _as_model_settings():
                images.files()
            return ImageReading(images)
        path = readable_file(self.path, PATH)
        with path.open("rb") as file:
            if file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC:
                return ParquetReading(ParquetFile(path=path))
        given = {name: getattr(self, name) for name in TEXT_SETTINGS if getattr(self, name) is not None}
        try:
            return TextReading(CsvFile(path=path, **given))
        except ValidationError as error:
            raise InputError(f"model.{settings_error(error)}.") from None

    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file that is read, by its path below ``path``; that of a single file has no name.

        Raises:
            InputError: a file is absent or unreadable.
        """
        return self.reading().hashes()

    def batches(self, schema: DatasetSchema) -> Iterator[pa.RecordBatch]:
        """All rows in a fixed order, ``rename`` applied, in the file's own types; images with whatever bytes they have.

        Columns that the data do not have are still there.

        Raises:
            InputError: the files are damaged, a column that the data need is absent or there twice, or rows say that
                they are real.
        """
        reading = self.reading()
        with _as_model_settings():
            for batch in reading.batches(schema):
                names = self._names(batch.schema.names, schema)
                renamed = batch.rename_columns(names)
                _refuse_real_rows(renamed, self.path)
                yield renamed

    def _names(self, names: list[str], schema: DatasetSchema) -> list[str]:
        where = shown(self.path)
        for name in self.rename:
            if name not in names:
                raise InputError(
                    f"model.rename names '{name}', which is no column of {where}{did_you_mean(name, names)}"
                )
        renamed = [self.rename.get(name, name) for name in names]
        counts = Counter(renamed)
        for name in needed_columns(schema):
            if not counts[name]:
                raise InputError(
                    f"{where} lacks the column '{name}' of the data; write it too, or say with model.rename which of "
                    f"its columns it is ({', '.join(renamed[:20])})."
                )
            if counts[name] > 1:
                raise InputError(f"{where} has {counts[name]} columns called '{name}'; leave one of them.")
        return renamed


class Reading(ABC):
    """One form of files: which they are, and their rows as batches in the file's own columns."""

    form: ClassVar[str]

    def __init__(self, source: Source) -> None:
        self.source = source

    @property
    def what(self) -> str:
        """A clause that says what is at the path."""
        return f"{shown(self._path())} is {self.form}"

    def hashes(self) -> dict[str, str]:
        """See :meth:`FromFiles.hashes`."""
        root = self._path()
        with _as_model_settings():
            files = self.source.files()
        try:
            return {path.relative_to(root).as_posix() if path != root else "": hash_file(path) for path in files}
        except OSError as error:
            raise cannot_read(root, error) from None

    @abstractmethod
    def batches(self, schema: DatasetSchema) -> Iterator[pa.RecordBatch]:
        """All rows in a fixed order; see :meth:`FromFiles.batches`."""

    def _path(self) -> Path:
        return next(value for _, value in self.source if isinstance(value, Path))


class TextReading(Reading):
    """A CSV file: every column as texts."""

    form = "a CSV file"

    def batches(self, schema: DatasetSchema) -> Iterator[pa.RecordBatch]:
        """The rows as texts, null where one is missing."""
        return self.source.batches()


class ParquetReading(Reading):
    """Parquet files: columns in the types that they have."""

    form = "Parquet"

    def batches(self, schema: DatasetSchema) -> Iterator[pa.RecordBatch]:
        """The rows of all files, which need not agree in types."""
        for path in self.source.files():
            yield from bounded(raw_batches(path))


class ImageReading(Reading):
    """A folder of images: a column of files' bytes, and one of the names of their class folders."""

    form = "a folder of images"

    def batches(self, schema: DatasetSchema) -> Iterator[pa.RecordBatch]:
        """The images under the name of the data's image column, their classes under that of its label."""
        image = next((column.name for column in schema.features if column.type == "image"), "image")
        names = [image, schema.label or "label"]
        held: list[bytes] = []
        labels: list[str] = []
        for path in self.source.files():
            try:
                held.append(path.read_bytes())
            except OSError as error:
                raise cannot_read(path, error) from None
            folder = path.relative_to(self._path()).parts[0]
            labels.append(unicodedata.normalize("NFC", folder))
            if len(held) == BATCH_ROWS or sum(map(len, held)) >= BATCH_BYTES:
                yield _of_images(held, labels, names)
                held, labels = [], []
        if held:
            yield _of_images(held, labels, names)


def needed_columns(schema: DatasetSchema) -> list[str]:
    """The columns without which synthetic rows are none of the data: those that are learnt, and the label."""
    return [column.name for column in schema.columns if column not in schema.ignored]


def _of_images(data: list[bytes], labels: list[str], names: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(data, pa.binary()), pa.array(labels, pa.string())], names=names)


def _refuse_real_rows(batch: pa.RecordBatch, path: Path) -> None:
    """Refuse rows that say of themselves that they are real, as those of an augmented dataset's other half do."""
    if "is_synthetic" not in batch.schema.names:
        return
    said = {str(value).lower() for value in batch.column("is_synthetic").unique().to_pylist()}
    if said & {"false", "0", "0.0", "f", "no"}:
        raise InputError(f"{shown(path)} has rows whose is_synthetic is false; give a file of synthetic rows alone.")


@contextmanager
def _as_model_settings() -> Iterator[None]:
    """Sources name their own settings in what they refuse; here those are settings of the model."""
    try:
        yield
    except InputError as error:
        names = "|".join(("path", *TEXT_SETTINGS))
        raise InputError(re.sub(rf"\bsource\.({names})\b", r"model.\1", str(error))) from None
