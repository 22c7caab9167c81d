"""What latents hold, as drawings: how much each varies, and what becomes of a row when one of them moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pyarrow as pa

from augment.report.charts import HEIGHT, WIDTH
from augment.report.pictures import Tile, pixels_of
from augment.report.wording import DASH, number
from augment.schema import ColumnSchema, DatasetSchema, class_name

if TYPE_CHECKING:
    from augment.critique import LatentRecord

COLUMNS = 16  # of a table that are drawn
TILE_SIDE = 64


class Traversal(Protocol):
    """One column of a traversed row: the template that draws it, and a line for each latent that moves."""

    template: ClassVar[str]

    @property
    def title(self) -> str:
        """The column."""
        ...


Traverse = Callable[[ColumnSchema, Sequence[Sequence[Any]]], Traversal]


@dataclass(frozen=True)
class PictureTraversal:
    """Pictures side by side, one strip a latent."""

    template: ClassVar[str] = "traversal_pictures.html.j2"

    title: str
    strips: tuple[tuple[str, ...], ...]  # pictures as texts that stand for files


@dataclass(frozen=True)
class LineTraversal:
    """Numbers over the way of the latents on one axis, one line a latent; a gap where the value is missing."""

    template: ClassVar[str] = "traversal_lines.html.j2"

    title: str
    paths: tuple[str, ...]
    low: str
    high: str


@dataclass(frozen=True)
class TextTraversal:
    """Names over the way of the latents, one row a latent, with how many places each is kept for."""

    template: ClassVar[str] = "traversal_texts.html.j2"

    title: str
    rows: tuple[tuple[tuple[str, int], ...], ...]


def traverse_images(column: ColumnSchema, values: Sequence[Sequence[Any]]) -> PictureTraversal:
    """The pictures of a column of images."""
    strips = tuple(tuple(Tile(pixels_of(value)).data_uri(TILE_SIDE) for value in row) for row in values)
    return PictureTraversal(column.name, strips)


def traverse_numbers(column: ColumnSchema, values: Sequence[Sequence[Any]]) -> LineTraversal:
    """The lines of a numeric or integer column."""
    there = [float(value) for row in values for value in row if value is not None and math.isfinite(value)]
    low, high = (min(there), max(there)) if there else (0.0, 0.0)
    scale = (HEIGHT - 8) / ((high - low) or 1.0)

    def line(row: Sequence[Any]) -> str:
        path, pen = "", "M"
        for place, value in enumerate(row):
            if value is None or not math.isfinite(value):
                pen = "M"
                continue
            x = place / max(1, len(row) - 1) * WIDTH
            path += f"{pen}{x:.5g},{HEIGHT - 4 - (value - low) * scale:.4g}"
            pen = "L"
        return path

    return LineTraversal(column.name, tuple(map(line, values)), number(low), number(high))


def traverse_names(column: ColumnSchema, values: Sequence[Sequence[Any]]) -> TextTraversal:
    """The categories of a column, equal neighbours as one."""
    rows = []
    for row in values:
        runs: list[tuple[str, int]] = []
        for value in row:
            text = DASH if value is None else class_name(value)
            same = runs and runs[-1][0] == text
            runs[-1:] = [(text, runs[-1][1] + 1)] if same else [*runs[-1:], (text, 1)]
        rows.append(tuple(runs))
    return TextTraversal(column.name, tuple(rows))


@dataclass(frozen=True)
class ClassTraversal:
    """The columns of the traversed rows of one class."""

    name: str
    columns: tuple[Traversal, ...]


@dataclass(frozen=True)
class Latents:
    """How much each latent varies, and the traversals of some classes by the most active ones."""

    record: LatentRecord
    classes: tuple[ClassTraversal, ...]
    hidden: int  # columns that are not drawn

    @property
    def moved(self) -> list[str]:
        """The names of the latents that are traversed, with their variance within classes."""
        within = {latent.index: latent.within_classes for latent in self.record.most_active}
        return [f"z{index} (variance {number(within[index])})" for index in self.record.shown]

    @property
    def bars(self) -> list[tuple[str, str, str, str]]:
        """Each latent's place, width, and heights within classes and over all rows, of a drawing of 640 x 96."""
        top = max((latent.variance for latent in self.record.most_active), default=0.0) or 1.0
        step = 640 / max(8, len(self.record.most_active))

        def height(value: float) -> str:
            return f"{min(1.0, value / top) * (HEIGHT - 2):.4g}"

        return [
            (f"{place * step:.5g}", f"{step * 0.8:.4g}", height(latent.within_classes), height(latent.variance))
            for place, latent in enumerate(self.record.most_active)
        ]


def latents_of(path: Path | None, schema: DatasetSchema) -> Latents | None:
    """What ``latents.json`` and the rows beside it show; null where the model has no latents."""
    if path is None or not path.is_file():
        return None
    from augment.critique import LatentRecord
    from augment.report.drawings import drawings_of

    record = LatentRecord.load(path)
    rows = record.traversals(path.parent)
    drawings = drawings_of(schema.features)
    columns = [column for column in schema.features if column.name in drawings and column.name in rows.column_names]
    across, latents = len(record.positions), len(record.shown)
    classes = []
    for index, name in enumerate(record.classes):
        here = rows.slice(index * across * latents, across * latents)
        drawn = (drawings[c.name].traverse(c, _lines(here[c.name], across)) for c in columns[:COLUMNS])
        classes.append(ClassTraversal(name, tuple(drawn)))
    return Latents(record, tuple(classes) if latents else (), max(0, len(columns) - COLUMNS))


def _lines(values: pa.ChunkedArray, across: int) -> list[list[Any]]:
    """The values of each latent, position by position."""
    listed = values.to_pylist()
    return [listed[start : start + across] for start in range(0, len(listed), across)]
