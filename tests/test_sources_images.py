"""Images as people have them: odd modes, broken files, clutter, links."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from augment._images import MAX_PIXELS, decode_image
from augment._png import encode_pngs, is_plain
from augment.errors import InputError
from augment.sources import _images
from augment.sources.image_folder import ImageFolder

GREY = np.random.default_rng(0).integers(0, 256, (9, 6)).astype(np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (9, 6, 3)).astype(np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photos(folder: Path, **files: bytes) -> ImageFolder:
    """A folder of one class; ``cat_1=...`` is the file ``cat/1.png``."""
    for name, data in files.items():
        path = folder / f"{name.replace('_', '/', 1)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return ImageFolder(path=folder)


def table(source: ImageFolder) -> pa.Table:
    return pa.Table.from_batches(source.read())


def pixels(source: ImageFolder) -> list[Any]:
    return [decode_image(value["bytes"], "x").tolist() for value in table(source)["image"].to_pylist()]


def refusal(source: ImageFolder) -> str:
    with pytest.raises(InputError) as caught:
        table(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def claims(width: int, height: int) -> bytes:
    """A tiny PNG that claims to be large."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 50))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in [*chunks, (b"IEND", b"")]
    )


def over_white(level: int, alpha: int) -> int:
    return round((level * alpha + 255 * (255 - alpha)) / 255)


def test_equal_pixels_give_equal_plain_bytes(tmp_path: Path) -> None:
    image = Image.fromarray(GREY)
    files = {
        "a_1": saved(image, compress_level=0),
        "a_2": saved(image, compress_level=9, dpi=(72, 72)),
        "a_3": saved(image, optimize=True),
    }
    values = table(photos(tmp_path, **files))["image"].to_pylist()
    assert {value["bytes"] for value in values} == set(encode_pngs(GREY[None]))
    assert is_plain(values[0]["bytes"])
    assert [value["path"] for value in values] == [None] * 3


def test_one_bit_images_become_grey() -> None:
    found = decode_image(saved(Image.fromarray(GREY > 127)), "x")
    assert found.tolist() == np.where(GREY > 127, 255, 0).tolist()


def test_sixteen_bit_images_keep_the_high_byte() -> None:
    levels = GREY.astype(np.uint16) * 257
    assert decode_image(saved(Image.fromarray(levels)), "x").tolist() == GREY.tolist()


def test_palette_images_become_rgb() -> None:
    palette = Image.fromarray(RGB).quantize(16)
    assert palette.mode == "P"
    assert decode_image(saved(palette), "x").tolist() == np.asarray(palette.convert("RGB")).tolist()


def test_cmyk_images_become_rgb() -> None:
    data = saved(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=95)
    found = decode_image(data, "x")
    assert found.shape == (9, 6, 3)
    assert found.tolist() == np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).tolist()


def test_alpha_is_drawn_over_white() -> None:
    alpha = np.full_like(GREY, 64)
    alpha[0] = 0
    grey = decode_image(saved(_la(GREY, alpha)), "x")
    assert grey.shape == (9, 6)
    assert (grey[0] == 255).all()
    assert abs(int(grey[5, 3]) - over_white(int(GREY[5, 3]), 64)) <= 1
    colour = decode_image(saved(Image.fromarray(np.dstack([RGB, alpha]))), "x")
    assert colour.shape == (9, 6, 3)
    assert (colour[0] == 255).all()
    assert abs(int(colour[5, 3, 1]) - over_white(int(RGB[5, 3, 1]), 64)) <= 1


def _la(grey: np.ndarray, alpha: np.ndarray) -> Image.Image:
    return Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])


def test_a_transparent_colour_is_drawn_as_white() -> None:
    flat = np.array([[7, 9], [7, 200]], np.uint8)
    assert decode_image(saved(Image.fromarray(flat), transparency=7), "x").tolist() == [[255, 9], [255, 200]]
    palette = Image.fromarray(flat).convert("P")
    found = decode_image(saved(palette, transparency=7), "x")
    assert found.shape == (2, 2, 3)
    assert found[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_rotation_tags_turn_the_pixels(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    upright = decode_image(saved(Image.fromarray(GREY), kind), "x")
    assert decode_image(saved(Image.fromarray(GREY), kind, exif=exif), "x").tolist() == np.rot90(upright, -1).tolist()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_truncated_image_is_refused_by_name(tmp_path: Path, kind: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(2).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    data = saved(noise, kind)
    sentence = refusal(photos(tmp_path, cat_1=data, cat_2=data[: int(len(data) * share)]))
    assert "cat/2.png is broken or cut short" in sentence


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cat/1.png has no bytes"),
        (b"just some text", "cat/1.png is neither a PNG nor a JPEG file"),
        (b"\x89PNG\r\n\x1a\n", "cat/1.png is"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "neither a PNG nor a JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "neither a PNG nor a JPEG"),
        (saved(Image.fromarray(GREY), "GIF"), "neither a PNG nor a JPEG"),
        (saved(Image.fromarray(GREY), "TIFF"), "neither a PNG nor a JPEG"),
        (saved(Image.fromarray(GREY), "BMP"), "neither a PNG nor a JPEG"),
        (claims(4097, 4096), "claims 4097 x 4096 pixels, more than the 16 megapixels"),
        (claims(10_000, 10_000), "claims 10000 x 10000 pixels, more than the 16 megapixels"),
        (claims(20_000, 20_000), "claims far too many pixels, more than the 16 megapixels"),
    ],
    ids=["zero", "text", "stub", "eps", "svg", "gif", "tiff", "bmp", "17 Mpx", "100 Mpx", "400 Mpx"],
)
def test_what_is_no_image_is_refused_by_name(tmp_path: Path, data: bytes, message: str) -> None:
    assert message in refusal(photos(tmp_path, cat_1=data))


def test_the_largest_image_allowed_is_read() -> None:
    side = int(MAX_PIXELS**0.5)
    assert decode_image(saved(Image.new("L", (side, side)), compress_level=1), "x").shape == (side, side)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (GREY[:5], "cat/2.png is 6 x 5 grey and .*cat/1.png is 6 x 9 grey; bring all images to one size and mode"),
        (RGB, "cat/2.png is 6 x 9 RGB and .*cat/1.png is 6 x 9 grey"),
    ],
    ids=["size", "mode"],
)
def test_mixed_images_are_refused_by_the_names_of_two(tmp_path: Path, other: np.ndarray, message: str) -> None:
    source = photos(tmp_path, cat_1=saved(Image.fromarray(GREY)), cat_2=saved(Image.fromarray(other)))
    with pytest.raises(InputError, match=message):
        table(source)


