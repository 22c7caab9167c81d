"""Columns of images of one size and mode, stored as PNG."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from augment._images import decode_image
from augment._png import decode_pngs, encode_pngs, is_plain, plain_shape
from augment.columns import _lanes
from augment.columns._contract import ColumnKind, Reading, Values
from augment.columns._pictures import Images
from augment.columns._profile import Profile
from augment.columns._summary import ColumnSummary
from augment.columns._types import StoredType
from augment.errors import InputError
from augment.schema import IMAGE_TYPE, ColumnSchema

if TYPE_CHECKING:
    import torch

    from augment.report.drawings import Drawing
    from models._contract import Span

FEW_LEVELS = 32  # with more grey levels than this all 256 are told apart


def _holds(found: pa.DataType) -> bool:
    """Whether values of an Arrow type are structs that hold the bytes of image files."""
    if found == IMAGE_TYPE:
        return True
    if not pa.types.is_struct(found) or found.num_fields != 2 or found.get_field_index("bytes") < 0:
        return False
    data = found.field("bytes").type
    return bool(pa.types.is_binary(data) or pa.types.is_large_binary(data))


def _note(summary: ColumnSummary, array: pa.Array, first_row: int) -> None:
    """Take the shape of the images, which must all have the same.

    Raises:
        InputError: an image is broken or of another size than the first.
    """
    for row, data in enumerate(array.field("bytes").to_pylist(), first_row + 1):
        if data is None:
            continue
        shape = plain_shape(data) or decode_image(data, f"in row {row} of {summary.where}").shape
        first = summary.facts.setdefault("shape", shape)
        if shape != first:
            raise InputError(
                f"the image in row {row} of {summary.where} has the shape {shape} and the first {first}; "
                "bring all images to one size and mode."
            )


def plain_images(array: pa.Array, where: str) -> pa.Array:
    """Image structs whose bytes are all PNG of one plain form, so that the encoding tells nothing of an image's origin.

    Raises:
        InputError: an image is broken.
    """
    files = [_plain(data, where) for data in array.field("bytes").to_pylist()]
    paths = array.field("path") if array.type.get_field_index("path") >= 0 else pa.nulls(len(array), pa.string())
    columns = [pa.array(files, pa.binary()), pc.cast(paths, pa.string())]
    return pa.StructArray.from_arrays(columns, fields=list(IMAGE_TYPE), mask=pc.is_null(array))


def _plain(data: bytes | None, where: str) -> bytes | None:
    if data is None or is_plain(data):
        return data
    return encode_pngs(decode_image(data, f"in {where}")[None])[0]


def _of_pixels(array: pa.Array) -> _lanes.HashPair:
    """The hash of each image's pixels; the same pixels in another size are another image."""
    files = pc.struct_field(array, "bytes").to_pylist()
    there = [file for file in files if file is not None]
    lanes = np.zeros((len(files), 2), np.uint64)
    if there:
        pixels = decode_pngs(there, "that is to be hashed")
        size = f"{pixels.shape[1:]}".encode()
        lanes[[file is not None for file in files]] = _lanes.of_bytes(size + image.tobytes() for image in pixels)
    return lanes


IMAGE = StoredType(
    name="image",
    arrow=IMAGE_TYPE,
    family="image",
    holds=_holds,
    lanes=_of_pixels,
    croissant="sc:ImageObject",
    note=_note,
    keep=plain_images,
    feature={"_type": "Image"},
    extract={"transform": {"jsonPath": "bytes"}},
)


class ImageColumn(ColumnKind):
    """A grid of grey levels; a pixel is the index of its level, from 0 for the darkest."""

    cache_type: ClassVar[type[np.generic]] = np.uint8
    fills_tensor: ClassVar[bool] = True
    order: ClassVar[int] = 0
    types: ClassVar[tuple[StoredType, ...]] = (IMAGE,)

    kind: Literal["image"] = "image"
    size: tuple[int, int, int]  # (C, H, W)
    greys: tuple[int, ...]  # the value 0 to 255 of each level, rising

    @classmethod
    def recognise(cls, summary: ColumnSummary) -> str | None:
        """Structs of bytes and path."""
        if summary.family != "image" or not summary.present:
            return None
        height, width, *colour = summary.facts["shape"]
        return f"it holds {'RGB' if colour else 'grey'} images of {width} x {height}"

    @classmethod
    def storage(cls, summary: ColumnSummary) -> tuple[str, int | None]:
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

    @classmethod
    def profile(cls) -> Profile:
        """Ten measures of the grey picture."""
        return Images()

    @classmethod
    def drawing(cls) -> Drawing:
        """Pictures side by side."""
        from augment.report.drawings import PICTURES

        return PICTURES

    @classmethod
    def reading(cls, column: ColumnSchema, arrays: Callable[[], Iterator[pa.Array]], /) -> Reading:
        """The pixels, uint8 of shape (n, C, H, W)."""

        def encode(array: pa.Array) -> Values:
            pixels = decode_pngs(array.field("bytes").to_pylist(), f"in column '{column.name}'")
            return pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, -1, 1)

        first = next(array for array in arrays() if len(array)).slice(0, 1)
        return Reading(encode(first).shape[1:], encode, np.uint8, 255.0)
