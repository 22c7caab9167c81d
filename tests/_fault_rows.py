"""Real rows that a fault can be made of: cheap datasets with some rows kept back, and ways to change a column."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from augment._images import decode_image
from augment._png import encode_pngs
from augment.schema import IMAGE_TYPE

PARTS = ("train", "validation", "test", "fresh")
LEVEL = 255 / 16  # between two of the 17 grey levels of scikit-learn's digits


@dataclass(frozen=True)
class Rows:
    """Real rows by part, those that are kept back under ``fresh``, and how many synthetic ones a class gets."""

    parts: Mapping[str, pa.Table]
    wanted: int
    columns: Mapping[str, str] = field(default_factory=dict)  # kinds that are declared

    @property
    def fresh(self) -> pa.Table:
        return self.parts["fresh"]

    @property
    def train(self) -> pa.Table:
        return self.parts["train"]

    def classes(self) -> list[Any]:
        return sorted(self.train["label"].unique().to_pylist())


def parted(table: pa.Table, sizes: tuple[int, int, int, int], wanted: int, seed: int, **more: Any) -> Rows:
    """``sizes`` rows of each class for train, validation, test and what is kept back, a seeded choice."""
    draw = np.random.default_rng(seed)
    y = np.array(table["label"].to_pylist(), dtype=object)
    places: list[list[NDArray[np.int64]]] = [[], [], [], []]
    for label in np.unique(y):
        cuts = np.split(draw.permutation(np.flatnonzero(y == label)), np.cumsum(sizes))
        for part, chosen in zip(places, cuts, strict=False):
            part.append(chosen)
    parts = {name: table.take(np.sort(np.concatenate(of))) for name, of in zip(PARTS, places, strict=True)}
    return Rows(parts, wanted, **more)


def digits(seed: int = 0, classes: int = 10) -> Rows:
    """scikit-learn's digits, as many of each class."""
    found = load_digits()
    some = found.target < classes
    table = pa.table({"image": pngs(found.images[some] * LEVEL), "label": pa.array(found.target[some], pa.int64())})
    return parted(table, (60, 24, 20, 70), 60, seed)


def breast_cancer(seed: int = 0) -> Rows:
    """scikit-learn's breast cancer data: 30 numbers, two classes."""
    return parted(_numbers(load_breast_cancer()), (80, 30, 30, 72), 60, seed)


def wine(seed: int = 0) -> Rows:
    """scikit-learn's wines: 13 numbers, three classes of few rows."""
    return parted(_numbers(load_wine()), (18, 7, 6, 17), 14, seed)


def orchard(seed: int = 0) -> Rows:
    """A made table of every plain kind, three classes; columns hang together, inside the classes too."""
    draw = np.random.default_rng(seed)
    sizes = (150, 60, 50, 200)
    kind = np.repeat(np.arange(3), sum(sizes))
    size = draw.normal(5, 1, len(kind)) + 1.5 * kind
    ripe = draw.random(len(kind)) < np.array([0.2, 0.5, 0.8])[kind]
    shade = np.where(draw.random(len(kind)) < 0.85, np.where(ripe, 2, kind % 2), draw.integers(0, 3, len(kind)))
    table = pa.table(
        {
            "size": np.round(size, 4),
            "weight": np.rint(1000 * size + draw.normal(0, 300, len(kind))).astype(np.int64),
            "sugar": np.round(draw.gamma(3, 2, len(kind)) + 3 * (kind == 1) + 2 * ripe, 3),
            "bruise": np.round(np.where(draw.random(len(kind)) < 0.8, 0, draw.gamma(2, 1, len(kind))), 3),
            "shade": np.array(["green", "yellow", "red"])[shade],
            "ripe": ripe,
            "label": np.array(["apple", "pear", "quince"])[kind],
        }
    )
    return parted(table, sizes, 150, seed)


def _numbers(found: Any) -> pa.Table:
    columns = {str(name): found.data[:, lane] for lane, name in enumerate(found.feature_names)}
    return pa.table({**columns, "label": np.array([str(found.target_names[y]) for y in found.target])})


def pngs(pixels: NDArray[Any]) -> pa.Array:
    """Images ``(N, H, W)`` of grey levels as a column."""
    files = encode_pngs(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    return pa.array([{"bytes": data, "path": None} for data in files], IMAGE_TYPE)


def pixels_of(rows: pa.Table) -> NDArray[np.float64]:
    """The grey levels ``(N, H, W)``."""
    return np.stack([decode_image(cell["bytes"], "a row").astype(np.float64) for cell in rows["image"].to_pylist()])


def put(rows: pa.Table, name: str, values: Any) -> pa.Table:
    """``rows`` with other values in one column."""
    place = rows.schema.get_field_index(name)
    kind = rows.schema.field(name).type
    return rows.set_column(place, name, values if isinstance(values, pa.Array) else pa.array(values, kind))


def values_of(rows: pa.Table, name: str) -> NDArray[Any]:
    return np.array(rows[name].to_pylist())


def labels_of(rows: pa.Table) -> NDArray[Any]:
    return np.array(rows["label"].to_pylist(), dtype=object)


def as_many(rows: Rows, source: pa.Table, draw: np.random.Generator) -> pa.Table:
    """As many rows of each class as there are fresh ones, taken from ``source`` in turn."""
    wanted, y = labels_of(rows.fresh), labels_of(source)
    places = []
    for label in rows.classes():
        of_class = draw.permutation(np.flatnonzero(y == label))
        places.append(np.resize(of_class, int((wanted == label).sum())))
    return source.take(np.concatenate(places))


def with_pixels(rows: pa.Table, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> pa.Table:
    return put(rows, "image", pngs(change(pixels_of(rows))))


def numbers_of(rows: pa.Table) -> list[str]:
    return [f.name for f in rows.schema if pa.types.is_floating(f.type) or pa.types.is_integer(f.type)]


def moved(rows: pa.Table, by: float, draw: np.random.Generator) -> pa.Table:
    """Numbers with noise of ``by`` standard deviations, zeros without."""
    for name in numbers_of(rows):
        values = values_of(rows, name).astype(float)
        found = values + draw.normal(0, by * values.std(), len(values)) * (values != 0)
        rows = put(rows, name, (np.rint(found).astype(int) if values_of(rows, name).dtype.kind == "i" else found))
    return rows
