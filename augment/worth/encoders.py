"""The stage `encoders`: nets trained on real training rows alone, with which synthetic rows are looked at.

Two encoders, each of which has seen one half of the training rows, a judge of labels of another design, and the real
rows in their features: what :mod:`augment.worth.fidelity` compares with, kept so that it is learned once for the same
real rows, whatever is drawn or changed later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from augment._devices import seed_torch, torch_randomness_kept
from augment._seeding import derive_seed, numpy_generator
from augment.codec import Codec
from augment.encoding import encode, encode_key
from augment.progress import Progress, silent
from augment.store import ArtifactRef, Store, code_version, hash_json
from augment.worth._chosen_rows import places_by_class
from augment.worth._classifier import Classifier, Design
from augment.worth._encoded_rows import BATCH_ROWS, batches_of_file, encoded_batches, held_out_rows, labels_of
from augment.worth.fidelity import Fold, RealSide, learn_from
from models._contract import Batch, TensorSpec

STAGE = "encoders"
ROWS = "rows.safetensors"
# Narrower and shorter than those of the benchmarks: as good on small images, and every run pays for them.
ENCODER = Design(width=0.5, depth=1, dropout=0.2, steps=300)
JUDGE = Design(width=0.4, depth=2, dropout=0.1, steps=200)
CODE = (
    "augment.worth.encoders",
    "augment.worth.fidelity",
    "augment.worth._chosen_rows",
    "augment.worth._classifier",
    "augment.worth._encoded_rows",
    "models._nets",
)


@dataclass(frozen=True)
class Encoders:
    """The nets and the real rows they were trained on or compared with; ``encoded`` holds all training rows.

    ``train_places`` are the places of the rows ``real.train`` among all training rows, by class.
    """

    codec: Codec
    real: RealSide
    encoded: Path
    train_file: Path
    train_places: dict[int, Tensor]

    @property
    def spec(self) -> TensorSpec:
        """What an encoded row means."""
        return self.codec.spec

    def encode(self, rows: pa.RecordBatch | pa.Table) -> Batch:
        """Rows without faults as a model sees them, ``x`` ``(N, *shape)``; the same for the same rows."""
        found = list(encoded_batches(self.codec, _batches(rows), numpy_generator(self.real.seed, "rows")))
        x = torch.cat([x for x, _ in found] or [torch.empty(0, *self.spec.shape)])
        return Batch(x, torch.cat([y for _, y in found] or [torch.empty(0, dtype=torch.int64)]))

    def labels(self, rows: pa.RecordBatch) -> Tensor:
        """The class ``y`` of each row, -1 without a label."""
        return torch.from_numpy(labels_of(self.codec, rows))

    def positions(self, rows: pa.RecordBatch | pa.Table) -> Tensor:
        """Rows without faults at places ``(N, size)`` that equal values share, so that a copy lies at distance 0.

        A model sees a number that many rows have somewhere inside of its plateau; here it lies in the middle.
        """
        found = [x for x, _ in encoded_batches(self.codec, _batches(rows), _Middle())]
        return torch.cat(found or [torch.empty(0, *self.spec.shape)]).flatten(1)

    def train_positions(self, y: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All training rows of a class, some at a time: their places among all, and their :meth:`positions`."""
        labels = np.load(self.encoded / "y.npy", mmap_mode="r")
        if self.codec.draws:
            start = 0
            for batch in batches_of_file(self.train_file, BATCH_ROWS):
                here = np.flatnonzero(labels[start : start + batch.num_rows] == y)
                if len(here):
                    yield torch.from_numpy(here + start), self.positions(batch.take(pa.array(here)))
                start += batch.num_rows
            return
        mapped = np.load(self.encoded / "x.npy", mmap_mode="r")
        places = np.flatnonzero(labels == y)
        for start in range(0, len(places), BATCH_ROWS):
            here = places[start : start + BATCH_ROWS]
            yield torch.from_numpy(here), _flat(self.codec, mapped[here])


