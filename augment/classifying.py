"""How well a model that tells classes apart does so, beside drawing rows: it learned from the training rows alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import BaseModel, ConfigDict

from augment._seeding import numpy_generator
from augment.codec import Codec
from augment.schema import class_indices, class_name
from models._contract import ClassifiesRows, GenerativeModel

CLASSIFIER_FILE = "classifier.json"
ROWS_AT_ONCE = 1_000
MOST_ROWS = 500  # that are judged: a model by its likelihood takes a pass for every class of each
FEWEST_ROWS = 10  # of a class, however many classes there are


class ClassifierRecord(BaseModel):
    """What ``classifier.json`` says: how many validation rows with a label the model recognises.

    Judged are ``rows`` rows, of a class all, or as many as of any other; ``labelled`` and ``unlabelled`` are the
    training rows that it learned from. ``recall`` is by class, ``balanced_accuracy`` its mean over the classes that
    have validation rows, and ``accuracy`` its mean over rows, as many of each class as there are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labelled: int
    unlabelled: int
    rows: int
    accuracy: float
    balanced_accuracy: float
    recall: dict[str, float]


@torch.no_grad()
def probabilities(model: ClassifiesRows, codec: Codec, batch: pa.RecordBatch) -> np.ndarray:
    """p(y|x) of the rows of a batch, ``(B, num_classes)``."""
    assert isinstance(model, GenerativeModel)
    encoded = codec.encode(batch, numpy_generator(0, "classifier"))
    x = codec.tensor(encoded.x).to(next(model.parameters()).device)
    found: np.ndarray = model.class_logits(x).softmax(1).cpu().numpy()
    return found


def write_classifier(folder: Path, model: GenerativeModel, codec: Codec, validation: Path, labels: np.ndarray) -> None:
    """Write ``classifier.json`` of a model whose settings say that it tells classes apart; nothing without rows.

    ``validation`` is the Parquet file of the validation rows, ``labels`` ``(N,)`` are those of the training rows.
    """
    assert isinstance(model, ClassifiesRows)
    y = _classes_of(validation, codec)
    judged = _judged_rows(y, len(codec.table.classes))
    if not len(judged):
        return
    batches = _batches_of(judged, validation, codec.table.arrow_schema.names)
    taken = [probabilities(model, codec, batch).argmax(axis=1) for batch in batches]
    right = np.concatenate(taken) == y[judged]
    by_class = {c: float(right[y[judged] == c].mean()) for c in np.unique(y[judged])}
    recall = {class_name(codec.table.classes[c]): round(share, 4) for c, share in by_class.items()}
    record = ClassifierRecord(
        labelled=int((labels >= 0).sum()),
        unlabelled=int((labels < 0).sum()),
        rows=len(judged),
        accuracy=round(sum(share * (y == c).sum() for c, share in by_class.items()) / (y >= 0).sum(), 4),
        balanced_accuracy=round(sum(recall.values()) / len(recall), 4),
        recall=recall,
    )
    (folder / CLASSIFIER_FILE).write_text(record.model_dump_json(indent=1) + "\n")


def _classes_of(path: Path, codec: Codec) -> np.ndarray:
    """The classes of all rows of a Parquet file, ``(N,)``, -1 where a row has no label."""
    label = codec.table.label
    assert label is not None
    column = pq.read_table(path, columns=[label]).column(label).combine_chunks()
    return class_indices(column, codec.table, len(column))


def _judged_rows(y: np.ndarray, classes: int) -> np.ndarray:
    """Which rows of classes ``y`` are judged, in order: of each class so many, the same each time."""
    most = max(FEWEST_ROWS, MOST_ROWS // classes)
    chosen = []
    for c in range(classes):
        own = np.flatnonzero(y == c)
        chosen.append(own if len(own) <= most else numpy_generator(0, "classifier", c).choice(own, most, replace=False))
    return np.sort(np.concatenate(chosen))


def _batches_of(rows: np.ndarray, path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Those ``rows`` of a Parquet file, by rising number, batch by batch."""
    start = 0
    for batch in pq.ParquetFile(path).iter_batches(ROWS_AT_ONCE, columns=columns):
        own = rows[(rows >= start) & (rows < start + batch.num_rows)] - start
        start += batch.num_rows
        yield batch.take(pa.array(own))
