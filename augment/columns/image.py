"""Columns of images of one size and mode, stored as PNG."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from augment.columns._contract import ColumnKind, Values
from augment.columns._summary import ColumnSummary, StorageType
from augment.errors import InputError
from augment.png import decode_pngs, encode_pngs
from augment.schema import IMAGE_TYPE, ColumnSchema

if TYPE_CHECKING:
    import torch

    from models._contract import Span

FEW_LEVELS = 32  # with more grey levels than this all 256 are told apart


class ImageColumn(ColumnKind):
    """A grid of grey levels; a pixel is the index of its level, from 0 for the darkest."""

    cache_type: ClassVar[type[np.generic]] = np.uint8
    fills_tensor: ClassVar[bool] = True

    kind: Literal["image"] = "image"
    size: tuple[int, int, int]  # (C, H, W)
    greys: tuple[int, ...]  # the value 0 to 255 of each level, rising

    @classmethod
    def recognise(cls, summary: ColumnSummary) -> str | None:
        """Structs of bytes and path."""
        if summary.family != "image" or summary.image_shape is None:
            return None
        height, width, *colour = summary.image_shape
        return f"it holds {'RGB' if colour else 'grey'} images of {width} x {height}"

    @classmethod
    def storage(cls, summary: ColumnSummary) -> tuple[StorageType, int | None]:
        """PNG in the Hugging Face image struct."""
        if summary.family != "image":
            raise InputError(
                f"the column '{summary.name}' of {summary.where} is declared image and holds none; "
                "give images as a struct of bytes and path, or leave its kind out."
            )
        if summary.missing:
            raise InputError(
                f"the column '{summary.name}' of {summary.where} lacks an image in {summary.missing} of "
                f"{summary.rows} rows; remove those rows."
            )
        return "image", None

    @classmethod
    def fit(cls, column: ColumnSchema, arrays: Iterable[pa.Array], _generator: np.random.Generator) -> ImageColumn:
        """The size of the images, and their grey levels where these are few."""
        seen = np.zeros(256, np.bool_)
        shape: tuple[int, ...] = ()
        for array in arrays:
            if len(array):
                pixels = decode_pngs(array.field("bytes").to_pylist(), f"in the column '{column.name}'")
                shape = pixels.shape[1:]
                seen |= np.bincount(pixels.ravel(), minlength=256) > 0
        levels = np.flatnonzero(seen)
        greys = levels if 2 <= len(levels) <= FEW_LEVELS else np.arange(256)
        channels = 3 if len(shape) == 3 else 1
        return cls(name=column.name, size=(channels, shape[0], shape[1]), greys=tuple(greys.tolist()))

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return self.size

    def spans(self) -> tuple[Span, ...]:
        """One continuous span with levels."""
        from models._contract import Span

        channels, height, width = self.size
        return (Span("continuous", channels * height * width, len(self.greys)),)

    def encode(self, array: pa.Array, _generator: np.random.Generator) -> Values:
        """Indices of levels, uint8 of shape (n, C, H, W); a grey that no training row has takes the nearest level."""
        greys = np.array(self.greys)
        index = np.abs(np.arange(256)[:, None] - greys).argmin(axis=1).astype(np.uint8)
        if not len(array):
            return np.zeros((0, *self.size), np.uint8)
        pixels: npt.NDArray[np.uint8] = index[
            decode_pngs(array.field("bytes").to_pylist(), f"in the column '{self.name}'")
        ]
        if self.size[0] == 3:
            return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))  # (n, H, W, C) to (n, C, H, W)
        return pixels[:, None]

    def tensor(self, cached: torch.Tensor) -> torch.Tensor:
        """Levels evenly spaced in [-1, 1]."""
        return cached.float() * (2 / (len(self.greys) - 1)) - 1

    def decode(self, values: Values, _column: ColumnSchema) -> pa.Array:
        """PNG files of the nearest levels' greys."""
        top = len(self.greys) - 1
        index = np.rint((values.reshape(-1, *self.size) + 1) * (top / 2)).clip(0, top).astype(np.uint8)
        pixels: npt.NDArray[np.uint8] = np.array(self.greys, np.uint8)[index]
        pixels = pixels.transpose(0, 2, 3, 1) if self.size[0] == 3 else pixels[:, 0]
        files = pa.array(encode_pngs(np.ascontiguousarray(pixels)), pa.binary())
        return pa.StructArray.from_arrays([files, pa.nulls(len(files), pa.string())], fields=list(IMAGE_TYPE))
