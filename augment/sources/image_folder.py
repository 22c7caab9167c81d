"""A folder of images with one folder for each class."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from augment.errors import InputError
from augment.sources._contract import Source
from augment.sources._files import cannot_read, readable_folder, shown
from augment.sources._images import Encoded, OneForm, image_array, labelled_batch, normalised, rows_per_batch

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
OTHER_IMAGES = (".gif", ".bmp", ".tif", ".tiff", ".webp", ".heic", ".avif", ".jp2", ".pgm", ".ppm", ".svg")
CLUTTER = ("__MACOSX",)  # and every name that starts with a dot


class ImageFolder(Source):
    """The images in ``image``, the name of the class folder that each lies in, at any depth, in ``label``.

    Classes and files come in the order of their names. Hidden files and folders are no data; links are never followed.
    """

    summary: ClassVar[str] = "PNG and JPEG files of one size, in one folder for each class"
    default_label: ClassVar[str | None] = "label"

    kind: Literal["image_folder"] = "image_folder"
    path: Path = Field(description="The folder that holds the class folders.")

    def files(self) -> list[Path]:
        """Every image, ordered by class and path."""
        return [path for paths in self._walk()[0].values() for path in paths]

    def file_name(self, path: Path) -> str:
        """The path below the folder: its first part is the class."""
        return path.relative_to(self.path).as_posix()

    def notes(self) -> list[str]:
        """What lies in the folder and is not read."""
        classes, left_out = self._walk()
        empty = [name for name, paths in classes.items() if not paths]
        notes = [
            f"the class folder '{name}' in {shown(self.path)} holds no image and makes no class." for name in empty
        ]
        if left_out:
            some = ", ".join(shown(path.relative_to(self.path)) for path in left_out[:3])
            notes.append(
                f"{len(left_out):,} files or links in {shown(self.path)} are no images and not read, such as {some}."
            )
        return notes

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The images as normalised PNG with their classes."""
        form = OneForm()
        items = ((name, path) for name, paths in self._walk()[0].items() for path in paths)
        while chunk := list(islice(items, rows_per_batch(form.bytes_per_image))):
            images = normalised((_reader(path) for _, path in chunk), form)
            yield labelled_batch(image_array(images), pa.array([name for name, _ in chunk], pa.string()))

    def _walk(self) -> tuple[dict[str, list[Path]], list[Path]]:
        """The images of each class, and what was left out.

        Raises:
            InputError: there is no class folder, an image lies outside of one, two have the same name, a name is no
                text, or an image has a format that is not read.
        """
        classes: dict[str, list[Path]] = {}
        left_out: list[Path] = []
        for entry in _listed(readable_folder(self.path, "source.path")):
            if entry.is_dir(follow_symlinks=False):
                classes[self._class_name(entry.name, classes)] = list(_images_below(Path(entry.path), left_out))
            elif entry.name.lower().endswith((*IMAGE_SUFFIXES, *OTHER_IMAGES)) and not entry.is_symlink():
                raise InputError(
                    f"the image {shown(Path(entry.path))} lies in no class folder; "
                    "put each image into a folder that is named after its class."
                )
            else:
                left_out.append(Path(entry.path))
        if not any(classes.values()):
            raise InputError(f"{shown(self.path)} holds no class folder with PNG or JPEG images; check source.path.")
        return classes, left_out

    def _class_name(self, name: str, known: dict[str, list[Path]]) -> str:
        """The class that the folder ``name`` stands for: its name in Unicode's composed form."""
        composed = unicodedata.normalize("NFC", name)
        if not composed.isprintable() or any(0xD800 <= ord(c) <= 0xDFFF for c in composed):
            raise InputError(f"the class folder {shown(self.path / name)} has a name that is no text; rename it.")
        if composed in known:
            raise InputError(
                f"{shown(self.path)} has two class folders that both read '{composed}'; rename or join them."
            )
        return composed


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, by name, without what is hidden."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith((".", *CLUTTER))), key=lambda e: e.name)
    except OSError as error:
        raise cannot_read(folder, error) from None


def _images_below(folder: Path, left_out: list[Path]) -> Iterator[Path]:
    """The images below a folder by path; adds what is none to ``left_out``."""
    for entry in _listed(folder):
        name = entry.name.lower()
        if entry.is_dir(follow_symlinks=False):
            yield from _images_below(Path(entry.path), left_out)
        elif entry.is_file(follow_symlinks=False) and name.endswith(IMAGE_SUFFIXES):
            yield Path(entry.path)
        elif entry.is_file(follow_symlinks=False) and name.endswith(OTHER_IMAGES):
            raise InputError(
                f"the image {shown(Path(entry.path))} is neither a PNG nor a JPEG file; convert or remove it."
            )
        else:
            left_out.append(Path(entry.path))


def _reader(path: Path) -> Encoded:
    """An image file's name, and what reads it."""

    def read() -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise cannot_read(path, error) from None

    return shown(path), read
