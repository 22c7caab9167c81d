"""How well a model that tells classes apart does so, beside drawing rows: it learned from the training rows alone."""

from __future__ import annotations

from pathlib import Path

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


@torch.no_grad()
def probabilities(model: ClassifiesRows, codec: Codec, batch: pa.RecordBatch) -> np.ndarray:
    """p(y|x) of the rows of a batch, ``(B, num_classes)``."""
    assert isinstance(model, GenerativeModel)
    x = codec.tensor(codec.encode(batch, numpy_generator(0, "classifier")).x)
    probabilities: np.ndarray = model.class_logits(x.to(next(model.parameters()).device)).softmax(1).cpu().numpy()
    return probabilities


def write_classifier(folder: Path, model: GenerativeModel, codec: Codec, validation: Path, labels: np.ndarray) -> None:
    """Write ``classifier.json`` of a model that tells classes apart, and nothing for another or without rows.

    ``validation`` is the Parquet file of the validation rows, ``labels`` ``(N,)`` are those of the training rows.
    """
    if not isinstance(model, ClassifiesRows):
        return
    truth: list[np.ndarray] = []
    taken: list[np.ndarray] = []
    columns = codec.table.arrow_schema.names
    for batch in pq.ParquetFile(validation).iter_batches(ROWS_AT_ONCE, columns=columns):
        truth.append(codec.encode(batch, numpy_generator(0, "classifier")).y)
        taken.append(probabilities(model, codec, batch).argmax(axis=1))
    if not truth or not (np.concatenate(truth) >= 0).any():
        return
    known = np.concatenate(truth) >= 0
    right, y = (np.concatenate(taken) == np.concatenate(truth))[known], np.concatenate(truth)[known]
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
