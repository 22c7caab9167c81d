"""What all sources of images share: pixels or encoded files to batches of normalised PNG of one size and mode."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pyarrow as pa

from augment._images import Pixels, decode_image
from augment._png import encode_pngs
from augment.errors import InputError
from augment.schema import IMAGE_TYPE

BATCH_ROWS = 2_000
BATCH_BYTES = 64 * 1024**2  # of pixels, so that photographs come in smaller batches than digits
CHUNK = 64  # images that a thread takes at once: a thread per digit would cost more than the digit
THREADS = min(8, os.cpu_count() or 1)

Encoded = tuple[str, Callable[[], bytes | None]]  # an image's name for messages, and what gives its bytes


class OneForm:
    """Refuses an image whose size or mode differs from that of the first image it was shown."""

    def __init__(self) -> None:
        self._first: tuple[str, tuple[int, ...]] | None = None

    def check(self, shape: tuple[int, ...], where: str) -> None:
        """Remember the first image's form, compare every later one with it.

        Raises:
            InputError: the form differs; names both images.
        """
        if self._first is None:
            self._first = where, shape
        elif shape != self._first[1]:
            first, wanted = self._first
            raise InputError(
                f"the image {where} is {_form(shape)} and {first} is {_form(wanted)}; "
                "bring all images to one size and mode."
            )

    @property
    def bytes_per_image(self) -> int:
        """Bytes of the pixels of one image; 0 before the first."""
        size = 0 if self._first is None else 1
        for length in self._first[1] if self._first else ():
            size *= length
        return size


def _form(shape: tuple[int, ...]) -> str:
    """An image's form as people write it, such as ``28 x 28 grey``."""
    return f"{shape[1]} x {shape[0]} {'grey' if len(shape) == 2 else 'RGB'}"


def normalised(items: Iterable[Encoded], form: OneForm) -> list[bytes | None]:
    """The normalised PNG of each image in order, null where it has no bytes at all (``None``).

    Raises:
        InputError: an image is broken, too large, or of another form than the first.
    """
    encoded: list[bytes | None] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as threads:
        warnings.simplefilter("ignore")  # Pillow warns of what is refused here anyway, or of tags that are dropped
        for named in threads.map(_normalise_chunk, _chunks(items)):
            for where, shape, png in named:
                if shape is not None:
                    form.check(shape, where)
                encoded.append(png)
    return encoded


def _chunks(items: Iterable[Encoded]) -> Iterator[list[Encoded]]:
    """``items`` in lists of :data:`CHUNK`."""
    left = iter(items)
    while chunk := list(islice(left, CHUNK)):
        yield chunk


def _normalise_chunk(chunk: list[Encoded]) -> list[tuple[str, tuple[int, ...] | None, bytes | None]]:
    """Name, shape of the pixels and normalised PNG of each image."""
    done: list[tuple[str, tuple[int, ...] | None, bytes | None]] = []
    for where, read in chunk:
        data = read()
        pixels = None if data is None else decode_image(data, where)
        done.append((where, None, None) if pixels is None else (where, pixels.shape, encode_pngs(pixels[None])[0]))
    return done


def image_array(encoded: Sequence[bytes | None]) -> pa.StructArray:
    """An Arrow array of the Hugging Face image struct, null where there are no bytes.

    ``path`` stays empty: a file's name often holds its class, and would give it away to whoever learns from the rows.
    """
    data = pa.array(encoded, pa.binary())
    return pa.StructArray.from_arrays(
        [data, pa.nulls(len(encoded), pa.string())], fields=list(IMAGE_TYPE), mask=data.is_null()
    )


def pixel_batch(pixels: Pixels, labels: pa.Array | None) -> pa.RecordBatch:
    """One batch of ``image`` and, where there are labels, ``label``, from pixels (N, H, W) or (N, H, W, 3)."""
    return labelled_batch(image_array(encode_pngs(pixels)), labels)


def pixel_batches(pixels: Pixels, labels: pa.Array | None) -> Iterator[pa.RecordBatch]:
    """The batches of many images that are in memory already."""
    step = rows_per_batch(pixels[0].nbytes) if len(pixels) else 1
    for start in range(0, len(pixels), step):
        yield pixel_batch(pixels[start : start + step], None if labels is None else labels.slice(start, step))


def labelled_batch(images: pa.StructArray, labels: pa.Array | None) -> pa.RecordBatch:
    """One batch of ``image`` and, where there are labels, ``label``."""
    if labels is None:
        return pa.RecordBatch.from_arrays([images], names=["image"])
    return pa.RecordBatch.from_arrays([images, labels], names=["image", "label"])


def rows_per_batch(bytes_per_image: int) -> int:
    """Images that a batch holds, given the bytes of one image's pixels (0: not known yet)."""
    return max(1, min(BATCH_ROWS if bytes_per_image else CHUNK, BATCH_BYTES // max(1, bytes_per_image)))
