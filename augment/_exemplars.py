"""The real rows that synthetic ones are drawn from: which, as the model saw them in training, and by what name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from augment._layout import ID_PREFIX
from augment._seeding import numpy_generator
from augment.codec import Codec
from augment.encoding import encode, encode_key
from augment.errors import InputError, StoreError
from augment.progress import Progress, silent
from augment.schema import class_name
from augment.store import ArtifactRef, Store

BATCH_ROWS = 1 << 16
Indices = npt.NDArray[np.int64]


class Members(NamedTuple):
    """The training rows of one class in a seeded order: their places among all of them, and their source row ids."""

    places: Indices
    ids: Indices


class Exemplars:
    """Training rows for the synthetic rows of one round; each class has its own seeded order of them.

    Row ``index`` of the round is drawn from row ``index`` of its class's order, which begins anew when it ends: what a
    row is drawn from follows from its label and its index alone, and over all shards of a round no row of a class is
    used more than once more often than another. With two parents the second is so many rows further on as the order
    has begun, so that all pairs of a small class come before one comes again.

    Held in memory are two numbers for each training row of ``classes``; the rows themselves are gathered from the
    memory-mapped ``encoded`` artifact batch by batch.

    Raises:
        InputError: one of ``classes`` has no training row.
    """

    def __init__(
        self, encoded: Path, train: Path, codec: Codec, classes: Sequence[int], parents: int, seed: tuple[int, int]
    ) -> None:
        self._mapped: npt.NDArray[Any] = np.load(encoded / "x.npy", mmap_mode="r")
        self._codec = codec
        self._parents = parents
        self._members = _members(np.load(encoded / "y.npy", mmap_mode="r"), train, codec, sorted(set(classes)), seed)

    def pick(self, y: Indices, first_index: int) -> list[Members]:
        """The parents of the rows with labels ``y`` ``(B,)`` from index ``first_index`` of the round on, one after the
        other.
        """
        index = first_index + np.arange(len(y))
        picked = [Members(np.empty_like(index), np.empty_like(index)) for _ in range(self._parents)]
        for label in np.unique(y):
            rows = np.flatnonzero(y == label)
            members = self._members[int(label)]
            count = len(members.places)
            turns, first = np.divmod(index[rows], count)
            step = 1 + turns % max(count - 1, 1)
            for number, chosen in enumerate(picked):
                place = (first + number * step) % count
                chosen.places[rows], chosen.ids[rows] = members.places[place], members.ids[place]
        return picked

    def tensors(self, picked: Sequence[Members], device: torch.device) -> list[Tensor]:
        """The picked rows as the model saw them, ``(B, *shape)`` for each parent, on ``device``."""
        return [self._codec.tensor(torch.from_numpy(self._mapped[p.places]).to(device)) for p in picked]


def parent_ids(picked: Sequence[Members], rows: int) -> pa.Array:
    """The published ids of the parents of the first ``rows`` rows, a list for each; one that is both is there once."""
    columns = [p.ids[:rows].tolist() for p in picked]
    named = [[f"{ID_PREFIX[False]}{number}" for number in dict.fromkeys(ids)] for ids in zip(*columns, strict=True)]
    return pa.array(named, pa.list_(pa.string()))


def exemplars_key(model: ArtifactRef, real: ArtifactRef, store: Store) -> str:
    """The key of the encoded training rows that :func:`open_exemplars` reads.

    Raises:
        StoreError: the model is not in the store.
    """
    return encode_key(real, _described(model, store)["seed"])


def open_exemplars(
    model: ArtifactRef,
    real: ArtifactRef,
    store: Store,
    codec: Codec,
    classes: Sequence[int],
    parents: int,
    seed: tuple[int, int],
    progress: Progress = silent,
) -> Exemplars:
    """The training rows of ``real`` exactly as ``model`` saw them, encoded anew where they were collected as garbage.

    ``seed`` is that of the run and the round.

    Raises:
        InputError: one of ``classes`` has no training row.
        StoreError: the model or the real data are not in the store, or the model was trained on other rows.
    """
    described = _described(model, store)
    encoded = encode(real, described["seed"], store, progress)
    if encoded.sha256 != described["encode"]["sha256"]:
        raise StoreError(
            f"the encoded training rows {encoded.key} are not those that the model {model.key} was trained on; "
            f"remove the folder {store.path(model)} and run again."
        )
    return Exemplars(store.path(encoded), store.path(real) / "train.parquet", codec, classes, parents, seed)


def _described(model: ArtifactRef, store: Store) -> dict[str, Any]:
    described: dict[str, Any] = json.loads((store.path(model) / "model.json").read_text())
    return described


def _members(
    labels: Indices, train: Path, codec: Codec, classes: Sequence[int], seed: tuple[int, int]
) -> dict[int, Members]:
    """The training rows of each of ``classes``, shuffled by a generator of its own."""
    found: list[tuple[Indices, Indices, Indices]] = [(np.empty(0, np.int64),) * 3]
    start = 0
    with pq.ParquetFile(train) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=["source_row_id"]):
            y = labels[start : start + batch.num_rows]
            here = np.flatnonzero(np.isin(y, classes))
            found.append((y[here], here + start, batch.column(0).to_numpy()[here]))
            start += batch.num_rows
    y, places, ids = (np.concatenate(parts) for parts in zip(*found, strict=True))
    members = {}
    for label in classes:
        rows = np.flatnonzero(y == label)
        if not len(rows):
            name = class_name(codec.table.classes[label]) if codec.table.classes else ""
            raise InputError(
                f"the class '{name}' has no training row to draw from; leave it some in split, or set "
                "generate.operator: prior."
            )
        order = numpy_generator(seed[0], "exemplars", seed[1], label).permutation(rows)
        members[label] = Members(places[order], ids[order])
    return members
