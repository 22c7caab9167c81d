"""What the latents of a trained model hold: how many it uses, and what becomes of a row when one of them moves.

Pictures for the critique in Blei's "Build, Compute, Critique, Repeat: Data Analysis with Latent Variable Models", 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from augment._seeding import numpy_generator
from augment.codec import Codec
from augment.schema import class_name
from models._contract import Batch, GenerativeModel, HasLatents
from models._latents import ACTIVE_VARIANCE

LATENTS_FILE = "latents.json"
TRAVERSALS_FILE = "traversals.parquet"
ROWS = 1_000  # of which the codes are looked at
CLASS_ROWS = 100  # whose codes a class's centre is the mean of
CLASSES = 4
LATENTS = 5
LISTED = 64  # latents whose variances are kept
POSITIONS = tuple(np.linspace(-2.0, 2.0, 9).tolist())  # in standard deviations
ROWS_AT_ONCE = 50
CODE_VALUES = 10_000_000  # of all codes together: a ladder of latents has many of each row

Floats = NDArray[np.float64]
BatchOf = Callable[[NDArray[np.int64]], Batch]


class Latent(BaseModel):
    """One number of the codes: how much its posterior mean varies over all rows, and over the rows of a class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int
    variance: float
    within_classes: float


class LatentRecord(BaseModel):
    """What ``latents.json`` says; the rows of ``traversals.parquet`` are ``classes`` x ``shown`` x ``positions``.

    ``active`` counts the latents with Var_x(E_q z) > 0.01, ``active_within_classes`` those that vary so much within a
    class, and so say more than the label. ``most_active`` are the first of them, the most varying within classes first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    latents: int
    active: int
    active_within_classes: int
    most_active: list[Latent]
    classes: list[str]
    shown: list[int]
    positions: list[float]

    def traversals(self, folder: Path) -> pa.Table:
        """The decoded rows that stand beside this record in ``folder``."""
        return pq.read_table(folder / TRAVERSALS_FILE)

    @classmethod
    def load(cls, path: Path) -> LatentRecord:
        """Read what :func:`write_latents` wrote."""
        return cls.model_validate_json(path.read_text())


@torch.no_grad()
def write_latents(
    folder: Path, model: GenerativeModel, codec: Codec, batch_of: BatchOf, labels: NDArray[np.int64], seed: int
) -> None:
    """Write ``latents.json`` and ``traversals.parquet`` of a model that has latents, and nothing for another.

    ``labels`` ``(N,)`` are those of the training rows, which ``batch_of`` gives by their places. In a traversal one
    latent moves from -2 to 2 standard deviations (within a class) around the mean code of the class, and the others
    stay there; position 0 is the class's centre. Nothing of it decides what is drawn, so it is not part of the model's
    identity.
    """
    if not isinstance(model, HasLatents):
        return
    draw = numpy_generator(seed, "train", "latents")
    chosen = draw.permutation(len(labels))[:ROWS]
    codes = _codes(model, batch_of, chosen)
    chosen = chosen[: len(codes)]
    within = _variance_within(codes, labels[chosen])
    ordered = np.argsort(-within, kind="stable")
    active = np.flatnonzero(within > ACTIVE_VARIANCE)
    shown = [int(index) for index in ordered[:LATENTS] if within[index] > ACTIVE_VARIANCE]
    classes = shown_classes(labels)
    variance = codes.var(axis=0)
    record = LatentRecord(
        rows=len(chosen),
        latents=codes.shape[1],
        active=int((variance > ACTIVE_VARIANCE).sum()),
        active_within_classes=len(active),
        most_active=[
            Latent(index=int(i), variance=_short(variance[i]), within_classes=_short(within[i]))
            for i in ordered[:LISTED]
        ],
        classes=[_name(codec, index) for index in classes],
        shown=shown,
        positions=list(POSITIONS),
    )
    (folder / LATENTS_FILE).write_text(record.model_dump_json(indent=1) + "\n")
    steps = np.sqrt(within)
    decoded = []
    for index in classes:
        members = np.flatnonzero(labels == index)
        centre = _codes(model, batch_of, draw.permutation(members)[:CLASS_ROWS]).mean(axis=0)
        decoded += list(_decoded(model, codec, traversals(centre, shown, steps), index, batch_of(members[:1]).y.device))
    pq.write_table(pa.Table.from_batches(decoded, codec.table.arrow_schema), folder / TRAVERSALS_FILE)


def traversals(centre: Floats, latents: list[int], deviations: Floats) -> Floats:
    """The code ``centre`` ``(D,)`` with one of ``latents`` after the other moved: ``(latents * positions, D)``."""
    moved = np.repeat(centre[None], len(latents) * len(POSITIONS), axis=0)
    for place, latent in enumerate(latents):
        rows = slice(place * len(POSITIONS), (place + 1) * len(POSITIONS))
        moved[rows, latent] += deviations[latent] * np.array(POSITIONS)
    return moved


def shown_classes(labels: NDArray[np.int64]) -> list[int]:
    """The classes that are traversed, in order: those with the fewest and those with the most rows."""
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    ordered = classes[np.argsort(counts, kind="stable")]
    if len(ordered) > CLASSES:
        half = CLASSES // 2
        ordered = np.concatenate([ordered[:half], ordered[-half:]])
    return [int(index) for index in np.sort(ordered)]


def _codes(model: HasLatents, batch_of: BatchOf, places: NDArray[np.int64]) -> Floats:
    """The codes ``(rows, D)`` of the training rows at ``places``, of the first of them where codes are very long."""
    parts: list[Floats] = []
    rows = 0
    for start in range(0, len(places), ROWS_AT_ONCE):
        codes = model.encode(batch_of(places[start : start + ROWS_AT_ONCE])).cpu().double().numpy()
        parts.append(codes)
        rows += len(codes)
        if rows * codes.shape[1] >= CODE_VALUES:
            break
    return np.concatenate(parts)


def _variance_within(codes: Floats, labels: NDArray[np.int64]) -> Floats:
    """The variance of each latent around the mean of its class, over the rows of all classes together."""
    residues = np.empty_like(codes)
    for index in np.unique(labels):
        here = labels == index
        residues[here] = codes[here] - codes[here].mean(axis=0)
    found: Floats = (residues**2).mean(axis=0)
    return found


def _decoded(
    model: HasLatents, codec: Codec, codes: Floats, label: int, device: torch.device
) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(codes), ROWS_AT_ONCE):
        latents = torch.from_numpy(codes[start : start + ROWS_AT_ONCE]).float().to(device)
        y = torch.full((len(latents),), label, dtype=torch.int64, device=device)
        yield codec.decode(model.decode(latents, y), y)


def _name(codec: Codec, index: int) -> str:
    return class_name(codec.table.classes[index]) if codec.table.classes else ""


def _short(value: Any) -> float:
    return float(f"{float(value):.6g}")
