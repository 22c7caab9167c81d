"""How validation sees a column of images: as measures of the grey picture."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from augment._images import decode_image
from augment._png import decode_pngs
from augment.columns._profile import Inspection, Measures, Profile, Traits, missing_fault, missing_rows
from augment.errors import InputError

IMAGES_AT_ONCE = 1_000  # what is decoded at a time
FAINT = 25  # grey levels; pixels this far from the border's mean belong to the foreground


class Images(Profile):
    """Encoded images: ten measures of the grey picture, NaN where a picture cannot be read."""

    values_may_repeat: ClassVar[bool] = False

    def resolutions(self, values: pa.Array, decimals: int | None) -> dict[str, float]:
        """Those of :func:`image_resolutions` for the first image that can be read; ingest lets in no other size."""
        for encoded in _bytes(values):
            if encoded and _can_be_read(encoded):
                height, width = decode_image(encoded, "of a real row").shape[:2]
                return image_resolutions(height, width)
        return {}

    def learn(self, chunks: Iterable[pa.Array]) -> Traits:
        """Whether images are missing, and the headers (width, height, bit depth, colour type) that occur."""
        nullable = False
        headers: set[str] = set()
        for chunk in chunks:
            nullable |= bool(chunk.null_count)
            headers.update(_header(encoded) for encoded in _bytes(chunk) if encoded)
        return {"nullable": nullable, "headers": sorted(headers)}

    def inspect(self, values: pa.Array, traits: Traits | None) -> Inspection:
        """The measures of :func:`image_measures`; a fault where an image is broken or of another size or mode."""
        encoded = _bytes(values)
        missing = missing_rows(values)
        rows = len(encoded)
        measures = {name: np.full(rows, np.nan) for name in IMAGE_MEASURES}
        broken, other = np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool)
        wanted = None if traits is None else set(traits["headers"])
        for start in range(0, rows, IMAGES_AT_ONCE):
            alike: dict[str, list[int]] = {}
            for row in range(start, min(start + IMAGES_AT_ONCE, rows)):
                data = encoded[row]
                if data is not None:
                    alike.setdefault(_header(data), []).append(row)
                    other[row] = wanted is not None and _header(data) not in wanted
            for places in alike.values():
                readable, pictures = _decoded([encoded[row] or b"" for row in places])
                broken[[row for row, fine in zip(places, readable, strict=True) if not fine]] = True
                if pictures is not None:
                    kept = [row for row, fine in zip(places, readable, strict=True) if fine]
                    for name, found in image_measures(pictures).items():
                        measures[name][kept] = found
        faults = {"broken_image": broken, "other_image": other, **missing_fault(missing, traits)}
        return Inspection(dict(measures), faults)


IMAGE_MEASURES = (
    "mean",
    "std",
    "p05",
    "p95",
    "fg_fraction",
    "laplacian_var",
    "entropy",
    "border_mean",
    "centroid_dx",
    "centroid_dy",
    "chroma",
)


def image_measures(pictures: NDArray[np.uint8]) -> Measures:
    """Measures of images of shape ``(B, H, W)`` or ``(B, H, W, C)``, each of shape ``(B,)``, by name.

    In grey levels 0 to 255: mean, std, the 5 % and 95 % quantiles, the mean of the border, and chroma (the mean
    distance between the largest and smallest channel). ``fg_fraction`` is the share of pixels further than 25 levels
    from the border's mean, ``laplacian_var`` the variance of the Laplacian (sharpness), ``entropy`` that of the grey
    levels in bits, ``centroid_dx`` and ``_dy`` the offset of the centre of brightness in shares of width and height.
    """
    grey = pictures.astype(np.float32)
    chroma = np.zeros(len(grey))
    if grey.ndim == 4:
        chroma = np.asarray((grey.max(axis=3) - grey.min(axis=3)).mean(axis=(1, 2)), dtype=np.float64)
        grey = grey.mean(axis=3)
    count, height, width = grey.shape
    flat = grey.reshape(count, -1)
    border = np.concatenate([grey[:, 0], grey[:, -1], grey[:, 1:-1, 0], grey[:, 1:-1, -1]], axis=1).mean(axis=1)
    p05, p95, entropy = _of_histograms(flat)
    brightness = flat.sum(axis=1, dtype=np.float64)
    brightness = np.where(brightness > 0, brightness, 1.0)
    across = grey.sum(axis=1, dtype=np.float64) @ np.linspace(-0.5, 0.5, width)
    down = grey.sum(axis=2, dtype=np.float64) @ np.linspace(-0.5, 0.5, height)
    return {
        "mean": flat.mean(axis=1, dtype=np.float64),
        "std": flat.std(axis=1, dtype=np.float64),
        "p05": p05,
        "p95": p95,
        "fg_fraction": (np.abs(flat - border[:, None]) > FAINT).mean(axis=1),
        "laplacian_var": _laplacian(grey).reshape(count, -1).var(axis=1, dtype=np.float64),
        "entropy": entropy,
        "border_mean": border.astype(np.float64),
        "centroid_dx": across / brightness,
        "centroid_dy": down / brightness,
        "chroma": chroma,
    }


def image_resolutions(height: int, width: int) -> dict[str, float]:
    """The step of each measure of an image's grid, by name; sharpness has none.

    One grey level for what is counted in grey levels, the share of one pixel for the foreground, one pixel's way for
    the centre, and for the entropy what one pixel adds to it when it alone leaves the level of all others.
    """
    pixels = height * width
    levels = dict.fromkeys(("mean", "std", "p05", "p95", "border_mean", "chroma"), 1.0)
    return {
        **levels,
        "fg_fraction": 1 / pixels,
        "entropy": _entropy_of_one(pixels),
        "centroid_dx": 1 / max(1, width - 1),
        "centroid_dy": 1 / max(1, height - 1),
    }


def _entropy_of_one(pixels: int) -> float:
    """The entropy in bits of an image of two grey levels, one of which a single pixel has."""
    if pixels == 1:
        return 0.0
    share = 1 / pixels
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)


def _laplacian(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """The five-point Laplacian of images ``(B, H, W)``, edges repeated outwards, so that any size has one."""
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    found: NDArray[np.float32] = around - 4 * grey
    return found


def _of_histograms(flat: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The 5 % and 95 % quantiles and the entropy in bits of the grey levels of ``(B, pixels)``."""
    count, pixels = flat.shape
    levels = np.rint(flat).astype(np.int64) + 256 * np.arange(count)[:, None]
    histograms = np.bincount(levels.reshape(-1), minlength=256 * count).reshape(count, 256)
    below = histograms.cumsum(axis=1)
    p05 = (below < 0.05 * pixels).sum(axis=1).astype(np.float64)
    p95 = (below < 0.95 * pixels).sum(axis=1).astype(np.float64)
    shares = histograms / pixels
    entropy = -(shares * np.log2(np.where(shares > 0, shares, 1.0))).sum(axis=1)
    return p05, p95, entropy


def _bytes(images: pa.Array) -> list[bytes | None]:
    encoded: list[bytes | None] = pc.struct_field(images, "bytes").to_pylist()
    return encoded


def _header(encoded: bytes) -> str:
    """The width, height, bit depth and colour type that a PNG file declares, as hexadecimal digits."""
    return encoded[16:26].hex()


def _decoded(files: list[bytes]) -> tuple[list[bool], NDArray[np.uint8] | None]:
    """Which files with one header can be read, and the pixels of these, ``(B, H, W)`` or ``(B, H, W, C)``."""
    try:
        return [True] * len(files), decode_pngs(files, "of a synthetic row")
    except (InputError, ValueError):
        readable = [_can_be_read(data) for data in files]
        kept = [data for data, fine in zip(files, readable, strict=True) if fine]
        return readable, decode_pngs(kept, "of a synthetic row") if kept else None


def _can_be_read(data: bytes) -> bool:
    try:
        decode_image(data, "of a synthetic row")
    except InputError:
        return False
    return True
