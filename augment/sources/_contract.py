"""What every source promises: Arrow record batches, in the same order each time, and a hash of what was read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from augment.errors import InputError, did_you_mean
from augment.schema import KindName, refuse_reserved
from augment.store import hash_file, hash_json


class Source(BaseModel, ABC):
    """The settings of one source, and the reading of it.

    A subclass in a module of this package whose name does not start with an underscore is found by itself. It sets
    ``kind`` as a ``Literal`` with a default and implements :meth:`batches` and :meth:`files`.

    Text columns of untyped files (CSV) come as strings, with null for missing; inference makes types of them. Images
    come as the struct ``{bytes, path}`` with encoded PNG or JPEG bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    summary: ClassVar[str]  # one line for `augment sources`
    default_label: ClassVar[str | None] = None  # the label where `label` is not given
    untyped: ClassVar[bool] = False  # whether everything comes as text, of which inference makes numbers

    kind: str
    label: str | None = Field(None, description="The column that holds the class; null: the source's own, or none.")
    columns: dict[str, KindName] = Field({}, description="Column kinds that override the inferred ones.")
    rename: dict[str, str] = Field({}, description="New names for columns, {old: new}; other settings use the new.")
    rows: int | None = Field(None, gt=0, le=10**12, description="Read at most this many rows.")
    test: dict[str, Any] | None = Field(
        None, description="Settings that replace this source's to read a test part of its own, such as {path: ...}."
    )

    @model_validator(mode="after")
    def _test_part_is_a_source(self) -> Source:
        if self.test is not None:
            unknown = set(self.test) - set(type(self).model_fields)
            if unknown:
                name = sorted(unknown)[0]
                raise ValueError(
                    f"test.{name} is not a setting of {self.kind}{did_you_mean(name, type(self).model_fields)}"
                )
            if self.test.get("kind", self.kind) != self.kind or self.test.get("test") is not None:
                raise ValueError(
                    "test cannot be of another kind or have a test part itself; leave out test.kind and test.test"
                )
            try:
                other = self.test_source()
            except ValidationError as error:
                raise ValueError(f"test.{settings_error(error)}") from None
            if other is not None and self._same_data(other):
                raise ValueError(f"test names the very rows that {self.described()} trains on; give it data of its own")
        return self

    def _same_data(self, other: Source) -> bool:
        """Whether ``other`` differs in nothing that decides which data are read."""
        how = set(Source.model_fields) - {"kind"}
        return self.model_dump(exclude=how) == other.model_dump(exclude=how)

    def test_source(self) -> Source | None:
        """The source of the test part, with this source's settings where ``test`` does not replace them."""
        if self.test is None:
            return None
        own = self.model_dump(exclude={"test", "rows"})
        return type(self).model_validate({**own, **self.test})

    @property
    def label_column(self) -> str | None:
        """The name of the label after renaming, or null where the rows have none."""
        if self.label is not None:
            return self.label
        return self.rename.get(self.default_label, self.default_label) if self.default_label else None

    @abstractmethod
    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows in a fixed order, under the file's own column names.

        Raises:
            InputError: the source is absent, unreadable, empty or malformed.
        """

    @abstractmethod
    def files(self) -> list[Path]:
        """The files whose bytes decide what is read, in a fixed order; empty for data inside a package.

        Raises:
            InputError: a file is absent or unreadable.
        """

    def file_name(self, path: Path) -> str:
        """What of a file's path is data itself, such as the class that its folder is named after; mostly nothing."""
        return ""

    def notes(self) -> list[str]:
        """Sentences about what lies beside the data and is not read; said aloud by whoever reads the source."""
        return []

    def package_version(self) -> str:
        """What stands for the bytes of data that come with a package: its name and version."""
        return ""

    def fingerprint(self) -> str:
        """A hash of the settings and of every byte that is read, test part included, wherever the files are.

        Raises:
            InputError: a file is absent or unreadable.
        """
        settings = self.model_dump(mode="json", exclude={"test"})
        for name, value in self:
            if isinstance(value, Path):
                settings[name] = ""
        try:
            files = [[self.file_name(path), hash_file(path)] for path in self.files()]
        except OSError as error:
            raise InputError(f"{error.filename} cannot be read ({error.strerror}); check the source's path.") from None
        test = self.test_source()
        return hash_json([settings, files, self.package_version(), test.fingerprint() if test else None])

    def read(self) -> Iterator[pa.RecordBatch]:
        """The rows with ``rename`` and the row limit applied; the test part is read through :meth:`test_source`.

        Raises:
            InputError: the source is malformed, has no rows, lacks a column that a setting names, changes while it is
                read, or has a column name that is reserved or twice there.
        """
        left = self.rows
        seen = 0
        names: list[str] | None = None
        before = self._stamps()
        for whole in self.batches():
            if names is None:
                names = self._renamed(whole.schema.names)
            batch = whole
            if left is not None:
                batch = whole.slice(0, left)
                left -= batch.num_rows
            seen += batch.num_rows
            yield batch.rename_columns(names)
            if left == 0:
                break
        if seen == 0:
            raise InputError(f"{self.described()} holds no rows; give a source with rows.")
        if self._stamps() != before:
            raise InputError(f"{self.described()} was changed while it was read; run again when nothing writes to it.")

    def _stamps(self) -> list[tuple[str, int, int]]:
        """Path, size and time of change of each file, which tell whether somebody writes to it."""
        try:
            return [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in self.files()]
        except OSError as error:
            raise InputError(f"{error.filename} cannot be read ({error.strerror}); check the source's path.") from None

    def absolute(self, folder: Path) -> Source:
        """This source with its relative paths, and those of its test part, taken from ``folder``."""
        changed: dict[str, Any] = {n: folder / v.expanduser() for n, v in self if isinstance(v, Path)}
        if self.test is not None:
            paths = {name for name, value in self.test_source() or () if isinstance(value, Path)}
            changed["test"] = {
                name: str(folder / Path(value).expanduser()) if name in paths and value is not None else value
                for name, value in self.test.items()
            }
        return self.model_copy(update=changed)

    def described(self) -> str:
        """How messages name this source: its path where it has one."""
        files = [value for _, value in self if isinstance(value, Path)]
        return str(files[0]) if files else f"the source {self.kind}"

    def _renamed(self, names: list[str]) -> list[str]:
        self._refuse_unknown("source.rename", self.rename, names)
        renamed = [self.rename.get(name, name) for name in names]
        for name, count in Counter(renamed).items():
            if count > 1:
                raise InputError(f"{self.described()} has {count} columns called '{name}'; give each its own name.")
            if not name.strip():
                raise InputError(
                    f"column {renamed.index(name) + 1} of {self.described()} has no name; "
                    f"give it one with source.rename: {{'{name}': ...}}."
                )
        refuse_reserved(renamed, self.described())
        self._refuse_unknown("source.label", [self.label_column] if self.label_column else [], renamed)
        self._refuse_unknown("source.columns", self.columns, renamed)
        return renamed

    def _refuse_unknown(self, setting: str, wanted: Iterable[str], names: list[str]) -> None:
        """Refuse a setting that names a column which is not among ``names``."""
        for name in wanted:
            if name not in names:
                raise InputError(
                    f"{setting} names '{name}', which is no column of {self.described()}{did_you_mean(name, names)}"
                )


def settings_error(error: ValidationError) -> str:
    """The first problem of a validation error, as ``setting: what is wrong with it``."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
