"""The one picture of a dataset, ``samples.png``: its images, or the distributions of its columns."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from augment.report.charts import Bars, Histogram, plain
from augment.report.pictures import PictureRow, Pictures, Tile, tile_image

if TYPE_CHECKING:
    from PIL import Image, ImageFont

BUDGET = 1_500_000  # bytes
TILES = (64, 48, 32, 20)  # tried in turn until the file is small enough
ALL = "all rows"
NAMES_WIDTH = 180  # pixels, at most
GAP = 3  # pixels between tiles
CLASSES_SHOWN = 20
COLUMNS_SHOWN = 12
INK, FAINT, PAPER, HOLLOW = "#1c2330", "#5b6473", "#ffffff", "#e8ebf0"
REAL, SYNTHETIC = "#4878b8", "#d2601a"


@dataclass(frozen=True)
class Heading:
    """What is written over the picture."""

    title: str
    subtitle: str


def picture_poster(panels: Sequence[Pictures], heading: Heading) -> bytes:
    """A PNG of the first image column's grid, at most 1.5 MB: real left, synthetic right, each class a row."""
    rows = panels[0].rows[:CLASSES_SHOWN]
    hidden = panels[0].hidden + len(panels[0].rows) - len(rows)
    for side in TILES:
        data = _png(_grid(rows, panels[0].across, side, heading, hidden))
        if len(data) <= BUDGET:
            break
    return data


def _grid(rows: Sequence[PictureRow], across: int, side: int, heading: Heading, hidden: int) -> Image.Image:
    from PIL import Image, ImageDraw

    margin, middle = 28, 30
    names = max([int(_width(row.name or ALL, 15)) for row in rows] + [0])
    names = 18 + min(max(names, 22), NAMES_WIDTH)
    strip = across * (side + GAP) - GAP
    top = margin + 84
    width = max(2 * margin + names + 2 * strip + middle, 560)
    height = top + len(rows) * (side + 10) + margin + (22 if hidden else 0)
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((margin, margin - 6), heading.title, INK, _font(22, bold=True))
    draw.text((margin, margin + 24), _fitted(heading.subtitle, 13, width - 2 * margin), FAINT, _font(13))
    starts = (margin + names, margin + names + strip + middle)
    for start, word, colour in zip(starts, ("real", "synthetic"), (REAL, SYNTHETIC), strict=True):
        draw.rectangle((start, top - 10, start + strip - 1, top - 8), colour)
        draw.text((start, top - 30), word, colour, _font(14, bold=True))
    for index, row in enumerate(rows):
        y = top + index * (side + 10)
        name = _fitted(row.name or ALL, 15, names - 18)
        draw.text((margin, y + side / 2), name, INK, _font(15, bold=True), anchor="lm")
        for start, tiles in zip(starts, (row.real, row.synthetic), strict=True):
            image.paste(_strip(tiles, side), (start, y))
            if not tiles:
                draw.text((start, y + side / 2), "no rows", FAINT, _font(13), anchor="lm")
    if hidden:
        draw.text((margin, height - margin - 8), f"and {hidden:,} more classes", FAINT, _font(13))
    return image


def _strip(tiles: Sequence[Tile], side: int) -> Image.Image:
    """One side's tiles of a class beside each other; what cannot be shown is a hollow square."""
    from PIL import Image

    strip = Image.new("RGB", (max(1, len(tiles)) * (side + GAP) - GAP, side), PAPER)
    for index, tile in enumerate(tiles):
        left = index * (side + GAP)
        strip.paste(HOLLOW, (left, 0, left + side, side))
        if tile.pixels is not None:
            scaled = tile_image(tile.pixels, side)
            strip.paste(scaled, (left + (side - scaled.width) // 2, (side - scaled.height) // 2))
    return strip


def chart_poster(panels: Sequence[Histogram | Bars], heading: Heading) -> bytes:
    """A PNG of up to twelve columns' distributions, real filled, synthetic outlined."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = panels[:COLUMNS_SHOWN]
    across = min(4, max(2, len(shown)))
    down = max(1, -(-len(shown) // across))
    left = 0.14 / across
    height = 1.3 + 1.9 * down
    figure = Figure(figsize=(2.9 * across, height), dpi=110, facecolor=PAPER)
    FigureCanvasAgg(figure)
    figure.text(left, 1 - 0.22 / height, plain(heading.title, 60), size=15, weight="bold", color=INK, va="top")
    figure.text(left, 1 - 0.56 / height, plain(heading.subtitle, 46 * across - 10), size=9, color=FAINT, va="top")
    figure.text(left, 1 - 0.80 / height, "\u25a0 real", size=9.5, weight="bold", color=REAL, va="top")
    figure.text(
        left + 0.65 / (2.9 * across),
        1 - 0.80 / height,
        "\u25a0 synthetic",
        size=9.5,
        weight="bold",
        color=SYNTHETIC,
        va="top",
    )
    # the names of categories stand left of their axes and take about an inch
    figure.subplots_adjust(1.05 / (2.9 * across), 0.42 / height, 0.98, 1 - 1.42 / height, wspace=0.58, hspace=0.75)
    for index, panel in enumerate(shown):
        axes = figure.add_subplot(down, across, index + 1)
        panel.plot(axes, (REAL, SYNTHETIC))
        axes.set_title(plain(panel.title, 19), size=9.5, color=INK, loc="left", weight="bold", pad=5)
        if panel.distance.value is not None:
            text = f"{panel.distance.name} {panel.distance.value:.2f}"
            axes.text(1, 1.03, text, size=8, color=FAINT, ha="right", va="bottom", transform=axes.transAxes)
        axes.tick_params(labelsize=7.5, colors=FAINT, length=2)
        for spine in ("top", "right", "left"):
            axes.spines[spine].set_visible(False)
        axes.spines["bottom"].set_color("#c5cad3")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """A font that comes with matplotlib, for it covers more scripts than the one in Pillow."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/{name}", size)


def _width(text: str, size: int) -> float:
    return _font(size, bold=True).getlength(text)


def _fitted(text: str, size: int, width: float) -> str:
    """``text`` on one line, cut so that it is at most ``width`` pixels wide."""
    text = " ".join(text.split())
    if _width(text, size) <= width:
        return text
    while text and _width(text + "\u2026", size) > width:
        text = text[:-1]
    return text + "\u2026"
