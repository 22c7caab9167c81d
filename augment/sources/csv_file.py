"""A table in a delimited text file: every column is read as text, and what it means is inferred later."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from augment.errors import InputError
from augment.sources._contract import Source
from augment.sources._files import cause, readable_file, shown
from augment.sources._text import ROW_BYTES, codec_name, has_quotes, open_text, strict_rows, too_long

BATCH_ROWS = 10_000


class CsvFile(Source):
    """All columns as strings without the blanks around them, missing marks as null.

    Nothing else is changed: ``00123``, ``NA`` and ``9007199254740993`` stay what they are.
    """

    summary: ClassVar[str] = "a delimited text file: any header, delimiter, encoding and marks of missing values"
    untyped: ClassVar[bool] = True

    kind: Literal["csv"] = "csv"
    path: Path = Field(description="The file.")
    header: bool = Field(True, description="Whether the first row holds the column names.")
    names: list[Annotated[str, Field(min_length=1)]] | None = Field(
        None, description="The column names; with header: true they replace the file's own."
    )
    delimiter: str = Field(",", description="The one character between two fields.")
    missing: list[str] = Field(["", "?"], description="Texts that mean a missing value (NA may be Namibia, so add it).")
    encoding: str = Field("utf-8", description="The encoding of the text.")

    @field_validator("delimiter")
    @classmethod
    def _is_one_character(cls, value: str) -> str:
        if len(value) != 1 or not value.isascii() or value in '"\r\n\0':
            raise ValueError("the delimiter must be one ASCII character, and neither a quote nor a line end")
        return value

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, value: str) -> str:
        codec_name(value)
        return value

    @field_validator("missing")
    @classmethod
    def _without_blanks(cls, value: list[str]) -> list[str]:
        return [mark.strip() for mark in value]

    @model_validator(mode="after")
    def _says_what_the_first_row_is(self) -> CsvFile:
        if self.names is not None and self.header and "header" not in self.model_fields_set:
            raise ValueError(
                "names needs header too: false where the file's first row is data, true where names replace it"
            )
        return self

    def files(self) -> list[Path]:
        """The one file."""
        return [readable_file(self.path, "source.path")]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows as strings, at most 10,000 in a batch."""
        self.files()
        names = self._column_names()
        first = True
        for block in self._blocks(len(names)):
            table = block.slice(1) if first and self.header else block
            first = False
            columns = [self._cleaned(column) for column in table.columns]
            batch = pa.RecordBatch.from_arrays(columns, names=names)
            for start in range(0, batch.num_rows, BATCH_ROWS):
                yield batch.slice(start, BATCH_ROWS)

    def _column_names(self) -> list[str]:
        """The names of the columns, after a strict look at the quotes of the rows that will be read.

        Raises:
            InputError: the file is empty, its quoting is broken, or ``names`` has the wrong length.
        """
        rows = strict_rows(self.path, self.encoding, self.delimiter)
        first = next(rows, None)
        if first is None:
            raise InputError(f"{shown(self.path)} is empty; give a file with rows.")
        if has_quotes(self.path):
            for _ in islice(rows, self.rows):
                pass
        if self.names is not None:
            if len(self.names) != len(first):
                raise InputError(
                    f"source.names has {len(self.names)} names and {shown(self.path)} has {len(first)} columns; "
                    "give one name for each column."
                )
            return self.names
        texts = [text.strip() for text in first] if self.header else [""] * len(first)
        return [text or f"column_{number}" for number, text in enumerate(texts, start=1)]

    def _blocks(self, width: int) -> Iterator[pa.RecordBatch]:
        """The rows, header included, as ``width`` columns of strings.

        Raises:
            InputError: a row has more or fewer fields, or is absurdly long.
        """
        from pyarrow import csv

        ragged: list[csv.InvalidRow] = []

        def refuse(row: csv.InvalidRow) -> str:
            ragged.append(row)
            return "error"

        # Rows have numbers only where one thread parses them, and messages name the row.
        read = csv.ReadOptions(autogenerate_column_names=True, block_size=ROW_BYTES, use_threads=False)
        parse = csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=refuse)
        convert = csv.ConvertOptions(column_types={f"f{i}": pa.string() for i in range(width)}, check_utf8=False)
        try:
            with (
                open_text(self.path, self.encoding) as stream,
                csv.open_csv(stream, read_options=read, parse_options=parse, convert_options=convert) as reader,
            ):
                yield from reader
        except pa.ArrowInvalid as error:
            if ragged:
                raise self._ragged(ragged[0]) from None
            if "Empty CSV" in str(error):  # a header and nothing behind it, not even the end of its line
                return
            if "straddl" in str(error):
                raise too_long(self.path, "or a quote that is not closed") from None
            raise InputError(
                f"{shown(self.path)} cannot be read as a table ({cause(error)}); check source.delimiter."
            ) from None

    def _ragged(self, row: object) -> InputError:
        """The refusal of a row whose number of fields is not that of the first row."""
        number, expected, actual = (getattr(row, a) for a in ("number", "expected_columns", "actual_columns"))
        first = "the header" if self.header else "the first row"
        return InputError(
            f"{shown(self.path)} has {actual} fields in row {number:,} (blank lines not counted) and {expected} in "
            f"{first}; mend the row, or check source.delimiter."
        )

    def _cleaned(self, column: pa.Array) -> pa.Array:
        """``column`` without the blanks around its texts, missing marks as null."""
        from pyarrow import compute

        trimmed = compute.ascii_trim_whitespace(column)
        if not self.missing:
            return trimmed
        marks = compute.is_in(trimmed, value_set=pa.array(self.missing, pa.string()))
        return compute.if_else(marks, pa.scalar(None, pa.string()), trimmed)
