"""A dataset that torchvision knows, from a copy that is already there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from augment.errors import InputError
from augment.sources._contract import Source
from augment.sources._files import cause, exists, readable_folder, shown
from augment.sources._images import pixel_batches

# The files below ``root`` of each dataset's training part and of its test part.
FILES: dict[str, tuple[str, str]] = {
    "MNIST": ("MNIST/raw/train-*-ubyte", "MNIST/raw/t10k-*-ubyte"),
    "FashionMNIST": ("FashionMNIST/raw/train-*-ubyte", "FashionMNIST/raw/t10k-*-ubyte"),
    "KMNIST": ("KMNIST/raw/train-*-ubyte", "KMNIST/raw/t10k-*-ubyte"),
    "CIFAR10": ("cifar-10-batches-py/data_batch_*", "cifar-10-batches-py/test_batch"),
    "CIFAR100": ("cifar-100-python/train", "cifar-100-python/test"),
    "USPS": ("usps.bz2", "usps.t.bz2"),
}


class TorchvisionSet(Source):
    """The images in ``image``, the integer of each class in ``label``.

    torchvision compares CIFAR's files with its own checksums before it unpickles them.
    """

    summary: ClassVar[str] = "a copy of MNIST, FashionMNIST, KMNIST, CIFAR10, CIFAR100 or USPS made by torchvision"
    default_label: ClassVar[str | None] = "label"

    kind: Literal["torchvision"] = "torchvision"
    name: Literal["MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100", "USPS"] = Field(
        description="The class of torchvision.datasets."
    )
    root: Path = Field(description="The folder that torchvision keeps the copy in; nothing is downloaded.")
    train: bool = Field(True, description="True: its training part; false: its test part.")

    def files(self) -> list[Path]:
        """The files of the part that is read.

        Raises:
            InputError: there is no copy.
        """
        found = (
            sorted(self.root.glob(FILES[self.name][0 if self.train else 1]))
            if exists(self.root) and self.root.is_dir()
            else []
        )
        if not found:
            raise self._not_there()
        readable_folder(self.root, "source.root")
        return found

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The images as PNG with their classes.

        Raises:
            InputError: torchvision is not installed, or the copy is not there or damaged.
        """
        self.files()
        try:
            from torchvision import datasets
        except ImportError:
            raise InputError("the source torchvision needs torchvision; install it, or use the source idx.") from None
        try:
            dataset = getattr(datasets, self.name)(root=self.root, train=self.train, download=False)
        except RuntimeError:  # the only way in which torchvision says that files are missing or have another checksum
            raise self._not_there() from None
        except Exception as error:  # noqa: BLE001 - whatever reading a damaged copy ends in
            raise InputError(
                f"the copy of {self.name} in {shown(self.root)} is damaged ({cause(error)}); fetch it again."
            ) from None
        pixels = np.asarray(dataset.data, dtype=np.uint8)
        labels = np.asarray(dataset.targets, dtype=np.int64)
        if len(pixels) != len(labels):
            raise InputError(
                f"the copy of {self.name} in {shown(self.root)} holds {len(pixels):,} images "
                f"and {len(labels):,} labels; fetch it again."
            )
        return pixel_batches(pixels, pa.array(labels))

    def _not_there(self) -> InputError:
        """The refusal of a root without a whole copy."""
        root = shown(self.root)
        return InputError(
            f"{root} holds no whole copy of torchvision's {self.name} and nothing is downloaded here; "
            f"fetch it once with torchvision.datasets.{self.name}('{root}', train={self.train}, download=True)."
        )
