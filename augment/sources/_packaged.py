"""The machinery of sources whose data come inside scikit-learn: nothing is read from a path or a network."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from typing import Any

import pyarrow as pa

from augment.errors import InputError


def load_packaged(name: str) -> Any:
    """What ``sklearn.datasets.load_<name>()`` gives.

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise InputError(f"the source {name} needs scikit-learn; install it, or choose another source.") from None
    return getattr(datasets, f"load_{name}")()


def table_batches(name: str) -> Iterator[pa.RecordBatch]:
    """The features of a packaged table under their own names as float64, and ``label`` with the classes' names.

    Raises:
        InputError: scikit-learn is not installed.
    """
    data = load_packaged(name)
    names = [str(feature) for feature in data.feature_names]
    columns = [pa.array(data.data[:, i], pa.float64()) for i in range(len(names))]
    label = pa.array([str(data.target_names[y]) for y in data.target], pa.string())
    yield pa.RecordBatch.from_arrays([*columns, label], names=[*names, "label"])


def packaged_version() -> str:
    """The package that the data come with, as ``name version``."""
    return f"scikit-learn {metadata.version('scikit-learn')}"
