"""Real data sets with scarce classes, for the benchmark of worth: rows are drawn by a seed, test rows stay the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from _images import idx_part
from families import idx_source
from pydantic import BaseModel, ConfigDict

from augment._seeding import numpy_generator
from augment.config import RunConfig

Form = Literal["images", "tables"]
Made = tuple[
    dict[str, Any], dict[str, int]
]  # a source, and rows to train on by class with the share of validation rows
VALIDATION = 0.3  # of the rows of a table that are not test rows
SCARCE = {
    "digits": (2, 5, 10, 20, 50),
    "mnist": (2, 5),
    "fashion-mnist": (2, 5, 10, 20, 50),
    "adult": (100, 300, 1_000),
    "mammography": (2, 5, 10, 20, 50),
    "german-credit": (2, 5, 10, 20, 50),
}


class Sizes(BaseModel):
    """How many rows of what, and how long is trained; a cell is measured anew where one of them differs."""

    model_config = ConfigDict(frozen=True)

    test: int = 4_000  # rows in all, or those that there are
    validation: int = 100  # rows of each class, or half of those that there are
    train_steps: int | None = None  # of the generator; the model's default


@dataclass(frozen=True)
class Source:
    """One data set: its form, the training rows of a large class, and what makes its source of a seed."""

    form: Form
    large: int
    make: Callable[[Path | None, int, int, Path, Sizes], Made]


def run_config(
    data: Path | None, name: str, scarce: int, kind: str, seed: int, folder: Path, sizes: Sizes
) -> RunConfig:
    """The run of one cell: the model's defaults, on the CPU."""
    source = SOURCES[name]
    made, cut = source.make(data, scarce, seed, folder, sizes)
    content = {
        "name": "worth",
        "seed": seed,
        "source": made,
        "split": {"validation": cut.pop("validation_percent") / 100, "train_per_class": cut},
        "model": {"kind": kind},
        "train": {"device": "cpu", "steps": sizes.train_steps},
        "store": str(folder / "store"),
    }
    return RunConfig.model_validate(content)


def is_there(name: str, data: Path | None) -> bool:
    """Whether the files of a data set are."""
    return name == "digits" or (data is not None and (data / name).is_dir())


def _digits(
    _data: Path | None, scarce: int, seed: int, folder: Path, sizes: Sizes
) -> tuple[dict[str, Any], dict[str, int]]:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    pixels, labels = load_digits(return_X_y=True)
    pixels = (pixels.reshape(-1, 8, 8) * 15).astype(np.uint8)
    order = numpy_generator("worth", "digits").permutation(len(labels))
    test = order[: min(sizes.test, 700)]
    pool = order[min(sizes.test, 700) :]
    # every second row of what is left over is drawn, so that seeds see other rows
    members = [pool[labels[pool] == y] for y in range(10)]
    chosen = np.concatenate(
        [numpy_generator(seed, "worth", "digits", y).permutation(m)[:100] for y, m in enumerate(members)]
    )
    source = idx_source(folder, (pixels[chosen], labels[chosen]), (pixels[test], labels[test]))
    return source, {"validation_percent": 30, **_cut(scarce, 60)}


def _images(name: str) -> Callable[..., Made]:
    def make(
        data: Path | None, scarce: int, seed: int, folder: Path, sizes: Sizes
    ) -> tuple[dict[str, Any], dict[str, int]]:
        assert data is not None
        pixels, labels = idx_part(data / name, "train")
        draw = numpy_generator(seed, "worth", name)
        each = 300 + sizes.validation + 100  # ingest leaves out what test rows repeat
        some = np.sort(
            np.concatenate([draw.choice(np.flatnonzero(labels == y), each, replace=False) for y in range(10)])
        )
        unseen, truth = idx_part(data / name, "t10k")
        test = np.sort(numpy_generator("worth", name).choice(len(truth), min(sizes.test, len(truth)), replace=False))
        source = idx_source(folder, (pixels[some], labels[some]), (unseen[test], truth[test]))
        return source, {"validation_percent": round(100 * sizes.validation / each), **_cut(scarce, 300)}

    return make


def _cut(scarce: int, large: int) -> dict[str, int]:
    return {str(y): scarce if y % 2 else large for y in range(10)}


def _table(read: Callable[[Path], pd.DataFrame], large: int) -> Callable[..., Made]:
    def make(
        data: Path | None, scarce: int, seed: int, folder: Path, sizes: Sizes
    ) -> tuple[dict[str, Any], dict[str, int]]:
        assert data is not None
        frame = read(data)
        rarer = frame["label"].value_counts().idxmin()
        order = numpy_generator("worth", "table").permutation(len(frame))
        held = min(sizes.test, int(0.4 * len(frame)))
        test, pool = frame.iloc[order[:held]], frame.iloc[order[held:]]
        draw = numpy_generator(seed, "worth", "pool")
        parts, cut = [], {}
        for label, rows in pool.groupby("label"):
            cut[str(label)] = scarce if label == rarer else large
            more = 200 if label == rarer else 50  # for validation, and for equal rows, which stay on one side
            wanted = int(cut[str(label)] / (1 - VALIDATION)) + more
            parts.append(rows.iloc[draw.permutation(len(rows))[:wanted]])
        for part, chosen in (("train", pd.concat(parts)), ("test", test)):
            chosen.to_parquet(folder / f"{part}.parquet", index=False)
        source = {"kind": "parquet", "path": str(folder / "train.parquet"), "label": "label"}
        return {**source, "test": {"path": str(folder / "test.parquet")}}, {"validation_percent": 30, **cut}

    return make


def _adult(data: Path) -> pd.DataFrame:
    parts = [
        pd.read_csv(data / "adult" / f"adult-{part}.csv", header=None, na_values=["?", " ?"], skipinitialspace=True)
        for part in ("train", "test")
    ]
    frame = pd.concat(parts, ignore_index=True)
    frame.columns = [*(f"c{place}" for place in range(14)), "label"]
    frame["label"] = frame["label"].str.rstrip(".")
    return frame


def _mammography(data: Path) -> pd.DataFrame:
    frame = pd.read_csv(data / "mammography" / "mammography.csv", header=None, quotechar="'")
    frame.columns = [*(f"c{place}" for place in range(6)), "label"]
    frame["label"] = frame["label"].astype(str)
    return frame.drop_duplicates()  # a third repeats others, and ingest would keep those of one side


def _german(data: Path) -> pd.DataFrame:
    frame = pd.read_csv(data / "german-credit" / "german.csv", header=None, quotechar="'")
    frame.columns = [*(f"c{place}" for place in range(len(frame.columns) - 1)), "label"]
    frame["label"] = "class " + frame["label"].astype(str)
    return frame


SOURCES = {
    "digits": Source("images", 60, _digits),
    "mnist": Source("images", 300, _images("mnist")),
    "fashion-mnist": Source("images", 300, _images("fashion-mnist")),
    "adult": Source("tables", 4_000, _table(_adult, 4_000)),
    "mammography": Source("tables", 1_200, _table(_mammography, 1_200)),
    "german-credit": Source("tables", 250, _table(_german, 250)),
}
