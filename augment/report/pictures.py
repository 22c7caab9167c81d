"""Real beside synthetic images: random ones, each class a row, at the same scale."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from augment._images import Pixels, decode_image, encode_png
from augment.errors import InputError
from augment.report.charts import Histogram, histogram
from augment.report.distances import Side, Sides
from augment.report.sampling import Sample, Samples
from augment.schema import IMAGE_TYPE, ColumnSchema

if TYPE_CHECKING:
    from PIL import Image

MEASURED = 2_000  # images whose brightness, contrast and sharpness are taken, on each side
CLASSES_SHOWN = 50
LOSSLESS_SIDE = 48  # tiles up to this size are kept pixel by pixel
TILE_SIDES = (96, 64, 40)  # tried in turn until the page is small enough
PAGE_BUDGET = 3_000_000  # bytes of images in a page


@dataclass(frozen=True)
class Tile:
    """One image at its own size (null where a row has none, or none that can be read)."""

    pixels: Pixels | None

    def data_uri(self, side: int) -> str:
        """The image, at most ``side`` pixels wide and high, as text that stands for a file."""
        if self.pixels is None:
            return ""
        small = shrunk(self.pixels, side)
        if max(small.shape[:2]) <= LOSSLESS_SIDE:
            return "data:image/png;base64," + base64.b64encode(encode_png(small)).decode()
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(small).save(buffer, "JPEG", quality=85)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class PictureRow:
    """The tiles of one class."""

    name: str
    real: tuple[Tile, ...]
    synthetic: tuple[Tile, ...]


@dataclass(frozen=True)
class Pictures:
    """The picture grid of an image column, and histograms of simple figures of its images."""

    template: ClassVar[str] = "pictures.html.j2"
    section: ClassVar[str] = "pictures"

    title: str
    rows: tuple[PictureRow, ...]
    hidden: int  # classes that have no row for want of space
    figures: tuple[Histogram, ...]

    @property
    def across(self) -> int:
        """Tiles of a side in a row."""
        return max((max(len(r.real), len(r.synthetic)) for r in self.rows), default=1) or 1

    @cached_property
    def tile_side(self) -> int:
        """The size at which all tiles together stay within the page's budget."""
        tiles = [tile for row in self.rows for tile in (*row.real, *row.synthetic)]
        for side in TILE_SIDES:
            if sum(len(tile.data_uri(side)) for tile in tiles) <= PAGE_BUDGET:
                return side
        return TILE_SIDES[-1]

    @property
    def pixelated(self) -> bool:
        """Whether the images are so small that their pixels should be seen as squares."""
        return _largest(self.rows) <= LOSSLESS_SIDE


def draw_images(column: ColumnSchema, samples: Samples) -> Pictures:
    """The picture grid of an image column."""
    across = 8 if len(samples.class_names) <= 12 else 6 if len(samples.class_names) <= 24 else 4
    shown = samples.class_names[:CLASSES_SHOWN]
    sides = [tiles_of(column.name, sample, shown, across) for sample in (samples.real, samples.synthetic)]
    rows = tuple(PictureRow(name, sides[0][name], sides[1][name]) for name in shown)
    real, synthetic, held_out = (_figures(column.name, s) for s in (samples.real, samples.synthetic, samples.held_out))
    figures = tuple(
        histogram(name, Sides(real[name], synthetic[name], held_out[name], samples.class_names)) for name in real
    )
    return Pictures(column.name, rows, len(samples.class_names) - len(shown), figures)


def tiles_of(column: str, sample: Sample, names: Iterable[str], across: int) -> dict[str, tuple[Tile, ...]]:
    """The first ``across`` images of each class of a sample, which is in random order."""
    images = sample.column(column, IMAGE_TYPE)
    return {
        name: tuple(Tile(pixels_of(images[int(i)].as_py())) for i in np.flatnonzero(sample.classes == name)[:across])
        for name in names
    }


def pixels_of(value: dict[str, Any] | None) -> Pixels | None:
    """The pixels of an image value, null where it has none or they cannot be read (refused data may hold anything)."""
    if value is None or not value["bytes"]:
        return None
    try:
        return decode_image(value["bytes"], "of the report")
    except InputError:
        return None


def shrunk(pixels: Pixels, side: int) -> Pixels:
    """The image with its longer side cut down to ``side`` pixels, if it is longer."""
    longest = max(pixels.shape[:2])
    if longest <= side:
        return pixels
    from PIL import Image

    image = Image.fromarray(pixels)
    size = (max(1, image.width * side // longest), max(1, image.height * side // longest))
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.uint8)


def _largest(rows: Sequence[PictureRow]) -> int:
    tiles = [t.pixels for r in rows for t in (*r.real, *r.synthetic) if t.pixels is not None]
    return max((max(p.shape[:2]) for p in tiles), default=1)


def _figures(column: str, sample: Sample) -> dict[str, Side]:
    """Brightness, contrast and sharpness of each image, in grey levels 0 to 255."""
    images = sample.column(column, IMAGE_TYPE)
    found = np.full((len(images), 3), np.nan)
    for index in range(len(images)):
        pixels = pixels_of(images[index].as_py())
        if pixels is not None:
            grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels.astype(np.float64)
            edges = [np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1) if grey.shape[axis] > 1]
            found[index] = grey.mean(), grey.std(), float(np.mean(edges)) if edges else 0.0
    names = ("brightness", "contrast", "sharpness")
    return {n: Side(found[:, i], ~np.isnan(found[:, i]), sample.classes) for i, n in enumerate(names)}


def tile_image(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    """The image scaled to fill a square of ``side`` pixels: whole pixels when it grows, smoothly when it shrinks."""
    from PIL import Image

    image = Image.fromarray(pixels).convert("RGB")
    factor = side / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS)
