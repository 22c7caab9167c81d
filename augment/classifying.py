"""How well a model that tells classes apart does so, beside drawing rows: it learned from the training rows alone."""

from __future__ import annotations

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


class ClassifierRecord(BaseModel):
    """What ``classifier.json`` says: of the validation ``rows`` with a label, how many the model recognises.

    ``labelled`` and ``unlabelled`` are the training rows that it learned from. ``recall`` is by class;
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
    columns = codec.table.arrow_schema.names
    for batch in pq.ParquetFile(validation).iter_batches(ROWS_AT_ONCE, columns=columns):
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
