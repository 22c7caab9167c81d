"""The data of `likelihood.py`: which variant of a dataset, and the rows that are trained on, watched and judged."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _images import idx_part
from numpy.typing import NDArray
from torch import Tensor

from augment._seeding import derive_seed, numpy_generator
from augment.training._batches import Rows
from models._contract import Batch, Span, TensorSpec

Bytes = NDArray[np.uint8]
OfRows = Callable[[Batch, torch.Generator], Tensor]  # of a batch a number for each row, (B,)
BINARY = TensorSpec((1, 28, 28), (Span("continuous", 784, 2),), 1)
COLOUR = TensorSpec((3, 32, 32), (Span("continuous", 3072, 256),), 1)
MNIST_TRAIN = 50_000  # of 60,000; the others are watched during training, as the static files do
CIFAR_TRAIN = 45_000  # of 50,000


@dataclass(frozen=True)
class DataSet:
    """Rows of one variant: ``train`` as they are cached, ``validation`` and ``test`` as levels, all (n, C, H, W)."""

    variant: str
    spec: TensorSpec
    train: Bytes
    validation: Bytes
    test: Bytes
    redrawn: bool = False  # whether the cached rows are greys, of which bits are drawn for every batch

    def rows(self, folder: Path, device: torch.device) -> Rows:
        """The training rows as the trainer reads them, cached in ``folder``."""
        if not (folder / "y.npy").exists():
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / "x.npy", self.train)
            np.save(folder / "y.npy", np.zeros(len(self.train), np.int64))
        if self.redrawn:
            return RedrawnRows(folder, lambda greys: greys.float() / 255, device)
        return Rows(folder, self.as_tensor, device)

    def some_test_rows(self, count: int) -> Bytes:
        """So many test rows, the same each time: not the first, which are easier than the others in MNIST."""
        return self.test[numpy_generator("test rows").permutation(len(self.test))[:count]]

    def as_tensor(self, levels: Tensor) -> Tensor:
        """Levels evenly spaced in [-1, 1]."""
        return levels.float() * (2 / ((self.spec.spans[0].levels or 2) - 1)) - 1


class RedrawnRows(Rows):
    """Rows of greys in [0, 1] that are given out as bits, each 1 with the probability of its grey.

    The noise follows from the rows that a batch has, so that a training that goes on sees the same bits.
    """

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """The rows ``indices``, newly binarised, as values in {-1, 1}."""
        greys, labels = super().batch(indices)
        seed = derive_seed("binarise", zlib.crc32(indices.tobytes()))
        generator = torch.Generator(device=greys.device).manual_seed(seed)
        uniform = torch.rand(greys.shape, generator=generator, device=greys.device)
        return Batch((uniform < greys).float() * 2 - 1, labels)


def static_mnist(root: Path) -> DataSet:
    """The fixed binarisation of Larochelle and Murray."""
    with np.load(root / "binarized-mnist" / "binarized_mnist_larochelle.npz") as file:
        train, validation, test = (
            np.unpackbits(file[part], axis=1)[:, :784].reshape(-1, 1, 28, 28) for part in ("train", "valid", "test")
        )
    return DataSet("static binarised MNIST (Larochelle and Murray)", BINARY, train, validation, test)


def dynamic_mnist(root: Path) -> DataSet:
    """MNIST whose bits are drawn anew for every batch; those of validation and test are drawn once, by a fixed seed."""
    greys, _ = idx_part(root / "mnist", "train")
    test, _ = idx_part(root / "mnist", "t10k")
    return DataSet(
        "dynamically binarised MNIST, test bits drawn once with a fixed seed",
        BINARY,
        greys[:MNIST_TRAIN, None],
        _bits(greys[MNIST_TRAIN:, None], "validation"),
        _bits(test[:, None], "test"),
        redrawn=True,
    )


def _bits(greys: Bytes, part: str) -> Bytes:
    drawn: Bytes = (numpy_generator("binarise", part).random(greys.shape) < greys / 255).astype(np.uint8)
    return drawn


def jpeg_cifar(root: Path) -> DataSet:
    """CIFAR-10 that was stored as JPEG once, so that its pixels are not the published ones."""
    train, test = (_pictures(root / "cifar10-jpeg" / f"{part}.zip") for part in ("train", "test"))
    order = numpy_generator("cifar10-jpeg").permutation(len(train))
    train = train[order]
    return DataSet("CIFAR-10 re-encoded as JPEG", COLOUR, train[:CIFAR_TRAIN], train[CIFAR_TRAIN:], test)


def _pictures(path: Path) -> Bytes:
    from PIL import Image

    with zipfile.ZipFile(path) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".jpg"))
        pictures = [np.asarray(Image.open(io.BytesIO(file.read(name))).convert("RGB")) for name in names]
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))


def in_chunks(data: DataSet, levels: Bytes, size: int, device: torch.device, of_rows: OfRows) -> NDArray[Any]:
    """``of_rows`` of every row of ``levels`` in nats, ``size`` rows at a time, each with noise of its own."""
    values: list[NDArray[Any]] = []
    for first in range(0, len(levels), size):
        x = data.as_tensor(torch.from_numpy(levels[first : first + size]).to(device))
        generator = torch.Generator(device=device).manual_seed(derive_seed("bound", first))
        batch = Batch(x, torch.zeros(len(x), dtype=torch.long, device=device))
        values.append(of_rows(batch, generator).double().cpu().numpy())
    return np.concatenate(values)


READERS: dict[str, Callable[[Path], DataSet]] = {
    "static": static_mnist,
    "dynamic": dynamic_mnist,
    "cifar10-jpeg": jpeg_cifar,
}
