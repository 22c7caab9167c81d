"""Settings of a training that do not fit the rows: refused before anything is trained.

Every function raises an ``InputError`` that says what to change; ``encoded`` is the folder of encoded rows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from augment.codec import Codec
from augment.errors import InputError
from models._contract import ModelConfig


def refuse_without_pairs(config: ModelConfig, encoded: Path, batch_size: int) -> None:
    """Refuse a training on pairs of rows of a class where there are none.

    Raises:
        InputError: batches are of one row, or no class has two.
    """
    if not config.reads_pairs():
        return
    who = f"model.{config.kind} with these settings learns from pairs of rows"
    if batch_size < 2:
        raise InputError(f"{who} in a batch; set train.batch_size to 2 or more.")
    labels = np.load(encoded / "y.npy")
    if not (np.unique(labels[labels >= 0], return_counts=True)[1] > 1).any():
        raise InputError(f"{who} of a class, and no class has two training rows; add some, or take another model.")


def refuse_small_batches(config: ModelConfig, batch_size: int) -> None:
    """Refuse batches of fewer rows than a model learns from.

    Raises:
        InputError: batch normalisation, kernels that compare rows and the like would see nothing.
    """
    if batch_size < config.smallest_batch():
        raise InputError(
            f"model.{config.kind} with these settings compares the rows of a batch; set train.batch_size to "
            f"{config.smallest_batch()} or more."
        )


def refuse_share_of_all(labelled: float | None, encoded: Path) -> None:
    """Refuse a share of the rows with a label where all have one, none has, or the data have no labels.

    Raises:
        InputError: the share would do nothing.
    """
    if labelled is None:
        return
    if Codec.load(encoded / "codec.json").table.label is None:
        raise InputError("train.labelled is of rows with a label, and the data have no label column; leave it out.")
    known = np.load(encoded / "y.npy") >= 0
    if known.all() or not known.any():
        which = "all" if known.all() else "none"
        raise InputError(f"train.labelled is of rows some of which have a label, and {which} have one; leave it out.")
