"""What columns look like in a report; which kind has which drawing, the kind says itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from augment.columns import KINDS
from augment.report.charts import draw_numbers, draw_values
from augment.report.distances import Distance, Missing
from augment.report.pictures import MEASURED, Tile, draw_images, pixels_of
from augment.report.poster import Heading, chart_poster, picture_poster
from augment.report.sampling import Samples
from augment.report.traversals import Traverse, traverse_images, traverse_names, traverse_numbers
from augment.report.wording import DASH, number
from augment.schema import ColumnSchema, class_name

TABLE_ROWS = 20_000
EXAMPLE_SIDE = 64


class Cell(NamedTuple):
    """One value of an example row: a text, or a picture and what to say instead of it."""

    text: str
    picture: str = ""


class Figure(Protocol):
    """Something measured on both sides, as ``metrics.json`` names it."""

    @property
    def title(self) -> str:
        """What it is called: its column, or what is measured of it."""
        ...

    @property
    def distance(self) -> Distance:
        """How far apart the sides are."""
        ...

    @property
    def missing(self) -> Missing:
        """The shares without a value."""
        ...


class Panel(Protocol):
    """What is shown of one column: the template that draws it, the part of the page it belongs to, its figures."""

    template: ClassVar[str]
    section: ClassVar[str]

    @property
    def title(self) -> str:
        """What it is called: its column, or what is measured of it."""
        ...

    @property
    def figures(self) -> Sequence[Figure]:
        """What is measured of the column."""
        ...


Poster = Callable[[Sequence[Any], Heading], bytes]


class Drawing(NamedTuple):
    """How columns of a kind are shown: a panel from at most ``rows`` rows of a side, a poster, single values, and what
    becomes of a value as latents move.
    """

    panel: Callable[[ColumnSchema, Samples], Panel]
    rows: int
    poster: Poster
    cell: Callable[[Any], Cell]
    traverse: Traverse


def _number_cell(value: Any) -> Cell:
    return Cell(number(value))


def _text_cell(value: Any) -> Cell:
    return Cell(DASH if value is None else class_name(value))


def _picture_cell(value: Any) -> Cell:
    pixels = pixels_of(value)
    return Cell("no readable image") if pixels is None else Cell("rejected image", Tile(pixels).data_uri(EXAMPLE_SIDE))


PICTURES = Drawing(draw_images, MEASURED, picture_poster, _picture_cell, traverse_images)
NUMBERS = Drawing(draw_numbers, TABLE_ROWS, chart_poster, _number_cell, traverse_numbers)
VALUES = Drawing(draw_values, TABLE_ROWS, chart_poster, _text_cell, traverse_names)


def drawings_of(columns: Iterable[ColumnSchema]) -> dict[str, Drawing]:
    """The drawing of each of ``columns`` that is shown, by its name."""
    found = ((column.name, KINDS[column.kind].drawing()) for column in columns)
    return {name: drawing for name, drawing in found if drawing is not None}
