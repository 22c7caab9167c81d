"""A dataset of Hugging Face ``datasets`` that was saved to a folder; the hub is never asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from augment.errors import InputError
from augment.sources._contract import Source
from augment.sources._files import cause, data_files, exists, readable_folder, shown
from augment.sources._parquet import parquet_batches
from augment.sources._typed import BATCH_ROWS, IMAGE_ROWS, TypedRows, bounded, class_names

SPLIT_OF_FILE = re.compile(r"(?:^|/)(train|test|validation|valid|val|dev|eval)(?=[-_./])")


class HuggingFace(Source):
    """The columns with their own types, class labels by their names, images as images."""

    summary: ClassVar[str] = "a dataset saved by Hugging Face datasets (save_to_disk) or a folder of its Parquet files"

    kind: Literal["hugging_face"] = "hugging_face"
    path: Path = Field(description="The folder that save_to_disk wrote, or one of Parquet files; no download.")
    split: str | None = Field(None, min_length=1, description="The split to read, such as train; null: the only one.")

    def files(self) -> list[Path]:
        """The files of the split that is read.

        Raises:
            InputError: the folder is absent, holds no dataset, or has no such split.
        """
        self._folder()
        if not self._saved():
            return self._parquet_files()
        folder = self._split_folder()
        return [*data_files(folder, ".arrow"), *data_files(folder, ".json")]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of the split in order."""
        files = self.files()
        return self._saved_batches() if self._saved() else parquet_batches(files, named_classes=True)

    def _folder(self) -> Path:
        """The folder, which is there."""
        if not exists(self.path):
            raise InputError(
                f"{shown(self.path)} does not exist and nothing is downloaded here; "
                "save the dataset there once with Dataset.save_to_disk, or check source.path."
            )
        return readable_folder(self.path, "source.path")

    def _saved(self) -> bool:
        """Whether ``save_to_disk`` wrote the folder."""
        return any((self.path / name).is_file() for name in ("dataset_dict.json", "state.json"))

    def _split_folder(self) -> Path:
        """The folder of the split within what ``save_to_disk`` wrote."""
        if (self.path / "state.json").is_file():
            if self.split is not None:
                raise InputError(f"{shown(self.path)} is one dataset without splits; leave out source.split.")
            return self.path
        known = sorted(folder.name for folder in self.path.iterdir() if (folder / "state.json").is_file())
        return self.path / self._chosen(known)

    def _parquet_files(self) -> list[Path]:
        """The Parquet files of the split; a file belongs to the split that its name or folder begins with."""
        found = data_files(self.path, ".parquet")
        if not found:
            raise InputError(
                f"{shown(self.path)} holds neither a dataset of save_to_disk nor Parquet files; check source.path."
            )
        splits: dict[str, list[Path]] = {}
        for file in found:
            match = SPLIT_OF_FILE.search(file.relative_to(self.path).as_posix())
            splits.setdefault(match.group(1) if match else "", []).append(file)
        return splits[self._chosen(sorted(splits))]

    def _chosen(self, known: list[str]) -> str:
        """The split that is asked for among those that are there, or the only one.

        Raises:
            InputError: there is none of that name, or several and none is asked for.
        """
        if self.split is None and len(known) == 1:
            return known[0]
        if self.split in known:
            return str(self.split)
        names = ", ".join(name or "(unnamed)" for name in known) or "none"
        asked = "needs source.split" if self.split is None else f"has no split '{self.split}'"
        raise InputError(f"{shown(self.path)} {asked}; its splits are: {names}.")

    def _saved_batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of what ``save_to_disk`` wrote."""
        dataset = self._loaded()
        names = class_names(dataset.features.arrow_schema)
        rows = TypedRows(shown(self.path), names)
        size = IMAGE_ROWS if any(pa.types.is_struct(t) for t in dataset.features.arrow_schema.types) else BATCH_ROWS
        for table in dataset.with_format("arrow").iter(batch_size=size):
            for batch in bounded(table.combine_chunks().to_batches()):
                yield rows.convert(batch)

    def _loaded(self) -> Any:
        """The dataset, memory-mapped.

        Raises:
            InputError: ``datasets`` is not installed, or the folder is damaged.
        """
        try:
            import datasets
        except ImportError:
            raise InputError("the source hugging_face needs datasets; install it, or use the source parquet.") from None
        folder = self._split_folder()
        try:
            return datasets.load_from_disk(str(folder))
        except Exception as error:  # noqa: BLE001 - whatever reading a damaged folder ends in
            raise InputError(f"{shown(self.path)} is no whole saved dataset ({cause(error)}); save it again.") from None