def learn_encoders(real: ArtifactRef, seed: int, store: Store, progress: Progress = silent) -> ArtifactRef:
    """The artifact of the nets, trained on training rows; the same for the same real rows and seed.

    Raises:
        InputError: a column cannot be learnt from.
        ValueError: no training row has a label.
    """

    def fill(folder: Path) -> None:
        encoded = store.path(encode(real, seed, store, progress))
        codec = Codec.load(encoded / "codec.json")
        own_seed = derive_seed(seed, STAGE)
        progress(STAGE, 0, 1, "net")
        y = torch.from_numpy(np.load(encoded / "y.npy"))
        mapped = np.load(encoded / "x.npy", mmap_mode="r")
        places = places_by_class(y, own_seed, "train")
        train = {label: _flat(codec, mapped[chosen.numpy()]) for label, chosen in places.items()}
        held = held_out_rows(store.path(real) / "validation.parquet", codec, own_seed)
        side = learn_from(codec.spec, train, held, own_seed, ENCODER, JUDGE, accuracy=False)
        codec.save(folder / "codec.json")
        _save(folder, side, places)
        progress(STAGE, 1, 1, "net")

    return store.write(STAGE, _key(real, seed), fill)


def load_encoders(ref: ArtifactRef, real: ArtifactRef, seed: int, store: Store) -> Encoders:
    """The nets of the artifact ``ref``, with the training rows encoded anew where they were collected as garbage.

    Raises:
        StoreError: an artifact is not in the store.
    """
    from safetensors.torch import load_file

    folder = store.path(ref)
    encoded = store.path(encode(real, seed, store))
    codec = Codec.load(folder / "codec.json")
    rows = load_file(folder / ROWS)
    mapped = np.load(encoded / "x.npy", mmap_mode="r")
    places = _part(rows, "places.")
    net = partial(_net, folder, codec.spec)
    folds = []
    for number in (0, 1):
        if (folder / f"encoder-{number}.safetensors").exists():
            of_fold = (_part(rows, f"features.{number}.{part}.") for part in ("train", "held_out"))
            folds.append(Fold(net(f"encoder-{number}", ENCODER), *of_fold))
    side = RealSide(
        spec=codec.spec,
        train={y: _flat(codec, mapped[chosen.numpy()]) for y, chosen in places.items()},
        held_out=_part(rows, "held_out."),
        folds=folds,
        judge=net("judge", JUDGE),
        learned=None,
        learner=ENCODER,
        seed=derive_seed(seed, STAGE),
    )
    return Encoders(codec, side, encoded, store.path(real) / "train.parquet", places)


def _key(real: ArtifactRef, seed: int) -> str:
    return hash_json([encode_key(real, seed), real.sha256, seed, code_version(*CODE), torch.__version__])[:32]


def _save(folder: Path, side: RealSide, places: dict[int, Tensor]) -> None:
    from safetensors.torch import save_file

    rows = {f"places.{y}": chosen for y, chosen in places.items()}
    rows |= {f"held_out.{y}": x for y, x in side.held_out.items()}
    nets = {"judge": side.judge}
    for number, fold in enumerate(side.folds):
        nets[f"encoder-{number}"] = fold.encoder
        rows |= {f"features.{number}.train.{y}": found for y, found in fold.train.items()}
        rows |= {f"features.{number}.held_out.{y}": found for y, found in fold.held_out.items()}
    for name, classifier in nets.items():
        save_file({k: v.contiguous() for k, v in classifier.state_dict().items()}, folder / f"{name}.safetensors")
    save_file({name: values.contiguous() for name, values in rows.items()}, folder / ROWS)


def _net(folder: Path, spec: TensorSpec, name: str, design: Design) -> Classifier:
    """A trained net; building one draws weights, of which nothing stays."""
    from safetensors.torch import load_file

    device = torch.device("cpu")
    with torch_randomness_kept(device):
        seed_torch(device, 0)
        found = Classifier(spec, design)
    found.load_state_dict(load_file(folder / f"{name}.safetensors"))
    return found.eval()


def _part(rows: dict[str, Tensor], prefix: str) -> dict[int, Tensor]:
    """The tensors whose name begins so, by the class that it ends with."""
    found = {int(name.removeprefix(prefix)): values for name, values in rows.items() if name.startswith(prefix)}
    return dict(sorted(found.items()))


def _batches(rows: pa.RecordBatch | pa.Table) -> list[pa.RecordBatch]:
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    found: list[pa.RecordBatch] = table.combine_chunks().to_batches(BATCH_ROWS)
    return found


class _Middle(np.random.Generator):
    """Draws that are no draws: the middle of every range."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def random(self, size: int) -> NDArray[np.float64]:  # type: ignore[override]
        return np.full(size, 0.5)

    def standard_normal(self, size: int) -> NDArray[np.float64]:  # type: ignore[override]
        return np.zeros(size)


def _flat(codec: Codec, x: NDArray[Any]) -> Tensor:
    return codec.tensor(x).flatten(1).float()
