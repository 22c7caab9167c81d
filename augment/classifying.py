"""How well a model that tells classes apart does so, beside drawing rows: it learned from the training rows alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import BaseModel, ConfigDict

from augment._seeding import numpy_generator
from augment.codec import Codec
from augment.schema import class_name
from models._contract import ClassifiesRows, GenerativeModel

CLASSIFIER_FILE = "classifier.json"
ROWS_AT_ONCE = 1_000
MOST_ROWS = 1_000  # that are judged: a model by its likelihood takes a pass for every class of each


class ClassifierRecord(BaseModel):
    """What ``classifier.json`` says: of ``rows`` validation rows with a label, how many the model recognises.

    Of more than 1,000 as many are drawn. ``labelled`` and ``unlabelled`` are the training rows that it learned from;
    ``recall`` is by class;
    ``balanced_accuracy`` is its mean, over the classes that have validation rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labelled: int
    unlabelled: int
    rows: int
    accuracy: float
    balanced_accuracy: float
    recall: dict[str, float]


class Told(NamedTuple):
    """Probabilities ``(B, num_classes)`` of the classes of rows, and ``y`` ``(B,)``, -1 where a row has no label."""

    probabilities: np.ndarray
    y: np.ndarray


@torch.no_grad()
def probabilities(model: ClassifiesRows, codec: Codec, batch: pa.RecordBatch) -> Told:
    """p(y|x) of the rows of a batch beside the classes that they carry."""
    assert isinstance(model, GenerativeModel)
    encoded = codec.encode(batch, numpy_generator(0, "classifier"))
    x = codec.tensor(encoded.x).to(next(model.parameters()).device)
    return Told(model.class_logits(x).softmax(1).cpu().numpy(), encoded.y)


def write_classifier(folder: Path, model: GenerativeModel, codec: Codec, validation: Path, labels: np.ndarray) -> None:
    """Write ``classifier.json`` of a model whose settings say that it tells classes apart; nothing without rows.

    ``validation`` is the Parquet file of the validation rows, ``labels`` ``(N,)`` are those of the training rows.
    """
    assert isinstance(model, ClassifiesRows)
    truth: list[np.ndarray] = []
    taken: list[np.ndarray] = []
    for batch in _some_rows(validation, codec.table.arrow_schema.names):
        told = probabilities(model, codec, batch)
        known = told.y >= 0
        truth.append(told.y[known])
        taken.append(told.probabilities.argmax(axis=1)[known])
    if not sum(map(len, truth)):
        return
    y = np.concatenate(truth)
    right = np.concatenate(taken) == y
    recall = {class_name(codec.table.classes[c]): round(float(right[y == c].mean()), 4) for c in np.unique(y)}
    record = ClassifierRecord(
        labelled=int((labels >= 0).sum()),
        unlabelled=int((labels < 0).sum()),
        rows=len(y),
        accuracy=round(float(right.mean()), 4),
        balanced_accuracy=round(sum(recall.values()) / len(recall), 4),
        recall=recall,
    )
    (folder / CLASSIFIER_FILE).write_text(record.model_dump_json(indent=1) + "\n")


def _some_rows(validation: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file, batch by batch; of more than :data:`MOST_ROWS` as many, the same each time."""
    file = pq.ParquetFile(validation)
    rows = file.metadata.num_rows
    chosen = np.arange(rows)
    if rows > MOST_ROWS:
        chosen = np.sort(numpy_generator(0, "classifier", "rows").choice(rows, MOST_ROWS, replace=False))
    start = 0
    for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
        own = chosen[(chosen >= start) & (chosen < start + batch.num_rows)] - start
        start += batch.num_rows
        yield batch.take(pa.array(own))
