"""Any PNG or JPEG file as 8-bit pixels, with one documented conversion for everything that is neither grey nor RGB.

Whatever goes in comes out as 8-bit grey ``(H, W)`` or RGB ``(H, W, 3)``:

=============================  ============================================================
1-bit                          grey, 0 and 255
grey with 16 bits              grey, the high byte of each level
palette                        RGB
CMYK (JPEG)                    RGB
alpha, or a transparent colour drawn over white, then grey or RGB
EXIF rotation (JPEG, PNG)      the pixels are turned, the tag is dropped
=============================  ============================================================

Colour profiles, comments and every other tag are dropped. The PNG files of datasets are written by
:mod:`augment._png`, where equal pixels give equal bytes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from augment.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 16 * 1024**2  # decoded before anything else could refuse them: an image may claim far more than it holds
FORMATS = ("PNG", "JPEG")  # told by their first bytes, never by the file's name; other decoders are never started

Pixels = npt.NDArray[np.uint8]


def encode_png(pixels: Pixels) -> bytes:
    """A small PNG file of ``pixels``, uint8 of shape (H, W) or (H, W, 3), for pages that people look at."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def decode_image(data: bytes, where: str) -> Pixels:
    """The pixels of a PNG or JPEG file, uint8 of shape (H, W) or (H, W, 3), converted as the module says.

    Pillow may warn of odd tags; a caller that reads foreign files silences that, since filters are not per thread.

    Raises:
        InputError: ``data`` is no whole PNG or JPEG image, or has more than :data:`MAX_PIXELS`; names ``where``.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not data:
        raise InputError(f"the image {where} has no bytes; replace or remove it.")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise _too_large(image.width, image.height, where)
        image.load()  # verify() would pass a file that is cut in half
        if image.getexif():
            image = ImageOps.exif_transpose(image)
        return np.asarray(_grey_or_rgb(image), dtype=np.uint8)
    except Image.DecompressionBombError:
        raise _too_large(None, None, where) from None
    except UnidentifiedImageError:
        raise InputError(f"the image {where} is neither a PNG nor a JPEG file; convert or remove it.") from None
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise whatever a broken file leads them to
        cause = str(error).rstrip(".") or type(error).__name__
        raise InputError(f"the image {where} is broken or cut short ({cause}); replace or remove it.") from None


def _too_large(width: int | None, height: int | None, where: str) -> InputError:
    """The refusal of an image that claims too many pixels."""
    size = f"claims {width} x {height} pixels" if width else "claims far too many pixels"
    limit = MAX_PIXELS // 1024**2
    return InputError(
        f"the image {where} {size}, more than the {limit} megapixels allowed; scale it down or remove it."
    )


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    """``image`` in mode L or RGB."""
    mode: Any = image.mode
    if mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if mode.startswith("I"):  # 16 bits, in I;16 or in 32-bit integers
        return _from_levels(np.asarray(image).astype(np.int64))
    grey = mode in ("1", "L", "LA", "La")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _over_white(image.convert("LA" if grey else "RGBA"), "L" if grey else "RGB")
    return image.convert("L" if grey else "RGB")


def _from_levels(levels: npt.NDArray[np.int64]) -> Image.Image:
    """The grey image of 16-bit levels."""
    from PIL import Image

    return Image.fromarray((levels.clip(0, 65535) >> 8).astype(np.uint8))


def _over_white(image: Image.Image, mode: str) -> Image.Image:
    """``image``, which has an alpha channel, drawn over white."""
    from PIL import Image

    white = Image.new(mode, image.size, "white")
    white.paste(image.convert(mode), mask=image.getchannel("A"))
    return white