def test_mixed_images_are_refused_across_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_images, "BATCH_ROWS", 1)
    monkeypatch.setattr(_images, "CHUNK", 1)
    source = photos(tmp_path, a_1=saved(Image.fromarray(GREY)), b_2=saved(Image.fromarray(RGB)))
    assert "b/2.png" in refusal(source)


def test_classes_are_folders_and_files_come_by_name(tmp_path: Path) -> None:
    shades = {"dog_2": 20, "dog_1": 10, "cat_9": 90, "dog_10": 11}
    source = photos(tmp_path, **{name: saved(Image.new("L", (2, 2), shade)) for name, shade in shades.items()})
    (tmp_path / "cat" / "more").mkdir()
    (tmp_path / "cat" / "more" / "1.JPG").write_bytes(saved(Image.new("L", (2, 2), 91)))
    assert table(source)["label"].to_pylist() == ["cat", "cat", "dog", "dog", "dog"]
    assert [image[0][0] for image in pixels(source)] == [90, 91, 10, 11, 20]


def test_many_images_keep_their_order_across_threads_and_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_images, "BATCH_ROWS", 100)
    files = {f"a_{number:03}": saved(Image.new("L", (3, 3), number)) for number in range(250)}
    source = photos(tmp_path, **files)
    assert [image[0][0] for image in pixels(source)] == list(range(250))
    assert max(batch.num_rows for batch in source.read()) == 100


def test_clutter_is_no_data_and_said_aloud(tmp_path: Path) -> None:
    image = saved(Image.fromarray(GREY))
    source = photos(tmp_path, cat_1=image)
    for name in ("__MACOSX/cat/._1.png", ".git/x.png", "cat/.hidden.png", "cat/.DS_Store", ".DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(image)
    (tmp_path / "README.txt").write_text("about")
    (tmp_path / "cat" / "Thumbs.db").write_text("x")
    (tmp_path / "empty").mkdir()
    assert table(source)["label"].to_pylist() == ["cat"]
    empty, left_out = source.notes()
    assert "the class folder 'empty'" in empty
    assert left_out.startswith("2 files or links")
    assert "README.txt" in left_out


def test_links_are_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    photos(outside, x_1=saved(Image.fromarray(GREY)))
    source = photos(tmp_path / "data", cat_1=saved(Image.fromarray(GREY)))
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data", target_is_directory=True)
    (tmp_path / "data" / "cat" / "up").symlink_to(tmp_path / "data", target_is_directory=True)
    (tmp_path / "data" / "cat" / "2.png").symlink_to(outside / "x" / "1.png")
    (tmp_path / "data" / "cat" / "3.png").symlink_to("absent.png")
    assert table(source)["label"].to_pylist() == ["cat"]
    assert "4 files or links" in source.notes()[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stray.png", "lies in no class folder"),
        ("cat/old.bmp", "is neither a PNG nor a JPEG"),
        ("x.webp", "no class folder"),
    ],
)
def test_images_that_would_be_left_out_silently_are_refused(tmp_path: Path, name: str, message: str) -> None:
    source = photos(tmp_path, cat_1=saved(Image.fromarray(GREY)))
    (tmp_path / name).write_bytes(b"x")
    assert message in refusal(source)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    assert "holds no class folder" in refusal(ImageFolder(path=tmp_path))
    (tmp_path / "cat").mkdir()
    assert "holds no class folder" in refusal(ImageFolder(path=tmp_path))
    (tmp_path / "file").write_text("x")
    assert "is a file, not a folder" in refusal(ImageFolder(path=tmp_path / "file"))


def test_look_alike_class_names_are_refused(tmp_path: Path) -> None:
    image = saved(Image.fromarray(GREY))
    names = ("é_1", "e\u0301_1")
    source = photos(tmp_path, **dict.fromkeys(names, image))
    assert "two class folders that both read 'é'" in refusal(source)


def test_a_class_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(folder)  # noqa: PTH102 - a name that is no text
    sentence = refusal(photos(tmp_path, cat_1=saved(Image.fromarray(GREY))))
    assert "a name that is no text" in sentence
    sentence.encode()


def test_an_unreadable_image_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = photos(tmp_path, cat_1=saved(Image.fromarray(GREY)))

    def refuse(path: Path) -> bytes:  # permissions do not stop the superuser
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "cat/1.png cannot be read (Permission denied)" in refusal(source)


def test_a_renamed_class_folder_is_another_dataset(tmp_path: Path) -> None:
    source = photos(tmp_path, cat_1=saved(Image.fromarray(GREY)))
    before = source.fingerprint()
    (tmp_path / "cat").rename(tmp_path / "dog")
    assert source.fingerprint() != before
