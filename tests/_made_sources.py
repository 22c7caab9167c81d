"""The smallest data of every kind of source, made where a test wants them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import augment.sources
from augment._plugins import find_plugins
from augment._png import encode_pngs
from augment.schema import IMAGE_TYPE
from augment.sources._contract import Source

SOURCES = find_plugins(augment.sources, Source)  # type: ignore[type-abstract]
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 28, 28)).astype(np.uint8)
LABELS = np.arange(12) % 3


def idx(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(head + values.astype(np.uint8).tobytes())
    return path


def image_table() -> pa.Table:
    images = [{"bytes": data, "path": None} for data in encode_pngs(PIXELS)]
    return pa.table({"image": pa.array(images, IMAGE_TYPE), "label": pa.array(LABELS, pa.int64())})


def make_csv(folder: Path) -> dict[str, Any]:
    (folder / "data.csv").write_text("length,colour,label\n" + "".join(f"{i}.5,red,c{i % 3}\n" for i in range(12)))
    return {"path": folder / "data.csv", "label": "label"}


def make_parquet(folder: Path) -> dict[str, Any]:
    for part in range(2):
        parquet.write_table(image_table().slice(6 * part, 6), folder / f"part-{part}.parquet")
    return {"path": folder, "label": "label"}


def make_image_folder(folder: Path) -> dict[str, Any]:
    for number, data in enumerate(encode_pngs(PIXELS)):
        (folder / f"class-{LABELS[number]}").mkdir(exist_ok=True)
        (folder / f"class-{LABELS[number]}" / f"{number:02}.png").write_bytes(data)
    return {"path": folder}


def make_idx(folder: Path) -> dict[str, Any]:
    return {"images": idx(folder / "images", PIXELS), "labels": idx(folder / "labels", LABELS)}


def make_torchvision(folder: Path) -> dict[str, Any]:
    for part in ("train", "t10k"):
        idx(folder / f"MNIST/raw/{part}-images-idx3-ubyte", PIXELS)
        idx(folder / f"MNIST/raw/{part}-labels-idx1-ubyte", LABELS)
    return {"name": "MNIST", "root": folder}


def make_hugging_face(folder: Path) -> dict[str, Any]:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    saved = datasets.Dataset.from_dict(image_table().to_pydict(), features=features)
    datasets.disable_progress_bars()
    datasets.DatasetDict({"train": saved, "test": saved.select(range(3))}).save_to_disk(str(folder))
    return {"path": folder, "label": "label", "split": "train"}


MAKERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "csv": make_csv,
    "parquet": make_parquet,
    "image_folder": make_image_folder,
    "idx": make_idx,
    "torchvision": make_torchvision,
    "hugging_face": make_hugging_face,
}
PACKAGED = ("digits", "wine", "breast_cancer")


def table(source: Source) -> pa.Table:
    return pa.Table.from_batches(source.read())
