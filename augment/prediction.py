"""Labels for new rows, by a model that tells classes apart beside drawing rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from augment.classifying import ROWS_AT_ONCE, probabilities
from augment.codec import Codec
from augment.errors import InputError
from augment.generation import load_model, model_config
from augment.schema import class_name
from augment.store import ArtifactRef, Store
from models._contract import ClassifiesRows


class Predicted(NamedTuple):
    """The likeliest class of each row, and the probability that the model gives it, ``(N,)`` each."""

    classes: list[str]
    confidence: np.ndarray


def predict(model: ArtifactRef, rows: pa.RecordBatch | pa.Table, store: Store, device: str = "cpu") -> Predicted:
    """What a trained model takes ``rows`` for, which are in the columns and types of the data; no label is read.

    Values between those that a column can hold are spread at random, as in training, by a generator that starts anew
    for every 1,000 rows: the same rows in the same order are answered the same. A missing number is such a draw too, so
    the probabilities of a row with one are those of the draw, also of a model that knows p(y|x) exactly.

    Raises:
        InputError: the model tells no classes apart, a column is missing, or a value is not one of its column.
        StoreError: the model is not in the store, or was altered.
    """
    if not model_config(model, store).classifies():
        raise InputError(
            f"the model artifact {model.key} tells no classes apart; train a gan with model.techniques.classify true, "
            "or a model whose likelihood is exact: on images a pixelcnn, on a table a masked_mlp."
        )
    net, codec = load_model(model, store, device)
    if not codec.table.classes:
        raise InputError(
            f"the model artifact {model.key} learned from data without a label column, so it knows no classes."
        )
    assert isinstance(net, ClassifiesRows)
    parts = [_answered(net, codec, part) for part in _unlabelled(rows, codec).to_batches(max_chunksize=ROWS_AT_ONCE)]
    found = np.concatenate([np.empty((0, len(codec.table.classes))), *parts])
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])
        raise InputError(f"row {row} of those to predict has a number that is not finite; leave it out or mend it.")
    names = [class_name(value) for value in codec.table.classes]
    best = found.argmax(axis=1)
    return Predicted([names[place] for place in best], found[np.arange(len(found)), best])


def _answered(net: ClassifiesRows, codec: Codec, part: pa.RecordBatch) -> np.ndarray:
    """p(y|x) of some rows, ``(B, num_classes)``.

    Raises:
        InputError: the model cannot read one of them.
    """
    try:
        return probabilities(net, codec, part)
    except (pa.ArrowException, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"the rows to predict cannot be read as the model reads rows ({str(error).splitlines()[0]}); give them in "
            "the columns, types and sizes of the data that it was trained on."
        ) from None


def _unlabelled(rows: pa.RecordBatch | pa.Table, codec: Codec) -> pa.Table:
    """The columns of the data in their types; those that no model reads, the label among them, are null.

    Raises:
        InputError: a column is missing, or cannot be taken for one of its type.
    """
    whole = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    read = {column.name for column in codec.columns}
    schema, arrays = codec.table.arrow_schema, []
    for field in schema:
        if field.name not in read:
            arrays.append(pa.nulls(whole.num_rows, field.type))
            continue
        if field.name not in whole.schema.names:
            raise InputError(f"the rows to predict have no column '{field.name}', which the model reads.")
        given = whole.column(field.name)
        try:
            arrays.append(given.cast(field.type))
        except pa.ArrowException:
            raise InputError(
                f"the column '{field.name}' of the rows to predict is {given.type}, which cannot be taken for "
                f"{field.type} without loss; give it as it is in the data."
            ) from None
    return pa.Table.from_arrays(arrays, schema=schema).combine_chunks()
