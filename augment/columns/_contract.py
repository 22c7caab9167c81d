"""What every kind of column promises: to know its columns, to learn from the training rows, to encode and to decode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from augment.columns._profile import Profile
from augment.columns._summary import ColumnSummary
from augment.columns._types import StoredType
from augment.schema import ColumnSchema

if TYPE_CHECKING:
    import torch

    from augment.report.drawings import Drawing
    from models._contract import Span

Values = npt.NDArray[Any]


class Reading(NamedTuple):
    """How published values become numbers for torch: ``encode`` gives ``dtype`` of shape ``(n, *shape)``.

    Values are divided by ``scale`` when they are drawn, unless it is null. Where they are positions in a list, that is
    ``categories``.
    """

    shape: tuple[int, ...]
    encode: Callable[[pa.Array], Values]
    dtype: type[np.generic] = np.float32
    scale: float | None = None
    categories: list[Any] | None = None


class ColumnKind(BaseModel, ABC):
    """What was learnt about one column, and the way of its values to numbers and back.

    A subclass in a module of this package whose name does not start with an underscore is found by itself. It sets
    ``kind`` as a ``Literal`` with a default, and ``order``, its place among the kinds that a column is offered to: the
    first that recognises a column takes it. An instance is the fitted state, saved as JSON in the codec.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cache_type: ClassVar[type[np.generic]] = np.float32  # of what `encode` gives, which is cached on the disk
    fills_tensor: ClassVar[bool] = False  # such a column cannot stand beside others
    draws: ClassVar[bool] = False  # a value's place is drawn inside of its plateau
    may_label: ClassVar[bool] = False  # whether a label may be declared to be of this kind
    order: ClassVar[int]
    types: ClassVar[tuple[StoredType, ...]] = ()  # those that exist because of this kind

    kind: str
    name: str

    @classmethod
    @abstractmethod
    def recognise(cls, summary: ColumnSummary) -> str | None:
        """Why the column is of this kind, for a person to read, or null where it is not."""

    @classmethod
    @abstractmethod
    def storage(cls, summary: ColumnSummary) -> tuple[str, int | None]:
        """The name of the type in which a column of this kind is stored, and the decimals with which it is written.

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

    @classmethod
    def profile(cls) -> Profile:
        """How validation sees the values; by default it only asks whether they may be missing."""
        return Profile()

    @classmethod
    def drawing(cls) -> Drawing | None:
        """What a column looks like in a report; null: it is not shown."""
        return None

    @classmethod
    def reading(cls, _column: ColumnSchema, _arrays: Callable[[], Iterator[pa.Array]], /) -> Reading:
        """How torch gets the values; ``arrays()`` gives all of them anew. By default one number, NaN where missing."""
        return Reading((), as_numbers)


def as_numbers(array: pa.Array) -> Values:
    """Values that have a number as float64, NaN where they are missing."""
    values: Values = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values
