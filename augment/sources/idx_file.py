"""Images and labels in two IDX files, the format of MNIST, plain or compressed with gzip."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, ClassVar, Literal, cast

import numpy as np
import pyarrow as pa
from pydantic import Field

from augment._images import MAX_PIXELS
from augment.errors import InputError
from augment.sources._contract import Source
from augment.sources._files import cannot_read, cause, readable_file, shown
from augment.sources._images import pixel_batch, rows_per_batch

UNSIGNED_BYTES = 0x08  # the only element type in which images and labels are kept


class IdxFile(Source):
    """The images in ``image``; with a file of labels, the integer of each in ``label``."""

    summary: ClassVar[str] = "images and labels in IDX files such as MNIST's, plain or .gz"
    default_label: ClassVar[str | None] = "label"

    kind: Literal["idx"] = "idx"
    images: Path = Field(description="The file of images: unsigned bytes of shape (N, H, W), or (N, H, W, 3) for RGB.")
    labels: Path | None = Field(None, description="The file of labels: unsigned bytes of shape (N,); null: no labels.")

    @property
    def label_column(self) -> str | None:
        """None where there is no file of labels."""
        return super().label_column if self.labels is not None or self.label is not None else None

    def files(self) -> list[Path]:
        """The images, then the labels."""
        found = [readable_file(self.images, "source.images")]
        return found + ([readable_file(self.labels, "source.labels")] if self.labels is not None else [])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The images as PNG with their labels."""
        self.files()
        with _opened(self.images) as file:
            shape = _shape(file, self.images, "images")
            labels = None if self.labels is None else self._read_labels(self.labels, shape[0])
            form = tuple(shape[1:3])
            step = rows_per_batch(math.prod(shape[1:]))
            for start in range(0, shape[0], step):
                count = min(step, shape[0] - start)
                data = _exactly(file, count * math.prod(shape[1:]), self.images)
                pixels = np.frombuffer(data, np.uint8).reshape(count, *form, *(3,) * (shape[3:] == [3]))
                yield pixel_batch(pixels, None if labels is None else labels.slice(start, count))
            _refuse_more(file, self.images)

    def _read_labels(self, path: Path, images: int) -> pa.Array:
        """The labels as int64, one for each of ``images``."""
        with _opened(path) as file:
            (count,) = _shape(file, path, "labels")
            if count != images:
                raise InputError(
                    f"{shown(self.images)} holds {images:,} images and {shown(path)} {count:,} labels; "
                    "give the two files that belong together."
                )
            data = _exactly(file, count, path)
            _refuse_more(file, path)
        return pa.array(np.frombuffer(data, np.uint8).astype(np.int64))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's content, unpacked where its first bytes say gzip.

    Raises:
        InputError: the file cannot be read, or what is packed in it is damaged.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with path.open("rb") as file:
            yield cast(IO[bytes], gzip.GzipFile(fileobj=file)) if packed else file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{shown(path)} is damaged ({cause(error)}); fetch it again.") from None
    except OSError as error:
        raise cannot_read(path, error) from None


def _shape(file: IO[bytes], path: Path, what: Literal["images", "labels"]) -> list[int]:
    """The shape that the header claims, checked before anything is read by it.

    Raises:
        InputError: the file is no IDX file of ``what``, or claims absurd sizes.
    """
    head = file.read(4)
    dimensions = head[3] if len(head) == 4 and head[:3] == bytes([0, 0, UNSIGNED_BYTES]) else 0
    if dimensions not in ((3, 4) if what == "images" else (1,)):
        raise InputError(f"{shown(path)} is no IDX file of {what} in unsigned bytes; check source.{what}.")
    shape = np.frombuffer(_exactly(file, 4 * dimensions, path), ">u4").tolist()
    if 0 in shape or math.prod(shape[1:3]) > MAX_PIXELS or shape[3:] not in ([], [1], [3]):
        raise InputError(
            f"{shown(path)} claims to hold {' x '.join(map(str, shape))} values; give a file with images of at most "
            f"{MAX_PIXELS // 1024**2} megapixels in one or three channels."
        )
    return [int(length) for length in shape]


def _exactly(file: IO[bytes], size: int, path: Path) -> bytes:
    """The next ``size`` bytes, read in pieces so that a header that lies costs no memory."""
    pieces: list[bytes] = []
    left = size
    while left and (piece := file.read(min(left, 1 << 24))):
        pieces.append(piece)
        left -= len(piece)
    if left:
        raise InputError(f"{shown(path)} ends before what its header promises; fetch it again.")
    return b"".join(pieces)


def _refuse_more(file: IO[bytes], path: Path) -> None:
    """Refuse a file that goes on where it should end."""
    if file.read(1):
        raise InputError(f"{shown(path)} holds more than its header promises; fetch it again.")
