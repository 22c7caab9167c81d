"""PNG files of many images of one size at once, in one plain form: 8 bits, unfiltered, one chunk of data.

The plain form has no choices left but the compression, and NumPy reads and writes a whole batch of it, several times
as fast as a general decoder takes image by image. Files of any other form are left to :mod:`augment._images`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from augment._images import Pixels, decode_image

COMPRESS_LEVEL = 1  # of small images, higher levels save one byte in twenty and take half as long again
SIGNATURE = b"\x89PNG\r\n\x1a\n"
DATA_START = 41  # signature 8, header chunk 25, length and name of the data chunk 8
DATA_END = -16  # checksum of the data 4, end chunk 12
GREY, RGB = 0, 2  # the colour types of the PNG standard


def encode_pngs(pixels: Pixels) -> list[bytes]:
    """One plain PNG for each of ``pixels``, uint8 of shape (N, H, W) for grey or (N, H, W, 3) for RGB."""
    if not len(pixels):
        return []
    num_images, height, width = pixels.shape[:3]
    rows = np.zeros((num_images, height, 1 + width * (3 if pixels.ndim == 4 else 1)), np.uint8)  # filter 0, then pixels
    rows[:, :, 1:] = pixels.reshape(num_images, height, -1)
    colour = RGB if pixels.ndim == 4 else GREY
    head = SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    tail = _chunk(b"IEND", b"")
    return [head + _chunk(b"IDAT", zlib.compress(image, COMPRESS_LEVEL)) + tail for image in rows]


def decode_pngs(files: Sequence[bytes], where: str) -> Pixels:
    """The pixels of images of one size and mode, uint8 of shape (N, H, W) or (N, H, W, 3).

    Raises:
        InputError: a file is broken; names ``where``.
        ValueError: the images differ in size or mode.
    """
    shape = plain_shape(files[0]) if files else None
    plain = _decode_plain(files, shape) if shape else None
    if plain is not None:
        return plain
    return np.stack([decode_image(data, where) for data in files]) if files else np.zeros((0, 1, 1), np.uint8)


def plain_shape(data: bytes) -> tuple[int, ...] | None:
    """The shape (H, W) or (H, W, 3) that a file of the plain form claims; null for any other file."""
    if len(data) < DATA_START - DATA_END or data[:8] != SIGNATURE or data[12:16] != b"IHDR" or data[37:41] != b"IDAT":
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    (length,) = struct.unpack(">I", data[33:37])
    if depth != 8 or interlaced or colour not in (GREY, RGB) or len(data) != DATA_START - DATA_END + length:
        return None
    return (height, width, 3) if colour == RGB else (height, width)


def is_plain(data: bytes) -> bool:
    """Whether ``data`` is a whole file of the plain form, which :func:`encode_pngs` could have written."""
    shape = plain_shape(data)
    return shape is not None and _decode_plain([data], shape) is not None


def _decode_plain(files: Sequence[bytes], shape: tuple[int, ...]) -> Pixels | None:
    """The pixels, or null where a file is not of the plain form or not of this shape."""
    row_bytes = 1 + shape[1] * (3 if len(shape) == 3 else 1)
    size = shape[0] * row_bytes
    if size > 64 * 1024**2 or any(plain_shape(data) != shape for data in files):
        return None
    try:
        # One byte more than the size would show a stream that is too long, without expanding all of it.
        streams = [zlib.decompressobj().decompress(data[DATA_START:DATA_END], size + 1) for data in files]
    except zlib.error:
        return None
    if any(len(stream) != size for stream in streams):
        return None
    rows: npt.NDArray[np.uint8] = np.frombuffer(b"".join(streams), np.uint8).reshape(len(files), shape[0], row_bytes)
    return None if rows[:, :, 0].any() else rows[:, :, 1:].reshape(len(files), *shape)


def _chunk(name: bytes, data: bytes) -> bytes:
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
