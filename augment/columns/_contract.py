"""What every kind of column promises: to know its columns, to learn from the training rows, to encode and to decode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from augment.columns._summary import ColumnSummary, StorageType
from augment.schema import ColumnSchema

if TYPE_CHECKING:
    import torch

    from models._contract import Span

Values = npt.NDArray[Any]


class ColumnKind(BaseModel, ABC):
    """What was learnt about one column, and the way of its values to numbers and back.

    A subclass in a module of this package whose name does not start with an underscore is found by itself; its name
    stands in :data:`augment.schema.KindName`, in the order in which columns are offered to the kinds. It sets ``kind``
    as a ``Literal`` with a default. An instance is the fitted state, saved as JSON in the codec.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cache_type: ClassVar[type[np.generic]] = np.float32  # of what `encode` gives, which is cached on the disk
    fills_tensor: ClassVar[bool] = False  # such a column cannot stand beside others

    kind: str
    name: str

    @classmethod
    @abstractmethod
    def recognise(cls, summary: ColumnSummary) -> str | None:
        """Why the column is of this kind, for a person to read, or null where it is not."""

    @classmethod
    @abstractmethod
    def storage(cls, summary: ColumnSummary) -> tuple[StorageType, int | None]:
        """The type in which a column of this kind is stored, and the decimals with which it is written.

        Raises:
            InputError: the column was declared to be of this kind and holds what cannot be.
        """

    @classmethod
    @abstractmethod
    def fit(cls, column: ColumnSchema, arrays: Iterable[pa.Array], generator: np.random.Generator, /) -> Self:
        """What is learnt from the column's training rows, read once.

        Raises:
            InputError: the rows cannot be learnt from.
        """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one encoded value, ``(width,)`` or ``(C, H, W)``."""

    @abstractmethod
    def spans(self) -> tuple[Span, ...]:
        """What the numbers of one encoded value mean, in order."""

    @abstractmethod
    def encode(self, array: pa.Array, generator: np.random.Generator, /) -> Values:
        """Values of the stored type as numbers of ``cache_type``, shape ``(n, *shape)``."""

    def tensor(self, cached: torch.Tensor) -> torch.Tensor:
        """What :meth:`encode` gave as the float32 values that the spans describe."""
        return cached.float()

    @abstractmethod
    def decode(self, values: Values, column: ColumnSchema, /) -> pa.Array:
        """Values ``(n, *shape)`` as the spans describe them, as an array of the stored type."""
