"""The batches of a training run: which rows each step sees, and how they reach the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from augment._devices import free_memory
from augment._seeding import numpy_generator
from models._contract import Batch

Sampling = Literal["rows", "root", "equal"]
EXPONENT: dict[Sampling, float] = {"rows": 1.0, "root": 0.5, "equal": 0.0}
RESIDENT_BYTES = 1 << 30
RESIDENT_SHARE = 0.25  # of the memory that is free


class Sampler:
    """The rows of each step, as a function of the seed and the step alone.

    An epoch has as many draws as there are rows. Each class has its share of them: by its rows, by the square root of
    its rows, or the same for all; within a class every row is drawn equally often, but for one. Rows without a label
    (``y`` is -1) keep the share that they have, or what ``labelled``, the share of all others, leaves them. Scarce
    classes that are drawn more often than their rows are learned better at first and by heart in the end, so a model
    says which suits it. Batches follow one another through the epochs without a gap, so a batch may be larger than the
    data.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        batch_size: int,
        seed: int,
        sampling: Sampling,
        labelled: float | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.rows = len(labels)
        self._seed = seed
        # An index of 32 bits halves the memory of an epoch.
        dtype = np.int32 if self.rows < 2**31 else np.int64
        classes, counts = np.unique(labels, return_counts=True)
        order = np.argsort(labels, kind="stable").astype(dtype)
        self._members = np.split(order, np.cumsum(counts)[:-1])
        self._quotas = class_quotas(classes, counts, EXPONENT[sampling], labelled)
        self._orders: dict[int, NDArray[Any]] = {}

    def indices(self, step: int) -> NDArray[np.int64]:
        """The rows of step ``step`` (from 0), shape ``(batch_size,)``."""
        epoch, first = divmod(step * self.batch_size, self.rows)
        parts: list[NDArray[Any]] = []
        missing = self.batch_size
        while missing:
            part = self._order(epoch)[first : first + missing]
            parts.append(part)
            missing -= len(part)
            epoch, first = epoch + 1, 0
        return np.concatenate(parts).astype(np.int64)

    def _order(self, epoch: int) -> NDArray[Any]:
        if epoch not in self._orders:
            self._orders = {number: order for number, order in self._orders.items() if number == epoch - 1}
            generator = numpy_generator(self._seed, "train", "epoch", epoch)
            draws: list[NDArray[Any]] = []
            for members, quota in zip(self._members, self._quotas, strict=True):
                whole, rest = divmod(int(quota), len(members))
                draws += [members] * whole
                if rest:
                    draws.append(generator.permutation(members)[:rest])
            self._orders[epoch] = generator.permutation(np.concatenate(draws))
        return self._orders[epoch]


def class_quotas(
    classes: NDArray[np.int64], counts: NDArray[np.int64], exponent: float, labelled: float | None = None
) -> NDArray[np.int64]:
    """Draws of each class in an epoch: in proportion to ``counts ** exponent``, together as many as there are rows.

    Classes from 0 on have the share ``labelled`` of all draws, and rows without a label (-1) the rest; null, or where
    there are rows of one sort alone: as their rows. None is left out: each has one draw at least, which the class with
    the most draws gives up.
    """
    known = classes >= 0
    shares = counts.astype(np.float64)
    if known.any():
        tempered = shares[known] ** exponent
        drawn = counts[known].sum()
        if labelled is not None and not known.all():
            drawn = labelled * counts.sum()
            shares[~known] = counts.sum() - drawn
        shares[known] = tempered / tempered.sum() * drawn
    quotas = np.floor(shares).astype(np.int64)
    # What rounding down left over goes to the largest fractions; ties in class order.
    left_over = int(counts.sum() - quotas.sum())
    quotas[np.argsort(-(shares - quotas), kind="stable")[:left_over]] += 1
    for scarce in np.flatnonzero(quotas == 0):
        quotas[np.argmax(quotas)] -= 1
        quotas[scarce] = 1
    return quotas


def is_resident(num_bytes: int, device: torch.device) -> bool:
    """Whether rows of so many bytes are copied to the device as a whole; the CPU reads the mapped file itself."""
    return device.type != "cpu" and num_bytes < min(RESIDENT_BYTES, RESIDENT_SHARE * free_memory(device))


class Rows:
    """The encoded training rows in ``folder``, given out as batches on ``device``.

    They are put on another device than the CPU as one tensor in the type of their cache when they take less than 1 GiB
    and a quarter of its free memory; else each batch is gathered from the memory-mapped file, whose pages the system
    keeps or drops as it sees fit. ``as_tensor`` turns cached values into what the model sees.
    """

    def __init__(self, folder: Path, as_tensor: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self._as_tensor = as_tensor
        self._device = device
        self.labels: NDArray[np.int64] = np.load(folder / "y.npy")
        self._mapped = np.load(folder / "x.npy", mmap_mode="r")
        self._resident: Tensor | None = None
        if is_resident(self._mapped.nbytes, device):
            self._resident = torch.from_numpy(np.array(self._mapped)).to(device)
        self._labels = torch.from_numpy(self.labels).to(device)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """The rows ``indices`` as the model sees them."""
        chosen = self._sent(torch.from_numpy(indices))
        if self._resident is not None:
            x = self._resident[chosen]
        else:
            x = self._sent(torch.from_numpy(self._mapped[indices]))
        return Batch(self._as_tensor(x), self._labels[chosen])

    def _sent(self, tensor: Tensor) -> Tensor:
        """``tensor`` on the device; from pinned memory the copy to CUDA runs beside the computation."""
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)
