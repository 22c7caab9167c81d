"""Labels for new rows, by a model that tells classes apart beside drawing rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from augment.classifying import ROWS_AT_ONCE, probabilities
from augment.codec import Codec
from augment.errors import InputError
from augment.generation import load_model
from augment.schema import class_name
from augment.store import ArtifactRef, Store
from models._contract import ClassifiesRows


class Predicted(NamedTuple):
    """The likeliest class of each row, and the probability that the model gives it, ``(N,)`` each."""

    classes: list[str]
    confidence: np.ndarray


def predict(model: ArtifactRef, rows: pa.RecordBatch, store: Store, device: str = "cpu") -> Predicted:
    """What a trained model takes ``rows`` for, which are in the columns and types of the data; no label is read.

    Raises:
        InputError: the model tells no classes apart, or a column is missing.
        StoreError: the model is not in the store, or was altered.
    """
    net, codec = load_model(model, store, device)
    if not isinstance(net, ClassifiesRows):
        raise InputError(
            f"the model artifact {model.key} tells no classes apart; train a gan with model.techniques.classify true."
        )
    missing = [column.name for column in codec.columns if column.name not in rows.schema.names]
    if missing:
        raise InputError(f"the rows to predict have no column '{missing[0]}', which the model reads.")
    parts = [probabilities(net, codec, part) for part in _parts(_unlabelled(rows, codec))]
    found = np.concatenate(parts) if parts else np.empty((0, len(codec.table.classes)))
    names = [class_name(value) for value in codec.table.classes]
    best = found.argmax(axis=1)
    return Predicted([names[place] for place in best], found[np.arange(len(found)), best])


def _unlabelled(rows: pa.RecordBatch, codec: Codec) -> pa.RecordBatch:
    """The columns of the data in their types; those that are not there, the label among them, are null."""
    schema = codec.table.arrow_schema
    arrays = [
        rows.column(field.name).cast(field.type)
        if field.name in rows.schema.names and field.name != codec.table.label
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _parts(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for first in range(0, rows.num_rows, ROWS_AT_ONCE):
        yield rows.slice(first, ROWS_AT_ONCE)
